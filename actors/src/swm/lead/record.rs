//! What a lead writes down before it acts.

use bincode::{Decode, Encode};
use codeco_protocol::demands::PlaceRules;
use codeco_protocol::ids::{NodeId, NodeName, ReplicaId};
use codeco_protocol::messages::{AppContext, RunPhase};
use codeco_protocol::token::{Epoch, MandateId, Term, Token};
use codeco_protocol::units::BootTime;
use codeco_protocol::workload::WorkloadSpec;

use super::{HandedBack, Lead, LeadOutput, Mandate, Member};
use crate::swm::attempt::Stage;
use crate::swm::lease::LeadLease;

/// One record of a lead's journal. Variants are append-only.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Encode, Decode)]
pub enum LeadRecord {
    /// A term begins.
    Term(Term),
    /// A node belongs to the cluster.
    Enrolled {
        /// The node.
        node: NodeId,
        /// Its name.
        name: NodeName,
    },
    /// A mandate was taken, or its specification has changed.
    Mandated {
        /// The replica.
        replica: ReplicaId,
        /// The home's epoch.
        epoch: Epoch,
        /// The mandate.
        mandate: MandateId,
        /// What to run.
        spec: WorkloadSpec,
        /// Labels its node must have.
        node_selector: Vec<(String, String)>,
        /// The application.
        context: AppContext,
        /// Further rules for its place.
        rules: PlaceRules,
    },
    /// The home wants a mandate back.
    Recalled {
        /// The replica.
        replica: ReplicaId,
    },
    /// A mandate goes back.
    HandedBack {
        /// The replica.
        replica: ReplicaId,
        /// The home's epoch.
        epoch: Epoch,
        /// The mandate.
        mandate: MandateId,
    },
    /// A copy was left behind on a lost node.
    Owed {
        /// The node.
        node: NodeId,
        /// The replica.
        replica: ReplicaId,
        /// The copy's token.
        token: Token,
    },
    /// That copy is gone, or was taken back.
    Settled {
        /// The node.
        node: NodeId,
        /// The replica.
        replica: ReplicaId,
    },
    /// Mandates that went back under older terms are forgotten: every member has reported since.
    HistoryForgotten,
    /// A node was waited out: what needs a lease and was placed there under an older term never runs again.
    WaitedOut {
        /// The node.
        node: NodeId,
        /// The term in which it was waited out.
        term: Term,
    },
    /// An operator has removed a node for good: nothing of it runs any more.
    Forgotten {
        /// The node.
        node: NodeId,
    },
    /// What the home says of a mandate beside its specification has changed.
    Amended {
        /// The replica.
        replica: ReplicaId,
        /// The application.
        context: AppContext,
        /// Further rules for its place, with what was granted of the uplink.
        rules: PlaceRules,
    },
    /// Whether the brake leaves a node out of its count, until it is heard.
    CountedOut {
        /// The node.
        node: NodeId,
        /// Whether it does.
        out: bool,
    },
    /// Another home has adopted the application of a mandate.
    Rehomed {
        /// The replica.
        replica: ReplicaId,
        /// Its right.
        home: Epoch,
    },
}

impl Lead {
    /// Takes over a record of the lead in office, so that this member can go on in its place.
    pub fn learn(&mut self, record: &LeadRecord) {
        self.replay(record);
    }

    pub(super) fn replay(&mut self, record: &LeadRecord) {
        match record {
            LeadRecord::Term(term) => self.term = self.term.max(*term),
            LeadRecord::Enrolled { node, name } => {
                self.members.insert(*node, Member::new(name.clone(), BootTime(0)));
            }
            LeadRecord::Mandated { replica, epoch, mandate, spec, node_selector, context, rules } => {
                let mut fresh = Mandate::new(
                    *epoch,
                    *mandate,
                    spec.clone(),
                    node_selector.clone(),
                    context.clone(),
                    rules.clone(),
                    BootTime(0),
                );
                // A newer specification of a mandate that is wanted back, heard late, does not undo the recall.
                fresh.recalled = self.mandates.get(replica).is_some_and(|known| {
                    known.recalled && (known.epoch, known.mandate) == (*epoch, *mandate)
                });
                if let Some(known) = self.mandates.get(replica)
                    && (known.epoch, known.mandate) == (*epoch, *mandate)
                {
                    fresh.home = known.home;
                }
                self.mandates.insert(replica.clone(), fresh);
            }
            LeadRecord::Rehomed { replica, home } => {
                if let Some(mandate) = self.mandates.get_mut(replica) {
                    mandate.home = *home;
                }
            }
            LeadRecord::Recalled { replica } => {
                if let Some(mandate) = self.mandates.get_mut(replica) {
                    mandate.recalled = true;
                }
            }
            LeadRecord::HandedBack { replica, epoch, mandate } => {
                self.mandates.remove(replica);
                let back = HandedBack { epoch: *epoch, mandate: *mandate, term: self.term };
                self.handed_back.insert((replica.clone(), epoch.owner), back);
            }
            LeadRecord::Owed { node, replica, token } => {
                self.owed.entry(*node).or_default().insert(replica.clone(), *token);
            }
            LeadRecord::Settled { node, replica } => {
                if let Some(list) = self.owed.get_mut(node) {
                    let settled = list.remove(replica);
                    if let Some(mandate) = self.mandates.get_mut(replica) {
                        mandate.outgoing =
                            mandate.outgoing.take().filter(|o| Some(o.placement.token) != settled);
                    }
                    if list.is_empty() {
                        self.owed.remove(node);
                    }
                }
                self.waits_no_more(replica);
            }
            LeadRecord::WaitedOut { node, term } => {
                let known = self.waited_out.entry(*node).or_default();
                *known = (*known).max(*term);
            }
            LeadRecord::Forgotten { node } => {
                self.members.remove(node);
                let left = self.owed.remove(node).unwrap_or_default();
                self.counted_out.remove(node);
                for replica in left.keys() {
                    self.waits_no_more(replica);
                }
                for mandate in self.mandates.values_mut() {
                    mandate.outgoing = mandate.outgoing.take().filter(|out| out.placement.node != *node);
                }
            }
            LeadRecord::Amended { replica, context, rules } => {
                if let Some(mandate) = self.mandates.get_mut(replica) {
                    mandate.context = context.clone();
                    mandate.rules = rules.clone();
                }
            }
            LeadRecord::CountedOut { node, out: true } => {
                self.counted_out.insert(*node);
            }
            LeadRecord::CountedOut { node, out: false } => {
                self.counted_out.remove(node);
            }
            LeadRecord::HistoryForgotten => {
                let term = self.term;
                self.handed_back.retain(|_, back| back.term >= term);
            }
        }
    }

