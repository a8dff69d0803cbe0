//! What the agent has been told about each replica, and what it still has to be told.

use std::collections::BTreeMap;

use codeco_protocol::ids::ReplicaId;
use codeco_protocol::token::Token;

use crate::runtime::{ReplicaPhase, RunningReplica, RuntimeEvent, RuntimeEventKind};

/// The state the agent knows, event by event.
#[derive(Debug, Default)]
pub(super) struct Told(BTreeMap<ReplicaId, (Token, ReplicaPhase)>);

impl Told {
    /// Takes what the agent will learn by itself, from a list.
    pub(super) fn begin_with(&mut self, listed: &[RunningReplica]) {
        let entry = |r: &RunningReplica| (r.workload.replica.clone(), (r.workload.token, r.phase.clone()));
        self.0 = listed.iter().map(entry).collect();
    }

    /// The agent has been told.
    pub(super) fn note(&mut self, event: &RuntimeEvent) {
        let phase = match &event.kind {
            RuntimeEventKind::Started { .. } => match self.0.get(&event.replica) {
                Some((token, _)) if *token == event.token => return,
                _ => ReplicaPhase::Starting,
            },
            RuntimeEventKind::Ready => ReplicaPhase::Running,
            RuntimeEventKind::Finished => ReplicaPhase::Finished,
            RuntimeEventKind::Failed { message } => ReplicaPhase::Failed { message: message.clone() },
            RuntimeEventKind::LeaseExpired => ReplicaPhase::LeaseExpired,
            RuntimeEventKind::Exited { .. } | RuntimeEventKind::Restarting { .. } => return,
            RuntimeEventKind::Stopped | RuntimeEventKind::Lost { .. } => {
                self.0.remove(&event.replica);
                return;
            }
        };
        self.0.insert(event.replica.clone(), (event.token, phase));
    }

    /// What the agent has not been told yet, given what runs now. `same_guard`: whether the guard is still the one
    /// that everything was started by.
    pub(super) fn missing(&self, listed: &[RunningReplica], same_guard: bool) -> Vec<RuntimeEvent> {
        let runs: BTreeMap<&ReplicaId, &RunningReplica> =
            listed.iter().map(|listed| (&listed.workload.replica, listed)).collect();
        let lost = self.0.iter().filter_map(|(replica, (token, phase))| {
            let kept = runs.get(replica).is_some_and(|listed| listed.workload.token == *token);
            let kind = match (kept || phase.is_ended(), same_guard) {
                (true, _) => return None,
                (false, true) => RuntimeEventKind::Stopped,
                (false, false) => RuntimeEventKind::Lost {
                    message: "the node's guard died and took its processes with it; it is started again"
                        .into(),
                },
            };
            Some(RuntimeEvent { replica: replica.clone(), token: *token, kind })
        });
        let changed = listed.iter().filter_map(|listed| {
            let (replica, token) = (&listed.workload.replica, listed.workload.token);
            let known = self.0.get(replica).filter(|(known, _)| *known == token).map(|(_, phase)| phase);
            let kind = match &listed.phase {
                phase if known == Some(phase) => return None,
                ReplicaPhase::Finished => RuntimeEventKind::Finished,
                ReplicaPhase::Failed { message } => RuntimeEventKind::Failed { message: message.clone() },
                ReplicaPhase::LeaseExpired => RuntimeEventKind::LeaseExpired,
                ReplicaPhase::Running if matches!(known, None | Some(ReplicaPhase::Starting)) => {
                    RuntimeEventKind::Ready
                }
                _ => return None,
            };
            Some(RuntimeEvent { replica: replica.clone(), token, kind })
        });
        lost.chain(changed).collect()
    }
}
