//! Reads `spec.placement` and checks it against the services.

use std::collections::BTreeMap;

use super::{Fields, Node, nearest};
use crate::api::classes::Partition;
use crate::api::manifest::AppSpec;
use crate::api::placement::{
    DisruptionBudget, Placement, PlacementRules, REPLICAS_DEFAULT, REPLICAS_PER_APP_MAX,
    REPLICAS_PER_SERVICE_MAX, RESIDENCY_MAX, SELECTOR_LABELS_MAX, Spread,
};
use crate::api::quantity::Quantity;
use crate::units::Micros;

const RULES: [&str; 9] = [
    "replicas",
    "clusterSelector",
    "nodeSelector",
    "residency",
    "spread",
    "partitionPolicy",
    "lostAfter",
    "onReconnect",
    "disruptionBudget",
];

pub(crate) fn read_placement(fields: &Fields<'_>) -> Placement {
    let known: Vec<&str> = ["services", "adoptAfter"].into_iter().chain(RULES).collect();
    fields.only(&known, &[], &[]);
    let mut services = BTreeMap::new();
    if let Some(list) = fields.get("services").and_then(|node| node.object()) {
        for (name, node) in list.each() {
            if let Some(own) = node.object() {
                own.only(&RULES, &[], &[]);
                services.insert(name.clone(), read_rules(&own));
            }
        }
    }
    let adopt_after = fields.filled("adoptAfter").and_then(|node| read_lost_after(&node));
    Placement { all: read_rules(fields), services, adopt_after }
}

fn read_rules(fields: &Fields<'_>) -> PlacementRules {
    let replicas = fields.get("replicas").and_then(|n| n.integer(0, u64::from(REPLICAS_PER_SERVICE_MAX)));
    PlacementRules {
        replicas: replicas.and_then(|n| u32::try_from(n).ok()),
        cluster_selector: read_selector(fields, "clusterSelector"),
        node_selector: read_selector(fields, "nodeSelector"),
        residency: fields.get("residency").map(|node| read_residency(&node)),
        spread: fields.get("spread").and_then(|node| read_spread(&node)),
        partition_policy: fields.choice("partitionPolicy"),
        lost_after: fields.filled("lostAfter").and_then(|node| read_lost_after(&node)),
        on_reconnect: fields.choice("onReconnect"),
        disruption_budget: fields.get("disruptionBudget").and_then(|node| read_budget(&node)),
    }
}

pub(super) fn read_selector(fields: &Fields<'_>, key: &str) -> Option<BTreeMap<String, String>> {
    let labels = fields.texts(key)?;
    if labels.len() > SELECTOR_LABELS_MAX {
        let report = fields.node.report;
        let found = format!("{} labels", labels.len());
        report.add(&fields.node.path.key(key), found, format!("at most {SELECTOR_LABELS_MAX}"), None);
    }
    Some(labels)
}

fn read_residency(node: &Node<'_>) -> Vec<String> {
    let list = node.list(RESIDENCY_MAX);
    if list.is_empty() && node.value.is_array() {
        node.report.add(&node.path, "an empty list", "at least one region", None);
    }
    list.iter()
        .filter_map(|item| {
            let region = item.text()?;
            let right = (1..=63).contains(&region.len());
            if !right {
                item.expected("the name of a region, 1 to 63 characters");
            }
            right.then_some(region)
        })
        .collect()
}

fn read_spread(node: &Node<'_>) -> Option<Spread> {
    let fields = node.object()?;
    fields.only(&["maxPerNode", "maxPerCluster", "maxPerZone"], &[], &[]);
    let most = |key| {
        let number = fields.get(key).and_then(|n| n.integer(1, u64::from(REPLICAS_PER_SERVICE_MAX)));
        number.and_then(|n| u32::try_from(n).ok())
    };
    Some(Spread {
        max_per_node: most("maxPerNode"),
        max_per_cluster: most("maxPerCluster"),
        max_per_zone: most("maxPerZone"),
    })
}

fn read_budget(node: &Node<'_>) -> Option<DisruptionBudget> {
    let fields = node.object()?;
    fields.only(&["maxUnavailable"], &[], &[]);
    let most = fields.get("maxUnavailable").and_then(|n| n.integer(0, u64::from(REPLICAS_PER_SERVICE_MAX)));
    Some(DisruptionBudget { max_unavailable: most.and_then(|n| u32::try_from(n).ok()) })
}

/// Zero would let a second copy start, or a home be replaced, at the first missed word.
fn read_lost_after(node: &Node<'_>) -> Option<String> {
    let text = node.quantity::<Micros>()?;
    let positive = Micros::parse_quantity(&text).is_ok_and(|span| span > Micros::ZERO);
    if !positive {
        node.expected("a span of time above zero");
    }
    positive.then_some(text)
}

/// Rules for services that do not exist, and too many replicas in all.
pub(super) fn check_placement(fields: &Fields<'_>, spec: &AppSpec) {
    let Some(placement) = &spec.placement else { return };
    let path = fields.node.path.key("placement");
    let report = fields.node.report;
    let names: Vec<&str> = spec.services.iter().map(|s| s.service_name.as_str()).take(64).collect();
    for name in placement.services.keys().filter(|name| !names.contains(&name.as_str())) {
        let hint = nearest(name, &names).map(|n| format!("did you mean {n:?}?"));
        let first: Vec<&str> = names.iter().copied().take(8).collect();
        let expected = format!("a service of this application: {}", first.join(", "));
        report.add(&path.key("services").key(name), "an unknown service", expected, hint);
    }
    let replicas: u32 =
        names.iter().map(|name| placement.rules_for(name).replicas.unwrap_or(REPLICAS_DEFAULT)).sum();
    if replicas > REPLICAS_PER_APP_MAX {
        let found = format!("{replicas} replicas in all");
        report.add(&path, found, format!("at most {REPLICAS_PER_APP_MAX} in one application"), None);
    }
    for service in &spec.services {
        let rules = placement.rules_for(&service.service_name);
        let fenced = rules.partition_policy.unwrap_or_else(|| service.pod_spec.partition_default());
        if fenced == Partition::Fence && placement.max_unavailable(&service.service_name) == 0 {
            let expected = format!(
                "1 or more: {} runs under partitionPolicy fence, so a copy stops before the next one starts",
                service.service_name
            );
            report.add(&path.key("disruptionBudget").key("maxUnavailable"), "0", expected, None);
        }
        for (label, wanted) in rules.node_selector.iter().flatten() {
            if let Some(other) = service.pod_spec.node_selector.get(label).filter(|other| *other != wanted) {
                let expected =
                    format!("{other:?} as in the pod spec of {}: no node has both", service.service_name);
                report.add(&path.key("nodeSelector").key(label), format!("{wanted:?}"), expected, None);
            }
        }
    }
}
