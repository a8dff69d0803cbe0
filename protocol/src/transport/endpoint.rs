//! The endpoint of a process: bind, dial, close.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use aws_lc_rs::hmac;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{AsyncUdpSocket, ConnectionError, Endpoint, EndpointConfig, Runtime, TokioRuntime};
use tokio::sync::{Mutex, Semaphore, mpsc};
use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::accept;
use super::close::CloseReason;
use super::config::{Limits, TransportConfig};
use super::connection::{PeerConnection, PeerFacts};
use super::hello;
use super::impair::{ImpairError, Impairment, Impairments, Peers};
use super::refusal::{Meter, RefusalReason, TransportStats};
use super::relay::Relaying;
use super::renew::{self, RenewError};
use super::socket::{CidMint, FilteredSocket, fill_random};
use crate::identity::{
    ALPN_MEMBER, ALPN_RENEW, Credentials, CredentialsSlot, Expected, JoinHandler, RenewGrant, RenewHandler,
    RenewRequest, TlsError, Trust, TrustClock, member_client_config, member_server_config,
};
use crate::ids::Identity;

/// A name TLS insists on; never sent, never looked at.
pub(super) const SERVER_NAME: &str = "codeco";

/// Why an endpoint could not be made.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The socket.
    #[error("cannot listen on UDP {addr}: {source}")]
    Socket {
        /// Address wanted.
        addr: SocketAddr,
        /// What the operating system said.
        source: io::Error,
    },
    /// TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A limit QUIC cannot express.
    #[error("the transport limit {name} cannot be used")]
    Limit {
        /// Its name.
        name: &'static str,
    },
}

/// Why there is no connection. Nothing is left behind; dial again after a back-off.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The address cannot be dialled at all.
    #[error("cannot dial {addr}: {detail}")]
    Local {
        /// Address dialled.
        addr: SocketAddr,
        /// Why not.
        detail: String,
    },
    /// Nobody answered in time.
    #[error("{addr} did not answer within {} ms", deadline.as_millis())]
    Timeout {
        /// Address dialled.
        addr: SocketAddr,
        /// The time allowed.
        deadline: Duration,
    },
    /// Whoever answered is not who we want.
    #[error("{addr} is not to be trusted ({reason}): {detail}")]
    NotTrusted {
        /// Address dialled.
        addr: SocketAddr,
        /// Why.
        reason: RefusalReason,
        /// Particulars.
        detail: String,
    },
    /// The peer does not want us.
    #[error("{addr} refused us ({reason}): {detail}")]
    Refused {
        /// Address dialled.
        addr: SocketAddr,
        /// Why, as the peer says.
        reason: RefusalReason,
        /// Particulars.
        detail: String,
    },
    /// The connection broke before it was of use.
    #[error("the connection to {addr} broke: {detail}")]
    Broken {
        /// Address dialled.
        addr: SocketAddr,
        /// How.
        detail: String,
    },
}

impl ConnectError {
    /// What an error of the handshake, or just after it, means for the side that dialled.
    pub(super) fn of(addr: SocketAddr, error: &ConnectionError) -> Self {
        let detail = error.to_string();
        if let Some(reason) = RefusalReason::of_peers_close(error) {
            return Self::Refused { addr, reason, detail };
        }
        match error {
            ConnectionError::TransportError(_) => {
                Self::NotTrusted { addr, reason: RefusalReason::of_handshake(error), detail }
            }
            _ => Self::Broken { addr, detail },
        }
    }
}

/// What accepting and dialling share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) slot: Arc<CredentialsSlot>,
    pub(super) clock: TrustClock,
    pub(super) admits: Expected,
    pub(super) limits: Limits,
    pub(super) join: Option<Arc<dyn JoinHandler>>,
    pub(super) renew: Option<Arc<dyn RenewHandler>>,
    pub(super) trust: Trust,
    pub(super) meter: Arc<Meter>,
    pub(super) quic: Arc<quinn::TransportConfig>,
    pub(super) impairments: Arc<Impairments>,
    pub(super) relaying: Relaying,
    /// One permit per handshake under way.
    pub(super) handshakes: Arc<Semaphore>,
    /// One permit per join under way.
    pub(super) joins: Arc<Semaphore>,
}

