//! Applications as others publish them, made from a schema: every value of every field occurs in one of them.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

/// The published data; `None` where there is none.
pub(crate) fn data() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data");
    let folder = std::env::var_os("CODECO_DATA").map_or(beside, PathBuf::from);
    folder.is_dir().then_some(folder)
}

/// Values of one field of the CRD that differ in kind: each is tried.
pub(crate) fn samples(name: &str, schema: &Value) -> Vec<Value> {
    if name == "podspec" {
        return pods();
    }
    if name == "otherService" {
        // A channel leads to another service than its own, here one of another application.
        let receiver = |(key, field): (&String, &Value)| {
            let value = if key == "serviceName" { json!("back") } else { samples(key, field)[0].clone() };
            (key.clone(), if key == "appName" { json!("other-app") } else { value })
        };
        let fields = schema["properties"].as_object().into_iter().flatten();
        return vec![Value::Object(fields.map(receiver).collect())];
    }
    match (schema["type"].as_str(), &schema["enum"]) {
        (_, Value::Array(list)) => list.clone(),
        (Some("object"), _) => {
            let mut all = vec![Map::new()];
            for (key, field) in schema["properties"].as_object().into_iter().flatten() {
                let values = samples(key, field);
                // Every value of every field once, not every combination.
                let most = all.len().max(values.len());
                all = (0..most)
                    .map(|i| {
                        let mut object = all[i % all.len()].clone();
                        object.insert(key.clone(), values[i % values.len()].clone());
                        object
                    })
                    .collect();
            }
            all.into_iter().map(Value::Object).collect()
        }
        (Some("array"), _) => samples(name, &schema["items"]).into_iter().map(|one| json!([one])).collect(),
        (Some("integer"), _) => vec![json!(8080)],
        _ => texts(name),
    }
}

/// What is found in the wild for a field that is any text by the CRD.
fn texts(name: &str) -> Vec<Value> {
    let list: &[&str] = match name {
        "complianceClass" | "appFailureTolerance" => &["High", "Medium", "Low", ""],
        "serviceClass" => &["ASSURED", "BESTEFFORT", ""],
        "appEnergyLimit" => &["50", "0", "100", ""],
        "minBandwidth" | "bandwidth" => &["5M", "100k", "1G", ""],
        "maxDelay" => &["10s", "1ns", "1", "10e-3", ""],
        "sendInterval" => &["10e-3", "1", ""],
        "frameSize" => &["500", "1k", ""],
        "performanceProfile" => &["Greenness", "Resilience", ""],
        "serviceName" => &["front"],
        "appName" => &["shop"],
        "channelName" => &["frames", ""],
        _ => &["anything", ""],
    };
    list.iter().map(|text| json!(text)).collect()
}

pub(crate) fn pods() -> Vec<Value> {
    vec![
        json!({"containers": [{"name": "c", "image": "quay.io/x/y:1"}], "schedulerName": "qos-scheduler"}),
        json!({
            "containers": [{
                "name": "c", "image": "i", "resources": {},
                "ports": [{"containerPort": 80, "protocol": "TCP"}],
                "livenessProbe": {"httpGet": {"path": "/", "port": 80}},
                "securityContext": {"privileged": true},
                "imagePullPolicy": "Always"
            }],
            "tolerations": [{"key": "a", "operator": "Exists"}],
            "hostNetwork": true,
            "affinity": {"nodeAffinity": {}},
            "imagePullSecrets": [{"name": "s"}]
        }),
    ]
}

pub(crate) fn manifest(spec: &Value, status: Option<&Value>) -> Value {
    let mut manifest = json!({
        "apiVersion": "codeco.he-codeco.eu/v1alpha1",
        "kind": "CodecoApp",
        "metadata": {
            "name": "shop", "namespace": "he-codeco-acm", "uid": "1", "resourceVersion": "7", "generation": 3,
            "creationTimestamp": "2025-01-01T00:00:00Z", "managedFields": [], "finalizers": [],
            "labels": {"app.kubernetes.io/name": "codecoapp"}
        },
        "spec": spec
    });
    if let Some(status) = status {
        manifest["status"] = status.clone();
    }
    manifest
}

/// Fields of the CRD as published, and those of newer samples and of an earlier type.
pub(crate) fn fields() -> Value {
    let text = json!({"type": "string"});
    json!({"type": "object", "properties": {
        "appName": text,
        "qosClass": {"enum": ["Gold", "Silver", "BestEffort", ""]},
        "securityClass": {"enum": ["High", "Good", "Medium", "Low", "None", ""]},
        "complianceClass": text, "appEnergyLimit": text, "appFailureTolerance": text, "performanceProfile": text,
        "codecoapp-msspec": {"type": "array", "items": {"type": "object", "properties": {
            "serviceName": text, "podspec": {}, "nwbandwidth": text, "nwlatency": text,
            "serviceChannels": {"type": "array", "items": {"type": "object", "properties": {
                "channelName": text, "serviceClass": text,
                "otherService": {"type": "object", "properties": {
                    "appName": text, "serviceName": text, "port": {"type": "integer"}}},
                "advancedChannelSettings": {"type": "object", "properties": {
                    "minBandwidth": text, "maxDelay": text, "frameSize": text, "sendInterval": text}}
            }}}
        }}}
    }})
}
