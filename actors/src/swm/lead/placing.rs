//! Attempts: choosing a node, reserving, committing, and what their ends mean.

use std::collections::{BTreeMap, BTreeSet};

use codeco_protocol::ids::{NodeId, ReplicaId};
use codeco_protocol::messages::{AppContext, ClosedReason, ControlMessage, Obstacle, Replace, RunPhase};
use codeco_protocol::resources::Resources;
use codeco_protocol::token::{Attempt, Token};
use codeco_protocol::units::{BootTime, Micros};
use codeco_protocol::workload::PartitionPolicy;

use super::contact::Standing;
use super::{Lead, LeadNote, LeadOutput, LeadRecord, Member, NEW};
use crate::swm::attempt::{Placement, Stage};
use crate::swm::decision::{Decision, Level};
use crate::swm::score::{self, Ranking, Site};

/// Time before a replica that fits nowhere is tried again.
pub(super) const RETRY: Micros = Micros::from_secs(1);

impl Lead {
    /// Opens an attempt for every mandate that has none and is due.
    pub(super) fn place_all(&mut self, now: BootTime, out: &mut Vec<LeadOutput>) {
        let due: Vec<ReplicaId> = self
            .mandates
            .iter()
            .filter(|(_, m)| m.stage == Stage::Idle && m.next_try <= now)
            .filter(|(_, m)| m.recalled || self.standing(now, m) == Standing::Allowed)
            .map(|(replica, _)| replica.clone())
            .collect();
        for replica in due {
            if self.mandates.get(&replica).is_some_and(|m| m.recalled) {
                self.close_if_unwanted(now, &replica, out);
            } else {
                self.place(now, &replica, out);
            }
        }
    }

    fn place(&mut self, now: BootTime, replica: &ReplicaId, out: &mut Vec<LeadOutput>) {
        let Some(m) = self.mandates.get(replica) else { return };
        let sites = self.sites(now, &m.context, replica, &m.refused);
        let ranking = score::rank(&sites, &m.spec.resources, &m.node_selector, m.context.profile);
        let chosen = ranking.best().map(|best| (best.id, best.name.clone()));
        let Some((node, name)) = chosen else {
            self.cannot_place(now, replica, ranking, out);
            return;
        };
        let Some(incarnation) = self.members.get(&node).and_then(|member| member.reported) else { return };
        self.attempts += 1;
        let token =
            Token { epoch: m.epoch, mandate: m.mandate, term: self.term, attempt: Attempt(self.attempts) };
        out.push(LeadOutput::Decided(Box::new(self.decision(replica, ranking, Some(name), Some(token)))));
        let (term_ttl, now_ttl) = (self.config.reserve_ttl, now + self.config.reserve_ttl);
        let Some(m) = self.mandates.get_mut(replica) else { return };
        m.stage.reserve(Placement { token, node, incarnation });
        m.placed_generation = m.spec.generation;
        m.placed_resources = m.spec.resources.clone();
        m.run = RunPhase::Waiting;
        m.replace = Replace::Keep;
        m.give_up = now_ttl;
        let order = ControlMessage::Reserve {
            incarnation,
            replica: replica.clone(),
            token,
            resources: m.spec.resources.clone(),
            ttl: term_ttl,
        };
        self.send(node, order, out);
    }

    fn cannot_place(
        &mut self,
        now: BootTime,
        replica: &ReplicaId,
        ranking: Ranking,
        out: &mut Vec<LeadOutput>,
    ) {
        if self.keep_outgoing(now, replica, out) {
            return;
        }
        let reason = ranking.reasons();
        let keeps_copies = self.leaves_autonomous_copies(replica);
        let (hand_back_after, told) =
            (self.config.hand_back_after, self.decision(replica, ranking, None, None));
        let Some(m) = self.mandates.get_mut(replica) else { return };
        m.refused.clear();
        m.next_try = now + RETRY;
        let since = *m.idle_since.get_or_insert(now);
        let fresh = !m.accepted && m.cause == NEW;
        if !std::mem::replace(&mut m.told_unplaceable, true) {
            out.push(LeadOutput::Decided(Box::new(told)));
            out.push(LeadOutput::Note(LeadNote::Unplaceable(replica.clone(), reason.clone())));
        }
        if fresh || (now.since(since) >= hand_back_after && !keeps_copies) {
            self.hand_back(replica, Some(reason), out);
        }
    }

    fn decision(
        &self,
        replica: &ReplicaId,
        ranking: Ranking,
        chosen: Option<String>,
        token: Option<Token>,
    ) -> Decision {
        let mandate = self.mandates.get(replica);
        Decision {
            level: Level::Node,
            replica: replica.clone(),
            namespace: mandate.map_or_else(default_namespace, |m| m.context.namespace.clone()),
            app: mandate.map_or_else(default_app, |m| m.context.name.clone()),
            profile: mandate.map(|m| m.context.profile).unwrap_or_default(),
            ranking,
            chosen,
            cause: mandate.map_or_else(String::new, |m| m.cause.to_owned()),
            token,
        }
    }

