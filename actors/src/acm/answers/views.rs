//! From what the hub knows to what people read.

use std::collections::BTreeMap;

use crate::clock::wall_now;
use crate::evidence::profile_of;
use crate::fabric::Commons;
use crate::swm::home::{App, Home, HomeReplica, Progress};
use codeco_protocol::api::{
    AppPhase, AppView, ChannelView, ClusterStatus, ClusterView, Condition, ConditionStatus, ElectorateView,
    NodeStatus, NodeView, ReplicaPhase, ReplicaView, ServiceView, VoterView,
};
use codeco_protocol::gossip::{BrakeFact, ElectorateFact, Liveness, ReplicaFact, View};
use codeco_protocol::ids::{AppUid, ClusterName, NodeName, ReplicaId, ServiceName};
use codeco_protocol::messages::{HeldPhase, RunPhase};
use codeco_protocol::resources::Resources;
use codeco_protocol::units::{BootTime, WallTime};

/// A view older than this is stale: its owner's heartbeat is late.
const STALE_MS: u64 = 3_500;

/// An application as its home has it, taken out of the home actor.
#[derive(Debug, Clone)]
pub(super) struct AppSnapshot {
    pub(super) uid: AppUid,
    pub(super) app: App,
    /// How far changes of its services have come.
    pub(super) changes: Vec<(ServiceName, Progress)>,
    /// Where its home is, if not here.
    pub(super) home: Option<String>,
}

/// All applications of a home.
pub(super) fn snapshot(home: &Home) -> Vec<AppSnapshot> {
    home.apps()
        .map(|(uid, app)| {
            let names = app.spec.services.iter().map(|service| service.name.clone());
            let changes = names.map(|name| (name.clone(), home.progress(uid, &name))).collect();
            AppSnapshot { uid, app: app.clone(), changes, home: None }
        })
        .collect()
}

/// A copy of a replica, in the words of its node.
#[derive(Debug, Clone)]
struct Copy {
    fact: ReplicaFact,
    cluster: ClusterName,
    node: Option<NodeName>,
    liveness: Liveness,
    /// Why the node, though it is heard, cannot know how its replicas are.
    blind: Option<String>,
    age_ms: u64,
}

/// All copies the hub has heard of, newest token first.
pub(super) struct Copies(BTreeMap<ReplicaId, Vec<Copy>>);

impl Copies {
    pub(super) fn of(commons: &Commons, now: BootTime) -> Self {
        let mut copies: BTreeMap<ReplicaId, Vec<Copy>> = BTreeMap::new();
        let own = commons.own_view(now);
        commons.with_views(|views| {
            for view in views.iter().chain(std::iter::once(&own)) {
                let Some(cluster) = view.identity.cluster() else { continue };
                let liveness = liveness(commons, view).unwrap_or(Liveness::Dead);
                let blind = view.member().and_then(|member| blind(member.not_ready.as_deref()?));
                for fact in view.replicas() {
                    copies.entry(fact.replica.clone()).or_default().push(Copy {
                        fact: fact.clone(),
                        cluster: cluster.clone(),
                        node: view.member().and_then(|member| NodeName::new(member.name.clone()).ok()),
                        liveness,
                        blind: blind.clone(),
                        age_ms: view.age(now).0 / 1_000,
                    });
                }
            }
        });
        for list in copies.values_mut() {
            list.sort_by_key(|copy| std::cmp::Reverse(copy.fact.token));
        }
        Self(copies)
    }

    /// On which node a replica runs, for its logs: a live copy before a silent one.
    pub(super) fn node_of(&self, replica: &ReplicaId) -> Option<(ClusterName, NodeName)> {
        let list = self.0.get(replica)?;
        let alive = |copy: &&Copy| copy.liveness == Liveness::Alive;
        let copy = list.iter().find(alive).or_else(|| list.first())?;
        Some((copy.cluster.clone(), copy.node.clone()?))
    }
}