struct Inner {
    endpoint: Endpoint,
    shared: Arc<Shared>,
    accepted: Mutex<mpsc::Receiver<PeerConnection>>,
    accept_task: AbortHandle,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.accept_task.abort();
        let reason = CloseReason::Dropped;
        self.endpoint.close(reason.code(), reason.to_string().as_bytes());
    }
}

/// The one endpoint of a process. Cheap to clone; when the last clone is dropped, everything closes.
#[derive(Clone)]
pub struct Transport {
    inner: Arc<Inner>,
}

impl Transport {
    /// Binds the socket and starts to accept. Call it inside a tokio runtime.
    ///
    /// # Errors
    /// [`BindError`].
    pub fn bind(config: TransportConfig, credentials: &Credentials) -> Result<Self, BindError> {
        let TransportConfig { listen, clock, admits, limits, join, renew, trust, refusals, faults } = config;
        let trust = match trust {
            Some(trust) => trust,
            None => Trust::of(credentials)?,
        };
        let impairments = Impairments::new(faults, u64::from(listen.port()));
        let quic = limits.quic().map_err(|name| BindError::Limit { name })?;
        let slot = CredentialsSlot::new(credentials.clone());
        let meter = Arc::new(Meter::new(refusals));
        let tls = member_server_config(slot.clone(), trust.clone(), clock.clone(), admits.clone())?;
        let reset_key = credentials.reset_key();
        let server = server_config(tls, &limits, quic.clone())?;
        let mut key = [0; 16];
        fill_random(&mut key);
        let own = credentials.identity().id;
        let relaying = Relaying::new(own, u128::from_le_bytes(key), listen.is_ipv6());
        let filter = |socket, mint| {
            FilteredSocket::new(socket, mint, meter.clone(), Arc::clone(&impairments), relaying.clone())
        };
        let endpoint = open(listen, server, reset_key, filter)
            .map_err(|source| BindError::Socket { addr: listen, source })?;
        let handshakes = Arc::new(Semaphore::new(limits.handshakes_max));
        let joins = Arc::new(Semaphore::new(limits.joins_max));
        let (deliver, accepted) = mpsc::channel(limits.accept_queue_max.max(1));
        let shared = Arc::new(Shared {
            slot,
            clock,
            admits,
            limits,
            join,
            renew,
            trust,
            meter,
            quic,
            impairments,
            relaying,
            handshakes,
            joins,
        });
        let accept_task = tokio::spawn(accept::run(endpoint.clone(), shared.clone(), deliver)).abort_handle();
        let inner = Inner { endpoint, shared, accepted: Mutex::new(accepted), accept_task };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Dials `addr`, which must turn out to be `expected`, and waits until it has accepted us.
    ///
    /// # Errors
    /// [`ConnectError`]. A peer that is not to be trusted is also counted and reported as refused.
    pub async fn connect(
        &self,
        addr: SocketAddr,
        expected: Expected,
    ) -> Result<PeerConnection, ConnectError> {
        let shared = &self.inner.shared;
        let deadline = shared.limits.handshake_deadline;
        let result = match timeout(deadline, self.dial(addr, expected)).await {
            Err(_) => Err(ConnectError::Timeout { addr, deadline }),
            Ok(result) => result,
        };
        match &result {
            Ok(_) => {
                shared.meter.dialled.fetch_add(1, Ordering::Relaxed);
            }
            Err(ConnectError::NotTrusted { reason, detail, .. }) => {
                shared.meter.refuse(addr, *reason, detail.as_str());
            }
            Err(_) => {}
        }
        result
    }

    /// Dials `addr`, which must turn out to be `expected`, for a fresh certificate. Works also if ours has expired.
    ///
    /// # Errors
    /// [`RenewError`].
    pub async fn renew_at(
        &self,
        addr: SocketAddr,
        expected: Expected,
        request: &RenewRequest,
    ) -> Result<RenewGrant, RenewError> {
        let shared = &self.inner.shared;
        let deadline = shared.limits.handshake_deadline;
        let exchange = async {
            let (connection, _) = self.shake_hands(addr, &expected, ALPN_RENEW).await?;
            renew::ask(&connection, addr, shared, request).await
        };
        match timeout(deadline, exchange).await {
            Err(_) => Err(ConnectError::Timeout { addr, deadline }.into()),
            Ok(result) => result,
        }
    }

    async fn shake_hands(
        &self,
        addr: SocketAddr,
        expected: &Expected,
        alpn: &[u8],
    ) -> Result<(quinn::Connection, PeerFacts), ConnectError> {
        let shared = &self.inner.shared;
        let local = |detail: String| ConnectError::Local { addr, detail };
        let (slot, trust, clock) = (shared.slot.clone(), shared.trust.clone(), shared.clock.clone());
        let tls = member_client_config(slot, trust, clock, expected.clone(), alpn)
            .map_err(|e| local(e.to_string()))?;
        let config = client_config(tls, shared.quic.clone()).map_err(|e| local(e.to_string()))?;
        let connecting =
            self.inner.endpoint.connect_with(config, addr, SERVER_NAME).map_err(|e| local(e.to_string()))?;
        let quic = connecting.await.map_err(|e| ConnectError::of(addr, &e))?;

        let trust_domain = shared.slot.get().trust_domain().clone();
        match PeerFacts::of(&quic, &trust_domain, expected) {
            Some(Ok(facts)) => Ok((quic, facts)),
            other => {
                let reason = RefusalReason::WrongIdentity;
                quic.close(CloseReason::Refused(reason).code(), b"");
                let detail = other.and_then(Result::err).unwrap_or_else(|| "no certificate".to_owned());
                Err(ConnectError::NotTrusted { addr, reason, detail })
            }
        }
    }

    async fn dial(&self, addr: SocketAddr, expected: Expected) -> Result<PeerConnection, ConnectError> {
        let shared = &self.inner.shared;
        let local = |detail: String| ConnectError::Local { addr, detail };
        let (quic, facts) = self.shake_hands(addr, &expected, ALPN_MEMBER).await?;
        let deadline = shared.limits.handshake_deadline;
        let protocol = hello::say(&quic, deadline).await.map_err(|e| match quic.close_reason() {
            Some(closed) => ConnectError::of(addr, &closed),
            None => {
                quic.close(CloseReason::Refused(e.reason()).code(), e.to_string().as_bytes());
                ConnectError::NotTrusted { addr, reason: e.reason(), detail: e.to_string() }
            }
        })?;
        PeerConnection::new(quic, facts, protocol, true, deadline, shared.meter.clone())
            .ok_or_else(|| local("TLS exports no keys".to_owned()))
    }

    /// The next member that dialled us; `None` once the transport is closed. Cancel safe.
    pub async fn accept(&self) -> Option<PeerConnection> {
        self.inner.accepted.lock().await.recv().await
    }

    /// New connections show `credentials` from now on; those that exist live on. The trust domain must be the same as
    /// before.
    pub fn renew(&self, credentials: Credentials) {
        debug_assert_eq!(self.inner.shared.trust.domain(), credentials.trust_domain(), "kept for life");
        self.inner.shared.slot.set(credentials);
    }

    /// The credentials in use.
    #[must_use]
    pub fn credentials(&self) -> Credentials {
        self.inner.shared.slot.get()
    }

    /// Whom this endpoint trusts.
    #[must_use]
    pub fn trust(&self) -> &Trust {
        &self.inner.shared.trust
    }

    /// The time certificates are judged by.
    #[must_use]
    pub fn clock(&self) -> &TrustClock {
        &self.inner.shared.clock
    }

    /// The credentials that new connections show; they follow each renewal.
    #[must_use]
    pub fn credentials_slot(&self) -> Arc<CredentialsSlot> {
        Arc::clone(&self.inner.shared.slot)
    }

    /// Treats packets to and from `peers` badly for as long as `life`, or until healed.
    ///
    /// # Errors
    /// [`ImpairError`]; also where faults are not enabled.
    pub fn impair(&self, peers: Peers, what: Impairment, life: Duration) -> Result<(), ImpairError> {
        self.inner.shared.impairments.add(peers, what, life)
    }

    /// Ends all bad treatment; returns how many rules there were.
    pub fn heal(&self) -> usize {
        self.inner.shared.impairments.heal()
    }

    /// What is relayed here, and to us.
    #[must_use]
    pub fn relaying(&self) -> &Relaying {
        &self.inner.shared.relaying
    }

    /// Who we are.
    #[must_use]
    pub fn identity(&self) -> Identity {
        self.inner.shared.slot.get().identity().clone()
    }

    /// The address we listen on, with the real port.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.endpoint.local_addr()
    }

