//! What a home writes down before it acts.

use bincode::{Decode, Encode};
use codeco_protocol::ids::{AppUid, ClusterName, MemberId, ReplicaId};
use codeco_protocol::token::{Epoch, MandateId, Term};
use codeco_protocol::units::{BootTime, Micros, WallTime};

use super::{App, AppSpec, Copy, Home, HomeMandate, HomeReplica, Pick};
use crate::acm::apps::Heard;
use crate::swm::mandate::MandateRule;

/// One record of a home's journal. Variants are append-only.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Encode, Decode)]
pub enum HomeRecord {
    /// An application has a (new) specification.
    Applied {
        /// The application.
        app: AppUid,
        /// The right to speak for it.
        epoch: Epoch,
        /// Number of the specification.
        generation: u64,
        /// The specification.
        spec: AppSpec,
        /// When it was first applied.
        created: WallTime,
    },
    /// An application is to go.
    Deleting {
        /// The application.
        app: AppUid,
    },
    /// All its mandates are back: it is gone.
    Removed {
        /// The application.
        app: AppUid,
    },
    /// A cluster gets a mandate.
    Mandated {
        /// The replica.
        replica: ReplicaId,
        /// The mandate.
        mandate: MandateId,
        /// The cluster.
        cluster: ClusterName,
    },
    /// It is offered to the lead of a term.
    Offered {
        /// The replica.
        replica: ReplicaId,
        /// The mandate.
        mandate: MandateId,
        /// The term.
        term: Term,
    },
    /// It is wanted back.
    Recalling {
        /// The replica.
        replica: ReplicaId,
        /// The mandate.
        mandate: MandateId,
    },
    /// It is back.
    HandedBack {
        /// The replica.
        replica: ReplicaId,
        /// The mandate.
        mandate: MandateId,
    },
    /// Its lead may replace the copy, or that is over.
    Rolling {
        /// The replica.
        replica: ReplicaId,
        /// The mandate.
        mandate: MandateId,
        /// What may be done; `None` once the new copy is there.
        pick: Option<Pick>,
    },
    /// A cluster takes nothing new and what it has is to move elsewhere, or that is over.
    ClusterDrained {
        /// The cluster.
        cluster: ClusterName,
        /// Which of both.
        drained: bool,
    },
    /// How long the cluster of a mandate may be silent, and how long a copy there may take to end, under any
    /// specification it is offered.
    Bounded {
        /// The replica.
        replica: ReplicaId,
        /// The mandate.
        mandate: MandateId,
        /// How long; `None` is for ever.
        limit: Option<Micros>,
        /// How long at most.
        grace: Micros,
    },
    /// A mandate's cluster has been silent for too long, or is lost by an operator's word: another one may get the
    /// replica.
    Lost {
        /// The replica.
        replica: ReplicaId,
        /// The mandate.
        mandate: MandateId,
        /// Whether it is wanted back as soon as its cluster is heard.
        recalled: bool,
    },
    /// Of two copies in different clusters one stays: all other mandates are wanted back.
    Reconciled {
        /// The replica.
        replica: ReplicaId,
        /// The mandate that stays.
        keep: MandateId,
    },
    /// A copy of another home's application is kept.
    Copied {
        /// The application.
        app: AppUid,
        /// The home's right.
        epoch: Epoch,
        /// How new it is.
        revision: u64,
        /// Its records, as they travel.
        records: Vec<u8>,
    },
    /// That application is gone.
    CopyDropped {
        /// The application.
        app: AppUid,
    },
    /// An application of which a copy was kept is this home's from now on.
    Adopted {
        /// The application.
        app: AppUid,
        /// This home's right.
        epoch: Epoch,
        /// The home before.
        former: MemberId,
        /// The copy, as it had come.
        records: Vec<u8>,
    },
    /// The home before this one has yet to hear of it, or has.
    Succeeds {
        /// The application.
        app: AppUid,
        /// Who has yet to hear.
        former: Option<MemberId>,
    },
    /// A member is given a copy that it may adopt.
    KeptBy {
        /// The application.
        app: AppUid,
        /// Who.
        member: MemberId,
        /// Under which epoch.
        epoch: Epoch,
    },
    /// Another home speaks for an application: this one only takes back what that one does not know of.
    Retired {
        /// The application.
        app: AppUid,
        /// Mandates that are the other one's from now on.
        common: Vec<(ReplicaId, MandateId)>,
    },
}