    /// A copy that was left behind is accounted for: if it was the last one, its replica need not wait for its node.
    fn waits_no_more(&mut self, replica: &ReplicaId) {
        if !self.owed.values().any(|list| list.contains_key(replica))
            && let Some(mandate) = self.mandates.get_mut(replica)
        {
            mandate.adrift = false;
        }
    }

    /// Applies a record and has it written.
    pub(super) fn record(&mut self, record: LeadRecord, out: &mut Vec<LeadOutput>) {
        self.replay(&record);
        out.push(LeadOutput::Journal(record));
    }

    /// The records that stand for the present state: a compacted journal.
    #[must_use]
    pub fn snapshot(&self) -> Vec<LeadRecord> {
        let mut records = Vec::new();
        // History before mandates: replaying a mandate that went back would remove a newer one. By term, because a
        // mandate that went back is remembered under the term that replay has come to.
        let mut history: Vec<_> = self.handed_back.iter().collect();
        history.sort_by_key(|(of, back)| (back.term, *of));
        let mut term = Term::default();
        for ((replica, _), back) in history {
            if back.term > term {
                term = back.term;
                records.push(LeadRecord::Term(term));
            }
            records.push(LeadRecord::HandedBack {
                replica: replica.clone(),
                epoch: back.epoch,
                mandate: back.mandate,
            });
        }
        records.push(LeadRecord::Term(self.term));
        for (node, member) in &self.members {
            records.push(LeadRecord::Enrolled { node: *node, name: member.name.clone() });
        }
        for (replica, m) in &self.mandates {
            records.push(LeadRecord::Mandated {
                replica: replica.clone(),
                epoch: m.epoch,
                mandate: m.mandate,
                spec: m.spec.clone(),
                node_selector: m.node_selector.clone(),
                context: m.context.clone(),
                rules: m.rules.clone(),
            });
            if m.home != m.epoch {
                records.push(LeadRecord::Rehomed { replica: replica.clone(), home: m.home });
            }
            if m.recalled {
                records.push(LeadRecord::Recalled { replica: replica.clone() });
            }
        }
        for (node, term) in &self.waited_out {
            records.push(LeadRecord::WaitedOut { node: *node, term: *term });
        }
        for node in &self.counted_out {
            records.push(LeadRecord::CountedOut { node: *node, out: true });
        }
        for (node, list) in &self.owed {
            for (replica, token) in list {
                records.push(LeadRecord::Owed { node: *node, replica: replica.clone(), token: *token });
            }
        }
        records
    }
}

impl Member {
    pub(super) fn new(name: NodeName, now: BootTime) -> Self {
        Self {
            name,
            facts: None,
            heard: None,
            lease: LeadLease::assumed(now),
            reported: None,
            held: std::collections::BTreeMap::new(),
            refused_with: None,
            lost: false,
            lost_since: None,
            told: Default::default(),
            next_fence: now,
        }
    }
}

impl Mandate {
    pub(super) fn new(
        epoch: Epoch,
        mandate: MandateId,
        spec: WorkloadSpec,
        node_selector: Vec<(String, String)>,
        context: AppContext,
        rules: PlaceRules,
        now: BootTime,
    ) -> Self {
        Self {
            epoch,
            home: epoch,
            mandate,
            spec,
            node_selector,
            context,
            rules,
            stage: Stage::Idle,
            recalled: false,
            run: RunPhase::Waiting,
            run_told: Default::default(),
            placed_generation: 0,
            placed_resources: Default::default(),
            placed_channels: Vec::new(),
            accepted: false,
            refused: std::collections::BTreeSet::new(),
            cause: super::NEW,
            next_try: now,
            next_send: now,
            give_up: now,
            idle_since: None,
            told_unplaceable: false,
            doubt_until: now,
            replace: Default::default(),
            outgoing: None,
            told: None,
            suspended: false,
            adrift: false,
            told_held: false,
        }
    }
}
