//! Ledger and elector of this node: how they are restored, and what happens around them.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use codeco_actors::clock::{boot_now, wall_now};
use codeco_actors::evidence::Note;
use codeco_actors::journal::{Journal, JournalError};
use codeco_actors::process::Member;
use codeco_actors::supervision::ChildRef;
use codeco_actors::swm::actor::{Effects, Restore, Started, WRITER};
use codeco_actors::swm::election::elector::{
    Elector, ElectorConfig, ElectorInput, ElectorNote, ElectorOutput, founding,
};
use codeco_actors::swm::election::electorate::{Electorate, Voter};
use codeco_actors::swm::lead::{Lead, LeadConfig, LeadNote, LeadOutput, LeadRecord};
use codeco_actors::swm::ledger::{Ledger, LedgerConfig, LedgerInput, LedgerNote, LedgerOutput, Upkeep};
use codeco_actors::swm::telling::{Gist, RunWords, brake_fact, cluster_fact, electorate_fact, replica_facts};
use codeco_protocol::api::EventType;
use codeco_protocol::gossip::Fact;
use codeco_protocol::ids::{ClusterName, Incarnation, MemberId, NodeName};
use codeco_protocol::messages::NodeFacts;
use codeco_protocol::resources::Resources;
use codeco_protocol::units::{BootTime, Micros, WallTime};
use futures::FutureExt as _;

use super::options::AgentConfig;
use super::watch::Seat;
use super::workloads::{Workloads, WorkloadsMessage};

/// Restores the ledger: journal, then what the runtime runs, then the node's size.
pub(super) fn restore_ledger(
    config: &AgentConfig,
    member: &Arc<Member>,
    workloads: &Arc<Workloads>,
    lead: Arc<dyn Fn() -> Option<codeco_protocol::ids::MemberId> + Send + Sync>,
) -> Restore<Ledger> {
    let path = config.state.join("ledger.journal");
    let ledger_config = LedgerConfig {
        id: member.commons.own.id,
        name: config.name.clone(),
        labels: node_labels(config),
        power: config.power,
        traits: config.traits,
        lease: config.lease,
        first_nonce: 0,
    };
    let (capacity, workloads) = (config.capacity.clone(), Arc::clone(workloads));
    Arc::new(move || {
        let (path, workloads, lead) = (path.clone(), Arc::clone(&workloads), Arc::clone(&lead));
        let mut ledger_config = ledger_config.clone();
        let capacity = capacity.clone();
        async move {
            // Nonces of this life start elsewhere than those of any earlier one.
            ledger_config.first_nonce = boot_now().0 << 8;
            let opened = open(path).await?;
            let (ledger, outputs) = Ledger::recover(ledger_config, &opened.records, Incarnation::random());
            let foreign = Resources::default();
            let mut inputs = vec![LedgerInput::Capacity { capacity, foreign }];
            inputs.extend(workloads.listed().await?);
            inputs.extend(lead().map(LedgerInput::LeadIs));
            Ok(Started { core: ledger, journal: opened.journal, outputs, inputs })
        }
        .boxed()
    })
}

/// The elector's journal, within the folder of state.
pub(super) const ELECTION_JOURNAL: &str = "election.journal";
/// The journal of a lead that the configuration named, as agents wrote it before leads were elected.
const LEAD_JOURNAL: &str = "lead.journal";

