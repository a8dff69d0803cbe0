//! Rolling a changed service out within its disruption budget, and moving copies off what is being drained.
//!
//! A lead knows only the copies of its own cluster, so the home says who may be replaced when. It picks a few replicas
//! of a service, writes that down, lets their leads replace them, and picks the next ones once those are there again.
//! Copies of which it does not know that they serve count as not serving. A pick whose new copy does not become ready
//! stays picked: the rollout stops there until a newer specification comes.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use bincode::{Decode, Encode};
use codeco_protocol::ids::{AppUid, ClusterName, ReplicaId, ServiceName};
use codeco_protocol::messages::{Leaving, Replace};
use codeco_protocol::token::{MandateId, Token};
use codeco_protocol::units::BootTime;
use codeco_protocol::workload::PartitionPolicy;

use super::constraints::leaders_of;
use super::{App, Home, HomeMandate, HomeOutput, HomeRecord, HomeReplica, ServiceSpec};
use crate::swm::lead::is_available;

/// What may be done with a replica that is being changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Pick {
    /// Up to which generation.
    pub generation: u64,
    /// Whether its copy may be stopped before the next one is there. Once given, it counts until the change is done:
    /// the lead may have heard of it.
    pub stop_first: bool,
}

/// How far a change of a service has come.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Progress {
    /// Replicas wanted.
    pub wanted: u32,
    /// Replicas known to serve under the newest specification, on a node that keeps them.
    pub current: u32,
    /// Replicas known to serve, under whatever specification.
    pub available: u32,
    /// Replicas being replaced now.
    pub moving: Vec<u32>,
    /// Replicas that are to be replaced, and wait for others to be there again.
    pub waiting: Vec<u32>,
}

impl Progress {
    /// Whether something is still to be replaced.
    #[must_use]
    pub fn is_under_way(&self) -> bool {
        !self.moving.is_empty() || !self.waiting.is_empty()
    }
}

impl Home {
    /// Ends picks that have come through, and makes new ones.
    pub(super) fn pace_changes(&mut self, out: &mut Vec<HomeOutput>) {
        let mut records = Vec::new();
        for (uid, app) in self.apps.iter().filter(|(_, app)| !app.deleting) {
            for service in &app.spec.services {
                self.pace_service(*uid, app, service, &mut records);
            }
        }
        for (replica, mandate, pick) in records {
            self.record(HomeRecord::Rolling { replica, mandate, pick }, out);
        }
    }

    fn pace_service(
        &self,
        uid: AppUid,
        app: &App,
        service: &ServiceSpec,
        records: &mut Vec<(ReplicaId, MandateId, Option<Pick>)>,
    ) {
        let newest = service.spec.generation;
        // Copies that go where others are wait until those are there.
        if leaders_of(&app.spec.services, &app.spec.context.channels, service)
            .map(|leader| self.progress(uid, &leader.name))
            .any(|progress| progress.current < progress.wanted)
        {
            return;
        }
        let id = |index| ReplicaId { app: uid, service: service.name.clone(), index };
        let (mut moving, mut absent) = (0, 0);
        let mut candidates = Vec::new();
        for index in 0..service.replicas {
            let Some(held) = app.replica(&service.name, index).and_then(|r| r.mandate.as_ref()) else {
                absent += 1;
                continue;
            };
            let (serves, leaves) = (self.serves(held), self.is_leaving(held));
            let reached = held.accepted.as_ref().map(|(generation, ..)| *generation);
            let done = |pick: &Pick| serves && !leaves && reached >= Some(pick.generation);
            let pick = held.rolling.filter(|pick| !done(pick));
            if pick != held.rolling {
                records.push((id(index), held.id, None));
            }
            let may_stop = pick.is_some_and(|pick| pick.stop_first);
            moving += u32::from(pick.is_some());
            absent += u32::from(may_stop || !serves);
            if !held.recalling && reached.is_some_and(|reached| reached < newest || leaves) {
                candidates.push((pick.is_none(), serves, index, held.id, pick));
            }
        }
        // First those whose change costs nothing: they are being changed already, or do not serve.
        candidates.sort_unstable();
        let at_once = service.max_unavailable.max(1);
        for (fresh, serves, index, mandate, before) in candidates {
            let costs = fresh && serves;
            let mut pick =
                Pick { generation: newest, stop_first: before.is_some_and(|pick| pick.stop_first) };
            // A pick that does not serve is among the absent already, and may stop if the others leave it room.
            let others = absent - u32::from(pick.stop_first || !serves);
            let fits = others < service.max_unavailable;
            if costs && (moving >= at_once || (service.spec.partition == PartitionPolicy::Fence && !fits)) {
                continue;
            }
            moving += u32::from(fresh);
            absent += u32::from(fits && serves && !pick.stop_first);
            pick.stop_first |= fits;
            if before != Some(pick) {
                records.push((id(index), mandate, Some(pick)));
            }
        }
    }

