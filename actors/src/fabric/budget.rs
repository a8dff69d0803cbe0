//! How much one peer may send: a token bucket, so that one that floods is held back and nobody else.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use codeco_protocol::units::{BootTime, Micros};

/// A token bucket (Turner 1986): filled at a steady rate up to a depth.
#[derive(Debug, Clone)]
pub(super) struct Budget {
    per_second: u64,
    depth: u64,
    left: u64,
    at: BootTime,
    /// Refused since the beginning.
    refused: u64,
}

impl Budget {
    /// A full one.
    pub(super) fn new(per_second: u64, depth: u64, now: BootTime) -> Self {
        Self { per_second, depth, left: depth, at: now, refused: 0 }
    }

    fn fill(&mut self, now: BootTime) {
        let gained = now.since(self.at).0.saturating_mul(self.per_second) / 1_000_000;
        if gained > 0 {
            self.left = self.left.saturating_add(gained).min(self.depth);
            self.at = now;
        }
    }

    /// Takes `amount`, if there is as much.
    pub(super) fn take(&mut self, now: BootTime, amount: u64) -> bool {
        self.fill(now);
        let enough = self.left >= amount;
        if enough {
            self.left -= amount;
        } else {
            self.refused = self.refused.saturating_add(1);
        }
        enough
    }

    /// Whether the last refusal is the 1st, 2nd, 4th, 8th …: what is told of a flood.
    pub(super) fn is_to_be_told(&self) -> bool {
        self.refused.is_power_of_two()
    }

    /// Takes `amount` in any case; says how long to wait before the next, so that the rate is kept.
    pub(super) fn take_or_wait(&mut self, now: BootTime, amount: u64) -> Option<Micros> {
        if self.take(now, amount) {
            return None;
        }
        let lacks = amount.saturating_sub(self.left);
        self.left = 0;
        Some(Micros((lacks.saturating_mul(1_000_000) / self.per_second.max(1)).min(5_000_000)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budget_used_up_is_refused_until_time_has_filled_it() {
        let mut budget = Budget::new(10, 20, BootTime(0));
        let taken = (0..100).filter(|_| budget.take(BootTime(0), 1)).count();
        assert_eq!(taken, 20);
        assert!(!budget.take(BootTime(99_000), 1), "not yet one more");
        assert!(budget.take(BootTime(100_000), 1) && !budget.take(BootTime(100_000), 1));
        assert_eq!(
            (0..100).filter(|_| budget.take(BootTime(60_000_000), 1)).count(),
            20,
            "no more than its depth"
        );
        assert!(budget.take(BootTime(60_100_000), 1), "steady takers lose nothing to rounding");
    }

    #[test]
    fn budget_that_waits_keeps_the_rate() {
        let mut budget = Budget::new(1_000, 1_000, BootTime(0));
        assert_eq!(budget.take_or_wait(BootTime(0), 1_000), None);
        assert_eq!(budget.take_or_wait(BootTime(0), 500), Some(Micros(500_000)));
        assert!(budget.is_to_be_told());
    }
}
