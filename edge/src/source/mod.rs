//! Where frames come from.
//!
//! Enters: a path. Leaves: frames, one at a time, borrowed from buffers that the source uses again for the next.
//! Decoded pixels stay in the format they were stored in; nothing is converted as a whole.
//!
//! ```no_run
//! use roadhound_edge::source::{open, Options};
//!
//! let mut source = open("drive.mp4".as_ref(), &Options::default())?;
//! while let Some(frame) = source.next_frame()? {
//!     println!("{} s: {} px wide", frame.captured_at.0 as f64 / 1e6, frame.pixels.width_px());
//! }
//! # Ok::<(), roadhound_edge::source::SourceError>(())
//! ```

mod avi;
mod huffman;
mod images;
mod jpeg;
mod mp4;
mod pixels;
mod png;
mod raw;

use std::path::{Path, PathBuf};

pub use roadhound_host::MAX_PIXELS;
use roadhound_shared::frame::{FrameError, Timestamp};

pub use avi::AviSource;
pub use images::{ImageFolder, PICTURE_ENDINGS};
pub use mp4::Mp4Source;
pub use pixels::Pixels;
pub use raw::{RawFormat, RawLayout, RawLayoutError, RawSource};

/// One frame of a source.
#[derive(Clone, Copy, Debug)]
pub struct SourceFrame<'a> {
    /// The picture.
    pub pixels: Pixels<'a>,
    /// When it was taken, counted from the first frame.
    pub captured_at: Timestamp,
}

/// Gives frames in the order in which they were taken.
pub trait FrameSource {
    /// The next frame, or `None` behind the last. All frames of one source have the same size.
    ///
    /// # Errors
    /// What is wrong with the file, and where. The frames before it were good; those behind it are not offered.
    fn next_frame(&mut self) -> Result<Option<SourceFrame<'_>>, SourceError>;

    /// The file that the last frame came from, where every frame has one of its own.
    fn frame_file(&self) -> Option<&Path> {
        None
    }

    /// How many frames there will be, where the source knows.
    fn frames_expected(&self) -> Option<u64>;

    /// Frames per second, as far as the source says.
    fn fps(&self) -> f64;
}

/// What the command line may say about a source.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Rate of a folder of images or of a raw dump, in frames per second.
    pub fps: Option<f64>,
    /// Size and format of a raw dump.
    pub raw: Option<RawLayout>,
}

/// Why a source cannot be read, with the file that is at fault.
#[derive(Debug, thiserror::Error)]
#[error("{}: {reason}", path.display())]
pub struct SourceError {
    /// The file or folder.
    pub path: PathBuf,
    /// What is wrong with it.
    pub reason: Reason,
}

/// What is wrong with a source.
#[derive(Debug, thiserror::Error)]
pub enum Reason {
    /// The operating system said no.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// A folder without pictures.
    #[error("no .jpg, .jpeg or .png files in this folder")]
    NoImages,
    /// Neither a folder nor a file of a kind that is known here.
    #[error("not a folder of images, an MP4, an AVI or a raw dump (.yuyv .nv12 .rgb .bgr .grey)")]
    UnknownKind,
    /// A raw dump whose size was not given.
    #[error("a raw dump needs its frame size: --raw WxH[:FORMAT][@FPS]")]
    RawSizeMissing,
    /// A raw dump whose format neither its name nor the command line gives.
    #[error("cannot tell the pixel format: --raw WxH:FORMAT with yuyv, nv12, rgb, bgr or grey")]
    RawFormatMissing,
    /// The pixels do not make a frame.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The last frame of a raw dump is cut off.
    #[error("truncated: frame {frame} has {found} of {expected} bytes")]
    CutFrame {
        /// Index of the frame, from 0.
        frame: u64,
        /// Bytes that are there.
        found: usize,
        /// Bytes that a frame takes.
        expected: usize,
    },
    /// A JPEG that does not decode.
    #[error("broken JPEG: {0}")]
    Jpeg(String),
    /// A PNG that does not decode.
    #[error("broken PNG: {0}")]
    Png(String),
    /// A container that does not hold together.
    #[error("broken {container}: {what}")]
    Container {
        /// MP4 or AVI.
        container: &'static str,
        /// What does not fit.
        what: String,
    },
    /// A file that is fine but holds nothing this program can decode.
    #[error("{0}")]
    Unsupported(String),
    /// A frame inside a video that does not decode.
    #[error("frame {frame}: {what}")]
    VideoFrame {
        /// Index of the frame in the file, from 0.
        frame: u64,
        /// The decoder's words.
        what: String,
    },
    /// The size changed on the way.
    #[error("frame {frame} is {found:?} px, the frames before it {expected:?}")]
    SizeChanged {
        /// Index of the frame, from 0.
        frame: u64,
        /// Width and height before.
        expected: (u32, u32),
        /// Width and height now.
        found: (u32, u32),
    },
}

