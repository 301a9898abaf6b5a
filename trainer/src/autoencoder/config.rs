//! What the command `autoencoder` is told.

use serde::{Deserialize, Serialize};

use super::prior::PriorConfig;
use crate::config::{ConfigError, SystemConfig, in_range};
use crate::epochs::EpochsConfig;
use crate::labelled::{LabelledConfig, Source};
use crate::model::stack::StackConfig;
use crate::optim::OptimConfig;

/// A run of `autoencoder`. Every key has a default: a VAE of binarised MNIST.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AutoencoderRun {
    /// Everything random follows from it.
    pub seed: u64,
    /// Values of a code.
    pub latent: usize,
    /// Whether values are made 0 or 1.
    pub binarise: Binarise,
    /// Samples.
    pub data: LabelledConfig,
    /// Samples that do not belong, mixed into the ones to learn from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outliers: Option<OutlierConfig>,
    /// Widths of the encoder; the decoder has them the other way round. Without any both are linear.
    pub network: StackConfig,
    /// What is learned.
    pub kind: Kind,
    /// What a decoded value means; of the two VAEs.
    pub decoded: Decoded,
    /// Optimiser.
    pub optim: OptimConfig,
    /// Length and rhythm.
    pub train: EpochsConfig,
    /// The estimate of the likelihood at the end of a VAE's run.
    pub likelihood: LikelihoodConfig,
}

/// Whether values from 0 to 1 are made 0 or 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Binarise {
    /// They are not.
    Never,
    /// 1 from one half on.
    Threshold,
    /// 1 with the value as the probability: anew each time in training, once for all in scoring (Salakhutdinov and Murray
    /// 2008).
    Stochastic,
}

/// What a decoded value means.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Decoded {
    /// The logarithm of the odds of a 1.
    Bernoulli {},
    /// The middle of a normal distribution.
    Gaussian {
        /// Its deviation.
        deviation: f64,
    },
}

/// Samples that do not belong.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutlierConfig {
    /// Share of the samples to learn from.
    pub share: f64,
    /// Where they come from; a path that is not absolute is relative to the data's root.
    pub source: Source,
}

/// How the covariance of a code is described.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Covariance {
    /// A deviation a value.
    #[default]
    Diagonal,
    /// `L L^T` with a lower triangular `L`, its diagonal positive.
    Full,
}

/// What is learned.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Kind {
    /// Mean squared error through a short code.
    Plain {},
    /// A code of values from 0 on, whose sum is kept small.
    SparseL1(SparseL1Config),
    /// A code of values from 0 to 1, each of which is active in a given share of the samples (Ng 2011).
    SparseKl(SparseKlConfig),
    /// The whole sample from a damaged one.
    Denoising(DenoisingConfig),
    /// Variational, prior N(0, I).
    Vae(VaeConfig),
    /// Variational, prior with a box.
    RobustVae(RobustConfig),
}

/// Constants of `sparse_l1`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SparseL1Config {
    /// What the mean of a code counts beside the mean squared error.
    pub weight: f64,
}

impl Default for SparseL1Config {
    fn default() -> Self {
        Self { weight: 0.01 }
    }
}

/// Constants of `sparse_kl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SparseKlConfig {
    /// What the divergence, summed over the code, counts beside the mean squared error.
    pub weight: f64,
    /// Mean that each value of the code should have.
    pub activity: f64,
}

impl Default for SparseKlConfig {
    fn default() -> Self {
        Self {
            weight: 0.01,
            activity: 0.05,
        }
    }
}

/// Constants of `denoising`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DenoisingConfig {
    /// Deviation of the noise that is added.
    pub deviation: f64,
    /// Share of the values that are set to 0 after that.
    pub masked: f64,
}

impl Default for DenoisingConfig {
    fn default() -> Self {
        Self {
            deviation: 0.2,
            masked: 0.25,
        }
    }
}

