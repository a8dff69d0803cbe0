//! The fleet in virtual time, and what each event does to it.

use std::collections::{BTreeMap, BTreeSet};

use codeco_actors::swm::election::elector::{ElectorConfig, ElectorInput, founding};
use codeco_actors::swm::election::electorate::Voter;
use codeco_actors::swm::home::HomeInput;
use codeco_actors::swm::lead::LeadConfig;
use codeco_actors::swm::lease::LeaseConfig;
use codeco_actors::swm::ledger::{LedgerConfig, LedgerInput};
use codeco_protocol::demands::NodeTraits;
use codeco_protocol::gossip::{GossipMessage, Parting, Probe, RingConfig};
use codeco_protocol::ids::{ClusterName, Incarnation, MemberId, NodeName, ReplicaId};
use codeco_protocol::messages::ControlMessage;
use codeco_protocol::resources::Resources;
use codeco_protocol::token::Token;
use codeco_protocol::units::{BitsPerSecond, BootTime, Bytes, Micros, MilliCpu, MilliWatts};

use super::counts::Counts;
use super::invariants::Oracles;
use super::machine::{Disk, Machine, NodePart, machine_of, member};
use super::net::Net;
use super::planted::Planted;
use super::process::identity;
use super::scenario::{Act, Profile, Scenario};
use super::series::Series;
use crate::clock::Clock;
use crate::invariant::Violation;
use crate::log::EventLog;
use crate::runtime::Runtime;
use crate::wheel::Queue;

/// Something that happens at one point of true time. Numbers of lives and links make events of the dead void.
#[derive(Debug)]
pub(crate) enum Event {
    Ring {
        at: usize,
        life: u64,
    },
    Ledger {
        at: usize,
        life: u64,
    },
    Elector {
        at: usize,
        life: u64,
    },
    Home {
        at: usize,
        life: u64,
    },
    /// Look at what is known of others.
    Look {
        at: usize,
        life: u64,
    },
    /// Tell others what was written.
    Tell {
        at: usize,
        life: u64,
    },
    Talk {
        at: usize,
        peer: usize,
        link: u64,
    },
    Probe {
        to: usize,
        from: usize,
        link: u64,
        probe: Probe,
    },
    Gossip {
        to: usize,
        from: usize,
        link: u64,
        message: Box<GossipMessage>,
    },
    Control {
        to: usize,
        from: usize,
        message: Box<ControlMessage>,
    },
    Connect {
        from: usize,
        to: usize,
        life: u64,
    },
    DialFailed {
        at: usize,
        to: usize,
        life: u64,
    },
    /// The other end of a connection says that it is over, or is silent for too long.
    Lost {
        at: usize,
        peer: usize,
        link: u64,
        parting: Parting,
    },
    /// Whether a connection across a cut is still cut.
    Idle {
        a: usize,
        b: usize,
        link: u64,
    },
    Start {
        at: usize,
        life: u64,
    },
    /// A core that failed is started again.
    Revive {
        at: usize,
        life: u64,
        core: Core,
    },
    ProcessStarts {
        at: usize,
        boot: u64,
        process: u64,
    },
    ProcessReady {
        at: usize,
        boot: u64,
        process: u64,
    },
    ProcessStops {
        at: usize,
        boot: u64,
        replica: ReplicaId,
        token: Token,
    },
    GuardFires {
        at: usize,
        boot: u64,
    },
    GuardKills {
        at: usize,
        boot: u64,
    },
    Act(Box<Act>),
    Heal {
        cut: u64,
    },
    /// An operator releases the brake of a lead.
    Unbrake {
        at: usize,
        life: u64,
    },
    FaultsEnd,
    Sample,
    Inspect,
}

/// A core of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Core {
    Ledger,
    Elector,
    Home,
}

pub(crate) struct World {
    pub(crate) scenario: Scenario,
    pub(crate) planted: Option<Planted>,
    pub(crate) rng: fastrand::Rng,
    pub(crate) now: u64,
    pub(crate) queue: Queue<Event>,
    pub(crate) log: EventLog,
    pub(crate) net: Net,
    pub(crate) ring: RingConfig,
    pub(crate) machines: Vec<Machine>,
    pub(crate) clusters: Vec<ClusterName>,
    pub(crate) next_link: u64,
    pub(crate) oracles: Oracles,
    pub(crate) counts: Counts,
    pub(crate) series: Series,
    /// Whether faults still happen.
    pub(crate) stormy: bool,
    pub(crate) uids: u32,
    /// Bytes and messages sent by each machine.
    pub(crate) sent: Vec<(u64, u64)>,
    pub(crate) sizes: super::traffic::Sizes,
}

