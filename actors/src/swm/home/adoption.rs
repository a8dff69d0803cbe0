//! Adoption: a member that keeps a copy of an application becomes its home, where the home has been silent for too long.
//!
//! Who of those that keep a copy and are alive does it is agreed without a word, by rendezvous hashing (Thaler and
//! Ravishankar, «Using name-based mappings to increase hit rates», IEEE/ACM Transactions on Networking 1998). Where views
//! differ two may do it: the highest epoch stays home. Nothing that runs is touched: mandates keep their numbers and copies
//! their tokens, and leads hear under the new epoch who speaks for them. A home that hears of a higher epoch gives up, and
//! keeps a copy like others; mandates that its successor does not know of it takes back first, and copies that it has given
//! to others it has dropped, because nobody may adopt an application from a copy that has been overtaken.
//!
//! Only for applications without any fenced service: a home that is cut off, and not dead, goes on giving mandates to the
//! clusters it reaches, so that a replica may run twice until both are heard.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::{BTreeMap, BTreeSet};

use codeco_protocol::ids::{AppUid, MemberId, ReplicaId};
use codeco_protocol::token::{Epoch, MandateId};
use codeco_protocol::units::{BootTime, Micros};
use codeco_protocol::wire;
use codeco_protocol::workload::PartitionPolicy;

use super::{App, AppRecords, Home, HomeNote, HomeOutput, HomeRecord};

/// Numbers of mandates that are left out at an adoption: those that the last home may have given after the copy.
const MANDATES_LEFT_OUT: u64 = 1_000;
/// Most copies that are remembered as dropped.
const DROPPED_MAX: usize = 10_000;
/// How long a deletion waits for members to hear of it before people are told.
const TOLD_AFTER: Micros = Micros::from_secs(10);

/// What is known of the other members, as far as adoption goes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Others {
    /// Members that are alive.
    pub alive: BTreeSet<MemberId>,
    /// Applications that members which are alive speak for, or keep copies of, and under which epoch.
    pub keep: BTreeMap<AppUid, Vec<(MemberId, Epoch)>>,
    /// Members that operators have removed for good.
    pub forgotten: BTreeSet<MemberId>,
}

/// What is remembered of others.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Watching {
    others: Others,
    /// Homes of copies that are not alive, and since when.
    silent: BTreeMap<MemberId, BootTime>,
    /// Applications of which it was told that they are not adopted.
    told: BTreeSet<AppUid>,
    /// Deletions that only wait for members to hear of them: since when, and whether that was told.
    ends: BTreeMap<AppUid, (BootTime, bool)>,
    /// Copies that their homes have had dropped, so that one that comes late is not taken.
    dropped: BTreeMap<AppUid, Epoch>,
}

/// Whether a copy's application may be adopted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Adoptable {
    /// How long its home may be silent.
    pub after: Option<Micros>,
    /// Whether one of its services is fenced.
    pub fenced: bool,
}

impl Adoptable {
    pub(super) fn of(app: &App) -> Self {
        let fenced = app.spec.services.iter().any(|s| s.spec.partition == PartitionPolicy::Fence);
        Self { after: app.spec.context.demands.adopt_after, fenced }
    }
}

/// A weight of a member for an application (SplitMix64's mixing, Steele et al., OOPSLA 2014).
fn weight(app: AppUid, member: MemberId) -> u64 {
    let mut mixed = 0_u64;
    for part in [app.0, member.0] {
        for half in
            [u64::try_from(part >> 64).unwrap_or(0), u64::try_from(part & u128::from(u64::MAX)).unwrap_or(0)]
        {
            mixed = (mixed ^ half).wrapping_add(0x9e37_79b9_7f4a_7c15);
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^= mixed >> 31;
        }
    }
    mixed
}

