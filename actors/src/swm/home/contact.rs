//! Clusters that are not heard: what may run elsewhere, and which of two copies stays afterwards.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use codeco_protocol::ids::{ClusterName, MemberId, ReplicaId};
use codeco_protocol::messages::ControlMessage;
use codeco_protocol::token::{MandateId, Term};
use codeco_protocol::units::{BootTime, Micros};
use codeco_protocol::workload::PartitionPolicy;

use super::{App, Home, HomeMandate, HomeNote, HomeOutput, HomeRecord, HomeReplica, OnReconnect};
use crate::swm::contact::HomeContact;
use crate::swm::lead::is_available;

/// What a cluster that has said nothing yet may need: nodes' leases far longer than the default.
const ALLOWANCE: Micros = Micros::from_secs(5);
/// Most clusters that may have an older mandate for one replica that must not run twice.
const LOST_MAX: usize = 8;

impl Home {
    /// A lead asks whether this home is there.
    pub(super) fn handle_watch(
        &mut self,
        now: BootTime,
        from: MemberId,
        cluster: &ClusterName,
        (nonce, term, allowance): (u64, Term, Micros),
        out: &mut Vec<HomeOutput>,
    ) {
        let contact =
            self.contacts.entry(cluster.clone()).or_insert_with(|| HomeContact::assumed(now, ALLOWANCE));
        contact.answered(now, allowance);
        let mut lost = Vec::new();
        for (uid, app) in &self.apps {
            for ((service, index), replica) in &app.replicas {
                let recalled = replica.lost.iter().filter(|held| held.recalling && held.cluster == *cluster);
                lost.extend(
                    recalled.map(|held| {
                        (ReplicaId { app: *uid, service: service.clone(), index: *index }, held.id)
                    }),
                );
            }
        }
        out.push(HomeOutput::Send { to: from, message: ControlMessage::Watched { nonce, term, lost } });
    }

    /// A cluster with a mandate that has said nothing to this life of the home may have been answered just now.
    pub(super) fn assume_contact(&mut self, now: BootTime) {
        let held =
            self.apps.values().flat_map(|app| app.replicas.values()).filter_map(|r| r.mandate.as_ref());
        for held in held.filter(|held| held.limit.is_some()) {
            if !self.contacts.contains_key(&held.cluster) {
                self.contacts.insert(held.cluster.clone(), HomeContact::assumed(now, ALLOWANCE));
            }
        }
    }

    /// Mandates of clusters that have been silent for too long: the replica may go elsewhere.
    pub(super) fn declare_lost(&mut self, now: BootTime, out: &mut Vec<HomeOutput>) {
        let mut records = Vec::new();
        for (uid, app) in self.apps.iter().filter(|(_, app)| !app.deleting) {
            for ((service, index), replica) in &app.replicas {
                let Some(held) = &replica.mandate else { continue };
                let Some(limit) = held.limit else { continue };
                let Some(spec) = app.spec.services.iter().find(|s| s.name == *service).map(|s| &s.spec)
                else {
                    continue;
                };
                let contact = self.contacts.get(&held.cluster).copied();
                let Some(contact) = contact else { continue };
                let fenced = spec.partition == PartitionPolicy::Fence;
                let at = if fenced {
                    contact.ended_at(limit, held.grace.max(spec.stop_grace), self.config.patience)
                } else {
                    contact.silent_at(limit)
                };
                // A copy that needs no lease may run on there: there are never more than two.
                let room = if fenced { replica.lost.len() < LOST_MAX } else { replica.lost.is_empty() };
                if now >= at && room {
                    let replica = ReplicaId { app: *uid, service: service.clone(), index: *index };
                    records.push((replica, held.id, held.cluster.clone(), fenced));
                }
            }
        }
        let due = records.iter().map(|(.., cluster, _)| cluster.clone()).collect();
        let lost = self.look_at_brake(now, due, out);
        for (replica, mandate, cluster, fenced) in records {
            if !lost.contains(&cluster) {
                continue;
            }
            if !self.brake.pace.step(now) {
                break;
            }
            self.gave_up(now, &cluster);
            self.lose(now, replica, mandate, cluster, fenced, out);
        }
    }

