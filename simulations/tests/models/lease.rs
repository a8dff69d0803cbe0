//! How long a lease is waited out: one node, discrete time, clocks of unequal rate, messages and pauses of any length.
//!
//! A lead grants a lease and later places the replica elsewhere, or its successor does, once the node's lease has
//! surely ended by the lead's own count. The node's workload is killed as late as is allowed: a margin after the
//! lease has ended by the node's clock, which runs as slow as is allowed.

use codeco_actors::swm::lease::{LeadLease, LeaseConfig, NodeLease};
use codeco_protocol::units::{BootTime, Micros};
use stateright::{Model, Property};

/// The true configuration, in ticks: four long, one tick of drift in that time, one of margin.
pub(crate) const CONFIG: LeaseConfig =
    LeaseConfig { duration: Micros(4), drift_ppm: 250_000, margin: Micros(1) };
/// Node ticks between two ticks that its clock misses.
const TICKS_PER_LAG: u64 = 1_000_000 / CONFIG.drift_ppm;
const FIRST_NONCE: u64 = 7;
const ASKS_MAX: u64 = 2;
/// When a lead that has a successor loses its own lease.
const OFFICE_ENDS: u64 = 4;

/// Who waits out the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waiter {
    /// The lead that granted.
    SameLead,
    /// The lead after it, from the moment it takes office.
    Successor,
}

/// One rule broken, around the real counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LeaseWeakness {
    /// The node counts from the arrival of the grant.
    CountedFromReceipt,
    /// The lead looks at its own lease, is paused, and grants without looking again.
    CheckedBeforeTheReply,
    /// The lead grants more than the duration it waits for.
    LongerThanAgreed,
    /// The lead does not note that it answered.
    AnswerNotNoted,
}

/// The model: `counted` is what the waiting lead believes of leases.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Leases {
    pub(crate) waiter: Waiter,
    pub(crate) counted: LeaseConfig,
    pub(crate) weakness: Option<LeaseWeakness>,
}

/// Everything at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct LeaseState {
    pub(crate) now: u64,
    /// How far the node's clock is behind, and how long it has been right since.
    lag: u64,
    ticks_since_lag: u64,
    node: NodeLease,
    /// Ticks since the lease ended, counted up to the margin.
    overdue: u64,
    asked: u64,
    granted: Vec<u64>,
    lead: LeadLease,
    /// Whether the granting lead believes in its own lease (weakened), whatever the time.
    checked: bool,
    pub(crate) placed_elsewhere: bool,
}

impl LeaseState {
    fn node_clock(&self) -> BootTime {
        BootTime(self.now - self.lag)
    }

    /// Whether the workload may still run on the node, killed as late as allowed.
    pub(crate) fn runs(&self) -> bool {
        self.node.until() > BootTime(0)
            && (self.node.holds(self.node_clock()) || self.overdue < CONFIG.margin.0)
    }
}

/// What happens next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LeaseAction {
    /// A tick passes; the node's clock may miss it.
    Tick {
        missed: bool,
    },
    NodeAsks,
    LeadChecksItsLease,
    LeadGrants {
        nonce: u64,
    },
    GrantArrives {
        nonce: u64,
    },
    PlacedElsewhere,
}

impl Leases {
    pub(crate) const AT_MOST_ONE: &'static str = "at most one copy runs";

    pub(crate) fn initial(&self) -> LeaseState {
        let assumed = match self.waiter {
            Waiter::SameLead => 0,
            Waiter::Successor => OFFICE_ENDS,
        };
        LeaseState {
            now: 1,
            lag: 0,
            ticks_since_lag: TICKS_PER_LAG,
            node: NodeLease::new(FIRST_NONCE),
            overdue: CONFIG.margin.0,
            asked: 0,
            granted: Vec::new(),
            lead: LeadLease::assumed(BootTime(assumed)),
            checked: false,
            placed_elsewhere: false,
        }
    }

    fn in_office(&self, state: &LeaseState) -> bool {
        match self.waiter {
            Waiter::SameLead => !state.placed_elsewhere,
            Waiter::Successor => state.now < OFFICE_ENDS,
        }
    }

    fn may_place(&self, state: &LeaseState) -> bool {
        let in_time = self.waiter == Waiter::SameLead || state.now >= OFFICE_ENDS;
        in_time && state.lead.is_waited_out(BootTime(state.now), &self.counted)
    }

    fn horizon(&self) -> u64 {
        OFFICE_ENDS + 2 * CONFIG.wait_out().0
    }

