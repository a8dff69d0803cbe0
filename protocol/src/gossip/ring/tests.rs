use super::*;
use crate::gossip::{LIST_MAX, Parting, Probe};
use crate::ids::{ClusterName, Role};

fn member(id: u128) -> Identity {
    Identity { role: Role::Node(ClusterName::new("c").unwrap()), id: MemberId(id) }
}

fn hub() -> Identity {
    Identity { role: Role::Hub, id: MemberId(99) }
}

const fn ms(millis: u64) -> BootTime {
    BootTime(millis * 1_000)
}

fn life(started: u64, refutations: u32) -> Life {
    Life { started, refutations }
}

/// Member 1, at rest, connected to those named, all alive in life 1.
fn ring_of(others: &[u128]) -> Ring {
    let mut ring = Ring::new(RingConfig::lan(), member(1), 1, 7, ms(0));
    ring.health.recovers(ms(10_000));
    for other in others {
        feed(&mut ring, 0, MembershipInput::Connected(member(*other)));
        alive(&mut ring, 0, *other, life(1, 0));
    }
    ring
}

fn feed(ring: &mut Ring, at: u64, input: MembershipInput) -> Vec<MembershipOutput> {
    let mut out = Vec::new();
    ring.handle(ms(at), input, &mut out);
    out
}

fn alive(ring: &mut Ring, at: u64, other: u128, life: Life) -> Vec<MembershipOutput> {
    let rumor = Rumor::Alive { member: member(other), life };
    feed(ring, at, MembershipInput::Rumor { from: MemberId(other), rumor })
}

/// Ticks every 50 ms; those in `answering` answer every ping.
fn run(ring: &mut Ring, from: u64, to: u64, answering: &[u128]) -> Vec<MembershipOutput> {
    let mut all = Vec::new();
    for at in (from..to).step_by(50) {
        let out = feed(ring, at, MembershipInput::Tick);
        for output in &out {
            if let MembershipOutput::Send { to, probe: Probe::Ping { sequence, view, .. } } = output
                && answering.contains(&to.0)
            {
                let probe = Probe::Pong { sequence: *sequence, view: *view };
                all.extend(feed(ring, at, MembershipInput::Probe { from: *to, probe }));
            }
        }
        all.extend(out);
    }
    all
}

fn changes(out: &[MembershipOutput]) -> Vec<(u128, Liveness)> {
    out.iter()
        .filter_map(|o| match o {
            MembershipOutput::Changed { member, liveness } => Some((member.id.0, *liveness)),
            _ => None,
        })
        .collect()
}

fn vote(observer: u128, target: u128, life: Life, number: u64) -> Rumor {
    Rumor::Vote { observer: MemberId(observer), target: MemberId(target), life, stands: true, number }
}

#[test]
fn membership_takes_two_votes_for_a_death_and_one_where_there_are_only_two_members() {
    let mut ring = ring_of(&[2, 3, 4]);
    let out = run(&mut ring, 0, 6_000, &[2, 3]);
    assert_eq!(changes(&out), [(4, Liveness::Suspect)], "one vote of three observers");
    let rumor = vote(2, 4, life(1, 0), 1);
    feed(&mut ring, 6_000, MembershipInput::Rumor { from: MemberId(2), rumor });
    let out = run(&mut ring, 6_050, 8_000, &[2, 3]);
    assert_eq!(changes(&out), [(4, Liveness::Dead)]);

    let mut pair = ring_of(&[2]);
    feed(&mut pair, 0, MembershipInput::Connected(hub()));
    let out = run(&mut pair, 0, 6_000, &[99]);
    assert_eq!(changes(&out), [(2, Liveness::Suspect), (2, Liveness::Dead)]);
}

