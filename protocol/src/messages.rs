//! Control messages between nodes, leads and homes. Small, idempotent, safe to lose, repeat and reorder.
//!
//! They travel in a [`ControlBatch`] over an actor session; the sender's identity is the session's, never a field.

use bincode::{Decode, Encode};

use crate::coordinate::Coordinate;
use crate::demands::{Demands, Level, NodeTraits, PlaceRules};
use crate::election::ElectionMessage;
use crate::ids::{AppName, AppUid, ClusterName, Incarnation, MemberId, Namespace, NodeName, ReplicaId};
use crate::resources::Resources;
use crate::token::{Epoch, MandateId, Term, Token};
use crate::units::{BitsPerSecond, Bytes, Micros, MilliCpu, MilliWatts};
use crate::workload::{ChannelSpec, WorkloadSpec};

/// Most messages in one batch.
pub const BATCH_MAX: usize = 512;

/// How far a held replica has come on its node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub enum HeldPhase {
    /// Resources are set aside for a while; nothing runs.
    Reserved,
    /// Promised: runs, or will as soon as it may.
    Committed,
    /// Asked to stop; resources are still taken.
    Stopping,
}

/// What the runtime says of a committed replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub enum RunPhase {
    /// Not started: waits for a lease, or for the runtime.
    Waiting,
    /// Started, not ready.
    Starting,
    /// Running and ready.
    Ready,
    /// Ended, and its restart policy leaves it so.
    Finished,
    /// Cannot run; the runtime tries again or has given up.
    Failed,
}

/// When a node said something, against what else it said: letters overtake each other on their way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Encode, Decode)]
pub struct Told {
    /// Life of the process; differs between any two.
    pub life: u64,
    /// Grows with everything it says.
    pub number: u64,
}

impl Told {
    /// Whether this was said before `other`. Lives have no order: the one heard last is taken for the present one, and
    /// a letter of an earlier life is put right by the next.
    #[must_use]
    pub fn is_before(self, other: Self) -> bool {
        self.life == other.life && self.number < other.number
    }
}

/// A replica a node holds, without its specification.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Encode, Decode)]
pub struct HeldBrief {
    /// Which replica.
    pub replica: ReplicaId,
    /// Under which token.
    pub token: Token,
    /// How far it has come.
    pub phase: HeldPhase,
    /// What the runtime says.
    pub run: RunPhase,
}

/// A replica a node holds, with all a new lead needs to take it over.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Encode, Decode)]
pub struct Held {
    /// Which, under which token, how far.
    pub brief: HeldBrief,
    /// What it runs.
    pub spec: WorkloadSpec,
}

/// A node's word about itself, fresh at the time of sending.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Encode, Decode)]
pub struct NodeFacts {
    /// Name within the cluster.
    pub name: NodeName,
    /// Life of its journal.
    pub incarnation: Incarnation,
    /// What it has.
    pub capacity: Resources,
    /// What is neither promised nor used by others.
    pub free: Resources,
    /// Labels, declared and discovered.
    pub labels: Vec<(String, String)>,
    /// Power when idle and at full load, where known.
    pub power: Option<(MilliWatts, MilliWatts)>,
    /// Whether new replicas are kept away.
    pub cordoned: bool,
    /// Measured round trips to other members; a member that is not listed is unknown, not near.
    pub round_trips: Vec<(MemberId, Micros)>,
    /// Whether what it holds is to move elsewhere. A node that is drained is cordoned too.
    pub draining: bool,
    /// Where it is in the network, for round trips that were never measured.
    pub coordinate: Option<Coordinate>,
    /// What it declares about itself.
    pub traits: NodeTraits,
}

/// Why a token is closed: the node does not run it and never will.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Encode, Decode)]
pub enum ClosedReason {
    /// Not enough of a resource; the text names it.
    NoRoom(String),
    /// Another token of the same replica is held.
    Occupied,
    /// It was closed before.
    AlreadyClosed,
    /// Meant for an earlier life of the node's journal.
    OtherIncarnation,
    /// The reservation ran out before the commit.
    Expired,
    /// Stopped as ordered; the runtime has proven it.
    Stopped,
    /// The node refuses new work.
    Cordoned,
}

