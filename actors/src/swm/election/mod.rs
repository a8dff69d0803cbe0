//! Who may lead: the rules of the election by majority lease.
//!
//! Small rules, as those of a replica are, so that they can be searched exhaustively: [`electorate`] (who votes, and
//! how that changes), [`voter`] (what one voter promises), [`office`] (what a candidate, later lead, may conclude from
//! the answers). It is Raft (Ongaro and Ousterhout, USENIX ATC 2014) without reconciliation of logs: a lead begins its
//! term by installing its whole snapshot at each voter and appends in order after that. Every vote is also a lease
//! (Gray and Cheriton, SOSP 1989): a voter binds itself from when it answered, the lead counts from when it asked.
//!
//! A voter is a member in one life of its journal ([`electorate::Voter`]). One that lost its disk is therefore no voter
//! until a lead replaces it, one change at a time: what it had promised and stored is never counted twice. One that
//! restarts with its journal has lost only its clock's reading, and sits out one lease.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod elector;
pub mod electorate;
pub mod office;
pub mod voter;
