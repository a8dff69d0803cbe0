//! In office: the lead is fed, its records are sent out, and what depends on them is held back until they are on a
//! majority of the voters and this member's own lease holds.

use std::collections::{BTreeMap, VecDeque};

use codeco_protocol::election::{ElectionMessage, PAGE_BYTES_MAX, Position};
use codeco_protocol::ids::{Incarnation, MemberId};
use codeco_protocol::token::Term;
use codeco_protocol::units::{BootTime, Micros};
use codeco_protocol::wire;

use super::super::electorate::{Electorate, Voter};
use super::super::office::Office;
use super::copies::Follower;
use super::record::{ElectionRecord, Entry};
use super::{Elector, ElectorNote, ElectorOutput, Standing};
use crate::swm::lead::{Lead, LeadInput, LeadOutput};
use crate::swm::lease::LeaseConfig;

/// Records of this term kept for voters that lag; one that lags further gets a snapshot.
const LOG_MAX: usize = 1_024;
/// Outputs of the lead that wait for a majority; while there are more, the lead hears nothing new.
const WAITING_MAX: usize = 16_384;

/// A candidature, and if it is won, the term.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Reign {
    pub(super) office: Office,
    /// Whether the votes were won.
    pub(super) open: bool,
    /// The other voters, and members that are to become voters.
    pub(super) followers: BTreeMap<MemberId, Follower>,
    /// The latest records, encoded; `None` for one that is too long to go alone.
    pub(super) log: VecDeque<(u64, Option<Vec<u8>>)>,
    /// Outputs, each with the record that must be on a majority before.
    waiting: VecDeque<(u64, LeadOutput)>,
    next_ask: BootTime,
    give_up: BootTime,
    pub(super) next_tend: BootTime,
    next_send: BootTime,
}

impl Reign {
    pub(super) fn candidate(
        now: BootTime,
        me: Voter,
        term: Term,
        electorate: Electorate,
        first_nonce: u64,
        lease: &LeaseConfig,
    ) -> Self {
        let others = electorate.voters().filter(|(voter, _)| *voter != me);
        let followers = others.map(|(voter, _)| (voter.member, Follower::of(now, Some(voter.incarnation))));
        Self {
            followers: followers.collect(),
            office: Office::new(term, electorate, first_nonce),
            open: false,
            log: VecDeque::new(),
            waiting: VecDeque::new(),
            next_ask: now,
            give_up: now + lease.duration,
            next_tend: now,
            next_send: now,
        }
    }

    pub(super) fn next_tick(&self) -> BootTime {
        let next = self.next_ask.min(self.next_send);
        if self.open { next.min(self.next_tend) } else { next.min(self.give_up) }
    }
}

impl Elector {
    /// What time brings about for a candidate or a lead.
    pub(super) fn reign(&mut self, now: BootTime, looked: bool, out: &mut Vec<ElectorOutput>) {
        let Standing::Reigning(reign) = &self.standing else { return };
        if !reign.open && reign.give_up <= now {
            self.resign(now, "not elected", out);
            self.give_way(now);
            return;
        }
        // Until then it is in office, but may not act. Where answers are late and nobody else stands, they may still come.
        let lease = self.lease().duration;
        let more = lease.0.saturating_mul(self.unrest.factor(reign.office.lease_until(), lease) - 1);
        let grace = Micros((self.config.lead.lease.duration.0 / 2).saturating_add(more));
        let lapsed = reign.open && now >= reign.office.lease_until() + grace;
        if lapsed {
            self.resign(now, "a majority of the voters does not answer", out);
            self.give_way(now);
            return;
        }
        if reign.next_ask <= now {
            self.ask_all(now, out);
        }
        self.open_if_won(now, out);
        if !matches!(&self.standing, Standing::Reigning(reign) if reign.open) {
            return;
        }
        if !looked {
            self.feed_lead(now, LeadInput::Tick, out);
        }
        self.tend_electorate(now, out);
        self.send_copies(now, out);
        self.release(now, out);
    }

    /// Asks for votes, or for the lease again: three times within one, so that two lost answers cost nothing.
    pub(super) fn ask_all(&mut self, now: BootTime, out: &mut Vec<ElectorOutput>) {
        let (lease, me, last) = (self.lease(), self.me(), self.ballot.last());
        let resend = self.config.lead.resend;
        let Standing::Reigning(reign) = &mut self.standing else { return };
        let every = Micros(lease.duration.0 / 3);
        reign.next_ask = now + if reign.open { every } else { every.min(resend) };
        let term = reign.office.term();
        if self.ballot.grant(now, term, last, &lease).is_ok() {
            let nonce = reign.office.ask(now, me);
            reign.office.granted(me, nonce, lease.duration);
        }
        let mut letters = Vec::new();
        for (member, follower) in &reign.followers {
            let Some(life) = follower.life else { continue };
            let nonce = reign.office.ask(now, Self::as_voter(*member, life));
            letters.push((*member, ElectionMessage::Ask { life, nonce, term, last, canvass: false }));
        }
        for (to, letter) in letters {
            self.send(to, letter, out);
        }
    }

    pub(super) fn handle_granted(
        &mut self,
        now: BootTime,
        voter: Voter,
        nonce: u64,
        term: Term,
        last: Position,
        out: &mut Vec<ElectorOutput>,
    ) {
        let duration = self.lease().duration;
        let Standing::Reigning(reign) = &mut self.standing else { return };
        if reign.office.term() != term {
            return;
        }
        reign.office.granted(voter, nonce, duration);
        self.note_stored(now, voter, last);
        self.open_if_won(now, out);
    }