/// What an application wants placed, for a bid.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Encode, Decode)]
pub struct Demand {
    /// Which replica.
    pub replica: ReplicaId,
    /// What it takes.
    pub resources: Resources,
    /// Labels its node must have.
    pub node_selector: Vec<(String, String)>,
    /// Further rules for its place.
    pub rules: PlaceRules,
}

/// The profile a user picks: how the parts of a score are weighted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, Default)]
pub enum Profile {
    /// Least energy.
    Greenness,
    /// Least chance of too few replicas.
    Resilience,
    /// Least delay on channels.
    Latency,
    /// Least cost.
    Cost,
    /// A little of each.
    #[default]
    Balanced,
}

/// What placement needs to know of the application around a replica.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Encode, Decode)]
pub struct AppContext {
    /// Uid.
    pub uid: AppUid,
    /// Namespace.
    pub namespace: Namespace,
    /// Name.
    pub name: AppName,
    /// Weights.
    pub profile: Profile,
    /// Traffic between its services.
    pub channels: Vec<ChannelSpec>,
    /// What it demands of every place.
    pub demands: Demands,
}

/// What a lead may do with a copy that is older than the offer, or whose node is being drained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, Default)]
pub enum Replace {
    /// Nothing: it only says what it has.
    #[default]
    Keep,
    /// Replace it, but stop a copy that serves only once another one is ready.
    Overlap,
    /// Replace it; where there is no room for two, stop the old copy first.
    StopFirst,
}

/// Whether the node of a copy is being drained, and where else the copy could go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, Default)]
pub enum Leaving {
    /// It stays.
    #[default]
    No,
    /// Another node of the cluster would take it.
    Inside,
    /// No other node of the cluster would.
    Away,
}

/// A resource of which a node has too little, in its smallest unit (thousandths of a core, bytes, pieces).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Shortage {
    /// `cpu`, `memory`, or the name of an extended resource.
    pub resource: String,
    /// Asked for.
    pub wanted: u64,
    /// Free.
    pub free: u64,
}

/// Why a place may not take a replica.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub enum Obstacle {
    /// The node does not answer, for that long; `None` is for ever.
    Silent(Option<Micros>),
    /// The node has not reported to this lead yet.
    Unheard,
    /// The node takes nothing new.
    Cordoned,
    /// The node refused it a moment ago.
    Refused,
    /// The node runs the copy that is to be replaced.
    Replaced,
    /// A label is missing.
    Label {
        /// Its key.
        key: String,
        /// The value wanted.
        value: String,
    },
    /// Too little is free; at least one shortage.
    Short(Vec<Shortage>),
    /// Anything else, for people.
    Other(String),
    /// The node declares too low a level, or none.
    Level {
        /// The field of the manifest that demands it.
        field: String,
        /// The level demanded.
        wanted: Level,
        /// The level declared.
        declared: Option<Level>,
    },
    /// As many copies as allowed are there already.
    Spread {
        /// `node`, `cluster`, or `zone NAME`.
        place: String,
        /// Copies there.
        there: u32,
        /// Copies allowed.
        most: u32,
    },
    /// It would draw more than its part of the application's energy limit.
    Power {
        /// What it would draw there; `None` if the node's power is not known.
        draws: Option<MilliWatts>,
        /// What it may draw.
        most: MilliWatts,
    },
    /// An ASSURED channel would be too slow.
    Delay {
        /// The channel.
        channel: String,
        /// Where the other end is.
        other: String,
        /// The one-way delay; `None` if it was never measured.
        delay: Option<Micros>,
        /// The limit.
        most: Micros,
    },
    /// A link has too little left for the application's ASSURED channels.
    Link {
        /// Which link.
        link: String,
        /// What would be reserved.
        wanted: BitsPerSecond,
        /// What is left; `None` if its capacity is not declared.
        free: Option<BitsPerSecond>,
    },
    /// The place is in none of the regions allowed, or it is not known in which.
    Region {
        /// Where it is.
        region: Option<String>,
        /// Where it must be.
        allowed: Vec<String>,
    },
}

