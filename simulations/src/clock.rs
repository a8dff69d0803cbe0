//! The boot clock of one simulated machine: its own zero, its own rate.

use codeco_protocol::units::BootTime;

/// Rates differ from true time by less than half of what leases allow between two clocks.
const RATE_PPM: std::ops::RangeInclusive<u64> = 995_100..=1_004_900;

#[derive(Debug, Clone)]
pub(crate) struct Clock {
    started: u64,
    local: u64,
    rate_ppm: u64,
}

impl Clock {
    /// A machine that boots at the true time `now`.
    pub(crate) fn boot(now: u64, rng: &mut fastrand::Rng) -> Self {
        Self { started: now, local: rng.u64(1_000_000..60_000_000), rate_ppm: rng.u64(RATE_PPM) }
    }

    /// What this machine's clock shows at the true time `now`.
    pub(crate) fn read(&self, now: u64) -> BootTime {
        BootTime(self.local + (now - self.started) * self.rate_ppm / 1_000_000)
    }

    /// The earliest true time at which this machine's clock shows at least `at`.
    pub(crate) fn when(&self, at: BootTime) -> u64 {
        let span = at.0.saturating_sub(self.local);
        self.started.saturating_add(span.saturating_mul(1_000_000).div_ceil(self.rate_ppm))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clock_shows_at_least_the_time_waited_for() {
        let mut rng = fastrand::Rng::with_seed(1);
        for _ in 0..1_000 {
            let clock = Clock::boot(rng.u64(0..1_000_000), &mut rng);
            let at = BootTime(rng.u64(60_000_000..90_000_000));
            assert!(clock.read(clock.when(at)) >= at);
        }
    }
}
