//! Requests and answers as bytes.
//!
//! A request is `version (1) | binding (16) | remaining time in ms, big endian (4) | body`. An answer is
//! `status (1) | body`, where status 0 is the handler's answer and anything else a [`Refusal`] without body.
//! Fixed fields by hand: the body is the business of the wire module and of whoever handles it.

use std::fmt;

const VERSION: u8 = 1;
const BINDING_AT: usize = 1;
const DEADLINE_AT: usize = BINDING_AT + Binding::LEN;

/// Bytes a request has before its body.
pub(super) const REQUEST_HEADER_LEN: usize = DEADLINE_AT + 4;
/// Bytes an answer has before its body.
pub(super) const ANSWER_HEADER_LEN: usize = 1;

const ANSWER_OK: u8 = 0;

/// 16 secret bytes that the two ends of one connection share, from its TLS exporter.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Binding(pub [u8; Self::LEN]);

impl Binding {
    /// Length in bytes.
    pub const LEN: usize = 16;
}

impl fmt::Debug for Binding {
    /// Nothing of the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Binding(…)")
    }
}

/// Why the other end did not handle a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[repr(u8)]
pub enum Refusal {
    /// The request's binding belongs to no live session there.
    #[error("it has no live session with the binding of this request")]
    UnknownBinding = 1,
    /// The bytes are no request, or of a version it does not speak.
    #[error("it could not read the request")]
    Malformed = 2,
    /// The body is larger than it allows.
    #[error("the request is larger than it allows")]
    TooLarge = 3,
    /// The time given was over before it had an answer.
    #[error("the time for the request was over")]
    TooLate = 4,
    /// It handles as many requests from here as it allows.
    #[error("it has too many requests in hand")]
    Busy = 5,
    /// Its handler panicked; the request may have had an effect.
    #[error("its handler failed")]
    HandlerFailed = 6,
    /// Its answer was larger than allowed; the request had its effect.
    #[error("its answer was larger than allowed")]
    AnswerTooLarge = 7,
}

impl Refusal {
    const ALL: [Self; 7] = [
        Self::UnknownBinding,
        Self::Malformed,
        Self::TooLarge,
        Self::TooLate,
        Self::Busy,
        Self::HandlerFailed,
        Self::AnswerTooLarge,
    ];
}

/// A request with its header read and taken off.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) binding: Binding,
    pub(super) remaining_ms: u32,
    pub(super) body: Vec<u8>,
}

pub(super) fn encode_request(binding: Binding, remaining_ms: u32, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(REQUEST_HEADER_LEN + body.len());
    bytes.push(VERSION);
    bytes.extend_from_slice(&binding.0);
    bytes.extend_from_slice(&remaining_ms.to_be_bytes());
    bytes.extend_from_slice(body);
    bytes
}

pub(super) fn decode_request(mut bytes: Vec<u8>, body_len_max: usize) -> Result<Request, Refusal> {
    let header: &[u8; REQUEST_HEADER_LEN] = bytes.first_chunk().ok_or(Refusal::Malformed)?;
    let (version, rest) = (header[0], &header[BINDING_AT..]);
    let (binding, remaining) = rest.split_first_chunk().ok_or(Refusal::Malformed)?;
    let remaining_ms = u32::from_be_bytes(*remaining.first_chunk().ok_or(Refusal::Malformed)?);
    let binding = Binding(*binding);
    if version != VERSION {
        return Err(Refusal::Malformed);
    }
    if bytes.len() - REQUEST_HEADER_LEN > body_len_max {
        return Err(Refusal::TooLarge);
    }
    bytes.drain(..REQUEST_HEADER_LEN);
    Ok(Request { binding, remaining_ms, body: bytes })
}

pub(super) fn encode_answer(answer: Result<Vec<u8>, Refusal>) -> Vec<u8> {
    match answer {
        Ok(mut body) => {
            body.insert(0, ANSWER_OK);
            body
        }
        Err(refusal) => vec![refusal as u8],
    }
}

/// An answer that is none, from a peer that does not keep to the protocol, reads as [`Refusal::Malformed`].
pub(super) fn decode_answer(mut bytes: Vec<u8>, body_len_max: usize) -> Result<Vec<u8>, Refusal> {
    match bytes.first() {
        Some(&ANSWER_OK) if bytes.len() - ANSWER_HEADER_LEN > body_len_max => Err(Refusal::AnswerTooLarge),
        Some(&ANSWER_OK) => {
            bytes.remove(0);
            Ok(bytes)
        }
        Some(status) => {
            Err(Refusal::ALL.into_iter().find(|r| *r as u8 == *status).unwrap_or(Refusal::Malformed))
        }
        None => Err(Refusal::Malformed),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::any;
    use proptest::{prop_assert, prop_assert_eq, proptest};

    use super::*;

    const BINDING: Binding = Binding([7; 16]);

    #[test]
    fn request_layout_is_fixed() {
        let bytes = encode_request(BINDING, 0x0102_0304, b"ab");
        let golden = [&[1][..], &[7; 16], &[1, 2, 3, 4], b"ab"].concat();
        assert_eq!(bytes, golden);
        let request = decode_request(bytes, 2).unwrap();
        assert_eq!((request.binding, request.remaining_ms), (BINDING, 0x0102_0304));
        assert_eq!(request.body, b"ab");
    }

    #[test]
    fn request_of_other_version_short_or_long_is_refused() {
        let good = encode_request(BINDING, 5, b"abc");
        assert_eq!(decode_request(good.clone(), 2), Err(Refusal::TooLarge));
        assert_eq!(decode_request(good[..20].to_vec(), 10), Err(Refusal::Malformed));
        let mut other = good;
        other[0] = 2;
        assert_eq!(decode_request(other, 10), Err(Refusal::Malformed));
    }

    #[test]
    fn answer_survives_the_way_there_and_back() {
        assert_eq!(decode_answer(encode_answer(Ok(b"x".to_vec())), 1), Ok(b"x".to_vec()));
        assert_eq!(decode_answer(encode_answer(Ok(b"xy".to_vec())), 1), Err(Refusal::AnswerTooLarge));
        for refusal in Refusal::ALL {
            assert_eq!(decode_answer(encode_answer(Err(refusal)), 1), Err(refusal));
        }
        assert_eq!(decode_answer(vec![99], 1), Err(Refusal::Malformed));
        assert_eq!(decode_answer(vec![], 1), Err(Refusal::Malformed));
    }

    #[test]
    fn binding_does_not_show_in_logs() {
        assert!(!format!("{BINDING:?}").contains('7'));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes: Vec<u8>, limit in 0_usize..64) {
            let length = bytes.len();
            if let Ok(request) = decode_request(bytes.clone(), limit) {
                prop_assert!(request.body.len() <= limit);
                prop_assert_eq!(request.body.len() + REQUEST_HEADER_LEN, length);
            }
            if let Ok(body) = decode_answer(bytes, limit) {
                prop_assert!(body.len() <= limit);
            }
        }

        #[test]
        fn request_survives_the_way(
            binding in any::<[u8; 16]>(), remaining_ms: u32, body: Vec<u8>,
        ) {
            let bytes = encode_request(Binding(binding), remaining_ms, &body);
            let expected = Request { binding: Binding(binding), remaining_ms, body };
            prop_assert_eq!(decode_request(bytes, 10_000), Ok(expected));
        }
    }
}
