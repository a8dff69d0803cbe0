//! The first exchange of a connection: proves that both sides were accepted, and settles the protocol version.

use bincode::{Decode, Encode};
use quinn::{Connection, ConnectionError};
use std::time::Duration;

use super::refusal::RefusalReason;
use super::stream::StreamKind;
use crate::wire::{self, WireError, WireMessage, kinds};

/// Oldest protocol version spoken here.
pub const PROTOCOL_MIN: u16 = 1;

/// Newest protocol version spoken here.
pub const PROTOCOL_MAX: u16 = 1;

/// First message, from the side that dialled.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
struct Hello {
    protocol_min: u16,
    protocol_max: u16,
}

impl WireMessage for Hello {
    const KIND: u16 = kinds::HELLO;
    const MAX_LEN: usize = 64;
}

/// Answer: you are accepted, and we speak this version.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
struct Welcome {
    protocol: u16,
}

impl WireMessage for Welcome {
    const KIND: u16 = kinds::WELCOME;
    const MAX_LEN: usize = 64;
}

/// Why there was no hello.
#[derive(Debug, thiserror::Error)]
pub(super) enum HelloError {
    #[error("the connection ended during the hello: {0}")]
    Connection(#[from] ConnectionError),
    #[error("bad hello: {0}")]
    Wire(#[from] WireError),
    #[error(
        "the peer speaks protocol {theirs_min} to {theirs_max}, we speak {PROTOCOL_MIN} to {PROTOCOL_MAX}"
    )]
    NoCommonProtocol { theirs_min: u16, theirs_max: u16 },
    #[error("the first stream is not a control stream")]
    NotControl,
}

impl HelloError {
    pub(super) fn reason(&self) -> RefusalReason {
        match self {
            Self::Connection(_) => RefusalReason::EndedByPeer,
            Self::Wire(e) => reason_of_wire(e),
            Self::NoCommonProtocol { .. } => RefusalReason::NoCommonProtocol,
            Self::NotControl => RefusalReason::Malformed,
        }
    }
}

/// What a message that could not be received says about its sender.
pub(super) fn reason_of_wire(error: &WireError) -> RefusalReason {
    RefusalReason::of_message(error).unwrap_or(match error {
        WireError::Deadline { .. } => RefusalReason::HandshakeTimeout,
        _ => RefusalReason::EndedByPeer,
    })
}

/// See [`crate::hostile`]. Whether `frame` is a hello, or the answer to one.
#[must_use]
pub fn hello(frame: &[u8]) -> bool {
    wire::decode::<Hello>(frame).is_ok() || wire::decode::<Welcome>(frame).is_ok()
}

/// Says hello and waits for the answer, which proves that the peer accepted us.
pub(super) async fn say(connection: &Connection, deadline: Duration) -> Result<u16, HelloError> {
    let (mut send, mut receive) = connection.open_bi().await?;
    write_kind(&mut send, StreamKind::Control).await?;
    let hello = Hello { protocol_min: PROTOCOL_MIN, protocol_max: PROTOCOL_MAX };
    wire::write_frame(&mut send, &hello, deadline).await?;
    // An error here means that the peer has reset the stream; reading tells more.
    let _ = send.finish();
    let welcome: Welcome = wire::read_frame(&mut receive, deadline).await?;
    if (PROTOCOL_MIN..=PROTOCOL_MAX).contains(&welcome.protocol) {
        Ok(welcome.protocol)
    } else {
        Err(HelloError::NoCommonProtocol { theirs_min: welcome.protocol, theirs_max: welcome.protocol })
    }
}

/// Waits for a hello and answers it with the newest version both sides speak.
pub(super) async fn answer(connection: &Connection, deadline: Duration) -> Result<u16, HelloError> {
    let (mut send, mut receive) = connection.accept_bi().await?;
    if read_kind(&mut receive).await? != Some(StreamKind::Control) {
        return Err(HelloError::NotControl);
    }
    let hello: Hello = wire::read_frame(&mut receive, deadline).await?;
    let protocol = hello.protocol_max.min(PROTOCOL_MAX);
    if protocol < hello.protocol_min.max(PROTOCOL_MIN) {
        let Hello { protocol_min: theirs_min, protocol_max: theirs_max } = hello;
        return Err(HelloError::NoCommonProtocol { theirs_min, theirs_max });
    }
    wire::write_frame(&mut send, &Welcome { protocol }, deadline).await?;
    let _ = send.finish();
    Ok(protocol)
}

/// Writes the byte a stream starts with.
pub(super) async fn write_kind(send: &mut quinn::SendStream, kind: StreamKind) -> Result<(), WireError> {
    send.write_all(&[kind.byte()])
        .await
        .map_err(|e| WireError::Stream { kind: u16::from(kind.byte()), detail: e.to_string() })
}

/// Reads the byte a stream starts with; `None` if nobody knows it or there is none.
pub(super) async fn read_kind(receive: &mut quinn::RecvStream) -> Result<Option<StreamKind>, WireError> {
    let mut first = [0; 1];
    match receive.read(&mut first).await {
        Ok(Some(1)) => Ok(StreamKind::of_byte(first[0])),
        Ok(_) => Ok(None),
        Err(e) => Err(WireError::Stream { kind: 0, detail: e.to_string() }),
    }
}
