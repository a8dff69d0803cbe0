//! A fleet under test, spoken to as people do.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use codeco_console::local::{LocalFleet, LocalOptions, RuntimeKind};
use codeco_protocol::api::{AppView, ClusterView, List, NodeView, ReplicaView};
use rustix::process::{Pid, Signal, kill_process};
use serde::de::DeserializeOwned;
use tempfile::TempDir;

use crate::accounts::{audit, balance};
use crate::{Books, Trouble, mentioning, workloads};

/// How long anything may take on a busy machine. Nothing is judged by it: it only ends a test that would hang.
const DEADLINE: Duration = Duration::from_secs(90);
/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(25);
/// Lines of each log that a failure shows.
const LOG_LINES: usize = 12;

/// What fleet to run.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Number of clusters.
    pub clusters: u32,
    /// Number of nodes in each.
    pub nodes: u32,
    /// How long a node lease lasts, in milliseconds.
    pub lease_ms: u64,
}

/// A hub and agents as processes of their own, with the runtime `process`. They and all they run end with this.
#[derive(Debug)]
pub struct Fleet {
    /// The processes.
    pub local: LocalFleet,
    codeco: PathBuf,
    contexts: PathBuf,
    state: PathBuf,
    _folder: TempDir,
}

impl Fleet {
    /// Starts a fleet of `codeco`, the command under test, and waits until all members are ready.
    ///
    /// # Errors
    /// [`Trouble`].
    pub fn start(codeco: &str, shape: Shape) -> Result<Self, Trouble> {
        Self::start_with(codeco, shape, false)
    }

    /// The same, where `faults` may be injected.
    ///
    /// # Errors
    /// [`Trouble`].
    pub fn start_with(codeco: &str, shape: Shape, faults: bool) -> Result<Self, Trouble> {
        Self::start_placed(codeco, shape, faults, |_| {})
    }

    /// The same, with members somewhere else than on loopback: `place` says where.
    ///
    /// # Errors
    /// [`Trouble`].
    pub fn start_placed(
        codeco: &str,
        shape: Shape,
        faults: bool,
        place: impl FnOnce(&mut LocalFleet),
    ) -> Result<Self, Trouble> {
        let folder =
            TempDir::with_prefix("codeco-test-").map_err(Trouble::file(Path::new("temporary folder")))?;
        let state = folder.path().join("state");
        let options = LocalOptions {
            program: vec![codeco.into()],
            state: state.clone(),
            clusters: shape.clusters,
            nodes: shape.nodes,
            runtime: RuntimeKind::Process,
            faults,
            agent_args: vec!["--lease-ms".into(), shape.lease_ms.to_string().into()],
            hub_args: Vec::new(),
        };
        let mut fleet = Self {
            local: LocalFleet::prepare(options)?,
            codeco: codeco.into(),
            contexts: folder.path().join("contexts.yaml"),
            state,
            _folder: folder,
        };
        place(&mut fleet.local);
        fleet.local.start()?;
        fleet.write_context()?;
        fleet.wait_voters(shape)?;
        Ok(fleet)
    }

    /// Waits until every cluster has all the voters that its size is worth: before that, the loss of one is more than
    /// it promises to bear.
    fn wait_voters(&self, shape: Shape) -> Result<(), Trouble> {
        let wanted = match shape.nodes {
            0..3 => 1,
            3..9 => 3,
            _ => 5,
        };
        self.until(&format!("every cluster has {wanted} voters"), |fleet| {
            let clusters: Vec<ClusterView> = fleet.get("clusters").map_err(|e| e.to_string())?;
            let voters = |cluster: &ClusterView| cluster.electorate.as_ref().map_or(0, |e| e.voters.len());
            let all = clusters.iter().filter(|cluster| voters(cluster) == wanted).count();
            let counts: Vec<usize> = clusters.iter().map(voters).collect();
            if u32::try_from(all) == Ok(shape.clusters) { Ok(()) } else { Err(format!("{counts:?}")) }
        })
    }

    /// Writes the context of the command: the hub first, then all agents.
    ///
    /// # Errors
    /// [`Trouble`].
    pub fn write_context(&self) -> Result<(), Trouble> {
        let access = self.local.access()?;
        let context = serde_json::json!({
            "current": "test",
            "contexts": [{"name": "test", "server": access.server, "ca": access.ca, "token": access.token,
                          "members": self.local.apis()}],
        });
        codeco_protocol::identity::write_private(&self.contexts, context.to_string().as_bytes()).map_err(
            |e| Trouble::Command { command: "(writing the file of contexts)".into(), said: e.to_string() },
        )
    }

