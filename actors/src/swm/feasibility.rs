//! Why no node can take a replica, and what would make it fit: the filters' own findings, counted.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::BTreeMap;

use codeco_protocol::messages::{Obstacle, Shortage, watts};
use codeco_protocol::resources::Resources;
use codeco_protocol::units::{Bytes, MilliCpu};

/// Most nodes named in one sentence.
const NAMED_MAX: usize = 3;

/// What stands against `wanted` on a node with `free`: every resource that is short; nothing if it fits.
#[must_use]
pub fn shortages(wanted: &Resources, free: &Resources) -> Vec<Shortage> {
    let mut list = Vec::new();
    let mut push = |resource: &str, wanted: u64, free: u64| {
        if wanted > free {
            list.push(Shortage { resource: resource.to_owned(), wanted, free });
        }
    };
    push("cpu", wanted.cpu.0, free.cpu.0);
    push("memory", wanted.memory.0, free.memory.0);
    for (name, amount) in &wanted.extended {
        push(name, *amount, free.extended.get(name).copied().unwrap_or(0));
    }
    list
}

/// An amount of a resource, in its unit.
#[must_use]
pub fn amount(resource: &str, value: u64) -> String {
    match resource {
        "cpu" => MilliCpu(value).to_string(),
        "memory" => Bytes(value).to_string(),
        _ => value.to_string(),
    }
}

/// One sentence over all nodes of all clusters that were asked: which constraint removes how many of them, and what
/// would make the replica fit. `found` are the nodes (`cluster/node`, or a cluster whose nodes are not known) with what
/// stands against each.
#[must_use]
pub fn sentence(wanted: &Resources, found: &[(String, Obstacle)]) -> String {
    if found.is_empty() {
        return "there is no node".into();
    }
    let mut kinds: BTreeMap<String, Vec<&(String, Obstacle)>> = BTreeMap::new();
    for one in found {
        kinds.entry(kind(&one.1)).or_default().push(one);
    }
    let mut parts: Vec<(usize, String)> =
        kinds.values().map(|list| (list.len(), told(wanted, list))).collect();
    parts.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    let parts: Vec<String> = parts.into_iter().map(|(_, text)| text).collect();
    let nodes = found.len();
    let noun = if nodes == 1 { "candidate" } else { "candidates" };
    let remedies = remedies(wanted, found);
    let would = if remedies.is_empty() {
        String::new()
    } else {
        format!("; it would fit {}", remedies.join(", or "))
    };
    format!("{nodes} {noun}: {}{would}", parts.join(", "))
}

/// What stands in the way, without figures: the same as long as nothing but these has changed.
#[must_use]
pub fn kinds(found: &[(String, Obstacle)]) -> String {
    let mut kinds: Vec<String> = found.iter().map(|(_, obstacle)| kind(obstacle)).collect();
    kinds.sort();
    kinds.dedup();
    kinds.join("; ")
}

/// Obstacles of one kind are counted together.
fn kind(obstacle: &Obstacle) -> String {
    match obstacle {
        Obstacle::Silent(_) => "silent".into(),
        Obstacle::Short(list) => format!("short {}", list.first().map_or("", |s| &s.resource)),
        Obstacle::Level { field, wanted, .. } => format!("{field} {wanted}"),
        Obstacle::Spread { most, place, .. } => format!("spread {place} {most}"),
        Obstacle::Power { draws, .. } => format!("power known: {}", draws.is_some()),
        Obstacle::Delay { channel, delay, .. } => format!("delay of {channel} known: {}", delay.is_some()),
        Obstacle::Link { link, free, .. } => format!("{link} declared: {}", free.is_some()),
        Obstacle::Region { allowed, .. } => format!("region {}", allowed.join(",")),
        other => other.to_string(),
    }
}

fn told(wanted: &Resources, list: &[&(String, Obstacle)]) -> String {
    let count = list.len();
    let verb = |one: &str, many: &str| if count == 1 { one.to_owned() } else { many.to_owned() };
    let Some((_, first)) = list.first() else { return String::new() };
    match first {
        Obstacle::Label { key, value } => format!("{count} {} label {key}={value}", verb("lacks", "lack")),
        Obstacle::Short(shortages) => {
            let Some(short) = shortages.first() else { return String::new() };
            let largest = list
                .iter()
                .filter_map(|(name, obstacle)| match obstacle {
                    Obstacle::Short(list) => list.first().map(|s| (s.free, name)),
                    _ => None,
                })
                .max_by(|a, b| a.0.cmp(&b.0).then_with(|| b.1.cmp(a.1)));
            let place = largest.map_or_else(String::new, |(free, name)| {
                format!(" (largest free: {} on {name})", amount(&short.resource, free))
            });
            let wants = wanted_of(wanted, &short.resource);
            format!(
                "{count} {} less than {} {} free{place}",
                verb("has", "have"),
                amount(&short.resource, wants),
                short.resource
            )
        }
        Obstacle::Silent(_) => {
            let longest = list.iter().filter_map(|(_, o)| match o {
                Obstacle::Silent(age) => *age,
                _ => None,
            });
            let age = longest.max().map_or_else(|| "ever".to_owned(), |age| age.to_string());
            format!("{count} not heard for {age}")
        }
        Obstacle::Cordoned => format!("{count} {} cordoned ({})", verb("is", "are"), names(list)),
        other => format!("{count} ({}): {other}", names(list)),
    }
}

fn wanted_of(wanted: &Resources, resource: &str) -> u64 {
    match resource {
        "cpu" => wanted.cpu.0,
        "memory" => wanted.memory.0,
        other => wanted.extended.get(other).copied().unwrap_or(0),
    }
}

