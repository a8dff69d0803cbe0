//! What goes wrong, and what operators do: where and for how long follows from the lot of each act alone, so that leaving
//! one out changes no other.

use codeco_actors::swm::election::elector::Written;
use codeco_actors::swm::election::electorate::Voter;
use codeco_actors::swm::home::{Home, HomeOutput};
use codeco_actors::swm::ledger::{LedgerInput, Upkeep};
use codeco_protocol::ids::ReplicaId;
use codeco_protocol::resources::Resources;
use codeco_protocol::units::{BootTime, Bytes, MilliCpu};
use codeco_protocol::workload::PartitionPolicy;

use super::machine::FOR_GOOD;
use super::net::{MILLION, Side};
use super::scenario::{Act, FaultKind};
use super::world::{Core, Event, World};
use crate::invariant::Violation;

/// A span of seconds as microseconds.
pub(crate) fn micros(seconds: f64) -> u64 {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let micros = (seconds * 1e6).max(0.0) as u64;
    micros
}

impl World {
    pub(crate) fn act(&mut self, act: &Act) -> Result<(), Violation> {
        if self.series.every > 0 && !matches!(act, Act::User { .. }) {
            self.series.timeline.push((super::series::seconds(self.now), act.to_string()));
        }
        match act {
            Act::Fault { kind, lot } => {
                if !self.stormy {
                    return Ok(());
                }
                let mut lot = fastrand::Rng::with_seed(*lot);
                self.counts.faults.add(*kind);
                self.log.line(self.now, format_args!("fault {kind:?}"));
                self.fault(*kind, &mut lot)
            }
            Act::User { lot } if self.stormy => self.user(&mut fastrand::Rng::with_seed(*lot)),
            Act::User { .. } => Ok(()),
            Act::NewApp { lot } => self.new_app(&mut fastrand::Rng::with_seed(*lot)),
            Act::CutClusters { clusters, for_s } => {
                let inside: Vec<usize> =
                    clusters.iter().flat_map(|cluster| self.nodes_of(*cluster)).collect();
                self.cut_off(&inside, micros(*for_s));
                Ok(())
            }
            Act::FailNodes { percent, for_s, lot } => {
                let mut lot = fastrand::Rng::with_seed(*lot);
                self.fail_nodes(*percent, for_s.map(micros), &mut lot)
            }
            Act::Crash { machine, for_s } if *machine < self.machines.len() => {
                self.crash_for(*machine, micros(*for_s))
            }
            Act::Crash { .. } => Ok(()),
            Act::EmptyHub { hub } if *hub < self.scenario.fleet.hubs => self.empty_hub(*hub),
            Act::EmptyHub { .. } => Ok(()),
            Act::ClusterLost { cluster } if *cluster < self.clusters.len() => self.cluster_lost(*cluster),
            Act::ClusterLost { .. } => Ok(()),
        }
    }

    fn any_node(&self, lot: &mut fastrand::Rng) -> usize {
        let hubs = self.scenario.fleet.hubs;
        lot.usize(hubs..self.machines.len())
    }