impl Reason {
    fn at(self, path: &Path) -> SourceError {
        SourceError {
            path: path.to_path_buf(),
            reason: self,
        }
    }
}

/// Opens whatever `path` is: a folder of images, an MP4, an AVI, or a raw dump.
///
/// # Errors
/// The path is missing, of no known kind, or broken from its first bytes on.
pub fn open(path: &Path, options: &Options) -> Result<Box<dyn FrameSource + Send>, SourceError> {
    let metadata = std::fs::metadata(path).map_err(|e| Reason::from(e).at(path))?;
    if metadata.is_dir() {
        return Ok(Box::new(ImageFolder::open(path, options.fps)?));
    }
    let extension = path
        .extension()
        .map(|e| e.to_string_lossy().to_ascii_lowercase())
        .unwrap_or_default();
    let raw = RawFormat::from_extension(&extension);
    if options.raw.is_some() || raw.is_some() {
        let layout = options.raw.ok_or_else(|| Reason::RawSizeMissing.at(path))?;
        let format = layout
            .format
            .or(raw)
            .ok_or_else(|| Reason::RawFormatMissing.at(path))?;
        return Ok(Box::new(RawSource::open(
            path,
            layout,
            format,
            options.fps,
        )?));
    }
    // By content, not by name: a card reader's FILE0001.MOV is an MP4 too.
    let mut head = [0u8; 12];
    let found = read_head(path, &mut head).map_err(|e| Reason::from(e).at(path))?;
    match &head[..found] {
        [b'R', b'I', b'F', b'F', _, _, _, _, b'A', b'V', b'I', b' '] => {
            Ok(Box::new(AviSource::open(path)?))
        }
        [_, _, _, _, b'f', b't', b'y', b'p', ..] => Ok(Box::new(Mp4Source::open(path)?)),
        _ if matches!(extension.as_str(), "mp4" | "mov" | "m4v") => {
            Ok(Box::new(Mp4Source::open(path)?))
        }
        _ if extension == "avi" => Ok(Box::new(AviSource::open(path)?)),
        _ => Err(Reason::UnknownKind.at(path)),
    }
}

/// Decodes one JPEG into `pixels`, which is used again: grey stays grey, all else becomes RGB.
///
/// # Errors
/// Not a whole JPEG, or a larger one than is decoded.
pub fn decode_jpeg<'a>(bytes: &[u8], pixels: &'a mut Vec<u8>) -> Result<Pixels<'a>, Reason> {
    let decoded = jpeg::decode(bytes, pixels)?;
    Ok(Pixels::Packed {
        format: decoded.format,
        width_px: decoded.width_px,
        height_px: decoded.height_px,
        data: pixels,
    })
}

fn read_head(path: &Path, head: &mut [u8]) -> std::io::Result<usize> {
    use std::io::Read;
    let mut file = std::fs::File::open(path)?;
    let mut found = 0;
    while found < head.len() {
        match file.read(&mut head[found..])? {
            0 => break,
            n => found += n,
        }
    }
    Ok(found)
}

/// Holds a source to one frame size.
#[derive(Default)]
struct SizeGuard(Option<(u32, u32)>);

impl SizeGuard {
    fn check(&mut self, frame: u64, found: (u32, u32)) -> Result<(), Reason> {
        let expected = *self.0.get_or_insert(found);
        if expected == found {
            Ok(())
        } else {
            Err(Reason::SizeChanged {
                frame,
                expected,
                found,
            })
        }
    }
}
