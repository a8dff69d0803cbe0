//! The home's rule for one mandate: when the replica may be given to another cluster.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use codeco_protocol::token::Term;

/// Where a home stands with one mandate. A mandate is exclusive from the first offer to its return.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct MandateRule {
    /// The highest term it was offered to; older leads no longer speak for it.
    pub offered_to: Option<Term>,
    /// Whether it has come back: the cluster does not run the replica and never will under this mandate.
    pub returned: bool,
}

impl MandateRule {
    /// An offer to the lead of `term` leaves. Refused (`false`) once the mandate has come back.
    pub fn offer(&mut self, term: Term) -> bool {
        if self.returned {
            return false;
        }
        self.offered_to = self.offered_to.max(Some(term));
        true
    }

    /// The lead of `term` declined or returned it. `true` if that is final: no lead of a later term was asked.
    pub fn handed_back(&mut self, term: Term) -> bool {
        if self.offered_to.is_some_and(|highest| term >= highest) {
            self.returned = true;
        }
        self.returned
    }

    /// Whether another cluster may be given the replica.
    #[must_use]
    pub fn may_go_elsewhere(&self) -> bool {
        self.returned || self.offered_to.is_none()
    }
}

#[cfg(test)]
mod tests {
    use codeco_protocol::ids::MemberId;

    use super::*;

    #[test]
    fn mandate_declined_by_an_older_lead_stays_with_the_cluster() {
        let term = |number| Term { number, owner: MemberId(1) };
        let mut rule = MandateRule::default();
        assert!(rule.may_go_elsewhere(), "nobody was asked");
        rule.offer(term(1));
        rule.offer(term(2));
        assert!(!rule.handed_back(term(1)), "the lead of term 2 may have placed it");
        assert!(!rule.may_go_elsewhere());
        assert!(rule.handed_back(term(2)));
        assert!(!rule.offer(term(3)), "it is gone");
    }
}
