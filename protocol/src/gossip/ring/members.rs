//! What is known of everybody: little, because it is kept for each. What only few have is kept apart, by the others.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::graph::{halves, mix};
use super::roster::{Bits, Roster};
use crate::gossip::{Life, Liveness};
use crate::ids::MemberId;

/// One member.
#[derive(Debug, Clone, Copy)]
struct Entry {
    started: u64,
    refutations: u32,
    /// `None` for this member itself, and for numbers that nobody has.
    liveness: Option<Liveness>,
}

const NOBODY: Entry = Entry { started: 0, refutations: 0, liveness: None };
/// Until it is heard of, it counts as gone: unknown is never alive.
const UNMET: Entry = Entry { started: 0, refutations: 0, liveness: Some(Liveness::Left) };

/// Members of our cluster by number, with counts and sets instead of walks over all.
#[derive(Debug, Clone)]
pub(super) struct Members {
    roster: Arc<Roster>,
    entries: Vec<Entry>,
    known: usize,
    vacant: Vec<u32>,
    /// Not believed dead or gone, this member included.
    living: Bits,
    living_count: usize,
    suspects: BTreeSet<u32>,
    dead: BTreeSet<u32>,
    unmet: BTreeSet<u32>,
    /// Sum over all that are alive or dead: a digest that a change of one changes by one term.
    sum: u64,
}

pub(super) fn counts_as_living(liveness: Liveness) -> bool {
    matches!(liveness, Liveness::Alive | Liveness::Suspect)
}

/// The term of one member in a digest.
pub(super) fn term(member: MemberId, life: Life, dead: bool) -> u64 {
    let [high, low] = halves(member);
    let lived = mix(life.started ^ (u64::from(life.refutations) << 1) ^ u64::from(dead));
    mix(high ^ mix(low ^ lived))
}

impl Members {
    /// Nobody but this member, whose number is 0.
    pub(super) fn alone(own: MemberId) -> Self {
        Self::nobody(Arc::new(Roster::new(vec![own])), 0)
    }

    /// All of a roster, nothing being known of their lives. `me`: the number of this member.
    pub(super) fn all(roster: Arc<Roster>, me: u32) -> Self {
        let mut members = Self::nobody(roster, me);
        members.entries.fill(UNMET);
        members.entries[me as usize] = NOBODY;
        members.known = members.entries.len() - 1;
        members.unmet = (0..).take(members.entries.len()).filter(|at| *at != me).collect();
        members
    }

    fn nobody(roster: Arc<Roster>, me: u32) -> Self {
        let len = roster.len();
        let mut living = Bits::with_room(len);
        living.put(me as usize, true);
        Self {
            roster,
            entries: vec![NOBODY; len],
            known: 0,
            vacant: Vec::new(),
            living,
            living_count: 1,
            suspects: BTreeSet::new(),
            dead: BTreeSet::new(),
            unmet: BTreeSet::new(),
            sum: 0,
        }
    }

    pub(super) fn roster(&self) -> &Arc<Roster> {
        &self.roster
    }

    /// How many others are known.
    pub(super) fn known(&self) -> usize {
        self.known
    }

    /// The number of another member.
    pub(super) fn find(&self, id: MemberId) -> Option<u32> {
        self.roster.find(id).filter(|at| self.entries[*at as usize].liveness.is_some())
    }

    /// The same; faster if it is the one after `before`, as in lists.
    pub(super) fn find_after(&self, before: u32, id: MemberId) -> Option<u32> {
        let next = before as usize + 1;
        let is_next = next < self.entries.len() && self.roster.id(before + 1) == id;
        if is_next { self.entries[next].liveness.map(|_| before + 1) } else { self.find(id) }
    }

    pub(super) fn id(&self, at: u32) -> MemberId {
        self.roster.id(at)
    }

    pub(super) fn life(&self, at: u32) -> Life {
        let Entry { started, refutations, .. } = self.entries[at as usize];
        Life { started, refutations }
    }

    pub(super) fn liveness(&self, at: u32) -> Liveness {
        self.entries[at as usize].liveness.unwrap_or(Liveness::Left)
    }

    /// Whether it is not believed dead or gone.
    pub(super) fn lives(&self, at: u32) -> bool {
        self.living.holds(at as usize)
    }

