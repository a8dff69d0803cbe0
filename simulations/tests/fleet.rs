//! Whole fleets under faults keep every promise, the same seed is the same run, and planted defects are found.
#![allow(clippy::unwrap_used)]

use std::process::Command;

use codeco_simulations::fleet::{
    Planted, Playing, Scenario, builtin_called, run, run_seeds, shrink, written_out,
};

fn scenario(name: &str) -> Scenario {
    builtin_called(name).unwrap().unwrap()
}

#[test]
fn fleets_under_chaos_keep_every_promise() {
    let batch = run_seeds(&scenario("chaos"), 0..24, 2, Playing::default(), &|_| {}).unwrap();
    print!("{}", batch.counts);
    assert!(batch.counts.moves > 0 && batch.counts.takeovers > 0 && batch.counts.reconciled > 0);
}

#[test]
fn fleet_played_again_is_the_same_to_the_byte_however_many_are_played_at_a_time() {
    let chaos = scenario("chaos");
    let one = run_seeds(&chaos, 3..7, 1, Playing::default(), &|_| {}).unwrap();
    let three = run_seeds(&chaos, 3..7, 3, Playing::default(), &|_| {}).unwrap();
    assert_eq!((one.digest, &one.counts), (three.digest, &three.counts));
    let alone = run(&chaos, 5, Playing::default()).unwrap();
    let sampled = run(&chaos, 5, Playing { sample_s: 1.0, ..Playing::default() }).unwrap();
    assert_eq!(alone.counts.placements, sampled.counts.placements, "being looked at changes nothing");
}

/// What a seed comes to is asked of processes of their own, whose surroundings differ.
#[test]
fn fleet_is_the_same_in_other_surroundings() {
    if let Ok(seed) = std::env::var("CODECO_FLEET_DIGEST_OF") {
        let outcome = run(&scenario("chaos"), seed.parse().unwrap(), Playing::default()).unwrap();
        println!("digest {:016x}", outcome.digest);
        return;
    }
    let here = run(&scenario("chaos"), 2, Playing::default()).unwrap().digest;
    for (key, value) in
        [("LANG", "tr_TR.UTF-8"), ("TZ", "Pacific/Apia"), ("RAYON_NUM_THREADS", "1"), ("HOME", "/")]
    {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "fleet_is_the_same_in_other_surroundings", "--nocapture"]);
        let output = command.env_clear().env("CODECO_FLEET_DIGEST_OF", "2").env(key, value).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(text.contains(&format!("digest {here:016x}")), "{key}={value}: {text}");
    }
}

/// The first seed of `seeds` that finds `planted`, which without it plays to its end.
fn finds(planted: Planted, seeds: std::ops::Range<u64>) -> String {
    let chaos = scenario("chaos");
    let playing = Playing { planted: Some(planted), ..Playing::default() };
    let failure = run_seeds(&chaos, seeds, 2, playing, &|_| {}).expect_err("the defect is found");
    run(&chaos, failure.seed, Playing::default()).expect("without the defect every promise holds");
    failure.violation.to_string()
}

#[test]
fn planted_ledger_that_forgets_to_sync_is_found_and_shrunk_to_a_replay() {
    let playing = Playing { planted: Some(Planted::LedgerForgetsToSync), ..Playing::default() };
    let chaos = scenario("chaos");
    let failure = run_seeds(&chaos, 0..4, 1, playing, &|_| {}).unwrap_err();
    assert!(failure.violation.to_string().starts_with("journal: what was promised"), "{failure}");
    let shrunk = shrink(&chaos, &failure, playing).unwrap();
    let before = written_out(&chaos, failure.seed);
    assert!(shrunk.scenario.acts.len() * 4 < before.acts.len(), "{:?}", shrunk.scenario.acts);
    // It is read back from its file, and fails in the same way.
    let read = Scenario::parse("shrunk", &shrunk.scenario.to_toml().unwrap()).unwrap();
    assert_eq!(read, shrunk.scenario);
    let again = run(&read, failure.seed, playing).unwrap_err();
    assert_eq!(again.violation.invariant, failure.violation.invariant);
    assert!(run(&read, failure.seed, Playing::default()).is_ok(), "without the defect it holds");
}

#[test]
fn planted_reconnect_that_drops_what_a_hub_does_not_list_is_found() {
    let found = finds(Planted::ReconnectDropsUnlisted, 0..4);
    assert!(found.starts_with("I6: what runs is stopped only by a newer decision"), "{found}");
}

#[test]
fn planted_brake_that_is_off_is_found() {
    let found = finds(Planted::BrakeIsOff, 12..16);
    assert!(found.starts_with("brakes:"), "{found}");
}

#[test]
fn planted_lead_that_skips_the_wait_and_lease_counted_from_receipt_are_found() {
    for planted in [Planted::LeadSkipsTheWait, Planted::LeaseFromReceipt] {
        let found = finds(planted, 19..20);
        assert!(found.starts_with("I2: a fence replica runs on at most one node"), "{planted:?}: {found}");
    }
}

/// Takes minutes in release: `cargo test --release -p codeco-simulations --test fleet -- --ignored --nocapture`.
#[test]
#[ignore = "takes minutes"]
fn planted_defects_are_each_found_within_two_hundred_seeds_and_shrunk() {
    let chaos = scenario("chaos");
    let mut missed = Vec::new();
    for planted in Planted::ALL {
        let playing = Playing { planted: Some(planted), ..Playing::default() };
        let Err(failure) = run_seeds(&chaos, 0..200, 2, playing, &|_| {}) else {
            missed.push(planted);
            continue;
        };
        let violation = failure.violation.to_string();
        let first: String =
            violation.lines().take(2).collect::<Vec<_>>().join(" / ").chars().take(240).collect();
        let without = run(&chaos, failure.seed, Playing::default()).is_ok();
        let shrunk = shrink(&chaos, &failure, playing).map(|s| {
            let fleet = &s.scenario.fleet;
            (s.scenario.acts.len(), fleet.clusters, fleet.nodes, s.tries)
        });
        println!(
            "{planted:?}: seed {} (holds without: {without}), shrunk to {shrunk:?} (acts, clusters, nodes, tries)",
            failure.seed
        );
        println!("    {first}");
    }
    assert!(missed.is_empty(), "not found: {missed:?}");
}
