//! The actor that has the runtime carry out what the ledger decides, and tells the ledger what became of it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use codeco_actors::clock::wall_now;
use codeco_actors::evidence::Note;
use codeco_actors::mailbox::Tracked;
use codeco_actors::process::Member;
use codeco_actors::supervision::{ChildRef, ChildSpec, Policy};
use codeco_actors::swm::actor::CoreMessage;
use codeco_actors::swm::ledger::{Ledger, LedgerInput, RuntimeFact};
use codeco_protocol::api::EventType;
use codeco_protocol::ids::ReplicaId;
use codeco_protocol::token::Token;
use codeco_protocol::units::{BootTime, WallTime};
use codeco_protocol::workload::Workload;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::mpsc;

use crate::runtime::{
    ReplicaPhase, RunningReplica, Runtime, RuntimeEvent, RuntimeEventKind, StartError, StopError,
};

/// Time before a start that was refused for a passing reason, or a stop that was not proven, is tried again.
const RETRY: Duration = Duration::from_millis(500);
/// How often a start is tried.
const START_TRIES: u32 = 20;

/// What the actor takes.
#[derive(Debug)]
pub(super) enum WorkloadsMessage {
    /// Start it.
    Start(Workload, u32),
    /// Stop it.
    Stop(ReplicaId, Token),
    /// Replicas that need a lease may run until then.
    Lease(BootTime),
    /// Fail, to see what happens.
    Panic,
}

/// What is known of a run, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) token: Token,
    pub(super) pid: Option<u32>,
    pub(super) restarts: u32,
    pub(super) message: Option<String>,
    pub(super) since: WallTime,
}

/// What the parts around the runtime share.
pub(super) struct Workloads {
    pub(super) runtime: Arc<dyn Runtime>,
    pub(super) member: Arc<Member>,
    pub(super) ledger: OnceLock<ChildRef<CoreMessage<Ledger>>>,
    runs: Mutex<BTreeMap<ReplicaId, Run>>,
    /// What the ledger wants to run. Held while a start is under way, so that a start that is tried again can never
    /// overtake the order to stop.
    wanted: tokio::sync::Mutex<BTreeMap<ReplicaId, Token>>,
}

impl Workloads {
    pub(super) fn new(runtime: Arc<dyn Runtime>, member: Arc<Member>) -> Arc<Self> {
        Arc::new(Self {
            runtime,
            member,
            ledger: OnceLock::new(),
            runs: Mutex::default(),
            wanted: tokio::sync::Mutex::default(),
        })
    }

    pub(super) fn run_of(&self, replica: &ReplicaId, token: Token) -> Option<Run> {
        let runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        runs.get(replica).filter(|run| run.token == token).cloned()
    }

    fn note(&self, replica: &ReplicaId, token: Token, change: impl FnOnce(&mut Run)) {
        let mut runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = Run { token, pid: None, restarts: 0, message: None, since: wall_now() };
        let run = runs.entry(replica.clone()).or_insert_with(|| fresh.clone());
        if run.token != token {
            *run = fresh;
        }
        change(run);
    }

    fn forget(&self, replica: &ReplicaId, token: Token) {
        let mut runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        if runs.get(replica).is_some_and(|run| run.token == token) {
            runs.remove(replica);
        }
    }

    async fn tell_ledger(&self, replica: &ReplicaId, token: Token, fact: RuntimeFact) {
        let Some(ledger) = self.ledger.get() else { return };
        if let Some(running) = ledger.running().await {
            let input = LedgerInput::Runtime { replica: replica.clone(), token, fact };
            // A ledger that fails now asks the runtime anew when it is restarted.
            let _ = running.send(CoreMessage::Input(input));
        }
    }

