use codeco_protocol::ids::{AppName, AppUid, Namespace, ServiceName};
use codeco_protocol::messages::{ClosedReason, ControlMessage as M, Held, HeldPhase, Profile, Told};
use codeco_protocol::units::{Bytes, MilliCpu};
use codeco_protocol::workload::{PartitionPolicy, RestartPolicy};

use super::*;

const LEAD: MemberId = MemberId(7);
const HOME: MemberId = MemberId(9);
const N1: NodeId = MemberId(1);
const N2: NodeId = MemberId(2);
const EPOCH: Epoch = Epoch { number: 1, owner: HOME };

fn config() -> LeadConfig {
    LeadConfig::new(LEAD, ClusterName::new("east").unwrap(), LeaseConfig::default())
}

fn replica() -> ReplicaId {
    ReplicaId { app: AppUid(1), service: ServiceName::new("s").unwrap(), index: 0 }
}

fn size(cpu: u64) -> Resources {
    Resources::new(MilliCpu(cpu), Bytes(cpu))
}

fn spec(generation: u64, partition: PartitionPolicy) -> WorkloadSpec {
    WorkloadSpec {
        namespace: Namespace::new("default").unwrap(),
        app: AppName::new("a").unwrap(),
        generation,
        containers: vec![],
        restart: RestartPolicy::Always,
        stop_grace: Micros::from_secs(1),
        resources: size(100),
        partition,
        pod_spec_json: String::new(),
        lost_after: None,
    }
}

fn facts(node: NodeId, free: u64) -> NodeFacts {
    NodeFacts {
        name: NodeName::new(format!("n{}", node.0)).unwrap(),
        incarnation: Incarnation(node.0),
        capacity: size(1_000),
        free: size(free),
        labels: vec![],
        power: None,
        cordoned: false,
        round_trips: vec![],
        draining: false,
        coordinate: None,
        traits: Default::default(),
    }
}

/// A lead, the journal a shell would have written, and what it sent last.
struct Play {
    lead: Lead,
    journal: Vec<LeadRecord>,
    now: BootTime,
    nonce: u64,
}

impl Play {
    /// A lead in office without nodes.
    fn new() -> Self {
        Self::on(vec![])
    }

    fn on(journal: Vec<LeadRecord>) -> Self {
        let lead = Lead::recover(config(), &journal);
        let mut play = Self { lead, journal, now: BootTime(1_000_000), nonce: 0 };
        play.feed(LeadInput::OwnLease(BootTime(u64::MAX)));
        play.feed(LeadInput::TakeOffice(play.lead.term().next_for(LEAD)));
        play
    }

    /// Two nodes, of which the first has more room.
    fn with_nodes() -> Self {
        let mut play = Self::new();
        play.joins(N1, 1_000);
        play.joins(N2, 800);
        play
    }

    fn feed(&mut self, input: LeadInput) -> Vec<(MemberId, M)> {
        let mut out = vec![];
        self.lead.handle(self.now, input, &mut out);
        let mut sent = vec![];
        let mut needs = None;
        for output in out {
            match output {
                LeadOutput::Journal(record) => self.journal.push(record),
                LeadOutput::Send { to, message } => sent.push((to, message)),
                LeadOutput::NeedsTerm(above) => needs = Some(above),
                LeadOutput::Decided(_) | LeadOutput::Note(_) => {}
            }
        }
        if let Some(above) = needs {
            // The voters grant it at once.
            sent.extend(self.feed(LeadInput::TakeOffice(above.next_for(LEAD))));
        }
        sent
    }

    fn hear(&mut self, from: MemberId, message: M) -> Vec<(MemberId, M)> {
        self.feed(LeadInput::Message { from, message })
    }

    fn asks(&mut self, node: NodeId, free: u64, held: Vec<HeldBrief>) -> Vec<(MemberId, M)> {
        self.nonce += 1;
        let (nonce, term_seen) = (self.nonce, self.lead.term());
        let facts = facts(node, free);
        self.hear(
            node,
            M::LeaseRequest {
                nonce,
                term_seen,
                incarnation: facts.incarnation,
                facts: Some(facts),
                held,
                told: Told::default(),
            },
        )
    }

