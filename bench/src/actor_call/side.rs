//! The three sides, and the two that are not ours.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use ractor::rpc::CallResult;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use ractor_cluster::node::NodeConnectionMode;
use ractor_cluster::{NodeServer, RactorClusterMessage};

use super::Error;

/// Who is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Side {
    Raw,
    Tcp,
    Ours,
}

impl Side {
    pub(super) const ALL: [Self; 3] = [Self::Raw, Self::Tcp, Self::Ours];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Tcp => "tcp",
            Self::Ours => "ours",
        }
    }

    /// As reports call it.
    pub(super) fn case(self) -> &'static str {
        match self {
            Self::Raw => "raw quinn echo",
            Self::Tcp => "ractor_cluster over TCP",
            Self::Ours => "codeco over QUIC",
        }
    }
}

/// The raw echo's client: one stream, one payload at a time.
pub(super) struct RawClient {
    pub(super) send: quinn::SendStream,
    pub(super) recv: quinn::RecvStream,
    pub(super) answer: Vec<u8>,
}

impl RawClient {
    pub(super) async fn call(&mut self, payload: &[u8]) -> Result<(), Error> {
        self.send.write_all(payload).await?;
        self.recv.read_exact(&mut self.answer).await?;
        Ok(())
    }
}

/// The raw echo's server.
pub(super) async fn echo(mut send: quinn::SendStream, mut recv: quinn::RecvStream, length: usize) {
    let mut buffer = vec![0; length];
    while recv.read_exact(&mut buffer).await.is_ok() && send.write_all(&buffer).await.is_ok() {}
}

/// What ractor_cluster's documentation tells its users to write.
#[derive(RactorClusterMessage)]
pub(super) enum EchoMessage {
    #[rpc]
    Echo(Vec<u8>, RpcReplyPort<Vec<u8>>),
}

struct EchoActor;

impl Actor for EchoActor {
    type Msg = EchoMessage;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Self::Msg>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(
        &self,
        _: ActorRef<Self::Msg>,
        EchoMessage::Echo(payload, port): EchoMessage,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        port.send(payload)?;
        Ok(())
    }
}

const GROUP: &str = "echo";

/// ractor_cluster as it comes, over clear-text TCP on loopback. Dials `port` if there is one, else listens and
/// returns its own.
pub(super) async fn start_tcp(port: Option<u16>) -> Result<u16, Error> {
    let name = if port.is_some() { "client" } else { "server" };
    // The node server tells nobody which port it got, so one is found first. Nobody else is after it here.
    let own = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
    let mode = Some(NodeConnectionMode::Isolated);
    let server = NodeServer::new(own, "bench".to_owned(), name.to_owned(), name.to_owned(), None, mode)
        .with_listen_addr(IpAddr::V4(Ipv4Addr::LOCALHOST));
    if port.is_none() {
        let (actor, _) = Actor::spawn(None, EchoActor, ()).await?;
        ractor::pg::join(GROUP.to_owned(), vec![actor.get_cell()]);
    }
    let (server, _) = Actor::spawn(None, server, ()).await?;
    if let Some(port) = port {
        ractor_cluster::client_connect(&server, (Ipv4Addr::LOCALHOST, port)).await?;
    }
    Ok(own)
}

/// The remote echo actor, once it is known.
pub(super) async fn find_echo() -> ActorRef<EchoMessage> {
    loop {
        if let Some(actor) = ractor::pg::get_members(&GROUP.to_owned()).into_iter().next() {
            return actor.into();
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub(super) async fn call_echo(
    actor: &ActorRef<EchoMessage>,
    payload: &[u8],
    timeout: Duration,
) -> Result<(), Error> {
    match actor.call(|port| EchoMessage::Echo(payload.to_vec(), port), Some(timeout)).await? {
        CallResult::Success(answer) if answer.len() == payload.len() => Ok(()),
        other => Err(format!("no echo: {other:?}").into()),
    }
}
