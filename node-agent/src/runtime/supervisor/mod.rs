//! The rules every runtime follows, as a pure state machine: no clock, no processes.
//!
//! The shell feeds what happened (`handle_*`), carries out the [`Action`]s it is given and calls
//! [`Supervisor::handle_time`] at [`Supervisor::deadline`]. Its duties:
//! - An [`Action::Spawn`] MUST be answered by [`Supervisor::handle_spawned`] or
//!   [`Supervisor::handle_spawn_failed`].
//! - After `handle_spawned`, [`Supervisor::handle_running`] or [`Supervisor::handle_not_runnable`] at most once,
//!   then exactly one [`Supervisor::handle_exited`] and, once nothing that the container has started is left,
//!   exactly one [`Supervisor::handle_gone`]. The shell MUST kill what the main process leaves behind.
//! - An [`Action::Signal`] MUST reach everything the container has started.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod replica;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ops::Bound;

use codeco_protocol::ids::ReplicaId;
use codeco_protocol::token::Token;
use codeco_protocol::units::BootTime;
use codeco_protocol::workload::{PartitionPolicy, Workload};

use super::{Exit, REPLICA_COUNT_MAX, RunningReplica, RuntimeEvent, StartError, StopError, Unavailable};
use replica::{Cause, Replica};

/// Containers of one replica at most.
pub(crate) const CONTAINER_COUNT_MAX: usize = 32;
/// Callers waiting for the stop of one replica at most.
const WAITER_COUNT_MAX: usize = 64;

/// One container of one replica. No token: a replica has one run at a time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Slot {
    /// The replica.
    pub(crate) replica: ReplicaId,
    /// Index of the container in the specification.
    pub(crate) container: usize,
}

/// How hard a container is told to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signal {
    /// SIGTERM: it may clean up.
    Terminate,
    /// SIGKILL: at once.
    Kill,
}

/// What the shell has to do, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    /// Start the container's program.
    Spawn(Slot),
    /// Signal everything the container has started.
    Signal(Slot, Signal),
    /// Tell the agent.
    Event(RuntimeEvent),
    /// Tell the caller who gave this number to [`Supervisor::handle_stop`] that the stop is proven.
    StopProven(u64),
}

/// Why a container could not be started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SpawnFailure {
    /// Trying again cannot help.
    Permanent(String),
    /// The machine is short of something; trying again may help.
    Transient(String),
}

/// All replicas of a node.
#[derive(Debug, Default)]
pub(crate) struct Supervisor {
    lease_until: BootTime,
    replicas: BTreeMap<ReplicaId, Replica>,
}

impl Supervisor {
    /// End of the node's lease; zero if there never was one.
    pub(crate) fn lease_until(&self) -> BootTime {
        self.lease_until
    }

