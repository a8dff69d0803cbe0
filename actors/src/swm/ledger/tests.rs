use codeco_protocol::ids::{AppName, AppUid, Namespace, ServiceName};
use codeco_protocol::messages::ClosedReason;
use codeco_protocol::token::{Attempt, Epoch, MandateId};
use codeco_protocol::units::{Bytes, MilliCpu};
use codeco_protocol::workload::RestartPolicy;

use super::*;

const LEAD: MemberId = MemberId(7);

fn config() -> LedgerConfig {
    LedgerConfig {
        id: MemberId(1),
        name: NodeName::new("n1").unwrap(),
        labels: vec![],
        power: None,
        traits: Default::default(),
        lease: LeaseConfig::default(),
        first_nonce: 1,
    }
}

fn spec(cpu: u64, partition: PartitionPolicy) -> WorkloadSpec {
    WorkloadSpec {
        namespace: Namespace::new("default").unwrap(),
        app: AppName::new("a").unwrap(),
        generation: 1,
        containers: vec![],
        restart: RestartPolicy::Always,
        stop_grace: Micros::from_secs(1),
        resources: Resources::new(MilliCpu(cpu), Bytes(0)),
        partition,
        pod_spec_json: String::new(),
        lost_after: None,
    }
}

fn replica(index: u32) -> ReplicaId {
    ReplicaId { app: AppUid(1), service: ServiceName::new("s").unwrap(), index }
}

fn token(term: u64, attempt: u64) -> Token {
    Token {
        epoch: Epoch { number: 1, owner: MemberId(9) },
        mandate: MandateId(1),
        term: Term { number: term, owner: LEAD },
        attempt: Attempt(attempt),
    }
}

/// A ledger and the journal a shell would have written.
struct Node {
    ledger: Ledger,
    journal: Vec<LedgerRecord>,
    now: BootTime,
}

impl Node {
    fn new() -> Self {
        let (ledger, out) = Ledger::recover(config(), &[], Incarnation(5));
        let mut node = Node { ledger, journal: vec![], now: BootTime(1_000_000) };
        node.write(out);
        let size = Resources::new(MilliCpu(1_000), Bytes(0));
        node.feed(LedgerInput::Capacity { capacity: size, foreign: Resources::default() });
        node
    }

    fn write(&mut self, out: Vec<LedgerOutput>) -> Vec<LedgerOutput> {
        let (records, rest): (Vec<_>, Vec<_>) =
            out.into_iter().partition(|o| matches!(o, LedgerOutput::Journal(_)));
        self.journal.extend(records.into_iter().map(|o| match o {
            LedgerOutput::Journal(record) => record,
            _ => unreachable!(),
        }));
        rest
    }

    fn feed(&mut self, input: LedgerInput) -> Vec<LedgerOutput> {
        let mut out = vec![];
        self.ledger.handle(self.now, input, &mut out);
        self.write(out)
    }

    fn order(&mut self, message: ControlMessage) -> Vec<LedgerOutput> {
        self.feed(LedgerInput::Message { from: LEAD, message })
    }

    fn lease(&mut self) -> Vec<LedgerOutput> {
        self.feed(LedgerInput::LeadIs(LEAD));
        self.order(ControlMessage::Fence { term: Term { number: 1, owner: LEAD } });
        self.now = self.ledger.next_tick();
        let asked = self.feed(LedgerInput::Tick);
        let nonce = asked
            .iter()
            .find_map(|o| match o {
                LedgerOutput::Send { message: ControlMessage::LeaseRequest { nonce, .. }, .. } => {
                    Some(*nonce)
                }
                _ => None,
            })
            .expect("asks for a lease");
        let term = Term { number: 1, owner: LEAD };
        let duration = config().lease.duration;
        self.order(ControlMessage::LeaseGrant { nonce, term, duration, revoke: vec![] })
    }

    fn reserve(&mut self, index: u32, token: Token, cpu: u64) -> Vec<LedgerOutput> {
        let resources = Resources::new(MilliCpu(cpu), Bytes(0));
        self.order(ControlMessage::Reserve {
            incarnation: self.ledger.incarnation(),
            replica: replica(index),
            token,
            resources,
            ttl: Micros::from_secs(1),
        })
    }