impl World {
    pub(crate) fn new(scenario: &Scenario, seed: u64, planted: Option<Planted>, trace: bool) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let shape = &scenario.fleet;
        let span = scenario.network.span_km.max(0.0);
        let mut places = Vec::new();
        for _ in 0..=shape.clusters {
            places.push((rng.f64() * span, rng.f64() * span));
        }
        let ring = match shape.profile {
            Profile::Lan => RingConfig::lan(),
            Profile::Metered => RingConfig::metered(),
        };
        let (mut machines, mut sites) = (Vec::new(), Vec::new());
        let clusters: Vec<ClusterName> = (0..shape.clusters).map(cluster_name).collect();
        for hub in 0..shape.hubs {
            sites.push(0);
            machines.push(machine(hub, format!("hub-{hub}"), None, &mut rng));
        }
        for (cluster, name) in clusters.iter().enumerate() {
            for index in 0..shape.nodes {
                let at = machines.len();
                sites.push(u32::try_from(cluster + 1).unwrap_or(0));
                let node = node_part(at, cluster, name, index == 0, scenario, &mut rng);
                machines.push(machine(at, node.ledger.name.to_string(), Some((name, node)), &mut rng));
            }
        }
        let count = machines.len();
        Self {
            net: Net::new(scenario.network, sites, &places),
            scenario: scenario.clone(),
            planted,
            rng,
            now: 0,
            queue: Queue::new(),
            log: EventLog::new(trace),
            ring,
            machines,
            clusters,
            next_link: 0,
            oracles: Oracles::default(),
            counts: Counts::default(),
            series: Series::default(),
            stormy: true,
            uids: 0,
            sent: vec![(0, 0); count],
            sizes: super::traffic::Sizes::default(),
        }
    }

    pub(crate) fn after(&mut self, span: u64, event: Event) {
        self.queue.push(self.now + span, event);
    }

    pub(crate) fn read_clock(&self, at: usize) -> BootTime {
        self.machines[at].clock.read(self.now)
    }

    /// True time at which a machine's clock shows `when`, at the earliest now.
    pub(crate) fn when(&self, at: usize, when: BootTime) -> u64 {
        self.machines[at].clock.when(when).max(self.now)
    }

    pub(crate) fn nodes(&self) -> impl Iterator<Item = (usize, &Machine, &NodePart)> {
        self.machines
            .iter()
            .enumerate()
            .filter_map(|(at, machine)| Some((at, machine, machine.node.as_ref()?)))
    }

    pub(crate) fn nodes_of(&self, cluster: usize) -> std::ops::Range<usize> {
        let first = self.scenario.fleet.hubs + cluster * self.scenario.fleet.nodes;
        first..first + self.scenario.fleet.nodes
    }

    /// A line of the log about a machine.
    pub(crate) fn note(&mut self, at: usize, text: std::fmt::Arguments<'_>) {
        self.log.line(self.now, format_args!("{} {text}", self.machines[at].name));
    }

    /// The machine whose process an event is for, if it has to wait while that is held up.
    fn waits_at(event: &Event) -> Option<usize> {
        match event {
            Event::Ring { at, .. }
            | Event::Ledger { at, .. }
            | Event::Elector { at, .. }
            | Event::Home { at, .. }
            | Event::Look { at, .. }
            | Event::Tell { at, .. }
            | Event::Talk { at, .. }
            | Event::Revive { at, .. }
            | Event::DialFailed { at, .. }
            | Event::Lost { at, .. } => Some(*at),
            Event::Probe { to, .. }
            | Event::Gossip { to, .. }
            | Event::Control { to, .. }
            | Event::Connect { to, .. } => Some(*to),
            _ => None,
        }
    }

    /// Lets one event happen.
    pub(crate) fn handle(&mut self, event: Event) -> Result<(), Violation> {
        if let Some(at) = Self::waits_at(&event) {
            let held = self.machines[at].held_until;
            if held > self.now {
                self.queue.push(held + 1, event);
                return Ok(());
            }
            if self.machines[at].slow_until > self.now && self.rng.u8(..) < 24 {
                // Somebody else has the processor for a while.
                self.machines[at].held_until = self.now + self.rng.u64(5_000..400_000);
            }
        }
        self.counts.events += 1;
        match event {
            Event::Ring { at, life } if self.lives(at, life) => self.tick_ring(at),
            Event::Ledger { at, life } if self.due(at, life, |ticks| &mut ticks.ledger) => {
                self.feed_ledger(at, LedgerInput::Tick)
            }
            Event::Elector { at, life } if self.due(at, life, |ticks| &mut ticks.elector) => {
                self.feed_elector(at, ElectorInput::Tick)
            }
            Event::Home { at, life } if self.due(at, life, |ticks| &mut ticks.home) => {
                self.feed_home(at, HomeInput::Tick)
            }
            Event::Look { at, life } if self.due(at, life, |ticks| &mut ticks.look) => self.look(at),
            Event::Tell { at, life } if self.due(at, life, |ticks| &mut ticks.tell) => {
                self.tell(at);
                Ok(())
            }
            Event::Talk { at, peer, link } => {
                self.talk(at, peer, link);
                Ok(())
            }
            Event::Probe { to, from, link, probe } => self.probed(to, from, link, probe),
            Event::Gossip { to, from, link, message } => self.heard(to, from, link, *message),
            Event::Control { to, from, message } => self.deliver(to, from, *message),
            Event::Connect { from, to, life } => self.connect(from, to, life),
            Event::DialFailed { at, to, life } if self.lives(at, life) => self.dial_failed(at, to),
            Event::Lost { at, peer, link, parting } => self.lose_link(at, peer, link, parting),
            Event::Idle { a, b, link } => self.idle(a, b, link),
            Event::Start { at, life } if self.machines[at].life == life => self.start(at),
            Event::Revive { at, life, core } if self.lives(at, life) => self.revive(at, core),
            Event::ProcessStarts { at, boot, process } if self.machines[at].boot == boot => {
                self.process_starts(at, process)
            }
            Event::ProcessReady { at, boot, process } if self.machines[at].boot == boot => {
                self.process_ready(at, process)
            }
            Event::ProcessStops { at, boot, replica, token } if self.machines[at].boot == boot => {
                self.process_stops(at, replica, token)
            }
            Event::GuardFires { at, boot } if self.machines[at].boot == boot => {
                self.guard_fires(at);
                Ok(())
            }
            Event::GuardKills { at, boot } if self.machines[at].boot == boot => self.guard_kills(at),
            Event::Act(act) => self.act(&act),
            Event::Heal { cut } => {
                if self.net.heal(cut) {
                    self.log.line(self.now, format_args!("cut {cut} heals"));
                }
                Ok(())
            }
            Event::Unbrake { at, life } if self.lives(at, life) => self.unbrake(at),
            Event::FaultsEnd => self.end_faults(),
            Event::Sample => {
                self.sample();
                Ok(())
            }
            Event::Inspect => Ok(()),
            // Of a process or a machine that is no more.
            _ => Ok(()),
        }
    }

    pub(crate) fn lives(&self, at: usize, life: u64) -> bool {
        self.machines[at].life == life && self.machines[at].process.is_some()
    }

    fn due(
        &mut self,
        at: usize,
        life: u64,
        tick: impl Fn(&mut super::process::Ticks) -> &mut Option<u64>,
    ) -> bool {
        let now = self.now;
        if !self.lives(at, life) {
            return false;
        }
        let Some(process) = &mut self.machines[at].process else { return false };
        let tick = tick(&mut process.ticks);
        // While it was held up, time has passed.
        let due = tick.is_some_and(|known| known <= now);
        if due {
            *tick = None;
        }
        due
    }

    /// From which machine a member is.
    pub(crate) fn machine(&self, member: MemberId) -> Option<usize> {
        Some(machine_of(member)).filter(|at| *at < self.machines.len())
    }
}

