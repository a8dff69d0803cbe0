//! What may run while its home is silent.

use super::*;

const LIMIT: Micros = Micros::from_secs(20);

impl Play {
    /// A fenced replica on the first node, whose home may be silent for [`LIMIT`].
    fn bounded() -> Self {
        let mut play = Self::with_nodes();
        let mut offer = play.offer(1, 1, PartitionPolicy::Fence);
        if let M::Offer { spec, .. } = &mut offer {
            spec.lost_after = Some(LIMIT);
        }
        let sent = play.hear(HOME, offer);
        assert!(
            !sent.iter().any(|(_, m)| matches!(m, M::Reserve { .. })),
            "the home has not answered: {sent:?}"
        );
        let nonce = watch(&sent).expect("the home is asked");
        let sent = play.answered(nonce, vec![]);
        let token = sent.iter().find_map(|(_, m)| match m {
            M::Reserve { token, .. } => Some(*token),
            _ => None,
        });
        let token = token.expect("placed once the home has answered");
        play.hear(N1, M::Reserved { replica: self::replica(), token });
        play.hear(N1, M::Committed { replica: self::replica(), token });
        play
    }

    fn answered(&mut self, nonce: u64, lost: Vec<(ReplicaId, MandateId)>) -> Vec<(MemberId, M)> {
        let term = self.lead.term();
        let mut sent = self.hear(HOME, M::Watched { nonce, term, lost });
        sent.extend(self.feed(LeadInput::Tick));
        sent
    }

    fn token(&self) -> Token {
        self.lead.mandates().next().unwrap().1.stage.placement().unwrap().token
    }

    fn held(&self, token: Token) -> Vec<HeldBrief> {
        vec![HeldBrief { replica: replica(), token, phase: HeldPhase::Committed, run: RunPhase::Ready }]
    }

    fn later(&mut self, span: Micros) -> Vec<(MemberId, M)> {
        self.now = self.now + span;
        self.feed(LeadInput::Tick)
    }
}

fn watch(sent: &[(MemberId, M)]) -> Option<u64> {
    sent.iter().find_map(|(to, m)| match m {
        M::Watch { nonce, .. } if *to == HOME => Some(*nonce),
        _ => None,
    })
}

fn closes(sent: &[(MemberId, M)]) -> bool {
    sent.iter().any(|(_, m)| matches!(m, M::Close { .. }))
}

#[test]
fn lead_stops_a_fenced_replica_when_its_home_has_been_silent_for_its_limit_and_not_before() {
    let mut play = Play::bounded();
    let token = play.token();
    let held = play.held(token);
    let sent = play.passes(Micros(LIMIT.0 - 1_000_000), N1, &held);
    assert!(!closes(&sent), "it may still run");
    assert!(closes(&play.passes(Micros::from_secs(2), N1, &held)), "the limit is over");
    let sent = play.asks(N1, 900, play.held(token));
    let revoked = sent.iter().any(|(_, m)| match m {
        M::LeaseGrant { revoke, .. } => revoke.iter().any(|(_, revoked)| *revoked == token),
        _ => false,
    });
    assert!(revoked, "no lease covers it: {sent:?}");
    let free = size(1_000);
    play.hear(N1, M::Closed { replica: replica(), token, reason: ClosedReason::Stopped, free });
    let sent = play.later(Micros::from_secs(1));
    assert!(!sent.iter().any(|(_, m)| matches!(m, M::Reserve { .. })), "not placed again: {sent:?}");
    let nonce = watch(&sent).expect("the home is asked for as long as it takes");
    let sent = play.answered(nonce, vec![]);
    assert!(sent.iter().any(|(_, m)| matches!(m, M::Reserve { .. })), "it may run again: {sent:?}");
}

#[test]
fn lead_whose_home_has_given_a_mandate_away_gives_it_back_and_places_nothing() {
    let mut play = Play::bounded();
    let token = play.token();
    let nonce = watch(&play.later(Micros::from_secs(1))).unwrap();
    let sent = play.answered(nonce, vec![(replica(), MandateId(1))]);
    assert!(closes(&sent), "{sent:?}");
    let free = size(1_000);
    let sent = play.hear(N1, M::Closed { replica: replica(), token, reason: ClosedReason::Stopped, free });
    assert!(sent.iter().any(|(to, m)| *to == HOME && matches!(m, M::Returned { .. })), "{sent:?}");
}

#[test]
fn lead_new_in_office_grants_nothing_for_a_bounded_replica_before_its_home_has_answered() {
    let mut play = Play::bounded();
    let token = play.token();
    let mut play = Play { now: play.now, ..Play::on(std::mem::take(&mut play.journal)) };
    let spec = play.lead.mandates().next().unwrap().1.spec.clone();
    let brief = play.held(token).remove(0);
    play.reports(N1, 900, vec![Held { brief, spec }]);
    let granted = |sent: &[(MemberId, M)]| sent.iter().any(|(_, m)| matches!(m, M::LeaseGrant { .. }));
    assert!(!granted(&play.asks(N1, 900, play.held(token))), "the home is being asked");
    let sent = play.later(Micros::from_secs(1));
    assert!(closes(&sent), "never heard is not heard just now: {sent:?}");
}

#[test]
fn lead_keeps_an_autonomous_replica_however_long_its_home_is_silent() {
    let mut play = Play::with_nodes();
    let mut offer = play.offer(1, 1, PartitionPolicy::Autonomous);
    if let M::Offer { spec, .. } = &mut offer {
        spec.lost_after = Some(LIMIT);
    }
    let sent = play.hear(HOME, offer);
    assert!(sent.iter().any(|(_, m)| matches!(m, M::Reserve { .. })), "{sent:?}");
    assert!(!closes(&play.later(Micros::from_secs(1_000))));
}
