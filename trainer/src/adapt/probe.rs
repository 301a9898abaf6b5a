//! A small head trained on features that stand still, and how often it is wrong on others: what features hold, whoever made
//! them.
//!
//! In: rows of features with a class and a weight each. Out: a [`Probe`], taught as the bound needs it. The same seed gives the same probe.

use candle_core::{Device, Result};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::config::{ConfigError, in_range};
use crate::epochs::rng_at;
use crate::labelled::Shape;
use crate::model::stack::{StackConfig, StackError};
use crate::optim::OptimConfig;
use crate::probe::{Lesson, Probe};

/// Rows a step.
const BATCH: usize = 512;
const ORDER: u64 = 31;

/// The head and how it is trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProbeConfig {
    /// Values after each layer but the last.
    pub widths: Vec<usize>,
    /// Steps of 512 rows.
    pub steps: u64,
    /// Highest learning rate.
    pub learning_rate: f64,
    /// Decay of weights.
    pub weight_decay: f64,
}

impl Default for ProbeConfig {
    fn default() -> Self {
        Self {
            widths: vec![128],
            steps: 400,
            learning_rate: 3e-3,
            weight_decay: 1e-2,
        }
    }
}

impl ProbeConfig {
    /// Checks the ranges; `name` is the table's.
    ///
    /// # Errors
    /// The first value that is out of its range.
    pub fn validate(&self, name: &str) -> std::result::Result<(), ConfigError> {
        self.stack().validate(name)?;
        in_range(&format!("{name}.steps"), self.steps as f64, 1.0, 1e6)?;
        let rate = format!("{name}.learning_rate");
        in_range(&rate, self.learning_rate, 1e-9, 0.999)?;
        in_range(&format!("{name}.weight_decay"), self.weight_decay, 0.0, 1e3)
    }

    fn stack(&self) -> StackConfig {
        StackConfig {
            channels: Vec::new(),
            widths: self.widths.clone(),
            ..StackConfig::default()
        }
    }
}

/// Features with their classes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rows {
    /// Rows of one length.
    pub features: Vec<Vec<f32>>,
    /// The class of each.
    pub labels: Vec<u32>,
}

impl Rows {
    /// These and others behind them.
    #[must_use]
    pub fn joined(&self, others: &Self) -> Self {
        Self {
            features: [&self.features[..], &others.features].concat(),
            labels: [&self.labels[..], &others.labels].concat(),
        }
    }

    /// All of one class.
    #[must_use]
    pub fn labelled(&self, label: u32) -> Self {
        Self {
            features: self.features.clone(),
            labels: vec![label; self.features.len()],
        }
    }

    /// A head that has learned the classes of these rows, of which there are `classes`; a row counts its weight.
    ///
    /// # Errors
    /// No rows, labels or weights that do not fit; if an operator fails.
    pub fn teach(
        &self,
        weights: &[f32],
        classes: usize,
        config: &ProbeConfig,
        seed: u64,
        device: &Device,
    ) -> std::result::Result<Probe, StackError> {
        let count = self.features.len();
        let lesson = Lesson {
            rows: &self.features.concat(),
            shape: Shape {
                height: 1,
                width: 1,
                channels: self.features.first().map_or(0, Vec::len),
            },
            labels: &self.labels,
            weights: Some(weights),
            classes,
        };
        let optim = OptimConfig {
            learning_rate: config.learning_rate,
            weight_decay: config.weight_decay,
            ..OptimConfig::default()
        };
        let batches = (0..config.steps).map(|step| drawn(count, &mut rng_at(seed, ORDER, step)));
        let stack = config.stack();
        Probe::of_batches(lesson, &stack, &optim, config.steps, batches, seed, device)
    }

    /// Share of the rows that a head is wrong about.
    ///
    /// # Errors
    /// Rows of another length.
    pub fn error_of(&self, probe: &Probe) -> Result<f64> {
        let answers = probe.classes_of(&self.features.concat())?;
        let wrong = answers.iter().zip(&self.labels).filter(|(a, b)| a != b);
        Ok(wrong.count() as f64 / self.labels.len().max(1) as f64)
    }
}

/// Numbers of rows of one step: all of few, of more a draw with replacement.
fn drawn(count: usize, rng: &mut ChaCha8Rng) -> Vec<usize> {
    match count <= BATCH {
        true => (0..count).collect(),
        false => (0..BATCH).map(|_| rng.random_range(0..count)).collect(),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::params::normal;
    use rand::SeedableRng;

    /// Rows of two values about a centre.
    pub(crate) fn around(centres: &[[f32; 2]], count: usize, seed: u64) -> Rows {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut rows = Rows::default();
        for i in 0..count {
            let class = i % centres.len();
            let value = |k: usize, rng: &mut ChaCha8Rng| centres[class][k] + 0.3 * normal(rng);
            rows.features
                .push(vec![value(0, &mut rng), value(1, &mut rng)]);
            rows.labels.push(class as u32);
        }
        rows
    }

    #[test]
    fn a_head_learns_what_no_line_can_tell_and_repeats_itself() {
        // Exclusive or.
        let corners = [[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]];
        let fold = |mut rows: Rows| {
            rows.labels.iter_mut().for_each(|l| *l %= 2);
            rows
        };
        let (train, test) = (
            fold(around(&corners, 800, 1)),
            fold(around(&corners, 400, 2)),
        );
        let weights = vec![1.0; 800];
        let of = |widths: Vec<usize>| {
            let config = ProbeConfig {
                widths,
                steps: 150,
                learning_rate: 1e-2,
                ..ProbeConfig::default()
            };
            let probe = train.teach(&weights, 2, &config, 3, &Device::Cpu).unwrap();
            (
                test.error_of(&probe).unwrap(),
                probe.classes_of(&test.features.concat()).unwrap(),
            )
        };
        let (curved, answers) = of(vec![16]);
        let (straight, _) = of(vec![]);
        assert!(curved < 0.02 && straight > 0.3, "{curved} {straight}");
        assert_eq!(of(vec![16]).1, answers);
    }

    #[test]
    fn rows_without_weight_are_not_learned_and_odd_numbers_of_labels_are_refused() {
        let train = around(&[[-1.0, 0.0], [1.0, 0.0]], 200, 1);
        let turned = Rows {
            labels: train.labels.iter().map(|l| 1 - l).collect(),
            ..train.clone()
        };
        let both = train.joined(&turned);
        let weights: Vec<f32> = (0..400).map(|i| f32::from(u8::from(i < 200))).collect();
        let config = ProbeConfig {
            widths: vec![],
            steps: 300,
            learning_rate: 3e-2,
            ..ProbeConfig::default()
        };
        let probe = both.teach(&weights, 2, &config, 0, &Device::Cpu).unwrap();
        assert!(train.error_of(&probe).unwrap() < 0.02);
        let said = both
            .teach(&[1.0], 2, &config, 0, &Device::Cpu)
            .err()
            .unwrap();
        assert!(said.to_string().contains("400 labels, 1 weights"), "{said}");
    }
}
