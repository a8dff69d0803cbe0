//! A histogram of waiting times that costs one relaxed atomic addition per sample.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// One bucket per power of two of microseconds: bucket `i` counts waits in `[2^(i-1), 2^i)` µs, bucket 0 less
/// than 1 µs, and the last one (from about 9 minutes) everything longer.
const BUCKETS: usize = 31;

/// Counts of waits by order of magnitude.
#[derive(Debug)]
pub struct WaitHistogram {
    buckets: [AtomicU64; BUCKETS],
}

impl Default for WaitHistogram {
    fn default() -> Self {
        Self { buckets: std::array::from_fn(|_| AtomicU64::new(0)) }
    }
}

impl WaitHistogram {
    /// Counts one wait.
    pub fn record(&self, wait: Duration) {
        let micros = u64::try_from(wait.as_micros()).unwrap_or(u64::MAX);
        let magnitude = (u64::BITS - micros.leading_zeros()) as usize;
        self.buckets[magnitude.min(BUCKETS - 1)].fetch_add(1, Relaxed);
    }

    /// The wait in microseconds that `permille` of 1,000 samples stay below, rounded up to a power of two;
    /// `None` without samples.
    #[must_use]
    pub fn quantile_us(&self, permille: u64) -> Option<u64> {
        let counts: [u64; BUCKETS] = std::array::from_fn(|i| self.buckets[i].load(Relaxed));
        let total: u64 = counts.iter().sum();
        let rank = (total * permille.min(1_000)).div_ceil(1_000).max(1);
        let mut seen = 0;
        counts.iter().enumerate().find_map(|(bucket, count)| {
            seen += count;
            (seen >= rank).then_some(1 << bucket)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histogram_without_samples_has_no_quantile() {
        assert_eq!(WaitHistogram::default().quantile_us(500), None);
    }

    #[test]
    fn quantile_of_mixed_waits_is_the_bound_of_its_bucket() {
        let histogram = WaitHistogram::default();
        for _ in 0..98 {
            histogram.record(Duration::from_micros(5));
        }
        histogram.record(Duration::from_micros(900));
        histogram.record(Duration::from_secs(100_000));
        assert_eq!(histogram.quantile_us(500), Some(8));
        assert_eq!(histogram.quantile_us(990), Some(1_024));
        assert_eq!(histogram.quantile_us(1_000), Some(1 << (BUCKETS - 1)));
    }

    #[test]
    fn wait_of_zero_counts_in_the_first_bucket() {
        let histogram = WaitHistogram::default();
        histogram.record(Duration::ZERO);
        assert_eq!(histogram.quantile_us(500), Some(1));
    }
}
