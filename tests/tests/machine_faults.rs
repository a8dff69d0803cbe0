//! Machines fail in other ways than by dying: one is paused, its network goes, its disk is lost. What needs a lease ends
//! with it, what may run alone runs on, nobody else is touched, and whoever comes back takes part again. Judged by
//! programs: the process table all the time, and the journals of all members at the end.
//!
//! The other two faults of disks and clocks, a copied disk and a clock that starts in 1970, are in `identity.rs`.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;
use std::time::{Duration, Instant};

use codeco_protocol::api::{ClusterView, EventView, NodeStatus};
use codeco_tests::accounts::{audit, continued};
use codeco_tests::{
    Books, FENCED, Fleet, Shape, Trouble, Watch, WorkloadProcess, app, is_alive, mentioning, until, workloads,
};
use rustix::process::{Pid, Signal, kill_process};

const CODECO: &str = env!("CARGO_BIN_EXE_codeco-under-test");
const SHAPE: Shape = Shape { clusters: 1, nodes: 3, lease_ms: 5_000 };
/// Replicas of each kind.
const EACH: u32 = 6;
/// How long a machine is paused: many leases.
const PAUSE: Duration = Duration::from_secs(30);

fn wanted() -> Vec<(String, u32)> {
    vec![("alpha".to_owned(), 2 * EACH)]
}

fn signal(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), signal).unwrap();
}

fn is_fenced(process: &WorkloadProcess) -> bool {
    process.replica.contains(FENCED)
}

/// A fleet at rest, and the node of it that something is about to happen to: not the lead, and with work of both kinds.
struct Scene {
    fleet: Fleet,
    watch: Watch,
    books: Books,
    at: usize,
    name: String,
    /// What runs there, and everywhere else.
    here: Vec<WorkloadProcess>,
    elsewhere: Vec<WorkloadProcess>,
}

impl Scene {
    /// Whichever node will do, or the one named.
    fn new(fleet: Fleet, which: Option<usize>) -> Self {
        let lead = fleet
            .until("three voters and a lead", |fleet| {
                let clusters: Vec<ClusterView> = fleet.get("clusters").map_err(|e| e.to_string())?;
                let cluster = clusters.first().ok_or("no cluster is known")?;
                let voters = cluster
                    .electorate
                    .as_ref()
                    .map_or(0, |electorate| electorate.voters.iter().filter(|voter| voter.answers).count());
                match &cluster.lead {
                    Some(lead) if voters == 3 => Ok(lead.to_string()),
                    _ => Err(format!("{cluster:?}")),
                }
            })
            .unwrap();
        let file = fleet.write_manifest("alpha", &app("alpha", EACH, EACH)).unwrap();
        fleet.codeco(&["apply", "-f", &file]).unwrap();
        let books = fleet.settle(&wanted()).unwrap();
        let watch = Watch::start(fleet.state());
        let all = workloads(|mark| books.node_of(mark).is_some());
        let on = |at: usize| -> Vec<WorkloadProcess> {
            let name = &fleet.local.agents()[at].name;
            let here = |process: &&WorkloadProcess| {
                books.node_of(&process.guard).is_some_and(|(node, _)| node.ends_with(name.as_str()))
            };
            all.iter().filter(here).filter(|process| process.pid == process.group).cloned().collect()
        };
        let serves = |at: &usize| {
            let (fenced, free): (Vec<_>, Vec<_>) = on(*at).into_iter().partition(is_fenced);
            fleet.local.agents()[*at].name != lead && !fenced.is_empty() && !free.is_empty()
        };
        let mut candidates =
            (0..fleet.local.agents().len()).filter(|at| which.is_none_or(|which| which == *at));
        let at = candidates.find(serves).expect("a node that does not lead has work of both kinds");
        let name = fleet.local.agents()[at].name.clone();
        let here = on(at);
        let elsewhere: Vec<_> = (0..3).filter(|other| *other != at).flat_map(on).collect();
        assert!(!elsewhere.is_empty());
        Self { fleet, watch, books, at, name, here, elsewhere }
    }

    fn of_kind(&self, fenced: bool) -> impl Iterator<Item = &WorkloadProcess> {
        self.here.iter().filter(move |process| is_fenced(process) == fenced)
    }

