//! Crashes and restarts: what the disk gives back is compared with what was told to others.

use codeco_actors::swm::election::elector::{ElectionRecord, Elector, ElectorInput, Written};
use codeco_actors::swm::home::{Home, HomeInput};
use codeco_actors::swm::lead::Lead;
use codeco_actors::swm::ledger::{Ledger, LedgerInput, RuntimeFact, Upkeep};
use codeco_protocol::ids::Incarnation;
use codeco_protocol::messages::HeldPhase;
use codeco_protocol::units::BootTime;
use codeco_protocol::workload::Workload;

use crate::hosts::ElectorHost;
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
        host.heard = codeco_protocol::token::Term::default();
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
        for (replica, token) in ready {
            self.feed_ledger(node, LedgerInput::Runtime { replica, token, fact: RuntimeFact::Ready })?;
        }
        if !self.stormy {
            self.set_upkeep(node, Upkeep::Open)?;
        }
        Ok(())
    }

    /// The elector of a node dies, and with it the lead it may have been. It comes back by itself.
    pub(crate) fn crash_elector(&mut self, node: usize) -> Result<(), Violation> {
        let now = self.read_clock(node);
        let Some(elector) = self.electors[node].elector.take() else { return Ok(()) };
        self.counts.elector_crashes += 1;
        self.counts.lead_crashes += u64::from(elector.leads(now));
        self.log.line(self.now, format_args!("{:?} elector crashes", self.nodes[node].config.id));
        let host = &mut self.electors[node];
        host.life += 1;
        host.tick_at = None;
        let host = &self.electors[node];
        self.counts.recoveries += 1;
        let revived = Elector::recover(host.config.clone(), &host.disk, Incarnation(1), BootTime(0));
        let snapshot = revived.map(|(revived, _)| revived.snapshot()).unwrap_or_default();
        if !host.disk.is_empty() {
            self.same_elector(host, &snapshot, "its snapshot")?;
        }
        if self.rng.u8(..) < 64 && !self.electors[node].disk.is_empty() {
            self.counts.compactions += 1;
            self.electors[node].disk = snapshot;
        }
        let (span, life) = (self.downtime(), self.electors[node].life);
        self.after(span, Event::ElectorStart { node, life });
        Ok(())
    }

    fn same_elector(
        &self,
        host: &ElectorHost,
        snapshot: &[ElectionRecord],
        whose: &str,
    ) -> Result<(), Violation> {
        let read = |journal: &[ElectionRecord]| {
            let written = Written::read(journal);
            written.map(|w| {
                let lead = Lead::recover(host.config.lead.clone(), &w.records);
                (w.life, w.promised, w.last, w.electorate, lead)
            })
        };
        let (from_records, from_snapshot) = (read(&host.disk), read(snapshot));
        check(from_records == from_snapshot && from_records.is_ok(), Invariant::Journal, || {
            format!("elector from records {from_records:?}\n  from {whose} {from_snapshot:?}")
        })
    }

    pub(crate) fn start_elector(&mut self, node: usize) -> Result<(), Violation> {
        if self.electors[node].elector.is_some() {
            return Ok(());
        }
        let now = self.read_clock(node);
        let fresh = Incarnation(u128::from(self.rng.u32(..)) << 96);
        let first_nonce = self.rng.u64(..);
        let host = &mut self.electors[node];
        host.config.first_nonce = first_nonce;
        let restored = Elector::recover(host.config.clone(), &host.disk, fresh, now);
        let (elector, out) =
            restored.map_err(|error| Violation::of(Invariant::Journal, format!("{error}")))?;
        host.elector = Some(elector);
        self.log.line(self.now, format_args!("{:?} elector starts", self.nodes[node].config.id));
        self.carry_elector(node, out)?;
        self.feed_elector(node, ElectorInput::Tick)
    }

    /// Whoever takes office knows what was promised in its cluster's name.
    pub(crate) fn check_succession(&mut self, node: usize) -> Result<(), Violation> {
        let cluster = self.nodes[node].cluster;
        let Some(elector) = &self.electors[node].elector else { return Ok(()) };
        let lead = elector.lead();
        for (replica, mandate) in &self.clusters[cluster].told {
            let there = lead.mandates().any(|(id, m)| id == replica && m.mandate >= *mandate);
            check(there, Invariant::Durable, || {
                format!("a lead said Accepted of {replica} mandate {}; the next one: {lead:?}", mandate.0)
            })?;
        }
        let own = self.nodes[node].config.id;
        let before = self.clusters[cluster].last_lead.replace(own);
        self.counts.successions += u64::from(before.is_some_and(|before| before != own));
        Ok(())
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
            for cluster in 0..self.clusters.len() {
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
        for host in &self.electors {
            let Some(elector) = &host.elector else { continue };
            self.counts.recoveries += 1;
            self.same_elector(host, &elector.snapshot(), "the live one")?;
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
