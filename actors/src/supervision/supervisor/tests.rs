use ractor::RpcReplyPort;
use tokio::sync::mpsc::{Receiver, UnboundedReceiver, UnboundedSender};

use super::super::{Backoff, ChildRef, Intensity, RestartOn};
use super::*;
use crate::mailbox::Tracked;

/// Longest any test waits for an event that must come; reached only by a test that fails.
const PATIENCE: Duration = Duration::from_secs(20);

enum Order {
    Panic,
    Fail,
    Quit,
    Hang,
    Lives(RpcReplyPort<u32>),
}

/// Obeys orders and writes down when it starts and stops.
struct Worker {
    name: &'static str,
    lives: u32,
    panics_at_once: bool,
    diary: UnboundedSender<String>,
}

impl Actor for Worker {
    type Msg = Tracked<Order>;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Self::Msg>, (): ()) -> Result<(), ActorProcessingErr> {
        assert!(self.name != "cursed", "cannot even start");
        let _ = self.diary.send(format!("+{}", self.name));
        Ok(())
    }

    async fn post_start(&self, _: ActorRef<Self::Msg>, (): &mut ()) -> Result<(), ActorProcessingErr> {
        assert!(!self.panics_at_once, "{} is having a bad day", self.name);
        Ok(())
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        match message.open() {
            Order::Panic => panic!("{} was told to panic", self.name),
            Order::Fail => return Err("told to fail".into()),
            Order::Quit => myself.stop(Some("told to quit".to_owned())),
            Order::Hang => std::future::pending().await,
            Order::Lives(port) => port.send(self.lives)?,
        }
        Ok(())
    }

    async fn post_stop(&self, _: ActorRef<Self::Msg>, (): &mut ()) -> Result<(), ActorProcessingErr> {
        let _ = self.diary.send(format!("-{}", self.name));
        Ok(())
    }
}

fn quick() -> Policy {
    Policy {
        restart_on: RestartOn::AnyExit,
        intensity: Intensity { restarts_max: 3, window: Micros::from_secs(3_600) },
        backoff: Backoff { first: Micros(1_000), max: Micros(2_000), jitter_percent: 10 },
    }
}

/// Collects children for a supervisor under test.
struct Nursery {
    list: Introspection,
    children: Vec<ChildSpec>,
    diary: (UnboundedSender<String>, UnboundedReceiver<String>),
    events: (mpsc::Sender<Event>, Receiver<Event>),
}

impl Nursery {
    fn new() -> Self {
        Self {
            list: Introspection::default(),
            children: Vec::new(),
            diary: mpsc::unbounded_channel(),
            events: mpsc::channel(1_000),
        }
    }

    fn worker(&mut self, name: &'static str) -> ChildRef<Order> {
        self.worker_with(name, quick(), false)
    }

    fn worker_with(&mut self, name: &'static str, policy: Policy, panics_at_once: bool) -> ChildRef<Order> {
        let diary = self.diary.0.clone();
        let lives = std::sync::atomic::AtomicU32::new(0);
        let (spec, child) = ChildSpec::tracked(name, policy, 100, move || {
            let lives = lives.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1;
            (Worker { name, lives, panics_at_once, diary: diary.clone() }, ())
        });
        self.children.push(spec);
        child
    }

    fn spec(&mut self, name: &str, strategy: Strategy) -> SupervisorSpec {
        let children = std::mem::take(&mut self.children);
        SupervisorSpec { name: name.to_owned(), strategy, children, events: self.events.0.clone(), seed: 7 }
    }

    async fn start(&mut self, strategy: Strategy) -> SupervisorHandle {
        let spec = self.spec("root", strategy);
        Supervisor::start(spec, &self.list).await.unwrap()
    }

    /// The next `count` lines of the diary.
    async fn diary(&mut self, count: usize) -> Vec<String> {
        let mut lines = Vec::new();
        for _ in 0..count {
            lines.push(tokio::time::timeout(PATIENCE, self.diary.1.recv()).await.unwrap().unwrap());
        }
        lines
    }

    /// Waits for an event about this child that satisfies `wanted`.
    async fn event(&mut self, child: &str, wanted: impl Fn(&EventKind) -> bool) -> EventKind {
        loop {
            let event = tokio::time::timeout(PATIENCE, self.events.1.recv()).await.unwrap().unwrap();
            if event.child == child && wanted(&event.kind) {
                return event.kind;
            }
        }
    }
}

async fn lives(child: &ChildRef<Order>) -> u32 {
    let running = tokio::time::timeout(PATIENCE, child.running()).await.unwrap().unwrap();
    running.call(Order::Lives, PATIENCE).await.unwrap()
}

