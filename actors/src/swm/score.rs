//! Scores of candidates: filters first, then a weighted sum of normalised parts. Lower is better.
//!
//! Every part is divided by its mean over the feasible candidates, so that parts of different units can be added:
//! 1 is «as the average candidate». Unknown inputs never count as zero; they take the worst value known among the
//! candidates, and the part says so.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::BTreeMap;

use codeco_protocol::ids::NodeId;
use codeco_protocol::messages::{Obstacle, Profile};
use codeco_protocol::resources::Resources;
use codeco_protocol::units::{Micros, MilliWatts};

use super::feasibility::shortages;
use crate::netma::Delay;

/// Share of a resource above which load is counted five times.
pub const SAFETY_SHARE: f64 = 0.8;
/// Delay at which a channel without a stated limit counts like one at its limit.
pub const DELAY_REFERENCE: Micros = Micros::from_millis(100);

/// A place where a replica could go.
#[derive(Debug, Clone, PartialEq)]
pub struct Site {
    /// Name, for people and for breaking ties.
    pub name: String,
    /// The node, or the lead of the cluster.
    pub id: NodeId,
    /// What it has.
    pub capacity: Resources,
    /// What is free.
    pub free: Resources,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Power when idle and at full load.
    pub power: Option<(MilliWatts, MilliWatts)>,
    /// Copies of the same service there already.
    pub copies: u32,
    /// The placed other ends of the replica's channels.
    pub partners: Vec<Partner>,
    /// A cost of another kind to add: the bid of a cluster.
    pub bid: Option<f64>,
    /// Age of what is known.
    pub age: Micros,
    /// Why it may not be used, found before scoring.
    pub barred: Option<Obstacle>,
    /// What the replica would draw there, where known; a cluster's word about its node.
    pub draws: Option<MilliWatts>,
    /// What it would cost there in an hour, in thousandths of the operator's unit of money, where known.
    pub cost: Option<u64>,
}

/// The placed other end of a channel, seen from a candidate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partner {
    /// One-way delay to it; `None` is unknown.
    pub delay: Option<Delay>,
    /// The limit asked for.
    pub limit: Option<Micros>,
    /// Whether the limit is hard. That of a best-effort channel only counts in the score.
    pub assured: bool,
    /// The channel.
    pub channel: String,
    /// What and where the other end is.
    pub other: String,
}

/// How the parts of a score weigh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Weighing {
    /// The weights.
    pub profile: Profile,
    /// Whether keeping copies apart weighs [`APART_WEIGHT`] instead of what the profile says.
    pub apart: bool,
}

impl From<Profile> for Weighing {
    fn from(profile: Profile) -> Self {
        Self { profile, apart: false }
    }
}

/// One part of a score.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    /// Name.
    pub name: &'static str,
    /// Value in its own unit.
    pub raw: f64,
    /// The unit.
    pub unit: &'static str,
    /// Divided by the mean over the feasible candidates.
    pub normalized: f64,
    /// Weight of the profile.
    pub weight: f64,
    /// What it adds to the total.
    pub contribution: f64,
    /// What was assumed.
    pub note: Option<&'static str>,
}

/// One candidate, scored or filtered.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// Name.
    pub name: String,
    /// The node, or the lead of the cluster.
    pub id: NodeId,
    /// Why it is out.
    pub filtered: Option<String>,
    /// The same, for counting.
    pub obstacle: Option<Obstacle>,
    /// Parts; they add up to the total.
    pub parts: Vec<Part>,
    /// Total; lower is better.
    pub total: f64,
    /// Age of what is known.
    pub age: Micros,
}

/// All candidates, best first, the filtered ones last.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Ranking {
    /// Candidates.
    pub candidates: Vec<Candidate>,
}

impl Ranking {
    /// The winner.
    #[must_use]
    pub fn best(&self) -> Option<&Candidate> {
        self.candidates.first().filter(|c| c.filtered.is_none())
    }

    /// The reasons of those filtered, with counts, for a sentence.
    #[must_use]
    pub fn reasons(&self) -> String {
        let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
        for candidate in &self.candidates {
            if let Some(reason) = &candidate.filtered {
                *counts.entry(reason.as_str()).or_default() += 1;
            }
        }
        if counts.is_empty() {
            return "there is no candidate".into();
        }
        counts.iter().map(|(reason, n)| format!("{n}× {reason}")).collect::<Vec<_>>().join("; ")
    }
}

/// Weight of the part `spread` where `appFailureTolerance` asks for copies to be kept apart: above the sum of all other
/// weights of any profile. It is a weight and no filter, because two copies on one node are better than one copy and one
/// that waits; `spec.placement.spread` is the filter.
pub const APART_WEIGHT: f64 = 10.0;

