//! What the nodes do: the product's rule of a slot, and around it terms, lives and leases.

use codeco_actors::swm::slot::{Slot, Verdict};
use codeco_protocol::messages::HeldPhase;

use crate::compact::{PackedSlot, PackedStage, PackedTakeover, with_term};
use crate::mandate::{Bounds, Weakness};
use crate::message::{Message, Order, Try, term};
use crate::parties::{Node, State};

impl State {
    pub(crate) fn node_gets_order(
        &mut self,
        order: Order,
        commit: bool,
        weakness: Option<Weakness>,
    ) -> Option<Verdict> {
        let node = &mut self.nodes[usize::from(order.node)];
        if order.life != node.life && weakness != Some(Weakness::NoIncarnation) {
            self.send(Message::Closed { node: order.node, what: order.what });
            return None;
        }
        if !node.admitted {
            return None;
        }
        let (after, verdict) = ask(*node, order.what, commit);
        *node = after;
        self.forget(order.node, weakness);
        match verdict {
            Verdict::Done | Verdict::Again if commit => {}
            Verdict::Done | Verdict::Again => {
                // To a lead that has gone on it says nothing, now or later: left out, for fewer states.
                let lead = &self.leads[usize::from(order.what.term) - 1];
                if lead.stage == PackedStage::Reserving(order) {
                    self.send(Message::Reserved(order.what));
                }
            }
            Verdict::Stale(_) if weakness != Some(Weakness::StaleIsRefused) => {}
            Verdict::Closed(_) | Verdict::Stale(_) => {
                self.send(Message::Closed { node: order.node, what: order.what });
            }
        }
        Some(verdict)
    }

    pub(crate) fn node_gets_fence(&mut self, number: u8, at: u8, weakness: Option<Weakness>) {
        let node = &mut self.nodes[usize::from(at)];
        if !node.admitted || number < node.term {
            return;
        }
        node.slot.with(|slot| slot.fence(term(number)));
        node.term = number;
        let node = *node;
        self.forget(at, weakness);
        // A node with a lease reports once: renewals change nothing here.
        let reported = |m: &Message| matches!(m, Message::Report { term, node: n, life, .. } if (*term, *n, *life) == (number, at, node.life));
        if !node.leased || !self.sent.iter().any(reported) {
            self.send(Message::Report { term: number, node: at, life: node.life, held: node.promised() });
        }
    }

    pub(crate) fn node_gets_grant(&mut self, message: Message, weakness: Option<Weakness>) {
        let Message::Grant { term: number, asked, node: at, life, wait_outs, revoke } = message else {
            return;
        };
        let node = &mut self.nodes[usize::from(at)];
        // The lead knows what this node had promised when it asked, and what it has itself asked of it since. What
        // an older lead was promised in between it does not know; but then the term was not yet the same.
        let knows = asked == node.term || weakness == Some(Weakness::AnswerToAnEarlierTermCounts);
        if life != node.life || number < node.term || !knows {
            return;
        }
        let mut closed = Vec::new();
        for what in revoke.iter() {
            let Node { slot, term: seen, .. } = node;
            let verdict = with_term(seen, |seen| {
                slot.with(|slot| {
                    let verdict = slot.order_close(seen, term(number), what.token());
                    // The runtime proves the stop at once: a copy of which the lease has ended does not run.
                    slot.stopped(what.token());
                    verdict
                })
            });
            if !matches!(verdict, Verdict::Stale(_)) {
                closed.push(Message::Closed { node: at, what });
            }
        }
        node.leased |= wait_outs == node.wait_outs;
        node.admitted = true;
        if weakness != Some(Weakness::NewLifeLearnsNoTerm) {
            node.term = number;
        }
        closed.into_iter().for_each(|message| self.send(message));
        self.forget(at, weakness);
    }

    pub(crate) fn reservation_expires(&mut self, at: u8, weakness: Option<Weakness>) {
        let node = &mut self.nodes[usize::from(at)];
        if let Some((what, HeldPhase::Reserved)) = node.slot.held {
            node.slot.with(|slot: &mut Slot| slot.stopped(what.token()));
        }
        self.forget(at, weakness);
    }

    /// The machine restarts with an empty disk: nothing runs on it, nothing is known.
    pub(crate) fn node_loses_disk(&mut self) {
        let node = &mut self.nodes[0];
        *node = Node {
            slot: PackedSlot::default(),
            term: 0,
            life: 1,
            admitted: false,
            leased: false,
            wait_outs: node.wait_outs,
        };
        self.disk_lost = true;
    }

    /// Forgets what can have no effect any more, so that states that differ in nothing else are one. Whether an
    /// order is stale is asked of the real rule.
    pub(crate) fn tidy(&mut self, bounds: &Bounds) {
        let nodes = self.nodes;
        let keeps_disk = |node: u8| node == 1 || self.disk_lost || !bounds.disk_loss;
        self.sent.retain(|message| match *message {
            Message::Grant { asked, node, life, wait_outs, revoke, .. } => {
                let node = &nodes[usize::from(node)];
                let void = wait_outs < node.wait_outs || node.leased;
                let overtaken = node.admitted && asked < node.term;
                node.life == life && !overtaken && !(void && revoke.is_empty())
            }
            Message::Reserve(order) | Message::Commit(order) => {
                let node = &nodes[usize::from(order.node)];
                let old = order.what.term < node.term && order.life == node.life && keeps_disk(order.node);
                !(old
                    && [true, false]
                        .iter()
                        .all(|commit| matches!(ask(*node, order.what, *commit).1, Verdict::Stale(_))))
            }
            _ => true,
        });
        for lead in &mut self.leads {
            if lead.takeover != PackedTakeover::DONE && lead.in_office && lead.takeover.get().is_complete() {
                lead.takeover = PackedTakeover::DONE;
            }
        }
    }

    /// What a node keeps on disk after each step.
    fn forget(&mut self, at: u8, weakness: Option<Weakness>) {
        let Node { slot, term: now, .. } = &mut self.nodes[usize::from(at)];
        if weakness == Some(Weakness::ForgetsClosed) {
            slot.closed = None;
        }
        if !slot.with(|slot| slot.is_worth_keeping(term(*now))) {
            *slot = PackedSlot::default();
        }
    }
}

/// What the rule of the slot makes of an order.
fn ask(mut node: Node, what: Try, commit: bool) -> (Node, Verdict) {
    let Node { slot, term, .. } = &mut node;
    let verdict = with_term(term, |term| {
        slot.with(|slot| match commit {
            true => slot.commit(term, what.token()),
            false => slot.reserve(term, what.token(), true),
        })
    });
    (node, verdict)
}
