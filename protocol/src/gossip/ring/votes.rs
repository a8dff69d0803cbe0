//! Votes as last heard, by target, and which targets they count against.

use std::collections::{BTreeMap, BTreeSet};

use crate::gossip::Life;
use crate::units::BootTime;

/// A vote of somebody, as last heard.
#[derive(Debug, Clone, Copy)]
pub(super) struct Vote {
    pub(super) observer: u32,
    pub(super) stands: bool,
    pub(super) life: Life,
    pub(super) number: u64,
    pub(super) since: BootTime,
}

/// See the module.
#[derive(Debug, Clone, Default)]
pub(super) struct Votes {
    /// Sorted by observer.
    of: BTreeMap<u32, Vec<Vote>>,
    /// Targets that live, with votes that stand against their present life.
    doubted: BTreeSet<u32>,
    /// The same of those that do not live.
    condemned: BTreeSet<u32>,
}

impl Votes {
    pub(super) fn against(&self, target: u32) -> &[Vote] {
        self.of.get(&target).map_or(&[], Vec::as_slice)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &Vote)> {
        self.of.iter().flat_map(|(target, votes)| votes.iter().map(|vote| (*target, vote)))
    }

    /// Targets that live, with votes that stand.
    pub(super) fn doubted(&self) -> &BTreeSet<u32> {
        &self.doubted
    }

    /// The same of those that do not live.
    pub(super) fn condemned(&self) -> &BTreeSet<u32> {
        &self.condemned
    }

    /// In place of the last of this observer. `life`: the target's present one; `lives`: whether it does.
    pub(super) fn put(&mut self, target: u32, vote: Vote, life: Life, lives: bool) {
        let votes = self.of.entry(target).or_default();
        match votes.binary_search_by_key(&vote.observer, |vote| vote.observer) {
            Ok(at) => votes[at] = vote,
            Err(at) => votes.insert(at, vote),
        }
        let stands = votes.iter().any(|vote| vote.stands && vote.life == life);
        let set = if lives { &mut self.doubted } else { &mut self.condemned };
        if stands {
            set.insert(target);
        } else {
            set.remove(&target);
        }
    }

    /// Those against a member are void.
    pub(super) fn clear(&mut self, target: u32) {
        self.of.remove(&target);
        self.doubted.remove(&target);
        self.condemned.remove(&target);
    }

    /// A target has come to live, or has ceased to.
    pub(super) fn moved(&mut self, target: u32, lives: bool) {
        let (from, to) = if lives {
            (&mut self.condemned, &mut self.doubted)
        } else {
            (&mut self.doubted, &mut self.condemned)
        };
        if from.remove(&target) {
            to.insert(target);
        }
    }

    /// Those of a member, and those against it, are void. `life_of`: the present life of a member.
    pub(super) fn forget(&mut self, member: u32, life_of: impl Fn(u32) -> Life) {
        self.clear(member);
        for (target, votes) in &mut self.of {
            votes.retain(|vote| vote.observer != member);
            let life = life_of(*target);
            if !votes.iter().any(|vote| vote.stands && vote.life == life) {
                self.doubted.remove(target);
                self.condemned.remove(target);
            }
        }
    }
}
