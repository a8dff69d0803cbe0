//! Joining: both sides of the application protocol `codeco-join/1`.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use quinn::{Connection, ConnectionError, Endpoint};
use tokio::time::timeout;

use super::close::CloseReason;
use super::config::Limits;
use super::endpoint::{ConnectError, SERVER_NAME, Shared, client_config};
use super::hello::{read_kind, reason_of_wire, write_kind};
use super::refusal::RefusalReason;
use super::stream::StreamKind;
use crate::identity::{
    Credentials, CredentialsError, Expected, JoinRefusal, JoinRefusalCode, JoinReply, JoinRequest, JoinToken,
    KeyError, KeyHash, MemberKey, TlsError, TrustClock, join_client_config,
};
use crate::wire::{self, WireError};

/// How to join.
#[derive(Debug, Clone)]
pub struct JoinConfig {
    /// UDP address to dial from; port 0 takes any free one.
    pub bind: SocketAddr,
    /// Who admits members.
    pub issuer: SocketAddr,
    /// The invitation.
    pub token: JoinToken,
    /// Time by which the issuer's certificate is judged.
    pub clock: TrustClock,
    /// Time for all of it.
    pub deadline: Duration,
}

/// Why somebody did not become a member.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The local socket.
    #[error("cannot use UDP {addr}: {source}")]
    Socket {
        /// Address wanted.
        addr: SocketAddr,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The local key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The issuer was not reached, or is not the one the token names.
    #[error("cannot join: {0}")]
    Connect(#[from] ConnectError),
    /// The exchange failed. The token may have been used up.
    #[error("cannot join at {issuer}: {source}; if the token is refused now, create another")]
    Exchange {
        /// The issuer.
        issuer: SocketAddr,
        /// What went wrong.
        source: WireError,
    },
    /// The issuer said no.
    #[error("{issuer} refused to admit us: {refusal}")]
    Refused {
        /// The issuer.
        issuer: SocketAddr,
        /// Its reason.
        refusal: JoinRefusal,
    },
    /// The issuer's answer is of no use.
    #[error("{issuer} admitted us with a certificate that cannot be used: {detail}")]
    BadGrant {
        /// The issuer.
        issuer: SocketAddr,
        /// Why not.
        detail: String,
    },
    /// Not done in time. The token may have been used, for this key: it can be shown again for a quarter of an hour.
    #[error("{issuer} did not admit us within {} ms; try again with the same state soon, or create another token", deadline.as_millis())]
    Timeout {
        /// The issuer.
        issuer: SocketAddr,
        /// The time allowed.
        deadline: Duration,
    },
}

/// Becomes a member: shows the token to the issuer and gets a certificate for `key`.
///
/// The issuer must be a hub with a certificate from the authority whose key the token names; the secret is sent to
/// nobody else.
///
/// # Errors
/// [`JoinError`].
pub async fn join_fleet(config: &JoinConfig, key: &MemberKey) -> Result<Credentials, JoinError> {
    join_or_found(config, key).await.map(|(credentials, _)| credentials)
}

/// The same; also says whether this member founds the electorate of its cluster.
///
/// # Errors
/// [`JoinError`].
pub async fn join_or_found(config: &JoinConfig, key: &MemberKey) -> Result<(Credentials, bool), JoinError> {
    let endpoint =
        Endpoint::client(config.bind).map_err(|source| JoinError::Socket { addr: config.bind, source })?;
    let JoinConfig { issuer, deadline, .. } = *config;
    let result = timeout(deadline, exchange(&endpoint, config, key)).await;
    let done = CloseReason::JoinDone;
    endpoint.close(done.code(), done.to_string().as_bytes());
    let reply = result.map_err(|_| JoinError::Timeout { issuer, deadline })??;
    // Lets the issuer know that its answer came through. It is no harm if it does not learn that.
    let _ = timeout(Limits::default().close_deadline.min(deadline), endpoint.wait_idle()).await;
    let founds = matches!(reply, JoinReply::Founder(_));
    match reply {
        JoinReply::Refused(refusal) => Err(JoinError::Refused { issuer, refusal }),
        JoinReply::Granted(grant) | JoinReply::Founder(grant) => {
            let bad = |detail: String| JoinError::BadGrant { issuer, detail };
            if KeyHash::of_certificate(&grant.ca) != Ok(config.token.ca) {
                return Err(bad("it comes from another authority than the token names".to_owned()));
            }
            let credentials = Credentials::new(key, &grant.certificate, &grant.ca)
                .map_err(|e: CredentialsError| bad(e.to_string()))?;
            if credentials.identity().role != config.token.scope {
                return Err(bad(format!("it makes us {}, not what the token says", credentials.identity())));
            }
            Ok((credentials, founds))
        }
    }
}

async fn exchange(endpoint: &Endpoint, config: &JoinConfig, key: &MemberKey) -> Result<JoinReply, JoinError> {
    let JoinConfig { issuer, deadline, .. } = *config;
    let broken = |e: &ConnectionError| JoinError::Connect(ConnectError::of(issuer, e));
    let tls = join_client_config(config.token.ca, config.clock.clone(), Expected::Hub)?;
    let limits = Limits::default();
    let quic = limits.quic().map_err(|name| TlsError { detail: format!("limit {name}") })?;
    let connection = endpoint
        .connect_with(client_config(tls, quic)?, issuer, SERVER_NAME)
        .map_err(|e| ConnectError::Local { addr: issuer, detail: e.to_string() })?
        .await
        .map_err(|e| broken(&e))?;
    let request = JoinRequest {
        token: config.token.id,
        secret: config.token.secret.clone(),
        signing_request: key.signing_request()?,
    };
    let (mut send, mut receive) = connection.open_bi().await.map_err(|e| broken(&e))?;
    let sent = async {
        write_kind(&mut send, StreamKind::Join).await?;
        wire::write_frame(&mut send, &request, deadline).await?;
        let _ = send.finish();
        wire::read_frame::<JoinReply>(&mut receive, deadline).await
    };
    sent.await.map_err(|source| match connection.close_reason() {
        Some(closed) => broken(&closed),
        None => JoinError::Exchange { issuer, source },
    })
}

/// The issuer's side: one request, one answer. `Err` is a reason to close the connection.
pub(super) async fn serve(connection: &Connection, shared: &Shared) -> Result<(), (RefusalReason, String)> {
    let peer = connection.remote_address();
    let deadline = shared.limits.handshake_deadline;
    let bad_wire = |e: WireError| (reason_of_wire(&e), format!("bad request to join: {e}"));
    let (mut send, mut receive) =
        connection.accept_bi().await.map_err(|e| (RefusalReason::of_handshake(&e), e.to_string()))?;
    if read_kind(&mut receive).await.map_err(bad_wire)? != Some(StreamKind::Join) {
        let detail = "only requests to join are heard without a certificate".to_owned();
        return Err((RefusalReason::UnknownStreamKind, detail));
    }
    let request: JoinRequest = wire::read_frame(&mut receive, deadline).await.map_err(bad_wire)?;
    let token = request.token;
    let decision = match &shared.join {
        Some(handler) => handler.join(peer, request).await.map(|grant| (grant, handler.founds(token))),
        None => Err(JoinRefusal {
            code: JoinRefusalCode::Unavailable,
            detail: "this process does not admit members: ask a hub".to_owned(),
        }),
    };
    let reply = match decision {
        Ok((grant, founds)) => {
            shared.meter.joined.fetch_add(1, Ordering::Relaxed);
            if founds { JoinReply::Founder(grant) } else { JoinReply::Granted(grant) }
        }
        Err(refusal) => {
            shared.meter.refuse(peer, refusal.code.into(), refusal.detail.as_str());
            JoinReply::Refused(refusal)
        }
    };
    wire::write_frame(&mut send, &reply, deadline).await.map_err(bad_wire)?;
    let _ = send.finish();
    Ok(())
}

/// Keeps the connection until the joining side has its answer and closes, for a while.
pub(super) async fn linger(connection: &Connection, shared: &Shared) {
    // That it is late is no refusal: all is said.
    let _ = timeout(shared.limits.close_deadline, connection.closed()).await;
    connection.close(CloseReason::JoinDone.code(), b"");
}
