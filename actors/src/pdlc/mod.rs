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

pub use codeco_protocol::gossip::{HORIZON, WINDOW};
