//! Every intent of a manifest changes where copies go, in a way that `explain` and `plan` show: the cores themselves,
//! from manifest to node.
#![allow(clippy::unwrap_used)]

mod published;
#[path = "../../../protocol/tests/samples/mod.rs"]
mod samples;
mod stage;

use codeco_actors::swm::decision::Level as DecidedBy;
use codeco_actors::swm::home::PlanAction;
use codeco_protocol::demands::Level;
use codeco_protocol::units::Micros;
use stage::{Node, Stage, channel, clusters, distinct, id, manifest};

/// The reasons of all filters of a decision.
fn filters(stage: &Stage, service: &str, by: DecidedBy) -> String {
    let view = stage.explained(service, by);
    view.filters.iter().map(|f| format!("{}× {}", f.count, f.reason)).collect::<Vec<_>>().join("; ")
}

fn told(stage: &Stage, service: &str, by: DecidedBy) -> String {
    stage.explained(service, by).intents.join("; ")
}

fn part(stage: &Stage, service: &str, by: DecidedBy, name: &str) -> (f64, f64) {
    let view = stage.explained(service, by);
    let winner = view.candidates.iter().find(|c| Some(&c.name) == view.chosen.as_ref()).unwrap();
    let part = winner.parts.iter().find(|p| p.name == name).unwrap();
    (part.raw, part.weight)
}

#[test]
fn qos_class_of_gold_gets_the_room_that_becomes_free_before_best_effort() {
    for gold_first in [true, false] {
        let mut stage = Stage::of(1, 1);
        stage.apply(&manifest("first", "", &[("s", "3500m", "")]));
        let gold = manifest("gold", "qosClass: Gold", &[("g", "3", "")]);
        let plain = manifest("plain", "", &[("p", "3", "")]);
        let order = if gold_first { [&gold, &plain] } else { [&plain, &gold] };
        for text in order {
            stage.apply(text);
        }
        assert!(stage.places("gold", "g").is_empty() && stage.places("plain", "p").is_empty());
        stage.delete("first");
        stage.run(8_000);
        assert_eq!(stage.places("gold", "g"), ["c1/n1"]);
        assert!(stage.places("plain", "p").is_empty());
        assert!(told(&stage, "g", DecidedBy::Cluster).contains("qosClass Gold: placed before Silver"));
    }
}

#[test]
fn qos_class_of_gold_stops_nothing_that_runs() {
    let mut stage = Stage::of(1, 1);
    stage.apply(&manifest("plain", "", &[("p", "3", "")]));
    stage.apply(&manifest("gold", "qosClass: Gold", &[("g", "3", "")]));
    assert_eq!(stage.places("plain", "p"), ["c1/n1"]);
    assert!(stage.waiting("gold", "g").unwrap().contains("less than 3 cpu free"));
}

fn declared(level: Option<Level>) -> Node {
    Node::default().with(|node| (node.traits.security, node.traits.compliance) = (level, level))
}

#[test]
fn security_and_compliance_classes_take_out_nodes_that_declare_less_or_nothing() {
    for (field, class, nodes) in [("securityClass", "Good", 1), ("complianceClass", "Medium", 2)] {
        let mut stage = Stage::new();
        let nodes_of = [declared(None), declared(Some(Level::Medium)), declared(Some(Level::High))];
        stage.add(&nodes_of, |_| {});
        stage.apply(&manifest("a", &format!("{field}: {class}"), &[("s", "100m", "")]));
        let placed = stage.places("a", "s");
        let allowed: &[&str] = if nodes == 1 { &["c1/n3"] } else { &["c1/n2", "c1/n3"] };
        assert!(allowed.contains(&placed[0].as_str()), "{field}: {placed:?}");
        let reasons = filters(&stage, "s", DecidedBy::Node);
        assert!(
            reasons.contains(&format!("{field} {class} is demanded, the node declares no level")),
            "{reasons}"
        );
        assert!(
            told(&stage, "s", DecidedBy::Node).contains(&format!("{field} {class}: only nodes that declare"))
        );
    }
}

