//! How often a member tells others that its own facts have changed.
//!
//! Each change is taken, checked and passed on by every member of the cluster. So that a cluster in which much happens at
//! once, such as one that starts or elects a lead, does not spend all its time on news, a member of a large cluster
//! tells fewer of them, each with all that has changed since. A few in a row go at once (the generic cell rate
//! algorithm, ITU-T I.371).

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use codeco_protocol::units::{BootTime, Micros};

/// Between two changes on average: so long for each member. What all of them tell is then at most twenty changes in a
/// second, which take about one per cent of a processor to check.
const PER_MEMBER: Micros = Micros::from_millis(50);
/// The same at most.
const PERIOD_MAX: Micros = Micros::from_secs(10);
/// Changes told at once in a cluster of one; in a larger one so much fewer, but one at least.
const BURST_OF_ALL: u64 = 64;
/// The same at most, and of what somebody waits for.
const BURST_MAX: u64 = 8;

/// See the module.
#[derive(Debug, Default)]
pub struct Pacing {
    /// When all that was told would have been due, one after the other.
    spent_until: BootTime,
}

impl Pacing {
    /// When a change made at `now` may be told in a cluster of so many members. It counts as told then.
    pub fn due(&mut self, now: BootTime, members: usize) -> BootTime {
        let members = u64::try_from(members).unwrap_or(u64::MAX).max(1);
        self.spend(now, members, (BURST_OF_ALL / members).clamp(1, BURST_MAX))
    }

    /// Whether a change that somebody waits for may be told now. If so, it counts as told.
    pub fn may_hurry(&mut self, now: BootTime, members: usize) -> bool {
        let before = self.spent_until;
        let may = self.spend(now, u64::try_from(members).unwrap_or(u64::MAX).max(1), BURST_MAX) == now;
        if !may {
            self.spent_until = before;
        }
        may
    }

    fn spend(&mut self, now: BootTime, members: u64, burst: u64) -> BootTime {
        let period = PER_MEMBER.0.saturating_mul(members).min(PERIOD_MAX.0);
        let ahead = period.saturating_mul(burst - 1);
        let start = self.spent_until.max(now);
        self.spent_until = start + Micros(period);
        BootTime(start.0.saturating_sub(ahead)).max(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(members: usize, changes: u64) -> Vec<u64> {
        let mut pacing = Pacing::default();
        let now = BootTime(1_000_000);
        (0..changes).map(|_| pacing.due(now, members).since(now).0 / 1_000).collect()
    }

    #[test]
    fn few_changes_go_at_once_and_many_are_told_less_often_the_more_members_there_are() {
        assert_eq!(told(4, 10), [0, 0, 0, 0, 0, 0, 0, 0, 200, 400]);
        assert_eq!(told(100, 3), [0, 5_000, 10_000]);
        assert_eq!(told(10_000, 3), [0, 10_000, 20_000], "never slower than that");
    }

    #[test]
    fn what_somebody_waits_for_goes_at_once_if_it_does_not_come_all_the_time() {
        let (mut pacing, now) = (Pacing::default(), BootTime(1_000_000));
        let went: Vec<bool> = (0..10).map(|_| pacing.may_hurry(now, 100)).collect();
        assert_eq!(went, [true, true, true, true, true, true, true, true, false, false]);
        assert!(pacing.may_hurry(now + Micros::from_secs(5), 100), "what was refused costs nothing");
        assert!(!pacing.may_hurry(now + Micros::from_secs(5), 100));
    }

    #[test]
    fn changes_that_come_rarely_are_told_at_once() {
        let mut pacing = Pacing::default();
        for second in 1..100 {
            let now = BootTime(second * 6_000_000);
            assert_eq!(pacing.due(now, 100), now);
        }
    }
}
