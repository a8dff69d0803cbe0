//! Processes start, die and come back; what the disk gives back is compared with what was told to others.

use codeco_actors::swm::election::elector::{ElectionRecord, Elector, ElectorInput, Written};
use codeco_actors::swm::home::{Home, HomeConfig, HomeInput};
use codeco_actors::swm::lead::Lead;
use codeco_actors::swm::ledger::{Ledger, LedgerInput, RuntimeFact};
use codeco_protocol::gossip::{MembershipInput, Ring};
use codeco_protocol::ids::{Identity, Incarnation};
use codeco_protocol::messages::HeldPhase;
use codeco_protocol::units::BootTime;
use codeco_protocol::workload::Workload;

use super::machine::machine_of;
use super::process::Process;
use super::world::{Core, Event, World};
use crate::clock::Clock;
use crate::invariant::{Invariant, Violation, check};
use crate::runtime::State;

/// Members remembered from an earlier life that are dialled at a start.
const CONTACTS: usize = 4;

impl World {
    /// The process of a machine dies, all its cores with it. It comes back by itself.
    pub(crate) fn crash(&mut self, at: usize) -> Result<(), Violation> {
        let span =
            if self.rng.bool() { self.rng.u64(10_000..800_000) } else { self.rng.u64(800_000..9_000_000) };
        self.crash_for(at, span)
    }

    pub(crate) fn crash_for(&mut self, at: usize, span: u64) -> Result<(), Violation> {
        let clock = self.read_clock(at);
        if self.machines[at].process.is_none() {
            return Ok(());
        }
        self.orphan_links(at);
        let Some(process) = self.machines[at].process.take() else { return Ok(()) };
        let leads = process.elector.as_ref().is_some_and(|elector| elector.leads(clock));
        self.counts.crashes += 1;
        self.counts.lead_crashes += u64::from(leads);
        self.counts.hub_crashes += u64::from(self.machines[at].node.is_none());
        self.note(at, format_args!("crashes"));
        let machine = &mut self.machines[at];
        machine.life += 1;
        machine.held_until = 0;
        machine.disk.ledger.crash();
        machine.disk.election.crash();
        machine.disk.home.crash();
        self.oracles.views.gone(at);
        self.compare_recoveries(at)?;
        let when = (self.now + span).max(self.machines[at].down_until);
        let life = self.machines[at].life;
        self.queue.push(when, Event::Start { at, life });
        Ok(())
    }

    /// The machine goes down with all that runs on it. Its clock begins anew.
    pub(crate) fn reboot(&mut self, at: usize) -> Result<(), Violation> {
        self.counts.reboots += 1;
        self.note(at, format_args!("reboots"));
        let Some(node) = &mut self.machines[at].node else { return self.crash(at) };
        for process in node.runtime.processes() {
            self.oracles.single.stopped(at, &process.workload.replica, process.workload.token);
        }
        node.runtime.reboot();
        self.machines[at].boot += 1;
        if self.machines[at].process.is_some() {
            self.crash(at)?;
        }
        self.machines[at].clock = Clock::boot(self.now, &mut self.rng);
        Ok(())
    }

    /// Whatever is on disk, a snapshot stands for it.
    fn compare_recoveries(&mut self, at: usize) -> Result<(), Violation> {
        let fresh = Incarnation(1);
        let machine = &self.machines[at];
        if let Some(node) = &machine.node
            && !machine.disk.ledger.records.is_empty()
        {
            let from_records = Ledger::recover(node.ledger.clone(), &machine.disk.ledger.records, fresh).0;
            let snapshot = from_records.snapshot();
            let from_snapshot = Ledger::recover(node.ledger.clone(), &snapshot, fresh).0;
            self.counts.recoveries += 1;
            check(from_records == from_snapshot, Invariant::Journal, || {
                format!("ledger from records {from_records:?}\n  from its snapshot {from_snapshot:?}")
            })?;
        }
        if let Some(node) = &machine.node
            && !machine.disk.election.records.is_empty()
        {
            let records = &machine.disk.election.records;
            let revived = Elector::recover(node.elector.clone(), records, fresh, BootTime(0));
            let snapshot = revived.map(|(revived, _)| revived.snapshot()).unwrap_or_default();
            self.counts.recoveries += 1;
            let read = |journal: &[ElectionRecord]| {
                Written::read(journal).map(|w| {
                    let lead = Lead::recover(node.elector.lead.clone(), &w.records);
                    (w.life, w.promised, w.last, w.electorate, lead)
                })
            };
            let (a, b) = (read(records), read(&snapshot));
            check(a == b && a.is_ok(), Invariant::Journal, || {
                format!("elector from records {a:?}\n  from its snapshot {b:?}")
            })?;
        }
        if !machine.disk.home.records.is_empty() {
            let config = home_config(machine.id(), 0, 0);
            let from_records = Home::recover(config.clone(), &machine.disk.home.records);
            let from_snapshot = Home::recover(config, &from_records.snapshot());
            self.counts.recoveries += 1;
            check(from_records == from_snapshot, Invariant::Journal, || {
                format!("home from records {from_records:?}\n  from its snapshot {from_snapshot:?}")
            })?;
        }
        Ok(())
    }

