//! What is played: a fleet, what its users do, and what goes wrong. Read from TOML.

use std::path::Path;

use super::counts::Counts;
use serde::{Deserialize, Serialize};

/// A scenario. Every field has a default, so that a file says only what matters to it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Scenario {
    /// What it is for, in a sentence.
    pub about: String,
    /// The machines.
    pub fleet: FleetShape,
    /// The network.
    pub network: NetShape,
    /// What users do.
    pub users: UserShape,
    /// What goes wrong, drawn by lot.
    pub faults: FaultShape,
    /// What happens at certain times, besides what is drawn.
    pub acts: Vec<At>,
    /// What must be so at the end.
    pub ends: EndShape,
}

/// How members of a cluster observe each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Profile {
    /// Fast detection.
    Lan,
    /// Few bytes.
    Metered,
}

/// The machines of a fleet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FleetShape {
    /// Hubs.
    pub hubs: usize,
    /// Clusters.
    pub clusters: usize,
    /// Nodes of each.
    pub nodes: usize,
    /// Processor of a node in thousandths of a core: least and most.
    pub cpu: (u64, u64),
    /// How members observe each other.
    pub profile: Profile,
    /// Power of a node in watts: idle, and at full load.
    pub power_w: (u64, u64),
}

impl Default for FleetShape {
    fn default() -> Self {
        Self { hubs: 1, clusters: 3, nodes: 3, cpu: (1_000, 3_000), profile: Profile::Lan, power_w: (8, 25) }
    }
}

/// The network between machines.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NetShape {
    /// One way within a cluster, and on top of the way between clusters, in microseconds: least and most.
    pub delay_us: (u64, u64),
    /// Clusters lie at random within a square with sides of so many kilometres.
    pub span_km: f64,
    /// Packets lost at any time, of a million.
    pub loss_per_million: u32,
}

impl Default for NetShape {
    fn default() -> Self {
        Self { delay_us: (200, 1_500), span_km: 500.0, loss_per_million: 0 }
    }
}

/// Light in glass, and ways that are not straight: microseconds for a kilometre.
const US_PER_KM: f64 = 5.0 * 1.5;

impl NetShape {
    pub(crate) fn delay_between(&self, a: (f64, f64), b: (f64, f64)) -> u32 {
        let km = (a.0 - b.0).hypot(a.1 - b.1);
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let micros = (km * US_PER_KM).round() as u32;
        micros
    }
}

/// What users do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UserShape {
    /// Applications given to the fleet at its start.
    pub apps: usize,
    /// Copies of each service: least and most.
    pub replicas: (u32, u32),
    /// Processor of a copy, in thousandths of a core: least and most.
    pub cpu: (u64, u64),
    /// Of a hundred services, so many are fenced.
    pub fenced_percent: u32,
    /// Of a hundred services, so many may start elsewhere when their cluster is silent for `lost_after_s`.
    pub lost_after_percent: u32,
    /// See there.
    pub lost_after_s: u64,
    /// Of a hundred applications, so many are given to agents instead of hubs.
    pub at_agents_percent: u32,
    /// Of a hundred applications without fenced services, so many are adopted when their home is silent for this long.
    pub adopt_percent: u32,
    /// See there.
    pub adopt_after_s: u64,
    /// Requests in a minute while faults last: new applications, changes, deletions, drains.
    pub requests_per_minute: f64,
}

impl Default for UserShape {
    fn default() -> Self {
        Self {
            apps: 4,
            replicas: (1, 3),
            cpu: (100, 500),
            fenced_percent: 60,
            lost_after_percent: 25,
            lost_after_s: 8,
            at_agents_percent: 25,
            adopt_percent: 0,
            adopt_after_s: 10,
            requests_per_minute: 20.0,
        }
    }
}

/// What goes wrong by lot. Rates are means, in a minute, over the whole fleet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FaultShape {
    /// Time without faults at the start.
    pub begin_s: f64,
    /// Time with faults: least and most.
    pub last_s: (f64, f64),
    /// Faults in a minute.
    pub per_minute: f64,
    /// Weight of each kind.
    pub mix: Vec<(FaultKind, u32)>,
    /// Steps of a core amid whose outputs its process dies, of a million.
    pub crash_amid_per_million: u32,
    /// Packets lost while faults last, at most, of a million.
    pub loss_per_million: u32,
    /// Messages repeated while faults last, at most, of a million.
    pub repeat_per_million: u32,
    /// Messages held up for seconds while faults last, at most, of a million.
    pub hold_up_per_million: u32,
}

