//! Mandates under way: offering, accepting, recalling, taking back.

use codeco_protocol::ids::{ClusterName, NodeName, ReplicaId};
use codeco_protocol::messages::{ControlMessage, Leaving, RunPhase};
use codeco_protocol::token::{MandateId, Term, Token};
use codeco_protocol::units::{BitsPerSecond, BootTime, Micros};

use super::{Home, HomeNote, HomeOutput, HomeRecord};
use crate::swm::lead::is_available;

/// Time after which an accepted offer is repeated: a lead that moves a replica says so once, and that may be lost.
const ASK_AGAIN: Micros = Micros::from_secs(10);
/// The same while a copy is awaited.
const ASK_SOON: Micros = Micros::from_secs(1);

/// What a lead says of a copy.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Answer {
    pub(super) accepted: (u64, NodeName, Token),
    pub(super) run: RunPhase,
    pub(super) leaving: Leaving,
    /// When it said so: its term, and the number within it.
    pub(super) told: (Term, u64),
    pub(super) uplink: BitsPerSecond,
}

impl Home {
    /// Sends what is unanswered: offers to the present lead, recalls until the mandate is back.
    pub(super) fn repeat_offers(&mut self, now: BootTime, out: &mut Vec<HomeOutput>) {
        let mut due = Vec::new();
        for (uid, app) in &self.apps {
            for ((service, index), replica) in &app.replicas {
                for held in replica.mandate.iter().chain(&replica.lost) {
                    let answered = held.accepted.is_some();
                    if held.next_send > now || !(held.recalling || !answered || held.ask_again <= now) {
                        continue;
                    }
                    due.push((ReplicaId { app: *uid, service: service.clone(), index: *index }, held.id));
                }
            }
        }
        for (replica, mandate) in due {
            self.send_for(now, &replica, mandate, out);
        }
    }

    fn send_for(
        &mut self,
        now: BootTime,
        replica: &ReplicaId,
        mandate: MandateId,
        out: &mut Vec<HomeOutput>,
    ) {
        let resend = self.config.resend;
        let Some(held) = self.mandate_mut(replica, mandate) else { return };
        held.next_send = now + resend;
        let awaited = held.rolling.is_some() || !held.run.is_some_and(is_available);
        held.ask_again = now + if awaited { ASK_SOON } else { ASK_AGAIN };
        let (cluster, recalling, offered_to) = (held.cluster.clone(), held.recalling, held.rule.offered_to);
        let (held_limit, held_grace) = (held.limit, held.grace);
        let Some(facts) = self.clusters.get(&cluster).filter(|facts| facts.reachable) else { return };
        let (lead, term) = (facts.lead, facts.term);
        let Some(app) = self.apps.get(&replica.app) else { return };
        let epoch = app.epoch;
        if recalling {
            if offered_to.is_none() {
                // Nobody was ever asked: the mandate never left.
                self.record(HomeRecord::HandedBack { replica: replica.clone(), mandate }, out);
                return;
            }
            let message = ControlMessage::Recall { epoch, mandate, replica: replica.clone() };
            out.push(HomeOutput::Send { to: lead, message });
            return;
        }
        let Some(service) = app.spec.services.iter().find(|s| s.name == replica.service) else { return };
        let lost = app
            .replica(&replica.service, replica.index)
            .is_some_and(|r| r.lost.iter().any(|l| l.id == mandate));
        // What may be done with a copy is decided of the present one; another one only says what it is.
        let (replace, replaces) = if lost { Default::default() } else { self.allowance(replica) };
        let message = ControlMessage::Offer {
            term,
            epoch,
            mandate,
            replica: replica.clone(),
            spec: service.spec.clone(),
            node_selector: service.node_selector.clone(),
            context: app.spec.context.clone(),
            replace,
            replaces,
            rules: self.rules_for(app, &(replica.service.clone(), replica.index), service, facts),
        };
        let (limit, grace) = (service.spec.lost_after, service.spec.stop_grace);
        let bounded = (held_limit, held_grace);
        // The longest of all that the cluster may have heard; a first offer sets it.
        let longest = match (offered_to, held_limit, limit) {
            (None, ..) => limit,
            (Some(_), Some(a), Some(b)) => Some(a.max(b)),
            _ => None,
        };
        if bounded != (longest, held_grace.max(grace)) {
            let (limit, grace) = (longest, held_grace.max(grace));
            self.record(HomeRecord::Bounded { replica: replica.clone(), mandate, limit, grace }, out);
        }
        if offered_to.is_none_or(|highest| highest < term) {
            // Which terms were asked must survive a crash: an older lead's answer must not count afterwards.
            self.record(HomeRecord::Offered { replica: replica.clone(), mandate, term }, out);
        }
        out.push(HomeOutput::Send { to: lead, message });
    }

    pub(super) fn handle_accepted(
        &mut self,
        now: BootTime,
        cluster: &ClusterName,
        mandate: MandateId,
        replica: &ReplicaId,
        answer: Answer,
        out: &mut Vec<HomeOutput>,
    ) {
        let Some(held) = self.mandate_mut(replica, mandate) else { return };
        if held.cluster != *cluster || held.told.is_some_and(|told| answer.told < told) {
            return;
        }
        held.told = Some(answer.told);
        let awaited = held.rolling.is_some() || !is_available(answer.run);
        held.ask_again = now + if awaited { ASK_SOON } else { ASK_AGAIN };
        held.run = Some(answer.run);
        held.leaving = answer.leaving;
        held.uplink.granted = answer.uplink;
        if held.accepted.as_ref() != Some(&answer.accepted) {
            out.push(HomeOutput::Note(HomeNote::Accepted(
                replica.clone(),
                cluster.clone(),
                answer.accepted.1.clone(),
            )));
            held.accepted = Some(answer.accepted);
        }
    }

    #[allow(clippy::too_many_arguments)]
    pub(super) fn handle_handed_back(
        &mut self,
        now: BootTime,
        cluster: &ClusterName,
        term: Term,
        mandate: MandateId,
        replica: &ReplicaId,
        declined: Option<String>,
        out: &mut Vec<HomeOutput>,
    ) {
        let pause = now + self.config.decline_pause;
        let Some(held) = self.mandate_mut(replica, mandate) else { return };
        if held.cluster != *cluster || !held.rule.handed_back(term) {
            return;
        }
        let recalled = held.recalling;
        self.record(HomeRecord::HandedBack { replica: replica.clone(), mandate }, out);
        let why = declined.unwrap_or_else(|| "returned".into());
        out.push(HomeOutput::Note(HomeNote::HandedBack(replica.clone(), cluster.clone(), why.clone())));
        if let Some(entry) = self.replica_mut(replica) {
            entry.next_try = now;
            if !recalled {
                entry.waiting = Some(format!("{cluster} gave it back: {why}"));
                entry.declined.insert(cluster.clone(), (pause, why));
            }
        }
    }
}
