//! The tasks of one connection.

use std::sync::Arc;
use std::time::Duration;

use codeco_protocol::gossip::{GossipMessage, Probe};
use codeco_protocol::ids::{Identity, MemberId};
use codeco_protocol::transport::{
    ConnectionEnd, PeerConnection, RecvStream, RefusalReason, SendStream, StreamKind,
};
use codeco_protocol::wire;
use tokio::task::JoinSet;

use super::commons::Commons;
use super::inspect::{InspectReply, InspectRequest};
use super::links::LinksMessage;
use crate::clock::boot_now;
use crate::session::Binding;
use crate::supervision::ChildRef;

/// Time between heartbeats on a gossip stream that has nothing else to say.
const HEARTBEAT: Duration = Duration::from_millis(1_000);
/// Pause between two deltas, so that many small changes travel as one.
const COALESCE: Duration = Duration::from_millis(20);
/// Heartbeats between two lists of address hints.
const HINTS_EVERY: u32 = 15;
/// How long a gossip frame may take, and how long a silent stream is believed in.
const FRAME_DEADLINE: Duration = Duration::from_secs(10);
/// Streams of one peer served at a time.
const STREAMS_MAX: usize = 64;

/// Which side opens the actor session of a pair: a node to its lead, a lead to a hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SessionRole {
    /// We open it.
    Open,
    /// The other side does, if it wants one.
    Wait,
}

/// Runs a connection until it ends.
pub(super) async fn run(
    commons: Arc<Commons>,
    connection: Arc<PeerConnection>,
    role: SessionRole,
    links: ChildRef<LinksMessage>,
) {
    let mut tasks = JoinSet::new();
    tasks.spawn(spread(Arc::clone(&commons), Arc::clone(&connection)));
    tasks.spawn(probes(Arc::clone(&connection), links.clone()));
    tasks.spawn(streams(Arc::clone(&commons), Arc::clone(&connection), links.clone()));
    if role == SessionRole::Open {
        tasks.spawn(open_session(Arc::clone(&commons), Arc::clone(&connection)));
    }
    let end = connection.closed().await;
    tasks.abort_all();
    let (member, stable_id) = (connection.identity().id, connection.stable_id());
    tell(&links, LinksMessage::Ended { member, stable_id, end }).await;
}

/// Delivers a message that must not be lost, also while the actor is being restarted.
async fn tell(links: &ChildRef<LinksMessage>, message: LinksMessage) {
    if let Some(running) = links.running().await {
        // The supervisor has given up on the actor, or the process stops: nobody is left to be told.
        let _ = running.send(message);
    }
}

/// Spreads our own facts to this peer: all of them first, then what changes.
async fn spread(commons: Arc<Commons>, connection: Arc<PeerConnection>) {
    let peer = connection.identity().clone();
    let mut version = commons.follow();
    let mut roster = commons.follow_roster();
    let mut hinted = Vec::new();
    let Ok((mut send, _recv)) = connection.open_bi(StreamKind::Gossip).await else { return };
    let mut sent = 0;
    let mut beat = 0_u32;
    loop {
        let target = *version.borrow_and_update();
        loop {
            let delta = commons.delta(sent);
            let to = delta.to;
            if wire::write_frame(&mut send, &GossipMessage::State(delta), FRAME_DEADLINE).await.is_err() {
                return;
            }
            sent = to;
            if sent >= target {
                break;
            }
        }
        // Told when they change, and now and then again: a hint that was lost on a full mailbox comes back.
        roster.mark_unchanged();
        let hints = commons.hints_for(&peer);
        if !hints.is_empty() && (hints != hinted || beat.is_multiple_of(HINTS_EVERY)) {
            let message = GossipMessage::Hints(hints.clone());
            if wire::write_frame(&mut send, &message, FRAME_DEADLINE).await.is_err() {
                return;
            }
            hinted = hints;
        }
        tokio::select! {
            changed = version.changed() => {
                if changed.is_err() {
                    return;
                }
                tokio::time::sleep(COALESCE).await;
            }
            // The sender lives as long as the commons, so this never fails.
            _ = roster.changed() => {}
            () = tokio::time::sleep(HEARTBEAT) => beat = beat.wrapping_add(1),
        }
    }
}

async fn probes(connection: Arc<PeerConnection>, links: ChildRef<LinksMessage>) {
    let from = connection.identity().id;
    while let Ok(datagram) = connection.read_datagram().await {
        match wire::decode::<Probe>(&datagram) {
            // A probe lost on a full mailbox is like one lost on the way.
            Ok(probe) => drop(links.try_send(LinksMessage::Probe { from, probe })),
            Err(error) => tracing::debug!(peer = %connection.identity(), %error, "datagram cannot be read"),
        }
    }
}

