//! A small classifier that is taught to say what is in some numbers: the judge of made samples, and the probe of codes.
//!
//! In: rows with their classes, and a seed. Out: a [`Probe`], which names the class of a row and gives the features that it
//! goes by. Rows are standardised by the rows it was taught with. A probe that finds a class in a code shows that the code
//! holds it; one that does not is only as good as its training, so it is given as much as the published ones.
//!
//! ```
//! use candle_core::Device;
//! use roadhound_trainer::labelled::Shape;
//! use roadhound_trainer::probe::{Probe, ProbeConfig};
//! let rows: Vec<f32> = (0..64).map(|i| (i % 2) as f32 + 0.1 * (i % 3) as f32).collect();
//! let labels: Vec<u32> = (0..64).map(|i| i % 2).collect();
//! let shape = Shape { height: 1, width: 1, channels: 1 };
//! let config = ProbeConfig { epochs: 60.0, batch: 16, ..ProbeConfig::default() };
//! let probe = Probe::taught(&config, shape, &rows, &labels, 2, 1, &Device::Cpu)?;
//! assert!(probe.accuracy(&rows, &labels)? > 0.9);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use candle_core::{Device, Result, Tensor};
use serde::{Deserialize, Serialize};

use crate::config::{ConfigError, in_range};
use crate::descent::Descent;
use crate::epochs::Shuffled;
use crate::labelled::Shape;
use crate::loss::classes::cross_entropy;
use crate::model::Pass;
use crate::model::stack::{Stack, StackConfig, StackError};
use crate::ops::Precision;
use crate::optim::{AdamW, OptimConfig};
use crate::params::{ParamBuilder, Snapshot};

const EVALUATION_BATCH: usize = 500;

/// The classifier and its training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProbeConfig {
    /// Widths of its layers.
    pub network: StackConfig,
    /// Times that every row is shown.
    pub epochs: f64,
    /// Rows a step.
    pub batch: usize,
    /// Highest learning rate; it falls to nothing.
    pub learning_rate: f64,
}

impl Default for ProbeConfig {
    fn default() -> Self {
        Self {
            network: StackConfig {
                channels: vec![],
                widths: vec![256, 256],
                ..StackConfig::default()
            },
            epochs: 10.0,
            batch: 128,
            learning_rate: 2e-3,
        }
    }
}

impl ProbeConfig {
    /// Checks the ranges; `name` is the table's.
    ///
    /// # Errors
    /// The first value that is out of its range.
    pub fn validate(&self, name: &str) -> std::result::Result<(), ConfigError> {
        self.network.validate(&format!("{name}.network"))?;
        in_range(&format!("{name}.epochs"), self.epochs, 1e-6, 1e4)?;
        in_range(&format!("{name}.batch"), self.batch as f64, 1.0, 4096.0)?;
        in_range(
            &format!("{name}.learning_rate"),
            self.learning_rate,
            1e-9,
            1.0,
        )
    }
}

/// Rows, and what is to be said of each.
#[derive(Clone, Copy)]
pub struct Lesson<'a> {
    /// Samples of `shape`, one after the other.
    pub rows: &'a [f32],
    /// Of a row.
    pub shape: Shape,
    /// The class of each.
    pub labels: &'a [u32],
    /// How much each counts; all the same where there are none.
    pub weights: Option<&'a [f32]>,
    /// How many classes there are.
    pub classes: usize,
}

impl Lesson<'_> {
    fn check(&self) -> Result<()> {
        let (values, count, length) = (self.rows.len(), self.labels.len(), self.shape.len());
        let weights = self.weights.map_or(count, <[f32]>::len);
        if count == 0 || length == 0 || values != count * length || weights != count {
            candle_core::bail!(
                "{values} values for {count} labels, {weights} weights, expected {length} values each"
            );
        }
        Ok(())
    }
}

/// See the module head.
pub struct Probe {
    stack: Stack,
    length: usize,
    mean: Tensor,
    scale: Tensor,
    device: Device,
}

