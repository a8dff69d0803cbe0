//! How restless elections have been of late.
//!
//! Where processors or links are at their limit, answers of voters come later than their leases allow. A lead then loses
//! its office although nobody has failed, all nodes have to be heard anew, and that load brings about the next election.
//! So terms that follow each other quickly make voters wait longer before they stand, and a lead wait longer for answers
//! (binary exponential back-off, Metcalfe and Boggs, CACM 1976). After one failure nothing is slower than without.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use codeco_protocol::units::{BootTime, Micros};

/// Leases of a voter after which a term counts as calm.
const CALM_LEASES: u64 = 20;
/// Most doublings.
const DOUBLINGS_MAX: u32 = 4;

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Unrest {
    /// Terms in a row that followed the one before before that was calm.
    hasty: u32,
    /// When the last term began, as far as this member took part.
    began: Option<BootTime>,
}

impl Unrest {
    /// A new term is voted for. The lead of the one before was served until `served`; `lease` is that of a voter.
    pub(super) fn term_begins(&mut self, now: BootTime, served: BootTime, lease: Micros) {
        let hasty = self.began.is_some() && !self.is_calm(served, lease);
        self.hasty = if hasty { self.hasty.saturating_add(1) } else { 0 };
        self.began = Some(now);
    }

    /// The term has ended whose lead was served until `served`: one that lasted leaves no unrest behind.
    pub(super) fn term_ends(&mut self, served: BootTime, lease: Micros) {
        if self.is_calm(served, lease) {
            *self = Self::default();
        }
    }

    /// How many times longer than usual is to be waited for a lead that was served until `served`.
    pub(super) fn factor(&self, served: BootTime, lease: Micros) -> u64 {
        if self.is_calm(served, lease) { 1 } else { 1 << self.hasty.saturating_sub(1).min(DOUBLINGS_MAX) }
    }

    fn is_calm(&self, served: BootTime, lease: Micros) -> bool {
        self.began.is_none_or(|began| served.since(began).0 >= lease.0.saturating_mul(CALM_LEASES))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Micros = Micros(100);

    #[test]
    fn unrest_grows_with_terms_that_follow_each_other_quickly_and_ends_with_one_that_lasts() {
        let mut unrest = Unrest::default();
        let (mut factors, mut served) = (Vec::new(), BootTime(0));
        for n in 0..8 {
            // However long nobody led in between.
            let now = BootTime(1_000 + n * 200 * LEASE.0);
            unrest.term_begins(now, served, LEASE);
            served = now + Micros(50);
            factors.push(unrest.factor(served, LEASE));
        }
        assert_eq!(factors, [1, 1, 2, 4, 8, 16, 16, 16], "one failure is nothing unusual");
        let later = served + Micros(LEASE.0 * CALM_LEASES);
        assert_eq!(unrest.factor(later, LEASE), 1, "the term has lasted");
        unrest.term_begins(later, later, LEASE);
        unrest.term_begins(later + Micros(200), later + Micros(100), LEASE);
        assert_eq!(unrest.factor(later + Micros(250), LEASE), 1, "it begins anew");
    }

    #[test]
    fn unrest_before_a_term_that_lasted_does_not_slow_down_the_lead_that_has_left_it() {
        let mut unrest = Unrest::default();
        (0..8).for_each(|n| unrest.term_begins(BootTime(1_000 + n * 200), BootTime(0), LEASE));
        let mut hasty = unrest;
        hasty.term_ends(BootTime(2_500), LEASE);
        assert_eq!(hasty, unrest);
        unrest.term_ends(BootTime(2_400) + Micros(LEASE.0 * CALM_LEASES), LEASE);
        // Its own vote binds nobody any more: it looks as if it had served nobody.
        assert_eq!(unrest.factor(BootTime(0), LEASE), 1);
    }
}
