//! A node's ledger.

use codeco_actors::swm::lease::LeaseConfig;
use codeco_actors::swm::ledger::{Ledger, LedgerConfig, LedgerInput, LedgerOutput, LedgerRecord, SLOTS_MAX};
use codeco_protocol::units::BootTime;

use crate::samples;

fn config() -> LedgerConfig {
    LedgerConfig {
        id: samples::OWN,
        name: samples::node_name("n1"),
        labels: vec![],
        power: None,
        traits: Default::default(),
        lease: LeaseConfig::default(),
        first_nonce: 0,
    }
}

fn capacity() -> LedgerInput {
    LedgerInput::Capacity { capacity: samples::resources(4_000), foreign: Default::default() }
}

/// A ledger that was restored, and its compacted journal, mean the same.
fn check(ledger: &Ledger) {
    assert!(ledger.entries().count() <= SLOTS_MAX, "replicas are bounded");
    let snapshot = ledger.snapshot();
    let (again, _) = Ledger::recover(config(), &snapshot, samples::LIFE);
    assert_eq!((again.term(), again.incarnation()), (ledger.term(), ledger.incarnation()));
    assert_eq!(again.promised(), ledger_promises(ledger), "no promise is lost by compaction");
}

/// What a restart keeps: reservations end with it.
fn ledger_promises(ledger: &Ledger) -> codeco_protocol::resources::Resources {
    let (restarted, _) = Ledger::recover(config(), &ledger.snapshot(), samples::LIFE);
    restarted.promised()
}

/// From any records.
pub(crate) mod recover_ledger {
    use super::{BootTime, Ledger, LedgerInput, LedgerRecord, capacity, check, config, samples};
    use crate::cores::{extreme_records, records};
    use crate::input::Seed;

    pub(crate) fn run(data: &[u8]) {
        let journal = records::<LedgerRecord>(data);
        let (mut ledger, mut out) = Ledger::recover(config(), &journal, samples::LIFE);
        check(&ledger);
        // Whatever it was told of its size, it goes on.
        for input in [LedgerInput::Listed(vec![]), LedgerInput::LeadIs(samples::OTHER), LedgerInput::Tick] {
            ledger.handle(BootTime(1_000), input, &mut out);
        }
        let _ = (ledger.facts(), ledger.free(), ledger.held(), ledger.next_tick());
        let roomy = journal
            .iter()
            .all(|record| !matches!(record, LedgerRecord::Committed { .. } | LedgerRecord::Reserved { .. }));
        if roomy {
            ledger.handle(BootTime(2_000), capacity(), &mut out);
        }
    }

    pub(crate) fn seeds() -> Vec<Vec<u8>> {
        let all = samples::ledger_records();
        let seed = |records: &[LedgerRecord]| records.iter().fold(Seed::default(), Seed::message).0;
        vec![seed(&all), seed(&all[..5]), seed(&all[3..])]
    }

    pub(crate) fn extremes() -> Vec<Vec<u8>> {
        extreme_records(&samples::ledger_records())
    }
}

/// From nothing, told anything.
pub(crate) mod play_ledger {
    use codeco_actors::swm::ledger::{RuntimeFact, Upkeep};
    use codeco_protocol::messages::Addressee;
    use codeco_protocol::workload::Workload;

    use super::{BootTime, Ledger, LedgerInput, LedgerOutput, capacity, check, config, samples};
    use crate::cores::{STEPS_MAX, extreme_stories, member, messages, pass};
    use crate::input::{Input, Seed};

    pub(crate) fn run(data: &[u8]) {
        let mut input = Input::new(data);
        let (mut ledger, mut out) = Ledger::recover(config(), &[], samples::LIFE);
        let mut now = BootTime(1_000_000);
        ledger.handle(now, capacity(), &mut out);
        ledger.handle(now, LedgerInput::Listed(vec![]), &mut out);
        ledger.handle(now, LedgerInput::LeadIs(samples::OTHER), &mut out);
        let (mut started, mut stopping): (Vec<Workload>, Vec<_>) = (Vec::new(), Vec::new());
        let mut journal = Vec::new();
        for _ in 0..STEPS_MAX {
            let mut fed = Vec::new();
            match input.byte() % 8 {
                0..=3 => {
                    let from = member(input.byte());
                    let inputs = messages(&mut input).into_iter();
                    fed.extend(inputs.map(|message| LedgerInput::Message { from, message }));
                }
                4 => {
                    pass(&mut now, &mut input);
                    fed.push(LedgerInput::Tick);
                }
                5 => {
                    let facts = [
                        RuntimeFact::Starting,
                        RuntimeFact::Ready,
                        RuntimeFact::Finished,
                        RuntimeFact::Failed,
                        RuntimeFact::Fenced,
                        RuntimeFact::Stopped,
                    ];
                    let fact = facts[usize::from(input.byte()) % facts.len()].clone();
                    if let Some(workload) = started.last() {
                        let (replica, token) = (workload.replica.clone(), workload.token);
                        fed.push(LedgerInput::Runtime { replica, token, fact });
                    }
                }
                6 => fed.extend(stopping.pop().map(|(replica, token)| LedgerInput::Runtime {
                    replica,
                    token,
                    fact: RuntimeFact::Stopped,
                })),
                _ => {
                    let upkeep =
                        [Upkeep::Open, Upkeep::Cordoned, Upkeep::Draining][usize::from(input.byte() % 3)];
                    fed.push(LedgerInput::Upkeep(upkeep));
                }
            }
            for each in fed {
                ledger.handle(now, each, &mut out);
            }
            for output in out.drain(..) {
                match output {
                    LedgerOutput::Journal(record) => journal.push(record),
                    LedgerOutput::Start(workload) => started.push(workload),
                    LedgerOutput::Stop { replica, token } => stopping.push((replica, token)),
                    _ => {}
                }
            }
            if input.is_empty() {
                break;
            }
        }
        check(&ledger);
        let (revived, _) = Ledger::recover(config(), &journal, samples::LIFE);
        assert_eq!(revived.term(), ledger.term(), "what was obeyed is on disk");
        let held = |ledger: &Ledger| {
            ledger.held().into_iter().map(|held| (held.brief.replica, held.brief.token)).collect::<Vec<_>>()
        };
        let reserved = ledger
            .held_briefs()
            .iter()
            .any(|held| held.phase == codeco_protocol::messages::HeldPhase::Reserved);
        assert!(reserved || held(&revived) == held(&ledger), "what was promised is on disk");
    }

    pub(crate) fn seeds() -> Vec<Vec<u8>> {
        let said = |seed: Seed, at: usize| {
            let message = samples::control().swap_remove(at);
            seed.byte(0).byte(1).message(&samples::batch(vec![message]))
        };
        let begun = said(said(said(said(Seed::default(), 0), 1), 2), 3);
        let ready = begun.clone().byte(5).byte(1);
        let ended = said(ready.clone(), 4).byte(6).byte(4).word(61_000);
        let drained = ready.clone().byte(7).byte(2).byte(4).word(400).byte(4).word(5_000);
        let all = samples::control().into_iter().fold(Seed::default(), |seed, message| {
            seed.byte(0).byte(1).message(&samples::batch(vec![message]))
        });
        [begun, ready, ended, drained, all].map(|seed| seed.0).to_vec()
    }

    pub(crate) fn extremes() -> Vec<Vec<u8>> {
        let all = samples::control();
        let orders: Vec<_> =
            all.into_iter().filter(|message| message.addressee() == Addressee::Ledger).collect();
        extreme_stories(&Seed::default(), &orders, &|seed| seed.byte(4).word(30))
    }
}
