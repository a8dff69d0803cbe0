//! What a runtime says about its replicas.

use std::fmt;

use bincode::{Decode, Encode};
use codeco_protocol::ids::ReplicaId;
use codeco_protocol::token::Token;
use codeco_protocol::units::{BootTime, Micros};
use codeco_protocol::workload::Workload;

/// How a container's main process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
pub enum Exit {
    /// It returned this exit status.
    Code(i32),
    /// This signal killed it.
    Signal(i32),
}

impl Exit {
    /// Whether it returned 0.
    #[must_use]
    pub fn success(self) -> bool {
        self == Self::Code(0)
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit status {code}"),
            Self::Signal(signal) => write!(f, "signal {signal}"),
        }
    }
}

/// Where a replica is in its life on this node.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Encode, Decode)]
pub enum ReplicaPhase {
    /// Taken over; not every container runs yet.
    Starting,
    /// Every container that has not finished runs.
    Running,
    /// A container has ended and waits to be started again.
    BackingOff,
    /// Being ended; something of it may still run.
    Stopping,
    /// Every container has finished well and is not started again. Nothing runs.
    Finished,
    /// It cannot run, or a container failed and is not started again. Nothing runs.
    Failed {
        /// What happened and what to do.
        message: String,
    },
    /// Killed at the end of the node's lease. Nothing runs.
    LeaseExpired,
}

impl ReplicaPhase {
    /// Whether nothing of it runs and nothing will be started.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        matches!(self, Self::Finished | Self::Failed { .. } | Self::LeaseExpired)
    }
}

impl fmt::Display for ReplicaPhase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Starting => f.write_str("starting"),
            Self::Running => f.write_str("running"),
            Self::BackingOff => f.write_str("backing off"),
            Self::Stopping => f.write_str("stopping"),
            Self::Finished => f.write_str("finished"),
            Self::Failed { message } => write!(f, "failed: {message}"),
            Self::LeaseExpired => f.write_str("lease expired"),
        }
    }
}

/// A replica a runtime has taken over.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct RunningReplica {
    /// Replica, token and specification, as handed to `start`.
    pub workload: Workload,
    /// Where it is in its life.
    pub phase: ReplicaPhase,
    /// Main process (and process group) of the first container that runs; `None` while none does.
    pub pid: Option<u32>,
    /// When it was taken over.
    pub started_at: BootTime,
    /// How often one of its containers was started again.
    pub restarts: u32,
}

/// Something happened to a replica.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct RuntimeEvent {
    /// To which replica.
    pub replica: ReplicaId,
    /// Under which token it was started.
    pub token: Token,
    /// What happened.
    pub kind: RuntimeEventKind,
}

/// What happened to a replica.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum RuntimeEventKind {
    /// A container's process exists.
    Started {
        /// Name of the container.
        container: String,
        /// Its main process; `None` where the runtime has none.
        pid: Option<u32>,
    },
    /// Every container runs its own program for the first time.
    Ready,
    /// A container's main process ended.
    Exited {
        /// Name of the container.
        container: String,
        /// How it ended.
        exit: Exit,
    },
    /// A container is started again after a while.
    Restarting {
        /// Name of the container.
        container: String,
        /// How long it waits.
        delay: Micros,
    },
    /// Every container has finished well. Nothing runs.
    Finished,
    /// It cannot run, or failed for good. Nothing runs.
    Failed {
        /// What happened and what to do.
        message: String,
    },
    /// It was killed at the end of the node's lease. Nothing runs.
    LeaseExpired,
    /// It was stopped as asked. Nothing runs.
    Stopped,
    /// It ended with what ran it, through no fault of its own: whoever wants it starts it again. Nothing runs.
    Lost {
        /// What happened.
        message: String,
    },
}

impl RuntimeEventKind {
    /// Whether it says that nothing of the replica runs any more.
    #[must_use]
    pub fn is_terminal(&self) -> bool {
        match self {
            Self::Finished | Self::Failed { .. } | Self::LeaseExpired | Self::Stopped | Self::Lost { .. } => {
                true
            }
            Self::Started { .. } | Self::Ready | Self::Exited { .. } | Self::Restarting { .. } => false,
        }
    }
}
