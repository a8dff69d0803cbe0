//! What people look with, against a fleet of real processes: links measured and estimated, a member that dies, a port
//! that UDP does not reach, nodes by what their hosts are.

#![allow(clippy::unwrap_used)]

mod common;

use codeco_console::local::RuntimeKind;
use common::{Stage, until};
use serde_json::Value;

fn links(stage: &Stage, arguments: &[&str]) -> Vec<Value> {
    stage.list(&[&["get", "links"], arguments].concat())
}

fn link<'a>(links: &'a [Value], from: &str, to: &str) -> Option<&'a Value> {
    links.iter().find(|link| link["from"] == from && link["to"] == to)
}

#[test]
fn network_is_seen_as_it_is_and_its_faults_are_found() {
    let stage = Stage::with(
        2,
        2,
        RuntimeKind::Simulated,
        vec!["--data-source".into(), "camera-1=rtsp://10.0.0.9/1".into()],
        |_| {},
    );
    neighbours_are_measured_and_strangers_estimated(&stage);
    nodes_are_found_by_what_their_hosts_are(&stage);
    doctor_finds_nothing_wrong(&stage);
    delay_shows_where_it_was_injected(&stage);
    blocked_port_is_found(&stage);
    dead_member_is_down(&stage);
    dead_member_is_forgotten(&stage);
}

fn neighbours_are_measured_and_strangers_estimated(stage: &Stage) {
    until("neighbours to be measured and strangers estimated", || {
        let links = links(stage, &[]);
        for (from, to) in
            [("edge-1/node-1", "edge-1/node-2"), ("edge-2/node-2", "edge-2/node-1"), ("edge-1/node-2", "hub")]
        {
            let Some(link) = link(&links, from, to) else {
                return Err(format!("no {from} {to}: {links:#?}"));
            };
            let measured = link["source"] == "Measured" && link["status"] == "Up";
            if !measured || link["rttUs"].as_u64().is_none_or(|us| us == 0) {
                return Err(format!("{link:#}"));
            }
        }
        let Some(stranger) = link(&links, "edge-1/node-2", "edge-2/node-2") else {
            return Err(format!("{links:#?}"));
        };
        let estimated = stranger["source"] == "Estimated" && stranger["status"] == "Unmeasured";
        if estimated && stranger["rttUs"].as_u64().is_some() { Ok(()) } else { Err(format!("{stranger:#}")) }
    });
    let of_one = links(stage, &["--cluster", "edge-1", "--node", "node-1"]);
    let ends = |link: &Value| link["from"] == "edge-1/node-1" || link["to"] == "edge-1/node-1";
    assert!(!of_one.is_empty() && of_one.iter().all(ends), "{of_one:#?}");
    let table = stage.run(&["get", "links", "-o", "wide"]).ok();
    assert!(table.contains("estimated") && table.contains("measured") && table.contains('±'), "{table}");
}

fn nodes_are_found_by_what_their_hosts_are(stage: &Stage) {
    let here = std::env::consts::ARCH;
    let count = |selector: &str| stage.list(&["get", "nodes", "-l", selector]).len();
    until("all hosts to be known", || match count("fact/kernel") {
        4 => Ok(()),
        fewer => Err(format!("{fewer} of 4")),
    });
    assert_eq!(count(&format!("kubernetes.io/arch={here},data-source/camera-1,fact/runtime=simulated")), 4);
    assert_eq!(count("kubernetes.io/hostname in (node-1,node-9)"), 2);
    assert_eq!(count("kubernetes.io/hostname!=node-1,!missing"), 2);
    assert_eq!(count("data-source/camera-1!=rtsp://10.0.0.9/1"), 0);
    let text = stage.run(&["describe", "node/edge-1/node-1"]).ok();
    for word in ["Facts:", "kernel", "boot-id", "data-source/camera-1", "(declared, at most", "images"] {
        assert!(text.contains(word), "{word}: {text}");
    }
    stage.run(&["get", "nodes", "-l", "a in b"]).failed(2);
}

fn doctor_finds_nothing_wrong(stage: &Stage) {
    let view: Value = until("all members to be well", || {
        let ran = stage.run(&["doctor", "-o", "json"]);
        if ran.code == 0 { Ok(serde_json::from_str(&ran.stdout).unwrap()) } else { Err(ran.stdout) }
    });
    let checks = view["checks"].as_array().unwrap();
    for member in ["edge-1/node-1", "edge-1/node-2", "edge-2/node-1", "edge-2/node-2"] {
        let of: Vec<&str> = checks
            .iter()
            .filter(|check| check["member"] == member)
            .map(|check| check["check"].as_str().unwrap().split(' ').next().unwrap())
            .collect();
        for wanted in ["hub", "port", "links", "mtu", "certificate", "journal", "disk", "clock"] {
            assert!(of.contains(&wanted), "{member} without {wanted}: {of:?}");
        }
    }
    let by = |member: &str| checks.iter().filter(|check| check["member"] == member).count();
    assert!(by("hub") >= 4 && by("here") >= 3, "{checks:#?}");
}