impl Default for FaultShape {
    fn default() -> Self {
        Self {
            begin_s: 4.0,
            last_s: (0.0, 0.0),
            per_minute: 0.0,
            mix: FaultKind::ALL.iter().map(|kind| (*kind, 1)).collect(),
            crash_amid_per_million: 0,
            loss_per_million: 0,
            repeat_per_million: 0,
            hold_up_per_million: 0,
        }
    }
}

macro_rules! fault_kinds {
    ($(#[doc = $doc:literal] $name:ident,)*) => {
        /// A kind of fault.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum FaultKind {
            $(#[doc = $doc] $name,)*
        }

        impl FaultKind {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// What happens, in words.
            #[must_use]
            pub fn words(self) -> &'static str {
                match self {
                    $(Self::$name => $doc.trim_ascii(),)*
                }
            }
        }
    };
}

fault_kinds! {
    /// A process is killed and comes back.
    Crash,
    /// The lead of a cluster is killed and comes back.
    CrashLead,
    /// One core of a process fails and is started again from its journal.
    CorePanic,
    /// A machine goes down with all that runs on it, and comes back.
    Reboot,
    /// A machine loses its disk.
    DiskLoss,
    /// Writing to a disk fails for a while.
    DiskFull,
    /// A process is paused: it does nothing for a while, then everything at once.
    Pause,
    /// A machine has too little time for a while.
    Overload,
    /// Nothing gets from one machine to another.
    CutOneWay,
    /// Two machines do not reach each other.
    CutBothWays,
    /// A machine reaches nobody.
    Isolate,
    /// A cluster reaches nobody outside of it.
    CutCluster,
    /// The fleet falls into two parts.
    Partition,
    /// A cluster's connection to the rest comes and goes.
    Flap,
    /// Many packets are lost for a while.
    Loss,
    /// A hub is killed and comes back later.
    HubCrash,
    /// All agents of a cluster are started anew, one after the other.
    RollingRestart,
    /// Many machines of the fleet fail in one moment.
    MassFailure,
    /// Others use more of a node, or less.
    ForeignUse,
    /// A node says that it has more than it has.
    Liar,
}

/// What happens at a certain time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct At {
    /// When, in seconds.
    pub at_s: f64,
    /// What.
    pub act: Act,
}

impl std::fmt::Display for Act {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Fault { kind, .. } => write!(f, "fault: {}", kind.words()),
            Self::User { .. } => f.write_str("a user or an operator asks for something"),
            Self::NewApp { .. } => f.write_str("a new application"),
            Self::CutClusters { clusters, for_s } => {
                write!(f, "clusters {clusters:?} reach nobody outside of them for {for_s:.1} s")
            }
            Self::FailNodes { percent, for_s: Some(span), .. } => {
                write!(f, "{percent} % of all nodes fail for {span:.0} s")
            }
            Self::FailNodes { percent, .. } => write!(f, "{percent} % of all nodes fail for good"),
            Self::Crash { machine, for_s } => {
                write!(f, "the process of machine {machine} dies for {for_s:.1} s")
            }
            Self::EmptyHub { hub } => write!(f, "hub {hub} loses all it had"),
            Self::ClusterLost { cluster } => write!(f, "an operator says that cluster {cluster} is lost"),
        }
    }
}

/// Something that happens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Act {
    /// A fault of a kind, somewhere: where and for how long follows from `lot`.
    Fault {
        /// Which kind.
        kind: FaultKind,
        /// Decides where, and for how long.
        lot: u64,
    },
    /// A user asks for something that follows from `lot`.
    User {
        /// Decides what.
        lot: u64,
    },
    /// A user brings a new application.
    NewApp {
        /// Decides which.
        lot: u64,
    },
    /// These clusters, by number, reach nobody outside of them for so long.
    CutClusters {
        /// Which.
        clusters: Vec<usize>,
        /// Seconds.
        for_s: f64,
    },
    /// So many per cent of the nodes fail at once, and come back after so long.
    FailNodes {
        /// Per cent of all nodes.
        percent: f64,
        /// Seconds; those that never come back are left out.
        for_s: Option<f64>,
        /// Decides which.
        lot: u64,
    },
    /// The process of a machine is killed, and comes back after so long.
    Crash {
        /// Which machine: hubs first, then the nodes cluster by cluster.
        machine: usize,
        /// Seconds.
        for_s: f64,
    },
    /// A hub loses all that it had, and starts anew.
    EmptyHub {
        /// Which.
        hub: usize,
    },
    /// An operator says that nothing runs any more in a cluster.
    ClusterLost {
        /// Which cluster.
        cluster: usize,
    },
}