    /// What the ledger is told at its start: what runs, and how it fares.
    pub(super) async fn listed(&self) -> Result<Vec<LedgerInput>, String> {
        let running = self.runtime.list().await.map_err(|e| e.to_string())?;
        let kept: Vec<&RunningReplica> =
            running.iter().filter(|r| r.phase != ReplicaPhase::LeaseExpired).collect();
        let mut inputs = vec![LedgerInput::Listed(kept.iter().map(|r| r.workload.clone()).collect())];
        for replica in kept {
            let (id, token) = (replica.workload.replica.clone(), replica.workload.token);
            self.note(&id, token, |run| {
                run.pid = replica.pid;
                run.restarts = replica.restarts;
                if let ReplicaPhase::Failed { message } = &replica.phase {
                    run.message = Some(message.clone());
                }
            });
            let fact = match replica.phase {
                ReplicaPhase::Running => RuntimeFact::Ready,
                ReplicaPhase::Finished => RuntimeFact::Finished,
                ReplicaPhase::Failed { .. } => RuntimeFact::Failed,
                _ => RuntimeFact::Starting,
            };
            inputs.push(LedgerInput::Runtime { replica: id, token, fact });
        }
        Ok(inputs)
    }

    async fn start(&self, workload: Workload, tries: u32) -> Option<(Workload, u32)> {
        let (replica, token) = (workload.replica.clone(), workload.token);
        let mut wanted = self.wanted.lock().await;
        if tries == 0 {
            wanted.insert(replica.clone(), token);
        } else if wanted.get(&replica) != Some(&token) {
            return None;
        }
        if self.ended_before(&replica, token).await
            && let Err(error) = self.runtime.stop(&replica, token).await
        {
            tracing::warn!(%replica, %error, "an ended run could not be cleared away");
        }
        match self.runtime.start(workload.clone()).await {
            Ok(()) => {
                self.note(&replica, token, |run| run.since = wall_now());
                None
            }
            Err(StartError::Stale { .. }) => None,
            Err(error) if tries < START_TRIES => {
                tracing::warn!(%replica, %error, "not started yet; trying again");
                Some((workload, tries + 1))
            }
            Err(error) => {
                self.note(&replica, token, |run| run.message = Some(error.to_string()));
                self.tell(&replica, &workload, EventType::Warning, "StartFailed", error.to_string());
                self.tell_ledger(&replica, token, RuntimeFact::Failed).await;
                None
            }
        }
    }

    /// Whether the runtime remembers a run under this token that the end of the lease has ended: it must be cleared
    /// away before the same token may run again.
    async fn ended_before(&self, replica: &ReplicaId, token: Token) -> bool {
        self.runtime.list().await.is_ok_and(|list| {
            list.iter().any(|r| {
                r.workload.replica == *replica
                    && r.workload.token == token
                    && r.phase == ReplicaPhase::LeaseExpired
            })
        })
    }

    fn tell(
        &self,
        replica: &ReplicaId,
        workload: &Workload,
        kind: EventType,
        reason: &'static str,
        message: String,
    ) {
        let object = format!("{}/{}-{}", workload.spec.app, replica.service, replica.index);
        self.member.events.tell(Note { kind, reason, object_kind: "Replica", object, message });
    }

