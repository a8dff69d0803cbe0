//! Runtimes: what starts, watches and stops the replicas of a node, behind one trait.
//!
//! Every runtime follows the same rules, because all feed the same state machine (`supervisor`): a replica runs
//! under at most one token at a time, a `fence` replica runs only while the node's lease holds, and «stopped» is
//! said only once nothing of the replica is left.

mod error;
pub mod process;
pub mod simulated;
pub(crate) mod supervisor;
mod types;

use async_trait::async_trait;
use codeco_protocol::ids::ReplicaId;
use codeco_protocol::token::Token;
use codeco_protocol::units::BootTime;
use codeco_protocol::workload::Workload;

pub use error::{LogsError, StartError, StopError, Unavailable};
pub use process::{ConnectError, ProcessOptions, ProcessRuntime};
pub use simulated::{SimulatedOptions, SimulatedRuntime};
pub use types::{Exit, ReplicaPhase, RunningReplica, RuntimeEvent, RuntimeEventKind};

/// Runtime events waiting for the agent at most. A runtime that finds the queue full catches up from its state, so
/// that the latest phase of every replica is told, though perhaps not each step on the way.
pub const EVENT_QUEUE_LEN: usize = 1_024;

/// Replicas a runtime holds at most, ended ones included.
pub const REPLICA_COUNT_MAX: usize = 1_024;

/// Largest piece of a log handed out at once: what a container's two files hold.
pub const LOG_TAIL_BYTES_MAX: usize = 512 * 1024;

/// Starts, watches and stops replicas.
///
/// Constructors hand out the receiver of [`RuntimeEvent`]s beside the runtime. Terminal events (`Finished`,
/// `Failed`, `LeaseExpired`, `Stopped`) promise that no process of the replica is left.
#[async_trait]
pub trait Runtime: Send + Sync {
    /// Takes a replica over; its progress comes as events. Idempotent for a replica and token, also when that run
    /// has ended in the meantime: [`list`](Self::list) tells how, and a run under the same token begins again only
    /// after a [`stop`](Self::stop).
    ///
    /// # Errors
    /// [`StartError`]; nothing was started.
    async fn start(&self, workload: Workload) -> Result<(), StartError>;

    /// Stops whatever runs of `replica` under `token` or an older one, forgets it, and returns once the stop is
    /// proven. A replica that is not known is stopped already.
    ///
    /// # Errors
    /// [`StopError`]; unless it is [`StopError::Stale`], the stop goes on and may be asked for again.
    async fn stop(&self, replica: &ReplicaId, token: Token) -> Result<(), StopError>;

    /// All replicas taken over and not stopped yet, ended ones included, ordered by id.
    ///
    /// # Errors
    /// [`Unavailable`]: unknown, which must never be read as «none».
    async fn list(&self) -> Result<Vec<RunningReplica>, Unavailable>;

    /// The last `tail_bytes` (at most [`LOG_TAIL_BYTES_MAX`]) of what a container wrote.
    ///
    /// # Errors
    /// [`LogsError`].
    async fn logs(
        &self,
        replica: &ReplicaId,
        container: &str,
        tail_bytes: usize,
    ) -> Result<Vec<u8>, LogsError>;

    /// Lets the `fence` replicas of this node run until `until`. Never shortens a lease.
    ///
    /// # Errors
    /// [`Unavailable`]: the lease may or may not have been extended.
    async fn extend_lease(&self, until: BootTime) -> Result<(), Unavailable>;
}

pub use codeco_actors::clock::boot_now;
