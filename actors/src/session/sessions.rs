//! The handle on the sessions of this process.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use codeco_protocol::ids::Identity;
use futures::future::BoxFuture;
use ractor::{Actor, ActorRef, SpawnErr};
use ractor_cluster::node::NodeConnectionMode;
use ractor_cluster::{NodeServer, NodeServerMessage};
use serde::Serialize;
use tokio::sync::{mpsc, oneshot, watch};

use super::cluster_wire::{self, Message};
use super::counters::{Counters, SessionCounters};
use super::facade::{CALL, CAST, Facade, FacadeMessage};
use super::frame::{self, Binding, Refusal};
use super::handshake::{Handshakes, facade_group, node_and_host};
use super::lane::{Lane, NotSent};
use super::limits::Limits;
use super::stream::QuicStream;
use super::table::{Closed, DownReason, Session, Table};

/// The same in every process: it keeps strangers on the loopback listener from a handshake, nothing more. Who is
/// who is decided by the transport.
const COOKIE: &str = "codeco/1";

/// What a frame of ractor_cluster may hold beside our message: names, tags, group membership.
pub(super) const FRAME_OVERHEAD_MAX: usize = 4 * 1024;

/// How long the end of a session is waited for before another of the same peer begins.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

type Handler = dyn Fn(Identity, Vec<u8>) -> BoxFuture<'static, Vec<u8>> + Send + Sync;

/// Something that happened to a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Calls to and from this peer work.
    Up(Identity),
    /// They no longer do.
    Down(Identity, DownReason),
    /// The session of this peer never came up.
    Refused(Identity, DownReason),
}

/// Why sessions could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// ractor refused to start the facade or the node server, for instance because it could not listen on
    /// loopback. Nothing runs.
    #[error("actor sessions could not be started: {0}; is a loopback TCP port to be had?")]
    Spawn(#[from] SpawnErr),
    /// The node server ended while it was set up.
    #[error("actor sessions ended while they were set up; see the log above")]
    Ended,
}

/// Why a session did not come up. The streams are closed then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AttachError {
    /// The limit of sessions is reached, or a session of this very connection is there already.
    #[error("session with {peer} refused: there is one over this connection already, or too many altogether")]
    TooMany {
        /// The peer.
        peer: Identity,
    },
    /// It ended before it was up.
    #[error("session with {peer} did not come up: {reason}")]
    Ended {
        /// The peer.
        peer: Identity,
        /// Why.
        reason: DownReason,
    },
}

/// Why a call has no answer, or a cast was not sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// There is no session with this peer; nothing was sent.
    #[error("no session with {peer}: nothing was sent")]
    NoSession {
        /// The peer.
        peer: Identity,
    },
    /// Too much is in flight or waiting to be sent; nothing was sent.
    #[error("too much in flight to {peer}: nothing was sent, try later")]
    Busy {
        /// The peer.
        peer: Identity,
    },
    /// The request is larger than allowed; nothing was sent.
    #[error("request of {size} bytes to {peer} is larger than the {limit} allowed: nothing was sent")]
    TooLarge {
        /// The peer.
        peer: Identity,
        /// Size of the request.
        size: usize,
        /// Size allowed.
        limit: usize,
    },
    /// No answer in time; the request may still take effect.
    #[error("{peer} did not answer within {timeout:?}: the request may still take effect")]
    Timeout {
        /// The peer.
        peer: Identity,
        /// How long was waited.
        timeout: Duration,
    },
    /// The peer refused.
    #[error("{peer} refused the request: {refusal}")]
    Refused {
        /// The peer.
        peer: Identity,
        /// Why; says whether the request may have had an effect.
        refusal: Refusal,
    },
    /// The session ended while the call was in flight; the request may have taken effect.
    #[error("the session with {peer} ended during the call: the request may have taken effect")]
    PeerGone {
        /// The peer.
        peer: Identity,
    },
}

/// A session as people see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SessionInfo {
    /// The peer.
    pub peer: Identity,
    /// Whether calls work.
    pub up: bool,
    /// Calls to the peer in flight.
    pub calls_out: usize,
    /// Calls from the peer being handled.
    pub calls_in: usize,
}

