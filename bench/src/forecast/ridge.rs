//! Ridge autoregression: the strongest of the simple models.

use codeco_actors::pdlc::outlook::Outlook;
use codeco_actors::pdlc::{HORIZON, WINDOW};
use codeco_hub::learner::Example;

/// Lags, as differences from the newest value, and a constant.
const FEATURES: usize = WINDOW;
/// Penalties tried, as shares of the mean diagonal.
const PENALTIES: [f64; 4] = [0.001, 0.01, 0.1, 1.0];

pub(crate) struct Ridge {
    weights: [[f64; FEATURES]; HORIZON],
}

fn features(past: &Outlook) -> [f64; FEATURES] {
    let last = past.window[WINDOW - 1];
    std::array::from_fn(|at| if at == FEATURES - 1 { 1.0 } else { f64::from(past.window[at] - last) })
}

impl Ridge {
    /// Fitted on `train` with the penalty that does best on `pick`.
    pub(crate) fn picked(train: &[Example], pick: &[Example]) -> Self {
        let fitted = PENALTIES.map(|penalty| {
            let ridge = Self::fit(train, penalty);
            let error: f64 = pick
                .iter()
                .flat_map(|example| ridge.forecast(&example.past).into_iter().zip(example.actual))
                .map(|(forecast, actual)| f64::from((forecast - actual).abs()))
                .sum();
            (error, ridge)
        });
        fitted
            .into_iter()
            .min_by(|a, b| a.0.total_cmp(&b.0))
            .map_or_else(|| Self::fit(train, 1.0), |(_, r)| r)
    }

    fn fit(train: &[Example], penalty: f64) -> Self {
        let mut matrix = [[0.0; FEATURES]; FEATURES];
        let mut sides = [[0.0; FEATURES]; HORIZON];
        for example in train {
            let x = features(&example.past);
            let last = example.past.last();
            for (row, a) in matrix.iter_mut().zip(&x) {
                row.iter_mut().zip(&x).for_each(|(sum, b)| *sum += a * b);
            }
            for (side, actual) in sides.iter_mut().zip(&example.actual) {
                let y = f64::from(actual - last);
                side.iter_mut().zip(&x).for_each(|(sum, a)| *sum += a * y);
            }
        }
        #[allow(clippy::cast_precision_loss)]
        let mean = (0..FEATURES).map(|at| matrix[at][at]).sum::<f64>() / FEATURES as f64;
        for (at, row) in matrix.iter_mut().enumerate() {
            row[at] += penalty * mean + 1e-9;
        }
        Self { weights: sides.map(|side| solve(matrix, side)) }
    }

    pub(crate) fn forecast(&self, past: &Outlook) -> [f32; HORIZON] {
        let x = features(past);
        #[allow(clippy::cast_possible_truncation)]
        std::array::from_fn(|h| {
            let change: f64 = self.weights[h].iter().zip(&x).map(|(weight, x)| weight * x).sum();
            past.last() + change as f32
        })
    }
}

/// Gaussian elimination; the matrix is positive definite, so that no row has to be exchanged.
fn solve(mut matrix: [[f64; FEATURES]; FEATURES], mut side: [f64; FEATURES]) -> [f64; FEATURES] {
    for at in 0..FEATURES {
        for below in at + 1..FEATURES {
            let factor = matrix[below][at] / matrix[at][at];
            let pivot = matrix[at];
            matrix[below].iter_mut().zip(pivot).skip(at).for_each(|(sum, value)| *sum -= factor * value);
            side[below] -= factor * side[at];
        }
    }
    for at in (0..FEATURES).rev() {
        let known: f64 = (at + 1..FEATURES).map(|column| matrix[at][column] * side[column]).sum();
        side[at] = (side[at] - known) / matrix[at][at];
    }
    side
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ridge_finds_the_rule_of_a_series_that_has_one() {
        let value = |step: usize| 0.5 + 0.3 * (step as f32 / 7.0).sin();
        let example = |at: usize| Example {
            past: Outlook {
                window: std::array::from_fn(|step| value(at + step)),
                season: None,
                mean: 0.5,
                median: 0.5,
            },
            actual: std::array::from_fn(|step| value(at + WINDOW + step)),
        };
        let all: Vec<Example> = (0..400).map(example).collect();
        let ridge = Ridge::picked(&all[..200], &all[200..300]);
        for example in &all[300..] {
            for (forecast, actual) in ridge.forecast(&example.past).iter().zip(&example.actual) {
                assert!((forecast - actual).abs() < 0.02, "{forecast} for {actual}");
            }
        }
    }
}
