//! A ledger and its journal: restored from records, and written down anew as few.

use std::collections::BTreeMap;

use codeco_protocol::ids::Incarnation;
use codeco_protocol::messages::HeldPhase;
use codeco_protocol::resources::Resources;
use codeco_protocol::token::Term;
use codeco_protocol::units::BootTime;

use super::{Entry, Ledger, LedgerConfig, LedgerOutput, LedgerRecord, Upkeep};
use crate::swm::lease::NodeLease;
use crate::swm::slot::Slot;

impl Ledger {
    /// Restores a ledger from its journal. An empty journal begins the life `fresh`, which must be recorded:
    /// outputs say what to write, and which reservations a restart has closed.
    #[must_use]
    pub fn recover(
        config: LedgerConfig,
        records: &[LedgerRecord],
        fresh: Incarnation,
    ) -> (Self, Vec<LedgerOutput>) {
        let mut ledger = Self {
            lease: NodeLease::new(config.first_nonce),
            said: 0,
            telling: None,
            told: None,
            config,
            incarnation: fresh,
            admitted: false,
            term: Term::default(),
            entries: BTreeMap::new(),
            capacity: Resources::default(),
            foreign: Resources::default(),
            round_trips: Vec::new(),
            coordinate: None,
            lease_ended_noted: true,
            lead: None,
            next_ask: BootTime(0),
            upkeep: Upkeep::Open,
        };
        let mut out = Vec::new();
        if records.is_empty() {
            out.push(LedgerOutput::Journal(LedgerRecord::Opened {
                node: ledger.config.id,
                incarnation: fresh,
            }));
        }
        for record in records {
            ledger.replay(record);
        }
        ledger.close_uncommitted(&mut out);
        ledger.prune();
        (ledger, out)
    }

    fn replay(&mut self, record: &LedgerRecord) {
        match record {
            LedgerRecord::Opened { incarnation, .. } => self.incarnation = *incarnation,
            LedgerRecord::Admitted => self.admitted = true,
            LedgerRecord::Term(term) => self.term = self.term.max(*term),
            LedgerRecord::Upkeep(upkeep) => self.upkeep = *upkeep,
            LedgerRecord::Reserved { replica, token, resources } => {
                let entry = self.entries.entry(replica.clone()).or_default();
                entry.slot.held = Some((*token, HeldPhase::Reserved));
                entry.resources = resources.clone();
            }
            LedgerRecord::Committed { replica, token, spec } => {
                let entry = self.entries.entry(replica.clone()).or_default();
                entry.slot.held = Some((*token, HeldPhase::Committed));
                entry.resources = spec.resources.clone();
                entry.spec = Some(spec.clone());
            }
            LedgerRecord::Stopping { replica, token } => {
                if let Some(entry) = self.entries.get_mut(replica)
                    && entry.slot.held.is_some_and(|(held, _)| held == *token)
                {
                    entry.slot.held = Some((*token, HeldPhase::Stopping));
                }
            }
            LedgerRecord::Closed { replica, token } => {
                let entry = self.entries.entry(replica.clone()).or_default();
                if entry.slot.held.is_some_and(|(held, _)| held == *token) {
                    *entry = Entry { slot: Slot { held: None, ..entry.slot }, ..Entry::default() };
                }
                entry.slot.closed = entry.slot.closed.max(Some(*token));
            }
        }
    }

    /// A restart ends every reservation: its time was counted by a process that is gone.
    fn close_uncommitted(&mut self, out: &mut Vec<LedgerOutput>) {
        let open: Vec<_> = self
            .entries
            .iter()
            .filter_map(|(replica, entry)| match entry.slot.held {
                Some((token, HeldPhase::Reserved)) => Some((replica.clone(), token)),
                _ => None,
            })
            .collect();
        for (replica, token) in open {
            self.end(&replica, token, out);
        }
    }

    /// The records that stand for the present state: a compacted journal.
    #[must_use]
    pub fn snapshot(&self) -> Vec<LedgerRecord> {
        let mut records = vec![LedgerRecord::Opened { node: self.config.id, incarnation: self.incarnation }];
        if self.admitted {
            records.push(LedgerRecord::Admitted);
        }
        records.push(LedgerRecord::Term(self.term));
        if self.upkeep != Upkeep::Open {
            records.push(LedgerRecord::Upkeep(self.upkeep));
        }
        for (replica, entry) in &self.entries {
            if let Some(token) = entry.slot.closed {
                records.push(LedgerRecord::Closed { replica: replica.clone(), token });
            }
            let Some((token, phase)) = entry.slot.held else { continue };
            let replica = replica.clone();
            match (phase, &entry.spec) {
                (HeldPhase::Committed | HeldPhase::Stopping, Some(spec)) => {
                    records.push(LedgerRecord::Committed {
                        replica: replica.clone(),
                        token,
                        spec: spec.clone(),
                    });
                    if phase == HeldPhase::Stopping {
                        records.push(LedgerRecord::Stopping { replica, token });
                    }
                }
                _ => records.push(LedgerRecord::Reserved {
                    replica,
                    token,
                    resources: entry.resources.clone(),
                }),
            }
        }
        records
    }
}
