//! Bytes to messages and back: the only place where bincode is used.
//!
//! A frame is an envelope of eight bytes, little endian, followed by the message:
//!
//! ```text
//! kind u16 | flags u16 | length u32 | message (bincode 2, standard configuration), `length` bytes
//! ```
//!
//! Everything that arrives may be hostile. So the envelope is checked before anything is allocated or decoded: the
//! kind must be the one expected, no flag may be set that this version does not know, the length must be within the
//! limit of that kind. The decoder itself runs under a memory limit, and what is left over after the message is an
//! error. Kinds are append-only: a number, once used, always means the same message.

use std::time::Duration;

use bincode::{Decode, Encode};
use quinn::{ReadError, ReadExactError, RecvStream, SendStream};

/// Length of the envelope, in bytes.
pub const ENVELOPE_LEN: usize = 8;

/// Longest message any kind may allow, in bytes. Longer things are sent in pieces.
pub const MESSAGE_LEN_MAX: usize = 1 << 20;

/// Flags this version understands: none yet.
const KNOWN_FLAGS: u16 = 0;

/// The kinds of this crate's own messages. Append only; never reuse a number.
pub mod kinds {
    /// First message of a connection, from the side that dialled.
    pub const HELLO: u16 = 1;
    /// Answer to [`HELLO`].
    pub const WELCOME: u16 = 2;
    /// Request to become a member.
    pub const JOIN_REQUEST: u16 = 3;
    /// Answer to [`JOIN_REQUEST`].
    pub const JOIN_REPLY: u16 = 4;
    /// Content of a join token (never on the wire, but encoded the same way).
    pub const JOIN_TOKEN: u16 = 5;
    /// Request for a fresh certificate.
    pub const RENEW_REQUEST: u16 = 6;
    /// Answer to [`RENEW_REQUEST`].
    pub const RENEW_REPLY: u16 = 7;
    /// Whom to trust (inside of [`SIGNED_TRUST`]).
    pub const TRUST_LIST: u16 = 8;
    /// The same with signatures.
    pub const SIGNED_TRUST: u16 = 9;
    /// First number for messages defined outside `wire`, `identity` and `transport`.
    pub const FIRST_FREE: u16 = 16;
}

/// A message that may cross the wire.
///
/// The type MUST NOT be recursive and MUST NOT contain collections of zero-sized elements: the decoder's limit is on
/// memory, and neither costs any.
pub trait WireMessage: Encode + Decode<()> {
    /// Number of this kind of message. Append-only over the life of the project.
    const KIND: u16;
    /// Longest encoded message accepted, in bytes without envelope; at most [`MESSAGE_LEN_MAX`].
    const MAX_LEN: usize;
}

/// Why bytes are not the message expected, or could not be sent or received.
///
/// Decoding has no side effect. After an error on a stream, the stream is useless: reset it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// Longer than this kind of message may be. Nothing was decoded or sent.
    #[error("message of kind {kind} has {len} bytes, but at most {max} are allowed")]
    TooLong {
        /// Kind of message.
        kind: u16,
        /// Length claimed or encoded.
        len: usize,
        /// The limit.
        max: usize,
    },
    /// Fewer bytes than the envelope says, or less than an envelope.
    #[error("frame is cut off: {found} bytes where {expected} were expected")]
    Truncated {
        /// Bytes found.
        found: usize,
        /// Bytes needed.
        expected: usize,
    },
    /// More bytes than the envelope or the message accounts for.
    #[error("{count} bytes are left over after a message of kind {kind}")]
    Trailing {
        /// Kind of message.
        kind: u16,
        /// Bytes left over.
        count: usize,
    },
    /// Another kind of message than expected here.
    #[error("message of kind {found} where kind {expected} was expected")]
    WrongKind {
        /// Kind found.
        found: u16,
        /// Kind expected.
        expected: u16,
    },
    /// A flag is set that this version does not know.
    #[error(
        "message of kind {kind} has unknown flags {flags:#06x}: the sender is newer than this version allows"
    )]
    UnknownFlags {
        /// Kind of message.
        kind: u16,
        /// All flags found.
        flags: u16,
    },
    /// The content does not fit the type.
    #[error("message of kind {kind} cannot be decoded: {detail}")]
    Undecodable {
        /// Kind of message.
        kind: u16,
        /// What the decoder said.
        detail: String,
    },
    /// A message of ours could not be encoded: a bug.
    #[error("message of kind {kind} cannot be encoded (this is a bug): {detail}")]
    Unencodable {
        /// Kind of message.
        kind: u16,
        /// What the encoder said.
        detail: String,
    },
    /// The stream ended cleanly before a frame began.
    #[error("the stream ended before a message of kind {kind} began")]
    Ended {
        /// Kind of message that was expected.
        kind: u16,
    },
    /// Not sent or received in time.
    #[error("message of kind {kind} did not get through within {} ms", deadline.as_millis())]
    Deadline {
        /// Kind of message.
        kind: u16,
        /// The time allowed.
        deadline: Duration,
    },
    /// The stream or its connection failed.
    #[error("stream failed while a message of kind {kind} was under way: {detail}")]
    Stream {
        /// Kind of message.
        kind: u16,
        /// What the transport said.
        detail: String,
    },
}

