//! The numbers that say who may decide: epoch, mandate, term, attempt, and the token made of them.
//!
//! An order is obeyed only while its token is the newest one known. Numbers grow whenever the right to decide
//! moves; owners break ties, so two deciders never hold equal numbers. See ARCHITECTURE.md, «Placement».

use std::fmt;

use bincode::{Decode, Encode};
use serde::{Deserialize, Serialize};

use crate::ids::MemberId;

/// The right to speak for an application: grows when its home moves.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, Serialize, Deserialize, Default,
)]
pub struct Epoch {
    /// Compared first.
    pub number: u64,
    /// The home that holds it; breaks ties.
    pub owner: MemberId,
}

/// The right to decide inside a cluster: grows with every lead that takes office.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, Serialize, Deserialize, Default,
)]
pub struct Term {
    /// Compared first; 0 means «none yet».
    pub number: u64,
    /// The lead that holds it; breaks ties.
    pub owner: MemberId,
}

impl Term {
    /// The highest number that a voter votes for and a node obeys: one above it is none that anybody got by counting.
    pub const NUMBER_MAX: u64 = 1 << 62;
    /// The highest number above which a lead rises because somebody merely says it, so that there is always room for a
    /// lead that was elected. Whoever has obeyed a higher one is given no lease: better one node without than all.
    pub const HEARSAY_MAX: u64 = 1 << 61;

    /// The lowest term of `owner` that is above `self`.
    #[must_use]
    pub fn next_for(self, owner: MemberId) -> Term {
        Term { number: self.number.saturating_add(1), owner }
    }

    /// Whether a lead could have come to it; see [`Term::NUMBER_MAX`].
    #[must_use]
    pub fn is_possible(self) -> bool {
        self.number <= Self::NUMBER_MAX
    }

    /// Whether it is believed of somebody who merely says it; see [`Term::HEARSAY_MAX`].
    #[must_use]
    pub fn is_believed(self) -> bool {
        self.number <= Self::HEARSAY_MAX
    }
}

/// The exclusive right of one cluster to run a replica. Counted by the home, never reused for that replica.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, Serialize, Deserialize, Default,
)]
pub struct MandateId(pub u64);

/// One try of a lead to place a replica on one incarnation of one node. Never reused within a term.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, Serialize, Deserialize, Default,
)]
pub struct Attempt(pub u64);

/// What makes an order comparable with every other order about the same replica: compared left to right.
///
/// Workloads receive it as their fencing token (`CODECO_FENCING_TOKEN`), in the form of [`fmt::Display`].
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, Serialize, Deserialize, Default,
)]
pub struct Token {
    /// Epoch of the home.
    pub epoch: Epoch,
    /// Mandate of the cluster.
    pub mandate: MandateId,
    /// Term of the lead.
    pub term: Term,
    /// Attempt within the term.
    pub attempt: Attempt,
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{:?}", self.number, self.owner)
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{:?}", self.number, self.owner)
    }
}

impl fmt::Display for Token {
    /// `epoch.mandate.term.attempt`, without owners.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}.{}", self.epoch.number, self.mandate.0, self.term.number, self.attempt.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_compares_left_to_right_and_owners_break_ties() {
        let term = |number, owner| Term { number, owner: MemberId(owner) };
        let token = |mandate, term, attempt| Token {
            epoch: Epoch { number: 1, owner: MemberId(9) },
            mandate: MandateId(mandate),
            term,
            attempt: Attempt(attempt),
        };
        assert!(token(2, term(1, 1), 1) > token(1, term(9, 1), 9), "mandate before term");
        assert!(token(1, term(2, 1), 1) > token(1, term(1, 1), 9), "term before attempt");
        assert!(term(1, 2) > term(1, 1), "owner breaks the tie");
        assert!(term(1, 1).next_for(MemberId(0)) > term(1, 9), "next term is above whoever holds the last");
        assert_eq!(term(u64::MAX, 1).next_for(MemberId(2)), term(u64::MAX, 2), "no number begins anew");
    }
}
