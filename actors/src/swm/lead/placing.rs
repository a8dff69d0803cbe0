//! Attempts: choosing a node, reserving, committing, and what their ends mean.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use codeco_protocol::demands::{Apart, Priority};
use codeco_protocol::ids::{NodeId, ReplicaId};
use codeco_protocol::messages::{
    AppContext, ClosedReason, ControlMessage, Obstacle, Replace, RunPhase, Told,
};
use codeco_protocol::resources::Resources;
use codeco_protocol::token::{Attempt, Token};
use codeco_protocol::units::{BootTime, Micros};
use codeco_protocol::workload::PartitionPolicy;

use super::constraints::{Occupant, Wanted, cost_of, power_of};
use super::contact::Standing;
use super::{Lead, LeadNote, LeadOutput, LeadRecord, Mandate, Member, NEW};
use crate::netma::Delay;
use crate::swm::attempt::{Placement, Stage};
use crate::swm::decision::{Decision, Level, intents_told};
use crate::swm::score::{self, Partner, Ranking, Site, Weighing};

/// Time before a replica that fits nowhere is tried again.
pub(super) const RETRY: Micros = Micros::from_secs(1);

/// How the parts of a node's score weigh for an application.
pub(super) fn weighing(context: &AppContext) -> Weighing {
    Weighing { profile: context.profile, apart: context.demands.apart != Apart::Profile }
}

impl Mandate {
    /// As a replica that looks for a node.
    pub(super) fn wanted<'a>(&'a self, replica: &'a ReplicaId, refused: &'a BTreeSet<NodeId>) -> Wanted<'a> {
        let (context, rules, resources) = (&self.context, &self.rules, &self.spec.resources);
        Wanted { replica, context, rules, resources, refused, given: &[], beside: false }
    }
}

impl Lead {
    /// Opens an attempt for every mandate that has none and is due.
    pub(super) fn place_all(&mut self, now: BootTime, out: &mut Vec<LeadOutput>) {
        let idle = self.mandates.iter().filter(|(_, m)| m.stage == Stage::Idle);
        // Where there is not room for all, those of a higher class come first; those that labels bind to nodes before
        // those that may follow them.
        let due: BTreeSet<(Reverse<Priority>, bool, ReplicaId)> = idle
            .filter(|(_, m)| m.next_try <= now)
            .filter(|(_, m)| m.recalled || self.standing(now, m) == Standing::Allowed)
            .filter(|(_, m)| self.may_move(m))
            .map(|(replica, m)| {
                (Reverse(m.context.demands.priority), m.node_selector.is_empty(), replica.clone())
            })
            .collect();
        for (_, _, replica) in due {
            if self.mandates.get(&replica).is_some_and(|m| m.recalled) {
                self.close_if_unwanted(now, &replica, out);
            } else {
                self.place(now, &replica, out);
            }
        }
    }

    fn place(&mut self, now: BootTime, replica: &ReplicaId, out: &mut Vec<LeadOutput>) {
        let Some(m) = self.mandates.get(replica) else { return };
        let sites = self.sites(now, &m.wanted(replica, &m.refused));
        let ranking = score::rank(&sites, &m.spec.resources, &m.node_selector, weighing(&m.context));
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
        // A link whose capacity an operator has lowered is overbooked already.
        let overbooked = if cfg!(debug_assertions) { self.overbooked_links().len() } else { 0 };
        let (term_ttl, now_ttl) = (self.config.reserve_ttl, now + self.config.reserve_ttl);
        let Some(m) = self.mandates.get_mut(replica) else { return };
        m.stage.reserve(Placement { token, node, incarnation });
        m.placed_generation = m.spec.generation;
        m.placed_resources = m.spec.resources.clone();
        m.placed_channels = m.context.channels.clone();
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
        debug_assert!(self.overbooked_links().len() <= overbooked, "I7: no link is promised twice");
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

    pub(super) fn decision(
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
            intents: mandate.map(|m| intents_told(&m.context, &m.rules)).unwrap_or_default(),
            model: (!self.advice.model.is_empty()).then(|| self.advice.model.clone()),
        }
    }

