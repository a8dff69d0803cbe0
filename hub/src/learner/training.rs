//! The training loop: pinball loss of two quantiles, gradients by burn, steps by Adam with decoupled weight decay
//! (Loshchilov and Hutter, «Decoupled weight decay regularization», 2019).
//!
//! Weights live in plain vectors between steps: nothing of a step's graph outlives it, so that long training does not grow.

use std::sync::Arc;

use burn::tensor::activation::{relu, softplus};
use burn::tensor::{Device, Tensor, TensorData};
use codeco_actors::pdlc::forecaster::{self, Forecaster, HIDDEN, OUTPUTS, PARTS};
use codeco_actors::pdlc::loss::quantile;
use codeco_actors::pdlc::outlook::INPUTS;
use codeco_protocol::gossip::HORIZON;

use super::dataset::Example;
use super::judged;

/// Shapes of the trained parts, in the order of [`PARTS`]; the calibration is not trained.
const SHAPES: [[usize; 2]; 5] =
    [[INPUTS, OUTPUTS], [1, OUTPUTS], [INPUTS, HIDDEN], [1, HIDDEN], [HIDDEN, OUTPUTS]];
/// Examples on which progress is measured, at most.
const PROBE_MAX: usize = 600;
/// Looks at the validation in one training.
const LOOKS: u32 = 12;

/// How to train.
#[derive(Debug, Clone)]
pub struct TrainingConfig {
    /// Seed of initial weights and of batches.
    pub seed: u64,
    /// Steps in all.
    pub steps: u32,
    /// Examples in a step.
    pub batch: usize,
    /// Rate at the start; it falls to a tenth along a cosine.
    pub rate: f32,
    /// Weight decay: what makes the linear part a ridge regression.
    pub decay: f32,
}

impl Default for TrainingConfig {
    fn default() -> Self {
        Self { seed: 1, steps: 600, batch: 64, rate: 0.005, decay: 0.02 }
    }
}

/// A training under way.
#[derive(Debug)]
pub struct Training {
    config: TrainingConfig,
    rng: fastrand::Rng,
    inputs: Vec<[f32; INPUTS]>,
    targets: Vec<[f32; HORIZON]>,
    validation: Arc<[Example]>,
    parts: [Vec<f32>; 5],
    moments: [(Vec<f32>, Vec<f32>); 5],
    done: u32,
    best: Option<(f64, [Vec<f32>; 5])>,
}

impl Training {
    /// On these examples; on `validation` the best moment is picked and the P95 calibrated.
    #[must_use]
    pub fn new(config: TrainingConfig, train: &[Example], validation: Arc<[Example]>) -> Self {
        let mut rng = fastrand::Rng::with_seed(config.seed);
        let lens: [usize; 5] = std::array::from_fn(|part| PARTS[part]);
        let mut parts = lens.map(|len| vec![0.0; len]);
        // All other weights start at zero: the untrained model is the moving average.
        #[allow(clippy::cast_precision_loss)]
        let reach = (6.0 / (INPUTS + HIDDEN) as f32).sqrt();
        for weight in &mut parts[2] {
            *weight = (rng.f32() * 2.0 - 1.0) * reach;
        }
        Self {
            inputs: train.iter().map(|example| example.past.inputs()).collect(),
            targets: train.iter().map(target).collect(),
            validation,
            parts,
            moments: lens.map(|len| (vec![0.0; len], vec![0.0; len])),
            done: 0,
            best: None,
            rng,
            config,
        }
    }

    /// Does up to `steps` steps. Returns whether all are done.
    pub fn run(&mut self, steps: u32) -> bool {
        let look = (self.config.steps / LOOKS).max(1);
        for _ in 0..steps {
            if self.is_done() {
                break;
            }
            self.step();
            self.done += 1;
            if self.done.is_multiple_of(look) || self.is_done() {
                self.look();
            }
        }
        self.is_done()
    }

    fn is_done(&self) -> bool {
        self.done >= self.config.steps || self.inputs.is_empty()
    }

