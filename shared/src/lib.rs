//! Pure core of Roadhound: everything both halves must agree on.
//!
//! What enters: borrowed camera frames, boxes, time stamps, network outputs. What leaves: crops, tensors, reports,
//! scores. Nothing here does I/O, reads a clock, logs, or keeps global state; the crate is `no_std` and needs only
//! an allocator.
//!
//! Read in this order:
//! - [`frame`]: a camera frame as borrowed bytes, and time stamps;
//! - [`geometry`]: box formats and the affine maps between image, crop and feature space;
//! - [`preprocess`]: a window of a frame resampled to the tensor a network wants.
#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod frame;
pub mod geometry;
pub mod preprocess;
