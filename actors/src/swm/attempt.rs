//! The lead's rule for one replica: when a further attempt, or giving the mandate back, is safe.
//!
//! Before a Commit has left, an attempt can be abandoned: nobody can ever commit it but this lead. After, no other
//! node may be asked until the node says `Closed` or its lease has been waited out: silence is not absence.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use codeco_protocol::ids::{Incarnation, NodeId};
use codeco_protocol::token::Token;

/// One try: a token on one incarnation of one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Placement {
    /// Under which token.
    pub token: Token,
    /// On which node.
    pub node: NodeId,
    /// In which life of its journal.
    pub incarnation: Incarnation,
}

/// Where a lead stands with one replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Stage {
    /// No attempt is open.
    #[default]
    Idle,
    /// Asked a node to reserve. Nothing can run from this.
    Reserving(Placement),
    /// The Commit has left, the answer has not come: it may run.
    Committing(Placement),
    /// The node has promised it.
    Held(Placement),
    /// Asked the node to stop it; it may still run.
    Closing(Placement),
}

impl Stage {
    /// The attempt it is about.
    #[must_use]
    pub fn placement(&self) -> Option<Placement> {
        match self {
            Stage::Idle => None,
            Stage::Reserving(p) | Stage::Committing(p) | Stage::Held(p) | Stage::Closing(p) => Some(*p),
        }
    }

    /// Whether a copy may run because of this lead: then no other node may be asked, and nothing be declined.
    #[must_use]
    pub fn may_run(&self) -> bool {
        matches!(self, Stage::Committing(_) | Stage::Held(_) | Stage::Closing(_))
    }

    /// Opens an attempt. Refused (`false`) while a copy may run; an open reservation is abandoned.
    pub fn reserve(&mut self, placement: Placement) -> bool {
        if self.may_run() {
            return false;
        }
        *self = Stage::Reserving(placement);
        true
    }

    /// The node has set resources aside for `token`. `true` if the Commit is to be sent, now or again.
    pub fn reserved(&mut self, token: Token) -> bool {
        match *self {
            Stage::Reserving(p) if p.token == token => {
                *self = Stage::Committing(p);
                true
            }
            Stage::Committing(p) => p.token == token,
            _ => false,
        }
    }

    /// The node has promised `token`. `true` if that is news.
    pub fn committed(&mut self, token: Token) -> bool {
        match *self {
            Stage::Committing(p) if p.token == token => {
                *self = Stage::Held(p);
                true
            }
            _ => false,
        }
    }

    /// Begins to stop it. `true` if an order is to be sent.
    pub fn close(&mut self) -> bool {
        match *self {
            Stage::Committing(p) | Stage::Held(p) | Stage::Closing(p) => {
                *self = Stage::Closing(p);
                true
            }
            Stage::Idle | Stage::Reserving(_) => {
                *self = Stage::Idle;
                false
            }
        }
    }

    /// The node will never run `token`. `true` if that ends the open attempt.
    pub fn closed(&mut self, token: Token) -> bool {
        let ends = self.placement().is_some_and(|p| p.token == token);
        if ends {
            *self = Stage::Idle;
        }
        ends
    }

    /// The node's lease has been waited out. `true` if an attempt there ends by it (for replicas that need a lease).
    pub fn waited_out(&mut self, node: NodeId) -> bool {
        let ends = self.placement().is_some_and(|p| p.node == node);
        if ends {
            *self = Stage::Idle;
        }
        ends
    }

    /// A node says that it holds `placement`, which this lead did not know of. `true` if it is taken over; otherwise
    /// another copy may run already and one of the two must go.
    pub fn adopt(&mut self, placement: Placement) -> bool {
        match self {
            Stage::Idle | Stage::Reserving(_) => {
                *self = Stage::Held(placement);
                true
            }
            Stage::Committing(p) | Stage::Held(p) if p.token == placement.token => {
                *self = Stage::Held(placement);
                true
            }
            Stage::Closing(p) => p.token == placement.token,
            Stage::Committing(_) | Stage::Held(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use codeco_protocol::ids::MemberId;
    use codeco_protocol::token::Attempt;

    use super::*;

    fn placement(attempt: u64, node: u128) -> Placement {
        Placement {
            token: Token { attempt: Attempt(attempt), ..Token::default() },
            node: MemberId(node),
            incarnation: Incarnation(1),
        }
    }

    #[test]
    fn attempt_after_commit_goes_nowhere_else_until_closed_or_waited_out() {
        let mut stage = Stage::default();
        let (first, second) = (placement(1, 1), placement(2, 2));
        assert!(stage.reserve(first));
        assert!(stage.reserve(second), "a mere reservation may be abandoned");
        assert!(!stage.reserved(first.token), "and is never committed then");
        assert!(stage.reserved(second.token));
        assert!(!stage.reserve(placement(3, 1)), "the commit has left");
        assert!(!stage.closed(first.token), "an older attempt proves nothing about this one");
        assert!(stage.waited_out(second.node));
        assert!(stage.reserve(placement(3, 1)));
    }
}
