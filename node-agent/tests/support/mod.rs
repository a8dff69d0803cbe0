//! What the tests of the process runtime share: a node of its own in a temporary folder.

// Each test file uses a part of it, as a module of its own.
#![allow(clippy::unwrap_used, dead_code, unreachable_pub, missing_docs)]

use std::ffi::OsString;
use std::fs;
use std::future::Future;
use std::path::Path;
use std::time::Duration;

use codeco_node_agent::guard::replica_label;
use codeco_node_agent::runtime::{ProcessOptions, ProcessRuntime, RuntimeEvent, RuntimeEventKind};
use codeco_protocol::ids::{AppName, AppUid, Namespace, NodeName, ReplicaId, ServiceName};
use codeco_protocol::resources::Resources;
use codeco_protocol::token::{Attempt, Token};
use codeco_protocol::units::Micros;
use codeco_protocol::workload::{ContainerSpec, PartitionPolicy, RestartPolicy, Workload, WorkloadSpec};
use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::mpsc;

/// Long enough for the slowest machine: reached only when the awaited thing never happens.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A node: its state folder, and the promise that nothing of it outlives the test.
pub struct Node {
    pub folder: tempfile::TempDir,
}

pub type Events = mpsc::Receiver<RuntimeEvent>;

impl Node {
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub fn options(&self) -> ProcessOptions {
        options(self.folder.path())
    }

    pub async fn connect(&self) -> (ProcessRuntime, Events) {
        ProcessRuntime::connect(self.options()).await.unwrap()
    }

    /// Processes of the guard of this node.
    pub fn guards(&self) -> Vec<Pid> {
        let folder = self.folder.path().as_os_str().as_encoded_bytes();
        processes("cmdline", |args| args.contains(&b"--state".as_slice()) && args.contains(&folder))
    }

    /// Processes that carry the mark of this node, whoever their parent is.
    pub fn processes(&self) -> Vec<Pid> {
        let Ok(mark) = fs::read_to_string(self.folder.path().join("guard.id")) else { return Vec::new() };
        let mark = format!("CODECO_GUARD={mark}");
        processes("environ", |entries| entries.contains(&mark.as_bytes()))
    }

    pub fn processes_of(&self, replica: &ReplicaId) -> Vec<Pid> {
        let entry = format!("CODECO_REPLICA={}", replica_label(replica));
        let all = processes("environ", |entries| entries.contains(&entry.as_bytes()));
        let ours = self.processes();
        all.into_iter().filter(|pid| ours.contains(pid)).collect()
    }
}

impl Drop for Node {
    /// Twice nothing in a row: a process may be between two programs, where it carries no mark.
    fn drop(&mut self) {
        let mut clean_looks = 0;
        while clean_looks < 2 {
            let left: Vec<Pid> = self.guards().into_iter().chain(self.processes()).collect();
            clean_looks = if left.is_empty() { clean_looks + 1 } else { 0 };
            for pid in left {
                let _ = kill_process(pid, Signal::KILL);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

pub fn options(folder: &Path) -> ProcessOptions {
    let program = OsString::from(env!("CARGO_BIN_EXE_codeco-guard"));
    let mut options = ProcessOptions::new(
        folder.to_path_buf(),
        NodeName::new("edge-1").unwrap(),
        vec![program.clone()],
        vec![program, "shim".into()],
    );
    options.idle_after = Duration::from_millis(500);
    options
}

fn processes(file: &str, wanted: impl Fn(&[&[u8]]) -> bool) -> Vec<Pid> {
    let pids = fs::read_dir("/proc").unwrap().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok().and_then(Pid::from_raw));
    pids.filter(|pid| {
        let bytes = fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
        wanted(&bytes.split(|byte| *byte == 0).collect::<Vec<_>>())
    })
    .collect()
}

pub fn replica(service: &str) -> ReplicaId {
    ReplicaId { app: AppUid(7), service: ServiceName::new(service).unwrap(), index: 0 }
}

pub fn token(attempt: u64) -> Token {
    Token { attempt: Attempt(attempt), ..Token::default() }
}

/// A replica of one container that runs a shell script; autonomous, never started again, no grace.
pub fn script(service: &str, text: &str) -> Workload {
    let container = ContainerSpec {
        name: "main".into(),
        image: "none".into(),
        command: vec!["/bin/sh".into(), "-c".into()],
        args: vec![text.into()],
        env: Vec::new(),
        working_dir: None,
        requests: Resources::default(),
    };
    Workload {
        replica: replica(service),
        token: token(1),
        spec: WorkloadSpec {
            namespace: Namespace::new("default").unwrap(),
            app: AppName::new("trial").unwrap(),
            generation: 1,
            containers: vec![container],
            restart: RestartPolicy::Never,
            stop_grace: Micros::ZERO,
            resources: Resources::default(),
            partition: PartitionPolicy::Autonomous,
            pod_spec_json: String::new(),
            lost_after: None,
        },
    }
}

/// Runs until it is killed, with a child of its own.
pub const FOREVER: &str = "sleep 1000 & sleep 1000";

/// The next event that `wanted` picks; fails if the runtime ends or nothing comes.
pub async fn wait_for(events: &mut Events, wanted: impl Fn(&RuntimeEvent) -> bool) -> RuntimeEvent {
    let search = async {
        loop {
            let event = events.recv().await.expect("the runtime goes on");
            if wanted(&event) {
                return event;
            }
        }
    };
    within(search).await
}

pub async fn wait_for_kind(events: &mut Events, of: &ReplicaId, kind: &RuntimeEventKind) {
    wait_for(events, |event| event.replica == *of && event.kind == *kind).await;
}

pub async fn wait_for_end(events: &mut Events, of: &ReplicaId) -> RuntimeEventKind {
    wait_for(events, |event| event.replica == *of && event.kind.is_terminal()).await.kind
}

pub async fn within<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("it happens within a minute")
}

/// For what gives no event: looks again and again, and fails only when it never comes true.
pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let look = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, look).await.unwrap_or_else(|_| panic!("never came true: {what}"));
}
