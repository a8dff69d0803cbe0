//! A server on loopback with a context for each role.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use codeco_hub::api::{ApiRole, ApiServer, ApiTokens, Limits, RefusalReason, Refusals, Refused, tls_config};
use codeco_protocol::identity::{
    CERTIFICATE_LIFE, Ca, Credentials, CredentialsSlot, MemberKey, TrustClock, TrustDomain, Validity,
    certificate_pem,
};
use codeco_protocol::ids::{Identity, MemberId, Role};
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, oneshot};

use super::fleet::FakeFleet;
use crate::client::tls::client_config;
use crate::contexts::{Context, save_and_use};
use crate::failure::ExitClass;
use crate::run;
use crate::session::Session;

/// Longest wait for something that must happen; only a failing test waits so long.
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) struct Fixture {
    runtime: Option<Runtime>,
    stop: Option<oneshot::Sender<()>>,
    pub(super) ended: Option<oneshot::Receiver<()>>,
    pub(super) address: SocketAddr,
    pub(super) fleet: Arc<FakeFleet>,
    pub(super) tokens: Arc<ApiTokens>,
    pub(super) refusals: Arc<Refusals>,
    pub(super) reports: mpsc::Receiver<Refused>,
    pub(super) ca_pem: String,
    pub(super) folder: tempfile::TempDir,
}

/// What a call of the command did.
pub(super) struct Ran {
    pub(super) class: ExitClass,
    pub(super) stdout: String,
    pub(super) stderr: String,
}

impl Fixture {
    pub(super) fn new() -> Self {
        Self::with(Limits::default(), Role::Hub)
    }

    /// A server whose certificate says that it is a `role`.
    pub(super) fn with(limits: Limits, role: Role) -> Self {
        let now = TrustClock::system().now();
        let ca = Ca::create(&TrustDomain::new("fleet.example").unwrap(), now).unwrap();
        let key = MemberKey::generate().unwrap();
        let identity = Identity { role, id: MemberId(1) };
        let validity = Validity::starting(now, CERTIFICATE_LIFE);
        let issued = ca.issue(&key.signing_request().unwrap(), &identity, validity).unwrap();
        let credentials = Credentials::new(&key, &issued.der, ca.certificate()).unwrap();
        let tls = tls_config(CredentialsSlot::new(credentials)).unwrap();

        let folder = tempfile::tempdir().unwrap();
        let tokens = Arc::new(ApiTokens::open(&folder.path().join("api-tokens.json")).unwrap());
        let (refusals, reports) = Refusals::new();
        let (fleet, refusals) = (Arc::new(FakeFleet::default()), Arc::new(refusals));
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let server =
            ApiServer::new(tls, fleet.clone(), tokens.clone(), refusals.clone(), limits, "hub".into());
        let ((stop, stopped), (ends, ended)) = (oneshot::channel::<()>(), oneshot::channel());
        runtime.spawn(async move {
            server.serve(listener, async { drop(stopped.await) }).await;
            let _ = ends.send(());
        });
        let ca_pem = certificate_pem(ca.certificate());
        let (stop, ended, runtime) = (Some(stop), Some(ended), Some(runtime));
        let fixture =
            Self { runtime, stop, ended, address, fleet, tokens, refusals, reports, ca_pem, folder };
        for role in ApiRole::ALL {
            let token = fixture.tokens.create(role.word(), role).unwrap();
            fixture.add_context(role.word(), &token);
        }
        fixture
    }

    pub(super) fn contexts(&self) -> PathBuf {
        self.folder.path().join("contexts.yaml")
    }

    /// Adds a context, which becomes the current one.
    pub(super) fn add_context(&self, name: &str, token: &str) {
        save_and_use(&self.contexts(), self.context(name, token)).unwrap();
    }

    pub(super) fn context(&self, name: &str, token: &str) -> Context {
        let (server, ca) = (format!("https://{}", self.address), self.ca_pem.clone());
        Context { name: name.to_owned(), server, ca, token: token.to_owned(), members: Vec::new() }
    }

    pub(super) fn token_of(&self, role: ApiRole) -> String {
        let contexts = crate::contexts::Contexts::load(&self.contexts()).unwrap();
        contexts.pick(Some(role.word()), &self.contexts()).unwrap().token.clone()
    }

    /// `codeco arguments…` with the current context: admin, unless a test adds one.
    pub(super) fn run(&self, arguments: &[&str]) -> Ran {
        self.run_with(arguments, "")
    }

    pub(super) fn run_with(&self, arguments: &[&str], stdin: impl AsRef<str>) -> Ran {
        let mut stdout = Vec::new();
        let (class, stderr) = self.run_into(arguments, stdin.as_ref(), &mut stdout);
        Ran { class, stdout: String::from_utf8_lossy(&stdout).into_owned(), stderr }
    }

    pub(super) fn run_into(
        &self,
        arguments: &[&str],
        stdin: &str,
        stdout: &mut dyn Write,
    ) -> (ExitClass, String) {
        let (mut stdin, mut stderr) = (stdin.as_bytes(), Vec::new());
        let contexts = self.contexts();
        let (stdin, stderr_to): (_, &mut dyn Write) = (&mut stdin, &mut stderr);
        let session = Session { contexts, context: None, stdin, stdout, stderr: stderr_to, paint: false };
        let arguments = ["codeco"].iter().chain(arguments).map(OsString::from);
        let class = run(arguments, session);
        (class, String::from_utf8_lossy(&stderr).into_owned())
    }

    /// A connection that has said nothing yet.
    pub(super) fn tcp(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    pub(super) fn tls(&self) -> StreamOwned<ClientConnection, TcpStream> {
        let name = ServerName::try_from("hub").unwrap();
        let connection = ClientConnection::new(
            client_config(&self.ca_pem, codeco_protocol::identity::Expected::Hub).unwrap(),
            name,
        )
        .unwrap();
        StreamOwned::new(connection, self.tcp())
    }

    /// Sends `request` as it is over TLS and reads until the server closes.
    pub(super) fn raw(&self, request: &[u8]) -> String {
        let mut stream = self.tls();
        stream.write_all(request).unwrap();
        let mut answer = Vec::new();
        // A server that just closes the connection is an error to rustls; what came before it counts.
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    }

    pub(super) fn count(&self, reason: RefusalReason) -> u64 {
        self.refusals.counts().into_iter().find(|(found, _)| *found == reason).unwrap().1
    }

    /// Waits for the next report of a refusal.
    pub(super) fn report(&mut self) -> Refused {
        let next = async { tokio::time::timeout(PATIENCE, self.reports.recv()).await };
        self.runtime.as_ref().unwrap().block_on(next).unwrap().unwrap()
    }

    pub(super) fn stop(&mut self) {
        drop(self.stop.take());
    }

    /// Waits until the server has ended.
    pub(super) fn wait_for_the_end(&mut self) {
        let ended = self.ended.take().unwrap();
        let ended = async { tokio::time::timeout(PATIENCE, ended).await };
        self.runtime.as_ref().unwrap().block_on(ended).unwrap().unwrap();
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
