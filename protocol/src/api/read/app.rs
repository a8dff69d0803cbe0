//! Reads a [`CodecoApp`].

use std::collections::BTreeSet;

use super::fields::Unique;
use super::placement::{check_placement, read_placement};
use super::pod::read_pod;
use super::{Fields, Node, quoted};
use crate::api::manifest::{
    API_VERSION, AppSpec, CHANNELS_PER_SERVICE_MAX, Channel, ChannelSettings, CodecoApp, KIND, Metadata,
    NAMESPACE_DEFAULT, OtherService, SERVICES_MAX, ServiceSpec,
};
use crate::api::quantity::Quantity;
use crate::units::{BitsPerSecond, Bytes, Micros};

/// Fields Kubernetes adds when it hands an object out; they say nothing about what is wanted.
const METADATA_OF_SERVER: [&str; 9] = [
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generation",
    "managedFields",
    "ownerReferences",
    "resourceVersion",
    "uid",
];

const REPLICAS_PLACE: (&str, &str) =
    ("replicas", "the number of copies belongs in spec.placement.services.NAME.replicas");

pub(crate) fn read_app(node: &Node<'_>) -> CodecoApp {
    let empty = CodecoApp {
        api_version: API_VERSION.to_owned(),
        kind: KIND.to_owned(),
        metadata: Metadata::default(),
        spec: AppSpec::default(),
    };
    let Some(fields) = node.object() else { return empty };
    // Fields of another kind would all be unknown here: say the one thing that helps.
    let known_version = constant(&fields, "apiVersion", API_VERSION);
    if !constant(&fields, "kind", KIND) || !known_version {
        return empty;
    }
    fields.only(&["apiVersion", "kind", "metadata", "spec"], &["status"], &[]);
    let metadata = fields.require("metadata", "an object with a name");
    let metadata = metadata.and_then(|node| node.object()).map(|fields| read_metadata(&fields));
    let spec = fields.require("spec", "an object with the services").and_then(|node| node.object());
    let spec = spec.map(|spec| read_spec(&spec, metadata.as_ref().map_or("", |m| m.name.as_str())));
    CodecoApp { metadata: metadata.unwrap_or_default(), spec: spec.unwrap_or_default(), ..empty }
}

fn constant(fields: &Fields<'_>, key: &str, value: &str) -> bool {
    let Some(node) = fields.require(key, value) else { return false };
    let right = node.value.as_str() == Some(value);
    if !right {
        node.expected(value);
    }
    right
}

fn read_metadata(fields: &Fields<'_>) -> Metadata {
    fields.only(&["name", "namespace", "labels", "annotations"], &METADATA_OF_SERVER, &[]);
    let name = fields.require("name", "the name of the application").and_then(|node| node.name());
    let namespace = fields.filled("namespace").and_then(|node| node.name());
    Metadata {
        name: name.unwrap_or_default(),
        namespace: namespace.unwrap_or_else(|| NAMESPACE_DEFAULT.to_owned()),
        labels: fields.texts("labels").unwrap_or_default(),
        annotations: fields.texts("annotations").unwrap_or_default(),
    }
}

fn read_spec(fields: &Fields<'_>, metadata_name: &str) -> AppSpec {
    let known = [
        "appName",
        "qosClass",
        "securityClass",
        "complianceClass",
        "appEnergyLimit",
        "appFailureTolerance",
        "performanceProfile",
        "codecoapp-msspec",
        "placement",
    ];
    fields.only(&known, &[], &[REPLICAS_PLACE]);
    let spec = AppSpec {
        app_name: fields.filled("appName").and_then(|node| node.name()),
        qos_class: fields.choice("qosClass"),
        security_class: fields.choice("securityClass"),
        compliance_class: fields.choice("complianceClass"),
        app_energy_limit: fields.filled("appEnergyLimit").and_then(|node| read_percent(&node)),
        app_failure_tolerance: fields.choice("appFailureTolerance"),
        performance_profile: fields.choice("performanceProfile"),
        services: read_services(fields),
        placement: fields.get("placement").and_then(|node| node.object()).map(|f| read_placement(&f)),
    };
    check_channels(fields, &spec, metadata_name);
    check_placement(fields, &spec);
    spec
}

/// Text by the CRD, but a bare number says the same.
fn read_percent(node: &Node<'_>) -> Option<String> {
    let expected = "per cent as a whole number from 0 to 100";
    let text = node.text_or_number(expected)?;
    let right = text.len() <= 3 && text.parse::<u8>().is_ok_and(|n| n <= 100);
    if !right {
        node.expected(expected);
    }
    right.then_some(text)
}

fn read_services(fields: &Fields<'_>) -> Vec<ServiceSpec> {
    let Some(list) = fields.require("codecoapp-msspec", "a list of at least one service") else {
        return Vec::new();
    };
    if list.value.as_array().is_some_and(Vec::is_empty) {
        list.report.add(&list.path, "an empty list", "at least one service", None);
    }
    let mut names = Unique::default();
    list.list(SERVICES_MAX).iter().map(|node| read_service(node, &mut names)).collect()
}

