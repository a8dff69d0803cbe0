use codeco_protocol::ids::NodeId;
use codeco_protocol::messages::{BidLine, ControlMessage as M, Demand, Leaving, Profile, Replace, RunPhase};
use codeco_protocol::token::Attempt;
use codeco_protocol::units::{Bytes, MilliCpu};
use codeco_protocol::workload::{PartitionPolicy, RestartPolicy};

use super::*;

const HOME: MemberId = MemberId(9);
const EAST: MemberId = MemberId(1);
const WEST: MemberId = MemberId(2);

fn cluster(lead: MemberId) -> ClusterName {
    ClusterName::new(if lead == EAST { "east" } else { "west" }).unwrap()
}

/// An empty cluster, as its lead describes it.
fn facts(name: ClusterName, term: Term, reachable: bool) -> ClusterFacts {
    ClusterFacts {
        name,
        lead: term.owner,
        term,
        capacity: Resources::new(MilliCpu(1_000), Bytes(0)),
        free: Resources::new(MilliCpu(1_000), Bytes(0)),
        labels: BTreeMap::new(),
        round_trip: None,
        coordinate: None,
        age: Micros(0),
        reachable,
        traits: Default::default(),
    }
}

fn term(number: u64, lead: NodeId) -> Term {
    Term { number, owner: lead }
}

fn replica(index: u32) -> ReplicaId {
    ReplicaId { app: AppUid(1), service: ServiceName::new("s").unwrap(), index }
}

fn app(replicas: u32, cpu: u64) -> AppSpec {
    let (namespace, name) = (Namespace::new("default").unwrap(), AppName::new("a").unwrap());
    let spec = WorkloadSpec {
        namespace: namespace.clone(),
        app: name.clone(),
        generation: 0,
        containers: vec![],
        restart: RestartPolicy::Always,
        stop_grace: Micros::from_secs(1),
        resources: Resources::new(MilliCpu(cpu), Bytes(0)),
        partition: PartitionPolicy::Fence,
        pod_spec_json: String::new(),
        lost_after: None,
    };
    AppSpec {
        context: AppContext {
            uid: AppUid(1),
            namespace,
            name,
            profile: Profile::Balanced,
            channels: vec![],
            demands: Default::default(),
        },
        services: vec![ServiceSpec {
            name: ServiceName::new("s").unwrap(),
            replicas,
            spec,
            node_selector: vec![],
            cluster_selector: vec![],
            max_unavailable: 1,
            on_reconnect: Default::default(),
            spread: Default::default(),
            regions: vec![],
        }],
        manifest_json: String::new(),
    }
}

/// A home, and the journal a shell would have written.
struct Play {
    home: Home,
    journal: Vec<HomeRecord>,
    now: BootTime,
    terms: BTreeMap<MemberId, u64>,
}

impl Play {
    fn new() -> Self {
        Self::on(vec![])
    }

    fn on(journal: Vec<HomeRecord>) -> Self {
        let home = Home::recover(HomeConfig::new(HOME, 1), &journal);
        let terms = BTreeMap::from([(EAST, 1), (WEST, 1)]);
        let mut play = Self { home, journal, now: BootTime(1_000_000), terms };
        play.sees_clusters();
        play
    }

    fn write(&mut self, out: Vec<HomeOutput>) -> Vec<(MemberId, M)> {
        let mut sent = vec![];
        for output in out {
            match output {
                HomeOutput::Journal(record) => self.journal.push(record),
                HomeOutput::Send { to, message } => sent.push((to, message)),
                HomeOutput::Decided(_) | HomeOutput::Note(_) => {}
            }
        }
        sent
    }

    fn feed(&mut self, input: HomeInput) -> Vec<(MemberId, M)> {
        let mut out = vec![];
        self.home.handle(self.now, input, &mut out);
        self.write(out)
    }

    fn sees_clusters(&mut self) -> Vec<(MemberId, M)> {
        let list = self.terms.iter().map(|(lead, number)| facts(cluster(*lead), term(*number, *lead), true));
        let list = list.collect();
        self.feed(HomeInput::Clusters(list))
    }

    fn hear(&mut self, from: MemberId, message: M) -> Vec<(MemberId, M)> {
        self.feed(HomeInput::Message { from, cluster: cluster(from), message })
    }

    fn apply(&mut self, spec: AppSpec) -> Vec<(MemberId, M)> {
        let mut out = vec![];
        self.home.apply(self.now, WallTime(0), spec, &mut out).unwrap();
        self.write(out)
    }

    fn delete(&mut self) -> Vec<(MemberId, M)> {
        let (namespace, name) = (Namespace::new("default").unwrap(), AppName::new("a").unwrap());
        let mut out = vec![];
        self.home.delete(self.now, &namespace, &name, &mut out).unwrap();
        self.write(out)
    }

