//! The PDLC learner: trains a load forecaster from the summaries of nodes, and publishes it.
//!
//! [`Dataset`] turns summaries into examples, [`Training`] is a hand-written loop over tensors of burn, [`Learner`] owns
//! both and does a slice of work at a time, [`learner_child`] is its actor.

mod actor;
mod dataset;
mod training;

use std::sync::Arc;

use codeco_actors::pdlc::baseline::{BASELINES, baselines};
use codeco_actors::pdlc::forecaster::Forecaster;
use codeco_actors::pdlc::judge::losses;
use codeco_actors::pdlc::loss::loss;
use codeco_protocol::gossip::ModelFact;
use codeco_protocol::units::WallTime;

pub use actor::{LearnerMessage, learner_child};
pub use dataset::{Dataset, Example};
pub use training::{Training, TrainingConfig};

/// Examples before anything is trained.
pub const EXAMPLES_MIN: usize = 300;
/// One in so many examples, the newest, is kept for validation.
const VALIDATION_ONE_IN: usize = 5;
/// Steps of training between two looks at the mailbox.
const SLICE: u32 = 10;

/// How a learner works.
#[derive(Debug, Clone)]
pub struct LearnerConfig {
    /// Length of a step of load, in milliseconds.
    pub step_ms: u32,
    /// The loop.
    pub training: TrainingConfig,
}

/// See the module.
#[derive(Debug)]
pub struct Learner {
    config: LearnerConfig,
    dataset: Dataset,
    under_way: Option<UnderWay>,
    published: Option<ModelFact>,
    /// Examples ever seen when the last training began.
    trained_at: u64,
    runs: u64,
    doing: String,
}

#[derive(Debug)]
struct UnderWay {
    training: Training,
    validation: Arc<[Example]>,
    windows: usize,
    nodes: usize,
}

impl Learner {
    /// Nothing learned yet; `published` is what an earlier life of the hub has published.
    #[must_use]
    pub fn new(config: LearnerConfig, published: Option<ModelFact>) -> Self {
        let dataset = Dataset::new(config.step_ms);
        let doing = String::from("waits for the first summaries");
        Self { config, dataset, under_way: None, published, trained_at: 0, runs: 0, doing }
    }

    /// What nodes have told.
    pub fn dataset(&mut self) -> &mut Dataset {
        &mut self.dataset
    }

    /// Does a slice of work. Returns a model that is worth publishing under a version above `versions_seen`.
    pub fn work(&mut self, now: WallTime, versions_seen: u64) -> Option<ModelFact> {
        if self.under_way.is_none() {
            self.begin();
        }
        let UnderWay { training, .. } = self.under_way.as_mut()?;
        if !training.run(SLICE) {
            return None;
        }
        let done = self.under_way.take()?;
        let version = self.published.as_ref().map_or(0, |fact| fact.version).max(versions_seen) + 1;
        let fact = self.conclude(now, version, done)?;
        self.published = Some(fact.clone());
        Some(fact)
    }

    fn begin(&mut self) {
        let (have, seen) = (self.dataset.len(), self.dataset.seen());
        if have < EXAMPLES_MIN {
            // Told in steps, so that it is not spread with every example.
            let told = have / 50 * 50;
            self.doing = format!("collects: more than {told} of {EXAMPLES_MIN} examples");
            return;
        }
        let news = seen - self.trained_at;
        if self.trained_at > 0 && news < (have as u64 / 2).max(EXAMPLES_MIN as u64) {
            return;
        }
        self.trained_at = seen;
        self.runs += 1;
        let (train, validation) = self.dataset.split(VALIDATION_ONE_IN);
        self.doing = format!("trains on {} examples of {} nodes", train.len(), self.dataset.nodes());
        let mut config = self.config.training.clone();
        config.seed = config.seed.wrapping_add(self.runs);
        let validation: Arc<[Example]> = validation.into();
        let training = Training::new(config, &train, Arc::clone(&validation));
        let (windows, nodes) = (train.len(), self.dataset.nodes());
        self.under_way = Some(UnderWay { training, validation, windows, nodes });
    }

    /// What came of a training. Nothing is published that is worse, on the same examples, than what already is.
    fn conclude(&mut self, now: WallTime, version: u64, done: UnderWay) -> Option<ModelFact> {
        let UnderWay { training, validation, windows, nodes } = done;
        let Some(model) = training.finish() else {
            self.doing = "the last training ended in no sound weights; waits for more examples".into();
            return None;
        };
        let (ours, theirs) = judged(&model, &validation);
        let before = self.published.as_ref().and_then(|fact| Forecaster::decode(fact).ok());
        if let Some(before) =
            before.filter(|_| self.published.as_ref().is_some_and(|f| f.step_ms == self.config.step_ms))
        {
            let (old, _) = judged(&before, &validation);
            if old <= ours {
                self.doing = "the last training gave nothing better; waits for more examples".into();
                return None;
            }
        }
        let (artefact, checksum) = model.encode().ok()?;
        self.doing = "waits for more examples".into();
        Some(ModelFact {
            version,
            artefact,
            checksum,
            at: now,
            windows: u32::try_from(windows).unwrap_or(u32::MAX),
            nodes: u32::try_from(nodes).unwrap_or(u32::MAX),
            step_ms: self.config.step_ms,
            losses: losses(ours, &theirs),
            doing: String::new(),
        })
    }

    /// What it does now, without weights.
    #[must_use]
    pub fn status(&self) -> ModelFact {
        let empty = ModelFact {
            version: 0,
            artefact: Vec::new(),
            checksum: 0,
            at: WallTime(0),
            windows: 0,
            nodes: 0,
            step_ms: self.config.step_ms,
            losses: Vec::new(),
            doing: String::new(),
        };
        let last = self.published.clone().unwrap_or(empty);
        ModelFact { artefact: Vec::new(), checksum: 0, doing: self.doing.clone(), ..last }
    }

    /// What was published last.
    #[must_use]
    pub fn published(&self) -> Option<&ModelFact> {
        self.published.as_ref()
    }
}

/// Mean losses of a model and of each baseline that is known for all `examples`.
#[must_use]
pub fn judged(model: &Forecaster, examples: &[Example]) -> (f64, [Option<f64>; BASELINES.len()]) {
    #[allow(clippy::cast_precision_loss)]
    let count = examples.len().max(1) as f64;
    let ours: f64 = examples
        .iter()
        .map(|example| model.forecast(&example.past).map_or(f64::NAN, |f| loss(&f, &example.actual).0))
        .sum();
    let theirs = std::array::from_fn(|at| {
        let losses = examples.iter().map(|example| {
            let forecast = baselines(&example.past)[at]?;
            Some(loss(&forecast, &example.actual).0)
        });
        losses.sum::<Option<f64>>().map(|sum| sum / count)
    });
    (ours / count, theirs)
}

#[cfg(test)]
mod tests;
