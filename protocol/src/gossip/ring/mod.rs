//! Membership over kept connections: neighbours on rings observe each other, and several of them agree on a death.
//!
//! Why not probe members at random, as SWIM does: over QUIC each pair that ever talks costs a connection. So each member
//! keeps about eight, probes them in turn, and tells everybody along them when one falls silent. The rules and their
//! reasons are in the files of this folder:
//!
//! | file | concept |
//! |---|---|
//! | `graph` | who observes whom |
//! | `edges` | probes over one connection, and when it counts as silent; «I am cut off» |
//! | `health` | how far a member trusts itself to judge others |
//! | `verdicts` | votes of observers, and when they make a death |
//! | `contact` | whom to be connected to; rumors passed on; lists of the dead exchanged |
//!
//! Members of other clusters, and hubs, are *outsiders*: observed by whoever is connected to them, alone.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod contact;
mod edges;
mod graph;
mod health;
mod verdicts;

use std::collections::{BTreeMap, BTreeSet};

use super::{Life, Liveness, MembershipInput, MembershipOutput, Rumor};
use crate::ids::{Identity, MemberId};
use crate::units::{BootTime, Micros};
use graph::Graph;
use health::Health;

/// Most members of one cluster.
pub const MEMBERS_MAX: usize = 4_096;
/// Most outsiders.
const OUTSIDERS_MAX: usize = 4_096;
/// See [`Edge::deceived`].
const DECEIVED_MAX: u32 = 2;
/// Time in which an edge has not deceived, after which it is trusted a little more.
const TRUSTED_AFTER: Micros = Micros::from_secs(30);

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

/// One connection, or the wish for one.
#[derive(Debug, Clone)]
struct Edge {
    connected: bool,
    /// In which life the other end has said over it that it is.
    told: Option<u64>,
    /// Since when it may lead to an earlier life, by what others tell of the member.
    outlived: Option<BootTime>,
    /// Last sign of life over it.
    heard: BootTime,
    /// Since when an answer is missing.
    awaiting: Option<BootTime>,
    next_ping: BootTime,
    next_dial: BootTime,
    dials: u32,
    /// Since when the other's view differs from ours, or since they were exchanged last.
    differs: Option<BootTime>,
    /// How often they were exchanged since they were equal.
    swaps: u32,
    /// How often silence over it has proven nothing of late: it counts as silent after so many doublings of the window.
    deceived: u32,
    /// When that is forgotten by one.
    trusted: BootTime,
}

impl Edge {
    fn new(now: BootTime) -> Self {
        Self {
            connected: false,
            told: None,
            outlived: None,
            heard: now,
            awaiting: None,
            next_ping: now,
            next_dial: now,
            dials: 0,
            differs: None,
            swaps: 0,
            deceived: 0,
            trusted: now,
        }
    }

    /// The same, as it is when a connection has just come up.
    fn renewed(&self, now: BootTime) -> Self {
        let Self { swaps, deceived, trusted, .. } = *self;
        Self { connected: true, swaps, deceived, trusted, ..Self::new(now) }
    }

    /// Whether an answer has been missing for `window`, or longer where that has proven nothing before.
    fn is_silent(&self, now: BootTime, window: Micros) -> bool {
        self.awaiting.is_some_and(|since| now.since(since).0 >= window.0 << self.deceived)
    }

    /// Its silence was none.
    fn deceives(&mut self, now: BootTime) {
        self.deceived = (self.deceived + 1).min(DECEIVED_MAX);
        self.trusted = now + TRUSTED_AFTER;
    }

