//! What travels, in a form small enough to be kept by the million.

use codeco_actors::swm::attempt::Placement;
use codeco_protocol::ids::{Incarnation, MemberId};
use codeco_protocol::token::{Attempt, Epoch, MandateId, Term, Token};

/// The part of a token that differs here: there is one home with one epoch, and cluster A only knows mandate 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Try {
    pub(crate) term: u8,
    pub(crate) attempt: u8,
}

impl Try {
    pub(crate) fn token(self) -> Token {
        Token {
            epoch: Epoch { number: 1, owner: MemberId(9) },
            mandate: MandateId(1),
            term: term(self.term),
            attempt: Attempt(self.attempt.into()),
        }
    }

    pub(crate) fn of(token: Token) -> Self {
        Self { term: small(token.term.number), attempt: small(token.attempt.0) }
    }
}

/// The term of that number; its owner is the lead of the same number.
pub(crate) fn term(number: u8) -> Term {
    Term { number: number.into(), owner: MemberId(if number == 0 { 0 } else { 100 + u128::from(number) }) }
}

pub(crate) fn small<N: TryInto<u8>>(number: N) -> u8 {
    number.try_into().unwrap_or_else(|_| panic!("numbers of the model are small"))
}

pub(crate) fn node_id(node: u8) -> MemberId {
    MemberId(node.into())
}

/// A try on one life of one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Order {
    pub(crate) what: Try,
    pub(crate) node: u8,
    pub(crate) life: u8,
}

impl Order {
    pub(crate) fn placement(self) -> Placement {
        Placement {
            token: self.what.token(),
            node: node_id(self.node),
            incarnation: Incarnation(self.life.into()),
        }
    }

    pub(crate) fn of(placement: Placement) -> Self {
        Self {
            what: Try::of(placement.token),
            node: small(placement.node.0),
            life: small(placement.incarnation.0),
        }
    }
}

/// Once sent, a message may arrive at any later time, any number of times, or never.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Message {
    /// Home → lead of that term.
    Offer { term: u8 },
    /// Lead of that term → home.
    Declined { term: u8 },
    /// Lead → node: a new term.
    Fence { term: u8, node: u8 },
    /// Node → lead: obeys that term and has promised this. Stands for the lease request too, which says the same.
    Report { term: u8, node: u8, life: u8, held: Option<Try> },
    /// Lead → node.
    Reserve(Order),
    /// Node → lead.
    Reserved(Try),
    /// Lead → node.
    Commit(Order),
    /// Node → lead: does not run it and never will.
    Closed { node: u8, what: Try },
    /// Lead → node, an answer to a request of this life: a lease, but not for what is revoked. It counts only as
    /// long as the node has not been waited out once more, as the model of leases shows.
    /// `asked` is the term the node obeyed when it asked.
    Grant { term: u8, asked: u8, node: u8, life: u8, wait_outs: u8, revoke: Tries },
}

/// A set of tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct Tries(u16);

impl Tries {
    const ATTEMPTS: u8 = 4;

    pub(crate) fn insert(&mut self, what: Try) {
        self.0 |= 1 << (what.term * Self::ATTEMPTS + what.attempt);
    }

    pub(crate) fn iter(self) -> impl Iterator<Item = Try> {
        (0..16)
            .filter(move |bit| self.0 & (1 << bit) != 0)
            .map(|bit| Try { term: bit / Self::ATTEMPTS, attempt: bit % Self::ATTEMPTS })
    }

    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }
}
