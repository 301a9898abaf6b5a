//! From trained weights to the files that the board reads.
//!
//! - [`onnx`]: the subset of the ONNX format that is written, and a small graph builder.
//! - [`follow`]: `template.onnx` and `search.onnx` of a [`FoldedNet`](crate::model::net::FoldedNet).
//! - [`propose`]: `propose.onnx`, beside them.
//! - [`interpret`]: runs what was written, to the bit as the board does.
//! - [`integers`]: the operators of quantised graphs.
//! - [`mod@array`]: the tensors that it computes with.
//! - [`bundle`]: the folder with manifest, hashes and probe.
//! - [`package`]: the folder that the other learning systems leave.
//! - [`unfold`]: the way back, from a bundle to a network that can be trained further.

pub mod array;
pub mod bundle;
pub mod follow;
pub mod integers;
pub mod interpret;
pub mod onnx;
pub mod package;
pub mod propose;
pub mod unfold;
