//! The hub's process: its tree of actors, its start and its end.

mod authority;
mod identity;
mod inspector;
mod options;
mod watch;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use codeco_actors::acm::access::{spread_api, tokens_child};
use codeco_actors::acm::answers::{CertAuthority, MemberFleet, standings};
use codeco_actors::acm::api::{ApiTokens, ApiTokensError, Refusals};
use codeco_actors::acm::clusters::{cluster_facts, keepers, others};
use codeco_actors::acm::home::{HomeEffects, HomeRef, restore_home};
use codeco_actors::acm::serve::{refusals_metric, serve_api};
use codeco_actors::clock::boot_now;
use codeco_actors::evidence::Note;
use codeco_actors::fabric::{LinksConfig, LinksMessage, Watcher, links_child};
use codeco_actors::netma::netma_child;
use codeco_actors::pdlc::judge::Learning;
use codeco_actors::process::{
    Faults, IdentityState, Member, MemberConfig, MemberError, Pace, Samples, TrustKeeper, following_child,
    note_supervision, panic_by, periodic_child, serve_health,
};
use codeco_actors::supervision::{Policy, Strategy, Supervisor, SupervisorSpec};
use codeco_actors::swm::actor::{CoreMessage, core_child};
use codeco_actors::swm::home::HomeInput;
use codeco_actors::swm::post::Cores;
use codeco_protocol::api::EventType;
use codeco_protocol::identity::{
    CaError, ClockNote, CredentialsError, CredentialsSlot, IssueError, JoinHandler, KeyError, Registrar,
    RenewHandler, TokenBookError, TrustClock,
};
use futures::FutureExt as _;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::learner::{LearnerConfig, LearnerMessage, TrainingConfig, learner_child};
use authority::Authority;
pub use identity::{ADMIN_FILE, AdminAccess};
pub use options::{HubConfig, HubOptions};

