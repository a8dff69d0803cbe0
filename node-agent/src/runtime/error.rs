//! Why a runtime did not do what it was asked for.

use bincode::{Decode, Encode};
use codeco_protocol::ids::ReplicaId;
use codeco_protocol::token::Token;
use codeco_protocol::units::{BootTime, Micros};

/// The runtime could not be asked.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, thiserror::Error)]
#[error("the runtime of this node does not answer: {reason}; what it runs is unknown, ask again")]
pub struct Unavailable {
    /// What went wrong.
    pub reason: String,
}

impl Unavailable {
    pub(crate) fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into() }
    }
}

/// Why a replica was not started. Nothing was started.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, thiserror::Error)]
pub enum StartError {
    /// An older run of the replica is not proven to be over.
    #[error("{replica} still runs under token {running}; stop it first, then start it under the new token")]
    StillRunning {
        /// The replica.
        replica: ReplicaId,
        /// Token of the run that is not over.
        running: Box<Token>,
    },
    /// The order is older than what this node has obeyed.
    #[error("{replica} was not started: its token is older than {known}, which this node has obeyed")]
    Stale {
        /// The replica.
        replica: ReplicaId,
        /// The newer token.
        known: Box<Token>,
    },
    /// A `fence` replica needs a lease.
    #[error("{replica} was not started: it is fenced and this node holds no lease; extend the lease first")]
    NoLease {
        /// The replica.
        replica: ReplicaId,
        /// End of the last lease, zero if there was none.
        lease_until: BootTime,
    },
    /// The runtime is full.
    #[error(
        "{replica} was not started: the runtime holds {count} replicas already, its limit; stop some first"
    )]
    TooMany {
        /// The replica.
        replica: ReplicaId,
        /// Replicas held, ended ones included.
        count: u32,
    },
    /// The specification is beyond a limit of the runtime.
    #[error("{replica} was not started: {reason}")]
    Refused {
        /// The replica.
        replica: ReplicaId,
        /// Which limit, and what was found.
        reason: String,
    },
    /// The runtime could not be asked; perhaps the replica was started. Ask again: `start` is idempotent.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// Why a replica is not known to be stopped.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, thiserror::Error)]
pub enum StopError {
    /// The order is older than the run. Nothing was changed.
    #[error("{replica} was not stopped: it runs under {running}, which is newer than the order's token")]
    Stale {
        /// The replica.
        replica: ReplicaId,
        /// Token of the run.
        running: Box<Token>,
    },
    /// Something of the replica was still there after the grace and the kill. The runtime goes on trying.
    #[error(
        "{replica} is not proven to be stopped after {waited}: a process of it survives SIGKILL (most likely it \
         hangs in the kernel); its resources stay taken, ask again"
    )]
    NotProven {
        /// The replica.
        replica: ReplicaId,
        /// How long the caller waited.
        waited: Micros,
    },
    /// The runtime could not be asked; perhaps it stops the replica. Ask again: `stop` is idempotent.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// Why there is no log to show.
#[derive(Debug, thiserror::Error)]
pub enum LogsError {
    /// Nothing was ever written under this name, or it was removed since.
    #[error("no log of container {container:?} of {replica} on this node; check the container's name")]
    NotFound {
        /// The replica.
        replica: ReplicaId,
        /// The container asked for.
        container: String,
    },
    /// The log cannot be read.
    #[error("the log of container {container:?} of {replica} cannot be read: {source}")]
    Read {
        /// The replica.
        replica: ReplicaId,
        /// The container.
        container: String,
        /// What the system said.
        source: std::io::Error,
    },
}
