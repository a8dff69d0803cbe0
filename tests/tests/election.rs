//! The lead of a cluster is elected: it may be killed, cut down to a minority, or lose its disk, and the cluster goes on
//! as far as a majority of its voters allows.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use codeco_protocol::api::{ClusterView, EventView};
use codeco_tests::{Books, FENCED, Fleet, Shape, Trouble, Watch, app, until, workloads};

const CODECO: &str = env!("CARGO_BIN_EXE_codeco-under-test");

fn fleet(nodes: u32, lease_ms: u64) -> Fleet {
    let fleet = Fleet::start(CODECO, Shape { clusters: 1, nodes, lease_ms }).unwrap();
    voters(&fleet, 3, &[]);
    fleet
}

fn apply(fleet: &Fleet, name: &str, fenced: u32, free: u32) {
    let file = fleet.write_manifest(name, &app(name, fenced, free)).unwrap();
    fleet.codeco(&["apply", "-f", &file]).unwrap();
}

fn cluster(fleet: &Fleet) -> Result<ClusterView, String> {
    let clusters: Vec<ClusterView> = fleet.get("clusters").map_err(|e| e.to_string())?;
    clusters.into_iter().next().ok_or_else(|| "no cluster is known".to_owned())
}

/// Waits until so many vote and answer, none of them of these lives; returns them by node.
fn voters(fleet: &Fleet, count: usize, not: &[&str]) -> BTreeMap<String, String> {
    let look = |fleet: &Fleet| {
        let cluster = cluster(fleet)?;
        let Some(electorate) = &cluster.electorate else { return Err(format!("{cluster:?}")) };
        let voters: BTreeMap<String, String> = electorate
            .voters
            .iter()
            .filter(|voter| voter.answers)
            .map(|voter| (voter.node.clone(), voter.incarnation.to_string()))
            .collect();
        let all = voters.len() == count && electorate.voters.len() == count;
        let old = voters.values().any(|life| not.contains(&life.as_str()));
        if all && !old { Ok(voters) } else { Err(format!("{electorate:?}")) }
    };
    fleet.until(&format!("{count} voters"), look).unwrap()
}

/// Waits for a lead whose term is above `term`; returns its name and term.
fn lead_above(fleet: &Fleet, term: u64) -> (String, u64) {
    fleet
        .until("a lead of a later term", |fleet| {
            let cluster = cluster(fleet)?;
            match &cluster.lead {
                Some(lead) if cluster.term > term && cluster.nodes_ready > 0 => {
                    Ok((lead.to_string(), cluster.term))
                }
                _ => Err(format!("{cluster:?}")),
            }
        })
        .unwrap()
}

fn agent(fleet: &Fleet, name: &str) -> usize {
    fleet.local.agents().iter().position(|agent| agent.name == name).unwrap()
}

/// Process of each replica, by its name and node.
fn pids(fleet: &Fleet) -> BTreeMap<(String, String), u32> {
    let replicas = fleet.replicas().unwrap().into_iter();
    replicas
        .filter_map(|r| Some(((format!("{}/{}-{}", r.app, r.service, r.index), r.node?.to_string()), r.pid?)))
        .collect()
}

fn event(fleet: &Fleet, member: &str, reason: &str) -> Result<(), Trouble> {
    fleet.until(&format!("{reason} of {member}"), |fleet| {
        let events: Vec<EventView> = fleet.get("events").map_err(|e| e.to_string())?;
        let there = events.iter().any(|e| e.member.ends_with(member) && e.reason == reason);
        if there { Ok(()) } else { Err(format!("{} other events", events.len())) }
    })
}

#[test]
fn lead_killed_another_member_leads_and_what_runs_elsewhere_is_left_alone() {
    let mut fleet = fleet(4, 2_000);
    apply(&fleet, "alpha", 3, 3);
    fleet.settle(&[("alpha".to_owned(), 6)]).unwrap();
    let (lead, term) = lead_above(&fleet, 0);
    let watch = Watch::start(fleet.state());
    let before = pids(&fleet);

    let at = agent(&fleet, &lead);
    fleet.local.kill(Some(at));
    let (successor, later) = lead_above(&fleet, term);
    assert_ne!(successor, lead, "the dead do not lead");
    apply(&fleet, "beta", 2, 2);
    fleet
        .until("the new application is placed, and what the lead ran is elsewhere", |fleet| {
            let apps = fleet.apps().map_err(|e| e.to_string())?;
            let ready: Vec<_> = apps.iter().map(|a| (a.name.to_string(), a.replicas_ready)).collect();
            let all = apps.len() == 2 && apps.iter().all(|a| a.replicas_ready >= a.replicas_wanted);
            if all { Ok(()) } else { Err(format!("{ready:?}")) }
        })
        .unwrap();
    let after = pids(&fleet);
    let kept: BTreeMap<_, _> = before.iter().filter(|((_, node), _)| *node != lead).collect();
    assert!(!kept.is_empty(), "{before:?}");
    for (place, pid) in kept {
        assert_eq!(after.get(place), Some(pid), "{place:?} was disturbed");
    }

    fleet.local.start_agent(at).unwrap();
    fleet.local.wait_agent(at).unwrap();
    fleet.settle(&[("alpha".to_owned(), 6), ("beta".to_owned(), 4)]).unwrap();
    let (still, term) = lead_above(&fleet, 0);
    assert_eq!((still, term), (successor, later), "who comes back deposes nobody");
    let watched = watch.end();
    assert!(watched.seen > 0, "a watch that sees nothing proves nothing");
    assert_eq!(watched.doubles, BTreeSet::new());
    assert_eq!(fleet.stop().unwrap(), Vec::<String>::new());
}

