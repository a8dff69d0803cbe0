//! Whom to be connected to, what is passed on, and how lists of the dead are brought together.

use super::members::term;
use super::{Edge, MEMBERS_MAX, OUTSIDERS_MAX, Outsider, Ring};
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
    pub(super) fn known(&mut self, identity: &Identity) {
        if self.is_ours(identity)
            && *identity != self.own
            && self.members.find(identity.id).is_none()
            && self.members.known() < MEMBERS_MAX
        {
            self.members.add(identity.id);
        }
    }

    /// An operator's word, or its certificate was revoked: as if it had never been.
    pub(super) fn forget(&mut self, member: MemberId) {
        if let Some(at) = self.members.find(member) {
            self.members.remove(at);
            self.votes.forget(at, |target| self.members.life(target));
            self.own_votes.remove(&at);
            self.accusing.remove(&at);
            self.edges.remove(at);
            for since in [&mut self.refuted, &mut self.accused, &mut self.unreachable] {
                since.remove(&at);
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
        self.known(&identity);
        let dead = self.dead_lists();
        // A member that starts makes all its connections at one time: without this they would be looked at together, and
        // its death be noticed up to a period later than by eight that look one after the other.
        let first = now + Micros(self.rng.u64(0..=self.period().0));
        let Some(at) = self.members.find(member) else { return };
        self.edges.connect(at, now);
        self.heard(now, member, out);
        self.edges.get_mut(at, now).next_ping = first;
        // Who we are, and what we believe; the same comes from there.
        let alive = Rumor::Alive { member: self.own.clone(), life: self.life };
        out.push(MembershipOutput::Tell { to: member, rumor: alive });
        out.extend(
            dead.into_iter().map(|list| MembershipOutput::Tell { to: member, rumor: Rumor::Dead(list) }),
        );
        let standing: Vec<Rumor> = self.standing_votes();
        out.extend(standing.into_iter().map(|rumor| MembershipOutput::Tell { to: member, rumor }));
    }

    /// What one that has just begun its life does not know.
    fn welcome(&self, member: MemberId, out: &mut Vec<MembershipOutput>) {
        let living = self.living_lists().into_iter().map(Rumor::Living);
        let mut dead = self.dead_lists();
        if dead.is_empty() {
            dead.push(Vec::new());
        }
        for rumor in living.chain(dead.into_iter().map(Rumor::Dead)) {
            out.push(MembershipOutput::Tell { to: member, rumor });
        }
    }

    /// Votes that a new neighbour may not have heard.
    fn standing_votes(&self) -> Vec<Rumor> {
        let standing = self.votes.iter().filter(|(_, vote)| vote.stands).take(LIST_MAX);
        let rumors = standing.map(|(target, vote)| {
            let (observer, target) = (self.members.id(vote.observer), self.members.id(target));
            Rumor::Vote { observer, target, life: vote.life, stands: true, number: vote.number }
        });
        rumors.collect()
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
        let Some(at) = self.members.find(member) else { return };
        let wanted = self.wants(at);
        let edge = self.edges.sever(at, now);
        edge.next_dial = now;
        match parting {
            Parting::Left => {
                let life = self.members.life(at);
                self.leaves(now, at, life, out);
                self.spread(&Rumor::Left { member, life }, None, out);
            }
            // Silent from now on, unless dialling helps in time.
            Parting::Lost if wanted => drop(edge.awaiting.get_or_insert(now)),
            Parting::Lost => {}
            Parting::Unneeded => {
                edge.awaiting = None;
                // Whoever still asks for it dials, whosever turn it is.
                edge.dials = 1;
            }
        }
    }

    pub(super) fn dial_failed(&mut self, now: BootTime, member: MemberId) {
        let Some(at) = self.members.find(member) else { return };
        let wanted = self.wants(at);
        if self.edges.is_connected(at) {
            return;
        }
        let edge = self.edges.get_mut(at, now);
        let wait = Micros((REDIAL.0 << edge.dials.min(8)).min(REDIAL_MAX.0));
        edge.next_dial = now + wait;
        edge.dials = edge.dials.saturating_add(1);
        if wanted {
            edge.awaiting.get_or_insert(now);
        }
    }

    fn leaves(&mut self, now: BootTime, at: u32, life: Life, out: &mut Vec<MembershipOutput>) -> bool {
        if life < self.members.life(at) || self.members.liveness(at) == Liveness::Left {
            return false;
        }
        self.members.set_life(at, life);
        if self.edges.get(at).is_some_and(|edge| edge.awaiting.is_some()) {
            self.edges.get_mut(at, now).awaiting = None;
        }
        self.votes.clear(at);
        self.reach = None;
        self.set(now, at, Liveness::Left, out);
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
        let Some(teller) = self.peer(from) else { return };
        let news = match rumor {
            Rumor::Vote { observer, target, life, stands, number } => {
                self.count_vote(now, (*observer, *target), *life, *stands, *number, out)
            }
            Rumor::Alive { member, life } => {
                if member.id == from {
                    self.edges.get_mut(teller, now).told = Some(life.started);
                }
                let before = self.members.life(teller).started;
                let (news, _) = self.hear_of_life(now, from, (member, *life), teller, out);
                if member.id == from {
                    let known = self.members.life(teller);
                    // One that merely contradicts knows what we know.
                    if news && before != life.started {
                        self.welcome(from, out);
                    } else if known > *life {
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
            Rumor::Left { member, life } => {
                self.members.find(*member).is_some_and(|at| self.leaves(now, at, *life, out))
            }
            Rumor::Accused { member, life } => self.accuse(now, *member, *life, out),
            Rumor::Living(list) => {
                let mut at = teller;
                for (member, life) in list.iter().take(LIST_MAX) {
                    let news;
                    (news, at) = self.hear_of_life(now, from, (member, *life), at, out);
                    if news {
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

    /// `from` says that a member lives. Returns whether it is news, and the number of the member, which in a list is mostly
    /// the one after `before`.
    fn hear_of_life(
        &mut self,
        now: BootTime,
        from: MemberId,
        (member, life): (&Identity, Life),
        before: u32,
        out: &mut Vec<MembershipOutput>,
    ) -> (bool, u32) {
        if member.id == self.own.id && *member == self.own {
            if life > self.life {
                // Somebody remembers a later life of ours, or our clock has gone back: we go on from there.
                self.life = life;
                self.refute(out);
            }
            return (false, before);
        }
        let known = self.members.find_after(before, member.id).or_else(|| {
            self.known(member);
            self.members.find(member.id)
        });
        let Some(at) = known else { return (false, before) };
        if from != member.id {
            self.outlive(now, at, life);
        }
        (self.lives(now, at, life, out), at)
    }

    /// A process that is killed closes no connections. Once others say that it was started again, the silence over one that
    /// it had is no silence of its present life. Others may be wrong, so it is asked once more before it is closed.
    fn outlive(&mut self, now: BootTime, at: u32, life: Life) {
        let leads_to_earlier =
            |edge: &Edge| edge.connected && edge.told.is_some_and(|told| told < life.started);
        if self.edges.get(at).is_some_and(|edge| leads_to_earlier(edge) && edge.outlived.is_none()) {
            let edge = self.edges.get_mut(at, now);
            edge.awaiting = Some(now);
            edge.next_ping = now;
            edge.outlived = Some(now);
        }
    }

    /// Connections of earlier lives, on which nobody has answered.
    fn close_outlived(&mut self, now: BootTime, out: &mut Vec<MembershipOutput>) {
        let patience = Micros(2 * self.config.retry.0);
        for (at, edge) in self.edges.iter_mut() {
            if edge.connected && edge.outlived.is_some_and(|since| now.since(since) >= patience) {
                edge.outlived = None;
                out.push(MembershipOutput::Outlived(self.members.id(at)));
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
        let Some(at) = self.members.find(member) else { return false };
        let known = self.members.life(at);
        if life >= known && self.members.lives(at) && !self.accused.contains_key(&at) {
            self.accused.insert(at, now);
            return true;
        }
        if life < known && self.members.liveness(at) == Liveness::Alive {
            // It lives on in a later life: whoever said so does not know yet.
            self.spread(&Rumor::Alive { member: self.identity(at), life: known }, None, out);
        }
        false
    }

    /// As many lists as it takes.
    fn dead_lists(&self) -> Vec<Vec<(MemberId, Life)>> {
        let one = |at: &u32| (self.members.id(*at), self.members.life(*at));
        in_lists(self.members.dead().iter().map(one))
    }

    /// Members believed alive, this one included.
    fn living_lists(&self) -> Vec<Vec<(Identity, Life)>> {
        let alive = self.members.living().iter().filter(|at| *at != self.me);
        let own = std::iter::once((self.own.clone(), self.life));
        in_lists(own.chain(alive.map(|at| (self.identity(at), self.members.life(at)))))
    }

    /// Equal for equal beliefs: who lives in which life, and who is dead.
    pub(super) fn view_digest(&self) -> u32 {
        let sum = self.members.sum().wrapping_add(term(self.own.id, self.life, false));
        let [a, b, c, d, ..] = sum.to_le_bytes();
        u32::from_le_bytes([a, b, c, d])
    }

    /// Dials and drops so that connections follow the graph; looks for the dead, and for anybody when cut off.
    pub(super) fn keep_contact(&mut self, now: BootTime, out: &mut Vec<MembershipOutput>) {
        self.close_outlived(now, out);
        if self.is_view_at_rest(now) {
            self.follow_view();
            self.let_go(out);
        } else if self.is_graph_outgrown() {
            // What is not needed by it is let go when the view rests: it changes with each that comes.
            self.follow_graph();
        }
        for at in self.due_dials(now) {
            self.dial(now, at, out);
        }
        if self.cut_off.is_some() {
            if self.next_revive <= now {
                self.next_revive = now + SEARCH_EVERY;
                let anybody = self.members.iter().map(|(at, _)| at);
                let candidates = anybody.filter(|at| !self.edges.is_connected(*at)).collect();
                self.dial_some(now, SEARCH, candidates, out);
            }
        } else if self.next_revive <= now {
            self.next_revive = now + self.config.revive;
            self.forget_refutations(now);
            let gone = self.members.dead().union(self.members.unmet()).copied();
            let candidates = gone.filter(|at| self.edges.is_due(*at, now)).collect();
            self.dial_some(now, 1, candidates, out);
        }
        self.swap_lists(now, out);
    }

    /// Neighbours that are not connected; and, if few are there to tell, those of whom nobody has said whether they live.
    fn due_dials(&self, now: BootTime) -> Vec<u32> {
        let mut due = Vec::new();
        let room = CONTACTS.saturating_sub(self.edges.connected());
        let is_due = |at: &u32| self.edges.is_due(*at, now);
        let neighbours = self.graph.near(self.me).iter().copied();
        if room == 0 || self.members.unmet().is_empty() {
            return neighbours.filter(is_due).collect();
        }
        let unmet: Vec<u32> = self.members.unmet().iter().copied().filter(is_due).take(room).collect();
        due.extend(neighbours.filter(is_due));
        due.extend(unmet);
        due.sort_unstable();
        due.dedup();
        due
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
        self.unsettled.is_some()
            && (self.graph.len() <= 2 || self.members.living_count() >= 2 * self.graph.len())
    }

    /// Connections the graph no longer asks for. The other end does the same, or dials again if it still asks for it.
    fn let_go(&mut self, out: &mut Vec<MembershipOutput>) {
        let neighbours = self.graph.near(self.me);
        for (at, edge) in self.edges.iter_mut() {
            if neighbours.binary_search(&at).is_err() {
                if edge.connected {
                    out.push(MembershipOutput::Drop(self.members.id(at)));
                } else {
                    edge.awaiting = None;
                }
            }
        }
    }

    fn dial(&mut self, now: BootTime, at: u32, out: &mut Vec<MembershipOutput>) {
        let first = self.own.id < self.members.id(at);
        let edge = self.edges.get_mut(at, now);
        if !first && edge.dials == 0 {
            // The other end is to dial: it is given time, once.
            edge.dials = 1;
            edge.next_dial = now + DIAL_IN_TURN;
            return;
        }
        self.dial_now(now, at, out);
    }

    fn dial_now(&mut self, now: BootTime, at: u32, out: &mut Vec<MembershipOutput>) {
        // Until the outcome is told.
        self.edges.get_mut(at, now).next_dial = now + REDIAL_MAX;
        out.push(MembershipOutput::Dial(self.identity(at)));
    }

    fn dial_some(
        &mut self,
        now: BootTime,
        count: usize,
        mut candidates: Vec<u32>,
        out: &mut Vec<MembershipOutput>,
    ) {
        for _ in 0..count.min(candidates.len()) {
            let at = candidates.swap_remove(self.rng.usize(..candidates.len()));
            self.dial_now(now, at, out);
        }
    }

    fn swap_lists(&mut self, now: BootTime, out: &mut Vec<MembershipOutput>) {
        let mut due = Vec::new();
        for (at, edge) in self.edges.iter_mut() {
            let patience = Micros(DIFFERS_FOR.0 << edge.swaps);
            let differs = edge.differs.is_some_and(|since| now.since(since) >= patience);
            if edge.connected && differs {
                edge.differs = Some(now);
                edge.swaps = (edge.swaps + 1).min(SWAPS_MAX);
                due.push(self.members.id(at));
            }
        }
        for member in due {
            self.welcome(member, out);
        }
    }
}

fn in_lists<T>(mut all: impl Iterator<Item = T>) -> Vec<Vec<T>> {
    let list = || all.by_ref().take(LIST_MAX).collect();
    std::iter::repeat_with(list).take_while(|list: &Vec<T>| !list.is_empty()).collect()
}
