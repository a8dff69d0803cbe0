//! A node's ledger: the only authority over its resources.
//!
//! Contract for the shell: feed inputs through [`Ledger::handle`]; carry out the outputs in order; every
//! [`LedgerOutput::Journal`] must be on disk before any later output of the same or a later call is carried out.
//! After a restart, [`Ledger::recover`] from the records, then feed [`LedgerInput::Listed`] with what the runtime
//! still runs before anything else.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod orders;
mod record;
mod recover;
mod runs;

use std::collections::BTreeMap;

use codeco_protocol::coordinate::Coordinate;
use codeco_protocol::ids::{Incarnation, MemberId, NodeId, NodeName, ReplicaId};
use codeco_protocol::messages::{ControlMessage, Held, HeldBrief, HeldPhase, NodeFacts, RunPhase, Told};
use codeco_protocol::resources::Resources;
use codeco_protocol::token::{Term, Token};
use codeco_protocol::units::{BootTime, Micros, MilliWatts};
use codeco_protocol::workload::{PartitionPolicy, Workload, WorkloadSpec};

use super::lease::{LeaseConfig, NodeLease};
use super::slot::Slot;

pub use record::{LedgerRecord, Upkeep};

/// Most replicas a node remembers, held or closed. Orders about more are not answered.
pub const SLOTS_MAX: usize = 4_096;
/// Leases within which a lead is told everything again, whatever it has answered to.
const FACTS_EVERY_LEASES: u64 = 10;

/// What does not change while the process lives.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LedgerConfig {
    /// The node.
    pub id: NodeId,
    /// Its name within the cluster.
    pub name: NodeName,
    /// Labels.
    pub labels: Vec<(String, String)>,
    /// Power when idle and at full load.
    pub power: Option<(MilliWatts, MilliWatts)>,
    /// What it declares about itself.
    pub traits: codeco_protocol::demands::NodeTraits,
    /// How leases are counted.
    pub lease: LeaseConfig,
    /// Where the nonces of this life of the process start.
    pub first_nonce: u64,
}

/// What the runtime reports of a replica.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum RuntimeFact {
    /// Its processes exist.
    Starting,
    /// It is ready.
    Ready,
    /// It ended and stays so.
    Finished,
    /// It cannot run now.
    Failed,
    /// It was stopped because its lease had ended.
    Fenced,
    /// It is proven not to run.
    Stopped,
}

/// What a ledger is told.
#[derive(Debug, Clone, PartialEq)]
pub enum LedgerInput {
    /// A control message of `from`, an authenticated member of this cluster.
    Message {
        /// The sender, as its certificate says.
        from: MemberId,
        /// The message.
        message: ControlMessage,
    },
    /// Which member leads the cluster, as configured or elected.
    LeadIs(MemberId),
    /// Time has passed.
    Tick,
    /// The node's size, and what others use of it.
    Capacity {
        /// All there is.
        capacity: Resources,
        /// Used by others.
        foreign: Resources,
    },
    /// Measured round trips.
    RoundTrips(Vec<(MemberId, Micros)>),
    /// Where the node is in the network.
    Coordinate(Coordinate),
    /// An operator keeps work away, has it moved away, or lets it come again.
    Upkeep(Upkeep),
    /// What the runtime runs: once, after a start.
    Listed(Vec<Workload>),
    /// The runtime reports.
    Runtime {
        /// Which replica.
        replica: ReplicaId,
        /// Under which token.
        token: Token,
        /// What.
        fact: RuntimeFact,
    },
}

/// What a ledger wants done, in this order.
#[derive(Debug, Clone, PartialEq)]
pub enum LedgerOutput {
    /// On disk before anything that follows.
    Journal(LedgerRecord),
    /// To a member.
    Send {
        /// Whom.
        to: MemberId,
        /// What.
        message: ControlMessage,
    },
    /// Start it; repeating is harmless.
    Start(Workload),
    /// Stop it and report [`RuntimeFact::Stopped`] when that is proven; repeating is harmless.
    Stop {
        /// Which replica.
        replica: ReplicaId,
        /// Under which token.
        token: Token,
    },
    /// Replicas that need a lease may run until then.
    LeaseUntil(BootTime),
    /// Something people should see.
    Note(LedgerNote),
}

/// Something people should see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LedgerNote {
    /// The slot table is full: an order was not answered.
    SlotsExhausted,
    /// The runtime ran something the journal does not hold; it is being stopped.
    UnknownWorkload(ReplicaId, Token),
    /// This incarnation lost its journal; what still ran was taken over under its old token.
    TakenOver(ReplicaId, Token),
    /// A lead of an older term gave an order.
    StaleOrder(Term),
    /// The lease has ended: replicas that need one are stopped until a lead answers.
    LeaseEnded,
    /// An operator has cordoned, drained or opened the node.
    Upkeep(Upkeep),
}

