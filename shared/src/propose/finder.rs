//! A frame to the road users on it: windows, graph, maps, boxes in the image.
//!
//! In: frames, a [`ProposeNetwork`], and where to look closer than at the whole ([`ViewsConfig`]). Out: a [`Detection`] for
//! everybody found, best first, boxes in pixels of the image and cut at its borders. It owns every buffer: once warm it allocates nothing, the network aside. The trainer's figures
//! and the board's results come through this code.
//!
//! ```
//! use roadhound_shared::frame::FrameView;
//! use roadhound_shared::propose::finder::Finder;
//! use roadhound_shared::propose::{
//!     ProposeContract, ProposeDecoder, ProposeNetwork, ProposeOutputs, ProposeSizes, RoadUser,
//! };
//!
//! /// Sees a car in the middle of whatever it is shown.
//! struct Middle(ProposeDecoder);
//! impl ProposeNetwork for Middle {
//!     type Error = core::convert::Infallible;
//!     fn propose(&mut self, _: &[f32], out: &mut ProposeOutputs) -> Result<(), Self::Error> {
//!         let cell = 16 * self.0.columns() + 26;
//!         out.score[self.0.index(RoadUser::Car as usize, cell)] = 0.9;
//!         for side in 0..4 { out.box_ltrb_px[self.0.index(side, cell)] = 20.0; }
//!         Ok(())
//!     }
//! }
//!
//! let contract = ProposeContract::new(ProposeSizes::default())?;
//! let mut finder = Finder::new(Middle(ProposeDecoder::new(&contract)), contract)?;
//! let pixels = vec![0; 832 * 512 * 3];
//! finder.find(&FrameView::rgb8(832, 512, &pixels)?)?;
//! let car = finder.found().next().expect("the network sees one");
//! assert_eq!((car.kind, car.box_in_image.w_px, car.box_in_image.center()), (RoadUser::Car, 80.0, (424.0, 264.0)));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use alloc::vec;
use alloc::vec::Vec;

use super::contract::ProposeContract;
use super::decode::{MAX_PROPOSALS, Proposals, ProposeDecoder};
use super::views::{
    Closer, MAX_VIEWS, Seen, SeenInViews, SeenOnce, ViewsConfig, is_cut, leave_to_closest, merge,
};
use super::{ProposeNetwork, ProposeOutputs};
use crate::contract::ContractError;
use crate::frame::FrameView;
use crate::preprocess::{Border, CropScratch, CropWindow, PreprocessError, crop_tensor_sized};
use crate::watch::Detection;

/// What can go wrong with one frame. The finder stays usable.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum FindError<E: core::fmt::Debug + core::fmt::Display> {
    /// The frame could not be letterboxed.
    #[error(transparent)]
    Crop(#[from] PreprocessError),
    /// The network failed.
    #[error("network: {0}")]
    Network(E),
}

/// A network and everything about it that turns frames into road users.
#[derive(Debug)]
pub struct Finder<N> {
    network: N,
    contract: ProposeContract,
    decoder: ProposeDecoder,
    scratch: CropScratch,
    frame_chw: Vec<f32>,
    outputs: ProposeOutputs,
    proposals: Proposals,
    in_views: SeenInViews,
    once: SeenOnce,
    /// By slot: those of a view after those of the view before.
    embeddings: Vec<f32>,
}

impl<N: ProposeNetwork> Finder<N> {
    /// A finder that has looked at nothing yet. Allocates every buffer.
    ///
    /// # Errors
    /// A contract that cannot be.
    pub fn new(network: N, contract: ProposeContract) -> Result<Self, ContractError> {
        contract.validate()?;
        Ok(Self {
            network,
            decoder: ProposeDecoder::new(&contract),
            scratch: CropScratch::default(),
            frame_chw: vec![0.0; contract.tensors.frame.len()],
            outputs: ProposeOutputs::for_contract(&contract),
            proposals: Proposals::new(),
            in_views: SeenInViews::new(),
            once: SeenOnce::new(),
            embeddings: vec![0.0; MAX_VIEWS * MAX_PROPOSALS * contract.embedding_size],
            contract,
        })
    }

