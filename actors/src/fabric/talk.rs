//! What one gossip stream says, and when: the core of its sending end.
//!
//! Own facts go to everybody who is connected; of those of others it is offered how far they are known, and they are sent
//! where they are asked for ([`Passing`]). Changes wait a moment for more of them, rumors do not wait for facts, and a
//! stream that has nothing to say gives a sign of life now and then.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;

use codeco_protocol::coordinate::Coordinate;
use codeco_protocol::gossip::{GossipMessage, Hint, Mark, Rumor, SealedDelta};
use codeco_protocol::ids::{Identity, MemberId};
use codeco_protocol::units::{BootTime, Micros};

use super::passing::Passing;

/// Time between signs of life on a gossip stream that has nothing else to say. Whether its member lives is told by
/// probes; this only tells a stream that hangs from one that is quiet.
const HEARTBEAT: Micros = Micros::from_secs(20);
/// Messages waiting for a gossip stream at most. More are dropped: views that differ are exchanged.
pub const OUTBOX_MAX: usize = 16_384;
/// Between two messages with rumors: the first goes at once, those that come soon after it travel together.
const RUMORS_PAUSE: Micros = Micros::from_millis(25);
/// Rumors in one message.
const RUMORS_PER_FRAME: usize = 256;
/// Pause between two deltas, so that many small changes travel as one.
const COALESCE: Micros = Micros::from_millis(20);
/// Between two times at which facts of others are passed on: so long for each of them, so that many changes in a large
/// cluster travel as one, and at most.
const PASS_COST: Micros = Micros::from_millis(5);
const PASS_PAUSE_MAX: Micros = Micros::from_millis(500);
/// Heartbeats between two lists of address hints.
const HINTS_EVERY: u32 = 3;
/// Between two looks at what a peer should know of where others are: so long for each of them, and at most.
const HINT_COST: Micros = Micros::from_millis(10);
const HINTS_PAUSE_MAX: Micros = Micros::from_millis(500);

/// What the member on this side of the stream knows.
pub trait Known {
    /// How far others are told of this member's own facts.
    fn version(&self) -> u64;
    /// Grows with each change of a view of a member of the own cluster.
    fn relayed(&self) -> u64;
    /// Grows whenever where others can be dialled may have changed.
    fn roster(&self) -> u64;
    /// Where this member is in the network, once it knows.
    fn point(&self) -> Option<Coordinate>;
    /// What a receiver at version `from` lacks of this member's own facts, signed. `None`: they cannot be signed.
    fn sealed(&mut self, from: u64) -> Option<SealedDelta>;
    /// How far the maps of the own cluster are known here, this member's own included.
    fn marks(&self) -> Vec<(MemberId, Mark)>;
    /// Maps that `peer`, which knows them as far as `known`, lacks, and how far they are known here.
    fn ahead(&self, peer: MemberId, known: &BTreeMap<MemberId, Mark>) -> Vec<(MemberId, Mark)>;
    /// What a peer that knows maps as far as `known` lacks of those it `wants`, one piece of each.
    fn lacking(&self, wants: &BTreeSet<MemberId>, known: &BTreeMap<MemberId, Mark>) -> Vec<SealedDelta>;
    /// How far one member's map is known.
    fn mark(&self, owner: MemberId) -> Option<Mark>;
    /// Whether a map known so far to another is news here.
    fn is_news(&self, owner: MemberId, mark: Mark) -> bool;
    /// Whether `peer` may be asked for a map, because nobody else is being asked; if so, it is.
    fn may_ask(&mut self, now: BootTime, owner: MemberId, peer: MemberId) -> bool;
    /// Where others can be dialled, for `peer`.
    fn hints_for(&self, peer: &Identity) -> Vec<Hint>;
}

/// Something to be told over a gossip stream.
#[derive(Debug)]
pub enum Outgoing {
    /// Who lives and who does not.
    Rumor(Rumor),
    /// How far the other end knows maps.
    PeerHas(Vec<(MemberId, Mark)>),
    /// The same, and we may ask for what we lack.
    PeerOffers(Vec<(MemberId, Mark)>),
    /// The other end asks for maps, from there on.
    PeerAsks(Vec<(MemberId, Mark)>),
    /// How far we know a map: the other end is to go on from there.
    Ask(MemberId, Mark),
}

/// This member's own facts cannot be signed: nobody can be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this member's own facts cannot be signed")]
pub struct Unsigned;

