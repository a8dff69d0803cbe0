//! What members tell each other so that loads can be forecast: clipped summaries from nodes, weights from the hub, and
//! from each lead how far it trusts them. All of it is input from a wire: whoever reads it checks it first.

use bincode::{Decode, Encode};

use crate::ids::ClusterName;
use crate::units::WallTime;
use crate::wire::WireMessage;

/// Steps of the past in one summary.
pub const WINDOW: usize = 24;
/// Steps of the future that are forecast.
pub const HORIZON: usize = 12;
/// A whole: shares are told in thousandths, and clipped to this.
pub const WHOLE: u16 = 1_000;
/// Longest artefact, in bytes.
pub const ARTEFACT_MAX: usize = 48 << 10;
/// Longest sentence in one of these facts, in bytes.
const TEXT_MAX: usize = 300;
/// Most figures in one of these facts.
const LOSSES_MAX: usize = 8;

/// Why something of this module cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: found {found}, expected {expected}")]
pub struct LearningError {
    /// Which field.
    pub field: &'static str,
    /// What is there.
    pub found: String,
    /// What should be.
    pub expected: String,
}

// Numbers and literals, most of them.
#[allow(clippy::needless_pass_by_value)]
fn wrong(field: &'static str, found: impl ToString, expected: impl ToString) -> LearningError {
    LearningError { field, found: found.to_string(), expected: expected.to_string() }
}

/// The load of one resource of a node, as shares of its capacity in thousandths.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode)]
pub struct LoadSeries {
    /// The last [`WINDOW`] steps, oldest first.
    pub window: Vec<u16>,
    /// The [`HORIZON`] steps that followed this time one season ago; empty if nobody knows.
    pub season: Vec<u16>,
    /// Mean over all that the node remembers.
    pub mean: u16,
    /// Median over the same.
    pub median: u16,
}

impl LoadSeries {
    fn check(&self, field: &'static str) -> Result<(), LearningError> {
        if self.window.len() != WINDOW {
            return Err(wrong(field, format!("{} steps", self.window.len()), format!("{WINDOW} steps")));
        }
        if !self.season.is_empty() && self.season.len() != HORIZON {
            let found = format!("{} steps of a season", self.season.len());
            return Err(wrong(field, found, format!("{HORIZON} or none")));
        }
        let all = self.window.iter().chain(&self.season).chain([&self.mean, &self.median]);
        match all.into_iter().find(|share| **share > WHOLE) {
            Some(share) => Err(wrong(field, format!("a load of {share} ‰"), format!("0 to {WHOLE} ‰"))),
            None => Ok(()),
        }
    }
}

/// A node about its load.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct LoadFact {
    /// Length of a step, in milliseconds.
    pub step_ms: u32,
    /// Number of the last step in the windows: its start on the wall clock, divided by the step.
    pub newest: u64,
    /// Processor.
    pub cpu: LoadSeries,
    /// Memory.
    pub memory: LoadSeries,
}

impl LoadFact {
    /// Checks lengths and ranges.
    ///
    /// # Errors
    /// [`LearningError`] names the field.
    pub fn check(&self) -> Result<(), LearningError> {
        if self.step_ms == 0 {
            return Err(wrong("step", 0, "at least 1 ms"));
        }
        self.cpu.check("cpu")?;
        self.memory.check("memory")
    }
}

/// A figure of merit by name, in millionths: mean pinball loss in shares.
pub type LossPpm = (String, u32);

fn check_texts(text: &str, losses: &[LossPpm]) -> Result<(), LearningError> {
    if text.len() > TEXT_MAX {
        return Err(wrong("text", format!("{} bytes", text.len()), format!("at most {TEXT_MAX}")));
    }
    if losses.len() > LOSSES_MAX || losses.iter().any(|(name, _)| name.len() > 32) {
        return Err(wrong("losses", format!("{} entries", losses.len()), "at most 8 with short names"));
    }
    Ok(())
}

/// The weights of a model, as they travel and as they lie on disk.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub struct Weights {
    /// Inputs.
    pub inputs: u16,
    /// Hidden units.
    pub hidden: u16,
    /// Steps ahead.
    pub horizon: u16,
    /// Matrices and vectors, row by row.
    pub values: Vec<f32>,
}

impl WireMessage for Weights {
    const KIND: u16 = 80;
    const MAX_LEN: usize = ARTEFACT_MAX;
}

