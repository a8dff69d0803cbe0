//! The six examples, one per use case, on a fleet of three clusters of three nodes, of which one plays a cloud: they all
//! run, and a program judges the KPI each of them names.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use codeco_protocol::api::{
    AppView, DecisionLevel, DecisionView, NodeView, PlanView, PlannedAction, ReplicaView,
};
use codeco_tests::{Fleet, Shape, Trouble};

const CODECO: &str = env!("CARGO_BIN_EXE_codeco-under-test");
const SHAPE: Shape = Shape { clusters: 3, nodes: 3, lease_ms: 3_000 };
const EXAMPLES: [(&str, &str, u32); 6] = [
    ("agv-control", "agv-control.yaml", 2),
    ("decentralised-grids", "decentralised-grids.yaml", 14),
    ("infrastructure-monitoring", "infrastructure-monitoring.yaml", 4),
    ("media-streaming", "media-streaming-process.yaml", 5),
    ("smart-buildings", "smart-buildings.yaml", 3),
    ("vehicular-digital-twin", "vehicular-digital-twin.yaml", 2),
];

fn example(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/examples").join(file);
    fs::canonicalize(path).unwrap().display().to_string()
}

/// What the fleet says of itself at one time.
struct Seen {
    replicas: Vec<ReplicaView>,
    nodes: BTreeMap<(String, String), NodeView>,
    decisions: Vec<DecisionView>,
}

impl Seen {
    fn of(fleet: &Fleet) -> Result<Self, Trouble> {
        let nodes = fleet.nodes()?.into_iter();
        Ok(Self {
            replicas: fleet.replicas()?,
            nodes: nodes.map(|node| ((node.cluster.to_string(), node.name.to_string()), node)).collect(),
            decisions: fleet.get("decisions")?,
        })
    }

    /// The same once no copy is being replaced any more.
    fn at_rest(fleet: &Fleet) -> Self {
        let look = |fleet: &Fleet| {
            let seen = Self::of(fleet).map_err(|e| e.to_string())?;
            let busy: Vec<&ReplicaView> = seen.replicas.iter().filter(|r| !r.ready).collect();
            if busy.is_empty() { Ok(seen) } else { Err(format!("not ready: {busy:#?}")) }
        };
        fleet.until("every copy is ready", look).unwrap()
    }

    fn copies<'a>(&'a self, app: &'a str, service: &'a str) -> impl Iterator<Item = &'a ReplicaView> {
        self.replicas.iter().filter(move |r| r.app.as_str() == app && r.service.as_str() == service)
    }

    /// Places of all copies of a service; an error if one of them is not ready, as while it is being replaced.
    fn ready_places(&self, app: &str, service: &str) -> Result<Vec<(String, String)>, String> {
        let place = |r: &ReplicaView| match (&r.cluster, &r.node) {
            (Some(cluster), Some(node)) if r.ready => Ok((cluster.to_string(), node.to_string())),
            _ => Err(format!("not ready: {r:?}")),
        };
        self.copies(app, service).map(place).collect()
    }

    /// The same where the fleet has settled.
    fn places(&self, app: &str, service: &str) -> Vec<(String, String)> {
        self.ready_places(app, service).unwrap()
    }

    fn label(&self, place: &(String, String), key: &str) -> Option<&str> {
        self.nodes[place].labels.get(key).map(String::as_str)
    }

    /// The sum over channels of delay, each in parts of its limit, as the decision that made the present copy knew it.
    fn delay_in_limits(&self, app: &str, service: &str) -> Result<f64, String> {
        self.delay_of(app, self.copies(app, service).next().ok_or("no copy")?)
    }

    fn delay_of(&self, app: &str, copy: &ReplicaView) -> Result<f64, String> {
        let made = |d: &&DecisionView| {
            d.level == DecisionLevel::Node
                && d.app.as_str() == app
                && d.token.is_some()
                && d.token == copy.token
        };
        let decision = self.decisions.iter().find(made).ok_or("no decision for the copy")?;
        decision.check_sums().map_err(|e| e.to_string())?;
        let winner = decision.candidates.iter().find(|c| Some(&c.name) == decision.chosen.as_ref());
        let part = winner.and_then(|c| c.parts.iter().find(|p| p.name == "channel delay"));
        part.map(|part| part.raw).ok_or_else(|| "no delay in the decision".into())
    }
}

