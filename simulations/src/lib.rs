//! Deterministic simulation of CODECO's cores: a home, leads and nodes in one thread, in virtual time, from one seed.
//!
//! [`run`] plays one schedule: users apply, change, scale and delete applications while processes crash at every
//! point of their outputs, machines reboot, disks are lost, and the network loses, repeats, delays and cuts. The
//! [`Invariant`]s are checked at every step. Then the faults stop, and everything must converge.
//!
//! Nothing here reads a clock, a thread id or a hash map's order: the same seed gives the same event log to the byte.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod apps;
mod carry;
mod clock;
mod counts;
mod faults;
pub mod fleet;
mod hosts;
mod invariant;
mod liveness;
mod log;
pub mod membership;
mod network;
mod oracle;
mod queue;
mod recovery;
mod replay;
mod runtime;
mod schedule;
mod seeds;
mod wheel;
mod world;

pub use counts::Counts;
pub use invariant::{Invariant, Violation};
pub use schedule::{Failure, Outcome, run};
pub use seeds::{Batch, run_seeds};
