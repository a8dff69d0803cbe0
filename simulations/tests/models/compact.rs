//! The product's rules, stored in few bytes. Each is rebuilt before a step and packed after it; nothing is decided
//! here.

use codeco_actors::swm::attempt::Stage;
use codeco_actors::swm::mandate::MandateRule;
use codeco_actors::swm::slot::Slot;
use codeco_actors::swm::takeover::Takeover;
use codeco_protocol::messages::HeldPhase;
use codeco_protocol::token::Term;

use crate::message::{Order, Try, node_id, small, term};

/// A [`Slot`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct PackedSlot {
    pub(crate) held: Option<(Try, HeldPhase)>,
    pub(crate) closed: Option<Try>,
}

impl PackedSlot {
    /// Lets the real rule do `step`.
    pub(crate) fn with<R>(&mut self, step: impl FnOnce(&mut Slot) -> R) -> R {
        let mut slot = Slot {
            held: self.held.map(|(what, phase)| (what.token(), phase)),
            closed: self.closed.map(Try::token),
        };
        let result = step(&mut slot);
        self.held = slot.held.map(|(token, phase)| (Try::of(token), phase));
        self.closed = slot.closed.map(Try::of);
        result
    }
}

/// A [`Stage`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) enum PackedStage {
    #[default]
    Idle,
    Reserving(Order),
    Committing(Order),
    Held(Order),
    Closing(Order),
}

impl PackedStage {
    pub(crate) fn get(self) -> Stage {
        match self {
            Self::Idle => Stage::Idle,
            Self::Reserving(order) => Stage::Reserving(order.placement()),
            Self::Committing(order) => Stage::Committing(order.placement()),
            Self::Held(order) => Stage::Held(order.placement()),
            Self::Closing(order) => Stage::Closing(order.placement()),
        }
    }

    pub(crate) fn with<R>(&mut self, step: impl FnOnce(&mut Stage) -> R) -> R {
        let mut stage = self.get();
        let result = step(&mut stage);
        *self = match stage {
            Stage::Idle => Self::Idle,
            Stage::Reserving(placement) => Self::Reserving(Order::of(placement)),
            Stage::Committing(placement) => Self::Committing(Order::of(placement)),
            Stage::Held(placement) => Self::Held(Order::of(placement)),
            Stage::Closing(placement) => Self::Closing(Order::of(placement)),
        };
        result
    }

    pub(crate) fn order(self) -> Option<Order> {
        self.get().placement().map(Order::of)
    }
}

/// How a lead stands with one node in a [`Takeover`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Heard {
    Silent,
    WaitedOut,
    Reported,
}

/// A [`Takeover`] of the two nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct PackedTakeover([Heard; 2]);

impl PackedTakeover {
    /// None of the two has been heard.
    pub(crate) const BEGUN: Self = Self([Heard::Silent; 2]);
    /// Nothing is owed.
    pub(crate) const DONE: Self = Self([Heard::Reported; 2]);

    pub(crate) fn get(self) -> Takeover {
        let mut takeover = Takeover::of([node_id(0), node_id(1)]);
        for (node, heard) in (0..).zip(self.0) {
            match heard {
                Heard::Silent => {}
                Heard::WaitedOut => takeover.waited_out(node_id(node)),
                Heard::Reported => takeover.reported(node_id(node)),
            }
        }
        takeover
    }

    pub(crate) fn with(&mut self, step: impl FnOnce(&mut Takeover)) {
        let mut takeover = self.get();
        step(&mut takeover);
        for (node, heard) in (0..).zip(&mut self.0) {
            *heard = if takeover.silent().any(|silent| silent == node_id(node)) {
                Heard::Silent
            } else if takeover.has_reported(node_id(node)) {
                Heard::Reported
            } else {
                Heard::WaitedOut
            };
        }
    }

    pub(crate) fn is_silent(self, node: u8) -> bool {
        self.get().silent().any(|silent| silent == node_id(node))
    }
}

/// A [`MandateRule`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct PackedMandate {
    offered_to: Option<u8>,
    returned: bool,
}

impl PackedMandate {
    pub(crate) fn get(self) -> MandateRule {
        MandateRule { offered_to: self.offered_to.map(term), returned: self.returned }
    }

    pub(crate) fn with<R>(&mut self, step: impl FnOnce(&mut MandateRule) -> R) -> R {
        let mut rule = self.get();
        let result = step(&mut rule);
        self.offered_to = rule.offered_to.map(|term| small(term.number));
        self.returned = rule.returned;
        result
    }
}

/// Lets a rule raise a node's term.
pub(crate) fn with_term<R>(number: &mut u8, step: impl FnOnce(&mut Term) -> R) -> R {
    let mut raised = term(*number);
    let result = step(&mut raised);
    *number = small(raised.number);
    result
}
