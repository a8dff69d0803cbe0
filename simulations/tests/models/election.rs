//! Who leads: three voters, of which two stand and the third only votes and stores, as a witness does.
//!
//! A message may arrive at any later time, any number of times, or never. Voters restart, one may lose its disk. Time
//! is discrete and short; that clocks differ in rate is searched in [`crate::lease`], that electorates change one
//! voter at a time beside the rule itself.

use std::collections::BTreeSet;

use codeco_actors::swm::election::electorate::{Electorate, Role, Voter};
use codeco_actors::swm::election::office::Office;
use codeco_actors::swm::election::voter::{Ballot, Position};
use codeco_actors::swm::lease::LeaseConfig;
use codeco_protocol::ids::{Incarnation, MemberId};
use codeco_protocol::token::Term;
use codeco_protocol::units::{BootTime, Micros};
use stateright::{Model, Property};

const LEASE: LeaseConfig = LeaseConfig { duration: Micros(2), drift_ppm: 0, margin: Micros(0) };
const VOTERS: [usize; 3] = [0, 1, 2];
const CANDIDATES: [usize; 2] = [0, 1];

/// How far the search goes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ElectionBounds {
    pub(crate) horizon: u64,
    pub(crate) renewals: u8,
    pub(crate) restarts: u8,
    pub(crate) disk_loss: bool,
}

/// One rule broken, around the real ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ElectionWeakness {
    /// A voter that restarts votes at once.
    NoSitOut,
    /// A candidate counts its lease from the arrival of the vote.
    CountedFromReceipt,
    /// A voter does not compare the candidate's records with its own.
    RecordsNotCompared,
    /// A voter that lost its disk still counts as the voter it was.
    LostDiskStillVotes,
}

/// The model.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Elections {
    pub(crate) bounds: ElectionBounds,
    pub(crate) weakness: Option<ElectionWeakness>,
}

/// What travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Letter {
    Ask { to: usize, term: Term, nonce: u64, last: Position },
    Granted { from: usize, term: Term, nonce: u64 },
    Put { to: usize, at: Position, records: u8 },
    Stored { from: usize, at: Position },
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Agent {
    ballot: Ballot,
    /// One bit for the record of each term.
    records: u8,
    /// What the snapshot of the present office contained.
    snapshot: u8,
    office: Option<Office>,
    renewed: u8,
    gone: bool,
}

/// Everything at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct ElectionState {
    now: u64,
    agents: [Agent; 3],
    letters: BTreeSet<Letter>,
    restarts: u8,
    disk_lost: bool,
    /// Every record that had effects.
    committed: u8,
}

/// What happens next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ElectionAction {
    Tick,
    Stands(usize),
    Renews(usize),
    Installs(usize),
    Appends(usize),
    Restarts(usize),
    LosesDisk(usize),
    Arrives(Letter),
}

fn voter(at: usize) -> Voter {
    Voter { member: MemberId(at as u128 + 1), incarnation: Incarnation(1) }
}

fn owner(term: Term) -> usize {
    usize::try_from(term.owner.0 - 1).unwrap_or_else(|_| panic!("members of the model are small"))
}

fn bit(term: Term) -> u8 {
    // Terms of one number differ by owner.
    1 << ((term.number - 1) * 2 + owner(term) as u64)
}

fn electorate() -> Electorate {
    Electorate::of_one(voter(0))
        .with(voter(1), Role::Member)
        .and_then(|two| two.with(voter(2), Role::Witness))
        .unwrap_or_else(|error| panic!("{error}"))
}

impl ElectionState {
    fn clock(&self) -> BootTime {
        BootTime(self.now)
    }

    fn leads(&self, at: usize) -> bool {
        self.agents[at].office.as_ref().is_some_and(|office| self.clock() < office.lease_until())
    }

    fn acts(&self, at: usize) -> bool {
        self.agents[at].office.as_ref().is_some_and(|office| office.may_act(self.clock()))
    }

