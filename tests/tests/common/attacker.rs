//! Somebody on the network who means no good, with whatever certificate a test gives them.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use codeco_actors::fabric::inspect;
use codeco_actors::session::{Binding, Limits, Sessions};
use codeco_protocol::gossip::{GossipMessage, Probe, SealedDelta};
use codeco_protocol::identity::{
    ALPN_JOIN, CERTIFICATE_LIFE, Ca, Credentials, CredentialsSlot, Expected, JoinReply, JoinRequest,
    JoinToken, MemberKey, SpiffeId, TrustClock, TrustDomain, Validity, join_client_config,
};
use codeco_protocol::ids::{ClusterName, Identity, MemberId, Role};
use codeco_protocol::messages::{ControlBatch, ControlMessage};
use codeco_protocol::transport::{PeerConnection, StreamKind, Transport, TransportConfig};
use codeco_protocol::wire;
use quinn::crypto::rustls::QuicClientConfig;
use tokio::time::timeout;

use super::common::PATIENCE;

/// Somewhere on loopback.
pub(crate) fn loopback() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

pub(crate) fn node_of(cluster: &str) -> Role {
    Role::Node(ClusterName::new(cluster).unwrap())
}

/// The authority of the fleet whose hub keeps its state here.
pub(crate) fn authority(hub_state: &Path) -> Ca {
    Ca::load(&hub_state.join("ca").join("ca.pem")).unwrap()
}

/// Another authority that calls itself like `ca`.
pub(crate) fn foreign(ca: &Ca) -> Ca {
    let domain = TrustDomain::new(ca.trust_domain().as_str()).unwrap();
    Ca::create(&domain, TrustClock::system().now()).unwrap()
}

pub(crate) fn credentials(ca: &Ca, role: Role) -> Credentials {
    let key = MemberKey::generate().unwrap();
    let identity = Identity { role, id: MemberId::random() };
    let validity = Validity::starting(TrustClock::system().now(), CERTIFICATE_LIFE);
    let issued = ca.issue(&key.signing_request().unwrap(), &identity, validity).unwrap();
    Credentials::new(&key, &issued.der, ca.certificate()).unwrap()
}

/// Listens at `address` as whoever `credentials` say, until dropped.
pub(crate) async fn listen(address: SocketAddr, credentials: &Credentials) -> Transport {
    Transport::bind(TransportConfig::new(address), credentials).unwrap()
}

/// A client that believes the fleet of `ca`, whatever role answers, and shows `shown`.
fn client(ca: &Ca, alpn: &[u8], shown: Option<&Credentials>) -> (quinn::Endpoint, quinn::ClientConfig) {
    let mut tls = join_client_config(ca.key_hash(), TrustClock::system(), Expected::Any).unwrap();
    tls.alpn_protocols = vec![alpn.to_vec()];
    if let Some(shown) = shown {
        tls.client_auth_cert_resolver = CredentialsSlot::new(shown.clone());
    }
    let config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
    (quinn::Endpoint::client(loopback()).unwrap(), config)
}

/// Dials as a member and waits for the end, which must come.
pub(crate) async fn knock(ca: &Ca, to: SocketAddr, alpn: &[u8], shown: Option<&Credentials>) -> String {
    let (endpoint, config) = client(ca, alpn, shown);
    let end = async {
        match endpoint.connect_with(config, to, "codeco").unwrap().await {
            Ok(connection) => connection.closed().await,
            Err(error) => error,
        }
    };
    timeout(PATIENCE, end).await.expect("the stranger is shown the door").to_string()
}

/// An accepted connection of a real member.
pub(crate) async fn connected(as_whom: &Credentials, to: SocketAddr) -> (Transport, PeerConnection) {
    let transport = Transport::bind(TransportConfig::new(loopback()), as_whom).unwrap();
    let connection = transport.connect(to, Expected::Any).await.unwrap();
    (transport, connection)
}

/// Announces a message of 4 GiB on a stream of this kind, and waits until the peer ends connection or stream.
pub(crate) async fn oversized(as_whom: &Credentials, to: SocketAddr, kind: StreamKind, message_kind: u16) {
    let (_transport, connection) = connected(as_whom, to).await;
    let (mut send, mut receive) = connection.open_bi(kind).await.unwrap();
    let kind = message_kind.to_le_bytes();
    let header = [kind[0], kind[1], 0, 0, 0xff, 0xff, 0xff, 0xff];
    // It may be refused before all of it is sent.
    let _ = send.write_all(&header).await;
    let mut buffer = [0; 16];
    let answer = timeout(PATIENCE, receive.read(&mut buffer)).await.expect("the peer ends the stream");
    assert!(!matches!(answer, Ok(Some(_))), "an answer to an oversized message");
}

/// Tells `to` this over a gossip stream of its own, waits until it has been read, and leaves.
pub(crate) async fn gossip(as_whom: &Credentials, to: SocketAddr, messages: &[GossipMessage]) {
    let (_transport, connection) = connected(as_whom, to).await;
    let (mut send, _receive) = connection.open_bi(StreamKind::Gossip).await.unwrap();
    for message in messages {
        // The peer may have had enough.
        if wire::write_frame(&mut send, message, PATIENCE).await.is_err() {
            return;
        }
    }
    let _ = send.finish();
    // Acknowledged, or refused with the connection.
    let _ = timeout(PATIENCE, send.stopped()).await.expect("the peer reads what it is told");
    connection.close(codeco_protocol::transport::CloseReason::Unneeded);
}

