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

use super::advice::{self, Outlook};
use super::feasibility::shortages;

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
    /// Delay to each placed partner of a channel, with the limit asked for. `None` is unknown.
    pub partners: Vec<(Option<Micros>, Option<Micros>)>,
    /// A cost of another kind to add: the bid of a cluster.
    pub bid: Option<f64>,
    /// Age of what is known.
    pub age: Micros,
    /// Why it may not be used, found before scoring.
    pub barred: Option<Obstacle>,
    /// What forecasts say of it.
    pub outlook: Outlook,
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

const PARTS: [(&str, &str); 6] = [
    ("load", "share"),
    ("balance", "share"),
    ("spread", "copies"),
    ("channel delay", "limits"),
    ("energy", "W"),
    ("bid", "score"),
];

/// Weights of [`PARTS`], in that order.
fn weights(profile: Profile) -> [f64; 6] {
    match profile {
        Profile::Balanced => [1.0, 0.5, 1.0, 1.0, 0.5, 1.0],
        Profile::Greenness => [0.5, 0.25, 0.5, 0.5, 3.0, 1.0],
        Profile::Resilience => [1.0, 0.5, 3.0, 0.5, 0.25, 1.0],
        Profile::Latency => [0.5, 0.25, 0.5, 3.0, 0.25, 1.0],
        Profile::Cost => [0.25, 1.0, 0.25, 0.5, 1.0, 1.0],
    }
}

/// Filters and scores `sites` for one replica.
#[must_use]
pub fn rank(sites: &[Site], wanted: &Resources, selector: &[(String, String)], profile: Profile) -> Ranking {
    let mut candidates: Vec<Candidate> = Vec::with_capacity(sites.len());
    let mut raws: Vec<[Option<f64>; 6]> = Vec::with_capacity(sites.len());
    for site in sites {
        let filtered = filter(site, wanted, selector);
        raws.push(if filtered.is_none() { raw_parts(site, wanted) } else { [None; 6] });
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
    score(&mut candidates, &raws, &partners, &weights(profile));
    advice::add(&mut candidates, sites, wanted, profile);
    candidates.sort_by(|a, b| {
        (a.filtered.is_some(), a.total, &a.name)
            .partial_cmp(&(b.filtered.is_some(), b.total, &b.name))
            .unwrap_or(std::cmp::Ordering::Equal)
    });
    Ranking { candidates }
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
    (!short.is_empty()).then_some(Obstacle::Short(short))
}

/// Raw values, `None` where an input is unknown.
fn raw_parts(site: &Site, wanted: &Resources) -> [Option<f64>; 6] {
    let share = |used: f64, all: f64| if all > 0.0 { used / all } else { 1.0 };
    let after = |all: f64, free: f64, add: f64| share(all - free + add, all);
    let cpu = after(site.capacity.cpu.as_f64(), site.free.cpu.as_f64(), wanted.cpu.as_f64());
    let memory = after(site.capacity.memory.as_f64(), site.free.memory.as_f64(), wanted.memory.as_f64());
    let fuller = cpu.max(memory);
    let load = fuller + 4.0 * (fuller - SAFETY_SHARE).max(0.0);
    let delay = site.partners.iter().try_fold(0.0, |sum, (delay, limit)| {
        let limit = limit.unwrap_or(DELAY_REFERENCE).as_f64().max(1.0);
        delay.map(|d| sum + d.as_f64() / limit)
    });
    let energy = site.power.map(|(idle, full)| {
        let dynamic =
            full.saturating_sub(idle).as_f64() * share(wanted.cpu.as_f64(), site.capacity.cpu.as_f64());
        let wakes = if site.free == site.capacity { idle.as_f64() } else { 0.0 };
        (dynamic + wakes) / 1_000.0
    });
    [
        Some(load),
        Some((cpu - memory).abs()),
        Some(f64::from(site.copies)),
        delay,
        energy,
        Some(site.bid.unwrap_or(0.0)),
    ]
}

fn score(candidates: &mut [Candidate], raws: &[[Option<f64>; 6]], partners: &[f64], weights: &[f64; 6]) {
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
pub(super) mod tests {
    use codeco_protocol::ids::MemberId;
    use codeco_protocol::units::{Bytes, MilliCpu};

    use super::*;

    pub(in crate::swm) fn site(name: &str, free: u64) -> Site {
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
            outlook: Outlook::Off,
        }
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
        near.partners = vec![(Some(Micros(100)), None)];
        let mut far = site("far", 1_000);
        far.partners = vec![(Some(Micros(9_000)), None)];
        let mut unknown = site("a-unknown", 1_000);
        unknown.partners = vec![(None, None)];
        let ranking = rank(&[unknown, far, near], &wanted(), &[], Profile::Latency);
        assert_eq!(ranking.best().map(|c| c.name.as_str()), Some("near"));
        let total = |name: &str| ranking.candidates.iter().find(|c| c.name == name).map(|c| c.total);
        assert!(total("a-unknown") > total("far"), "at least the limit asked for");
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
}
