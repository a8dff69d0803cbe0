//! What one voter promises: one lead at a time, no lead that knows less, no record of an older term.
//!
//! Contract for the shell: [`Ballot::promised`] and [`Ballot::last`] are on disk before any answer that follows from
//! them leaves. [`Ballot::bound_until`] is not kept: a voter that restarts sits out one lease instead.

pub use codeco_protocol::election::Position;
use codeco_protocol::ids::MemberId;
use codeco_protocol::token::Term;
use codeco_protocol::units::BootTime;

use super::super::lease::LeaseConfig;

/// Why a voter refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// It has promised a later term.
    OldTerm(Term),
    /// Its records are newer than the candidate's.
    Behind(Position),
    /// Another lead's lease has not surely ended.
    Bound {
        /// Whom it is bound to.
        to: MemberId,
        /// Until when, on its own clock.
        until: BootTime,
    },
    /// The record before this one is missing.
    Gap(Position),
}

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ballot {
    promised: Term,
    last: Position,
    bound_until: BootTime,
}

impl Ballot {
    /// A voter that was just admitted and never promised anything.
    #[must_use]
    pub fn admitted() -> Self {
        Self { promised: Term::default(), last: Position::default(), bound_until: BootTime(0) }
    }

    /// A voter that restarts with its journal. It does not know when it last answered, so it takes that for just now.
    #[must_use]
    pub fn recovered(promised: Term, last: Position, now: BootTime, lease: &LeaseConfig) -> Self {
        let bound_until = if promised == Term::default() { BootTime(0) } else { now + lease.wait_out() };
        Self { promised, last, bound_until }
    }

    /// Whether it would vote: asked before a candidate raises its term, so that one that returns from a cut deposes
    /// no healthy lead.
    ///
    /// # Errors
    /// Why not.
    pub fn would_grant(&self, now: BootTime, term: Term, last: Position) -> Result<(), Refusal> {
        if term < self.promised {
            return Err(Refusal::OldTerm(self.promised));
        }
        if last < self.last {
            return Err(Refusal::Behind(self.last));
        }
        // Whom it is bound to may take a new term at once: its earlier life in office has ended.
        if now < self.bound_until && term.owner != self.promised.owner {
            return Err(Refusal::Bound { to: self.promised.owner, until: self.bound_until });
        }
        Ok(())
    }

    /// Votes for a term, or renews its lease.
    ///
    /// # Errors
    /// As [`Ballot::would_grant`]; nothing has changed then.
    pub fn grant(
        &mut self,
        now: BootTime,
        term: Term,
        last: Position,
        lease: &LeaseConfig,
    ) -> Result<(), Refusal> {
        self.would_grant(now, term, last)?;
        self.promised = term;
        self.bound_until = self.bound_until.max(now + lease.wait_out());
        Ok(())
    }

    /// The owner of the promised term, this voter itself, has left office for good: its vote binds to nothing any more.
    pub fn release(&mut self, own: MemberId) {
        if self.promised.owner == own {
            self.bound_until = BootTime(0);
        }
    }

    /// Takes a record, or at sequence zero the snapshot, of the lead this voter has promised. A repeated one is
    /// answered like the first.
    ///
    /// # Errors
    /// [`Refusal::OldTerm`] if a later term, or not yet this one, was promised; [`Refusal::Gap`] if the one before is
    /// missing.
    pub fn take(&mut self, at: Position) -> Result<Position, Refusal> {
        if at.term != self.promised {
            return Err(Refusal::OldTerm(self.promised));
        }
        let follows = if self.last.term == at.term {
            at.sequence <= self.last.sequence.saturating_add(1)
        } else {
            at.sequence == 0
        };
        if !follows {
            return Err(Refusal::Gap(self.last));
        }
        self.last = self.last.max(at);
        Ok(self.last)
    }

    /// Takes all records of the lead this voter has promised, up to `at`, in place of what it had. One that goes less
    /// far than what is there changes nothing.
    ///
    /// # Errors
    /// [`Refusal::OldTerm`] if a later term, or not yet this one, was promised.
    pub fn install(&mut self, at: Position) -> Result<Position, Refusal> {
        if at.term != self.promised {
            return Err(Refusal::OldTerm(self.promised));
        }
        self.last = self.last.max(at);
        Ok(self.last)
    }

    /// The latest term voted for.
    #[must_use]
    pub fn promised(&self) -> Term {
        self.promised
    }

    /// How far its records go.
    #[must_use]
    pub fn last(&self) -> Position {
        self.last
    }

    /// Until when it votes for nobody but the owner of the promised term.
    #[must_use]
    pub fn bound_until(&self) -> BootTime {
        self.bound_until
    }
}

#[cfg(test)]
mod tests {
    use codeco_protocol::units::Micros;

    use super::*;

    const LEASE: LeaseConfig = LeaseConfig { duration: Micros(100), drift_ppm: 10_000, margin: Micros(9) };

    fn term(number: u64, owner: u128) -> Term {
        Term { number, owner: MemberId(owner) }
    }

    #[test]
    fn ballot_bound_to_a_lead_refuses_a_returning_member_until_the_lease_is_waited_out() {
        let mut ballot = Ballot::admitted();
        ballot.grant(BootTime(1_000), term(1, 1), Position::default(), &LEASE).unwrap();
        let other = term(2, 2);
        let refusal = Refusal::Bound { to: MemberId(1), until: BootTime(1_110) };
        assert_eq!(ballot.would_grant(BootTime(1_109), other, Position::default()), Err(refusal));
        assert_eq!(ballot.promised(), term(1, 1), "a question changes nothing");
        assert_eq!(ballot.grant(BootTime(1_110), other, Position::default(), &LEASE), Ok(()));
        let renewal = ballot.grant(BootTime(1_111), term(1, 1), Position::default(), &LEASE);
        assert_eq!(renewal, Err(Refusal::OldTerm(other)));
    }

    #[test]
    fn ballot_recovered_from_its_journal_sits_out_but_lets_its_lead_return() {
        let mut ballot = Ballot::recovered(term(1, 1), Position::default(), BootTime(0), &LEASE);
        assert!(ballot.would_grant(BootTime(109), term(2, 2), Position::default()).is_err());
        assert_eq!(ballot.grant(BootTime(1), term(2, 1), Position::default(), &LEASE), Ok(()));
        let empty = Ballot::recovered(Term::default(), Position::default(), BootTime(0), &LEASE);
        assert_eq!(empty.bound_until(), BootTime(0), "what promised nothing has nothing to sit out");
    }

    #[test]
    fn ballot_takes_records_in_order_of_the_promised_term_only() {
        let mut ballot = Ballot::admitted();
        let at = |number, sequence| Position { term: term(number, 1), sequence };
        assert_eq!(ballot.take(at(1, 0)), Err(Refusal::OldTerm(Term::default())), "not voted for");
        ballot.grant(BootTime(1), term(1, 1), Position::default(), &LEASE).unwrap();
        assert_eq!(ballot.take(at(1, 1)), Err(Refusal::Gap(Position::default())), "no snapshot yet");
        assert_eq!(ballot.take(at(1, 0)), Ok(at(1, 0)));
        assert_eq!(ballot.take(at(1, 2)), Err(Refusal::Gap(at(1, 0))));
        assert_eq!(ballot.take(at(1, 1)), Ok(at(1, 1)));
        assert_eq!(ballot.take(at(1, 0)), Ok(at(1, 1)), "a repeated one takes nothing back");
        let behind = ballot.would_grant(BootTime(1), term(2, 1), at(1, 0));
        assert_eq!(behind, Err(Refusal::Behind(at(1, 1))));
    }
}
