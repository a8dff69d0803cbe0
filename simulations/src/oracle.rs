//! What is true over all hosts, and the invariants that compare it with what a host does.

use std::collections::{BTreeMap, BTreeSet};

use codeco_actors::swm::attempt::Stage;
use codeco_actors::swm::election::elector::Elector;
use codeco_actors::swm::home::HomeRecord;
use codeco_actors::swm::lead::Lead;
use codeco_actors::swm::ledger::LedgerRecord;
use codeco_protocol::ids::{AppUid, MemberId, NodeName, ReplicaId, ServiceName};
use codeco_protocol::messages::{ControlMessage, RunPhase};
use codeco_protocol::token::{MandateId, Token};

use crate::hosts::NodeHost;
use crate::invariant::{Invariant, Violation, check};
use crate::runtime::State;
use crate::world::World;

/// The home's decisions as written to its disk, and where replicas were placed.
#[derive(Debug, Default)]
pub(crate) struct Oracle {
    recalled: BTreeSet<(ReplicaId, MandateId)>,
    /// Those asked back because nobody wanted the replica then.
    unwanted: BTreeSet<(ReplicaId, MandateId)>,
    returned: BTreeMap<ReplicaId, MandateId>,
    given_up: BTreeMap<ReplicaId, MandateId>,
    generations: BTreeMap<(AppUid, ServiceName), u64>,
    deleting: BTreeSet<AppUid>,
    removed: BTreeSet<AppUid>,
    /// Generation of every promise ever written.
    promised: BTreeMap<(ReplicaId, Token), u64>,
    /// What leads have ordered to stop, for good reason.
    ordered: BTreeSet<(ReplicaId, Token)>,
    last_place: BTreeMap<ReplicaId, (usize, NodeName)>,
    /// Copies wanted of each service, and how many a change may take away.
    wanted: BTreeMap<(AppUid, ServiceName), (u32, u32)>,
    /// Copies that a lead has decided to stop, and whether it knew then that they serve. The order leaves later.
    closing: BTreeMap<(ReplicaId, Token), bool>,
    /// Replicas that leads have stopped on purpose while they served, and that do not serve again yet.
    taken_away: BTreeSet<ReplicaId>,
}

impl Oracle {
    pub(crate) fn home_wrote(&mut self, record: &HomeRecord) {
        match record {
            HomeRecord::Applied { app, spec, .. } => {
                for service in &spec.services {
                    self.generations.insert((*app, service.name.clone()), service.spec.generation);
                    let budget = (service.replicas, service.max_unavailable);
                    self.wanted.insert((*app, service.name.clone()), budget);
                }
            }
            HomeRecord::Deleting { app } => {
                self.deleting.insert(*app);
            }
            HomeRecord::Removed { app } => {
                self.removed.insert(*app);
            }
            HomeRecord::Recalling { replica, mandate } => {
                self.recalled.insert((replica.clone(), *mandate));
                if !self.wants(replica) {
                    self.unwanted.insert((replica.clone(), *mandate));
                }
            }
            HomeRecord::HandedBack { replica, mandate } => {
                self.returned.insert(replica.clone(), *mandate);
            }
            _ => {}
        }
    }

    fn wants(&self, replica: &ReplicaId) -> bool {
        let wanted = self.wanted.get(&(replica.app, replica.service.clone()));
        !self.deleting.contains(&replica.app) && wanted.is_some_and(|(replicas, _)| replica.index < *replicas)
    }

    /// What a lead has decided in the step it has just taken.
    pub(crate) fn decided(&mut self, lead: &Lead) {
        for (replica, m) in lead.mandates() {
            match m.stage {
                Stage::Closing(p) => {
                    self.closing.entry((replica.clone(), p.token)).or_insert(m.run == RunPhase::Ready);
                }
                Stage::Held(p) => {
                    self.closing.remove(&(replica.clone(), p.token));
                }
                _ => {}
            }
        }
    }

    /// A copy of a replica is ready.
    pub(crate) fn serves(&mut self, replica: &ReplicaId) {
        self.taken_away.remove(replica);
    }