#[test]
fn membership_believes_one_that_contradicts_and_accuses_it_again_only_later() {
    let mut ring = ring_of(&[2, 3, 4]);
    run(&mut ring, 0, 3_000, &[2, 3]);
    let rumor = Rumor::Alive { member: member(4), life: life(1, 1) };
    let out = feed(&mut ring, 3_000, MembershipInput::Rumor { from: MemberId(2), rumor });
    assert_eq!(changes(&out), [(4, Liveness::Alive)]);
    let out = run(&mut ring, 3_050, 12_000, &[2, 3]);
    assert!(changes(&out).is_empty(), "{:?}", changes(&out));
    let out = run(&mut ring, 12_000, 16_000, &[2, 3]);
    assert_eq!(changes(&out), [(4, Liveness::Suspect)]);
}

#[test]
fn membership_accused_of_its_own_death_contradicts_with_a_later_life() {
    let mut ring = ring_of(&[2, 3]);
    let rumor = vote(2, 1, life(1, 0), 1);
    let out = feed(&mut ring, 100, MembershipInput::Rumor { from: MemberId(2), rumor: rumor.clone() });
    let told = |out: &[MembershipOutput]| {
        out.iter().any(|o| {
            matches!(o, MembershipOutput::Tell { rumor: Rumor::Alive { member: m, life: l }, .. }
                if *m == member(1) && *l == life(1, 1))
        })
    };
    assert!(told(&out), "{out:?}");
    let out = feed(&mut ring, 200, MembershipInput::Rumor { from: MemberId(3), rumor });
    assert!(out.is_empty(), "that was about an earlier life: {out:?}");
}

#[test]
fn membership_that_was_wrong_about_an_edge_waits_longer_before_it_says_so_again() {
    let mut ring = ring_of(&[2, 3, 4]);
    let (mut at, mut waits) = (0, vec![]);
    for _ in 0..4 {
        let silent_from = at;
        loop {
            at += 50;
            let out = run(&mut ring, at, at + 50, &[2, 3]);
            if changes(&out).contains(&(4, Liveness::Suspect)) {
                break;
            }
            assert!(at < silent_from + 20_000, "never");
        }
        waits.push(at - silent_from);
        // It answers again, for so long that this member is at rest once more.
        run(&mut ring, at + 50, at + 4_000, &[2, 3, 4]);
        at += 4_000;
    }
    assert!(waits[0] < 2_500, "{waits:?}");
    assert!(waits[1] >= waits[0] + 700 && waits[2] >= waits[1] + 1_500, "{waits:?}");
    assert!(waits[3] < 6_000, "within bounds: {waits:?}");
}

#[test]
fn membership_views_that_stay_different_are_exchanged_more_and_more_seldom() {
    let mut ring = ring_of(&[2]);
    let mut exchanged = vec![];
    for at in (0..30_000).step_by(50) {
        let probe = Probe::Pong { sequence: 0, view: 77 };
        feed(&mut ring, at, MembershipInput::Probe { from: MemberId(2), probe });
        let out = feed(&mut ring, at, MembershipInput::Tick);
        let lists =
            |o: &MembershipOutput| matches!(o, MembershipOutput::Tell { rumor: Rumor::Living(_), .. });
        if out.iter().any(lists) {
            exchanged.push(at);
        }
    }
    assert_eq!(exchanged, [250, 750, 1_750, 3_750, 7_750, 15_750, 23_750]);
}

#[test]
fn membership_whose_clock_went_back_goes_on_from_its_later_life() {
    let mut ring = ring_of(&[2]);
    let rumor = Rumor::Alive { member: member(1), life: life(9, 3) };
    feed(&mut ring, 100, MembershipInput::Rumor { from: MemberId(2), rumor });
    assert_eq!(ring.life, life(9, 4));
    let out = alive(&mut ring, 200, 2, life(0, 5));
    let told_back = MembershipOutput::Tell {
        to: MemberId(2),
        rumor: Rumor::Alive { member: member(2), life: life(1, 0) },
    };
    assert!(out.contains(&told_back), "{out:?}");
}

