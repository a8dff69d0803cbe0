//! I7: ASSURED reservations never exceed link or medium.

use codeco_actors::swm::election::elector::Elector;

use crate::invariant::{Invariant, Violation, check};

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Links;

impl Links {
    /// A lead has taken a step.
    pub(crate) fn stepped(&self, elector: &Elector) -> Result<(), Violation> {
        let Some(lead) = elector.in_office() else { return Ok(()) };
        if !lead.mandates().any(|(_, mandate)| !mandate.context.channels.is_empty()) {
            return Ok(());
        }
        let over = lead.overbooked_links();
        check(over.is_empty(), Invariant::Links, || over.join("; "))
    }
}