    /// Connections open now, including those in their handshake.
    #[must_use]
    pub fn open_connections(&self) -> usize {
        self.inner.endpoint.open_connections()
    }

    /// Counters.
    #[must_use]
    pub fn stats(&self) -> TransportStats {
        self.inner.shared.meter.snapshot()
    }

    /// Closes every connection, telling each peer why, and waits until that is sent or the deadline has passed.
    /// Returns whether all of it was sent. The transport is of no use afterwards.
    pub async fn close_all(&self, reason: CloseReason) -> bool {
        let Inner { endpoint, shared, .. } = &*self.inner;
        endpoint.close(reason.code(), reason.to_string().as_bytes());
        timeout(shared.limits.close_deadline, endpoint.wait_idle()).await.is_ok()
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Transport({:?}, {})", self.inner.endpoint.local_addr().ok(), self.identity())
    }
}

/// `reset_key` stays the same over restarts. So a process that was killed can tell its peers, once it is back at its
/// address, that their connections are gone, and they need not wait for the idle time-out.
fn open(
    addr: SocketAddr,
    server: quinn::ServerConfig,
    reset_key: [u8; 32],
    filter: impl FnOnce(Arc<dyn AsyncUdpSocket>, CidMint) -> FilteredSocket,
) -> io::Result<Endpoint> {
    let mint = CidMint::new();
    let mut config = EndpointConfig::new(Arc::new(hmac::Key::new(hmac::HMAC_SHA256, &reset_key)));
    config.cid_generator(move || Box::new(mint)).grease_quic_bit(false).supported_versions(vec![1]);
    let runtime = Arc::new(TokioRuntime);
    let socket = runtime.wrap_udp_socket(std::net::UdpSocket::bind(addr)?)?;
    let socket = Arc::new(filter(socket, mint));
    Endpoint::new_with_abstract_socket(config, Some(server), socket, runtime)
}

fn server_config(
    tls: rustls::ServerConfig,
    limits: &Limits,
    quic: Arc<quinn::TransportConfig>,
) -> Result<quinn::ServerConfig, TlsError> {
    let crypto = QuicServerConfig::try_from(tls).map_err(|e| TlsError { detail: e.to_string() })?;
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    config
        .transport_config(quic)
        .max_incoming(limits.handshakes_max)
        .incoming_buffer_size(32 << 10)
        .incoming_buffer_size_total(4 << 20);
    Ok(config)
}

pub(super) fn client_config(
    tls: rustls::ClientConfig,
    quic: Arc<quinn::TransportConfig>,
) -> Result<quinn::ClientConfig, TlsError> {
    let crypto = QuicClientConfig::try_from(tls).map_err(|e| TlsError { detail: e.to_string() })?;
    let mut config = quinn::ClientConfig::new(Arc::new(crypto));
    config.transport_config(quic);
    Ok(config)
}
