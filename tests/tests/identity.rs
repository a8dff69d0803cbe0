//! Identity to the end, with real processes: clusters that renew their own certificates, members that come back with an
//! expired one, wall clocks that are wrong, revocation, and an authority that hands over to another.

#![allow(clippy::unwrap_used)]

#[path = "common/attacker.rs"]
#[allow(dead_code)]
mod attacker;
mod common;

use std::ffi::OsString;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use codeco_console::local::RuntimeKind;
use codeco_protocol::identity::Credentials;
use codeco_protocol::units::WallTime;
use codeco_tests::accounts::{audit, balance, histories};
use codeco_tests::{LedgerBook, Trouble, Watch, app, workloads};
use common::{Stage, until, workspace};
use serde_json::Value;

/// Life of certificates where it is short.
const LIFE: Duration = Duration::from_secs(30);
/// Life of certificates where a cluster is cut off.
const MINUTE: Duration = Duration::from_secs(60);
/// Longest wait for what takes several lives of a certificate; only a test that fails waits so long.
const LONG: Duration = Duration::from_secs(400);

fn short_lived() -> Vec<OsString> {
    lived(LIFE)
}

fn lived(life: Duration) -> Vec<OsString> {
    vec!["--certificate-seconds".into(), life.as_secs().to_string().into()]
}

fn wall_now() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

