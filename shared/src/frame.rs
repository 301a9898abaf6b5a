//! Camera frames as borrowed bytes, and the time they were taken.
//!
//! What enters: planes straight from a camera or a decoder, with their strides. What leaves: a checked [`FrameView`]
//! that later stages read without bounds surprises. Nothing is copied or converted here.
//!
//! ```
//! use roadhound_shared::frame::{FrameView, PixelFormat};
//!
//! // Two rows of four pixels, each row padded to 12 bytes.
//! let yuyv = [128_u8; 24];
//! let frame = FrameView::packed(PixelFormat::Yuyv, 4, 2, 12, &yuyv)?;
//! assert_eq!((frame.width_px(), frame.height_px()), (4, 2));
//! # Ok::<(), roadhound_shared::frame::FrameError>(())
//! ```

use serde::{Deserialize, Serialize};

/// Longest side of a frame that is accepted, in pixels.
pub const MAX_SIDE_PX: u32 = 1 << 15;

/// How the bytes of a frame are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PixelFormat {
    /// Three bytes a pixel: red, green, blue.
    Rgb8,
    /// Three bytes a pixel: blue, green, red.
    Bgr8,
    /// One byte a pixel; read as three equal channels.
    Grey8,
    /// Four bytes for two neighbouring pixels: Y0 U Y1 V (V4L2 `YUYV`). The width is even.
    Yuyv,
    /// A plane of Y, then a plane of interleaved U V at half the width and height (V4L2 `NV12`). Both sides are even.
    Nv12,
}

/// How Y, U and V become red, green and blue. Ignored by the other formats.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum YuvMatrix {
    /// ITU-R BT.601, Y in 16..=235 and U, V in 16..=240: what USB cameras deliver, and the default.
    #[default]
    Bt601Limited,
    /// ITU-R BT.601 over the full 0..=255, as in JPEG.
    Bt601Full,
    /// ITU-R BT.709, limited range: HD video files.
    Bt709Limited,
}

/// `r = y·(Y - y_offset) + rv·(V - 128)` and so on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct YuvCoefficients {
    pub(crate) y: f32,
    pub(crate) y_offset: f32,
    pub(crate) r_from_v: f32,
    pub(crate) g_from_u: f32,
    pub(crate) g_from_v: f32,
    pub(crate) b_from_u: f32,
}

impl YuvMatrix {
    pub(crate) const fn coefficients(self) -> YuvCoefficients {
        // From the luma weights kr, kb of each standard; chroma spans 224 codes in limited range, 255 in full range.
        let (kr, kb, limited) = match self {
            Self::Bt601Limited => (0.299_f32, 0.114_f32, true),
            Self::Bt601Full => (0.299, 0.114, false),
            Self::Bt709Limited => (0.2126, 0.0722, true),
        };
        let kg = 1.0 - kr - kb;
        let (y, y_offset, chroma) = if limited {
            (255.0 / 219.0, 16.0, 255.0 / 224.0)
        } else {
            (1.0, 0.0, 1.0)
        };
        let r_from_v = 2.0 * (1.0 - kr) * chroma;
        let b_from_u = 2.0 * (1.0 - kb) * chroma;
        YuvCoefficients {
            y,
            y_offset,
            r_from_v,
            g_from_u: -b_from_u * kb / kg,
            g_from_v: -r_from_v * kr / kg,
            b_from_u,
        }
    }

    /// Red, green, blue on a 0 to 255 scale, not clamped: the map is affine, so means may pass through it.
    #[must_use]
    pub fn rgb_from_yuv(self, yuv: [f32; 3]) -> [f32; 3] {
        let k = self.coefficients();
        let luma = k.y * (yuv[0] - k.y_offset);
        let (u, v) = (yuv[1] - 128.0, yuv[2] - 128.0);
        [
            luma + k.r_from_v * v,
            luma + k.g_from_u * u + k.g_from_v * v,
            luma + k.b_from_u * u,
        ]
    }

