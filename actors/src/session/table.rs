//! Which sessions there are, found by handshake label, by binding and by identity.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use codeco_protocol::ids::Identity;
use ractor::{ActorCell, ActorRef};
use ractor_cluster::NodeSessionMessage;
use tokio::sync::{Semaphore, oneshot};

use super::frame::Binding;
use super::stream::Backlog;

/// Why a session ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DownReason {
    /// Closed here, on request.
    #[error("closed by this process")]
    Detached,
    /// A newer connection of the same peer took over.
    #[error("replaced by a newer connection of the same peer")]
    Replaced,
    /// The peer closed it, its process ended, the connection broke, or a frame broke the rules.
    #[error("the connection ended, or the peer broke the protocol")]
    Lost,
    /// The name in the handshake is not the one in the certificate.
    #[error("the peer calls itself {claimed:?}, but its certificate says {certified:?}")]
    WrongName {
        /// What the handshake said, cut to 200 characters.
        claimed: String,
        /// What the certificate says.
        certified: String,
    },
    /// The peer has no facade, or stopped it.
    #[error("the peer offers no facade to call")]
    NoFacade,
    /// The handshake took too long.
    #[error("the handshake was not done in time")]
    HandshakeTimeout,
}

/// How far a session is.
#[derive(Debug, Default)]
pub(super) enum Phase {
    /// Handshake under way; whoever attached it waits for the outcome.
    #[default]
    Opening,
    /// Name checked; requests from the peer are taken, its facade is not known yet.
    Named,
    /// Open, with the peer's facade.
    Up(ActorCell),
    /// Ended or about to.
    Closed,
}

/// What a session was when it was closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Closed {
    /// Closed already.
    Before,
    /// Not open yet.
    WhileOpening,
    /// Open.
    WhileUp,
}

/// One session.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) label: String,
    pub(super) identity: Identity,
    pub(super) binding: Binding,
    pub(super) calls_out: Arc<Semaphore>,
    pub(super) calls_in: Arc<Semaphore>,
    pub(super) backlog: Arc<Backlog>,
    phase: Mutex<Phase>,
    /// ractor_cluster's actor for it, once there is one.
    actor: Mutex<Option<ActorRef<NodeSessionMessage>>>,
    opened: Mutex<Option<oneshot::Sender<Result<(), DownReason>>>>,
}

impl Session {
    pub(super) fn new(
        label: String,
        identity: Identity,
        binding: Binding,
        calls_in_flight_max: u32,
        opened: oneshot::Sender<Result<(), DownReason>>,
    ) -> Self {
        Self {
            label,
            identity,
            binding,
            calls_out: Arc::new(Semaphore::new(calls_in_flight_max as usize)),
            calls_in: Arc::new(Semaphore::new(calls_in_flight_max as usize)),
            backlog: Arc::default(),
            phase: Mutex::default(),
            actor: Mutex::default(),
            opened: Mutex::new(Some(opened)),
        }
    }

    /// The peer's facade while the session is up.
    pub(super) fn facade(&self) -> Option<ActorCell> {
        match &*lock(&self.phase) {
            Phase::Up(facade) => Some(facade.clone()),
            _ => None,
        }
    }

    /// Whether requests with this session's binding are taken.
    pub(super) fn takes_requests(&self) -> bool {
        matches!(&*lock(&self.phase), Phase::Named | Phase::Up(_))
    }

    /// Remembers ractor_cluster's actor, and stops it if the session was closed meanwhile.
    pub(super) fn set_actor(&self, actor: ActorRef<NodeSessionMessage>) {
        *lock(&self.actor) = Some(actor);
        if matches!(&*lock(&self.phase), Phase::Closed) {
            self.stop_actor();
        }
    }

    pub(super) fn actor(&self) -> Option<ActorRef<NodeSessionMessage>> {
        lock(&self.actor).clone()
    }

    pub(super) fn set_named(&self) {
        let mut phase = lock(&self.phase);
        if matches!(*phase, Phase::Opening) {
            *phase = Phase::Named;
        }
    }

    /// Opens the session; false if it was closed meanwhile.
    pub(super) fn set_up(&self, facade: ActorCell) -> bool {
        let mut phase = lock(&self.phase);
        if !matches!(*phase, Phase::Named) {
            return false;
        }
        *phase = Phase::Up(facade);
        self.tell_outcome(Ok(()));
        true
    }

    /// Closes it for `reason`, unless it has been for another, and stops ractor_cluster's actor.
    pub(super) fn close(&self, reason: DownReason) -> Closed {
        let mut phase = lock(&self.phase);
        let closed = match *phase {
            Phase::Closed => return Closed::Before,
            Phase::Up(_) => Closed::WhileUp,
            Phase::Opening | Phase::Named => Closed::WhileOpening,
        };
        *phase = Phase::Closed;
        drop(phase);
        self.tell_outcome(Err(reason));
        self.stop_actor();
        closed
    }

    fn tell_outcome(&self, outcome: Result<(), DownReason>) {
        if let Some(opened) = lock(&self.opened).take() {
            // Whoever attached it may have stopped waiting.
            let _ = opened.send(outcome);
        }
    }

