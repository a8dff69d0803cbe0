//! Reads the part of a pod spec this project uses, and keeps the rest.

use std::collections::BTreeMap;

use super::fields::Unique;
use super::placement::read_selector;
use super::{Fields, Node, nearest, quoted};
use crate::api::pod::{
    CONTAINER_ITEMS_MAX, CONTAINERS_MAX, Container, ContainerPort, EnvVar, GRACE_SECONDS_MAX, PodSpec,
    ResourceDemands,
};
use crate::api::quantity::{Quantity, parse_count};
use crate::api::resolve::RESERVED_ENV;
use crate::resources::EXTENDED_MAX;
use crate::units::{Bytes, MilliCpu};

const POD: [&str; 6] = [
    "containers",
    "restartPolicy",
    "nodeSelector",
    "terminationGracePeriodSeconds",
    "volumes",
    "schedulerName",
];
const CONTAINER: [&str; 8] = ["name", "image", "command", "args", "env", "workingDir", "resources", "ports"];

pub(crate) fn read_pod(node: &Node<'_>) -> PodSpec {
    let Some(fields) = node.object() else { return PodSpec::default() };
    let grace = fields.get("terminationGracePeriodSeconds").and_then(|n| n.integer(0, GRACE_SECONDS_MAX));
    let volumes = fields.get("volumes").map(|n| n.list(CONTAINER_ITEMS_MAX)).unwrap_or_default();
    PodSpec {
        containers: read_containers(&fields),
        restart_policy: fields.choice("restartPolicy"),
        node_selector: read_selector(&fields, "nodeSelector").unwrap_or_default(),
        termination_grace_period_seconds: grace,
        // An object, or it could not be told whether it holds state.
        volumes: volumes.iter().filter(|n| n.object().is_some()).map(|n| n.value.clone()).collect(),
        scheduler_name: fields.filled("schedulerName").and_then(|n| n.text()),
        other: fields.rest(&POD),
    }
}

fn read_containers(fields: &Fields<'_>) -> Vec<Container> {
    let Some(list) = fields.require("containers", "a list of at least one container") else {
        return Vec::new();
    };
    if list.value.as_array().is_some_and(Vec::is_empty) {
        list.report.add(&list.path, "an empty list", "at least one container", None);
    }
    let mut names = Unique::default();
    list.list(CONTAINERS_MAX).iter().map(|node| read_container(node, &mut names)).collect()
}

fn read_container(node: &Node<'_>, names: &mut Unique) -> Container {
    let Some(fields) = node.object() else { return Container::default() };
    // A pod spec may carry fields newer than this program, so unknown ones are no error; a slip of one that is
    // read would be lost in silence, though, and most of all `resource` for `resources`.
    slips(&fields, &CONTAINER);
    let name = fields.require("name", "the name of the container").and_then(|n| n.name());
    if let Some(name) = &name {
        names.check(&fields, "name", name, "container of this pod");
    }
    let image = fields.filled("image").and_then(|n| n.text());
    let command = texts(&fields, "command");
    if fields.filled("image").is_none() && fields.get("command").is_none() {
        node.report.add(&node.path, "neither image nor command", "at least one of them", None);
    }
    let ports = fields.get("ports").map(|n| n.list(CONTAINER_ITEMS_MAX)).unwrap_or_default();
    let resources = fields.get("resources").and_then(|n| n.object());
    Container {
        name: name.unwrap_or_default(),
        image,
        command,
        args: texts(&fields, "args"),
        env: read_env(&fields),
        working_dir: fields.filled("workingDir").and_then(|n| n.text()),
        resources: resources.map(|f| read_resources(&f)).unwrap_or_default(),
        ports: ports.iter().map(read_port).collect(),
        other: fields.rest(&CONTAINER),
    }
}

/// Notes fields that differ from a known one in letter case or a plural only.
fn slips(fields: &Fields<'_>, known: &[&str]) {
    let fold = |text: &str| text.to_lowercase().trim_end_matches('s').to_owned();
    for (key, node) in fields.each() {
        if known.contains(&key.as_str()) {
            continue;
        }
        if let Some(word) = known.iter().find(|word| fold(word) == fold(key)) {
            let hint = Some(format!("did you mean {word:?}?"));
            node.report.add(&node.path, "an unknown field", format!("the field {word}"), hint);
        }
    }
}

fn texts(fields: &Fields<'_>, key: &str) -> Vec<String> {
    let list = fields.get(key).map(|node| node.list(CONTAINER_ITEMS_MAX)).unwrap_or_default();
    list.iter().filter_map(Node::text).collect()
}

