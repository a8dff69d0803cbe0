//! Nodes of the cluster: enrolment, leases, reports, loss and return.

use codeco_protocol::ids::{Incarnation, NodeId, ReplicaId};
use codeco_protocol::messages::{ControlMessage, Held, HeldBrief, HeldPhase, NodeFacts, RunPhase, Told};
use codeco_protocol::token::{Term, Token};
use codeco_protocol::units::BootTime;
use codeco_protocol::workload::PartitionPolicy;

use super::contact::Standing;
use super::replace::DOUBT;
use super::{HISTORY_MAX, Lead, LeadNote, LeadOutput, LeadRecord, MANDATES_MAX, NODES_MAX, is_available};
use crate::swm::attempt::{Placement, Stage};
use crate::swm::lease::LeadLease;

/// What a node asks with.
pub(super) struct LeaseRequest {
    pub(super) nonce: u64,
    pub(super) term_seen: Term,
    pub(super) incarnation: Incarnation,
    pub(super) facts: Option<NodeFacts>,
    pub(super) held: Vec<HeldBrief>,
    pub(super) told: Told,
}

/// What a node holds, as it says under a new term.
pub(super) struct Report {
    pub(super) term: Term,
    pub(super) facts: NodeFacts,
    pub(super) held: Vec<Held>,
    pub(super) told: Told,
}

impl Lead {
    pub(super) fn handle_lease_request(
        &mut self,
        now: BootTime,
        from: NodeId,
        request: LeaseRequest,
        out: &mut Vec<LeadOutput>,
    ) {
        let LeaseRequest { nonce, term_seen, incarnation, facts, held, told } = request;
        if let Some(facts) = &facts
            && !self.enrol(now, from, facts, out)
        {
            return;
        }
        let known = self.members.get(&from).and_then(|member| member.facts.clone());
        // What it left out it has told this lead before; if not, it reports below.
        let facts = facts.or(known.filter(|known| known.incarnation == incarnation));
        if !term_seen.is_believed() {
            // Above it there would be no room for the leads after this one.
            return;
        }
        if term_seen > self.term {
            // Somebody else took office after this lead: whether it has ended is for the voters to say.
            self.needs_term(term_seen, out);
            return;
        }
        if let Some(facts) = facts {
            self.hear(now, from, facts, held, told, out);
        }
        let reported = self.members.get(&from).and_then(|member| member.reported);
        if reported != Some(incarnation) || term_seen != self.term || self.holds_what_may_be_adopted(from) {
            // Nothing is granted before the node has said, under this term, what it holds. A copy that came back and
            // is still wanted is taken over from such a report, because only that says of which generation it is.
            if let Some(member) = self.members.get_mut(&from) {
                member.reported = None;
                member.next_fence = now + self.config.resend;
            }
            self.send(from, ControlMessage::Fence { term: self.term }, out);
            return;
        }
        if self.awaits_a_home(now, from) {
            // The node asks again, and its present lease goes on meanwhile.
            return;
        }
        let revoke = self.settle_held(now, from, out);
        let Some(member) = self.members.get_mut(&from) else { return };
        member.lease.answered(now);
        if std::mem::take(&mut member.lost) {
            out.push(LeadOutput::Note(LeadNote::NodeBack(member.name.clone())));
        }
        self.count_in(from, out);
        let grant = ControlMessage::LeaseGrant {
            nonce,
            term: self.term,
            duration: self.config.lease.duration,
            revoke,
        };
        self.send(from, grant, out);
    }

    pub(super) fn handle_report(
        &mut self,
        now: BootTime,
        from: NodeId,
        report: Report,
        out: &mut Vec<LeadOutput>,
    ) {
        let Report { term, facts, held, told } = report;
        if term != self.term || !self.enrol(now, from, &facts, out) {
            return;
        }
        let incarnation = facts.incarnation;
        let briefs = held.iter().map(|h| h.brief.clone()).collect();
        self.hear(now, from, facts, briefs, told, out);
        self.close_what_a_report_disproves(from, &held, now, out);
        for copy in held {
            self.adopt_unknown(now, from, incarnation, copy, out);
        }
        if let Some(member) = self.members.get_mut(&from) {
            member.reported = Some(incarnation);
        }
        self.takeover.reported(from);
        self.count_in(from, out);
        let revoke = self.settle_held(now, from, out);
        for (replica, token) in revoke {
            self.send(from, ControlMessage::Close { term: self.term, replica, token }, out);
        }
    }

