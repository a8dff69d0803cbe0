//! Meta Data Manager: what this node is and has, found and declared, with the age of each fact.
//!
//! Facts spread as one entry of the node's map ([`HostFact`]), anew only when one has changed. What a fact says held at
//! the last look of its owner; the owner looks every [`LOOK_SECONDS`], and is known to live by its heartbeat: so the age
//! of a fact is at most the age of that heartbeat and one look more.
//!
//! | file | concept |
//! |---|---|
//! | `host` | facts from what the kernel says |
//! | `look` | reading that |
//! | `views` | facts as people read and select them |

mod host;
mod look;
mod views;

pub use codeco_protocol::gossip::HostFact;
pub use host::{Readings, facts};
pub use look::{LOOK_SECONDS, Looker};
pub use views::{fact_views, selected};
