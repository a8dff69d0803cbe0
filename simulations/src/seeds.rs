//! Many schedules, on several threads.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::counts::Counts;
use crate::log::fold;
use crate::schedule::{Failure, Outcome, run};

/// What many schedules came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Sums.
    pub counts: Counts,
    /// Of the digests of all seeds in order: the same whatever the number of threads.
    pub digest: u64,
    /// Longest time to converge, in microseconds of virtual time, and the seed that took it.
    pub slowest: (u64, u64),
}

/// Plays all `seeds` on `threads` threads.
///
/// # Errors
/// The [`Failure`] of the lowest seed among those that failed before all threads had stopped.
pub fn run_seeds(seeds: Range<u64>, threads: usize) -> Result<Batch, Box<Failure>> {
    let next = AtomicU64::new(seeds.start);
    let failed = AtomicBool::new(false);
    let mut results: Vec<(u64, Result<Outcome, Box<Failure>>)> = std::thread::scope(|scope| {
        let worker = || {
            let mut mine = Vec::new();
            while !failed.load(Ordering::Relaxed) {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= seeds.end {
                    break;
                }
                let result = run(seed, false);
                failed.fetch_or(result.is_err(), Ordering::Relaxed);
                mine.push((seed, result));
            }
            mine
        };
        let workers: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap_or_default()).collect()
    });
    results.sort_by_key(|(seed, _)| *seed);
    let mut batch = Batch { counts: Counts::default(), digest: 0, slowest: (0, 0) };
    for (seed, result) in results {
        let outcome = result?;
        batch.counts.add(&outcome.counts);
        batch.digest = fold(batch.digest, &outcome.digest.to_le_bytes());
        batch.slowest = batch.slowest.max((outcome.converged_after_us, seed));
    }
    Ok(batch)
}