    fn reports(&mut self, node: NodeId, free: u64, held: Vec<Held>) -> Vec<(MemberId, M)> {
        self.hear(
            node,
            M::Report { term: self.lead.term(), facts: facts(node, free), held, told: Told::default() },
        )
    }

    fn joins(&mut self, node: NodeId, free: u64) {
        assert!(matches!(self.asks(node, free, vec![])[..], [(to, M::Fence { .. })] if to == node));
        self.reports(node, free, vec![]);
        assert!(self.asks(node, free, vec![]).iter().any(|(_, m)| matches!(m, M::LeaseGrant { .. })));
    }

    fn offered(&mut self, mandate: u64, generation: u64, partition: PartitionPolicy) -> Vec<(MemberId, M)> {
        let offer = self.offer(mandate, generation, partition);
        self.hear(HOME, offer)
    }

    fn offer(&self, mandate: u64, generation: u64, partition: PartitionPolicy) -> M {
        let context = AppContext {
            uid: AppUid(1),
            namespace: Namespace::new("default").unwrap(),
            name: AppName::new("a").unwrap(),
            profile: Profile::Balanced,
            channels: vec![],
            demands: Default::default(),
        };
        M::Offer {
            term: self.lead.term(),
            epoch: EPOCH,
            mandate: MandateId(mandate),
            replica: replica(),
            spec: spec(generation, partition),
            node_selector: vec![],
            context,
            replace: Replace::StopFirst,
            replaces: self.stage().placement().map(|p| p.token),
            rules: Default::default(),
        }
    }

    fn recalled(&mut self, mandate: u64) -> Vec<(MemberId, M)> {
        self.hear(HOME, M::Recall { epoch: EPOCH, mandate: MandateId(mandate), replica: replica() })
    }

    /// Goes through offer, reserve and commit; the token and its node.
    fn placed(&mut self, partition: PartitionPolicy) -> (NodeId, Token) {
        let (node, token) = reserve(&self.offered(1, 1, partition)).expect("reserves");
        self.hear(node, M::Reserved { replica: replica(), token });
        let told = self.hear(node, M::Committed { replica: replica(), token });
        assert!(matches!(told[..], [(HOME, M::Accepted { .. })]), "{told:?}");
        (node, token)
    }

    fn closed(&mut self, node: NodeId, token: Token, reason: ClosedReason) -> Vec<(MemberId, M)> {
        self.hear(node, M::Closed { replica: replica(), token, reason, free: size(50) })
    }

    /// Lets time pass in steps in which only `alive` asks for leases.
    fn passes(&mut self, span: Micros, alive: NodeId, held: &[HeldBrief]) -> Vec<(MemberId, M)> {
        let end = self.now + span;
        let mut sent = vec![];
        while self.now < end {
            self.now = self.now + Micros::from_millis(500);
            sent.extend(self.asks(alive, 800, held.to_vec()));
            sent.extend(self.feed(LeadInput::Tick));
        }
        sent
    }

    fn stage(&self) -> Stage {
        self.lead.mandates().next().map(|(_, m)| m.stage).unwrap_or_default()
    }
}

fn brief(token: Token) -> HeldBrief {
    HeldBrief { replica: replica(), token, phase: HeldPhase::Committed, run: RunPhase::Ready }
}

fn reserve(sent: &[(MemberId, M)]) -> Option<(NodeId, Token)> {
    sent.iter().find_map(|(to, message)| match message {
        M::Reserve { token, .. } => Some((*to, *token)),
        _ => None,
    })
}

fn any(sent: &[(MemberId, M)], wanted: impl Fn(&M) -> bool) -> bool {
    sent.iter().any(|(_, message)| wanted(message))
}

