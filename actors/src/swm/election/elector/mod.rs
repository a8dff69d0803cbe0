//! The elector: a voter, and with a majority of votes the lead of its cluster.
//!
//! Every agent has one. It keeps this member's [`Ballot`] and its copy of the lead's records; it stands for office when
//! nobody holds its vote any more; and while it is in office it feeds the [`Lead`] built on these records, has each
//! record on a majority of the voters before anything that follows from it leaves, and tends the electorate.
//!
//! Contract for the shell: as with the other cores, carry out outputs in order, and have every
//! [`ElectorOutput::Journal`] on disk before any later output leaves.

mod campaign;
mod copies;
mod record;
mod reign;
mod tend;
mod unrest;

use codeco_protocol::election::{ElectionMessage, Position};
use codeco_protocol::ids::{Incarnation, MemberId};
use codeco_protocol::messages::ControlMessage;
use codeco_protocol::token::Term;
use codeco_protocol::units::{BootTime, Micros};

use super::electorate::{Electorate, Role, Voter};
use super::voter::Ballot;
use crate::swm::advice::Advice;
use crate::swm::lead::{Lead, LeadConfig, LeadInput, LeadOutput};
use crate::swm::lease::LeaseConfig;

use campaign::Canvass;
use copies::Incoming;
pub use record::{ElectionRecord, Entry, PageError, Written, founding};
use reign::Reign;
use unrest::Unrest;

/// Leases of a voter within one of a node.
const VOTES_PER_LEASE: u64 = 4;
/// Leases of nodes without a word from a voter after which another one takes its place.
const LOST_AFTER_LEASES: u64 = 30;

/// What does not change while the process lives.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ElectorConfig {
    /// Of the lead that this member may become: its id, its cluster, how leases are counted.
    pub lead: LeadConfig,
    /// Where the nonces of this life of the process start.
    pub first_nonce: u64,
    /// Seed of the pauses that keep candidates apart.
    pub seed: u64,
    /// How leases of voters are counted. They are shorter than those of nodes, so that a new lead can grant to a node
    /// before what the last one has granted it ends: nothing that needs a lease stops when a lead dies.
    pub lease: LeaseConfig,
    /// Silence after which a voter is replaced.
    pub lost_after: Micros,
}

impl ElectorConfig {
    /// Defaults.
    #[must_use]
    pub fn new(lead: LeadConfig, first_nonce: u64, seed: u64) -> Self {
        let lost_after = Micros(lead.lease.duration.0.saturating_mul(LOST_AFTER_LEASES));
        let part = |whole: Micros| Micros(whole.0 / VOTES_PER_LEASE);
        let lease = LeaseConfig {
            duration: part(lead.lease.duration),
            margin: part(lead.lease.margin),
            drift_ppm: lead.lease.drift_ppm,
        };
        Self { lead, first_nonce, seed, lease, lost_after }
    }
}

/// What an elector is told.
#[derive(Debug, Clone, PartialEq)]
pub enum ElectorInput {
    /// A control message of an authenticated member: a voter, a node of this cluster, or a home.
    Message {
        /// The sender, as its certificate says.
        from: MemberId,
        /// The message.
        message: ControlMessage,
    },
    /// The lead of that term says who votes. Gossip: only news of having been left out are believed.
    Heard {
        /// Its term.
        term: Term,
        /// Its electorate.
        electorate: Electorate,
    },
    /// An operator's word: the majority is lost for good, and this member votes alone, above every version and term
    /// named here or known. Dangerous: if the others are not lost, there are two leads until they hear of it.
    Impose {
        /// Highest version anybody has seen.
        version: u64,
        /// Highest term anybody has seen.
        term: Term,
    },
    /// What forecasts say, for the lead while it is in office here.
    Advice(Advice),
    /// Time has passed.
    Tick,
}

/// What an elector wants done, in this order.
#[derive(Debug, Clone, PartialEq)]
pub enum ElectorOutput {
    /// On disk before anything that follows.
    Journal(ElectionRecord),
    /// To a member.
    Send {
        /// Whom.
        to: MemberId,
        /// What.
        message: ControlMessage,
    },
    /// The lead wants this done: evidence and notes.
    Lead(LeadOutput),
    /// Something people should see.
    Note(ElectorNote),
}

/// Something people should see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ElectorNote {
    /// A majority has voted for this member.
    Elected(Term),
    /// This member leads no longer.
    Resigned(Term, &'static str),
    /// The electorate has changed.
    ElectorateChanged {
        /// The present one.
        electorate: Electorate,
        /// Who votes now.
        added: Option<Voter>,
        /// Who does not any more.
        removed: Option<Voter>,
    },
    /// By an operator's word this member votes alone.
    Imposed(Electorate),
    /// A snapshot of the lead does not read.
    BadSnapshot(String),
}

#[derive(Debug, Clone, PartialEq)]
enum Standing {
    Idle,
    Canvassing(Canvass),
    /// A candidate, later lead.
    Reigning(Box<Reign>),
}

