//! The three kinds of hosts: a core that may be down, and the disk that outlives it.

use std::collections::{BTreeMap, BTreeSet};

use codeco_actors::swm::election::elector::{ElectionRecord, Elector, ElectorConfig};
use codeco_actors::swm::home::{ClusterFacts, Home, HomeConfig, HomeRecord};
use codeco_actors::swm::ledger::{Ledger, LedgerConfig, LedgerRecord};
use codeco_protocol::ids::{ClusterName, MemberId, ReplicaId};
use codeco_protocol::resources::Resources;
use codeco_protocol::token::{MandateId, Term, Token};

use crate::runtime::Runtime;

/// A node: ledger, its disk, its runtime.
#[derive(Debug)]
pub(crate) struct NodeHost {
    pub(crate) config: LedgerConfig,
    pub(crate) cluster: usize,
    pub(crate) ledger: Option<Ledger>,
    pub(crate) disk: Vec<LedgerRecord>,
    pub(crate) runtime: Runtime,
    pub(crate) capacity: Resources,
    pub(crate) foreign: Resources,
    /// Whether an operator has ever had it drained.
    pub(crate) drained: bool,
    /// Number of the agent's life; events of earlier ones are void.
    pub(crate) life: u64,
    /// Number of the machine's boot.
    pub(crate) boot: u64,
    pub(crate) tick_at: Option<u64>,
    /// Promises that left this node and were not closed on its disk since.
    pub(crate) told: BTreeSet<(ReplicaId, Token)>,
    /// The latest term this agent has heard of.
    pub(crate) heard: Term,
}

/// The elector of a node, perhaps its cluster's lead, and its disk.
#[derive(Debug)]
pub(crate) struct ElectorHost {
    pub(crate) config: ElectorConfig,
    pub(crate) elector: Option<Elector>,
    pub(crate) disk: Vec<ElectionRecord>,
    pub(crate) life: u64,
    pub(crate) tick_at: Option<u64>,
}

/// What is true of a cluster, whoever leads it.
#[derive(Debug)]
pub(crate) struct ClusterHost {
    pub(crate) name: ClusterName,
    pub(crate) summaries: u64,
    /// Mandates that leads said they have placed, not handed back since.
    pub(crate) told: BTreeSet<(ReplicaId, MandateId)>,
    /// Leads that took office here.
    pub(crate) last_lead: Option<MemberId>,
}

/// The home and its disk.
#[derive(Debug)]
pub(crate) struct HomeHost {
    pub(crate) config: HomeConfig,
    pub(crate) home: Option<Home>,
    pub(crate) disk: Vec<HomeRecord>,
    pub(crate) life: u64,
    pub(crate) tick_at: Option<u64>,
    /// Latest summary of each cluster: number, time of sending, content.
    pub(crate) view: BTreeMap<ClusterName, (u64, u64, ClusterFacts)>,
    /// Offers that left, with the highest term each, not handed back on disk since.
    pub(crate) told: BTreeMap<(ReplicaId, MandateId), Term>,
}

/// A member whose id is readable in the log.
pub(crate) fn member(number: u32) -> MemberId {
    MemberId(u128::from(number) << 96)
}
