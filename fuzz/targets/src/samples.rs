//! Sample values: small, but with something in every field.

mod control;
mod identity;
mod records;

use codeco_actors::acm::apps::{AppPage, AppPages};
use codeco_actors::fabric::InspectRequest;
use codeco_actors::swm::home::HomeRecord;
use codeco_protocol::coordinate::Coordinate;
use codeco_protocol::demands::{Demands, Level, NodeTraits, PlaceRules, SpreadLimits};
use codeco_protocol::gossip::{
    Delta, Fact, GateFact, GateState, GossipMessage, HORIZON, Hint, Life, LoadFact, LoadSeries, Mark,
    ModelFact, NOWHERE, OwnState, ReplicaFact, ReplicaState, Rumor, Signer, WINDOW, Weights,
};
use codeco_protocol::ids::{
    AppName, AppUid, ClusterName, Identity, Incarnation, MemberId, Namespace, NodeName, ReplicaId, Role,
    ServiceName,
};
use codeco_protocol::messages::{AppContext, HeldPhase, NodeFacts, Profile, RunPhase};
use codeco_protocol::resources::Resources;
use codeco_protocol::token::{Attempt, Epoch, MandateId, Term, Token};
use codeco_protocol::units::{BitsPerSecond, Bytes, Micros, MilliCpu, MilliWatts, WallTime};
use codeco_protocol::wire;
use codeco_protocol::workload::{
    ChannelSpec, ContainerSpec, PartitionPolicy, RestartPolicy, Workload, WorkloadSpec,
};

pub(crate) use control::{batch, control, election, keep};
pub(crate) use identity::{
    DOMAIN, chain, join_replies, join_request, join_token, key, renew_replies, renew_request, signed_trust,
    trust,
};
pub(crate) use records::{
    app_records, app_spec, elector_records, home_records, lead_records, ledger_records, nested_copies,
};

/// The member that everything is told to.
pub(crate) const OWN: MemberId = MemberId(1);
/// Its lead, or its home, or another node.
pub(crate) const OTHER: MemberId = MemberId(2);
/// The life of its journal.
pub(crate) const LIFE: Incarnation = Incarnation(7);
/// The application in all samples.
pub(crate) const APP: AppUid = AppUid(5);

macro_rules! named {
    ($($function:ident: $type:ident;)*) => {
        $(pub(crate) fn $function(name: &str) -> $type {
            $type::new(name).unwrap_or_else(|error| unreachable!("{error}"))
        })*
    };
}

named! {
    cluster: ClusterName;
    node_name: NodeName;
    service: ServiceName;
    app_name: AppName;
    namespace: Namespace;
}

pub(crate) fn node(id: u128) -> Identity {
    Identity { role: Role::Node(cluster("c")), id: MemberId(id) }
}

pub(crate) fn hub(id: u128) -> Identity {
    Identity { role: Role::Hub, id: MemberId(id) }
}

pub(crate) fn replica(index: u32) -> ReplicaId {
    ReplicaId { app: APP, service: service("front"), index }
}

pub(crate) fn term(number: u64, owner: MemberId) -> Term {
    Term { number, owner }
}

pub(crate) fn epoch(number: u64, owner: MemberId) -> Epoch {
    Epoch { number, owner }
}

pub(crate) fn token(mandate: u64, term: Term, attempt: u64) -> Token {
    Token { epoch: epoch(1, OTHER), mandate: MandateId(mandate), term, attempt: Attempt(attempt) }
}

pub(crate) fn resources(cpu: u64) -> Resources {
    let mut resources = Resources::new(MilliCpu(cpu), Bytes(cpu << 20));
    resources.extended.insert("example.com/gpu".to_owned(), 1);
    resources
}

pub(crate) fn workload_spec() -> WorkloadSpec {
    WorkloadSpec {
        namespace: namespace("default"),
        app: app_name("shop"),
        generation: 1,
        containers: vec![ContainerSpec {
            name: "c".to_owned(),
            image: "i:1".to_owned(),
            command: vec!["run".to_owned()],
            args: vec!["-x".to_owned()],
            env: vec![("A".to_owned(), "1".to_owned())],
            working_dir: Some("/".to_owned()),
            requests: resources(100),
        }],
        restart: RestartPolicy::Always,
        stop_grace: Micros::from_secs(1),
        resources: resources(100),
        partition: PartitionPolicy::Fence,
        pod_spec_json: "{}".to_owned(),
        lost_after: Some(Micros::from_secs(30)),
    }
}

