//! I3: a message that comes twice changes nothing. It is given again to a copy of the core that has just handled it.

use codeco_actors::swm::election::elector::{Elector, ElectorInput, ElectorOutput};
use codeco_actors::swm::home::{Home, HomeInput, HomeOutput};
use codeco_actors::swm::lead::Lead;
use codeco_actors::swm::ledger::{Ledger, LedgerInput, LedgerOutput};
use codeco_protocol::units::BootTime;

use crate::invariant::{Invariant, Violation, check};
use crate::world::World;

impl World {
    /// One step in eight is replayed.
    pub(crate) fn picks_replay(&mut self) -> bool {
        self.rng.u8(..) < 32
    }
}

pub(crate) fn ledger(core: &Ledger, now: BootTime, input: &LedgerInput) -> Result<(), Violation> {
    if !matches!(input, LedgerInput::Message { .. }) {
        return Ok(());
    }
    let mut copy = core.clone();
    let mut out = Vec::new();
    copy.handle(now, input.clone(), &mut out);
    let same = copy.snapshot() == core.snapshot()
        && copy.lease_until() == core.lease_until()
        && copy.entries().eq(core.entries())
        && !out.iter().any(|o| matches!(o, LedgerOutput::Journal(_) | LedgerOutput::Start(_)));
    check(same, Invariant::Replay, || format!("ledger, by {input:?}, which led to {out:?}"))
}

pub(crate) fn elector(core: &Elector, now: BootTime, input: &ElectorInput) -> Result<(), Violation> {
    if !matches!(input, ElectorInput::Message { .. }) {
        return Ok(());
    }
    let mut copy = core.clone();
    let mut out = Vec::new();
    copy.handle(now, input.clone(), &mut out);
    let stages = |lead: &Lead| {
        lead.mandates()
            .map(|(replica, m)| (replica.clone(), m.stage, m.recalled, m.run, m.placed_generation))
            .collect::<Vec<_>>()
    };
    let same = copy.snapshot() == core.snapshot()
        && stages(copy.lead()) == stages(core.lead())
        && copy.lead().is_ready() == core.lead().is_ready()
        && copy.in_office().is_some() == core.in_office().is_some()
        && !out.iter().any(|o| matches!(o, ElectorOutput::Journal(_)));
    check(same, Invariant::Replay, || {
        format!(
            "elector, by {input:?}, which led to {out:?}\n  stages {:?}\n  then {:?}",
            stages(core.lead()),
            stages(copy.lead())
        )
    })
}

/// `timely`: the step has also done what was due by time alone.
pub(crate) fn home(core: &Home, now: BootTime, input: &HomeInput, timely: bool) -> Result<(), Violation> {
    if !matches!(input, HomeInput::Message { .. }) {
        return Ok(());
    }
    let mut copy = core.clone();
    // What time brings about is not the message's doing, nor is what a message does to what time has just brought about.
    let mut out = Vec::new();
    copy.handle(now, HomeInput::Tick, &mut out);
    if timely || out.iter().any(|o| matches!(o, HomeOutput::Journal(_))) {
        return Ok(());
    }
    let before = copy.snapshot();
    out.clear();
    copy.handle(now, input.clone(), &mut out);
    let same = copy.snapshot() == before && !out.iter().any(|o| matches!(o, HomeOutput::Journal(_)));
    check(same, Invariant::Replay, || format!("home, by {input:?}, which led to {out:?}"))
}
