//! See [`crate::hostile`].

pub use super::hello::hello;
pub use super::relay::hostile::{relayed, relayed_sample};
