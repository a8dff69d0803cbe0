//! Clusters as their leads describe them.

use std::collections::{BTreeMap, BTreeSet};

use codeco_protocol::coordinate::Coordinate;
use codeco_protocol::gossip::{Liveness, View, Views};
use codeco_protocol::ids::{ClusterName, Identity, MemberId};
use codeco_protocol::units::{BootTime, Micros};

use crate::fabric::Commons;
use crate::swm::home::{ClusterFacts, Others};

/// How a member reaches others.
pub trait Reach {
    /// Whether it can send control messages to them now.
    fn has_session(&self, other: &Identity) -> bool;
    /// What is believed of one.
    fn liveness(&self, other: MemberId) -> Option<Liveness>;
    /// The round trip to one, where there is a connection.
    fn round_trip(&self, other: MemberId) -> Option<Micros>;
    /// Where one says that it is in the network.
    fn point(&self, other: MemberId) -> Option<Coordinate>;
}

impl Reach for Commons {
    fn has_session(&self, other: &Identity) -> bool {
        self.sessions.is_up(other)
    }

    fn liveness(&self, other: MemberId) -> Option<Liveness> {
        Commons::liveness(self, other)
    }

    fn round_trip(&self, other: MemberId) -> Option<Micros> {
        self.link(other).map(|link| link.rtt().into())
    }

    fn point(&self, other: MemberId) -> Option<Coordinate> {
        Commons::point(self, other)
    }
}

/// Clusters by name, as known to this process.
#[must_use]
pub fn cluster_facts(commons: &Commons, now: BootTime) -> Vec<ClusterFacts> {
    let own = commons.own_view(now);
    commons.with_views(|views| clusters_of(views, &own, commons, now))
}

/// Clusters by name, each in the words of its lead of the highest term. Only a member of a cluster speaks for it, and
/// only under a term of its own.
#[must_use]
pub fn clusters_of(views: &Views, own: &View, reach: &impl Reach, now: BootTime) -> Vec<ClusterFacts> {
    let mut clusters: BTreeMap<ClusterName, ClusterFacts> = BTreeMap::new();
    for view in views.iter().chain(std::iter::once(own)) {
        let Some(fact) = view.cluster() else { continue };
        let lead = view.identity.id;
        if view.identity.cluster() != Some(&fact.cluster) || fact.term.owner != lead {
            continue;
        }
        if clusters.get(&fact.cluster).is_some_and(|known| known.term >= fact.term) {
            continue;
        }
        let here = view.identity == own.identity;
        let alive = matches!(reach.liveness(lead), Some(Liveness::Alive | Liveness::Suspect));
        clusters.insert(
            fact.cluster.clone(),
            ClusterFacts {
                name: fact.cluster.clone(),
                lead,
                term: fact.term,
                capacity: fact.capacity.clone(),
                free: fact.free.clone(),
                labels: fact.labels.iter().cloned().collect(),
                round_trip: if here { Some(Micros(0)) } else { reach.round_trip(lead) },
                coordinate: reach.point(lead),
                age: view.age(now),
                traits: fact.traits.clone(),
                reachable: here || (alive && reach.has_session(&view.identity)),
            },
        );
    }
    clusters.into_values().collect()
}

/// Members that could keep copies of applications now: those that share least with this one first.
#[must_use]
pub fn keepers(commons: &Commons) -> Vec<MemberId> {
    let links = commons.links();
    let reached = links.values().map(|linked| linked.connection.identity());
    keepers_of(&commons.own, reached, commons)
}

/// Of the members that `own` is connected to, those that could keep copies.
#[must_use]
pub fn keepers_of<'a>(
    own: &Identity,
    reached: impl Iterator<Item = &'a Identity>,
    reach: &impl Reach,
) -> Vec<MemberId> {
    let mut found: Vec<(bool, MemberId)> = reached
        .filter(|identity| reach.has_session(identity))
        .map(|identity| (identity.cluster().is_some() && identity.cluster() == own.cluster(), identity.id))
        .collect();
    found.sort_unstable();
    found.into_iter().map(|(_, id)| id).collect()
}

/// The other members, as far as the adoption of applications goes.
#[must_use]
pub fn others(commons: &Commons) -> Others {
    let forgotten = commons.forgotten();
    commons.with_views(|views| others_of(&commons.own, views, forgotten, commons))
}

/// The same, of what is known to `own`.
#[must_use]
pub fn others_of(own: &Identity, views: &Views, forgotten: BTreeSet<MemberId>, reach: &impl Reach) -> Others {
    let mut others = Others { forgotten, ..Others::default() };
    for view in views.iter() {
        let id = view.identity.id;
        if !matches!(reach.liveness(id), Some(Liveness::Alive | Liveness::Suspect)) {
            continue;
        }
        others.alive.insert(id);
        for app in view.apps() {
            others.keep.entry(app.uid).or_default().push((id, app.epoch));
        }
    }
    others.alive.insert(own.id);
    others
}
