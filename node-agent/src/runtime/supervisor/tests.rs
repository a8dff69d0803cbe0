//! The rules without processes: every step is fed by hand.

use codeco_protocol::ids::{AppName, AppUid, Namespace, ServiceName};
use codeco_protocol::resources::Resources;
use codeco_protocol::token::Attempt;
use codeco_protocol::units::Micros;
use codeco_protocol::workload::{ContainerSpec, RestartPolicy, WorkloadSpec};

use super::*;
use crate::runtime::{ReplicaPhase, RuntimeEventKind};

const T0: BootTime = BootTime(1_000_000);
const GRACE: Micros = Micros::from_secs(5);

fn at(millis: u64) -> BootTime {
    T0 + Micros::from_millis(millis)
}

fn token(attempt: u64) -> Token {
    Token { attempt: Attempt(attempt), ..Token::default() }
}

fn workload(partition: PartitionPolicy, restart: RestartPolicy, containers: usize) -> Workload {
    let container = |index| ContainerSpec {
        name: format!("c{index}"),
        image: String::new(),
        command: Vec::new(),
        args: Vec::new(),
        env: Vec::new(),
        working_dir: None,
        requests: Resources::default(),
    };
    Workload {
        replica: ReplicaId { app: AppUid(1), service: ServiceName::new("web").unwrap(), index: 0 },
        token: token(1),
        spec: WorkloadSpec {
            namespace: Namespace::new("default").unwrap(),
            app: AppName::new("trial").unwrap(),
            generation: 1,
            containers: (0..containers).map(container).collect(),
            restart,
            stop_grace: GRACE,
            resources: Resources::default(),
            partition,
            pod_spec_json: String::new(),
            lost_after: None,
        },
    }
}

/// A supervisor with one replica, and what it said last.
struct Trial {
    supervisor: Supervisor,
    replica: ReplicaId,
}

impl Trial {
    /// All containers run.
    fn running(workload: Workload) -> Self {
        let mut trial = Self { supervisor: Supervisor::default(), replica: workload.replica.clone() };
        trial.supervisor.handle_lease(at(60_000));
        let containers = workload.spec.containers.len();
        trial.tell(|s, out| s.handle_start(T0, workload, out).unwrap());
        for index in 0..containers {
            let slot = trial.slot(index);
            trial.tell(|s, out| s.handle_spawned(T0, &slot, Some(10), out));
            trial.tell(|s, out| s.handle_running(&slot, out));
        }
        assert_eq!(trial.phase(), Some(ReplicaPhase::Running));
        trial
    }

    fn slot(&self, container: usize) -> Slot {
        Slot { replica: self.replica.clone(), container }
    }

    fn tell(&mut self, note: impl FnOnce(&mut Supervisor, &mut Vec<Action>)) -> Vec<Action> {
        let mut out = Vec::new();
        note(&mut self.supervisor, &mut out);
        out
    }

    fn ends(&mut self, now: BootTime, container: usize, code: i32) -> Vec<Action> {
        let slot = self.slot(container);
        self.tell(|s, out| {
            s.handle_exited(&slot, Exit::Code(code), out);
            s.handle_gone(now, &slot, out);
        })
    }

    fn phase(&self) -> Option<ReplicaPhase> {
        self.supervisor.list().next().map(|replica| replica.phase)
    }
}

fn kinds(actions: &[Action]) -> Vec<RuntimeEventKind> {
    let events = actions.iter().filter_map(|action| match action {
        Action::Event(event) => Some(event.kind.clone()),
        _ => None,
    });
    events.collect()
}

#[test]
fn crashing_container_waits_twice_as_long_each_time_up_to_thirty_seconds() {
    let mut trial = Trial::running(workload(PartitionPolicy::Autonomous, RestartPolicy::Always, 1));
    let (slot, mut now, mut delays) = (trial.slot(0), T0, Vec::new());
    for _ in 0..11 {
        let said = kinds(&trial.ends(now, 0, 1));
        let Some(RuntimeEventKind::Restarting { delay, .. }) = said.last() else { panic!("{said:?}") };
        delays.push(delay.0 / 1_000);
        assert_eq!(trial.supervisor.deadline(), Some(now + *delay));
        now = now + *delay;
        let said = trial.tell(|s, out| s.handle_time(now, out));
        assert_eq!(said, vec![Action::Spawn(slot.clone())]);
        trial.tell(|s, out| s.handle_spawned(now, &slot, None, out));
    }
    assert_eq!(delays, [100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 30_000, 30_000]);

    // A healthy run forgets the crashes.
    let said = kinds(&trial.ends(now + Micros::from_secs(10), 0, 0));
    let delay = Micros::from_millis(100);
    assert_eq!(said.last(), Some(&RuntimeEventKind::Restarting { container: "c0".into(), delay }));
}

