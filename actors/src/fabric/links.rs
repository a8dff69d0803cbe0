//! The actor that keeps the connections.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use codeco_protocol::gossip::{
    Hint, Liveness, MembershipInput, MembershipOutput, Parting, Probe, Ring, RingConfig, Rumor,
};
use codeco_protocol::identity::Expected;
use codeco_protocol::ids::{Identity, MemberId};
use codeco_protocol::transport::{
    Backoff, BackoffBounds, CloseReason, ConnectError, ConnectionEnd, PeerConnection, RefusalReason,
    is_relayed,
};
use codeco_protocol::units::{BootTime, Micros};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::commons::{Commons, Linked};
use super::link::{self, SessionRole};
use super::relays::Try;
use super::routes::{Routes, Way};
use super::talk::OUTBOX_MAX;
use crate::clock::{Alarm, boot_now};
use crate::mailbox::Tracked;
use crate::supervision::{ChildRef, ChildSlot, ChildSpec, Policy, StartError};

/// Messages waiting for the actor at most.
const MAILBOX_MAX: u64 = 8_192;
/// Connections within the cluster from which on addresses kept from earlier are not dialled.
const CONTACTS: usize = 4;
/// Between two looks at who lives.
const REFRESH: Micros = Micros::from_millis(500);
/// Between two looks at the time at least, and at most.
const TICK: Duration = Duration::from_millis(75);
const TICK_MAX: Duration = Duration::from_millis(300);
/// How long it looks often after something about connections has changed.
const LIVELY: Micros = Micros::from_secs(3);
/// How long a session may be missing before the member with the lower id opens it.
const SESSION_MISSING: Micros = Micros::from_millis(300);
/// And before the other one does.
const SESSION_MISSING_LONG: Micros = Micros::from_millis(1_500);
/// Both double with each try, so many times.
const SESSION_TRIES_MAX: u32 = 4;
/// Members dialled at most.
const TARGETS_MAX: usize = 1_024;

/// The rest of the process, as the connections see it.
pub trait Watcher: Send + Sync + 'static {
    /// Who the lead of our cluster is, as far as known. A session is opened to it.
    fn lead(&self) -> Option<MemberId>;
    /// Members of our cluster to which connection and session are kept, whoever our neighbours are.
    fn kept(&self) -> Vec<MemberId> {
        self.lead().into_iter().collect()
    }
    /// A member is believed to be otherwise than before.
    fn changed(&self, member: &Identity, liveness: Liveness);
    /// This member hears nobody (`true`), or somebody again.
    fn cut_off(&self, cut_off: bool);
    /// Where members of our cluster can be dialled: to be kept for the next start.
    fn peers_known(&self, peers: Vec<SocketAddr>);
}

/// Whom to connect to, and whom to tell.
#[derive(Clone)]
pub struct LinksConfig {
    /// Hubs to dial.
    pub hubs: Vec<SocketAddr>,
    /// Members of our cluster to dial, besides those that gossip names.
    pub peers: Vec<SocketAddr>,
    /// Hubs or leads to dial that are to relay, before any other.
    pub relays: Vec<SocketAddr>,
    /// The rest of the process.
    pub watcher: Arc<dyn Watcher>,
    /// How members of our cluster observe each other.
    pub membership: RingConfig,
    /// Seed of the back-off's jitter.
    pub seed: u64,
}

