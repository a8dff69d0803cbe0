//! A fleet that answers from memory and writes down what it was asked.

use std::sync::{Mutex, mpsc};

use async_trait::async_trait;
use codeco_actors::swm::ledger::Upkeep;
use codeco_hub::api::{BrakeView, FaultWish};
use codeco_hub::fleet::{ApiError, Applied, Filter, Fleet, LogQuery, NewToken};
use codeco_protocol::api::{
    ActorView, AppView, Bid, BidAnswer, CaView, Candidate, CertState, CertView, ClusterView, CodecoApp,
    DecisionLevel, DecisionView, DoctorView, ErrorBody, EventView, FilterCount, InputAge, LinkView, List,
    ModelView, NodeView, PlanView, PlannedAction, PlannedReplica, ReplicaView, RevokedView, ScorePart,
    Verdict,
};
use codeco_protocol::ids::{AppName, ClusterName, MemberId, Namespace, NodeName, Role};
use codeco_protocol::units::WallTime;
use serde_json::json;
use tokio::sync::Notify;

/// The time at which every table of a test is drawn.
pub(crate) const NOW: WallTime = WallTime(1_800_000_000_000);

#[derive(Default)]
pub(super) struct FakeFleet {
    calls: Mutex<Vec<String>>,
    /// Told when an application called `held` is asked for, whose answer waits for `release`.
    pub(super) entered: Mutex<Option<mpsc::Sender<()>>>,
    pub(super) release: Notify,
}

impl FakeFleet {
    pub(super) fn calls(&self) -> Vec<String> {
        self.calls.lock().unwrap().clone()
    }

    fn note(&self, call: String) {
        self.calls.lock().unwrap().push(call);
    }
}

fn ago(seconds: u64) -> u64 {
    NOW.0 - seconds * 1_000
}

pub(crate) fn app() -> AppView {
    serde_json::from_value(json!({
        "namespace": "default", "name": "media", "uid": "00000000-0000-4000-8000-000000000001",
        "generation": 2, "observedGeneration": 2, "phase": "Running", "profile": "Latency",
        "replicasWanted": 2, "replicasReady": 2, "clusters": ["edge-1"], "createdAt": ago(200), "durableOn": 3,
        "conditions": [{"type": "Ready", "status": "True", "reason": "AllRun", "message": "every replica runs",
                        "lastTransitionTime": ago(190)}],
        "services": [{"name": "origin", "replicasWanted": 1, "replicasReady": 1,
                      "resources": {"cpu": 250, "memory": 134_217_728}, "partitionPolicy": "fence"}],
        "channels": [{"name": "source", "from": "origin", "to": "cache", "assured": true,
                      "bandwidth": 25_000_000, "delayMax": 20_000}],
    }))
    .unwrap()
}

pub(crate) fn replicas() -> Vec<ReplicaView> {
    let one = |service: &str, index: u32, stale: bool| {
        json!({
            "app": "media", "namespace": "default", "service": service, "index": index, "cluster": "edge-1",
            "node": "edge-1-b", "phase": "Running", "ready": true, "token": "1.2.3.4", "since": ago(30),
            "restarts": 0, "pid": 4711, "stale": stale, "ageMs": 350, "message": "",
        })
    };
    serde_json::from_value(json!([one("origin", 0, false), one("cache", 1, true)])).unwrap()
}

pub(crate) fn nodes() -> Vec<NodeView> {
    let one = |name: &str, lead: bool, status: &str| {
        json!({
            "name": name, "cluster": "edge-1", "id": "00000000-0000-4000-8000-000000000002",
            "ready": status == "Ready", "status": status, "lead": lead,
            "capacity": {"cpu": 4000, "memory": 8_589_934_592_u64}, "used": {"cpu": 250, "memory": 134_217_728},
            "free": {"cpu": 3750, "memory": 8_455_716_864_u64}, "replicas": 1, "version": "0.1.0", "ageMs": 120,
            "address": "127.0.0.1:7001", "labels": {"zone": "a"}, "certificateExpires": NOW.0 + 3_600_000,
            "facts": [{"name": "os", "value": "Debian 13", "source": "Discovered", "ageMs": 30_120},
                      {"name": "data-source/camera", "value": "rtsp://c", "source": "Declared", "ageMs": 120}],
        })
    };
    serde_json::from_value(json!([one("edge-1-a", true, "Ready"), one("edge-1-b", false, "CutOff")])).unwrap()
}

