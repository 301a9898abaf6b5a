//! Typed configuration: one TOML file a run, checked whole before anything starts.
//!
//! In: the text of a file. Out: [`TrackerRun`], or the [`SystemConfig`] of another system, every default filled in; its
//! TOML is what the run writes and hashes.
//!
//! ```
//! use roadhound_trainer::config::{SystemConfig, TrackerRun};
//! let run = TrackerRun::parse("seed = 7\n[optim]\nlearning_rate = 0.001\n").unwrap();
//! assert_eq!((run.seed, run.optim.learning_rate), (7, 0.001));
//! let error = TrackerRun::parse("[optim]\nlerning_rate = 0.001\n").unwrap_err();
//! assert!(error.to_string().contains("lerning_rate"));
//! ```

use std::path::{Path, PathBuf};

use roadhound_host::line::joined;
use roadhound_shared::contract::sha256_hex;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::augment::AugmentConfig;
use crate::data::DataConfig;
use crate::model::ModelConfig;
use crate::ops::{DeviceChoice, Precision};
use crate::optim::OptimConfig;
use crate::sampler::SamplerConfig;
use crate::task::track::LossConfig;
use crate::train_loop::LoopConfig;

/// What the machine is asked for. Threads do not change the weights; precision does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ComputeConfig {
    /// Where the network is computed: `"cpu"`, or `"cuda:0"` in a build with the feature `cuda`.
    pub device: DeviceChoice,
    /// Threads of the network's arithmetic.
    pub threads: usize,
    /// Threads that prepare batches.
    pub workers: usize,
    /// Precision of the products in convolutions.
    pub precision: Precision,
}

impl Default for ComputeConfig {
    fn default() -> Self {
        Self {
            device: DeviceChoice::Cpu,
            threads: 1,
            workers: 1,
            precision: Precision::F32,
        }
    }
}

/// Held-out pairs that are scored during training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ValidationConfig {
    /// Batches.
    pub batches: usize,
}

impl Default for ValidationConfig {
    fn default() -> Self {
        Self { batches: 15 }
    }
}

/// A tracker's training run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrackerRun {
    /// Everything random follows from it.
    pub seed: u64,
    /// Network.
    pub model: ModelConfig,
    /// Losses.
    pub loss: LossConfig,
    /// Optimiser.
    pub optim: OptimConfig,
    /// Length and rhythm.
    pub train: LoopConfig,
    /// Threads and precision.
    pub compute: ComputeConfig,
    /// Held-out pairs.
    pub validation: ValidationConfig,
    /// Data sets.
    pub data: DataConfig,
    /// Which frames make a pair.
    pub sampler: SamplerConfig,
    /// How they are changed.
    pub augment: AugmentConfig,
}

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{path}: {reason}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The reason.
        reason: std::io::Error,
    },
    /// The text is not a configuration.
    #[error("{0}")]
    Syntax(String),
    /// A value is out of its range.
    #[error("{0}")]
    Value(String),
}

/// The configuration of a system: every default filled in, unknown keys refused.
pub trait SystemConfig: Default + Serialize + DeserializeOwned {
    /// Checks what the types cannot.
    ///
    /// # Errors
    /// The first value that cannot be used.
    fn validate(&self) -> Result<(), ConfigError>;

    /// Parses and validates; the error is one line with the line number and the key.
    ///
    /// # Errors
    /// Text that is no such configuration.
    fn parse(text: &str) -> Result<Self, ConfigError> {
        let syntax = |e| ConfigError::Syntax(one_line(text, &e));
        let config: Self = toml::from_str(text).map_err(syntax)?;
        let said = toml::from_str(text).map_err(syntax)?;
        let config = on_defaults_of_system(&config, &said)?;
        config.validate()?;
        Ok(config)
    }