impl std::fmt::Display for Obstacle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Silent(Some(age)) => write!(f, "node does not answer (for {age})"),
            Self::Silent(None) => f.write_str("node does not answer (for ever)"),
            Self::Unheard => f.write_str("node has not reported to this lead yet"),
            Self::Cordoned => f.write_str("node is cordoned"),
            Self::Refused => f.write_str("node refused it a moment ago"),
            Self::Replaced => f.write_str("node runs the copy that is to be replaced"),
            Self::Label { key, value } => write!(f, "label {key}={value} is missing"),
            Self::Short(list) => match list.first() {
                Some(Shortage { resource, wanted, free }) if resource == "cpu" => {
                    write!(f, "not enough cpu: wants {}, {} free", MilliCpu(*wanted), MilliCpu(*free))
                }
                Some(Shortage { resource, wanted, free }) if resource == "memory" => {
                    write!(f, "not enough memory: wants {}, {} free", Bytes(*wanted), Bytes(*free))
                }
                Some(Shortage { resource, wanted, free }) => {
                    write!(f, "not enough {resource}: wants {wanted}, {free} free")
                }
                None => f.write_str("not enough room"),
            },
            Self::Other(text) => f.write_str(text),
            Self::Level { field, wanted, declared: Some(level) } => {
                write!(f, "{field} {wanted} is demanded, the node declares {level}")
            }
            Self::Level { field, wanted, declared: None } => {
                write!(f, "{field} {wanted} is demanded, the node declares no level")
            }
            Self::Spread { place, there, most } => {
                write!(f, "spread: {place} has {there} of at most {most} copies")
            }
            Self::Power { draws: Some(draws), most } => {
                write!(f, "appEnergyLimit: would draw {}, may draw {}", watts(*draws), watts(*most))
            }
            Self::Power { draws: None, most } => {
                write!(f, "appEnergyLimit: may draw {}, the node's power is not declared", watts(*most))
            }
            Self::Delay { channel, other, delay: Some(delay), most } => {
                write!(f, "channel {channel}: {delay} to {other}, at most {most} is assured")
            }
            Self::Delay { channel, other, delay: None, most } => {
                write!(
                    f,
                    "channel {channel}: at most {most} is assured, the delay to {other} is not measured"
                )
            }
            Self::Link { link, wanted, free: Some(free) } => {
                write!(f, "{link}: ASSURED channels need {wanted} more, {free} left")
            }
            Self::Link { link, wanted, free: None } => {
                write!(f, "{link}: ASSURED channels need {wanted}, its capacity is not declared")
            }
            Self::Region { region: Some(region), allowed } => {
                write!(f, "residency: it is in {region}, allowed is {}", allowed.join(", "))
            }
            Self::Region { region: None, allowed } => {
                write!(f, "residency: its region is not declared, allowed is {}", allowed.join(", "))
            }
        }
    }
}

/// Watts, for people.
#[allow(clippy::cast_precision_loss)]
#[must_use]
pub fn watts(power: MilliWatts) -> String {
    format!("{:.1} W", power.0 as f64 / 1e3)
}

/// Most obstacles told in one bid.
pub const OBSTACLES_MAX: usize = 512;

/// A cluster's answer for one replica of a bid.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub struct BidLine {
    /// Which replica.
    pub replica: ReplicaId,
    /// Weighted score of the node it would get (lower is better) and that node, or why none would do.
    pub answer: Result<(f64, NodeName), String>,
    /// Where none would do, what stands against each node; at most [`OBSTACLES_MAX`] in a whole bid.
    pub obstacles: Vec<(NodeName, Obstacle)>,
    /// What the replica would draw on the node of the answer, where its power is known.
    pub power: Option<MilliWatts>,
    /// What it would cost there in an hour, in thousandths of the operator's unit of money, where that is known.
    pub cost: Option<u64>,
}

