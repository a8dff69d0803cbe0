//! Hub, lead, all processes at once are killed with SIGKILL. Each comes back to the same state, and nothing is started
//! again that need not be.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};

use codeco_tests::{Books, FENCED, Fleet, Shape, Watch, app};
use rustix::process::{Pid, Signal, kill_process};

const CODECO: &str = env!("CARGO_BIN_EXE_codeco-under-test");
/// Longer than any restart here takes, so that no lease ends meanwhile.
const LEASE_MS: u64 = 20_000;

/// What must be the same afterwards.
#[derive(Debug, Clone, PartialEq, Eq)]
struct State {
    /// Name, uid and generation of each application.
    apps: BTreeSet<(String, String, u64)>,
    /// Cluster, node, mandate and token of each replica.
    replicas: BTreeMap<String, (String, String, u64, String)>,
    /// Process of each replica.
    pids: BTreeMap<String, Option<u32>>,
    /// What each node holds, on disk.
    held: BTreeMap<String, BTreeSet<String>>,
}

fn state(fleet: &Fleet, books: &Books) -> State {
    let apps = fleet.apps().unwrap().into_iter();
    let replicas = fleet.replicas().unwrap();
    let key = |r: &codeco_protocol::api::ReplicaView| format!("{}/{}-{}", r.app, r.service, r.index);
    State {
        apps: apps.map(|app| (app.name.to_string(), app.uid.to_string(), app.generation)).collect(),
        replicas: replicas
            .iter()
            .map(|r| {
                let place = (r.cluster.as_ref().unwrap().to_string(), r.node.as_ref().unwrap().to_string());
                (key(r), (place.0, place.1, r.mandate.unwrap(), r.token.clone().unwrap()))
            })
            .collect(),
        pids: replicas.iter().map(|r| (key(r), r.pid)).collect(),
        held: books
            .ledgers
            .iter()
            .map(|(node, book)| {
                let held = book.held.iter().map(|(replica, (token, _))| format!("{replica} under {token}"));
                (node.clone(), held.collect())
            })
            .collect(),
    }
}

/// Starts hub and agents that do not run, and waits for the fleet to be at rest and seen to be so.
fn come_back(fleet: &mut Fleet) -> State {
    if fleet.local.hub_pid().is_none() {
        fleet.local.start_hub().unwrap();
    }
    for at in 0..fleet.local.agents().len() {
        if fleet.local.agents()[at].pid().is_none() {
            fleet.local.start_agent(at).unwrap();
        }
    }
    at_rest(fleet)
}

fn at_rest(fleet: &mut Fleet) -> State {
    fleet.local.wait_hub().unwrap();
    for at in 0..fleet.local.agents().len() {
        fleet.local.wait_agent(at).unwrap();
    }
    let books = fleet.settle(&[("alpha".to_owned(), 6), ("beta".to_owned(), 2)]).unwrap();
    fleet
        .until("every replica's process is known", |fleet| {
            let replicas = fleet.replicas().map_err(|e| e.to_string())?;
            if replicas.iter().all(|r| r.pid.is_some() && r.ready) {
                Ok(())
            } else {
                Err(format!("{replicas:#?}"))
            }
        })
        .unwrap();
    state(fleet, &books)
}

#[test]
fn members_killed_one_by_one_and_together_come_back_to_the_same_state() {
    let mut fleet = Fleet::start(CODECO, Shape { clusters: 2, nodes: 2, lease_ms: LEASE_MS }).unwrap();
    for (name, size) in [("alpha", (2, 2)), ("alpha", (3, 3)), ("beta", (1, 1))] {
        let file = fleet.write_manifest(name, &app(name, size.0, size.1)).unwrap();
        fleet.codeco(&["apply", "-f", &file]).unwrap();
    }
    let before = at_rest(&mut fleet);
    assert!(
        before.apps.iter().any(|(name, _, generation)| name == "alpha" && *generation == 2),
        "{before:?}"
    );
    assert!(before.replicas.keys().any(|name| name.contains(FENCED)), "{before:?}");
    let watch = Watch::start(fleet.state());

    fleet.local.kill(None);
    assert_eq!(come_back(&mut fleet), before, "after the hub was killed");

    let leads: Vec<usize> =
        (0..fleet.local.agents().len()).filter(|at| fleet.local.agents()[*at].name == "node-1").collect();
    for lead in &leads {
        fleet.local.kill(Some(*lead));
    }
    assert_eq!(come_back(&mut fleet), before, "after the leads were killed");

    let others: Vec<usize> = (0..fleet.local.agents().len()).filter(|at| !leads.contains(at)).collect();
    for other in others {
        fleet.local.kill(Some(other));
    }
    assert_eq!(come_back(&mut fleet), before, "after the other agents were killed");

    kill_all_members(&mut fleet);
    assert_eq!(come_back(&mut fleet), before, "after all were killed, but for the guards");

    kill_all_members(&mut fleet);
    fleet.kill_guards().unwrap();
    let after = come_back(&mut fleet);
    assert_eq!(
        State { pids: before.pids.clone(), ..after.clone() },
        before,
        "after all were killed, and the guards"
    );
    for (replica, pid) in &after.pids {
        assert_ne!(before.pids.get(replica), Some(pid), "{replica} died with its guard");
    }

    let watched = watch.end();
    assert!(watched.seen > 0, "a watch that sees nothing proves nothing");
    assert_eq!(watched.doubles, BTreeSet::new());
    assert_eq!(fleet.stop().unwrap(), Vec::<String>::new(), "left over after the fleet has stopped");
}

/// A guard that dies under its agent takes all of its node's work along. Nobody asks for that work again: it is promised,
/// so it has to run again by itself, under the tokens it had.
#[test]
fn guards_killed_under_their_agents_have_their_work_run_again() {
    let mut fleet = Fleet::start(CODECO, Shape { clusters: 2, nodes: 2, lease_ms: LEASE_MS }).unwrap();
    for (name, each) in [("alpha", 3), ("beta", 1)] {
        let file = fleet.write_manifest(name, &app(name, each, each)).unwrap();
        fleet.codeco(&["apply", "-f", &file]).unwrap();
    }
    let before = at_rest(&mut fleet);
    let watch = Watch::start(fleet.state());
    for guard in fleet.guards() {
        kill_process(Pid::from_raw(i32::try_from(guard).unwrap()).unwrap(), Signal::KILL).unwrap();
    }
    let came_back = fleet.until("every replica runs again", |fleet| {
        let replicas = fleet.replicas().map_err(|e| e.to_string())?;
        let old: BTreeSet<u32> = before.pids.values().copied().flatten().collect();
        let again =
            replicas.iter().filter(|r| r.ready && r.pid.is_some_and(|pid| !old.contains(&pid))).count();
        if again == before.pids.len() { Ok(()) } else { Err(format!("{again} in {replicas:#?}")) }
    });
    came_back.unwrap();
    let after = at_rest(&mut fleet);
    assert_eq!(
        State { pids: before.pids.clone(), ..after },
        before,
        "under the same tokens, on the same nodes"
    );
    let watched = watch.end();
    assert!(watched.seen > 0);
    assert_eq!(watched.doubles, BTreeSet::new());
    assert_eq!(fleet.stop().unwrap(), Vec::<String>::new());
}

fn kill_all_members(fleet: &mut Fleet) {
    fleet.local.kill(None);
    for at in 0..fleet.local.agents().len() {
        fleet.local.kill(Some(at));
    }
}
