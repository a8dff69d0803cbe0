//! Feeding the cores and carrying out what they want, in order, with a crash at any point.

use codeco_actors::swm::election::elector::{ElectorInput, ElectorNote, ElectorOutput};
use codeco_actors::swm::home::{HomeInput, HomeNote, HomeOutput, HomeRecord};
use codeco_actors::swm::lead::{LeadNote, LeadOutput};
use codeco_actors::swm::ledger::{Ledger, LedgerInput, LedgerOutput, LedgerRecord};
use codeco_actors::swm::telling::{
    Gist, app_facts, apps_told, brake_fact, cluster_fact, electorate_fact, replica_facts,
};
use codeco_protocol::gossip::Fact;
use codeco_protocol::ids::NodeName;
use codeco_protocol::messages::{ControlMessage, NodeFacts};
use codeco_protocol::units::{BootTime, Micros, MilliCpu, WallTime};

use super::invariants::{Said, check_links, check_promises, check_reservations};
use super::machine::Machine;
use super::net::MILLION;
use super::planted::Planted;
use super::process::Ticks;
use super::world::{Core, Event, World};
use crate::invariant::Violation;

/// What a lead says of its cluster besides what is urgent is published this often.
const REST_EVERY: Micros = Micros::from_millis(250);
/// One step in so many is given to a copy of its core again.
const REPLAYED: u32 = 16;
/// How long after a process was held up it may not yet have done what was due.
const HELD_SLACK: u64 = 200_000;

/// Where a step ends: when the process dies amid it, only so many of its outputs are carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Whole,
    /// So many records are written, and nothing leaves.
    Writing(usize),
    /// All records are written, and so many of the others carried out.
    Leaving(usize),
}

impl World {
    fn draw_step(&mut self, records: usize, others: usize) -> Step {
        let rate = self.scenario.faults.crash_amid_per_million;
        if !self.stormy || records + others == 0 || rate == 0 || self.rng.u32(0..MILLION) >= rate {
            return Step::Whole;
        }
        self.counts.crashes_amid_outputs += 1;
        if records > 0 && self.rng.bool() {
            Step::Writing(self.rng.usize(0..records))
        } else {
            Step::Leaving(self.rng.usize(0..=others))
        }
    }

    pub(crate) fn picks_replay(&mut self) -> bool {
        self.rng.u32(0..REPLAYED) == 0
    }

    /// Whether a disk takes what is to be written; if not, the core that wants it fails, and is started again later.
    fn can_write(&mut self, at: usize, core: Core) -> bool {
        if self.machines[at].disk.full_until <= self.now {
            return true;
        }
        self.counts.writes_refused += 1;
        self.fail_core(at, core);
        false
    }

    /// A core is gone until its supervisor starts it again from its journal.
    pub(crate) fn fail_core(&mut self, at: usize, core: Core) {
        let life = self.machines[at].life;
        let Some(process) = &mut self.machines[at].process else { return };
        let known = match core {
            Core::Ledger => process.ledger.take().is_some(),
            Core::Elector => process.elector.take().is_some(),
            Core::Home => process.home.take().is_some(),
        };
        if known {
            let span = self.rng.u64(100_000..1_500_000);
            self.after(span, Event::Revive { at, life, core });
            self.note(at, format_args!("{core:?} fails"));
        }
    }

    pub(crate) fn feed_ledger(&mut self, at: usize, input: LedgerInput) -> Result<(), Violation> {
        let now = self.read_clock(at);
        let replayed =
            (matches!(input, LedgerInput::Message { .. }) && self.picks_replay()).then(|| input.clone());
        let is_listing = matches!(input, LedgerInput::Listed(_));
        let quiet = matches!(input, LedgerInput::Tick)
            || matches!(&input, LedgerInput::Message { message: ControlMessage::LeaseGrant { .. }, .. });
        let machine = &mut self.machines[at];
        let (Some(process), Some(node)) = (&mut machine.process, &machine.node) else { return Ok(()) };
        let Some(ledger) = &mut process.ledger else { return Ok(()) };
        let before = (!quiet).then(|| ledger.promised());
        let mut out = Vec::new();
        ledger.handle(now, input, &mut out);
        if let Some(before) = before.filter(|_| !is_listing) {
            check_promises(ledger, &before, &node.capacity, &node.foreign)?;
        }
        // One that was held up finds out at its next tick.
        if machine.held_until + HELD_SLACK < self.now {
            check_reservations(ledger, now)?;
        }
        if let Some(input) = replayed {
            self.counts.replays += 1;
            crate::replay::ledger(ledger, now, &input)?;
        }
        self.carry_ledger(at, out, quiet)
    }

