//! Plans, changes and drains on real processes. What was there when is told by the workloads themselves: each writes
//! down when it begins and when it is asked to end, and a checker reads that history as a whole.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use codeco_protocol::api::{PlanView, PlannedAction};
use codeco_tests::{Fleet, Shape};

const CODECO: &str = env!("CARGO_BIN_EXE_codeco-under-test");
const SHAPE: Shape = Shape { clusters: 1, nodes: 3, lease_ms: 3_000 };

/// Services `single` (fence) and `free` (autonomous) of three copies each, which write their history into `history`: a
/// copy begins when its process was started, which is before it is ready, and ends when it has been told to.
fn app(history: &Path, version: u32) -> String {
    let service = |name: &str| {
        format!(
            "    - serviceName: {name}
      podspec:
        terminationGracePeriodSeconds: 5
        containers:
          - name: work
            command: [\"sh\", \"-c\"]
            args:
              - |
                tell() {{ echo \"$1 $2 $CODECO_SERVICE $CODECO_INDEX {version}\" >> {history}; }}
                ends() {{ read -r up _ < /proc/uptime; tell \"${{up%.*}}${{up#*.}}\" ends; }}
                trap 'ends; kill \"$pause\" 2>/dev/null; exit 0' TERM
                read -r stat < /proc/$$/stat; set -- $stat; shift 21; tell \"$1\" begins
                while :; do sleep 5 & pause=$!; wait \"$pause\"; done
            resources: {{requests: {{cpu: 10m, memory: 1Mi}}}}
",
            history = history.display()
        )
    };
    format!(
        "apiVersion: codeco.he-codeco.eu/v1alpha1
kind: CodecoApp
metadata: {{name: rolled}}
spec:
  codecoapp-msspec:
{}{}  placement:
    replicas: 3
    disruptionBudget: {{maxUnavailable: 1}}
    services:
      single: {{partitionPolicy: fence}}
      free: {{partitionPolicy: autonomous}}
",
        service("single"),
        service("free"),
    )
}

/// What a copy wrote: when (hundredths of a second since boot), whether it begins, its service and index, its version.
type Line = (u64, bool, String, u32, u32);

fn history(path: &Path) -> Vec<Line> {
    let text = fs::read_to_string(path).unwrap();
    let lines: Vec<Line> = text
        .lines()
        .map(|line| {
            let words: Vec<&str> = line.split(' ').collect();
            let number = |at: usize| words[at].parse::<u32>().unwrap();
            (words[0].parse().unwrap(), words[1] == "begins", words[2].to_owned(), number(3), number(4))
        })
        .collect();
    lines
}

/// Fewest copies of a service that were there at any time after all three had begun, counted by index; and most copies
/// of one index at a time. What happened within one tick of the clock is taken in the order that is no fault.
fn extremes(lines: &[Line], service: &str) -> (usize, i32) {
    let mut lines: Vec<&Line> = lines.iter().filter(|line| line.2 == service).collect();
    lines.sort_by_key(|(at, begins, ..)| (*at, !begins));
    let (mut there, mut complete, mut fewest) = (BTreeMap::<u32, i32>::new(), false, usize::MAX);
    for (_, begins, _, index, _) in &lines {
        *there.entry(*index).or_default() += if *begins { 1 } else { -1 };
        let present = there.values().filter(|count| **count > 0).count();
        complete |= present == 3;
        if complete {
            fewest = fewest.min(present);
        }
    }
    lines.sort_by_key(|(at, begins, ..)| (*at, *begins));
    let (mut there, mut most) = (BTreeMap::<u32, i32>::new(), 0);
    for (_, begins, _, index, _) in &lines {
        *there.entry(*index).or_default() += if *begins { 1 } else { -1 };
        most = most.max(there.values().copied().max().unwrap_or(0));
    }
    (fewest, most)
}

fn plan(fleet: &Fleet, file: &str) -> PlanView {
    let plans: Vec<PlanView> =
        serde_json::from_str(&fleet.codeco(&["plan", "-f", file, "-o", "json"]).unwrap()).unwrap();
    assert_eq!(plans.len(), 1);
    plans.into_iter().next().unwrap()
}

fn settled(fleet: &Fleet) -> BTreeMap<(String, u32), (String, String)> {
    fleet.settle(&[("rolled".to_owned(), 6)]).unwrap();
    let place = |r: codeco_protocol::api::ReplicaView| {
        let place = (r.cluster.unwrap().to_string(), r.node.unwrap().to_string());
        ((r.service.to_string(), r.index), place)
    };
    fleet.replicas().unwrap().into_iter().map(place).collect()
}

#[test]
fn service_changed_and_its_node_drained_never_has_fewer_copies_than_its_budget_allows() {
    let mut fleet = Fleet::start(CODECO, SHAPE).unwrap();
    let told = fleet.state().join("history");
    let first = fleet.write_manifest("first", &app(&told, 1)).unwrap();
    let planned = plan(&fleet, &first);
    assert!(planned.changes);
    assert!(planned.replicas.iter().all(|r| r.action == PlannedAction::Create), "{planned:#?}");
    assert!(fleet.apps().unwrap().is_empty(), "a plan changes nothing");
    fleet.codeco(&["apply", "-f", &first]).unwrap();
    let placed = settled(&fleet);
    let clusters: BTreeSet<_> =
        planned.replicas.iter().map(|r| r.cluster.as_ref().unwrap().to_string()).collect();
    assert_eq!(clusters, placed.values().map(|(cluster, _)| cluster.clone()).collect());
    let nodes = |nodes: &mut dyn Iterator<Item = String>| {
        nodes.fold(BTreeMap::<String, u32>::new(), |mut counts, node| {
            *counts.entry(node).or_default() += 1;
            counts
        })
    };
    assert_eq!(
        nodes(&mut planned.replicas.iter().map(|r| r.node.as_ref().unwrap().to_string())),
        nodes(&mut placed.values().map(|(_, node)| node.clone())),
        "as many on each node as planned"
    );
    assert!(!plan(&fleet, &first).changes, "applied, so nothing is left to do");

    let second = fleet.write_manifest("second", &app(&told, 2)).unwrap();
    let planned = plan(&fleet, &second);
    assert!(
        planned.changes && planned.replicas.iter().all(|r| r.action == PlannedAction::Change),
        "{planned:#?}"
    );
    fleet.codeco(&["apply", "-f", &second]).unwrap();
    fleet
        .until("every copy is of the second version", |_| {
            let lines = history(&told);
            let new = lines.iter().filter(|line| line.1 && line.4 == 2).map(|line| (&line.2, line.3));
            let new: BTreeSet<_> = new.collect();
            if new.len() == 6 { Ok(()) } else { Err(format!("{new:?}")) }
        })
        .unwrap();
    let placed = settled(&fleet);

    let node = placed[&("free".to_owned(), 0)].1.clone();
    let name = fleet.nodes().unwrap().into_iter().find(|n| n.name.as_str() == node).unwrap();
    let name = format!("{}/{}", name.cluster, name.name);
    let said = fleet.codeco(&["drain", &name, "--timeout", "60"]).unwrap();
    assert!(said.trim_end().ends_with(&format!("node/{name} drained")), "{said}");
    let after = settled(&fleet);
    assert!(after.values().all(|(_, on)| *on != node), "{after:?}");
    fleet.codeco(&["uncordon", &name]).unwrap();

    let lines = history(&told);
    for service in ["single", "free"] {
        let (fewest, most) = extremes(&lines, service);
        assert!(fewest >= 2, "{service}: {fewest} of 3 at one time, the budget is 1: {lines:#?}");
        if service == "single" {
            assert_eq!(most, 1, "a fence service never runs twice: {lines:#?}");
        } else {
            assert_eq!(
                fewest, 3,
                "the next copy of an autonomous service is there before the last one ends: {lines:#?}"
            );
        }
    }
    assert_eq!(fleet.stop().unwrap(), Vec::<String>::new());
}

#[test]
fn application_that_fits_nowhere_is_told_why_and_what_would_make_it_fit() {
    let mut fleet = Fleet::start(CODECO, SHAPE).unwrap();
    let text = app(&fleet.state().join("history"), 1);
    let large = text.replace("cpu: 10m", "cpu: 4000");
    let file = fleet.write_manifest("large", &large).unwrap();
    let planned = plan(&fleet, &file);
    assert!(planned.replicas.iter().all(|r| r.action == PlannedAction::Wait), "{planned:#?}");
    let reason = &planned.replicas[0].reason;
    assert!(reason.starts_with("3 candidates: 3 have less than 4000 cpu free (largest free: "), "{reason}");
    assert!(reason.contains("; it would fit with cpu: "), "{reason}");
    let labelled = text.replace("replicas: 3\n", "replicas: 3\n    nodeSelector: {disk: nvme}\n");
    let file = fleet.write_manifest("labelled", &labelled).unwrap();
    let reason = &plan(&fleet, &file).replicas[0].reason;
    let expected =
        "3 candidates: 3 lack label disk=nvme; it would fit with one node with label disk=nvme and ";
    assert!(reason.starts_with(expected), "{reason}");
    let applied = fleet.begin(&["apply", "-f", &file]).unwrap().wait_with_output().unwrap();
    let warned = String::from_utf8_lossy(&applied.stderr).into_owned();
    assert!(warned.contains("no node can take it now: 3 candidates: 3 lack label disk=nvme"), "{warned}");
    assert_eq!(fleet.stop().unwrap(), Vec::<String>::new());
}
