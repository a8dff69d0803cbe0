//! What a node writes down before it answers.

use bincode::{Decode, Encode};
use codeco_protocol::ids::{Incarnation, NodeId, ReplicaId};
use codeco_protocol::resources::Resources;
use codeco_protocol::token::{Term, Token};
use codeco_protocol::workload::WorkloadSpec;

/// One record of a node's journal. Variants are append-only: an older writer's records stay readable.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Encode, Decode)]
pub enum LedgerRecord {
    /// The journal begins: a new life of this node.
    Opened {
        /// The node.
        node: NodeId,
        /// Its new incarnation.
        incarnation: Incarnation,
    },
    /// A lead with a valid lease has told this incarnation its term: from now on it may promise.
    Admitted,
    /// A newer term is obeyed.
    Term(Term),
    /// Resources are set aside.
    Reserved {
        /// Which replica.
        replica: ReplicaId,
        /// Under which token.
        token: Token,
        /// What it takes.
        resources: Resources,
    },
    /// Promised.
    Committed {
        /// Which replica.
        replica: ReplicaId,
        /// Under which token.
        token: Token,
        /// What to run.
        spec: WorkloadSpec,
    },
    /// Asked to stop.
    Stopping {
        /// Which replica.
        replica: ReplicaId,
        /// Under which token.
        token: Token,
    },
    /// Not held, and never to be run.
    Closed {
        /// Which replica.
        replica: ReplicaId,
        /// Under which token.
        token: Token,
    },
    /// An operator keeps work away, has it moved away, or lets it come again.
    Upkeep(Upkeep),
}

/// What an operator has said of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, Default)]
pub enum Upkeep {
    /// It takes work.
    #[default]
    Open,
    /// It keeps what it has, and takes nothing new.
    Cordoned,
    /// It takes nothing new, and what it has is to move.
    Draining,
}
