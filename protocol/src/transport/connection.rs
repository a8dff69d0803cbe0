//! A member at the other end.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quinn::{Connection, ConnectionError, ReadError, RecvStream, SendDatagramError, SendStream};
use rustls::pki_types::CertificateDer;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout, timeout_at};

use super::close::CloseReason;
use super::refusal::{Meter, RefusalReason};
use super::relay::Tag;
use super::stream::StreamKind;
use crate::identity::{ChainSummary, Expected, SpiffeId, TrustDomain};
use crate::ids::Identity;
use crate::units::WallTime;

/// Label of the TLS exporter (RFC 8446 §7.5) that bindings are derived with.
const BINDING_LABEL: &[u8] = b"EXPORTER-codeco-binding-1";

/// The same for the tags of relayed packets.
const TAG_LABEL: &[u8] = b"EXPORTER-codeco-relay-1";

/// How a connection ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectionEnd {
    /// We closed it.
    #[error("closed by us")]
    ByUs,
    /// The peer closed it.
    #[error("closed by the peer ({reason}): {detail}")]
    ByPeer {
        /// Its reason.
        reason: CloseReason,
        /// What it added, cut to 200 characters.
        detail: String,
    },
    /// No sign of life for the idle time-out.
    #[error("no sign of life from the peer")]
    TimedOut,
    /// The peer does not know this connection any more: it has restarted, or closed it a while ago and we missed that
    /// (QUIC stateless reset, RFC 9000 §10.3).
    #[error("the peer does not know this connection any more: it has restarted, or closed it unheard")]
    Forgotten,
    /// Anything else.
    #[error("connection failed: {detail}")]
    Failed {
        /// What the transport said.
        detail: String,
    },
}

impl From<ConnectionError> for ConnectionEnd {
    fn from(error: ConnectionError) -> Self {
        match error {
            ConnectionError::LocallyClosed => Self::ByUs,
            ConnectionError::TimedOut => Self::TimedOut,
            ConnectionError::Reset => Self::Forgotten,
            ConnectionError::ApplicationClosed(close) => Self::ByPeer {
                reason: CloseReason::of_code(close.error_code),
                detail: String::from_utf8_lossy(&close.reason).chars().take(200).collect(),
            },
            other => Self::Failed { detail: other.to_string() },
        }
    }
}

/// Why there is no stream.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// The connection is over.
    #[error("no stream: {0}")]
    Ended(#[from] ConnectionEnd),
    /// The peer allows no more streams at the moment.
    #[error("the peer let us open no {kind:?} stream within {} ms: it has too many open", deadline.as_millis())]
    Deadline {
        /// Kind of stream.
        kind: StreamKind,
        /// The time allowed.
        deadline: Duration,
    },
}

/// Why a datagram was not sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DatagramError {
    /// The connection is over.
    #[error("no datagram: {0}")]
    Ended(#[from] ConnectionEnd),
    /// Longer than fits into a packet on this path.
    #[error("a datagram of {len} bytes does not fit: at most {max} at the moment")]
    TooLong {
        /// Its length.
        len: usize,
        /// The limit of this path, now.
        max: usize,
    },
}

/// What the transport has counted on the path of a connection, since its beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PathSample {
    /// Which connection: the counts of another one begin anew.
    pub connection: usize,
    /// Smoothed round trip (RFC 9002 §5.3).
    pub smoothed: Duration,
    /// ACK frames received.
    pub acks: u64,
    /// Packets sent.
    pub sent: u64,
    /// Packets lost, as far as is known.
    pub lost: u64,
    /// Largest UDP payload the path is known to carry, in bytes.
    pub mtu: u16,
}

/// An authenticated connection with a member. Cheap to clone; when the last clone is dropped, it closes.
#[derive(Clone)]
pub struct PeerConnection {
    inner: Arc<Inner>,
}

