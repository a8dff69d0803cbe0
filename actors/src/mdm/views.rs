//! Facts as people read and select them.

use codeco_protocol::api::{FactSource, FactView, NodeView, Selector};
use codeco_protocol::demands::Level;
use codeco_protocol::gossip::{HOST_ITEMS_MAX, View};
use codeco_protocol::messages::NodeFacts;
use codeco_protocol::units::{BootTime, MilliWatts};

/// All facts of a node, with where each comes from and how old it may be.
#[must_use]
pub fn fact_views(view: &View, now: BootTime) -> Vec<FactView> {
    let heartbeat = view.age(now).0 / 1_000;
    let mut facts = Vec::new();
    let mut add = |name: &str, value: String, source, age_ms| {
        facts.push(FactView { name: name.to_owned(), value, source, age_ms });
    };
    if let Some(host) = view.host() {
        let looked = heartbeat.saturating_add(u64::from(host.every_seconds) * 1_000);
        for (name, value) in host.found.iter().take(HOST_ITEMS_MAX) {
            add(name, value.clone(), FactSource::Discovered, looked);
        }
        let images = host.images.as_ref();
        let text = images.map_or("none kept by this runtime".to_owned(), |images| {
            images.iter().take(HOST_ITEMS_MAX).cloned().collect::<Vec<_>>().join(", ")
        });
        add("images", text, FactSource::Discovered, looked);
        for (name, value) in host.data_sources.iter().take(HOST_ITEMS_MAX) {
            add(&format!("data-source/{name}"), value.clone(), FactSource::Declared, heartbeat);
        }
    }
    if let Some(node) = view.member().and_then(|member| member.node.as_ref()) {
        for (name, value) in declared(node) {
            add(name, value, FactSource::Declared, heartbeat);
        }
    }
    facts
}

/// What people have declared of a node. What nobody has declared is not there: unknown is not none.
fn declared(node: &NodeFacts) -> Vec<(&'static str, String)> {
    let watts = |power: MilliWatts| format!("{} W", power.as_f64() / 1_000.0);
    let level = |level: Option<Level>| level.map(|level| level.word().to_owned());
    let traits = &node.traits;
    let all = [
        ("compliance", level(traits.compliance)),
        ("cost", traits.cost.map(|cost| format!("{} a core and hour", Thousandths(cost)))),
        ("link", traits.link.map(|link| link.to_string())),
        ("portability", level(traits.portability)),
        ("power-full", node.power.map(|(_, full)| watts(full))),
        ("power-idle", node.power.map(|(idle, _)| watts(idle))),
        ("security", level(traits.security)),
    ];
    all.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

/// Thousandths of a unit, written as a decimal number.
struct Thousandths(u64);

impl std::fmt::Display for Thousandths {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{:03}", self.0 / 1_000, self.0 % 1_000)
    }
}

/// Whether a node is selected: by a label, or by a fact as `fact/NAME`; data sources by their own name,
/// `data-source/NAME`.
#[must_use]
pub fn selected(node: &NodeView, selector: &Selector) -> bool {
    selector.matches(|key| {
        node.labels.get(key).map(String::as_str).or_else(|| {
            let name =
                key.strip_prefix("fact/").or_else(|| key.starts_with("data-source/").then_some(key))?;
            node.facts.iter().find(|fact| fact.name == name).map(|fact| fact.value.as_str())
        })
    })
}

#[cfg(test)]
mod tests {
    use codeco_protocol::demands::NodeTraits;
    use codeco_protocol::gossip::{Fact, HostFact, OwnState, Views};
    use codeco_protocol::ids::{ClusterName, Identity, MemberId, Role};

    use super::*;

    fn view(host: HostFact) -> View {
        let owner = Identity { role: Role::Node(ClusterName::new("c").unwrap()), id: MemberId(1) };
        let (mut own, mut views) = (OwnState::new(1), Views::default());
        own.set("host", Fact::Host(Box::new(host)));
        views.apply(BootTime(0), &owner, own.delta(0)).unwrap();
        views.get(MemberId(1)).unwrap().clone()
    }

    #[test]
    fn facts_are_as_old_as_their_owners_heartbeat_and_one_look_more() {
        let host = HostFact {
            found: vec![("os".into(), "Debian".into())],
            data_sources: vec![("camera".into(), "rtsp://c".into())],
            images: None,
            every_seconds: 30,
        };
        let facts = fact_views(&view(host), BootTime(2_000_000));
        let age = |name: &str| facts.iter().find(|fact| fact.name == name).map(|fact| fact.age_ms);
        assert_eq!(age("os"), Some(32_000));
        assert_eq!(age("data-source/camera"), Some(2_000), "what is declared needs no look");
        let images = facts.iter().find(|fact| fact.name == "images").unwrap();
        assert_eq!(images.value, "none kept by this runtime");
    }

    #[test]
    fn facts_of_one_that_says_too_much_are_bounded() {
        let many = |n: usize| (0..n).map(|at| (format!("k{at}"), "v".to_owned())).collect::<Vec<_>>();
        let host = HostFact {
            found: many(10_000),
            data_sources: many(10_000),
            images: Some(vec!["i".into(); 10_000]),
            every_seconds: u32::MAX,
        };
        let facts = fact_views(&view(host), BootTime(1));
        assert_eq!(facts.len(), 2 * HOST_ITEMS_MAX + 1);
        assert!(facts.iter().all(|fact| fact.value.len() < 1_000));
    }

    #[test]
    fn levels_are_told_as_declared_and_not_at_all_where_nobody_has() {
        let node = NodeFacts {
            name: codeco_protocol::ids::NodeName::new("n").unwrap(),
            incarnation: codeco_protocol::ids::Incarnation(1),
            capacity: Default::default(),
            free: Default::default(),
            labels: vec![],
            power: Some((MilliWatts(30_000), MilliWatts(120_500))),
            cordoned: false,
            round_trips: vec![],
            draining: false,
            coordinate: None,
            traits: NodeTraits { security: Some(Level::Good), cost: Some(50), ..NodeTraits::default() },
        };
        let told: Vec<String> =
            declared(&node).iter().map(|(name, value)| format!("{name}={value}")).collect();
        let expected =
            ["cost=0.050 a core and hour", "power-full=120.5 W", "power-idle=30 W", "security=Good"];
        assert_eq!(told, expected);
    }
}
