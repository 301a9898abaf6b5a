//! Disentangling: a code in two parts, of which one says the class and the other everything else.
//!
//! In: samples with classes, of which only "these two are of one class" is used. Out: an encoder to both parts and a decoder from
//! them as graphs; what a probe finds of the class in each part; pictures of every sample in the manner of every other.
//!
//! | `kind` | what keeps the class out of `z` |
//! |---|---|
//! | `mathieu` | a discriminator of pairs: a sample decoded from one's `z` and another's `s` shall pass as of the other's class (Mathieu et al. 2016) |
//! | `jha` | a cycle: one drawn `z`, decoded with two samples' `s` and encoded again, shall come back the same both times; the decoder swaps the two `s` of one class (Jha et al. 2018) |
//!
//! In both `z` is a Gaussian near N(0, I) and `s` a plain vector. A network can hide the class in `z` all the same, and the probe
//! is what shows it: chance in `z` and everything in `s` is the aim. `z` is probed as it is drawn, which is all that the decoder
//! knows of it, and by its mean, which is more.
//!
//! On pictures of known factors ([`factors`]) the values of the code are scored by MIG, DCI and SAP ([`scores`]). The task is
//! [`crate::task::disentangle`].
//!
//! ```
//! use roadhound_trainer::config::SystemConfig;
//! use roadhound_trainer::disentangle::DisentangleRun;
//! let run = DisentangleRun::parse("[method]\nkind = \"mathieu\"\nadversarial = 0.1\n").unwrap();
//! assert_eq!(run.method.name(), "mathieu");
//! ```

mod config;
pub mod export;
pub mod factors;
pub mod pairs;
pub mod scores;

pub use config::{CodeProbeConfig, DisentangleRun, JhaConfig, MathieuConfig, Method};
