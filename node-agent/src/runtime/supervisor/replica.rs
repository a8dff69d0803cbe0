//! One replica: its containers from start to end.

use codeco_protocol::units::{BootTime, Micros};
use codeco_protocol::workload::{RestartPolicy, Workload};

use super::{Action, Signal, Slot, SpawnFailure, is_fenced};
use crate::runtime::{Exit, ReplicaPhase, RunningReplica, RuntimeEvent, RuntimeEventKind};

/// Wait before the first restart; doubles with every further one.
const BACK_OFF_MIN: Micros = Micros::from_millis(100);
/// Longest wait before a restart.
const BACK_OFF_MAX: Micros = Micros::from_secs(30);
/// A container that ran this long is taken for healthy: its next wait is the shortest again.
const HEALTHY_AFTER: Micros = Micros::from_secs(10);

/// Why a replica ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Cause {
    Finished,
    Failed(String),
    LeaseExpired,
    Stopped,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Alive,
    /// Told to end; killed at `kill_at`, `None` once killed.
    Ending {
        cause: Cause,
        kill_at: Option<BootTime>,
    },
    Over(Cause),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ContainerState {
    /// The shell has been asked for a process.
    Spawning,
    /// The process exists but does not run the container's program yet.
    Starting,
    Running,
    /// The main process ended; what it left behind is being killed.
    Draining(Exit),
    /// Started again then.
    Waiting(BootTime),
    Over(Exit),
}

#[derive(Debug)]
struct Container {
    state: ContainerState,
    pid: Option<u32>,
    since: BootTime,
    /// Restarts without a healthy run in between.
    failures: u32,
}

#[derive(Debug)]
pub(super) struct Replica {
    pub(super) workload: Workload,
    pub(super) waiters: Vec<u64>,
    started_at: BootTime,
    restarts: u32,
    ready: bool,
    state: State,
    containers: Vec<Container>,
}

impl Replica {
    pub(super) fn start(now: BootTime, workload: Workload, out: &mut Vec<Action>) -> Self {
        let spawning =
            |_: &_| Container { state: ContainerState::Spawning, pid: None, since: now, failures: 0 };
        let containers: Vec<Container> = workload.spec.containers.iter().map(spawning).collect();
        let replica = Self {
            workload,
            waiters: Vec::new(),
            started_at: now,
            restarts: 0,
            ready: false,
            state: State::Alive,
            containers,
        };
        out.extend((0..replica.containers.len()).map(|index| Action::Spawn(replica.slot(index))));
        replica
    }

