//! A fleet of real processes for a test, and the `codeco` command to look at it.
#![allow(dead_code, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use codeco_console::local::{self, LocalFleet, LocalOptions, RuntimeKind};
use serde_json::Value;

/// Longest wait for something that must happen; only a test that fails waits so long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// Pause between two looks at what no event tells.
const LOOK: Duration = Duration::from_millis(50);

/// The `codeco` command.
pub(crate) fn program() -> OsString {
    env!("CARGO_BIN_EXE_codeco-under-test").into()
}

/// A file of this workspace.
pub(crate) fn workspace(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// Looks until `look` finds something.
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match look() {
            Ok(found) => return found,
            Err(seen) => assert!(Instant::now() < deadline, "waited in vain for {what}; last seen: {seen}"),
        }
        std::thread::sleep(LOOK);
    }
}

/// What a call of the command did.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    /// Its standard output, if it succeeded.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, 0, "{}{}", self.stdout, self.stderr);
        self.stdout
    }

    /// Its standard error, if it failed with `code`.
    #[track_caller]
    pub(crate) fn failed(self, code: i32) -> String {
        assert_eq!(self.code, code, "{}{}", self.stdout, self.stderr);
        self.stderr
    }
}

/// `codeco arguments…` with this file of contexts.
pub(crate) fn codeco(contexts: &Path, arguments: &[&str], stdin: &str) -> Ran {
    let mut child = Command::new(program())
        .args(arguments)
        .env("CODECO_CONFIG", contexts)
        .env_remove("CODECO_CONTEXT")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that reads nothing may have ended.
    let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("output is UTF-8");
    Ran {
        code: output.status.code().expect("ended by itself"),
        stdout: text(output.stdout),
        stderr: text(output.stderr),
    }
}

/// A running fleet, stopped and removed with this.
pub(crate) struct Stage {
    pub(crate) fleet: LocalFleet,
    folder: tempfile::TempDir,
}

impl Stage {
    /// Everything is ready, nothing applied.
    pub(crate) fn new(clusters: u32, nodes: u32, runtime: RuntimeKind) -> Self {
        Self::with(clusters, nodes, runtime, Vec::new(), |_| {})
    }

    /// The same; agents get further arguments, and something happens once the hub runs.
    pub(crate) fn with(
        clusters: u32,
        nodes: u32,
        runtime: RuntimeKind,
        agent_args: Vec<OsString>,
        hub_runs: impl FnOnce(&LocalFleet),
    ) -> Self {
        Self::with_hub(clusters, nodes, runtime, agent_args, Vec::new(), hub_runs)
    }

    /// The same; the hub gets further arguments too.
    pub(crate) fn with_hub(
        clusters: u32,
        nodes: u32,
        runtime: RuntimeKind,
        agent_args: Vec<OsString>,
        hub_args: Vec<OsString>,
        hub_runs: impl FnOnce(&LocalFleet),
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut fleet = LocalFleet::prepare(LocalOptions {
            program: vec![program()],
            state: folder.path().join("fleet"),
            clusters,
            nodes,
            runtime,
            faults: true,
            agent_args,
            hub_args,
        })
        .unwrap();
        fleet.start_hub().unwrap();
        fleet.wait_hub().unwrap();
        hub_runs(&fleet);
        for at in 0..fleet.agents().len() {
            fleet.start_agent(at).unwrap();
        }
        for at in 0..fleet.agents().len() {
            fleet.wait_agent(at).unwrap();
        }
        let stage = Self { fleet, folder };
        let admin = stage.fleet.hub_state().join("admin.json");
        stage.run(&["context", "import", admin.to_str().unwrap(), "--name", "admin"]).ok();
        stage.nodes_ready();
        stage
    }

    pub(crate) fn contexts(&self) -> PathBuf {
        self.folder.path().join("contexts.yaml")
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        codeco(&self.contexts(), arguments, "")
    }

    pub(crate) fn run_with(&self, arguments: &[&str], stdin: &str) -> Ran {
        codeco(&self.contexts(), arguments, stdin)
    }

    /// The command as somebody who reaches the API of that agent alone.
    pub(crate) fn run_at(&self, agent: usize, arguments: &[&str]) -> Ran {
        let access = self.fleet.access().unwrap();
        let api = format!("https://{}", self.fleet.agents()[agent].api());
        let context = serde_json::json!({
            "current": "at",
            "contexts": [{"name": "at", "server": "https://127.0.0.1:9", "ca": access.ca, "token": access.token,
                          "members": [api]}],
        });
        let path = self.folder.path().join("at.yaml");
        codeco_protocol::identity::write_private(&path, context.to_string().as_bytes()).unwrap();
        codeco(&path, arguments, "")
    }

