//! The part of Kubernetes' core/v1 `PodSpec` this project reads. Everything else is kept untouched.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use super::classes::{Partition, Restart};
use super::read;

/// Most containers of one replica.
pub const CONTAINERS_MAX: usize = 32;
/// Most variables, arguments or ports of one container.
pub const CONTAINER_ITEMS_MAX: usize = 512;
/// Time between the request to stop and the kill where the pod spec says nothing, as in Kubernetes.
pub const GRACE_SECONDS_DEFAULT: u64 = 30;
/// Longest such time.
pub const GRACE_SECONDS_MAX: u64 = 86_400;
/// Processor request of a container that states neither request nor limit.
pub const CPU_REQUEST_DEFAULT: &str = "100m";
/// Memory request of a container that states neither request nor limit.
pub const MEMORY_REQUEST_DEFAULT: &str = "64Mi";

/// Kinds of volume that hold nothing a restart elsewhere would lose.
const STATELESS_VOLUMES: [&str; 5] = ["emptyDir", "configMap", "secret", "downwardAPI", "projected"];

/// What a replica runs.
#[derive(Debug, Clone, PartialEq, Default, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodSpec {
    /// Containers, 1 to [`CONTAINERS_MAX`].
    pub containers: Vec<Container>,
    /// When finished containers start again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart_policy: Option<Restart>,
    /// Labels a node must have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// Time between the request to stop and the kill.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub termination_grace_period_seconds: Option<u64>,
    /// Volumes as they were written.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<Value>,
    /// Scheduler the manifest was written for; kept, never obeyed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduler_name: Option<String>,
    /// Fields this project does not read.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl<'de> Deserialize<'de> for PodSpec {
    /// Checks like [`super::load_manifests`].
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        read::from_serde(deserializer, read::pod::read_pod)
    }
}

impl PodSpec {
    /// Whether a volume holds state that another copy must not write at the same time.
    #[must_use]
    pub fn has_state(&self) -> bool {
        self.volumes.iter().filter_map(Value::as_object).any(|volume| {
            volume.keys().any(|key| key != "name" && !STATELESS_VOLUMES.contains(&key.as_str()))
        })
    }

    /// The partition policy of a service that names none: fence if it has state.
    #[must_use]
    pub fn partition_default(&self) -> Partition {
        if self.has_state() { Partition::Fence } else { Partition::Autonomous }
    }

    /// Paths of what only a Kubernetes cluster can supply (variables taken from secrets, volumes, init
    /// containers): a runtime of plain processes refuses replicas that need them, and says which.
    #[must_use]
    pub fn needs_cluster(&self) -> Vec<String> {
        let mut needs = Vec::new();
        for (i, container) in self.containers.iter().enumerate() {
            for (j, env) in container.env.iter().enumerate() {
                if env.value_from.is_some() {
                    needs.push(format!("containers[{i}].env[{j}].valueFrom"));
                }
            }
            for key in ["envFrom", "volumeMounts", "volumeDevices"] {
                if container.other.get(key).and_then(Value::as_array).is_some_and(|list| !list.is_empty()) {
                    needs.push(format!("containers[{i}].{key}"));
                }
            }
        }
        if self.other.get("initContainers").and_then(Value::as_array).is_some_and(|list| !list.is_empty()) {
            needs.push("initContainers".to_owned());
        }
        needs
    }
}

/// One container.
#[derive(Debug, Clone, PartialEq, Default, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Container {
    /// Name, unique in the pod (RFC 1123 label).
    pub name: String,
    /// Image; needed where there is no command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Program and its first arguments.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// Further arguments.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// Environment.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<EnvVar>,
    /// Working directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
    /// Requests and limits.
    #[serde(default, skip_serializing_if = "ResourceDemands::is_empty")]
    pub resources: ResourceDemands,
    /// Ports it listens on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<ContainerPort>,
    /// Fields this project does not read.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// A variable of the environment.
#[derive(Debug, Clone, PartialEq, Default, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EnvVar {
    /// Name.
    pub name: String,
    /// Value; unset is empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// Where a cluster takes the value from, as it was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_from: Option<Value>,
    /// Fields this project does not read.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// Requests and limits, quantities as text. A request not stated is the limit, then the stated default.
#[derive(Debug, Clone, PartialEq, Default, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResourceDemands {
    /// What a node sets aside.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub requests: BTreeMap<String, String>,
    /// What may be used at most.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub limits: BTreeMap<String, String>,
    /// Fields this project does not read.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl ResourceDemands {
    /// Whether nothing was written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.requests.is_empty() && self.limits.is_empty() && self.other.is_empty()
    }

    /// The request for `name` as text: the request, else the limit.
    #[must_use]
    pub fn request(&self, name: &str) -> Option<&str> {
        self.requests.get(name).or_else(|| self.limits.get(name)).map(String::as_str)
    }
}

/// A port a container listens on.
#[derive(Debug, Clone, PartialEq, Default, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ContainerPort {
    /// Number, 1 to 65535.
    pub container_port: u16,
    /// Name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Fields this project does not read.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}
