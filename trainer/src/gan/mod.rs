//! Generative adversarial networks: samples out of noise, and codes that mean something.
//!
//! In: samples; their classes score and are never shown to the two players. Out: a generator and a discriminator as graphs, and
//! figures: which modes are covered ([`coverage`]), the Frechet distance, and what a code says about the class.
//!
//! | stabiliser | what it keeps from happening |
//! |---|---|
//! | `label_smoothing` | a discriminator that grows sure without end (Salimans et al. 2016) |
//! | `instance_noise` | two sets that never touch, which leave the generator no slope (Sonderby et al. 2017); falls to nothing |
//! | `spectral_norm` | a discriminator that is steep anywhere (Miyato et al. 2018) |
//! | `discriminator_rate` | a generator that outruns it: two time-scales (Heusel et al. 2017) |
//! | `batch_norm = "separate"` | made samples that are told by their being in one batch with real ones |
//! | `feature_matching` | a generator that chases one weakness (Salimans et al. 2016) |
//! | `r1` | a discriminator that is steep at real samples (Mescheder et al. 2018) |
//!
//! R1 needs the gradient of a gradient, which candle has not. Of dense layers the gradient is written out, with operators that
//! have gradients themselves (`r1_by = "gradient"`): exact. With convolutions its square is estimated by differences along drawn
//! directions (`r1_by = "directions"`): right on average. The first with convolutions is refused.
//!
//! With `mutual.categorical` or `mutual.continuous` above 0 it is an InfoGAN (Chen et al. 2016): what a reader finds of the
//! code in a made sample is raised. With both 0 the reader still learns, and moves nobody: a probe of a plain GAN's code.
//!
//! Nothing in that holds a category to be a class: slant or thickness would do as well, and which it becomes is the seed's luck.
//! `mutual.invariance` (not in the paper, and off unless asked for) adds what is known without labels: moved a little, a sample
//! stays what it is, and its nearest neighbours are mostly what it is ([`neighbours`](crate::labelled::neighbours)). The category is
//! then read by a network of its own, which learns from real samples alone: of many clusters, what it answers to one of
//! a pair is to tell as much of its answer to the other as it can
//! ([`shared_information`](crate::loss::classes::shared_information); Ji et al. 2019; neighbours as in Van Gansbeke et al. 2020), and the
//! categories are groups of those clusters ([`clusters`]). For the first steps (`alone`) nothing else is learned; then the generator
//! learns to make what the reader tells apart. That the reader does not follow made samples keeps the bound of Chen et al.,
//! which holds for any reader: one that learned from made samples too gave way to a generator's first attempts and read real
//! digits worse (4.5 % wrong before, 7.2 % after 2,300 steps). Several such networks (`readers`), begun elsewhere each, learn side by side at first; then
//! the one alone whose categories tell most, which no label is needed for.
//!
//! | figure | of what | with labels |
//! |---|---|---|
//! | `code_error` | categories read off held-out samples, each matched to one class by the best one-to-one assignment | yes |
//! | `made_error` | categories that samples were made of, against what the judge sees in them, matched likewise | yes |
//! | `shared_nats` | what the category of a held-out sample says of that of the same one moved | no: what seeds may be chosen by |
//!
//! The task is [`crate::task::gan`].
//!
//! ```
//! use roadhound_trainer::config::SystemConfig;
//! use roadhound_trainer::gan::GanRun;
//! let run = GanRun::parse("[ring]\nmodes = 5\n[stabilisers]\nr1 = 0.1\n[generator]\nwidths = [64]\n[discriminator]\nwidths = [64]\n").unwrap();
//! assert_eq!(run.ring.unwrap().modes, 5);
//! ```

pub mod clusters;
mod config;
pub mod coverage;
pub mod export;

pub use config::{
    BatchNorm, CodeConfig, EvaluateConfig, GanRun, InvarianceConfig, MOST_READERS, MutualConfig,
    PenaltyBy, StabiliserConfig,
};
