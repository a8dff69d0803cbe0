//! Bytes, taken apart: whatever they are, they mean something.

use std::fmt::Debug;

use codeco_protocol::wire::{self, ENVELOPE_LEN, WireMessage};

/// First byte of an input of a wire target: the rest is a whole frame.
pub(crate) const WHOLE: u8 = 0;
/// First byte of an input of a wire target: the rest is a message, and gets a fitting envelope.
pub(crate) const BODY: u8 = 1;

/// What is left of an input.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    /// All of it.
    #[must_use]
    pub(crate) fn new(data: &'a [u8]) -> Self {
        Self(data)
    }

    /// Whether nothing is left.
    #[must_use]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One byte; zero where nothing is left.
    pub(crate) fn byte(&mut self) -> u8 {
        self.0.split_off_first().copied().unwrap_or(0)
    }

    /// Two bytes, little endian.
    pub(crate) fn word(&mut self) -> u16 {
        u16::from_le_bytes([self.byte(), self.byte()])
    }

    /// A piece, with its length before it; all that is left where that is too long.
    pub(crate) fn piece(&mut self) -> &'a [u8] {
        let len = usize::from(self.word()).min(self.0.len());
        let (piece, rest) = self.0.split_at(len);
        self.0 = rest;
        piece
    }

    /// All that is left.
    pub(crate) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }
}

/// The same the other way round: how seeds are made.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seed(pub(crate) Vec<u8>);

impl Seed {
    /// One byte.
    #[must_use]
    pub(crate) fn byte(mut self, byte: u8) -> Self {
        self.0.push(byte);
        self
    }

    /// Two bytes.
    #[must_use]
    pub(crate) fn word(mut self, word: u16) -> Self {
        self.0.extend(word.to_le_bytes());
        self
    }

    /// A piece with its length; one that is too long is left out.
    #[must_use]
    pub(crate) fn piece(self, piece: &[u8]) -> Self {
        let Ok(len) = u16::try_from(piece.len()) else { return self.word(0) };
        let mut seed = self.word(len);
        seed.0.extend(piece);
        seed
    }

    /// A message without its envelope, as a piece.
    #[must_use]
    pub(crate) fn message<M: WireMessage>(self, message: &M) -> Self {
        self.piece(&body(message))
    }
}

/// A message without its envelope.
#[must_use]
pub(crate) fn body<M: WireMessage>(message: &M) -> Vec<u8> {
    wire::encode(message).map(|frame| frame[ENVELOPE_LEN..].to_vec()).unwrap_or_default()
}

/// Both inputs of a wire target for a message.
#[must_use]
pub(crate) fn seeds_of<M: WireMessage>(message: &M) -> Vec<Vec<u8>> {
    let body = body(message);
    vec![[&[WHOLE][..], &framed::<M>(&body)].concat(), [&[BODY][..], &body].concat()]
}

/// A body with a fitting envelope.
#[must_use]
pub(crate) fn framed<M: WireMessage>(body: &[u8]) -> Vec<u8> {
    let len = u32::try_from(body.len()).unwrap_or(u32::MAX);
    [&M::KIND.to_le_bytes()[..], &[0, 0], &len.to_le_bytes(), body].concat()
}

/// Reads an input of a wire target as a message of one kind.
///
/// # Panics
/// A message that was read, but cannot be written again, or takes more room then, or reads otherwise.
#[must_use]
pub(crate) fn read<M: WireMessage + Debug>(data: &[u8]) -> Option<M> {
    let (form, rest) = data.split_first()?;
    if *form == WHOLE { read_frame(rest) } else { read_body(rest) }
}

/// Reads a message without its envelope; see [`read`].
#[must_use]
pub(crate) fn read_body<M: WireMessage + Debug>(body: &[u8]) -> Option<M> {
    read_frame(&framed::<M>(body))
}

/// Reads a whole frame; see [`read`].
///
/// # Panics
/// See [`read`].
#[must_use]
pub(crate) fn read_frame<M: WireMessage + Debug>(frame: &[u8]) -> Option<M> {
    let message: M = wire::decode(frame).ok()?;
    let again = match wire::encode(&message) {
        Ok(again) => again,
        Err(error) => panic!("what was read cannot be written: {error}: {message:?}"),
    };
    assert!(again.len() <= frame.len(), "{} bytes were read, {} are written", frame.len(), again.len());
    let same = wire::decode::<M>(&again).and_then(|message| wire::encode(&message));
    // Not compared as values: there are floats among them.
    assert_eq!(same.as_deref(), Ok(&again[..]), "what was written reads otherwise: {message:?}");
    Some(message)
}

/// Numbers at the ends of what they can hold, as bincode writes them.
const ENDS: [&[u8]; 5] = [
    &[0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
    &[0xfd, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
    &[0xfd, 0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
    &[0xfc, 0xff, 0xff, 0xff, 0xff],
    &[0xfb, 0xff, 0xff],
];

/// How many bytes a number takes that begins so.
fn number_len(first: u8) -> usize {
    match first {
        0xfb => 3,
        0xfc => 5,
        0xfd => 9,
        0xfe => 17,
        _ => 1,
    }
}

/// The message with each of its numbers at each of its ends, as far as that still is a message: bodies without envelope.
#[must_use]
pub(crate) fn extremes<M: WireMessage>(message: &M) -> Vec<Vec<u8>> {
    let body = body(message);
    let mut found = std::collections::BTreeSet::new();
    for at in 0..body.len() {
        let end = (at + number_len(body[at])).min(body.len());
        for number in ENDS {
            let changed = [&body[..at], number, &body[end..]].concat();
            if wire::decode::<M>(&framed::<M>(&changed)).is_ok() {
                found.insert(changed);
                break;
            }
        }
        // One less than the most: what is added to it first still fits.
        let changed = [&body[..at], ENDS[2], &body[end..]].concat();
        if wire::decode::<M>(&framed::<M>(&changed)).is_ok() {
            found.insert(changed);
        }
    }
    found.into_iter().collect()
}

/// The same as inputs of a wire target.
#[must_use]
pub(crate) fn extremes_of<M: WireMessage>(message: &M) -> Vec<Vec<u8>> {
    extremes(message).into_iter().map(|body| [&[BODY][..], &body].concat()).collect()
}
