//! Membership over kept connections: neighbours on rings observe each other, and several of them agree on a death.
//!
//! Why not probe members at random, as SWIM does: over QUIC each pair that ever talks costs a connection. So each member
//! keeps about eight, probes them in turn, and tells everybody along them when one falls silent. The rules and their
//! reasons are in the files of this folder:
//!
//! | file | concept |
//! |---|---|
//! | `members`, `roster` | what is known of everybody, by numbers in place of ids |
//! | `graph` | who observes whom |
//! | `edge` | what is known of one connection |
//! | `edges` | probes over one connection, and when it counts as silent; «I am cut off» |
//! | `health` | how far a member trusts itself to judge others |
//! | `votes`, `verdicts` | votes of observers, and when they make a death |
//! | `contact` | whom to be connected to; rumors passed on; lists of the dead exchanged |
//!
//! What a member does in a second must not depend on how many there are: nothing that time alone sets off walks over all
//! of them. So there are sets of those that something is to be done about, and only what changes one member, or the view
//! as a whole, costs more.
//!
//! Members of other clusters, and hubs, are *outsiders*: observed by whoever is connected to them, alone.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod contact;
mod edge;
mod edges;
mod graph;
mod health;
mod members;
mod roster;
mod verdicts;
mod votes;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Life, Liveness, MembershipInput, MembershipOutput, Rumor};
use crate::ids::{Identity, MemberId};
use crate::units::{BootTime, Micros};
use edge::{Edge, Edges};
use graph::{Graph, Reach};
use health::Health;
use members::{Members, counts_as_living};
pub use roster::Shared;
use votes::Votes;

/// Most members of one cluster. Each costs every other about a hundred bytes: sixteen for what is believed of it, as many
/// for its id, up to sixteen to find its number, and some fifty for its neighbours on the graph.
pub const MEMBERS_MAX: usize = 16_384;
/// Most outsiders.
const OUTSIDERS_MAX: usize = 4_096;

/// Times and sizes of the detector. The graph's must be the same at every member of a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RingConfig {
    /// Rings; each member has about twice as many neighbours.
    pub rings: u64,
    /// Up to so many members, all are neighbours.
    pub mesh_max: usize,
    /// Between two probes of one edge, at eight edges; more edges are probed less often each.
    pub period: Micros,
    /// An answer missing for this long is a vote.
    pub window: Micros,
    /// Between two probes while an answer is missing.
    pub retry: Micros,
    /// Between the first vote and the verdict.
    pub grace: Micros,
    /// Quiet time of the view before the graph follows it; where it never rests, the graph follows after three times that.
    pub settle: Micros,
    /// Between two attempts to reach some dead member.
    pub revive: Micros,
    /// A tick later than this says that this process was held up: what it missed proves nothing.
    pub late: Micros,
}

impl RingConfig {
    /// Fast detection.
    #[must_use]
    pub const fn lan() -> Self {
        Self {
            rings: 4,
            mesh_max: 16,
            period: Micros::from_millis(1_000),
            window: Micros::from_millis(1_000),
            retry: Micros::from_millis(150),
            grace: Micros::from_millis(1_200),
            settle: Micros::from_secs(3),
            revive: Micros::from_secs(2),
            late: Micros::from_millis(600),
        }
    }

    /// Few bytes: for links that are paid by what crosses them.
    #[must_use]
    pub const fn metered() -> Self {
        Self {
            period: Micros::from_millis(3_000),
            window: Micros::from_millis(1_300),
            retry: Micros::from_millis(250),
            grace: Micros::from_millis(1_500),
            revive: Micros::from_secs(5),
            ..Self::lan()
        }
    }
}

/// Our own vote on a neighbour.
#[derive(Debug, Clone, Copy, Default)]
struct OwnVote {
    stands: bool,
    number: u64,
    /// Not again before, and how long to wait after the next.
    next: BootTime,
    pause: Micros,
    /// To be withdrawn at.
    withdraw: Option<BootTime>,
}

