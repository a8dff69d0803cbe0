//! Single-writer maps: a member's facts about itself, and the views others have of them.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::BTreeMap;

use bincode::{Decode, Encode};

use super::Fact;
use super::seal::{Seal, SealedDelta, Signer, share};
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
    /// Facts set, or removed (`None`), with the version in which that was.
    pub facts: Vec<(String, u64, Option<Fact>)>,
}

/// How far somebody knows a member's map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Encode, Decode)]
pub struct Mark {
    /// Life of the map.
    pub incarnation: u64,
    /// Version of it.
    pub version: u64,
}

/// Facts, each with the version in which it was set.
#[derive(Debug, Clone, PartialEq, Default)]
struct Map {
    mark: Mark,
    facts: BTreeMap<String, (u64, Fact)>,
    removals: BTreeMap<u64, String>,
    forgotten: u64,
    /// Sum over the facts.
    sum: u64,
    /// Signatures, by version.
    seals: BTreeMap<u64, Seal>,
}

impl Map {
    fn put(&mut self, key: String, version: u64, fact: Fact) {
        self.sum = self.sum.wrapping_add(share(&key, version));
        if let Some((old, _)) = self.facts.get(&key) {
            self.sum = self.sum.wrapping_sub(share(&key, *old));
            self.seals.remove(old);
        }
        self.facts.insert(key, (version, fact));
    }

    /// Returns whether there was one.
    fn drop_fact(&mut self, key: &str) -> bool {
        let Some((old, _)) = self.facts.remove(key) else { return false };
        self.sum = self.sum.wrapping_sub(share(key, old));
        self.seals.remove(&old);
        true
    }

    fn remember_removal(&mut self, version: u64, key: String) {
        self.removals.insert(version, key);
        if self.removals.len() > REMOVALS_MAX
            && let Some((version, _)) = self.removals.pop_first()
        {
            self.forgotten = version;
            self.seals.remove(&version);
        }
    }

    /// The sum there would be after `delta`; `None` if that is not to be known: it is cut, or brings nothing.
    fn sum_after(&self, delta: &Delta) -> Option<u64> {
        if delta.facts.is_empty() || delta.facts.len() >= FACTS_PER_DELTA {
            return None;
        }
        let same = delta.incarnation == self.mark.incarnation;
        if same && delta.to <= self.mark.version {
            return None;
        }
        let anew = !same || delta.from == 0;
        let mut sum = if anew { 0 } else { self.sum };
        // One key may be removed and set again.
        let mut changed: BTreeMap<&str, Option<u64>> = BTreeMap::new();
        for (key, version, fact) in &delta.facts {
            let before = || if anew { None } else { self.facts.get(key).map(|(known, _)| *known) };
            let known = changed.get(key.as_str()).copied().unwrap_or_else(before);
            if known.is_some_and(|known| known >= *version) {
                continue;
            }
            let now = fact.as_ref().map(|_| *version);
            sum = sum.wrapping_sub(known.map_or(0, |known| share(key, known)));
            sum = sum.wrapping_add(now.map_or(0, |now| share(key, now)));
            changed.insert(key, now);
        }
        Some(sum)
    }

    fn delta(&self, from: u64) -> Delta {
        let from = if from < self.forgotten || from > self.mark.version { 0 } else { from };
        let mut changes: BTreeMap<u64, (String, Option<Fact>)> = self
            .facts
            .iter()
            .filter(|(_, (version, _))| *version > from)
            .map(|(key, (version, fact))| (*version, (key.clone(), Some(fact.clone()))))
            .collect();
        // The newest change is always told, so that the last entry of all that is told says how far it goes.
        let removals = if from > 0 { from.saturating_add(1) } else { self.mark.version };
        for (version, key) in self.removals.range(removals..) {
            changes.insert(*version, (key.clone(), None));
        }
        let complete = changes.len() <= FACTS_PER_DELTA;
        let cut: Vec<_> = changes.into_iter().take(FACTS_PER_DELTA).collect();
        let last = cut.last().map(|(version, _)| *version);
        let to = if complete { self.mark.version } else { last.unwrap_or(self.mark.version) };
        let facts = cut.into_iter().map(|(version, (key, fact))| (key, version, fact)).collect();
        Delta { incarnation: self.mark.incarnation, from, to, facts }
    }

