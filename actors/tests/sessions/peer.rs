//! A process with one actor-system node that obeys lines on its standard input.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use codeco_actors::session::{AttachError, Binding, CallError, Event, Limits, Sessions};
use codeco_protocol::ids::{Identity, MemberId, Role as MemberRole};
use futures::FutureExt as _;
use ractor::message::SerializedMessage;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncBufReadExt as _, BufReader};

/// What the environment says about this process.
pub(super) struct Role {
    claimed: String,
    folder: PathBuf,
}

impl Role {
    pub(super) fn from_environment() -> Option<Self> {
        let claimed = std::env::var("CODECO_TEST_PEER").ok()?;
        Some(Self { claimed, folder: std::env::var_os("CODECO_TEST_FOLDER")?.into() })
    }
}

/// The identity of a peer with this name.
fn identity(name: &str) -> Identity {
    let id = name.bytes().fold(0, |id: u128, byte| id << 8 | u128::from(byte));
    Identity { role: MemberRole::Hub, id: MemberId(id) }
}

fn name(identity: &Identity) -> String {
    let bytes = identity.id.0.to_be_bytes().into_iter().filter(|byte| *byte != 0);
    bytes.map(char::from).collect()
}

/// Connections stay here, or quinn would close them.
type Connections = Arc<Mutex<Vec<(String, Binding, quinn::Connection)>>>;

#[derive(Clone)]
struct Node {
    sessions: Sessions,
    endpoint: quinn::Endpoint,
    connections: Connections,
    expected: Arc<Mutex<Vec<String>>>,
}

pub(super) async fn run(role: Role) {
    let endpoint = endpoint(&role);
    let (sessions, mut events) =
        Sessions::start(&identity(&role.claimed), Limits::default(), handle).await.unwrap();
    println!("\nlistening {}", endpoint.local_addr().unwrap().port());
    tokio::spawn(async move {
        while let Some(event) = events.recv().await {
            match event {
                Event::Up(peer) => println!("event Up {}", name(&peer)),
                Event::Down(peer, reason) => println!("event Down {} {reason:?}", name(&peer)),
                Event::Refused(peer, reason) => {
                    println!("event Refused {} {}", name(&peer), variant(&reason));
                }
            }
        }
    });
    let node = Node { sessions, endpoint, connections: Connections::default(), expected: Arc::default() };
    tokio::spawn(node.clone().accept());
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let node = node.clone();
        let (number, command) = line.split_once(' ').map(|(n, c)| (n.to_owned(), c.to_owned())).unwrap();
        if let Some(expected) = command.strip_prefix("expect ") {
            node.expected.lock().unwrap().push(expected.to_owned());
            continue;
        }
        // Begun in order, finished in any.
        let mut outcome = async move { node.obey(&command).await }.boxed();
        match futures::poll!(&mut outcome) {
            Poll::Ready(outcome) => println!("#{number} {outcome}"),
            Poll::Pending => drop(tokio::spawn(async move { println!("#{number} {}", outcome.await) })),
        }
    }
}

/// The name of an enum's variant.
fn variant(value: &impl std::fmt::Debug) -> String {
    let text = format!("{value:?}");
    text.split([' ', '(', '{']).next().unwrap_or_default().to_owned()
}

impl Node {
    async fn accept(self) {
        while let Some(incoming) = self.endpoint.accept().await {
            let connection = incoming.await.unwrap();
            let peer = self.expected.lock().unwrap().remove(0);
            let (send, recv) = connection.accept_bi().await.unwrap();
            tokio::spawn(self.clone().attach(peer, connection, send, recv, true));
        }
    }

    async fn dial(self, port: u16, peer: String) {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let connection = self.endpoint.connect(address, "peer").unwrap().await.unwrap();
        let (send, recv) = connection.open_bi().await.unwrap();
        self.attach(peer, connection, send, recv, false).await;
    }