#[test]
fn minority_leads_nobody_and_runs_nothing_that_needs_a_lease_until_it_is_a_majority() {
    let mut fleet = fleet(3, 1_500);
    apply(&fleet, "alpha", 3, 3);
    fleet.settle(&[("alpha".to_owned(), 6)]).unwrap();
    let (lead, term) = lead_above(&fleet, 0);
    let watch = Watch::start(fleet.state());
    let rest: Vec<String> =
        fleet.local.agents().iter().map(|agent| agent.name.clone()).filter(|name| *name != lead).collect();
    let (dead, alone) = (rest[0].clone(), rest[1].clone());

    for name in [&lead, &dead] {
        let at = agent(&fleet, name);
        fleet.local.kill(Some(at));
    }
    event(&fleet, &alone, "LeaseEnded").unwrap();
    let after = cluster(&fleet).unwrap();
    assert_eq!(after.term, term, "one of three voters begins no term");
    let fenced = |fleet: &Fleet| {
        let books = Books::read(fleet.state()).unwrap();
        let on_alone = workloads(|mark| books.node_of(mark).is_some_and(|(node, _)| node.ends_with(&alone)));
        on_alone.into_iter().filter(|process| process.replica.contains(FENCED)).count()
    };
    until("what needs a lease has stopped", || match fenced(&fleet) {
        0 => Ok(()),
        count => Err(format!("{count} still run")),
    })
    .unwrap();

    let at = agent(&fleet, &dead);
    fleet.local.start_agent(at).unwrap();
    let (_, later) = lead_above(&fleet, term);
    assert!(later > term);
    fleet
        .until("all replicas are ready on the majority", |fleet| {
            let apps = fleet.apps().map_err(|e| e.to_string())?;
            let ready = apps.iter().all(|a| a.replicas_ready >= a.replicas_wanted);
            if ready { Ok(()) } else { Err(format!("{apps:?}")) }
        })
        .unwrap();
    assert_eq!(watch.end().doubles, BTreeSet::new());
}

#[test]
fn cold_boot_without_hub_runs_what_is_autonomous_on_one_node_and_the_rest_with_a_majority() {
    let mut fleet = fleet(3, 2_000);
    apply(&fleet, "alpha", 3, 3);
    fleet.settle(&[("alpha".to_owned(), 6)]).unwrap();
    let books = Books::read(fleet.state()).unwrap();
    let held = |node: &str, fenced: bool| -> BTreeSet<String> {
        let (_, book) = books.ledgers.iter().find(|(name, _)| name.ends_with(node)).unwrap();
        book.held.keys().filter(|replica| replica.contains(FENCED) == fenced).cloned().collect()
    };
    // The node with most of both kinds comes first.
    let mut names: Vec<String> = fleet.local.agents().iter().map(|agent| agent.name.clone()).collect();
    names.sort_by_key(|name| {
        std::cmp::Reverse(held(name, true).len().min(1) + held(name, false).len().min(1))
    });
    let (first, second) = (names[0].clone(), names[1].clone());
    assert!(!held(&first, false).is_empty(), "{:?}", books.ledgers);
    fleet.local.kill(None);
    for at in 0..fleet.local.agents().len() {
        fleet.local.kill(Some(at));
    }
    fleet.kill_guards().unwrap();
    let running = |node: &str| -> BTreeSet<String> {
        let books = Books::read(fleet.state()).unwrap();
        let on_node = workloads(|mark| books.node_of(mark).is_some_and(|(name, _)| name.ends_with(node)));
        on_node.into_iter().map(|process| process.replica).collect()
    };
    until("nothing runs", || match running(&first).len() + running(&second).len() {
        0 => Ok(()),
        count => Err(format!("{count} run")),
    })
    .unwrap();

    let watch = Watch::start(fleet.state());
    let (at, other) = (agent(&fleet, &first), agent(&fleet, &second));
    fleet.local.start_agent(at).unwrap();
    let wanted = held(&first, false);
    let found = until("what is autonomous runs again, from the journal alone", || {
        let books = Books::read(fleet.state()).map_err(|e| e.to_string())?;
        let on_node = workloads(|mark| books.node_of(mark).is_some_and(|(name, _)| name.ends_with(&first)));
        let found: BTreeSet<String> = on_node.into_iter().map(|process| process.replica).collect();
        if wanted.is_subset(&found) { Ok(found) } else { Err(format!("{found:?} of {wanted:?}")) }
    })
    .unwrap();
    assert_eq!(found, wanted, "without a lead, nothing that needs a lease runs");

    fleet.local.start_agent(other).unwrap();
    until("with a majority what needs a lease runs too", || {
        for node in [&first, &second] {
            let books = Books::read(fleet.state()).map_err(|e| e.to_string())?;
            let on_node =
                workloads(|mark| books.node_of(mark).is_some_and(|(name, _)| name.ends_with(node.as_str())));
            let found: BTreeSet<String> = on_node.into_iter().map(|process| process.replica).collect();
            if !held(node, true).is_subset(&found) {
                return Err(format!("{node} runs {found:?}, not all of {:?}", held(node, true)));
            }
        }
        Ok(())
    })
    .map_err(|e| format!("{e}\n{}", fleet.logs()))
    .unwrap();
    assert!(!held(&first, true).is_empty() || !held(&second, true).is_empty(), "{:?}", books.ledgers);

    fleet.local.start_hub().unwrap();
    let last = agent(&fleet, &names[2]);
    fleet.local.start_agent(last).unwrap();
    fleet.settle(&[("alpha".to_owned(), 6)]).unwrap();
    assert_eq!(watch.end().doubles, BTreeSet::new());
    assert_eq!(fleet.stop().unwrap(), Vec::<String>::new());
}