#[test]
fn lead_offered_a_replica_reserves_commits_and_accepts() {
    let mut play = Play::with_nodes();
    let sent = play.offered(1, 1, PartitionPolicy::Fence);
    let (node, token) = reserve(&sent).expect("asks the emptier node");
    assert_eq!(node, N1);
    let sent = play.hear(N1, M::Reserved { replica: replica(), token });
    assert!(matches!(&sent[..], [(N1, M::Commit { token: t, .. })] if *t == token), "{sent:?}");
    let sent = play.hear(N1, M::Committed { replica: replica(), token });
    assert!(matches!(&sent[..], [(HOME, M::Accepted { token: t, generation: 1, .. })] if *t == token));
    assert!(play.hear(N1, M::Committed { replica: replica(), token }).is_empty(), "said once");
    let sent = play.offered(1, 1, PartitionPolicy::Fence);
    assert!(matches!(sent[..], [(HOME, M::Accepted { .. })]), "and again when asked: {sent:?}");
}

#[test]
fn lead_refused_by_one_node_asks_the_next_and_declines_after_the_last() {
    let mut play = Play::with_nodes();
    let (_, first) = reserve(&play.offered(1, 1, PartitionPolicy::Fence)).unwrap();
    let (node, second) = reserve(&play.closed(N1, first, ClosedReason::NoRoom("cpu".into()))).expect("next");
    assert_eq!(node, N2);
    assert!(second > first, "under a newer token");
    let sent = play.closed(N2, second, ClosedReason::NoRoom("cpu".into()));
    assert!(matches!(&sent[..], [(HOME, M::Declined { mandate: MandateId(1), .. })]), "{sent:?}");
    let sent = play.offered(1, 1, PartitionPolicy::Fence);
    assert!(matches!(sent[..], [(HOME, M::Returned { .. })]), "that mandate is gone: {sent:?}");
}

#[test]
fn lead_without_answer_to_its_commit_asks_nobody_else() {
    let mut play = Play::with_nodes();
    let (_, token) = reserve(&play.offered(1, 1, PartitionPolicy::Fence)).unwrap();
    play.hear(N1, M::Reserved { replica: replica(), token });
    let sent = play.passes(Micros::from_millis(2_500), N2, &[]);
    assert_eq!(reserve(&sent), None, "the commit may have arrived");
    assert!(any(&sent, |m| matches!(m, M::Commit { token: t, .. } if *t == token)), "it is repeated");
    assert!(matches!(play.stage(), Stage::Committing(_)));
}

#[test]
fn lead_of_a_lost_node_waits_its_lease_out_then_places_elsewhere_and_revokes_on_return() {
    let mut play = Play::with_nodes();
    let (_, old) = play.placed(PartitionPolicy::Fence);
    assert_eq!(reserve(&play.passes(Micros::from_millis(3_000), N2, &[])), None, "the lease may still hold");
    let (node, new) = reserve(&play.passes(Micros::from_secs(1), N2, &[])).expect("waited out");
    assert_eq!(node, N2);
    play.hear(N2, M::Reserved { replica: replica(), token: new });
    play.hear(N2, M::Committed { replica: replica(), token: new });
    let sent = play.asks(N1, 900, vec![brief(old)]);
    let revoke = sent.iter().find_map(|(_, m)| match m {
        M::LeaseGrant { revoke, .. } => Some(revoke.clone()),
        _ => None,
    });
    assert_eq!(revoke, Some(vec![(replica(), old)]), "{sent:?}");
    assert!(play.lead.owed.contains_key(&N1), "owed until the node says so");
    play.closed(N1, old, ClosedReason::Stopped);
    assert!(play.lead.owed.is_empty());
}

#[test]
fn lead_that_gave_an_attempt_up_while_its_commit_was_under_way_closes_the_reservation_with_the_next_lease() {
    let mut play = Play::with_nodes();
    let (_, old) = reserve(&play.offered(1, 1, PartitionPolicy::Fence)).unwrap();
    play.hear(N1, M::Reserved { replica: replica(), token: old });
    let (node, _) = reserve(&play.passes(Micros::from_secs(4), N2, &[])).expect("waited out");
    assert_eq!(node, N2);
    // The commit has still not arrived: it would be kept, and started under the lease that is granted now.
    let sent = play.asks(N1, 900, vec![HeldBrief { phase: HeldPhase::Reserved, ..brief(old) }]);
    let revokes = |m: &M| matches!(m, M::LeaseGrant { revoke, .. } if *revoke == [(replica(), old)]);
    assert!(any(&sent, revokes), "{sent:?}");
}

