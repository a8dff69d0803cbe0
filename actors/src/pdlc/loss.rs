//! How good a forecast was.
//!
//! Pinball loss (Koenker and Bassett, «Regression quantiles», Econometrica 46, 1978): for quantile q it costs q per unit
//! above the forecast and 1 − q per unit below it, and is least for the true quantile.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use codeco_protocol::gossip::HORIZON;

/// A forecast of the next [`HORIZON`] steps, in shares.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Forecast {
    /// As likely too low as too high.
    pub p50: [f32; HORIZON],
    /// Reached or passed in one case of twenty.
    pub p95: [f32; HORIZON],
}

impl Forecast {
    /// The largest P95 of the horizon: what must be reckoned with.
    #[must_use]
    pub fn peak(&self) -> f32 {
        self.p95.iter().copied().fold(0.0, f32::max)
    }
}

/// Pinball loss of `forecast` for quantile `q`.
#[must_use]
pub fn pinball(q: f32, actual: f32, forecast: f32) -> f32 {
    let above = actual - forecast;
    if above >= 0.0 { q * above } else { (q - 1.0) * above }
}

/// Mean pinball loss of both quantiles over the horizon, and how many values were at or below their P95.
#[must_use]
pub fn loss(forecast: &Forecast, actual: &[f32; HORIZON]) -> (f64, u32) {
    let mut sum = 0.0;
    let mut covered = 0;
    for ((p50, p95), actual) in forecast.p50.iter().zip(&forecast.p95).zip(actual) {
        sum += f64::from(pinball(0.5, *actual, *p50)) + f64::from(pinball(0.95, *actual, *p95));
        covered += u32::from(actual <= p95);
    }
    #[allow(clippy::cast_precision_loss)]
    let count = 2.0 * HORIZON as f64;
    (sum / count, covered)
}

/// The `q` quantile of `values`, the nearest rank at or above; 0 without values.
#[must_use]
pub fn quantile(values: &[f32], q: f32) -> f32 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f32::total_cmp);
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let rank = (q * sorted.len() as f32).ceil().max(1.0) as usize;
    sorted.get(rank.min(sorted.len()).wrapping_sub(1)).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn loss_of_a_quantile_is_least_at_the_quantile() {
        #[allow(clippy::cast_precision_loss)]
        let values: Vec<f32> = (0..1_000_u16).map(|i| f32::from(i) / 1_000.0).collect();
        for q in [0.5, 0.95] {
            let cost = |forecast: f32| values.iter().map(|v| pinball(q, *v, forecast)).sum::<f32>();
            let at = quantile(&values, q);
            assert!((at - q).abs() < 0.01, "{at}");
            assert!(cost(at) < cost(at - 0.05) && cost(at) < cost(at + 0.05));
        }
    }

    proptest! {
        #[test]
        fn loss_is_never_negative_and_nothing_only_for_the_truth(actual in 0.0_f32..1.0, forecast in 0.0_f32..1.0) {
            for q in [0.5, 0.95] {
                let cost = pinball(q, actual, forecast);
                prop_assert!(cost >= 0.0);
                prop_assert_eq!(cost == 0.0, actual == forecast);
            }
        }
    }
}
