//! What the command `gan` is told.

use serde::{Deserialize, Serialize};

use super::coverage::RingConfig;
use crate::config::{ConfigError, SystemConfig, in_range};
use crate::epochs::EpochsConfig;
use crate::labelled::LabelledConfig;
use crate::labelled::warp::WarpConfig;
use crate::loss::adversarial::GeneratorLoss;
use crate::model::stack::StackConfig;
use crate::optim::OptimConfig;
use crate::probe::ProbeConfig;

/// A run of `gan`. Every key has a default: digits of MNIST, stabilised.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GanRun {
    /// Everything random follows from it.
    pub seed: u64,
    /// What the generator descends.
    pub loss: GeneratorLoss,
    /// Samples.
    pub data: LabelledConfig,
    /// Points of known modes, which are learned in the place of `data`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ring: Option<RingConfig>,
    /// What a sample is made of.
    pub code: CodeConfig,
    /// What the code is held to say.
    pub mutual: MutualConfig,
    /// Widths of the generator, from the sample inwards.
    pub generator: StackConfig,
    /// Widths of the discriminator.
    pub discriminator: StackConfig,
    /// What keeps the two from running away from each other.
    pub stabilisers: StabiliserConfig,
    /// How real samples are moved.
    pub warp: WarpConfig,
    /// Optimisers of both.
    pub optim: OptimConfig,
    /// Length and rhythm.
    pub train: EpochsConfig,
    /// How made samples are scored.
    pub evaluate: EvaluateConfig,
}

/// What a sample is made of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CodeConfig {
    /// One of so many, all as likely; 0 for none.
    pub categories: usize,
    /// Values from -1 to 1, all as likely.
    pub continuous: usize,
    /// Values of a normal distribution.
    pub noise: usize,
}

impl Default for CodeConfig {
    fn default() -> Self {
        Self {
            categories: 10,
            continuous: 2,
            noise: 62,
        }
    }
}

impl CodeConfig {
    /// Values of a code.
    pub fn len(&self) -> usize {
        self.categories + self.continuous + self.noise
    }

    /// Whether it has no value.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Values of it that can be read off a sample again.
    pub fn readable(&self) -> usize {
        self.categories + self.continuous
    }
}

/// What the reader's success counts for the generator and the discriminator.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MutualConfig {
    /// Weight of the category's cross entropy.
    pub categorical: f64,
    /// Weight of the continuous values' squared error.
    pub continuous: f64,
    /// Width of the reader's layer between the discriminator's features and the code.
    pub width: usize,
    /// What the reader is held to say of real samples.
    pub invariance: InvarianceConfig,
}

impl Default for MutualConfig {
    fn default() -> Self {
        Self {
            categorical: 0.0,
            continuous: 0.0,
            width: 128,
            invariance: InvarianceConfig::default(),
        }
    }
}

/// Networks that read clusters, at most.
pub const MOST_READERS: usize = 8;

/// What is read off a real sample is to be what is read off one of its neighbours, both moved a little, and answers are to be
/// as different as they can: the mutual information of the two is raised (Ji et al. 2019). No class is needed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct InvarianceConfig {
    /// What a nat of it counts for the discriminator and the reader; 0 for InfoGAN as it was published.
    pub weight: f64,
    /// Pairs of real samples a step.
    pub pairs: usize,
    /// What is read; categories are groups of such clusters ([`clusters`](super::clusters)).
    pub clusters: usize,
    /// Networks that read clusters, each begun elsewhere. One of them is used: the one whose categories tell most of pairs.
    pub readers: usize,
    /// Nearest samples that are a sample's neighbours ([`Neighbours`](crate::labelled::neighbours::Neighbours)); 0: a pair is
    /// one sample twice.
    pub neighbours: usize,
    /// Steps from neighbour to neighbour, at most, between the two of a pair.
    pub hops: usize,
    /// Share of the steps at the start in which nothing else is learned; categories are settled at their end.
    pub alone: f64,
    /// Widths of the network that reads clusters, which shares nothing with the discriminator.
    pub network: StackConfig,
    /// Its learning rate, as a multiple of the optimiser's.
    pub rate: f64,
    /// How far either of a pair is moved.
    pub warp: WarpConfig,
}