/// A member of another cluster, or a hub.
#[derive(Debug, Clone)]
struct Outsider {
    identity: Identity,
    liveness: Liveness,
    edge: Edge,
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Ring {
    config: RingConfig,
    own: Identity,
    life: Life,
    rng: fastrand::Rng,
    members: Members,
    /// The number of this member.
    me: u32,
    edges: Edges,
    outsiders: BTreeMap<MemberId, Outsider>,
    votes: Votes,
    own_votes: BTreeMap<u32, OwnVote>,
    /// On whom one of them stands.
    accusing: BTreeSet<u32>,
    /// Who has contradicted last, and when. Forgotten when it is of no use any more.
    refuted: BTreeMap<u32, BootTime>,
    accused: BTreeMap<u32, BootTime>,
    unreachable: BTreeMap<u32, BootTime>,
    /// Over the members not believed dead, as they were when the view last settled.
    graph: Arc<Graph>,
    shared: Option<Arc<Shared>>,
    /// Members of the graph that are believed dead or gone.
    absent: BTreeSet<u32>,
    /// How far the graph leads from here, until something changes that.
    reach: Option<Reach>,
    /// When the view changed first and last, until the graph has followed.
    unsettled: Option<(BootTime, BootTime)>,
    cut_off: Option<BootTime>,
    next_revive: BootTime,
    last_tick: BootTime,
    health: Health,
    /// All edges are not checked again before this.
    next_check: BootTime,
    sequence: u32,
}

impl Ring {
    /// A member that knows nobody yet. `started` must be higher than in any earlier life of it; `seed` decides whom it
    /// dials when it has the choice.
    #[must_use]
    pub fn new(config: RingConfig, own: Identity, started: u64, seed: u64, now: BootTime) -> Self {
        let members = Members::alone(own.id);
        Self::with_members(config, own, started, seed, now, (members, 0, None))
    }

    /// A member that has been told of all members of `shared`, as by [`MembershipInput::Known`], and shares with others what
    /// does not differ between them. `None` if it is none of them itself.
    #[must_use]
    pub fn sharing(
        config: RingConfig,
        own: Identity,
        started: u64,
        seed: u64,
        now: BootTime,
        shared: &Arc<Shared>,
    ) -> Option<Self> {
        let me = shared.roster.find(own.id)?;
        let members = Members::all(Arc::clone(&shared.roster), me);
        let members = (members, me, Some(Arc::clone(shared)));
        Some(Self::with_members(config, own, started, seed, now, members))
    }

    fn with_members(
        config: RingConfig,
        own: Identity,
        started: u64,
        seed: u64,
        now: BootTime,
        (members, me, shared): (Members, u32, Option<Arc<Shared>>),
    ) -> Self {
        let graph = Graph::over(members.roster(), members.living(), config.rings, config.mesh_max);
        Self {
            config,
            own,
            life: Life { started, refutations: 0 },
            rng: fastrand::Rng::with_seed(seed),
            members,
            me,
            edges: Edges::default(),
            outsiders: BTreeMap::new(),
            votes: Votes::default(),
            own_votes: BTreeMap::new(),
            accusing: BTreeSet::new(),
            refuted: BTreeMap::new(),
            accused: BTreeMap::new(),
            unreachable: BTreeMap::new(),
            graph: Arc::new(graph),
            shared,
            absent: BTreeSet::new(),
            reach: None,
            unsettled: None,
            cut_off: None,
            next_revive: now,
            last_tick: now,
            health: Health::new(now),
            next_check: now,
            sequence: 0,
        }
    }

    /// As if it had been told that all whom it knows live in this life, and had got used to it.
    pub fn believe_all(&mut self, life: Life) {
        for at in self.members.iter().map(|(at, _)| at).collect::<Vec<u32>>() {
            self.members.set_life(at, life);
            self.members.set_liveness(at, Liveness::Alive);
        }
        self.follow_view();
    }

