//! The learner on a live fleet: trained on the hub in earnest, judged in shadow, promoted, its effect on a decision explained,
//! kept while the hub is away, rolled back when it is fed nonsense; and with learning off, the heuristic's decisions.
//!
//! Steps of load last 240 ms instead of five minutes, and the nodes' loads are replayed from files, so that a day's worth of
//! learning passes in a minute.
#![allow(clippy::unwrap_used)]

mod common;

use std::ffi::OsString;
use std::path::Path;
use std::time::{Duration, Instant};

use codeco_console::local::RuntimeKind;
use common::Stage;
use serde_json::Value;

const STEP_MS: &str = "240";
/// Learning takes its time on a busy machine; only a test that fails waits so long.
const PATIENCE: Duration = Duration::from_secs(150);

fn until<T>(what: &str, mut look: impl FnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match look() {
            Ok(found) => return found,
            Err(seen) => assert!(Instant::now() < deadline, "waited in vain for {what}; last seen: {seen}"),
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Periods of sixteen steps with a little noise: processor around `middle`, memory around a third.
fn wave(middle: f64, reach: f64) -> String {
    let mut rng = fastrand::Rng::with_seed(9);
    let mut line = |step: u32| {
        let turn = (f64::from(step) / 16.0 * std::f64::consts::TAU).sin();
        let mut noise = || 0.04 * (rng.f64() - 0.5);
        format!("{:.3} {:.3}\n", middle + reach * turn + noise(), 0.33 + 0.1 * turn + noise())
    };
    (0..16 * 31).map(&mut line).collect()
}

/// What nobody can forecast, in 509 lines (a prime, so that no period fits).
fn noise() -> String {
    let mut rng = fastrand::Rng::with_seed(5);
    (0..509).map(|_| format!("{:.3} {:.3}\n", rng.f64(), rng.f64())).collect()
}

fn write_loads(folder: &Path, load: impl Fn(u32) -> String) {
    std::fs::create_dir_all(folder).unwrap();
    for node in 1..=3 {
        // Renamed into place: a node that reads now sees all of the old one or all of the new one.
        let (draft, file) = (folder.join("draft"), folder.join(format!("node-{node}")));
        std::fs::write(&draft, load(node)).unwrap();
        std::fs::rename(&draft, &file).unwrap();
    }
}

/// Node 1 is busy in waves, the others are not.
fn waves(node: u32) -> String {
    if node == 1 { wave(0.6, 0.38) } else { wave(0.3, 0.15) }
}

fn app(name: &str) -> String {
    format!(
        "apiVersion: codeco.he-codeco.eu/v1alpha1
kind: CodecoApp
metadata: {{name: {name}}}
spec:
  codecoapp-msspec:
    - serviceName: work
      podspec:
        containers:
          - name: work
            image: example/work
            resources: {{requests: {{cpu: 50m, memory: 16Mi}}}}
  placement: {{replicas: 1}}
"
    )
}

fn fleet(loads: &Path, learning: &str) -> Stage {
    let arguments = |more: &[&str]| -> Vec<OsString> {
        let all = ["--learning", learning, "--load-step-ms", STEP_MS];
        all.iter().chain(more).map(Into::into).collect()
    };
    let agents = arguments(&["--load-replay", loads.to_str().unwrap()]);
    Stage::with_hub(1, 3, RuntimeKind::Simulated, agents, arguments(&[]), |_| {})
}

/// The cluster's row of `codeco get models`.
fn gate(stage: &Stage) -> Value {
    let models = stage.list(&["get", "models"]);
    models.into_iter().find(|row| row["place"] == "edge-1").unwrap_or(Value::Null)
}

fn wait_for_gate(stage: &Stage, state: &str) -> Value {
    until(&format!("the gate to be {state}"), || {
        let gate = gate(stage);
        if gate["state"] == state { Ok(gate) } else { Err(format!("{:#?}", stage.list(&["get", "models"]))) }
    })
}

/// Applies, waits until it runs, and returns the lead's decision.
fn decided(stage: &Stage, name: &str) -> Value {
    stage.run_with(&["apply", "-f", "-"], &app(name)).ok();
    stage.replicas_ready();
    until("the decision to be told", || {
        let decisions = stage.list(&["get", "decisions", "--app", name]);
        let node = decisions.iter().find(|d| d["level"] == "Node" && d["chosen"].is_string());
        node.cloned().ok_or_else(|| format!("{decisions:#?}"))
    })
}

fn remove(stage: &Stage, name: &str) {
    stage.run(&["delete", &format!("app/{name}")]).ok();
    until("the application to be gone", || {
        let left = stage.list(&["get", "replicas", "-A"]);
        if left.is_empty() { Ok(()) } else { Err(format!("{left:#?}")) }
    });
}

fn advice(candidate: &Value) -> Option<&Value> {
    candidate["parts"].as_array()?.iter().find(|part| part["name"] == "advice")
}

/// What the heuristic alone makes of the candidates: names with parts and totals, to the last digit.
fn heuristic(decision: &Value) -> Vec<(String, String)> {
    let candidates = decision["candidates"].as_array().unwrap();
    assert!(candidates.iter().all(|candidate| advice(candidate).is_none()), "{decision:#}");
    let told = candidates.iter().map(|candidate| {
        let scores = format!("{} {}", candidate["total"], candidate["parts"]);
        (candidate["name"].as_str().unwrap().to_owned(), scores)
    });
    told.collect()
}

#[test]
fn learner_is_trained_shadowed_promoted_explained_kept_without_hub_and_rolled_back_on_nonsense() {
    let folder = tempfile::tempdir().unwrap();
    let loads = folder.path().join("loads");
    write_loads(&loads, waves);
    let mut stage = fleet(&loads, "on");

    // Before anything is learned, and with learning off, decisions are the same to the last digit.
    let early = decided(&stage, "probe");
    assert!(early["model"].as_str().unwrap().contains("no model yet"), "{early:#}");
    remove(&stage, "probe");
    {
        let off = fleet(&loads, "off");
        let decision = decided(&off, "probe");
        assert!(decision["model"].is_null(), "{decision:#}");
        assert_eq!(heuristic(&decision), heuristic(&early));
        assert_eq!(decision["chosen"], early["chosen"]);
        assert_eq!(gate(&off)["state"], "Off");
        assert_eq!(off.list(&["get", "models"]).len(), 1, "no learner either");
    }

    // Trained, judged, promoted.
    stage.event("hub", "ModelPublished", "load-forecast/1", 1);
    let shadow = wait_for_gate(&stage, "Shadow");
    println!("in shadow: {shadow}");
    let active = wait_for_gate(&stage, "Active");
    println!("active: {active}");
    until("the event of it", || {
        let events = stage.list(&["get", "events"]);
        let told = events.iter().any(|event| event["reason"] == "ModelActive");
        if told { Ok(()) } else { Err(format!("{events:#?}")) }
    });
    let loss = |name: &str| {
        let losses = active["losses"].as_array().unwrap();
        losses.iter().find(|loss| loss["name"] == name).map(|loss| loss["loss"].as_f64().unwrap())
    };
    for baseline in ["last", "mean", "ewma"] {
        assert!(loss("model") < loss(baseline), "{active:#}");
    }
    let table = stage.run(&["get", "models", "-o", "wide"]).ok();
    println!("{table}");
    assert!(table.contains("edge-1") && table.contains("Learner"), "{table}");

    // Its effect: the heuristic would take node 1, which will be overloaded.
    let advised = until("a decision while the gate is open", || {
        wait_for_gate(&stage, "Active");
        let decision = decided(&stage, "advised");
        // A gate may close for a moment, with good reason, on a machine that is too busy to measure in time.
        if decision["model"].as_str().unwrap().ends_with(", active") {
            return Ok(decision);
        }
        remove(&stage, "advised");
        Err(format!("{decision:#}"))
    });
    let candidates = advised["candidates"].as_array().unwrap();
    let cost = |candidate: &Value| {
        let added = advice(candidate).unwrap()["contribution"].as_f64().unwrap();
        (candidate["total"].as_f64().unwrap(), added)
    };
    let alone = candidates.iter().min_by(|a, b| {
        let key = |c: &Value| cost(c).0 - cost(c).1;
        key(a).total_cmp(&key(b)).then_with(|| a["name"].as_str().cmp(&b["name"].as_str()))
    });
    let alone = alone.unwrap()["name"].as_str().unwrap();
    assert!(alone.ends_with("node-1"), "{advised:#}");
    assert!(!advised["chosen"].as_str().unwrap().ends_with("node-1"), "{advised:#}");
    let told = stage.run(&["explain", "app/advised"]).ok();
    println!("{told}");
    assert!(
        told.contains("advice") && told.contains("load-forecast/") && told.contains(", active"),
        "{told}"
    );

    // Without the hub, a node's death is decided with the last model.
    let node = advised["chosen"].as_str().unwrap().rsplit('/').next().unwrap().to_owned();
    stage.fleet.kill(None);
    let at = stage.fleet.agents().iter().position(|agent| agent.name == node).unwrap();
    stage.fleet.kill(Some(at));
    // Whoever leads now writes it down; if it was the lead that died, another one was elected, with the model it has kept.
    let books: Vec<_> = stage.fleet.agents().iter().map(|a| a.state.join("decisions.jsonl")).collect();
    let before = advised["at"].as_u64().unwrap();
    let alone = until("a decision without hub", || {
        let texts = books.iter().map(|book| std::fs::read_to_string(book).unwrap_or_default());
        let decisions: Vec<Value> = texts
            .flat_map(|text| {
                text.lines().map(|line| serde_json::from_str(line).unwrap_or_default()).collect::<Vec<_>>()
            })
            .filter(|decision: &Value| decision["at"].as_u64() > Some(before))
            .collect();
        let moved = decisions.iter().find(|d| d["chosen"].as_str().is_some_and(|chosen| chosen != node));
        moved.cloned().ok_or_else(|| format!("{decisions:#?}"))
    });
    let model = alone["model"].as_str().unwrap();
    println!("without hub: {model}");
    assert!(model.starts_with("load-forecast/"), "the model is kept: {alone:#}");
    let advised = alone["candidates"].as_array().unwrap().iter().filter_map(advice).count();
    assert_eq!(advised, if model.ends_with(", active") { 2 } else { 0 }, "{alone:#}");
    stage.fleet.start_hub().unwrap();
    stage.fleet.wait_hub().unwrap();
    stage.fleet.start_agent(at).unwrap();
    stage.fleet.wait_agent(at).unwrap();
    stage.nodes_ready();
    assert!(gate(&stage)["version"].as_u64() >= Some(1));

    // Loads that nobody can forecast: rolled back, and decisions are the heuristic's again.
    wait_for_gate(&stage, "Active");
    let before = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
    write_loads(&loads, |_| noise());
    let back = until("the model to be rolled back", || {
        let events = stage.list(&["get", "events"]);
        let found = events.iter().find(|event| {
            let at = u128::from(event["at"].as_u64().unwrap());
            event["reason"] == "ModelRolledBack" && at > before
        });
        found.cloned().ok_or_else(|| format!("{:#}", gate(&stage)))
    });
    println!("rolled back: {}", back["message"]);
    remove(&stage, "advised");
    // Another model may have been promoted since: what the record says and what was scored agree in either case.
    let last = decided(&stage, "probe");
    let advised = last["candidates"].as_array().unwrap().iter().filter_map(advice).count();
    let active = last["model"].as_str().unwrap().ends_with(", active");
    assert_eq!(advised, if active { 3 } else { 0 }, "{last:#}");
}