    /// Looks at a whole frame, once; [`Finder::found`] then tells who is on it.
    ///
    /// # Errors
    /// A frame that cannot be resampled, or a failure of the network; nobody is found then.
    pub fn find(&mut self, frame: &FrameView<'_>) -> Result<(), FindError<N::Error>> {
        self.find_in(frame, &ViewsConfig::with(Closer::Nothing))
    }

    /// Looks at a frame, and closer where `views` says; [`Finder::found`] then tells who is on it.
    ///
    /// # Errors
    /// Those of [`Finder::find`].
    pub fn find_in(
        &mut self,
        frame: &FrameView<'_>,
        views: &ViewsConfig,
    ) -> Result<(), FindError<N::Error>> {
        self.once.clear();
        self.in_views.clear();
        let (width_px, height_px) = (frame.width_px(), frame.height_px());
        let windows = views.windows(width_px, height_px, self.contract.input_size());
        for (view, window) in windows.iter().enumerate() {
            self.see(frame, window, view)?;
        }
        match windows.len() {
            // As decoded: they are apart already.
            1 => self.once.extend(self.in_views.iter().copied()),
            _ => {
                let input = self.contract.input_size();
                leave_to_closest(&mut self.in_views, &windows, input, width_px, height_px);
                merge(&mut self.in_views, views, &mut self.once);
            }
        }
        Ok(())
    }

    /// Who is in one view.
    fn see(
        &mut self,
        frame: &FrameView<'_>,
        window: &CropWindow,
        view: usize,
    ) -> Result<(), FindError<N::Error>> {
        let size = self.contract.input_size();
        let (width_px, height_px) = (frame.width_px(), frame.height_px());
        crop_tensor_sized(
            frame,
            window,
            size,
            Border::Mean,
            &self.contract.normalisation,
            &mut self.scratch,
            &mut self.frame_chw,
        )?;
        self.network
            .propose(&self.frame_chw, &mut self.outputs)
            .map_err(FindError::Network)?;
        let decode = &self.contract.decode;
        self.decoder
            .decode(&self.outputs, decode, &mut self.proposals);
        let image_from_input = window.image_from_sized_crop(size);
        let fineness = size.width_px as f32 / window.w_px;
        for (number, proposal) in self.proposals.iter().enumerate() {
            let whole = image_from_input.apply_box(&proposal.box_in_input.into());
            // Who is wholly on the bars of the letterbox is nobody.
            let Some(part) = whole.clip(width_px, height_px).filter(|b| b.is_proper()) else {
                continue;
            };
            if is_cut(&part, window, fineness, width_px, height_px) {
                continue;
            }
            let slot = view * MAX_PROPOSALS + number;
            let length = self.contract.embedding_size;
            let place = &mut self.embeddings[slot * length..][..length];
            if !self
                .decoder
                .embedding_at(&self.outputs, proposal.cell, place)
            {
                place.fill(0.0);
            }
            // There is room for all of every view.
            let _ = self.in_views.push(Seen {
                kind: proposal.class,
                score: proposal.score,
                box_in_image: part,
                fineness,
                views: 1 << view,
                slot,
            });
        }
        Ok(())
    }

