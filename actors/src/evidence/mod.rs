//! Evidence: what happened and why, kept for people. Bounded, and never in the way of a decision.

mod decisions;
mod events;
mod ring;

pub use decisions::{DecisionLog, POLICY, decision_view, profile_of, profile_on_wire};
pub use events::{EventLog, Note};
pub use ring::RingFile;
