//! The fabric: this member's connections, and what it knows of others through them.
//!
//! [`Commons`] holds what many actors read: views of other members, who is alive, the connections themselves, and
//! this member's own facts. The `links` actor keeps the connections: it dials whom it should, accepts whom it may,
//! and has the membership core judge who is alive. Each connection has a handful of small tasks of its own
//! (`link.rs`): gossip out (what is said: `talk.rs`, `passing.rs`), gossip in, probes, streams, its end. Whoever cannot be
//! dialled is reached through a relay
//! (`routes.rs`, `relays.rs`).

mod budget;
mod commons;
mod echo;
mod foreign;
mod inspect;
mod link;
mod links;
pub mod maps;
pub mod pacing;
pub mod passing;
mod relays;
mod routes;
mod spoken;
pub mod talk;

pub use commons::{Commons, Linked};
pub use inspect::{InspectError, InspectReply, InspectRequest, Inspector, inspect};
pub use links::{LinksConfig, LinksMessage, Watcher, links_child};
pub use routes::Way;