    async fn attach(
        self,
        peer: String,
        connection: quinn::Connection,
        send: quinn::SendStream,
        recv: quinn::RecvStream,
        is_server: bool,
    ) {
        let mut binding = Binding([0; 16]);
        connection.export_keying_material(&mut binding.0, b"test", b"").unwrap();
        self.connections.lock().unwrap().push((peer.clone(), binding, connection));
        match self.sessions.attach(identity(&peer), binding, send, recv, is_server).await {
            Ok(()) => println!("attached {peer}"),
            Err(AttachError::Ended { reason, .. }) => println!("attach-error {peer} {}", variant(&reason)),
            Err(error) => println!("attach-error {peer} {}", variant(&error)),
        }
    }

    fn binding(&self, peer: &str) -> String {
        let connections = self.connections.lock().unwrap();
        let binding = connections.iter().rev().find(|(name, ..)| name == peer).unwrap().1;
        binding.0.iter().fold(String::new(), |mut text, byte| {
            write!(text, "{byte:02x}").unwrap();
            text
        })
    }

    /// Casts faster than any connection can send, without a pause.
    fn flood(&self, peer: &Identity) -> String {
        let body = vec![b'x'; 64 * 1024];
        let casts = (0..100_000).map(|_| self.sessions.cast(peer, &body, Duration::from_secs(60)));
        casts
            .filter_map(Result::err)
            .next()
            .map_or_else(|| "never refused".to_owned(), |error| variant(&error))
    }

    async fn obey(self, command: &str) -> String {
        let words: Vec<&str> = command.splitn(4, ' ').collect();
        match words[..] {
            ["dial", port, peer] => {
                self.dial(port.parse().unwrap(), peer.to_owned()).await;
                String::new()
            }
            ["call", peer, ms, text] => {
                let timeout = Duration::from_millis(ms.parse().unwrap());
                match self.sessions.call(&identity(peer), &body(text), timeout).await {
                    Ok(answer) => format!("answer {}", String::from_utf8_lossy(&answer)),
                    Err(CallError::Refused { refusal, .. }) => format!("error Refused {refusal:?}"),
                    Err(error) => format!("error {}", variant(&error)),
                }
            }
            ["cast", peer, ms, text] => {
                let timeout = Duration::from_millis(ms.parse().unwrap());
                match self.sessions.cast(&identity(peer), &body(text), timeout) {
                    Ok(()) => "sent".to_owned(),
                    Err(error) => format!("error {}", variant(&error)),
                }
            }
            ["forge", peer, version, rest] => forge(peer, version, rest).await,
            ["pose-as", peer] => pose_as(peer),
            ["flood", peer] => self.flood(&identity(peer)),
            ["binding", peer] => self.binding(peer),
            ["detach", peer] => {
                self.sessions.detach(&identity(peer)).await;
                "detached".to_owned()
            }
            ["counters"] => format!("{:?}", self.sessions.counters()),
            ["list"] => format!("{:?}", self.sessions.list()),
            ["listener"] => loopback_listener().to_string(),
            _ => panic!("unknown command {command:?}"),
        }
    }
}

fn body(text: &str) -> Vec<u8> {
    match text.strip_prefix("pad:") {
        Some(length) => vec![b'x'; length.parse().unwrap()],
        None => text.as_bytes().to_vec(),
    }
}

