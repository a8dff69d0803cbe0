//! Answers of the agent to questions of hubs, and of members of its own cluster.

use std::sync::Arc;

use async_trait::async_trait;
use codeco_actors::acm::apps::page;
use codeco_actors::fabric::{InspectRequest, Inspector};
use codeco_actors::process::{Faults, Member};
use codeco_actors::swm::actor::ask;
use codeco_actors::swm::ledger::{LedgerInput, Upkeep};
use codeco_protocol::ids::{ClusterName, Identity, ReplicaId};

use super::workloads::Workloads;

pub(super) struct AgentInspector {
    pub(super) member: Arc<Member>,
    pub(super) workloads: Arc<Workloads>,
    pub(super) cluster: ClusterName,
    pub(super) faults: Faults,
}

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
                let pages = ask(&home, move |home, _, _| page(home, after)).await.map_err(|e| e.to_string())?;
                codeco_protocol::wire::encode(&pages).map_err(|e| e.to_string())
            }
            InspectRequest::Upkeep(upkeep) => self.set_upkeep(upkeep).await,
            InspectRequest::Fault(fault) if from.is_hub() => self.faults.inject(fault).map(|()| Vec::new()),
            InspectRequest::Fault(_) | InspectRequest::Panic { .. } => {
                Err("only hubs may inject faults".into())
            }
            InspectRequest::Renew { .. } => Err("certificates are renewed by hubs".into()),
        }
    }
}

impl AgentInspector {
    async fn set_upkeep(&self, upkeep: Upkeep) -> Result<Vec<u8>, String> {
        let ledger = self.workloads.ledger.get().ok_or("the node's ledger does not run yet")?;
        let told = ask(ledger, move |ledger, now, out| ledger.handle(now, LedgerInput::Upkeep(upkeep), out));
        told.await.map(|()| Vec::new()).map_err(|e| format!("it is not known whether that was taken: {e}"))
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
