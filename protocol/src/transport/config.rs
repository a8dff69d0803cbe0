//! Limits of the transport.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quinn::{IdleTimeout, VarInt};
use tokio::sync::mpsc;

use super::refusal::Refusal;
use crate::identity::{Expected, JoinHandler, RenewHandler, Trust, TrustClock};

/// What a process allows its peers, and itself.
///
/// Memory is taken on demand: an idle connection costs about 37 KiB (resident, 550 pairs in one process) whatever the
/// windows. A peer that sends faster than we read costs at most `receive_window_bytes` and the buffer for datagrams, one
/// that does not read what we send at most `send_window_bytes` and the like; so the worst case is `connections_max`
/// times their sum, 576 MiB with the defaults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Connections open at once, in both directions. 1,024. More are refused, dialling is not.
    pub connections_max: usize,
    /// Handshakes under way at once. 256. More are refused: the peer backs off.
    pub handshakes_max: usize,
    /// From this many handshakes under way, unvalidated addresses are asked to prove that they receive what we send
    /// (QUIC Retry, RFC 9000 §8.1.2): one more round trip, but no memory for forged addresses. 32.
    pub retry_from: usize,
    /// Joins under way at once. 32. More are refused: the joining side tries again.
    pub joins_max: usize,
    /// Time for handshake and hello together, or for a whole join. 5 s.
    pub handshake_deadline: Duration,
    /// A connection without a sign of life for this long is lost. 10 s. The membership notices much earlier; short
    /// cuts leave the connections of those who come back.
    pub idle_timeout: Duration,
    /// A sign of life is sent after this much silence. 4 s: longer than members wait between probes, so that it costs
    /// them nothing.
    pub keep_alive: Duration,
    /// Bidirectional streams a peer may have open at once. 32; each costs every connection 75 bytes, used or not.
    pub streams_max: u32,
    /// Bytes a peer may send on one stream before we read them. 64 KiB.
    pub stream_window_bytes: u32,
    /// Bytes a peer may send on all streams before we read them. 256 KiB.
    pub receive_window_bytes: u32,
    /// Bytes we keep for a peer until it acknowledges them. 256 KiB.
    pub send_window_bytes: u32,
    /// Datagrams kept until they are read; the oldest are dropped. 32 KiB.
    pub datagram_receive_bytes: usize,
    /// Datagrams kept until they are sent; the oldest are dropped. 32 KiB.
    pub datagram_send_bytes: usize,
    /// Accepted connections waiting for [`accept`](super::Transport::accept). 64.
    pub accept_queue_max: usize,
    /// Longest wait for the last packets at [`close_all`](super::Transport::close_all). 2 s.
    pub close_deadline: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 1_024,
            handshakes_max: 256,
            retry_from: 32,
            joins_max: 32,
            handshake_deadline: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(10),
            keep_alive: Duration::from_secs(4),
            streams_max: 32,
            stream_window_bytes: 64 << 10,
            receive_window_bytes: 256 << 10,
            send_window_bytes: 256 << 10,
            datagram_receive_bytes: 32 << 10,
            datagram_send_bytes: 32 << 10,
            accept_queue_max: 64,
            close_deadline: Duration::from_secs(2),
        }
    }
}

impl Limits {
    /// The same in quinn's terms.
    ///
    /// # Errors
    /// The name of a value that QUIC cannot express.
    pub(super) fn quic(&self) -> Result<Arc<quinn::TransportConfig>, &'static str> {
        let idle_timeout = IdleTimeout::try_from(self.idle_timeout).map_err(|_| "idle_timeout")?;
        if self.keep_alive >= self.idle_timeout {
            return Err("keep_alive (it must be shorter than idle_timeout)");
        }
        let mut config = quinn::TransportConfig::default();
        config
            .max_concurrent_bidi_streams(VarInt::from_u32(self.streams_max))
            .max_concurrent_uni_streams(VarInt::from_u32(0))
            .stream_receive_window(VarInt::from_u32(self.stream_window_bytes))
            .receive_window(VarInt::from_u32(self.receive_window_bytes))
            .send_window(u64::from(self.send_window_bytes))
            .datagram_receive_buffer_size(Some(self.datagram_receive_bytes))
            .datagram_send_buffer_size(self.datagram_send_bytes)
            .max_idle_timeout(Some(idle_timeout))
            .keep_alive_interval(Some(self.keep_alive));
        Ok(Arc::new(config))
    }
}

/// How to bind a [`Transport`](super::Transport).
#[derive(Debug, Clone)]
pub struct TransportConfig {
    /// UDP address to listen on and to dial from; port 0 takes any free one.
    pub listen: SocketAddr,
    /// Time by which certificates are judged.
    pub clock: TrustClock,
    /// Members whose connections are accepted. Any by default.
    pub admits: Expected,
    /// Limits.
    pub limits: Limits,
    /// Decides about those who want to join; without it they are refused.
    pub join: Option<Arc<dyn JoinHandler>>,
    /// Decides about those who want a fresh certificate; without it they are refused.
    pub renew: Option<Arc<dyn RenewHandler>>,
    /// Whom to trust; the authority of the credentials alone by default.
    pub trust: Option<Trust>,
    /// Gets each refusal once; when full, refusals are only counted.
    pub refusals: Option<mpsc::Sender<Refusal>>,
    /// Whether packets may be lost, delayed or cut off on purpose. Never by default.
    pub faults: bool,
}

impl TransportConfig {
    /// Listens on `listen`, everything else by default.
    #[must_use]
    pub fn new(listen: SocketAddr) -> Self {
        Self {
            listen,
            clock: TrustClock::system(),
            admits: Expected::Any,
            limits: Limits::default(),
            join: None,
            renew: None,
            trust: None,
            refusals: None,
            faults: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_that_would_lose_every_idle_connection_are_refused() {
        let limits = Limits { keep_alive: Duration::from_secs(11), ..Limits::default() };
        assert!(limits.quic().unwrap_err().contains("keep_alive"));
        assert!(Limits::default().quic().is_ok());
    }
}
