//! Feeding the cores and carrying out their outputs, in order, with a crash at any point.

use codeco_actors::swm::election::elector::{
    ElectionRecord, Elector, ElectorInput, ElectorNote, ElectorOutput, Entry,
};
use codeco_actors::swm::home::{HomeInput, HomeNote, HomeOutput, HomeRecord};
use codeco_actors::swm::lead::{Lead, LeadNote, LeadOutput, LeadRecord};
use codeco_actors::swm::ledger::{LedgerInput, LedgerOutput, LedgerRecord};
use codeco_protocol::ids::ReplicaId;
use codeco_protocol::messages::ControlMessage;

use crate::fleet::invariants::{check_links, check_promises, check_reservations};
use crate::invariant::{Invariant, Violation, check};
use crate::queue::Event;
use crate::world::World;

/// Share of steps amid whose outputs the process dies, while faults last.
const CRASH_AMID_OUTPUTS: f64 = 0.001;

impl World {
    /// Where in `outputs` the process dies, if it does.
    fn crash_point(&mut self, outputs: usize) -> Option<usize> {
        let dies = self.stormy && outputs > 0 && self.rng.f64() < CRASH_AMID_OUTPUTS;
        dies.then(|| self.rng.usize(0..=outputs))
    }

    pub(crate) fn feed_ledger(&mut self, node: usize, input: LedgerInput) -> Result<(), Violation> {
        let now = self.read_clock(node);
        let replayed = self.picks_replay().then(|| input.clone());
        let is_listing = matches!(input, LedgerInput::Listed(_));
        let host = &mut self.nodes[node];
        let Some(ledger) = &mut host.ledger else { return Ok(()) };
        let before = ledger.promised();
        let mut out = Vec::new();
        ledger.handle(now, input, &mut out);
        if !is_listing {
            check_promises(ledger, &before, &host.capacity, &host.foreign)?;
        }
        check_reservations(ledger, now)?;
        if let Some(input) = replayed {
            self.counts.replays += 1;
            crate::replay::ledger(ledger, now, &input)?;
        }
        if let Some(point) = self.crash_point(out.len()) {
            self.counts.crashes_amid_outputs += 1;
            out.truncate(point);
            self.carry_ledger(node, out)?;
            return self.crash_agent(node);
        }
        self.carry_ledger(node, out)?;
        self.tick_ledger(node);
        Ok(())
    }

    fn tick_ledger(&mut self, node: usize) {
        let host = &self.nodes[node];
        let Some(ledger) = &host.ledger else { return };
        let at = self.clocks[node].when(ledger.next_tick()).max(self.now + 1_000);
        if host.tick_at.is_none_or(|known| at < known) {
            let life = host.life;
            self.nodes[node].tick_at = Some(at);
            self.queue.push(at, Event::LedgerTick { node, life });
        }
    }

    pub(crate) fn carry_ledger(&mut self, node: usize, out: Vec<LedgerOutput>) -> Result<(), Violation> {
        for output in out {
            match output {
                LedgerOutput::Journal(record) => {
                    self.check_ledger_record(node, &record)?;
                    self.note_ledger_record(node, &record);
                    self.nodes[node].disk.push(record);
                }
                LedgerOutput::Send { to, message } => {
                    if let ControlMessage::Committed { replica, token } = &message {
                        self.nodes[node].told.insert((replica.clone(), *token));
                    }
                    self.send(node, to, &message);
                }
                LedgerOutput::Start(workload) => {
                    self.log.line(
                        self.now,
                        format_args!(
                            "{:?} starts {} {}",
                            self.nodes[node].config.id, workload.replica, workload.token
                        ),
                    );
                    if let Some(process) = self.nodes[node].runtime.start(workload) {
                        let span = self.rng.u64(1_000..300_000);
                        self.after(span, Event::ProcessStarts { node, process });
                    }
                }
                LedgerOutput::Stop { replica, token } => {
                    self.check_stop(node, &replica, token)?;
                    let span = match self.nodes[node].runtime.stop(&replica, token) {
                        None => continue,
                        Some(true) => self.rng.u64(1_000..1_500_000),
                        Some(false) => 100,
                    };
                    self.after(span, Event::ProcessStops { node, replica, token });
                }
                LedgerOutput::LeaseUntil(until) => {
                    self.nodes[node].runtime.lease(until);
                    let (at, boot) = (self.clocks[node].when(until), self.nodes[node].boot);
                    self.queue.push(at, Event::GuardFires { node, boot });
                }
                LedgerOutput::Note(note) => {
                    self.log.line(self.now, format_args!("{:?} notes {note:?}", self.nodes[node].config.id));
                }
            }
        }
        Ok(())
    }

    fn note_ledger_record(&mut self, node: usize, record: &LedgerRecord) {
        if let LedgerRecord::Closed { replica, token } = record {
            let promised = self.nodes[node].told.remove(&(replica.clone(), *token));
            self.counts.reservations_closed += u64::from(!promised);
        }
        let id = self.nodes[node].config.id;
        match record {
            LedgerRecord::Committed { replica, token, spec } => {
                self.log.line(
                    self.now,
                    format_args!(
                        "{id:?} journals Committed {replica} {token} generation {}",
                        spec.generation
                    ),
                );
            }
            other => self.log.line(self.now, format_args!("{id:?} journals {other:?}")),
        }
    }

