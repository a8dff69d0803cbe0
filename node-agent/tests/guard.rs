//! The guard when something around it dies: the agent, the guard itself, the lease.

#![allow(clippy::unwrap_used)]

mod support;

use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use codeco_node_agent::runtime::{
    ProcessRuntime, ReplicaPhase, Runtime, RuntimeEventKind, StartError, boot_now,
};
use codeco_protocol::units::Micros;
use codeco_protocol::workload::{PartitionPolicy, RestartPolicy, Workload};
use rustix::process::{Pid, Signal, kill_process, kill_process_group, test_kill_process};
use support::*;

const AGENT_FOLDER: &str = "TEST_AGENT_FOLDER";
const LEASE: Micros = Micros::from_millis(1_500);

fn fenced(service: &str, text: &str) -> Workload {
    let mut workload = script(service, text);
    workload.spec.partition = PartitionPolicy::Fence;
    workload
}

/// Not a test by itself: the part of the agent in tests that kill it.
#[tokio::test]
async fn agent_part() {
    let Some(folder) = std::env::var_os(AGENT_FOLDER) else { return };
    let (runtime, mut events) = ProcessRuntime::connect(options(folder.as_ref())).await.unwrap();
    runtime.extend_lease(boot_now() + LEASE).await.unwrap();
    for workload in [fenced("fenced", FOREVER), script("autonomous", FOREVER)] {
        let id = workload.replica.clone();
        runtime.start(workload).await.unwrap();
        wait_for_kind(&mut events, &id, &RuntimeEventKind::Ready).await;
    }
    println!("agent is ready");
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn agent_killed_leaves_the_autonomous_replica_and_loses_the_fenced_one_at_lease_end() {
    let node = Node::new();
    let begun = boot_now();
    let mut agent = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "agent_part", "--nocapture"])
        .env(AGENT_FOLDER, node.folder.path())
        .stdout(Stdio::piped())
        .process_group(0)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(agent.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("agent is ready")));
    // With everything in its process group, as a terminal's Ctrl-C would: the guard is not in it.
    kill_process_group(Pid::from_child(&agent), Signal::KILL).unwrap();
    agent.wait().unwrap();

    until("the fenced replica is gone", || node.processes_of(&replica("fenced")).is_empty()).await;
    assert!(boot_now() >= begun + LEASE, "not before the lease has ended");
    until("the shell and its children run", || node.processes_of(&replica("autonomous")).len() == 3).await;

    let (runtime, _events) = node.connect().await;
    let listed = runtime.list().await.unwrap();
    let phases: Vec<_> = listed
        .iter()
        .map(|listed| (listed.workload.replica.service.to_string(), listed.phase.clone()))
        .collect();
    let expected =
        [("autonomous".to_owned(), ReplicaPhase::Running), ("fenced".to_owned(), ReplicaPhase::LeaseExpired)];
    assert_eq!(phases, expected, "the next agent learns what runs and what became of the rest");
    assert_eq!(listed[0].workload, script("autonomous", FOREVER), "with token and specification");
    assert!(runtime.shutdown(true).await.unwrap());
    assert_eq!(node.processes(), vec![]);
}

#[tokio::test]
async fn fenced_replica_runs_only_while_the_lease_holds_and_is_not_restarted_after() {
    let node = Node::new();
    let (runtime, mut events) = node.connect().await;
    let id = replica("web");
    let mut workload = fenced("web", "trap '' TERM; sleep 0.2; exit 1");
    workload.spec.restart = RestartPolicy::Always;
    workload.spec.stop_grace = Micros::from_secs(3_600);
    let refused = runtime.start(workload.clone()).await;
    assert!(matches!(refused, Err(StartError::NoLease { .. })), "{refused:?}");

    let end = boot_now() + Micros::from_secs(1);
    runtime.extend_lease(end).await.unwrap();
    runtime.extend_lease(boot_now()).await.unwrap();
    runtime.start(workload.clone()).await.unwrap();
    assert_eq!(wait_for_end(&mut events, &id).await, RuntimeEventKind::LeaseExpired);
    assert!(boot_now() >= end, "a shorter lease does not shorten a longer one");
    assert_eq!(node.processes(), vec![]);

    // Under a new lease the same order runs again once it has been closed.
    runtime.extend_lease(boot_now() + Micros::from_secs(600)).await.unwrap();
    runtime.stop(&id, token(1)).await.unwrap();
    runtime.start(workload).await.unwrap();
    let ready = wait_for(&mut events, |event| event.kind == RuntimeEventKind::Ready).await;
    assert_eq!(ready.replica, id);
}