    /// Whether nothing runs and nothing will be started.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.state, State::Over(_))
    }

    /// Whether it is over because it was told to stop.
    pub(super) fn is_stopped(&self) -> bool {
        self.state == State::Over(Cause::Stopped)
    }

    /// Whether the end of the lease still has something to kill here.
    pub(super) fn must_die_at_lease_end(&self) -> bool {
        is_fenced(&self.workload)
            && match self.state {
                State::Alive => true,
                State::Ending { kill_at, .. } => kill_at.is_some(),
                State::Over(_) => false,
            }
    }

    pub(super) fn deadline(&self) -> Option<BootTime> {
        match self.state {
            State::Alive => self.containers.iter().filter_map(Container::waits_until).min(),
            State::Ending { kill_at, .. } => kill_at,
            State::Over(_) => None,
        }
    }

    pub(super) fn handle_time(&mut self, now: BootTime, out: &mut Vec<Action>) {
        match &mut self.state {
            State::Alive => {
                for index in 0..self.containers.len() {
                    if self.containers[index].waits_until().is_some_and(|until| now >= until) {
                        self.containers[index].state = ContainerState::Spawning;
                        out.push(Action::Spawn(self.slot(index)));
                    }
                }
            }
            State::Ending { kill_at, .. } => {
                if kill_at.is_some_and(|at| now >= at) {
                    *kill_at = None;
                    self.signal_all(Signal::Kill, out);
                }
            }
            State::Over(_) => {}
        }
    }

    /// Stops it with its grace; a replica that ends for another reason becomes a stopped one.
    pub(super) fn stop(&mut self, now: BootTime, out: &mut Vec<Action>) {
        match &mut self.state {
            State::Alive => {
                let kill_at = Some(now + self.workload.spec.stop_grace);
                self.state = State::Ending { cause: Cause::Stopped, kill_at };
                self.signal_all(Signal::Terminate, out);
                self.finish_if_gone(out);
            }
            State::Ending { cause, .. } => *cause = Cause::Stopped,
            State::Over(cause) => {
                *cause = Cause::Stopped;
                out.push(self.event(RuntimeEventKind::Stopped));
            }
        }
    }

    /// Ends it for `cause`, unless it is ending already; a kill overrides a grace.
    pub(super) fn end(&mut self, cause: Cause, signal: Signal, out: &mut Vec<Action>) {
        match &mut self.state {
            State::Alive => self.state = State::Ending { cause, kill_at: None },
            State::Ending { kill_at, .. } => *kill_at = None,
            State::Over(_) => return,
        }
        self.signal_all(signal, out);
        self.finish_if_gone(out);
    }

    pub(super) fn handle_spawned(
        &mut self,
        now: BootTime,
        index: usize,
        pid: Option<u32>,
        out: &mut Vec<Action>,
    ) {
        let Some(container) = self.containers.get_mut(index) else { return };
        container.state = ContainerState::Starting;
        container.pid = pid;
        container.since = now;
        let container = self.name(index);
        out.push(self.event(RuntimeEventKind::Started { container, pid }));
        // It was told to end while its process was being made: that signal found nobody.
        if let State::Ending { kill_at, .. } = self.state {
            let signal = if kill_at.is_some() { Signal::Terminate } else { Signal::Kill };
            out.push(Action::Signal(self.slot(index), signal));
        }
    }

    pub(super) fn handle_spawn_failed(
        &mut self,
        now: BootTime,
        index: usize,
        failure: SpawnFailure,
        out: &mut Vec<Action>,
    ) {
        let Some(container) = self.containers.get_mut(index) else { return };
        container.state = ContainerState::Over(Exit::Code(127));
        match failure {
            SpawnFailure::Transient(_) if self.state == State::Alive => self.restart(now, index, out),
            SpawnFailure::Transient(message) | SpawnFailure::Permanent(message) => {
                self.end(Cause::Failed(message), Signal::Kill, out);
            }
        }
    }

    pub(super) fn handle_running(&mut self, index: usize, out: &mut Vec<Action>) {
        let Some(container) = self.containers.get_mut(index) else { return };
        if container.state == ContainerState::Starting {
            container.state = ContainerState::Running;
        }
        let started = |c: &Container| !matches!(c.state, ContainerState::Spawning | ContainerState::Starting);
        if !self.ready && self.state == State::Alive && self.containers.iter().all(started) {
            self.ready = true;
            out.push(self.event(RuntimeEventKind::Ready));
        }
    }

    pub(super) fn handle_exited(&mut self, index: usize, exit: Exit, out: &mut Vec<Action>) {
        let Some(container) = self.containers.get_mut(index) else { return };
        container.state = ContainerState::Draining(exit);
        container.pid = None;
        let container = self.name(index);
        out.push(self.event(RuntimeEventKind::Exited { container, exit }));
    }

    pub(super) fn handle_gone(&mut self, now: BootTime, index: usize, out: &mut Vec<Action>) {
        let Some(container) = self.containers.get_mut(index) else { return };
        let ContainerState::Draining(exit) = container.state else { return };
        container.state = ContainerState::Over(exit);
        if self.state == State::Alive {
            let again = match self.workload.spec.restart {
                RestartPolicy::Always => true,
                RestartPolicy::OnFailure => !exit.success(),
                RestartPolicy::Never => false,
            };
            if again {
                self.restart(now, index, out);
            } else {
                self.conclude(out);
            }
        } else {
            self.finish_if_gone(out);
        }
    }

    fn restart(&mut self, now: BootTime, index: usize, out: &mut Vec<Action>) {
        let container = &mut self.containers[index];
        if now.since(container.since) >= HEALTHY_AFTER {
            container.failures = 0;
        }
        let delay = Micros(BACK_OFF_MIN.0 << container.failures.min(16)).min(BACK_OFF_MAX);
        container.failures = container.failures.saturating_add(1);
        container.state = ContainerState::Waiting(now + delay);
        self.restarts = self.restarts.saturating_add(1);
        // It is ready again once all its containers run again.
        self.ready = false;
        let container = self.name(index);
        out.push(self.event(RuntimeEventKind::Restarting { container, delay }));
    }

    /// All containers ended by themselves: well or not?
    fn conclude(&mut self, out: &mut Vec<Action>) {
        let exits = || self.containers.iter().enumerate().filter_map(|(i, c)| Some((i, c.over()?)));
        if exits().count() < self.containers.len() {
            return;
        }
        let cause = match exits().find(|(_, exit)| !exit.success()) {
            None => Cause::Finished,
            Some((index, exit)) => Cause::Failed(format!(
                "container {:?} ended with {exit} and its restart policy does not start it again; see its log",
                self.name(index)
            )),
        };
        self.state = State::Ending { cause, kill_at: None };
        self.finish_if_gone(out);
    }

    fn finish_if_gone(&mut self, out: &mut Vec<Action>) {
        let State::Ending { cause, .. } = &self.state else { return };
        if self.containers.iter().any(|container| container.over().is_none()) {
            return;
        }
        let cause = cause.clone();
        let kind = match &cause {
            Cause::Finished => RuntimeEventKind::Finished,
            Cause::Failed(message) => RuntimeEventKind::Failed { message: message.clone() },
            Cause::LeaseExpired => RuntimeEventKind::LeaseExpired,
            Cause::Stopped => RuntimeEventKind::Stopped,
        };
        self.state = State::Over(cause);
        out.push(self.event(kind));
    }

    fn signal_all(&mut self, signal: Signal, out: &mut Vec<Action>) {
        for index in 0..self.containers.len() {
            match self.containers[index].state {
                ContainerState::Waiting(_) => {
                    self.containers[index].state = ContainerState::Over(Exit::Code(0));
                }
                ContainerState::Starting | ContainerState::Running => {
                    out.push(Action::Signal(self.slot(index), signal));
                }
                // The shell kills what is left of a draining one, and a process that does not exist yet gets its
                // signal when it does.
                ContainerState::Spawning | ContainerState::Draining(_) | ContainerState::Over(_) => {}
            }
        }
    }

    pub(super) fn describe(&self) -> RunningReplica {
        RunningReplica {
            workload: self.workload.clone(),
            phase: self.phase(),
            pid: self.containers.iter().find_map(|container| container.pid),
            started_at: self.started_at,
            restarts: self.restarts,
        }
    }

    fn phase(&self) -> ReplicaPhase {
        match &self.state {
            State::Over(Cause::Finished) => ReplicaPhase::Finished,
            State::Over(Cause::Failed(message)) => ReplicaPhase::Failed { message: message.clone() },
            State::Over(Cause::LeaseExpired) => ReplicaPhase::LeaseExpired,
            State::Over(Cause::Stopped) | State::Ending { .. } => ReplicaPhase::Stopping,
            State::Alive => {
                let waits = |c: &Container| matches!(c.state, ContainerState::Waiting(_));
                if self.containers.iter().any(waits) {
                    ReplicaPhase::BackingOff
                } else if self.ready {
                    ReplicaPhase::Running
                } else {
                    ReplicaPhase::Starting
                }
            }
        }
    }

    fn slot(&self, container: usize) -> Slot {
        Slot { replica: self.workload.replica.clone(), container }
    }

    fn name(&self, index: usize) -> String {
        self.workload.spec.containers.get(index).map(|container| container.name.clone()).unwrap_or_default()
    }

    fn event(&self, kind: RuntimeEventKind) -> Action {
        Action::Event(RuntimeEvent {
            replica: self.workload.replica.clone(),
            token: self.workload.token,
            kind,
        })
    }
}

impl Container {
    fn waits_until(&self) -> Option<BootTime> {
        match self.state {
            ContainerState::Waiting(until) => Some(until),
            _ => None,
        }
    }

    fn over(&self) -> Option<Exit> {
        match self.state {
            ContainerState::Over(exit) => Some(exit),
            _ => None,
        }
    }
}
