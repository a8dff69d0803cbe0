//! What forecasts add to a score: one part, visible as all others, and only while the gate of the cluster is open.
//!
//! Without advice nothing is added and nothing is computed anew: scores are, bit by bit, those of the heuristic.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::BTreeMap;

use codeco_protocol::ids::NodeId;
use codeco_protocol::messages::Profile;
use codeco_protocol::resources::Resources;
use codeco_protocol::units::BootTime;

use super::score::{Candidate, Part, SAFETY_SHARE, Site};

/// Name of the part.
pub const PART: &str = "advice";
/// Forecasts above the safety share by less than this on the mean do not count as if they were much.
const OVER_SCALE: f64 = 0.1;

/// What must be reckoned with on a node: the largest P95 over the horizon, as shares of its capacity.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Peak {
    /// Processor.
    pub cpu: f64,
    /// Memory.
    pub memory: f64,
}

/// What is known of a node's future.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Outlook {
    /// Nobody was asked.
    #[default]
    Off,
    /// There is no forecast for it. Never read as «no load».
    Unknown,
    /// A forecast.
    Peak(Peak),
}

/// Forecasts for a cluster, as its lead may use them for a while.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Advice {
    /// Model, its version, and how far it is trusted, for the record of decisions.
    pub model: String,
    /// Whether it counts.
    pub active: bool,
    /// Forecasts by node.
    pub peaks: BTreeMap<NodeId, Peak>,
    /// Until when it may be used: whoever makes forecasts may have died.
    pub until: BootTime,
}

impl Advice {
    /// What it says of a node at `now`.
    #[must_use]
    pub fn of(&self, now: BootTime, node: NodeId) -> Outlook {
        if !self.active || now >= self.until {
            return Outlook::Off;
        }
        let sound = |peak: &&Peak| peak.cpu.is_finite() && peak.memory.is_finite();
        self.peaks.get(&node).filter(sound).map_or(Outlook::Unknown, |peak| Outlook::Peak(*peak))
    }
}

fn weight(profile: Profile) -> f64 {
    match profile {
        Profile::Balanced => 1.0,
        Profile::Resilience => 1.5,
        Profile::Latency => 0.75,
        Profile::Greenness | Profile::Cost => 0.5,
    }
}

/// Adds the part to every candidate that passed the filters. `candidates` are in the order of `sites`.
pub(super) fn add(candidates: &mut [Candidate], sites: &[Site], wanted: &Resources, profile: Profile) {
    let asked = |site: &Site| site.outlook != Outlook::Off;
    if !sites.iter().any(asked) {
        return;
    }
    let feasible = || candidates.iter().zip(sites).filter(|(candidate, _)| candidate.filtered.is_none());
    let worst = feasible().fold(Peak { cpu: 0.0, memory: 0.0 }, |worst, (_, site)| match site.outlook {
        Outlook::Peak(peak) => Peak { cpu: worst.cpu.max(peak.cpu), memory: worst.memory.max(peak.memory) },
        Outlook::Off | Outlook::Unknown => worst,
    });
    let values: Vec<f64> = sites.iter().map(|site| over_safety(site, wanted, worst)).collect();
    let of_feasible: Vec<f64> = candidates
        .iter()
        .zip(&values)
        .filter(|(candidate, _)| candidate.filtered.is_none())
        .map(|(_, value)| *value)
        .collect();
    #[allow(clippy::cast_precision_loss)]
    let mean = of_feasible.iter().sum::<f64>() / (of_feasible.len().max(1) as f64);
    let weight = weight(profile);
    for ((candidate, site), raw) in candidates.iter_mut().zip(sites).zip(values) {
        if candidate.filtered.is_some() {
            continue;
        }
        let normalized = raw / mean.max(OVER_SCALE);
        let contribution = normalized * weight;
        let note = match site.outlook {
            Outlook::Peak(_) => "forecast load above the safety share",
            Outlook::Off | Outlook::Unknown => {
                "no forecast: the worst one known, or what is promised, is assumed"
            }
        };
        candidate.total += contribution;
        candidate.parts.push(Part {
            name: PART,
            raw,
            unit: "share",
            normalized,
            weight,
            contribution,
            note: Some(note),
        });
    }
}

/// How far the node's forecast load, with the replica on it, is above the safety share.
fn over_safety(site: &Site, wanted: &Resources, worst: Peak) -> f64 {
    let share = |part: f64, all: f64| if all > 0.0 { part / all } else { 1.0 };
    let (cpu, memory) = (site.capacity.cpu.as_f64(), site.capacity.memory.as_f64());
    let peak = match site.outlook {
        Outlook::Peak(peak) => peak,
        Outlook::Off | Outlook::Unknown => Peak {
            cpu: worst.cpu.max(share(cpu - site.free.cpu.as_f64(), cpu)),
            memory: worst.memory.max(share(memory - site.free.memory.as_f64(), memory)),
        },
    };
    let after_cpu = peak.cpu.clamp(0.0, 1.0) + share(wanted.cpu.as_f64(), cpu);
    let after_memory = peak.memory.clamp(0.0, 1.0) + share(wanted.memory.as_f64(), memory);
    (after_cpu.max(after_memory) - SAFETY_SHARE).max(0.0)
}

/// A total without what advice added: bids of clusters with and without advice are compared with each other.
#[must_use]
pub fn without(candidate: &Candidate) -> f64 {
    let advised = candidate.parts.iter().filter(|part| part.name == PART).map(|part| part.contribution);
    candidate.total - advised.sum::<f64>()
}

