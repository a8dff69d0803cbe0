//! Options of the agent: one struct for flags, environment, file and `--print-config`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use codeco_actors::pdlc::judge::Learning;
use codeco_actors::pdlc::{LOAD_STEP_MS, LOAD_STEP_MS_DEFAULT, is_load_step};
use codeco_actors::process::{ConfigError, MembershipProfile, load_file, resolve_options};
use codeco_actors::swm::lease::LeaseConfig;
use codeco_protocol::api::Quantity as _;
use codeco_protocol::demands::{Level, NodeTraits};
use codeco_protocol::gossip::{HOST_ITEMS_MAX, RingConfig};
use codeco_protocol::identity::JoinToken;
use codeco_protocol::ids::NodeName;
use codeco_protocol::resources::Resources;
use codeco_protocol::units::{BitsPerSecond, Bytes, Micros, MilliCpu, MilliWatts};
use serde::{Deserialize, Serialize};

/// What starts replicas.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum RuntimeKind {
    /// Nothing is started; replicas are played.
    Simulated,
    /// The container's command runs as a process of this machine.
    Process,
}

/// Options of the node agent. Flags win over the environment, the environment over the file.
#[derive(Debug, Clone, Default, PartialEq, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct AgentOptions {
    /// TOML file with any of these options.
    #[arg(long, env = "CODECO_AGENT_CONFIG")]
    #[serde(skip)]
    pub config: Option<PathBuf>,
    /// Print the configuration that results, and exit.
    #[arg(long)]
    #[serde(skip)]
    pub print_config: bool,
    /// Folder for everything the agent keeps [default: /var/lib/codeco/agent].
    #[arg(long, env = "CODECO_STATE")]
    pub state: Option<PathBuf>,
    /// Name of this node within its cluster [default: the host's name].
    #[arg(long, env = "CODECO_NODE_NAME")]
    pub name: Option<String>,
    /// UDP address to listen on and to dial from [default: 0.0.0.0:7400].
    #[arg(long, env = "CODECO_LISTEN")]
    pub listen: Option<SocketAddr>,
    /// TCP address of /healthz, /readyz and /metrics [default: 127.0.0.1:7401].
    #[arg(long, env = "CODECO_HTTP")]
    pub http: Option<SocketAddr>,
    /// TCP address of the API, always TLS; `none` for no API here [default: 127.0.0.1:7402].
    #[arg(long, env = "CODECO_API")]
    pub api: Option<String>,
    /// UDP addresses of hubs.
    #[arg(long = "hub", env = "CODECO_HUBS", value_delimiter = ',')]
    pub hubs: Vec<SocketAddr>,
    /// UDP addresses of other agents of this cluster, for the time when no hub can be reached.
    #[arg(long = "peer", env = "CODECO_PEERS", value_delimiter = ',')]
    pub peers: Vec<SocketAddr>,
    /// UDP addresses of hubs or leads that relay for members which this one cannot dial; asked before the hubs it has and
    /// before its lead.
    #[arg(long = "relay", env = "CODECO_RELAYS", value_delimiter = ',')]
    pub relays: Vec<SocketAddr>,
    /// Members of other clusters cannot dial this agent, as behind a NAT: they reach it over connections it has made, or
    /// through a relay.
    #[arg(long, env = "CODECO_DIAL_OUT_ONLY")]
    pub dial_out_only: bool,
    /// Join token; needed once, until the agent has a certificate.
    #[arg(long, env = "CODECO_JOIN", hide_env_values = true)]
    #[serde(skip_serializing)]
    pub join: Option<String>,
    /// What starts replicas [default: process].
    #[arg(long, env = "CODECO_RUNTIME")]
    pub runtime: Option<RuntimeKind>,
    /// Processor offered to replicas, such as 4 or 500m [default: all of the machine's].
    #[arg(long, env = "CODECO_CPU")]
    pub cpu: Option<String>,
    /// Memory offered to replicas, such as 8Gi [default: all of the machine's].
    #[arg(long, env = "CODECO_MEMORY")]
    pub memory: Option<String>,
    /// Labels of this node, key=value.
    #[arg(long = "label", env = "CODECO_LABELS", value_delimiter = ',')]
    pub labels: Vec<String>,
    /// Sources of data at this node, name=what, such as camera-1=rtsp://10.0.0.9/1; `get nodes -l data-source/camera-1`
    /// finds it.
    #[arg(long = "data-source", env = "CODECO_DATA_SOURCES", value_delimiter = ',')]
    pub data_sources: Vec<String>,
    /// Labels of the cluster, key=value; used where this node leads.
    #[arg(long = "cluster-label", env = "CODECO_CLUSTER_LABELS", value_delimiter = ',')]
    pub cluster_labels: Vec<String>,
    /// Power of this node when idle and at full load, in watts, such as 60,180.
    #[arg(long, env = "CODECO_POWER_WATTS")]
    pub power_watts: Option<String>,
    /// Level of security this node declares: None, Low, Medium, Good or High [default: none declared].
    #[arg(long, env = "CODECO_SECURITY")]
    pub security: Option<String>,
    /// Level of compliance this node declares: None, Low, Medium, Good or High [default: none declared].
    #[arg(long, env = "CODECO_COMPLIANCE")]
    pub compliance: Option<String>,
    /// Level of portability this node declares: None, Low, Medium, Good or High [default: none declared].
    #[arg(long, env = "CODECO_PORTABILITY")]
    pub portability: Option<String>,
    /// Price of one core of this node for one hour, in any unit of money that is the same for the whole fleet, such as
    /// 0.05 [default: unknown].
    #[arg(long, env = "CODECO_COST")]
    pub cost: Option<String>,
    /// Capacity of this node's link to its cluster's fabric in bit/s, both directions together, such as 1G [default:
    /// unknown: it carries no ASSURED channel].
    #[arg(long, env = "CODECO_LINK")]
    pub link: Option<String>,
    /// Capacity of the cluster's uplink in bit/s, both directions together, such as 100M; used where this node leads
    /// [default: unknown: it carries no ASSURED channel].
    #[arg(long, env = "CODECO_UPLINK")]
    pub uplink: Option<String>,
    /// How long a node lease lasts, in milliseconds; the same on all members of a cluster [default: 2000].
    #[arg(long, env = "CODECO_LEASE_MS")]
    pub lease_ms: Option<u64>,
    /// Stop all replicas when the agent is stopped in order, instead of leaving them to the guard.
    #[arg(long, env = "CODECO_STOP_WORKLOADS_ON_EXIT")]
    pub stop_workloads_on_exit: bool,
    /// How members observe each other: `lan` notices a loss fast, `metered` sends few bytes; the same on all members of
    /// a cluster [default: lan].
    #[arg(long, env = "CODECO_PROFILE")]
    pub profile: Option<MembershipProfile>,
    /// How far learning may go: `off` measures and forecasts nothing; `shadow` never lets a forecast count [default: on].
    #[arg(long, env = "CODECO_LEARNING")]
    pub learning: Option<Learning>,
    /// Length of a step of load, in milliseconds, a multiple of 60; the same on all members [default: 300000].
    #[arg(long, env = "CODECO_LOAD_STEP_MS")]
    pub load_step_ms: Option<u32>,
    /// Folder with a file called like this node, whose lines are its load step by step: shares of processor and memory, such
    /// as `0.25 0.5`. For nodes that are only played [default: the machine's load is measured].
    #[arg(long, env = "CODECO_LOAD_REPLAY")]
    pub load_replay: Option<PathBuf>,
    /// Allow faults to be injected.
    #[arg(long, env = "CODECO_FAULTS")]
    pub faults: bool,
    /// Seconds by which the wall clock goes wrong, for drills; only together with --faults.
    #[arg(long, env = "CODECO_WALL_CLOCK_OFF_BY", allow_negative_numbers = true, hide = true)]
    pub wall_clock_off_by: Option<i64>,
}

