//! The process runtime: runs containers' commands as plain processes, by way of the [`guard`](crate::guard).

mod farewell;
mod launch;
mod link;
mod reconcile;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use codeco_protocol::ids::{NodeName, ReplicaId};
use codeco_protocol::token::Token;
use codeco_protocol::units::{BootTime, Micros};
use codeco_protocol::workload::Workload;
use tokio::sync::{mpsc, oneshot};

use super::{
    EVENT_QUEUE_LEN, LOG_TAIL_BYTES_MAX, LogsError, REPLICA_COUNT_MAX, RunningReplica, Runtime, RuntimeEvent,
    StartError, StopError, Unavailable,
};
use crate::guard::logs;
use crate::guard::messages::{Answer, RequestBody};
pub use farewell::end_guard;
pub use launch::ConnectError;
use link::{Command, Link, Response};

/// Requests waiting for the guard at most.
const COMMAND_QUEUE_LEN: usize = 256;
/// How long the guard may take for an answer.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);
/// What a stop may take beyond its grace before it is reported as not proven.
const PROOF_TIME_MAX: Micros = Micros::from_secs(10);

/// Settings of the process runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessOptions {
    /// The guard's folder: one guard, and so one node, per folder.
    pub state_folder: PathBuf,
    /// What workloads see as `CODECO_NODE`.
    pub node: NodeName,
    /// Program and first arguments that end up in [`guard::run`](crate::guard::run); the guard's arguments follow.
    pub guard_command: Vec<OsString>,
    /// Program and first arguments that end up in [`guard::shim`](crate::guard::shim).
    pub shim_command: Vec<OsString>,
    /// How long a guard without agent and without anything that runs stays. Default 10 s.
    pub idle_after: Duration,
}

impl ProcessOptions {
    /// Options with the default of `idle_after`.
    #[must_use]
    pub fn new(
        state_folder: PathBuf,
        node: NodeName,
        guard_command: Vec<OsString>,
        shim_command: Vec<OsString>,
    ) -> Self {
        Self { state_folder, node, guard_command, shim_command, idle_after: Duration::from_secs(10) }
    }
}

/// A connection to the node's guard. Dropping it leaves guard and workloads running.
#[derive(Debug)]
pub struct ProcessRuntime {
    state_folder: PathBuf,
    commands: mpsc::Sender<Command>,
    /// How long each replica may take to stop, as far as known here.
    graces: Mutex<BTreeMap<ReplicaId, Micros>>,
}

impl ProcessRuntime {
    /// Connects to the guard of the state folder, or starts one. What it runs already is told by
    /// [`list`](Runtime::list), not by events.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub async fn connect(
        mut options: ProcessOptions,
    ) -> Result<(Self, mpsc::Receiver<RuntimeEvent>), ConnectError> {
        options.state_folder = std::path::absolute(&options.state_folder)
            .map_err(|source| ConnectError::Folder { folder: options.state_folder.clone(), source })?;
        let guard = launch::connect(&options).await?;
        let (commands, command_queue) = mpsc::channel(COMMAND_QUEUE_LEN);
        let (events, event_queue) = mpsc::channel(EVENT_QUEUE_LEN);
        let state_folder = options.state_folder.clone();
        tokio::spawn(Link::new(options, guard, command_queue, events).run());
        Ok((Self { state_folder, commands, graces: Mutex::default() }, event_queue))
    }

    /// Ends the guard. With `stop_all` every replica is stopped first, each with its grace; without, a guard under
    /// which something runs stays, and the answer is `false`.
    ///
    /// # Errors
    /// [`Unavailable`]: the guard may or may not have ended.
    pub async fn shutdown(&self, stop_all: bool) -> Result<bool, Unavailable> {
        self.list().await?;
        let grace = self.graces().values().max().copied().unwrap_or_default();
        let time_max = (grace + PROOF_TIME_MAX).to_duration();
        match self.ask(RequestBody::Shutdown { stop_all }, time_max).await?.answer {
            Answer::ShuttingDown(ends) => Ok(ends),
            other => Err(unexpected(&other)),
        }
    }

    async fn ask(&self, body: RequestBody, time_max: Duration) -> Result<Response, Unavailable> {
        let (reply, response) = oneshot::channel();
        let gone = || Unavailable::new("another agent is in charge of its guard, or the guard was shut down");
        let asked = async {
            self.commands.send(Command { body, reply }).await.map_err(|_| gone())?;
            response.await.map_err(|_| gone())
        };
        tokio::time::timeout(time_max, asked)
            .await
            .map_err(|_| Unavailable::new(format!("its guard has not answered within {time_max:?}")))?
    }

    fn graces(&self) -> std::sync::MutexGuard<'_, BTreeMap<ReplicaId, Micros>> {
        self.graces.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn unexpected(answer: &Answer) -> Unavailable {
    match answer {
        Answer::Refused(reason) => Unavailable::new(reason.as_str()),
        other => Unavailable::new(format!("its guard gave an answer to another question: {other:?}")),
    }
}