/// What the actor takes.
#[derive(Debug)]
pub enum LinksMessage {
    /// A connection is up, dialled or accepted.
    Up(Box<PeerConnection>),
    /// One from elsewhere than the present connection of that member is of its present life.
    Checked(Box<PeerConnection>),
    /// Somebody to dial was reached.
    Dialled(SocketAddr, Box<PeerConnection>),
    /// Dialling failed.
    DialFailed {
        /// Whom: the address it is listed under.
        target: SocketAddr,
        /// Which way.
        way: Way,
        /// How.
        error: ConnectError,
    },
    /// A connection has ended.
    Ended {
        /// The member.
        member: MemberId,
        /// Which connection.
        stable_id: usize,
        /// How.
        end: ConnectionEnd,
    },
    /// A probe arrived.
    Probe {
        /// From whom.
        from: MemberId,
        /// The probe.
        probe: Probe,
    },
    /// Rumors arrived.
    Rumors {
        /// From whom.
        from: MemberId,
        /// The rumors.
        rumors: Vec<Rumor>,
    },
    /// A member that is wanted could not be reached.
    Unreached {
        /// Which.
        member: MemberId,
        /// The way that was tried, if there was one.
        way: Option<Way>,
    },
    /// A member is to be forgotten.
    Forget(MemberId),
    /// A member says where others can be dialled.
    Hints {
        /// Which member.
        from: Identity,
        /// Where.
        hints: Vec<Hint>,
    },
    /// Time has passed.
    Tick,
    /// Fail, to see what happens.
    Panic,
}

/// Somebody to dial.
#[derive(Debug)]
struct Target {
    expected: Expected,
    /// Who should be there, as others say; needed to ask a relay.
    said: Option<MemberId>,
    /// Who answered there last.
    who: Option<MemberId>,
    backoff: Backoff,
    next: BootTime,
    dialling: bool,
    /// Whether it is dialled whatever other connections there are.
    kept: bool,
}

/// A session that is wanted.
#[derive(Debug, Clone, Copy)]
struct Missing {
    /// Since when nobody tries to open it.
    since: BootTime,
    /// How often it was tried.
    tries: u32,
}

struct LinksActor {
    commons: Arc<Commons>,
    config: LinksConfig,
    myself: ChildRef<LinksMessage>,
    alarm: Arc<Alarm>,
}

struct LinksState {
    membership: Ring,
    /// Where members of our cluster can be dialled.
    addresses: BTreeMap<MemberId, (Identity, SocketAddr)>,
    next_refresh: BootTime,
    targets: BTreeMap<SocketAddr, Target>,
    routes: Routes,
    rng: fastrand::Rng,
    session_with: Option<MemberId>,
    /// Members with which a session is wanted and missing.
    missing: BTreeMap<MemberId, Missing>,
    /// Until when it looks often, because something about connections has changed.
    lively: BootTime,
    tasks: Vec<AbortOnDropHandle<()>>,
}

/// The actor as a supervised child.
#[must_use]
pub fn links_child(
    commons: Arc<Commons>,
    config: LinksConfig,
    policy: Policy,
) -> (ChildSpec, ChildRef<LinksMessage>) {
    let slot = Arc::new(ChildSlot::new("links"));
    let child = slot.child_ref();
    let myself = child.clone();
    let alarm = Arc::new(Alarm::default());
    let spec = ChildSpec::new("links", policy, move |context| {
        let (commons, alarm) = (Arc::clone(&commons), Arc::clone(&alarm));
        let actor = LinksActor { commons, config: config.clone(), myself: myself.clone(), alarm };
        let slot = Arc::clone(&slot);
        async move {
            let (actor, _) =
                Actor::spawn_linked(None, actor, (), context.supervisor).await.map_err(StartError::from)?;
            slot.fill(crate::mailbox::TrackedRef::new(actor.clone(), context.entry, MAILBOX_MAX));
            Ok(actor.get_cell())
        }
    });
    (spec, child)
}

impl Actor for LinksActor {
    type Msg = Tracked<LinksMessage>;
    type State = LinksState;
    type Arguments = ();

