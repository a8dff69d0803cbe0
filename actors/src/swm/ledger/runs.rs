//! What the runtime does, and what the ledger makes of it.

use codeco_protocol::ids::ReplicaId;
use codeco_protocol::messages::{ClosedReason, ControlMessage, HeldPhase, RunPhase};
use codeco_protocol::token::Token;
use codeco_protocol::units::BootTime;
use codeco_protocol::workload::Workload;

use super::{Entry, Ledger, LedgerNote, LedgerOutput, LedgerRecord, RuntimeFact, SLOTS_MAX};

impl Ledger {
    /// Starts a promised replica if it may run and does not.
    pub(super) fn start(&mut self, now: BootTime, replica: &ReplicaId, out: &mut Vec<LedgerOutput>) {
        let Some(entry) = self.entries.get(replica) else { return };
        let (Some((token, HeldPhase::Committed)), Some(spec)) = (entry.slot.held, &entry.spec) else {
            return;
        };
        if entry.run != RunPhase::Waiting || !self.may_run(now, spec) {
            return;
        }
        let workload = Workload { replica: replica.clone(), token, spec: spec.clone() };
        if let Some(entry) = self.entries.get_mut(replica) {
            entry.run = RunPhase::Starting;
        }
        out.push(LedgerOutput::Start(workload));
    }

    pub(super) fn start_what_may_run(&mut self, now: BootTime, out: &mut Vec<LedgerOutput>) {
        let waiting: Vec<ReplicaId> = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.run == RunPhase::Waiting && entry.spec.is_some())
            .map(|(replica, _)| replica.clone())
            .collect();
        for replica in waiting {
            self.start(now, &replica, out);
        }
    }

    /// What runs after a start of the process, set against what the journal promises.
    pub(super) fn handle_listed(&mut self, now: BootTime, running: &[Workload], out: &mut Vec<LedgerOutput>) {
        for workload in running {
            let (replica, token) = (&workload.replica, workload.token);
            let held = self.entries.get(replica).and_then(|entry| entry.slot.held);
            match held {
                Some((held, HeldPhase::Committed)) if held == token => {
                    if let Some(entry) = self.entries.get_mut(replica) {
                        entry.run = RunPhase::Starting;
                    }
                }
                // A stop was under way: it is asked for again below.
                Some((held, HeldPhase::Stopping)) if held == token => {}
                None if !self.admitted && self.entries.len() < SLOTS_MAX => self.take_over(workload, out),
                _ => {
                    out.push(LedgerOutput::Note(LedgerNote::UnknownWorkload(replica.clone(), token)));
                    out.push(LedgerOutput::Stop { replica: replica.clone(), token });
                }
            }
        }
        let stopping: Vec<_> = self
            .entries
            .iter()
            .filter_map(|(replica, entry)| match entry.slot.held {
                Some((token, HeldPhase::Stopping)) => Some((replica.clone(), token)),
                _ => None,
            })
            .collect();
        for (replica, token) in stopping {
            out.push(LedgerOutput::Stop { replica, token });
        }
        self.start_what_may_run(now, out);
    }

    /// A node that lost its journal still runs this: good work is kept, under the token it was started with.
    fn take_over(&mut self, workload: &Workload, out: &mut Vec<LedgerOutput>) {
        let replica = workload.replica.clone();
        let entry = self.entries.entry(replica.clone()).or_default();
        entry.slot.held = Some((workload.token, HeldPhase::Committed));
        entry.resources = workload.spec.resources.clone();
        entry.spec = Some(workload.spec.clone());
        entry.run = RunPhase::Starting;
        out.push(LedgerOutput::Journal(LedgerRecord::Committed {
            replica: replica.clone(),
            token: workload.token,
            spec: workload.spec.clone(),
        }));
        out.push(LedgerOutput::Note(LedgerNote::TakenOver(replica, workload.token)));
    }

    pub(super) fn handle_runtime(
        &mut self,
        now: BootTime,
        replica: &ReplicaId,
        token: Token,
        fact: &RuntimeFact,
        out: &mut Vec<LedgerOutput>,
    ) {
        let Some(entry) = self.entries.get_mut(replica) else { return };
        let Some((held, phase)) = entry.slot.held else { return };
        if held != token {
            return;
        }
        match (fact, phase) {
            (RuntimeFact::Stopped, HeldPhase::Stopping) => {
                *entry = Entry { slot: entry.slot, ..Entry::default() };
                entry.slot.stopped(token);
                let record = LedgerRecord::Closed { replica: replica.clone(), token };
                out.push(LedgerOutput::Journal(record));
                self.prune();
                if let Some(lead) = self.lead {
                    self.send_closed(lead, replica, token, ClosedReason::Stopped, out);
                }
                return;
            }
            (RuntimeFact::Stopped | RuntimeFact::Fenced, _) => entry.run = RunPhase::Waiting,
            (RuntimeFact::Starting, _) => entry.run = RunPhase::Starting,
            (RuntimeFact::Ready, _) => entry.run = RunPhase::Ready,
            (RuntimeFact::Finished, _) => entry.run = RunPhase::Finished,
            (RuntimeFact::Failed, _) => entry.run = RunPhase::Failed,
        }
        let run = entry.run;
        if let Some(lead) = self.lead {
            let told = self.tell();
            let message = ControlMessage::Status { replica: replica.clone(), token, run, told };
            out.push(LedgerOutput::Send { to: lead, message });
        }
        // Stopped by an end of the lease that has been renewed meanwhile.
        self.start(now, replica, out);
    }
}
