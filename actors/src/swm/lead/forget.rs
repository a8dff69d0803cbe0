//! Removing a node for good, on an operator's word.

use codeco_protocol::ids::{NodeId, ReplicaId};
use codeco_protocol::units::{BootTime, Micros};

use super::{Lead, LeadNote, LeadOutput, LeadRecord};

/// Why a node stays enrolled. Nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ForgetError {
    /// It is the lead itself.
    #[error("it leads the cluster: a lead cannot forget itself")]
    Itself,
    /// This lead may not decide now.
    #[error("this lead is not in office now")]
    NoOffice,
    /// It asks for leases.
    #[error("it still answers: it asked for a lease {0} ago; stop its agent first")]
    Answers(Micros),
    /// What it runs may still run.
    #[error("what it runs may still run: its lease has not been waited out")]
    NotWaitedOut,
}

impl Lead {
    /// Removes `node` for good. One that answers is refused, and so is one whose lease has not been waited out, unless
    /// `forced`: then the operator says that nothing of it runs any more. Forgetting twice changes nothing.
    ///
    /// # Errors
    /// [`ForgetError`].
    pub fn forget(
        &mut self,
        now: BootTime,
        node: NodeId,
        forced: bool,
        out: &mut Vec<LeadOutput>,
    ) -> Result<(), ForgetError> {
        if node == self.config.id {
            return Err(ForgetError::Itself);
        }
        if !self.may_act(now) {
            return Err(ForgetError::NoOffice);
        }
        self.wait_out_the_lost(now, out);
        let Some(member) = self.members.get(&node) else { return Ok(()) };
        let name = member.name.clone();
        if !member.lost {
            let since = member.heard.map(|heard| now.since(heard));
            if let Some(since) = since.filter(|since| since.0 < self.config.lease.duration.0 / 2) {
                return Err(ForgetError::Answers(since));
            }
            if !forced {
                return Err(ForgetError::NotWaitedOut);
            }
            self.takeover.waited_out(node);
            self.record(LeadRecord::WaitedOut { node, term: self.term }, out);
        }
        self.record(LeadRecord::Forgotten { node }, out);
        // Nobody waits for it any more, neither a takeover nor a replica.
        self.takeover.reported(node);
        let left: Vec<ReplicaId> = self
            .mandates
            .iter()
            .filter(|(_, m)| m.stage.placement().is_some_and(|p| p.node == node))
            .map(|(replica, _)| replica.clone())
            .collect();
        for replica in left {
            if let Some(mandate) = self.mandates.get_mut(&replica) {
                mandate.stage.waited_out(node);
                mandate.adrift = false;
            }
            self.after_end(now, &replica, "node forgotten", out);
        }
        out.push(LeadOutput::Note(LeadNote::Forgotten(name)));
        Ok(())
    }
}