    async fn pre_start(
        &self,
        _myself: ActorRef<Self::Msg>,
        (): (),
    ) -> Result<Self::State, ActorProcessingErr> {
        let cluster = self.commons.own.cluster().cloned();
        let mut targets = BTreeMap::new();
        let now = boot_now();
        for hub in &self.config.hubs {
            targets.insert(*hub, Target::new(Expected::Hub, now));
        }
        for peer in &self.config.peers {
            if let Some(cluster) = &cluster {
                targets.entry(*peer).or_insert_with(|| Target::new(Expected::NodeOf(cluster.clone()), now));
            }
        }
        for relay in &self.config.relays {
            targets.entry(*relay).or_insert_with(|| Target::new(Expected::Any, now)).kept = true;
        }
        let (own, incarnation) = (self.commons.own.clone(), self.commons.incarnation());
        let mut membership = Ring::new(self.config.membership, own, incarnation, self.config.seed, now);
        // After a restart of this actor the connections are still there.
        for linked in self.commons.links().values() {
            let identity = linked.connection.identity().clone();
            membership.handle(now, MembershipInput::Connected(identity), &mut Vec::new());
        }
        let tasks = vec![
            AbortOnDropHandle::new(tokio::spawn(accept(Arc::clone(&self.commons), self.myself.clone()))),
            AbortOnDropHandle::new(tokio::spawn(tick(self.myself.clone(), Arc::clone(&self.alarm)))),
            AbortOnDropHandle::new(tokio::spawn(Arc::clone(&self.commons).tell_paced())),
        ];
        let rng = fastrand::Rng::with_seed(self.config.seed);
        Ok(LinksState {
            membership,
            addresses: BTreeMap::new(),
            next_refresh: now,
            targets,
            routes: Routes::default(),
            rng,
            session_with: None,
            missing: BTreeMap::new(),
            lively: now + LIVELY,
            tasks,
        })
    }

    async fn handle(
        &self,
        _myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let now = boot_now();
        let message = message.open();
        // The membership itself says when it wants to look again.
        if !matches!(message, LinksMessage::Tick | LinksMessage::Probe { .. } | LinksMessage::Rumors { .. }) {
            state.lively = now + LIVELY;
        }
        match message {
            LinksMessage::Up(connection) => self.arrived(now, *connection, state),
            LinksMessage::Dialled(at, connection) => {
                if let Some(target) = state.targets.get_mut(&at) {
                    target.reached(connection.identity().id);
                }
                self.arrived(now, *connection, state);
            }
            LinksMessage::Checked(connection) => self.up(now, *connection, state),
            LinksMessage::DialFailed { target, way, error } => {
                self.dial_failed(now, target, way, &error, state);
            }
            LinksMessage::Ended { member, stable_id, end } => self.ended(now, member, stable_id, &end, state),
            LinksMessage::Probe { from, probe } => {
                self.judge(now, MembershipInput::Probe { from, probe }, state);
            }
            LinksMessage::Rumors { from, rumors } => {
                for rumor in rumors {
                    self.judge(now, MembershipInput::Rumor { from, rumor }, state);
                }
            }
            LinksMessage::Unreached { member, way } => {
                if let Some(way) = way {
                    state.routes.failed(member, way);
                }
                self.judge(now, MembershipInput::DialFailed(member), state);
            }
            LinksMessage::Forget(member) => {
                // Nobody forgets whom he hears.
                let alive = Some(Liveness::Alive);
                if self.commons.liveness(member) != alive && state.membership.liveness(member) != alive {
                    self.forget(now, member, state);
                }
            }
            LinksMessage::Hints { from, hints } => self.hints(now, &from, hints, state),
            LinksMessage::Tick => {
                self.judge(now, MembershipInput::Tick, state);
                self.refresh(now, state);
                self.dial_due(now, state);
                self.follow_lead(state);
                self.find_missing_sessions(now, state);
            }
            LinksMessage::Panic => panic!("a fault was injected"),
        }
        let soon = now + Micros::from(TICK);
        self.alarm.set(if now < state.lively { soon } else { state.membership.next_tick(now).max(soon) });
        Ok(())
    }

    async fn post_stop(
        &self,
        _myself: ActorRef<Self::Msg>,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        state.tasks.clear();
        Ok(())
    }
}

impl LinksActor {
    /// Whether this member is connected already, from another address.
    fn is_from_elsewhere(&self, connection: &PeerConnection) -> bool {
        let present = self.commons.link(connection.identity().id);
        present.is_some_and(|old| old.end().is_none() && old.remote_addr() != connection.remote_addr())
    }

