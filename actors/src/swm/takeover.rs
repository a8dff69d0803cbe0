//! What a lead owes before it decides: every enrolled member has reported to its term, or has been waited out.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::BTreeSet;

use codeco_protocol::ids::NodeId;

/// Progress of a takeover.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Takeover {
    silent: BTreeSet<NodeId>,
    waited_out: BTreeSet<NodeId>,
}

impl Takeover {
    /// Begins: none of `enrolled` has been heard.
    #[must_use]
    pub fn of(enrolled: impl IntoIterator<Item = NodeId>) -> Self {
        Self { silent: enrolled.into_iter().collect(), waited_out: BTreeSet::new() }
    }

    /// `node` has reported what it holds under the new term.
    pub fn reported(&mut self, node: NodeId) {
        self.silent.remove(&node);
        self.waited_out.remove(&node);
    }

    /// No lease of `node` holds any more; it has not reported.
    pub fn waited_out(&mut self, node: NodeId) {
        if self.silent.remove(&node) {
            self.waited_out.insert(node);
        }
    }

    /// Members neither heard nor waited out.
    pub fn silent(&self) -> impl Iterator<Item = NodeId> {
        self.silent.iter().copied()
    }

    /// Whether `node` has reported under this term.
    #[must_use]
    pub fn has_reported(&self, node: NodeId) -> bool {
        !self.silent.contains(&node) && !self.waited_out.contains(&node)
    }

    /// Whether the lead may decide: until then no unseen replica counts as lost and no offer is answered.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.silent.is_empty()
    }

    /// Whether all have reported, so that nothing unseen is held anywhere.
    #[must_use]
    pub fn all_reported(&self) -> bool {
        self.silent.is_empty() && self.waited_out.is_empty()
    }
}
