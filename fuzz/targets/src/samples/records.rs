//! Records of journals: one of each, in an order that could come about.

use codeco_actors::swm::election::elector::{ElectionRecord, Entry, founding};
use codeco_actors::swm::election::electorate::{Electorate, Role, Voter};
use codeco_actors::swm::home::{AppRecords, AppSpec, HomeRecord, Pick, ServiceSpec};
use codeco_actors::swm::lead::LeadRecord;
use codeco_actors::swm::ledger::{LedgerRecord, Upkeep};
use codeco_protocol::api::OnReconnect;
use codeco_protocol::election::Position;
use codeco_protocol::ids::MemberId;
use codeco_protocol::token::MandateId;
use codeco_protocol::units::{Micros, WallTime};
use codeco_protocol::wire;

use super::{
    APP, LIFE, OTHER, OWN, cluster, context, epoch, node_name, replica, resources, rules, service, term,
    token, workload_spec,
};

pub(crate) fn app_spec() -> AppSpec {
    let one = |name: &str| ServiceSpec {
        name: service(name),
        replicas: 2,
        spec: workload_spec(),
        node_selector: vec![],
        cluster_selector: vec![],
        max_unavailable: 1,
        on_reconnect: OnReconnect::KeepNewest,
        spread: Default::default(),
        regions: vec![],
    };
    AppSpec { context: context(), services: vec![one("front"), one("back")], manifest_json: "{}".to_owned() }
}

pub(crate) fn ledger_records() -> Vec<LedgerRecord> {
    let token = token(1, term(1, OTHER), 1);
    vec![
        LedgerRecord::Opened { node: OWN, incarnation: LIFE },
        LedgerRecord::Term(term(1, OTHER)),
        LedgerRecord::Admitted,
        LedgerRecord::Reserved { replica: replica(0), token, resources: resources(100) },
        LedgerRecord::Committed { replica: replica(0), token, spec: workload_spec() },
        LedgerRecord::Reserved { replica: replica(1), token, resources: resources(100) },
        LedgerRecord::Upkeep(Upkeep::Draining),
        LedgerRecord::Stopping { replica: replica(0), token },
        LedgerRecord::Closed { replica: replica(1), token },
    ]
}

pub(crate) fn home_records() -> Vec<HomeRecord> {
    let (mandate, first) = (MandateId(1), replica(0));
    let replica = || first.clone();
    let copy = AppRecords(vec![HomeRecord::Applied {
        app: APP,
        epoch: epoch(1, OTHER),
        generation: 1,
        spec: app_spec(),
        created: WallTime(1),
    }]);
    vec![
        HomeRecord::Applied {
            app: APP,
            epoch: epoch(1, OWN),
            generation: 1,
            spec: app_spec(),
            created: WallTime(1),
        },
        HomeRecord::Mandated { replica: replica(), mandate, cluster: cluster("c") },
        HomeRecord::Bounded { replica: replica(), mandate, limit: Some(Micros(9)), grace: Micros(3) },
        HomeRecord::Offered { replica: replica(), mandate, term: term(1, OTHER) },
        HomeRecord::Rolling {
            replica: replica(),
            mandate,
            pick: Some(Pick { generation: 1, stop_first: true }),
        },
        HomeRecord::Lost { replica: replica(), mandate, recalled: false },
        HomeRecord::Mandated { replica: replica(), mandate: MandateId(2), cluster: cluster("d") },
        HomeRecord::Reconciled { replica: replica(), keep: mandate },
        HomeRecord::Recalling { replica: replica(), mandate: MandateId(2) },
        HomeRecord::HandedBack { replica: replica(), mandate: MandateId(2) },
        HomeRecord::ClusterDrained { cluster: cluster("d"), drained: true },
        HomeRecord::KeptBy { app: APP, member: OTHER, epoch: epoch(1, OWN) },
        HomeRecord::Succeeds { app: APP, former: Some(MemberId(3)) },
        HomeRecord::Copied {
            app: codeco_protocol::ids::AppUid(6),
            epoch: epoch(1, OTHER),
            revision: 4,
            records: wire::encode(&copy).unwrap_or_default(),
        },
        HomeRecord::Deleting { app: APP },
        HomeRecord::Retired { app: APP, common: vec![(replica(), mandate)] },
    ]
}