#[test]
fn security_class_nobody_declares_makes_the_plan_wait_and_says_what_would_make_it_fit() {
    let mut stage = Stage::of(2, 2);
    let plan = stage.plan(&manifest("a", "securityClass: High", &[("s", "100m", "")]));
    assert_eq!(plan.replicas[0].action, PlanAction::Wait);
    let why = &plan.replicas[0].why;
    assert!(why.starts_with("4 candidates: 4 ("), "{why}");
    assert!(why.contains("it would fit on a node that declares High (agent option --security)"), "{why}");
    let plan = stage.plan(&manifest("a", "securityClass: Low", &[("s", "100m", "")]));
    assert_eq!(plan.replicas[0].action, PlanAction::Create, "Low demands nothing");
}

#[test]
fn failure_tolerance_keeps_copies_apart_among_nodes_or_clusters_where_greenness_would_stack_them() {
    let spec = |class: &str| format!("performanceProfile: Greenness\n{class}\nplacement: {{replicas: 3}}");
    let placed = |class: &str| {
        let mut stage = Stage::of(3, 3);
        stage.apply(&manifest("a", &spec(class), &[("s", "100m", "")]));
        (
            stage.places("a", "s"),
            told(&stage, "s", DecidedBy::Cluster),
            part(&stage, "s", DecidedBy::Node, "spread"),
        )
    };
    let (low, _, (_, weight)) = placed("appFailureTolerance: Low");
    assert_eq!((low.len(), weight), (3, 0.5), "{low:?}");
    let (medium, told, (copies, weight)) = placed("appFailureTolerance: Medium");
    assert_eq!(distinct(&medium), 3, "{medium:?}");
    assert_eq!((copies, weight), (0.0, 10.0));
    assert!(told.contains("appFailureTolerance Medium: the part spread weighs 10"), "{told}");
    let (high, ..) = placed("appFailureTolerance: High");
    assert_eq!(clusters(&high).len(), 3, "{high:?}");
}

#[test]
fn failure_tolerance_is_no_filter_and_spread_is_one() {
    let mut stage = Stage::of(1, 2);
    stage.apply(&manifest("a", "appFailureTolerance: High\nplacement: {replicas: 4}", &[("s", "100m", "")]));
    assert_eq!(stage.places("a", "s").len(), 4);
    stage.apply(&manifest("b", "placement: {replicas: 4, spread: {maxPerNode: 1}}", &[("t", "100m", "")]));
    assert_eq!(stage.places("b", "t").len(), 2);
    let why = stage.waiting("b", "t").unwrap();
    assert!(why.contains("spread: node has 1 of at most 1 copies"), "{why}");
    assert!(why.contains("it would fit with a spread above 1"), "{why}");
}

#[test]
fn spread_per_cluster_and_per_zone_limits_copies_there() {
    let mut stage = Stage::of(2, 3);
    stage.apply(&manifest("a", "placement: {replicas: 4, spread: {maxPerCluster: 1}}", &[("s", "100m", "")]));
    let placed = stage.places("a", "s");
    assert_eq!((placed.len(), clusters(&placed).len()), (2, 2), "{placed:?}");
    let why = stage.waiting("a", "s").unwrap();
    assert!(why.contains("cluster has 1 of at most 1 copies"), "{why}");

    let plan = stage.plan(&manifest(
        "b",
        "placement: {replicas: 2, spread: {maxPerCluster: 1}}",
        &[("s", "1m", "")],
    ));
    assert!(plan.replicas.iter().all(|r| r.action == PlanAction::Create), "{plan:#?}");

    let zone = |name: &str| Node::default().label("topology.kubernetes.io/zone", name);
    let mut stage = Stage::new();
    stage.add(&[zone("z1"), zone("z1"), zone("z2"), Node::default()], |_| {});
    stage.add(&[zone("z2"), zone("z3")], |_| {});
    stage.apply(&manifest("a", "placement: {replicas: 6, spread: {maxPerZone: 1}}", &[("s", "100m", "")]));
    let placed = stage.places("a", "s");
    assert_eq!(placed.len(), 3, "one in each zone: {placed:?}");
    assert!(!placed.contains(&"c1/n4".to_owned()), "a node without a zone may be in any: {placed:?}");
    let both = placed.contains(&"c1/n3".to_owned()) && placed.contains(&"c2/n1".to_owned());
    assert!(!both, "zone z2 has nodes in both clusters: {placed:?}");
}