pub(crate) fn cluster() -> ClusterView {
    serde_json::from_value(json!({
        "name": "edge-1", "lead": "edge-1-a", "term": 3, "nodesReady": 1, "nodes": 2,
        "capacity": {"cpu": 8000, "memory": 17_179_869_184_u64}, "free": {"cpu": 7500, "memory": 16_911_433_728_u64},
        "replicas": 2, "status": "Degraded", "ageMs": 900,
    }))
    .unwrap()
}

pub(super) fn events() -> Vec<EventView> {
    serde_json::from_value(json!([
        {"at": ago(40), "type": "Normal", "reason": "Placed", "object": {"kind": "App", "name": "media"},
         "member": "hub-1", "message": "origin-0 runs on edge-1-b", "count": 1, "firstAt": ago(40)},
        {"at": ago(5), "type": "Warning", "reason": "ActorRestarted",
         "object": {"kind": "Actor", "name": "metrics"}, "member": "edge-1-a",
         "message": "it panicked: \u{1b}[31mboom\nand more", "count": 3, "firstAt": ago(65)},
    ]))
    .unwrap()
}

pub(crate) fn links() -> Vec<LinkView> {
    serde_json::from_value(json!([
        {"from": "edge-1/edge-1-a", "to": "edge-1/edge-1-b", "status": "Up", "source": "Measured", "rttUs": 1_234,
         "rttMinUs": 900, "jitterUs": 87, "loss": 0.004, "mtu": 1452, "ageMs": 600},
        {"from": "edge-1/edge-1-b", "to": "edge-1/edge-1-a", "status": "Down", "source": "Measured", "ageMs": 9_000},
        {"from": "edge-1/edge-1-a", "to": "edge-2/edge-2-a", "status": "Unmeasured", "source": "Estimated",
         "rttUs": 24_600, "error": 0.12, "ageMs": 700},
    ]))
    .unwrap()
}

pub(super) fn doctor() -> DoctorView {
    serde_json::from_value(json!({
        "now": now(), "hubs": [],
        "checks": [
            {"member": "edge-1/edge-1-a", "check": "disk", "verdict": "Ok", "did": "asked", "found": "9Gi of 10Gi free"},
            {"member": "edge-1/edge-1-b", "check": "certificate", "verdict": "Failed", "did": "compared",
             "found": "has expired", "next": "reach a hub"},
        ],
    }))
    .unwrap()
}

fn now() -> WallTime {
    codeco_protocol::identity::TrustClock::system().now()
}

/// A supervision tree, out of order, with one that is busy and one that has been given up on.
pub(crate) fn tree() -> Vec<ActorView> {
    let one = |name: &str, parent: Option<&str>, state: &str, depth: u64, restarts: u64| {
        json!({"member": "edge-1/edge-1-a", "name": name, "parent": parent, "state": state, "restarts": restarts,
               "mailboxDepth": depth, "handled": 100, "handledPerSecond": 4.0, "waitP50Us": 8, "waitP99Us": 1024})
    };
    let mut given_up = one("agent/mdm", Some("agent"), "GivenUp", 0, 5);
    given_up["lastError"] = json!("panicked: a fault was injected");
    serde_json::from_value(json!([
        one("agent/swm/node/ledger", Some("agent/swm/node"), "Running", 3, 1),
        given_up,
        one("agent", None, "Running", 0, 0),
        one("agent/swm", Some("agent"), "Running", 0, 0),
        one("agent/swm/node", Some("agent/swm"), "Running", 0, 0),
    ]))
    .unwrap()
}

pub(super) fn actors() -> Vec<ActorView> {
    serde_json::from_value(json!([
        {"member": "edge-1-a", "name": "ledger", "parent": "root", "state": "Running", "restarts": 0,
         "mailboxDepth": 0, "handled": 812, "handledPerSecond": 12.5, "waitP50Us": 16, "waitP99Us": 250},
        {"member": "edge-1-a", "name": "metrics", "parent": "root", "state": "GivenUp", "restarts": 5,
         "mailboxDepth": 7, "handled": 3, "lastError": "boom"},
    ]))
    .unwrap()
}

