//! The brake of a lead: most of its cluster is missing at once.
//!
//! While it holds, replicas whose copies were left behind on nodes that are missing wait for these nodes. Everything else
//! goes on: new replicas are placed, a copy that ended on a node that answers is placed anew, and what a node that comes
//! back still runs is kept as it is. A replica whose node comes back without it is placed anew at once.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use codeco_protocol::ids::{NodeId, ReplicaId};
use codeco_protocol::units::{BootTime, Micros};

use super::{Lead, LeadNote, LeadOutput, LeadRecord, Mandate, Member};
use crate::swm::attempt::Stage;
use crate::swm::brake::{BRAKE_WINDOW, BrakeChange, Missing};
use crate::swm::score;

/// Why a brake cannot be released. Nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BrakeError {
    /// There is none.
    #[error("its brake is not engaged")]
    NotEngaged,
    /// This lead may not decide now.
    #[error("this lead is not in office now")]
    NoOffice,
}

/// A brake that is engaged, as it is told to people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BrakeState {
    /// Since when.
    pub since: BootTime,
    /// How many nodes are missing.
    pub missing: Missing,
    /// Replicas that wait for their nodes.
    pub held: usize,
}

impl Member {
    /// When it was last heard, or answered.
    fn last_sign(&self) -> BootTime {
        self.heard.map_or(self.lease.last_answer(), |heard| heard.max(self.lease.last_answer()))
    }
}

impl Mandate {
    /// Whether it waits for a missing node as long as the brake holds.
    pub(super) fn waits_for_its_node(&self) -> bool {
        self.adrift && !self.recalled && self.stage == Stage::Idle
    }
}

impl Lead {
    /// After nodes were waited out and before anything is placed: are most of them missing?
    ///
    /// The leases of nodes that were cut off in one moment do not end in one moment, so a node that has been silent for
    /// half as long counts as missing as soon as the first one is lost.
    pub(super) fn look_at_brake(&mut self, now: BootTime, out: &mut Vec<LeadOutput>) {
        let wait_out = self.config.lease.wait_out();
        let late = |member: &Member| member.lost || now.since(member.last_sign()).0 >= wait_out.0 / 2;
        let long_gone = |member: &Member| {
            member.lost && member.lost_since.is_some_and(|since| now.since(since) >= BRAKE_WINDOW)
        };
        let counted = || self.members.iter().filter(|(node, _)| !self.counted_out.contains(node));
        let missing = Missing { silent: counted().filter(|(_, m)| late(m)).count(), of: counted().count() };
        let due = counted().any(|(_, m)| m.lost);
        let gone: Vec<NodeId> = counted().filter(|(_, m)| long_gone(m)).map(|(node, _)| *node).collect();
        match self.brake.look(now, missing, due, wait_out) {
            Some(BrakeChange::Engaged) => out.push(LeadOutput::Note(LeadNote::BrakeEngaged(missing))),
            Some(BrakeChange::Released) => {
                self.let_go(now);
                out.push(LeadOutput::Note(LeadNote::BrakeReleased { by_operator: false }));
            }
            None => {}
        }
        if !self.brake.is_engaged() {
            for node in gone {
                self.record(LeadRecord::CountedOut { node, out: true }, out);
            }
        }
    }

    /// A node that was no longer counted is there.
    pub(super) fn count_in(&mut self, node: NodeId, out: &mut Vec<LeadOutput>) {
        if self.counted_out.contains(&node) {
            self.record(LeadRecord::CountedOut { node, out: false }, out);
        }
    }

    /// Whether a replica that has no node is to get one now, as far as the brake is concerned.
    pub(super) fn may_move(&self, m: &Mandate) -> bool {
        !(self.brake.is_engaged() && m.waits_for_its_node())
    }

    /// Says once of each replica that waits that it does, and why.
    pub(super) fn tell_held(&mut self, now: BootTime, out: &mut Vec<LeadOutput>) {
        let Some((_, Missing { silent, of })) = self.brake.engaged() else { return };
        let held: Vec<ReplicaId> = self
            .mandates
            .iter()
            .filter(|(_, m)| m.waits_for_its_node() && !m.told_held)
            .map(|(replica, _)| replica.clone())
            .collect();
        for replica in held {
            let Some(m) = self.mandates.get(&replica) else { continue };
            let sites = self.sites(now, &m.wanted(&replica, &m.refused));
            let ranking = score::rank(
                &sites,
                &m.spec.resources,
                &m.node_selector,
                super::placing::weighing(&m.context),
            );
            let why = format!(
                "the brake is engaged: {silent} of {of} nodes went missing at once, and it waits for its own; \
                 `codeco brake release {}` places it anew",
                self.config.cluster
            );
            let mut decision = self.decision(&replica, ranking, None, None);
            decision.cause = why.clone();
            if let Some(m) = self.mandates.get_mut(&replica) {
                m.told_held = true;
            }
            out.push(LeadOutput::Decided(Box::new(decision)));
            out.push(LeadOutput::Note(LeadNote::Unplaceable(replica, why)));
        }
    }

    /// An operator's word: the nodes that are missing count no longer, and what was left behind there is placed anew.
    /// Returns how many replicas that is.
    ///
    /// # Errors
    /// [`BrakeError`].
    pub fn release_brake(&mut self, now: BootTime, out: &mut Vec<LeadOutput>) -> Result<usize, BrakeError> {
        if !self.may_act(now) {
            return Err(BrakeError::NoOffice);
        }
        if !self.brake.release() {
            return Err(BrakeError::NotEngaged);
        }
        let late = Micros(self.config.lease.wait_out().0 / 2);
        let missing: Vec<NodeId> = self
            .members
            .iter()
            .filter(|(node, m)| {
                !self.counted_out.contains(node) && (m.lost || now.since(m.last_sign()) >= late)
            })
            .map(|(node, _)| *node)
            .collect();
        for node in missing {
            self.record(LeadRecord::CountedOut { node, out: true }, out);
        }
        let held = self.let_go(now);
        out.push(LeadOutput::Note(LeadNote::BrakeReleased { by_operator: true }));
        Ok(held)
    }

    /// What was held may be placed.
    fn let_go(&mut self, now: BootTime) -> usize {
        let mut held = 0;
        for m in self.mandates.values_mut() {
            m.told_held = false;
            if m.waits_for_its_node() {
                held += 1;
                m.next_try = now;
            }
        }
        held
    }

    /// An operator has said that most of the cluster is gone: nobody else counts until it is heard.
    pub(crate) fn count_only_itself(&mut self) {
        self.brake.release();
        self.counted_out = self.members.keys().copied().filter(|node| *node != self.config.id).collect();
    }

    /// The brake, if it is engaged.
    #[must_use]
    pub fn brake(&self) -> Option<BrakeState> {
        let (since, missing) = self.brake.engaged()?;
        let held = self.mandates.values().filter(|m| m.waits_for_its_node()).count();
        Some(BrakeState { since, missing, held })
    }
}