    /// Takes office once a majority has voted.
    pub(super) fn open_if_won(&mut self, now: BootTime, out: &mut Vec<ElectorOutput>) {
        let me = self.me();
        let Standing::Reigning(reign) = &mut self.standing else { return };
        if reign.open || now >= reign.office.lease_until() {
            return;
        }
        let at = reign.office.last();
        if self.ballot.install(at).is_err() {
            return;
        }
        reign.open = true;
        reign.office.stored(me, at);
        let term = at.term;
        out.push(ElectorOutput::Journal(ElectionRecord::Opened(term)));
        out.push(ElectorOutput::Note(ElectorNote::Elected(term)));
        self.feed_lead(now, LeadInput::TakeOffice(term), out);
    }

    /// Has the lead decide; its records go to the voters, all else waits for them.
    pub(super) fn feed_lead(&mut self, now: BootTime, input: LeadInput, out: &mut Vec<ElectorOutput>) {
        let Standing::Reigning(reign) = &mut self.standing else { return };
        if !reign.open || reign.waiting.len() >= WAITING_MAX {
            return;
        }
        let mut decided = Vec::new();
        self.lead.set_own_lease(reign.office.lease_until());
        self.lead.handle(now, input, &mut decided);
        self.take_decisions(now, decided, out);
    }

    fn take_decisions(&mut self, now: BootTime, decided: Vec<LeadOutput>, out: &mut Vec<ElectorOutput>) {
        let mut needs = None;
        for output in decided {
            match output {
                LeadOutput::Journal(record) => self.append(Entry::Lead(record), out),
                LeadOutput::NeedsTerm(above) => needs = Some(above),
                other => {
                    if let Standing::Reigning(reign) = &mut self.standing {
                        reign.waiting.push_back((reign.office.last().sequence, other));
                    }
                }
            }
        }
        if let Some(above) = needs {
            self.floor = self.floor.max(above);
            self.resign(now, "a higher term is known", out);
            self.begin_canvass(now, out);
        }
    }

    /// Has the lead in office do as a person says; `None` if this member does not lead. Its records, and what follows
    /// from them, go the way of all others: the answer is known before they are on a majority.
    pub fn command<T>(
        &mut self,
        now: BootTime,
        out: &mut Vec<ElectorOutput>,
        command: impl FnOnce(&mut Lead, BootTime, &mut Vec<LeadOutput>) -> T,
    ) -> Option<T> {
        if !self.leads(now) {
            return None;
        }
        let mut decided = Vec::new();
        let answer = command(&mut self.lead, now, &mut decided);
        self.take_decisions(now, decided, out);
        self.work(now, false, out);
        Some(answer)
    }

    /// Writes down the next entry; the voters get it with [`Elector::send_copies`].
    fn append(&mut self, entry: Entry, out: &mut Vec<ElectorOutput>) {
        let Standing::Reigning(reign) = &mut self.standing else { return };
        let at = reign.office.append();
        self.store(at, entry, out);
    }

    /// Writes down an entry whose place is known.
    pub(super) fn store(&mut self, at: Position, entry: Entry, out: &mut Vec<ElectorOutput>) {
        let me = self.me();
        let Standing::Reigning(reign) = &mut self.standing else { return };
        let taken = self.ballot.take(at);
        debug_assert_eq!(taken, Ok(at), "a lead's own records are in order");
        reign.office.stored(me, at);
        let bytes = wire::encode(&entry).ok().filter(|bytes| bytes.len() <= PAGE_BYTES_MAX);
        reign.log.push_back((at.sequence, bytes));
        if reign.log.len() > LOG_MAX {
            reign.log.pop_front();
        }
        out.push(ElectorOutput::Journal(ElectionRecord::Appended { at, entry }));
    }

    /// Lets go what waits for records that are on a majority by now. The lease is looked at here, after the answers
    /// that made it so.
    fn release(&mut self, now: BootTime, out: &mut Vec<ElectorOutput>) {
        let Standing::Reigning(reign) = &mut self.standing else { return };
        if !reign.office.may_act(now) {
            return;
        }
        let Some(committed) = reign.office.committed() else { return };
        while let Some((_, output)) = reign.waiting.pop_front_if(|(after, _)| *after <= committed) {
            match output {
                LeadOutput::Send { message, .. } if !self.lead.still_means(now, &message) => {}
                LeadOutput::Send { to, message } => out.push(ElectorOutput::Send { to, message }),
                other => out.push(ElectorOutput::Lead(other)),
            }
        }
    }

    /// Leaves office, or the candidature. What has not left by now never does. The own vote bound this member for the
    /// sake of that term only, which is over.
    pub(super) fn resign(&mut self, now: BootTime, why: &'static str, out: &mut Vec<ElectorOutput>) {
        if let Standing::Reigning(reign) = std::mem::replace(&mut self.standing, Standing::Idle) {
            self.unrest.term_ends(reign.office.lease_until(), self.config.lease.duration);
            self.electorate = Some(reign.office.electorate().clone());
            self.ballot.release(self.config.lead.id);
            if reign.open {
                self.lead.leave_office();
                out.push(ElectorOutput::Note(ElectorNote::Resigned(reign.office.term(), why)));
            }
        }
        self.not_before = self.not_before.max(now);
    }

    pub(super) fn set_next_send(&mut self, at: BootTime) {
        if let Standing::Reigning(reign) = &mut self.standing {
            reign.next_send = at;
        }
    }

    /// A member says in which life its journal is.
    pub(super) fn handle_life(&mut self, now: BootTime, from: MemberId, life: Incarnation) {
        let Standing::Reigning(reign) = &mut self.standing else { return };
        if let Some(follower) = reign.followers.get_mut(&from)
            && follower.life != Some(life)
        {
            if let Some(old) = follower.life {
                reign.office.forget(Self::as_voter(from, old));
            }
            *follower = Follower::of(now, Some(life));
            reign.next_ask = now;
        }
    }
}
