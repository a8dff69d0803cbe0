//! Models that forecast load, and the gates of clusters that let them count.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ids::ClusterName;
use crate::units::WallTime;

/// How a gate stands, or that a row is about a learner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum ModelState {
    /// Learning is switched off there.
    Off,
    /// There is no model to judge yet.
    NoModel,
    /// Forecasts are made and judged, and change nothing.
    Shadow,
    /// Forecasts are a part of scores.
    Active,
    /// The row is about the hub that trains.
    Learner,
}

/// How much a forecast misses by: mean pinball loss of P50 and P95, in shares of capacity.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LossView {
    /// `model`, or a baseline.
    pub name: String,
    /// The loss.
    pub loss: f64,
}

/// A model where it is trained, or where it is judged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModelView {
    /// The cluster, or the hub's name.
    pub place: String,
    /// The cluster, if the row is about a gate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub cluster: Option<ClusterName>,
    /// What it forecasts.
    pub model: String,
    /// Its version; 0 while there is none.
    pub version: u64,
    /// A newer one, judged beside it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trial: Option<u64>,
    /// How it stands.
    pub state: ModelState,
    /// Since when; for a learner, when it last published.
    pub since: WallTime,
    /// Why, or what the learner does.
    pub reason: String,
    /// Steps whose forecasts have come due and are remembered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rounds: Option<u32>,
    /// Share of loads at or below their forecast P95.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coverage: Option<f64>,
    /// Windows it was trained on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub windows: Option<u32>,
    /// Nodes these came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<u32>,
    /// Length of a step, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step_ms: Option<u32>,
    /// Its loss and that of each baseline: of a gate on forecasts that have come due, of a learner on windows it was not
    /// trained on.
    #[serde(default)]
    pub losses: Vec<LossView>,
    /// Age of this view.
    pub age_ms: u64,
}

impl ModelView {
    /// The loss of the model.
    #[must_use]
    pub fn loss(&self) -> Option<f64> {
        self.losses.iter().find(|loss| loss.name == "model").map(|loss| loss.loss)
    }

    /// The best baseline.
    #[must_use]
    pub fn best_baseline(&self) -> Option<&LossView> {
        let baselines = self.losses.iter().filter(|loss| loss.name != "model");
        baselines.min_by(|a, b| a.loss.total_cmp(&b.loss))
    }
}
