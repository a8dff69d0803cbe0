//! Connections between processes, and the gossip over them.

use codeco_actors::fabric::talk::{Known as _, Outgoing, Talk};
use codeco_actors::swm::post::may_send;
use codeco_protocol::gossip::{
    Fact, GossipMessage, Liveness, MembershipInput, MembershipOutput, Parting, Probe, StateError,
};
use codeco_protocol::ids::Identity;
use codeco_protocol::messages::{Addressee, ControlMessage};
use codeco_protocol::units::Micros;

use super::machine::machine_of;
use super::planted::Planted;
use super::process::Link;
use super::world::{Event, World};
use crate::invariant::Violation;

/// A connection notices a silent peer after this long.
const IDLE: u64 = 5_000_000;
/// A dial without an answer fails after this long.
const DIAL_TIMEOUT: u64 = 5_000_000;
/// Pauses between two dials of one member: the first, and the longest.
const DIAL_PAUSE: (u64, u64) = (100_000, 5_000_000);
/// What changes is looked at so much later, together with what else has changed.
const LOOK_AFTER: u64 = 50_000;
/// A message to a core of the same process.
const WITHIN: std::ops::Range<u64> = 10..300;
/// What met a cut is sent again after this long.
const RESEND: u64 = 60_000;

impl World {
    pub(crate) fn tick_ring(&mut self, at: usize) -> Result<(), Violation> {
        self.feed_ring(at, MembershipInput::Tick)?;
        let now = self.read_clock(at);
        let machine = &self.machines[at];
        let Some(process) = &machine.process else { return Ok(()) };
        let (when, life) = (self.when(at, process.ring.next_tick(now)), machine.life);
        self.queue.push(when.max(self.now + 1), Event::Ring { at, life });
        Ok(())
    }

    pub(crate) fn feed_ring(&mut self, at: usize, input: MembershipInput) -> Result<(), Violation> {
        let now = self.read_clock(at);
        let Some(process) = &mut self.machines[at].process else { return Ok(()) };
        let mut out = Vec::new();
        process.ring.handle(now, input, &mut out);
        for output in out {
            self.carry_ring(at, output)?;
        }
        Ok(())
    }

    fn carry_ring(&mut self, at: usize, output: MembershipOutput) -> Result<(), Violation> {
        match output {
            MembershipOutput::Send { to, probe } => self.send_probe(at, machine_of(to), probe),
            MembershipOutput::Tell { to, rumor } => {
                let peer = machine_of(to);
                let now = self.read_clock(at);
                let Some(process) = &mut self.machines[at].process else { return Ok(()) };
                if let Some(link) = process.links.get_mut(&peer) {
                    link.talk.take(now, Outgoing::Rumor(rumor), &process.knowledge);
                    self.plan_talk(at, peer);
                }
            }
            MembershipOutput::Dial(member) => self.dial(at, machine_of(member.id)),
            MembershipOutput::Drop(member) => {
                let peer = machine_of(member);
                if !self.is_kept(at, peer) {
                    self.close(at, peer, Parting::Unneeded)?;
                }
            }
            MembershipOutput::Outlived(member) => {
                self.close(at, machine_of(member), Parting::Unneeded)?;
            }
            MembershipOutput::Changed { member, liveness } => {
                let about = machine_of(member.id);
                self.counts.deaths += u64::from(liveness == Liveness::Dead);
                self.oracles.views.believes(self.now, at, about, liveness);
                self.touch(at);
            }
            MembershipOutput::CutOff(cut_off) => {
                self.counts.cut_offs += u64::from(cut_off);
                if let Some(process) = &mut self.machines[at].process {
                    process.cut_off = cut_off;
                    process.fact.cut_off = cut_off;
                }
                self.publish_member(at);
            }
        }
        Ok(())
    }

    fn send_probe(&mut self, at: usize, peer: usize, probe: Probe) {
        self.sizes.probe(&mut self.sent[at], probe);
        let Some(process) = &self.machines[at].process else { return };
        let Some(link) = process.links.get(&peer).map(|link| link.id) else { return };
        if self.net.passes(at, peer) && !self.net.loses(&mut self.rng) {
            let span = self.net.delay(at, peer, &mut self.rng);
            self.after(span, Event::Probe { to: peer, from: at, link, probe });
        }
    }

    fn has_link(&self, at: usize, peer: usize, link: u64) -> bool {
        let process = self.machines[at].process.as_ref();
        process.and_then(|process| process.links.get(&peer)).is_some_and(|known| known.id == link)
    }

