//! Whom to be connected to, what is passed on, and how lists of the dead are brought together.

use super::graph::{self, halves, mix};
use super::{Edge, MEMBERS_MAX, OUTSIDERS_MAX, Outsider, OwnVote, Peer, Ring};
use crate::gossip::message::LIST_MAX;
use crate::gossip::{Life, Liveness, MembershipOutput, Parting, Rumor};
use crate::ids::{Identity, MemberId};
use crate::units::{BootTime, Micros};

/// The member with the lower id dials; the other does so too if nothing came for this long.
const DIAL_IN_TURN: Micros = Micros::from_secs(2);
/// Between two dials of one member; doubles with each failure up to the second.
const REDIAL: Micros = Micros::from_millis(500);
const REDIAL_MAX: Micros = Micros::from_secs(60);
/// A cut-off member dials so many others every so often.
const SEARCH: usize = 2;
const SEARCH_EVERY: Micros = Micros::from_millis(250);
/// A member with fewer connections than this meets those it has only been told of.
const CONTACTS: usize = 8;
/// Views that differ for this long are exchanged; doubles with each exchange that has not made them equal, so many times:
/// while much changes everywhere, lists are outdated when they come.
const DIFFERS_FOR: Micros = Micros::from_millis(250);
const SWAPS_MAX: u32 = 5;

impl Ring {
    /// A member of our cluster that somebody has told of. Nothing is known of its life yet.
    pub(super) fn known(&mut self, now: BootTime, identity: &Identity) {
        if !self.is_ours(identity)
            || *identity == self.own
            || self.peers.contains_key(&identity.id)
            || self.peers.len() >= MEMBERS_MAX
        {
            return;
        }
        let peer = Peer {
            identity: identity.clone(),
            life: Life::default(),
            // Until it is heard of, it counts as gone: unknown is never alive.
            liveness: Liveness::Left,
            edge: Edge { next_dial: now, ..Edge::new(now) },
            vote: OwnVote::default(),
            refuted: None,
            accused: None,
            unreachable: None,
        };
        self.peers.insert(identity.id, peer);
    }

    /// An operator's word, or its certificate was revoked: as if it had never been.
    pub(super) fn forget(&mut self, member: MemberId) {
        if self.peers.remove(&member).is_some() {
            self.votes.remove(&member);
            for votes in self.votes.values_mut() {
                votes.remove(&member);
            }
            self.follow_view();
        }
        self.outsiders.remove(&member);
    }

    pub(super) fn connected(&mut self, now: BootTime, identity: Identity, out: &mut Vec<MembershipOutput>) {
        let member = identity.id;
        if !self.is_ours(&identity) {
            if !self.outsiders.contains_key(&member) && self.outsiders.len() >= OUTSIDERS_MAX {
                return;
            }
            let outsider = self.outsiders.entry(member).or_insert_with(|| Outsider {
                identity,
                liveness: Liveness::Dead,
                edge: Edge::new(now),
            });
            outsider.edge = outsider.edge.renewed(now);
            self.heard(now, member, out);
            return;
        }
        self.known(now, &identity);
        let list = self.dead_list();
        // A member that starts makes all its connections at one time: without this they would be looked at together, and
        // its death be noticed up to a period later than by eight that look one after the other.
        let first = now + Micros(self.rng.u64(0..=self.period().0));
        let Some(peer) = self.peers.get_mut(&member) else { return };
        peer.edge = peer.edge.renewed(now);
        self.heard(now, member, out);
        if let Some(edge) = self.edge_mut(member) {
            edge.next_ping = first;
        }
        // Who we are, and what we believe; the same comes from there.
        let alive = Rumor::Alive { member: self.own.clone(), life: self.life };
        out.push(MembershipOutput::Tell { to: member, rumor: alive });
        if !list.is_empty() {
            out.push(MembershipOutput::Tell { to: member, rumor: Rumor::Dead(list) });
        }
        let standing: Vec<Rumor> = self.standing_votes();
        out.extend(standing.into_iter().map(|rumor| MembershipOutput::Tell { to: member, rumor }));
    }

    /// What one that has just begun its life does not know.
    fn welcome(&self, member: MemberId, out: &mut Vec<MembershipOutput>) {
        for rumor in [Rumor::Living(self.living_list()), Rumor::Dead(self.dead_list())] {
            out.push(MembershipOutput::Tell { to: member, rumor });
        }
    }

    /// Votes that a new neighbour may not have heard.
    fn standing_votes(&self) -> Vec<Rumor> {
        let mut rumors = Vec::new();
        for (target, votes) in &self.votes {
            for (observer, vote) in votes.iter().filter(|(_, vote)| vote.stands) {
                let (observer, target, life, number) = (*observer, *target, vote.life, vote.number);
                rumors.push(Rumor::Vote { observer, target, life, stands: true, number });
            }
        }
        rumors.truncate(LIST_MAX);
        rumors
    }

