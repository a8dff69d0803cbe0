//! Removing a node for good.

use codeco_protocol::api::codes;
use codeco_protocol::gossip::Liveness;
use codeco_protocol::ids::{ClusterName, MemberId, NodeName};

use super::fleet::{MemberFleet, error};
use crate::acm::fleet::{ApiError, Filter};
use crate::fabric::{InspectError, InspectRequest, inspect};

impl MemberFleet {
    /// The node itself decides whether it has nothing left; then it says good-bye, so that nobody waits to miss it.
    pub(super) async fn leave(&self, cluster: &ClusterName, node: &NodeName) -> Result<(), ApiError> {
        let (id, name) = self.find_node(&format!("{cluster}/{node}"))?;
        let object = Some(format!("node/{name}"));
        if let Some(why) = keeps_no_majority(&self.voters_of(cluster), id) {
            let next = "`codeco get clusters` shows who votes: let the lead take in another voter first, or add a node; \
                        nothing was changed";
            return Err(error(409, codes::NODE_NOT_LEFT, object, format!("node {name}: {why}"), next));
        }
        match self.ask_member(id, InspectRequest::Leave).await {
            Ok(_) => Ok(()),
            Err(InspectError::Refused(why)) => {
                let next = format!("codeco drain {name}; nothing was changed");
                Err(error(409, codes::NODE_NOT_LEFT, object, format!("node {name}: {why}"), &next))
            }
            Err(InspectError::Unreachable(why)) => {
                let message = format!("node {name} {why}");
                let next = "one that is gone already is removed by `codeco node forget`";
                Err(error(503, codes::NODE_UNREACHABLE, object, message, next))
            }
        }
    }

    /// The lead strikes it from its journal first; then everybody who can be reached forgets it.
    pub(super) async fn forget(
        &self,
        cluster: &ClusterName,
        node: &NodeName,
        forced: bool,
    ) -> Result<Vec<String>, ApiError> {
        let (id, name) = self.find_node(&format!("{cluster}/{node}"))?;
        let object = Some(format!("node/{name}"));
        let refused = |why: String, next: &str| {
            error(409, codes::NODE_NOT_FORGOTTEN, object.clone(), format!("node {name}: {why}"), next)
        };
        let stop = "stop its agent first, and let it be missed; nothing was changed";
        if matches!(self.member.commons.liveness(id), Some(Liveness::Alive | Liveness::Suspect)) {
            return Err(refused("it still answers".into(), stop));
        }
        let lead = self.lead_of(cluster).ok_or_else(|| {
            let why = format!("nobody is known to lead cluster {cluster}");
            refused(why, "ask again when `codeco get clusters` shows a lead; nothing was changed")
        })?;
        match self.ask_member(lead, InspectRequest::Unenrol { node: id, forced }).await {
            Ok(_) => {}
            Err(InspectError::Refused(why)) => {
                let next = if forced {
                    "nothing was changed"
                } else {
                    "wait for its lease to end, or, if you know that nothing of it runs any more, use --force; nothing was \
                     changed"
                };
                return Err(refused(why, next));
            }
            Err(InspectError::Unreachable(why)) => {
                let next = "only the lead can strike it out; ask again: doing so twice changes nothing";
                let message = format!("the lead of cluster {cluster} {why}");
                return Err(error(503, codes::NODE_UNREACHABLE, object, message, next));
            }
        }
        let mut warnings = Vec::new();
        let filter = Filter { cluster: Some(cluster.clone()), ..Filter::default() };
        let others = self.nodes_now(&filter).into_iter().filter(|other| other.id != id);
        for other in others {
            if let Err(why) = self.ask_member(other.id, InspectRequest::Forget(id)).await {
                let who = format!("{}/{}", other.cluster, other.name);
                warnings.push(format!("node {who} {why}: it may tell of {name} again; forget it again then"));
            }
        }
        // Last, because names are looked up here.
        if let Err(why) = self.ask_member(self.member.commons.own.id, InspectRequest::Forget(id)).await {
            warnings.push(format!("this member itself {why}"));
        }
        Ok(warnings)
    }

