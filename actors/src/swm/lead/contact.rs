//! Homes, and what may run while they are not heard.

use codeco_protocol::ids::{MemberId, NodeId, ReplicaId};
use codeco_protocol::messages::{ControlMessage, HeldPhase};
use codeco_protocol::token::{MandateId, Term};
use codeco_protocol::units::{BootTime, Micros};
use codeco_protocol::workload::PartitionPolicy;

use super::{Lead, LeadNote, LeadOutput, LeadRecord, Mandate};

/// Longest pause between two questions to a home.
const PAUSE_MAX: Micros = Micros::from_secs(1);
/// Shortest.
const PAUSE_MIN: Micros = Micros::from_millis(100);

/// Whether a replica may run as far as its home is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// The home has been heard lately, or need not be.
    Allowed,
    /// A lead that has just taken office has asked, and waits a moment: it grants nothing and stops nothing.
    Awaited,
    /// Too long ago.
    Over,
}

impl Lead {
    pub(super) fn standing(&self, now: BootTime, m: &Mandate) -> Standing {
        let Some(limit) = m.spec.lost_after.filter(|_| m.spec.partition == PartitionPolicy::Fence) else {
            return Standing::Allowed;
        };
        match self.contacts.get(&m.home.owner).and_then(|contact| contact.until(limit)) {
            Some(until) if now < until => Standing::Allowed,
            None if now < self.office_since + Micros(self.config.lease.duration.0 / 4) => Standing::Awaited,
            _ => Standing::Over,
        }
    }

    /// When a home was asked what it has answered last.
    #[must_use]
    pub fn home_asked(&self, home: MemberId) -> Option<BootTime> {
        self.contacts.get(&home).and_then(|contact| contact.until(Micros(0)))
    }

    /// Whether a node holds what may or may not go on: the home is being asked.
    pub(super) fn awaits_a_home(&self, now: BootTime, node: NodeId) -> bool {
        self.members.get(&node).into_iter().flat_map(|member| member.held.values()).any(|brief| {
            let mandate = self.mandates.get(&brief.replica);
            brief.phase == HeldPhase::Committed
                && mandate.is_some_and(|m| self.standing(now, m) == Standing::Awaited)
        })
    }

    /// Asks homes whether they are there: those of replicas that name how long they may be silent.
    pub(super) fn ask_homes(&mut self, now: BootTime, out: &mut Vec<LeadOutput>) {
        let mut homes: std::collections::BTreeMap<MemberId, Micros> = std::collections::BTreeMap::new();
        for m in self.mandates.values() {
            if let Some(limit) = m.spec.lost_after {
                let least = homes.entry(m.home.owner).or_insert(limit);
                *least = (*least).min(limit);
            }
        }
        self.contacts.retain(|home, _| homes.contains_key(home));
        for (home, limit) in homes {
            let pause = Micros((limit.0 / 5).clamp(PAUSE_MIN.0, PAUSE_MAX.0));
            let nonce = self.next_nonce;
            if self.contacts.entry(home).or_default().ask(now, nonce, pause) {
                self.next_nonce += 1;
                let allowance = Micros(self.config.lease.wait_out().0 + self.config.resend.0);
                self.send(home, ControlMessage::Watch { nonce, term: self.term, allowance }, out);
            }
        }
    }

    /// A home has answered; what it has given away meanwhile goes first.
    pub(super) fn handle_watched(
        &mut self,
        now: BootTime,
        from: MemberId,
        (nonce, term): (u64, Term),
        lost: Vec<(ReplicaId, MandateId)>,
        out: &mut Vec<LeadOutput>,
    ) {
        if term != self.term {
            return;
        }
        for (replica, mandate) in lost {
            let known = self.mandates.get(&replica);
            if known.is_some_and(|m| m.home.owner == from && m.mandate == mandate && !m.recalled) {
                self.record(LeadRecord::Recalled { replica: replica.clone() }, out);
                if self.ready {
                    self.close_if_unwanted(now, &replica, out);
                }
            }
        }
        if self.contacts.get_mut(&from).is_some_and(|contact| contact.answered(nonce)) {
            for (replica, m) in self.mandates.iter_mut().filter(|(_, m)| m.home.owner == from) {
                if std::mem::take(&mut m.suspended) {
                    m.next_try = now;
                    out.push(LeadOutput::Note(LeadNote::HomeHeard(replica.clone())));
                }
            }
        }
    }

    /// Stops what may not run while its home is silent for so long. The mandate stays.
    pub(super) fn stop_the_unheard(&mut self, now: BootTime, out: &mut Vec<LeadOutput>) {
        let over: Vec<ReplicaId> = self
            .mandates
            .iter()
            .filter(|(_, m)| !m.suspended && self.standing(now, m) == Standing::Over)
            .map(|(replica, _)| replica.clone())
            .collect();
        for replica in over {
            let Some(m) = self.mandates.get_mut(&replica) else { continue };
            m.suspended = true;
            if !m.stage.may_run()
                && let Some(outgoing) = m.outgoing.take()
            {
                m.stage.close();
                m.stage.adopt(outgoing.placement);
            }
            if m.stage.close() {
                m.next_send = now;
                out.push(LeadOutput::Note(LeadNote::HomeLost(replica)));
            }
        }
    }

    /// When the next right ends.
    pub(super) fn next_end(&self) -> Option<BootTime> {
        let ends =
            self.mandates.values().filter(|m| !m.suspended && m.spec.partition == PartitionPolicy::Fence);
        ends.filter_map(|m| self.contacts.get(&m.home.owner)?.until(m.spec.lost_after?)).min()
    }
}
