//! The agent's process: its tree of actors, its start and its end.

mod acm;
mod credentials;
mod inspector;
mod load;
mod options;
mod renewal;
mod swm;
mod watch;
mod workloads;

use std::ffi::OsString;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use codeco_actors::evidence::Note;
use codeco_actors::fabric::{LinksConfig, LinksMessage, Watcher, links_child};
use codeco_actors::mdm::{LOOK_SECONDS, Looker};
use codeco_actors::netma::{NetworkWord, netma_child};
use codeco_actors::process::{
    Faults, Member, MemberConfig, MemberError, Metric, MetricKind, PeriodicMessage, Samples,
    note_supervision, panic_by, periodic_child, serve_health,
};
use codeco_actors::supervision::{Policy, Strategy, Supervisor, SupervisorSpec};
use codeco_actors::swm::actor::{CoreMessage, core_child};
use codeco_actors::swm::ledger::LedgerInput;
use codeco_actors::swm::post::Cores;
use codeco_protocol::api::EventType;
use codeco_protocol::gossip::Fact;
use codeco_protocol::identity::{ClockNote, RenewHandler, TrustClock};
use codeco_protocol::ids::ClusterName;
use futures::FutureExt as _;
use tokio::sync::mpsc;

use crate::runtime::{
    ConnectError, ProcessOptions, ProcessRuntime, Runtime, RuntimeEvent, SimulatedOptions, SimulatedRuntime,
};
pub use credentials::EnrolError;
pub use options::{AgentConfig, AgentOptions, RuntimeKind};
pub use renewal::RenewalError;
use renewal::Renewals;