    fn fault(&mut self, kind: FaultKind, lot: &mut fastrand::Rng) -> Result<(), Violation> {
        let node = self.any_node(lot);
        let cluster = lot.usize(0..self.clusters.len());
        let span = lot.u64(200_000..12_000_000);
        match kind {
            FaultKind::Crash => self.crash(node),
            FaultKind::CrashLead => {
                let at = self.lead_of(cluster).map_or(node, |(at, _)| at);
                self.crash(at)
            }
            FaultKind::CorePanic => {
                let at = lot.usize(0..self.machines.len());
                let cores = [Core::Ledger, Core::Elector, Core::Home];
                self.fail_core(at, cores[lot.usize(0..cores.len())]);
                Ok(())
            }
            FaultKind::Reboot => {
                self.machines[node].down_until = self.now + lot.u64(500_000..8_000_000);
                self.reboot(node)
            }
            FaultKind::DiskLoss => self.lose_disk(node),
            FaultKind::DiskFull => {
                let at = lot.usize(0..self.machines.len());
                self.machines[at].disk.full_until = self.now + span;
                Ok(())
            }
            FaultKind::Pause => {
                let at = lot.usize(0..self.machines.len());
                self.machines[at].held_until = self.now + span;
                Ok(())
            }
            FaultKind::Overload => {
                self.machines[node].slow_until = self.now + span;
                Ok(())
            }
            FaultKind::CutOneWay | FaultKind::CutBothWays => {
                let (a, b) = (lot.usize(0..self.machines.len()), lot.usize(0..self.machines.len()));
                if a != b {
                    self.cut(&[a], &[b], span);
                    if kind == FaultKind::CutBothWays {
                        self.cut(&[b], &[a], span);
                    }
                }
                Ok(())
            }
            FaultKind::Isolate => {
                self.cut_off(&[lot.usize(0..self.machines.len())], span);
                Ok(())
            }
            FaultKind::CutCluster => {
                let inside: Vec<usize> = self.nodes_of(cluster).collect();
                self.cut_off(&inside, 2 * span);
                Ok(())
            }
            FaultKind::Partition => {
                let inside: Vec<usize> = (0..self.machines.len()).filter(|_| lot.bool()).collect();
                self.cut_off(&inside, span);
                Ok(())
            }
            FaultKind::Flap => {
                let inside: Vec<usize> = self.nodes_of(cluster).collect();
                self.flap(&inside, lot);
                Ok(())
            }
            FaultKind::Loss => {
                // Up to a third; faults that are drawn later may end it early.
                self.net.loss = lot.u32(50_000..MILLION / 3);
                Ok(())
            }
            FaultKind::HubCrash if self.scenario.fleet.hubs > 0 => {
                let hub = lot.usize(0..self.scenario.fleet.hubs);
                self.crash_for(hub, lot.u64(200_000..15_000_000))
            }
            FaultKind::HubCrash => Ok(()),
            FaultKind::RollingRestart => {
                let pause = lot.u64(200_000..3_000_000);
                for (index, machine) in self.nodes_of(cluster).enumerate() {
                    let act = Act::Crash { machine, for_s: 0.3 };
                    self.after(pause * index as u64, Event::Act(Box::new(act)));
                }
                Ok(())
            }
            FaultKind::MassFailure => {
                let percent = lot.f64() * 80.0;
                self.fail_nodes(percent, Some(span), lot)
            }
            FaultKind::ForeignUse => {
                let Some(part) = &mut self.machines[node].node else { return Ok(()) };
                let used = lot.u64(0..4) * 100;
                part.foreign = Resources::new(MilliCpu(used), Bytes(used));
                let (capacity, foreign) = (part.capacity.clone(), part.foreign.clone());
                self.feed_ledger(node, LedgerInput::Capacity { capacity, foreign })
            }
            FaultKind::Liar => {
                if let Some(part) = &mut self.machines[node].node {
                    part.lies = true;
                }
                Ok(())
            }
        }
    }

    /// Nothing gets from some machines to others for a while.
    fn cut(&mut self, from: &[usize], to: &[usize], span: u64) {
        let count = self.machines.len();
        let cut = self.net.cut(Side::of(count, from.iter().copied()), Side::of(count, to.iter().copied()));
        self.log.line(self.now, format_args!("cut {cut} from {from:?} to {to:?}"));
        self.after(span, Event::Heal { cut });
        self.watch_cut_links();
    }

    /// Some machines reach nobody else for a while.
    pub(crate) fn cut_off(&mut self, inside: &[usize], span: u64) {
        let outside: Vec<usize> = (0..self.machines.len()).filter(|at| !inside.contains(at)).collect();
        self.cut(inside, &outside, span);
        self.cut(&outside, inside, span);
    }

    fn flap(&mut self, inside: &[usize], lot: &mut fastrand::Rng) {
        let first = self.machines[inside[0]].cluster().unwrap_or(0);
        let mut wait = 0;
        for _ in 0..lot.u32(2..8) {
            let span = lot.u64(100_000..3_000_000);
            #[allow(clippy::cast_precision_loss)]
            let for_s = span as f64 / 1e6;
            let act = Act::CutClusters { clusters: vec![first], for_s };
            self.after(wait, Event::Act(Box::new(act)));
            wait += span + lot.u64(100_000..3_000_000);
        }
    }

    /// Many machines fail in one moment.
    fn fail_nodes(
        &mut self,
        percent: f64,
        span: Option<u64>,
        lot: &mut fastrand::Rng,
    ) -> Result<(), Violation> {
        let hubs = self.scenario.fleet.hubs;
        let mut nodes: Vec<usize> = (hubs..self.machines.len()).collect();
        lot.shuffle(&mut nodes);
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
        let many = (nodes.len() as f64 * percent / 100.0).round() as usize;
        let until = span.map_or(FOR_GOOD, |span| self.now + span);
        for at in nodes.into_iter().take(many) {
            self.machines[at].down_until = until;
            self.reboot(at)?;
        }
        Ok(())
    }

    fn empty_hub(&mut self, hub: usize) -> Result<(), Violation> {
        self.crash_for(hub, 500_000)?;
        let machine = &mut self.machines[hub];
        machine.disk.home.clear();
        machine.offered.clear();
        self.note(hub, format_args!("has lost all it had"));
        Ok(())
    }

    /// The process dies and finds no journal when it comes back. What it ran may run on.
    fn lose_disk(&mut self, at: usize) -> Result<(), Violation> {
        let speaks = self.machines[at].process.as_ref().is_none_or(|process| process.is_home());
        if speaks || !self.machines[at].disk.home.records.is_empty() || !self.can_spare(at) {
            return Ok(());
        }
        self.counts.disk_losses += 1;
        self.crash(at)?;
        self.note(at, format_args!("loses its disk"));
        let machine = &mut self.machines[at];
        machine.disk.ledger.clear();
        machine.disk.election.clear();
        if let Some(node) = &mut machine.node {
            node.told.clear();
        }
        Ok(())
    }