/// Constants of `vae`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct VaeConfig {
    /// How the covariance of a code is described.
    pub covariance: Covariance,
    /// What the divergence from the prior counts (Higgins et al. 2017); figures are always those of 1.
    pub beta: f64,
    /// Share of the steps over which that rises from 0.
    pub warm_up: f64,
}

impl Default for VaeConfig {
    fn default() -> Self {
        Self {
            covariance: Covariance::Diagonal,
            beta: 1.0,
            warm_up: 0.1,
        }
    }
}

/// What the decoder of a robust VAE is given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mixing {
    /// A draw of each component, each counted by its weight: the stratified bound.
    #[default]
    Stratified,
    /// One weighted sum of the two draws. A baseline: that is no draw of the mixture, and what is descended is no bound.
    Convex,
}

/// Constants of `robust_vae`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RobustConfig {
    /// How the covariance of the Gaussian component is described.
    pub covariance: Covariance,
    /// As of `vae`.
    pub beta: f64,
    /// As of `vae`.
    pub warm_up: f64,
    /// What the decoder is given.
    pub mixing: Mixing,
    /// The prior; the posterior has its weights.
    pub prior: PriorConfig,
}

impl Default for RobustConfig {
    fn default() -> Self {
        let VaeConfig {
            covariance,
            beta,
            warm_up,
        } = VaeConfig::default();
        Self {
            covariance,
            beta,
            warm_up,
            mixing: Mixing::Stratified,
            prior: PriorConfig::default(),
        }
    }
}

impl Kind {
    /// Its name in a configuration.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Plain {} => "plain",
            Self::SparseL1(_) => "sparse_l1",
            Self::SparseKl(_) => "sparse_kl",
            Self::Denoising(_) => "denoising",
            Self::Vae(_) => "vae",
            Self::RobustVae(_) => "robust_vae",
        }
    }

    /// Each with its default constants.
    pub fn all() -> [Self; 6] {
        [
            Self::Plain {},
            Self::SparseL1(SparseL1Config::default()),
            Self::SparseKl(SparseKlConfig::default()),
            Self::Denoising(DenoisingConfig::default()),
            Self::Vae(VaeConfig::default()),
            Self::RobustVae(RobustConfig::default()),
        ]
    }

    /// What the sum of the two costs of a variational one is called. The weighted sum decodes one place between the draws of both
    /// components, which neither of them made: its cost bounds no likelihood, and is not to be held against those that do.
    pub fn bound_name(&self) -> &'static str {
        match self {
            Self::RobustVae(config) if config.mixing == Mixing::Convex => "weighted_sum_cost",
            _ => "negative_elbo",
        }
    }

    /// Covariance, beta and warm-up of the two VAEs.
    pub fn variational(&self) -> Option<VaeConfig> {
        match self {
            Self::Vae(config) => Some(config.clone()),
            Self::RobustVae(config) => Some(VaeConfig {
                covariance: config.covariance,
                beta: config.beta,
                warm_up: config.warm_up,
            }),
            _ => None,
        }
    }
}

/// The estimate of the likelihood by importance sampling (Burda et al. 2016).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LikelihoodConfig {
    /// Draws a sample; 0 for no estimate.
    pub draws: usize,
    /// Samples to score on that it is made for, evenly among all.
    pub samples: usize,
}

impl Default for LikelihoodConfig {
    fn default() -> Self {
        Self {
            draws: 100,
            samples: 500,
        }
    }
}

impl Default for AutoencoderRun {
    fn default() -> Self {
        Self {
            seed: 0,
            latent: 40,
            binarise: Binarise::Stochastic,
            data: LabelledConfig::mnist(),
            outliers: None,
            network: StackConfig {
                channels: vec![],
                widths: vec![400, 400],
                ..StackConfig::default()
            },
            kind: Kind::Vae(VaeConfig::default()),
            decoded: Decoded::Bernoulli {},
            optim: OptimConfig {
                learning_rate: 1e-3,
                weight_decay: 0.0,
                clip_norm: 200.0,
                ..OptimConfig::default()
            },
            train: EpochsConfig {
                epochs: 6.0,
                full_epochs: 60.0,
                ..EpochsConfig::default()
            },
            likelihood: LikelihoodConfig::default(),
        }
    }
}

