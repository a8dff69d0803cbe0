//! What becomes of a packet on a slow, jittery line. No clock and no device here: times come in and go out, and a seed
//! repeats everything.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

/// Most packets under way at once; what is more is lost, as in a router.
const WAITING_MAX: usize = 4_096;

/// How a line treats packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Manner {
    /// Every packet is late by this.
    pub delay: Duration,
    /// And by up to this more. Later packets wait for earlier ones: by itself it changes no order.
    pub jitter: Duration,
    /// Of a hundred packets, so many do not wait for earlier ones, nor for the delay.
    pub overtaking_percent: u8,
    /// Of a hundred packets, so many arrive twice.
    pub doubled_percent: u8,
    /// Of a hundred packets, so many are lost.
    pub lost_percent: u8,
}

/// Packets by what became of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Fates {
    /// All that came.
    pub came: u64,
    /// Those that were lost.
    pub lost: u64,
    /// Those that did not wait.
    pub overtook: u64,
    /// Those that leave twice.
    pub doubled: u64,
}

/// Decides about one packet after the other.
#[derive(Debug)]
pub struct Shaper {
    manner: Manner,
    random: fastrand::Rng,
    /// When the last of those that keep their order leaves.
    last: Duration,
    fates: Fates,
}

impl Shaper {
    /// A line; the same seed repeats what it does.
    #[must_use]
    pub fn new(manner: Manner, seed: u64) -> Self {
        let random = fastrand::Rng::with_seed(seed);
        Self { manner, random, last: Duration::ZERO, fates: Fates::default() }
    }

    /// When a packet that comes `now` leaves: never, once, or twice.
    pub fn fate(&mut self, now: Duration) -> Vec<Duration> {
        // Every packet takes the same number of random numbers, so that changing one share does not move the others.
        let [lost, overtakes, doubled] = [(); 3].map(|()| self.random.u8(0..100));
        let [late, later] = [(); 2].map(|()| self.manner.jitter.mul_f64(self.random.f64()));
        self.fates.came += 1;
        if lost < self.manner.lost_percent {
            self.fates.lost += 1;
            return Vec::new();
        }
        let leaves = if overtakes < self.manner.overtaking_percent {
            self.fates.overtook += 1;
            now
        } else {
            self.last = self.last.max(now + self.manner.delay + late);
            self.last
        };
        if doubled < self.manner.doubled_percent {
            self.fates.doubled += 1;
            return vec![leaves, leaves + later];
        }
        vec![leaves]
    }

    /// What became of all packets up to now.
    #[must_use]
    pub fn fates(&self) -> Fates {
        self.fates
    }
}

/// Packets under way, by the time at which they leave.
#[derive(Debug, Default)]
pub struct Line {
    packets: BinaryHeap<Reverse<(Duration, u64, Vec<u8>)>>,
    taken: u64,
}

impl Line {
    /// Takes a packet that leaves then; whether there was room for it.
    pub fn put(&mut self, leaves: Duration, packet: Vec<u8>) -> bool {
        if self.packets.len() >= WAITING_MAX {
            return false;
        }
        self.taken += 1;
        self.packets.push(Reverse((leaves, self.taken, packet)));
        true
    }

    /// When the next one leaves.
    #[must_use]
    pub fn next(&self) -> Option<Duration> {
        self.packets.peek().map(|Reverse((leaves, ..))| *leaves)
    }

