//! Whether the camera shows what was learned: a lens that is covered, smeared or blinded. A camera that is turned, or in a room, is seldom told.
//!
//! In: a frame every second or so, through `familiarity.onnx` (a small variational autoencoder of frames). Out: how far the
//! frame lies from what was learned, and, by time and with hysteresis, whether that is an alarm.
//!
//! - `contract.rs`: the table `[familiarity]` of a bundle: files, sizes, tensors, thresholds.
//! - `watch.rs`: distances in, [`Health`] out. Time is an argument.
//! - `probe.rs`: seeded frames and what the graph must say of them.
//!
//! ```
//! use roadhound_shared::familiarity::{AlarmConfig, FamiliarityWatch, Health};
//! use roadhound_shared::frame::Timestamp;
//! let config = AlarmConfig { distance_above: 3.0, clear_below: 2.5, after_millis: 2000, ..AlarmConfig::default() };
//! let mut watch = FamiliarityWatch::new(config);
//! for second in 0..3 {
//!     watch.accept(9.0, Timestamp(second * 1_000_000));
//! }
//! assert_eq!(watch.health(), Health::Unfamiliar { since: Timestamp(0) });
//! ```

mod contract;
mod probe;
mod watch;

pub use contract::{AlarmConfig, FamiliarityContract, FamiliarityTensors};
pub use probe::{FamiliarityProbe, PROBES, ProbedFrame, probe_frame};
pub use watch::{FamiliarityWatch, Health};

use crate::frame::FrameView;
use crate::preprocess::{Border, CropScratch, CropWindow, PreprocessError, crop_tensor_sized};

/// What the graph says of a frame.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Look {
    /// Mean squared error of the picture that comes back from its code; values of a pixel are 0 to 1.
    pub error: f32,
    /// How far the frame lies from what was learned, in the way in which it is furthest: 1 is as far as that goes.
    pub distance: f32,
}

/// A runtime that runs `familiarity.onnx`.
pub trait FamiliarityNetwork {
    /// What can go wrong.
    type Error;

    /// Looks at a frame, planar `[3, height, width]` as [`frame_tensor`] writes it.
    ///
    /// # Errors
    /// Those of the runtime.
    fn look(&mut self, frame_chw: &[f32]) -> Result<Look, Self::Error>;
}

/// The largest part of a frame that has the graph's aspect, from its middle, as the graph takes it.
///
/// # Shapes
/// - `out_chw`: `[3, height_px, width_px]` of the contract
///
/// # Errors
/// A frame without area; a buffer of another length.
pub fn frame_tensor(
    frame: &FrameView<'_>,
    contract: &FamiliarityContract,
    scratch: &mut CropScratch,
    out_chw: &mut [f32],
) -> Result<(), PreprocessError> {
    let size = contract.input_size();
    let window = CropWindow::within(frame.width_px(), frame.height_px(), size);
    crop_tensor_sized(
        frame,
        &window,
        size,
        Border::Replicate,
        &contract.normalisation,
        scratch,
        out_chw,
    )
}
