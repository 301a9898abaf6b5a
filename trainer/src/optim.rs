//! AdamW (Loshchilov & Hutter 2019) with global-norm clipping, and the learning-rate schedule.
//!
//! In: the gradients of a backward pass. Out: moved variables. The moments are plain vectors by name, so that a
//! checkpoint holds them and a resumed run continues to the bit.

use std::collections::BTreeMap;

use candle_core::backprop::GradStore;
use candle_core::{Result, Tensor};
use serde::{Deserialize, Serialize};

use crate::config::{ConfigError, in_range};
use crate::params::{Params, Snapshot};

/// How the learning rate falls once it has risen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decay {
    /// A cosine down to [`OptimConfig::final_share`].
    #[default]
    Cosine,
    /// `1 / (1 + 10 p)^0.75` at the share `p` of the run, the annealing of Ganin et al. 2016: to .17 of the highest rate.
    Annealed,
}

impl Decay {
    fn is_cosine(&self) -> bool {
        *self == Self::Cosine
    }
}

/// Constants of the optimiser and of the schedule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OptimConfig {
    /// Highest learning rate.
    pub learning_rate: f64,
    /// Share of the steps over which it rises from zero.
    pub warm_up: f64,
    /// How it falls; not written where it is the cosine, so that configurations from before there was a choice keep their
    /// digest.
    #[serde(skip_serializing_if = "Decay::is_cosine")]
    pub decay: Decay,
    /// Share of the highest rate that the cosine ends at.
    pub final_share: f64,
    /// Decay of weights (not of biases and normalisation), per unit of learning rate.
    pub weight_decay: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// Gradients are scaled down to this global norm.
    pub clip_norm: f64,
}

impl Default for OptimConfig {
    fn default() -> Self {
        Self {
            learning_rate: 2e-3,
            warm_up: 0.04,
            decay: Decay::Cosine,
            final_share: 0.02,
            weight_decay: 1e-3,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            clip_norm: 5.0,
        }
    }
}

impl OptimConfig {
    /// Checks the ranges.
    ///
    /// # Errors
    /// The first value that is out of its range.
    pub fn validate(&self) -> std::result::Result<(), ConfigError> {
        let rate = self.learning_rate;
        if !(rate > 0.0 && rate < 1.0) {
            return Err(ConfigError::Value(format!(
                "optim.learning_rate is {rate}, expected above 0 and below 1"
            )));
        }
        in_range("optim.warm_up", self.warm_up, 0.0, 1.0)?;
        in_range("optim.final_share", self.final_share, 0.0, 1.0)?;
        in_range("optim.weight_decay", self.weight_decay, 0.0, 1e3)?;
        in_range("optim.beta1", self.beta1, 0.0, 1.0 - 1e-9)?;
        in_range("optim.beta2", self.beta2, 0.0, 1.0 - 1e-9)?;
        in_range("optim.epsilon", self.epsilon, 1e-30, 1.0)?;
        in_range("optim.clip_norm", self.clip_norm, 1e-9, 1e9)
    }

    /// Learning rate of step `step` of `steps`: linear warm-up, then down as `decay` says.
    pub fn rate_at(&self, step: u64, steps: u64) -> f64 {
        let progress = step as f64 / steps.max(1) as f64;
        let rise = if self.warm_up > 0.0 {
            ((progress + 1.0 / steps.max(1) as f64) / self.warm_up).min(1.0)
        } else {
            1.0
        };
        let fallen = match self.decay {
            Decay::Cosine => {
                let cosine = 0.5 * (1.0 + (std::f64::consts::PI * progress.min(1.0)).cos());
                cosine * (1.0 - self.final_share) + self.final_share
            }
            Decay::Annealed => (1.0 + 10.0 * progress.min(1.0)).powf(-0.75),
        };
        self.learning_rate * rise * fallen
    }
}

/// The optimiser's memory: first and second moments by parameter name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AdamW {
    /// Running mean of the gradients.
    pub first: Snapshot,
    /// Running mean of the squared gradients.
    pub second: Snapshot,
    /// Updates made.
    pub updates: u64,
}