pub(super) fn models() -> Vec<ModelView> {
    let losses = json!([{"name": "model", "loss": 0.0123}, {"name": "last", "loss": 0.02},
                        {"name": "ewma", "loss": 0.0164}]);
    serde_json::from_value(json!([
        {"place": "edge-1", "cluster": "edge-1", "model": "load-forecast", "version": 3, "trial": 4, "state": "Active",
         "since": ago(60), "reason": "model 3 wins: loss 0.0123 against 0.0164 of the best baseline, ewma",
         "rounds": 48, "coverage": 0.951, "losses": losses, "ageMs": 120},
        {"place": "hub-1", "model": "load-forecast", "version": 4, "state": "Learner", "since": ago(30),
         "reason": "waits for more examples", "windows": 800, "nodes": 3, "stepMs": 300_000, "losses": losses,
         "ageMs": 0},
    ]))
    .unwrap()
}

fn candidate(name: &str, load: (f64, f64), delay: (f64, f64), bid: Option<BidAnswer>) -> Candidate {
    let parts = vec![
        ScorePart::new("load", (load.0, "share"), load.1, 0.4),
        ScorePart::new("channel delay", (delay.0, "limits"), delay.1, 0.6),
    ];
    let total = Some(parts.iter().map(|part| part.contribution).sum());
    let bid = bid.map(|answer| Bid { answer, age_ms: Some(80), total });
    Candidate { name: name.to_owned(), total, parts, filtered_by: None, bid }
}

fn decision(level: &str, chosen: &str, second: &str, candidates: Vec<Candidate>) -> DecisionView {
    let mut decision: DecisionView = serde_json::from_value(json!({
        "id": "00000000-0000-4000-8000-00000000000d", "at": ago(31), "level": level, "app": "media",
        "namespace": "default", "service": "origin", "index": 0, "action": "Reserve", "chosen": chosen,
        "runnerUp": second, "policy": "heuristic/1", "profile": "Latency", "reason": "first placement",
        "token": "1.2.3.4",
    }))
    .unwrap();
    decision.candidates = candidates;
    decision.inputs = vec![InputAge { name: "node edge-1-b".to_owned(), age_ms: 120 }];
    decision
}

pub(crate) fn node_decision() -> DecisionView {
    let mut out = candidate("edge-1-c", (0.0, 0.0), (0.0, 0.0), None);
    (out.total, out.parts, out.filtered_by) =
        (None, Vec::new(), Some("cpu: wants 250m, 100m free".to_owned()));
    let candidates = vec![
        candidate("edge-1-a", (0.5, 1.5), (0.9, 1.1), None),
        candidate("edge-1-b", (0.2, 0.6), (0.8, 0.9), None),
        out,
    ];
    let mut decision = decision("Node", "edge-1-b", "edge-1-a", candidates);
    decision.filters = vec![FilterCount {
        reason: "cpu: wants 250m, 100m free".to_owned(),
        count: 1,
        candidates: vec!["edge-1-c".to_owned()],
    }];
    decision
}

pub(crate) fn cluster_decision() -> DecisionView {
    let candidates = vec![
        candidate("edge-1", (0.3, 0.9), (0.5, 0.8), Some(BidAnswer::Yes)),
        candidate("edge-2", (0.4, 1.1), (0.9, 1.2), Some(BidAnswer::Silent)),
    ];
    let mut decision = decision("Cluster", "edge-1", "edge-2", candidates);
    "Offer".clone_into(&mut decision.action);
    decision
}

fn planned() -> Vec<PlannedReplica> {
    let (cluster, node): (ClusterName, NodeName) = ("edge-1".parse().unwrap(), "edge-1-a".parse().unwrap());
    let web = PlannedReplica {
        service: "web".parse().unwrap(),
        index: 0,
        action: PlannedAction::Create,
        cluster: Some(cluster),
        node: Some(node),
        from_cluster: None,
        from_node: None,
        reason: "replica without mandate: edge-1 is the only candidate left".to_owned(),
        intents: Vec::new(),
        candidates: cluster_decision().candidates,
    };
    let reason =
        "2 candidates: 2 lack label disk=ssd; it would fit with one node with label disk=ssd".to_owned();
    let waits = PlannedReplica {
        index: 1,
        action: PlannedAction::Wait,
        cluster: None,
        node: None,
        reason,
        intents: Vec::new(),
        candidates: Vec::new(),
        ..web.clone()
    };
    vec![web, waits]
}