    fn agent(&self) -> u32 {
        self.fleet.local.agents()[self.at].pid().unwrap()
    }

    fn guards(&self) -> Vec<u32> {
        let folder = self.fleet.local.agents()[self.at].state.display().to_string();
        let lines = mentioning(&folder).into_iter().filter(|(_, line)| line.contains("/guard "));
        let guards: Vec<u32> = lines.map(|(pid, _)| pid).collect();
        assert!(!guards.is_empty(), "the node has no guard");
        guards
    }

    /// Waits until nothing that needs a lease runs on the node any more.
    fn fenced_have_ended(&self) {
        let ended = || {
            let left: Vec<_> = self.of_kind(true).filter(|process| is_alive(process)).collect();
            if left.is_empty() { Ok(()) } else { Err(format!("{left:?} run on {}", self.name)) }
        };
        until("what needs a lease has ended with it", ended).unwrap();
    }

    /// What may run alone is the very process it was.
    fn free_run_on(&self) {
        for process in self.of_kind(false) {
            assert!(is_alive(process), "{process:?} of {} was ended", self.name);
        }
    }

    /// Waits until all that the node ran is ready elsewhere; returns the processes by replica.
    fn replaced(&self) -> BTreeMap<String, WorkloadProcess> {
        let look = |fleet: &Fleet| {
            let rows = fleet.replicas().map_err(|e| e.to_string())?;
            let well: BTreeSet<String> = rows
                .iter()
                .filter(|row| row.ready && row.node.as_ref().is_some_and(|node| node.as_str() != self.name))
                .map(|row| format!("{}-{}", row.service, row.index))
                .collect();
            let short = |process: &WorkloadProcess| process.replica.rsplit('/').next().unwrap().to_owned();
            let lacking: BTreeSet<String> =
                self.here.iter().map(short).filter(|replica| !well.contains(replica)).collect();
            if lacking.is_empty() { Ok(()) } else { Err(format!("not yet elsewhere: {lacking:?}")) }
        };
        self.fleet.until("all that it ran is ready elsewhere", look).unwrap();
        let own = &self.here[0].guard;
        let all = workloads(|mark| mark != own && self.books.node_of(mark).is_some());
        all.into_iter().map(|process| (process.replica.clone(), process)).collect()
    }

    /// Nobody else was touched.
    fn others_run_on(&self) {
        for process in &self.elsewhere {
            assert!(
                is_alive(process),
                "{process:?} of another node was ended while {} was away; events:\n{}",
                self.name,
                self.fleet.codeco(&["get", "events"]).unwrap_or_default()
            );
        }
    }

    /// Waits until the node is as good as any, each replica runs once, and all books balance.
    fn well_again(&self) -> Books {
        let ready = |fleet: &Fleet| {
            let nodes = fleet.nodes().map_err(|e| e.to_string())?;
            let node = nodes.iter().find(|node| node.name.as_str() == self.name && node.ready);
            match node {
                Some(node) if node.status == NodeStatus::Ready => Ok(()),
                _ => Err(format!("{nodes:?}")),
            }
        };
        self.fleet.until("the node is ready again", ready).unwrap();
        let books = self.fleet.settle(&wanted()).unwrap();
        self.others_run_on();
        // It takes work as before, and whatever is taken from it ends there.
        let file = self.fleet.write_manifest("beta", &app("beta", 3, 3)).unwrap();
        self.fleet.codeco(&["apply", "-f", &file]).unwrap();
        let with_beta = [wanted(), vec![("beta".to_owned(), 6)]].concat();
        Trouble::unless_empty(continued(&books, &self.fleet.settle(&with_beta).unwrap())).unwrap();
        books
    }

    /// The last word of the programs that have watched. Whatever was written before must still be there, but for the
    /// journals of `lost`.
    fn end(mut self, lost: Option<&str>) {
        let (books, found) = audit(self.fleet.state()).unwrap();
        Trouble::unless_empty(found).unwrap();
        if let Some(lost) = lost {
            self.books.ledgers.retain(|node, _| !node.ends_with(lost));
        }
        Trouble::unless_empty(continued(&self.books, &books)).unwrap();
        let watched = self.watch.end();
        assert!(watched.seen > 0, "a watch that sees nothing proves nothing");
        assert_eq!(watched.doubles, BTreeSet::new());
        assert_eq!(self.fleet.stop().unwrap(), Vec::<String>::new());
    }
}

