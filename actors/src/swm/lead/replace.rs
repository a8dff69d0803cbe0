//! Replacing a copy that is older than its specification, or whose node is being drained.
//!
//! A copy that serves and needs no lease is replaced by overlap: it is left running as a debt of its node, another one
//! is placed elsewhere, and the old one is closed once the new one is ready. One that needs a lease must stop first,
//! because two must never run; so must one where no other node has room. A stop first costs availability, and only the
//! home knows all copies of a service, so it is done only while the home allows it ([`Replace::StopFirst`]).

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use codeco_protocol::ids::{NodeId, NodeName, ReplicaId};
use codeco_protocol::messages::{ControlMessage, Leaving, Replace, RunPhase};
use codeco_protocol::resources::Resources;
use codeco_protocol::token::Token;
use codeco_protocol::units::{BootTime, Micros};
use codeco_protocol::workload::{ChannelSpec, PartitionPolicy};

use super::constraints::Wanted;
use super::placing::RETRY;
use super::{Lead, LeadNote, LeadOutput, LeadRecord};
use crate::swm::attempt::{Placement, Stage};
use crate::swm::score;

/// Most copies of one service that a lead moves by overlap at the same time because their nodes are being drained.
const MOVES_PER_SERVICE_MAX: usize = 1;
/// How long a copy that served is taken to do so, while its agent, started again, has yet to hear of its runtime.
pub(super) const DOUBT: Micros = Micros::from_secs(5);

/// A copy that serves until the one that replaces it is ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Outgoing {
    pub(super) placement: Placement,
    /// Generation it runs.
    pub(super) generation: u64,
    /// What it takes.
    resources: Resources,
    /// The channels it was placed with.
    channels: Vec<ChannelSpec>,
    /// When its node is told (again) to close it.
    next_close: BootTime,
}

/// What a home was told of a replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) token: Token,
    pub(super) node: NodeName,
    pub(super) generation: u64,
    pub(super) run: RunPhase,
    pub(super) leaving: Leaving,
}

/// What is to be done with the copy of a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Nothing now.
    Wait,
    /// Stop it; the next is placed after its end.
    StopFirst,
    /// Leave it running, and place another one.
    Overlap(Placement),
}

impl Lead {
    /// Takes the next step with every copy that is to be replaced and may be now.
    pub(super) fn replace_what_is_due(&mut self, now: BootTime, out: &mut Vec<LeadOutput>) {
        let due: Vec<ReplicaId> = self
            .mandates
            .iter()
            .filter(|(_, m)| {
                !m.recalled && m.next_try <= now && matches!(m.stage, Stage::Held(_) | Stage::Committing(_))
            })
            .map(|(replica, _)| replica.clone())
            .collect();
        for replica in due {
            let outdated = self.mandates.get(&replica).is_some_and(super::Mandate::is_outdated);
            if outdated || self.leaving(&replica) {
                self.replace(now, &replica, out);
            }
        }
    }

    fn replace(&mut self, now: BootTime, replica: &ReplicaId, out: &mut Vec<LeadOutput>) {
        let step = self.step(now, replica);
        let Some(m) = self.mandates.get_mut(replica) else { return };
        let outdated = m.is_outdated();
        let cause = if outdated { "specification changed" } else { "node drained" };
        match step {
            Step::Wait => {
                m.refused.clear();
                m.next_try = now + RETRY;
            }
            Step::StopFirst => {
                m.cause = cause;
                if m.stage.close() {
                    m.next_send = now;
                }
            }
            Step::Overlap(p) => {
                let generation = m.placed_generation;
                m.cause = cause;
                m.stage = Stage::Idle;
                m.run = RunPhase::Waiting;
                m.next_try = now;
                let (resources, channels) = (m.placed_resources.clone(), m.placed_channels.clone());
                m.outgoing =
                    Some(Outgoing { placement: p, generation, resources, channels, next_close: now });
                let (node, replica, token) = (p.node, replica.clone(), p.token);
                out.push(LeadOutput::Note(LeadNote::Overlaps(replica.clone(), self.name_of(node), token)));
                self.record(LeadRecord::Owed { node, replica, token }, out);
            }
        }
    }