/// Restores the elector.
pub(super) fn restore_elector(
    config: &AgentConfig,
    member: &Arc<Member>,
    cluster: &ClusterName,
) -> Restore<Elector> {
    let (path, former) = (config.state.join(ELECTION_JOURNAL), config.state.join(LEAD_JOURNAL));
    let own = member.commons.own.id;
    let mut lead_config = LeadConfig::new(own, cluster.clone(), config.lease);
    lead_config.uplink = config.uplink;
    let seed = u64::try_from(own.0 >> 64).unwrap_or(0) ^ boot_now().0;
    Arc::new(move || {
        let (path, former, lead_config) = (path.clone(), former.clone(), lead_config.clone());
        async move {
            let mut opened = open(path).await?;
            if opened.records.is_empty() && former.exists() {
                // Whoever led before leads were elected votes alone at first, and knows what it knew.
                let voter = Voter { member: own, incarnation: Incarnation::random() };
                let records = open::<LeadRecord>(former).await?.records;
                opened.records = founding(voter, records);
                opened.journal.compact(&opened.records, WRITER).map_err(|e| e.to_string())?;
            }
            // Nonces of this life start elsewhere than those of any earlier one.
            let elector_config = ElectorConfig::new(lead_config, boot_now().0 << 8, seed);
            let (core, outputs) =
                Elector::recover(elector_config, &opened.records, Incarnation::random(), boot_now())
                    .map_err(|e| format!("{ELECTION_JOURNAL}: {e}"))?;
            Ok(Started { core, journal: opened.journal, outputs, inputs: vec![ElectorInput::Tick] })
        }
        .boxed()
    })
}

/// Writes the journal of a member that founds the electorate of its cluster; one of an earlier life is replaced.
pub(super) fn found_electorate(folder: &std::path::Path, own: MemberId) -> Result<(), JournalError> {
    let voter = Voter { member: own, incarnation: Incarnation::random() };
    let mut opened = Journal::open(&folder.join(ELECTION_JOURNAL), WRITER)?;
    opened.journal.compact(&founding(voter, Vec::new()), WRITER)
}

async fn open<R: codeco_protocol::wire::WireMessage + Send + 'static>(
    path: PathBuf,
) -> Result<codeco_actors::journal::Opened<R>, String> {
    let opened = tokio::task::spawn_blocking(move || Journal::open(&path, WRITER)).await;
    let opened: Result<_, JournalError> = opened.map_err(|e| e.to_string())?;
    let opened = opened.map_err(|e| e.to_string())?;
    if opened.torn > 0 {
        tracing::warn!(bytes = opened.torn, "the last record of a journal was torn by a crash and cut off");
    }
    Ok(opened)
}

/// Labels people gave, and those every node has.
fn node_labels(config: &AgentConfig) -> Vec<(String, String)> {
    let mut labels = vec![
        ("kubernetes.io/hostname".to_owned(), config.name.to_string()),
        ("kubernetes.io/os".to_owned(), std::env::consts::OS.to_owned()),
        ("kubernetes.io/arch".to_owned(), std::env::consts::ARCH.to_owned()),
    ];
    for (key, value) in &config.labels {
        labels.retain(|(known, _)| known != key);
        labels.push((key.clone(), value.clone()));
    }
    labels
}

/// What happens around the ledger.
pub(super) struct LedgerEffects {
    pub(super) member: Arc<Member>,
    pub(super) workloads: Arc<Workloads>,
    pub(super) actor: ChildRef<WorkloadsMessage>,
}

impl LedgerEffects {
    fn pass(&self, message: WorkloadsMessage) {
        // When the actor has failed, its supervisor restarts the ledger after it, which then orders anew.
        let _ = self.actor.send(message);
    }
}

impl Effects<Ledger> for LedgerEffects {
    fn carry_out(&self, output: LedgerOutput) {
        match output {
            LedgerOutput::Start(workload) => self.pass(WorkloadsMessage::Start(workload, 0)),
            LedgerOutput::Stop { replica, token } => self.pass(WorkloadsMessage::Stop(replica, token)),
            LedgerOutput::LeaseUntil(until) => self.pass(WorkloadsMessage::Lease(until)),
            LedgerOutput::Note(note) => self.member.events.tell(ledger_note(&self.member, note)),
            LedgerOutput::Journal(_) | LedgerOutput::Send { .. } => {}
        }
    }

