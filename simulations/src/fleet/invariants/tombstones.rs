//! The deleted never return: nothing of an application whose end is on disk is promised or started any more.

use std::collections::BTreeSet;

use codeco_actors::swm::home::HomeRecord;
use codeco_actors::swm::ledger::LedgerRecord;
use codeco_protocol::ids::{AppUid, ReplicaId};
use codeco_protocol::token::Token;

use crate::invariant::{Invariant, Violation, check};

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Deleted {
    removed: BTreeSet<AppUid>,
    promised: BTreeSet<(ReplicaId, Token)>,
}

impl Deleted {
    pub(crate) fn home_wrote(&mut self, record: &HomeRecord) {
        if let HomeRecord::Removed { app } = record {
            self.removed.insert(*app);
        }
    }

    pub(crate) fn ledger_wrote(&mut self, node: &str, record: &LedgerRecord) -> Result<(), Violation> {
        let LedgerRecord::Committed { replica, token, .. } = record else { return Ok(()) };
        // A node that lost its journal writes down again what it still runs; only new promises count.
        let is_new = self.promised.insert((replica.clone(), *token));
        check(!is_new || !self.removed.contains(&replica.app), Invariant::Deleted, || {
            format!("{node} promises {replica} {token}")
        })
    }

    pub(crate) fn started(&self, node: &str, replica: &ReplicaId, token: Token) -> Result<(), Violation> {
        check(!self.removed.contains(&replica.app), Invariant::Deleted, || {
            format!("{replica} {token} starts on {node}")
        })
    }
}