    pub(crate) fn carry_ledger(
        &mut self,
        at: usize,
        out: Vec<LedgerOutput>,
        quiet: bool,
    ) -> Result<(), Violation> {
        let (mut records, mut others) = (Vec::new(), Vec::new());
        for output in out {
            match output {
                LedgerOutput::Journal(record) => records.push(record),
                other => others.push(other),
            }
        }
        if !records.is_empty() && !self.can_write(at, Core::Ledger) {
            return Ok(());
        }
        let step = self.draw_step(records.len(), others.len());
        if let Step::Writing(some) = step {
            records.truncate(some);
            others.clear();
        }
        let wrote = !records.is_empty();
        let mut forgotten = false;
        for record in records {
            if self.forgets(at, &record) {
                forgotten = true;
                continue;
            }
            self.oracles.deleted.ledger_wrote(&self.machines[at].name, &record)?;
            self.oracles.stops.ledger_wrote(&record);
            self.note_ledger_record(at, &record);
            self.machines[at].disk.ledger.records.push(record);
        }
        if wrote && self.planted != Some(Planted::LedgerForgetsToSync) {
            self.machines[at].disk.ledger.sync();
        }
        if let Step::Leaving(some) = step {
            others.truncate(some);
        }
        if step == Step::Whole {
            self.compact_ledger(at);
            self.publish_ledger(at, quiet && !wrote);
        }
        for output in others {
            match output {
                LedgerOutput::Send { to, message } => {
                    if let (ControlMessage::Committed { replica, token }, Some(node)) =
                        (&message, &mut self.machines[at].node)
                    {
                        node.told.insert((replica.clone(), *token));
                    }
                    let message = self.lie(at, message);
                    if let Some(to) = self.machine(to) {
                        self.send(at, to, message);
                    }
                }
                LedgerOutput::Start(workload) => self.start_workload(at, workload),
                LedgerOutput::Stop { replica, token } => self.stop_workload(at, replica, token)?,
                LedgerOutput::LeaseUntil(until) => self.extend_lease(at, until),
                LedgerOutput::Note(note) => self.note(at, format_args!("notes {note:?}")),
                LedgerOutput::Journal(_) => {}
            }
        }
        if step != Step::Whole {
            return self.crash(at);
        }
        if forgotten {
            if let Some(process) = &mut self.machines[at].process {
                process.ledger = None;
            }
            return self.revive(at, Core::Ledger);
        }
        self.plan_ledger(at);
        Ok(())
    }

    /// A core of a process is to be called at a time of its own clock, unless it is called before.
    fn plan(
        &mut self,
        at: usize,
        next: BootTime,
        tick: impl Fn(&mut Ticks) -> &mut Option<u64>,
        event: impl FnOnce(u64) -> Event,
    ) {
        let when = self.when(at, next).max(self.now + 1_000);
        let life = self.machines[at].life;
        let Some(process) = &mut self.machines[at].process else { return };
        let tick = tick(&mut process.ticks);
        if tick.is_none_or(|known| when < known) {
            *tick = Some(when);
            self.queue.push(when, event(life));
        }
    }

    fn plan_ledger(&mut self, at: usize) {
        let ledger = self.machines[at].process.as_ref().and_then(|process| process.ledger.as_ref());
        if let Some(next) = ledger.map(Ledger::next_tick) {
            self.plan(at, next, |ticks| &mut ticks.ledger, |life| Event::Ledger { at, life });
        }
    }

    fn note_ledger_record(&mut self, at: usize, record: &LedgerRecord) {
        let Some(node) = &mut self.machines[at].node else { return };
        match record {
            LedgerRecord::Closed { replica, token, .. } => {
                node.told.remove(&(replica.clone(), *token));
            }
            LedgerRecord::Committed { replica, token, .. } => {
                let name = &self.machines[at].name;
                self.log.line(self.now, format_args!("{name} promises {replica} {token}"));
            }
            _ => {}
        }
    }

