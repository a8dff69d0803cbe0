//! I2: a `fence` replica runs on at most one node, given bounded drift, guard delay, true operators.

use std::collections::{BTreeMap, BTreeSet};

use codeco_actors::swm::home::HomeRecord;
use codeco_protocol::ids::ReplicaId;
use codeco_protocol::token::{MandateId, Token};

use super::super::world::World;
use crate::invariant::{Invariant, Violation, check};

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Single {
    /// Where fenced copies run.
    running: BTreeMap<ReplicaId, BTreeSet<(usize, Token)>>,
    /// Mandates that are back at their home.
    returned: BTreeMap<ReplicaId, MandateId>,
    /// Replicas that an operator has declared lost with their cluster, although it may still run them.
    pub(crate) excused: BTreeSet<ReplicaId>,
}

impl Single {
    pub(crate) fn stopped(&mut self, at: usize, replica: &ReplicaId, token: Token) {
        if let Some(copies) = self.running.get_mut(replica) {
            copies.remove(&(at, token));
            if copies.is_empty() {
                self.running.remove(replica);
            }
        }
    }

    /// A home has written that a mandate is back: nothing may run under it.
    pub(crate) fn home_wrote(&mut self, record: &HomeRecord) -> Result<(), Violation> {
        let HomeRecord::HandedBack { replica, mandate } = record else { return Ok(()) };
        let known = self.returned.entry(replica.clone()).or_insert(*mandate);
        *known = (*known).max(*mandate);
        let copies = self.running.get(replica);
        let running = copies.into_iter().flatten().find(|(_, token)| token.mandate <= *mandate);
        check(running.is_none() || self.excused.contains(replica), Invariant::Returned, || {
            format!("{replica} mandate {} is back, and runs: {running:?}", mandate.0)
        })
    }

    pub(crate) fn is_returned(&self, replica: &ReplicaId, mandate: MandateId) -> bool {
        self.returned.get(replica).is_some_and(|back| *back >= mandate)
    }
}

impl World {
    /// A copy has begun to run.
    pub(crate) fn check_started(
        &mut self,
        at: usize,
        replica: &ReplicaId,
        token: Token,
        fenced: bool,
    ) -> Result<(), Violation> {
        // One that needs no lease starts wherever it was promised, until its node hears that it is not wanted any more.
        if !fenced {
            return Ok(());
        }
        self.oracles.deleted.started(&self.machines[at].name, replica, token)?;
        let single = &mut self.oracles.single;
        let copies = single.running.entry(replica.clone()).or_default();
        copies.insert((at, token));
        let excused = single.excused.contains(replica);
        check(copies.len() == 1 || excused, Invariant::Single, || {
            let copies: Vec<_> = copies.iter().map(|(at, token)| (&self.machines[*at].name, token)).collect();
            format!("{replica} runs at {copies:?}")
        })?;
        let returned = self.oracles.single.is_returned(replica, token.mandate);
        check(!returned || excused, Invariant::Returned, || {
            format!("{replica} {token} starts on {}", self.machines[at].name)
        })
    }

    /// At most one lead of a cluster acts at a time.
    pub(crate) fn check_one_lead(&self, at: usize) -> Result<(), Violation> {
        let Some(cluster) = self.machines[at].cluster() else { return Ok(()) };
        let acting: Vec<_> = self
            .nodes_of(cluster)
            .filter_map(|at| {
                let elector = self.machines[at].process.as_ref()?.elector.as_ref()?;
                elector.leads(self.read_clock(at)).then(|| (&self.machines[at].name, elector.lead().term()))
            })
            .collect();
        check(acting.len() <= 1, Invariant::OneLead, || format!("{acting:?}"))
    }

    /// Whoever takes office knows what was promised in its cluster's name.
    pub(crate) fn check_succession(&mut self, at: usize) -> Result<(), Violation> {
        let Some(cluster) = self.machines[at].cluster() else { return Ok(()) };
        let Some(elector) = self.machines[at].process.as_ref().and_then(|p| p.elector.as_ref()) else {
            return Ok(());
        };
        let lead = elector.lead();
        for (replica, mandate) in self.oracles.stops.accepted(cluster) {
            let there = lead.mandates().any(|(id, m)| id == replica && m.mandate >= *mandate);
            check(there, Invariant::Durable, || {
                format!("a lead said Accepted of {replica} mandate {}; the next one: {lead:?}", mandate.0)
            })?;
        }
        let own = self.machines[at].id();
        let changed = self.oracles.stops.led_by(cluster, own);
        self.counts.successions += u64::from(changed);
        Ok(())
    }
}
