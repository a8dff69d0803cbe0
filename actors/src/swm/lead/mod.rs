//! The lead: the one member that decides inside its cluster.
//!
//! Contract for the shell: as with the ledger, feed inputs through [`Lead::handle`], carry out outputs in order, and
//! have every [`LeadOutput::Journal`] where it outlives this process before any later output leaves: on the disks of a
//! majority of the voters, see [`super::election::elector`]. Recover with [`Lead::recover`], then
//! [`LeadInput::TakeOffice`]: a lead that restarts is a new lead, with a new term.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod brake;
mod constraints;
mod contact;
mod forget;
mod members;
mod offers;
mod placing;
mod record;
mod replace;
mod waiting;

use std::collections::{BTreeMap, BTreeSet};

use codeco_protocol::demands::PlaceRules;
use codeco_protocol::ids::{ClusterName, Incarnation, MemberId, NodeId, NodeName, ReplicaId};
use codeco_protocol::messages::{AppContext, ControlMessage, HeldBrief, NodeFacts, Replace, RunPhase, Told};
use codeco_protocol::resources::Resources;
use codeco_protocol::token::{Epoch, MandateId, Term, Token};
use codeco_protocol::units::{BitsPerSecond, BootTime, Micros};
use codeco_protocol::workload::{ChannelSpec, WorkloadSpec};

use super::advice::Advice;
use super::attempt::Stage;
use super::brake::{Brake, Missing};
use super::contact::ClusterContact;
use super::decision::Decision;
use super::lease::{LeadLease, LeaseConfig};
use super::takeover::Takeover;

pub use brake::{BrakeError, BrakeState};
pub use constraints::power_of;
pub use forget::ForgetError;
pub use record::LeadRecord;
pub(crate) use replace::is_available;

/// Why a replica that was never placed is placed.
const NEW: &str = "new replica";
/// Most mandates of one cluster.
pub const MANDATES_MAX: usize = 65_536;
/// Mandates that went back, remembered before a new term is taken to forget them.
pub const HISTORY_MAX: usize = 16_384;
/// Most nodes of one cluster.
pub const NODES_MAX: usize = 4_096;

/// What does not change while the process lives.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LeadConfig {
    /// The lead itself.
    pub id: MemberId,
    /// Its cluster.
    pub cluster: ClusterName,
    /// How leases are counted.
    pub lease: LeaseConfig,
    /// How long a node keeps a reservation; also how long its answer is waited for.
    pub reserve_ttl: Micros,
    /// Time between repeats of an unanswered order.
    pub resend: Micros,
    /// How long an accepted replica without a node is kept before its mandate is handed back.
    pub hand_back_after: Micros,
    /// Capacity of the cluster's uplink, where it is declared.
    pub uplink: Option<BitsPerSecond>,
}

impl LeadConfig {
    /// Defaults for a small cluster on a local network.
    #[must_use]
    pub fn new(id: MemberId, cluster: ClusterName, lease: LeaseConfig) -> Self {
        Self {
            id,
            cluster,
            lease,
            reserve_ttl: Micros(Micros::from_secs(1).0.min(lease.duration.0)),
            resend: Micros::from_millis(300),
            hand_back_after: Micros::from_secs(5),
            uplink: None,
        }
    }
}

/// What a lead is told.
#[derive(Debug, Clone, PartialEq)]
pub enum LeadInput {
    /// Begin (again) under a term that was won; one that is not above every known one is ignored.
    TakeOffice(Term),
    /// The lead's own right to act, as the election grants it.
    OwnLease(BootTime),
    /// A control message of an authenticated member: a node of this cluster, or a home.
    Message {
        /// The sender, as its certificate says.
        from: MemberId,
        /// The message.
        message: ControlMessage,
    },
    /// What forecasts say. Forgotten at the next start: it is only advice.
    Advice(Advice),
    /// Time has passed.
    Tick,
}