#[test]
fn examples_all_six_run_at_once_on_three_clusters_and_meet_their_kpis() {
    let mut fleet = Fleet::start(CODECO, SHAPE).unwrap();
    for (app, file, replicas) in EXAMPLES {
        let plans: Vec<PlanView> =
            serde_json::from_str(&fleet.codeco(&["plan", "-f", &example(file), "-o", "json"]).unwrap())
                .unwrap();
        let found = plans[0].replicas.iter().filter(|r| r.action == PlannedAction::Create).count();
        assert_eq!(u32::try_from(found).unwrap(), replicas, "{app}: {:#?}", plans[0].replicas);
        fleet.codeco(&["apply", "-f", &example(file)]).unwrap();
    }
    let wanted = EXAMPLES.map(|(app, _, replicas)| (app.to_owned(), replicas));
    fleet.settle(&wanted).unwrap();
    let seen = Seen::at_rest(&fleet);
    cameras_are_watched_in_their_region(&seen);
    grid_draws_little_and_stays_in_its_region(&seen);
    media_stay_within_their_delay(&seen);
    controller_is_one_and_near(&seen).unwrap();
    twin_is_near(&seen).unwrap();
    intents_are_told(&fleet);
    twin_follows(&fleet);
    buildings_run_on_without_a_hub(&mut fleet, &seen);
}

fn cameras_are_watched_in_their_region(seen: &Seen) {
    let places = seen.places("infrastructure-monitoring", "inference");
    assert_eq!(places.iter().collect::<BTreeSet<_>>().len(), 3, "each on its own node: {places:?}");
    for place in &places {
        assert_eq!(seen.label(place, "camera"), Some("true"), "{place:?}");
        assert_ne!(place.0, "edge-3", "the cloud is in another region");
    }
    assert_eq!(seen.places("infrastructure-monitoring", "archive")[0].0, "edge-3");
}

/// Nodes of `codeco dev` have four cores; at the edge 120, 160 and 200 W at full load, in the cloud 400 W.
fn grid_draws_little_and_stays_in_its_region(seen: &Seen) {
    let watts = |(cluster, node): &(String, String)| match (cluster.as_str(), node.as_str()) {
        ("edge-3", _) => 400.0,
        (_, "node-1") => 120.0,
        (_, "node-2") => 160.0,
        _ => 200.0,
    };
    let fleet: f64 = seen.nodes.keys().map(watts).sum();
    let draw = |service: &str, cores: f64| -> f64 {
        seen.places("decentralised-grids", service).iter().map(|place| watts(place) * cores / 4.0).sum()
    };
    let drawn = draw("meter", 0.01) + draw("balancer", 0.05);
    assert!(drawn > 0.0 && drawn <= 0.05 * fleet, "{drawn} W of {fleet} W");
    let meters = seen.places("decentralised-grids", "meter");
    let balancers = seen.places("decentralised-grids", "balancer");
    assert_eq!(meters.len(), 12);
    assert!(meters.iter().chain(&balancers).all(|(cluster, _)| cluster != "edge-3"), "{meters:?}");
    assert_ne!(balancers[0].0, balancers[1].0, "one in each of two clusters");
}

fn media_stay_within_their_delay(seen: &Seen) {
    assert_eq!(seen.places("media-streaming", "edge-cache").len(), 2);
    // Each copy has an ASSURED channel to each copy of the other end that was there before it: five partners at most,
    // each within its limit.
    for service in ["origin", "transcoder", "edge-cache"] {
        for copy in seen.copies("media-streaming", service) {
            let delay = seen.delay_of("media-streaming", copy).unwrap();
            assert!(delay <= 5.0, "{service}: {delay} limits");
        }
    }
    let cluster = &seen.places("media-streaming", "origin")[0].0;
    let transcoders = seen.places("media-streaming", "transcoder");
    assert!(
        transcoders.iter().all(|(there, _)| there == cluster),
        "reserved inside one cluster: {transcoders:?}"
    );
}

fn controller_is_one_and_near(seen: &Seen) -> Result<(), String> {
    let (vehicles, controller) =
        (seen.places("agv-control", "vehicles"), seen.places("agv-control", "controller"));
    assert_eq!((vehicles.len(), controller.len()), (1, 1));
    assert_eq!(vehicles[0], ("edge-2".to_owned(), "node-2".to_owned()));
    assert_eq!(controller[0].0, "edge-2", "an ASSURED channel keeps it there");
    // Two channels, each of at most its limit.
    let delay = seen.delay_in_limits("agv-control", "controller")?;
    if delay <= 2.0 { Ok(()) } else { Err(format!("{delay} limits")) }
}