/// See the module.
#[derive(Debug)]
pub struct Talk {
    peer: Identity,
    /// Whether the peer is of our cluster, so that facts of others are passed on.
    passes: bool,
    opened: bool,
    /// How far the peer was told our own facts; whether it is to be told whatever has changed; and when of changes.
    sent: u64,
    own_due: bool,
    seen: u64,
    own_at: Option<BootTime>,
    passing: Passing,
    pass_due: bool,
    pass_at: BootTime,
    relayed: u64,
    hinted: BTreeMap<MemberId, SocketAddr>,
    hints_due: bool,
    hints_at: BootTime,
    roster: u64,
    point: Option<Coordinate>,
    rumors: VecDeque<Rumor>,
    asks: Vec<(MemberId, Mark)>,
    rumors_at: BootTime,
    beat: u32,
    beat_at: BootTime,
}

impl Talk {
    /// A stream to `peer` that has said nothing yet. `passes`: both are of one cluster.
    #[must_use]
    pub fn new(peer: Identity, passes: bool, now: BootTime) -> Self {
        Self {
            peer,
            passes,
            opened: false,
            sent: 0,
            // At first, and then now and then, its own facts are told also if there are none: a sign of life.
            own_due: true,
            seen: 0,
            own_at: None,
            passing: Passing::default(),
            pass_due: false,
            pass_at: now,
            relayed: 0,
            hinted: BTreeMap::new(),
            hints_due: true,
            hints_at: now,
            roster: 0,
            point: None,
            rumors: VecDeque::new(),
            asks: Vec::new(),
            rumors_at: now,
            beat: 0,
            beat_at: now + HEARTBEAT,
        }
    }

    /// Takes something to be told.
    pub fn take(&mut self, now: BootTime, outgoing: Outgoing, known: &impl Known) {
        match outgoing {
            Outgoing::Rumor(rumor) if self.rumors.len() < OUTBOX_MAX => self.rumors.push_back(rumor),
            Outgoing::Ask(member, mark) if self.asks.len() < OUTBOX_MAX => self.asks.push((member, mark)),
            Outgoing::Rumor(_) | Outgoing::Ask(..) => {}
            Outgoing::PeerHas(marks) => self.passing.has(marks),
            Outgoing::PeerAsks(marks) => {
                self.passing.is_asked(marks);
                self.pass_due = true;
            }
            Outgoing::PeerOffers(marks) => {
                self.passing.is_offered(now, marks, |owner, mark| known.is_news(owner, mark));
                self.pass_due = true;
            }
        }
    }

    /// What to say now, in this order.
    ///
    /// # Errors
    /// [`Unsigned`].
    pub fn say(&mut self, now: BootTime, known: &mut impl Known) -> Result<Vec<GossipMessage>, Unsigned> {
        let mut words = Vec::new();
        if !std::mem::replace(&mut self.opened, true) && self.passes {
            // Until the peer has said how far it knows the others, nothing is passed on.
            words.push(GossipMessage::Offer(known.marks()));
        }
        if now >= self.beat_at {
            self.beat = self.beat.wrapping_add(1);
            // What is seen of others' addresses changes without a word of theirs.
            (self.own_due, self.hints_due) = (true, true);
            if self.beat.is_multiple_of(HINTS_EVERY) {
                self.hinted.clear();
            }
            self.beat_at = now + HEARTBEAT;
        }
        self.say_own(now, known, &mut words)?;
        self.pass_on(now, known, &mut words);
        self.say_hints(now, known, &mut words);
        let point = known.point();
        if point.is_some() && point != self.point {
            self.point = point;
            words.extend(point.map(GossipMessage::Point));
        }
        if !(self.rumors.is_empty() && self.asks.is_empty()) && now >= self.rumors_at {
            self.rumors_at = now + RUMORS_PAUSE;
            let first = self.rumors.len().min(RUMORS_PER_FRAME);
            if first > 0 {
                words.push(GossipMessage::Rumors(self.rumors.drain(..first).collect()));
            }
            if !self.asks.is_empty() {
                words.push(GossipMessage::Have(std::mem::take(&mut self.asks)));
            }
        }
        Ok(words)
    }

    /// When [`Self::say`] is due, if nothing changes before.
    #[must_use]
    pub fn next(&self) -> BootTime {
        let waits = !(self.rumors.is_empty() && self.asks.is_empty());
        let times = [
            self.own_at,
            self.pass_due.then_some(self.pass_at),
            self.hints_due.then_some(self.hints_at),
            waits.then_some(self.rumors_at),
            self.passing.next_ask(),
        ];
        times.into_iter().flatten().fold(self.beat_at, BootTime::min)
    }

