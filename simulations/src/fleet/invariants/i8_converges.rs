//! I8: once faults stop and no brake or operator question stands, every feasible replica runs, exactly once, within the
//! published budget.

use std::collections::BTreeMap;

use codeco_actors::swm::attempt::Stage;
use codeco_actors::swm::home::{App, ServiceSpec};
use codeco_actors::swm::lead::Lead;
use codeco_protocol::ids::{AppUid, ReplicaId};
use codeco_protocol::messages::HeldPhase;
use codeco_protocol::token::Token;

use super::super::world::World;
use crate::runtime::State;

/// A copy that runs: where, under which token, of which generation, how far.
type Copy = (usize, Token, u64, State);

impl World {
    /// What is not yet as it must be; nothing if all has converged.
    pub(crate) fn unsettled(&self) -> Option<String> {
        if let Some(machine) = self.machines.iter().find(|m| m.process.is_none() && !m.is_gone()) {
            return Some(format!("{} is down", machine.name));
        }
        let down = self.machines.iter().filter(|machine| !machine.is_gone()).find(|machine| {
            let process = machine.process.as_ref();
            process.is_some_and(|p| {
                p.home.is_none() || (machine.node.is_some() && (p.ledger.is_none() || p.elector.is_none()))
            })
        });
        if let Some(machine) = down {
            return Some(format!("a core of {} is down", machine.name));
        }
        for (at, cluster) in self.clusters.iter().enumerate() {
            match self.lead_of(at) {
                None => return Some(format!("nobody leads {cluster}")),
                Some((_, lead)) if !lead.is_ready() => {
                    return Some(format!("the lead of {cluster} is not ready"));
                }
                Some(_) => {}
            }
            if let Some(what) = self.electorate_unsettled(at) {
                return Some(what);
            }
        }
        let mut running = self.running();
        for (uid, (home, app)) in self.apps() {
            if app.deleting {
                return Some(format!("{uid:?} is still being deleted: {:?}", app.replicas));
            }
            for service in &app.spec.services {
                for index in 0..service.replicas {
                    let replica = ReplicaId { app: uid, service: service.name.clone(), index };
                    let copies = running.remove(&replica).unwrap_or_default();
                    if let Some(what) = self.unsettled_replica(app, service, &replica, &copies)
                        && !self.waits_for_room(app, service, &replica, &copies)
                    {
                        return Some(format!("{replica} of {}: {what}", self.machines[home].name));
                    }
                }
            }
        }
        // What a home that never comes back has given runs on: nobody else may end it.
        let homeless =
            |token: &Token| self.machine(token.epoch.owner).is_some_and(|at| self.machines[at].is_gone());
        running.retain(|_, copies| !copies.iter().all(|(_, token, ..)| homeless(token)));
        if let Some((replica, copies)) = running.first_key_value() {
            return Some(format!("{replica} is not wanted and runs: {copies:?}"));
        }
        self.leftovers().or_else(|| self.views_differ())
    }

    /// Applications, each at the home of the highest epoch.
    pub(crate) fn apps(&self) -> BTreeMap<AppUid, (usize, &App)> {
        let mut apps: BTreeMap<AppUid, (usize, &App)> = BTreeMap::new();
        for (at, machine) in self.machines.iter().enumerate() {
            let Some(home) = machine.process.as_ref().and_then(|process| process.home.as_ref()) else {
                continue;
            };
            for (uid, app) in home.apps().filter(|(_, app)| !app.retired) {
                if apps.get(&uid).is_none_or(|(_, known)| known.epoch < app.epoch) {
                    apps.insert(uid, (at, app));
                }
            }
        }
        apps
    }

    /// The node that leads a cluster now, and its lead.
    pub(crate) fn lead_of(&self, cluster: usize) -> Option<(usize, &Lead)> {
        let leading = self.nodes_of(cluster).filter_map(|at| {
            let elector = self.machines[at].process.as_ref()?.elector.as_ref()?;
            let lead = elector.in_office().filter(|_| elector.leads(self.read_clock(at)))?;
            Some((at, lead))
        });
        leading.max_by_key(|(_, lead)| lead.term())
    }

    fn running(&self) -> BTreeMap<ReplicaId, Vec<Copy>> {
        let mut running: BTreeMap<ReplicaId, Vec<Copy>> = BTreeMap::new();
        for (at, _, node) in self.nodes() {
            for process in node.runtime.processes() {
                let workload = &process.workload;
                let copy = (at, workload.token, workload.spec.generation, process.state);
                running.entry(workload.replica.clone()).or_default().push(copy);
            }
        }
        running
    }

    /// Whether a replica is missing, or serves under an older specification, for which there is no room: of itself, or of
    /// others of its service that a change has stopped at.
    fn waits_for_room(&self, app: &App, service: &ServiceSpec, replica: &ReplicaId, copies: &[Copy]) -> bool {
        match copies {
            [] => !self.fits_somewhere(service, None),
            [(.., generation, State::Ready)] if *generation < service.spec.generation => {
                let running = self.running();
                let stuck = |index: u32| {
                    let id = ReplicaId { index, ..replica.clone() };
                    match running.get(&id).map_or(&[][..], Vec::as_slice) {
                        [] => !self.fits_somewhere(service, None),
                        [(at, token, generation, _)] => {
                            *generation < service.spec.generation
                                && !self.fits_somewhere(service, Some((*at, *token)))
                        }
                        _ => false,
                    }
                };
                let blocked = (0..service.replicas).filter(|index| stuck(*index)).count();
                // What moves first holds up what comes after it.
                blocked > 0 && (stuck(replica.index) || blocked >= service.max_unavailable as usize)
                    || app.spec.services.iter().any(|other| other.spec.generation > service.spec.generation)
            }
            _ => false,
        }
    }

