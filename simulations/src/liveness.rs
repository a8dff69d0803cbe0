//! I8: what must be so once faults have stopped for a while.

use std::collections::BTreeMap;

use codeco_actors::swm::attempt::Stage;
use codeco_actors::swm::election::elector::Elector;
use codeco_actors::swm::home::{App, ServiceSpec};
use codeco_protocol::ids::ReplicaId;
use codeco_protocol::messages::HeldPhase;
use codeco_protocol::token::Token;

use crate::runtime::State;
use crate::world::World;

impl World {
    /// What is not yet as it must be; nothing if all has converged.
    pub(crate) fn unsettled(&self) -> Option<String> {
        let Some(home) = &self.home.home else { return Some("the home is down".into()) };
        if self.nodes.iter().any(|host| host.ledger.is_none()) {
            return Some("an agent is down".into());
        }
        for (at, cluster) in self.clusters.iter().enumerate() {
            match self.lead_of(at) {
                None => return Some(format!("nobody leads {}", cluster.name)),
                Some((_, lead)) if !lead.is_ready() => {
                    return Some(format!("the lead of {} is not ready", cluster.name));
                }
                Some(_) => {}
            }
            if let Some(what) = self.electorate_unsettled(at) {
                return Some(what);
            }
        }
        let mut running = self.running();
        for (uid, app) in home.apps() {
            if app.deleting {
                return Some(format!("{uid:?} is still being deleted: {:?}", app.replicas));
            }
            for service in &app.spec.services {
                for index in 0..service.replicas {
                    let replica = ReplicaId { app: uid, service: service.name.clone(), index };
                    let copies = running.remove(&replica).unwrap_or_default();
                    if let Some(what) = self.unsettled_replica(app, service, &replica, &copies)
                        && !waits_for_links(app, service, &copies)
                        && !self.waits_for_budget(service, &replica, &copies)
                        && !self.waits_for_room(service, &copies)
                    {
                        return Some(format!("{replica}: {what}"));
                    }
                }
            }
            let extra = app
                .replicas
                .iter()
                .find(|((name, index), r)| !app.wants(name, *index) && r.mandate.is_some());
            if let Some((key, replica)) = extra {
                return Some(format!("{uid:?} {key:?} is not wanted and has {:?}", replica.mandate));
            }
        }
        if let Some((replica, copies)) = running.first_key_value() {
            return Some(format!("{replica} is not wanted and runs: {copies:?}"));
        }
        self.leftovers()
    }

    fn running(&self) -> BTreeMap<ReplicaId, Vec<(usize, Token, u64, State)>> {
        let mut running: BTreeMap<ReplicaId, Vec<_>> = BTreeMap::new();
        for (node, host) in self.nodes.iter().enumerate() {
            for process in host.runtime.processes() {
                let workload = &process.workload;
                let copy = (node, workload.token, workload.spec.generation, process.state);
                running.entry(workload.replica.clone()).or_default().push(copy);
            }
        }
        running
    }

    /// Whether a copy of an older generation serves, and may not be changed because others of its service are away, or
    /// because the change has stopped at others for which there is no room: why is looked at for each of those.
    fn waits_for_budget(
        &self,
        service: &ServiceSpec,
        replica: &ReplicaId,
        copies: &[(usize, Token, u64, State)],
    ) -> bool {
        let running = self.running();
        let blocked = (0..service.replicas).filter(|index| *index != replica.index).filter(|index| {
            let other = ReplicaId { index: *index, ..replica.clone() };
            running.get(&other).is_none_or(|copies| match copies.as_slice() {
                [] => true,
                [(_, _, generation, _)] if *generation == service.spec.generation => false,
                old => self.waits_for_room(service, old),
            })
        });
        let blocked = u32::try_from(blocked.count()).unwrap_or(u32::MAX);
        matches!(copies, [(.., State::Ready)]) && blocked >= service.max_unavailable
    }

    /// Whether a copy of an older generation serves because the newest has room nowhere, not even in its place.
    fn waits_for_room(&self, service: &ServiceSpec, copies: &[(usize, Token, u64, State)]) -> bool {
        let [(node, token, _, State::Ready)] = copies else { return false };
        let own = self.nodes[*node].runtime.processes().find(|p| p.workload.token == *token);
        let own = own.map(|p| p.workload.spec.resources.clone()).unwrap_or_default();
        !self.nodes.iter().enumerate().any(|(at, host)| {
            let free = host.ledger.as_ref().map(codeco_actors::swm::ledger::Ledger::free).unwrap_or_default();
            let free = if at == *node { free.plus(&own) } else { free };
            service.spec.resources.fits_in(&free)
                && service.node_selector.iter().all(|wanted| host.config.labels.contains(wanted))
        })
    }

