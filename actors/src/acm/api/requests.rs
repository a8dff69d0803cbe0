//! What requests carry beside a manifest, and the answer about versions. The command line uses the same types.

use codeco_protocol::ids::{NodeName, Role};
use serde::{Deserialize, Serialize};

use super::guard::ApiRole;

/// Header with the name of the applied file, for messages.
pub const FILE_NAME_HEADER: &str = "x-codeco-file-name";
/// Header of answers with the name of the member that gave them.
pub const MEMBER_HEADER: &str = "x-codeco-member";
/// Shortest life of a join token.
pub const TTL_SECONDS_MIN: u64 = 10;
/// Longest life of a join token: 30 days.
pub const TTL_SECONDS_MAX: u64 = 30 * 24 * 3600;
/// Most panics asked for at once.
pub const TIMES_MAX: u32 = 1_000;

/// Asks for a join token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TokenRequest {
    /// What its bearer becomes.
    pub scope: Role,
    /// How long it can be used.
    pub ttl_seconds: u64,
    /// Whether its bearer founds the electorate of its cluster.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub founds: bool,
}

/// Asks for an API token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ApiTokenRequest {
    /// Whose it is to be; taken once.
    pub name: String,
    /// What it may do.
    pub role: ApiRole,
}

/// A new API token. The hub keeps a hash only: this is the one time its text is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NewApiToken {
    /// Whose it is.
    pub name: String,
    /// What it may do.
    pub role: ApiRole,
    /// The bearer token.
    pub token: String,
}

/// Asks an actor to panic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PanicRequest {
    /// Member in whose process it lives.
    pub member: String,
    /// Name of the actor.
    pub actor: String,
    /// At how many messages in a row.
    pub times: u32,
}

/// How much of a log to read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct TailQuery {
    /// Which container; absent is the first.
    pub container: Option<String>,
    /// At most so many bytes from the end.
    pub tail_bytes: Option<u32>,
}

/// What saying that a cluster is lost did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LostView {
    /// The cluster.
    pub cluster: codeco_protocol::ids::ClusterName,
    /// Replicas that may start elsewhere now.
    pub replicas: u64,
}

/// What releasing the brakes that hold a cluster did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BrakeView {
    /// The cluster.
    pub cluster: codeco_protocol::ids::ClusterName,
    /// Replicas that its lead places anew; absent where the brake of its lead was not engaged, or it cannot be asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<u64>,
    /// Whether the home asked lets the cluster count as lost now.
    pub home: bool,
}

/// Versions of the hub.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VersionView {
    /// Version of the program.
    pub version: String,
    /// Version of the API.
    pub api: String,
}

/// Asks for a node to vote alone in its cluster, because the majority of the voters is lost for good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ElectorateRequest {
    /// The node.
    pub with: NodeName,
}

/// What is to become of a node's, or a cluster's, work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum UpkeepWish {
    /// It takes work again.
    Open,
    /// It keeps what it has, and takes nothing new. Nodes only.
    Cordoned,
    /// It takes nothing new, and what it has moves elsewhere.
    Draining,
}

/// Asks for that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UpkeepRequest {
    /// What is wanted.
    pub upkeep: UpkeepWish,
}

/// From whom a member is cut off, or between which members packets are lost or late.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum FaultPeers {
    /// From everybody.
    Everybody,
    /// From all but those of its own cluster.
    OtherClusters,
    /// From these: `CLUSTER/NODE`, or hubs.
    Members(Vec<String>),
}

/// A fault. Each of the network ends by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum FaultWish {
    /// Packets are treated badly.
    Network {
        /// Between the member and whom.
        from: FaultPeers,
        /// Nothing comes in.
        #[serde(default)]
        inbound: bool,
        /// Nothing goes out.
        #[serde(default)]
        outbound: bool,
        /// Of a million packets each way, so many are lost.
        #[serde(default)]
        loss_per_million: u32,
        /// What goes out is late by this, in microseconds.
        #[serde(default)]
        delay_us: u64,
        /// And by up to this more.
        #[serde(default)]
        jitter_us: u64,
        /// For how long.
        seconds: u32,
    },
    /// All bad treatment of packets ends.
    Heal,
    /// The process stops, and goes on after a while.
    Pause {
        /// After so many seconds.
        seconds: u32,
    },
    /// The process dies.
    Kill,
}

/// Asks for a fault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FaultRequest {
    /// Whose: `CLUSTER/NODE`, or a hub.
    pub member: String,
    /// What.
    pub fault: FaultWish,
}

/// Asks for a node to be removed for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ForgetRequest {
    /// Whether the operator says that nothing of it runs any more.
    pub force: bool,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Forgotten {
    /// Who could not be told.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// Asks for a revocation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RevokeRequest {
    /// A node as `CLUSTER/NODE`, a member's id, or a certificate's serial number.
    pub target: String,
}