fn read_service(node: &Node<'_>, names: &mut Unique) -> ServiceSpec {
    let Some(fields) = node.object() else { return ServiceSpec::default() };
    // An earlier version of the CRD had the last two; nothing reads them any more.
    let earlier = ["nwbandwidth", "nwlatency"];
    fields.only(&["serviceName", "podspec", "serviceChannels"], &earlier, &[REPLICAS_PLACE]);
    let service_name = fields.require("serviceName", "the name of the service").and_then(|n| n.name());
    if let Some(name) = &service_name {
        names.check(&fields, "serviceName", name, "service of this application");
    }
    let pod_spec = fields.require("podspec", "a pod spec with at least one container").map(|n| read_pod(&n));
    let channels =
        fields.get("serviceChannels").map(|n| n.list(CHANNELS_PER_SERVICE_MAX)).unwrap_or_default();
    let mut channel_names = Unique::default();
    ServiceSpec {
        service_name: service_name.unwrap_or_default(),
        pod_spec: pod_spec.unwrap_or_default(),
        service_channels: channels.iter().map(|n| read_channel(n, &mut channel_names)).collect(),
    }
}

fn read_channel(node: &Node<'_>, names: &mut Unique) -> Channel {
    let Some(fields) = node.object() else { return Channel::default() };
    fields.only(&["channelName", "serviceClass", "otherService", "advancedChannelSettings"], &[], &[]);
    let channel_name = fields.filled("channelName").and_then(|node| read_channel_name(&node));
    if let Some(name) = &channel_name {
        names.check(&fields, "channelName", name, "channel of this service");
    }
    let other = fields.require("otherService", "an object with the receiver's serviceName");
    let settings = fields.get("advancedChannelSettings").and_then(|node| node.object());
    Channel {
        channel_name,
        service_class: fields.choice("serviceClass"),
        other_service: other.and_then(|n| n.object()).map(|f| read_other(&f)).unwrap_or_default(),
        advanced_channel_settings: settings.map(|f| read_settings(&f)),
    }
}

/// Wider than a service's name: channels are called `cam_to_AI.1` in the wild.
fn read_channel_name(node: &Node<'_>) -> Option<String> {
    let text = node.text()?;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let right = text.len() <= 63 && text.chars().all(plain);
    if !right {
        node.expected("at most 63 letters, digits, '-', '_' or '.'");
    }
    right.then_some(text)
}

fn read_other(fields: &Fields<'_>) -> OtherService {
    fields.only(&["appName", "serviceName", "port"], &[], &[]);
    let name = fields.require("serviceName", "the name of the receiving service").and_then(|n| n.name());
    let port = fields.get("port").and_then(|node| node.integer(1, u64::from(u16::MAX)));
    OtherService {
        app_name: fields.filled("appName").and_then(|node| node.name()),
        service_name: name.unwrap_or_default(),
        port: port.and_then(|port| u16::try_from(port).ok()),
    }
}

fn read_settings(fields: &Fields<'_>) -> ChannelSettings {
    fields.only(&["minBandwidth", "bandwidth", "maxDelay", "frameSize", "sendInterval"], &[], &[]);
    let settings = ChannelSettings {
        min_bandwidth: fields.quantity::<BitsPerSecond>("minBandwidth"),
        bandwidth: fields.quantity::<BitsPerSecond>("bandwidth"),
        max_delay: fields.quantity::<Micros>("maxDelay"),
        frame_size: fields.quantity::<Bytes>("frameSize"),
        send_interval: fields.quantity::<Micros>("sendInterval"),
    };
    let bits = |text: &Option<String>| text.as_deref().map(BitsPerSecond::parse_quantity);
    if let (Some(old), Some(new)) = (bits(&settings.min_bandwidth), bits(&settings.bandwidth))
        && old != new
        && let Some(node) = fields.get("bandwidth")
    {
        node.expected("the same as minBandwidth, or only one of the two");
    }
    settings
}

/// Channels may name a service listed later, so this comes after all services are read.
fn check_channels(fields: &Fields<'_>, spec: &AppSpec, metadata_name: &str) {
    let names: BTreeSet<&str> =
        spec.services.iter().map(|s| s.service_name.as_str()).filter(|name| !name.is_empty()).collect();
    let list: Vec<&str> = names.iter().copied().take(8).collect();
    for (i, service) in spec.services.iter().enumerate() {
        for (j, channel) in service.service_channels.iter().enumerate() {
            let other = &channel.other_service;
            let own_app = other
                .app_name
                .as_deref()
                .is_none_or(|app| app == metadata_name || Some(app) == spec.app_name.as_deref());
            if !own_app || other.service_name.is_empty() {
                continue;
            }
            let path = fields.node.path.key("codecoapp-msspec").index(i).key("serviceChannels").index(j);
            let path = path.key("otherService").key("serviceName");
            let found = quoted(&other.service_name);
            let report = fields.node.report;
            if other.service_name == service.service_name {
                report.add(&path, found, "another service than the one the channel leaves", None);
            } else if !names.contains(other.service_name.as_str()) {
                let hint = super::nearest(&other.service_name, &list).map(|n| format!("did you mean {n:?}?"));
                report.add(&path, found, format!("a service of this application: {}", list.join(", ")), hint);
            }
        }
    }
}
