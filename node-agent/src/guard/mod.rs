//! The guard: a small process of its own that is the parent of all workload processes of a node.
//!
//! The agent may die at any moment; what runs then must neither become orphaned nor outlive its lease. So the
//! agent never starts workloads itself. It starts the guard, detached, and talks to it over a unix socket in the
//! state folder. The guard
//! - kills every `fence` replica when the node's lease ends, on a timer of the boot clock;
//! - keeps `autonomous` replicas, and restarts crashed containers while they are allowed to run;
//! - obeys one agent at a time, the newest connection;
//! - leaves nothing behind: if it dies itself, the kernel kills its direct children (see [`shim`]), and the next
//!   guard of the same state folder kills whatever else carries the folder's mark in its environment.
//!
//! One thread decides, waits in one `poll` and never touches a file on the way to a kill; container output is
//! copied by threads of their own, so that a slow disk cannot delay the end of a lease.
//!
//! What it cannot see: a process that leaves its process group *and* clears its environment. That takes control
//! groups, which a process runtime without privileges does not have.

/// Writes a line to the guard's log. A log that cannot be written is no reason to stop: `eprintln!` would panic.
macro_rules! say {
    ($($part:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), "codeco guard: {}", format_args!($($part)*));
    }};
}

mod codec;
mod connection;
mod container;
#[doc(hidden)]
pub mod hostile;
mod lock;
pub(crate) mod logs;
pub(crate) mod messages;
mod options;
mod procfs;
mod server;
mod shim;
pub(crate) mod socket;
mod sources;
mod spawn;
mod timer;

use std::io::Write as _;
use std::process::ExitCode;

pub(crate) use codec::{FRAME_LEN_MAX, decode, encode};
pub use options::{GuardOptions, OptionsError};
pub use shim::shim;
pub use spawn::replica_label;

/// Exit code of a guard that found another one in charge of its state folder.
pub const EXIT_LOCKED: u8 = 3;
/// What the guard writes to its standard output once it can be connected to.
pub(crate) const READY_LINE: &str = "ready\n";

/// Runs the guard until it is told to shut down or nobody needs it. Call it from the main thread, before any other
/// thread or asynchronous runtime exists: children are tied to the life of the thread that made them.
pub fn run(options: GuardOptions) -> ExitCode {
    match server::Server::open(options) {
        Ok(mut server) => {
            // Whoever started the guard waits for this line; a reader that has gone is no reason to stop.
            let mut stdout = std::io::stdout();
            let _ = stdout.write_all(READY_LINE.as_bytes()).and_then(|()| stdout.flush());
            server.run();
            ExitCode::SUCCESS
        }
        Err(error) => {
            say!("{error}");
            if error.is_locked() { ExitCode::from(EXIT_LOCKED) } else { ExitCode::FAILURE }
        }
    }
}
