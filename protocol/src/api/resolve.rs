//! From what people wrote to what machines pass on: typed units, filled defaults, one workload per service.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;

use bincode::{Decode, Encode};

use super::classes::{
    ComplianceClass, FailureTolerance, OnReconnect, Profile, QosClass, Restart, SecurityClass, ServiceClass,
};
use super::error::ManifestError;
use super::manifest::{Channel, ChannelSettings, CodecoApp, ServiceSpec};
use super::placement::{MAX_UNAVAILABLE_DEFAULT, PlacementRules, REPLICAS_DEFAULT, Spread};
use super::pod::{CPU_REQUEST_DEFAULT, Container, GRACE_SECONDS_DEFAULT, MEMORY_REQUEST_DEFAULT};
use super::quantity::{Quantity, parse_count};
use super::read::app::read_app;
use super::read::{Node, Report};
use crate::ids::{AppName, Namespace, ServiceName};
use crate::resources::Resources;
use crate::units::{BitsPerSecond, Bytes, Micros, MilliCpu};
use crate::workload::{ChannelSpec, ContainerSpec, WorkloadSpec};

/// Variable with the application's name.
pub const ENV_APP: &str = "CODECO_APP";
/// Variable with the service's name.
pub const ENV_SERVICE: &str = "CODECO_SERVICE";
/// Variable with the namespace.
pub const ENV_NAMESPACE: &str = "CODECO_NAMESPACE";
/// Variable with the number of the copy; set by the runtime.
pub const ENV_INDEX: &str = "CODECO_INDEX";
/// Variable with the fencing token; set by the runtime.
pub const ENV_FENCING_TOKEN: &str = "CODECO_FENCING_TOKEN";
/// Variables a manifest may not set.
pub const RESERVED_ENV: [&str; 5] = [ENV_APP, ENV_SERVICE, ENV_NAMESPACE, ENV_INDEX, ENV_FENCING_TOKEN];

/// An application in typed units, every default filled in.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct ResolvedApp {
    /// Namespace.
    pub namespace: Namespace,
    /// Name: that of the metadata.
    pub name: AppName,
    /// Quality of service; best effort by default.
    pub qos: QosClass,
    /// Security demanded; none by default.
    pub security: SecurityClass,
    /// Compliance demanded; the lowest by default.
    pub compliance: ComplianceClass,
    /// Which failures are to be survived; none in particular by default.
    pub failure_tolerance: FailureTolerance,
    /// What placement weighs most; balanced by default.
    pub profile: Profile,
    /// Per cent of the infrastructure's most energy; `None` is no limit.
    pub energy_limit_percent: Option<u8>,
    /// How long its home may be silent; `None` is for ever.
    pub adopt_after: Option<Micros>,
    /// Services in the order of the manifest.
    pub services: Vec<ResolvedService>,
    /// Channels of all services.
    pub channels: Vec<ChannelSpec>,
}

/// One service in typed units.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct ResolvedService {
    /// Name.
    pub name: ServiceName,
    /// Copies wanted.
    pub replicas: u32,
    /// What each copy runs.
    pub workload: WorkloadSpec,
    /// Labels a cluster must have.
    pub cluster_selector: BTreeMap<String, String>,
    /// Labels a node must have: the pod spec's and the placement's.
    pub node_selector: BTreeMap<String, String>,
    /// Regions its copies may be in; empty is anywhere.
    pub regions: Vec<String>,
    /// How close together copies may be.
    pub spread: Spread,
    /// How long a silent cluster keeps its right; `None` is for ever.
    pub lost_after: Option<Micros>,
    /// Which of two copies stays; the original by default.
    pub on_reconnect: OnReconnect,
    /// How many copies a change or a drain may take away at a time; one by default.
    pub max_unavailable: u32,
}

impl ResolvedApp {
    /// Copies wanted of all services.
    #[must_use]
    pub fn replicas(&self) -> u32 {
        self.services.iter().map(|service| service.replicas).sum()
    }

    /// The service of that name.
    #[must_use]
    pub fn service(&self, name: &ServiceName) -> Option<&ResolvedService> {
        self.services.iter().find(|service| service.name == *name)
    }
}

/// Boxed: an error is large, and next to never made here.
type Wrong = Box<ManifestError>;

impl CodecoApp {
    /// Everything wrong with this application. Empty for what [`super::load_manifests`] returned; one put together
    /// by a program is checked here like any other.
    #[must_use]
    pub fn check(&self) -> Vec<ManifestError> {
        let value = match serde_json::to_value(self) {
            Ok(value) => value,
            Err(error) => return vec![*self.wrong("", "an application", &error)],
        };
        let report = Report::default();
        read_app(&Node::root(&value, &report));
        let problem = |p: super::read::Problem| ManifestError {
            hint: p.hint,
            found: p.found,
            ..*self.wrong(&p.path.to_string(), &p.expected, &"")
        };
        report.into_problems().into_iter().map(problem).collect()
    }

