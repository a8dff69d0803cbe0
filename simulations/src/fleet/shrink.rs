//! Of a run that fails, a smaller one that fails in the same way: fewer faults and requests, fewer machines, less of all
//! that the network does (delta debugging: Zeller and Hildebrandt, IEEE Transactions on Software Engineering 28(2), 2002).

use super::run::{Failure, Playing, plan, run};
use super::scenario::{At, Scenario};
use crate::invariant::Invariant;

/// Runs tried at most.
const TRIES: u32 = 400;

/// A smaller scenario.
#[derive(Debug, Clone)]
pub struct Shrunk {
    /// It, with all that happens in it written out.
    pub scenario: Scenario,
    /// How it fails.
    pub failure: Failure,
    /// Runs it took.
    pub tries: u32,
}

struct Search {
    seed: u64,
    playing: Playing,
    broken: Invariant,
    tries: u32,
}

impl Search {
    /// Whether a scenario fails in the same way.
    fn fails(&mut self, scenario: &Scenario) -> Option<Failure> {
        if self.tries >= TRIES {
            return None;
        }
        self.tries += 1;
        let failure = run(scenario, self.seed, self.playing).err()?;
        (failure.violation.invariant == self.broken).then_some(*failure)
    }

    fn try_change(
        &mut self,
        best: &mut Scenario,
        failure: &mut Failure,
        change: impl FnOnce(&mut Scenario),
    ) -> bool {
        let mut smaller = best.clone();
        change(&mut smaller);
        if smaller == *best {
            return false;
        }
        let Some(fails) = self.fails(&smaller) else { return false };
        (*best, *failure) = (smaller, fails);
        true
    }

    /// Leaves out acts, half of them at first, then ever smaller parts.
    fn drop_acts(&mut self, best: &mut Scenario, failure: &mut Failure) {
        let mut part = best.acts.len().div_ceil(2);
        while part > 0 {
            let mut at = 0;
            while at < best.acts.len() {
                let end = (at + part).min(best.acts.len());
                let left_out = self.try_change(best, failure, |scenario| {
                    scenario.acts.drain(at..end);
                });
                if !left_out {
                    at = end;
                }
            }
            part = if part == 1 { 0 } else { part.div_ceil(2) };
        }
    }
}

/// The same run with everything that its rates draw written out as acts.
#[must_use]
pub fn written_out(scenario: &Scenario, seed: u64) -> Scenario {
    let (acts, end_s) = plan(scenario, seed);
    let mut explicit = scenario.clone();
    explicit.acts = acts;
    explicit.faults.per_minute = 0.0;
    explicit.users.requests_per_minute = 0.0;
    let last = end_s - explicit.faults.begin_s;
    explicit.faults.last_s = (last, last);
    explicit
}

/// Looks for a smaller scenario than the one that failed with `failure`. `None` if not even the same run written out fails
/// in the same way.
#[must_use]
pub fn shrink(scenario: &Scenario, failure: &Failure, playing: Playing) -> Option<Shrunk> {
    let mut search = Search { seed: failure.seed, playing, broken: failure.violation.invariant, tries: 0 };
    let mut best = written_out(scenario, failure.seed);
    let mut failure = search.fails(&best)?;
    // What comes after it has no part in it, if it was not waited for.
    let at_s = failure.at_s;
    if search.broken != Invariant::Converges {
        search.try_change(&mut best, &mut failure, |scenario| {
            scenario.acts.retain(|At { at_s: when, .. }| *when <= at_s);
        });
    }
    search.drop_acts(&mut best, &mut failure);
    let last = best.acts.last().map_or(0.0, |at| at.at_s);
    search.try_change(&mut best, &mut failure, |scenario| {
        let span = (last - scenario.faults.begin_s).max(0.0) + 0.5;
        scenario.faults.last_s = (span, span);
    });
    for step in [
        |s: &mut Scenario| s.faults.crash_amid_per_million = 0,
        |s: &mut Scenario| s.faults.hold_up_per_million = 0,
        |s: &mut Scenario| s.faults.repeat_per_million = 0,
        |s: &mut Scenario| s.faults.loss_per_million = 0,
    ] {
        search.try_change(&mut best, &mut failure, step);
    }
    // Fewer machines, where that still fails: the lots then mean others.
    loop {
        let fewer = [
            |s: &mut Scenario| s.fleet.clusters = (s.fleet.clusters / 2).max(1),
            |s: &mut Scenario| s.fleet.clusters = (s.fleet.clusters - 1).max(1),
            |s: &mut Scenario| s.fleet.nodes = (s.fleet.nodes / 2).max(1),
            |s: &mut Scenario| s.fleet.nodes = (s.fleet.nodes - 1).max(1),
            |s: &mut Scenario| s.fleet.hubs = s.fleet.hubs.min(1),
            |s: &mut Scenario| s.users.apps /= 2,
            |s: &mut Scenario| s.users.apps = s.users.apps.saturating_sub(1),
        ];
        let mut smaller = false;
        for step in fewer {
            smaller |= search.try_change(&mut best, &mut failure, step);
        }
        if !smaller {
            break;
        }
    }
    search.drop_acts(&mut best, &mut failure);
    Some(Shrunk { scenario: best, failure, tries: search.tries })
}
