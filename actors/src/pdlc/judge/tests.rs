use codeco_protocol::gossip::LoadSeries;
use proptest::prelude::*;

use super::*;
use crate::pdlc::forecaster::{OUTPUTS, WEIGHTS};
use crate::pdlc::outlook::INPUTS;

const STEP_MS: u32 = 1_000;
const PERIOD: u64 = 12;

/// A load that comes again every twelve steps, as long as the horizon: a model that repeats the lag is perfect.
fn wave(step: u64) -> u16 {
    if step % PERIOD < 6 { 200 } else { 700 }
}

fn model_fact(version: u64, values: Vec<f32>) -> ModelFact {
    let (artefact, checksum) = Forecaster::new(values).unwrap().encode().unwrap();
    ModelFact {
        version,
        artefact,
        checksum,
        at: WallTime(0),
        windows: 1,
        nodes: 1,
        step_ms: STEP_MS,
        losses: vec![],
        doing: String::new(),
    }
}

/// P50 of step h is what was there twelve steps before it; the P95 is hardly above it.
fn repeating() -> Vec<f32> {
    let mut values = vec![0.0; WEIGHTS];
    for h in 0..HORIZON {
        values[(WINDOW - HORIZON + h) * OUTPUTS + h] = 1.0;
        values[INPUTS * OUTPUTS + HORIZON + h] = -4.0;
    }
    values
}

struct Stage {
    judge: Judge,
    step: u64,
    notes: Vec<String>,
}

impl Stage {
    fn new(learning: Learning) -> Self {
        let judge = Judge::new(learning, ClusterName::new("edge-1").unwrap(), STEP_MS, WallTime(0));
        Self { judge, step: 1_000, notes: Vec::new() }
    }

    fn fact(&self, load: impl Fn(u64) -> u16) -> LoadFact {
        let newest = self.step - 1;
        let window = (newest + 1 - WINDOW as u64..=newest).map(load).collect();
        let cpu = LoadSeries { window, season: vec![], mean: 450, median: 450 };
        let memory = LoadSeries { window: vec![300; WINDOW], season: vec![], mean: 300, median: 300 };
        LoadFact { step_ms: STEP_MS, newest, cpu, memory }
    }

    fn run(&mut self, steps: u64, model: Option<&ModelFact>, load: impl Fn(u64) -> u16) {
        for _ in 0..steps {
            self.step += 1;
            let fact = self.fact(&load);
            let seen = [Seen { node: MemberId(1), name: "n1", fact: &fact }];
            let now = WallTime(self.step * u64::from(STEP_MS) + 7);
            let told = self.judge.observe(now, &seen, model);
            self.notes.extend(told.into_iter().map(|(_, text)| text));
        }
    }

    fn now(&self) -> WallTime {
        WallTime(self.step * u64::from(STEP_MS) + 7)
    }

    fn state(&self) -> GateState {
        self.judge.fact().state
    }
}

#[test]
fn model_is_promoted_after_it_has_won_and_rolled_back_when_the_load_becomes_another() {
    let mut stage = Stage::new(Learning::On);
    let model = model_fact(3, repeating());
    stage.run(10, None, wave);
    assert_eq!(stage.state(), GateState::NoModel);
    stage.run(20, Some(&model), wave);
    assert_eq!(stage.state(), GateState::Shadow, "not yet: {:?}", stage.notes);
    assert_eq!(stage.judge.peaks(stage.now()), None);
    stage.run(10, Some(&model), wave);
    assert_eq!(stage.state(), GateState::Active, "{:?}", stage.judge.fact());
    assert!(stage.judge.label().contains("load-forecast/3, active"));
    let peak = stage.judge.peaks(stage.now()).unwrap()[&MemberId(1)];
    assert!((0.65..0.9).contains(&peak.cpu) && (0.28..0.4).contains(&peak.memory), "{peak:?}");

    // The hub is gone, the model stays.
    stage.run(30, None, wave);
    assert_eq!(stage.state(), GateState::Active);

    let noise = |step: u64| u16::try_from((step.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) % 1_000).unwrap();
    stage.run(30, None, noise);
    assert_eq!(stage.state(), GateState::Shadow, "{:?}", stage.judge.fact());
    assert_eq!(stage.judge.peaks(stage.now()), None);
    assert!(stage.notes.last().unwrap().starts_with("model 3 is rolled back: "), "{:?}", stage.notes);
}

