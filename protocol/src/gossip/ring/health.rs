//! How far a member trusts itself to judge others.
//!
//! A member that has too little time sees silence where there is none. So one whose ticks come late, that is called silent
//! although it lives, or that has called others silent who live, waits longer before it says so again (Lifeguard: Dadgar,
//! Phillips, Currey, «Lifeguard: Local Health Awareness for More Accurate Failure Detection», DSN 2018). Without this,
//! an overloaded cluster votes, contradicts and votes again until it does nothing else.

use crate::units::{BootTime, Micros};

/// Spans are stretched by one more than this at most.
const STRAIN_MAX: u64 = 7;
/// A process that has just started has much else to do.
const STRAIN_FIRST: u64 = 3;
/// Strain grows by one in this time at most.
const GROWS_EVERY: Micros = Micros::from_millis(500);
/// And falls by one after so long without a sign of it.
const FALLS_AFTER: Micros = Micros::from_secs(2);

/// Strain of this member.
#[derive(Debug, Clone, Copy)]
pub(super) struct Health {
    strain: u64,
    grown: BootTime,
    falls: BootTime,
}

impl Health {
    pub(super) fn new(now: BootTime) -> Self {
        Self { strain: STRAIN_FIRST, grown: now, falls: now + FALLS_AFTER }
    }

    /// A sign that this member, not another, is slow.
    pub(super) fn suffers(&mut self, now: BootTime) {
        self.falls = now + FALLS_AFTER;
        if now.since(self.grown) >= GROWS_EVERY {
            self.grown = now;
            self.strain = (self.strain + 1).min(STRAIN_MAX);
        }
    }

    /// Time has passed.
    pub(super) fn recovers(&mut self, now: BootTime) {
        while self.strain > 0 && now >= self.falls {
            self.strain -= 1;
            self.falls = self.falls + FALLS_AFTER;
        }
    }

    /// Whether this member is slower than one that has just started.
    pub(super) fn is_strained(&self) -> bool {
        self.strain > STRAIN_FIRST
    }

    /// How long this is for a member as slow as this one.
    pub(super) fn stretched(&self, span: Micros) -> Micros {
        Micros(span.0.saturating_mul(self.strain + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(millis: u64) -> BootTime {
        BootTime(millis * 1_000)
    }

    #[test]
    fn health_waits_longer_with_each_sign_of_strain_within_bounds_and_recovers() {
        let second = Micros::from_secs(1);
        let mut health = Health::new(at(0));
        assert_eq!(health.stretched(second), Micros::from_secs(4), "it has just started");
        assert!(!health.is_strained());
        health.recovers(at(5_999));
        assert_eq!(health.stretched(second), Micros::from_secs(2));
        health.recovers(at(6_000));
        assert_eq!(health.stretched(second), second);
        for millis in (7_000..7_500).step_by(10) {
            health.suffers(at(millis));
        }
        assert_eq!(health.stretched(second), Micros::from_secs(2), "many signs at once are one");
        for millis in (8_000..60_000).step_by(100) {
            health.suffers(at(millis));
            health.recovers(at(millis));
        }
        assert_eq!(health.stretched(second), Micros::from_secs(8));
        assert!(health.is_strained());
        health.recovers(at(80_000));
        assert_eq!(health.stretched(second), second);
    }
}