    pub(crate) fn step(&self, before: &LeaseState, action: LeaseAction) -> LeaseState {
        let mut state = before.clone();
        match action {
            LeaseAction::Tick { missed } => {
                let held = state.node.holds(state.node_clock());
                state.overdue = if held { 0 } else { (state.overdue + 1).min(CONFIG.margin.0) };
                state.now += 1;
                if missed {
                    state.lag += 1;
                    state.ticks_since_lag = 0;
                } else {
                    state.ticks_since_lag = (state.ticks_since_lag + 1).min(TICKS_PER_LAG);
                }
            }
            LeaseAction::NodeAsks => {
                let clock = state.node_clock();
                state.node.ask(clock);
                state.asked += 1;
            }
            LeaseAction::LeadChecksItsLease => state.checked = true,
            LeaseAction::LeadGrants { nonce } => {
                if self.waiter == Waiter::SameLead && self.weakness != Some(LeaseWeakness::AnswerNotNoted) {
                    state.lead.answered(BootTime(state.now));
                }
                state.granted.push(nonce);
                state.granted.sort_unstable();
            }
            LeaseAction::GrantArrives { nonce } => {
                let duration = match self.weakness {
                    Some(LeaseWeakness::LongerThanAgreed) => CONFIG.duration + Micros(2),
                    _ => CONFIG.duration,
                };
                let nonce = match self.weakness {
                    // As if it had been asked for only now.
                    Some(LeaseWeakness::CountedFromReceipt) => {
                        let clock = state.node_clock();
                        state.node.ask(clock)
                    }
                    _ => nonce,
                };
                state.node.granted(nonce, duration);
            }
            LeaseAction::PlacedElsewhere => state.placed_elsewhere = true,
        }
        state
    }

    /// The story of `actions`, one numbered sentence a step.
    pub(crate) fn story(&self, actions: Vec<LeaseAction>) -> String {
        let mut state = self.initial();
        let mut story = String::new();
        for (number, action) in (1..).zip(actions) {
            let after = self.step(&state, action);
            let sentence = match action {
                LeaseAction::Tick { missed: false } => format!("time passes: it is {}", after.now),
                LeaseAction::Tick { missed: true } => {
                    format!(
                        "time passes: it is {}, but the node's slow clock shows {}",
                        after.now,
                        after.now - after.lag
                    )
                }
                LeaseAction::NodeAsks => "the node asks for a lease".into(),
                LeaseAction::LeadChecksItsLease => {
                    "the lead sees that its own lease holds, and is paused".into()
                }
                LeaseAction::LeadGrants { nonce } => format!("the lead grants request {nonce}"),
                LeaseAction::GrantArrives { nonce } => {
                    format!(
                        "the grant of request {nonce} arrives; the node's lease ends at {}",
                        after.node.until().0
                    )
                }
                LeaseAction::PlacedElsewhere => {
                    let who = if self.waiter == Waiter::Successor { "the next lead" } else { "the lead" };
                    format!("{who} has waited long enough by its count and has the replica run elsewhere")
                }
            };
            let end = if after.placed_elsewhere && after.runs() { ". Two copies run" } else { "" };
            story += &format!("  {number}. {sentence}{end}.\n");
            state = after;
        }
        story
    }
}

impl Model for Leases {
    type State = LeaseState;
    type Action = LeaseAction;

    fn init_states(&self) -> Vec<LeaseState> {
        vec![self.initial()]
    }

    fn actions(&self, state: &LeaseState, actions: &mut Vec<LeaseAction>) {
        if self.may_place(state) && !state.placed_elsewhere {
            actions.push(LeaseAction::PlacedElsewhere);
        }
        if state.asked < ASKS_MAX {
            actions.push(LeaseAction::NodeAsks);
        }
        let paused = self.weakness == Some(LeaseWeakness::CheckedBeforeTheReply);
        if paused && self.in_office(state) && !state.checked {
            actions.push(LeaseAction::LeadChecksItsLease);
        }
        let believes = if paused { state.checked } else { self.in_office(state) };
        for nonce in FIRST_NONCE..FIRST_NONCE + state.asked {
            if believes && !state.granted.contains(&nonce) {
                actions.push(LeaseAction::LeadGrants { nonce });
            }
        }
        actions.extend(state.granted.iter().map(|&nonce| LeaseAction::GrantArrives { nonce }));
        if state.now < self.horizon() {
            actions.push(LeaseAction::Tick { missed: false });
            if state.ticks_since_lag >= TICKS_PER_LAG {
                actions.push(LeaseAction::Tick { missed: true });
            }
        }
    }

    fn next_state(&self, before: &LeaseState, action: LeaseAction) -> Option<LeaseState> {
        let after = self.step(before, action);
        (after != *before).then_some(after)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(Self::AT_MOST_ONE, |_: &Self, state: &LeaseState| {
                !(state.placed_elsewhere && state.runs())
            }),
            Property::sometimes("runs under a lease", |_, state: &LeaseState| state.runs()),
            Property::sometimes("runs elsewhere after a lease", |_, state: &LeaseState| {
                state.placed_elsewhere && state.node.until() > BootTime(0)
            }),
        ]
    }
}
