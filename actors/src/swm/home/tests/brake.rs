//! A home that misses most of its clusters at once, and the pace of what it takes away.

use codeco_protocol::workload::PartitionPolicy;

use super::*;

const LIMIT: Micros = Micros::from_secs(20);
const NORTH: MemberId = MemberId(3);
const ALL: [MemberId; 3] = [EAST, WEST, NORTH];

fn name_of(lead: MemberId) -> ClusterName {
    if lead == NORTH { ClusterName::new("north").unwrap() } else { cluster(lead) }
}

impl Play {
    /// One replica in the east that may start elsewhere after [`LIMIT`]; all three clusters have been heard.
    fn among_three() -> Self {
        let mut play = Self::new();
        play.hears(&ALL);
        let mut spec = app(1, 100);
        spec.services[0].spec.partition = PartitionPolicy::Autonomous;
        spec.services[0].spec.lost_after = Some(LIMIT);
        let asked: Vec<_> = play.apply(spec).into_iter().filter(|(lead, _)| *lead == EAST).collect();
        play.bids(&asked, EAST);
        assert_eq!(offers(&play.waits(Micros::from_secs(1))).len(), 1, "offered to the one that has bid");
        play.accepted(EAST, 0, 1);
        play.hears(&ALL);
        play
    }

    /// These clusters are heard, and their leads ask whether the home is there; the others are silent.
    fn hears(&mut self, heard: &[MemberId]) -> Vec<(MemberId, M)> {
        let list = ALL.map(|lead| facts(name_of(lead), term(1, lead), heard.contains(&lead)));
        let mut sent = self.feed(HomeInput::Clusters(list.to_vec()));
        for lead in heard {
            let message = M::Watch { nonce: 7, term: term(1, *lead), allowance: Micros::from_secs(3) };
            sent.extend(self.feed(HomeInput::Message { from: *lead, cluster: name_of(*lead), message }));
        }
        sent
    }

    fn passes(&mut self, span: Micros, heard: &[MemberId]) {
        let end = self.now + span;
        while self.now < end {
            self.now = self.now + Micros::from_millis(500);
            self.hears(heard);
        }
    }

    /// Whether the replica is given to another cluster within `span`.
    fn moves_within(&mut self, span: Micros, heard: &[MemberId]) -> bool {
        let end = self.now + span;
        while self.now < end {
            self.now = self.now + Micros::from_millis(500);
            if self.hears(heard).iter().any(|(_, message)| matches!(message, M::BidRequest { .. })) {
                return true;
            }
        }
        false
    }
}

#[test]
fn home_that_misses_one_cluster_of_three_gives_its_replicas_to_others() {
    let mut play = Play::among_three();
    assert!(play.moves_within(Micros::from_secs(30), &[WEST, NORTH]));
}

#[test]
fn home_that_misses_most_clusters_gives_nothing_away_until_enough_are_heard_for_a_while() {
    let mut play = Play::among_three();
    assert!(!play.moves_within(Micros::from_secs(900), &[NORTH]), "it may be the one that is cut off");
    assert!(play.home.is_braked());
    assert!(!play.moves_within(Micros::from_secs(4), &[WEST, NORTH]), "enough are back, but only just");
    assert!(play.moves_within(Micros::from_secs(3), &[WEST, NORTH]), "and stay");
    assert!(!play.home.is_braked());
}

#[test]
fn home_whose_lost_cluster_comes_back_while_the_brake_holds_has_given_nothing_away() {
    let mut play = Play::among_three();
    assert!(!play.moves_within(Micros::from_secs(60), &[NORTH]));
    assert!(!play.moves_within(Micros::from_secs(60), &ALL));
    assert!(play.journal.iter().all(|record| !matches!(record, HomeRecord::Lost { .. })));
}

#[test]
fn home_told_by_an_operator_that_a_cluster_is_gone_gives_its_replicas_to_others() {
    let mut play = Play::among_three();
    let mut out = vec![];
    assert!(!play.home.release_brake(play.now, &cluster(EAST), &mut out), "nothing is held");
    assert!(!play.moves_within(Micros::from_secs(60), &[NORTH]));
    assert!(!play.home.release_brake(play.now, &name_of(NORTH), &mut out), "that one is heard");
    assert!(play.home.release_brake(play.now, &cluster(EAST), &mut out));
    let sent = play.write(out);
    assert!(sent.iter().any(|(_, message)| matches!(message, M::BidRequest { .. })), "{sent:?}");
}

#[test]
fn home_that_loses_clusters_one_after_the_other_over_a_long_time_has_no_brake() {
    let mut play = Play::among_three();
    assert!(play.moves_within(Micros::from_secs(30), &[WEST, NORTH]));
    play.passes(Micros::from_secs(700), &[WEST, NORTH]);
    let mut second = app(1, 100);
    second.context.uid = AppUid(2);
    second.context.name = AppName::new("b").unwrap();
    second.services[0].spec.lost_after = Some(LIMIT);
    let asked: Vec<_> = play.apply(second).into_iter().filter(|(lead, _)| *lead == WEST).collect();
    play.bids(&asked, WEST);
    play.waits(Micros::from_secs(1));
    play.passes(Micros::from_secs(60), &[NORTH]);
    assert!(!play.home.is_braked(), "one of the two that are left");
    let lost = play.journal.iter().filter(|record| matches!(record, HomeRecord::Lost { .. })).count();
    assert_eq!(lost, 2);
}

#[test]
fn home_told_that_fewer_copies_are_wanted_takes_them_away_at_a_bounded_pace_but_a_deletion_at_once() {
    let recalling = |play: &Play| {
        play.journal.iter().filter(|record| matches!(record, HomeRecord::Recalling { .. })).count()
    };
    let mut play = Play::placed(60);
    play.now = play.now + Micros::from_secs(60);
    play.apply(app(1, 100));
    assert_eq!(recalling(&play), 32);
    play.waits(Micros::from_secs(1));
    assert_eq!(recalling(&play), 40);
    // The wrong number is taken back in time.
    play.apply(app(60, 100));
    play.waits(Micros::from_secs(60));
    assert_eq!(recalling(&play), 40);
    play.delete();
    assert_eq!(recalling(&play), 60);
}
