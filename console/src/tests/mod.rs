//! The real client against the real server over real TLS; only the fleet behind it is made up.

mod commands;
mod failures;
mod fixture;
pub(crate) mod fleet;
mod hostile;
mod looking;
mod roles;
mod tables;
