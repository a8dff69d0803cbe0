//! Schedules of faults: some in every test run, many more through the binary of the same name.

use codeco_simulations::{run, run_seeds};

#[test]
fn schedules_of_a_hundred_seeds_break_no_invariant_and_meet_every_fault() {
    let batch = run_seeds(0..100, 2).unwrap_or_else(|failure| panic!("{failure}"));
    assert_eq!(batch.counts.missing(), Vec::<&str>::new(), "nothing is proven about what never happened");
}

#[test]
fn schedules_of_the_same_seeds_are_the_same_whatever_the_number_of_threads() {
    let alone = run_seeds(200..212, 1).unwrap_or_else(|failure| panic!("{failure}"));
    let shared = run_seeds(200..212, 3).unwrap_or_else(|failure| panic!("{failure}"));
    assert_eq!(alone, shared);
}

#[test]
fn schedules_of_different_seeds_differ() {
    let digest = |seed| run(seed, false).unwrap_or_else(|failure| panic!("{failure}")).digest;
    assert_eq!(digest(1), digest(1));
    assert_ne!(digest(1), digest(2));
}