    fn lose(
        &mut self,
        now: BootTime,
        replica: ReplicaId,
        mandate: MandateId,
        cluster: ClusterName,
        fenced: bool,
        out: &mut Vec<HomeOutput>,
    ) {
        self.record(HomeRecord::Lost { replica: replica.clone(), mandate, recalled: fenced }, out);
        if let Some(entry) = self.replica_mut(&replica) {
            entry.next_try = now;
            entry.waiting = Some(format!("cluster {cluster} has been silent for too long"));
        }
        out.push(HomeOutput::Note(HomeNote::ClusterLost(replica, cluster, fenced)));
    }

    /// An operator's word: nothing runs in `cluster` any more, or what runs there does not count. Every mandate it has may
    /// be given to others. Returns how many there were.
    pub fn cluster_lost(&mut self, now: BootTime, cluster: &ClusterName, out: &mut Vec<HomeOutput>) -> usize {
        let mut found = Vec::new();
        for (uid, app) in &self.apps {
            for ((service, index), replica) in &app.replicas {
                let fenced = app.partition(service) == PartitionPolicy::Fence;
                if let Some(held) = replica.mandate.as_ref().filter(|held| held.cluster == *cluster) {
                    let id = ReplicaId { app: *uid, service: service.clone(), index: *index };
                    found.push((id, held.id, fenced || held.recalling));
                }
            }
        }
        let count = found.len();
        for (replica, mandate, recalled) in found {
            self.lose(now, replica, mandate, cluster.clone(), recalled, out);
        }
        self.work(now, out);
        count
    }

    /// Replicas of which a cluster that was lost has a copy again: one of both stays, and the other drains once that one
    /// is there.
    pub(super) fn reconcile(&mut self, now: BootTime, out: &mut Vec<HomeOutput>) {
        let mut decided = Vec::new();
        for (uid, app) in &self.apps {
            for ((service, index), replica) in &app.replicas {
                let rule = app.spec.services.iter().find(|s| s.name == *service).map(|s| s.on_reconnect);
                let Some(rule) = rule.filter(|_| app.wants(service, *index)) else { continue };
                let id = ReplicaId { app: *uid, service: service.clone(), index: *index };
                if let Some((keep, drop)) = self.judge(replica, rule) {
                    decided.push((id, keep, drop));
                }
            }
        }
        for (replica, (keep, kept), (drop, dropped)) in decided {
            if keep != drop && !self.brake.pace.step(now) {
                break;
            }
            self.record(HomeRecord::Reconciled { replica: replica.clone(), keep }, out);
            if keep != drop {
                out.push(HomeOutput::Note(HomeNote::Reconciled(replica, kept, dropped)));
            }
        }
    }

    /// Which of two copies stays and which goes, once that can be said: the one that stays is there.
    #[allow(clippy::type_complexity)]
    fn judge(
        &self,
        replica: &HomeReplica,
        rule: OnReconnect,
    ) -> Option<((MandateId, ClusterName), (MandateId, ClusterName))> {
        let original = replica.lost.iter().find(|held| !held.recalling)?;
        // Until it is heard again nothing is known of the original.
        let (_, _, token) = original.accepted.as_ref()?;
        let name = |held: &HomeMandate| (held.id, held.cluster.clone());
        let Some(present) = replica.mandate.as_ref() else { return Some((name(original), name(original))) };
        if present.recalling {
            return None;
        }
        let serves = |held: &HomeMandate| held.accepted.is_some() && held.run.is_some_and(is_available);
        let original_stays = match rule {
            OnReconnect::KeepOriginal => true,
            OnReconnect::KeepNewest => false,
            // A copy placed anew while it was cut off has run for less long than the one it was.
            OnReconnect::LongestRunning => original.before.is_none_or(|before| before == *token),
            OnReconnect::BestScore => {
                let share = |held: &HomeMandate| {
                    self.clusters.get(&held.cluster).map(super::ClusterFacts::free_share)
                };
                share(original) >= share(present)
            }
        };
        let (winner, loser) = if original_stays { (original, present) } else { (present, original) };
        serves(winner).then(|| (name(winner), name(loser)))
    }
}

impl App {
    pub(super) fn partition(&self, service: &codeco_protocol::ids::ServiceName) -> PartitionPolicy {
        let found = self.spec.services.iter().find(|s| s.name == *service);
        // What is not wanted any more is only ever taken back.
        found.map_or(PartitionPolicy::Fence, |s| s.spec.partition)
    }
}
