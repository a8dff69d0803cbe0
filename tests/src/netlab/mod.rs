//! A laboratory: a fleet of real processes, each in a network namespace of its own, on a bridge whose lines can be made
//! bad in the ways that real ones are.
//!
//! [`Lab`] makes the machines and the lines between them, [`Field`] runs a fleet on them, [`Fault`] is what goes wrong.
//! Losses, cuts and blocked UDP are nft rules of the bridge, rates are queues of the kernel (tbf), delay, jitter,
//! reordering and duplicates come from a forwarder of our own ([`Forwarder`]), because few kernels have netem.

mod fault;
mod field;
mod forwarder;
mod shaper;
mod tools;

use std::cell::{Cell, RefCell};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use std::net::{IpAddr, Ipv4Addr};

use crate::Trouble;
pub use fault::{Active, Fault, Process};
pub use field::{Field, Plan, faketime};
pub use forwarder::Forwarder;
pub use shaper::{Fates, Line, Manner, Shaper};
pub use tools::missing;
use tools::{Entered, PREFIX, ip, load, run, script};

/// The network of a lab. Each lab has it to itself.
const NET: &str = "10.99.0.0/24";

/// A machine of a lab.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// That of the hub, and of the command `codeco`.
    Hub,
    /// That of an agent, by its number in the fleet.
    Agent(usize),
}

#[derive(Debug)]
struct Machine {
    place: Place,
    space: String,
    /// Its own address.
    own: Ipv4Addr,
    /// Its line's end at the bridge.
    port: String,
    /// The address that others see: its own, or its router's.
    seen: Cell<Ipv4Addr>,
    /// The namespace of its router.
    router: Option<String>,
}

/// A bridge and the machines on it, each in a namespace of its own. All of it goes with this.
#[derive(Debug)]
pub struct Lab {
    seed: u64,
    prefix: String,
    machines: Vec<Machine>,
    disks: RefCell<Vec<PathBuf>>,
    /// Numbers for what must not share a name.
    next: Cell<u64>,
}

impl Lab {
    /// A bridge without machines.
    ///
    /// # Errors
    /// [`Trouble::Tool`].
    pub fn new(seed: u64) -> Result<Self, Trouble> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let prefix = format!("{PREFIX}{}-{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        let (machines, disks) = (Vec::new(), RefCell::default());
        let lab = Self { seed, prefix, machines, disks, next: Cell::new(0) };
        let bridge = lab.bridge();
        ip(&format!("netns add {bridge}"))?;
        ip(&format!("-n {bridge} link add name lab type bridge"))?;
        ip(&format!("-n {bridge} link set lab up"))?;
        Ok(lab)
    }

    fn bridge(&self) -> String {
        format!("{}-bridge", self.prefix)
    }

    /// A number that no other thing of this lab has.
    fn number(&self) -> u64 {
        self.next.set(self.next.get() + 1);
        self.next.get()
    }

    /// A seed that no other thing of this lab has.
    fn seed(&self) -> u64 {
        self.seed.wrapping_mul(1_000).wrapping_add(self.number())
    }

    /// Adds a machine on the bridge.
    ///
    /// # Errors
    /// [`Trouble::Tool`].
    pub fn add(&mut self, place: Place) -> Result<(), Trouble> {
        let last = last_byte(place);
        let (space, port) = (format!("{}-{last}", self.prefix), format!("port{last}"));
        let own = Ipv4Addr::new(10, 99, 0, last);
        self.machines.push(Machine { place, space, own, port, seen: Cell::new(own), router: None });
        let machine = self.machine(place);
        ip(&format!("netns add {}", machine.space))?;
        self.plug(&machine.space, &machine.port, own)
    }

