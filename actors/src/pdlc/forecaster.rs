//! A trained model, ready to forecast: a few lines of matrix arithmetic, no tensor library.
//!
//! A linear map and a hidden layer of rectified units beside it (a «wide and deep» net, Cheng et al. 2016), on inputs free
//! of level and scale. All weights zero: the moving average. The P95 is the P50 plus a softplus, so the quantiles never
//! cross; a last vector, set on windows the model was not trained on, moves the P95 to where 95 % of them were (conformalised
//! quantile regression, Romano, Patterson and Candès 2019).

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use codeco_protocol::gossip::{HORIZON, LearningError, ModelFact, Weights};
use codeco_protocol::wire;

use super::loss::Forecast;
use super::outlook::{INPUTS, Outlook};

/// Hidden units.
pub const HIDDEN: usize = 16;
/// Outputs: the P50 of each step, and what makes its P95.
pub const OUTPUTS: usize = 2 * HORIZON;
/// Lengths of the parts of [`Forecaster::values`], in order: linear weights (inputs × outputs), biases, hidden weights
/// (inputs × hidden), hidden biases, output weights (hidden × outputs), calibration.
pub const PARTS: [usize; 6] = [INPUTS * OUTPUTS, OUTPUTS, INPUTS * HIDDEN, HIDDEN, HIDDEN * OUTPUTS, HORIZON];
/// Sum of [`PARTS`].
pub const WEIGHTS: usize = PARTS[0] + PARTS[1] + PARTS[2] + PARTS[3] + PARTS[4] + PARTS[5];
/// Largest weight: more is no result of training.
const WEIGHT_MAX: f32 = 1e3;

/// See the module.
#[derive(Debug, Clone, PartialEq)]
pub struct Forecaster {
    values: Vec<f32>,
}

// Numbers and literals, most of them.
#[allow(clippy::needless_pass_by_value)]
fn wrong(field: &'static str, found: impl ToString, expected: impl ToString) -> LearningError {
    LearningError { field, found: found.to_string(), expected: expected.to_string() }
}

impl Forecaster {
    /// With these weights, in the order of [`PARTS`].
    ///
    /// # Errors
    /// [`LearningError`] if there are too few or too many, or one of them is no number of a sensible size.
    pub fn new(values: Vec<f32>) -> Result<Self, LearningError> {
        if values.len() != WEIGHTS {
            return Err(wrong("weights", values.len(), WEIGHTS));
        }
        let sound = |value: f32| value.is_finite() && value.abs() <= WEIGHT_MAX;
        match values.iter().find(|value| !sound(**value)) {
            Some(value) => {
                Err(wrong("weight", value, format!("a number from -{WEIGHT_MAX} to {WEIGHT_MAX}")))
            }
            None => Ok(Self { values }),
        }
    }

    /// Of an artefact as it came over the wire or from disk: everything in it is checked.
    ///
    /// # Errors
    /// [`LearningError`] names what is wrong.
    pub fn decode(fact: &ModelFact) -> Result<Self, LearningError> {
        fact.check()?;
        let found = crc32fast::hash(&fact.artefact);
        if found != fact.checksum {
            return Err(wrong("checksum", format!("{found:08x}"), format!("{:08x}", fact.checksum)));
        }
        let weights: Weights =
            wire::decode(&fact.artefact).map_err(|e| wrong("artefact", e, "encoded weights"))?;
        let shape = (weights.inputs, weights.hidden, weights.horizon);
        if shape != shape_of() {
            return Err(wrong("shape", format!("{shape:?}"), format!("{:?}", shape_of())));
        }
        Self::new(weights.values)
    }

    /// The artefact of these weights, and its checksum.
    ///
    /// # Errors
    /// [`LearningError`] on a bug: the size is constant and within the limit.
    pub fn encode(&self) -> Result<(Vec<u8>, u32), LearningError> {
        let (inputs, hidden, horizon) = shape_of();
        let weights = Weights { inputs, hidden, horizon, values: self.values.clone() };
        let artefact = wire::encode(&weights).map_err(|e| wrong("weights", e, "an artefact"))?;
        let checksum = crc32fast::hash(&artefact);
        Ok((artefact, checksum))
    }

    /// The weights, in the order of [`PARTS`].
    #[must_use]
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// Forecasts, in shares, never below zero. `None` if the past holds something that is no number.
    #[must_use]
    pub fn forecast(&self, outlook: &Outlook) -> Option<Forecast> {
        let inputs = outlook.inputs();
        let (level, scale) = (outlook.ewma(), outlook.scale());
        let mut rest = self.values.as_slice();
        let [linear, bias, hidden_weights, hidden_bias, output, calibration] = PARTS.map(|len| {
            let (part, after) = rest.split_at(len);
            rest = after;
            part
        });
        let mut outputs: [f32; OUTPUTS] = std::array::from_fn(|o| bias[o]);
        add_product(&mut outputs, &inputs, linear);
        let mut hidden: [f32; HIDDEN] = std::array::from_fn(|h| hidden_bias[h]);
        add_product(&mut hidden, &inputs, hidden_weights);
        add_product(&mut outputs, &hidden.map(|unit| unit.max(0.0)), output);
        let p50: [f32; HORIZON] = std::array::from_fn(|h| level + scale * outputs[h]);
        let p95 = std::array::from_fn(|h| {
            p50[h] + scale * (softplus(outputs[HORIZON + h]) + calibration[h]).max(0.0)
        });
        let forecast = Forecast { p50: p50.map(|v| v.max(0.0)), p95: p95.map(|v: f32| v.max(0.0)) };
        let all = forecast.p50.iter().chain(&forecast.p95);
        // `max` has turned what is no number into zero: what it came from decides.
        let finite = p50.iter().chain(&p95).chain(all).all(|value| value.is_finite());
        finite.then_some(forecast)
    }
}

