//! What runs on the machines, and who ends it.

use codeco_actors::swm::ledger::{LedgerInput, RuntimeFact};
use codeco_protocol::ids::ReplicaId;
use codeco_protocol::token::Token;
use codeco_protocol::units::BootTime;
use codeco_protocol::workload::Workload;

use super::world::{Event, World};
use crate::invariant::Violation;
use crate::runtime::State;

impl World {
    pub(crate) fn start_workload(&mut self, at: usize, workload: Workload) {
        let boot = self.machines[at].boot;
        let Some(node) = &mut self.machines[at].node else { return };
        if let Some(process) = node.runtime.start(workload) {
            let span = self.rng.u64(1_000..200_000);
            self.after(span, Event::ProcessStarts { at, boot, process });
        }
    }

    pub(crate) fn stop_workload(
        &mut self,
        at: usize,
        replica: ReplicaId,
        token: Token,
    ) -> Result<(), Violation> {
        self.check_stop(at, &replica, token)?;
        let boot = self.machines[at].boot;
        let Some(node) = &mut self.machines[at].node else { return Ok(()) };
        match node.runtime.stop(&replica, token) {
            Some(true) => {
                let span = self.rng.u64(1_000..1_000_000);
                self.after(span, Event::ProcessStops { at, boot, replica, token });
            }
            Some(false) => {
                let span = self.rng.u64(1_000..20_000);
                self.after(span, Event::ProcessStops { at, boot, replica, token });
            }
            None => {}
        }
        Ok(())
    }

    pub(crate) fn process_starts(&mut self, at: usize, id: u64) -> Result<(), Violation> {
        let (now, boot) = (self.read_clock(at), self.machines[at].boot);
        let Some(node) = &mut self.machines[at].node else { return Ok(()) };
        let lease_holds = node.runtime.lease_holds(now);
        let until = node.runtime.lease_until();
        let Some(process) = node.runtime.by_id(id).filter(|process| process.state == State::Pending) else {
            return Ok(());
        };
        let (replica, token, fenced) =
            (process.workload.replica.clone(), process.workload.token, process.is_fenced());
        if fenced && !lease_holds {
            node.runtime.remove(&replica, token);
            return self.feed_ledger(at, LedgerInput::Runtime { replica, token, fact: RuntimeFact::Fenced });
        }
        process.state = State::Running;
        self.note(at, format_args!("runs {replica} {token}"));
        self.check_started(at, &replica, token, fenced)?;
        if fenced {
            let when = self.when(at, until);
            self.queue.push(when, Event::GuardFires { at, boot });
        }
        let span = self.rng.u64(1_000..800_000);
        self.after(span, Event::ProcessReady { at, boot, process: id });
        self.feed_ledger(at, LedgerInput::Runtime { replica, token, fact: RuntimeFact::Starting })
    }

    pub(crate) fn process_ready(&mut self, at: usize, id: u64) -> Result<(), Violation> {
        let Some(node) = &mut self.machines[at].node else { return Ok(()) };
        let Some(process) = node.runtime.by_id(id).filter(|process| process.runs()) else { return Ok(()) };
        process.state = State::Ready;
        let (replica, token) = (process.workload.replica.clone(), process.workload.token);
        self.feed_ledger(at, LedgerInput::Runtime { replica, token, fact: RuntimeFact::Ready })
    }

    pub(crate) fn process_stops(
        &mut self,
        at: usize,
        replica: ReplicaId,
        token: Token,
    ) -> Result<(), Violation> {
        let Some(node) = &mut self.machines[at].node else { return Ok(()) };
        node.runtime.remove(&replica, token);
        self.oracles.single.stopped(at, &replica, token);
        self.note(at, format_args!("stopped {replica} {token}"));
        self.feed_ledger(at, LedgerInput::Runtime { replica, token, fact: RuntimeFact::Stopped })
    }

    /// The lease the guard knows of may have ended; it acts within the margin that leases allow for.
    pub(crate) fn guard_fires(&mut self, at: usize) {
        let (now, boot) = (self.read_clock(at), self.machines[at].boot);
        let Some(node) = &self.machines[at].node else { return };
        if !node.runtime.lease_holds(now) {
            let span = self.rng.u64(0..400_000);
            self.after(span, Event::GuardKills { at, boot });
        }
    }

    pub(crate) fn guard_kills(&mut self, at: usize) -> Result<(), Violation> {
        let now: BootTime = self.read_clock(at);
        let Some(node) = &mut self.machines[at].node else { return Ok(()) };
        if node.runtime.lease_holds(now) {
            return Ok(());
        }
        for (replica, token) in node.runtime.kill_fenced() {
            self.counts.guard_kills += 1;
            self.oracles.single.stopped(at, &replica, token);
            self.note(at, format_args!("guard kills {replica}"));
            self.feed_ledger(at, LedgerInput::Runtime { replica, token, fact: RuntimeFact::Fenced })?;
        }
        Ok(())
    }
}