    /// The nodes as candidates for a replica, with fresh views less what was promised since.
    pub(super) fn sites(&self, now: BootTime, wanted: &Wanted<'_>) -> Vec<Site> {
        let placed = self.occupants(wanted);
        let replica = wanted.replica;
        self.members
            .iter()
            .map(|(node, member)| {
                let facts = member.facts.as_ref();
                let copies = placed
                    .iter()
                    .filter(|other| {
                        other.node == *node
                            && !other.outgoing
                            && other.replica.app == replica.app
                            && other.replica.service == replica.service
                    })
                    .count();
                Site {
                    name: member.name.to_string(),
                    id: *node,
                    capacity: facts.map(|f| f.capacity.clone()).unwrap_or_default(),
                    free: self.free_of(*node, member, &placed),
                    labels: facts.map(|f| f.labels.iter().cloned().collect()).unwrap_or_default(),
                    power: facts.and_then(|f| f.power),
                    copies: u32::try_from(copies).unwrap_or(u32::MAX),
                    partners: self.partners(*node, member, wanted, &placed),
                    bid: None,
                    age: member.heard.map_or(Micros(u64::MAX), |heard| now.since(heard)),
                    barred: self
                        .barred(now, *node, member, wanted.refused)
                        .or_else(|| {
                            let replaced = self.serves_until_replaced(replica, *node);
                            replaced.then_some(Obstacle::Replaced)
                        })
                        .or_else(|| self.demand_obstacle(wanted, *node, member, &placed)),
                    draws: facts.and_then(|f| power_of(f, wanted.resources.cpu)),
                    cost: facts.and_then(|f| cost_of(f, wanted.resources.cpu)),
                    outlook: self.advice.of(now, *node),
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
    fn free_of(&self, node: NodeId, member: &Member, placed: &[Occupant<'_>]) -> Resources {
        let Some(facts) = &member.facts else { return Resources::default() };
        let mut free = member.refused_with.clone().unwrap_or_else(|| facts.free.clone());
        // What an outgoing copy takes is its node's word already.
        for other in placed.iter().filter(|other| other.node == node && !other.outgoing) {
            let held = member.held.get(other.replica).map(|h| h.token);
            if other.token.is_none() || held != other.token {
                free = free.minus(other.resources);
            }
        }
        free
    }

    /// Delay from `node` to each placed partner of the replica's channels.
    fn partners(
        &self,
        node: NodeId,
        member: &Member,
        wanted: &Wanted<'_>,
        placed: &[Occupant<'_>],
    ) -> Vec<Partner> {
        let replica = wanted.replica;
        let mut partners = Vec::new();
        for channel in &wanted.context.channels {
            let Some(other) = channel.other_end(&replica.service) else { continue };
            let ends = placed
                .iter()
                .filter(|o| o.replica.app == replica.app && o.replica.service == *other && !o.outgoing);
            for end in ends {
                let there = self.members.get(&end.node).and_then(|member| member.facts.as_ref());
                partners.push(Partner {
                    delay: Delay::between_nodes((node, member.facts.as_ref()), (end.node, there)),
                    limit: channel.delay_max,
                    assured: channel.assured && !wanted.rules.followers.contains(&end.replica.service),
                    channel: channel.name.clone(),
                    other: format!("{} on {}", end.replica.service, self.name_of(end.node)),
                });
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
        m.adrift = false;
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

    pub(super) fn handle_status(
        &mut self,
        from: NodeId,
        replica: &ReplicaId,
        token: Token,
        run: RunPhase,
        told: Told,
    ) {
        if let Some(m) = self.mandates.get_mut(replica)
            && m.stage.placement().is_some_and(|p| p.node == from && p.token == token)
            && !told.is_before(m.run_told)
        {
            m.run = run;
            m.run_told = told;
        }
        let Some(member) = self.members.get_mut(&from).filter(|member| !told.is_before(member.told)) else {
            return;
        };
        if let Some(brief) = member.held.get_mut(replica)
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
