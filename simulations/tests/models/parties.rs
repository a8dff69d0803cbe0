//! The state of the model and what the home and the leads do: the product's rules, and around them the duties they
//! rely on. Nodes are in [`crate::nodes`].

use codeco_actors::swm::attempt::Stage;
use codeco_protocol::messages::HeldPhase;

use crate::compact::{PackedMandate, PackedSlot, PackedStage, PackedTakeover};
use crate::mandate::Weakness;
use crate::message::{Message, Order, Tries, Try, node_id, term};

/// Leads that take office one after the other.
const TERMS: usize = 2;

/// A node of cluster A.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Node {
    pub(crate) slot: PackedSlot,
    pub(crate) term: u8,
    /// Which journal it has: 1 after the disk was lost.
    pub(crate) life: u8,
    /// Whether a lead has told this life the term.
    pub(crate) admitted: bool,
    pub(crate) leased: bool,
    /// How often its lease has been waited out: an older grant counts no more.
    pub(crate) wait_outs: u8,
}

impl Node {
    pub(crate) fn runs(&self) -> bool {
        self.leased && matches!(self.slot.held, Some((_, HeldPhase::Committed | HeldPhase::Stopping)))
    }

    pub(crate) fn promised(&self) -> Option<Try> {
        self.slot.held.filter(|(_, phase)| *phase != HeldPhase::Reserved).map(|(what, _)| what)
    }
}

/// A lead of cluster A.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Lead {
    pub(crate) in_office: bool,
    pub(crate) takeover: PackedTakeover,
    pub(crate) stage: PackedStage,
    /// Number of the last attempt.
    pub(crate) attempts: u8,
    pub(crate) declined: bool,
    /// What each node may run beside what this lead wants: to be revoked before anything else is decided.
    pub(crate) doomed: [Option<Try>; 2],
    /// What was waited out and not heard to be closed: it does not run, but its node may still want to.
    pub(crate) unclosed: [Option<Try>; 2],
}

impl Lead {
    const AWAY: Self = Self {
        in_office: false,
        takeover: PackedTakeover::BEGUN,
        stage: PackedStage::Idle,
        attempts: 0,
        declined: false,
        doomed: [None; 2],
        unclosed: [None; 2],
    };

    /// Whether it may answer offers and open attempts.
    pub(crate) fn may_decide(&self) -> bool {
        self.in_office
            && self.takeover.get().is_complete()
            && !self.declined
            && self.doomed.iter().all(Option::is_none)
    }
}

/// Everything at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct State {
    pub(crate) home: PackedMandate,
    pub(crate) other_runs: bool,
    pub(crate) nodes: [Node; 2],
    /// The lead of term 1 first.
    pub(crate) leads: [Lead; TERMS],
    /// All that was ever sent, in order of kind.
    pub(crate) sent: Vec<Message>,
    pub(crate) disk_lost: bool,
}

impl State {
    pub(crate) fn initial() -> Self {
        let node = Node {
            slot: PackedSlot::default(),
            term: 1,
            life: 0,
            admitted: true,
            leased: true,
            wait_outs: 0,
        };
        let mut leads = [Lead::AWAY; TERMS];
        leads[0] = Lead { in_office: true, takeover: PackedTakeover::DONE, ..Lead::AWAY };
        let mut state = Self {
            home: PackedMandate::default(),
            other_runs: false,
            nodes: [node; 2],
            leads,
            sent: Vec::new(),
            disk_lost: false,
        };
        state.home_offers(1);
        state
    }

    pub(crate) fn copies(&self) -> usize {
        self.nodes.iter().filter(|node| node.runs()).count() + usize::from(self.other_runs)
    }

    pub(crate) fn was_sent(&self, message: &Message) -> bool {
        self.sent.binary_search(message).is_ok()
    }

    pub(crate) fn send(&mut self, message: Message) {
        if let Err(at) = self.sent.binary_search(&message) {
            self.sent.insert(at, message);
        }
    }

    pub(crate) fn lead(&mut self, number: u8) -> &mut Lead {
        &mut self.leads[usize::from(number) - 1]
    }

    /// Whether that lead has a lease of its own: no later one has taken office.
    pub(crate) fn is_latest(&self, number: u8) -> bool {
        self.leads[number.into()..].iter().all(|later| !later.in_office)
    }

    // The home.

    pub(crate) fn home_offers(&mut self, to: u8) -> bool {
        let offered = self.home.with(|rule| rule.offer(term(to)));
        if offered {
            self.send(Message::Offer { term: to });
        }
        offered
    }

    pub(crate) fn home_hears_declined(&mut self, by: u8, weakness: Option<Weakness>) {
        let speaks = match weakness {
            Some(Weakness::DeclineOfAnOlderLeadIsFinal) => self.home.get().offered_to.unwrap_or_default(),
            _ => term(by),
        };
        self.home.with(|rule| rule.handed_back(speaks));
        // Cluster B runs it at once, which is the worst it can do.
        self.other_runs = self.home.get().may_go_elsewhere();
    }

    // Leads.

    pub(crate) fn lead_takes_office(&mut self, number: u8, weakness: Option<Weakness>) {
        let takeover = match weakness {
            Some(Weakness::DecidesBeforeTakeover) => PackedTakeover::DONE,
            _ => PackedTakeover::BEGUN,
        };
        *self.lead(number) = Lead { in_office: true, takeover, ..Lead::AWAY };
        for node in 0..2 {
            self.send(Message::Fence { term: number, node });
        }
    }

