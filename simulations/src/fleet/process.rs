//! A running agent or hub: its cores, its connections, and what it knows.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use codeco_actors::acm::clusters::Reach;
use codeco_actors::fabric::maps::{self, concerns_all, is_behind};
use codeco_actors::fabric::pacing::Pacing;
use codeco_actors::fabric::passing::Asking;
use codeco_actors::fabric::talk::{Known, Outgoing, Talk};
use codeco_actors::swm::election::elector::Elector;
use codeco_actors::swm::home::Home;
use codeco_actors::swm::ledger::Ledger;
use codeco_actors::swm::telling::{AppGist, Gist};
use codeco_protocol::coordinate::Coordinate;
use codeco_protocol::gossip::{
    Delta, Fact, Hint, Liveness, Mark, MemberFact, OwnState, Ring, SealedDelta, Signer, StateError, View,
    Views,
};
use codeco_protocol::ids::{AppUid, ClusterName, Identity, MemberId, Role};
use codeco_protocol::token::Term;
use codeco_protocol::units::{BootTime, Micros, WallTime};

use super::machine::{machine_of, member};

/// A connection, as one side sees it.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) id: u64,
    pub(crate) identity: Identity,
    pub(crate) talk: Talk,
    pub(crate) talk_at: Option<u64>,
    /// From when on control messages pass.
    pub(crate) session_at: u64,
    pub(crate) round_trip: Micros,
    /// When the last word arrives there: a stream keeps its order.
    pub(crate) last_arrival: u64,
    /// Until when what has met a cut is not sent again.
    pub(crate) blocked_until: u64,
}

/// Somebody to dial who could not be reached.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Patience {
    pub(crate) failures: u32,
    pub(crate) next: u64,
    pub(crate) dialling: bool,
}

/// What a process knows of others, and says of itself.
#[derive(Debug)]
pub(crate) struct Knowledge {
    pub(crate) own: Identity,
    state: RefCell<OwnState>,
    pub(crate) views: Views,
    /// Members it knows facts of.
    pub(crate) size: usize,
    asking: Asking,
    /// How far others are told of the own facts.
    told: u64,
    pub(crate) relayed: u64,
    pub(crate) roster: u64,
    /// Grows with whatever is known of others.
    pub(crate) known: u64,
    hurried: Pacing,
    paced: Pacing,
    /// When what is written is told.
    pub(crate) tell_at: Option<u64>,
    /// Leads of other clusters, as others say.
    pub(crate) foreign: BTreeMap<ClusterName, Vec<MemberId>>,
}

/// Members remembered of each other cluster.
const FOREIGN_MAX: usize = 4;
/// Hints to one peer at most.
const HINTS_MAX: usize = 512;

fn address(at: usize) -> SocketAddr {
    let low = u32::try_from(at).unwrap_or(0);
    SocketAddr::new(IpAddr::V4(Ipv4Addr::from(0x0a00_0000 | low)), 7_400)
}

impl Knowledge {
    pub(crate) fn new(own: Identity, incarnation: u64) -> Self {
        // Whose facts they are is not what is tried here: who could forge them is.
        let sign = Arc::new(|_: &[u8]| Some(vec![1]));
        let signer = Signer { domain: "simulated".into(), owner: own.clone(), sign };
        Self {
            own,
            state: RefCell::new(OwnState::signed(incarnation, signer)),
            views: Views::default(),
            size: 0,
            asking: Asking::default(),
            told: 0,
            relayed: 0,
            roster: 1,
            known: 1,
            hurried: Pacing::default(),
            paced: Pacing::default(),
            tell_at: None,
            foreign: BTreeMap::new(),
        }
    }

    /// Changes the own facts. Others hear of it at the pace of a cluster of this size.
    pub(crate) fn publish(&mut self, now: BootTime, change: impl FnOnce(&mut OwnState)) -> bool {
        let state = self.state.get_mut();
        let before = state.version();
        change(state);
        let news = state.version() != before;
        if news && self.tell_at.is_none() {
            self.tell_at = Some(self.paced.due(now, self.size).0);
        }
        news
    }

    pub(crate) fn publish_fact(&mut self, now: BootTime, key: &str, fact: Fact) -> bool {
        self.publish(now, |state| {
            state.set(key, fact);
        })
    }

    /// Has others hear at once.
    pub(crate) fn tell_now(&mut self) -> bool {
        let version = self.state.get_mut().version();
        self.tell_at = None;
        std::mem::replace(&mut self.told, version) < version
    }

    /// The same, if it does not come all the time.
    pub(crate) fn tell_soon(&mut self, now: BootTime) -> bool {
        self.hurried.may_hurry(now, self.size) && self.tell_now()
    }

    pub(crate) fn own_fact(&self, key: &str) -> Option<Fact> {
        self.state.borrow().fact(key).cloned()
    }