#[tokio::test]
async fn newer_agent_takes_over_and_the_older_one_is_told_to_step_down() {
    let node = Node::new();
    let (older, mut older_events) = node.connect().await;
    older.start(script("web", FOREVER)).await.unwrap();
    wait_for_kind(&mut older_events, &replica("web"), &RuntimeEventKind::Ready).await;

    let (newer, mut newer_events) = node.connect().await;
    assert_eq!(node.guards().len(), 1, "the guard that runs is adopted");
    let listed = newer.list().await.unwrap();
    assert_eq!(listed[0].workload, script("web", FOREVER));
    assert_eq!(within(older_events.recv()).await, None, "no more events for the older one");
    assert!(older.list().await.is_err());

    newer.stop(&replica("web"), token(1)).await.unwrap();
    wait_for_kind(&mut newer_events, &replica("web"), &RuntimeEventKind::Stopped).await;
}

#[tokio::test]
async fn container_that_ended_without_agent_is_reported_by_the_list() {
    let node = Node::new();
    let (runtime, mut events) = node.connect().await;
    let gate = node.folder.path().join("gate");
    let text = format!("until [ -e {} ]; do sleep 0.02; done; exit 5", gate.display());
    runtime.start(script("job", &text)).await.unwrap();
    runtime.start(script("other", FOREVER)).await.unwrap();
    wait_for_kind(&mut events, &replica("other"), &RuntimeEventKind::Ready).await;
    drop(runtime);
    until("the connection is closed", || events.is_closed()).await;
    std::fs::write(gate, "").unwrap();
    until("the job ends", || node.processes_of(&replica("job")).is_empty()).await;

    let (runtime, _events) = node.connect().await;
    let phase = within(async {
        loop {
            let listed = runtime.list().await.unwrap();
            if listed[0].phase.is_ended() {
                return listed[0].phase.clone();
            }
        }
    })
    .await;
    let ReplicaPhase::Failed { message } = phase else { panic!("{phase:?}") };
    assert!(message.contains("exit status 5"), "{message}");
}

#[tokio::test]
async fn guard_killed_takes_its_children_along_and_the_next_one_kills_what_is_left() {
    let node = Node::new();
    let (runtime, events) = node.connect().await;
    let id = replica("web");
    runtime.extend_lease(boot_now() + Micros::from_secs(600)).await.unwrap();
    runtime.start(fenced("web", "setsid sleep 1000 & sleep 1000 & wait")).await.unwrap();
    until("the shell and its children run", || node.processes_of(&id).len() == 3).await;
    let main = i32::try_from(runtime.list().await.unwrap()[0].pid.unwrap()).unwrap();
    let before = node.processes();
    drop(runtime);
    until("the agent is gone", || events.is_closed()).await;

    let guard = node.guards();
    kill_process(guard[0], Signal::KILL).unwrap();
    let main = Pid::from_raw(main).unwrap();
    until("the main process dies with the guard", || !node.processes().contains(&main)).await;

    let (runtime, _events) = node.connect().await;
    assert_ne!(node.guards(), guard);
    let left: Vec<_> = before.iter().filter(|pid| node.processes().contains(pid)).collect();
    assert_eq!(left, Vec::<&Pid>::new(), "a guard that answers has cleaned up");
    assert_eq!(runtime.list().await.unwrap(), vec![]);
}