/// The rows of an application's replicas: one for each wanted or held replica, and one for every further copy.
pub(super) fn replica_views(snapshot: &AppSnapshot, copies: &Copies) -> Vec<ReplicaView> {
    let mut rows = Vec::new();
    for ((service, index), replica) in &snapshot.app.replicas {
        if replica.mandate.is_none() && !snapshot.app.wants(service, *index) {
            continue;
        }
        let id = ReplicaId { app: snapshot.uid, service: service.clone(), index: *index };
        let none = Vec::new();
        let list = copies.0.get(&id).unwrap_or(&none);
        let accepted = replica.mandate.as_ref().and_then(|mandate| mandate.accepted.as_ref());
        let main = list
            .iter()
            .find(|copy| accepted.is_some_and(|(.., token)| copy.fact.token == *token))
            .or_else(|| list.first());
        rows.push(main_row(snapshot, service, *index, replica, main));
        for copy in list.iter().filter(|copy| main.is_none_or(|main| main.fact.token != copy.fact.token)) {
            let mut row = copy_row(snapshot, service, *index, copy);
            if copy.liveness != Liveness::Alive && row.ready {
                // It ran when its node was last heard; another one runs now, and this one must not pass for a second.
                row.ready = false;
                row.phase = ReplicaPhase::Unknown;
            }
            row.message = join("a further copy of this replica", &row.message);
            rows.push(row);
        }
    }
    rows
}

/// Whether a node that is not ready for these reasons has lost what keeps account of its replicas: what it last said of
/// them is then the past, however fresh its heartbeat.
fn blind(not_ready: &str) -> Option<String> {
    let lost = ["/ledger is given up on", "/workloads is given up on"];
    let of_account = |reason: &&str| lost.iter().any(|end| reason.ends_with(end));
    not_ready.split("; ").find(of_account).map(ToOwned::to_owned)
}

fn join(first: &str, second: &str) -> String {
    if second.is_empty() { first.to_owned() } else { format!("{first}; {second}") }
}

fn main_row(
    snapshot: &AppSnapshot,
    service: &ServiceName,
    index: u32,
    replica: &HomeReplica,
    copy: Option<&Copy>,
) -> ReplicaView {
    if let Some(copy) = copy {
        let mut row = copy_row(snapshot, service, index, copy);
        row.mandate = replica.mandate.as_ref().map(|mandate| mandate.id.0);
        return row;
    }
    let mut row = empty_row(snapshot, service, index);
    let Some(mandate) = &replica.mandate else {
        row.message = replica.waiting.clone().unwrap_or_else(|| "asking clusters for bids".into());
        return row;
    };
    row.mandate = Some(mandate.id.0);
    row.cluster = Some(mandate.cluster.clone());
    if mandate.recalling {
        row.phase = ReplicaPhase::Stopping;
        row.message =
            format!("waiting for cluster {} to give mandate {} back", mandate.cluster, mandate.id.0);
    } else if let Some((_, node, token)) = &mandate.accepted {
        row.node = Some(node.clone());
        row.token = Some(token.to_string());
        match mandate.run {
            Some(run) => {
                row.phase = running(run);
                row.ready = row.phase == ReplicaPhase::Running;
                row.message = format!("in the words of the lead of {}", mandate.cluster);
            }
            None => {
                row.phase = ReplicaPhase::Unknown;
                row.message = format!("node {node} has promised it, but says nothing of it");
            }
        }
    } else {
        row.phase = ReplicaPhase::Reserving;
        row.message =
            format!("cluster {} has mandate {} and looks for a node", mandate.cluster, mandate.id.0);
    }
    row
}

fn running(run: RunPhase) -> ReplicaPhase {
    match run {
        RunPhase::Waiting | RunPhase::Starting => ReplicaPhase::Starting,
        RunPhase::Ready => ReplicaPhase::Running,
        RunPhase::Finished => ReplicaPhase::Finished,
        RunPhase::Failed => ReplicaPhase::Failed,
    }
}

fn empty_row(snapshot: &AppSnapshot, service: &ServiceName, index: u32) -> ReplicaView {
    let context = &snapshot.app.spec.context;
    ReplicaView {
        app: context.name.clone(),
        namespace: context.namespace.clone(),
        service: service.clone(),
        index,
        cluster: None,
        node: None,
        phase: ReplicaPhase::Pending,
        ready: false,
        token: None,
        decision: None,
        since: snapshot.app.created,
        restarts: 0,
        message: String::new(),
        pid: None,
        mandate: None,
        stale: false,
        age_ms: 0,
    }
}

