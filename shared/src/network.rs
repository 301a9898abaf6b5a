//! The seam between the tracker and whatever runs the two graphs.
//!
//! In: normalised crops and template features. Out: plain buffers that the caller owns, so that a
//! steady state allocates nothing. The trainer implements [`FollowNetwork`] on candle, the edge on
//! tract, tests on arithmetic.
//!
//! ```
//! use roadhound_shared::contract::{FollowContract, FollowSizes};
//! use roadhound_shared::network::SearchOutputs;
//!
//! let contract = FollowContract::new(FollowSizes::default()).expect("the default sizes agree");
//! let outputs = SearchOutputs::for_contract(&contract);
//! assert_eq!(outputs.box_ltrb_px.len(), 4 * 16 * 16);
//! ```

use alloc::vec;
use alloc::vec::Vec;
use core::fmt::{Debug, Display};

use crate::adapt::Adjustment;
use crate::contract::FollowContract;

/// What the template graph gives.
#[derive(Debug, Clone, PartialEq)]
pub struct TemplateOutputs {
    /// `[F, T/s, T/s]`, planar.
    pub features: Vec<f32>,
    /// `[E]`, unit norm.
    pub embedding: Vec<f32>,
}

impl TemplateOutputs {
    /// Buffers of the right length, filled with zero.
    pub fn for_contract(contract: &FollowContract) -> Self {
        Self {
            features: vec![0.0; contract.features_len()],
            embedding: vec![0.0; contract.embedding_size],
        }
    }
}

/// What the search graph gives, planar as in the ONNX file.
#[derive(Debug, Clone, PartialEq)]
pub struct SearchOutputs {
    /// `[S/s, S/s]`, in 0..1.
    pub score: Vec<f32>,
    /// `[4, S/s, S/s]`: distances left, top, right, bottom from the cell centre
    /// (`stride * (i + 1/2)`) in search-crop pixels.
    pub box_ltrb_px: Vec<f32>,
    /// In 0..1: is the target in the crop at all.
    pub presence: f32,
    /// `[E, S/s, S/s]`, unit norm at each location.
    pub embedding: Vec<f32>,
}

impl SearchOutputs {
    /// Buffers of the right length, filled with zero.
    pub fn for_contract(contract: &FollowContract) -> Self {
        let cells = contract.score_cells() * contract.score_cells();
        Self {
            score: vec![0.0; cells],
            box_ltrb_px: vec![0.0; 4 * cells],
            presence: 0.0,
            embedding: vec![0.0; contract.embedding_size * cells],
        }
    }
}

/// The two graphs of a follow bundle. Both are stateless: the caller keeps the features.
pub trait FollowNetwork {
    /// What can go wrong in the runtime.
    type Error: Debug + Display;

    /// Runs the template graph.
    ///
    /// # Shapes
    /// `crop_chw`: `[3, T, T]`, normalised. `out` has the lengths of
    /// [`TemplateOutputs::for_contract`] and keeps them.
    ///
    /// # Errors
    /// Those of the runtime.
    fn template(&mut self, crop_chw: &[f32], out: &mut TemplateOutputs) -> Result<(), Self::Error>;

    /// Runs the search graph.
    ///
    /// # Shapes
    /// `crop_chw`: `[3, S, S]`, normalised; `first` and `latest`: `[F, T/s, T/s]`. `out` has the
    /// lengths of [`SearchOutputs::for_contract`] and keeps them.
    ///
    /// # Errors
    /// Those of the runtime.
    fn search(
        &mut self,
        crop_chw: &[f32],
        first: &[f32],
        latest: &[f32],
        out: &mut SearchOutputs,
    ) -> Result<(), Self::Error>;

    /// Gives `take` what the last search saw of a layer, as [`Adapter::sample`](crate::adapt::Adapter::sample) wants it.
    /// A network that nobody looks into has nothing to say.
    fn samples(&mut self, _layer: usize, _take: &mut dyn FnMut(&[u8])) {}

    /// Puts a layer of both graphs right, from the next run on.
    ///
    /// # Errors
    /// Adjustments that the layer cannot have.
    fn adjust(&mut self, _layer: usize, _adjustments: &[Adjustment]) -> Result<(), Self::Error> {
        Ok(())
    }
}

/// A borrowed network, so that one network can follow many runs.
impl<N: FollowNetwork + ?Sized> FollowNetwork for &mut N {
    type Error = N::Error;

    fn template(&mut self, crop_chw: &[f32], out: &mut TemplateOutputs) -> Result<(), Self::Error> {
        (**self).template(crop_chw, out)
    }

    fn search(
        &mut self,
        crop_chw: &[f32],
        first: &[f32],
        latest: &[f32],
        out: &mut SearchOutputs,
    ) -> Result<(), Self::Error> {
        (**self).search(crop_chw, first, latest, out)
    }

    fn samples(&mut self, layer: usize, take: &mut dyn FnMut(&[u8])) {
        (**self).samples(layer, take);
    }

    fn adjust(&mut self, layer: usize, adjustments: &[Adjustment]) -> Result<(), Self::Error> {
        (**self).adjust(layer, adjustments)
    }
}