    fn enrol(&mut self, now: BootTime, node: NodeId, facts: &NodeFacts, out: &mut Vec<LeadOutput>) -> bool {
        if self.members.contains_key(&node) {
            return true;
        }
        if self.members.len() >= NODES_MAX {
            out.push(LeadOutput::Note(LeadNote::Ignored(format!(
                "node {} would be more than {NODES_MAX} nodes in this cluster",
                facts.name
            ))));
            return false;
        }
        self.record(LeadRecord::Enrolled { node, name: facts.name.clone() }, out);
        if let Some(member) = self.members.get_mut(&node) {
            member.lease = LeadLease::assumed(now);
            member.next_fence = now + self.config.resend;
        }
        out.push(LeadOutput::Note(LeadNote::Enrolled(facts.name.clone())));
        true
    }

    /// Takes a node's word about itself.
    fn hear(
        &mut self,
        now: BootTime,
        node: NodeId,
        facts: NodeFacts,
        held: Vec<HeldBrief>,
        told: Told,
        out: &mut Vec<LeadOutput>,
    ) {
        let Some(member) = self.members.get_mut(&node) else { return };
        if told.is_before(member.told) {
            // It was overtaken by what the node has said since.
            member.heard = Some(now);
            return;
        }
        if member.name != facts.name {
            let (node, name) = (node, facts.name.clone());
            let kept = member.clone();
            self.record(LeadRecord::Enrolled { node, name: name.clone() }, out);
            self.members.insert(node, super::Member { name, ..kept });
        }
        let Some(member) = self.members.get_mut(&node) else { return };
        member.facts = Some(facts);
        member.told = told;
        member.heard = Some(now);
        member.refused_with = None;
        member.held = held.into_iter().map(|h| (h.replica.clone(), h)).collect();
        for (replica, brief) in &member.held {
            if let Some(mandate) = self.mandates.get_mut(replica)
                && mandate.stage.placement().is_some_and(|p| p.token == brief.token)
                && !told.is_before(mandate.run_told)
            {
                let served = is_available(mandate.run) && !is_available(brief.run);
                if served && brief.run != RunPhase::Failed {
                    mandate.doubt_until = now + DOUBT;
                }
                mandate.run = brief.run;
                mandate.run_told = told;
            }
        }
    }

    /// A report made under this term proves the end of every copy of an older term that it does not list: orders of
    /// older terms are stale there from now on. About this term's own copies it proves nothing, also if it comes from
    /// another incarnation: it may have been overtaken.
    fn close_what_a_report_disproves(
        &mut self,
        node: NodeId,
        held: &[Held],
        now: BootTime,
        out: &mut Vec<LeadOutput>,
    ) {
        let listed = |token: Token| held.iter().any(|h| h.brief.token == token);
        let gone: Vec<(ReplicaId, Token)> = self
            .mandates
            .iter()
            .filter_map(|(replica, m)| {
                let p = m.stage.placement()?;
                (p.node == node && p.token.term < self.term && !listed(p.token))
                    .then(|| (replica.clone(), p.token))
            })
            .collect();
        for (replica, token) in gone {
            self.attempt_ended(now, &replica, token, "node lost its copy", out);
        }
        let settled: Vec<ReplicaId> = self
            .owed
            .get(&node)
            .into_iter()
            .flatten()
            .filter(|(_, token)| token.term < self.term && !listed(**token))
            .map(|(replica, _)| replica.clone())
            .collect();
        for replica in settled {
            self.record(LeadRecord::Settled { node, replica }, out);
        }
    }