pub(crate) fn workload() -> Workload {
    Workload { replica: replica(0), token: token(1, term(1, OTHER), 1), spec: workload_spec() }
}

pub(crate) fn channel() -> ChannelSpec {
    ChannelSpec {
        name: "frames".to_owned(),
        from: service("front"),
        to_app: None,
        to: service("back"),
        port: Some(80),
        assured: true,
        bandwidth: Some(BitsPerSecond(5_000_000)),
        delay_max: Some(Micros::from_millis(10)),
    }
}

pub(crate) fn context() -> AppContext {
    AppContext {
        uid: APP,
        namespace: namespace("default"),
        name: app_name("shop"),
        profile: Profile::Balanced,
        channels: vec![channel()],
        demands: Demands {
            security: Level::Low,
            energy_limit_percent: Some(50),
            copies: vec![(service("front"), 2)],
            adopt_after: Some(Micros::from_secs(60)),
            ..Demands::default()
        },
    }
}

pub(crate) fn rules() -> PlaceRules {
    PlaceRules {
        spread: SpreadLimits { per_node: Some(1), per_cluster: None, per_zone: Some(2) },
        regions: vec!["eu".to_owned()],
        zones_elsewhere: vec![("a".to_owned(), 1)],
        power_max: Some(MilliWatts(5_000)),
        cluster_region: Some("eu".to_owned()),
        uplink: BitsPerSecond(1_000),
        followers: vec![service("back")],
    }
}

pub(crate) fn node_facts(name: &str, life: Incarnation) -> NodeFacts {
    NodeFacts {
        name: node_name(name),
        incarnation: life,
        capacity: resources(4_000),
        free: resources(3_000),
        labels: vec![("zone".to_owned(), "a".to_owned())],
        power: Some((MilliWatts(1), MilliWatts(9))),
        cordoned: false,
        round_trips: vec![(OTHER, Micros(300))],
        draining: false,
        coordinate: Some(coordinate()),
        traits: NodeTraits {
            security: Some(Level::High),
            link: Some(BitsPerSecond(1_000_000_000)),
            ..NodeTraits::default()
        },
    }
}

pub(crate) fn coordinate() -> Coordinate {
    Coordinate { position: [-1, 2, 70_000], height: 100, error_permille: 50 }
}

pub(crate) fn replica_fact() -> Fact {
    Fact::Replica(Box::new(ReplicaFact {
        replica: replica(0),
        namespace: namespace("default"),
        app: app_name("shop"),
        generation: 1,
        token: token(1, term(1, OTHER), 1),
        state: ReplicaState {
            held: HeldPhase::Committed,
            run: RunPhase::Ready,
            message: Some("x".to_owned()),
            pid: Some(1),
            restarts: 2,
        },
        since: WallTime(1_800_000_000_000),
    }))
}

/// A signed map of [`node`] 1.
pub(crate) fn signed_state() -> OwnState {
    let sign = std::sync::Arc::new(|text: &[u8]| key().sign(text).ok());
    let mut state = OwnState::signed(9, Signer { domain: DOMAIN.to_owned(), owner: node(1), sign });
    state.set("replica/0", replica_fact());
    state.set("dialable", Fact::Dialable(false));
    state.remove("dialable");
    state
}

pub(crate) fn gossip() -> Vec<GossipMessage> {
    let delta = || Delta {
        incarnation: 9,
        from: 0,
        to: 3,
        facts: vec![("replica/0".to_owned(), 1, Some(replica_fact())), ("x".to_owned(), 3, None)],
    };
    let life = Life { started: 5, refutations: 1 };
    let mark = Mark { incarnation: 9, version: 3 };
    let mut messages = vec![
        GossipMessage::State(delta()),
        GossipMessage::Hints(vec![
            Hint { identity: node(3), address: NOWHERE },
            Hint { identity: hub(4), address: ([192, 0, 2, 1], 7_400).into() },
        ]),
        GossipMessage::Rumors(rumors(life)),
        GossipMessage::Have(vec![(OTHER, mark)]),
        GossipMessage::Relay { owner: node(2), delta: delta() },
        GossipMessage::Point(coordinate()),
        GossipMessage::Offer(vec![(OTHER, mark), (OWN, Mark::default())]),
    ];
    let mut state = signed_state();
    let chain: Vec<Vec<u8>> = chain();
    messages.extend([0, 1].iter().filter_map(|from| state.sealed(*from, &chain)).map(GossipMessage::Sealed));
    messages
}