    fn unsettled_replica(
        &self,
        app: &App,
        service: &ServiceSpec,
        replica: &ReplicaId,
        copies: &[(usize, Token, u64, State)],
    ) -> Option<String> {
        let (node, token) = match copies {
            [] => return self.fits_somewhere(service),
            [(node, token, generation, State::Ready)] if *generation == service.spec.generation => {
                (*node, *token)
            }
            other => return Some(format!("generation {} wanted, runs {other:?}", service.spec.generation)),
        };
        let host = &self.nodes[node];
        let held =
            host.ledger.as_ref()?.entries().find(|(id, _)| *id == replica).and_then(|(_, e)| e.slot.held);
        if held != Some((token, HeldPhase::Committed)) {
            return Some(format!("runs under {token}, its ledger holds {held:?}"));
        }
        let (_, lead) = self.lead_of(host.cluster)?;
        let stage = lead.mandates().find(|(id, _)| *id == replica).map(|(_, m)| m.stage);
        if !matches!(stage, Some(Stage::Held(p)) if p.token == token && p.node == host.config.id) {
            return Some(format!("runs under {token}, its lead has {stage:?}"));
        }
        let mandate =
            app.replicas.get(&(replica.service.clone(), replica.index)).and_then(|r| r.mandate.as_ref());
        let told = mandate.and_then(|m| m.accepted.as_ref());
        let agrees = mandate
            .is_some_and(|m| m.cluster == self.clusters[host.cluster].name && m.id == token.mandate)
            && told.is_some_and(|(generation, _, t)| *generation == service.spec.generation && *t == token);
        (!agrees).then(|| format!("runs under {token}, its home has {mandate:?}"))
    }

    /// As many voters as the cluster is worth, each in its present life and with every record.
    fn electorate_unsettled(&self, cluster: usize) -> Option<String> {
        let (node, _) = self.lead_of(cluster)?;
        let elector = self.electors[node].elector.as_ref()?;
        let nodes = self.nodes.iter().filter(|host| host.cluster == cluster).count();
        let voters: Vec<_> = elector.stored().collect();
        if voters.len() < if nodes >= 3 { 3 } else { 1 } {
            return Some(format!("{nodes} nodes, and {voters:?} vote"));
        }
        for (voter, _, stored) in &voters {
            let at = self.electors.iter().find(|host| host.config.lead.id == voter.member)?;
            let Some(life) = at.elector.as_ref().map(Elector::life) else {
                return Some(format!("the elector of {:?} is down", voter.member));
            };
            if life != voter.incarnation || *stored != Some(elector.last().sequence) {
                return Some(format!(
                    "{voter:?} has life {life:?} and stored {stored:?} of {:?}",
                    elector.last()
                ));
            }
        }
        None
    }

    /// Why a replica that does not run should.
    fn fits_somewhere(&self, service: &ServiceSpec) -> Option<String> {
        let fits = self.nodes.iter().find(|host| {
            let ledger = host.ledger.as_ref();
            let free = ledger.map(codeco_actors::swm::ledger::Ledger::free).unwrap_or_default();
            service.spec.resources.fits_in(&free)
                && service.node_selector.iter().all(|wanted| host.config.labels.contains(wanted))
        })?;
        Some(format!("runs nowhere, {:?} has room", fits.config.id))
    }

    /// Reservations, stops and mandates that nobody needs.
    fn leftovers(&self) -> Option<String> {
        for host in &self.nodes {
            let running: Vec<_> =
                host.runtime.processes().map(|p| (&p.workload.replica, p.workload.token)).collect();
            for (replica, entry) in host.ledger.as_ref()?.entries() {
                match entry.slot.held {
                    Some((token, HeldPhase::Committed)) if !running.contains(&(replica, token)) => {
                        return Some(format!(
                            "{:?} holds {replica} {token} and does not run it",
                            host.config.id
                        ));
                    }
                    Some((token, HeldPhase::Stopping)) => {
                        return Some(format!("{:?} still stops {replica} {token}", host.config.id));
                    }
                    _ => {}
                }
            }
        }
        let home = self.home.home.as_ref()?;
        for (at, host) in self.clusters.iter().enumerate() {
            for (replica, mandate) in self.lead_of(at)?.1.mandates() {
                let known = home.apps().find(|(uid, _)| *uid == replica.app).and_then(|(_, app)| {
                    app.replicas.get(&(replica.service.clone(), replica.index))?.mandate.as_ref()
                });
                let right = known.is_some_and(|m| m.id == mandate.mandate && m.cluster == host.name);
                if !right {
                    return Some(format!(
                        "lead {:?} has mandate {} of {replica}, its home {known:?}",
                        host.name, mandate.mandate.0
                    ));
                }
            }
        }
        None
    }
}

/// Whether an application has ASSURED channels, so that a copy that is missing, or serves under an older generation, may
/// wait for bandwidth rather than for room. That it waits for that is not looked at: invariant I7 is judged instead.
fn waits_for_links(app: &App, service: &ServiceSpec, copies: &[(usize, Token, u64, State)]) -> bool {
    let serves =
        matches!(copies, [(_, _, generation, State::Ready)] if *generation < service.spec.generation);
    !app.spec.context.channels.is_empty() && (copies.is_empty() || serves)
}
