//! One replica on one node: the rule that decides whether an order is obeyed.
//!
//! This is the whole of a node's authority, kept free of resources, leases and runtimes so that the model checker
//! can search it exhaustively (`simulations/tests/`). [`super::ledger`] adds the rest around it.
//!
//! Three answers, and the difference between the last two is what keeps a replica single:
//! *done*; `Closed` («I do not run it and never will», remembered); `Stale` («your term is old, step down»,
//! which proves nothing about the replica).

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use codeco_protocol::messages::HeldPhase;
use codeco_protocol::token::{Term, Token};

/// What a node remembers of one replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Slot {
    /// The token it holds, and how far that has come.
    pub held: Option<(Token, HeldPhase)>,
    /// The highest token closed: it and every lower one that is not held will never run.
    pub closed: Option<Token>,
}

/// How a node answers an order about one replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// Obeyed now: the slot has changed and the change must be on disk before the answer leaves.
    Done,
    /// Obeyed before: the answer is repeated.
    Again,
    /// Not obeyed, ever. `true` if the slot changed, so that it must be on disk first.
    Closed(bool),
    /// The order's term is older than this one.
    Stale(Term),
}

impl Slot {
    /// Whether `token` was closed and is not held.
    #[must_use]
    pub fn is_closed(&self, token: Token) -> bool {
        self.closed.is_some_and(|closed| token <= closed) && self.held.is_none_or(|(held, _)| held != token)
    }

    /// Closes `token`, and with it every lower one that is not held. Returns whether that is news.
    fn close(&mut self, token: Token) -> Verdict {
        let news = self.closed.is_none_or(|closed| closed < token);
        if news {
            self.closed = Some(token);
        }
        Verdict::Closed(news)
    }

    /// Sets resources aside under `token`, if there is `room` for them. Raises `node_term` where the token's is newer.
    pub fn reserve(&mut self, node_term: &mut Term, token: Token, room: bool) -> Verdict {
        if let Some(verdict) = self.screen(node_term, token) {
            return verdict;
        }
        match self.held {
            Some((held, HeldPhase::Reserved)) if held < token => {
                // The newer attempt takes the older one's place; the older can never be committed any more.
                self.close(held);
            }
            Some(_) => return self.close(token),
            None => {}
        }
        if room {
            self.held = Some((token, HeldPhase::Reserved));
            Verdict::Done
        } else {
            self.held = None;
            self.close(token)
        }
    }

    /// Turns the reservation of `token` into a promise.
    pub fn commit(&mut self, node_term: &mut Term, token: Token) -> Verdict {
        if let Some((held, phase)) = self.held
            && held == token
        {
            if token.term < *node_term && phase == HeldPhase::Reserved {
                return Verdict::Stale(*node_term);
            }
            if phase == HeldPhase::Reserved {
                self.held = Some((token, HeldPhase::Committed));
                return Verdict::Done;
            }
            return Verdict::Again;
        }
        if let Some(verdict) = self.screen(node_term, token) {
            return verdict;
        }
        self.close(token)
    }

    /// What holds for any order that would make the node hold `token`; `None` if it is to be decided.
    fn screen(&self, node_term: &mut Term, token: Token) -> Option<Verdict> {
        if token.term < *node_term {
            return Some(Verdict::Stale(*node_term));
        }
        if self.held.is_some_and(|(held, _)| held == token) {
            return Some(Verdict::Again);
        }
        if self.is_closed(token) {
            return Some(Verdict::Closed(false));
        }
        *node_term = token.term;
        None
    }

    /// Orders the end of `token` by a lead of `order_term`. `Done` means that a stop must be proven first, then
    /// [`Slot::stopped`] closes it.
    pub fn order_close(&mut self, node_term: &mut Term, order_term: Term, token: Token) -> Verdict {
        if order_term < *node_term {
            return Verdict::Stale(*node_term);
        }
        *node_term = order_term;
        match self.held {
            Some((held, HeldPhase::Committed)) if held == token => {
                self.held = Some((held, HeldPhase::Stopping));
                Verdict::Done
            }
            Some((held, HeldPhase::Stopping)) if held == token => Verdict::Again,
            Some((held, HeldPhase::Reserved)) if held == token => {
                self.held = None;
                self.close(token)
            }
            _ => self.close(token),
        }
    }

