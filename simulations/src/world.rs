//! The world of one schedule, and what each event does to it.

use std::collections::BTreeMap;

use codeco_actors::swm::home::{ClusterFacts, HomeConfig, HomeInput};
use codeco_actors::swm::lead::{LeadConfig, LeadInput};
use codeco_actors::swm::lease::LeaseConfig;
use codeco_actors::swm::ledger::{LedgerConfig, LedgerInput, RuntimeFact};
use codeco_protocol::ids::{ClusterName, MemberId, NodeName, ReplicaId};
use codeco_protocol::messages::{Addressee, ControlMessage};
use codeco_protocol::resources::Resources;
use codeco_protocol::token::Token;
use codeco_protocol::units::{BootTime, Bytes, Micros, MilliCpu};

use crate::apps::Users;
use crate::clock::Clock;
use crate::counts::Counts;
use crate::hosts::{HomeHost, LeadHost, NodeHost, member};
use crate::invariant::Violation;
use crate::log::EventLog;
use crate::network::Network;
use crate::oracle::Oracle;
use crate::queue::{Event, Queue};
use crate::runtime::{Runtime, State};

/// Age from which a summary no longer shows that its lead can be reached.
const SUMMARY_AGE_MAX: u64 = 3_000_000;

pub(crate) struct World {
    pub(crate) rng: fastrand::Rng,
    pub(crate) now: u64,
    pub(crate) queue: Queue,
    pub(crate) log: EventLog,
    pub(crate) network: Network,
    pub(crate) clocks: Vec<Clock>,
    pub(crate) nodes: Vec<NodeHost>,
    pub(crate) leads: Vec<LeadHost>,
    pub(crate) home: HomeHost,
    pub(crate) users: Users,
    pub(crate) oracle: Oracle,
    pub(crate) counts: Counts,
    /// Whether faults still happen.
    pub(crate) stormy: bool,
    pub(crate) disk_losses_left: u32,
    machines: BTreeMap<MemberId, usize>,
}

