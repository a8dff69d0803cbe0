//! How a run went, over its time: what plots are made of.

use codeco_protocol::gossip::Liveness;
use serde::Serialize;

use super::world::World;
use crate::runtime::State;

/// The fleet at one moment.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Sample {
    /// Virtual time in seconds.
    pub at_s: f64,
    /// Machines that are up.
    pub up: u64,
    /// Of all pairs of members of a cluster that are up, the share in which the first sees the second as alive.
    pub seen: f64,
    /// Copies wanted.
    pub wanted: u64,
    /// Copies that serve.
    pub ready: u64,
    /// Copies moved to another node so far.
    pub moves: u64,
    /// Orders refused, and reservations run out, so far.
    pub refusals: u64,
    /// Bytes sent by a member in a second, since the last sample.
    pub bytes: f64,
    /// Messages sent by a member in a second, since the last sample.
    pub messages: f64,
    /// Power of all nodes that are up, in watts, as what they promise would have it.
    pub power_w: f64,
}

/// Samples of a run.
#[derive(Debug, Clone, Default)]
pub(crate) struct Series {
    pub(crate) every: u64,
    pub(crate) samples: Vec<Sample>,
    /// What happened: seconds, and in words.
    pub(crate) timeline: Vec<(f64, String)>,
    last: (u64, u64),
}

#[allow(clippy::cast_precision_loss)]
pub(crate) fn seconds(micros: u64) -> f64 {
    micros as f64 / 1e6
}

/// Members whose sight is looked at for a sample, at most.
const OBSERVERS: usize = 200;

impl World {
    #[allow(clippy::cast_precision_loss)]
    pub(crate) fn sample(&mut self) {
        if self.series.every == 0 {
            return;
        }
        self.after(self.series.every, super::world::Event::Sample);
        let up = self.machines.iter().filter(|machine| machine.process.is_some()).count();
        let (mut pairs, mut seen) = (0_u64, 0_u64);
        let step = self.machines.len().div_ceil(OBSERVERS);
        for observer in (self.scenario.fleet.hubs..self.machines.len()).step_by(step) {
            let machine = &self.machines[observer];
            let (Some(process), Some(cluster)) = (&machine.process, machine.cluster()) else { continue };
            for about in self.nodes_of(cluster) {
                if about == observer || self.machines[about].process.is_none() {
                    continue;
                }
                pairs += 1;
                seen += u64::from(process.ring.liveness(self.machines[about].id()) == Some(Liveness::Alive));
            }
        }
        let apps = self.apps();
        let wanted = apps.values().filter(|(_, app)| !app.deleting).flat_map(|(_, app)| &app.spec.services);
        let wanted = wanted.map(|service| u64::from(service.replicas)).sum();
        let ready = self
            .nodes()
            .flat_map(|(_, _, node)| node.runtime.processes())
            .filter(|process| process.state == State::Ready)
            .count();
        let (bytes, messages) = self.sent.iter().fold((0, 0), |sum, sent| (sum.0 + sent.0, sum.1 + sent.1));
        let last = std::mem::replace(&mut self.series.last, (bytes, messages));
        let each = (up.max(1)) as f64 * seconds(self.series.every);
        let (idle, full) = self.scenario.fleet.power_w;
        let power = |(_, machine, node): (usize, &super::machine::Machine, &super::machine::NodePart)| {
            let ledger = machine.process.as_ref()?.ledger.as_ref()?;
            let share = ledger.promised().cpu.as_f64() / node.capacity.cpu.as_f64().max(1.0);
            Some(idle as f64 + share * (full - idle) as f64)
        };
        let power_w = self.nodes().filter_map(power).sum();
        self.series.samples.push(Sample {
            power_w,
            at_s: seconds(self.now),
            up: up as u64,
            seen: if pairs == 0 { 1.0 } else { seen as f64 / pairs as f64 },
            wanted,
            ready: ready as u64,
            moves: self.counts.moves,
            refusals: self.counts.undelivered + self.counts.refused,
            bytes: (bytes - last.0) as f64 / each,
            messages: (messages - last.1) as f64 / each,
        });
    }
}
