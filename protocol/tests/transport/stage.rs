//! A small fleet on loopback for the tests to play on.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use codeco_protocol::identity::{
    CERTIFICATE_LIFE, Ca, Credentials, Expected, MemberKey, Registrar, TokenBook, TokenBookLimits,
    TrustClock, TrustDomain, Validity,
};
use codeco_protocol::ids::{ClusterName, Identity, MemberId, Role};
use codeco_protocol::transport::{
    Limits, PeerConnection, Refusal, RefusalReason, StreamKind, Transport, TransportConfig,
};
use codeco_protocol::units::WallTime;
use tokio::sync::mpsc;
use tokio::time::timeout;

/// Nothing in these tests takes long; a test that hangs should say where.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Waits for something that must happen soon.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited in vain for {what}"),
    }
}

pub(crate) fn loopback() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

pub(crate) fn cluster(name: &str) -> ClusterName {
    ClusterName::new(name).unwrap()
}

pub(crate) fn node_of(name: &str) -> Role {
    Role::Node(cluster(name))
}

/// A wall clock that tests turn by hand; shared by all members of a fleet.
#[derive(Clone)]
pub(crate) struct HandClock(Arc<AtomicU64>);

impl HandClock {
    fn new() -> Self {
        Self(Arc::new(AtomicU64::new(1_800_000_000_000)))
    }

    pub(crate) fn now(&self) -> WallTime {
        WallTime(self.0.load(Ordering::Relaxed))
    }

    pub(crate) fn advance(&self, span: Duration) {
        self.0.fetch_add(u64::try_from(span.as_millis()).unwrap(), Ordering::Relaxed);
    }

    pub(crate) fn trust_clock(&self) -> TrustClock {
        let hand = self.clone();
        TrustClock::with_source(move || hand.now())
    }
}

/// A trust domain with its authority.
pub(crate) struct Fleet {
    pub(crate) ca: Arc<Ca>,
    pub(crate) clock: HandClock,
}

impl Fleet {
    pub(crate) fn new() -> Self {
        let clock = HandClock::new();
        let trust_domain = TrustDomain::new("fleet.example").unwrap();
        Self { ca: Arc::new(Ca::create(&trust_domain, clock.now()).unwrap()), clock }
    }

    pub(crate) fn credentials(&self, role: Role) -> Credentials {
        self.credentials_for(role, CERTIFICATE_LIFE)
    }

    pub(crate) fn credentials_for(&self, role: Role, life: Duration) -> Credentials {
        let key = MemberKey::generate().unwrap();
        let identity = Identity { role, id: MemberId::random() };
        let validity = Validity::starting(self.clock.now(), life);
        let issued = self.ca.issue(&key.signing_request().unwrap(), &identity, validity).unwrap();
        Credentials::new(&key, &issued.der, self.ca.certificate()).unwrap()
    }

    pub(crate) fn config(&self) -> TransportConfig {
        TransportConfig { clock: self.clock.trust_clock(), ..TransportConfig::new(loopback()) }
    }

    pub(crate) fn member(&self, role: Role) -> Member {
        self.member_with(&self.credentials(role), |_| {})
    }

    pub(crate) fn member_with(
        &self,
        credentials: &Credentials,
        adjust: impl FnOnce(&mut TransportConfig),
    ) -> Member {
        let (report, refusals) = mpsc::channel(64);
        let mut config = self.config();
        config.refusals = Some(report);
        adjust(&mut config);
        let transport = Transport::bind(config, credentials).unwrap();
        let addr = transport.local_addr().unwrap();
        Member { transport, addr, refusals }
    }

    /// A hub that admits members.
    pub(crate) fn hub_with_registrar(&self, folder: &std::path::Path) -> (Member, Registrar) {
        let book = TokenBook::open(&folder.join("tokens.json"), TokenBookLimits::default()).unwrap();
        let registrar = Registrar::new(self.ca.clone(), book, self.clock.trust_clock(), CERTIFICATE_LIFE);
        let join = Arc::new(registrar.clone());
        let hub = self.member_with(&self.credentials(Role::Hub), |config| config.join = Some(join));
        (hub, registrar)
    }
}

/// A process of the fleet.
pub(crate) struct Member {
    pub(crate) transport: Transport,
    pub(crate) addr: SocketAddr,
    pub(crate) refusals: mpsc::Receiver<Refusal>,
}

impl Member {
    /// Waits for the next refusal and checks reason, counter and that it is the only one so far.
    pub(crate) async fn must_have_refused(&mut self, reason: RefusalReason) -> Refusal {
        let refusal = soon("a refusal", self.refusals.recv()).await.unwrap();
        assert_eq!(refusal.reason, reason, "{refusal}");
        let all: Vec<_> = self.transport.stats().refusals().filter(|(_, count)| *count > 0).collect();
        assert_eq!(all, [(reason, 1)]);
        assert!(self.refusals.try_recv().is_err(), "reported once");
        refusal
    }
}

/// Both ends of a new connection, dialled by `from`.
pub(crate) async fn connected(from: &Member, to: &Member) -> (PeerConnection, PeerConnection) {
    let (dialled, accepted) = soon("a connection", async {
        tokio::join!(from.transport.connect(to.addr, Expected::Any), to.transport.accept())
    })
    .await;
    (dialled.unwrap(), accepted.unwrap())
}

/// Sends a word over a new stream and gets it back.
pub(crate) async fn must_echo(near: &PeerConnection, far: &PeerConnection) {
    let speak = async {
        let (mut send, mut receive) = near.open_bi(StreamKind::Gossip).await.unwrap();
        send.write_all(b"ping").await.unwrap();
        send.finish().unwrap();
        assert_eq!(receive.read_to_end(10).await.unwrap(), b"ping");
    };
    let listen = async {
        let (kind, mut send, mut receive) = far.accept_bi().await.unwrap();
        assert_eq!(kind, StreamKind::Gossip);
        let word = receive.read_to_end(10).await.unwrap();
        send.write_all(&word).await.unwrap();
        send.finish().unwrap();
    };
    soon("an echo", async { tokio::join!(speak, listen) }).await;
}

/// The proof after every refusal: an honest member still gets through.
pub(crate) async fn must_still_serve(fleet: &Fleet, to: &Member) {
    let good = fleet.member(node_of("good"));
    let (near, far) = connected(&good, to).await;
    must_echo(&near, &far).await;
}

/// Limits that end handshakes quickly.
pub(crate) fn hasty() -> Limits {
    Limits { handshake_deadline: Duration::from_millis(300), ..Limits::default() }
}