    pub(super) fn disconnected(
        &mut self,
        now: BootTime,
        member: MemberId,
        parting: Parting,
        out: &mut Vec<MembershipOutput>,
    ) {
        if let Some(outsider) = self.outsiders.get_mut(&member) {
            outsider.edge.connected = false;
            if parting == Parting::Lost {
                outsider.edge.awaiting.get_or_insert(now);
            }
            if parting == Parting::Left && outsider.liveness != Liveness::Left {
                outsider.liveness = Liveness::Left;
                outsider.edge.awaiting = None;
                let member = outsider.identity.clone();
                out.push(MembershipOutput::Changed { member, liveness: Liveness::Left });
            }
            return;
        }
        let wanted = self.wants(member);
        let Some(peer) = self.peers.get_mut(&member) else { return };
        peer.edge.connected = false;
        peer.edge.next_dial = now;
        match parting {
            Parting::Left => {
                let life = peer.life;
                self.leaves(now, member, life, out);
                self.spread(&Rumor::Left { member, life }, None, out);
            }
            // Silent from now on, unless dialling helps in time.
            Parting::Lost if wanted => drop(peer.edge.awaiting.get_or_insert(now)),
            Parting::Lost => {}
            Parting::Unneeded => {
                peer.edge.awaiting = None;
                // Whoever still asks for it dials, whosever turn it is.
                peer.edge.dials = 1;
            }
        }
    }

    pub(super) fn dial_failed(&mut self, now: BootTime, member: MemberId) {
        let wanted = self.wants(member);
        let Some(peer) = self.peers.get_mut(&member) else { return };
        if !peer.edge.connected {
            let wait = Micros((REDIAL.0 << peer.edge.dials.min(8)).min(REDIAL_MAX.0));
            peer.edge.next_dial = now + wait;
            peer.edge.dials = peer.edge.dials.saturating_add(1);
            if wanted {
                peer.edge.awaiting.get_or_insert(now);
            }
        }
    }

    fn leaves(
        &mut self,
        now: BootTime,
        member: MemberId,
        life: Life,
        out: &mut Vec<MembershipOutput>,
    ) -> bool {
        let Some(peer) = self.peers.get_mut(&member) else { return false };
        if life < peer.life || peer.liveness == Liveness::Left {
            return false;
        }
        peer.life = life;
        peer.edge.awaiting = None;
        self.votes.remove(&member);
        self.set(now, member, Liveness::Left, out);
        true
    }

    /// A rumor. What is news is passed on to everybody but the one it came from.
    pub(super) fn hear(
        &mut self,
        now: BootTime,
        from: MemberId,
        rumor: &Rumor,
        out: &mut Vec<MembershipOutput>,
    ) {
        if !self.peers.contains_key(&from) {
            return;
        }
        let news = match rumor {
            Rumor::Vote { observer, target, life, stands, number } => {
                self.count_vote(now, (*observer, *target), *life, *stands, *number, out)
            }
            Rumor::Alive { member, life } => {
                if member.id == from
                    && let Some(peer) = self.peers.get_mut(&from)
                {
                    peer.edge.told = Some(life.started);
                }
                let before = self.peers.get(&from).map(|peer| peer.life.started);
                let news = self.hear_of_life(now, from, (member, *life), out);
                if member.id == from {
                    let known = self.peers.get(&from).map(|peer| peer.life);
                    // One that merely contradicts knows what we know.
                    if news && before != Some(life.started) {
                        self.welcome(from, out);
                    } else if let Some(known) = known.filter(|known| known > life) {
                        // Its clock has gone back: it has to go on from where it was.
                        let rumor = Rumor::Alive { member: member.clone(), life: known };
                        out.push(MembershipOutput::Tell { to: from, rumor });
                    }
                }
                news
            }
            Rumor::Left { member, life } if *member == self.own.id => {
                if *life >= self.life {
                    self.refute(out);
                }
                false
            }
            Rumor::Left { member, life } => self.leaves(now, *member, *life, out),
            Rumor::Accused { member, life } => self.accuse(now, *member, *life, out),
            Rumor::Living(list) => {
                for (member, life) in list.iter().take(LIST_MAX) {
                    if self.hear_of_life(now, from, (member, *life), out) {
                        let alive = Rumor::Alive { member: member.clone(), life: *life };
                        self.spread(&alive, Some(from), out);
                    }
                }
                false
            }
            Rumor::Dead(list) => {
                for (member, life) in list.iter().take(LIST_MAX) {
                    if self.accuse(now, *member, *life, out) {
                        let accused = Rumor::Accused { member: *member, life: *life };
                        self.spread(&accused, Some(from), out);
                    }
                }
                false
            }
        };
        if news {
            self.spread(rumor, Some(from), out);
        }
    }

