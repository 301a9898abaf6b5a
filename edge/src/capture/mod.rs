//! Live pictures: what a camera delivers, when it delivers it.
//!
//! Enters: a device, or something that stands in for one. Leaves: owned [`Frame`]s with the time they were taken, in
//! the layout of the camera; nothing is decoded or converted here. Files that are read at leisure are in
//! [`crate::source`]; the difference is time: a live source does not wait for whoever looks.
//!
//! Read in this order:
//! - [`LiveSource`] and [`Opener`]: the seam to every kind of camera; [`replay`] and [`rendered`] stand in for one on a
//!   machine without, [`fault`] makes any of them fail, [`dump`] writes down what one delivers;
//! - [`newest`] and [`pool`]: the newest frame wins, and no frame is allocated twice;
//! - [`negotiate`]: which of a camera's formats to ask for; `v4l2` (feature `camera`) asks, and so does
//!   `webcam` (feature `webcam`), the second backend, for a quick trial on a desktop;
//! - [`reconnect`]: when to open, read, wait and give up, as a state machine without a clock;
//! - [`stage`]: the thread that does what the state machine says.
//!
//! ```
//! use std::time::Duration;
//! use roadhound_edge::capture::{Frame, LiveSource, Opener, Poll, rendered::{Rendered, RenderedConfig}};
//!
//! let config = RenderedConfig { width_px: 64, height_px: 48, lockstep: true, ..RenderedConfig::default() };
//! let mut source = Rendered::new(config).open()?;
//! let mut frame = Frame::default();
//! assert_eq!(source.poll(&mut frame, Duration::from_millis(10))?, Poll::Frame);
//! assert_eq!((frame.width_px, frame.height_px, frame.bytes.len()), (64, 48, 64 * 48 * 3));
//! # Ok::<(), roadhound_edge::capture::CaptureError>(())
//! ```

pub mod dump;
pub mod fault;
pub mod negotiate;
pub mod newest;
pub mod pool;
pub mod reconnect;
pub mod rendered;
pub mod replay;
pub mod stage;
#[cfg(feature = "camera")]
pub mod v4l2;
#[cfg(feature = "webcam")]
pub mod webcam;

use std::time::Duration;

use roadhound_shared::frame::{FrameError, FrameView, PixelFormat, Timestamp};

use crate::source::SourceError;

/// How the bytes of a live frame are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// Rows of pixels, or two planes for NV12.
    Raw(PixelFormat),
    /// One JPEG picture.
    Mjpeg,
}

impl Encoding {
    /// The name used in logs and files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Raw(PixelFormat::Rgb8) => "rgb",
            Self::Raw(PixelFormat::Bgr8) => "bgr",
            Self::Raw(PixelFormat::Grey8) => "grey",
            Self::Raw(PixelFormat::Yuyv) => "yuyv",
            Self::Raw(PixelFormat::Nv12) => "nv12",
            Self::Mjpeg => "mjpeg",
        }
    }
}

/// What a stream delivers, until it says otherwise.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StreamFormat {
    /// Layout of the bytes.
    pub encoding: Encoding,
    /// Width in pixels.
    pub width_px: u32,
    /// Height in pixels.
    pub height_px: u32,
    /// Frames per second, as far as the source says.
    pub fps: f64,
}

impl std::fmt::Display for StreamFormat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{}x{} {} at {:.3} fps",
            self.width_px,
            self.height_px,
            self.encoding.name(),
            self.fps
        )
    }
}

/// One picture of a camera, in a buffer of its own that is used again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Layout of `bytes`.
    pub encoding: Encoding,
    /// Width in pixels.
    pub width_px: u32,
    /// Height in pixels.
    pub height_px: u32,
    /// Bytes from one row to the next; for NV12 of both planes, for MJPEG without meaning.
    pub stride_bytes: usize,
    /// The pixels or the JPEG.
    pub bytes: Vec<u8>,
    /// The camera's own count. A gap means that the driver had no buffer for the frames between.
    pub sequence: u64,
    /// When it was taken, on the machine's monotonic clock: start of exposure where the driver tells it.
    pub captured_at: Timestamp,
}

impl Default for Frame {
    fn default() -> Self {
        Self {
            encoding: Encoding::Raw(PixelFormat::Grey8),
            width_px: 0,
            height_px: 0,
            stride_bytes: 0,
            bytes: Vec::new(),
            sequence: 0,
            captured_at: Timestamp(0),
        }
    }
}

