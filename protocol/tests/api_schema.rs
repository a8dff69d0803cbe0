//! The JSON schemas of what people see: every field described, every name in camel case.
#![allow(clippy::unwrap_used)]

use codeco_protocol::api::{
    ActorView, AppView, CaView, CertView, ClusterView, CodecoApp, DecisionView, ErrorBody, EventView, List,
    NodeView, ReplicaView,
};
use schemars::{Schema, schema_for};
use serde_json::Value;

/// Names of all properties below `value` that break a rule, with the rule.
fn faults(value: &Value, path: &str, faults: &mut Vec<String>) {
    if let Some(properties) = value.get("properties").and_then(Value::as_object) {
        for (name, property) in properties {
            // The one name with a hyphen is the published CRD's.
            if name.contains('_') || name.starts_with(char::is_uppercase) {
                faults.push(format!("{path}.{name}: not camel case"));
            }
            if property.get("description").is_none() {
                faults.push(format!("{path}.{name}: no description"));
            }
        }
    }
    if let Some(object) = value.as_object() {
        object.iter().for_each(|(key, below)| self::faults(below, &format!("{path}/{key}"), faults));
    }
}

#[test]
fn schemas_of_views_and_manifest_describe_every_field_in_camel_case() {
    let schemas: [(&str, Schema); 11] = [
        ("CodecoApp", schema_for!(CodecoApp)),
        ("AppView", schema_for!(List<AppView>)),
        ("ReplicaView", schema_for!(List<ReplicaView>)),
        ("NodeView", schema_for!(List<NodeView>)),
        ("ClusterView", schema_for!(List<ClusterView>)),
        ("EventView", schema_for!(List<EventView>)),
        ("DecisionView", schema_for!(List<DecisionView>)),
        ("ActorView", schema_for!(List<ActorView>)),
        ("CertView", schema_for!(List<CertView>)),
        ("CaView", schema_for!(CaView)),
        ("ErrorBody", schema_for!(ErrorBody)),
    ];
    let mut found = Vec::new();
    for (name, schema) in schemas {
        let value = schema.to_value();
        assert!(value.get("properties").is_some(), "{name} is an object");
        faults(&value, name, &mut found);
    }
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn schema_of_the_manifest_has_the_field_names_of_the_published_resource() {
    let schema = schema_for!(CodecoApp).to_value();
    let text = schema.to_string();
    for name in [
        "appName",
        "qosClass",
        "securityClass",
        "complianceClass",
        "appEnergyLimit",
        "appFailureTolerance",
        "performanceProfile",
        "codecoapp-msspec",
        "serviceName",
        "podspec",
        "serviceChannels",
        "channelName",
        "serviceClass",
        "otherService",
        "advancedChannelSettings",
        "minBandwidth",
        "maxDelay",
        "frameSize",
        "sendInterval",
    ] {
        assert!(text.contains(&format!("\"{name}\":")), "{name}");
    }
    assert!(
        text.contains("\"BestEffort\"")
            && text.contains("\"BESTEFFORT\"")
            && text.contains("\"keepOriginal\"")
    );
}
