//! Single-writer maps: a member's facts about itself, and the views others have of them.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::BTreeMap;

use bincode::{Decode, Encode};

use super::Fact;
use crate::ids::{Identity, MemberId};
use crate::units::{BootTime, Micros};

/// Most facts one member may spread.
pub(super) const FACTS_MAX: usize = 8_192;
/// Longest key, in bytes.
pub(super) const KEY_LEN_MAX: usize = 200;
/// Facts in one message; what is more follows in the next.
const FACTS_PER_DELTA: usize = 256;
/// Removals remembered; who is further behind gets everything anew.
const REMOVALS_MAX: usize = 1_024;
/// Members of whom views are kept.
pub(super) const VIEWS_MAX: usize = 4_096;

/// What has changed in a member's map between two versions.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub struct Delta {
    /// Life of the map: a restarted member begins a new one.
    pub incarnation: u64,
    /// The version the receiver must have; 0 replaces everything.
    pub from: u64,
    /// The version it has afterwards.
    pub to: u64,
    /// Facts set, or removed (`None`).
    pub facts: Vec<(String, Option<Fact>)>,
}

/// A member's own map.
#[derive(Debug, Clone)]
pub struct OwnState {
    incarnation: u64,
    version: u64,
    facts: BTreeMap<String, (u64, Fact)>,
    removals: BTreeMap<u64, String>,
    forgotten: u64,
}

impl OwnState {
    /// An empty map. `incarnation` must be higher than in any earlier life of this member.
    #[must_use]
    pub fn new(incarnation: u64) -> Self {
        Self { incarnation, version: 0, facts: BTreeMap::new(), removals: BTreeMap::new(), forgotten: 0 }
    }

    /// Sets a fact. Returns whether it is news. Past 8,192 keys, new ones are refused.
    pub fn set(&mut self, key: &str, fact: Fact) -> bool {
        let known = self.facts.get(key);
        if known.is_some_and(|(_, old)| *old == fact)
            || (known.is_none() && self.facts.len() >= FACTS_MAX)
            || key.len() > KEY_LEN_MAX
        {
            return false;
        }
        self.version += 1;
        self.facts.insert(key.to_owned(), (self.version, fact));
        true
    }

    /// Removes a fact. Returns whether there was one.
    pub fn remove(&mut self, key: &str) -> bool {
        if self.facts.remove(key).is_none() {
            return false;
        }
        self.version += 1;
        self.removals.insert(self.version, key.to_owned());
        if self.removals.len() > REMOVALS_MAX
            && let Some((version, _)) = self.removals.pop_first()
        {
            self.forgotten = version;
        }
        true
    }

    /// Removes every fact whose key starts with `prefix` and is not in `keep`.
    pub fn retain(&mut self, prefix: &str, keep: &dyn Fn(&str) -> bool) -> bool {
        let gone: Vec<String> =
            self.facts.keys().filter(|key| key.starts_with(prefix) && !keep(key)).cloned().collect();
        for key in &gone {
            self.remove(key);
        }
        !gone.is_empty()
    }

    /// The present version.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// What a receiver at version `from` of this map lacks, in pieces: apply them one after the other until
    /// [`Delta::to`] is [`OwnState::version`].
    #[must_use]
    pub fn delta(&self, from: u64) -> Delta {
        let from = if from < self.forgotten || from > self.version { 0 } else { from };
        let mut changes: BTreeMap<u64, (String, Option<Fact>)> = self
            .facts
            .iter()
            .filter(|(_, (version, _))| *version > from)
            .map(|(key, (version, fact))| (*version, (key.clone(), Some(fact.clone()))))
            .collect();
        if from > 0 {
            for (version, key) in self.removals.range(from + 1..) {
                changes.insert(*version, (key.clone(), None));
            }
        }
        let complete = changes.len() <= FACTS_PER_DELTA;
        let cut: Vec<_> = changes.into_iter().take(FACTS_PER_DELTA).collect();
        let to =
            if complete { self.version } else { cut.last().map_or(self.version, |(version, _)| *version) };
        Delta {
            incarnation: self.incarnation,
            from,
            to,
            facts: cut.into_iter().map(|(_, change)| change).collect(),
        }
    }
}

/// Why a delta was not applied. The view is as it was; the stream it came over should be opened anew.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// It does not continue what is known.
    #[error("a state delta of {member:?} starts at version {from}, but version {have} is known")]
    Gap {
        /// The member.
        member: MemberId,
        /// Where it starts.
        from: u64,
        /// What is known.
        have: u64,
    },
    /// It belongs to an earlier life of the member.
    #[error("a state delta of {member:?} is of an earlier life of that member")]
    Old {
        /// The member.
        member: MemberId,
    },
    /// It exceeds a bound.
    #[error("a state delta of {member:?} exceeds the bound on {what}")]
    TooMuch {
        /// The member.
        member: MemberId,
        /// Which bound.
        what: &'static str,
    },
}

/// What is known of one member.
#[derive(Debug, Clone, PartialEq)]
pub struct View {
    /// Who.
    pub identity: Identity,
    /// Its facts.
    pub facts: BTreeMap<String, Fact>,
    /// When its latest heartbeat came: the facts are as fresh as this.
    pub fresh_at: BootTime,
    incarnation: u64,
    version: u64,
}

impl View {
    /// Age of what is known.
    #[must_use]
    pub fn age(&self, now: BootTime) -> Micros {
        now.since(self.fresh_at)
    }

