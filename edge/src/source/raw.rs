//! Raw frame dumps: frame after frame without header or padding, as `v4l2-ctl --stream-to` writes them.
//!
//! The format comes from the file's extension or from `--raw`, the size from `--raw`, the rate from `--raw`
//! or `--fps`: `roadhound track dump.yuyv --raw 1280x720@30 --init ...`.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use roadhound_shared::frame::{PixelFormat, Timestamp};

use super::{FrameSource, MAX_PIXELS, Pixels, Reason, SourceError, SourceFrame};

/// Rate of a raw dump whose rate nobody gives.
const DEFAULT_FPS: f64 = 30.0;

/// How the bytes of a dump are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawFormat(PixelFormat);

impl RawFormat {
    /// The format a file name's extension stands for, in lower case and without the dot.
    pub fn from_extension(extension: &str) -> Option<Self> {
        Some(Self(match extension {
            "yuyv" | "yuy2" => PixelFormat::Yuyv,
            "nv12" => PixelFormat::Nv12,
            "rgb" | "rgb24" => PixelFormat::Rgb8,
            "bgr" | "bgr24" => PixelFormat::Bgr8,
            "grey" | "gray" => PixelFormat::Grey8,
            _ => return None,
        }))
    }

    /// Bytes of one frame.
    fn frame_bytes(self, width_px: u32, height_px: u32) -> usize {
        let pixels = width_px as usize * height_px as usize;
        match self.0 {
            PixelFormat::Rgb8 | PixelFormat::Bgr8 => pixels * 3,
            PixelFormat::Yuyv => pixels * 2,
            PixelFormat::Nv12 => pixels * 3 / 2,
            PixelFormat::Grey8 => pixels,
        }
    }
}

/// What `--raw WxH[:FORMAT][@FPS]` says.
///
/// ```
/// use roadhound_edge::source::{RawFormat, RawLayout};
/// let layout: RawLayout = "1280x720:nv12@29.97".parse()?;
/// assert_eq!((layout.width_px, layout.height_px), (1280, 720));
/// assert_eq!(layout.format, RawFormat::from_extension("nv12"));
/// assert_eq!(layout.fps, Some(29.97));
/// # Ok::<(), roadhound_edge::source::RawLayoutError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RawLayout {
    /// Width in pixels.
    pub width_px: u32,
    /// Height in pixels.
    pub height_px: u32,
    /// Pixel format, where given.
    pub format: Option<RawFormat>,
    /// Frames per second, where given.
    pub fps: Option<f64>,
}

/// Why a layout was not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RawLayoutError {
    /// Not of the form `WxH[:FORMAT][@FPS]`.
    #[error("'{0}' is not WxH[:FORMAT][@FPS]")]
    Form(String),
    /// A size of zero, or more pixels than are accepted.
    #[error("{width_px}x{height_px} is no usable frame size")]
    Size {
        /// Width asked for.
        width_px: u32,
        /// Height asked for.
        height_px: u32,
    },
    /// An unknown pixel format.
    #[error("unknown pixel format '{0}': yuyv, nv12, rgb, bgr or grey")]
    Format(String),
    /// A rate that is no positive number.
    #[error("'{0}' is no frame rate")]
    Rate(String),
}

impl FromStr for RawLayout {
    type Err = RawLayoutError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (rest, fps) = match text.split_once('@') {
            Some((rest, fps)) => (rest, Some(fps)),
            None => (text, None),
        };
        let (size, format) = match rest.split_once(':') {
            Some((size, format)) => (size, Some(format)),
            None => (rest, None),
        };
        let form = || RawLayoutError::Form(text.to_owned());
        let (w, h) = size.split_once('x').ok_or_else(form)?;
        let (width_px, height_px): (u32, u32) = (
            w.parse().map_err(|_| form())?,
            h.parse().map_err(|_| form())?,
        );
        let pixels = u64::from(width_px) * u64::from(height_px);
        if pixels == 0 || pixels > MAX_PIXELS {
            return Err(RawLayoutError::Size {
                width_px,
                height_px,
            });
        }
        let format = format
            .map(|name| {
                RawFormat::from_extension(&name.to_ascii_lowercase())
                    .ok_or_else(|| RawLayoutError::Format(name.to_owned()))
            })
            .transpose()?;
        let fps = fps
            .map(|rate| match rate.parse::<f64>() {
                Ok(value) if value.is_finite() && value > 0.0 => Ok(value),
                _ => Err(RawLayoutError::Rate(rate.to_owned())),
            })
            .transpose()?;
        Ok(Self {
            width_px,
            height_px,
            format,
            fps,
        })
    }
}

/// Reads a raw dump frame by frame into one buffer.
pub struct RawSource {
    path: PathBuf,
    file: BufReader<File>,
    format: RawFormat,
    size: (u32, u32),
    fps: f64,
    frames: u64,
    next: u64,
    buffer: Vec<u8>,
}

