//! Counters and limits around mailboxes, and the list of actors they feed.
//!
//! ractor's mailboxes are unbounded and their length is not public. So every actor of ours takes [`Tracked`]
//! messages, which its senders pass through a [`TrackedRef`]: that counts what waits, for how long, and sheds
//! what is beyond the limit. [`Introspection`] lists all actors of the process with these counters.

mod histogram;
mod introspection;
mod tracked;

pub use histogram::WaitHistogram;
pub use introspection::{ActorEntry, ActorReport, ActorState, Counters, CountersSnapshot, Introspection};
pub use tracked::{CallError, SendError, Tracked, TrackedRef};