#[test]
fn membership_holds_the_silence_of_an_earlier_life_against_no_later_one() {
    let mut ring = ring_of(&[2, 3, 4]);
    run(&mut ring, 0, 2_000, &[2, 3, 4]);
    let mut out = run(&mut ring, 2_000, 4_000, &[2, 3]);
    let rumor = vote(2, 4, life(1, 0), 1);
    out.extend(feed(&mut ring, 4_000, MembershipInput::Rumor { from: MemberId(2), rumor }));
    out.extend(run(&mut ring, 4_050, 6_000, &[2, 3]));
    assert_eq!(changes(&out), [(4, Liveness::Suspect), (4, Liveness::Dead)]);
    // It was killed and started again; nobody has closed the connection of its former process.
    let rumor = Rumor::Alive { member: member(4), life: life(2, 0) };
    let out = feed(&mut ring, 6_000, MembershipInput::Rumor { from: MemberId(2), rumor });
    assert_eq!(changes(&out), [(4, Liveness::Alive)]);
    let out = run(&mut ring, 6_050, 6_350, &[2, 3]);
    assert!(changes(&out).is_empty(), "{:?}", changes(&out));
    assert_eq!(out.iter().filter(|o| **o == MembershipOutput::Outlived(MemberId(4))).count(), 1, "{out:?}");
    let parting = Parting::Unneeded;
    let out = feed(&mut ring, 6_350, MembershipInput::Disconnected { member: MemberId(4), parting });
    assert!(changes(&out).is_empty());
    let out = feed(&mut ring, 6_400, MembershipInput::Tick);
    assert!(out.contains(&MembershipOutput::Dial(member(4))), "{out:?}");
    feed(&mut ring, 6_450, MembershipInput::Connected(member(4)));
    alive(&mut ring, 6_450, 4, life(2, 0));
    // Others say what is not so, and it answers.
    let rumor = Rumor::Alive { member: member(4), life: life(3, 0) };
    let mut out = feed(&mut ring, 7_000, MembershipInput::Rumor { from: MemberId(2), rumor });
    out.extend(run(&mut ring, 7_050, 9_000, &[2, 3, 4]));
    // And this it says itself.
    out.extend(alive(&mut ring, 9_000, 4, life(4, 0)));
    out.extend(run(&mut ring, 9_050, 12_000, &[2, 3]));
    assert!(!out.iter().any(|o| matches!(o, MembershipOutput::Outlived(_))), "{out:?}");
}

#[test]
fn membership_looks_at_edges_made_at_one_time_one_after_the_other() {
    let mut ring = ring_of(&[2, 3, 4, 5, 6, 7, 8, 9]);
    let mut first = BTreeMap::new();
    for at in (0..1_100).step_by(50) {
        for output in run(&mut ring, at, at + 50, &[2, 3, 4, 5, 6, 7, 8, 9]) {
            if let MembershipOutput::Send { to, probe: Probe::Ping { .. } } = output {
                first.entry(to.0).or_insert(at);
            }
        }
    }
    assert_eq!(first.len(), 8, "{first:?}");
    let times: BTreeSet<u64> = first.values().copied().collect();
    let (earliest, latest) = (times.first().unwrap(), times.last().unwrap());
    assert!(times.len() >= 4 && latest - earliest >= 500, "{first:?}");
}

/// How long after votes of all observers of a member it is dead to another, which is held up itself or not.
fn believed_after(strained: bool, others: &[u128], target: u128) -> u64 {
    let mut ring = ring_of(others);
    ring.follow_view();
    let answering: Vec<u128> = others.iter().copied().filter(|other| *other != target).collect();
    let at = 8_000;
    if strained {
        // Its ticks come late, one after the other.
        for late in (1_000..=at).step_by(700) {
            feed(&mut ring, late, MembershipInput::Tick);
        }
    } else {
        run(&mut ring, 0, at, others);
    }
    let observed = ring.members.find(MemberId(target)).unwrap();
    for observer in ring.graph.near(observed).iter().map(|at| ring.members.id(*at)).collect::<Vec<_>>() {
        if observer != MemberId(1) {
            let rumor = vote(observer.0, target, life(1, 0), 1);
            feed(&mut ring, at, MembershipInput::Rumor { from: observer, rumor });
        }
    }
    let mut dead = (at..at + 6_000).step_by(50).filter(|from| {
        changes(&run(&mut ring, *from, from + 50, &answering)).contains(&(target, Liveness::Dead))
    });
    dead.next().unwrap() - at
}

