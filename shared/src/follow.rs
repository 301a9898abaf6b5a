//! The one loop: a frame in, a report out.
//!
//! In: frames with their time stamps, an initial box, a [`FollowNetwork`]. Out: one [`Report`] a
//! frame. `roadhound track`, the trainer's `evaluate` and the tests all run this code, so what is
//! scored is what ships. It owns every buffer: once warm it allocates nothing, the network aside.
//!
//! ```
//! use roadhound_shared::contract::{FollowContract, FollowSizes};
//! use roadhound_shared::follow::Follower;
//! use roadhound_shared::frame::{FrameView, Timestamp};
//! use roadhound_shared::geometry::BoxXywh;
//! use roadhound_shared::network::{FollowNetwork, SearchOutputs, TemplateOutputs};
//! use roadhound_shared::tracker::{Phase, TrackerConfig};
//!
//! struct Blind;
//! impl FollowNetwork for Blind {
//!     type Error = core::convert::Infallible;
//!     fn template(&mut self, _: &[f32], _: &mut TemplateOutputs) -> Result<(), Self::Error> { Ok(()) }
//!     fn search(&mut self, _: &[f32], _: &[f32], _: &[f32], _: &mut SearchOutputs) -> Result<(), Self::Error> { Ok(()) }
//! }
//!
//! let contract = FollowContract::new(FollowSizes::default()).expect("the default sizes agree");
//! let mut follower = Follower::new(Blind, contract, TrackerConfig::default()).expect("valid");
//! let pixels = vec![0; 640 * 480 * 3];
//! let frame = FrameView::rgb8(640, 480, &pixels).expect("the size agrees");
//! follower.start(&frame, BoxXywh::new(300.0, 200.0, 64.0, 64.0), Timestamp(0)).expect("a good box");
//! let report = follower.step(&frame, Timestamp(33_000)).expect("nothing fails");
//! assert_eq!(report.phase, Phase::Lost); // it sees nothing and says so
//! ```

mod adapting;
pub mod refind;
mod select;

use alloc::vec;
use alloc::vec::Vec;
use core::mem;

use crate::adapt::{Adapted, Adapter};
use crate::contract::{ContractError, FollowContract};
use crate::frame::{FrameView, Timestamp};
use crate::geometry::BoxXywh;
use crate::network::{FollowNetwork, SearchOutputs, TemplateOutputs};
use crate::preprocess::{Border, CropScratch, CropWindow, PreprocessError, crop_tensor};
use crate::tracker::{Phase, Report, StartError, Tracker, TrackerConfig};

use adapting::Adapting;

/// What can go wrong with one frame. The follower stays usable.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum FollowError<E: core::fmt::Debug + core::fmt::Display> {
    /// The initial box or the image is unusable.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The crop could not be made.
    #[error(transparent)]
    Crop(#[from] PreprocessError),
    /// The frame does not have the size of the first one.
    #[error("frame is {found_width_px}x{found_height_px}, expected {width_px}x{height_px}")]
    FrameSize {
        /// Width of this frame.
        found_width_px: u32,
        /// Height of this frame.
        found_height_px: u32,
        /// Width of the first one.
        width_px: u32,
        /// Height of the first one.
        height_px: u32,
    },
    /// The network changed the length of a buffer it was given.
    #[error("{buffer} has {found} values, expected {expected}")]
    OutputLength {
        /// Which buffer.
        buffer: &'static str,
        /// Its length.
        found: usize,
        /// The length of the contract.
        expected: usize,
    },
    /// The network failed.
    #[error("network: {0}")]
    Network(E),
}

/// A network, a tracker and everything in between.
#[derive(Debug)]
pub struct Follower<N> {
    network: N,
    contract: FollowContract,
    tracker: Tracker,
    frame_px: (u32, u32),
    scratch: CropScratch,
    template_chw: Vec<f32>,
    search_chw: Vec<f32>,
    /// Features of the first template.
    first: Vec<f32>,
    /// Features of the latest trusted template.
    latest: Vec<f32>,
    template_outputs: TemplateOutputs,
    search_outputs: SearchOutputs,
    /// Where normalisation follows the camera.
    adapting: Option<Adapting>,
}

impl<N: FollowNetwork> Follower<N> {
    /// A follower that follows nothing yet. Allocates every buffer.
    ///
    /// # Errors
    /// A contract or a constant of the tracker that cannot be.
    pub fn new(
        network: N,
        contract: FollowContract,
        tracker_config: TrackerConfig,
    ) -> Result<Self, ContractError> {
        Ok(Self {
            tracker: Tracker::new(tracker_config, &contract)?,
            frame_px: (0, 0),
            scratch: CropScratch::default(),
            template_chw: vec![0.0; contract.template_len()],
            search_chw: vec![0.0; contract.search_len()],
            first: vec![0.0; contract.features_len()],
            latest: vec![0.0; contract.features_len()],
            template_outputs: TemplateOutputs::for_contract(&contract),
            search_outputs: SearchOutputs::for_contract(&contract),
            adapting: None,
            network,
            contract,
        })
    }

    /// Lets the network's normalisation follow the camera. What the adapter knows stays when another target is followed:
    /// it is about the camera.
    #[must_use]
    pub fn with_adapter(mut self, adapter: Option<Adapter>) -> Self {
        self.adapting = adapter.map(|adapter| Adapting::new(adapter, &self.contract));
        self
    }

