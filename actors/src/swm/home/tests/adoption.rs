//! Applications whose home is gone.

use codeco_protocol::wire;
use codeco_protocol::workload::PartitionPolicy;

use super::*;
use crate::swm::home::{AppRecords, Others};

const OLD: MemberId = MemberId(20);
const KEEPER: MemberId = MemberId(21);
const OTHER: MemberId = MemberId(22);
const AFTER: Micros = Micros::from_secs(10);

fn adoptable(partition: PartitionPolicy) -> AppSpec {
    let mut spec = app(2, 100);
    spec.services[0].spec.partition = partition;
    spec.context.demands.adopt_after = Some(AFTER);
    spec
}

impl Play {
    /// A home by itself, with nothing yet.
    fn of(id: MemberId, journal: Vec<HomeRecord>) -> Self {
        let home = Home::recover(HomeConfig::new(id, 1), &journal);
        let terms = BTreeMap::from([(EAST, 1), (WEST, 1)]);
        let mut play = Self { home, journal, now: BootTime(1_000_000), terms };
        play.sees_clusters();
        play
    }

    fn again(&self) -> Self {
        Self::of(self.home.config.id, self.journal.clone())
    }

    fn keeps(&mut self, members: &[MemberId]) -> Vec<(MemberId, M)> {
        self.feed(HomeInput::Keepers(members.to_vec()))
    }

    fn gets(&mut self, from: MemberId, message: M) -> Vec<(MemberId, M)> {
        self.feed(HomeInput::Copy { from, message })
    }

    /// Sees these members alive, and what they keep of the application.
    fn sees(&mut self, alive: &[MemberId], keep: &[(MemberId, Epoch)]) -> Vec<(MemberId, M)> {
        self.feed(HomeInput::Others(Others {
            alive: alive.iter().copied().collect(),
            keep: BTreeMap::from([(AppUid(1), keep.to_vec())]),
            ..Others::default()
        }))
    }

    fn epoch(&self) -> Option<Epoch> {
        self.home.apps().find(|(_, app)| !app.retired).map(|(_, app)| app.epoch)
    }

    fn copied(&self) -> Option<Epoch> {
        self.home.copies().next().map(|(_, copy)| copy.epoch)
    }
}

fn kept(sent: &[(MemberId, M)], to: MemberId) -> M {
    let found = sent.iter().find(|(member, m)| *member == to && matches!(m, M::Keep { .. }));
    found.unwrap_or_else(|| panic!("nothing to {to:?}: {sent:?}")).1.clone()
}

/// An application at its home, placed in the east, and a member that keeps a copy of it.
fn home_and_keeper(partition: PartitionPolicy) -> (Play, Play) {
    let mut old = Play::of(OLD, vec![]);
    let asked = old.apply(adoptable(partition));
    old.bids(&asked, EAST);
    for index in 0..2 {
        old.accepted(old.holder(index), index, 1);
    }
    old.now = old.now + Micros::from_secs(1);
    let copy = kept(&old.keeps(&[KEEPER, OTHER]), KEEPER);
    let mut keeper = Play::of(KEEPER, vec![]);
    let told = keeper.gets(OLD, copy);
    assert!(matches!(told[..], [(OLD, M::Kept { .. })]), "{told:?}");
    old.gets(KEEPER, told[0].1.clone());
    (old, keeper)
}

fn adopted() -> (Play, Play, Vec<(MemberId, M)>) {
    let (old, mut keeper) = home_and_keeper(PartitionPolicy::Autonomous);
    keeper.sees(&[KEEPER], &[]);
    keeper.now = keeper.now + AFTER;
    let sent = keeper.sees(&[KEEPER], &[]);
    (old, keeper, sent)
}

#[test]
fn keeper_adopts_an_application_whose_home_is_silent_for_long_enough_and_offers_the_very_mandates() {
    let (_, mut keeper) = home_and_keeper(PartitionPolicy::Autonomous);
    keeper.sees(&[KEEPER, OLD], &[]);
    keeper.now = keeper.now + AFTER;
    keeper.sees(&[KEEPER, OLD], &[]);
    assert_eq!(keeper.epoch(), None, "it is there");
    keeper.sees(&[KEEPER], &[]);
    keeper.now = keeper.now + Micros::from_secs(9);
    keeper.sees(&[KEEPER], &[]);
    assert_eq!(keeper.epoch(), None, "not long enough");
    keeper.now = keeper.now + Micros::from_secs(1);
    let sent = keeper.sees(&[KEEPER], &[]);
    let epoch = Epoch { number: 2, owner: KEEPER };
    assert_eq!((keeper.epoch(), keeper.copied()), (Some(epoch), None));
    let offered = sent.iter().filter(
        |(_, m)| matches!(m, M::Offer { epoch: under, mandate: MandateId(1), .. } if *under == epoch),
    );
    assert_eq!(offered.count(), 2, "{sent:?}");
    assert!(recalls(&sent).is_empty());
    // And so it is after a restart, from the records and from what stands for them.
    assert_eq!(keeper.again().epoch(), Some(epoch));
    let compacted = Home::recover(HomeConfig::new(KEEPER, 1), &keeper.home.snapshot());
    assert_eq!(compacted, Home::recover(HomeConfig::new(KEEPER, 1), &keeper.journal));
}

