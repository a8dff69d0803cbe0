//! Brakes hold: while a lead misses most of its nodes, nothing of theirs is moved; and never are more copies moved in a
//! second than the pace allows.

use std::collections::{BTreeMap, VecDeque};

use super::i6_stops::Places;
use crate::invariant::{Invariant, Violation, check};
use codeco_actors::swm::attempt::Stage;
use codeco_actors::swm::brake::Missing;
use codeco_actors::swm::lead::Lead;
use codeco_protocol::ids::{MemberId, NodeName, ReplicaId};

/// What a node has just said: of which replicas, and who it is, if it said all that it holds.
#[derive(Debug, Default)]
pub(crate) struct Said {
    pub(crate) replicas: Vec<ReplicaId>,
    pub(crate) by: Option<MemberId>,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Brakes {
    /// When copies of each cluster were moved within the last second.
    moved: BTreeMap<usize, VecDeque<u64>>,
    /// Most within a second, of any cluster.
    pub(crate) most: u64,
}

impl Brakes {
    pub(crate) fn placed(&mut self, now: u64, cluster: usize, moved: bool) {
        if !moved {
            return;
        }
        let times = self.moved.entry(cluster).or_default();
        times.push_back(now);
        while times.front().is_some_and(|at| at + 1_000_000 < now) {
            times.pop_front();
        }
        self.most = self.most.max(times.len() as u64);
    }
}

impl Brakes {
    /// A lead is about to take a step: what waits for a node that it misses, if most are missing.
    pub(crate) fn before(&mut self, lead: &Lead) -> Vec<ReplicaId> {
        let (mut lost, mut of) = (0, 0);
        for (_, member) in lead.members() {
            of += 1;
            lost += usize::from(member.lost);
        }
        let most = Missing { silent: lost, of }.is_most();
        if lost == 0 || !(most || lead.brake().is_some()) {
            return Vec::new();
        }
        lead.waiting_for_nodes().cloned().collect()
    }

    /// It has taken it, perhaps on a node's word: of what that is not about, nothing is under way to another node now,
    /// unless the brake was released.
    pub(crate) fn stepped(
        &mut self,
        lead: &Lead,
        waiting: &[ReplicaId],
        places: &Places,
        told: &Said,
    ) -> Result<(), Violation> {
        if waiting.is_empty() {
            return Ok(());
        }
        let lost = lead.members().filter(|(_, member)| member.lost).count();
        let missing = Missing { silent: lost, of: lead.members().count() };
        if lead.brake().is_none() && !missing.is_most() {
            return Ok(());
        }
        for (replica, mandate) in lead.mandates().filter(|(replica, _)| waiting.contains(replica)) {
            // One whose node has come back without it need not wait any more.
            let missed = |name: &NodeName| {
                lead.members().any(|(node, m)| m.lost && m.name == *name && Some(node) != told.by)
            };
            let from = places.last(replica).is_some_and(|(_, name, _)| missed(name));
            let moves =
                from && !told.replicas.contains(replica) && matches!(mandate.stage, Stage::Reserving(_));
            check(!moves, Invariant::Brakes, || {
                format!("{replica} is placed anew while {missing:?} and its brake is {:?}", lead.brake())
            })?;
        }
        Ok(())
    }
}