/// What must be so at the end.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EndShape {
    /// Time within which everything must have converged once faults have stopped.
    pub within_s: f64,
    /// How long it is looked at after that without a change.
    pub rest_s: f64,
    /// What must have happened at least once in all runs together, by the names of [`Counts`]: of what never happens
    /// nothing is shown. Faults that are drawn must all have happened, too.
    pub happens: Vec<String>,
}

impl Default for EndShape {
    fn default() -> Self {
        Self { within_s: 60.0, rest_s: 3.0, happens: Vec::new() }
    }
}

/// Why a scenario cannot be played.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// The file.
    #[error("scenario {path}: {source}; name a file, or one of those that `codeco simulate --list` names")]
    Read {
        /// Which.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// What is in it.
    #[error("scenario {name}: {detail}")]
    Parse {
        /// Which.
        name: String,
        /// Field, and what was expected.
        detail: String,
    },
}

/// Most machines of a scenario.
const MACHINES_MAX: usize = 20_000;

impl Scenario {
    /// Reads a scenario.
    ///
    /// # Errors
    /// [`ScenarioError::Parse`] with the line, the field, and what was expected.
    pub fn parse(name: &str, text: &str) -> Result<Self, ScenarioError> {
        let error = |detail: String| ScenarioError::Parse { name: name.to_owned(), detail };
        let scenario: Self = toml::from_str(text).map_err(|e| error(e.to_string().trim().to_owned()))?;
        scenario.check().map_err(error)?;
        Ok(scenario)
    }

    /// As it is read back.
    ///
    /// # Errors
    /// What cannot be written.
    pub fn to_toml(&self) -> Result<String, String> {
        toml::to_string(self).map_err(|error| error.to_string())
    }

    /// Reads a scenario from a file.
    ///
    /// # Errors
    /// [`ScenarioError`].
    pub fn read(path: &Path) -> Result<Self, ScenarioError> {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path)
            .map_err(|source| ScenarioError::Read { path: name.clone(), source })?;
        Self::parse(&name, &text)
    }

    fn check(&self) -> Result<(), String> {
        let FleetShape { hubs, clusters, nodes, cpu, .. } = self.fleet;
        let machines = clusters.saturating_mul(nodes).saturating_add(hubs);
        let range = |name: &str, low: u64, high: u64| {
            if low <= high {
                Ok(())
            } else {
                Err(format!("{name}: [{low}, {high}] is not a range: the first is larger"))
            }
        };
        if clusters == 0 || nodes == 0 || machines > MACHINES_MAX {
            return Err(format!(
                "fleet: {hubs} hubs and {clusters} × {nodes} nodes: expected at least one node and at most {MACHINES_MAX} \
                 machines"
            ));
        }
        range("fleet.power_w", self.fleet.power_w.0, self.fleet.power_w.1)?;
        range("fleet.cpu", cpu.0, cpu.1)?;
        range("network.delay_us", self.network.delay_us.0, self.network.delay_us.1)?;
        range("users.cpu", self.users.cpu.0, self.users.cpu.1)?;
        range("users.replicas", self.users.replicas.0.into(), self.users.replicas.1.into())?;
        if let Some(name) = self.ends.happens.iter().find(|name| !Counts::NAMES.contains(&name.as_str())) {
            return Err(format!(
                "ends.happens: {name} is not counted: expected some of {}",
                Counts::NAMES.join(", ")
            ));
        }
        let times = [
            ("faults.begin_s", self.faults.begin_s),
            ("faults.last_s", self.faults.last_s.0),
            ("faults.last_s", self.faults.last_s.1 - self.faults.last_s.0),
            ("faults.per_minute", self.faults.per_minute),
            ("users.requests_per_minute", self.users.requests_per_minute),
            ("ends.within_s", self.ends.within_s),
        ];
        match times.into_iter().find(|(_, value)| !(0.0..=1e6).contains(value)) {
            Some((name, value)) => {
                Err(format!("{name}: {value} is not a time or a rate: expected 0 to 1,000,000"))
            }
            None => Ok(()),
        }
    }
}
