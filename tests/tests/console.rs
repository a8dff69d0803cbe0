//! The `codeco` command against a fleet of real processes that run real programs.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeSet;
use std::path::Path;

use codeco_console::local::RuntimeKind;
use codeco_protocol::api::{DecisionLevel, DecisionView, List};
use common::{Stage, codeco, until, workspace};
use serde_json::Value;

const APP: &str = "app/media-streaming";

#[test]
fn application_is_applied_shown_explained_read_and_deleted_without_a_trace() {
    let stage = Stage::new(2, 2, RuntimeKind::Process);
    let example = workspace("deploy/examples/media-streaming-process.yaml");
    let said = stage.run(&["apply", "-f", example.to_str().unwrap()]).ok();
    assert!(said.contains("app/media-streaming created"), "{said}");
    let tokens = stage.replicas_ready();
    assert_eq!(tokens.len(), 5, "{tokens:?}");
    let again = stage.run(&["apply", "-f", example.to_str().unwrap()]).ok();
    assert!(again.contains("app/media-streaming unchanged"), "{again}");

    lists_are_shown_in_every_form(&stage);
    objects_are_described(&stage);
    decisions_add_up_and_name_winner_and_runner_up(&stage);
    absence_is_explained(&stage);
    logs_are_read_under_every_name(&stage, &tokens["media-streaming/origin-0"]);
    deletion_leaves_nothing(&stage);
}

fn lists_are_shown_in_every_form(stage: &Stage) {
    for (kind, column, rows) in
        [("apps", "READY", 1), ("replicas", "NODE", 5), ("nodes", "ROLE", 4), ("clusters", "LEAD", 2)]
    {
        let table = stage.run(&["get", kind]).ok();
        let wide = stage.run(&["get", kind, "-o", "wide"]).ok();
        assert!(table.lines().next().unwrap().contains(column), "{table}");
        assert_eq!(table.lines().count(), rows + 1, "{table}");
        assert!(wide.lines().next().unwrap().len() > table.lines().next().unwrap().len(), "{wide}");
        let json: Value = serde_json::from_str(&stage.run(&["get", kind, "-o", "json"]).ok()).unwrap();
        assert_eq!(json["items"].as_array().unwrap().len(), rows);
        let yaml = stage.run(&["get", kind, "-o", "yaml"]).ok();
        assert!(yaml.contains("\nitems:\n- "), "{yaml}");
    }
    let mut processes = BTreeSet::new();
    for replica in stage.list(&["get", "replicas"]) {
        let pid = replica["pid"].as_u64().expect("a process");
        assert!(Path::new(&format!("/proc/{pid}")).exists(), "{replica}");
        processes.insert(pid);
    }
    assert_eq!(processes.len(), 5, "each replica is a process of its own");
    // Two nodes of the same name are told apart wherever they speak.
    let members: BTreeSet<String> = stage
        .list(&["get", "actors"])
        .iter()
        .map(|actor| actor["member"].as_str().unwrap().to_owned())
        .collect();
    let expected = ["edge-1/node-1", "edge-1/node-2", "edge-2/node-1", "edge-2/node-2", "hub"];
    assert_eq!(members, BTreeSet::from(expected.map(ToOwned::to_owned)));
    let nobody = stage.run(&["get", "app", "nobody"]).failed(3);
    assert!(nobody.contains("app/nobody was not found") && nobody.contains("next: "), "{nobody}");
}

fn objects_are_described(stage: &Stage) {
    for (object, wanted) in [
        (APP, &["Services:", "origin: 1/1 ready", "Channels:", "Ready=True", "Replicas:"][..]),
        ("replica/media-streaming/origin-0", &["Token:", "Process:", "Decisions:", "Placed"]),
        ("node/edge-1/node-1", &["Cluster:", "edge-1", "lead", "Ready=True", "Events:"]),
        ("cluster/edge-2", &["Nodes:", "2/2 ready", "LeadReady"]),
    ] {
        let text = stage.run(&["describe", object]).ok();
        for word in wanted {
            assert!(text.contains(word), "{object} without {word}:\n{text}");
        }
    }
    let two = stage.run(&["describe", "node/node-1"]).failed(2);
    assert!(two.contains("node/node-1 names 2 nodes"), "{two}");
}

