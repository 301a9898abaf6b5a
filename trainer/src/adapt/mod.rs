//! Learning for a domain without labels: one set of features for two domains (Ganin et al. 2016), and what bounds the error.
//!
//! Nothing here knows whether a row of features is that of a whole picture or of a region of one: [`crate::task::dann`] gives
//! rows of pictures, and a detector or tracker gives rows of proposals, with a weight each.
//!
//! - [`reversal`]: the layer that turns gradients round, and how its strength rises.
//! - [`domain`]: the head that tells domains apart, and the loss that it and the features are trained by.
//! - [`select`]: criteria that choose a model without a label of the target.
//! - [`probe`]: small heads trained on features that stand still: how well domains, or classes of both, can be told apart.
//! - [`config`], [`clips`], [`pseudo`], [`fourier`], [`style`], [`batches`], [`measure`]: the tracker's adaptation, which
//!   [`crate::task::adapt`] joins: what it is told, unlabelled video, tracks that the tracker believes, light of one domain on
//!   crops of the other, the manner of a recording on them, what a step sees, and which weights are kept.
//! - [`setting`], [`attempt`], [`shown`], [`deliver`]: what adaptations of a bundle share, one of them, their table and
//!   report, and the bundle that is left.
//! - [`labelled`], [`score`], [`scenes`]: a few labelled tracks of the target, what annotated clips say of an adaptation, and
//!   pictures of the target before and after.
//! - [`bound`]: the error on the source, the distance of the domains and the joint error, which together bound the error on
//!   the target (Ben-David et al. 2010).
//!
//! ```
//! use candle_core::{DType, Device, Tensor};
//! use roadhound_trainer::adapt::domain::{DomainConfig, DomainHead};
//! use roadhound_trainer::params::ParamBuilder;
//! let config = DomainConfig::default();
//! let mut builder = ParamBuilder::new(1, &Device::Cpu);
//! let head = DomainHead::new(&mut builder, "domain", 16, &config)?;
//! let regions = |count: usize| Tensor::zeros((count, 16), DType::F32, &Device::Cpu);
//! let strength = config.strength_at(0.5);
//! let loss = head.loss(&regions(12)?, &regions(7)?, None, strength, config.step)?;
//! assert!((loss.entropy.to_scalar::<f32>()? - 2f32.ln()).abs() < 0.2);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod attempt;
pub mod batches;
pub mod bound;
pub mod clips;
pub mod config;
pub mod deliver;
pub mod domain;
pub mod fourier;
pub mod labelled;
pub mod measure;
pub mod probe;
pub mod pseudo;
pub mod reversal;
pub mod scenes;
pub mod score;
pub mod select;
pub mod setting;
pub mod shown;
pub mod style;