    pub(crate) fn own_view(&self, now: BootTime) -> View {
        self.state.borrow().as_view(&self.own, now)
    }

    pub(crate) fn own_mark(&self) -> Mark {
        self.state.borrow().mark()
    }

    /// Takes facts of `owner`, told by itself or passed on.
    pub(crate) fn learn(
        &mut self,
        now: BootTime,
        sealed: SealedDelta,
        own_words: bool,
    ) -> Result<(), StateError> {
        let owner = sealed.owner.clone();
        let news = !sealed.delta.facts.is_empty() && self.views.brings_news(owner.id, &sealed.delta);
        if !news && !own_words {
            return Ok(());
        }
        let for_all = news && concerns_all(&sealed.delta);
        let fresh = self.views.get(owner.id).is_none();
        if news {
            self.views.apply_sealed(now, sealed, own_words)?;
        } else {
            let Delta { incarnation, from, to, .. } = sealed.delta;
            self.views.apply(
                now,
                &owner,
                Delta { incarnation, from, to: to.min(from), facts: Vec::new() },
            )?;
        }
        if news && for_all {
            self.known += 1;
        }
        if news && owner.cluster().is_some() && owner.cluster() == self.own.cluster() {
            self.relayed += 1;
        }
        self.size += usize::from(fresh);
        if fresh || for_all {
            self.roster += 1;
        }
        Ok(())
    }

    /// Hears of facts that another member passes on: what to say to that.
    pub(crate) fn hear_relayed(&mut self, now: BootTime, sealed: SealedDelta) -> Outgoing {
        let owner = sealed.owner.id;
        let theirs = Mark { incarnation: sealed.delta.incarnation, version: sealed.delta.to };
        match self.learn(now, sealed, false) {
            Ok(()) => {
                self.asking.delivered(owner);
                Outgoing::PeerHas(vec![(owner, theirs)])
            }
            Err(_) => Outgoing::Ask(owner, self.mark(owner).unwrap_or_default()),
        }
    }

    /// Takes hints about members of other clusters.
    pub(crate) fn take_foreign(&mut self, hints: &[Hint]) {
        for hint in hints {
            let Some(cluster) = hint.identity.cluster() else { continue };
            if Some(cluster) == self.own.cluster() {
                continue;
            }
            let known = self.foreign.entry(cluster.clone()).or_default();
            if known.last() == Some(&hint.identity.id) {
                continue;
            }
            let is_news = !known.contains(&hint.identity.id);
            known.retain(|id| *id != hint.identity.id);
            known.push(hint.identity.id);
            if known.len() > FOREIGN_MAX {
                known.remove(0);
            }
            if is_news {
                self.roster += 1;
                self.known += 1;
            }
        }
    }

    fn foreign_hints(&self, peer: &Identity) -> Vec<Hint> {
        let other =
            |identity: &Identity| identity.cluster().is_some() && identity.cluster() != peer.cluster();
        let mut hints: BTreeMap<MemberId, Hint> = self
            .views
            .iter()
            .filter(|view| other(&view.identity) && view.cluster().is_some())
            .map(|view| (view.identity.id, hint(&view.identity)))
            .collect();
        if peer.cluster() == self.own.cluster() {
            for (cluster, members) in &self.foreign {
                if let Some(id) = members.last() {
                    let identity = Identity { role: Role::Node(cluster.clone()), id: *id };
                    hints.entry(*id).or_insert_with(|| hint(&identity));
                }
            }
        }
        hints.into_values().collect()
    }
}

fn hint(identity: &Identity) -> Hint {
    Hint { identity: identity.clone(), address: address(machine_of(identity.id)) }
}

impl Known for Knowledge {
    fn version(&self) -> u64 {
        self.told
    }

    fn relayed(&self) -> u64 {
        self.relayed
    }

    fn roster(&self) -> u64 {
        self.roster
    }

    fn point(&self) -> Option<Coordinate> {
        None
    }

    fn sealed(&mut self, from: u64) -> Option<SealedDelta> {
        self.state.get_mut().sealed(from, &[])
    }

    fn marks(&self) -> Vec<(MemberId, Mark)> {
        maps::marks((self.own.id, self.own_mark()), self.own.cluster(), &self.views)
    }

    fn ahead(&self, peer: MemberId, known: &BTreeMap<MemberId, Mark>) -> Vec<(MemberId, Mark)> {
        maps::ahead(self.own.cluster(), &self.views, peer, known)
    }

    fn lacking(&self, wants: &BTreeSet<MemberId>, known: &BTreeMap<MemberId, Mark>) -> Vec<SealedDelta> {
        maps::lacking(self.own.cluster(), &self.views, wants, known)
    }

