//! What `adapt` is told: which parts take part, what they weigh, and everything that training itself needs.
//!
//! ```
//! use roadhound_trainer::adapt::config::{AdaptRun, Part};
//! use roadhound_trainer::config::SystemConfig;
//! let run = AdaptRun::parse("[adapt]\nparts = [\"region\", \"teacher\"]\n").unwrap();
//! assert!(run.adapt.has(Part::Teacher) && !run.adapt.has(Part::Image));
//! assert!(AdaptRun::parse("[adapt]\nparts = [\"regions\"]\n").is_err());
//! ```

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::clips::ClipConfig;
use super::domain::DomainConfig;
use super::labelled::LabelledConfig;
use super::pseudo::PseudoConfig;
use super::reversal::strength_at;
use super::style::StyleConfig;
use crate::augment::AugmentConfig;
use crate::config::{ComputeConfig, ConfigError, SystemConfig, check_run, in_range};
use crate::data::DataConfig;
use crate::optim::OptimConfig;
use crate::sampler::SamplerConfig;
use crate::task::track::LossConfig;
use crate::train_loop::LoopConfig;

/// A means of adaptation; each works alone and beside the others.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum,
)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// A domain head on the features of objects, whose gradient is reversed.
    Region,
    /// The same on the mean of the whole search map.
    Image,
    /// Pseudo-tracks as labels, where a slowly moving teacher agrees on a weakly changed view.
    Teacher,
    /// Mean features of objects of both domains are drawn together.
    Prototypes,
    /// Source crops get the low frequencies' amplitudes of target crops.
    Fourier,
    /// Source crops get the manner of target crops, which a code in two parts has learned.
    Style,
    /// Normalisation is re-estimated on the target.
    Adabn,
    /// A few labelled tracks of the target are learned from as the source is.
    Labelled,
}

impl Part {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Region,
        Self::Image,
        Self::Teacher,
        Self::Prototypes,
        Self::Fourier,
        Self::Style,
        Self::Adabn,
        Self::Labelled,
    ];

    /// As in a configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Region => "region",
            Self::Image => "image",
            Self::Teacher => "teacher",
            Self::Prototypes => "prototypes",
            Self::Fourier => "fourier",
            Self::Style => "style",
            Self::Adabn => "adabn",
            Self::Labelled => "labelled",
        }
    }
}

/// The parts and their constants.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdaptConfig {
    /// Which take part.
    pub parts: BTreeSet<Part>,
    /// Reversal's strength at the end, of both domain heads.
    pub strength: f64,
    /// How fast it rises; 10 as published.
    pub rise: f64,
    /// Values after each layer of a domain head but the last.
    pub head_widths: Vec<usize>,
    /// Learning rate of the domain heads, as a multiple of the network's: they are players of their own.
    pub head_rate: f64,
    /// Weight of the agreement of both heads about a crop, where both take part; 0 for none.
    pub consistency: f64,
    /// Weight of the losses of pseudo-tracks.
    pub teacher_weight: f64,
    /// How much of the teacher stays in a step.
    pub teacher_keep: f64,
    /// Overlap of the teacher's box with the pseudo-track's, at least, for a pair to count.
    pub teacher_iou: f32,
    /// The teacher's presence, at least, for a pair to count.
    pub teacher_presence: f32,
    /// Weight of the distance of the mean features.
    pub prototypes_weight: f64,
    /// Share of the source pairs whose low frequencies are swapped.
    pub fourier_share: f64,
    /// Waves a side up to which they are.
    pub fourier_reach: usize,
    /// How far normalisation moves from the source's moments to the target's: 0 stays, 1 goes all the way.
    pub adabn_share: f32,
    /// Weight of the losses of labelled tracks.
    pub labelled_weight: f64,
    /// Pairs of labelled tracks a step, for each pair of the source.
    pub labelled_share: f64,
}

impl Default for AdaptConfig {
    fn default() -> Self {
        Self {
            parts: [Part::Region, Part::Teacher, Part::Fourier].into(),
            strength: 0.1,
            rise: 10.0,
            head_widths: vec![64],
            head_rate: 2.0,
            consistency: 0.1,
            teacher_weight: 1.0,
            teacher_keep: 0.99,
            teacher_iou: 0.5,
            teacher_presence: 0.4,
            prototypes_weight: 0.1,
            fourier_share: 0.5,
            fourier_reach: 2,
            adabn_share: 0.5,
            labelled_weight: 1.0,
            labelled_share: 0.5,
        }
    }
}

impl AdaptConfig {
    /// Whether a part takes part.
    pub fn has(&self, part: Part) -> bool {
        self.parts.contains(&part)
    }

    /// Whether anything is learned by gradients.
    pub fn learns(&self) -> bool {
        self.parts.iter().any(|part| *part != Part::Adabn)
    }

    /// Whether features of the target are seen while learning.
    pub fn sees_target(&self) -> bool {
        [Part::Region, Part::Image, Part::Teacher, Part::Prototypes]
            .iter()
            .any(|part| self.has(*part))
    }

    /// Labelled pairs of the target that come with so many of the source, where that part is on.
    pub fn labelled_pairs(&self, batch: usize) -> usize {
        (self.labelled_share * batch as f64).round().max(1.0) as usize
    }

    /// Pairs that a step with so many of the source learns from.
    pub fn pairs_a_step(&self, batch: usize) -> u64 {
        let source = if self.learns() { batch } else { 0 };
        let target = if self.sees_target() { batch } else { 0 };
        let labelled = match self.has(Part::Labelled) {
            true => self.labelled_pairs(batch),
            false => 0,
        };
        (source + target + labelled) as u64
    }

