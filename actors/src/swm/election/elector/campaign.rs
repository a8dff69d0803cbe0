//! Standing for office, and voting.
//!
//! A candidate first asks whether it would be voted for (canvassing: Raft's pre-vote, Ongaro 2014, §9.6), so that a
//! member that returns from a cut raises no term and deposes nobody. Of two that canvass at a time, the one with the
//! lower term gives way.

use std::collections::BTreeSet;

use codeco_protocol::election::{ElectionMessage, Position};
use codeco_protocol::ids::MemberId;
use codeco_protocol::token::Term;
use codeco_protocol::units::{BootTime, Micros};

use super::super::electorate::{Electorate, Voter};
use super::super::voter::Refusal;
use super::record::{ElectionRecord, snapshot_records};
use super::reign::Reign;
use super::{Elector, ElectorNote, ElectorOutput, Standing};

/// Longest usual pauses of a candidate within a voter's lease.
const PAUSES_PER_LEASE: u64 = 4;

/// A question to a voter.
#[derive(Clone, Copy)]
pub(super) struct Ask {
    pub(super) nonce: u64,
    pub(super) term: Term,
    pub(super) last: Position,
    pub(super) canvass: bool,
}

/// Asking who would vote for a term.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Canvass {
    term: Term,
    willing: BTreeSet<Voter>,
    pub(super) give_up: BootTime,
    pub(super) next_send: BootTime,
}

impl Elector {
    /// From when on this member stands for office, if it may at all.
    pub(super) fn due(&self) -> Option<BootTime> {
        let electorate = self.electorate.as_ref()?;
        if self.left_out_by.is_some_and(|version| version > electorate.version())
            || !electorate.may_lead(self.me())
        {
            return None;
        }
        let own = self.ballot.promised().owner == self.me().member;
        let free = if own { self.not_before } else { self.not_before.max(self.ballot.bound_until()) };
        Some(if electorate.majority() == 1 { free } else { free + self.whole_pause() })
    }

    /// What keeps candidates apart that are free to stand at the same time.
    fn whole_pause(&self) -> Micros {
        let lease = self.lease().duration;
        let factor = self.unrest.factor(self.ballot.bound_until(), lease);
        let least = (lease.0 / PAUSES_PER_LEASE).saturating_mul(factor - 1);
        Micros(least.saturating_add(self.pause.0.saturating_mul(factor)))
    }

    /// Draws a new pause.
    fn draw_pause(&mut self) {
        self.pause = self.draw(Micros(self.lease().duration.0 / PAUSES_PER_LEASE));
    }

    fn next_term(&self) -> Term {
        self.ballot.promised().max(self.floor).max(self.lead.term()).next_for(self.me().member)
    }

    pub(super) fn begin_canvass(&mut self, now: BootTime, out: &mut Vec<ElectorOutput>) {
        let term = self.next_term();
        if self.ballot.would_grant(now, term, self.ballot.last()).is_err() {
            self.give_way(now);
            return;
        }
        let (lease, me) = (self.lease(), self.me());
        self.standing = Standing::Canvassing(Canvass {
            term,
            willing: BTreeSet::from([me]),
            give_up: now + lease.duration,
            next_send: now,
        });
        self.count_the_willing(now, out);
        self.go_on_canvassing(now, out);
    }

    pub(super) fn go_on_canvassing(&mut self, now: BootTime, out: &mut Vec<ElectorOutput>) {
        let resend = self.config.lead.resend;
        let Standing::Canvassing(canvass) = &mut self.standing else { return };
        if canvass.give_up <= now {
            self.give_way(now);
            return;
        }
        if canvass.next_send > now {
            return;
        }
        canvass.next_send = now + resend;
        let (term, last) = (canvass.term, self.ballot.last());
        let Some(electorate) = self.electorate.clone() else { return };
        for (voter, _) in electorate.voters().filter(|(voter, _)| *voter != self.me()) {
            let life = voter.incarnation;
            let ask = ElectionMessage::Ask { life, nonce: 0, term, last, canvass: true };
            self.send(voter.member, ask, out);
        }
    }

    /// Stands back for a while, drawn by lot.
    pub(super) fn give_way(&mut self, now: BootTime) {
        self.standing = Standing::Idle;
        let lease = self.lease().duration;
        self.not_before = now + Micros(lease.0 / 8);
        self.draw_pause();
    }

    pub(super) fn handle_willing(
        &mut self,
        now: BootTime,
        voter: Voter,
        term: Term,
        out: &mut Vec<ElectorOutput>,
    ) {
        if let Standing::Canvassing(canvass) = &mut self.standing
            && canvass.term == term
        {
            canvass.willing.insert(voter);
            self.count_the_willing(now, out);
        }
    }

    fn count_the_willing(&mut self, now: BootTime, out: &mut Vec<ElectorOutput>) {
        let (Standing::Canvassing(canvass), Some(electorate)) = (&self.standing, &self.electorate) else {
            return;
        };
        if electorate.reached(|voter| canvass.willing.contains(&voter).then_some(())).is_some() {
            let (term, electorate) = (canvass.term, electorate.clone());
            self.stand(now, term, electorate, out);
        }
    }

