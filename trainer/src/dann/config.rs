//! What the command `dann` is told.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::adapt::bound::BoundConfig;
use crate::adapt::domain::DomainConfig;
use crate::adapt::select::Criterion;
use crate::config::{ConfigError, SystemConfig, in_range};
use crate::epochs::EpochsConfig;
use crate::labelled::warp::WarpConfig;
use crate::labelled::{LabelledConfig, Shape, Source, folder};
use crate::model::stack::StackConfig;
use crate::optim::OptimConfig;

/// What the features are told beside the classes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// Nothing: what adaptation is compared with.
    SourceOnly,
    /// To look alike in both domains.
    Adversarial,
}

impl Method {
    /// Its name in a configuration, and of its folder.
    pub fn name(self) -> &'static str {
        match self {
            Self::SourceOnly => "source_only",
            Self::Adversarial => "adversarial",
        }
    }
}

/// How convolutions are normalised in training.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Norm {
    /// Not at all.
    None,
    /// By the statistics of both domains together.
    Joint,
    /// Each domain by its own statistics, which are taken anew, from samples without labels, where a network is used (Li et
    /// al. 2016). Without adaptation there is one domain.
    Apart,
}

/// A run of `dann`. Every key has a default: MNIST to MNIST-M.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DannRun {
    /// A network is trained from each; everything random follows from it.
    pub seeds: Vec<u64>,
    /// Which networks are trained; the first is what the others are compared with.
    pub methods: Vec<Method>,
    /// Samples.
    pub data: PairConfig,
    /// Widths of the network up to the features.
    pub network: StackConfig,
    /// How its convolutions are normalised.
    pub norm: Norm,
    /// Values of a row of features; 0 for those of the network's last ReLU, as many as there are.
    pub features: usize,
    /// Values after each layer of the classes' head but the last.
    pub class_widths: Vec<usize>,
    /// The domains' head.
    pub domain: DomainConfig,
    /// Weight, beside the adversarial game, of what answers on the target tell of their classes, which is raised (Shi & Sha
    /// 2012): boundaries between classes move to where there are few samples. It rises as the reversal does.
    pub information: f64,
    /// Share of the source's samples that are shown with light and dark exchanged in training, by both methods: what is light
    /// on dark in one domain can be dark on light in the other, and no class is changed by it.
    pub inverted: f64,
    /// How samples are moved in training, those of both domains.
    pub warp: WarpConfig,
    /// Optimiser.
    pub optim: OptimConfig,
    /// Length, in times that the source is seen, and rhythm; half of a batch is of the target.
    pub train: EpochsConfig,
    /// By which figure weights are chosen; none of them knows a label of the target.
    pub select: SelectConfig,
    /// How the bound is estimated.
    pub bound: BoundConfig,
}

/// How weights are chosen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SelectConfig {
    /// The figure.
    pub by: Criterion,
    /// Unlabelled samples of the target that it is taken on, and samples of the source that errors are counted on, at most.
    pub samples: usize,
}

impl Default for SelectConfig {
    fn default() -> Self {
        Self {
            by: Criterion::default(),
            samples: 2000,
        }
    }
}

/// Samples of two domains, brought to one shape.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PairConfig {
    /// Folder that every path is relative to.
    #[serde(default = "default_root")]
    pub root: PathBuf,
    /// Side that pictures of both are brought to.
    #[serde(default = "side_px")]
    pub side_px: usize,
    /// Values of a pixel that pictures of both are brought to: 1 for grey, 3 for colours.
    #[serde(default = "folder::colours")]
    pub channels: usize,
    /// With labels.
    pub source: DomainConfigOf,
    /// Whose labels are for the score alone.
    pub target: DomainConfigOf,
}

