//! Pure core of Roadhound: everything both halves must agree on.
//!
//! What enters: borrowed camera frames, boxes, time stamps, network outputs. What leaves: crops, tensors, reports,
//! scores. Nothing here does I/O, reads a clock, logs, or keeps global state; the crate is `no_std` and needs only
//! an allocator.
//!
//! Read in this order:
//! - [`frame`]: a camera frame as borrowed bytes, and time stamps;
//! - [`geometry`]: box formats and the affine maps between image, crop and feature space;
//! - [`preprocess`]: a window of a frame resampled to the tensor a network wants;
//! - [`contract`]: the model bundle, its sizes, hashes and probe; [`network`]: the seam to whatever runs it;
//! - [`decode`]: network outputs to a few candidate boxes;
//! - [`tracker`]: the state machine that asks for crops and accepts outputs;
//! - [`follow`]: the loop that joins all of it, a frame in and a report out.
#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod contract;
pub mod decode;
pub mod follow;
pub mod frame;
pub mod geometry;
pub mod network;
pub mod preprocess;
pub mod tracker;
