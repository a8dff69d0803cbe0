//! What the membership promises, played for several seeds and sizes.

use codeco_protocol::gossip::RingConfig;
use codeco_simulations::membership::{CHURN, Effort, Row, run};

/// More of it: `cargo run --release -p codeco-simulations --bin membership -- --nodes 10,100,1000`.
const EFFORT: Effort = Effort { kills: 4, minutes: 1 };

/// Period, window and grace one after the other, and some time for the news to spread: no kill may take longer.
fn bound(config: RingConfig) -> f64 {
    let micros = config.period.0 + config.window.0 + config.grace.0;
    #[allow(clippy::cast_precision_loss)]
    let seconds = micros as f64 / 1e6;
    seconds + 1.0
}

fn check(nodes: usize, config: RingConfig, seed: u64) {
    for row in run(nodes, config, seed, EFFORT) {
        let Row { scenario, seconds, false_deaths, .. } = &row;
        let setting = format!("{scenario}, {nodes} members, seed {seed}: {seconds:?}");
        assert_eq!(*false_deaths, 0, "{setting}");
        if scenario.starts_with("kill") {
            assert_eq!(seconds.len(), EFFORT.kills, "every kill is noticed by all: {setting}");
            assert!(row.quantile(1.0) <= Some(bound(config)), "{setting}");
        }
        if *scenario == "churn" {
            assert_eq!(seconds.len(), EFFORT.kills * CHURN, "every kill is noticed by all: {setting}");
            assert!(row.quantile(1.0) <= Some(bound(config)), "{setting}");
        }
        if scenario.starts_with("join") || scenario.starts_with("halves") {
            assert_eq!(seconds.len(), 1, "it ends: {setting}");
        }
    }
}

#[test]
fn membership_notices_every_kill_and_wrongs_nobody_on_a_fast_network() {
    for seed in 1..=2 {
        check(10, RingConfig::lan(), seed);
    }
    check(24, RingConfig::lan(), 3);
}

#[test]
fn membership_notices_every_kill_and_wrongs_nobody_with_few_bytes() {
    check(10, RingConfig::metered(), 1);
}

#[test]
fn membership_is_the_same_for_a_seed() {
    assert_eq!(run(5, RingConfig::lan(), 9, EFFORT), run(5, RingConfig::lan(), 9, EFFORT));
}
