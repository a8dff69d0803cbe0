use ractor::{Actor, ActorProcessingErr};
use tokio::sync::Semaphore;

use super::*;
use crate::mailbox::Introspection;

/// Handles a message only once the test hands it a permit.
struct Gated(Arc<Semaphore>);

enum Request {
    Note,
    Double(u32, RpcReplyPort<u32>),
    Drop(#[allow(dead_code)] RpcReplyPort<u32>),
}

impl Actor for Gated {
    type Msg = Tracked<Request>;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Self::Msg>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(
        &self,
        _: ActorRef<Self::Msg>,
        message: Self::Msg,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        self.0.acquire().await?.forget();
        match message.open() {
            Request::Note | Request::Drop(_) => {}
            Request::Double(number, port) => port.send(number * 2)?,
        }
        Ok(())
    }
}

async fn gated(limit: u64, permits: usize) -> (TrackedRef<Request>, Arc<Semaphore>, Introspection) {
    let gate = Arc::new(Semaphore::new(permits));
    let list = Introspection::default();
    let (actor, _) = Actor::spawn(None, Gated(Arc::clone(&gate)), ()).await.unwrap();
    (TrackedRef::new(actor, list.register("gated", None), limit), gate, list)
}

#[tokio::test]
async fn mailbox_at_its_limit_sheds_and_recovers() {
    let (gated, gate, list) = gated(3, 0).await;
    for _ in 0..3 {
        gated.try_send(Request::Note).unwrap();
    }
    let refused = gated.try_send(Request::Note);
    assert!(matches!(refused, Err(SendError::Full { limit: 3, .. })));
    let report = list.list().remove(0);
    assert_eq!((report.counters.depth, report.counters.depth_max, report.counters.shed), (3, 3, 1));

    gate.add_permits(100);
    assert_eq!(gated.call(|port| Request::Double(21, port), Duration::from_secs(60)).await, Err(full()));
    // The call was shed like any message; `send` is not, and its answer shows that the queue moves again.
    let (sender, answer) = ractor::concurrency::oneshot();
    gated.send(Request::Double(21, sender.into())).unwrap();
    assert_eq!(answer.await.unwrap(), 42);
    let counters = list.list().remove(0).counters;
    assert_eq!((counters.depth, counters.handled, counters.shed), (0, 4, 2));
    assert!(counters.wait_p99_us.is_some());
}

fn full() -> CallError {
    CallError::Full { actor: "gated".to_owned() }
}

#[tokio::test]
async fn call_without_answer_ends_with_its_cause() {
    let (gated, _gate, _) = gated(10, 1).await;
    let timeout = Duration::from_millis(20);
    let dropped = gated.call(Request::Drop, Duration::from_secs(60)).await;
    assert_eq!(dropped, Err(CallError::NoAnswer { actor: "gated".to_owned() }));
    let late = gated.call(|port| Request::Double(1, port), timeout).await;
    assert_eq!(late, Err(CallError::Timeout { actor: "gated".to_owned(), timeout }));
    gated.actor().kill_and_wait(None).await.unwrap();
    let gone = gated.call(|port| Request::Double(1, port), timeout).await;
    assert_eq!(gone, Err(CallError::NotRunning { actor: "gated".to_owned() }));
}

#[tokio::test]
async fn messages_lost_with_their_actor_are_not_counted_as_waiting() {
    let (gated, _gate, _) = gated(10, 0).await;
    for _ in 0..5 {
        gated.send(Request::Note).unwrap();
    }
    gated.actor().kill_and_wait(None).await.unwrap();
    let refused = gated.send(Request::Note);
    assert!(matches!(refused, Err(SendError::NotRunning { message: Request::Note, .. })));
    let counters = gated.entry().counters().snapshot();
    assert_eq!((counters.depth, counters.handled), (0, 0));
}