impl Probe {
    /// Teaches one; `rows` are samples of `shape`, one after the other.
    ///
    /// # Errors
    /// Rows that the network cannot take.
    pub fn taught(
        config: &ProbeConfig,
        shape: Shape,
        rows: &[f32],
        labels: &[u32],
        classes: usize,
        seed: u64,
        device: &Device,
    ) -> std::result::Result<Self, StackError> {
        let lesson = Lesson {
            rows,
            shape,
            labels,
            weights: None,
            classes,
        };
        let optim = OptimConfig {
            learning_rate: config.learning_rate,
            weight_decay: 1e-4,
            ..OptimConfig::default()
        };
        let steps = (labels.len() as f64 * config.epochs / config.batch as f64).ceil() as u64;
        let batches = Shuffled::new(labels.len(), config.batch, seed);
        let batches = (0..steps).zip(batches).map(|(_, batch)| batch);
        Self::of_batches(
            lesson,
            &config.network,
            &optim,
            steps,
            batches,
            seed,
            device,
        )
    }

    /// Teaches one by batches of the rows' numbers, of which there are `steps`.
    ///
    /// # Errors
    /// Labels or weights that do not fit the rows; rows that the network cannot take.
    pub fn of_batches(
        lesson: Lesson<'_>,
        network: &StackConfig,
        optim: &OptimConfig,
        steps: u64,
        batches: impl Iterator<Item = Vec<usize>>,
        seed: u64,
        device: &Device,
    ) -> std::result::Result<Self, StackError> {
        lesson.check()?;
        let length = lesson.shape.len();
        let mut builder = ParamBuilder::new(seed, device);
        let norm = !network.channels.is_empty();
        let (shape, classes) = (lesson.shape, lesson.classes);
        let stack = Stack::encoder(&mut builder, "probe", shape, network, classes, norm)?;
        let params = builder.finish();
        let (mean, scale) = standard(&lesson);
        let probe = Self {
            stack,
            length,
            mean: Tensor::from_vec(mean, (1, length), device)?,
            scale: Tensor::from_vec(scale, (1, length), device)?,
            device: device.clone(),
        };
        let mut descent = Descent::new(&params, AdamW::default(), Snapshot::default())?;
        let pass = Pass::training(Precision::F32, false, false);
        for (step, chosen) in (0..).zip(batches) {
            let rows = chosen
                .iter()
                .map(|row| &lesson.rows[row * length..][..length]);
            let x = probe.standardised(rows.collect::<Vec<_>>().concat())?;
            let labels: Vec<u32> = chosen.iter().map(|row| lesson.labels[*row]).collect();
            let weights = lesson.weights.map(|weights| {
                let of_batch: Vec<f32> = chosen.iter().map(|row| weights[*row]).collect();
                Tensor::from_vec(of_batch, chosen.len(), device)
            });
            let logits = probe.stack.forward(&x, pass)?;
            let loss = cross_entropy(&logits, &labels, weights.transpose()?.as_ref())?;
            let gradients = loss.backward()?;
            descent.step(&params, &gradients, optim.rate_at(step, steps), optim)?;
        }
        Ok(probe)
    }

    fn standardised(&self, values: Vec<f32>) -> Result<Tensor> {
        let count = values.len() / self.length;
        let x = Tensor::from_vec(values, (count, self.length), &self.device)?;
        x.broadcast_sub(&self.mean)?.broadcast_mul(&self.scale)
    }

    /// Logits and features of rows.
    fn seen(
        &self,
        rows: &[f32],
        mut each: impl FnMut(&Tensor, &Tensor) -> Result<()>,
    ) -> Result<()> {
        for rows in rows.chunks(EVALUATION_BATCH * self.length) {
            let x = self.standardised(rows.to_vec())?;
            let (logits, features) = self.stack.forward_with_features(&x, Pass::Eval)?;
            each(&logits, &features)?;
        }
        Ok(())
    }

    /// The class of each row.
    ///
    /// # Errors
    /// If an operator fails.
    pub fn classes_of(&self, rows: &[f32]) -> Result<Vec<u32>> {
        let mut classes = Vec::new();
        self.seen(rows, |logits, _| {
            classes.extend(highest(&logits.to_vec2::<f32>()?));
            Ok(())
        })?;
        Ok(classes)
    }

    /// What the last layer goes by, of each row.
    ///
    /// # Errors
    /// If an operator fails.
    pub fn features_of(&self, rows: &[f32]) -> Result<Vec<Vec<f64>>> {
        let mut all = Vec::new();
        self.seen(rows, |_, features| {
            let features = features.to_vec2::<f32>()?;
            all.extend(
                features
                    .iter()
                    .map(|row| row.iter().map(|v| f64::from(*v)).collect()),
            );
            Ok(())
        })?;
        Ok(all)
    }

