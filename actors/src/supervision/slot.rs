//! A reference that follows a child through its restarts.

use std::time::Duration;

use ractor::{ActorStatus, RpcReplyPort};
use tokio::sync::watch;

use crate::mailbox::{CallError, SendError, TrackedRef};

/// The end that is told of each new incarnation.
#[derive(Debug)]
pub struct ChildSlot<M> {
    path: String,
    current: watch::Sender<Option<TrackedRef<M>>>,
}

impl<M: Send + 'static> ChildSlot<M> {
    /// An empty slot; `name` is how errors call the child.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self { path: name.to_owned(), current: watch::Sender::new(None) }
    }

    /// Everybody reaches this incarnation from now on.
    pub fn fill(&self, current: TrackedRef<M>) {
        self.current.send_replace(Some(current));
    }

    /// A reference that follows this slot.
    #[must_use]
    pub fn child_ref(&self) -> ChildRef<M> {
        ChildRef { path: self.path.clone(), current: self.current.subscribe() }
    }
}

/// Reaches the current incarnation of a child.
///
/// Between incarnations messages are refused, not kept: senders decide whether to wait
/// ([`ChildRef::running`]), to retry or to drop.
#[derive(Debug)]
pub struct ChildRef<M> {
    path: String,
    current: watch::Receiver<Option<TrackedRef<M>>>,
}

impl<M> Clone for ChildRef<M> {
    fn clone(&self) -> Self {
        Self { path: self.path.clone(), current: self.current.clone() }
    }
}

impl<M: Send + 'static> ChildRef<M> {
    /// The incarnation started last, if there was any; it may have ended since.
    #[must_use]
    pub fn current(&self) -> Option<TrackedRef<M>> {
        self.current.borrow().clone()
    }

    /// Waits until an incarnation runs. `None` if the supervisor is gone and there will be no other.
    pub async fn running(&self) -> Option<TrackedRef<M>> {
        let mut current = self.current.clone();
        let running = |current: &Option<TrackedRef<M>>| current.as_ref().is_some_and(is_running);
        current.wait_for(running).await.ok().and_then(|current| current.clone())
    }

    /// As [`TrackedRef::send`], to the current incarnation.
    ///
    /// # Errors
    /// [`SendError::NotRunning`] with the message.
    pub fn send(&self, message: M) -> Result<(), SendError<M>> {
        match &*self.current.borrow() {
            Some(child) => child.send(message),
            None => Err(SendError::NotRunning { actor: self.path.clone(), message }),
        }
    }

    /// As [`TrackedRef::try_send`], to the current incarnation.
    ///
    /// # Errors
    /// [`SendError`] with the message.
    pub fn try_send(&self, message: M) -> Result<(), SendError<M>> {
        match &*self.current.borrow() {
            Some(child) => child.try_send(message),
            None => Err(SendError::NotRunning { actor: self.path.clone(), message }),
        }
    }

    /// As [`TrackedRef::call`], to the current incarnation.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn call<R: Send + 'static>(
        &self,
        request: impl FnOnce(RpcReplyPort<R>) -> M,
        timeout: Duration,
    ) -> Result<R, CallError> {
        match self.current() {
            Some(child) => child.call(request, timeout).await,
            None => Err(CallError::NotRunning { actor: self.path.clone() }),
        }
    }
}

fn is_running<M: Send + 'static>(child: &TrackedRef<M>) -> bool {
    matches!(child.actor().get_status(), ActorStatus::Starting | ActorStatus::Running)
}