impl SystemConfig for AutoencoderRun {
    fn validate(&self) -> Result<(), ConfigError> {
        self.network.validate("network")?;
        self.optim.validate()?;
        self.train.validate()?;
        in_range("latent", self.latent as f64, 1.0, 512.0)?;
        in_range("likelihood.draws", self.likelihood.draws as f64, 0.0, 1e5)?;
        in_range(
            "likelihood.samples",
            self.likelihood.samples as f64,
            1.0,
            1e6,
        )?;
        if let Some(outliers) = &self.outliers {
            in_range("outliers.share", outliers.share, 0.0, 0.9)?;
        }
        if let Decoded::Gaussian { deviation } = self.decoded {
            in_range("decoded.deviation", deviation, 1e-3, 1e3)?;
        }
        if let Some(vae) = self.kind.variational() {
            in_range("kind.beta", vae.beta, 0.0, 1e4)?;
            in_range("kind.warm_up", vae.warm_up, 0.0, 1.0)?;
        }
        match &self.kind {
            Kind::Plain {} | Kind::Vae(_) => Ok(()),
            Kind::SparseL1(c) => in_range("kind.weight", c.weight, 0.0, 1e6),
            Kind::SparseKl(c) => {
                in_range("kind.weight", c.weight, 0.0, 1e6)?;
                in_range("kind.activity", c.activity, 1e-4, 0.9)
            }
            Kind::Denoising(c) => {
                in_range("kind.deviation", c.deviation, 0.0, 100.0)?;
                in_range("kind.masked", c.masked, 0.0, 0.99)
            }
            Kind::RobustVae(c) => c.prior.validate(self.latent),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_a_table_that_systems_share_does_not_say_is_as_this_system_has_it() {
        let text = "[optim]\nlearning_rate = 5.0e-4\n[train]\nbatch = 64\n";
        let run = AutoencoderRun::parse(text).unwrap();
        let defaults = AutoencoderRun::default();
        let expected = AutoencoderRun {
            optim: OptimConfig {
                learning_rate: 5e-4,
                ..defaults.optim.clone()
            },
            train: EpochsConfig {
                batch: 64,
                ..defaults.train.clone()
            },
            ..defaults
        };
        assert_eq!(run, expected);
        // Else this would prove nothing.
        assert_ne!(run.optim.clip_norm, OptimConfig::default().clip_norm);
        assert_ne!(run.train.epochs, EpochsConfig::default().epochs);
    }

    #[test]
    fn every_key_has_a_default_and_what_cannot_be_is_refused_by_name() {
        assert_eq!(
            AutoencoderRun::parse("").unwrap(),
            AutoencoderRun::default()
        );
        for kind in Kind::all() {
            let run = AutoencoderRun {
                kind,
                latent: 3,
                ..AutoencoderRun::default()
            };
            let text = run.to_toml().unwrap();
            assert_eq!(AutoencoderRun::parse(&text).unwrap(), run, "{text}");
        }
        for (text, part) in [
            ("latent = 0\n", "latent is 0"),
            ("latnt = 2\n", "latnt"),
            ("[kind]\nkind = \"vae\"\nbetta = 2.0\n", "betta"),
            (
                "[kind]\nkind = \"sparse_kl\"\nactivity = 1.0\n",
                "kind.activity is 1",
            ),
            (
                "[decoded]\nkind = \"gaussian\"\ndeviation = 0.0\n",
                "decoded.deviation is 0",
            ),
            (
                "latent = 8\n[kind]\nkind = \"robust_vae\"\n[kind.prior]\njoint = true\n",
                "latent is 8",
            ),
            (
                "[outliers]\nshare = 1.5\n[outliers.source]\nkind = \"csv\"\npath = \"a\"\n",
                "outliers.share is 1.5",
            ),
        ] {
            let said = AutoencoderRun::parse(text).unwrap_err().to_string();
            assert!(said.contains(part), "{said}");
        }
    }
}