/// One control message.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub enum ControlMessage {
    /// Node → lead: asks for a lease and says how things are.
    LeaseRequest {
        /// Ties the answer to the time of asking.
        nonce: u64,
        /// Highest term this node has obeyed.
        term_seen: Term,
        /// Life of the node's journal.
        incarnation: Incarnation,
        /// The node itself; left out while they are what this lead has granted a lease on under this term.
        facts: Option<NodeFacts>,
        /// What it holds.
        held: Vec<HeldBrief>,
        /// When it said so.
        told: Told,
    },
    /// Lead → node: a lease from the time of the request named.
    LeaseGrant {
        /// The request.
        nonce: u64,
        /// The lead's term.
        term: Term,
        /// How long, counted by the node from its request.
        duration: Micros,
        /// Tokens the lease does not cover: to be stopped and closed before it counts.
        revoke: Vec<(ReplicaId, Token)>,
    },
    /// Lead → node: a new term; older orders are void.
    Fence {
        /// The new term.
        term: Term,
    },
    /// Node → lead: obeys that term, and holds this.
    Report {
        /// The term obeyed.
        term: Term,
        /// The node itself.
        facts: NodeFacts,
        /// What it holds, with specifications.
        held: Vec<Held>,
        /// When it said so.
        told: Told,
    },
    /// Lead → node: set resources aside.
    Reserve {
        /// The life of the journal meant.
        incarnation: Incarnation,
        /// Which replica.
        replica: ReplicaId,
        /// Under which token.
        token: Token,
        /// What it takes.
        resources: Resources,
        /// How long to keep it; at most one lease.
        ttl: Micros,
    },
    /// Node → lead: set aside.
    Reserved {
        /// Which replica.
        replica: ReplicaId,
        /// Under which token.
        token: Token,
    },
    /// Lead → node: run it.
    Commit {
        /// The life of the journal meant.
        incarnation: Incarnation,
        /// Which replica.
        replica: ReplicaId,
        /// Under which token.
        token: Token,
        /// What to run.
        spec: WorkloadSpec,
    },
    /// Node → lead: promised, on disk.
    Committed {
        /// Which replica.
        replica: ReplicaId,
        /// Under which token.
        token: Token,
    },
    /// Lead → node: stop it and never run it again.
    Close {
        /// The term of the lead that orders it (the token may be an older lead's).
        term: Term,
        /// Which replica.
        replica: ReplicaId,
        /// Which token.
        token: Token,
    },
    /// Node → lead: I do not run it and never will.
    Closed {
        /// Which replica.
        replica: ReplicaId,
        /// Which token.
        token: Token,
        /// Why.
        reason: ClosedReason,
        /// What is free now.
        free: Resources,
    },
    /// Node → lead: your term is old. Proves nothing about any replica.
    Stale {
        /// The highest term known.
        highest: Term,
    },
    /// Node → lead: how a committed replica fares.
    Status {
        /// Which replica.
        replica: ReplicaId,
        /// Under which token.
        token: Token,
        /// What the runtime says.
        run: RunPhase,
        /// When the node said so.
        told: Told,
    },
    /// Home → lead: what would it cost you to run these?
    BidRequest {
        /// Ties the answer to the question.
        request: u64,
        /// The application.
        context: AppContext,
        /// The replicas.
        demands: Vec<Demand>,
    },
    /// Lead → home: this.
    Bid {
        /// The question.
        request: u64,
        /// The lead's term.
        term: Term,
        /// The cluster.
        cluster: ClusterName,
        /// An answer for each replica.
        lines: Vec<BidLine>,
    },
    /// Home → lead: a mandate for one replica.
    Offer {
        /// The term it is offered to: only that lead may answer.
        term: Term,
        /// The home's epoch.
        epoch: Epoch,
        /// The mandate.
        mandate: MandateId,
        /// Which replica.
        replica: ReplicaId,
        /// What to run.
        spec: WorkloadSpec,
        /// Labels its node must have.
        node_selector: Vec<(String, String)>,
        /// The application.
        context: AppContext,
        /// What the lead may do with the copy it has.
        replace: Replace,
        /// The copy meant by that, as the home last heard of it; about another one nothing is said.
        replaces: Option<Token>,
        /// Further rules for its place.
        rules: PlaceRules,
    },
    /// Lead → home: a node has promised it.
    Accepted {
        /// The lead's term.
        term: Term,
        /// The mandate.
        mandate: MandateId,
        /// Which replica.
        replica: ReplicaId,
        /// Generation of the specification that was promised.
        generation: u64,
        /// Where.
        node: NodeName,
        /// Under which token.
        token: Token,
        /// What the node says of it.
        run: RunPhase,
        /// Whether its node is being drained.
        leaving: Leaving,
        /// Grows with everything that the lead of this term says: letters overtake each other.
        number: u64,
        /// What is reserved for it on the cluster's uplink.
        uplink: BitsPerSecond,
    },
    /// Lead → home: every attempt is closed, the mandate is yours again.
    Declined {
        /// The lead's term.
        term: Term,
        /// The epoch it was offered under.
        epoch: Epoch,
        /// The mandate.
        mandate: MandateId,
        /// Which replica.
        replica: ReplicaId,
        /// Why.
        reason: String,
    },
    /// Home → lead: give the mandate back.
    Recall {
        /// The home's epoch.
        epoch: Epoch,
        /// The mandate.
        mandate: MandateId,
        /// Which replica.
        replica: ReplicaId,
    },
    /// Lead → home: stopped everywhere, the mandate is yours again.
    Returned {
        /// The lead's term.
        term: Term,
        /// The epoch it was given under.
        epoch: Epoch,
        /// The mandate.
        mandate: MandateId,
        /// Which replica.
        replica: ReplicaId,
    },
    /// Lead → home: that offer is for another lead; this is the term now.
    LeadIs {
        /// The lead's term.
        term: Term,
        /// Its cluster.
        cluster: ClusterName,
    },
    /// Between the members of a cluster that elect its lead.
    Election(ElectionMessage),
    /// Home → any member: keep a copy of an application.
    Keep {
        /// Which.
        app: AppUid,
        /// The home's right.
        epoch: Epoch,
        /// Grows with every change; an older one changes nothing.
        revision: u64,
        /// The records that stand for it, opaque here.
        records: Vec<u8>,
    },
    /// That member → home: this is on my disk.
    Kept {
        /// Which.
        app: AppUid,
        /// The home's right.
        epoch: Epoch,
        /// The newest there.
        revision: u64,
    },
    /// Lead → home: are you there? Asked for replicas that name how long their home may be silent.
    Watch {
        /// Ties the answer to the time of asking.
        nonce: u64,
        /// The lead's term.
        term: Term,
        /// How long something may run on after the lead's own count has ended: its nodes' leases.
        allowance: Micros,
    },
    /// Home → lead: yes; these mandates of yours have been given to others.
    Watched {
        /// The question.
        nonce: u64,
        /// The term it was asked under.
        term: Term,
        /// Mandates of that cluster that are void, each until it has come back.
        lost: Vec<(ReplicaId, MandateId)>,
    },
    /// Home → that member: the application is gone, and so may the copy be.
    Drop {
        /// Which.
        app: AppUid,
        /// The home's right.
        epoch: Epoch,
    },
}