    fn commit(&mut self, index: u32, token: Token, spec: WorkloadSpec) -> Vec<LedgerOutput> {
        let incarnation = self.ledger.incarnation();
        self.order(ControlMessage::Commit { incarnation, replica: replica(index), token, spec })
    }

    fn restart(&mut self) -> Vec<LedgerOutput> {
        let (ledger, out) = Ledger::recover(config(), &self.journal, Incarnation(6));
        self.ledger = ledger;
        let size = Resources::new(MilliCpu(1_000), Bytes(0));
        let mut rest = self.write(out);
        rest.extend(self.feed(LedgerInput::Capacity { capacity: size, foreign: Resources::default() }));
        rest.extend(self.feed(LedgerInput::Listed(vec![])));
        rest
    }
}

fn answers(out: &[LedgerOutput]) -> Vec<&ControlMessage> {
    out.iter()
        .filter_map(|o| match o {
            LedgerOutput::Send { message, .. } => Some(message),
            _ => None,
        })
        .collect()
}

fn starts(out: &[LedgerOutput]) -> usize {
    out.iter().filter(|o| matches!(o, LedgerOutput::Start(_))).count()
}

#[test]
fn ledger_before_admission_promises_nothing() {
    let mut node = Node::new();
    assert!(node.reserve(0, token(1, 1), 100).is_empty());
    node.lease();
    assert!(matches!(answers(&node.reserve(0, token(1, 1), 100))[..], [ControlMessage::Reserved { .. }]));
}

#[test]
fn ledger_never_promises_more_than_it_has() {
    let mut node = Node::new();
    node.lease();
    node.reserve(0, token(1, 1), 600);
    let out = node.reserve(1, token(1, 2), 600);
    assert!(
        matches!(answers(&out)[..], [ControlMessage::Closed { reason: ClosedReason::NoRoom(_), .. }]),
        "{out:?}"
    );
    assert_eq!(node.ledger.free().cpu, MilliCpu(400));
}

#[test]
fn ledger_keeps_to_what_was_reserved_and_answers_for_what_it_has_committed() {
    let mut node = Node::new();
    node.lease();
    node.reserve(0, token(1, 1), 600);
    let more = spec(700, PartitionPolicy::Fence);
    assert!(answers(&node.commit(0, token(1, 1), more.clone())).is_empty(), "nobody checked for that much");
    node.commit(0, token(1, 1), spec(600, PartitionPolicy::Fence));
    let again = node.commit(0, token(1, 1), more);
    assert!(matches!(answers(&again)[..], [ControlMessage::Committed { .. }]), "{again:?}");
    assert_eq!(node.ledger.promised(), Resources::new(MilliCpu(600), Bytes(0)), "and changes nothing");
}

#[test]
fn ledger_foreign_use_counts_against_new_promises() {
    let mut node = Node::new();
    node.lease();
    let foreign = Resources::new(MilliCpu(900), Bytes(0));
    node.feed(LedgerInput::Capacity { capacity: Resources::new(MilliCpu(1_000), Bytes(0)), foreign });
    assert!(matches!(answers(&node.reserve(0, token(1, 1), 200))[..], [ControlMessage::Closed { .. }]));
}

#[test]
fn ledger_reservation_that_runs_out_frees_its_resources_and_stays_closed() {
    let mut node = Node::new();
    node.lease();
    node.reserve(0, token(1, 1), 600);
    node.now = node.now + Micros::from_secs(2);
    node.feed(LedgerInput::Tick);
    assert_eq!(node.ledger.free().cpu, MilliCpu(1_000));
    let out = node.commit(0, token(1, 1), spec(600, PartitionPolicy::Autonomous));
    assert!(matches!(answers(&out)[..], [ControlMessage::Closed { .. }]), "{out:?}");
    assert_eq!(starts(&out), 0);
}

