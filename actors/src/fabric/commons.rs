//! What the actors of a process share about the fleet. Small locks, held for a moment; no lock is held over an await.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use codeco_protocol::coordinate::Coordinate;
use codeco_protocol::gossip::{
    Delta, Fact, Hint, Liveness, Mark, OwnState, SealedDelta, Signer, StateError, View, Views,
};
use codeco_protocol::ids::{Identity, MemberId};
use codeco_protocol::transport::{PeerConnection, Transport};
use codeco_protocol::units::BootTime;
use tokio::sync::{mpsc, watch};

use super::inspect::Inspector;
use super::maps::{self, concerns_all, is_behind};
use super::pacing::Pacing;
use super::passing::Asking;
use super::spoken::Spoken;
use super::talk::{Known, Outgoing};
use crate::clock::boot_now;
use crate::session::Sessions;
use crate::swm::post::Post;

/// Members whose points are kept at most.
const POINTS_MAX: usize = 8_192;
/// Members remembered as forgotten at most.
const FORGOTTEN_MAX: usize = 4_096;

/// A connection to a member.
#[derive(Debug, Clone)]
pub struct Linked {
    /// The connection.
    pub connection: Arc<PeerConnection>,
    /// What is to be told over its gossip stream.
    pub(super) outbox: mpsc::Sender<Outgoing>,
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
    /// What was said to others.
    pub spoken: Spoken,
    state: Mutex<OwnState>,
    /// Version of our own facts, and how far others are told of it.
    written: watch::Sender<u64>,
    hurried: Mutex<Pacing>,
    version: watch::Sender<u64>,
    views: RwLock<Views>,
    /// Grows with every change of a view of our own cluster.
    relayed: watch::Sender<u64>,
    roster: watch::Sender<u64>,
    /// Grows with what is known of clusters and their members: who lives, who is connected, and facts that do not concern
    /// their owner alone.
    known: watch::Sender<u64>,
    liveness: RwLock<BTreeMap<MemberId, (Identity, Liveness)>>,
    /// Whoever looks at them keeps what he has seen; a change makes a new map.
    links: RwLock<Arc<BTreeMap<MemberId, Linked>>>,
    /// Members that relay for this one, the best first.
    relays: RwLock<Vec<MemberId>>,
    /// Where members of other clusters can be dialled, as others say.
    pub(super) foreign: Mutex<super::foreign::Foreign>,
    /// Round trips asked for and answered.
    pub(super) echoes: Mutex<super::echo::Echoes>,
    /// Whether this member speaks for applications, and so needs to reach all clusters.
    home: AtomicBool,
    /// Where this member is in the network, once it knows.
    own_point: watch::Sender<Option<Coordinate>>,
    connected: watch::Sender<u64>,
    /// Whom we ask for maps of others.
    asking: Mutex<Asking>,
    /// Where others say that they are, each heard from itself.
    points: RwLock<BTreeMap<MemberId, Coordinate>>,
    /// Members removed for good.
    forgotten: Mutex<BTreeSet<MemberId>>,
    /// Public keys of members whose facts were passed on.
    keys: Mutex<BTreeMap<MemberId, Vec<u8>>>,
}

/// Versions only grow, whoever comes last.
fn raise(number: &watch::Sender<u64>, to: u64) {
    number.send_if_modified(|known| std::mem::replace(known, to.max(*known)) < to);
}

/// Keys of owners remembered at most; whoever is forgotten is asked for anew.
const KEYS_MAX: usize = 8_192;

