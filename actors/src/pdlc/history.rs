//! What a node remembers of its own load: two rings of buckets, fine ones folded into steps.
//!
//! It never leaves the node; what leaves is [`History::summary`]. Slots have fixed places on disk, each with a checksum, so
//! a write that was torn costs one bucket.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use codeco_protocol::gossip::{HORIZON, LoadFact, LoadSeries, WHOLE, WINDOW};
use codeco_protocol::units::WallTime;

use super::loss::quantile;

/// Fine buckets in one step.
pub const FINE_PER_STEP: u64 = 60;
/// Fine buckets kept: twelve steps.
pub const FINE_SLOTS: usize = 720;
/// Steps kept: a week of five minutes each.
pub const STEP_SLOTS: usize = 2_016;
/// Steps of one season: a day of five minutes each.
pub const SEASON: u64 = 288;
/// Bytes of one slot on disk: number, four shares, checksum.
pub const SLOT_LEN: usize = 20;
/// Bytes of both rings on disk.
pub const RINGS_LEN: usize = (FINE_SLOTS + STEP_SLOTS) * SLOT_LEN;
/// Steps of a window that may be missing; the value before stands for them.
const HOLES_MAX: usize = WINDOW / 4;

/// Shares of capacity, in thousandths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Measured {
    /// Processor used.
    pub cpu: u16,
    /// Memory used.
    pub memory: u16,
    /// Processor promised to replicas.
    pub promised_cpu: u16,
    /// Memory promised to replicas.
    pub promised_memory: u16,
}

impl Measured {
    fn shares(self) -> [u16; 4] {
        [self.cpu, self.memory, self.promised_cpu, self.promised_memory]
    }

    fn of(shares: [u16; 4]) -> Self {
        let [cpu, memory, promised_cpu, promised_memory] = shares.map(|share| share.min(WHOLE));
        Self { cpu, memory, promised_cpu, promised_memory }
    }
}

/// A share in thousandths, clipped to 0…1; what is no number is unknown.
#[must_use]
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
pub fn thousandths(share: f64) -> Option<u16> {
    share.is_finite().then(|| (share.clamp(0.0, 1.0) * f64::from(WHOLE)).round() as u16)
}

/// Bytes to be written at a place of the rings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Write {
    /// From the rings' start.
    pub offset: u64,
    /// What.
    pub bytes: [u8; SLOT_LEN],
}

type Slot = Option<(u64, Measured)>;

/// See the module.
#[derive(Debug, Clone, PartialEq)]
pub struct History {
    step_ms: u64,
    fine: Vec<Slot>,
    steps: Vec<Slot>,
    /// The fine bucket that is being filled: its number, sums, count.
    open: Option<(u64, [u64; 4], u64)>,
}

impl History {
    /// An empty history of steps this long, at least [`FINE_PER_STEP`] milliseconds.
    #[must_use]
    pub fn new(step_ms: u32) -> Self {
        let step_ms = u64::from(step_ms).max(FINE_PER_STEP);
        Self { step_ms, fine: vec![None; FINE_SLOTS], steps: vec![None; STEP_SLOTS], open: None }
    }

    /// What rings on disk hold. Slots that are torn, or not where they belong, are unknown.
    #[must_use]
    pub fn restore(step_ms: u32, rings: &[u8]) -> Self {
        let mut history = Self::new(step_ms);
        for (at, bytes) in rings.chunks_exact(SLOT_LEN).take(FINE_SLOTS + STEP_SLOTS).enumerate() {
            let (ring, at) = match at.checked_sub(FINE_SLOTS) {
                None => (&mut history.fine, at),
                Some(at) => (&mut history.steps, at),
            };
            let Some((number, measured)) = read_slot(bytes) else { continue };
            if place(number, ring.len()) == at {
                ring[at] = Some((number, measured));
            }
        }
        history
    }

    fn fine_ms(&self) -> u64 {
        self.step_ms / FINE_PER_STEP
    }

    /// The step `now` lies in.
    #[must_use]
    pub fn step_of(&self, now: WallTime) -> u64 {
        // Whole fine buckets, so that every one lies in exactly one step.
        now.0 / self.fine_ms() / FINE_PER_STEP
    }