/// One replica with all that belongs to it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Entry {
    /// The rule.
    pub slot: Slot,
    /// What it takes while held.
    pub resources: Resources,
    /// When a reservation ends.
    pub expires: BootTime,
    /// What to run, once committed.
    pub spec: Option<WorkloadSpec>,
    /// What the runtime says.
    pub run: RunPhase,
}

impl Default for Entry {
    fn default() -> Self {
        Self {
            slot: Slot::default(),
            resources: Resources::default(),
            expires: BootTime(0),
            spec: None,
            run: RunPhase::Waiting,
        }
    }
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Ledger {
    config: LedgerConfig,
    incarnation: Incarnation,
    admitted: bool,
    term: Term,
    entries: BTreeMap<ReplicaId, Entry>,
    capacity: Resources,
    foreign: Resources,
    round_trips: Vec<(MemberId, Micros)>,
    coordinate: Option<Coordinate>,
    lease: NodeLease,
    /// How many things were said in this life.
    said: u64,
    /// Facts on their way to the lead, with the nonce of their request.
    telling: Option<(u64, NodeFacts)>,
    /// Facts the lead of this term has answered to, and since when.
    told: Option<(Term, BootTime, NodeFacts)>,
    lease_ended_noted: bool,
    lead: Option<MemberId>,
    next_ask: BootTime,
    upkeep: Upkeep,
}

impl Ledger {
    /// Feeds one input. Outputs are appended to `out`.
    pub fn handle(&mut self, now: BootTime, input: LedgerInput, out: &mut Vec<LedgerOutput>) {
        match input {
            LedgerInput::Message { from, message } => self.handle_message(now, from, message, out),
            LedgerInput::LeadIs(lead) => {
                if self.lead != Some(lead) {
                    self.lead = Some(lead);
                    self.next_ask = now;
                    self.ask_for_lease(now, out);
                }
            }
            LedgerInput::Tick => self.handle_tick(now, out),
            LedgerInput::Capacity { capacity, foreign } => {
                self.capacity = capacity;
                self.foreign = foreign;
            }
            LedgerInput::RoundTrips(list) => self.round_trips = list,
            LedgerInput::Coordinate(coordinate) => self.coordinate = Some(coordinate),
            LedgerInput::Upkeep(upkeep) => self.set_upkeep(now, upkeep, out),
            LedgerInput::Listed(running) => self.handle_listed(now, &running, out),
            LedgerInput::Runtime { replica, token, fact } => {
                self.handle_runtime(now, &replica, token, &fact, out);
            }
        }
        debug_assert!(self.keeps_its_promises(), "I1: never more promised than there is");
    }

    /// On disk before it is told to anybody; the lead hears of it at once.
    fn set_upkeep(&mut self, now: BootTime, upkeep: Upkeep, out: &mut Vec<LedgerOutput>) {
        if self.upkeep != upkeep {
            self.upkeep = upkeep;
            out.push(LedgerOutput::Journal(LedgerRecord::Upkeep(upkeep)));
            out.push(LedgerOutput::Note(LedgerNote::Upkeep(upkeep)));
            self.ask_for_lease(now, out);
        }
    }

    /// What an operator has said of this node.
    #[must_use]
    pub fn upkeep(&self) -> Upkeep {
        self.upkeep
    }

    fn handle_tick(&mut self, now: BootTime, out: &mut Vec<LedgerOutput>) {
        let expired: Vec<_> = self
            .entries
            .iter()
            .filter_map(|(replica, entry)| match entry.slot.held {
                Some((token, HeldPhase::Reserved)) if entry.expires <= now => Some((replica.clone(), token)),
                _ => None,
            })
            .collect();
        for (replica, token) in expired {
            self.end(&replica, token, out);
        }
        if !self.lease.holds(now) && !self.lease_ended_noted {
            self.lease_ended_noted = true;
            out.push(LedgerOutput::Note(LedgerNote::LeaseEnded));
        }
        if self.next_ask <= now {
            self.ask_for_lease(now, out);
        }
    }

    /// Asks three times within a lease, so that two lost answers cost nothing.
    fn ask_for_lease(&mut self, now: BootTime, out: &mut Vec<LedgerOutput>) {
        self.next_ask = now + Micros(self.config.lease.duration.0 / 3);
        let Some(lead) = self.lead else { return };
        let nonce = self.lease.ask(now);
        let (term_seen, incarnation, held) = (self.term, self.incarnation, self.held_briefs());
        let facts = self.facts_to_tell(now, nonce);
        let told = self.tell();
        let message = ControlMessage::LeaseRequest { nonce, term_seen, incarnation, facts, held, told };
        out.push(LedgerOutput::Send { to: lead, message });
    }

    /// The mark of the next thing said.
    fn tell(&mut self) -> Told {
        self.said += 1;
        Told { life: self.config.first_nonce, number: self.said }
    }

