//! The actor that carries out what [`RestartCore`] decides.

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use codeco_protocol::units::{BootTime, Micros};
use futures::FutureExt as _;
use ractor::{Actor, ActorCell, ActorId, ActorProcessingErr, ActorRef, SpawnErr, SupervisionEvent};
use tokio::sync::mpsc;

use super::child::{ChildContext, ChildSpec, StartError};
use super::restart::{Action, ChildIndex, Input, Policy, RestartCore, Strategy, Ticket};
use crate::mailbox::{ActorEntry, ActorState, Introspection};

/// How long a killed child is waited for: it ends at its next await point, or it blocks its thread for ever.
const KILL_TIMEOUT: Duration = Duration::from_secs(1);

/// What became of a child.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventKind {
    /// It runs.
    Started,
    /// It panicked, returned an error, ended unasked, or could not be started.
    Failed {
        /// Why, in the child's words.
        reason: String,
    },
    /// It will be started again.
    Restarting {
        /// After this wait.
        after: Duration,
    },
    /// It will not be started again.
    GivenUp {
        /// Why.
        reason: String,
    },
    /// It was stopped in order, or has done its work.
    Stopped,
}

/// Something that happened to a child.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Path of the child from the root.
    pub child: String,
    /// What happened.
    pub kind: EventKind,
}

/// A supervisor and its children, as data: start it with [`Supervisor::start`] or make it a child of another.
#[derive(Debug, Clone)]
pub struct SupervisorSpec {
    /// Name, one step of the path.
    pub name: String,
    /// Who restarts with whom.
    pub strategy: Strategy,
    /// The children, in the order in which they start.
    pub children: Vec<ChildSpec>,
    /// Where events go. When nobody drains it, events are dropped and a warning is logged; states stay visible.
    pub events: mpsc::Sender<Event>,
    /// Seed of the jitter.
    pub seed: u64,
}

impl SupervisorSpec {
    /// This supervisor as a child of another. Its time to stop is the sum of its children's, and one second.
    #[must_use]
    pub fn into_child(self, policy: Policy) -> ChildSpec {
        let times = |time: fn(&ChildSpec) -> Duration| self.children.iter().map(time).sum::<Duration>();
        let stop_timeout = times(|child| child.stop_timeout + KILL_TIMEOUT) + Duration::from_secs(1);
        let start_timeout = times(|child| child.start_timeout) + Duration::from_secs(1);
        let name = self.name.clone();
        ChildSpec::new(&name, policy, move |context| {
            let spec = self.clone();
            async move {
                let ChildContext { supervisor, entry, introspection } = context;
                let arguments = (spec, entry, introspection);
                let (actor, _) = Actor::spawn_linked(None, Supervisor, arguments, supervisor).await?;
                Ok(actor.get_cell())
            }
        })
        .stop_timeout(stop_timeout)
        .start_timeout(start_timeout)
    }
}

/// A running root supervisor.
#[derive(Debug)]
pub struct SupervisorHandle {
    actor: ActorRef<SupervisorMessage>,
    ended: tokio::task::JoinHandle<()>,
}

impl SupervisorHandle {
    /// The supervisor itself.
    #[must_use]
    pub fn cell(&self) -> ActorCell {
        self.actor.get_cell()
    }

    /// Stops the children in reverse order, each within its time, and waits for the end.
    pub async fn stop(self) {
        self.actor.stop(None);
        // The task ends without a result; it cannot panic past ractor's own guard.
        let _ = self.ended.await;
    }
}

/// The supervising actor. See the module [`super`].
#[derive(Debug)]
pub struct Supervisor;

impl Supervisor {
    /// Starts a root supervisor. Children start right after, one by one.
    ///
    /// # Errors
    /// When ractor refuses to start the actor; nothing runs then.
    pub async fn start(spec: SupervisorSpec, list: &Introspection) -> Result<SupervisorHandle, SpawnErr> {
        let entry = list.register(&spec.name, None);
        let (actor, ended) = Actor::spawn(None, Self, (spec, entry, list.clone())).await?;
        Ok(SupervisorHandle { actor, ended })
    }
}

