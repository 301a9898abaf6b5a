//! A window of a frame, resampled to what a network reads. The only implementation: training and edge share it.
//!
//! What enters: a [`FrameView`] in any pixel format and a [`CropWindow`] in image pixels, wholly or partly outside
//! the frame if need be. What leaves: a square crop, as interleaved bytes ([`crop_rgb8`]) or as a normalised planar
//! tensor ([`crop_tensor`]).
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

use crate::frame::{FrameView, PixelFormat, Plane};
use crate::geometry::{AxisAffine, BoxXywh};

/// Longest side of a crop, in pixels.
pub const MAX_CROP_PX: u32 = 4096;

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

    /// The box that the window covers.
    #[must_use]
    pub fn to_box(&self) -> BoxXywh {
        BoxXywh::from_center(self.cx_px, self.cy_px, self.w_px, self.h_px)
    }

    /// Maps pixels of a crop of `crop_px` a side to the image.
    #[must_use]
    pub fn image_from_crop(&self, crop_px: u32) -> AxisAffine {
        let crop_px = crop_px as f32;
        AxisAffine::new(
            self.w_px / crop_px,
            self.cx_px - self.w_px / 2.0,
            self.h_px / crop_px,
            self.cy_px - self.h_px / 2.0,
        )
    }

    /// Maps image pixels to a crop of `crop_px` a side. Finite where both sides of the window are positive.
    #[must_use]
    pub fn crop_from_image(&self, crop_px: u32) -> AxisAffine {
        let crop_px = crop_px as f32;
        let (scale_x, scale_y) = (crop_px / self.w_px, crop_px / self.h_px);
        AxisAffine::new(
            scale_x,
            crop_px / 2.0 - self.cx_px * scale_x,
            scale_y,
            crop_px / 2.0 - self.cy_px * scale_y,
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
    /// The output buffer is not `3 * crop_px * crop_px` long.
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
    /// One output row, three channels one after the other, as 8.8 fixed point.
    channels: Vec<u16>,
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
    let side = check(window, crop_px, out_hwc.len())?;
    let to_rgb = ToRgb::new(frame);
    resample(frame, window, side, border, scratch, |y, channels| {
        let row = &mut out_hwc[3 * side * y..3 * side * (y + 1)];
        for (x, pixel) in row.chunks_exact_mut(3).enumerate() {
            let rgb = to_rgb.convert(channels.map(|channel| f32::from(channel[x])));
            // The clamp of `convert` keeps this inside a byte.
            pixel.copy_from_slice(&rgb.map(|value| (value + 0.5) as u8));
        }
    });
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
    let side = check(window, crop_px, out_chw.len())?;
    let to_rgb = ToRgb::new(frame);
    let Normalisation { mean, scale } = *normalisation;
    let (red, rest) = out_chw.split_at_mut(side * side);
    let (green, blue) = rest.split_at_mut(side * side);
    resample(frame, window, side, border, scratch, |y, channels| {
        let span = side * y..side * (y + 1);
        let planes = [
            &mut red[span.clone()],
            &mut green[span.clone()],
            &mut blue[span],
        ];
        for x in 0..side {
            let rgb = to_rgb.convert(channels.map(|channel| f32::from(channel[x])));
            for c in 0..3 {
                planes[c][x] = (rgb[c] - mean[c]) * scale[c];
            }
        }
    });
    Ok(())
}

fn check(window: &CropWindow, crop_px: u32, found: usize) -> Result<usize, PreprocessError> {
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
    if !(1..=MAX_CROP_PX).contains(&crop_px) {
        return Err(PreprocessError::CropSize { crop_px });
    }
    let side = crop_px as usize;
    let expected = 3 * side * side;
    if found != expected {
        return Err(PreprocessError::OutputLength { expected, found });
    }
    Ok(side)
}

/// An affine map from 8.8 fixed-point channels of the frame's own space to red, green, blue in 0..=255.
#[derive(Clone, Copy)]
struct ToRgb {
    from_first: f32,
    from_second: [f32; 3],
    from_third: [f32; 3],
    offset: [f32; 3],
    rgb_already: bool,
}

impl ToRgb {
    fn new(frame: &FrameView<'_>) -> Self {
        const UNIT: f32 = 1.0 / 256.0;
        let k = frame.yuv_matrix().coefficients();
        let luma = -k.y * k.y_offset;
        Self {
            from_first: k.y * UNIT,
            from_second: [0.0, k.g_from_u * UNIT, k.b_from_u * UNIT],
            from_third: [k.r_from_v * UNIT, k.g_from_v * UNIT, 0.0],
            offset: [
                luma - 128.0 * k.r_from_v,
                luma - 128.0 * (k.g_from_u + k.g_from_v),
                luma - 128.0 * k.b_from_u,
            ],
            rgb_already: !frame.is_yuv(),
        }
    }

    #[inline(always)]
    fn convert(&self, native: [f32; 3]) -> [f32; 3] {
        if self.rgb_already {
            return native.map(|value| value * (1.0 / 256.0));
        }
        let [y, u, v] = native;
        core::array::from_fn(|c| {
            let value = self.from_first * y
                + self.from_second[c] * u
                + self.from_third[c] * v
                + self.offset[c];
            value.clamp(0.0, 255.0)
        })
    }
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
}

/// One plane's columns, with its rows combined for the current output row.
#[derive(Clone, Debug, Default)]
struct Strip {
    sums: Vec<u32>,
}

impl Strip {
    /// Combines rows `tap` of a plane over `bytes`; `fill` repeats along the row as 8.8 fixed point.
    fn combine(
        &mut self,
        plane: &Plane<'_>,
        bytes: core::ops::Range<usize>,
        taps: (Tap, &[u32]),
        fill: &[u16],
    ) {
        let (tap, weights) = taps;
        self.sums.clear();
        let fills = fill.iter().cycle().take(bytes.len());
        self.sums
            .extend(fills.map(|&value| (u32::from(value) * tap.outside) >> 8));
        for (i, &weight) in weights
            .iter()
            .enumerate()
            .filter(|(_, weight)| **weight > 0)
        {
            let row = &plane.row(tap.first + i)[bytes.clone()];
            for (sum, &byte) in self.sums.iter_mut().zip(row) {
                *sum += u32::from(byte) * weight;
            }
        }
        for sum in &mut self.sums {
            *sum = (*sum + 128) >> 8;
        }
    }
}

/// Calls `emit` with each output row: three channels of the frame's own colour space in 8.8 fixed point.
fn resample(
    frame: &FrameView<'_>,
    window: &CropWindow,
    side: usize,
    border: Border,
    scratch: &mut CropScratch,
    mut emit: impl FnMut(usize, [&[u16]; 3]),
) {
    let replicate = border == Border::Replicate;
    let (width, height) = (frame.width_px() as usize, frame.height_px() as usize);
    let axis = |centre: f32, extent: f32| {
        (
            f64::from(centre) - f64::from(extent) / 2.0,
            f64::from(extent),
        )
    };
    let (x_px, w_px) = axis(window.cx_px, window.w_px);
    let (y_px, h_px) = axis(window.cy_px, window.h_px);
    let CropScratch {
        columns,
        rows,
        chroma_rows,
        first,
        chroma,
        channels,
    } = scratch;
    columns.fill(x_px, w_px, side, width, replicate);
    rows.fill(y_px, h_px, side, height, replicate);
    let chroma_plane = frame.chroma_plane();
    if chroma_plane.is_some() {
        chroma_rows.fill_halved(rows);
    }
    let fill = native_fill(frame, border);
    // Whole groups of pixels that share chroma.
    let (low, high) = columns.range();
    let (low, high) = if frame.is_yuv() {
        (low & !1, (high + 1) & !1)
    } else {
        (low, high)
    };
    channels.clear();
    channels.resize(3 * side, 0);
    for y in 0..side {
        let plane = frame.first_plane();
        match frame.format() {
            PixelFormat::Rgb8 => first.combine(&plane, 3 * low..3 * high, rows.of(y), &fill),
            PixelFormat::Bgr8 => {
                first.combine(
                    &plane,
                    3 * low..3 * high,
                    rows.of(y),
                    &[fill[2], fill[1], fill[0]],
                );
            }
            PixelFormat::Grey8 | PixelFormat::Nv12 => {
                first.combine(&plane, low..high, rows.of(y), &fill[..1])
            }
            PixelFormat::Yuyv => {
                first.combine(
                    &plane,
                    2 * low..2 * high,
                    rows.of(y),
                    &[fill[0], fill[1], fill[0], fill[2]],
                );
            }
        }
        if let Some(plane) = &chroma_plane {
            chroma.combine(plane, low..high, chroma_rows.of(y), &fill[1..]);
        }
        for x in 0..side {
            let (tap, weights) = columns.of(x);
            let mut sums = fill.map(|value| u32::from(value) * tap.outside);
            for (i, &weight) in weights.iter().enumerate() {
                let p = tap.first + i - low;
                let pixel = match frame.format() {
                    PixelFormat::Rgb8 => [
                        first.sums[3 * p],
                        first.sums[3 * p + 1],
                        first.sums[3 * p + 2],
                    ],
                    PixelFormat::Bgr8 => [
                        first.sums[3 * p + 2],
                        first.sums[3 * p + 1],
                        first.sums[3 * p],
                    ],
                    PixelFormat::Grey8 => [first.sums[p]; 3],
                    PixelFormat::Yuyv => [
                        first.sums[2 * p],
                        first.sums[p / 2 * 4 + 1],
                        first.sums[p / 2 * 4 + 3],
                    ],
                    PixelFormat::Nv12 => [
                        first.sums[p],
                        chroma.sums[p / 2 * 2],
                        chroma.sums[p / 2 * 2 + 1],
                    ],
                };
                for (sum, value) in sums.iter_mut().zip(pixel) {
                    *sum += value * weight;
                }
            }
            for (c, sum) in sums.into_iter().enumerate() {
                channels[c * side + x] = ((sum + (ONE / 2)) >> 16) as u16;
            }
        }
        let (c0, rest) = channels.split_at(side);
        let (c1, c2) = rest.split_at(side);
        emit(y, [c0, c1, c2]);
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