    fn arrived(&self, now: BootTime, connection: PeerConnection, state: &mut LinksState) {
        if self.is_from_elsewhere(&connection) {
            self.check_life(connection);
        } else {
            self.up(now, connection, state);
        }
    }

    /// Lets a connection in only if its process is not outlived by another one with the same identity.
    fn check_life(&self, connection: PeerConnection) {
        let (commons, myself) = (Arc::clone(&self.commons), self.myself.clone());
        tokio::spawn(async move {
            if link::is_superseded(&commons, &connection).await {
                let problem = "another process with this identity has begun a later life: is one a copy of the other's \
                               disk? Stop one, and have it join anew";
                connection.refuse(RefusalReason::Superseded, problem);
                return;
            }
            if let Some(old) = commons.link(connection.identity().id)
                && link::is_outlived(&old, &connection).await
            {
                // Whoever dialled it: it does not lead to the member any more.
                old.close(CloseReason::Duplicate);
            }
            if let Some(running) = myself.running().await {
                // The process stops: the connection is dropped, and so closed.
                let _ = running.send(LinksMessage::Checked(Box::new(connection)));
            }
        });
    }

    /// A connection is up. Where there are two between the same members, both sides keep the one that is not relayed,
    /// else the one dialled by the lower id, so that they agree without a word.
    fn up(&self, now: BootTime, connection: PeerConnection, state: &mut LinksState) {
        let connection = Arc::new(connection);
        let identity = connection.identity().clone();
        if identity == self.commons.own {
            connection.close(CloseReason::Unneeded);
            return;
        }
        let address = connection.remote_addr();
        if let Some(target) = state.targets.get_mut(&address) {
            target.reached(identity.id);
        }
        let lower_dialled = |c: &PeerConnection| c.is_dialled() == (self.commons.own.id < identity.id);
        if let Some(old) = self.commons.link(identity.id)
            && old.end().is_none()
        {
            let stays = match (old.is_relayed(), connection.is_relayed()) {
                (false, true) => true,
                (true, false) => false,
                _ => lower_dialled(&old) && !lower_dialled(&connection),
            };
            if stays {
                connection.close(CloseReason::Duplicate);
                return;
            }
        }
        let way = if connection.is_relayed() { Way::Relayed } else { Way::Direct };
        state.routes.connected(now, identity.id, way);
        self.commons.remember(identity.id);
        self.commons.post.introduce(&identity);
        let role = self.session_role(&identity, connection.is_dialled());
        let (outbox, waiting) = mpsc::channel(OUTBOX_MAX);
        let (commons, myself) = (Arc::clone(&self.commons), self.myself.clone());
        let task = link::run(commons, Arc::clone(&connection), role, myself, outbox.clone(), waiting);
        let tasks = Arc::new(AbortOnDropHandle::new(tokio::spawn(task)));
        let linked = Linked { connection: Arc::clone(&connection), outbox, tasks };
        if let Some(old) = self.commons.set_link(identity.id, Some(linked)) {
            old.connection.close(CloseReason::Duplicate);
        }
        match self.commons.via(&connection) {
            Some(relay) => {
                tracing::info!(peer = %identity, %relay, dialled = connection.is_dialled(), "connected through a relay");
            }
            None => {
                tracing::info!(peer = %identity, %address, dialled = connection.is_dialled(), "connected");
            }
        }
        self.judge(now, MembershipInput::Connected(identity), state);
    }

    /// A node opens a session to its lead, a lead to every hub, and who has dialled a node of another cluster to that.
    fn session_role(&self, peer: &Identity, dialled: bool) -> SessionRole {
        let lead = self.config.watcher.lead();
        let to_my_lead = lead == Some(peer.id) && peer.cluster() == self.commons.own.cluster();
        let i_lead = lead == Some(self.commons.own.id);
        let abroad =
            !peer.is_hub() && !self.commons.own.is_hub() && peer.cluster() != self.commons.own.cluster();
        if to_my_lead || (i_lead && peer.is_hub()) || (abroad && dialled) {
            SessionRole::Open
        } else {
            SessionRole::Wait
        }
    }