fn read_env(fields: &Fields<'_>) -> Vec<EnvVar> {
    let list = fields.get("env").map(|node| node.list(CONTAINER_ITEMS_MAX)).unwrap_or_default();
    list.iter().filter_map(Node::object).map(|fields| read_variable(&fields)).collect()
}

fn read_variable(fields: &Fields<'_>) -> EnvVar {
    let name = fields.require("name", "the name of the variable").and_then(|node| {
        let name = node.text()?;
        if name.is_empty() || name.contains('=') {
            node.expected("a name, not empty and without '='");
            return None;
        }
        if RESERVED_ENV.contains(&name.as_str()) {
            node.expected("another name: this variable is set for every replica");
            return None;
        }
        Some(name)
    });
    let value_from = fields.get("valueFrom");
    let filled = fields.get("value").is_some_and(|node| node.value.as_str() != Some(""));
    if let (true, Some(node)) = (filled, &value_from) {
        node.expected("either value or valueFrom");
    }
    EnvVar {
        name: name.unwrap_or_default(),
        value: fields.text("value"),
        value_from: value_from.map(|node| node.value.clone()),
        other: fields.rest(&["name", "value", "valueFrom"]),
    }
}

fn read_port(node: &Node<'_>) -> ContainerPort {
    let Some(fields) = node.object() else { return ContainerPort::default() };
    let port =
        fields.require("containerPort", "a port number").and_then(|n| n.integer(1, u64::from(u16::MAX)));
    ContainerPort {
        container_port: port.and_then(|p| u16::try_from(p).ok()).unwrap_or_default(),
        name: fields.filled("name").and_then(|n| n.text()),
        other: fields.rest(&["containerPort", "name"]),
    }
}

fn read_resources(fields: &Fields<'_>) -> ResourceDemands {
    slips(fields, &["requests", "limits"]);
    let demands = ResourceDemands {
        requests: read_amounts(fields, "requests"),
        limits: read_amounts(fields, "limits"),
        other: fields.rest(&["requests", "limits"]),
    };
    for (name, request) in &demands.requests {
        let Some(limit) = demands.limits.get(name) else { continue };
        if above(name, request, limit) {
            let path = fields.node.path.key("requests").key(name);
            let expected = format!("at most the limit, {}", quoted(limit));
            fields.node.report.add(&path, quoted(request), expected, None);
        }
    }
    demands
}

fn above(name: &str, request: &str, limit: &str) -> bool {
    fn pair<Q: Quantity + PartialOrd>(a: &str, b: &str) -> bool {
        matches!((Q::parse_quantity(a), Q::parse_quantity(b)), (Ok(a), Ok(b)) if a > b)
    }
    if name == "cpu" { pair::<MilliCpu>(request, limit) } else { pair::<Bytes>(request, limit) }
}

/// Resources without a vendor's prefix that Kubernetes knows beside cpu and memory.
fn is_known_storage(name: &str) -> bool {
    matches!(name, "ephemeral-storage" | "storage") || name.starts_with("hugepages-")
}

fn read_amounts(fields: &Fields<'_>, key: &str) -> BTreeMap<String, String> {
    let mut amounts = BTreeMap::new();
    let Some(list) = fields.get(key).and_then(|node| node.object()) else { return amounts };
    for (name, node) in list.each() {
        let amount = match name.as_str() {
            "cpu" => node.quantity::<MilliCpu>(),
            "memory" => node.quantity::<Bytes>(),
            name if is_known_storage(name) => node.quantity::<Bytes>(),
            name if name.contains('/') => read_count(&node),
            name => {
                let hint = nearest(name, &["cpu", "memory"]).map(|word| format!("did you mean {word:?}?"));
                let expected = "cpu, memory, ephemeral-storage, hugepages-SIZE or VENDOR/NAME";
                node.report.add(&node.path, "an unknown resource", expected, hint);
                None
            }
        };
        if let Some(amount) = amount {
            amounts.insert(name.clone(), amount);
        }
    }
    let extended = amounts.keys().filter(|name| name.contains('/')).count();
    if extended > EXTENDED_MAX {
        let found = format!("{extended} extended resources");
        list.node.report.add(&list.node.path, found, format!("at most {EXTENDED_MAX}"), None);
    }
    amounts
}

fn read_count(node: &Node<'_>) -> Option<String> {
    let text = node.text_or_number("a whole number such as 1")?;
    match parse_count(&text) {
        Ok(_) => Some(text),
        Err(error) => {
            node.expected(error.expected);
            None
        }
    }
}