#[test]
fn residency_keeps_copies_where_node_or_cluster_says_it_is() {
    let region = |name: &str| Node::default().label("topology.kubernetes.io/region", name);
    let mut stage = Stage::new();
    stage.add(&[Node::default()], |_| {});
    stage.add(&[region("us"), Node::default()], |options| {
        options.labels.insert("topology.kubernetes.io/region".into(), "eu".into());
    });
    stage.apply(&manifest("a", "placement: {replicas: 3, residency: [eu, uk]}", &[("s", "100m", "")]));
    assert_eq!(stage.places("a", "s"), ["c2/n2"; 3]);
    let reasons = filters(&stage, "s", DecidedBy::Cluster);
    assert!(reasons.contains("residency: its region is not declared, allowed is eu, uk"), "{reasons}");
    let reasons = filters(&stage, "s", DecidedBy::Node);
    assert!(reasons.contains("residency: it is in us, allowed is eu, uk"), "{reasons}");
}

#[test]
fn selectors_of_cluster_and_node_are_hard_and_say_which_label_is_missing() {
    let mut stage = Stage::of(1, 1);
    stage.add(&[Node::default(), Node::default().label("disk", "ssd")], |options| {
        options.labels.insert("site".into(), "b".into());
    });
    let spec = "placement: {clusterSelector: {site: b}, nodeSelector: {disk: ssd}}";
    stage.apply(&manifest("a", spec, &[("s", "100m", "")]));
    assert_eq!(stage.places("a", "s"), ["c2/n2"]);
    assert!(filters(&stage, "s", DecidedBy::Cluster).contains("cluster label site=b is missing"));
    assert!(filters(&stage, "s", DecidedBy::Node).contains("label disk=ssd is missing"));
}

#[test]
fn energy_limit_takes_out_nodes_that_draw_more_than_a_copys_part_and_says_the_numbers() {
    let power = |full| Node::default().with(|node| node.power = full);
    let mut stage = Stage::new();
    // 25 and 100 W a core, and one nobody knows: the fleet has 500 W.
    stage.add(&[power(Some((10, 100))), power(Some((10, 400))), power(None)], |_| {});
    // 5 % are 25 W for half a core: 50 W a core.
    stage.apply(&manifest("a", "appEnergyLimit: \"5\"\nplacement: {replicas: 2}", &[("s", "250m", "")]));
    assert_eq!(stage.places("a", "s"), ["c1/n1", "c1/n1"]);
    let reasons = filters(&stage, "s", DecidedBy::Node);
    assert!(reasons.contains("appEnergyLimit: would draw 25.0 W, may draw 12.5 W"), "{reasons}");
    assert!(reasons.contains("may draw 12.5 W, the node's power is not declared"), "{reasons}");
    assert!(told(&stage, "s", DecidedBy::Node).contains("appEnergyLimit 5 %: this copy's part"));
    let plan = stage.plan(&manifest("b", "appEnergyLimit: 1", &[("s", "2", "")]));
    assert_eq!(plan.replicas[0].action, PlanAction::Wait);
    let why = &plan.replicas[0].why;
    assert!(why.contains("an appEnergyLimit that gives it 50.0 W (now 5.0 W)"), "{why}");
}

