//! Network Management and Adaptation: what this member measures of the network, and what it says of it.
//!
//! A pure core, [`Netma`], is shown at least once a second what the transport counts and what the membership believes. It keeps
//! a [`Link`] for each member it has been connected to, moves its own point ([`vivaldi`]), and says when either has
//! changed by so much that others should hear of it. Its shell is `actor.rs`.
//!
//! | file | concept |
//! |---|---|
//! | `links` | round trip, jitter, loss and state of one link |
//! | `vivaldi` | network coordinates |
//! | `probing` | when a link is probed |
//! | `delay` | from one place to another, as placement needs it |
//! | `actor` | the shell |
//! | `views` | what people read of it |

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

#[allow(clippy::disallowed_methods)]
mod actor;
mod delay;
mod links;
mod probing;
mod views;
pub mod vivaldi;

use std::collections::{BTreeMap, BTreeSet};

use codeco_protocol::coordinate::{Coordinate, ERROR_USABLE_PERMILLE};
use codeco_protocol::gossip::Liveness;
use codeco_protocol::ids::MemberId;
use codeco_protocol::transport::PathSample;
use codeco_protocol::units::{BootTime, Micros};

pub use actor::{NetworkEye, NetworkWord, netma_child};
pub use delay::Delay;
pub use links::{Link, LinkState};
pub(crate) use views::name_of;
pub use views::{ESTIMATES_MAX, Place, estimates};
use vivaldi::Vivaldi;

/// Links remembered at most.
pub const LINKS_MAX: usize = 8_192;
/// Round trips told to a lead at most.
pub const ROUND_TRIPS_TOLD_MAX: usize = 64;
/// How long a link is remembered that is not kept any more.
const REMEMBERED: Micros = Micros::from_secs(600);
/// A round trip that has changed by less than this share, or by less than [`CHANGE_MIN`], is no news.
const CHANGE_SHARE: f64 = 0.25;
/// See [`CHANGE_SHARE`].
const CHANGE_MIN: Micros = Micros(1_000);
/// Between two words about round trips that have changed much.
const ROUND_TRIPS_EVERY: Micros = Micros::from_secs(5);
/// Between two about any that have changed: a lead is told all facts as often anyway.
const ROUND_TRIPS_EVERY_SMALL: Micros = Micros::from_secs(20);
/// Between two about members that were not told of before: placement waits for these.
const ROUND_TRIPS_EVERY_NEW: Micros = Micros::from_millis(250);
/// A round trip that has changed by this, and by as much as it was, has changed much.
const CHANGE_MUCH: Micros = Micros(5_000);
/// Between two words about the own point at most; begins with a pace for each link it is told over, and doubles with each
/// word.
const POINT_EVERY_MAX: Micros = Micros::from_secs(240);

/// What is seen of one member at one look.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Seen {
    /// The connection to it, if there is one.
    pub path: Option<PathSample>,
    /// What the membership believes of it.
    pub believed: Option<Liveness>,
    /// Where it says it is.
    pub point: Option<Coordinate>,
    /// What a probe of ours has measured since the last look.
    pub echo: Option<Micros>,
}

/// What others should hear.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Told {
    /// For the lead: all round trips, since some have changed.
    pub round_trips: Option<Vec<(MemberId, Micros)>>,
    /// For everybody: the own point, since it has moved.
    pub coordinate: Option<Coordinate>,
    /// For nobody: whom to send a probe to.
    pub probe: Vec<MemberId>,
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Netma {
    links: BTreeMap<MemberId, Link>,
    point: Vivaldi,
    prober: probing::Prober,
    told_round_trips: Vec<(MemberId, Micros)>,
    last_round_trips: Option<BootTime>,
    pace: Micros,
    told_point: Option<Coordinate>,
    next_point: BootTime,
    words: u32,
}

impl Netma {
    /// Nothing measured yet.
    #[must_use]
    pub fn new(seed: u64, now: BootTime) -> Self {
        Self {
            links: BTreeMap::new(),
            point: Vivaldi::new(seed),
            prober: probing::Prober::new(now),
            told_round_trips: Vec::new(),
            last_round_trips: None,
            pace: Micros::from_secs(1),
            told_point: None,
            next_point: now,
            words: 0,
        }
    }

    /// How seldom the own point is told: at intervals of this for each link, or more.
    pub fn set_pace(&mut self, pace: Micros) {
        self.pace = pace;
    }

    /// Looks at everybody once. A member that is not in `seen` is neither connected nor known any more.
    pub fn look(&mut self, now: BootTime, seen: &BTreeMap<MemberId, Seen>) -> Told {
        self.forget_the_past(now, seen);
        let (mut placed, mut fresh) = (Vec::new(), Vec::new());
        for (member, seen) in seen {
            if !self.links.contains_key(member) && (seen.path.is_none() || self.links.len() >= LINKS_MAX) {
                continue;
            }
            let link = self.links.entry(*member).or_insert_with(|| Link::new(now));
            let is_fresh = link.look(now, seen.path, seen.believed, seen.echo);
            if let (LinkState::Up, Some(point), Some(least)) = (link.state(), seen.point, link.least()) {
                placed.push((point, least));
                fresh.push(is_fresh);
            }
        }
        let fitting = self.point.fitting(&placed);
        for ((point, least), _) in placed
            .into_iter()
            .zip(fitting.into_iter().zip(fresh))
            .filter(|(_, (fits, fresh))| *fits && *fresh)
        {
            self.point.observe(point, least);
        }
        self.point.settle();
        let error = self.point.coordinate().error_permille;
        let probe = self.prober.due(now, self.pace, error, &mut self.links);
        Told { round_trips: self.tell_round_trips(now), coordinate: self.tell_point(now), probe }
    }