    pub(crate) fn start(&mut self, at: usize) -> Result<(), Violation> {
        if self.machines[at].process.is_some() {
            return Ok(());
        }
        if self.machines[at].down_until > self.now {
            let (when, life) = (self.machines[at].down_until, self.machines[at].life);
            self.queue.push(when, Event::Start { at, life });
            return Ok(());
        }
        let (now, clock) = (self.now, self.read_clock(at));
        let seed = self.rng.u64(..);
        let machine = &self.machines[at];
        let ring = Ring::new(self.ring, machine.identity.clone(), now + 1, seed, clock);
        let process = Process::new(machine.identity.clone(), &machine.name, now + 1, ring);
        self.machines[at].process = Some(Box::new(process));
        self.note(at, format_args!("starts"));
        self.publish_member(at);
        for core in [Core::Ledger, Core::Elector, Core::Home] {
            self.revive(at, core)?;
        }
        let life = self.machines[at].life;
        self.after(1, Event::Ring { at, life });
        // Whom it knew, and hubs.
        let hubs = self.scenario.fleet.hubs;
        let known: Vec<_> = self.machines[at].disk.peers.iter().copied().collect();
        let cluster = self.machines[at].identity.cluster().cloned();
        for member in &known {
            let identity = Identity { role: self.machines[at].identity.role.clone(), id: *member };
            debug_assert!(cluster.is_some());
            self.feed_ring(at, MembershipInput::Known(identity))?;
        }
        let mut contacts: Vec<usize> = known.iter().map(|member| machine_of(*member)).collect();
        self.rng.shuffle(&mut contacts);
        for peer in contacts.into_iter().take(CONTACTS) {
            self.dial(at, peer);
        }
        for hub in (0..hubs).filter(|hub| *hub != at) {
            self.dial(at, hub);
        }
        self.look_at(at, now + 1_000);
        Ok(())
    }

    /// A core is started from its journal.
    pub(crate) fn revive(&mut self, at: usize, core: Core) -> Result<(), Violation> {
        match core {
            Core::Ledger => self.start_ledger(at),
            Core::Elector => self.start_elector(at),
            Core::Home => self.start_home(at),
        }
    }

    fn start_ledger(&mut self, at: usize) -> Result<(), Violation> {
        let fresh = Incarnation(u128::from(self.rng.u32(..)) << 96);
        let first_nonce = self.rng.u64(..);
        let machine = &mut self.machines[at];
        let (Some(process), Some(node)) = (&mut machine.process, &mut machine.node) else { return Ok(()) };
        if process.ledger.is_some() {
            return Ok(());
        }
        node.ledger.first_nonce = first_nonce;
        let (ledger, out) = Ledger::recover(node.ledger.clone(), &machine.disk.ledger.records, fresh);
        for (replica, token) in &node.told {
            let there = ledger.entries().any(|(id, entry)| {
                id == replica
                    && matches!(entry.slot.held, Some((held, HeldPhase::Committed | HeldPhase::Stopping)) if held == *token)
            });
            check(there, Invariant::Durable, || {
                format!("{} said Committed of {replica} {token}; after a restart: {ledger:?}", machine.name)
            })?;
        }
        process.ledger = Some(ledger);
        let lead = process.lead;
        let (capacity, foreign) = (node.capacity.clone(), node.foreign.clone());
        let running: Vec<Workload> =
            node.runtime.processes().map(|process| process.workload.clone()).collect();
        let ready: Vec<_> = node
            .runtime
            .processes()
            .filter(|process| process.state == State::Ready)
            .map(|process| (process.workload.replica.clone(), process.workload.token))
            .collect();
        self.carry_ledger(at, out, false)?;
        self.feed_ledger(at, LedgerInput::Capacity { capacity, foreign })?;
        self.feed_ledger(at, LedgerInput::Listed(running))?;
        for (replica, token) in ready {
            self.feed_ledger(at, LedgerInput::Runtime { replica, token, fact: RuntimeFact::Ready })?;
        }
        if let Some(lead) = lead {
            self.feed_ledger(at, LedgerInput::LeadIs(lead))?;
        }
        if !self.stormy {
            self.feed_ledger(at, LedgerInput::Upkeep(codeco_actors::swm::ledger::Upkeep::Open))?;
        }
        Ok(())
    }

