//! I6: reconnecting deletes nothing without its owner's newer epoch. What runs is stopped only by a newer decision: of its
//! home, or of its lead, which has placed it anew.

use std::collections::{BTreeMap, BTreeSet};

use codeco_actors::swm::attempt::Stage;
use codeco_actors::swm::election::elector::{ElectionRecord, Entry};
use codeco_actors::swm::home::HomeRecord;
use codeco_actors::swm::lead::{Lead, LeadRecord};
use codeco_actors::swm::ledger::LedgerRecord;
use codeco_protocol::ids::{AppUid, MemberId, NodeName, ReplicaId, ServiceName};
use codeco_protocol::messages::ControlMessage;
use codeco_protocol::token::{MandateId, Token};
use codeco_protocol::units::BootTime;
use codeco_protocol::workload::PartitionPolicy;

use super::super::world::World;
use crate::invariant::{Invariant, Violation, check};

/// How long an order of a lead may wait for its records.
const HELD_BACK: u64 = 3_000_000;

/// What homes and leads have decided, as far as it can make a copy stop.
#[derive(Debug, Default)]
pub(crate) struct Stops {
    recalled: BTreeSet<(ReplicaId, MandateId)>,
    /// Of two copies the one that stays: all others go.
    kept: BTreeMap<ReplicaId, BTreeSet<MandateId>>,
    given_up: BTreeMap<ReplicaId, MandateId>,
    generations: BTreeMap<(AppUid, ServiceName), u64>,
    deleting: BTreeSet<AppUid>,
    /// Generation of every promise ever written.
    promised: BTreeMap<(ReplicaId, Token), u64>,
    /// What leads have ordered to stop, for good reason.
    ordered: BTreeSet<(ReplicaId, Token)>,
    /// Mandates that leads of each cluster said they have placed, not handed back since.
    accepted: BTreeMap<usize, BTreeSet<(ReplicaId, MandateId)>>,
    last_lead: BTreeMap<usize, MemberId>,
    /// When leads last found homes silent for too long.
    silent: BTreeMap<(usize, MemberId), u64>,
}

impl Stops {
    pub(crate) fn home_wrote(&mut self, record: &HomeRecord) {
        match record {
            HomeRecord::Applied { app, spec, .. } => {
                for service in &spec.services {
                    self.generations.insert((*app, service.name.clone()), service.spec.generation);
                }
            }
            HomeRecord::Deleting { app } => {
                self.deleting.insert(*app);
            }
            HomeRecord::Recalling { replica, mandate }
            | HomeRecord::Lost { replica, mandate, recalled: true } => {
                self.recalled.insert((replica.clone(), *mandate));
            }
            HomeRecord::Reconciled { replica, keep } => {
                self.kept.entry(replica.clone()).or_default().insert(*keep);
            }
            _ => {}
        }
    }

    pub(crate) fn ledger_wrote(&mut self, record: &LedgerRecord) {
        if let LedgerRecord::Committed { replica, token, spec } = record {
            self.promised.insert((replica.clone(), *token), spec.generation);
        }
    }

    /// Notes which homes a lead has not heard for so long that it must stop what may run once: counted from when they were
    /// asked what they have answered last; a new lead has asked nothing that was answered.
    pub(crate) fn note_silence(&mut self, now: u64, clock: BootTime, at: usize, lead: &Lead) {
        for (_, m) in lead.mandates() {
            let Some(limit) = m.spec.lost_after.filter(|_| m.spec.partition == PartitionPolicy::Fence) else {
                continue;
            };
            if lead.home_asked(m.home.owner).is_none_or(|asked| clock >= asked + limit) {
                self.silent.insert((at, m.home.owner), now);
            }
        }
    }

    /// Whether a lead has found a home silent within the last moments.
    fn was_silent(&self, now: u64, at: usize, home: MemberId) -> bool {
        self.silent.get(&(at, home)).is_some_and(|when| now < when + HELD_BACK)
    }

    pub(crate) fn accepted(&self, cluster: usize) -> impl Iterator<Item = &(ReplicaId, MandateId)> {
        self.accepted.get(&cluster).into_iter().flatten()
    }

    /// Whether another member led before.
    pub(crate) fn led_by(&mut self, cluster: usize, lead: MemberId) -> bool {
        self.last_lead.insert(cluster, lead).is_some_and(|before| before != lead)
    }

    fn has_newer_decision(&self, replica: &ReplicaId, token: Token, returned: bool) -> bool {
        let Some(generation) = self.promised.get(&(replica.clone(), token)) else {
            // Never promised: nothing runs that could be stopped.
            return true;
        };
        let newest = self.generations.get(&(replica.app, replica.service.clone()));
        returned
            || self.kept.get(replica).into_iter().flatten().any(|keep| *keep != token.mandate)
            || self.deleting.contains(&replica.app)
            || self.recalled.contains(&(replica.clone(), token.mandate))
            || self.given_up.get(replica).is_some_and(|back| *back >= token.mandate)
            || newest.is_none_or(|newest| newest > generation)
    }
}

/// Where replicas were placed last.
#[derive(Debug, Default)]
pub(crate) struct Places(BTreeMap<ReplicaId, (usize, NodeName, MandateId)>);

impl Places {
    /// Where a replica was placed last.
    pub(crate) fn last(&self, replica: &ReplicaId) -> Option<&(usize, NodeName, MandateId)> {
        self.0.get(replica)
    }

    /// Whether a placement is on another node, and in another cluster, than the last.
    pub(crate) fn placed(
        &mut self,
        replica: &ReplicaId,
        cluster: usize,
        node: &NodeName,
        mandate: MandateId,
    ) -> (bool, bool) {
        let last = self.0.insert(replica.clone(), (cluster, node.clone(), mandate));
        last.map_or((false, false), |last| (last.1 != *node, last.0 != cluster))
    }
}

