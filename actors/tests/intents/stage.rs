//! A home, leads and ledgers, the cores themselves, with messages passed by hand and time that stands until moved.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use codeco_actors::acm::answers::app_spec;
use codeco_actors::evidence::decision_view;
use codeco_actors::swm::decision::{Decision, Level as DecidedBy};
use codeco_actors::swm::home::{ClusterFacts, Home, HomeConfig, HomeInput, HomeOutput, Plan};
use codeco_actors::swm::lead::{Lead, LeadConfig, LeadInput, LeadOutput};
use codeco_actors::swm::lease::LeaseConfig;
use codeco_actors::swm::ledger::{Ledger, LedgerConfig, LedgerInput, LedgerOutput, RuntimeFact};
use codeco_protocol::api::{DecisionView, load_manifests};
use codeco_protocol::demands::NodeTraits;
use codeco_protocol::ids::{ClusterName, Incarnation, MemberId, NodeName};
use codeco_protocol::messages::{Addressee, ControlMessage};
use codeco_protocol::resources::Resources;
use codeco_protocol::token::Term;
use codeco_protocol::units::{BitsPerSecond, BootTime, Bytes, Micros, MilliCpu, MilliWatts, WallTime};

const HOME: MemberId = MemberId(9_999);
const STEP: Micros = Micros::from_millis(50);

/// A node: four cores of 100 W at most, a link of 100 Mbit/s, and 0.2 ms to every other one, unless a test says otherwise.
#[derive(Clone)]
pub(crate) struct Node {
    pub(crate) cpu: u64,
    pub(crate) labels: Vec<(String, String)>,
    pub(crate) power: Option<(u64, u64)>,
    pub(crate) traits: NodeTraits,
}

impl Default for Node {
    fn default() -> Self {
        let link = Some(BitsPerSecond(100_000_000));
        let traits = NodeTraits { link, ..NodeTraits::default() };
        Self { cpu: 4_000, labels: Vec::new(), power: Some((40, 100)), traits }
    }
}

impl Node {
    pub(crate) fn label(mut self, key: &str, value: &str) -> Self {
        self.labels.push((key.into(), value.into()));
        self
    }

    pub(crate) fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

struct Cluster {
    name: ClusterName,
    lead: Lead,
    labels: BTreeMap<String, String>,
    round_trip: Option<Micros>,
}

pub(crate) struct Stage {
    now: BootTime,
    home: Home,
    clusters: BTreeMap<MemberId, Cluster>,
    ledgers: BTreeMap<MemberId, (MemberId, Ledger)>,
    mail: VecDeque<(MemberId, MemberId, ControlMessage)>,
    pub(crate) decisions: Vec<Decision>,
    /// Round trips between nodes that are not 0.2 ms; `None` was never measured.
    far: BTreeMap<(MemberId, MemberId), Option<Micros>>,
}

pub(crate) fn id(cluster: usize, node: usize) -> MemberId {
    MemberId(u128::try_from(cluster * 100 + node).unwrap())
}

impl Stage {
    pub(crate) fn new() -> Self {
        Self {
            now: BootTime(10_000_000),
            home: Home::recover(HomeConfig::new(HOME, 7), &[]),
            clusters: BTreeMap::new(),
            ledgers: BTreeMap::new(),
            mail: VecDeque::new(),
            decisions: Vec::new(),
            far: BTreeMap::new(),
        }
    }

    /// Clusters `c1`, `c2`, … of nodes `n1`, `n2`, …, all alike.
    pub(crate) fn of(clusters: usize, nodes: usize) -> Self {
        let mut stage = Self::new();
        for _ in 0..clusters {
            stage.add(&vec![Node::default(); nodes], |_| {});
        }
        stage
    }

