//! What goes wrong between people and hub, and what they are told.

use std::io::Read;
use std::net::TcpListener;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use codeco_hub::api::Limits;
use codeco_protocol::ids::{ClusterName, Role};

use super::fixture::Fixture;
use crate::client::Client;
use crate::contexts::{Context, save_and_use};
use crate::failure::ExitClass;

#[test]
fn hub_that_is_not_there_is_named_with_its_context_and_address() {
    let fixture = Fixture::new();
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let server = format!("https://{free}");
    save_and_use(&fixture.contexts(), Context { server: server.clone(), ..fixture.context("away", "t") })
        .unwrap();
    let ran = fixture.run(&["get", "apps"]);
    assert_eq!(ran.class, ExitClass::Unreachable);
    for part in ["\"away\"", server.as_str(), "nobody listens", "codeco context list", "[unreachable]"] {
        assert!(ran.stderr.contains(part), "{part}: {}", ran.stderr);
    }
}

#[test]
fn server_of_another_authority_or_a_node_posing_as_hub_is_sent_nothing() {
    let (ours, theirs) = (Fixture::new(), Fixture::new());
    let posing = Fixture::with(Limits::default(), Role::Node(ClusterName::new("edge-1").unwrap()));
    let foreign = Context { ca: ours.ca_pem.clone(), ..theirs.context("foreign", "secret") };
    for (name, context) in [("foreign", foreign), ("posing", posing.context("posing", "secret"))] {
        save_and_use(&ours.contexts(), context).unwrap();
        let ran = ours.run(&["get", "apps"]);
        assert_eq!(ran.class, ExitClass::Unreachable, "{}", ran.stderr);
        assert!(ran.stderr.contains("[wrong-server]") && ran.stderr.contains(name), "{}", ran.stderr);
    }
    for fixture in [&theirs, &posing] {
        assert!(fixture.fleet.calls().is_empty());
    }
}

#[test]
fn fleet_that_does_not_answer_ends_with_7() {
    let limits = Limits { request: Duration::from_millis(300), ..Limits::default() };
    let fixture = Fixture::with(limits, Role::Hub);
    let ran = fixture.run(&["describe", "app/never"]);
    assert_eq!(ran.class, ExitClass::Timeout, "{}", ran.stderr);
    assert!(ran.stderr.contains("[timeout]"), "{}", ran.stderr);
}

#[test]
fn hub_that_does_not_answer_in_the_clients_time_ends_with_7() {
    let fixture = Fixture::new();
    let context = fixture.context("admin", "codeco-api.x.y");
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let context = Context { server: format!("https://{}", silent.local_addr().unwrap()), ..context };
    let client = Client::with_call_max(&context, Duration::from_millis(200)).unwrap();
    assert_eq!(client.version().unwrap_err().class, ExitClass::Timeout);
}

#[test]
fn request_under_way_is_answered_when_the_hub_stops() {
    let mut fixture = Fixture::new();
    let (entered, has_entered) = mpsc::channel();
    *fixture.fleet.entered.lock().unwrap() = Some(entered);
    let token = fixture.token_of(codeco_hub::api::ApiRole::Viewer);
    let context = fixture.context("viewer", &token);
    let asking = std::thread::spawn(move || {
        let path = "apps?app=held";
        Client::new(&context).unwrap().call(&ureq::http::Method::GET, path, &[], None)
    });
    has_entered.recv_timeout(Duration::from_secs(30)).unwrap();
    let mut idle = fixture.tls();
    while idle.conn.is_handshaking() {
        idle.conn.complete_io(&mut idle.sock).unwrap();
    }
    fixture.stop();
    // Once an idle connection is closed, every connection has been told to end.
    let _ = idle.read_to_end(&mut Vec::new());
    fixture.fleet.release.notify_one();
    assert!(asking.join().unwrap().is_ok());
    fixture.wait_for_the_end();
    assert_eq!(fixture.run(&["get", "nodes"]).class, ExitClass::Unreachable);
}

#[test]
fn broken_manifests_are_told_by_file_field_found_and_expected_and_nothing_is_applied() {
    let fixture = Fixture::new();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../protocol/tests/broken");
    let prefix = format!("{}/", folder.display());
    let mut seen = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|end| end == "expected") {
            continue;
        }
        let ran = fixture.run(&["apply", "-f", path.to_str().unwrap()]);
        assert_eq!(ran.class, ExitClass::InvalidManifest, "{}", ran.stderr);
        let expected = std::fs::read_to_string(path.with_extension("expected")).unwrap();
        assert!(
            ran.stderr.replace(&prefix, "").starts_with(&expected),
            "{}\nexpected\n{expected}",
            ran.stderr
        );
        assert!(ran.stderr.contains("nothing was applied [invalid-manifest]"), "{}", ran.stderr);
        seen += 1;
    }
    assert!(seen >= 10, "{seen} broken manifests");
    assert!(fixture.fleet.calls().is_empty());
}

#[test]
fn broken_manifest_that_reaches_the_hub_is_told_the_same_way() {
    let fixture = Fixture::new();
    let token = fixture.token_of(codeco_hub::api::ApiRole::Operator);
    let client = Client::new(&fixture.context("operator", &token)).unwrap();
    let text = "apiVersion: codeco.he-codeco.eu/v1alpha1\nkind: CodecoApp\nmetadata: {name: Web}\nspec: {}\n";
    let failure = client.apply("größe.yaml", text).unwrap_err();
    assert_eq!(failure.class, ExitClass::InvalidManifest);
    let first = &failure.body.details[0];
    assert_eq!((first.file.as_str(), first.field.as_str()), ("größe.yaml", "metadata.name"), "{failure:?}");
    assert!(failure.to_text().contains("\"Web\""), "{}", failure.to_text());
    assert!(fixture.fleet.calls().is_empty());
}

#[test]
fn call_that_is_wrong_ends_with_2_and_an_object_that_is_not_there_with_3() {
    let fixture = Fixture::new();
    for wrong in [
        &["get", "pods"][..],
        &["apply"],
        &["token", "create"],
        &["describe", "node"],
        &["explain", "node/a"],
    ] {
        let ran = fixture.run(wrong);
        assert_eq!(ran.class, ExitClass::Usage, "{wrong:?}: {}", ran.stderr);
        assert!(!ran.stderr.is_empty() && ran.stdout.is_empty());
    }
    for away in [
        &["get", "app", "gone"][..],
        &["describe", "node/gone"],
        &["explain", "app/gone"],
        &["logs", "app/gone", "origin"],
        &["logs", "app/media", "gone"],
        &["delete", "app/gone"],
        &["apply", "-f", "/gone.yaml"],
        &["--context", "gone", "get", "apps"],
    ] {
        let ran = fixture.run(away);
        assert_eq!(ran.class, ExitClass::NotFound, "{away:?}: {}", ran.stderr);
        assert!(ran.stderr.contains("gone"), "{}", ran.stderr);
    }
}