fn cluster_name(number: usize) -> ClusterName {
    ClusterName::new(format!("c{number}")).unwrap_or_else(|_| unreachable!("an RFC 1123 label"))
}

fn machine(
    at: usize,
    name: String,
    node: Option<(&ClusterName, NodePart)>,
    rng: &mut fastrand::Rng,
) -> Machine {
    let mut disk = Disk::default();
    let cluster = node.as_ref().map(|(name, _)| (*name).clone());
    let node = node.map(|(_, node)| node);
    if let Some(founder) = node.as_ref().filter(|node| node.elector.first_nonce == 1) {
        let voter = Voter { member: founder.ledger.id, incarnation: Incarnation(1) };
        disk.election.replace(founding(voter, Vec::new()));
    }
    Machine {
        identity: identity(at, cluster.as_ref()),
        name,
        clock: Clock::boot(0, rng),
        boot: 0,
        life: 0,
        disk,
        node,
        process: None,
        held_until: 0,
        slow_until: 0,
        down_until: 0,
        offered: BTreeMap::new(),
    }
}

fn node_part(
    at: usize,
    cluster: usize,
    name: &ClusterName,
    founds: bool,
    scenario: &Scenario,
    rng: &mut fastrand::Rng,
) -> NodePart {
    let lease = LeaseConfig::default();
    let (least, most) = scenario.fleet.cpu;
    let cpu = rng.u64(least..=most);
    let disk = if rng.bool() { "ssd" } else { "hdd" };
    let mut lead = LeadConfig::new(member(at), name.clone(), lease);
    lead.uplink = Some(BitsPerSecond(1_000));
    // Whoever founds its cluster's electorate is known by this nonce until it starts.
    let mut elector = ElectorConfig::new(lead, u64::from(founds), rng.u64(..));
    if rng.bool() {
        // Some clusters are quick to replace a voter that is silent.
        elector.lost_after = Micros::from_secs(6);
    }
    let node = at;
    NodePart {
        cluster,
        ledger: LedgerConfig {
            id: member(at),
            name: NodeName::new(format!("n{node}")).unwrap_or_else(|_| unreachable!("an RFC 1123 label")),
            labels: vec![("disk".into(), disk.into())],
            power: Some((
                MilliWatts(scenario.fleet.power_w.0 * 1_000),
                MilliWatts(scenario.fleet.power_w.1 * 1_000),
            )),
            traits: NodeTraits { link: Some(BitsPerSecond(1_000)), ..NodeTraits::default() },
            lease,
            first_nonce: 0,
        },
        elector,
        capacity: Resources::new(MilliCpu(cpu), Bytes(cpu)),
        foreign: Resources::default(),
        lies: false,
        drained: false,
        runtime: Runtime::default(),
        told: BTreeSet::new(),
    }
}
