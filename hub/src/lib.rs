//! The hub of CODECO: the Deployment's process, ACM, and the HTTP API.
#![cfg_attr(test, allow(clippy::unwrap_used))]
// An `ApiError` carries all that a person needs; it is made at most once a request.
#![allow(clippy::result_large_err)]

pub mod api;
pub mod fleet;
pub mod learner;
pub mod process;
