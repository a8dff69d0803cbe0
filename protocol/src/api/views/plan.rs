//! What applying a manifest would do.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::decision::Candidate;
use crate::ids::{AppName, ClusterName, Namespace, NodeName, ServiceName};

/// What would become of a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum PlannedAction {
    /// It is new.
    Create,
    /// Its service has changed: a new copy replaces it.
    Change,
    /// It stays as it is.
    Keep,
    /// It goes.
    Remove,
    /// No node can take it now; it would wait.
    Wait,
}

/// One replica of a plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlannedReplica {
    /// Service.
    #[schemars(with = "String")]
    pub service: ServiceName,
    /// Which copy.
    pub index: u32,
    /// What would become of it.
    pub action: PlannedAction,
    /// Cluster it would be in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub cluster: Option<ClusterName>,
    /// Node it would get, as that cluster bids now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub node: Option<NodeName>,
    /// Cluster it is in now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub from_cluster: Option<ClusterName>,
    /// Node it is on now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub from_node: Option<NodeName>,
    /// Why; for one that would wait, what stands against it and what would make it fit.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// The clusters considered, with the parts of their scores; best first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub candidates: Vec<Candidate>,
    /// What the application's intents did to the choice.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub intents: Vec<String>,
}

/// What applying one document would do. Nothing was changed or reserved to find out, so it holds for now only.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlanView {
    /// Namespace of the application.
    #[schemars(with = "String")]
    pub namespace: Namespace,
    /// Name of the application.
    #[schemars(with = "String")]
    pub app: AppName,
    /// Generation that applying would make.
    pub generation: u64,
    /// Whether applying would change anything.
    pub changes: bool,
    /// Every replica wanted or there.
    pub replicas: Vec<PlannedReplica>,
    /// What was left out, and intents without effect.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}
