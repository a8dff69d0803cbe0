//! A lead that misses most of its cluster at once.

use super::*;

const N3: NodeId = MemberId(3);
const N4: NodeId = MemberId(4);
const LONG: Micros = Micros::from_secs(8);

impl Play {
    /// Four nodes; the first has a copy, and then only the last is heard.
    fn misses_most(partition: PartitionPolicy) -> (Self, Token) {
        let mut play = Self::with_nodes();
        play.joins(N3, 800);
        play.joins(N4, 700);
        let (node, token) = play.placed(partition);
        assert_eq!(node, N1);
        let sent = play.hears_only(LONG, &[N4]);
        assert_eq!(reserve(&sent), None, "the lead may be the one that is cut off");
        (play, token)
    }

    fn hears_only(&mut self, span: Micros, alive: &[NodeId]) -> Vec<(MemberId, M)> {
        let end = self.now + span;
        let mut sent = vec![];
        while self.now < end {
            self.now = self.now + Micros::from_millis(500);
            for node in alive {
                sent.extend(self.asks(*node, 700, vec![]));
            }
            sent.extend(self.feed(LeadInput::Tick));
        }
        sent
    }

    fn releases(&mut self) -> (Result<usize, BrakeError>, Vec<(MemberId, M)>) {
        let mut out = vec![];
        let told = self.lead.release_brake(self.now, &mut out);
        self.journal.extend(out.into_iter().filter_map(|output| match output {
            LeadOutput::Journal(record) => Some(record),
            _ => None,
        }));
        (told, self.feed(LeadInput::Tick))
    }

    fn missing(&self) -> Option<(usize, usize, usize)> {
        self.lead.brake().map(|brake| (brake.missing.silent, brake.missing.of, brake.held))
    }
}

#[test]
fn lead_that_misses_most_nodes_at_once_moves_nothing_until_enough_are_back_for_a_while() {
    let (mut play, _) = Play::misses_most(PartitionPolicy::Autonomous);
    assert_eq!(play.missing(), Some((3, 4, 1)));
    assert_eq!(reserve(&play.hears_only(Micros::from_secs(3), &[N2, N4])), None, "half is there, only just");
    assert_eq!(play.missing(), Some((2, 4, 1)));
    let (node, _) = reserve(&play.hears_only(Micros::from_secs(2), &[N2, N4])).expect("and stays");
    assert_eq!((node, play.missing()), (N2, None));
}

#[test]
fn lead_whose_brake_holds_keeps_what_a_node_that_comes_back_still_runs() {
    let (mut play, token) = Play::misses_most(PartitionPolicy::Autonomous);
    assert!(
        any(&play.asks(N1, 900, vec![brief(token)]), |m| matches!(m, M::Fence { .. })),
        "asked for a report"
    );
    let copy = Held { brief: brief(token), spec: spec(1, PartitionPolicy::Autonomous) };
    let sent = play.reports(N1, 900, vec![copy]);
    assert!(matches!(play.stage(), Stage::Held(p) if p.token == token && p.node == N1), "{sent:?}");
    assert!(!any(&sent, |m| matches!(m, M::Close { .. } | M::Reserve { .. })), "{sent:?}");
    assert_eq!(play.missing(), Some((3, 4, 0)), "nothing waits any more");
}

#[test]
fn lead_whose_brake_holds_places_anew_what_a_node_that_comes_back_has_lost() {
    let (mut play, token) = Play::misses_most(PartitionPolicy::Fence);
    // Fenced, and closed there by the guard: the lease was waited out.
    play.asks(N1, 900, vec![brief(token)]);
    let sent = play.closed(N1, token, ClosedReason::Stopped);
    assert!(reserve(&sent).is_some(), "it need not wait for anybody: {sent:?}");
    assert!(play.missing().is_some());
}

#[test]
fn lead_whose_brake_holds_places_what_is_new() {
    let (mut play, _) = Play::misses_most(PartitionPolicy::Autonomous);
    let mut offer = play.offer(1, 1, PartitionPolicy::Autonomous);
    if let M::Offer { replica, .. } = &mut offer {
        replica.index = 1;
    }
    let (node, _) = reserve(&play.hear(HOME, offer)).expect("the cluster goes on deciding");
    assert_eq!(node, N4);
}

#[test]
fn lead_told_by_an_operator_that_the_missing_are_gone_moves_at_once_and_so_does_the_next_lead() {
    let (mut play, _) = Play::misses_most(PartitionPolicy::Fence);
    let (told, sent) = play.releases();
    assert_eq!(told, Ok(1));
    assert_eq!(reserve(&sent).map(|(node, _)| node), Some(N4));
    assert_eq!(play.releases().0, Err(BrakeError::NotEngaged));
    for journal in [play.journal.clone(), play.lead.snapshot()] {
        let mut next = Play::on(journal);
        next.joins(N4, 700);
        let sent = next.hears_only(LONG, &[N4]);
        assert!(reserve(&sent).is_some(), "those who are gone do not count: {sent:?}");
        assert_eq!(next.missing(), None);
        // One that comes back counts again.
        next.joins(N1, 700);
        next.joins(N2, 700);
        next.hears_only(LONG, &[N4]);
        assert_eq!(next.missing().map(|(silent, of, _)| (silent, of)), Some((2, 3)));
    }
}

#[test]
fn lead_that_takes_office_among_silent_nodes_does_not_take_their_copies_for_lost() {
    let (play, _) = Play::misses_most(PartitionPolicy::Autonomous);
    let mut next = Play::on(play.journal.clone());
    next.joins(N4, 700);
    let sent = next.hears_only(LONG, &[N4]);
    assert!(next.lead.is_ready() && reserve(&sent).is_none(), "{sent:?}");
    assert_eq!(next.missing(), Some((3, 4, 1)));
}

#[test]
fn lead_loses_nodes_one_after_the_other_over_a_long_time_without_brake() {
    let mut play = Play::with_nodes();
    play.joins(N3, 800);
    play.joins(N4, 700);
    play.placed(PartitionPolicy::Fence);
    assert!(reserve(&play.hears_only(LONG, &[N2, N3, N4])).is_some(), "one of four");
    play.hears_only(Micros::from_secs(600), &[N2, N3, N4]);
    play.hears_only(LONG, &[N3, N4]);
    assert_eq!(play.missing(), None, "one of three");
    play.hears_only(LONG, &[N4]);
    assert_eq!(play.missing().map(|(silent, of, _)| (silent, of)), Some((2, 3)));
}

#[test]
fn lead_that_was_paused_itself_moves_nothing() {
    let mut play = Play::with_nodes();
    play.joins(N3, 800);
    play.placed(PartitionPolicy::Autonomous);
    play.now = play.now + Micros::from_secs(60);
    let sent = play.asks(N3, 700, vec![]);
    assert_eq!(reserve(&sent), None, "who asks first is not the only one there is");
    assert_eq!(play.missing(), Some((2, 3, 1)));
}