    /// The share of rows whose class it names.
    ///
    /// # Errors
    /// If an operator fails.
    pub fn accuracy(&self, rows: &[f32], labels: &[u32]) -> Result<f64> {
        let found = self.classes_of(rows)?;
        let right = found.iter().zip(labels).filter(|(a, b)| a == b).count();
        Ok(right as f64 / labels.len().max(1) as f64)
    }
}

/// The place of the highest value of each row, the first of several.
pub fn highest(rows: &[Vec<f32>]) -> Vec<u32> {
    let of = |row: &Vec<f32>| {
        let mut best = 0;
        for (at, value) in row.iter().enumerate() {
            if *value > row[best] {
                best = at;
            }
        }
        best as u32
    };
    rows.iter().map(of).collect()
}

/// Mean and reciprocal deviation: of pictures one for all pixels, of other rows one for each column.
fn standard(lesson: &Lesson<'_>) -> (Vec<f32>, Vec<f32>) {
    let (rows, length) = (lesson.rows, lesson.shape.len());
    let weight = |row: usize| {
        lesson
            .weights
            .map_or(1.0, |weights| f64::from(weights[row]))
    };
    let moments = |columns: std::ops::Range<usize>| {
        let (mut total, mut sum, mut squares) = (0f64, 0f64, 0f64);
        for (row, values) in rows.chunks_exact(length).enumerate() {
            let weight = weight(row);
            for value in &values[columns.clone()] {
                let value = f64::from(*value);
                total += weight;
                sum += weight * value;
                squares += weight * value * value;
            }
        }
        let total = if total > 0.0 { total } else { 1.0 };
        let mean = sum / total;
        let variance = (squares / total - mean * mean).max(0.0);
        // A column that does not vary says nothing: it is left as it is.
        let scale = if variance > 1e-12 {
            variance.sqrt().recip()
        } else {
            1.0
        };
        (mean as f32, scale as f32)
    };
    if lesson.shape.is_picture() {
        let (mean, scale) = moments(0..length);
        return (vec![mean; length], vec![scale; length]);
    }
    (0..length)
        .map(|column| moments(column..column + 1))
        .unzip()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::epochs::rng_at;
    use crate::params::normal;

    #[test]
    fn what_is_there_is_found_and_what_is_not_is_not() {
        let mut rng = rng_at(1, 1, 1);
        let labels: Vec<u32> = (0..1200).map(|i| i % 4).collect();
        // The class is the quadrant of columns 1 and 2, on scales that differ by a thousand; column 0 is noise.
        let rows: Vec<f32> = labels
            .iter()
            .flat_map(|label| {
                let side = |bit: u32| if label >> bit & 1 == 1 { 1.0 } else { -1.0 };
                let mut noise = || 0.3 * normal(&mut rng);
                [
                    noise() * 5.0,
                    1000.0 * (side(0) + noise()),
                    side(1) + noise(),
                ]
            })
            .collect();
        let shape = Shape {
            height: 1,
            width: 1,
            channels: 3,
        };
        let config = ProbeConfig {
            network: StackConfig {
                channels: vec![],
                widths: vec![32],
                ..StackConfig::default()
            },
            epochs: 12.0,
            batch: 32,
            ..ProbeConfig::default()
        };
        let (train, test) = (&rows[..2400], &rows[2400..]);
        let taught = |labels: &[u32]| {
            Probe::taught(&config, shape, train, labels, 4, 3, &Device::Cpu).unwrap()
        };
        let probe = taught(&labels[..800]);
        assert!(probe.accuracy(test, &labels[800..]).unwrap() > 0.97);
        assert_eq!(probe.features_of(test).unwrap()[0].len(), 32);
        let shuffled: Vec<u32> = (0..800u32)
            .map(|i| i.wrapping_mul(2654435761) >> 13 & 3)
            .collect();
        let chance = taught(&shuffled).accuracy(test, &labels[800..]).unwrap();
        assert!(chance < 0.45, "{chance}");
        // The same seed teaches the same.
        assert_eq!(
            probe.features_of(test).unwrap(),
            taught(&labels[..800]).features_of(test).unwrap()
        );
    }

    #[test]
    fn rows_that_do_not_fit_their_labels_are_refused() {
        let shape = Shape {
            height: 1,
            width: 1,
            channels: 3,
        };
        let refused = Probe::taught(
            &ProbeConfig::default(),
            shape,
            &[0.0; 5],
            &[0, 1],
            2,
            0,
            &Device::Cpu,
        );
        assert!(
            refused
                .err()
                .unwrap()
                .to_string()
                .contains("5 values for 2 labels")
        );
    }
}
