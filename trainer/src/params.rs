//! Named parameters of a network: seeded at birth, listed in name order for ever after.
//!
//! In: a seed and the shapes that layers ask for. Out: [`Params`], the trainable variables and the
//! running statistics of batch normalisation, each under a dotted path (`backbone.stage3.conv1.weight`).
//!
//! Every parameter draws from a stream of its own, derived from `(seed, name)`: adding a layer does not
//! change how the others are born, and nothing depends on hash order or on candle's unseeded generator.

use std::collections::BTreeMap;

use candle_core::{Device, Result, Tensor, Var};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sha2::{Digest, Sha256};

use crate::ops::{RunningStats, SharedRunningStats};

/// Trainable variables and batch-norm statistics by name, in name order.
#[derive(Clone, Default)]
pub struct Params {
    /// Trainable variables.
    pub vars: BTreeMap<String, Var>,
    /// Running mean and variance of every batch normalisation.
    pub stats: BTreeMap<String, SharedRunningStats>,
}

/// How a fresh variable is filled.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// One value everywhere.
    Constant(f32),
    /// Uniform with the standard deviation `sqrt(2 / fan_in)` (He et al. 2015).
    He {
        /// Inputs that reach one output.
        fan_in: usize,
    },
    /// Normal with mean zero.
    Normal {
        /// Standard deviation.
        std: f32,
    },
}

/// Creates parameters under a path; see the module head.
pub struct ParamBuilder {
    seed: u64,
    device: Device,
    params: Params,
}

impl ParamBuilder {
    /// A builder whose parameters are a function of `seed` alone.
    pub fn new(seed: u64, device: &Device) -> Self {
        Self {
            seed,
            device: device.clone(),
            params: Params::default(),
        }
    }

    /// A new variable of `shape` called `name`. Errors when the name is taken.
    pub fn var(&mut self, name: &str, shape: &[usize], init: Init) -> Result<Var> {
        let len: usize = shape.iter().product();
        let mut rng = stream_of(self.seed, name);
        let values: Vec<f32> = match init {
            Init::Constant(value) => vec![value; len],
            Init::He { fan_in } => {
                let bound = (6.0 / fan_in.max(1) as f32).sqrt();
                (0..len).map(|_| rng.random_range(-bound..bound)).collect()
            }
            Init::Normal { std } => (0..len).map(|_| std * normal(&mut rng)).collect(),
        };
        let var = Var::from_vec(values, shape, &self.device)?;
        if self
            .params
            .vars
            .insert(name.to_owned(), var.clone())
            .is_some()
        {
            candle_core::bail!("parameter {name} is declared twice");
        }
        Ok(var)
    }

    /// Running statistics of `channels` channels called `name`: mean 0, variance 1.
    pub fn stats(&mut self, name: &str, channels: usize) -> SharedRunningStats {
        let stats = RunningStats::new(channels).into_shared();
        self.params.stats.insert(name.to_owned(), stats.clone());
        stats
    }

    /// Everything declared so far.
    pub fn finish(self) -> Params {
        self.params
    }
}

impl Params {
    /// Number of trainable values.
    pub fn parameter_count(&self) -> usize {
        self.vars.values().map(|v| v.elem_count()).sum()
    }

    /// The variables and statistics whose names begin with one of `starts`; they are the same ones, not copies.
    #[must_use]
    pub fn of(&self, starts: &[&str]) -> Self {
        self.chosen(|name| starts.iter().any(|start| name.starts_with(start)))
    }

    /// All others.
    #[must_use]
    pub fn without(&self, starts: &[&str]) -> Self {
        self.chosen(|name| !starts.iter().any(|start| name.starts_with(start)))
    }

    fn chosen(&self, wanted: impl Fn(&str) -> bool) -> Self {
        let vars = self.vars.iter().filter(|(name, _)| wanted(name));
        let stats = self.stats.iter().filter(|(name, _)| wanted(name));
        Self {
            vars: vars.map(|(n, v)| (n.clone(), v.clone())).collect(),
            stats: stats.map(|(n, s)| (n.clone(), s.clone())).collect(),
        }
    }

    /// Copies of all values and statistics, as plain vectors.
    pub fn snapshot(&self) -> Result<Snapshot> {
        let mut values = BTreeMap::new();
        for (name, var) in &self.vars {
            values.insert(
                name.clone(),
                var.as_tensor().flatten_all()?.to_vec1::<f32>()?,
            );
        }
        for (name, stats) in &self.stats {
            let stats = lock(stats);
            values.insert(format!("{name}.running_mean"), stats.mean.clone());
            values.insert(format!("{name}.running_var"), stats.variance.clone());
        }
        Ok(Snapshot { values })
    }