/// Why the agent cannot run.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// Its state folder.
    #[error("state folder {path}: {detail}")]
    State {
        /// The folder.
        path: String,
        /// What is wrong.
        detail: String,
    },
    /// Its certificate.
    #[error(transparent)]
    Enrol(#[from] EnrolError),
    /// What it keeps for the next one.
    #[error(transparent)]
    Renewal(#[from] RenewalError),
    /// Its place in the fabric.
    #[error(transparent)]
    Member(#[from] MemberError),
    /// Its runtime.
    #[error(transparent)]
    Runtime(#[from] ConnectError),
    /// Its HTTP address.
    #[error("cannot listen on {address} for /healthz, /readyz and /metrics: {source}")]
    Http {
        /// The address.
        address: std::net::SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// Its API.
    #[error("cannot serve the API at {address}: {detail}; choose another address with --api, or --api none")]
    Api {
        /// The address.
        address: std::net::SocketAddr,
        /// What is wrong.
        detail: String,
    },
    /// Its root supervisor.
    #[error("the supervision tree was not started: {0}")]
    Tree(String),
}

/// Programs the process runtime needs beside the agent.
#[derive(Debug, Clone)]
pub struct Helpers {
    /// Ends up in [`crate::guard::run`].
    pub guard: Vec<OsString>,
    /// Ends up in [`crate::guard::shim`].
    pub shim: Vec<OsString>,
}

/// Between two rounds of MDM.
const MDM_PERIOD: Duration = Duration::from_secs(5);

type Reports = mpsc::Receiver<RuntimeEvent>;

/// What is to be ended with the agent, besides its actors.
enum Engine {
    Simulated,
    Process(Arc<ProcessRuntime>),
}

/// Runs the agent until `shutdown` resolves, then ends it in order.
///
/// # Errors
/// [`AgentError`] if it cannot start.
pub async fn run(
    config: AgentConfig,
    helpers: Helpers,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), AgentError> {
    let _lock = lock_state(&config.state)?;
    let clock = TrustClock::system_off_by(config.wall_clock_off_by);
    let time = ClockNote::open(&config.state.join("time"), &clock).map_err(RenewalError::from)?;
    let enrolled = credentials::enrol(&config, &clock).await?;
    let (renewals, credentials) = Renewals::open(&config, clock.clone(), time, enrolled)?;
    let Some(cluster) = credentials.identity().cluster().cloned() else {
        return Err(EnrolError::NotANode(config.state.display().to_string()).into());
    };
    let member_config = MemberConfig {
        name: config.name.to_string(),
        state: config.state.clone(),
        listen: config.listen,
        dial_out_only: config.dial_out_only,
        conditions: vec![("lease", "the cluster's lead has not granted one")],
        faults: config.faults,
        trust: renewals.trust().clone(),
        renew: Some(Arc::clone(&renewals) as Arc<dyn RenewHandler>),
    };
    let member = Member::start(member_config, &credentials, clock.clone(), None).await?;
    let (runtime, reports, engine) = start_runtime(&config, helpers).await?;
    let workloads = workloads::Workloads::new(runtime, Arc::clone(&member));
    let http = tokio::net::TcpListener::bind(config.http)
        .await
        .map_err(|source| AgentError::Http { address: config.http, source })?;

    let tokens = acm::tokens(&config.state)?;
    let tree = plant(&config, &cluster, &member, &workloads, &renewals, &tokens);
    let (home, faults, leaves) = (tree.home, tree.faults, tree.leaves);
    tokio::spawn(Arc::clone(&workloads).pump(reports));
    tokio::spawn(note_supervision(tree.supervision, Arc::clone(&member)));
    let root =
        Supervisor::start(tree.root, &member.actors).await.map_err(|e| AgentError::Tree(e.to_string()))?;
    let (stop_api, api_stopped) = tokio::sync::watch::channel(false);
    let api = acm::serve(&config, &member, home, faults, tokens, api_stopped).await?;
    let (stop_http, http_stopped) = tokio::sync::oneshot::channel::<()>();
    let refusals = api.as_ref().map(|(_, refusals)| Arc::clone(refusals));
    let samples = samples(Arc::clone(&member), refusals);
    let server = tokio::spawn(serve_health(http, member.readiness.clone(), samples, async {
        let _ = http_stopped.await;
    }));
    tracing::info!(name = %config.name, %cluster, address = ?member.commons.address(), "agent runs");
    tokio::select! {
        () = shutdown => {}
        () = leaves.notified() => tracing::info!("an operator has this node stop for good"),
    }

    tracing::info!("agent stops");
    member.events.tell(Note {
        kind: EventType::Normal,
        reason: "AgentStopping",
        object_kind: "Node",
        object: config.name.to_string(),
        message: "stops in order".into(),
    });
    // Requests under way end first, then the actors they ask.
    let _ = stop_api.send(true);
    if let Some((server, _)) = api {
        let _ = tokio::time::timeout(Duration::from_secs(2), server).await;
    }
    root.stop().await;
    if let (Engine::Process(runtime), true) = (&engine, config.stop_workloads_on_exit)
        && let Err(error) = runtime.shutdown(true).await
    {
        tracing::warn!(%error, "not every replica is proven to be stopped");
    }
    member.leave().await;
    drop(stop_http);
    // The server ends with its last request; it has nothing to lose.
    let _ = tokio::time::timeout(Duration::from_secs(1), server).await;
    Ok(())
}

/// One agent per state folder. The lock goes with the process.
fn lock_state(path: &Path) -> Result<File, AgentError> {
    let state = |detail: String| AgentError::State { path: path.display().to_string(), detail };
    std::fs::create_dir_all(path).map_err(|e| state(e.to_string()))?;
    let lock = File::create(path.join("lock")).map_err(|e| state(e.to_string()))?;
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive)
        .map_err(|_| state("another agent uses it; stop that one first, or name another folder".into()))?;
    Ok(lock)
}

async fn start_runtime(
    config: &AgentConfig,
    helpers: Helpers,
) -> Result<(Arc<dyn Runtime>, Reports, Engine), AgentError> {
    match config.runtime {
        RuntimeKind::Simulated => {
            let (runtime, reports) = SimulatedRuntime::new(SimulatedOptions::default());
            Ok((Arc::new(runtime), reports, Engine::Simulated))
        }
        RuntimeKind::Process => {
            let folder = config.state.join("guard");
            std::fs::create_dir_all(&folder).map_err(|e| AgentError::State {
                path: folder.display().to_string(),
                detail: e.to_string(),
            })?;
            let options = ProcessOptions::new(folder, config.name.clone(), helpers.guard, helpers.shim);
            let (runtime, reports) = ProcessRuntime::connect(options).await?;
            let runtime = Arc::new(runtime);
            Ok((Arc::clone(&runtime) as Arc<dyn Runtime>, reports, Engine::Process(runtime)))
        }
    }
}

struct Tree {
    root: SupervisorSpec,
    supervision: mpsc::Receiver<codeco_actors::supervision::Event>,
    home: codeco_actors::acm::home::HomeRef,
    faults: Faults,
    /// Told once an operator has this node stop for good.
    leaves: Arc<tokio::sync::Notify>,
}

/// Puts the tree together: links, MDM, NetMA, identity, and SWM with elector, workloads and ledger.
fn plant(
    config: &AgentConfig,
    cluster: &ClusterName,
    member: &Arc<Member>,
    workloads: &Arc<workloads::Workloads>,
    renewals: &Arc<Renewals>,
    tokens: &Arc<codeco_actors::acm::api::ApiTokens>,
) -> Tree {
    // Set once: this is the only tree of this process.
    let _ = member.hubs.set(config.hubs.clone());
    let policy = Policy::default();
    let (events, supervision) = mpsc::channel(1_024);
    let seed = u64::try_from(member.commons.own.id.0 >> 64).unwrap_or(0);
    let supervisor = |name: &str, strategy, children| SupervisorSpec {
        name: name.to_owned(),
        strategy,
        children,
        events: events.clone(),
        seed,
    };
    let watcher = Arc::new(watch::AgentWatcher::new(config, cluster, member));
    let links_config = LinksConfig {
        hubs: config.hubs.clone(),
        peers: watch::remembered_peers(config),
        relays: config.relays.clone(),
        watcher: Arc::clone(&watcher) as Arc<dyn Watcher>,
        membership: config.membership,
        seed,
    };
    let (links, links_ref) = links_child(Arc::clone(&member.commons), links_config, policy);

    let (workloads_spec, workloads_ref) = workloads::workloads_child(workloads, policy);
    let find_lead = {
        let watcher = Arc::clone(&watcher);
        Arc::new(move || watcher.lead())
    };
    let effects = swm::LedgerEffects {
        member: Arc::clone(member),
        workloads: Arc::clone(workloads),
        actor: workloads_ref.clone(),
    };
    let restore = swm::restore_ledger(config, member, workloads, find_lead);
    let post = Arc::clone(&member.commons.post);
    let (ledger, ledger_ref) = core_child("ledger", policy, restore, Arc::clone(&post), Arc::new(effects));
    // Set once: this is the only tree of this process.
    let _ = workloads.ledger.set(ledger_ref.clone());
    let node = supervisor("node", Strategy::RestForOne, vec![workloads_spec, ledger]);

    let mut faults = Faults::new(config.faults, Arc::clone(&member.commons))
        .with("links", panic_by(&links_ref, || LinksMessage::Panic))
        .with("workloads", panic_by(&workloads_ref, || workloads::WorkloadsMessage::Panic))
        .with("ledger", panic_by(&ledger_ref, || CoreMessage::Panic));
    let (acm_children, home_ref) = acm::children(config, member, tokens, seed, policy);
    faults = faults.with("home", panic_by(&home_ref, || CoreMessage::Panic));
    let effects = swm::ElectorEffects {
        member: Arc::clone(member),
        cluster: cluster.clone(),
        name: config.name.clone(),
        labels: config.cluster_labels.clone(),
        seat: watcher.seat(),
        braked: std::sync::Mutex::default(),
        told: std::sync::Mutex::default(),
    };
    let restore = swm::restore_elector(config, member, cluster);
    let (elector, elector_ref) = core_child("elector", policy, restore, Arc::clone(&post), Arc::new(effects));
    faults = faults.with("elector", panic_by(&elector_ref, || CoreMessage::Panic));
    let swm_children = vec![elector, node.into_child(policy)];
    let cores = Cores {
        ledger: Some(ledger_ref.clone()),
        elector: Some(elector_ref.clone()),
        home: Some(home_ref.clone()),
    };
    post.set_cores(cores);

    let (mdm, mdm_ref) = mdm(config, member, &ledger_ref, policy);
    let (netma, netma_ref) = netma(member, &ledger_ref, config.membership.period, policy);
    let (follow, _) = watch::follow_lead(&watcher, member, &ledger_ref, &elector_ref, policy);
    let (identity, _) = identity(renewals, member, &watcher, policy);
    faults = faults
        .with("mdm", panic_by(&mdm_ref, || PeriodicMessage::Panic))
        .with("netma", panic_by(&netma_ref, || PeriodicMessage::Panic));
    let learning = load::children(config, cluster, member, &watcher, &elector_ref, policy);
    for (name, child) in learning.iter().map(|(name, (_, child))| (*name, child)) {
        faults = faults.with(name, panic_by(child, || PeriodicMessage::Panic));
    }
    let leaves = Arc::new(tokio::sync::Notify::new());
    let inspector = inspector::AgentInspector {
        member: Arc::clone(member),
        workloads: Arc::clone(workloads),
        cluster: cluster.clone(),
        faults: faults.clone(),
        elector: elector_ref.clone(),
        links: links_ref,
        leaves: Arc::clone(&leaves),
    };
    // Set once, as above.
    let _ = member.commons.inspector.set(Arc::new(inspector));

    let swm = supervisor("swm", Strategy::OneForOne, swm_children);
    let acm = supervisor("acm", Strategy::OneForOne, acm_children);
    let mut children =
        vec![links, identity, mdm, netma, swm.into_child(policy), acm.into_child(policy), follow];
    children.extend(learning.into_iter().map(|(_, (spec, _))| spec));
    let root = supervisor("agent", Strategy::OneForOne, children);
    Tree { root, supervision, home: home_ref, faults, leaves }
}

type Periodic =
    (codeco_actors::supervision::ChildSpec, codeco_actors::supervision::ChildRef<PeriodicMessage>);
type LedgerRef = codeco_actors::supervision::ChildRef<CoreMessage<codeco_actors::swm::ledger::Ledger>>;

/// Meta Data Manager: what this node has, and what its host is.
fn mdm(config: &AgentConfig, member: &Arc<Member>, ledger: &LedgerRef, policy: Policy) -> Periodic {
    let (capacity, ledger, member) = (config.capacity.clone(), ledger.clone(), Arc::clone(member));
    let looker = Arc::new(Looker {
        state: config.state.clone(),
        runtime: format!("{:?}", config.runtime).to_lowercase(),
        data_sources: config.data_sources.clone(),
        ..Looker::default()
    });
    let round = Arc::new(AtomicU32::new(0));
    periodic_child("mdm", policy, MDM_PERIOD, move || {
        let input = LedgerInput::Capacity { capacity: capacity.clone(), foreign: Default::default() };
        let (ledger, member, looker) = (ledger.clone(), Arc::clone(&member), Arc::clone(&looker));
        let rounds = LOOK_SECONDS / u32::try_from(MDM_PERIOD.as_secs()).unwrap_or(1).max(1);
        let looks = round.fetch_add(1, Ordering::Relaxed).is_multiple_of(rounds.max(1));
        async move {
            // A ledger that is being restarted is told its size at its start.
            let _ = ledger.try_send(CoreMessage::Input(input));
            member.spread_readiness();
            if looks {
                let host =
                    tokio::task::spawn_blocking(move || looker.look()).await.map_err(|e| e.to_string())?;
                member.commons.publish_fact("host", Fact::Host(Box::new(host)));
            }
            Ok(())
        }
        .boxed()
    })
}

/// Network Management and Adaptation: what this node measures of the network goes to its ledger, which tells the lead.
fn netma(
    member: &Arc<Member>,
    ledger: &LedgerRef,
    pace: codeco_protocol::units::Micros,
    policy: Policy,
) -> Periodic {
    let ledger = ledger.clone();
    netma_child(&member.network, policy, pace, move |word| {
        let input = match word {
            NetworkWord::RoundTrips(list) => LedgerInput::RoundTrips(list),
            NetworkWord::Coordinate(coordinate) => LedgerInput::Coordinate(coordinate),
        };
        // As above.
        let _ = ledger.try_send(CoreMessage::Input(input));
    })
}

/// Keeps the certificate fresh, and trust up to date.
fn identity(
    renewals: &Arc<Renewals>,
    member: &Arc<Member>,
    watcher: &Arc<watch::AgentWatcher>,
    policy: Policy,
) -> Periodic {
    let (renewals, member, watcher) = (Arc::clone(renewals), Arc::clone(member), Arc::clone(watcher));
    periodic_child("identity", policy, Duration::from_secs(1), move || {
        let (renewals, member, watcher) = (Arc::clone(&renewals), Arc::clone(&member), Arc::clone(&watcher));
        async move {
            let lead = watcher.lead();
            // Who decides for the cluster may also certify its nodes: without a hub nobody else could.
            let entitled = lead == Some(member.commons.own.id);
            renewals.tick(&member, lead, entitled).await
        }
        .boxed()
    })
}

#[allow(clippy::cast_precision_loss)]
fn samples(member: Arc<Member>, refusals: Option<Arc<codeco_actors::acm::api::Refusals>>) -> Samples {
    Arc::new(move || {
        let mut metrics = member.metrics();
        metrics.extend(refusals.as_deref().map(codeco_actors::acm::serve::refusals_metric));
        if let Some(facts) = member.fact().node {
            let gauge = |name, help, value| Metric {
                name,
                help,
                kind: MetricKind::Gauge,
                samples: vec![(vec![], value)],
            };
            metrics.extend([
                gauge("node_cpu_cores", "Processor offered to replicas.", facts.capacity.cpu.as_f64() / 1e3),
                gauge("node_cpu_free_cores", "Processor not promised.", facts.free.cpu.as_f64() / 1e3),
                gauge("node_memory_bytes", "Memory offered to replicas.", facts.capacity.memory.as_f64()),
                gauge("node_memory_free_bytes", "Memory not promised.", facts.free.memory.as_f64()),
            ]);
        }
        metrics
    })
}
