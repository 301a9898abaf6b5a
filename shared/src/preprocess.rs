//! A window of a frame, resampled to what a network reads. The only implementation: training and edge share it.
//!
//! What enters: a [`FrameView`] in any pixel format and a [`CropWindow`] in image pixels, wholly or partly outside
//! the frame if need be. What leaves: a square crop, as interleaved bytes ([`crop_rgb8`]) or as a normalised planar
//! tensor ([`crop_tensor`]); or one of any [`CropSize`] ([`crop_rgb8_sized`], [`crop_tensor_sized`]), such as a whole
//! frame letterboxed.
//!
//! Only the pixels of the window are read, in their own format, and colour is converted after resampling. Each
//! output pixel is the mean of the image over the area it covers (a box filter, exact to the fraction of a pixel);
//! where the window is enlarged, that box stays one pixel wide, which is bilinear interpolation. The filter is
//! separable: rows are combined first, then columns, in fixed point with 16-bit weights. Chroma that pixels share
//! counts as the chroma of each of them.
//!
//! Beyond the border the frame continues with the colour of [`Border`].
//!
//! ```
//! use roadhound_shared::frame::FrameView;
//! use roadhound_shared::preprocess::{Border, CropScratch, CropWindow, Normalisation, crop_tensor};
//!
//! let pixels = [114_u8; 3 * 64 * 48];
//! let frame = FrameView::rgb8(64, 48, &pixels)?;
//! let window = CropWindow::square(32.0, 24.0, 100.0);
//! let mut tensor = [0.0_f32; 3 * 16 * 16];
//! crop_tensor(
//!     &frame,
//!     &window,
//!     16,
//!     Border::Mean,
//!     &Normalisation::default(),
//!     &mut CropScratch::default(),
//!     &mut tensor,
//! )?;
//! assert!(tensor.iter().all(|value| value.abs() < 1e-3));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::frame::{FrameView, PixelFormat, Plane, YuvMatrix};
use crate::geometry::{AxisAffine, BoxXywh};

/// Longest side of a crop, in pixels.
pub const MAX_CROP_PX: u32 = 4096;

/// Columns and rows of a crop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CropSize {
    /// Columns.
    pub width_px: u32,
    /// Rows.
    pub height_px: u32,
}

impl CropSize {
    /// As many columns as rows.
    #[must_use]
    pub const fn square(side_px: u32) -> Self {
        Self {
            width_px: side_px,
            height_px: side_px,
        }
    }
}

/// The part of an image that becomes a crop: centre and size in image pixels. It may reach beyond the frame.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CropWindow {
    /// Horizontal centre.
    pub cx_px: f32,
    /// Vertical centre.
    pub cy_px: f32,
    /// Width.
    pub w_px: f32,
    /// Height.
    pub h_px: f32,
}

impl CropWindow {
    /// A square window.
    #[must_use]
    pub const fn square(cx_px: f32, cy_px: f32, side_px: f32) -> Self {
        Self {
            cx_px,
            cy_px,
            w_px: side_px,
            h_px: side_px,
        }
    }

    /// The square window about a target: side `context_factor * sqrt((w + p)(h + p))` with `p = (w + h) / 2`
    /// (SiamFC, Bertinetto et al. 2016). Factor 1 is the template, 2 the search crop.
    #[must_use]
    pub fn around(target: BoxXywh, context_factor: f32) -> Self {
        let (cx_px, cy_px) = target.center();
        let padding = (target.w_px + target.h_px) / 2.0;
        let side_px =
            context_factor * libm::sqrtf((target.w_px + padding) * (target.h_px + padding));
        Self::square(cx_px, cy_px, side_px)
    }

    /// The smallest window of the crop's aspect that holds the whole frame in its middle: a letterbox.
    ///
    /// ```
    /// use roadhound_shared::preprocess::{CropSize, CropWindow};
    /// let size = CropSize { width_px: 416, height_px: 256 };
    /// let window = CropWindow::letterbox(1920, 1080, size);
    /// assert_eq!((window.w_px, window.cy_px), (1920.0, 540.0));
    /// assert!((window.h_px - 1920.0 * 256.0 / 416.0).abs() < 1e-2);
    /// ```
    #[must_use]
    pub fn letterbox(frame_width_px: u32, frame_height_px: u32, size: CropSize) -> Self {
        Self::centred(frame_width_px, frame_height_px, size, f32::max)
    }

    /// The largest window of the crop's aspect that lies in the middle of the frame.
    ///
    /// ```
    /// use roadhound_shared::preprocess::{CropSize, CropWindow};
    /// let size = CropSize { width_px: 160, height_px: 96 };
    /// let window = CropWindow::within(1920, 1080, size);
    /// assert_eq!((window.w_px, window.h_px, window.cx_px), (1800.0, 1080.0, 960.0));
    /// ```
    #[must_use]
    pub fn within(frame_width_px: u32, frame_height_px: u32, size: CropSize) -> Self {
        Self::centred(frame_width_px, frame_height_px, size, f32::min)
    }