#[tokio::test]
async fn guard_killed_under_a_connected_agent_is_replaced_and_the_loss_is_told() {
    let node = Node::new();
    let (runtime, mut events) = node.connect().await;
    let id = replica("web");
    runtime.extend_lease(boot_now() + Micros::from_secs(600)).await.unwrap();
    runtime.start(fenced("web", FOREVER)).await.unwrap();
    wait_for_kind(&mut events, &id, &RuntimeEventKind::Ready).await;

    kill_process(node.guards()[0], Signal::KILL).unwrap();
    let RuntimeEventKind::Lost { message } = wait_for_end(&mut events, &id).await else { panic!("not lost") };
    assert!(message.contains("guard died"), "{message}");
    assert_eq!(node.processes(), vec![], "told only once nothing is left");
    // The lease is handed on to the new guard.
    runtime.start(fenced("web", FOREVER)).await.unwrap();
    wait_for_kind(&mut events, &id, &RuntimeEventKind::Ready).await;
}

#[tokio::test]
async fn guard_of_a_folder_that_has_one_ends_with_a_clear_message() {
    let node = Node::new();
    let (_runtime, _events) = node.connect().await;
    let second = Command::new(env!("CARGO_BIN_EXE_codeco-guard"))
        .args(["--node", "edge-1", "--shim", "none", "--state"])
        .arg(node.folder.path())
        .output()
        .unwrap();
    assert_eq!(second.status.code(), Some(3));
    let message = String::from_utf8(second.stderr).unwrap();
    assert!(message.contains("another guard is in charge"), "{message}");
    assert_eq!(node.guards().len(), 1);
}

#[tokio::test]
async fn guard_without_work_and_without_agent_ends_by_itself_and_a_long_path_is_no_hindrance() {
    let node = Node::new();
    let folder = node.folder.path().join("x".repeat(120));
    let (runtime, events) = ProcessRuntime::connect(options(&folder)).await.unwrap();
    let guards = || {
        let all = std::fs::read_dir("/proc").unwrap().flatten();
        let args = all.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
        let folder = folder.as_os_str().as_encoded_bytes();
        args.filter(|args| args.split(|byte| *byte == 0).any(|arg| arg == folder)).count()
    };
    assert_eq!(guards(), 1);
    drop((runtime, events));
    until("the guard ends", || guards() == 0).await;
    assert!(!folder.join("guard.sock").exists());
}

#[tokio::test]
async fn garbage_on_the_socket_is_refused_and_disturbs_nobody() {
    use std::io::{Read as _, Write as _};
    let node = Node::new();
    let (runtime, mut events) = node.connect().await;
    runtime.start(script("web", FOREVER)).await.unwrap();
    wait_for_kind(&mut events, &replica("web"), &RuntimeEventKind::Ready).await;
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[255; 64], &[4, 0, 0, 0, 1, 2, 3, 4]] {
        let mut stream =
            std::os::unix::net::UnixStream::connect(node.folder.path().join("guard.sock")).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream.write_all(garbage).unwrap();
        let mut answer = Vec::new();
        // Closed by the guard, whether or not it read everything.
        let _ = stream.read_to_end(&mut answer);
        assert_eq!(answer, b"");
    }
    assert_eq!(runtime.list().await.unwrap()[0].phase, ReplicaPhase::Running);
}

#[tokio::test]
async fn guard_at_work_stays_small() {
    let node = Node::new();
    let (runtime, mut events) = node.connect().await;
    for service in ["a", "b", "c", "d"] {
        runtime.start(script(service, FOREVER)).await.unwrap();
        wait_for_kind(&mut events, &replica(service), &RuntimeEventKind::Ready).await;
    }
    let guard = node.guards()[0];
    test_kill_process(guard).unwrap();
    let status = std::fs::read_to_string(format!("/proc/{guard}/status")).unwrap();
    let value = |name: &str| -> u64 {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_ascii_whitespace().nth(1).unwrap().parse().unwrap()
    };
    // What is the program's own text and constants is shared with every other process of the same file.
    let own = value("RssAnon:");
    println!("guard: VmRSS {} KiB, RssAnon {own} KiB", value("VmRSS:"));
    assert!(own < 3 * 1024, "{own} KiB");
}