    /// Who was found on the last frame, best first.
    pub fn found(&self) -> impl ExactSizeIterator<Item = Detection<'_>> {
        let length = self.contract.embedding_size;
        self.once.iter().map(move |seen| Detection {
            box_in_image: seen.box_in_image,
            score: seen.score,
            kind: seen.kind,
            embedding: &self.embeddings[seen.slot * length..][..length],
        })
    }

    /// The contract in use.
    pub fn contract(&self) -> &ProposeContract {
        &self.contract
    }

    /// The network, to ask for its timings.
    pub fn network_mut(&mut self) -> &mut N {
        &mut self.network
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::string::{String, ToString};

    use super::*;
    use crate::geometry::BoxXywh;
    use crate::propose::{ProposeSizes, RoadUser};

    /// Answers with the same maps always, or fails.
    struct Fixed(Result<ProposeOutputs, String>);

    impl ProposeNetwork for Fixed {
        type Error = String;

        fn propose(&mut self, _: &[f32], out: &mut ProposeOutputs) -> Result<(), String> {
            self.0.clone().map(|maps| *out = maps)
        }
    }

    fn contract() -> ProposeContract {
        ProposeContract::new(ProposeSizes::default()).unwrap()
    }

    /// A finder that sees a bus at each of these cells, 60 px wide and high, with its number as an embedding.
    fn sees(cells: &[usize]) -> Finder<Fixed> {
        let contract = contract();
        let decoder = ProposeDecoder::new(&contract);
        let mut maps = ProposeOutputs::for_contract(&contract);
        for (n, &cell) in cells.iter().enumerate() {
            maps.score[decoder.index(RoadUser::Bus as usize, cell)] = 0.9 - 0.1 * n as f32;
            for side in 0..4 {
                maps.box_ltrb_px[decoder.index(side, cell)] = 30.0;
            }
            maps.embedding[decoder.index(n, cell)] = 1.0;
        }
        Finder::new(Fixed(Ok(maps)), contract).unwrap()
    }

    #[test]
    fn boxes_are_cut_at_the_image_and_keep_their_own_embeddings() {
        // A frame of 416x208 has 24 rows of bar above and below: the first cell is on the upper one.
        let (bar, left, middle) = (26, 16 * 52, 16 * 52 + 26);
        let mut finder = sees(&[bar, left, middle]);
        let pixels = std::vec![90; 416 * 208 * 3];
        let frame = FrameView::rgb8(416, 208, &pixels).unwrap();
        finder.find(&frame).unwrap();
        let found: std::vec::Vec<_> = finder.found().collect();
        let boxes: std::vec::Vec<BoxXywh> = found.iter().map(|d| d.box_in_image).collect();
        // Centres of cells are at 4 + 8 n; the bar's box ends at 34 - 24 rows of the image.
        assert_eq!(boxes[0], BoxXywh::new(182.0, 0.0, 60.0, 10.0));
        assert_eq!(boxes[1], BoxXywh::new(0.0, 78.0, 34.0, 60.0));
        assert_eq!(boxes[2], BoxXywh::new(182.0, 78.0, 60.0, 60.0));
        for (n, d) in found.iter().enumerate() {
            assert_eq!(d.embedding[n], 1.0);
            assert_eq!(d.embedding.iter().sum::<f32>(), 1.0);
        }
        // On a frame twice as wide as high there is more bar, and what lies on it is nobody.
        let pixels = std::vec![90; 416 * 104 * 3];
        let frame = FrameView::rgb8(416, 104, &pixels).unwrap();
        finder.find(&frame).unwrap();
        assert_eq!(finder.found().len(), 2);
        assert_eq!(finder.found().next().unwrap().embedding[1], 1.0);
    }

    #[test]
    fn what_a_closer_view_shows_whole_is_smaller_on_the_image_and_told_by_it_alone() {
        // The same maps for every view: 60 px of the input in the middle of it.
        let mut finder = sees(&[16 * 52 + 26]);
        let pixels = std::vec![90; 832 * 512 * 3];
        let frame = FrameView::rgb8(832, 512, &pixels).unwrap();
        let views = ViewsConfig {
            horizon: 0.5,
            ..ViewsConfig::with(Closer::Middle)
        };
        let mut widths = |views: &ViewsConfig| -> std::vec::Vec<f32> {
            finder.find_in(&frame, views).unwrap();
            assert!(
                finder
                    .found()
                    .all(|d| d.score == 0.9 && d.embedding[0] == 1.0)
            );
            finder.found().map(|d| d.box_in_image.w_px).collect()
        };
        // They are 120 px of the frame in a look at all of it, and 48 in the middle, in which both lie.
        let closer = widths(&views);
        assert!(
            closer.len() == 1 && (closer[0] - 48.0).abs() < 1e-3,
            "{closer:?}"
        );
        // Nothing of it is left in a look at the whole.
        let whole = widths(&ViewsConfig::with(Closer::Nothing));
        assert!(
            whole.len() == 1 && (whole[0] - 120.0).abs() < 1e-3,
            "{whole:?}"
        );
    }

    #[test]
    fn a_network_that_fails_leaves_nobody() {
        let mut finder = sees(&[26]);
        let pixels = std::vec![90; 416 * 256 * 3];
        let frame = FrameView::rgb8(416, 256, &pixels).unwrap();
        finder.find(&frame).unwrap();
        assert_eq!(finder.found().len(), 1);
        finder.network_mut().0 = Err("no".to_string());
        let said = finder.find(&frame).unwrap_err();
        assert_eq!(
            (said.to_string().as_str(), finder.found().len()),
            ("network: no", 0)
        );
    }
}
