//! The true rules hold; every weakened one gives a double placement.

use std::time::Instant;

use stateright::{Checker, HasDiscoveries, Model};

use crate::mandate::{Bounds, Mandates, Weakness};

/// Two leads of two attempts each; silent nodes of a takeover are waited out.
const CALM: Bounds = Bounds { attempts: [2, 2], disk_loss: false, wait_outs: 1, waits_after_commit: false };
/// Leads also wait out nodes that do not answer a Commit, and try elsewhere; such nodes come back.
const WAITING: Bounds = Bounds { waits_after_commit: true, ..CALM };
/// One node loses its disk.
const DISK_LOSS: Bounds = Bounds { disk_loss: true, ..CALM };
/// The same, small enough for every day.
const SHORT_DISK_LOSS: Bounds = Bounds { attempts: [2, 1], ..DISK_LOSS };

fn search_whole(title: &str, bounds: Bounds, unreachable: &[&str]) {
    let started = Instant::now();
    let model = Mandates { bounds, weakness: None };
    let checker = model.checker().threads(2).finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    if let Some(path) = checker.discovery(Mandates::AT_MOST_ONE) {
        panic!("{title}: two copies run\n{}", checker.model().story(path.into_actions()));
    }
    println!(
        "true rules, {title}: {} states, {} steps, none of them two copies ({:.1} s)",
        checker.unique_state_count(),
        checker.state_count(),
        started.elapsed().as_secs_f64()
    );
    let reached = checker.discoveries();
    for property in checker.model().properties() {
        let name = property.name;
        let possible = name != Mandates::AT_MOST_ONE && !unreachable.contains(&name);
        assert_eq!(reached.contains_key(name), possible, "{title}: {name}");
        if possible {
            println!("  reached: {name}");
        }
    }
}

/// One thread: then the story is a shortest one, and always the same.
fn find_double(weakness: Weakness, bounds: Bounds) -> String {
    let model = Mandates { bounds, weakness: Some(weakness) };
    let checker = model.checker().finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    let states = checker.unique_state_count();
    let path = checker.discovery(Mandates::AT_MOST_ONE);
    let path = path.unwrap_or_else(|| panic!("{weakness:?}: no double placement in {states} states"));
    let story = checker.model().story(path.into_actions());
    println!("\n{}: two copies, found after {states} states\n{story}", weakness.headline());
    assert!(story.contains("Two copies run"), "the story leads there");
    story
}

#[test]
fn true_rules_with_silent_nodes_never_run_two_copies() {
    search_whole("nodes waited out after a Commit", WAITING, &[Mandates::AFTER_DISK_LOSS]);
}

#[test]
fn true_rules_with_a_lost_disk_never_run_two_copies() {
    search_whole("a lost disk, one attempt of the new lead", SHORT_DISK_LOSS, &[]);
}

#[test]
#[ignore = "19 million states: run it with --release"]
fn true_rules_with_a_lost_disk_and_second_attempts_never_run_two_copies() {
    search_whole("a lost disk, two attempts", DISK_LOSS, &[]);
}

#[test]
fn stale_read_as_refused_gives_two_copies() {
    let story = find_double(Weakness::StaleIsRefused, CALM);
    assert!(story.contains("because its term is old"));
}

#[test]
fn closed_attempts_forgotten_give_two_copies() {
    let story = find_double(Weakness::ForgetsClosed, CALM);
    assert!(story.contains("is closed"));
}

#[test]
fn lead_that_declines_before_takeover_gives_two_copies() {
    let story = find_double(Weakness::DecidesBeforeTakeover, CALM);
    assert!(story.contains("lead 2 declines"));
}

#[test]
fn decline_of_an_older_lead_taken_as_final_gives_two_copies() {
    let story = find_double(Weakness::DeclineOfAnOlderLeadIsFinal, CALM);
    assert!(story.contains("hears that lead 1 declined, and gives"));
}

#[test]
fn orders_without_incarnation_give_two_copies_after_a_lost_disk() {
    let story = find_double(Weakness::NoIncarnation, SHORT_DISK_LOSS);
    assert!(story.contains("loses its disk"));
}

#[test]
fn node_that_forgets_its_term_gives_two_copies() {
    let story = find_double(Weakness::NewLifeLearnsNoTerm, SHORT_DISK_LOSS);
    assert!(story.contains("loses its disk"));
}

#[test]
fn retry_elsewhere_after_an_unanswered_commit_gives_two_copies() {
    find_double(Weakness::RetriesElsewhereAfterCommit, CALM);
}

#[test]
fn decline_after_mere_waiting_out_gives_two_copies() {
    find_double(Weakness::DeclinesWhatIsOnlyWaitedOut, WAITING);
}

#[test]
fn waiting_out_without_a_lease_of_its_own_gives_two_copies() {
    find_double(Weakness::WaitsOutWithoutOwnLease, WAITING);
}

#[test]
fn lease_that_revokes_only_what_the_node_lists_gives_two_copies() {
    find_double(Weakness::RevokesOnlyWhatIsListed, WAITING);
}

#[test]
fn lease_for_a_waiting_copy_before_all_have_reported_gives_two_copies() {
    find_double(Weakness::GrantsDuringTakeover, WAITING);
}

#[test]
fn lease_asked_for_under_an_earlier_term_gives_two_copies() {
    find_double(Weakness::AnswerToAnEarlierTermCounts, SHORT_DISK_LOSS);
}
