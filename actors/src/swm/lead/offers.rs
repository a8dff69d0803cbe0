//! Homes: bids, offers, recalls.

use std::collections::BTreeSet;

use codeco_protocol::demands::PlaceRules;
use codeco_protocol::ids::{MemberId, ReplicaId};
use codeco_protocol::messages::{
    AppContext, BidLine, ControlMessage, Demand, Leaving, OBSTACLES_MAX, Replace, RunPhase,
};
use codeco_protocol::resources::Resources;
use codeco_protocol::token::{Epoch, MandateId, Term, Token};
use codeco_protocol::units::BootTime;
use codeco_protocol::workload::{PartitionPolicy, WorkloadSpec};

use super::constraints::{Wanted, cost_of, power_of};
use super::placing::weighing;
use super::replace::Told;
use super::{Lead, LeadNote, LeadOutput, LeadRecord, MANDATES_MAX, Mandate};
use crate::swm::attempt::Stage;
use crate::swm::{advice, score};

/// What a home offers.
pub(super) struct Offer {
    pub(super) epoch: Epoch,
    pub(super) mandate: MandateId,
    pub(super) replica: ReplicaId,
    pub(super) spec: WorkloadSpec,
    pub(super) node_selector: Vec<(String, String)>,
    pub(super) context: AppContext,
    pub(super) rules: PlaceRules,
    /// What may be done with the copy there is, and which one is meant.
    pub(super) allowed: (Replace, Option<Token>),
}

impl Offer {
    /// What is kept of it.
    fn into_record(self) -> LeadRecord {
        let Self { epoch, mandate, replica, spec, node_selector, context, rules, .. } = self;
        LeadRecord::Mandated { replica, epoch, mandate, spec, node_selector, context, rules }
    }
}

impl Lead {
    pub(super) fn handle_offer(
        &mut self,
        now: BootTime,
        from: MemberId,
        term: Term,
        offer: Offer,
        out: &mut Vec<LeadOutput>,
    ) {
        if offer.epoch.owner != from {
            out.push(LeadOutput::Note(LeadNote::Ignored(format!(
                "{from:?} offered {} under the epoch of another home",
                offer.replica
            ))));
            return;
        }
        if term != self.term {
            let message = ControlMessage::LeadIs { term: self.term, cluster: self.config.cluster.clone() };
            self.send(from, message, out);
            return;
        }
        if !self.ready {
            // Unanswered: until the takeover is complete a copy may run unseen.
            return;
        }
        let Offer { epoch, mandate, replica, .. } = &offer;
        if let Some(back) = self.handed_back.get(&(replica.clone(), epoch.owner))
            && (back.epoch, back.mandate) >= (*epoch, *mandate)
        {
            let (epoch, mandate, replica) = (*epoch, *mandate, replica.clone());
            self.send(from, ControlMessage::Returned { term: self.term, epoch, mandate, replica }, out);
            return;
        }
        self.rehome(now, replica, *epoch, *mandate, out);
        match self.mandates.get(replica).map(|known| (known.home, known.mandate)) {
            None => self.take_mandate(now, from, offer, out),
            Some(known) if known == (*epoch, *mandate) => self.repeat_mandate(now, offer, out),
            Some(known) => out.push(LeadOutput::Note(LeadNote::Ignored(format!(
                "{replica}: offered under {epoch} mandate {}, held under {} mandate {}",
                mandate.0, known.0, known.1.0
            )))),
        }
    }

    fn take_mandate(&mut self, now: BootTime, from: MemberId, offer: Offer, out: &mut Vec<LeadOutput>) {
        if self.mandates.len() >= MANDATES_MAX {
            let Offer { epoch, mandate, replica, .. } = offer;
            let reason = format!("the cluster already has {MANDATES_MAX} mandates");
            let message = ControlMessage::Declined { term: self.term, epoch, mandate, replica, reason };
            self.send(from, message, out);
            return;
        }
        let replica = offer.replica.clone();
        self.record(offer.into_record(), out);
        if let Some(taken) = self.mandates.get_mut(&replica) {
            taken.next_try = now;
        }
    }

