//! The intents of a manifest: as placement gets them, as people are told they hold, and those that have no effect yet.
//!
//! Whoever applies an intent without effect is told, because an intent silently dropped is worse than one refused.

use std::fmt::Display;

use codeco_protocol::api::{
    CodecoApp, ComplianceClass, FailureTolerance, IntentView, QosClass, ResolvedApp, ResolvedService,
    SecurityClass, Spread,
};
use codeco_protocol::demands::{Apart, Demands, Level, Priority, SpreadLimits};
use codeco_protocol::workload::PartitionPolicy;

/// What an application demands of all its places.
pub(super) fn demands_of(resolved: &ResolvedApp) -> Demands {
    Demands {
        priority: match resolved.qos {
            QosClass::Gold => Priority::Gold,
            QosClass::Silver => Priority::Silver,
            QosClass::BestEffort => Priority::BestEffort,
        },
        security: match resolved.security {
            SecurityClass::High => Level::High,
            SecurityClass::Good => Level::Good,
            SecurityClass::Medium => Level::Medium,
            SecurityClass::Low => Level::Low,
            SecurityClass::None => Level::None,
        },
        compliance: match resolved.compliance {
            ComplianceClass::High => Level::High,
            ComplianceClass::Medium => Level::Medium,
            ComplianceClass::Low => Level::Low,
        },
        apart: match resolved.failure_tolerance {
            FailureTolerance::High => Apart::Clusters,
            FailureTolerance::Medium => Apart::Nodes,
            FailureTolerance::Low => Apart::Profile,
        },
        energy_limit_percent: resolved.energy_limit_percent,
        copies: resolved.services.iter().map(|s| (s.name.clone(), s.replicas)).collect(),
        adopt_after: resolved.adopt_after,
    }
}

pub(super) fn limits_of(spread: Spread) -> SpreadLimits {
    SpreadLimits {
        per_node: spread.max_per_node,
        per_cluster: spread.max_per_cluster,
        per_zone: spread.max_per_zone,
    }
}

/// Every intent as it holds, defaults filled in, from the manifest a home keeps. Empty if that cannot be read.
pub(super) fn effective(manifest_json: &str) -> Vec<IntentView> {
    let app: Option<CodecoApp> = serde_json::from_str(manifest_json).ok();
    let Some(resolved) = app.and_then(|app| app.resolve(1).ok()) else { return Vec::new() };
    let mut intents = of_app(&resolved);
    for service in &resolved.services {
        intents.extend(of_service(service));
    }
    intents
}

fn view(field: impl Into<String>, value: &dyn Display, effect: impl Into<String>) -> IntentView {
    IntentView { field: field.into(), value: value.to_string(), effect: effect.into() }
}

fn of_app(resolved: &ResolvedApp) -> Vec<IntentView> {
    let demands = demands_of(resolved);
    let levels = |level: Level| {
        if level > Level::Low {
            format!("only nodes that declare {level} or more")
        } else {
            "demands nothing of nodes".to_owned()
        }
    };
    vec![
        view(
            "qosClass",
            &resolved.qos,
            "order in which copies are placed where there is not room for all; nothing that runs is stopped for it",
        ),
        view("securityClass", &resolved.security, levels(demands.security)),
        view("complianceClass", &resolved.compliance, levels(demands.compliance)),
        view(
            "appFailureTolerance",
            &resolved.failure_tolerance,
            match demands.apart {
                Apart::Profile => "copies are kept apart as the profile weighs it",
                Apart::Nodes => "keeping copies apart among nodes outweighs everything else",
                Apart::Clusters => "keeping copies apart among clusters and nodes outweighs everything else",
            },
        ),
        match resolved.energy_limit_percent {
            Some(percent) => view(
                "appEnergyLimit",
                &format_args!("{percent} %"),
                "of the fleet's power at full load, split over the copies by the processor they ask for",
            ),
            None => view("appEnergyLimit", &"unset", "no limit"),
        },
        match resolved.adopt_after {
            Some(after) => view(
                "placement.adoptAfter",
                &after,
                if resolved.services.iter().any(|s| s.workload.partition == PartitionPolicy::Fence) {
                    "none: a service is fenced, so nobody else may speak for it"
                } else {
                    "silence of its home after which a member that keeps a copy becomes its home"
                },
            ),
            None => view("placement.adoptAfter", &"unset", "it cannot be changed while its home is away"),
        },
        view("performanceProfile", &resolved.profile, "weights of the parts of a score"),
    ]
}

