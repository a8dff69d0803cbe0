//! How much a stranger may take of the API.

use std::time::Duration;

/// Limits of the API server. Memory is at most about `connections_max × (buffer_bytes + body_bytes_max)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Longest TLS handshake. 10 s: a slow radio link needs three round trips of seconds.
    pub handshake: Duration,
    /// Longest wait for the next request's headers, also on an idle connection. 15 s.
    pub headers: Duration,
    /// Longest wait for a body. 15 s.
    pub body: Duration,
    /// Longest request, above the deadlines the fleet sets itself. 30 s.
    pub request: Duration,
    /// Longest life of a connection, which bounds slow readers. 5 min.
    pub connection: Duration,
    /// How long requests under way may take at the end. 5 s.
    pub grace: Duration,
    /// Most bytes of a body. 1 MiB.
    pub body_bytes_max: usize,
    /// Most headers of a request. 64.
    pub headers_max: usize,
    /// Most bytes buffered of a connection, and thus of all headers. 32 KiB.
    pub buffer_bytes: usize,
    /// Most connections. 256.
    pub connections_max: usize,
    /// Most connections of one address, so that one peer cannot take all. 64.
    pub connections_per_peer_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(10),
            headers: Duration::from_secs(15),
            body: Duration::from_secs(15),
            request: Duration::from_secs(30),
            connection: Duration::from_secs(300),
            grace: Duration::from_secs(5),
            body_bytes_max: 1 << 20,
            headers_max: 64,
            buffer_bytes: 32 << 10,
            connections_max: 256,
            connections_per_peer_max: 64,
        }
    }
}