/// Serves the streams this peer opens.
async fn streams(commons: Arc<Commons>, connection: Arc<PeerConnection>, links: ChildRef<LinksMessage>) {
    let mut served = JoinSet::new();
    loop {
        let (kind, send, recv) = match connection.accept_bi().await {
            Ok(stream) => stream,
            Err(ConnectionEnd::ByUs) => return,
            Err(error) => {
                tracing::debug!(peer = %connection.identity(), %error, "no more streams");
                return;
            }
        };
        while served.try_join_next().is_some() {}
        if served.len() >= STREAMS_MAX {
            tracing::warn!(peer = %connection.identity(), "stream refused: {STREAMS_MAX} are open already");
            continue;
        }
        let (commons, connection, links) = (Arc::clone(&commons), Arc::clone(&connection), links.clone());
        served.spawn(async move {
            match kind {
                StreamKind::Gossip => hear(commons, connection, recv, links).await,
                StreamKind::ActorSession => join_session(&commons, &connection, send, recv, true).await,
                StreamKind::Introspection => answer(&commons, &connection, send, recv).await,
                StreamKind::Control | StreamKind::ChannelTunnel | StreamKind::Join => {
                    let problem = format!("a stream of kind {kind:?} is not served here");
                    connection.refuse_stream(send, recv, RefusalReason::UnknownStreamKind, &problem);
                }
            }
        });
    }
}

/// Hears what this peer says of itself.
async fn hear(
    commons: Arc<Commons>,
    connection: Arc<PeerConnection>,
    mut recv: RecvStream,
    links: ChildRef<LinksMessage>,
) {
    let peer = connection.identity();
    loop {
        match wire::read_frame::<GossipMessage>(&mut recv, FRAME_DEADLINE).await {
            Ok(GossipMessage::State(delta)) => {
                if let Err(error) = commons.learn(boot_now(), peer, delta) {
                    connection.refuse(RefusalReason::Malformed, &format!("gossip: {error}"));
                    return;
                }
            }
            Ok(GossipMessage::Hints(hints)) => {
                // Hints come again; those lost on a full mailbox are no loss.
                drop(links.try_send(LinksMessage::Hints { from: peer.clone(), hints }));
            }
            Err(error) => {
                // Without its gossip a connection is of no use: the peer may dial again, and start afresh.
                match RefusalReason::of_message(&error) {
                    Some(reason) => connection.refuse(reason, &format!("gossip: {error}")),
                    None => tracing::debug!(%peer, %error, "gossip stream ended"),
                }
                return;
            }
        }
    }
}

async fn open_session(commons: Arc<Commons>, connection: Arc<PeerConnection>) {
    let Ok((send, recv)) = connection.open_bi(StreamKind::ActorSession).await else { return };
    join_session(&commons, &connection, send, recv, false).await;
}

async fn join_session(
    commons: &Commons,
    connection: &PeerConnection,
    send: SendStream,
    recv: RecvStream,
    is_server: bool,
) {
    let peer: Identity = connection.identity().clone();
    let binding = Binding(connection.binding());
    if let Err(error) = commons.sessions.attach(peer.clone(), binding, send, recv, is_server).await {
        tracing::warn!(%peer, %error, "actor session refused");
    }
}

/// Answers one question.
async fn answer(commons: &Commons, connection: &PeerConnection, mut send: SendStream, mut recv: RecvStream) {
    let from = connection.identity();
    let request = match wire::read_frame::<InspectRequest>(&mut recv, FRAME_DEADLINE).await {
        Ok(request) => request,
        Err(error) => {
            match RefusalReason::of_message(&error) {
                Some(reason) => {
                    connection.refuse_stream(send, recv, reason, &format!("introspection: {error}"));
                }
                None => tracing::debug!(peer = %from, %error, "no question came"),
            }
            return;
        }
    };
    let answer = match commons.inspector.get() {
        Some(inspector) => inspector.answer(from, request).await,
        None => Err("this member is still starting".to_owned()),
    };
    if let Err(error) = wire::write_frame(&mut send, &InspectReply(answer), FRAME_DEADLINE).await {
        tracing::debug!(peer = %from, %error, "answer not sent");
        return;
    }
    // A finished stream is all the asker waits for; if it has gone, so be it.
    let _ = send.finish();
    let _ = send.stopped().await;
}

/// Sends a probe; a lost one is like one lost on the way.
pub(super) fn send_probe(commons: &Commons, to: MemberId, probe: Probe) {
    if let (Some(connection), Ok(bytes)) = (commons.link(to), wire::encode(&probe))
        && let Err(error) = connection.send_datagram(bytes.into())
    {
        tracing::debug!(peer = %connection.identity(), %error, "probe not sent");
    }
}

/// Opens a session on a connection that had none.
pub(super) async fn run_session(commons: Arc<Commons>, connection: Arc<PeerConnection>) {
    open_session(commons, connection).await;
}