    fn asks(&mut self, at: usize) {
        let now = self.clock();
        let agent = &mut self.agents[at];
        let last = agent.ballot.last();
        let Some(office) = &mut agent.office else { return };
        let term = office.term();
        if agent.ballot.grant(now, term, last, &LEASE).is_ok() {
            let nonce = office.ask(now, voter(at));
            office.granted(voter(at), nonce, LEASE.duration);
        }
        for to in VOTERS.into_iter().filter(|to| *to != at) {
            let nonce = office.ask(now, voter(to));
            self.letters.insert(Letter::Ask { to, term, nonce, last });
        }
    }

    fn puts(&mut self, at: usize, position: Position, records: u8) {
        let agent = &mut self.agents[at];
        if agent.ballot.take(position).is_err() {
            return;
        }
        agent.records = records;
        if let Some(office) = &mut agent.office {
            office.stored(voter(at), position);
        }
        for to in VOTERS.into_iter().filter(|to| *to != at) {
            self.letters.insert(Letter::Put { to, at: position, records });
        }
    }
}

impl Elections {
    pub(crate) const ONE_LEAD: &'static str = "at most one lead has a lease";
    pub(crate) const NOTHING_LOST: &'static str = "a lead knows every committed record";

    fn arrives(&self, state: &mut ElectionState, letter: Letter) {
        let now = state.clock();
        match letter {
            Letter::Ask { to, term, nonce, last } => {
                let ballot = &mut state.agents[to].ballot;
                let last = match self.weakness {
                    Some(ElectionWeakness::RecordsNotCompared) => last.max(ballot.last()),
                    _ => last,
                };
                if ballot.grant(now, term, last, &LEASE).is_ok() {
                    state.letters.insert(Letter::Granted { from: to, term, nonce });
                }
            }
            Letter::Granted { from, term, nonce } => {
                let Some(office) = &mut state.agents[owner(term)].office else { return };
                if office.term() == term {
                    let nonce = match self.weakness {
                        // As if it had been asked for only now.
                        Some(ElectionWeakness::CountedFromReceipt) => office.ask(now, voter(from)),
                        _ => nonce,
                    };
                    office.granted(voter(from), nonce, LEASE.duration);
                }
            }
            Letter::Put { to, at, records } => {
                let agent = &mut state.agents[to];
                let before = agent.ballot.last();
                if let Ok(last) = agent.ballot.take(at) {
                    if last > before {
                        agent.records = records;
                    }
                    state.letters.insert(Letter::Stored { from: to, at: last });
                }
            }
            Letter::Stored { from, at } => {
                let agent = &mut state.agents[owner(at.term)];
                let Some(office) = &mut agent.office else { return };
                office.stored(voter(from), at);
                if office.term() == at.term && office.may_act(now) {
                    state.committed |= match office.committed() {
                        Some(0) => agent.snapshot,
                        Some(_) => agent.snapshot | bit(at.term),
                        None => 0,
                    };
                }
            }
        }
    }

    fn step(&self, before: &ElectionState, action: ElectionAction) -> ElectionState {
        let mut state = before.clone();
        let now = state.clock();
        match action {
            ElectionAction::Tick => state.now += 1,
            ElectionAction::Stands(at) => {
                let term = state.agents[at].ballot.promised().next_for(voter(at).member);
                // Another life, other nonces.
                let life = u64::from(state.restarts) + u64::from(state.disk_lost);
                let nonce = term.number * 100 + life * 10;
                state.agents[at].office = Some(Office::new(term, electorate(), nonce));
                state.agents[at].renewed = 0;
                state.asks(at);
            }
            ElectionAction::Renews(at) => {
                state.agents[at].renewed += 1;
                state.asks(at);
            }
            ElectionAction::Installs(at) => {
                let records = state.agents[at].records;
                state.agents[at].snapshot = records;
                let term = state.agents[at].ballot.promised();
                state.puts(at, Position { term, sequence: 0 }, records);
            }
            ElectionAction::Appends(at) => {
                let Some(position) = state.agents[at].office.as_mut().map(Office::append) else {
                    return state;
                };
                let records = state.agents[at].records | bit(position.term);
                state.puts(at, position, records);
            }
            ElectionAction::Restarts(at) => {
                state.restarts += 1;
                let agent = &mut state.agents[at];
                agent.office = None;
                let clock = match self.weakness {
                    // As if it had restarted a lease ago.
                    Some(ElectionWeakness::NoSitOut) => BootTime(now.0.saturating_sub(LEASE.wait_out().0)),
                    _ => now,
                };
                agent.ballot = Ballot::recovered(agent.ballot.promised(), agent.ballot.last(), clock, &LEASE);
            }
            ElectionAction::LosesDisk(at) => {
                state.disk_lost = true;
                let agent = &mut state.agents[at];
                agent.office = None;
                agent.records = 0;
                agent.ballot = Ballot::admitted();
                // Its new life is another voter, which is none as long as nobody admits it.
                agent.gone = self.weakness != Some(ElectionWeakness::LostDiskStillVotes);
            }
            ElectionAction::Arrives(letter) => self.arrives(&mut state, letter),
        }
        state
    }