fn hex(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().chunks(2).filter(|pair| pair.len() == 2);
    digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

/// Puts the own facade into the group of somebody else's.
fn pose_as(peer: &str) -> String {
    let groups = ractor::pg::which_groups().into_iter();
    let local = groups.flat_map(|group| ractor::pg::get_local_members(&group)).next().unwrap();
    ractor::pg::join(format!("codeco-facade{}", identity(peer)), vec![local]);
    "posed".to_owned()
}

/// Sends bytes to the peer's facade past all checks on this side, as a hostile peer would.
async fn forge(peer: &str, version: &str, rest: &str) -> String {
    let mut fields = rest.splitn(3, ' ');
    let mut field = || fields.next().unwrap_or_default();
    let mut args = hex(version);
    args.extend(hex(field()));
    args.extend(hex(field()));
    args.extend(body(field()));
    let group = format!("codeco-facade{}", identity(peer));
    let facade = ractor::pg::get_members(&group).into_iter().find(|cell| !cell.get_id().is_local()).unwrap();
    let (reply, answer) = ractor::concurrency::oneshot();
    let variant = "Call".to_owned();
    facade
        .send_serialized(SerializedMessage::Call { variant, args, reply: reply.into(), metadata: None })
        .unwrap();
    match answer.await {
        Ok(bytes) => format!("raw {:02x}", bytes[0]),
        Err(_) => "raw gone".to_owned(),
    }
}

#[allow(clippy::needless_pass_by_value)] // as Sessions wants it
fn handle(sender: Identity, body: Vec<u8>) -> futures::future::BoxFuture<'static, Vec<u8>> {
    let sender = name(&sender);
    async move {
        let text = String::from_utf8_lossy(&body).into_owned();
        let (verb, argument) = text.split_once(':').unwrap_or((&text, ""));
        match verb {
            "hang" => std::future::pending().await,
            "panic" => panic!("asked to"),
            "panic-later" => {
                tokio::task::yield_now().await;
                panic!("asked to, later")
            }
            "slowly" => {
                tokio::time::sleep(Duration::from_millis(argument.parse().unwrap())).await;
                format!("{sender} was patient").into_bytes()
            }
            "big" => vec![0; argument.parse().unwrap()],
            "note" => {
                println!("heard note from {sender}");
                Vec::new()
            }
            "echo" => format!("{sender} said {text}").into_bytes(),
            _ => format!("{sender} sent {} bytes", body.len()).into_bytes(),
        }
    }
    .boxed()
}

/// Port of the only TCP listener of this process, which ractor_cluster tells nobody: see proc(5).
fn loopback_listener() -> u16 {
    let descriptors = std::fs::read_dir("/proc/self/fd").unwrap();
    let sockets: Vec<String> = descriptors
        .filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok())
        .filter_map(|link| Some(link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect();
    let table = std::fs::read_to_string("/proc/self/net/tcp").unwrap();
    let rows = table.lines().skip(1).map(|row| row.split_whitespace().collect::<Vec<_>>());
    let mut ours = rows.filter(|row| row[3] == "0A" && sockets.iter().any(|inode| inode == row[9]));
    let (address, port) = ours.next().unwrap()[1].split_once(':').unwrap();
    assert_eq!(address, "0100007F", "listens on loopback only");
    assert!(ours.next().is_none());
    u16::from_str_radix(port, 16).unwrap()
}

/// Mutual TLS 1.3 with the stage's authority, and an idle timeout short enough for tests.
fn endpoint(role: &Role) -> quinn::Endpoint {
    let read = |file: &str| std::fs::read(role.folder.join(file)).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from(read("ca"))).unwrap();
    let roots = Arc::new(roots);
    let chain = vec![CertificateDer::from(read("certificate"))];
    let key = || PrivateKeyDer::from(PrivatePkcs8KeyDer::from(read("key")));
    let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(
        Arc::clone(&roots),
        Arc::clone(&provider),
    );
    let server = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(chain.clone(), key())
        .unwrap();
    let client = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key())
        .unwrap();
    let mut transport = quinn::TransportConfig::default();
    transport.max_idle_timeout(Some(Duration::from_secs(1).try_into().unwrap()));
    transport.keep_alive_interval(Some(Duration::from_millis(250)));
    let transport = Arc::new(transport);
    let server = quinn::crypto::rustls::QuicServerConfig::try_from(server).unwrap();
    let mut server = quinn::ServerConfig::with_crypto(Arc::new(server));
    server.transport_config(Arc::clone(&transport));
    let client = quinn::crypto::rustls::QuicClientConfig::try_from(client).unwrap();
    let mut client = quinn::ClientConfig::new(Arc::new(client));
    client.transport_config(transport);
    let mut endpoint = quinn::Endpoint::server(server, (Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    endpoint.set_default_client_config(client);
    endpoint
}
