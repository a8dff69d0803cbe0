//! The facts members spread about themselves.

use std::net::SocketAddr;

use bincode::{Decode, Encode};

use super::learning::{GateFact, LoadFact, ModelFact};
use super::{ApiTokenFact, AppFact};
use crate::demands::ClusterTraits;
use crate::identity::Serial;
use crate::ids::{AppName, ClusterName, Incarnation, MemberId, Namespace, NodeName, ReplicaId};
use crate::messages::{HeldPhase, NodeFacts, RunPhase};
use crate::resources::Resources;
use crate::token::{Term, Token};
use crate::units::WallTime;

/// A member about itself.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct MemberFact {
    /// Its name.
    pub name: String,
    /// Where it can be dialled.
    pub address: Option<SocketAddr>,
    /// Version of its software.
    pub version: String,
    /// When its process started.
    pub started: WallTime,
    /// Whether it is ready, or why not.
    pub not_ready: Option<String>,
    /// When its certificate expires.
    pub certificate_expires: WallTime,
    /// The lead it follows, if it is a node.
    pub lead: Option<MemberId>,
    /// Whether it hears nobody of its cluster.
    pub cut_off: bool,
    /// The node behind it, if it is one.
    pub node: Option<NodeFacts>,
    /// The term it obeys, if it is a node.
    pub term: Term,
    /// Process id.
    pub pid: u32,
}

/// How far a replica has come on its node.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct ReplicaState {
    /// What the ledger says.
    pub held: HeldPhase,
    /// What the runtime says.
    pub run: RunPhase,
    /// Why, in words, where something is wrong.
    pub message: Option<String>,
    /// Process id of its first container, where there is one.
    pub pid: Option<u32>,
    /// How often its containers were started again.
    pub restarts: u32,
}

/// A replica on the node that says so.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct ReplicaFact {
    /// Which replica.
    pub replica: ReplicaId,
    /// Namespace of its application.
    pub namespace: Namespace,
    /// Name of its application.
    pub app: AppName,
    /// Generation of the specification it runs.
    pub generation: u64,
    /// Its token.
    pub token: Token,
    /// How far it has come.
    pub state: ReplicaState,
    /// Since when.
    pub since: WallTime,
}

/// A cluster, in the words of its lead.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct ClusterFact {
    /// The cluster.
    pub cluster: ClusterName,
    /// The lead's name.
    pub lead: NodeName,
    /// The lead's term.
    pub term: Term,
    /// Whether the lead has completed its takeover.
    pub ready: bool,
    /// Nodes that hold a lease.
    pub nodes_ready: u32,
    /// Nodes enrolled.
    pub nodes: u32,
    /// Names of the nodes enrolled that do not answer.
    pub nodes_lost: Vec<NodeName>,
    /// Sum over the nodes that hold a lease.
    pub capacity: Resources,
    /// Sum over the nodes that hold a lease.
    pub free: Resources,
    /// Mandates of the cluster.
    pub mandates: u32,
    /// Labels of the cluster.
    pub labels: Vec<(String, String)>,
    /// What its lead declares about it as a whole.
    pub traits: ClusterTraits,
}

/// What a host is, as its own agent finds it. Found again and again, spread only when it has changed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode)]
pub struct HostFact {
    /// What was found, by name; at most [`HOST_ITEMS_MAX`].
    pub found: Vec<(String, String)>,
    /// Data sources that people have declared, by name.
    pub data_sources: Vec<(String, String)>,
    /// Container images the runtime has; `None` where it keeps none.
    pub images: Option<Vec<String>>,
    /// Between two looks, in seconds: so much older than its owner's last sign of life a finding may be.
    pub every_seconds: u32,
}

/// Most findings, most data sources and most images of a host.
pub const HOST_ITEMS_MAX: usize = 64;

/// A voter, in the words of its lead.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct VoterFact {
    /// The member.
    pub member: MemberId,
    /// The life of its journal in which it votes.
    pub life: Incarnation,
    /// Whether it only votes, and never leads.
    pub witness: bool,
    /// Whether it has answered within the last lease.
    pub answers: bool,
}

/// Who votes in a cluster, in the words of its lead.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct ElectorateFact {
    /// The lead's term.
    pub term: Term,
    /// Grows with every change.
    pub version: u64,
    /// The voters.
    pub voters: Vec<VoterFact>,
}

/// The brake of a lead that misses most of its cluster, while it is engaged.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct BrakeFact {
    /// The lead's term.
    pub term: Term,
    /// Nodes that are missing.
    pub missing: u32,
    /// Nodes that are counted.
    pub of: u32,
    /// Replicas that wait for their nodes.
    pub held: u32,
    /// Since when it is engaged.
    pub since: WallTime,
}

/// A member's certificate, and how it stands with it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct CertificateFact {
    /// What it shows: its certificate, its cluster's issuer's if that signed it, the authority's; DER.
    pub chain: Vec<Vec<u8>>,
    /// How often it has got a fresh one since its process started.
    pub renewals: u32,
    /// When, the last time.
    pub renewed: Option<WallTime>,
    /// The certificate with which it certifies nodes of its cluster, and its end, if it has one.
    pub issuer: Option<(Serial, WallTime)>,
    /// Whether its wall clock shows a time before the last it has noted.
    pub clock_unknown: bool,
    /// Version of the list of authorities and revocations it goes by.
    pub trust: u64,
}

/// One fact.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Fact {
    /// The member itself.
    Member(Box<MemberFact>),
    /// A replica it holds.
    Replica(Box<ReplicaFact>),
    /// Its cluster, if it is the lead.
    Cluster(Box<ClusterFact>),
    /// The host it runs on, if it is a node.
    Host(Box<HostFact>),
    /// Who votes in its cluster, if it is the lead.
    Electorate(Box<ElectorateFact>),
    /// Its certificate.
    Certificate(Box<CertificateFact>),
    /// A node's load.
    Load(Box<LoadFact>),
    /// A hub's model.
    Model(Box<ModelFact>),
    /// Its cluster's gate, if it is the lead.
    Gate(Box<GateFact>),
    /// An application it speaks for, or keeps a copy of.
    App(Box<AppFact>),
    /// Where it answers people.
    Api(SocketAddr),
    /// API tokens it has given out, if it is a hub.
    ApiTokens(Vec<ApiTokenFact>),
    /// Whether members of other clusters can dial it; where nothing is said, they can.
    Dialable(bool),
    /// The brake of its cluster, if it is the lead and the brake is engaged.
    Brake(Box<BrakeFact>),
}
