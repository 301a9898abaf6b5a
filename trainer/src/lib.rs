//! Trainer.

pub mod augment;
pub mod batch;
pub mod data;
pub mod ops;
pub mod sampler;