    /// A lead gives a mandate back.
    pub(crate) fn lead_gave_up(&mut self, replica: &ReplicaId, mandate: MandateId) {
        let known = self.given_up.entry(replica.clone()).or_default();
        *known = (*known).max(mandate);
    }

    /// Whether a placement is on another node, and in another cluster, than the last.
    pub(crate) fn placed(&mut self, replica: &ReplicaId, cluster: usize, node: &NodeName) -> (bool, bool) {
        let last = self.last_place.insert(replica.clone(), (cluster, node.clone()));
        last.map_or((false, false), |last| (last.1 != *node, last.0 != cluster))
    }

    fn is_returned(&self, replica: &ReplicaId, mandate: MandateId) -> bool {
        self.returned.get(replica).is_some_and(|back| *back >= mandate)
    }

    /// Whether something newer than the promise of `token` was decided: by the home, or by the lead that gave it up.
    fn has_newer_decision(&self, replica: &ReplicaId, token: Token) -> bool {
        let Some(generation) = self.promised.get(&(replica.clone(), token)) else {
            // Never promised: nothing runs that could be stopped.
            return true;
        };
        let newest = self.generations.get(&(replica.app, replica.service.clone()));
        self.deleting.contains(&replica.app)
            || self.recalled.contains(&(replica.clone(), token.mandate))
            || self.is_returned(replica, token.mandate)
            || self.given_up.get(replica).is_some_and(|back| *back >= token.mandate)
            || newest.is_none_or(|newest| newest > generation)
    }
}

fn fenced_copies<'a>(host: &'a NodeHost, replica: &'a ReplicaId) -> impl Iterator<Item = Token> + 'a {
    host.runtime
        .processes()
        .filter(move |process| process.runs() && process.is_fenced() && process.workload.replica == *replica)
        .map(|process| process.workload.token)
}

impl World {
    /// A process has begun to run: I2, and nothing that went back.
    pub(crate) fn check_started(
        &self,
        node: usize,
        replica: &ReplicaId,
        token: Token,
    ) -> Result<(), Violation> {
        let fenced = fenced_copies(&self.nodes[node], replica).any(|t| t == token);
        if !fenced {
            return Ok(());
        }
        let copies: Vec<(MemberId, Token)> = self
            .nodes
            .iter()
            .flat_map(|host| fenced_copies(host, replica).map(|token| (host.config.id, token)))
            .collect();
        check(copies.len() == 1, Invariant::Single, || format!("{replica} runs at {copies:?}"))?;
        check(!self.oracle.is_returned(replica, token.mandate), Invariant::Returned, || {
            format!("{replica} {token} starts on {:?}", self.nodes[node].config.id)
        })?;
        check(!self.oracle.removed.contains(&replica.app), Invariant::Deleted, || {
            format!("{replica} {token} starts on {:?}", self.nodes[node].config.id)
        })
    }

    pub(crate) fn check_ledger_record(
        &mut self,
        node: usize,
        record: &LedgerRecord,
    ) -> Result<(), Violation> {
        let LedgerRecord::Committed { replica, token, spec } = record else { return Ok(()) };
        let known = self.oracle.promised.insert((replica.clone(), *token), spec.generation);
        // A node that lost its journal writes down again what it still runs; only new promises count.
        let is_new = known.is_none();
        check(!is_new || !self.oracle.removed.contains(&replica.app), Invariant::Deleted, || {
            format!("{:?} promises {replica} {token}", self.nodes[node].config.id)
        })?;
        check(!is_new || !self.oracle.is_returned(replica, token.mandate), Invariant::Returned, || {
            format!("{:?} promises {replica} {token}", self.nodes[node].config.id)
        })
    }

    /// What comes back to the home must not run.
    pub(crate) fn check_home_record(&self, record: &HomeRecord) -> Result<(), Violation> {
        let HomeRecord::HandedBack { replica, mandate } = record else { return Ok(()) };
        for host in &self.nodes {
            let running = fenced_copies(host, replica).find(|token| token.mandate <= *mandate);
            check(running.is_none(), Invariant::Returned, || {
                format!(
                    "{replica} mandate {} is back, and runs on {:?}: {running:?}",
                    mandate.0, host.config.id
                )
            })?;
        }
        Ok(())
    }

