//! The cluster and its network.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::wheel::Queue;
use codeco_protocol::gossip::{
    Life, Liveness, MembershipInput as In, MembershipOutput as Out, Parting, Probe, Ring, RingConfig, Rumor,
    Shared,
};
use codeco_protocol::ids::{ClusterName, Identity, MemberId, Role};
use codeco_protocol::units::{BootTime, Micros};

use super::links::Links;
use super::rumors::{Rumors, Said};

/// A connection notices a silent peer after this long.
const IDLE: Micros = Micros::from_secs(5);
/// A dial without an answer fails after this long.
const DIAL_TIMEOUT: Micros = Micros::from_secs(5);
/// One way, at least and at most.
const DELAY: (u64, u64) = (200, 1_500);
/// A reliable message that is lost is repeated after this long.
const REPEAT: Micros = Micros::from_millis(60);
/// Reliable messages that one connection keeps while nothing gets through; what is more is refused, as by a full outbox.
const STUCK_MAX: usize = 1_024;
/// Bytes of a QUIC packet around its payload, with the headers below it; and of an acknowledgement.
const PACKET: u64 = 58;
const MILLION: u32 = 1_000_000;

/// Members by number: these are kept in millions.
#[derive(Debug, Clone, Copy)]
enum Event {
    Tick(u32),
    Probe { from: u32, to: u32, link: u64, probe: Probe },
    Rumor { from: u32, to: u32, link: u64, said: Said },
    Connect { from: u32, to: u32 },
    DialFailed { from: u32, to: u32 },
    Lost { at: u32, other: u32, link: u64, parting: Parting },
    Idle { a: u32, b: u32, link: u64 },
}

/// A rumor that does not get through.
#[derive(Debug)]
struct Stuck {
    link: u64,
    due: BootTime,
    said: Said,
}

#[derive(Debug)]
struct Host {
    ring: Ring,
    up: bool,
    held_until: BootTime,
    /// Connections, as this side sees them.
    links: Links,
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
    name: ClusterName,
    shared: Arc<Shared>,
    queue: Queue<Event>,
    rumors: Rumors,
    /// By sender and receiver.
    stuck: BTreeMap<(u32, u32), Vec<Stuck>>,
    next_link: u64,
    rng: fastrand::Rng,
    /// Side of each host; packets stay within one.
    sides: Vec<u8>,
    /// Directions in which nothing gets through.
    deaf: BTreeSet<(usize, usize)>,
    loss: u32,
    bytes: u64,
    beliefs: Vec<Belief>,
    /// Of the last input, to be used again.
    out: Vec<Out>,
}

fn member(at: u32) -> MemberId {
    MemberId(u128::from(at) + 1)
}

fn index(member: MemberId) -> u32 {
    u32::try_from(member.0).unwrap_or(1) - 1
}

