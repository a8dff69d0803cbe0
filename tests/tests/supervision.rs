//! Actors that panic in a running fleet: restarted by their supervisors, or given up on with a clear state, while
//! everything else goes on.

#![allow(clippy::unwrap_used)]

mod common;

use codeco_console::local::{self, RuntimeKind};
use common::{Stage, until, workspace};
use serde_json::Value;

/// An actor's row in `codeco get actors`.
fn actor(stage: &Stage, member: &str, name: &str) -> Value {
    let actors = stage.list(&["get", "actors"]);
    let end = format!("/{name}");
    let found = actors.iter().find(|a| a["member"] == member && a["name"].as_str().unwrap().ends_with(&end));
    found.unwrap_or_else(|| panic!("no actor {name} on {member}: {actors:#?}")).clone()
}

/// Waits until an actor is in this state and was restarted so often.
fn actor_is(stage: &Stage, member: &str, name: &str, state: &str, restarts: u64) -> Value {
    until(&format!("{member} {name} to be {state} after {restarts} restarts"), || {
        let found = actor(stage, member, name);
        let as_wanted = found["state"] == state && found["restarts"] == restarts;
        if as_wanted { Ok(found) } else { Err(found.to_string()) }
    })
}

#[test]
fn actor_that_panics_once_is_restarted_and_events_say_so_and_no_replica_notices() {
    let stage = Stage::new(2, 2, RuntimeKind::Simulated);
    stage.apply(&workspace("deploy/examples/media-streaming.yaml"));
    let tokens = stage.tokens();
    for (member, name) in [
        ("edge-1/node-2", "ledger"),
        ("edge-1/node-2", "workloads"),
        ("edge-1/node-2", "netma"),
        ("edge-2/node-2", "mdm"),
        ("edge-2/node-1", "elector"),
        ("edge-1/node-1", "links"),
        ("hub", "home"),
        ("hub", "links"),
        ("hub", "clusters"),
    ] {
        let before = actor(&stage, member, name);
        assert_eq!(before["restarts"], 0, "{before}");
        let said = stage.run(&["fault", "panic", &format!("actor/{name}"), "--member", member]).ok();
        assert!(said.contains(&format!("actor/{name} of {member} panics once")), "{said}");

        let after = actor_is(&stage, member, name, "Running", 1);
        assert!(after["lastError"].as_str().unwrap().contains("a fault was injected"), "{after}");
        let path = after["name"].as_str().unwrap();
        let failed = stage.event(member, "ActorFailed", "a fault was injected", 1);
        assert_eq!((&failed["type"], &failed["object"]["kind"]), (&"Warning".into(), &"Actor".into()));
        stage.event(member, "ActorRestarting", path, 1);
        stage.must_be_undisturbed(&tokens, path);
    }
    // What was restarted works: a new application is placed, and goes again.
    let text = std::fs::read_to_string(workspace("deploy/examples/media-streaming.yaml")).unwrap();
    let second = text
        .replace("name: media-streaming", "name: second")
        .replace("appName: media-streaming", "appName: second");
    stage.run_with(&["apply", "-f", "-"], &second).ok();
    assert_eq!(stage.replicas_ready().len(), 2 * tokens.len());
}

#[test]
fn actor_that_panics_for_ever_is_given_up_on_and_its_process_says_that_it_is_not_ready() {
    let stage = Stage::new(2, 2, RuntimeKind::Simulated);
    // Two nodes that each hold a copy leave no place for one that must not share a node.
    let text = std::fs::read_to_string(workspace("deploy/examples/media-streaming.yaml")).unwrap();
    let text = text.replace("        spread: {maxPerNode: 1}\n", "");
    stage.run_with(&["apply", "-f", "-"], &text).ok();
    stage.replicas_ready();
    let before = stage.tokens();

    // One that only looks: the node keeps what runs on it, and says that something is wrong.
    given_up(&stage, "edge-1/node-2", "netma");
    assert_eq!(stage.replicas_ready(), before, "a node without NetMA goes on");
    assert_eq!(actor(&stage, "edge-1/node-2", "ledger")["state"], "Running");

    // One without which a node can promise nothing: its work moves.
    let on_node = |place: &String| place.starts_with("edge-2/node-2 ");
    assert!(before.values().any(on_node), "something runs there: {before:#?}");
    given_up(&stage, "edge-2/node-2", "ledger");
    until("what the node said last to be shown as the past", || {
        let rows = stage.list(&["get", "replicas"]);
        let there = |row: &&Value| row["cluster"] == "edge-2" && row["node"] == "node-2";
        let present: Vec<&Value> =
            rows.iter().filter(there).filter(|row| row["ready"] == true || row["stale"] != true).collect();
        if present.is_empty() { Ok(()) } else { Err(format!("{present:#?}")) }
    });
    until("replicas to leave edge-2/node-2", || {
        let tokens = stage.replicas_ready();
        let stayed = tokens.values().filter(|place| on_node(place)).count();
        if stayed == 0 && tokens.len() == before.len() { Ok(()) } else { Err(format!("{tokens:#?}")) }
    });

    // The rest of both processes, and of the fleet, goes on.
    for member in ["edge-1/node-2", "edge-2/node-2"] {
        assert_eq!(local::get(stage.http(member), "/healthz").unwrap().0, 200);
        assert_eq!(actor(&stage, member, "links")["state"], "Running");
    }
    for member in ["edge-1/node-1", "edge-2/node-1", "hub"] {
        assert_eq!(local::get(stage.http(member), "/readyz").unwrap(), (200, "ok\n".into()));
    }
}

/// Makes an actor panic for ever, and checks what is said of it.
fn given_up(stage: &Stage, member: &str, name: &str) {
    let object = format!("actor/{name}");
    stage.run(&["fault", "panic", &object, "--member", member, "--times", "1000"]).ok();
    let found = actor_is(stage, member, name, "GivenUp", 5);
    let path = found["name"].as_str().unwrap();
    let told = stage.event(member, "ActorGivenUp", path, 1);
    let message = told["message"].as_str().unwrap();
    assert!(message.contains("failed 6 times within 60s, last: a fault was injected"), "{message}");

    let (status, body) = local::get(stage.http(member), "/readyz").unwrap();
    assert_eq!(status, 503, "{body}");
    assert!(body.contains(&format!("actor {path} is given up on")), "{body}");
    until(&format!("{member} to be shown as not ready"), || {
        let nodes = stage.list(&["get", "nodes"]);
        let full = |node: &Value| {
            format!("{}/{}", node["cluster"].as_str().unwrap(), node["name"].as_str().unwrap())
        };
        let node = nodes.iter().find(|node| full(node) == member).unwrap();
        let conditions = node["conditions"].to_string();
        let told = node["status"] == "NotReady" && conditions.contains(path);
        if told { Ok(()) } else { Err(node.to_string()) }
    });
    let described = stage.run(&["describe", &format!("node/{member}")]).ok();
    assert!(described.contains(&format!("actor {path} is given up on")), "{described}");
}