impl Default for InvarianceConfig {
    fn default() -> Self {
        Self {
            weight: 0.0,
            pairs: 256,
            clusters: 50,
            readers: 1,
            neighbours: 10,
            hops: 2,
            alone: 0.4,
            network: StackConfig {
                channels: vec![16, 32, 64],
                widths: vec![],
                ..StackConfig::default()
            },
            rate: 2.0,
            warp: WarpConfig {
                shift_px: 2.0,
                turn_degrees: 15.0,
                scale: 0.2,
                shear: 0.2,
                bend_px: 1.0,
            },
        }
    }
}

/// How a discriminator's convolutions are normalised.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BatchNorm {
    /// Not at all.
    #[default]
    None,
    /// Real and made samples in one batch.
    Joint,
    /// In a batch each.
    Separate,
}

/// How the slope of the discriminator is found, whose square R1 is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PenaltyBy {
    /// Exactly; of dense layers.
    Gradient,
    /// By differences along drawn directions; of any layers.
    #[default]
    Directions,
}

/// What keeps the two players from running away from each other. See [`super`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StabiliserConfig {
    /// How much less than 1 the discriminator is asked to be sure of a real sample.
    pub label_smoothing: f64,
    /// Deviation of the noise that is added to real and made samples, at the start.
    pub instance_noise: f64,
    /// Share of the steps over which that falls to nothing.
    pub instance_noise_until: f64,
    /// Whether the discriminator's weights are brought to a largest singular value of 1.
    pub spectral_norm: bool,
    /// Learning rate of the discriminator, as a multiple of the optimiser's.
    pub discriminator_rate: f64,
    /// Learning rate of the generator, as a multiple of the optimiser's.
    pub generator_rate: f64,
    /// Normalisation of the discriminator.
    pub batch_norm: BatchNorm,
    /// Weight of the distance between mean features in the generator's loss.
    pub feature_matching: f64,
    /// Weight of R1: half the mean square of the discriminator's slope at real samples.
    pub r1: f64,
    /// How that is found.
    pub r1_by: PenaltyBy,
}

impl Default for StabiliserConfig {
    fn default() -> Self {
        Self {
            label_smoothing: 0.0,
            instance_noise: 0.0,
            instance_noise_until: 0.5,
            spectral_norm: false,
            discriminator_rate: 1.0,
            generator_rate: 1.0,
            batch_norm: BatchNorm::None,
            feature_matching: 0.0,
            r1: 0.0,
            r1_by: PenaltyBy::Directions,
        }
    }
}

/// How made samples are scored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EvaluateConfig {
    /// Samples that are made.
    pub samples: usize,
    /// The judge of what they show, taught on the labelled samples before the run.
    pub judge: ProbeConfig,
}

impl Default for EvaluateConfig {
    fn default() -> Self {
        Self {
            samples: 5000,
            judge: ProbeConfig {
                network: StackConfig {
                    channels: vec![16, 32],
                    widths: vec![64],
                    ..StackConfig::default()
                },
                epochs: 2.0,
                ..ProbeConfig::default()
            },
        }
    }
}

impl Default for GanRun {
    fn default() -> Self {
        Self {
            seed: 0,
            loss: GeneratorLoss::NonSaturating,
            data: LabelledConfig::mnist(),
            ring: None,
            code: CodeConfig::default(),
            mutual: MutualConfig::default(),
            generator: StackConfig {
                channels: vec![32, 64],
                widths: vec![256],
                ..StackConfig::default()
            },
            discriminator: StackConfig {
                channels: vec![32, 64],
                widths: vec![128],
                ..StackConfig::default()
            },
            stabilisers: StabiliserConfig {
                // What keeps the discriminator of digits from winning outright.
                r1: 2.0,
                ..StabiliserConfig::default()
            },
            warp: WarpConfig::none(),
            optim: OptimConfig {
                learning_rate: 1e-3,
                warm_up: 0.0,
                final_share: 0.1,
                weight_decay: 0.0,
                beta1: 0.5,
                clip_norm: 1e3,
                ..OptimConfig::default()
            },
            train: EpochsConfig {
                epochs: 4.0,
                full_epochs: 50.0,
                batch: 64,
                ..EpochsConfig::default()
            },
            evaluate: EvaluateConfig::default(),
        }
    }
}