    fn compact_ledger(&mut self, at: usize) {
        let Machine { process, disk, .. } = &mut self.machines[at];
        let ledger = process.as_ref().and_then(|process| process.ledger.as_ref());
        self.counts.compactions += u64::from(disk.ledger.compact(ledger.map(|core| || core.snapshot())));
    }

    /// A node that lies says that it has more room than it has.
    fn lie(&self, at: usize, mut message: ControlMessage) -> ControlMessage {
        if !self.machines[at].node.as_ref().is_some_and(|node| node.lies) {
            return message;
        }
        let more = |facts: &mut NodeFacts| {
            facts.capacity.cpu = MilliCpu(facts.capacity.cpu.0 * 4);
            facts.free = facts.capacity.clone();
        };
        match &mut message {
            ControlMessage::LeaseRequest { facts: Some(facts), .. }
            | ControlMessage::Report { facts, .. } => {
                more(facts);
            }
            _ => {}
        }
        message
    }

    /// Says of this node what others should know.
    fn publish_ledger(&mut self, at: usize, quiet: bool) {
        let now = self.read_clock(at);
        let Some(process) = &mut self.machines[at].process else { return };
        let Some(ledger) = &process.ledger else { return };
        let ready = ledger.is_admitted() && ledger.lease_until() > now;
        let term = ledger.term();
        let same = process.fact.term == term && process.fact.not_ready.is_none() == ready;
        if quiet && same && process.fact.node.is_some() {
            return;
        }
        let was_ready = process.fact.not_ready.is_none();
        process.fact.not_ready = (!ready).then(|| "the cluster's lead has not granted a lease".to_owned());
        process.fact.term = term;
        process.fact.node = Some(NodeFacts { round_trips: Vec::new(), coordinate: None, ..ledger.facts() });
        let facts = replica_facts(ledger, |_, _| None);
        let fact = Fact::Member(Box::new(process.fact.clone()));
        process.knowledge.publish_fact(now, "member", fact);
        let news = process.knowledge.publish(now, |state| {
            state.retain("replica/", &|key| facts.iter().any(|(known, _)| known == key));
            for (key, fact) in facts {
                state.set(&key, Fact::Replica(Box::new(fact)));
            }
        });
        let hurry = news || was_ready != ready;
        let told = hurry && process.knowledge.tell_soon(now);
        if told {
            self.poke(at);
        }
        self.plan_tell(at);
    }

    pub(crate) fn feed_elector(&mut self, at: usize, input: ElectorInput) -> Result<(), Violation> {
        let now = self.read_clock(at);
        let replayed =
            (matches!(input, ElectorInput::Message { .. }) && self.picks_replay()).then(|| input.clone());
        let Some(process) = &mut self.machines[at].process else { return Ok(()) };
        let Some(elector) = &mut process.elector else { return Ok(()) };
        let waiting = elector.in_office().map(|lead| self.oracles.brakes.before(lead)).unwrap_or_default();
        let office = elector.in_office().map(codeco_actors::swm::lead::Lead::term);
        let was_ready = elector.lead().is_ready();
        let told = told_of(&input);
        if let ElectorInput::Message { message: ControlMessage::Report { facts, .. }, .. } = &input {
            self.oracles.known.told(at, facts.incarnation);
        }
        if let ElectorInput::Message {
            message: ControlMessage::LeaseRequest { facts: Some(facts), .. },
            ..
        } = &input
        {
            self.oracles.known.told(at, facts.incarnation);
        }
        let mut out = Vec::new();
        elector.handle(now, input, &mut out);
        if let Some(lead) = elector.in_office() {
            check_links(lead)?;
            self.oracles.brakes.stepped(lead, &waiting, &self.oracles.places, &told)?;
            self.oracles.stops.note_silence(self.now, now, at, lead);
        }
        // One that has just become ready has answered nothing before.
        if let Some(input) = replayed.filter(|_| elector.lead().is_ready() == was_ready) {
            self.counts.replays += 1;
            crate::replay::elector(elector, now, &input)?;
        }
        let changed = elector.in_office().map(codeco_actors::swm::lead::Lead::term) != office;
        if changed || elector.leads(now) {
            self.check_one_lead(at)?;
        }
        self.carry_elector(at, out)?;
        if changed {
            self.touch(at);
        }
        Ok(())
    }