#[test]
fn keeper_leaves_an_application_to_whoever_comes_first_and_to_whoever_has_adopted_it() {
    let (_, first) = home_and_keeper(PartitionPolicy::Autonomous);
    let epoch = first.copied().unwrap();
    let adopts = |own: MemberId, members: &[MemberId], under: Epoch| {
        let mut play = Play::of(own, first.journal.clone());
        let keep: Vec<_> = members.iter().map(|member| (*member, under)).collect();
        play.sees(&[own], &keep);
        play.now = play.now + AFTER;
        play.sees(&[own], &keep);
        play.epoch().is_some()
    };
    for other in (100..140).map(MemberId) {
        let (here, there) = (adopts(KEEPER, &[other], epoch), adopts(other, &[KEEPER], epoch));
        assert!(here != there, "one of two: {here}, {there}");
    }
    let adopts = |members: &[MemberId], under| adopts(KEEPER, members, under);
    assert!(adopts(&[], epoch));
    assert!(!adopts(&[OTHER], Epoch { number: 2, owner: OTHER }), "it has a home again");
}

#[test]
fn keeper_does_not_adopt_what_is_fenced_nor_what_does_not_ask_for_it() {
    let (_, mut keeper) = home_and_keeper(PartitionPolicy::Fence);
    keeper.sees(&[KEEPER], &[]);
    keeper.now = keeper.now + Micros::from_secs(1_000);
    let mut out = vec![];
    let others = Others { alive: BTreeSet::from([KEEPER]), ..Others::default() };
    keeper.home.handle(keeper.now, HomeInput::Others(others), &mut out);
    assert!(out.iter().any(|o| matches!(o, HomeOutput::Note(HomeNote::NotAdopted(..)))), "{out:?}");
    assert_eq!(keeper.epoch(), None);

    let mut old = Play::of(OLD, vec![]);
    old.apply(app(1, 100));
    old.now = old.now + Micros::from_secs(1);
    let mut keeper = Play::of(KEEPER, vec![]);
    keeper.gets(OLD, kept(&old.keeps(&[KEEPER]), KEEPER));
    keeper.sees(&[KEEPER], &[]);
    keeper.now = keeper.now + Micros::from_secs(1_000);
    keeper.sees(&[KEEPER], &[]);
    assert_eq!(keeper.epoch(), None);
}

#[test]
fn home_that_comes_back_and_hears_of_its_successor_gives_up_touches_nothing_and_keeps_a_copy() {
    let (old, mut keeper, _) = adopted();
    let mut back = old.again();
    keeper.now = keeper.now + Micros::from_secs(1);
    let copy = kept(&keeper.keeps(&[OTHER, WEST]), OLD);
    let told = back.gets(KEEPER, copy.clone());
    assert!(recalls(&told).is_empty() && offers(&told).is_empty(), "{told:?}");
    assert_eq!((back.epoch(), back.copied()), (None, keeper.epoch()));
    // It says so only once nobody can adopt from the copies that it has given away.
    assert!(!any_kept(&told), "{told:?}");
    assert_eq!(dropped(&told), [KEEPER, OTHER]);
    let gone = |from| {
        let mut member = Play::of(from, old.journal.clone());
        let epoch = Epoch { number: 1, owner: OLD };
        member.gets(OLD, M::Drop { app: AppUid(1), epoch }).remove(0).1
    };
    back.gets(KEEPER, gone(KEEPER));
    let mut back = back.again();
    assert_eq!(dropped(&back.waits(Micros::from_secs(1))), [KEEPER, OTHER], "not forgotten by a restart");
    back.gets(KEEPER, gone(KEEPER));
    back.gets(OTHER, gone(OTHER));
    assert_eq!(back.home.apps().count(), 0, "there is nothing to take back");
    let told = back.gets(KEEPER, copy);
    assert!(any_kept(&told), "{told:?}");
    assert_eq!((back.again().epoch(), back.again().copied()), (None, keeper.epoch()));
    for (_, message) in told {
        keeper.gets(OLD, message);
    }
    assert_eq!(keeper.home.apps().next().unwrap().1.former, None, "it has heard");
}

