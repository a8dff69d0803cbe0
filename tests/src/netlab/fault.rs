//! What goes wrong, how it is made to, and how it ends.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use rustix::process::{Pid, Signal, kill_process};

use super::tools::{forward_table, ip, load, run, script};
use super::{Fates, Field, Forwarder, Lab, Machine, Manner, NET, Place};
use crate::Trouble;

/// A process of the fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Process {
    /// The hub.
    Hub,
    /// An agent, by its number.
    Agent(usize),
    /// The guard of an agent.
    Guard(usize),
}

/// Something that goes wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Of a hundred packets between these and those, in both directions, so many are lost.
    Loss {
        /// These.
        of: Vec<Place>,
        /// Those.
        with: Vec<Place>,
        /// So many.
        percent: u8,
    },
    /// What these send to those is lost; the other direction works.
    OneWayCut {
        /// These.
        from: Vec<Place>,
        /// Those.
        to: Vec<Place>,
    },
    /// Nothing passes between these and those.
    Cut {
        /// These.
        of: Vec<Place>,
        /// Those.
        with: Vec<Place>,
    },
    /// No UDP passes to and from these, as behind a firewall; TCP does.
    NoUdp {
        /// These.
        of: Vec<Place>,
    },
    /// The lines of these carry so little, in each direction.
    Rate {
        /// These.
        of: Vec<Place>,
        /// So many kilobits a second.
        kbit: u32,
    },
    /// The interface of a machine is down.
    Down {
        /// Which.
        of: Place,
    },
    /// What these send is late, out of order, and comes twice. They are not behind a router.
    Slow {
        /// These.
        of: Vec<Place>,
        /// How.
        manner: Manner,
    },
    /// The router of a machine gets another address, and forgets what it has translated.
    Renumbered {
        /// Agent of the machine.
        of: usize,
    },
    /// A process is killed, and is started again when this ends.
    Kill(Process),
    /// A process is stopped, and goes on when this ends.
    Pause(Process),
    /// The disk of an agent is full. It must have one of its own.
    FullDisk {
        /// The agent.
        of: usize,
    },
    /// The wall clock of an agent is wrong. It must have one of its own.
    Clock {
        /// The agent.
        of: usize,
        /// By so much.
        by_seconds: i64,
    },
}

/// How a fault ends.
#[derive(Debug)]
enum Undo {
    Nothing,
    Table(String),
    Queues,
    Up,
    Lines(Vec<Forwarder>),
    Restart,
    Continue(u32),
    /// What fills the disk, and where the log of its agent stood.
    Ballast(PathBuf, usize),
    ClockRight,
}

/// A fault that lasts.
#[derive(Debug)]
pub struct Active {
    /// Which.
    pub fault: Fault,
    undo: Undo,
}

impl Fault {
    /// Machines whose part in the fleet suffers: what is on any other must go on as if nothing were.
    #[must_use]
    pub fn struck(&self) -> BTreeSet<Place> {
        match self {
            Self::Loss { of, .. } | Self::Cut { of, .. } | Self::NoUdp { of } => of.iter().copied().collect(),
            Self::Rate { of, .. } | Self::Slow { of, .. } => of.iter().copied().collect(),
            Self::OneWayCut { from, .. } => from.iter().copied().collect(),
            Self::Down { of } => [*of].into(),
            Self::Kill(process) | Self::Pause(process) => match process {
                Process::Hub => [Place::Hub].into(),
                Process::Agent(at) | Process::Guard(at) => [Place::Agent(*at)].into(),
            },
            Self::Renumbered { of } | Self::FullDisk { of } | Self::Clock { of, .. } => {
                [Place::Agent(*of)].into()
            }
        }
    }

    /// Whether work that needs no lease goes on even on the machines that are struck, while this lasts: nobody speaks
    /// to them meanwhile, or nothing of theirs is ended.
    #[must_use]
    pub fn leaves_work_alone(&self) -> bool {
        !matches!(
            self,
            Self::Kill(Process::Guard(_)) | Self::Loss { .. } | Self::Rate { .. } | Self::Slow { .. }
        )
    }

    /// Makes it so.
    ///
    /// # Errors
    /// [`Trouble`].
    pub fn apply(self, field: &mut Field) -> Result<Active, Trouble> {
        let undo = self.make(field)?;
        Ok(Active { fault: self, undo })
    }

