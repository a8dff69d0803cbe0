//! Messages of an election: who may lead a cluster, and the copies of the lead's records.
//!
//! They travel as [`crate::messages::ControlMessage::Election`], are safe to lose, repeat and reorder, and each is small:
//! a snapshot goes in pages, a record that is longer than a page goes with a snapshot. Records are opaque here: only
//! leads understand them.

use bincode::{Decode, Encode};

use crate::ids::Incarnation;
use crate::token::Term;

/// Most bytes of one page, or of one record sent by itself.
pub const PAGE_BYTES_MAX: usize = 24 << 10;
/// Most pages of one snapshot: 192 MiB.
pub const PAGES_MAX: u32 = 8_192;

/// How far a voter's copy of the lead's records goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Encode, Decode)]
pub struct Position {
    /// The lead's term.
    pub term: Term,
    /// Zero for the snapshot that opened the term; then one more for each record.
    pub sequence: u64,
}

/// One message between voters, or between a lead and a member that is to become one.
///
/// `life` is the life of the *voter's* journal, also in what the voter sends: a voter that lost its disk neither
/// answers for its earlier life nor is taken for it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Encode, Decode)]
pub enum ElectionMessage {
    /// Candidate, later lead → voter: your vote, or your lease again.
    Ask {
        /// The life of the voter meant.
        life: Incarnation,
        /// Ties the answer to the time of asking.
        nonce: u64,
        /// The term wanted, or held.
        term: Term,
        /// How far the candidate's own records go.
        last: Position,
        /// Whether only to say what the answer would be: asked before a term is raised, so that a member that returns
        /// from a cut deposes no healthy lead.
        canvass: bool,
    },
    /// Voter → candidate: yes.
    Granted {
        /// The voter's life.
        life: Incarnation,
        /// The question.
        nonce: u64,
        /// Its term.
        term: Term,
        /// Whether it only would.
        canvass: bool,
        /// How far the voter's records go.
        last: Position,
    },
    /// Voter → candidate: no.
    Refused {
        /// The voter's life.
        life: Incarnation,
        /// The latest term it voted for.
        promised: Term,
    },
    /// Lead → member: in which life is the journal in which you would keep votes and records?
    Invite,
    /// Member → whoever asked, or asked for another life of it: in this one.
    Life {
        /// The member's life.
        life: Incarnation,
    },
    /// Lead → voter: part of all its records up to a position.
    Page {
        /// The life of the voter meant.
        life: Incarnation,
        /// How far the records go.
        at: Position,
        /// Which page, from zero.
        number: u32,
        /// How many there are.
        pages: u32,
        /// At most [`PAGE_BYTES_MAX`].
        bytes: Vec<u8>,
    },
    /// Voter → lead: that page is on disk; the next one, please.
    Taken {
        /// The voter's life.
        life: Incarnation,
        /// The snapshot's position.
        at: Position,
        /// Pages in order from zero that are there.
        pages: u32,
    },
    /// Lead → voter: the next record.
    Append {
        /// The life of the voter meant.
        life: Incarnation,
        /// Where it goes.
        at: Position,
        /// At most [`PAGE_BYTES_MAX`].
        record: Vec<u8>,
    },
    /// Voter → lead: my records go this far, on disk.
    Stored {
        /// The voter's life.
        life: Incarnation,
        /// How far.
        last: Position,
    },
}