    /// Who votes in a cluster, by the words of its lead, and whether they are alive.
    fn voters_of(&self, cluster: &ClusterName) -> Vec<(MemberId, bool)> {
        let commons = &self.member.commons;
        // A lead that answers for itself has no view of itself among those of others.
        let own = commons.own_view(crate::clock::boot_now());
        let voters = commons.with_views(|views| {
            let of_cluster =
                views.iter().chain([&own]).filter(|view| view.identity.cluster() == Some(cluster));
            let facts = of_cluster.filter_map(|view| {
                let fact = view.electorate()?;
                (fact.term.owner == view.identity.id).then_some(fact)
            });
            let voters = facts.max_by_key(|fact| fact.term).map(|fact| fact.voters.clone());
            voters.unwrap_or_default().into_iter().map(|voter| voter.member).collect::<Vec<_>>()
        });
        let alive = |member| member == commons.own.id || commons.liveness(member) == Some(Liveness::Alive);
        voters.into_iter().map(|member| (member, alive(member))).collect()
    }

    /// Who leads a cluster, by the words of its members.
    pub(super) fn lead_of(&self, cluster: &ClusterName) -> Option<MemberId> {
        let commons = &self.member.commons;
        let own = &commons.own;
        let of_views = commons.with_views(|views| {
            let facts = views.iter().filter(|view| view.identity.cluster() == Some(cluster));
            let facts = facts.filter_map(|view| Some((view.cluster()?.term, view.identity.id)));
            facts.max()
        });
        // A lead that answers for itself has no view of itself.
        let leads = own.cluster() == Some(cluster) && self.member.fact().lead == Some(own.id);
        if leads { Some(own.id) } else { of_views.map(|(_, lead)| lead) }
    }

    /// Asks a member, this one too.
    pub(super) async fn ask_member(
        &self,
        member: MemberId,
        request: InspectRequest,
    ) -> Result<Vec<u8>, InspectError> {
        let commons = &self.member.commons;
        if member == commons.own.id {
            let starting = || InspectError::Unreachable("is still starting".into());
            let inspector = commons.inspector.get().ok_or_else(starting)?;
            return inspector.answer(&commons.own, request).await.map_err(InspectError::Refused);
        }
        let link =
            commons.link(member).ok_or_else(|| InspectError::Unreachable("it is not connected".into()))?;
        inspect(&link, &request).await
    }
}

/// Why a cluster with these voters, alive or not, could elect nobody any more once this member has left.
fn keeps_no_majority(voters: &[(MemberId, bool)], member: MemberId) -> Option<String> {
    if !voters.iter().any(|(voter, _)| *voter == member) {
        return None;
    }
    let left = voters.iter().filter(|(voter, alive)| *alive && *voter != member).count();
    (2 * left <= voters.len()).then(|| {
        format!(
            "it votes for the lead of its cluster, and the {left} of {} voters that would be left are no majority",
            voters.len()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn voter_may_leave_only_while_the_others_are_a_majority() {
        let voters = |alive: &[bool]| -> Vec<(MemberId, bool)> {
            alive.iter().enumerate().map(|(at, alive)| (MemberId(at as u128), *alive)).collect()
        };
        let first = MemberId(0);
        assert_eq!(keeps_no_majority(&voters(&[true, true, true]), first), None);
        let two = keeps_no_majority(&voters(&[true, true, false]), first).unwrap();
        assert!(two.contains("the 1 of 3 voters"), "{two}");
        assert!(keeps_no_majority(&voters(&[true]), first).is_some(), "the only one");
        assert!(keeps_no_majority(&voters(&[true, true]), first).is_some(), "of two both are needed");
        assert_eq!(keeps_no_majority(&voters(&[true]), MemberId(7)), None, "who does not vote is not needed");
        assert_eq!(keeps_no_majority(&voters(&[true, true, true, true, false]), first), None);
    }
}
