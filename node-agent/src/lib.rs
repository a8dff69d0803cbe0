//! The node agent of CODECO: the DaemonSet's process, its node sources and its runtimes.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod agent;
pub mod guard;
pub mod runtime;
