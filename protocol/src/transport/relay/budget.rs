//! How much may be relayed for one member: two token buckets (Turner 1986), of bytes and of packets.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use crate::units::BootTime;

/// Bytes relayed for a member in a second: decisions, gossip and logs, no bulk data.
pub(super) const BYTES_PER_SECOND: u64 = 512 << 10;
/// Packets relayed for a member in a second.
pub(super) const PACKETS_PER_SECOND: u64 = 1_000;
/// A member that was quiet may send as much as so many seconds give.
pub(super) const BURST_SECONDS: u64 = 4;

#[derive(Debug, Clone)]
struct Bucket {
    per_second: u64,
    depth: u64,
    left: u64,
    at: BootTime,
}

impl Bucket {
    fn full(per_second: u64, now: BootTime) -> Self {
        let depth = per_second.saturating_mul(BURST_SECONDS);
        Self { per_second, depth, left: depth, at: now }
    }

    fn fill(&mut self, now: BootTime) {
        let gained = now.since(self.at).0.saturating_mul(self.per_second) / 1_000_000;
        if gained > 0 {
            self.left = self.left.saturating_add(gained).min(self.depth);
            self.at = now;
        }
    }
}

/// What is left for a member, in one direction.
#[derive(Debug, Clone)]
pub(super) struct Budget {
    bytes: Bucket,
    packets: Bucket,
}

impl Budget {
    /// A full one.
    pub(super) fn new(now: BootTime) -> Self {
        Self { bytes: Bucket::full(BYTES_PER_SECOND, now), packets: Bucket::full(PACKETS_PER_SECOND, now) }
    }

    /// Whether a packet of `len` bytes would pass now.
    pub(super) fn allows(&mut self, now: BootTime, len: usize) -> bool {
        self.bytes.fill(now);
        self.packets.fill(now);
        self.packets.left > 0 && self.bytes.left >= len as u64
    }

    /// Takes one that is allowed.
    pub(super) fn take(&mut self, len: usize) {
        self.packets.left = self.packets.left.saturating_sub(1);
        self.bytes.left = self.bytes.left.saturating_sub(len as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passes(budget: &mut Budget, now: BootTime, len: usize) -> bool {
        let allowed = budget.allows(now, len);
        if allowed {
            budget.take(len);
        }
        allowed
    }

    #[test]
    fn budget_bounds_packets_where_they_are_small_and_bytes_where_they_are_large() {
        let second = |n: u64| BootTime(n * 1_000_000);
        let mut small = Budget::new(second(0));
        let burst = (0..100_000).filter(|_| passes(&mut small, second(0), 30)).count();
        assert_eq!(burst as u64, PACKETS_PER_SECOND * BURST_SECONDS);
        let steady = (0..100_000).filter(|_| passes(&mut small, second(1), 30)).count();
        assert_eq!(steady as u64, PACKETS_PER_SECOND);

        let mut large = Budget::new(second(0));
        let burst = (0..100_000).filter(|_| passes(&mut large, second(0), 1_200)).count();
        assert_eq!(burst as u64, BYTES_PER_SECOND * BURST_SECONDS / 1_200);
        let rested = (0..100_000).filter(|_| passes(&mut large, second(1_000), 1_200)).count();
        assert_eq!(rested, burst, "no more than its depth");
    }
}
