//! What can be trained, by name: the tracker, and the learning systems that share its loop, report and export.
//!
//! In: the name in a run's `facts.json`. Out: what the report needs to know of it.

use serde::{Deserialize, Serialize};

use crate::adapt::config::AdaptRun;
use crate::autoencoder::AutoencoderRun;
use crate::config::{ConfigError, SystemConfig, TrackerRun};
use crate::dann::DannRun;
use crate::disentangle::DisentangleRun;
use crate::familiarity::FamiliarityRun;
use crate::gan::GanRun;
use crate::metric::MetricRun;
use crate::propose::ProposeRun;
use crate::siamese::SiameseRun;

/// A system by the name of its command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum System {
    /// Follows one object: `tracker`.
    #[default]
    Tracker,
    /// Finds road users on whole frames: `propose`.
    Propose,
    /// Mahalanobis distances: `metric`.
    Metric,
    /// Distances by a network: `siamese`.
    Siamese,
    /// Codes, and samples back from them: `autoencoder`.
    Autoencoder,
    /// Samples out of noise: `gan`.
    Gan,
    /// A code in two parts, the class and the rest: `disentangle`.
    Disentangle,
    /// Classes of a domain without labels: `dann`.
    Dann,
    /// What the board may expect to see: `familiarity`.
    Familiarity,
    /// The tracker on a domain without labels: `adapt`.
    Adapt,
}

impl System {
    /// Its configuration with nothing set, as a run writes it.
    ///
    /// # Errors
    /// None in practice.
    pub fn default_toml(self) -> Result<String, ConfigError> {
        match self {
            Self::Tracker => TrackerRun::default().to_toml(),
            Self::Propose => ProposeRun::default().to_toml(),
            Self::Metric => MetricRun::default().to_toml(),
            Self::Siamese => SiameseRun::default().to_toml(),
            Self::Autoencoder => AutoencoderRun::default().to_toml(),
            Self::Gan => GanRun::default().to_toml(),
            Self::Disentangle => DisentangleRun::default().to_toml(),
            Self::Dann => DannRun::default().to_toml(),
            Self::Familiarity => FamiliarityRun::default().to_toml(),
            Self::Adapt => AdaptRun::default().to_toml(),
        }
    }

    /// What its report is headed with.
    pub fn title(self) -> &'static str {
        match self {
            Self::Tracker => "Tracker",
            Self::Propose => "Proposals",
            Self::Metric => "Distance metric",
            Self::Siamese => "Siamese network",
            Self::Autoencoder => "Autoencoder",
            Self::Gan => "Adversarial network",
            Self::Disentangle => "Code in two parts",
            Self::Dann => "Domain-adversarial training",
            Self::Familiarity => "Familiarity",
            Self::Adapt => "Tracker, adapted",
        }
    }
}
