//! Connections: TLS, limits, graceful stop. Each is a task of its own, so none waits for another.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::{Extension, Router};
use codeco_protocol::identity::{CredentialsSlot, provider};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

use super::guard::Peer;
use super::limits::Limits;
use super::peers::{Peers, Place};
use super::refusals::{RefusalReason, Refusals, Refused};
use super::routes::router;
use super::tokens::ApiTokens;
use crate::acm::fleet::Fleet;

/// Pause after a failed accept: it fails mostly for want of file descriptors, which others must first give back.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// TLS for the API: the hub's own certificate, TLS 1.3, HTTP/1.1, nobody asked for a certificate.
///
/// # Errors
/// If the provider cannot do TLS 1.3, which is a bug.
pub fn tls_config(slot: Arc<CredentialsSlot>) -> Result<Arc<ServerConfig>, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_cert_resolver(slot);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    Ok(Arc::new(config))
}

/// What every request needs.
pub(super) struct Shared {
    pub(super) fleet: Arc<dyn Fleet>,
    pub(super) tokens: Arc<ApiTokens>,
    pub(super) refusals: Arc<Refusals>,
    pub(super) limits: Limits,
    /// Who answers.
    pub(super) member: String,
}

/// The API server.
pub struct ApiServer {
    tls: TlsAcceptor,
    shared: Arc<Shared>,
}

impl ApiServer {
    /// A server over `fleet` that admits the bearers of `tokens` and tells `refusals` whom it did not. Answers name
    /// `member` as who gave them.
    #[must_use]
    pub fn new(
        tls: Arc<ServerConfig>,
        fleet: Arc<dyn Fleet>,
        tokens: Arc<ApiTokens>,
        refusals: Arc<Refusals>,
        limits: Limits,
        member: String,
    ) -> Self {
        let shared = Arc::new(Shared { fleet, tokens, refusals, limits, member });
        Self { tls: TlsAcceptor::from(tls), shared }
    }

    /// Answers until `shutdown` is ready, then lets requests under way end for [`Limits::grace`].
    pub async fn serve(self, listener: TcpListener, shutdown: impl Future<Output = ()>) {
        let router = router(self.shared.clone());
        let peers = Arc::new(Peers::default());
        let (stop, stopping) = watch::channel(false);
        let mut connections = JoinSet::new();
        tokio::pin!(shutdown);
        loop {
            tokio::select! {
                () = &mut shutdown => break,
                Some(_) = connections.join_next() => {}
                accepted = listener.accept() => {
                    let Some((stream, place, peer)) = self.place(accepted, &peers).await else { continue };
                    let connection = Connection {
                        tls: self.tls.clone(),
                        shared: self.shared.clone(),
                        peer,
                        _place: place,
                    };
                    connections.spawn(connection.run(stream, router.clone(), stopping.clone()));
                }
            }
        }
        drop(listener);
        stop.send_replace(true);
        let ended = async { while connections.join_next().await.is_some() {} };
        // Whoever is not ready then is cut off when the set is dropped.
        let _ = timeout(self.shared.limits.grace, ended).await;
    }

    /// A place for an accepted connection; without one it is closed at once.
    async fn place(
        &self,
        accepted: io::Result<(TcpStream, SocketAddr)>,
        peers: &Arc<Peers>,
    ) -> Option<(TcpStream, Place, IpAddr)> {
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept API connections for the moment");
                sleep(ACCEPT_PAUSE).await;
                return None;
            }
        };
        let (peer, limits) = (address.ip().to_canonical(), &self.shared.limits);
        let place = peers.take(peer, limits.connections_per_peer_max, limits.connections_max);
        if place.is_none() {
            self.shared.refuse(peer, RefusalReason::TooManyConnections, String::new());
        }
        Some((stream, place?, peer))
    }
}

impl Shared {
    fn refuse(&self, peer: IpAddr, reason: RefusalReason, route: String) {
        self.refusals.note(Refused { peer, reason, role: None, name: None, route, unreported: 0 });
    }
}

struct Connection {
    tls: TlsAcceptor,
    shared: Arc<Shared>,
    peer: IpAddr,
    _place: Place,
}

impl Connection {
    async fn run(self, stream: TcpStream, router: Router, mut stopping: watch::Receiver<bool>) {
        let limits = self.shared.limits;
        // Answers are small and complete: waiting to fill a packet only costs time.
        let _ = stream.set_nodelay(true);
        let stream = match timeout(limits.handshake, self.tls.accept(stream)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                return self.shared.refuse(self.peer, RefusalReason::Handshake, error.to_string());
            }
            Err(_) => {
                let detail = format!("no handshake within {:?}", limits.handshake);
                return self.shared.refuse(self.peer, RefusalReason::HandshakeTooSlow, detail);
            }
        };
        let router = router.layer(Extension(Peer(self.peer)));
        let http = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.headers)
            .max_headers(limits.headers_max)
            .max_buf_size(limits.buffer_bytes)
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
        tokio::pin!(http);
        let served = async {
            tokio::select! {
                result = &mut http => return result,
                _ = stopping.wait_for(|stop| *stop) => {}
            }
            http.as_mut().graceful_shutdown();
            http.await
        };
        match timeout(limits.connection, served).await {
            Ok(Err(error)) if error.is_parse() => {
                self.shared.refuse(self.peer, RefusalReason::BadHttp, error.to_string());
            }
            Ok(Err(error)) => tracing::debug!(peer = %self.peer, %error, "API connection ended"),
            Ok(Ok(())) => {}
            Err(_) => tracing::debug!(peer = %self.peer, "API connection was open for too long"),
        }
    }
}
