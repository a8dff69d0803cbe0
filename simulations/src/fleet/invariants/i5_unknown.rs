//! I5: unknown is never free, absent or zero. A lead orders from nodes that have told it what they have, and a home offers
//! to clusters whose leads have.

use codeco_protocol::messages::ControlMessage;

use super::super::world::World;
use crate::invariant::{Invariant, Violation, check};

impl World {
    /// What a lead is about to send does not rest on what it does not know.
    pub(crate) fn check_known(&self, at: usize, message: &ControlMessage) -> Result<(), Violation> {
        let ControlMessage::Reserve { replica, incarnation, .. } = message else { return Ok(()) };
        let elector = self.machines[at].process.as_ref().and_then(|process| process.elector.as_ref());
        let Some(lead) = elector.map(|elector| elector.lead()) else { return Ok(()) };
        let known = lead
            .members()
            .any(|(_, member)| member.facts.as_ref().is_some_and(|facts| facts.incarnation == *incarnation));
        check(known, Invariant::Unknown, || {
            format!("{} reserves {replica} at a node that has not said what it has", self.machines[at].name)
        })
    }
}
