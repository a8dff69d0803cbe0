//! Answers of the agent to questions of hubs, and of members of its own cluster.

use std::sync::Arc;

use async_trait::async_trait;
use codeco_actors::acm::apps::page;
use codeco_actors::evidence::Note;
use codeco_actors::fabric::{InspectRequest, Inspector, LinksMessage};
use codeco_actors::process::{Faults, Member, check_up};
use codeco_actors::supervision::ChildRef;
use codeco_actors::swm::actor::{CoreMessage, ask};
use codeco_actors::swm::election::elector::{Elector, ElectorInput};
use codeco_actors::swm::lead::Lead;
use codeco_actors::swm::ledger::{LedgerInput, Upkeep};
use codeco_protocol::api::EventType;
use codeco_protocol::ids::{ClusterName, Identity, MemberId, ReplicaId};
use codeco_protocol::token::Term;

use super::workloads::Workloads;

pub(super) struct AgentInspector {
    pub(super) member: Arc<Member>,
    pub(super) workloads: Arc<Workloads>,
    pub(super) cluster: ClusterName,
    pub(super) faults: Faults,
    pub(super) elector: ChildRef<CoreMessage<Elector>>,
    pub(super) links: ChildRef<LinksMessage>,
    /// Told once this node is to stop for good.
    pub(super) leaves: Arc<tokio::sync::Notify>,
}

/// Between the answer to an order to leave and what it ends: the answer is to be on its way before the connection ends.
const FAREWELL: std::time::Duration = std::time::Duration::from_millis(300);

#[async_trait]
impl Inspector for AgentInspector {
    async fn answer(&self, from: &Identity, request: InspectRequest) -> Result<Vec<u8>, String> {
        let of_ours = from.cluster() == Some(&self.cluster);
        // What people of any cluster may see, they see through the member they ask.
        let is_view = matches!(
            request,
            InspectRequest::Events
                | InspectRequest::Decisions(_)
                | InspectRequest::Actors
                | InspectRequest::Apps(_)
        );
        if !from.is_hub() && !of_ours && !is_view {
            return Err("only hubs and members of the same cluster are answered".into());
        }
        match request {
            InspectRequest::Events => json(&self.member.events.list(), Keep::Last),
            InspectRequest::Decisions(app) => json(&self.member.decisions.list(app.as_ref()), Keep::First),
            InspectRequest::Actors => json(&self.member.actor_views(), Keep::First),
            InspectRequest::Logs { replica, container, tail_bytes } => {
                self.logs(&replica, container, tail_bytes).await
            }
            InspectRequest::Panic { actor, times } if from.is_hub() => {
                self.faults.panic(&actor, times).map(|()| Vec::new())
            }
            InspectRequest::Apps(after) => {
                let home = self.member.commons.post.home().ok_or("this member has no home yet")?;
                let pages =
                    ask(&home, move |home, _, _| page(home, after)).await.map_err(|e| e.to_string())?;
                codeco_protocol::wire::encode(&pages).map_err(|e| e.to_string())
            }
            // An operator's word comes by a hub, or by this member's own API; a lead passes it on.
            InspectRequest::Unenrol { node, forced } if from.is_hub() || *from == self.member.commons.own => {
                self.unenrol(node, forced).await
            }
            InspectRequest::Forget(member)
                if from.is_hub() || *from == self.member.commons.own || self.leads(from) =>
            {
                self.links
                    .send(LinksMessage::Forget(member))
                    .map(|()| Vec::new())
                    .map_err(|e| format!("{e:?}"))
            }
            // An operator's word, passed on by whoever was asked.
            InspectRequest::Leave => self.leave().await,
            InspectRequest::Unenrol { .. } | InspectRequest::Forget(_) => {
                Err("only hubs and the lead may have a member forgotten".into())
            }
            InspectRequest::Links => json(&self.member.network.links(&self.member.name), Keep::First),
            InspectRequest::Doctor => {
                serde_json::to_vec(&check_up(&self.member).await).map_err(|e| e.to_string())
            }
            InspectRequest::Upkeep(upkeep) => self.set_upkeep(upkeep).await,
            InspectRequest::ReleaseBrake if from.is_hub() || of_ours => self.release_brake().await,
            InspectRequest::ReleaseBrake => {
                Err("only hubs and members of the same cluster may release the brake".into())
            }
            InspectRequest::ReplaceElectorate { version, term } if from.is_hub() => {
                self.replace_electorate(version, term).await
            }
            InspectRequest::ReplaceElectorate { .. } => Err("only hubs may pass on that order".into()),
            InspectRequest::Fault(fault) if from.is_hub() => self.faults.inject(fault).map(|()| Vec::new()),
            InspectRequest::Fault(_) | InspectRequest::Panic { .. } => {
                Err("only hubs may inject faults".into())
            }
            InspectRequest::Renew { .. } | InspectRequest::Trust | InspectRequest::Life => {
                Err("certificates are renewed over connections of their own".into())
            }
        }
    }
}