    /// Adds a machine behind a router of its own that translates addresses. From inside everything can be dialled; from
    /// outside no UDP comes in but answers, and TCP comes from the hub's machine, so that the machine can be looked at.
    /// The hub's machine must be there.
    ///
    /// # Errors
    /// [`Trouble::Tool`].
    pub fn add_behind_nat(&mut self, place: Place) -> Result<(), Trouble> {
        let last = last_byte(place);
        let (space, router) = (format!("{}-{last}", self.prefix), format!("{}-{last}-router", self.prefix));
        let (own, outside) = (Ipv4Addr::new(192, 168, last, 2), Ipv4Addr::new(10, 99, 0, last));
        let port = format!("port{last}");
        let (seen, router) = (Cell::new(outside), Some(router));
        self.machines.push(Machine { place, space, own, port, seen, router });
        let Machine { space, router, port, .. } = self.machine(place);
        let router = router.as_deref().unwrap_or_default();
        ip(&format!("netns add {router}"))?;
        ip(&format!("netns add {space}"))?;
        self.plug(router, port, outside)?;
        ip(&format!("-n {router} link add inside type veth peer name uplink netns {space}"))?;
        ip(&format!("-n {router} addr add 192.168.{last}.1/24 dev inside"))?;
        ip(&format!("-n {router} link set inside up"))?;
        ip(&format!("-n {space} link set lo up"))?;
        ip(&format!("-n {space} addr add {own}/24 dev uplink"))?;
        ip(&format!("-n {space} link set uplink up"))?;
        ip(&format!("-n {space} route add default via 192.168.{last}.1"))?;
        script(router, "echo 1 >/proc/sys/net/ipv4/ip_forward")?;
        let rules = "table inet router {\nchain leaving {\ntype nat hook postrouting priority srcnat\n\
                     oifname \"uplink\" masquerade\n}\nchain passing {\ntype filter hook forward priority filter\n\
                     ct state established,related accept\niifname \"uplink\" meta l4proto udp drop\n}\n}\n";
        load(router, rules)?;
        let hub = &self.machine(Place::Hub).space;
        ip(&format!("-n {hub} route add 192.168.{last}.0/24 via {outside}")).map(drop)
    }

    /// Joins a namespace to the bridge.
    fn plug(&self, space: &str, port: &str, address: Ipv4Addr) -> Result<(), Trouble> {
        let bridge = self.bridge();
        ip(&format!("-n {bridge} link add {port} type veth peer name uplink netns {space}"))?;
        ip(&format!("-n {bridge} link set {port} master lab"))?;
        ip(&format!("-n {bridge} link set {port} up"))?;
        ip(&format!("-n {space} link set lo up"))?;
        ip(&format!("-n {space} addr add {address}/24 dev uplink"))?;
        ip(&format!("-n {space} link set uplink up")).map(drop)
    }

    fn machine(&self, place: Place) -> &Machine {
        let mut machines = self.machines.iter();
        machines.find(|machine| machine.place == place).expect("a machine is added before it is spoken of")
    }

    /// All machines.
    pub fn places(&self) -> impl Iterator<Item = Place> {
        self.machines.iter().map(|machine| machine.place)
    }

    /// The address that a machine itself has.
    #[must_use]
    pub fn address(&self, place: Place) -> IpAddr {
        IpAddr::V4(self.machine(place).own)
    }

    /// Makes a program run on a machine.
    #[must_use]
    pub fn launcher(&self, place: Place) -> Vec<OsString> {
        ["ip", "netns", "exec", &self.machine(place).space].map(OsString::from).to_vec()
    }

    /// Gives a folder a disk of its own, of so many KiB.
    ///
    /// # Errors
    /// [`Trouble`].
    pub fn mount(&self, folder: &Path, kib: u32) -> Result<(), Trouble> {
        std::fs::create_dir_all(folder).map_err(Trouble::file(folder))?;
        let (name, path) = (&self.prefix, folder.display());
        run(&format!("mount -t tmpfs -o size={kib}k,mode=0700 {name} {path}"))?;
        self.disks.borrow_mut().push(folder.to_owned());
        Ok(())
    }

    /// Takes the disks away again.
    fn unmount(&self) {
        for folder in self.disks.borrow_mut().drain(..) {
            let _ = run(&format!("umount -l {}", folder.display()));
        }
    }

    fn enter(&self, place: Place) -> Result<Entered, Trouble> {
        Entered::new(&self.machine(place).space)
    }
}

impl Drop for Lab {
    /// Lines, rules, queues and routes go with the namespaces.
    fn drop(&mut self) {
        self.unmount();
        for machine in &self.machines {
            for space in std::iter::once(&machine.space).chain(&machine.router) {
                let _ = ip(&format!("netns delete {space}"));
            }
        }
        let _ = ip(&format!("netns delete {}", self.bridge()));
    }
}

/// The last byte of a machine's address.
fn last_byte(place: Place) -> u8 {
    match place {
        Place::Hub => 1,
        Place::Agent(at) => u8::try_from(10 + at).unwrap_or(u8::MAX),
    }
}
