//! The cluster and its network.

use std::collections::{BTreeMap, BTreeSet};

use codeco_protocol::gossip::{
    Liveness, MembershipInput as In, MembershipOutput as Out, Parting, Probe, Ring, RingConfig, Rumor,
};
use codeco_protocol::ids::{ClusterName, Identity, MemberId, Role};
use codeco_protocol::units::{BootTime, Micros};

/// A connection notices a silent peer after this long.
const IDLE: Micros = Micros::from_secs(5);
/// A dial without an answer fails after this long.
const DIAL_TIMEOUT: Micros = Micros::from_secs(5);
/// One way, at least and at most.
const DELAY: (u64, u64) = (200, 1_500);
/// A reliable message that is lost is repeated after this long.
const REPEAT: Micros = Micros::from_millis(60);
/// Bytes of a QUIC packet around its payload, with the headers below it; and of an acknowledgement.
const PACKET: u64 = 58;
const MILLION: u32 = 1_000_000;

#[derive(Debug, Clone)]
enum Event {
    Tick(usize),
    Probe { from: usize, to: usize, link: u64, probe: Probe },
    Rumor { from: usize, to: usize, link: u64, rumor: Box<Rumor> },
    Connect { from: usize, to: usize },
    DialFailed { from: usize, to: usize },
    Lost { at: usize, other: usize, link: u64, parting: Parting },
    Idle { a: usize, b: usize, link: u64 },
}

#[derive(Debug)]
struct Host {
    ring: Ring,
    up: bool,
    held_until: BootTime,
    /// Connections, as this side sees them.
    links: BTreeMap<usize, u64>,
}

/// A change in what a member believes of another.
#[derive(Debug, Clone, Copy)]
pub struct Belief {
    /// When.
    pub at: BootTime,
    /// Who.
    pub observer: usize,
    /// Of whom.
    pub about: usize,
    /// What.
    pub liveness: Liveness,
}

/// See the module.
#[derive(Debug)]
pub struct World {
    config: RingConfig,
    now: BootTime,
    hosts: Vec<Host>,
    queue: BTreeMap<(BootTime, u64), Event>,
    order: u64,
    next_link: u64,
    rng: fastrand::Rng,
    /// Side of each host; packets stay within one.
    sides: Vec<u8>,
    /// Directions in which nothing gets through.
    deaf: BTreeSet<(usize, usize)>,
    loss: u32,
    bytes: u64,
    beliefs: Vec<Belief>,
}

fn identity(at: usize) -> Identity {
    let name = ClusterName::new("c").unwrap_or_else(|_| unreachable!("a valid name"));
    Identity { role: Role::Node(name), id: MemberId(at as u128 + 1) }
}

fn index(member: MemberId) -> usize {
    usize::try_from(member.0).unwrap_or(1) - 1
}

impl World {
    /// `nodes` members that have been told of each other and know nothing else.
    #[must_use]
    pub fn new(nodes: usize, config: RingConfig, seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let now = BootTime(1_000_000);
        let hosts = (0..nodes)
            .map(|at| Host {
                ring: Ring::new(config, identity(at), 1, rng.u64(..), now),
                up: true,
                held_until: now,
                links: BTreeMap::new(),
            })
            .collect();
        let mut world = Self {
            config,
            now,
            hosts,
            queue: BTreeMap::new(),
            order: 0,
            next_link: 0,
            rng,
            sides: vec![0; nodes],
            deaf: BTreeSet::new(),
            loss: 0,
            bytes: 0,
            beliefs: Vec::new(),
        };
        for at in 0..nodes {
            world.introduce(at);
            let first = Micros(world.rng.u64(0..100_000));
            world.after(first, Event::Tick(at));
        }
        world
    }

    fn introduce(&mut self, at: usize) {
        for other in 0..self.hosts.len() {
            self.feed(at, In::Known(identity(other)));
        }
    }

    fn after(&mut self, wait: Micros, event: Event) {
        self.order += 1;
        self.queue.insert((self.now + wait, self.order), event);
    }

    /// Virtual time.
    #[must_use]
    pub fn now(&self) -> BootTime {
        self.now
    }

    /// Bytes sent so far by all.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What changed in what members believe, since the last call.
    pub fn take_beliefs(&mut self) -> Vec<Belief> {
        std::mem::take(&mut self.beliefs)
    }