/// What the agent runs with.
#[derive(Debug, Clone)]
pub struct AgentConfig {
    /// Folder for everything the agent keeps.
    pub state: PathBuf,
    /// Name of this node.
    pub name: NodeName,
    /// UDP address.
    pub listen: SocketAddr,
    /// TCP address of health and metrics.
    pub http: SocketAddr,
    /// TCP address of the API; `None` is no API.
    pub api: Option<SocketAddr>,
    /// Hubs.
    pub hubs: Vec<SocketAddr>,
    /// Other agents.
    pub peers: Vec<SocketAddr>,
    /// Relays to ask first.
    pub relays: Vec<SocketAddr>,
    /// Whether members of other clusters cannot dial it.
    pub dial_out_only: bool,
    /// Join token.
    pub join: Option<JoinToken>,
    /// What starts replicas.
    pub runtime: RuntimeKind,
    /// What is offered to replicas.
    pub capacity: Resources,
    /// Labels of the node.
    pub labels: Vec<(String, String)>,
    /// Sources of data at this node.
    pub data_sources: Vec<(String, String)>,
    /// Labels of the cluster.
    pub cluster_labels: Vec<(String, String)>,
    /// Power when idle and at full load.
    pub power: Option<(MilliWatts, MilliWatts)>,
    /// What the node declares about itself.
    pub traits: NodeTraits,
    /// Capacity of the cluster's uplink.
    pub uplink: Option<BitsPerSecond>,
    /// How leases are counted.
    pub lease: LeaseConfig,
    /// Whether to stop replicas with the agent.
    pub stop_workloads_on_exit: bool,
    /// How members observe each other.
    pub membership: RingConfig,
    /// How far learning may go.
    pub learning: Learning,
    /// Length of a step of load, in milliseconds.
    pub load_step_ms: u32,
    /// File of this node's load, where it is replayed.
    pub load_replay: Option<PathBuf>,
    /// Whether faults may be injected.
    pub faults: bool,
    /// Seconds by which the wall clock goes wrong.
    pub wall_clock_off_by: i64,
}