/// Waits until the pause has lasted as long as it should.
fn rest_of_the_pause(began: Instant) {
    std::thread::sleep(PAUSE.saturating_sub(began.elapsed()));
}

#[test]
fn agent_paused_for_many_leases_its_guard_ends_what_needs_one_and_it_takes_part_again() {
    let scene = Scene::new(Fleet::start(CODECO, SHAPE).unwrap(), None);
    let began = Instant::now();
    signal(scene.agent(), Signal::STOP);
    scene.fenced_have_ended();
    scene.free_run_on();
    scene.replaced();
    rest_of_the_pause(began);
    scene.fenced_have_ended();
    scene.free_run_on();
    scene.others_run_on();
    signal(scene.agent(), Signal::CONT);
    scene.well_again();
    scene.end(None);
}

/// A machine that is paused with all that is on it can end nothing meanwhile: that is what fencing tokens are for. Until
/// the guard has seen how late it is, what it ran may go on for a moment, under the lower token.
#[test]
fn machine_paused_for_many_leases_wakes_with_lower_tokens_and_ends_what_it_may_not_run() {
    let mut scene = Scene::new(Fleet::start(CODECO, SHAPE).unwrap(), None);
    let began = Instant::now();
    let own = scene.here[0].guard.clone();
    let machine = || -> Vec<u32> {
        let work = workloads(|mark| mark == own).into_iter().map(|process| process.pid);
        std::iter::once(scene.agent()).chain(scene.guards()).chain(work).collect()
    };
    let paused = machine();
    for pid in &paused {
        // A pause between two naps of a script's: that one has ended.
        let _ = kill_process(Pid::from_raw(i32::try_from(*pid).unwrap()).unwrap(), Signal::STOP);
    }
    let successors = scene.replaced();
    rest_of_the_pause(began);
    scene.others_run_on();
    for old in scene.of_kind(true) {
        assert!(is_alive(old), "a stopped guard ends nothing: {old:?}");
        let new = &successors[&old.replica];
        assert!(number(&new.token) > number(&old.token), "{} is not fenced off by {}", old.token, new.token);
    }
    // Up to here nothing ran twice; from here on again, once the machine knows what time it is.
    let watched = std::mem::replace(&mut scene.watch, Watch::start(scene.fleet.state())).end();
    assert!(watched.seen > 0 && watched.doubles.is_empty(), "{:?}", watched.doubles);
    drop(std::mem::replace(&mut scene.watch, Watch::start(scene.fleet.state())));
    let woken = Instant::now();
    for pid in &paused {
        let _ = kill_process(Pid::from_raw(i32::try_from(*pid).unwrap()).unwrap(), Signal::CONT);
    }
    scene.fenced_have_ended();
    println!("what needed a lease had ended {:?} after the machine woke", woken.elapsed());
    drop(std::mem::replace(&mut scene.watch, Watch::start(scene.fleet.state())));
    scene.well_again();
    scene.end(None);
}

/// A token as the workload compares it: left to right.
fn number(token: &str) -> Vec<u64> {
    token.split('.').map(|part| part.parse().unwrap()).collect()
}

#[test]
fn node_that_lost_its_disk_joins_as_another_and_promises_nothing_that_the_lost_one_had_promised() {
    let mut scene = Scene::new(Fleet::start(CODECO, SHAPE).unwrap(), None);
    let guards = scene.guards();
    scene.fleet.local.kill(Some(scene.at));
    // The machine was off: nothing of it runs on.
    guards.iter().for_each(|guard| signal(*guard, Signal::KILL));
    let gone = || {
        let left: Vec<_> = scene.here.iter().filter(|process| is_alive(process)).collect();
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    };
    until("nothing of the machine runs", gone).unwrap();
    let state = scene.fleet.local.agents()[scene.at].state.clone();
    fs::remove_dir_all(&state).unwrap();
    scene.fleet.local.start_agent(scene.at).unwrap();
    scene.fleet.local.wait_agent(scene.at).unwrap();
    let books = scene.well_again();
    let of = |books: &Books| {
        let (_, book) = books.ledgers.iter().find(|(node, _)| node.ends_with(&scene.name)).unwrap();
        book.committed()
    };
    let twice: Vec<_> = of(&scene.books).intersection(&of(&books)).cloned().collect();
    assert!(twice.is_empty(), "promised again: {twice:?}");
    let name = scene.name.clone();
    scene.end(Some(&name));
}