impl Frame {
    /// The frame as the tracker reads it; `None` for MJPEG, which has to be decoded first.
    ///
    /// # Errors
    /// Fewer bytes than the size needs, or a size that the format cannot have.
    pub fn view(&self) -> Result<Option<FrameView<'_>>, FrameError> {
        let (width_px, height_px, stride) = (self.width_px, self.height_px, self.stride_bytes);
        match self.encoding {
            Encoding::Mjpeg => Ok(None),
            Encoding::Raw(PixelFormat::Nv12) => {
                let luma_bytes = stride.saturating_mul(height_px as usize);
                let (luma, chroma) = self
                    .bytes
                    .split_at_checked(luma_bytes)
                    .unwrap_or((&self.bytes, &[]));
                FrameView::nv12(width_px, height_px, luma, stride, chroma, stride).map(Some)
            }
            Encoding::Raw(format) => {
                FrameView::packed(format, width_px, height_px, stride, &self.bytes).map(Some)
            }
        }
    }

    /// Takes over pixels whose rows follow each other without padding.
    pub fn set_tight(
        &mut self,
        format: PixelFormat,
        width_px: u32,
        height_px: u32,
        planes: &[&[u8]],
    ) {
        self.encoding = Encoding::Raw(format);
        (self.width_px, self.height_px) = (width_px, height_px);
        self.stride_bytes = width_px as usize
            * match format {
                PixelFormat::Rgb8 | PixelFormat::Bgr8 => 3,
                PixelFormat::Yuyv => 2,
                PixelFormat::Grey8 | PixelFormat::Nv12 => 1,
            };
        self.bytes.clear();
        for plane in planes {
            self.bytes.extend_from_slice(plane);
        }
    }
}

/// What came of waiting for a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Poll {
    /// The frame is filled.
    Frame,
    /// The camera delivered a buffer that it marked as damaged. Of the frame, only its `sequence` is filled in.
    Corrupt,
    /// Nothing within the time.
    Nothing,
    /// A recording is over. Cameras never say this.
    End,
}

/// Why a camera cannot be opened or read.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The device is not there (any more): unplugged, or its node does not exist.
    #[error("{device}: gone: {reason}")]
    Gone {
        /// The device.
        device: String,
        /// What the system said.
        reason: std::io::Error,
    },
    /// The device or the bus reports a fault.
    #[error("{device}: {reason}")]
    Io {
        /// The device.
        device: String,
        /// What the system said.
        reason: std::io::Error,
    },
    /// The camera delivers something else than was agreed on.
    #[error("{device}: delivers {found}, agreed on {agreed}")]
    FormatChanged {
        /// The device.
        device: String,
        /// What was agreed on.
        agreed: String,
        /// What came.
        found: String,
    },
    /// The camera has no format that can be tracked.
    #[error("{device}: {reason}")]
    NoFormat {
        /// The device.
        device: String,
        /// What it offers.
        reason: String,
    },
    /// A recording cannot be read. Trying again does not help.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A setting that cannot be. Trying again does not help.
    #[error("{0}")]
    Setting(String),
    /// What the camera delivers cannot be written down.
    #[error(transparent)]
    Sink(#[from] crate::sink::SinkError),
}

/// Kinds of failure, to decide on and to count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// Unplugged.
    Gone,
    /// Bus or driver.
    Io,
    /// Another format than agreed on.
    Format,
    /// Too many damaged frames in a row.
    Corrupt,
    /// No frame for too long.
    Stalled,
}

impl Cause {
    /// All of them, in the order of [`Cause::index`].
    pub const ALL: [Self; 5] = [
        Self::Gone,
        Self::Io,
        Self::Format,
        Self::Corrupt,
        Self::Stalled,
    ];

    /// The name used in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gone => "gone",
            Self::Io => "io",
            Self::Format => "format",
            Self::Corrupt => "corrupt",
            Self::Stalled => "stalled",
        }
    }

    /// Its place in [`Cause::ALL`].
    pub fn index(self) -> usize {
        self as usize
    }
}

impl CaptureError {
    /// What to count it as; `None` where trying again does not help.
    pub fn cause(&self) -> Option<Cause> {
        match self {
            Self::Gone { .. } => Some(Cause::Gone),
            Self::Io { .. } => Some(Cause::Io),
            Self::FormatChanged { .. } | Self::NoFormat { .. } => Some(Cause::Format),
            Self::Source(_) | Self::Setting(_) | Self::Sink(_) => None,
        }
    }
}

/// A camera that is open and streaming.
pub trait LiveSource: Send {
    /// Waits at most `wait` for the next frame and fills it in.
    ///
    /// # Errors
    /// The camera has to be closed; see [`CaptureError::cause`] for whether opening it again may help.
    fn poll(&mut self, frame: &mut Frame, wait: Duration) -> Result<Poll, CaptureError>;

    /// What was agreed on.
    fn format(&self) -> StreamFormat;

    /// Whether the source waits for whoever looks, so that no frame is ever dropped: recordings on request.
    fn waits(&self) -> bool {
        false
    }
}

/// Opens a camera, as often as it takes.
pub trait Opener: Send {
    /// Opens the device, agrees on a format and starts the stream.
    ///
    /// # Errors
    /// See [`CaptureError::cause`].
    fn open(&mut self) -> Result<Box<dyn LiveSource>, CaptureError>;

    /// The device, as people call it.
    fn name(&self) -> String;
}