impl RawSource {
    /// Opens a dump of frames of the given layout.
    ///
    /// # Errors
    /// The file cannot be read, is empty, or the size does not suit the format.
    pub fn open(
        path: &Path,
        layout: RawLayout,
        format: RawFormat,
        fps: Option<f64>,
    ) -> Result<Self, SourceError> {
        let at = |reason: Reason| reason.at(path);
        let file = File::open(path).map_err(|e| at(e.into()))?;
        let bytes = file.metadata().map_err(|e| at(e.into()))?.len();
        let frame_bytes = format.frame_bytes(layout.width_px, layout.height_px);
        if bytes == 0 {
            return Err(at(Reason::CutFrame {
                frame: 0,
                found: 0,
                expected: frame_bytes,
            }));
        }
        let source = Self {
            path: path.to_path_buf(),
            file: BufReader::with_capacity(1 << 16, file),
            format,
            size: (layout.width_px, layout.height_px),
            fps: fps.or(layout.fps).unwrap_or(DEFAULT_FPS),
            frames: bytes / frame_bytes as u64,
            next: 0,
            buffer: vec![0; frame_bytes],
        };
        // Says at once that, say, an odd width does not go with YUYV.
        source.pixels().view().map_err(|e| at(e.into()))?;
        Ok(source)
    }

    fn pixels(&self) -> Pixels<'_> {
        let (width_px, height_px) = self.size;
        match self.format.0 {
            PixelFormat::Nv12 => {
                let (luma, chroma) = self.buffer.split_at(width_px as usize * height_px as usize);
                Pixels::Nv12 {
                    width_px,
                    height_px,
                    luma,
                    chroma,
                }
            }
            format => Pixels::Packed {
                format,
                width_px,
                height_px,
                data: &self.buffer,
            },
        }
    }
}

impl FrameSource for RawSource {
    fn next_frame(&mut self) -> Result<Option<SourceFrame<'_>>, SourceError> {
        let mut found = 0;
        while found < self.buffer.len() {
            match self.file.read(&mut self.buffer[found..]) {
                Ok(0) => break,
                Ok(n) => found += n,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(Reason::from(e).at(&self.path)),
            }
        }
        if found == 0 {
            return Ok(None);
        }
        if found < self.buffer.len() {
            let expected = self.buffer.len();
            return Err(Reason::CutFrame {
                frame: self.next,
                found,
                expected,
            }
            .at(&self.path));
        }
        let captured_at = Timestamp::of_frame(self.next, self.fps);
        self.next += 1;
        Ok(Some(SourceFrame {
            pixels: self.pixels(),
            captured_at,
        }))
    }

    fn frames_expected(&self) -> Option<u64> {
        Some(self.frames)
    }

    fn fps(&self) -> f64 {
        self.fps
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn layout_without_size_is_refused() {
        assert!(matches!(
            "nv12@30".parse::<RawLayout>(),
            Err(RawLayoutError::Form(_))
        ));
    }

    #[test]
    fn layout_of_no_pixels_or_more_than_are_accepted_is_refused() {
        for layout in ["0x720:rgb", "7680x4321:rgb", "4294967295x4294967295:grey"] {
            let size = layout.parse::<RawLayout>();
            assert!(matches!(size, Err(RawLayoutError::Size { .. })), "{layout}");
        }
        assert!("7680x4320:rgb".parse::<RawLayout>().is_ok());
    }

    #[test]
    fn dump_gives_its_frames_in_order_and_then_reports_the_cut_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.yuyv");
        std::fs::write(
            &path,
            [[1u8; 16], [2; 16]]
                .concat()
                .repeat(1)
                .into_iter()
                .chain([3; 5])
                .collect::<Vec<_>>(),
        )
        .unwrap();
        let layout = "4x2@10".parse().unwrap();
        let mut source = RawSource::open(
            &path,
            layout,
            RawFormat::from_extension("yuyv").unwrap(),
            None,
        )
        .unwrap();
        for (value, micros) in [(1u8, 0), (2, 100_000)] {
            let frame = source.next_frame().unwrap().unwrap();
            assert_eq!(frame.captured_at.0, micros);
            let Pixels::Packed { data, .. } = frame.pixels else {
                panic!("YUYV is packed")
            };
            assert!(data.iter().all(|&b| b == value));
        }
        assert!(matches!(
            source.next_frame().unwrap_err().reason,
            Reason::CutFrame {
                frame: 2,
                found: 5,
                expected: 16
            }
        ));
    }

    proptest! {
        #[test]
        fn any_text_is_a_layout_or_an_error(text in ".{0,24}") {
            if let Ok(layout) = text.parse::<RawLayout>() {
                prop_assert!(layout.width_px > 0 && layout.height_px > 0);
            }
        }

        #[test]
        fn layouts_survive_being_written_and_read(w in 1u32..5000, h in 1u32..5000, k in 0usize..5, fps in 1u32..240) {
            let name = ["yuyv", "nv12", "rgb", "bgr", "grey"][k];
            let layout: RawLayout = format!("{w}x{h}:{name}@{fps}").parse().unwrap();
            prop_assert_eq!((layout.width_px, layout.height_px), (w, h));
            prop_assert_eq!(layout.format, RawFormat::from_extension(name));
            prop_assert_eq!(layout.fps, Some(f64::from(fps)));
        }
    }
}
