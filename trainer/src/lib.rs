//! Roadhound's desktop half: from annotated images to the bundle that the board runs.
//!
//! ```text
//! data -> sampler -> augment -> batch -> task (model + loss) -> train_loop -> export
//! ```
//!
//! candle's types stop at [`batch`]; [`data`], [`sampler`] and [`augment`] run without a device.

pub mod augment;
pub mod batch;
pub mod data;
pub mod loss;
pub mod model;
pub mod ops;
pub mod optim;
pub mod params;
pub mod sampler;
