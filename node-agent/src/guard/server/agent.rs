//! Whom the guard obeys: the newest connection that has said hello.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;

use codeco_protocol::ids::ReplicaId;
use codeco_protocol::workload::Workload;
use uuid::Uuid;

use super::Server;
use crate::guard::codec::{FRAME_LEN_MAX, encode};
use crate::guard::connection::{Connection, ConnectionError};
use crate::guard::messages::{Answer, FromGuard, Request, RequestBody, VERSION};
use crate::guard::socket::peer_is_trusted;
use crate::guard::sources::{Source, Sources};
use crate::runtime::StartError;
use crate::runtime::supervisor::Supervisor;

/// Largest workload: its description has to fit a message.
const WORKLOAD_LEN_MAX: usize = FRAME_LEN_MAX / 2;
/// Bytes of one page of a list, one replica more or less.
const PAGE_LEN: usize = FRAME_LEN_MAX;

#[derive(Debug)]
pub(super) struct Agents {
    instance: u128,
    /// In charge.
    agent: Option<Connection>,
    /// Has not said hello yet. A newer one takes its place.
    newcomer: Option<Connection>,
    /// Who waits for a proven stop: number given to the supervisor, id of the request. Of the agent in charge.
    waiters: BTreeMap<u64, u64>,
    waiter_count: u64,
    /// Set once told to shut down: the request to answer at the end.
    shutdown: Option<u64>,
}

impl Agents {
    pub(super) fn new() -> Self {
        Self {
            instance: Uuid::new_v4().as_u128(),
            agent: None,
            newcomer: None,
            waiters: BTreeMap::new(),
            waiter_count: 0,
            shutdown: None,
        }
    }

    pub(super) fn are_present(&self) -> bool {
        self.agent.is_some() || self.newcomer.is_some()
    }

    pub(super) fn add_to<'a>(&'a self, sources: &mut Sources<'a>) {
        for (name, connection) in [(Source::Agent, &self.agent), (Source::Newcomer, &self.newcomer)] {
            if let Some(connection) = connection {
                sources.add(name, connection.as_fd(), connection.wants_write());
            }
        }
    }

    pub(super) fn welcome(&mut self, stream: UnixStream) {
        if !peer_is_trusted(&stream) {
            say!("a connection of another user was refused");
            return;
        }
        match Connection::new(stream) {
            Ok(connection) => self.newcomer = Some(connection),
            Err(error) => say!("a connection cannot be used: {error}"),
        }
    }

    pub(super) fn hear_newcomer(&mut self) {
        let Some(mut newcomer) = self.newcomer.take() else { return };
        match newcomer.fill().and_then(|()| newcomer.next::<Request>()) {
            Ok(None) => self.newcomer = Some(newcomer),
            Ok(Some(Request { id, body: RequestBody::Hello { version: VERSION } })) => {
                let pid = std::process::id();
                let body = Answer::Welcome { version: VERSION, instance: self.instance, pid };
                if newcomer.send(&FromGuard::Answer { id, body }).is_ok() {
                    self.take_over(newcomer);
                }
            }
            Ok(Some(Request { id, .. })) => {
                let body = Answer::Refused(format!("expected hello of version {VERSION}"));
                let _ = newcomer.send(&FromGuard::Answer { id, body });
                say!("a connection that did not say hello of version {VERSION} was refused");
            }
            Err(error) => say!("a connection ended before its hello: {error}"),
        }
    }

    fn take_over(&mut self, newcomer: Connection) {
        self.waiters.clear();
        if let Some(mut former) = self.agent.replace(newcomer) {
            // It is told as a courtesy: it would see the connection close anyway.
            let _ = former.send(&FromGuard::TakenOver);
        }
    }

    /// The agent's next request, `None` if there is none yet.
    fn next_request(&mut self) -> Option<Request> {
        let agent = self.agent.as_mut()?;
        match agent.next() {
            Ok(request) => request,
            Err(error) => {
                self.drop_agent(&error);
                None
            }
        }
    }

    fn drop_agent(&mut self, why: &ConnectionError) {
        if !matches!(why, ConnectionError::Closed) {
            say!("the agent's connection is over: {why}");
        }
        self.agent = None;
        self.waiters.clear();
    }

    pub(super) fn tell(&mut self, message: &FromGuard) {
        if let Some(agent) = &mut self.agent
            && let Err(error) = agent.send(message)
        {
            self.drop_agent(&error);
        }
    }

    fn answer(&mut self, id: u64, body: Answer) {
        self.tell(&FromGuard::Answer { id, body });
    }

    /// A number for the supervisor that leads back to the request.
    fn wait_for(&mut self, id: u64) -> u64 {
        self.waiter_count += 1;
        self.waiters.insert(self.waiter_count, id);
        self.waiter_count
    }

    pub(super) fn answer_waiter(&mut self, waiter: u64, body: Answer) {
        if let Some(id) = self.waiters.remove(&waiter) {
            self.answer(id, body);
        }
    }

    /// Whether the guard was told to shut down; says that it does. To be asked once nothing runs.
    pub(super) fn finish_shutdown(&mut self) -> bool {
        let Some(id) = self.shutdown else { return false };
        self.answer(id, Answer::ShuttingDown(true));
        true
    }
}