    /// The same mandate again: a repeat, or a newer specification.
    fn repeat_mandate(&mut self, now: BootTime, offer: Offer, out: &mut Vec<LeadOutput>) {
        let replica = offer.replica.clone();
        let offer = Offer { rules: self.granted(&replica, offer.rules), ..offer };
        let Some(known) = self.mandates.get(&replica) else { return };
        // It keeps the epoch of its tokens, whoever speaks for it by now.
        let offer = Offer { epoch: known.epoch, ..offer };
        // What was allowed for a copy that is gone says nothing about the present one.
        let present = known.present().map(|p| p.token);
        let replace = if offer.allowed.1 == present { offer.allowed.0 } else { Replace::Keep };
        let serves = matches!(known.stage, Stage::Held(_) | Stage::Committing(_));
        if offer.spec.generation > known.spec.generation && !(serves && replace == Replace::Keep) {
            let kept = known.clone();
            self.record(offer.into_record(), out);
            if let Some(changed) = self.mandates.get_mut(&replica) {
                let renewed = Mandate {
                    spec: changed.spec.clone(),
                    node_selector: changed.node_selector.clone(),
                    context: changed.context.clone(),
                    rules: changed.rules.clone(),
                    cause: "specification changed",
                    accepted: false,
                    next_try: now,
                    refused: Default::default(),
                    replace,
                    ..kept
                };
                *changed = renewed;
            }
            self.close_if_unwanted(now, &replica, out);
            return;
        }
        let Offer { spec, context, rules, .. } = offer;
        if spec.generation == known.spec.generation && (known.context != context || known.rules != rules) {
            self.record(LeadRecord::Amended { replica: replica.clone(), context, rules }, out);
        }
        self.allow(now, &replica, replace);
        self.tell_home(now, &replica, out);
    }

    /// Says to the home where a replica is, of which generation, and how it fares; or that the copy it knows of is gone.
    pub(super) fn tell_home(&mut self, now: BootTime, replica: &ReplicaId, out: &mut Vec<LeadOutput>) {
        let Some(m) = self.mandates.get(replica) else { return };
        if m.recalled {
            return;
        }
        let told = match (m.stage, m.told.clone()) {
            (Stage::Held(p), _) => Told {
                token: p.token,
                node: self.name_of(p.node),
                generation: m.placed_generation,
                run: m.run,
                leaving: self.leaving_of(now, replica),
            },
            // Whether it is still there is being asked.
            (Stage::Committing(p), Some(told)) if told.token == p.token => told,
            (_, Some(told)) => Told { run: RunPhase::Waiting, leaving: Leaving::No, ..told },
            (_, None) => return,
        };
        let (home, mandate) = (m.home.owner, m.mandate);
        let message = ControlMessage::Accepted {
            term: self.term,
            mandate,
            replica: replica.clone(),
            generation: told.generation,
            node: told.node.clone(),
            token: told.token,
            run: told.run,
            leaving: told.leaving,
            number: self.said,
            uplink: m.rules.uplink,
        };
        self.said += 1;
        self.send(home, message, out);
        if let Some(m) = self.mandates.get_mut(replica) {
            m.accepted |= matches!(m.stage, Stage::Held(_)) && !m.is_outdated();
            m.told = Some(told);
        }
    }

    /// Takes a home's word under a higher epoch for that of the home which has adopted the application, where that may be:
    /// it is the same mandate, and its owner has asked for it. What runs is left alone.
    fn rehome(
        &mut self,
        now: BootTime,
        replica: &ReplicaId,
        home: Epoch,
        mandate: MandateId,
        out: &mut Vec<LeadOutput>,
    ) {
        let Some(m) = self.mandates.get(replica) else { return };
        let may = m.context.demands.adopt_after.is_some() && m.spec.partition == PartitionPolicy::Autonomous;
        if !may || home <= m.home || home.owner == m.home.owner {
            return;
        }
        if m.mandate == mandate {
            self.record(LeadRecord::Rehomed { replica: replica.clone(), home }, out);
            out.push(LeadOutput::Note(LeadNote::Rehomed(replica.clone(), home)));
        } else if !m.recalled {
            // Given by the home before, after the last that its successor knows of. The successor's goes.
            self.record(LeadRecord::Recalled { replica: replica.clone() }, out);
            self.close_if_unwanted(now, replica, out);
        }
    }

    pub(super) fn handle_recall(
        &mut self,
        now: BootTime,
        from: MemberId,
        epoch: Epoch,
        mandate: MandateId,
        replica: &ReplicaId,
        out: &mut Vec<LeadOutput>,
    ) {
        if epoch.owner != from || !self.ready {
            return;
        }
        self.rehome(now, replica, epoch, mandate, out);
        let returned = ControlMessage::Returned { term: self.term, epoch, mandate, replica: replica.clone() };
        match self.mandates.get_mut(replica) {
            // The home that spoke for it before: it has to hear of the one that does now, and gives up.
            Some(known) if known.home > epoch && known.mandate >= mandate && known.home.owner != from => {}
            Some(known) if (known.home, known.mandate) == (epoch, mandate) => {
                if !known.recalled {
                    self.record(LeadRecord::Recalled { replica: replica.clone() }, out);
                }
                self.close_if_unwanted(now, replica, out);
            }
            // A newer mandate is held: the one recalled is long gone.
            Some(known) if (known.home, known.mandate) > (epoch, mandate) => self.send(from, returned, out),
            Some(_) => {}
            None => {
                let known = self
                    .handed_back
                    .get(&(replica.clone(), epoch.owner))
                    .is_some_and(|back| (back.epoch, back.mandate) >= (epoch, mandate));
                if !known {
                    // Never seen here: from now on a late offer of it is refused, and a late copy stopped.
                    self.record(LeadRecord::HandedBack { replica: replica.clone(), epoch, mandate }, out);
                }
                self.send(from, returned, out);
            }
        }
    }