fn twin_is_near(seen: &Seen) -> Result<(), String> {
    let gateway = seen.ready_places("vehicular-digital-twin", "gateway")?;
    let twin = seen.ready_places("vehicular-digital-twin", "twin")?;
    if gateway.len() != 1 || twin.len() != 1 || gateway[0].0 != twin[0].0 {
        return Err(format!("gateway {gateway:?}, twin {twin:?}"));
    }
    let delay = seen.delay_in_limits("vehicular-digital-twin", "twin")?;
    if delay <= 1.0 { Ok(()) } else { Err(format!("{delay} limits")) }
}

fn intents_are_told(fleet: &Fleet) {
    let text = fleet.codeco(&["explain", "app/decentralised-grids"]).unwrap();
    for told in
        ["complianceClass High: only nodes that declare", "appEnergyLimit 5 %", "residency: only in eu-edge"]
    {
        assert!(text.contains(told), "{told}: {text}");
    }
    let text = fleet.codeco(&["describe", "app/smart-buildings"]).unwrap();
    for told in ["appFailureTolerance: High", "qosClass: BestEffort", "spread.maxPerCluster: 1", "tier=edge"]
    {
        assert!(text.contains(told), "{told}: {text}");
    }
}

fn twin_follows(fleet: &Fleet) {
    let text = fs::read_to_string(example("vehicular-digital-twin.yaml")).unwrap();
    for (site, stretch) in [("edge-1", "stretch-3"), ("edge-2", "stretch-2")] {
        let moved = text.replace("site: edge-1", &format!("site: {site}"));
        let moved = moved.replace("position: stretch-1", &format!("position: {stretch}"));
        let file = fleet.write_manifest("moved", &moved).unwrap();
        fleet.codeco(&["apply", "-f", &file]).unwrap();
        let wanted = (site.to_owned(), stretch.replace("stretch", "node"));
        fleet
            .until("the twin has followed", |fleet| {
                let apps: Vec<AppView> = fleet.apps().map_err(|e| e.to_string())?;
                let app =
                    apps.iter().find(|a| a.name.as_str() == "vehicular-digital-twin").ok_or("no app")?;
                if app.generation != app.observed_generation || app.replicas_ready != 2 {
                    return Err(format!("{:#?}", app.conditions));
                }
                let seen = Seen::of(fleet).map_err(|e| e.to_string())?;
                let gateway = seen.ready_places("vehicular-digital-twin", "gateway")?;
                if gateway != [wanted.clone()] {
                    return Err(format!("gateway on {gateway:?}"));
                }
                twin_is_near(&seen)
            })
            .unwrap();
    }
}

/// The highest step that a copy has written into a log of its node.
fn step(folder: &Path, index: usize) -> u64 {
    let mut best = 0;
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if let Ok(text) = fs::read_to_string(&path) {
                let mark = format!("automation {index}: step ");
                let steps = text.lines().filter_map(|line| line.split_once(&mark)?.1.trim().parse().ok());
                best = best.max(steps.max().unwrap_or(0));
            }
        }
    }
    best
}

fn buildings_run_on_without_a_hub(fleet: &mut Fleet, seen: &Seen) {
    let buildings = seen.places("smart-buildings", "automation");
    let clusters: BTreeSet<_> = buildings.iter().map(|(cluster, _)| cluster.clone()).collect();
    assert_eq!(clusters, BTreeSet::from(["edge-1".to_owned(), "edge-2".to_owned()]));
    let pids: Vec<u32> = seen.copies("smart-buildings", "automation").filter_map(|r| r.pid).collect();
    fleet.local.kill(None);
    let agents = fleet.state().join("agents");
    let before = [step(&agents, 0), step(&agents, 1)];
    fleet
        .until("the buildings go on", |_| {
            let now = [step(&agents, 0), step(&agents, 1)];
            // Longer than a lease: what needs one would have ended.
            let went_on = now.iter().zip(before).all(|(now, before)| *now >= before + 6);
            if went_on { Ok(()) } else { Err(format!("steps {before:?} and now {now:?}")) }
        })
        .unwrap();
    for pid in pids {
        assert!(Path::new(&format!("/proc/{pid}")).exists(), "process {pid} was replaced");
    }
}