impl Server {
    pub(super) fn hear_agent(&mut self) {
        let Some(agent) = &mut self.agents.agent else { return };
        if let Err(error) = agent.flush().and_then(|()| agent.fill()) {
            self.agents.drop_agent(&error);
            return;
        }
        while let Some(request) = self.agents.next_request() {
            self.obey(request);
        }
    }

    fn obey(&mut self, Request { id, body }: Request) {
        match body {
            RequestBody::Hello { .. } => {
                self.agents.answer(id, Answer::Refused("hello was said already".into()));
            }
            RequestBody::Start(workload) => self.start(id, *workload),
            RequestBody::Stop { replica, token } => {
                let waiter = self.agents.wait_for(id);
                let mut result = Ok(());
                self.feed(|supervisor, now, out| {
                    result = supervisor.handle_stop(now, &replica, token, waiter, out);
                });
                if result.is_err() {
                    self.agents.answer_waiter(waiter, Answer::Stopped(result));
                }
            }
            RequestBody::List { after } => self.list(id, after),
            RequestBody::ExtendLease { until } => {
                self.feed(|supervisor, _, _| supervisor.handle_lease(until));
                self.agents.answer(id, Answer::LeaseUntil(self.supervisor.lease_until()));
            }
            RequestBody::Shutdown { stop_all } => {
                if stop_all || !self.supervisor.is_active() {
                    self.agents.shutdown = Some(id);
                    self.feed(Supervisor::handle_stop_all);
                } else {
                    self.agents.answer(id, Answer::ShuttingDown(false));
                }
            }
        }
    }

    fn start(&mut self, id: u64, workload: Workload) {
        let replica = workload.replica.clone();
        let refused = |reason| Err(StartError::Refused { replica, reason });
        let len = encode(&workload).map_or(usize::MAX, |frame| frame.len());
        let mut result = if self.agents.shutdown.is_some() {
            refused("the guard is shutting down; ask again in a moment".into())
        } else if len > WORKLOAD_LEN_MAX {
            refused(format!("its specification has {len} bytes, the limit is {WORKLOAD_LEN_MAX}"))
        } else {
            Ok(())
        };
        if result.is_ok() {
            // The answer goes out before the events of the start: the caller learns of them in this order.
            let mut actions = Vec::new();
            self.feed(|supervisor, now, _| result = supervisor.handle_start(now, workload, &mut actions));
            self.agents.answer(id, Answer::Started(result));
            self.feed(|_, _, out| *out = actions);
        } else {
            self.agents.answer(id, Answer::Started(result));
        }
    }

    fn list(&mut self, id: u64, after: Option<ReplicaId>) {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let (mut len, mut more) = (0, false);
        let mut page = Vec::new();
        for replica in self.supervisor.list_from(from) {
            if len > PAGE_LEN {
                more = true;
                break;
            }
            len += encode(&replica).map_or(0, |frame| frame.len());
            page.push(replica);
        }
        for replica in page {
            self.agents.tell(&FromGuard::Listed { id, replica: Box::new(replica) });
        }
        self.agents.answer(id, Answer::ListEnd { more });
    }
}
