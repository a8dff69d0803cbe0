//! Nodes, clusters, events and the actors inside a process.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Condition;
use crate::ids::{ClusterName, Incarnation, MemberId, NodeName};
use crate::resources::Resources;
use crate::units::WallTime;

/// How a node stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum NodeStatus {
    /// Takes work.
    Ready,
    /// Is heard and takes no work.
    NotReady,
    /// Has not finished joining.
    Joining,
    /// Hears nobody.
    CutOff,
    /// Is not heard.
    Unknown,
}

/// A node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeView {
    /// Name.
    #[schemars(with = "String")]
    pub name: NodeName,
    /// Cluster.
    #[schemars(with = "String")]
    pub cluster: ClusterName,
    /// Identity.
    #[schemars(with = "String")]
    pub id: MemberId,
    /// Whether it takes work.
    pub ready: bool,
    /// How it stands.
    pub status: NodeStatus,
    /// Whether it decides for its cluster.
    pub lead: bool,
    /// Everything it has for work.
    pub capacity: Resources,
    /// What is promised or used.
    pub used: Resources,
    /// The rest.
    pub free: Resources,
    /// Replicas on it.
    pub replicas: u32,
    /// Version of the agent.
    pub version: String,
    /// This life of its journal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub incarnation: Option<Incarnation>,
    /// When its certificate expires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_expires: Option<WallTime>,
    /// Address it is heard from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Age of this view.
    pub age_ms: u64,
    /// Conditions.
    #[serde(default)]
    pub conditions: Vec<Condition>,
    /// Labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// What is known of its host.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub facts: Vec<FactView>,
}

/// Where a fact comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum FactSource {
    /// The node found it.
    Discovered,
    /// Somebody has declared it.
    Declared,
}

/// A fact about a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FactView {
    /// Name.
    pub name: String,
    /// Value.
    pub value: String,
    /// Where it comes from.
    pub source: FactSource,
    /// How long ago it held for sure, at most.
    pub age_ms: u64,
}

/// How a cluster stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum ClusterStatus {
    /// Its lead is heard and every node is ready.
    Ready,
    /// Its lead is heard and some node is not ready.
    Degraded,
    /// Nobody decides in it.
    NoLead,
    /// Nobody in it is heard.
    Unknown,
}

/// A voter of a cluster's electorate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VoterView {
    /// Name of the node; its id where the name is not known.
    pub node: String,
    /// The life of its journal in which it votes.
    #[schemars(with = "String")]
    pub incarnation: Incarnation,
    /// Whether it only votes, and never leads.
    pub witness: bool,
    /// Whether the lead has heard from it within a lease.
    pub answers: bool,
}

/// Who may elect a cluster's lead.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ElectorateView {
    /// Grows with every change.
    pub version: u64,
    /// The voters.
    pub voters: Vec<VoterView>,
}

/// A cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterView {
    /// Name.
    #[schemars(with = "String")]
    pub name: ClusterName,
    /// Node that decides in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub lead: Option<NodeName>,
    /// Term of the lead.
    pub term: u64,
    /// Who elects the lead, in the words of the present one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub electorate: Option<ElectorateView>,
    /// Nodes ready.
    pub nodes_ready: u32,
    /// Nodes known.
    pub nodes: u32,
    /// Sum of the nodes' capacity.
    pub capacity: Resources,
    /// Sum of what is free on ready nodes.
    pub free: Resources,
    /// Replicas in it.
    pub replicas: u32,
    /// How it stands.
    pub status: ClusterStatus,
    /// What holds about it beside that, such as `Braked`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// Age of this view.
    pub age_ms: u64,
}

/// Whether an event asks for attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum EventType {
    /// It does not.
    Normal,
    /// It does.
    Warning,
}

/// What an event is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub struct EventObject {
    /// Kind, such as `App`, `Node`, `Replica`, `Actor`.
    pub kind: String,
    /// Name.
    pub name: String,
}

impl std::fmt::Display for EventObject {
    /// `kind/name`, the kind in lower case.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&format!("{}/{}", self.kind.to_lowercase(), self.name))
    }
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EventView {
    /// When, the last time.
    pub at: WallTime,
    /// Whether it asks for attention.
    #[serde(rename = "type")]
    pub kind: EventType,
    /// One word what.
    pub reason: String,
    /// What it is about.
    pub object: EventObject,
    /// Member that says so.
    pub member: String,
    /// One sentence what.
    pub message: String,
    /// How often.
    pub count: u64,
    /// When, the first time.
    pub first_at: WallTime,
}

/// How an actor stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum ActorState {
    /// Takes messages.
    Running,
    /// Failed and waits to be started again.
    BackingOff,
    /// Failed too often: its supervisor does not start it again.
    GivenUp,
    /// Was stopped.
    Stopped,
}

/// An actor of a process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ActorView {
    /// Member whose process it lives in.
    pub member: String,
    /// Name.
    pub name: String,
    /// Its supervisor; `None` is the root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// How it stands.
    pub state: ActorState,
    /// How often it was started again.
    pub restarts: u64,
    /// Messages waiting.
    pub mailbox_depth: u64,
    /// Messages handled.
    pub handled: u64,
    /// Messages handled a second of late.
    #[serde(default)]
    pub handled_per_second: f64,
    /// What half of the messages waited at most, in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_p50_us: Option<u64>,
    /// What 99 of 100 messages waited at most, in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_p99_us: Option<u64>,
    /// What it last failed with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
}