struct Inner {
    quic: Connection,
    facts: PeerFacts,
    protocol: u16,
    binding: [u8; 16],
    /// What the side that dialled shows with relayed packets, and what the other one does.
    tags: (Tag, Tag),
    dialled: bool,
    kind_deadline: Duration,
    meter: Arc<Meter>,
    /// A stream whose first byte has not come yet. Kept here, so that `accept_bi` may be cancelled at any point.
    unnamed: Mutex<Option<Unnamed>>,
}

struct Unnamed {
    send: SendStream,
    receive: RecvStream,
    deadline: Instant,
}

/// What the peer's certificate says.
pub(super) struct PeerFacts {
    identity: Identity,
    pub(super) chain: ChainSummary,
}

impl PeerFacts {
    /// Reads the certificate that TLS has verified; `None` if the peer showed none.
    ///
    /// Name and expectation were checked during the handshake; checking them again here costs little, and means that
    /// no mistake in a TLS configuration can hand out a wrong identity.
    pub(super) fn of(
        connection: &Connection,
        trust_domain: &TrustDomain,
        expected: &Expected,
    ) -> Option<Result<Self, String>> {
        let shown = connection.peer_identity()?.downcast::<Vec<CertificateDer<'static>>>().ok()?;
        let certificate = shown.first()?;
        let read = || {
            let id = SpiffeId::of_certificate(certificate).map_err(|e| e.to_string())?;
            let identity = id.within(trust_domain).map_err(|e| e.to_string())?;
            if !expected.admits(&identity) {
                return Err(format!("the peer is {identity}, but {expected} was expected"));
            }
            let chain = ChainSummary::of(&shown).map_err(|e| e.to_string())?;
            Ok(Self { identity, chain })
        };
        Some(read())
    }
}

impl PeerConnection {
    /// `None` if TLS exports no keys, which it always does after a handshake.
    pub(super) fn new(
        quic: Connection,
        facts: PeerFacts,
        protocol: u16,
        dialled: bool,
        kind_deadline: Duration,
        meter: Arc<Meter>,
    ) -> Option<Self> {
        let mut binding = [0; 16];
        quic.export_keying_material(&mut binding, BINDING_LABEL, &[]).ok()?;
        let mut tags = ([0; 8], [0; 8]);
        quic.export_keying_material(&mut tags.0, TAG_LABEL, b"dialler").ok()?;
        quic.export_keying_material(&mut tags.1, TAG_LABEL, b"acceptor").ok()?;
        let unnamed = Mutex::new(None);
        let inner = Inner { quic, facts, protocol, binding, tags, dialled, kind_deadline, meter, unnamed };
        Some(Self { inner: Arc::new(inner) })
    }

