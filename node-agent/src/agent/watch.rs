//! The agent's eye on its cluster: who leads it, where its members are.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use codeco_actors::evidence::Note;
use codeco_actors::fabric::Watcher;
use codeco_actors::process::{Member, PeriodicMessage, periodic_child};
use codeco_actors::supervision::{ChildRef, ChildSpec, Policy};
use codeco_actors::swm::actor::CoreMessage;
use codeco_actors::swm::ledger::{Ledger, LedgerInput};
use codeco_protocol::api::EventType;
use codeco_protocol::gossip::Liveness;
use codeco_protocol::ids::{ClusterName, Identity, MemberId, NodeName};
use futures::FutureExt as _;

use super::options::AgentConfig;

/// Addresses remembered at most.
const PEERS_MAX: usize = 1_024;
const PEERS_FILE: &str = "peers.json";

/// See the module.
pub(super) struct AgentWatcher {
    member: Arc<Member>,
    cluster: ClusterName,
    name: NodeName,
    lead: NodeName,
    peers_file: PathBuf,
    known: Mutex<Option<MemberId>>,
}

impl AgentWatcher {
    pub(super) fn new(config: &AgentConfig, cluster: &ClusterName, member: &Arc<Member>) -> Self {
        Self {
            member: Arc::clone(member),
            cluster: cluster.clone(),
            name: config.name.clone(),
            lead: config.lead.clone(),
            peers_file: config.state.join(PEERS_FILE),
            known: Mutex::new(None),
        }
    }
}

/// Peers named by the configuration, and those known when the agent last ran.
pub(super) fn remembered_peers(config: &AgentConfig) -> Vec<SocketAddr> {
    let mut peers = config.peers.clone();
    if let Ok(text) = std::fs::read_to_string(config.state.join(PEERS_FILE))
        && let Ok(known) = serde_json::from_str::<Vec<SocketAddr>>(&text)
    {
        peers.extend(known.into_iter().take(PEERS_MAX));
    }
    peers
}

impl Watcher for AgentWatcher {
    /// The member of this cluster that bears the lead's name. Once known it stays, until another bears the name.
    fn lead(&self) -> Option<MemberId> {
        if self.lead == self.name {
            return Some(self.member.commons.own.id);
        }
        let found = self.member.commons.with_views(|views| {
            views
                .iter()
                .filter(|view| view.identity.cluster() == Some(&self.cluster))
                .filter(|view| view.member().is_some_and(|fact| fact.name == self.lead.as_str()))
                .max_by_key(|view| (view.fresh_at, view.identity.id))
                .map(|view| view.identity.id)
        });
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if found.is_some() {
            *known = found;
        }
        *known
    }

    fn changed(&self, member: &Identity, liveness: Liveness) {
        let kind = match liveness {
            Liveness::Alive | Liveness::Left => EventType::Normal,
            Liveness::Suspect | Liveness::Dead => EventType::Warning,
        };
        let name = self.member.commons.view(member.id).and_then(|view| view.member().map(|f| f.name.clone()));
        self.member.events.tell(Note {
            kind,
            reason: "MemberChanged",
            object_kind: "Member",
            object: match (member.cluster(), name) {
                (Some(cluster), Some(name)) => format!("{cluster}/{name}"),
                (None, Some(name)) => name,
                (_, None) => member.to_string().trim_start_matches('/').to_owned(),
            },
            message: format!("is {liveness:?} as seen from {}/{}", self.cluster, self.name).to_lowercase(),
        });
    }

    fn cut_off(&self, cut_off: bool) {
        self.member.update(|fact| fact.cut_off = cut_off);
        let (kind, message) = if cut_off {
            (
                EventType::Warning,
                "hears no other member: it is cut off, and decides and runs on as far as it may",
            )
        } else {
            (EventType::Normal, "hears other members again")
        };
        self.member.events.tell(Note {
            kind,
            reason: "CutOff",
            object_kind: "Node",
            object: self.name.to_string(),
            message: message.into(),
        });
    }

    fn peers_known(&self, peers: Vec<SocketAddr>) {
        // Only a help for the next start: an error costs a little time then.
        if let Ok(text) = serde_json::to_string(&peers) {
            let temporary = self.peers_file.with_extension("new");
            if std::fs::write(&temporary, text).is_ok() {
                let _ = std::fs::rename(&temporary, &self.peers_file);
            }
        }
    }
}

/// Tells ledger and post who leads, whenever that changes.
pub(super) fn follow_lead(
    watcher: &Arc<AgentWatcher>,
    member: &Arc<Member>,
    ledger: &ChildRef<CoreMessage<Ledger>>,
    policy: Policy,
) -> (ChildSpec, ChildRef<PeriodicMessage>) {
    let (watcher, member, ledger) = (Arc::clone(watcher), Arc::clone(member), ledger.clone());
    periodic_child("follow-lead", policy, Duration::from_millis(50), move || {
        let (watcher, member, ledger) = (Arc::clone(&watcher), Arc::clone(&member), ledger.clone());
        async move {
            if let Some(lead) = watcher.lead() {
                member.commons.post.set_lead(lead);
                if member.fact().lead != Some(lead)
                    && ledger.try_send(CoreMessage::Input(LedgerInput::LeadIs(lead))).is_ok()
                {
                    member.update(|fact| fact.lead = Some(lead));
                }
            }
            Ok(())
        }
        .boxed()
    })
}