    pub(crate) fn probed(
        &mut self,
        to: usize,
        from: usize,
        link: u64,
        probe: Probe,
    ) -> Result<(), Violation> {
        if !self.has_link(to, from, link) {
            return Ok(());
        }
        let from = self.machines[from].id();
        self.feed_ring(to, MembershipInput::Probe { from, probe })
    }

    /// Whether a connection is kept whatever the membership makes of it: hubs, leads, voters.
    pub(crate) fn is_kept(&self, at: usize, peer: usize) -> bool {
        let machine = &self.machines[at];
        let Some(process) = &machine.process else { return false };
        let other = &self.machines[peer].identity;
        if machine.node.is_none() || other.is_hub() || other.cluster() != machine.identity.cluster() {
            return true;
        }
        let leads = process.lead == Some(machine.id());
        let votes = process.elector.as_ref().is_some_and(|elector| elector.peers().any(|id| id == other.id));
        leads || votes || process.lead == Some(other.id)
    }

    pub(crate) fn dial(&mut self, from: usize, to: usize) {
        if from == to {
            return;
        }
        let now = self.now;
        let life = self.machines[from].life;
        let Some(process) = &mut self.machines[from].process else { return };
        if process.links.contains_key(&to) {
            return;
        }
        let patience = process.dials.entry(to).or_default();
        if std::mem::replace(&mut patience.dialling, true) {
            return;
        }
        patience.next = now;
        // There and back for the handshake, and its last flight.
        let span = 3 * self.net.delay(from, to, &mut self.rng);
        self.after(span, Event::Connect { from, to, life });
    }

    pub(crate) fn connect(&mut self, from: usize, to: usize, life: u64) -> Result<(), Violation> {
        if !self.lives(from, life) {
            return Ok(());
        }
        let open =
            self.machines[to].process.is_some() && self.net.passes(from, to) && self.net.passes(to, from);
        if !open {
            // Nobody listens there: known at once within a machine's own network, else when time is up.
            let span = if self.machines[to].process.is_none() && self.net.passes(from, to) {
                self.rng.u64(20_000..1_000_000)
            } else {
                DIAL_TIMEOUT
            };
            self.after(span, Event::DialFailed { at: from, to, life });
            return Ok(());
        }
        self.next_link += 1;
        let link = self.next_link;
        let (there, back) =
            (self.net.delay(from, to, &mut self.rng), self.net.delay(to, from, &mut self.rng));
        self.counts.connections += 1;
        for (at, peer) in [(from, to), (to, from)] {
            self.sizes.handshake(&mut self.sent[at]);
            let identity = self.machines[peer].identity.clone();
            let now = self.read_clock(at);
            let same = |a: &Identity, b: &Identity| a.cluster().is_some() && a.cluster() == b.cluster();
            let passes = same(&identity, &self.machines[at].identity);
            let session_at = self.now + there + back;
            let Some(process) = &mut self.machines[at].process else { continue };
            process.dials.remove(&peer);
            process.links.insert(
                peer,
                Link {
                    id: link,
                    identity: identity.clone(),
                    talk: Talk::new(identity.clone(), passes, now),
                    talk_at: None,
                    session_at,
                    round_trip: Micros(there + back),
                    last_arrival: 0,
                    blocked_until: 0,
                },
            );
            process.knowledge.roster += 1;
            self.plan_talk(at, peer);
            self.poke(at);
            self.touch(at);
            self.feed_ring(at, MembershipInput::Connected(identity))?;
        }
        self.drop_unlisted(from, to)
    }

    pub(crate) fn dial_failed(&mut self, at: usize, to: usize) -> Result<(), Violation> {
        let now = self.now;
        let id = self.machines[to].id();
        if let Some(process) = &mut self.machines[at].process {
            let patience = process.dials.entry(to).or_default();
            patience.dialling = false;
            patience.failures += 1;
            let pause = (DIAL_PAUSE.0 << patience.failures.min(10)).min(DIAL_PAUSE.1);
            patience.next = now + pause / 2 + self.rng.u64(0..pause / 2 + 1);
            let next = patience.next;
            self.look_at(at, next);
        }
        self.feed_ring(at, MembershipInput::DialFailed(id))
    }

    /// Ends a connection from one side; the other hears of it.
    pub(crate) fn close(&mut self, at: usize, peer: usize, parting: Parting) -> Result<(), Violation> {
        let Some(process) = &self.machines[at].process else { return Ok(()) };
        let Some(link) = process.links.get(&peer).map(|link| link.id) else { return Ok(()) };
        if self.net.passes(at, peer) {
            let span = self.net.delay(at, peer, &mut self.rng);
            self.after(span, Event::Lost { at: peer, peer: at, link, parting });
        } else {
            self.after(IDLE, Event::Lost { at: peer, peer: at, link, parting: Parting::Lost });
        }
        self.lose_link(at, peer, link, parting)
    }

