//! `codeco dev` as a person runs it: Ctrl-C leaves nothing behind, a second start is the same fleet again, and when it
//! is killed itself, its children stop in order.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

use common::{PATIENCE, codeco, program, until};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// A running `codeco dev`.
struct Dev {
    child: Child,
    lines: Receiver<String>,
    seen: Vec<String>,
    contexts: PathBuf,
}

impl Dev {
    fn start(folder: &Path) -> Self {
        let contexts = folder.join("contexts.yaml");
        let mut child = Command::new(program())
            .args(["dev", "--runtime", "process", "--state"])
            .arg(folder.join("state"))
            .env("CODECO_CONFIG", &contexts)
            .env_remove("CODECO_CONTEXT")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, lines) = channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Self { child, lines, seen: Vec::new(), contexts }
    }

    /// Waits for a line with this text.
    fn says(&mut self, text: &str) -> String {
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => {
                    self.seen.push(line.clone());
                    if line.contains(text) {
                        return line;
                    }
                }
                Err(_) => panic!("never said {text:?}, but:\n{}", self.seen.join("\n")),
            }
        }
    }

    fn items(&self, kind: &str) -> Vec<Value> {
        let list = codeco(&self.contexts, &["get", kind, "-o", "json"], "").ok();
        serde_json::from_str::<Value>(&list).unwrap()["items"].as_array().unwrap().clone()
    }

    /// Names and identities that must survive.
    fn memory(&self) -> BTreeSet<String> {
        let nodes = self.items("nodes").into_iter().map(|node| node["id"].to_string());
        let apps = self.items("apps").into_iter().map(|app| format!("{} {}", app["name"], app["uid"]));
        nodes.chain(apps).collect()
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).unwrap();
        kill_process(pid, signal).unwrap();
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        // Ended already, unless a test fails.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Processes that name `folder` in their arguments or environment: everything a fleet has started.
fn processes_of(folder: &Path) -> Vec<String> {
    let needle = folder.to_str().unwrap();
    let own = std::process::id();
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let named = pids.filter(|pid| *pid != own).filter_map(|pid| {
        let read = |file: &str| {
            let bytes = std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
            String::from_utf8_lossy(&bytes).replace('\0', " ")
        };
        let command = read("cmdline");
        // A zombie has neither; it has ended, and its parent will see to it.
        let ours = command.contains(needle) || read("environ").contains(needle);
        ours.then(|| format!("{pid}: {command}"))
    });
    named.collect()
}

/// Processes of these groups: a replica leads a group of its own.
fn in_groups(leaders: &[u64]) -> Vec<String> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let stats = entries.filter_map(|entry| std::fs::read_to_string(entry.path().join("stat")).ok());
    let group = |stat: &str| {
        // After the name, which may contain anything: state, parent, group (proc(5)). A zombie has ended.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        (*fields.first()? != "Z").then(|| fields.get(2)?.parse::<u64>().ok())?
    };
    stats.filter(|stat| group(stat).is_some_and(|group| leaders.contains(&group))).collect()
}

fn nothing_is_left(folder: &Path) {
    until("all processes to end", || {
        let left = processes_of(folder);
        if left.is_empty() { Ok(()) } else { Err(format!("{left:#?}")) }
    });
}

#[test]
fn fleet_stopped_by_ctrl_c_or_by_the_end_of_dev_leaves_no_process_and_comes_back_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let mut dev = Dev::start(folder.path());
    dev.says("fleet ready in ");
    dev.says("5 of 5 replicas ready in ");
    dev.says("explain app/media-streaming");
    let before = dev.memory();
    assert_eq!(before.len(), 5, "{before:?}");
    let running: Vec<u64> =
        dev.items("replicas").iter().map(|replica| replica["pid"].as_u64().unwrap()).collect();
    let all = processes_of(folder.path());
    assert_eq!(all.len(), 10, "dev, hub, and four agents with a guard each: {all:#?}");
    assert!(in_groups(&running).len() >= 5, "{running:?}");

    let in_use =
        codeco(&dev.contexts, &["dev", "--state", folder.path().join("state").to_str().unwrap()], "");
    let in_use = in_use.failed(1);
    assert!(in_use.contains("is in use by another `codeco dev`"), "{in_use}");

    dev.signal(Signal::INT);
    dev.says("stopping the fleet; its state stays in ");
    assert!(dev.child.wait().unwrap().success());
    assert!(!dev.seen.iter().any(|line| line.contains("killed because")), "{:#?}", dev.seen);
    nothing_is_left(folder.path());
    assert_eq!(in_groups(&running), Vec::<String>::new(), "replicas and what they have started");

    let mut dev = Dev::start(folder.path());
    dev.says("fleet ready in ");
    dev.says("5 of 5 replicas ready in ");
    dev.says("Ctrl-C stops everything.");
    assert!(!dev.seen.iter().any(|line| line.contains("created")), "nothing is new: {:#?}", dev.seen);
    assert_eq!(dev.memory(), before);

    let running: Vec<u64> =
        dev.items("replicas").iter().map(|replica| replica["pid"].as_u64().unwrap()).collect();
    // Whatever becomes of the command, nothing it has started outlives it.
    dev.signal(Signal::KILL);
    dev.child.wait().unwrap();
    nothing_is_left(folder.path());
    assert_eq!(in_groups(&running), Vec::<String>::new());
    for log in ["hub", "edge-1-node-1", "edge-2-node-2"] {
        let path = folder.path().join("state").join("logs").join(format!("{log}.log"));
        let text = std::fs::read_to_string(path).unwrap();
        let stops =
            text.lines().filter(|line| line.contains("hub stops") || line.contains("agent stops")).count();
        assert_eq!(stops, 2, "{log} stopped in order both times");
    }
    let mut dev = Dev::start(folder.path());
    dev.says("5 of 5 replicas ready in ");
    assert_eq!(dev.memory(), before);
    dev.signal(Signal::INT);
    assert!(dev.child.wait().unwrap().success());
    nothing_is_left(folder.path());
}
