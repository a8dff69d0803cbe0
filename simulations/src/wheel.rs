//! What happens next: events ordered by time, then by the order in which they were made.
//!
//! Most are due within milliseconds, and there are millions: they wait in slots of a wheel, and only those of the present
//! slot are sorted (Brown, «Calendar queues», Communications of the ACM 31(10), 1988).

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

/// A slot is so many microseconds wide, as a power of two.
const SLOT: u32 = 8;
const SLOTS: u64 = 2_048;

#[derive(Debug)]
struct Entry<T> {
    at: u64,
    order: u64,
    event: T,
}

impl<T> Entry<T> {
    fn key(&self) -> (u64, u64) {
        (self.at, self.order)
    }

    fn slot(&self) -> u64 {
        self.at >> SLOT
    }
}

impl<T> PartialEq for Entry<T> {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl<T> Eq for Entry<T> {}

impl<T> PartialOrd for Entry<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Entry<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key())
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    /// Of the present slot, and of those before.
    present: BinaryHeap<Reverse<Entry<T>>>,
    slot: u64,
    wheel: Vec<Vec<Entry<T>>>,
    in_wheel: usize,
    /// Beyond one turn of the wheel.
    far: BinaryHeap<Reverse<Entry<T>>>,
    made: u64,
}

impl<T> Queue<T> {
    pub(crate) fn new() -> Self {
        let wheel = std::iter::repeat_with(Vec::new).take(usize::try_from(SLOTS).unwrap_or(0)).collect();
        Self { present: BinaryHeap::new(), slot: 0, wheel, in_wheel: 0, far: BinaryHeap::new(), made: 0 }
    }

    /// Events that wait.
    pub(crate) fn len(&self) -> usize {
        self.present.len() + self.in_wheel + self.far.len()
    }

    pub(crate) fn push(&mut self, at: u64, event: T) {
        self.made += 1;
        self.put(Entry { at, order: self.made, event });
    }

    fn put(&mut self, entry: Entry<T>) {
        let slot = entry.slot();
        if slot <= self.slot {
            self.present.push(Reverse(entry));
        } else if slot < self.slot + SLOTS {
            self.in_wheel += 1;
            self.place(slot).push(entry);
        } else {
            self.far.push(Reverse(entry));
        }
    }

    fn place(&mut self, slot: u64) -> &mut Vec<Entry<T>> {
        &mut self.wheel[usize::try_from(slot % SLOTS).unwrap_or(0)]
    }

    /// The next event, if it is due at `end` at the latest.
    pub(crate) fn pop(&mut self, end: u64) -> Option<(u64, T)> {
        while self.present.is_empty() {
            if !self.advance(end >> SLOT) {
                return None;
            }
        }
        if self.present.peek().is_some_and(|Reverse(entry)| entry.at > end) {
            return None;
        }
        self.present.pop().map(|Reverse(entry)| (entry.at, entry.event))
    }

    /// On to the next slot, but not beyond `last`.
    fn advance(&mut self, last: u64) -> bool {
        let far = self.far.peek().map(|Reverse(entry)| entry.slot());
        let next = match far {
            _ if self.in_wheel > 0 => self.slot + 1,
            Some(far) => far,
            None => return false,
        };
        if next > last {
            return false;
        }
        self.slot = next;
        while self.far.peek().is_some_and(|Reverse(entry)| entry.slot() < next + SLOTS) {
            if let Some(Reverse(entry)) = self.far.pop() {
                self.put(entry);
            }
        }
        let mut due = std::mem::take(self.place(next));
        self.in_wheel -= due.len();
        self.present.extend(due.drain(..).map(Reverse));
        // Its room is used again.
        *self.place(next) = due;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn queue_gives_events_in_the_order_of_a_sorted_map_whenever_they_are_put_and_taken() {
        let mut rng = fastrand::Rng::with_seed(1);
        let (mut queue, mut map) = (Queue::new(), BTreeMap::new());
        let (mut now, mut made) = (0, 0_u64);
        for _ in 0..20_000 {
            for _ in 0..rng.usize(..4) {
                let longest = [10, 2_000, 400_000, 5_000_000][rng.usize(..4)];
                let wait = rng.u64(..longest);
                made += 1;
                queue.push(now + wait, made);
                map.insert((now + wait, made), made);
            }
            let longest = [1, 1_000, 300_000][rng.usize(..3)];
            let end = now + rng.u64(..longest);
            while let Some((at, event)) = queue.pop(end) {
                let ((due, _), expected) = map.pop_first().unwrap();
                assert_eq!((at, event), (due, expected));
                now = now.max(at);
            }
            assert!(map.first_key_value().is_none_or(|((due, _), _)| *due > end));
            now = end;
            assert_eq!(queue.len(), map.len());
        }
        assert!(made > 20_000);
    }
}