/// Messages from one member to another, in order.
#[derive(Debug, Clone, PartialEq, Default, Encode, Decode)]
pub struct ControlBatch {
    /// At most [`BATCH_MAX`].
    pub messages: Vec<ControlMessage>,
}

/// Which actor of a process a message is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Addressee {
    /// The node's ledger.
    Ledger,
    /// The cluster's lead.
    Lead,
    /// The application's home.
    Home,
}

impl ControlMessage {
    /// Which actor it is for.
    #[must_use]
    pub fn addressee(&self) -> Addressee {
        use ControlMessage as M;
        match self {
            M::LeaseGrant { .. }
            | M::Fence { .. }
            | M::Reserve { .. }
            | M::Commit { .. }
            | M::Close { .. } => Addressee::Ledger,
            M::LeaseRequest { .. }
            | M::Report { .. }
            | M::Reserved { .. }
            | M::Committed { .. }
            | M::Closed { .. }
            | M::Stale { .. }
            | M::Status { .. }
            | M::BidRequest { .. }
            | M::Offer { .. }
            | M::Recall { .. }
            | M::Election(_)
            | M::Watched { .. } => Addressee::Lead,
            M::Bid { .. }
            | M::Accepted { .. }
            | M::Declined { .. }
            | M::Returned { .. }
            | M::LeadIs { .. }
            | M::Watch { .. }
            | M::Keep { .. }
            | M::Kept { .. }
            | M::Drop { .. } => Addressee::Home,
        }
    }
}

impl crate::wire::WireMessage for ControlBatch {
    const KIND: u16 = 16;
    const MAX_LEN: usize = 1 << 20;
}