#[test]
fn lead_leaves_an_old_autonomous_copy_until_the_new_one_is_ready() {
    let mut play = Play::with_nodes();
    let (_, old) = play.placed(PartitionPolicy::Autonomous);
    let (_, new) = reserve(&play.passes(Micros::from_secs(4), N2, &[])).expect("waited out");
    play.hear(N2, M::Reserved { replica: replica(), token: new });
    play.hear(N2, M::Committed { replica: replica(), token: new });
    let revokes = |sent: &[(MemberId, M)]| {
        any(sent, |m| matches!(m, M::LeaseGrant { revoke, .. } if !revoke.is_empty()))
    };
    assert!(!revokes(&play.asks(N1, 900, vec![brief(old)])), "there must always be one");
    play.hear(N2, M::Status { replica: replica(), token: new, run: RunPhase::Ready, told: Told::default() });
    assert!(revokes(&play.asks(N1, 900, vec![brief(old)])));
}

#[test]
fn lead_that_has_changed_its_mind_does_not_mean_the_orders_that_still_wait() {
    let mut play = Play::with_nodes();
    let (_, old) = play.placed(PartitionPolicy::Autonomous);
    let reserved = play.passes(Micros::from_secs(4), N2, &[]);
    let (_, new) = reserve(&reserved).expect("waited out");
    let committed = play.hear(N2, M::Reserved { replica: replica(), token: new });
    play.hear(N2, M::Committed { replica: replica(), token: new });
    play.hear(N2, M::Status { replica: replica(), token: new, run: RunPhase::Ready, told: Told::default() });
    let revokes = play.asks(N1, 900, vec![brief(old)]);
    let order = |sent: &[(MemberId, M)], wanted: fn(&M) -> bool| {
        sent.iter().map(|(_, message)| message.clone()).find(wanted).expect("an order")
    };
    let grant = order(&revokes, |m| matches!(m, M::LeaseGrant { .. }));
    let commit = order(&committed, |m| matches!(m, M::Commit { .. }));
    assert!(play.lead.still_means(play.now, &grant) && play.lead.still_means(play.now, &commit));
    assert!(
        !play.lead.still_means(play.now, &order(&reserved, |m| matches!(m, M::Reserve { .. }))),
        "is done"
    );
    // The node of the new copy is lost: the old one may be the last that runs.
    play.passes(Micros::from_secs(5), N1, &[brief(old)]);
    assert!(!play.lead.still_means(play.now, &grant), "{:?}", play.stage());
    assert!(!play.lead.still_means(play.now, &commit), "{:?}", play.stage());
}

#[test]
fn lead_asked_to_return_a_mandate_does_so_after_the_node_has_closed_it() {
    let mut play = Play::with_nodes();
    let (_, token) = play.placed(PartitionPolicy::Fence);
    let sent = play.recalled(1);
    assert!(any(&sent, |m| matches!(m, M::Close { token: t, .. } if *t == token)), "{sent:?}");
    assert!(!any(&sent, |m| matches!(m, M::Returned { .. })), "it may still run");
    let sent = play.closed(N1, token, ClosedReason::Stopped);
    assert!(matches!(sent[..], [(HOME, M::Returned { mandate: MandateId(1), .. })]), "{sent:?}");
    assert!(matches!(play.recalled(1)[..], [(HOME, M::Returned { .. })]), "and says so again");
}

#[test]
fn lead_recall_that_overtakes_its_offer_is_final() {
    let mut play = Play::with_nodes();
    assert!(matches!(play.recalled(1)[..], [(HOME, M::Returned { .. })]));
    let sent = play.offered(1, 1, PartitionPolicy::Fence);
    assert!(matches!(sent[..], [(HOME, M::Returned { .. })]), "the late offer places nothing: {sent:?}");
}

