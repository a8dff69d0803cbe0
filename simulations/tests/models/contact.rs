//! How long a cluster may be silent before its home gives a replica away: discrete time, clocks of unequal rate, messages
//! of any delay, a lead that dies and one that follows it.
//!
//! The lead keeps the replica's node in a lease for as long as the home counts as heard. Whoever follows it may do so only
//! once it has been answered itself. The lease that a dead lead has left runs on for its length.

use codeco_actors::swm::contact::{ClusterContact, HomeContact, Patience};
use codeco_protocol::units::{BootTime, Micros};
use stateright::{Checker, HasDiscoveries, Model, Property};

/// In ticks: what the application allows, and what a node's lease lasts.
const LIMIT: Micros = Micros(3);
const LEASE: u64 = 2;
/// A clock that is slow misses one tick in four.
const PATIENCE: Patience = Patience { drift_ppm: 250_000, margin: Micros(1) };
const TICKS_PER_LAG: u64 = 4;
/// The lease of a node, with drift, and a tick until the lead acts.
const ALLOWANCE: Micros = Micros(LEASE + 1 + 1);
const ASKS_MAX: u64 = 2;
const HORIZON: u64 = 13;

/// One rule broken, around the real counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Weakness {
    /// The cluster counts from the arrival of the answer.
    CountedFromReceipt,
    /// The home waits for the limit and no longer.
    AllowanceForgotten,
    /// A new lead takes the home for just heard.
    SuccessorAssumes,
    /// An answer does not say that the mandate was given away.
    LossNotTold,
}

#[derive(Debug, Clone, Copy)]
struct Contacts {
    weakness: Option<Weakness>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct State {
    now: u64,
    /// How far the cluster's clocks are behind, and for how long they have been right since.
    lag: u64,
    since_lag: u64,
    contact: ClusterContact,
    leads: u64,
    alive: bool,
    asked: u64,
    /// Questions answered, and whether the replica was given away by then.
    answers: Vec<(u64, bool)>,
    void: bool,
    /// Until when the node may run it, by its own clock.
    leased: u64,
    home: HomeContact,
    given_away: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Tick { missed: bool },
    Asks,
    Answers { nonce: u64 },
    AnswerArrives { nonce: u64 },
    LeadDies,
    SuccessorTakesOffice,
    GivesAway,
}

impl State {
    fn clock(&self) -> u64 {
        self.now - self.lag
    }

    fn runs(&self) -> bool {
        self.clock() < self.leased
    }

    /// The lead extends the node's lease, or stops the replica.
    fn lead_acts(&mut self) {
        if !self.alive {
            return;
        }
        let allowed = self.contact.until(LIMIT).is_some_and(|until| BootTime(self.clock()) < until);
        self.leased =
            if allowed && !self.void { self.clock() + LEASE } else { self.leased.min(self.clock()) };
    }
}

impl Model for Contacts {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            now: 1,
            lag: 0,
            since_lag: TICKS_PER_LAG,
            contact: ClusterContact::default(),
            leads: 1,
            alive: true,
            asked: 0,
            answers: Vec::new(),
            void: false,
            leased: 0,
            home: HomeContact::assumed(BootTime(1), ALLOWANCE),
            given_away: false,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.alive && state.asked < ASKS_MAX {
            actions.push(Action::Asks);
        }
        actions.extend((0..state.asked).map(|nonce| Action::Answers { nonce }));
        actions.extend(state.answers.iter().map(|(nonce, _)| Action::AnswerArrives { nonce: *nonce }));
        if state.alive {
            actions.push(Action::LeadDies);
        } else if state.leads < 2 {
            actions.push(Action::SuccessorTakesOffice);
        }
        let patience = match self.weakness {
            Some(Weakness::AllowanceForgotten) => state.home.silent_at(LIMIT),
            _ => state.home.ended_at(LIMIT, Micros(0), PATIENCE),
        };
        if !state.given_away && state.now >= patience.0 {
            actions.push(Action::GivesAway);
        }
        if state.now < HORIZON {
            actions.push(Action::Tick { missed: false });
            if state.since_lag >= TICKS_PER_LAG {
                actions.push(Action::Tick { missed: true });
            }
        }
    }

    fn next_state(&self, before: &State, action: Action) -> Option<State> {
        let mut s = before.clone();
        match action {
            Action::Tick { missed } => {
                s.now += 1;
                s.lag += u64::from(missed);
                s.since_lag = if missed { 0 } else { s.since_lag + 1 };
                s.lead_acts();
            }
            Action::Asks => {
                s.contact.ask(BootTime(s.clock()), s.asked, Micros(0));
                s.asked += 1;
            }
            Action::Answers { nonce } => {
                if s.answers.iter().any(|(known, _)| *known == nonce) {
                    return None;
                }
                s.home.answered(BootTime(s.now), ALLOWANCE);
                let told = s.given_away && self.weakness != Some(Weakness::LossNotTold);
                s.answers.push((nonce, told));
            }
            Action::AnswerArrives { nonce } => {
                let void = s.answers.iter().any(|(known, void)| *known == nonce && *void);
                if self.weakness == Some(Weakness::CountedFromReceipt) {
                    let now = BootTime(s.clock());
                    let mut counted = ClusterContact::default();
                    counted.ask(now, nonce, Micros(0));
                    if s.contact.answered(nonce) {
                        counted.answered(nonce);
                        s.contact = counted;
                    }
                    s.void |= void;
                } else if s.contact.answered(nonce) {
                    s.void |= void;
                }
                s.lead_acts();
            }
            Action::LeadDies => s.alive = false,
            Action::SuccessorTakesOffice => {
                s.alive = true;
                s.leads += 1;
                s.contact = ClusterContact::default();
                if self.weakness == Some(Weakness::SuccessorAssumes) {
                    s.contact.ask(BootTime(s.clock()), 99, Micros(0));
                    s.contact.answered(99);
                }
                s.lead_acts();
            }
            Action::GivesAway => s.given_away = true,
        }
        (s != *before).then_some(s)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("at most one copy runs", |_: &Self, s: &State| !(s.given_away && s.runs())),
            Property::sometimes("runs", |_, s: &State| s.runs()),
            Property::sometimes("given away after it ran", |_, s: &State| s.given_away && s.leased > 0),
            Property::sometimes("runs under a second lead", |_, s: &State| s.leads == 2 && s.runs()),
        ]
    }
}

#[test]
fn cluster_truly_counted_has_stopped_a_replica_before_its_home_gives_it_away() {
    let checker =
        Contacts { weakness: None }.checker().finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    println!("true count of silence: {} states", checker.unique_state_count());
    if let Some(path) = checker.discovery("at most one copy runs") {
        panic!("two copies run: {:#?}", path.into_actions());
    }
    let reached = checker.discoveries();
    for property in ["runs", "given away after it ran", "runs under a second lead"] {
        assert!(reached.contains_key(property), "{property}");
    }
}

#[test]
fn each_weakened_count_of_silence_gives_two_copies() {
    for weakness in [
        Weakness::CountedFromReceipt,
        Weakness::AllowanceForgotten,
        Weakness::SuccessorAssumes,
        Weakness::LossNotTold,
    ] {
        let model = Contacts { weakness: Some(weakness) };
        let checker = model.checker().finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
        let path = checker.discovery("at most one copy runs");
        let path =
            path.unwrap_or_else(|| panic!("{weakness:?}: no double in {}", checker.unique_state_count()));
        println!("{weakness:?}: two copies\n{:#?}", path.into_actions());
    }
}
