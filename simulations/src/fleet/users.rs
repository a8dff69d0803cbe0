//! What users ask for: applications, changes, deletions.

use codeco_actors::swm::home::{AppSpec, ServiceSpec};
use codeco_actors::swm::ledger::Upkeep;
use codeco_protocol::demands::Demands;
use codeco_protocol::ids::{AppName, AppUid, Namespace, ServiceName};
use codeco_protocol::messages::{AppContext, Profile};
use codeco_protocol::resources::Resources;
use codeco_protocol::units::{BitsPerSecond, Bytes, Micros, MilliCpu, WallTime};
use codeco_protocol::workload::{ChannelSpec, PartitionPolicy, RestartPolicy, WorkloadSpec};

use super::world::World;
use crate::invariant::Violation;

fn namespace() -> Namespace {
    Namespace::new("default").unwrap_or_else(|_| unreachable!("an RFC 1123 label"))
}

fn percent(lot: &mut fastrand::Rng, of_hundred: u32) -> bool {
    lot.u32(0..100) < of_hundred
}

impl World {
    /// One request of a user or an operator.
    pub(crate) fn user(&mut self, lot: &mut fastrand::Rng) -> Result<(), Violation> {
        match lot.u8(0..12) {
            0 => {
                let at = lot.usize(self.scenario.fleet.hubs..self.machines.len());
                let upkeep = [Upkeep::Open, Upkeep::Cordoned, Upkeep::Draining][lot.usize(0..3)];
                self.note(at, format_args!("is set to {upkeep:?} by an operator"));
                return self.set_upkeep(at, upkeep);
            }
            1 => {
                let cluster = lot.usize(0..self.clusters.len());
                let drained = lot.bool();
                self.log.line(self.now, format_args!("operator drains c{cluster}: {drained}"));
                return self.set_cluster_drained(cluster, drained);
            }
            _ => {}
        }
        let known: Vec<(usize, AppSpec)> = self
            .apps()
            .values()
            .filter(|(_, app)| !app.deleting)
            .map(|(at, app)| (*at, app.spec.clone()))
            .collect();
        let kind = lot.u8(0..8);
        if known.is_empty() || (kind == 0 && known.len() < 2 * self.scenario.users.apps) {
            return self.new_app(lot);
        }
        let (at, mut spec) = known[lot.usize(0..known.len())].clone();
        let service = lot.usize(0..spec.services.len());
        match kind {
            1 => {
                let now = self.read_clock(at);
                let Some(home) = self.machines[at].process.as_mut().and_then(|p| p.home.as_mut()) else {
                    return Ok(());
                };
                let mut out = Vec::new();
                if home.delete(now, &spec.context.namespace, &spec.context.name, &mut out).is_ok() {
                    self.counts.deleted += 1;
                }
                self.note(at, format_args!("user deletes {}", spec.context.name));
                return self.carry_home(at, out);
            }
            2..=4 => {
                self.counts.scaled += 1;
                let (least, most) = self.scenario.users.replicas;
                spec.services[service].replicas = lot.u32(least.saturating_sub(1)..=most);
            }
            _ => {
                self.counts.changed += 1;
                spec.services[service].spec.resources = self.some_resources(lot);
                spec.services[service].spec.pod_spec_json = format!("{}", lot.u8(..));
            }
        }
        self.apply(at, spec)
    }

    /// A new application, at a hub or at an agent.
    pub(crate) fn new_app(&mut self, lot: &mut fastrand::Rng) -> Result<(), Violation> {
        let hubs = self.scenario.fleet.hubs;
        let at_agent = hubs == 0 || percent(lot, self.scenario.users.at_agents_percent);
        let at = if at_agent { lot.usize(hubs..self.machines.len()) } else { lot.usize(0..hubs) };
        let spec = self.some_app(lot);
        self.counts.applied += 1;
        self.inform_home(at)?;
        self.apply(at, spec)
    }

    fn apply(&mut self, at: usize, spec: AppSpec) -> Result<(), Violation> {
        let (now, wall) = (self.read_clock(at), WallTime(self.now / 1_000));
        let name = spec.context.name.clone();
        let Some(home) = self.machines[at].process.as_mut().and_then(|process| process.home.as_mut()) else {
            return Ok(());
        };
        let mut out = Vec::new();
        let applied = home.apply(now, wall, spec, &mut out);
        self.note(at, format_args!("user applies {name}: {applied:?}"));
        self.carry_home(at, out)
    }

    fn some_resources(&self, lot: &mut fastrand::Rng) -> Resources {
        let (least, most) = self.scenario.users.cpu;
        let size = lot.u64(least..=most);
        Resources::new(MilliCpu(size), Bytes(size))
    }

    fn some_app(&mut self, lot: &mut fastrand::Rng) -> AppSpec {
        self.uids += 1;
        let users = self.scenario.users.clone();
        let uid = AppUid(u128::from(0xa000_0000 + self.uids) << 96);
        // Few names, so that deleted applications come back under another uid.
        let most = 4 * u32::try_from(users.apps.max(1)).unwrap_or(u32::MAX / 4);
        let name = AppName::new(format!("app-{}", self.uids % most))
            .unwrap_or_else(|_| unreachable!("an RFC 1123 label"));
        let profiles = [Profile::Balanced, Profile::Resilience, Profile::Greenness, Profile::Cost];
        let fenced = percent(lot, users.fenced_percent);
        let services: Vec<ServiceSpec> = ["s", "t"]
            .iter()
            .take(lot.usize(1..=2))
            .map(|service| ServiceSpec {
                name: ServiceName::new(*service).unwrap_or_else(|_| unreachable!("an RFC 1123 label")),
                replicas: lot.u32(users.replicas.0..=users.replicas.1),
                spec: WorkloadSpec {
                    namespace: namespace(),
                    app: name.clone(),
                    generation: 0,
                    containers: Vec::new(),
                    restart: RestartPolicy::Always,
                    stop_grace: Micros::from_secs(1),
                    resources: self.some_resources(lot),
                    partition: if fenced { PartitionPolicy::Fence } else { PartitionPolicy::Autonomous },
                    pod_spec_json: String::new(),
                    lost_after: percent(lot, users.lost_after_percent)
                        .then(|| Micros::from_secs(users.lost_after_s)),
                },
                node_selector: if lot.u8(0..6) == 0 {
                    vec![("disk".into(), "ssd".into())]
                } else {
                    Vec::new()
                },
                cluster_selector: Vec::new(),
                max_unavailable: lot.u32(1..=2),
                on_reconnect: Default::default(),
                spread: Default::default(),
                regions: Vec::new(),
            })
            .collect();
        let channel = (services.len() == 2 && lot.bool()).then(|| ChannelSpec {
            name: "link".into(),
            from: services[0].name.clone(),
            to_app: None,
            to: services[1].name.clone(),
            port: None,
            assured: true,
            bandwidth: Some(BitsPerSecond(40)),
            delay_max: None,
        });
        let adopted = !fenced && percent(lot, users.adopt_percent);
        AppSpec {
            context: AppContext {
                uid,
                namespace: namespace(),
                name,
                profile: profiles[lot.usize(0..profiles.len())],
                channels: channel.into_iter().collect(),
                demands: Demands {
                    copies: services.iter().map(|s| (s.name.clone(), s.replicas)).collect(),
                    adopt_after: adopted.then(|| Micros::from_secs(users.adopt_after_s)),
                    ..Demands::default()
                },
            },
            services,
            manifest_json: String::new(),
        }
    }
}