#[async_trait]
impl Fleet for FakeFleet {
    async fn apps(&self, filter: Filter) -> Result<List<AppView>, ApiError> {
        let named = filter.app.as_ref().map_or("", |app| app.as_str());
        match named {
            "never" => std::future::pending().await,
            "held" => {
                if let Some(entered) = self.entered.lock().unwrap().take() {
                    entered.send(()).unwrap();
                }
                self.release.notified().await;
            }
            _ => {}
        }
        let mut list = List::new("App", vec![app()]);
        list.items.retain(|app| named.is_empty() || named == "held" || app.name.as_str() == named);
        list.warnings = vec!["edge-2-a did not answer in time".to_owned()];
        Ok(list)
    }

    async fn certs(&self, _: Filter) -> Result<List<CertView>, ApiError> {
        let cert = CertView {
            member: "edge-1/edge-1-a".to_owned(),
            id: MemberId(7),
            serial: Some(format!("{:032x}", 0x51)),
            issuer: "edge-1/edge-1-b".to_owned(),
            authority: None,
            not_after: WallTime(2_000_000_000_000),
            state: CertState::Valid,
            renewals: 3,
            renewed: None,
            issues_until: None,
            clock_unknown: true,
            trust: 2,
        };
        Ok(List::new("Cert", vec![cert]))
    }

    async fn revoke(&self, target: String) -> Result<RevokedView, ApiError> {
        self.note(format!("revoke {target}"));
        Ok(RevokedView { what: format!("member {target}"), before: false, trust: 3 })
    }

    async fn rotate_ca(&self) -> Result<CaView, ApiError> {
        self.note("rotate".to_owned());
        self.ca().await
    }

    async fn ca(&self) -> Result<CaView, ApiError> {
        Ok(CaView {
            authority: "sha256:00".to_owned(),
            trusted: vec!["sha256:00".to_owned(), "sha256:01".to_owned()],
            certificates: String::new(),
            handover: "madeKnown".to_owned(),
            awaited: vec!["edge-1/edge-1-a".to_owned()],
            trust: 2,
            revocations: 1,
        })
    }

    async fn apply(&self, apps: Vec<CodecoApp>) -> Result<Vec<Applied>, ApiError> {
        let applied = |app: CodecoApp| {
            self.note(format!("apply {}/{}", app.metadata.namespace, app.metadata.name));
            Applied {
                namespace: app.metadata.namespace.parse().unwrap(),
                name: app.metadata.name.parse().unwrap(),
                action: "created".to_owned(),
                generation: 1,
                durable_on: 3,
                warnings: Vec::new(),
            }
        };
        Ok(apps.into_iter().map(applied).collect())
    }

    async fn plan(&self, apps: Vec<CodecoApp>) -> Result<Vec<PlanView>, ApiError> {
        let planned = |app: CodecoApp| PlanView {
            namespace: app.metadata.namespace.parse().unwrap(),
            app: app.metadata.name.parse().unwrap(),
            generation: 2,
            changes: true,
            replicas: planned(),
            warnings: vec!["cluster edge-3 did not bid in time".to_owned()],
        };
        Ok(apps.into_iter().map(planned).collect())
    }

    async fn node_upkeep(
        &self,
        cluster: ClusterName,
        node: NodeName,
        upkeep: Upkeep,
    ) -> Result<(), ApiError> {
        self.note(format!("upkeep {cluster}/{node} {upkeep:?}"));
        Ok(())
    }

    async fn cluster_drain(&self, cluster: ClusterName, drained: bool) -> Result<(), ApiError> {
        self.note(format!("drain {cluster} {drained}"));
        Ok(())
    }

    async fn cluster_lost(&self, cluster: ClusterName) -> Result<u64, ApiError> {
        self.note(format!("lost {cluster}"));
        Ok(3)
    }

    async fn release_brake(&self, cluster: ClusterName) -> Result<BrakeView, ApiError> {
        self.note(format!("brake {cluster}"));
        Ok(BrakeView { cluster, replicas: Some(4), home: true })
    }

    async fn replace_electorate(&self, cluster: ClusterName, with: NodeName) -> Result<(), ApiError> {
        self.note(format!("electorate {cluster} {with}"));
        Ok(())
    }

