//! What people read: links as measured, and estimates between members that never were connected.

use std::collections::BTreeSet;

use codeco_protocol::api::{LinkSource, LinkStatus, LinkView};
use codeco_protocol::coordinate::Coordinate;
use codeco_protocol::ids::MemberId;
use codeco_protocol::units::{BootTime, Micros};

use super::{Link, LinkState, Netma};
use crate::fabric::Commons;

/// Pairs estimated in one answer at most.
pub const ESTIMATES_MAX: usize = 4_096;

/// The links of one member, called `from`.
pub(super) fn link_views(commons: &Commons, core: &Netma, from: &str, now: BootTime) -> Vec<LinkView> {
    let views = core.links().map(|(member, link)| {
        let relay = commons.link(member).and_then(|connection| commons.via(&connection));
        let via = relay.map(|relay| name_of(commons, relay));
        LinkView { via, ..link_view(from, name_of(commons, member), link, now) }
    });
    views.collect()
}

/// A member as people call it: `CLUSTER/NODE`, a hub by its name, and by its identity who has not said its name yet.
pub(crate) fn name_of(commons: &Commons, member: MemberId) -> String {
    let view = commons.view(member);
    let identity = view
        .as_ref()
        .map(|view| view.identity.clone())
        .or_else(|| commons.link(member).map(|connection| connection.identity().clone()));
    let name = view.as_ref().and_then(|view| Some(view.member()?.name.clone()));
    match (identity, name) {
        (Some(identity), Some(name)) => match identity.cluster() {
            Some(cluster) => format!("{cluster}/{name}"),
            None => name,
        },
        (Some(identity), None) => identity.to_string().trim_start_matches('/').to_owned(),
        (None, _) => member.to_string(),
    }
}

fn link_view(from: &str, to: String, link: &Link, now: BootTime) -> LinkView {
    let micros = |value: Option<Micros>| value.map(|value| value.0);
    LinkView {
        from: from.to_owned(),
        to,
        status: match link.state() {
            LinkState::Up => LinkStatus::Up,
            LinkState::Silent => LinkStatus::Silent,
            LinkState::Down => LinkStatus::Down,
            LinkState::Idle => LinkStatus::Idle,
        },
        source: LinkSource::Measured,
        via: None,
        rtt_us: micros(link.round_trip()),
        rtt_min_us: micros(link.least()),
        jitter_us: micros(link.jitter()),
        loss: link.loss(),
        error: None,
        mtu: link.mtu(),
        age_ms: link.measured().map(|measured| now.since(measured).0 / 1_000),
    }
}

/// A member that may have said where it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Place {
    /// As people call it.
    pub name: String,
    /// Where it is.
    pub point: Option<Coordinate>,
    /// Age of that.
    pub age_ms: u64,
    /// Whether pairs with it are asked for.
    pub wanted: bool,
}

/// A row for each pair of `places`, one of them wanted, that nobody has measured. Returns how many were left out because
/// they would be more than [`ESTIMATES_MAX`].
#[must_use]
pub fn estimates(places: &[Place], measured: &[LinkView]) -> (Vec<LinkView>, usize) {
    let known: BTreeSet<(&str, &str)> =
        measured.iter().flat_map(|link| [(&*link.from, &*link.to), (&*link.to, &*link.from)]).collect();
    let (mut rows, mut left_out) = (Vec::new(), 0);
    for (at, first) in places.iter().enumerate() {
        for second in &places[at + 1..] {
            if !(first.wanted || second.wanted) || known.contains(&(&*first.name, &*second.name)) {
                continue;
            }
            if rows.len() >= ESTIMATES_MAX {
                left_out += 1;
                continue;
            }
            let (from, to) = if first.wanted { (first, second) } else { (second, first) };
            rows.push(estimate(from, to));
        }
    }
    (rows, left_out)
}

fn estimate(from: &Place, to: &Place) -> LinkView {
    let estimate = from.point.zip(to.point).and_then(|(from, to)| from.estimate(&to));
    LinkView {
        from: from.name.clone(),
        to: to.name.clone(),
        status: LinkStatus::Unmeasured,
        source: if estimate.is_some() { LinkSource::Estimated } else { LinkSource::Unknown },
        via: None,
        rtt_us: estimate.map(|estimate| estimate.round_trip.0),
        rtt_min_us: None,
        jitter_us: None,
        loss: None,
        error: estimate.map(|estimate| f64::from(estimate.error_permille) / 1_000.0),
        mtu: None,
        age_ms: estimate.map(|_| from.age_ms.max(to.age_ms)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(name: &str, wanted: bool) -> Place {
        let point = Coordinate { position: [0; 3], height: 2_000, error_permille: 100 };
        Place { name: name.into(), point: Some(point), age_ms: 7, wanted }
    }

    #[test]
    fn estimates_fill_in_pairs_that_nobody_measured_and_say_where_nobody_knows() {
        let mut places = vec![place("a", true), place("b", true), place("c", false), place("d", false)];
        places[1].point = None;
        let mut measured = estimate(&places[2], &places[0]);
        measured.status = LinkStatus::Down;
        let (rows, left_out) = estimates(&places, &[measured]);
        let told: Vec<_> = rows.iter().map(|row| (&*row.from, &*row.to, row.source, row.rtt_us)).collect();
        let expected = [
            ("a", "b", LinkSource::Unknown, None),
            ("a", "d", LinkSource::Estimated, Some(4_000)),
            ("b", "c", LinkSource::Unknown, None),
            ("b", "d", LinkSource::Unknown, None),
        ];
        assert_eq!(told, expected, "not a pair that is down, not one that nobody asked for");
        assert_eq!(left_out, 0);
    }

    #[test]
    fn estimates_of_a_large_fleet_are_bounded_and_say_so() {
        let places: Vec<Place> = (0..200).map(|at| place(&format!("n{at}"), true)).collect();
        let (rows, left_out) = estimates(&places, &[]);
        assert_eq!((rows.len(), rows.len() + left_out), (ESTIMATES_MAX, 200 * 199 / 2));
    }
}