#[test]
fn membership_that_is_held_up_itself_gives_twice_the_time_to_contradict() {
    let many: Vec<u128> = (2..=40).collect();
    let ring = {
        let mut ring = ring_of(&many);
        ring.follow_view();
        ring
    };
    let stranger =
        many.iter().copied().find(|id| !ring.wants(ring.members.find(MemberId(*id)).unwrap())).unwrap();
    for (others, target) in [(&[2, 3, 4][..], 4), (&many, stranger)] {
        let (calm, strained) = (believed_after(false, others, target), believed_after(true, others, target));
        assert!(strained >= calm + 1_000, "of {}: {calm} ms and {strained} ms", others.len());
    }
}

#[test]
fn membership_that_has_met_a_few_and_then_learns_of_most_observes_whom_it_should_at_once() {
    let mut ring = ring_of(&[2, 3, 4]);
    run(&mut ring, 0, 100, &[2, 3, 4]);
    let all: Vec<(Identity, Life)> = (2..=50).map(|id| (member(id), life(1, 0))).collect();
    feed(&mut ring, 100, MembershipInput::Rumor { from: MemberId(2), rumor: Rumor::Living(all) });
    feed(&mut ring, 100, MembershipInput::Tick);
    assert_eq!(ring.graph.len(), 50);
}

#[test]
fn membership_follows_a_view_that_never_rests() {
    let mut ring = ring_of(&(2..=20).collect::<Vec<_>>());
    run(&mut ring, 0, 4_000, &(2..=20).collect::<Vec<_>>());
    let mut followed = None;
    for (id, at) in (21..).zip((4_000..20_000).step_by(2_000)) {
        let rumor = Rumor::Alive { member: member(id), life: life(1, 0) };
        feed(&mut ring, at, MembershipInput::Rumor { from: MemberId(2), rumor });
        run(&mut ring, at, at + 2_000, &(2..=20).collect::<Vec<_>>());
        if followed.is_none() && ring.members.find(MemberId(21)).is_some_and(|at| ring.graph.holds(at)) {
            followed = Some(at);
        }
    }
    assert!(followed.is_some_and(|at| at <= 4_000 + 9_000), "{followed:?}");
}

#[test]
fn membership_that_hears_nobody_blames_itself_and_looks_for_others() {
    let mut ring = ring_of(&[2, 3, 4]);
    run(&mut ring, 0, 1_000, &[2, 3, 4]);
    for other in 2..=4 {
        let parting = Parting::Lost;
        feed(&mut ring, 1_000, MembershipInput::Disconnected { member: MemberId(other), parting });
    }
    let out = run(&mut ring, 1_000, 5_000, &[]);
    assert!(ring.is_cut_off());
    assert!(changes(&out).is_empty(), "{:?}", changes(&out));
    assert!(out.iter().any(|o| matches!(o, MembershipOutput::Dial(_))));
    let out = feed(&mut ring, 5_000, MembershipInput::Connected(member(3)));
    assert!(out.contains(&MembershipOutput::CutOff(false)));
}

#[test]
fn membership_that_was_held_up_gives_everybody_their_window_anew() {
    let mut ring = ring_of(&[2, 3, 4]);
    run(&mut ring, 0, 2_000, &[2, 3, 4]);
    // Pings are out, and nothing is read for 30 s.
    let out = run(&mut ring, 32_000, 32_100, &[]);
    assert!(changes(&out).is_empty() && !ring.is_cut_off(), "{out:?}");
    let out = run(&mut ring, 32_100, 36_000, &[2, 3, 4]);
    assert!(changes(&out).is_empty(), "{out:?}");
}

