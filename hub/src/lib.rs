//! The hub of CODECO: the Deployment's process, ACM, and the HTTP API.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub use codeco_actors::acm::{api, fleet};

pub mod learner;
pub mod process;
