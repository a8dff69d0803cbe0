//! Silent clusters, and two copies after one was heard again.

use codeco_protocol::workload::PartitionPolicy;

use super::*;
use crate::swm::home::OnReconnect;

const LIMIT: Micros = Micros::from_secs(20);

fn spec(partition: PartitionPolicy, on_reconnect: OnReconnect) -> AppSpec {
    let mut spec = app(1, 100);
    spec.services[0].spec.partition = partition;
    spec.services[0].spec.lost_after = Some(LIMIT);
    spec.services[0].on_reconnect = on_reconnect;
    spec
}

/// One replica in the east, which has just asked whether the home is there.
fn in_the_east(partition: PartitionPolicy, on_reconnect: OnReconnect) -> Play {
    let mut play = Play::new();
    let asked = play.apply(spec(partition, on_reconnect));
    assert_eq!(offers(&play.bids(&asked, EAST)).len(), 1);
    play.says(EAST, 1, 1);
    play.watched(EAST);
    play
}

impl Play {
    fn says(&mut self, lead: MemberId, mandate: u64, attempt: u64) -> Vec<(MemberId, M)> {
        let (term, mandate) = (term(self.terms[&lead], lead), MandateId(mandate));
        let token = Token { term, mandate, attempt: Attempt(attempt), ..Token::default() };
        let node = NodeName::new("n").unwrap();
        let (run, leaving, number) = (RunPhase::Ready, Leaving::No, self.now.0);
        let (replica, uplink) = (replica(0), Default::default());
        let generation = 1;
        self.hear(
            lead,
            M::Accepted { term, mandate, replica, generation, node, token, run, leaving, number, uplink },
        )
    }

    fn gives_back(&mut self, lead: MemberId, mandate: u64) -> Vec<(MemberId, M)> {
        let term = term(self.terms[&lead], lead);
        let epoch = Epoch { number: 1, owner: HOME };
        self.hear(lead, M::Returned { term, epoch, mandate: MandateId(mandate), replica: replica(0) })
    }

    /// A lead asks; the mandates that it is told are void.
    fn watched(&mut self, lead: MemberId) -> Vec<MandateId> {
        let watch =
            M::Watch { nonce: 7, term: term(self.terms[&lead], lead), allowance: Micros::from_secs(3) };
        let sent = self.hear(lead, watch);
        let lost = sent.iter().find_map(|(to, message)| match message {
            M::Watched { nonce: 7, lost, .. } if *to == lead => Some(lost.clone()),
            _ => None,
        });
        lost.expect("the home answers").into_iter().map(|(_, mandate)| mandate).collect()
    }

    /// Until something is asked for or offered, at most `span`.
    fn until_asked(&mut self, span: Micros) -> Vec<(MemberId, M)> {
        let end = self.now + span;
        while self.now < end {
            let sent = self.waits(Micros::from_millis(250));
            if sent.iter().any(|(_, m)| matches!(m, M::BidRequest { .. })) {
                return sent;
            }
        }
        Vec::new()
    }

    fn recalled(&mut self, span: Micros) -> Vec<(MemberId, MandateId)> {
        let sent = self.waits(span);
        let recall = |(to, message): &(MemberId, M)| match message {
            M::Recall { mandate, .. } => Some((*to, *mandate)),
            _ => None,
        };
        sent.iter().filter_map(recall).collect()
    }

    /// The west has a second copy, and the east is heard again with what it has.
    fn doubled(rule: OnReconnect, attempt: u64) -> Self {
        let mut play = in_the_east(PartitionPolicy::Autonomous, rule);
        let asked = play.until_asked(Micros::from_secs(40));
        assert_eq!(offers(&play.bids(&asked, WEST)), [(WEST, term(1, WEST), MandateId(2))]);
        assert!(play.recalled(Micros::from_secs(1)).is_empty(), "the second is not ready");
        play.says(WEST, 2, 1);
        assert!(play.recalled(Micros::from_secs(1)).is_empty(), "the first is not heard");
        play.says(EAST, 1, attempt);
        play
    }
}

#[test]
fn home_gives_a_fenced_replica_of_a_silent_cluster_away_only_after_its_count_has_surely_ended() {
    let mut play = in_the_east(PartitionPolicy::Fence, OnReconnect::KeepOriginal);
    let grace = play.home.apps().next().unwrap().1.spec.services[0].spec.stop_grace;
    assert!(
        play.until_asked(Micros(LIMIT.0 + grace.0 + 3_000_000)).is_empty(),
        "the cluster may still stop it"
    );
    let asked = play.until_asked(Micros::from_secs(5));
    assert_eq!(
        offers(&play.bids(&asked, EAST)),
        [(WEST, term(1, WEST), MandateId(2))],
        "not to the silent one"
    );
    // After a crash it is known who has what.
    let mut play = Play::on(play.home.snapshot());
    assert_eq!(play.watched(EAST), [MandateId(1)], "the old right is void");
    assert_eq!(play.recalled(Micros::from_secs(1)), [(EAST, MandateId(1))]);
    play.gives_back(EAST, 1);
    assert!(play.watched(EAST).is_empty());
}