fn copy_row(snapshot: &AppSnapshot, service: &ServiceName, index: u32, copy: &Copy) -> ReplicaView {
    let mut row = empty_row(snapshot, service, index);
    let state = &copy.fact.state;
    row.cluster = Some(copy.cluster.clone());
    row.node.clone_from(&copy.node);
    row.token = Some(copy.fact.token.to_string());
    row.restarts = state.restarts;
    row.pid = state.pid;
    row.age_ms = copy.age_ms;
    row.stale = copy.age_ms > STALE_MS || copy.blind.is_some();
    if copy.fact.since != WallTime(0) {
        row.since = copy.fact.since;
    }
    row.message = state.message.clone().unwrap_or_default();
    let silent = matches!(copy.liveness, Liveness::Dead | Liveness::Left) || copy.age_ms > STALE_MS;
    row.phase = match (state.held, state.run) {
        _ if silent => ReplicaPhase::Lost,
        _ if copy.blind.is_some() => ReplicaPhase::Unknown,
        (HeldPhase::Stopping, _) => ReplicaPhase::Stopping,
        (HeldPhase::Reserved, _) => ReplicaPhase::Reserving,
        (HeldPhase::Committed, run) => running(run),
    };
    row.ready = row.phase == ReplicaPhase::Running;
    if let (false, Some(why)) = (silent, &copy.blind) {
        row.message = join(&format!("its node cannot tell how it is: {why}"), &row.message);
    }
    if silent {
        let node = copy.node.as_ref().map_or_else(|| "its node".to_owned(), |node| format!("node {node}"));
        row.message = join(&format!("{node} has not been heard for {} s", copy.age_ms / 1_000), &row.message);
    }
    row
}

/// An application with its status.
pub(super) fn app_view(snapshot: &AppSnapshot, rows: &[ReplicaView]) -> AppView {
    let app = &snapshot.app;
    let wanted: u32 = app.spec.services.iter().map(|service| service.replicas).sum();
    let ready_of = |service: &ServiceName| {
        count(rows.iter().filter(|row| row.service == *service && row.ready && !is_copy(row)))
    };
    let ready: u32 =
        app.spec.services.iter().map(|service| ready_of(&service.name).min(service.replicas)).sum();
    let mut clusters: Vec<ClusterName> = rows.iter().filter_map(|row| row.cluster.clone()).collect();
    clusters.sort();
    clusters.dedup();
    let accepted = |key: &(ServiceName, u32), replica: &HomeReplica| {
        let generation = app.spec.services.iter().find(|s| s.name == key.0).map(|s| s.spec.generation);
        let promised = replica.mandate.as_ref().and_then(|m| m.accepted.as_ref()).map(|(g, ..)| *g);
        !app.wants(&key.0, key.1) || promised >= generation
    };
    let settled = app.replicas.iter().all(|(key, replica)| accepted(key, replica));
    AppView {
        namespace: app.spec.context.namespace.clone(),
        name: app.spec.context.name.clone(),
        uid: snapshot.uid,
        generation: app.generation,
        observed_generation: if settled { app.generation } else { app.generation - 1 },
        phase: phase(app, rows, wanted, ready),
        profile: profile_of(app.spec.context.profile),
        replicas_wanted: wanted,
        replicas_ready: ready,
        clusters,
        created_at: app.created,
        home: snapshot.home.clone(),
        durable_on: 1 + count(app.keepers()),
        conditions: {
            let mut conditions = conditions(rows, wanted, ready);
            conditions.extend(changing(&snapshot.changes, rows));
            conditions
        },
        services: app
            .spec
            .services
            .iter()
            .map(|service| ServiceView {
                name: service.name.clone(),
                replicas_wanted: service.replicas,
                replicas_ready: ready_of(&service.name).min(service.replicas),
                resources: service.spec.resources.clone(),
                partition_policy: service.spec.partition.into(),
            })
            .collect(),
        channels: app
            .spec
            .context
            .channels
            .iter()
            .map(|channel| ChannelView {
                name: channel.name.clone(),
                from: channel.from.clone(),
                to_app: channel.to_app.clone(),
                to: channel.to.clone(),
                assured: channel.assured,
                bandwidth: channel.bandwidth,
                delay_max: channel.delay_max,
            })
            .collect(),
        intents: super::intents::effective(&app.spec.manifest_json),
    }
}

fn is_copy(row: &ReplicaView) -> bool {
    row.mandate.is_none()
}

fn count<T>(items: impl Iterator<Item = T>) -> u32 {
    u32::try_from(items.count()).unwrap_or(u32::MAX)
}

fn phase(app: &App, rows: &[ReplicaView], wanted: u32, ready: u32) -> AppPhase {
    use ReplicaPhase as P;
    let any = |phases: &[P]| rows.iter().any(|row| !is_copy(row) && phases.contains(&row.phase));
    if app.deleting {
        AppPhase::Deleting
    } else if ready >= wanted {
        AppPhase::Running
    } else if any(&[P::Lost, P::Failed, P::Unknown, P::Finished]) {
        AppPhase::Degraded
    } else if rows.iter().all(|row| row.phase == P::Pending) {
        AppPhase::Pending
    } else {
        AppPhase::Placing
    }
}

