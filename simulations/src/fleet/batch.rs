//! Many seeds on several threads.

use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::counts::Counts;
use super::run::{Failure, Playing, run};
use super::scenario::Scenario;
use crate::log::fold;

/// What many runs were like.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    /// What happened in all of them.
    pub counts: Counts,
    /// Of all their digests, in the order of the seeds.
    pub digest: u64,
    /// Virtual time played, in seconds.
    pub played_s: f64,
    /// Times to converge, in seconds, sorted.
    pub converged_s: Vec<f64>,
    /// The seed that took longest.
    pub slowest: u64,
    /// Most copies moved by one cluster within a second.
    pub moves_most: u64,
}

impl Batch {
    /// A quantile of the times to converge.
    #[must_use]
    pub fn converged(&self, share: f64) -> f64 {
        let last = self.converged_s.len().saturating_sub(1);
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
        let at = (last as f64 * share).round() as usize;
        self.converged_s.get(at).copied().unwrap_or_default()
    }
}

/// How far a batch is.
#[derive(Debug, Clone, Copy, Default)]
pub struct Progress {
    /// Runs that have ended.
    pub done: u64,
    /// Virtual time played in them, in seconds.
    pub played_s: f64,
}

/// Plays every seed of `seeds` on `jobs` threads. `progress` is called after each run, from any of them.
///
/// # Errors
/// The failure of the lowest seed that failed; no further seeds are begun after one.
pub fn run_seeds(
    scenario: &Scenario,
    seeds: Range<u64>,
    jobs: usize,
    playing: Playing,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<Batch, Box<Failure>> {
    let next = AtomicU64::new(seeds.start);
    let failed = AtomicBool::new(false);
    let results = Mutex::new((Vec::new(), Progress::default()));
    let lock = || results.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                while !failed.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    let outcome = run(scenario, seed, playing);
                    failed.fetch_or(outcome.is_err(), Ordering::Relaxed);
                    let mut results = lock();
                    results.1.done += 1;
                    results.1.played_s += outcome.as_ref().map_or(0.0, |outcome| outcome.played_s);
                    progress(results.1);
                    results.0.push((seed, outcome));
                }
            });
        }
    });
    let mut outcomes = std::mem::take(&mut lock().0);
    outcomes.sort_by_key(|(seed, _)| *seed);
    let mut batch = Batch::default();
    let mut slowest = 0.0;
    for (seed, outcome) in outcomes {
        let outcome = outcome?;
        batch.counts.add(&outcome.counts);
        batch.digest = fold(batch.digest, &outcome.digest.to_le_bytes());
        batch.played_s += outcome.played_s;
        batch.moves_most = batch.moves_most.max(outcome.moves_most);
        if outcome.converged_s > slowest {
            (slowest, batch.slowest) = (outcome.converged_s, seed);
        }
        batch.converged_s.push(outcome.converged_s);
    }
    batch.converged_s.sort_by(f64::total_cmp);
    Ok(batch)
}
