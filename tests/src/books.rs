//! What the members of a fleet have written down, read from copies of their journals.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use codeco_actors::journal::Journal;
use codeco_actors::swm::actor::WRITER;
use codeco_actors::swm::election::elector::{ElectionRecord, Written};
use codeco_actors::swm::election::voter::Position;
use codeco_actors::swm::home::{Home, HomeConfig, HomeRecord};
use codeco_actors::swm::lead::LeadRecord;
use codeco_actors::swm::lease::LeaseConfig;
use codeco_actors::swm::ledger::{Ledger, LedgerConfig, LedgerRecord};
use codeco_node_agent::guard::replica_label;
use codeco_protocol::ids::{Incarnation, MemberId, NodeName, ReplicaId};
use codeco_protocol::messages::HeldPhase;
use codeco_protocol::token::{Epoch, MandateId, Token};
use codeco_protocol::wire::WireMessage;

use crate::Trouble;

/// A replica under a token.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Promise {
    /// `APP-UID/SERVICE-INDEX`.
    pub replica: String,
    /// The token.
    pub token: Token,
}

/// A node's journal.
#[derive(Debug, Clone)]
pub struct LedgerBook {
    /// Cluster of the node.
    pub cluster: String,
    /// Mark of its guard; empty before its guard has first run.
    pub mark: String,
    /// Everything written.
    pub records: Vec<LedgerRecord>,
    /// What the node holds, as the product itself reads its journal.
    pub held: BTreeMap<String, (Token, HeldPhase)>,
}

/// The journals of all homes together: the replicas that are wanted.
#[derive(Debug, Clone, Default)]
pub struct HomeBook {
    /// Replica, the home's epoch, and its mandate with the cluster that has it.
    pub replicas: BTreeMap<String, (Epoch, Option<(MandateId, String)>)>,
    /// Mandates that are wanted back.
    pub leaving: usize,
    /// Replica, and the number of members that keep a copy in which it has a mandate.
    pub copied: BTreeMap<String, usize>,
}

/// The books of all members.
#[derive(Debug, Clone)]
pub struct Books {
    /// By node, `CLUSTER-NODE`.
    pub ledgers: BTreeMap<String, LedgerBook>,
    /// By cluster: what its lead has mandates for.
    pub leads: BTreeMap<String, BTreeMap<String, (Epoch, MandateId)>>,
    /// What the homes want: the hub, and every agent that was given an application.
    pub home: HomeBook,
}

impl LedgerBook {
    /// Reads what is in the state folder of a node of `cluster`.
    ///
    /// # Errors
    /// [`Trouble`]: its journal does not check.
    pub fn read(folder: &Path, cluster: String) -> Result<Self, Trouble> {
        ledger(folder, cluster)
    }

    /// Everything ever promised.
    #[must_use]
    pub fn committed(&self) -> BTreeSet<Promise> {
        let pick = |record: &LedgerRecord| match record {
            LedgerRecord::Committed { replica, token, .. } => Some(promise(replica, *token)),
            _ => None,
        };
        self.records.iter().filter_map(pick).collect()
    }

    /// Everything ever closed.
    #[must_use]
    pub fn closed(&self) -> BTreeSet<Promise> {
        let pick = |record: &LedgerRecord| match record {
            LedgerRecord::Closed { replica, token } => Some(promise(replica, *token)),
            _ => None,
        };
        self.records.iter().filter_map(pick).collect()
    }
}

pub(crate) fn promise(replica: &ReplicaId, token: Token) -> Promise {
    Promise { replica: replica_label(replica), token }
}

impl Books {
    /// Reads the books of the fleet in the folder `state`. The members may go on writing meanwhile.
    ///
    /// # Errors
    /// [`Trouble`]: a journal is missing or does not check.
    pub fn read(state: &Path) -> Result<Self, Trouble> {
        let (mut ledgers, mut leads) = (BTreeMap::new(), BTreeMap::new());
        let mut book = HomeBook::default();
        // Of a hub that has lost its disk nothing is left before it is given something to do.
        let hub = state.join("hub").join("home.journal");
        if hub.exists() {
            note_home(&copy(&hub)?, &mut book);
        }
        let mut furthest: BTreeMap<String, Position> = BTreeMap::new();
        let agents = state.join("agents");
        for entry in fs::read_dir(&agents).map_err(Trouble::file(&agents))? {
            let folder = entry.map_err(Trouble::file(&agents))?.path();
            let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let cluster = name.rsplit_once("-node-").map_or(name.as_str(), |(cluster, _)| cluster).to_owned();
            let election = folder.join("election.journal");
            if election.exists() {
                let records: Vec<ElectionRecord> = copy(&election)?;
                let written =
                    Written::read(&records).map_err(|e| Trouble::Accounts(vec![format!("{name}: {e}")]))?;
                // Whoever has the most records was or is the lead.
                let known = furthest.entry(cluster.clone()).or_default();
                if written.last >= *known {
                    *known = written.last;
                    leads.insert(cluster.clone(), lead_mandates(&written.records));
                }
            }
            let home = folder.join("home.journal");
            if home.exists() {
                note_home(&copy(&home)?, &mut book);
            }
            ledgers.insert(name, ledger(&folder, cluster)?);
        }
        Ok(Self { ledgers, leads, home: book })
    }

