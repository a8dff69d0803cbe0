//! Manifests as files: the examples load, broken ones are told apart exactly, and no text makes the reader panic.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

use codeco_protocol::api::{CodecoApp, PodSpec, Profile, load_manifests};
use codeco_protocol::resources::Resources;
use codeco_protocol::units::{BitsPerSecond, Bytes, Micros, MilliCpu};
use codeco_protocol::workload::PartitionPolicy;

fn folder(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn example(name: &str) -> String {
    fs::read_to_string(folder("../deploy/examples").join(name)).unwrap()
}

fn load_one(text: &str) -> CodecoApp {
    let mut apps = load_manifests("test.yaml", text).unwrap_or_else(|errors| panic!("{errors:#?}"));
    assert_eq!(apps.len(), 1);
    apps.remove(0)
}

fn errors_of(text: &str) -> Vec<String> {
    let errors = load_manifests("test.yaml", text).expect_err(text);
    errors.iter().map(ToString::to_string).collect()
}

/// An application with one service whose pod spec is `pod`, indented by four.
fn app_with(pod: &str) -> String {
    let head = "apiVersion: codeco.he-codeco.eu/v1alpha1\nkind: CodecoApp\nmetadata: {name: a}\nspec:\n  \
                codecoapp-msspec:\n  - serviceName: s\n    podspec: ";
    format!("{head}{pod}\n")
}

#[test]
fn twenty_broken_manifests_each_tell_file_field_found_and_expected() {
    let mut names: Vec<PathBuf> = fs::read_dir(folder("tests/broken"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "yaml" || end == "json"))
        .collect();
    names.sort();
    assert!(names.len() >= 20, "{} broken manifests", names.len());
    let mut wrong = Vec::new();
    for path in &names {
        let name = path.file_name().unwrap().to_str().unwrap();
        let errors = load_manifests(name, &fs::read_to_string(path).unwrap()).expect_err(name);
        let told: String = errors.iter().map(|error| format!("{error}\n")).collect();
        let expected = fs::read_to_string(path.with_extension("expected")).unwrap_or_default();
        if told != expected {
            wrong.push(format!("--- {name}: expected\n{expected}+++ told\n{told}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn examples_loaded_resolve_to_their_units() {
    for (name, replicas) in [("media-streaming.yaml", 6), ("media-streaming-process.yaml", 5)] {
        let app = load_manifests(name, &example(name)).unwrap_or_else(|e| panic!("{e:#?}")).remove(0);
        let resolved = app.resolve(7).unwrap();
        assert_eq!(resolved.replicas(), replicas, "{name}");
        assert_eq!(resolved.profile, Profile::Latency);
        assert_eq!(resolved.channels.len(), 3);
        let renditions = resolved.channels.iter().find(|c| c.name == "renditions").unwrap();
        assert_eq!(renditions.bandwidth, Some(BitsPerSecond(12_000_000)));
        assert_eq!(renditions.delay_max, Some(Micros(40_000)));
        assert!(renditions.assured);
        let source = resolved.channels.iter().find(|c| c.name == "source").unwrap();
        assert_eq!(
            (source.to_app.clone(), source.to.as_str()),
            (None, "transcoder"),
            "its own appName is itself"
        );
        let policies: Vec<_> = resolved.services.iter().map(|s| s.workload.partition).collect();
        use PartitionPolicy::{Autonomous, Fence};
        assert_eq!(policies, [Fence, Autonomous, Autonomous], "{name}");
        for service in &resolved.services {
            assert_eq!(service.workload.generation, 7);
            let env = &service.workload.containers[0].env;
            assert!(env.contains(&("CODECO_APP".to_owned(), "media-streaming".to_owned())));
            assert!(env.contains(&("CODECO_SERVICE".to_owned(), service.name.to_string())));
            assert!(env.contains(&("CODECO_NAMESPACE".to_owned(), "default".to_owned())));
        }
    }
}

#[test]
fn example_for_processes_needs_no_cluster_and_no_image() {
    for service in load_one(&example("media-streaming-process.yaml")).spec.services {
        assert_eq!(service.pod_spec.needs_cluster(), Vec::<String>::new());
        assert_eq!(service.pod_spec.containers[0].command, ["sh", "-c"]);
    }
    let app = load_one(&app_with(
        "{containers: [{name: c, image: i, env: [{name: A, valueFrom: {secretKeyRef: {name: s, key: k}}}]}]}",
    ));
    assert_eq!(app.spec.services[0].pod_spec.needs_cluster(), ["containers[0].env[0].valueFrom"]);
}

#[test]
fn manifest_written_and_read_again_is_the_same() {
    let quirks = fs::read_to_string(folder("tests/manifests/quirks.yaml")).unwrap();
    for text in [example("media-streaming.yaml"), example("media-streaming-process.yaml"), quirks] {
        let app = load_one(&text);
        let json = serde_json::to_string_pretty(&app).unwrap();
        assert_eq!(load_one(&json), app, "through JSON");
        assert_eq!(load_one(&serde_yaml_ng::to_string(&app).unwrap()), app, "through YAML");
        assert_eq!(serde_json::from_str::<CodecoApp>(&json).unwrap(), app, "through serde");
        assert_eq!(load_one(&json).resolve(1), app.resolve(1));
    }
}

#[test]
fn manifest_with_the_quirks_of_the_wild_is_read() {
    let app = load_one(&fs::read_to_string(folder("tests/manifests/quirks.yaml")).unwrap());
    let resolved = app.resolve(1).unwrap();
    assert_eq!(resolved.energy_limit_percent, Some(50));
    assert_eq!(app.spec.qos_class, None, "an empty text is an unset class");
    let delays: Vec<_> = resolved.channels.iter().map(|c| c.delay_max.unwrap().0).collect();
    assert_eq!(delays, [10_000_000, 1, 1_000_000, 10_000]);
    assert_eq!(resolved.channels[1].bandwidth, Some(BitsPerSecond(400_000)), "500 bytes each 10 ms");
    let names: Vec<_> = resolved.channels.iter().map(|c| c.name.as_str()).collect();
    assert_eq!(names, ["front-back", "up", "back-front", "back-up"], "one name each");
    assert_eq!(resolved.channels[3].to_app.as_ref().unwrap().as_str(), "other-app");
    assert_eq!(resolved.services[0].workload.resources, Resources::new(MilliCpu(100), Bytes(64 << 20)));
    let mut back = Resources::new(MilliCpu(1_500), Bytes(1_000_000));
    back.extended.insert("nvidia.com/gpu".to_owned(), 1);
    assert_eq!(resolved.services[1].workload.resources, back, "limits stand in for requests");
    assert_eq!(resolved.services[1].workload.partition, PartitionPolicy::Fence, "a claim is state");
    let pod: PodSpec = serde_json::from_str(&resolved.services[1].workload.pod_spec_json).unwrap();
    assert_eq!(pod.scheduler_name.as_deref(), Some("qos-scheduler"));
    assert_eq!(pod.other["tolerations"][0]["key"], "edge", "what is not read is kept");
    assert_eq!(pod.containers[0].other["readinessProbe"]["httpGet"]["port"], 80);
}

#[test]
fn problems_of_one_document_are_told_together_and_with_their_lines() {
    let text = "# first\n---\napiVersion: codeco.he-codeco.eu/v1alpha1\nkind: CodecoApp\nmetadata:\n  name: UPPER\n\
                spec:\n  qosClass: gold\n  codecoapp-msspec:\n  - serviceName: s\n    podspec:\n      containers:\n\
                \x20     - image: i\n---\nkind: [\n";
    let errors = load_manifests("f.yaml", text).unwrap_err();
    let told: Vec<_> = errors.iter().map(|e| (e.document, e.line, e.field.as_str())).collect();
    assert_eq!(
        told,
        [
            (1, Some(6), "metadata.name"),
            (1, Some(8), "spec.qosClass"),
            (1, Some(13), "spec.codecoapp-msspec[0].podspec.containers[0].name"),
            (2, Some(16), ""),
        ]
    );
}

#[test]
fn anchors_and_merge_keys_are_read_as_kubectl_does() {
    let app = load_one(&app_with(
        "\n      x-base: &base {image: i, command: [a]}\n      containers:\n      - <<: *base\n        name: c\n        \
         command: [b]",
    ));
    let container = &app.spec.services[0].pod_spec.containers[0];
    assert_eq!(
        (container.image.as_deref(), container.command.as_slice()),
        (Some("i"), &["b".to_owned()][..])
    );
}

#[test]
fn alias_bombs_and_deep_nesting_are_refused_before_they_grow() {
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for i in 1..12 {
        let list = vec![format!("*a{}", i - 1); 10].join(", ");
        bomb.push_str(&format!("a{i}: &a{i} [{list}]\n"));
    }
    assert!(errors_of(&bomb)[0].contains("found more than 50000 values once aliases are written out"));
    let long = format!("a: &a {}\nb: [{}]\n", "x".repeat(100_000), vec!["*a"; 1_000].join(", "));
    assert!(errors_of(&long)[0].contains("KiB of text once aliases are written out"));
    for deep in
        [format!("a: {}{}", "[".repeat(9_000), "]".repeat(9_000)), "[".repeat(200_000), "{a: ".repeat(60)]
    {
        assert_eq!(errors_of(&deep).len(), 1);
    }
    let nested: String = (0..100).map(|i| format!("{}a:\n", " ".repeat(i))).collect();
    assert!(errors_of(&nested)[0].contains("nesting deeper than 48"), "{:?}", errors_of(&nested));
    let json = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(load_manifests("a.json", &json).unwrap_err().len(), 1);
    assert!(errors_of(&"# x\n".repeat(2_000_000))[0].contains("at most 4 MiB"));
    assert!(errors_of(&format!("a: {}", "x".repeat(300_000)))[0].contains("at most 256 KiB"));
    assert!(errors_of(&"a: 1\n---\n".repeat(65))[0].contains("65 documents"));
}

#[test]
fn bounds_of_an_application_are_kept() {
    let services: Vec<String> = (0..65)
        .map(|i| format!("{{serviceName: s{i}, podspec: {{containers: [{{name: c, image: i}}]}}}}"))
        .collect();
    let app = |services: &[String], placement: &str| {
        format!(
            "apiVersion: codeco.he-codeco.eu/v1alpha1\nkind: CodecoApp\nmetadata: {{name: a}}\nspec:\n  \
             codecoapp-msspec: [{}]\n  placement: {placement}\n",
            services.join(", ")
        )
    };
    assert!(errors_of(&app(&services, "{}"))[0].contains("found 65 elements, expected at most 64"));
    assert!(errors_of(&app(&services[..4], "{replicas: 256}"))[0].contains("1024 replicas in all"));
    assert!(
        errors_of(&app(&services[..1], "{replicas: 257}"))[0].contains("found 257, expected a whole number")
    );
    assert_eq!(load_one(&app(&services[..3], "{replicas: 256}")).resolve(1).unwrap().replicas(), 768);
}

#[test]
fn application_put_together_by_a_program_is_checked_like_a_file() {
    let mut app = load_one(&example("media-streaming.yaml"));
    app.spec.services[1].pod_spec.containers[0].resources.requests.insert("cpu".into(), "lots".into());
    let errors = app.resolve(1).unwrap_err();
    assert_eq!(
        errors[0].to_string(),
        "default/media-streaming: spec.codecoapp-msspec[1].podspec.containers[0].resources.requests.cpu: \
         found \"lots\", expected a quantity such as 500m or 2"
    );
}

/// Deterministic: the same seed mutates the same way on every machine.
#[test]
fn example_mutated_two_thousand_times_never_panics() {
    let good = example("media-streaming.yaml");
    let words = [
        "---\n", "\t", "- ", ": ", "{", "}", "[", "]", "*a ", "&a ", "<<: ", "-1", "1e999", "\"", "'",
        "\u{0}", "é", "|\n", "!!x ", "null", "256Ei", "...",
    ];
    let mut random = fastrand::Rng::with_seed(2);
    let (mut refused, mut accepted) = (0, 0);
    for round in 0..2_000 {
        let mut text: Vec<char> = good.chars().collect();
        for _ in 0..random.usize(1..4) {
            let at = random.usize(..text.len());
            let end = (at + random.usize(..20)).min(text.len());
            match random.u8(..4) {
                0 => drop(text.drain(at..end)),
                1 => drop(text.splice(at..at, words[random.usize(..words.len())].chars())),
                2 => text.swap(at, end.saturating_sub(1)),
                _ => {
                    let copy: Vec<char> = text[at..end].to_vec();
                    drop(text.splice(at..at, copy));
                }
            }
        }
        let text: String = text.into_iter().collect();
        match load_manifests("mutant.yaml", &text) {
            Ok(apps) => {
                accepted += 1;
                for app in apps {
                    let resolved = app.resolve(1).unwrap_or_else(|e| panic!("round {round}: {e:?}"));
                    assert!(!resolved.services.is_empty());
                }
            }
            Err(errors) => {
                refused += 1;
                assert!(!errors.is_empty() && errors.len() <= 64);
                assert!(errors.iter().all(|e| e.to_string().len() < 2_000), "round {round}");
            }
        }
    }
    assert!(refused > 100 && accepted > 100, "both happen: {refused} refused, {accepted} accepted");
}