    /// The nodes as candidates for `replica`, with fresh views less what was promised since.
    pub(super) fn sites(
        &self,
        now: BootTime,
        context: &AppContext,
        replica: &ReplicaId,
        refused: &BTreeSet<NodeId>,
    ) -> Vec<Site> {
        let placed: Vec<(&ReplicaId, Placement)> = self
            .mandates
            .iter()
            .filter_map(|(other, m)| Some((other, m.stage.placement()?)))
            .filter(|(other, _)| *other != replica)
            .collect();
        self.members
            .iter()
            .map(|(node, member)| {
                let free = self.free_of(*node, member, &placed);
                let facts = member.facts.as_ref();
                let copies = placed
                    .iter()
                    .filter(|(other, p)| {
                        p.node == *node && other.app == replica.app && other.service == replica.service
                    })
                    .count();
                Site {
                    name: member.name.to_string(),
                    id: *node,
                    capacity: facts.map(|f| f.capacity.clone()).unwrap_or_default(),
                    free,
                    labels: facts.map(|f| f.labels.iter().cloned().collect()).unwrap_or_default(),
                    power: facts.and_then(|f| f.power),
                    copies: u32::try_from(copies).unwrap_or(u32::MAX),
                    partners: self.partners(*node, member, context, replica, &placed),
                    bid: None,
                    age: member.heard.map_or(Micros(u64::MAX), |heard| now.since(heard)),
                    barred: self.barred(now, *node, member, refused).or_else(|| {
                        let replaced = self.serves_until_replaced(replica, *node);
                        replaced.then_some(Obstacle::Replaced)
                    }),
                }
            })
            .collect()
    }

    fn barred(
        &self,
        now: BootTime,
        node: NodeId,
        member: &Member,
        refused: &BTreeSet<NodeId>,
    ) -> Option<Obstacle> {
        if member.lost {
            return Some(Obstacle::Silent(member.heard.map(|heard| now.since(heard))));
        }
        if member.reported.is_none() {
            return Some(Obstacle::Unheard);
        }
        if member.facts.as_ref().is_some_and(|facts| facts.cordoned) {
            return Some(Obstacle::Cordoned);
        }
        refused.contains(&node).then_some(Obstacle::Refused)
    }

    /// What is free on a node: its own word, less promises it did not yet know of when it spoke.
    fn free_of(&self, node: NodeId, member: &Member, placed: &[(&ReplicaId, Placement)]) -> Resources {
        let Some(facts) = &member.facts else { return Resources::default() };
        let mut free = member.refused_with.clone().unwrap_or_else(|| facts.free.clone());
        for (replica, p) in placed {
            let known = member.held.get(*replica).is_some_and(|h| h.token == p.token);
            if p.node == node
                && !known
                && let Some(m) = self.mandates.get(*replica)
            {
                free = free.minus(&m.spec.resources);
            }
        }
        free
    }

    /// Delay from `node` to each placed partner of the replica's channels: half a round trip, unknown where it was
    /// never measured.
    fn partners(
        &self,
        node: NodeId,
        member: &Member,
        context: &AppContext,
        replica: &ReplicaId,
        placed: &[(&ReplicaId, Placement)],
    ) -> Vec<(Option<Micros>, Option<Micros>)> {
        let round_trips: BTreeMap<NodeId, Micros> =
            member.facts.iter().flat_map(|facts| facts.round_trips.iter().copied()).collect();
        let mut partners = Vec::new();
        for channel in &context.channels {
            let other = match (replica.service == channel.from, replica.service == channel.to) {
                (true, false) if channel.to_app.is_none() => &channel.to,
                (false, true) => &channel.from,
                _ => continue,
            };
            for (_, p) in placed.iter().filter(|(id, _)| id.app == replica.app && id.service == *other) {
                let delay = if p.node == node {
                    Some(Micros(0))
                } else {
                    round_trips.get(&p.node).map(|round_trip| Micros(round_trip.0 / 2))
                };
                partners.push((delay, channel.delay_max));
            }
        }
        partners
    }

    pub(super) fn handle_reserved(
        &mut self,
        now: BootTime,
        from: NodeId,
        replica: &ReplicaId,
        token: Token,
        out: &mut Vec<LeadOutput>,
    ) {
        let resend = self.config.resend;
        if self.mandates.get(replica).is_some_and(|m| self.standing(now, m) != Standing::Allowed) {
            // Nothing is promised that may not run; the reservation ends by itself.
            return;
        }
        let Some(m) = self.mandates.get_mut(replica) else { return };
        let Some(p) = m.stage.placement().filter(|p| p.node == from && p.token == token) else { return };
        if !m.stage.reserved(token) {
            return;
        }
        m.next_send = now + resend;
        let order = ControlMessage::Commit {
            incarnation: p.incarnation,
            replica: replica.clone(),
            token,
            spec: m.spec.clone(),
        };
        self.send(from, order, out);
    }

