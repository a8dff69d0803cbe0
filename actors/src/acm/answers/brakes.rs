//! Releasing brakes, by an operator's word.

use codeco_protocol::api::{EventType, codes};
use codeco_protocol::ids::ClusterName;

use super::fleet::{MemberFleet, error};
use crate::acm::api::BrakeView;
use crate::acm::fleet::ApiError;
use crate::evidence::Note;
use crate::fabric::{InspectError, InspectRequest};
use crate::swm::actor::ask;

impl MemberFleet {
    /// Of a cluster two brakes may be engaged: that of its lead, which misses nodes, and that of this home, which misses
    /// the cluster. Both are released; it is an error if neither is.
    pub(super) async fn release_brakes(&self, cluster: ClusterName) -> Result<BrakeView, ApiError> {
        let object = Some(format!("cluster/{cluster}"));
        let name = cluster.clone();
        let asked = ask(&self.home, move |home, now, out| home.release_brake(now, &name, out)).await;
        let home = asked.map_err(|e| {
            let message = format!("it is not known whether the brake of this home was released: {e}");
            error(503, codes::HOME_UNAVAILABLE, object.clone(), message, "ask again: twice changes nothing")
        })?;
        if home {
            self.member.events.tell(Note {
                kind: EventType::Normal,
                reason: "BrakeReleased",
                object_kind: "Cluster",
                object: cluster.to_string(),
                message: "by an operator's word it is gone: what it has may go elsewhere by the rules of its applications"
                    .into(),
            });
        }
        let answer = match self.lead_of(&cluster) {
            Some(lead) => self.ask_member(lead, InspectRequest::ReleaseBrake).await,
            None => Err(InspectError::Unreachable("is not known".into())),
        };
        match answer {
            Ok(bytes) => {
                let replicas = <[u8; 8]>::try_from(bytes).ok().map(u64::from_le_bytes);
                Ok(BrakeView { cluster, replicas, home })
            }
            Err(_) if home => Ok(BrakeView { cluster, replicas: None, home }),
            Err(InspectError::Refused(why)) => {
                let message = format!("cluster {cluster}: {why}");
                let next = "`codeco get clusters` shows which brakes are engaged; nothing was changed";
                Err(error(409, codes::BRAKE_NOT_ENGAGED, object, message, next))
            }
            Err(InspectError::Unreachable(why)) => {
                let message = format!("the lead of cluster {cluster} {why}");
                let next = "ask a hub, or a member of that cluster, when `codeco get clusters` shows a lead; nothing is \
                            known to have changed";
                Err(error(503, codes::NODE_UNREACHABLE, object, message, next))
            }
        }
    }
}
