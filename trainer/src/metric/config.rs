//! What the command `metric` is told.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Learner;
use super::kernel::Kernel;
use super::lmnn::LmnnConfig;
use crate::config::{ConfigError, SystemConfig, in_range};
use crate::labelled::LabelledConfig;

/// A run of `metric`. Every key has a default: wine, LMNN, no kernel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MetricRun {
    /// Everything random follows from it.
    pub seed: u64,
    /// A CSV file `a,b,similar` of pairs for ITML, below the data's root, instead of pairs drawn from the classes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pairs: Option<PathBuf>,
    /// Directions of the kernel's space that are kept; 0 for all.
    pub kernel_components: usize,
    /// Samples.
    pub data: LabelledConfig,
    /// What is learned and exported.
    pub learner: Learner,
    /// Non-linearity.
    pub kernel: Kernel,
    /// How it is scored.
    pub evaluate: EvaluateConfig,
}

impl Default for MetricRun {
    fn default() -> Self {
        Self {
            seed: 0,
            pairs: None,
            kernel_components: 0,
            data: LabelledConfig::table("small/wine.csv"),
            learner: Learner::Lmnn(LmnnConfig::default()),
            kernel: Kernel::None,
            evaluate: EvaluateConfig::default(),
        }
    }
}

/// Cross-validation by k nearest neighbours.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EvaluateConfig {
    /// Neighbours that vote.
    pub neighbours: usize,
    /// Parts of the samples, each of which is held out once.
    pub folds: usize,
    /// Times that the samples are dealt out anew.
    pub repeats: u64,
    /// Whether every other learner, with its default settings, is scored beside the chosen one.
    pub compare: bool,
}

impl Default for EvaluateConfig {
    fn default() -> Self {
        Self {
            neighbours: 3,
            folds: 10,
            repeats: 5,
            compare: true,
        }
    }
}

impl SystemConfig for MetricRun {
    fn validate(&self) -> Result<(), ConfigError> {
        if self.data.test.is_some() {
            let reason = "data.test is set, but metric is scored by cross-validation";
            return Err(ConfigError::Value(reason.into()));
        }
        self.kernel.validate()?;
        in_range("kernel_components", self.kernel_components as f64, 0.0, 1e6)?;
        in_range(
            "evaluate.neighbours",
            self.evaluate.neighbours as f64,
            1.0,
            1000.0,
        )?;
        in_range("evaluate.folds", self.evaluate.folds as f64, 2.0, 1000.0)?;
        in_range(
            "evaluate.repeats",
            self.evaluate.repeats as f64,
            1.0,
            1000.0,
        )?;
        match &self.learner {
            Learner::Euclidean => Ok(()),
            Learner::Covariance(c) => in_range("learner.ridge", c.ridge, 0.0, 1e6),
            Learner::Nca(c) => {
                in_range("learner.iterations", c.iterations as f64, 1.0, 1e6)?;
                in_range("learner.ridge", c.ridge, 0.0, 1e6)
            }
            Learner::Lmnn(c) => {
                in_range("learner.iterations", c.iterations as f64, 1.0, 1e6)?;
                in_range("learner.neighbours", c.neighbours as f64, 1.0, 1000.0)?;
                in_range("learner.push", c.push, 0.0, 1.0)
            }
            Learner::Kissme(c) => {
                in_range("learner.pairs", c.pairs as f64, 1.0, 1e7)?;
                in_range("learner.ridge", c.ridge, 0.0, 1e6)
            }
            Learner::Itml(c) => {
                in_range("learner.iterations", c.iterations as f64, 1.0, 1e6)?;
                in_range("learner.pairs", c.pairs as f64, 0.0, 1e7)?;
                in_range("learner.tail", c.tail, 0.0, 0.5)?;
                in_range("learner.gamma", c.gamma, 1e-9, 1e9)?;
                in_range("learner.change", c.change, 0.0, 1.0)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_key_has_a_default_and_what_cannot_be_is_refused_by_name() {
        assert_eq!(MetricRun::parse("").unwrap(), MetricRun::default());
        let text = MetricRun::default().to_toml().unwrap();
        assert_eq!(MetricRun::parse(&text).unwrap(), MetricRun::default());
        for (text, part) in [
            (
                "[learner]\nkind = \"nca\"\niterations = 0\n",
                "learner.iterations is 0",
            ),
            (
                "[learner]\nkind = \"lmnn\"\npush = 2.0\n",
                "learner.push is 2",
            ),
            ("[learner]\nkind = \"lmnn\"\npull = 0.5\n", "pull"),
            (
                "[kernel]\nkind = \"rbf\"\ngamma = nan\n",
                "kernel.gamma is NaN",
            ),
            ("[evaluate]\nfolds = 1\n", "evaluate.folds is 1"),
            (
                "[data.train]\nkind = \"csv\"\npath = \"a\"\n[data.test]\nkind = \"csv\"\npath = \"b\"\n",
                "data.test is set",
            ),
        ] {
            let said = MetricRun::parse(text).unwrap_err().to_string();
            assert!(said.contains(part), "{said}");
        }
    }
}
