//! Our agents: a hub and one cluster of real processes. What an agent knows of the others is read from its log.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use codeco_console::local::{LocalFleet, LocalOptions, RuntimeKind};

use super::{Error, Event, Side, What};
use crate::CODECO;

/// One cluster of our agents.
pub(super) struct Ours {
    fleet: LocalFleet,
    logs: Vec<(PathBuf, u64)>,
    /// Members by the end of their identity.
    members: BTreeMap<String, usize>,
    // Last, so that the fleet has stopped when it is removed.
    _folder: tempfile::TempDir,
}

impl Ours {
    /// A fleet whose members have their certificates. Nothing runs yet.
    pub(super) fn new(nodes: usize, profile: &str) -> Result<Self, Error> {
        let folder = tempfile::TempDir::with_prefix("codeco-bench-")?;
        let state = folder.path().join("state");
        // The default needs no flag.
        let agent_args =
            if profile == "lan" { Vec::new() } else { ["--profile", profile].map(OsString::from).into() };
        let options = LocalOptions {
            program: vec![std::env::current_exe()?.into(), CODECO.into()],
            state: state.clone(),
            clusters: 1,
            nodes: u32::try_from(nodes)?,
            runtime: RuntimeKind::Simulated,
            faults: false,
            agent_args,
            hub_args: Vec::new(),
        };
        let mut fleet = LocalFleet::prepare(options)?;
        fleet.start()?;
        let logs: Vec<(PathBuf, u64)> = fleet
            .agents()
            .iter()
            .map(|agent| (fleet.log_path(&format!("{}-{}", agent.cluster, agent.name)), 0))
            .collect();
        let mut members = BTreeMap::new();
        for (at, (log, _)) in logs.iter().enumerate() {
            let text = std::fs::read_to_string(log)?;
            let id =
                text.lines().find_map(|line| line.split_once("joined identity=")?.1.split('/').next_back());
            members.insert(id.ok_or("an agent did not say who it is")?.trim().to_owned(), at);
        }
        let left = fleet.stop();
        if !left.is_empty() {
            return Err(format!("did not stop in time: {}", left.join(", ")).into());
        }
        let mut ours = Self { fleet, logs, members, _folder: folder };
        ours.events()?;
        ours.fleet.start_hub()?;
        ours.fleet.wait_hub()?;
        Ok(ours)
    }

    /// `2026-11-24T13:31:15.859565Z  INFO …: member peer=/cluster/edge-1/node/<id> liveness=Dead`
    fn read(&self, observer: usize, line: &str) -> Option<Event> {
        let (_, rest) = line.split_once(": member peer=")?;
        let (peer, liveness) = rest.split_once(" liveness=")?;
        let what = match liveness.split_whitespace().next()? {
            "Dead" => What::Dead,
            "Alive" => What::Alive,
            _ => return None,
        };
        let about = *self.members.get(peer.rsplit('/').next()?)?;
        Some(Event { at: time_of(line)?, observer, about, what })
    }
}

/// Time at the beginning of a line of a log, within the last day.
fn time_of(line: &str) -> Option<SystemTime> {
    let clock = line.split_once('T')?.1.split_once('Z')?.0;
    let mut parts = clock.split(':');
    let (hours, minutes): (u64, u64) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    let seconds: f64 = parts.next()?.parse().ok()?;
    let of_day = Duration::from_secs(hours * 3_600 + minutes * 60) + Duration::from_secs_f64(seconds);
    const DAY: u64 = 24 * 3_600;
    let now = SystemTime::now();
    let today = now.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs() / DAY;
    let at = SystemTime::UNIX_EPOCH + Duration::from_secs(today * DAY) + of_day;
    // A line written just before midnight and read just after.
    Some(if at > now + Duration::from_secs(3_600) { at - Duration::from_secs(DAY) } else { at })
}

impl Side for Ours {
    fn name(&self) -> &'static str {
        "codeco"
    }

    fn start(&mut self, at: usize) -> Result<(), Error> {
        Ok(self.fleet.start_agent(at)?)
    }

    fn kill(&mut self, at: usize) -> Result<(), Error> {
        self.fleet.kill(Some(at));
        Ok(())
    }

    fn pids(&self) -> Vec<u32> {
        self.fleet.agents().iter().filter_map(codeco_console::local::LocalAgent::pid).collect()
    }

    fn await_rest(&mut self) -> Result<(), Error> {
        (0..self.logs.len()).try_for_each(|at| Ok(self.fleet.wait_agent(at)?))
    }

    fn events(&mut self) -> Result<Vec<Event>, Error> {
        let mut all = Vec::new();
        for observer in 0..self.logs.len() {
            let (path, from) = &self.logs[observer];
            let Ok(mut file) = File::open(path) else { continue };
            let mut text = String::new();
            file.seek(SeekFrom::Start(*from))?;
            file.read_to_string(&mut text)?;
            // The last line may be half written.
            let whole = text.rfind('\n').map_or(0, |end| end + 1);
            all.extend(text[..whole].lines().filter_map(|line| self.read(observer, line)));
            self.logs[observer].1 += whole as u64;
        }
        Ok(all)
    }

    fn cut_in_half(&self) -> Vec<String> {
        let agents = self.fleet.agents();
        let ports = |agents: &[codeco_console::local::LocalAgent]| {
            agents.iter().map(|agent| agent.udp().port().to_string()).collect::<Vec<_>>()
        };
        // The hub is on the first side.
        let mut first = ports(&agents[..agents.len() / 2]);
        first.push(self.fleet.hub_udp().port().to_string());
        let (first, second) = (first.join(", "), ports(&agents[agents.len() / 2..]).join(", "));
        vec![
            format!("udp sport {{ {first} }} udp dport {{ {second} }}"),
            format!("udp sport {{ {second} }} udp dport {{ {first} }}"),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_of_a_line_is_within_the_last_day() {
        let at = time_of("2026-11-24T13:31:15.859565Z  INFO codeco: member").unwrap();
        let age = SystemTime::now().duration_since(at).unwrap_or_default();
        assert!(age < Duration::from_secs(24 * 3_600));
        assert!(time_of("no time").is_none());
    }
}