    /// Whether a change of [`Known::relayed`] makes a difference now.
    #[must_use]
    pub fn follows_others(&self) -> bool {
        self.passes && self.passing.known().is_some() && !self.pass_due
    }

    fn say_own(
        &mut self,
        now: BootTime,
        known: &mut impl Known,
        words: &mut Vec<GossipMessage>,
    ) -> Result<(), Unsigned> {
        let target = known.version();
        if target != self.seen {
            self.seen = target;
            self.own_at = self.own_at.or(Some(now + COALESCE));
        }
        if !self.own_due && self.own_at.is_none_or(|at| at > now) {
            return Ok(());
        }
        self.own_at = None;
        while self.own_due || self.sent < target {
            let sealed = known.sealed(self.sent).ok_or(Unsigned)?;
            self.sent = sealed.delta.to;
            words.push(GossipMessage::Sealed(sealed));
            self.own_due = false;
            self.beat_at = now + HEARTBEAT;
        }
        Ok(())
    }

    fn pass_on(&mut self, now: BootTime, known: &mut impl Known, words: &mut Vec<GossipMessage>) {
        if !self.passes {
            return;
        }
        // What was asked for first: an offer counts as if it were known.
        self.deliver(known, words);
        let peer = self.peer.id;
        let mut news = Vec::new();
        {
            let lacks = |owner: MemberId, mark: Mark| owner != peer && known.is_news(owner, mark);
            // Whom else one may ask is looked at below: both need the same knowledge.
            self.passing.due(now, lacks, &mut news);
        }
        let asks: Vec<MemberId> = news.into_iter().filter(|owner| known.may_ask(now, *owner, peer)).collect();
        self.passing.asked(&asks);
        if !asks.is_empty() {
            let marks = asks.into_iter().map(|owner| (owner, known.mark(owner).unwrap_or_default()));
            words.push(GossipMessage::Have(marks.collect()));
        }
        let relayed = known.relayed();
        if relayed != self.relayed {
            self.relayed = relayed;
            if self.passing.known().is_some() && !self.pass_due {
                self.pass_due = true;
                self.pass_at = self.pass_at.max(now + COALESCE);
            }
        }
        if self.pass_due && now >= self.pass_at {
            let Some(has) = self.passing.known() else {
                self.pass_due = false;
                return;
            };
            let (many, ahead) = (has.len() as u64, known.ahead(peer, has));
            if !ahead.is_empty() {
                words.push(GossipMessage::Offer(ahead.clone()));
                self.passing.has(ahead);
                self.beat_at = now + HEARTBEAT;
            }
            self.pass_due = false;
            self.pass_at = now + Micros(PASS_COST.0.saturating_mul(many).min(PASS_PAUSE_MAX.0));
        }
    }

    /// Sends what the peer has asked for.
    fn deliver(&mut self, known: &impl Known, words: &mut Vec<GossipMessage>) {
        let wanted = self.passing.take_wanted();
        while let Some(has) = self.passing.known().filter(|_| !wanted.is_empty()) {
            let lacking = known.lacking(&wanted, has);
            if lacking.is_empty() {
                return;
            }
            for sealed in lacking {
                let mark = Mark { incarnation: sealed.delta.incarnation, version: sealed.delta.to };
                self.passing.has([(sealed.owner.id, mark)]);
                words.push(GossipMessage::Sealed(sealed));
            }
        }
    }

    /// Only what is new, not too often; and now and then all of it: a hint lost on a full mailbox comes back.
    fn say_hints(&mut self, now: BootTime, known: &impl Known, words: &mut Vec<GossipMessage>) {
        let roster = known.roster();
        if roster != self.roster {
            self.roster = roster;
            self.hints_due = true;
        }
        if !self.hints_due || now < self.hints_at {
            return;
        }
        let mut hints = known.hints_for(&self.peer);
        let pause = Micros(HINT_COST.0.saturating_mul(hints.len() as u64).min(HINTS_PAUSE_MAX.0));
        (self.hints_due, self.hints_at) = (false, now + pause);
        hints.retain(|hint| self.hinted.insert(hint.identity.id, hint.address) != Some(hint.address));
        if !hints.is_empty() {
            words.push(GossipMessage::Hints(hints));
        }
    }
}