    fn forget_the_past(&mut self, now: BootTime, seen: &BTreeMap<MemberId, Seen>) {
        self.links.retain(|member, link| match seen.get(member) {
            None => false,
            // It said good-bye: there is nothing to be measured, and nothing wrong.
            Some(Seen { path: None, believed: Some(Liveness::Left), .. }) => false,
            Some(_) => {
                let past = link.measured().is_none_or(|measured| now.since(measured) > REMEMBERED);
                link.state() != LinkState::Idle || !past
            }
        });
    }

    fn tell_round_trips(&mut self, now: BootTime) -> Option<Vec<(MemberId, Micros)>> {
        let since = self.last_round_trips.map(|last| now.since(last));
        if since.is_some_and(|since| since < ROUND_TRIPS_EVERY_NEW) {
            return None;
        }
        let seldom = since.is_some_and(|since| since < ROUND_TRIPS_EVERY_SMALL);
        let present: Vec<(MemberId, Micros)> = self
            .links
            .iter()
            .filter(|(_, link)| link.state() == LinkState::Up)
            .filter_map(|(member, link)| Some((*member, link.round_trip()?)))
            .take(ROUND_TRIPS_TOLD_MAX)
            .collect();
        let members = |list: &[(MemberId, Micros)]| list.iter().map(|(m, _)| *m).collect::<BTreeSet<_>>();
        let (now_there, told) = (members(&present), members(&self.told_round_trips));
        if since.is_some_and(|since| since < ROUND_TRIPS_EVERY) && now_there.is_subset(&told) {
            return None;
        }
        let same = now_there == told
            && present
                .iter()
                .zip(&self.told_round_trips)
                .all(|((_, a), (_, b))| !differs(*a, *b) || (seldom && !differs_much(*a, *b)));
        if same {
            return None;
        }
        self.last_round_trips = Some(now);
        self.told_round_trips.clone_from(&present);
        Some(present)
    }

    fn tell_point(&mut self, now: BootTime) -> Option<Coordinate> {
        let point = self.point.coordinate();
        let news = match self.told_point {
            // Before it is of use to anybody, only those who measure us need to know that we are somewhere.
            None => !self.links.is_empty(),
            Some(told) => {
                let usable = |c: Coordinate| c.error_permille <= ERROR_USABLE_PERMILLE;
                let surer = told.error_permille > 250 && point.error_permille * 2 < told.error_permille;
                usable(told) != usable(point) || surer || moved(told, point) > self.worth_telling()
            }
        };
        if !news || now < self.next_point {
            return None;
        }
        let links = self.links.values().filter(|link| link.state() == LinkState::Up).count();
        let first = self.pace.0.saturating_mul(links.clamp(2, 16) as u64);
        self.next_point = now + Micros(first << self.words.min(16)).min(POINT_EVERY_MAX);
        self.words += 1;
        self.told_point = Some(point);
        Some(point)
    }

    /// How far the point must move to be news: a share of what is near.
    fn worth_telling(&self) -> f64 {
        let mut round_trips: Vec<u64> =
            self.links.values().filter_map(Link::least).map(|least| least.0).collect();
        round_trips.sort_unstable();
        let median = round_trips.get(round_trips.len() / 2).copied().unwrap_or(0);
        (Micros(median).as_f64() * CHANGE_SHARE).max(CHANGE_MIN.as_f64())
    }

    /// All links, by member.
    pub fn links(&self) -> impl Iterator<Item = (MemberId, &Link)> {
        self.links.iter().map(|(member, link)| (*member, link))
    }

    /// The link to a member.
    #[must_use]
    pub fn link(&self, member: MemberId) -> Option<&Link> {
        self.links.get(&member)
    }

    /// Where this member is.
    #[must_use]
    pub fn coordinate(&self) -> Coordinate {
        self.point.coordinate()
    }
}

fn differs(a: Micros, b: Micros) -> bool {
    let change = a.0.abs_diff(b.0);
    change > CHANGE_MIN.0 && Micros(change).as_f64() > b.as_f64() * CHANGE_SHARE
}

fn differs_much(a: Micros, b: Micros) -> bool {
    let change = a.0.abs_diff(b.0);
    change > CHANGE_MUCH.0 && change > b.0.min(a.0)
}

/// How far apart two points of one member are.
fn moved(a: Coordinate, b: Coordinate) -> f64 {
    let plane = a.position.iter().zip(b.position).map(|(a, b)| (f64::from(*a) - f64::from(b)).powi(2));
    plane.sum::<f64>().sqrt() + (f64::from(a.height) - f64::from(b.height)).abs()
}

#[cfg(test)]
mod tests;
