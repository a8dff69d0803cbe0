//! Crashes and restarts: what the disk gives back is compared with what was told to others.

use codeco_actors::swm::home::{Home, HomeInput};
use codeco_actors::swm::lead::{Lead, LeadInput};
use codeco_actors::swm::ledger::{Ledger, LedgerInput, RuntimeFact, Upkeep};
use codeco_protocol::ids::Incarnation;
use codeco_protocol::messages::HeldPhase;
use codeco_protocol::units::BootTime;
use codeco_protocol::workload::Workload;

use crate::invariant::{Invariant, Violation, check};
use crate::queue::Event;
use crate::runtime::State;
use crate::world::World;

impl World {
    /// The agent dies. It comes back by itself.
    pub(crate) fn crash_agent(&mut self, node: usize) -> Result<(), Violation> {
        if self.nodes[node].ledger.take().is_none() {
            return Ok(());
        }
        self.counts.agent_crashes += 1;
        self.log.line(self.now, format_args!("{:?} agent crashes", self.nodes[node].config.id));
        let host = &mut self.nodes[node];
        host.life += 1;
        host.tick_at = None;
        let (config, fresh) = (host.config.clone(), Incarnation(1));
        let from_records = Ledger::recover(config.clone(), &host.disk, fresh).0;
        let snapshot = from_records.snapshot();
        let from_snapshot = Ledger::recover(config, &snapshot, fresh).0;
        self.counts.recoveries += 1;
        check(host.disk.is_empty() || from_records == from_snapshot, Invariant::Journal, || {
            format!("ledger from records {from_records:?}\n  from its snapshot {from_snapshot:?}")
        })?;
        if self.rng.u8(..) < 64 && !self.nodes[node].disk.is_empty() {
            self.counts.compactions += 1;
            self.nodes[node].disk = snapshot;
        }
        let (span, life) = (self.downtime(), self.nodes[node].life);
        self.after(span, Event::AgentStart { node, life });
        Ok(())
    }

    pub(crate) fn downtime(&mut self) -> u64 {
        if self.rng.bool() { self.rng.u64(10_000..800_000) } else { self.rng.u64(800_000..9_000_000) }
    }

    pub(crate) fn start_agent(&mut self, node: usize) -> Result<(), Violation> {
        if self.nodes[node].ledger.is_some() {
            return Ok(());
        }
        let fresh = Incarnation(u128::from(self.rng.u32(..)) << 96);
        let first_nonce = self.rng.u64(..);
        let host = &mut self.nodes[node];
        host.config.first_nonce = first_nonce;
        let (ledger, out) = Ledger::recover(host.config.clone(), &host.disk, fresh);
        for (replica, token) in &host.told {
            let there = ledger.entries().any(|(id, entry)| {
                id == replica
                    && matches!(entry.slot.held, Some((held, HeldPhase::Committed | HeldPhase::Stopping)) if held == *token)
            });
            check(there, Invariant::Durable, || {
                format!(
                    "{:?} said Committed of {replica} {token}; after a restart: {ledger:?}",
                    host.config.id
                )
            })?;
        }
        host.ledger = Some(ledger);
        let (capacity, foreign) = (host.capacity.clone(), host.foreign.clone());
        let lead = self.leads[host.cluster].config.id;
        let running: Vec<Workload> =
            host.runtime.processes().map(|process| process.workload.clone()).collect();
        let ready: Vec<_> = host
            .runtime
            .processes()
            .filter(|process| process.state == State::Ready)
            .map(|process| (process.workload.replica.clone(), process.workload.token))
            .collect();
        self.log.line(self.now, format_args!("{:?} agent starts", self.nodes[node].config.id));
        self.carry_ledger(node, out)?;
        self.feed_ledger(node, LedgerInput::Capacity { capacity, foreign })?;
        self.feed_ledger(node, LedgerInput::Listed(running))?;
        self.feed_ledger(node, LedgerInput::LeadIs(lead))?;
        for (replica, token) in ready {
            self.feed_ledger(node, LedgerInput::Runtime { replica, token, fact: RuntimeFact::Ready })?;
        }
        if !self.stormy {
            self.set_upkeep(node, Upkeep::Open)?;
        }
        Ok(())
    }

    pub(crate) fn crash_lead(&mut self, cluster: usize) -> Result<(), Violation> {
        if self.leads[cluster].lead.take().is_none() {
            return Ok(());
        }
        self.counts.lead_crashes += 1;
        self.log.line(self.now, format_args!("lead {:?} crashes", self.leads[cluster].config.cluster));
        let host = &mut self.leads[cluster];
        host.life += 1;
        host.tick_at = None;
        let from_records = Lead::recover(host.config.clone(), &host.disk);
        let snapshot = from_records.snapshot();
        let from_snapshot = Lead::recover(host.config.clone(), &snapshot);
        self.counts.recoveries += 1;
        check(from_records == from_snapshot, Invariant::Journal, || {
            format!("lead from records {from_records:?}\n  from its snapshot {from_snapshot:?}")
        })?;
        if self.rng.u8(..) < 64 {
            self.counts.compactions += 1;
            self.leads[cluster].disk = snapshot;
        }
        let (span, life) = (self.downtime(), self.leads[cluster].life);
        self.after(span, Event::LeadStart { cluster, life });
        Ok(())
    }