    /// Takes a measurement; returns what is to be written. A clock that went back only overwrites.
    pub fn add(&mut self, now: WallTime, measured: Measured) -> Vec<Write> {
        let number = now.0 / self.fine_ms();
        let mut writes = Vec::new();
        if let Some((open, sums, count)) = self.open.filter(|(open, ..)| *open != number) {
            writes = self.close(open, sums, count);
            self.open = None;
        }
        let (_, sums, count) = self.open.get_or_insert((number, [0; 4], 0));
        for (sum, share) in sums.iter_mut().zip(measured.shares()) {
            *sum += u64::from(share.min(WHOLE));
        }
        *count += 1;
        writes
    }

    fn close(&mut self, number: u64, sums: [u64; 4], count: u64) -> Vec<Write> {
        let mean = mean(sums, count);
        self.fine[place(number, FINE_SLOTS)] = Some((number, mean));
        let step = number / FINE_PER_STEP;
        let first = step * FINE_PER_STEP;
        let (mut sums, mut count) = ([0; 4], 0);
        for at in first..first + FINE_PER_STEP {
            if let Some((found, measured)) = self.fine[place(at, FINE_SLOTS)]
                && found == at
            {
                for (sum, share) in sums.iter_mut().zip(measured.shares()) {
                    *sum += u64::from(share);
                }
                count += 1;
            }
        }
        let folded = self::mean(sums, count);
        self.steps[place(step, STEP_SLOTS)] = Some((step, folded));
        vec![
            Write { offset: offset(0, number, FINE_SLOTS), bytes: slot(number, mean) },
            Write { offset: offset(FINE_SLOTS, step, STEP_SLOTS), bytes: slot(step, folded) },
        ]
    }

    /// The mean of one step.
    #[must_use]
    pub fn step(&self, number: u64) -> Option<Measured> {
        self.steps[place(number, STEP_SLOTS)]
            .filter(|(found, _)| *found == number)
            .map(|(_, measured)| measured)
    }

    /// What others are told: the last complete steps, in thousandths and clipped. `None` while too much of them is not
    /// known; a step that is missing is told as the one before it, never as none.
    #[must_use]
    pub fn summary(&self, now: WallTime) -> Option<LoadFact> {
        let newest = self.step_of(now).checked_sub(1)?;
        self.step(newest)?;
        let series = |read: fn(Measured) -> u16| self.series(newest, read);
        Some(LoadFact {
            step_ms: u32::try_from(self.step_ms).ok()?,
            newest,
            cpu: series(|measured| measured.cpu)?,
            memory: series(|measured| measured.memory)?,
        })
    }

    fn series(&self, newest: u64, read: fn(Measured) -> u16) -> Option<LoadSeries> {
        let first = newest.checked_sub(WINDOW as u64 - 1)?;
        let mut window = Vec::with_capacity(WINDOW);
        let mut holes = 0;
        for number in first..=newest {
            match (self.step(number), window.last()) {
                (Some(measured), _) => window.push(read(measured)),
                (None, Some(before)) if holes < HOLES_MAX => {
                    holes += 1;
                    window.push(*before);
                }
                (None, _) => return None,
            }
        }
        let season_from = (newest + 1).checked_sub(SEASON);
        let season = season_from.and_then(|from| {
            (from..from + HORIZON as u64)
                .map(|number| self.step(number).map(read))
                .collect::<Option<Vec<_>>>()
        });
        let known: Vec<f32> = (newest.saturating_sub(SEASON - 1)..=newest)
            .filter_map(|number| self.step(number).map(|measured| f32::from(read(measured))))
            .collect();
        #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let (mean, median) = (
            (known.iter().sum::<f32>() / known.len().max(1) as f32).round() as u16,
            quantile(&known, 0.5).round() as u16,
        );
        Some(LoadSeries { window, season: season.unwrap_or_default(), mean, median })
    }
}

fn mean(sums: [u64; 4], count: u64) -> Measured {
    Measured::of(sums.map(|sum| u16::try_from(sum / count.max(1)).unwrap_or(WHOLE)))
}

fn place(number: u64, slots: usize) -> usize {
    usize::try_from(number % slots as u64).unwrap_or(0)
}

fn offset(first: usize, number: u64, slots: usize) -> u64 {
    ((first + place(number, slots)) * SLOT_LEN) as u64
}

