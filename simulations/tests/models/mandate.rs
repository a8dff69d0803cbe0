//! Who may decide: one `fence` replica, its home, two clusters.
//!
//! The home offers mandate 1 to cluster A, whose lead of term 1 may have been replaced without knowing it, and mandate 2
//! to cluster B, which simply runs what it is given. A has two nodes; one may lose its disk. That a lease ends is an
//! event here («waited out»); the arithmetic behind it is searched in [`crate::lease`].

use codeco_actors::swm::slot::Verdict;
use codeco_protocol::messages::HeldPhase;
use stateright::{Model, Property};

use crate::message::{Message, Order};
use crate::parties::State;

/// How far the search goes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Attempts of each lead.
    pub(crate) attempts: [u8; 2],
    /// Whether node n0 may lose its disk.
    pub(crate) disk_loss: bool,
    /// How often a node is waited out at most.
    pub(crate) wait_outs: u8,
    /// Whether a lead also waits out nodes it has sent a Commit to, not only silent ones in its takeover.
    pub(crate) waits_after_commit: bool,
}

/// One rule or duty broken, always outside the rules themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Weakness {
    /// «Your term is old» is answered, and read, as «I do not run it and never will».
    StaleIsRefused,
    /// Nodes forget what they closed.
    ForgetsClosed,
    /// A new lead answers offers before the nodes have reported.
    DecidesBeforeTakeover,
    /// The home believes a lead although a later one was asked.
    DeclineOfAnOlderLeadIsFinal,
    /// Orders do not say which life of the journal they are meant for.
    NoIncarnation,
    /// A new life starts to promise without having learnt the term.
    NewLifeLearnsNoTerm,
    /// A lead tries another node although the answer to its Commit is missing.
    RetriesElsewhereAfterCommit,
    /// A lead that waited out a node hands the mandate back before the node has closed the attempt.
    DeclinesWhatIsOnlyWaitedOut,
    /// A lead that no longer has a lease of its own takes a silent node's lease for ended.
    WaitsOutWithoutOwnLease,
    /// A lease revokes what the node lists, not what the lead has sent there meanwhile.
    RevokesOnlyWhatIsListed,
    /// A node that was waited out gets a lease before all others have reported.
    GrantsDuringTakeover,
    /// A lease counts although the node has obeyed another term since it asked for it.
    AnswerToAnEarlierTermCounts,
}

/// The model.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mandates {
    pub(crate) bounds: Bounds,
    pub(crate) weakness: Option<Weakness>,
}

/// What happens next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    HomeOffers { term: u8 },
    HomeHears { declined: u8 },
    LeadTakesOffice { term: u8 },
    LeadWaitsOut { term: u8, node: u8 },
    LeadReserves { term: u8, node: u8, life: u8 },
    LeadHears { term: u8, message: Message },
    LeadDeclines { term: u8 },
    LeadAdmits { term: u8, node: u8 },
    NodeGets { message: Message },
    ReservationExpires { node: u8 },
    NodeLosesDisk,
}

impl Mandates {
    pub(crate) const AT_MOST_ONE: &'static str = "at most one copy runs";
    pub(crate) const AFTER_DISK_LOSS: &'static str = "runs after the disk was lost";

    /// The state after `action` and, if a node decided, how.
    pub(crate) fn step(&self, before: &State, action: Action) -> (State, Option<Verdict>) {
        let mut state = before.clone();
        let weakness = self.weakness;
        let mut verdict = None;
        match action {
            Action::HomeOffers { term } => {
                state.home_offers(term);
            }
            Action::HomeHears { declined } => state.home_hears_declined(declined, weakness),
            Action::LeadTakesOffice { term } => state.lead_takes_office(term, weakness),
            Action::LeadWaitsOut { term, node } => state.lead_waits_out(term, node),
            Action::LeadReserves { term, node, life } => {
                state.lead_reserves(term, node, life, weakness);
            }
            Action::LeadHears { term, message } => match message {
                Message::Reserved(what) => state.lead_hears_reserved(term, what),
                Message::Closed { node, what } => state.lead_hears_closed(term, node, what),
                Message::Report { node, life, held, .. } => {
                    let held = held.map(|what| Order { what, node, life });
                    state.lead_hears_report(term, held, node, life, weakness);
                }
                _ => {}
            },
            Action::LeadDeclines { term } => state.lead_declines(term),
            Action::LeadAdmits { term, node } => state.lead_admits(term, node),
            Action::NodeGets { message } => match message {
                Message::Reserve(order) => verdict = state.node_gets_order(order, false, weakness),
                Message::Commit(order) => verdict = state.node_gets_order(order, true, weakness),
                Message::Fence { term, node } => state.node_gets_fence(term, node, weakness),
                message => state.node_gets_grant(message, weakness),
            },
            Action::ReservationExpires { node } => state.reservation_expires(node, weakness),
            Action::NodeLosesDisk => state.node_loses_disk(),
        }
        if self.weakness.is_none() {
            state.tidy(&self.bounds);
        }
        (state, verdict)
    }