    /// `from` says that a member lives. Returns whether it is news.
    fn hear_of_life(
        &mut self,
        now: BootTime,
        from: MemberId,
        (member, life): (&Identity, Life),
        out: &mut Vec<MembershipOutput>,
    ) -> bool {
        if *member == self.own {
            if life > self.life {
                // Somebody remembers a later life of ours, or our clock has gone back: we go on from there.
                self.life = life;
                self.refute(out);
            }
            return false;
        }
        self.known(now, member);
        if from != member.id {
            self.outlive(now, member.id, life);
        }
        self.lives(now, member.id, life, out)
    }

    /// A process that is killed closes no connections. Once others say that it was started again, the silence over one that
    /// it had is no silence of its present life. Others may be wrong, so it is asked once more before it is closed.
    fn outlive(&mut self, now: BootTime, member: MemberId, life: Life) {
        let Some(peer) = self.peers.get_mut(&member) else { return };
        let earlier = peer.edge.told.is_some_and(|told| told < life.started);
        if peer.edge.connected && earlier && peer.edge.outlived.is_none() {
            peer.edge.awaiting = Some(now);
            peer.edge.next_ping = now;
            peer.edge.outlived = Some(now);
        }
    }

    /// Connections of earlier lives, on which nobody has answered.
    fn close_outlived(&mut self, now: BootTime, out: &mut Vec<MembershipOutput>) {
        let patience = Micros(2 * self.config.retry.0);
        for (member, peer) in &mut self.peers {
            if peer.edge.connected && peer.edge.outlived.is_some_and(|since| now.since(since) >= patience) {
                peer.edge.outlived = None;
                out.push(MembershipOutput::Outlived(*member));
            }
        }
    }

    /// Somebody believes a member dead that we do not. It is given time to contradict. Returns whether it is news.
    fn accuse(
        &mut self,
        now: BootTime,
        member: MemberId,
        life: Life,
        out: &mut Vec<MembershipOutput>,
    ) -> bool {
        if member == self.own.id {
            if life >= self.life {
                self.life.refutations = self.life.refutations.max(life.refutations);
                self.refute(out);
            }
            return false;
        }
        match self.peers.get_mut(&member) {
            Some(peer)
                if life >= peer.life
                    && peer.accused.is_none()
                    && matches!(peer.liveness, Liveness::Alive | Liveness::Suspect) =>
            {
                peer.accused = Some(now);
                true
            }
            // It lives on in a later life: whoever said so does not know yet.
            Some(peer) if life < peer.life && peer.liveness == Liveness::Alive => {
                let alive = Rumor::Alive { member: peer.identity.clone(), life: peer.life };
                self.spread(&alive, None, out);
                false
            }
            _ => false,
        }
    }

    fn dead_list(&self) -> Vec<(MemberId, Life)> {
        let dead = self.peers.iter().filter(|(_, peer)| peer.liveness == Liveness::Dead);
        dead.map(|(member, peer)| (*member, peer.life)).take(LIST_MAX).collect()
    }

    /// Members believed alive, this one included.
    fn living_list(&self) -> Vec<(Identity, Life)> {
        let alive = self.peers.values().filter(|p| matches!(p.liveness, Liveness::Alive | Liveness::Suspect));
        let own = std::iter::once((self.own.clone(), self.life));
        own.chain(alive.map(|peer| (peer.identity.clone(), peer.life))).take(LIST_MAX).collect()
    }

    /// Equal for equal beliefs: who lives in which life, and who is dead.
    pub(super) fn view_digest(&mut self) -> u32 {
        if let Some(digest) = self.digest {
            return digest;
        }
        let one = |member: MemberId, life: Life, dead: bool| {
            let [high, low] = halves(member);
            let lived = mix(life.started ^ (u64::from(life.refutations) << 1) ^ u64::from(dead));
            mix(high ^ mix(low ^ lived))
        };
        let peers = self.peers.iter().filter(|(_, peer)| peer.liveness != Liveness::Left);
        let sum = peers.fold(one(self.own.id, self.life, false), |sum, (member, peer)| {
            sum.wrapping_add(one(*member, peer.life, peer.liveness == Liveness::Dead))
        });
        let [a, b, c, d, ..] = sum.to_le_bytes();
        *self.digest.insert(u32::from_le_bytes([a, b, c, d]))
    }

