//! More than fits, of everything that others can make a member remember: it stops at its bound, and goes on.

use codeco_actors::swm::home::{AppRecords, Home, HomeConfig, HomeInput, HomeRecord};
use codeco_actors::swm::lease::LeaseConfig;
use codeco_actors::swm::ledger::{Ledger, LedgerConfig, LedgerInput, LedgerNote, LedgerOutput, SLOTS_MAX};
use codeco_protocol::gossip::{
    Delta, Fact, Life, Liveness, MEMBERS_MAX, MembershipInput, Ring, RingConfig, Rumor, Views,
};
use codeco_protocol::ids::{AppUid, MemberId};
use codeco_protocol::messages::ControlMessage;
use codeco_protocol::units::BootTime;
use codeco_protocol::wire;

use crate::samples;

#[test]
fn ledger_flooded_with_orders_remembers_so_many_replicas_and_says_so() {
    let config = LedgerConfig {
        id: samples::OWN,
        name: samples::node_name("n1"),
        labels: vec![],
        power: None,
        traits: Default::default(),
        lease: LeaseConfig::default(),
        first_nonce: 0,
    };
    let (mut ledger, mut out) = Ledger::recover(config, &[], samples::LIFE);
    let term = samples::term(1, samples::OTHER);
    let most = u32::try_from(SLOTS_MAX).expect("a small number");
    for index in 0..most + 500 {
        let (replica, token) = (samples::replica(index), samples::token(1, term, 1));
        let message = ControlMessage::Close { term, replica, token };
        ledger.handle(BootTime(1_000), LedgerInput::Message { from: samples::OTHER, message }, &mut out);
    }
    assert_eq!(ledger.entries().count(), SLOTS_MAX);
    let full = out.iter().filter(|output| **output == LedgerOutput::Note(LedgerNote::SlotsExhausted)).count();
    assert_eq!(full, 500, "each order beyond is told");
}

#[test]
fn home_flooded_with_copies_keeps_so_many_bytes_and_answers_for_no_more() {
    const BYTES_MAX: usize = 64 << 20;
    let mut home = Home::recover(HomeConfig::new(samples::OWN, 1), &[]);
    let (mut out, mut sent) = (Vec::new(), 0);
    for app in 1..=180 {
        let mut spec = samples::app_spec();
        spec.context.uid = AppUid(app);
        spec.manifest_json = "x".repeat(400 << 10);
        let (app, epoch) = (AppUid(app), samples::epoch(1, samples::OTHER));
        let created = Default::default();
        let record = HomeRecord::Applied { app, epoch, generation: 1, spec, created };
        let records = wire::encode(&AppRecords(vec![record])).expect("within its limit");
        sent += records.len();
        let message = ControlMessage::Keep { app, epoch, revision: 1, records };
        home.handle(BootTime(1_000), HomeInput::Copy { from: samples::OTHER, message }, &mut out);
        out.clear();
    }
    let kept: usize = home.copies().map(|(_, copy)| copy.records.len()).sum();
    assert!(sent > BYTES_MAX && kept <= BYTES_MAX, "{kept} of {sent} bytes are kept");
    assert!(kept > BYTES_MAX / 2, "and not nothing: {kept}");
}

#[test]
fn membership_flooded_with_members_and_votes_knows_so_many() {
    let now = BootTime(1_000_000);
    let mut ring = Ring::new(RingConfig::lan(), samples::node(1), 5, 7, now);
    let mut out = Vec::new();
    ring.handle(now, MembershipInput::Connected(samples::node(2)), &mut out);
    let life = Life { started: 5, refutations: 0 };
    let mut hear = |ring: &mut Ring, rumor: Rumor| {
        ring.handle(now, MembershipInput::Rumor { from: MemberId(2), rumor }, &mut out);
        out.clear();
    };
    hear(&mut ring, Rumor::Alive { member: samples::node(2), life });
    for list in 0..9_u128 {
        let members = (0..2_000).map(|n| (samples::node(100 + list * 2_000 + n), life)).collect();
        hear(&mut ring, Rumor::Living(members));
    }
    // Of members nobody knows, and by such.
    for n in 0..20_000_u128 {
        let (observer, target) = (MemberId(1_000_000 + n), MemberId(2_000_000 + n));
        hear(&mut ring, Rumor::Vote { observer, target, life, stands: true, number: 1 });
    }
    let members = ring.members();
    assert_eq!(members.len(), MEMBERS_MAX);
    assert!(
        members.iter().any(|(member, liveness)| member.id == MemberId(2) && *liveness == Liveness::Alive)
    );
}

#[test]
fn views_flooded_with_owners_and_facts_hold_so_many() {
    const OWNERS_MAX: usize = 4_096;
    const FACTS_MAX: usize = 8_192;
    let mut views = Views::default();
    let mut refused = 0;
    for owner in 0..OWNERS_MAX + 100 {
        let owner = samples::node(10 + owner as u128);
        let delta = Delta { incarnation: 1, from: 0, to: 1, facts: vec![("a".to_owned(), 1, None)] };
        refused += usize::from(views.apply(BootTime(1), &owner, delta).is_err());
    }
    assert_eq!((views.iter().count(), refused), (OWNERS_MAX, 100));
    let owner = samples::node(10);
    for piece in 0..40_u64 {
        let fact = |n| (format!("{piece}/{n}"), piece * 256 + n + 1, Some(Fact::Dialable(true)));
        let facts = (0..256).map(fact).collect();
        let delta = Delta { incarnation: 2, from: piece * 256, to: (piece + 1) * 256, facts };
        views.apply(BootTime(1), &owner, delta).expect("it continues");
    }
    let held = views.get(owner.id).map(|view| view.facts().count());
    assert_eq!(held, Some(FACTS_MAX));
}
