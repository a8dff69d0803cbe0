//! Votes of observers, and when they make a death.
//!
//! A vote is a state, not a timer: it stands until its observer withdraws it, or its target contradicts with a later
//! life. One observer may be wrong about its own link, so a death takes most of those who can see the target.

use std::collections::BTreeSet;

use super::votes::Vote;
use super::{Edge, OwnVote, Ring};
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
        let is_silent = |edge: &Edge| edge.is_silent(now, window);
        let mut silent = 0;
        if !self.accusing.is_empty() || self.edges.iter().any(|(_, edge)| is_silent(edge)) {
            silent = self.cast_votes_anew(now, window, out);
        }
        let targets = self.votes.condemned().iter().chain(self.votes.doubted());
        // How many beyond that does not matter.
        let suspects = targets.filter(|target| self.is_doubted(**target)).take(SUSPECTS_ALARM).count();
        if suspects >= SUSPECTS_ALARM || silent >= SILENT_ALARM {
            self.check_all_edges(now);
        }
    }

    /// Returns how many of those we observe are silent.
    fn cast_votes_anew(&mut self, now: BootTime, window: Micros, out: &mut Vec<MembershipOutput>) -> usize {
        let (me, own) = (self.me, self.own.id);
        let mut wrong = false;
        let mut rumors = Vec::new();
        let mut silent = 0;
        let concerned: BTreeSet<u32> = self.graph.near(me).iter().chain(&self.accusing).copied().collect();
        for at in concerned {
            let edge = self.edges.get(at);
            let heard = edge.is_none_or(|edge| edge.awaiting.is_none());
            let is_silent = self.wants(at) && edge.is_some_and(|edge| edge.is_silent(now, window));
            silent += usize::from(is_silent);
            let (lives, life) = (self.members.lives(at), self.members.life(at));
            let vote = self.own_votes.get(&at).copied().unwrap_or_default();
            if is_silent && lives && !vote.stands && vote.next <= now {
                self.own_votes.insert(at, OwnVote { stands: true, withdraw: None, ..vote });
                self.accusing.insert(at);
                rumors.push((at, life, true));
            } else if vote.stands && heard {
                let due = vote.withdraw.unwrap_or(now + WITHDRAW_AFTER);
                if due <= now {
                    self.own_votes.insert(at, OwnVote { stands: false, withdraw: None, ..vote });
                    self.accusing.remove(&at);
                    self.edges.get_mut(at, now).deceives(now);
                    wrong = true;
                    rumors.push((at, life, false));
                } else {
                    self.own_votes.insert(at, OwnVote { withdraw: Some(due), ..vote });
                }
            } else if vote.withdraw.is_some() {
                self.own_votes.insert(at, OwnVote { withdraw: None, ..vote });
            }
        }
        if wrong {
            self.health.suffers(now);
        }
        for (at, life, stands) in rumors {
            let vote = self.own_votes.entry(at).or_default();
            vote.number += 1;
            let number = vote.number;
            self.put_vote(at, Vote { observer: me, life, stands, number, since: now });
            let target = self.members.id(at);
            self.spread(&Rumor::Vote { observer: own, target, life, stands, number }, None, out);
            self.suspect(now, at, out);
        }
        silent
    }

    fn put_vote(&mut self, target: u32, vote: Vote) {
        self.votes.put(target, vote, self.members.life(target), self.members.lives(target));
        self.reach = None;
    }

    fn check_all_edges(&mut self, now: BootTime) {
        if now < self.next_check {
            return;
        }
        self.next_check = now + self.window();
        let fresh = self.config.retry;
        for (_, edge) in self.edges.iter_mut().filter(|(_, edge)| now.since(edge.heard) > fresh) {
            edge.check(now);
        }
    }

    /// Votes that count against the present life of `target`, from members that live themselves.
    fn standing(&self, target: u32) -> impl Iterator<Item = &Vote> {
        let life = self.members.life(target);
        self.votes.against(target).iter().filter(move |vote| {
            let lives = || vote.observer == self.me || self.members.liveness(vote.observer) != Liveness::Dead;
            vote.stands && vote.life == life && lives()
        })
    }

    fn is_doubted(&self, target: u32) -> bool {
        self.standing(target).next().is_some()
    }

    fn suspect(&mut self, now: BootTime, target: u32, out: &mut Vec<MembershipOutput>) {
        let suspected = self.is_doubted(target);
        match self.members.liveness(target) {
            Liveness::Alive if suspected => self.set(now, target, Liveness::Suspect, out),
            Liveness::Suspect if !suspected => self.set(now, target, Liveness::Alive, out),
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
        let Some(observer) = self.members.find(observer) else { return false };
        let Some(target) = self.members.find(target) else { return false };
        let votes = self.votes.against(target);
        let known = votes.binary_search_by_key(&observer, |vote| vote.observer).ok().map(|at| votes[at]);
        if known.is_some_and(|vote| (vote.life, vote.number) >= (life, number)) {
            return false;
        }
        // When it was already standing, the grace runs on.
        let since = known.filter(|vote| vote.stands && vote.life == life).map_or(now, |vote| vote.since);
        self.put_vote(target, Vote { observer, life, stands, number, since });
        if stands && life == self.members.life(target) && self.edges.is_connected(target) {
            // Other observers look at once.
            self.edges.get_mut(target, now).check(now);
        }
        self.suspect(now, target, out);
        true
    }

    /// «I live»: a later life, which voids what was said of the present one.
    pub(super) fn refute(&mut self, out: &mut Vec<MembershipOutput>) {
        self.life.refutations = self.life.refutations.saturating_add(1);
        self.spread(&Rumor::Alive { member: self.own.clone(), life: self.life }, None, out);
    }

    /// A member contradicts, or begins a life. Returns whether it is news.
    pub(super) fn lives(
        &mut self,
        now: BootTime,
        at: u32,
        life: Life,
        out: &mut Vec<MembershipOutput>,
    ) -> bool {
        let before = self.members.life(at);
        if life <= before {
            return false;
        }
        self.members.set_life(at, life);
        self.accused.remove(&at);
        self.unreachable.remove(&at);
        let accusing = self.accusing.remove(&at);
        if life.started > before.started {
            self.refuted.remove(&at);
            if let Some(vote) = self.own_votes.get_mut(&at) {
                *vote = OwnVote { number: vote.number, ..OwnVote::default() };
            }
        } else {
            self.refuted.insert(at, now);
            if let Some(vote) = self.own_votes.get_mut(&at).filter(|_| accusing) {
                // It lives, so it is our link that is broken: we say so rarely from now on.
                let pause = Micros((vote.pause.0 * 2).clamp(AGAIN_AFTER.0, AGAIN_MAX.0));
                *vote =
                    OwnVote { stands: false, number: vote.number, next: now + pause, pause, withdraw: None };
                self.edges.get_mut(at, now).deceives(now);
                self.health.suffers(now);
            }
        }
        if self.edges.get(at).is_some_and(|edge| !edge.connected) {
            let edge = self.edges.get_mut(at, now);
            // Silence counts again from the next attempt to reach it.
            edge.awaiting = None;
            edge.next_dial = now;
        }
        self.votes.clear(at);
        self.reach = None;
        self.set(now, at, Liveness::Alive, out);
        true
    }

    /// Contradictions of long ago change nothing any more.
    pub(super) fn forget_refutations(&mut self, now: BootTime) {
        self.refuted.retain(|_, at| now.since(*at) < REFUTED_FOR);
    }

    /// Deaths by votes, by accusations nobody contradicted, and of those whom no way leads to.
    pub(super) fn reach_verdicts(&mut self, now: BootTime, out: &mut Vec<MembershipOutput>) {
        let mut dead = self.voted_dead(now);
        let patience = Micros(2 * self.config.grace.0);
        dead.extend(self.accused.iter().filter_map(|(at, since)| {
            let heard = self.edges.get(*at).is_some_and(|edge| edge.connected && edge.awaiting.is_none());
            (now.since(*since) >= patience && !heard).then_some(*at)
        }));
        for at in dead {
            self.set(now, at, Liveness::Dead, out);
        }
        for at in self.out_of_reach(now) {
            self.set(now, at, Liveness::Dead, out);
        }
        let targets = self.votes.doubted().union(self.members.suspects());
        for target in targets.copied().collect::<Vec<u32>>() {
            self.suspect(now, target, out);
        }
    }

    /// At a member that is held up, what contradicts a vote may be waiting behind it.
    fn grace(&self) -> Micros {
        Micros(self.config.grace.0 * if self.health.is_strained() { 2 } else { 1 })
    }

    fn voted_dead(&self, now: BootTime) -> BTreeSet<u32> {
        let is_dead = |target: &u32| {
            let votes = self.standing(*target).count();
            let Some(first) = self.standing(*target).map(|vote| vote.since).min() else { return false };
            let doubted = self.refuted.get(target).is_some_and(|at| now.since(*at) < REFUTED_FOR);
            let grace = if doubted { Micros(2 * self.config.grace.0) } else { self.grace() };
            if now.since(first) < grace {
                return false;
            }
            let observers = self.graph.near(*target).iter().filter(|at| self.members.lives(**at)).count();
            votes >= (observers * VOTES_PERCENT).div_ceil(100).max(2).min(observers.max(1))
        };
        self.members.suspects().iter().copied().filter(is_dead).collect()
    }

    /// Members that no unbroken edges lead to from here, for as long as the grace.
    fn out_of_reach(&mut self, now: BootTime) -> Vec<u32> {
        let targets = || self.votes.condemned().iter().chain(self.votes.doubted());
        // The dead and the gone lead nowhere.
        if self.unreachable.is_empty()
            && self.absent.is_empty()
            && !targets().any(|target| self.is_doubted(*target))
        {
            return Vec::new();
        }
        let reach = self.reach.take().unwrap_or_else(|| {
            let broken =
                targets().flat_map(|target| self.standing(*target).map(|vote| (vote.observer, *target)));
            self.graph.reach(self.me, &self.absent, broken)
        });
        let small = reach.reached < PART_MIN.max(self.members.living_count() / PART_SHARE);
        let patience = Micros(self.grace().0 + if small { LOOK_FIRST.0 } else { 0 });
        // One that the graph does not hold yet is judged once it does.
        self.unreachable.retain(|at, _| reach.unreached.binary_search(at).is_ok());
        let mut dead = Vec::new();
        for at in &reach.unreached {
            let since = *self.unreachable.entry(*at).or_insert(now);
            if now.since(since) >= patience {
                dead.push(*at);
            }
        }
        self.reach = Some(reach);
        dead
    }
}
