//! The simulated runtime.

#![allow(clippy::unwrap_used)]

mod support;

use codeco_node_agent::runtime::{
    ReplicaPhase, Runtime, RuntimeEventKind, SimulatedOptions, SimulatedRuntime, StartError,
};
use codeco_protocol::units::Micros;
use codeco_protocol::workload::PartitionPolicy;
use support::*;

#[tokio::test]
async fn simulated_replica_is_ready_after_its_delay_and_stops_with_proof() {
    let (runtime, mut events) = SimulatedRuntime::new(SimulatedOptions::default());
    let begun = runtime.now();
    let workload = script("web", "");
    runtime.start(workload.clone()).await.unwrap();
    assert_eq!(runtime.list().await.unwrap()[0].phase, ReplicaPhase::Starting);
    wait_for_kind(&mut events, &replica("web"), &RuntimeEventKind::Ready).await;
    assert!(runtime.now() >= begun + Micros::from_millis(20));
    runtime.start(workload).await.unwrap();
    assert_eq!(runtime.list().await.unwrap().len(), 1);
    let log = String::from_utf8(runtime.logs(&replica("web"), "main", 1_000).await.unwrap()).unwrap();
    assert!(log.ends_with("is running\n"), "{log}");

    runtime.stop(&replica("web"), token(1)).await.unwrap();
    assert_eq!(runtime.list().await.unwrap(), vec![]);
    wait_for_kind(&mut events, &replica("web"), &RuntimeEventKind::Stopped).await;
}

#[tokio::test]
async fn simulated_fenced_replica_ends_with_the_lease_and_the_autonomous_one_does_not() {
    let (runtime, mut events) = SimulatedRuntime::new(SimulatedOptions::default());
    let mut fenced = script("fenced", "");
    fenced.spec.partition = PartitionPolicy::Fence;
    assert!(matches!(runtime.start(fenced.clone()).await, Err(StartError::NoLease { .. })));
    let end = runtime.now() + Micros::from_millis(300);
    runtime.extend_lease(end).await.unwrap();
    runtime.start(fenced).await.unwrap();
    runtime.start(script("autonomous", "")).await.unwrap();
    assert_eq!(wait_for_end(&mut events, &replica("fenced")).await, RuntimeEventKind::LeaseExpired);
    assert!(runtime.now() >= end);
    let phases: Vec<_> = runtime.list().await.unwrap().into_iter().map(|listed| listed.phase).collect();
    assert_eq!(phases, [ReplicaPhase::Running, ReplicaPhase::LeaseExpired]);
}