#[allow(clippy::cast_possible_truncation)]
fn shape_of() -> (u16, u16, u16) {
    (INPUTS as u16, HIDDEN as u16, HORIZON as u16)
}

/// `to += from × matrix`, the matrix row by row.
fn add_product(to: &mut [f32], from: &[f32], matrix: &[f32]) {
    for (value, row) in from.iter().zip(matrix.chunks_exact(to.len())) {
        for (sum, weight) in to.iter_mut().zip(row) {
            *sum += value * weight;
        }
    }
}

/// `ln(1 + e^x)`.
#[must_use]
pub fn softplus(x: f32) -> f32 {
    if x > 20.0 { x } else { x.exp().ln_1p() }
}

#[cfg(test)]
mod tests {
    use codeco_protocol::gossip::WINDOW;
    use codeco_protocol::units::WallTime;
    use proptest::prelude::*;

    use super::*;

    fn fact(artefact: Vec<u8>) -> ModelFact {
        let checksum = crc32fast::hash(&artefact);
        ModelFact {
            version: 1,
            artefact,
            checksum,
            at: WallTime(0),
            windows: 0,
            nodes: 0,
            step_ms: 1,
            losses: vec![],
            doing: String::new(),
        }
    }

    fn outlook(window: [f32; WINDOW]) -> Outlook {
        Outlook { window, season: None, mean: 0.5, median: 0.5 }
    }

    #[test]
    fn forecaster_without_weights_is_the_moving_average_and_its_quantiles_do_not_cross() {
        let model = Forecaster::new(vec![0.0; WEIGHTS]).unwrap();
        let outlook = outlook(std::array::from_fn(|i| if i % 2 == 0 { 0.2 } else { 0.6 }));
        let forecast = model.forecast(&outlook).unwrap();
        assert!((forecast.p50[0] - outlook.ewma()).abs() < 1e-6);
        assert!(forecast.p95.iter().zip(&forecast.p50).all(|(high, middle)| high > middle));
    }

    #[test]
    fn artefact_decoded_again_is_the_same_and_a_damaged_or_foreign_one_is_refused_with_its_reason() {
        let model = Forecaster::new((0..WEIGHTS).map(|i| (i % 7) as f32 / 7.0).collect()).unwrap();
        let (artefact, checksum) = model.encode().unwrap();
        assert!(artefact.len() < 10_000, "{}", artefact.len());
        let good = fact(artefact.clone());
        assert_eq!(good.checksum, checksum);
        assert_eq!(Forecaster::decode(&good).unwrap(), model);

        let refused = |fact: &ModelFact| Forecaster::decode(fact).unwrap_err().to_string();
        let mut flipped = good.clone();
        flipped.artefact[100] ^= 1;
        assert!(refused(&flipped).starts_with("checksum: found"));
        assert!(refused(&fact(artefact[..200].to_vec())).starts_with("artefact: found"));
        let other = Weights { inputs: 3, hidden: 1, horizon: 1, values: vec![0.0; WEIGHTS] };
        assert!(refused(&fact(wire::encode(&other).unwrap())).starts_with("shape: found (3, 1, 1)"));
        let (inputs, hidden, horizon) = shape_of();
        for nonsense in [f32::NAN, f32::INFINITY, 1e30] {
            let mut values = model.values().to_vec();
            values[7] = nonsense;
            let weights = Weights { inputs, hidden, horizon, values };
            assert!(
                refused(&fact(wire::encode(&weights).unwrap())).starts_with("weight: found"),
                "{nonsense}"
            );
        }
        let few = Weights { inputs, hidden, horizon, values: vec![0.0; 3] };
        assert!(refused(&fact(wire::encode(&few).unwrap())).starts_with("weights: found 3"));
    }

    proptest! {
        #[test]
        fn forecast_of_any_accepted_weights_and_any_past_is_finite_or_none(
            seed in any::<u64>(),
            size in 0.0_f32..1e3,
            past in proptest::collection::vec(prop_oneof![0.0_f32..=1.0, Just(f32::NAN), Just(1e30)], WINDOW),
        ) {
            let mut rng = fastrand::Rng::with_seed(seed);
            let values = (0..WEIGHTS).map(|_| (rng.f32() - 0.5) * 2.0 * size).collect();
            let model = Forecaster::new(values).unwrap();
            let outlook = outlook(past.try_into().unwrap());
            if let Some(forecast) = model.forecast(&outlook) {
                let pairs = forecast.p50.iter().zip(&forecast.p95);
                prop_assert!(pairs.clone().all(|(a, b)| a.is_finite() && b.is_finite() && a <= b));
            }
        }
    }
}
