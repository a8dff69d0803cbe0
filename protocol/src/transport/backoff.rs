//! When to try again.

use std::time::Duration;

/// Bounds of a [`Backoff`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackoffBounds {
    /// Upper bound of the first wait.
    pub first: Duration,
    /// Upper bound of any wait.
    pub max: Duration,
}

impl Default for BackoffBounds {
    /// 100 ms to 30 s: quick after a hiccup, and a hub that returns meets 1,000 agents spread over half a minute.
    fn default() -> Self {
        Self { first: Duration::from_millis(100), max: Duration::from_secs(30) }
    }
}

/// Exponential back-off with full jitter: each wait is uniform between zero and a bound that doubles.
///
/// Full jitter spreads a herd best for the same load (Brooker, «Exponential Backoff and Jitter», AWS, 2015). Pure: the
/// caller waits, and passes the randomness in.
#[derive(Debug, Clone)]
pub struct Backoff {
    bounds: BackoffBounds,
    failures: u32,
}

impl Backoff {
    /// At the start: nothing has failed yet.
    #[must_use]
    pub fn new(bounds: BackoffBounds) -> Self {
        Self { bounds, failures: 0 }
    }

    /// Notes a failure and says how long to wait before the next try.
    pub fn next_wait(&mut self, random: &mut fastrand::Rng) -> Duration {
        let doubled =
            2_u32.checked_pow(self.failures).and_then(|factor| self.bounds.first.checked_mul(factor));
        let bound = doubled.unwrap_or(self.bounds.max).min(self.bounds.max);
        self.failures = self.failures.saturating_add(1);
        bound.mul_f64(random.f64())
    }

    /// Notes a success: the next wait is short again.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// Failures since the last success.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: BackoffBounds =
        BackoffBounds { first: Duration::from_millis(100), max: Duration::from_secs(2) };

    #[test]
    fn backoff_waits_stay_within_bounds_that_double_and_reach_most_of_them() {
        let mut random = fastrand::Rng::with_seed(7);
        for attempt in 0..100_u32 {
            let bound = Duration::from_millis(100 << attempt.min(10)).min(BOUNDS.max);
            let longest = (0..200)
                .map(|_| Backoff { bounds: BOUNDS, failures: attempt }.next_wait(&mut random))
                .inspect(|wait| assert!(*wait <= bound, "{wait:?} after {attempt} failures"))
                .max();
            assert!(longest > Some(bound / 2), "{longest:?} of {bound:?}: jitter is full");
        }
    }

    #[test]
    fn backoff_after_success_starts_again_and_a_seed_repeats_it() {
        let waits = || {
            let mut random = fastrand::Rng::with_seed(1);
            let mut backoff = Backoff::new(BOUNDS);
            let all: Vec<Duration> = (0..50).map(|_| backoff.next_wait(&mut random)).collect();
            assert_eq!(backoff.failures(), 50);
            backoff.reset();
            assert!(backoff.next_wait(&mut random) <= BOUNDS.first);
            all
        };
        assert_eq!(waits(), waits());
    }
}
