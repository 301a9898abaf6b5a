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
//! - [`quantised`]: what an eight-bit graph computes, number by number;
//! - [`decode`]: network outputs to a few candidate boxes;
//! - [`propose`]: every road user of a whole frame, by class, box and embedding;
//! - [`tracker`]: the state machine that asks for crops and accepts outputs;
//! - [`follow`]: the loop that joins all of it, a frame in and a report out;
//! - [`limits`]: what every table of constants is checked by;
//! - [`assignment`]: who goes with whom at the smallest cost;
//! - [`metrics`]: how good the reports were, of one object or of many;
//! - [`watch`]: every road user at once, with identities that last;
//! - [`world`]: a rendered drive with exact annotation, where there is no other data.
//!
//! # One frame, by hand
//! What [`follow`] does for every frame, without the network: a window about the target, the window's pixels as a
//! tensor, a box found in the crop, the same box in the image, its score.
//!
//! ```
//! use roadhound_shared::frame::{FrameView, PixelFormat};
//! use roadhound_shared::geometry::BoxXywh;
//! use roadhound_shared::metrics::ScoreBox;
//! use roadhound_shared::preprocess::{Border, CropScratch, CropWindow, Normalisation, crop_tensor};
//!
//! // A camera's frame, borrowed: 640x480 in YUYV.
//! let bytes = vec![128; 2 * 640 * 480];
//! let frame = FrameView::packed(PixelFormat::Yuyv, 640, 480, 2 * 640, &bytes)?;
//!
//! // The search window is twice the target and its surroundings; it may reach beyond the frame.
//! let last_box_in_image = BoxXywh::new(20.0, 200.0, 60.0, 60.0);
//! let window = CropWindow::around(last_box_in_image, 2.0);
//! let mut search = vec![0.0; 3 * 256 * 256];
//! let mut scratch = CropScratch::default();
//! crop_tensor(&frame, &window, 256, Border::Mean, &Normalisation::default(), &mut scratch, &mut search)?;
//!
//! // Say that the network found the target where it was: 64 px wide, in the middle.
//! let box_in_crop = BoxXywh::from_center(128.0, 128.0, 64.0, 64.0);
//! let image_from_crop = window.image_from_crop(256);
//! let box_in_image = image_from_crop.apply_box(&box_in_crop);
//! assert!(box_in_image.iou(&last_box_in_image) > 0.99);
//! assert!(ScoreBox::from(box_in_image).iou(&last_box_in_image.into()) > 0.99);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod adapt;
pub mod assignment;
pub mod contract;
pub mod decode;
pub mod familiarity;
pub mod follow;
pub mod frame;
pub mod geometry;
pub mod limits;
pub mod metrics;
pub mod mix;
pub mod network;
pub mod preprocess;
pub mod propose;
pub mod quantised;
pub mod tracker;
pub mod watch;
pub mod world;
