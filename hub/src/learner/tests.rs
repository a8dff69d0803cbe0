use codeco_protocol::gossip::{HORIZON, LoadFact, LoadSeries, WINDOW};
use codeco_protocol::ids::MemberId;

use super::*;

const STEP_MS: u32 = 1_000;

/// A load that comes and goes every sixteen steps, with a little noise.
fn load(node: u64, step: u64) -> u16 {
    let phase = ((step + 5 * node) % 16) as f64 / 16.0;
    let noise = (step.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ node.wrapping_mul(0xD6E8_FEB8_6659_FD93)) >> 58;
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let wave = (450.0 + 300.0 * (phase * std::f64::consts::TAU).sin()) as u16;
    wave + u16::try_from(noise).unwrap()
}

fn fact(node: u64, newest: u64) -> LoadFact {
    let window = (newest + 1 - WINDOW as u64..=newest).map(|step| load(node, step)).collect();
    let series = LoadSeries { window, season: vec![], mean: 480, median: 480 };
    LoadFact { step_ms: STEP_MS, newest, cpu: series.clone(), memory: series }
}

fn learner(seed: u64) -> Learner {
    let training = TrainingConfig { seed, steps: 240, batch: 32, ..TrainingConfig::default() };
    Learner::new(LearnerConfig { step_ms: STEP_MS, training }, None)
}

/// Feeds steps until something is published.
fn taught(learner: &mut Learner, from: u64, seen: u64) -> ModelFact {
    for newest in from..from + 400 {
        for node in 0..3 {
            learner.dataset().take(MemberId(node.into()), &fact(node, newest));
        }
        for _ in 0..40 {
            if let Some(fact) = learner.work(WallTime(newest), seen) {
                return fact;
            }
        }
    }
    panic!("nothing was published: {}", learner.status().doing);
}

#[test]
fn learner_taught_a_wave_beats_every_baseline_and_the_same_seed_gives_the_same_weights() {
    let mut first = learner(7);
    let fact = taught(&mut first, 1_000, 4);
    assert_eq!(fact.version, 5, "above what leads have seen");
    let loss = |name: &str| fact.losses.iter().find(|(n, _)| n == name).map(|(_, loss)| *loss);
    let ours = loss("model").unwrap();
    for baseline in ["last", "mean", "ewma"] {
        assert!(ours * 2 < loss(baseline).unwrap(), "{:?}", fact.losses);
    }
    assert_eq!(loss("seasonal"), None, "no season is known");
    assert!(Forecaster::decode(&fact).is_ok());
    assert_eq!(taught(&mut learner(7), 1_000, 4).checksum, fact.checksum);
    assert_ne!(taught(&mut learner(8), 1_000, 4).checksum, fact.checksum);
}

#[test]
fn dataset_takes_only_what_is_news_and_sound_and_stays_bounded() {
    let mut dataset = Dataset::new(STEP_MS);
    for newest in 1_000..1_030 {
        dataset.take(MemberId(1), &fact(1, newest));
        dataset.take(MemberId(1), &fact(1, newest));
        dataset.take(MemberId(2), &LoadFact { step_ms: 7, ..fact(2, newest) });
        let mut lying = fact(3, newest);
        lying.cpu.window[0] = 1_001;
        dataset.take(MemberId(3), &lying);
    }
    assert_eq!((dataset.len(), dataset.nodes()), (2 * (30 - HORIZON), 1));
    // After a gap longer than a window shows, nothing is made up.
    let before = dataset.len();
    dataset.take(MemberId(1), &fact(1, 1_100));
    assert_eq!(dataset.len(), before);
    for newest in 2_000..2_000 + dataset::EXAMPLES_MAX as u64 {
        dataset.take(MemberId(1), &fact(1, newest));
    }
    assert_eq!(dataset.len(), dataset::EXAMPLES_MAX);
}

#[test]
fn training_does_not_grow_in_memory() {
    let resident = || {
        let status = std::fs::read_to_string("/proc/self/statm").unwrap();
        status.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4_096
    };
    let mut dataset = Dataset::new(STEP_MS);
    for newest in 1_000..1_200 {
        dataset.take(MemberId(1), &fact(1, newest));
    }
    let (train, validation) = dataset.split(5);
    let config = TrainingConfig { steps: 2_000, batch: 16, ..TrainingConfig::default() };
    let mut training = Training::new(config, &train, validation.into());
    training.run(300);
    let before = resident();
    training.run(1_000);
    let grown = resident().saturating_sub(before);
    println!("resident memory after 1,000 further steps: {} KiB more", grown / 1_024);
    assert!(grown < 8 << 20, "{grown} bytes more");
}
