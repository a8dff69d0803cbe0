//! A node that is stopped is known to be gone at once, and stays a member: it may come back, as after an upgrade. One
//! that leaves by an operator's word is a member no more, and nobody waits to miss it.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use codeco_protocol::api::{ClusterView, EventView};
use codeco_tests::{Fleet, Shape, Watch, app, until};
use rustix::process::{Pid, Signal, kill_process};

const CODECO: &str = env!("CARGO_BIN_EXE_codeco-under-test");
const LAST: usize = 2;

fn nodes(fleet: &Fleet) -> Vec<String> {
    fleet.nodes().unwrap().iter().map(|node| node.name.to_string()).collect()
}

/// What members tell of node-3 under a reason.
fn told(fleet: &Fleet, reason: &str) -> Vec<String> {
    let events: Vec<EventView> = fleet.get("events").unwrap();
    let of_it = |event: &&EventView| event.reason == reason && event.object.name.ends_with("node-3");
    events.iter().filter(of_it).map(|event| event.message.clone()).collect()
}

#[test]
fn node_that_is_restarted_stays_a_member_and_one_that_leaves_is_none_at_once() {
    let mut fleet = Fleet::start(CODECO, Shape { clusters: 1, nodes: 3, lease_ms: 5_000 }).unwrap();
    let file = fleet.write_manifest("alpha", &app("alpha", 3, 3)).unwrap();
    fleet.codeco(&["apply", "-f", &file]).unwrap();
    let wanted = [("alpha".to_owned(), 6)];
    fleet.settle(&wanted).unwrap();
    let watch = Watch::start(fleet.state());

    // As for an upgrade: it says good-bye, nobody has to miss it, and it is waited for.
    let pid = fleet.local.agents()[LAST].pid().unwrap();
    kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), Signal::TERM).unwrap();
    wait_for_its_end(&mut fleet);
    fleet
        .until("others to know that it is gone", |fleet| {
            let told = told(fleet, "MemberChanged");
            if told.iter().any(|said| said.starts_with("is left")) {
                Ok(())
            } else {
                Err(format!("{told:?}"))
            }
        })
        .unwrap();
    assert_eq!(nodes(&fleet), ["node-1", "node-2", "node-3"], "who is restarted stays a member");
    fleet.local.start_agent(LAST).unwrap();
    fleet.local.wait_agent(LAST).unwrap();
    fleet.settle(&wanted).unwrap();
    assert_eq!(told(&fleet, "NodeForgotten"), Vec::<String>::new());

    // For good: only once it has nothing left and is given nothing more.
    let refused = fleet.codeco(&["node", "leave", "edge-1/node-3"]).unwrap_err().to_string();
    assert!(
        refused.contains("[node-not-left]") && refused.contains("codeco drain edge-1/node-3"),
        "{refused}"
    );
    assert!(fleet.local.reap().is_empty(), "nothing was changed");
    fleet.codeco(&["drain", "edge-1/node-3"]).unwrap();
    let said = fleet.codeco(&["node", "leave", "edge-1/node-3"]).unwrap();
    assert_eq!(said, "node/edge-1/node-3 left\n");
    wait_for_its_end(&mut fleet);
    assert_eq!(nodes(&fleet), ["node-1", "node-2"]);
    assert!(!told(&fleet, "NodeForgotten").is_empty());
    let dead: Vec<String> =
        told(&fleet, "MemberChanged").into_iter().filter(|said| said.starts_with("is dead")).collect();
    assert_eq!(dead, Vec::<String>::new(), "who says good-bye is never missed");
    fleet.settle(&wanted).unwrap();
    // Two of three voters are left, if not only the lead: without it the cluster would have no lead for ever.
    let clusters: Vec<ClusterView> = fleet.get("clusters").unwrap();
    let lead = format!("edge-1/{}", clusters[0].lead.as_ref().unwrap());
    let refused = fleet.codeco(&["node", "leave", &lead]).unwrap_err().to_string();
    assert!(refused.contains("[node-not-left]") && refused.contains("are no majority"), "{refused}");
    let watched = watch.end();
    assert!(watched.seen > 0, "a watch that sees nothing proves nothing");
    assert_eq!(watched.doubles, BTreeSet::new());
}

/// Waits until the last agent has ended by itself, and well.
fn wait_for_its_end(fleet: &mut Fleet) {
    until("the agent has ended by itself", || {
        let died = fleet.local.reap();
        if died.iter().any(|died| died.agent == Some(LAST) && died.status.success()) {
            Ok(())
        } else {
            Err(format!("{died:?}"))
        }
    })
    .unwrap();
}
