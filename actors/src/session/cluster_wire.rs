//! The three messages of ractor_cluster's protocol that carry calls, read and written without its actors.
//!
//! The bytes are exactly those of `ractor_cluster` 0.16 (`protocol/meta.proto` and `node.proto` in its sources):
//! a 64-bit big-endian length, then protobuf. A peer that does not take this short cut cannot tell. Anything but
//! the three is none of ours and reads as `None`.

/// Bytes before a frame's payload.
pub(super) const LENGTH_LEN: usize = 8;

/// Tags from here on are ours; ractor_cluster counts up from 1.
pub(super) const OWN_TAGS: u64 = 1 << 63;

const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const BYTES: u64 = 2;
const FIXED32: u64 = 5;

const NETWORK_NODE: u64 = 2;
const NODE_CAST: u64 = 1;
const NODE_CALL: u64 = 2;
const NODE_REPLY: u64 = 3;

/// A message between actors of two nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Message<'a> {
    /// To the actor with local process number `to`, which is to answer with `tag`.
    Call { to: u64, tag: u64, what: &'a [u8] },
    /// To the actor with local process number `to`.
    Cast { to: u64, what: &'a [u8] },
    /// The answer to a call to `to`.
    Reply { to: u64, tag: u64, what: &'a [u8] },
}

/// Reads a frame's payload.
pub(super) fn decode(payload: &[u8]) -> Option<Message<'_>> {
    let (kind, message) = only_field(only_field(payload, NETWORK_NODE)?.1, 0)?;
    // Field numbers of process, tag and content differ by kind; 0 stands for none.
    let (tag_field, what_field) = match kind {
        NODE_CAST => (0, 2),
        NODE_CALL => (3, 2),
        NODE_REPLY => (2, 3),
        _ => return None,
    };
    let (mut to, mut tag, mut what) = (0, 0, &[][..]);
    let mut rest = message;
    while !rest.is_empty() {
        match take_field(&mut rest)? {
            (1, Value::Number(number)) => to = number,
            (field, Value::Number(number)) if field == tag_field => tag = number,
            (field, Value::Bytes(bytes)) if field == what_field => what = bytes,
            _ => {}
        }
    }
    Some(match kind {
        NODE_CAST => Message::Cast { to, what },
        NODE_CALL => Message::Call { to, tag, what },
        _ => Message::Reply { to, tag, what },
    })
}

/// The one field of a message that consists of a `oneof`; `wanted` 0 takes any.
fn only_field(message: &[u8], wanted: u64) -> Option<(u64, &[u8])> {
    let mut rest = message;
    match take_field(&mut rest)? {
        (field, Value::Bytes(bytes)) if rest.is_empty() && (wanted == 0 || field == wanted) => {
            Some((field, bytes))
        }
        _ => None,
    }
}

enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    Other,
}

fn take_field<'a>(rest: &mut &'a [u8]) -> Option<(u64, Value<'a>)> {
    let key = take_varint(rest)?;
    let value = match key & 7 {
        VARINT => Value::Number(take_varint(rest)?),
        BYTES => {
            let length = usize::try_from(take_varint(rest)?).ok()?;
            Value::Bytes(rest.split_off(..length)?)
        }
        FIXED64 => rest.split_off(..8).map(|_| Value::Other)?,
        FIXED32 => rest.split_off(..4).map(|_| Value::Other)?,
        _ => return None,
    };
    Some((key >> 3, value))
}

