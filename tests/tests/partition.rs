//! One cluster is cut off for a while. What must run once stops there before it starts elsewhere; what may run twice does,
//! until both copies are heard of, and then the declared one stays; everything else is left alone.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use codeco_protocol::api::{EventView, ReplicaView};
use codeco_tests::{Books, Fleet, Shape, Watch, app, workloads};

const CODECO: &str = env!("CARGO_BIN_EXE_codeco-under-test");
const LEASE_MS: u64 = 2_000;

fn key(row: &ReplicaView) -> String {
    format!("{}/{}-{}", row.app, row.service, row.index)
}

/// Cluster, token and process of each ready copy with a mandate.
fn places(rows: &[ReplicaView]) -> Places {
    let ready = rows.iter().filter(|row| row.ready && row.mandate.is_some());
    ready
        .map(|row| {
            let cluster = row.cluster.as_ref().unwrap().to_string();
            (key(row), (cluster, row.token.clone().unwrap(), row.pid))
        })
        .collect()
}

type Places = BTreeMap<String, (String, String, Option<u32>)>;

fn settled(fleet: &Fleet, what: &str, wanted: usize) -> Places {
    let found = fleet.until(what, |fleet| {
        let rows = fleet.replicas().map_err(|e| e.to_string())?;
        let places = places(&rows);
        if places.len() == wanted { Ok(places) } else { Err(format!("{rows:#?}")) }
    });
    found.unwrap()
}

/// Processes of a service, on all nodes.
fn processes(fleet: &Fleet, service: &str) -> Vec<(String, u32)> {
    let books = Books::read(fleet.state()).unwrap();
    let ours = workloads(|mark| books.node_of(mark).is_some());
    let of_service = ours.iter().filter(|process| process.replica.contains(service));
    let mut found: Vec<(String, u32)> = of_service
        .map(|process| (books.node_of(&process.guard).unwrap().0.to_owned(), process.group))
        .collect();
    found.sort();
    found.dedup();
    found
}

#[test]
fn cluster_cut_off_keeps_what_it_may_and_gives_up_what_it_must_before_others_take_it() {
    let mut fleet =
        Fleet::start_with(CODECO, Shape { clusters: 2, nodes: 1, lease_ms: LEASE_MS }, true).unwrap();
    let mut manifest = app("cut", 2, 2);
    manifest = manifest.replace("partitionPolicy: fence", "partitionPolicy: fence, lostAfter: 6s");
    manifest = manifest.replace(
        "partitionPolicy: autonomous",
        "partitionPolicy: autonomous, lostAfter: 6s, onReconnect: keepOriginal",
    );
    manifest = manifest.replace("  placement:\n", "  placement:\n    spread: {maxPerCluster: 2}\n");
    let file = fleet.write_manifest("cut", &manifest).unwrap();
    let keep = fleet.write_manifest("keep", &app("keep", 2, 2)).unwrap();
    fleet.codeco(&["apply", "-f", &file]).unwrap();
    fleet.codeco(&["apply", "-f", &keep]).unwrap();
    let before = settled(&fleet, "every replica is ready", 8);
    let away = |service: &str| {
        before.iter().filter(|(key, (at, ..))| key.contains(service) && at == "edge-2").count()
    };
    let (fenced, free) = (away("cut/single"), away("cut/free"));
    assert!(fenced > 0 && free > 0, "something of both kinds is to be cut off: {before:#?}");
    let watch = Watch::start(fleet.state());
    let copies = processes(&fleet, "free").len();

    fleet.codeco(&["fault", "partition", "cluster/edge-2", "--for", "45s"]).unwrap();
    // Inside: a failed copy is started again, and a new application is placed.
    let victim = before.iter().find(|(key, (at, ..))| key.contains("cut/free") && at == "edge-2").unwrap();
    let pid = rustix::process::Pid::from_raw(i32::try_from(victim.1.2.unwrap()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    let inside = fleet.write_manifest("inside", &app("inside", 1, 1)).unwrap();
    fleet.codeco_at(1, &["apply", "-f", &inside]).unwrap();

    // Outside: what must run once runs in the other cluster, once it has stopped in the first.
    fleet
        .until("all fenced replicas with lostAfter are elsewhere", |fleet| {
            let rows = fleet.replicas().map_err(|e| e.to_string())?;
            let places = places(&rows);
            let mut singles = places.iter().filter(|(key, _)| key.starts_with("cut/single"));
            let moved = singles.clone().count() == 2 && singles.all(|(_, (at, ..))| at == "edge-1");
            if moved { Ok(()) } else { Err(format!("{rows:#?}")) }
        })
        .unwrap();
    fleet
        .until("a second copy of what may run twice, and the application inside, run", |fleet| {
            let found = processes(fleet, "free");
            let wanted = copies + free + 1;
            if found.len() == wanted { Ok(()) } else { Err(format!("{found:?}, expected {wanted}")) }
        })
        .unwrap();
    // Healed: the original of two copies stays, the other goes; nothing else is touched.
    let wanted = copies + 1;
    fleet
        .until("one copy of each is left", |fleet| {
            let found = processes(fleet, "free");
            if found.len() == wanted { Ok(()) } else { Err(format!("{found:?}, expected {wanted}")) }
        })
        .unwrap();
    let after = settled(&fleet, "every replica is ready again", 10);
    for (replica, (cluster, token, pid)) in &before {
        let now = &after[replica];
        if replica.starts_with("cut/single") {
            assert_eq!(now.0, "edge-1", "{replica} stays where it went");
        } else {
            assert_eq!((&now.0, &now.1), (cluster, token), "{replica} was touched");
            assert!(replica == victim.0 || now.2 == *pid, "{replica} was started again");
        }
    }
    let watched = watch.end();
    assert!(watched.looks > 0 && watched.seen > 0 && watched.doubles.is_empty(), "{watched:?}");
    let events: Vec<EventView> = fleet.get("events").unwrap();
    let first = |reason: &str| {
        let found = events.iter().filter(|event| event.reason == reason);
        found.map(|event| event.at).min().unwrap_or_else(|| panic!("no {reason} in {events:#?}"))
    };
    assert!(first("ClusterLost") < first("Reconciled"));
    let of_single = |reason: &str, text: &str| {
        let found = events.iter().filter(|e| e.reason == reason && e.object.name.starts_with("cut/single"));
        found.filter(|e| e.message.contains(text)).map(|e| e.at).max().unwrap()
    };
    // It stops there, counts as lost, starts elsewhere, and is given back when its first cluster is heard again.
    let (stopped, lost) = (of_single("HomeLost", ""), of_single("ClusterLost", "edge-2"));
    let (started, back) = (of_single("Accepted", "edge-1"), of_single("HandedBack", ""));
    assert!(stopped < lost && lost <= started && started < back, "{stopped:?} {lost:?} {started:?} {back:?}");
    let left = fleet.stop().unwrap();
    assert!(left.is_empty(), "{left:#?}");
}