impl AgentOptions {
    /// Reads the file and puts the layers together.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn layered(&self) -> Result<Self, ConfigError> {
        let file = match &self.config {
            Some(path) => Some((path.as_path(), load_file::<Self>(path)?)),
            None => None,
        };
        let join = self.join.clone().or_else(|| file.as_ref().and_then(|(_, options)| options.join.clone()));
        let mut merged = resolve_options(self, file)?;
        merged.join = join;
        Ok(merged)
    }

    /// Checks every value and fills in the defaults.
    ///
    /// # Errors
    /// [`ConfigError`] names the option, what was found, and what was expected.
    pub fn resolve(&self) -> Result<AgentConfig, ConfigError> {
        let hostname = || rustix::system::uname().nodename().to_string_lossy().to_lowercase();
        let name_text = self.name.clone().unwrap_or_else(hostname);
        let name = NodeName::new(name_text).map_err(|e| value("name", &e.found, "an RFC 1123 label"))?;
        let name_of_replay = name.clone();
        let lease_ms = self.lease_ms.unwrap_or(2_000);
        if !(200..=600_000).contains(&lease_ms) {
            return Err(value("lease-ms", &lease_ms.to_string(), "200 to 600000"));
        }
        let wall_clock_off_by = self.wall_clock_off_by.unwrap_or(0);
        if wall_clock_off_by != 0 && !self.faults {
            let found = wall_clock_off_by.to_string();
            return Err(value("wall-clock-off-by", &found, "0, unless --faults allows drills"));
        }
        let duration = Micros::from_millis(lease_ms);
        let margin = Micros(duration.0 / 5);
        Ok(AgentConfig {
            state: self.state.clone().unwrap_or_else(|| "/var/lib/codeco/agent".into()),
            name,
            listen: self.listen.unwrap_or_else(|| SocketAddr::from(([0, 0, 0, 0], 7400))),
            http: self.http.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 7401))),
            api: api(self.api.as_deref())?,
            hubs: self.hubs.clone(),
            peers: self.peers.clone(),
            relays: relays(&self.relays)?,
            dial_out_only: self.dial_out_only,
            join: self.join.as_deref().map(parse_join).transpose()?,
            runtime: self.runtime.unwrap_or(RuntimeKind::Process),
            capacity: self.capacity()?,
            labels: labels("label", &self.labels)?,
            data_sources: data_sources(&self.data_sources)?,
            cluster_labels: labels("cluster-label", &self.cluster_labels)?,
            power: self.power_watts.as_deref().map(power).transpose()?,
            traits: self.traits()?,
            uplink: self.uplink.as_deref().map(|text| bandwidth("uplink", text)).transpose()?,
            lease: LeaseConfig { duration, drift_ppm: 10_000, margin },
            stop_workloads_on_exit: self.stop_workloads_on_exit,
            membership: self.profile.unwrap_or_default().config(),
            learning: self.learning.unwrap_or_default(),
            load_step_ms: load_step_ms(self.load_step_ms)?,
            load_replay: self.load_replay.as_ref().map(|folder| folder.join(name_of_replay.as_str())),
            faults: self.faults,
            wall_clock_off_by,
        })
    }

    fn traits(&self) -> Result<NodeTraits, ConfigError> {
        Ok(NodeTraits {
            security: self.security.as_deref().map(|text| level("security", text)).transpose()?,
            compliance: self.compliance.as_deref().map(|text| level("compliance", text)).transpose()?,
            portability: self.portability.as_deref().map(|text| level("portability", text)).transpose()?,
            cost: self.cost.as_deref().map(cost).transpose()?,
            link: self.link.as_deref().map(|text| bandwidth("link", text)).transpose()?,
        })
    }

    fn capacity(&self) -> Result<Resources, ConfigError> {
        let (host_cpu, host_memory) = host_size();
        let cpu = match &self.cpu {
            Some(text) => MilliCpu::parse_quantity(text)
                .map_err(|e| value("cpu", &e.found, "a quantity such as 4 or 500m"))?,
            None => host_cpu,
        };
        let memory = match &self.memory {
            Some(text) => Bytes::parse_quantity(text)
                .map_err(|e| value("memory", &e.found, "a quantity such as 8Gi"))?,
            None => host_memory,
        };
        Ok(Resources::new(cpu, memory))
    }
}