    /// Whether a node has room for a copy of a service, if one that runs makes way.
    fn fits_somewhere(&self, service: &ServiceSpec, instead: Option<(usize, Token)>) -> bool {
        self.nodes().any(|(at, machine, node)| {
            let ledger = machine.process.as_ref().and_then(|process| process.ledger.as_ref());
            let mut free = ledger.map(codeco_actors::swm::ledger::Ledger::free).unwrap_or_default();
            if let Some((_, token)) = instead.filter(|(from, _)| *from == at) {
                let own = node.runtime.processes().find(|p| p.workload.token == token);
                free = free.plus(&own.map(|p| p.workload.spec.resources.clone()).unwrap_or_default());
            }
            service.spec.resources.fits_in(&free)
                && service.node_selector.iter().all(|wanted| node.ledger.labels.contains(wanted))
        })
    }

    fn unsettled_replica(
        &self,
        app: &App,
        service: &ServiceSpec,
        replica: &ReplicaId,
        copies: &[Copy],
    ) -> Option<String> {
        let (at, token) = match copies {
            [] => return Some("runs nowhere".into()),
            [(at, token, generation, State::Ready)] if *generation == service.spec.generation => {
                (*at, *token)
            }
            other => return Some(format!("generation {} wanted, runs {other:?}", service.spec.generation)),
        };
        let machine = &self.machines[at];
        let ledger = machine.process.as_ref()?.ledger.as_ref()?;
        let held = ledger.entries().find(|(id, _)| *id == replica).and_then(|(_, e)| e.slot.held);
        if held != Some((token, HeldPhase::Committed)) {
            return Some(format!("runs under {token}, its ledger holds {held:?}"));
        }
        let cluster = machine.cluster()?;
        let (_, lead) = self.lead_of(cluster)?;
        let stage = lead.mandates().find(|(id, _)| *id == replica).map(|(_, m)| m.stage);
        if !matches!(stage, Some(Stage::Held(p)) if p.token == token && p.node == machine.id()) {
            return Some(format!("runs under {token}, its lead has {stage:?}"));
        }
        let entry = app.replicas.get(&(replica.service.clone(), replica.index))?;
        let mandate = entry.mandate.as_ref();
        let told = mandate.and_then(|m| m.accepted.as_ref());
        let agrees = mandate.is_some_and(|m| m.cluster == self.clusters[cluster] && m.id == token.mandate)
            && told.is_some_and(|(generation, _, t)| *generation == service.spec.generation && *t == token)
            && entry.lost.is_empty();
        (!agrees).then(|| format!("runs under {token}, its home has {mandate:?}, lost {:?}", entry.lost))
    }

    /// As many voters as the cluster is worth, each in its present life and with every record.
    fn electorate_unsettled(&self, cluster: usize) -> Option<String> {
        let (at, _) = self.lead_of(cluster)?;
        let elector = self.machines[at].process.as_ref()?.elector.as_ref()?;
        let nodes = self.scenario.fleet.nodes;
        let voters: Vec<_> = elector.stored().collect();
        if voters.len() < if nodes >= 3 { 3 } else { 1 } {
            return Some(format!("{nodes} nodes, and {voters:?} vote"));
        }
        for (voter, _, stored) in &voters {
            let at = self.machine(voter.member)?;
            let life = self.machines[at]
                .process
                .as_ref()?
                .elector
                .as_ref()
                .map(codeco_actors::swm::election::elector::Elector::life);
            if life != Some(voter.incarnation) || *stored != Some(elector.last().sequence) {
                return Some(format!(
                    "{voter:?} has life {life:?} and stored {stored:?} of {:?}",
                    elector.last()
                ));
            }
        }
        None
    }

    /// Promises, stops and mandates that nobody needs.
    fn leftovers(&self) -> Option<String> {
        for (_, machine, node) in self.nodes().filter(|(_, machine, _)| !machine.is_gone()) {
            let running: Vec<_> =
                node.runtime.processes().map(|p| (&p.workload.replica, p.workload.token)).collect();
            for (replica, entry) in machine.process.as_ref()?.ledger.as_ref()?.entries() {
                match entry.slot.held {
                    Some((token, HeldPhase::Committed)) if !running.contains(&(replica, token)) => {
                        return Some(format!("{} holds {replica} {token} and does not run it", machine.name));
                    }
                    Some((token, HeldPhase::Stopping)) => {
                        return Some(format!("{} still stops {replica} {token}", machine.name));
                    }
                    _ => {}
                }
            }
        }
        let apps = self.apps();
        for (at, cluster) in self.clusters.iter().enumerate() {
            for (replica, mandate) in self.lead_of(at)?.1.mandates() {
                let known = apps.get(&replica.app).and_then(|(_, app)| {
                    app.replicas.get(&(replica.service.clone(), replica.index))?.mandate.as_ref()
                });
                let right = known.is_some_and(|m| m.id == mandate.mandate && m.cluster == *cluster);
                let gone = self.machine(mandate.home.owner).is_some_and(|at| self.machines[at].is_gone());
                if !right && !gone {
                    let number = mandate.mandate.0;
                    return Some(format!(
                        "the lead of {cluster} has mandate {number} of {replica}, its home {known:?}"
                    ));
                }
            }
        }
        None
    }
}
