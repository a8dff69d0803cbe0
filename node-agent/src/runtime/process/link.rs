//! Keeps the connection to the guard: sends requests, hands out answers and events, reconnects.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use codeco_protocol::units::BootTime;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep;

use super::ProcessOptions;
use super::launch::{self, Guard};
use super::reconcile::Told;
use crate::guard::messages::{Answer, FromGuard, Request, RequestBody};
use crate::runtime::{REPLICA_COUNT_MAX, RunningReplica, RuntimeEvent};

/// Shortest and longest pause before another try to reach the guard.
const RETRY_PAUSE_MIN: Duration = Duration::from_millis(50);
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(2);
/// How often a full event queue is looked at again.
const CATCH_UP_PAUSE: Duration = Duration::from_millis(50);
/// How long a guard that has said it ends may take to be gone.
const END_TIME_MAX: Duration = Duration::from_secs(5);

/// One request of a caller.
#[derive(Debug)]
pub(super) struct Command {
    pub(super) body: RequestBody,
    pub(super) reply: oneshot::Sender<Response>,
}

/// What the guard answered.
#[derive(Debug)]
pub(super) struct Response {
    pub(super) answer: Answer,
    /// The replicas of a list's page.
    pub(super) parts: Vec<RunningReplica>,
}

#[derive(Debug)]
struct Pending {
    body: RequestBody,
    parts: Vec<RunningReplica>,
    /// `None`: asked by the link itself.
    reply: Option<oneshot::Sender<Response>>,
}

/// Why the link goes on or ends.
enum Next {
    GoOn,
    /// The guard has ended as asked, another agent is in charge, or nobody is interested any more.
    End,
}

#[derive(Debug)]
pub(super) struct Link {
    options: ProcessOptions,
    guard: Guard,
    commands: mpsc::Receiver<Command>,
    events: mpsc::Sender<RuntimeEvent>,
    /// Sent and not answered. Requests are idempotent: they are sent again on the next connection.
    pending: BTreeMap<u64, Pending>,
    request_count: u64,
    lease_until: BootTime,
    told: Told,
    /// Whether the first list has been seen, which is not told as events.
    begun: bool,
    /// The guard was replaced since the last complete list.
    guard_changed: bool,
    /// Some event did not fit the queue, or may have been missed.
    behind: bool,
    listed: Vec<RunningReplica>,
}

impl Link {
    pub(super) fn new(
        options: ProcessOptions,
        guard: Guard,
        commands: mpsc::Receiver<Command>,
        events: mpsc::Sender<RuntimeEvent>,
    ) -> Self {
        Self {
            options,
            guard,
            commands,
            events,
            pending: BTreeMap::new(),
            request_count: 0,
            lease_until: BootTime::default(),
            told: Told::default(),
            begun: false,
            guard_changed: false,
            behind: false,
            listed: Vec::new(),
        }
    }

    pub(super) async fn run(mut self) {
        let mut result = self.ask_for_list().await;
        loop {
            match result {
                Ok(Next::GoOn) => {}
                Ok(Next::End) => return,
                Err(error) => {
                    tracing::warn!(%error, "connection to the guard lost");
                    match self.reconnect().await {
                        Next::GoOn => {}
                        Next::End => return,
                    }
                }
            }
            result = self.step().await;
        }
    }

    async fn step(&mut self) -> io::Result<Next> {
        let catch_up = self.behind && self.listed.is_empty() && !self.is_listing();
        tokio::select! {
            command = self.commands.recv() => match command {
                None => Ok(Next::End),
                Some(Command { body, reply }) => self.request(body, Some(reply)).await,
            },
            message = self.guard.receive() => self.handle(message?).await,
            () = sleep(CATCH_UP_PAUSE), if catch_up => {
                if self.events.capacity() * 2 < self.events.max_capacity() {
                    return Ok(Next::GoOn);
                }
                self.ask_for_list().await
            }
        }
    }

    async fn request(
        &mut self,
        body: RequestBody,
        reply: Option<oneshot::Sender<Response>>,
    ) -> io::Result<Next> {
        if let RequestBody::ExtendLease { until } = body {
            self.lease_until = self.lease_until.max(until);
        }
        self.request_count += 1;
        let request = Request { id: self.request_count, body };
        // Callers give up after a while: their requests go with them.
        self.pending.retain(|_, pending| !pending.reply.as_ref().is_some_and(oneshot::Sender::is_closed));
        if let Err(error) = crate::guard::encode(&request) {
            if let Some(reply) = reply {
                let answer = Answer::Refused(error.to_string());
                // The caller has given up.
                let _ = reply.send(Response { answer, parts: Vec::new() });
            }
            return Ok(Next::GoOn);
        }
        self.pending.insert(request.id, Pending { body: request.body.clone(), parts: Vec::new(), reply });
        self.guard.send(&request).await?;
        Ok(Next::GoOn)
    }

