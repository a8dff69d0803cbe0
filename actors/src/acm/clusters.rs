//! Clusters as their leads describe them.

use std::collections::BTreeMap;

use codeco_protocol::gossip::Liveness;
use codeco_protocol::ids::{ClusterName, MemberId};
use codeco_protocol::units::BootTime;

use crate::fabric::Commons;
use crate::swm::home::{ClusterFacts, Others};

/// Clusters by name, each in the words of its lead of the highest term. Only a member of a cluster speaks for it, and
/// only under a term of its own.
#[must_use]
pub fn cluster_facts(commons: &Commons, now: BootTime) -> Vec<ClusterFacts> {
    let mut clusters: BTreeMap<ClusterName, ClusterFacts> = BTreeMap::new();
    let own = commons.own_view(now);
    commons.with_views(|views| {
        for view in views.iter().chain(std::iter::once(&own)) {
            let Some(fact) = view.cluster() else { continue };
            let lead = view.identity.id;
            if view.identity.cluster() != Some(&fact.cluster) || fact.term.owner != lead {
                continue;
            }
            if clusters.get(&fact.cluster).is_some_and(|known| known.term >= fact.term) {
                continue;
            }
            let here = view.identity == commons.own;
            let alive = matches!(commons.liveness(lead), Some(Liveness::Alive | Liveness::Suspect));
            let round_trip = if here {
                Some(codeco_protocol::units::Micros(0))
            } else {
                commons.link(lead).map(|link| link.rtt().into())
            };
            clusters.insert(
                fact.cluster.clone(),
                ClusterFacts {
                    name: fact.cluster.clone(),
                    lead,
                    term: fact.term,
                    capacity: fact.capacity.clone(),
                    free: fact.free.clone(),
                    labels: fact.labels.iter().cloned().collect(),
                    round_trip,
                    coordinate: commons.point(lead),
                    age: view.age(now),
                    traits: fact.traits.clone(),
                    reachable: here || (alive && commons.sessions.is_up(&view.identity)),
                },
            );
        }
    });
    clusters.into_values().collect()
}

/// Members that could keep copies of applications now: those that share least with this one first.
#[must_use]
pub fn keepers(commons: &Commons) -> Vec<MemberId> {
    let links = commons.links();
    let reached = links.values().map(|linked| linked.connection.identity());
    let mut found: Vec<(bool, MemberId)> = reached
        .filter(|identity| commons.sessions.is_up(identity))
        .map(|identity| {
            (identity.cluster().is_some() && identity.cluster() == commons.own.cluster(), identity.id)
        })
        .collect();
    found.sort_unstable();
    found.into_iter().map(|(_, id)| id).collect()
}

/// The other members, as far as the adoption of applications goes.
#[must_use]
pub fn others(commons: &Commons) -> Others {
    let mut others = Others { forgotten: commons.forgotten(), ..Others::default() };
    commons.with_views(|views| {
        for view in views.iter() {
            let id = view.identity.id;
            if !matches!(commons.liveness(id), Some(Liveness::Alive | Liveness::Suspect)) {
                continue;
            }
            others.alive.insert(id);
            for app in view.apps() {
                others.keep.entry(app.uid).or_default().push((id, app.epoch));
            }
        }
    });
    others.alive.insert(commons.own.id);
    others
}
