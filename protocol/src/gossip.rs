//! Membership and state exchange.
//!
//! Two pure cores. [`Ring`] says who is alive, and whom to be connected to. [`OwnState`] and [`Views`] spread facts: every member is the single
//! writer of its own map, all others hold views of it that may be stale and say how stale.

mod facts;
mod homes;
mod learning;
mod message;
mod ring;
mod seal;
mod state;

pub use facts::{
    BrakeFact, CertificateFact, ClusterFact, ElectorateFact, Fact, HOST_ITEMS_MAX, HostFact, MemberFact,
    ReplicaFact, ReplicaState, VoterFact,
};
pub use homes::{ApiTokenFact, AppFact};
pub use learning::{
    ARTEFACT_MAX, GateFact, GateState, HORIZON, LearningError, LoadFact, LoadSeries, LossPpm, ModelFact,
    WHOLE, WINDOW, Weights,
};
pub use message::{GossipMessage, Hint, LIST_MAX, Life, NOWHERE, Probe, Rumor};
pub use ring::{MEMBERS_MAX, Ring, RingConfig, Shared};
pub use seal::{Seal, SealError, SealedDelta, Sign, Signer};
pub use state::{Delta, Mark, OwnState, StateError, View, Views};

use crate::ids::{Identity, MemberId};

/// What is believed of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Liveness {
    /// Heard lately.
    Alive,
    /// Silent for longer than it should be.
    Suspect,
    /// Silent for so long that it counts as gone, until it is heard again.
    Dead,
    /// Said good-bye.
    Left,
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Parting {
    /// It broke.
    Lost,
    /// One of both ends has no use for it any more.
    Unneeded,
    /// The member said good-bye.
    Left,
}

/// What a membership is told.
#[derive(Debug, Clone, PartialEq)]
pub enum MembershipInput {
    /// Somebody has told of a member.
    Known(Identity),
    /// A connection to a member is up.
    Connected(Identity),
    /// It is gone.
    Disconnected {
        /// The member.
        member: MemberId,
        /// How it ended.
        parting: Parting,
    },
    /// A member that was to be dialled could not be reached.
    DialFailed(MemberId),
    /// A probe arrived over the member's connection.
    Probe {
        /// The member.
        from: MemberId,
        /// The probe.
        probe: Probe,
    },
    /// A rumor arrived over the member's connection.
    Rumor {
        /// The member.
        from: MemberId,
        /// The rumor.
        rumor: Rumor,
    },
    /// A member is to be forgotten.
    Forget(MemberId),
    /// Time has passed.
    Tick,
}

/// What a membership wants done.
#[derive(Debug, Clone, PartialEq)]
pub enum MembershipOutput {
    /// Send a probe over the member's connection, as a datagram.
    Send {
        /// The member.
        to: MemberId,
        /// The probe.
        probe: Probe,
    },
    /// Tell a member something, reliably and in order.
    Tell {
        /// The member.
        to: MemberId,
        /// What.
        rumor: Rumor,
    },
    /// Connect to a member, and say how it ended.
    Dial(Identity),
    /// The connection to a member is not needed any more.
    Drop(MemberId),
    /// The connection to a member is of an earlier life of it: nobody answers there. To be closed.
    Outlived(MemberId),
    /// A member is believed to be otherwise than before.
    Changed {
        /// The member.
        member: Identity,
        /// What is believed now.
        liveness: Liveness,
    },
    /// This member hears nobody (`true`), or somebody again.
    CutOff(bool),
}