    /// The lead has become known, or has changed, after connections were made.
    fn follow_lead(&self, state: &mut LinksState) {
        let lead = self.config.watcher.lead();
        if lead.is_none() || lead == state.session_with {
            return;
        }
        state.session_with = lead;
        for linked in self.commons.links().values() {
            let identity = linked.connection.identity().clone();
            let dialled = linked.connection.is_dialled();
            if self.session_role(&identity, dialled) == SessionRole::Open
                && !self.commons.sessions.is_up(&identity)
            {
                let task = link::run_session(Arc::clone(&self.commons), Arc::clone(&linked.connection));
                tokio::spawn(task);
            }
        }
    }

    /// Sessions between voters, and such as were lost while their connection stayed. The member with the lower id opens
    /// one; the other only if that does not happen.
    fn find_missing_sessions(&self, now: BootTime, state: &mut LinksState) {
        let lead = self.config.watcher.lead();
        let i_lead = lead == Some(self.commons.own.id);
        let kept = self.config.watcher.kept();
        let links = self.commons.links();
        let wanted = links.iter().filter(|(member, linked)| {
            let peer = linked.connection.identity();
            let of_ours = peer.cluster() == self.commons.own.cluster();
            ((of_ours && kept.contains(member)) || (i_lead && peer.is_hub()))
                && !self.commons.sessions.is_up(peer)
        });
        let wanted: BTreeMap<MemberId, Arc<PeerConnection>> =
            wanted.map(|(member, linked)| (*member, Arc::clone(&linked.connection))).collect();
        state.missing.retain(|member, _| wanted.contains_key(member));
        for (member, connection) in wanted {
            let missing = state.missing.entry(member).or_insert(Missing { since: now, tries: 0 });
            if self.commons.sessions.is_opening(connection.identity()) {
                // Another attempt would end that one, and be ended by the next.
                missing.since = now;
                continue;
            }
            let patience =
                if self.commons.own.id < member || i_lead { SESSION_MISSING } else { SESSION_MISSING_LONG };
            if now.since(missing.since) >= Micros(patience.0 << missing.tries.min(SESSION_TRIES_MAX)) {
                *missing = Missing { since: now, tries: missing.tries + 1 };
                tokio::spawn(link::run_session(Arc::clone(&self.commons), connection));
            }
        }
    }

    fn dial_failed(
        &self,
        now: BootTime,
        address: SocketAddr,
        way: Way,
        error: &ConnectError,
        state: &mut LinksState,
    ) {
        let Some(target) = state.targets.get_mut(&address) else { return };
        target.dialling = false;
        if let Some(member) = target.member() {
            state.routes.failed(member, way);
        }
        let wait = target.backoff.next_wait(&mut state.rng);
        target.next = now + Micros::from(wait);
        if target.backoff.failures() == 1 {
            let member = target.member();
            tracing::warn!(%address, ?member, ?way, %error, "cannot connect; trying again");
        }
    }

    fn ended(
        &self,
        now: BootTime,
        member: MemberId,
        stable_id: usize,
        end: &ConnectionEnd,
        state: &mut LinksState,
    ) {
        let Some(current) = self.commons.link(member).filter(|current| current.stable_id() == stable_id)
        else {
            return;
        };
        self.commons.set_link(member, None);
        tracing::info!(?member, %end, "disconnected");
        let parting = match end {
            ConnectionEnd::ByPeer { reason: CloseReason::Shutdown | CloseReason::Removed, .. } => {
                Parting::Left
            }
            // It will not come back: nobody else lets it in either.
            ConnectionEnd::ByUs if self.commons.transport.trust().revoked(current.chain()).is_some() => {
                Parting::Left
            }
            ConnectionEnd::ByUs
            | ConnectionEnd::ByPeer { reason: CloseReason::Unneeded | CloseReason::Duplicate, .. } => {
                Parting::Unneeded
            }
            _ => Parting::Lost,
        };
        self.judge(now, MembershipInput::Disconnected { member, parting }, state);
        for target in state.targets.values_mut().filter(|target| target.who == Some(member)) {
            target.next = now;
        }
    }

