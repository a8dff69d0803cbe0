//! The way out of a session: one QUIC stream that ractor_cluster and our short cut share, frame by frame.
//!
//! A frame is written to the stream by whoever sends it, without a task in between, as long as the stream takes
//! it; what it does not take waits here, bounded, for a task of the session's own. ractor_cluster's own queues
//! are unbounded; nothing of ours enters them.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use tokio::io::AsyncWrite;
use tokio::sync::Notify;

/// Why a frame was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NotSent {
    /// Too much waits already.
    Full,
    /// The stream is closed.
    Closed,
}

type Stream = Box<dyn AsyncWrite + Unpin + Send>;

struct Out {
    /// `None` once closed.
    stream: Option<Stream>,
    /// Frames, or the rest of one and frames, that the stream has not taken yet.
    waiting: VecDeque<u8>,
}

/// The way out.
pub(super) struct Lane {
    out: Mutex<Out>,
    /// Something waits, or the lane was closed.
    changed: Notify,
}

impl std::fmt::Debug for Lane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lane").field("waiting", &self.lock().waiting.len()).finish_non_exhaustive()
    }
}

impl Lane {
    /// A lane over this stream. [`Lane::run`] must be running for what the stream does not take at once.
    pub(super) fn new(stream: impl AsyncWrite + Unpin + Send + 'static) -> Self {
        let out = Out { stream: Some(Box::new(stream)), waiting: VecDeque::new() };
        Self { out: Mutex::new(out), changed: Notify::new() }
    }

    /// Sends whole frames, unless more than `limit` bytes would wait.
    pub(super) fn send(&self, frames: &[u8], limit: u64) -> Result<(), NotSent> {
        let mut out = self.lock();
        let Out { stream, waiting } = &mut *out;
        let Some(open) = stream else { return Err(NotSent::Closed) };
        let mut taken = 0;
        if waiting.is_empty() {
            // Whoever sends does not wait: the task in `run` polls again, with a waker of its own.
            match Pin::new(open).poll_write(&mut Context::from_waker(Waker::noop()), frames) {
                Poll::Ready(Ok(count)) => taken = count,
                Poll::Ready(Err(_)) => {
                    *stream = None;
                    return Err(NotSent::Closed);
                }
                Poll::Pending => {}
            }
        }
        let rest = &frames[taken..];
        if rest.is_empty() {
            return Ok(());
        }
        // A frame that has been begun must be ended.
        if taken == 0 && (waiting.len() + rest.len()) as u64 > limit {
            return Err(NotSent::Full);
        }
        waiting.extend(rest);
        drop(out);
        self.changed.notify_one();
        Ok(())
    }

    /// Closes the stream in order; what waits is lost.
    pub(super) fn close(&self) {
        let mut out = self.lock();
        out.stream = None;
        out.waiting = VecDeque::new();
        drop(out);
        self.changed.notify_one();
    }

    /// Feeds the stream with what waits, until the lane is closed.
    pub(super) async fn run(self: Arc<Self>) {
        loop {
            self.changed.notified().await;
            if std::future::poll_fn(|cx| self.poll_feed(cx)).await.is_err() {
                self.close();
                return;
            }
        }
    }

    fn poll_feed(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut out = self.lock();
        let Out { stream, waiting } = &mut *out;
        let Some(stream) = stream else { return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())) };
        while !waiting.is_empty() {
            let count = ready!(Pin::new(&mut *stream).poll_write(cx, waiting.as_slices().0))?;
            waiting.drain(..count);
        }
        Poll::Ready(Ok(()))
    }

    /// Nothing panics while it holds this lock, and what it guards is valid at every moment.
    fn lock(&self) -> MutexGuard<'_, Out> {
        self.out.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;

    #[tokio::test]
    async fn frames_the_stream_does_not_take_wait_in_order_and_within_the_limit() {
        let (near, mut far) = tokio::io::duplex(4);
        let lane = Arc::new(Lane::new(near));
        let feeding = tokio::spawn(Arc::clone(&lane).run());
        assert_eq!(lane.send(b"abcdef", 0), Ok(()), "begun, so it is ended whatever the limit");
        assert_eq!(lane.send(b"gh", 3), Err(NotSent::Full));
        assert_eq!(lane.send(b"gh", 4), Ok(()));
        let mut read = [0; 8];
        far.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"abcdefgh");
        lane.close();
        feeding.await.unwrap();
        assert_eq!(lane.send(b"i", 100), Err(NotSent::Closed));
        assert_eq!(far.read(&mut read).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn lane_closed_by_the_other_end_says_so() {
        let (near, far) = tokio::io::duplex(4);
        let lane = Arc::new(Lane::new(near));
        drop(far);
        assert_eq!(lane.send(b"a", 100), Err(NotSent::Closed));
        assert_eq!(lane.send(b"a", 100), Err(NotSent::Closed));
    }
}