impl SystemConfig for GanRun {
    fn validate(&self) -> Result<(), ConfigError> {
        self.generator.validate("generator")?;
        self.discriminator.validate("discriminator")?;
        self.warp.validate()?;
        self.optim.validate()?;
        self.train.validate()?;
        self.evaluate.judge.validate("evaluate.judge")?;
        in_range("evaluate.samples", self.evaluate.samples as f64, 100.0, 1e6)?;
        if let Some(ring) = &self.ring {
            ring.validate()?;
        }
        let code = &self.code;
        in_range("code.categories", code.categories as f64, 0.0, 1000.0)?;
        in_range("code.continuous", code.continuous as f64, 0.0, 1000.0)?;
        in_range("code.noise", code.noise as f64, 0.0, 1e4)?;
        in_range("code, its length", code.len() as f64, 1.0, 1e4)?;
        in_range("mutual.categorical", self.mutual.categorical, 0.0, 1e3)?;
        in_range("mutual.continuous", self.mutual.continuous, 0.0, 1e3)?;
        in_range("mutual.width", self.mutual.width as f64, 1.0, 4096.0)?;
        self.validate_invariance()?;
        for (key, weight, part, count) in [
            (
                "categorical",
                self.mutual.categorical,
                "categories",
                code.categories,
            ),
            (
                "continuous",
                self.mutual.continuous,
                "continuous",
                code.continuous,
            ),
        ] {
            if weight > 0.0 && count == 0 {
                return Err(ConfigError::Value(format!(
                    "mutual.{key} is {weight}, but code.{part} is 0"
                )));
            }
        }
        self.validate_stabilisers()
    }
}

impl GanRun {
    fn validate_invariance(&self) -> Result<(), ConfigError> {
        let invariance = &self.mutual.invariance;
        let key = |key: &str| format!("mutual.invariance.{key}");
        in_range(&key("weight"), invariance.weight, 0.0, 1e3)?;
        in_range(&key("pairs"), invariance.pairs as f64, 2.0, 65_536.0)?;
        in_range(&key("clusters"), invariance.clusters as f64, 2.0, 1000.0)?;
        let readers = (invariance.readers as f64, MOST_READERS as f64);
        in_range(&key("readers"), readers.0, 1.0, readers.1)?;
        in_range(
            &key("neighbours"),
            invariance.neighbours as f64,
            0.0,
            1000.0,
        )?;
        in_range(&key("hops"), invariance.hops as f64, 1.0, 100.0)?;
        in_range(&key("alone"), invariance.alone, 0.01, 1.0)?;
        in_range(&key("rate"), invariance.rate, 0.0, 1e3)?;
        invariance.network.validate(&key("network"))?;
        let warp = invariance.warp.validate();
        warp.map_err(|e| ConfigError::Value(format!("mutual.invariance.{e}")))?;
        if invariance.weight == 0.0 {
            return Ok(());
        }
        if self.mutual.categorical == 0.0 {
            return Err(ConfigError::Value(
                "mutual.invariance.weight is set, but mutual.categorical is 0: no category is read"
                    .into(),
            ));
        }
        match invariance.clusters < self.code.categories {
            true => Err(ConfigError::Value(format!(
                "mutual.invariance.clusters is {}, expected at least the {} of code.categories",
                invariance.clusters, self.code.categories
            ))),
            false => Ok(()),
        }
    }

