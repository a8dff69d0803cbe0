//! Applications that others have published load as they are: made from the CRD itself where it is at hand
//! (`CODECO_DATA`, or `../shared/data` beside the project), and from the same list of fields, written down here.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use codeco_protocol::api::{CodecoApp, load_manifests};
use serde_json::{Map, Value, json};

/// The published data; `None` where there is none.
fn data() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data");
    let folder = std::env::var_os("CODECO_DATA").map_or(beside, PathBuf::from);
    folder.is_dir().then_some(folder)
}

/// Values of one field of the CRD that differ in kind: each is tried.
fn samples(name: &str, schema: &Value) -> Vec<Value> {
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

fn pods() -> Vec<Value> {
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

fn manifest(spec: &Value, status: Option<&Value>) -> String {
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
    serde_yaml_ng::to_string(&manifest).unwrap()
}

fn load(text: &str) -> CodecoApp {
    let mut apps =
        load_manifests("published.yaml", text).unwrap_or_else(|errors| panic!("{errors:#?}\n{text}"));
    let app = apps.remove(0);
    app.resolve(1).unwrap_or_else(|errors| panic!("{errors:#?}\n{text}"));
    app
}

/// Fields of the CRD as published, and those of newer samples and of an earlier type.
fn fields() -> Value {
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

#[test]
fn application_with_every_published_field_is_read_whatever_its_values() {
    let samples = samples("spec", &fields());
    assert!(samples.len() >= 5, "{}", samples.len());
    for spec in samples {
        let app = load(&manifest(&spec, Some(&json!({"status": "OK", "appMetrics": {"numPods": 3}}))));
        for (key, value) in spec["codecoapp-msspec"][0]["podspec"].as_object().unwrap() {
            let kept: Value = serde_json::to_value(&app.spec.services[0].pod_spec).unwrap();
            if key != "containers" {
                assert_eq!(kept[key], *value, "{key} is handed on untouched");
            }
        }
    }
}

#[test]
fn application_with_bandwidth_under_its_newer_name_is_read() {
    let channel =
        json!({"otherService": {"serviceName": "back"}, "advancedChannelSettings": {"bandwidth": "5M"}});
    let pod = &pods()[0];
    let spec = json!({"performanceProfile": "Greenness", "codecoapp-msspec": [
        {"serviceName": "front", "podspec": pod, "serviceChannels": [channel]},
        {"serviceName": "back", "podspec": pod},
    ]});
    let resolved = load(&manifest(&spec, None)).resolve(1).unwrap();
    assert_eq!(
        resolved.channels[0].bandwidth.map(|b| b.0),
        Some(5_000_000),
        "to a service that is listed later"
    );
}

#[test]
fn application_of_the_published_crd_is_read_with_every_field_of_its_schema() {
    let Some(data) = data() else {
        eprintln!(
            "the published CRDs are not here: set CODECO_DATA to a folder with crds/codeco; the same fields, as written \
             down in this file, are tested without it"
        );
        return;
    };
    let path = data.join("crds/codeco/codecoapps.codeco.he-codeco.eu.yaml");
    let crd: Value = serde_yaml_ng::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"];
    let mut ours = fields();
    let properties = ours["properties"].as_object_mut().unwrap();
    for key in schema["spec"]["properties"].as_object().unwrap().keys() {
        assert!(properties.contains_key(key), "{key} is published and not in the list of this file");
    }
    for (status, spec) in
        samples("status", &schema["status"]).iter().zip(samples("spec", &schema["spec"]).iter().cycle())
    {
        load(&manifest(spec, Some(status)));
    }
    for spec in samples("spec", &schema["spec"]) {
        load(&manifest(&spec, None));
    }
}