    /// Whether records and votes of a cluster outlive the loss of this disk: its node does not vote, or the voters agree
    /// on who they are, a majority is left without it, and no other is lost already.
    fn can_spare(&self, at: usize) -> bool {
        let Some(cluster) = self.machines[at].cluster() else { return false };
        let known: Vec<_> = self
            .nodes_of(cluster)
            .filter_map(|at| {
                Written::read(&self.machines[at].disk.election.records).ok().map(|written| (at, written))
            })
            .collect();
        let voting = known.iter().filter_map(|(at, written)| {
            let voter = Voter { member: self.machines[*at].id(), incarnation: written.life? };
            let electorate = written.electorate.as_ref()?;
            electorate.contains(voter).then_some((*at, electorate))
        });
        let voting: Vec<_> = voting.collect();
        let Some((_, newest)) = voting.iter().max_by_key(|(_, electorate)| electorate.version()) else {
            return false;
        };
        // Of two voters neither can be spared, so neither can whoever is about to become the second.
        if !voting.iter().any(|(voter, _)| *voter == at) {
            return self.scenario.fleet.nodes < 3 || newest.size() >= 3;
        }
        let agreed = voting.iter().filter(|(_, electorate)| electorate == newest).count();
        newest.size() >= 3 && agreed == newest.size()
    }

    /// An operator says that nothing runs any more in a cluster. If that is wrong, a copy may run twice.
    fn cluster_lost(&mut self, cluster: usize) -> Result<(), Violation> {
        let name = self.clusters[cluster].clone();
        let held: Vec<ReplicaId> = self
            .nodes_of(cluster)
            .filter_map(|at| self.machines[at].node.as_ref())
            .flat_map(|node| node.runtime.processes())
            .filter(|process| process.workload.spec.partition == PartitionPolicy::Fence)
            .map(|process| process.workload.replica.clone())
            .collect();
        self.oracles.single.excused.extend(held);
        self.tell_homes(|home, now, out| {
            home.cluster_lost(now, &name, out);
        })?;
        self.log.line(self.now, format_args!("operator says {name} is lost"));
        Ok(())
    }

    pub(crate) fn set_upkeep(&mut self, at: usize, upkeep: Upkeep) -> Result<(), Violation> {
        let Some(node) = &mut self.machines[at].node else { return Ok(()) };
        node.drained |= upkeep == Upkeep::Draining;
        self.counts.drains += u64::from(upkeep != Upkeep::Open);
        self.feed_ledger(at, LedgerInput::Upkeep(upkeep))
    }

    pub(crate) fn set_cluster_drained(&mut self, cluster: usize, drained: bool) -> Result<(), Violation> {
        let name = self.clusters[cluster].clone();
        self.tell_homes(|home, now, out| {
            home.drain_cluster(now, &name, drained, out);
        })
    }

    /// An operator's word for every home that is there.
    fn tell_homes(
        &mut self,
        mut word: impl FnMut(&mut Home, BootTime, &mut Vec<HomeOutput>),
    ) -> Result<(), Violation> {
        for at in 0..self.machines.len() {
            let now = self.read_clock(at);
            let process = self.machines[at].process.as_mut();
            let Some(home) = process.and_then(|process| process.home.as_mut()) else { continue };
            let mut out = Vec::new();
            word(home, now, &mut out);
            self.carry_home(at, out)?;
        }
        Ok(())
    }

    /// From now on everything works. Who is down comes back within seconds.
    pub(crate) fn end_faults(&mut self) -> Result<(), Violation> {
        self.log.line(self.now, format_args!("faults end"));
        self.series.timeline.push((super::series::seconds(self.now), "faults end".to_owned()));
        self.stormy = false;
        self.net.clear_up();
        for at in 0..self.machines.len() {
            let machine = &mut self.machines[at];
            machine.held_until = machine.held_until.min(self.now);
            machine.slow_until = 0;
            machine.disk.full_until = 0;
            if machine.process.is_none() && machine.down_until < FOR_GOOD {
                machine.down_until = 0;
                let life = machine.life;
                let span = self.rng.u64(0..2_000_000);
                self.after(span, Event::Start { at, life });
            }
            if let Some(node) = &mut self.machines[at].node {
                node.lies = false;
            }
            if self.machines[at].node.is_some() {
                self.set_upkeep(at, Upkeep::Open)?;
            }
        }
        for cluster in 0..self.clusters.len() {
            self.set_cluster_drained(cluster, false)?;
        }
        self.compare_snapshots()?;
        self.after(1_000_000, Event::Inspect);
        Ok(())
    }
}
