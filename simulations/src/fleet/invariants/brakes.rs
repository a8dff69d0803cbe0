//! Brakes hold: while a lead misses most of its nodes, nothing of theirs is moved; and never are more copies moved in a
//! second than the pace allows.

use std::collections::{BTreeMap, VecDeque};

use super::super::world::World;
use crate::invariant::{Invariant, Violation, check};

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

impl World {
    /// No lead whose brake is engaged has a replica of a node it misses under way to another.
    pub(crate) fn check_brakes(&self) -> Result<(), Violation> {
        for (_, machine, _) in self.nodes() {
            let Some(elector) = machine.process.as_ref().and_then(|process| process.elector.as_ref()) else {
                continue;
            };
            let Some(lead) = elector.in_office() else { continue };
            let held = lead.brake().is_none_or(|brake| brake.missing.is_most() || brake.held == 0);
            check(held, Invariant::Brakes, || format!("{}: {:?}", machine.name, lead.brake()))?;
        }
        Ok(())
    }
}