    pub(crate) fn start_lead(&mut self, cluster: usize) -> Result<(), Violation> {
        let host = &mut self.leads[cluster];
        if host.lead.is_some() {
            return Ok(());
        }
        let lead = Lead::recover(host.config.clone(), &host.disk);
        for (replica, mandate) in &host.told {
            let there = lead.mandates().any(|(id, m)| id == replica && m.mandate >= *mandate);
            check(there, Invariant::Durable, || {
                format!("lead said Accepted of {replica} mandate {}; after a restart: {lead:?}", mandate.0)
            })?;
        }
        host.lead = Some(lead);
        self.log.line(self.now, format_args!("lead {:?} starts", self.leads[cluster].config.cluster));
        self.feed_lead(cluster, LeadInput::OwnLease(BootTime(u64::MAX)))?;
        self.feed_lead(cluster, LeadInput::TakeOffice)
    }

    pub(crate) fn crash_home(&mut self) -> Result<(), Violation> {
        if self.home.home.take().is_none() {
            return Ok(());
        }
        self.counts.home_crashes += 1;
        self.log.line(self.now, format_args!("home crashes"));
        self.home.life += 1;
        self.home.tick_at = None;
        self.home.view.clear();
        let from_records = Home::recover(self.home.config.clone(), &self.home.disk);
        let snapshot = from_records.snapshot();
        let from_snapshot = Home::recover(self.home.config.clone(), &snapshot);
        self.counts.recoveries += 1;
        check(from_records == from_snapshot, Invariant::Journal, || {
            format!("home from records {from_records:?}\n  from its snapshot {from_snapshot:?}")
        })?;
        if self.rng.u8(..) < 64 {
            self.counts.compactions += 1;
            self.home.disk = snapshot;
        }
        let (span, life) = (self.downtime(), self.home.life);
        self.after(span, Event::HomeStart { life });
        Ok(())
    }

    pub(crate) fn start_home(&mut self) -> Result<(), Violation> {
        if self.home.home.is_some() {
            return Ok(());
        }
        let home = Home::recover(self.home.config.clone(), &self.home.disk);
        for ((replica, mandate), term) in &self.home.told {
            let there = home.apps().any(|(uid, app)| {
                let key = (replica.service.clone(), replica.index);
                let held = app.replicas.get(&key).and_then(|r| r.mandate.as_ref());
                uid == replica.app
                    && held.is_some_and(|m| m.id == *mandate && m.rule.offered_to >= Some(*term))
            });
            check(there, Invariant::Durable, || {
                format!("home offered {replica} mandate {} to {term}; after a restart: {home:?}", mandate.0)
            })?;
        }
        self.home.home = Some(home);
        self.log.line(self.now, format_args!("home starts"));
        if !self.stormy {
            for cluster in 0..self.leads.len() {
                self.set_cluster_drained(cluster, false)?;
            }
        }
        self.feed_home(HomeInput::Tick)
    }

    /// Outside of crashes: the live core's snapshot stands for all that is on its disk.
    pub(crate) fn compare_snapshots(&mut self) -> Result<(), Violation> {
        let fresh = Incarnation(1);
        for host in &self.nodes {
            let Some(ledger) = &host.ledger else { continue };
            self.counts.recoveries += 1;
            let from_records = Ledger::recover(host.config.clone(), &host.disk, fresh).0;
            let from_snapshot = Ledger::recover(host.config.clone(), &ledger.snapshot(), fresh).0;
            check(from_records == from_snapshot, Invariant::Journal, || {
                format!("ledger from records {from_records:?}\n  from the live one {from_snapshot:?}")
            })?;
        }
        for host in &self.leads {
            let Some(lead) = &host.lead else { continue };
            self.counts.recoveries += 1;
            let from_records = Lead::recover(host.config.clone(), &host.disk);
            let from_snapshot = Lead::recover(host.config.clone(), &lead.snapshot());
            check(from_records == from_snapshot, Invariant::Journal, || {
                format!("lead from records {from_records:?}\n  from the live one {from_snapshot:?}")
            })?;
        }
        if let Some(home) = &self.home.home {
            self.counts.recoveries += 1;
            let from_records = Home::recover(self.home.config.clone(), &self.home.disk);
            let from_snapshot = Home::recover(self.home.config.clone(), &home.snapshot());
            check(from_records == from_snapshot, Invariant::Journal, || {
                format!("home from records {from_records:?}\n  from the live one {from_snapshot:?}")
            })?;
        }
        Ok(())
    }
}