    /// Everything taken over and not stopped yet, ordered by replica.
    pub(crate) fn list(&self) -> impl Iterator<Item = RunningReplica> + '_ {
        self.list_from(Bound::Unbounded)
    }

    /// The same, beginning somewhere.
    pub(crate) fn list_from(&self, from: Bound<ReplicaId>) -> impl Iterator<Item = RunningReplica> + '_ {
        self.replicas.range((from, Bound::Unbounded)).map(|(_, replica)| replica.describe())
    }

    /// What `slot`'s replica was started with.
    pub(crate) fn workload(&self, slot: &Slot) -> Option<&Workload> {
        self.replicas.get(&slot.replica).map(|replica| &replica.workload)
    }

    /// Whether something runs or will be started.
    pub(crate) fn is_active(&self) -> bool {
        self.replicas.values().any(|replica| !replica.is_over())
    }

    /// See [`super::Runtime::start`].
    pub(crate) fn handle_start(
        &mut self,
        now: BootTime,
        workload: Workload,
        out: &mut Vec<Action>,
    ) -> Result<(), StartError> {
        let replica = workload.replica.clone();
        if let Some(known) = self.replicas.get(&replica) {
            let token = known.workload.token;
            if token == workload.token {
                return Ok(());
            }
            if token > workload.token {
                return Err(StartError::Stale { replica, known: Box::new(token) });
            }
            if !known.is_over() {
                return Err(StartError::StillRunning { replica, running: Box::new(token) });
            }
        } else if self.replicas.len() >= REPLICA_COUNT_MAX {
            let count = u32::try_from(self.replicas.len()).unwrap_or(u32::MAX);
            return Err(StartError::TooMany { replica, count });
        }
        let found = workload.spec.containers.len();
        if found == 0 || found > CONTAINER_COUNT_MAX {
            let reason = format!("it has {found} containers, expected 1 to {CONTAINER_COUNT_MAX}");
            return Err(StartError::Refused { replica, reason });
        }
        if is_fenced(&workload) && now >= self.lease_until {
            return Err(StartError::NoLease { replica, lease_until: self.lease_until });
        }
        self.replicas.insert(replica, Replica::start(now, workload, out));
        Ok(())
    }

    /// See [`super::Runtime::stop`]. `waiter` comes back in [`Action::StopProven`].
    pub(crate) fn handle_stop(
        &mut self,
        now: BootTime,
        replica: &ReplicaId,
        token: Token,
        waiter: u64,
        out: &mut Vec<Action>,
    ) -> Result<(), StopError> {
        let Some(known) = self.replicas.get_mut(replica) else {
            out.push(Action::StopProven(waiter));
            return Ok(());
        };
        if known.workload.token > token {
            return Err(StopError::Stale {
                replica: replica.clone(),
                running: Box::new(known.workload.token),
            });
        }
        if known.waiters.len() >= WAITER_COUNT_MAX {
            return Err(
                Unavailable::new(format!("{WAITER_COUNT_MAX} callers wait for this stop already")).into()
            );
        }
        known.waiters.push(waiter);
        known.stop(now, out);
        self.forget_if_stopped(replica, out);
        Ok(())
    }

    /// Stops every replica, each with its grace.
    pub(crate) fn handle_stop_all(&mut self, now: BootTime, out: &mut Vec<Action>) {
        let all: Vec<ReplicaId> = self.replicas.keys().cloned().collect();
        for replica in all {
            if let Some(known) = self.replicas.get_mut(&replica) {
                known.stop(now, out);
            }
            self.forget_if_stopped(&replica, out);
        }
    }

    /// See [`super::Runtime::extend_lease`].
    pub(crate) fn handle_lease(&mut self, until: BootTime) {
        self.lease_until = self.lease_until.max(until);
    }

    /// When [`Supervisor::handle_time`] has to be called next.
    pub(crate) fn deadline(&self) -> Option<BootTime> {
        let lease = |replica: &Replica| replica.must_die_at_lease_end().then_some(self.lease_until);
        self.replicas.values().flat_map(|replica| [replica.deadline(), lease(replica)]).flatten().min()
    }

    /// Time has passed: leases end, graces end, back-offs end.
    pub(crate) fn handle_time(&mut self, now: BootTime, out: &mut Vec<Action>) {
        let lease_over = now >= self.lease_until;
        // Kills first, over all replicas: nothing that takes long may come between a lease's end and the last kill.
        for replica in self.replicas.values_mut() {
            if lease_over && replica.must_die_at_lease_end() {
                replica.end(Cause::LeaseExpired, Signal::Kill, out);
            }
        }
        for replica in self.replicas.values_mut() {
            replica.handle_time(now, out);
        }
    }

    /// The container's process exists.
    pub(crate) fn handle_spawned(
        &mut self,
        now: BootTime,
        slot: &Slot,
        pid: Option<u32>,
        out: &mut Vec<Action>,
    ) {
        self.with(slot, out, |replica, out| replica.handle_spawned(now, slot.container, pid, out));
    }

    /// The container's process could not be made.
    pub(crate) fn handle_spawn_failed(
        &mut self,
        now: BootTime,
        slot: &Slot,
        failure: SpawnFailure,
        out: &mut Vec<Action>,
    ) {
        self.with(slot, out, |replica, out| replica.handle_spawn_failed(now, slot.container, failure, out));
    }

    /// The container's process runs the container's own program.
    pub(crate) fn handle_running(&mut self, slot: &Slot, out: &mut Vec<Action>) {
        self.with(slot, out, |replica, out| replica.handle_running(slot.container, out));
    }

    /// The container's program cannot be run, and never will.
    pub(crate) fn handle_not_runnable(&mut self, slot: &Slot, message: String, out: &mut Vec<Action>) {
        self.with(slot, out, |replica, out| replica.end(Cause::Failed(message), Signal::Kill, out));
    }

    /// The container's main process ended.
    pub(crate) fn handle_exited(&mut self, slot: &Slot, exit: Exit, out: &mut Vec<Action>) {
        self.with(slot, out, |replica, out| replica.handle_exited(slot.container, exit, out));
    }

    /// Nothing the container has started is left.
    pub(crate) fn handle_gone(&mut self, now: BootTime, slot: &Slot, out: &mut Vec<Action>) {
        self.with(slot, out, |replica, out| replica.handle_gone(now, slot.container, out));
    }

    fn with(
        &mut self,
        slot: &Slot,
        out: &mut Vec<Action>,
        change: impl FnOnce(&mut Replica, &mut Vec<Action>),
    ) {
        if let Some(replica) = self.replicas.get_mut(&slot.replica) {
            change(replica, out);
            self.forget_if_stopped(&slot.replica, out);
        }
    }

    fn forget_if_stopped(&mut self, replica: &ReplicaId, out: &mut Vec<Action>) {
        if self.replicas.get(replica).is_some_and(Replica::is_stopped)
            && let Some(stopped) = self.replicas.remove(replica)
        {
            out.extend(stopped.waiters.into_iter().map(Action::StopProven));
        }
    }
}

fn is_fenced(workload: &Workload) -> bool {
    workload.spec.partition == PartitionPolicy::Fence
}
