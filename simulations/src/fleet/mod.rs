//! Whole fleets in one thread: hubs, leads and agents with the cores they have in production, in virtual time, from one
//! seed.
//!
//! Each simulated process runs membership ([`codeco_protocol::gossip::Ring`]), state maps and what is said of them over
//! each connection ([`codeco_actors::fabric::talk::Talk`]), ledger, elector with lead, and home; the simulator stands for
//! connections, disks, clocks, runtimes, guards and users. One file each:
//!
//! | file | what |
//! |---|---|
//! | `scenario` | what is played, as read from TOML |
//! | `run` | one run: a plan drawn from the seed, a phase with faults, a phase in which everything must converge |
//! | `world` | machines and events |
//! | `machine`, `process` | what outlives a process, and the process |
//! | `links` | connections, gossip and control messages over them |
//! | `cores` | cores fed, journals written, outputs carried out, with a crash at any point |
//! | `lifecycle` | starts, crashes, recoveries |
//! | `looking` | what a process makes of what it knows of others |
//! | `workloads` | what runs, and the guard |
//! | `acts`, `users` | faults, operators, users |
//! | `invariants` | what must hold, one file for each promise |

mod acts;
mod batch;
mod builtin;
mod cores;
mod counts;
pub(crate) mod invariants;
mod lifecycle;
mod links;
mod looking;
mod machine;
mod net;
mod planted;
mod process;
mod report;
mod run;
mod scenario;
mod series;
mod shrink;
mod traffic;
mod users;
mod workloads;
mod world;

pub use batch::{Batch, Progress, run_seeds};
pub use builtin::{builtin, builtin_called};
pub use counts::{Counts, FaultCounts};
pub use planted::Planted;
pub use report::report;
pub use run::{Failure, Outcome, Playing, plan, run, run_plan};
pub use scenario::{Act, At, FaultKind, Profile, Scenario, ScenarioError};
pub use series::Sample;
pub use shrink::{Shrunk, shrink, written_out};