    /// The folder with everything.
    #[must_use]
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// The command with these arguments, not started yet.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.codeco);
        command.args(arguments).env("CODECO_CONFIG", &self.contexts).env_remove("CODECO_CONTEXT");
        command
    }

    /// Runs the command; returns what it prints.
    ///
    /// # Errors
    /// [`Trouble::Command`].
    pub fn codeco(&self, arguments: &[&str]) -> Result<String, Trouble> {
        let failed = |said| Trouble::Command { command: arguments.join(" "), said };
        let output =
            self.command(arguments).stdin(Stdio::null()).output().map_err(|e| failed(e.to_string()))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err(failed(format!("{}: {said}", output.status)));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Starts the command and does not wait.
    ///
    /// # Errors
    /// [`Trouble::Command`].
    pub fn begin(&self, arguments: &[&str]) -> Result<Child, Trouble> {
        let mut command = self.command(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        command.spawn().map_err(|e| Trouble::Command { command: arguments.join(" "), said: e.to_string() })
    }

    /// Runs the command as somebody who reaches that agent alone.
    ///
    /// # Errors
    /// [`Trouble::Command`].
    pub fn codeco_at(&self, agent: usize, arguments: &[&str]) -> Result<String, Trouble> {
        let api = format!("https://{}", self.local.agents()[agent].api());
        self.ask("https://127.0.0.1:9", &[api], arguments)
    }

    /// Runs the command as somebody who reaches the hub alone: no other member answers in its place.
    ///
    /// # Errors
    /// [`Trouble::Command`].
    pub fn codeco_at_hub(&self, arguments: &[&str]) -> Result<String, Trouble> {
        self.ask(&self.local.access()?.server, &[], arguments)
    }

    fn ask(&self, server: &str, members: &[String], arguments: &[&str]) -> Result<String, Trouble> {
        let access = self.local.access()?;
        let context = serde_json::json!({
            "current": "test",
            "contexts": [{"name": "test", "server": server, "ca": access.ca, "token": access.token,
                          "members": members}],
        });
        let failed = |said| Trouble::Command { command: arguments.join(" "), said };
        let path = self.contexts.with_file_name("at.yaml");
        codeco_protocol::identity::write_private(&path, context.to_string().as_bytes())
            .map_err(|e| failed(e.to_string()))?;
        let mut command = self.command(arguments);
        let output = command.env("CODECO_CONFIG", &path).stdin(Stdio::null()).output();
        let output = output.map_err(|e| failed(e.to_string()))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err(failed(format!("{}: {said}", output.status)));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// `get KIND`, understood.
    ///
    /// # Errors
    /// [`Trouble::Command`].
    pub fn get<T: DeserializeOwned>(&self, kind: &str) -> Result<Vec<T>, Trouble> {
        let arguments = ["get", kind, "-o", "json"];
        let list: List<T> = serde_json::from_str(&self.codeco(&arguments)?)
            .map_err(|e| Trouble::Command { command: arguments.join(" "), said: e.to_string() })?;
        Ok(list.items)
    }

    /// The applications.
    ///
    /// # Errors
    /// [`Trouble::Command`].
    pub fn apps(&self) -> Result<Vec<AppView>, Trouble> {
        self.get("apps")
    }

    /// The replicas.
    ///
    /// # Errors
    /// [`Trouble::Command`].
    pub fn replicas(&self) -> Result<Vec<ReplicaView>, Trouble> {
        self.get("replicas")
    }

    /// The nodes.
    ///
    /// # Errors
    /// [`Trouble::Command`].
    pub fn nodes(&self) -> Result<Vec<NodeView>, Trouble> {
        self.get("nodes")
    }

    /// Writes a manifest into a file for `apply -f`.
    ///
    /// # Errors
    /// [`Trouble::File`].
    pub fn write_manifest(&self, name: &str, text: &str) -> Result<String, Trouble> {
        let path = self.state.join(format!("{name}.yaml"));
        fs::write(&path, text).map_err(Trouble::file(&path))?;
        Ok(path.display().to_string())
    }

    /// Waits until `look` says so.
    ///
    /// # Errors
    /// [`Trouble::InVain`] with the ends of all logs.
    pub fn until<T>(
        &self,
        what: &str,
        mut look: impl FnMut(&Self) -> Result<T, String>,
    ) -> Result<T, Trouble> {
        until(what, || look(self)).map_err(|trouble| match trouble {
            Trouble::InVain { what, seconds, last, .. } => {
                Trouble::InVain { what, seconds, last, logs: self.logs() }
            }
            other => other,
        })
    }

    /// Waits until the fleet is at rest with exactly these applications, and its accounts balance: name and number of
    /// replicas of each.
    ///
    /// # Errors
    /// [`Trouble::InVain`], with what is still wrong; [`Trouble::Accounts`] for what must never be.
    pub fn settle(&self, wanted: &[(String, u32)]) -> Result<Books, Trouble> {
        self.until("every application is ready", |fleet| {
            let apps = fleet.apps().map_err(|e| e.to_string())?;
            let mut found: Vec<(String, u32)> = apps
                .iter()
                .map(|app| (app.name.to_string(), app.replicas_ready.min(app.replicas_wanted)))
                .collect();
            found.sort();
            let settled = found == wanted && apps.iter().all(|a| a.generation == a.observed_generation);
            if settled { Ok(()) } else { Err(format!("{found:?} ready, expected {wanted:?}")) }
        })?;
        self.until("the accounts balance", |fleet| {
            let (books, found) = audit(fleet.state()).map_err(|e| e.to_string())?;
            if !found.is_empty() {
                return Ok(Err(Trouble::Accounts(found)));
            }
            let processes = workloads(|mark| books.node_of(mark).is_some());
            let found = balance(&books, &processes);
            if found.is_empty() { Ok(Ok(books)) } else { Err(found.join("\n  ")) }
        })?
    }

    /// The ends of all logs.
    #[must_use]
    pub fn logs(&self) -> String {
        let folder = self.state.join("logs");
        let mut text = String::new();
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let log = fs::read(entry.path()).unwrap_or_default();
            let log = String::from_utf8_lossy(&log);
            let skip = log.lines().count().saturating_sub(LOG_LINES);
            let tail: Vec<&str> = log.lines().skip(skip).collect();
            text.push_str(&format!("--- {}\n{}\n", entry.file_name().to_string_lossy(), tail.join("\n")));
        }
        text
    }

    /// Guards of this fleet.
    #[must_use]
    pub fn guards(&self) -> Vec<u32> {
        let agents = self.state.join("agents").display().to_string();
        let of_guard = |line: &str| line.contains("/guard ");
        mentioning(&agents).into_iter().filter(|(_, line)| of_guard(line)).map(|(pid, _)| pid).collect()
    }

    /// Kills all guards; what they run dies with them, by the kernel's hand.
    ///
    /// # Errors
    /// [`Trouble::InVain`].
    pub fn kill_guards(&self) -> Result<(), Trouble> {
        let guards = self.guards();
        guards.iter().copied().for_each(kill);
        self.until("the guards are gone", |fleet| {
            let left = fleet.guards();
            if left.is_empty() { Ok(()) } else { Err(format!("{left:?} are there")) }
        })
    }

    /// Stops the fleet in order; returns what is left of it: processes of members, guards and workloads.
    ///
    /// # Errors
    /// [`Trouble`]: the books cannot be read.
    pub fn stop(&mut self) -> Result<Vec<String>, Trouble> {
        let killed = self.local.stop();
        let books = Books::read(&self.state)?;
        let mut left: Vec<String> =
            killed.iter().map(|name| format!("{name} did not stop in time")).collect();
        left.extend(mentioning(&self.state.display().to_string()).into_iter().map(|(_, line)| line));
        let workloads = workloads(|mark| books.node_of(mark).is_some());
        left.extend(workloads.into_iter().map(|process| format!("{process:?}")));
        Ok(left)
    }
}

impl Drop for Fleet {
    /// A guard whose agent was killed keeps what may run without one: here nothing may.
    fn drop(&mut self) {
        self.local.stop();
        let marks = Books::read(&self.state).map(|books| {
            let marks = books.ledgers.into_values().map(|book| book.mark);
            marks.collect::<Vec<_>>()
        });
        for pid in self.guards() {
            kill(pid);
        }
        for process in workloads(|mark| marks.as_ref().is_ok_and(|marks| marks.iter().any(|m| m == mark))) {
            kill(process.pid);
        }
    }
}

/// Kills one process; it may have ended by itself.
pub(crate) fn kill(pid: u32) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, Signal::KILL);
    }
}

/// Waits until `look` says so.
///
/// # Errors
/// [`Trouble::InVain`].
pub fn until<T>(what: &str, mut look: impl FnMut() -> Result<T, String>) -> Result<T, Trouble> {
    let began = Instant::now();
    loop {
        match look() {
            Ok(found) => return Ok(found),
            Err(last) if began.elapsed() > DEADLINE => {
                let (what, logs) = (what.to_owned(), String::new());
                return Err(Trouble::InVain { what, seconds: DEADLINE.as_secs(), last, logs });
            }
            Err(_) => std::thread::sleep(PAUSE),
        }
    }
}
