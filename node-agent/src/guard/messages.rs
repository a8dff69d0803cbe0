//! What agent and guard say to each other.

use bincode::{Decode, Encode};
use codeco_protocol::ids::ReplicaId;
use codeco_protocol::token::Token;
use codeco_protocol::units::BootTime;
use codeco_protocol::workload::Workload;

use crate::runtime::{RunningReplica, RuntimeEvent, StartError, StopError};

/// Version of these messages. A guard outlives its agent, so an upgraded agent may meet an older guard.
pub(crate) const VERSION: u32 = 1;

/// From agent to guard.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Request {
    /// Chosen by the agent, comes back in the answer.
    pub(crate) id: u64,
    /// What is asked.
    pub(crate) body: RequestBody,
}

/// What the agent asks for. Append only.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(crate) enum RequestBody {
    /// First on every connection.
    Hello {
        /// [`VERSION`] of the agent.
        version: u32,
    },
    /// Take a replica over.
    Start(Box<Workload>),
    /// End a replica; answered once that is proven.
    Stop {
        /// Which one.
        replica: ReplicaId,
        /// Under which token, or older.
        token: Token,
    },
    /// Describe the replicas above `after`, a page of them: one [`FromGuard::Listed`] each, then the answer.
    List {
        /// The last one of the page before.
        after: Option<ReplicaId>,
    },
    /// Let `fence` replicas run until then.
    ExtendLease {
        /// New end, unless the present one is later.
        until: BootTime,
    },
    /// End the guard.
    Shutdown {
        /// Stop all replicas first, each with its grace; otherwise the guard refuses while something runs.
        stop_all: bool,
    },
}

/// From guard to agent.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(crate) enum FromGuard {
    /// The answer to the request of this id.
    Answer {
        /// The request.
        id: u64,
        /// What became of it.
        body: Answer,
    },
    /// One part of the answer to [`RequestBody::List`].
    Listed {
        /// The request.
        id: u64,
        /// One replica.
        replica: Box<RunningReplica>,
    },
    /// Something happened.
    Event(RuntimeEvent),
    /// Another agent is in charge now; this connection is over.
    TakenOver,
}

/// What became of a request. Append only.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(crate) enum Answer {
    /// To `Hello`.
    Welcome {
        /// [`VERSION`] of the guard.
        version: u32,
        /// Random number of this guard process: another one means that everything of the former is dead.
        instance: u128,
        /// Its process.
        pid: u32,
    },
    /// To `Start`.
    Started(Result<(), StartError>),
    /// To `Stop`.
    Stopped(Result<(), StopError>),
    /// To `List`, after its parts: whether there are more.
    ListEnd {
        /// Ask again after the last one.
        more: bool,
    },
    /// To `ExtendLease`.
    LeaseUntil(BootTime),
    /// To `Shutdown`: whether the guard ends. `false`: something runs and it was not asked to stop it.
    ShuttingDown(bool),
    /// The request was not understood or not allowed here.
    Refused(String),
}