/// See the module.
#[derive(Debug, Clone, PartialEq)]
pub struct Elector {
    config: ElectorConfig,
    life: Incarnation,
    ballot: Ballot,
    electorate: Option<Electorate>,
    /// The records as far as they are known here; it decides only while this member is in office.
    lead: Lead,
    standing: Standing,
    /// Terms up to this one are of no use to a candidate.
    floor: Term,
    /// Not a candidate before.
    not_before: BootTime,
    /// Drawn by lot; stretched while elections are restless.
    pause: Micros,
    unrest: Unrest,
    luck: u64,
    nonces: u64,
    incoming: Option<Incoming>,
    /// Version of an electorate that has left this voter out.
    left_out_by: Option<u64>,
}

impl Elector {
    /// Restores an elector from its journal. A journal that is empty begins the life `fresh`.
    ///
    /// # Errors
    /// [`PageError`]: a snapshot that was taken as good does not read.
    pub fn recover(
        config: ElectorConfig,
        journal: &[ElectionRecord],
        fresh: Incarnation,
        now: BootTime,
    ) -> Result<(Self, Vec<ElectorOutput>), PageError> {
        let written = Written::read(journal)?;
        let mut out = Vec::new();
        if written.life.is_none() {
            out.push(ElectorOutput::Journal(ElectionRecord::Life(fresh)));
        }
        let (seed, first_nonce) = (config.seed, config.first_nonce);
        let elector = Self {
            life: written.life.unwrap_or(fresh),
            ballot: Ballot::recovered(written.promised, written.last, now, &config.lease),
            electorate: written.electorate,
            lead: Lead::recover(config.lead.clone(), &written.records),
            standing: Standing::Idle,
            floor: Term::default(),
            not_before: now,
            pause: Micros(0),
            unrest: Unrest::default(),
            luck: seed,
            nonces: first_nonce,
            incoming: None,
            left_out_by: None,
            config,
        };
        Ok((elector, out))
    }

    /// Feeds one input. Outputs are appended to `out`.
    pub fn handle(&mut self, now: BootTime, input: ElectorInput, out: &mut Vec<ElectorOutput>) {
        // A lead that was just given a message has looked at the time.
        let mut looked = false;
        match input {
            ElectorInput::Message { from, message: ControlMessage::Election(message) } => {
                self.handle_election(now, from, message, out);
            }
            ElectorInput::Message { from, message } => {
                looked = true;
                self.feed_lead(now, LeadInput::Message { from, message }, out);
            }
            ElectorInput::Heard { term, electorate } => self.handle_heard(now, term, &electorate, out),
            ElectorInput::Advice(advice) => {
                looked = true;
                self.feed_lead(now, LeadInput::Advice(advice), out);
            }
            ElectorInput::Impose { version, term } => self.impose(now, version, term, out),
            ElectorInput::Tick => {}
        }
        self.work(now, looked, out);
    }

    fn handle_election(
        &mut self,
        now: BootTime,
        from: MemberId,
        message: ElectionMessage,
        out: &mut Vec<ElectorOutput>,
    ) {
        use ElectionMessage as M;
        match message {
            M::Ask { life, nonce, term, last, canvass } => {
                let ask = campaign::Ask { nonce, term, last, canvass };
                if self.is_meant(from, life, out) && term.owner == from {
                    self.handle_ask(now, ask, out);
                }
            }
            M::Granted { life, nonce, term, canvass, last } => {
                let voter = Voter { member: from, incarnation: life };
                if canvass {
                    self.handle_willing(now, voter, term, out);
                } else {
                    self.handle_granted(now, voter, nonce, term, last, out);
                }
            }
            M::Refused { life, promised } => {
                self.handle_refused(now, Voter { member: from, incarnation: life }, promised, out);
            }
            M::Invite => self.send(from, M::Life { life: self.life }, out),
            M::Life { life } => self.handle_life(now, from, life),
            M::Page { life, at, number, pages, bytes } => {
                if self.is_meant(from, life, out) && at.term.owner == from {
                    self.handle_page(from, copies::Page { at, number, pages, bytes }, out);
                }
            }
            M::Taken { life, at, pages } => self.handle_taken(now, from, life, at, pages, out),
            M::Append { life, at, record } => {
                if self.is_meant(from, life, out) && at.term.owner == from {
                    self.handle_append(from, at, &record, out);
                }
            }
            M::Stored { life, last } => self.handle_stored(now, from, life, last, out),
        }
    }

    /// Whether a message is meant for this life of the journal; if not, its sender is told which one this is.
    fn is_meant(&self, from: MemberId, life: Incarnation, out: &mut Vec<ElectorOutput>) -> bool {
        if life != self.life {
            self.send(from, ElectionMessage::Life { life: self.life }, out);
        }
        life == self.life
    }