    fn make(&self, field: &mut Field) -> Result<Undo, Trouble> {
        let lab = &field.lab;
        match self {
            Self::Loss { of, with, percent } => {
                let some = format!("numgen random mod 100 < {percent} ");
                lab.rules(&[lab.line(of, with, &some), lab.line(with, of, &some)].concat())
            }
            Self::OneWayCut { from, to } => lab.rules(&lab.line(from, to, "")),
            Self::Cut { of, with } => lab.rules(&[lab.line(of, with, ""), lab.line(with, of, "")].concat()),
            Self::NoUdp { of } => {
                let all: Vec<Place> = lab.places().collect();
                let udp = "meta l4proto udp ";
                lab.rules(&[lab.line(of, &all, udp), lab.line(&all, of, udp)].concat())
            }
            Self::Rate { of, kbit } => {
                for place in of {
                    for device in lab.devices(*place) {
                        let queue = format!("root tbf rate {kbit}kbit burst 1600b latency 400ms");
                        run(&format!("tc -n {} {queue}", device.replace(" dev ", " qdisc add dev ")))?;
                    }
                }
                Ok(Undo::Queues)
            }
            Self::Down { of } => {
                ip(&format!("-n {} link set uplink down", lab.machine(*of).space))?;
                Ok(Undo::Up)
            }
            Self::Slow { of, manner } => {
                let lines = of.iter().map(|place| lab.slow(*place, *manner));
                lines.collect::<Result<_, _>>().map(Undo::Lines)
            }
            Self::Renumbered { of } => lab.renumber(Place::Agent(*of)).map(|()| Undo::Nothing),
            Self::Kill(process) => field.kill(*process),
            Self::Pause(process) => {
                let pid = field.pid(*process).ok_or_else(|| nobody(*process))?;
                send(pid, Signal::STOP);
                Ok(Undo::Continue(pid))
            }
            Self::FullDisk { of } => {
                let path = field.fleet.local.agents()[*of].state.join("ballast");
                fill(&path).map_err(Trouble::file(&path))?;
                Ok(Undo::Ballast(path, field.log_of(*of).len()))
            }
            Self::Clock { of, by_seconds } => {
                field.set_clock(*of, *by_seconds)?;
                Ok(Undo::ClockRight)
            }
        }
    }
}

fn nobody(process: Process) -> Trouble {
    Trouble::Tool { command: format!("finding {process:?}"), said: "it does not run".into() }
}

/// Sends a signal; the process may have ended by itself.
fn send(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}

