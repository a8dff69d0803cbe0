//! Another home speaks for an application.

use super::*;

const HEIR: MemberId = MemberId(11);
const HEIRS: Epoch = Epoch { number: 2, owner: HEIR };

impl Play {
    fn adoptable(&self, epoch: Epoch, mandate: u64, generation: u64) -> M {
        let mut offer = self.offer(mandate, generation, PartitionPolicy::Autonomous);
        if let M::Offer { context, epoch: under, .. } = &mut offer {
            context.demands.adopt_after = Some(Micros::from_secs(10));
            *under = epoch;
        }
        offer
    }

    fn placed_adoptable() -> (Self, Token) {
        let mut play = Self::with_nodes();
        let offer = play.adoptable(EPOCH, 1, 1);
        let (node, token) = reserve(&play.hear(HOME, offer)).unwrap();
        play.hear(node, M::Reserved { replica: replica(), token });
        play.hear(node, M::Committed { replica: replica(), token });
        (play, token)
    }
}

#[test]
fn lead_offered_the_same_mandate_by_the_next_home_answers_to_it_and_leaves_what_runs_alone() {
    let (mut play, token) = Play::placed_adoptable();
    let offer = play.adoptable(HEIRS, 1, 1);
    let sent = play.hear(HEIR, offer);
    assert!(matches!(sent[..], [(HEIR, M::Accepted { token: t, .. })] if t == token), "{sent:?}");
    assert_eq!(play.stage().placement().map(|p| p.token), Some(token));
    // Who spoke for it before is not obeyed any more, however it asks.
    let late = play.adoptable(EPOCH, 1, 2);
    assert!(play.hear(HOME, late).is_empty());
    assert!(play.recalled(1).is_empty(), "nor told that the mandate is back");
    assert_eq!(play.stage().placement().map(|p| p.token), Some(token));
    // A change by the next home is one like any other, and so it is for the next lead.
    for journal in [play.journal.clone(), play.lead.snapshot()] {
        let mut next = Play::on(journal);
        next.joins(N2, 800);
        let copy = Held { brief: brief(token), spec: spec(1, PartitionPolicy::Autonomous) };
        next.asks(N1, 900, vec![brief(token)]);
        next.reports(N1, 900, vec![copy]);
        assert_eq!(next.stage().placement().map(|p| p.token), Some(token));
        assert!(next.recalled(1).is_empty());
        let recall = M::Recall { epoch: HEIRS, mandate: MandateId(1), replica: replica() };
        let sent = next.hear(HEIR, recall.clone());
        assert!(any(&sent, |m| matches!(m, M::Close { token: t, .. } if *t == token)), "{sent:?}");
        let sent = next.closed(N1, token, ClosedReason::Stopped);
        assert!(any(&sent, |m| matches!(m, M::Returned { epoch: HEIRS, .. })), "{sent:?}");
        let late = next.adoptable(HEIRS, 1, 1);
        assert!(
            matches!(next.hear(HEIR, late)[..], [(HEIR, M::Returned { .. })]),
            "the late offer places nothing"
        );
    }
}

#[test]
fn lead_offered_by_another_home_what_may_not_be_adopted_keeps_to_its_own() {
    let mut play = Play::with_nodes();
    let (_, token) = play.placed(PartitionPolicy::Autonomous);
    let offer = play.adoptable(HEIRS, 1, 1);
    assert!(play.hear(HEIR, offer).is_empty(), "it never said that it may be adopted");
    assert!(any(&play.recalled(1), |m| matches!(m, M::Close { token: t, .. } if *t == token)));
}

#[test]
fn lead_offered_another_mandate_by_the_next_home_ends_the_one_it_has_first() {
    let (mut play, token) = Play::placed_adoptable();
    let offer = play.adoptable(HEIRS, 1_001, 1);
    let sent = play.hear(HEIR, offer.clone());
    assert!(any(&sent, |m| matches!(m, M::Close { token: t, .. } if *t == token)), "{sent:?}");
    assert_eq!(reserve(&sent), None);
    play.closed(N1, token, ClosedReason::Stopped);
    let (_, next) = reserve(&play.hear(HEIR, offer)).expect("now it can");
    assert!(next > token, "under a token above the old one's");
}
