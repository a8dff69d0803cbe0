//! What NetMA says, and how seldom.

use std::time::Duration;

use super::*;

const SECOND: Micros = Micros::from_secs(1);

fn path(millis: u64, look: u64) -> PathSample {
    let smoothed = Duration::from_millis(millis);
    PathSample { connection: 1, smoothed, acks: look, sent: 2 * look, lost: 0, mtu: 1_452 }
}

fn seen(path: Option<PathSample>, believed: Liveness) -> Seen {
    let point = Coordinate { position: [0; 3], height: 500, error_permille: 100 };
    Seen { path, believed: Some(believed), point: Some(point), echo: None }
}

/// Looks for `seconds` at members 1 to 4, whose round trips `round_trip` gives; returns all that was said.
fn watch(netma: &mut Netma, from: u64, seconds: u64, round_trip: impl Fn(u128, u64) -> u64) -> Vec<Told> {
    let mut said = Vec::new();
    for second in from..from + seconds {
        let all = (1..=4_u128)
            .map(|id| (MemberId(id), seen(Some(path(round_trip(id, second), second)), Liveness::Alive)))
            .collect();
        let told = netma.look(BootTime(second * SECOND.0), &all);
        if told.round_trips.is_some() || told.coordinate.is_some() {
            said.push(told);
        }
    }
    said
}

#[test]
fn quiet_network_is_talked_about_a_few_times_and_then_no_more() {
    let mut netma = Netma::new(1, BootTime(0));
    let said = watch(&mut netma, 0, 900, |id, _| u64::try_from(id).unwrap() * 10);
    assert!(said.len() < 15, "{said:#?}");
    let later = watch(&mut netma, 900, 3_600, |id, second| u64::try_from(id).unwrap() * 10 + second % 2);
    assert!(later.len() <= 1, "an hour in which nothing but noise happens: {later:#?}");
}

#[test]
fn round_trip_that_changes_is_told_once_and_at_most_every_few_seconds() {
    let mut netma = Netma::new(1, BootTime(0));
    watch(&mut netma, 0, 300, |_, _| 10);
    let said = watch(&mut netma, 300, 60, |id, _| if id == 1 { 80 } else { 10 });
    let round_trips: Vec<_> = said.iter().filter_map(|told| told.round_trips.clone()).collect();
    assert_eq!(round_trips.len(), 1, "{said:#?}");
    assert_eq!(round_trips[0][0], (MemberId(1), Micros::from_millis(80)));
    let restless = watch(&mut netma, 360, 60, |_, second| if second % 2 == 0 { 10 } else { 200 });
    assert!(restless.iter().filter(|told| told.round_trips.is_some()).count() <= 13, "{restless:#?}");
    assert!(restless.iter().filter(|told| told.coordinate.is_some()).count() <= 2, "{restless:#?}");
}

#[test]
fn member_that_dies_is_down_and_no_round_trip_of_it_is_told() {
    let mut netma = Netma::new(1, BootTime(0));
    watch(&mut netma, 0, 20, |_, _| 10);
    let mut all: BTreeMap<_, _> =
        (1..=4_u128).map(|id| (MemberId(id), seen(Some(path(10, 21)), Liveness::Alive))).collect();
    all.insert(MemberId(2), seen(None, Liveness::Dead));
    let told = netma.look(BootTime(21 * SECOND.0), &all);
    let link = netma.link(MemberId(2)).unwrap();
    assert_eq!((link.state(), link.round_trip()), (LinkState::Down, None));
    let round_trips = told.round_trips.expect("that it is gone is news");
    assert!(round_trips.iter().all(|(member, _)| *member != MemberId(2)), "unknown, not near");
    all.insert(MemberId(2), seen(None, Liveness::Left));
    netma.look(BootTime(22 * SECOND.0), &all);
    assert!(netma.link(MemberId(2)).is_none(), "who said good-bye is not down");
}

#[test]
fn member_that_is_new_is_told_of_at_once_and_what_has_changed_only_now_and_then() {
    let mut netma = Netma::new(1, BootTime(0));
    let mut told = vec![];
    for tenth in 0..40_u64 {
        let links = if tenth < 3 { 1 } else { 2 };
        let way = if tenth < 20 { 10 } else { 90 };
        let all =
            (1..=links).map(|id| (MemberId(id), seen(Some(path(way, tenth + 1)), Liveness::Alive))).collect();
        if let Some(list) = netma.look(BootTime(tenth * 100_000), &all).round_trips {
            told.push((tenth, list.len()));
        }
    }
    assert_eq!(told, [(0, 1), (3, 2)]);
}

