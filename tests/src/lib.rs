//! End-to-end tests of CODECO: real processes on real QUIC.
//!
//! [`Fleet`] runs a hub and agents on loopback and speaks to them as people do, through the `codeco` command. What
//! became of the work is judged from outside: [`accounts`] compares what the members have written down with the
//! machine's process table, and [`Watch`] looks all the time whether something runs twice.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod accounts;
mod books;
mod fleet;
mod manifest;
pub mod netlab;
mod process_table;
mod trouble;
mod watch;

pub use books::{Books, HomeBook, LedgerBook, Promise};
pub use fleet::{Fleet, Shape, until};
pub use manifest::{FENCED, app};
pub use process_table::{WorkloadProcess, is_alive, is_stopped, mentioning, workloads};
pub use trouble::Trouble;
pub use watch::{Watch, Watched};