    fn start_elector(&mut self, at: usize) -> Result<(), Violation> {
        let now = self.read_clock(at);
        let fresh = Incarnation(u128::from(self.rng.u32(..)) << 96);
        let first_nonce = self.rng.u64(..);
        let machine = &mut self.machines[at];
        let (Some(process), Some(node)) = (&mut machine.process, &mut machine.node) else { return Ok(()) };
        if process.elector.is_some() {
            return Ok(());
        }
        node.elector.first_nonce = first_nonce;
        let restored = Elector::recover(node.elector.clone(), &machine.disk.election.records, fresh, now);
        let (elector, out) =
            restored.map_err(|error| Violation::of(Invariant::Journal, format!("{error}")))?;
        process.elector = Some(elector);
        process.electorate = None;
        self.carry_elector(at, out)?;
        self.feed_elector(at, ElectorInput::Tick)
    }

    fn start_home(&mut self, at: usize) -> Result<(), Violation> {
        let seed = self.rng.u64(..);
        let now = self.now;
        let machine = &mut self.machines[at];
        let Some(process) = &mut machine.process else { return Ok(()) };
        if process.home.is_some() {
            return Ok(());
        }
        let config = home_config(machine.identity.id, seed, (now / 1_000) << 16);
        let home = Home::recover(config, &machine.disk.home.records);
        for ((replica, mandate), term) in &machine.offered {
            let there = home.apps().any(|(uid, app)| {
                let key = (replica.service.clone(), replica.index);
                let entry = app.replicas.get(&key);
                let held = entry.into_iter().flat_map(|r| r.mandate.iter().chain(&r.lost));
                uid == replica.app
                    && held.into_iter().any(|m| m.id == *mandate && m.rule.offered_to >= Some(*term))
            });
            // One that has given an application up to another home takes back what that one does not know of.
            let retired = home.apps().all(|(uid, app)| uid != replica.app || app.retired);
            check(there || retired, Invariant::Durable, || {
                format!(
                    "{} offered {replica} mandate {} to {term}; after a restart: {home:?}",
                    machine.name, mandate.0
                )
            })?;
        }
        process.home = Some(home);
        self.publish_home_anew(at);
        self.look_at(at, now + 1_000);
        self.feed_home(at, HomeInput::Tick)
    }

    fn publish_home_anew(&mut self, at: usize) {
        if let Some(process) = &mut self.machines[at].process {
            process.apps.clear();
        }
    }

    /// Outside of crashes: the live core's snapshot stands for all that is on its disk.
    pub(crate) fn compare_snapshots(&mut self) -> Result<(), Violation> {
        let fresh = Incarnation(1);
        for machine in &self.machines {
            let Some(process) = &machine.process else { continue };
            if let (Some(node), Some(ledger)) = (&machine.node, &process.ledger) {
                let from_records =
                    Ledger::recover(node.ledger.clone(), &machine.disk.ledger.records, fresh).0;
                let from_snapshot = Ledger::recover(node.ledger.clone(), &ledger.snapshot(), fresh).0;
                check(from_records == from_snapshot, Invariant::Journal, || {
                    format!("ledger from records {from_records:?}\n  from the live one {from_snapshot:?}")
                })?;
            }
            if let Some(home) = &process.home {
                let config = home_config(machine.id(), 0, 0);
                let from_records = Home::recover(config.clone(), &machine.disk.home.records);
                let from_snapshot = Home::recover(config, &home.snapshot());
                check(from_records == from_snapshot, Invariant::Journal, || {
                    format!("home from records {from_records:?}\n  from the live one {from_snapshot:?}")
                })?;
            }
            self.counts.recoveries += 2;
        }
        Ok(())
    }
}

fn home_config(id: codeco_protocol::ids::MemberId, seed: u64, first_revision: u64) -> HomeConfig {
    HomeConfig { first_revision, ..HomeConfig::new(id, seed) }
}
