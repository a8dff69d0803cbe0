//! How members observe each other, as people choose it.

use codeco_protocol::gossip::RingConfig;
use serde::{Deserialize, Serialize};

/// The two ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MembershipProfile {
    /// A loss is noticed fast.
    #[default]
    Lan,
    /// Few bytes, for links that are paid by what crosses them.
    Metered,
}

impl MembershipProfile {
    /// Its times and sizes.
    #[must_use]
    pub fn config(self) -> RingConfig {
        match self {
            Self::Lan => RingConfig::lan(),
            Self::Metered => RingConfig::metered(),
        }
    }
}