#[tokio::test]
async fn child_that_panics_is_restarted_and_siblings_are_undisturbed() {
    let mut nursery = Nursery::new();
    let (ann, bob) = (nursery.worker("ann"), nursery.worker("bob"));
    let supervisor = nursery.start(Strategy::OneForOne).await;
    assert_eq!((lives(&ann).await, lives(&bob).await), (1, 1));

    ann.send(Order::Panic).unwrap();
    let failed = nursery.event("root/ann", |kind| matches!(kind, EventKind::Failed { .. })).await;
    assert!(format!("{failed:?}").contains("ann was told to panic"), "{failed:?}");
    nursery.event("root/ann", |kind| matches!(kind, EventKind::Restarting { .. })).await;
    nursery.event("root/ann", |kind| *kind == EventKind::Started).await;
    assert_eq!((lives(&ann).await, lives(&bob).await), (2, 1));

    let report = nursery.list.get("root/ann").unwrap().report();
    assert_eq!(
        (report.state, report.counters.failures, report.counters.restarts),
        (ActorState::Running, 1, 1)
    );
    assert_eq!(report.parent.as_deref(), Some("root"));
    supervisor.stop().await;
}

#[tokio::test]
async fn child_that_returns_an_error_or_ends_unasked_is_restarted_too() {
    let mut nursery = Nursery::new();
    let ann = nursery.worker("ann");
    let supervisor = nursery.start(Strategy::OneForOne).await;
    assert_eq!(lives(&ann).await, 1);
    ann.send(Order::Fail).unwrap();
    nursery.event("root/ann", |kind| matches!(kind, EventKind::Restarting { .. })).await;
    assert_eq!(lives(&ann).await, 2);
    ann.send(Order::Quit).unwrap();
    nursery.event("root/ann", |kind| matches!(kind, EventKind::Restarting { .. })).await;
    assert_eq!(lives(&ann).await, 3);
    assert_eq!(nursery.list.get("root/ann").unwrap().counters().snapshot().failures, 1);
    supervisor.stop().await;
}

#[tokio::test]
async fn child_that_has_done_its_work_is_left_to_rest() {
    let mut nursery = Nursery::new();
    let ann = nursery.worker_with("ann", Policy { restart_on: RestartOn::Failure, ..quick() }, false);
    let supervisor = nursery.start(Strategy::OneForOne).await;
    assert_eq!(lives(&ann).await, 1);
    ann.send(Order::Quit).unwrap();
    nursery.event("root/ann", |kind| *kind == EventKind::Stopped).await;
    assert_eq!(nursery.list.get("root/ann").unwrap().state(), ActorState::Stopped);
    supervisor.stop().await;
}

#[tokio::test]
async fn child_that_panics_for_ever_is_given_up_and_says_so() {
    let mut nursery = Nursery::new();
    nursery.worker_with("ann", quick(), true);
    let bob = nursery.worker("bob");
    let supervisor = nursery.start(Strategy::OneForOne).await;

    let given_up = nursery.event("root/ann", |kind| matches!(kind, EventKind::GivenUp { .. })).await;
    assert!(format!("{given_up:?}").contains("ann is having a bad day"), "{given_up:?}");
    assert_eq!(nursery.list.given_up(), ["root/ann"]);
    let report = nursery.list.get("root/ann").unwrap().report();
    assert_eq!((report.counters.failures, report.counters.restarts), (4, 3));
    assert!(report.last_error.unwrap().contains("4 times"));
    assert_eq!(lives(&bob).await, 1);
    assert_eq!(supervisor.cell().get_status(), ractor::ActorStatus::Running);
    supervisor.stop().await;
    assert_eq!(nursery.list.given_up(), ["root/ann"], "still visible after the stop");
}

#[tokio::test]
async fn child_that_cannot_start_is_given_up_and_holds_nobody_up() {
    let mut nursery = Nursery::new();
    nursery.worker("cursed");
    let bob = nursery.worker("bob");
    nursery.children.push(ChildSpec::new("broken", quick(), |_| async { panic!("bad factory") }));
    let supervisor = nursery.start(Strategy::OneForOne).await;
    assert_eq!(lives(&bob).await, 1);
    nursery.event("root/cursed", |kind| matches!(kind, EventKind::GivenUp { .. })).await;
    while nursery.list.given_up().len() < 2 {
        nursery.event("root/broken", |kind| matches!(kind, EventKind::GivenUp { .. })).await;
    }
    assert_eq!(lives(&bob).await, 1);
    supervisor.stop().await;
}

#[tokio::test]
async fn one_for_all_failure_restarts_everybody_in_order() {
    let mut nursery = Nursery::new();
    let (ann, bob, cid) = (nursery.worker("ann"), nursery.worker("bob"), nursery.worker("cid"));
    let supervisor = nursery.start(Strategy::OneForAll).await;
    assert_eq!(nursery.diary(3).await, ["+ann", "+bob", "+cid"]);
    bob.send(Order::Panic).unwrap();
    assert_eq!(nursery.diary(5).await, ["-cid", "-ann", "+ann", "+bob", "+cid"]);
    assert_eq!((lives(&ann).await, lives(&bob).await, lives(&cid).await), (2, 2, 2));
    supervisor.stop().await;
}