    /// The node whose guard has this mark.
    #[must_use]
    pub fn node_of(&self, mark: &str) -> Option<(&str, &LedgerBook)> {
        self.ledgers.iter().find(|(_, book)| book.mark == mark).map(|(name, book)| (name.as_str(), book))
    }
}

/// Opening a journal cuts off what a crash has torn, so a copy is opened.
fn copy<R: WireMessage>(path: &Path) -> Result<Vec<R>, Trouble> {
    let folder = tempfile::tempdir().map_err(Trouble::file(path))?;
    let to = folder.path().join("journal");
    fs::copy(path, &to).map_err(Trouble::file(path))?;
    Ok(Journal::open(&to, WRITER)?.records)
}

fn ledger(folder: &Path, cluster: String) -> Result<LedgerBook, Trouble> {
    let path = folder.join("ledger.journal");
    let records: Vec<LedgerRecord> = if path.exists() { copy(&path)? } else { Vec::new() };
    let name = NodeName::new("books").map_err(|e| Trouble::Accounts(vec![e.to_string()]))?;
    let config = LedgerConfig {
        id: MemberId(0),
        name,
        labels: Vec::new(),
        power: None,
        traits: Default::default(),
        lease: LeaseConfig::default(),
        first_nonce: 0,
    };
    let (ledger, _) = Ledger::recover(config, &records, Incarnation(0));
    let held = ledger.held_briefs().into_iter();
    let held = held.map(|brief| (replica_label(&brief.replica), (brief.token, brief.phase))).collect();
    let mark = fs::read_to_string(folder.join("guard").join("guard.id")).unwrap_or_default();
    Ok(LedgerBook { cluster, mark: mark.trim().to_owned(), records, held })
}

fn lead_mandates(records: &[LeadRecord]) -> BTreeMap<String, (Epoch, MandateId)> {
    let mut mandates = BTreeMap::new();
    for record in records {
        match record {
            LeadRecord::Mandated { replica, epoch, mandate, .. } => {
                mandates.insert(replica_label(replica), (*epoch, *mandate));
            }
            LeadRecord::HandedBack { replica, mandate, .. } => {
                let label = replica_label(replica);
                if mandates.get(&label).is_some_and(|(_, held)| held == mandate) {
                    mandates.remove(&label);
                }
            }
            _ => {}
        }
    }
    mandates
}

/// Adds what one home wants. Where two speak for one application, the later epoch does.
fn note_home(records: &[HomeRecord], book: &mut HomeBook) {
    let home = Home::recover(HomeConfig::new(MemberId(0), 0), records);
    for (uid, app) in home.copies().filter_map(|(uid, copy)| Some((uid, copy.app(uid)?))) {
        for ((service, index), _) in app.replicas.iter().filter(|(_, entry)| entry.mandate.is_some()) {
            let replica = ReplicaId { app: uid, service: service.clone(), index: *index };
            *book.copied.entry(replica_label(&replica)).or_default() += 1;
        }
    }
    for (uid, app) in home.apps() {
        for ((service, index), entry) in &app.replicas {
            let replica = ReplicaId { app: uid, service: service.clone(), index: *index };
            let mandate = entry.mandate.as_ref();
            if !app.wants(service, *index) || mandate.is_some_and(|mandate| mandate.recalling) {
                // The number of its last mandate stays behind, so that it is never given again.
                book.leaving += usize::from(mandate.is_some());
                continue;
            }
            let mandate = mandate.map(|mandate| (mandate.id, mandate.cluster.to_string()));
            let label = replica_label(&replica);
            if book.replicas.get(&label).is_none_or(|(epoch, _)| *epoch <= app.epoch) {
                book.replicas.insert(label, (app.epoch, mandate));
            }
        }
    }
}