/// A model, in the words of the hub that trained it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct ModelFact {
    /// Grows with each that is published; 0 while there is none.
    pub version: u64,
    /// An encoded [`Weights`]; empty while there is none.
    pub artefact: Vec<u8>,
    /// CRC-32 of the artefact.
    pub checksum: u32,
    /// When it was published.
    pub at: WallTime,
    /// Windows it was trained on.
    pub windows: u32,
    /// Nodes these came from.
    pub nodes: u32,
    /// Length of a step, in milliseconds.
    pub step_ms: u32,
    /// Its loss and that of each baseline, on windows it was not trained on.
    pub losses: Vec<LossPpm>,
    /// What the learner does now.
    pub doing: String,
}

impl ModelFact {
    /// Checks all but the weights themselves.
    ///
    /// # Errors
    /// [`LearningError`] names the field.
    pub fn check(&self) -> Result<(), LearningError> {
        if self.artefact.len() > ARTEFACT_MAX {
            let found = format!("{} bytes", self.artefact.len());
            return Err(wrong("artefact", found, format!("at most {ARTEFACT_MAX}")));
        }
        check_texts(&self.doing, &self.losses)
    }
}

impl WireMessage for ModelFact {
    const KIND: u16 = 81;
    const MAX_LEN: usize = 64 << 10;
}

/// How far a lead trusts forecasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub enum GateState {
    /// Learning is switched off here.
    Off,
    /// There is no model to judge.
    NoModel,
    /// Forecasts are made and judged, and change nothing.
    Shadow,
    /// Forecasts are a part of scores.
    Active,
}

/// The gate of a cluster, in the words of its lead.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct GateFact {
    /// The cluster.
    pub cluster: ClusterName,
    /// How it stands.
    pub state: GateState,
    /// Version of the model that is active, or judged if none is.
    pub version: u64,
    /// Version of a newer model that is judged beside the active one.
    pub trial: Option<u64>,
    /// Since when it stands so.
    pub since: WallTime,
    /// Why.
    pub reason: String,
    /// Rounds of forecasts that have come due and are remembered.
    pub rounds: u32,
    /// Loss of the model and of each baseline over these.
    pub losses: Vec<LossPpm>,
    /// Share of loads at or below their forecast P95, in thousandths.
    pub coverage: u16,
}

impl GateFact {
    /// Checks lengths.
    ///
    /// # Errors
    /// [`LearningError`] names the field.
    pub fn check(&self) -> Result<(), LearningError> {
        check_texts(&self.reason, &self.losses)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire;

    fn fact() -> LoadFact {
        let series = LoadSeries { window: vec![1_000; WINDOW], season: vec![], mean: 0, median: 10 };
        LoadFact { step_ms: 300_000, newest: 7, cpu: series.clone(), memory: series }
    }

    #[test]
    fn summary_out_of_range_or_of_the_wrong_length_is_refused_and_its_field_named() {
        assert_eq!(fact().check(), Ok(()));
        let mut lying = fact();
        lying.memory.window[3] = 1_001;
        let error = lying.check().unwrap_err().to_string();
        assert_eq!(error, "memory: found a load of 1001 ‰, expected 0 to 1000 ‰");
        let mut short = fact();
        short.cpu.window.pop();
        assert!(short.check().unwrap_err().to_string().starts_with("cpu: found 23 steps"));
        let mut season = fact();
        season.cpu.season = vec![1; 3];
        assert!(season.check().is_err());
        assert!(LoadFact { step_ms: 0, ..fact() }.check().is_err());
    }

    #[test]
    fn weights_have_the_golden_bytes_of_version_one_and_claims_of_length_are_not_believed() {
        let weights = Weights { inputs: 1, hidden: 2, horizon: 3, values: vec![1.0, -2.0] };
        let frame = wire::encode(&weights).unwrap();
        let golden = [80, 0, 0, 0, 12, 0, 0, 0, 1, 2, 3, 2, 0, 0, 0x80, 0x3f, 0, 0, 0, 0xc0];
        assert_eq!(frame, golden);
        assert_eq!(wire::decode::<Weights>(&golden).unwrap(), weights);
        let mut claims = golden;
        claims[11] = 250;
        assert!(wire::decode::<Weights>(&claims).is_err());
    }
}