#[test]
fn ledger_fence_replica_waits_for_a_lease_and_an_autonomous_one_does_not() {
    let mut node = Node::new();
    node.lease();
    for (index, attempt) in [(0, 1), (1, 2)] {
        node.reserve(index, token(1, attempt), 100);
    }
    node.now = node.now + Micros::from_millis(500);
    assert_eq!(starts(&node.commit(0, token(1, 1), spec(100, PartitionPolicy::Fence))), 1);
    node.commit(1, token(1, 2), spec(100, PartitionPolicy::Autonomous));
    // The process restarts long after the lease has ended: a cold boot.
    node.now = node.now + Micros::from_secs(60);
    let out = node.restart();
    assert_eq!(starts(&out), 1, "only the autonomous one: {out:?}");
    let out = node.lease();
    assert_eq!(starts(&out), 1, "the other with the lease: {out:?}");
}

#[test]
fn ledger_lease_that_revokes_a_token_never_starts_it() {
    let mut node = Node::new();
    node.lease();
    node.reserve(0, token(1, 1), 100);
    node.commit(0, token(1, 1), spec(100, PartitionPolicy::Fence));
    node.now = node.now + Micros::from_secs(60);
    node.restart();
    node.feed(LedgerInput::LeadIs(LEAD));
    node.now = node.ledger.next_tick();
    node.feed(LedgerInput::Tick);
    let term = Term { number: 2, owner: LEAD };
    let duration = config().lease.duration;
    let revoke = vec![(replica(0), token(1, 1))];
    let mut out = node.order(ControlMessage::Fence { term });
    for nonce in 0..9 {
        out.extend(node.order(ControlMessage::LeaseGrant { nonce, term, duration, revoke: revoke.clone() }));
    }
    assert_eq!(starts(&out), 0, "{out:?}");
    assert!(out.iter().any(|o| matches!(o, LedgerOutput::Stop { .. })));
    let out = node.feed(LedgerInput::Runtime {
        replica: replica(0),
        token: token(1, 1),
        fact: RuntimeFact::Stopped,
    });
    assert!(matches!(answers(&out)[..], [ControlMessage::Closed { reason: ClosedReason::Stopped, .. }]));
    assert_eq!(node.ledger.free().cpu, MilliCpu(1_000));
}

#[test]
fn ledger_grant_asked_for_before_a_newer_term_does_not_count() {
    let mut node = Node::new();
    node.feed(LedgerInput::LeadIs(LEAD));
    let asked = node.ledger.lease_until();
    // The request with nonce 1 left before the node heard of term 2.
    node.order(ControlMessage::Fence { term: Term { number: 2, owner: LEAD } });
    let term = Term { number: 2, owner: LEAD };
    let duration = config().lease.duration;
    node.order(ControlMessage::LeaseGrant { nonce: 1, term, duration, revoke: vec![] });
    assert_eq!(node.ledger.lease_until(), asked);
    assert!(!node.ledger.is_admitted());
}

#[test]
fn ledger_of_another_incarnation_closes_orders_meant_for_the_last() {
    let mut node = Node::new();
    node.lease();
    let out = node.order(ControlMessage::Commit {
        incarnation: Incarnation(4),
        replica: replica(0),
        token: token(1, 1),
        spec: spec(1, PartitionPolicy::Fence),
    });
    assert!(matches!(
        answers(&out)[..],
        [ControlMessage::Closed { reason: ClosedReason::OtherIncarnation, .. }]
    ));
}

#[test]
fn ledger_orders_of_a_term_come_only_from_its_owner() {
    let mut node = Node::new();
    node.lease();
    let incarnation = node.ledger.incarnation();
    let resources = Resources::new(MilliCpu(1), Bytes(0));
    let ttl = Micros::from_secs(1);
    let message =
        ControlMessage::Reserve { incarnation, replica: replica(0), token: token(1, 1), resources, ttl };
    let out = node.feed(LedgerInput::Message { from: MemberId(8), message });
    assert!(answers(&out).is_empty(), "{out:?}");
}

#[test]
fn ledger_recovered_from_its_snapshot_is_the_ledger_recovered_from_its_records() {
    let mut node = Node::new();
    node.lease();
    node.reserve(0, token(1, 1), 100);
    node.commit(0, token(1, 1), spec(100, PartitionPolicy::Fence));
    node.reserve(1, token(1, 2), 100);
    node.commit(2, token(1, 3), spec(100, PartitionPolicy::Fence));
    node.order(ControlMessage::Close { term: token(1, 1).term, replica: replica(0), token: token(1, 1) });
    let (from_records, _) = Ledger::recover(config(), &node.journal, Incarnation(6));
    let (from_snapshot, _) = Ledger::recover(config(), &node.ledger.snapshot(), Incarnation(6));
    assert_eq!(from_records, from_snapshot);
}