#[test]
fn member_that_was_never_connected_has_no_link_and_one_that_is_not_kept_is_remembered_for_a_while() {
    let mut netma = Netma::new(1, BootTime(0));
    let only = |believed| BTreeMap::from([(MemberId(1), seen(None, believed))]);
    netma.look(BootTime(0), &only(Liveness::Alive));
    assert_eq!(netma.links().count(), 0);
    let connected = BTreeMap::from([(MemberId(1), seen(Some(path(5, 1)), Liveness::Alive))]);
    netma.look(BootTime(SECOND.0), &connected);
    netma.look(BootTime(2 * SECOND.0), &only(Liveness::Alive));
    assert_eq!(netma.link(MemberId(1)).unwrap().state(), LinkState::Idle);
    netma.look(BootTime(2_000 * SECOND.0), &only(Liveness::Alive));
    assert_eq!(netma.links().count(), 0);
}

#[test]
fn point_is_told_the_more_seldom_the_more_links_it_goes_over_and_the_slower_the_pace() {
    let words = |links: u128, pace| {
        let mut netma = Netma::new(1, BootTime(0));
        netma.set_pace(pace);
        let mut words = 0;
        for second in 0..120 {
            // A network that never rests.
            let way = if second % 20 < 10 { 10 } else { 500 };
            let all = (1..=links)
                .map(|id| (MemberId(id), seen(Some(path(way, second)), Liveness::Alive)))
                .collect();
            let told = netma.look(BootTime(second * SECOND.0), &all);
            words += u32::from(told.coordinate.is_some());
        }
        words
    };
    assert!(words(2, SECOND) <= 6);
    assert!(words(9, SECOND) <= 4, "at 0, 9, 27 and 63 s at the earliest");
    assert!(words(9, Micros::from_secs(3)) <= 3, "at 0, 27 and 81 s");
    assert!(words(2, SECOND) > words(9, Micros::from_secs(3)));
}

/// Probes of a member with so many links in each of `seconds`, at a point that is sure or is not.
fn probes(links: u128, pace: Micros, seconds: u64, sure: bool) -> Vec<usize> {
    let mut netma = Netma::new(1, BootTime(0));
    netma.set_pace(pace);
    let look = |second: u64| {
        // Neighbours that say that they are where the round trip to them is, or anywhere.
        let height = if sure { 10_000 } else { 1_000_000 * u32::try_from(second % 7).unwrap() };
        let point = Coordinate { position: [0; 3], height, error_permille: 50 };
        let seen = Seen {
            path: Some(path(10, second)),
            believed: Some(Liveness::Alive),
            point: Some(point),
            echo: None,
        };
        let all = (1..=links).map(|id| (MemberId(id), seen)).collect();
        netma.look(BootTime(second * SECOND.0), &all).probe.len()
    };
    (0..seconds).map(look).collect()
}

#[test]
fn link_is_probed_often_while_it_is_new_and_rarely_once_the_point_is_sure() {
    for (links, pace) in [(2, 1), (9, 1), (9, 3)] {
        let sent = probes(links, Micros::from_secs(pace), 1_200, true);
        let first: usize = sent[..usize::try_from(9 * pace + 1).unwrap()].iter().sum();
        assert_eq!(first, 10 * usize::try_from(links).unwrap(), "ten of each link, at its pace");
        let later: usize = sent[600..].iter().sum();
        assert_eq!(later, usize::try_from(600 / (20 * pace)).unwrap(), "{links} links, pace {pace} s");
    }
    let hub = probes(1_000, SECOND, 60, true);
    assert!(hub.iter().all(|sent| *sent <= 16), "a hub asks few at a time: {hub:?}");
}

#[test]
fn point_that_stays_unsure_is_probed_for_more_often_but_not_for_ever() {
    let sent = probes(4, SECOND, 2_000, false);
    let unsure: usize = sent[20..120].iter().sum();
    assert_eq!(unsure, 20, "every fifth second");
    let later: usize = sent[1_000..].iter().sum();
    assert_eq!(later, 50, "what has not helped by then does not help: {later}");
}