    /// Reads a file; relative data paths stay relative to the working directory.
    ///
    /// # Errors
    /// A file that cannot be read or used, by name.
    fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|reason| ConfigError::Io {
            path: path.to_owned(),
            reason,
        })?;
        Self::parse(&text).map_err(|e| match e {
            ConfigError::Syntax(reason) | ConfigError::Value(reason) => {
                ConfigError::Syntax(format!("{}: {reason}", path.display()))
            }
            io => io,
        })
    }

    /// The resolved configuration as TOML, every default spelled out.
    ///
    /// # Errors
    /// None in practice: what was read can be written.
    fn to_toml(&self) -> Result<String, ConfigError> {
        toml::to_string(self).map_err(|e| ConfigError::Value(e.to_string()))
    }

    /// SHA-256 of the resolved configuration, hexadecimal: what a model's card names.
    ///
    /// # Errors
    /// Those of [`SystemConfig::to_toml`].
    fn hash(&self) -> Result<String, ConfigError> {
        Ok(sha256_hex(self.to_toml()?.as_bytes()))
    }
}

/// Tables of types that all systems share. What one of them does not say is as the system has it, and not as the type has
/// it: whoever sets a learning rate keeps the rest of that system's optimiser.
const SHARED_TABLES: [&str; 4] = ["compute", "optim", "sampler", "train"];

/// A configuration with [`SHARED_TABLES`] laid over the defaults of its system.
fn on_defaults_of_system<C: SystemConfig>(
    config: &C,
    said: &toml::Table,
) -> Result<C, ConfigError> {
    let value = |e: toml::ser::Error| ConfigError::Value(e.to_string());
    let mut whole = toml::Table::try_from(config).map_err(value)?;
    let defaults = toml::Table::try_from(C::default()).map_err(value)?;
    for name in SHARED_TABLES {
        if let (Some(toml::Value::Table(said)), Some(toml::Value::Table(defaults))) =
            (said.get(name), defaults.get(name))
        {
            let mut laid = defaults.clone();
            laid.extend(said.clone());
            whole.insert(name.into(), toml::Value::Table(laid));
        }
    }
    whole
        .try_into()
        .map_err(|e: toml::de::Error| ConfigError::Value(joined(e.message())))
}

/// Refuses a value outside `least..=most`, or that is not a number.
///
/// # Errors
/// One line with the name, the value and the range.
pub fn in_range(name: &str, value: f64, least: f64, most: f64) -> Result<(), ConfigError> {
    match (least..=most).contains(&value) {
        true => Ok(()),
        false => Err(ConfigError::Value(format!(
            "{name} is {value}, expected {least} to {most}"
        ))),
    }
}

impl SystemConfig for TrackerRun {
    fn validate(&self) -> Result<(), ConfigError> {
        self.model
            .validate()
            .map_err(|e| ConfigError::Value(e.to_string()))?;
        check_run(&self.train, &self.compute, &self.optim)?;
        for (name, share) in [
            ("loss.presence_smoothing", self.loss.presence_smoothing),
            ("loss.score_smoothing", self.loss.score_smoothing),
        ] {
            in_range(name, share, 0.0, 1.0)?;
        }
        self.check_crops()
    }
}

/// How far a context may lie from the board's: what decimal figures of a ratio lose.
const CONTEXT_TOLERANCE: f64 = 1e-3;

impl TrackerRun {
    /// Crops that are learned from are those that the network takes and the board will show: of its sides, and with as much
    /// about the object, which has the same size in both (see `object_px` of the contract).
    fn check_crops(&self) -> Result<(), ConfigError> {
        let (model, sampler) = (&self.model, &self.sampler);
        for (name, side, of, expected) in [
            (
                "template_crop_px",
                sampler.template_crop_px,
                "template_px",
                model.template_px,
            ),
            (
                "search_crop_px",
                sampler.search_crop_px,
                "search_px",
                model.search_px,
            ),
        ] {
            if side as usize != expected {
                return Err(ConfigError::Value(format!(
                    "sampler.{name} is {side}, expected {expected}, which is model.{of}"
                )));
            }
        }
        let ratio = model.search_px as f64 / model.template_px as f64;
        for (name, context, expected) in [
            ("template_context", sampler.template_context, 1.0),
            ("search_context", sampler.search_context, ratio),
        ] {
            let off = (f64::from(context) - expected).abs() / expected;
            // What is not a number is off.
            if !(0.0..=CONTEXT_TOLERANCE).contains(&off) {
                return Err(ConfigError::Value(format!(
                    "sampler.{name} is {context}, expected {expected}: with model.template_px {} and model.search_px {} the board shows that much",
                    model.template_px, model.search_px
                )));
            }
        }
        Ok(())
    }
}

