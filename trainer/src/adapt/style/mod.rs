//! The manner of one recording on what another one shows: a crop of the source, as if the target's camera had taken it.
//!
//! In: crops of both domains, of which nothing is known but the recording that each is from. Out: a [`Restyler`], which changes
//! crops of the source. A code in two parts is learned with recordings for classes (cycle-consistent, Jha et al. 2018): `s` is
//! what the crops of one recording have in common (light, haze, the colour of road and sky, the camera), `z` the rest, what is
//! on the crop and where. What decoding a crop's own `z` with another recording's `s` changes is added to the crop: the
//! decoder's pictures are small and soft, so that what is added has no edges, and those that the crop has stay where they
//! are, with their boxes.
//!
//! Both what `z` costs and the reverse cycle hold light and colours out of it. With little cost `z` took all of it and another `s` changed
//! nothing; with a cycle as fast as the rest the encoder said nothing in `z`, and every crop became the mean one (crops of 32
//! rendered drives).
//!
//! [`super::fourier`] moves the light of a whole crop; here a road can change another way than the vehicle on it.
//!
//! - [`swap`]: the change of a crop.
//! - [`learn`]: crops of both domains to a [`Restyler`], and how near restyled crops come to the target.
//!
//! ```
//! use roadhound_trainer::adapt::config::AdaptRun;
//! use roadhound_trainer::config::SystemConfig;
//! let run = AdaptRun::parse("[adapt]\nparts = [\"style\"]\n[style]\nshare = 0.25\n").unwrap();
//! assert_eq!(run.style.learner(run.seed).rest_code, run.style.rest_code);
//! ```

pub mod learn;
pub mod swap;

use serde::{Deserialize, Serialize};

use crate::config::{ConfigError, SystemConfig, in_range};
use crate::disentangle::{DisentangleRun, JhaConfig, Method};
use crate::epochs::EpochsConfig;
use crate::model::stack::StackConfig;
use crate::optim::OptimConfig;

pub use swap::Restyler;

/// How manners are learned and used.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StyleConfig {
    /// Share of the source pairs that are given the manner of a target pair.
    pub share: f64,
    /// How much of the change is made; 1 for all of it.
    pub strength: f32,
    /// Side of the pictures that manners are learned from.
    pub side_px: usize,
    /// Crops of either domain, at most.
    pub crops: usize,
    /// Values of `s`, the manner.
    pub class_code: usize,
    /// Values of `z`, the rest.
    pub rest_code: usize,
    /// Weight of the squared error of a crop that comes back.
    pub reconstruction: f64,
    /// Weight of what `z` costs, in nats.
    pub divergence: f64,
    /// Weight of the reverse cycle, which keeps the manner out of `z`.
    pub reverse: f64,
    /// Its learning rate, as a multiple of the optimiser's.
    pub reverse_rate: f64,
    /// Widths of the encoder; the decoder has them the other way round.
    pub network: StackConfig,
    /// Optimiser.
    pub optim: OptimConfig,
    /// Length and rhythm.
    pub train: EpochsConfig,
}

impl Default for StyleConfig {
    fn default() -> Self {
        Self {
            share: 0.5,
            strength: 1.0,
            side_px: 16,
            crops: 2000,
            class_code: 8,
            rest_code: 32,
            reconstruction: 20.0,
            divergence: 20.0,
            reverse: 10.0,
            reverse_rate: 0.3,
            network: StackConfig {
                channels: vec![16, 32],
                widths: vec![128],
                ..StackConfig::default()
            },
            optim: DisentangleRun::default().optim,
            train: EpochsConfig {
                epochs: 25.0,
                full_epochs: 25.0,
                batch: 32,
                validations: 1,
                ..EpochsConfig::default()
            },
        }
    }
}

impl StyleConfig {
    /// What `roadhound-train disentangle` would be told to learn such a code.
    pub fn learner(&self, seed: u64) -> DisentangleRun {
        DisentangleRun {
            seed,
            class_code: self.class_code,
            rest_code: self.rest_code,
            reconstruction: self.reconstruction,
            divergence: self.divergence,
            method: Method::Jha(JhaConfig {
                reverse: self.reverse,
                reverse_rate: self.reverse_rate,
            }),
            network: self.network.clone(),
            optim: self.optim.clone(),
            train: self.train.clone(),
            ..DisentangleRun::default()
        }
    }

    /// Checks the ranges.
    ///
    /// # Errors
    /// The first value that is out of its range, by its name in the file.
    pub fn validate(&self) -> Result<(), ConfigError> {
        in_range("style.share", self.share, 0.0, 1.0)?;
        in_range("style.strength", f64::from(self.strength), 0.0, 4.0)?;
        in_range("style.side_px", self.side_px as f64, 8.0, 128.0)?;
        in_range("style.crops", self.crops as f64, 16.0, 1e6)?;
        let named = |error: ConfigError| ConfigError::Value(format!("style: {error}"));
        self.learner(0).validate().map_err(named)?;
        // Once at least: the change is half as wide.
        let halvings = (self.network.channels.len() as u32).max(1);
        match self.side_px.is_multiple_of(2usize.saturating_pow(halvings)) {
            true => Ok(()),
            false => Err(ConfigError::Value(format!(
                "style.side_px is {}, which cannot be halved {halvings} times without a rest",
                self.side_px
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::adapt::config::AdaptRun;
    use crate::config::SystemConfig;

    #[test]
    fn what_cannot_be_learned_or_halved_is_refused_by_its_name() {
        for (text, part) in [
            ("share = 1.5", "style.share is 1.5"),
            ("side_px = 18", "style.side_px is 18"),
            ("side_px = 4", "style.side_px is 4"),
            ("crops = 3", "style.crops is 3"),
            ("class_code = 0", "style: class_code is 0"),
            ("reverse_rate = -1.0", "reverse_rate is -1"),
            ("strenght = 1.0", "strenght"),
        ] {
            let said = AdaptRun::parse(&format!("[style]\n{text}\n")).map_err(|e| e.to_string());
            assert!(
                said.as_ref().is_err_and(|said| said.contains(part)),
                "{said:?}"
            );
        }
        let text = "[style]\nside_px = 18\n[style.network]\nchannels = [8]\n";
        assert!(AdaptRun::parse(text).is_ok());
    }
}
