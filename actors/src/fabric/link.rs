//! The tasks of one connection.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use codeco_protocol::gossip::{GossipMessage, LIST_MAX, Mark, Probe, Rumor, SealedDelta, StateError};
use codeco_protocol::ids::{Identity, MemberId};
use codeco_protocol::transport::{
    ConnectionEnd, PeerConnection, RecvStream, RefusalReason, SendStream, StreamKind,
};
use codeco_protocol::units::{BootTime, Micros};
use codeco_protocol::wire;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::budget::Budget;
use super::commons::{Commons, LearnError};
use super::inspect::{InspectReply, InspectRequest, inspect};
use super::links::LinksMessage;
use super::talk::{Outgoing, Talk};
use crate::clock::boot_now;
use crate::session::Binding;
use crate::supervision::ChildRef;

/// A stream that is silent for this long hangs.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// How long a gossip frame may take.
const FRAME_DEADLINE: Duration = Duration::from_secs(10);
/// Probes of one peer taken in a second; an honest one sends a few.
const PROBES_PER_SECOND: u64 = 200;
/// Gossip frames of one peer taken in a second.
const FRAMES_PER_SECOND: u64 = 500;
/// Rumors of one peer taken in a second; when a cluster heals, each member has one of every other.
const RUMORS_PER_SECOND: u64 = 2_000;
/// Streams one peer may open in a second.
const STREAMS_PER_SECOND: u64 = 50;
/// Between two questions for all facts of one owner.
const ASK_AGAIN: Micros = Micros::from_secs(5);
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
    outbox: mpsc::Sender<Outgoing>,
    waiting: mpsc::Receiver<Outgoing>,
) {
    let mut tasks = JoinSet::new();
    tasks.spawn(spread(Arc::clone(&commons), Arc::clone(&connection), waiting));
    tasks.spawn(probes(Arc::clone(&commons), Arc::clone(&connection), links.clone()));
    tasks.spawn(streams(Arc::clone(&commons), Arc::clone(&connection), links.clone(), outbox));
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

/// Tells this peer our own facts, and what else [`Talk`] has to say.
async fn spread(
    commons: Arc<Commons>,
    connection: Arc<PeerConnection>,
    mut waiting: mpsc::Receiver<Outgoing>,
) {
    let peer = connection.identity().clone();
    let passes = peer.cluster().is_some() && peer.cluster() == commons.own.cluster();
    let mut version = commons.follow();
    let mut relayed = commons.follow_relayed();
    let mut roster = commons.follow_roster();
    let mut point = commons.follow_own_point();
    let Ok((mut send, _recv)) = connection.open_bi(StreamKind::Gossip).await else { return };
    let mut talk = Talk::new(peer.clone(), passes, boot_now());
    loop {
        // Whatever changes from here on wakes it again.
        version.mark_unchanged();
        relayed.mark_unchanged();
        roster.mark_unchanged();
        point.mark_unchanged();
        let words = match talk.say(boot_now(), &mut &*commons) {
            Ok(words) => words,
            Err(error) => {
                tracing::error!(%peer, %error, "nobody is told");
                return;
            }
        };
        for word in words {
            if write(&commons, &mut send, &word).await.is_err() {
                return;
            }
        }
        let wait = Duration::from_micros(talk.next().since(boot_now()).0);
        // The senders live as long as the commons, so these never fail.
        let outgoing = tokio::select! {
            _ = version.changed() => None,
            _ = relayed.changed(), if talk.follows_others() => None,
            _ = roster.changed() => None,
            _ = point.changed() => None,
            () = tokio::time::sleep(wait) => None,
            outgoing = waiting.recv() => match outgoing {
                None => return,
                some => some,
            },
        };
        let mut next = outgoing;
        while let Some(outgoing) = next {
            talk.take(boot_now(), outgoing, &&*commons);
            next = waiting.try_recv().ok();
        }
    }
}

/// A stream that cannot be written to has ended; its connection tells why.
async fn write(commons: &Commons, send: &mut SendStream, message: &GossipMessage) -> Result<(), ()> {
    wire::write_frame(send, message, FRAME_DEADLINE).await.map_err(drop)?;
    commons.spoken.message(message);
    Ok(())
}

async fn probes(commons: Arc<Commons>, connection: Arc<PeerConnection>, links: ChildRef<LinksMessage>) {
    let from = connection.identity().id;
    let mut budget = Budget::new(PROBES_PER_SECOND, 2 * PROBES_PER_SECOND, boot_now());
    while let Ok(datagram) = connection.read_datagram().await {
        if !budget.take(boot_now(), 1) {
            if budget.is_to_be_told() {
                connection.note_refusal(RefusalReason::Flood, "more probes than a member sends are dropped");
            }
            continue;
        }
        match wire::decode::<Probe>(&datagram) {
            // Answered here and now: no queue of this process is part of what the other end measures.
            Ok(Probe::Echo { nonce }) => send_on(&connection, Probe::Echoed { nonce }),
            Ok(Probe::Echoed { nonce }) => commons.note_echo(from, nonce, boot_now()),
            // A probe lost on a full mailbox is like one lost on the way.
            Ok(probe) => drop(links.try_send(LinksMessage::Probe { from, probe })),
            Err(error) => tracing::debug!(peer = %connection.identity(), %error, "datagram cannot be read"),
        }
    }
}

/// Serves the streams this peer opens.
async fn streams(
    commons: Arc<Commons>,
    connection: Arc<PeerConnection>,
    links: ChildRef<LinksMessage>,
    outbox: mpsc::Sender<Outgoing>,
) {
    let mut served = JoinSet::new();
    let mut budget = Budget::new(STREAMS_PER_SECOND, 8 * STREAMS_PER_SECOND, boot_now());
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
        if let Some(wait) = budget.take_or_wait(boot_now(), 1) {
            if budget.is_to_be_told() {
                let problem = "more streams than a member opens: it is held back";
                connection.note_refusal(RefusalReason::Flood, problem);
            }
            tokio::time::sleep(Duration::from_micros(wait.0)).await;
        }
        let (commons, connection, links) = (Arc::clone(&commons), Arc::clone(&connection), links.clone());
        let outbox = outbox.clone();
        served.spawn(async move {
            match kind {
                StreamKind::Gossip => hear(commons, connection, recv, links, outbox).await,
                StreamKind::ActorSession => join_session(&commons, &connection, send, recv, true).await,
                StreamKind::Introspection => answer(&commons, &connection, send, recv).await,
                StreamKind::Control | StreamKind::ChannelTunnel | StreamKind::Join | StreamKind::Renew => {
                    let problem = format!("a stream of kind {kind:?} is not served here");
                    connection.refuse_stream(send, recv, RefusalReason::UnknownStreamKind, &problem);
                }
            }
        });
    }
}