    pub(crate) fn add(&mut self, nodes: &[Node], change: impl FnOnce(&mut Options)) {
        let number = self.clusters.len() + 1;
        let lead_id = id(number, 0);
        let mut options =
            Options { labels: BTreeMap::new(), uplink: None, round_trip: Some(Micros::from_millis(2)) };
        change(&mut options);
        let name = ClusterName::new(format!("c{number}")).unwrap();
        let mut config = LeadConfig::new(lead_id, name.clone(), LeaseConfig::default());
        config.uplink = options.uplink.map(BitsPerSecond);
        let lead = Lead::recover(config, &[]);
        let (labels, round_trip) = (options.labels, options.round_trip);
        self.clusters.insert(lead_id, Cluster { name, lead, labels, round_trip });
        for (at, node) in nodes.iter().enumerate() {
            let member = id(number, at + 1);
            let config = LedgerConfig {
                id: member,
                name: NodeName::new(format!("n{}", at + 1)).unwrap(),
                labels: node.labels.clone(),
                power: node.power.map(|(idle, full)| (MilliWatts(idle * 1_000), MilliWatts(full * 1_000))),
                traits: node.traits,
                lease: LeaseConfig::default(),
                first_nonce: 1,
            };
            let (ledger, _) = Ledger::recover(config, &[], Incarnation(member.0));
            self.ledgers.insert(member, (lead_id, ledger));
            let capacity = Resources::new(MilliCpu(node.cpu), Bytes(8 << 30));
            self.feed_ledger(member, LedgerInput::Capacity { capacity, foreign: Resources::default() });
            self.feed_ledger(member, LedgerInput::Listed(Vec::new()));
        }
        self.feed_lead(lead_id, LeadInput::OwnLease(BootTime(u64::MAX)));
        self.feed_lead(lead_id, LeadInput::TakeOffice(Term::default().next_for(lead_id)));
        self.measure();
        for at in 1..=nodes.len() {
            self.feed_ledger(id(number, at), LedgerInput::LeadIs(lead_id));
        }
        self.run(2_000);
    }

    /// Says how far two nodes are apart from now on.
    pub(crate) fn distance(&mut self, a: MemberId, b: MemberId, round_trip: Option<Micros>) {
        self.far.insert((a.min(b), a.max(b)), round_trip);
        self.measure();
        self.run(1_000);
    }

    fn measure(&mut self) {
        let members: Vec<MemberId> = self.ledgers.keys().copied().collect();
        for a in &members {
            let known = members.iter().filter(|b| *b != a).filter_map(|b| {
                let span = self.far.get(&(*a.min(b), *a.max(b))).copied();
                Some((*b, span.unwrap_or(Some(Micros(200)))?))
            });
            let round_trips = known.collect();
            self.feed_ledger(*a, LedgerInput::RoundTrips(round_trips));
        }
    }

    /// Lets time pass, in milliseconds.
    pub(crate) fn run(&mut self, millis: u64) {
        let until = self.now + Micros::from_millis(millis);
        while self.now < until {
            self.now = self.now + STEP;
            for member in self.ledgers.keys().copied().collect::<Vec<_>>() {
                self.feed_ledger(member, LedgerInput::Tick);
            }
            for lead in self.clusters.keys().copied().collect::<Vec<_>>() {
                self.feed_lead(lead, LeadInput::Tick);
            }
            let list = self.clusters.iter().map(|(id, cluster)| facts(*id, cluster)).collect();
            self.feed_home(HomeInput::Clusters(list));
            self.feed_home(HomeInput::Tick);
            self.deliver();
            for cluster in self.clusters.values() {
                assert_eq!(cluster.lead.overbooked_links(), Vec::<String>::new(), "invariant I7");
            }
        }
    }

    fn deliver(&mut self) {
        while let Some((from, to, message)) = self.mail.pop_front() {
            match message.addressee() {
                Addressee::Ledger => self.feed_ledger(to, LedgerInput::Message { from, message }),
                Addressee::Lead => self.feed_lead(to, LeadInput::Message { from, message }),
                Addressee::Home => {
                    let Some(cluster) = self.clusters.get(&from).map(|c| c.name.clone()) else { continue };
                    self.feed_home(HomeInput::Message { from, cluster, message });
                }
            }
        }
    }