    /// Feeds one input; outputs are appended to `out`.
    pub fn handle(&mut self, now: BootTime, input: MembershipInput, out: &mut Vec<MembershipOutput>) {
        match input {
            MembershipInput::Known(identity) => self.known(&identity),
            MembershipInput::Connected(identity) => self.connected(now, identity, out),
            MembershipInput::Disconnected { member, parting } => {
                self.disconnected(now, member, parting, out);
            }
            MembershipInput::DialFailed(member) => self.dial_failed(now, member),
            MembershipInput::Probe { from, probe } => self.probed(now, from, probe, out),
            MembershipInput::Rumor { from, rumor } => self.hear(now, from, &rumor, out),
            MembershipInput::Forget(member) => self.forget(member),
            MembershipInput::Tick => self.tick(now, out),
        }
    }

    fn tick(&mut self, now: BootTime, out: &mut Vec<MembershipOutput>) {
        let late = now.since(self.last_tick) > self.config.late;
        self.last_tick = now;
        self.health.recovers(now);
        if late {
            self.health.suffers(now);
        }
        self.edges.put_to_rest(now);
        let peers = self.edges.iter_mut().map(|(_, edge)| edge);
        for edge in peers.chain(self.outsiders.values_mut().map(|outsider| &mut outsider.edge)) {
            if late && edge.awaiting.is_some() {
                // This process was held up, so it has missed answers that came: every edge gets its window anew.
                edge.awaiting = Some(now);
            }
            edge.forgive(now);
        }
        self.probe(now, out);
        self.judge_isolation(now, out);
        self.judge_outsiders(now, out);
        if self.cut_off.is_none() {
            self.cast_votes(now, out);
            self.reach_verdicts(now, out);
        }
        self.keep_contact(now, out);
    }

    /// What is believed of every member known.
    #[must_use]
    pub fn members(&self) -> Vec<(Identity, Liveness)> {
        let peers = self.members.iter().map(|(at, liveness)| (self.identity(at), liveness));
        peers.chain(self.outsiders.values().map(|o| (o.identity.clone(), o.liveness))).collect()
    }

    /// Members believed alive, and when their present life began; 0 where that is not known.
    #[must_use]
    pub fn living_since(&self) -> Vec<(MemberId, u64)> {
        let peers = self.members.iter().filter(|(_, liveness)| *liveness == Liveness::Alive);
        let outsiders = self.outsiders.values().filter(|outsider| outsider.liveness == Liveness::Alive);
        peers
            .map(|(at, _)| (self.members.id(at), self.members.life(at).started))
            .chain(outsiders.map(|outsider| (outsider.identity.id, 0)))
            .collect()
    }

    /// How many other members of the own cluster are believed alive, suspected, and believed dead.
    #[must_use]
    pub fn counts(&self) -> (usize, usize, usize) {
        let suspects = self.members.suspects().len();
        (self.members.living_count() - 1 - suspects, suspects, self.members.dead().len())
    }

    /// Whether this member hears nobody although it should.
    #[must_use]
    pub fn is_cut_off(&self) -> bool {
        self.cut_off.is_some()
    }

    /// When [`MembershipInput::Tick`] is due next.
    #[must_use]
    pub fn next_tick(&self, now: BootTime) -> BootTime {
        let soon = now + Micros(self.health.stretched(self.config.retry).0 / 2);
        // Words that were withdrawn, or have led to a verdict, are kept, and need no looks.
        let in_doubt = !self.members.suspects().is_empty()
            || !self.accused.is_empty()
            || !self.unreachable.is_empty()
            || self.accusing.iter().any(|at| self.members.liveness(*at) == Liveness::Alive);
        let busy = in_doubt || self.unsettled.is_some() || self.cut_off.is_some();
        if busy {
            return soon;
        }
        let edges = self.edges.iter().map(|(_, edge)| edge);
        let edges = edges.chain(self.outsiders.values().map(|outsider| &outsider.edge));
        let mut next = now + Micros(self.config.late.0 / 2);
        for edge in edges.filter(|edge| edge.connected) {
            next = next.min(if edge.awaiting.is_some() || edge.differs.is_some() {
                soon
            } else {
                edge.next_ping
            });
        }
        next.max(soon)
    }

