//! Evidence: what was decided about a replica, among whom, and why. Data, so that it can be explained and replayed.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use codeco_protocol::ids::{AppName, Namespace, ReplicaId};
use codeco_protocol::messages::Profile;
use codeco_protocol::token::Token;

use super::score::Ranking;

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
    /// The model that gave advice, or is being judged, with its version and how far it is trusted.
    pub model: Option<String>,
}
