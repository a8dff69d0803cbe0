//! The hub's eye on the fleet: clusters as their leads describe them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use codeco_actors::evidence::Note;
use codeco_actors::fabric::{Commons, Watcher};
use codeco_actors::process::Member;
use codeco_actors::swm::home::ClusterFacts;
use codeco_protocol::api::EventType;
use codeco_protocol::gossip::Liveness;
use codeco_protocol::ids::{ClusterName, Identity, MemberId};
use codeco_protocol::units::BootTime;

pub(super) struct HubWatcher {
    pub(super) member: Arc<Member>,
}

impl Watcher for HubWatcher {
    fn lead(&self) -> Option<MemberId> {
        None
    }

    fn changed(&self, member: &Identity, liveness: Liveness) {
        let kind = match liveness {
            Liveness::Alive | Liveness::Left => EventType::Normal,
            Liveness::Suspect | Liveness::Dead => EventType::Warning,
        };
        let name = self.member.commons.view(member.id).and_then(|view| view.member().map(|f| f.name.clone()));
        let object = match (member.cluster(), name) {
            (Some(cluster), Some(name)) => format!("{cluster}/{name}"),
            (None, Some(name)) => name,
            (_, None) => member.to_string().trim_start_matches('/').to_owned(),
        };
        let message = format!("is {liveness:?} as seen from {}", self.member.name).to_lowercase();
        self.member.events.tell(Note {
            kind,
            reason: "MemberChanged",
            object_kind: "Member",
            object,
            message,
        });
    }

    fn cut_off(&self, _: bool) {}

    fn peers_known(&self, _: Vec<SocketAddr>) {}
}

/// Clusters by name, each in the words of its lead of the highest term. Only a member of a cluster speaks for it, and
/// only under a term of its own.
pub(super) fn cluster_facts(commons: &Commons, now: BootTime) -> Vec<ClusterFacts> {
    let mut clusters: BTreeMap<ClusterName, ClusterFacts> = BTreeMap::new();
    commons.with_views(|views| {
        for view in views.iter() {
            let Some(fact) = view.cluster() else { continue };
            let lead = view.identity.id;
            if view.identity.cluster() != Some(&fact.cluster) || fact.term.owner != lead {
                continue;
            }
            if clusters.get(&fact.cluster).is_some_and(|known| known.term >= fact.term) {
                continue;
            }
            let alive = matches!(commons.liveness(lead), Some(Liveness::Alive | Liveness::Suspect));
            let round_trip = commons.link(lead).map(|link| link.rtt().into());
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
                    age: view.age(now),
                    reachable: alive && commons.sessions.is_up(&view.identity),
                },
            );
        }
    });
    clusters.into_values().collect()
}

/// Whether a member is the lead of its cluster, as far as this hub has heard: it describes the cluster, under a term of
/// its own, and nobody else does under a higher one.
pub(super) fn leads_its_cluster(commons: &Commons, who: &Identity) -> bool {
    let Some(cluster) = who.cluster() else { return false };
    commons.with_views(|views| {
        let speak = views.iter().filter(|view| view.identity.cluster() == Some(cluster)).filter_map(|view| {
            let fact = view.cluster()?;
            (fact.cluster == *cluster && fact.term.owner == view.identity.id)
                .then_some((fact.term, view.identity.id))
        });
        speak.max().is_some_and(|(_, lead)| lead == who.id)
    })
}