impl World {
    pub(crate) fn new(seed: u64, trace: bool) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let lease = LeaseConfig::default();
        let (mut nodes, mut leads, mut machines) = (Vec::new(), Vec::new(), BTreeMap::new());
        for cluster in 0..2 {
            for at in 0..rng.u32(2..=4) {
                let number = 0x10 * (cluster + 1) + at;
                machines.insert(member(number), nodes.len());
                if at == 0 {
                    let config = LeadConfig::new(member(number), cluster_name(cluster), lease);
                    leads.push(lead_host(config, nodes.len()));
                }
                nodes.push(node_host(number, cluster, lease, &mut rng));
            }
        }
        let id = member(1);
        machines.insert(id, nodes.len());
        let clocks = (0..=nodes.len()).map(|_| Clock::boot(0, &mut rng)).collect();
        let home = HomeHost {
            config: HomeConfig::new(id, rng.u64(..)),
            home: None,
            disk: Vec::new(),
            life: 0,
            tick_at: None,
            view: BTreeMap::new(),
            told: BTreeMap::new(),
        };
        Self {
            network: Network::new(&mut rng),
            rng,
            now: 0,
            queue: Queue::default(),
            log: EventLog::new(trace),
            clocks,
            nodes,
            leads,
            home,
            users: Users::default(),
            oracle: Oracle::default(),
            counts: Counts::default(),
            stormy: true,
            disk_losses_left: 2,
            machines,
        }
    }

    /// Puts the first events on the queue.
    pub(crate) fn begin(&mut self, faults_end: u64) {
        for node in 0..self.nodes.len() {
            let span = self.rng.u64(0..500_000);
            self.after(span, Event::AgentStart { node, life: 0 });
        }
        for cluster in 0..self.leads.len() {
            self.after(0, Event::LeadStart { cluster, life: 0 });
            self.after(100_000, Event::Summarize { cluster });
        }
        self.after(0, Event::HomeStart { life: 0 });
        self.after(200_000, Event::LookAround);
        self.after(800_000, Event::User);
        self.after(2_000_000, Event::Fault);
        self.after(faults_end, Event::FaultsEnd);
    }

    pub(crate) fn after(&mut self, span: u64, event: Event) {
        self.queue.push(self.now + span, event);
    }

    /// The machine of the home: the last one.
    pub(crate) fn home_machine(&self) -> usize {
        self.nodes.len()
    }

    pub(crate) fn read_clock(&self, machine: usize) -> BootTime {
        self.clocks[machine].read(self.now)
    }

    /// Hands a message to the network.
    pub(crate) fn send(&mut self, from: usize, to: MemberId, message: &ControlMessage) {
        let Some(&machine) = self.machines.get(&to) else { return };
        let fate = self.network.fate(from, machine, &mut self.rng);
        self.counts.cut += u64::from(fate.cut);
        self.counts.delayed += u64::from(fate.held_up);
        self.counts.lost += u64::from(fate.arrivals.is_empty() && !fate.cut);
        self.counts.repeated += fate.arrivals.len().saturating_sub(1) as u64;
        let sender = self.member_of(from);
        for span in fate.arrivals {
            self.after(span, Event::Deliver { from: sender, to, message: message.clone() });
        }
    }

    fn member_of(&self, machine: usize) -> MemberId {
        self.nodes.get(machine).map_or(self.home.config.id, |node| node.config.id)
    }

    /// Lets one event happen.
    pub(crate) fn handle(&mut self, event: Event) -> Result<(), Violation> {
        self.counts.events += 1;
        match event {
            Event::Deliver { from, to, message } => self.deliver(from, to, message),
            Event::LedgerTick { node, life } => {
                if self.nodes[node].life != life || self.nodes[node].tick_at != Some(self.now) {
                    return Ok(());
                }
                self.nodes[node].tick_at = None;
                self.feed_ledger(node, LedgerInput::Tick)
            }
            Event::LeadTick { cluster, life } => {
                if self.leads[cluster].life != life || self.leads[cluster].tick_at != Some(self.now) {
                    return Ok(());
                }
                self.leads[cluster].tick_at = None;
                self.feed_lead(cluster, LeadInput::Tick)
            }
            Event::HomeTick { life } => {
                if self.home.life != life || self.home.tick_at != Some(self.now) {
                    return Ok(());
                }
                self.home.tick_at = None;
                self.feed_home(HomeInput::Tick)
            }
            Event::AgentStart { node, life } if self.nodes[node].life == life => self.start_agent(node),
            Event::LeadStart { cluster, life } if self.leads[cluster].life == life => {
                self.start_lead(cluster)
            }
            Event::HomeStart { life } if self.home.life == life => self.start_home(),
            Event::AgentStart { .. } | Event::LeadStart { .. } | Event::HomeStart { .. } => Ok(()),
            Event::ProcessStarts { node, process } => self.process_starts(node, process),
            Event::ProcessReady { node, process } => self.process_ready(node, process),
            Event::ProcessStops { node, replica, token } => self.process_stops(node, replica, token),
            Event::GuardFires { node, boot } => self.guard_fires(node, boot),
            Event::GuardKills { node, boot } => self.guard_kills(node, boot),
            Event::Summarize { cluster } => self.summarize(cluster),
            Event::Summary { cluster, number, sent, facts } => self.summary(cluster, number, sent, facts),
            Event::LookAround => {
                self.after(1_000_000, Event::LookAround);
                self.look_around()
            }
            Event::User => self.user(),
            Event::Fault => self.fault(),
            Event::Heal { from, to } => {
                self.network.heal(from, to);
                Ok(())
            }
            Event::FaultsEnd => self.end_faults(),
            Event::Inspect => Ok(()),
        }
    }

    fn deliver(&mut self, from: MemberId, to: MemberId, message: ControlMessage) -> Result<(), Violation> {
        let Some(&machine) = self.machines.get(&to) else { return Ok(()) };
        self.counts.delivered += 1;
        self.log.line(self.now, format_args!("{to:?} <- {from:?} {}", crate::log::Brief(&message)));
        match message.addressee() {
            Addressee::Ledger if machine < self.nodes.len() => {
                self.feed_ledger(machine, LedgerInput::Message { from, message })
            }
            Addressee::Lead => match self.leads.iter().position(|host| host.node == machine) {
                Some(cluster) => self.feed_lead(cluster, LeadInput::Message { from, message }),
                None => Ok(()),
            },
            Addressee::Home if machine == self.home_machine() => {
                let sender = self.machines.get(&from).and_then(|machine| self.nodes.get(*machine));
                let Some(cluster) = sender.map(|node| node.cluster) else { return Ok(()) };
                let cluster = self.leads[cluster].config.cluster.clone();
                self.feed_home(HomeInput::Message { from, cluster, message })
            }
            Addressee::Ledger | Addressee::Home => Ok(()),
        }
    }

    fn process_starts(&mut self, node: usize, id: u64) -> Result<(), Violation> {
        let now = self.read_clock(node);
        let runtime = &mut self.nodes[node].runtime;
        let lease_holds = runtime.lease_holds(now);
        let Some(process) = runtime.by_id(id).filter(|process| process.state == State::Pending) else {
            return Ok(());
        };
        let (replica, token) = (process.workload.replica.clone(), process.workload.token);
        if process.is_fenced() && !lease_holds {
            runtime.remove(&replica, token);
            return self
                .feed_ledger(node, LedgerInput::Runtime { replica, token, fact: RuntimeFact::Fenced });
        }
        process.state = State::Running;
        self.log.line(self.now, format_args!("{:?} runs {replica} {token}", self.nodes[node].config.id));
        self.check_started(node, &replica, token)?;
        let span = self.rng.u64(1_000..800_000);
        self.after(span, Event::ProcessReady { node, process: id });
        self.feed_ledger(node, LedgerInput::Runtime { replica, token, fact: RuntimeFact::Starting })
    }

    fn process_ready(&mut self, node: usize, id: u64) -> Result<(), Violation> {
        let Some(process) = self.nodes[node].runtime.by_id(id).filter(|process| process.runs()) else {
            return Ok(());
        };
        process.state = State::Ready;
        self.oracle.serves(&process.workload.replica);
        let (replica, token) = (process.workload.replica.clone(), process.workload.token);
        self.feed_ledger(node, LedgerInput::Runtime { replica, token, fact: RuntimeFact::Ready })
    }

    fn process_stops(&mut self, node: usize, replica: ReplicaId, token: Token) -> Result<(), Violation> {
        self.nodes[node].runtime.remove(&replica, token);
        self.log.line(self.now, format_args!("{:?} stopped {replica} {token}", self.nodes[node].config.id));
        self.feed_ledger(node, LedgerInput::Runtime { replica, token, fact: RuntimeFact::Stopped })
    }

    /// The lease the guard knows of may have ended; it acts within the margin that leases allow for.
    fn guard_fires(&mut self, node: usize, boot: u64) -> Result<(), Violation> {
        let now = self.read_clock(node);
        if self.nodes[node].boot == boot && !self.nodes[node].runtime.lease_holds(now) {
            let span = self.rng.u64(0..400_000);
            self.after(span, Event::GuardKills { node, boot });
        }
        Ok(())
    }

    fn guard_kills(&mut self, node: usize, boot: u64) -> Result<(), Violation> {
        let now = self.read_clock(node);
        if self.nodes[node].boot != boot || self.nodes[node].runtime.lease_holds(now) {
            return Ok(());
        }
        for (replica, token) in self.nodes[node].runtime.kill_fenced() {
            self.counts.guard_kills += 1;
            self.log.line(self.now, format_args!("{:?} guard kills {replica}", self.nodes[node].config.id));
            self.feed_ledger(node, LedgerInput::Runtime { replica, token, fact: RuntimeFact::Fenced })?;
        }
        Ok(())
    }

    /// A lead condenses its cluster, as gossip would carry it to the home.
    fn summarize(&mut self, cluster: usize) -> Result<(), Violation> {
        self.after(500_000, Event::Summarize { cluster });
        let host = &mut self.leads[cluster];
        let Some(lead) = &host.lead else { return Ok(()) };
        host.summaries += 1;
        let (mut capacity, mut free) = (Resources::default(), Resources::default());
        for facts in lead.members().filter(|(_, m)| !m.lost).filter_map(|(_, m)| m.facts.as_ref()) {
            capacity = capacity.plus(&facts.capacity);
            free = free.plus(&facts.free);
        }
        let facts = ClusterFacts {
            name: host.config.cluster.clone(),
            lead: host.config.id,
            term: lead.term(),
            capacity,
            free,
            labels: BTreeMap::new(),
            round_trip: None,
            coordinate: None,
            age: Micros(0),
            reachable: true,
            traits: lead.traits(),
        };
        let (from, number, sent) = (host.node, host.summaries, self.now);
        for span in self.network.fate(from, self.home_machine(), &mut self.rng).arrivals {
            self.after(span, Event::Summary { cluster, number, sent, facts: facts.clone() });
        }
        Ok(())
    }

    fn summary(
        &mut self,
        cluster: usize,
        number: u64,
        sent: u64,
        facts: ClusterFacts,
    ) -> Result<(), Violation> {
        let name = self.leads[cluster].config.cluster.clone();
        if self.home.view.get(&name).is_none_or(|(known, ..)| *known < number) {
            self.home.view.insert(name, (number, sent, facts));
        }
        self.look_around()
    }

    fn look_around(&mut self) -> Result<(), Violation> {
        let now = self.now;
        let list = self.home.view.values().map(|(_, sent, facts)| ClusterFacts {
            age: Micros(now - sent),
            reachable: now - sent < SUMMARY_AGE_MAX,
            ..facts.clone()
        });
        let list = list.collect();
        self.feed_home(HomeInput::Clusters(list))
    }
}