    /// Number of members.
    #[must_use]
    pub fn len(&self) -> usize {
        self.hosts.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.hosts.is_empty()
    }

    /// Whether a member runs.
    #[must_use]
    pub fn is_up(&self, at: usize) -> bool {
        self.hosts[at].up
    }

    /// What one member believes of another.
    #[must_use]
    pub fn believes(&self, observer: usize, about: usize) -> Option<Liveness> {
        self.hosts[observer].ring.liveness(identity(about).id)
    }

    /// Datagrams lost, of a million.
    pub fn lose(&mut self, per_million: u32) {
        self.loss = per_million;
    }

    /// Parts the members: packets pass only within a side.
    pub fn part(&mut self, side_of: impl Fn(usize) -> u8) {
        self.sides = (0..self.hosts.len()).map(side_of).collect();
        let links: Vec<(usize, usize, u64)> = self
            .hosts
            .iter()
            .enumerate()
            .flat_map(|(a, host)| host.links.iter().map(move |(b, link)| (a, *b, *link)))
            .filter(|(a, b, _)| a < b && self.sides[*a] != self.sides[*b])
            .collect();
        for (a, b, link) in links {
            self.after(IDLE, Event::Idle { a, b, link });
        }
    }

    /// Everybody reaches everybody again.
    pub fn heal(&mut self) {
        self.sides.fill(0);
        self.deaf.clear();
    }

    /// Nothing gets from `from` to `to` any more.
    pub fn deafen(&mut self, from: usize, to: usize) {
        self.deaf.insert((from, to));
    }

    /// Ends a process at once.
    pub fn kill(&mut self, at: usize) {
        self.hosts[at].up = false;
        let links = std::mem::take(&mut self.hosts[at].links);
        for (other, link) in links {
            self.after(IDLE, Event::Lost { at: other, other: at, link, parting: Parting::Lost });
        }
    }

    /// Starts it again, with a new life.
    pub fn restart(&mut self, at: usize) {
        let seed = self.rng.u64(..);
        let host = &mut self.hosts[at];
        host.ring = Ring::new(self.config, identity(at), self.now.0, seed, self.now);
        host.up = true;
        host.held_until = self.now;
        self.introduce(at);
        self.after(Micros(1), Event::Tick(at));
    }

    /// Holds a process up: it does nothing for a while, then everything at once.
    pub fn hold(&mut self, at: usize, time: Micros) {
        self.hosts[at].held_until = self.now + time;
    }

    /// Whether a process is held up, or was a moment ago.
    #[must_use]
    pub fn is_held(&self, at: usize) -> bool {
        self.hosts[at].held_until + Micros::from_secs(3) > self.now
    }

    fn passes(&self, from: usize, to: usize) -> bool {
        self.sides[from] == self.sides[to] && !self.deaf.contains(&(from, to))
    }

    fn delay(&mut self) -> Micros {
        Micros(self.rng.u64(DELAY.0..=DELAY.1))
    }

    /// Plays until `end`.
    pub fn play_until(&mut self, end: BootTime) {
        while let Some(entry) = self.queue.first_entry() {
            if entry.key().0 > end {
                break;
            }
            let ((at, _), event) = entry.remove_entry();
            self.now = self.now.max(at);
            self.step(event);
        }
        self.now = self.now.max(end);
    }

    /// Plays for `time`.
    pub fn play(&mut self, time: Micros) {
        self.play_until(self.now + time);
    }

