//! Privacy-preserving Decentralised Learning and Context-awareness: forecasts of load, and how far they are trusted.
//!
//! Advice, never authority. A node keeps its measurements to itself ([`history`]) and tells a clipped summary; a hub
//! trains a model on such summaries; leads make forecasts with it ([`forecaster`]) and judge them against the best of
//! simple baselines ([`judge`], [`gate`]). Only while the model wins does its forecast become one part of a score.
//!
//! All of this is pure: no clock, no file, no tensor library. [`sampler`] and [`store`] are the shell.

pub mod baseline;
pub mod forecaster;
pub mod gate;
pub mod history;
pub mod judge;
pub mod loss;
pub mod outlook;
pub mod sampler;
pub mod store;
pub mod views;

pub use codeco_protocol::gossip::{HORIZON, WINDOW};

/// Length of a step of load when nobody says otherwise, in milliseconds: as in most public series.
pub const LOAD_STEP_MS_DEFAULT: u32 = 300_000;
/// Lengths of a step that are allowed.
pub const LOAD_STEP_MS: std::ops::RangeInclusive<u32> = 120..=3_600_000;

/// Whether a step may be this long. A step is sixty fine buckets of whole milliseconds, or its number would be another one
/// for whoever counts in steps.
#[must_use]
pub fn is_load_step(step_ms: u32) -> bool {
    LOAD_STEP_MS.contains(&step_ms) && u64::from(step_ms).is_multiple_of(history::FINE_PER_STEP)
}
