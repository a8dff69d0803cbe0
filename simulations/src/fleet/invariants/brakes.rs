//! Brakes hold: while a lead misses most of its nodes, nothing of theirs is moved; and never are more copies moved in a
//! second than the pace allows.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use codeco_protocol::ids::ReplicaId;
use codeco_protocol::messages::ControlMessage;
use codeco_protocol::token::Token;

use super::super::world::World;
use crate::invariant::{Invariant, Violation, check};

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Brakes {
    /// When copies of each cluster were moved within the last second.
    moved: BTreeMap<usize, VecDeque<u64>>,
    /// Places that leads have begun to reserve.
    begun: BTreeSet<(ReplicaId, Token)>,
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

impl World {
    /// A lead reserves a place for a replica: if that was on a node which it misses, no brake is engaged.
    pub(crate) fn check_brake(&mut self, at: usize, message: &ControlMessage) -> Result<(), Violation> {
        let ControlMessage::Reserve { replica, token, .. } = message else { return Ok(()) };
        let cluster = self.machines[at].cluster().unwrap_or(0);
        // What was begun before the brake came is brought to its end.
        if !self.oracles.brakes.begun.insert((replica.clone(), *token)) {
            return Ok(());
        }
        let elector = self.machines[at].process.as_ref().and_then(|process| process.elector.as_ref());
        let Some(lead) = elector.and_then(|elector| elector.in_office()) else { return Ok(()) };
        let Some(brake) = lead.brake() else { return Ok(()) };
        let Some((before, name, known)) = self.oracles.places.last(replica) else { return Ok(()) };
        let same = *before == cluster && *known == token.mandate;
        let missed = same && lead.members().any(|(_, member)| member.lost && member.name == *name);
        check(!missed, Invariant::Brakes, || {
            format!("{} moves {replica} away from {name} with its brake engaged: {brake:?}", self.machines[at].name)
        })
    }
}
