//! Who votes: the lead has as many voters as the size of its cluster is worth, and replaces those that are lost.
//!
//! One alone is fine, of two both are needed, so there are one, three, or in a large cluster five. A member that is to
//! vote first gets all records and grants its lease, so that it is of use in the moment it counts; then the electorate
//! changes by this one voter.

use std::collections::BTreeSet;

use codeco_protocol::election::ElectionMessage;
use codeco_protocol::ids::MemberId;
use codeco_protocol::units::BootTime;

use super::super::electorate::{Electorate, Role, VOTERS_MAX, Voter};
use super::copies::Follower;
use super::record::Entry;
use super::{Elector, ElectorNote, ElectorOutput, Standing};

/// Nodes from which on three vote.
const THREE_FROM: usize = 3;
/// Nodes from which on five vote.
const FIVE_FROM: usize = 9;

/// How many are to vote in a cluster of so many nodes.
fn wanted(nodes: usize) -> usize {
    match nodes {
        0..THREE_FROM => 1,
        THREE_FROM..FIVE_FROM => 3,
        _ => 5,
    }
}

/// A voter that is of no use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Gone {
    voter: Voter,
    /// Its journal is, the member has said so: it never returns. Others have only been silent for long.
    for_good: bool,
}

/// The next step to replace a voter that is gone by a member that is ready: the voter, and whether it is added.
///
/// A voter that is gone for good is removed before another is added: it can only be counted against the majority. One
/// that is silent has all its records and may return, and is then a vote more if another is lost on the way: it goes
/// only once the other is there, unless there is no place left.
fn replacement(voters: usize, gone: &[Gone], ready: &[Voter]) -> Option<(Voter, bool)> {
    let first = *gone.iter().find(|gone| gone.for_good).or(gone.first())?;
    if voters.is_multiple_of(2) {
        return Some((first.voter, false));
    }
    let next = *ready.first()?;
    let adds = !first.for_good && voters < VOTERS_MAX;
    Some(if adds { (next, true) } else { (first.voter, false) })
}

impl Elector {
    pub(super) fn tend_electorate(&mut self, now: BootTime, out: &mut Vec<ElectorOutput>) {
        let (me, resend, lost_after) = (self.me(), self.config.lead.resend, self.config.lost_after);
        let Standing::Reigning(reign) = &mut self.standing else { return };
        // An even number of voters is only a step on the way, and bears no more losses than one voter less: on with it.
        let between = reign.office.electorate().voters().count() % 2 == 0;
        if (reign.next_tend > now && !between) || !reign.office.may_act(now) {
            return;
        }
        reign.next_tend = now + resend;
        let present: BTreeSet<MemberId> = self
            .lead
            .members()
            .filter(|(_, member)| member.reported.is_some() && !member.lost)
            .map(|(node, _)| node)
            .collect();
        let voters: Vec<Voter> = reign.office.electorate().voters().map(|(voter, _)| voter).collect();
        let gone = |voter: &Voter| {
            let follower = reign.followers.get(&voter.member);
            let for_good = follower.and_then(|f| f.life).is_some_and(|life| life != voter.incarnation);
            let silent = follower.is_none_or(|f| f.life.is_none() || now.since(f.heard) >= lost_after);
            (*voter != me && (for_good || silent)).then_some(Gone { voter: *voter, for_good })
        };
        let gone: Vec<Gone> = voters.iter().filter_map(gone).collect();
        let is_gone = |voter: &&Voter| gone.iter().any(|gone| gone.voter == **voter);
        let sound: Vec<Voter> = voters.iter().filter(|voter| !is_gone(voter)).copied().collect();
        let missing = wanted(present.len()).saturating_sub(sound.len());
        let votes = |member: &MemberId| sound.iter().any(|voter| voter.member == *member);
        // Whoever is being prepared stays chosen; others are added in the order of their ids.
        let known: Vec<MemberId> = reign.followers.keys().copied().collect();
        let mut learners: Vec<MemberId> =
            known.into_iter().filter(|member| present.contains(member) && !votes(member)).collect();
        learners.extend(present.iter().copied().filter(|member| !votes(member) && *member != me.member));
        let mut seen = BTreeSet::new();
        learners.retain(|member| seen.insert(*member));
        learners.truncate(missing);
        let keep: BTreeSet<MemberId> =
            voters.iter().map(|voter| voter.member).chain(learners.iter().copied()).collect();
        reign.followers.retain(|member, _| keep.contains(member));
        let mut invited = Vec::new();
        let mut ready = Vec::new();
        let end = reign.office.last();
        for member in &learners {
            let follower = reign.followers.entry(*member).or_insert_with(|| Follower::of(now, None));
            match follower.life {
                None if follower.next_invite <= now => {
                    follower.next_invite = now + resend;
                    invited.push(*member);
                }
                None => {}
                Some(life) => {
                    let voter = Self::as_voter(*member, life);
                    let near = reign.office.stored_by(voter).is_some_and(|at| at + 8 >= end.sequence);
                    if near && reign.office.granted_until(voter) > now {
                        ready.push(voter);
                    }
                }
            }
        }
        let change = if !gone.is_empty() {
            replacement(voters.len(), &gone, &ready)
        } else if between && missing == 0 {
            // It was added for one that has returned since, or for a member that is not there any more.
            voters.iter().rfind(|voter| **voter != me).map(|surplus| (*surplus, false))
        } else {
            ready.first().filter(|_| ready.len() >= missing).map(|voter| (*voter, true))
        };
        for member in invited {
            self.send(member, ElectionMessage::Invite, out);
        }
        if let Some((voter, added)) = change {
            self.change_electorate(voter, added, out);
        }
    }