/// Number of parts.
const N: usize = PARTS.len();
const PARTS: [(&str, &str); 7] = [
    ("load", "share"),
    ("balance", "share"),
    ("spread", "copies"),
    ("channel delay", "limits"),
    ("energy", "W"),
    ("bid", "score"),
    ("cost", "per 1000 h"),
];

/// Weights of [`PARTS`], in that order.
fn weights(profile: Profile) -> [f64; N] {
    match profile {
        Profile::Balanced => [1.0, 0.5, 1.0, 1.0, 0.5, 1.0, 0.25],
        Profile::Greenness => [0.5, 0.25, 0.5, 0.5, 3.0, 1.0, 0.25],
        Profile::Resilience => [1.0, 0.5, 3.0, 0.5, 0.25, 1.0, 0.25],
        Profile::Latency => [0.5, 0.25, 0.5, 3.0, 0.25, 1.0, 0.25],
        Profile::Cost => [0.25, 1.0, 0.25, 0.5, 0.5, 1.0, 3.0],
    }
}

/// Filters and scores `sites` for one replica.
#[must_use]
pub fn rank(
    sites: &[Site],
    wanted: &Resources,
    selector: &[(String, String)],
    weighing: impl Into<Weighing>,
) -> Ranking {
    let weighing: Weighing = weighing.into();
    let mut weights = weights(weighing.profile);
    if weighing.apart {
        weights[2] = weights[2].max(APART_WEIGHT);
    }
    let mut candidates: Vec<Candidate> = Vec::with_capacity(sites.len());
    let mut raws: Vec<[Option<f64>; N]> = Vec::with_capacity(sites.len());
    for site in sites {
        let filtered = filter(site, wanted, selector);
        raws.push(if filtered.is_none() { raw_parts(site, wanted) } else { [None; N] });
        candidates.push(Candidate {
            name: site.name.clone(),
            id: site.id,
            filtered: filtered.as_ref().map(ToString::to_string),
            obstacle: filtered,
            parts: Vec::new(),
            total: 0.0,
            age: site.age,
        });
    }
    #[allow(clippy::cast_precision_loss)]
    let partners: Vec<f64> = sites.iter().map(|site| site.partners.len() as f64).collect();
    score(&mut candidates, &raws, &partners, &weights);
    note_estimates(&mut candidates, sites);
    candidates.sort_by(|a, b| {
        (a.filtered.is_some(), a.total, &a.name)
            .partial_cmp(&(b.filtered.is_some(), b.total, &b.name))
            .unwrap_or(std::cmp::Ordering::Equal)
    });
    Ranking { candidates }
}

/// Says where a delay was not measured. Candidates are still in the order of their sites.
fn note_estimates(candidates: &mut [Candidate], sites: &[Site]) {
    for (candidate, site) in candidates.iter_mut().zip(sites) {
        let estimated =
            site.partners.iter().any(|partner| partner.delay.is_some_and(|delay| delay.estimated));
        let parts = candidate.parts.iter_mut().filter(|part| part.name == "channel delay" && estimated);
        for part in parts.filter(|part| part.note.is_none()) {
            part.note = Some("estimated by network coordinates, not measured");
        }
    }
}

fn filter(site: &Site, wanted: &Resources, selector: &[(String, String)]) -> Option<Obstacle> {
    if let Some(obstacle) = &site.barred {
        return Some(obstacle.clone());
    }
    for (key, value) in selector {
        if site.labels.get(key) != Some(value) {
            return Some(Obstacle::Label { key: key.clone(), value: value.clone() });
        }
    }
    let short = shortages(wanted, &site.free);
    if !short.is_empty() {
        return Some(Obstacle::Short(short));
    }
    site.partners.iter().filter(|partner| partner.assured).find_map(|partner| {
        let most = partner.limit?;
        partner.delay.is_none_or(|delay| delay.one_way > most).then(|| Obstacle::Delay {
            channel: partner.channel.clone(),
            other: partner.other.clone(),
            delay: partner.delay.map(|delay| delay.one_way),
            most,
        })
    })
}

