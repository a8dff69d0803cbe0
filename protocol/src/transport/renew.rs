//! Fresh certificates: both sides of the application protocol `codeco-renew/1`.
//!
//! It has a protocol of its own because it is the one thing that a member with an expired certificate may still do.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;

use quinn::Connection;
use tokio::time::timeout;

use super::close::CloseReason;
use super::connection::PeerFacts;
use super::endpoint::Shared;
use super::hello::{read_kind, reason_of_wire, write_kind};
use super::refusal::RefusalReason;
use super::stream::StreamKind;
use crate::identity::{Asker, RenewGrant, RenewReply, RenewRequest};
use crate::wire::{self, WireError};

/// Why there is no fresh certificate.
#[derive(Debug, thiserror::Error)]
pub enum RenewError {
    /// Nobody who may give one was reached.
    #[error(transparent)]
    Connect(#[from] super::ConnectError),
    /// The exchange failed.
    #[error("the exchange with {addr} failed: {source}")]
    Exchange {
        /// Address dialled.
        addr: SocketAddr,
        /// What went wrong.
        source: WireError,
    },
    /// The other side said no.
    #[error("{addr} gives no certificate: {why}")]
    Refused {
        /// Address dialled.
        addr: SocketAddr,
        /// Its reason.
        why: String,
    },
}

/// The asking side, on a connection whose peer has been verified.
pub(super) async fn ask(
    connection: &Connection,
    addr: SocketAddr,
    shared: &Shared,
    request: &RenewRequest,
) -> Result<RenewGrant, RenewError> {
    let deadline = shared.limits.handshake_deadline;
    let broken = |e: &quinn::ConnectionError| RenewError::Connect(super::ConnectError::of(addr, e));
    let (mut send, mut receive) = connection.open_bi().await.map_err(|e| broken(&e))?;
    let sent = async {
        write_kind(&mut send, StreamKind::Renew).await?;
        wire::write_frame(&mut send, request, deadline).await?;
        // An error here means that the peer has reset the stream; reading tells more.
        let _ = send.finish();
        wire::read_frame::<RenewReply>(&mut receive, deadline).await
    };
    let reply = sent.await.map_err(|source| match connection.close_reason() {
        Some(closed) => broken(&closed),
        None => RenewError::Exchange { addr, source },
    })?;
    connection.close(CloseReason::Unneeded.code(), b"");
    match reply {
        RenewReply::Granted(grant) => Ok(*grant),
        RenewReply::Refused(why) => Err(RenewError::Refused { addr, why: why.chars().take(500).collect() }),
    }
}

/// The other side: one request, one answer. `Err` is a reason to close the connection.
pub(super) async fn serve(
    connection: &Connection,
    shared: &Shared,
    facts: PeerFacts,
) -> Result<(), (RefusalReason, String)> {
    let deadline = shared.limits.handshake_deadline;
    let bad_wire = |e: WireError| (reason_of_wire(&e), format!("bad request for a certificate: {e}"));
    let (mut send, mut receive) =
        connection.accept_bi().await.map_err(|e| (RefusalReason::of_handshake(&e), e.to_string()))?;
    if read_kind(&mut receive).await.map_err(bad_wire)? != Some(StreamKind::Renew) {
        let detail = "only requests for a certificate are heard here".to_owned();
        return Err((RefusalReason::UnknownStreamKind, detail));
    }
    let request: RenewRequest = wire::read_frame(&mut receive, deadline).await.map_err(bad_wire)?;
    let expired = facts.chain.validity.not_after < shared.clock.now();
    let decision = match &shared.renew {
        Some(handler) => handler.renew(Asker { chain: facts.chain, expired }, request).await,
        None => Err("this process certifies nobody: ask a hub or the lead of the cluster".to_owned()),
    };
    let reply = match decision {
        Ok(grant) => {
            shared.meter.renewed.fetch_add(1, Ordering::Relaxed);
            RenewReply::Granted(Box::new(grant))
        }
        Err(why) => RenewReply::Refused(why),
    };
    wire::write_frame(&mut send, &reply, deadline).await.map_err(bad_wire)?;
    let _ = send.finish();
    // Until the other side has its answer and closes; that it is late is no refusal.
    let _ = timeout(shared.limits.close_deadline, connection.closed()).await;
    connection.close(CloseReason::Unneeded.code(), b"");
    Ok(())
}