#[tokio::test]
async fn rest_for_one_failure_restarts_the_failed_child_and_those_after_it() {
    let mut nursery = Nursery::new();
    let (ann, bob, cid) = (nursery.worker("ann"), nursery.worker("bob"), nursery.worker("cid"));
    let supervisor = nursery.start(Strategy::RestForOne).await;
    assert_eq!(nursery.diary(3).await, ["+ann", "+bob", "+cid"]);
    bob.send(Order::Panic).unwrap();
    assert_eq!(nursery.diary(3).await, ["-cid", "+bob", "+cid"]);
    assert_eq!((lives(&ann).await, lives(&bob).await, lives(&cid).await), (1, 2, 2));
    supervisor.stop().await;
}

#[tokio::test]
async fn stop_takes_children_down_backwards() {
    let mut nursery = Nursery::new();
    let _refs = (nursery.worker("ann"), nursery.worker("bob"), nursery.worker("cid"));
    let supervisor = nursery.start(Strategy::OneForOne).await;
    assert_eq!(nursery.diary(3).await, ["+ann", "+bob", "+cid"]);
    supervisor.stop().await;
    assert_eq!(nursery.diary(3).await, ["-cid", "-bob", "-ann"]);
    assert!(nursery.list.list().iter().all(|actor| actor.state == ActorState::Stopped));
}

#[tokio::test]
async fn stop_kills_a_child_that_hangs_and_goes_on() {
    let mut nursery = Nursery::new();
    let (_ann, bob) = (nursery.worker("ann"), nursery.worker("bob"));
    nursery.children[1].stop_timeout = Duration::from_millis(10);
    let supervisor = nursery.start(Strategy::OneForOne).await;
    assert_eq!(nursery.diary(2).await, ["+ann", "+bob"]);
    bob.send(Order::Hang).unwrap();
    tokio::time::timeout(PATIENCE, supervisor.stop()).await.unwrap();
    assert_eq!(nursery.diary(1).await, ["-ann"], "bob was killed, ann stopped in order");
}

#[tokio::test]
async fn start_that_takes_too_long_is_a_failure() {
    let mut nursery = Nursery::new();
    let slow = ChildSpec::new("slow", quick(), |_| std::future::pending());
    nursery.children.push(slow.start_timeout(Duration::from_millis(5)));
    let supervisor = nursery.start(Strategy::OneForOne).await;
    let failed = nursery.event("root/slow", |kind| matches!(kind, EventKind::Failed { .. })).await;
    assert!(format!("{failed:?}").contains("did not start within"), "{failed:?}");
    nursery.event("root/slow", |kind| matches!(kind, EventKind::GivenUp { .. })).await;
    supervisor.stop().await;
}

#[tokio::test]
async fn supervisors_nest_and_stop_as_a_tree() {
    let mut nursery = Nursery::new();
    let ann = nursery.worker("ann");
    let inner = nursery.spec("inner", Strategy::OneForOne);
    let _bob = nursery.worker("bob");
    nursery.children.push(inner.into_child(quick()));
    let supervisor = nursery.start(Strategy::OneForOne).await;
    assert_eq!(lives(&ann).await, 1);
    ann.send(Order::Panic).unwrap();
    nursery.event("root/inner/ann", |kind| matches!(kind, EventKind::Failed { .. })).await;
    assert_eq!(lives(&ann).await, 2);
    let names: Vec<String> = nursery.list.list().into_iter().map(|actor| actor.name).collect();
    assert_eq!(names, ["root", "root/bob", "root/inner", "root/inner/ann"]);
    assert_eq!(nursery.list.get("root/inner").unwrap().counters().snapshot().restarts, 0);
    nursery.diary(3).await;
    supervisor.stop().await;
    assert_eq!(nursery.diary(2).await, ["-ann", "-bob"]);
}

#[tokio::test]
async fn events_that_nobody_drains_hold_nothing_up() {
    let mut nursery = Nursery::new();
    nursery.events = mpsc::channel(1);
    let ann = nursery.worker("ann");
    let supervisor = nursery.start(Strategy::OneForOne).await;
    for life in 1..=3 {
        assert_eq!(lives(&ann).await, life);
        ann.send(Order::Panic).unwrap();
        while ann.current().unwrap().actor().get_status() == ractor::ActorStatus::Running {
            tokio::task::yield_now().await;
        }
    }
    assert_eq!(lives(&ann).await, 4);
    supervisor.stop().await;
}