/// Encodes `message` with its envelope.
///
/// # Errors
/// [`WireError::TooLong`] if the message exceeds its own limit, [`WireError::Unencodable`] on a bug.
pub fn encode<M: WireMessage>(message: &M) -> Result<Vec<u8>, WireError> {
    const { assert!(M::MAX_LEN <= MESSAGE_LEN_MAX, "no message may allow more than MESSAGE_LEN_MAX") };
    let body = bincode::encode_to_vec(message, bincode::config::standard())
        .map_err(|e| WireError::Unencodable { kind: M::KIND, detail: e.to_string() })?;
    let too_long = WireError::TooLong { kind: M::KIND, len: body.len(), max: M::MAX_LEN };
    let Ok(len) = u32::try_from(body.len()) else { return Err(too_long) };
    if body.len() > M::MAX_LEN {
        return Err(too_long);
    }
    let mut frame = Vec::with_capacity(ENVELOPE_LEN + body.len());
    frame.extend_from_slice(&M::KIND.to_le_bytes());
    frame.extend_from_slice(&0_u16.to_le_bytes());
    frame.extend_from_slice(&len.to_le_bytes());
    frame.extend_from_slice(&body);
    Ok(frame)
}

/// Decodes exactly one frame: the whole of `frame`, nothing less and nothing more.
///
/// # Errors
/// Every [`WireError`] that says what is wrong with the bytes.
pub fn decode<M: WireMessage>(frame: &[u8]) -> Result<M, WireError> {
    let len = check_envelope::<M>(frame)?;
    let body = &frame[ENVELOPE_LEN..];
    if body.len() < len {
        return Err(WireError::Truncated { found: frame.len(), expected: ENVELOPE_LEN + len });
    }
    if body.len() > len {
        return Err(WireError::Trailing { kind: M::KIND, count: body.len() - len });
    }
    decode_body(body)
}

/// The kind a frame claims to be, for receivers that expect one of several. Nothing else is checked.
///
/// # Errors
/// [`WireError::Truncated`] if there is no envelope.
pub fn kind_of(frame: &[u8]) -> Result<u16, WireError> {
    let (envelope, _) = split_envelope(frame)?;
    Ok(u16::from_le_bytes([envelope[0], envelope[1]]))
}

/// Sends one frame, waiting at most `deadline` for flow control.
///
/// # Errors
/// [`WireError::TooLong`], [`WireError::Deadline`] or [`WireError::Stream`]; after the last two a part of the frame
/// may have been sent, so the stream must be reset.
pub async fn write_frame<M: WireMessage>(
    stream: &mut SendStream,
    message: &M,
    deadline: Duration,
) -> Result<(), WireError> {
    let frame = encode(message)?;
    match tokio::time::timeout(deadline, stream.write_all(&frame)).await {
        Err(_) => Err(WireError::Deadline { kind: M::KIND, deadline }),
        Ok(Err(e)) => Err(WireError::Stream { kind: M::KIND, detail: e.to_string() }),
        Ok(Ok(())) => Ok(()),
    }
}

/// Receives one frame within `deadline`. Memory for the message is taken only once the envelope has passed.
///
/// # Errors
/// Every [`WireError`]; [`WireError::Ended`] if the peer finished the stream between two frames.
pub async fn read_frame<M: WireMessage>(stream: &mut RecvStream, deadline: Duration) -> Result<M, WireError> {
    match tokio::time::timeout(deadline, read_frame_unhurried(stream)).await {
        Err(_) => Err(WireError::Deadline { kind: M::KIND, deadline }),
        Ok(result) => result,
    }
}