    /// The member about itself.
    #[must_use]
    pub fn member(&self) -> Option<&super::MemberFact> {
        match self.facts.get("member") {
            Some(Fact::Member(fact)) => Some(fact),
            _ => None,
        }
    }

    /// Its cluster, if it is the lead.
    #[must_use]
    pub fn cluster(&self) -> Option<&super::ClusterFact> {
        match self.facts.get("cluster") {
            Some(Fact::Cluster(fact)) => Some(fact),
            _ => None,
        }
    }

    /// The replicas it holds.
    pub fn replicas(&self) -> impl Iterator<Item = &super::ReplicaFact> {
        self.facts.values().filter_map(|fact| match fact {
            Fact::Replica(replica) => Some(&**replica),
            _ => None,
        })
    }
}

/// Views of all members.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Views {
    views: BTreeMap<MemberId, View>,
}

impl Views {
    /// Applies a delta that came from `owner` itself, over its own authenticated connection.
    ///
    /// # Errors
    /// [`StateError`]; the view is as it was.
    pub fn apply(&mut self, now: BootTime, owner: &Identity, delta: Delta) -> Result<(), StateError> {
        let member = owner.id;
        let known = self.views.get(&member);
        if known.is_none() && self.views.len() >= VIEWS_MAX {
            return Err(StateError::TooMuch { member, what: "members" });
        }
        if delta.facts.len() > FACTS_PER_DELTA || delta.facts.iter().any(|(key, _)| key.len() > KEY_LEN_MAX) {
            return Err(StateError::TooMuch { member, what: "facts in one delta" });
        }
        if known.is_some_and(|view| delta.incarnation < view.incarnation) {
            return Err(StateError::Old { member });
        }
        let same_life = known.is_some_and(|view| view.incarnation == delta.incarnation);
        let have = known.filter(|_| same_life).map_or(0, |view| view.version);
        if delta.from > have {
            return Err(StateError::Gap { member, from: delta.from, have });
        }
        let view = self.views.entry(member).or_insert_with(|| View {
            identity: owner.clone(),
            facts: BTreeMap::new(),
            fresh_at: now,
            incarnation: delta.incarnation,
            version: 0,
        });
        if delta.from == 0 {
            view.facts.clear();
        }
        for (key, fact) in delta.facts {
            match fact {
                Some(fact) if view.facts.len() < FACTS_MAX => {
                    view.facts.insert(key, fact);
                }
                Some(_) => {}
                None => {
                    view.facts.remove(&key);
                }
            }
        }
        view.incarnation = delta.incarnation;
        view.version = delta.to;
        view.fresh_at = now;
        Ok(())
    }

    /// All views.
    pub fn iter(&self) -> impl Iterator<Item = &View> {
        self.views.values()
    }

    /// The view of one member.
    #[must_use]
    pub fn get(&self, member: MemberId) -> Option<&View> {
        self.views.get(&member)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{ClusterName, NodeName, Role};
    use crate::resources::Resources;
    use crate::token::Term;

    fn fact(mandates: u32) -> Fact {
        Fact::Cluster(Box::new(super::super::ClusterFact {
            cluster: ClusterName::new("c").unwrap(),
            lead: NodeName::new("n").unwrap(),
            term: Term::default(),
            ready: true,
            nodes_ready: 0,
            nodes: 0,
            nodes_lost: vec![],
            capacity: Resources::default(),
            free: Resources::default(),
            mandates,
            labels: vec![],
        }))
    }

    fn owner() -> Identity {
        Identity { role: Role::Hub, id: MemberId(1) }
    }

    /// A receiver that applies everything until it has caught up.
    fn catch_up(own: &OwnState, views: &mut Views, mut have: u64) -> u64 {
        loop {
            let delta = own.delta(have);
            have = delta.to;
            views.apply(BootTime(1), &owner(), delta).unwrap();
            if have == own.version() {
                return have;
            }
        }
    }

    #[test]
    fn state_spread_by_deltas_equals_state_spread_whole() {
        let mut rng = fastrand::Rng::with_seed(7);
        let mut own = OwnState::new(1);
        let (mut by_deltas, mut have) = (Views::default(), 0);
        for step in 0..3_000_u32 {
            let key = format!("k{}", rng.u32(..400));
            if rng.bool() {
                own.set(&key, fact(step));
            } else {
                own.remove(&key);
            }
            if rng.u32(..500) == 0 {
                have = catch_up(&own, &mut by_deltas, have);
            }
        }
        catch_up(&own, &mut by_deltas, have);
        let mut whole = Views::default();
        catch_up(&own, &mut whole, 0);
        let facts = |views: &Views| views.get(MemberId(1)).unwrap().facts.clone();
        assert_eq!(facts(&by_deltas), facts(&whole));
    }

    #[test]
    fn state_delta_with_a_gap_or_of_an_earlier_life_changes_nothing() {
        let mut views = Views::default();
        let mut own = OwnState::new(2);
        own.set("a", fact(1));
        catch_up(&own, &mut views, 0);
        let before = views.clone();
        let late = Delta { incarnation: 2, from: 9, to: 10, facts: vec![] };
        assert!(matches!(views.apply(BootTime(2), &owner(), late), Err(StateError::Gap { .. })));
        let old = Delta { incarnation: 1, from: 0, to: 1, facts: vec![] };
        assert!(matches!(views.apply(BootTime(2), &owner(), old), Err(StateError::Old { .. })));
        assert_eq!(views, before);
    }
}