    /// Turns this application into typed units. `generation` is the number of this specification.
    ///
    /// # Errors
    /// What [`CodecoApp::check`] finds.
    pub fn resolve(&self, generation: u64) -> Result<ResolvedApp, Vec<ManifestError>> {
        let errors = self.check();
        if errors.is_empty() { self.resolve_checked(generation).map_err(|e| vec![*e]) } else { Err(errors) }
    }

    fn wrong(&self, field: &str, expected: &str, found: &dyn Display) -> Wrong {
        Box::new(ManifestError {
            file: format!("{}/{}", self.metadata.namespace, self.metadata.name),
            document: 0,
            line: None,
            field: field.to_owned(),
            found: found.to_string(),
            expected: expected.to_owned(),
            hint: None,
        })
    }

    fn resolve_checked(&self, generation: u64) -> Result<ResolvedApp, Wrong> {
        let spec = &self.spec;
        let name = |field: &str, text: &str| {
            AppName::new(text).map_err(|_| self.wrong(field, "a name (RFC 1123)", &format_args!("{text:?}")))
        };
        let namespace = Namespace::new(self.metadata.namespace.as_str())
            .map_err(|error| self.wrong("metadata.namespace", "a name (RFC 1123)", &error.found))?;
        let app = name("metadata.name", &self.metadata.name)?;
        let energy = spec.app_energy_limit.as_deref().map(str::parse::<u8>).transpose();
        let mut services = Vec::new();
        let mut channels = Vec::new();
        let mut names = BTreeSet::new();
        for service in &spec.services {
            let resolved = self.service(service, &namespace, &app, generation)?;
            for channel in &service.service_channels {
                let mut channel = self.channel(channel, &resolved.name)?;
                unique_name(&mut channel, &mut names);
                channels.push(channel);
            }
            services.push(resolved);
        }
        Ok(ResolvedApp {
            namespace,
            name: app,
            qos: spec.qos_class.unwrap_or_default(),
            security: spec.security_class.unwrap_or_default(),
            compliance: spec.compliance_class.unwrap_or_default(),
            failure_tolerance: spec.app_failure_tolerance.unwrap_or_default(),
            profile: spec.performance_profile.unwrap_or_default(),
            energy_limit_percent: energy.map_err(|e| self.wrong("spec.appEnergyLimit", "0 to 100", &e))?,
            adopt_after: self.quantity(
                "spec.placement.adoptAfter",
                spec.placement.as_ref().and_then(|placement| placement.adopt_after.as_deref()),
            )?,
            services,
            channels,
        })
    }

    fn service_name(&self, field: &str, text: &str) -> Result<ServiceName, Wrong> {
        ServiceName::new(text).map_err(|_| self.wrong(field, "a name (RFC 1123)", &format_args!("{text:?}")))
    }

    fn quantity<Q: Quantity>(&self, field: &str, text: Option<&str>) -> Result<Option<Q>, Wrong> {
        let error = |e: super::quantity::QuantityError| {
            self.wrong(field, &e.expected, &format_args!("{:?}", e.found))
        };
        text.map(Q::parse_quantity).transpose().map_err(error)
    }

    fn service(
        &self,
        service: &ServiceSpec,
        namespace: &Namespace,
        app: &AppName,
        generation: u64,
    ) -> Result<ResolvedService, Wrong> {
        let name = self.service_name("serviceName", &service.service_name)?;
        let rules = self
            .spec
            .placement
            .as_ref()
            .map_or_else(PlacementRules::default, |placement| placement.rules_for(&service.service_name));
        let pod = &service.pod_spec;
        let mut containers = Vec::new();
        for container in &pod.containers {
            containers.push(self.container(container, namespace, app, &name)?);
        }
        let mut node_selector = pod.node_selector.clone();
        node_selector.extend(rules.node_selector.unwrap_or_default());
        let workload = WorkloadSpec {
            namespace: namespace.clone(),
            app: app.clone(),
            generation,
            resources: containers.iter().fold(Resources::default(), |sum, c| sum.plus(&c.requests)),
            containers,
            restart: pod.restart_policy.unwrap_or(Restart::Always).into(),
            stop_grace: Micros::from_secs(
                pod.termination_grace_period_seconds.unwrap_or(GRACE_SECONDS_DEFAULT),
            ),
            partition: rules.partition_policy.unwrap_or_else(|| pod.partition_default()).into(),
            pod_spec_json: serde_json::to_string(pod).map_err(|e| self.wrong("podspec", "a pod spec", &e))?,
            lost_after: self.quantity("lostAfter", rules.lost_after.as_deref())?,
        };
        Ok(ResolvedService {
            name,
            replicas: rules.replicas.unwrap_or(REPLICAS_DEFAULT),
            workload,
            cluster_selector: rules.cluster_selector.unwrap_or_default(),
            node_selector,
            regions: rules.residency.unwrap_or_default(),
            spread: rules.spread.unwrap_or_default(),
            lost_after: self.quantity("lostAfter", rules.lost_after.as_deref())?,
            on_reconnect: rules.on_reconnect.unwrap_or_default(),
            max_unavailable: rules
                .disruption_budget
                .and_then(|budget| budget.max_unavailable)
                .unwrap_or(MAX_UNAVAILABLE_DEFAULT),
        })
    }

