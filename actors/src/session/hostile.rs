//! See [`crate::hostile`].

use super::cluster_wire::{LENGTH_LEN, Message, announced_len, are_whole_frames, decode, encode};
use super::frame::{
    ANSWER_HEADER_LEN, Binding, REQUEST_HEADER_LEN, Refusal, decode_answer, decode_request, request_header,
};

/// Longest body that is allowed here.
const BODY_MAX: usize = 256;

/// Reads a request; a sample of one is made where there is a body.
///
/// # Panics
/// A body that is longer than allowed, or not what came.
pub fn session_request(bytes: &[u8]) {
    if let Ok(request) = decode_request(bytes.to_vec(), BODY_MAX) {
        assert!(request.body.len() <= BODY_MAX, "a body within its limit");
        let header = request_header(request.binding, request.remaining_ms);
        assert_eq!([&header[..], &request.body].concat(), bytes, "a request is written as it was read");
    }
}

/// Reads an answer.
///
/// # Panics
/// A body that is longer than allowed.
pub fn session_answer(bytes: &[u8]) {
    match decode_answer(bytes.to_vec(), BODY_MAX) {
        Ok(body) => assert!(body.len() <= BODY_MAX && body.len() + ANSWER_HEADER_LEN == bytes.len()),
        Err(Refusal::AnswerTooLarge | Refusal::Malformed) => {}
        Err(refusal) => assert_eq!(bytes.first(), Some(&(refusal as u8)), "a refusal is its byte"),
    }
}

/// Reads frames of ractor_cluster's protocol, whole or not.
///
/// # Panics
/// A message that reads otherwise once it is written again, or a row of frames that is none.
pub fn session_frame(bytes: &[u8]) {
    if are_whole_frames(bytes) && !bytes.is_empty() {
        let len = announced_len(bytes).and_then(|len| usize::try_from(len).ok());
        assert!(len.is_some_and(|len| len + LENGTH_LEN <= bytes.len()), "the first frame is there");
    }
    for payload in [Some(bytes), bytes.get(LENGTH_LEN..)].into_iter().flatten() {
        let Some(message) = decode(payload) else { continue };
        let what = match message {
            Message::Call { what, .. } | Message::Cast { what, .. } | Message::Reply { what, .. } => what,
        };
        let again = encode(message, &[what], "Call");
        assert_eq!(decode(&again[LENGTH_LEN..]), Some(message), "a message is written as it was read");
    }
}

/// A request, an answer, and a frame with the request in it.
#[must_use]
pub fn samples(body: &[u8]) -> [Vec<u8>; 3] {
    let header = request_header(Binding([7; Binding::LEN]), 1_000);
    assert_eq!(header.len(), REQUEST_HEADER_LEN);
    let request = [&header[..], body].concat();
    let frame = encode(Message::Call { to: 300, tag: 5, what: &[] }, &[&request], "Call");
    [request, [&[0], body].concat(), frame]
}