    /// Dials and drops so that connections follow the graph; looks for the dead, and for anybody when cut off.
    pub(super) fn keep_contact(&mut self, now: BootTime, out: &mut Vec<MembershipOutput>) {
        self.close_outlived(now, out);
        if self.is_view_at_rest(now) {
            self.follow_view();
            self.let_go(out);
        } else if self.is_graph_outgrown() {
            // What is not needed by it is let go when the view rests: it changes with each that comes.
            self.graph = graph::graph(&self.living(), self.config.rings, self.config.mesh_max);
        }
        let (own, cut_off) = (self.own.id, self.cut_off.is_some());
        let neighbours = self.graph.get(&own).cloned().unwrap_or_default();
        let connected = self.peers.values().filter(|peer| peer.edge.connected).count();
        let (mut meeting, mut dials) = (0, Vec::new());
        for (member, peer) in &self.peers {
            let due = !peer.edge.connected && peer.edge.next_dial <= now;
            // Nobody has said whether it lives: it is met, if few are there to tell.
            let meet = peer.life == Life::default() && connected + meeting < CONTACTS;
            if due && (neighbours.contains(member) || meet) {
                meeting += usize::from(meet);
                dials.push(*member);
            }
        }
        for member in dials {
            self.dial(now, member, out);
        }
        if cut_off {
            if self.next_revive <= now {
                self.next_revive = now + SEARCH_EVERY;
                self.dial_somebody(now, SEARCH, |_| true, out);
            }
        } else if self.next_revive <= now {
            self.next_revive = now + self.config.revive;
            let gone = |peer: &Peer| {
                let unmet = peer.life == Life::default();
                (unmet || peer.liveness == Liveness::Dead) && peer.edge.next_dial <= now
            };
            self.dial_somebody(now, 1, gone, out);
        }
        self.swap_lists(now, out);
    }

    /// Whether the view rests, or has not done so for long, as while one member after the other is started anew.
    fn is_view_at_rest(&self, now: BootTime) -> bool {
        let settle = self.config.settle;
        self.unsettled.is_some_and(|(first, last)| {
            now.since(last) >= settle || now.since(first) >= Micros(3 * settle.0)
        })
    }

    /// Whether this member has just learnt of most others: what it made of the first few it met has it observe the wrong
    /// ones.
    fn is_graph_outgrown(&self) -> bool {
        let alive = |peer: &&Peer| matches!(peer.liveness, Liveness::Alive | Liveness::Suspect);
        self.unsettled.is_some()
            && (self.graph.len() <= 2
                || 1 + self.peers.values().filter(alive).count() >= 2 * self.graph.len())
    }

    /// Connections the graph no longer asks for. The other end does the same, or dials again if it still asks for it.
    fn let_go(&mut self, out: &mut Vec<MembershipOutput>) {
        let neighbours = self.graph.get(&self.own.id).cloned().unwrap_or_default();
        for (member, peer) in &mut self.peers {
            if !neighbours.contains(member) {
                if peer.edge.connected {
                    out.push(MembershipOutput::Drop(*member));
                } else {
                    peer.edge.awaiting = None;
                }
            }
        }
    }

    fn dial(&mut self, now: BootTime, member: MemberId, out: &mut Vec<MembershipOutput>) {
        let first = self.own.id < member;
        let Some(peer) = self.peers.get_mut(&member) else { return };
        if !first && peer.edge.dials == 0 {
            // The other end is to dial: it is given time, once.
            peer.edge.dials = 1;
            peer.edge.next_dial = now + DIAL_IN_TURN;
            return;
        }
        // Until the outcome is told.
        peer.edge.next_dial = now + REDIAL_MAX;
        out.push(MembershipOutput::Dial(peer.identity.clone()));
    }

    fn dial_somebody(
        &mut self,
        now: BootTime,
        count: usize,
        which: impl Fn(&Peer) -> bool,
        out: &mut Vec<MembershipOutput>,
    ) {
        let mut candidates: Vec<MemberId> = self
            .peers
            .iter()
            .filter(|(_, peer)| !peer.edge.connected && which(peer))
            .map(|(member, _)| *member)
            .collect();
        for _ in 0..count.min(candidates.len()) {
            let member = candidates.swap_remove(self.rng.usize(..candidates.len()));
            if let Some(peer) = self.peers.get_mut(&member) {
                peer.edge.next_dial = now + REDIAL_MAX;
                out.push(MembershipOutput::Dial(peer.identity.clone()));
            }
        }
    }

    fn swap_lists(&mut self, now: BootTime, out: &mut Vec<MembershipOutput>) {
        let mut due = Vec::new();
        for member in self.peers.keys().copied().collect::<Vec<_>>() {
            let Some(peer) = self.peers.get_mut(&member) else { continue };
            let patience = Micros(DIFFERS_FOR.0 << peer.edge.swaps);
            let differs = peer.edge.differs.is_some_and(|since| now.since(since) >= patience);
            if peer.edge.connected && differs {
                peer.edge.differs = Some(now);
                peer.edge.swaps = (peer.edge.swaps + 1).min(SWAPS_MAX);
                due.push(member);
            }
        }
        for member in due {
            self.welcome(member, out);
        }
    }
}
