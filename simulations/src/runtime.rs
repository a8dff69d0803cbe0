//! What really runs on a machine. Processes survive the agent; the guard, a process of its own, ends those that need
//! a lease when it is over; a reboot ends all.

use std::collections::BTreeMap;

use codeco_protocol::ids::ReplicaId;
use codeco_protocol::token::Token;
use codeco_protocol::units::BootTime;
use codeco_protocol::workload::{PartitionPolicy, Workload};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Pending,
    Running,
    Ready,
}

#[derive(Debug, Clone)]
pub(crate) struct Process {
    pub(crate) id: u64,
    pub(crate) workload: Workload,
    pub(crate) state: State,
    pub(crate) stopping: bool,
}

impl Process {
    pub(crate) fn runs(&self) -> bool {
        self.state != State::Pending
    }

    pub(crate) fn is_fenced(&self) -> bool {
        self.workload.spec.partition == PartitionPolicy::Fence
    }
}

#[derive(Debug, Default)]
pub(crate) struct Runtime {
    processes: BTreeMap<(ReplicaId, Token), Process>,
    guard_until: BootTime,
    started: u64,
}

impl Runtime {
    /// Takes an order to start; the id of the process to be started, unless it is there already.
    pub(crate) fn start(&mut self, workload: Workload) -> Option<u64> {
        let key = (workload.replica.clone(), workload.token);
        if self.processes.contains_key(&key) {
            return None;
        }
        self.started += 1;
        let id = self.started;
        self.processes.insert(key, Process { id, workload, state: State::Pending, stopping: false });
        Some(id)
    }

    /// Takes an order to stop. Whether a process has to be waited for; `None` if that is under way already.
    pub(crate) fn stop(&mut self, replica: &ReplicaId, token: Token) -> Option<bool> {
        let key = (replica.clone(), token);
        let Some(process) = self.processes.get_mut(&key) else { return Some(false) };
        if process.state == State::Pending {
            self.processes.remove(&key);
            return Some(false);
        }
        (!std::mem::replace(&mut process.stopping, true)).then_some(true)
    }

    pub(crate) fn remove(&mut self, replica: &ReplicaId, token: Token) {
        self.processes.remove(&(replica.clone(), token));
    }

    pub(crate) fn by_id(&mut self, id: u64) -> Option<&mut Process> {
        self.processes.values_mut().find(|process| process.id == id)
    }

    /// The guard learns how long a lease lasts.
    pub(crate) fn lease(&mut self, until: BootTime) {
        self.guard_until = self.guard_until.max(until);
    }

    pub(crate) fn lease_until(&self) -> BootTime {
        self.guard_until
    }

    /// Whether anything here needs a lease.
    pub(crate) fn has_fenced(&self) -> bool {
        self.processes.values().any(Process::is_fenced)
    }

    pub(crate) fn lease_holds(&self, now: BootTime) -> bool {
        now < self.guard_until
    }

    /// The guard ends all that needs a lease.
    pub(crate) fn kill_fenced(&mut self) -> Vec<(ReplicaId, Token)> {
        let dead: Vec<_> = self
            .processes
            .iter()
            .filter(|(_, process)| process.runs() && process.is_fenced())
            .map(|(key, _)| key.clone())
            .collect();
        for key in &dead {
            self.processes.remove(key);
        }
        dead
    }

    pub(crate) fn reboot(&mut self) {
        self.processes.clear();
        self.guard_until = BootTime(0);
    }

    pub(crate) fn processes(&self) -> impl Iterator<Item = &Process> {
        self.processes.values()
    }
}
