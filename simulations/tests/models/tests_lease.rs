//! A lease is over before it counts as waited out; each weakened count gives a double placement.

use codeco_actors::swm::lease::LeaseConfig;
use codeco_protocol::units::Micros;
use stateright::{Checker, HasDiscoveries, Model};

use crate::lease::{CONFIG, LeaseWeakness, Leases, Waiter};

fn search_whole(waiter: Waiter) {
    let checker = Leases { waiter, counted: CONFIG, weakness: None }
        .checker()
        .finish_when(HasDiscoveries::AnyFailures)
        .spawn_bfs()
        .join();
    println!("true count of leases, waited out by {waiter:?}: {} states", checker.unique_state_count());
    if let Some(path) = checker.discovery(Leases::AT_MOST_ONE) {
        panic!("two copies run\n{}", checker.model().story(path.into_actions()));
    }
    let reached = checker.discoveries();
    for property in checker.model().properties() {
        assert!(
            reached.contains_key(property.name) != (property.name == Leases::AT_MOST_ONE),
            "{}",
            property.name
        );
    }
}

fn find_double(title: &str, model: Leases) -> String {
    let checker = model.checker().finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    let path = checker.discovery(Leases::AT_MOST_ONE);
    let path =
        path.unwrap_or_else(|| panic!("{title}: no double in {} states", checker.unique_state_count()));
    let story = checker.model().story(path.into_actions());
    println!("{title}: two copies\n{story}");
    story
}

fn weakened(waiter: Waiter, weakness: LeaseWeakness) -> Leases {
    Leases { waiter, counted: CONFIG, weakness: Some(weakness) }
}

#[test]
fn lease_truly_counted_is_over_before_its_lead_has_waited_it_out() {
    search_whole(Waiter::SameLead);
}

#[test]
fn lease_truly_counted_is_over_before_a_successor_has_waited_it_out() {
    search_whole(Waiter::Successor);
}

#[test]
fn lease_waited_out_without_regard_to_drift_gives_two_copies() {
    let counted = LeaseConfig { drift_ppm: 0, ..CONFIG };
    let story =
        find_double("waiting without drift", Leases { waiter: Waiter::SameLead, counted, weakness: None });
    assert!(story.contains("slow clock"));
}

#[test]
fn lease_waited_out_without_margin_gives_two_copies() {
    let counted = LeaseConfig { margin: Micros(0), ..CONFIG };
    find_double("waiting without margin", Leases { waiter: Waiter::SameLead, counted, weakness: None });
}

#[test]
fn lease_counted_from_receipt_gives_two_copies() {
    let story = find_double(
        "waiting counted from receipt",
        weakened(Waiter::SameLead, LeaseWeakness::CountedFromReceipt),
    );
    assert!(story.contains("arrives"));
}

#[test]
fn lease_granted_on_a_check_made_before_the_reply_gives_two_copies() {
    let story = find_double(
        "a lead's own lease checked before the reply",
        weakened(Waiter::Successor, LeaseWeakness::CheckedBeforeTheReply),
    );
    assert!(story.contains("paused"));
}

#[test]
fn lease_longer_than_its_lead_waits_gives_two_copies() {
    find_double("a lease longer than agreed", weakened(Waiter::SameLead, LeaseWeakness::LongerThanAgreed));
}

#[test]
fn lease_whose_answer_is_not_noted_gives_two_copies() {
    find_double("an answer not noted", weakened(Waiter::SameLead, LeaseWeakness::AnswerNotNoted));
}