    /// The inverse of [`Self::rgb_from_yuv`], not clamped and not rounded.
    #[must_use]
    pub fn yuv_from_rgb(self, rgb: [f32; 3]) -> [f32; 3] {
        let k = self.coefficients();
        // With equal U and V of 128, green alone carries what red and blue do not explain.
        let (ru, bu) = (1.0 / k.r_from_v, 1.0 / k.b_from_u);
        // g = luma + gu·(b - luma)/bu + gv·(r - luma)/rv, solved for luma.
        let luma = (rgb[1] - k.g_from_u * bu * rgb[2] - k.g_from_v * ru * rgb[0])
            / (1.0 - k.g_from_u * bu - k.g_from_v * ru);
        [
            luma / k.y + k.y_offset,
            (rgb[2] - luma) * bu + 128.0,
            (rgb[0] - luma) * ru + 128.0,
        ]
    }
}

/// Why bytes could not be viewed as a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A side is zero or longer than [`MAX_SIDE_PX`].
    #[error("frame size {width_px}x{height_px} px is outside 1..={MAX_SIDE_PX}")]
    Size {
        /// Width asked for.
        width_px: u32,
        /// Height asked for.
        height_px: u32,
    },
    /// A format with shared chroma needs even sides.
    #[error("frame size {width_px}x{height_px} px must be even for {format:?}")]
    Odd {
        /// Format asked for.
        format: PixelFormat,
        /// Width asked for.
        width_px: u32,
        /// Height asked for.
        height_px: u32,
    },
    /// The stride is shorter than a row of pixels.
    #[error("stride of {stride_bytes} bytes is shorter than a row of {row_bytes}")]
    Stride {
        /// Stride asked for.
        stride_bytes: usize,
        /// Bytes that one row of pixels takes.
        row_bytes: usize,
    },
    /// A plane holds fewer bytes than its rows need.
    #[error("{plane} plane has {found} bytes, needs {expected}")]
    TooShort {
        /// Which plane.
        plane: &'static str,
        /// Bytes needed.
        expected: usize,
        /// Bytes given.
        found: usize,
    },
    /// The format has several planes and its own constructor.
    #[error("{format:?} is not a packed format")]
    NotPacked {
        /// Format asked for.
        format: PixelFormat,
    },
}

/// One plane: rows of `row_bytes`, `stride_bytes` apart.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plane<'a> {
    data: &'a [u8],
    stride_bytes: usize,
    row_bytes: usize,
}

impl<'a> Plane<'a> {
    fn new(
        plane: &'static str,
        data: &'a [u8],
        stride_bytes: usize,
        row_bytes: usize,
        rows: usize,
    ) -> Result<Self, FrameError> {
        if stride_bytes < row_bytes {
            return Err(FrameError::Stride {
                stride_bytes,
                row_bytes,
            });
        }
        // The last row need not be padded. `rows` is at least one; a product that overflows cannot be satisfied.
        let expected = stride_bytes
            .checked_mul(rows - 1)
            .and_then(|n| n.checked_add(row_bytes))
            .unwrap_or(usize::MAX);
        if data.len() < expected {
            return Err(FrameError::TooShort {
                plane,
                expected,
                found: data.len(),
            });
        }
        Ok(Self {
            data,
            stride_bytes,
            row_bytes,
        })
    }

    /// Bytes of row `y`, without padding. `y` is below the number of rows that `new` checked.
    pub(crate) fn row(&self, y: usize) -> &'a [u8] {
        let start = y * self.stride_bytes;
        &self.data[start..start + self.row_bytes]
    }
}

/// A frame read in place: format, size and borrowed planes, checked once at construction.
///
/// Pixel `(i, j)` covers `[i, i + 1) x [j, j + 1)` of the image plane; its centre is at `+ 0.5`.
#[derive(Clone, Copy, Debug)]
pub struct FrameView<'a> {
    format: PixelFormat,
    matrix: YuvMatrix,
    width_px: u32,
    height_px: u32,
    first: Plane<'a>,
    /// Interleaved U V of NV12.
    chroma: Option<Plane<'a>>,
}