fn take_varint(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let byte = *rest.split_off_first()?;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

/// A whole frame with this message; `what` comes in parts.
pub(super) fn encode(message: Message<'_>, what_parts: &[&[u8]], variant: &str) -> Vec<u8> {
    let what_len: usize = what_parts.iter().map(|part| part.len()).sum();
    // The longest header of all kinds, so that nothing is moved later.
    let mut inner = Vec::with_capacity(64 + variant.len() + what_len);
    let what = |inner: &mut Vec<u8>, field: u64| {
        put_key(inner, field, BYTES, what_len as u64);
        what_parts.iter().for_each(|part| inner.extend_from_slice(part));
    };
    let kind = match message {
        Message::Cast { to, .. } => {
            put_key(&mut inner, 1, VARINT, to);
            what(&mut inner, 2);
            put_text(&mut inner, 3, variant);
            NODE_CAST
        }
        Message::Call { to, tag, .. } => {
            put_key(&mut inner, 1, VARINT, to);
            what(&mut inner, 2);
            put_key(&mut inner, 3, VARINT, tag);
            put_text(&mut inner, 5, variant);
            NODE_CALL
        }
        Message::Reply { to, tag, .. } => {
            put_key(&mut inner, 1, VARINT, to);
            put_key(&mut inner, 2, VARINT, tag);
            what(&mut inner, 3);
            NODE_REPLY
        }
    };
    let mut node = Vec::with_capacity(16);
    put_key(&mut node, kind, BYTES, inner.len() as u64);
    let mut header = Vec::with_capacity(16);
    put_key(&mut header, NETWORK_NODE, BYTES, (node.len() + inner.len()) as u64);
    let payload_len = header.len() + node.len() + inner.len();
    let mut frame = Vec::with_capacity(LENGTH_LEN + payload_len);
    frame.extend_from_slice(&(payload_len as u64).to_be_bytes());
    for part in [header, node, inner] {
        frame.extend_from_slice(&part);
    }
    frame
}

fn put_text(out: &mut Vec<u8>, field: u64, text: &str) {
    put_key(out, field, BYTES, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

fn put_key(out: &mut Vec<u8>, field: u64, wire_type: u64, number: u64) {
    put_varint(out, field << 3 | wire_type);
    put_varint(out, number);
}

#[allow(clippy::cast_possible_truncation)] // seven bits at a time
fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// The payload length that a frame's first bytes announce; `None` until they are there.
pub(super) fn announced_len(bytes: &[u8]) -> Option<u64> {
    bytes.first_chunk().map(|length| u64::from_be_bytes(*length))
}

/// Whether these bytes are a row of whole frames.
pub(super) fn are_whole_frames(mut bytes: &[u8]) -> bool {
    while !bytes.is_empty() {
        let Some(length) = announced_len(bytes).and_then(|length| usize::try_from(length).ok()) else {
            return false;
        };
        let Some(rest) = length.checked_add(LENGTH_LEN).and_then(|end| bytes.get(end..)) else {
            return false;
        };
        bytes = rest;
    }
    true
}

#[cfg(test)]
mod tests {
    use proptest::{prop_assert, prop_assert_eq, proptest};

    use super::*;

    #[test]
    fn call_cast_and_reply_are_the_bytes_of_the_protobuf_definition() {
        // By hand from the .proto files: key = field << 3 | wire type.
        let call = encode(Message::Call { to: 300, tag: 5, what: &[] }, &[b"a", b"b"], "Call");
        let inner = [&[0x08, 0xac, 0x02, 0x12, 2][..], b"ab", &[0x18, 5, 0x2a, 4], b"Call"].concat();
        assert_eq!(call, [&[0, 0, 0, 0, 0, 0, 0, 19, 0x12, 17, 0x12, 15][..], &inner].concat());
        let cast = encode(Message::Cast { to: 1, what: &[] }, &[b"x"], "Cast");
        assert_eq!(
            cast,
            [&[0, 0, 0, 0, 0, 0, 0, 15, 0x12, 13, 0x0a, 11, 8, 1, 0x12, 1][..], b"x", &[0x1a, 4], b"Cast"]
                .concat()
        );
        let reply = encode(Message::Reply { to: 1, tag: 2, what: &[] }, &[b"x"], "");
        assert_eq!(
            reply,
            [&[0, 0, 0, 0, 0, 0, 0, 11, 0x12, 9, 0x1a, 7, 8, 1, 16, 2, 0x1a, 1][..], b"x"].concat()
        );
    }

    #[test]
    fn fields_in_any_order_and_unknown_ones_are_read() {
        let inner =
            [&[0x18, 9, 0x7a, 1][..], b"?", &[0x12, 1], b"w", &[0x79, 1, 2, 3, 4, 5, 6, 7, 8, 0x08, 4]]
                .concat();
        let payload = [
            &[0x12, u8::try_from(inner.len() + 2).unwrap(), 0x12, u8::try_from(inner.len()).unwrap()][..],
            &inner,
        ]
        .concat();
        assert_eq!(decode(&payload), Some(Message::Call { to: 4, tag: 9, what: b"w" }));
    }

    #[test]
    fn other_messages_of_the_protocol_are_left_alone() {
        assert_eq!(decode(&[0x1a, 2, 0x4a, 0]), None, "control: ready");
        assert_eq!(decode(&[0x0a, 2, 0x0a, 0]), None, "auth");
        assert_eq!(decode(&[]), None);
    }

    #[test]
    fn whole_frames_are_told_from_pieces() {
        let frame = encode(Message::Cast { to: 1, what: &[] }, &[b"x"], "Cast");
        assert!(are_whole_frames(&[&frame[..], &frame].concat()));
        assert!(!are_whole_frames(&frame[..frame.len() - 1]));
        assert!(!are_whole_frames(&frame[..4]));
        assert!(!are_whole_frames(&[0xff; 8]));
    }

    proptest! {
        #[test]
        fn any_message_survives_the_way(kind in 0..3, to: u64, tag: u64, what: Vec<u8>) {
            let message = match kind {
                0 => Message::Cast { to, what: &what },
                1 => Message::Call { to, tag, what: &what },
                _ => Message::Reply { to, tag, what: &what },
            };
            let (half, rest) = what.split_at(what.len() / 2);
            let frame = encode(message, &[half, rest], "Call");
            prop_assert!(are_whole_frames(&frame));
            prop_assert_eq!(decode(&frame[LENGTH_LEN..]), Some(message));
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes: Vec<u8>) {
            let _ = (decode(&bytes), are_whole_frames(&bytes));
        }
    }
}