    /// Removes a member for good, and what is left of a connection that nobody answers on.
    fn forget(&self, now: BootTime, member: MemberId, state: &mut LinksState) {
        if let Some(linked) = self.commons.set_link(member, None) {
            linked.connection.close(CloseReason::Removed);
        }
        self.judge(now, MembershipInput::Forget(member), state);
        self.commons.forget(member);
        state.addresses.remove(&member);
        state.routes.forget(member);
        state.targets.retain(|_, target| target.who != Some(member) || target.is_kept());
    }

    /// Members of our own cluster that others know of.
    fn hints(&self, now: BootTime, from: &Identity, hints: Vec<Hint>, state: &mut LinksState) {
        let own = &self.commons.own;
        let hints = self.commons.read_hints(hints);
        self.commons.take_foreign(&hints);
        if !from.is_hub() && from.cluster() != own.cluster() {
            return;
        }
        let mut moved = false;
        for Hint { identity, address } in hints.into_iter().take(TARGETS_MAX) {
            let ours = identity.cluster().is_some() && identity.cluster() == own.cluster();
            let room = state.addresses.len() < TARGETS_MAX || state.addresses.contains_key(&identity.id);
            if !ours || identity == *own || !room || self.commons.is_forgotten(identity.id) {
                continue;
            }
            let known = state.addresses.insert(identity.id, (identity.clone(), address));
            moved |= known.is_none_or(|(_, before)| before != address);
            self.judge(now, MembershipInput::Known(identity), state);
        }
        if moved {
            let peers = state.addresses.values().map(|(_, address)| *address);
            let peers = peers.filter(|address| !is_relayed(*address));
            self.config.watcher.peers_known(peers.collect());
        }
    }

    /// What is known of those who live is fresh; and the lead is kept in reach, whoever our neighbours are.
    fn refresh(&self, now: BootTime, state: &mut LinksState) {
        if state.next_refresh > now {
            return;
        }
        state.next_refresh = now + REFRESH;
        if !state.membership.is_cut_off() {
            self.commons.refresh(now, state.membership.living_since().into_iter());
        }
        self.keep_lead(now, state);
        self.reach_clusters(now, state);
        self.tend_relays(now, state);
    }

    /// Who relays, and for whom, follows from the connections there are; and relayed ones may become direct.
    fn tend_relays(&self, now: BootTime, state: &mut LinksState) {
        let asked = state.targets.iter().filter(|(address, _)| self.config.relays.contains(address));
        let configured: BTreeSet<MemberId> = asked.filter_map(|(_, target)| target.who).collect();
        self.commons.tend_relays(self.config.watcher.lead(), &configured);
        for linked in self.commons.links().values().filter(|linked| linked.connection.is_relayed()) {
            let identity = linked.connection.identity();
            let member = identity.id;
            let known = state.addresses.get(&member).map(|(_, address)| *address);
            let address = known.or_else(|| self.commons.foreign_address(member));
            if let Some(address) = address.filter(|address| !is_relayed(*address))
                && state.routes.upgrade_due(now, member)
            {
                let expected = Expected::Id(identity.clone());
                self.try_member(member, Some(Try { way: Way::Direct, address, through: None, expected }));
            }
        }
    }

