//! The board half of Roadhound: frames in, tracks out.
//!
//! What enters: a folder of images, a video file, a raw dump or a camera, and a model bundle. What leaves: boxes,
//! times, JSON lines, an annotated video, messages. Everything that decides anything lives in `roadhound_shared`; this crate
//! reads, runs the network and writes.
//!
//! Read in this order:
//! - [`track`]: the loop from source to sinks; [`watch`]: the same for everybody on the road;
//! - [`select`]: whom to follow, where nobody gives a box;
//! - [`source`] and [`sink`]: both ends of it;
//! - [`run`]: the program on the board, from [`capture`] to [`sink::live`]; [`config`] is what it can be told;
//! - [`bundle`]: a model is verified, then trusted; [`infer`]: the network on tract;
//! - [`drive`]: a rendered drive with exact truth; [`demo`] and [`mod@bench`] use it;
//! - [`failure`]: what a command may end with.

pub mod bench;
pub mod bundle;
pub mod capture;
pub mod clock;
pub mod config;
pub mod demo;
pub mod drive;
mod embedded;
pub mod failure;
pub mod familiarity;
pub mod infer;
pub mod int8;
pub mod memory;
pub mod preview;
pub mod record;
pub mod run;
pub mod select;
pub mod sink;
pub mod source;
pub mod track;
pub mod watch;
