//! Proposals: every road user of a whole frame, without a first box.
//!
//! What enters: the frame, letterboxed to the size that `propose.onnx` reads, through whatever runs the graph
//! ([`ProposeNetwork`]). What leaves: class, score, box and embedding of every road user that is found.
//!
//! - [`classes`]: what a road user can be;
//! - [`contract`]: sizes, tensors and files of the graph, a table of the bundle's manifest;
//! - [`decode`]: maps to [`Proposal`]s;
//! - [`finder`]: all of it, a frame in and road users out;
//! - [`pick`]: of all of them, the one that somebody means;
//! - [`probe`]: a seeded frame and what the graph must say of it.
//!
//! The graph computes maps of stride 16, and four *sub-cells* for each of their cells: the answers lie on a grid of
//! stride 8, where small objects need it, at the price of stride 16. Channel `4 k + 2 dy + dx` of a map is value `k` of
//! the sub-cell in row `dy` and column `dx` of its cell.
//!
//! ```
//! use roadhound_shared::preprocess::CropWindow;
//! use roadhound_shared::propose::{
//!     Proposals, ProposalConfig, ProposeContract, ProposeDecoder, ProposeOutputs, ProposeSizes, RoadUser,
//! };
//!
//! let contract = ProposeContract::new(ProposeSizes::default())?;
//! let decoder = ProposeDecoder::new(&contract);
//! let mut outputs = ProposeOutputs::for_contract(&contract);
//! // A bus about (100, 60): row 7, column 12 of the grid of stride 8.
//! let cell = 7 * decoder.columns() + 12;
//! outputs.score[decoder.index(RoadUser::Bus as usize, cell)] = 0.9;
//! for side in 0..4 { outputs.box_ltrb_px[decoder.index(side, cell)] = 30.0; }
//!
//! let mut found = Proposals::new();
//! decoder.decode(&outputs, &ProposalConfig::default(), &mut found);
//! assert_eq!((found[0].class, found[0].score), (RoadUser::Bus, 0.9));
//!
//! // Back to pixels of the camera's frame.
//! let window = CropWindow::letterbox(1920, 1080, contract.input_size());
//! let image_from_input = window.image_from_sized_crop(contract.input_size());
//! let box_in_image = image_from_input.apply_box(&found[0].box_in_input.into());
//! assert!((box_in_image.w_px - 60.0 * 1920.0 / 416.0).abs() < 0.1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use alloc::vec;
use alloc::vec::Vec;
use core::fmt::{Debug, Display};

pub mod classes;
pub mod contract;
pub mod decode;
pub mod finder;
pub mod pick;
pub mod probe;
pub mod views;

pub use self::classes::{RoadUser, RoadUsers};
pub use self::contract::{ProposeContract, ProposeFiles, ProposeInt8, ProposeSizes};
pub use self::decode::{BoxVote, Proposal, ProposalConfig, Proposals, ProposeDecoder};
pub use self::finder::{FindError, Finder};
pub use self::probe::ProposeProbe;
pub use self::views::{Closer, ViewsConfig};

/// What the graph gives, planar as in the ONNX file: `h = height / stride` rows and `w = width / stride` columns.
#[derive(Debug, Clone, PartialEq)]
pub struct ProposeOutputs {
    /// `[4 * classes, h, w]`, in 0..1.
    pub score: Vec<f32>,
    /// `[4 * 4, h, w]`: distances left, top, right, bottom from the sub-cell's centre, in pixels of the input.
    pub box_ltrb_px: Vec<f32>,
    /// `[4 * E, h, w]`, unit norm at each sub-cell.
    pub embedding: Vec<f32>,
}

impl ProposeOutputs {
    /// Buffers of the right length, filled with zero.
    pub fn for_contract(contract: &ProposeContract) -> Self {
        let tensors = &contract.tensors;
        Self {
            score: vec![0.0; tensors.score.len()],
            box_ltrb_px: vec![0.0; tensors.box_ltrb_px.len()],
            embedding: vec![0.0; tensors.embedding.len()],
        }
    }
}

/// Whatever runs `propose.onnx`. Stateless.
pub trait ProposeNetwork {
    /// What can go wrong in the runtime.
    type Error: Debug + Display;

    /// Runs the graph.
    ///
    /// # Shapes
    /// `frame_chw`: `[3, height, width]`, normalised. `out` has the lengths of [`ProposeOutputs::for_contract`] and
    /// keeps them.
    ///
    /// # Errors
    /// Those of the runtime.
    fn propose(&mut self, frame_chw: &[f32], out: &mut ProposeOutputs) -> Result<(), Self::Error>;
}

/// A borrowed network, so that one network can serve many runs.
impl<N: ProposeNetwork + ?Sized> ProposeNetwork for &mut N {
    type Error = N::Error;

    fn propose(&mut self, frame_chw: &[f32], out: &mut ProposeOutputs) -> Result<(), Self::Error> {
        (**self).propose(frame_chw, out)
    }
}
