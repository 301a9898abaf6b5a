//! What the command `disentangle` is told.

use serde::{Deserialize, Serialize};

use super::factors::FactorConfig;
use crate::config::{ConfigError, SystemConfig, in_range};
use crate::epochs::EpochsConfig;
use crate::labelled::LabelledConfig;
use crate::model::stack::StackConfig;
use crate::optim::OptimConfig;
use crate::probe::ProbeConfig;

/// A run of `disentangle`. Every key has a default: Jha et al. on MNIST, 16 values for each part of the code.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DisentangleRun {
    /// Everything random follows from it.
    pub seed: u64,
    /// Values of `s`, which shall say the class.
    pub class_code: usize,
    /// Values of `z`, which shall say the rest.
    pub rest_code: usize,
    /// Weight of the squared error of a sample that comes back.
    pub reconstruction: f64,
    /// Weight of what `z` costs, in nats.
    pub divergence: f64,
    /// What keeps the class out of `z`.
    pub method: Method,
    /// Samples.
    pub data: LabelledConfig,
    /// Rendered pictures, which are learned in the place of `data`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub factors: Option<FactorConfig>,
    /// Widths of the encoder; the decoder has them the other way round.
    pub network: StackConfig,
    /// Optimiser.
    pub optim: OptimConfig,
    /// Length and rhythm.
    pub train: EpochsConfig,
    /// How codes are scored.
    pub probe: CodeProbeConfig,
}

/// What keeps the class out of `z`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Method {
    /// Adversarial.
    Mathieu(MathieuConfig),
    /// Cyclic.
    Jha(JhaConfig),
}

/// Constants of `mathieu`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MathieuConfig {
    /// Weight of the discriminator's verdict in the loss of encoder and decoder.
    pub adversarial: f64,
    /// Widths of the discriminator, which sees two samples as one of twice the channels.
    pub discriminator: StackConfig,
    /// Its learning rate, as a multiple of the optimiser's.
    pub discriminator_rate: f64,
    /// It moves in one step of so many.
    pub discriminator_every: u64,
    /// It moves while it is right less often than this.
    pub below_accuracy: f64,
}

impl Default for MathieuConfig {
    fn default() -> Self {
        Self {
            adversarial: 0.01,
            discriminator: StackConfig {
                channels: vec![32, 64],
                widths: vec![128],
                ..StackConfig::default()
            },
            discriminator_rate: 1.0,
            discriminator_every: 2,
            below_accuracy: 0.8,
        }
    }
}

/// Constants of `jha`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct JhaConfig {
    /// Weight of the distance of the two codes that come back; 0 for a plain swap of class codes.
    pub reverse: f64,
    /// Learning rate of the reverse cycle, as a multiple of the optimiser's.
    pub reverse_rate: f64,
}

impl Default for JhaConfig {
    fn default() -> Self {
        Self {
            reverse: 10.0,
            reverse_rate: 1.0,
        }
    }
}

impl Method {
    /// Its name in a configuration.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Mathieu(_) => "mathieu",
            Self::Jha(_) => "jha",
        }
    }
}

/// How codes are scored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CodeProbeConfig {
    /// Training samples whose codes the probes are taught on, the first ones; 0 for all.
    pub samples: usize,
    /// Times that `z` is drawn anew of each of them, as it is each time that a sample is decoded: a probe that is always shown the
    /// same draw learns the noise by heart and finds less than there is.
    pub draws: usize,
    /// The probes.
    pub classifier: ProbeConfig,
}

impl Default for CodeProbeConfig {
    fn default() -> Self {
        Self {
            samples: 0,
            draws: 10,
            classifier: ProbeConfig::default(),
        }
    }
}

impl Default for DisentangleRun {
    fn default() -> Self {
        Self {
            seed: 0,
            class_code: 16,
            rest_code: 16,
            reconstruction: 2.0,
            divergence: 3.0,
            method: Method::Jha(JhaConfig::default()),
            data: LabelledConfig::mnist(),
            factors: None,
            network: StackConfig {
                channels: vec![32, 64],
                widths: vec![256],
                ..StackConfig::default()
            },
            optim: OptimConfig {
                learning_rate: 1e-3,
                weight_decay: 0.0,
                clip_norm: 1e3,
                ..OptimConfig::default()
            },
            train: EpochsConfig {
                epochs: 3.0,
                full_epochs: 100.0,
                batch: 64,
                validations: 3,
                ..EpochsConfig::default()
            },
            probe: CodeProbeConfig::default(),
        }
    }
}

impl SystemConfig for DisentangleRun {
    fn validate(&self) -> Result<(), ConfigError> {
        self.network.validate("network")?;
        self.optim.validate()?;
        self.train.validate()?;
        self.probe.classifier.validate("probe.classifier")?;
        in_range("probe.samples", self.probe.samples as f64, 0.0, 1e7)?;
        in_range("probe.draws", self.probe.draws as f64, 1.0, 1e3)?;
        in_range("class_code", self.class_code as f64, 1.0, 512.0)?;
        in_range("rest_code", self.rest_code as f64, 1.0, 512.0)?;
        in_range("reconstruction", self.reconstruction, 0.0, 1e6)?;
        in_range("divergence", self.divergence, 0.0, 1e6)?;
        if let Some(factors) = &self.factors {
            factors.validate()?;
        }
        match &self.method {
            Method::Mathieu(c) => {
                c.discriminator.validate("method.discriminator")?;
                in_range("method.adversarial", c.adversarial, 0.0, 1e6)?;
                in_range("method.discriminator_rate", c.discriminator_rate, 0.0, 1e3)?;
                in_range(
                    "method.discriminator_every",
                    c.discriminator_every as f64,
                    1.0,
                    1e6,
                )?;
                in_range("method.below_accuracy", c.below_accuracy, 0.0, 1.0)
            }
            Method::Jha(c) => {
                in_range("method.reverse", c.reverse, 0.0, 1e6)?;
                in_range("method.reverse_rate", c.reverse_rate, 0.0, 1e3)
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
        assert_eq!(
            DisentangleRun::parse("").unwrap(),
            DisentangleRun::default()
        );
        for method in [
            Method::Jha(JhaConfig::default()),
            Method::Mathieu(MathieuConfig::default()),
        ] {
            let run = DisentangleRun {
                method,
                factors: Some(FactorConfig::default()),
                ..DisentangleRun::default()
            };
            assert_eq!(DisentangleRun::parse(&run.to_toml().unwrap()).unwrap(), run);
        }
        for (text, part) in [
            ("class_code = 0\n", "class_code is 0"),
            ("[method]\nkind = \"szabo\"\n", "szabo"),
            (
                "[method]\nkind = \"jha\"\nadversarial = 1.0\n",
                "adversarial",
            ),
            (
                "[method]\nkind = \"mathieu\"\nbelow_accuracy = 1.5\n",
                "method.below_accuracy is 1.5",
            ),
            ("[factors]\nplaces = 0\n", "factors.places is 0"),
            ("divergence = -1.0\n", "divergence is -1"),
        ] {
            let said = DisentangleRun::parse(text).unwrap_err().to_string();
            assert!(said.contains(part), "{said}");
        }
    }
}