    /// In the middle of the frame; `of_both` chooses which of the two sides fits exactly.
    fn centred(
        frame_width_px: u32,
        frame_height_px: u32,
        size: CropSize,
        of_both: fn(f32, f32) -> f32,
    ) -> Self {
        let (w_px, h_px) = (frame_width_px as f32, frame_height_px as f32);
        let (width, height) = (size.width_px.max(1) as f32, size.height_px.max(1) as f32);
        let image_from_crop = of_both(w_px / width, h_px / height);
        Self {
            cx_px: w_px / 2.0,
            cy_px: h_px / 2.0,
            w_px: width * image_from_crop,
            h_px: height * image_from_crop,
        }
    }

    /// The box that the window covers.
    #[must_use]
    pub fn to_box(&self) -> BoxXywh {
        BoxXywh::from_center(self.cx_px, self.cy_px, self.w_px, self.h_px)
    }

    /// Maps pixels of a crop of `crop_px` a side to the image.
    #[must_use]
    pub fn image_from_crop(&self, crop_px: u32) -> AxisAffine {
        self.image_from_sized_crop(CropSize::square(crop_px))
    }

    /// Maps pixels of a crop of any size to the image.
    #[must_use]
    pub fn image_from_sized_crop(&self, size: CropSize) -> AxisAffine {
        AxisAffine::new(
            self.w_px / size.width_px as f32,
            self.cx_px - self.w_px / 2.0,
            self.h_px / size.height_px as f32,
            self.cy_px - self.h_px / 2.0,
        )
    }

    /// Maps image pixels to a crop of `crop_px` a side. Finite where both sides of the window are positive.
    #[must_use]
    pub fn crop_from_image(&self, crop_px: u32) -> AxisAffine {
        self.sized_crop_from_image(CropSize::square(crop_px))
    }

    /// Maps image pixels to a crop of any size. Finite where both sides of the window are positive.
    #[must_use]
    pub fn sized_crop_from_image(&self, size: CropSize) -> AxisAffine {
        let (width, height) = (size.width_px as f32, size.height_px as f32);
        let (scale_x, scale_y) = (width / self.w_px, height / self.h_px);
        AxisAffine::new(
            scale_x,
            width / 2.0 - self.cx_px * scale_x,
            scale_y,
            height / 2.0 - self.cy_px * scale_y,
        )
    }
}

/// `tensor = (rgb - mean) * scale`, for channels of 0 to 255 in the order red, green, blue.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Normalisation {
    /// Subtracted first.
    pub mean: [f32; 3],
    /// Multiplied then.
    pub scale: [f32; 3],
}

impl Default for Normalisation {
    /// Mean 114, scale 1/58 on every channel.
    fn default() -> Self {
        Self {
            mean: [114.0; 3],
            scale: [1.0 / 58.0; 3],
        }
    }
}

/// What the image is taken to be beyond its border.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Border {
    /// The mean colour of the frame, from [`FrameView::mean_rgb`].
    #[default]
    Mean,
    /// The nearest pixel of the frame.
    Replicate,
    /// This red, green, blue.
    Constant([u8; 3]),
}

/// Why a crop could not be taken.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum PreprocessError {
    /// A coordinate is not finite, or a side is not positive.
    #[error("crop window {w_px}x{h_px} px about ({cx_px}, {cy_px}) is not finite or has no area")]
    Window {
        /// Horizontal centre asked for.
        cx_px: f32,
        /// Vertical centre asked for.
        cy_px: f32,
        /// Width asked for.
        w_px: f32,
        /// Height asked for.
        h_px: f32,
    },
    /// The crop's side is zero or above [`MAX_CROP_PX`].
    #[error("crop side of {crop_px} px is outside 1..={MAX_CROP_PX}")]
    CropSize {
        /// Side asked for.
        crop_px: u32,
    },
    /// The output buffer does not hold three values a pixel.
    #[error("crop buffer holds {found} values, expected {expected}")]
    OutputLength {
        /// Values needed.
        expected: usize,
        /// Values given.
        found: usize,
    },
}

/// Buffers that crops reuse. Once they have grown to the largest window seen, cropping allocates nothing.
#[derive(Clone, Debug, Default)]
pub struct CropScratch {
    columns: AxisTaps,
    rows: AxisTaps,
    chroma_rows: AxisTaps,
    first: Strip,
    chroma: Strip,
    /// One output row of `crop_rgb8`: red, green, blue from the lowest byte up.
    packed: Vec<u32>,
}

/// Resamples a window to `crop_px x crop_px` interleaved bytes, rounded to nearest.
///
/// # Shapes
/// - `out_hwc`: `[crop_px, crop_px, 3]`, red, green, blue.
///
/// # Errors
/// A window that is not finite or has no area, a crop side out of range, or a buffer of another length.
pub fn crop_rgb8(
    frame: &FrameView<'_>,
    window: &CropWindow,
    crop_px: u32,
    border: Border,
    scratch: &mut CropScratch,
    out_hwc: &mut [u8],
) -> Result<(), PreprocessError> {
    let size = CropSize::square(crop_px);
    crop_rgb8_sized(frame, window, size, border, scratch, out_hwc)
}

