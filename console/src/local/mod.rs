//! A fleet of real processes on this machine's loopback: for `codeco dev`, for end-to-end tests, for benchmarks.
//!
//! Everything is in one folder: a second start with the same folder is the same fleet again. Each process holds the
//! read end of a pipe whose other end is here; when this process goes, however it goes, they stop in order.

mod http;
mod ports;
mod process;

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use codeco_hub::api::TokenRequest;
use codeco_hub::process::ADMIN_FILE;
pub use codeco_hub::process::AdminAccess;
pub use codeco_node_agent::agent::RuntimeKind;
use codeco_node_agent::runtime::process::end_guard;

use crate::client::Client;
use crate::contexts::Context;
pub use http::get;
use ports::{AgentPorts, HubPorts, Ports};
pub use process::describe;
use process::{Process, end, ended, wait_ready};

/// How long a process may take to become ready, also where a hundred start on two cores.
const READY_DEADLINE: Duration = Duration::from_secs(90);
/// How long processes may take to stop in order.
const STOP_DEADLINE: Duration = Duration::from_secs(15);
/// A log longer than this is set aside at the next start.
const LOG_MAX: u64 = 8 << 20;

/// What fleet to run.
#[derive(Debug, Clone)]
pub struct LocalOptions {
    /// Program and first arguments that end up in `codeco`.
    pub program: Vec<OsString>,
    /// Folder for everything.
    pub state: PathBuf,
    /// Number of clusters.
    pub clusters: u32,
    /// Number of nodes in each.
    pub nodes: u32,
    /// What starts replicas.
    pub runtime: RuntimeKind,
    /// Whether faults may be injected.
    pub faults: bool,
    /// Further arguments of every agent.
    pub agent_args: Vec<OsString>,
    /// Further arguments of the hub.
    pub hub_args: Vec<OsString>,
}

/// Why a local fleet cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// A file or folder.
    #[error("{path}: cannot {action}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// Another fleet uses the folder.
    #[error(
        "{0} is in use by another `codeco dev`: stop that one first, or name another folder with --state"
    )]
    InUse(PathBuf),
    /// A process ended before it was ready.
    #[error("{name} ended with {status} before it was ready; the end of its log, {log}, says:\n{tail}")]
    Ended {
        /// Which.
        name: String,
        /// How.
        status: ExitStatus,
        /// Its log.
        log: PathBuf,
        /// The end of it.
        tail: String,
    },
    /// A process was not ready in time.
    #[error("{name} was not ready within {} s: {why}; see {log}", READY_DEADLINE.as_secs())]
    NotReady {
        /// Which.
        name: String,
        /// What it says of itself.
        why: String,
        /// Its log.
        log: PathBuf,
    },
    /// The hub's API.
    #[error("the hub did not make a join token: {0}")]
    Api(String),
    /// No free port.
    #[error("no free port on loopback: {0}")]
    Port(io::Error),
}

/// An agent of the fleet.
#[derive(Debug)]
pub struct LocalAgent {
    /// Its cluster.
    pub cluster: String,
    /// Its name within it.
    pub name: String,
    /// Its state.
    pub state: PathBuf,
    ports: AgentPorts,
    host: IpAddr,
    launcher: Vec<OsString>,
    process: Option<Process>,
}

impl LocalAgent {
    /// Process id while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(|process| process.child.id())
    }

    /// Where it serves /readyz and /metrics.
    #[must_use]
    pub fn http(&self) -> SocketAddr {
        SocketAddr::new(self.host, self.ports.http)
    }

    /// Where it serves the API.
    #[must_use]
    pub fn api(&self) -> SocketAddr {
        SocketAddr::new(self.host, self.ports.api)
    }

    /// Where it listens for QUIC.
    #[must_use]
    pub fn udp(&self) -> SocketAddr {
        SocketAddr::new(self.host, self.ports.udp)
    }

    /// As people call it.
    #[must_use]
    pub fn full_name(&self) -> String {
        format!("{}/{}", self.cluster, self.name)
    }
}

