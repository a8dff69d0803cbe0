//! A QUIC stream as ractor_cluster wants it, with a short cut for calls.
//!
//! Between a call and its bytes ractor_cluster has four actors and a task at each end, and each handover may
//! change threads. So frames of calls between facades are taken out of the stream before ractor_cluster sees
//! them, and put into it beside ractor_cluster's own. Everything else (handshake, groups, pings, lives and
//! deaths of actors) is ractor_cluster's, and the bytes on the wire are the same either way.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, BytesMut};
use ractor_cluster::{BoxRead, BoxWrite, ClusterBidiStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::cluster_wire::{self, LENGTH_LEN, Message, OWN_TAGS};
use super::facade;
use super::lane::Lane;
use super::sessions::{FRAME_OVERHEAD_MAX, Shared};
use super::table::Session;

/// One read takes at most this much out of the stream.
const READ_LEN: usize = 4 * 1024;

/// Reads in one go before other tasks get their turn.
const READS_PER_TURN: usize = 16;

/// The two halves of a bidirectional QUIC stream; the sending one is the session's lane.
pub(super) struct QuicStream {
    pub(super) shared: Arc<Shared>,
    pub(super) session: Arc<Session>,
    pub(super) recv: quinn::RecvStream,
}

impl ClusterBidiStream for QuicStream {
    fn split(self: Box<Self>) -> (BoxRead, BoxWrite) {
        let lane = Arc::clone(&self.session.lane);
        let backlog_max = self.shared.limits.backlog_bytes_max.saturating_mul(2);
        let reader = Reader {
            recv: self.recv,
            shared: self.shared,
            session: self.session,
            input: BytesMut::new(),
            output: BytesMut::new(),
            chunk: Box::new([0; READ_LEN]),
        };
        (Box::new(reader), Box::new(Writer { lane, backlog_max }))
    }

    /// ractor_cluster hands this back with every event of the session: it is how they find their way here.
    fn peer_label(&self) -> Option<String> {
        Some(self.session.label.clone())
    }
}

/// What ractor_cluster writes to.
struct Writer {
    lane: Arc<Lane>,
    backlog_max: u64,
}

impl AsyncWrite for Writer {
    /// Takes all or fails, so that frames of others never come between the parts of one.
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if !cluster_wire::are_whole_frames(bytes) {
            return Poll::Ready(Err(io::Error::other("ractor_cluster wrote a part of a frame")));
        }
        let sent = self.lane.send(bytes, self.backlog_max);
        Poll::Ready(sent.map(|()| bytes.len()).map_err(|_| io::ErrorKind::BrokenPipe.into()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.lane.close();
        Poll::Ready(Ok(()))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.lane.close();
    }
}

/// What ractor_cluster reads from.
struct Reader {
    recv: quinn::RecvStream,
    shared: Arc<Shared>,
    session: Arc<Session>,
    /// Read, not looked at: at most one frame and one read.
    input: BytesMut,
    /// For ractor_cluster.
    output: BytesMut,
    chunk: Box<[u8; READ_LEN]>,
}

impl AsyncRead for Reader {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        for _ in 0..READS_PER_TURN {
            this.sort_frames();
            if !this.output.is_empty() {
                let count = this.output.len().min(out.remaining());
                out.put_slice(&this.output.split_to(count));
                return Poll::Ready(Ok(()));
            }
            let mut chunk = ReadBuf::new(&mut *this.chunk);
            ready!(AsyncRead::poll_read(Pin::new(&mut this.recv), cx, &mut chunk))?;
            if chunk.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            this.input.extend_from_slice(chunk.filled());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Reader {
    /// Takes whole frames out of the input: ours are dealt with, the others go to ractor_cluster.
    fn sort_frames(&mut self) {
        let frame_max = (self.shared.limits.message_bytes_max + FRAME_OVERHEAD_MAX) as u64;
        while let Some(length) = cluster_wire::announced_len(&self.input) {
            if length > frame_max {
                // ractor_cluster has the same limit and ends the session before it reads on.
                let rest = self.input.split();
                self.output.extend_from_slice(&rest);
                return;
            }
            let frame_len = LENGTH_LEN + usize::try_from(length).unwrap_or(usize::MAX);
            if self.input.len() < frame_len {
                return;
            }
            let frame = self.input.split_to(frame_len);
            if !self.take(&frame[LENGTH_LEN..]) {
                self.output.extend_from_slice(frame.chunk());
            }
        }
    }

    /// Deals with a frame if it belongs to a call between facades.
    fn take(&self, payload: &[u8]) -> bool {
        let own = self.shared.facade_pid();
        match cluster_wire::decode(payload) {
            Some(Message::Reply { tag, what, .. }) if tag >= OWN_TAGS => {
                self.session.answer_call(tag, what.to_vec());
                true
            }
            Some(Message::Call { to, tag, what }) if own == Some(to) => {
                facade::handle(&self.shared, &self.session, what.to_vec(), Some((to, tag)));
                true
            }
            Some(Message::Cast { to, what }) if own == Some(to) => {
                facade::handle(&self.shared, &self.session, what.to_vec(), None);
                true
            }
            _ => false,
        }
    }
}
