//! From a first packet to a member, or to a refusal.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use quinn::crypto::rustls::HandshakeData;
use quinn::{Connecting, Connection, Endpoint, Incoming};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::{Instant, timeout_at};

use super::close::CloseReason;
use super::connection::{PeerConnection, PeerFacts};
use super::endpoint::Shared;
use super::refusal::RefusalReason;
use super::{hello, join, renew};
use crate::identity::{ALPN_JOIN, ALPN_RENEW};

/// Accepts until the endpoint closes. Each handshake runs in a task of its own, so that a slow one delays nobody.
pub(super) async fn run(endpoint: Endpoint, shared: Arc<Shared>, deliver: mpsc::Sender<PeerConnection>) {
    while let Some(incoming) = endpoint.accept().await {
        if let Some((connecting, permit)) = screen(incoming, endpoint.open_connections(), &shared) {
            tokio::spawn(serve(connecting, permit, shared.clone(), deliver.clone()));
        }
    }
}

/// Decides on a first packet, before it costs anything: refuse, ask for a Retry, or begin the handshake.
fn screen(incoming: Incoming, open: usize, shared: &Shared) -> Option<(Connecting, OwnedSemaphorePermit)> {
    let peer = incoming.remote_address();
    let limits = &shared.limits;
    if open >= limits.connections_max {
        incoming.refuse();
        let detail = format!("{open} connections are open, which is the limit");
        shared.meter.refuse(peer, RefusalReason::TooManyConnections, detail);
        return None;
    }
    let under_way = limits.handshakes_max.saturating_sub(shared.handshakes.available_permits());
    if under_way >= limits.retry_from && !incoming.remote_address_validated() && incoming.may_retry() {
        shared.meter.retries.fetch_add(1, Ordering::Relaxed);
        // Fails only if a Retry makes no sense, which was just checked.
        let _ = incoming.retry();
        return None;
    }
    let Ok(permit) = shared.handshakes.clone().try_acquire_owned() else {
        incoming.refuse();
        let detail = format!("{under_way} handshakes are under way, which is the limit");
        shared.meter.refuse(peer, RefusalReason::TooManyHandshakes, detail);
        return None;
    };
    match incoming.accept() {
        Ok(connecting) => Some((connecting, permit)),
        Err(e) => {
            shared.meter.refuse(peer, RefusalReason::of_handshake(&e), e.to_string());
            None
        }
    }
}

/// Everything after the first packet, within the deadline. `permit` is given back at the end.
async fn serve(
    connecting: Connecting,
    permit: OwnedSemaphorePermit,
    shared: Arc<Shared>,
    deliver: mpsc::Sender<PeerConnection>,
) {
    let peer = connecting.remote_address();
    let deadline = Instant::now() + shared.limits.handshake_deadline;
    let connection = match timeout_at(deadline, connecting).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(e)) => return shared.meter.refuse(peer, RefusalReason::of_handshake(&e), e.to_string()),
        Err(_) => {
            let detail = "the handshake did not end in time";
            return shared.meter.refuse(peer, RefusalReason::HandshakeTimeout, detail);
        }
    };
    let protocol = protocol_of(&connection);
    let joins = protocol == ALPN_JOIN;
    // Strangers get a budget of their own, so that they cannot keep members out.
    let permit = if joins {
        drop(permit);
        let Ok(permit) = shared.joins.clone().try_acquire_owned() else {
            let reason = RefusalReason::TooManyHandshakes;
            let detail = "too many want to join at the moment";
            connection.close(CloseReason::Refused(reason).code(), detail.as_bytes());
            return shared.meter.refuse(peer, reason, detail);
        };
        permit
    } else {
        permit
    };
    let served = async {
        if joins {
            join::serve(&connection, &shared).await
        } else if protocol == ALPN_RENEW {
            renew::serve(&connection, &shared, facts_of(&connection, &shared)?).await
        } else {
            serve_member(&connection, &shared, &deliver).await
        }
    };
    let late = || {
        (
            RefusalReason::HandshakeTimeout,
            "hello and hand-over, or the join, were not over in time".to_owned(),
        )
    };
    match timeout_at(deadline, served).await.unwrap_or_else(|_| Err(late())) {
        Ok(()) if joins => join::linger(&connection, &shared).await,
        Ok(()) => {}
        Err((reason, detail)) => {
            connection.close(CloseReason::Refused(reason).code(), detail.as_bytes());
            shared.meter.refuse(peer, reason, detail);
        }
    }
    drop(permit);
}

fn protocol_of(connection: &Connection) -> Vec<u8> {
    let data = connection.handshake_data().and_then(|data| data.downcast::<HandshakeData>().ok());
    data.and_then(|data| data.protocol).unwrap_or_default()
}

fn facts_of(connection: &Connection, shared: &Shared) -> Result<PeerFacts, (RefusalReason, String)> {
    PeerFacts::of(connection, shared.trust.domain(), &shared.admits)
        .ok_or_else(|| (RefusalReason::NoCertificate, "a member must show a certificate".to_owned()))?
        .map_err(|detail| (RefusalReason::WrongIdentity, detail))
}

async fn serve_member(
    connection: &Connection,
    shared: &Shared,
    deliver: &mpsc::Sender<PeerConnection>,
) -> Result<(), (RefusalReason, String)> {
    let facts = facts_of(connection, shared)?;
    if facts.chain.validity.not_after < shared.clock.now() {
        let id = &facts.chain.id.identity;
        let detail = format!("the certificate of {id} has expired: it may only get a fresh one");
        return Err((RefusalReason::CertificateExpired, detail));
    }
    let deadline = shared.limits.handshake_deadline;
    let protocol = hello::answer(connection, deadline).await.map_err(|e| (e.reason(), e.to_string()))?;
    let peer =
        PeerConnection::new(connection.clone(), facts, protocol, false, deadline, shared.meter.clone())
            .ok_or_else(|| (RefusalReason::HandshakeFailed, "TLS exports no keys".to_owned()))?;
    // If nobody takes it before the deadline, it is closed like any other that came too late.
    if deliver.send(peer).await.is_ok() {
        shared.meter.accepted.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}