#[test]
fn lead_and_voters_that_lose_their_journals_are_replaced_one_at_a_time() {
    let mut fleet = fleet(3, 1_000);
    apply(&fleet, "alpha", 2, 2);
    fleet.settle(&[("alpha".to_owned(), 4)]).unwrap();
    let lives = voters(&fleet, 3, &[]);
    let (lead, term) = lead_above(&fleet, 0);
    let watch = Watch::start(fleet.state());

    // A voter in another life of its journal.
    let voter = lives.keys().find(|name| **name != lead).unwrap().clone();
    let at = agent(&fleet, &voter);
    fleet.local.kill(Some(at));
    fs::remove_file(fleet.local.agents()[at].state.join("election.journal")).unwrap();
    fleet.local.start_agent(at).unwrap();
    let renewed = voters(&fleet, 3, &[&lives[&voter]]);
    assert_ne!(renewed[&voter], lives[&voter]);
    assert_eq!(renewed[&lead], lives[&lead], "the others are left alone");

    // The lead loses all records.
    let at = agent(&fleet, &lead);
    fleet.local.kill(Some(at));
    fs::remove_file(fleet.local.agents()[at].state.join("election.journal")).unwrap();
    fleet.local.start_agent(at).unwrap();
    let (successor, later) = lead_above(&fleet, term);
    assert_ne!(successor, lead, "who knows nothing does not lead");
    voters(&fleet, 3, &[&lives[&voter], &lives[&lead]]);
    apply(&fleet, "beta", 1, 1);
    fleet.settle(&[("alpha".to_owned(), 4), ("beta".to_owned(), 2)]).unwrap();
    assert!(later > term);
    assert_eq!(watch.end().doubles, BTreeSet::new());
    assert_eq!(fleet.stop().unwrap(), Vec::<String>::new());
}

#[test]
fn majority_lost_for_good_an_operator_has_one_voter_go_on_alone() {
    let mut fleet = fleet(3, 1_000);
    apply(&fleet, "alpha", 1, 1);
    fleet.settle(&[("alpha".to_owned(), 2)]).unwrap();
    let (lead, term) = lead_above(&fleet, 0);
    let names: Vec<String> = fleet.local.agents().iter().map(|agent| agent.name.clone()).collect();
    let alone = names.iter().find(|name| **name != lead).unwrap().clone();
    for name in names.iter().filter(|name| **name != alone) {
        let at = agent(&fleet, name);
        fleet.local.kill(Some(at));
    }
    event(&fleet, &alone, "LeaseEnded").unwrap();
    assert_eq!(cluster(&fleet).unwrap().term, term);
    let name = cluster(&fleet).unwrap().name.to_string();
    fleet.codeco(&["electorate", "replace", &name, "--with", &alone]).unwrap();
    let (successor, _) = lead_above(&fleet, term);
    assert_eq!(successor, alone);
    assert_eq!(voters(&fleet, 1, &[]).len(), 1);
    event(&fleet, "hub", "ElectorateReplaced").unwrap();
    fleet
        .until("all replicas are ready on the one node", |fleet| {
            let apps = fleet.apps().map_err(|e| e.to_string())?;
            let ready = apps.iter().all(|a| a.replicas_ready >= a.replicas_wanted);
            if ready { Ok(()) } else { Err(format!("{apps:?}")) }
        })
        .unwrap();
}