/// Why facts that came sealed were not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum LearnError {
    /// They do not go on from what is known.
    State(StateError),
    /// Their owner's key is not known here: they are to come from the beginning.
    NoKey,
    /// They are not their owner's.
    Forged(String),
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
        let (own, credentials) = (transport.identity(), transport.credentials());
        let signer = Signer {
            domain: transport.trust().domain().to_string(),
            owner: own.clone(),
            sign: Arc::new(move |text| credentials.sign(text)),
        };
        Arc::new(Self {
            own,
            transport,
            post,
            sessions,
            inspector: OnceLock::new(),
            spoken: Spoken::default(),
            state: Mutex::new(OwnState::signed(incarnation, signer)),
            written: watch::Sender::new(0),
            hurried: Mutex::default(),
            version: watch::Sender::new(0),
            views: RwLock::new(Views::default()),
            relayed: watch::Sender::new(0),
            roster: watch::Sender::new(0),
            known: watch::Sender::new(0),
            liveness: RwLock::new(BTreeMap::new()),
            links: RwLock::default(),
            relays: RwLock::default(),
            foreign: Mutex::default(),
            echoes: Mutex::default(),
            home: AtomicBool::new(false),
            own_point: watch::Sender::new(None),
            connected: watch::Sender::new(0),
            asking: Mutex::default(),
            points: RwLock::default(),
            forgotten: Mutex::default(),
            keys: Mutex::default(),
        })
    }

    /// Life of this member's own map.
    pub(super) fn incarnation(&self) -> u64 {
        self.state().mark().incarnation
    }

    fn state(&self) -> MutexGuard<'_, OwnState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes this member's own facts; others hear of it soon. Returns whether anything is different.
    pub fn publish(&self, change: impl FnOnce(&mut OwnState)) -> bool {
        let (before, version) = {
            let mut state = self.state();
            let before = state.version();
            change(&mut state);
            (before, state.version())
        };
        raise(&self.written, version);
        before != version
    }

    /// Has others hear at once of what was published: nothing goes on before.
    pub fn tell_now(&self) {
        raise(&self.version, *self.written.borrow());
    }

    /// The same, if it does not come all the time: somebody waits for it.
    pub fn tell_soon(&self) {
        let mut hurried = self.hurried.lock().unwrap_or_else(PoisonError::into_inner);
        if hurried.may_hurry(boot_now(), self.size()) {
            self.tell_now();
        }
    }

    /// Members known of, dead or alive.
    fn size(&self) -> usize {
        self.liveness.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Tells others of what is published, at the pace of a cluster of this size.
    pub(super) async fn tell_paced(self: Arc<Self>) {
        let (mut written, mut pacing) = (self.written.subscribe(), Pacing::default());
        // What was published before is told first.
        written.mark_changed();
        while written.changed().await.is_ok() {
            if *written.borrow() == *self.version.borrow() {
                // Others have heard already, in a hurry.
                continue;
            }
            let now = boot_now();
            let wait = pacing.due(now, self.size()).since(now);
            tokio::time::sleep(Duration::from_micros(wait.0)).await;
            let told = *written.borrow_and_update();
            raise(&self.version, told);
        }
    }

    /// Where others can be dialled may have changed.
    pub(super) fn touch_roster(&self) {
        self.roster.send_modify(|version| *version += 1);
    }

    /// Follows how far others are told of this member's own facts.
    #[must_use]
    pub fn follow(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// Takes facts signed by their owner, told by itself (`own_words`) or by another member of its cluster.
    pub(super) fn learn_sealed(
        &self,
        now: BootTime,
        sealed: SealedDelta,
        own_words: bool,
    ) -> Result<(), LearnError> {
        let owner = sealed.owner.clone();
        // The same facts come from several sides: only the first are worth a check.
        let news = !sealed.delta.facts.is_empty()
            && self.with_views(|views| views.brings_news(owner.id, &sealed.delta));
        if news {
            let key = self.key_of(&sealed)?;
            sealed
                .verify(self.transport.trust().domain().as_str(), &key)
                .map_err(|e| LearnError::Forged(e.to_string()))?;
        } else if !own_words {
            return Ok(());
        }
        let for_all = news && concerns_all(&sealed.delta);
        let apply = |views: &mut Views| {
            if news {
                views.apply_sealed(now, sealed, own_words)
            } else {
                // A sign of life, or what is known: its owner speaks, so all that is known of it is fresh.
                let Delta { incarnation, from, to, .. } = sealed.delta;
                views.apply(now, &owner, Delta { incarnation, from, to: to.min(from), facts: Vec::new() })
            }
        };
        self.change_view(&owner, for_all, apply).map_err(LearnError::State)
    }

    /// The key that must have signed facts.
    fn key_of(&self, sealed: &SealedDelta) -> Result<Vec<u8>, LearnError> {
        let (owner, trust) = (&sealed.owner, self.transport.trust());
        if trust.is_member_revoked(owner.id) {
            return Err(LearnError::Forged(format!("{owner} was revoked")));
        }
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        if sealed.chain.is_empty() {
            return keys.get(&owner.id).cloned().ok_or(LearnError::NoKey);
        }
        let (chain, key) = trust
            .key_of(&sealed.chain)
            .map_err(|why| LearnError::Forged(format!("the certificates of {owner} prove nothing: {why}")))?;
        if chain.id.identity != *owner {
            let found = chain.id.identity;
            return Err(LearnError::Forged(format!("certificates of {found} came with facts of {owner}")));
        }
        if keys.len() >= KEYS_MAX {
            keys.clear();
        }
        keys.insert(owner.id, key.clone());
        Ok(key)
    }

    /// Takes what is said of `owner`, by itself or by another member of its cluster.
    ///
    /// # Errors
    /// [`StateError`]; nothing has changed then.
    pub fn learn(&self, now: BootTime, owner: &Identity, delta: Delta) -> Result<(), StateError> {
        self.change_view(owner, concerns_all(&delta), |views| views.apply(now, owner, delta))
    }

    fn change_view(
        &self,
        owner: &Identity,
        for_all: bool,
        apply: impl FnOnce(&mut Views) -> Result<(), StateError>,
    ) -> Result<(), StateError> {
        let mut views = self.views.write().unwrap_or_else(PoisonError::into_inner);
        let address = |views: &Views| views.get(owner.id).and_then(|view| view.member()?.address);
        let before = address(&views);
        let mark = |views: &Views| views.get(owner.id).map(View::mark);
        let known = mark(&views);
        apply(&mut views)?;
        let news = mark(&views) != known;
        if news && for_all {
            self.touch();
        }
        if news && owner.cluster().is_some() && owner.cluster() == self.own.cluster() {
            self.relayed.send_modify(|version| *version += 1);
        }
        // Who leads a cluster is told as a hint, too.
        if before != address(&views) || (news && for_all) {
            self.touch_roster();
        }
        Ok(())
    }

    /// Members known to live, and since when: what is known of these lives is fresh.
    pub(super) fn refresh(&self, now: BootTime, members: impl Iterator<Item = (MemberId, u64)>) {
        let mut views = self.views.write().unwrap_or_else(PoisonError::into_inner);
        for (member, started) in members {
            views.refresh_life(now, member, started);
        }
    }

    /// Forgets a member: its view, and what was believed of it. What others still say of it is not heard any more, until
    /// it speaks for itself.
    pub(super) fn forget(&self, member: MemberId) {
        let mut forgotten = self.forgotten.lock().unwrap_or_else(PoisonError::into_inner);
        if forgotten.len() < FORGOTTEN_MAX {
            forgotten.insert(member);
        }
        drop(forgotten);
        self.views.write().unwrap_or_else(PoisonError::into_inner).forget(member);
        self.liveness.write().unwrap_or_else(PoisonError::into_inner).remove(&member);
        self.points.write().unwrap_or_else(PoisonError::into_inner).remove(&member);
        self.touch();
    }

    /// Something is known that was not: whoever follows looks again.
    pub fn touch(&self) {
        self.known.send_modify(|number| *number += 1);
    }

    /// Grows with whatever is known of others.
    #[must_use]
    pub fn known_number(&self) -> u64 {
        *self.known.borrow()
    }

    /// Follows what is known of others: facts, connections, liveness.
    #[must_use]
    pub fn follow_known(&self) -> watch::Receiver<u64> {
        self.known.subscribe()
    }

    /// Tells all members that are connected where this one is.
    pub fn set_own_point(&self, point: Coordinate) {
        self.own_point.send_replace(Some(point));
    }

    pub(super) fn follow_own_point(&self) -> watch::Receiver<Option<Coordinate>> {
        self.own_point.subscribe()
    }

    /// Where a member says that it is; `None` if it has not said so, or has named no point.
    #[must_use]
    pub fn point(&self, member: MemberId) -> Option<Coordinate> {
        self.points.read().unwrap_or_else(PoisonError::into_inner).get(&member).copied()
    }

    /// A member says where it is.
    pub(super) fn note_point(&self, member: MemberId, point: Coordinate) {
        let mut points = self.points.write().unwrap_or_else(PoisonError::into_inner);
        match point.checked() {
            Some(point) if points.len() < POINTS_MAX || points.contains_key(&member) => {
                points.insert(member, point);
            }
            _ => {
                points.remove(&member);
            }
        }
    }

    /// Members that operators have removed for good.
    #[must_use]
    pub fn forgotten(&self) -> BTreeSet<MemberId> {
        self.forgotten.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether this member was forgotten, and has not spoken for itself since.
    pub(super) fn is_forgotten(&self, member: MemberId) -> bool {
        self.forgotten.lock().unwrap_or_else(PoisonError::into_inner).contains(&member)
    }

    /// It speaks for itself.
    pub(super) fn remember(&self, member: MemberId) {
        self.forgotten.lock().unwrap_or_else(PoisonError::into_inner).remove(&member);
    }

    /// Follows changes of the views of our own cluster.
    #[must_use]
    pub(super) fn follow_relayed(&self) -> watch::Receiver<u64> {
        self.relayed.subscribe()
    }

    /// Whether the map of a member of our cluster, known so far to another, is news here.
    pub(super) fn is_news(&self, owner: MemberId, mark: Mark) -> bool {
        owner != self.own.id
            && !self.is_forgotten(owner)
            && is_behind(self.mark(owner).unwrap_or_default(), mark)
    }

    /// A map that was asked for has come, or part of it.
    pub(super) fn delivered(&self, owner: MemberId) {
        self.asking.lock().unwrap_or_else(PoisonError::into_inner).delivered(owner);
    }

    /// Follows changes of where members can be dialled.
    #[must_use]
    pub(super) fn follow_roster(&self) -> watch::Receiver<u64> {
        self.roster.subscribe()
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

    /// How far one member's map is known.
    pub(super) fn mark(&self, member: MemberId) -> Option<Mark> {
        self.with_views(|views| views.get(member).map(View::mark))
    }

    /// This member as others see it now.
    #[must_use]
    pub fn own_view(&self, now: BootTime) -> View {
        self.state().as_view(&self.own, now)
    }

    /// Says whether this member speaks for applications.
    pub fn set_home(&self, home: bool) {
        self.home.store(home, Ordering::Relaxed);
    }

    /// Whether this member speaks for applications.
    #[must_use]
    pub fn is_home(&self) -> bool {
        self.home.load(Ordering::Relaxed)
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
        self.touch();
    }

    /// The connection to a member, if there is one.
    #[must_use]
    pub fn link(&self, member: MemberId) -> Option<Arc<PeerConnection>> {
        let links = self.links.read().unwrap_or_else(PoisonError::into_inner);
        links.get(&member).map(|linked| Arc::clone(&linked.connection))
    }

    /// All connections.
    #[must_use]
    pub fn links(&self) -> Arc<BTreeMap<MemberId, Linked>> {
        Arc::clone(&self.links.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn set_link(&self, member: MemberId, linked: Option<Linked>) -> Option<Linked> {
        let fresh = linked.as_ref().map(|linked| Arc::clone(&linked.connection));
        let before = {
            let mut links = self.links.write().unwrap_or_else(PoisonError::into_inner);
            let links = Arc::make_mut(&mut links);
            match linked {
                Some(linked) => links.insert(member, linked),
                None => links.remove(&member),
            }
        };
        let relaying = self.transport.relaying();
        if let Some(before) = &before {
            relaying.withdraw(member, before.connection.stable_id());
        }
        // Whether others than hubs relay is found at the next look.
        if let Some(fresh) = fresh.filter(|fresh| !fresh.is_relayed()) {
            relaying.admit(&fresh, fresh.identity().is_hub());
        }
        self.connected.send_modify(|version| *version += 1);
        self.touch();
        self.touch_roster();
        before
    }

    /// Follows connections that come and go.
    #[must_use]
    pub fn follow_links(&self) -> watch::Receiver<u64> {
        self.connected.subscribe()
    }

    /// Members that relay for this one, the best first.
    #[must_use]
    pub fn relays(&self) -> Vec<MemberId> {
        self.relays.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set_relays(&self, relays: Vec<MemberId>) {
        *self.relays.write().unwrap_or_else(PoisonError::into_inner) = relays;
    }

    /// Where members of `peer`'s cluster can be dialled, for `peer`.
    #[must_use]
    pub(super) fn hints_for(&self, peer: &Identity) -> Vec<Hint> {
        let Some(cluster) = peer.cluster() else { return Vec::new() };
        let mut hints = self.foreign_hints(peer);
        hints.extend(self.with_views(|views| {
            views
                .iter()
                .filter(|view| view.identity.cluster() == Some(cluster) && view.identity.id != peer.id)
                .filter_map(|view| {
                    let address = self.dialable(view, Some(cluster))?;
                    Some(Hint { identity: view.identity.clone(), address })
                })
                .take(512)
                .collect::<Vec<_>>()
        }));
        hints
    }

    /// The address at which others can dial us, as far as we know.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.transport.local_addr().ok()
    }

    /// What this member says of itself under `key`.
    #[must_use]
    pub fn own_fact(&self, key: &str) -> Option<Fact> {
        self.state().fact(key).cloned()
    }

    /// A fact of our own.
    pub fn publish_fact(&self, key: &str, fact: Fact) {
        self.publish(|state| {
            state.set(key, fact);
        });
    }
}

/// What the streams of this process have to tell.
impl Known for &Commons {
    fn version(&self) -> u64 {
        *self.version.borrow()
    }

    fn relayed(&self) -> u64 {
        *self.relayed.borrow()
    }

    fn roster(&self) -> u64 {
        *self.roster.borrow()
    }

    fn point(&self) -> Option<Coordinate> {
        *self.own_point.borrow()
    }

    fn sealed(&mut self, from: u64) -> Option<SealedDelta> {
        let credentials = self.transport.credentials();
        let chain: Vec<Vec<u8>> = credentials.chain().iter().map(|der| der.to_vec()).collect();
        self.state().sealed(from, &chain)
    }

    fn marks(&self) -> Vec<(MemberId, Mark)> {
        let own = (self.own.id, self.state().mark());
        self.with_views(|views| maps::marks(own, self.own.cluster(), views))
    }

    fn ahead(&self, peer: MemberId, known: &BTreeMap<MemberId, Mark>) -> Vec<(MemberId, Mark)> {
        self.with_views(|views| maps::ahead(self.own.cluster(), views, peer, known))
    }

    fn lacking(&self, wants: &BTreeSet<MemberId>, known: &BTreeMap<MemberId, Mark>) -> Vec<SealedDelta> {
        self.with_views(|views| maps::lacking(self.own.cluster(), views, wants, known))
    }

    fn mark(&self, owner: MemberId) -> Option<Mark> {
        Commons::mark(self, owner)
    }

    fn is_news(&self, owner: MemberId, mark: Mark) -> bool {
        Commons::is_news(self, owner, mark)
    }

    fn may_ask(&mut self, now: BootTime, owner: MemberId, peer: MemberId) -> bool {
        self.asking.lock().unwrap_or_else(PoisonError::into_inner).may(now, owner, peer)
    }

    fn hints_for(&self, peer: &Identity) -> Vec<Hint> {
        Commons::hints_for(self, peer)
    }
}
