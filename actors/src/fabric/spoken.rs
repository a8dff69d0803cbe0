//! How much a member has said to others, by what it was about.

use std::sync::atomic::{AtomicU64, Ordering};

use codeco_protocol::gossip::GossipMessage;

/// Kinds of gossip, as metrics name them.
const KINDS: [&str; 7] = ["facts", "hints", "offers", "points", "probes", "requests", "rumors"];

/// Messages sent since the process started.
#[derive(Debug, Default)]
pub struct Spoken([AtomicU64; KINDS.len()]);

impl Spoken {
    pub(super) fn message(&self, message: &GossipMessage) {
        self.count(match message {
            GossipMessage::State(_) | GossipMessage::Relay { .. } | GossipMessage::Sealed(_) => 0,
            GossipMessage::Hints(_) => 1,
            GossipMessage::Offer(_) => 2,
            GossipMessage::Point(_) => 3,
            GossipMessage::Have(_) => 5,
            GossipMessage::Rumors(_) => 6,
        });
    }

    pub(super) fn probe(&self) {
        self.count(4);
    }

    fn count(&self, kind: usize) {
        self.0[kind].fetch_add(1, Ordering::Relaxed);
    }

    /// Messages of each kind.
    pub fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        KINDS.iter().zip(&self.0).map(|(kind, count)| (*kind, count.load(Ordering::Relaxed)))
    }
}