    /// Follows the object in this box of this frame. Runs the template graph once.
    ///
    /// # Errors
    /// A box or frame nobody can follow, or a failure of the network; nothing is followed then.
    pub fn start(
        &mut self,
        frame: &FrameView<'_>,
        initial: BoxXywh,
        captured_at: Timestamp,
    ) -> Result<Report, FollowError<N::Error>> {
        self.tracker.stop();
        self.frame_px = (frame.width_px(), frame.height_px());
        let (width_px, height_px) = self.frame_px;
        let window = self
            .tracker
            .start(initial, width_px, height_px, captured_at)?;
        if let Err(error) = self.run_template(frame, &window) {
            self.tracker.stop();
            return Err(error);
        }
        self.first.copy_from_slice(&self.template_outputs.features);
        self.latest.copy_from_slice(&self.template_outputs.features);
        if let Some(adapting) = &mut self.adapting {
            adapting.started(&self.template_chw);
        }
        self.tracker
            .accept_template(&self.template_outputs.embedding);
        Ok(self.tracker.skip(captured_at))
    }

    /// Looks for the target in the next frame. While nothing is followed, says so.
    ///
    /// # Errors
    /// A frame of another size, or a failure of the network; the frame then counts as dropped.
    pub fn step(
        &mut self,
        frame: &FrameView<'_>,
        captured_at: Timestamp,
    ) -> Result<Report, FollowError<N::Error>> {
        if self.tracker.phase() == Phase::Idle {
            return Ok(self.tracker.skip(captured_at));
        }
        let (width_px, height_px) = self.frame_px;
        if (frame.width_px(), frame.height_px()) != self.frame_px {
            return Err(FollowError::FrameSize {
                found_width_px: frame.width_px(),
                found_height_px: frame.height_px(),
                width_px,
                height_px,
            });
        }
        let Some(mut window) = self.tracker.next_crop(captured_at) else {
            return Ok(self.tracker.skip(captured_at));
        };
        let report = loop {
            self.run_search(frame, &window)?;
            let report = self.tracker.accept(&self.search_outputs, captured_at);
            match self.tracker.next_look(captured_at) {
                Some(another) => window = another,
                None => break report,
            }
        };
        if let Some(window) = self.tracker.template_wanted() {
            self.run_template(frame, &window)?;
            if self
                .tracker
                .accept_template(&self.template_outputs.embedding)
            {
                mem::swap(&mut self.latest, &mut self.template_outputs.features);
                if let Some(adapting) = &mut self.adapting {
                    adapting.renewed(&self.template_chw);
                }
            }
        }
        self.adapt(&report)?;
        Ok(report)
    }

    /// After [`Follower::step`]: looks in the same frame where somebody else thinks that the lost target could be. The
    /// report is then the frame's; `None` where the target is not lost, or a look supports a claim already.
    ///
    /// # Errors
    /// As [`Follower::step`].
    pub fn look_at(
        &mut self,
        frame: &FrameView<'_>,
        offered: BoxXywh,
        captured_at: Timestamp,
    ) -> Result<Option<Report>, FollowError<N::Error>> {
        let Some(window) = self.tracker.look_at_offer(offered) else {
            return Ok(None);
        };
        self.run_search(frame, &window)?;
        Ok(Some(self.tracker.accept(&self.search_outputs, captured_at)))
    }

    /// From the next frame on, the same picture comes at another size: a camera was opened again and agreed on another
    /// one. What is followed is followed on; its motion is forgotten.
    pub fn resize_image(&mut self, width_px: u32, height_px: u32) {
        self.frame_px = (width_px, height_px);
        self.tracker.resize_image(width_px, height_px);
    }

    /// A frame was dropped: the report holds the predicted box.
    pub fn skip(&mut self, captured_at: Timestamp) -> Report {
        self.tracker.skip(captured_at)
    }

    /// Follows nothing any more.
    pub fn stop(&mut self) {
        self.tracker.stop();
    }

    /// The state machine, to look at.
    pub fn tracker(&self) -> &Tracker {
        &self.tracker
    }

    /// The contract in use.
    pub fn contract(&self) -> &FollowContract {
        &self.contract
    }

    /// The network, to ask for its timings.
    pub fn network_mut(&mut self) -> &mut N {
        &mut self.network
    }

    /// What became of normalisation after the last frame that was looked at; `None` where it does not follow the camera.
    pub fn adapted(&self) -> Option<Adapted> {
        let adapting = self.adapting.as_ref();
        adapting.map(|adapting| adapting.adapter.adapted())
    }

    /// What the search graph said about the last frame that was looked at.
    pub fn search_outputs(&self) -> &SearchOutputs {
        &self.search_outputs
    }

    fn run_search(
        &mut self,
        frame: &FrameView<'_>,
        window: &CropWindow,
    ) -> Result<(), FollowError<N::Error>> {
        crop_tensor(
            frame,
            window,
            self.contract.search_px,
            Border::Mean,
            &self.contract.normalisation,
            &mut self.scratch,
            &mut self.search_chw,
        )?;
        self.network
            .search(
                &self.search_chw,
                &self.first,
                &self.latest,
                &mut self.search_outputs,
            )
            .map_err(FollowError::Network)
    }

    fn run_template(
        &mut self,
        frame: &FrameView<'_>,
        window: &CropWindow,
    ) -> Result<(), FollowError<N::Error>> {
        crop_tensor(
            frame,
            window,
            self.contract.template_px,
            Border::Mean,
            &self.contract.normalisation,
            &mut self.scratch,
            &mut self.template_chw,
        )?;
        self.network
            .template(&self.template_chw, &mut self.template_outputs)
            .map_err(FollowError::Network)?;
        self.check_features()
    }

    fn check_features(&mut self) -> Result<(), FollowError<N::Error>> {
        let (found, expected) = (
            self.template_outputs.features.len(),
            self.contract.features_len(),
        );
        if found != expected {
            // Put right, so that the next frame has a chance.
            self.template_outputs.features.resize(expected, 0.0);
            return Err(FollowError::OutputLength {
                buffer: "template features",
                found,
                expected,
            });
        }
        Ok(())
    }
}
