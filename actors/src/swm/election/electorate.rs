//! Who votes: a versioned list that changes by one voter at a time.
//!
//! Any majority before such a change meets any majority after it, so two leads cannot be chosen by disjoint majorities
//! (Ongaro, «Consensus: Bridging Theory and Practice», 2014, §4.1).

use std::collections::BTreeMap;

use bincode::{Decode, Encode};
use codeco_protocol::ids::{Incarnation, MemberId};

/// Most voters of one cluster.
pub const VOTERS_MAX: usize = 5;

/// A voter: a member in one life of its journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Voter {
    /// The member.
    pub member: MemberId,
    /// The life of its journal in which it was admitted.
    pub incarnation: Incarnation,
}

/// What a voter may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
pub enum Role {
    /// Votes, keeps records, may lead.
    Member,
    /// Votes and keeps records, never leads.
    Witness,
}

/// Why an electorate cannot be changed in that way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum ElectorateError {
    /// The member votes already, perhaps in an earlier life: that one must be removed first.
    #[error("member {} votes already; remove its earlier life first", .0.0)]
    AlreadyVotes(MemberId),
    /// The voter is not in the electorate.
    #[error("member {} does not vote in that life of its journal", .0.member.0)]
    NoVoter(Voter),
    /// It has as many voters as are allowed.
    #[error("the electorate has {VOTERS_MAX} voters already; remove one first")]
    Full,
    /// Nobody in it could lead.
    #[error("the electorate would have no voter that may lead; add another first")]
    NobodyLeads,
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Encode, Decode)]
pub struct Electorate {
    version: u64,
    voters: BTreeMap<Voter, Role>,
}

impl Electorate {
    /// The first version: one voter.
    #[must_use]
    pub fn of_one(voter: Voter) -> Self {
        Self { version: 1, voters: BTreeMap::from([(voter, Role::Member)]) }
    }

    /// One voter, under a version above every one known: what an operator imposes when a majority is lost for good.
    #[must_use]
    pub fn imposed(voter: Voter, above: u64) -> Self {
        Self { version: above.saturating_add(1), voters: BTreeMap::from([(voter, Role::Member)]) }
    }

    /// As told: see [`Electorate::is_sound`].
    #[must_use]
    pub fn told(version: u64, voters: impl IntoIterator<Item = (Voter, Role)>) -> Self {
        Self { version, voters: voters.into_iter().collect() }
    }

