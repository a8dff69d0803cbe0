//! Orders that had to wait until their records were on a majority.
//!
//! A lead goes on hearing and deciding meanwhile. An order of which it has changed its mind since must not leave: a
//! copy that was to go because another one served may be the last one now, and an attempt may have been given up. None
//! of these orders is owed to anybody: whoever waits for one asks again, and the lead repeats what it still wants.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use codeco_protocol::ids::ReplicaId;
use codeco_protocol::messages::ControlMessage;
use codeco_protocol::token::Token;
use codeco_protocol::units::BootTime;

use super::Lead;
use super::contact::Standing;
use crate::swm::attempt::Stage;

impl Lead {
    /// Whether an order given earlier is one that this lead would still give.
    #[must_use]
    pub fn still_means(&self, now: BootTime, order: &ControlMessage) -> bool {
        let stage = |replica: &ReplicaId| self.mandates.get(replica).map(|m| m.stage).unwrap_or_default();
        match order {
            ControlMessage::Reserve { replica, token, .. } => {
                matches!(stage(replica), Stage::Reserving(p) if p.token == *token)
            }
            ControlMessage::Commit { replica, token, .. } => {
                matches!(stage(replica), Stage::Committing(p) | Stage::Held(p) if p.token == *token)
            }
            ControlMessage::Close { replica, token, .. } => self.means_to_stop(now, replica, *token),
            ControlMessage::LeaseGrant { revoke, .. } => {
                revoke.iter().all(|(replica, token)| self.means_to_stop(now, replica, *token))
            }
            _ => true,
        }
    }

    fn means_to_stop(&self, now: BootTime, replica: &ReplicaId, token: Token) -> bool {
        let Some(m) = self.mandates.get(replica) else { return true };
        if self.standing(now, m) == Standing::Over {
            return true;
        }
        match m.stage {
            Stage::Closing(p) if p.token == token => true,
            Stage::Reserving(p) | Stage::Committing(p) | Stage::Held(p) if p.token == token => false,
            _ => self.is_to_go(replica, token),
        }
    }
}
