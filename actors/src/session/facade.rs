//! The one actor of a process that others can reach, and what happens to what they send it.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures::FutureExt as _;
use ractor::{Actor, ActorProcessingErr, ActorRef};

use super::cluster_wire::{self, Message};
use super::frame::{self, Refusal, Request};
use super::lane::NotSent;
use super::sessions::Shared;
use super::table::Session;

/// Variant name of calls on the wire.
pub(super) const CALL: &str = "Call";
/// Variant name of casts on the wire.
pub(super) const CAST: &str = "Cast";

/// Says to ractor_cluster that the facade may be reached from elsewhere. No message ever arrives: requests are
/// taken out of the stream before, and ractor drops what does not deserialize.
#[derive(Debug)]
pub(super) enum FacadeMessage {}

impl ractor::Message for FacadeMessage {
    fn serializable() -> bool {
        true
    }
}

/// An address: ractor_cluster tells peers of it, and its process number marks what is for us.
pub(super) struct Facade;

impl Actor for Facade {
    type Msg = FacadeMessage;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Self::Msg>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }
}

/// Process number and tag to answer with; `None` for casts.
pub(super) type ReplyTo = Option<(u64, u64)>;

/// Takes a request that came over this session's stream and sees to its answer; never blocks, never panics.
pub(super) fn handle(shared: &Arc<Shared>, session: &Arc<Session>, bytes: Vec<u8>, reply_to: ReplyTo) {
    match admit(shared, session, bytes) {
        Ok(request) => serve(shared, session, request, reply_to),
        Err(refusal) => finish(shared, session, Err(refusal), reply_to),
    }
}

/// Size, sender and deadline.
fn admit(shared: &Shared, session: &Session, bytes: Vec<u8>) -> Result<Request, Refusal> {
    let request = frame::decode_request(bytes, shared.limits.message_bytes_max)?;
    // The binding of another session, even a live one, speaks for nobody over this one.
    if request.binding != session.binding || !session.takes_requests() {
        return Err(Refusal::UnknownBinding);
    }
    if request.remaining_ms == 0 {
        return Err(Refusal::TooLate);
    }
    Ok(request)
}

/// Gives the request to the handler. One that answers at once is answered from here; any other goes on in a task
/// of its own, of which each peer may have only so many.
fn serve(shared: &Arc<Shared>, session: &Arc<Session>, request: Request, reply_to: ReplyTo) {
    shared.counters.handled_in.add_one();
    let Request { body, remaining_ms, .. } = request;
    let called =
        std::panic::catch_unwind(AssertUnwindSafe(|| (shared.handler)(session.identity.clone(), body)));
    let Ok(handler) = called else {
        finish(shared, session, Err(Refusal::HandlerFailed), reply_to);
        return;
    };
    let mut handling = AssertUnwindSafe(handler).catch_unwind();
    // The task below polls again, with a waker of its own.
    if let Poll::Ready(outcome) = handling.poll_unpin(&mut Context::from_waker(Waker::noop())) {
        finish(shared, session, outcome.map_err(|_| Refusal::HandlerFailed), reply_to);
        return;
    }
    let Ok(permit) = Arc::clone(&session.calls_in).try_acquire_owned() else {
        finish(shared, session, Err(Refusal::Busy), reply_to);
        return;
    };
    let remaining = Duration::from_millis(remaining_ms.into()).min(shared.limits.call_timeout_max);
    let (shared, session) = (Arc::clone(shared), Arc::clone(session));
    tokio::spawn(async move {
        let outcome = match tokio::time::timeout(remaining, handling).await {
            Ok(outcome) => outcome.map_err(|_| Refusal::HandlerFailed),
            Err(_) => Err(Refusal::TooLate),
        };
        finish(&shared, &session, outcome, reply_to);
        drop(permit);
    });
}

fn finish(shared: &Shared, session: &Session, outcome: Result<Vec<u8>, Refusal>, reply_to: ReplyTo) {
    let outcome = outcome.and_then(|body| {
        let too_large = body.len() > shared.limits.message_bytes_max && reply_to.is_some();
        if too_large { Err(Refusal::AnswerTooLarge) } else { Ok(body) }
    });
    if let Err(refusal) = outcome {
        shared.counters.note_refusal(refusal);
    }
    let Some((to, tag)) = reply_to else { return };
    let (status, body) = frame::answer_parts(&outcome);
    let reply = cluster_wire::encode(Message::Reply { to, tag, what: &[] }, &[&[status], body], "");
    // A peer that asks but does not read gets no further answers; one that is gone needs none.
    if session.lane.send(&reply, shared.limits.backlog_bytes_max) == Err(NotSent::Full) {
        shared.counters.note_refusal(Refusal::Busy);
    }
}
