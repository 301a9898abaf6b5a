//! Runs that are counted in epochs: how long, and which samples are in which batch.
//!
//! In: a number of samples and a seed. Out: for any step the samples of its batch, a function of seed and step, so that a
//! resumed run sees what an uninterrupted one sees.
//!
//! ```
//! use roadhound_trainer::epochs::Shuffled;
//! let mut seen: Vec<usize> = Shuffled::new(10, 4, 7).from_step(0).take(3).flatten().collect();
//! assert_eq!(seen.len(), 12); // an epoch of ten, and two of the next
//! seen.truncate(10);
//! seen.sort_unstable();
//! assert_eq!(seen, (0..10).collect::<Vec<_>>());
//! ```

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::config::{ConfigError, in_range};
use crate::train_loop::LoopConfig;

/// Steps between two checkpoints.
const CHECKPOINT_EVERY: u64 = 500;

/// Length and rhythm of a run over samples.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EpochsConfig {
    /// Times that as many samples are seen as there are.
    pub epochs: f64,
    /// The same for `--full`, which repeats what was published and takes as long.
    pub full_epochs: f64,
    /// Samples a step.
    pub batch: usize,
    /// Steps between lines of the loss log.
    pub log_every: u64,
    /// Validations in all, evenly spread.
    pub validations: u64,
    /// Decay of the weights' moving average, reached gradually.
    pub average_keep: f64,
}

impl Default for EpochsConfig {
    fn default() -> Self {
        Self {
            epochs: 5.0,
            full_epochs: 50.0,
            batch: 128,
            log_every: 50,
            validations: 5,
            average_keep: 0.998,
        }
    }
}

impl EpochsConfig {
    /// Checks the ranges.
    ///
    /// # Errors
    /// The first value that is out of its range.
    pub fn validate(&self) -> Result<(), ConfigError> {
        in_range("train.epochs", self.epochs, 1e-6, 1e6)?;
        in_range("train.full_epochs", self.full_epochs, 1e-6, 1e6)?;
        in_range("train.batch", self.batch as f64, 1.0, 4096.0)?;
        in_range("train.log_every", self.log_every as f64, 1.0, 1e9)?;
        in_range("train.validations", self.validations as f64, 1.0, 1e6)?;
        in_range("train.average_keep", self.average_keep, 0.0, 1.0)
    }

    /// What the train loop is told, for this many samples.
    pub fn of_samples(&self, samples: usize, freeze_norm_share: f64) -> LoopConfig {
        let pairs = ((samples as f64 * self.epochs) as u64).max(1);
        let steps = pairs.div_ceil(self.batch as u64);
        LoopConfig {
            pairs,
            batch: self.batch,
            log_every: self.log_every,
            validate_every: steps.div_ceil(self.validations).max(1),
            checkpoint_every: CHECKPOINT_EVERY,
            average_keep: self.average_keep,
            freeze_norm_share,
            quantised_share: 0.0,
        }
    }
}

/// A generator for step `step` of a run, for one of its `purpose`s.
pub fn rng_at(seed: u64, purpose: u64, step: u64) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed ^ purpose.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    rng.set_stream(step);
    rng
}

const ORDER: u64 = 1;

/// Every sample once an epoch, in an order of its own each time.
#[derive(Clone, Debug)]
pub struct Shuffled {
    samples: usize,
    batch: usize,
    seed: u64,
    epoch: u64,
    order: Vec<usize>,
    next: u64,
}

impl Shuffled {
    /// Batches of `batch` among `samples` of them; both are at least one.
    pub fn new(samples: usize, batch: usize, seed: u64) -> Self {
        let mut shuffled = Self {
            samples: samples.max(1),
            batch: batch.max(1),
            seed,
            epoch: 0,
            order: Vec::new(),
            next: 0,
        };
        shuffled.deal(0);
        shuffled
    }

    /// Goes on with the batch of `step`.
    #[must_use]
    pub fn from_step(mut self, step: u64) -> Self {
        self.next = step * self.batch as u64;
        self
    }

    fn deal(&mut self, epoch: u64) {
        self.epoch = epoch;
        self.order = (0..self.samples).collect();
        self.order.shuffle(&mut rng_at(self.seed, ORDER, epoch));
    }
}

impl Iterator for Shuffled {
    type Item = Vec<usize>;

    fn next(&mut self) -> Option<Vec<usize>> {
        let mut batch = Vec::with_capacity(self.batch);
        for number in self.next..self.next + self.batch as u64 {
            let epoch = number / self.samples as u64;
            if epoch != self.epoch {
                self.deal(epoch);
            }
            batch.push(self.order[(number % self.samples as u64) as usize]);
        }
        self.next += self.batch as u64;
        Some(batch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resumed_run_sees_what_an_uninterrupted_one_sees_and_every_epoch_has_its_order() {
        let all: Vec<Vec<usize>> = Shuffled::new(10, 4, 3).take(9).collect();
        for (step, batch) in all.iter().enumerate() {
            let mut resumed = Shuffled::new(10, 4, 3).from_step(step as u64);
            assert_eq!(resumed.next().as_ref(), Some(batch));
        }
        let flat: Vec<usize> = all.concat();
        assert_ne!(flat[..10], flat[10..20]);
        let mut second = flat[10..20].to_vec();
        second.sort_unstable();
        assert_eq!(second, (0..10).collect::<Vec<_>>());
        assert_ne!(
            flat,
            Shuffled::new(10, 4, 4)
                .take(9)
                .flatten()
                .collect::<Vec<_>>()
        );
    }

    #[test]
    fn epochs_become_steps_and_validations_are_spread_over_them() {
        let config = EpochsConfig {
            epochs: 2.5,
            batch: 10,
            validations: 4,
            ..EpochsConfig::default()
        };
        let run = config.of_samples(100, 0.1);
        assert_eq!((run.pairs, run.steps(), run.validate_every), (250, 25, 7));
    }
}
