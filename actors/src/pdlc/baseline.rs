//! What a model has to beat: forecasts that need no training.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use codeco_protocol::gossip::{HORIZON, WINDOW};

use super::loss::{Forecast, quantile};
use super::outlook::Outlook;

/// Names, in the order of [`baselines`].
pub const BASELINES: [&str; 4] = ["last", "mean", "ewma", "seasonal"];

/// Forecasts of the baselines. `None` where what it needs is not known: that is no forecast of zero.
///
/// Their P95 lies above their P50 by what the window itself shows: the 95 % quantile of its changes over as many steps.
#[must_use]
pub fn baselines(outlook: &Outlook) -> [Option<Forecast>; 4] {
    let spread: [f32; HORIZON] = std::array::from_fn(|h| {
        let steps = h + 1;
        let changes: Vec<f32> =
            (steps..WINDOW).map(|at| outlook.window[at] - outlook.window[at - steps]).collect();
        quantile(&changes, 0.95).max(0.0)
    });
    let around = |p50: [f32; HORIZON]| Forecast { p50, p95: std::array::from_fn(|h| p50[h] + spread[h]) };
    [
        Some(around([outlook.last(); HORIZON])),
        Some(around([outlook.mean; HORIZON])),
        Some(around([outlook.ewma(); HORIZON])),
        outlook.season.map(around),
    ]
}
