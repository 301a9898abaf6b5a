//! Autoencoders: a code for every sample, and the sample back from its code.
//!
//! In: samples; their classes colour maps only. Out: an encoder and a decoder as graphs, with what they lose on samples
//! that they were not taught.
//!
//! | `kind` | what keeps the code from being a copy |
//! |---|---|
//! | `plain` | it is short |
//! | `sparse_l1`, `sparse_kl` | few of its values are active |
//! | `denoising` | the sample comes in damaged, and is to be whole again (Vincent et al. 2008) |
//! | `vae` | it is a Gaussian, close to the prior (Kingma and Welling 2014); covariance diagonal or full ([`posterior`]) |
//! | `robust_vae` | the prior has a wide box beside the Gaussian ([`prior`]): a far code costs no more than a bounded pull |
//!
//! The task is [`crate::task::autoencoder`]; [`likelihood`] has the bound and its estimate by importance sampling.
//!
//! ```
//! use roadhound_trainer::autoencoder::AutoencoderRun;
//! use roadhound_trainer::config::SystemConfig;
//! let run = AutoencoderRun::parse("latent = 4\n[kind]\nkind = \"robust_vae\"\n").unwrap();
//! assert_eq!(run.kind.name(), "robust_vae");
//! ```

mod config;
pub mod export;
pub mod likelihood;
pub mod posterior;
pub mod prior;

pub use config::{
    AutoencoderRun, Binarise, Covariance, Decoded, DenoisingConfig, Kind, LikelihoodConfig, Mixing,
    OutlierConfig, RobustConfig, SparseKlConfig, SparseL1Config, VaeConfig,
};