fn number(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

impl World {
    /// `nodes` members that have been told of each other and know nothing else.
    #[must_use]
    pub fn new(nodes: usize, config: RingConfig, seed: u64) -> Self {
        Self::start(nodes, config, seed, false)
    }

    /// `nodes` members that believe each other alive, and have yet to connect: without all the messages of a start at once,
    /// of which there are as many as pairs.
    #[must_use]
    pub fn met(nodes: usize, config: RingConfig, seed: u64) -> Self {
        Self::start(nodes, config, seed, true)
    }

    fn start(nodes: usize, config: RingConfig, seed: u64, met: bool) -> Self {
        let now = BootTime(1_000_000);
        let mut world = Self {
            config,
            now,
            hosts: Vec::with_capacity(nodes),
            name: ClusterName::new("c").unwrap_or_else(|_| unreachable!("a valid name")),
            shared: Arc::new(Shared::new((0..number(nodes)).map(member))),
            queue: Queue::new(),
            rumors: Rumors::default(),
            stuck: BTreeMap::new(),
            next_link: 0,
            rng: fastrand::Rng::with_seed(seed),
            sides: vec![0; nodes],
            deaf: BTreeSet::new(),
            loss: 0,
            bytes: 0,
            beliefs: Vec::new(),
            out: Vec::new(),
        };
        for at in 0..number(nodes) {
            let mut ring = world.ring(at, 1);
            if met {
                ring.believe_all(Life { started: 1, refutations: 0 });
            }
            world.hosts.push(Host { ring, up: true, held_until: now, links: Links::default() });
        }
        for at in 0..number(nodes) {
            let first = Micros(world.rng.u64(0..100_000));
            world.after(first, Event::Tick(at));
        }
        world
    }

    /// One that has been told of all.
    fn ring(&mut self, at: u32, started: u64) -> Ring {
        let (identity, seed) = (self.identity(at), self.rng.u64(..));
        Ring::sharing(self.config, identity, started, seed, self.now, &self.shared)
            .unwrap_or_else(|| unreachable!("all are in there"))
    }

    fn identity(&self, at: u32) -> Identity {
        Identity { role: Role::Node(self.name.clone()), id: member(at) }
    }

    fn host(&mut self, at: u32) -> &mut Host {
        &mut self.hosts[at as usize]
    }

    fn link(&self, from: u32, to: u32) -> Option<u64> {
        self.hosts[from as usize].links.get(to)
    }

    fn after(&mut self, wait: Micros, event: Event) {
        self.queue.push((self.now + wait).0, event);
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
        self.hosts[observer].ring.liveness(member(number(about)))
    }

    /// How many others a member believes alive, suspects, and believes dead.
    #[must_use]
    pub fn counts(&self, observer: usize) -> (usize, usize, usize) {
        self.hosts[observer].ring.counts()
    }

    /// Datagrams lost, of a million.
    pub fn lose(&mut self, per_million: u32) {
        self.loss = per_million;
    }

    /// Parts the members: packets pass only within a side.
    pub fn part(&mut self, side_of: impl Fn(usize) -> u8) {
        self.sides = (0..self.hosts.len()).map(side_of).collect();
        let of = |(a, host): (usize, &Host)| {
            let a = number(a);
            host.links.iter().map(move |(b, link)| (a, b, link)).collect::<Vec<_>>()
        };
        let mut links: Vec<(u32, u32, u64)> = self.hosts.iter().enumerate().flat_map(of).collect();
        links.retain(|(a, b, _)| a < b && self.sides[*a as usize] != self.sides[*b as usize]);
        for (a, b, link) in links {
            self.after(IDLE, Event::Idle { a, b, link });
        }
    }

    /// Everybody reaches everybody again.
    pub fn heal(&mut self) {
        self.sides.fill(0);
        self.deaf.clear();
        for ((from, to), stuck) in std::mem::take(&mut self.stuck) {
            for Stuck { link, due, said } in stuck {
                let repeats = self.now.since(due).0.div_ceil(REPEAT.0);
                let wait = (due + Micros(repeats * REPEAT.0)).since(self.now);
                self.after(wait, Event::Rumor { from, to, link, said });
            }
        }
    }

    /// It is repeated until the connection is given up, so it is kept until something gets through again.
    fn hold_stuck(&mut self, (from, to): (u32, u32), stuck: Stuck) {
        let all = self.stuck.entry((from, to)).or_default();
        if all.len() < STUCK_MAX {
            all.push(stuck);
        } else {
            self.rumors.drop(stuck.said);
        }
    }

    fn forget_stuck(&mut self, from: u32, to: u32) {
        for Stuck { said, .. } in self.stuck.remove(&(from, to)).unwrap_or_default() {
            self.rumors.drop(said);
        }
    }

    /// Nothing gets from `from` to `to` any more.
    pub fn deafen(&mut self, from: usize, to: usize) {
        self.deaf.insert((from, to));
    }

    /// Ends a process at once.
    pub fn kill(&mut self, at: usize) {
        self.hosts[at].up = false;
        let links = std::mem::take(&mut self.hosts[at].links);
        for (other, link) in links.iter() {
            self.forget_stuck(number(at), other);
            let lost = Event::Lost { at: other, other: number(at), link, parting: Parting::Lost };
            self.after(IDLE, lost);
        }
    }

    /// Starts it again, with a new life.
    pub fn restart(&mut self, at: usize) {
        let ring = self.ring(number(at), self.now.0);
        let host = &mut self.hosts[at];
        host.ring = ring;
        host.up = true;
        host.held_until = self.now;
        self.after(Micros(1), Event::Tick(number(at)));
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

    fn passes(&self, from: u32, to: u32) -> bool {
        let (from, to) = (from as usize, to as usize);
        self.sides[from] == self.sides[to] && (self.deaf.is_empty() || !self.deaf.contains(&(from, to)))
    }

    fn delay(&mut self) -> Micros {
        Micros(self.rng.u64(DELAY.0..=DELAY.1))
    }

    /// Plays until `end`.
    pub fn play_until(&mut self, end: BootTime) {
        while let Some((at, event)) = self.queue.pop(end.0) {
            self.now = self.now.max(BootTime(at));
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
        let host = match event {
            Event::Tick(at) | Event::Lost { at, .. } => at,
            Event::Probe { to, .. } | Event::Rumor { to, .. } | Event::Connect { to, .. } => to,
            Event::DialFailed { from, .. } => from,
            Event::Idle { a, .. } => a,
        };
        let held = self.host(host).held_until;
        if held > self.now && !matches!(event, Event::Idle { .. }) {
            self.after(Micros(held.since(self.now).0 + 1), event);
            return;
        }
        match event {
            Event::Tick(at) => {
                if self.host(at).up {
                    self.feed(at, In::Tick);
                    let now = self.now;
                    let next = self.host(at).ring.next_tick(now).since(now);
                    self.after(next, Event::Tick(at));
                }
            }
            Event::Probe { from, to, link, probe } => {
                if self.link(to, from) == Some(link) {
                    self.feed(to, In::Probe { from: member(from), probe });
                }
            }
            Event::Rumor { from, to, link, said } => {
                let arrives = self.passes(from, to);
                if !arrives && self.link(from, to) == Some(link) {
                    self.hold_stuck((from, to), Stuck { link, due: self.now, said });
                    return;
                }
                if arrives && self.host(to).up && self.link(to, from) == Some(link) {
                    let rumor = self.rumors.take(said);
                    self.feed(to, In::Rumor { from: member(from), rumor });
                } else {
                    self.rumors.drop(said);
                }
            }
            Event::Connect { from, to } => self.connect(from, to),
            Event::DialFailed { from, to } => self.feed(from, In::DialFailed(member(to))),
            Event::Lost { at, other, link, parting } => self.lose_link(at, other, link, parting),
            Event::Idle { a, b, link } => {
                if !self.passes(a, b) || !self.passes(b, a) {
                    self.lose_link(a, b, link, Parting::Lost);
                    self.lose_link(b, a, link, Parting::Lost);
                }
            }
        }
    }

    fn lose_link(&mut self, at: u32, other: u32, link: u64, parting: Parting) {
        if self.link(at, other) == Some(link) {
            self.host(at).links.remove(other);
            self.forget_stuck(at, other);
            self.feed(at, In::Disconnected { member: member(other), parting });
        }
    }

    fn connect(&mut self, from: u32, to: u32) {
        let up = self.host(from).up && self.host(to).up;
        if !(up && self.passes(from, to) && self.passes(to, from)) {
            self.after(DIAL_TIMEOUT, Event::DialFailed { from, to });
            return;
        }
        self.next_link += 1;
        let link = self.next_link;
        self.bytes += 6_000;
        for (at, other) in [(from, to), (to, from)] {
            self.host(at).links.put(other, link);
            let identity = self.identity(other);
            self.feed(at, In::Connected(identity));
        }
    }

    fn feed(&mut self, at: u32, input: In) {
        if !self.host(at).up {
            return;
        }
        let (now, mut out) = (self.now, std::mem::take(&mut self.out));
        self.host(at).ring.handle(now, input, &mut out);
        for output in out.drain(..) {
            self.carry_out(at, output);
        }
        self.out = out;
    }

    fn carry_out(&mut self, from: u32, output: Out) {
        match output {
            Out::Send { to, probe } => {
                let to = index(to);
                self.bytes += PACKET + 16;
                if matches!(probe, Probe::Pong { .. }) {
                    // The acknowledgement of the answer; that of the question rides on it.
                    self.bytes += PACKET;
                }
                let lost = self.rng.u32(0..MILLION) < self.loss;
                if let Some(link) = self.link(from, to)
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
                if let Some(link) = self.link(from, to) {
                    let said = self.rumors.say(rumor);
                    self.after(wait, Event::Rumor { from, to, link, said });
                }
            }
            Out::Dial(member) => {
                let wait = Micros(2 * self.delay().0);
                self.after(wait, Event::Connect { from, to: index(member.id) });
            }
            Out::Drop(member) | Out::Outlived(member) => {
                let to = index(member);
                if let Some(link) = self.link(from, to) {
                    let parting = Parting::Unneeded;
                    self.after(Micros(1), Event::Lost { at: from, other: to, link, parting });
                    let wait = self.delay();
                    self.after(wait, Event::Lost { at: to, other: from, link, parting });
                }
            }
            Out::Changed { member, liveness } => {
                let (observer, about) = (from as usize, index(member.id) as usize);
                self.beliefs.push(Belief { at: self.now, observer, about, liveness });
            }
            Out::CutOff(_) => {}
        }
    }
}
