//! Applications that others have published load as they are: made from the CRD itself where it is at hand
//! (`CODECO_DATA`, or `../shared/data` beside the project), and from the same list of fields, written down here.
#![allow(clippy::unwrap_used)]

mod samples;

use codeco_protocol::api::{CodecoApp, load_manifests};
use samples::{data, fields, manifest, pods, samples};
use serde_json::{Value, json};

fn as_text(manifest: &Value) -> String {
    serde_yaml_ng::to_string(manifest).unwrap()
}

fn load(text: &str) -> CodecoApp {
    let mut apps =
        load_manifests("published.yaml", text).unwrap_or_else(|errors| panic!("{errors:#?}\n{text}"));
    let app = apps.remove(0);
    app.resolve(1).unwrap_or_else(|errors| panic!("{errors:#?}\n{text}"));
    app
}

#[test]
fn application_with_every_published_field_is_read_whatever_its_values() {
    let samples = samples("spec", &fields());
    assert!(samples.len() >= 5, "{}", samples.len());
    for spec in samples {
        let app =
            load(&as_text(&manifest(&spec, Some(&json!({"status": "OK", "appMetrics": {"numPods": 3}})))));
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
    let resolved = load(&as_text(&manifest(&spec, None))).resolve(1).unwrap();
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
        load(&as_text(&manifest(spec, Some(status))));
    }
    for spec in samples("spec", &schema["spec"]) {
        load(&as_text(&manifest(&spec, None)));
    }
}
