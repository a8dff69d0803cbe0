//! Evidence: what was decided about a replica, among whom, and why. Data, so that it can be explained and replayed.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use codeco_protocol::demands::{Apart, Level as Declared, PlaceRules, Priority};
use codeco_protocol::ids::{AppName, Namespace, ReplicaId};
use codeco_protocol::messages::{AppContext, Profile, watts};
use codeco_protocol::token::Token;

use super::score::{APART_WEIGHT, Ranking};

/// Who decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Level {
    /// A home chose a cluster.
    Cluster,
    /// A lead chose a node.
    Node,
}

/// One decision.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// Who.
    pub level: Level,
    /// About which replica.
    pub replica: ReplicaId,
    /// Namespace of the application.
    pub namespace: Namespace,
    /// Name of the application.
    pub app: AppName,
    /// Weights used.
    pub profile: Profile,
    /// Candidates.
    pub ranking: Ranking,
    /// The winner, if there was one.
    pub chosen: Option<String>,
    /// Why it was decided now: `placed`, `node lost`, `specification changed`, …
    pub cause: String,
    /// The token it led to.
    pub token: Option<Token>,
    /// What the application's intents did to it.
    pub intents: Vec<String>,
}

/// What the intents of an application did to a decision, one sentence for each that says something.
#[must_use]
pub fn intents_told(context: &AppContext, rules: &PlaceRules) -> Vec<String> {
    let demands = &context.demands;
    let mut told = Vec::new();
    match demands.priority {
        Priority::BestEffort => {}
        Priority::Silver => told.push("qosClass Silver: placed before BestEffort, after Gold".to_owned()),
        Priority::Gold => told.push("qosClass Gold: placed before Silver and BestEffort".to_owned()),
    }
    for (field, level) in [("securityClass", demands.security), ("complianceClass", demands.compliance)] {
        if level > Declared::Low {
            told.push(format!("{field} {level}: only nodes that declare {level} or more"));
        }
    }
    match demands.apart {
        Apart::Profile => {}
        Apart::Nodes => told.push(format!(
            "appFailureTolerance Medium: the part spread weighs {APART_WEIGHT} among the nodes of a cluster"
        )),
        Apart::Clusters => told.push(format!(
            "appFailureTolerance High: the part spread weighs {APART_WEIGHT} among clusters and among nodes"
        )),
    }
    if let (Some(percent), Some(most)) = (demands.energy_limit_percent, rules.power_max) {
        told.push(format!(
            "appEnergyLimit {percent} %: this copy's part, by the processor it asks for, is {}",
            watts(most)
        ));
    }
    if !rules.regions.is_empty() {
        told.push(format!("residency: only in {}", rules.regions.join(", ")));
    }
    let limits = [
        ("node", rules.spread.per_node),
        ("cluster", rules.spread.per_cluster),
        ("zone", rules.spread.per_zone),
    ];
    for (place, most) in limits {
        if let Some(most) = most {
            told.push(format!("spread: at most {most} in one {place}"));
        }
    }
    if rules.uplink.0 > 0 {
        told.push(format!("ASSURED channels: {} of the cluster's uplink are reserved", rules.uplink));
    }
    told
}
