//! What happens next: events by virtual time, then by the order in which they were made.
//!
//! A calendar of short days in front of a heap: what is due soon, which is nearly everything, costs no more however many
//! events wait (Brown, «Calendar queues», Communications of the ACM 31(10), 1988).

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

/// Length of a day in microseconds, as a shift.
const DAY: u32 = 8;
/// Days of the calendar: what is later waits in the heap.
const DAYS: usize = 4_096;

#[derive(Debug)]
struct Entry<E> {
    at: u64,
    made: u64,
    event: E,
}

impl<E> Entry<E> {
    fn key(&self) -> (u64, u64) {
        (self.at, self.made)
    }
}

impl<E> PartialEq for Entry<E> {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl<E> Eq for Entry<E> {}

impl<E> PartialOrd for Entry<E> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> Ord for Entry<E> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Queue<E> {
    /// Today's events, ordered.
    today: VecDeque<Entry<E>>,
    /// Which day that is, counted from the beginning of time.
    day: u64,
    /// The days after it, unordered within.
    days: Vec<Vec<Entry<E>>>,
    near: usize,
    far: BinaryHeap<Reverse<Entry<E>>>,
    made: u64,
}

impl<E> Queue<E> {
    pub(crate) fn new() -> Self {
        Self {
            today: VecDeque::new(),
            day: 0,
            days: (0..DAYS).map(|_| Vec::new()).collect(),
            near: 0,
            far: BinaryHeap::new(),
            made: 0,
        }
    }

    /// Events that wait.
    pub(crate) fn len(&self) -> usize {
        self.today.len() + self.near + self.far.len()
    }

    fn slot(day: u64) -> usize {
        usize::try_from(day % DAYS as u64).unwrap_or(0)
    }

    pub(crate) fn push(&mut self, at: u64, event: E) {
        self.made += 1;
        let entry = Entry { at, made: self.made, event };
        let day = at >> DAY;
        if day <= self.day {
            let place = self.today.partition_point(|known| known.key() <= entry.key());
            self.today.insert(place, entry);
        } else if day - self.day < DAYS as u64 {
            self.days[Self::slot(day)].push(entry);
            self.near += 1;
        } else {
            self.far.push(Reverse(entry));
        }
    }

    pub(crate) fn pop(&mut self) -> Option<(u64, E)> {
        while self.today.is_empty() {
            self.day = if self.near > 0 { self.day + 1 } else { self.far.peek()?.0.at >> DAY };
            // What comes into the calendar with this day.
            let end = (self.day + DAYS as u64) << DAY;
            while self.far.peek().is_some_and(|Reverse(entry)| entry.at < end) {
                if let Some(Reverse(entry)) = self.far.pop() {
                    self.days[Self::slot(entry.at >> DAY)].push(entry);
                    self.near += 1;
                }
            }
            let mut events = std::mem::take(&mut self.days[Self::slot(self.day)]);
            self.near -= events.len();
            events.sort_unstable_by_key(Entry::key);
            self.today.extend(events.drain(..));
            // Its room is used again.
            self.days[Self::slot(self.day)] = events;
        }
        self.today.pop_front().map(|entry| (entry.at, entry.event))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn queue_gives_events_by_time_and_then_as_they_were_made() {
        let mut rng = fastrand::Rng::with_seed(3);
        let (mut queue, mut model, mut now) = (Queue::new(), BTreeMap::new(), 0);
        for number in 0..200_000_u64 {
            let span = match rng.u8(0..4) {
                0 => rng.u64(0..3),
                1 => rng.u64(0..2_000),
                2 => rng.u64(0..1_500_000),
                _ => rng.u64(0..90_000_000),
            };
            queue.push(now + span, number);
            model.insert((now + span, number), number);
            if rng.bool() || number > 150_000 {
                let (at, event) = queue.pop().unwrap();
                let ((expected, _), wanted) = model.pop_first().unwrap();
                assert_eq!((at, event), (expected, wanted));
                now = at;
            }
        }
        while let Some((at, event)) = queue.pop() {
            let ((expected, _), wanted) = model.pop_first().unwrap();
            assert_eq!((at, event), (expected, wanted));
        }
        assert!(model.is_empty() && queue.len() == 0);
    }
}