    fn feed_home(&mut self, input: HomeInput) {
        let mut out = Vec::new();
        self.home.handle(self.now, input, &mut out);
        self.post_of_home(out);
    }

    fn post_of_home(&mut self, out: Vec<HomeOutput>) {
        for output in out {
            match output {
                HomeOutput::Send { to, message } => self.mail.push_back((HOME, to, message)),
                HomeOutput::Decided(decision) => self.decisions.push(*decision),
                HomeOutput::Journal(_) | HomeOutput::Note(_) => {}
            }
        }
    }

    fn feed_lead(&mut self, id: MemberId, input: LeadInput) {
        let mut out = Vec::new();
        let Some(cluster) = self.clusters.get_mut(&id) else { return };
        cluster.lead.handle(self.now, input, &mut out);
        for output in out {
            match output {
                LeadOutput::Send { to, message } => self.mail.push_back((id, to, message)),
                LeadOutput::Decided(decision) => self.decisions.push(*decision),
                LeadOutput::NeedsTerm(term) => panic!("nobody else took office, but {term} was seen"),
                LeadOutput::Journal(_) | LeadOutput::Note(_) => {}
            }
        }
    }

    fn feed_ledger(&mut self, id: MemberId, input: LedgerInput) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let mut out = Vec::new();
            let Some((_, ledger)) = self.ledgers.get_mut(&id) else { return };
            ledger.handle(self.now, input, &mut out);
            for output in out {
                match output {
                    LedgerOutput::Send { to, message } => self.mail.push_back((id, to, message)),
                    LedgerOutput::Start(workload) => inputs.push_back(LedgerInput::Runtime {
                        replica: workload.replica,
                        token: workload.token,
                        fact: RuntimeFact::Ready,
                    }),
                    LedgerOutput::Stop { replica, token } => {
                        inputs.push_back(LedgerInput::Runtime { replica, token, fact: RuntimeFact::Stopped });
                    }
                    LedgerOutput::Journal(_) | LedgerOutput::LeaseUntil(_) | LedgerOutput::Note(_) => {}
                }
            }
        }
    }

    /// Applies a manifest and lets the fleet come to rest.
    pub(crate) fn apply(&mut self, manifest: &str) {
        self.submit(manifest);
        self.run(6_000);
    }

    /// Applies a manifest and returns at once.
    pub(crate) fn submit(&mut self, manifest: &str) {
        for app in load_manifests("test.yaml", manifest).unwrap_or_else(|errors| panic!("{errors:#?}")) {
            let spec = app_spec(app.resolve(1).unwrap(), &app);
            let mut out = Vec::new();
            self.home.apply(self.now, WallTime(0), spec, &mut out).unwrap();
            self.post_of_home(out);
        }
    }

    pub(crate) fn delete(&mut self, name: &str) {
        let (namespace, name) = ("default".parse().unwrap(), name.parse().unwrap());
        let mut out = Vec::new();
        self.home.delete(self.now, &namespace, &name, &mut out).unwrap();
        self.post_of_home(out);
    }

    /// What applying a manifest would do.
    pub(crate) fn plan(&mut self, manifest: &str) -> Plan {
        let app = load_manifests("test.yaml", manifest).unwrap_or_else(|e| panic!("{e:#?}")).remove(0);
        let spec = app_spec(app.resolve(1).unwrap(), &app);
        let mut out = Vec::new();
        let request = self.home.begin_plan(self.now, spec, &mut out).unwrap();
        self.post_of_home(out);
        for _ in 0..20 {
            self.run(50);
            if let Some(plan) = self.home.finish_plan(self.now, request) {
                return plan;
            }
        }
        panic!("the plan was never finished");
    }

    /// `CLUSTER/NODE` of every copy of a service that a node has promised, in order of the copies.
    pub(crate) fn places(&self, app: &str, service: &str) -> Vec<String> {
        let (_, app) =
            self.home.apps().find(|(_, a)| a.spec.context.name.as_str() == app).expect("the application");
        app.replicas
            .iter()
            .filter(|((name, _), _)| name.as_str() == service)
            .filter_map(|(_, replica)| {
                let held = replica.mandate.as_ref()?;
                let (_, node, _) = held.accepted.as_ref()?;
                Some(format!("{}/{node}", held.cluster))
            })
            .collect()
    }

    /// Why a service has copies that are nowhere.
    pub(crate) fn waiting(&self, app: &str, service: &str) -> Option<String> {
        let (_, app) = self.home.apps().find(|(_, a)| a.spec.context.name.as_str() == app)?;
        app.replicas
            .iter()
            .filter(|((name, _), replica)| name.as_str() == service && replica.mandate.is_none())
            .find_map(|(_, replica)| replica.waiting.clone())
    }

    /// The newest decision about a service, as `explain` gets it.
    pub(crate) fn explained(&self, service: &str, by: DecidedBy) -> DecisionView {
        let newest = self.decisions.iter().rev();
        let mut of = newest.filter(|d| d.replica.service.as_str() == service && d.level == by);
        decision_view(of.next().expect("a decision"))
    }

    pub(crate) fn lead(&self, cluster: usize) -> &Lead {
        &self.clusters[&id(cluster, 0)].lead
    }
}