    fn actions_of_lead(&self, state: &State, term: u8, actions: &mut Vec<Action>) {
        let lead = &state.leads[usize::from(term) - 1];
        if !lead.in_office {
            if state.leads[usize::from(term) - 2].in_office {
                actions.push(Action::LeadTakesOffice { term });
            }
            return;
        }
        let has_lease = state.is_latest(term);
        let offered = state.was_sent(&Message::Offer { term });
        for node in 0..2 {
            let at = usize::from(node);
            let open =
                lead.stage.order().is_some_and(|order| order.node == node) && lead.stage.get().may_run();
            let asks = lead.takeover.is_silent(node)
                || (self.bounds.waits_after_commit && (open || lead.doomed[at].is_some()));
            let may_wait = if has_lease {
                state.nodes[at].wait_outs < self.bounds.wait_outs
            } else {
                self.weakness == Some(Weakness::WaitsOutWithoutOwnLease)
            };
            if asks && may_wait {
                actions.push(Action::LeadWaitsOut { term, node });
            }
            if has_lease && !state.nodes[at].admitted {
                actions.push(Action::LeadAdmits { term, node });
            }
            // Whether another attempt is safe is the rule's to say.
            if offered && lead.may_decide() && lead.attempts < self.bounds.attempts[usize::from(term) - 1] {
                // It may not have heard of the newest life.
                for life in 0..=state.nodes[at].life {
                    actions.push(Action::LeadReserves { term, node, life });
                }
            }
        }
        let all_closed = lead.unclosed.iter().all(Option::is_none)
            || self.weakness == Some(Weakness::DeclinesWhatIsOnlyWaitedOut);
        let patient = self.weakness != Some(Weakness::RetriesElsewhereAfterCommit);
        if offered && lead.may_decide() && !lead.stage.get().may_run() && all_closed && patient {
            actions.push(Action::LeadDeclines { term });
        }
    }

    fn deliveries(state: &State, actions: &mut Vec<Action>) {
        for &message in &state.sent {
            match message {
                Message::Declined { term } => actions.push(Action::HomeHears { declined: term }),
                Message::Reserved(what) => actions.push(Action::LeadHears { term: what.term, message }),
                Message::Report { term, .. } => actions.push(Action::LeadHears { term, message }),
                Message::Closed { .. } => {
                    let in_office = (1..).zip(&state.leads).filter(|(_, lead)| lead.in_office);
                    actions.extend(in_office.map(|(term, _)| Action::LeadHears { term, message }));
                }
                Message::Offer { .. } => {}
                Message::Fence { .. } | Message::Reserve(_) | Message::Commit(_) | Message::Grant { .. } => {
                    actions.push(Action::NodeGets { message });
                }
            }
        }
    }
}

impl Model for Mandates {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::initial()]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for (term, lead) in (1..).zip(&state.leads) {
            if lead.in_office && !state.was_sent(&Message::Offer { term }) {
                actions.push(Action::HomeOffers { term });
            }
            self.actions_of_lead(state, term, actions);
        }
        Self::deliveries(state, actions);
        for (at, node) in (0..).zip(&state.nodes) {
            if matches!(node.slot.held, Some((_, HeldPhase::Reserved))) {
                actions.push(Action::ReservationExpires { node: at });
            }
        }
        if self.bounds.disk_loss && !state.disk_lost {
            actions.push(Action::NodeLosesDisk);
        }
    }

    fn next_state(&self, before: &State, action: Action) -> Option<State> {
        let (after, _) = self.step(before, action);
        (after != *before).then_some(after)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(Self::AT_MOST_ONE, |_: &Self, state: &State| state.copies() <= 1),
            Property::sometimes("runs by the lead of term 1", |_, state: &State| runs_of_term(state, 1)),
            Property::sometimes("runs by the lead of term 2", |_, state: &State| runs_of_term(state, 2)),
            Property::sometimes("runs in cluster B", |_, state: &State| state.other_runs),
            Property::sometimes("lead 2 adopts a copy of term 1", |_, state: &State| {
                state.leads[1].stage.order().is_some_and(|order| order.what.term == 1)
            }),
            Property::sometimes("runs in cluster B after a refused Commit", |_, state: &State| {
                let refused =
                    |order: &Order| state.was_sent(&Message::Closed { node: order.node, what: order.what });
                state.other_runs
                    && state.sent.iter().any(|m| matches!(m, Message::Commit(order) if refused(order)))
            }),
            Property::sometimes(Self::AFTER_DISK_LOSS, |_, state: &State| {
                state.disk_lost && state.nodes[0].runs()
            }),
            Property::sometimes("runs again after its lease was waited out", |_, state: &State| {
                state.nodes.iter().any(|node| node.runs() && node.wait_outs > 0)
            }),
        ]
    }
}

fn runs_of_term(state: &State, term: u8) -> bool {
    state.nodes.iter().any(|node| node.runs() && node.slot.held.is_some_and(|(what, _)| what.term == term))
}
