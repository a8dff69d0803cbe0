//! Messages that know when they were sent, and references that count them and refuse beyond a limit.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ractor::{ActorRef, Message, RpcReplyPort};

use super::introspection::ActorEntry;

/// A message on its way. Counted as waiting until it is opened or dropped.
#[derive(Debug)]
pub struct Tracked<M> {
    /// `None` once opened.
    message: Option<M>,
    sent_at: Instant,
    entry: Arc<ActorEntry>,
}

impl<M: Send + 'static> Message for Tracked<M> {}

impl<M> Tracked<M> {
    /// Takes the message out and counts it as handled, with its wait.
    ///
    /// # Panics
    /// Never: only this and a refused send take the message, and both consume the wrapper.
    #[must_use]
    pub fn open(mut self) -> M {
        self.entry.counters().note_handled(self.sent_at.elapsed());
        match self.message.take() {
            Some(message) => message,
            None => unreachable!("a tracked message is opened once"),
        }
    }
}

impl<M> Drop for Tracked<M> {
    fn drop(&mut self) {
        self.entry.counters().note_left();
    }
}

/// Why a message was not sent. The message comes back.
#[derive(thiserror::Error)]
pub enum SendError<M> {
    /// The mailbox is at its limit: the message was shed and counted. Try later, or send less.
    #[error("mailbox of {actor} is full ({limit} messages waiting): message not sent, try later")]
    Full {
        /// Path of the actor.
        actor: String,
        /// Its limit.
        limit: u64,
        /// What was not sent.
        message: M,
    },
    /// The actor is not running: not started yet, between restarts, stopped or given up.
    #[error("{actor} is not running: message not sent, see its state in the list of actors")]
    NotRunning {
        /// Path of the actor.
        actor: String,
        /// What was not sent.
        message: M,
    },
}

impl<M> fmt::Debug for SendError<M> {
    /// As for people: messages need not be printable.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Why a call has no answer.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum CallError {
    /// The mailbox is at its limit; the request was not sent.
    #[error("mailbox of {actor} is full: request not sent, try later")]
    Full {
        /// Path of the actor.
        actor: String,
    },
    /// The actor was not running; the request was not sent.
    #[error("{actor} is not running: request not sent")]
    NotRunning {
        /// Path of the actor.
        actor: String,
    },
    /// The actor dropped the request or failed while handling it; it may or may not have taken effect.
    #[error("{actor} gave no answer: it failed or dropped the request, which may have taken effect")]
    NoAnswer {
        /// Path of the actor.
        actor: String,
    },
    /// No answer in time; the request may still take effect.
    #[error("{actor} did not answer within {timeout:?}: the request may still take effect")]
    Timeout {
        /// Path of the actor.
        actor: String,
        /// How long was waited.
        timeout: Duration,
    },
}

/// A reference to an actor whose messages are [`Tracked`].
#[derive(Debug)]
pub struct TrackedRef<M> {
    actor: ActorRef<Tracked<M>>,
    entry: Arc<ActorEntry>,
    limit: u64,
}

impl<M> Clone for TrackedRef<M> {
    fn clone(&self) -> Self {
        Self { actor: self.actor.clone(), entry: Arc::clone(&self.entry), limit: self.limit }
    }
}

impl<M: Send + 'static> TrackedRef<M> {
    /// Wraps a reference; messages count in `entry`, and more than `limit` waiting ones are shed.
    #[must_use]
    pub fn new(actor: ActorRef<Tracked<M>>, entry: Arc<ActorEntry>, limit: u64) -> Self {
        Self { actor, entry, limit }
    }

    /// The actor itself.
    #[must_use]
    pub fn actor(&self) -> &ActorRef<Tracked<M>> {
        &self.actor
    }

    /// The actor's entry in the list of actors.
    #[must_use]
    pub fn entry(&self) -> &Arc<ActorEntry> {
        &self.entry
    }

    /// Sends, whatever waits already. For messages that must not be lost and come at a bounded rate, such as
    /// answers and timers; for anything that others can cause, use [`TrackedRef::try_send`].
    ///
    /// # Errors
    /// [`SendError::NotRunning`] with the message.
    pub fn send(&self, message: M) -> Result<(), SendError<M>> {
        self.entry.counters().admit(u64::MAX);
        self.push(message)
    }

    /// Sends, unless the mailbox is at its limit.
    ///
    /// # Errors
    /// [`SendError`] with the message.
    pub fn try_send(&self, message: M) -> Result<(), SendError<M>> {
        if !self.entry.counters().admit(self.limit) {
            return Err(SendError::Full { actor: self.entry.name().to_owned(), limit: self.limit, message });
        }
        self.push(message)
    }

    /// Sends a request, unless the mailbox is at its limit, and waits for the answer.
    ///
    /// # Errors
    /// [`CallError`]: whether the request may have taken effect is said by each variant.
    pub async fn call<R: Send + 'static>(
        &self,
        request: impl FnOnce(RpcReplyPort<R>) -> M,
        timeout: Duration,
    ) -> Result<R, CallError> {
        let (sender, answer) = ractor::concurrency::oneshot();
        let actor = || self.entry.name().to_owned();
        match self.try_send(request((sender, timeout).into())) {
            Ok(()) => {}
            Err(SendError::Full { actor, .. }) => return Err(CallError::Full { actor }),
            Err(SendError::NotRunning { actor, .. }) => return Err(CallError::NotRunning { actor }),
        }
        match tokio::time::timeout(timeout, answer).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => Err(CallError::NoAnswer { actor: actor() }),
            Err(_) => Err(CallError::Timeout { actor: actor(), timeout }),
        }
    }

    fn push(&self, message: M) -> Result<(), SendError<M>> {
        let tracked =
            Tracked { message: Some(message), sent_at: Instant::now(), entry: Arc::clone(&self.entry) };
        self.actor.send_message(tracked).map_err(|error| {
            let message = match error {
                ractor::MessagingErr::SendErr(mut tracked) => tracked.message.take(),
                ractor::MessagingErr::ChannelClosed | ractor::MessagingErr::InvalidActorType => None,
            };
            match message {
                Some(message) => SendError::NotRunning { actor: self.entry.name().to_owned(), message },
                None => unreachable!("a typed reference to a local actor gives refused messages back"),
            }
        })
    }
}

#[cfg(test)]
mod tests;
