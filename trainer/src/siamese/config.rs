//! What the command `siamese` is told.

use serde::{Deserialize, Serialize};

use crate::config::{ConfigError, SystemConfig, in_range};
use crate::epochs::EpochsConfig;
use crate::labelled::LabelledConfig;
use crate::labelled::warp::WarpConfig;
use crate::loss::embedding::EmbeddingLoss;
use crate::loss::embedding::multi_similarity::MultiSimilarityConfig;
use crate::model::stack::StackConfig;
use crate::optim::OptimConfig;
use crate::siamese::signs::SignsConfig;

/// A run of `siamese`. Every key has a default: MNIST, two digits held out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SiameseRun {
    /// Everything random follows from it.
    pub seed: u64,
    /// Classes that are never shown in training, and that it is scored on.
    pub held_out: Vec<u32>,
    /// Classes that are neither shown nor scored on: those of a final score, while other choices are made by `held_out`.
    pub set_aside: Vec<u32>,
    /// Samples of one class in a batch; a divisor of `train.batch`.
    pub samples_per_class: usize,
    /// Quarters of a turn that make a class another one, with samples of its own: more classes to learn from (Vinyals et al. 2016
    /// have all three). Samples must be square pictures where there are any. With 2, a 6 is shown as what a 9 is; with 1 and 3
    /// both, a 6 turned to the right and a 9 turned to the left are two classes that look the same.
    pub turns: Vec<u32>,
    /// Invented classes beside those of the samples.
    pub signs: SignsConfig,
    /// Samples.
    pub data: LabelledConfig,
    /// Widths of the network.
    pub network: StackConfig,
    /// Its result.
    pub embedding: EmbeddingConfig,
    /// What it is told.
    pub loss: EmbeddingLoss,
    /// How samples are moved in training.
    pub warp: WarpConfig,
    /// Optimiser.
    pub optim: OptimConfig,
    /// Length and rhythm.
    pub train: EpochsConfig,
    /// How it is scored.
    pub evaluate: VerifyConfig,
}

/// The network's result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EmbeddingConfig {
    /// Values of it.
    pub length: usize,
    /// Whether it is brought to unit norm.
    pub unit_norm: bool,
}

impl Default for EmbeddingConfig {
    fn default() -> Self {
        Self {
            length: 64,
            unit_norm: true,
        }
    }
}

/// Scores on held-out classes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VerifyConfig {
    /// Samples of a class at most: all pairs of them are compared.
    pub per_class: usize,
}

impl Default for VerifyConfig {
    fn default() -> Self {
        Self { per_class: 1000 }
    }
}

impl Default for SiameseRun {
    fn default() -> Self {
        Self {
            seed: 0,
            held_out: vec![8, 9],
            set_aside: Vec::new(),
            samples_per_class: 16,
            turns: vec![1],
            signs: SignsConfig::default(),
            data: LabelledConfig::mnist(),
            network: StackConfig {
                channels: vec![32, 64, 96],
                widths: vec![],
                ..StackConfig::default()
            },
            embedding: EmbeddingConfig::default(),
            loss: EmbeddingLoss::MultiSimilarity(MultiSimilarityConfig::default()),
            warp: WarpConfig::default(),
            optim: OptimConfig::default(),
            train: EpochsConfig {
                epochs: 5.0,
                full_epochs: 30.0,
                ..EpochsConfig::default()
            },
            evaluate: VerifyConfig::default(),
        }
    }
}

impl SystemConfig for SiameseRun {
    fn validate(&self) -> Result<(), ConfigError> {
        self.network.validate("network")?;
        self.loss.validate()?;
        self.signs.validate()?;
        self.warp.validate()?;
        self.optim.validate()?;
        self.train.validate()?;
        in_range(
            "embedding.length",
            self.embedding.length as f64,
            1.0,
            4096.0,
        )?;
        in_range(
            "evaluate.per_class",
            self.evaluate.per_class as f64,
            2.0,
            5000.0,
        )?;
        in_range(
            "samples_per_class",
            self.samples_per_class as f64,
            2.0,
            4096.0,
        )?;
        let all = [1, 2, 3];
        let of = |turn: u32| self.turns.iter().filter(|t| **t == turn).count();
        if all.iter().any(|turn| of(*turn) > 1) || self.turns.iter().any(|t| !all.contains(t)) {
            return Err(ConfigError::Value(format!(
                "turns is {:?}, expected some of 1, 2 and 3, each once",
                self.turns
            )));
        }
        if !self.train.batch.is_multiple_of(self.samples_per_class) {
            return Err(ConfigError::Value(format!(
                "train.batch is {}, expected a multiple of samples_per_class, {}",
                self.train.batch, self.samples_per_class
            )));
        }
        if self.held_out.is_empty() {
            return Err(ConfigError::Value(
                "held_out is empty, expected classes to score on".into(),
            ));
        }
        if let Some(class) = self.set_aside.iter().find(|c| self.held_out.contains(c)) {
            return Err(ConfigError::Value(format!(
                "set_aside has class {class}, which is in held_out: it cannot be scored and not"
            )));
        }
        if self.loss.needs_unit_norm() && !self.embedding.unit_norm {
            return Err(ConfigError::Value(format!(
                "embedding.unit_norm is false, but {} compares similarities",
                self.loss.name()
            )));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_key_has_a_default_and_what_cannot_be_is_refused_by_name() {
        assert_eq!(SiameseRun::parse("").unwrap(), SiameseRun::default());
        for loss in EmbeddingLoss::all() {
            let run = SiameseRun {
                loss,
                ..SiameseRun::default()
            };
            assert_eq!(SiameseRun::parse(&run.to_toml().unwrap()).unwrap(), run);
        }
        for (text, part) in [
            ("held_out = []\n", "held_out is empty"),
            ("set_aside = [9]\n", "set_aside has class 9"),
            ("[signs]\nshare = 1.5\n", "signs.share is 1.5"),
            ("[signs]\npen = [0.2, 0.1]\n", "signs.pen, thickest"),
            (
                "samples_per_class = 7\n",
                "a multiple of samples_per_class, 7",
            ),
            (
                "[embedding]\nunit_norm = false\n",
                "multi_similarity compares similarities",
            ),
            (
                "[loss]\nkind = \"energy\"\ndecay = 0.0\n",
                "loss.decay is 0",
            ),
            ("[loss]\nkind = \"triplet\"\nmining = \"soft\"\n", "soft"),
            ("[train]\nepoch = 3\n", "epoch"),
            ("[warp]\nshear = nan\n", "warp.shear is NaN"),
        ] {
            let said = SiameseRun::parse(text).unwrap_err().to_string();
            assert!(said.contains(part), "{said}");
        }
    }
}