    /// Leads, and homes of applications, reach the leads of other clusters.
    fn reach_clusters(&self, now: BootTime, state: &mut LinksState) {
        let cluster = self.commons.own.cluster();
        let of_other = |expected: &Expected| matches!(expected, Expected::NodeOf(of) if Some(of) != cluster);
        let leads = self.config.watcher.lead() == Some(self.commons.own.id);
        let reaches = cluster.is_some() && (leads || self.commons.is_home());
        let list = if reaches { self.commons.foreign_to_dial() } else { Vec::new() };
        let of_cluster = |(cluster, member, address)| (address, (Expected::NodeOf(cluster), member));
        let wanted: BTreeMap<SocketAddr, (Expected, MemberId)> = list.into_iter().map(of_cluster).collect();
        let dialling = |target: &Target| target.dialling;
        state.targets.retain(|at, target| {
            let wanted = wanted.get(at).map(|(expected, _)| expected);
            !of_other(&target.expected) || dialling(target) || wanted == Some(&target.expected)
        });
        for (address, (expected, member)) in wanted {
            let target = state.targets.entry(address).or_insert_with(|| Target::new(expected, now));
            (target.kept, target.said) = (true, Some(member));
        }
    }

    fn keep_lead(&self, now: BootTime, state: &mut LinksState) {
        let kept = self.config.watcher.kept();
        let own = self.commons.own.id;
        let wanted: BTreeMap<SocketAddr, Expected> = kept
            .iter()
            .filter(|member| **member != own)
            .filter_map(|member| state.addresses.get(member))
            .map(|(identity, address)| (*address, Expected::Id(identity.clone())))
            .collect();
        // Only these are kept by name; a former lead, or one that has moved, is left to the membership.
        state.targets.retain(|at, target| {
            !matches!(target.expected, Expected::Id(_)) || wanted.get(at) == Some(&target.expected)
        });
        for (address, expected) in wanted {
            state.targets.entry(address).or_insert_with(|| Target::new(expected, now)).kept = true;
        }
    }

    fn dial_due(&self, now: BootTime, state: &mut LinksState) {
        let links = self.commons.links();
        let cluster = self.commons.own.cluster();
        let mut contacts = links.values().filter(|l| l.connection.identity().cluster() == cluster).count()
            + state.targets.values().filter(|t| t.dialling && !t.is_kept()).count();
        let LinksState { targets, routes, .. } = state;
        for (address, target) in targets {
            let connected = target.who.is_some_and(|who| links.contains_key(&who))
                || matches!(&target.expected, Expected::Id(id) if links.contains_key(&id.id));
            // Addresses of our cluster that may be outdated are of use until the membership has found its way.
            let spare = !target.is_kept() && contacts >= CONTACTS;
            if connected || target.dialling || target.next > now || spare {
                continue;
            }
            let attempt = self.attempt(routes, target.member(), *address, target.expected.clone());
            let Some(attempt) = attempt else { continue };
            target.dialling = true;
            contacts += usize::from(!target.is_kept());
            let (commons, myself) = (Arc::clone(&self.commons), self.myself.clone());
            let (target, way) = (*address, attempt.way);
            tokio::spawn(async move {
                let message = match commons.reach(attempt).await {
                    Ok(connection) => LinksMessage::Dialled(target, Box::new(connection)),
                    Err(error) => LinksMessage::DialFailed { target, way, error },
                };
                if let Some(running) = myself.running().await {
                    // The process stops: the connection is dropped, and so closed.
                    let _ = running.send(message);
                }
            });
        }
    }

    /// What to try next, to reach whoever should be at an address.
    fn attempt(
        &self,
        routes: &Routes,
        member: Option<MemberId>,
        address: SocketAddr,
        expected: Expected,
    ) -> Option<Try> {
        let relays = member.map(|member| self.commons.relays_to(member)).unwrap_or_default();
        let addressed = !is_relayed(address);
        let way = match member {
            Some(member) => routes.choose(member, addressed, relays.len())?,
            None if addressed => Way::Direct,
            None => return None,
        };
        let through = match (way, member) {
            (Way::Relayed, Some(member)) => Some((member, routes.pick(member, &relays))),
            _ => None,
        };
        Some(Try { way, address, through, expected })
    }