/// Resamples a window to interleaved bytes of any size, rounded to nearest. A window of another aspect is stretched.
///
/// # Shapes
/// - `out_hwc`: `[height_px, width_px, 3]`, red, green, blue.
///
/// # Errors
/// Those of [`crop_rgb8`].
pub fn crop_rgb8_sized(
    frame: &FrameView<'_>,
    window: &CropWindow,
    size: CropSize,
    border: Border,
    scratch: &mut CropScratch,
    out_hwc: &mut [u8],
) -> Result<(), PreprocessError> {
    let (side, _) = check(window, size, out_hwc.len())?;
    // At this magnitude a float's last bit is one, so that adding it rounds to nearest; `as` would be slower. No value
    // exceeds 255 by as much as a half.
    let round = |value: f32| (value + 8_388_608.0).to_bits() & 0xff;
    // Packed first, in a loop without three-byte steps, which keep compilers from using vectors.
    let mut packed = core::mem::take(&mut scratch.packed);
    packed.resize(side, 0);
    resample(frame, window, size, border, scratch, |y, row| {
        row.convert(&mut packed, |packed, rgb| {
            *packed = round(rgb[0]) | round(rgb[1]) << 8 | round(rgb[2]) << 16;
        });
        let (pixels, _) = out_hwc[3 * side * y..3 * side * (y + 1)].as_chunks_mut::<3>();
        for (pixel, packed) in pixels.iter_mut().zip(&packed) {
            let [red, green, blue, _] = packed.to_le_bytes();
            *pixel = [red, green, blue];
        }
    });
    scratch.packed = packed;
    Ok(())
}

/// Resamples a window to a normalised planar tensor.
///
/// # Shapes
/// - `out_chw`: `[3, crop_px, crop_px]`, red, green, blue planes.
///
/// # Errors
/// A window that is not finite or has no area, a crop side out of range, or a buffer of another length.
pub fn crop_tensor(
    frame: &FrameView<'_>,
    window: &CropWindow,
    crop_px: u32,
    border: Border,
    normalisation: &Normalisation,
    scratch: &mut CropScratch,
    out_chw: &mut [f32],
) -> Result<(), PreprocessError> {
    let size = CropSize::square(crop_px);
    crop_tensor_sized(frame, window, size, border, normalisation, scratch, out_chw)
}

/// Resamples a window to a normalised planar tensor of any size. A window of another aspect is stretched.
///
/// # Shapes
/// - `out_chw`: `[3, height_px, width_px]`, red, green, blue planes.
///
/// # Errors
/// Those of [`crop_tensor`].
pub fn crop_tensor_sized(
    frame: &FrameView<'_>,
    window: &CropWindow,
    size: CropSize,
    border: Border,
    normalisation: &Normalisation,
    scratch: &mut CropScratch,
    out_chw: &mut [f32],
) -> Result<(), PreprocessError> {
    let (width, height) = check(window, size, out_chw.len())?;
    let Normalisation { mean, scale } = *normalisation;
    let (red, rest) = out_chw.split_at_mut(width * height);
    let (green, blue) = rest.split_at_mut(width * height);
    resample(frame, window, size, border, scratch, |y, row| {
        let span = width * y..width * (y + 1);
        let planes = red[span.clone()]
            .iter_mut()
            .zip(&mut green[span.clone()])
            .zip(&mut blue[span]);
        row.convert(planes, |((red, green), blue), rgb| {
            *red = (rgb[0] - mean[0]) * scale[0];
            *green = (rgb[1] - mean[1]) * scale[1];
            *blue = (rgb[2] - mean[2]) * scale[2];
        });
    });
    Ok(())
}

/// Columns and rows.
fn check(
    window: &CropWindow,
    size: CropSize,
    found: usize,
) -> Result<(usize, usize), PreprocessError> {
    let CropWindow {
        cx_px,
        cy_px,
        w_px,
        h_px,
    } = *window;
    let finite = cx_px.is_finite() && cy_px.is_finite() && w_px.is_finite() && h_px.is_finite();
    if !finite || w_px <= 0.0 || h_px <= 0.0 {
        return Err(PreprocessError::Window {
            cx_px,
            cy_px,
            w_px,
            h_px,
        });
    }
    for crop_px in [size.width_px, size.height_px] {
        if !(1..=MAX_CROP_PX).contains(&crop_px) {
            return Err(PreprocessError::CropSize { crop_px });
        }
    }
    let (width, height) = (size.width_px as usize, size.height_px as usize);
    let expected = 3 * width * height;
    if found != expected {
        return Err(PreprocessError::OutputLength { expected, found });
    }
    Ok((width, height))
}

/// All of a weight: the weights of one output pixel, with what lies outside the frame, sum to this.
const ONE: u32 = 1 << 16;

