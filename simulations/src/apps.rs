//! What users do: apply, change, scale, delete.

use codeco_actors::swm::home::{AppSpec, ServiceSpec};
use codeco_actors::swm::ledger::{LedgerInput, Upkeep};
use codeco_protocol::demands::Demands;
use codeco_protocol::ids::{AppName, AppUid, Namespace, ServiceName};
use codeco_protocol::messages::{AppContext, Profile};
use codeco_protocol::resources::Resources;
use codeco_protocol::units::{BitsPerSecond, Bytes, Micros, MilliCpu, WallTime};
use codeco_protocol::workload::{ChannelSpec, PartitionPolicy, RestartPolicy, WorkloadSpec};

use crate::invariant::Violation;
use crate::queue::Event;
use crate::world::World;

/// Names in use: few, so that deleted applications come back under another uid.
const NAMES: [&str; 5] = ["alpha", "beta", "gamma", "delta", "epsilon"];

#[derive(Debug, Default)]
pub(crate) struct Users {
    uids: u32,
}

impl World {
    /// One request of a user, and the time of the next.
    pub(crate) fn user(&mut self) -> Result<(), Violation> {
        if !self.stormy {
            return Ok(());
        }
        let span = self.rng.u64(200_000..3_500_000);
        self.after(span, Event::User);
        match self.rng.u8(0..8) {
            0 => return self.operate_on_a_node(),
            1 => return self.operate_on_a_cluster(),
            _ => {}
        }
        let now = self.read_clock(self.home_machine());
        let name = AppName::new(NAMES[self.rng.usize(0..NAMES.len())])
            .unwrap_or_else(|_| unreachable!("a literal RFC 1123 label"));
        let namespace =
            Namespace::new("default").unwrap_or_else(|_| unreachable!("a literal RFC 1123 label"));
        let kind = self.rng.u8(0..8);
        let fresh = self.new_app(&namespace, &name);
        let Some(home) = &mut self.home.home else { return Ok(()) };
        let mut out = Vec::new();
        let known = home.find(&namespace, &name).map(|(_, app)| app.spec.clone());
        let spec = match (known, kind) {
            (None, _) => {
                self.counts.applied += 1;
                fresh
            }
            (Some(_), 0..=1) => {
                if home.delete(now, &namespace, &name, &mut out).is_ok() {
                    self.counts.deleted += 1;
                }
                self.log.line(self.now, format_args!("user deletes {name}"));
                return self.carry_home_or_crash(out);
            }
            (Some(mut spec), 2..=4) => {
                self.counts.scaled += 1;
                let at = self.rng.usize(0..spec.services.len());
                spec.services[at].replicas = self.rng.u32(0..=4);
                spec
            }
            (Some(mut spec), _) => {
                self.counts.changed += 1;
                let at = self.rng.usize(0..spec.services.len());
                spec.services[at].spec.resources = some_resources(&mut self.rng);
                spec.services[at].spec.pod_spec_json = format!("{}", self.rng.u8(..));
                spec
            }
        };
        let applied = home.apply(now, WallTime(self.now / 1_000), spec, &mut out);
        self.log.line(self.now, format_args!("user applies {name}: {applied:?}"));
        self.carry_home_or_crash(out)
    }

    /// An operator cordons, drains or opens a node.
    fn operate_on_a_node(&mut self) -> Result<(), Violation> {
        let node = self.rng.usize(0..self.nodes.len());
        let upkeep = [Upkeep::Open, Upkeep::Cordoned, Upkeep::Draining][self.rng.usize(0..3)];
        self.set_upkeep(node, upkeep)
    }

    pub(crate) fn set_upkeep(&mut self, node: usize, upkeep: Upkeep) -> Result<(), Violation> {
        if self.nodes[node].ledger.is_none() {
            return Ok(());
        }
        self.counts.drains += u64::from(upkeep != Upkeep::Open);
        self.nodes[node].drained |= upkeep == Upkeep::Draining;
        self.log.line(self.now, format_args!("operator sets {:?} to {upkeep:?}", self.nodes[node].config.id));
        self.feed_ledger(node, LedgerInput::Upkeep(upkeep))
    }