async fn read_frame_unhurried<M: WireMessage>(stream: &mut RecvStream) -> Result<M, WireError> {
    let failed = |expected| {
        move |error: ReadExactError| match error {
            ReadExactError::FinishedEarly(found) => WireError::Truncated { found, expected },
            ReadExactError::ReadError(ReadError::ConnectionLost(e)) => {
                WireError::Stream { kind: M::KIND, detail: e.to_string() }
            }
            ReadExactError::ReadError(e) => WireError::Stream { kind: M::KIND, detail: e.to_string() },
        }
    };
    let mut envelope = [0; ENVELOPE_LEN];
    stream.read_exact(&mut envelope).await.map_err(|error| match error {
        ReadExactError::FinishedEarly(0) => WireError::Ended { kind: M::KIND },
        error => failed(ENVELOPE_LEN)(error),
    })?;
    let len = check_envelope::<M>(&envelope)?;
    let mut body = vec![0; len];
    stream.read_exact(&mut body).await.map_err(failed(ENVELOPE_LEN + len))?;
    decode_body(&body)
}

fn split_envelope(frame: &[u8]) -> Result<(&[u8; ENVELOPE_LEN], &[u8]), WireError> {
    frame.split_first_chunk().ok_or(WireError::Truncated { found: frame.len(), expected: ENVELOPE_LEN })
}

/// The length of the message, once everything the envelope says is acceptable.
fn check_envelope<M: WireMessage>(frame: &[u8]) -> Result<usize, WireError> {
    let ([k0, k1, f0, f1, l0, l1, l2, l3], _) = split_envelope(frame)?;
    let kind = u16::from_le_bytes([*k0, *k1]);
    let flags = u16::from_le_bytes([*f0, *f1]);
    if kind != M::KIND {
        return Err(WireError::WrongKind { found: kind, expected: M::KIND });
    }
    if flags & !KNOWN_FLAGS != 0 {
        return Err(WireError::UnknownFlags { kind, flags });
    }
    let len = usize::try_from(u32::from_le_bytes([*l0, *l1, *l2, *l3])).unwrap_or(usize::MAX);
    if len > M::MAX_LEN {
        return Err(WireError::TooLong { kind, len, max: M::MAX_LEN });
    }
    Ok(len)
}