/// What a supervisor tells itself.
#[derive(Debug)]
pub enum SupervisorMessage {
    /// Start the children.
    Begin,
    /// A wait is over.
    RestartDue(Ticket),
}

impl ractor::Message for SupervisorMessage {}

#[derive(Debug)]
struct Running {
    spec: ChildSpec,
    entry: Arc<ActorEntry>,
    /// The current incarnation; `None` while there is none or its end is our own doing.
    cell: Option<ActorCell>,
    started_before: bool,
}

/// State of the actor.
#[derive(Debug)]
pub struct SupervisorState {
    core: RestartCore,
    children: Vec<Running>,
    events: mpsc::Sender<Event>,
    entry: Arc<ActorEntry>,
    introspection: Introspection,
    began: Instant,
}

impl Actor for Supervisor {
    type Msg = SupervisorMessage;
    type State = SupervisorState;
    type Arguments = (SupervisorSpec, Arc<ActorEntry>, Introspection);

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        (spec, entry, introspection): Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        let policies: Vec<Policy> = spec.children.iter().map(|child| child.policy).collect();
        let running = |spec: ChildSpec| {
            let entry = introspection.register(&spec.name, Some(entry.name()));
            Running { spec, entry, cell: None, started_before: false }
        };
        myself.send_message(SupervisorMessage::Begin)?;
        Ok(SupervisorState {
            core: RestartCore::new(spec.strategy, &policies, spec.seed),
            children: spec.children.into_iter().map(running).collect(),
            events: spec.events,
            entry,
            introspection,
            began: Instant::now(),
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let input = match message {
            SupervisorMessage::Begin => {
                state.entry.set_state(ActorState::Running);
                Input::Begin
            }
            SupervisorMessage::RestartDue(ticket) => Input::RestartDue(ticket),
        };
        state.run(&myself, input).await;
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<Self::Msg>,
        event: SupervisionEvent,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let (cell, reason, failed) = match event {
            SupervisionEvent::ActorFailed(cell, error) => (cell, error.to_string(), true),
            SupervisionEvent::ActorTerminated(cell, _, reason) => {
                (cell, format!("ended unasked ({})", reason.as_deref().unwrap_or("no reason given")), false)
            }
            _ => return Ok(()),
        };
        // Ends of incarnations that we stopped ourselves, or that have a successor already, are no news.
        let Some(child) = state.child_running_as(cell.get_id()) else { return Ok(()) };
        state.children[child.0].cell = None;
        if failed {
            state.note_failure(child, reason);
            state.run(&myself, Input::Failed(child)).await;
        } else {
            state.children[child.0].entry.set_error(&reason);
            state.run(&myself, Input::Finished(child)).await;
        }
        Ok(())
    }

    async fn post_stop(
        &self,
        _: ActorRef<Self::Msg>,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        for child in (0..state.children.len()).rev().map(ChildIndex) {
            state.stop_child(child).await;
        }
        state.entry.set_state(ActorState::Stopped);
        Ok(())
    }
}

impl SupervisorState {
    fn child_running_as(&self, id: ActorId) -> Option<ChildIndex> {
        let is_it = |child: &Running| child.cell.as_ref().is_some_and(|cell| cell.get_id() == id);
        self.children.iter().position(is_it).map(ChildIndex)
    }