    pub(crate) fn carry_elector(&mut self, at: usize, out: Vec<ElectorOutput>) -> Result<(), Violation> {
        let (mut records, mut others) = (Vec::new(), Vec::new());
        for output in out {
            match output {
                ElectorOutput::Journal(record) => records.push(record),
                other => others.push(other),
            }
        }
        if !records.is_empty() && !self.can_write(at, Core::Elector) {
            return Ok(());
        }
        let step = self.draw_step(records.len(), others.len());
        if let Step::Writing(some) = step {
            records.truncate(some);
            others.clear();
        }
        for record in records {
            self.elector_wrote(at, &record);
            self.machines[at].disk.election.records.push(record);
        }
        self.machines[at].disk.election.sync();
        if let Step::Leaving(some) = step {
            others.truncate(some);
        }
        if step == Step::Whole {
            self.compact_election(at);
            self.publish_elector(at);
        }
        for output in others {
            match output {
                ElectorOutput::Send { to, message } => {
                    self.check_lead_orders(at, &message)?;
                    if let Some(to) = self.machine(to) {
                        self.send(at, to, message);
                    }
                }
                ElectorOutput::Lead(LeadOutput::Note(note)) => {
                    self.lead_noted(at, &note)?;
                    self.note(at, format_args!("lead notes {note:?}"));
                }
                ElectorOutput::Note(note) => {
                    if let ElectorNote::ElectorateChanged { added, removed, .. } = &note {
                        self.counts.voters_added += u64::from(added.is_some());
                        self.counts.voters_removed += u64::from(removed.is_some());
                    }
                    self.note(at, format_args!("elector notes {note:?}"));
                }
                ElectorOutput::Lead(_) | ElectorOutput::Journal(_) => {}
            }
        }
        if step != Step::Whole {
            return self.crash(at);
        }
        self.plan_elector(at);
        Ok(())
    }

    fn plan_elector(&mut self, at: usize) {
        let now = self.read_clock(at);
        let elector = self.machines[at].process.as_ref().and_then(|process| process.elector.as_ref());
        if let Some(next) = elector.map(|elector| elector.next_tick(now)) {
            self.plan(at, next, |ticks| &mut ticks.elector, |life| Event::Elector { at, life });
        }
    }

    fn compact_election(&mut self, at: usize) {
        let Machine { process, disk, .. } = &mut self.machines[at];
        let elector = process.as_ref().and_then(|process| process.elector.as_ref());
        self.counts.compactions += u64::from(disk.election.compact(elector.map(|core| || core.snapshot())));
    }

    /// Says of a cluster what others should know, if this process leads it.
    fn publish_elector(&mut self, at: usize) {
        let now = self.read_clock(at);
        let machine = &mut self.machines[at];
        let (Some(process), Some(node)) = (&mut machine.process, &machine.node) else { return };
        let Some(elector) = &process.elector else { return };
        let Some(lead) = elector.in_office() else {
            if process.gist.take().is_some() {
                process.knowledge.publish(now, |state| {
                    for key in ["cluster", "electorate", "brake"] {
                        state.retain(key, &|_| false);
                    }
                });
                self.plan_tell(at);
            }
            return;
        };
        if !elector.leads(now) {
            return;
        }
        let gist = Gist::of(lead, elector);
        if process.gist.is_some_and(|(told, known)| known == gist && now.since(told) < REST_EVERY) {
            return;
        }
        process.gist = Some((now, gist));
        let cluster = &self.clusters[node.cluster];
        let name: &NodeName = &node.ledger.name;
        let fact = cluster_fact(cluster, name, &[], lead);
        let before = process.knowledge.own_fact("cluster");
        let known = matches!(&before, Some(Fact::Cluster(known)) if (known.term, known.ready) == (fact.term, fact.ready));
        process.knowledge.publish_fact(now, "cluster", Fact::Cluster(Box::new(fact)));
        if let Some(fact) = electorate_fact(lead, elector, now) {
            process.knowledge.publish_fact(now, "electorate", Fact::Electorate(Box::new(fact)));
        }
        match lead.brake() {
            Some(brake) => {
                let fact = brake_fact(lead, brake.missing, brake.held, WallTime(brake.since.0 / 1_000));
                process.knowledge.publish_fact(now, "brake", Fact::Brake(Box::new(fact)));
            }
            None => {
                process.knowledge.publish(now, |state| {
                    state.retain("brake", &|_| false);
                });
            }
        }
        // Nobody has a lead before he hears of it.
        if !known && process.knowledge.tell_now() {
            self.poke(at);
        }
        self.plan_tell(at);
    }