    /// What time alone brings about.
    fn work(&mut self, now: BootTime, looked: bool, out: &mut Vec<ElectorOutput>) {
        match &self.standing {
            Standing::Idle => {
                if self.due().is_some_and(|due| due <= now) {
                    self.begin_canvass(now, out);
                }
            }
            Standing::Canvassing(_) => self.go_on_canvassing(now, out),
            Standing::Reigning(_) => self.reign(now, looked, out),
        }
    }

    fn send(&self, to: MemberId, message: ElectionMessage, out: &mut Vec<ElectorOutput>) {
        out.push(ElectorOutput::Send { to, message: ControlMessage::Election(message) });
    }

    fn me(&self) -> Voter {
        Voter { member: self.config.lead.id, incarnation: self.life }
    }

    fn lease(&self) -> LeaseConfig {
        self.config.lease
    }

    /// A number below `below`, from the seed (SplitMix64, Steele et al., OOPSLA 2014).
    fn draw(&mut self, below: Micros) -> Micros {
        self.luck = self.luck.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.luck;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Micros((mixed ^ (mixed >> 31)) % below.0.max(1))
    }

    /// The lead, if this member is in office, whether or not it may act now.
    #[must_use]
    pub fn in_office(&self) -> Option<&Lead> {
        match &self.standing {
            Standing::Reigning(reign) if reign.open => Some(&self.lead),
            _ => None,
        }
    }

    /// Whether this member leads now: its lease holds and what opened its term is on a majority.
    #[must_use]
    pub fn leads(&self, now: BootTime) -> bool {
        matches!(&self.standing, Standing::Reigning(reign) if reign.open && reign.office.may_act(now))
    }

    /// The records as they are known here, whoever leads.
    #[must_use]
    pub fn lead(&self) -> &Lead {
        &self.lead
    }

    /// The life of the journal.
    #[must_use]
    pub fn life(&self) -> Incarnation {
        self.life
    }

    /// Who votes, as far as known here.
    #[must_use]
    pub fn electorate(&self) -> Option<&Electorate> {
        match &self.standing {
            Standing::Reigning(reign) => Some(reign.office.electorate()),
            _ => self.electorate.as_ref(),
        }
    }

    /// This member's vote.
    #[must_use]
    pub fn ballot(&self) -> &Ballot {
        &self.ballot
    }

    /// Members whose connections an election needs: all other voters, and those that are to become voters.
    pub fn peers(&self) -> impl Iterator<Item = MemberId> {
        let voters =
            self.electorate().into_iter().flat_map(Electorate::voters).map(|(voter, _)| voter.member);
        let followers = match &self.standing {
            Standing::Reigning(reign) => Some(reign.followers.keys().copied()),
            _ => None,
        };
        let votes = self.electorate().is_some_and(|electorate| electorate.contains(self.me()));
        let own = self.me().member;
        voters.chain(followers.into_iter().flatten()).filter(move |member| votes && *member != own)
    }

    /// Until when a voter has granted this member its lease, where this member is in office.
    #[must_use]
    pub fn granted_until(&self, voter: Voter) -> BootTime {
        match &self.standing {
            Standing::Reigning(reign) => reign.office.granted_until(voter),
            _ => BootTime(0),
        }
    }

    /// How far each voter's copy of the records goes, where this member is in office.
    pub fn stored(&self) -> impl Iterator<Item = (Voter, Role, Option<u64>)> {
        let reign = match &self.standing {
            Standing::Reigning(reign) => Some(reign),
            _ => None,
        };
        reign.into_iter().flat_map(|reign| {
            reign
                .office
                .electorate()
                .voters()
                .map(|(voter, role)| (voter, role, reign.office.stored_by(voter)))
        })
    }

    /// Position of the last record here.
    #[must_use]
    pub fn last(&self) -> Position {
        self.ballot.last()
    }

    /// The records that stand for the present state: a compacted journal.
    #[must_use]
    pub fn snapshot(&self) -> Vec<ElectionRecord> {
        let mut records = vec![ElectionRecord::Life(self.life)];
        if self.ballot.promised() != Term::default() {
            records.push(ElectionRecord::Promised(self.ballot.promised()));
        }
        if let Some(electorate) = self.electorate() {
            records.extend(record::snapshot_records(self.ballot.last(), electorate, self.lead.snapshot()));
        }
        records
    }

    /// When [`ElectorInput::Tick`] is due next.
    #[must_use]
    pub fn next_tick(&self, now: BootTime) -> BootTime {
        let idle = now + Micros::from_secs(1);
        let next = match &self.standing {
            Standing::Idle => self.due().unwrap_or(idle),
            Standing::Canvassing(canvass) => canvass.next_send.min(canvass.give_up),
            Standing::Reigning(reign) => reign.next_tick().min(self.lead.next_tick(now)),
        };
        next.max(now + Micros::from_millis(2))
    }
}

#[cfg(test)]
mod tests;