#[test]
fn home_that_answers_in_time_or_has_no_limit_gives_nothing_away() {
    let mut play = in_the_east(PartitionPolicy::Fence, OnReconnect::KeepOriginal);
    for _ in 0..10 {
        assert!(play.until_asked(Micros::from_secs(10)).is_empty());
        play.watched(EAST);
    }
    let mut play = Play::placed(1);
    assert!(
        play.until_asked(Micros::from_secs(1_000)).is_empty(),
        "without lostAfter only its return counts"
    );
    let mut out = vec![];
    assert_eq!(play.home.cluster_lost(play.now, &cluster(EAST), &mut out), 1, "or an operator's word");
    let asked = play.write(out);
    assert!(asked.iter().any(|(_, m)| matches!(m, M::BidRequest { .. })), "{asked:?}");
}

#[test]
fn home_that_restarts_counts_the_silence_of_clusters_anew() {
    let mut play = in_the_east(PartitionPolicy::Fence, OnReconnect::KeepOriginal);
    play.waits(Micros::from_secs(19));
    let (now, journal) = (play.now, play.journal.clone());
    let home = Home::recover(HomeConfig::new(HOME, 1), &journal);
    let mut play = Play { home, journal, now, ..play };
    play.sees_clusters();
    assert!(play.until_asked(Micros::from_secs(19)).is_empty(), "it may have answered just before it died");
    assert!(!play.until_asked(Micros::from_secs(20)).is_empty());
}

#[test]
fn home_lets_an_autonomous_replica_run_twice_at_most() {
    let mut play = in_the_east(PartitionPolicy::Autonomous, OnReconnect::KeepOriginal);
    let asked = play.until_asked(Micros::from_secs(30));
    play.bids(&asked, WEST);
    play.says(WEST, 2, 1);
    play.watched(WEST);
    assert!(play.until_asked(Micros::from_secs(200)).is_empty(), "the west is silent too, and there are two");
}

#[test]
fn home_keeps_the_declared_one_of_two_copies_and_asks_the_other_back_when_that_one_is_there() {
    use OnReconnect::{BestScore, KeepNewest, KeepOriginal, LongestRunning};
    let (east, west) = ((EAST, MandateId(1)), (WEST, MandateId(2)));
    for (rule, attempt, dropped) in [
        (KeepOriginal, 1, west),
        (KeepNewest, 1, east),
        (LongestRunning, 1, west),
        (LongestRunning, 2, east),
        (BestScore, 1, west),
    ] {
        let mut play = Play::doubled(rule, attempt);
        assert_eq!(play.recalled(Micros::from_secs(1)), [dropped], "{rule:?}");
        // As it is written down, so it goes on after a crash.
        let mut play = Play::on(play.journal.clone());
        assert_eq!(play.recalled(Micros::from_secs(1)), [dropped], "{rule:?}");
        play.gives_back(dropped.0, dropped.1.0);
        let (_, app) = play.home.apps().next().unwrap();
        let entry = app.replicas.values().next().unwrap();
        assert!(entry.lost.is_empty() && entry.mandate.as_ref().is_some_and(|held| held.id != dropped.1));
        assert!(play.until_asked(Micros::from_secs(5)).is_empty(), "nothing more is wanted");
    }
}

#[test]
fn home_that_deletes_an_application_waits_for_the_mandates_of_lost_clusters_too() {
    let mut play = in_the_east(PartitionPolicy::Autonomous, OnReconnect::KeepOriginal);
    let asked = play.until_asked(Micros::from_secs(30));
    play.bids(&asked, WEST);
    play.says(WEST, 2, 1);
    play.delete();
    play.gives_back(WEST, 2);
    assert_eq!(play.home.apps().count(), 1, "the east may run it");
    assert_eq!(play.recalled(Micros::from_secs(1)), [(EAST, MandateId(1))]);
    play.gives_back(EAST, 1);
    assert_eq!(play.home.apps().count(), 0);
}

/// Whoever had a replica last is the same after a restart, whether from all records or from their snapshot.
#[test]
fn home_snapshot_stands_for_its_records_through_loss_and_reconciliation_in_any_order() {
    let name = |cluster: &str| ClusterName::new(cluster).unwrap();
    let given = |id: u64, cluster| HomeRecord::Mandated {
        replica: replica(0),
        mandate: MandateId(id),
        cluster: name(cluster),
    };
    let lost = |id: u64| HomeRecord::Lost { replica: replica(0), mandate: MandateId(id), recalled: false };
    let back = |id: u64| HomeRecord::HandedBack { replica: replica(0), mandate: MandateId(id) };
    let keep = |id: u64| HomeRecord::Reconciled { replica: replica(0), keep: MandateId(id) };
    let mut play = Play::new();
    play.apply(app(1, 100));
    let begin = play.home.snapshot();
    for story in [
        vec![given(1, "a"), lost(1), given(2, "b"), keep(1), back(2)],
        vec![given(1, "a"), lost(1), given(2, "b"), keep(1), back(1)],
        vec![given(1, "a"), lost(1), given(2, "b"), keep(2), back(1), lost(2), given(3, "c"), back(3)],
        vec![given(1, "a"), lost(1), given(2, "b"), lost(2), back(2)],
    ] {
        for end in 0..=story.len() {
            let records: Vec<HomeRecord> = begin.iter().chain(&story[..end]).cloned().collect();
            let config = HomeConfig::new(HOME, 1);
            let home = Home::recover(config.clone(), &records);
            let again = Home::recover(config, &home.snapshot());
            assert_eq!(again, home, "after {:?}", &story[..end]);
        }
    }
}