/// Samples of one domain.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DomainConfigOf {
    /// To learn from.
    pub train: Source,
    /// To score on.
    pub test: Source,
    /// So many of the first samples to learn from are left out: where the other domain was made from them.
    #[serde(default)]
    pub skip_train: usize,
    /// The same of the samples to score on.
    #[serde(default)]
    pub skip_test: usize,
    /// Side that its pictures are brought to before they are framed to that of both, by a border of zeros or by cutting off
    /// what stands out: things are then of one size in both domains. Absent: that of both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub side_px: Option<usize>,
}

fn default_root() -> PathBuf {
    LabelledConfig::mnist().root
}

fn side_px() -> usize {
    28
}

impl PairConfig {
    /// MNIST to MNIST-M. The latter was made from the former, picture by picture: what was made from one is not shown as
    /// the other.
    pub fn mnist_to_mnist_m() -> Self {
        let tiles = |picture: &str, labels: &str| Source::Mosaic {
            picture: format!("mnist_m/{picture}").into(),
            labels: format!("mnist_m/{labels}").into(),
            tile_px: 32,
            channels: folder::colours(),
        };
        let mnist = LabelledConfig::mnist();
        let train = mnist.train;
        Self {
            root: default_root(),
            side_px: side_px(),
            channels: folder::colours(),
            source: DomainConfigOf {
                test: mnist.test.unwrap_or_else(|| train.clone()),
                train,
                skip_train: 7000,
                skip_test: 2000,
                side_px: Some(28),
            },
            target: DomainConfigOf {
                train: tiles("train_7000_mosaic100x32.png", "train_7000_labels.bin"),
                test: tiles("test_2000_mosaic100x32.png", "test_2000_labels.bin"),
                skip_train: 0,
                skip_test: 0,
                side_px: Some(32),
            },
        }
    }

    /// The shape that samples are brought to.
    pub fn shape(&self) -> Shape {
        Shape {
            height: self.side_px,
            width: self.side_px,
            channels: self.channels,
        }
    }
}

impl Default for DannRun {
    fn default() -> Self {
        Self {
            seeds: vec![0, 1, 2, 3, 4],
            methods: vec![Method::SourceOnly, Method::Adversarial],
            data: PairConfig::mnist_to_mnist_m(),
            network: StackConfig {
                channels: vec![32, 48, 64],
                kernel: 5,
                widths: vec![],
            },
            norm: Norm::Apart,
            features: 0,
            class_widths: vec![100],
            domain: DomainConfig {
                widths: vec![100],
                highest: 0.6,
                rate: 2.0,
                ..DomainConfig::default()
            },
            information: 0.3,
            inverted: 0.5,
            warp: WarpConfig::none(),
            optim: OptimConfig {
                learning_rate: 1e-3,
                ..OptimConfig::default()
            },
            train: EpochsConfig {
                epochs: 3.0,
                full_epochs: 12.0,
                batch: 128,
                log_every: 50,
                validations: 10,
                average_keep: 0.998,
            },
            select: SelectConfig::default(),
            bound: BoundConfig::default(),
        }
    }
}

impl DannRun {
    /// The run of one seed and method, as its folder has it.
    #[must_use]
    pub fn of(&self, seed: u64, method: Method) -> Self {
        Self {
            seeds: vec![seed],
            methods: vec![method],
            ..self.clone()
        }
    }

    /// Its first seed.
    pub fn seed(&self) -> u64 {
        self.seeds.first().copied().unwrap_or_default()
    }

    /// Whether each domain has its own statistics.
    pub fn is_apart(&self) -> bool {
        self.norm == Norm::Apart && self.method() == Method::Adversarial
    }

    /// Share of the steps, at the end, over which normalisation is held constant.
    pub fn freeze_norm_share(&self) -> f64 {
        match self.norm {
            // Statistics of both in turn are those of neither.
            Norm::Apart => 0.0,
            Norm::None | Norm::Joint => 0.1,
        }
    }

    /// Its last method.
    pub fn method(&self) -> Method {
        self.methods.last().copied().unwrap_or(Method::Adversarial)
    }
}