    /// Stops, and tells the ledger once that is proven; until then it is tried again and again.
    async fn stop(self: Arc<Self>, replica: ReplicaId, token: Token) {
        {
            let mut wanted = self.wanted.lock().await;
            if wanted.get(&replica).is_some_and(|known| *known <= token) {
                wanted.remove(&replica);
            }
        }
        loop {
            match self.runtime.stop(&replica, token).await {
                Ok(()) | Err(StopError::Stale { .. }) => break,
                Err(error) => {
                    tracing::warn!(%replica, %error, "stop not proven yet; trying again");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
        self.forget(&replica, token);
        self.tell_ledger(&replica, token, RuntimeFact::Stopped).await;
    }

    /// Passes on what the runtime reports, for as long as it does.
    pub(super) async fn pump(self: Arc<Self>, mut reports: mpsc::Receiver<RuntimeEvent>) {
        while let Some(RuntimeEvent { replica, token, kind }) = reports.recv().await {
            let fact = match kind {
                RuntimeEventKind::Started { pid, .. } => {
                    self.note(&replica, token, |run| run.pid = run.pid.or(pid));
                    RuntimeFact::Starting
                }
                RuntimeEventKind::Ready => {
                    self.note(&replica, token, |run| run.message = None);
                    RuntimeFact::Ready
                }
                RuntimeEventKind::Exited { container, exit } => {
                    self.note(&replica, token, |run| {
                        run.pid = None;
                        run.message = Some(format!("container {container} ended with {exit}"));
                    });
                    continue;
                }
                RuntimeEventKind::Restarting { container, delay } => {
                    self.note(&replica, token, |run| run.restarts += 1);
                    self.member.events.tell(Note {
                        kind: EventType::Warning,
                        reason: "BackOff",
                        object_kind: "Replica",
                        object: self.member.replica_name(&replica),
                        message: format!("container {container} is started again in {delay}"),
                    });
                    RuntimeFact::Starting
                }
                RuntimeEventKind::Finished => RuntimeFact::Finished,
                RuntimeEventKind::Failed { message } => {
                    self.member.events.tell(Note {
                        kind: EventType::Warning,
                        reason: "Failed",
                        object_kind: "Replica",
                        object: self.member.replica_name(&replica),
                        message: message.clone(),
                    });
                    self.note(&replica, token, |run| run.message = Some(message));
                    RuntimeFact::Failed
                }
                RuntimeEventKind::LeaseExpired => {
                    self.member.events.tell(Note {
                        kind: EventType::Warning,
                        reason: "LeaseExpired",
                        object_kind: "Replica",
                        object: self.member.replica_name(&replica),
                        message: "stopped: this node's lease has ended and no lead has answered".into(),
                    });
                    RuntimeFact::Fenced
                }
                // Proven not to run: the ledger has it started again if it is wanted.
                RuntimeEventKind::Lost { message } => {
                    self.member.events.tell(Note {
                        kind: EventType::Warning,
                        reason: "Lost",
                        object_kind: "Replica",
                        object: self.member.replica_name(&replica),
                        message,
                    });
                    self.note(&replica, token, |run| run.pid = None);
                    RuntimeFact::Stopped
                }
                // A stop asked for is told by whoever waits for it.
                RuntimeEventKind::Stopped => continue,
            };
            self.tell_ledger(&replica, token, fact).await;
        }
    }
}

struct WorkloadsActor {
    shared: Arc<Workloads>,
}

impl Actor for WorkloadsActor {
    type Msg = Tracked<WorkloadsMessage>;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Self::Msg>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(
        &self,
        _: ActorRef<Self::Msg>,
        message: Self::Msg,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        match message.open() {
            WorkloadsMessage::Start(workload, tries) => {
                let mut again = self.shared.start(workload, tries).await;
                if again.is_some() {
                    let shared = Arc::clone(&self.shared);
                    tokio::spawn(async move {
                        while let Some((workload, tries)) = again {
                            tokio::time::sleep(RETRY).await;
                            again = shared.start(workload, tries).await;
                        }
                    });
                }
            }
            WorkloadsMessage::Stop(replica, token) => {
                tokio::spawn(Arc::clone(&self.shared).stop(replica, token));
            }
            WorkloadsMessage::Lease(until) => {
                if let Err(error) = self.shared.runtime.extend_lease(until).await {
                    tracing::warn!(%error, "the lease was not handed to the runtime");
                }
            }
            WorkloadsMessage::Panic => panic!("a fault was injected"),
        }
        Ok(())
    }
}

/// The actor as a supervised child.
pub(super) fn workloads_child(
    shared: &Arc<Workloads>,
    policy: Policy,
) -> (ChildSpec, ChildRef<WorkloadsMessage>) {
    let shared = Arc::clone(shared);
    ChildSpec::tracked("workloads", policy, 4_096, move || {
        (WorkloadsActor { shared: Arc::clone(&shared) }, ())
    })
}