fn names(list: &[&(String, Obstacle)]) -> String {
    let mut named: Vec<&str> = list.iter().take(NAMED_MAX).map(|(name, _)| name.as_str()).collect();
    if list.len() > NAMED_MAX {
        named.push("…");
    }
    named.join(", ")
}

/// What a user or an operator could change, each of which would be enough as far as the filters can tell.
fn remedies(wanted: &Resources, found: &[(String, Obstacle)]) -> Vec<String> {
    let mut remedies = Vec::new();
    // The node that lacks the smallest share of what is wanted.
    let lacking = |list: &[Shortage]| {
        let share =
            |s: &Shortage| (s.wanted - s.free.min(s.wanted)).saturating_mul(1_000_000) / s.wanted.max(1);
        list.iter().map(share).max().unwrap_or(0)
    };
    let nearest = found
        .iter()
        .filter_map(|(name, obstacle)| match obstacle {
            Obstacle::Short(list) => Some((lacking(list), name, list)),
            _ => None,
        })
        .min_by(|a, b| (a.0, a.1).cmp(&(b.0, b.1)));
    if let Some((_, name, list)) = nearest {
        let amounts: Vec<String> =
            list.iter().map(|s| format!("{}: {}", s.resource, amount(&s.resource, s.free))).collect();
        remedies.push(format!("with {} (on {name})", amounts.join(" and ")));
    }
    let label = found.iter().find_map(|(_, obstacle)| match obstacle {
        Obstacle::Label { key, value } => Some(format!("{key}={value}")),
        _ => None,
    });
    if let Some(label) = label {
        remedies.push(format!("with one node with label {label} and {wanted} free"));
    }
    remedies.extend(remedies_of_demands(found));
    if let Some((name, _)) = found.iter().find(|(_, obstacle)| *obstacle == Obstacle::Cordoned) {
        remedies.push(format!("perhaps after `codeco uncordon {name}`"));
    }
    remedies
}

/// The same for what an application demands beside room and labels: one for each demand.
fn remedies_of_demands(found: &[(String, Obstacle)]) -> Vec<String> {
    let mut remedies = Vec::new();
    let mut seen = std::collections::BTreeSet::new();
    for (name, obstacle) in found {
        let remedy = match obstacle {
            Obstacle::Level { field, wanted, .. } => {
                let flag = if field == "securityClass" { "--security" } else { "--compliance" };
                format!("on a node that declares {wanted} (agent option {flag}), or with a lower {field}")
            }
            Obstacle::Spread { most, .. } => format!("with a spread above {most}"),
            Obstacle::Power { draws: None, .. } => {
                format!("if {name} declared its power (agent option --power-watts)")
            }
            Obstacle::Power { draws: Some(draws), most } => {
                format!("with an appEnergyLimit that gives it {} (now {})", watts(*draws), watts(*most))
            }
            Obstacle::Delay { channel, delay: Some(delay), .. } => {
                format!("with a maxDelay of channel {channel} of {delay} (on {name})")
            }
            Obstacle::Delay { channel, .. } => format!("once the delay of channel {channel} is measured"),
            Obstacle::Link { link, free: None, .. } => {
                let flag = if link.starts_with("uplink") { "--uplink" } else { "--link" };
                format!("if the capacity of the {link} were declared (agent option {flag})")
            }
            Obstacle::Link { free: Some(free), .. } => format!("with {free} in ASSURED channels (on {name})"),
            Obstacle::Region { allowed, .. } => format!("in region {}", allowed.join(" or ")),
            _ => continue,
        };
        if seen.insert(kind(obstacle)) {
            remedies.push(remedy);
        }
    }
    remedies
}

#[cfg(test)]
mod tests {
    use codeco_protocol::units::Micros;

    use super::*;

    fn short(wanted: &Resources, cpu: u64) -> Obstacle {
        Obstacle::Short(shortages(wanted, &Resources::new(MilliCpu(cpu), Bytes(1 << 30))))
    }

    #[test]
    fn sentence_counts_each_constraint_and_says_what_would_make_it_fit() {
        let wanted = Resources::new(MilliCpu(4_000), Bytes(1 << 20));
        let label = Obstacle::Label { key: "x".into(), value: "y".into() };
        let mut found: Vec<_> = (0..7).map(|i| (format!("edge-2/node-{i}"), label.clone())).collect();
        found.push(("edge-1/node-1".into(), short(&wanted, 500)));
        found.push(("edge-1/node-2".into(), short(&wanted, 2_500)));
        found.push(("edge-1/node-3".into(), short(&wanted, 1_000)));
        found.push(("edge-3/node-1".into(), Obstacle::Silent(Some(Micros::from_secs(9)))));
        found.push(("edge-3/node-2".into(), Obstacle::Silent(Some(Micros::from_secs(2)))));
        assert_eq!(
            sentence(&wanted, &found),
            "12 candidates: 7 lack label x=y, 3 have less than 4 cpu free (largest free: 2500m on edge-1/node-2), 2 \
             not heard for 9.0 s; it would fit with cpu: 2500m (on edge-1/node-2), or with one node with label x=y and \
             cpu 4, memory 1Mi free"
        );
    }

    #[test]
    fn sentence_about_two_short_resources_names_both_in_its_remedy() {
        let wanted = Resources::new(MilliCpu(4_000), Bytes(4 << 30));
        let found = [("a/n".to_owned(), short(&wanted, 1_000))];
        let told = sentence(&wanted, &found);
        assert!(told.ends_with("it would fit with cpu: 1 and memory: 1Gi (on a/n)"), "{told}");
    }

    #[test]
    fn sentence_without_nodes_says_so() {
        assert_eq!(sentence(&Resources::default(), &[]), "there is no node");
    }
}
