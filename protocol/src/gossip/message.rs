//! What gossip says on the wire.

use std::net::SocketAddr;

use bincode::{Decode, Encode};

use super::state::Delta;
use crate::ids::Identity;
use crate::wire::WireMessage;

/// «Are you there?» and its answer; travels as a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
pub enum Probe {
    /// Answer this.
    Ping {
        /// Tells probes apart.
        sequence: u32,
        /// Whether the sender has heard from the receiver within its window: only then does it prove a way back.
        heard_you: bool,
    },
    /// The answer.
    Pong {
        /// The ping's.
        sequence: u32,
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
    /// Where.
    pub address: SocketAddr,
}

/// One message on a gossip stream.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub enum GossipMessage {
    /// The sender's own facts, or what has changed in them; an empty delta is its heartbeat.
    State(Delta),
    /// Where others can be dialled.
    Hints(Vec<Hint>),
}

impl WireMessage for GossipMessage {
    const KIND: u16 = 49;
    const MAX_LEN: usize = 1 << 20;
}