/// What a lead wants done, in this order.
#[derive(Debug, Clone, PartialEq)]
pub enum LeadOutput {
    /// On disk before anything that follows.
    Journal(LeadRecord),
    /// To a member.
    Send {
        /// Whom.
        to: MemberId,
        /// What.
        message: ControlMessage,
    },
    /// Evidence to keep.
    Decided(Box<Decision>),
    /// Something people should see.
    Note(LeadNote),
    /// Out of office from now on: only a term above this one can decide here.
    NeedsTerm(Term),
}

/// Something people should see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeadNote {
    /// A term has begun.
    TookOffice(Term),
    /// Every member has reported or was waited out: decisions are made again.
    Ready(Term),
    /// A node enrolled for the first time.
    Enrolled(NodeName),
    /// A node's lease has been waited out: what needs one no longer runs there.
    NodeLost(NodeName),
    /// An operator has removed a node for good.
    Forgotten(NodeName),
    /// A lost node answers again.
    NodeBack(NodeName),
    /// A replica runs nowhere for now.
    Unplaceable(ReplicaId, String),
    /// A replica was promised by a node.
    Placed(ReplicaId, NodeName, Token),
    /// A copy that another has replaced is being stopped.
    Revoked(ReplicaId, NodeName, Token),
    /// A copy serves on while the one that is to replace it is placed.
    Overlaps(ReplicaId, NodeName, Token),
    /// A copy unknown to this lead was found and taken over.
    Adopted(ReplicaId, NodeName, Token),
    /// Another home speaks for a replica from now on; what runs is left alone.
    Rehomed(ReplicaId, Epoch),
    /// A mandate went back to its home.
    HandedBack(ReplicaId, String),
    /// A copy that was found runs on without the bandwidth of its ASSURED channels: a link has no room for it.
    Unassured(ReplicaId, String),
    /// A message of an older lead or an older epoch was ignored.
    Ignored(String),
    /// A copy is stopped because its home has been silent for as long as it may be.
    HomeLost(ReplicaId),
    /// The home is heard again: the replica may run.
    HomeHeard(ReplicaId),
    /// Most nodes went missing at once: what was left behind there waits for them.
    BrakeEngaged(Missing),
    /// That is over.
    BrakeReleased {
        /// Whether an operator has said so; otherwise enough have come back.
        by_operator: bool,
    },
}

/// What a lead knows of a node.
#[derive(Debug, Clone, PartialEq)]
pub struct Member {
    /// Its name.
    pub name: NodeName,
    /// Its latest word about itself.
    pub facts: Option<NodeFacts>,
    /// When that came.
    pub heard: Option<BootTime>,
    /// Its lease, from this side.
    pub lease: LeadLease,
    /// The incarnation that reported to this term.
    pub reported: Option<Incarnation>,
    /// What it held when last heard.
    pub held: BTreeMap<ReplicaId, HeldBrief>,
    /// What it said was free when it last refused, until it speaks of itself again.
    pub refused_with: Option<Resources>,
    /// Whether its lease was waited out and it has not answered since.
    pub lost: bool,
    /// When that was.
    lost_since: Option<BootTime>,
    /// When it said what it holds.
    told: Told,
    next_fence: BootTime,
}

