//! A fleet of real agents on loopback, and the command line that speaks to it.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use codeco_console::local::{LocalFleet, LocalOptions, RuntimeKind};
use codeco_protocol::api::List;
use codeco_protocol::identity::write_private;
use serde::de::DeserializeOwned;

pub(crate) type Error = Box<dyn std::error::Error>;

/// What fleet is wanted.
pub(crate) struct Shape {
    pub(crate) clusters: u32,
    /// Agents in each cluster.
    pub(crate) nodes: u32,
    pub(crate) runtime: RuntimeKind,
    pub(crate) agent_args: Vec<OsString>,
}

/// How the fleet is looked at until it is as wanted.
pub(crate) struct Looks {
    /// How long anything may take before the run is given up.
    pub(crate) deadline: Duration,
    /// Pause between two looks: what a figure may be too large by, with the time of one look.
    pub(crate) pause: Duration,
}

/// See the module.
pub(crate) struct Stage {
    program: Vec<OsString>,
    contexts: PathBuf,
    looks: Looks,
    pub(crate) fleet: LocalFleet,
    // Last, so that the fleet has stopped when it is removed.
    folder: tempfile::TempDir,
}

impl Stage {
    /// Starts the fleet; the command line speaks to its hub.
    pub(crate) fn start(shape: Shape, looks: Looks) -> Result<Self, Error> {
        let folder = tempfile::tempdir()?;
        let program = vec![std::env::current_exe()?.into_os_string(), crate::CODECO.into()];
        let mut fleet = LocalFleet::prepare(LocalOptions {
            program: program.clone(),
            state: folder.path().join("state"),
            clusters: shape.clusters,
            nodes: shape.nodes,
            runtime: shape.runtime,
            faults: false,
            agent_args: shape.agent_args,
            hub_args: Vec::new(),
        })?;
        fleet.start()?;
        let contexts = folder.path().join("contexts.yaml");
        let stage = Self { program, contexts, looks, fleet, folder };
        stage.speak_to(None)?;
        Ok(stage)
    }

    /// Stops the fleet.
    pub(crate) fn stop(mut self) -> Result<(), Error> {
        let left = self.fleet.stop();
        if left.is_empty() {
            Ok(())
        } else {
            Err(format!("did not stop in time: {}", left.join(", ")).into())
        }
    }

    /// The hub, or an agent: then no hub is reached, as when there is none.
    pub(crate) fn speak_to(&self, agent: Option<String>) -> Result<(), Error> {
        let access = self.fleet.access()?;
        let server = if agent.is_some() { "https://127.0.0.1:9".to_owned() } else { access.server };
        let members: Vec<String> = agent.into_iter().collect();
        let context = serde_json::json!({
            "current": "bench",
            "contexts": [{"name": "bench", "server": server, "ca": access.ca, "token": access.token,
                          "members": members}],
        });
        Ok(write_private(&self.contexts, context.to_string().as_bytes())?)
    }

    /// Applies a manifest.
    pub(crate) fn apply(&self, manifest: &serde_json::Value) -> Result<(), Error> {
        let file = self.folder.path().join("app.json");
        std::fs::write(&file, manifest.to_string())?;
        self.codeco(&["apply", "-f", &file.display().to_string()])?;
        Ok(())
    }

    /// Runs a command; what it prints.
    pub(crate) fn codeco(&self, arguments: &[&str]) -> Result<String, Error> {
        let (program, first) = self.program.split_first().ok_or("no program")?;
        let mut command = Command::new(program);
        command.args(first).args(arguments).env("CODECO_CONFIG", &self.contexts).env_remove("CODECO_CONTEXT");
        let output = command.stdin(Stdio::null()).output()?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(format!("codeco {} failed: {said}", arguments.join(" ")).into());
        }
        Ok(String::from_utf8(output.stdout)?)
    }

    /// What `codeco get` lists.
    pub(crate) fn get<T: DeserializeOwned>(&self, what: &[&str]) -> Result<Vec<T>, Error> {
        let list: List<T> = serde_json::from_str(&self.codeco(&[&["get"], what, &["-o", "json"]].concat())?)?;
        Ok(list.items)
    }

    /// Looks again and again until something is found.
    pub(crate) fn until<T>(
        &self,
        what: &str,
        look: impl Fn() -> Result<Option<T>, Error>,
    ) -> Result<T, Error> {
        let began = Instant::now();
        while began.elapsed() < self.looks.deadline {
            if let Some(found) = look()? {
                return Ok(found);
            }
            std::thread::sleep(self.looks.pause);
        }
        Err(format!("waited {} s in vain until {what}", self.looks.deadline.as_secs()).into())
    }
}