#[test]
fn membership_of_one_that_said_good_bye_is_left_not_dead_and_everybody_is_told() {
    let mut ring = ring_of(&[2, 3]);
    let bye = MembershipInput::Disconnected { member: MemberId(2), parting: Parting::Left };
    let mut out = feed(&mut ring, 0, bye);
    let told = MembershipOutput::Tell {
        to: MemberId(3),
        rumor: Rumor::Left { member: MemberId(2), life: life(1, 0) },
    };
    assert!(out.contains(&told));
    out.extend(run(&mut ring, 0, 6_000, &[3]));
    assert_eq!(changes(&out), [(2, Liveness::Left)]);
}

#[test]
fn membership_ping_of_one_that_does_not_hear_us_is_no_sign_of_life() {
    let mut ring = ring_of(&[2, 3]);
    let mut all = Vec::new();
    for at in (0..4_000).step_by(100) {
        let probe = Probe::Ping { sequence: 1, heard_you: false, view: 0 };
        all.extend(feed(&mut ring, at, MembershipInput::Probe { from: MemberId(2), probe }));
        all.extend(run(&mut ring, at, at + 100, &[3]));
    }
    assert!(changes(&all).contains(&(2, Liveness::Suspect)), "{:?}", changes(&all));
}

#[test]
fn membership_rumors_of_strangers_and_old_votes_are_not_passed_on() {
    let mut ring = ring_of(&[2, 3, 4]);
    let rumor = vote(2, 4, life(1, 0), 5);
    let from = MemberId(2);
    let out = feed(&mut ring, 100, MembershipInput::Rumor { from, rumor: rumor.clone() });
    assert!(out.iter().any(|o| matches!(o, MembershipOutput::Tell { .. })));
    let again = feed(&mut ring, 200, MembershipInput::Rumor { from: MemberId(3), rumor });
    assert!(again.is_empty(), "{again:?}");
    let older = feed(&mut ring, 300, MembershipInput::Rumor { from, rumor: vote(2, 4, life(1, 0), 4) });
    assert!(older.is_empty(), "{older:?}");
    let stranger = MembershipInput::Rumor { from: MemberId(77), rumor: vote(77, 4, life(1, 0), 1) };
    assert!(feed(&mut ring, 400, stranger).is_empty());
}

#[test]
fn membership_forgets_whom_it_is_told_to() {
    let mut ring = ring_of(&[2, 3]);
    feed(&mut ring, 100, MembershipInput::Forget(MemberId(2)));
    assert_eq!(ring.liveness(MemberId(2)), None);
    assert_eq!(ring.members().len(), 1);
}

/// A random but reproducible life of a ring, as its outputs.
fn lived(mut ring: Ring, seed: u64, members: u128) -> Vec<Vec<MembershipOutput>> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut at = 0;
    let mut all = Vec::new();
    for _ in 0..3_000 {
        at += rng.u64(1..60);
        let (from, about) = (rng.u128(2..=members), rng.u128(1..=members));
        let life = life(rng.u64(1..3), rng.u32(0..3));
        let input = match rng.u8(0..16) {
            0 => MembershipInput::Connected(member(from)),
            1 => {
                let parting = [Parting::Lost, Parting::Unneeded, Parting::Left][rng.usize(..3)];
                MembershipInput::Disconnected { member: MemberId(from), parting }
            }
            2 => MembershipInput::DialFailed(MemberId(from)),
            3 => {
                MembershipInput::Rumor { from: MemberId(from), rumor: vote(from, about, life, rng.u64(1..9)) }
            }
            4 => MembershipInput::Rumor {
                from: MemberId(from),
                rumor: Rumor::Alive { member: member(about), life },
            },
            5 => MembershipInput::Rumor {
                from: MemberId(from),
                rumor: Rumor::Accused { member: MemberId(about), life },
            },
            6 => {
                let list = (1..=members).map(|id| (member(id), life)).collect();
                MembershipInput::Rumor { from: MemberId(from), rumor: Rumor::Living(list) }
            }
            7..10 => {
                let probe = Probe::Ping { sequence: 1, heard_you: rng.bool(), view: rng.u32(0..2) };
                MembershipInput::Probe { from: MemberId(from), probe }
            }
            _ => MembershipInput::Tick,
        };
        all.push(feed(&mut ring, at, input));
    }
    all
}

