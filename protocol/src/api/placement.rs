//! `spec.placement`: replicas, where they may run, and what a partition may cost. Ours, and optional throughout.

use std::collections::BTreeMap;

use bincode::{Decode, Encode};
use schemars::JsonSchema;
use serde::Serialize;

use super::classes::{OnReconnect, Partition};

/// Most replicas of one service.
pub const REPLICAS_PER_SERVICE_MAX: u32 = 256;
/// Most replicas of one application.
pub const REPLICAS_PER_APP_MAX: u32 = 1_000;
/// Replicas of a service that says nothing.
pub const REPLICAS_DEFAULT: u32 = 1;
/// Copies of a service that says nothing about it which may be away at a time.
pub const MAX_UNAVAILABLE_DEFAULT: u32 = 1;
/// Most regions in a residency.
pub(super) const RESIDENCY_MAX: usize = crate::demands::REGIONS_MAX;
/// Most labels in a selector.
pub const SELECTOR_LABELS_MAX: usize = 32;

/// Rules for every service, and rules for single ones, which win field by field.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Placement {
    /// Rules for all services.
    #[serde(flatten)]
    pub all: PlacementRules,
    /// Rules by service name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub services: BTreeMap<String, PlacementRules>,
    /// How long the application's home may be silent before another member becomes its home; unset is for ever. Only
    /// where no service is fenced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adopt_after: Option<String>,
}

/// Where replicas may run, and what a partition may cost.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlacementRules {
    /// How many copies, 0 to [`REPLICAS_PER_SERVICE_MAX`]; unset is [`REPLICAS_DEFAULT`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<u32>,
    /// Labels a cluster must have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_selector: Option<BTreeMap<String, String>>,
    /// Labels a node must have, beside those of the pod spec.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_selector: Option<BTreeMap<String, String>>,
    /// Regions (`topology.kubernetes.io/region`) its copies, and so its data, may be in, at most sixteen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub residency: Option<Vec<String>>,
    /// How close together copies may be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spread: Option<Spread>,
    /// What a copy may do while cut off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition_policy: Option<Partition>,
    /// How long a silent cluster keeps its right to a replica; unset is for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost_after: Option<String>,
    /// Which of two copies stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_reconnect: Option<OnReconnect>,
    /// How many copies a change or a drain may take away at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disruption_budget: Option<DisruptionBudget>,
}

/// How many copies of a service may be away at a time because somebody wanted it so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DisruptionBudget {
    /// 0 to [`REPLICAS_PER_SERVICE_MAX`]; unset is [`MAX_UNAVAILABLE_DEFAULT`]. With 0 no copy is stopped before another
    /// one is ready, which services that must be stopped first (`fence`) cannot have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_unavailable: Option<u32>,
}

impl PlacementRules {
    /// These rules, with gaps filled from `general`.
    #[must_use]
    pub fn over(&self, general: &PlacementRules) -> PlacementRules {
        PlacementRules {
            replicas: self.replicas.or(general.replicas),
            cluster_selector: self.cluster_selector.clone().or_else(|| general.cluster_selector.clone()),
            node_selector: self.node_selector.clone().or_else(|| general.node_selector.clone()),
            residency: self.residency.clone().or_else(|| general.residency.clone()),
            spread: self.spread.or(general.spread),
            partition_policy: self.partition_policy.or(general.partition_policy),
            lost_after: self.lost_after.clone().or_else(|| general.lost_after.clone()),
            on_reconnect: self.on_reconnect.or(general.on_reconnect),
            disruption_budget: self.disruption_budget.or(general.disruption_budget),
        }
    }
}

impl Placement {
    /// How many copies of `service` may be away at a time.
    #[must_use]
    pub fn max_unavailable(&self, service: &str) -> u32 {
        let budget = self.rules_for(service).disruption_budget;
        budget.and_then(|budget| budget.max_unavailable).unwrap_or(MAX_UNAVAILABLE_DEFAULT)
    }

    /// The rules that hold for `service`.
    #[must_use]
    pub fn rules_for(&self, service: &str) -> PlacementRules {
        self.services.get(service).map_or_else(|| self.all.clone(), |own| own.over(&self.all))
    }
}

/// Most copies of one service in one place; hard limits, unset is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, JsonSchema, Encode, Decode)]
#[serde(rename_all = "camelCase")]
pub struct Spread {
    /// On one node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_per_node: Option<u32>,
    /// In one cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_per_cluster: Option<u32>,
    /// In one zone (node label `topology.kubernetes.io/zone`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_per_zone: Option<u32>,
}
