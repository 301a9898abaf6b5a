//! Classes of one domain, learned from labels of another: domain-adversarial training (Ganin et al. 2016).
//!
//! In: labelled samples of a source and unlabelled ones of a target. Out: a classifier of both, what its features are worth
//! before and after ([`crate::adapt::bound`]), and its graph.
//!
//! A network of features, a head of classes, a head of domains behind a reversal layer; trained by [`crate::train_loop`] as
//! [`crate::task::dann`]. Labels of the target are read for the score alone: neither training nor the choice of weights
//! ([`crate::adapt::select`]) can see them.

pub mod config;
pub mod data;
pub mod export;
pub mod study;

pub use config::{DannRun, Method, Norm};