fn distinct<T: PartialEq>(values: &[T], key: &str) -> Result<(), ConfigError> {
    let twice = |k: usize| values[..k].contains(&values[k]);
    match values.is_empty() || (1..values.len()).any(twice) {
        true => Err(ConfigError::Value(format!(
            "{key} has {} entries, expected one or more, each once",
            values.len()
        ))),
        false => Ok(()),
    }
}

impl SystemConfig for DannRun {
    fn validate(&self) -> Result<(), ConfigError> {
        distinct(&self.seeds, "seeds")?;
        distinct(&self.methods, "methods")?;
        if let Some(seed) = self.seeds.iter().find(|seed| **seed > i64::MAX as u64) {
            return Err(ConfigError::Value(format!(
                "seeds has {seed}, expected at most {}",
                i64::MAX
            )));
        }
        in_range("data.side_px", self.data.side_px as f64, 2.0, 1024.0)?;
        if !matches!(self.data.channels, 1 | 3) {
            return Err(ConfigError::Value(format!(
                "data.channels is {}, expected 1 or 3",
                self.data.channels
            )));
        }
        self.network.validate("network")?;
        for side in [self.data.source.side_px, self.data.target.side_px] {
            let side = side.unwrap_or(self.data.side_px);
            in_range("side_px of a domain", side as f64, 1.0, 1024.0)?;
        }
        in_range("features", self.features as f64, 0.0, 4096.0)?;
        if self.features == 0 && self.network.channels.is_empty() && self.network.widths.is_empty()
        {
            return Err(ConfigError::Value(
                "features is 0, but the network has no layers to take them from".into(),
            ));
        }
        in_range("information", self.information, 0.0, 1e3)?;
        in_range("inverted", self.inverted, 0.0, 1.0)?;
        StackConfig {
            channels: Vec::new(),
            widths: self.class_widths.clone(),
            ..StackConfig::default()
        }
        .validate("class_widths")?;
        self.domain.validate("domain")?;
        self.warp.validate()?;
        self.optim.validate()?;
        self.train.validate()?;
        if !self.train.batch.is_multiple_of(2) {
            return Err(ConfigError::Value(format!(
                "train.batch is {}, expected an even number: half of it is of the target",
                self.train.batch
            )));
        }
        in_range("select.samples", self.select.samples as f64, 2.0, 1e5)?;
        self.bound.validate("bound")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_key_has_a_default_and_what_cannot_be_is_refused_by_name() {
        assert_eq!(DannRun::parse("").unwrap(), DannRun::default());
        let run = DannRun::default().of(3, Method::Adversarial);
        let parsed = DannRun::parse(&run.to_toml().unwrap()).unwrap();
        assert_eq!((parsed.seed(), parsed.method()), (3, Method::Adversarial));
        assert_eq!(parsed, run);
        for (text, part) in [
            ("seeds = []\n", "seeds has 0 entries"),
            ("seeds = [1, 2, 1]\n", "each once"),
            ("methods = [\"coral\"]\n", "coral"),
            ("norm = \"batch\"\n", "batch"),
            ("[domain]\nhighest = -1.0\n", "domain.highest is -1"),
            ("[domain]\nstep = \"both\"\n", "both"),
            ("[train]\nbatch = 7\n", "train.batch is 7"),
            ("inverted = 1.5\n", "inverted is 1.5"),
            ("information = -1.0\n", "information is -1"),
            ("[network]\nkernel = 4\n", "network.kernel is 4"),
            ("[network]\nchannels = []\nwidths = []\n", "features is 0"),
            ("[select]\nby = \"target_error\"\n", "target_error"),
            ("[bound.probe]\nstep = 3\n", "step"),
            ("lambda = 1.0\n", "lambda"),
        ] {
            let said = DannRun::parse(text).unwrap_err().to_string();
            assert!(said.contains(part), "{said}");
        }
    }
}
