//! The home of applications.

use codeco_actors::swm::home::{ClusterFacts, Home, HomeConfig, HomeInput, HomeOutput, HomeRecord};
use codeco_protocol::ids::MemberId;
use codeco_protocol::units::{BootTime, Micros};

use crate::samples;

fn config() -> HomeConfig {
    HomeConfig::new(samples::OWN, 7)
}

/// Clusters that could take something, each led by its own member.
fn clusters() -> HomeInput {
    let facts = |(name, lead): (&str, MemberId)| ClusterFacts {
        name: samples::cluster(name),
        lead,
        term: samples::term(1, lead),
        capacity: samples::resources(8_000),
        free: samples::resources(8_000),
        labels: Default::default(),
        round_trip: Some(Micros(300)),
        coordinate: None,
        age: Micros(0),
        reachable: true,
        traits: Default::default(),
    };
    HomeInput::Clusters([("c", samples::OTHER), ("d", MemberId(3)), ("e", MemberId(4))].map(facts).to_vec())
}

/// From any records.
pub(crate) mod recover_home {
    use super::{BootTime, Home, HomeInput, HomeRecord, clusters, config, samples};
    use crate::cores::{extreme_records, records};
    use crate::input::Seed;

    pub(crate) fn run(data: &[u8]) {
        let journal = records::<HomeRecord>(data);
        let mut home = Home::recover(config(), &journal);
        let snapshot = home.snapshot();
        let again = Home::recover(config(), &snapshot);
        let apps =
            |home: &Home| home.apps().map(|(uid, app)| (uid, app.epoch, app.generation)).collect::<Vec<_>>();
        assert_eq!(apps(&again), apps(&home), "no application is lost by compaction");
        let mut out = Vec::new();
        for (at, input) in
            [(1, clusters()), (2, HomeInput::Keepers(vec![samples::OTHER])), (3_000, HomeInput::Tick)]
        {
            home.handle(BootTime(at * 1_000), input, &mut out);
        }
        let _ = home.next_tick(BootTime(1));
        for (uid, _) in home.apps() {
            let _ = Home::app_of(uid, &home.records_of(uid), &[]);
        }
    }

    pub(crate) fn seeds() -> Vec<Vec<u8>> {
        let all = samples::home_records();
        let seed = |records: &[HomeRecord]| records.iter().fold(Seed::default(), Seed::message).0;
        vec![seed(&all), seed(&all[..6]), seed(&all[..1]), seed(&all[13..])]
    }

    pub(crate) fn extremes() -> Vec<Vec<u8>> {
        extreme_records(&samples::home_records())
    }
}

/// With an application, told anything.
pub(crate) mod play_home {
    use codeco_actors::swm::home::Others;
    use codeco_protocol::messages::{Addressee, ControlMessage};
    use codeco_protocol::units::WallTime;

    use super::{BootTime, Home, HomeInput, HomeOutput, clusters, config, samples};
    use crate::cores::{STEPS_MAX, extreme_stories, member, messages, pass};
    use crate::input::{Input, Seed};

    pub(crate) fn run(data: &[u8]) {
        let mut input = Input::new(data);
        let mut home = Home::recover(config(), &[]);
        let (mut now, mut out) = (BootTime(1_000_000), Vec::new());
        home.handle(now, clusters(), &mut out);
        home.handle(now, HomeInput::Keepers(vec![samples::OTHER, member(3)]), &mut out);
        let _ = home.apply(now, WallTime(1), samples::app_spec(), &mut out);
        let mut journal = Vec::new();
        for _ in 0..STEPS_MAX {
            match input.byte() % 6 {
                0..=2 => {
                    let from = member(input.byte());
                    for message in messages(&mut input) {
                        home.handle(now, told(from, message), &mut out);
                    }
                }
                3 => {
                    pass(&mut now, &mut input);
                    home.handle(now, HomeInput::Tick, &mut out);
                }
                4 => {
                    let alive = input.byte();
                    let alive = (0..6).filter(|n| alive & (1 << n) != 0).map(member).collect();
                    home.handle(now, HomeInput::Others(Others { alive, ..Others::default() }), &mut out);
                }
                _ => {
                    let mut spec = samples::app_spec();
                    spec.services[0].replicas = u32::from(input.byte() % 4);
                    let _ = home.apply(now, WallTime(1), spec, &mut out);
                }
            }
            for output in out.drain(..) {
                if let HomeOutput::Journal(record) = output {
                    journal.push(record);
                }
            }
            if input.is_empty() {
                break;
            }
        }
        let revived = Home::recover(config(), &journal);
        let apps = |home: &Home| {
            let app = |(uid, app): (_, &codeco_actors::swm::home::App)| {
                (uid, app.epoch, app.generation, app.deleting)
            };
            home.apps().map(app).collect::<Vec<_>>()
        };
        assert_eq!(apps(&revived), apps(&home), "what was said is on disk");
    }

    fn told(from: codeco_protocol::ids::MemberId, message: ControlMessage) -> HomeInput {
        let of_copies = matches!(
            message,
            ControlMessage::Keep { .. } | ControlMessage::Kept { .. } | ControlMessage::Drop { .. }
        );
        if of_copies || message.addressee() != Addressee::Home {
            return HomeInput::Copy { from, message };
        }
        let name = ["c", "d", "e"][usize::try_from(from.0 % 3).unwrap_or(0)];
        let cluster = samples::cluster(if from == samples::OTHER { "c" } else { name });
        HomeInput::Message { from, cluster, message }
    }

    pub(crate) fn seeds() -> Vec<Vec<u8>> {
        let said = |seed: Seed, message: &ControlMessage| {
            seed.byte(0).byte(1).message(&samples::batch(vec![message.clone()]))
        };
        let all = samples::control();
        let homes: Vec<_> = all.iter().filter(|message| message.addressee() == Addressee::Home).collect();
        let wait = |seed: Seed| seed.byte(3).word(400);
        let story = homes.iter().fold(wait(Seed::default()), |seed, message| wait(said(seed, message)));
        let adopted = homes.iter().filter(|message| matches!(message, ControlMessage::Keep { .. }));
        let adopted = adopted
            .fold(Seed::default(), |seed, message| said(seed, message))
            .byte(4)
            .byte(1)
            .byte(3)
            .word(61_000)
            .byte(4)
            .byte(1)
            .byte(3)
            .word(65_000);
        let scaled = wait(wait(story.clone()).byte(5).byte(1)).byte(5).byte(3);
        let nested = said(Seed::default(), &samples::keep(samples::nested_copies(400)));
        [story, adopted, scaled, nested].map(|seed| seed.0).to_vec()
    }

    pub(crate) fn extremes() -> Vec<Vec<u8>> {
        let all = samples::control();
        let homes: Vec<_> =
            all.into_iter().filter(|message| message.addressee() == Addressee::Home).collect();
        let before = Seed::default().byte(3).word(400);
        extreme_stories(&before, &homes, &|seed| seed.byte(3).word(400).byte(5).byte(1).byte(5).byte(3))
    }
}
