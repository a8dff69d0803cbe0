//! Removing a node for good.

use codeco_protocol::api::codes;
use codeco_protocol::gossip::Liveness;
use codeco_protocol::ids::{ClusterName, MemberId, NodeName};

use super::fleet::{MemberFleet, error};
use crate::acm::fleet::{ApiError, Filter};
use crate::fabric::{InspectError, InspectRequest, inspect};

impl MemberFleet {
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
