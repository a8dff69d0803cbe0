//! Never two leads, never a committed record lost; each weakened rule gives one or the other.

use stateright::{Checker, HasDiscoveries, Model};

use crate::election::{ElectionBounds, ElectionWeakness, Elections};

const SMALL: ElectionBounds = ElectionBounds { horizon: 3, renewals: 0, restarts: 0, disk_loss: false };

fn search_whole(bounds: ElectionBounds) {
    let checker = Elections { bounds, weakness: None }
        .checker()
        .finish_when(HasDiscoveries::AnyFailures)
        .spawn_bfs()
        .join();
    println!("{bounds:?}: {} states", checker.unique_state_count());
    let mut reached = checker.discoveries();
    for name in [Elections::ONE_LEAD, Elections::NOTHING_LOST] {
        if let Some(path) = reached.remove(name) {
            panic!("not so: {name}\n{}", checker.model().told(path));
        }
    }
    assert_eq!(reached.len(), 1, "a second lead acts, so the search has seen what it is for");
}

fn find(property: &'static str, bounds: ElectionBounds, weakness: ElectionWeakness) {
    let checker = Elections { bounds, weakness: Some(weakness) }
        .checker()
        .finish_when(HasDiscoveries::AnyOf([property].into()))
        .spawn_bfs()
        .join();
    let states = checker.unique_state_count();
    let path =
        checker.discovery(property).unwrap_or_else(|| panic!("{weakness:?}: nothing in {states} states"));
    println!("{weakness:?}: not so: {property}\n{}", checker.model().told(path));
}

#[test]
fn election_of_three_by_the_true_rules_has_one_lead_and_loses_nothing() {
    search_whole(SMALL);
}

#[test]
fn election_with_a_lost_disk_has_one_lead_and_loses_nothing() {
    search_whole(ElectionBounds { disk_loss: true, ..SMALL });
}

#[test]
fn election_with_a_restart_has_one_lead_and_loses_nothing() {
    search_whole(ElectionBounds { restarts: 1, ..SMALL });
}

#[test]
fn election_voter_that_votes_at_once_after_a_restart_gives_two_leads() {
    let bounds = ElectionBounds { restarts: 1, ..SMALL };
    find(Elections::ONE_LEAD, bounds, ElectionWeakness::NoSitOut);
}

#[test]
fn election_lease_counted_from_receipt_gives_two_leads() {
    find(Elections::ONE_LEAD, SMALL, ElectionWeakness::CountedFromReceipt);
}

#[test]
fn election_without_comparing_records_loses_a_committed_one() {
    find(Elections::NOTHING_LOST, SMALL, ElectionWeakness::RecordsNotCompared);
}

#[test]
fn election_voter_that_lost_its_disk_and_still_votes_loses_a_committed_record() {
    let bounds = ElectionBounds { disk_loss: true, ..SMALL };
    find(Elections::NOTHING_LOST, bounds, ElectionWeakness::LostDiskStillVotes);
}