/// A process that has ended by itself, or was killed.
#[derive(Debug, Clone)]
pub struct Died {
    /// Which: `None` is the hub.
    pub agent: Option<usize>,
    /// As people call it.
    pub name: String,
    /// How.
    pub status: ExitStatus,
}

/// See the module.
#[derive(Debug)]
pub struct LocalFleet {
    options: LocalOptions,
    hub_ports: HubPorts,
    hub_host: IpAddr,
    hub: Option<Process>,
    agents: Vec<LocalAgent>,
    _lock: File,
}

impl LocalFleet {
    /// Makes the folder, and chooses addresses. Nothing runs yet.
    ///
    /// # Errors
    /// [`LocalError`].
    pub fn prepare(options: LocalOptions) -> Result<Self, LocalError> {
        let logs = options.state.join("logs");
        std::fs::create_dir_all(&logs).map_err(file(&logs, "make the folder"))?;
        let lock_path = options.state.join("lock");
        let lock = File::create(&lock_path).map_err(file(&lock_path, "create"))?;
        rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive)
            .map_err(|_| LocalError::InUse(options.state.clone()))?;
        let ports_path = options.state.join("ports.json");
        let known: Ports = std::fs::read(&ports_path)
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default();
        let hub_ports = known.hub.filter(HubPorts::are_free).map_or_else(HubPorts::choose, Ok)?;
        let mut agents = Vec::new();
        for cluster in 1..=options.clusters {
            for node in 1..=options.nodes {
                let kept = known.agents.get(agents.len()).copied().filter(AgentPorts::are_free);
                let (cluster, name) = (format!("edge-{cluster}"), format!("node-{node}"));
                agents.push(LocalAgent {
                    state: options.state.join("agents").join(format!("{cluster}-{name}")),
                    cluster,
                    name,
                    ports: kept.map_or_else(AgentPorts::choose, Ok)?,
                    host: IpAddr::V4(Ipv4Addr::LOCALHOST),
                    launcher: Vec::new(),
                    process: None,
                });
            }
        }
        let ports = Ports { hub: Some(hub_ports), agents: agents.iter().map(|agent| agent.ports).collect() };
        let text = serde_json::to_vec_pretty(&ports).unwrap_or_default();
        std::fs::write(&ports_path, text).map_err(file(&ports_path, "write"))?;
        let hub_host = IpAddr::V4(Ipv4Addr::LOCALHOST);
        Ok(Self { options, hub_ports, hub_host, hub: None, agents, _lock: lock })
    }

    /// Has all members listen at another address of this machine than loopback: before anything is started.
    pub fn host_at(&mut self, host: IpAddr) {
        self.hub_host = host;
        self.agents.iter_mut().for_each(|agent| agent.host = host);
    }

    /// Starts one agent by another program, such as `ip netns exec NAME`, that puts it where `host` is its address. The
    /// program must become the agent, not wait for it.
    pub fn place_agent(&mut self, at: usize, launcher: Vec<OsString>, host: IpAddr) {
        (self.agents[at].launcher, self.agents[at].host) = (launcher, host);
    }

    /// Starts hub and agents and waits until all are ready. Returns how long that took.
    ///
    /// # Errors
    /// [`LocalError`]; what runs already is stopped when the fleet is dropped.
    pub fn start(&mut self) -> Result<Duration, LocalError> {
        let began = Instant::now();
        self.start_hub()?;
        self.wait_hub()?;
        for at in 0..self.agents.len() {
            self.start_agent(at)?;
        }
        for at in 0..self.agents.len() {
            self.wait_agent(at)?;
        }
        Ok(began.elapsed())
    }

    /// Starts the hub. Does not wait.
    ///
    /// # Errors
    /// [`LocalError`].
    pub fn start_hub(&mut self) -> Result<(), LocalError> {
        let ports = self.hub_ports;
        let mut arguments: Vec<OsString> =
            ["hub", "--name", "hub", "--certificate-hours", "2160"].map(Into::into).into();
        for (flag, port) in [("--listen", ports.udp), ("--api", ports.api), ("--http", ports.http)] {
            arguments.extend([flag.into(), SocketAddr::new(self.hub_host, port).to_string().into()]);
        }
        arguments.extend(["--state".into(), self.options.state.join("hub").into()]);
        if self.options.faults {
            arguments.push("--faults".into());
        }
        arguments.extend(self.options.hub_args.iter().cloned());
        self.hub = Some(self.spawn("hub", &[], &arguments, None)?);
        Ok(())
    }

    /// Waits until the hub is ready.
    ///
    /// # Errors
    /// [`LocalError`].
    pub fn wait_hub(&mut self) -> Result<(), LocalError> {
        let log = self.log_path("hub");
        let http = self.hub_http();
        wait_ready("hub", http, &log, self.hub.as_mut())
    }

    /// Starts one agent; one that has no certificate yet gets a join token. Does not wait.
    ///
    /// # Errors
    /// [`LocalError`].
    pub fn start_agent(&mut self, at: usize) -> Result<(), LocalError> {
        let agent = &self.agents[at];
        let token = if agent.state.join("member.pem").exists() {
            None
        } else {
            Some(self.join_token(&agent.cluster, self.founds(at))?)
        };
        let mut arguments: Vec<OsString> = Vec::new();
        let cloud = is_cloud(&agent.cluster, self.options.clusters);
        let pairs: [(&str, OsString); 16] = [
            ("--api", agent.api().to_string().into()),
            ("--state", agent.state.clone().into()),
            ("--name", agent.name.clone().into()),
            ("--listen", agent.udp().to_string().into()),
            ("--http", agent.http().to_string().into()),
            ("--hub", self.hub_udp().to_string().into()),
            (
                "--runtime",
                match self.options.runtime {
                    RuntimeKind::Simulated => "simulated".into(),
                    RuntimeKind::Process => "process".into(),
                },
            ),
            ("--cpu", "4".into()),
            ("--memory", "4Gi".into()),
            ("--power-watts", power_of(at, cloud).into()),
            // At the edge the first node of a cluster is the one in a locked room.
            ("--security", if cloud || agent.name == "node-1" { "High" } else { "Good" }.into()),
            ("--compliance", if cloud { "Medium" } else { "High" }.into()),
            ("--portability", if cloud { "High" } else { "Medium" }.into()),
            ("--cost", if cloud { "0.02" } else { "0.08" }.into()),
            ("--link", "1G".into()),
            ("--uplink", if cloud { "1G" } else { "100M" }.into()),
        ];
        arguments.push("agent".into());
        for (flag, value) in pairs {
            arguments.extend([flag.into(), value]);
        }
        for label in cluster_labels(&agent.cluster, cloud) {
            arguments.extend(["--cluster-label".into(), label.into()]);
        }
        for label in node_labels(&agent.cluster, &agent.name, cloud) {
            arguments.extend(["--label".into(), label.into()]);
        }
        arguments.push("--stop-workloads-on-exit".into());
        if self.options.faults {
            arguments.push("--faults".into());
        }
        arguments.extend(self.options.agent_args.iter().cloned());
        let name = format!("{}-{}", agent.cluster, agent.name);
        let process = self.spawn(&name, &agent.launcher, &arguments, token)?;
        self.agents[at].process = Some(process);
        Ok(())
    }

    /// Waits until an agent is ready.
    ///
    /// # Errors
    /// [`LocalError`].
    pub fn wait_agent(&mut self, at: usize) -> Result<(), LocalError> {
        let agent = &mut self.agents[at];
        let name = format!("{}-{}", agent.cluster, agent.name);
        let log = self.options.state.join("logs").join(format!("{name}.log"));
        wait_ready(&name, agent.http(), &log, agent.process.as_mut())
    }

    /// Whether an agent founds the electorate of its cluster: the first one, as long as no other has ever joined.
    fn founds(&self, at: usize) -> bool {
        let cluster = &self.agents[at].cluster;
        let mut of_cluster = self.agents.iter().enumerate().filter(|(_, agent)| agent.cluster == *cluster);
        let first = of_cluster.clone().next().map(|(first, _)| first);
        first == Some(at) && !of_cluster.any(|(_, agent)| agent.state.join("member.pem").exists())
    }

    fn join_token(&self, cluster: &str, founds: bool) -> Result<String, LocalError> {
        let access = self.access()?;
        let context = Context {
            name: "dev".into(),
            server: access.server,
            ca: access.ca,
            token: access.token,
            members: Vec::new(),
        };
        let client = Client::new(&context).map_err(|e| LocalError::Api(e.to_text()))?;
        let cluster = cluster.parse().map_err(|e| LocalError::Api(format!("{e}")))?;
        let request =
            TokenRequest { scope: codeco_protocol::ids::Role::Node(cluster), ttl_seconds: 300, founds };
        client.create_token(&request).map(|made| made.token).map_err(|e| LocalError::Api(e.to_text()))
    }

    /// How to reach the API as administrator.
    ///
    /// # Errors
    /// [`LocalError::File`] before the hub has first run.
    pub fn access(&self) -> Result<AdminAccess, LocalError> {
        let path = self.options.state.join("hub").join(ADMIN_FILE);
        let bytes = std::fs::read(&path).map_err(file(&path, "read"))?;
        serde_json::from_slice(&bytes).map_err(|e| file(&path, "understand")(io::Error::other(e)))
    }

    fn spawn(
        &self,
        name: &str,
        launcher: &[OsString],
        arguments: &[OsString],
        token: Option<String>,
    ) -> Result<Process, LocalError> {
        let log_path = self.log_path(name);
        if std::fs::metadata(&log_path).is_ok_and(|metadata| metadata.len() > LOG_MAX) {
            let old = log_path.with_extension("log.old");
            std::fs::rename(&log_path, &old).map_err(file(&log_path, "set aside"))?;
        }
        let log =
            File::options().create(true).append(true).open(&log_path).map_err(file(&log_path, "open"))?;
        let line: Vec<&OsString> = launcher.iter().chain(&self.options.program).collect();
        let (program, first) = line
            .split_first()
            .ok_or_else(|| file(Path::new("codeco"), "start")(io::Error::other("no program is named")))?;
        let mut command = Command::new(program);
        command
            .args(first)
            .args(arguments)
            .env("CODECO_EXIT_WITH_STDIN", "true")
            .env_remove("CODECO_JOIN")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log)
            // A Ctrl-C at the terminal is for us: we stop the others in order.
            .process_group(0);
        if let Some(token) = token {
            command.env("CODECO_JOIN", token);
        }
        let mut child = command.spawn().map_err(file(Path::new(program), "start"))?;
        let alive = child.stdin.take();
        Ok(Process { child, _alive: alive })
    }

    /// The agents.
    #[must_use]
    pub fn agents(&self) -> &[LocalAgent] {
        &self.agents
    }

    /// Where the agents serve the API: one of each cluster first.
    #[must_use]
    pub fn apis(&self) -> Vec<String> {
        let mut agents: Vec<&LocalAgent> = self.agents.iter().collect();
        agents.sort_by(|a, b| (&a.name, &a.cluster).cmp(&(&b.name, &b.cluster)));
        agents.into_iter().map(|agent| format!("https://{}", agent.api())).collect()
    }

    /// Process id of the hub while it runs.
    #[must_use]
    pub fn hub_pid(&self) -> Option<u32> {
        self.hub.as_ref().map(|process| process.child.id())
    }

    /// Where the hub serves /readyz and /metrics.
    #[must_use]
    pub fn hub_http(&self) -> SocketAddr {
        SocketAddr::new(self.hub_host, self.hub_ports.http)
    }

    /// Where the hub listens for QUIC.
    #[must_use]
    pub fn hub_udp(&self) -> SocketAddr {
        SocketAddr::new(self.hub_host, self.hub_ports.udp)
    }

    /// State of the hub.
    #[must_use]
    pub fn hub_state(&self) -> PathBuf {
        self.options.state.join("hub")
    }

    /// Log of a process: `hub`, or `CLUSTER-NODE`.
    #[must_use]
    pub fn log_path(&self, name: &str) -> PathBuf {
        self.options.state.join("logs").join(format!("{name}.log"))
    }

    /// Kills an agent (`None`: the hub) with SIGKILL, as a crash would, and waits for its end.
    pub fn kill(&mut self, agent: Option<usize>) {
        let process = match agent {
            Some(at) => self.agents[at].process.take(),
            None => self.hub.take(),
        };
        if let Some(mut process) = process {
            // It may have ended by itself just now.
            let _ = process.child.kill();
            let _ = process.child.wait();
        }
    }

    /// Processes that have ended since the last call, without having been stopped here.
    pub fn reap(&mut self) -> Vec<Died> {
        let mut died = Vec::new();
        if let Some(status) = ended(&mut self.hub) {
            died.push(Died { agent: None, name: "hub".into(), status });
        }
        for (at, agent) in self.agents.iter_mut().enumerate() {
            if let Some(status) = ended(&mut agent.process) {
                died.push(Died { agent: Some(at), name: agent.full_name(), status });
            }
        }
        died
    }

    /// Ends the guards whose agents were not there to do it: one that has died leaves its guard, which keeps what may
    /// run without an agent.
    fn end_guards(&self, killed: &mut Vec<String>) {
        if self.options.runtime != RuntimeKind::Process {
            return;
        }
        // A thread of its own, because the caller may be inside an asynchronous runtime, where none can be entered.
        let left = std::thread::scope(|scope| {
            let ending = scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
                let folders = self.agents.iter().map(|agent| (agent, agent.state.join("guard")));
                let left = folders.filter(|(_, folder)| {
                    let ended = end_guard(folder, STOP_DEADLINE);
                    runtime.block_on(ended).is_err()
                });
                Some(left.map(|(agent, _)| format!("guard of {}", agent.full_name())).collect::<Vec<_>>())
            });
            ending.join().ok().flatten()
        });
        killed.extend(left.unwrap_or_else(|| vec!["guards".into()]));
    }

    /// Stops agents, then the hub, each in order; what does not end in time is killed. Returns the names of
    /// those, and of guards that are still stopping their replicas.
    pub fn stop(&mut self) -> Vec<String> {
        let mut killed = Vec::new();
        let mut agents: Vec<(String, Process)> = self
            .agents
            .iter_mut()
            .filter_map(|agent| Some((agent.full_name(), agent.process.take()?)))
            .collect();
        end(&mut agents, &mut killed);
        self.end_guards(&mut killed);
        let mut hub: Vec<(String, Process)> =
            self.hub.take().into_iter().map(|hub| ("hub".to_owned(), hub)).collect();
        end(&mut hub, &mut killed);
        killed
    }
}