/// Services that are being changed or drained, and what they wait for.
fn changing(changes: &[(ServiceName, Progress)], rows: &[ReplicaView]) -> Option<Condition> {
    let told: Vec<String> = changes
        .iter()
        .filter(|(_, progress)| progress.is_under_way())
        .map(|(service, p)| {
            let list = |indices: &[u32]| indices.iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
            let mut text = format!("{service}: {} of {} are as wanted", p.current, p.wanted);
            if !p.moving.is_empty() {
                text += &format!("; being replaced: {}", list(&p.moving));
            }
            if !p.waiting.is_empty() {
                text += &format!("; wait until those are ready: {}", list(&p.waiting));
            }
            text
        })
        .collect();
    (!told.is_empty()).then(|| Condition {
        kind: "Progressing".into(),
        status: ConditionStatus::True,
        reason: "Replacing".into(),
        message: told.join("; "),
        last_transition_time: rows.iter().map(|row| row.since).max().unwrap_or_else(wall_now),
    })
}

fn conditions(rows: &[ReplicaView], wanted: u32, ready: u32) -> Vec<Condition> {
    let unplaced: Vec<&ReplicaView> = rows.iter().filter(|row| row.token.is_none()).collect();
    let since = |rows: &[&ReplicaView]| rows.iter().map(|row| row.since).max().unwrap_or_else(wall_now);
    let all: Vec<&ReplicaView> = rows.iter().collect();
    let placed = Condition {
        kind: "Placed".into(),
        status: if unplaced.is_empty() { ConditionStatus::True } else { ConditionStatus::False },
        reason: if unplaced.is_empty() { "AllPlaced".into() } else { "ReplicasUnplaced".into() },
        message: match unplaced.first() {
            None => "every replica has a node".into(),
            Some(row) => format!(
                "{} of {wanted} replicas have no node: {}-{}: {}",
                unplaced.len(),
                row.service,
                row.index,
                row.message
            ),
        },
        last_transition_time: since(&all),
    };
    let missing = rows.iter().find(|row| !row.ready && !is_copy(row));
    let is_ready = Condition {
        kind: "Ready".into(),
        status: if ready >= wanted { ConditionStatus::True } else { ConditionStatus::False },
        reason: if ready >= wanted { "AllReady".into() } else { "ReplicasNotReady".into() },
        message: match missing {
            Some(row) if ready < wanted => {
                format!(
                    "{ready} of {wanted} replicas are ready; {}-{} is {:?}: {}",
                    row.service, row.index, row.phase, row.message
                )
            }
            _ => format!("{ready} of {wanted} replicas are ready"),
        },
        last_transition_time: since(&all),
    };
    vec![placed, is_ready]
}

/// What is believed of a member; of this very one there is no doubt.
fn liveness(commons: &Commons, view: &View) -> Option<Liveness> {
    if view.identity == commons.own { Some(Liveness::Alive) } else { commons.liveness(view.identity.id) }
}

/// A node in its own words, and how fresh they are.
pub(super) fn node_view(commons: &Commons, view: &View, now: BootTime) -> Option<NodeView> {
    let cluster = view.identity.cluster()?.clone();
    let member = view.member()?;
    let name = NodeName::new(member.name.clone()).ok()?;
    let age_ms = view.age(now).0 / 1_000;
    let liveness = liveness(commons, view);
    let status = match liveness {
        Some(Liveness::Alive | Liveness::Suspect) if member.cut_off => NodeStatus::CutOff,
        Some(Liveness::Alive | Liveness::Suspect) if member.node.is_none() => NodeStatus::Joining,
        Some(Liveness::Alive | Liveness::Suspect) if member.not_ready.is_none() => NodeStatus::Ready,
        Some(Liveness::Alive | Liveness::Suspect) => NodeStatus::NotReady,
        Some(Liveness::Dead | Liveness::Left) | None => NodeStatus::Unknown,
    };
    let facts = member.node.as_ref();
    let (capacity, free) = facts.map_or_else(
        || (Resources::default(), Resources::default()),
        |facts| (facts.capacity.clone(), facts.free.clone()),
    );
    let ready = status == NodeStatus::Ready;
    let message = match (&member.not_ready, status) {
        (_, NodeStatus::Unknown) => format!("has not been heard for {} s", age_ms / 1_000),
        (Some(why), _) => why.clone(),
        (None, _) => "holds a lease of its lead".into(),
    };
    let mut conditions = vec![Condition {
        kind: "Ready".into(),
        status: match status {
            NodeStatus::Ready => ConditionStatus::True,
            NodeStatus::Unknown => ConditionStatus::Unknown,
            _ => ConditionStatus::False,
        },
        reason: format!("{status:?}"),
        message,
        last_transition_time: member.started,
    }];
    let expired = member.certificate_expires < wall_now();
    if expired {
        conditions.push(Condition {
            kind: "CertificateExpired".into(),
            status: ConditionStatus::True,
            reason: "RenewOnly".into(),
            message: "its certificate has expired: it may only renew it".into(),
            last_transition_time: member.certificate_expires,
        });
    }
    conditions.extend(super::certs::conditions(commons, view));
    Some(NodeView {
        name,
        cluster,
        id: view.identity.id,
        ready,
        status,
        lead: member.lead == Some(view.identity.id),
        used: capacity.minus(&free),
        capacity,
        free,
        replicas: count(view.replicas()),
        version: member.version.clone(),
        incarnation: facts.map(|facts| facts.incarnation),
        certificate_expires: Some(member.certificate_expires),
        address: member.address.map(|address| address.to_string()),
        age_ms,
        conditions,
        labels: facts.map(|facts| facts.labels.iter().cloned().collect()).unwrap_or_default(),
        facts: crate::mdm::fact_views(view, now),
    })
}

