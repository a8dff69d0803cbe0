//! Votes of observers, and when they make a death.
//!
//! A vote is a state, not a timer: it stands until its observer withdraws it, or its target contradicts with a later
//! life. One observer may be wrong about its own link, so a death takes most of those who can see the target.

use std::collections::BTreeSet;

use super::{Peer, Ring, Vote, graph};
use crate::gossip::{Life, Liveness, MembershipOutput, Rumor};
use crate::ids::MemberId;
use crate::units::{BootTime, Micros};

/// Of its living observers, so many of a hundred must have voted.
const VOTES_PERCENT: usize = 60;
/// A withdrawal waits for this long: an edge that flaps says one thing at a time.
const WITHDRAW_AFTER: Micros = Micros::from_millis(150);
/// A member that has contradicted is given twice the grace for this long.
const REFUTED_FOR: Micros = Micros::from_secs(60);
/// An observer whose vote was contradicted is silent about it for this long, doubling up to the second.
const AGAIN_AFTER: Micros = Micros::from_secs(10);
const AGAIN_MAX: Micros = Micros::from_secs(300);
/// With so many suspects at once, or so many own edges silent, every edge is checked.
const SUSPECTS_ALARM: usize = 3;
const SILENT_ALARM: usize = 2;
/// A part of the cluster smaller than this looks for others before it gives anybody up.
const PART_MIN: usize = 3;
const PART_SHARE: usize = 10;
const LOOK_FIRST: Micros = Micros::from_secs(1);

impl Ring {
    /// Votes on neighbours that are silent, and withdraws what has become wrong.
    ///
    /// Only neighbours on the graph are judged: others that happen to be connected, as all are to their lead, have enough
    /// observers of their own, and a lead that is slow would be accused by everybody at once.
    pub(super) fn cast_votes(&mut self, now: BootTime, out: &mut Vec<MembershipOutput>) {
        let window = self.window();
        let own = self.own.id;
        let mut wrong = false;
        let mut rumors = Vec::new();
        let mut silent = 0;
        let neighbours = self.graph.get(&own);
        for (member, peer) in &mut self.peers {
            let observed = neighbours.is_some_and(|neighbours| neighbours.contains(member));
            let is_silent = observed && peer.edge.is_silent(now, window);
            silent += usize::from(is_silent);
            let lives = matches!(peer.liveness, Liveness::Alive | Liveness::Suspect);
            if is_silent && lives && !peer.vote.stands && peer.vote.next <= now {
                peer.vote.stands = true;
                peer.vote.withdraw = None;
                rumors.push((*member, peer.life, true));
            } else if peer.vote.stands && peer.edge.awaiting.is_none() {
                let due = *peer.vote.withdraw.get_or_insert(now + WITHDRAW_AFTER);
                if due <= now {
                    peer.vote.stands = false;
                    peer.vote.withdraw = None;
                    peer.edge.deceives(now);
                    wrong = true;
                    rumors.push((*member, peer.life, false));
                }
            } else {
                peer.vote.withdraw = None;
            }
        }
        if wrong {
            self.health.suffers(now);
        }
        for (target, life, stands) in rumors {
            let Some(peer) = self.peers.get_mut(&target) else { continue };
            peer.vote.number += 1;
            let number = peer.vote.number;
            let since = now;
            self.votes.entry(target).or_default().insert(own, Vote { life, stands, number, since });
            self.spread(&Rumor::Vote { observer: own, target, life, stands, number }, None, out);
            self.suspect(now, target, out);
        }
        let suspects = self.votes.keys().filter(|target| self.standing(**target).next().is_some()).count();
        if suspects >= SUSPECTS_ALARM || silent >= SILENT_ALARM {
            self.check_all_edges(now);
        }
    }

    /// Looks at an edge now instead of at its next turn.
    fn check_edge(peer: &mut Peer, now: BootTime) {
        if peer.edge.connected && peer.edge.awaiting.is_none() {
            peer.edge.awaiting = Some(now);
            peer.edge.next_ping = now;
        }
    }