    /// Stops the copies of a mandate that was recalled, and hands it back once none runs; abandons a reservation for an
    /// older specification.
    pub(super) fn close_if_unwanted(
        &mut self,
        now: BootTime,
        replica: &ReplicaId,
        out: &mut Vec<LeadOutput>,
    ) {
        let Some(m) = self.mandates.get_mut(replica) else { return };
        if !m.recalled {
            if m.is_outdated() && matches!(m.stage, Stage::Reserving(_)) {
                m.stage.close();
                m.next_try = now;
            }
            return;
        }
        if !m.stage.may_run()
            && let Some(outgoing) = m.outgoing.take()
        {
            // It was to serve until its successor was ready; now it only has to end.
            m.stage.close();
            m.stage.adopt(outgoing.placement);
        }
        if m.stage.close() {
            m.next_send = now;
        } else {
            self.hand_back(replica, None, out);
        }
    }

    /// Gives a mandate back to its home: no copy of it runs in this cluster and none ever will.
    pub(super) fn hand_back(
        &mut self,
        replica: &ReplicaId,
        declined: Option<String>,
        out: &mut Vec<LeadOutput>,
    ) {
        let Some(m) = self.mandates.get(replica) else { return };
        debug_assert!(!m.stage.may_run(), "a mandate goes back only when no copy may run");
        let (given, epoch, mandate, home) = (m.epoch, m.home, m.mandate, m.home.owner);
        self.record(LeadRecord::HandedBack { replica: replica.clone(), epoch: given, mandate }, out);
        if given != epoch {
            // So that a late copy is recognised by its token, and a late offer by its home.
            self.record(LeadRecord::HandedBack { replica: replica.clone(), epoch, mandate }, out);
        }
        let (term, replica) = (self.term, replica.clone());
        let why = declined.clone().unwrap_or_else(|| "recalled by its home".into());
        out.push(LeadOutput::Note(LeadNote::HandedBack(replica.clone(), why)));
        let message = match declined {
            Some(reason) => ControlMessage::Declined { term, epoch, mandate, replica, reason },
            None => ControlMessage::Returned { term, epoch, mandate, replica },
        };
        self.send(home, message, out);
    }

    /// Answers what a whole application would cost here, placing its replicas one after the other on a scratch view.
    pub(super) fn handle_bid_request(
        &mut self,
        now: BootTime,
        from: MemberId,
        request: u64,
        context: &AppContext,
        demands: &[Demand],
        out: &mut Vec<LeadOutput>,
    ) {
        if !self.ready {
            return;
        }
        let mut given: Vec<(&ReplicaId, codeco_protocol::ids::NodeId, &Resources)> = Vec::new();
        let mut lines = Vec::with_capacity(demands.len());
        let mut room = OBSTACLES_MAX;
        let refused = BTreeSet::new();
        for demand in demands {
            let wanted = Wanted {
                replica: &demand.replica,
                context,
                rules: &demand.rules,
                resources: &demand.resources,
                refused: &refused,
                given: &given,
                beside: false,
            };
            let ranking = score::rank(
                &self.sites(now, &wanted),
                &demand.resources,
                &demand.node_selector,
                weighing(context),
            );
            // Other clusters bid without advice, or with another model's.
            let best = ranking.best().map(|best| (best.id, advice::without(best)));
            let facts = best.and_then(|(id, _)| self.members.get(&id)?.facts.as_ref());
            let (power, cost) = (
                facts.and_then(|facts| power_of(facts, demand.resources.cpu)),
                facts.and_then(|facts| cost_of(facts, demand.resources.cpu)),
            );
            let answer = match best {
                Some((id, total)) => {
                    given.push((&demand.replica, id, &demand.resources));
                    Ok((total, self.name_of(id)))
                }
                None => Err(ranking.reasons()),
            };
            let mut obstacles = Vec::new();
            if answer.is_err() {
                let found =
                    ranking.candidates.into_iter().filter_map(|c| Some((self.name_of(c.id), c.obstacle?)));
                obstacles.extend(found.take(room));
                room -= obstacles.len();
            }
            lines.push(BidLine { replica: demand.replica.clone(), answer, obstacles, power, cost });
        }
        let cluster = self.config.cluster.clone();
        self.send(from, ControlMessage::Bid { request, term: self.term, cluster, lines }, out);
    }

    /// Whether a copy that may run without lease keeps a mandate from going back: it may still come back.
    pub(super) fn leaves_autonomous_copies(&self, replica: &ReplicaId) -> bool {
        self.mandates.get(replica).is_some_and(|m| m.spec.partition == PartitionPolicy::Autonomous)
            && self.owed.iter().any(|(node, list)| {
                list.get(replica).is_some_and(|token| {
                    self.members.get(node).is_some_and(|member| {
                        member.lost || member.held.get(replica).is_some_and(|h| h.token == *token)
                    })
                })
            })
    }
}
