//! Machines: what outlives a process, and the process.

use std::collections::{BTreeMap, BTreeSet};

use codeco_actors::swm::election::elector::{ElectionRecord, ElectorConfig};
use codeco_actors::swm::home::HomeRecord;
use codeco_actors::swm::ledger::{LedgerConfig, LedgerRecord};
use codeco_protocol::ids::{Identity, MemberId, ReplicaId};
use codeco_protocol::resources::Resources;
use codeco_protocol::token::{MandateId, Term, Token};

use super::process::Process;
use crate::clock::Clock;
use crate::runtime::Runtime;

/// Records after which a journal is replaced by a snapshot.
pub(crate) const COMPACT_AT: usize = 2_048;

/// Machines that are down until then never come back.
pub(crate) const FOR_GOOD: u64 = u64::MAX / 8;

/// A journal on a disk.
#[derive(Debug, Clone)]
pub(crate) struct Journal<R> {
    pub(crate) records: Vec<R>,
    /// So many of them are surely there after a crash.
    pub(crate) synced: usize,
    /// Length at which it is replaced by a snapshot.
    pub(crate) compact_at: usize,
}

impl<R> Default for Journal<R> {
    fn default() -> Self {
        Self { records: Vec::new(), synced: 0, compact_at: COMPACT_AT }
    }
}

impl<R> Journal<R> {
    pub(crate) fn sync(&mut self) {
        self.synced = self.records.len();
    }

    /// A crash: what was not synced is gone.
    pub(crate) fn crash(&mut self) {
        self.records.truncate(self.synced);
    }

    pub(crate) fn replace(&mut self, snapshot: Vec<R>) {
        self.compact_at = COMPACT_AT.max(2 * snapshot.len());
        self.records = snapshot;
        self.sync();
    }

    /// Replaces a long journal whose last record is synced by a snapshot, if there is a core to make one.
    pub(crate) fn compact(&mut self, snapshot: Option<impl FnOnce() -> Vec<R>>) -> bool {
        if self.records.len() < self.compact_at || self.synced < self.records.len() {
            return false;
        }
        let Some(snapshot) = snapshot else { return false };
        self.replace(snapshot());
        true
    }

    pub(crate) fn clear(&mut self) {
        self.records.clear();
        self.synced = 0;
    }
}

/// What is on a machine's disk.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    pub(crate) ledger: Journal<LedgerRecord>,
    pub(crate) election: Journal<ElectionRecord>,
    pub(crate) home: Journal<HomeRecord>,
    /// Members of the own cluster, and where they were.
    pub(crate) peers: BTreeSet<MemberId>,
    /// Until when nothing can be written.
    pub(crate) full_until: u64,
}

/// A node's part of a machine; a hub has none.
#[derive(Debug)]
pub(crate) struct NodePart {
    pub(crate) cluster: usize,
    pub(crate) ledger: LedgerConfig,
    pub(crate) elector: ElectorConfig,
    pub(crate) capacity: Resources,
    pub(crate) foreign: Resources,
    /// Whether it says that it has more than it has.
    pub(crate) lies: bool,
    /// Whether an operator has ever had it drained.
    pub(crate) drained: bool,
    pub(crate) runtime: Runtime,
    /// Promises that left this node and were not closed on its disk since.
    pub(crate) told: BTreeSet<(ReplicaId, Token)>,
}

#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) identity: Identity,
    pub(crate) name: String,
    pub(crate) clock: Clock,
    pub(crate) boot: u64,
    /// Number of the process; events of earlier ones are void.
    pub(crate) life: u64,
    pub(crate) disk: Disk,
    pub(crate) node: Option<NodePart>,
    pub(crate) process: Option<Box<Process>>,
    /// Until when the process does nothing.
    pub(crate) held_until: u64,
    /// Whether it has too little time, until then.
    pub(crate) slow_until: u64,
    /// Until when the machine stays down.
    pub(crate) down_until: u64,
    /// Offers that its home sent, with the highest term each, not handed back on disk since.
    pub(crate) offered: BTreeMap<(ReplicaId, MandateId), Term>,
}

impl Machine {
    /// Whether it never comes back.
    pub(crate) fn is_gone(&self) -> bool {
        self.process.is_none() && self.down_until >= FOR_GOOD
    }

    pub(crate) fn id(&self) -> MemberId {
        self.identity.id
    }

    pub(crate) fn cluster(&self) -> Option<usize> {
        self.node.as_ref().map(|node| node.cluster)
    }
}

/// A member whose id is readable in the log.
pub(crate) fn member(at: usize) -> MemberId {
    MemberId((at as u128 + 1) << 96)
}

/// Which machine a member is on.
pub(crate) fn machine_of(member: MemberId) -> usize {
    usize::try_from(member.0 >> 96).unwrap_or(0).wrapping_sub(1)
}