    fn observe(&self, ledger: &Ledger) {
        let ready = ledger.is_admitted() && ledger.lease_until() > boot_now();
        if ready {
            self.member.readiness.met("lease");
        } else {
            self.member.readiness.unmet("lease", "the cluster's lead has not granted one");
        }
        let reasons = self.member.readiness.reasons();
        self.member.update(|fact| {
            // Round trips never rest, and are for the lead, which gets them with its requests for a lease; the place in
            // the network is a fact of its own.
            fact.node = Some(NodeFacts { round_trips: Vec::new(), coordinate: None, ..ledger.facts() });
            fact.term = ledger.term();
            fact.not_ready = (!reasons.is_empty()).then(|| reasons.join("; "));
        });
        for (replica, entry) in ledger.entries() {
            if let (Some(_), Some(spec)) = (entry.slot.held, &entry.spec) {
                self.member.learn_app(replica.app, &spec.app);
            }
        }
        let facts = replica_facts(ledger, |replica, token| {
            let run = self.workloads.run_of(replica, token)?;
            Some(RunWords { message: run.message, pid: run.pid, restarts: run.restarts, since: run.since })
        });
        let news = self.member.commons.publish(|state| {
            state.retain("replica/", &|key| facts.iter().any(|(known, _)| known == key));
            for (key, fact) in facts {
                state.set(&key, Fact::Replica(Box::new(fact)));
            }
        });
        if news {
            self.member.commons.tell_soon();
        }
    }
}

fn ledger_note(member: &Member, note: LedgerNote) -> Note {
    let (kind, reason, message) = match note {
        LedgerNote::SlotsExhausted => (
            EventType::Warning,
            "SlotsExhausted",
            "the table of replicas is full: an order was not answered".into(),
        ),
        LedgerNote::UnknownWorkload(replica, token) => (
            EventType::Warning,
            "UnknownWorkload",
            format!(
                "{replica} ran under token {token}, which the journal does not hold; it is being stopped"
            ),
        ),
        LedgerNote::TakenOver(replica, token) => (
            EventType::Normal,
            "TakenOver",
            format!(
                "{} still ran under token {token} after the journal was lost; it is kept",
                member.replica_name(&replica)
            ),
        ),
        LedgerNote::StaleOrder(term) => {
            (EventType::Warning, "StaleOrder", format!("an order of term {term} was refused"))
        }
        LedgerNote::Upkeep(Upkeep::Open) => {
            (EventType::Normal, "Opened", "an operator lets work come to this node again".into())
        }
        LedgerNote::Upkeep(Upkeep::Cordoned) => {
            (EventType::Normal, "Cordoned", "an operator keeps new work away from this node".into())
        }
        LedgerNote::Upkeep(Upkeep::Draining) => {
            (EventType::Normal, "Draining", "an operator has the work of this node moved elsewhere".into())
        }
        LedgerNote::LeaseEnded => (
            EventType::Warning,
            "LeaseEnded",
            "no lead has answered in time: replicas that need a lease are stopped, all others run on".into(),
        ),
    };
    Note { kind, reason, object_kind: "Node", object: member.name.clone(), message }
}

/// What happens around the elector, and the lead it may be.
pub(super) struct ElectorEffects {
    pub(super) member: Arc<Member>,
    pub(super) cluster: ClusterName,
    pub(super) name: NodeName,
    pub(super) labels: Vec<(String, String)>,
    pub(super) seat: Arc<Seat>,
    /// When the brake that is engaged came, by both clocks.
    pub(super) braked: Mutex<Option<(BootTime, WallTime)>>,
    /// What was published last, and when.
    pub(super) told: Mutex<Option<(BootTime, Gist)>>,
}

/// The rest, such as what is free, is read and published this often: it takes a look at everything of each node, and a
/// lead gets some messages from each of them in a second.
const REST_EVERY: Micros = Micros::from_millis(250);

impl Effects<Elector> for ElectorEffects {
    fn carry_out(&self, output: ElectorOutput) {
        match output {
            ElectorOutput::Lead(LeadOutput::Decided(decision)) => {
                self.member.decisions.keep(&decision);
            }
            ElectorOutput::Lead(LeadOutput::Note(note)) => {
                self.member.events.tell(lead_note(&self.member, &self.cluster, note));
            }
            ElectorOutput::Note(note) => {
                self.member.events.tell(elector_note(&self.member, &self.cluster, note));
            }
            ElectorOutput::Lead(_) | ElectorOutput::Journal(_) | ElectorOutput::Send { .. } => {}
        }
    }