    fn step(&self, now: BootTime, replica: &ReplicaId) -> Step {
        let Some(m) = self.mandates.get(replica) else { return Step::Wait };
        let Some(p) = m.stage.placement() else { return Step::Wait };
        let serves = is_available(m.run);
        let outdated = m.is_outdated();
        if serves && matches!(m.stage, Stage::Committing(_)) {
            // It served when last heard of; whether it is still there is being asked.
            return Step::Wait;
        }
        if m.outgoing.is_some() {
            // The copy in `stage` is itself a replacement. Until it is ready the older one serves, so this one may go;
            // once it is, the older one goes first.
            return if serves || !outdated { Step::Wait } else { Step::StopFirst };
        }
        if outdated && !serves {
            // An agent that has just started again does not know yet whether what it runs serves: unknown is not absent.
            let unknown = now < m.doubt_until && m.replace != Replace::StopFirst;
            return if unknown { Step::Wait } else { Step::StopFirst };
        }
        let elsewhere = self.fits_elsewhere(now, replica, p.node, false);
        // Two at once take more of links than one after the other.
        let overlaps = m.spec.partition == PartitionPolicy::Autonomous && serves;
        if overlaps && self.fits_elsewhere(now, replica, p.node, true) {
            let leaving = !outdated;
            return if leaving && self.moves_of(replica) >= MOVES_PER_SERVICE_MAX {
                Step::Wait
            } else {
                Step::Overlap(p)
            };
        }
        // What serves stops only where there will be room for the next one.
        let here = outdated && self.fits_in_its_place(now, replica, p);
        if m.replace == Replace::StopFirst && (here || elsewhere) { Step::StopFirst } else { Step::Wait }
    }

    /// How many other copies of its service are being replaced by overlap.
    fn moves_of(&self, replica: &ReplicaId) -> usize {
        self.mandates
            .iter()
            .filter(|(id, m)| id.app == replica.app && id.service == replica.service && m.outgoing.is_some())
            .count()
    }

    fn fits_elsewhere(&self, now: BootTime, replica: &ReplicaId, node: NodeId, beside: bool) -> bool {
        let Some(m) = self.mandates.get(replica) else { return false };
        let mut refused = m.refused.clone();
        refused.insert(node);
        let sites = self.sites(now, &Wanted { beside, ..m.wanted(replica, &refused) });
        score::rank(&sites, &m.spec.resources, &m.node_selector, m.context.profile).best().is_some()
    }

    /// Whether the node of a copy has room for the next one once this one is gone.
    fn fits_in_its_place(&self, now: BootTime, replica: &ReplicaId, p: Placement) -> bool {
        let Some(m) = self.mandates.get(replica) else { return false };
        let mut sites = self.sites(now, &m.wanted(replica, &Default::default()));
        sites.retain(|site| site.id == p.node);
        for site in &mut sites {
            site.free = site.free.plus(&m.placed_resources);
        }
        score::rank(&sites, &m.spec.resources, &m.node_selector, m.context.profile).best().is_some()
    }

    /// Whether the node of a replica's copy is being drained.
    fn leaving(&self, replica: &ReplicaId) -> bool {
        let node = self.mandates.get(replica).and_then(|m| m.stage.placement()).map(|p| p.node);
        node.and_then(|node| self.members.get(&node))
            .and_then(|member| member.facts.as_ref())
            .is_some_and(|facts| facts.draining)
    }

    /// The same, as the home is told: a copy that serves under an older specification, where the newer one fits nowhere
    /// in this cluster, is to leave it too.
    pub(super) fn leaving_of(&self, now: BootTime, replica: &ReplicaId) -> Leaving {
        let Some(m) = self.mandates.get(replica) else { return Leaving::No };
        let Some(p) = m.stage.placement() else { return Leaving::No };
        let (drained, outdated) = (self.leaving(replica), m.is_outdated());
        if !drained && !outdated {
            return Leaving::No;
        }
        let here = !drained && self.fits_in_its_place(now, replica, p);
        match here || self.fits_elsewhere(now, replica, p.node, false) {
            true if drained => Leaving::Inside,
            true => Leaving::No,
            false => Leaving::Away,
        }
    }

    /// Nowhere else was room after all: the copy that was to be replaced stays. `true` if there was one.
    pub(super) fn keep_outgoing(
        &mut self,
        now: BootTime,
        replica: &ReplicaId,
        out: &mut Vec<LeadOutput>,
    ) -> bool {
        let Some(m) = self.mandates.get_mut(replica) else { return false };
        let Some(outgoing) = m.outgoing.clone().filter(|_| !m.stage.may_run()) else { return false };
        if !m.stage.adopt(outgoing.placement) {
            return false;
        }
        m.outgoing = None;
        m.adrift = false;
        m.placed_generation = outgoing.generation;
        m.placed_resources = outgoing.resources;
        m.placed_channels = outgoing.channels;
        m.idle_since = None;
        m.refused.clear();
        m.next_try = now + RETRY;
        let Placement { node, token, .. } = outgoing.placement;
        m.run = self
            .members
            .get(&node)
            .and_then(|member| member.held.get(replica))
            .filter(|brief| brief.token == token)
            .map_or(RunPhase::Waiting, |brief| brief.run);
        self.record(LeadRecord::Settled { node, replica: replica.clone() }, out);
        true
    }

