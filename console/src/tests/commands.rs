//! What each command does when all is well.

use std::io::{self, Write};

use codeco_protocol::api::{List, NodeView};

use super::fixture::{Fixture, Ran};
use super::fleet;
use crate::failure::ExitClass;

fn ok(fixture: &Fixture, arguments: &[&str]) -> Ran {
    let ran = fixture.run(arguments);
    assert_eq!(ran.class, ExitClass::Done, "{arguments:?}: {}", ran.stderr);
    ran
}

const APP: &str = "apiVersion: codeco.he-codeco.eu/v1alpha1\nkind: CodecoApp\nmetadata: {name: NAME}\n\
    spec: {codecoapp-msspec: [{serviceName: s, podspec: {containers: [{name: c, image: i}]}}]}\n";

#[test]
fn apply_takes_files_folders_and_standard_input_in_order_and_delete_takes_them_back() {
    let fixture = Fixture::new();
    let folder = fixture.folder.path().join("manifests");
    std::fs::create_dir(&folder).unwrap();
    for name in ["b", "a"] {
        std::fs::write(folder.join(format!("{name}.yaml")), APP.replace("NAME", name)).unwrap();
    }
    std::fs::write(folder.join("notes.txt"), "not a manifest").unwrap();
    let folder = folder.to_str().unwrap();
    let ran = fixture.run_with(&["apply", "-f", folder, "-f", "-"], APP.replace("NAME", "c"));
    assert_eq!(ran.class, ExitClass::Done, "{}", ran.stderr);
    let lines: Vec<&str> = ran.stdout.lines().collect();
    assert_eq!(lines[0], "app/a created (generation 1, on 3 members)");
    assert_eq!(lines.len(), 3);
    ok(&fixture, &["delete", "-f", folder]);
    ok(&fixture, &["delete", "app", "c", "-n", "shop"]);
    let calls = ["apply default/a", "apply default/b", "apply default/c"];
    assert_eq!(fixture.fleet.calls()[..3], calls);
    assert_eq!(fixture.fleet.calls()[3..], ["delete default/a", "delete default/b", "delete shop/c"]);
}

#[test]
fn examples_of_this_repository_are_applied_as_they_are() {
    let fixture = Fixture::new();
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/examples/media-streaming");
    for file in [format!("{folder}.yaml"), format!("{folder}-process.yaml")] {
        assert!(ok(&fixture, &["apply", "-f", &file]).stdout.contains("app/media-streaming created"));
    }
}

#[test]
fn get_prints_tables_for_people_and_json_and_yaml_for_programs() {
    let fixture = Fixture::new();
    let table = ok(&fixture, &["get", "apps"]);
    assert!(table.stdout.starts_with("NAME    STATUS    READY"), "{}", table.stdout);
    assert_eq!(table.stderr, "warning: edge-2-a did not answer in time\n");
    let all = ok(&fixture, &["get", "apps", "-A", "-o", "wide"]);
    assert!(all.stdout.starts_with("NAMESPACE   NAME") && all.stdout.contains("UID"), "{}", all.stdout);
    let json = ok(&fixture, &["get", "no", "-o", "json"]).stdout;
    let list: List<NodeView> = serde_json::from_str(&json).unwrap();
    assert_eq!((list.kind.as_str(), list.items), ("NodeList", fleet::nodes()));
    let one = ok(&fixture, &["get", "node", "edge-1-b", "-o", "yaml"]).stdout;
    assert_eq!(serde_yaml_ng::from_str::<NodeView>(&one).unwrap(), fleet::nodes()[1]);
    for kind in ["replicas", "clusters", "events", "decisions", "actors", "rs/media/origin-0"] {
        assert!(ok(&fixture, &["get", kind]).stdout.lines().count() >= 2, "{kind}");
    }
}

/// An output whose reader leaves after a number of rounds.
struct Leaving {
    text: Vec<u8>,
    rounds: u32,
}

impl Write for Leaving {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.text.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.rounds = self.rounds.checked_sub(1).ok_or(io::ErrorKind::BrokenPipe)?;
        Ok(())
    }
}

#[test]
fn get_with_watch_prints_a_row_again_only_when_it_changes_and_ends_quietly_with_its_reader() {
    let fixture = Fixture::new();
    let mut output = Leaving { text: Vec::new(), rounds: 2 };
    let (class, stderr) = fixture.run_into(&["get", "nodes", "--watch"], "", &mut output);
    assert_eq!((class, stderr.as_str()), (ExitClass::Done, ""));
    let text = String::from_utf8(output.text).unwrap();
    assert_eq!(text.lines().count(), 3, "three looks, each row once:\n{text}");
}

#[test]
fn describe_shows_what_belongs_to_an_object() {
    let fixture = Fixture::new();
    let app = ok(&fixture, &["describe", "app/media"]).stdout;
    for part in
        ["Durable on:   3 members", "origin: 1/1 ready", "25 Mbit/s", "media/origin-0", "origin-0 runs on"]
    {
        assert!(app.contains(part), "{part} in\n{app}");
    }
    let replica = ok(&fixture, &["describe", "replica/media/cache-1"]).stdout;
    assert!(replica.contains("Running (stale: this tells the past)"), "{replica}");
    assert!(ok(&fixture, &["describe", "node", "edge-1-a"]).stdout.contains("zone=a"));
    assert!(ok(&fixture, &["describe", "cluster/edge-1"]).stdout.contains("edge-1-b"));
}