/// Raw values, `None` where an input is unknown.
fn raw_parts(site: &Site, wanted: &Resources) -> [Option<f64>; N] {
    let share = |used: f64, all: f64| if all > 0.0 { used / all } else { 1.0 };
    let after = |all: f64, free: f64, add: f64| share(all - free + add, all);
    let cpu = after(site.capacity.cpu.as_f64(), site.free.cpu.as_f64(), wanted.cpu.as_f64());
    let memory = after(site.capacity.memory.as_f64(), site.free.memory.as_f64(), wanted.memory.as_f64());
    let fuller = cpu.max(memory);
    let load = fuller + 4.0 * (fuller - SAFETY_SHARE).max(0.0);
    let delay = site.partners.iter().try_fold(0.0, |sum, partner| {
        let limit = partner.limit.unwrap_or(DELAY_REFERENCE).as_f64().max(1.0);
        partner.delay.map(|d| sum + d.one_way.as_f64() / limit)
    });
    let energy = site.power.map(|(idle, full)| {
        let dynamic =
            full.saturating_sub(idle).as_f64() * share(wanted.cpu.as_f64(), site.capacity.cpu.as_f64());
        let wakes = if site.free == site.capacity { idle.as_f64() } else { 0.0 };
        (dynamic + wakes) / 1_000.0
    });
    // A cluster says what its node would draw.
    let energy = energy.or_else(|| site.draws.map(|draws| draws.as_f64() / 1_000.0));
    #[allow(clippy::cast_precision_loss)]
    let cost = site.cost.map(|cost| cost as f64);
    [
        Some(load),
        Some((cpu - memory).abs()),
        Some(f64::from(site.copies)),
        delay,
        energy,
        Some(site.bid.unwrap_or(0.0)),
        cost,
    ]
}

