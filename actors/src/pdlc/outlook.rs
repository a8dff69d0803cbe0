//! What a forecast starts from: the recent past of one series, and how it is put to a model.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use codeco_protocol::gossip::{HORIZON, LoadSeries, WHOLE, WINDOW};

use super::loss::quantile;

/// Inputs of a model: the lags; median, least and largest of them; mean and median of all that is known; the last season;
/// whether there is one; the logarithm of the scale.
pub const INPUTS: usize = WINDOW + 3 + 2 + HORIZON + 2;
/// Weight of the newest value in the moving average (EWMA) that is both a baseline and the model's level.
pub const EWMA_WEIGHT: f32 = 0.3;
/// Smallest scale, in shares: below that, changes do not matter.
const SCALE_MIN: f32 = 0.01;
/// Inputs are clipped to so many scales: one outlier must not carry a forecast away.
const CLIP: f32 = 6.0;

/// The recent past of a series, in shares.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outlook {
    /// Oldest first.
    pub window: [f32; WINDOW],
    /// What followed this time one season ago.
    pub season: Option<[f32; HORIZON]>,
    /// Mean of all that is known.
    pub mean: f32,
    /// Median of all that is known.
    pub median: f32,
}

fn share(thousandths: u16) -> f32 {
    f32::from(thousandths) / f32::from(WHOLE)
}

fn array<const N: usize>(list: &[u16]) -> Option<[f32; N]> {
    let list: &[u16; N] = list.try_into().ok()?;
    Some(list.map(share))
}

impl Outlook {
    /// Of a summary. `None` if it is not of the right length.
    #[must_use]
    pub fn of(series: &LoadSeries) -> Option<Self> {
        Some(Self {
            window: array(&series.window)?,
            season: array(&series.season),
            mean: share(series.mean),
            median: share(series.median),
        })
    }

    /// The newest value.
    #[must_use]
    pub fn last(&self) -> f32 {
        self.window[WINDOW - 1]
    }

    /// Exponentially weighted moving average.
    #[must_use]
    pub fn ewma(&self) -> f32 {
        self.window.iter().skip(1).fold(self.window[0], |level, value| level + EWMA_WEIGHT * (value - level))
    }

    /// Mean absolute deviation from the moving average, at least a hundredth: the unit in which a model sees the series.
    #[must_use]
    pub fn scale(&self) -> f32 {
        let level = self.ewma();
        #[allow(clippy::cast_precision_loss)]
        let mean = self.window.iter().map(|value| (value - level).abs()).sum::<f32>() / WINDOW as f32;
        mean.max(SCALE_MIN)
    }

    /// What a model sees: free of level and scale, and clipped.
    #[must_use]
    pub fn inputs(&self) -> [f32; INPUTS] {
        let (level, scale) = (self.ewma(), self.scale());
        let seen = |value: f32| ((value - level) / scale).clamp(-CLIP, CLIP);
        let mut inputs = [0.0; INPUTS];
        let extremes = [
            quantile(&self.window, 0.5),
            self.window.iter().copied().fold(f32::INFINITY, f32::min),
            self.window.iter().copied().fold(f32::NEG_INFINITY, f32::max),
            self.mean,
            self.median,
        ];
        let values = self.window.iter().copied().chain(extremes);
        for (input, value) in inputs.iter_mut().zip(values) {
            *input = seen(value);
        }
        if let Some(season) = &self.season {
            for (input, value) in inputs.iter_mut().skip(WINDOW + 5).zip(season) {
                *input = seen(*value);
            }
            inputs[INPUTS - 2] = 1.0;
        }
        inputs[INPUTS - 1] = (scale / 0.05).ln().clamp(-CLIP, CLIP);
        inputs
    }
}
