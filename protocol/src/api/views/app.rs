//! Applications and their replicas.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::{Partition, Profile};
use crate::ids::{AppName, AppUid, ClusterName, DecisionId, Namespace, NodeName, ServiceName};
use crate::resources::Resources;
use crate::units::{BitsPerSecond, Micros, WallTime};

/// How an application stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum AppPhase {
    /// Nothing decided yet.
    Pending,
    /// Some replicas are being placed, none has failed.
    Placing,
    /// Every replica runs.
    Running,
    /// Some replica does not run and should.
    Degraded,
    /// Being deleted: the record stays until every replica is given back.
    Deleting,
}

/// Whether a condition holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum ConditionStatus {
    /// It does.
    True,
    /// It does not.
    False,
    /// Nobody knows.
    Unknown,
}

/// One condition, as in Kubernetes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// Kind of condition, such as `Ready`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Whether it holds.
    pub status: ConditionStatus,
    /// One word why.
    pub reason: String,
    /// One sentence why.
    pub message: String,
    /// When the status last changed.
    pub last_transition_time: WallTime,
}

/// An application.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AppView {
    /// Namespace.
    #[schemars(with = "String")]
    pub namespace: Namespace,
    /// Name.
    #[schemars(with = "String")]
    pub name: AppName,
    /// This life of it.
    #[schemars(with = "String")]
    pub uid: AppUid,
    /// Number of the newest specification.
    pub generation: u64,
    /// Number of the specification that was acted on.
    pub observed_generation: u64,
    /// How it stands.
    pub phase: AppPhase,
    /// What placement weighs most.
    pub profile: Profile,
    /// Replicas wanted.
    pub replicas_wanted: u32,
    /// Replicas ready.
    pub replicas_ready: u32,
    /// Clusters that hold a mandate.
    #[schemars(with = "Vec<String>")]
    pub clusters: Vec<ClusterName>,
    /// When it was first applied.
    pub created_at: WallTime,
    /// The member that speaks for it, where that is not the one that was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub home: Option<String>,
    /// Members that hold the specification on disk.
    pub durable_on: u32,
    /// Conditions.
    #[serde(default)]
    pub conditions: Vec<Condition>,
    /// Services.
    #[serde(default)]
    pub services: Vec<ServiceView>,
    /// Channels.
    #[serde(default)]
    pub channels: Vec<ChannelView>,
    /// Intents as they hold, defaults filled in.
    #[serde(default)]
    pub intents: Vec<IntentView>,
}

/// One intent of an application as it holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IntentView {
    /// The field of the manifest, from `spec`; rules of one service carry its name.
    pub field: String,
    /// Its value; the default where none is set.
    pub value: String,
    /// What it does.
    pub effect: String,
}

/// A service of an application.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceView {
    /// Name.
    #[schemars(with = "String")]
    pub name: ServiceName,
    /// Replicas wanted.
    pub replicas_wanted: u32,
    /// Replicas ready.
    pub replicas_ready: u32,
    /// Requests of one replica: processor in thousandths of a core, memory in bytes.
    pub resources: Resources,
    /// What a copy may do while cut off.
    pub partition_policy: Partition,
}

/// A channel of an application.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ChannelView {
    /// Name.
    pub name: String,
    /// Sending service.
    #[schemars(with = "String")]
    pub from: ServiceName,
    /// Receiving application, if it is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub to_app: Option<AppName>,
    /// Receiving service.
    #[schemars(with = "String")]
    pub to: ServiceName,
    /// Whether bandwidth is reserved.
    pub assured: bool,
    /// Least bandwidth in bit/s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bandwidth: Option<BitsPerSecond>,
    /// Longest one-way delay in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay_max: Option<Micros>,
}

/// How a replica stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum ReplicaPhase {
    /// No node is chosen.
    Pending,
    /// A node was asked to set resources aside.
    Reserving,
    /// Its processes are being started.
    Starting,
    /// Its processes run.
    Running,
    /// Its processes were asked to stop.
    Stopping,
    /// It ended and is not started again.
    Finished,
    /// It ended badly and is not started again for now.
    Failed,
    /// Its node is given up.
    Lost,
    /// Nobody has told for too long.
    Unknown,
}

/// One copy of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReplicaView {
    /// Application.
    #[schemars(with = "String")]
    pub app: AppName,
    /// Namespace.
    #[schemars(with = "String")]
    pub namespace: Namespace,
    /// Service.
    #[schemars(with = "String")]
    pub service: ServiceName,
    /// Number of the copy, from 0.
    pub index: u32,
    /// Cluster that holds the mandate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub cluster: Option<ClusterName>,
    /// Node that runs it or is asked to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub node: Option<NodeName>,
    /// How it stands.
    pub phase: ReplicaPhase,
    /// Whether it does its work.
    pub ready: bool,
    /// Fencing token, `epoch.mandate.term.attempt`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// The decision that put it there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub decision: Option<DecisionId>,
    /// Since when it is in this phase.
    pub since: WallTime,
    /// How often its processes were started again.
    pub restarts: u32,
    /// What there is to say.
    #[serde(default)]
    pub message: String,
    /// Process id of its first process, where it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// Number of the mandate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mandate: Option<u64>,
    /// Whether this view is older than the limit for heartbeats: then it tells the past.
    pub stale: bool,
    /// Age of this view.
    pub age_ms: u64,
}