    pub(crate) fn feed_elector(&mut self, node: usize, input: ElectorInput) -> Result<(), Violation> {
        let now = self.read_clock(node);
        let replayed = self.picks_replay().then(|| input.clone());
        let Some(elector) = &mut self.electors[node].elector else { return Ok(()) };
        let mut out = Vec::new();
        let was_ready = elector.lead().is_ready();
        elector.handle(now, input, &mut out);
        let lead = elector.lead();
        check_links(lead)?;
        let (links, uplinks) = (lead.link_reservations(), lead.traits().uplink_reserved.0);
        self.counts.links_reserved += u64::from(!links.is_empty());
        self.counts.uplinks_reserved += u64::from(uplinks > 0);
        self.counts.links_full += u64::from(links.values().any(|used| used.0 > 60) || uplinks > 20);
        // What comes just before a takeover is complete is left unanswered; its repeat is the first that counts.
        if let Some(lead) = elector.in_office() {
            self.oracle.decided(lead);
            self.counts.brake_held += u64::from(lead.brake().is_some_and(|brake| brake.held > 0));
        }
        if let Some(input) = replayed.filter(|_| elector.lead().is_ready() == was_ready) {
            self.counts.replays += 1;
            crate::replay::elector(elector, now, &input)?;
        }
        if let Some(point) = self.crash_point(out.len()) {
            self.counts.crashes_amid_outputs += 1;
            out.truncate(point);
            self.carry_elector(node, out)?;
            return self.crash_elector(node);
        }
        self.carry_elector(node, out)?;
        self.check_one_lead(node)?;
        let host = &self.electors[node];
        let Some(elector) = &host.elector else { return Ok(()) };
        let at = self.clocks[node].when(elector.next_tick(now)).max(self.now + 1_000);
        if host.tick_at.is_none_or(|known| at < known) {
            let life = host.life;
            self.electors[node].tick_at = Some(at);
            self.queue.push(at, Event::ElectorTick { node, life });
        }
        Ok(())
    }

    /// An operator's word, said to whoever leads there now.
    pub(crate) fn release_brake(&mut self, node: usize) -> Result<(), Violation> {
        let now = self.read_clock(node);
        let Some(elector) = &mut self.electors[node].elector else { return Ok(()) };
        let mut out = Vec::new();
        let told = elector.command(now, &mut out, Lead::release_brake);
        self.log.line(self.now, format_args!("operator releases the brake of node {node}: {told:?}"));
        self.carry_elector(node, out)?;
        self.feed_elector(node, ElectorInput::Tick)
    }

    fn check_one_lead(&self, node: usize) -> Result<(), Violation> {
        let cluster = self.nodes[node].cluster;
        let acting: Vec<_> = (0..self.nodes.len())
            .filter(|at| self.nodes[*at].cluster == cluster)
            .filter(|at| {
                let elector = self.electors[*at].elector.as_ref();
                elector.is_some_and(|elector| elector.leads(self.read_clock(*at)))
            })
            .map(|at| (self.nodes[at].config.id, self.electors[at].elector.as_ref().map(|e| e.lead().term())))
            .collect();
        check(acting.len() <= 1, Invariant::OneLead, || format!("{acting:?}"))
    }

    pub(crate) fn carry_elector(&mut self, node: usize, out: Vec<ElectorOutput>) -> Result<(), Violation> {
        let (own, cluster) = (self.nodes[node].config.id, self.nodes[node].cluster);
        for output in out {
            match output {
                ElectorOutput::Journal(record) => {
                    let leads = self.electors[node].elector.as_ref().is_some_and(|e| e.in_office().is_some());
                    if let ElectionRecord::Appended { entry: Entry::Lead(record), .. } = &record
                        && leads
                    {
                        if let LeadRecord::HandedBack { replica, mandate, .. } = record {
                            self.counts.handed_back += 1;
                            self.oracle.lead_gave_up(replica, *mandate);
                            self.clusters[cluster].told.remove(&(replica.clone(), *mandate));
                        }
                        if !matches!(record, LeadRecord::Mandated { .. }) {
                            self.log.line(self.now, format_args!("lead {own:?} journals {record:?}"));
                        }
                    }
                    self.electors[node].disk.push(record);
                }
                ElectorOutput::Send { to, message } => {
                    self.check_lead_orders(node, &message)?;
                    let lead = self.electors[node].elector.as_ref().map(Elector::lead);
                    let keeps = |replica: &ReplicaId| {
                        lead.is_some_and(|lead| lead.mandates().any(|(known, _)| known == replica))
                    };
                    // What is handed back already left its answer behind; it was true when it was given.
                    if let ControlMessage::Accepted { replica, mandate, .. } = &message
                        && keeps(replica)
                    {
                        self.clusters[cluster].told.insert((replica.clone(), *mandate));
                    }
                    self.send(node, to, &message);
                }
                ElectorOutput::Lead(LeadOutput::Note(note)) => {
                    self.count_lead_note(node, cluster, &note)?;
                    self.log.line(self.now, format_args!("lead {own:?} notes {note:?}"));
                }
                ElectorOutput::Lead(_) => {}
                ElectorOutput::Note(note) => {
                    if let ElectorNote::ElectorateChanged { added, removed, .. } = &note {
                        self.counts.voters_added += u64::from(added.is_some());
                        self.counts.voters_removed += u64::from(removed.is_some());
                    }
                    self.log.line(self.now, format_args!("elector {own:?} notes {note:?}"));
                }
            }
        }
        Ok(())
    }

