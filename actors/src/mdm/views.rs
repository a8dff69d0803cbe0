//! Facts as people read and select them.

use codeco_protocol::api::{FactSource, FactView, NodeView, Selector};
use codeco_protocol::gossip::{HOST_ITEMS_MAX, View};
use codeco_protocol::units::BootTime;

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
    if let Some((idle, full)) = view.member().and_then(|member| member.node.as_ref()?.power) {
        add("power-idle", format!("{} W", idle.as_f64() / 1_000.0), FactSource::Declared, heartbeat);
        add("power-full", format!("{} W", full.as_f64() / 1_000.0), FactSource::Declared, heartbeat);
    }
    facts
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
