//! The hub is killed. What runs is not touched, clusters take new applications and place them over each other, and a hub
//! that comes back with nothing but its authority's key sees all of it.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use codeco_protocol::identity::{JoinToken, MemberKey, TrustClock};
use codeco_protocol::transport::{JoinConfig, JoinError, join_fleet};
use codeco_tests::accounts::{audit, balance, continued};
use codeco_tests::{Fleet, Shape, Trouble, app, workloads};

const CODECO: &str = env!("CARGO_BIN_EXE_codeco-under-test");
const LEASE_MS: u64 = 20_000;

/// Process and token of each ready replica, as the member that answers knows them.
fn running(fleet: &Fleet) -> Result<BTreeMap<String, (String, String)>, String> {
    let replicas = fleet.replicas().map_err(|e| e.to_string())?;
    let ready = replicas.into_iter().filter(|row| row.ready);
    Ok(ready
        .map(|row| {
            let key = format!("{}/{}-{}", row.app, row.service, row.index);
            (key, (row.cluster.unwrap().to_string(), row.token.unwrap()))
        })
        .collect())
}

fn until_ready(fleet: &Fleet, of: &[(&str, usize)]) -> BTreeMap<String, (String, String)> {
    let all = fleet.until("every replica is ready", |fleet| {
        let running = running(fleet)?;
        let count = |app: &str| running.keys().filter(|key| key.starts_with(&format!("{app}/"))).count();
        if of.iter().all(|(app, wanted)| count(app) == *wanted) {
            Ok(running)
        } else {
            Err(format!("{running:#?}"))
        }
    });
    all.unwrap()
}

fn try_token(fleet: &Fleet, text: &str) -> Result<(), JoinError> {
    let token: JoinToken = text.trim().parse().unwrap();
    let join = JoinConfig {
        bind: "127.0.0.1:0".parse().unwrap(),
        issuer: fleet.local.hub_udp(),
        token,
        clock: TrustClock::system(),
        deadline: Duration::from_secs(20),
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(join_fleet(&join, &MemberKey::generate().unwrap())).map(|_| ())
}

#[test]
fn fleet_whose_hub_is_killed_goes_on_and_a_hub_with_an_empty_disk_sees_it_all() {
    let mut fleet = Fleet::start(CODECO, Shape { clusters: 2, nodes: 2, lease_ms: LEASE_MS }).unwrap();
    let before_file = fleet.write_manifest("before", &app("before", 2, 2)).unwrap();
    fleet.codeco(&["apply", "-f", &before_file]).unwrap();
    let before = until_ready(&fleet, &[("before", 4)]);
    let spent = fleet.codeco(&["token", "create", "--cluster", "edge-1"]).unwrap();
    let spent = spent.split_whitespace().find(|word| word.parse::<JoinToken>().is_ok()).unwrap().to_owned();
    try_token(&fleet, &spent).unwrap();

    fleet.local.kill(None);
    // An agent answers: it shows what it speaks for, and takes what is new.
    let after_file = fleet.write_manifest("after", &app("after", 1, 3)).unwrap();
    let said = fleet.codeco(&["apply", "-f", &after_file]).unwrap();
    assert!(said.contains("created"), "{said}");
    let after = until_ready(&fleet, &[("after", 4)]);
    let clusters: std::collections::BTreeSet<&str> =
        after.values().map(|(cluster, _)| cluster.as_str()).collect();
    assert_eq!(clusters.len(), 2, "placed over all clusters that are reached: {after:#?}");

    // One application's home is the hub, whose disk is still there, the other's is an agent: together they account for
    // everything.
    let earlier = fleet.until("the accounts of both homes balance", |fleet| {
        let (books, found) = audit(fleet.state()).map_err(|e| e.to_string())?;
        Trouble::unless_empty(found).unwrap();
        let found = balance(&books, &workloads(|mark| books.node_of(mark).is_some()));
        if found.is_empty() { Ok(books) } else { Err(found.join("; ")) }
    });
    let earlier = earlier.unwrap();
    assert_eq!(earlier.home.replicas.len(), 8);

    // The hub comes back with its authority's key and nothing else.
    let state = fleet.local.hub_state();
    for entry in std::fs::read_dir(&state).unwrap().flatten().filter(|entry| entry.file_name() != "ca") {
        let path = entry.path();
        if path.is_dir() {
            std::fs::remove_dir_all(path).unwrap();
        } else {
            std::fs::remove_file(path).unwrap();
        }
    }
    fleet.local.start_hub().unwrap();
    fleet.local.wait_hub().unwrap();
    fleet.write_context().unwrap();
    let began = Instant::now();
    let seen = until_ready(&fleet, &[("after", 4), ("before", 4)]);
    println!("the full picture took {:?} from when the hub was ready", began.elapsed());
    for (replica, found) in before.iter().chain(&after) {
        assert_eq!(seen.get(replica), Some(found), "{replica} was touched");
    }
    let refused = try_token(&fleet, &spent).unwrap_err();
    assert!(matches!(refused, JoinError::Refused { .. }), "{refused}");
    let (books, found) = audit(fleet.state()).unwrap();
    Trouble::unless_empty([found, continued(&earlier, &books)].concat()).unwrap();
    let left = fleet.stop().unwrap();
    assert!(left.is_empty(), "{left:#?}");
}