    /// What the lead does not know of this node already; everything, now and then.
    fn facts_to_tell(&mut self, now: BootTime, nonce: u64) -> Option<NodeFacts> {
        let facts = self.facts();
        let again = Micros(self.config.lease.duration.0.saturating_mul(FACTS_EVERY_LEASES));
        let known = self.told.as_ref().is_some_and(|(term, since, told)| {
            *term == self.term && now.since(*since) < again && *told == facts
        });
        if known {
            return None;
        }
        self.told = None;
        self.telling = Some((nonce, facts.clone()));
        Some(facts)
    }

    /// Ends what `token` holds: journalled, resources free.
    fn end(&mut self, replica: &ReplicaId, token: Token, out: &mut Vec<LedgerOutput>) {
        let Some(entry) = self.entries.get_mut(replica) else { return };
        if entry.slot.stopped(token) {
            *entry = Entry { slot: entry.slot, ..Entry::default() };
            out.push(LedgerOutput::Journal(LedgerRecord::Closed { replica: replica.clone(), token }));
        }
    }

    /// Forgets closed tokens that the present term refuses anyway.
    fn prune(&mut self) {
        let term = self.term;
        self.entries.retain(|_, entry| {
            if !entry.slot.is_worth_keeping(term) {
                return false;
            }
            // Also beside something held, or a recovered ledger would differ from the one that wrote its journal.
            entry.slot.closed = entry.slot.closed.filter(|closed| closed.term >= term);
            true
        });
    }

    fn raise_term(&mut self, term: Term, out: &mut Vec<LedgerOutput>) {
        if term > self.term {
            self.term = term;
            self.lease.forget_requests();
            out.push(LedgerOutput::Journal(LedgerRecord::Term(term)));
        }
    }

    /// The node's word about itself.
    #[must_use]
    pub fn facts(&self) -> NodeFacts {
        NodeFacts {
            name: self.config.name.clone(),
            incarnation: self.incarnation,
            capacity: self.capacity.clone(),
            free: self.free(),
            labels: self.config.labels.clone(),
            power: self.config.power,
            cordoned: self.upkeep != Upkeep::Open,
            round_trips: self.round_trips.clone(),
            draining: self.upkeep == Upkeep::Draining,
            coordinate: self.coordinate,
            traits: self.config.traits,
        }
    }

    /// What is neither promised nor used by others.
    #[must_use]
    pub fn free(&self) -> Resources {
        self.capacity.minus(&self.foreign).minus(&self.promised())
    }

    /// What is promised.
    #[must_use]
    pub fn promised(&self) -> Resources {
        self.entries.values().fold(Resources::default(), |sum, entry| {
            if entry.slot.held.is_some() { sum.plus(&entry.resources) } else { sum }
        })
    }

    /// I1, as far as this ledger is to blame: promises made fit what there was when they were made; foreign use
    /// that grows later may exceed the rest.
    fn keeps_its_promises(&self) -> bool {
        self.capacity == Resources::default() || self.promised().fits_in(&self.capacity)
    }

    /// What is held, without specifications.
    #[must_use]
    pub fn held_briefs(&self) -> Vec<HeldBrief> {
        self.entries
            .iter()
            .filter_map(|(replica, entry)| {
                let (token, phase) = entry.slot.held?;
                Some(HeldBrief { replica: replica.clone(), token, phase, run: entry.run })
            })
            .collect()
    }

    /// What is promised, with specifications.
    #[must_use]
    pub fn held(&self) -> Vec<Held> {
        self.held_briefs()
            .into_iter()
            .filter_map(|brief| {
                let spec = self.entries.get(&brief.replica)?.spec.clone()?;
                Some(Held { brief, spec })
            })
            .collect()
    }

    /// The replicas known, held or closed.
    pub fn entries(&self) -> impl Iterator<Item = (&ReplicaId, &Entry)> {
        self.entries.iter()
    }

    /// The life of the journal.
    #[must_use]
    pub fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// Whether a lead with a lease has admitted this incarnation.
    #[must_use]
    pub fn is_admitted(&self) -> bool {
        self.admitted
    }

    /// The highest term obeyed.
    #[must_use]
    pub fn term(&self) -> Term {
        self.term
    }

    /// When the lease ends.
    #[must_use]
    pub fn lease_until(&self) -> BootTime {
        self.lease.until()
    }

    /// When [`LedgerInput::Tick`] is due next.
    #[must_use]
    pub fn next_tick(&self) -> BootTime {
        let expiry = self
            .entries
            .values()
            .filter(|entry| matches!(entry.slot.held, Some((_, HeldPhase::Reserved))))
            .map(|entry| entry.expires)
            .min();
        expiry.map_or(self.next_ask, |at| at.min(self.next_ask))
    }

    fn may_run(&self, now: BootTime, spec: &WorkloadSpec) -> bool {
        match spec.partition {
            PartitionPolicy::Autonomous => true,
            PartitionPolicy::Fence => self.lease.holds(now),
        }
    }
}

#[cfg(test)]
mod tests;