fn cluster_name(cluster: u32) -> ClusterName {
    let name = if cluster == 0 { "east" } else { "west" };
    ClusterName::new(name).unwrap_or_else(|_| unreachable!("a literal RFC 1123 label"))
}

fn lead_host(config: LeadConfig, node: usize) -> LeadHost {
    LeadHost {
        config,
        node,
        lead: None,
        disk: Vec::new(),
        life: 0,
        tick_at: None,
        summaries: 0,
        told: std::collections::BTreeSet::new(),
    }
}

fn node_host(number: u32, cluster: u32, lease: LeaseConfig, rng: &mut fastrand::Rng) -> NodeHost {
    let name = NodeName::new(format!("n{number:x}")).unwrap_or_else(|_| unreachable!("an RFC 1123 label"));
    let disk = if rng.bool() { "ssd" } else { "hdd" };
    let capacity = Resources::new(MilliCpu(rng.u64(8..=20) * 100), Bytes(rng.u64(8..=20) * 100));
    NodeHost {
        config: LedgerConfig {
            id: member(number),
            name,
            labels: vec![("disk".into(), disk.into())],
            power: None,
            traits: Default::default(),
            lease,
            first_nonce: 0,
        },
        cluster: cluster as usize,
        ledger: None,
        disk: Vec::new(),
        runtime: Runtime::default(),
        capacity,
        foreign: Resources::default(),
        drained: false,
        life: 0,
        boot: 0,
        tick_at: None,
        told: std::collections::BTreeSet::new(),
    }
}