    /// Whether it could have come about by the changes below: what comes from a disk or a wire may not.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        let mut members: Vec<MemberId> = self.voters.keys().map(|voter| voter.member).collect();
        members.dedup();
        members.len() == self.voters.len()
            && self.voters.len() <= VOTERS_MAX
            && self.voters.values().any(|role| *role == Role::Member)
    }

    /// The voter that a member is, in whatever life.
    #[must_use]
    pub fn voter_of(&self, member: MemberId) -> Option<Voter> {
        self.voters.keys().find(|voter| voter.member == member).copied()
    }

    /// How many voters there are.
    #[must_use]
    pub fn size(&self) -> usize {
        self.voters.len()
    }

    /// With one voter more.
    ///
    /// # Errors
    /// [`ElectorateError::AlreadyVotes`], [`ElectorateError::Full`].
    pub fn with(&self, voter: Voter, role: Role) -> Result<Self, ElectorateError> {
        if self.voters.keys().any(|known| known.member == voter.member) {
            return Err(ElectorateError::AlreadyVotes(voter.member));
        }
        if self.voters.len() >= VOTERS_MAX {
            return Err(ElectorateError::Full);
        }
        let mut next = self.next();
        next.voters.insert(voter, role);
        Ok(next)
    }

    /// With one voter less.
    ///
    /// # Errors
    /// [`ElectorateError::NoVoter`], [`ElectorateError::NobodyLeads`].
    pub fn without(&self, voter: Voter) -> Result<Self, ElectorateError> {
        let mut next = self.next();
        if next.voters.remove(&voter).is_none() {
            return Err(ElectorateError::NoVoter(voter));
        }
        if !next.voters.values().any(|role| *role == Role::Member) {
            return Err(ElectorateError::NobodyLeads);
        }
        Ok(next)
    }

    fn next(&self) -> Self {
        Self { version: self.version.saturating_add(1), voters: self.voters.clone() }
    }

    /// Grows with every change.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The voters, in the order of their ids.
    pub fn voters(&self) -> impl Iterator<Item = (Voter, Role)> {
        self.voters.iter().map(|(voter, role)| (*voter, *role))
    }

    /// Whether that life of that member votes.
    #[must_use]
    pub fn contains(&self, voter: Voter) -> bool {
        self.voters.contains_key(&voter)
    }

    /// Whether it may lead.
    #[must_use]
    pub fn may_lead(&self, voter: Voter) -> bool {
        self.voters.get(&voter) == Some(&Role::Member)
    }

    /// How many voters are a majority; both of two.
    #[must_use]
    pub fn majority(&self) -> usize {
        self.voters.len() / 2 + 1
    }

    /// The highest value that a majority has reached, or `None` if too few have any.
    pub fn reached<T: Ord>(&self, value: impl Fn(Voter) -> Option<T>) -> Option<T> {
        let mut values: Vec<T> = self.voters.keys().filter_map(|voter| value(*voter)).collect();
        values.sort_unstable_by(|a, b| b.cmp(a));
        values.into_iter().nth(self.majority() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn voter(n: u32) -> Voter {
        Voter { member: MemberId(u128::from(n)), incarnation: Incarnation(1) }
    }

    fn of(mask: u32) -> Electorate {
        let voters = (0..6).filter(|n| mask & (1 << n) != 0).map(|n| (voter(n), Role::Member)).collect();
        Electorate { version: 1, voters }
    }

    /// Whether some majority of one shares no voter with some majority of the other.
    fn can_be_disjoint(a: &Electorate, b: &Electorate) -> bool {
        let wins = |electorate: &Electorate, votes: u32| {
            electorate.reached(|v| (votes & (1 << v.member.0) != 0).then_some(())).is_some()
        };
        (0..64).any(|votes| wins(a, votes) && wins(b, 63 & !votes))
    }

    fn changes(electorate: &Electorate) -> Vec<Electorate> {
        let added = (0..6).filter_map(|n| electorate.with(voter(n), Role::Member).ok());
        let removed = (0..6).filter_map(|n| electorate.without(voter(n)).ok());
        added.chain(removed).collect()
    }

    #[test]
    fn electorate_one_change_never_gives_two_disjoint_majorities() {
        let mut pairs = 0;
        for mask in (1u32..64).filter(|mask| mask.count_ones() <= 5) {
            let before = of(mask);
            for after in changes(&before) {
                pairs += 1;
                assert!(!can_be_disjoint(&before, &after), "{before:?} {after:?}");
                assert_eq!(after.version(), 2);
            }
        }
        assert!(pairs > 300, "{pairs}");
    }

    #[test]
    fn electorate_two_changes_at_once_can_give_two_disjoint_majorities() {
        let found = (1u32..32).any(|mask| {
            let before = of(mask);
            changes(&before).iter().flat_map(changes).any(|after| can_be_disjoint(&before, &after))
        });
        assert!(found, "the check above finds what it looks for");
    }

    #[test]
    fn electorate_of_two_needs_both_and_with_a_witness_two_of_three() {
        let two = Electorate::of_one(voter(0)).with(voter(1), Role::Member).unwrap();
        assert_eq!(two.majority(), 2);
        let three = two.with(voter(2), Role::Witness).unwrap();
        assert_eq!(three.majority(), 2);
        assert!(!three.may_lead(voter(2)) && three.contains(voter(2)));
        let witness_alone = three.without(voter(0)).unwrap().without(voter(1));
        assert_eq!(witness_alone, Err(ElectorateError::NobodyLeads));
    }

    #[test]
    fn electorate_member_with_a_new_life_is_admitted_only_after_its_old_one_is_removed() {
        let old = Electorate::of_one(voter(0)).with(voter(1), Role::Member).unwrap();
        let reborn = Voter { incarnation: Incarnation(2), ..voter(1) };
        assert!(!old.contains(reborn));
        assert_eq!(old.with(reborn, Role::Member), Err(ElectorateError::AlreadyVotes(reborn.member)));
        assert!(old.without(voter(1)).unwrap().with(reborn, Role::Member).unwrap().contains(reborn));
    }
}
