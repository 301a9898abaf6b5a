//! What the command `familiarity` is told.

use std::path::PathBuf;

use roadhound_shared::preprocess::CropSize;
use roadhound_shared::world::Region;
use serde::{Deserialize, Serialize};

use crate::autoencoder::{AutoencoderRun, Binarise, Decoded, Kind, LikelihoodConfig, RobustConfig};
use crate::config::{ConfigError, SystemConfig, in_range};
use crate::epochs::EpochsConfig;
use crate::labelled::Shape;
use crate::model::stack::StackConfig;
use crate::optim::OptimConfig;

use super::measure::{CELL_COLUMNS, CELL_ROWS};

/// A run of `familiarity`. Every key has a default.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FamiliarityRun {
    /// Everything random follows from it.
    pub seed: u64,
    /// Columns of the picture that is looked at.
    pub width_px: u32,
    /// Rows of it.
    pub height_px: u32,
    /// Frames to learn from.
    pub frames: FramesConfig,
    /// Values of a code.
    pub latent: usize,
    /// Widths of the encoder.
    pub network: StackConfig,
    /// Prior and posterior.
    pub prior: RobustConfig,
    /// Deviation of a decoded pixel; pixels are 0 to 1.
    pub deviation: f64,
    /// Optimiser.
    pub optim: OptimConfig,
    /// Length and rhythm.
    pub train: EpochsConfig,
    /// How thresholds follow from frames held out.
    pub alarm: ThresholdConfig,
}

/// Frames to learn from and to score on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FramesConfig {
    /// Folder that packs are relative to.
    pub root: PathBuf,
    /// Packs of pictures.
    pub packs: Vec<PathBuf>,
    /// Pictures of a pack at most, evenly spread.
    pub pictures: usize,
    /// Regions that drives are rendered in.
    pub regions: Vec<Region>,
    /// Drives of each.
    pub drives: u32,
    /// Frames of each, evenly spread over three seconds.
    pub frames_per_drive: u32,
    /// Share of drives, and of each pack's pictures, that is held out: thresholds and scores are taken on them.
    pub held_out: f64,
    /// Copies of each frame beside itself: a part of it, mirrored, of another light, or grey.
    pub variants: u32,
}

impl Default for FramesConfig {
    fn default() -> Self {
        Self {
            root: "../shared/data/train".into(),
            packs: [
                "bd_dhaka_road",
                "in_autorickshaw_web",
                "in_idd_lite",
                "in_traffic_mix",
                "syn_carla",
            ]
            .map(PathBuf::from)
            .to_vec(),
            pictures: 600,
            regions: vec![Region::Us, Region::India],
            drives: 160,
            frames_per_drive: 4,
            held_out: 0.25,
            variants: 2,
        }
    }
}

/// How thresholds follow from the distances of frames.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ThresholdConfig {
    /// Share of the learned frames of every source that lies within the reach of each part of the distance.
    pub reach: f64,
    /// Share of the frames held out, every source weighing the same, that lies below the upper threshold, before the margin.
    pub quantile: f64,
    /// Factor on that.
    pub margin: f64,
    /// The lower threshold, as a share of the upper one.
    pub clear_share: f64,
    /// Time between two looks.
    pub every_millis: u32,
    /// How long every look must find the frame unlike.
    pub after_millis: u32,
    /// How long every look must find it like again.
    pub clear_after_millis: u32,
}

impl Default for ThresholdConfig {
    fn default() -> Self {
        Self {
            // Not the last per cent: a drive out of a tunnel into the sun is blinded itself.
            reach: 0.95,
            quantile: 0.98,
            margin: 1.25,
            clear_share: 0.85,
            every_millis: 250,
            after_millis: 750,
            clear_after_millis: 2000,
        }
    }
}

impl Default for FamiliarityRun {
    fn default() -> Self {
        Self {
            seed: 0,
            width_px: 160,
            height_px: 96,
            frames: FramesConfig::default(),
            latent: 16,
            network: StackConfig {
                channels: vec![8, 16, 24, 24],
                widths: vec![],
                ..StackConfig::default()
            },
            prior: RobustConfig::default(),
            deviation: 0.1,
            optim: OptimConfig {
                learning_rate: 1e-3,
                weight_decay: 0.0,
                clip_norm: 1e4,
                ..OptimConfig::default()
            },
            train: EpochsConfig {
                epochs: 5.0,
                full_epochs: 40.0,
                batch: 64,
                log_every: 20,
                validations: 5,
                average_keep: 0.998,
            },
            alarm: ThresholdConfig::default(),
        }
    }
}

