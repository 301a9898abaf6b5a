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
//! The task is [`crate::task::gan`].
//!
//! ```
//! use roadhound_trainer::config::SystemConfig;
//! use roadhound_trainer::gan::GanRun;
//! let run = GanRun::parse("[ring]\nmodes = 5\n[stabilisers]\nr1 = 0.1\n[generator]\nwidths = [64]\n[discriminator]\nwidths = [64]\n").unwrap();
//! assert_eq!(run.ring.unwrap().modes, 5);
//! ```

mod config;
pub mod coverage;
pub mod export;

pub use config::{
    BatchNorm, CodeConfig, EvaluateConfig, GanRun, MutualConfig, PenaltyBy, StabiliserConfig,
};