fn slot(number: u64, measured: Measured) -> [u8; SLOT_LEN] {
    let mut bytes = [0; SLOT_LEN];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    for (place, share) in bytes[8..16].chunks_exact_mut(2).zip(measured.shares()) {
        place.copy_from_slice(&share.to_le_bytes());
    }
    let checksum = crc32fast::hash(&bytes[..16]);
    bytes[16..].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

fn read_slot(bytes: &[u8]) -> Option<(u64, Measured)> {
    let bytes: &[u8; SLOT_LEN] = bytes.try_into().ok()?;
    let checksum = crc32fast::hash(&bytes[..16]);
    if bytes[16..] != checksum.to_le_bytes() {
        return None;
    }
    let number = u64::from_le_bytes(bytes[..8].try_into().ok()?);
    let share = |at: usize| u16::from_le_bytes([bytes[8 + 2 * at], bytes[9 + 2 * at]]);
    Some((number, Measured::of(std::array::from_fn(share))))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STEP: u32 = 600;

    fn measured(cpu: u16) -> Measured {
        Measured { cpu, memory: 500, promised_cpu: 100, promised_memory: 100 }
    }

    /// One measurement in each fine bucket of the steps.
    fn fill(history: &mut History, rings: &mut [u8], steps: std::ops::Range<u64>, cpu: impl Fn(u64) -> u16) {
        for bucket in steps.start * FINE_PER_STEP..steps.end * FINE_PER_STEP {
            let writes = history.add(WallTime(bucket * 10), measured(cpu(bucket / FINE_PER_STEP)));
            for write in writes {
                let at = usize::try_from(write.offset).unwrap();
                rings[at..at + SLOT_LEN].copy_from_slice(&write.bytes);
            }
        }
    }

    #[test]
    fn history_read_back_from_its_file_gives_the_same_summary() {
        let (mut history, mut rings) = (History::new(STEP), vec![0; RINGS_LEN]);
        fill(&mut history, &mut rings, 1_000..1_400, |step| u16::try_from(step % 100).unwrap() * 10);
        let now = WallTime(1_399 * u64::from(STEP) + 5);
        let summary = history.summary(now).unwrap();
        assert_eq!(summary.check(), Ok(()));
        assert_eq!(summary.newest, 1_398);
        assert_eq!(summary.cpu.window.last(), Some(&980));
        assert_eq!(summary.cpu.season[0], u16::try_from((1_399 - 288) % 100).unwrap() * 10);
        assert_eq!(History::restore(STEP, &rings).summary(now), Some(summary));
    }

    #[test]
    fn history_with_torn_slots_or_garbage_knows_the_rest() {
        let (mut history, mut rings) = (History::new(STEP), vec![0; RINGS_LEN]);
        fill(&mut history, &mut rings, 0..40, |_| 300);
        let torn = FINE_SLOTS * SLOT_LEN + 30 * SLOT_LEN + 9;
        rings[torn] ^= 0xff;
        let again = History::restore(STEP, &rings);
        assert_eq!(again.step(30), None);
        assert_eq!(again.step(29).map(|m| m.cpu), Some(300));
        assert_eq!(
            again.summary(WallTime(39 * 600)).unwrap().cpu.window,
            vec![300; WINDOW],
            "held, not zero"
        );
        let garbage: Vec<u8> = (0..RINGS_LEN).map(|i| u8::try_from(i % 251).unwrap()).collect();
        assert_eq!(History::restore(STEP, &garbage), History::new(STEP));
    }

    #[test]
    fn summary_of_a_history_with_many_holes_or_too_short_is_not_told() {
        let (mut history, mut rings) = (History::new(STEP), vec![0; RINGS_LEN]);
        fill(&mut history, &mut rings, 0..10, |_| 300);
        assert_eq!(history.summary(WallTime(9 * 600)), None);
        fill(&mut history, &mut rings, 20..40, |_| 300);
        assert_eq!(history.summary(WallTime(39 * 600)), None, "ten of the last 24 steps are missing");
        assert_eq!(history.summary(WallTime(80 * 600)), None, "the newest is missing");
    }

    #[test]
    fn share_that_is_no_number_is_unknown_and_others_are_clipped() {
        assert_eq!(thousandths(f64::NAN), None);
        assert_eq!(
            (thousandths(-3.0), thousandths(0.25), thousandths(7.0)),
            (Some(0), Some(250), Some(WHOLE))
        );
    }

    proptest! {
        #[test]
        fn summary_of_any_measurements_at_any_times_passes_the_check_of_its_readers(
            times in proptest::collection::vec((0_u64..60_000, 0_u16..=u16::MAX), 0..400),
        ) {
            let mut history = History::new(STEP);
            for (at, cpu) in times {
                history.add(WallTime(at), measured(cpu));
                if let Some(summary) = history.summary(WallTime(at)) {
                    prop_assert_eq!(summary.check(), Ok(()));
                }
            }
        }
    }
}
