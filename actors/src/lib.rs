//! The components of CODECO (ACM, MDM, NetMA, PDLC, SWM), their supervision and their introspection.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod acm;
pub mod clock;
pub mod evidence;
pub mod fabric;
#[doc(hidden)]
pub mod hostile;
pub mod journal;
pub mod mailbox;
pub mod mdm;
pub mod netma;
pub mod pdlc;
pub mod process;
pub mod session;
pub mod supervision;
pub mod swm;