    /// What a found path tells.
    pub(crate) fn told(&self, path: stateright::Path<ElectionState, ElectionAction>) -> String {
        (1..).zip(path.into_actions()).map(|(number, action)| format!("  {number}. {action:?}\n")).collect()
    }
}

impl Model for Elections {
    type State = ElectionState;
    type Action = ElectionAction;

    fn init_states(&self) -> Vec<ElectionState> {
        let agent = Agent {
            ballot: Ballot::admitted(),
            records: 0,
            snapshot: 0,
            office: None,
            renewed: 0,
            gone: false,
        };
        vec![ElectionState {
            now: 1,
            agents: [agent.clone(), agent.clone(), agent],
            letters: BTreeSet::new(),
            restarts: 0,
            disk_lost: false,
            committed: 0,
        }]
    }

    fn actions(&self, state: &ElectionState, actions: &mut Vec<ElectionAction>) {
        for at in CANDIDATES {
            let agent = &state.agents[at];
            let next = agent.ballot.promised().next_for(voter(at).member);
            let may_stand = agent.ballot.would_grant(state.clock(), next, agent.ballot.last()).is_ok()
                && next.number <= 2;
            // The first term is n0's: which of two equals begins makes no difference.
            let in_turn = next.number == 2 || at == 0;
            if !agent.gone && !state.leads(at) && may_stand && in_turn {
                actions.push(ElectionAction::Stands(at));
            }
            if let Some(office) = &agent.office {
                if agent.renewed < self.bounds.renewals && office.term() == agent.ballot.promised() {
                    actions.push(ElectionAction::Renews(at));
                }
                if state.leads(at) && agent.ballot.last().term != office.term() {
                    actions.push(ElectionAction::Installs(at));
                }
                let appended = agent.records & bit(office.term()) != 0;
                if state.acts(at) && !appended {
                    actions.push(ElectionAction::Appends(at));
                }
            }
        }
        for at in VOTERS {
            let agent = &state.agents[at];
            if !agent.gone && state.restarts < self.bounds.restarts {
                actions.push(ElectionAction::Restarts(at));
            }
            if self.bounds.disk_loss && !state.disk_lost {
                actions.push(ElectionAction::LosesDisk(at));
            }
        }
        for letter in &state.letters {
            let to = match letter {
                Letter::Ask { to, .. } | Letter::Put { to, .. } => *to,
                Letter::Granted { term, .. } => owner(*term),
                Letter::Stored { at, .. } => owner(at.term),
            };
            if !state.agents[to].gone {
                actions.push(ElectionAction::Arrives(*letter));
            }
        }
        if state.now < self.bounds.horizon {
            actions.push(ElectionAction::Tick);
        }
    }

    fn next_state(&self, before: &ElectionState, action: ElectionAction) -> Option<ElectionState> {
        let after = self.step(before, action);
        (after != *before).then_some(after)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(Self::ONE_LEAD, |_: &Self, state: &ElectionState| {
                CANDIDATES.into_iter().filter(|at| state.leads(*at)).count() <= 1
            }),
            Property::always(Self::NOTHING_LOST, |_, state: &ElectionState| {
                CANDIDATES
                    .into_iter()
                    .filter(|at| state.acts(*at))
                    .all(|at| state.agents[at].records & state.committed == state.committed)
            }),
            Property::sometimes(
                "a second lead acts on what the first committed",
                |_, state: &ElectionState| state.acts(1) && state.committed & 1 != 0,
            ),
        ]
    }
}