fn decisions_add_up_and_name_winner_and_runner_up(stage: &Stage) {
    let json = stage.run(&["explain", APP, "-o", "json"]).ok();
    let decisions: List<DecisionView> = serde_json::from_str(&json).unwrap();
    assert_eq!(decisions.items.len(), 10, "a cluster and a node for each replica");
    for decision in &decisions.items {
        decision.check_sums().unwrap_or_else(|e| panic!("{e}: {decision:#?}"));
        let (chosen, second) = (decision.chosen.as_ref().unwrap(), decision.runner_up.as_ref().unwrap());
        let total = |name: &String| {
            let found = decision.candidates.iter().find(|candidate| candidate.name == *name);
            found.and_then(|candidate| candidate.total).unwrap_or_else(|| panic!("{name}: {decision:#?}"))
        };
        assert!(total(chosen) <= total(second), "{decision:#?}");
        assert!(!decision.inputs.is_empty() && !decision.reason.is_empty(), "{decision:#?}");
        assert_eq!(chosen.contains('/'), decision.level == DecisionLevel::Node, "{chosen}");
    }
    let text = stage.run(&["explain", APP]).ok();
    for word in ["chosen:", "runner-up:", "why:", "parts add up:   yes", "CONTRIBUTION", "token:", "INPUT"] {
        assert!(text.contains(word), "{word}: {text}");
    }
    assert!(!text.contains("parts add up:   no"), "{text}");
}

fn absence_is_explained(stage: &Stage) {
    let mut winners = 0;
    for node in ["edge-1/node-1", "edge-1/node-2", "edge-2/node-1", "edge-2/node-2"] {
        let text = stage.run(&["explain", APP, "--why-not", &format!("node/{node}")]).ok();
        assert_eq!(text.lines().filter(|line| line.starts_with("media-streaming/")).count(), 5, "{text}");
        for line in text.lines().filter(|line| line.starts_with("media-streaming/")) {
            let known = ["was chosen", "lost to", "which was not chosen", "filter"];
            assert!(line.contains(node) && known.iter().any(|word| line.contains(word)), "{line}");
            winners += usize::from(line.contains("was chosen:"));
        }
    }
    assert_eq!(winners, 5, "each replica is on one node");
    let two = stage.run(&["explain", APP, "--why-not", "node/node-2"]).failed(2);
    assert!(two.contains("node/node-2 names 2 nodes"), "{two}");
    let cluster = stage.run(&["explain", APP, "--why-not", "cluster/edge-1"]).ok();
    assert_eq!(cluster.lines().filter(|line| line.starts_with("media-streaming/")).count(), 5, "{cluster}");
    stage.run(&["explain", APP, "--why-not", "node/edge-1/node-9"]).failed(3);
}

fn logs_are_read_under_every_name(stage: &Stage, place: &str) {
    let token = place.split(' ').nth(1).unwrap();
    for name in [&["media-streaming/origin-0"][..], &["replica/media-streaming/origin-0"], &[APP, "origin"]] {
        until("the origin to have written", || {
            let text = stage.run(&[&["logs"], name].concat()).ok();
            let wanted = format!("origin: segment 1 under token {token}");
            if text.contains(&wanted) { Ok(()) } else { Err(text) }
        });
    }
    let unknown = stage.run(&["logs", "media-streaming/encoder-0"]).failed(3);
    assert!(unknown.contains("its services: origin, transcoder, edge-cache"), "{unknown}");
}

fn deletion_leaves_nothing(stage: &Stage) {
    let pids: Vec<u64> =
        stage.list(&["get", "replicas"]).iter().map(|replica| replica["pid"].as_u64().unwrap()).collect();
    stage.run(&["delete", APP]).ok();
    until("the application to be gone", || {
        let left = [stage.list(&["get", "apps", "-A"]), stage.list(&["get", "replicas", "-A"])].concat();
        if left.is_empty() { Ok(()) } else { Err(format!("{left:#?}")) }
    });
    for pid in pids {
        assert!(!Path::new(&format!("/proc/{pid}")).exists(), "process {pid} is still there");
    }
    until("all resources to be free", || {
        let nodes = stage.list(&["get", "nodes"]);
        let busy: Vec<&Value> = nodes.iter().filter(|node| node["capacity"] != node["free"]).collect();
        if busy.is_empty() { Ok(()) } else { Err(format!("{busy:#?}")) }
    });
    stage.event("hub", "Removed", "every cluster has given back its replicas", 1);
    stage.run(&["describe", APP]).failed(3);
    stage.run(&["delete", APP]).failed(3);
}

