//! One of each control message.

use codeco_protocol::election::{ElectionMessage, Position};
use codeco_protocol::ids::MemberId;
use codeco_protocol::messages::{
    BidLine, ClosedReason, ControlBatch, ControlMessage, Demand, Held, HeldBrief, HeldPhase, Leaving,
    Obstacle, Replace, RunPhase, Shortage, Told,
};
use codeco_protocol::token::MandateId;
use codeco_protocol::units::{BitsPerSecond, Micros, MilliWatts};
use codeco_protocol::wire;

use super::{
    APP, LIFE, OTHER, OWN, app_records, cluster, context, epoch, lead_records, node_facts, node_name,
    replica, resources, rules, term, token, workload_spec,
};
use codeco_actors::swm::home::{AppRecords, HomeRecord};

pub(crate) fn batch(messages: Vec<ControlMessage>) -> ControlBatch {
    ControlBatch { messages }
}

fn held() -> HeldBrief {
    HeldBrief {
        replica: replica(0),
        token: token(1, term(1, OWN), 1),
        phase: HeldPhase::Committed,
        run: RunPhase::Ready,
    }
}

/// Of the lead to a node, of nodes to their lead, between lead and home, between homes.
pub(crate) fn control() -> Vec<ControlMessage> {
    use ControlMessage as M;
    let (lead, own) = (term(1, OTHER), term(1, OWN));
    let ordered = token(1, lead, 1);
    let told = Told { life: 3, number: 1 };
    let mandate = MandateId(1);
    let mut messages = vec![
        M::Fence { term: lead },
        M::LeaseGrant {
            nonce: 0,
            term: lead,
            duration: Micros::from_secs(3),
            revoke: vec![(replica(3), ordered)],
        },
        M::Reserve {
            incarnation: LIFE,
            replica: replica(0),
            token: ordered,
            resources: resources(100),
            ttl: Micros::from_secs(1),
        },
        M::Commit { incarnation: LIFE, replica: replica(0), token: ordered, spec: workload_spec() },
        M::Close { term: lead, replica: replica(0), token: ordered },
        M::LeaseRequest {
            nonce: 4,
            term_seen: own,
            incarnation: LIFE,
            facts: Some(node_facts("n2", LIFE)),
            held: vec![held()],
            told,
        },
        M::Report {
            term: own,
            facts: node_facts("n2", LIFE),
            held: vec![Held { brief: held(), spec: workload_spec() }],
            told,
        },
        M::Reserved { replica: replica(0), token: token(1, own, 1) },
        M::Committed { replica: replica(0), token: token(1, own, 1) },
        M::Closed {
            replica: replica(0),
            token: token(1, own, 1),
            reason: ClosedReason::NoRoom("cpu".to_owned()),
            free: resources(1),
        },
        M::Stale { highest: term(2, OTHER) },
        M::Status { replica: replica(0), token: token(1, own, 1), run: RunPhase::Failed, told },
        M::BidRequest {
            request: 8,
            context: context(),
            demands: vec![Demand {
                replica: replica(0),
                resources: resources(100),
                node_selector: vec![("zone".to_owned(), "a".to_owned())],
                rules: rules(),
            }],
        },
        M::Bid { request: 1, term: lead, cluster: cluster("c"), lines: bid_lines() },
        M::Offer {
            term: own,
            epoch: epoch(1, OTHER),
            mandate,
            replica: replica(0),
            spec: workload_spec(),
            node_selector: vec![],
            context: context(),
            replace: Replace::Overlap,
            replaces: Some(token(1, own, 1)),
            rules: super::PlaceRules::default(),
        },
        M::Accepted {
            term: lead,
            mandate,
            replica: replica(0),
            generation: 1,
            node: node_name("n2"),
            token: ordered,
            run: RunPhase::Ready,
            leaving: Leaving::Away,
            number: 1,
            uplink: BitsPerSecond(5),
        },
        M::Declined {
            term: lead,
            epoch: epoch(1, OWN),
            mandate,
            replica: replica(0),
            reason: "full".to_owned(),
        },
        M::Recall { epoch: epoch(1, OTHER), mandate, replica: replica(0) },
        M::Returned { term: lead, epoch: epoch(1, OWN), mandate, replica: replica(0) },
        M::LeadIs { term: term(2, OTHER), cluster: cluster("c") },
        keep(app_records()),
        M::Kept { app: APP, epoch: epoch(1, OWN), revision: 3 },
        M::Watch { nonce: 5, term: lead, allowance: Micros::from_secs(3) },
        M::Watched { nonce: 0, term: own, lost: vec![(replica(0), mandate)] },
        M::Drop { app: APP, epoch: epoch(1, OTHER) },
    ];
    messages.extend(election().into_iter().map(M::Election));
    messages
}

/// A copy of an application of member 2.
pub(crate) fn keep(records: Vec<HomeRecord>) -> ControlMessage {
    let records = wire::encode(&AppRecords(records)).unwrap_or_default();
    ControlMessage::Keep { app: APP, epoch: epoch(1, OTHER), revision: 3, records }
}

fn bid_lines() -> Vec<BidLine> {
    let short = Obstacle::Short(vec![Shortage { resource: "cpu".to_owned(), wanted: 9, free: 1 }]);
    let power = Obstacle::Power { draws: Some(MilliWatts(7)), most: MilliWatts(u64::MAX) };
    let delay = Obstacle::Delay {
        channel: "x".to_owned(),
        other: "n".to_owned(),
        delay: None,
        most: Micros(u64::MAX),
    };
    let obstacles = [short, power, delay, Obstacle::Silent(Some(Micros(u64::MAX))), Obstacle::Silent(None)];
    vec![
        BidLine {
            replica: replica(0),
            answer: Ok((0.25, node_name("n2"))),
            obstacles: vec![],
            power: Some(MilliWatts(5)),
            cost: Some(7),
        },
        BidLine {
            replica: replica(1),
            answer: Err("no node".to_owned()),
            obstacles: obstacles.map(|obstacle| (node_name("n2"), obstacle)).to_vec(),
            power: None,
            cost: None,
        },
    ]
}

/// Of a candidate or lead (member 2) to a voter, and the other way round.
pub(crate) fn election() -> Vec<ElectionMessage> {
    use ElectionMessage as E;
    let theirs = term(1, OTHER);
    let at = Position { term: theirs, sequence: 0 };
    let pages = super::records::pages();
    let entry =
        wire::encode(&codeco_actors::swm::election::elector::Entry::Lead(lead_records().swap_remove(0)));
    vec![
        E::Ask { life: LIFE, nonce: 1, term: theirs, last: at, canvass: true },
        E::Ask { life: LIFE, nonce: 2, term: theirs, last: at, canvass: false },
        E::Granted { life: LIFE, nonce: 1, term: term(1, OWN), canvass: false, last: at },
        E::Refused { life: LIFE, promised: term(9, MemberId(3)) },
        E::Invite,
        E::Life { life: LIFE },
        E::Page { life: LIFE, at, number: 0, pages: 1, bytes: pages },
        E::Taken { life: LIFE, at, pages: 1 },
        E::Append { life: LIFE, at: Position { sequence: 1, ..at }, record: entry.unwrap_or_default() },
        E::Stored { life: LIFE, last: at },
    ]
}