    fn observe(&self, elector: &Elector) {
        let now = boot_now();
        let office = elector.in_office();
        if self.seat.set(office.map(Lead::term), elector.peers().collect()) {
            self.member.commons.touch();
        }
        match office {
            // One whose lease has lapsed says nothing new: what it said last is known with its age.
            Some(lead) if elector.leads(now) => {
                let gist = Gist::of(lead, elector);
                let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
                let known = told.is_some_and(|(at, known)| known == gist && now.since(at) < REST_EVERY);
                if !known {
                    *told = Some((now, gist));
                    self.publish(lead, elector, now);
                }
            }
            Some(_) => {}
            None => {
                *self.told.lock().unwrap_or_else(PoisonError::into_inner) = None;
                self.member.commons.publish(|state| {
                    state.retain("cluster", &|_| false);
                    state.retain("electorate", &|_| false);
                    state.retain("brake", &|_| false);
                });
            }
        }
    }
}

impl ElectorEffects {
    fn publish(&self, lead: &Lead, elector: &Elector, now: BootTime) {
        for (replica, mandate) in lead.mandates() {
            self.member.learn_app(replica.app, &mandate.context.name);
        }
        let fact = cluster_fact(&self.cluster, &self.name, &self.labels, lead);
        let commons = &self.member.commons;
        let before = commons.own_fact("cluster");
        let known = matches!(&before, Some(Fact::Cluster(known)) if (known.term, known.ready) == (fact.term, fact.ready));
        commons.publish_fact("cluster", Fact::Cluster(Box::new(fact)));
        if !known {
            // Nobody has a lead before he hears of it.
            commons.tell_now();
        }
        let Some(fact) = electorate_fact(lead, elector, now) else { return };
        self.member.commons.publish_fact("electorate", Fact::Electorate(Box::new(fact)));
        self.publish_brake(lead);
    }

    fn publish_brake(&self, lead: &Lead) {
        let mut braked = self.braked.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(brake) = lead.brake() else {
            if braked.take().is_some() {
                self.member.commons.publish(|state| {
                    state.retain("brake", &|_| false);
                });
            }
            return;
        };
        let since = match *braked {
            Some((known, wall)) if known == brake.since => wall,
            _ => wall_now(),
        };
        *braked = Some((brake.since, since));
        let fact = brake_fact(lead, brake.missing, brake.held, since);
        self.member.commons.publish_fact("brake", Fact::Brake(Box::new(fact)));
    }
}

fn elector_note(member: &Member, cluster: &ClusterName, note: ElectorNote) -> Note {
    let name = |id: MemberId| {
        let view = member.commons.view(id).and_then(|view| view.member().map(|fact| fact.name.clone()));
        view.unwrap_or_else(|| if id == member.commons.own.id { member.name.clone() } else { id.to_string() })
    };
    let voters = |electorate: &Electorate| {
        let names: Vec<String> = electorate.voters().map(|(voter, _)| name(voter.member)).collect();
        format!("version {} is {}", electorate.version(), names.join(", "))
    };
    let (kind, reason, message) = match note {
        ElectorNote::Elected(term) => (
            EventType::Normal,
            "Elected",
            format!("a majority of the voters has chosen {} for term {}", member.name, term.number),
        ),
        ElectorNote::Resigned(term, why) => (
            EventType::Warning,
            "Resigned",
            format!("{} leads no longer, term {}: {why}", member.name, term.number),
        ),
        ElectorNote::ElectorateChanged { electorate, added, removed } => {
            let added = added.map(|voter| format!("{} votes now; ", name(voter.member)));
            let removed = removed.map(|voter| format!("{} votes no longer; ", name(voter.member)));
            let change = added.or(removed).unwrap_or_default();
            (EventType::Normal, "ElectorateChanged", format!("{change}{}", voters(&electorate)))
        }
        ElectorNote::Imposed(electorate) => (
            EventType::Warning,
            "ElectorateReplaced",
            format!("by an operator's word {} votes alone; {}", member.name, voters(&electorate)),
        ),
        ElectorNote::BadSnapshot(why) => (
            EventType::Warning,
            "BadSnapshot",
            format!("records of the lead cannot be read and were not taken: {why}"),
        ),
    };
    Note { kind, reason, object_kind: "Cluster", object: cluster.to_string(), message }
}