#[async_trait]
impl Runtime for ProcessRuntime {
    async fn start(&self, workload: Workload) -> Result<(), StartError> {
        let (replica, grace) = (workload.replica.clone(), workload.spec.stop_grace);
        match self.ask(RequestBody::Start(Box::new(workload)), ANSWER_TIME_MAX).await?.answer {
            Answer::Started(Ok(())) => {
                self.graces().insert(replica, grace);
                Ok(())
            }
            Answer::Started(Err(error)) => Err(error),
            Answer::Refused(reason) => Err(StartError::Refused { replica, reason }),
            other => Err(unexpected(&other).into()),
        }
    }

    async fn stop(&self, replica: &ReplicaId, token: Token) -> Result<(), StopError> {
        let grace = self.graces().get(replica).copied();
        let grace = match grace {
            Some(grace) => grace,
            None => {
                self.list().await?;
                self.graces().get(replica).copied().unwrap_or_default()
            }
        };
        let waited = grace + PROOF_TIME_MAX;
        let body = RequestBody::Stop { replica: replica.clone(), token };
        let response = match tokio::time::timeout(waited.to_duration(), self.ask(body, Duration::MAX)).await {
            Err(_) => return Err(StopError::NotProven { replica: replica.clone(), waited }),
            Ok(response) => response?,
        };
        match response.answer {
            Answer::Stopped(Ok(())) => {
                self.graces().remove(replica);
                Ok(())
            }
            Answer::Stopped(Err(error)) => Err(error),
            other => Err(unexpected(&other).into()),
        }
    }

    async fn list(&self) -> Result<Vec<RunningReplica>, Unavailable> {
        let mut all: Vec<RunningReplica> = Vec::new();
        loop {
            let after = all.last().map(|last| last.workload.replica.clone());
            let mut page = self.ask(RequestBody::List { after }, ANSWER_TIME_MAX).await?;
            let Answer::ListEnd { more } = page.answer else { return Err(unexpected(&page.answer)) };
            let stuck = page.parts.is_empty() || all.len() > REPLICA_COUNT_MAX;
            all.append(&mut page.parts);
            if !more {
                break;
            }
            if stuck {
                return Err(Unavailable::new("its guard's list does not come to an end"));
            }
        }
        let grace = |r: &RunningReplica| (r.workload.replica.clone(), r.workload.spec.stop_grace);
        *self.graces() = all.iter().map(grace).collect();
        Ok(all)
    }

    async fn logs(
        &self,
        replica: &ReplicaId,
        container: &str,
        tail_bytes: usize,
    ) -> Result<Vec<u8>, LogsError> {
        let (folder, id, name) = (self.state_folder.clone(), replica.clone(), container.to_owned());
        let len = tail_bytes.min(LOG_TAIL_BYTES_MAX);
        let read = tokio::task::spawn_blocking(move || logs::tail(&folder, &id, &name, len));
        let (replica, container) = (replica.clone(), container.to_owned());
        match read.await.unwrap_or_else(|error| Err(std::io::Error::other(error))) {
            Ok(Some(bytes)) => Ok(bytes),
            Ok(None) => Err(LogsError::NotFound { replica, container }),
            Err(source) => Err(LogsError::Read { replica, container, source }),
        }
    }

    async fn extend_lease(&self, until: BootTime) -> Result<(), Unavailable> {
        match self.ask(RequestBody::ExtendLease { until }, ANSWER_TIME_MAX).await?.answer {
            Answer::LeaseUntil(end) if end >= until => Ok(()),
            other => Err(unexpected(&other)),
        }
    }
}