#[test]
fn delay_of_an_assured_channel_is_a_filter_and_of_a_best_effort_one_a_part_of_the_score() {
    for class in ["ASSURED", "BESTEFFORT"] {
        let mut stage = Stage::new();
        stage.add(&[Node::default().label("end", "a"), Node::default(), Node::default()], |_| {});
        stage.distance(id(1, 1), id(1, 2), Some(Micros::from_millis(30)));
        stage.distance(id(1, 1), id(1, 3), None);
        // The node of the fixed end has no room for the other one.
        let spec = "placement: {services: {fixed: {nodeSelector: {end: a}}}}";
        let link = channel("free", class, "1M", "10ms");
        let text = manifest("a", spec, &[("fixed", "3", &link), ("free", "2", "")]);
        stage.apply(&text);
        assert_eq!(stage.places("a", "fixed"), ["c1/n1"]);
        let placed = stage.places("a", "free");
        if class == "ASSURED" {
            assert_eq!(placed, Vec::<String>::new());
            let why = stage.waiting("a", "free").unwrap();
            assert!(
                why.contains("channel link: 15.0 ms to fixed on n1, at most 10.0 ms is assured"),
                "{why}"
            );
            assert!(why.contains("the delay to fixed on n1 is not measured"), "{why}");
            assert!(why.contains("a maxDelay of channel link of 15.0 ms (on c1/n2)"), "{why}");
        } else {
            assert_eq!(placed.len(), 1);
            assert!(part(&stage, "free", DecidedBy::Node, "channel delay").0 >= 1.5);
        }
    }
}

#[test]
fn bandwidth_of_assured_channels_is_reserved_on_links_and_never_more_than_there_is() {
    let mut stage = Stage::new();
    stage.add(&[Node::default().label("kind", "a"), Node::default().label("kind", "b")], |_| {});
    // A pair cannot be on one node; each pair takes 40 of 100 Mbit/s at both ends.
    let pair = |name: &str| {
        let link = channel("back", "ASSURED", "40M", "1");
        manifest(name, "", &[("front", "10m", &link), ("back", "10m", "")]).replace(
            "  codecoapp-msspec:",
            "  placement: {services: {front: {nodeSelector: {kind: a}}, back: {nodeSelector: {kind: b}}}}\n  \
             codecoapp-msspec:",
        )
    };
    for name in ["one", "two", "three"] {
        stage.apply(&pair(name));
    }
    let reserved: Vec<u64> = stage.lead(1).link_reservations().values().map(|b| b.0).collect();
    assert_eq!(reserved, [80_000_000, 80_000_000]);
    for (app, ends) in [("one", 2), ("two", 2), ("three", 1)] {
        assert_eq!(stage.places(app, "front").len() + stage.places(app, "back").len(), ends, "{app}");
    }
    let why = stage.waiting("three", "back").or_else(|| stage.waiting("three", "front")).unwrap();
    assert!(why.contains("ASSURED channels need 40 Mbit/s more, 20 Mbit/s left"), "{why}");
    stage.delete("one");
    stage.run(8_000);
    let both = (stage.places("three", "front").len(), stage.places("three", "back").len());
    assert_eq!(both, (1, 1), "what was reserved is free again");
}

#[test]
fn link_without_declared_capacity_carries_no_assured_channel_but_one_node_does() {
    let mut stage = Stage::new();
    let unknown = Node::default().with(|node| node.traits.link = None);
    stage.add(&[unknown.clone(), unknown], |_| {});
    let link = channel("back", "ASSURED", "1M", "1");
    stage.apply(&manifest("near", "", &[("front", "100m", &link), ("back", "100m", "")]));
    assert_eq!(stage.places("near", "front"), stage.places("near", "back"));
    stage.apply(&manifest("wide", "", &[("front", "3", &link), ("back", "3", "")]));
    let why = stage.waiting("wide", "back").or_else(|| stage.waiting("wide", "front")).unwrap();
    assert!(why.contains("its capacity is not declared"), "{why}");
    assert!(why.contains("(agent option --link)"), "{why}");
}

