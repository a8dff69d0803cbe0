//! Seeded changes of inputs: the same numbers make the same inputs, on every machine.

use fastrand::Rng;

/// Longest input made.
pub const INPUT_MAX: usize = 16 << 10;

/// Values at the edges of what numbers hold, as they are written at one to nine bytes.
const EDGES: [&[u8]; 12] = [
    &[0],
    &[1],
    &[0x7f],
    &[0x80],
    &[0xfa],
    &[0xff],
    &[0xff, 0xff],
    &[0xfb, 0xff, 0xff],
    &[0xfc, 0xff, 0xff, 0xff, 0xff],
    &[0xfd, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
    &[0xfd, 0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
    &[0xfd, 0, 0, 0, 0, 0, 0, 0, 0x40],
];

/// A changed copy of `data`, with pieces of `other` in it perhaps.
#[must_use]
pub fn mutated(random: &mut Rng, data: &[u8], other: &[u8]) -> Vec<u8> {
    let mut bytes = data.to_vec();
    // One change most of the time: of many, the first that is noticed hides the rest.
    for _ in 0..4 {
        change(random, &mut bytes, other);
        if random.bool() {
            break;
        }
    }
    bytes.truncate(INPUT_MAX);
    bytes
}

fn change(random: &mut Rng, bytes: &mut Vec<u8>, other: &[u8]) {
    if bytes.is_empty() {
        bytes.extend(std::iter::repeat_with(|| random.u8(..)).take(8));
        return;
    }
    let at = random.usize(..bytes.len());
    match random.u8(..9) {
        0 => bytes[at] ^= 1 << random.u8(..8),
        1 => bytes[at] = random.u8(..),
        2 => bytes.truncate(at),
        3 => {
            // A number, perhaps a length, at its edge.
            let edge = EDGES[random.usize(..EDGES.len())];
            let end = if random.bool() { at + 1 } else { at };
            bytes.splice(at..end, edge.iter().copied());
        }
        4 => {
            // A length of four bytes, or of two.
            let value = [u32::MAX, 1 << 20, 1 << 31, random.u32(..)][random.usize(..4)].to_le_bytes();
            for (byte, new) in bytes[at..].iter_mut().zip(&value[..if random.bool() { 4 } else { 2 }]) {
                *byte = *new;
            }
        }
        5 => {
            let end = (at + random.usize(1..=32)).min(bytes.len());
            bytes.drain(at..end);
        }
        6 => {
            // A segment, repeated.
            let end = (at + random.usize(1..=64)).min(bytes.len());
            let segment = bytes[at..end].to_vec();
            for _ in 0..random.usize(1..=16) {
                bytes.splice(end..end, segment.iter().copied());
            }
        }
        7 => {
            // The rest of another input, or a piece of it.
            if other.is_empty() {
                return;
            }
            let from = random.usize(..other.len());
            if random.bool() {
                bytes.truncate(at);
                bytes.extend(&other[from..]);
            } else {
                let end = (from + random.usize(1..=64)).min(other.len());
                bytes.splice(at..at, other[from..end].iter().copied());
            }
        }
        _ => bytes.splice(at..at, [random.u8(..), random.u8(..)]).for_each(drop),
    }
}
