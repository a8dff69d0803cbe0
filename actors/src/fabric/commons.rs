//! What the actors of a process share about the fleet. Small locks, held for a moment; no lock is held over an await.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};

use codeco_protocol::gossip::{Delta, Fact, Hint, Liveness, OwnState, StateError, View, Views};
use codeco_protocol::ids::{Identity, MemberId};
use codeco_protocol::transport::{PeerConnection, Transport};
use codeco_protocol::units::BootTime;
use tokio::sync::watch;

use super::inspect::Inspector;
use crate::session::Sessions;
use crate::swm::post::Post;

/// A connection to a member.
#[derive(Debug, Clone)]
pub struct Linked {
    /// The connection.
    pub connection: Arc<PeerConnection>,
    /// Its tasks, ended when this is dropped by everybody.
    pub tasks: Arc<tokio_util::task::AbortOnDropHandle<()>>,
}

/// See the module.
pub struct Commons {
    /// Who we are.
    pub own: Identity,
    /// The endpoint.
    pub transport: Transport,
    /// Takes control messages to and from the cores.
    pub post: Arc<Post>,
    /// Actor sessions.
    pub sessions: Sessions,
    /// Answers questions of others about this process.
    pub inspector: OnceLock<Arc<dyn Inspector>>,
    state: Mutex<OwnState>,
    version: watch::Sender<u64>,
    views: RwLock<Views>,
    liveness: RwLock<BTreeMap<MemberId, (Identity, Liveness)>>,
    links: RwLock<BTreeMap<MemberId, Linked>>,
}

impl std::fmt::Debug for Commons {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Commons({})", self.own)
    }
}

impl Commons {
    /// Nothing known yet. `incarnation` must be higher than in any earlier life of this member.
    #[must_use]
    pub fn new(transport: Transport, post: Arc<Post>, sessions: Sessions, incarnation: u64) -> Arc<Self> {
        Arc::new(Self {
            own: transport.identity(),
            transport,
            post,
            sessions,
            inspector: OnceLock::new(),
            state: Mutex::new(OwnState::new(incarnation)),
            version: watch::Sender::new(0),
            views: RwLock::new(Views::default()),
            liveness: RwLock::new(BTreeMap::new()),
            links: RwLock::new(BTreeMap::new()),
        })
    }

    fn state(&self) -> MutexGuard<'_, OwnState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes this member's own facts; others hear of it at once.
    pub fn publish(&self, change: impl FnOnce(&mut OwnState)) {
        let version = {
            let mut state = self.state();
            change(&mut state);
            state.version()
        };
        self.version.send_if_modified(|known| std::mem::replace(known, version) != version);
    }

    /// Follows the version of this member's own facts.
    #[must_use]
    pub fn follow(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// What a receiver at version `from` lacks of this member's own facts.
    #[must_use]
    pub fn delta(&self, from: u64) -> Delta {
        self.state().delta(from)
    }

    /// Takes what `owner` says of itself.
    ///
    /// # Errors
    /// [`StateError`]; nothing has changed then.
    pub fn learn(&self, now: BootTime, owner: &Identity, delta: Delta) -> Result<(), StateError> {
        self.views.write().unwrap_or_else(PoisonError::into_inner).apply(now, owner, delta)
    }

    /// Reads the views of other members.
    pub fn with_views<T>(&self, read: impl FnOnce(&Views) -> T) -> T {
        read(&self.views.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// A copy of one member's view.
    #[must_use]
    pub fn view(&self, member: MemberId) -> Option<View> {
        self.with_views(|views| views.get(member).cloned())
    }

    /// What is believed of a member.
    #[must_use]
    pub fn liveness(&self, member: MemberId) -> Option<Liveness> {
        self.liveness
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&member)
            .map(|(_, liveness)| *liveness)
    }

    /// What is believed of all members known.
    #[must_use]
    pub fn members(&self) -> Vec<(Identity, Liveness)> {
        self.liveness.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    pub(super) fn set_liveness(&self, member: Identity, liveness: Liveness) {
        self.liveness.write().unwrap_or_else(PoisonError::into_inner).insert(member.id, (member, liveness));
    }

    /// The connection to a member, if there is one.
    #[must_use]
    pub fn link(&self, member: MemberId) -> Option<Arc<PeerConnection>> {
        self.links().get(&member).map(|linked| Arc::clone(&linked.connection))
    }

    /// All connections.
    #[must_use]
    pub fn links(&self) -> BTreeMap<MemberId, Linked> {
        self.links.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set_link(&self, member: MemberId, linked: Option<Linked>) -> Option<Linked> {
        let mut links = self.links.write().unwrap_or_else(PoisonError::into_inner);
        match linked {
            Some(linked) => links.insert(member, linked),
            None => links.remove(&member),
        }
    }

    /// Where members of `peer`'s cluster can be dialled, for `peer`.
    #[must_use]
    pub(super) fn hints_for(&self, peer: &Identity) -> Vec<Hint> {
        let Some(cluster) = peer.cluster() else { return Vec::new() };
        self.with_views(|views| {
            views
                .iter()
                .filter(|view| view.identity.cluster() == Some(cluster) && view.identity.id != peer.id)
                .filter_map(|view| {
                    let address = view.member()?.address?;
                    Some(Hint { identity: view.identity.clone(), address })
                })
                .take(512)
                .collect()
        })
    }

    /// The address at which others can dial us, as far as we know.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.transport.local_addr().ok()
    }

    /// A fact of our own.
    pub fn publish_fact(&self, key: &str, fact: Fact) {
        self.publish(|state| {
            state.set(key, fact);
        });
    }
}
