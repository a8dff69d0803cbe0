//! The one actor of a process that others can reach.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures::FutureExt as _;
use ractor::message::{BoxedDowncastErr, SerializedMessage};
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};

use super::cluster_wire::{self, Message};
use super::frame::{self, Refusal, Request};
use super::lane::NotSent;
use super::sessions::Shared;
use super::table::Session;

/// Variant name of calls on the wire.
pub(super) const CALL: &str = "Call";
/// Variant name of casts on the wire.
pub(super) const CAST: &str = "Cast";

/// What a facade takes: bytes, which it reads itself.
///
/// The `RactorClusterMessage` derive would wrap the bytes in a second length, copy them, and start a task per
/// call at each end to convert the answer; here bytes stay bytes. Nothing that a peer sends can fail to decode.
/// Requests come this way only from peers whose frames the short cut in `stream` does not recognise.
#[derive(Debug)]
pub(super) enum FacadeMessage {
    Call(Vec<u8>, RpcReplyPort<Vec<u8>>),
    Cast(Vec<u8>),
}

impl ractor::Message for FacadeMessage {
    fn serializable() -> bool {
        true
    }

    fn serialize(self) -> Result<SerializedMessage, BoxedDowncastErr> {
        Ok(match self {
            Self::Call(args, reply) => {
                SerializedMessage::Call { variant: CALL.to_owned(), args, reply, metadata: None }
            }
            Self::Cast(args) => SerializedMessage::Cast { variant: CAST.to_owned(), args, metadata: None },
        })
    }

    fn deserialize(message: SerializedMessage) -> Result<Self, BoxedDowncastErr> {
        match message {
            SerializedMessage::Call { args, reply, variant, .. } if variant == CALL => {
                Ok(Self::Call(args, reply))
            }
            SerializedMessage::Cast { args, variant, .. } if variant == CAST => Ok(Self::Cast(args)),
            _ => Err(BoxedDowncastErr),
        }
    }
}

pub(super) struct Facade;

impl Actor for Facade {
    type Msg = FacadeMessage;
    type State = Arc<Shared>;
    type Arguments = Arc<Shared>;

    async fn pre_start(
        &self,
        _: ActorRef<Self::Msg>,
        shared: Arc<Shared>,
    ) -> Result<Self::State, ActorProcessingErr> {
        Ok(shared)
    }

    async fn handle(
        &self,
        _: ActorRef<Self::Msg>,
        message: FacadeMessage,
        shared: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            FacadeMessage::Call(bytes, port) => handle(shared, bytes, None, ReplyTo::Port(port)),
            FacadeMessage::Cast(bytes) => handle(shared, bytes, None, ReplyTo::Nobody),
        }
        Ok(())
    }
}

/// Where an answer goes.
pub(super) enum ReplyTo {
    /// A cast: nowhere.
    Nobody,
    /// Through ractor_cluster.
    Port(RpcReplyPort<Vec<u8>>),
    /// Straight back over the session's stream.
    Lane { session: Arc<Session>, to: u64, tag: u64 },
}

/// Takes a request and sees to its answer; never blocks, never panics. `over` is the session whose stream it came
/// over, where that is known.
pub(super) fn handle(shared: &Arc<Shared>, bytes: Vec<u8>, over: Option<&Arc<Session>>, reply_to: ReplyTo) {
    match admit(shared, bytes, over) {
        Ok((sender, request)) => serve(shared, sender, request, reply_to),
        Err(refusal) => finish(shared, Err(refusal), reply_to),
    }
}

/// Size, sender and deadline.
fn admit(
    shared: &Shared,
    bytes: Vec<u8>,
    over: Option<&Arc<Session>>,
) -> Result<(Arc<Session>, Request), Refusal> {
    let request = frame::decode_request(bytes, shared.limits.message_bytes_max)?;
    let sender = shared.table.sender_with(&request.binding).ok_or(Refusal::UnknownBinding)?;
    // Another's binding, even of a live session, speaks for nobody over this one.
    if over.is_some_and(|over| over.label != sender.label) {
        return Err(Refusal::UnknownBinding);
    }
    if request.remaining_ms == 0 {
        return Err(Refusal::TooLate);
    }
    Ok((sender, request))
}

/// Gives the request to the handler. One that answers at once is answered from here; any other goes on in a task
/// of its own, of which each peer may have only so many.
fn serve(shared: &Arc<Shared>, sender: Arc<Session>, request: Request, reply_to: ReplyTo) {
    shared.counters.handled_in.add_one();
    let Request { body, remaining_ms, .. } = request;
    let called =
        std::panic::catch_unwind(AssertUnwindSafe(|| (shared.handler)(sender.identity.clone(), body)));
    let Ok(handler) = called else {
        finish(shared, Err(Refusal::HandlerFailed), reply_to);
        return;
    };
    let mut handling = AssertUnwindSafe(handler).catch_unwind();
    // The task below polls again, with a waker of its own.
    if let Poll::Ready(outcome) = handling.poll_unpin(&mut Context::from_waker(Waker::noop())) {
        finish(shared, outcome.map_err(|_| Refusal::HandlerFailed), reply_to);
        return;
    }
    let Ok(permit) = Arc::clone(&sender.calls_in).try_acquire_owned() else {
        finish(shared, Err(Refusal::Busy), reply_to);
        return;
    };
    let remaining = Duration::from_millis(remaining_ms.into()).min(shared.limits.call_timeout_max);
    let shared = Arc::clone(shared);
    tokio::spawn(async move {
        let outcome = match tokio::time::timeout(remaining, handling).await {
            Ok(outcome) => outcome.map_err(|_| Refusal::HandlerFailed),
            Err(_) => Err(Refusal::TooLate),
        };
        finish(&shared, outcome, reply_to);
        drop(permit);
    });
}

fn finish(shared: &Shared, outcome: Result<Vec<u8>, Refusal>, reply_to: ReplyTo) {
    let outcome = outcome.and_then(|body| {
        let too_large = body.len() > shared.limits.message_bytes_max && !matches!(reply_to, ReplyTo::Nobody);
        if too_large { Err(Refusal::AnswerTooLarge) } else { Ok(body) }
    });
    if let Err(refusal) = outcome {
        shared.counters.note_refusal(refusal);
    }
    match reply_to {
        ReplyTo::Nobody => {}
        // The session may have ended meanwhile; the caller has its own timeout.
        ReplyTo::Port(port) => drop(port.send(frame::encode_answer(&outcome))),
        ReplyTo::Lane { session, to, tag } => {
            let (status, body) = frame::answer_parts(&outcome);
            let reply = cluster_wire::encode(Message::Reply { to, tag, what: &[] }, &[&[status], body], "");
            // A peer that asks but does not read gets no further answers.
            if session.lane.send(&reply, shared.limits.backlog_bytes_max) == Err(NotSent::Full) {
                shared.counters.note_refusal(Refusal::Busy);
            }
        }
    }
}