/// Two clusters, one service bound to each, with an ASSURED channel between.
fn split(uplinks: [Option<u64>; 2]) -> (Stage, String) {
    let mut stage = Stage::new();
    for (site, uplink) in ["a", "b"].into_iter().zip(uplinks) {
        stage.add(&[Node::default()], |options| {
            options.labels.insert("site".into(), site.into());
            options.uplink = uplink;
        });
    }
    let link = channel("back", "ASSURED", "30M", "1");
    let spec =
        "placement: {services: {front: {clusterSelector: {site: a}}, back: {clusterSelector: {site: b}}}}";
    (stage, manifest("app", spec, &[("front", "100m", &link), ("back", "100m", "")]))
}

#[test]
fn assured_channel_between_clusters_is_reserved_on_both_uplinks_or_refused_with_the_reason() {
    let (mut stage, text) = split([Some(100_000_000), Some(100_000_000)]);
    stage.apply(&text);
    stage.run(5_000);
    assert_eq!(
        (stage.places("app", "front"), stage.places("app", "back")),
        (vec!["c1/n1".into()], vec!["c2/n1".into()])
    );
    for cluster in [1, 2] {
        assert_eq!(stage.lead(cluster).traits().uplink_reserved.0, 30_000_000, "c{cluster}");
    }
    stage.delete("app");
    stage.run(5_000);
    assert_eq!(stage.lead(1).traits().uplink_reserved.0, 0);

    for (uplinks, told) in [
        ([Some(100_000_000), None], "its capacity is not declared"),
        ([None, Some(100_000_000)], "its capacity is not declared"),
        ([Some(20_000_000), Some(100_000_000)], "ASSURED channels need 30 Mbit/s more, 20 Mbit/s left"),
    ] {
        let (mut stage, text) = split(uplinks);
        stage.apply(&text);
        let placed = stage.places("app", "front").len() + stage.places("app", "back").len();
        assert_eq!(placed, 1, "{uplinks:?}");
        let why = stage.waiting("app", "back").or_else(|| stage.waiting("app", "front")).unwrap();
        assert!(why.contains(told), "{uplinks:?}: {why}");
    }
}

#[test]
fn profile_of_cost_takes_the_cheaper_cluster_and_of_balanced_may_not() {
    let priced = |cost| Node::default().with(|node| node.traits.cost = Some(cost));
    let mut stage = Stage::new();
    stage.add(&[priced(90)], |_| {});
    stage.add(&[priced(20)], |_| {});
    stage.add(&[priced(60)], |_| {});
    stage.apply(&manifest("a", "performanceProfile: Cost", &[("s", "1", "")]));
    assert_eq!(stage.places("a", "s"), ["c2/n1"]);
    assert_eq!(part(&stage, "s", DecidedBy::Cluster, "cost"), (20.0, 3.0));
}

#[test]
fn service_bound_by_an_assured_channel_follows_the_one_that_moves() {
    let at = |place: &str| Node::default().label("position", place);
    let mut stage = Stage::new();
    stage.add(&[at("p1"), at("p2"), at("p3")], |_| {});
    for pair in [(1, 2), (1, 3), (2, 3)] {
        stage.distance(id(1, pair.0), id(1, pair.1), Some(Micros::from_millis(50)));
    }
    let text = |position: &str| {
        let spec = format!(
            "placement: {{partitionPolicy: fence, services: {{end: {{nodeSelector: {{position: {position}}}}}}}}}"
        );
        manifest(
            "a",
            &spec,
            &[("end", "100m", &channel("twin", "ASSURED", "1M", "10ms")), ("twin", "100m", "")],
        )
    };
    stage.apply(&text("p1"));
    assert_eq!(
        (stage.places("a", "end"), stage.places("a", "twin")),
        (vec!["c1/n1".into()], vec!["c1/n1".into()])
    );
    stage.apply(&text("p3"));
    stage.run(10_000);
    assert_eq!(
        (stage.places("a", "end"), stage.places("a", "twin")),
        (vec!["c1/n3".into()], vec!["c1/n3".into()])
    );
}