    /// The items of a list.
    pub(crate) fn list(&self, arguments: &[&str]) -> Vec<Value> {
        let mut all = arguments.to_vec();
        all.extend(["-o", "json"]);
        let list: Value = serde_json::from_str(&self.run(&all).ok()).unwrap();
        list["items"].as_array().expect("a list has items").clone()
    }

    /// Applies a file and waits until all of it is ready.
    pub(crate) fn apply(&self, file: &Path) {
        self.run(&["apply", "-f", file.to_str().unwrap()]).ok();
        self.replicas_ready();
    }

    /// Waits until every node is ready.
    pub(crate) fn nodes_ready(&self) {
        let wanted = self.fleet.agents().len();
        until("all nodes to be ready", || {
            let nodes = self.list(&["get", "nodes"]);
            let ready = nodes.iter().filter(|node| node["status"] == "Ready").count();
            if ready == wanted { Ok(()) } else { Err(format!("{nodes:#?}")) }
        });
    }

    /// Waits until every replica wanted is ready, and returns their tokens by name.
    pub(crate) fn replicas_ready(&self) -> BTreeMap<String, String> {
        until("all replicas to be ready", || {
            let apps = self.list(&["get", "apps"]);
            let all = apps.iter().all(|app| app["replicasReady"] == app["replicasWanted"]);
            if all && !apps.is_empty() { Ok(()) } else { Err(format!("{apps:#?}")) }
        });
        self.tokens()
    }

    /// Where each replica runs under which token, by name.
    pub(crate) fn tokens(&self) -> BTreeMap<String, String> {
        let mut replicas = self.list(&["get", "replicas", "-A"]);
        // Copies that have been replaced elsewhere are listed for as long as their node still speaks of them.
        let further =
            |r: &Value| r["message"].as_str().is_some_and(|message| message.contains("a further copy"));
        replicas.retain(|replica| !further(replica));
        let word = |value: &Value| value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
        let named = replicas.iter().map(|r| {
            let name = format!("{}/{}-{}", word(&r["app"]), word(&r["service"]), r["index"]);
            (name, format!("{}/{} {}", word(&r["cluster"]), word(&r["node"]), word(&r["token"])))
        });
        named.collect()
    }

    /// Every node is ready, and every replica runs where it ran and under the same token.
    pub(crate) fn must_be_undisturbed(&self, tokens: &BTreeMap<String, String>, case: &str) {
        self.nodes_ready();
        assert_eq!(&self.replicas_ready(), tokens, "after: {case}");
    }

    /// Where a member serves health and metrics: `hub` or `CLUSTER/NODE`.
    pub(crate) fn http(&self, member: &str) -> SocketAddr {
        if member == "hub" { self.fleet.hub_http() } else { self.agent(member).http() }
    }

    /// Where a member listens for QUIC.
    pub(crate) fn udp(&self, member: &str) -> SocketAddr {
        if member == "hub" { self.fleet.hub_udp() } else { self.agent(member).udp() }
    }

    pub(crate) fn agent(&self, member: &str) -> &codeco_console::local::LocalAgent {
        let log = member.replace('/', "-");
        self.fleet.agents().iter().find(|agent| agent.full_name().replace('/', "-") == log).expect("a member")
    }

    pub(crate) fn log(&self, member: &str) -> String {
        std::fs::read_to_string(self.fleet.log_path(&member.replace('/', "-"))).unwrap_or_default()
    }

    /// One number of a member's metrics; 0 if it is not there.
    pub(crate) fn metric(&self, member: &str, name: &str) -> f64 {
        let (status, text) = local::get(self.http(member), "/metrics").unwrap();
        assert_eq!(status, 200, "{text}");
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.trim().parse().unwrap())
    }

    /// Waits for an event of a member that says `text` of its object or in its message, at least `count` times.
    pub(crate) fn event(&self, member: &str, reason: &str, text: &str, count: u64) -> Value {
        until(&format!("{count} x {reason} of {member}: {text}"), || {
            let events = self.list(&["get", "events"]);
            let of_member: Vec<&Value> = events
                .iter()
                .filter(|event| event["member"] == member && event["reason"] == reason)
                .collect();
            let found = of_member.iter().find(|event| {
                let said = [&event["object"]["name"], &event["message"]].map(|said| said.as_str().unwrap());
                said.iter().any(|said| said.contains(text)) && event["count"].as_u64() >= Some(count)
            });
            found.map(|event| (**event).clone()).ok_or_else(|| format!("{of_member:#?}"))
        })
    }
}