impl HomeRecord {
    /// The application of this home that it changes.
    pub(super) fn app(&self) -> Option<AppUid> {
        match self {
            Self::Applied { app, .. }
            | Self::Deleting { app }
            | Self::Adopted { app, .. }
            | Self::Succeeds { app, .. }
            | Self::KeptBy { app, .. }
            | Self::Retired { app, .. } => Some(*app),
            Self::Mandated { replica, .. }
            | Self::Offered { replica, .. }
            | Self::Recalling { replica, .. }
            | Self::HandedBack { replica, .. }
            | Self::Rolling { replica, .. }
            | Self::Bounded { replica, .. }
            | Self::Lost { replica, .. }
            | Self::Reconciled { replica, .. } => Some(replica.app),
            Self::Removed { .. }
            | Self::ClusterDrained { .. }
            | Self::Copied { .. }
            | Self::CopyDropped { .. } => None,
        }
    }
}

impl Home {
    pub(super) fn replay(&mut self, record: &HomeRecord) {
        if let Some(app) = record.app().and_then(|uid| self.apps.get_mut(&uid)) {
            app.kept.revision = app.kept.revision.saturating_add(1);
        }
        match record {
            HomeRecord::Applied { app, epoch, generation, spec, created } => {
                let entry = self.apps.entry(*app).or_insert_with(|| App {
                    epoch: *epoch,
                    generation: *generation,
                    spec: spec.clone(),
                    created: *created,
                    deleting: false,
                    replicas: std::collections::BTreeMap::new(),
                    bidding: None,
                    former: None,
                    kept_by: std::collections::BTreeMap::new(),
                    retired: false,
                    kept: super::copies::Kept { revision: self.config.first_revision, ..Default::default() },
                });
                entry.kept.next_send = BootTime(0);
                entry.epoch = *epoch;
                entry.generation = *generation;
                entry.spec = spec.clone();
            }
            HomeRecord::Deleting { app } => {
                if let Some(app) = self.apps.get_mut(app) {
                    app.deleting = true;
                }
            }
            HomeRecord::Removed { app } => {
                self.apps.remove(app);
            }
            HomeRecord::Mandated { replica, mandate, cluster } => {
                let Some(app) = self.apps.get_mut(&replica.app) else { return };
                let entry = app
                    .replicas
                    .entry((replica.service.clone(), replica.index))
                    .or_insert_with(HomeReplica::default);
                entry.next_mandate = entry.next_mandate.max(mandate.0.saturating_add(1));
                entry.last_cluster = Some(cluster.clone());
                entry.mandate = Some(HomeMandate {
                    id: *mandate,
                    cluster: cluster.clone(),
                    rule: MandateRule::default(),
                    recalling: false,
                    accepted: None,
                    run: None,
                    leaving: Default::default(),
                    rolling: None,
                    limit: None,
                    grace: Micros(0),
                    before: None,
                    told: None,
                    uplink: Default::default(),
                    next_send: BootTime(0),
                    ask_again: BootTime(0),
                });
            }
            HomeRecord::Offered { replica, mandate, term } => {
                if let Some(held) = self.mandate_mut(replica, *mandate) {
                    held.rule.offer(*term);
                }
            }
            HomeRecord::Recalling { replica, mandate } => {
                if let Some(held) = self.mandate_mut(replica, *mandate) {
                    held.recalling = true;
                    held.next_send = BootTime(0);
                }
            }
            HomeRecord::Rolling { replica, mandate, pick } => {
                if let Some(held) = self.mandate_mut(replica, *mandate) {
                    held.rolling = *pick;
                    held.next_send = BootTime(0);
                    held.ask_again = BootTime(0);
                }
            }
            HomeRecord::ClusterDrained { cluster, drained: true } => {
                self.drained.insert(cluster.clone());
            }
            HomeRecord::ClusterDrained { cluster, drained: false } => {
                self.drained.remove(cluster);
            }
            HomeRecord::Bounded { replica, mandate, limit, grace } => {
                if let Some(held) = self.mandate_mut(replica, *mandate) {
                    held.limit = *limit;
                    held.grace = *grace;
                }
            }
            HomeRecord::Lost { replica, mandate, recalled } => {
                let Some(entry) = self.replica_mut(replica) else { return };
                if let Some(mut held) = entry.mandate.take_if(|held| held.id == *mandate) {
                    held.recalling = *recalled;
                    held.before = held.accepted.take().map(|(.., token)| token);
                    held.run = None;
                    held.rolling = None;
                    held.next_send = BootTime(0);
                    entry.lost.push(held);
                }
                entry.settle_last_cluster();
            }
            HomeRecord::Reconciled { replica, keep } => {
                let Some(entry) = self.replica_mut(replica) else { return };
                if let Some(at) = entry.lost.iter().position(|held| held.id == *keep) {
                    let kept = entry.lost.remove(at);
                    entry.lost.extend(entry.mandate.replace(kept));
                }
                for held in &mut entry.lost {
                    held.recalling = true;
                    held.next_send = BootTime(0);
                }
                entry.settle_last_cluster();
            }
            HomeRecord::Copied { app, epoch, revision, records } => {
                let mut copy = Copy {
                    epoch: *epoch,
                    revision: *revision,
                    records: records.clone(),
                    adoptable: Default::default(),
                };
                copy.adoptable = copy.app(*app).map(|app| super::Adoptable::of(&app)).unwrap_or_default();
                self.copies.insert(*app, copy);
            }
            HomeRecord::Adopted { app, epoch, former, records } => {
                self.replay_adoption(*app, *epoch, *former, records);
            }
            HomeRecord::Succeeds { app, former } => {
                if let Some(app) = self.apps.get_mut(app) {
                    app.former = *former;
                }
            }
            HomeRecord::KeptBy { app, member, epoch } => {
                if let Some(app) = self.apps.get_mut(app) {
                    app.kept_by.insert(*member, *epoch);
                }
            }
            HomeRecord::Retired { app, common } => self.replay_retirement(*app, common),
            HomeRecord::CopyDropped { app } => {
                self.copies.remove(app);
            }
            HomeRecord::HandedBack { replica, mandate } => {
                if let Some(entry) = self.replica_mut(replica) {
                    entry.mandate = entry.mandate.take().filter(|held| held.id != *mandate);
                    entry.lost.retain(|held| held.id != *mandate);
                    entry.settle_last_cluster();
                }
            }
        }
    }

