//! What goes wrong, and when.

use codeco_actors::swm::election::elector::Written;
use codeco_actors::swm::election::electorate::Voter;
use codeco_actors::swm::ledger::LedgerInput;
use codeco_protocol::resources::Resources;
use codeco_protocol::units::{Bytes, MilliCpu};

use crate::clock::Clock;
use crate::invariant::Violation;
use crate::queue::Event;
use crate::world::World;

impl World {
    /// One fault, drawn by lot, and the time of the next.
    pub(crate) fn fault(&mut self) -> Result<(), Violation> {
        if !self.stormy {
            return Ok(());
        }
        let span = self.rng.u64(100_000..3_000_000);
        self.after(span, Event::Fault);
        let node = self.rng.usize(0..self.nodes.len());
        match self.rng.u8(0..16) {
            0..=2 => self.crash_agent(node),
            3..=4 => self.reboot(node),
            5 => self.lose_disk(node),
            6..=8 => {
                let cluster = self.rng.usize(0..self.clusters.len());
                let at = self.lead_of(cluster).map_or(node, |(at, _)| at);
                let whose = if self.rng.bool() { at } else { node };
                self.crash_elector(whose)
            }
            9 => self.crash_home(),
            10..=12 => {
                self.cut_a_link();
                Ok(())
            }
            13..=14 => {
                let machine = self.rng.usize(0..=self.nodes.len());
                self.isolate(machine);
                Ok(())
            }
            _ => self.change_foreign_use(node),
        }
    }

    /// The machine goes down with all that runs on it. Its clock begins anew.
    fn reboot(&mut self, node: usize) -> Result<(), Violation> {
        self.counts.reboots += 1;
        self.log.line(self.now, format_args!("{:?} reboots", self.nodes[node].config.id));
        self.nodes[node].runtime.reboot();
        self.nodes[node].boot += 1;
        self.crash_agent(node)?;
        self.crash_elector(node)?;
        self.clocks[node] = Clock::boot(self.now, &mut self.rng);
        Ok(())
    }

    /// The agent dies and finds no journal when it comes back. What it ran may run on.
    fn lose_disk(&mut self, node: usize) -> Result<(), Violation> {
        if self.disk_losses_left == 0 || !self.can_spare(node) || self.nodes[node].ledger.is_none() {
            return Ok(());
        }
        let leads = self.lead_of(self.nodes[node].cluster).is_some_and(|(at, _)| at == node);
        self.counts.lead_disk_losses += u64::from(leads);
        self.disk_losses_left -= 1;
        self.counts.disk_losses += 1;
        self.log.line(self.now, format_args!("{:?} loses its disk", self.nodes[node].config.id));
        self.crash_agent(node)?;
        self.nodes[node].disk.clear();
        self.nodes[node].told.clear();
        self.crash_elector(node)?;
        self.electors[node].disk.clear();
        Ok(())
    }

    /// Whether records and votes of a cluster outlive the loss of this disk: its node does not vote, or the voters agree
    /// on who they are, a majority is left without it, and no other is lost already.
    fn can_spare(&self, node: usize) -> bool {
        let cluster = self.nodes[node].cluster;
        let of_cluster = (0..self.nodes.len()).filter(|at| self.nodes[*at].cluster == cluster);
        let known: Vec<_> = of_cluster
            .filter_map(|at| Written::read(&self.electors[at].disk).ok().map(|written| (at, written)))
            .collect();
        let voting = known.iter().filter_map(|(at, written)| {
            let voter = Voter { member: self.electors[*at].config.lead.id, incarnation: written.life? };
            let electorate = written.electorate.as_ref()?;
            electorate.contains(voter).then_some((*at, electorate))
        });
        let voting: Vec<_> = voting.collect();
        let Some((_, newest)) = voting.iter().max_by_key(|(_, electorate)| electorate.version()) else {
            return false;
        };
        // Of two voters neither can be spared, so neither can whoever is about to become the second.
        let small = known.len() < 3;
        if !voting.iter().any(|(at, _)| *at == node) {
            return small || newest.size() >= 3;
        }
        let agreed = voting.iter().filter(|(_, electorate)| electorate == newest).count();
        newest.size() >= 3 && agreed == newest.size()
    }

    fn cut_a_link(&mut self) {
        let machines = self.nodes.len() + 1;
        let (from, to) = (self.rng.usize(0..machines), self.rng.usize(0..machines));
        if from == to {
            return;
        }
        self.cut_for_a_while(from, to);
        if self.rng.bool() {
            self.counts.one_way_cuts += 1;
        } else {
            self.counts.two_way_cuts += 1;
            self.cut_for_a_while(to, from);
        }
        self.log.line(self.now, format_args!("link {from} -> {to} is cut"));
    }

    fn isolate(&mut self, machine: usize) {
        self.counts.isolations += 1;
        self.log.line(self.now, format_args!("machine {machine} is cut off"));
        let span = self.rng.u64(500_000..15_000_000);
        for other in (0..=self.nodes.len()).filter(|other| *other != machine) {
            for (from, to) in [(machine, other), (other, machine)] {
                self.network.cut(from, to);
                self.after(span, Event::Heal { from, to });
            }
        }
    }

    fn cut_for_a_while(&mut self, from: usize, to: usize) {
        self.network.cut(from, to);
        let span = self.rng.u64(200_000..15_000_000);
        self.after(span, Event::Heal { from, to });
    }

    /// Somebody else uses more, or less, of a node.
    fn change_foreign_use(&mut self, node: usize) -> Result<(), Violation> {
        let used = self.rng.u64(0..4) * 100;
        self.nodes[node].foreign = Resources::new(MilliCpu(used), Bytes(used));
        let (capacity, foreign) = (self.nodes[node].capacity.clone(), self.nodes[node].foreign.clone());
        self.feed_ledger(node, LedgerInput::Capacity { capacity, foreign })
    }

    /// From now on everything works. Who is down comes back by itself within seconds.
    pub(crate) fn end_faults(&mut self) -> Result<(), Violation> {
        self.log.line(self.now, format_args!("faults end"));
        self.stormy = false;
        self.network.clear_up();
        for cluster in 0..self.clusters.len() {
            self.set_cluster_drained(cluster, false)?;
        }
        self.open_all_nodes()?;
        self.compare_snapshots()?;
        self.after(1_000_000, Event::Inspect);
        Ok(())
    }
}
