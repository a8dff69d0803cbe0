//! What a supervisor has to know to start a child, over and over.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use ractor::{Actor, ActorCell};

use super::restart::Policy;
use super::slot::{ChildRef, ChildSlot};
use crate::mailbox::{ActorEntry, Introspection, Tracked, TrackedRef};

/// Why a child could not be started. Text only: it is for the list of actors and for events.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct StartError(pub String);

impl From<ractor::SpawnErr> for StartError {
    fn from(error: ractor::SpawnErr) -> Self {
        Self(error.to_string())
    }
}

/// What a factory is given.
#[derive(Debug, Clone)]
pub struct ChildContext {
    /// To be linked to: start the child with `spawn_linked` and this.
    pub supervisor: ActorCell,
    /// The child's entry in the list of actors: counters, state, path.
    pub entry: Arc<ActorEntry>,
    /// The list itself, for children that start actors of their own.
    pub introspection: Introspection,
}

type Factory = dyn Fn(ChildContext) -> BoxFuture<'static, Result<ActorCell, StartError>> + Send + Sync;

/// One child: its name, how to start it, when to restart it, how long it may take to start and to stop.
#[derive(Clone)]
pub struct ChildSpec {
    pub(super) name: String,
    pub(super) policy: Policy,
    pub(super) factory: Arc<Factory>,
    pub(super) start_timeout: Duration,
    pub(super) stop_timeout: Duration,
}

impl fmt::Debug for ChildSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChildSpec").field("name", &self.name).field("policy", &self.policy).finish()
    }
}

impl ChildSpec {
    /// A child started by `factory`, which must link it to [`ChildContext::supervisor`]. It has 10 s to start and
    /// 5 s to stop.
    pub fn new<F, Fut>(name: &str, policy: Policy, factory: F) -> Self
    where
        F: Fn(ChildContext) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<ActorCell, StartError>> + Send + 'static,
    {
        Self {
            name: name.to_owned(),
            policy,
            factory: Arc::new(move |context| factory(context).boxed()),
            start_timeout: Duration::from_secs(10),
            stop_timeout: Duration::from_secs(5),
        }
    }

    /// A child that takes [`Tracked`] messages, at most `mailbox_limit` waiting, and the reference that follows it
    /// through its restarts. `make` gives a fresh actor and its arguments for each incarnation.
    pub fn tracked<A, M, F>(name: &str, policy: Policy, mailbox_limit: u64, make: F) -> (Self, ChildRef<M>)
    where
        A: Actor<Msg = Tracked<M>>,
        M: Send + 'static,
        F: Fn() -> (A, A::Arguments) + Send + Sync + 'static,
    {
        let slot = Arc::new(ChildSlot::new(name));
        let child_ref = slot.child_ref();
        let make = Arc::new(make);
        let spec = Self::new(name, policy, move |context| {
            let (slot, make) = (Arc::clone(&slot), Arc::clone(&make));
            async move {
                let (actor, arguments) = make();
                let (actor, _) = Actor::spawn_linked(None, actor, arguments, context.supervisor).await?;
                slot.fill(TrackedRef::new(actor.clone(), context.entry, mailbox_limit));
                Ok(actor.get_cell())
            }
        });
        (spec, child_ref)
    }

    /// Sets how long one start may take before it counts as failed.
    #[must_use]
    pub fn start_timeout(mut self, timeout: Duration) -> Self {
        self.start_timeout = timeout;
        self
    }

    /// Sets how long the child may take to stop before it is killed. A child that is a supervisor needs the sum of
    /// its children's times.
    #[must_use]
    pub fn stop_timeout(mut self, timeout: Duration) -> Self {
        self.stop_timeout = timeout;
        self
    }
}