fn score(candidates: &mut [Candidate], raws: &[[Option<f64>; N]], partners: &[f64], weights: &[f64; N]) {
    for (part, ((name, unit), weight)) in PARTS.iter().zip(weights).enumerate() {
        let known: Vec<f64> = raws.iter().filter_map(|raw| raw[part]).collect();
        let worst = known.iter().copied().fold(0.0, f64::max);
        // An unmeasured delay counts at least as much as the limit asked for, on every channel.
        let assumed =
            |candidate: usize| if *name == "channel delay" { worst.max(partners[candidate]) } else { worst };
        let mut feasible = 0.0;
        let mut sum = 0.0;
        for (at, (candidate, raw)) in candidates.iter().zip(raws).enumerate() {
            if candidate.filtered.is_none() {
                feasible += 1.0;
                sum += raw[part].unwrap_or_else(|| assumed(at));
            }
        }
        let mean = if feasible > 0.0 { sum / feasible } else { 0.0 };
        for (at, (candidate, raw)) in candidates.iter_mut().zip(raws).enumerate() {
            if candidate.filtered.is_some() {
                continue;
            }
            let value = raw[part].unwrap_or_else(|| assumed(at));
            let note = match (raw[part], value > 0.0) {
                (Some(_), _) => None,
                (None, true) => Some("unknown: the worst known value, or the limit, is assumed"),
                (None, false) => Some("unknown everywhere: does not count"),
            };
            let normalized = if mean > 0.0 { value / mean } else { 0.0 };
            let contribution = normalized * weight;
            candidate.total += contribution;
            candidate.parts.push(Part {
                name,
                raw: value,
                unit,
                normalized,
                weight: *weight,
                contribution,
                note,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use codeco_protocol::ids::MemberId;
    use codeco_protocol::units::{Bytes, MilliCpu};

    use super::*;

    fn site(name: &str, free: u64) -> Site {
        Site {
            name: name.into(),
            id: MemberId(1),
            capacity: Resources::new(MilliCpu(1_000), Bytes(1_000)),
            free: Resources::new(MilliCpu(free), Bytes(1_000)),
            labels: BTreeMap::new(),
            power: None,
            copies: 0,
            partners: vec![],
            bid: None,
            age: Micros(0),
            barred: None,
            draws: None,
            cost: None,
        }
    }

    fn partner(delay: Option<Delay>) -> Partner {
        let (channel, other) = ("c".into(), "p on n".into());
        Partner { delay, limit: None, assured: false, channel, other }
    }

    fn wanted() -> Resources {
        Resources::new(MilliCpu(100), Bytes(100))
    }

    #[test]
    fn ranking_prefers_the_emptier_site_and_its_parts_add_up() {
        let ranking = rank(&[site("full", 300), site("empty", 1_000)], &wanted(), &[], Profile::Balanced);
        assert_eq!(ranking.best().map(|c| c.name.as_str()), Some("empty"));
        for candidate in &ranking.candidates {
            let sum: f64 = candidate.parts.iter().map(|p| p.contribution).sum();
            assert!((sum - candidate.total).abs() < 1e-9);
        }
    }

    #[test]
    fn ranking_of_an_unknown_delay_takes_the_worst_known_not_zero() {
        let mut near = site("near", 1_000);
        let delay = |micros, estimated| Some(Delay { one_way: Micros(micros), estimated });
        near.partners = vec![partner(delay(100, false))];
        let mut far = site("far", 1_000);
        far.partners = vec![partner(delay(9_000, true))];
        let mut unknown = site("a-unknown", 1_000);
        unknown.partners = vec![partner(None)];
        let ranking = rank(&[unknown, far, near], &wanted(), &[], Profile::Latency);
        assert_eq!(ranking.best().map(|c| c.name.as_str()), Some("near"));
        let total = |name: &str| ranking.candidates.iter().find(|c| c.name == name).map(|c| c.total);
        assert!(total("a-unknown") > total("far"), "at least the limit asked for");
        let note = |name: &str| {
            let parts = ranking.candidates.iter().find(|c| c.name == name).map(|c| &c.parts).into_iter();
            parts.flatten().find(|part| part.name == "channel delay").and_then(|part| part.note)
        };
        assert_eq!(note("near"), None);
        assert!(note("far").unwrap().starts_with("estimated"), "an estimate passes for no measurement");
        assert!(note("a-unknown").unwrap().starts_with("unknown"));
    }

    #[test]
    fn ranking_without_a_feasible_site_counts_the_reasons() {
        let mut barred = site("b", 1_000);
        barred.barred = Some(Obstacle::Other("has not answered for 4.0 s".into()));
        let ranking = rank(&[site("a", 50), barred], &wanted(), &[], Profile::Balanced);
        assert!(ranking.best().is_none());
        assert_eq!(
            ranking.reasons(),
            "1× has not answered for 4.0 s; 1× not enough cpu: wants 100m, 50m free"
        );
    }

    #[test]
    fn ranking_by_greenness_avoids_waking_an_empty_machine() {
        let power = Some((MilliWatts(100_000), MilliWatts(200_000)));
        let mut asleep = site("asleep", 1_000);
        asleep.power = power;
        let mut awake = site("awake", 600);
        awake.power = power;
        let best = |profile| {
            let ranking = rank(&[asleep.clone(), awake.clone()], &wanted(), &[], profile);
            ranking.best().map(|c| c.name.clone())
        };
        assert_eq!(best(Profile::Greenness).as_deref(), Some("awake"));
        assert_eq!(best(Profile::Resilience).as_deref(), Some("asleep"));
    }

    #[test]
    fn ranking_filters_by_the_delay_of_an_assured_channel_and_only_scores_that_of_a_best_effort_one() {
        let with = |name: &str, delay: Option<Micros>, assured| {
            let delay = delay.map(|one_way| Delay { one_way, estimated: false });
            let mut site = site(name, 1_000);
            site.partners = vec![Partner { limit: Some(Micros(500)), assured, ..partner(delay) }];
            site
        };
        let all = |assured| {
            [
                with("far", Some(Micros(900)), assured),
                with("near", Some(Micros(100)), assured),
                with("unknown", None, assured),
            ]
        };
        let names = |assured| {
            let ranking = rank(&all(assured), &wanted(), &[], Profile::Balanced);
            let left = ranking.candidates.iter().filter(|c| c.filtered.is_none()).map(|c| c.name.clone());
            (left.collect::<Vec<_>>(), ranking.reasons())
        };
        assert_eq!(names(false).0, ["near", "far", "unknown"]);
        let (left, reasons) = names(true);
        assert_eq!(left, ["near"]);
        assert!(reasons.contains("channel c: 900 µs to p on n, at most 500 µs is assured"), "{reasons}");
        assert!(reasons.contains("the delay to p on n is not measured"), "{reasons}");
    }

    #[test]
    fn ranking_by_cost_takes_the_cheaper_and_one_without_a_price_is_not_free() {
        let priced = |name: &str, cost| Site { cost, ..site(name, 1_000) };
        let sites = [priced("cheap", Some(20)), priced("dear", Some(90)), priced("a-unknown", None)];
        let ranking = rank(&sites, &wanted(), &[], Profile::Cost);
        assert_eq!(ranking.best().map(|c| c.name.as_str()), Some("cheap"));
        let cost = |name: &str| {
            let of = ranking.candidates.iter().find(|c| c.name == name);
            of.and_then(|c| c.parts.iter().find(|p| p.name == "cost")).map(|p| p.raw)
        };
        assert_eq!(cost("a-unknown"), Some(90.0), "the worst known");
    }

    #[test]
    fn ranking_with_copies_to_be_kept_apart_prefers_an_empty_site_whatever_else_it_costs() {
        let mut empty = site("empty", 250);
        empty.power = Some((MilliWatts(100_000), MilliWatts(400_000)));
        let mut taken = site("taken", 900);
        (taken.copies, taken.power) = (1, Some((MilliWatts(10_000), MilliWatts(40_000))));
        let best = |weighing: Weighing| {
            let ranking = rank(&[empty.clone(), taken.clone()], &wanted(), &[], weighing);
            ranking.best().map(|c| c.name.clone())
        };
        assert_eq!(best(Profile::Greenness.into()).as_deref(), Some("taken"));
        assert_eq!(best(Weighing { profile: Profile::Greenness, apart: true }).as_deref(), Some("empty"));
    }
}
