//! Bounds of actor sessions.

use std::time::Duration;

/// Bounds of actor sessions. Both ends should agree on `message_bytes_max`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Largest request or answer. Default 64 KiB: sessions are for small control messages. Longer frames close
    /// the session before they are read.
    pub message_bytes_max: usize,
    /// Calls in flight per session and direction. Default 256. More are refused, not queued.
    pub calls_in_flight_max: u32,
    /// Bytes waiting to be sent per session. Default 1 MiB: what a peer that does not read can cost.
    pub backlog_bytes_max: u64,
    /// Sessions at a time. Default 1,024, at about 40 KiB each with their connection.
    pub sessions_max: usize,
    /// Time for the handshake of a session. Default 5 s.
    pub handshake_timeout: Duration,
    /// Longest time for a call; longer timeouts are cut to it. Default 60 s.
    pub call_timeout_max: Duration,
    /// Events kept for whoever reads them. Default 1,024; more are dropped and counted.
    pub events_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message_bytes_max: 64 * 1024,
            calls_in_flight_max: 256,
            backlog_bytes_max: 1024 * 1024,
            sessions_max: 1_024,
            handshake_timeout: Duration::from_secs(5),
            call_timeout_max: Duration::from_secs(60),
            events_max: 1_024,
        }
    }
}