impl FamiliarityRun {
    /// Width by height of the picture that is looked at.
    pub fn aspect(&self) -> f32 {
        self.width_px as f32 / self.height_px as f32
    }

    /// The picture that is looked at.
    pub fn size(&self) -> CropSize {
        CropSize {
            width_px: self.width_px,
            height_px: self.height_px,
        }
    }

    /// The same as the shape of a sample.
    pub fn shape(&self) -> Shape {
        Shape {
            height: self.height_px as usize,
            width: self.width_px as usize,
            channels: 3,
        }
    }

    /// The autoencoder that is trained.
    pub fn autoencoder(&self) -> AutoencoderRun {
        AutoencoderRun {
            seed: self.seed,
            latent: self.latent,
            binarise: Binarise::Never,
            network: self.network.clone(),
            kind: Kind::RobustVae(self.prior.clone()),
            decoded: Decoded::Gaussian {
                deviation: self.deviation,
            },
            optim: self.optim.clone(),
            train: self.train.clone(),
            likelihood: LikelihoodConfig {
                draws: 0,
                ..LikelihoodConfig::default()
            },
            ..AutoencoderRun::default()
        }
    }
}

impl SystemConfig for FamiliarityRun {
    fn validate(&self) -> Result<(), ConfigError> {
        for (key, side, cells) in [
            ("width_px", self.width_px, CELL_COLUMNS),
            ("height_px", self.height_px, CELL_ROWS),
        ] {
            in_range(key, side.into(), 16.0, 1024.0)?;
            if !(side as usize).is_multiple_of(cells) {
                let said = format!("{key} is {side}, expected a multiple of {cells}");
                return Err(ConfigError::Value(said));
            }
        }
        let frames = &self.frames;
        for (key, value, least, most) in [
            ("frames.pictures", frames.pictures as f64, 1.0, 1e6),
            ("frames.drives", frames.drives.into(), 0.0, 1e5),
            (
                "frames.frames_per_drive",
                frames.frames_per_drive.into(),
                1.0,
                90.0,
            ),
            ("frames.held_out", frames.held_out, 0.05, 0.9),
            ("frames.variants", frames.variants.into(), 0.0, 16.0),
            ("alarm.reach", self.alarm.reach, 0.5, 1.0),
            ("alarm.quantile", self.alarm.quantile, 0.5, 1.0),
            ("alarm.margin", self.alarm.margin, 0.1, 100.0),
            ("alarm.clear_share", self.alarm.clear_share, 0.01, 1.0),
            (
                "alarm.every_millis",
                self.alarm.every_millis.into(),
                1.0,
                3.6e6,
            ),
            (
                "alarm.after_millis",
                self.alarm.after_millis.into(),
                0.0,
                3.6e6,
            ),
            (
                "alarm.clear_after_millis",
                self.alarm.clear_after_millis.into(),
                0.0,
                3.6e6,
            ),
        ] {
            in_range(key, value, least, most)?;
        }
        if frames.regions.is_empty() || frames.drives == 0 {
            let said =
                "frames.regions or frames.drives is empty: faults are scored on rendered drives";
            return Err(ConfigError::Value(said.into()));
        }
        self.autoencoder().validate()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_key_has_a_default_and_what_cannot_be_is_refused_by_name() {
        let run = FamiliarityRun::default();
        assert_eq!(FamiliarityRun::parse("").unwrap(), run);
        assert_eq!(FamiliarityRun::parse(&run.to_toml().unwrap()).unwrap(), run);
        for (text, part) in [
            (
                "width_px = 162\n",
                "width_px is 162, expected a multiple of 4",
            ),
            ("[frames]\nheld_out = 1.0\n", "frames.held_out is 1"),
            ("[frames]\nregions = []\n", "frames.regions"),
            ("[alarm]\nquantil = 0.9\n", "quantil"),
            ("[prior]\nmixing = \"sum\"\n", "sum"),
            ("latent = 0\n", "latent is 0"),
        ] {
            let said = FamiliarityRun::parse(text).unwrap_err().to_string();
            assert!(said.contains(part), "{said}");
        }
    }
}