/// A mandate of this cluster.
#[derive(Debug, Clone, PartialEq)]
pub struct Mandate {
    /// The epoch it was given under: that of the tokens of its copies.
    pub epoch: Epoch,
    /// The right to speak for it; its owner is the home. Above `epoch` once another home has adopted the application.
    pub home: Epoch,
    /// The mandate.
    pub mandate: MandateId,
    /// What to run.
    pub spec: WorkloadSpec,
    /// Labels its node must have.
    pub node_selector: Vec<(String, String)>,
    /// The application around it.
    pub context: AppContext,
    /// Further rules for its place.
    pub rules: PlaceRules,
    /// Where it stands.
    pub stage: Stage,
    /// Whether the home wants it back.
    pub recalled: bool,
    /// What its node says of it.
    pub run: RunPhase,
    /// When it said so.
    run_told: Told,
    /// Generation that the node in `stage` was given.
    pub placed_generation: u64,
    /// What that takes.
    placed_resources: Resources,
    /// The channels it was given, which may be reserved on links.
    placed_channels: Vec<ChannelSpec>,
    accepted: bool,
    refused: BTreeSet<NodeId>,
    cause: &'static str,
    next_try: BootTime,
    next_send: BootTime,
    give_up: BootTime,
    idle_since: Option<BootTime>,
    told_unplaceable: bool,
    /// Until then a copy that served, and of which its node says that it does not yet, may serve after all.
    doubt_until: BootTime,
    /// What the home allows to be done with the present copy.
    replace: Replace,
    /// The copy that serves until the one in `stage` is ready.
    outgoing: Option<replace::Outgoing>,
    /// What the home was told last.
    told: Option<replace::Told>,
    /// Whether it may not run, because its home is silent.
    suspended: bool,
    /// Whether its last copy was left behind on a lost node, or may be on one that has not been heard in this term.
    adrift: bool,
    /// Whether it was told that the brake holds it.
    told_held: bool,
}

/// A mandate that went back to its home.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct HandedBack {
    epoch: Epoch,
    mandate: MandateId,
    /// The lead's term at the time.
    term: Term,
}

/// See the module.
#[derive(Debug, Clone, PartialEq)]
pub struct Lead {
    config: LeadConfig,
    term: Term,
    in_office: bool,
    ready: bool,
    own_lease: BootTime,
    takeover: Takeover,
    members: BTreeMap<NodeId, Member>,
    mandates: BTreeMap<ReplicaId, Mandate>,
    /// Mandates that went back, so that a late offer or a late copy is recognised.
    /// By home, so that no other member can speak for it.
    handed_back: BTreeMap<(ReplicaId, MemberId), HandedBack>,
    /// Copies left behind on lost nodes: to be stopped, or taken back, when the node returns.
    owed: BTreeMap<NodeId, BTreeMap<ReplicaId, Token>>,
    /// The last term in which each node was waited out. A lead that finds a node silent when it takes office does not
    /// know what runs there, so this is all it can remember; without it, the next lead would take a dead copy for
    /// the only one.
    waited_out: BTreeMap<NodeId, Term>,
    brake: Brake,
    /// Nodes that the brake does not count until they are heard: long gone, or gone by an operator's word.
    counted_out: BTreeSet<NodeId>,
    attempts: u64,
    /// Homes, as far as replicas ask for that.
    contacts: BTreeMap<MemberId, ClusterContact>,
    next_nonce: u64,
    office_since: BootTime,
    /// How many things this process has said to homes.
    said: u64,
    advice: Advice,
}

impl Lead {
    /// Restores a lead from its journal. It is out of office until [`LeadInput::TakeOffice`].
    #[must_use]
    pub fn recover(config: LeadConfig, records: &[LeadRecord]) -> Self {
        let mut lead = Self {
            config,
            term: Term::default(),
            in_office: false,
            ready: false,
            own_lease: BootTime(0),
            takeover: Takeover::default(),
            said: 0,
            members: BTreeMap::new(),
            mandates: BTreeMap::new(),
            handed_back: BTreeMap::new(),
            owed: BTreeMap::new(),
            waited_out: BTreeMap::new(),
            brake: Brake::default(),
            counted_out: BTreeSet::new(),
            attempts: 0,
            advice: Advice::default(),
            contacts: BTreeMap::new(),
            next_nonce: 0,
            office_since: BootTime(0),
        };
        for record in records {
            lead.replay(record);
        }
        lead
    }

