//! I5: unknown is never free, absent or zero. A lead orders from nodes that have told it what they have, and a home offers
//! to clusters whose leads have.

use std::collections::BTreeSet;

use codeco_protocol::ids::Incarnation;
use codeco_protocol::messages::ControlMessage;

use super::super::world::World;
use crate::invariant::{Invariant, Violation, check};

/// Which lives of nodes have told which members what they have.
#[derive(Debug, Default)]
pub(crate) struct Known(BTreeSet<(usize, Incarnation)>);

impl Known {
    pub(crate) fn told(&mut self, at: usize, incarnation: Incarnation) {
        self.0.insert((at, incarnation));
    }
}

impl World {
    /// What a lead is about to send does not rest on what it does not know.
    pub(crate) fn check_known(&self, at: usize, message: &ControlMessage) -> Result<(), Violation> {
        let ControlMessage::Reserve { replica, incarnation, .. } = message else { return Ok(()) };
        check(self.oracles.known.0.contains(&(at, *incarnation)), Invariant::Unknown, || {
            format!("{} reserves {replica} at a node that has not said what it has", self.machines[at].name)
        })
    }
}