fn any_kept(sent: &[(MemberId, M)]) -> bool {
    sent.iter().any(|(_, message)| matches!(message, M::Kept { .. }))
}

fn dropped(sent: &[(MemberId, M)]) -> Vec<MemberId> {
    sent.iter().filter(|(_, message)| matches!(message, M::Drop { .. })).map(|(to, _)| *to).collect()
}

#[test]
fn keeper_told_to_drop_its_copy_takes_none_that_comes_late() {
    let (mut old, mut keeper) = home_and_keeper(PartitionPolicy::Autonomous);
    old.now = old.now + Micros::from_secs(1);
    let late = kept(&Play::of(OLD, old.journal.clone()).keeps(&[KEEPER]), KEEPER);
    let epoch = Epoch { number: 1, owner: OLD };
    let told = keeper.gets(OLD, M::Drop { app: AppUid(1), epoch });
    assert!(any_kept(&told), "{told:?}");
    keeper.gets(OLD, late);
    assert_eq!(keeper.copied(), None);
}

#[test]
fn home_takes_back_a_mandate_that_its_successor_does_not_know_of() {
    let (mut old, mut keeper, _) = adopted();
    // Given after the copy was made.
    let mut spec = adoptable(PartitionPolicy::Autonomous);
    spec.services[0].replicas = 3;
    let asked = old.apply(spec);
    assert_eq!(offers(&old.bids(&asked, EAST)).len(), 1);
    keeper.now = keeper.now + Micros::from_secs(1);
    let copy = kept(&keeper.keeps(&[OTHER, WEST]), OLD);
    old.gets(KEEPER, copy);
    let sent = old.waits(Micros::from_secs(1));
    assert_eq!(recalls(&sent), [2], "{sent:?}");
    assert_eq!(old.again().home.apps().count(), 1, "not forgotten by a restart");
    old.returned(old.holder(2), 2);
    let epoch = Epoch { number: 1, owner: OLD };
    for member in [KEEPER, OTHER] {
        old.gets(member, M::Kept { app: AppUid(1), epoch, revision: u64::MAX });
    }
    assert_eq!((old.home.apps().count(), old.copied()), (0, keeper.epoch()));
}

#[test]
fn home_gives_its_application_up_to_nobody_who_was_not_given_a_copy() {
    let (mut old, _) = home_and_keeper(PartitionPolicy::Autonomous);
    let records = AppRecords(old.home.records_of(AppUid(1)));
    let thief = MemberId(0xbad);
    let message = M::Keep {
        app: AppUid(1),
        epoch: Epoch { number: 99, owner: thief },
        revision: 1,
        records: wire::encode(&records).unwrap(),
    };
    old.gets(thief, message);
    assert_eq!(old.epoch(), Some(Epoch { number: 1, owner: OLD }));
}

#[test]
fn home_deletes_what_may_be_adopted_only_once_all_who_could_do_so_know_of_it() {
    let (mut old, mut keeper) = home_and_keeper(PartitionPolicy::Autonomous);
    let told_other = |old: &mut Play, keeper: &mut Play| {
        old.now = old.now + Micros::from_secs(1);
        old.keeps(&[KEEPER]);
        let sent = old.waits(Micros::from_secs(1));
        for (_, message) in sent.into_iter().filter(|(to, m)| *to == KEEPER && matches!(m, M::Keep { .. })) {
            for (_, answer) in keeper.gets(OLD, message) {
                old.gets(KEEPER, answer);
            }
        }
    };
    old.delete();
    for index in 0..2 {
        old.returned(old.holder(index), index);
    }
    told_other(&mut old, &mut keeper);
    assert_eq!(old.home.apps().count(), 1, "the other one could adopt what is deleted");
    let mut out = vec![];
    old.home.handle(old.now + Micros::from_secs(10), HomeInput::Tick, &mut out);
    let waits = HomeNote::EndWaits(AppUid(1), AppName::new("a").unwrap(), vec![OTHER]);
    assert!(out.contains(&HomeOutput::Note(waits)), "and people hear of that: {out:?}");
    let others = Others { forgotten: BTreeSet::from([OTHER]), ..Others::default() };
    old.feed(HomeInput::Others(others));
    assert_eq!(old.home.apps().count(), 0, "it is gone for good, and the keeper knows");
    // The keeper has not heard that it may drop its copy. Left alone, it finishes the deletion and starts nothing.
    keeper.sees(&[KEEPER], &[]);
    keeper.now = keeper.now + AFTER;
    let sent = keeper.sees(&[KEEPER], &[]);
    assert!(
        offers(&sent).is_empty() && !sent.iter().any(|(_, m)| matches!(m, M::BidRequest { .. })),
        "{sent:?}"
    );
}

