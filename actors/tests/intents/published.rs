//! Applications that others have published are placed as they are: a plan gives each of their copies a node.

use codeco_actors::swm::home::PlanAction;
use codeco_protocol::demands::Level;
use serde_json::Value;

use crate::samples::{data, fields, manifest, samples};
use crate::stage::{Node, Stage};

fn fleet() -> Stage {
    let node = Node::default().with(|node| {
        (node.traits.security, node.traits.compliance) = (Some(Level::High), Some(Level::High));
    });
    let mut stage = Stage::new();
    for _ in 0..2 {
        stage.add(&[node.clone(), node.clone()], |_| {});
    }
    stage
}

/// Plans every sample; returns how many were placed and how many not.
fn plan_all(samples: &[Value]) -> (usize, usize) {
    let mut stage = fleet();
    let (mut placed, mut not) = (0, 0);
    for spec in samples {
        let text = manifest(spec, None).to_string();
        let plan = stage.plan(&text);
        assert_eq!(plan.replicas.len(), 1, "{text}");
        let replica = &plan.replicas[0];
        // Per cent of nothing is nothing: that one says so.
        if spec["appEnergyLimit"] == "0" {
            assert_eq!(replica.action, PlanAction::Wait, "{text}");
            assert!(replica.why.contains("an appEnergyLimit that gives it"), "{}", replica.why);
            not += 1;
        } else {
            assert_eq!(replica.action, PlanAction::Create, "{text}\n{}", replica.why);
            placed += 1;
        }
    }
    (placed, not)
}

#[test]
fn applications_with_every_published_field_are_placed_whatever_their_values() {
    let (placed, not) = plan_all(&samples("spec", &fields()));
    assert!(placed >= 4 && not >= 1, "{placed} placed, {not} not");
}

#[test]
fn applications_of_the_published_crd_are_placed() {
    let Some(data) = data() else {
        eprintln!("the published CRDs are not here: set CODECO_DATA to a folder with crds/codeco");
        return;
    };
    let path = data.join("crds/codeco/codecoapps.codeco.he-codeco.eu.yaml");
    let crd: Value = serde_yaml_ng::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    let (placed, _) = plan_all(&samples("spec", schema));
    assert!(placed >= 4, "{placed} placed");
}