    pub(super) fn handle_committed(
        &mut self,
        now: BootTime,
        from: NodeId,
        replica: &ReplicaId,
        token: Token,
        out: &mut Vec<LeadOutput>,
    ) {
        let name = self.name_of(from);
        let Some(m) = self.mandates.get_mut(replica) else { return };
        if m.stage.placement().is_none_or(|p| p.node != from) || !m.stage.committed(token) {
            return;
        }
        let again = m.accepted && m.idle_since.is_none() && m.cause == "placed";
        m.refused.clear();
        m.idle_since = None;
        m.told_unplaceable = false;
        m.cause = "placed";
        if !again {
            out.push(LeadOutput::Note(LeadNote::Placed(replica.clone(), name, token)));
            self.tell_home(now, replica, out);
        }
        self.close_if_unwanted(now, replica, out);
    }

    #[allow(clippy::too_many_arguments)]
    pub(super) fn handle_closed(
        &mut self,
        now: BootTime,
        from: NodeId,
        replica: &ReplicaId,
        token: Token,
        reason: &ClosedReason,
        free: Resources,
        out: &mut Vec<LeadOutput>,
    ) {
        if let Some(member) = self.members.get_mut(&from) {
            if matches!(reason, ClosedReason::NoRoom(_)) {
                member.refused_with = Some(free);
            }
            if member.held.get(replica).is_some_and(|h| h.token == token) {
                member.held.remove(replica);
            }
        }
        if self.owed.get(&from).and_then(|list| list.get(replica)) == Some(&token) {
            self.record(LeadRecord::Settled { node: from, replica: replica.clone() }, out);
        }
        let Some(m) = self.mandates.get_mut(replica) else { return };
        let Some(p) = m.stage.placement().filter(|p| p.node == from && p.token == token) else { return };
        if matches!(m.stage, Stage::Reserving(_) | Stage::Committing(_)) {
            m.refused.insert(p.node);
        }
        let cause = if m.cause == NEW { NEW } else { "node refused" };
        self.attempt_ended(now, replica, token, cause, out);
    }

    /// `token` is surely not running and never will.
    pub(super) fn attempt_ended(
        &mut self,
        now: BootTime,
        replica: &ReplicaId,
        token: Token,
        cause: &'static str,
        out: &mut Vec<LeadOutput>,
    ) {
        let Some(m) = self.mandates.get_mut(replica) else { return };
        if m.stage.closed(token) {
            self.after_end(now, replica, cause, out);
        }
    }

    /// A replica has no open attempt any more: hand it back if that is wanted, or place it again at once.
    pub(super) fn after_end(
        &mut self,
        now: BootTime,
        replica: &ReplicaId,
        cause: &'static str,
        out: &mut Vec<LeadOutput>,
    ) {
        let Some(m) = self.mandates.get_mut(replica) else { return };
        if m.stage.may_run() {
            return;
        }
        m.run = RunPhase::Waiting;
        m.next_try = now;
        if m.cause != "specification changed" {
            m.cause = cause;
        }
        self.close_if_unwanted(now, replica, out);
    }

    pub(super) fn handle_status(&mut self, from: NodeId, replica: &ReplicaId, token: Token, run: RunPhase) {
        if let Some(m) = self.mandates.get_mut(replica)
            && m.stage.placement().is_some_and(|p| p.node == from && p.token == token)
        {
            m.run = run;
        }
        if let Some(brief) = self.members.get_mut(&from).and_then(|member| member.held.get_mut(replica))
            && brief.token == token
        {
            brief.run = run;
        }
    }

    /// Repeats orders that were not answered, and gives up reservations that cannot be answered in time any more.
    pub(super) fn repeat_orders(&mut self, now: BootTime, out: &mut Vec<LeadOutput>) {
        let resend = self.config.resend;
        let mut orders = Vec::new();
        for (replica, m) in &mut self.mandates {
            match m.stage {
                Stage::Reserving(p) if m.give_up <= now => {
                    m.refused.insert(p.node);
                    m.stage = Stage::Idle;
                    m.next_try = now;
                }
                Stage::Committing(p) if m.next_send <= now => {
                    m.next_send = now + resend;
                    let (incarnation, token, spec) = (p.incarnation, p.token, m.spec.clone());
                    let replica = replica.clone();
                    orders.push((p.node, ControlMessage::Commit { incarnation, replica, token, spec }));
                }
                Stage::Closing(p) if m.next_send <= now => {
                    m.next_send = now + resend;
                    let (term, token, replica) = (self.term, p.token, replica.clone());
                    orders.push((p.node, ControlMessage::Close { term, replica, token }));
                }
                _ => {}
            }
        }
        for (node, order) in orders {
            self.send(node, order, out);
        }
    }

    /// Whether a replica needs a lease to run.
    #[must_use]
    pub fn is_fenced(&self, replica: &ReplicaId) -> bool {
        self.mandates.get(replica).is_some_and(|m| m.spec.partition == PartitionPolicy::Fence)
    }
}

fn default_namespace() -> codeco_protocol::ids::Namespace {
    codeco_protocol::ids::Namespace::new("default")
        .unwrap_or_else(|_| unreachable!("a literal RFC 1123 label"))
}

fn default_app() -> codeco_protocol::ids::AppName {
    codeco_protocol::ids::AppName::new("unknown").unwrap_or_else(|_| unreachable!("a literal RFC 1123 label"))
}
