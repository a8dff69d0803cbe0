//! Copies of the lead's records at the voters: both sides.

use codeco_protocol::election::{ElectionMessage, PAGE_BYTES_MAX, PAGES_MAX, Position};
use codeco_protocol::ids::{Incarnation, MemberId};
use codeco_protocol::units::BootTime;
use codeco_protocol::wire;

use super::super::electorate::Voter;
use super::super::voter::Refusal;
use super::record::{ElectionRecord, Entry, from_pages, to_pages};
use super::{Elector, ElectorNote, ElectorOutput, Standing};
use crate::swm::lead::Lead;

/// Records on their way to one voter at most.
const IN_FLIGHT_MAX: u64 = 64;

/// A snapshot on its way here.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Incoming {
    at: Position,
    pages: Vec<Vec<u8>>,
}

/// One page of it.
pub(super) struct Page {
    pub(super) at: Position,
    pub(super) number: u32,
    pub(super) pages: u32,
    pub(super) bytes: Vec<u8>,
}

/// A snapshot on its way to a voter.
#[derive(Debug, Clone, PartialEq)]
struct Outgoing {
    at: Position,
    pages: Vec<Vec<u8>>,
    /// Pages the voter has.
    taken: usize,
}

/// Another voter, or a member that is to become one, as the lead sees it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Follower {
    /// The life of its journal, once known.
    pub(super) life: Option<Incarnation>,
    /// How far its copy goes, as it said last.
    pub(super) last: Option<Position>,
    /// When it was heard last, or first looked for.
    pub(super) heard: BootTime,
    pub(super) next_invite: BootTime,
    /// Records up to this one are on their way.
    sent: u64,
    snapshot: Option<Outgoing>,
    next_send: BootTime,
}

impl Follower {
    pub(super) fn of(now: BootTime, life: Option<Incarnation>) -> Self {
        Self { life, last: None, heard: now, next_invite: now, sent: 0, snapshot: None, next_send: now }
    }
}

impl Elector {
    /// Notes what a voter says of its copy.
    pub(super) fn note_stored(&mut self, now: BootTime, voter: Voter, last: Position) {
        let Standing::Reigning(reign) = &mut self.standing else { return };
        let Some(follower) = reign.followers.get_mut(&voter.member) else { return };
        if follower.life != Some(voter.incarnation) {
            return;
        }
        reign.office.stored(voter, last);
        follower.heard = now;
        // Late news of less are no news.
        if follower.last.is_none_or(|known| known.term != reign.office.term() || last > known) {
            follower.last = Some(last);
        }
        if follower.snapshot.as_ref().is_some_and(|snapshot| last >= snapshot.at) {
            follower.snapshot = None;
            follower.sent = last.sequence;
        }
    }

    /// Sends each follower what it lacks: what is new at once, what is not answered again after a while.
    pub(super) fn send_copies(&mut self, now: BootTime, out: &mut Vec<ElectorOutput>) {
        let resend = self.config.lead.resend;
        let mut letters = Vec::new();
        let mut next = now + self.lease().duration;
        let Standing::Reigning(reign) = &mut self.standing else { return };
        let end = reign.office.last();
        for (member, follower) in &mut reign.followers {
            let (Some(life), Some(last)) = (follower.life, follower.last) else { continue };
            if last == end {
                follower.snapshot = None;
                continue;
            }
            let due = follower.next_send <= now;
            // What a voter says of its copy may be any number.
            let lacks = last.sequence.saturating_add(1);
            let first = reign.log.front().map_or(end.sequence.saturating_add(1), |(sequence, _)| *sequence);
            let follows = last.term == end.term && lacks >= first;
            if follower.snapshot.is_none() && follows {
                let from = if due { lacks } else { follower.sent.saturating_add(1).max(lacks) };
                let to = end.sequence.min(last.sequence.saturating_add(IN_FLIGHT_MAX));
                let records = reign.log.iter().filter(|(sequence, _)| (from..=to).contains(sequence));
                for (sequence, record) in records {
                    let Some(record) = record.clone() else { break };
                    let at = Position { sequence: *sequence, ..end };
                    follower.sent = *sequence;
                    follower.next_send = now + resend;
                    letters.push((*member, ElectionMessage::Append { life, at, record }));
                }
                let stuck = reign.log.iter().any(|(sequence, record)| *sequence == lacks && record.is_none());
                if !stuck {
                    next = next.min(follower.next_send);
                    continue;
                }
            }
            if follower.snapshot.is_none() {
                let pages = to_pages(reign.office.electorate(), self.lead.snapshot());
                follower.snapshot = Some(Outgoing { at: end, pages, taken: 0 });
                follower.next_send = now;
            }
            if let Some(snapshot) = &follower.snapshot
                && follower.next_send <= now
            {
                follower.next_send = now + resend;
                letters.extend(snapshot.page(life).map(|page| (*member, page)));
            }
            next = next.min(follower.next_send);
        }
        for (to, letter) in letters {
            self.send(to, letter, out);
        }
        self.set_next_send(next);
    }