#[cfg(test)]
mod tests {
    use codeco_protocol::ids::MemberId;
    use codeco_protocol::units::{Bytes, MilliCpu};
    use proptest::prelude::*;

    use super::*;
    use crate::swm::score::rank;

    fn site(name: &str, free: u64, outlook: Outlook) -> Site {
        Site { outlook, ..crate::swm::score::tests::site(name, free) }
    }

    fn peak(cpu: f64) -> Outlook {
        Outlook::Peak(Peak { cpu, memory: 0.1 })
    }

    fn wanted() -> Resources {
        Resources::new(MilliCpu(100), Bytes(100))
    }

    fn best(sites: &[Site]) -> Option<String> {
        rank(sites, &wanted(), &[], Profile::Balanced).best().map(|best| best.name.clone())
    }

    #[test]
    fn forecast_of_overload_turns_a_decision_and_its_part_says_so() {
        let calm = [site("a", 1_000, Outlook::Off), site("b", 1_000, Outlook::Off)];
        assert_eq!(best(&calm).as_deref(), Some("a"), "alike: the name decides");
        let advised = [site("a", 1_000, peak(0.95)), site("b", 1_000, peak(0.2))];
        assert_eq!(best(&advised).as_deref(), Some("b"));
        let ranking = rank(&advised, &wanted(), &[], Profile::Balanced);
        for candidate in &ranking.candidates {
            let part = candidate.parts.iter().find(|part| part.name == PART).unwrap();
            assert!((part.normalized * part.weight - part.contribution).abs() < 1e-12);
            let sum: f64 = candidate.parts.iter().map(|part| part.contribution).sum();
            assert!((sum - candidate.total).abs() < 1e-9);
        }
        let turned = ranking.candidates.iter().find(|c| c.name == "a").unwrap();
        assert!((turned.parts.last().unwrap().raw - 0.25).abs() < 1e-9, "0.95 + 0.1 - 0.8");
        assert!(without(turned) < turned.total);
    }

    #[test]
    fn forecast_below_the_safety_share_changes_nothing() {
        let advised = [site("a", 1_000, peak(0.5)), site("b", 1_000, peak(0.1))];
        assert_eq!(best(&advised).as_deref(), Some("a"));
    }

    #[test]
    fn unknown_forecast_counts_as_the_worst_known_or_as_what_is_promised_never_as_no_load() {
        let sites =
            [site("a", 1_000, Outlook::Unknown), site("b", 1_000, peak(0.95)), site("c", 1_000, peak(0.3))];
        assert_eq!(best(&sites).as_deref(), Some("c"));
        let full = [site("a", 150, Outlook::Unknown), site("b", 150, peak(0.2))];
        let ranking = rank(&full, &wanted(), &[], Profile::Balanced);
        let raw = |name: &str| {
            let found = ranking.candidates.iter().find(|c| c.name == name).unwrap();
            found.parts.iter().find(|part| part.name == PART).unwrap().raw
        };
        assert!((raw("a") - 0.15).abs() < 1e-9, "0.85 promised, 0.1 more: {}", raw("a"));
        assert!(raw("b").abs() < 1e-9);
    }

    #[test]
    fn advice_that_is_in_shadow_out_of_date_or_no_number_is_not_taken() {
        let node = MemberId(1);
        let mut advice = Advice {
            model: "load/1".into(),
            active: true,
            peaks: [(node, Peak { cpu: 0.9, memory: 0.1 })].into(),
            until: BootTime(100),
        };
        assert!(matches!(advice.of(BootTime(99), node), Outlook::Peak(_)));
        assert_eq!(advice.of(BootTime(99), MemberId(2)), Outlook::Unknown);
        assert_eq!(advice.of(BootTime(100), node), Outlook::Off);
        advice.peaks.insert(node, Peak { cpu: f64::NAN, memory: 0.1 });
        assert_eq!(advice.of(BootTime(99), node), Outlook::Unknown);
        advice.active = false;
        assert_eq!(advice.of(BootTime(99), node), Outlook::Off);
    }

    proptest! {
        #[test]
        fn ranking_without_advice_is_bit_by_bit_what_remains_when_the_part_is_taken_away(
            sites in proptest::collection::vec((100_u64..1_000, 0_u32..4, 0_u64..9, 0.0_f64..1.2), 1..12),
        ) {
            let with = |advised: bool| -> Vec<Site> {
                let of = |(at, (free, copies, delay, cpu)): (usize, &(u64, u32, u64, f64))| {
                    let outlook = if advised { peak(*cpu) } else { Outlook::Off };
                    let mut site = site(&format!("n{at}"), *free, outlook);
                    site.copies = *copies + u32::try_from(*delay).unwrap();
                    site
                };
                sites.iter().enumerate().map(of).collect()
            };
            let plain = rank(&with(false), &wanted(), &[], Profile::Balanced);
            let advised = rank(&with(true), &wanted(), &[], Profile::Balanced);
            for candidate in &plain.candidates {
                prop_assert!(candidate.parts.iter().all(|part| part.name != PART));
                let same = advised.candidates.iter().find(|c| c.name == candidate.name).unwrap();
                let rest = &same.parts[..same.parts.len() - 1];
                prop_assert_eq!(rest.len(), candidate.parts.len());
                for (a, b) in rest.iter().zip(&candidate.parts) {
                    prop_assert_eq!(a.contribution.to_bits(), b.contribution.to_bits());
                }
                let sum = rest.iter().fold(0.0_f64, |sum, part| sum + part.contribution);
                prop_assert_eq!(sum.to_bits(), candidate.total.to_bits());
            }
        }
    }
}