    /// Feeds one input. Outputs are appended to `out`.
    pub fn handle(&mut self, now: BootTime, input: LeadInput, out: &mut Vec<LeadOutput>) {
        if now >= self.advice.until {
            // Whoever gave it has fallen silent.
            self.advice = Advice::default();
        }
        match input {
            LeadInput::TakeOffice(term) => self.take_office(now, term, out),
            LeadInput::OwnLease(until) => self.own_lease = until,
            LeadInput::Advice(advice) => self.advice = advice,
            LeadInput::Message { from, message } => {
                // The lead's own lease is checked here, after the reply that it acts on has come.
                if self.may_act(now) {
                    // First what time has brought about: a message must not be judged by a node that is lost by now.
                    self.wait_out_the_lost(now, out);
                    self.handle_message(now, from, message, out);
                }
            }
            LeadInput::Tick => {}
        }
        if self.may_act(now) {
            self.work(now, out);
        }
        debug_assert!(self.places_once(), "a mandate has at most one open attempt");
    }

    fn may_act(&self, now: BootTime) -> bool {
        self.in_office && now < self.own_lease
    }

    /// The present term cannot decide any more; whoever grants terms is asked for one above `above`.
    fn needs_term(&mut self, above: Term, out: &mut Vec<LeadOutput>) {
        self.in_office = false;
        out.push(LeadOutput::NeedsTerm(above.max(self.term)));
    }

    fn take_office(&mut self, now: BootTime, term: Term, out: &mut Vec<LeadOutput>) {
        if term <= self.term {
            return;
        }
        self.term = term;
        out.push(LeadOutput::Journal(LeadRecord::Term(self.term)));
        self.in_office = true;
        // What an earlier lead was answered is not known here.
        self.contacts.clear();
        self.office_since = now;
        self.ready = false;
        self.attempts = 0;
        self.takeover = Takeover::of(self.members.keys().copied());
        self.brake = Brake::default();
        for member in self.members.values_mut() {
            member.lease = LeadLease::assumed(now);
            member.reported = None;
            member.next_fence = now;
        }
        for mandate in self.mandates.values_mut() {
            if let Stage::Reserving(_) = mandate.stage {
                mandate.stage = Stage::Idle;
            }
            // Where its copy is will be reported, or it may be where nothing is heard from.
            mandate.adrift = true;
            mandate.told_held = false;
            if mandate.cause == NEW {
                // It may have run before: not handed back at the first refusal.
                mandate.cause = "lead took office";
            }
        }
        out.push(LeadOutput::Note(LeadNote::TookOffice(self.term)));
    }

    fn handle_message(
        &mut self,
        now: BootTime,
        from: MemberId,
        message: ControlMessage,
        out: &mut Vec<LeadOutput>,
    ) {
        use ControlMessage as M;
        match message {
            M::LeaseRequest { nonce, term_seen, incarnation, facts, held, told } => {
                let request = members::LeaseRequest { nonce, term_seen, incarnation, facts, held, told };
                self.handle_lease_request(now, from, request, out);
            }
            M::Report { term, facts, held, told } => {
                self.handle_report(now, from, members::Report { term, facts, held, told }, out);
            }
            M::Reserved { replica, token } => self.handle_reserved(now, from, &replica, token, out),
            M::Committed { replica, token } => self.handle_committed(now, from, &replica, token, out),
            M::Closed { replica, token, reason, free } => {
                self.handle_closed(now, from, &replica, token, &reason, free, out);
            }
            M::Stale { highest } => {
                if highest > self.term && highest.is_believed() {
                    self.needs_term(highest, out);
                }
            }
            M::Status { replica, token, run, told } => {
                self.handle_status(from, &replica, token, run, told);
            }
            M::BidRequest { request, context, demands } => {
                self.handle_bid_request(now, from, request, &context, &demands, out);
            }
            M::Offer {
                term,
                epoch,
                mandate,
                replica,
                spec,
                node_selector,
                context,
                replace,
                replaces,
                rules,
            } => {
                let allowed = (replace, replaces);
                let offer =
                    offers::Offer { epoch, mandate, replica, spec, node_selector, context, rules, allowed };
                self.handle_offer(now, from, term, offer, out);
            }
            M::Recall { epoch, mandate, replica } => {
                self.handle_recall(now, from, epoch, mandate, &replica, out);
            }
            M::Watched { nonce, term, lost } => self.handle_watched(now, from, (nonce, term), lost, out),
            _ => {}
        }
    }

