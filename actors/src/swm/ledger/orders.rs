//! Orders of leads, and the answers.

use codeco_protocol::ids::{Incarnation, MemberId, ReplicaId};
use codeco_protocol::messages::{ClosedReason, ControlMessage, HeldPhase};
use codeco_protocol::resources::Resources;
use codeco_protocol::token::{Term, Token};
use codeco_protocol::units::{BootTime, Micros};
use codeco_protocol::workload::WorkloadSpec;

use super::{Entry, Ledger, LedgerNote, LedgerOutput, LedgerRecord, SLOTS_MAX, Upkeep};
use crate::swm::slot::Verdict;

/// The term that an order is given under.
fn term_of(message: &ControlMessage) -> Option<Term> {
    match message {
        ControlMessage::Fence { term }
        | ControlMessage::LeaseGrant { term, .. }
        | ControlMessage::Close { term, .. } => Some(*term),
        ControlMessage::Reserve { token, .. } | ControlMessage::Commit { token, .. } => Some(token.term),
        _ => None,
    }
}

impl Ledger {
    pub(super) fn handle_message(
        &mut self,
        now: BootTime,
        from: MemberId,
        message: ControlMessage,
        out: &mut Vec<LedgerOutput>,
    ) {
        if let Some(term) = term_of(&message)
            && !term.is_possible()
        {
            // Obeyed, it would leave no room for any lead after it.
            out.push(LedgerOutput::Note(LedgerNote::StaleOrder(term)));
            return;
        }
        match message {
            ControlMessage::Fence { term } => self.handle_fence(now, from, term, out),
            ControlMessage::LeaseGrant { nonce, term, duration, revoke } => {
                self.handle_grant(now, from, nonce, term, duration, revoke, out);
            }
            ControlMessage::Reserve { incarnation, replica, token, resources, ttl } => {
                if self.screen(from, incarnation, &replica, token, out) {
                    self.handle_reserve(now, from, replica, token, resources, ttl, out);
                }
            }
            ControlMessage::Commit { incarnation, replica, token, spec } => {
                if self.screen(from, incarnation, &replica, token, out) {
                    self.handle_commit(now, from, replica, token, spec, out);
                }
            }
            ControlMessage::Close { term, replica, token } => {
                self.handle_close(from, term, &replica, token, out);
            }
            // Anything else is not for a ledger; the sender gains nothing by it.
            _ => {}
        }
    }

    /// A new lead takes office: obey, close what only its predecessor could have committed, report.
    fn handle_fence(&mut self, now: BootTime, from: MemberId, term: Term, out: &mut Vec<LedgerOutput>) {
        if term.owner != from {
            out.push(LedgerOutput::Note(LedgerNote::StaleOrder(term)));
            return;
        }
        if term < self.term {
            out.push(LedgerOutput::Note(LedgerNote::StaleOrder(term)));
            out.push(LedgerOutput::Send { to: from, message: ControlMessage::Stale { highest: self.term } });
            return;
        }
        self.raise_term(term, out);
        let replicas: Vec<ReplicaId> = self.entries.keys().cloned().collect();
        for replica in replicas {
            let Some(entry) = self.entries.get_mut(&replica) else { continue };
            if let Some(token) = entry.slot.fence(term) {
                *entry = Entry { slot: entry.slot, ..Entry::default() };
                out.push(LedgerOutput::Journal(LedgerRecord::Closed { replica, token }));
            }
        }
        self.prune();
        let told = self.tell();
        let report = ControlMessage::Report { term: self.term, facts: self.facts(), held: self.held(), told };
        out.push(LedgerOutput::Send { to: from, message: report });
        if self.lead == Some(from) {
            self.ask_for_lease(now, out);
        }
    }