fn of_service(service: &ResolvedService) -> Vec<IntentView> {
    let name = |field: &str| format!("placement.services.{}.{field}", service.name);
    let mut intents = Vec::new();
    let selectors =
        [("clusterSelector", &service.cluster_selector), ("nodeSelector", &service.node_selector)];
    for (field, labels) in selectors {
        if !labels.is_empty() {
            let pairs: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
            intents.push(view(name(field), &pairs.join(","), "only places with these labels"));
        }
    }
    if !service.regions.is_empty() {
        intents.push(view(name("residency"), &service.regions.join(","), "only places in these regions"));
    }
    let limits = [
        ("maxPerNode", service.spread.max_per_node),
        ("maxPerCluster", service.spread.max_per_cluster),
        ("maxPerZone", service.spread.max_per_zone),
    ];
    for (field, most) in limits {
        if let Some(most) = most {
            intents.push(view(
                name(&format!("spread.{field}")),
                &most,
                "no place gets more copies than that",
            ));
        }
    }
    intents
}

/// One sentence for each intent of `app` that nothing acts on yet.
pub(super) fn without_effect(_: &CodecoApp, resolved: &ResolvedApp) -> Vec<String> {
    let mut warnings = Vec::new();
    if let Some(channel) = resolved.channels.iter().find(|channel| channel.to_app.is_some()) {
        warnings.push(format!(
            "channel {} leads to another application: it counts for nothing in placement yet",
            channel.name
        ));
    }
    warnings
}

#[cfg(test)]
mod tests {
    use codeco_protocol::api::load_manifests;

    use super::*;

    const MANIFEST: &str = "apiVersion: codeco.he-codeco.eu/v1alpha1\nkind: CodecoApp\nmetadata: {name: a}\nspec:\n  \
                            qosClass: Gold\n  appEnergyLimit: 50\n  codecoapp-msspec:\n  - serviceName: web\n    podspec:\n      \
                            containers:\n      - {name: c, image: i}\n    serviceChannels:\n    - otherService: \
                            {appName: other, serviceName: x}\n  placement: {lostAfter: 10s, replicas: 2, residency: \
                            [eu], spread: {maxPerNode: 1}}\n";

    #[test]
    fn intents_without_effect_are_named_and_others_are_not() {
        let apps = load_manifests("a.yaml", MANIFEST).unwrap();
        let warnings = without_effect(&apps[0], &apps[0].resolve(1).unwrap());
        assert_eq!(
            warnings,
            ["channel web-x leads to another application: it counts for nothing in placement yet"]
        );
    }

    #[test]
    fn intents_as_they_hold_name_defaults_and_rules_of_services() {
        let app = load_manifests("a.yaml", MANIFEST).unwrap().remove(0);
        let told = effective(&serde_json::to_string(&app).unwrap());
        let value = |field: &str| told.iter().find(|i| i.field == field).map(|i| i.value.as_str());
        assert_eq!(value("qosClass"), Some("Gold"));
        assert_eq!(value("securityClass"), Some("None"), "a default");
        assert_eq!(value("appFailureTolerance"), Some("Low"), "a default");
        assert_eq!(value("appEnergyLimit"), Some("50 %"));
        assert_eq!(value("placement.services.web.residency"), Some("eu"));
        assert_eq!(value("placement.services.web.spread.maxPerNode"), Some("1"));
        assert_eq!(effective("nonsense"), []);
    }
}