    /// Both leads bid; the one named is cheaper.
    fn bids(&mut self, asked: &[(MemberId, M)], cheaper: MemberId) -> Vec<(MemberId, M)> {
        let mut sent = vec![];
        for (lead, message) in asked {
            let M::BidRequest { request, demands, .. } = message else { continue };
            let price = if *lead == cheaper { 1.0 } else { 2.0 };
            let lines = demands.iter().map(|demand| BidLine {
                replica: demand.replica.clone(),
                answer: Ok((price, NodeName::new("n").unwrap())),
                obstacles: vec![],
                power: None,
                cost: None,
            });
            let (lines, term) = (lines.collect(), term(self.terms[lead], *lead));
            sent.extend(self.hear(*lead, M::Bid { request: *request, term, cluster: cluster(*lead), lines }));
        }
        sent
    }

    fn waits(&mut self, span: Micros) -> Vec<(MemberId, M)> {
        self.now = self.now + span;
        self.feed(HomeInput::Tick)
    }

    fn accepted(&mut self, lead: MemberId, index: u32, generation: u64) -> Vec<(MemberId, M)> {
        let (term, mandate) = (term(self.terms[&lead], lead), MandateId(1));
        let token = Token { term, mandate, attempt: Attempt(1), ..Token::default() };
        let node = NodeName::new("n").unwrap();
        self.hear(
            lead,
            M::Accepted {
                term,
                mandate,
                replica: replica(index),
                generation,
                node,
                token,
                run: RunPhase::Ready,
                leaving: Leaving::No,
                number: 0,
                uplink: Default::default(),
            },
        )
    }

    fn returned(&mut self, lead: MemberId, index: u32) -> Vec<(MemberId, M)> {
        let term = term(self.terms[&lead], lead);
        let epoch = Epoch { number: 1, owner: HOME };
        self.hear(lead, M::Returned { term, epoch, mandate: MandateId(1), replica: replica(index) })
    }

    /// The lead whose cluster has the mandate.
    fn holder(&self, index: u32) -> MemberId {
        let (_, app) = self.home.apps().next().unwrap();
        let mandate = app.replicas[&(replica(index).service, index)].mandate.as_ref().unwrap();
        if mandate.cluster == cluster(EAST) { EAST } else { WEST }
    }

    /// Applied, bid for, offered (the first copy to the east) and accepted.
    fn placed(replicas: u32) -> Self {
        let mut play = Self::new();
        let asked = play.apply(app(replicas, 100));
        let offered = play.bids(&asked, EAST);
        assert_eq!(offers(&offered).len(), replicas as usize, "{offered:?}");
        for index in 0..replicas {
            play.accepted(play.holder(index), index, 1);
        }
        play
    }
}

fn offers(sent: &[(MemberId, M)]) -> Vec<(MemberId, Term, MandateId)> {
    let offer = |(to, message): &(MemberId, M)| match message {
        M::Offer { term, mandate, .. } => Some((*to, *term, *mandate)),
        _ => None,
    };
    sent.iter().filter_map(offer).collect()
}

fn recalls(sent: &[(MemberId, M)]) -> Vec<u32> {
    let recall = |(_, message): &(MemberId, M)| match message {
        M::Recall { replica, .. } => Some(replica.index),
        _ => None,
    };
    sent.iter().filter_map(recall).collect()
}

#[test]
fn home_asks_for_bids_offers_to_the_best_and_is_quiet_once_accepted() {
    let mut play = Play::new();
    let asked = play.apply(app(1, 100));
    assert_eq!(asked.len(), 2, "both clusters are asked: {asked:?}");
    assert_eq!(offers(&play.bids(&asked, WEST)), [(WEST, term(1, WEST), MandateId(1))]);
    let repeated = play.waits(Micros::from_secs(1));
    assert_eq!(offers(&repeated), [(WEST, term(1, WEST), MandateId(1))], "unanswered, so again");
    play.accepted(WEST, 0, 1);
    assert!(play.waits(Micros::from_secs(1)).is_empty());
}

#[test]
fn home_asks_again_after_a_while_because_a_move_may_have_gone_unheard() {
    let mut play = Play::placed(1);
    assert_eq!(offers(&play.waits(Micros::from_secs(11))).len(), 1);
}

#[test]
fn home_without_a_bid_in_time_tries_again() {
    let mut play = Play::new();
    play.apply(app(1, 100));
    assert!(offers(&play.waits(Micros::from_millis(300))).is_empty());
    let asked = play.waits(Micros::from_secs(2));
    assert!(asked.iter().any(|(_, m)| matches!(m, M::BidRequest { .. })), "{asked:?}");
}