    /// Replicas whose copies were left behind on nodes that are missing, and that wait for these as long as a brake holds.
    pub fn waiting_for_nodes(&self) -> impl Iterator<Item = &ReplicaId> {
        self.mandates.iter().filter(|(_, m)| m.waits_for_its_node()).map(|(replica, _)| replica)
    }

    /// What time alone brings about.
    fn work(&mut self, now: BootTime, out: &mut Vec<LeadOutput>) {
        self.fence_the_silent(now, out);
        self.ask_homes(now, out);
        self.stop_the_unheard(now, out);
        self.wait_out_the_lost(now, out);
        if !self.ready && self.takeover.is_complete() {
            self.ready = true;
            out.push(LeadOutput::Note(LeadNote::Ready(self.term)));
        }
        self.forget_settled_history(out);
        if self.ready {
            self.replace_what_is_due(now, out);
        }
        self.repeat_orders(now, out);
        if self.ready {
            self.tell_held(now, out);
            self.place_all(now, out);
            self.close_outgoing(now, out);
            self.tell_news(now, out);
        }
    }

    fn places_once(&self) -> bool {
        self.mandates.values().all(|m| match m.stage {
            Stage::Reserving(p) => p.token.term == self.term && p.token.mandate == m.mandate,
            _ => true,
        })
    }

    fn send(&self, to: MemberId, message: ControlMessage, out: &mut Vec<LeadOutput>) {
        out.push(LeadOutput::Send { to, message });
    }

    fn name_of(&self, node: NodeId) -> NodeName {
        self.members.get(&node).map_or_else(
            // Only members are ever placed on, and members are never forgotten while they hold something.
            unknown_node,
            |member| member.name.clone(),
        )
    }

    /// As [`LeadInput::OwnLease`], without anything happening.
    pub(crate) fn set_own_lease(&mut self, until: BootTime) {
        self.own_lease = until;
    }

    /// Decides nothing any more, until it takes office again.
    pub(crate) fn leave_office(&mut self) {
        self.in_office = false;
    }

    /// The present term.
    #[must_use]
    pub fn term(&self) -> Term {
        self.term
    }

    /// Whether every member has reported or was waited out.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.ready
    }

    /// The members.
    pub fn members(&self) -> impl Iterator<Item = (NodeId, &Member)> {
        self.members.iter().map(|(id, member)| (*id, member))
    }

    /// The mandates.
    pub fn mandates(&self) -> impl Iterator<Item = (&ReplicaId, &Mandate)> {
        self.mandates.iter()
    }

    /// When [`LeadInput::Tick`] is due next.
    #[must_use]
    pub fn next_tick(&self, now: BootTime) -> BootTime {
        let mut next = now + self.config.resend;
        next = self.next_end().map_or(next, |end| next.min(end));
        for mandate in self.mandates.values() {
            let due = match mandate.stage {
                // Before the takeover is complete nothing is placed.
                Stage::Idle if !self.ready || !self.may_move(mandate) => continue,
                Stage::Idle => mandate.next_try,
                Stage::Reserving(_) => mandate.give_up,
                Stage::Committing(_) | Stage::Closing(_) => mandate.next_send,
                Stage::Held(_) if mandate.is_outdated() => {
                    mandate.next_try.max(now + Micros::from_millis(50))
                }
                Stage::Held(_) => continue,
            };
            next = next.min(due);
        }
        next.max(now + Micros::from_millis(5))
    }
}

fn unknown_node() -> NodeName {
    // A constant that is a valid name; `NodeName::new` cannot fail on it.
    NodeName::new("unknown").unwrap_or_else(|_| unreachable!("a literal RFC 1123 label"))
}

#[cfg(test)]
mod tests;