fn value(field: &'static str, found: &str, expected: &str) -> ConfigError {
    ConfigError::Value { field, found: format!("{found:?}"), expected: expected.to_owned() }
}

/// Most relays that are named.
const RELAYS_MAX: usize = 16;

fn relays(found: &[SocketAddr]) -> Result<Vec<SocketAddr>, ConfigError> {
    if found.len() > RELAYS_MAX {
        return Err(value("relay", &found.len().to_string(), "at most 16 of them"));
    }
    match found.iter().find(|address| address.port() == 0 || address.ip().is_unspecified()) {
        Some(address) => {
            Err(value("relay", &address.to_string(), "an address and a port that can be dialled"))
        }
        None => Ok(found.to_vec()),
    }
}

fn load_step_ms(found: Option<u32>) -> Result<u32, ConfigError> {
    let step = found.unwrap_or(LOAD_STEP_MS_DEFAULT);
    if !is_load_step(step) {
        let expected = format!("a multiple of 60 from {} to {}", LOAD_STEP_MS.start(), LOAD_STEP_MS.end());
        return Err(value("load-step-ms", &step.to_string(), &expected));
    }
    Ok(step)
}

fn api(text: Option<&str>) -> Result<Option<SocketAddr>, ConfigError> {
    match text {
        None => Ok(Some(SocketAddr::from(([127, 0, 0, 1], 7402)))),
        Some("none") => Ok(None),
        Some(text) => text.parse().map(Some).map_err(|_| value("api", text, "HOST:PORT, or none")),
    }
}

fn parse_join(text: &str) -> Result<JoinToken, ConfigError> {
    text.trim().parse().map_err(|e| ConfigError::Value {
        field: "join",
        found: format!("{} characters ({e})", text.len()),
        expected: "a token made by `codeco token create`".into(),
    })
}

fn labels(field: &'static str, texts: &[String]) -> Result<Vec<(String, String)>, ConfigError> {
    texts
        .iter()
        .map(|text| match text.split_once('=') {
            Some((key, label)) if !key.is_empty() => Ok((key.to_owned(), label.to_owned())),
            _ => Err(value(field, text, "key=value")),
        })
        .collect()
}