#[test]
fn membership_that_shares_does_the_same_as_one_that_does_not() {
    for (seed, members) in [(1, 5), (2, 30), (3, 60)] {
        let mut alone = Ring::new(RingConfig::lan(), member(1), 1, seed, ms(0));
        for id in 2..=members {
            feed(&mut alone, 0, MembershipInput::Known(member(id)));
        }
        let shared = Arc::new(Shared::new((1..=members).map(MemberId)));
        let sharing = || Ring::sharing(RingConfig::lan(), member(1), 1, seed, ms(0), &shared).unwrap();
        let expected = lived(alone, seed, members);
        assert!(expected.iter().flatten().any(|o| matches!(o, MembershipOutput::Changed { .. })));
        assert_eq!(lived(sharing(), seed, members), expected);
        // Now the graphs are there already.
        assert_eq!(lived(sharing(), seed, members), expected);
    }
}

#[test]
fn membership_tells_of_more_members_than_a_list_holds_in_several() {
    let count = LIST_MAX as u128 + 10;
    let shared = Arc::new(Shared::new((1..=count).map(MemberId)));
    let mut teller = Ring::sharing(RingConfig::lan(), member(1), 1, 7, ms(0), &shared).unwrap();
    teller.believe_all(life(1, 0));
    let mut learner = ring_of(&[]);
    feed(&mut teller, 0, MembershipInput::Connected(member(count)));
    feed(&mut learner, 0, MembershipInput::Connected(member(2)));
    // The other end begins a later life, so it is told everything.
    let rumor = Rumor::Alive { member: member(count), life: life(2, 0) };
    let out = feed(&mut teller, 0, MembershipInput::Rumor { from: MemberId(count), rumor });
    let mut lists = Vec::new();
    for output in out {
        if let MembershipOutput::Tell { to, rumor } = output
            && to == MemberId(count)
        {
            match &rumor {
                Rumor::Living(list) => lists.push(list.len()),
                Rumor::Dead(list) => assert!(list.is_empty()),
                other => panic!("{other:?}"),
            }
            feed(&mut learner, 0, MembershipInput::Rumor { from: MemberId(2), rumor });
        }
    }
    assert_eq!(lists, [LIST_MAX, 10]);
    assert_eq!(learner.counts(), (LIST_MAX + 9, 0, 0), "all but itself");
}

#[test]
fn membership_at_rest_keeps_and_looks_at_the_edges_of_its_neighbours_only() {
    let shared = Arc::new(Shared::new((1..=2_000).map(MemberId)));
    let mut ring = Ring::sharing(RingConfig::lan(), member(1), 1, 7, ms(0), &shared).unwrap();
    ring.believe_all(life(1, 0));
    let neighbours: Vec<u128> = ring.graph.near(ring.me).iter().map(|at| ring.members.id(*at).0).collect();
    // A connection to everybody comes and goes.
    for id in 2..=2_000 {
        feed(&mut ring, 0, MembershipInput::Connected(member(id)));
        let parting = Parting::Unneeded;
        feed(&mut ring, 0, MembershipInput::Disconnected { member: MemberId(id), parting });
    }
    for id in &neighbours {
        feed(&mut ring, 10, MembershipInput::Connected(member(*id)));
    }
    run(&mut ring, 50, 3_000, &neighbours);
    assert_eq!(ring.edges.iter().count(), neighbours.len());
}
