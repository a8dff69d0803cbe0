//! Frames between agent and guard: a length of four bytes, little endian, then one message in bincode.

use bincode::config::{Configuration, Fixint, Limit, LittleEndian};
use bincode::{Decode, Encode};

/// Largest message.
pub(crate) const FRAME_LEN_MAX: usize = 1024 * 1024;
/// Bytes in front of every message.
pub(crate) const HEADER_LEN: usize = 4;

/// Why a message cannot be sent or read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CodecError {
    /// Too large to be sent or announced as too large.
    #[error("a message of {found} bytes is beyond the limit of {FRAME_LEN_MAX}")]
    TooLarge {
        /// Its size.
        found: usize,
    },
    /// Not a message.
    #[error("a message cannot be decoded: {0}")]
    Malformed(String),
}

fn config() -> Configuration<LittleEndian, Fixint, Limit<FRAME_LEN_MAX>> {
    bincode::config::standard().with_fixed_int_encoding().with_limit::<FRAME_LEN_MAX>()
}

/// A message with its length in front.
pub(crate) fn encode<T: Encode>(message: &T) -> Result<Vec<u8>, CodecError> {
    let mut frame = vec![0; HEADER_LEN];
    bincode::encode_into_std_write(message, &mut frame, config())
        .map_err(|error| CodecError::Malformed(error.to_string()))?;
    let len = frame.len() - HEADER_LEN;
    let header = u32::try_from(len).ok().filter(|_| len <= FRAME_LEN_MAX);
    let header = header.ok_or(CodecError::TooLarge { found: len })?;
    frame[..HEADER_LEN].copy_from_slice(&header.to_le_bytes());
    Ok(frame)
}

/// Takes the first message out of `buffer`, `None` if it is not complete yet.
pub(crate) fn decode<T: Decode<()>>(buffer: &mut Vec<u8>) -> Result<Option<T>, CodecError> {
    let Some(header) = buffer.first_chunk::<HEADER_LEN>() else { return Ok(None) };
    let len = usize::try_from(u32::from_le_bytes(*header)).unwrap_or(usize::MAX);
    if len > FRAME_LEN_MAX {
        return Err(CodecError::TooLarge { found: len });
    }
    let Some(body) = buffer.get(HEADER_LEN..HEADER_LEN + len) else { return Ok(None) };
    let (message, used) = bincode::decode_from_slice(body, config())
        .map_err(|error| CodecError::Malformed(error.to_string()))?;
    if used != len {
        return Err(CodecError::Malformed(format!("{} bytes are left over", len - used)));
    }
    buffer.drain(..HEADER_LEN + len);
    Ok(Some(message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guard::messages::{FromGuard, Request, RequestBody};

    fn lease(id: u64) -> Request {
        Request { id, body: RequestBody::ExtendLease { until: codeco_protocol::units::BootTime(7) } }
    }

    #[test]
    fn frame_arriving_byte_by_byte_is_one_message_at_its_last_byte() {
        let frame = encode(&lease(1)).unwrap();
        let mut buffer = Vec::new();
        for byte in &frame[..frame.len() - 1] {
            buffer.push(*byte);
            assert_eq!(decode::<Request>(&mut buffer).unwrap(), None);
        }
        buffer.push(frame[frame.len() - 1]);
        assert_eq!(decode::<Request>(&mut buffer).unwrap(), Some(lease(1)));
        assert!(buffer.is_empty());
    }

    #[test]
    fn frame_announcing_too_much_is_refused_before_it_arrives() {
        let mut buffer = u32::MAX.to_le_bytes().to_vec();
        assert!(matches!(decode::<Request>(&mut buffer), Err(CodecError::TooLarge { .. })));
    }

    #[test]
    fn frame_with_garbage_or_left_over_bytes_is_refused() {
        let mut garbage = vec![8, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255];
        assert!(matches!(decode::<FromGuard>(&mut garbage), Err(CodecError::Malformed(_))));
        let mut frame = encode(&lease(1)).unwrap();
        frame.push(0);
        let len = u32::try_from(frame.len() - HEADER_LEN).unwrap();
        frame[..HEADER_LEN].copy_from_slice(&len.to_le_bytes());
        assert!(matches!(decode::<Request>(&mut frame), Err(CodecError::Malformed(_))));
    }
}
