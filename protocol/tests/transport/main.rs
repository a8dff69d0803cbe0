//! The transport over real QUIC on loopback: what is refused, and that nothing else is disturbed by it.

#![allow(clippy::unwrap_used)]

mod joining;
mod members;
mod refusals;
mod relaying;
mod renewing;
mod stage;