/// A message of a member that has an application, or says so.
fn keep(records: Vec<HomeRecord>, revision: u64) -> M {
    let records = wire::encode(&AppRecords(records)).unwrap();
    M::Keep { app: AppUid(1), epoch: Epoch { number: 1, owner: OLD }, revision, records }
}

fn applied(spec: AppSpec) -> HomeRecord {
    let epoch = Epoch { number: 1, owner: OLD };
    HomeRecord::Applied { app: AppUid(1), epoch, generation: 1, spec, created: WallTime(1) }
}

#[test]
fn copy_that_holds_copies_in_copies_is_refused_and_not_followed() {
    let mut keeper = Play::of(KEEPER, vec![]);
    let mut records = wire::encode(&AppRecords(vec![applied(app(1, 100))])).unwrap();
    let epoch = Epoch { number: 1, owner: OLD };
    // A few hundred are enough: each would be read in the middle of reading the one around it.
    for _ in 0..400 {
        let inner = HomeRecord::Copied { app: AppUid(1), epoch, revision: 1, records };
        records = wire::encode(&AppRecords(vec![applied(app(1, 100)), inner])).unwrap();
    }
    keeper.gets(OLD, M::Keep { app: AppUid(1), epoch, revision: 1, records });
    assert_eq!(keeper.copied(), None);
    keeper.gets(OLD, keep(vec![applied(app(1, 100))], 2));
    assert_eq!(keeper.copied(), Some(epoch), "one without is kept");
}

#[test]
fn copy_of_an_application_with_billions_of_replicas_is_refused() {
    let mut keeper = Play::of(KEEPER, vec![]);
    let mut spec = app(1, 100);
    spec.services[0].replicas = 2_000;
    keeper.gets(OLD, keep(vec![applied(spec.clone())], 1));
    assert_eq!(keeper.copied(), None);
    spec.services = vec![spec.services[0].clone(); 2];
    spec.services.iter_mut().for_each(|service| service.replicas = 600);
    keeper.gets(OLD, keep(vec![applied(spec)], 2));
    assert_eq!(keeper.copied(), None, "the sum counts");
}

#[test]
fn adoption_of_an_application_changes_no_other_application() {
    let mut keeper = Play::of(KEEPER, vec![]);
    let (mut own, mut out) = (app(1, 100), Vec::new());
    own.context.uid = AppUid(9);
    own.context.name = AppName::new("own").unwrap();
    keeper.home.apply(keeper.now, WallTime(1), own, &mut out).unwrap();
    let hostile = [
        HomeRecord::Removed { app: AppUid(9) },
        HomeRecord::Deleting { app: AppUid(9) },
        HomeRecord::ClusterDrained { cluster: ClusterName::new("east").unwrap(), drained: true },
    ];
    for record in hostile {
        let spec = adoptable(PartitionPolicy::Autonomous);
        keeper.gets(OLD, keep(vec![applied(spec), record.clone()], 1));
        assert_eq!(keeper.copied(), None, "{record:?}");
    }
    keeper.gets(OLD, keep(vec![applied(adoptable(PartitionPolicy::Autonomous))], 2));
    keeper.sees(&[KEEPER], &[]);
    keeper.now = keeper.now + AFTER;
    keeper.sees(&[KEEPER], &[]);
    let apps: Vec<_> = keeper.home.apps().map(|(uid, app)| (uid, app.deleting)).collect();
    assert_eq!(apps, [(AppUid(1), false), (AppUid(9), false)]);
}

#[test]
fn copy_with_numbers_that_leave_no_room_for_the_next_is_refused_and_so_is_such_an_answer() {
    let mut keeper = Play::of(KEEPER, vec![]);
    let mandate = MandateId(u64::MAX);
    let replica = ReplicaId { app: AppUid(1), service: app(1, 100).services[0].name.clone(), index: 0 };
    let cluster = ClusterName::new("east").unwrap();
    let mandated = HomeRecord::Mandated { replica, mandate, cluster };
    keeper.gets(OLD, keep(vec![applied(app(1, 100)), mandated], 1));
    assert_eq!(keeper.copied(), None);
    let mut last = applied(app(1, 100));
    if let HomeRecord::Applied { generation, .. } = &mut last {
        *generation = u64::MAX;
    }
    keeper.gets(OLD, keep(vec![last], 1));
    assert_eq!(keeper.copied(), None);

    let mut old = Play::of(OLD, vec![]);
    old.keeps(&[KEEPER]);
    old.apply(app(1, 100));
    let kept = M::Kept { app: AppUid(1), epoch: Epoch { number: 1, owner: OLD }, revision: u64::MAX - 1 };
    old.gets(KEEPER, kept);
    old.apply(app(2, 100));
    assert_eq!(old.home.apps().next().map(|(_, app)| app.generation), Some(2));
}
