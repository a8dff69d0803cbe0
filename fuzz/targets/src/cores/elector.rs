//! An elector, and the lead in it.

use codeco_actors::swm::election::elector::{
    ElectionRecord, Elector, ElectorConfig, ElectorInput, ElectorOutput, Written, founding,
};
use codeco_actors::swm::election::electorate::Voter;
use codeco_actors::swm::lead::LeadConfig;
use codeco_actors::swm::lease::LeaseConfig;
use codeco_protocol::units::BootTime;

use crate::samples;

fn config() -> ElectorConfig {
    let lead = LeadConfig::new(samples::OWN, samples::cluster("c"), LeaseConfig::default());
    ElectorConfig::new(lead, 0, 7)
}

/// From any records.
pub(crate) mod recover_elector {
    use super::{BootTime, ElectionRecord, Elector, ElectorInput, Written, config, samples};
    use crate::cores::{extreme_records, records};
    use crate::input::Seed;

    pub(crate) fn run(data: &[u8]) {
        let journal = records::<ElectionRecord>(data);
        let written = Written::read(&journal);
        let recovered = Elector::recover(config(), &journal, samples::LIFE, BootTime(0));
        assert_eq!(written.is_ok(), recovered.is_ok(), "one that reads is one that is restored");
        let Ok((mut elector, mut out)) = recovered else { return };
        let snapshot = elector.snapshot();
        let again = Elector::recover(config(), &snapshot, samples::LIFE, BootTime(0));
        assert!(
            elector.electorate().is_none_or(|electorate| !electorate.is_sound()) || again.is_ok(),
            "a compacted journal reads: {:?}",
            again.err()
        );
        let mut now = BootTime(0);
        for _ in 0..8 {
            now.0 += 2_000_000;
            elector.handle(now, ElectorInput::Tick, &mut out);
            let _ = elector.next_tick(now);
        }
        let _ = (elector.lead().snapshot(), elector.peers().count(), elector.last());
    }

    pub(crate) fn seeds() -> Vec<Vec<u8>> {
        let all = samples::elector_records();
        let seed = |records: &[ElectionRecord]| records.iter().fold(Seed::default(), Seed::message).0;
        vec![seed(&all), seed(&all[..3]), seed(&all[..5]), seed(&all[3..])]
    }

    pub(crate) fn extremes() -> Vec<Vec<u8>> {
        extreme_records(&samples::elector_records())
    }
}

/// A member that votes alone, or none yet, told anything.
pub(crate) mod play_elector {
    use codeco_actors::swm::election::electorate::{Electorate, Role};
    use codeco_protocol::messages::{Addressee, ControlMessage};

    use super::{
        BootTime, ElectionRecord, Elector, ElectorInput, ElectorOutput, Voter, Written, config, founding,
        samples,
    };
    use crate::cores::{STEPS_MAX, extreme_stories, member, messages, pass};
    use crate::input::{Input, Seed};

    fn me() -> Voter {
        Voter { member: samples::OWN, incarnation: samples::LIFE }
    }

    pub(crate) fn run(data: &[u8]) {
        let mut input = Input::new(data);
        let mut journal = match input.byte() % 3 {
            0 => founding(me(), Vec::new()),
            1 => samples::elector_records()[..5].to_vec(),
            _ => vec![ElectionRecord::Life(samples::LIFE)],
        };
        let mut now = BootTime(1_000_000);
        let (mut elector, mut out) = Elector::recover(config(), &journal, samples::LIFE, now)
            .unwrap_or_else(|error| unreachable!("the samples' journal: {error}"));
        now.0 += 30_000_000;
        elector.handle(now, ElectorInput::Tick, &mut out);
        for _ in 0..STEPS_MAX {
            match input.byte() % 6 {
                0..=3 => {
                    let from = member(input.byte());
                    for message in messages(&mut input) {
                        elector.handle(now, ElectorInput::Message { from, message }, &mut out);
                    }
                }
                4 => {
                    pass(&mut now, &mut input);
                    elector.handle(now, ElectorInput::Tick, &mut out);
                }
                _ => {
                    let (number, version) = (input.word(), input.byte());
                    let voter = |id| (Voter { member: member(id), incarnation: samples::LIFE }, Role::Member);
                    let electorate = Electorate::told(u64::from(version), (1..=version % 4).map(voter));
                    let term = samples::term(u64::from(number), samples::OTHER);
                    elector.handle(now, ElectorInput::Heard { term, electorate }, &mut out);
                }
            }
            for output in out.drain(..) {
                if let ElectorOutput::Journal(record) = output {
                    journal.push(record);
                }
            }
            if input.is_empty() {
                break;
            }
        }
        let written = Written::read(&journal).expect("what it has written itself reads");
        assert_eq!(written.promised, elector.ballot().promised(), "the vote is on disk");
        assert_eq!(written.last, elector.last(), "so is every record");
        assert_eq!(written.electorate.as_ref(), elector.electorate(), "and who votes");
    }

    pub(crate) fn seeds() -> Vec<Vec<u8>> {
        let said = |seed: Seed, message: ControlMessage| {
            seed.byte(0).byte(1).message(&samples::batch(vec![message])).byte(4).word(50)
        };
        let leads =
            || samples::control().into_iter().filter(|message| message.addressee() == Addressee::Lead);
        let elections = || samples::election().into_iter().map(ControlMessage::Election);
        let lead = leads().fold(Seed::default().byte(0), said);
        let twice = leads().chain(leads()).fold(Seed::default().byte(0), said);
        let voter = elections().fold(Seed::default().byte(1), said);
        let fresh = elections().fold(Seed::default().byte(2), said);
        let late =
            leads().fold(Seed::default().byte(0), |seed, message| said(seed, message).byte(4).word(3_500));
        [lead, twice, voter, fresh, late].map(|seed| seed.0).to_vec()
    }

    pub(crate) fn extremes() -> Vec<Vec<u8>> {
        let (lead, elections): (Vec<_>, Vec<_>) = samples::control()
            .into_iter()
            .filter(|message| message.addressee() == Addressee::Lead)
            .partition(|message| !matches!(message, ControlMessage::Election(_)));
        let soon = |seed: Seed| seed.byte(4).word(50);
        let late = |seed: Seed| seed.byte(4).word(1_200);
        [
            extreme_stories(&Seed::default().byte(0), &lead, &soon),
            extreme_stories(&Seed::default().byte(1), &elections, &soon),
            extreme_stories(&Seed::default().byte(1), &elections, &late),
        ]
        .concat()
    }
}