    /// Others with what is believed of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, Liveness)> {
        let entries = (0_u32..).zip(&self.entries);
        entries.filter_map(|(at, entry)| entry.liveness.map(|liveness| (at, liveness)))
    }

    pub(super) fn living(&self) -> &Bits {
        &self.living
    }

    pub(super) fn living_count(&self) -> usize {
        self.living_count
    }

    pub(super) fn suspects(&self) -> &BTreeSet<u32> {
        &self.suspects
    }

    pub(super) fn dead(&self) -> &BTreeSet<u32> {
        &self.dead
    }

    /// Those of whose lives nobody has told.
    pub(super) fn unmet(&self) -> &BTreeSet<u32> {
        &self.unmet
    }

    /// See [`term`].
    pub(super) fn sum(&self) -> u64 {
        self.sum
    }

    /// One more, of whose life nothing is known.
    pub(super) fn add(&mut self, id: MemberId) {
        let at = self.roster.find(id).or_else(|| {
            let at = self.vacant.last().copied()?;
            Arc::make_mut(&mut self.roster).replace(at, id);
            Some(at)
        });
        let at = at.unwrap_or_else(|| {
            self.entries.push(NOBODY);
            Arc::make_mut(&mut self.roster).add(id)
        });
        self.vacant.retain(|vacant| *vacant != at);
        self.entries[at as usize] = UNMET;
        self.unmet.insert(at);
        self.known += 1;
    }

    /// As if it had never been.
    pub(super) fn remove(&mut self, at: u32) {
        self.change(at, NOBODY);
        self.vacant.push(at);
        self.known -= 1;
    }

    pub(super) fn set_life(&mut self, at: u32, life: Life) {
        let Life { started, refutations } = life;
        self.change(at, Entry { started, refutations, ..self.entries[at as usize] });
    }

    pub(super) fn set_liveness(&mut self, at: u32, liveness: Liveness) {
        self.change(at, Entry { liveness: Some(liveness), ..self.entries[at as usize] });
    }

    fn term_of(&self, at: u32, entry: Entry) -> u64 {
        let life = Life { started: entry.started, refutations: entry.refutations };
        match entry.liveness {
            None | Some(Liveness::Left) => 0,
            Some(liveness) => term(self.id(at), life, liveness == Liveness::Dead),
        }
    }

    fn change(&mut self, at: u32, after: Entry) {
        let before = std::mem::replace(&mut self.entries[at as usize], after);
        let (was, is) = (self.term_of(at, before), self.term_of(at, after));
        self.sum = self.sum.wrapping_sub(was).wrapping_add(is);
        let lived = before.liveness.is_some_and(counts_as_living);
        let lives = after.liveness.is_some_and(counts_as_living);
        if lived != lives {
            self.living.put(at as usize, lives);
            self.living_count = self.living_count + usize::from(lives) - usize::from(lived);
        }
        let of = |set: &mut BTreeSet<u32>, was: bool, is: bool| match (was, is) {
            (true, false) => drop(set.remove(&at)),
            (false, true) => drop(set.insert(at)),
            _ => {}
        };
        let has = |entry: Entry, liveness| entry.liveness == Some(liveness);
        let unmet = |entry: Entry| entry.liveness.is_some() && (entry.started, entry.refutations) == (0, 0);
        of(&mut self.suspects, has(before, Liveness::Suspect), has(after, Liveness::Suspect));
        of(&mut self.dead, has(before, Liveness::Dead), has(after, Liveness::Dead));
        of(&mut self.unmet, unmet(before), unmet(after));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_cost_sixteen_bytes_each_beside_their_number() {
        assert_eq!(size_of::<Entry>(), 16);
    }

    #[test]
    fn members_sets_and_sum_are_those_of_a_walk_over_all_after_any_changes() {
        let mut rng = fastrand::Rng::with_seed(3);
        let mut members = Members::alone(MemberId(1));
        for _ in 0..5_000 {
            let id = MemberId(rng.u128(2..40));
            match (members.find(id), rng.u8(..8)) {
                (None, _) => members.add(id),
                (Some(at), 0) => members.remove(at),
                (Some(at), 1..4) => {
                    let life = Life { started: rng.u64(..3), refutations: rng.u32(..2) };
                    members.set_life(at, life);
                }
                (Some(at), _) => {
                    let all = [Liveness::Alive, Liveness::Suspect, Liveness::Dead, Liveness::Left];
                    members.set_liveness(at, all[rng.usize(..4)]);
                }
            }
            let with = |liveness| -> BTreeSet<u32> {
                members.iter().filter(|(_, l)| *l == liveness).map(|(at, _)| at).collect()
            };
            assert_eq!(*members.suspects(), with(Liveness::Suspect));
            assert_eq!(*members.dead(), with(Liveness::Dead));
            let living: BTreeSet<u32> =
                with(Liveness::Alive).into_iter().chain(with(Liveness::Suspect)).chain([0]).collect();
            assert_eq!(members.living().iter().collect::<BTreeSet<u32>>(), living);
            assert_eq!(members.living_count(), living.len());
            let unmet =
                members.iter().filter(|(at, _)| members.life(*at) == Life::default()).map(|(at, _)| at);
            assert_eq!(*members.unmet(), unmet.collect::<BTreeSet<u32>>());
            assert_eq!(members.known(), members.iter().count());
            let sum = members.iter().filter(|(_, l)| *l != Liveness::Left).fold(0_u64, |sum, (at, l)| {
                sum.wrapping_add(term(members.id(at), members.life(at), l == Liveness::Dead))
            });
            assert_eq!(members.sum(), sum);
            assert!(members.iter().all(|(at, _)| members.find(members.id(at)) == Some(at)));
        }
        assert!(members.roster().len() <= 40, "numbers are used again");
    }
}