/// Checks what every run of the train loop is told.
///
/// # Errors
/// The first value that cannot be used.
pub fn check_run(
    train: &LoopConfig,
    compute: &ComputeConfig,
    optim: &OptimConfig,
) -> Result<(), ConfigError> {
    for (name, value) in [
        ("train.batch", train.batch),
        ("compute.threads", compute.threads),
        ("compute.workers", compute.workers),
    ] {
        if value == 0 || value > 4096 {
            return Err(ConfigError::Value(format!(
                "{name} is {value}, expected 1 to 4096"
            )));
        }
    }
    for (name, value) in [
        ("train.log_every", train.log_every),
        ("train.validate_every", train.validate_every),
        ("train.checkpoint_every", train.checkpoint_every),
        ("train.pairs", train.pairs),
    ] {
        if value == 0 {
            return Err(ConfigError::Value(format!("{name} is 0")));
        }
    }
    for (name, share) in [
        ("train.average_keep", train.average_keep),
        ("train.freeze_norm_share", train.freeze_norm_share),
        ("train.quantised_share", train.quantised_share),
    ] {
        if !(0.0..=1.0).contains(&share) {
            return Err(ConfigError::Value(format!(
                "{name} is {share}, expected 0 to 1"
            )));
        }
    }
    optim.validate()
}

/// A TOML error as one line: `line 3: unknown field ...`.
pub fn one_line(text: &str, error: &toml::de::Error) -> String {
    let line = error
        .span()
        .map(|span| text[..span.start.min(text.len())].matches('\n').count() + 1);
    let message = joined(error.message());
    match line {
        Some(line) => format!("line {line}: {message}"),
        None => message,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn crops_that_the_network_or_the_board_does_not_have_are_refused_by_their_key() {
        let said = |text: &str| TrackerRun::parse(text).err().map(|e| e.to_string());
        for (text, key) in [
            (
                "[model]\ntemplate_px = 160\n",
                "sampler.template_crop_px is 128, expected 160",
            ),
            (
                "[model]\nsearch_px = 320\n",
                "sampler.search_crop_px is 256, expected 320",
            ),
            (
                "[model]\nsearch_px = 320\n[sampler]\nsearch_crop_px = 320\n",
                "sampler.search_context is 2, expected 2.5",
            ),
            (
                "[sampler]\ntemplate_context = 1.2\n",
                "sampler.template_context is 1.2, expected 1",
            ),
        ] {
            let found = said(text).unwrap();
            assert!(found.contains(key), "{text}: {found}");
        }
        let fits =
            "[model]\nsearch_px = 320\n[sampler]\nsearch_crop_px = 320\nsearch_context = 2.5\n";
        assert_eq!(said(fits), None);
        let thirds = "[model]\ntemplate_px = 192\n[sampler]\ntemplate_crop_px = 192\nsearch_context = 1.3333\n";
        assert_eq!(said(thirds), None);
    }

    #[test]
    fn shipped_configurations_of_trackers_can_be_used() {
        let configs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs");
        let mut found = 0;
        for entry in std::fs::read_dir(configs).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            if name.starts_with("roadhound-s") && !name.ends_with("-tracker.toml") {
                TrackerRun::load(&path).unwrap();
                found += 1;
            }
        }
        assert!(found > 5);
    }
}