    /// The domain heads.
    pub fn domain(&self) -> DomainConfig {
        DomainConfig {
            widths: self.head_widths.clone(),
            highest: self.strength,
            rise: self.rise,
            ..DomainConfig::default()
        }
    }

    /// Reversal's strength at this share of the run.
    pub fn strength_at(&self, progress: f64) -> f64 {
        strength_at(self.strength, self.rise, progress)
    }

    fn validate(&self) -> Result<(), ConfigError> {
        if self.parts.is_empty() {
            return Err(ConfigError::Value(
                "adapt.parts is empty: there is nothing to do".into(),
            ));
        }
        self.domain().validate("adapt")?;
        for (name, value, most) in [
            ("adapt.head_rate", self.head_rate, 1e3),
            ("adapt.consistency", self.consistency, 1e3),
            ("adapt.teacher_weight", self.teacher_weight, 1e3),
            ("adapt.teacher_keep", self.teacher_keep, 1.0),
            ("adapt.teacher_iou", f64::from(self.teacher_iou), 1.0),
            (
                "adapt.teacher_presence",
                f64::from(self.teacher_presence),
                1.0,
            ),
            ("adapt.prototypes_weight", self.prototypes_weight, 1e3),
            ("adapt.fourier_share", self.fourier_share, 1.0),
            ("adapt.fourier_reach", self.fourier_reach as f64, 64.0),
            ("adapt.adabn_share", f64::from(self.adabn_share), 1.0),
            ("adapt.labelled_weight", self.labelled_weight, 1e3),
            ("adapt.labelled_share", self.labelled_share, 8.0),
        ] {
            in_range(name, value, 0.0, most)?;
        }
        Ok(())
    }
}

/// By what weights are chosen, and what they may cost.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SelectConfig {
    /// Proposals of held-out clips that are followed back and forth, at most.
    pub seeds: usize,
    /// Regions of each domain that features are compared on, at most.
    pub regions: usize,
    /// Held-out batches of the source.
    pub source_batches: usize,
    /// Weights whose success on held-out pairs of the source is lower by more than this are not taken.
    pub most_source_loss: f64,
    /// Batches of the target that normalisation is re-estimated on, and of the source that it is first measured on.
    pub norm_batches: u64,
}

impl Default for SelectConfig {
    fn default() -> Self {
        Self {
            seeds: 32,
            regions: 300,
            source_batches: 30,
            most_source_loss: 0.02,
            norm_batches: 8,
        }
    }
}

/// An adaptation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdaptRun {
    /// Everything random follows from it.
    pub seed: u64,
    /// The parts.
    pub adapt: AdaptConfig,
    /// How unlabelled video is cut.
    pub clips: ClipConfig,
    /// What is a pseudo-track.
    pub pseudo: PseudoConfig,
    /// How manners of recordings are learned, where that part takes part.
    pub style: StyleConfig,
    /// How weights are chosen.
    pub select: SelectConfig,
    /// A few labelled tracks of the target, where there are any.
    pub labelled: LabelledConfig,
    /// Losses of the tracker.
    pub loss: LossConfig,
    /// Optimiser.
    pub optim: OptimConfig,
    /// Length and rhythm; pairs are those of the source, and as many of the target come with them.
    pub train: LoopConfig,
    /// Threads and precision.
    pub compute: ComputeConfig,
    /// Labelled packs of the source.
    pub data: DataConfig,
    /// Which frames make a pair. Sides of crops are the bundle's, whatever stands here.
    pub sampler: SamplerConfig,
    /// How pairs are changed: those of the source, and those of the target that the student sees.
    pub augment: AugmentConfig,
}

impl Default for AdaptRun {
    fn default() -> Self {
        Self {
            seed: 1,
            adapt: AdaptConfig::default(),
            clips: ClipConfig::default(),
            pseudo: PseudoConfig::default(),
            style: StyleConfig::default(),
            select: SelectConfig::default(),
            labelled: LabelledConfig::default(),
            loss: LossConfig::default(),
            optim: OptimConfig {
                learning_rate: 2e-4,
                ..OptimConfig::default()
            },
            train: LoopConfig {
                pairs: 6_000,
                batch: 8,
                log_every: 25,
                validate_every: 250,
                checkpoint_every: 250,
                average_keep: 0.99,
                ..LoopConfig::default()
            },
            compute: ComputeConfig {
                threads: 2,
                ..ComputeConfig::default()
            },
            data: DataConfig::default(),
            sampler: SamplerConfig {
                gap_at_start: 1.0,
                ..SamplerConfig::default()
            },
            augment: AugmentConfig::default(),
        }
    }
}

impl SystemConfig for AdaptRun {
    fn validate(&self) -> Result<(), ConfigError> {
        self.adapt.validate()?;
        self.clips.validate()?;
        self.pseudo.validate()?;
        self.style.validate()?;
        self.labelled.validate()?;
        if self.adapt.has(Part::Labelled) && self.labelled.pack.is_none() {
            return Err(ConfigError::Value(
                "adapt.parts has \"labelled\", and labelled.pack is not given: there are no labelled tracks".into(),
            ));
        }
        check_run(&self.train, &self.compute, &self.optim)?;
        for (name, value, most) in [
            ("select.seeds", self.select.seeds, 10_000),
            ("select.regions", self.select.regions, 10_000),
            ("select.source_batches", self.select.source_batches, 10_000),
            (
                "select.norm_batches",
                self.select.norm_batches as usize,
                10_000,
            ),
        ] {
            in_range(name, value as f64, 1.0, f64::from(most))?;
        }
        let loss = self.select.most_source_loss;
        in_range("select.most_source_loss", loss, 0.0, 1.0)
    }
}