impl<'a> FrameView<'a> {
    /// Views one plane of `Rgb8`, `Bgr8`, `Grey8` or `Yuyv` whose rows start `stride_bytes` apart.
    ///
    /// # Errors
    /// A size out of range, an odd width with YUYV, a stride shorter than a row, or too few bytes.
    pub fn packed(
        format: PixelFormat,
        width_px: u32,
        height_px: u32,
        stride_bytes: usize,
        data: &'a [u8],
    ) -> Result<Self, FrameError> {
        check_size(format, width_px, height_px)?;
        let width = width_px as usize;
        let row_bytes = match format {
            PixelFormat::Rgb8 | PixelFormat::Bgr8 => 3 * width,
            PixelFormat::Grey8 => width,
            PixelFormat::Yuyv => 2 * width,
            PixelFormat::Nv12 => return Err(FrameError::NotPacked { format }),
        };
        let first = Plane::new("pixel", data, stride_bytes, row_bytes, height_px as usize)?;
        Ok(Self {
            format,
            matrix: YuvMatrix::default(),
            width_px,
            height_px,
            first,
            chroma: None,
        })
    }

    /// Views the two planes of an NV12 frame.
    ///
    /// # Errors
    /// A size out of range or odd, a stride shorter than a row, or too few bytes in a plane.
    pub fn nv12(
        width_px: u32,
        height_px: u32,
        luma: &'a [u8],
        luma_stride_bytes: usize,
        chroma: &'a [u8],
        chroma_stride_bytes: usize,
    ) -> Result<Self, FrameError> {
        let format = PixelFormat::Nv12;
        check_size(format, width_px, height_px)?;
        let (width, height) = (width_px as usize, height_px as usize);
        let first = Plane::new("luma", luma, luma_stride_bytes, width, height)?;
        let chroma = Plane::new("chroma", chroma, chroma_stride_bytes, width, height / 2)?;
        Ok(Self {
            format,
            matrix: YuvMatrix::default(),
            width_px,
            height_px,
            first,
            chroma: Some(chroma),
        })
    }

    /// Views red, green, blue bytes without padding between rows.
    ///
    /// # Errors
    /// As [`Self::packed`].
    pub fn rgb8(width_px: u32, height_px: u32, data: &'a [u8]) -> Result<Self, FrameError> {
        Self::packed(
            PixelFormat::Rgb8,
            width_px,
            height_px,
            3 * width_px as usize,
            data,
        )
    }

    /// The same frame, with Y, U and V read by another matrix than BT.601 limited range.
    #[must_use]
    pub fn with_yuv_matrix(self, matrix: YuvMatrix) -> Self {
        Self { matrix, ..self }
    }

    /// Width in pixels, at least 1.
    #[must_use]
    pub fn width_px(&self) -> u32 {
        self.width_px
    }

    /// Height in pixels, at least 1.
    #[must_use]
    pub fn height_px(&self) -> u32 {
        self.height_px
    }

    /// How the bytes are laid out.
    #[must_use]
    pub fn format(&self) -> PixelFormat {
        self.format
    }

    /// The matrix by which Y, U and V are read; of no effect on the other formats.
    #[must_use]
    pub fn yuv_matrix(&self) -> YuvMatrix {
        self.matrix
    }