    fn forgive(&mut self, now: BootTime) {
        if self.deceived > 0 && now >= self.trusted {
            self.deceived -= 1;
            self.trusted = now + TRUSTED_AFTER;
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

/// What is known of a member of our cluster.
#[derive(Debug, Clone)]
struct Peer {
    identity: Identity,
    life: Life,
    liveness: Liveness,
    edge: Edge,
    vote: OwnVote,
    refuted: Option<BootTime>,
    accused: Option<BootTime>,
    unreachable: Option<BootTime>,
}

/// A member of another cluster, or a hub.
#[derive(Debug, Clone)]
struct Outsider {
    identity: Identity,
    liveness: Liveness,
    edge: Edge,
}

/// A vote of somebody, as last heard.
#[derive(Debug, Clone, Copy)]
struct Vote {
    life: Life,
    stands: bool,
    number: u64,
    since: BootTime,
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Ring {
    config: RingConfig,
    own: Identity,
    life: Life,
    rng: fastrand::Rng,
    peers: BTreeMap<MemberId, Peer>,
    outsiders: BTreeMap<MemberId, Outsider>,
    /// By target and observer.
    votes: BTreeMap<MemberId, BTreeMap<MemberId, Vote>>,
    /// Over the members not believed dead, as they were when the view last settled.
    graph: Graph,
    /// Digest of lives and liveness of all, until one changes.
    digest: Option<u32>,
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
        let mut ring = Self {
            config,
            own,
            life: Life { started, refutations: 0 },
            rng: fastrand::Rng::with_seed(seed),
            peers: BTreeMap::new(),
            outsiders: BTreeMap::new(),
            votes: BTreeMap::new(),
            graph: Graph::new(),
            digest: None,
            unsettled: None,
            cut_off: None,
            next_revive: now,
            last_tick: now,
            health: Health::new(now),
            next_check: now,
            sequence: 0,
        };
        ring.follow_view();
        ring
    }

    /// Feeds one input; outputs are appended to `out`.
    pub fn handle(&mut self, now: BootTime, input: MembershipInput, out: &mut Vec<MembershipOutput>) {
        match input {
            MembershipInput::Known(identity) => self.known(now, &identity),
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
            // This process was held up, so it has missed answers that came: every edge gets its window anew.
            for edge in self.edges_mut() {
                if edge.awaiting.is_some() {
                    edge.awaiting = Some(now);
                }
            }
        }
        self.edges_mut().for_each(|edge| edge.forgive(now));
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
        let peers = self.peers.values().map(|peer| (peer.identity.clone(), peer.liveness));
        peers.chain(self.outsiders.values().map(|o| (o.identity.clone(), o.liveness))).collect()
    }

    /// Members believed alive, and when their present life began; 0 where that is not known.
    #[must_use]
    pub fn living_since(&self) -> Vec<(MemberId, u64)> {
        let peers = self.peers.values().filter(|peer| peer.liveness == Liveness::Alive);
        let outsiders = self.outsiders.values().filter(|outsider| outsider.liveness == Liveness::Alive);
        peers
            .map(|peer| (peer.identity.id, peer.life.started))
            .chain(outsiders.map(|outsider| (outsider.identity.id, 0)))
            .collect()
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
        let in_doubt = |peer: &Peer| {
            let voted = peer.vote.stands || peer.vote.withdraw.is_some();
            peer.liveness == Liveness::Suspect
                || (peer.liveness == Liveness::Alive && voted)
                || peer.accused.is_some()
                || peer.unreachable.is_some()
        };
        let busy = self.unsettled.is_some() || self.cut_off.is_some() || self.peers.values().any(in_doubt);
        let edges = self.peers.values().map(|peer| &peer.edge);
        let edges = edges.chain(self.outsiders.values().map(|outsider| &outsider.edge));
        let mut next = now + Micros(self.config.late.0 / 2);
        for edge in edges.filter(|edge| edge.connected) {
            next = next.min(if edge.awaiting.is_some() || edge.differs.is_some() {
                soon
            } else {
                edge.next_ping
            });
        }
        if busy { soon } else { next.max(soon) }
    }

    /// Life and liveness of a member of the own cluster, for a view of its freshness.
    #[must_use]
    pub fn liveness(&self, member: MemberId) -> Option<Liveness> {
        let peer = self.peers.get(&member).map(|peer| peer.liveness);
        peer.or_else(|| self.outsiders.get(&member).map(|outsider| outsider.liveness))
    }

    fn is_ours(&self, identity: &Identity) -> bool {
        identity.cluster().is_some() && identity.cluster() == self.own.cluster()
    }

    /// How long an answer may be missing, at this member as it is now.
    fn window(&self) -> Micros {
        self.health.stretched(self.config.window)
    }

    fn edges_mut(&mut self) -> impl Iterator<Item = &mut Edge> {
        let peers = self.peers.values_mut().map(|peer| &mut peer.edge);
        peers.chain(self.outsiders.values_mut().map(|outsider| &mut outsider.edge))
    }

    fn edge_mut(&mut self, member: MemberId) -> Option<&mut Edge> {
        match self.peers.get_mut(&member) {
            Some(peer) => Some(&mut peer.edge),
            None => self.outsiders.get_mut(&member).map(|outsider| &mut outsider.edge),
        }
    }

    /// Members not believed dead or gone, this one included.
    fn living(&self) -> BTreeSet<MemberId> {
        let alive = |peer: &&Peer| matches!(peer.liveness, Liveness::Alive | Liveness::Suspect);
        let mut living: BTreeSet<MemberId> =
            self.peers.values().filter(alive).map(|peer| peer.identity.id).collect();
        living.insert(self.own.id);
        living
    }

    fn follow_view(&mut self) {
        self.digest = None;
        self.graph = graph::graph(&self.living(), self.config.rings, self.config.mesh_max);
        self.unsettled = None;
    }

    /// Whether the graph says that we are to be connected to this member.
    fn wants(&self, member: MemberId) -> bool {
        self.graph.get(&self.own.id).is_some_and(|neighbours| neighbours.contains(&member))
    }

    /// Changes what is believed of a member of our cluster.
    fn set(&mut self, now: BootTime, member: MemberId, liveness: Liveness, out: &mut Vec<MembershipOutput>) {
        let Some(peer) = self.peers.get_mut(&member) else { return };
        if peer.liveness == liveness {
            return;
        }
        let counted = |liveness| matches!(liveness, Liveness::Alive | Liveness::Suspect);
        let same_graph = counted(peer.liveness) == counted(liveness);
        peer.liveness = liveness;
        self.digest = None;
        if !counted(liveness) {
            peer.accused = None;
            peer.unreachable = None;
        }
        out.push(MembershipOutput::Changed { member: peer.identity.clone(), liveness });
        if !same_graph {
            let first = self.unsettled.map_or(now, |(first, _)| first);
            self.unsettled = Some((first, now));
        }
    }

    /// Tells a rumor to every connected member of our cluster but `from`.
    fn spread(&self, rumor: &Rumor, from: Option<MemberId>, out: &mut Vec<MembershipOutput>) {
        for (member, peer) in &self.peers {
            if peer.edge.connected && Some(*member) != from {
                out.push(MembershipOutput::Tell { to: *member, rumor: rumor.clone() });
            }
        }
    }
}

#[cfg(test)]
mod tests;
