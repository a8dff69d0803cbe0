//! The simulated runtime: replicas without processes, for trials, tests and benchmarks of everything else.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use codeco_protocol::ids::ReplicaId;
use codeco_protocol::token::Token;
use codeco_protocol::units::{BootTime, Micros};
use codeco_protocol::workload::Workload;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::Instant;

use super::supervisor::{Action, Signal, Slot, Supervisor};
use super::{
    EVENT_QUEUE_LEN, Exit, LOG_TAIL_BYTES_MAX, LogsError, RunningReplica, Runtime, RuntimeEvent, StartError,
    StopError, Unavailable, boot_now,
};

/// Settings of the simulated runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SimulatedOptions {
    /// From the order to the running container. Default 20 ms.
    pub start_delay: Duration,
    /// From SIGTERM to the end of a container. Default 0.
    pub stop_delay: Duration,
}

impl Default for SimulatedOptions {
    fn default() -> Self {
        Self { start_delay: Duration::from_millis(20), stop_delay: Duration::ZERO }
    }
}

/// Replicas that exist in memory only: after a restart of the agent there are none, as after a cold boot.
#[derive(Debug)]
pub struct SimulatedRuntime {
    shared: Arc<Shared>,
    /// Dropped with the runtime, which ends its clockwork.
    _alive: oneshot::Sender<()>,
}

#[derive(Debug)]
struct Shared {
    options: SimulatedOptions,
    /// The boot clock when tokio's clock showed `origin`: time passes as tokio says, so that tests may pause it.
    boot_origin: BootTime,
    origin: Instant,
    events: mpsc::Sender<RuntimeEvent>,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    supervisor: Supervisor,
    /// What becomes of containers, and when.
    fates: BTreeMap<(BootTime, Slot), Fate>,
    waiters: BTreeMap<u64, oneshot::Sender<()>>,
    waiter_count: u64,
    /// Events that found the queue full, oldest first; bounded by the number of replicas.
    unsent: BTreeMap<ReplicaId, RuntimeEvent>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Runs,
    Ends(Exit),
}

impl SimulatedRuntime {
    /// An empty runtime and its events. Needs a tokio runtime.
    #[must_use]
    pub fn new(options: SimulatedOptions) -> (Self, mpsc::Receiver<RuntimeEvent>) {
        let (events, event_queue) = mpsc::channel(EVENT_QUEUE_LEN);
        let (alive, dropped) = oneshot::channel();
        let shared = Arc::new(Shared {
            options,
            boot_origin: boot_now(),
            origin: Instant::now(),
            events,
            state: Mutex::default(),
            changed: Notify::new(),
        });
        tokio::spawn(run(Arc::clone(&shared), dropped));
        (Self { shared, _alive: alive }, event_queue)
    }

    /// The boot clock as this runtime counts it: follows tokio's clock.
    #[must_use]
    pub fn now(&self) -> BootTime {
        self.shared.now()
    }
}

