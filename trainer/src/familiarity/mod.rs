//! What the board may expect to see: a variational autoencoder of frames with a robust prior, and how far a frame lies from
//! what it learned.
//!
//! In: frames, rendered and of real packs, none with a fault. Out: `familiarity.onnx` with its thresholds, in a bundle
//! ([`roadhound_shared::familiarity`] runs it), and what it says of faults that it never saw.
//!
//! - [`frames`]: frames to learn from and to score on, as the board will crop them.
//! - [`faults`]: a lens covered, smeared or blinded, and a camera that looks [`elsewhere`]. For the score alone: nothing is
//!   learned from them.
//! - [`measure`]: a code, the error of what comes back from it and the picture's detail, each by itself, and the largest.
//! - [`scores`]: ROC against faults, thresholds, alarms on clips.
//! - [`export`]: the graph, and the bundle with it.
//!
//! Why detail: a covered or smeared picture is *easier* to bring back than a road, so the error alone, taken as too large,
//! says nothing. How much fine detail the picture has does, and so does a code far from all others.

pub mod config;
pub mod elsewhere;
pub mod export;
pub mod faults;
pub mod frames;
pub mod measure;
pub mod scores;

pub use config::FamiliarityRun;