    /// Takes over a copy that this lead's own records do not know: good work is kept.
    fn adopt_unknown(
        &mut self,
        now: BootTime,
        node: NodeId,
        incarnation: codeco_protocol::ids::Incarnation,
        copy: Held,
        out: &mut Vec<LeadOutput>,
    ) {
        let HeldBrief { replica, token, phase, run } = copy.brief;
        // What is stopping needs no lead, but if it is the only copy, no other may be placed before its end.
        if phase == HeldPhase::Reserved
            || (phase == HeldPhase::Stopping && self.was_waited_out(node, token))
            || self.went_back(&replica, token)
            || !self.may_take_back(node, &replica, token)
        {
            return;
        }
        if !self.mandates.contains_key(&replica) {
            if self.mandates.len() >= MANDATES_MAX {
                return;
            }
            let context = codeco_protocol::messages::AppContext {
                uid: replica.app,
                namespace: copy.spec.namespace.clone(),
                name: copy.spec.app.clone(),
                profile: codeco_protocol::messages::Profile::default(),
                channels: Vec::new(),
                demands: Default::default(),
            };
            self.record(
                LeadRecord::Mandated {
                    replica: replica.clone(),
                    epoch: token.epoch,
                    mandate: token.mandate,
                    spec: copy.spec.clone(),
                    node_selector: Vec::new(),
                    context,
                    rules: Default::default(),
                },
                out,
            );
        }
        let Some(mandate) = self.mandates.get_mut(&replica) else { return };
        let same = (mandate.epoch, mandate.mandate) == (token.epoch, token.mandate);
        let known = mandate.stage.placement().is_some_and(|p| p.token == token);
        if same && mandate.stage.adopt(Placement { token, node, incarnation }) && !known {
            mandate.placed_generation = copy.spec.generation;
            mandate.placed_resources = copy.spec.resources.clone();
            self.reserve_for_adopted(&replica, out);
            let Some(mandate) = self.mandates.get_mut(&replica) else { return };
            mandate.run = run;
            mandate.idle_since = None;
            mandate.adrift = false;
            if phase == HeldPhase::Stopping {
                // It may run until the node has proven its end; until then it goes nowhere else.
                mandate.stage.close();
                mandate.next_send = now;
            }
            if self.is_owed(node, &replica, token) {
                self.record(LeadRecord::Settled { node, replica: replica.clone() }, out);
            }
            let name = self.name_of(node);
            out.push(LeadOutput::Note(LeadNote::Adopted(replica.clone(), name, token)));
            self.tell_home(now, &replica, out);
        }
        self.close_if_unwanted(now, &replica, out);
    }

    fn is_owed(&self, node: NodeId, replica: &ReplicaId, token: Token) -> bool {
        self.owed.get(&node).and_then(|list| list.get(replica)) == Some(&token)
    }

    /// Whether a node holds a promise that this lead wants, has nowhere else, and does not count as held.
    fn holds_what_may_be_adopted(&self, node: NodeId) -> bool {
        self.members.get(&node).into_iter().flat_map(|member| member.held.values()).any(|brief| {
            brief.phase == HeldPhase::Committed
                && self.mandates.get(&brief.replica).is_some_and(|m| {
                    let same = (m.epoch, m.mandate) == (brief.token.epoch, brief.token.mandate);
                    same && !m.recalled && matches!(m.stage, Stage::Idle | Stage::Reserving(_))
                })
                && self.may_take_back(node, &brief.replica, brief.token)
        })
    }

    /// Whether a copy that this lead does not count as held may be.
    ///
    /// One that was left behind may have been replaced: not before all have reported is it known by what. After that,
    /// whoever comes has been waited out: what needs a lease is dead there, and its token may be older than one that
    /// ran since, so it is placed anew.
    fn may_take_back(&self, node: NodeId, replica: &ReplicaId, token: Token) -> bool {
        match self.mandates.get(replica) {
            None => true,
            Some(_) if self.is_outgoing(replica, token) => false,
            Some(m) if self.ready => m.spec.partition == PartitionPolicy::Autonomous,
            Some(m) => {
                let dead = m.spec.partition == PartitionPolicy::Fence && self.was_waited_out(node, token);
                !dead && !self.is_owed(node, replica, token)
            }
        }
    }