    /// Life and liveness of a member of the own cluster, for a view of its freshness.
    #[must_use]
    pub fn liveness(&self, member: MemberId) -> Option<Liveness> {
        let peer = self.members.find(member).map(|at| self.members.liveness(at));
        peer.or_else(|| self.outsiders.get(&member).map(|outsider| outsider.liveness))
    }

    /// Of a member of our cluster: the cluster is ours, so only its id is kept.
    fn identity(&self, at: u32) -> Identity {
        Identity { role: self.own.role.clone(), id: self.members.id(at) }
    }

    fn is_ours(&self, identity: &Identity) -> bool {
        identity.cluster().is_some() && identity.cluster() == self.own.cluster()
    }

    /// How long an answer may be missing, at this member as it is now.
    fn window(&self) -> Micros {
        self.health.stretched(self.config.window)
    }

    /// The number of another member; those that speak are mostly connected, and then nothing else has to be looked at.
    fn peer(&self, member: MemberId) -> Option<u32> {
        let at = self.members.roster().find(member)?;
        if self.edges.is_connected(at) { Some(at) } else { self.members.find(member) }
    }

    fn edge_mut(&mut self, member: MemberId, now: BootTime) -> Option<&mut Edge> {
        match self.peer(member) {
            Some(at) => Some(self.edges.get_mut(at, now)),
            None => self.outsiders.get_mut(&member).map(|outsider| &mut outsider.edge),
        }
    }

    fn follow_view(&mut self) {
        self.follow_graph();
        self.unsettled = None;
    }

    fn follow_graph(&mut self) {
        let (roster, living) = (self.members.roster(), self.members.living());
        let RingConfig { rings, mesh_max, .. } = self.config;
        // One that has come to know more members shares with nobody any more.
        let shared = self.shared.as_ref().filter(|shared| Arc::ptr_eq(&shared.roster, roster));
        self.graph = match shared {
            Some(shared) => shared.graph(living, rings, mesh_max),
            None => Arc::new(Graph::over(roster, living, rings, mesh_max)),
        };
        self.absent.clear();
        self.reach = None;
    }

    /// Whether the graph says that we are to be connected to this member.
    fn wants(&self, at: u32) -> bool {
        self.graph.near(self.me).binary_search(&at).is_ok()
    }

    /// Changes what is believed of a member of our cluster.
    fn set(&mut self, now: BootTime, at: u32, liveness: Liveness, out: &mut Vec<MembershipOutput>) {
        let before = self.members.liveness(at);
        if before == liveness {
            return;
        }
        let (lived, lives) = (counts_as_living(before), counts_as_living(liveness));
        self.members.set_liveness(at, liveness);
        if !lives {
            self.accused.remove(&at);
            self.unreachable.remove(&at);
        }
        if !(lived && lives) {
            self.reach = None;
        }
        out.push(MembershipOutput::Changed { member: self.identity(at), liveness });
        if lived != lives {
            self.votes.moved(at, lives);
            if lives {
                self.absent.remove(&at);
            } else if self.graph.holds(at) {
                self.absent.insert(at);
            }
            let first = self.unsettled.map_or(now, |(first, _)| first);
            self.unsettled = Some((first, now));
        }
    }

    /// Tells a rumor to every connected member of our cluster but `from`.
    fn spread(&self, rumor: &Rumor, from: Option<MemberId>, out: &mut Vec<MembershipOutput>) {
        for (at, _) in self.edges.iter().filter(|(_, edge)| edge.connected) {
            let to = self.members.id(at);
            if Some(to) != from {
                out.push(MembershipOutput::Tell { to, rumor: rumor.clone() });
            }
        }
    }
}

#[cfg(test)]
mod tests;