    pub(super) fn mandate_mut(
        &mut self,
        replica: &ReplicaId,
        mandate: MandateId,
    ) -> Option<&mut HomeMandate> {
        let entry = self.replica_mut(replica)?;
        entry.mandate.iter_mut().chain(&mut entry.lost).find(|held| held.id == mandate)
    }

    /// The records that stand for the present state: a compacted journal.
    #[must_use]
    pub fn snapshot(&self) -> Vec<HomeRecord> {
        let drained =
            |cluster: &ClusterName| HomeRecord::ClusterDrained { cluster: cluster.clone(), drained: true };
        let mut records: Vec<HomeRecord> = self.drained.iter().map(drained).collect();
        for uid in self.apps.keys() {
            records.extend(self.records_of(*uid));
        }
        for (app, copy) in &self.copies {
            let (epoch, revision, bytes) = (copy.epoch, copy.revision, copy.records.clone());
            records.push(HomeRecord::Copied { app: *app, epoch, revision, records: bytes });
        }
        records
    }

    /// The records that stand for one application; none if it is not known.
    #[must_use]
    pub fn records_of(&self, uid: AppUid) -> Vec<HomeRecord> {
        let mut records = Vec::new();
        if let Some(app) = self.apps.get(&uid) {
            records.push(HomeRecord::Applied {
                app: uid,
                epoch: app.epoch,
                generation: app.generation,
                spec: app.spec.clone(),
                created: app.created,
            });
            for ((service, index), entry) in &app.replicas {
                let replica = ReplicaId { app: uid, service: service.clone(), index: *index };
                snapshot_replica(&replica, entry, &mut records);
            }
            let kept_by = app.kept_by.iter();
            records.extend(kept_by.map(|(member, epoch)| HomeRecord::KeptBy {
                app: uid,
                member: *member,
                epoch: *epoch,
            }));
            if app.former.is_some() {
                records.push(HomeRecord::Succeeds { app: uid, former: app.former });
            }
            if app.retired {
                records.push(HomeRecord::Retired { app: uid, common: Vec::new() });
            } else if app.deleting {
                records.push(HomeRecord::Deleting { app: uid });
            }
        }
        records
    }

