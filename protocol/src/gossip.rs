//! Membership and state exchange.
//!
//! Two pure cores behind two small interfaces. [`Membership`] says who is alive; [`FullMesh`] is the one for small
//! clusters, where every pair keeps a connection. [`OwnState`] and [`Views`] spread facts: every member is the single
//! writer of its own map, all others hold views of it that may be stale and say how stale.

mod facts;
mod full_mesh;
mod message;
mod state;

pub use facts::{ClusterFact, Fact, MemberFact, ReplicaFact, ReplicaState};
pub use full_mesh::{FullMesh, FullMeshConfig};
pub use message::{GossipMessage, Hint, Probe};
pub use state::{Delta, OwnState, StateError, View, Views};

use crate::ids::{Identity, MemberId};
use crate::units::BootTime;

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

/// What a membership is told.
#[derive(Debug, Clone, PartialEq)]
pub enum MembershipInput {
    /// A connection to a member is up.
    Connected(Identity),
    /// It is gone; `orderly` if the member said good-bye.
    Disconnected {
        /// The member.
        member: MemberId,
        /// Whether it said good-bye.
        orderly: bool,
    },
    /// A probe arrived over the member's connection.
    Probe {
        /// The member.
        from: MemberId,
        /// The probe.
        probe: Probe,
    },
    /// Time has passed.
    Tick,
}

/// What a membership wants done.
#[derive(Debug, Clone, PartialEq)]
pub enum MembershipOutput {
    /// Send a probe over the member's connection.
    Send {
        /// The member.
        to: MemberId,
        /// The probe.
        probe: Probe,
    },
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

/// Who is alive, as far as can be told from here.
pub trait Membership {
    /// Feeds one input; outputs are appended to `out`.
    fn handle(&mut self, now: BootTime, input: MembershipInput, out: &mut Vec<MembershipOutput>);

    /// What is believed of every member known.
    fn members(&self) -> Vec<(Identity, Liveness)>;

    /// Whether this member hears nobody although it should.
    fn is_cut_off(&self) -> bool;

    /// When [`MembershipInput::Tick`] is due next.
    fn next_tick(&self, now: BootTime) -> BootTime;
}