/// Clusters: those whose lead describes them, and those of which only nodes are known.
pub(super) fn cluster_views(commons: &Commons, nodes: &[NodeView], now: BootTime) -> Vec<ClusterView> {
    let mut rows: BTreeMap<ClusterName, ClusterView> = BTreeMap::new();
    let own = commons.own_view(now);
    commons.with_views(|views| {
        for view in views.iter().chain(std::iter::once(&own)) {
            let Some(fact) = view.cluster() else { continue };
            if view.identity.cluster() != Some(&fact.cluster)
                || rows.get(&fact.cluster).is_some_and(|known| known.term >= fact.term.number)
            {
                continue;
            }
            let alive = matches!(liveness(commons, view), Some(Liveness::Alive | Liveness::Suspect));
            let status = match (alive, fact.ready && fact.nodes_ready == fact.nodes) {
                (false, _) => ClusterStatus::NoLead,
                (true, true) => ClusterStatus::Ready,
                (true, false) => ClusterStatus::Degraded,
            };
            rows.insert(
                fact.cluster.clone(),
                ClusterView {
                    name: fact.cluster.clone(),
                    lead: Some(fact.lead.clone()),
                    term: fact.term.number,
                    electorate: view.electorate().map(|electorate| electorate_view(electorate, nodes)),
                    nodes_ready: fact.nodes_ready,
                    nodes: fact.nodes,
                    capacity: fact.capacity.clone(),
                    free: fact.free.clone(),
                    replicas: fact.mandates,
                    status,
                    conditions: view.brake().map(|brake| braked(&fact.cluster, brake)).into_iter().collect(),
                    age_ms: view.age(now).0 / 1_000,
                },
            );
        }
    });
    for node in nodes {
        rows.entry(node.cluster.clone()).or_insert_with(|| ClusterView {
            name: node.cluster.clone(),
            lead: None,
            term: 0,
            electorate: None,
            nodes_ready: 0,
            nodes: 0,
            capacity: Resources::default(),
            free: Resources::default(),
            replicas: 0,
            status: ClusterStatus::NoLead,
            conditions: Vec::new(),
            age_ms: node.age_ms,
        });
    }
    rows.into_values().collect()
}

fn braked(cluster: &ClusterName, fact: &BrakeFact) -> Condition {
    Condition {
        kind: "Braked".into(),
        status: ConditionStatus::True,
        reason: "MostNodesMissing".into(),
        message: format!(
            "{} of {} nodes went missing at once: {} replicas wait for them, until enough are back or an operator says \
             `codeco brake release {cluster}`",
            fact.missing, fact.of, fact.held
        ),
        last_transition_time: fact.since,
    }
}

fn electorate_view(fact: &ElectorateFact, nodes: &[NodeView]) -> ElectorateView {
    let name = |id| nodes.iter().find(|node| node.id == id).map(|node| node.name.to_string());
    let voters = fact.voters.iter().map(|voter| VoterView {
        node: name(voter.member).unwrap_or_else(|| voter.member.to_string()),
        incarnation: voter.life,
        witness: voter.witness,
        answers: voter.answers,
    });
    ElectorateView { version: fact.version, voters: voters.collect() }
}
