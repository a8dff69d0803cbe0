//! The process runtime with real processes: start, logs, stop, restart.

#![allow(clippy::unwrap_used)]

mod support;

use codeco_node_agent::runtime::{
    Exit, LogsError, ReplicaPhase, Runtime, RuntimeEventKind, StartError, StopError,
};
use codeco_protocol::units::Micros;
use codeco_protocol::workload::RestartPolicy;
use support::*;

async fn log_of(runtime: &dyn Runtime, service: &str) -> String {
    match runtime.logs(&replica(service), "main", 1 << 20).await {
        Ok(bytes) => String::from_utf8(bytes).unwrap(),
        Err(LogsError::NotFound { .. }) => String::new(),
        Err(error) => panic!("{error}"),
    }
}

async fn log_holds(runtime: &dyn Runtime, service: &str, text: &str) {
    within(async {
        while !log_of(runtime, service).await.contains(text) {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn replica_started_runs_with_its_environment_writes_its_log_and_stops() {
    let node = Node::new();
    let (runtime, mut events) = node.connect().await;
    let mut workload = script("web", "env; echo to-stderr >&2; exec sleep 1000");
    workload.spec.containers[0].env =
        vec![("COLOUR".into(), "green".into()), ("CODECO_NODE".into(), "forged".into())];
    runtime.start(workload.clone()).await.unwrap();
    wait_for_kind(&mut events, &replica("web"), &RuntimeEventKind::Ready).await;
    log_holds(&runtime, "web", "to-stderr").await;

    let log = log_of(&runtime, "web").await;
    let names: Vec<&str> =
        log.lines().filter_map(|line| line.split_once('=')).map(|(name, _)| name).collect();
    for expected in [
        "COLOUR=green",
        "CODECO_NODE=edge-1",
        "CODECO_INDEX=0",
        "CODECO_FENCING_TOKEN=0.0.0.1",
        "PATH=/usr/local/sbin",
    ] {
        assert!(log.contains(expected), "{expected} in {log}");
    }
    assert!(!names.contains(&"HOME") && !names.contains(&"CARGO"), "nothing of the agent's own: {names:?}");

    let listed = runtime.list().await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!((&listed[0].workload, &listed[0].phase), (&workload, &ReplicaPhase::Running));
    let pid = i32::try_from(listed[0].pid.unwrap()).unwrap();
    assert_eq!(node.processes(), vec![rustix::process::Pid::from_raw(pid).unwrap()]);

    runtime.stop(&replica("web"), token(1)).await.unwrap();
    assert_eq!(node.processes(), vec![], "a proven stop leaves nothing");
    assert_eq!(runtime.list().await.unwrap(), vec![]);
    wait_for_kind(&mut events, &replica("web"), &RuntimeEventKind::Stopped).await;
    assert!(runtime.shutdown(false).await.unwrap());
    until("the guard ends", || node.guards().is_empty()).await;
}

#[tokio::test]
async fn replica_with_children_outside_its_group_is_gone_as_a_whole_when_stopped() {
    let node = Node::new();
    let (runtime, mut events) = node.connect().await;
    runtime.start(script("tree", "setsid sleep 1000 & (sleep 1000 &) ; sleep 1000 & wait")).await.unwrap();
    wait_for_kind(&mut events, &replica("tree"), &RuntimeEventKind::Ready).await;
    until("the shell and its three children run", || node.processes_of(&replica("tree")).len() == 4).await;

    runtime.stop(&replica("tree"), token(1)).await.unwrap();
    assert_eq!(node.processes(), vec![]);
}

#[tokio::test]
async fn container_that_crashes_is_started_again_after_growing_pauses() {
    let node = Node::new();
    let (runtime, mut events) = node.connect().await;
    let mut workload = script("crash", "sleep 1000 & exit 3");
    workload.spec.restart = RestartPolicy::OnFailure;
    runtime.start(workload).await.unwrap();
    for expected in [100, 200, 400] {
        let event =
            wait_for(&mut events, |event| matches!(event.kind, RuntimeEventKind::Exited { .. })).await;
        let exit = Exit::Code(3);
        assert_eq!(event.kind, RuntimeEventKind::Exited { container: "main".into(), exit });
        let event =
            wait_for(&mut events, |event| matches!(event.kind, RuntimeEventKind::Restarting { .. })).await;
        let delay = Micros::from_millis(expected);
        assert_eq!(event.kind, RuntimeEventKind::Restarting { container: "main".into(), delay });
    }
    let listed = runtime.list().await.unwrap();
    assert!(listed[0].restarts >= 3, "{listed:?}");
    runtime.stop(&replica("crash"), token(1)).await.unwrap();
    assert_eq!(node.processes(), vec![], "neither what runs nor what crashed runs left behind");
}

#[tokio::test]
async fn container_that_ignores_sigterm_is_killed_after_its_grace_and_not_before() {
    let node = Node::new();
    let (runtime, mut events) = node.connect().await;
    let mut stubborn =
        script("stubborn", "trap 'echo heard' TERM; echo armed; while true; do sleep 0.02; done");
    stubborn.spec.stop_grace = Micros::from_millis(400);
    let mut polite = script("polite", "trap 'exit 0' TERM; echo armed; while true; do sleep 0.02; done");
    polite.spec.stop_grace = Micros::from_secs(3_600);
    runtime.start(stubborn).await.unwrap();
    runtime.start(polite).await.unwrap();
    log_holds(&runtime, "stubborn", "armed").await;
    log_holds(&runtime, "polite", "armed").await;

    let begun = std::time::Instant::now();
    runtime.stop(&replica("stubborn"), token(1)).await.unwrap();
    assert!(begun.elapsed() >= Micros::from_millis(400).to_duration(), "it had its grace");
    log_holds(&runtime, "stubborn", "heard").await;
    let killed = RuntimeEventKind::Exited { container: "main".into(), exit: Exit::Signal(9) };
    wait_for_kind(&mut events, &replica("stubborn"), &killed).await;
    // One that obeys does not use its hour.
    within(runtime.stop(&replica("polite"), token(1))).await.unwrap();
    assert_eq!(node.processes(), vec![]);
}

#[tokio::test]
async fn command_that_cannot_run_fails_with_what_is_wrong() {
    let node = Node::new();
    let (runtime, mut events) = node.connect().await;
    let mut unknown = script("unknown", "");
    unknown.spec.containers[0].command = vec!["no-such-program".into()];
    unknown.spec.restart = RestartPolicy::Always;
    let mut image_only = script("image-only", "");
    image_only.spec.containers[0].command = Vec::new();
    image_only.spec.containers[0].image = "registry/web:1".into();
    let mut lost = script("lost", "true");
    lost.spec.containers[0].working_dir = Some("/no/such/folder".into());
    let mut second = script("second", FOREVER);
    second.spec.containers.push(unknown.spec.containers[0].clone());
    second.spec.containers[1].name = "other".into();
    for (workload, expected) in [
        (unknown, "no-such-program was not found"),
        (image_only, "does not pull images (found image \"registry/web:1\")"),
        (lost, "\"/no/such/folder\" is no directory"),
        (second, "container \"other\": command no-such-program"),
    ] {
        let id = workload.replica.clone();
        runtime.start(workload).await.unwrap();
        let RuntimeEventKind::Failed { message } = wait_for_end(&mut events, &id).await else {
            panic!("{id} did not fail")
        };
        assert!(message.contains(expected), "{message}");
        let listed = runtime.list().await.unwrap();
        let phase = listed.iter().find(|listed| listed.workload.replica == id).map(|listed| &listed.phase);
        assert_eq!(phase, Some(&ReplicaPhase::Failed { message }));
    }
    assert_eq!(node.processes(), vec![], "a failed replica has no process, not even of its other containers");
}

#[tokio::test]
async fn log_of_a_chatty_container_stays_within_two_files_and_ends_with_the_newest() {
    let node = Node::new();
    let (runtime, mut events) = node.connect().await;
    runtime.start(script("chatty", "head -c 5000000 /dev/zero | tr '\\0' 'x'; echo the-end")).await.unwrap();
    assert_eq!(wait_for_end(&mut events, &replica("chatty")).await, RuntimeEventKind::Finished);
    log_holds(&runtime, "chatty", "the-end").await;

    let logs = std::fs::read_dir(node.folder.path().join("logs")).unwrap().next().unwrap().unwrap().path();
    let sizes: Vec<u64> =
        std::fs::read_dir(logs).unwrap().map(|file| file.unwrap().metadata().unwrap().len()).collect();
    assert_eq!(sizes.len(), 2);
    assert!(sizes.iter().all(|size| *size <= 256 * 1024), "{sizes:?}");
    assert!(log_of(&runtime, "chatty").await.ends_with("the-end\n"));
    let tail = runtime.logs(&replica("chatty"), "main", 4).await.unwrap();
    assert_eq!(tail, b"end\n");
    let other = runtime.logs(&replica("chatty"), "../main", 4).await;
    assert!(matches!(other, Err(LogsError::NotFound { .. })), "{other:?}");
}

#[tokio::test]
async fn start_and_stop_obey_the_newest_token_and_repeating_them_changes_nothing() {
    let node = Node::new();
    let (runtime, mut events) = node.connect().await;
    let id = replica("web");
    let mut second = script("web", FOREVER);
    second.token = token(2);
    runtime.start(second.clone()).await.unwrap();
    wait_for_kind(&mut events, &id, &RuntimeEventKind::Ready).await;
    let before = runtime.list().await.unwrap();
    runtime.start(second.clone()).await.unwrap();
    assert_eq!(runtime.list().await.unwrap(), before, "the same order again starts nothing");

    let newer = codeco_protocol::workload::Workload { token: token(3), ..second.clone() };
    let older = codeco_protocol::workload::Workload { token: token(1), ..second.clone() };
    let running = Box::new(token(2));
    let expected = StartError::StillRunning { replica: id.clone(), running: running.clone() };
    assert_eq!(runtime.start(newer.clone()).await, Err(expected));
    let expected = StartError::Stale { replica: id.clone(), known: running.clone() };
    assert_eq!(runtime.start(older).await, Err(expected));
    let expected = StopError::Stale { replica: id.clone(), running };
    assert_eq!(runtime.stop(&id, token(1)).await, Err(expected));
    assert_eq!(runtime.list().await.unwrap(), before, "refused orders change nothing");

    runtime.stop(&id, token(3)).await.unwrap();
    runtime.stop(&id, token(3)).await.unwrap();
    runtime.start(newer).await.unwrap();
    assert_eq!(runtime.list().await.unwrap()[0].workload.token, token(3));
}
