//! The follow model: a Siamese backbone with tied weights, pixel-wise correlation, and heads for score,
//! box, presence and instance identity.
//!
//! In: template crops `[N, 128, 128, 3]` and search crops `[N, 256, 256, 3]`, normalised RGB.
//! Out: [`net::SearchMaps`]. [`propose`] finds road users on whole frames with the same backbone; [`stack`] is the plain network of the other
//! systems, [`spectral`] what holds its weights back. Nothing here knows of losses, data or files.

pub mod layers;
pub mod net;
pub mod propose;
pub mod spectral;
pub mod stack;

pub use layers::Pass;
pub use net::{ModelConfig, SearchMaps, TrackerNet};
pub use propose::ProposeNet;
