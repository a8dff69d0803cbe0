//! Exhaustive search of the rules that keep a replica single.
//!
//! The rules are those of the product (`codeco_actors::swm::{slot, attempt, takeover, mandate, lease}`); the models
//! add only what surrounds them: a network that loses, repeats and reorders, a lead that does not know it was
//! replaced, a lost disk, time. [`mandate`] searches who may decide, [`lease`] how long a lease is waited out,
//! [`contact`] how long a silent cluster is.
//!
//! Each test of a weakened rule must find two copies running; its counterexample is told as a story:
//! `cargo test -p codeco-simulations --test models -- --nocapture`. The largest search
//! is left out of everyday runs; with optimisation it takes minutes: `cargo test --release … -- --include-ignored`.

mod compact;
mod contact;
mod election;
mod lease;
mod mandate;
mod message;
mod nodes;
mod parties;
mod story;
mod tests_election;
mod tests_lease;
mod tests_mandate;