    fn stop_actor(&self) {
        if let Some(actor) = &*lock(&self.actor) {
            actor.stop(Some("session closed".to_owned()));
        }
    }
}

#[derive(Debug, Default)]
struct Indexes {
    by_label: HashMap<String, Arc<Session>>,
    by_binding: HashMap<Binding, Arc<Session>>,
    by_identity: HashMap<Identity, Arc<Session>>,
}

/// All sessions of the process.
#[derive(Debug, Default)]
pub(super) struct Table {
    indexes: RwLock<Indexes>,
}

impl Table {
    /// Adds a session; the newest of an identity is the one found by it. False, and nothing added, at the limit
    /// or if the binding is in use.
    pub(super) fn insert(&self, session: &Arc<Session>, sessions_max: usize) -> bool {
        let mut indexes = self.write();
        if indexes.by_label.len() >= sessions_max || indexes.by_binding.contains_key(&session.binding) {
            return false;
        }
        indexes.by_label.insert(session.label.clone(), Arc::clone(session));
        indexes.by_binding.insert(session.binding, Arc::clone(session));
        indexes.by_identity.insert(session.identity.clone(), Arc::clone(session));
        true
    }

    /// Drops a session; a newer one of the same identity stays.
    pub(super) fn remove(&self, session: &Session) {
        let mut indexes = self.write();
        indexes.by_label.remove(&session.label);
        indexes.by_binding.remove(&session.binding);
        if indexes.by_identity.get(&session.identity).is_some_and(|newest| newest.label == session.label) {
            indexes.by_identity.remove(&session.identity);
        }
    }

    pub(super) fn by_label(&self, label: &str) -> Option<Arc<Session>> {
        self.read().by_label.get(label).cloned()
    }

    pub(super) fn by_identity(&self, identity: &Identity) -> Option<Arc<Session>> {
        self.read().by_identity.get(identity).cloned()
    }

    /// The session whose peer may send with this binding.
    pub(super) fn sender_with(&self, binding: &Binding) -> Option<Arc<Session>> {
        self.read().by_binding.get(binding).filter(|session| session.takes_requests()).cloned()
    }

    pub(super) fn all(&self) -> Vec<Arc<Session>> {
        let mut all: Vec<_> = self.read().by_label.values().cloned().collect();
        all.sort_by(|a, b| a.identity.cmp(&b.identity));
        all
    }

    fn read(&self) -> RwLockReadGuard<'_, Indexes> {
        self.indexes.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Indexes> {
        self.indexes.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Nothing panics while it holds these locks, and what they guard is valid at every moment.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use codeco_protocol::ids::{MemberId, Role};

    use super::*;

    fn session(label: &str, member: u128, binding: u8) -> Arc<Session> {
        let identity = Identity { role: Role::Hub, id: MemberId(member) };
        let (opened, _) = oneshot::channel();
        Arc::new(Session::new(label.to_owned(), identity, Binding([binding; 16]), 1, opened))
    }

    #[test]
    fn session_not_named_yet_or_closed_lends_its_binding_to_nobody() {
        let (table, session) = (Table::default(), session("1", 1, 1));
        assert!(table.insert(&session, 10));
        assert!(table.sender_with(&session.binding).is_none());
        session.set_named();
        assert!(table.sender_with(&session.binding).is_some());
        assert!(table.sender_with(&Binding([9; 16])).is_none());
        assert_eq!(session.close(DownReason::Detached), Closed::WhileOpening);
        assert!(table.sender_with(&session.binding).is_none());
    }

    #[test]
    fn binding_in_use_and_sessions_beyond_the_limit_are_not_taken() {
        let table = Table::default();
        assert!(table.insert(&session("1", 1, 1), 2));
        assert!(!table.insert(&session("2", 2, 1), 2));
        assert!(table.insert(&session("3", 3, 3), 2));
        assert!(!table.insert(&session("4", 4, 4), 2));
    }

    #[test]
    fn removing_a_replaced_session_leaves_the_newer_one() {
        let (table, old, new) = (Table::default(), session("1", 1, 1), session("2", 1, 2));
        assert!(table.insert(&old, 10) && table.insert(&new, 10));
        table.remove(&old);
        assert_eq!(table.by_identity(&new.identity).map(|s| s.label.clone()).as_deref(), Some("2"));
        assert!(table.by_label("1").is_none());
        table.remove(&new);
        assert!(table.all().is_empty() && table.by_identity(&new.identity).is_none());
    }

    #[test]
    fn close_keeps_its_first_reason_and_tells_it() {
        let identity = Identity { role: Role::Hub, id: MemberId(1) };
        let (opened, mut outcome) = oneshot::channel();
        let session = Session::new("1".to_owned(), identity, Binding([1; 16]), 1, opened);
        assert_eq!(session.close(DownReason::HandshakeTimeout), Closed::WhileOpening);
        assert_eq!(session.close(DownReason::Lost), Closed::Before);
        assert_eq!(outcome.try_recv(), Ok(Err(DownReason::HandshakeTimeout)));
    }
}