    /// I6: a lead stops what runs only for a newer decision: the home's, or its own newer placement.
    pub(crate) fn check_lead_orders(
        &mut self,
        node: usize,
        message: &ControlMessage,
    ) -> Result<(), Violation> {
        let orders: Vec<(ReplicaId, Token)> = match message {
            ControlMessage::Close { replica, token, .. } => vec![(replica.clone(), *token)],
            ControlMessage::LeaseGrant { revoke, .. } => revoke.clone(),
            _ => return Ok(()),
        };
        for (replica, token) in orders {
            let placed = self.electors[node]
                .elector
                .as_ref()
                .map(Elector::lead)
                .and_then(|lead| lead.mandates().find(|(id, _)| **id == replica))
                .and_then(|(_, m)| m.stage.placement());
            let replaced = placed.is_some_and(|p| p.token != token);
            let runs = self.nodes.iter().flat_map(|host| host.runtime.processes()).any(|process| {
                process.runs() && process.workload.replica == replica && process.workload.token == token
            });
            let drained = self.nodes.iter().any(|host| {
                host.drained
                    && host
                        .runtime
                        .processes()
                        .any(|p| p.workload.replica == replica && p.workload.token == token)
            });
            let again = self.oracle.ordered.contains(&(replica.clone(), token));
            check(
                !runs || again || replaced || drained || self.oracle.has_newer_decision(&replica, token),
                Invariant::Stops,
                || format!("lead on {node} stops {replica} {token}; its own placement is {placed:?}"),
            )?;
            self.check_budget(node, &replica, token)?;
            self.oracle.ordered.insert((replica, token));
        }
        Ok(())
    }

    /// A lead that stops a copy of which it knows that it serves, and the only one, takes no more away than the budget
    /// of its service allows.
    fn check_budget(&mut self, node: usize, replica: &ReplicaId, token: Token) -> Result<(), Violation> {
        let lead = self.electors[node].elector.as_ref().map(Elector::lead);
        let mandate = lead.and_then(|lead| lead.mandates().find(|(id, _)| *id == replica)).map(|(_, m)| m);
        let closes = mandate.is_some_and(|m| matches!(m.stage, Stage::Closing(p) if p.token == token));
        let by_choice = closes && self.oracle.closing.get(&(replica.clone(), token)) == Some(&true);
        let serving: Vec<Token> = self
            .nodes
            .iter()
            .flat_map(|host| host.runtime.processes())
            .filter(|p| p.state == State::Ready && !p.stopping && p.workload.replica == *replica)
            .map(|p| p.workload.token)
            .collect();
        let unwanted = self.oracle.unwanted.contains(&(replica.clone(), token.mandate));
        if !by_choice || unwanted || !self.oracle.wants(replica) || serving != [token] {
            return Ok(());
        }
        self.counts.taken_away += 1;
        self.oracle.taken_away.insert(replica.clone());
        let service = (replica.app, replica.service.clone());
        let gone: Vec<&ReplicaId> = self
            .oracle
            .taken_away
            .iter()
            .filter(|id| (id.app, id.service.clone()) == service && self.oracle.wants(id))
            .collect();
        let (_, most) = self.oracle.wanted.get(&service).copied().unwrap_or_default();
        check(u32::try_from(gone.len()).is_ok_and(|gone| gone <= most), Invariant::Budget, || {
            format!(
                "lead on {node} stops {replica} {token}; stopped by choice: {gone:?}, at most {most} may be"
            )
        })
    }

    /// I6: a node stops what runs only by order, or if its journal says that it must not run.
    pub(crate) fn check_stop(&self, node: usize, replica: &ReplicaId, token: Token) -> Result<(), Violation> {
        let host = &self.nodes[node];
        let runs =
            host.runtime.processes().any(|p| p.workload.replica == *replica && p.workload.token == token);
        let ordered = self.oracle.ordered.contains(&(replica.clone(), token));
        check(!runs || ordered, Invariant::Stops, || {
            format!("{:?} stops {replica} {token}, which nobody ordered", host.config.id)
        })
    }
}