    /// Dials a member for the membership core, and tells it if that fails.
    fn dial(&self, identity: &Identity, state: &LinksState) {
        let member = identity.id;
        // Somebody may yet say where it is; until then only relays may know.
        let address = state.addresses.get(&member).map(|(_, address)| *address);
        let address = address.unwrap_or_else(|| self.commons.transport.relaying().address_of(member));
        let expected = Expected::Id(identity.clone());
        self.try_member(member, self.attempt(&state.routes, Some(member), address, expected));
    }

    fn try_member(&self, member: MemberId, attempt: Option<Try>) {
        let (commons, myself) = (Arc::clone(&self.commons), self.myself.clone());
        tokio::spawn(async move {
            let way = attempt.as_ref().map(|attempt| attempt.way);
            let connected = match attempt {
                Some(attempt) => commons.reach(attempt).await.ok(),
                None => None,
            };
            let message = match connected {
                Some(connection) => LinksMessage::Up(Box::new(connection)),
                None => LinksMessage::Unreached { member, way },
            };
            if let Some(running) = myself.running().await {
                let _ = running.send(message);
            }
        });
    }

    /// The membership has no use for a connection; sessions may.
    fn let_go(&self, member: MemberId) {
        let lead = self.config.watcher.lead();
        if lead == Some(self.commons.own.id) || self.config.watcher.kept().contains(&member) {
            return;
        }
        if let Some(connection) = self.commons.link(member) {
            connection.close(CloseReason::Unneeded);
        }
    }

    fn judge(&self, now: BootTime, input: MembershipInput, state: &mut LinksState) {
        let mut out = Vec::new();
        state.membership.handle(now, input, &mut out);
        for output in out {
            match output {
                MembershipOutput::Send { to, probe } => link::send_probe(&self.commons, to, probe),
                MembershipOutput::Tell { to, rumor } => link::tell_rumor(&self.commons, to, rumor),
                MembershipOutput::Dial(member) => self.dial(&member, state),
                MembershipOutput::Drop(member) => self.let_go(member),
                MembershipOutput::Outlived(member) => {
                    if let Some(connection) = self.commons.link(member) {
                        connection.close(CloseReason::Unneeded);
                    }
                }
                MembershipOutput::Changed { member, liveness } => {
                    tracing::info!(peer = %member, ?liveness, "member");
                    self.commons.set_liveness(member.clone(), liveness);
                    self.config.watcher.changed(&member, liveness);
                }
                MembershipOutput::CutOff(cut_off) => self.config.watcher.cut_off(cut_off),
            }
        }
    }
}

impl Target {
    /// Hubs, and the lead.
    fn is_kept(&self) -> bool {
        self.kept || self.expected == Expected::Hub
    }

    fn new(expected: Expected, now: BootTime) -> Self {
        let bounds = BackoffBounds { first: Duration::from_millis(100), max: Duration::from_secs(5) };
        let backoff = Backoff::new(bounds);
        Self { expected, said: None, who: None, backoff, next: now, dialling: false, kept: false }
    }

    /// Who should be there.
    fn member(&self) -> Option<MemberId> {
        match &self.expected {
            Expected::Id(identity) => Some(identity.id),
            _ => self.said,
        }
    }

    fn reached(&mut self, who: MemberId) {
        self.dialling = false;
        self.who = Some(who);
        self.backoff.reset();
    }
}

async fn accept(commons: Arc<Commons>, myself: ChildRef<LinksMessage>) {
    while let Some(connection) = commons.transport.accept().await {
        let Some(running) = myself.running().await else { return };
        // The actor has just failed: the peer dials again.
        let _ = running.send(LinksMessage::Up(Box::new(connection)));
    }
}

async fn tick(myself: ChildRef<LinksMessage>, alarm: Arc<Alarm>) {
    loop {
        if alarm.goes_off(TICK, TICK_MAX).await {
            // A tick lost on a full mailbox is made up by the next.
            let _ = myself.try_send(LinksMessage::Tick);
        }
    }
}