    async fn delete(&self, namespace: Namespace, name: AppName) -> Result<(), ApiError> {
        self.note(format!("delete {namespace}/{name}"));
        if name.as_str() != "gone" {
            return Ok(());
        }
        let body = ErrorBody {
            code: "not-found".to_owned(),
            message: "app/gone was not found in namespace default".to_owned(),
            object: Some("app/gone".to_owned()),
            next: Some("codeco get apps".to_owned()),
            details: Vec::new(),
        };
        Err(ApiError { status: 404, body })
    }

    async fn replicas(&self, _: Filter) -> Result<List<ReplicaView>, ApiError> {
        Ok(List::new("Replica", replicas()))
    }

    async fn nodes(&self, filter: Filter) -> Result<List<NodeView>, ApiError> {
        if let Some(selector) = filter.selector {
            self.note(format!("nodes {selector}"));
        }
        let mut nodes = nodes();
        nodes.retain(|node| filter.cluster.as_ref().is_none_or(|cluster| node.cluster == *cluster));
        Ok(List::new("Node", nodes))
    }

    async fn clusters(&self, _: Filter) -> Result<List<ClusterView>, ApiError> {
        Ok(List::new("Cluster", vec![cluster()]))
    }

    async fn events(&self, _: Filter) -> Result<List<EventView>, ApiError> {
        Ok(List::new("Event", events()))
    }

    async fn decisions(&self, filter: Filter) -> Result<List<DecisionView>, ApiError> {
        if filter.replica.is_some() {
            self.note(format!("decisions {filter:?}"));
        }
        let mut old = node_decision();
        (old.at, old.reason) = (WallTime(ago(500)), "an older one".to_owned());
        let mut list = List::new("Decision", vec![node_decision(), cluster_decision(), old]);
        // As a hub answers: nodes by cluster and name.
        for decision in list.items.iter_mut().filter(|d| d.level == DecisionLevel::Node) {
            let candidates = decision.candidates.iter_mut().map(|candidate| &mut candidate.name);
            for name in candidates.chain(&mut decision.chosen).chain(&mut decision.runner_up) {
                *name = format!("edge-1/{name}");
            }
        }
        list.items.retain(|decision| filter.app.as_ref().is_none_or(|app| *app == decision.app));
        Ok(list)
    }

    async fn actors(&self, _: Filter) -> Result<List<ActorView>, ApiError> {
        Ok(List::new("Actor", actors()))
    }

    async fn models(&self, _: Filter) -> Result<List<ModelView>, ApiError> {
        Ok(List::new("Model", models()))
    }

    async fn logs(&self, query: LogQuery) -> Result<Vec<u8>, ApiError> {
        self.note(format!("logs {query:?}"));
        Ok(b"one\ntwo\xff\n".to_vec())
    }

    async fn create_token(&self, scope: Role, ttl_seconds: u64, founds: bool) -> Result<NewToken, ApiError> {
        self.note(format!("token {scope:?} {ttl_seconds}{}", if founds { " founds" } else { "" }));
        let hubs = vec!["127.0.0.1:7000".to_owned()];
        Ok(NewToken { token: "codeco1.abc".to_owned(), expires_at: NOW.0, hubs })
    }

    async fn panic_actor(&self, member: String, actor: String, times: u32) -> Result<(), ApiError> {
        self.note(format!("panic {member} {actor} {times}"));
        Ok(())
    }

    async fn links(&self, _: Filter) -> Result<List<LinkView>, ApiError> {
        Ok(List::new("Link", links()))
    }

    async fn doctor(&self, filter: Filter) -> Result<DoctorView, ApiError> {
        self.note(format!("doctor {:?}", filter.node));
        let mut view = doctor();
        if filter.node.is_some() {
            view.checks.retain(|check| check.verdict == Verdict::Ok);
        }
        Ok(view)
    }

    async fn fault(&self, member: String, fault: FaultWish) -> Result<(), ApiError> {
        self.note(format!("fault {member} {fault:?}"));
        Ok(())
    }

    async fn leave_node(&self, cluster: ClusterName, node: NodeName) -> Result<(), ApiError> {
        self.note(format!("leave {cluster}/{node}"));
        Ok(())
    }

    async fn forget_node(
        &self,
        cluster: ClusterName,
        node: NodeName,
        forced: bool,
    ) -> Result<Vec<String>, ApiError> {
        self.note(format!("forget {cluster}/{node} {forced}"));
        Ok(vec!["node edge-1/c is not connected".to_owned()])
    }
}