impl World {
    /// A lead has written: what it gives up is no longer its to keep.
    pub(crate) fn elector_wrote(&mut self, at: usize, record: &ElectionRecord) {
        let Some(cluster) = self.machines[at].cluster() else { return };
        let elector = self.machines[at].process.as_ref().and_then(|process| process.elector.as_ref());
        let leads = elector.is_some_and(|elector| elector.in_office().is_some());
        let ElectionRecord::Appended { entry: Entry::Lead(record), .. } = record else { return };
        if let (LeadRecord::HandedBack { replica, mandate, .. }, true) = (record, leads) {
            self.counts.handed_back += 1;
            let stops = &mut self.oracles.stops;
            let known = stops.given_up.entry(replica.clone()).or_default();
            *known = (*known).max(*mandate);
            stops.accepted.entry(cluster).or_default().remove(&(replica.clone(), *mandate));
        }
    }

    pub(crate) fn home_wrote(&mut self, at: usize, record: &HomeRecord) -> Result<(), Violation> {
        self.oracles.single.home_wrote(record)?;
        self.oracles.stops.home_wrote(record);
        self.oracles.deleted.home_wrote(record);
        match record {
            HomeRecord::HandedBack { replica, mandate } => {
                self.machines[at].offered.remove(&(replica.clone(), *mandate));
            }
            HomeRecord::Recalling { .. } => self.counts.recalls += 1,
            HomeRecord::Removed { .. } => self.counts.removed += 1,
            _ => {}
        }
        if !matches!(record, HomeRecord::Applied { .. }) {
            let name = &self.machines[at].name;
            self.log.line(self.now, format_args!("{name} home journals {record:?}"));
        }
        Ok(())
    }

    /// A lead stops what runs only for a newer decision: the home's, or its own newer placement.
    pub(crate) fn check_lead_orders(&mut self, at: usize, message: &ControlMessage) -> Result<(), Violation> {
        self.check_known(at, message)?;
        let cluster = self.machines[at].cluster().unwrap_or(0);
        let orders: Vec<(ReplicaId, Token)> = match message {
            ControlMessage::Close { replica, token, .. } => vec![(replica.clone(), *token)],
            ControlMessage::LeaseGrant { revoke, .. } if revoke.is_empty() => return Ok(()),
            ControlMessage::LeaseGrant { revoke, .. } => revoke.clone(),
            ControlMessage::Accepted { replica, mandate, .. } => {
                let elector = self.machines[at].process.as_ref().and_then(|process| process.elector.as_ref());
                // What is handed back already left its answer behind; it was true when it was given.
                if elector.is_some_and(|e| e.lead().mandates().any(|(known, _)| known == replica)) {
                    let accepted = self.oracles.stops.accepted.entry(cluster).or_default();
                    accepted.insert((replica.clone(), *mandate));
                }
                return Ok(());
            }
            _ => return Ok(()),
        };
        for (replica, token) in orders {
            let elector = self.machines[at].process.as_ref().and_then(|process| process.elector.as_ref());
            let mandate = elector.and_then(|e| e.lead().mandates().find(|(id, _)| **id == replica));
            let placed = mandate.and_then(|(_, m)| m.stage.placement());
            let closing =
                mandate.is_some_and(|(_, m)| matches!(m.stage, Stage::Closing(p) if p.token == token));
            let replaced = placed.is_some_and(|p| p.token != token);
            let holds = |at: usize, drained_only: bool| {
                self.machines[at].node.as_ref().is_some_and(|node| {
                    (!drained_only || node.drained)
                        && node
                            .runtime
                            .processes()
                            .any(|p| p.runs() && p.workload.replica == replica && p.workload.token == token)
                })
            };
            let runs = self.nodes_of(cluster).any(|at| holds(at, false));
            let drained = self.nodes_of(cluster).any(|at| holds(at, true));
            let limit = mandate
                .and_then(|(_, m)| m.spec.lost_after.filter(|_| m.spec.partition == PartitionPolicy::Fence));
            // What may run once ends with its home's silence. What a lead decides leaves when its records are safe.
            let home = mandate.map(|(_, m)| m.home.owner);
            let silent = home.is_some_and(|home| self.oracles.stops.was_silent(self.now, at, home));
            let silent = silent && limit.is_some();
            let stops = &self.oracles.stops;
            let again = stops.ordered.contains(&(replica.clone(), token));
            let returned = self.oracles.single.is_returned(&replica, token.mandate);
            let newer = stops.has_newer_decision(&replica, token, returned);
            check(!runs || again || replaced || drained || newer || silent, Invariant::Stops, || {
                format!(
                    "{} stops {replica} {token}; its own placement is {placed:?}, closing: {closing}",
                    self.machines[at].name
                )
            })?;
            self.oracles.stops.ordered.insert((replica, token));
        }
        Ok(())
    }

    /// A node stops what runs only by order, or if its journal says that it must not run.
    pub(crate) fn check_stop(&self, at: usize, replica: &ReplicaId, token: Token) -> Result<(), Violation> {
        let Some(node) = &self.machines[at].node else { return Ok(()) };
        let runs =
            node.runtime.processes().any(|p| p.workload.replica == *replica && p.workload.token == token);
        let ordered = self.oracles.stops.ordered.contains(&(replica.clone(), token));
        check(!runs || ordered, Invariant::Stops, || {
            format!("{} stops {replica} {token}, which nobody ordered", self.machines[at].name)
        })
    }
}
