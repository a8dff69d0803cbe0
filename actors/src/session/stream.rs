//! A QUIC stream as ractor_cluster wants it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};

use ractor_cluster::{BoxRead, BoxWrite, ClusterBidiStream};
use tokio::io::{AsyncWrite, BufReader};

/// One read takes this much out of the stream, so that a frame's length and payload cost one lock, not two.
const READ_BUFFER_LEN: usize = 4 * 1024;

/// Bytes handed to a session and not yet taken by its QUIC stream.
///
/// ractor_cluster queues without bound, so this is what keeps a peer that does not read from costing memory.
/// Frames around messages and ractor_cluster's own control messages are written but never added; the count stops
/// at zero, so they make it too low by their share while there is a backlog, and never drift it.
#[derive(Debug, Default)]
pub(super) struct Backlog(AtomicU64);

impl Backlog {
    /// Adds a message unless more than `limit` bytes would wait.
    pub(super) fn admit(&self, bytes: usize, limit: u64) -> bool {
        let bytes = bytes as u64;
        if self.0.fetch_add(bytes, Relaxed).saturating_add(bytes) <= limit {
            return true;
        }
        self.take(bytes);
        false
    }

    fn take(&self, bytes: u64) {
        // The closure never declines, so there is no error to see.
        let _ = self.0.fetch_update(Relaxed, Relaxed, |waiting| Some(waiting.saturating_sub(bytes)));
    }
}

/// The two halves of a bidirectional QUIC stream.
pub(super) struct QuicStream {
    pub(super) label: String,
    pub(super) send: quinn::SendStream,
    pub(super) recv: quinn::RecvStream,
    pub(super) backlog: Arc<Backlog>,
}

impl ClusterBidiStream for QuicStream {
    fn split(self: Box<Self>) -> (BoxRead, BoxWrite) {
        let reader = BufReader::with_capacity(READ_BUFFER_LEN, self.recv);
        (Box::new(reader), Box::new(CountedWriter { send: self.send, backlog: self.backlog }))
    }

    /// ractor_cluster hands this back with every event of the session: it is how they find their way here.
    fn peer_label(&self) -> Option<String> {
        Some(self.label.clone())
    }
}

struct CountedWriter {
    send: quinn::SendStream,
    backlog: Arc<Backlog>,
}

impl AsyncWrite for CountedWriter {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = AsyncWrite::poll_write(Pin::new(&mut self.send), cx, bytes);
        if let Poll::Ready(Ok(count)) = &written {
            self.backlog.take(*count as u64);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_flush(Pin::new(&mut self.send), cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_shutdown(Pin::new(&mut self.send), cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backlog_beyond_its_limit_refuses_until_bytes_are_taken() {
        let backlog = Backlog::default();
        assert!(backlog.admit(60, 100));
        assert!(!backlog.admit(60, 100));
        assert!(backlog.admit(40, 100));
        assert!(!backlog.admit(1, 100));
        backlog.take(50);
        assert!(backlog.admit(50, 100));
        assert!(!backlog.admit(1, 100));
    }

    #[test]
    fn backlog_never_drifts_below_nothing() {
        let backlog = Backlog::default();
        assert!(backlog.admit(10, 100));
        backlog.take(500);
        assert!(backlog.admit(100, 100));
        assert!(!backlog.admit(1, 100));
    }
}