impl Drop for LocalFleet {
    fn drop(&mut self) {
        self.stop();
    }
}

/// With three clusters or more, the last one plays a cloud: cheap, hungry, of lower compliance, in another region.
fn is_cloud(cluster: &str, clusters: u32) -> bool {
    clusters >= 3 && cluster == format!("edge-{clusters}")
}

fn power_of(at: usize, cloud: bool) -> String {
    if cloud { "100,400".into() } else { format!("{},{}", 30 + 10 * (at % 3), 120 + 40 * (at % 3)) }
}

fn cluster_labels(cluster: &str, cloud: bool) -> [String; 3] {
    let region = if cloud { "eu-cloud" } else { "eu-edge" };
    [
        format!("site={cluster}"),
        format!("tier={}", if cloud { "cloud" } else { "edge" }),
        format!("topology.kubernetes.io/region={region}"),
    ]
}

/// Nodes are numbered along a road: each watches its own stretch, with a camera at the edge.
fn node_labels(cluster: &str, node: &str, cloud: bool) -> Vec<String> {
    let number = node.rsplit('-').next().unwrap_or_default();
    let mut labels = vec![format!("topology.kubernetes.io/zone={cluster}-{number}")];
    if !cloud {
        labels.push(format!("codeco.he-codeco.eu/position=stretch-{number}"));
        labels.push("camera=true".to_owned());
    }
    labels
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

fn file<'a>(path: &'a Path, action: &'static str) -> impl FnOnce(io::Error) -> LocalError + 'a {
    move |source| LocalError::File { path: path.to_owned(), action, source }
}