#[test]
fn lead_given_a_newer_generation_stops_the_old_copy_before_it_starts_the_new() {
    let mut play = Play::with_nodes();
    let (_, old) = play.placed(PartitionPolicy::Fence);
    let sent = play.offered(1, 2, PartitionPolicy::Fence);
    assert!(any(&sent, |m| matches!(m, M::Close { token, .. } if *token == old)), "{sent:?}");
    assert_eq!(reserve(&sent), None);
    assert!(reserve(&play.closed(N1, old, ClosedReason::Stopped)).is_some());
}

#[test]
fn lead_given_a_newer_generation_of_what_needs_no_lease_closes_the_old_copy_once_the_new_one_is_ready() {
    let mut play = Play::with_nodes();
    let (node, old) = play.placed(PartitionPolicy::Autonomous);
    play.hear(
        node,
        M::Status { replica: replica(), token: old, run: RunPhase::Ready, told: Told::default() },
    );
    let sent = play.offered(1, 2, PartitionPolicy::Autonomous);
    let (other, new) = reserve(&sent).expect("another copy is placed at once");
    assert_ne!(other, node, "beside the old one");
    let closes = |sent: &[(MemberId, M)]| any(sent, |m| matches!(m, M::Close { token, .. } if *token == old));
    let mut sent = play.hear(other, M::Reserved { replica: replica(), token: new });
    sent.extend(play.hear(other, M::Committed { replica: replica(), token: new }));
    sent.extend(play.asks(node, 900, vec![brief(old)]));
    assert!(!closes(&sent), "the new one is not ready: {sent:?}");
    let sent = play.hear(
        other,
        M::Status { replica: replica(), token: new, run: RunPhase::Ready, told: Told::default() },
    );
    assert!(closes(&sent), "{sent:?}");
    play.closed(node, old, ClosedReason::Stopped);
    let calm = play.asks(node, 1_000, vec![]);
    assert!(!closes(&calm) && reserve(&calm).is_none(), "{calm:?}");
}

#[test]
fn lead_asked_to_keep_what_it_has_answers_with_the_old_generation_and_stops_nothing() {
    let mut play = Play::with_nodes();
    let (node, old) = play.placed(PartitionPolicy::Fence);
    play.hear(
        node,
        M::Status { replica: replica(), token: old, run: RunPhase::Ready, told: Told::default() },
    );
    let M::Offer { term, epoch, mandate, replica, node_selector, context, .. } =
        play.offer(1, 2, PartitionPolicy::Fence)
    else {
        unreachable!()
    };
    let spec = spec(2, PartitionPolicy::Fence);
    // Allowed for a copy that is long gone.
    let (replace, replaces) = (Replace::StopFirst, Some(Token::default()));
    let rules = Default::default();
    let late =
        M::Offer { term, epoch, mandate, replica, spec, node_selector, context, replace, replaces, rules };
    let sent = play.hear(HOME, late);
    assert!(
        matches!(&sent[..], [(HOME, M::Accepted { generation: 1, run: RunPhase::Ready, token, .. })] if *token == old),
        "{sent:?}"
    );
}

#[test]
fn lead_after_a_restart_adopts_what_runs_and_answers_nothing_before_all_have_reported() {
    let mut play = Play::with_nodes();
    let (_, token) = play.placed(PartitionPolicy::Fence);
    let mut play = Play::on(play.journal);
    assert!(play.lead.term() > token.term);
    assert!(play.offered(1, 1, PartitionPolicy::Fence).iter().all(|(_, m)| matches!(m, M::Fence { .. })));
    play.reports(N2, 800, vec![]);
    assert!(!play.lead.is_ready(), "the other has not been heard");
    let held = Held { brief: brief(token), spec: spec(1, PartitionPolicy::Fence) };
    let sent = play.reports(N1, 900, vec![held]);
    assert!(play.lead.is_ready());
    assert!(matches!(play.stage(), Stage::Held(p) if p.token == token && p.node == N1));
    assert!(any(&sent, |m| matches!(m, M::Accepted { .. })), "{sent:?}");
    assert_eq!(reserve(&sent), None, "nothing is placed twice");
}