fn delay_shows_where_it_was_injected(stage: &Stage) {
    let before = links(stage, &[]);
    let rtt =
        |links: &[Value], from: &str, to: &str| link(links, from, to).unwrap()["rttUs"].as_u64().unwrap();
    let other = ("edge-2/node-1", "edge-2/node-2");
    stage
        .run(&["fault", "delay", "edge-1/node-1", "--by", "80ms", "--from", "edge-1/node-2", "--for", "10m"])
        .ok();
    let after = until("the delay to be seen from both ends", || {
        let links = links(stage, &[]);
        let seen = |from, to| rtt(&links, from, to) > 60_000;
        let both = seen("edge-1/node-1", "edge-1/node-2") && seen("edge-1/node-2", "edge-1/node-1");
        if both { Ok(links.clone()) } else { Err(format!("{links:#?}")) }
    });
    assert!(
        rtt(&after, other.0, other.1) < 60_000,
        "nobody else is late: {:#?}",
        link(&before, other.0, other.1)
    );
    stage.run(&["fault", "heal", "edge-1/node-1"]).ok();
    until("the delay to be over", || {
        let links = links(stage, &[]);
        let now = rtt(&links, "edge-1/node-1", "edge-1/node-2");
        if now < 30_000 { Ok(()) } else { Err(format!("{now} µs")) }
    });
}

fn blocked_port_is_found(stage: &Stage) {
    // Nothing comes in at the hub's UDP port; its API goes on answering.
    stage.run(&["fault", "partition", "hub", "--only", "inbound", "--for", "10m"]).ok();
    let hub = format!("hub {}", stage.udp("hub"));
    let said = until("doctor to find the blocked port", || {
        let ran = stage.run(&["doctor"]);
        let found = |line: &str| {
            line.starts_with("FAILED")
                && line.contains("here")
                && line.contains(&hub)
                && line.contains("none was answered")
        };
        if ran.code == 1 && ran.stdout.lines().any(found) { Ok(ran.stdout) } else { Err(ran.stdout) }
    });
    assert!(said.contains("next: here hub") && said.contains("allow UDP to"), "{said}");
    stage.run(&["fault", "heal", "hub"]).ok();
    until("all to be well again", || {
        let ran = stage.run(&["doctor"]);
        if ran.code == 0 { Ok(()) } else { Err(ran.stdout) }
    });
}

fn dead_member_is_down(stage: &Stage) {
    let alive = stage.run(&["node", "forget", "edge-2/node-2", "--force"]).failed(1);
    assert!(alive.contains("it still answers") && alive.contains("[node-not-forgotten]"), "{alive}");
    stage.run(&["fault", "kill", "edge-2/node-2"]).ok();
    until("the dead one to be down as its neighbour sees it", || {
        let links = links(stage, &[]);
        let Some(down) = link(&links, "edge-2/node-1", "edge-2/node-2") else {
            return Err(format!("{links:#?}"));
        };
        let told = down["status"] == "Down" && down["rttUs"].is_null();
        if told { Ok(()) } else { Err(format!("{down:#}")) }
    });
    let ran = stage.run(&["doctor", "--cluster", "edge-2", "-o", "json"]);
    let said = ran.stdout.clone();
    assert!(
        ran.code == 1 && said.contains("edge-2/node-2"),
        "a member that does not answer is a finding: {said}"
    );
}

fn dead_member_is_forgotten(stage: &Stage) {
    until("the dead one to be forgotten", || {
        let ran = stage.run(&["node", "forget", "edge-2/node-2"]);
        if ran.code == 0 { Ok(()) } else { Err(ran.stderr) }
    });
    let nodes = || -> Vec<String> {
        let nodes = stage.list(&["get", "nodes", "--cluster", "edge-2"]);
        nodes.iter().map(|node| node["name"].as_str().unwrap().to_owned()).collect()
    };
    until("nobody to know it any more", || {
        let cluster = stage.list(&["get", "clusters", "--cluster", "edge-2"]);
        let links = links(stage, &["--cluster", "edge-2"]);
        let of_it = |link: &&Value| link["to"] == "edge-2/node-2" || link["from"] == "edge-2/node-2";
        let told: Vec<&Value> = links.iter().filter(of_it).collect();
        let gone = nodes() == ["node-1"]
            && cluster[0]["nodes"] == 1
            && cluster[0]["status"] == "Ready"
            && told.is_empty();
        if gone { Ok(()) } else { Err(format!("{:?} {cluster:#?} {told:#?}", nodes())) }
    });
    stage.event("edge-2/node-1", "NodeForgotten", "edge-2/node-2", 1);
    stage.run(&["node", "forget", "edge-2/node-2"]).failed(3);
    let ran = stage.run(&["doctor", "--cluster", "edge-2"]);
    assert_eq!(ran.code, 0, "what is forgotten is not missed: {}", ran.stdout);
}