/// For each output coordinate of one axis: the run of source pixels it covers and their 0.16 fixed-point weights.
#[derive(Clone, Debug, Default)]
struct AxisTaps {
    taps: Vec<Tap>,
    weights: Vec<u32>,
}

#[derive(Clone, Copy, Debug)]
struct Tap {
    /// First source pixel.
    first: usize,
    /// Where its weights start and end in `weights`.
    start: usize,
    end: usize,
    /// Weight of what lies beyond the border.
    outside: u32,
}

impl AxisTaps {
    /// # Arguments
    /// `origin_px` and `extent_px`: the window on this axis; `source_px`: length of the frame on it.
    fn fill(
        &mut self,
        origin_px: f64,
        extent_px: f64,
        side: usize,
        source_px: usize,
        replicate: bool,
    ) {
        self.taps.clear();
        self.weights.clear();
        let scale = extent_px / side as f64;
        let width = scale.max(1.0);
        let limit = source_px as f64;
        for i in 0..side {
            let middle = origin_px + (i as f64 + 0.5) * scale;
            let (low, high) = (middle - width / 2.0, middle + width / 2.0);
            // Share of the box to the left of `edge`, as a 0.16 number. Weights are differences of these, so they sum
            // to `ONE` whatever the rounding.
            let up_to =
                |edge: f64| ((edge.clamp(low, high) - low) / width * f64::from(ONE) + 0.5) as u32;
            let start = self.weights.len();
            let (before, after) = (up_to(0.0), ONE - up_to(limit).min(ONE));
            let first = low.clamp(0.0, limit - 1.0) as usize;
            let mut done = before.min(ONE);
            // At least one pixel, so that replication has a weight to add to.
            let mut next = first;
            loop {
                next += 1;
                let sum = if next >= source_px {
                    ONE - after
                } else {
                    up_to(next as f64).min(ONE)
                };
                self.weights.push(sum.saturating_sub(done));
                done = done.max(sum);
                if next >= source_px || next as f64 >= high {
                    break;
                }
            }
            let end = self.weights.len();
            let mut outside = before.min(ONE) + after;
            if replicate {
                self.weights[start] += before.min(ONE);
                self.weights[end - 1] += after;
                outside = 0;
            }
            self.taps.push(Tap {
                first,
                start,
                end,
                outside,
            });
        }
    }

    /// The same taps over pairs of pixels: what shared chroma weighs.
    fn fill_halved(&mut self, full: &Self) {
        self.taps.clear();
        self.weights.clear();
        for tap in &full.taps {
            let (first, start) = (tap.first / 2, self.weights.len());
            let last = (tap.first + (tap.end - tap.start) - 1) / 2;
            self.weights.resize(start + last - first + 1, 0);
            for (i, weight) in full.weights[tap.start..tap.end].iter().enumerate() {
                self.weights[start + (tap.first + i) / 2 - first] += weight;
            }
            self.taps.push(Tap {
                first,
                start,
                end: self.weights.len(),
                outside: tap.outside,
            });
        }
    }

    fn of(&self, i: usize) -> (Tap, &[u32]) {
        let tap = self.taps[i];
        (tap, &self.weights[tap.start..tap.end])
    }

    /// First source pixel that any output needs, and one past the last.
    fn range(&self) -> (usize, usize) {
        let first = self.taps.iter().map(|tap| tap.first).min().unwrap_or(0);
        let end = self
            .taps
            .iter()
            .map(|tap| tap.first + tap.end - tap.start)
            .max()
            .unwrap_or(0);
        (first, end)
    }

    /// Source pixels of the output that needs most.
    fn most_taps(&self) -> usize {
        self.taps
            .iter()
            .map(|tap| tap.end - tap.start)
            .max()
            .unwrap_or(1)
    }
}

/// How the samples of a plane lie: which of eight neighbouring samples belong to which pixel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    /// Three samples a pixel.
    Triple,
    /// One sample a pixel.
    Single,
    /// Y0 U Y1 V for two pixels.
    Yuyv,
    /// U V for two pixels.
    Chroma,
}

impl Layout {
    /// Samples that `pixels` take, an even number where pixels share samples.
    const fn samples(self, pixels: usize) -> usize {
        match self {
            Self::Triple => 3 * pixels,
            Self::Single | Self::Chroma => pixels,
            Self::Yuyv => 2 * pixels,
        }
    }

    /// A run of samples starts at a multiple of so many pixels.
    const fn alignment(self) -> usize {
        match self {
            Self::Triple | Self::Single => 1,
            Self::Yuyv | Self::Chroma => 2,
        }
    }

    /// Where the second half of a group's lanes is read, in samples from where the first is. Two pixels of three
    /// samples take a half each, whose fourth lane weighs nothing.
    const fn second_half(self) -> usize {
        match self {
            Self::Triple => 3,
            Self::Single | Self::Yuyv | Self::Chroma => 4,
        }
    }

    /// Pixels that one group of [`LANES`] samples holds whole.
    const fn pixels_a_group(self) -> usize {
        match self {
            Self::Triple => 2,
            Self::Single | Self::Chroma => 8,
            Self::Yuyv => 4,
        }
    }