    fn container(
        &self,
        container: &Container,
        namespace: &Namespace,
        app: &AppName,
        service: &ServiceName,
    ) -> Result<ContainerSpec, Wrong> {
        let text = |name: &str, default: &'static str| {
            container.resources.request(name).map_or_else(|| default.to_owned(), str::to_owned)
        };
        let cpu: Option<MilliCpu> = self.quantity("cpu", Some(&text("cpu", CPU_REQUEST_DEFAULT)))?;
        let memory: Option<Bytes> = self.quantity("memory", Some(&text("memory", MEMORY_REQUEST_DEFAULT)))?;
        let mut requests = Resources::new(cpu.unwrap_or_default(), memory.unwrap_or_default());
        // Limits first, so that a request of the same name wins.
        for (name, amount) in container.resources.limits.iter().chain(&container.resources.requests) {
            if name.contains('/') {
                let count = parse_count(amount).map_err(|e| self.wrong(name, &e.expected, &e.found))?;
                requests.extended.insert(name.clone(), count);
            }
        }
        let own = container.env.iter().filter(|env| env.value_from.is_none());
        let own = own.map(|env| (env.name.clone(), env.value.clone().unwrap_or_default()));
        let ours =
            [(ENV_APP, app.as_str()), (ENV_SERVICE, service.as_str()), (ENV_NAMESPACE, namespace.as_str())];
        let ours = ours.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Ok(ContainerSpec {
            name: container.name.clone(),
            image: container.image.clone().unwrap_or_default(),
            command: container.command.clone(),
            args: container.args.clone(),
            env: own.chain(ours).collect(),
            working_dir: container.working_dir.clone(),
            requests,
        })
    }

    fn channel(&self, channel: &Channel, from: &ServiceName) -> Result<ChannelSpec, Wrong> {
        let other = &channel.other_service;
        let to = self.service_name("otherService.serviceName", &other.service_name)?;
        let own = |app: &&str| *app == self.metadata.name || Some(*app) == self.spec.app_name.as_deref();
        let to_app = other.app_name.as_deref().filter(|app| !own(app)).map(AppName::new).transpose();
        let none = ChannelSettings::default();
        let settings = channel.advanced_channel_settings.as_ref().unwrap_or(&none);
        let bandwidth = settings.min_bandwidth.as_deref().or(settings.bandwidth.as_deref());
        let bandwidth: Option<BitsPerSecond> = self.quantity("bandwidth", bandwidth)?;
        let frame: Option<Bytes> = self.quantity("frameSize", settings.frame_size.as_deref())?;
        let interval: Option<Micros> = self.quantity("sendInterval", settings.send_interval.as_deref())?;
        Ok(ChannelSpec {
            name: channel.channel_name.clone().unwrap_or_else(|| format!("{from}-{to}")),
            from: from.clone(),
            to_app: to_app.map_err(|e| self.wrong("otherService.appName", "a name (RFC 1123)", &e.found))?,
            to,
            port: other.port,
            assured: channel.service_class == Some(ServiceClass::Assured),
            bandwidth: bandwidth.or_else(|| bandwidth_of(frame?, interval?)),
            delay_max: self.quantity("maxDelay", settings.max_delay.as_deref())?,
        })
    }
}

/// What frames of a size sent at an interval need, rounded up.
fn bandwidth_of(frame: Bytes, interval: Micros) -> Option<BitsPerSecond> {
    let bits_per_million_seconds = u128::from(frame.0).checked_mul(8 * 1_000_000)?;
    let interval = u128::from(interval.0);
    (interval > 0)
        .then(|| bits_per_million_seconds.div_ceil(interval))
        .and_then(|bits| u64::try_from(bits).ok())
        .map(BitsPerSecond)
}

/// Two services may each have a channel `uplink`: in the application they are told apart by the sender.
fn unique_name(channel: &mut ChannelSpec, names: &mut BTreeSet<String>) {
    let plain = channel.name.clone();
    let mut number = 1_u32;
    while !names.insert(channel.name.clone()) {
        number += 1;
        channel.name = if number == 2 {
            format!("{}-{plain}", channel.from)
        } else {
            format!("{}-{plain}-{number}", channel.from)
        };
    }
}