    /// Feeds the core and carries out what it says, until there is nothing left to do.
    async fn run(&mut self, myself: &ActorRef<SupervisorMessage>, input: Input) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let now = BootTime(Micros::from(self.began.elapsed()).0);
            for action in self.core.handle(now, input) {
                inputs.extend(self.carry_out(myself, action).await);
            }
        }
    }

    async fn carry_out(&mut self, myself: &ActorRef<SupervisorMessage>, action: Action) -> Option<Input> {
        match action {
            Action::Start(child) => return Some(self.start_child(myself, child).await),
            Action::Stop(child) => self.stop_child(child).await,
            Action::RestartAfter { ticket, children, after } => {
                let after = after.to_duration();
                for child in children {
                    self.children[child.0].entry.set_state(ActorState::Restarting);
                    self.tell(child, EventKind::Restarting { after });
                }
                // Its end is of no interest: it fails only when the supervisor itself is gone.
                drop(myself.send_after(after, move || SupervisorMessage::RestartDue(ticket)));
            }
            Action::GiveUp { children, failures } => self.give_up(&children, failures),
            Action::Rest(child) => {
                self.children[child.0].entry.set_state(ActorState::Stopped);
                self.tell(child, EventKind::Stopped);
            }
        }
        None
    }

    async fn start_child(&mut self, myself: &ActorRef<SupervisorMessage>, index: ChildIndex) -> Input {
        let child = &mut self.children[index.0];
        child.entry.set_state(ActorState::Starting);
        if child.started_before {
            child.entry.counters().note_restart();
        }
        child.started_before = true;
        let context = ChildContext {
            supervisor: myself.get_cell(),
            entry: Arc::clone(&child.entry),
            introspection: self.introspection.clone(),
        };
        match start(&child.spec, context).await {
            Ok(cell) => {
                child.cell = Some(cell);
                child.entry.set_state(ActorState::Running);
                self.tell(index, EventKind::Started);
                Input::Started(index)
            }
            Err(StartError(reason)) => {
                self.note_failure(index, format!("could not be started: {reason}"));
                Input::Failed(index)
            }
        }
    }

    async fn stop_child(&mut self, index: ChildIndex) {
        let child = &mut self.children[index.0];
        let Some(cell) = child.cell.take() else {
            // Given up stays visible: it is why something does not work.
            if child.entry.state() != ActorState::GivenUp {
                child.entry.set_state(ActorState::Stopped);
            }
            return;
        };
        cell.stop(None);
        if cell.wait(Some(child.spec.stop_timeout)).await.is_err() {
            tracing::warn!(child = child.entry.name(), "did not stop in time, killed");
            let _ = cell.kill_and_wait(Some(KILL_TIMEOUT)).await;
        }
        child.entry.set_state(ActorState::Stopped);
        self.tell(index, EventKind::Stopped);
    }

    fn note_failure(&self, child: ChildIndex, reason: String) {
        let entry = &self.children[child.0].entry;
        entry.counters().note_failure();
        entry.set_error(&reason);
        self.tell(child, EventKind::Failed { reason });
    }

    fn give_up(&self, children: &[ChildIndex], failures: u32) {
        let Some(failed) = children.first().map(|first| &self.children[first.0]) else { return };
        let window = failed.spec.policy.intensity.window.to_duration();
        let cause = failed.entry.report().last_error.unwrap_or_default();
        for child in children {
            let entry = &self.children[child.0].entry;
            let reason = if entry.name() == failed.entry.name() {
                format!("failed {failures} times within {window:?}, last: {cause}")
            } else {
                format!("cannot run without {}, which was given up: {cause}", failed.entry.name())
            };
            entry.set_state(ActorState::GivenUp);
            entry.set_error(&reason);
            self.tell(*child, EventKind::GivenUp { reason });
        }
    }

    fn tell(&self, child: ChildIndex, kind: EventKind) {
        let event = Event { child: self.children[child.0].entry.name().to_owned(), kind };
        if let Err(mpsc::error::TrySendError::Full(event)) = self.events.try_send(event) {
            tracing::warn!(child = event.child, kind = ?event.kind, "nobody drains supervision events: dropped");
        }
    }
}

/// Runs a factory; a panic or a start that takes too long is an error like any other.
async fn start(spec: &ChildSpec, context: ChildContext) -> Result<ActorCell, StartError> {
    let factory = Arc::clone(&spec.factory);
    let guarded = AssertUnwindSafe(async move { factory(context).await }).catch_unwind();
    match tokio::time::timeout(spec.start_timeout, guarded).await {
        Ok(Ok(result)) => result,
        Ok(Err(_)) => Err(StartError("its factory panicked".to_owned())),
        Err(_) => Err(StartError(format!("did not start within {:?}", spec.start_timeout))),
    }
}

#[cfg(test)]
mod tests;
