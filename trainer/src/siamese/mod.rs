//! Deep metric learning: a network whose distances say whether two samples show the same thing.
//!
//! In: samples with classes, some classes held out. Out: a network that puts samples of one class close together, also of
//! classes that it was never shown, and its scores on those: verification ([`scores::Verification`]) and retrieval
//! ([`scores::Retrieval`]). A few classes teach little about others: invented ones ([`signs`]) may be shown beside them.
//!
//! Siamese: one network with one set of weights sees every sample; losses compare what it makes of them
//! ([`crate::loss::embedding`], which the tracker's identity is learned by as well). The task is [`crate::task::siamese`].
//!
//! ```
//! use roadhound_trainer::config::SystemConfig;
//! use roadhound_trainer::siamese::SiameseRun;
//! let run = SiameseRun::parse("[loss]\nkind = \"triplet\"\nmargin = 0.2\n").unwrap();
//! assert_eq!((run.loss.name(), run.held_out), ("triplet", vec![8, 9]));
//! ```

mod config;
pub mod export;
pub mod sampler;
pub mod scores;
pub mod signs;

pub use config::{EmbeddingConfig, SiameseRun, VerifyConfig};
