//! What the command `propose` is told: a run that learns to find road users.
//!
//! In: TOML. Out: [`ProposeRun`], every default filled in.
//!
//! ```
//! use roadhound_trainer::config::SystemConfig;
//! use roadhound_trainer::propose::ProposeRun;
//! let text = "[[labels]]\npack = \"bd_dhaka_road\"\ncomplete = [\"car\", \"auto_rickshaw\"]\n";
//! let run = ProposeRun::parse(text)?;
//! assert_eq!(run.labels[0].complete.len(), 2);
//! let error = ProposeRun::parse("[model]\nhead_chanels = 9\n").unwrap_err();
//! assert!(error.to_string().contains("head_chanels"));
//! # Ok::<(), roadhound_trainer::config::ConfigError>(())
//! ```

use serde::{Deserialize, Serialize};

use crate::augment::AugmentConfig;
use crate::config::{ComputeConfig, ConfigError, SystemConfig, check_run, in_range};
use crate::data::DataConfig;
use crate::model::propose::ProposeModelConfig;
use crate::optim::OptimConfig;
use crate::scenes::SceneConfig;
use crate::scenes::labels::PackLabels;
use crate::task::propose::ProposeLossConfig;
use crate::train_loop::LoopConfig;

/// Held-out data that is scored during training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProposeValidationConfig {
    /// Whole frames, for precision and recall.
    pub frames: usize,
    /// Batches of scenes, for identity.
    pub batches: usize,
}

impl Default for ProposeValidationConfig {
    fn default() -> Self {
        Self {
            frames: 240,
            batches: 8,
        }
    }
}

/// A run of `propose`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProposeRun {
    /// Everything random follows from it.
    pub seed: u64,
    /// SHA-256 of the search graph whose backbone is built on; filled in from the bundle that a run begins with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backbone_sha256: Option<String>,
    /// Network.
    pub model: ProposeModelConfig,
    /// Losses.
    pub loss: ProposeLossConfig,
    /// Optimiser.
    pub optim: OptimConfig,
    /// Length and rhythm; a pair is a scene of two views.
    pub train: LoopConfig,
    /// Threads and precision.
    pub compute: ComputeConfig,
    /// Held-out frames and scenes.
    pub validation: ProposeValidationConfig,
    /// Data sets.
    pub data: DataConfig,
    /// What each of them labels.
    pub labels: Vec<PackLabels>,
    /// How scenes are made.
    pub scenes: SceneConfig,
    /// How they are changed: light, weather and loss of detail; what speaks of single targets does nothing here.
    pub augment: AugmentConfig,
}

impl SystemConfig for ProposeRun {
    fn validate(&self) -> Result<(), ConfigError> {
        let refuse = |reason: String| Err(ConfigError::Value(reason));
        check_run(&self.train, &self.compute, &self.optim)?;
        if let Err(error) = self.model.backbone.validate() {
            return refuse(format!("model.backbone: {error}"));
        }
        let stride = self.model.backbone.stride() as u32;
        if self.model.backbone.stage_channels.len() < 2 {
            return refuse("model.backbone has one stage, expected at least 2".into());
        }
        for (name, px) in [
            ("scenes.input_width_px", self.scenes.input_width_px),
            ("scenes.input_height_px", self.scenes.input_height_px),
        ] {
            if px == 0 || !px.is_multiple_of(stride) {
                return refuse(format!(
                    "{name} is {px}, expected a multiple of the stride {stride}"
                ));
            }
        }
        for (name, value, most) in [
            ("model.head_channels", self.model.head_channels, 4096.0),
            ("model.embedding", self.model.embedding, 128.0),
            ("validation.frames", self.validation.frames, 1e6),
            ("validation.batches", self.validation.batches, 1e6),
        ] {
            in_range(name, value as f64, 1.0, most)?;
        }
        for (name, convs) in [
            ("model.fine_convs", self.model.fine_convs),
            ("model.trunk_convs", self.model.trunk_convs),
        ] {
            in_range(name, convs as f64, 0.0, 16.0)?;
        }
        in_range("loss.score_smoothing", self.loss.score_smoothing, 0.0, 1.0)?;
        let temperature = self.loss.identity_temperature;
        in_range("loss.identity_temperature", temperature, 1e-3, 10.0)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_value_that_cannot_be_is_named() {
        for (text, expected) in [
            (
                "[scenes]\ninput_width_px = 420\n",
                "scenes.input_width_px is 420",
            ),
            ("[model]\nembedding = 0\n", "model.embedding is 0"),
            ("[train]\nbatch = 0\n", "train.batch is 0"),
            (
                "[loss]\nidentity_temperature = 0.0\n",
                "identity_temperature is 0",
            ),
            (
                "[[labels]]\npack = \"a\"\ncomplete = [\"tree\"]\n",
                "unknown variant `tree`",
            ),
        ] {
            let said = ProposeRun::parse(text).unwrap_err().to_string();
            assert!(said.contains(expected), "{said}, expected {expected}");
            assert!(!said.contains('\n'), "{said}");
        }
    }

    #[test]
    fn a_resolved_configuration_is_read_back_as_it_is() {
        let run = ProposeRun {
            backbone_sha256: Some("ab".into()),
            ..ProposeRun::default()
        };
        assert_eq!(ProposeRun::parse(&run.to_toml().unwrap()).unwrap(), run);
    }
}
