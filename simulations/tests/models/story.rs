//! A counterexample in plain words, one numbered sentence a step.

use codeco_actors::swm::slot::Verdict;

use crate::mandate::{Action, Mandates, Weakness};
use crate::message::{Message, Order, Try};
use crate::parties::{Node, State};

impl Weakness {
    /// What is broken, as a headline.
    pub(crate) fn headline(self) -> &'static str {
        match self {
            Self::StaleIsRefused => "«your term is old» read as «I do not run it»",
            Self::ForgetsClosed => "closed attempts forgotten",
            Self::DecidesBeforeTakeover => "a new lead declines before its takeover is complete",
            Self::DeclineOfAnOlderLeadIsFinal => "the home takes an older lead's decline as final",
            Self::NoIncarnation => "orders that do not name the life of the journal",
            Self::NewLifeLearnsNoTerm => "a node that forgets its term",
            Self::RetriesElsewhereAfterCommit => "another node asked while a Commit is unanswered",
            Self::DeclinesWhatIsOnlyWaitedOut => "a mandate handed back for a node that was only waited out",
            Self::WaitsOutWithoutOwnLease => "a node waited out by a lead without a lease of its own",
            Self::RevokesOnlyWhatIsListed => "a lease that revokes only what the node listed",
            Self::GrantsDuringTakeover => "a waiting copy gets a lease before all nodes have reported",
            Self::AnswerToAnEarlierTermCounts => "a lease counts that was asked for under another term",
        }
    }
}

impl Mandates {
    /// The story of `actions`.
    pub(crate) fn story(&self, actions: Vec<Action>) -> String {
        let mut state = State::initial();
        let mut story = String::new();
        for (number, action) in (1..).zip(actions) {
            let (after, verdict) = self.step(&state, action);
            let mut sentence = self.sentence(action, &state, &after, verdict);
            let was: Vec<bool> = state.nodes.iter().map(Node::runs).collect();
            for (at, node) in after.nodes.iter().enumerate() {
                if node.runs() && !was[at] && !sentence.contains("runs it") {
                    sentence += &format!("; n{at} now runs its copy");
                }
            }
            if after.copies() > 1 {
                sentence += ". Two copies run";
            }
            story += &format!("  {number}. {sentence}.\n");
            state = after;
        }
        story
    }

    fn sentence(&self, action: Action, before: &State, after: &State, verdict: Option<Verdict>) -> String {
        match action {
            Action::HomeOffers { term } => {
                format!("the home offers mandate 1 to cluster A, to the lead of term {term}")
            }
            Action::HomeHears { declined } => {
                let gone = after.home.get().may_go_elsewhere();
                let then = if gone {
                    "and gives mandate 2 to cluster B, which runs it"
                } else {
                    "and waits for a later lead"
                };
                format!("the home hears that lead {declined} declined, {then}")
            }
            Action::LeadTakesOffice { term } => {
                format!("lead {term} takes office and tells both nodes; lead {} has not noticed", term - 1)
            }
            Action::LeadWaitsOut { term, node } if !before.is_latest(term) => {
                format!("lead {term}, without a lease of its own, takes silent n{node}'s lease for ended")
            }
            Action::LeadWaitsOut { term, node } => {
                format!(
                    "n{node} stays silent until lead {term} knows that no lease of it holds (it runs nothing now)"
                )
            }
            Action::LeadReserves { term, node, life } => {
                let attempt = after.leads[usize::from(term) - 1].attempts;
                let life = if life < before.nodes[usize::from(node)].life {
                    ", of whose lost disk it has not heard,"
                } else {
                    ""
                };
                format!("lead {term} asks n{node}{life} to reserve for attempt {attempt} of term {term}")
            }
            Action::LeadHears { term, message } => lead_hears(term, message, before, after),
            Action::LeadDeclines { term } => format!("lead {term} declines mandate 1"),
            Action::LeadAdmits { term, node } => {
                format!("lead {term} answers the first request of n{node}'s new life with a lease")
            }
            Action::NodeGets { message } => self.node_gets(message, before, after, verdict),
            Action::ReservationExpires { node } => format!("the reservation on n{node} runs out"),
            Action::NodeLosesDisk => "n0 loses its disk and restarts with nothing".into(),
        }
    }

    fn node_gets(&self, message: Message, before: &State, after: &State, verdict: Option<Verdict>) -> String {
        match message {
            Message::Reserve(order) => {
                format!("n{} {}", order.node, self.answer(order, "sets resources aside for", verdict))
            }
            Message::Commit(order) => {
                let runs = after.nodes[usize::from(order.node)].runs();
                let promise =
                    if runs { "promises and runs it:" } else { "promises, without a lease to run by," };
                format!("n{} {}", order.node, self.answer(order, promise, verdict))
            }
            Message::Fence { term, node } => {
                let held = after.sent.iter().rev().find_map(|sent| match sent {
                    Message::Report { term: t, node: n, held, .. }
                        if (*t, *n) == (term, node) && !before.was_sent(sent) =>
                    {
                        *held
                    }
                    _ => None,
                });
                let holds = held.map_or("nothing".into(), name);
                format!("n{node} obeys term {term} from now on and reports that it has promised {holds}")
            }
            Message::Grant { term, node, revoke, .. } => {
                let revoked: Vec<String> = revoke.iter().map(name).collect();
                let but = if revoked.is_empty() {
                    String::new()
                } else {
                    format!(", but not for {}", revoked.join(" or "))
                };
                format!("n{node} gets a lease from lead {term}{but}")
            }
            other => format!("{other:?} arrives"),
        }
    }

    fn answer(&self, order: Order, done: &str, verdict: Option<Verdict>) -> String {
        let what = name(order.what);
        match verdict {
            Some(Verdict::Done) => format!("{done} {what}"),
            Some(Verdict::Again) => format!("repeats its answer for {what}"),
            Some(Verdict::Closed(_)) => format!("answers that {what} is closed"),
            Some(Verdict::Stale(_)) if self.weakness == Some(Weakness::StaleIsRefused) => {
                format!("refuses {what} (a repeated order), because its term is old")
            }
            Some(Verdict::Stale(term)) => format!("answers that term {} is the one now", term.number),
            None => format!("answers that {what} was meant for an earlier life and is closed"),
        }
    }
}

fn name(what: Try) -> String {
    format!("attempt {} of term {}", what.attempt, what.term)
}

fn lead_hears(term: u8, message: Message, before: &State, after: &State) -> String {
    let lead = &after.leads[usize::from(term) - 1];
    match message {
        Message::Reserved(what) => match lead.stage.order() {
            Some(order) if order.what == what => {
                format!("lead {term} hears so and sends the Commit to n{}", order.node)
            }
            _ => format!("lead {term} hears so too late"),
        },
        Message::Closed { node, what } => {
            format!("lead {term} hears that n{node} will never run {}", name(what))
        }
        Message::Report { node, held, .. } => {
            let stage = lead.stage.order();
            let view = match held {
                Some(what) if stage.is_some_and(|order| order.what == what && order.node == node) => {
                    format!("has promised {} and takes it over", name(what))
                }
                Some(what) => format!("has promised {} and wants that gone", name(what)),
                None => "has promised nothing".into(),
            };
            let granted =
                after.sent.iter().any(|m| matches!(m, Message::Grant { .. }) && !before.was_sent(m));
            let and = if granted { ", and answers with a lease" } else { "" };
            format!("lead {term} hears that n{node} {view}{and}")
        }
        other => format!("lead {term} hears {other:?}"),
    }
}