    fn mark(&self, owner: MemberId) -> Option<Mark> {
        Knowledge::mark(self, owner)
    }

    fn is_news(&self, owner: MemberId, mark: Mark) -> bool {
        owner != self.own.id && is_behind(Knowledge::mark(self, owner).unwrap_or_default(), mark)
    }

    fn may_ask(&mut self, now: BootTime, owner: MemberId, peer: MemberId) -> bool {
        self.asking.may(now, owner, peer)
    }

    fn hints_for(&self, peer: &Identity) -> Vec<Hint> {
        let Some(cluster) = peer.cluster() else { return Vec::new() };
        let mut hints = self.foreign_hints(peer);
        let ours = self.views.iter().filter(|view| {
            view.identity.cluster() == Some(cluster) && view.identity.id != peer.id && view.member().is_some()
        });
        hints.extend(ours.map(|view| hint(&view.identity)).take(HINTS_MAX));
        hints
    }
}

impl Knowledge {
    pub(crate) fn mark(&self, owner: MemberId) -> Option<Mark> {
        self.views.get(owner).map(View::mark)
    }
}

/// A process. Its cores may be down for a moment each, while they are started again.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) ring: Ring,
    pub(crate) knowledge: Knowledge,
    pub(crate) ledger: Option<Ledger>,
    pub(crate) elector: Option<Elector>,
    pub(crate) home: Option<Home>,
    pub(crate) links: BTreeMap<usize, Link>,
    pub(crate) dials: BTreeMap<usize, Patience>,
    pub(crate) ticks: Ticks,
    /// The lead it follows, the highest term it has heard of, and who votes by its word.
    pub(crate) lead: Option<MemberId>,
    pub(crate) term: Option<Term>,
    pub(crate) electorate: Option<(Term, u64)>,
    /// How much was known when it last looked.
    pub(crate) looked: u64,
    pub(crate) fact: MemberFact,
    pub(crate) gist: Option<(BootTime, Gist)>,
    pub(crate) apps: BTreeMap<AppUid, AppGist>,
    pub(crate) cut_off: bool,
}

/// When each part is to be called next, in true time.
#[derive(Debug, Default)]
pub(crate) struct Ticks {
    pub(crate) ledger: Option<u64>,
    pub(crate) elector: Option<u64>,
    pub(crate) home: Option<u64>,
    pub(crate) look: Option<u64>,
    pub(crate) tell: Option<u64>,
}

impl Process {
    pub(crate) fn new(identity: Identity, name: &str, started: u64, ring: Ring) -> Self {
        let fact = MemberFact {
            name: name.to_owned(),
            address: Some(address(machine_of(identity.id))),
            version: String::new(),
            started: WallTime(started / 1_000),
            not_ready: None,
            certificate_expires: WallTime(0),
            lead: None,
            cut_off: false,
            node: None,
            term: Term::default(),
            pid: 1,
        };
        Self {
            ring,
            knowledge: Knowledge::new(identity, started),
            ledger: None,
            elector: None,
            home: None,
            links: BTreeMap::new(),
            dials: BTreeMap::new(),
            ticks: Ticks::default(),
            lead: None,
            term: None,
            electorate: None,
            looked: 0,
            fact,
            gist: None,
            apps: BTreeMap::new(),
            cut_off: false,
        }
    }

    /// Whether this process is in office, as its elector says.
    pub(crate) fn office(&self) -> Option<Term> {
        self.elector.as_ref()?.in_office().map(codeco_actors::swm::lead::Lead::term)
    }

    /// Whether it speaks for applications, or keeps copies of some.
    pub(crate) fn is_home(&self) -> bool {
        self.home.as_ref().is_some_and(|home| home.apps().next().is_some() || home.copies().next().is_some())
    }
}

/// How a process reaches others, at one moment.
pub(crate) struct Reaching<'a> {
    pub(crate) links: &'a BTreeMap<usize, Link>,
    pub(crate) ring: &'a Ring,
    pub(crate) now: u64,
}

impl Reach for Reaching<'_> {
    fn has_session(&self, other: &Identity) -> bool {
        self.links.get(&machine_of(other.id)).is_some_and(|link| link.session_at <= self.now)
    }

    fn liveness(&self, other: MemberId) -> Option<Liveness> {
        self.ring.liveness(other)
    }

    fn round_trip(&self, other: MemberId) -> Option<Micros> {
        self.links.get(&machine_of(other)).map(|link| link.round_trip)
    }

    fn point(&self, _other: MemberId) -> Option<Coordinate> {
        None
    }
}

/// Identity of a machine's member.
pub(crate) fn identity(at: usize, cluster: Option<&ClusterName>) -> Identity {
    let role = cluster.map_or(Role::Hub, |cluster| Role::Node(cluster.clone()));
    Identity { role, id: member(at) }
}