    /// Whether `node` was waited out in a later term than that of `token`, so that another copy may have been placed.
    fn was_waited_out(&self, node: NodeId, token: Token) -> bool {
        self.waited_out.get(&node).is_some_and(|term| token.term < *term)
    }

    /// Whether a copy that another is to replace, or has replaced, is to go now. One that needs a lease goes at once;
    /// one that does not goes when the other is ready, so that there is always one.
    pub(super) fn is_to_go(&self, replica: &ReplicaId, token: Token) -> bool {
        self.mandates.get(replica).is_none_or(|m| {
            m.spec.partition == PartitionPolicy::Fence
                || m.recalled
                || (matches!(m.stage, Stage::Held(_)) && super::is_available(m.run))
                || (m.epoch, m.mandate) != (token.epoch, token.mandate)
        })
    }

    /// Sets what a node holds against what this lead wants. Returns the tokens to be stopped there.
    fn settle_held(
        &mut self,
        now: BootTime,
        node: NodeId,
        out: &mut Vec<LeadOutput>,
    ) -> Vec<(ReplicaId, Token)> {
        let Some(member) = self.members.get(&node) else { return Vec::new() };
        let held: Vec<HeldBrief> = member.held.values().cloned().collect();
        self.ask_again_about_unlisted(now, node);
        let mut revoke = self.owed_and_unlisted(node);
        for brief in held {
            let (replica, token) = (brief.replica, brief.token);
            let owed = self.is_owed(node, &replica, token);
            if brief.phase == HeldPhase::Reserved && owed && self.is_to_go(&replica, token) {
                // Given up while its commit was under way. Were it not closed before that arrives, it would start
                // under the lease that is granted now.
                revoke.push((replica, token));
                continue;
            }
            if brief.phase != HeldPhase::Committed {
                continue;
            }
            let Some(mandate) = self.mandates.get(&replica) else {
                if owed || self.went_back(&replica, token) {
                    revoke.push((replica, token));
                }
                continue;
            };
            if self.standing(now, mandate) == Standing::Over {
                revoke.push((replica, token));
                continue;
            }
            if mandate.stage.placement().is_none_or(|p| p.token != token) && self.is_to_go(&replica, token) {
                let name = self.name_of(node);
                out.push(LeadOutput::Note(LeadNote::Revoked(replica.clone(), name, token)));
                revoke.push((replica, token));
            }
        }
        revoke
    }

    /// What was left behind on a node that no longer lists it. The order to close it is for the answer, which settles.
    fn owed_and_unlisted(&self, node: NodeId) -> Vec<(ReplicaId, Token)> {
        let (Some(member), Some(owed)) = (self.members.get(&node), self.owed.get(&node)) else {
            return Vec::new();
        };
        let listed = |replica, token| member.held.get(replica).is_some_and(|h| h.token == token);
        let unlisted = owed
            .iter()
            .filter(|(replica, token)| !listed(*replica, **token) && self.is_to_go(replica, **token));
        unlisted.map(|(replica, token)| (replica.clone(), *token)).collect()
    }

    /// A promise that its node does not list was made after the node spoke, or is in doubt: the commit is repeated,
    /// and the node's answer settles it, as does a new report.
    fn ask_again_about_unlisted(&mut self, now: BootTime, node: NodeId) {
        let Some(member) = self.members.get_mut(&node) else { return };
        for (replica, mandate) in &mut self.mandates {
            if let Stage::Held(p) = mandate.stage
                && p.node == node
                && member.held.get(replica).is_none_or(|h| h.token != p.token)
            {
                if p.token.term < self.term {
                    // A commit of an older term would be called stale, which proves nothing; a report does.
                    member.reported = None;
                    member.next_fence = now;
                } else {
                    mandate.stage = Stage::Committing(p);
                    mandate.next_send = now;
                }
            }
        }
    }