pub(crate) struct Options {
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) uplink: Option<u64>,
    pub(crate) round_trip: Option<Micros>,
}

fn facts(id: MemberId, cluster: &Cluster) -> ClusterFacts {
    let (mut capacity, mut free) = (Resources::default(), Resources::default());
    for facts in cluster.lead.members().filter_map(|(_, member)| member.facts.as_ref()) {
        capacity = capacity.plus(&facts.capacity);
        free = free.plus(&facts.free);
    }
    ClusterFacts {
        name: cluster.name.clone(),
        lead: id,
        term: cluster.lead.term(),
        capacity,
        free,
        labels: cluster.labels.clone(),
        round_trip: cluster.round_trip,
        age: Micros(0),
        coordinate: None,
        traits: cluster.lead.traits(),
        reachable: cluster.lead.is_ready(),
    }
}

/// A manifest: lines of `spec` as they are, services by name with cpu and further lines of the service (its channels).
pub(crate) fn manifest(name: &str, spec: &str, services: &[(&str, &str, &str)]) -> String {
    let mut text = format!(
        "apiVersion: codeco.he-codeco.eu/v1alpha1\nkind: CodecoApp\nmetadata: {{name: {name}}}\nspec:\n"
    );
    for line in spec.lines() {
        text.push_str(&format!("  {line}\n"));
    }
    text.push_str("  codecoapp-msspec:\n");
    for (service, cpu, more) in services {
        text.push_str(&format!(
            "  - serviceName: {service}\n    podspec:\n      containers:\n      - {{name: c, image: i, resources: \
             {{requests: {{cpu: {cpu}, memory: 1Mi}}}}}}\n"
        ));
        if !more.is_empty() {
            text.push_str(&format!("    serviceChannels: [{more}]\n"));
        }
    }
    text
}

/// A channel to `to`.
pub(crate) fn channel(to: &str, class: &str, bandwidth: &str, delay: &str) -> String {
    format!(
        "{{channelName: link, serviceClass: {class}, otherService: {{serviceName: {to}}}, advancedChannelSettings: \
         {{minBandwidth: \"{bandwidth}\", maxDelay: \"{delay}\"}}}}"
    )
}

/// Different places.
pub(crate) fn distinct(places: &[String]) -> usize {
    places.iter().collect::<BTreeSet<_>>().len()
}

/// The clusters of places.
pub(crate) fn clusters(places: &[String]) -> BTreeSet<&str> {
    places.iter().filter_map(|place| place.split('/').next()).collect()
}