/// Hears what this peer says of itself, and what it passes on.
async fn hear(
    commons: Arc<Commons>,
    connection: Arc<PeerConnection>,
    mut recv: RecvStream,
    links: ChildRef<LinksMessage>,
    outbox: mpsc::Sender<Outgoing>,
) {
    let peer = connection.identity();
    let of_ours = |other: &Identity| other.cluster().is_some() && other.cluster() == commons.own.cluster();
    let mut frames = Budget::new(FRAMES_PER_SECOND, 8 * FRAMES_PER_SECOND, boot_now());
    let mut rumors_left = Budget::new(RUMORS_PER_SECOND, 8 * RUMORS_PER_SECOND, boot_now());
    let mut asked: BTreeMap<MemberId, BootTime> = BTreeMap::new();
    loop {
        // One that says too much is heard more slowly: what it sends waits at its own end.
        if let Some(wait) = frames.take_or_wait(boot_now(), 1) {
            if frames.is_to_be_told() {
                let problem = "more gossip than a member has to tell: it is held back";
                connection.note_refusal(RefusalReason::Flood, problem);
            }
            tokio::time::sleep(Duration::from_micros(wait.0)).await;
        }
        let message = match wire::read_frame::<GossipMessage>(&mut recv, SILENCE_MAX).await {
            Ok(message) => message,
            Err(error) => {
                // Without its gossip a connection is of no use: the peer may dial again, and start afresh.
                match RefusalReason::of_message(&error) {
                    Some(reason) => connection.refuse(reason, &format!("gossip: {error}")),
                    None => tracing::debug!(%peer, %error, "gossip stream ended"),
                }
                return;
            }
        };
        match message {
            GossipMessage::State(delta) => match commons.learn(boot_now(), peer, delta) {
                // Of an earlier life: the member has been heard through others since.
                Ok(()) | Err(StateError::Old { .. }) => {}
                Err(error) => {
                    connection.refuse(RefusalReason::Malformed, &format!("gossip: {error}"));
                    return;
                }
            },
            GossipMessage::Sealed(sealed) if sealed.owner == *peer => {
                match commons.learn_sealed(boot_now(), sealed, true) {
                    Ok(()) | Err(LearnError::State(StateError::Old { .. })) => {}
                    Err(LearnError::State(error)) => {
                        connection.refuse(RefusalReason::Malformed, &format!("gossip: {error}"));
                        return;
                    }
                    Err(LearnError::NoKey) => {
                        connection.refuse(RefusalReason::Malformed, "gossip: facts without certificates");
                        return;
                    }
                    Err(LearnError::Forged(why)) => {
                        connection.refuse(RefusalReason::Forged, &format!("gossip: {why}"));
                        return;
                    }
                }
            }
            GossipMessage::Sealed(sealed) if of_ours(peer) && of_ours(&sealed.owner) => {
                if sealed.owner != commons.own
                    && let Some(answer) = hear_relayed(&commons, &connection, &mut asked, sealed)
                {
                    // One that does not fit is asked for again with the next change of that map.
                    drop(outbox.try_send(answer));
                }
            }
            GossipMessage::Relay { owner, .. } if of_ours(peer) && of_ours(&owner) => {
                let problem = format!("gossip: facts of {owner} without its signatures");
                connection.note_refusal(RefusalReason::Forged, &problem);
            }
            GossipMessage::Have(marks) if of_ours(peer) => {
                if outbox.try_send(Outgoing::PeerAsks(marks)).is_err() {
                    return;
                }
            }
            GossipMessage::Offer(marks) if of_ours(peer) => {
                if outbox.try_send(Outgoing::PeerOffers(marks)).is_err() {
                    return;
                }
            }
            GossipMessage::Rumors(rumors) if of_ours(peer) => {
                let (from, now) = (peer.id, boot_now());
                let mut taken = rumors;
                taken.retain(|_| {
                    let fits = rumors_left.take(now, 1);
                    if !fits && rumors_left.is_to_be_told() {
                        let problem = "more rumors than a member has to tell are dropped";
                        connection.note_refusal(RefusalReason::Flood, problem);
                    }
                    fits
                });
                // Views that differ are exchanged: what is lost on a full mailbox comes again.
                drop(links.try_send(LinksMessage::Rumors { from, rumors: taken }));
            }
            GossipMessage::Point(point) => commons.note_point(peer.id, point),
            GossipMessage::Hints(hints) => {
                // Hints come again; those lost on a full mailbox are no loss.
                drop(links.try_send(LinksMessage::Hints { from: peer.clone(), hints }));
            }
            GossipMessage::Sealed(_)
            | GossipMessage::Relay { .. }
            | GossipMessage::Have(_)
            | GossipMessage::Offer(_)
            | GossipMessage::Rumors(_) => {
                let problem = "gossip: what only members of one cluster tell each other";
                connection.refuse(RefusalReason::Malformed, problem);
                return;
            }
        }
    }
}