    /// Members that have not reported to this term are told of it again.
    pub(super) fn fence_the_silent(&mut self, now: BootTime, out: &mut Vec<LeadOutput>) {
        let due: Vec<NodeId> = self
            .members
            .iter()
            .filter(|(_, member)| member.reported.is_none() && member.next_fence <= now)
            .map(|(node, _)| *node)
            .collect();
        for node in due {
            if let Some(member) = self.members.get_mut(&node) {
                member.next_fence = now + self.config.resend;
            }
            self.send(node, ControlMessage::Fence { term: self.term }, out);
        }
    }

    /// Members whose lease has surely ended.
    pub(super) fn wait_out_the_lost(&mut self, now: BootTime, out: &mut Vec<LeadOutput>) {
        let lost: Vec<NodeId> = self
            .members
            .iter()
            .filter(|(_, member)| !member.lost && member.lease.is_waited_out(now, &self.config.lease))
            // One that has just reported is about to ask for a lease: it is there.
            .filter(|(_, member)| {
                let since = member.heard.map(|heard| now.since(heard));
                member.reported.is_none() || since.is_none_or(|since| since >= self.config.lease.wait_out())
            })
            .map(|(node, _)| *node)
            .collect();
        for node in lost {
            self.takeover.waited_out(node);
            if self.waited_out.get(&node).is_none_or(|known| *known < self.term) {
                self.record(LeadRecord::WaitedOut { node, term: self.term }, out);
            }
            let Some(member) = self.members.get_mut(&node) else { continue };
            member.lost = true;
            member.lost_since = Some(now);
            member.next_fence = now + self.config.resend;
            out.push(LeadOutput::Note(LeadNote::NodeLost(member.name.clone())));
            self.leave_behind(now, node, out);
        }
        self.look_at_brake(now, out);
    }

    /// Every copy on a lost node becomes a debt, and its replica free to be placed again.
    fn leave_behind(&mut self, now: BootTime, node: NodeId, out: &mut Vec<LeadOutput>) {
        let copies: Vec<(ReplicaId, Token, bool)> = self
            .mandates
            .iter()
            .filter_map(|(replica, m)| {
                let p = m.stage.placement().filter(|p| p.node == node)?;
                // An autonomous copy may run on for as long as the node is away: a recall waits for it.
                let waits =
                    m.recalled && m.spec.partition == PartitionPolicy::Autonomous && m.stage.may_run();
                (!waits).then(|| (replica.clone(), p.token, m.stage.may_run()))
            })
            .collect();
        for mandate in self.mandates.values_mut() {
            // Now a debt like any other: it may be taken back when the node returns.
            mandate.outgoing = mandate.outgoing.take().filter(|outgoing| outgoing.placement.node != node);
        }
        for (replica, token, may_run) in copies {
            if may_run {
                self.record(LeadRecord::Owed { node, replica: replica.clone(), token }, out);
            }
            if let Some(mandate) = self.mandates.get_mut(&replica) {
                mandate.stage.waited_out(node);
                mandate.adrift |= may_run;
                mandate.told_held = false;
            }
            self.after_end(now, &replica, "node lost", out);
        }
    }

    /// Once every member has reported to a term, mandates that went back under older ones are history: their copies
    /// are gone, and late offers name an old term. A history that grows within one term ends by a new term.
    pub(super) fn forget_settled_history(&mut self, out: &mut Vec<LeadOutput>) {
        if self.handed_back.len() <= HISTORY_MAX || !self.ready || !self.takeover.all_reported() {
            return;
        }
        if self.handed_back.values().any(|back| back.term < self.term) {
            self.record(LeadRecord::HistoryForgotten, out);
        } else {
            self.needs_term(self.term, out);
        }
    }

    /// Whether `token`, or a newer mandate of its replica, has gone back to the home.
    pub(super) fn went_back(&self, replica: &ReplicaId, token: Token) -> bool {
        self.handed_back
            .get(&(replica.clone(), token.epoch.owner))
            .is_some_and(|back| (back.epoch, back.mandate) >= (token.epoch, token.mandate))
    }
}