    /// Nodes that are down are opened when they come back.
    pub(crate) fn open_all_nodes(&mut self) -> Result<(), Violation> {
        (0..self.nodes.len()).try_for_each(|node| self.set_upkeep(node, Upkeep::Open))
    }

    /// An operator drains a cluster, or ends that.
    fn operate_on_a_cluster(&mut self) -> Result<(), Violation> {
        let cluster = self.rng.usize(0..self.clusters.len());
        let drained = self.rng.bool();
        self.set_cluster_drained(cluster, drained)
    }

    pub(crate) fn set_cluster_drained(&mut self, cluster: usize, drained: bool) -> Result<(), Violation> {
        let now = self.read_clock(self.home_machine());
        let name = self.clusters[cluster].name.clone();
        let Some(home) = &mut self.home.home else { return Ok(()) };
        let mut out = Vec::new();
        if home.drain_cluster(now, &name, drained, &mut out) {
            self.counts.cluster_drains += u64::from(drained);
            self.log.line(self.now, format_args!("operator drains cluster {name}: {drained}"));
        }
        self.carry_home_or_crash(out)
    }

    fn new_app(&mut self, namespace: &Namespace, name: &AppName) -> AppSpec {
        self.users.uids += 1;
        let uid = AppUid(u128::from(0xa000_0000 + self.users.uids) << 96);
        let profiles = [Profile::Balanced, Profile::Resilience, Profile::Greenness, Profile::Cost];
        let partition =
            if self.rng.u8(0..3) < 2 { PartitionPolicy::Fence } else { PartitionPolicy::Autonomous };
        let services = ["s", "t"].iter().take(self.rng.usize(1..=2)).map(|service| ServiceSpec {
            name: ServiceName::new(*service).unwrap_or_else(|_| unreachable!("a literal RFC 1123 label")),
            replicas: self.rng.u32(1..=3),
            spec: WorkloadSpec {
                namespace: namespace.clone(),
                app: name.clone(),
                generation: 0,
                containers: Vec::new(),
                restart: RestartPolicy::Always,
                stop_grace: Micros::from_secs(1),
                resources: some_resources(&mut self.rng),
                partition,
                pod_spec_json: String::new(),
                lost_after: None,
            },
            node_selector: if self.rng.u8(0..4) == 0 {
                vec![("disk".into(), "ssd".into())]
            } else {
                Vec::new()
            },
            cluster_selector: Vec::new(),
            max_unavailable: self.rng.u32(1..=2),
            on_reconnect: Default::default(),
            spread: Default::default(),
            regions: Vec::new(),
        });
        let services: Vec<ServiceSpec> = services.collect();
        let profile = profiles[self.rng.usize(0..profiles.len())];
        // Half of the applications of two services have a channel between them, which not every link has room for.
        let talks = services.len() == 2 && matches!(profile, Profile::Resilience | Profile::Cost);
        let channels = talks.then(|| channel(&services)).into_iter().collect();
        AppSpec {
            context: AppContext {
                uid,
                namespace: namespace.clone(),
                name: name.clone(),
                profile,
                channels,
                demands: Demands {
                    copies: services.iter().map(|s| (s.name.clone(), s.replicas)).collect(),
                    ..Demands::default()
                },
            },
            services,
            manifest_json: String::new(),
        }
    }
}

fn channel(services: &[ServiceSpec]) -> ChannelSpec {
    ChannelSpec {
        name: "link".into(),
        from: services[0].name.clone(),
        to_app: None,
        to: services[1].name.clone(),
        port: None,
        assured: true,
        bandwidth: Some(BitsPerSecond(40)),
        delay_max: None,
    }
}

fn some_resources(rng: &mut fastrand::Rng) -> Resources {
    Resources::new(MilliCpu(rng.u64(1..=7) * 100), Bytes(rng.u64(1..=7) * 100))
}