#[test]
fn lead_after_a_restart_waits_out_a_silent_node_before_it_places_again() {
    let mut play = Play::with_nodes();
    play.placed(PartitionPolicy::Fence);
    let mut play = Play::on(play.journal);
    play.reports(N2, 800, vec![]);
    assert_eq!(reserve(&play.passes(Micros::from_millis(3_000), N2, &[])), None);
    let (node, _) = reserve(&play.passes(Micros::from_secs(1), N2, &[])).expect("waited out");
    assert_eq!(node, N2);
}

#[test]
fn lead_learning_of_a_higher_term_rises_above_it() {
    let mut play = Play::with_nodes();
    let highest = Term { number: 40, owner: N2 };
    play.hear(N1, M::Stale { highest });
    assert!(play.lead.term() > highest);
    assert!(!play.lead.is_ready(), "and asks everybody again");
}

#[test]
fn lead_offered_for_another_term_says_which_is_its_own() {
    let mut play = Play::with_nodes();
    let term = play.lead.term();
    play.hear(N1, M::Stale { highest: term.next_for(N2) });
    play.reports(N1, 1_000, vec![]);
    play.reports(N2, 800, vec![]);
    let context = AppContext {
        uid: AppUid(1),
        namespace: Namespace::new("default").unwrap(),
        name: AppName::new("a").unwrap(),
        profile: Profile::Balanced,
        channels: vec![],
        demands: Default::default(),
    };
    let (spec, mandate) = (spec(1, PartitionPolicy::Fence), MandateId(1));
    let offer = M::Offer {
        term,
        epoch: EPOCH,
        mandate,
        replica: replica(),
        spec,
        node_selector: vec![],
        context,
        replace: Replace::Keep,
        replaces: None,
        rules: Default::default(),
    };
    let sent = play.hear(HOME, offer);
    assert!(matches!(sent[..], [(HOME, M::LeadIs { term: t, .. })] if t == play.lead.term()), "{sent:?}");
}

#[test]
fn lead_heard_late_of_another_life_of_a_node_keeps_what_this_life_runs() {
    let mut play = Play::with_nodes();
    let (node, token) = play.placed(PartitionPolicy::Fence);
    let before = NodeFacts { incarnation: Incarnation(99), ..facts(node, 1_000) };
    let sent = play
        .hear(node, M::Report { term: play.lead.term(), facts: before, held: vec![], told: Told::default() });
    assert_eq!(reserve(&sent), None, "the report was overtaken; the copy still runs");
    assert!(play.stage().may_run(), "{:?}", play.stage());
    assert_eq!(play.stage().placement().map(|p| p.token), Some(token));
}

#[test]
fn lead_hears_of_a_copy_in_the_order_in_which_its_node_spoke() {
    let mut play = Play::with_nodes();
    let (node, token) = play.placed(PartitionPolicy::Fence);
    let told = |number| Told { life: 7, number };
    let status = |run, told| M::Status { replica: replica(), token, run, told };
    play.hear(node, status(RunPhase::Ready, told(3)));
    play.hear(node, status(RunPhase::Starting, told(2)));
    let run = |play: &Play| play.lead.mandates().map(|(_, m)| m.run).next();
    assert_eq!(run(&play), Some(RunPhase::Ready), "the other was overtaken");
    let brief = HeldBrief { replica: replica(), token, phase: HeldPhase::Committed, run: RunPhase::Starting };
    let request = |told| M::LeaseRequest {
        nonce: 99,
        term_seen: play.lead.term(),
        incarnation: facts(node, 900).incarnation,
        facts: Some(facts(node, 900)),
        held: vec![brief.clone()],
        told,
    };
    let (before, after) = (request(told(1)), request(told(4)));
    play.hear(node, before);
    assert_eq!(run(&play), Some(RunPhase::Ready), "so was this");
    play.hear(node, after);
    assert_eq!(run(&play), Some(RunPhase::Starting), "but not this");
    play.hear(node, status(RunPhase::Ready, Told { life: 8, number: 1 }));
    assert_eq!(run(&play), Some(RunPhase::Ready), "a new life counts afresh");
}