    pub(super) fn handle_taken(
        &mut self,
        now: BootTime,
        from: MemberId,
        life: Incarnation,
        at: Position,
        taken: u32,
        out: &mut Vec<ElectorOutput>,
    ) {
        let resend = self.config.lead.resend;
        let Standing::Reigning(reign) = &mut self.standing else { return };
        let Some(follower) = reign.followers.get_mut(&from).filter(|f| f.life == Some(life)) else { return };
        let Some(snapshot) = follower.snapshot.as_mut().filter(|snapshot| snapshot.at == at) else { return };
        follower.heard = now;
        let taken = taken as usize;
        if taken > snapshot.taken || taken == 0 {
            snapshot.taken = taken;
            follower.next_send = now + resend;
            if let Some(page) = snapshot.page(life) {
                self.send(from, page, out);
            }
        }
    }

    pub(super) fn handle_stored(
        &mut self,
        now: BootTime,
        from: MemberId,
        life: Incarnation,
        last: Position,
        _out: &mut Vec<ElectorOutput>,
    ) {
        self.note_stored(now, Self::as_voter(from, life), last);
    }

    /// The voter's side: part of a snapshot.
    pub(super) fn handle_page(&mut self, from: MemberId, page: Page, out: &mut Vec<ElectorOutput>) {
        let Page { at, number, pages, bytes } = page;
        let life = self.life;
        if at.term != self.ballot.promised() {
            self.send(from, ElectionMessage::Refused { life, promised: self.ballot.promised() }, out);
            return;
        }
        if at <= self.ballot.last() {
            self.send(from, ElectionMessage::Stored { life, last: self.ballot.last() }, out);
            return;
        }
        if pages > PAGES_MAX || number >= pages || bytes.len() > PAGE_BYTES_MAX {
            return;
        }
        if self.incoming.as_ref().is_none_or(|incoming| incoming.at != at) {
            self.incoming = Some(Incoming { at, pages: Vec::new() });
        }
        let Some(incoming) = &mut self.incoming else { return };
        if incoming.pages.len() == number as usize {
            incoming.pages.push(bytes.clone());
            out.push(ElectorOutput::Journal(ElectionRecord::Page { at, number, bytes }));
        }
        let taken = u32::try_from(incoming.pages.len()).unwrap_or(u32::MAX);
        if taken < pages {
            self.send(from, ElectionMessage::Taken { life, at, pages: taken }, out);
            return;
        }
        let whole = from_pages(&incoming.pages);
        self.incoming = None;
        match whole {
            Ok((electorate, records)) => {
                if let Ok(last) = self.ballot.install(at) {
                    out.push(ElectorOutput::Journal(ElectionRecord::Installed { at, pages }));
                    self.electorate = Some(electorate);
                    self.left_out_by = None;
                    self.lead = Lead::recover(self.config.lead.clone(), &records);
                    self.send(from, ElectionMessage::Stored { life, last }, out);
                }
            }
            Err(error) => out.push(ElectorOutput::Note(ElectorNote::BadSnapshot(error.to_string()))),
        }
    }

    /// The voter's side: the next record.
    pub(super) fn handle_append(
        &mut self,
        from: MemberId,
        at: Position,
        record: &[u8],
        out: &mut Vec<ElectorOutput>,
    ) {
        let life = self.life;
        if matches!(self.standing, Standing::Reigning(_)) {
            return;
        }
        let Ok(entry) = wire::decode::<Entry>(record) else { return };
        if matches!(&entry, Entry::Electorate(electorate) if !electorate.is_sound()) {
            return;
        }
        let before = self.ballot.last();
        match self.ballot.take(at) {
            Ok(last) => {
                if last > before {
                    match &entry {
                        Entry::Lead(record) => self.lead.learn(record),
                        Entry::Electorate(electorate) => self.electorate = Some(electorate.clone()),
                    }
                    out.push(ElectorOutput::Journal(ElectionRecord::Appended { at, entry }));
                }
                self.send(from, ElectionMessage::Stored { life, last }, out);
            }
            Err(Refusal::Gap(last)) => self.send(from, ElectionMessage::Stored { life, last }, out),
            Err(_) => {
                self.send(from, ElectionMessage::Refused { life, promised: self.ballot.promised() }, out);
            }
        }
    }
}

impl Outgoing {
    /// The page that is to go next.
    fn page(&self, life: Incarnation) -> Option<ElectionMessage> {
        let bytes = self.pages.get(self.taken)?.clone();
        let (number, pages) = (u32::try_from(self.taken).ok()?, u32::try_from(self.pages.len()).ok()?);
        Some(ElectionMessage::Page { life, at: self.at, number, pages, bytes })
    }
}