impl AdamW {
    /// Moves every variable of `params` that has a gradient; returns the global norm before clipping.
    /// A norm that is not finite moves nothing.
    pub fn step(
        &mut self,
        params: &Params,
        grads: &GradStore,
        rate: f64,
        config: &OptimConfig,
    ) -> Result<f64> {
        let mut gradients = BTreeMap::new();
        let mut sum_of_squares = 0.0f64;
        for (name, var) in &params.vars {
            if let Some(gradient) = grads.get(var) {
                let gradient = gradient.flatten_all()?.to_vec1::<f32>()?;
                sum_of_squares += gradient.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>();
                gradients.insert(name, gradient);
            }
        }
        let norm = sum_of_squares.sqrt();
        if !norm.is_finite() {
            return Ok(norm);
        }
        let scale = (config.clip_norm / norm.max(1e-12)).min(1.0) as f32;
        self.updates += 1;
        let (beta1, beta2) = (config.beta1 as f32, config.beta2 as f32);
        let bias1 = 1.0 - config.beta1.powf(self.updates as f64);
        let bias2 = 1.0 - config.beta2.powf(self.updates as f64);
        let (step_size, root_bias2) = ((rate / bias1) as f32, bias2.sqrt() as f32);
        for (name, gradient) in gradients {
            let var = &params.vars[name];
            let decay = if var.rank() > 1 {
                1.0 - (rate * config.weight_decay) as f32
            } else {
                1.0
            };
            let mut values = var.flatten_all()?.to_vec1::<f32>()?;
            let first = self
                .first
                .values
                .entry(name.clone())
                .or_insert_with(|| vec![0.0; values.len()]);
            let second = self
                .second
                .values
                .entry(name.clone())
                .or_insert_with(|| vec![0.0; values.len()]);
            for (((value, g), m), v) in values.iter_mut().zip(&gradient).zip(first).zip(second) {
                let g = g * scale;
                *m = beta1 * *m + (1.0 - beta1) * g;
                *v = beta2 * *v + (1.0 - beta2) * g * g;
                *value = *value * decay
                    - step_size * *m / (v.sqrt() / root_bias2 + config.epsilon as f32);
            }
            var.set(&Tensor::from_vec(values, var.shape(), var.device())?)?;
        }
        Ok(norm)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::params::{Init, ParamBuilder};
    use candle_core::Device;

    #[test]
    fn the_rate_rises_then_falls_to_its_final_share() {
        let config = OptimConfig::default();
        assert!(config.rate_at(0, 1000) < 0.1 * config.learning_rate);
        assert!((config.rate_at(40, 1000) / config.learning_rate - 1.0).abs() < 0.01);
        assert!((config.rate_at(1000, 1000) / config.learning_rate - 0.02).abs() < 1e-9);
    }

    #[test]
    fn annealed_it_falls_as_published_and_is_written_down() {
        let config = OptimConfig {
            warm_up: 0.0,
            decay: Decay::Annealed,
            ..OptimConfig::default()
        };
        // Ganin et al. 2016: mu_p = mu_0 / (1 + 10 p)^0.75.
        for (step, share) in [(0, 1.0), (100, 2f64.powf(-0.75)), (1000, 11f64.powf(-0.75))] {
            let found = config.rate_at(step, 1000) / config.learning_rate;
            assert!((found - share).abs() < 1e-12, "{step}: {found} {share}");
        }
        let text = |config: &OptimConfig| toml::to_string(config).unwrap();
        assert!(text(&config).contains("\ndecay = \"annealed\""));
        assert!(!text(&OptimConfig::default()).contains("\ndecay = "));
    }

    #[test]
    fn a_parabola_is_descended() {
        let mut builder = ParamBuilder::new(1, &Device::Cpu);
        let x = builder.var("x", &[2], Init::Constant(3.0)).unwrap();
        let params = builder.finish();
        let mut adam = AdamW::default();
        let config = OptimConfig {
            learning_rate: 0.1,
            ..OptimConfig::default()
        };
        for _ in 0..200 {
            let grads = x.sqr().unwrap().sum_all().unwrap().backward().unwrap();
            adam.step(&params, &grads, 0.1, &config).unwrap();
        }
        assert!(x.to_vec1::<f32>().unwrap().iter().all(|v| v.abs() < 0.05));
    }

    #[test]
    fn the_first_update_is_one_rate_long_whatever_the_gradients_size() {
        // Adam's bias correction makes m / sqrt(v) = sign(g) at the first update.
        let mut builder = ParamBuilder::new(1, &Device::Cpu);
        let x = builder.var("x", &[1], Init::Constant(1.0)).unwrap();
        let params = builder.finish();
        let grads = (x.as_tensor() * 1e-3)
            .unwrap()
            .sum_all()
            .unwrap()
            .backward()
            .unwrap();
        AdamW::default()
            .step(&params, &grads, 0.01, &OptimConfig::default())
            .unwrap();
        assert!((x.to_vec1::<f32>().unwrap()[0] - 0.99).abs() < 1e-5);
    }
}
