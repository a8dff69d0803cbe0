//! The one actor of a process that others can reach.

use std::future::poll_fn;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use ractor::message::{BoxedDowncastErr, SerializedMessage};
use ractor::{Actor, ActorProcessingErr, ActorRef, Message, RpcReplyPort};

use super::frame::{self, Refusal, Request};
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
#[derive(Debug)]
pub(super) enum FacadeMessage {
    Call(Vec<u8>, RpcReplyPort<Vec<u8>>),
    Cast(Vec<u8>),
}

impl Message for FacadeMessage {
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
        let (bytes, port) = match message {
            FacadeMessage::Call(bytes, port) => (bytes, Some(port)),
            FacadeMessage::Cast(bytes) => (bytes, None),
        };
        match admit(shared, bytes) {
            Ok((sender, request)) => serve(shared, sender, request, port).await,
            Err(refusal) => {
                shared.counters.note_refusal(refusal);
                if let Some(port) = port {
                    answer(port, Err(refusal));
                }
            }
        }
        Ok(())
    }
}

/// Size, sender and deadline.
fn admit(shared: &Shared, bytes: Vec<u8>) -> Result<(Arc<Session>, Request), Refusal> {
    let request = frame::decode_request(bytes, shared.limits.message_bytes_max)?;
    let sender = shared.table.sender_with(&request.binding).ok_or(Refusal::UnknownBinding)?;
    if request.remaining_ms == 0 {
        return Err(Refusal::TooLate);
    }
    Ok((sender, request))
}

/// Gives the request to the handler. One that answers at once is answered from here; any other goes on in a task
/// of its own, of which each peer may have only so many.
async fn serve(
    shared: &Arc<Shared>,
    sender: Arc<Session>,
    request: Request,
    port: Option<RpcReplyPort<Vec<u8>>>,
) {
    shared.counters.handled_in.add_one();
    let handler = (shared.handler)(sender.identity.clone(), request.body);
    let mut handling = AssertUnwindSafe(handler).catch_unwind().boxed();
    if let Poll::Ready(outcome) = poll_fn(|cx| Poll::Ready(handling.poll_unpin(cx))).await {
        finish(shared, &sender, outcome.map_err(|_| Refusal::HandlerFailed), port);
        return;
    }
    let Ok(permit) = Arc::clone(&sender.calls_in).try_acquire_owned() else {
        finish(shared, &sender, Err(Refusal::Busy), port);
        return;
    };
    let remaining = Duration::from_millis(request.remaining_ms.into()).min(shared.limits.call_timeout_max);
    let shared = Arc::clone(shared);
    tokio::spawn(async move {
        let outcome = within(remaining, handling).await;
        finish(&shared, &sender, outcome, port);
        drop(permit);
    });
}

type Handling = BoxFuture<'static, Result<Vec<u8>, Box<dyn std::any::Any + Send>>>;

async fn within(remaining: Duration, handling: Handling) -> Result<Vec<u8>, Refusal> {
    match tokio::time::timeout(remaining, handling).await {
        Ok(outcome) => outcome.map_err(|_| Refusal::HandlerFailed),
        Err(_) => Err(Refusal::TooLate),
    }
}

fn finish(
    shared: &Shared,
    sender: &Session,
    outcome: Result<Vec<u8>, Refusal>,
    port: Option<RpcReplyPort<Vec<u8>>>,
) {
    let outcome = outcome.and_then(|body| {
        if port.is_none() {
            return Ok(Vec::new());
        }
        if body.len() > shared.limits.message_bytes_max {
            return Err(Refusal::AnswerTooLarge);
        }
        // A peer that asks but does not read gets no further answers.
        let admitted = sender.backlog.admit(body.len(), shared.limits.backlog_bytes_max);
        if admitted { Ok(body) } else { Err(Refusal::Busy) }
    });
    if let Err(refusal) = outcome {
        shared.counters.note_refusal(refusal);
    }
    if let Some(port) = port {
        answer(port, outcome);
    }
}

fn answer(port: RpcReplyPort<Vec<u8>>, outcome: Result<Vec<u8>, Refusal>) {
    // The session may have ended meanwhile; the caller has its own timeout.
    let _ = port.send(frame::encode_answer(outcome));
}