#[test]
fn summary_that_is_nonsense_rolls_the_model_back_at_once_and_its_node_has_no_forecast() {
    let mut stage = Stage::new(Learning::On);
    let model = model_fact(1, repeating());
    stage.run(60, Some(&model), wave);
    assert_eq!(stage.state(), GateState::Active);
    stage.run(1, None, |_| 60_000);
    assert_eq!(stage.state(), GateState::Shadow);
    let told = stage.notes.join("\n");
    assert!(
        told.contains("node n1 is nonsense: cpu: found a load of 60000 ‰, expected 0 to 1000 ‰"),
        "{told}"
    );
    stage.run(40, None, |_| 60_000);
    assert_eq!(stage.state(), GateState::Shadow);
    assert_eq!(stage.notes.iter().filter(|note| note.contains("nonsense")).count(), 2, "{:?}", stage.notes);
    stage.run(60, None, wave);
    assert_eq!(stage.state(), GateState::Active, "sound again, proven anew");
}

#[test]
fn model_that_does_not_win_stays_in_shadow_and_a_better_one_takes_its_turn() {
    let mut stage = Stage::new(Learning::On);
    stage.run(80, Some(&model_fact(1, vec![0.0; WEIGHTS])), wave);
    assert_eq!(stage.state(), GateState::Shadow);
    assert!(stage.judge.fact().reason.contains("does not win"), "{}", stage.judge.fact().reason);
    stage.run(60, Some(&model_fact(2, repeating())), wave);
    assert_eq!((stage.state(), stage.judge.fact().version), (GateState::Active, 2));
    // A newer one that is worse is judged beside it and changes nothing.
    stage.run(80, Some(&model_fact(3, vec![0.0; WEIGHTS])), wave);
    let fact = stage.judge.fact();
    assert_eq!((fact.state, fact.version, fact.trial), (GateState::Active, 2, Some(3)));
}

#[test]
fn damaged_model_is_refused_once_and_learning_kept_in_shadow_or_off_never_counts() {
    let mut broken = model_fact(5, repeating());
    broken.artefact[50] ^= 1;
    let mut stage = Stage::new(Learning::On);
    stage.run(5, Some(&broken), wave);
    assert_eq!(stage.notes.len(), 1, "{:?}", stage.notes);
    assert!(stage.notes[0].starts_with("model 5 is refused: checksum"));
    for learning in [Learning::Shadow, Learning::Off] {
        let mut stage = Stage::new(learning);
        stage.run(100, Some(&model_fact(1, repeating())), wave);
        assert_eq!(stage.judge.peaks(stage.now()), None);
        let expected = if learning == Learning::Off { GateState::Off } else { GateState::Shadow };
        assert_eq!(stage.state(), expected);
        assert_eq!(stage.judge.label().is_empty(), learning == Learning::Off);
    }
}

#[test]
fn node_that_falls_silent_has_no_forecast() {
    let mut stage = Stage::new(Learning::On);
    stage.run(60, Some(&model_fact(1, repeating())), wave);
    assert_eq!(stage.judge.peaks(stage.now()).unwrap().len(), 1);
    stage.step += 5;
    assert_eq!(stage.judge.peaks(stage.now()).unwrap().len(), 0, "still active, nothing known");
}

proptest! {
    #[test]
    fn judge_fed_anything_stays_bounded_and_what_it_advises_is_finite(
        facts in proptest::collection::vec((0_u64..200, 0_u64..3, 0_u16..1_200, any::<bool>()), 1..120),
    ) {
        let mut stage = Stage::new(Learning::On);
        let model = model_fact(1, repeating());
        for (ahead, node, load, whole) in facts {
            let mut fact = stage.fact(|step| (wave(step) + load) % 1_100);
            fact.newest = fact.newest.wrapping_add(ahead).wrapping_sub(100);
            if !whole {
                fact.memory.window.pop();
            }
            stage.step += 1;
            let seen = [Seen { node: MemberId(node.into()), name: "n", fact: &fact }];
            stage.judge.observe(stage.now(), &seen, Some(&model));
            let known = stage.judge.nodes.values().map(|node| node.made.len()).max().unwrap_or(0);
            prop_assert!(known <= HORIZON + 1);
            prop_assert!(stage.judge.fact().check().is_ok());
            for peak in stage.judge.peaks(stage.now()).into_iter().flatten() {
                prop_assert!(peak.1.cpu.is_finite() && peak.1.memory.is_finite());
            }
        }
    }
}