/// Takes facts that another member passes on. Either it is as far as we are now, or it is told where we are. What
/// their owner has not signed is counted and told, and changes nothing.
fn hear_relayed(
    commons: &Commons,
    connection: &PeerConnection,
    asked: &mut BTreeMap<MemberId, BootTime>,
    sealed: SealedDelta,
) -> Option<Outgoing> {
    let (owner, delta) = (sealed.owner.clone(), &sealed.delta);
    let theirs = Mark { incarnation: delta.incarnation, version: delta.to };
    if commons.is_forgotten(owner.id) {
        // As if it were known: it is not told again.
        return Some(Outgoing::PeerHas(vec![(owner.id, theirs)]));
    }
    match commons.learn_sealed(boot_now(), sealed, false) {
        Ok(()) => {
            commons.delivered(owner.id);
            Some(Outgoing::PeerHas(vec![(owner.id, theirs)]))
        }
        Err(LearnError::Forged(why)) => {
            connection.note_refusal(RefusalReason::Forged, &format!("gossip: {why}"));
            None
        }
        Err(LearnError::State(StateError::Gap { .. } | StateError::Old { .. })) => {
            let ours = commons.mark(owner.id).unwrap_or_default();
            Some(Outgoing::Ask(owner.id, ours))
        }
        Err(error) => {
            // From the beginning, and not again and again.
            let now = boot_now();
            let lately = asked.get(&owner.id).is_some_and(|at| now.since(*at) < ASK_AGAIN);
            if lately || asked.len() >= LIST_MAX {
                return None;
            }
            tracing::debug!(peer = %connection.identity(), %owner, ?error, "asked for facts from the beginning");
            asked.insert(owner.id, now);
            Some(Outgoing::Ask(owner.id, Mark { incarnation: theirs.incarnation, version: 0 }))
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
        _ if request == InspectRequest::Trust => trust_list(commons),
        _ if request == InspectRequest::Life => Ok(commons.incarnation().to_le_bytes().to_vec()),
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

/// What the authority has said of itself and of the revoked. No secret: it proves itself.
fn trust_list(commons: &Commons) -> Result<Vec<u8>, String> {
    let signed = commons.transport.trust().signed();
    let signed = signed.ok_or_else(|| "no list of authorities and revocations is known here".to_owned())?;
    wire::encode(&signed).map_err(|e| e.to_string())
}

/// Leaves a rumor for the gossip stream; one that does not fit is made up for when views are exchanged.
pub(super) fn tell_rumor(commons: &Commons, to: MemberId, rumor: Rumor) {
    if let Some(linked) = commons.links().get(&to)
        && linked.outbox.try_send(Outgoing::Rumor(rumor)).is_err()
    {
        tracing::debug!(?to, "rumor not told");
    }
}

/// Sends a probe; a lost one is like one lost on the way.
pub(super) fn send_probe(commons: &Commons, to: MemberId, probe: Probe) {
    if let Some(connection) = commons.link(to) {
        commons.spoken.probe();
        send_on(&connection, probe);
    }
}

/// As above, over this connection.
pub(super) fn send_on(connection: &PeerConnection, probe: Probe) {
    if let Ok(bytes) = wire::encode(&probe)
        && let Err(error) = connection.send_datagram(bytes.into())
    {
        tracing::debug!(peer = %connection.identity(), %error, "probe not sent");
    }
}

/// Two processes show one identity: a member that has moved or restarted, or a copy of its disk. The later life counts;
/// `true` if that of `newcomer` is an earlier one than is known.
pub(super) async fn is_superseded(commons: &Commons, newcomer: &PeerConnection) -> bool {
    let Some(known) = commons.mark(newcomer.identity().id).map(|mark| mark.incarnation) else {
        return false;
    };
    // One that does not say is taken as it always was: the later connection counts.
    life_of(newcomer).await.is_some_and(|life| life < known)
}

/// Whether the process behind `old` has ended, or its life began before that of the one behind `newcomer`.
pub(super) async fn is_outlived(old: &PeerConnection, newcomer: &PeerConnection) -> bool {
    let (old, new) = (life_of(old).await, life_of(newcomer).await);
    new.is_some() && old < new
}

/// When the process behind a connection began its life, as it says itself; `None` if it does not answer.
async fn life_of(connection: &PeerConnection) -> Option<u64> {
    let answer = inspect(connection, &InspectRequest::Life).await.ok()?;
    answer.first_chunk().map(|life| u64::from_le_bytes(*life))
}

/// Opens a session on a connection that had none.
pub(super) async fn run_session(commons: Arc<Commons>, connection: Arc<PeerConnection>) {
    open_session(commons, connection).await;
}
