//! A fleet on the machines of a lab.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use super::tools::Entered;
use super::{Lab, Place, Process};
use crate::fleet::kill;
use crate::{Fleet, Shape, Trouble, mentioning};

/// Room on a small disk, in KiB: enough for a life without trouble.
const SMALL_DISK_KIB: u32 = 16 << 10;
/// Where Debian keeps the library that gives a process a wall clock of its own.
const FAKETIME: &str = "faketime/libfaketime.so.1";

/// What to run, and what is special about some of the agents, by their numbers.
#[derive(Debug, Clone)]
pub struct Plan {
    /// For all that is left to chance.
    pub seed: u64,
    /// The fleet.
    pub shape: Shape,
    /// Agents behind a router of their own.
    pub behind_nat: Vec<usize>,
    /// Agents with a wall clock of their own.
    pub own_clock: Vec<usize>,
    /// Agents with a small disk of their own.
    pub small_disk: Vec<usize>,
}

/// A fleet whose every member has a machine of its own. The thread that has made it is on the hub's machine, and has to
/// be the one that drops it.
#[derive(Debug)]
pub struct Field {
    /// The fleet.
    pub fleet: Fleet,
    clocks: PathBuf,
    _entered: Entered,
    /// The machines.
    pub lab: Lab,
}

impl Field {
    /// Makes the machines, starts a fleet of `codeco` on them, and waits until all members are ready.
    ///
    /// # Errors
    /// [`Trouble`].
    pub fn start(codeco: &str, plan: &Plan) -> Result<Self, Trouble> {
        let mut lab = Lab::new(plan.seed)?;
        lab.add(Place::Hub)?;
        let agents = plan.shape.clusters * plan.shape.nodes;
        for at in 0..usize::try_from(agents).unwrap_or_default() {
            if plan.behind_nat.contains(&at) {
                lab.add_behind_nat(Place::Agent(at))?;
            } else {
                lab.add(Place::Agent(at))?;
            }
        }
        let entered = lab.enter(Place::Hub)?;
        let (mut clocks, mut prepared) = (PathBuf::new(), Ok(()));
        let fleet = Fleet::start_placed(codeco, plan.shape, false, |local| {
            clocks = local.hub_state().with_file_name("clocks");
            prepared = prepare(&lab, plan, &clocks, local);
        });
        prepared?;
        Ok(Self { fleet: fleet?, clocks, _entered: entered, lab })
    }

    /// Process id, if it runs.
    #[must_use]
    pub fn pid(&self, process: Process) -> Option<u32> {
        let local = &self.fleet.local;
        match process {
            Process::Hub => local.hub_pid(),
            Process::Agent(at) => local.agents()[at].pid(),
            Process::Guard(at) => {
                let folder = local.agents()[at].state.display().to_string();
                let of_guard = |line: &str| line.contains("/guard ");
                mentioning(&folder).into_iter().find(|(_, line)| of_guard(line)).map(|(pid, _)| pid)
            }
        }
    }

    /// Starts again what has ended by itself; returns what that was.
    ///
    /// # Errors
    /// [`Trouble::Fleet`].
    pub fn revive(&mut self) -> Result<Vec<String>, Trouble> {
        let died = self.fleet.local.reap();
        for member in &died {
            match member.agent {
                Some(at) => self.fleet.local.start_agent(at)?,
                None => self.fleet.local.start_hub()?,
            }
        }
        Ok(died.into_iter().map(|member| member.name).collect())
    }

    /// Waits until every member says that it is ready.
    ///
    /// # Errors
    /// [`Trouble::Fleet`].
    pub fn wait_ready(&mut self) -> Result<(), Trouble> {
        self.fleet.local.wait_hub()?;
        for at in 0..self.fleet.local.agents().len() {
            self.fleet.local.wait_agent(at)?;
        }
        Ok(())
    }

    /// The log of an agent.
    #[must_use]
    pub fn log_of(&self, at: usize) -> String {
        let agent = &self.fleet.local.agents()[at];
        let path = self.fleet.local.log_path(&format!("{}-{}", agent.cluster, agent.name));
        String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
    }

    /// Sets the wall clock of an agent with one of its own so much off.
    ///
    /// # Errors
    /// [`Trouble::File`].
    pub fn set_clock(&self, at: usize, by_seconds: i64) -> Result<(), Trouble> {
        write_clock(&self.clocks, at, by_seconds)
    }
}

impl Drop for Field {
    /// The disks can go only when nothing runs on them any more, and before the fleet's folder does.
    fn drop(&mut self) {
        self.fleet.local.stop();
        self.fleet.guards().into_iter().for_each(kill);
        self.lab.unmount();
    }
}

fn prepare(
    lab: &Lab,
    plan: &Plan,
    clocks: &Path,
    local: &mut codeco_console::local::LocalFleet,
) -> Result<(), Trouble> {
    fs::create_dir_all(clocks).map_err(Trouble::file(clocks))?;
    local.host_at(lab.address(Place::Hub));
    for at in 0..local.agents().len() {
        let place = Place::Agent(at);
        let mut launcher = lab.launcher(place);
        if plan.own_clock.contains(&at) {
            write_clock(clocks, at, 0)?;
            launcher.extend(clock_of(&clocks.join(at.to_string())));
        }
        if plan.behind_nat.contains(&at) {
            launcher.extend(["sh", "-c", "exec \"$@\" --dial-out-only", "sh"].map(OsString::from));
        }
        if plan.small_disk.contains(&at) {
            lab.mount(&local.agents()[at].state, SMALL_DISK_KIB)?;
        }
        local.place_agent(at, launcher, lab.address(place));
    }
    Ok(())
}

/// Written beside and moved: a reader finds the old or the new one.
fn write_clock(clocks: &Path, at: usize, by_seconds: i64) -> Result<(), Trouble> {
    let (path, beside) = (clocks.join(at.to_string()), clocks.join(format!("{at}.new")));
    fs::write(&beside, format!("{by_seconds:+}\n")).map_err(Trouble::file(&beside))?;
    fs::rename(&beside, &path).map_err(Trouble::file(&path))
}

/// The library that gives a process a wall clock of its own, if it is installed.
#[must_use]
pub fn faketime() -> Option<PathBuf> {
    let folders = ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib"];
    folders.iter().map(|folder| Path::new(folder).join(FAKETIME)).find(|path| path.exists())
}

/// Makes a program read its wall clock through a file that says how wrong it is. Leases are counted on clocks that nobody
/// sets, so those stay as they are.
fn clock_of(file: &Path) -> Vec<OsString> {
    let mut words = vec![OsString::from("env")];
    let mut set = |name: &str, value: &Path| {
        let mut word = OsString::from(format!("{name}="));
        word.push(value);
        words.push(word);
    };
    set("LD_PRELOAD", &faketime().unwrap_or_default());
    set("FAKETIME_TIMESTAMP_FILE", file);
    for name in ["FAKETIME_NO_CACHE", "FAKETIME_DONT_FAKE_MONOTONIC", "NO_FAKE_STAT"] {
        set(name, Path::new("1"));
    }
    words
}