impl Home {
    /// Others were looked at.
    pub(super) fn see_others(&mut self, now: BootTime, others: Others) {
        let homes: BTreeSet<MemberId> = self.copies.values().map(|copy| copy.epoch.owner).collect();
        let silent = &mut self.watching.silent;
        silent.retain(|home, _| homes.contains(home) && !others.alive.contains(home));
        for home in homes.into_iter().filter(|home| !others.alive.contains(home)) {
            silent.entry(home).or_insert(now);
        }
        self.watching.others = others;
    }

    /// Adopts what is due here.
    pub(super) fn adopt_orphans(&mut self, now: BootTime, out: &mut Vec<HomeOutput>) {
        let mut due = Vec::new();
        let mut refused = Vec::new();
        for (uid, copy) in &self.copies {
            let Some(after) = copy.adoptable.after else { continue };
            let since = self.watching.silent.get(&copy.epoch.owner);
            if self.apps.contains_key(uid) || since.is_none_or(|since| now.since(*since) < after) {
                continue;
            }
            if copy.adoptable.fenced {
                refused.push(*uid);
            } else if self.is_next_home(*uid, copy.epoch) {
                due.push((*uid, copy.epoch, copy.records.clone()));
            }
        }
        for (app, before, records) in due {
            let epoch = Epoch { number: before.number.saturating_add(1), owner: self.config.id };
            self.record(HomeRecord::Adopted { app, epoch, former: before.owner, records }, out);
            self.match_replicas();
            let name = self.apps.get(&app).map(|app| app.spec.context.name.clone());
            out.extend(name.map(|name| HomeOutput::Note(HomeNote::AdoptedApp(app, name, before))));
        }
        for uid in refused {
            if self.watching.told.insert(uid)
                && let Some(app) = self.copies.get(&uid).and_then(|copy| copy.app(uid))
            {
                out.push(HomeOutput::Note(HomeNote::NotAdopted(uid, app.spec.context.name)));
            }
        }
    }

    /// Whether this member comes first of those that keep a copy and are alive; and nobody has adopted it.
    fn is_next_home(&self, app: AppUid, epoch: Epoch) -> bool {
        let keep = self.watching.others.keep.get(&app).map_or(&[][..], Vec::as_slice);
        let own = weight(app, self.config.id);
        keep.iter().all(|(member, known)| {
            *known <= epoch && (*known < epoch || (own, self.config.id) >= (weight(app, *member), *member))
        })
    }

    /// The records of an application come from its home: if that is another one under a higher epoch, this one gives up.
    pub(super) fn give_way(&mut self, app: AppUid, epoch: Epoch, records: &[u8], out: &mut Vec<HomeOutput>) {
        // Only whoever was given a copy can have adopted it.
        let may = |own: &&App| {
            let adoptable = Adoptable::of(own);
            let known =
                own.kept_by.contains_key(&epoch.owner) && adoptable.after.is_some() && !adoptable.fenced;
            known && own.epoch < epoch && !own.retired
        };
        let Some(own) = self.apps.get(&app).filter(may) else { return };
        let Ok(AppRecords(records)) = wire::decode(records) else { return };
        let Some(theirs) = Home::app_of(app, &records, &[]) else { return };
        let name = own.spec.context.name.clone();
        let mut common: Vec<(ReplicaId, MandateId)> = Vec::new();
        for ((service, index), entry) in &theirs.replicas {
            let replica = ReplicaId { app, service: service.clone(), index: *index };
            common.extend(entry.mandate.iter().chain(&entry.lost).map(|held| (replica.clone(), held.id)));
        }
        self.record(HomeRecord::Retired { app, common }, out);
        out.push(HomeOutput::Note(HomeNote::GaveUp(app, name, epoch)));
    }

    /// Whether everybody who was given a copy under this home's epoch knows of the end of it: otherwise somebody who has
    /// missed it could adopt what is deleted, or what another home speaks for by now. Those who were given one by the home
    /// before are that home's to tell, so it is waited for too. Who was removed for good by an operator is not.
    pub(super) fn all_know_of_the_end(&self, app: &App) -> bool {
        self.who_does_not_know(app).next().is_none()
    }