    fn check_all_edges(&mut self, now: BootTime) {
        if now < self.next_check {
            return;
        }
        self.next_check = now + self.window();
        let fresh = self.config.retry;
        for peer in self.peers.values_mut().filter(|peer| now.since(peer.edge.heard) > fresh) {
            Self::check_edge(peer, now);
        }
    }

    /// Votes that count against the present life of `target`, from members that live themselves.
    fn standing(&self, target: MemberId) -> impl Iterator<Item = (MemberId, &Vote)> {
        let life = self.peers.get(&target).map(|peer| peer.life);
        self.votes.get(&target).into_iter().flatten().filter_map(move |(observer, vote)| {
            let lives = || {
                *observer == self.own.id
                    || self.peers.get(observer).is_some_and(|peer| peer.liveness != Liveness::Dead)
            };
            (vote.stands && Some(vote.life) == life && lives()).then_some((*observer, vote))
        })
    }

    fn suspect(&mut self, now: BootTime, target: MemberId, out: &mut Vec<MembershipOutput>) {
        let suspected = self.standing(target).next().is_some();
        match self.peers.get(&target).map(|peer| peer.liveness) {
            Some(Liveness::Alive) if suspected => self.set(now, target, Liveness::Suspect, out),
            Some(Liveness::Suspect) if !suspected => self.set(now, target, Liveness::Alive, out),
            _ => {}
        }
    }

    /// A vote of another observer, or of ourselves come back. Returns whether it is news.
    pub(super) fn count_vote(
        &mut self,
        now: BootTime,
        (observer, target): (MemberId, MemberId),
        life: Life,
        stands: bool,
        number: u64,
        out: &mut Vec<MembershipOutput>,
    ) -> bool {
        if target == self.own.id {
            let of_this_life = stands && life == self.life;
            if of_this_life {
                self.health.suffers(now);
                self.refute(out);
            }
            return of_this_life;
        }
        if observer == self.own.id || !self.peers.contains_key(&observer) {
            return false;
        }
        let Some(peer) = self.peers.get_mut(&target) else { return false };
        let votes = self.votes.entry(target).or_default();
        let known = votes.get(&observer);
        if known.is_some_and(|vote| (vote.life, vote.number) >= (life, number)) {
            return false;
        }
        // When it was already standing, the grace runs on.
        let since = known.filter(|vote| vote.stands && vote.life == life).map_or(now, |vote| vote.since);
        votes.insert(observer, Vote { life, stands, number, since });
        if stands && life == peer.life {
            // Other observers look at once.
            Self::check_edge(peer, now);
        }
        self.suspect(now, target, out);
        true
    }

    /// «I live»: a later life, which voids what was said of the present one.
    pub(super) fn refute(&mut self, out: &mut Vec<MembershipOutput>) {
        self.life.refutations = self.life.refutations.saturating_add(1);
        self.digest = None;
        self.spread(&Rumor::Alive { member: self.own.clone(), life: self.life }, None, out);
    }

    /// A member contradicts, or begins a life. Returns whether it is news.
    pub(super) fn lives(
        &mut self,
        now: BootTime,
        member: MemberId,
        life: Life,
        out: &mut Vec<MembershipOutput>,
    ) -> bool {
        let Some(peer) = self.peers.get_mut(&member) else { return false };
        if life <= peer.life {
            return false;
        }
        let restarted = life.started > peer.life.started;
        peer.life = life;
        peer.accused = None;
        peer.unreachable = None;
        if restarted {
            peer.refuted = None;
            peer.vote = super::OwnVote { number: peer.vote.number, ..super::OwnVote::default() };
        } else {
            peer.refuted = Some(now);
            if std::mem::take(&mut peer.vote.stands) {
                peer.edge.deceives(now);
                self.health.suffers(now);
                // It lives, so it is our link that is broken: we say so rarely from now on.
                let pause = Micros((peer.vote.pause.0 * 2).clamp(AGAIN_AFTER.0, AGAIN_MAX.0));
                (peer.vote.pause, peer.vote.next) = (pause, now + pause);
            }
        }
        peer.vote.withdraw = None;
        if !peer.edge.connected {
            // Silence counts again from the next attempt to reach it.
            peer.edge.awaiting = None;
            peer.edge.next_dial = now;
        }
        self.digest = None;
        self.votes.remove(&member);
        self.set(now, member, Liveness::Alive, out);
        true
    }

