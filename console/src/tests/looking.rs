//! What people look with: links, check-ups, selectors; and the faults that make something to be seen.

use super::fixture::{Fixture, Ran};
use super::fleet::{self, NOW};
use crate::failure::ExitClass;
use crate::render::{Row, Width, table};

fn ok(fixture: &Fixture, arguments: &[&str]) -> Ran {
    let ran = fixture.run(arguments);
    assert_eq!(ran.class, ExitClass::Done, "{arguments:?}: {}", ran.stderr);
    ran
}

fn wide<R: Row>(rows: &[R]) -> String {
    table(rows, NOW).render(Width { wide: true, all_namespaces: true, paint: false })
}

#[test]
fn links_are_told_with_what_is_measured_what_is_estimated_and_what_nobody_knows() {
    insta::assert_snapshot!(wide(&fleet::links()), @r"
    FROM              TO                STATE        RTT       JITTER    LOSS   SOURCE      AGE     LEAST     ERROR   MTU
    edge-1/edge-1-a   edge-1/edge-1-b   up           1.23 ms   0.09 ms   0.4%   measured    600ms   0.90 ms   -       1452
    edge-1/edge-1-b   edge-1/edge-1-a   down         -         -         -      measured    9s      -         -       -
    edge-1/edge-1-a   edge-2/edge-2-a   unmeasured   24.6 ms   -         -      estimated   700ms   -         ±12%    -
    ");
    let mut relayed = fleet::links();
    relayed[0].via = Some("hub-1".into());
    assert!(wide(&relayed).contains("measured via hub-1   600ms"), "{}", wide(&relayed));
    let fixture = Fixture::new();
    assert_eq!(ok(&fixture, &["get", "links"]).stdout.lines().count(), 4);
    assert_eq!(ok(&fixture, &["get", "ln", "edge-2/edge-2-a"]).stdout.lines().count(), 2);
    let json = ok(&fixture, &["get", "links", "-o", "json"]).stdout;
    let list: codeco_protocol::api::List<codeco_protocol::api::LinkView> =
        serde_json::from_str(&json).unwrap();
    assert_eq!(list.items, fleet::links());
    assert!(
        json.contains("\"rttUs\": 1234") && !json.contains("null"),
        "what is unknown is not there: {json}"
    );
}

#[test]
fn doctor_puts_failures_first_says_what_to_do_and_exits_with_one_only_if_something_fails() {
    let fixture = Fixture::new();
    let ran = fixture.run(&["doctor"]);
    assert_eq!((ran.class, ran.class.code(), ran.stderr.as_str()), (ExitClass::Ailing, 1, ""));
    let lines: Vec<&str> = ran.stdout.lines().collect();
    assert!(lines[1].starts_with("FAILED") && lines[1].contains("has expired"), "{}", ran.stdout);
    assert!(ran.stdout.contains("next: edge-1/edge-1-b certificate: reach a hub"), "{}", ran.stdout);
    assert!(ran.stdout.ends_with("4 checks: 1 failed, 0 warnings\n"), "{}", ran.stdout);
    let fine = ok(&fixture, &["doctor", "--node", "edge-1-a", "-o", "wide"]).stdout;
    assert!(fine.contains("DID") && fine.contains("agrees") && !fine.contains("next: "), "{fine}");
    let json = ok(&fixture, &["doctor", "--node", "edge-1-a", "-o", "json"]).stdout;
    let view: codeco_protocol::api::DoctorView = serde_json::from_str(&json).unwrap();
    assert_eq!(view.checks.len(), 3);
}

#[test]
fn doctor_finds_that_a_hub_is_not_reached_by_udp_also_without_any_context() {
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let fixture = Fixture::new();
    std::fs::remove_file(fixture.contexts()).unwrap();
    let ran = fixture.run(&["doctor", "--hub", &address]);
    assert_eq!(ran.class, ExitClass::Ailing, "{}", ran.stderr);
    assert!(ran.stdout.contains(&format!("hub {address}")), "{}", ran.stdout);
    assert!(ran.stdout.contains("3 datagrams were sent and none was answered"), "{}", ran.stdout);
    assert!(ran.stdout.contains("allow UDP to"), "{}", ran.stdout);
    drop(silent);
    let closed = fixture.run(&["doctor", "--hub", &address]).stdout;
    assert!(closed.contains("nobody listens there"), "{closed}");
    assert_ne!(fixture.run(&["doctor"]).class, ExitClass::Done, "without a hub there is nothing to ask");
}

#[test]
fn node_is_described_with_every_fact_its_source_and_its_age() {
    let text = ok(&Fixture::new(), &["describe", "node", "edge-1-a"]).stdout;
    assert!(text.contains("os                   Debian 13 (discovered, at most 30s old)"), "{text}");
    assert!(text.contains("data-source/camera   rtsp://c (declared, at most 120ms old)"), "{text}");
}

#[test]
fn selector_is_passed_on_as_it_is_meant_and_refused_before_anybody_is_asked() {
    let fixture = Fixture::new();
    ok(&fixture, &["get", "nodes", "-l", "zone=a, tier != test,disk in (ssd, nvme),!old"]);
    assert_eq!(fixture.fleet.calls(), ["nodes zone=a,tier!=test,disk in (nvme,ssd),!old"]);
    let wrong = fixture.run(&["get", "nodes", "-l", "zone=a,disk in ssd"]);
    assert_eq!(wrong.class, ExitClass::Usage);
    assert!(wrong.stderr.contains("found \"disk in ssd\", expected KEY=VALUE"), "{}", wrong.stderr);
    let misplaced = fixture.run(&["get", "apps", "-l", "a=b"]);
    assert!(misplaced.stderr.contains("--selector is not for apps, but for nodes"), "{}", misplaced.stderr);
    assert_eq!(fixture.fleet.calls().len(), 1);
}

#[test]
fn decisions_are_asked_for_by_application_replica_cluster_and_time() {
    let fixture = Fixture::new();
    let arguments = [
        "get",
        "decisions",
        "--app",
        "media",
        "--replica",
        "origin-0",
        "--cluster",
        "edge-1",
        "--since",
        "1h",
    ];
    ok(&fixture, &arguments);
    let call = fixture.fleet.calls().remove(0);
    for part in ["media", "origin-0", "edge-1", "since: Some("] {
        assert!(call.contains(part), "{part} in {call}");
    }
    assert_eq!(fixture.run(&["get", "decisions", "--since", "yesterday"]).class, ExitClass::Usage);
    assert_eq!(fixture.run(&["get", "nodes", "--since", "1h"]).class, ExitClass::Usage);
}

#[test]
fn fault_of_each_kind_reaches_every_member_that_is_meant() {
    let fixture = Fixture::new();
    let said = ok(&fixture, &["fault", "partition", "cluster/edge-1", "--for", "30s"]).stdout;
    assert_eq!(said, "edge-1/edge-1-a is cut off for 30 s\nedge-1/edge-1-b is cut off for 30 s\n");
    ok(
        &fixture,
        &["fault", "delay", "edge-1/a", "--by", "50ms", "--jitter", "5ms", "--from", "edge-1/b,hub"],
    );
    ok(&fixture, &["fault", "loss", "hub", "--share", "2.5%"]);
    ok(&fixture, &["fault", "pause", "node/edge-1/a", "--for", "10s"]);
    ok(&fixture, &["fault", "kill", "edge-1/a"]);
    ok(&fixture, &["fault", "heal", "hub"]);
    let calls = fixture.fleet.calls();
    let expected = [
        "fault edge-1/edge-1-a Network { from: OtherClusters, inbound: true, outbound: true",
        "fault edge-1/edge-1-b Network { from: OtherClusters",
        "fault edge-1/a Network { from: Members([\"edge-1/b\", \"hub\"]), inbound: false, outbound: false, \
         loss_per_million: 0, delay_us: 50000, jitter_us: 5000, seconds: 60 }",
        "fault hub Network { from: Everybody, inbound: false, outbound: false, loss_per_million: 25000",
        "fault edge-1/a Pause { seconds: 10 }",
        "fault edge-1/a Kill",
        "fault hub Heal",
    ];
    let calls: Vec<&String> = calls.iter().filter(|call| call.starts_with("fault")).collect();
    assert_eq!(calls.len(), expected.len(), "{calls:#?}");
    for (call, expected) in calls.iter().zip(expected) {
        assert!(call.starts_with(expected), "{call}\n{expected}");
    }
    let viewer = fixture.run(&["--context", "operator", "fault", "kill", "edge-1/a"]);
    assert_eq!(viewer.class, ExitClass::Refused, "faults are for admins");
    assert_eq!(fixture.run(&["fault", "kill", "cluster/nowhere"]).class, ExitClass::NotFound);
}

#[test]
fn node_leaves_by_an_admin_s_word_and_is_forgotten_then_without_force() {
    let fixture = Fixture::new();
    let ran = ok(&fixture, &["node", "leave", "edge-1/b"]);
    assert_eq!(ran.stdout, "node/edge-1/b left\n");
    assert_eq!(ran.stderr, "warning: node edge-1/c is not connected\n");
    assert_eq!(fixture.fleet.calls(), ["leave edge-1/b", "forget edge-1/b false"]);
    let refused = fixture.run(&["--context", "operator", "node", "leave", "edge-1/b"]);
    assert_eq!(refused.class, ExitClass::Refused, "as draining, it is for admins");
    assert_eq!(fixture.run(&["node", "leave", "b"]).class, ExitClass::Usage);
}

#[test]
fn node_is_forgotten_by_its_full_name_only_and_by_an_operator() {
    let fixture = Fixture::new();
    let ran = ok(&fixture, &["--context", "operator", "node", "forget", "node/edge-1/b"]);
    assert_eq!(ran.stdout, "node/edge-1/b forgotten\n");
    assert_eq!(ran.stderr, "warning: node edge-1/c is not connected\n");
    ok(&fixture, &["node", "forget", "edge-1/b", "--force"]);
    assert_eq!(fixture.fleet.calls(), ["forget edge-1/b false", "forget edge-1/b true"]);
    assert_eq!(fixture.run(&["node", "forget", "b"]).class, ExitClass::Usage);
    assert_eq!(fixture.run(&["--context", "viewer", "node", "forget", "edge-1/b"]).class, ExitClass::Refused);
}

#[test]
fn brake_is_released_by_an_operator_and_shown_beside_the_status_of_its_cluster() {
    let fixture = Fixture::new();
    let ran = ok(&fixture, &["--context", "operator", "brake", "release", "cluster/edge-1"]);
    assert_eq!(
        ran.stdout,
        "cluster/edge-1: brake released, 4 replicas are placed anew\n\
         cluster/edge-1 counts as lost: its replicas may start elsewhere by the rules of their applications\n"
    );
    let told = ok(&fixture, &["brake", "release", "edge-1", "--output", "json"]).stdout;
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told, serde_json::json!({"cluster": "edge-1", "replicas": 4, "home": true}));
    assert_eq!(fixture.fleet.calls(), ["brake edge-1", "brake edge-1"]);
    let refused = fixture.run(&["--context", "viewer", "brake", "release", "edge-1"]);
    assert_eq!(refused.class, ExitClass::Refused);

    let mut cluster = super::fleet::cluster();
    assert_eq!(crate::render::clusters::status(&cluster), "Degraded");
    cluster.conditions = serde_json::from_value(serde_json::json!([
        {"type": "Braked", "status": "True", "reason": "MostNodesMissing", "message": "m", "lastTransitionTime": 0}
    ]))
    .unwrap();
    assert_eq!(crate::render::clusters::status(&cluster), "Degraded,Braked");
}
