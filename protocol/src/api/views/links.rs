//! Links between members.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How a link stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum LinkStatus {
    /// The member at its other end answers.
    Up,
    /// An answer is missing.
    Silent,
    /// The member at its other end is believed dead.
    Down,
    /// No connection is kept any more: what was measured is the past.
    Idle,
    /// There never was a connection.
    Unmeasured,
}

/// Where the figures of a link come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum LinkSource {
    /// The member at its near end has measured them.
    Measured,
    /// The round trip follows from where both ends are in the network.
    Estimated,
    /// Nobody knows.
    Unknown,
}

/// A link, as the member at its near end sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LinkView {
    /// Near end: `CLUSTER/NODE`, or a hub.
    pub from: String,
    /// Far end.
    pub to: String,
    /// How it stands.
    pub status: LinkStatus,
    /// Where the figures come from.
    pub source: LinkSource,
    /// The member that relays its packets, unread, where neither end can dial the other; absent if they go directly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub via: Option<String>,
    /// Round trip, smoothed, in microseconds. Absent is unknown, never zero.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtt_us: Option<u64>,
    /// Least round trip of the last minute, in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtt_min_us: Option<u64>,
    /// Mean difference of consecutive round trips, in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jitter_us: Option<u64>,
    /// Share of packets lost of late, from 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss: Option<f64>,
    /// How far an estimate may be off, as a share of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<f64>,
    /// Largest UDP payload its path carries, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u16>,
    /// Age of the last measurement, or of the older of both points; absent if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age_ms: Option<u64>,
}