    /// Copies whose replacements are ready are closed.
    pub(super) fn close_outgoing(&mut self, now: BootTime, out: &mut Vec<LeadOutput>) {
        let resend = self.config.resend;
        let mut orders = Vec::new();
        for (replica, m) in &mut self.mandates {
            let Some(outgoing) = &mut m.outgoing else { continue };
            let replaced = matches!(m.stage, Stage::Held(_)) && is_available(m.run);
            if (replaced || m.recalled) && outgoing.next_close <= now {
                outgoing.next_close = now + resend;
                orders.push((replica.clone(), outgoing.placement));
            }
        }
        for (replica, p) in orders {
            let name = self.name_of(p.node);
            out.push(LeadOutput::Note(LeadNote::Revoked(replica.clone(), name, p.token)));
            let order = ControlMessage::Close { term: self.term, replica, token: p.token };
            self.send(p.node, order, out);
        }
    }

    /// Tells homes what has changed about copies since they were last told.
    pub(super) fn tell_news(&mut self, now: BootTime, out: &mut Vec<LeadOutput>) {
        let news: Vec<ReplicaId> = self
            .mandates
            .iter()
            .filter(|(replica, m)| !m.recalled && self.is_news(replica, m))
            .map(|(replica, _)| replica.clone())
            .collect();
        for replica in news {
            self.tell_home(now, &replica, out);
        }
    }

    fn is_news(&self, replica: &ReplicaId, m: &super::Mandate) -> bool {
        match (m.stage, &m.told) {
            (Stage::Held(p), Some(told)) => {
                (told.token, told.run, told.generation) != (p.token, m.run, m.placed_generation)
                    || (told.leaving == Leaving::No && self.leaving(replica))
                    || (told.leaving != Leaving::No && !self.leaving(replica) && !m.is_outdated())
            }
            (Stage::Held(_), None) => true,
            // Whether it is still there is being asked.
            (Stage::Committing(p), Some(told)) if told.token == p.token => false,
            (_, Some(told)) => told.run != RunPhase::Waiting,
            (_, None) => false,
        }
    }

    /// The home said what may be done with the present copy. It counts only while there is a reason to do something.
    pub(super) fn allow(&mut self, now: BootTime, replica: &ReplicaId, replace: Replace) {
        let leaving = self.leaving(replica);
        let Some(m) = self.mandates.get_mut(replica) else { return };
        let waits = m.stage == Stage::Idle && m.outgoing.is_some();
        let replace = if leaving || waits || m.is_outdated() { replace } else { Replace::Keep };
        if std::mem::replace(&mut m.replace, replace) != replace {
            m.next_try = m.next_try.min(now);
        }
    }

    /// Whether `token` is a copy that another one is about to replace.
    pub(super) fn is_outgoing(&self, replica: &ReplicaId, token: Token) -> bool {
        self.mandates
            .get(replica)
            .and_then(|m| m.outgoing.as_ref())
            .is_some_and(|outgoing| outgoing.placement.token == token)
    }

    /// Whether `node` runs the copy that a replica's next one is to replace.
    pub(super) fn serves_until_replaced(&self, replica: &ReplicaId, node: NodeId) -> bool {
        let outgoing = self.mandates.get(replica).and_then(|m| m.outgoing.as_ref());
        outgoing.is_some_and(|outgoing| outgoing.placement.node == node)
    }
}

impl Outgoing {
    pub(super) fn resources(&self) -> &Resources {
        &self.resources
    }

    pub(super) fn channels(&self) -> &[ChannelSpec] {
        &self.channels
    }
}

impl super::Mandate {
    /// The copy there is, or is being placed; where neither is, the one that waits for another to replace it.
    pub(super) fn present(&self) -> Option<Placement> {
        self.stage.placement().or_else(|| self.outgoing.as_ref().map(|outgoing| outgoing.placement))
    }

    /// Whether the copy there is, or is being placed, is of an older specification.
    pub(super) fn is_outdated(&self) -> bool {
        self.stage.placement().is_some() && self.placed_generation < self.spec.generation
    }
}

/// Whether a copy in this state counts as there: it serves, or has done what it was to do.
pub(crate) fn is_available(run: RunPhase) -> bool {
    matches!(run, RunPhase::Ready | RunPhase::Finished)
}