#[test]
fn explain_shows_the_newest_decisions_cluster_first_and_all_when_asked() {
    let fixture = Fixture::new();
    let text = ok(&fixture, &["explain", "app/media"]).stdout;
    let (cluster, node) = (text.find("which cluster").unwrap(), text.find("which node").unwrap());
    assert!(cluster < node && !text.contains("an older one"), "{text}");
    assert_eq!(text.matches("parts add up:   yes").count(), 2, "{text}");
    assert!(ok(&fixture, &["explain", "app", "media", "--all"]).stdout.contains("an older one"));
    let ran = fixture.run(&["explain", "app/media", "--service", "cache"]);
    assert_eq!(ran.class, ExitClass::NotFound, "{}", ran.stdout);
}

#[test]
fn explain_why_not_names_the_filter_or_the_parts_that_lost() {
    let fixture = Fixture::new();
    let node = ok(&fixture, &["explain", "--why-not", "node/edge-1-a", "app/media"]).stdout;
    assert!(
        node.contains("edge-1/edge-1-a lost to edge-1/edge-1-b") && node.contains("- load: 0.5 share"),
        "{node}"
    );
    let cluster = ok(&fixture, &["explain", "app/media", "--why-not", "cluster/edge-2"]).stdout;
    assert!(cluster.contains("its bid was silent"), "{cluster}");
    let chosen = ok(&fixture, &["explain", "app/media", "--why-not", "node/edge-1-b"]).stdout;
    assert!(chosen.contains("edge-1-b was chosen"), "{chosen}");
}

#[test]
fn logs_token_fault_and_version_ask_the_hub_for_just_that() {
    let fixture = Fixture::new();
    let logs = ok(&fixture, &["logs", "app/media", "origin-0", "-c", "main", "--tail", "9"]);
    assert_eq!(logs.stdout, "one\ntwo\u{fffd}\n");
    let token = ok(&fixture, &["token", "create", "--cluster", "edge-1", "--ttl", "2h"]);
    assert_eq!(token.stdout, "codeco1.abc\n", "the token alone");
    assert!(token.stderr.contains("a node of cluster edge-1, until 2027"), "{}", token.stderr);
    ok(&fixture, &["fault", "panic", "actor/metrics", "--member", "edge-1-a", "--times", "3"]);
    let calls = fixture.fleet.calls();
    assert!(calls[0].contains("container: Some(\"main\"), tail_bytes: 9"), "{calls:?}");
    assert_eq!(calls[1..], ["token Node(edge-1) 7200", "panic edge-1-a metrics 3"]);
    let version = ok(&fixture, &["version"]).stdout;
    assert_eq!(version.matches(env!("CARGO_PKG_VERSION")).count(), 2, "{version}");
}

#[test]
fn contexts_are_listed_and_chosen_and_never_show_their_token() {
    let fixture = Fixture::new();
    let list = ok(&fixture, &["context", "list"]).stdout;
    assert!(list.lines().any(|line| line.starts_with("*         admin")), "{list}");
    ok(&fixture, &["context", "use", "viewer"]);
    let show = ok(&fixture, &["context", "show"]).stdout;
    assert!(show.contains("viewer"), "{show}");
    let secret = fixture.token_of(codeco_hub::api::ApiRole::Viewer);
    assert!(!(list + &show).contains(secret.rsplit('.').next().unwrap()));
    assert_eq!(fixture.run(&["delete", "app/a"]).class, ExitClass::Refused, "viewer is in use now");
}

#[test]
fn help_and_completion_are_answers_and_need_no_hub() {
    let fixture = Fixture::new();
    assert!(ok(&fixture, &["--help"]).stdout.contains("Exit codes"));
    assert!(ok(&fixture, &["completion", "bash"]).stdout.contains("codeco"));
    assert_eq!(ok(&fixture, &["version", "--client", "-o", "json"]).stderr, "");
}

#[test]
fn certificates_are_listed_and_revoked_and_the_authority_is_handed_over() {
    let fixture = Fixture::new();
    for arguments in [&["certs"][..], &["get", "certs"]] {
        let table = ok(&fixture, arguments).stdout;
        let row = table.lines().nth(1).unwrap_or_default().to_owned();
        for word in ["edge-1/edge-1-a", "00000000000000000000000000000051", "edge-1/edge-1-b", "ClockUnknown"]
        {
            assert!(row.contains(word), "{table}");
        }
    }
    let revoked = ok(&fixture, &["cert", "revoke", "node/edge-1/edge-1-a"]);
    assert_eq!(revoked.stdout, "member edge-1/edge-1-a revoked\n");
    assert!(revoked.stderr.contains("TRUST 3"), "{}", revoked.stderr);
    let rotated = ok(&fixture, &["ca", "rotate"]);
    for word in ["being made known", "sha256:01 is trusted", "waits for members", "  edge-1/edge-1-a\n"] {
        assert!(rotated.stdout.contains(word), "{}", rotated.stdout);
    }
    assert!(ok(&fixture, &["ca", "status", "-o", "json"]).stdout.contains("\"handover\": \"madeKnown\""));
    assert_eq!(fixture.fleet.calls(), ["revoke edge-1/edge-1-a", "rotate"]);
}
