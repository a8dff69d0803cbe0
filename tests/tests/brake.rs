//! Most nodes of a cluster go missing at once: their lead moves nothing until they are back, or an operator says that they
//! are gone.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};

use codeco_protocol::api::{ClusterView, Condition, EventView};
use codeco_tests::{FENCED, Fleet, Shape, Watch, app};

const CODECO: &str = env!("CARGO_BIN_EXE_codeco-under-test");
const NODES: u32 = 7;

fn cluster(fleet: &Fleet) -> Result<ClusterView, String> {
    let clusters: Vec<ClusterView> = fleet.get("clusters").map_err(|e| e.to_string())?;
    clusters.into_iter().next().ok_or_else(|| "no cluster is known".to_owned())
}

fn braked(fleet: &Fleet, wanted: bool) -> Option<Condition> {
    let look = |fleet: &Fleet| {
        let cluster = cluster(fleet)?;
        let found = cluster.conditions.iter().find(|condition| condition.kind == "Braked").cloned();
        if found.is_some() == wanted { Ok(found) } else { Err(format!("{cluster:?}")) }
    };
    fleet.until(if wanted { "the brake" } else { "the end of the brake" }, look).unwrap()
}

fn events(fleet: &Fleet, reason: &str) -> Vec<EventView> {
    let events: Vec<EventView> = fleet.get("events").unwrap();
    events.into_iter().filter(|event| event.reason == reason).collect()
}

/// Process and node of each replica that needs no lease.
fn autonomous(fleet: &Fleet) -> BTreeMap<String, (String, u32)> {
    let replicas = fleet.replicas().unwrap().into_iter().filter(|r| !r.service.as_str().contains(FENCED));
    replicas
        .filter_map(|r| Some((format!("{}-{}", r.service, r.index), (r.node?.to_string(), r.pid?))))
        .collect()
}

/// Four of seven nodes that do not vote, so that the lead stays.
fn victims(fleet: &Fleet) -> Vec<(usize, String)> {
    let voters = fleet
        .until("three voters", |fleet| {
            let cluster = cluster(fleet)?;
            let voters = cluster.electorate.iter().flat_map(|electorate| &electorate.voters);
            let voters: BTreeSet<String> = voters.filter(|v| v.answers).map(|v| v.node.clone()).collect();
            if voters.len() == 3 { Ok(voters) } else { Err(format!("{cluster:?}")) }
        })
        .unwrap();
    let agents = fleet.local.agents().iter().enumerate();
    let found: Vec<_> =
        agents.filter(|(_, a)| !voters.contains(&a.name)).map(|(at, a)| (at, a.name.clone())).collect();
    assert_eq!(found.len(), 4, "{voters:?}");
    found
}

#[test]
fn cluster_that_misses_most_of_its_nodes_moves_nothing_until_they_are_back_or_an_operator_says_so() {
    let mut fleet = Fleet::start(CODECO, Shape { clusters: 1, nodes: NODES, lease_ms: 1_500 }).unwrap();
    let victims = victims(&fleet);
    let file = fleet.write_manifest("alpha", &app("alpha", 3, 7)).unwrap();
    fleet.codeco(&["apply", "-f", &file]).unwrap();
    fleet.settle(&[("alpha".to_owned(), 10)]).unwrap();
    let watch = Watch::start(fleet.state());
    let before = autonomous(&fleet);
    let away: BTreeSet<&String> = before
        .iter()
        .filter(|(_, (node, _))| victims.iter().any(|(_, name)| name == node))
        .map(|(replica, _)| replica)
        .collect();
    assert!(!away.is_empty(), "{before:?} on none of {victims:?}");

    for (at, _) in &victims {
        fleet.local.kill(Some(*at));
    }
    let condition = braked(&fleet, true).unwrap();
    assert!(condition.message.contains("4 of 7 nodes"), "{condition:?}");
    let name = cluster(&fleet).unwrap().name.to_string();
    let table = fleet.codeco(&["get", "clusters"]).unwrap();
    assert!(table.contains("Degraded,Braked"), "{table}");
    let described = fleet.codeco(&["describe", "cluster", &name]).unwrap();
    assert!(described.contains("Braked=True") && described.contains("BrakeEngaged"), "{described}");
    let why = fleet
        .until("explain tells of the brake", |fleet| {
            let told = fleet.codeco(&["explain", "app/alpha"]).map_err(|e| e.to_string())?;
            if told.contains("the brake is engaged") { Ok(told) } else { Err(told) }
        })
        .unwrap();
    assert!(why.contains(&format!("codeco brake release {name}")), "{why}");

    for (at, _) in &victims {
        fleet.local.start_agent(*at).unwrap();
    }
    for (at, _) in &victims {
        fleet.local.wait_agent(*at).unwrap();
    }
    braked(&fleet, false);
    fleet.settle(&[("alpha".to_owned(), 10)]).unwrap();
    assert_eq!(autonomous(&fleet), before, "what ran on runs on, where it was");
    let released = events(&fleet, "BrakeReleased");
    assert!(released.iter().any(|event| event.message.contains("enough nodes are back")), "{released:?}");

    // Now they are gone for good, as far as the operator knows. The word is given to a member that does not lead.
    for (at, _) in &victims {
        fleet.local.kill(Some(*at));
    }
    braked(&fleet, true);
    let lead = cluster(&fleet).unwrap().lead.unwrap().to_string();
    let other = fleet
        .local
        .agents()
        .iter()
        .position(|agent| agent.name != lead && victims.iter().all(|(_, name)| *name != agent.name));
    let said = fleet.codeco_at(other.unwrap(), &["brake", "release", &name]).unwrap();
    assert!(said.contains("brake released"), "{said}");
    braked(&fleet, false);
    fleet
        .until("all replicas are ready on the nodes that are left", |fleet| {
            let replicas = fleet.replicas().map_err(|e| e.to_string())?;
            let left = |node: &str| victims.iter().all(|(_, name)| name != node);
            let ready = |r: &&codeco_protocol::api::ReplicaView| {
                r.ready && r.node.as_ref().is_some_and(|node| left(node.as_str()))
            };
            let count = replicas.iter().filter(ready).count();
            if count == 10 { Ok(()) } else { Err(format!("{count} of 10: {replicas:?}")) }
        })
        .unwrap();
    let again = fleet.codeco(&["brake", "release", &name]).unwrap_err().to_string();
    assert!(again.contains("brake-not-engaged"), "{again}");

    for (at, _) in &victims {
        fleet.local.start_agent(*at).unwrap();
    }
    fleet.settle(&[("alpha".to_owned(), 10)]).unwrap();
    let watched = watch.end();
    assert!(watched.seen > 0, "a watch that sees nothing proves nothing");
    assert_eq!(watched.doubles, BTreeSet::new(), "nothing fenced has run twice");
    assert_eq!(fleet.stop().unwrap(), Vec::<String>::new());
}
