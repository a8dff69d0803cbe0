//! No queue without bound: what waits at a process, and what a journal has grown to, stays below what its size explains.

use super::super::machine::COMPACT_AT;
use super::super::world::World;
use crate::invariant::{Invariant, Violation, check};

/// Events that may wait for each machine.
const EVENTS_EACH: usize = 4_000;

impl World {
    pub(crate) fn check_queues(&self) -> Result<(), Violation> {
        let most = EVENTS_EACH * self.machines.len();
        check(self.queue.len() <= most, Invariant::Bounded, || {
            format!("{} events wait for {} machines", self.queue.len(), self.machines.len())
        })?;
        for machine in &self.machines {
            let disk = &machine.disk;
            let longest = disk.ledger.records.len().max(disk.election.records.len());
            let allowed = COMPACT_AT.max(disk.ledger.compact_at).max(disk.election.compact_at) + 4_096;
            check(longest <= allowed, Invariant::Bounded, || {
                format!("a journal of {} has {longest} records", machine.name)
            })?;
        }
        Ok(())
    }
}