fn lead_note(member: &Member, cluster: &ClusterName, note: LeadNote) -> Note {
    use EventType::{Normal, Warning};
    let of_cluster = |kind, reason, message| Note {
        kind,
        reason,
        object_kind: "Cluster",
        object: cluster.to_string(),
        message,
    };
    let of_node = |kind, reason, name: &NodeName, message: String| Note {
        kind,
        reason,
        object_kind: "Node",
        object: name.to_string(),
        message,
    };
    let of_replica = |kind, reason, replica: &codeco_protocol::ids::ReplicaId, message| Note {
        kind,
        reason,
        object_kind: "Replica",
        object: member.replica_name(replica),
        message,
    };
    match note {
        LeadNote::TookOffice(term) => {
            of_cluster(Normal, "TookOffice", format!("a lead took office, term {term}"))
        }
        LeadNote::Ready(term) => of_cluster(
            Normal,
            "LeadReady",
            format!("every node has reported to term {term} or was waited out; decisions are made"),
        ),
        LeadNote::Enrolled(name) => of_node(Normal, "NodeJoined", &name, format!("joined cluster {cluster}")),
        LeadNote::NodeLost(name) => of_node(
            Warning,
            "NodeLost",
            &name,
            "does not answer and its lease has ended: its replicas are placed elsewhere".into(),
        ),
        LeadNote::Forgotten(name) => {
            of_node(Normal, "NodeForgotten", &name, "was removed from the cluster by an operator".into())
        }
        LeadNote::NodeBack(name) => of_node(Normal, "NodeBack", &name, "answers again".into()),
        LeadNote::Unplaceable(replica, why) => {
            of_replica(Warning, "Unplaceable", &replica, format!("no node can run it: {why}"))
        }
        LeadNote::Placed(replica, node, token) => {
            of_replica(Normal, "Placed", &replica, format!("promised by node {node} under token {token}"))
        }
        LeadNote::Overlaps(replica, node, token) => of_replica(
            Normal,
            "Replacing",
            &replica,
            format!("the copy on node {node} under token {token} serves on until the next one is ready"),
        ),
        LeadNote::Revoked(replica, node, token) => of_replica(
            Normal,
            "Revoked",
            &replica,
            format!("the copy on node {node} under token {token} is stopped: another one took its place"),
        ),
        LeadNote::Adopted(replica, node, token) => of_replica(
            Normal,
            "Adopted",
            &replica,
            format!("runs on node {node} under token {token}, and is kept"),
        ),
        LeadNote::HandedBack(replica, why) => {
            of_replica(Normal, "HandedBack", &replica, format!("the mandate went back to its home: {why}"))
        }
        LeadNote::HomeLost(replica) => of_replica(
            Warning,
            "HomeLost",
            &replica,
            "its home has been silent for lostAfter: it is stopped here before it may start elsewhere".into(),
        ),
        LeadNote::HomeHeard(replica) => {
            of_replica(Normal, "HomeHeard", &replica, "its home is heard again: it may run here".into())
        }
        LeadNote::Rehomed(replica, home) => of_replica(
            Normal,
            "Rehomed",
            &replica,
            format!("{} speaks for it now, under epoch {}; what runs is left alone", home.owner, home.number),
        ),
        LeadNote::BrakeEngaged(missing) => of_cluster(
            Warning,
            "BrakeEngaged",
            format!(
                "{} of {} nodes went missing at once: what was left behind there waits for them, until enough are back \
                 or an operator says `codeco brake release {cluster}`",
                missing.silent, missing.of
            ),
        ),
        LeadNote::BrakeReleased { by_operator } => of_cluster(
            Normal,
            "BrakeReleased",
            if by_operator {
                "by an operator's word the nodes that are missing are gone: what was left behind there is placed anew"
            } else {
                "enough nodes are back: what is still missing is placed anew"
            }
            .into(),
        ),
        LeadNote::Unassured(replica, link) => of_replica(
            Warning,
            "Unassured",
            &replica,
            format!("runs on without the bandwidth of its ASSURED channels: {link}"),
        ),
        LeadNote::Ignored(what) => of_cluster(Warning, "MessageIgnored", what),
    }
}