/// bincode counts the memory of what it decodes, not the bytes it reads: a one-byte varint counts as the number's full
/// width. 32 times the length covers every honest message, and bounds what a lying length inside it can allocate.
/// The limit is a type parameter of bincode's, hence steps instead of a number.
fn decode_body<M: WireMessage>(body: &[u8]) -> Result<M, WireError> {
    const MEMORY_PER_BYTE: usize = 32;
    const SMALL: usize = 4 << 10;
    const MIDDLE: usize = 64 << 10;
    let config = bincode::config::standard();
    let decoded = if M::MAX_LEN <= SMALL {
        bincode::decode_from_slice(body, config.with_limit::<{ SMALL * MEMORY_PER_BYTE }>())
    } else if M::MAX_LEN <= MIDDLE {
        bincode::decode_from_slice(body, config.with_limit::<{ MIDDLE * MEMORY_PER_BYTE }>())
    } else {
        bincode::decode_from_slice(body, config.with_limit::<{ MESSAGE_LEN_MAX * MEMORY_PER_BYTE }>())
    };
    let (message, read): (M, usize) =
        decoded.map_err(|e| WireError::Undecodable { kind: M::KIND, detail: e.to_string() })?;
    if read != body.len() {
        return Err(WireError::Trailing { kind: M::KIND, count: body.len() - read });
    }
    Ok(message)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ids::{ClusterName, Identity, MemberId, Role};

    #[derive(Debug, Clone, PartialEq, Encode, Decode)]
    struct Greeting {
        number: u64,
        words: Vec<String>,
        from: Option<Identity>,
    }

    impl WireMessage for Greeting {
        const KIND: u16 = 0x0102;
        const MAX_LEN: usize = 64;
    }

    fn greeting() -> Greeting {
        Greeting { number: 300, words: vec!["hi".into(), "ho".into()], from: None }
    }

    fn node() -> Identity {
        Identity { role: Role::Node(ClusterName::new("c1").unwrap()), id: MemberId(7) }
    }

    #[test]
    fn envelope_has_the_golden_bytes_of_version_one() {
        let frame = encode(&greeting()).unwrap();
        let golden = [
            0x02, 0x01, // kind
            0x00, 0x00, // flags
            0x0b, 0x00, 0x00, 0x00, // length
            0xfb, 0x2c, 0x01, // number 300
            0x02, 0x02, b'h', b'i', 0x02, b'h', b'o', // words
            0x00, // from nobody
        ];
        assert_eq!(frame, golden);
        assert_eq!(decode::<Greeting>(&golden).unwrap(), greeting());
        assert_eq!(kind_of(&golden), Ok(0x0102));
    }

    #[test]
    fn identity_decoded_again_is_the_same() {
        let message = Greeting { from: Some(node()), ..greeting() };
        assert_eq!(decode::<Greeting>(&encode(&message).unwrap()).unwrap(), message);
    }

    #[test]
    fn message_too_long_is_refused_by_sender_and_by_receiver_before_decoding() {
        let long = Greeting { words: vec!["x".repeat(100)], ..greeting() };
        assert!(matches!(encode(&long), Err(WireError::TooLong { max: 64, .. })));

        let mut claims_much = encode(&greeting()).unwrap();
        claims_much[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
        let error = decode::<Greeting>(&claims_much).unwrap_err();
        assert_eq!(error, WireError::TooLong { kind: 0x0102, len: u32::MAX as usize, max: 64 });
        assert!(error.to_string().contains("at most 64"), "{error}");
    }

    #[test]
    fn vector_that_claims_a_huge_length_is_refused_without_allocating_it() {
        // number 1, then «a vector of 2^60 strings».
        let body = [&[0x01, 0xfd][..], &(1_u64 << 60).to_le_bytes()].concat();
        let mut frame = vec![0x02, 0x01, 0, 0, u8::try_from(body.len()).unwrap(), 0, 0, 0];
        frame.extend(body);
        assert!(matches!(decode::<Greeting>(&frame), Err(WireError::Undecodable { .. })));
    }

    #[test]
    fn frame_with_another_kind_or_unknown_flags_is_refused() {
        let good = encode(&greeting()).unwrap();
        let mut other_kind = good.clone();
        other_kind[0] = 3;
        assert_eq!(
            decode::<Greeting>(&other_kind),
            Err(WireError::WrongKind { found: 0x0103, expected: 0x0102 })
        );
        let mut flagged = good;
        flagged[3] = 0x80;
        assert_eq!(
            decode::<Greeting>(&flagged),
            Err(WireError::UnknownFlags { kind: 0x0102, flags: 0x8000 })
        );
    }

    #[test]
    fn frame_with_too_few_or_too_many_bytes_is_refused() {
        let good = encode(&greeting()).unwrap();
        for cut in 0..good.len() {
            assert!(matches!(decode::<Greeting>(&good[..cut]), Err(WireError::Truncated { .. })), "{cut}");
        }
        let mut outside = good.clone();
        outside.push(0);
        assert_eq!(decode::<Greeting>(&outside), Err(WireError::Trailing { kind: 0x0102, count: 1 }));
        let mut inside = good;
        inside.push(0);
        inside[4] += 1;
        assert_eq!(decode::<Greeting>(&inside), Err(WireError::Trailing { kind: 0x0102, count: 1 }));
    }

    proptest! {
        #[test]
        fn decoder_fed_garbage_answers_with_an_error_or_with_what_encodes_to_the_same_value(
            bytes in proptest::collection::vec(any::<u8>(), 0..80),
            wrap in any::<bool>(),
        ) {
            let frame = if wrap {
                let len = u32::try_from(bytes.len()).unwrap();
                [&[0x02, 0x01, 0, 0][..], &len.to_le_bytes(), &bytes].concat()
            } else {
                bytes
            };
            if let Ok(message) = decode::<Greeting>(&frame) {
                let again = encode(&message).unwrap();
                prop_assert_eq!(decode::<Greeting>(&again).unwrap(), message);
            }
        }
    }
}