    fn change_electorate(&mut self, voter: Voter, add: bool, out: &mut Vec<ElectorOutput>) {
        let Standing::Reigning(reign) = &mut self.standing else { return };
        let step = |electorate: &Electorate| {
            if add { electorate.with(voter, Role::Member) } else { electorate.without(voter) }
        };
        // Not while the change before is on its way: tried again soon.
        let Ok(at) = reign.office.change(step) else { return };
        let electorate = reign.office.electorate().clone();
        self.electorate = Some(electorate.clone());
        out.push(ElectorOutput::Note(ElectorNote::ElectorateChanged {
            electorate: electorate.clone(),
            added: add.then_some(voter),
            removed: (!add).then_some(voter),
        }));
        self.store(at, Entry::Electorate(electorate), out);
    }
}

#[cfg(test)]
mod tests {
    use codeco_protocol::ids::Incarnation;

    use super::*;

    fn voter(member: u128, life: u128) -> Voter {
        Voter { member: MemberId(member), incarnation: Incarnation(life) }
    }

    #[test]
    fn replacement_of_a_silent_voter_adds_the_other_one_first() {
        let silent = Gone { voter: voter(3, 1), for_good: false };
        let next = voter(4, 1);
        assert_eq!(replacement(3, &[silent], &[next]), Some((next, true)));
        assert_eq!(replacement(4, &[silent], &[]), Some((silent.voter, false)));
        assert_eq!(replacement(3, &[silent], &[]), None, "nobody is there to replace it");
        assert_eq!(replacement(5, &[silent], &[next]), Some((silent.voter, false)), "there is no place left");
    }

    #[test]
    fn replacement_of_a_voter_whose_journal_is_gone_removes_it_first() {
        let silent = Gone { voter: voter(2, 1), for_good: false };
        let lost = Gone { voter: voter(3, 1), for_good: true };
        assert_eq!(replacement(3, &[lost], &[voter(3, 2)]), Some((lost.voter, false)), "its own next life");
        assert_eq!(replacement(5, &[silent, lost], &[voter(6, 1)]), Some((lost.voter, false)));
        assert_eq!(replacement(4, &[silent, lost], &[]), Some((lost.voter, false)));
    }
}