    /// The next one, if it leaves by `now`. Those of one time leave as they came.
    pub fn take(&mut self, now: Duration) -> Option<Vec<u8>> {
        if self.next()? > now {
            return None;
        }
        self.packets.pop().map(|Reverse((.., packet))| packet)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const PLAIN: Manner = Manner {
        delay: Duration::from_millis(40),
        jitter: Duration::ZERO,
        overtaking_percent: 0,
        doubled_percent: 0,
        lost_percent: 0,
    };
    const COUNT: u32 = 2_000;

    /// Times of leaving of packets that come once a millisecond.
    fn run(manner: Manner, seed: u64) -> (Vec<Vec<Duration>>, Fates) {
        let mut shaper = Shaper::new(manner, seed);
        let fates = (0..COUNT).map(|at| shaper.fate(MS * at)).collect();
        (fates, shaper.fates())
    }

    /// Whether so many of [`COUNT`] are about `percent` of a hundred.
    fn is_about(found: u64, percent: u64) -> bool {
        let expected = u64::from(COUNT) * percent / 100;
        found.abs_diff(expected) < expected / 4
    }

    #[test]
    fn packet_on_a_plain_line_is_late_by_the_delay() {
        let (fates, counted) = run(PLAIN, 1);
        for (at, fate) in (0..).zip(fates) {
            assert_eq!(fate, [MS * at + PLAIN.delay]);
        }
        assert_eq!(counted, Fates { came: u64::from(COUNT), ..Fates::default() });
    }

    #[test]
    fn packets_with_jitter_spread_and_keep_their_order() {
        let (fates, _) = run(Manner { jitter: MS * 30, ..PLAIN }, 2);
        let times: Vec<Duration> = fates.into_iter().flatten().collect();
        assert!(times.is_sorted());
        let late: Vec<Duration> = (0..).zip(&times).map(|(at, leaves)| *leaves - MS * at).collect();
        assert!(late.iter().all(|late| (MS * 40..=MS * 70).contains(late)));
        assert!(*late.iter().max().unwrap() > MS * 65 && *late.iter().min().unwrap() < MS * 60, "{late:?}");
    }

    #[test]
    fn packets_that_overtake_leave_before_earlier_ones() {
        let (fates, counted) = run(Manner { overtaking_percent: 20, ..PLAIN }, 3);
        let times: Vec<Duration> = fates.into_iter().flatten().collect();
        let at_once = (0..).zip(&times).filter(|(at, leaves)| **leaves == MS * *at).count() as u64;
        assert_eq!(at_once, counted.overtook);
        assert!(is_about(at_once, 20), "{at_once}");
        assert!(!times.is_sorted());
    }

    #[test]
    fn packets_are_lost_and_doubled_as_often_as_asked() {
        let (fates, counted) = run(Manner { lost_percent: 20, doubled_percent: 10, ..PLAIN }, 4);
        let of = |copies: usize| fates.iter().filter(|fate| fate.len() == copies).count() as u64;
        assert_eq!((of(0), of(2)), (counted.lost, counted.doubled));
        assert!(is_about(of(0), 20) && is_about(of(2), 8), "{counted:?}");
    }

    #[test]
    fn same_seed_repeats_every_fate_and_another_does_not() {
        let rough = Manner {
            jitter: MS * 30,
            overtaking_percent: 10,
            doubled_percent: 10,
            lost_percent: 10,
            ..PLAIN
        };
        assert_eq!(run(rough, 5), run(rough, 5));
        assert_ne!(run(rough, 5), run(rough, 6));
    }

    #[test]
    fn line_gives_packets_by_time_then_as_they_came_and_none_early() {
        let mut line = Line::default();
        for (leaves, packet) in [(30, 1), (10, 2), (30, 3), (20, 4)] {
            assert!(line.put(MS * leaves, vec![packet]));
        }
        assert_eq!((line.next(), line.take(MS * 9)), (Some(MS * 10), None));
        let taken: Vec<u8> = std::iter::from_fn(|| line.take(MS * 30)).flatten().collect();
        assert_eq!(taken, [2, 4, 1, 3]);
        assert_eq!(line.next(), None);
    }

    #[test]
    fn line_that_is_full_takes_no_more() {
        let mut line = Line::default();
        let taken = (0..WAITING_MAX + 5).filter(|_| line.put(MS, Vec::new())).count();
        assert_eq!(taken, WAITING_MAX);
        assert!(line.take(MS).is_some() && line.put(MS, Vec::new()));
    }
}
