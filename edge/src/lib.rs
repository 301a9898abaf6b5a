//! The board half of Roadhound: frames in, tracks out.
//!
//! What enters: a folder of images, a video file or a raw dump, and a model bundle. What leaves: boxes, times,
//! JSON lines and an annotated video. Everything that decides anything lives in `roadhound_shared`; this crate
//! reads, runs the network and writes.
//!
//! Read in this order:
//! - [`track`]: the loop from source to sinks;
//! - [`source`] and [`sink`]: both ends of it;
//! - [`bundle`]: a model is verified, then trusted; [`infer`]: the network on tract;
//! - [`drive`]: a rendered drive with exact truth; [`demo`] and [`mod@bench`] use it;
//! - [`failure`]: what a command may end with.

pub mod bench;
pub mod bundle;
pub mod demo;
pub mod drive;
mod embedded;
pub mod failure;
pub mod infer;
pub mod int8;
pub mod memory;
pub mod sink;
pub mod source;
pub mod track;