    /// Deaths by votes, by accusations nobody contradicted, and of those whom no way leads to.
    pub(super) fn reach_verdicts(&mut self, now: BootTime, out: &mut Vec<MembershipOutput>) {
        let mut dead: BTreeSet<MemberId> = self.voted_dead(now).into_iter().collect();
        let patience = Micros(2 * self.config.grace.0);
        dead.extend(self.peers.iter().filter_map(|(member, peer)| {
            let heard = peer.edge.connected && peer.edge.awaiting.is_none();
            let ignored = peer.accused.is_some_and(|since| now.since(since) >= patience);
            (ignored && !heard && peer.liveness != Liveness::Dead).then_some(*member)
        }));
        for member in &dead {
            self.set(now, *member, Liveness::Dead, out);
        }
        for member in self.out_of_reach(now) {
            self.set(now, member, Liveness::Dead, out);
        }
        let suspects: Vec<MemberId> = self.votes.keys().copied().collect();
        for target in suspects {
            self.suspect(now, target, out);
        }
    }

    /// At a member that is held up, what contradicts a vote may be waiting behind it.
    fn grace(&self) -> Micros {
        Micros(self.config.grace.0 * if self.health.is_strained() { 2 } else { 1 })
    }

    fn voted_dead(&self, now: BootTime) -> Vec<MemberId> {
        let mut dead = Vec::new();
        for (target, peer) in &self.peers {
            if peer.liveness != Liveness::Suspect {
                continue;
            }
            let votes: Vec<BootTime> = self.standing(*target).map(|(_, vote)| vote.since).collect();
            let Some(first) = votes.iter().min() else { continue };
            let doubted = peer.refuted.is_some_and(|at| now.since(at) < REFUTED_FOR);
            let grace = if doubted { Micros(2 * self.config.grace.0) } else { self.grace() };
            if now.since(*first) < grace {
                continue;
            }
            let observers =
                self.graph
                    .get(target)
                    .into_iter()
                    .flatten()
                    .filter(|observer| {
                        **observer == self.own.id
                            || self.peers.get(observer).is_some_and(|peer| {
                                matches!(peer.liveness, Liveness::Alive | Liveness::Suspect)
                            })
                    })
                    .count();
            let wanted = (observers * VOTES_PERCENT).div_ceil(100).max(2).min(observers.max(1));
            if votes.len() >= wanted {
                dead.push(*target);
            }
        }
        dead
    }

    /// Members that no unbroken edges lead to from here, for as long as the grace.
    fn out_of_reach(&mut self, now: BootTime) -> Vec<MemberId> {
        let broken: BTreeSet<(MemberId, MemberId)> = self
            .votes
            .keys()
            .flat_map(|target| self.standing(*target).map(|(observer, _)| (observer, *target)))
            .map(|(a, b)| if a < b { (a, b) } else { (b, a) })
            .collect();
        let nothing_broken = broken.is_empty();
        let living = self.living();
        // The dead and the gone lead nowhere.
        let leads_nowhere = |member: &MemberId| !living.contains(member);
        if nothing_broken
            && self.peers.values().all(|peer| peer.unreachable.is_none())
            && !self.graph.keys().any(leads_nowhere)
        {
            return Vec::new();
        }
        let reached = graph::reachable(&self.graph, self.own.id, &living, &broken);
        let small = reached.len() < PART_MIN.max(living.len() / PART_SHARE);
        let patience = Micros(self.grace().0 + if small { LOOK_FIRST.0 } else { 0 });
        let mut dead = Vec::new();
        for (member, peer) in &mut self.peers {
            let lives = matches!(peer.liveness, Liveness::Alive | Liveness::Suspect);
            // One that the graph does not hold yet is judged once it does.
            if !lives || !self.graph.contains_key(member) || reached.contains(member) {
                peer.unreachable = None;
                continue;
            }
            let since = *peer.unreachable.get_or_insert(now);
            if now.since(since) >= patience {
                dead.push(*member);
            }
        }
        dead
    }
}
