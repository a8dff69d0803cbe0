//! What a candidate, and later lead, may conclude from the voters' answers.

use std::collections::BTreeMap;

use codeco_protocol::token::Term;
use codeco_protocol::units::{BootTime, Micros};

use super::super::lease::NodeLease;
use super::electorate::{Electorate, ElectorateError, Voter};
use super::voter::Position;

/// Why the electorate cannot be changed now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum ChangeError {
    /// The snapshot of this term, or the change before, is not yet on a majority.
    #[error("the change before is not yet on a majority of the voters; try again")]
    Unsettled,
    /// The change itself is wrong.
    #[error(transparent)]
    Electorate(#[from] ElectorateError),
}

/// One term in office, or the attempt at it. Gone when the process ends: the next life takes another term.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Office {
    term: Term,
    electorate: Electorate,
    leases: BTreeMap<Voter, NodeLease>,
    stored: BTreeMap<Voter, u64>,
    /// Sequence of the last record, zero being the snapshot.
    last: u64,
    /// Sequence of the last change of the electorate in this term; zero is the snapshot, which contains it.
    changed_at: u64,
    first_nonce: u64,
}

impl Office {
    /// A candidate. `first_nonce` must differ between lives of the process and between terms.
    #[must_use]
    pub fn new(term: Term, electorate: Electorate, first_nonce: u64) -> Self {
        Self {
            term,
            electorate,
            leases: BTreeMap::new(),
            stored: BTreeMap::new(),
            last: 0,
            changed_at: 0,
            first_nonce,
        }
    }

    /// Notes that a voter is asked now; returns the nonce its answer must carry.
    pub fn ask(&mut self, now: BootTime, voter: Voter) -> u64 {
        self.leases.entry(voter).or_insert_with(|| NodeLease::new(self.first_nonce)).ask(now)
    }

    /// Takes a vote or renewal. Returns `false` if it answers no request.
    pub fn granted(&mut self, voter: Voter, nonce: u64, duration: Micros) -> bool {
        self.leases.get_mut(&voter).is_some_and(|lease| lease.granted(nonce, duration))
    }

    /// Notes how far a voter says its records go. Of another term it says nothing here.
    pub fn stored(&mut self, voter: Voter, at: Position) {
        if at.term == self.term && at.sequence <= self.last {
            let stored = self.stored.entry(voter).or_insert(at.sequence);
            *stored = (*stored).max(at.sequence);
        }
    }

    /// Until when this term may act: what a majority of the present electorate has granted, counted from the asking.
    #[must_use]
    pub fn lease_until(&self) -> BootTime {
        self.electorate.reached(|voter| self.leases.get(&voter).map(NodeLease::until)).unwrap_or(BootTime(0))
    }

    /// How far the records are on a majority, if the snapshot is.
    #[must_use]
    pub fn committed(&self) -> Option<u64> {
        self.electorate.reached(|voter| self.stored.get(&voter).copied())
    }

    /// Whether what was committed may have effects: the lease is looked at after the answer that is acted on.
    #[must_use]
    pub fn may_act(&self, now: BootTime) -> bool {
        now < self.lease_until() && self.committed().is_some()
    }

    /// Where the next record goes.
    pub fn append(&mut self) -> Position {
        self.last = self.last.saturating_add(1);
        Position { term: self.term, sequence: self.last }
    }

    /// Puts a change of the electorate in force; it counts from now on, and its record is the next.
    ///
    /// # Errors
    /// [`ChangeError::Unsettled`] while the one before is not on a majority; [`ChangeError::Electorate`].
    pub fn change(
        &mut self,
        change: impl FnOnce(&Electorate) -> Result<Electorate, ElectorateError>,
    ) -> Result<Position, ChangeError> {
        if self.committed().is_none_or(|committed| committed < self.changed_at) {
            return Err(ChangeError::Unsettled);
        }
        self.electorate = change(&self.electorate)?;
        let at = self.append();
        self.changed_at = at.sequence;
        Ok(at)
    }

    /// Where the last record went.
    #[must_use]
    pub fn last(&self) -> Position {
        Position { term: self.term, sequence: self.last }
    }

    /// Until when one voter, or a member that is to become one, has granted.
    #[must_use]
    pub fn granted_until(&self, voter: Voter) -> BootTime {
        self.leases.get(&voter).map_or(BootTime(0), NodeLease::until)
    }

    /// How far one voter, or a member that is to become one, has stored this term's records.
    #[must_use]
    pub fn stored_by(&self, voter: Voter) -> Option<u64> {
        self.stored.get(&voter).copied()
    }

    /// Forgets what is known of one that does not vote.
    pub fn forget(&mut self, voter: Voter) {
        if !self.electorate.contains(voter) {
            self.leases.remove(&voter);
            self.stored.remove(&voter);
        }
    }

    /// The term.
    #[must_use]
    pub fn term(&self) -> Term {
        self.term
    }

    /// Who votes.
    #[must_use]
    pub fn electorate(&self) -> &Electorate {
        &self.electorate
    }
}

#[cfg(test)]
mod tests {
    use codeco_protocol::ids::{Incarnation, MemberId};

    use super::super::electorate::Role;
    use super::*;

    fn voter(n: u128) -> Voter {
        Voter { member: MemberId(n), incarnation: Incarnation(1) }
    }

    fn office(voters: u128) -> Office {
        let first = Electorate::of_one(voter(1));
        let electorate = (2..=voters).fold(first, |e, n| e.with(voter(n), Role::Member).unwrap());
        Office::new(Term { number: 1, owner: MemberId(1) }, electorate, 7)
    }

    fn store(office: &mut Office, voter: Voter, sequence: u64) {
        office.stored(voter, Position { term: office.term(), sequence });
    }

    #[test]
    fn office_counts_its_lease_from_when_a_majority_was_asked() {
        let mut office = office(3);
        let first = office.ask(BootTime(10), voter(1));
        let second = office.ask(BootTime(4), voter(2));
        office.granted(voter(1), first, Micros(100));
        assert_eq!(office.lease_until(), BootTime(0), "one of three is none");
        assert!(office.granted(voter(2), second, Micros(100)));
        assert_eq!(office.lease_until(), BootTime(104), "what the later of two has");
        assert!(!office.granted(voter(3), 7, Micros(100)), "never asked");
        assert!(!office.may_act(BootTime(50)), "its snapshot is on no majority");
        store(&mut office, voter(1), 0);
        store(&mut office, voter(3), 0);
        assert!(office.may_act(BootTime(103)) && !office.may_act(BootTime(104)));
    }

    #[test]
    fn office_changes_its_electorate_only_when_the_change_before_is_on_a_majority() {
        let mut office = office(1);
        let add = |n| move |e: &Electorate| e.with(voter(n), Role::Member);
        assert_eq!(office.change(add(2)), Err(ChangeError::Unsettled), "the snapshot is not stored");
        store(&mut office, voter(1), 0);
        let at = office.change(add(2)).unwrap();
        store(&mut office, voter(1), at.sequence);
        assert_eq!(office.change(add(3)), Err(ChangeError::Unsettled), "the new voter counts at once");
        store(&mut office, voter(2), at.sequence);
        assert!(office.change(add(3)).is_ok());
        assert_eq!(office.electorate().version(), 3);
    }

    #[test]
    fn office_ignores_what_it_never_wrote_and_other_terms() {
        let mut office = office(1);
        store(&mut office, voter(1), 1);
        office.stored(voter(1), Position { term: Term { number: 2, owner: MemberId(1) }, sequence: 0 });
        assert_eq!(office.committed(), None);
    }
}