    /// An application of another home, from the records that stand for it and what that home last heard of its copies.
    /// `None` if the records are not such as a home writes for one application.
    #[must_use]
    pub fn app_of(uid: AppUid, records: &[HomeRecord], heard: &[Heard]) -> Option<App> {
        if !super::foreign::stand_for(uid, records) {
            return None;
        }
        let scratch = super::HomeConfig::new(codeco_protocol::ids::MemberId(0), 0);
        let mut home = Home::recover(scratch, records);
        let mut app = home.apps.remove(&uid)?;
        for (service, index, generation, node, token, run) in heard {
            let replica = app.replicas.get_mut(&(service.clone(), *index));
            if let Some(held) = replica.and_then(|replica| replica.mandate.as_mut()) {
                held.accepted = Some((*generation, node.clone(), *token));
                held.run = Some(*run);
            }
        }
        Some(app)
    }
}

fn snapshot_replica(replica: &ReplicaId, entry: &HomeReplica, records: &mut Vec<HomeRecord>) {
    let replica = || replica.clone();
    for held in &entry.lost {
        snapshot_mandate(&replica(), held, records);
        records.push(HomeRecord::Lost { replica: replica(), mandate: held.id, recalled: held.recalling });
    }
    if entry.next_mandate > 0 && entry.newest() != Some(MandateId(entry.next_mandate - 1)) {
        // Numbers are never used twice, so the last one is kept even if no cluster has it.
        let mandate = MandateId(entry.next_mandate - 1);
        if let Some(cluster) = entry.last_cluster.clone() {
            records.push(HomeRecord::Mandated { replica: replica(), mandate, cluster });
            records.push(HomeRecord::HandedBack { replica: replica(), mandate });
        }
    }
    if let Some(held) = &entry.mandate {
        snapshot_mandate(&replica(), held, records);
        if held.recalling {
            records.push(HomeRecord::Recalling { replica: replica(), mandate: held.id });
        }
    }
}

fn snapshot_mandate(replica: &ReplicaId, held: &HomeMandate, records: &mut Vec<HomeRecord>) {
    let replica = || replica.clone();
    let (mandate, cluster) = (held.id, held.cluster.clone());
    records.push(HomeRecord::Mandated { replica: replica(), mandate, cluster });
    if held.limit.is_some() || held.grace.0 > 0 {
        let (limit, grace) = (held.limit, held.grace);
        records.push(HomeRecord::Bounded { replica: replica(), mandate, limit, grace });
    }
    if let Some(term) = held.rule.offered_to {
        records.push(HomeRecord::Offered { replica: replica(), mandate, term });
    }
    if held.rolling.is_some() {
        let pick = held.rolling;
        records.push(HomeRecord::Rolling { replica: replica(), mandate, pick });
    }
}

impl HomeReplica {
    /// The cluster that had a mandate last, as a snapshot tells it: of those that are out, lost ones first and the present
    /// one last; where the last number is not among them, whoever had that.
    fn settle_last_cluster(&mut self) {
        let last = self.next_mandate.checked_sub(1).map(MandateId);
        let lost = self.lost.last().filter(|_| self.newest() == last);
        if let Some(held) = self.mandate.as_ref().or(lost) {
            self.last_cluster = Some(held.cluster.clone());
        }
    }

    /// The highest number of a mandate that some cluster has.
    fn newest(&self) -> Option<MandateId> {
        self.mandate.iter().chain(&self.lost).map(|held| held.id).max()
    }
}

impl App {
    /// What was last heard of its copies.
    #[must_use]
    pub fn heard(&self) -> Vec<Heard> {
        let held = self.replicas.iter().filter_map(|(key, replica)| Some((key, replica.mandate.as_ref()?)));
        held.filter_map(|((service, index), held)| {
            let (generation, node, token) = held.accepted.clone()?;
            Some((service.clone(), *index, generation, node, token, held.run?))
        })
        .collect()
    }
}
