//! I4: every reservation ends in commit, release or expiry.

use codeco_actors::swm::ledger::Ledger;
use codeco_protocol::messages::HeldPhase;
use codeco_protocol::units::{BootTime, Micros};

use crate::invariant::{Invariant, Violation, check};

/// How late a tick may be: a process may be held up for as long as the simulation does that, and then finds it at once.
const TICK_SLACK: Micros = Micros::from_millis(100);

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Reservations;

impl Reservations {
    /// A ledger has taken a step: nothing is still reserved whose time is over.
    pub(crate) fn stepped(&self, ledger: &Ledger, now: BootTime) -> Result<(), Violation> {
        for (replica, entry) in ledger.entries() {
            let overdue =
                matches!(entry.slot.held, Some((_, HeldPhase::Reserved))) && entry.expires + TICK_SLACK < now;
            check(!overdue, Invariant::Reservations, || format!("{replica}: {entry:?} at {now:?}"))?;
        }
        Ok(())
    }
}
