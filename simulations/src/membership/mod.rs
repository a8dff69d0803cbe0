//! Whole clusters of the membership core in one thread and virtual time, over a network that delays, loses and cuts.
//!
//! Modelled: one-way delays, loss of datagrams, reliable messages that loss delays, connections that notice a silent
//! peer after QUIC's idle time-out, dials that time out, processes that are killed, restarted or held up. Not modelled:
//! congestion, handshake cost, processor time.

mod links;
mod measure;
mod rumors;
mod scenarios;
mod world;

pub use measure::{Extent, Figures, Rest, measure, rest};
pub use scenarios::{CHURN, Effort, Row, run, run_each};
pub use world::World;