    /// Signatures of what `delta` says; `None` where one is missing.
    fn seals_of(&self, delta: &Delta) -> Option<Vec<Seal>> {
        let seal = |(_, version, _): &(String, u64, Option<Fact>)| {
            self.seals.get(version).filter(|seal| !seal.signature.is_empty()).cloned()
        };
        delta.facts.iter().map(seal).collect()
    }

    /// Applies what `delta` adds, with its signatures if there are any. One that brings nothing new changes nothing.
    fn apply(&mut self, delta: Delta, seals: Vec<Seal>) {
        if delta.incarnation != self.mark.incarnation || (delta.from == 0 && delta.to > self.mark.version) {
            *self = Self { mark: Mark { incarnation: delta.incarnation, version: 0 }, ..Self::default() };
            // What was removed before is not known: nobody further behind can be told by this map.
            self.forgotten = if delta.from == 0 { delta.to } else { delta.from };
        }
        if delta.to <= self.mark.version && !delta.facts.is_empty() {
            return;
        }
        let seals = seals.into_iter().map(Some).chain(std::iter::repeat_with(|| None));
        for ((key, version, fact), seal) in delta.facts.into_iter().zip(seals) {
            if self.facts.get(&key).is_some_and(|(known, _)| *known >= version) {
                continue;
            }
            match fact {
                Some(fact) if self.facts.len() < FACTS_MAX || self.facts.contains_key(&key) => {
                    self.put(key, version, fact);
                }
                Some(_) => continue,
                None => {
                    self.drop_fact(&key);
                    self.remember_removal(version, key);
                }
            }
            self.seals.extend(seal.map(|seal| (version, seal)));
        }
        self.mark.version = self.mark.version.max(delta.to);
    }
}

/// A member's own map.
#[derive(Debug, Clone)]
pub struct OwnState {
    map: Map,
    signer: Option<Signer>,
}

impl OwnState {
    /// An empty map. `incarnation` must be higher than in any earlier life of this member.
    #[must_use]
    pub fn new(incarnation: u64) -> Self {
        Self { map: Map { mark: Mark { incarnation, version: 0 }, ..Map::default() }, signer: None }
    }

    /// The same, signed for others to pass on.
    #[must_use]
    pub fn signed(incarnation: u64, signer: Signer) -> Self {
        Self { signer: Some(signer), ..Self::new(incarnation) }
    }

    /// Notes what the map holds now: signed when somebody is first told.
    fn note(&mut self) {
        let seal = Seal { sum: self.map.sum, signature: Vec::new() };
        self.map.seals.insert(self.map.mark.version, seal);
    }

    /// Sets a fact. Returns whether it is news. Past 8,192 keys, new ones are refused.
    pub fn set(&mut self, key: &str, fact: Fact) -> bool {
        let known = self.map.facts.get(key);
        if known.is_some_and(|(_, old)| *old == fact)
            || (known.is_none() && self.map.facts.len() >= FACTS_MAX)
            || key.len() > KEY_LEN_MAX
        {
            return false;
        }
        self.map.mark.version += 1;
        self.map.put(key.to_owned(), self.map.mark.version, fact);
        self.note();
        true
    }

    /// Removes a fact. Returns whether there was one.
    pub fn remove(&mut self, key: &str) -> bool {
        if !self.map.drop_fact(key) {
            return false;
        }
        self.map.mark.version += 1;
        self.map.remember_removal(self.map.mark.version, key.to_owned());
        self.note();
        true
    }

    /// Removes every fact whose key starts with `prefix` and is not in `keep`.
    pub fn retain(&mut self, prefix: &str, keep: &dyn Fn(&str) -> bool) -> bool {
        let keys = self.map.facts.keys();
        let gone: Vec<String> = keys.filter(|key| key.starts_with(prefix) && !keep(key)).cloned().collect();
        for key in &gone {
            self.remove(key);
        }
        !gone.is_empty()
    }

    /// One of the facts.
    #[must_use]
    pub fn fact(&self, key: &str) -> Option<&Fact> {
        self.map.facts.get(key).map(|(_, fact)| fact)
    }

    /// The same, as others would see it now.
    #[must_use]
    pub fn as_view(&self, identity: &Identity, now: BootTime) -> View {
        View { identity: identity.clone(), fresh_at: now, map: self.map.clone() }
    }