/// Of [`home_records`], those that stand for the one application of another home.
pub(crate) fn app_records() -> Vec<HomeRecord> {
    let others = |record: &HomeRecord| {
        matches!(
            record,
            HomeRecord::ClusterDrained { .. } | HomeRecord::Copied { .. } | HomeRecord::Reconciled { .. }
        )
    };
    let mut records = home_records();
    records.retain(|record| !others(record));
    if let HomeRecord::Applied { epoch: right, .. } = &mut records[0] {
        *right = epoch(1, OTHER);
    }
    records
}

/// A copy that holds a copy, and so on.
pub(crate) fn nested_copies(depth: usize) -> Vec<HomeRecord> {
    (0..depth).fold(app_records()[..1].to_vec(), |inner, _| {
        let records = wire::encode(&AppRecords(inner)).unwrap_or_default();
        vec![HomeRecord::Copied { app: APP, epoch: epoch(1, OTHER), revision: 1, records }]
    })
}

pub(crate) fn lead_records() -> Vec<LeadRecord> {
    let mandate = MandateId(1);
    vec![
        LeadRecord::Term(term(1, OWN)),
        LeadRecord::Enrolled { node: OTHER, name: node_name("n2") },
        LeadRecord::Mandated {
            replica: replica(0),
            epoch: epoch(1, OTHER),
            mandate,
            spec: workload_spec(),
            node_selector: vec![],
            context: context(),
            rules: rules(),
        },
        LeadRecord::Amended { replica: replica(0), context: context(), rules: rules() },
        LeadRecord::Rehomed { replica: replica(0), home: epoch(2, MemberId(3)) },
        LeadRecord::Owed { node: OTHER, replica: replica(0), token: token(1, term(1, OWN), 1) },
        LeadRecord::WaitedOut { node: OTHER, term: term(1, OWN) },
        LeadRecord::CountedOut { node: OTHER, out: true },
        LeadRecord::Settled { node: OTHER, replica: replica(0) },
        LeadRecord::Recalled { replica: replica(0) },
        LeadRecord::HandedBack { replica: replica(0), epoch: epoch(1, OTHER), mandate },
        LeadRecord::Forgotten { node: OTHER },
        LeadRecord::HistoryForgotten,
    ]
}

fn me() -> Voter {
    Voter { member: OWN, incarnation: LIFE }
}

fn electorate() -> Electorate {
    let other = |id| (Voter { member: MemberId(id), incarnation: LIFE }, Role::Member);
    Electorate::told(3, [(me(), Role::Member), other(2), other(3)])
}

/// A snapshot in one page.
pub(super) fn pages() -> Vec<u8> {
    let entries = std::iter::once(Entry::Electorate(electorate()));
    let entries = entries.chain(lead_records().into_iter().map(Entry::Lead));
    entries.filter_map(|entry| wire::encode(&entry).ok()).flatten().collect()
}

pub(crate) fn elector_records() -> Vec<ElectionRecord> {
    let mut records = founding(me(), lead_records());
    let at = Position { term: term(1, OTHER), sequence: 0 };
    records.extend([
        ElectionRecord::Promised(term(1, OTHER)),
        ElectionRecord::Page { at, number: 0, bytes: pages() },
        ElectionRecord::Installed { at, pages: 1 },
        ElectionRecord::Appended {
            at: Position { sequence: 1, ..at },
            entry: Entry::Lead(LeadRecord::Enrolled { node: MemberId(3), name: node_name("n3") }),
        },
        ElectionRecord::Appended {
            at: Position { sequence: 2, ..at },
            entry: Entry::Electorate(electorate()),
        },
        ElectionRecord::Opened(term(2, OWN)),
    ]);
    records
}
