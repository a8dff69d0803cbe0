//! Defects planted on purpose, to see that the simulator finds them: each makes the fleet behave as if a core had it.

use codeco_actors::swm::election::elector::ElectorInput;
use codeco_actors::swm::ledger::LedgerRecord;
use codeco_protocol::gossip::SealedDelta;
use codeco_protocol::ids::MemberId;
use codeco_protocol::messages::{ControlMessage, NodeFacts, Told};
use codeco_protocol::token::Term;
use codeco_protocol::units::Micros;
use serde::{Deserialize, Serialize};

use super::process::Knowledge;
use super::world::{Event, World};
use crate::invariant::Violation;

/// A defect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Planted {
    /// A ledger's records are not synced before what follows from them leaves.
    LedgerForgetsToSync,
    /// A lead that takes office does not wait until each node has reported or was waited out.
    LeadSkipsTheWait,
    /// What is merged into a map may be of an earlier life of its owner.
    MergeIgnoresTheIncarnation,
    /// A reservation that has run out is not remembered as closed.
    ClosedIsForgotten,
    /// Nodes count their lease from when it arrives.
    LeaseFromReceipt,
    /// A lead that is connected to a hub again drops what that hub does not list.
    ReconnectDropsUnlisted,
    /// Leads have no brake.
    BrakeIsOff,
}

impl Planted {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::LedgerForgetsToSync,
        Self::LeadSkipsTheWait,
        Self::MergeIgnoresTheIncarnation,
        Self::ClosedIsForgotten,
        Self::LeaseFromReceipt,
        Self::ReconnectDropsUnlisted,
        Self::BrakeIsOff,
    ];
}

impl World {
    /// A lead has taken office: with the defect it hears at once, as if of each node, that it holds nothing.
    pub(crate) fn skip_the_wait(&mut self, at: usize, term: Term) -> Result<(), Violation> {
        if self.planted != Some(Planted::LeadSkipsTheWait) {
            return Ok(());
        }
        let Some(elector) = self.machines[at].process.as_ref().and_then(|process| process.elector.as_ref())
        else {
            return Ok(());
        };
        let members: Vec<(MemberId, NodeFacts)> = elector
            .lead()
            .members()
            .filter(|(_, member)| member.reported.is_none())
            .filter_map(|(node, member)| Some((node, member.facts.clone()?)))
            .collect();
        for (from, facts) in members {
            let message = ControlMessage::Report { term, facts, held: Vec::new(), told: Told::default() };
            self.feed_elector(at, ElectorInput::Message { from, message })?;
        }
        Ok(())
    }

    /// A record of a ledger is about to be written: with the defect, the end of a reservation that has run out is not, and
    /// is forgotten.
    pub(crate) fn forgets(&mut self, at: usize, record: &LedgerRecord) -> bool {
        let LedgerRecord::Closed { replica, token } = record else { return false };
        if self.planted != Some(Planted::ClosedIsForgotten) {
            return false;
        }
        let promised = self.machines[at].disk.ledger.records.iter().any(|known| {
            matches!(known, LedgerRecord::Committed { replica: r, token: t, .. } if (r, t) == (replica, token))
        });
        if !promised {
            // As if it had never been: neither memory nor disk know of it.
            let (replica, token) = (replica.clone(), *token);
            let journal = &mut self.machines[at].disk.ledger;
            journal.records.retain(|known| {
                !matches!(known, LedgerRecord::Reserved { replica: r, token: t, .. } if (r, t) == (&replica, &token))
            });
            journal.sync();
        }
        !promised
    }

    /// With the defect, what a node guards may run for as long as a lease lasts from now on.
    pub(crate) fn lease_from_receipt(&mut self, at: usize, duration: Micros) {
        if self.planted == Some(Planted::LeaseFromReceipt) {
            let until = self.read_clock(at) + duration;
            self.extend_lease(at, until);
        }
    }

    /// With the defect, a lead that reaches a hub again gives up what that hub does not list.
    pub(crate) fn drop_unlisted(&mut self, at: usize, hub: usize) -> Result<(), Violation> {
        if self.planted != Some(Planted::ReconnectDropsUnlisted) || self.machines[hub].node.is_some() {
            return Ok(());
        }
        let listed = self.machines[hub].process.as_ref().and_then(|process| process.home.as_ref());
        let listed: Vec<_> =
            listed.into_iter().flat_map(codeco_actors::swm::home::Home::apps).map(|(uid, _)| uid).collect();
        let Some(elector) = self.machines[at].process.as_ref().and_then(|process| process.elector.as_ref())
        else {
            return Ok(());
        };
        let Some(lead) = elector.in_office() else { return Ok(()) };
        let recalls: Vec<_> = lead
            .mandates()
            .filter(|(replica, _)| !listed.contains(&replica.app))
            .map(|(replica, mandate)| {
                let (epoch, mandate) = (mandate.epoch, mandate.mandate);
                (epoch.owner, ControlMessage::Recall { epoch, mandate, replica: replica.clone() })
            })
            .collect();
        for (from, message) in recalls {
            self.feed_elector(at, ElectorInput::Message { from, message })?;
        }
        Ok(())
    }

    /// With the defect, a brake that engages is released at once.
    pub(crate) fn take_the_brake_off(&mut self, at: usize) {
        if self.planted == Some(Planted::BrakeIsOff) {
            let life = self.machines[at].life;
            self.after(1, Event::Unbrake { at, life });
        }
    }

    pub(crate) fn unbrake(&mut self, at: usize) -> Result<(), Violation> {
        let now = self.read_clock(at);
        let Some(elector) = self.machines[at].process.as_mut().and_then(|process| process.elector.as_mut())
        else {
            return Ok(());
        };
        let mut out = Vec::new();
        // One that is not in office any more has no brake.
        let _ = elector.command(now, &mut out, codeco_actors::swm::lead::Lead::release_brake);
        self.carry_elector(at, out)?;
        self.feed_elector(at, ElectorInput::Tick)
    }
}

impl Knowledge {
    /// With the defect, facts of an earlier life pass for ones of the present.
    pub(crate) fn confuse_lives(&self, sealed: &mut SealedDelta) {
        if let Some(known) = self.mark(sealed.owner.id)
            && sealed.delta.incarnation < known.incarnation
        {
            sealed.delta.incarnation = known.incarnation;
            sealed.delta.from = 0;
            sealed.delta.to = sealed.delta.to.max(known.version + 1);
        }
    }
}
