//! Connections to other clusters, so that homes and leads reach each other without a hub.
//!
//! A lead, and any member that speaks for applications, keeps a connection to the lead of each cluster it knows of.
//! Where those are is told by hubs, by members of the own cluster, and by members of the other cluster that may no
//! longer lead it. All of that are hints: who answers is proven by its certificate, and who leads by what it says of
//! itself over its own connection.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::PoisonError;

use codeco_protocol::gossip::{Hint, NOWHERE};
use codeco_protocol::ids::{ClusterName, Identity, MemberId};
use codeco_protocol::transport::is_relayed;

use super::commons::Commons;

/// Clusters of which addresses are remembered.
const CLUSTERS_MAX: usize = 256;
/// Members remembered of each, the newest last.
const MEMBERS_MAX: usize = 4;
/// Clusters to which connections are kept.
pub(super) const KEPT_MAX: usize = 64;

/// Where members of other clusters can be dialled.
#[derive(Debug, Default)]
pub(super) struct Foreign {
    clusters: BTreeMap<ClusterName, Vec<(MemberId, SocketAddr)>>,
}

impl Foreign {
    /// Takes a hint. Returns whether it is news.
    fn take(&mut self, cluster: &ClusterName, member: MemberId, address: SocketAddr) -> bool {
        if self.clusters.len() >= CLUSTERS_MAX && !self.clusters.contains_key(cluster) {
            return false;
        }
        let known = self.clusters.entry(cluster.clone()).or_default();
        if known.contains(&(member, address)) {
            return false;
        }
        known.retain(|(other, at)| *other != member && *at != address);
        known.push((member, address));
        if known.len() > MEMBERS_MAX {
            known.remove(0);
        }
        true
    }
}

impl Commons {
    /// Takes hints about members of other clusters.
    pub(super) fn take_foreign(&self, hints: &[Hint]) {
        let mut news = false;
        let mut foreign = self.foreign.lock().unwrap_or_else(PoisonError::into_inner);
        for Hint { identity, address } in hints {
            let Some(cluster) = identity.cluster() else { continue };
            if Some(cluster) != self.own.cluster() {
                news |= foreign.take(cluster, identity.id, *address);
            }
        }
        drop(foreign);
        if news {
            self.touch_roster();
        }
    }

    /// Leads of clusters other than `peer`'s, and where they can be dialled.
    pub(super) fn foreign_hints(&self, peer: &Identity) -> Vec<Hint> {
        let links = self.links();
        let other =
            |identity: &Identity| identity.cluster().is_some() && identity.cluster() != peer.cluster();
        let mut hints: BTreeMap<MemberId, Hint> = self.with_views(|views| {
            let leads = views.iter().filter(|view| view.cluster().is_some() && other(&view.identity));
            leads
                .filter_map(|view| {
                    let id = view.identity.id;
                    let seen = links.get(&id).map(|linked| linked.connection.remote_addr());
                    // Where we see it, unless it says that others cannot dial it.
                    let seen = seen.filter(|seen| !is_relayed(*seen) && !view.dials_out_only());
                    let address = seen.or_else(|| self.dialable(view, peer.cluster()))?;
                    Some((id, Hint { identity: view.identity.clone(), address }))
                })
                .take(CLUSTERS_MAX)
                .collect()
        });
        // What was only told is passed on within the own cluster alone, so that a hint goes around no circle.
        if peer.cluster() == self.own.cluster() {
            let foreign = self.foreign.lock().unwrap_or_else(PoisonError::into_inner);
            for (cluster, members) in &foreign.clusters {
                if let Some((id, address)) = members.last() {
                    let role = codeco_protocol::ids::Role::Node(cluster.clone());
                    let identity = Identity { role, id: *id };
                    let address = if is_relayed(*address) { NOWHERE } else { *address };
                    hints.entry(*id).or_insert(Hint { identity, address });
                }
            }
        }
        hints.into_values().collect()
    }

    /// Addresses to dial: of clusters to whose lead there is no connection.
    pub(super) fn foreign_to_dial(&self) -> Vec<(ClusterName, MemberId, SocketAddr)> {
        let links = self.links();
        let led: Vec<ClusterName> = self.with_views(|views| {
            let leads = |view: &&codeco_protocol::gossip::View| {
                let id = view.identity.id;
                links.contains_key(&id) && view.member().is_some_and(|fact| fact.lead == Some(id))
            };
            let leads = views.iter().filter(leads);
            leads.filter_map(|view| view.cluster().map(|fact| fact.cluster.clone())).collect()
        });
        let foreign = self.foreign.lock().unwrap_or_else(PoisonError::into_inner);
        let missing = foreign.clusters.iter().filter(|(cluster, _)| !led.contains(cluster)).take(KEPT_MAX);
        missing
            .flat_map(|(cluster, members)| {
                let absent = members.iter().filter(|(id, _)| !links.contains_key(id));
                absent.map(|(id, address)| (cluster.clone(), *id, *address))
            })
            .collect()
    }

    /// Where a member of another cluster can be dialled, as others say.
    pub(super) fn foreign_address(&self, member: MemberId) -> Option<SocketAddr> {
        let foreign = self.foreign.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all = foreign.clusters.values().flatten();
        all.find(|(id, _)| *id == member).map(|(_, address)| *address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_addresses_are_bounded_and_the_newest_word_on_a_member_or_an_address_counts() {
        let mut foreign = Foreign::default();
        let at = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        let cluster = ClusterName::new("west").unwrap();
        assert!(foreign.take(&cluster, MemberId(1), at(1)));
        assert!(!foreign.take(&cluster, MemberId(1), at(1)), "no news");
        assert!(foreign.take(&cluster, MemberId(1), at(2)), "it has moved");
        assert!(foreign.take(&cluster, MemberId(2), at(2)), "another one is there now");
        assert_eq!(foreign.clusters[&cluster], [(MemberId(2), at(2))]);
        for member in 3..20 {
            foreign.take(&cluster, MemberId(member), at(u16::try_from(member).unwrap()));
        }
        assert_eq!(foreign.clusters[&cluster].len(), MEMBERS_MAX);
        for number in 0..2 * CLUSTERS_MAX {
            foreign.take(&ClusterName::new(format!("c{number}")).unwrap(), MemberId(1), at(1));
        }
        assert_eq!(foreign.clusters.len(), CLUSTERS_MAX);
    }
}