/// Asks a lead to forget a node, and writes down what it writes down.
fn forgets(play: &mut Play, node: NodeId, forced: bool) -> Result<(), ForgetError> {
    let mut out = vec![];
    let told = play.lead.forget(play.now, node, forced, &mut out);
    play.journal.extend(out.into_iter().filter_map(|output| match output {
        LeadOutput::Journal(record) => Some(record),
        _ => None,
    }));
    told
}

#[test]
fn lead_forgets_a_node_only_once_it_is_waited_out_or_an_operator_says_that_nothing_of_it_runs() {
    let mut play = Play::with_nodes();
    play.placed(PartitionPolicy::Fence);
    assert!(matches!(forgets(&mut play, N1, false), Err(ForgetError::Answers(_))));
    assert!(matches!(forgets(&mut play, N1, true), Err(ForgetError::Answers(_))), "force does not kill");
    assert_eq!(forgets(&mut play, LEAD, true), Err(ForgetError::Itself));
    play.passes(Micros::from_millis(2_500), N2, &[]);
    let before = play.journal.len();
    assert_eq!(forgets(&mut play, N1, false), Err(ForgetError::NotWaitedOut));
    assert_eq!(play.journal.len(), before);

    let mut forced = Play::on(play.journal.clone());
    forced.joins(N2, 800);
    forced.now = forced.now + Micros::from_millis(2_500);
    assert_eq!(forgets(&mut forced, N1, true), Ok(()));

    let (node, _) = reserve(&play.passes(Micros::from_secs(2), N2, &[])).expect("waited out");
    assert_eq!(node, N2);
    assert_eq!(forgets(&mut play, N1, false), Ok(()));
    assert_eq!(forgets(&mut play, N1, false), Ok(()), "twice is as good");
    assert!(play.lead.owed.is_empty() && play.lead.members().all(|(node, _)| node != N1));
    // So it is for whoever goes on from the journal, and from what is left of it.
    let again = Play::on(play.journal.clone());
    assert!(again.lead.members().all(|(node, _)| node != N1));
    let compacted = Lead::recover(config(), &play.lead.snapshot());
    assert!(compacted.members().all(|(node, _)| node != N1));
}

#[test]
fn lead_that_took_office_does_not_wait_for_a_node_that_was_forgotten() {
    let mut play = Play::with_nodes();
    play.passes(Micros::from_secs(5), N2, &[]);
    assert_eq!(forgets(&mut play, N1, false), Ok(()));
    let mut next = Play::on(play.journal.clone());
    next.joins(N2, 800);
    assert!(next.lead.is_ready(), "everybody enrolled has reported");
}

mod adoption;
mod brake;
mod contact;
mod links;

#[test]
fn lead_told_by_a_stranger_that_a_replica_went_back_still_takes_it_from_its_home_and_keeps_it() {
    let mut play = Play::with_nodes();
    let stranger = MemberId(0xbad);
    let lie = M::Recall {
        epoch: Epoch { number: u64::MAX, owner: stranger },
        mandate: MandateId(u64::MAX),
        replica: replica(),
    };
    play.hear(stranger, lie.clone());
    let (_, token) = play.placed(PartitionPolicy::Fence);
    play.hear(stranger, lie);
    assert_eq!(play.stage().placement().map(|p| p.token), Some(token));
    play.recalled(2);
    assert_eq!(play.stage().placement().map(|p| p.token), Some(token), "nor does its home by another number");
}

#[test]
fn lead_told_of_a_term_above_which_there_is_none_stays_in_office() {
    let mut play = Play::with_nodes();
    let term = play.lead.term();
    let highest = Term { number: u64::MAX, owner: N2 };
    play.hear(N1, M::Stale { highest });
    let request = M::LeaseRequest {
        nonce: 1,
        term_seen: highest,
        incarnation: Incarnation(1),
        facts: None,
        held: vec![],
        told: Default::default(),
    };
    let sent = play.hear(N1, request);
    assert!(!any(&sent, |m| matches!(m, M::LeaseGrant { .. })), "nor is it granted anything: {sent:?}");
    assert_eq!(play.lead.term(), term);
    assert!(play.lead.is_ready());
}