    /// The host an event is for; it waits while that is held up.
    fn step(&mut self, event: Event) {
        let host = match &event {
            Event::Tick(at) | Event::Lost { at, .. } => *at,
            Event::Probe { to, .. } | Event::Rumor { to, .. } | Event::Connect { to, .. } => *to,
            Event::DialFailed { from, .. } => *from,
            Event::Idle { a, .. } => *a,
        };
        let held = self.hosts[host].held_until;
        if held > self.now && !matches!(event, Event::Idle { .. }) {
            self.after(Micros(held.since(self.now).0 + 1), event);
            return;
        }
        match event {
            Event::Tick(at) => {
                if self.hosts[at].up {
                    self.feed(at, In::Tick);
                    let next = self.hosts[at].ring.next_tick(self.now).since(self.now);
                    self.after(next, Event::Tick(at));
                }
            }
            Event::Probe { from, to, link, probe } => {
                if self.hosts[to].up && self.hosts[to].links.get(&from) == Some(&link) {
                    self.feed(to, In::Probe { from: identity(from).id, probe });
                }
            }
            Event::Rumor { from, to, link, rumor } => {
                if !self.passes(from, to) {
                    // Repeated until the connection is given up.
                    if self.hosts[from].links.get(&to) == Some(&link) {
                        self.after(REPEAT, Event::Rumor { from, to, link, rumor });
                    }
                } else if self.hosts[to].up && self.hosts[to].links.get(&from) == Some(&link) {
                    self.feed(to, In::Rumor { from: identity(from).id, rumor: *rumor });
                }
            }
            Event::Connect { from, to } => self.connect(from, to),
            Event::DialFailed { from, to } => self.feed(from, In::DialFailed(identity(to).id)),
            Event::Lost { at, other, link, parting } => self.lose_link(at, other, link, parting),
            Event::Idle { a, b, link } => {
                if !self.passes(a, b) || !self.passes(b, a) {
                    self.lose_link(a, b, link, Parting::Lost);
                    self.lose_link(b, a, link, Parting::Lost);
                }
            }
        }
    }

    fn lose_link(&mut self, at: usize, other: usize, link: u64, parting: Parting) {
        if self.hosts[at].links.get(&other) == Some(&link) {
            self.hosts[at].links.remove(&other);
            self.feed(at, In::Disconnected { member: identity(other).id, parting });
        }
    }

    fn connect(&mut self, from: usize, to: usize) {
        let open = self.hosts[from].up && self.hosts[to].up && self.passes(from, to) && self.passes(to, from);
        if !open {
            self.after(DIAL_TIMEOUT, Event::DialFailed { from, to });
            return;
        }
        self.next_link += 1;
        let link = self.next_link;
        self.bytes += 6_000;
        for (at, other) in [(from, to), (to, from)] {
            if let Some(old) = self.hosts[at].links.insert(other, link) {
                let _ = old;
            }
            self.feed(at, In::Connected(identity(other)));
        }
    }

    fn feed(&mut self, at: usize, input: In) {
        if !self.hosts[at].up {
            return;
        }
        let mut out = Vec::new();
        self.hosts[at].ring.handle(self.now, input, &mut out);
        for output in out {
            self.carry_out(at, output);
        }
    }

    fn carry_out(&mut self, from: usize, output: Out) {
        match output {
            Out::Send { to, probe } => {
                let to = index(to);
                self.bytes += PACKET + 16;
                if matches!(probe, Probe::Pong { .. }) {
                    // The acknowledgement of the answer; that of the question rides on it.
                    self.bytes += PACKET;
                }
                let lost = self.rng.u32(0..MILLION) < self.loss;
                if let Some(link) = self.hosts[from].links.get(&to).copied()
                    && self.passes(from, to)
                    && !lost
                {
                    let wait = self.delay();
                    self.after(wait, Event::Probe { from, to, link, probe });
                }
            }
            Out::Tell { to, rumor } => {
                let to = index(to);
                let size = match &rumor {
                    Rumor::Living(list) => 60 * list.len() as u64,
                    Rumor::Dead(list) => 28 * list.len() as u64,
                    _ => 60,
                };
                self.bytes += 2 * PACKET + size;
                let mut wait = self.delay();
                while self.rng.u32(0..MILLION) < self.loss {
                    wait.0 += REPEAT.0;
                }
                if let Some(link) = self.hosts[from].links.get(&to).copied() {
                    self.after(wait, Event::Rumor { from, to, link, rumor: Box::new(rumor) });
                }
            }
            Out::Dial(member) => {
                let wait = Micros(2 * self.delay().0);
                self.after(wait, Event::Connect { from, to: index(member.id) });
            }
            Out::Drop(member) | Out::Outlived(member) => {
                let to = index(member);
                if let Some(link) = self.hosts[from].links.get(&to).copied() {
                    let parting = Parting::Unneeded;
                    self.after(Micros(1), Event::Lost { at: from, other: to, link, parting });
                    let wait = self.delay();
                    self.after(wait, Event::Lost { at: to, other: from, link, parting });
                }
            }
            Out::Changed { member, liveness } => {
                self.beliefs.push(Belief { at: self.now, observer: from, about: index(member.id), liveness });
            }
            Out::CutOff(_) => {}
        }
    }
}