    pub(crate) fn lose_link(
        &mut self,
        at: usize,
        peer: usize,
        link: u64,
        parting: Parting,
    ) -> Result<(), Violation> {
        if !self.has_link(at, peer, link) {
            return Ok(());
        }
        let member = self.machines[peer].id();
        if let Some(process) = &mut self.machines[at].process {
            process.links.remove(&peer);
            process.knowledge.roster += 1;
        }
        self.poke(at);
        self.touch(at);
        self.feed_ring(at, MembershipInput::Disconnected { member, parting })
    }

    /// Connections of a process that is no more are noticed when they are silent for too long.
    pub(crate) fn orphan_links(&mut self, at: usize) {
        let Some(process) = &self.machines[at].process else { return };
        let links: Vec<(usize, u64)> = process.links.iter().map(|(peer, link)| (*peer, link.id)).collect();
        for (peer, link) in links {
            self.after(IDLE, Event::Lost { at: peer, peer: at, link, parting: Parting::Lost });
        }
    }

    /// Connections across a cut are looked at when they would be silent for too long.
    pub(crate) fn watch_cut_links(&mut self) {
        let mut across = Vec::new();
        for (a, machine) in self.machines.iter().enumerate() {
            let Some(process) = &machine.process else { continue };
            for (b, link) in process.links.range(a + 1..) {
                if !(self.net.passes(a, *b) && self.net.passes(*b, a)) {
                    across.push((a, *b, link.id));
                }
            }
        }
        for (a, b, link) in across {
            self.after(IDLE, Event::Idle { a, b, link });
        }
    }

    pub(crate) fn idle(&mut self, a: usize, b: usize, link: u64) -> Result<(), Violation> {
        if !(self.net.passes(a, b) && self.net.passes(b, a)) {
            self.lose_link(a, b, link, Parting::Lost)?;
            self.lose_link(b, a, link, Parting::Lost)?;
        }
        Ok(())
    }

    /// Something about others is known that was not: whoever follows looks again.
    pub(crate) fn touch(&mut self, at: usize) {
        if let Some(process) = &mut self.machines[at].process {
            process.knowledge.known += 1;
        }
        self.look_at(at, self.now + LOOK_AFTER);
    }

    pub(crate) fn look_at(&mut self, at: usize, when: u64) {
        let life = self.machines[at].life;
        let Some(process) = &mut self.machines[at].process else { return };
        if process.ticks.look.is_none_or(|known| when < known) {
            process.ticks.look = Some(when);
            self.queue.push(when, Event::Look { at, life });
        }
    }

    /// Every stream of a process has its core look for something to say.
    pub(crate) fn poke(&mut self, at: usize) {
        let Some(process) = &self.machines[at].process else { return };
        let when = self.now + 20_000;
        let late = |link: &Link| link.talk_at.is_none_or(|at| at > when);
        let peers: Vec<usize> =
            process.links.iter().filter(|(_, link)| late(link)).map(|(peer, _)| *peer).collect();
        for peer in peers {
            self.talk_at(at, peer, when);
        }
    }

    fn talk_at(&mut self, at: usize, peer: usize, when: u64) {
        let Some(process) = &mut self.machines[at].process else { return };
        let Some(link) = process.links.get_mut(&peer) else { return };
        if link.talk_at.is_none_or(|known| when < known) {
            link.talk_at = Some(when);
            let link = link.id;
            self.queue.push(when, Event::Talk { at, peer, link });
        }
    }

    fn plan_talk(&mut self, at: usize, peer: usize) {
        let Some(process) = &self.machines[at].process else { return };
        let Some(link) = process.links.get(&peer) else { return };
        let when = self.when(at, link.talk.next()).max(self.now);
        self.talk_at(at, peer, when);
    }