#[test]
fn home_tries_again_soon_at_first_what_no_cluster_can_take_and_then_once_a_second() {
    let mut play = Play::new();
    let mut asked = play.apply(app(1, 100));
    let mut pauses = vec![];
    for _ in 0..7 {
        for (lead, message) in asked {
            let M::BidRequest { request, demands, .. } = message else { continue };
            let none = |demand: &Demand| BidLine {
                replica: demand.replica.clone(),
                answer: Err("full".into()),
                obstacles: vec![],
                power: None,
                cost: None,
            };
            let (lines, term) = (demands.iter().map(none).collect(), term(play.terms[&lead], lead));
            play.hear(lead, M::Bid { request, term, cluster: cluster(lead), lines });
        }
        let mut pause = 0;
        asked = loop {
            let sent = play.waits(Micros::from_millis(10));
            pause += 10;
            if sent.iter().any(|(_, message)| matches!(message, M::BidRequest { .. })) {
                break sent;
            }
            assert!(pause < 2_000, "never again");
        };
        pauses.push(pause);
    }
    assert_eq!(pauses, [50, 100, 200, 400, 800, 1_000, 1_000]);
}

#[test]
fn home_offers_again_to_a_new_lead_and_ignores_the_decline_of_the_old() {
    let mut play = Play::new();
    let asked = play.apply(app(1, 100));
    play.bids(&asked, EAST);
    play.terms.insert(EAST, 2);
    play.sees_clusters();
    assert_eq!(offers(&play.waits(Micros::from_secs(1))), [(EAST, term(2, EAST), MandateId(1))]);
    let declined = |number| M::Declined {
        term: term(number, EAST),
        epoch: Epoch { number: 1, owner: HOME },
        mandate: MandateId(1),
        replica: replica(0),
        reason: "full".into(),
    };
    let mut after_crash = Play::on(play.journal.clone());
    for play in [&mut play, &mut after_crash] {
        assert!(play.hear(EAST, declined(1)).iter().all(|(_, m)| !matches!(m, M::BidRequest { .. })));
        assert!(play.home.apps().all(|(_, app)| app.replicas.values().all(|r| r.mandate.is_some())));
    }
    let asked = play.hear(EAST, declined(2));
    assert!(
        asked.iter().any(|(_, m)| matches!(m, M::BidRequest { .. })),
        "now it may go elsewhere: {asked:?}"
    );
    let offered = play.bids(&asked, EAST);
    assert_eq!(offers(&offered), [(WEST, term(1, WEST), MandateId(2))], "not where it was declined just now");
}

#[test]
fn home_deletes_an_application_only_when_every_mandate_is_back() {
    let mut play = Play::placed(2);
    play.now = play.now + Micros::from_secs(1);
    assert_eq!(recalls(&play.delete()), [0, 1]);
    play.returned(play.holder(0), 0);
    assert_eq!(play.home.apps().count(), 1, "one is still out");
    let mut play = Play::on(play.journal);
    assert_eq!(recalls(&play.waits(Micros::from_secs(1))), [1], "a crash forgets nothing");
    play.returned(play.holder(1), 1);
    assert_eq!(play.home.apps().count(), 0);
    assert_eq!(Play::on(play.journal).home.apps().count(), 0);
}

#[test]
fn home_deleting_an_application_does_not_take_it_again() {
    let mut play = Play::placed(1);
    play.delete();
    let again = play.home.apply(play.now, WallTime(0), app(1, 100), &mut vec![]);
    assert!(matches!(again, Err(ApplyError::Deleting { .. })), "{again:?}");
}

#[test]
fn home_scaling_down_recalls_the_highest_and_keeps_the_rest() {
    let mut play = Play::placed(3);
    play.now = play.now + Micros::from_secs(1);
    let sent = play.apply(app(1, 100));
    assert_eq!(recalls(&sent), [1, 2]);
    assert!(offers(&sent).is_empty(), "the copy that stays has not changed: {sent:?}");
}