#[test]
fn ledger_without_its_journal_keeps_what_still_runs() {
    let (ledger, _) = Ledger::recover(config(), &[], Incarnation(6));
    let mut node = Node { ledger, journal: vec![], now: BootTime(1) };
    let size = Resources::new(MilliCpu(1_000), Bytes(0));
    node.feed(LedgerInput::Capacity { capacity: size, foreign: Resources::default() });
    let running =
        Workload { replica: replica(0), token: token(1, 1), spec: spec(300, PartitionPolicy::Fence) };
    let out = node.feed(LedgerInput::Listed(vec![running]));
    assert!(!out.iter().any(|o| matches!(o, LedgerOutput::Stop { .. })), "{out:?}");
    assert_eq!(node.ledger.free().cpu, MilliCpu(700));
}

#[test]
fn lease_request_leaves_out_facts_its_lead_has_answered_to_until_they_change() {
    let mut node = Node::new();
    let told = |node: &mut Node, answer: bool| {
        node.now = node.ledger.next_tick().max(node.now);
        let (nonce, facts) = node
            .feed(LedgerInput::Tick)
            .into_iter()
            .find_map(|o| match o {
                LedgerOutput::Send { message: ControlMessage::LeaseRequest { nonce, facts, .. }, .. } => {
                    Some((nonce, facts))
                }
                _ => None,
            })
            .expect("asks for a lease");
        if answer {
            let (term, duration) = (Term { number: 1, owner: LEAD }, config().lease.duration);
            node.order(ControlMessage::LeaseGrant { nonce, term, duration, revoke: vec![] });
        }
        facts
    };
    node.lease();
    assert_eq!(told(&mut node, false), None, "answered to within `lease`");
    let size = |cpu| Resources::new(MilliCpu(cpu), Bytes(0));
    node.feed(LedgerInput::Capacity { capacity: size(1_000), foreign: size(100) });
    assert!(told(&mut node, false).is_some(), "they have changed");
    node.feed(LedgerInput::Capacity { capacity: size(1_000), foreign: size(0) });
    assert!(told(&mut node, false).is_some(), "as before, but the lead may have heard of the change");
    assert!(told(&mut node, true).is_some(), "not answered to yet");
    assert_eq!(told(&mut node, true), None);
    let again = (0..100).any(|_| told(&mut node, true).is_some());
    assert!(again, "everything, now and then");
    node.order(ControlMessage::Fence { term: Term { number: 2, owner: LEAD } });
    assert!(told(&mut node, false).is_some(), "a new term");
}

#[test]
fn ledger_ordered_under_a_term_above_which_there_is_none_does_not_obey() {
    let mut node = Node::new();
    node.lease();
    let term = node.ledger.term();
    let last = token(u64::MAX, 1);
    let incarnation = node.ledger.incarnation();
    let (replica, resources, ttl) = (replica(0), Resources::new(MilliCpu(1), Bytes(0)), Micros::from_secs(1));
    let orders = [
        ControlMessage::Fence { term: last.term },
        ControlMessage::Reserve { incarnation, replica: replica.clone(), token: last, resources, ttl },
        ControlMessage::Commit {
            incarnation,
            replica: replica.clone(),
            token: last,
            spec: spec(1, PartitionPolicy::Fence),
        },
        ControlMessage::Close { term: last.term, replica, token: last },
    ];
    for order in orders {
        let out = node.order(order.clone());
        assert!(answers(&out).is_empty(), "{order:?}: {out:?}");
        assert_eq!(node.ledger.term(), term, "{order:?}");
    }
    // A lead that had to rise above what somebody has said is obeyed.
    let term = Term { number: Term::HEARSAY_MAX + 1, owner: LEAD };
    node.order(ControlMessage::Fence { term });
    assert_eq!(node.ledger.term(), term);
}
