//! Roadhound's desktop half: from annotated images to the bundle that the board runs.
//!
//! ```text
//! data -> sampler -> augment -> batch -> task (model + loss) -> train_loop -> evaluate -> export -> quantise
//! ```
//!
//! Read [`config`] for what a run is made of, [`train_loop`] for how it goes, [`task::track`] for what is learned.
//! candle's types stop at [`batch`]; [`data`], [`sampler`] and [`augment`] run without a device.

pub mod ablate;
pub mod adapt;
pub mod augment;
pub mod autoencoder;
pub mod batch;
pub mod calibrate;
pub mod checkpoint;
pub mod config;
pub mod contingency;
pub mod dann;
pub mod data;
pub mod descent;
pub mod detection;
pub mod disentangle;
pub mod epochs;
pub mod evaluate;
pub mod export;
pub mod familiarity;
pub mod gan;
pub mod gap;
pub mod labelled;
pub mod linalg;
pub mod loss;
pub mod many;
pub mod metric;
pub mod model;
pub mod network;
pub mod ops;
pub mod optim;
pub mod outputs;
pub mod params;
pub mod probe;
pub mod propose;
pub mod quantise;
pub mod render;
pub mod report;
pub mod run_log;
pub mod sampler;
pub mod scenes;
pub mod siamese;
pub mod systems;
pub mod task;
pub mod train_loop;
pub mod tricks;
pub mod tune;