#[test]
fn broken_manifests_are_refused_with_file_field_found_and_expected_and_nothing_is_applied() {
    let stage = Stage::new(1, 1, RuntimeKind::Simulated);
    let mut files: Vec<_> = std::fs::read_dir(workspace("protocol/tests/broken"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    files.sort();
    assert!(files.len() >= 10, "{files:?}");
    for file in &files {
        let ran = stage.run(&["apply", "-f", file.to_str().unwrap()]);
        assert_eq!(ran.stdout, "", "{}", file.display());
        let said = ran.failed(6);
        let name = file.file_name().unwrap().to_str().unwrap();
        assert!(said.lines().next().unwrap().contains(name), "{said}");
        assert!(said.contains("expected") && said.contains("found"), "{name}: {said}");
        assert!(said.contains("[invalid-manifest]") && said.contains("next: "), "{name}: {said}");
    }
    assert!(stage.list(&["get", "apps", "-A"]).is_empty());
}

#[test]
fn command_without_a_hub_says_what_is_wrong_and_what_to_do_next() {
    let folder = tempfile::tempdir().unwrap();
    let contexts = folder.path().join("contexts.yaml");
    let run = |arguments: &[&str]| codeco(&contexts, arguments, "");

    let none = run(&["get", "apps"]).failed(2);
    assert!(
        none.contains("no context is in use") && none.contains("next: start a fleet with `codeco dev`"),
        "{none}"
    );
    let ca = codeco_protocol::identity::Ca::create(
        &codeco_protocol::identity::TrustDomain::new("fleet.example").unwrap(),
        codeco_protocol::identity::TrustClock::system().now(),
    );
    let ca = codeco_protocol::identity::certificate_pem(ca.unwrap().certificate());
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let access = serde_json::json!({
        "server": format!("https://127.0.0.1:{port}"), "ca": ca, "token": "codeco-api.viewer.AAAA",
    });
    let file = folder.path().join("admin.json");
    std::fs::write(&file, access.to_string()).unwrap();
    run(&["context", "import", file.to_str().unwrap(), "--name", "gone"]).ok();
    let said = run(&["get", "apps"]).failed(5);
    assert!(said.contains("nobody listens there (connection refused)"), "{said}");
    assert!(said.contains("next: check that the hub runs"), "{said}");

    codeco(&contexts, &["context", "add", "other"], "codeco-api.operator.BBBB\n").ok();
    let list = run(&["context", "list"]).ok();
    assert!(
        list.contains("gone") && list.lines().any(|line| line.starts_with("* ") && line.contains("other")),
        "{list}"
    );
    assert!(!list.contains("AAAA"), "tokens are not shown: {list}");
    run(&["context", "use", "gone"]).ok();
    assert!(run(&["context", "show"]).ok().contains("viewer"));
    run(&["context", "use", "nowhere"]).failed(3);
    run(&["--context", "nowhere", "get", "apps"]).failed(3);
    std::fs::write(&file, "{\"server\": 1}").unwrap();
    let broken = run(&["context", "import", file.to_str().unwrap()]).failed(1);
    assert!(broken.contains("admin.json") && broken.contains("next: "), "{broken}");
}

#[test]
fn programs_describe_themselves_and_name_the_option_that_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let contexts = folder.path().join("contexts.yaml");
    let run = |arguments: &[&str]| codeco(&contexts, arguments, "");
    for shell in ["bash", "zsh", "fish"] {
        let script = run(&["completion", shell]).ok();
        assert!(script.contains("codeco") && script.contains("explain"), "{shell}");
    }
    let version = run(&["version", "--client"]).ok();
    assert!(version.contains(env!("CARGO_PKG_VERSION")), "{version}");
    run(&["get"]).failed(2);

    let file = folder.path().join("codeco.toml");
    let path = file.to_str().unwrap();
    std::fs::write(&file, "name = \"north\"\nlisten = \"127.0.0.1:7311\"\n").unwrap();
    for (daemon, port) in [("hub", "7311"), ("agent", "7311")] {
        let printed = run(&[daemon, "--config", path, "--http", "127.0.0.1:7312", "--print-config"]).ok();
        assert!(printed.contains("name = \"north\"") && printed.contains(port), "{printed}");
        assert!(printed.contains("7312"), "the flag wins or adds: {printed}");
    }
    for (daemon, content, field, expected) in [
        ("hub", "name = \"North Pole\"", "name", "North Pole"),
        ("hub", "certificate-hours = 0", "certificate-hours", "1 to 8784"),
        ("hub", "nmae = \"a\"", "nmae", "expected one of"),
        ("hub", "listen = \"here\"", "listen", "invalid socket address"),
        ("agent", "cpu = \"many\"", "cpu", "many"),
        ("agent", "lease-ms = 1", "lease-ms", "expected"),
        ("agent", "power-watts = \"9\"", "power-watts", "expected"),
        ("agent", "colour = 3", "colour", "expected one of"),
    ] {
        std::fs::write(&file, content).unwrap();
        let said = run(&[daemon, "--config", path, "--print-config"]).failed(1);
        assert!(said.contains(field) && said.contains(expected), "{daemon} {content}: {said}");
        assert!(said.contains("[invalid-config]") && said.contains("next: "), "{said}");
    }
    let missing = run(&["hub", "--config", "/nowhere/codeco.toml", "--print-config"]).failed(1);
    assert!(missing.contains("/nowhere/codeco.toml"), "{missing}");
}
