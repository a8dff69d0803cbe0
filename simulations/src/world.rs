//! The world of one schedule, and what each event does to it.

use std::collections::BTreeMap;

use codeco_actors::swm::election::elector::{ElectorConfig, ElectorInput, founding};
use codeco_actors::swm::election::electorate::{Electorate, Voter};
use codeco_actors::swm::home::{ClusterFacts, HomeConfig, HomeInput};
use codeco_actors::swm::lead::{Lead, LeadConfig};
use codeco_actors::swm::lease::LeaseConfig;
use codeco_actors::swm::ledger::{LedgerConfig, LedgerInput, RuntimeFact};
use codeco_protocol::demands::NodeTraits;
use codeco_protocol::ids::{ClusterName, Incarnation, MemberId, NodeName, ReplicaId};
use codeco_protocol::messages::{Addressee, ControlMessage};
use codeco_protocol::resources::Resources;
use codeco_protocol::token::{Term, Token};
use codeco_protocol::units::{BitsPerSecond, BootTime, Bytes, Micros, MilliCpu};

use crate::apps::Users;
use crate::clock::Clock;
use crate::counts::Counts;
use crate::hosts::{ClusterHost, ElectorHost, HomeHost, NodeHost, member};
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
    /// One for each node, in the same order.
    pub(crate) electors: Vec<ElectorHost>,
    pub(crate) clusters: Vec<ClusterHost>,
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
        let (mut nodes, mut electors, mut machines) = (Vec::new(), Vec::new(), BTreeMap::new());
        let mut clusters = Vec::new();
        for cluster in 0..2 {
            clusters.push(ClusterHost {
                name: cluster_name(cluster),
                summaries: 0,
                told: std::collections::BTreeSet::new(),
                last_lead: None,
            });
            // Some clusters are quick to replace a voter that is silent.
            let lost_after = if rng.bool() { Micros::from_secs(6) } else { Micros::from_secs(90) };
            for at in 0..rng.u32(2..=4) {
                let number = 0x10 * (cluster + 1) + at;
                machines.insert(member(number), nodes.len());
                let mut config = LeadConfig::new(member(number), cluster_name(cluster), lease);
                config.uplink = Some(BitsPerSecond(60));
                let config = ElectorConfig { lost_after, ..ElectorConfig::new(config, 0, rng.u64(..)) };
                electors.push(elector_host(config, at == 0));
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
            electors,
            clusters,
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
            self.after(span / 2, Event::ElectorStart { node, life: 0 });
            self.after(100_000, Event::Announce { node });
            self.after(100_000, Event::Summarize { node });
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
            Event::ElectorTick { node, life } => {
                if self.electors[node].life != life || self.electors[node].tick_at != Some(self.now) {
                    return Ok(());
                }
                self.electors[node].tick_at = None;
                self.feed_elector(node, ElectorInput::Tick)
            }
            Event::HomeTick { life } => {
                if self.home.life != life || self.home.tick_at != Some(self.now) {
                    return Ok(());
                }
                self.home.tick_at = None;
                self.feed_home(HomeInput::Tick)
            }
            Event::AgentStart { node, life } if self.nodes[node].life == life => self.start_agent(node),
            Event::ElectorStart { node, life } if self.electors[node].life == life => {
                self.start_elector(node)
            }
            Event::HomeStart { life } if self.home.life == life => self.start_home(),
            Event::AgentStart { .. } | Event::ElectorStart { .. } | Event::HomeStart { .. } => Ok(()),
            Event::ProcessStarts { node, process } => self.process_starts(node, process),
            Event::ProcessReady { node, process } => self.process_ready(node, process),
            Event::ProcessStops { node, replica, token } => self.process_stops(node, replica, token),
            Event::GuardFires { node, boot } => self.guard_fires(node, boot),
            Event::GuardKills { node, boot } => self.guard_kills(node, boot),
            Event::Announce { node } => self.announce(node),
            Event::Hears { node, term, electorate } => self.hears(node, term, electorate),
            Event::Summarize { node } => self.summarize(node),
            Event::Summary { number, sent, facts } => self.summary(number, sent, facts),
            Event::LookAround => {
                self.after(1_000_000, Event::LookAround);
                self.look_around()
            }
            Event::User => self.user(),
            Event::ReleaseBrake { node } => self.release_brake(node),
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
            Addressee::Lead if machine < self.nodes.len() => {
                self.feed_elector(machine, ElectorInput::Message { from, message })
            }
            Addressee::Home if machine == self.home_machine() => {
                let sender = self.machines.get(&from).and_then(|machine| self.nodes.get(*machine));
                let Some(cluster) = sender.map(|node| node.cluster) else { return Ok(()) };
                let cluster = self.clusters[cluster].name.clone();
                self.feed_home(HomeInput::Message { from, cluster, message })
            }
            Addressee::Ledger | Addressee::Lead | Addressee::Home => Ok(()),
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
    fn summarize(&mut self, node: usize) -> Result<(), Violation> {
        self.after(500_000, Event::Summarize { node });
        let now = self.read_clock(node);
        let host = &mut self.electors[node];
        let Some(lead) = host.elector.as_ref().filter(|e| e.leads(now)).and_then(|e| e.in_office()) else {
            return Ok(());
        };
        let cluster = &mut self.clusters[self.nodes[node].cluster];
        cluster.summaries += 1;
        let (mut capacity, mut free) = (Resources::default(), Resources::default());
        for facts in lead.members().filter(|(_, m)| !m.lost).filter_map(|(_, m)| m.facts.as_ref()) {
            capacity = capacity.plus(&facts.capacity);
            free = free.plus(&facts.free);
        }
        let facts = ClusterFacts {
            name: cluster.name.clone(),
            lead: host.config.lead.id,
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
        let (number, sent) = (cluster.summaries, self.now);
        for span in self.network.fate(node, self.home_machine(), &mut self.rng).arrivals {
            self.after(span, Event::Summary { number, sent, facts: facts.clone() });
        }
        Ok(())
    }

    fn summary(&mut self, number: u64, sent: u64, facts: ClusterFacts) -> Result<(), Violation> {
        let name = facts.name.clone();
        let newer = |known: &(u64, u64, ClusterFacts)| (known.2.term, known.0) < (facts.term, number);
        if self.home.view.get(&name).is_none_or(newer) {
            self.home.view.insert(name, (number, sent, facts));
        }
        self.look_around()
    }

    /// A lead says that it leads, as gossip would carry it to the nodes of its cluster.
    fn announce(&mut self, node: usize) -> Result<(), Violation> {
        self.after(200_000, Event::Announce { node });
        let now = self.read_clock(node);
        let Some(elector) = self.electors[node].elector.as_ref().filter(|e| e.leads(now)) else {
            return Ok(());
        };
        let Some((lead, electorate)) = elector.in_office().zip(elector.electorate()) else { return Ok(()) };
        let (term, electorate) = (lead.term(), electorate.clone());
        let cluster = self.nodes[node].cluster;
        for to in 0..self.nodes.len() {
            if self.nodes[to].cluster != cluster {
                continue;
            }
            for span in self.network.fate(node, to, &mut self.rng).arrivals {
                self.after(span, Event::Hears { node: to, term, electorate: electorate.clone() });
            }
        }
        Ok(())
    }

    fn hears(&mut self, node: usize, term: Term, electorate: Electorate) -> Result<(), Violation> {
        self.feed_elector(node, ElectorInput::Heard { term, electorate })?;
        let host = &mut self.nodes[node];
        if host.ledger.is_some() && host.heard < term {
            host.heard = term;
            self.feed_ledger(node, LedgerInput::LeadIs(term.owner))?;
        }
        Ok(())
    }

    /// The elector that leads a cluster now, and its lead.
    pub(crate) fn lead_of(&self, cluster: usize) -> Option<(usize, &Lead)> {
        let of_cluster = (0..self.nodes.len()).filter(|node| self.nodes[*node].cluster == cluster);
        let leading = of_cluster.filter_map(|node| {
            let elector = self.electors[node].elector.as_ref()?;
            let lead = elector.in_office().filter(|_| elector.leads(self.read_clock(node)))?;
            Some((node, lead))
        });
        leading.max_by_key(|(_, lead)| lead.term())
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

fn elector_host(config: ElectorConfig, founds: bool) -> ElectorHost {
    let voter = Voter { member: config.lead.id, incarnation: Incarnation(1) };
    let disk = if founds { founding(voter, Vec::new()) } else { Vec::new() };
    ElectorHost { config, elector: None, disk, life: 0, tick_at: None }
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
            traits: NodeTraits { link: Some(BitsPerSecond(100)), ..NodeTraits::default() },
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
        heard: Term::default(),
    }
}