/// Lets time pass for the replicas.
async fn run(shared: Arc<Shared>, mut dropped: oneshot::Receiver<()>) {
    loop {
        let deadline = shared.pass_time();
        let wait = async {
            match deadline {
                Some(at) => tokio::time::sleep_until(shared.instant(at)).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = wait => {}
            () = shared.changed.notified() => {}
            _ = &mut dropped => return,
        }
    }
}

impl Shared {
    fn now(&self) -> BootTime {
        self.boot_origin + self.origin.elapsed().into()
    }

    fn instant(&self, at: BootTime) -> Instant {
        self.origin + at.since(self.boot_origin).to_duration()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Carries out everything that is due; returns when something will be.
    fn pass_time(&self) -> Option<BootTime> {
        let now = self.now();
        let mut state = self.state();
        let mut out = Vec::new();
        state.supervisor.handle_time(now, &mut out);
        self.carry_out(&mut state, now, out);
        while let Some(((at, slot), fate)) = state.fates.pop_first() {
            if at > now {
                state.fates.insert((at, slot), fate);
                break;
            }
            let mut out = Vec::new();
            match fate {
                Fate::Runs => state.supervisor.handle_running(&slot, &mut out),
                Fate::Ends(exit) => {
                    state.fates.retain(|(_, other), _| *other != slot);
                    state.supervisor.handle_exited(&slot, exit, &mut out);
                    state.supervisor.handle_gone(now, &slot, &mut out);
                }
            }
            self.carry_out(&mut state, now, out);
        }
        self.send_unsent(&mut state);
        // A full queue has no event for «there is room again»: look after a moment.
        let retry = (!state.unsent.is_empty()).then(|| now + Micros::from_millis(50));
        let fate = state.fates.first_key_value().map(|((at, _), _)| *at);
        [state.supervisor.deadline(), fate, retry].into_iter().flatten().min()
    }

    fn carry_out(&self, state: &mut State, now: BootTime, mut out: Vec<Action>) {
        while !out.is_empty() {
            for action in std::mem::take(&mut out) {
                match action {
                    Action::Spawn(slot) => {
                        state.supervisor.handle_spawned(now, &slot, None, &mut out);
                        state.fates.insert((now + self.options.start_delay.into(), slot), Fate::Runs);
                    }
                    Action::Signal(slot, signal) => {
                        let (delay, number) = match signal {
                            Signal::Terminate => (self.options.stop_delay.into(), 15),
                            Signal::Kill => (Micros::ZERO, 9),
                        };
                        // What was to become of it does not matter any more.
                        state.fates.retain(|(_, other), _| *other != slot);
                        state.fates.insert((now + delay, slot), Fate::Ends(Exit::Signal(number)));
                        self.changed.notify_one();
                    }
                    Action::Event(event) => self.tell(state, event),
                    Action::StopProven(waiter) => {
                        if let Some(waiter) = state.waiters.remove(&waiter) {
                            // The caller has given up.
                            let _ = waiter.send(());
                        }
                    }
                }
            }
        }
    }

    fn tell(&self, state: &mut State, event: RuntimeEvent) {
        self.send_unsent(state);
        let older_waits = state.unsent.contains_key(&event.replica);
        if older_waits || self.events.try_send(event.clone()).is_err() && !self.events.is_closed() {
            // Only the newest of each replica is kept: the latest phase is what counts.
            state.unsent.insert(event.replica.clone(), event);
        }
    }

    fn send_unsent(&self, state: &mut State) {
        while let Some((replica, event)) = state.unsent.pop_first() {
            if self.events.is_closed() {
                continue;
            }
            if self.events.try_send(event.clone()).is_err() {
                state.unsent.insert(replica, event);
                return;
            }
        }
    }

    fn feed<T>(&self, note: impl FnOnce(&mut Supervisor, BootTime, &mut Vec<Action>) -> T) -> T {
        let now = self.now();
        let mut state = self.state();
        let mut out = Vec::new();
        let result = note(&mut state.supervisor, now, &mut out);
        self.carry_out(&mut state, now, out);
        drop(state);
        self.changed.notify_one();
        result
    }
}

#[async_trait]
impl Runtime for SimulatedRuntime {
    async fn start(&self, workload: Workload) -> Result<(), StartError> {
        self.shared.feed(|supervisor, now, out| supervisor.handle_start(now, workload, out))
    }

    async fn stop(&self, replica: &ReplicaId, token: Token) -> Result<(), StopError> {
        let (proven, wait) = oneshot::channel();
        let waiter = {
            let mut state = self.shared.state();
            state.waiter_count += 1;
            let waiter = state.waiter_count;
            state.waiters.insert(waiter, proven);
            waiter
        };
        let told =
            self.shared.feed(|supervisor, now, out| supervisor.handle_stop(now, replica, token, waiter, out));
        if let Err(error) = told {
            self.shared.state().waiters.remove(&waiter);
            return Err(error);
        }
        wait.await.map_err(|_| Unavailable::new("the simulated runtime was dropped").into())
    }

    async fn list(&self) -> Result<Vec<RunningReplica>, Unavailable> {
        Ok(self.shared.state().supervisor.list().collect())
    }

    async fn logs(
        &self,
        replica: &ReplicaId,
        container: &str,
        tail_bytes: usize,
    ) -> Result<Vec<u8>, LogsError> {
        let state = self.shared.state();
        let known = state
            .supervisor
            .list()
            .find(|known| known.workload.replica == *replica)
            .filter(|known| known.workload.spec.containers.iter().any(|spec| spec.name == container));
        let Some(known) = known else {
            return Err(LogsError::NotFound { replica: replica.clone(), container: container.to_owned() });
        };
        let text = format!("simulated: {container} of {replica} is {}\n", known.phase);
        let len = tail_bytes.min(LOG_TAIL_BYTES_MAX).min(text.len());
        Ok(text.as_bytes()[text.len() - len..].to_vec())
    }

    async fn extend_lease(&self, until: BootTime) -> Result<(), Unavailable> {
        self.shared.feed(|supervisor, _, _| supervisor.handle_lease(until));
        Ok(())
    }
}
