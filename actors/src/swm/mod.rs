//! Scheduling and Workload Migration: who runs what, decided by message passing.
//!
//! Pure cores, one concept per file. The rules that keep a replica single are small enough to be searched
//! exhaustively: [`slot`] (a node and one replica), [`attempt`] and [`takeover`] (a lead), [`mandate`] (a home),
//! [`lease`] (how time is counted). [`ledger`], [`lead`] and [`home`] are the three parties built on them. None of them
//! knows a socket, a disk or a clock.
//!
//! [`actor`] is the one shell around all three, and [`post`] takes their messages to other members.

pub mod actor;
pub mod advice;
pub mod attempt;
pub mod brake;
pub mod contact;
mod cores;
pub mod decision;
pub mod election;
pub mod feasibility;
pub mod home;
pub mod lead;
pub mod lease;
pub mod ledger;
pub mod mandate;
pub mod post;
pub mod score;
pub mod slot;
pub mod takeover;
pub mod telling;
