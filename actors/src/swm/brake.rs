//! Brakes: whoever suddenly misses most of what it decides about is more likely wrong about it than right.
//!
//! A lead that misses most nodes of its cluster at once, and a home that misses most clusters, may be the one that was
//! cut off, or paused; if it is not, moving everything at once to the few that are left overloads them, and the return of
//! the others costs as many stops again. So it moves nothing of those it misses until enough are back, or until an
//! operator says that they are gone. What can be heard is decided about as always.
//!
//! Few members are exempt: of two, one that is missing says nothing about which of both was cut off, and a small cluster is
//! to fail over.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use codeco_protocol::units::{BootTime, Micros};

/// Fewer than this are exempt.
pub const BRAKE_FROM: usize = 3;
/// Who has been missed for this long without a brake is no longer counted: what is lost one after the other over a longer
/// time is not lost at once.
pub const BRAKE_WINDOW: Micros = Micros::from_secs(600);

/// How many are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Missing {
    /// Silent for too long to be fine.
    pub silent: usize,
    /// All that are counted.
    pub of: usize,
}

impl Missing {
    /// Whether it is more than half of enough.
    #[must_use]
    pub fn is_most(self) -> bool {
        self.of >= BRAKE_FROM && self.silent.saturating_mul(2) > self.of
    }
}

/// What has just changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BrakeChange {
    /// Nothing of those that are missing is moved from now on.
    Engaged,
    /// Enough have been there for long enough.
    Released,
}

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Brake {
    engaged: Option<Engaged>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Engaged {
    since: BootTime,
    missing: Missing,
    /// Since when no longer most are missing.
    eased: Option<BootTime>,
}

impl Brake {
    /// Looks at how many are missing. It engages only when something is to be done about one of them (`due`), and ends when
    /// for the time `settle` at most half were missing: those who return after a cut do not return in one moment.
    pub fn look(
        &mut self,
        now: BootTime,
        missing: Missing,
        due: bool,
        settle: Micros,
    ) -> Option<BrakeChange> {
        let Some(engaged) = &mut self.engaged else {
            if !(due && missing.is_most()) {
                return None;
            }
            self.engaged = Some(Engaged { since: now, missing, eased: None });
            return Some(BrakeChange::Engaged);
        };
        engaged.missing = missing;
        if missing.is_most() {
            engaged.eased = None;
            return None;
        }
        let eased = *engaged.eased.get_or_insert(now);
        if now.since(eased) < settle {
            return None;
        }
        self.engaged = None;
        Some(BrakeChange::Released)
    }

    /// Ends it, on an operator's word. `false` if it was not engaged.
    pub fn release(&mut self) -> bool {
        self.engaged.take().is_some()
    }

    /// Whether it is engaged.
    #[must_use]
    pub fn is_engaged(&self) -> bool {
        self.engaged.is_some()
    }

    /// Since when it is engaged, and how many are missing.
    #[must_use]
    pub fn engaged(&self) -> Option<(BootTime, Missing)> {
        self.engaged.map(|engaged| (engaged.since, engaged.missing))
    }
}

/// Steps that may be taken at once, however long there were none before.
pub const PACE_BURST: u64 = 32;
/// Time for one more.
pub const PACE_PERIOD: Micros = Micros::from_millis(125);

/// Bounds the rate of destructive steps: [`PACE_BURST`] at once, then one every [`PACE_PERIOD`] (the generic cell rate
/// algorithm, ITU-T I.371).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pace {
    /// When all that was spent will have been earned again.
    even: BootTime,
}

impl Pace {
    /// Takes one step, if one may be taken now.
    pub fn step(&mut self, now: BootTime) -> bool {
        let even = self.even.max(now);
        if even.since(now).0 > PACE_PERIOD.0 * (PACE_BURST - 1) {
            return false;
        }
        self.even = even + PACE_PERIOD;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTLE: Micros = Micros::from_secs(3);

    fn at(seconds: u64) -> BootTime {
        BootTime(0) + Micros::from_secs(seconds)
    }

    fn missing(silent: usize, of: usize) -> Missing {
        Missing { silent, of }
    }

    #[test]
    fn brake_engages_when_more_than_half_of_at_least_three_are_missing() {
        for (silent, of, engages) in [
            (1, 1, false),
            (1, 2, false),
            (2, 2, false),
            (1, 3, false),
            (2, 3, true),
            (2, 4, false),
            (3, 4, true),
        ] {
            let change = Brake::default().look(at(1), missing(silent, of), true, SETTLE);
            assert_eq!(change == Some(BrakeChange::Engaged), engages, "{silent} of {of}");
        }
        assert_eq!(Brake::default().look(at(1), missing(3, 4), false, SETTLE), None, "nothing is due");
    }

    #[test]
    fn brake_ends_once_enough_have_been_there_for_a_while() {
        let mut brake = Brake::default();
        brake.look(at(1), missing(3, 4), true, SETTLE);
        assert_eq!(brake.look(at(100), missing(3, 4), true, SETTLE), None, "time alone does not end it");
        assert_eq!(brake.look(at(101), missing(2, 4), true, SETTLE), None, "half is there, but only just");
        assert_eq!(brake.look(at(103), missing(3, 4), true, SETTLE), None, "and gone again");
        assert_eq!(brake.look(at(104), missing(2, 4), true, SETTLE), None, "counted anew");
        assert_eq!(brake.look(at(106), missing(1, 4), true, SETTLE), None);
        assert_eq!(brake.look(at(107), missing(1, 4), true, SETTLE), Some(BrakeChange::Released));
        assert!(!brake.is_engaged() && !brake.release());
    }

    #[test]
    fn pace_allows_a_burst_and_then_one_step_each_period() {
        let mut pace = Pace::default();
        let steps = |pace: &mut Pace, now| (0..1_000).take_while(|_| pace.step(now)).count();
        assert_eq!(steps(&mut pace, at(100)), 32);
        assert_eq!(steps(&mut pace, at(101)), 8);
        assert_eq!(steps(&mut pace, at(1_000)), 32, "what was not used is not saved up beyond a burst");
    }
}