    pub(crate) fn talk(&mut self, at: usize, peer: usize, link: u64) {
        let (now, clock) = (self.now, self.read_clock(at));
        let Some(process) = &mut self.machines[at].process else { return };
        let Some(line) = process.links.get_mut(&peer).filter(|line| line.id == link) else { return };
        if line.talk_at.is_none_or(|due| due > now) {
            return;
        }
        line.talk_at = None;
        let words = line.talk.say(clock, &mut process.knowledge).unwrap_or_default();
        for word in words {
            self.sizes.gossip(&mut self.sent[at], &word);
            let span = self.net.stream(at, peer, &mut self.rng);
            let arrives = now + span;
            let Some(line) = self.machines[at].process.as_mut().and_then(|p| p.links.get_mut(&peer)) else {
                return;
            };
            line.last_arrival = arrives.max(line.last_arrival + 1);
            let when = line.last_arrival;
            self.queue.push(when, Event::Gossip { to: peer, from: at, link, message: Box::new(word) });
        }
        // Not at once again: what is said is not said twice.
        let Some(line) = self.machines[at].process.as_ref().and_then(|p| p.links.get(&peer)) else { return };
        let when = self.when(at, line.talk.next()).max(self.now + 1_000);
        self.talk_at(at, peer, when);
    }

    pub(crate) fn heard(
        &mut self,
        to: usize,
        from: usize,
        link: u64,
        message: GossipMessage,
    ) -> Result<(), Violation> {
        if !self.has_link(to, from, link) {
            return Ok(());
        }
        let passes = self.net.passes(from, to);
        let now = self.now;
        let Some(line) = self.machines[to].process.as_mut().and_then(|p| p.links.get_mut(&from)) else {
            return Ok(());
        };
        if !passes || line.blocked_until > now {
            // Sent again until the connection is given up; what comes after it waits for it.
            if line.blocked_until <= now {
                line.blocked_until = now + RESEND;
            }
            let when = line.blocked_until;
            self.queue.push(when, Event::Gossip { to, from, link, message: Box::new(message) });
            return Ok(());
        }
        let clock = self.read_clock(to);
        let Some(process) = &mut self.machines[to].process else { return Ok(()) };
        let (known, relayed, roster) =
            (process.knowledge.known, process.knowledge.relayed, process.knowledge.roster);
        let sender = self.machines[from].identity.clone();
        let Some(process) = &mut self.machines[to].process else { return Ok(()) };
        let mut again = false;
        let mut message = message;
        if let (GossipMessage::Sealed(sealed), Some(Planted::MergeIgnoresTheIncarnation)) =
            (&mut message, self.planted)
        {
            process.knowledge.confuse_lives(sealed);
        }
        match message {
            GossipMessage::Sealed(sealed) if sealed.owner == sender => {
                match process.knowledge.learn(clock, sealed, true) {
                    // Of an earlier life: the member has been heard through others since.
                    Ok(()) | Err(StateError::Old { .. }) => {}
                    Err(error) => {
                        self.counts.gossip_refused += 1;
                        self.note(to, format_args!("closes the connection to {}: {error}", sender.id));
                        return self.close(to, from, Parting::Unneeded);
                    }
                }
            }
            GossipMessage::Sealed(sealed) => {
                if sealed.owner != process.knowledge.own {
                    let answer = process.knowledge.hear_relayed(clock, sealed);
                    if let Some(line) = process.links.get_mut(&from) {
                        line.talk.take(clock, answer, &process.knowledge);
                        again = true;
                    }
                }
            }
            GossipMessage::Have(marks) => {
                if let Some(line) = process.links.get_mut(&from) {
                    line.talk.take(clock, Outgoing::PeerAsks(marks), &process.knowledge);
                    again = true;
                }
            }
            GossipMessage::Offer(marks) => {
                if let Some(line) = process.links.get_mut(&from) {
                    line.talk.take(clock, Outgoing::PeerOffers(marks), &process.knowledge);
                    again = true;
                }
            }
            GossipMessage::Rumors(rumors) => {
                let from = sender.id;
                for rumor in rumors {
                    self.feed_ring(to, MembershipInput::Rumor { from, rumor })?;
                }
            }
            GossipMessage::Hints(hints) => {
                process.knowledge.take_foreign(&hints);
                let own = self.machines[to].identity.clone();
                if sender.is_hub() || sender.cluster() == own.cluster() {
                    for hint in hints {
                        if hint.identity.cluster() == own.cluster() && hint.identity != own {
                            self.machines[to].disk.peers.insert(hint.identity.id);
                            self.feed_ring(to, MembershipInput::Known(hint.identity))?;
                        }
                    }
                }
            }
            GossipMessage::Point(_) | GossipMessage::State(_) | GossipMessage::Relay { .. } => {}
        }
        if again {
            self.talk_at(to, from, self.now + 1_000);
        }
        let Some(process) = &self.machines[to].process else { return Ok(()) };
        if process.knowledge.relayed != relayed || process.knowledge.roster != roster {
            self.poke(to);
        }
        if self.machines[to].process.as_ref().is_some_and(|process| process.knowledge.known != known) {
            self.look_at(to, self.now + LOOK_AFTER);
        }
        Ok(())
    }