    pub(crate) fn first_plane(&self) -> Plane<'a> {
        self.first
    }

    /// The interleaved U V plane; only NV12 has one.
    pub(crate) fn chroma_plane(&self) -> Option<Plane<'a>> {
        self.chroma
    }

    /// Channels of one pixel as stored: R G B, or Y U V, or grey three times. `None` outside the frame.
    ///
    /// The chroma of YUYV and NV12 belongs to all the pixels that share it. For tests and tools: the crop reads whole
    /// rows instead.
    #[must_use]
    pub fn native_at(&self, x_px: u32, y_px: u32) -> Option<[u8; 3]> {
        if x_px >= self.width_px || y_px >= self.height_px {
            return None;
        }
        let x = x_px as usize;
        let row = self.first.row(y_px as usize);
        Some(match (self.format, self.chroma) {
            (PixelFormat::Rgb8, _) => [row[3 * x], row[3 * x + 1], row[3 * x + 2]],
            (PixelFormat::Bgr8, _) => [row[3 * x + 2], row[3 * x + 1], row[3 * x]],
            (PixelFormat::Yuyv, _) => [row[2 * x], row[x / 2 * 4 + 1], row[x / 2 * 4 + 3]],
            (PixelFormat::Nv12, Some(chroma)) => {
                let uv = chroma.row(y_px as usize / 2);
                [row[x], uv[x / 2 * 2], uv[x / 2 * 2 + 1]]
            }
            (PixelFormat::Grey8 | PixelFormat::Nv12, _) => [row[x]; 3],
        })
    }

    /// Whether [`Self::native_at`] speaks Y U V rather than R G B.
    pub(crate) fn is_yuv(&self) -> bool {
        matches!(self.format, PixelFormat::Yuyv | PixelFormat::Nv12)
    }

    /// Mean colour over a fixed grid of at most 48 x 27 pixels, 0 to 255: what fills a crop beyond the border.
    ///
    /// The grid depends on the size alone, so equal frames give equal fills whatever their format.
    #[must_use]
    pub fn mean_rgb(&self) -> [f32; 3] {
        const COLUMNS: u32 = 48;
        const ROWS: u32 = 27;
        let (columns, rows) = (COLUMNS.min(self.width_px), ROWS.min(self.height_px));
        let mut sum = [0_u32; 3];
        for j in 0..rows {
            let y_px = (2 * j + 1) * self.height_px / (2 * rows);
            for i in 0..columns {
                let x_px = (2 * i + 1) * self.width_px / (2 * columns);
                for (sum, value) in sum
                    .iter_mut()
                    .zip(self.native_at(x_px, y_px).unwrap_or_default())
                {
                    *sum += u32::from(value);
                }
            }
        }
        let native = sum.map(|sum| sum as f32 / (columns * rows) as f32);
        if self.is_yuv() {
            self.matrix
                .rgb_from_yuv(native)
                .map(|c| c.clamp(0.0, 255.0))
        } else {
            native
        }
    }
}

fn check_size(format: PixelFormat, width_px: u32, height_px: u32) -> Result<(), FrameError> {
    if !(1..=MAX_SIDE_PX).contains(&width_px) || !(1..=MAX_SIDE_PX).contains(&height_px) {
        return Err(FrameError::Size {
            width_px,
            height_px,
        });
    }
    let odd = match format {
        PixelFormat::Yuyv => width_px % 2 == 1,
        PixelFormat::Nv12 => width_px % 2 == 1 || height_px % 2 == 1,
        PixelFormat::Rgb8 | PixelFormat::Bgr8 | PixelFormat::Grey8 => false,
    };
    if odd {
        Err(FrameError::Odd {
            format,
            width_px,
            height_px,
        })
    } else {
        Ok(())
    }
}

/// When a frame was taken: microseconds on a clock of the source's choosing that does not run backwards.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Timestamp(
    /// Microseconds since the source's epoch.
    pub u64,
);

impl Timestamp {
    /// The time stamp of frame `index` of a recording at a constant rate; saturates, and rates that are not positive
    /// count as one frame a second.
    #[must_use]
    pub fn of_frame(index: u64, frames_per_second: f64) -> Self {
        let rate = if frames_per_second > 0.0 {
            frames_per_second
        } else {
            1.0
        };
        // `as` saturates, which is what a time stamp should do.
        Self((index as f64 * 1e6 / rate + 0.5) as u64)
    }

    /// Seconds from `earlier` to this; zero if `earlier` is the later one.
    #[must_use]
    pub fn seconds_since(self, earlier: Self) -> f32 {
        (self.0.saturating_sub(earlier.0) as f64 * 1e-6) as f32
    }

    /// Microseconds from `earlier` to this; zero if `earlier` is the later one.
    #[must_use]
    pub fn micros_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// This, `millis` later; saturates.
    #[must_use]
    pub fn plus_millis(self, millis: u64) -> Self {
        Self(self.0.saturating_add(millis.saturating_mul(1000)))
    }
}