pub(crate) fn rumors(life: Life) -> Vec<Rumor> {
    vec![
        Rumor::Alive { member: node(3), life },
        Rumor::Vote { observer: OTHER, target: MemberId(3), life, stands: true, number: 1 },
        Rumor::Vote { observer: OTHER, target: OWN, life, stands: true, number: 2 },
        Rumor::Accused { member: MemberId(3), life },
        Rumor::Left { member: MemberId(3), life },
        Rumor::Dead(vec![(MemberId(3), life), (OWN, life)]),
        Rumor::Living(vec![(node(4), life), (node(1), life)]),
    ]
}

pub(crate) fn weights() -> Weights {
    Weights { inputs: 2, hidden: 1, horizon: 2, values: vec![0.5, -1.0, 2.0, f32::MAX] }
}

pub(crate) fn model() -> ModelFact {
    ModelFact {
        version: 1,
        artefact: wire::encode(&weights()).unwrap_or_default(),
        checksum: 7,
        at: WallTime(1),
        windows: 9,
        nodes: 3,
        step_ms: 300_000,
        losses: vec![("model".to_owned(), 12)],
        doing: "waits".to_owned(),
    }
}

pub(crate) fn learning_gossip() -> GossipMessage {
    let series = LoadSeries { window: vec![1; WINDOW], season: vec![2; HORIZON], mean: 3, median: 4 };
    let load = LoadFact { step_ms: 300_000, newest: 8, cpu: series.clone(), memory: series };
    let gate = GateFact {
        cluster: cluster("c"),
        state: GateState::Shadow,
        version: 1,
        trial: Some(2),
        since: WallTime(1),
        reason: "young".to_owned(),
        rounds: 2,
        losses: vec![],
        coverage: 950,
    };
    let facts = [Fact::Load(Box::new(load)), Fact::Model(Box::new(model())), Fact::Gate(Box::new(gate))];
    let facts =
        (1..).zip(facts).map(|(version, fact)| (format!("k{version}"), version, Some(fact))).collect();
    GossipMessage::State(Delta { incarnation: 1, from: 0, to: 3, facts })
}

pub(crate) fn questions() -> Vec<InspectRequest> {
    vec![
        InspectRequest::Events,
        InspectRequest::Decisions(Some((namespace("default"), app_name("shop")))),
        InspectRequest::Logs { replica: replica(1), container: Some("c".to_owned()), tail_bytes: 4_096 },
        InspectRequest::Panic { actor: "lead".to_owned(), times: 3 },
        InspectRequest::Renew { signing_request: vec![1, 2, 3] },
        InspectRequest::Unenrol { node: OTHER, forced: true },
        InspectRequest::ReplaceElectorate { version: 300, term: term(4, OTHER) },
        InspectRequest::Apps(Some(APP)),
    ]
}

pub(crate) fn app_pages(records: Vec<HomeRecord>) -> AppPages {
    let heard = (service("front"), 0, 1, node_name("n1"), token(1, term(1, OTHER), 1), RunPhase::Ready);
    let page = AppPage { uid: APP, records, heard: vec![heard], keepers: vec![OTHER, MemberId(3)] };
    AppPages { apps: vec![page], more: true }
}

/// Manifests in the wild, and broken ones.
pub(crate) fn manifests() -> Vec<Vec<u8>> {
    let files = [
        include_str!("../../../deploy/examples/agv-control.yaml"),
        include_str!("../../../deploy/examples/media-streaming-process.yaml"),
        include_str!("../../../protocol/tests/broken/16-alias-bomb.yaml"),
        include_str!("../../../protocol/tests/broken/22-selectors.yaml"),
        include_str!("../../../protocol/tests/broken/10-quantity.yaml"),
        include_str!("../../../protocol/tests/broken/13-placement.yaml"),
    ];
    files.map(|text| text.as_bytes().to_vec()).to_vec()
}