    /// Adds the weight of pixel `j` of a group to the lanes it is made of.
    fn weigh(self, lanes: &mut [u16; LANES], j: usize, weight: u32) {
        let mut add = |lane: usize| {
            // One pixel alone weighs 65536; a lane holds at most 65535. The bias makes up for it.
            lanes[lane] = (u32::from(lanes[lane]) + weight).min(u32::from(u16::MAX)) as u16;
        };
        match self {
            Self::Triple => (4 * j..4 * j + 3).for_each(&mut add),
            Self::Single => add(j),
            Self::Yuyv => [2 * j, j / 2 * 4 + 1, j / 2 * 4 + 3]
                .into_iter()
                .for_each(&mut add),
            Self::Chroma => [j / 2 * 2, j / 2 * 2 + 1].into_iter().for_each(&mut add),
        }
    }
}

/// Samples that are weighed together: one 128-bit register of 16-bit numbers.
const LANES: usize = 8;
/// Columns whose rows are combined together.
const BLOCK: usize = 32;
/// Above so many taps, what 16-bit sums drop with each tap would add up; sums are then kept in 32 bits.
const MAX_SHORT_TAPS: usize = 64;

/// `a * w / 65536`, rounded down; one instruction on x86 and two on ARM.
#[inline(always)]
fn mul_high(a: u16, w: u16) -> u16 {
    ((u32::from(a) * u32::from(w)) >> 16) as u16
}

/// One plane on its way into the crop. All samples are 8.8 fixed point.
#[derive(Clone, Debug, Default)]
struct Strip {
    /// The columns that the window needs, rows combined for the current output row; padded with zeros.
    samples: Vec<u16>,
    /// The bytes of a source row that `samples` stand for.
    bytes: core::ops::Range<usize>,
    /// Whether columns are summed in 32 bits.
    is_exact: bool,
    /// Groups weighed for each output column.
    groups: usize,
    /// For each output column: where its first group starts in `samples`.
    starts: Vec<u32>,
    /// For each output column: `groups` times the weight of each lane.
    weights: Vec<[u16; LANES]>,
    /// For each output column: what the sum starts from, which is the border's share and, of short sums, half of what
    /// they will drop.
    initial: Vec<[u16; 4]>,
    /// For each output column: the sums, lanes folded to four, two to a number as they lie in memory.
    sums: Vec<[u32; 2]>,
}

impl Strip {
    /// Lays out columns for a window. `fill` is the border's colour, in the order of the layout's lanes.
    fn prepare(&mut self, layout: Layout, columns: &AxisTaps, row_bytes: usize, fill: [u16; 4]) {
        let align = |pixel: usize| pixel / layout.alignment() * layout.alignment();
        let (low, high) = columns.range();
        // Whole blocks wherever the row has them, so that few columns are left over.
        let low_byte = layout.samples(align(low)) / BLOCK * BLOCK;
        let high_byte = layout.samples(align(high + layout.alignment() - 1));
        self.bytes = low_byte..high_byte.next_multiple_of(BLOCK).min(row_bytes);
        let most_pixels = columns.most_taps();
        self.is_exact = most_pixels > MAX_SHORT_TAPS;
        let pixels_a_group = layout.pixels_a_group();
        self.groups = (most_pixels + layout.alignment() - 1).div_ceil(pixels_a_group);
        let stride = layout.samples(pixels_a_group);
        self.samples.clear();
        self.samples
            .resize(self.bytes.len() + stride * (self.groups - 1) + LANES, 0);
        let side = columns.taps.len();
        self.starts.clear();
        self.initial.clear();
        self.weights.clear();
        self.weights.resize(side * self.groups, [0; LANES]);
        self.sums.clear();
        self.sums.resize(side, [0; 2]);
        for (x, groups) in self.weights.chunks_exact_mut(self.groups).enumerate() {
            let (tap, weights) = columns.of(x);
            let first = align(tap.first);
            self.starts.push((layout.samples(first) - low_byte) as u32);
            for (i, &weight) in weights.iter().enumerate() {
                let j = tap.first - first + i;
                layout.weigh(&mut groups[j / pixels_a_group], j % pixels_a_group, weight);
            }
            let mut initial = fill.map(|value| share(value, tap.outside));
            if !self.is_exact {
                for (l, initial) in initial.iter_mut().enumerate() {
                    let used = |group: &[u16; LANES]| {
                        [l, l + LANES / 2].map(|l| usize::from(group[l] > 0))
                    };
                    *initial += half(groups.iter().flat_map(used).sum());
                }
            }
            self.initial.push(initial);
        }
    }