    /// A stop of `token` has been proven by the runtime, or its reservation has run out. Returns whether the slot
    /// held it.
    pub fn stopped(&mut self, token: Token) -> bool {
        if self.held.is_some_and(|(held, _)| held == token) {
            self.held = None;
            self.close(token);
            return true;
        }
        false
    }

    /// A new term begins: a reservation of an older one can no longer be committed and is closed. Returns the token
    /// it freed.
    pub fn fence(&mut self, term: Term) -> Option<Token> {
        match self.held {
            Some((token, HeldPhase::Reserved)) if token.term < term => {
                self.held = None;
                self.close(token);
                Some(token)
            }
            _ => None,
        }
    }

    /// Whether the slot still says something that `node_term` does not say already. A closed token of an older term
    /// is refused as stale anyway, so it need not be kept.
    #[must_use]
    pub fn is_worth_keeping(&self, node_term: Term) -> bool {
        self.held.is_some() || self.closed.is_some_and(|closed| closed.term >= node_term)
    }
}

#[cfg(test)]
mod tests {
    use codeco_protocol::ids::MemberId;
    use codeco_protocol::token::{Attempt, Epoch, MandateId};

    use super::*;

    fn term(number: u64) -> Term {
        Term { number, owner: MemberId(u128::from(number)) }
    }

    fn token(term_number: u64, attempt: u64) -> Token {
        Token {
            epoch: Epoch { number: 1, owner: MemberId(1) },
            mandate: MandateId(1),
            term: term(term_number),
            attempt: Attempt(attempt),
        }
    }

    #[test]
    fn slot_reserved_then_committed_repeats_its_answers() {
        let (mut slot, mut now) = (Slot::default(), Term::default());
        assert_eq!(slot.reserve(&mut now, token(1, 1), true), Verdict::Done);
        assert_eq!(slot.reserve(&mut now, token(1, 1), true), Verdict::Again);
        assert_eq!(slot.commit(&mut now, token(1, 1)), Verdict::Done);
        assert_eq!(slot.commit(&mut now, token(1, 1)), Verdict::Again);
        assert_eq!(now, term(1));
    }

    #[test]
    fn slot_closed_once_stays_closed_for_late_orders() {
        let (mut slot, mut now) = (Slot::default(), Term::default());
        assert_eq!(slot.commit(&mut now, token(1, 1)), Verdict::Closed(true), "a commit without reservation");
        assert_eq!(
            slot.reserve(&mut now, token(1, 1), true),
            Verdict::Closed(false),
            "the reserve comes late"
        );
        assert_eq!(
            slot.reserve(&mut now, token(1, 2), true),
            Verdict::Done,
            "a newer attempt is another matter"
        );
    }

    #[test]
    fn slot_that_runs_never_says_closed_of_what_it_runs() {
        let (mut slot, mut now) = (Slot::default(), Term::default());
        slot.reserve(&mut now, token(1, 1), true);
        slot.commit(&mut now, token(1, 1));
        assert_eq!(slot.reserve(&mut now, token(1, 2), true), Verdict::Closed(true));
        assert_eq!(slot.commit(&mut now, token(1, 1)), Verdict::Again, "still promised, and says so");
        assert!(!slot.is_closed(token(1, 1)));
    }

    #[test]
    fn slot_of_a_newer_term_calls_older_orders_stale_and_closes_open_reservations() {
        let (mut slot, mut now) = (Slot::default(), Term::default());
        slot.reserve(&mut now, token(1, 1), true);
        assert_eq!(slot.fence(term(2)), Some(token(1, 1)));
        now = term(2);
        assert_eq!(slot.commit(&mut now, token(1, 1)), Verdict::Stale(term(2)));
        assert_eq!(slot.reserve(&mut now, token(1, 9), true), Verdict::Stale(term(2)));
        assert!(!slot.is_worth_keeping(now), "the term alone refuses what was closed");
    }

    #[test]
    fn slot_ordered_to_close_waits_for_proof_of_the_stop() {
        let (mut slot, mut now) = (Slot::default(), Term::default());
        slot.reserve(&mut now, token(1, 1), true);
        slot.commit(&mut now, token(1, 1));
        assert_eq!(slot.order_close(&mut now, term(1), token(1, 1)), Verdict::Done);
        assert!(!slot.is_closed(token(1, 1)), "not before the runtime has proven it");
        assert!(slot.stopped(token(1, 1)));
        assert!(slot.is_closed(token(1, 1)));
        assert_eq!(slot.order_close(&mut now, term(1), token(1, 1)), Verdict::Closed(false));
    }
}