#[test]
fn lease_end_kills_the_fenced_replica_even_while_it_stops_with_grace() {
    let mut trial = Trial::running(workload(PartitionPolicy::Fence, RestartPolicy::Always, 2));
    assert_eq!(trial.supervisor.deadline(), Some(at(60_000)));
    let replica = trial.replica.clone();
    trial.tell(|s, out| s.handle_stop(at(59_000), &replica, token(1), 4, out).unwrap());
    assert_eq!(trial.supervisor.deadline(), Some(at(60_000)), "the lease ends before the grace");

    let said = trial.tell(|s, out| s.handle_time(at(60_000), out));
    let kill = |index| Action::Signal(trial.slot(index), Signal::Kill);
    assert_eq!(said, vec![kill(0), kill(1)]);
    assert_eq!(trial.supervisor.deadline(), None, "nothing is left to wait for but the processes");
    trial.ends(at(60_001), 0, 0);
    assert_eq!(trial.phase(), Some(ReplicaPhase::Stopping), "one container is still there");
    let said = trial.ends(at(60_002), 1, 0);
    assert_eq!(said.last(), Some(&Action::StopProven(4)));
    assert_eq!(trial.phase(), None);
}

#[test]
fn lease_extended_in_time_kills_nothing_and_a_late_extension_revives_nothing() {
    let mut trial = Trial::running(workload(PartitionPolicy::Fence, RestartPolicy::Always, 1));
    trial.supervisor.handle_lease(at(90_000));
    assert_eq!(trial.tell(|s, out| s.handle_time(at(89_999), out)), vec![]);
    trial.tell(|s, out| s.handle_time(at(90_000), out));
    trial.supervisor.handle_lease(at(120_000));
    let said = kinds(&trial.ends(at(90_001), 0, 0));
    assert_eq!(said.last(), Some(&RuntimeEventKind::LeaseExpired));
    assert_eq!(trial.phase(), Some(ReplicaPhase::LeaseExpired));
    assert_eq!(trial.supervisor.deadline(), None);
}

#[test]
fn autonomous_replica_knows_no_lease() {
    let mut supervisor = Supervisor::default();
    let free = workload(PartitionPolicy::Autonomous, RestartPolicy::Always, 1);
    supervisor.handle_start(T0, free, &mut Vec::new()).unwrap();
    assert_eq!(supervisor.deadline(), None);
    let fenced = Workload { token: token(2), ..workload(PartitionPolicy::Fence, RestartPolicy::Always, 1) };
    let other = ReplicaId { index: 1, ..fenced.replica.clone() };
    let refused = supervisor.handle_start(T0, Workload { replica: other, ..fenced }, &mut Vec::new());
    assert!(matches!(refused, Err(StartError::NoLease { .. })), "{refused:?}");
}

#[test]
fn replica_of_two_containers_finishes_when_both_have_and_fails_if_one_did() {
    for (code, finished) in [(0, true), (2, false)] {
        let mut trial = Trial::running(workload(PartitionPolicy::Autonomous, RestartPolicy::Never, 2));
        trial.ends(at(1), 0, code);
        assert_eq!(trial.phase(), Some(ReplicaPhase::Running));
        let said = kinds(&trial.ends(at(2), 1, 0));
        assert_eq!(said.last() == Some(&RuntimeEventKind::Finished), finished, "{said:?}");
        assert!(trial.phase().unwrap().is_ended());
        assert!(!trial.supervisor.is_active());
    }
}

#[test]
fn stop_while_waiting_for_a_restart_is_proven_at_once() {
    let mut trial = Trial::running(workload(PartitionPolicy::Autonomous, RestartPolicy::Always, 1));
    trial.ends(at(1), 0, 1);
    assert_eq!(trial.phase(), Some(ReplicaPhase::BackingOff));
    let replica = trial.replica.clone();
    let said = trial.tell(|s, out| s.handle_stop(at(2), &replica, token(1), 9, out).unwrap());
    assert_eq!(kinds(&said), vec![RuntimeEventKind::Stopped]);
    assert_eq!(said.last(), Some(&Action::StopProven(9)));
}

#[test]
fn short_machine_is_tried_again_and_a_wrong_manifest_is_not() {
    for (failure, ended) in [
        (SpawnFailure::Transient("no memory".into()), false),
        (SpawnFailure::Permanent("no command".into()), true),
    ] {
        let mut trial = Trial::running(workload(PartitionPolicy::Autonomous, RestartPolicy::Always, 1));
        trial.ends(at(1), 0, 1);
        let slot = trial.slot(0);
        trial.tell(|s, out| s.handle_time(at(101), out));
        trial.tell(|s, out| s.handle_spawn_failed(at(101), &slot, failure, out));
        assert_eq!(trial.phase().unwrap().is_ended(), ended);
    }
}

#[test]
fn stop_never_reaches_a_replica_that_ended_and_was_replaced() {
    let mut trial = Trial::running(workload(PartitionPolicy::Autonomous, RestartPolicy::Never, 1));
    trial.ends(at(1), 0, 0);
    let newer =
        Workload { token: token(2), ..workload(PartitionPolicy::Autonomous, RestartPolicy::Never, 1) };
    trial.tell(|s, out| s.handle_start(at(2), newer, out).unwrap());
    let replica = trial.replica.clone();
    trial.tell(|s, out| {
        let refused = s.handle_stop(at(3), &replica, token(1), 1, out);
        assert!(matches!(refused, Err(StopError::Stale { .. })), "{refused:?}");
    });
    assert_eq!(trial.phase(), Some(ReplicaPhase::Starting));
}