    fn validate_stabilisers(&self) -> Result<(), ConfigError> {
        let s = &self.stabilisers;
        in_range("stabilisers.label_smoothing", s.label_smoothing, 0.0, 0.5)?;
        in_range("stabilisers.instance_noise", s.instance_noise, 0.0, 1e3)?;
        in_range(
            "stabilisers.instance_noise_until",
            s.instance_noise_until,
            0.0,
            1.0,
        )?;
        in_range(
            "stabilisers.discriminator_rate",
            s.discriminator_rate,
            0.0,
            1e3,
        )?;
        in_range("stabilisers.generator_rate", s.generator_rate, 0.0, 1e3)?;
        in_range("stabilisers.feature_matching", s.feature_matching, 0.0, 1e6)?;
        in_range("stabilisers.r1", s.r1, 0.0, 1e6)?;
        let normalised = s.batch_norm != BatchNorm::None;
        let convolves = !self.discriminator.channels.is_empty();
        let refused = if normalised && !convolves {
            "stabilisers.batch_norm normalises convolutions, but discriminator.channels is empty"
        } else if normalised && s.spectral_norm {
            "stabilisers.spectral_norm and stabilisers.batch_norm are both set: the second undoes the first"
        } else if normalised && s.r1 > 0.0 {
            "stabilisers.r1 and stabilisers.batch_norm are both set: a sample's slope would be that of its batch"
        } else if s.r1 > 0.0 && s.r1_by == PenaltyBy::Gradient && convolves {
            "stabilisers.r1_by is gradient, but a convolution's gradient has no gradient here: set directions"
        } else if convolves && self.discriminator.widths.is_empty() && self.code.readable() > 0 {
            "discriminator.widths is empty: the code is read off the last of its layers"
        } else {
            return Ok(());
        };
        Err(ConfigError::Value(refused.into()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_key_has_a_default_and_what_cannot_be_is_refused_by_name() {
        assert_eq!(GanRun::parse("").unwrap(), GanRun::default());
        let run = GanRun {
            ring: Some(RingConfig::default()),
            ..GanRun::default()
        };
        assert_eq!(GanRun::parse(&run.to_toml().unwrap()).unwrap(), run);
        for (text, part) in [
            ("loss = \"wasserstein\"\n", "wasserstein"),
            ("[stabilisers]\nr2 = 1.0\n", "r2"),
            (
                "[stabilisers]\nr1 = 1.0\nbatch_norm = \"separate\"\n",
                "would be that of its batch",
            ),
            (
                "[stabilisers]\nspectral_norm = true\nbatch_norm = \"joint\"\n",
                "undoes the first",
            ),
            (
                "[stabilisers]\nr1 = 1.0\nbatch_norm = \"none\"\nr1_by = \"gradient\"\n",
                "set directions",
            ),
            (
                "[discriminator]\nchannels = []\n[stabilisers]\nbatch_norm = \"separate\"\n",
                "discriminator.channels is empty",
            ),
            (
                "[discriminator]\nchannels = [8]\nwidths = []\n",
                "discriminator.widths is empty",
            ),
            (
                "[stabilisers]\nlabel_smoothing = 0.7\n",
                "stabilisers.label_smoothing is 0.7",
            ),
            (
                "[code]\ncategories = 0\n[mutual]\ncategorical = 1.0\n",
                "code.categories is 0",
            ),
            (
                "[code]\ncategories = 0\ncontinuous = 0\nnoise = 0\n",
                "code, its length is 0",
            ),
            ("[mutual.invariance]\nweight = 1.0\n", "no category is read"),
            (
                "[mutual]\ncategorical = 1.0\n[mutual.invariance]\nweight = 1.0\nclusters = 9\n",
                "at least the 10 of code.categories",
            ),
            (
                "[mutual.invariance.warp]\nscale = 2.0\n",
                "mutual.invariance.warp.scale is 2",
            ),
            ("[ring]\nmodes = 0\n", "ring.modes is 0"),
        ] {
            let said = GanRun::parse(text).unwrap_err().to_string();
            assert!(said.contains(part), "{said}");
        }
    }
}
