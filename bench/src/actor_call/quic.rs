//! Our side: sessions over QUIC, with all checks on.

use codeco_actors::session::{Binding, Limits, Sessions};
use codeco_protocol::ids::{Identity, MemberId, Role};
use futures::FutureExt as _;

use super::Error;

pub(super) fn identity(is_server: bool) -> Identity {
    Identity { role: Role::Hub, id: MemberId(if is_server { 1 } else { 2 }) }
}

/// Starts this process's sessions and attaches one over this stream.
pub(super) async fn attach(
    connection: &quinn::Connection,
    send: quinn::SendStream,
    recv: quinn::RecvStream,
    is_server: bool,
) -> Result<Sessions, Error> {
    let echo = |_, body: Vec<u8>| async move { body }.boxed();
    let (sessions, _events) = Sessions::start(&identity(is_server), Limits::default(), echo).await?;
    let mut binding = [0; Binding::LEN];
    connection
        .export_keying_material(&mut binding, b"codeco-bench", b"")
        .map_err(|_| "the TLS exporter gave no binding")?;
    sessions.attach(identity(!is_server), Binding(binding), send, recv, is_server).await?;
    Ok(sessions)
}