    fn count_lead_note(&mut self, node: usize, cluster: usize, note: &LeadNote) -> Result<(), Violation> {
        match note {
            LeadNote::TookOffice(_) => {
                let elector = self.electors[node].elector.as_ref();
                let knew = elector.is_some_and(|elector| elector.lead().members().next().is_some());
                self.counts.takeovers += u64::from(knew);
                self.check_succession(node)?;
            }
            LeadNote::NodeLost(_) => self.counts.nodes_lost += 1,
            LeadNote::NodeBack(_) => self.counts.nodes_back += 1,
            LeadNote::BrakeEngaged(_) => {
                self.counts.brakes_engaged += 1;
                if self.stormy && self.rng.bool() {
                    let span = self.rng.u64(100_000..6_000_000);
                    self.after(span, Event::ReleaseBrake { node });
                }
            }
            LeadNote::BrakeReleased { by_operator: false } => self.counts.brakes_ended += 1,
            LeadNote::BrakeReleased { by_operator: true } => self.counts.brakes_released += 1,
            LeadNote::Revoked(..) => self.counts.revocations += 1,
            LeadNote::Overlaps(..) => self.counts.overlaps += 1,
            LeadNote::Adopted(..) => self.counts.adoptions += 1,
            LeadNote::Placed(replica, node, _) => {
                self.counts.placements += 1;
                let (moved, migrated) = self.oracle.placed(replica, cluster, node);
                self.counts.moves += u64::from(moved);
                self.counts.migrations += u64::from(migrated);
            }
            _ => {}
        }
        Ok(())
    }

    pub(crate) fn feed_home(&mut self, input: HomeInput) -> Result<(), Violation> {
        let now = self.read_clock(self.home_machine());
        let replayed = self.picks_replay().then(|| input.clone());
        let Some(home) = &mut self.home.home else { return Ok(()) };
        let mut out = Vec::new();
        home.handle(now, input, &mut out);
        if let Some(input) = replayed {
            self.counts.replays += 1;
            crate::replay::home(home, now, &input, false)?;
        }
        self.carry_home_or_crash(out)
    }

    /// Carries out what a home wants done, or dies amid it. Whether all of it was done can be seen from the home.
    pub(crate) fn carry_home_or_crash(&mut self, mut out: Vec<HomeOutput>) -> Result<(), Violation> {
        if let Some(point) = self.crash_point(out.len()) {
            self.counts.crashes_amid_outputs += 1;
            out.truncate(point);
            self.carry_home(out)?;
            return self.crash_home();
        }
        self.carry_home(out)?;
        let now = self.read_clock(self.home_machine());
        let Some(home) = &self.home.home else { return Ok(()) };
        let at = self.clocks[self.home_machine()].when(home.next_tick(now)).max(self.now + 1_000);
        if self.home.tick_at.is_none_or(|known| at < known) {
            self.home.tick_at = Some(at);
            self.queue.push(at, Event::HomeTick { life: self.home.life });
        }
        Ok(())
    }

    fn carry_home(&mut self, out: Vec<HomeOutput>) -> Result<(), Violation> {
        let machine = self.home_machine();
        for output in out {
            match output {
                HomeOutput::Journal(record) => {
                    self.check_home_record(&record)?;
                    self.oracle.home_wrote(&record);
                    match &record {
                        HomeRecord::HandedBack { replica, mandate } => {
                            self.home.told.remove(&(replica.clone(), *mandate));
                        }
                        HomeRecord::Recalling { .. } => self.counts.recalls += 1,
                        HomeRecord::Removed { .. } => self.counts.removed += 1,
                        _ => {}
                    }
                    if !matches!(record, HomeRecord::Applied { .. }) {
                        self.log.line(self.now, format_args!("home journals {record:?}"));
                    }
                    self.home.disk.push(record);
                }
                HomeOutput::Send { to, message } => {
                    if let ControlMessage::Offer { replica, mandate, term, .. } = &message {
                        let told = self.home.told.entry((replica.clone(), *mandate)).or_insert(*term);
                        *told = (*told).max(*term);
                    }
                    self.send(machine, to, &message);
                }
                HomeOutput::Decided(_) => {}
                HomeOutput::Note(note) => {
                    if !matches!(note, HomeNote::Unplaceable(..)) {
                        self.log.line(self.now, format_args!("home notes {note:?}"));
                    }
                }
            }
        }
        Ok(())
    }
}