    fn step(&mut self) {
        let device = Device::flex().autodiff();
        let batch = self.config.batch;
        let picked: Vec<usize> = (0..batch).map(|_| self.rng.usize(..self.inputs.len())).collect();
        let gather =
            |read: &dyn Fn(usize) -> Vec<f32>| picked.iter().flat_map(|at| read(*at)).collect::<Vec<f32>>();
        let x = tensor(gather(&|at| self.inputs[at].to_vec()), [batch, INPUTS], &device);
        let y = tensor(gather(&|at| self.targets[at].to_vec()), [batch, HORIZON], &device);
        let parts: [Tensor<2>; 5] = std::array::from_fn(|part| {
            tensor(self.parts[part].clone(), SHAPES[part], &device).require_grad()
        });
        let [linear, bias, hidden, hidden_bias, output] = parts.clone();
        let units = relu(x.clone().matmul(hidden) + hidden_bias);
        let out = x.matmul(linear) + bias + units.matmul(output);
        let p50 = out.clone().slice([0..batch, 0..HORIZON]);
        let p95 = p50.clone() + softplus(out.slice([0..batch, HORIZON..OUTPUTS]), 1.0);
        let loss = pinball(0.5, y.clone(), p50) + pinball(0.95, y, p95);
        let gradients = loss.backward();
        let rate = self.rate();
        for (part, tensor) in parts.iter().enumerate() {
            let gradient = tensor.grad(&gradients).and_then(|g| g.into_data().try_to_vec::<f32>().ok());
            if let Some(gradient) = gradient {
                self.adam(part, &gradient, rate);
            }
        }
    }

    fn rate(&self) -> f32 {
        #[allow(clippy::cast_precision_loss)]
        let way = self.done as f32 / self.config.steps.max(1) as f32;
        self.config.rate * (0.1 + 0.9 * 0.5 * (1.0 + (std::f32::consts::PI * way).cos()))
    }

    fn adam(&mut self, part: usize, gradient: &[f32], rate: f32) {
        const FIRST: f32 = 0.9;
        const SECOND: f32 = 0.999;
        let taken = i32::try_from(self.done + 1).unwrap_or(i32::MAX);
        let (unbias_first, unbias_second) = (1.0 - FIRST.powi(taken), 1.0 - SECOND.powi(taken));
        // Biases do not decay.
        let decay = if SHAPES[part][0] > 1 { rate * self.config.decay } else { 0.0 };
        let (first, second) = &mut self.moments[part];
        for (((weight, slope), first), second) in
            self.parts[part].iter_mut().zip(gradient).zip(first).zip(second)
        {
            *first = FIRST * *first + (1.0 - FIRST) * slope;
            *second = SECOND * *second + (1.0 - SECOND) * slope * slope;
            *weight -=
                decay * *weight + rate * (*first / unbias_first) / ((*second / unbias_second).sqrt() + 1e-8);
        }
    }

    /// Remembers the weights that do best on what was not trained on.
    fn look(&mut self) {
        let Some(model) = model(&self.parts, &[0.0; HORIZON]) else { return };
        let stride = self.validation.len().div_ceil(PROBE_MAX).max(1);
        let probe: Vec<Example> = self.validation.iter().step_by(stride).copied().collect();
        let (loss, _) = judged(&model, &probe);
        if loss.is_finite() && self.best.as_ref().is_none_or(|(best, _)| loss < *best) {
            self.best = Some((loss, self.parts.clone()));
        }
    }

    /// The model: the best weights seen, its P95 moved to where 95 % of the validation lies. `None` if there are none.
    #[must_use]
    pub fn finish(self) -> Option<Forecaster> {
        let (_, parts) = self.best?;
        let raw = model(&parts, &[0.0; HORIZON])?;
        let mut above: [Vec<f32>; HORIZON] =
            std::array::from_fn(|_| Vec::with_capacity(self.validation.len()));
        for example in self.validation.iter() {
            let (forecast, scale) = (raw.forecast(&example.past)?, example.past.scale());
            for (h, list) in above.iter_mut().enumerate() {
                list.push((example.actual[h] - forecast.p95[h]) / scale);
            }
        }
        // One rank more than the sample's own quantile: few examples must not promise too much.
        #[allow(clippy::cast_precision_loss)]
        let rank = |list: &Vec<f32>| 0.95 * (1.0 + 1.0 / list.len().max(1) as f32);
        model(&parts, &above.map(|list| quantile(&list, rank(&list))))
    }
}

fn tensor(values: Vec<f32>, shape: [usize; 2], device: &Device) -> Tensor<2> {
    Tensor::from_data(TensorData::new(values, shape), device)
}

fn pinball(q: f32, actual: Tensor<2>, forecast: Tensor<2>) -> Tensor<1> {
    let above = actual - forecast;
    (relu(above.clone()).mul_scalar(q) + relu(-above).mul_scalar(1.0 - q)).mean()
}

/// What came, free of level and scale, as the model sees it.
fn target(example: &Example) -> [f32; HORIZON] {
    let (level, scale) = (example.past.ewma(), example.past.scale());
    example.actual.map(|value| (value - level) / scale)
}

fn model(parts: &[Vec<f32>; 5], calibration: &[f32; HORIZON]) -> Option<Forecaster> {
    let values: Vec<f32> = parts.iter().flatten().chain(calibration).copied().collect();
    debug_assert_eq!(values.len(), forecaster::WEIGHTS);
    Forecaster::new(values).ok()
}