/// A network namespace that is joined to ours by one pair of interfaces; both go with this.
struct Wire {
    name: String,
    inside: IpAddr,
    outside: IpAddr,
}

impl Wire {
    /// What is missing on this machine, if it cannot be had.
    fn missing() -> Option<String> {
        if !rustix::process::geteuid().is_root() {
            return Some("a network namespace needs root".to_owned());
        }
        let there = Command::new("ip").arg("-V").output();
        there.is_err().then(|| "ip is missing: apt-get install iproute2".to_owned())
    }

    fn new() -> Self {
        let own = std::process::id();
        let [.., high, low] = own.to_be_bytes();
        // Two addresses of a block for documentation and tests of networks (RFC 2544) that few others use here.
        let address = |last: u8| IpAddr::V4(Ipv4Addr::new(198, 18 + (high & 1), low, last));
        let wire = Self { name: format!("codeco{own}"), inside: address(2), outside: address(1) };
        let (name, end) = (wire.name.as_str(), format!("cd{own}"));
        ip(&["netns", "add", name]);
        ip(&["link", "add", &end, "type", "veth", "peer", "name", "uplink", "netns", name]);
        ip(&["address", "add", &format!("{}/30", wire.outside), "dev", &end]);
        ip(&["link", "set", &end, "up"]);
        wire.inside(&["address", "add", &format!("{}/30", wire.inside), "dev", "uplink"]);
        wire.inside(&["link", "set", "lo", "up"]);
        wire.set("up");
        wire
    }

    fn inside(&self, arguments: &[&str]) {
        ip(&[&["-n", self.name.as_str()], arguments].concat());
    }

    fn set(&self, state: &str) {
        self.inside(&["link", "set", "uplink", state]);
    }

    /// Makes a program run inside.
    fn launcher(&self) -> Vec<OsString> {
        ["ip", "netns", "exec", &self.name].map(OsString::from).to_vec()
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        // The interfaces go with it, once its last process has gone.
        let _ = Command::new("ip").args(["netns", "delete", &self.name]).output();
    }
}

fn ip(arguments: &[&str]) {
    let output = Command::new("ip").args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {}: {said}", arguments.join(" "));
}

#[test]
fn node_whose_interface_is_down_keeps_what_may_run_alone_says_so_and_takes_part_again() {
    if let Some(missing) = Wire::missing() {
        assert!(std::env::var_os("CODECO_NO_SKIP").is_none(), "cannot run: {missing}");
        println!("skipped: {missing}");
        return;
    }
    let wire = Wire::new();
    let last = 2;
    let fleet = Fleet::start_placed(CODECO, SHAPE, false, |local| {
        local.host_at(wire.outside);
        local.place_agent(last, wire.launcher(), wire.inside);
    });
    let scene = Scene::new(fleet.unwrap(), Some(last));
    let agent = scene.agent();
    wire.set("down");
    scene.fenced_have_ended();
    scene.free_run_on();
    scene.replaced();
    scene.free_run_on();
    scene.others_run_on();
    assert_eq!(scene.agent(), agent);
    wire.set("up");
    scene.well_again();
    assert!(
        mentioning(&scene.fleet.local.agents()[last].state.display().to_string())
            .iter()
            .any(|p| p.0 == agent)
    );
    let told = scene.fleet.until("it tells that it was cut off", |fleet| {
        let events: Vec<EventView> = fleet.get("events").map_err(|e| e.to_string())?;
        let of_it = |event: &&EventView| event.member.ends_with(&scene.name) && event.reason == "CutOff";
        let told: Vec<String> = events.iter().filter(of_it).map(|event| event.message.clone()).collect();
        if told.is_empty() { Err(format!("{} other events", events.len())) } else { Ok(told) }
    });
    assert!(told.unwrap().iter().any(|said| said.contains("hears no other member")));
    scene.end(None);
}