    fn lead_noted(&mut self, at: usize, note: &LeadNote) -> Result<(), Violation> {
        let cluster = self.machines[at].cluster().unwrap_or(0);
        match note {
            LeadNote::TookOffice(term) => {
                let knew = self.machines[at]
                    .process
                    .as_ref()
                    .and_then(|process| process.elector.as_ref())
                    .is_some_and(|elector| elector.lead().members().next().is_some());
                self.counts.takeovers += u64::from(knew);
                self.check_succession(at)?;
                self.skip_the_wait(at, *term)?;
            }
            LeadNote::NodeLost(_) => self.counts.nodes_lost += 1,
            LeadNote::NodeBack(_) => self.counts.nodes_back += 1,
            LeadNote::BrakeEngaged(_) => {
                self.counts.brakes_engaged += 1;
                self.take_the_brake_off(at);
            }
            LeadNote::BrakeReleased { .. } => self.counts.brakes_released += 1,
            LeadNote::Revoked(..) => self.counts.revocations += 1,
            LeadNote::Overlaps(..) => self.counts.overlaps += 1,
            LeadNote::Adopted(..) => self.counts.taken_over += 1,
            LeadNote::HomeLost(_) => self.counts.homes_lost += 1,
            LeadNote::Placed(replica, node, token) => {
                self.counts.placements += 1;
                let (moved, migrated) = self.oracles.places.placed(replica, cluster, node, token.mandate);
                self.counts.moves += u64::from(moved);
                self.counts.migrations += u64::from(migrated);
                self.oracles.brakes.placed(self.now, cluster, moved);
            }
            _ => {}
        }
        Ok(())
    }

    pub(crate) fn feed_home(&mut self, at: usize, input: HomeInput) -> Result<(), Violation> {
        let now = self.read_clock(at);
        let message = matches!(input, HomeInput::Message { .. } | HomeInput::Copy { .. });
        let replayed = (message && self.picks_replay()).then(|| input.clone());
        let Some(process) = &mut self.machines[at].process else { return Ok(()) };
        let Some(home) = &mut process.home else { return Ok(()) };
        let mut out = Vec::new();
        home.handle(now, input, &mut out);
        if let Some(input) = replayed {
            self.counts.replays += 1;
            let timely = out.iter().any(|o| matches!(o, HomeOutput::Journal(HomeRecord::Lost { .. })));
            crate::replay::home(home, now, &input, timely)?;
        }
        self.carry_home(at, out)
    }

    pub(crate) fn carry_home(&mut self, at: usize, out: Vec<HomeOutput>) -> Result<(), Violation> {
        let (mut records, mut others) = (Vec::new(), Vec::new());
        for output in out {
            match output {
                HomeOutput::Journal(record) => records.push(record),
                other => others.push(other),
            }
        }
        if !records.is_empty() && !self.can_write(at, Core::Home) {
            return Ok(());
        }
        let step = self.draw_step(records.len(), others.len());
        if let Step::Writing(some) = step {
            records.truncate(some);
            others.clear();
        }
        for record in records {
            self.home_wrote(at, &record)?;
            self.machines[at].disk.home.records.push(record);
        }
        self.machines[at].disk.home.sync();
        if let Step::Leaving(some) = step {
            others.truncate(some);
        }
        if step == Step::Whole {
            self.compact_home(at);
            self.publish_home(at);
        }
        for output in others {
            match output {
                HomeOutput::Send { to, message } => {
                    if let ControlMessage::Offer { replica, mandate, term, .. } = &message {
                        let offered = &mut self.machines[at].offered;
                        let known = offered.entry((replica.clone(), *mandate)).or_insert(*term);
                        *known = (*known).max(*term);
                    }
                    if let Some(to) = self.machine(to) {
                        self.send(at, to, message);
                    }
                }
                HomeOutput::Note(note) => {
                    self.home_noted(&note);
                    if !matches!(note, HomeNote::Unplaceable(..)) {
                        self.note(at, format_args!("home notes {note:?}"));
                    }
                }
                HomeOutput::Decided(_) | HomeOutput::Journal(_) => {}
            }
        }
        if step != Step::Whole {
            return self.crash(at);
        }
        self.plan_home(at);
        Ok(())
    }