/// Names are such as keys of labels, and there are only so many.
fn data_sources(texts: &[String]) -> Result<Vec<(String, String)>, ConfigError> {
    if texts.len() > HOST_ITEMS_MAX {
        return Err(value("data-source", &texts.len().to_string(), "at most 64 of them"));
    }
    let sources = labels("data-source", texts)?;
    for (name, what) in &sources {
        let fine = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if name.len() > 63 || !name.chars().all(fine) || what.len() > 200 {
            let expected = "name=what: letters, digits, - _ . in at most 63 characters, and at most 200 more";
            return Err(value("data-source", name, expected));
        }
    }
    Ok(sources)
}

fn level(field: &'static str, text: &str) -> Result<Level, ConfigError> {
    text.parse().map_err(|()| value(field, text, "None, Low, Medium, Good or High"))
}

fn bandwidth(field: &'static str, text: &str) -> Result<BitsPerSecond, ConfigError> {
    BitsPerSecond::parse_quantity(text).map_err(|e| value(field, &e.found, "bit/s such as 100M or 1G"))
}

/// In thousandths, exactly: a price is no measurement.
fn cost(text: &str) -> Result<u64, ConfigError> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.chars().all(|c| c.is_ascii_digit());
    let right = !whole.is_empty() && whole.len() <= 9 && part.len() <= 3 && digits(whole) && digits(part);
    right
        .then(|| format!("{whole}{part:0<3}").parse().ok())
        .flatten()
        .ok_or_else(|| value("cost", text, "a price with at most three decimals, such as 0.05"))
}

fn power(text: &str) -> Result<(MilliWatts, MilliWatts), ConfigError> {
    let watts = |part: &str| part.trim().parse::<u32>().ok().map(|w| MilliWatts(u64::from(w) * 1_000));
    text.split_once(',')
        .and_then(|(idle, full)| Some((watts(idle)?, watts(full)?)))
        .filter(|(idle, full)| idle <= full)
        .ok_or_else(|| value("power-watts", text, "two whole numbers, idle and full, such as 60,180"))
}

/// Cores and memory of this machine.
fn host_size() -> (MilliCpu, Bytes) {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
    let info = rustix::system::sysinfo();
    let unit = u64::from(info.mem_unit.max(1));
    let memory = info.totalram.saturating_mul(unit);
    (MilliCpu(u64::try_from(cores).unwrap_or(1) * 1_000), Bytes(memory))
}

/// How long the agent tries to join before it gives up.
pub(super) const JOIN_DEADLINE: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_flags_win_over_the_file_and_wrong_ones_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.toml");
        std::fs::write(&path, "name = \"from-file\"\ncpu = \"2\"\nlease-ms = 900\n").unwrap();
        let options =
            AgentOptions { config: Some(path.clone()), cpu: Some("500m".into()), ..Default::default() };
        let config = options.layered().unwrap().resolve().unwrap();
        assert_eq!(config.name.as_str(), "from-file");
        assert_eq!(config.capacity.cpu, MilliCpu(500));
        assert_eq!(config.lease.duration, Micros::from_millis(900));

        std::fs::write(&path, "nmae = \"x\"\n").unwrap();
        let error = options.layered().unwrap_err().to_string();
        assert!(error.contains("nmae") && error.contains("agent.toml"), "{error}");

        let declared = AgentOptions {
            security: Some("good".into()),
            cost: Some("0.05".into()),
            link: Some("1G".into()),
            ..Default::default()
        };
        let config = declared.resolve().unwrap();
        assert_eq!(config.traits.security, Some(Level::Good));
        assert_eq!(config.traits.compliance, None, "unknown, not none");
        assert_eq!((config.traits.cost, config.traits.link), (Some(50), Some(BitsPerSecond(1_000_000_000))));
        for (bad, named) in [
            (AgentOptions { security: Some("best".into()), ..Default::default() }, "security"),
            (AgentOptions { cost: Some("1.2345".into()), ..Default::default() }, "cost"),
            (AgentOptions { uplink: Some("fast".into()), ..Default::default() }, "uplink"),
        ] {
            let error = bad.resolve().unwrap_err().to_string();
            assert!(error.contains(named), "{error}");
        }

        let bad = AgentOptions { cpu: Some("lots".into()), ..Default::default() };
        let error = bad.resolve().unwrap_err().to_string();
        assert!(error.contains("cpu") && error.contains("lots"), "{error}");
    }
}
