//! One agent's connection: never blocks, never grows beyond its bounds.

use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use bincode::{Decode, Encode};

use super::codec::{CodecError, FRAME_LEN_MAX, HEADER_LEN, decode, encode};

/// Answers waiting to be read by the agent at most; one that lets more pile up is cut off.
const OUTPUT_LEN_MAX: usize = 8 * 1024 * 1024;
const CHUNK_LEN: usize = 16 * 1024;

/// Why a connection is over.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectionError {
    #[error("the agent closed it")]
    Closed,
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Codec(#[from] CodecError),
    #[error("the agent leaves {OUTPUT_LEN_MAX} bytes of answers unread")]
    Unread,
}

#[derive(Debug)]
pub(super) struct Connection {
    stream: UnixStream,
    input: Vec<u8>,
    output: Vec<u8>,
}

impl Connection {
    pub(super) fn new(stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self { stream, input: Vec::new(), output: Vec::new() })
    }

    /// Whether something waits to be written.
    pub(super) fn wants_write(&self) -> bool {
        !self.output.is_empty()
    }

    /// Reads what is there, at most one chunk.
    pub(super) fn fill(&mut self) -> Result<(), ConnectionError> {
        debug_assert!(self.input.len() <= FRAME_LEN_MAX + HEADER_LEN, "complete frames are taken out before");
        let mut chunk = [0; CHUNK_LEN];
        match self.stream.read(&mut chunk) {
            Ok(0) => Err(ConnectionError::Closed),
            Ok(len) => {
                self.input.extend_from_slice(&chunk[..len]);
                Ok(())
            }
            Err(error) if retry(&error) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// The next complete message.
    pub(super) fn next<T: Decode<()>>(&mut self) -> Result<Option<T>, ConnectionError> {
        let message = decode(&mut self.input)?;
        if self.input.is_empty() {
            self.input = Vec::new();
        }
        Ok(message)
    }

    /// Queues a message and writes what can be written.
    pub(super) fn send<T: Encode>(&mut self, message: &T) -> Result<(), ConnectionError> {
        let frame = encode(message)?;
        if self.output.len() + frame.len() > OUTPUT_LEN_MAX {
            return Err(ConnectionError::Unread);
        }
        self.output.extend_from_slice(&frame);
        self.flush()
    }

    /// Writes what can be written.
    pub(super) fn flush(&mut self) -> Result<(), ConnectionError> {
        let mut written = 0;
        while written < self.output.len() {
            match self.stream.write(&self.output[written..]) {
                Ok(0) => return Err(ConnectionError::Closed),
                Ok(len) => written += len,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if retry(&error) => break,
                Err(error) => return Err(error.into()),
            }
        }
        self.output.drain(..written);
        if self.output.is_empty() {
            self.output = Vec::new();
        }
        Ok(())
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

fn retry(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}