    #[allow(clippy::too_many_arguments)]
    fn handle_grant(
        &mut self,
        now: BootTime,
        from: MemberId,
        nonce: u64,
        term: Term,
        duration: Micros,
        revoke: Vec<(ReplicaId, Token)>,
        out: &mut Vec<LedgerOutput>,
    ) {
        // A lead grants to nodes that have reported to its term, so a grant of another term is old, or a fault.
        if term != self.term || self.lead != Some(from) || duration > self.config.lease.duration {
            out.push(LedgerOutput::Note(LedgerNote::StaleOrder(term)));
            return;
        }
        // What the lead has placed elsewhere meanwhile must never run under the new lease, so it goes first.
        for (replica, token) in revoke {
            self.handle_close(from, term, &replica, token, out);
        }
        if !self.lease.granted(nonce, duration) {
            return;
        }
        if self.telling.as_ref().is_some_and(|(told, _)| *told == nonce) {
            self.told = self.telling.take().map(|(_, facts)| (term, now, facts));
        }
        if !self.admitted {
            self.admitted = true;
            out.push(LedgerOutput::Journal(LedgerRecord::Admitted));
        }
        self.lease_ended_noted = false;
        out.push(LedgerOutput::LeaseUntil(self.lease.until()));
        self.start_what_may_run(now, out);
    }

    /// Whether an order to reserve or commit reaches the rule of its slot.
    fn screen(
        &mut self,
        from: MemberId,
        incarnation: Incarnation,
        replica: &ReplicaId,
        token: Token,
        out: &mut Vec<LedgerOutput>,
    ) -> bool {
        // What was taken over from the life that was meant is held under the same token, and must not be called closed.
        let held = self.entries.get(replica).and_then(|entry| entry.slot.held);
        if incarnation != self.incarnation && held.is_none_or(|(held, _)| held != token) {
            self.send_closed(from, replica, token, ClosedReason::OtherIncarnation, out);
            return false;
        }
        if token.term.owner != from {
            // Only the lead of a term gives that term's orders.
            out.push(LedgerOutput::Note(LedgerNote::StaleOrder(token.term)));
            return false;
        }
        if !self.admitted {
            // Unanswered on purpose: before a lead with a valid lease has told the term, an answer could be wrong.
            return false;
        }
        if !self.entries.contains_key(replica) && self.entries.len() >= SLOTS_MAX {
            out.push(LedgerOutput::Note(LedgerNote::SlotsExhausted));
            return false;
        }
        true
    }

    #[allow(clippy::too_many_arguments)]
    fn handle_reserve(
        &mut self,
        now: BootTime,
        from: MemberId,
        replica: ReplicaId,
        token: Token,
        resources: Resources,
        ttl: Micros,
        out: &mut Vec<LedgerOutput>,
    ) {
        let before = self.entries.get(&replica).cloned().unwrap_or_default();
        let own = if before.slot.held.is_some() { before.resources.clone() } else { Resources::default() };
        let shortage = resources.shortage_in(&self.free().plus(&own));
        let closed_to_work = self.upkeep != Upkeep::Open;
        let mut term = self.term;
        let entry = self.entries.entry(replica.clone()).or_default();
        let verdict = entry.slot.reserve(&mut term, token, shortage.is_none() && !closed_to_work);
        match verdict {
            Verdict::Done => {
                *entry = Entry {
                    slot: entry.slot,
                    resources: resources.clone(),
                    expires: now + ttl.min(self.config.lease.duration),
                    ..Entry::default()
                };
                self.raise_term(term, out);
                // An attempt this one has replaced is closed for good, on disk too.
                if let Some((replaced, _)) = before.slot.held {
                    let record = LedgerRecord::Closed { replica: replica.clone(), token: replaced };
                    out.push(LedgerOutput::Journal(record));
                }
                out.push(LedgerOutput::Journal(LedgerRecord::Reserved {
                    replica: replica.clone(),
                    token,
                    resources,
                }));
                out.push(LedgerOutput::Send {
                    to: from,
                    message: ControlMessage::Reserved { replica, token },
                });
            }
            Verdict::Again => {
                out.push(LedgerOutput::Send {
                    to: from,
                    message: ControlMessage::Reserved { replica, token },
                });
            }
            Verdict::Closed(news) => {
                let reason = match (shortage, before.slot.held) {
                    (_, Some(_)) => ClosedReason::Occupied,
                    (_, None) if closed_to_work => ClosedReason::Cordoned,
                    (Some(what), None) => ClosedReason::NoRoom(what),
                    (None, None) => ClosedReason::AlreadyClosed,
                };
                if entry.slot.held.is_none() {
                    *entry = Entry { slot: entry.slot, ..Entry::default() };
                }
                self.answer_closed(from, &replica, token, news, term, reason, out);
            }
            Verdict::Stale(highest) => {
                out.push(LedgerOutput::Send { to: from, message: ControlMessage::Stale { highest } });
            }
        }
    }