#[test]
fn service_bound_by_an_assured_channel_follows_into_another_cluster() {
    let mut stage = Stage::new();
    for site in ["a", "b"] {
        stage.add(&[Node::default()], |options| {
            options.labels.insert("site".into(), site.into());
            options.round_trip = Some(Micros::from_millis(60));
        });
    }
    // The one that follows comes first by name.
    let text = |site: &str| {
        let spec = format!(
            "placement: {{partitionPolicy: fence, services: {{vehicle: {{clusterSelector: {{site: {site}}}}}}}}}"
        );
        let link = channel("controller", "ASSURED", "1M", "10ms");
        manifest("agv", &spec, &[("controller", "100m", ""), ("vehicle", "100m", &link)])
    };
    for (site, place) in [("a", "c1/n1"), ("b", "c2/n1"), ("a", "c1/n1")] {
        let plan = stage.plan(&text(site));
        assert_eq!(plan.replicas.len(), 2);
        stage.apply(&text(site));
        stage.run(15_000);
        assert_eq!(stage.places("agv", "vehicle"), [place]);
        assert_eq!(stage.places("agv", "controller"), [place]);
    }
}

/// Manifests that ask for what no node has: which constraint took out how many, and what would make it fit.
#[test]
fn infeasible_manifests_say_which_constraint_removes_how_many_nodes_and_what_would_fit() {
    let node = |security, region: &str| {
        Node::default()
            .label("topology.kubernetes.io/region", region)
            .with(|node| node.traits.security = security)
    };
    let mut stage = Stage::new();
    stage.add(&[node(Some(Level::Low), "eu"), node(None, "eu"), node(Some(Level::Medium), "us")], |_| {});
    let cases = [
        (
            "",
            "9",
            "3 candidates: 3 have less than 9 cpu free (largest free: 4 on c1/n1); it would fit with cpu: 4",
        ),
        (
            "placement: {nodeSelector: {gpu: a100}}",
            "1",
            "3 lack label gpu=a100; it would fit with one node with label",
        ),
        (
            "placement: {clusterSelector: {tier: cloud}}",
            "1",
            "1 candidate: 1 (cluster c1): cluster label tier=cloud is missing",
        ),
        ("placement: {residency: [jp]}", "1", "it is in eu, allowed is jp; it would fit in region jp"),
        (
            "securityClass: Good",
            "1",
            "it would fit on a node that declares Good (agent option --security), or with a lower",
        ),
        (
            "complianceClass: Medium",
            "1",
            "the node declares no level; it would fit on a node that declares Medium (agent option --compliance)",
        ),
        (
            "appEnergyLimit: 1",
            "4",
            "would draw 100.0 W, may draw 3.0 W; it would fit with an appEnergyLimit that gives it 100.0 W",
        ),
        (
            "securityClass: Medium\nplacement: {residency: [eu]}",
            "1",
            "1 (c1/n3): residency: it is in us, allowed is eu",
        ),
        (
            "placement: {replicas: 5, spread: {maxPerNode: 1}}",
            "100m",
            "spread: node has 1 of at most 1 copies; it would fit with a spread above 1",
        ),
        (
            "placement: {replicas: 2, spread: {maxPerZone: 1}}",
            "100m",
            "3 lack label topology.kubernetes.io/zone=(any)",
        ),
        (
            "placement: {replicas: 3, spread: {maxPerCluster: 2}}",
            "100m",
            "cluster has 2 of at most 2 copies; it would fit with a spread above 2",
        ),
    ];
    for (spec, cpu, told) in cases {
        let plan = stage.plan(&manifest("a", spec, &[("s", cpu, "")]));
        let waits = plan.replicas.iter().find(|r| r.action == PlanAction::Wait);
        let why = &waits.unwrap_or_else(|| panic!("{spec}: {plan:#?}")).why;
        assert!(why.contains(told), "{spec}:\n{why}\nexpected\n{told}");
    }
}