    pub(super) fn who_does_not_know<'a>(&'a self, app: &'a App) -> impl Iterator<Item = MemberId> + 'a {
        let (forgotten, own) = (&self.watching.others.forgotten, self.config.id);
        // One that only takes back has them drop what they keep; see `handle_copy`.
        let least = if app.retired { u64::MAX } else { app.kept.revision };
        let given = app.kept_by.iter().filter(|(_, epoch)| **epoch == app.epoch).map(|(member, _)| *member);
        let missing = move |member: &MemberId| {
            let acked = app.kept.acked.get(member).map(|(revision, _)| *revision);
            *member != own && acked.is_none_or(|revision| revision < least) && !forgotten.contains(member)
        };
        given.filter(missing).chain(app.former.filter(|member| !forgotten.contains(member)))
    }

    /// A home has its copy dropped.
    pub(super) fn note_dropped(&mut self, app: AppUid, epoch: Epoch) {
        if self.watching.dropped.len() < DROPPED_MAX || self.watching.dropped.contains_key(&app) {
            self.watching.dropped.insert(app, epoch);
        }
    }

    pub(super) fn was_dropped(&self, app: AppUid, epoch: Epoch) -> bool {
        self.watching.dropped.get(&app).is_some_and(|dropped| *dropped >= epoch)
    }

    /// Says of a deletion for whom it waits.
    pub(super) fn tell_waiting_ends(&mut self, now: BootTime, out: &mut Vec<HomeOutput>) {
        let mut waiting = BTreeMap::new();
        for (uid, app) in self.apps.iter().filter(|(_, app)| app.deleting && !app.retired) {
            let back = app.replicas.values().all(|r| r.mandate.is_none() && r.lost.is_empty());
            let missing: Vec<MemberId> = self.who_does_not_know(app).collect();
            if !back || missing.is_empty() {
                continue;
            }
            let (since, told) = self.watching.ends.get(uid).copied().unwrap_or((now, false));
            let due = now.since(since) >= TOLD_AFTER;
            if due && !told {
                let name = app.spec.context.name.clone();
                out.push(HomeOutput::Note(HomeNote::EndWaits(*uid, name, missing)));
            }
            waiting.insert(*uid, (since, told || due));
        }
        self.watching.ends = waiting;
    }

    pub(super) fn replay_adoption(&mut self, app: AppUid, epoch: Epoch, former: MemberId, records: &[u8]) {
        let Ok(AppRecords(records)) = wire::decode(records) else { return };
        // They speak of that application alone, whoever has written them.
        if !super::foreign::stand_for(app, &records) {
            return;
        }
        for record in records {
            self.replay(&record);
        }
        self.copies.remove(&app);
        if let Some(app) = self.apps.get_mut(&app) {
            app.epoch = epoch;
            app.former = Some(former);
            for entry in app.replicas.values_mut() {
                if entry.last_cluster.is_some() {
                    entry.next_mandate = entry.next_mandate.saturating_add(MANDATES_LEFT_OUT);
                }
            }
        }
    }

    pub(super) fn replay_retirement(&mut self, app: AppUid, common: &[(ReplicaId, MandateId)]) {
        let Some(app) = self.apps.get_mut(&app) else { return };
        app.deleting = true;
        app.retired = true;
        app.former = None;
        app.kept.acked.clear();
        app.bidding = None;
        for (replica, mandate) in common {
            if let Some(entry) = app.replicas.get_mut(&(replica.service.clone(), replica.index)) {
                entry.mandate = entry.mandate.take().filter(|held| held.id != *mandate);
                entry.lost.retain(|held| held.id != *mandate);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weight_gives_each_of_three_members_about_a_third_of_the_applications() {
        let members = [MemberId(1), MemberId(2), MemberId(3)];
        let mut first = [0; 3];
        for app in 0..3_000_u128 {
            let best = (0..3).max_by_key(|at| weight(AppUid(app << 60), members[*at])).unwrap_or(0);
            first[best] += 1;
        }
        assert!(first.iter().all(|count| (850..1_150).contains(count)), "{first:?}");
    }
}
