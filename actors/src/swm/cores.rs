//! Ledger, elector (and in it the lead) and home as cores of the one shell.

use codeco_protocol::ids::Identity;
use codeco_protocol::messages::{Addressee, ControlMessage};
use codeco_protocol::units::BootTime;
use codeco_protocol::wire::WireMessage;

use super::actor::{Core, Sorted};
use super::election::elector::{ElectionRecord, Elector, ElectorInput, ElectorOutput};
use super::home::{Home, HomeInput, HomeOutput, HomeRecord};
use super::lead::LeadRecord;
use super::ledger::{Ledger, LedgerInput, LedgerOutput, LedgerRecord};

// Kinds of records. Append only; never reuse a number.
impl WireMessage for LedgerRecord {
    const KIND: u16 = 32;
    const MAX_LEN: usize = 512 << 10;
}

impl WireMessage for LeadRecord {
    const KIND: u16 = 33;
    const MAX_LEN: usize = 512 << 10;
}

impl WireMessage for HomeRecord {
    const KIND: u16 = 34;
    const MAX_LEN: usize = 1 << 20;
}

impl Core for Ledger {
    type Input = LedgerInput;
    type Output = LedgerOutput;
    type Record = LedgerRecord;

    fn handle(&mut self, now: BootTime, input: LedgerInput, out: &mut Vec<LedgerOutput>) {
        Ledger::handle(self, now, input, out);
    }

    fn message(from: &Identity, message: ControlMessage) -> Option<LedgerInput> {
        (message.addressee() == Addressee::Ledger).then_some(LedgerInput::Message { from: from.id, message })
    }

    fn tick() -> LedgerInput {
        LedgerInput::Tick
    }

    fn next_tick(&self, _now: BootTime) -> BootTime {
        Ledger::next_tick(self)
    }

    fn snapshot(&self) -> Vec<LedgerRecord> {
        Ledger::snapshot(self)
    }

    fn sort(output: LedgerOutput) -> Sorted<LedgerRecord, LedgerOutput> {
        match output {
            LedgerOutput::Journal(record) => Sorted::Journal(record),
            LedgerOutput::Send { to, message } => Sorted::Send(to, message),
            other => Sorted::Other(other),
        }
    }
}

impl Core for Elector {
    type Input = ElectorInput;
    type Output = ElectorOutput;
    type Record = ElectionRecord;

    fn handle(&mut self, now: BootTime, input: ElectorInput, out: &mut Vec<ElectorOutput>) {
        Elector::handle(self, now, input, out);
    }

    fn message(from: &Identity, message: ControlMessage) -> Option<ElectorInput> {
        (message.addressee() == Addressee::Lead).then_some(ElectorInput::Message { from: from.id, message })
    }

    fn tick() -> ElectorInput {
        ElectorInput::Tick
    }

    fn next_tick(&self, now: BootTime) -> BootTime {
        Elector::next_tick(self, now)
    }

    fn snapshot(&self) -> Vec<ElectionRecord> {
        Elector::snapshot(self)
    }

    fn sort(output: ElectorOutput) -> Sorted<ElectionRecord, ElectorOutput> {
        match output {
            ElectorOutput::Journal(record) => Sorted::Journal(record),
            ElectorOutput::Send { to, message } => Sorted::Send(to, message),
            other => Sorted::Other(other),
        }
    }
}

impl Core for Home {
    type Input = HomeInput;
    type Output = HomeOutput;
    type Record = HomeRecord;

    fn handle(&mut self, now: BootTime, input: HomeInput, out: &mut Vec<HomeOutput>) {
        Home::handle(self, now, input, out);
    }

    fn message(from: &Identity, message: ControlMessage) -> Option<HomeInput> {
        if matches!(
            message,
            ControlMessage::Keep { .. } | ControlMessage::Kept { .. } | ControlMessage::Drop { .. }
        ) {
            return Some(HomeInput::Copy { from: from.id, message });
        }
        let cluster = from.cluster()?.clone();
        (message.addressee() == Addressee::Home).then_some(HomeInput::Message {
            from: from.id,
            cluster,
            message,
        })
    }

    fn tick() -> HomeInput {
        HomeInput::Tick
    }

    fn next_tick(&self, now: BootTime) -> BootTime {
        Home::next_tick(self, now)
    }

    fn snapshot(&self) -> Vec<HomeRecord> {
        Home::snapshot(self)
    }

    fn sort(output: HomeOutput) -> Sorted<HomeRecord, HomeOutput> {
        match output {
            HomeOutput::Journal(record) => Sorted::Journal(record),
            HomeOutput::Send { to, message } => Sorted::Send(to, message),
            other => Sorted::Other(other),
        }
    }
}