impl AgentInspector {
    async fn set_upkeep(&self, upkeep: Upkeep) -> Result<Vec<u8>, String> {
        let ledger = self.workloads.ledger.get().ok_or("the node's ledger does not run yet")?;
        let told = ask(ledger, move |ledger, now, out| ledger.handle(now, LedgerInput::Upkeep(upkeep), out));
        told.await.map(|()| Vec::new()).map_err(|e| format!("it is not known whether that was taken: {e}"))
    }

    /// Stops for good. What may still be given work, or has some, stays: a stop must never be what moves it.
    async fn leave(&self) -> Result<Vec<u8>, String> {
        let ledger = self.workloads.ledger.get().ok_or("the node's ledger does not run yet")?;
        let told = ask(ledger, |ledger, _, _| (ledger.upkeep(), ledger.held_briefs().len()));
        let (upkeep, held) = told.await.map_err(|e| format!("it is not known what it has left: {e}"))?;
        match (upkeep, held) {
            (Upkeep::Draining, 0) => {}
            (Upkeep::Draining, held) => return Err(format!("it still has {held} replicas to be moved")),
            _ => return Err("it is not drained, so it may be given work".to_owned()),
        }
        self.member.events.tell(Note {
            kind: EventType::Normal,
            reason: "NodeLeaves",
            object_kind: "Node",
            object: format!("{}/{}", self.cluster, self.member.name),
            message: "an operator has it stop for good".to_owned(),
        });
        let leaves = Arc::clone(&self.leaves);
        tokio::spawn(async move {
            tokio::time::sleep(FAREWELL).await;
            leaves.notify_one();
        });
        Ok(Vec::new())
    }

    async fn replace_electorate(&self, version: u64, term: Term) -> Result<Vec<u8>, String> {
        let input = ElectorInput::Impose { version, term };
        let told = ask(&self.elector, move |elector, now, out| elector.handle(now, input, out));
        told.await.map(|()| Vec::new()).map_err(|e| format!("it is not known whether that was taken: {e}"))
    }

    /// Has the lead of this process take an operator's word that the nodes it misses are gone.
    async fn release_brake(&self) -> Result<Vec<u8>, String> {
        let told = ask(&self.elector, |elector, now, out| elector.command(now, out, Lead::release_brake));
        told.await
            .map_err(|e| format!("it is not known whether that was taken: {e}"))?
            .ok_or("this node does not lead its cluster")?
            .map(|held| u64::try_from(held).unwrap_or(u64::MAX).to_le_bytes().to_vec())
            .map_err(|e| e.to_string())
    }

    fn leads(&self, member: &Identity) -> bool {
        self.member.fact().lead == Some(member.id)
    }

    /// Has the lead of this process forget a node.
    async fn unenrol(&self, node: MemberId, forced: bool) -> Result<Vec<u8>, String> {
        let told = ask(&self.elector, move |elector, now, out| {
            elector.command(now, out, |lead, now, out| lead.forget(now, node, forced, out))
        });
        told.await
            .map_err(|e| format!("it is not known whether that was taken: {e}"))?
            .ok_or("this node does not lead its cluster")?
            .map(|()| Vec::new())
            .map_err(|e| e.to_string())
    }

    async fn logs(
        &self,
        replica: &ReplicaId,
        container: Option<String>,
        tail_bytes: u32,
    ) -> Result<Vec<u8>, String> {
        let container = match container {
            Some(container) => container,
            None => self.first_container(replica).await?,
        };
        let tail = usize::try_from(tail_bytes).unwrap_or(usize::MAX);
        self.workloads.runtime.logs(replica, &container, tail).await.map_err(|e| e.to_string())
    }

    async fn first_container(&self, replica: &ReplicaId) -> Result<String, String> {
        let list = self.workloads.runtime.list().await.map_err(|e| e.to_string())?;
        list.into_iter()
            .find(|running| running.workload.replica == *replica)
            .and_then(|running| running.workload.spec.containers.first().map(|c| c.name.clone()))
            .ok_or_else(|| format!("{replica} does not run on this node"))
    }
}

/// Which end of a list is the newer one.
#[derive(Clone, Copy)]
enum Keep {
    First,
    Last,
}

/// As JSON; where it would be too long for one answer, older items are left out.
fn json<T: serde::Serialize>(items: &[T], keep: Keep) -> Result<Vec<u8>, String> {
    const ANSWER_MAX: usize = 900 << 10;
    let mut items = items;
    loop {
        let bytes = serde_json::to_vec(items).map_err(|e| e.to_string())?;
        if bytes.len() <= ANSWER_MAX || items.is_empty() {
            return Ok(bytes);
        }
        let kept = items.len() - items.len().div_ceil(4);
        items = match keep {
            Keep::First => &items[..kept],
            Keep::Last => &items[items.len() - kept..],
        };
    }
}