    /// Whether a copy is known to serve now. What cannot be reached is not known.
    fn serves(&self, held: &HomeMandate) -> bool {
        !held.recalling
            && held.accepted.is_some()
            && held.run.is_some_and(is_available)
            && self.clusters.get(&held.cluster).is_some_and(|facts| facts.reachable)
    }

    /// Whether a copy is to leave its node, or its cluster.
    fn is_leaving(&self, held: &HomeMandate) -> bool {
        held.leaving != Leaving::No || self.drained.contains(&held.cluster)
    }

    /// Whether a picked copy can only go to another cluster.
    fn is_to_migrate(&self, held: &HomeMandate) -> bool {
        held.leaving == Leaving::Away || self.drained.contains(&held.cluster)
    }

    /// What the lead of `replica` may do with the copy it has.
    pub(super) fn allowance(&self, replica: &ReplicaId) -> (Replace, Option<Token>) {
        let nothing = (Replace::Keep, None);
        let Some(app) = self.apps.get(&replica.app) else { return nothing };
        let service = app.spec.services.iter().find(|s| s.name == replica.service);
        let held = app.replica(&replica.service, replica.index).and_then(|r| r.mandate.as_ref());
        let (Some(service), Some(held)) = (service, held) else { return nothing };
        match (&held.accepted, held.rolling) {
            // One that is to go to another cluster stays as it is until that has been found.
            (Some(_), Some(_)) if self.is_misplaced(app, &(replica.service.clone(), replica.index), held) => {
                nothing
            }
            (Some((_, _, token)), Some(pick)) if pick.generation == service.spec.generation => {
                let replace = if pick.stop_first { Replace::StopFirst } else { Replace::Overlap };
                (replace, Some(*token))
            }
            _ => nothing,
        }
    }

    /// Picked replicas that only another cluster can take: they are bid for before their mandates are asked back.
    pub(super) fn wants_to_migrate(&self, app: &App, key: &(ServiceName, u32)) -> bool {
        app.replicas.get(key).and_then(|r| r.mandate.as_ref()).is_some_and(|held| {
            held.rolling.is_some_and(|pick| pick.stop_first)
                && !held.recalling
                && (self.is_to_migrate(held) || self.is_misplaced(app, key, held))
        })
    }

    /// Keeps new replicas out of a cluster and moves what is there elsewhere, or ends that. `false` if that was so.
    pub fn drain_cluster(
        &mut self,
        now: BootTime,
        cluster: &ClusterName,
        drained: bool,
        out: &mut Vec<HomeOutput>,
    ) -> bool {
        if self.drained.contains(cluster) == drained {
            return false;
        }
        self.record(HomeRecord::ClusterDrained { cluster: cluster.clone(), drained }, out);
        self.work(now, out);
        true
    }

    /// Clusters that are being drained.
    pub fn drained(&self) -> impl Iterator<Item = &ClusterName> {
        self.drained.iter()
    }

    /// How far the change of a service has come.
    #[must_use]
    pub fn progress(&self, uid: AppUid, service: &ServiceName) -> Progress {
        let mut progress = Progress::default();
        let Some(app) = self.apps.get(&uid) else { return progress };
        let Some(service) = app.spec.services.iter().find(|s| s.name == *service) else { return progress };
        progress.wanted = service.replicas;
        for index in 0..service.replicas {
            let Some(held) = app.replica(&service.name, index).and_then(|r| r.mandate.as_ref()) else {
                continue;
            };
            let newest =
                held.accepted.as_ref().is_some_and(|(generation, ..)| *generation >= service.spec.generation);
            let (serves, stays) = (self.serves(held), !self.is_leaving(held));
            progress.available += u32::from(serves);
            progress.current += u32::from(serves && newest && stays);
            if held.rolling.is_some() {
                progress.moving.push(index);
            } else if held.accepted.is_some() && !(newest && stays) {
                progress.waiting.push(index);
            }
        }
        progress
    }
}

impl App {
    pub(super) fn replica(&self, service: &ServiceName, index: u32) -> Option<&HomeReplica> {
        self.replicas.get(&(service.clone(), index))
    }
}