    fn plan_home(&mut self, at: usize) {
        let now = self.read_clock(at);
        // One that speaks for nothing waits to be asked.
        let Some(process) = self.machines[at].process.as_ref().filter(|process| process.is_home()) else {
            return;
        };
        if let Some(next) = process.home.as_ref().map(|home| home.next_tick(now)) {
            self.plan(at, next, |ticks| &mut ticks.home, |life| Event::Home { at, life });
        }
    }

    fn compact_home(&mut self, at: usize) {
        let Machine { process, disk, .. } = &mut self.machines[at];
        let home = process.as_ref().and_then(|process| process.home.as_ref());
        self.counts.compactions += u64::from(disk.home.compact(home.map(|core| || core.snapshot())));
    }

    fn publish_home(&mut self, at: usize) {
        let now = self.read_clock(at);
        let Some(process) = &mut self.machines[at].process else { return };
        let Some(home) = &process.home else { return };
        let apps = apps_told(home);
        if apps == process.apps {
            return;
        }
        let told = std::mem::replace(&mut process.apps, apps);
        let apps = &process.apps;
        let facts = app_facts(home, |uid| told.get(uid) != apps.get(uid));
        process.knowledge.publish(now, |state| {
            for uid in told.keys().filter(|uid| !apps.contains_key(uid)) {
                state.remove(&format!("app/{uid}"));
            }
            for fact in facts {
                state.set(&format!("app/{}", fact.uid), Fact::App(Box::new(fact)));
            }
        });
        if process.knowledge.tell_soon(now) {
            self.poke(at);
        }
        self.plan_tell(at);
        self.look_at(at, self.now + 1_000);
    }

    fn home_noted(&mut self, note: &HomeNote) {
        match note {
            HomeNote::Reconciled(..) => self.counts.reconciled += 1,
            HomeNote::ClusterLost(..) => self.counts.clusters_lost += 1,
            HomeNote::BrakeEngaged(_) => self.counts.home_brakes += 1,
            HomeNote::AdoptedApp(..) => self.counts.adopted += 1,
            HomeNote::GaveUp(..) => self.counts.gave_up += 1,
            _ => {}
        }
    }

    /// When a member's clock shows `until`, its guard looks whether its lease has ended.
    pub(crate) fn extend_lease(&mut self, at: usize, until: BootTime) {
        let when = self.when(at, until);
        let boot = self.machines[at].boot;
        let Some(node) = &mut self.machines[at].node else { return };
        node.runtime.lease(until);
        // Without a copy that needs it there is nothing to guard.
        if node.runtime.has_fenced() {
            self.queue.push(when, Event::GuardFires { at, boot });
        }
    }
}

/// Replicas of which a node says what has become of them, and the node, if it says all that it holds.
fn told_of(input: &ElectorInput) -> Said {
    let ElectorInput::Message { from, message } = input else { return Said::default() };
    let all = matches!(message, ControlMessage::Report { .. } | ControlMessage::LeaseRequest { .. });
    let replicas = match message {
        ControlMessage::Closed { replica, .. } => vec![replica.clone()],
        ControlMessage::LeaseRequest { held, .. } => held.iter().map(|held| held.replica.clone()).collect(),
        ControlMessage::Report { held, .. } => held.iter().map(|held| held.brief.replica.clone()).collect(),
        _ => Vec::new(),
    };
    Said { replicas, by: all.then_some(*from) }
}