/// What `to` passes on of another member of its cluster, from the beginning, with that one's signatures.
pub(crate) async fn overhear(as_whom: &Credentials, to: SocketAddr) -> SealedDelta {
    let (_transport, connection) = connected(as_whom, to).await;
    let (mut send, _receive) = connection.open_bi(StreamKind::Gossip).await.unwrap();
    wire::write_frame(&mut send, &GossipMessage::Offer(Vec::new()), PATIENCE).await.unwrap();
    let heard = async {
        loop {
            let (kind, _send, mut receive) = connection.accept_bi().await.unwrap();
            if kind != StreamKind::Gossip {
                continue;
            }
            loop {
                match wire::read_frame::<GossipMessage>(&mut receive, PATIENCE).await.unwrap() {
                    GossipMessage::Sealed(sealed) if sealed.owner != *connection.identity() => return sealed,
                    GossipMessage::Offer(marks) => {
                        let nothing = marks.into_iter().map(|(owner, _)| (owner, Default::default()));
                        let ask = GossipMessage::Have(nothing.collect());
                        wire::write_frame(&mut send, &ask, PATIENCE).await.unwrap();
                    }
                    _ => {}
                }
            }
        }
    };
    let sealed = timeout(PATIENCE, heard).await.expect("facts are passed on within a cluster");
    connection.close(codeco_protocol::transport::CloseReason::Unneeded);
    sealed
}

/// Sends this many probes as fast as it can.
pub(crate) async fn flood_of_probes(as_whom: &Credentials, to: SocketAddr, count: u32) {
    let (_transport, connection) = connected(as_whom, to).await;
    for sequence in 0..count {
        let probe = wire::encode(&Probe::Ping { sequence, heard_you: true, view: 0 }).unwrap();
        if connection.send_datagram_wait(probe.into()).await.is_err() {
            return;
        }
    }
    // A stream tells when what came before it has been sent.
    let _ = inspect(&connection, &codeco_actors::fabric::InspectRequest::Events).await;
}

/// Sends control messages over an actor session of its own, as a real member does. Returns how many came back.
pub(crate) async fn order(as_whom: &Credentials, to: SocketAddr, messages: Vec<ControlMessage>) -> usize {
    let (_transport, connection) = connected(as_whom, to).await;
    let (send, receive) = connection.open_bi(StreamKind::ActorSession).await.unwrap();
    let handler =
        |_, _| -> std::pin::Pin<Box<dyn Future<Output = Vec<u8>> + Send>> { Box::pin(async { Vec::new() }) };
    let (sessions, _events) = Sessions::start(as_whom.identity(), Limits::default(), handler).await.unwrap();
    let peer = connection.identity().clone();
    let binding = Binding(connection.binding());
    sessions.attach(peer.clone(), binding, send, receive, false).await.unwrap();
    let letter = wire::encode(&ControlBatch { messages }).unwrap();
    let answer = sessions.call(&peer, &letter, Duration::from_secs(10)).await.unwrap();
    sessions.stop().await;
    wire::decode::<ControlBatch>(&answer).unwrap().messages.len()
}

/// Asks to join with `token` and a request that wishes to be called `wish`; the identity in the certificate, or why
/// there is none.
pub(crate) async fn join(ca: &Ca, to: SocketAddr, token: &JoinToken, wish: &str) -> Result<Identity, String> {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let mut wishes = rcgen::CertificateParams::default();
    wishes.subject_alt_names = vec![rcgen::SanType::URI(wish.try_into().unwrap())];
    let request = wishes.serialize_request(&key).unwrap();
    let (endpoint, config) = client(ca, ALPN_JOIN, None);
    let connection = endpoint.connect_with(config, to, "codeco").unwrap().await.unwrap();
    let (mut send, mut receive) = connection.open_bi().await.unwrap();
    send.write_all(&[StreamKind::Join.byte()]).await.unwrap();
    let (id, secret) = (token.id, token.secret.clone());
    let request = JoinRequest { token: id, secret, signing_request: request.der().to_vec() };
    wire::write_frame(&mut send, &request, PATIENCE).await.unwrap();
    match wire::read_frame::<JoinReply>(&mut receive, PATIENCE).await.unwrap() {
        JoinReply::Granted(grant) | JoinReply::Founder(grant) => {
            let id = SpiffeId::of_certificate(&grant.certificate).unwrap();
            Ok(id.within(ca.trust_domain()).unwrap())
        }
        JoinReply::Refused(refusal) => Err(refusal.to_string()),
    }
}

/// One request to the API over TLS, whatever the token. Returns status and body.
pub(crate) fn ask_api(
    ca: &Ca,
    api: SocketAddr,
    line: &str,
    token: Option<&str>,
    body: &str,
) -> (u16, String) {
    let mut tls = join_client_config(ca.key_hash(), TrustClock::system(), Expected::Hub).unwrap();
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    let name = rustls::pki_types::ServerName::try_from("hub").unwrap();
    let connection = rustls::ClientConnection::new(Arc::new(tls), name).unwrap();
    let socket = TcpStream::connect(api).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut stream = rustls::StreamOwned::new(connection, socket);
    let token = token.map(|token| format!("authorization: Bearer {token}\r\n")).unwrap_or_default();
    let length = body.len();
    write!(
        stream,
        "{line} HTTP/1.1\r\nhost: hub\r\n{token}content-length: {length}\r\nconnection: close\r\n\r\n{body}"
    )
    .unwrap();
    let mut answer = Vec::new();
    // A server that just closes the connection is an error to rustls; what came before it counts.
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
    (status.unwrap_or_else(|| panic!("no HTTP: {answer:?}")), body.unwrap_or_default())
}