    /// Combines source rows into the samples of one output row.
    fn combine_rows(&mut self, plane: &Plane<'_>, (tap, weights): (Tap, &[u32]), fill: &[u16]) {
        let samples = &mut self.samples[..self.bytes.len()];
        let count = weights.iter().filter(|weight| **weight > 0).count();
        if count > MAX_SHORT_TAPS {
            return combine_rows_exactly(samples, &self.bytes, plane, (tap, weights), fill);
        }
        if tap.outside > 0 {
            let border: [u16; 3 * BLOCK] = border_row(fill, self.bytes.start, tap.outside);
            for chunk in samples.chunks_mut(border.len()) {
                for (sample, value) in chunk.iter_mut().zip(border) {
                    *sample = value + half(count);
                }
            }
        } else {
            samples.fill(half(count));
        }
        let mut rows = heapless::Vec::<(&[u8], u16), MAX_SHORT_TAPS>::new();
        for (i, &weight) in weights
            .iter()
            .enumerate()
            .filter(|(_, weight)| **weight > 0)
        {
            let row = &plane.row(tap.first + i)[self.bytes.clone()];
            let full = rows
                .push((row, weight.min(u32::from(u16::MAX)) as u16))
                .is_err();
            debug_assert!(!full, "no more taps than counted");
        }
        // Seen through, this factor would be merged with the shift of `mul_high`, and what is one 16-bit
        // multiplication on x86 would become several of 32 bits.
        let to_fixed = core::hint::black_box(256_u16);
        let weigh = |sample: &mut u16, byte: u8, weight: u16| {
            *sample += mul_high(u16::from(byte).wrapping_mul(to_fixed), weight);
        };
        let (blocks, rest) = samples.as_chunks_mut::<BLOCK>();
        for (b, block) in blocks.iter_mut().enumerate() {
            // A copy, so that sums stay in registers.
            let mut sums = *block;
            for (row, weight) in &rows {
                if let Some(bytes) = row.get(b * BLOCK..).and_then(<[u8]>::first_chunk::<BLOCK>) {
                    for l in 0..BLOCK {
                        weigh(&mut sums[l], bytes[l], *weight);
                    }
                }
            }
            *block = sums;
        }
        let done = self.bytes.len() / BLOCK * BLOCK;
        for (row, weight) in &rows {
            for (sample, &byte) in rest.iter_mut().zip(&row[done..]) {
                weigh(sample, byte, *weight);
            }
        }
    }

    /// Combines the columns of `samples` into `sums`.
    fn combine_columns(&mut self, layout: Layout) {
        if self.is_exact {
            return self.combine_columns_exactly(layout);
        }
        // Known strides and folds make straight code of the inner loop.
        match layout {
            Layout::Triple => self.fold_columns::<6, 3>(),
            Layout::Single | Layout::Yuyv | Layout::Chroma => self.fold_columns::<8, 4>(),
        }
    }

    #[inline(always)]
    fn fold_columns<const STRIDE: usize, const HALF: usize>(&mut self) {
        match self.groups {
            1 => self.fold_columns_of::<STRIDE, HALF>(1),
            2 => self.fold_columns_of::<STRIDE, HALF>(2),
            3 => self.fold_columns_of::<STRIDE, HALF>(3),
            groups => self.fold_columns_of::<STRIDE, HALF>(groups),
        }
    }

    #[inline(always)]
    fn fold_columns_of<const STRIDE: usize, const HALF: usize>(&mut self, groups: usize) {
        let sums: &mut [[u16; 4]] = bytemuck::cast_slice_mut(&mut self.sums);
        let columns = sums.iter_mut().zip(&self.starts).zip(&self.initial);
        for (((sums, &start), initial), weights) in columns.zip(self.weights.chunks_exact(groups)) {
            let Some(samples) = self.samples.get(start as usize..) else {
                continue;
            };
            let mut lanes = [0_u16; LANES];
            for (g, weights) in weights.iter().enumerate() {
                if let Some(samples) = samples
                    .get(g * STRIDE..)
                    .and_then(<[u16]>::first_chunk::<LANES>)
                {
                    for l in 0..LANES / 2 {
                        lanes[l] += mul_high(samples[l], weights[l]);
                    }
                    for l in LANES / 2..LANES {
                        lanes[l] += mul_high(samples[l - LANES / 2 + HALF], weights[l]);
                    }
                }
            }
            // All loaded before any is stored: a store might change `initial`, for all the compiler knows.
            let mut folded = [0; 4];
            for l in 0..4 {
                folded[l] = initial[l] + lanes[l] + lanes[l + LANES / 2];
            }
            #[expect(
                clippy::manual_memcpy,
                reason = "compilers copy the array as one integer, put together by shifts"
            )]
            for l in 0..4 {
                sums[l] = folded[l];
            }
        }
    }

    /// As `fold_columns_of`, with sums of 32 bits.
    fn combine_columns_exactly(&mut self, layout: Layout) {
        let stride = layout.samples(layout.pixels_a_group());
        let sums: &mut [[u16; 4]] = bytemuck::cast_slice_mut(&mut self.sums);
        for (x, sums) in sums.iter_mut().enumerate() {
            let mut lanes = [0_u32; LANES];
            let weights = &self.weights[x * self.groups..(x + 1) * self.groups];
            for (g, weights) in weights.iter().enumerate() {
                let samples = &self.samples[self.starts[x] as usize + g * stride..];
                for (l, lane) in lanes.iter_mut().enumerate() {
                    let half = l / 4 * layout.second_half();
                    *lane += u32::from(samples[half + l % 4]) * u32::from(weights[l]);
                }
            }
            for (l, sum) in sums.iter_mut().enumerate() {
                // Bounded by 255 * 2^24 and some: all weights of a channel sum to 2^16.
                *sum = self.initial[x][l] + round_high(lanes[l] + lanes[l + LANES / 2]);
            }
        }
    }
}

