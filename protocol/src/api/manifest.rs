//! The CODECO application model as people write it: the custom resource `CodecoApp`.
//!
//! Texts stay as they were written (quantities too), so that reading and writing a manifest changes nothing;
//! [`super::resolve`] turns them into typed units. Field names and quirks follow the published CRD,
//! `codecoapps.codeco.he-codeco.eu`; `spec.placement` is ours.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use super::classes::{ComplianceClass, FailureTolerance, Profile, QosClass, SecurityClass, ServiceClass};
use super::placement::Placement;
use super::pod::PodSpec;
use super::read;

/// The one `apiVersion` read.
pub const API_VERSION: &str = "codeco.he-codeco.eu/v1alpha1";
/// The one `kind` read.
pub const KIND: &str = "CodecoApp";
/// Namespace of a manifest that names none.
pub const NAMESPACE_DEFAULT: &str = "default";
/// Most services of an application.
pub const SERVICES_MAX: usize = 64;
/// Most channels that leave one service.
pub const CHANNELS_PER_SERVICE_MAX: usize = 64;

/// An application: services and the channels between them.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CodecoApp {
    /// Always [`API_VERSION`].
    pub api_version: String,
    /// Always [`KIND`].
    pub kind: String,
    /// Name, namespace, labels.
    pub metadata: Metadata,
    /// What is wanted.
    pub spec: AppSpec,
}

impl<'de> Deserialize<'de> for CodecoApp {
    /// Checks like [`super::load_manifests`]: what comes from another program is no better than what people write.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        read::from_serde(deserializer, read::app::read_app)
    }
}

/// Name, namespace, labels and annotations.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Metadata {
    /// Name of the application, unique in its namespace (RFC 1123 label).
    pub name: String,
    /// Namespace; [`NAMESPACE_DEFAULT`] if none is given.
    pub namespace: String,
    /// Labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// What is wanted of an application.
#[derive(Debug, Clone, PartialEq, Default, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AppSpec {
    /// Name under which channels of the manifest may speak of this application; the metadata's name does as well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_name: Option<String>,
    /// Quality of service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub qos_class: Option<QosClass>,
    /// Security demanded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub security_class: Option<SecurityClass>,
    /// Compliance demanded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compliance_class: Option<ComplianceClass>,
    /// Per cent of the most energy of the infrastructure, 0 to 100, as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_energy_limit: Option<String>,
    /// How well failures are borne.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_failure_tolerance: Option<FailureTolerance>,
    /// What placement weighs most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub performance_profile: Option<Profile>,
    /// The services, 1 to [`SERVICES_MAX`].
    #[serde(rename = "codecoapp-msspec")]
    pub services: Vec<ServiceSpec>,
    /// Replicas, where they may run, and what a partition may cost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placement: Option<Placement>,
}

/// One service.
#[derive(Debug, Clone, PartialEq, Default, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceSpec {
    /// Name, unique in the application (RFC 1123 label).
    pub service_name: String,
    /// What each replica runs.
    #[serde(rename = "podspec")]
    pub pod_spec: PodSpec,
    /// Channels that leave this service, at most [`CHANNELS_PER_SERVICE_MAX`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub service_channels: Vec<Channel>,
}

/// A directed demand for traffic to another service.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Channel {
    /// Name, unique among the channels of its service; made of the two services if unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel_name: Option<String>,
    /// Whether bandwidth is reserved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_class: Option<ServiceClass>,
    /// The receiver.
    pub other_service: OtherService,
    /// Bandwidth and delay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advanced_channel_settings: Option<ChannelSettings>,
}

/// The receiver of a channel. It may be listed later in the manifest.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OtherService {
    /// Another application; unset is this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_name: Option<String>,
    /// The service.
    pub service_name: String,
    /// Port it listens on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
}

/// Demands of a channel, all quantities as text.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ChannelSettings {
    /// Least bandwidth in bit/s (`5M`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_bandwidth: Option<String>,
    /// The same under the name newer manifests use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bandwidth: Option<String>,
    /// Longest one-way delay (`10s`, `10e-3`; seconds when bare).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_delay: Option<String>,
    /// Size of a frame in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frame_size: Option<String>,
    /// Time between two frames (seconds when bare).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub send_interval: Option<String>,
}
