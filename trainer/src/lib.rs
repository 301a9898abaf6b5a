//! Trainer.

pub mod ops;
