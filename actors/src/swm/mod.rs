//! Scheduling and Workload Migration: who runs what, decided by message passing.
//!
//! Pure cores, one concept per file. The rules that keep a replica single are small enough to be searched
//! exhaustively: [`slot`] (a node and one replica), [`attempt`] and [`takeover`] (a lead), [`mandate`] (a home),
//! [`lease`] (how time is counted). [`ledger`], [`lead`] and [`home`] are the three parties built on them. None of them
//! knows a socket, a disk or a clock.

pub mod attempt;
pub mod decision;
pub mod home;
pub mod lead;
pub mod lease;
pub mod ledger;
pub mod mandate;
pub mod score;
pub mod slot;
pub mod takeover;

use codeco_protocol::wire::WireMessage;

/// Kinds of this crate's records. Append only; never reuse a number.
impl WireMessage for ledger::LedgerRecord {
    const KIND: u16 = 32;
    const MAX_LEN: usize = 512 << 10;
}

impl WireMessage for lead::LeadRecord {
    const KIND: u16 = 33;
    const MAX_LEN: usize = 512 << 10;
}

impl WireMessage for home::HomeRecord {
    const KIND: u16 = 34;
    const MAX_LEN: usize = 1 << 20;
}
