//! I4: every reservation ends in commit, release or expiry.

use codeco_actors::swm::ledger::Ledger;
use codeco_protocol::messages::HeldPhase;
use codeco_protocol::units::{BootTime, Micros};

use crate::invariant::{Invariant, Violation, check};

/// How late a tick may be.
const TICK_SLACK: Micros = Micros::from_millis(100);

/// A ledger has taken a step: nothing is still reserved whose time is over.
pub(crate) fn check_reservations(ledger: &Ledger, now: BootTime) -> Result<(), Violation> {
    for (replica, entry) in ledger.entries() {
        let overdue =
            matches!(entry.slot.held, Some((_, HeldPhase::Reserved))) && entry.expires + TICK_SLACK < now;
        check(!overdue, Invariant::Reservations, || format!("{replica}: {entry:?} at {now:?}"))?;
    }
    Ok(())
}