/// Why the hub cannot run.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// Its state folder.
    #[error("state {path}: {detail}")]
    State {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong.
        detail: String,
    },
    /// Its authority.
    #[error(transparent)]
    Ca(#[from] CaError),
    /// Its certificate.
    #[error(transparent)]
    Issue(#[from] IssueError),
    /// Its key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// What is on disk.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// Its book of join tokens.
    #[error(transparent)]
    Tokens(#[from] TokenBookError),
    /// Its API tokens.
    #[error(transparent)]
    ApiTokens(#[from] ApiTokensError),
    /// Its place in the fabric.
    #[error(transparent)]
    Member(#[from] MemberError),
    /// An address.
    #[error("cannot listen on {address} for {what}: {source}")]
    Listen {
        /// The address.
        address: std::net::SocketAddr,
        /// What for.
        what: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// TLS of the API.
    #[error("the API's TLS cannot be set up: {0}")]
    Tls(String),
    /// Its root supervisor.
    #[error("the supervision tree was not started: {0}")]
    Tree(String),
}

/// Runs the hub until `shutdown` resolves, then ends it in order.
///
/// # Errors
/// [`HubError`] if it cannot start.
pub async fn run(config: HubConfig, shutdown: impl Future<Output = ()> + Send) -> Result<(), HubError> {
    let _lock = lock_state(&config.state)?;
    let clock = TrustClock::system();
    let time_path = config.state.join("time");
    let time = ClockNote::open(&time_path, &clock)
        .map_err(|e| HubError::State { path: time_path.clone(), detail: e.to_string() })?;
    let established = identity::establish(&config, &clock)?;
    let (registrar, credentials) = (established.registrar, established.credentials);
    let authority = established.authority;
    let slot = CredentialsSlot::new(credentials.clone());
    let member_config = MemberConfig {
        name: config.name.to_string(),
        state: config.state.clone(),
        listen: config.listen,
        dial_out_only: false,
        conditions: vec![("home", "the journal of applications is being read")],
        faults: config.faults,
        trust: authority.trust().clone(),
        renew: Some(Arc::clone(&authority) as Arc<dyn RenewHandler>),
    };
    let join = Arc::clone(&authority) as Arc<dyn JoinHandler>;
    let member = Member::start(member_config, &credentials, clock.clone(), Some(join)).await?;
    let api = listen(config.api, "the API").await?;
    let http = listen(config.http, "/healthz, /readyz and /metrics").await?;
    let tokens = Arc::new(ApiTokens::open(&config.state.join("api-tokens.json"))?);
    let api_address = api.local_addr().unwrap_or(config.api);
    let admin = identity::admin_access(&config, &tokens, authority.pem(), api_address)?;

    {
        let member = Arc::clone(&member);
        // Set once: this is the only place.
        let _ = authority.entitled.set(Arc::new(move |who| watch::leads_its_cluster(&member.commons, who)));
    }
    let keys = Keys {
        authority: Arc::clone(&authority),
        slot: Arc::clone(&slot),
        clock,
        time,
        told: AtomicU64::new(0),
    };
    let tree = plant(&config, &member, &registrar, &Arc::new(keys), &tokens);
    tokio::spawn(note_supervision(tree.supervision, Arc::clone(&member)));
    let root =
        Supervisor::start(tree.root, &member.actors).await.map_err(|e| HubError::Tree(e.to_string()))?;
    spread_api(&member, api_address);
    let fleet = Arc::new(MemberFleet {
        member: Arc::clone(&member),
        home: tree.home,
        registrar: Some(registrar),
        authority: Some(authority as Arc<dyn CertAuthority>),
        faults: tree.faults,
    });
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let (api_server, refusals) = serve_api(&member, api, slot, fleet, tokens, stopped.clone())
        .map_err(|e| HubError::Tls(e.to_string()))?;
    let samples = samples(Arc::clone(&member), refusals);
    let health = tokio::spawn(serve_health(http, member.readiness.clone(), samples, until(stopped)));
    tracing::info!(name = %config.name, address = ?member.commons.address(), api = %api_address,
        admin = %admin.display(), "hub runs");
    shutdown.await;

    tracing::info!("hub stops");
    // Requests under way end first, then the actors they ask.
    let _ = stop.send(true);
    let _ = tokio::time::timeout(Duration::from_secs(2), api_server).await;
    root.stop().await;
    member.leave().await;
    let _ = tokio::time::timeout(Duration::from_secs(1), health).await;
    Ok(())
}

async fn until(mut stopped: tokio::sync::watch::Receiver<bool>) {
    // A dropped sender means the same.
    let _ = stopped.wait_for(|stop| *stop).await;
}

async fn listen(address: std::net::SocketAddr, what: &'static str) -> Result<TcpListener, HubError> {
    TcpListener::bind(address).await.map_err(|source| HubError::Listen { address, what, source })
}

/// One hub per state folder. The lock goes with the process.
fn lock_state(path: &Path) -> Result<File, HubError> {
    let state = |detail: String| HubError::State { path: path.to_owned(), detail };
    std::fs::create_dir_all(path).map_err(|e| state(e.to_string()))?;
    let lock = File::create(path.join("lock")).map_err(|e| state(e.to_string()))?;
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive)
        .map_err(|_| state("another hub uses it; stop that one first, or name another folder".into()))?;
    Ok(lock)
}

struct Tree {
    root: SupervisorSpec,
    supervision: mpsc::Receiver<codeco_actors::supervision::Event>,
    home: HomeRef,
    faults: Faults,
}

/// Puts the tree together: links, identity, and ACM with the home of applications and its view of clusters.
fn plant(
    config: &HubConfig,
    member: &Arc<Member>,
    registrar: &Registrar,
    keys: &Arc<Keys>,
    tokens: &Arc<ApiTokens>,
) -> Tree {
    let policy = Policy::default();
    let (events, supervision) = mpsc::channel(1_024);
    let seed = u64::try_from(member.commons.own.id.0 >> 64).unwrap_or(0);
    let supervisor = |name: &str, children| SupervisorSpec {
        name: name.to_owned(),
        strategy: Strategy::OneForOne,
        children,
        events: events.clone(),
        seed,
    };
    let watcher: Arc<dyn Watcher> = Arc::new(watch::HubWatcher { member: Arc::clone(member) });
    let (hubs, peers, relays) = (Vec::new(), Vec::new(), Vec::new());
    let links_config = LinksConfig { hubs, peers, relays, watcher, membership: config.membership, seed };
    let (links, links_ref) = links_child(Arc::clone(&member.commons), links_config, policy);

    let effects = Arc::new(HomeEffects::new(Arc::clone(member)));
    let restore = restore_home(&config.state, member, seed);
    let post = Arc::clone(&member.commons.post);
    let (home, home_ref) = core_child("home", policy, restore, Arc::clone(&post), effects);
    post.set_cores(Cores { ledger: None, elector: None, home: Some(home_ref.clone()) });
    let (clusters, clusters_ref) = {
        let (member, home) = (Arc::clone(member), home_ref.clone());
        let pace = Pace { least: Duration::from_millis(50), most: Duration::from_secs(1) };
        let follows = vec![member.commons.follow_known(), member.commons.sessions.follow()];
        following_child("clusters", policy, pace, follows, move || {
            let facts = cluster_facts(&member.commons, boot_now());
            // A home that is being restarted hears of the clusters next time.
            let _ = home.try_send(CoreMessage::Input(HomeInput::Clusters(facts)));
            let _ = home.try_send(CoreMessage::Input(HomeInput::Keepers(keepers(&member.commons))));
            let _ = home.try_send(CoreMessage::Input(HomeInput::Others(others(&member.commons))));
            async { Ok(()) }.boxed()
        })
    };
    let (netma, netma_ref) = netma_child(&member.network, policy, config.membership.period, |_| {});
    let (identity, _) = {
        let (config, member, keys) = (config.clone(), Arc::clone(member), Arc::clone(keys));
        let trust = keys.authority.trust();
        let keeper = Arc::new(TrustKeeper::new(&keys.authority.trust_path(), trust.version()));
        periodic_child("identity", policy, Duration::from_secs(1), move || {
            let (config, member, keys) = (config.clone(), Arc::clone(&member), Arc::clone(&keys));
            let keeper = Arc::clone(&keeper);
            async move {
                keys.tick(&config, &member)?;
                keeper.tick(&member, IdentityState::default()).await
            }
            .boxed()
        })
    };
    let faults = Faults::new(config.faults, Arc::clone(&member.commons))
        .with("links", panic_by(&links_ref, || LinksMessage::Panic))
        .with("home", panic_by(&home_ref, || CoreMessage::Panic))
        .with("clusters", panic_by(&clusters_ref, || codeco_actors::process::PeriodicMessage::Panic))
        .with("netma", panic_by(&netma_ref, || codeco_actors::process::PeriodicMessage::Panic));
    let learner = (config.learning != Learning::Off).then(|| {
        let training = TrainingConfig { seed, ..TrainingConfig::default() };
        let learner_config = LearnerConfig { step_ms: config.load_step_ms, training };
        learner_child(learner_config, member, config.state.join("model"), policy)
    });
    let faults = match &learner {
        Some((_, learner)) => faults.with("learner", panic_by(learner, || LearnerMessage::Panic)),
        None => faults,
    };
    let inspector = inspector::HubInspector {
        registrar: registrar.clone(),
        clock: keys.clock.clone(),
        life: config.certificate_life,
        home: home_ref.clone(),
        own: member.commons.own.clone(),
        links: links_ref,
    };
    // Set once: this is the only tree of this process.
    let _ = member.commons.inspector.set(Arc::new(inspector));
    let (tokens, _) = tokens_child(member, tokens, policy);
    let acm = supervisor("acm", vec![home, clusters, tokens]);
    let mut children = vec![links, identity, netma, acm.into_child(policy)];
    children.extend(learner.map(|(learner, _)| supervisor("pdlc", vec![learner]).into_child(policy)));
    let root = supervisor("hub", children);
    Tree { root, supervision, home: home_ref, faults }
}

/// The hub's authority, and its own certificate.
struct Keys {
    authority: Arc<Authority>,
    slot: Arc<CredentialsSlot>,
    clock: TrustClock,
    time: ClockNote,
    /// Version of the list that the administrator's file follows.
    told: AtomicU64,
}

impl Keys {
    fn tick(&self, config: &HubConfig, member: &Member) -> Result<(), String> {
        let version = self.authority.trust().version();
        if self.told.load(Ordering::Relaxed) != version {
            identity::refresh_access(config, &self.authority.pem())?;
            self.told.store(version, Ordering::Relaxed);
        }
        self.time.keep().map_err(|e| e.to_string())?;
        let standings = standings(&member.commons);
        if let Some(done) = self.authority.step(&standings)? {
            member.events.tell(Note {
                kind: EventType::Normal,
                reason: "AuthorityHandover",
                object_kind: "Member",
                object: member.name.clone(),
                message: done.to_owned(),
            });
        }
        let present = self.slot.get();
        let active = present.ca_key_hash() == self.authority.trust().active();
        if active && self.clock.now() < present.renew_at() {
            return Ok(());
        }
        let own = &member.commons.own;
        let renewed =
            identity::renew_own(config, &self.authority, own, &self.clock).map_err(|e| e.to_string())?;
        member.update(|fact| fact.certificate_expires = renewed.validity().not_after);
        member.commons.transport.renew(renewed.clone());
        self.slot.set(renewed);
        Ok(())
    }
}

fn samples(member: Arc<Member>, refusals: Arc<Refusals>) -> Samples {
    Arc::new(move || {
        let mut metrics = member.metrics();
        metrics.push(refusals_metric(&refusals));
        metrics
    })
}