    /// Tells others what was written.
    pub(crate) fn tell(&mut self, at: usize) {
        let Some(process) = &mut self.machines[at].process else { return };
        if process.knowledge.tell_now() {
            self.poke(at);
        }
    }

    /// Something was published: it is told in its time.
    pub(crate) fn plan_tell(&mut self, at: usize) {
        let life = self.machines[at].life;
        let Some(process) = &self.machines[at].process else { return };
        let Some(when) = process.knowledge.tell_at else { return };
        let when = self.when(at, codeco_protocol::units::BootTime(when));
        let Some(process) = &mut self.machines[at].process else { return };
        if process.ticks.tell.is_none_or(|known| when < known) {
            process.ticks.tell = Some(when);
            self.queue.push(when, Event::Tell { at, life });
        }
    }

    pub(crate) fn publish_member(&mut self, at: usize) {
        let now = self.read_clock(at);
        let Some(process) = &mut self.machines[at].process else { return };
        let fact = Fact::Member(Box::new(process.fact.clone()));
        if process.knowledge.publish_fact(now, "member", fact) {
            self.plan_tell(at);
        }
    }

    /// Hands a control message to the network.
    pub(crate) fn send(&mut self, from: usize, to: usize, message: ControlMessage) {
        if from == to {
            let span = self.rng.u64(WITHIN);
            self.after(span, Event::Control { to, from, message: Box::new(message) });
            return;
        }
        self.counts.sent += 1;
        self.sizes.control(&mut self.sent[from], &message);
        let Some(process) = &self.machines[from].process else { return };
        let now = self.now;
        let open = process.links.get(&to).is_some_and(|link| link.session_at <= now);
        if !open || !self.net.passes(from, to) {
            self.counts.undelivered += 1;
            return;
        }
        let copies = 1 + usize::from(self.net.repeats(&mut self.rng));
        self.counts.repeated += copies as u64 - 1;
        for copy in 0..copies {
            match self.net.letter(from, to, &mut self.rng) {
                Some(span) => {
                    self.counts.delayed += u64::from(span >= 500_000);
                    let message = Box::new(message.clone());
                    self.after(span, Event::Control { to, from, message });
                }
                None => self.counts.lost += u64::from(copy == 0),
            }
        }
    }

    pub(crate) fn deliver(
        &mut self,
        to: usize,
        from: usize,
        message: ControlMessage,
    ) -> Result<(), Violation> {
        let sender = self.machines[from].identity.clone();
        let machine = &self.machines[to];
        let Some(process) = &machine.process else { return Ok(()) };
        if !may_send(&machine.identity, process.lead, &sender, &message) {
            self.counts.refused += 1;
            return Ok(());
        }
        self.counts.delivered += 1;
        let name = &self.machines[from].name;
        self.log.line(
            self.now,
            format_args!("{} <- {name} {}", self.machines[to].name, crate::log::Brief(&message)),
        );
        let id = sender.id;
        match message.addressee() {
            Addressee::Ledger => {
                if let ControlMessage::LeaseGrant { duration, .. } = &message {
                    self.lease_from_receipt(to, *duration);
                }
                self.feed_ledger(to, codeco_actors::swm::ledger::LedgerInput::Message { from: id, message })
            }
            Addressee::Lead => self.feed_elector(
                to,
                codeco_actors::swm::election::elector::ElectorInput::Message { from: id, message },
            ),
            Addressee::Home => {
                use codeco_actors::swm::home::HomeInput;
                let is_copy = matches!(
                    message,
                    ControlMessage::Keep { .. } | ControlMessage::Kept { .. } | ControlMessage::Drop { .. }
                );
                if is_copy {
                    return self.feed_home(to, HomeInput::Copy { from: id, message });
                }
                let Some(cluster) = sender.cluster().cloned() else { return Ok(()) };
                self.feed_home(to, HomeInput::Message { from: id, cluster, message })
            }
        }
    }

    /// How far the maps of others are known here, against how far they are.
    pub(crate) fn lags_behind(&self, at: usize, owner: usize) -> bool {
        let (Some(here), Some(there)) = (&self.machines[at].process, &self.machines[owner].process) else {
            return false;
        };
        here.knowledge.mark(self.machines[owner].id()).unwrap_or_default().incarnation
            != there.knowledge.own_mark().incarnation
            || here.knowledge.mark(self.machines[owner].id()).unwrap_or_default().version
                < there.knowledge.version()
    }
}