    /// Overwrites all values and statistics. Errors name the first value that is missing, of a wrong
    /// length, or unknown; nothing is changed then.
    pub fn restore(&self, snapshot: &Snapshot) -> Result<()> {
        let mut expected: BTreeMap<String, usize> = self
            .vars
            .iter()
            .map(|(n, v)| (n.clone(), v.elem_count()))
            .collect();
        for (name, stats) in &self.stats {
            let channels = lock(stats).mean.len();
            expected.insert(format!("{name}.running_mean"), channels);
            expected.insert(format!("{name}.running_var"), channels);
        }
        for (name, len) in &expected {
            match snapshot.values.get(name) {
                None => candle_core::bail!("parameter {name} is missing"),
                Some(v) if v.len() != *len => {
                    candle_core::bail!("parameter {name} has {} values, expected {len}", v.len())
                }
                Some(_) => {}
            }
        }
        if let Some(name) = snapshot.values.keys().find(|n| !expected.contains_key(*n)) {
            candle_core::bail!("parameter {name} is unknown to this model");
        }
        for (name, var) in &self.vars {
            let values = &snapshot.values[name];
            var.set(&Tensor::from_slice(values, var.shape(), var.device())?)?;
        }
        for (name, stats) in &self.stats {
            let mut stats = lock(stats);
            stats
                .mean
                .copy_from_slice(&snapshot.values[&format!("{name}.running_mean")]);
            stats
                .variance
                .copy_from_slice(&snapshot.values[&format!("{name}.running_var")]);
        }
        Ok(())
    }
}

/// All values of a model at one moment, by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// Flat values in the variable's own order.
    pub values: BTreeMap<String, Vec<f32>>,
}

impl Snapshot {
    /// Moves every value towards `other` by `1 - keep` (exponential moving average).
    pub fn blend_towards(&mut self, other: &Snapshot, keep: f32) {
        for (name, mine) in &mut self.values {
            let Some(theirs) = other.values.get(name) else {
                continue;
            };
            for (a, b) in mine.iter_mut().zip(theirs) {
                *a = keep * *a + (1.0 - keep) * *b;
            }
        }
    }
}

/// Locks statistics, the newest ones. A GPU that does not give them back has failed for good, and says so wherever its
/// weights are read; until then these are NaN, so that nobody takes old numbers for new ones.
pub fn lock(stats: &SharedRunningStats) -> std::sync::MutexGuard<'_, RunningStats> {
    stats.lock().unwrap_or_else(|_| stats.lock_unknown())
}

fn stream_of(seed: u64, name: &str) -> ChaCha8Rng {
    let mut hasher = Sha256::new();
    hasher.update(seed.to_le_bytes());
    hasher.update(name.as_bytes());
    ChaCha8Rng::from_seed(hasher.finalize().into())
}

/// One standard normal draw (Box-Muller).
pub(crate) fn normal(rng: &mut ChaCha8Rng) -> f32 {
    let u: f32 = rng.random_range(f32::EPSILON..1.0);
    let v: f32 = rng.random_range(0.0..std::f32::consts::TAU);
    (-2.0 * u.ln()).sqrt() * v.cos()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn two_weights(order: [&str; 2]) -> Params {
        let mut builder = ParamBuilder::new(7, &Device::Cpu);
        for name in order {
            builder.var(name, &[3, 4], Init::He { fan_in: 3 }).unwrap();
        }
        builder.finish()
    }

    #[test]
    fn a_parameter_is_born_the_same_whatever_is_declared_before_it() {
        let forwards = two_weights(["a", "b"]).snapshot().unwrap();
        let backwards = two_weights(["b", "a"]).snapshot().unwrap();
        assert_eq!(forwards, backwards);
        assert_ne!(forwards.values["a"], forwards.values["b"]);
    }

    #[test]
    fn restore_names_the_value_that_does_not_fit_and_changes_nothing() {
        let params = two_weights(["a", "b"]);
        let before = params.snapshot().unwrap();
        let mut wrong = before.clone();
        wrong.values.insert("a".into(), vec![9.0; 12]);
        wrong.values.insert("b".into(), vec![0.0; 5]);
        let message = params.restore(&wrong).unwrap_err().to_string();
        assert!(
            message.contains("parameter b has 5 values, expected 12"),
            "{message}"
        );
        assert_eq!(params.snapshot().unwrap(), before);
    }

    #[test]
    fn a_name_cannot_be_taken_twice() {
        let mut builder = ParamBuilder::new(1, &Device::Cpu);
        builder.var("a", &[1], Init::Constant(0.0)).unwrap();
        assert!(builder.var("a", &[1], Init::Constant(0.0)).is_err());
    }
}
