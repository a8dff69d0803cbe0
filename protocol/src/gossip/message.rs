//! What gossip says on the wire.

use std::net::SocketAddr;

use bincode::{Decode, Encode};

use super::seal::SealedDelta;
use super::state::{Delta, Mark};
use crate::coordinate::Coordinate;
use crate::ids::{Identity, MemberId};
use crate::wire::WireMessage;

/// Which life of a member is meant, and how often it has contradicted its death in it. A later one voids whatever was
/// said of an earlier one (the incarnation of SWIM, Das et al. 2002).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Encode, Decode)]
pub struct Life {
    /// When its process started; grows from life to life.
    pub started: u64,
    /// How often it has contradicted.
    pub refutations: u32,
}

/// «Are you there?» and its answer; travels as a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
pub enum Probe {
    /// Answer this.
    Ping {
        /// Tells probes apart.
        sequence: u32,
        /// Whether the sender has heard from the receiver within its window: only then does it prove a way back.
        heard_you: bool,
        /// Digest of what the sender believes of everybody.
        view: u32,
    },
    /// The answer.
    Pong {
        /// The ping's.
        sequence: u32,
        /// As above.
        view: u32,
    },
    /// «Send this back»: measures the way there and back, and says nothing of who lives.
    Echo {
        /// Tells echoes apart; whoever has not received it cannot answer.
        nonce: u32,
    },
    /// The answer.
    Echoed {
        /// The echo's.
        nonce: u32,
    },
}

impl WireMessage for Probe {
    const KIND: u16 = 48;
    const MAX_LEN: usize = 64;
}

/// Where a member could be dialled. A hint and no more: who answers there is proven by its certificate.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Encode, Decode)]
pub struct Hint {
    /// Who.
    pub identity: Identity,
    /// Where; [`NOWHERE`] for one that can only be reached through a relay.
    pub address: SocketAddr,
}

/// The address of a member that nobody can dial. Whoever knows no relays fails to dial it, and tries again later.
pub const NOWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 0);

impl Hint {
    /// Whether there is an address that could be dialled.
    #[must_use]
    pub fn is_somewhere(&self) -> bool {
        !self.address.ip().is_unspecified() && self.address.port() != 0
    }
}

/// Most entries of one list of members; what is more follows in the next.
pub const LIST_MAX: usize = 4_096;

/// What members tell each other about members. Passed on along every kept connection, once.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Rumor {
    /// An observer does not hear a member any more, or hears it again.
    Vote {
        /// Who says so.
        observer: MemberId,
        /// Of whom.
        target: MemberId,
        /// In which life.
        life: Life,
        /// Whether it is silent.
        stands: bool,
        /// Grows with each word of this observer on this target; the later one counts.
        number: u64,
    },
    /// A member lives.
    Alive {
        /// Which.
        member: Identity,
        /// In which life.
        life: Life,
    },
    /// A member is said to be dead. If it is not, it contradicts.
    Accused {
        /// Which.
        member: MemberId,
        /// In which life.
        life: Life,
    },
    /// A member said good-bye.
    Left {
        /// Which.
        member: MemberId,
        /// In which life.
        life: Life,
    },
    /// All that the sender believes dead. For the receiver alone, not passed on.
    Dead(Vec<(MemberId, Life)>),
    /// All that the sender believes alive. For the receiver alone, not passed on.
    Living(Vec<(Identity, Life)>),
}

/// One message on a gossip stream.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub enum GossipMessage {
    /// The sender's own facts, or what has changed in them; an empty delta says that the stream lives.
    State(Delta),
    /// Where others can be dialled.
    Hints(Vec<Hint>),
    /// Who lives and who does not.
    Rumors(Vec<Rumor>),
    /// How far the sender knows these maps of members of its cluster: it asks for what it lacks of them.
    Have(Vec<(MemberId, Mark)>),
    /// Facts of another member of the cluster, passed on without signatures: not believed any more.
    Relay {
        /// Whose.
        owner: Identity,
        /// What has changed.
        delta: Delta,
    },
    /// Where the sender is in the network. Not passed on: who measures the way to it hears it from itself.
    Point(Coordinate),
    /// Facts signed by their owner: the sender's own, or of another member of the cluster.
    Sealed(SealedDelta),
    /// How far the sender knows these maps of members of its cluster: whoever lacks one may ask for it.
    Offer(Vec<(MemberId, Mark)>),
}

impl WireMessage for GossipMessage {
    const KIND: u16 = 49;
    const MAX_LEN: usize = 1 << 20;
}
