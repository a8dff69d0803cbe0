//! I1: no promise beyond capacity less known foreign use, per node and resource; no assumption on time.

use codeco_actors::swm::ledger::Ledger;
use codeco_protocol::resources::Resources;

use crate::invariant::{Invariant, Violation, check};

/// A ledger has taken a step: what it promises now it promised before, or there is room for it.
pub(crate) fn check_promises(
    ledger: &Ledger,
    before: &Resources,
    capacity: &Resources,
    foreign: &Resources,
) -> Result<(), Violation> {
    let after = ledger.promised();
    let left = capacity.minus(foreign);
    check(after.fits_in(before) || after.fits_in(&left), Invariant::Promises, || {
        format!("promised {before}, then {after}, of {capacity} less {foreign}; {ledger:?}")
    })
}