/// What the handle, the facade and the handshakes share.
pub(super) struct Shared {
    pub(super) table: Table,
    pub(super) counters: Counters,
    pub(super) limits: Limits,
    pub(super) handler: Box<Handler>,
    facade_pid: OnceLock<u64>,
    events: mpsc::Sender<Event>,
    /// Grows with every session that comes or goes.
    changes: watch::Sender<u64>,
}

impl Shared {
    /// Process number of this process's facade, as peers address it.
    pub(super) fn facade_pid(&self) -> Option<u64> {
        self.facade_pid.get().copied()
    }

    /// Ends a session, drops it from the table and tells.
    pub(super) fn end(&self, session: &Session, reason: DownReason) {
        let closed = session.close(reason.clone());
        self.table.remove(session);
        match closed {
            Closed::WhileUp => self.tell(Event::Down(session.identity.clone(), reason)),
            Closed::WhileOpening => self.tell(Event::Refused(session.identity.clone(), reason)),
            Closed::Before => {}
        }
    }

    pub(super) fn tell(&self, event: Event) {
        self.changes.send_modify(|number| *number += 1);
        if self.events.try_send(event).is_err() {
            self.counters.events_dropped.add_one();
        }
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// The sessions of this process. Clones share them. One per process: ractor's registries are global.
#[derive(Debug, Clone)]
pub struct Sessions {
    shared: Arc<Shared>,
    server: ActorRef<NodeServerMessage>,
    facade: ActorRef<FacadeMessage>,
    next_label: Arc<AtomicU64>,
}

impl Sessions {
    /// Starts the facade and the node server as `own`. `handler` is given each request with the verified identity
    /// of its sender and returns the answer; for casts the answer is dropped. It is first polled where the request is
    /// read, so it must not block; one that answers at once costs no task.
    ///
    /// # Errors
    /// [`StartError`]; nothing runs then.
    pub async fn start<H>(
        own: &Identity,
        limits: Limits,
        handler: H,
    ) -> Result<(Self, mpsc::Receiver<Event>), StartError>
    where
        H: Fn(Identity, Vec<u8>) -> BoxFuture<'static, Vec<u8>> + Send + Sync + 'static,
    {
        let (events, receiver) = mpsc::channel(limits.events_max.max(1));
        let shared = Arc::new(Shared {
            table: Table::default(),
            counters: Counters::default(),
            limits,
            handler: Box::new(handler),
            facade_pid: OnceLock::new(),
            events,
            changes: watch::Sender::new(0),
        });
        let (facade, _) = Actor::spawn(None, Facade, ()).await?;
        // Set once: this is the only facade.
        let _ = shared.facade_pid.set(facade.get_id().pid());
        ractor::pg::join(facade_group(own), vec![facade.get_cell()]);
        let (node, host) = node_and_host(own);
        let mode = Some(NodeConnectionMode::Isolated);
        let server = NodeServer::new(0, COOKIE.to_owned(), node, host, None, mode)
            .with_listen_addr(IpAddr::V4(Ipv4Addr::LOCALHOST))
            .with_max_inbound_frame_size((limits.message_bytes_max + FRAME_OVERHEAD_MAX) as u64);
        let (server, _) = match Actor::spawn(None, server, ()).await {
            Ok(started) => started,
            Err(error) => {
                facade.stop(None);
                return Err(error.into());
            }
        };
        let subscription = Box::new(Handshakes(Arc::clone(&shared)));
        let subscribe = NodeServerMessage::SubscribeToEvents { id: "codeco".to_owned(), subscription };
        server.send_message(subscribe).map_err(|_| StartError::Ended)?;
        Ok((Self { shared, server, facade, next_label: Arc::default() }, receiver))
    }

    /// Opens a session with `peer` over a fresh stream and waits until it is up. `peer` and `binding` are the
    /// connection's: identity from the certificate, binding from the TLS exporter. The side that opened the
    /// stream passes `is_server: false` and speaks first.
    ///
    /// One session per peer: a newer one replaces an older one, so keep one connection per pair.
    ///
    /// # Errors
    /// [`AttachError`]; the streams are closed then. Dropping the future closes them too.
    pub async fn attach(
        &self,
        peer: Identity,
        binding: Binding,
        send: quinn::SendStream,
        recv: quinn::RecvStream,
        is_server: bool,
    ) -> Result<(), AttachError> {
        if let Some(older) = self.shared.table.by_identity(&peer) {
            self.end_and_wait(&older, DownReason::Replaced).await;
        }
        let (opened, outcome) = oneshot::channel();
        let label = format!("session-{}", self.next_label.fetch_add(1, Relaxed));
        let limits = &self.shared.limits;
        let lane = Lane::new(send);
        let session =
            Arc::new(Session::new(label, peer.clone(), binding, lane, limits.calls_in_flight_max, opened));
        if !self.shared.table.insert(&session, limits.sessions_max) {
            return Err(AttachError::TooMany { peer });
        }
        let _closing = CloseUnlessUp { shared: &self.shared, session: &session };
        tokio::spawn(Arc::clone(&session.lane).run());
        let shared = Arc::clone(&self.shared);
        let stream = Box::new(QuicStream { shared, session: Arc::clone(&session), recv });
        let ended = |reason| AttachError::Ended { peer: peer.clone(), reason };
        self.server
            .send_message(NodeServerMessage::ConnectionOpenedExternal { stream, is_server })
            .map_err(|_| ended(DownReason::Detached))?;
        match tokio::time::timeout(limits.handshake_timeout, outcome).await {
            Ok(Ok(Ok(()))) => Ok(()),
            Ok(Ok(Err(reason))) => Err(ended(reason)),
            Ok(Err(_)) => Err(ended(DownReason::Lost)),
            Err(_) => Err(ended(DownReason::HandshakeTimeout)),
        }
    }

    /// Closes the session with this peer, if there is one; calls in flight end with [`CallError::PeerGone`].
    pub async fn detach(&self, peer: &Identity) {
        if let Some(session) = self.shared.table.by_identity(peer) {
            self.end_and_wait(&session, DownReason::Detached).await;
        }
    }

    /// Closes all sessions, then the node server and the facade.
    pub async fn stop(&self) {
        for session in self.shared.table.all() {
            self.end_and_wait(&session, DownReason::Detached).await;
        }
        // Both stop promptly or not at all; there is nothing to do about the latter.
        let _ = self.server.stop_and_wait(None, Some(CLOSE_TIMEOUT)).await;
        let _ = self.facade.stop_and_wait(None, Some(CLOSE_TIMEOUT)).await;
    }

    /// Sends a request to a peer's handler and waits for its answer.
    ///
    /// # Errors
    /// [`CallError`]: each variant says whether the request may have had an effect.
    pub async fn call(&self, peer: &Identity, body: &[u8], timeout: Duration) -> Result<Vec<u8>, CallError> {
        let session = self.session_for(peer, body.len())?;
        let no_session = || CallError::NoSession { peer: peer.clone() };
        let to = session.facade_pid().ok_or_else(no_session)?;
        let Ok(_permit) = session.calls_out.try_acquire() else { return Err(self.busy(peer)) };
        let timeout = timeout.min(self.shared.limits.call_timeout_max);
        let (tag, answer) = session.begin_call().ok_or_else(no_session)?;
        let _call = EndCall { session: &session, tag };
        let header = frame::request_header(session.binding, remaining_ms(timeout));
        let request = cluster_wire::encode(Message::Call { to, tag, what: &[] }, &[&header, body], CALL);
        self.shared.counters.calls_out.add_one();
        self.send(&session, &request)?;
        match tokio::time::timeout(timeout, answer).await {
            Ok(Ok(bytes)) => match frame::decode_answer(bytes, self.shared.limits.message_bytes_max) {
                Ok(body) => Ok(body),
                // Both ends watch the clock; it is chance which one is first.
                Err(Refusal::TooLate) => Err(self.timed_out(peer, timeout)),
                Err(refusal) => Err(CallError::Refused { peer: peer.clone(), refusal }),
            },
            Ok(Err(_)) => Err(CallError::PeerGone { peer: peer.clone() }),
            Err(_) => Err(self.timed_out(peer, timeout)),
        }
    }

    /// Sends a request without waiting for an answer; it arrives at most once, or not at all. The peer drops it
    /// if its handler takes longer than `timeout`.
    ///
    /// # Errors
    /// [`CallError`] if it was not sent.
    pub fn cast(&self, peer: &Identity, body: &[u8], timeout: Duration) -> Result<(), CallError> {
        let session = self.session_for(peer, body.len())?;
        let to = session.facade_pid().ok_or_else(|| CallError::NoSession { peer: peer.clone() })?;
        let header = frame::request_header(session.binding, remaining_ms(timeout));
        let request = cluster_wire::encode(Message::Cast { to, what: &[] }, &[&header, body], CAST);
        self.shared.counters.casts_out.add_one();
        self.send(&session, &request)
    }

    /// Follows the sessions that come and go.
    #[must_use]
    pub fn follow(&self) -> watch::Receiver<u64> {
        self.shared.changes.subscribe()
    }

    /// Whether calls to this peer work.
    #[must_use]
    pub fn is_up(&self, peer: &Identity) -> bool {
        self.shared.table.by_identity(peer).is_some_and(|session| session.facade().is_some())
    }

    /// Whether a session with this peer is being opened, by either end.
    #[must_use]
    pub fn is_opening(&self, peer: &Identity) -> bool {
        self.shared.table.by_identity(peer).is_some_and(|session| session.facade().is_none())
    }

    /// All sessions, by peer.
    #[must_use]
    pub fn list(&self) -> Vec<SessionInfo> {
        let max = self.shared.limits.calls_in_flight_max as usize;
        let info = |session: Arc<Session>| SessionInfo {
            peer: session.identity.clone(),
            up: session.facade().is_some(),
            calls_out: max - session.calls_out.available_permits(),
            calls_in: max - session.calls_in.available_permits(),
        };
        self.shared.table.all().into_iter().map(info).collect()
    }

    /// Counters since the start.
    #[must_use]
    pub fn counters(&self) -> SessionCounters {
        self.shared.counters.snapshot()
    }

    fn session_for(&self, peer: &Identity, size: usize) -> Result<Arc<Session>, CallError> {
        let limit = self.shared.limits.message_bytes_max;
        if size > limit {
            return Err(CallError::TooLarge { peer: peer.clone(), size, limit });
        }
        self.shared.table.by_identity(peer).ok_or_else(|| CallError::NoSession { peer: peer.clone() })
    }

    fn send(&self, session: &Session, request: &[u8]) -> Result<(), CallError> {
        session.lane.send(request, self.shared.limits.backlog_bytes_max).map_err(|not_sent| match not_sent {
            NotSent::Full => self.busy(&session.identity),
            NotSent::Closed => CallError::PeerGone { peer: session.identity.clone() },
        })
    }

    fn timed_out(&self, peer: &Identity, timeout: Duration) -> CallError {
        self.shared.counters.timeouts.add_one();
        CallError::Timeout { peer: peer.clone(), timeout }
    }

    fn busy(&self, peer: &Identity) -> CallError {
        self.shared.counters.busy_out.add_one();
        CallError::Busy { peer: peer.clone() }
    }

    /// The node server learns of the end before this returns, so that it does not take the next session of the
    /// peer for a duplicate.
    async fn end_and_wait(&self, session: &Arc<Session>, reason: DownReason) {
        self.shared.end(session, reason);
        if let Some(actor) = session.actor() {
            let _ = actor.wait(Some(CLOSE_TIMEOUT)).await;
        }
    }
}

/// At least one millisecond: zero means that the time is over.
fn remaining_ms(timeout: Duration) -> u32 {
    u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX).max(1)
}

/// Forgets a call however it ends.
struct EndCall<'a> {
    session: &'a Session,
    tag: u64,
}

impl Drop for EndCall<'_> {
    fn drop(&mut self) {
        self.session.end_call(self.tag);
    }
}

/// Ends a session that is not up when whoever attached it gives up.
struct CloseUnlessUp<'a> {
    shared: &'a Shared,
    session: &'a Session,
}

impl Drop for CloseUnlessUp<'_> {
    fn drop(&mut self) {
        if self.session.facade().is_none() {
            self.shared.end(self.session, DownReason::HandshakeTimeout);
        }
    }
}