/// Writes until there is no room for another byte.
fn fill(path: &std::path::Path) -> std::io::Result<()> {
    let mut file = File::create(path)?;
    let block = vec![0; 1 << 16];
    let mut size = block.len();
    while size > 0 {
        match file.write(&block[..size]) {
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::StorageFull => size /= 2,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

impl Active {
    /// What shows that it has an effect; an error as long as nothing does.
    ///
    /// # Errors
    /// What was looked at.
    pub fn bites(&self, field: &Field) -> Result<String, String> {
        let lab = &field.lab;
        match (&self.undo, &self.fault) {
            (Undo::Table(table), _) => {
                let lost = lab.lost(table).map_err(|e| e.to_string())?;
                if lost > 0 { Ok(format!("{lost} packets lost")) } else { Err("no packet was lost".into()) }
            }
            (Undo::Queues, Fault::Rate { of, .. }) => {
                let held: u64 =
                    of.iter().flat_map(|place| lab.devices(*place)).map(|device| held_back(&device)).sum();
                if held > 0 {
                    Ok(format!("{held} packets waited"))
                } else {
                    Err("no packet had to wait".into())
                }
            }
            (Undo::Lines(lines), _) => {
                let fates: Vec<Fates> = lines.iter().map(Forwarder::fates).collect();
                let all = fates.iter().all(|fates| fates.came > 0 && fates.overtook > 0 && fates.doubled > 0);
                if all { Ok(format!("{fates:?}")) } else { Err(format!("{fates:?}")) }
            }
            (Undo::Ballast(_, before), Fault::FullDisk { of }) => {
                let log = field.log_of(*of);
                let mut since = log.get(*before..).unwrap_or_default().lines();
                let refused = since.find(|line| line.contains("journal") && line.contains("os error 28"));
                refused.map(str::to_owned).ok_or_else(|| "no journal found the disk full".into())
            }
            _ => Ok("at once".into()),
        }
    }

    /// Ends it. What has to be started is started, and not waited for.
    ///
    /// # Errors
    /// [`Trouble`].
    pub fn heal(self, field: &mut Field) -> Result<(), Trouble> {
        let lab = &field.lab;
        match (self.undo, &self.fault) {
            (Undo::Table(table), _) => {
                let bridge = lab.bridge();
                script(&bridge, &format!("nft delete table bridge {table}"))?;
            }
            (Undo::Queues, Fault::Rate { of, .. }) => {
                for device in of.iter().flat_map(|place| lab.devices(*place)) {
                    run(&format!("tc -n {} root", device.replace(" dev ", " qdisc delete dev ")))?;
                }
            }
            (Undo::Up, Fault::Down { of }) => {
                ip(&format!("-n {} link set uplink up", lab.machine(*of).space))?;
            }
            (Undo::Lines(lines), _) => drop(lines),
            (Undo::Restart, Fault::Kill(Process::Hub)) => field.fleet.local.start_hub()?,
            (Undo::Restart, Fault::Kill(Process::Agent(at))) => field.fleet.local.start_agent(*at)?,
            (Undo::Continue(pid), _) => send(pid, Signal::CONT),
            (Undo::Ballast(path, before), Fault::FullDisk { of }) => {
                fs::remove_file(&path).map_err(Trouble::file(&path))?;
                // Its supervisors have given up on whoever met the full disk too often. It tells that it has to be
                // restarted, and somebody does.
                if field.log_of(*of).get(before..).is_some_and(|log| log.contains("is given up on")) {
                    field.fleet.local.kill(Some(*of));
                    field.fleet.local.start_agent(*of)?;
                }
            }
            (Undo::ClockRight, Fault::Clock { of, .. }) => field.set_clock(*of, 0)?,
            _ => {}
        }
        // Whoever could not go on with what it found has ended, and is started again as a service manager would.
        field.revive().map(drop)
    }
}

impl Field {
    fn kill(&mut self, process: Process) -> Result<Undo, Trouble> {
        match process {
            Process::Hub => self.fleet.local.kill(None),
            Process::Agent(at) => self.fleet.local.kill(Some(at)),
            Process::Guard(_) => {
                send(self.pid(process).ok_or_else(|| nobody(process))?, Signal::KILL);
                return Ok(Undo::Nothing);
            }
        }
        Ok(Undo::Restart)
    }
}

impl Lab {
    /// A rule for packets from some machines to others.
    fn line(&self, from: &[Place], to: &[Place], which: &str) -> String {
        let list = |places: &[Place]| {
            let seen = places.iter().map(|place| self.machine(*place).seen.get().to_string());
            seen.collect::<Vec<_>>().join(", ")
        };
        format!("ip saddr {{ {} }} ip daddr {{ {} }} {which}counter drop\n", list(from), list(to))
    }

    /// Loads rules for the bridge.
    fn rules(&self, rules: &str) -> Result<Undo, Trouble> {
        let table = format!("fault{}", self.number());
        load(&self.bridge(), &forward_table(&table, rules))?;
        Ok(Undo::Table(table))
    }

    /// Packets that the rules of a table have taken.
    fn lost(&self, table: &str) -> Result<u64, Trouble> {
        let text = script(&self.bridge(), &format!("nft list table bridge {table}"))?;
        let counts = text.split("counter packets ").skip(1);
        Ok(counts.filter_map(|rest| rest.split(' ').next()?.parse::<u64>().ok()).sum())
    }

    /// Both ends of a machine's line, as `NAMESPACE dev NAME`.
    fn devices(&self, place: Place) -> [String; 2] {
        let Machine { space, router, port, .. } = self.machine(place);
        let space = router.as_ref().unwrap_or(space);
        [format!("{space} dev uplink"), format!("{} dev {port}", self.bridge())]
    }

    fn slow(&self, place: Place, manner: Manner) -> Result<Forwarder, Trouble> {
        let Machine { space, own, .. } = self.machine(place);
        let others = self.machines.iter().filter(|other| other.place != place);
        let peers: Vec<String> = others.map(|other| other.seen.get().to_string()).collect();
        Forwarder::start(space, &own.to_string(), NET, &peers, manner, self.seed())
    }

    fn renumber(&self, place: Place) -> Result<(), Trouble> {
        let Machine { own, router, seen, .. } = self.machine(place);
        let router = router.as_deref().ok_or_else(|| Trouble::Tool {
            command: format!("renumbering {place:?}"),
            said: "it has no router".into(),
        })?;
        let old = seen.get();
        let [.., last] = old.octets();
        let new = Ipv4Addr::new(10, 99, 0, last ^ 0x80);
        ip(&format!("-n {router} addr delete {old}/24 dev uplink"))?;
        ip(&format!("-n {router} addr add {new}/24 dev uplink"))?;
        seen.set(new);
        let hub = &self.machine(Place::Hub).space;
        ip(&format!("-n {hub} route replace {own}/32 via {new}")).map(drop)
    }
}

/// Packets that a queue has held back.
fn held_back(device: &str) -> u64 {
    let text = run(&format!("tc -s -n {}", device.replace(" dev ", " qdisc show dev "))).unwrap_or_default();
    let count = text.split("overlimits ").nth(1).and_then(|rest| rest.split(' ').next());
    count.and_then(|count| count.parse().ok()).unwrap_or_default()
}