/// As `Strip::combine_rows`, with sums of 32 bits.
fn combine_rows_exactly(
    samples: &mut [u16],
    bytes: &core::ops::Range<usize>,
    plane: &Plane<'_>,
    (tap, weights): (Tap, &[u32]),
    fill: &[u16],
) {
    for (b, block) in samples.chunks_mut(BLOCK).enumerate() {
        let start = bytes.start + b * BLOCK;
        let border: [u16; BLOCK] = border_row(fill, start, tap.outside);
        let mut sums = border.map(|value| u32::from(value) << 8);
        for (i, &weight) in weights.iter().enumerate() {
            let row = &plane.row(tap.first + i)[start..start + block.len()];
            for (sum, &byte) in sums.iter_mut().zip(row) {
                *sum += u32::from(byte) * weight;
            }
        }
        for (sample, sum) in block.iter_mut().zip(sums) {
            *sample = ((sum + 128) >> 8) as u16;
        }
    }
}

/// What `outside` of the border's colour adds to the samples of a row from `start` on; `fill` repeats along the row.
fn border_row<const N: usize>(fill: &[u16], start: usize, outside: u32) -> [u16; N] {
    core::array::from_fn(|i| share(fill[(start + i) % fill.len()], outside))
}

/// `value * weight / ONE`, rounded to nearest.
fn share(value: u16, weight: u32) -> u16 {
    round_high(u32::from(value) * weight)
}

fn round_high(sum: u32) -> u16 {
    ((sum + ONE / 2) >> 16) as u16
}

/// Half of what `count` products rounded down lose together, in units of the last place. A lone product loses a whole
/// one: its weight of 65536 was cut to 65535.
fn half(count: usize) -> u16 {
    count.div_ceil(2) as u16
}

/// One resampled output row, not yet red, green and blue.
struct Row<'a> {
    format: PixelFormat,
    yuv: YuvToRgb,
    first: &'a [[u32; 2]],
    /// Empty unless the format is NV12.
    chroma: &'a [[u32; 2]],
}

impl Row<'_> {
    /// Hands red, green and blue, 0 to 255, of each pixel to `put`.
    #[inline(always)]
    fn convert<T>(&self, out: impl IntoIterator<Item = T>, mut put: impl FnMut(T, [f32; 3])) {
        let rgb = |value: u32| value as i32 as f32 * (1.0 / 256.0);
        let pixels = out.into_iter().zip(self.first);
        // One loop for each format: the choice must not be made for each pixel.
        match self.format {
            PixelFormat::Rgb8 => pixels.for_each(|(out, &[a, b])| {
                put(out, [rgb(even(a)), rgb(odd(a)), rgb(even(b))]);
            }),
            PixelFormat::Bgr8 => pixels.for_each(|(out, &[a, b])| {
                put(out, [rgb(even(b)), rgb(odd(a)), rgb(even(a))]);
            }),
            PixelFormat::Grey8 => pixels.for_each(|(out, &[a, b])| {
                put(out, [rgb(even(a) + odd(a) + even(b) + odd(b)); 3]);
            }),
            PixelFormat::Yuyv => pixels.for_each(|(out, &[a, b])| {
                put(out, self.yuv.convert([even(a) + even(b), odd(a), odd(b)]));
            }),
            PixelFormat::Nv12 => pixels
                .zip(self.chroma)
                .for_each(|((out, &[a, b]), &[c, d])| {
                    let luma = even(a) + odd(a) + even(b) + odd(b);
                    put(
                        out,
                        self.yuv.convert([luma, even(c) + even(d), odd(c) + odd(d)]),
                    );
                }),
        }
    }
}

/// The first of two 16-bit lanes read as one number.
#[inline(always)]
fn even(lanes: u32) -> u32 {
    if cfg!(target_endian = "little") {
        lanes & 0xffff
    } else {
        lanes >> 16
    }
}

/// The second of two 16-bit lanes read as one number.
#[inline(always)]
fn odd(lanes: u32) -> u32 {
    if cfg!(target_endian = "little") {
        lanes >> 16
    } else {
        lanes & 0xffff
    }
}

/// An affine map from 8.8 fixed-point Y U V to red, green, blue, clamped to 0..=255.
#[derive(Clone, Copy)]
struct YuvToRgb {
    from_y: f32,
    from_u: [f32; 3],
    from_v: [f32; 3],
    offset: [f32; 3],
}