    async fn ask_for_list(&mut self) -> io::Result<Next> {
        let after = self.listed.last().map(|last| last.workload.replica.clone());
        self.request(RequestBody::List { after }, None).await
    }

    fn is_listing(&self) -> bool {
        let mut own = self.pending.values().filter(|pending| pending.reply.is_none());
        own.any(|pending| matches!(pending.body, RequestBody::List { .. }))
    }

    async fn handle(&mut self, message: FromGuard) -> io::Result<Next> {
        match message {
            FromGuard::TakenOver => {
                tracing::warn!("another agent is in charge of this node's guard now");
                Ok(Next::End)
            }
            FromGuard::Event(event) => {
                if self.begun {
                    self.tell(event);
                }
                Ok(Next::GoOn)
            }
            FromGuard::Listed { id, replica } => {
                if let Some(pending) = self.pending.get_mut(&id) {
                    if pending.parts.len() >= REPLICA_COUNT_MAX {
                        return Err(io::Error::other("the guard lists more replicas than it may hold"));
                    }
                    pending.parts.push(*replica);
                }
                Ok(Next::GoOn)
            }
            FromGuard::Answer { id, body } => self.handle_answer(id, body).await,
        }
    }

    async fn handle_answer(&mut self, id: u64, answer: Answer) -> io::Result<Next> {
        let Some(Pending { parts, reply, .. }) = self.pending.remove(&id) else { return Ok(Next::GoOn) };
        let ends = answer == Answer::ShuttingDown(true);
        if ends {
            let gone = async { while self.guard.receive().await.is_ok() {} };
            // It said that nothing runs; a guard that takes longer to be gone does no harm.
            let _ = tokio::time::timeout(END_TIME_MAX, gone).await;
        }
        match (reply, answer) {
            (Some(reply), answer) => {
                // The caller has given up.
                let _ = reply.send(Response { answer, parts });
            }
            (None, Answer::ListEnd { more }) => {
                self.listed.extend(parts);
                if more && self.listed.len() <= REPLICA_COUNT_MAX {
                    return self.ask_for_list().await;
                }
                self.catch_up();
            }
            (None, _) => {}
        }
        Ok(if ends { Next::End } else { Next::GoOn })
    }

    /// Tells what is missing, given a complete list.
    fn catch_up(&mut self) {
        let listed = std::mem::take(&mut self.listed);
        self.behind = false;
        if !std::mem::replace(&mut self.begun, true) {
            self.told.begin_with(&listed);
        }
        for event in self.told.missing(&listed, !self.guard_changed) {
            self.tell(event);
        }
        // Until all is told, the reason for what is missing stays the same.
        self.guard_changed &= self.behind;
    }

    fn tell(&mut self, event: RuntimeEvent) {
        match self.events.try_reserve() {
            Ok(place) => {
                self.told.note(&event);
                place.send(event);
            }
            Err(TrySendError::Full(())) => self.behind = true,
            // Nobody listens to events; requests are served all the same.
            Err(TrySendError::Closed(())) => {}
        }
    }

    async fn reconnect(&mut self) -> Next {
        let mut pause = RETRY_PAUSE_MIN;
        loop {
            let shutting_down = |pending: &Pending| matches!(pending.body, RequestBody::Shutdown { .. });
            if self.commands.is_closed() || self.pending.values().any(shutting_down) {
                return Next::End;
            }
            let error = match launch::connect(&self.options).await {
                Ok(guard) => {
                    self.guard_changed |= guard.instance != self.guard.instance;
                    self.guard = guard;
                    match self.repeat().await {
                        Ok(()) => return Next::GoOn,
                        Err(error) => error.to_string(),
                    }
                }
                Err(error) => error.to_string(),
            };
            tracing::warn!(%error, "the guard cannot be reached; trying again");
            sleep(pause).await;
            pause = (pause * 2).min(RETRY_PAUSE_MAX);
        }
    }

    /// Brings a new connection up to date: lease, then what runs, then what was not answered.
    async fn repeat(&mut self) -> io::Result<()> {
        let pending = std::mem::take(&mut self.pending);
        self.listed.clear();
        if self.lease_until > BootTime::default() {
            self.request(RequestBody::ExtendLease { until: self.lease_until }, None).await?;
        }
        self.ask_for_list().await?;
        for Pending { body, reply, .. } in pending.into_values().filter(|pending| pending.reply.is_some()) {
            self.request(body, reply).await?;
        }
        Ok(())
    }
}