    fn handle_commit(
        &mut self,
        now: BootTime,
        from: MemberId,
        replica: ReplicaId,
        token: Token,
        spec: WorkloadSpec,
        out: &mut Vec<LedgerOutput>,
    ) {
        let mut term = self.term;
        let entry = self.entries.entry(replica.clone()).or_default();
        let reserved = entry.slot.held == Some((token, HeldPhase::Reserved));
        if reserved && !spec.resources.fits_in(&entry.resources) {
            // A commit for more than was reserved would promise what nobody checked. Unanswered: it is a fault. What is
            // committed already is answered: a lead in doubt of it asks with the specification it would have by now.
            out.push(LedgerOutput::Note(LedgerNote::StaleOrder(token.term)));
            return;
        }
        match entry.slot.commit(&mut term, token) {
            Verdict::Done => {
                entry.spec = Some(spec.clone());
                entry.run = codeco_protocol::messages::RunPhase::Waiting;
                self.raise_term(term, out);
                out.push(LedgerOutput::Journal(LedgerRecord::Committed {
                    replica: replica.clone(),
                    token,
                    spec,
                }));
                out.push(LedgerOutput::Send {
                    to: from,
                    message: ControlMessage::Committed { replica: replica.clone(), token },
                });
                self.start(now, &replica, out);
            }
            Verdict::Again => {
                out.push(LedgerOutput::Send {
                    to: from,
                    message: ControlMessage::Committed { replica, token },
                });
            }
            Verdict::Closed(news) => {
                self.answer_closed(from, &replica, token, news, term, ClosedReason::Expired, out);
            }
            Verdict::Stale(highest) => {
                out.push(LedgerOutput::Send { to: from, message: ControlMessage::Stale { highest } });
            }
        }
    }

    fn handle_close(
        &mut self,
        from: MemberId,
        order_term: Term,
        replica: &ReplicaId,
        token: Token,
        out: &mut Vec<LedgerOutput>,
    ) {
        if order_term.owner != from {
            out.push(LedgerOutput::Note(LedgerNote::StaleOrder(order_term)));
            return;
        }
        if !self.entries.contains_key(replica) && self.entries.len() >= SLOTS_MAX {
            out.push(LedgerOutput::Note(LedgerNote::SlotsExhausted));
            return;
        }
        let mut term = self.term;
        let entry = self.entries.entry(replica.clone()).or_default();
        match entry.slot.order_close(&mut term, order_term, token) {
            Verdict::Done => {
                self.raise_term(term, out);
                let record = LedgerRecord::Stopping { replica: replica.clone(), token };
                out.push(LedgerOutput::Journal(record));
                out.push(LedgerOutput::Stop { replica: replica.clone(), token });
            }
            Verdict::Again => out.push(LedgerOutput::Stop { replica: replica.clone(), token }),
            Verdict::Closed(news) => {
                if entry.slot.held.is_none() {
                    *entry = Entry { slot: entry.slot, ..Entry::default() };
                }
                self.answer_closed(from, replica, token, news, term, ClosedReason::Stopped, out);
            }
            Verdict::Stale(highest) => {
                out.push(LedgerOutput::Send { to: from, message: ControlMessage::Stale { highest } });
            }
        }
    }

    #[allow(clippy::too_many_arguments)]
    fn answer_closed(
        &mut self,
        to: MemberId,
        replica: &ReplicaId,
        token: Token,
        news: bool,
        term: Term,
        reason: ClosedReason,
        out: &mut Vec<LedgerOutput>,
    ) {
        self.raise_term(term, out);
        if news {
            out.push(LedgerOutput::Journal(LedgerRecord::Closed { replica: replica.clone(), token }));
        }
        self.send_closed(to, replica, token, reason, out);
    }

    pub(super) fn send_closed(
        &self,
        to: MemberId,
        replica: &ReplicaId,
        token: Token,
        reason: ClosedReason,
        out: &mut Vec<LedgerOutput>,
    ) {
        let message = ControlMessage::Closed { replica: replica.clone(), token, reason, free: self.free() };
        out.push(LedgerOutput::Send { to, message });
    }
}