/// Looks until `look` says yes, for what takes long.
fn until_long<T>(what: &str, mut look: impl FnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + LONG;
    loop {
        match look() {
            Ok(found) => return found,
            Err(seen) => assert!(Instant::now() < deadline, "waited in vain for {what}; last seen: {seen}"),
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// The certificate an agent has on disk.
fn kept(state: &Path) -> Credentials {
    Credentials::load(&state.join("member.key"), &state.join("member.pem")).unwrap()
}

fn cert(stage: &Stage, member: &str) -> Value {
    let certs = stage.list(&["get", "certs"]);
    certs
        .iter()
        .find(|cert| cert["member"] == member)
        .cloned()
        .unwrap_or_else(|| panic!("{member}: {certs:#?}"))
}

fn node(stage: &Stage, member: &str) -> Value {
    let (cluster, name) = member.split_once('/').unwrap();
    let nodes = stage.list(&["get", "nodes"]);
    let found = nodes.iter().find(|node| node["cluster"] == cluster && node["name"] == name);
    found.cloned().unwrap_or_else(|| panic!("{member}: {nodes:#?}"))
}

fn raised(node: &Value, condition: &str) -> bool {
    let conditions = node["conditions"].as_array().unwrap();
    conditions.iter().any(|c| c["type"] == condition && c["status"] == "True")
}

fn disconnects(stage: &Stage, member: &str) -> usize {
    stage.log(member).lines().filter(|line| line.contains("disconnected")).count()
}

/// Nobody of a cluster that is cut off ever expires: it leads, places, and takes back who had expired.
#[test]
fn cluster_cut_off_for_twice_the_life_of_certificates_leads_places_and_takes_an_expired_agent_back() {
    let hub_args = lived(MINUTE);
    let mut stage = Stage::with_hub(1, 3, RuntimeKind::Simulated, Vec::new(), hub_args, |_| {});
    stage.apply(&workspace("deploy/examples/media-streaming.yaml"));
    let members = ["edge-1/node-1", "edge-1/node-2", "edge-1/node-3"];
    let lead = until("the lead to be made an issuer", || {
        let cert = cert(&stage, members[0]);
        if cert["issuesUntil"].is_u64() { Ok(cert) } else { Err(format!("{cert:#}")) }
    });
    assert_eq!(lead["issuer"], "authority");
    stage.event(members[0], "IssuerGranted", "while no hub can be reached", 1);
    let issuer = stage.agent(members[0]).state.join("issuer.pem");
    let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&issuer).unwrap());
    assert_eq!(mode & 0o777, 0o600);

    // Under load: everybody gets a fresh one, and nobody's connections or replicas notice.
    let tokens = stage.tokens();
    let before: Vec<usize> = members.iter().map(|member| disconnects(&stage, member)).collect();
    until_long("everybody to have renewed at the hub", || {
        let certs = stage.list(&["get", "certs", "--cluster", "edge-1"]);
        let renewed = certs.iter().filter(|cert| cert["renewals"].as_u64() >= Some(2)).count();
        if renewed == 3 { Ok(()) } else { Err(format!("{certs:#?}")) }
    });
    stage.must_be_undisturbed(&tokens, "renewals");
    let after: Vec<usize> = members.iter().map(|member| disconnects(&stage, member)).collect();
    assert_eq!(after, before, "a connection ended");

    let away = 2;
    let expires = kept(&stage.fleet.agents()[away].state).validity().not_after;
    stage.fleet.kill(Some(away));
    // No packet between the hub and anybody, also who starts again, for as long as it takes: it is healed below.
    stage.run(&["fault", "partition", "hub", "--for", "15m"]).ok();
    let cut = WallTime(wall_now());
    until_long("two lives of a certificate to pass", || {
        let begun: Vec<u64> =
            [0, 1].map(|at| kept(&stage.fleet.agents()[at].state).validity().not_before.0).to_vec();
        let late = cut.0 + 2 * u64::try_from(MINUTE.as_millis()).unwrap();
        if begun.iter().all(|begun| *begun > late) { Ok(()) } else { Err(format!("{begun:?} of {late}")) }
    });
    for at in [0, 1] {
        let chain = kept(&stage.fleet.agents()[at].state).summary().unwrap();
        let lead = kept(&stage.fleet.agents()[0].state).identity().id;
        assert_eq!(chain.issuer.expect("signed by the cluster's issuer").holder, lead);
    }
    assert!(expires.0 < wall_now(), "the one that was away has expired");
    assert_eq!(kept(&stage.fleet.agents()[away].state).validity().not_after, expires);
    stage.fleet.start_agent(away).unwrap();
    // Ready means that the lead has granted it a lease.
    if let Err(error) = stage.fleet.wait_agent(away) {
        panic!("{error}\n{}", stage.log(members[away]));
    }
    let renewed = kept(&stage.fleet.agents()[away].state);
    assert!(renewed.validity().not_after > expires);
    assert!(renewed.summary().unwrap().issuer.is_some(), "signed by the cluster's issuer");
    // What is new is placed inside, by the word of an agent.
    let inside = stage.folder().join("inside.yaml");
    std::fs::write(&inside, codeco_tests::app("inside", 1, 2)).unwrap();
    stage.run_at(0, &["apply", "-f", inside.to_str().unwrap()]).ok();
    until("the application inside to be ready", || {
        let ran = stage.run_at(0, &["get", "apps", "-o", "json"]);
        let list: Value = serde_json::from_str(&ran.stdout).unwrap_or_default();
        let apps = list["items"].as_array().cloned().unwrap_or_default();
        let here = apps.iter().find(|app| app["name"] == "inside");
        let ready = here.is_some_and(|app| app["replicasReady"] == app["replicasWanted"]);
        if ready { Ok(()) } else { Err(format!("{}{}", ran.stdout, ran.stderr)) }
    });

    stage.run(&["fault", "heal", "hub"]).ok();
    stage.nodes_ready();
    // The lead has placed elsewhere what was on the node that was away.
    let tokens_now = stage.replicas_ready();
    for (name, token) in &tokens {
        let moved = token.starts_with("edge-1/node-3 ");
        assert!(moved || tokens_now.get(name) == Some(token), "{name}: {token} became {tokens_now:?}");
    }
    until_long("everybody to renew at the hub again", || {
        let certs = stage.list(&["get", "certs", "--cluster", "edge-1"]);
        let here = certs.iter().filter(|cert| cert["issuer"] == "authority").count();
        if here == 3 { Ok(()) } else { Err(format!("{certs:#?}")) }
    });
}

/// All members of a cluster off for longer than certificates live, and no hub: it starts from what it has on disk.
#[test]
fn cluster_that_was_off_until_all_certificates_had_expired_starts_again_without_a_hub() {
    let mut stage = Stage::with_hub(1, 2, RuntimeKind::Simulated, Vec::new(), short_lived(), |_| {});
    stage.event("edge-1/node-1", "IssuerGranted", "while no hub can be reached", 1);
    for member in [Some(0), Some(1), None] {
        stage.fleet.kill(member);
    }
    let states: Vec<_> = stage.fleet.agents().iter().map(|agent| agent.state.clone()).collect();
    let ends = states.iter().map(|state| kept(state).validity().not_after.0).max().unwrap();
    until_long("the certificates to expire", || {
        let now = wall_now();
        if now > ends + 1_000 { Ok(()) } else { Err(format!("{} ms left", ends + 1_000 - now)) }
    });
    for at in [1, 0] {
        stage.fleet.start_agent(at).unwrap();
    }
    for at in [0, 1] {
        stage.fleet.wait_agent(at).unwrap();
        assert!(kept(&states[at]).validity().not_after.0 > ends, "node {at} has a fresh certificate");
    }
}

#[test]
fn node_that_returns_with_an_expired_certificate_is_flagged_renews_and_takes_work() {
    let mut stage = Stage::with_hub(1, 2, RuntimeKind::Simulated, Vec::new(), short_lived(), |_| {});
    stage.fleet.kill(Some(1));
    until_long("the certificate of node-2 to expire", || {
        let node = node(&stage, "edge-1/node-2");
        if raised(&node, "CertificateExpired") { Ok(()) } else { Err(format!("{node:#}")) }
    });
    let table = stage.run(&["get", "nodes"]).ok();
    assert!(table.contains("CertificateExpired"), "{table}");
    assert_eq!(cert(&stage, "edge-1/node-2")["state"], "Expired");
    stage.fleet.start_agent(1).unwrap();
    stage.fleet.wait_agent(1).unwrap();
    until("node-2 to be ready with a fresh certificate", || {
        let node = node(&stage, "edge-1/node-2");
        let good = node["status"] == "Ready" && !raised(&node, "CertificateExpired");
        if good { Ok(()) } else { Err(format!("{node:#}")) }
    });
    stage.event("edge-1/node-2", "CertificateRenewed", "a fresh certificate", 1);
}

/// The hub's clock is right, every node's starts in 1970.
#[test]
fn nodes_whose_clocks_start_in_1970_join_renew_take_work_and_are_flagged() {
    let off = (wall_now() / 1_000).to_string();
    let agent_args: Vec<OsString> = vec![format!("--wall-clock-off-by=-{off}").into()];
    let mut stage = Stage::with_hub(1, 2, RuntimeKind::Process, agent_args, short_lived(), |_| {});
    apply_both_kinds(&stage, "alpha");
    let state = stage.folder().join("fleet");
    let watch = Watch::start(&state);
    let tokens = stage.tokens();
    for member in ["edge-1/node-1", "edge-1/node-2"] {
        stage.event(member, "ClockUnknown", "set the clock", 1);
        assert!(raised(&node(&stage, member), "ClockUnknown"));
    }
    let table = stage.run(&["get", "nodes"]).ok();
    assert!(table.contains("Ready,ClockUnknown"), "{table}");
    until_long("everybody to have renewed", || {
        let certs = stage.list(&["get", "certs", "--cluster", "edge-1"]);
        let renewed = certs.iter().filter(|cert| cert["renewals"].as_u64() >= Some(2)).count();
        if renewed == 2 { Ok(()) } else { Err(format!("{certs:#?}")) }
    });
    stage.must_be_undisturbed(&tokens, "renewals by an unknown clock");
    // A later life is later, though the clock starts in 1970 again.
    stage.fleet.kill(Some(1));
    stage.fleet.start_agent(1).unwrap();
    stage.fleet.wait_agent(1).unwrap();
    stage.nodes_ready();
    stage.replicas_ready();
    until("the accounts to balance", || {
        let (books, found) = audit(&state).unwrap();
        Trouble::unless_empty(found).unwrap();
        let found = balance(&books, &workloads(|mark| books.node_of(mark).is_some()));
        if found.is_empty() { Ok(()) } else { Err(found.join("; ")) }
    });
    let watched = watch.end();
    assert!(watched.seen > 0 && watched.doubles.is_empty(), "{watched:?}");
}

/// Two replicas that need a lease, and two that do not.
fn apply_both_kinds(stage: &Stage, name: &str) {
    let file = stage.folder().join(format!("{name}.yaml"));
    std::fs::write(&file, app(name, 2, 2)).unwrap();
    stage.apply(&file);
}

#[test]
fn node_that_was_revoked_is_cut_off_by_everybody_also_after_a_restart_and_nobody_else_is() {
    let mut stage = Stage::new(1, 3, RuntimeKind::Simulated);
    let viewer = stage.run(&["token", "create", "--api", "operator", "--name", "op"]).ok();
    stage.run_with(&["context", "add", "op"], &viewer).ok();
    let said = stage.run(&["cert", "revoke", "edge-1/node-3"]).failed(4);
    assert!(said.contains("admin"), "{said}");
    stage.run(&["context", "use", "admin"]).ok();
    let said = stage.run(&["cert", "revoke", "edge-1/node-9"]).failed(3);
    assert!(said.contains("edge-1/node-9") && said.contains("get certs"), "{said}");

    let said = stage.run(&["cert", "revoke", "edge-1/node-3"]).ok();
    assert!(said.contains("edge-1/node-3") && said.contains("revoked"), "{said}");
    stage.event("hub", "Revoked", "edge-1/node-3", 1);
    for member in ["hub", "edge-1/node-1", "edge-1/node-2"] {
        stage.event(member, "ConnectionRefused", "revoked", 1);
    }
    until("all others to go by the list", || {
        let certs = stage.list(&["get", "certs"]);
        let others = certs.iter().filter(|cert| cert["member"] != "edge-1/node-3");
        let behind: Vec<_> = others.filter(|cert| cert["trust"] != 1).collect();
        if behind.is_empty() { Ok(()) } else { Err(format!("{behind:#?}")) }
    });
    assert_eq!(cert(&stage, "edge-1/node-3")["state"], "Revoked");
    until("node-3 to be unknown", || {
        let node = node(&stage, "edge-1/node-3");
        let gone = node["ready"] == false && raised(&node, "CertificateRevoked");
        if gone { Ok(()) } else { Err(format!("{node:#}")) }
    });
    let again = stage.run(&["cert", "revoke", "edge-1/node-3"]).ok();
    assert!(again.contains("was revoked before"), "{again}");

    // The list is on every disk: after a restart of all, the revoked one is refused as before.
    stage.fleet.kill(None);
    for at in 0..3 {
        stage.fleet.kill(Some(at));
    }
    stage.fleet.start_hub().unwrap();
    stage.fleet.wait_hub().unwrap();
    for at in 0..3 {
        stage.fleet.start_agent(at).unwrap();
    }
    for at in 0..2 {
        stage.fleet.wait_agent(at).unwrap();
    }
    for member in ["hub", "edge-1/node-1"] {
        until(&format!("{member} to refuse it"), || {
            let refused = "codeco_transport_refusals_total{reason=\"revoked\"}";
            match stage.metric(member, refused) {
                counted if counted >= 1.0 => Ok(()),
                counted => Err(counted.to_string()),
            }
        });
    }
    let nodes = stage.list(&["get", "nodes"]);
    let ready: Vec<_> = nodes.iter().filter(|node| node["ready"] == true).map(|node| &node["name"]).collect();
    assert_eq!(ready, ["node-1", "node-2"]);
}

#[test]
fn authority_hands_over_to_another_without_a_connection_or_a_replica_lost() {
    let mut stage = Stage::new(2, 2, RuntimeKind::Simulated);
    stage.apply(&workspace("deploy/examples/media-streaming.yaml"));
    let tokens = stage.tokens();
    let members = ["hub", "edge-1/node-1", "edge-1/node-2", "edge-2/node-1", "edge-2/node-2"];
    let before: Vec<usize> = members.iter().map(|member| disconnects(&stage, member)).collect();
    let ca = |stage: &Stage, arguments: &[&str]| -> Value {
        let mut all = arguments.to_vec();
        all.extend(["-o", "json"]);
        serde_json::from_str(&stage.run(&all).ok()).unwrap()
    };
    let old = ca(&stage, &["ca", "status"]);
    assert_eq!((old["handover"].as_str(), old["trusted"].as_array().unwrap().len()), (Some("none"), 1));
    let begun = ca(&stage, &["ca", "rotate"]);
    assert_eq!(begun["trusted"].as_array().unwrap().len(), 2, "{begun:#}");
    let new = until("the hand-over to be over", || {
        let now = ca(&stage, &["ca", "status"]);
        if now["handover"] == "none" { Ok(now) } else { Err(format!("{now:#}")) }
    });
    assert_ne!(new["authority"], old["authority"]);
    assert_eq!(new["trusted"], serde_json::json!([new["authority"]]));
    for cert in stage.list(&["get", "certs"]) {
        assert_eq!(cert["authority"], new["authority"], "{cert:#}");
    }
    stage.event("hub", "AuthorityHandover", "the old one is trusted no more", 1);
    stage.must_be_undisturbed(&tokens, "the hand-over");
    let after: Vec<usize> = members.iter().map(|member| disconnects(&stage, member)).collect();
    assert_eq!(after, before, "a connection ended");
    let folder = stage.fleet.hub_state().join("ca");
    for gone in ["former.pem", "next.pem"] {
        assert!(!folder.join(gone).exists(), "{gone} is still there");
    }

    // Restarted processes and new ones know the successor alone.
    stage.fleet.kill(None);
    stage.fleet.kill(Some(3));
    std::fs::remove_dir_all(&stage.fleet.agents()[3].state).unwrap();
    stage.fleet.start_hub().unwrap();
    stage.fleet.wait_hub().unwrap();
    stage.fleet.start_agent(3).unwrap();
    stage.fleet.wait_agent(3).unwrap();
    stage.replicas_ready();
}

/// A machine's disk was copied, and both copies run: the later life counts, and everybody can see that there are two.
#[test]
fn node_whose_disk_was_copied_is_superseded_by_the_later_process_and_both_are_visible() {
    let stage = Stage::new(1, 2, RuntimeKind::Simulated);
    apply_both_kinds(&stage, "alpha");
    let original = &stage.fleet.agents()[1];
    let copy = stage.folder().join("copy");
    copy_folder(&original.state, &copy);
    let free = || std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (udp, http) = (free(), free());
    let pairs = [
        ("--state", copy.display().to_string()),
        ("--name", "node-2".to_owned()),
        ("--api", "none".to_owned()),
        ("--listen", udp.to_string()),
        ("--http", http.to_string()),
        ("--hub", stage.udp("hub").to_string()),
        ("--runtime", "simulated".to_owned()),
        ("--cpu", "4".to_owned()),
        ("--memory", "4Gi".to_owned()),
    ];
    let log = std::fs::File::create(stage.folder().join("copy.log")).unwrap();
    let mut process = std::process::Command::new(common::program())
        .arg("agent")
        .args(pairs.iter().flat_map(|(flag, value)| [(*flag).to_owned(), value.clone()]))
        .env("CODECO_EXIT_WITH_STDIN", "true")
        .env_remove("CODECO_JOIN")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap();
    let id = kept(&original.state).identity().to_string();
    for member in ["hub", "edge-1/node-1"] {
        let told = stage.event(member, "ConnectionRefused", "superseded: ", 2);
        let said = told["message"].as_str().unwrap();
        assert!(said.contains(&id) && said.contains("copy of the other's disk"), "{said}");
    }
    until("the later process to be the node", || {
        let node = node(&stage, "edge-1/node-2");
        let here = node["address"] == udp.to_string() && node["status"] == "Ready";
        if here { Ok(()) } else { Err(format!("{node:#}")) }
    });
    assert_eq!(stage.list(&["get", "nodes"]).len(), 2);
    // Somebody else could take it all.
    stage.run(&["cordon", "edge-1/node-1"]).ok();
    apply_both_kinds(&stage, "beta");
    // Both have written on from where the disk was copied: nothing was promised by both, nor twice by anybody.
    let (books, found) = audit(&stage.folder().join("fleet")).unwrap();
    Trouble::unless_empty(found).unwrap();
    let (_, first) = books.ledgers.iter().find(|(node, _)| node.ends_with("node-2")).unwrap();
    let mut second = LedgerBook::read(&copy, "edge-1".to_owned()).unwrap();
    let shared = first.records.iter().zip(&second.records).take_while(|(a, b)| a == b).count();
    second.records.drain(..shared);
    assert!(!second.committed().is_empty(), "the later process has been given work, as the node");
    let mut both = books.clone();
    both.ledgers.insert("copy".to_owned(), second);
    Trouble::unless_empty(histories(&both)).unwrap();
    drop(process.stdin.take());
    process.wait().unwrap();
}

/// All but locks and sockets.
fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (kind, target) = (entry.file_type().unwrap(), to.join(entry.file_name()));
        if kind.is_dir() {
            copy_folder(&entry.path(), &target);
        } else if kind.is_file() && entry.file_name() != "lock" {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}
