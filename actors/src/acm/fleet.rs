//! What the API asks of the process behind it. The API server knows nothing of actors; the hub implements this.

use crate::acm::api::{BrakeView, FaultWish};
use crate::swm::ledger::Upkeep;
use async_trait::async_trait;
use codeco_protocol::api::{
    ActorView, AppView, CaView, CertView, ClusterView, CodecoApp, DecisionView, DoctorView, ErrorBody,
    EventView, LinkView, List, ModelView, NodeView, PlanView, ReplicaView, RevokedView,
};
use codeco_protocol::ids::{AppName, ClusterName, Namespace, NodeName, Role, ServiceName};
use serde::{Deserialize, Serialize};

/// An error with the HTTP status it is answered with.
#[derive(Debug, Clone)]
pub struct ApiError {
    /// HTTP status.
    pub status: u16,
    /// What the user reads.
    pub body: ErrorBody,
}

/// What applying one document did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Applied {
    /// Namespace of the application.
    pub namespace: Namespace,
    /// Name of the application.
    pub name: AppName,
    /// `created`, `configured` or `unchanged`, as kubectl says it.
    pub action: String,
    /// Number of the specification.
    pub generation: u64,
    /// On how many members the specification is durable.
    pub durable_on: u32,
    /// Intents that were kept, but have no effect yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// A new join token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NewToken {
    /// The token, to be given to `codeco agent --join`.
    pub token: String,
    /// When it expires, milliseconds since 1970.
    pub expires_at: u64,
    /// Addresses at which the hub can be joined.
    pub hubs: Vec<String>,
}

/// Which replicas, which member … a question is about. Absent fields do not filter.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Filter {
    /// Only of this namespace.
    pub namespace: Option<Namespace>,
    /// Only of this application.
    pub app: Option<AppName>,
    /// Only of this cluster.
    pub cluster: Option<ClusterName>,
    /// Only of this node.
    pub node: Option<NodeName>,
    /// At most so many, the newest.
    pub limit: Option<u32>,
    /// Only nodes with such labels or facts, written as a selector of Kubernetes.
    pub selector: Option<String>,
    /// Only decisions about this replica: `SERVICE-INDEX`.
    pub replica: Option<String>,
    /// Only what is not older: milliseconds since 1970.
    pub since: Option<u64>,
}

/// A replica's log to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogQuery {
    /// Namespace of the application.
    pub namespace: Namespace,
    /// The application.
    pub app: AppName,
    /// The service.
    pub service: ServiceName,
    /// Which copy.
    pub index: u32,
    /// Which container; `None` is the first.
    pub container: Option<String>,
    /// At most so many bytes from the end.
    pub tail_bytes: u32,
}

/// The fleet behind the API. Every method has a deadline of its own; members that do not answer in time are named in
/// the warnings of the list, never silently missing.
#[async_trait]
pub trait Fleet: Send + Sync + 'static {
    /// Applications.
    async fn apps(&self, filter: Filter) -> Result<List<AppView>, ApiError>;
    /// Takes specifications.
    async fn apply(&self, apps: Vec<CodecoApp>) -> Result<Vec<Applied>, ApiError>;
    /// What applying would do; nothing is changed.
    async fn plan(&self, apps: Vec<CodecoApp>) -> Result<Vec<PlanView>, ApiError>;
    /// Keeps work away from a node, has its work moved away, or lets work come again.
    async fn node_upkeep(&self, cluster: ClusterName, node: NodeName, upkeep: Upkeep)
    -> Result<(), ApiError>;
    /// Has all replicas of a cluster moved elsewhere, or lets them come again.
    async fn cluster_drain(&self, cluster: ClusterName, drained: bool) -> Result<(), ApiError>;
    /// Takes an operator's word that nothing runs in a cluster any more. Returns how many replicas of this home's
    /// applications may start elsewhere now.
    async fn cluster_lost(&self, cluster: ClusterName) -> Result<u64, ApiError>;
    /// Takes an operator's word that what a cluster's lead misses, or a cluster that this home misses, is gone.
    async fn release_brake(&self, cluster: ClusterName) -> Result<BrakeView, ApiError>;
    /// Has a node vote alone in its cluster: the majority of the voters is lost for good.
    async fn replace_electorate(&self, cluster: ClusterName, with: NodeName) -> Result<(), ApiError>;
    /// Asks for an application's end.
    async fn delete(&self, namespace: Namespace, name: AppName) -> Result<(), ApiError>;
    /// Replicas.
    async fn replicas(&self, filter: Filter) -> Result<List<ReplicaView>, ApiError>;
    /// Nodes.
    async fn nodes(&self, filter: Filter) -> Result<List<NodeView>, ApiError>;
    /// Clusters.
    async fn clusters(&self, filter: Filter) -> Result<List<ClusterView>, ApiError>;
    /// Events, oldest first.
    async fn events(&self, filter: Filter) -> Result<List<EventView>, ApiError>;
    /// Decisions about an application's replicas, newest first.
    async fn decisions(&self, filter: Filter) -> Result<List<DecisionView>, ApiError>;
    /// Actors of all members, or of one node.
    async fn actors(&self, filter: Filter) -> Result<List<ActorView>, ApiError>;
    /// Models, and the gates of clusters.
    async fn models(&self, filter: Filter) -> Result<List<ModelView>, ApiError>;
    /// A log, as raw bytes.
    async fn logs(&self, query: LogQuery) -> Result<Vec<u8>, ApiError>;
    /// A join token for a node of a cluster, perhaps the one that founds its electorate, or for a hub.
    async fn create_token(&self, scope: Role, ttl_seconds: u64, founds: bool) -> Result<NewToken, ApiError>;
    /// Certificates of all members known.
    async fn certs(&self, filter: Filter) -> Result<List<CertView>, ApiError>;
    /// Revokes a member, named as `CLUSTER/NODE` or by its id, or one certificate, named by its serial number.
    async fn revoke(&self, target: String) -> Result<RevokedView, ApiError>;
    /// Begins a hand-over to a new authority.
    async fn rotate_ca(&self) -> Result<CaView, ApiError>;
    /// The authority, and how far a hand-over has come.
    async fn ca(&self) -> Result<CaView, ApiError>;
    /// Makes an actor panic: `times` messages in a row, for tests of supervision. Only where faults are enabled.
    async fn panic_actor(&self, member: String, actor: String, times: u32) -> Result<(), ApiError>;
    /// Links between members: measured, or estimated where nobody has measured them.
    async fn links(&self, filter: Filter) -> Result<List<LinkView>, ApiError>;
    /// Has members look after themselves.
    async fn doctor(&self, filter: Filter) -> Result<DoctorView, ApiError>;
    /// A fault of a member's process or network. Only where faults are enabled.
    async fn fault(&self, member: String, fault: FaultWish) -> Result<(), ApiError>;
    /// Has a node stop for good that is drained and has nothing left. Whoever wants it removed asks for that next.
    async fn leave_node(&self, cluster: ClusterName, node: NodeName) -> Result<(), ApiError>;
    /// Removes a node for good; refused while it answers. Returns who may still tell of it.
    async fn forget_node(
        &self,
        cluster: ClusterName,
        node: NodeName,
        forced: bool,
    ) -> Result<Vec<String>, ApiError>;
}