#[test]
fn home_given_a_new_specification_changes_one_copy_after_the_other() {
    let mut play = Play::placed(3);
    play.now = play.now + Micros::from_secs(1);
    let allowed = |sent: &[(MemberId, M)]| -> Vec<(u32, Replace)> {
        let told = |(_, message): &(MemberId, M)| match message {
            M::Offer { replica, replace, .. } if *replace != Replace::Keep => Some((replica.index, *replace)),
            _ => None,
        };
        sent.iter().filter_map(told).collect()
    };
    let sent = play.apply(app(3, 200));
    assert_eq!(allowed(&sent), [(0, Replace::StopFirst)]);
    let waiting = play.waits(Micros::from_secs(30));
    assert_eq!(allowed(&waiting), [(0, Replace::StopFirst)], "not ready, so nothing more is touched");
    // A crash forgets neither the pick nor the others' right to wait.
    let journal = play.journal.clone();
    let again = Home::recover(HomeConfig::new(HOME, 1), &journal);
    assert_eq!(again.snapshot(), play.home.snapshot());
    let sent = play.accepted(play.holder(0), 0, 2);
    assert_eq!(allowed(&sent), [(1, Replace::StopFirst)]);
    play.accepted(play.holder(1), 1, 2);
    play.accepted(play.holder(2), 2, 2);
    assert!(allowed(&play.waits(Micros::from_secs(30))).is_empty(), "all is changed");
}

#[test]
fn home_planning_an_application_writes_nothing_down() {
    let mut play = Play::new();
    let before = play.home.snapshot();
    let mut out = vec![];
    let request = play.home.begin_plan(play.now, app(2, 100), &mut out).unwrap();
    assert_eq!(out.len(), 2, "both clusters are asked: {out:?}");
    assert!(out.iter().all(|o| matches!(o, HomeOutput::Send { message: M::BidRequest { .. }, .. })));
    assert_eq!(play.home.finish_plan(play.now, request), None, "bids are awaited");
    let asked: Vec<_> = out
        .into_iter()
        .filter_map(|o| match o {
            HomeOutput::Send { to, message } => Some((to, message)),
            _ => None,
        })
        .collect();
    assert!(play.bids(&asked, WEST).is_empty(), "nothing is offered");
    let plan = play.home.finish_plan(play.now, request).unwrap();
    assert_eq!(plan.replicas.len(), 2);
    assert!(plan.replicas.iter().all(|r| r.action == PlanAction::Create && r.to.is_some()), "{plan:?}");
    assert_eq!(play.home.snapshot(), before);
    assert!(play.journal.is_empty());
}

#[test]
fn home_that_crashed_before_its_recalls_makes_up_for_them() {
    let mut play = Play::placed(2);
    play.apply(app(1, 100));
    let crashed = play.journal.iter().take_while(|r| !matches!(r, HomeRecord::Recalling { .. }));
    let mut play = Play::on(crashed.cloned().collect());
    assert_eq!(recalls(&play.waits(Micros::from_secs(1))), [1]);
}

#[test]
fn home_given_a_new_specification_offers_the_same_mandate_with_a_newer_generation() {
    let mut play = Play::placed(1);
    play.now = play.now + Micros::from_secs(1);
    let sent = play.apply(app(1, 200));
    assert!(
        matches!(&sent[..], [(EAST, M::Offer { mandate: MandateId(1), spec, .. })] if spec.generation == 2),
        "{sent:?}"
    );
    play.accepted(EAST, 0, 1);
    assert_eq!(offers(&play.waits(Micros::from_secs(1))).len(), 1, "the old generation is no answer");
    play.accepted(EAST, 0, 2);
    assert!(play.waits(Micros::from_secs(1)).is_empty());
}

#[test]
fn home_never_gives_a_mandate_number_twice() {
    let mut play = Play::placed(1);
    play.returned(EAST, 0);
    let mut play = Play::on(play.home.snapshot());
    let asked = play.waits(Micros::from_secs(1));
    let asked = if asked.is_empty() { play.waits(Micros::from_secs(1)) } else { asked };
    assert_eq!(offers(&play.bids(&asked, WEST)), [(WEST, term(1, WEST), MandateId(2))]);
}

#[test]
fn home_hears_of_a_copy_in_the_order_in_which_its_lead_spoke() {
    let mut play = Play::placed(1);
    let lead = play.holder(0);
    let answer = |number, run, generation| M::Accepted {
        term: term(1, lead),
        mandate: MandateId(1),
        replica: replica(0),
        generation,
        node: NodeName::new("n").unwrap(),
        token: Token { term: term(1, lead), mandate: MandateId(1), attempt: Attempt(1), ..Token::default() },
        run,
        leaving: Leaving::No,
        number,
        uplink: Default::default(),
    };
    play.hear(lead, answer(9, RunPhase::Ready, 1));
    play.hear(lead, answer(8, RunPhase::Waiting, 1));
    let run = |play: &Play| {
        let (_, app) = play.home.apps().next().unwrap();
        app.replicas[&(replica(0).service, 0)].mandate.as_ref().unwrap().run
    };
    assert_eq!(run(&play), Some(RunPhase::Ready), "the other was overtaken");
    play.hear(lead, answer(10, RunPhase::Failed, 1));
    assert_eq!(run(&play), Some(RunPhase::Failed));
}

mod adoption;
mod brake;
mod contact;