impl YuvToRgb {
    fn new(matrix: YuvMatrix) -> Self {
        const UNIT: f32 = 1.0 / 256.0;
        let k = matrix.coefficients();
        let from_u = [0.0, k.g_from_u, k.b_from_u];
        let from_v = [k.r_from_v, k.g_from_v, 0.0];
        Self {
            from_y: k.y * UNIT,
            from_u: from_u.map(|factor| factor * UNIT),
            from_v: from_v.map(|factor| factor * UNIT),
            offset: core::array::from_fn(|c| -k.y * k.y_offset - 128.0 * (from_u[c] + from_v[c])),
        }
    }

    #[inline(always)]
    fn convert(&self, yuv: [u32; 3]) -> [f32; 3] {
        // Signed numbers have a conversion instruction everywhere.
        let [y, u, v] = yuv.map(|value| value as i32 as f32);
        let luma = self.from_y * y;
        let [red, green, blue] = [
            luma + self.from_v[0] * v + self.offset[0],
            luma + self.from_u[1] * u + self.from_v[1] * v + self.offset[1],
            luma + self.from_u[2] * u + self.offset[2],
        ];
        [red, green, blue].map(|value| value.clamp(0.0, 255.0))
    }
}

/// Calls `emit` with the index and the contents of each output row.
fn resample(
    frame: &FrameView<'_>,
    window: &CropWindow,
    size: CropSize,
    border: Border,
    scratch: &mut CropScratch,
    mut emit: impl FnMut(usize, Row<'_>),
) {
    let replicate = border == Border::Replicate;
    let (width, height) = (frame.width_px() as usize, frame.height_px() as usize);
    let origin = |centre: f32, extent: f32| f64::from(centre) - f64::from(extent) / 2.0;
    let CropScratch {
        columns,
        rows,
        chroma_rows,
        first,
        chroma,
        ..
    } = scratch;
    columns.fill(
        origin(window.cx_px, window.w_px),
        f64::from(window.w_px),
        size.width_px as usize,
        width,
        replicate,
    );
    rows.fill(
        origin(window.cy_px, window.h_px),
        f64::from(window.h_px),
        size.height_px as usize,
        height,
        replicate,
    );

    let [c0, c1, c2] = native_fill(frame, border);
    let format = frame.format();
    let layout = match format {
        PixelFormat::Rgb8 | PixelFormat::Bgr8 => Layout::Triple,
        PixelFormat::Grey8 | PixelFormat::Nv12 => Layout::Single,
        PixelFormat::Yuyv => Layout::Yuyv,
    };
    // The border's colour as it repeats along a row, and on the lanes that columns fold to. A channel that several
    // lanes share has it on one of them.
    let (along_row, on_lanes): (&[u16], _) = match format {
        PixelFormat::Rgb8 => (&[c0, c1, c2], [c0, c1, c2, 0]),
        PixelFormat::Bgr8 => (&[c2, c1, c0], [c2, c1, c0, 0]),
        PixelFormat::Grey8 | PixelFormat::Nv12 => (&[c0], [c0, 0, 0, 0]),
        PixelFormat::Yuyv => (&[c0, c1, c0, c2], [c0, c1, 0, c2]),
    };
    let plane = frame.first_plane();
    first.prepare(layout, columns, plane.row(0).len(), on_lanes);
    let chroma_plane = frame.chroma_plane();
    if let Some(plane) = &chroma_plane {
        chroma_rows.fill_halved(rows);
        chroma.prepare(Layout::Chroma, columns, plane.row(0).len(), [c1, c2, 0, 0]);
    }
    let yuv = YuvToRgb::new(frame.yuv_matrix());
    for y in 0..size.height_px as usize {
        first.combine_rows(&plane, rows.of(y), along_row);
        first.combine_columns(layout);
        if let Some(plane) = &chroma_plane {
            chroma.combine_rows(plane, chroma_rows.of(y), &[c1, c2]);
            chroma.combine_columns(Layout::Chroma);
        }
        emit(
            y,
            Row {
                format,
                yuv,
                first: &first.sums,
                chroma: &chroma.sums,
            },
        );
    }
}

/// The colour beyond the border, in the frame's own colour space, as 8.8 fixed point.
fn native_fill(frame: &FrameView<'_>, border: Border) -> [u16; 3] {
    let rgb = match border {
        Border::Mean => frame.mean_rgb(),
        Border::Constant(rgb) => rgb.map(f32::from),
        Border::Replicate => return [0; 3],
    };
    let native = match frame.format() {
        PixelFormat::Rgb8 | PixelFormat::Bgr8 => rgb,
        // A grey image has no colour beyond its border either: BT.601 luma.
        PixelFormat::Grey8 => [0.299 * rgb[0] + 0.587 * rgb[1] + 0.114 * rgb[2]; 3],
        PixelFormat::Yuyv | PixelFormat::Nv12 => frame.yuv_matrix().yuv_from_rgb(rgb),
    };
    native.map(|value| (value.clamp(0.0, 255.0) * 256.0 + 0.5) as u16)
}
