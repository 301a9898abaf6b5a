//! The loop of watch mode: a frame in, reports about everybody out.
//!
//! In: frames with their time stamps, a [`ProposeNetwork`]. Out: the [`Report`]s of [`Watch`]. On the frames that the
//! [`Cadence`] names it finds road users; over the others motion carries them. It owns every buffer: once warm it allocates
//! nothing, the network aside.
//!
//! ```
//! use roadhound_shared::frame::{FrameView, Timestamp};
//! use roadhound_shared::propose::{
//!     Closer, ProposeContract, ProposeDecoder, ProposeNetwork, ProposeOutputs, ProposeSizes, RoadUser,
//!     ViewsConfig,
//! };
//! use roadhound_shared::watch::{WatchConfig, Watcher};
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
//! let network = Middle(ProposeDecoder::new(&contract));
//! // What it sees in a closer view too would be somebody smaller.
//! let views = ViewsConfig::with(Closer::Nothing);
//! let config = WatchConfig { views, ..WatchConfig::default() };
//! let mut watcher = Watcher::new(network, contract, config, 640, 360)?;
//! let pixels = vec![0; 640 * 360 * 3];
//! let frame = FrameView::rgb8(640, 360, &pixels)?;
//! for n in 0..10 {
//!     watcher.step(&frame, Timestamp::of_frame(n, 30.0))?;
//! }
//! assert_eq!((watcher.reports().len(), watcher.reports()[0].kind), (1, RoadUser::Car));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use core::fmt::{Debug, Display};

use super::{Cadence, Detection, Report, Watch, WatchConfig, WatchError};
use crate::contract::ContractError;
use crate::frame::{FrameView, Timestamp};
use crate::propose::decode::MAX_PROPOSALS;
use crate::propose::views::ViewsConfig;
use crate::propose::{FindError, Finder, ProposeContract, ProposeNetwork};

/// What can go wrong with one frame. The watcher stays usable.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum WatcherError<E: Debug + Display> {
    /// Nobody could be looked for.
    #[error(transparent)]
    Find(#[from] FindError<E>),
    /// What was found does not fit the configuration.
    #[error(transparent)]
    Watch(#[from] WatchError),
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
}

/// A network, an association and everything in between.
#[derive(Debug)]
pub struct Watcher<N> {
    finder: Finder<N>,
    watch: Watch,
    cadence: Cadence,
    views: ViewsConfig,
    looked: bool,
    frame_px: (u32, u32),
}

impl<N: ProposeNetwork> Watcher<N> {
    /// Nobody yet, in pictures of this size. All memory is taken here; that for embeddings by what the network gives,
    /// whatever `room.embedding` says.
    ///
    /// # Errors
    /// A contract or a constant that cannot be.
    pub fn new(
        network: N,
        contract: ProposeContract,
        config: WatchConfig,
        width_px: u32,
        height_px: u32,
    ) -> Result<Self, ContractError> {
        Self::with_finder(Finder::new(network, contract)?, config, width_px, height_px)
    }

    /// The same with a finder that is there already. Scores that the configuration does not give are those of its model, and
    /// so is the distance between embeddings.
    ///
    /// # Errors
    /// A constant that cannot be.
    pub fn with_finder(
        finder: Finder<N>,
        mut config: WatchConfig,
        width_px: u32,
        height_px: u32,
    ) -> Result<Self, ContractError> {
        config.room.embedding = finder.contract().embedding_size as u32;
        let model = finder.contract().score.unwrap_or_default();
        config.score = config.score.over(model).into();
        let metric = finder.contract().looks.clone();
        Ok(Self {
            finder,
            watch: Watch::by_looks(config, metric, width_px, height_px)?,
            cadence: Cadence::new(config.cadence),
            views: config.views,
            looked: false,
            frame_px: (width_px, height_px),
        })
    }

    /// Takes a frame.
    ///
    /// # Errors
    /// A frame of another size, or a failure of the network; nobody has moved then.
    pub fn step(
        &mut self,
        frame: &FrameView<'_>,
        captured_at: Timestamp,
    ) -> Result<&[Report], WatcherError<N::Error>> {
        let (width_px, height_px) = self.frame_px;
        if (frame.width_px(), frame.height_px()) != self.frame_px {
            return Err(WatcherError::FrameSize {
                found_width_px: frame.width_px(),
                found_height_px: frame.height_px(),
                width_px,
                height_px,
            });
        }
        self.looked = self.cadence.is_due(captured_at);
        if !self.looked {
            return Ok(self.watch.coast(captured_at, None));
        }
        self.finder.find_in(frame, &self.views)?;
        let found: heapless::Vec<Detection<'_>, MAX_PROPOSALS> = self.finder.found().collect();
        Ok(self.watch.look(captured_at, None, &found)?)
    }

    /// Whether the network looked at the last frame.
    pub fn looked(&self) -> bool {
        self.looked
    }

    /// The last frame took so long, for the budget of the cadence.
    pub fn took(&mut self, millis: f32) {
        if self.looked {
            self.cadence.took(millis);
        }
    }

    /// How often the network looks.
    pub fn cadence(&self) -> &Cadence {
        &self.cadence
    }

    /// What was said last.
    pub fn reports(&self) -> &[Report] {
        self.watch.reports()
    }

    /// What found them, to ask what else it saw on the last frame that it looked at.
    pub fn finder(&self) -> &Finder<N> {
        &self.finder
    }

    /// What found them, for something else.
    pub fn into_finder(self) -> Finder<N> {
        self.finder
    }
}