    /// No grant of the past gives `node` a lease any more.
    pub(crate) fn lead_waits_out(&mut self, number: u8, node: u8) {
        let at = usize::from(node);
        if self.is_latest(number) {
            self.nodes[at].leased = false;
            self.nodes[at].wait_outs += 1;
        }
        let lead = self.lead(number);
        lead.takeover.with(|takeover| takeover.waited_out(node_id(node)));
        let open = lead.stage;
        if lead.stage.with(|stage| stage.waited_out(node_id(node))) && open.get().may_run() {
            lead.unclosed[at] = open.order().map(|order| order.what);
        }
        if let Some(doomed) = lead.doomed[at].take() {
            lead.unclosed[at] = Some(doomed);
        }
        self.drop_overtaken(number);
    }

    pub(crate) fn lead_reserves(
        &mut self,
        number: u8,
        node: u8,
        life: u8,
        weakness: Option<Weakness>,
    ) -> bool {
        let lead = self.lead(number);
        let what = Try { term: number, attempt: lead.attempts + 1 };
        let order = Order { what, node, life };
        if weakness == Some(Weakness::RetriesElsewhereAfterCommit) {
            lead.stage = PackedStage::Idle;
        }
        let opened = lead.stage.with(|stage| stage.reserve(order.placement()));
        if opened {
            lead.attempts += 1;
            self.drop_overtaken(number);
            self.send(Message::Reserve(order));
        }
        opened
    }

    pub(crate) fn lead_hears_reserved(&mut self, number: u8, what: Try) {
        let lead = self.lead(number);
        if lead.stage.with(|stage| stage.reserved(what.token()))
            && let Some(order) = lead.stage.order()
        {
            self.send(Message::Commit(order));
        }
        self.drop_overtaken(number);
    }

    /// Answers to reservations a lead has gone on from are forgotten: they say nothing any more.
    fn drop_overtaken(&mut self, number: u8) {
        let stage = self.lead(number).stage;
        self.sent.retain(|message| match message {
            Message::Reserved(what) if what.term == number => {
                matches!(stage, PackedStage::Reserving(order) if order.what == *what)
            }
            _ => true,
        });
    }

    pub(crate) fn lead_hears_closed(&mut self, number: u8, node: u8, what: Try) {
        let lead = self.lead(number);
        lead.stage.with(|stage| stage.closed(what.token()));
        for list in [&mut lead.doomed, &mut lead.unclosed] {
            let entry = &mut list[usize::from(node)];
            *entry = entry.filter(|open| *open != what);
        }
        self.drop_overtaken(number);
    }

    pub(crate) fn lead_declines(&mut self, number: u8) {
        let lead = self.lead(number);
        lead.stage.with(Stage::close);
        lead.declined = true;
        self.drop_overtaken(number);
        self.send(Message::Declined { term: number });
    }

    /// A node says what it has promised, and asks for a lease.
    pub(crate) fn lead_hears_report(
        &mut self,
        number: u8,
        held: Option<Order>,
        node: u8,
        life: u8,
        weak: Option<Weakness>,
    ) {
        let at = usize::from(node);
        let lead = self.lead(number);
        lead.takeover.with(|takeover| takeover.reported(node_id(node)));
        if let Some(order) = held {
            let taken = !lead.declined && lead.stage.with(|stage| stage.adopt(order.placement()));
            if taken {
                lead.unclosed[at] = lead.unclosed[at].filter(|open| *open != order.what);
            } else if lead.unclosed[at] != Some(order.what) {
                lead.doomed[at] = Some(order.what);
            }
        }
        self.drop_overtaken(number);
        self.grant(number, held.map(|order| order.what), node, life, weak);
    }

    fn grant(&mut self, number: u8, listed: Option<Try>, node: u8, life: u8, weakness: Option<Weakness>) {
        let lead = *self.lead(number);
        let wanted = lead.stage.order().filter(|order| order.node == node).map(|order| order.what);
        let mut revoke = Tries::default();
        let mut know = |what: Try| {
            if Some(what) != wanted {
                revoke.insert(what);
            }
        };
        listed.into_iter().for_each(&mut know);
        if weakness != Some(Weakness::RevokesOnlyWhatIsListed) {
            lead.unclosed[usize::from(node)].into_iter().for_each(&mut know);
            for message in &self.sent {
                if let Message::Commit(order) = message
                    && order.what.term == number
                    && order.node == node
                {
                    know(order.what);
                }
            }
        }
        // A copy that waits for this lease starts by it, so no other may be unseen or on its way out.
        let elsewhere = lead.doomed[1 - usize::from(node)];
        let settled = (lead.takeover.get().is_complete() && elsewhere.is_none())
            || weakness == Some(Weakness::GrantsDuringTakeover);
        let of_use = !self.nodes[usize::from(node)].leased || !revoke.is_empty();
        if settled && of_use && self.is_latest(number) {
            let wait_outs = self.nodes[usize::from(node)].wait_outs;
            self.send(Message::Grant { term: number, asked: number, node, life, wait_outs, revoke });
        }
    }

    /// A life that knows no term asks for the first time: it has promised nothing.
    pub(crate) fn lead_admits(&mut self, number: u8, node: u8) {
        let Node { life, wait_outs, .. } = self.nodes[usize::from(node)];
        self.send(Message::Grant { term: number, asked: 0, node, life, wait_outs, revoke: Tries::default() });
    }
}