    /// The present version.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.map.mark.version
    }

    /// How far it has come.
    #[must_use]
    pub fn mark(&self) -> Mark {
        self.map.mark
    }

    /// What a receiver at version `from` of this map lacks, in pieces: apply them one after the other until
    /// [`Delta::to`] is [`OwnState::version`].
    #[must_use]
    pub fn delta(&self, from: u64) -> Delta {
        self.map.delta(from)
    }

    /// The same with signatures; `None` where there is nobody to sign.
    pub fn sealed(&mut self, from: u64, chain: &[Vec<u8>]) -> Option<SealedDelta> {
        let signer = self.signer.as_ref()?;
        let delta = self.map.delta(from);
        for (key, version, fact) in &delta.facts {
            let Some(seal) = self.map.seals.get_mut(version) else { continue };
            if seal.signature.is_empty() {
                let entry = (key.as_str(), *version, fact.as_ref());
                seal.signature = signer.signature(delta.incarnation, entry, seal.sum)?;
            }
        }
        let seals = self.map.seals_of(&delta)?;
        let chain = if tells_key(&delta) { chain.to_vec() } else { Vec::new() };
        Some(SealedDelta { owner: signer.owner.clone(), chain, delta, seals })
    }
}

/// Whether the owner's certificates belong to a delta: the receiver may not know its key.
fn tells_key(delta: &Delta) -> bool {
    delta.from == 0 || delta.facts.iter().any(|(_, _, fact)| matches!(fact, Some(Fact::Certificate(_))))
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
    /// Something is missing in it.
    #[error("a state delta of {member:?} up to version {to} does not make what its owner has signed")]
    Incomplete {
        /// The member.
        member: MemberId,
        /// How far it claims to go.
        to: u64,
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
    /// When it was last known to live: the facts are as fresh as this.
    pub fresh_at: BootTime,
    map: Map,
}

impl View {
    /// Its facts, by key.
    pub fn facts(&self) -> impl Iterator<Item = (&str, &Fact)> {
        self.map.facts.iter().map(|(key, (_, fact))| (key.as_str(), fact))
    }

    /// One of its facts.
    #[must_use]
    pub fn fact(&self, key: &str) -> Option<&Fact> {
        self.map.facts.get(key).map(|(_, fact)| fact)
    }

    /// How far its map is known.
    #[must_use]
    pub fn mark(&self) -> Mark {
        self.map.mark
    }

    /// What a receiver at version `from` lacks of it.
    #[must_use]
    pub fn delta(&self, from: u64) -> Delta {
        self.map.delta(from)
    }

    /// The same with its owner's signatures, to be passed on; `None` if some are missing.
    #[must_use]
    pub fn sealed(&self, from: u64) -> Option<SealedDelta> {
        let delta = self.map.delta(from);
        let seals = self.map.seals_of(&delta)?;
        let chain = match self.certificate() {
            Some(fact) if tells_key(&delta) => fact.chain.clone(),
            _ => Vec::new(),
        };
        Some(SealedDelta { owner: self.identity.clone(), chain, delta, seals })
    }

    /// Age of what is known.
    #[must_use]
    pub fn age(&self, now: BootTime) -> Micros {
        now.since(self.fresh_at)
    }

    /// The member about itself.
    #[must_use]
    pub fn member(&self) -> Option<&super::MemberFact> {
        match self.fact("member") {
            Some(Fact::Member(fact)) => Some(fact),
            _ => None,
        }
    }

    /// Whether it says that members of other clusters cannot dial it.
    #[must_use]
    pub fn dials_out_only(&self) -> bool {
        matches!(self.fact("dialable"), Some(Fact::Dialable(false)))
    }

    /// Its cluster, if it is the lead.
    #[must_use]
    pub fn cluster(&self) -> Option<&super::ClusterFact> {
        match self.fact("cluster") {
            Some(Fact::Cluster(fact)) => Some(fact),
            _ => None,
        }
    }

    /// Its certificate.
    #[must_use]
    pub fn certificate(&self) -> Option<&super::CertificateFact> {
        match self.fact("certificate") {
            Some(Fact::Certificate(fact)) => Some(fact),
            _ => None,
        }
    }

    /// The brake of its cluster, if it is the lead and the brake is engaged.
    #[must_use]
    pub fn brake(&self) -> Option<&super::BrakeFact> {
        match self.fact("brake") {
            Some(Fact::Brake(fact)) => Some(fact),
            _ => None,
        }
    }

    /// Who votes in its cluster, if it is the lead.
    #[must_use]
    pub fn electorate(&self) -> Option<&super::ElectorateFact> {
        match self.fact("electorate") {
            Some(Fact::Electorate(fact)) => Some(fact),
            _ => None,
        }
    }

    /// The host it runs on.
    #[must_use]
    pub fn host(&self) -> Option<&super::HostFact> {
        match self.fact("host") {
            Some(Fact::Host(fact)) => Some(fact),
            _ => None,
        }
    }

    /// Its load, if it is a node.
    #[must_use]
    pub fn load(&self) -> Option<&super::LoadFact> {
        match self.fact("load") {
            Some(Fact::Load(fact)) => Some(fact),
            _ => None,
        }
    }

    /// Its model, if it is a hub.
    #[must_use]
    pub fn model(&self) -> Option<&super::ModelFact> {
        match self.fact("model") {
            Some(Fact::Model(fact)) => Some(fact),
            _ => None,
        }
    }

    /// The gate of its cluster, if it is the lead.
    #[must_use]
    pub fn gate(&self) -> Option<&super::GateFact> {
        match self.fact("gate") {
            Some(Fact::Gate(fact)) => Some(fact),
            _ => None,
        }
    }

    /// The replicas it holds.
    pub fn replicas(&self) -> impl Iterator<Item = &super::ReplicaFact> {
        self.facts().filter_map(|(_, fact)| match fact {
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
    /// Applies a delta of `owner`'s map, from whomever it came.
    ///
    /// # Errors
    /// [`StateError`]; the view is as it was.
    pub fn apply(&mut self, now: BootTime, owner: &Identity, delta: Delta) -> Result<(), StateError> {
        self.take(now, owner, delta, Vec::new())?;
        self.refresh(now, owner.id);
        Ok(())
    }

    /// Applies what `sealed` adds; that its owner has signed it is checked before ([`SealedDelta::verify`]). That it has
    /// arrived says nothing of how fresh it is, unless it is the owner that tells it.
    ///
    /// # Errors
    /// [`StateError`]; the view is as it was.
    pub fn apply_sealed(
        &mut self,
        now: BootTime,
        sealed: SealedDelta,
        own_words: bool,
    ) -> Result<(), StateError> {
        let SealedDelta { owner, delta, seals, .. } = sealed;
        if let Some(last) = seals.last() {
            let nothing = Map::default();
            let map = self.views.get(&owner.id).map_or(&nothing, |view| &view.map);
            if map.sum_after(&delta).is_some_and(|sum| sum != last.sum) {
                return Err(StateError::Incomplete { member: owner.id, to: delta.to });
            }
        }
        self.take(now, &owner, delta, seals)?;
        if own_words {
            self.refresh(now, owner.id);
        }
        Ok(())
    }

    /// Whether a delta brings anything: one that does not need not be checked.
    #[must_use]
    pub fn brings_news(&self, owner: MemberId, delta: &Delta) -> bool {
        self.views.get(&owner).is_none_or(|view| {
            let have = view.mark();
            delta.incarnation != have.incarnation || delta.to > have.version
        })
    }

    fn take(
        &mut self,
        now: BootTime,
        owner: &Identity,
        delta: Delta,
        seals: Vec<Seal>,
    ) -> Result<(), StateError> {
        let member = owner.id;
        let known = self.views.get(&member);
        if known.is_none() && self.views.len() >= VIEWS_MAX {
            return Err(StateError::TooMuch { member, what: "members" });
        }
        if delta.facts.len() > FACTS_PER_DELTA || delta.facts.iter().any(|(key, ..)| key.len() > KEY_LEN_MAX)
        {
            return Err(StateError::TooMuch { member, what: "facts in one delta" });
        }
        let have = known.map(View::mark).unwrap_or_default();
        if delta.incarnation < have.incarnation {
            return Err(StateError::Old { member });
        }
        let have = if delta.incarnation == have.incarnation { have.version } else { 0 };
        if delta.from > have {
            return Err(StateError::Gap { member, from: delta.from, have });
        }
        let view = self.views.entry(member).or_insert_with(|| View {
            identity: owner.clone(),
            // Unknown: as old as can be.
            fresh_at: BootTime(0).min(now),
            map: Map::default(),
        });
        view.map.apply(delta, seals);
        Ok(())
    }

    /// A member is known to live in the life of its map that began at `started` (0: unknown in which): what is known of
    /// that life is fresh. What somebody has kept of an earlier one never is.
    pub fn refresh_life(&mut self, now: BootTime, member: MemberId, started: u64) {
        if let Some(view) = self.views.get_mut(&member)
            && (started == 0 || started == view.map.mark.incarnation)
        {
            view.fresh_at = now;
        }
    }

    /// A member is known to live: what is known of it is fresh.
    pub fn refresh(&mut self, now: BootTime, member: MemberId) {
        if let Some(view) = self.views.get_mut(&member) {
            view.fresh_at = now;
        }
    }

    /// Forgets a member.
    pub fn forget(&mut self, member: MemberId) {
        self.views.remove(&member);
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
            traits: Default::default(),
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
        let facts = |views: &Views| {
            let view = views.get(MemberId(1)).unwrap().clone();
            view.facts().map(|(key, fact)| (key.to_owned(), fact.clone())).collect::<BTreeMap<_, _>>()
        };
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

    fn signed_state() -> (OwnState, Vec<u8>) {
        let key = crate::identity::MemberKey::generate().unwrap();
        let public = key.public_key().to_vec();
        let signer = Signer {
            domain: "d".to_owned(),
            owner: owner(),
            sign: std::sync::Arc::new(move |text| key.sign(text).ok()),
        };
        (OwnState::signed(1, signer), public)
    }

    /// Whatever is passed on, in whatever pieces and order: it is the owner's, and complete in the end.
    #[test]
    fn state_passed_on_with_signatures_is_believed_and_ends_up_the_same() {
        for seed in 0..10 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let (mut own, key) = signed_state();
            let mut views = [Views::default(), Views::default()];
            for step in 0..300_u32 {
                let name = format!("k{}", rng.u32(..40));
                if rng.u32(..3) > 0 {
                    own.set(&name, fact(step));
                } else {
                    own.remove(&name);
                }
                let to = rng.usize(..2);
                let have = views[to].get(MemberId(1)).map(|v| v.mark().version).unwrap_or_default();
                let from = have.saturating_sub(rng.u64(..3));
                let sealed = match rng.usize(..3) {
                    0 => own.sealed(from, &[]),
                    other => views[other - 1].get(MemberId(1)).and_then(|view| view.sealed(from)),
                };
                let Some(sealed) = sealed.filter(|sealed| !sealed.delta.facts.is_empty()) else { continue };
                sealed.verify("d", &key).unwrap();
                // Of what is behind already nothing is taken.
                match views[to].apply_sealed(BootTime(1), sealed, false) {
                    Ok(()) | Err(StateError::Gap { .. }) => {}
                    Err(error) => panic!("seed {seed}: {error}"),
                }
            }
            for views in &mut views {
                loop {
                    let have = views.get(MemberId(1)).map(|v| v.mark().version).unwrap_or_default();
                    if have == own.version() {
                        break;
                    }
                    views.apply_sealed(BootTime(1), own.sealed(have, &[]).unwrap(), false).unwrap();
                }
                let view = views.get(MemberId(1)).unwrap();
                assert_eq!(view.map.facts, own.map.facts, "seed {seed}");
                assert_eq!(view.map.sum, own.map.sum);
                assert!(view.map.seals.len() <= view.map.facts.len() + view.map.removals.len());
                assert_eq!(view.fresh_at, BootTime(0), "receipt is not freshness");
            }
        }
    }

    #[test]
    fn state_changed_left_out_or_claimed_beyond_what_is_signed_is_refused_and_changes_nothing() {
        let (mut own, key) = signed_state();
        for n in 0..5 {
            own.set(&format!("k{n}"), fact(n));
        }
        own.remove("k0");
        let good = own.sealed(0, &[]).unwrap();
        good.verify("d", &key).unwrap();
        let forge = |change: fn(&mut SealedDelta)| {
            let mut sealed = good.clone();
            change(&mut sealed);
            sealed
        };
        for forged in [
            forge(|s| s.delta.facts[0].2 = Some(fact(99))),
            forge(|s| s.delta.facts[0].0.push('x')),
            forge(|s| s.delta.incarnation += 1),
            forge(|s| s.owner.id = MemberId(2)),
            forge(|s| s.seals[1].sum += 1),
            forge(|s| s.seals[1].signature[0] ^= 1),
            forge(|s| s.seals.clear()),
            forge(|s| s.delta.to += 1_000),
            forge(|s| s.delta.facts.swap(0, 1)),
        ] {
            assert!(forged.verify("d", &key).is_err(), "{forged:?}");
        }
        assert!(good.verify("other", &key).is_err(), "of another trust domain");

        let mut views = Views::default();
        let mut holed = good.clone();
        holed.delta.facts.remove(1);
        holed.seals.remove(1);
        holed.verify("d", &key).unwrap();
        let told = views.apply_sealed(BootTime(2), holed, false);
        assert!(matches!(told, Err(StateError::Incomplete { .. })), "{told:?}");
        assert!(views.get(MemberId(1)).is_none());
        views.apply_sealed(BootTime(2), good, false).unwrap();
        let facts = views.get(MemberId(1)).unwrap().facts().count();
        assert_eq!(facts, 4);
    }

    #[test]
    fn state_at_the_last_version_there_can_be_is_passed_on_like_any_other() {
        let mut views = Views::default();
        let to = u64::MAX;
        for (from, key, version) in [(0, "a", 1), (1, "b", to)] {
            let delta =
                Delta { incarnation: 1, from, to: version, facts: vec![(key.to_owned(), version, None)] };
            views.apply(BootTime(1), &owner(), delta).unwrap();
        }
        let view = views.get(MemberId(1)).unwrap();
        assert_eq!((view.delta(to).from, view.delta(to).to), (to, to), "who knows it all lacks nothing");
    }

    #[test]
    fn state_of_an_earlier_life_is_never_fresh() {
        let (mut own, _) = signed_state();
        own.set("a", fact(1));
        let mut views = Views::default();
        views.apply_sealed(BootTime(5), own.sealed(0, &[]).unwrap(), false).unwrap();
        views.refresh_life(BootTime(7), MemberId(1), 2);
        assert_eq!(views.get(MemberId(1)).unwrap().fresh_at, BootTime(0));
        views.refresh_life(BootTime(8), MemberId(1), 1);
        assert_eq!(views.get(MemberId(1)).unwrap().fresh_at, BootTime(8));
    }

    /// Three receivers that pass on what they hear, in any order and with repeats, end up equal.
    #[test]
    fn state_passed_on_in_any_order_ends_up_the_same() {
        for seed in 0..50 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut own = OwnState::new(1);
            let mut views = [Views::default(), Views::default(), Views::default()];
            for step in 0..400_u32 {
                let key = format!("k{}", rng.u32(..20));
                if rng.bool() {
                    own.set(&key, fact(step));
                } else {
                    own.remove(&key);
                }
                let to = rng.usize(..3);
                let have = views[to].get(MemberId(1)).map(|v| v.mark().version).unwrap_or_default();
                let from = have.saturating_sub(rng.u64(..3));
                let source = rng.usize(..4);
                let delta = match source {
                    3 => own.delta(from),
                    other => match views[other].get(MemberId(1)) {
                        Some(view) => view.delta(from),
                        None => continue,
                    },
                };
                // A gap or an old word is refused, and changes nothing.
                let _ = views[to].apply(BootTime(1), &owner(), delta);
            }
            for view in &mut views {
                let have = view.get(MemberId(1)).map(|v| v.mark().version).unwrap_or_default();
                catch_up(&own, view, have);
            }
            let facts = |views: &Views| {
                let view = views.get(MemberId(1)).unwrap().clone();
                view.facts().map(|(key, fact)| (key.to_owned(), fact.clone())).collect::<BTreeMap<_, _>>()
            };
            assert_eq!(facts(&views[0]), facts(&views[1]), "seed {seed}");
            assert_eq!(facts(&views[0]), facts(&views[2]), "seed {seed}");
        }
    }
}