    /// Who the peer is, by its certificate.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.inner.facts.identity
    }

    /// When the certificate ends that the peer showed at the handshake.
    #[must_use]
    pub fn certificate_ends(&self) -> WallTime {
        self.inner.facts.chain.validity.not_after
    }

    /// What the certificates say that the peer showed at the handshake.
    #[must_use]
    pub fn chain(&self) -> &ChainSummary {
        &self.inner.facts.chain
    }

    /// Where the peer is at the moment; changes when it moves.
    #[must_use]
    pub fn remote_addr(&self) -> SocketAddr {
        self.inner.quic.remote_address()
    }

    /// Whether the peer is reached through a relay; [`remote_addr`](Self::remote_addr) means something in this process
    /// only then.
    #[must_use]
    pub fn is_relayed(&self) -> bool {
        super::relay::is_relayed(self.remote_addr())
    }

    /// What we show with relayed packets, and what the peer does.
    pub(super) fn relay_tags(&self) -> (Tag, Tag) {
        let (dialler, acceptor) = self.inner.tags;
        if self.inner.dialled { (dialler, acceptor) } else { (acceptor, dialler) }
    }

    /// Our own address in the eyes of the peer, where the system tells.
    pub(super) fn local_ip(&self) -> Option<std::net::IpAddr> {
        self.inner.quic.local_ip()
    }

    /// Protocol version agreed on.
    #[must_use]
    pub fn protocol(&self) -> u16 {
        self.inner.protocol
    }

    /// Whether we dialled (and not the peer).
    #[must_use]
    pub fn is_dialled(&self) -> bool {
        self.inner.dialled
    }

    /// Tells connections of this process apart; never used twice while both exist.
    #[must_use]
    pub fn stable_id(&self) -> usize {
        self.inner.quic.stable_id()
    }

    /// Sixteen bytes that both ends of this connection know and nobody else: ties other things, like an actor
    /// session, to it (RFC 9266 in spirit).
    #[must_use]
    pub fn binding(&self) -> [u8; 16] {
        self.inner.binding
    }

    /// More secret bytes that both ends derive alike from `label` and `context` (RFC 8446 §7.5).
    ///
    /// # Errors
    /// [`ConnectionEnd::Failed`] if `output` is longer than TLS can export (8 KiB).
    pub fn export_keying_material(
        &self,
        output: &mut [u8],
        label: &[u8],
        context: &[u8],
    ) -> Result<(), ConnectionEnd> {
        self.inner
            .quic
            .export_keying_material(output, label, context)
            .map_err(|e| ConnectionEnd::Failed { detail: format!("cannot export keys: {e:?}") })
    }

    /// Smoothed round-trip time.
    #[must_use]
    pub fn rtt(&self) -> Duration {
        self.inner.quic.rtt()
    }

    /// What the transport has counted on this path.
    #[must_use]
    pub fn path(&self) -> PathSample {
        let stats = self.inner.quic.stats();
        PathSample {
            connection: self.stable_id(),
            smoothed: stats.path.rtt,
            acks: stats.frame_rx.acks,
            sent: stats.path.sent_packets,
            lost: stats.path.lost_packets,
            mtu: stats.path.current_mtu,
        }
    }

    /// Opens a stream of `kind`. The peer sees it at once.
    ///
    /// # Errors
    /// [`StreamError`].
    pub async fn open_bi(&self, kind: StreamKind) -> Result<(SendStream, RecvStream), StreamError> {
        let deadline = self.inner.kind_deadline;
        let open = async {
            let (mut send, receive) = self.inner.quic.open_bi().await?;
            if let Err(quinn::WriteError::ConnectionLost(e)) = send.write_all(&[kind.byte()]).await {
                return Err(e);
            }
            Ok((send, receive))
        };
        match timeout(deadline, open).await {
            Err(_) => Err(StreamError::Deadline { kind, deadline }),
            Ok(result) => result.map_err(|e| ConnectionEnd::from(e).into()),
        }
    }

    /// The next stream the peer opens. Streams of unknown kind are reset, counted and passed over.
    ///
    /// Cancel safe. Several callers take turns.
    ///
    /// # Errors
    /// [`ConnectionEnd`].
    pub async fn accept_bi(&self) -> Result<(StreamKind, SendStream, RecvStream), ConnectionEnd> {
        let mut slot = self.inner.unnamed.lock().await;
        loop {
            if slot.is_none() {
                let (send, receive) = self.inner.quic.accept_bi().await?;
                let deadline = Instant::now() + self.inner.kind_deadline;
                *slot = Some(Unnamed { send, receive, deadline });
            }
            let Some(unnamed) = slot.as_mut() else { continue };
            let mut first = [0; 1];
            let read = timeout_at(unnamed.deadline, unnamed.receive.read(&mut first)).await;
            let Some(Unnamed { send, receive, .. }) = slot.take() else { continue };
            let problem = match read {
                Ok(Ok(Some(1))) => match StreamKind::of_byte(first[0]) {
                    Some(kind) if !matches!(kind, StreamKind::Join | StreamKind::Renew) => {
                        return Ok((kind, send, receive));
                    }
                    _ => format!("a stream starts with {}, which is no kind of stream here", first[0]),
                },
                Ok(Ok(_)) => "a stream ended before it said its kind".to_owned(),
                Ok(Err(ReadError::ConnectionLost(e))) => return Err(e.into()),
                // Reset by the peer itself: it thought better of it.
                Ok(Err(_)) => continue,
                Err(_) => "a stream did not say its kind in time".to_owned(),
            };
            self.refuse_stream(send, receive, RefusalReason::UnknownStreamKind, &problem);
        }
    }

    /// Ends a stream of the peer's that is not acceptable; counted and reported. The connection goes on.
    pub fn refuse_stream(
        &self,
        mut send: SendStream,
        mut receive: RecvStream,
        reason: RefusalReason,
        problem: &str,
    ) {
        let code = CloseReason::Refused(reason).code();
        // Errors mean that the stream is over already.
        let _ = send.reset(code);
        let _ = receive.stop(code);
        self.note_refusal(reason, problem);
    }

    /// Closes the connection because of what the peer sent; counted and reported.
    pub fn refuse(&self, reason: RefusalReason, problem: &str) {
        self.note_refusal(reason, problem);
        self.inner.quic.close(CloseReason::Refused(reason).code(), problem.as_bytes());
    }

    /// Counts and reports something the peer sent and that is not taken. Stream and connection go on.
    pub fn note_refusal(&self, reason: RefusalReason, problem: &str) {
        self.inner.meter.refuse(self.remote_addr(), reason, format!("{}: {problem}", self.identity()));
    }

    /// Sends an unreliable datagram. When the buffer is full, the oldest unsent one is dropped.
    ///
    /// # Errors
    /// [`DatagramError`].
    pub fn send_datagram(&self, datagram: Bytes) -> Result<(), DatagramError> {
        let len = datagram.len();
        self.inner.quic.send_datagram(datagram).map_err(|e| self.datagram_error(e, len))
    }

    /// Sends an unreliable datagram, waiting for room in the buffer instead of dropping older ones.
    ///
    /// # Errors
    /// [`DatagramError`].
    pub async fn send_datagram_wait(&self, datagram: Bytes) -> Result<(), DatagramError> {
        let len = datagram.len();
        self.inner.quic.send_datagram_wait(datagram).await.map_err(|e| self.datagram_error(e, len))
    }

    fn datagram_error(&self, error: SendDatagramError, len: usize) -> DatagramError {
        match error {
            SendDatagramError::ConnectionLost(e) => DatagramError::Ended(e.into()),
            SendDatagramError::TooLarge
            | SendDatagramError::UnsupportedByPeer
            | SendDatagramError::Disabled => DatagramError::TooLong { len, max: self.datagram_len_max() },
        }
    }

    /// Longest datagram that fits at the moment, in bytes; 0 if the peer takes none.
    #[must_use]
    pub fn datagram_len_max(&self) -> usize {
        self.inner.quic.max_datagram_size().unwrap_or(0)
    }

    /// The next datagram from the peer. Cancel safe.
    ///
    /// # Errors
    /// [`ConnectionEnd`].
    pub async fn read_datagram(&self) -> Result<Bytes, ConnectionEnd> {
        Ok(self.inner.quic.read_datagram().await?)
    }

    /// Closes the connection now, telling the peer why. What was not acknowledged yet may be lost; a peer that is paused
    /// just then may see [`ConnectionEnd::Forgotten`] instead of the reason.
    pub fn close(&self, reason: CloseReason) {
        self.inner.quic.close(reason.code(), reason.to_string().as_bytes());
    }

    /// Waits until the connection is over.
    pub async fn closed(&self) -> ConnectionEnd {
        self.inner.quic.closed().await.into()
    }

    /// How it ended, if it has.
    #[must_use]
    pub fn end(&self) -> Option<ConnectionEnd> {
        self.inner.quic.close_reason().map(ConnectionEnd::from)
    }
}

impl fmt::Debug for PeerConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PeerConnection({} at {}, #{})", self.identity(), self.remote_addr(), self.stable_id())
    }
}