    /// A majority would vote for `term`: now the votes themselves.
    fn stand(&mut self, now: BootTime, term: Term, electorate: Electorate, out: &mut Vec<ElectorOutput>) {
        let (lease, served) = (self.lease(), self.ballot.bound_until());
        self.standing = Standing::Idle;
        if self.ballot.grant(now, term, self.ballot.last(), &lease).is_err() {
            self.give_way(now);
            return;
        }
        out.push(ElectorOutput::Journal(ElectionRecord::Promised(term)));
        self.unrest.term_begins(now, served, lease.duration);
        self.incoming = None;
        self.nonces = self.nonces.wrapping_add(1 << 20);
        let reign = Reign::candidate(now, self.me(), term, electorate, self.nonces, &lease);
        self.standing = Standing::Reigning(Box::new(reign));
        self.ask_all(now, out);
        self.open_if_won(now, out);
    }

    pub(super) fn handle_ask(&mut self, now: BootTime, ask: Ask, out: &mut Vec<ElectorOutput>) {
        let Ask { nonce, term, last, canvass } = ask;
        let (from, lease, life) = (term.owner, self.lease(), self.life);
        let lapsed = matches!(&self.standing, Standing::Reigning(reign) if reign.open && now >= reign.office.lease_until());
        if lapsed && from != self.me().member {
            self.resign(now, "a majority of the voters did not answer, and another member stands", out);
        }
        let (before, served) = (self.ballot.promised(), self.ballot.bound_until());
        let verdict = if !term.is_possible() {
            Err(Refusal::OldTerm(before))
        } else if canvass {
            self.ballot.would_grant(now, term, last)
        } else {
            self.ballot.grant(now, term, last, &lease)
        };
        if verdict.is_err() {
            self.send(from, ElectionMessage::Refused { life, promised: self.ballot.promised() }, out);
            return;
        }
        if canvass {
            // Who is about to be voted for is given the time to stand.
            if matches!(&self.standing, Standing::Canvassing(own) if own.term < term) {
                self.give_way(now);
            } else if matches!(self.standing, Standing::Idle) {
                self.not_before = self.not_before.max(now + Micros(lease.duration.0 / 8));
            }
        } else if before != term {
            out.push(ElectorOutput::Journal(ElectionRecord::Promised(term)));
            self.resign(now, "voted for another lead", out);
            self.unrest.term_begins(now, served, lease.duration);
            self.draw_pause();
        }
        let answer = ElectionMessage::Granted { life, nonce, term, canvass, last: self.ballot.last() };
        self.send(from, answer, out);
    }

    pub(super) fn handle_refused(
        &mut self,
        now: BootTime,
        voter: Voter,
        promised: Term,
        out: &mut Vec<ElectorOutput>,
    ) {
        if !promised.is_believed() || !self.electorate().is_some_and(|known| known.contains(voter)) {
            return;
        }
        self.floor = self.floor.max(promised);
        let Standing::Reigning(reign) = &self.standing else { return };
        if promised <= reign.office.term() {
            return;
        }
        // A voter that has promised a later term to somebody who did not win is lost to this one. With the majority
        // still there, a higher term brings it back; without, somebody else may lead by now.
        let leads = reign.open && now < reign.office.lease_until();
        self.resign(now, "a voter has promised a later term", out);
        if leads {
            self.begin_canvass(now, out);
        } else {
            self.give_way(now);
        }
    }

    /// Gossip: an electorate of a later term that does not count this member. It neither votes nor stands any more.
    pub(super) fn handle_heard(
        &mut self,
        now: BootTime,
        term: Term,
        electorate: &Electorate,
        out: &mut Vec<ElectorOutput>,
    ) {
        let Some(own) = self.electorate() else { return };
        let later = term > self.ballot.promised() && electorate.version() > own.version();
        if later && electorate.is_sound() && !electorate.contains(self.me()) && own.contains(self.me()) {
            self.left_out_by = Some(electorate.version());
            self.resign(now, "another electorate has taken over", out);
        }
    }

    /// By an operator's word this member votes alone.
    pub(super) fn impose(&mut self, now: BootTime, version: u64, term: Term, out: &mut Vec<ElectorOutput>) {
        self.resign(now, "an operator has replaced the electorate", out);
        let known =
            self.electorate.as_ref().map_or(0, Electorate::version).max(self.left_out_by.unwrap_or(0));
        let electorate = Electorate::imposed(self.me(), version.max(known));
        if term.is_believed() {
            self.floor = self.floor.max(term);
        }
        self.left_out_by = None;
        // Whoever says that the majority is gone says so to the brake as well.
        self.lead.count_only_itself();
        let records = snapshot_records(self.ballot.last(), &electorate, self.lead.snapshot());
        out.extend(records.into_iter().map(ElectorOutput::Journal));
        out.push(ElectorOutput::Note(ElectorNote::Imposed(electorate.clone())));
        self.electorate = Some(electorate);
        self.not_before = now;
    }

    /// The voter that a follower is.
    pub(super) fn as_voter(member: MemberId, life: codeco_protocol::ids::Incarnation) -> Voter {
        Voter { member, incarnation: life }
    }
}
