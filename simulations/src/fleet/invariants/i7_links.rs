//! I7: ASSURED reservations never exceed link or medium.

use codeco_actors::swm::lead::Lead;

use crate::invariant::{Invariant, Violation, check};

/// A lead has taken a step: what is reserved on links and uplink fits.
pub(crate) fn check_links(lead: &Lead) -> Result<(), Violation> {
    // Without a channel there is nothing to add up.
    if lead.mandates().all(|(_, mandate)| mandate.context.channels.is_empty()) {
        return Ok(());
    }
    let over = lead.overbooked_links();
    check(over.is_empty(), Invariant::Links, || over.join("; "))
}
