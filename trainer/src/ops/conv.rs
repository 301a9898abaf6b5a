//! Two-dimensional convolution of NHWC images, with hand-written gradients.
//!
//! In come images `[N, H, W, Ci]` and weights `[kh, kw, Ci, Co]`; out go `[N, Ho, Wo, Co]`. Nothing is expanded
//! (no im2col): an image is copied once with its zero border, and the kernels walk it in place. Images are spread
//! over rayon's threads; weight gradients are summed per fixed group of images and then in group order, so results
//! are the same bytes for any number of threads.
//!
//! ```
//! use candle_core::{Device, Tensor};
//! use roadhound_trainer::ops::{Precision, conv2d};
//! let images = Tensor::ones((1, 4, 4, 3), candle_core::DType::F32, &Device::Cpu)?;
//! let weights = Tensor::ones((3, 3, 3, 8), candle_core::DType::F32, &Device::Cpu)?;
//! let features = conv2d(&images, &weights, 2, 1, Precision::F32)?;
//! assert_eq!(features.dims(), [1, 2, 2, 8]);
//! assert_eq!(features.flatten_all()?.to_vec1::<f32>()?[0], 12.0); // a corner sees 2 x 2 pixels of 3 channels
//! # Ok::<(), candle_core::Error>(())
//! ```

use std::mem::MaybeUninit;

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use super::kernels::{self, Gemm, LANES, PANEL, Scratch, Word};
use super::{Precision, contiguous_f32, with_f32};

/// Words that a block of the weight gradient's operands may take, so that they stay in the second-level cache.
const BLOCK_WORDS: usize = 64 * 1024;

/// The sizes of one convolution.
#[derive(Clone, Copy, Debug)]
pub(super) struct Geometry {
    pub images: usize,
    pub height: usize,
    pub width: usize,
    pub inputs: usize,
    pub kernel_h: usize,
    pub kernel_w: usize,
    pub outputs: usize,
    pub stride: usize,
    pub padding: usize,
    pub out_h: usize,
    pub out_w: usize,
}

impl Geometry {
    /// Checks that the shapes fit together.
    pub(super) fn new(x: &[usize], w: &[usize], stride: usize, padding: usize) -> Result<Self> {
        let (&[images, height, width, inputs], &[kernel_h, kernel_w, w_inputs, outputs]) = (x, w)
        else {
            bail!(
                "conv2d: expected images [N, H, W, Ci] and weights [kh, kw, Ci, Co], found {x:?} and {w:?}"
            )
        };
        if inputs != w_inputs {
            bail!("conv2d: images {x:?} have {inputs} channels, weights {w:?} expect {w_inputs}")
        }
        if stride == 0 || x.contains(&0) || w.contains(&0) {
            bail!("conv2d: stride {stride}, images {x:?} and weights {w:?} must not contain zero")
        }
        if height + 2 * padding < kernel_h || width + 2 * padding < kernel_w {
            bail!("conv2d: images {x:?} with padding {padding} are smaller than the kernel {w:?}")
        }
        let out = |size: usize, kernel: usize| (size + 2 * padding - kernel) / stride + 1;
        let (out_h, out_w) = (out(height, kernel_h), out(width, kernel_w));
        Ok(Self {
            images,
            height,
            width,
            inputs,
            kernel_h,
            kernel_w,
            outputs,
            stride,
            padding,
            out_h,
            out_w,
        })
    }

    pub(super) fn image_len(&self) -> usize {
        self.height * self.width * self.inputs
    }

    pub(super) fn out_len(&self) -> usize {
        self.out_h * self.out_w * self.outputs
    }

    pub(super) fn weight_len(&self) -> usize {
        self.kernel_h * self.kernel_w * self.inputs * self.outputs
    }

    pub(super) fn out_shape(&self) -> Shape {
        (self.images, self.out_h, self.out_w, self.outputs).into()
    }

    /// A 1x1 convolution of every pixel: a plain matrix product.
    pub(super) fn is_pointwise(&self) -> bool {
        self.kernel_h == 1 && self.kernel_w == 1 && self.stride == 1 && self.padding == 0
    }

    /// Images whose weight gradients are summed into one partial result. A function of the shape alone: the
    /// order of the sums must not depend on the number of threads.
    fn images_per_group(&self) -> usize {
        self.images.div_ceil(16).max(2)
    }
}

/// The word type in use: bf16 where it is asked for and the processor has it.
fn word(precision: Precision) -> Word {
    match precision {
        Precision::Bf16 if kernels::has_bf16() => Word::Bf16Pair,
        Precision::Bf16 | Precision::F32 | Precision::Tf32 => Word::F32,
    }
}

/// Rounds to bf16, to nearest even, and returns its bits.
#[inline(always)]
fn bf16_bits(value: f32) -> u32 {
    let bits = value.to_bits();
    let rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    // Rounding must not turn a NaN into an infinity.
    if value.is_nan() {
        (bits >> 16) | 0x40
    } else {
        rounded
    }
}

#[inline(always)]
fn bf16_pair(first: f32, second: f32) -> u32 {
    bf16_bits(first) | (bf16_bits(second) << 16)
}

/// Words of one pixel of `channels` channels.
fn pixel_words(word: Word, channels: usize) -> usize {
    match word {
        Word::F32 => channels,
        Word::Bf16Pair => channels.div_ceil(2),
    }
}

kernels::multiversion! {
    /// Turns whole pixels into words, channel by channel.
    fn pack_pixels(word: Word, pixels: &[f32], channels: usize, out: &mut [u32]) {
        match word {
            Word::F32 => for (out, value) in out.iter_mut().zip(pixels) { *out = value.to_bits(); },
            // Neighbouring channels are neighbours in memory: nothing but rounding is left to do.
            Word::Bf16Pair if channels.is_multiple_of(2) => kernels::round_pairs(pixels, out),
            Word::Bf16Pair => {
                let words = channels.div_ceil(2);
                for (out, pixel) in out.chunks_exact_mut(words).zip(pixels.chunks_exact(channels)) {
                    for (i, out) in out.iter_mut().enumerate() {
                        *out = bf16_pair(pixel[2 * i], pixel.get(2 * i + 1).copied().unwrap_or(0.));
                    }
                }
            }
        }
    }
}

/// An image with a zero border, as words `[top + height + bottom, left + width + right, channels]`.
struct Padded {
    words: Scratch,
    row_words: usize,
    pixel_words: usize,
}

#[derive(Clone, Copy)]
struct Border {
    before: usize,
    after_h: usize,
    after_w: usize,
}

impl Padded {
    fn new(
        word: Word,
        image: &[f32],
        [height, width, channels]: [usize; 3],
        border: Border,
    ) -> Self {
        let pixel_words = pixel_words(word, channels);
        let row_words = (border.before + width + border.after_w) * pixel_words;
        let rows = border.before + height + border.after_h;
        let mut words = Scratch::take(rows * row_words);
        words[..border.before * row_words].fill(0);
        words[(border.before + height) * row_words..].fill(0);
        for y in 0..height {
            let row = &mut words[(border.before + y) * row_words..][..row_words];
            let (left, rest) = row.split_at_mut(border.before * pixel_words);
            let (middle, right) = rest.split_at_mut(width * pixel_words);
            left.fill(0);
            right.fill(0);
            pack_pixels(
                word,
                &image[y * width * channels..][..width * channels],
                channels,
                middle,
            );
        }
        Self {
            words,
            row_words,
            pixel_words,
        }
    }
}

/// Weights as panels for the kernels.
///
/// `taps` lists the kernel positions in the order of the walk; each brings `from` channels to `to` channels, and
/// `value(tap, from, to)` reads one weight.
fn pack_weights(
    word: Word,
    taps: &[usize],
    from: usize,
    to: usize,
    value: impl Fn(usize, usize, usize) -> f32,
) -> Scratch {
    let tap_words = pixel_words(word, from);
    let depth = taps.len() * tap_words;
    let mut panels = Scratch::take(Gemm::panel_words(depth, to));
    for column in (0..to).step_by(PANEL) {
        let width = (to - column).min(PANEL).div_ceil(LANES) * LANES;
        let panel = &mut panels[column * depth..][..depth * width];
        for (row, out) in panel.chunks_exact_mut(width).enumerate() {
            let (tap, k) = (taps[row / tap_words], row % tap_words);
            for (n, out) in out.iter_mut().enumerate() {
                let n = column + n;
                *out = match word {
                    _ if n >= to => 0,
                    Word::F32 => value(tap, k, n).to_bits(),
                    Word::Bf16Pair => {
                        let second = if 2 * k + 1 < from {
                            value(tap, 2 * k + 1, n)
                        } else {
                            0.
                        };
                        bf16_pair(value(tap, 2 * k, n), second)
                    }
                };
            }
        }
    }
    panels
}

/// The forward pass over all images. `inspect` sees each image's result while it is in the cache, and what it
/// returns comes back in the order of the images.
#[expect(unsafe_code, reason = "results are not zeroed before they are written")]
pub(super) fn forward<T: Send>(
    g: &Geometry,
    precision: Precision,
    x: &[f32],
    w: &[f32],
    inspect: impl Fn(&[f32]) -> T + Sync,
) -> (Vec<f32>, Vec<T>) {
    let word = word(precision);
    let weights = forward_weights(g, word, w);
    let mut seen = Vec::new();
    // SAFETY: every chunk is one image's result, which `forward_image` fills.
    let y = unsafe {
        kernels::filled(g.images * g.out_len(), |y| {
            seen = y
                .par_chunks_mut(g.out_len())
                .zip(x.par_chunks(g.image_len()))
                .map(|(y, x)| {
                    forward_image(g, word, x, &weights, y);
                    inspect(y.assume_init_ref())
                })
                .collect();
        })
    };
    (y, seen)
}

fn forward_weights(g: &Geometry, word: Word, w: &[f32]) -> Scratch {
    let taps: Vec<usize> = (0..g.kernel_h * g.kernel_w).collect();
    pack_weights(word, &taps, g.inputs, g.outputs, |tap, from, to| {
        w[(tap * g.inputs + from) * g.outputs + to]
    })
}

/// Fills all of `y` with the convolution of one image.
fn forward_image(g: &Geometry, word: Word, x: &[f32], weights: &[u32], y: &mut [MaybeUninit<f32>]) {
    if g.is_pointwise() {
        let words = pixel_words(word, g.inputs);
        let pixels = g.height * g.width;
        let mut packed = Scratch::take(pixels * words);
        pack_pixels(word, x, g.inputs, &mut packed);
        let gemm = Gemm {
            word,
            outer: 1,
            rows: pixels,
            columns: g.outputs,
            segments: 1,
            segment_len: words,
            a_outer: 0,
            a_row: words,
            a_segment: 0,
            a_k: 1,
            c_outer: 0,
            c_row: g.outputs,
            segment_block: 1,
            accumulate: false,
        };
        return gemm.run(&packed, weights, y);
    }
    let border = Border {
        before: g.padding,
        after_h: g.padding,
        after_w: g.padding,
    };
    let image = Padded::new(word, x, [g.height, g.width, g.inputs], border);
    let gemm = Gemm {
        word,
        outer: g.out_h,
        rows: g.out_w,
        columns: g.outputs,
        segments: g.kernel_h,
        segment_len: g.kernel_w * image.pixel_words,
        a_outer: g.stride * image.row_words,
        a_row: g.stride * image.pixel_words,
        a_segment: image.row_words,
        a_k: 1,
        c_outer: g.out_w * g.outputs,
        c_row: g.outputs,
        segment_block: g.kernel_h,
        accumulate: false,
    };
    gemm.run(&image.words, weights, y);
}

/// Where the gradient of the result comes from.
pub(super) enum OutGrad<'a> {
    /// All images, in memory.
    Given(&'a [f32]),
    /// Computed into the slice for the image of that index, just before it is used.
    Computed(&'a (dyn Fn(usize, &mut [f32]) + Sync)),
}

/// Gradients of images and weights, each only where it is asked for.
#[expect(unsafe_code, reason = "results are not zeroed before they are written")]
pub(super) fn backward(
    g: &Geometry,
    precision: Precision,
    x: &[f32],
    w: &[f32],
    out_grad: &OutGrad<'_>,
    want_x: bool,
    want_w: bool,
) -> (Option<Vec<f32>>, Option<Vec<f32>>) {
    let word = word(precision);
    let phases = if want_x {
        input_phases(g, word, w)
    } else {
        Vec::new()
    };
    let group = g.images_per_group();
    let groups = g.images.div_ceil(group);
    let weight_len = if want_w { g.weight_len() } else { 0 };
    let image_len = if want_x { g.image_len() } else { 0 };

    let work = |index: usize, x_grad: &mut [MaybeUninit<f32>], w_grad: &mut [MaybeUninit<f32>]| {
        let mut scratch = Scratch::take(if matches!(out_grad, OutGrad::Computed(_)) {
            g.out_len()
        } else {
            0
        });
        for (n, image) in (index * group..g.images.min((index + 1) * group)).enumerate() {
            let out_grad = match out_grad {
                OutGrad::Given(all) => &all[image * g.out_len()..][..g.out_len()],
                OutGrad::Computed(fill) => {
                    fill(image, scratch.as_f32_mut());
                    scratch.as_f32()
                }
            };
            if want_w {
                weight_grad_image(
                    g,
                    word,
                    &x[image * g.image_len()..][..g.image_len()],
                    out_grad,
                    n > 0,
                    w_grad,
                );
            }
            if want_x {
                input_grad_image(
                    g,
                    word,
                    out_grad,
                    &phases,
                    &mut x_grad[n * image_len..][..image_len],
                );
            }
        }
    };

    let mut partial = Vec::new();
    // SAFETY: each group fills the gradients of all its images, and its first image overwrites its partial
    // weight gradient before later ones add to it.
    let x_grad = unsafe {
        kernels::filled(g.images * image_len, |x_grad| {
            partial = kernels::filled(groups * weight_len, |w_grad| {
                // Chunks of length zero are not allowed, so a gradient that is not wanted becomes empty slices.
                let x_chunks: Vec<&mut [MaybeUninit<f32>]> =
                    split(x_grad, groups, group * image_len);
                let w_chunks: Vec<&mut [MaybeUninit<f32>]> = split(w_grad, groups, weight_len);
                x_chunks
                    .into_par_iter()
                    .zip(w_chunks)
                    .enumerate()
                    .for_each(|(index, (x_grad, w_grad))| work(index, x_grad, w_grad));
            });
        })
    };
    let w_grad = want_w.then(|| {
        let (sum, others) = partial.split_at_mut(weight_len);
        for other in others.chunks_exact(weight_len) {
            add_assign(sum, other);
        }
        partial.truncate(weight_len);
        partial
    });
    (want_x.then_some(x_grad), w_grad)
}

/// Splits into `parts` slices of `len`, the last one possibly shorter.
fn split<T>(mut values: &mut [T], parts: usize, len: usize) -> Vec<&mut [T]> {
    (0..parts)
        .map(|_| {
            let end = len.min(values.len());
            let (part, rest) = std::mem::take(&mut values).split_at_mut(end);
            values = rest;
            part
        })
        .collect()
}

kernels::multiversion! {
    fn add_assign(sum: &mut [f32], other: &[f32]) {
        for (sum, other) in sum.iter_mut().zip(other) { *sum += other; }
    }
}

kernels::multiversion! {
    /// Pixels `[pixels, channels]` to panels whose summed dimension is the pixel.
    fn pack_pixel_panels(pixels: &[f32], channels: usize, out: &mut [u32]) {
        let count = pixels.len() / channels;
        for column in (0..channels).step_by(PANEL) {
            let used = (channels - column).min(PANEL);
            let width = used.div_ceil(LANES) * LANES;
            let panel = &mut out[column * count..][..count * width];
            for (out, pixel) in panel.chunks_exact_mut(width).zip(pixels.chunks_exact(channels)) {
                let (values, rest) = out.split_at_mut(used);
                for (out, value) in values.iter_mut().zip(&pixel[column..column + used]) { *out = value.to_bits(); }
                rest.fill(0);
            }
        }
    }
}

/// Adds (or, for the first image of a group, writes) one image's weight gradient `[kh, kw, Ci, Co]`.
fn weight_grad_image(
    g: &Geometry,
    word: Word,
    x: &[f32],
    out_grad: &[f32],
    accumulate: bool,
    w_grad: &mut [MaybeUninit<f32>],
) {
    match word {
        Word::F32 => weight_grad_image_f32(g, x, out_grad, accumulate, w_grad),
        Word::Bf16Pair => weight_grad_image_bf16(g, x, out_grad, accumulate, w_grad),
    }
}

fn weight_grad_image_f32(
    g: &Geometry,
    x: &[f32],
    out_grad: &[f32],
    accumulate: bool,
    w_grad: &mut [MaybeUninit<f32>],
) {
    let border = Border {
        before: g.padding,
        after_h: g.padding,
        after_w: g.padding,
    };
    let image = Padded::new(Word::F32, x, [g.height, g.width, g.inputs], border);
    let mut panels = Scratch::take(Gemm::panel_words(g.out_h * g.out_w, g.outputs));
    pack_pixel_panels(out_grad, g.outputs, &mut panels);
    let row_words = g.stride * image.row_words + g.out_w * g.outputs;
    let gemm = Gemm {
        word: Word::F32,
        outer: g.kernel_h,
        rows: g.kernel_w * g.inputs,
        columns: g.outputs,
        segments: g.out_h,
        segment_len: g.out_w,
        a_outer: image.row_words,
        a_row: 1,
        a_segment: g.stride * image.row_words,
        a_k: g.stride * image.pixel_words,
        c_outer: g.kernel_w * g.inputs * g.outputs,
        c_row: g.outputs,
        segment_block: (BLOCK_WORDS / row_words).max(1),
        accumulate,
    };
    gemm.run(&image.words, &panels, w_grad);
}

/// The sum runs over pixels, so a bf16 word pairs two neighbouring pixels of a row. The pairs differ from tap to
/// tap: each input row is packed as `[out_w / 2, kw, Ci]`, for a strip of rows at a time.
fn weight_grad_image_bf16(
    g: &Geometry,
    x: &[f32],
    out_grad: &[f32],
    accumulate: bool,
    w_grad: &mut [MaybeUninit<f32>],
) {
    let pairs = g.out_w.div_ceil(2);
    let pixel_words = g.kernel_w * g.inputs;
    let row_words = pairs * pixel_words;
    let grad_row = g.out_w * g.outputs;
    let strip = (BLOCK_WORDS / (g.stride * row_words + Gemm::panel_words(pairs, g.outputs)))
        .clamp(1, g.out_h);
    let mut rounded = Scratch::take((g.width + 2 * g.padding) * g.inputs);
    rounded.fill(0);
    let mut image = Scratch::take(((strip - 1) * g.stride + g.kernel_h) * row_words);
    let mut panels = Scratch::take(Gemm::panel_words(strip * pairs, g.outputs));
    for first in (0..g.out_h).step_by(strip) {
        let rows = strip.min(g.out_h - first);
        let in_rows = (rows - 1) * g.stride + g.kernel_h;
        for (row, words) in image.chunks_exact_mut(row_words).take(in_rows).enumerate() {
            let y = first * g.stride + row;
            if (g.padding..g.height + g.padding).contains(&y) {
                let pixels = &x[(y - g.padding) * g.width * g.inputs..][..g.width * g.inputs];
                round_to_high_half(pixels, &mut rounded[g.padding * g.inputs..]);
                pair_pixels(&rounded, g.stride * g.inputs, g.out_w, pixel_words, words);
            } else {
                words.fill(0);
            }
        }
        pack_pixel_pair_panels(
            &out_grad[first * grad_row..][..rows * grad_row],
            g.out_w,
            g.outputs,
            &mut panels,
        );
        let gemm = Gemm {
            word: Word::Bf16Pair,
            outer: g.kernel_h,
            rows: pixel_words,
            columns: g.outputs,
            segments: rows,
            segment_len: pairs,
            a_outer: row_words,
            a_row: 1,
            a_segment: g.stride * row_words,
            a_k: pixel_words,
            c_outer: pixel_words * g.outputs,
            c_row: g.outputs,
            segment_block: rows,
            accumulate: accumulate || first > 0,
        };
        gemm.run(&image, &panels, w_grad);
    }
}

kernels::multiversion! {
    /// Rounds to bf16, left in the high half of each word.
    fn round_to_high_half(values: &[f32], out: &mut [u32]) {
        for (out, value) in out.iter_mut().zip(values) { *out = bf16_bits(*value) << 16; }
    }
}

kernels::multiversion! {
    /// Pairs the windows of `window` words that start at pixels 0 and 1, 2 and 3, ... of a padded row whose output
    /// pixels are `step` words apart. The partner of an odd last pixel is zero.
    fn pair_pixels(rounded: &[u32], step: usize, pixels: usize, window: usize, out: &mut [u32]) {
        for (pair, out) in out.chunks_exact_mut(window).enumerate() {
            let first = &rounded[2 * pair * step..][..window];
            if 2 * pair + 1 < pixels {
                let second = &rounded[(2 * pair + 1) * step..][..window];
                for ((out, first), second) in out.iter_mut().zip(first).zip(second) { *out = (first >> 16) | second; }
            } else {
                for (out, first) in out.iter_mut().zip(first) { *out = first >> 16; }
            }
        }
    }
}

kernels::multiversion! {
    /// Rows of `width` pixels to panels whose summed dimension is the pair of pixels of a row.
    fn pack_pixel_pair_panels(pixels: &[f32], width: usize, channels: usize, out: &mut [u32]) {
        let rows = pixels.len() / (width * channels);
        let pairs = width.div_ceil(2);
        for column in (0..channels).step_by(PANEL) {
            let used = (channels - column).min(PANEL);
            let lanes = used.div_ceil(LANES) * LANES;
            let panel = &mut out[column * rows * pairs..][..rows * pairs * lanes];
            for (index, out) in panel.chunks_exact_mut(lanes).enumerate() {
                let (row, pair) = (index / pairs, index % pairs);
                let (values, rest) = out.split_at_mut(used);
                let first = &pixels[(row * width + 2 * pair) * channels + column..][..used];
                if 2 * pair + 1 < width {
                    let second = &pixels[(row * width + 2 * pair + 1) * channels + column..][..used];
                    for ((out, first), second) in values.iter_mut().zip(first).zip(second) {
                        *out = bf16_pair(*first, *second);
                    }
                } else {
                    for (out, first) in values.iter_mut().zip(first) { *out = bf16_bits(*first); }
                }
                rest.fill(0);
            }
        }
    }
}

/// The pixels of the input gradient that share the taps they receive from: with stride s there are s x s sets,
/// each an ordinary stride-1 convolution of the result's gradient with some of the weights, turned around.
struct Phase {
    /// First row and column of this set, and how many there are.
    first_y: usize,
    first_x: usize,
    count_y: usize,
    count_x: usize,
    /// Position in the padded gradient of the first tap of the first pixel.
    from_y: usize,
    from_x: usize,
    taps_y: usize,
    taps_x: usize,
    weights: Scratch,
}

/// Along one axis, for each phase: (first pixel, pixels, first padded position, taps).
fn axis_phases(
    size: usize,
    kernel: usize,
    stride: usize,
    padding: usize,
) -> Vec<(usize, usize, usize, usize)> {
    let before = kernel.div_ceil(stride) - 1;
    (0..stride)
        .map(|phase| {
            // Pixel i + padding = stride * t + phase receives from result t - j through tap phase + j * stride.
            let first = (phase + stride - padding % stride) % stride;
            let count = if first < size {
                (size - first).div_ceil(stride)
            } else {
                0
            };
            let taps = if phase < kernel {
                (kernel - phase).div_ceil(stride)
            } else {
                0
            };
            let t = (first + padding) / stride;
            (first, count, (t + before + 1).saturating_sub(taps), taps)
        })
        .collect()
}

/// The zero border that the input gradient's convolution needs around the result's gradient.
fn grad_border(g: &Geometry) -> Border {
    let before = g.kernel_h.max(g.kernel_w).div_ceil(g.stride) - 1;
    let after =
        |size: usize, out: usize| ((size - 1 + g.padding) / g.stride + 1).saturating_sub(out);
    Border {
        before,
        after_h: after(g.height, g.out_h),
        after_w: after(g.width, g.out_w),
    }
}

fn input_phases(g: &Geometry, word: Word, w: &[f32]) -> Vec<Phase> {
    let border = grad_border(g);
    let mut phases = Vec::new();
    for (py, &(first_y, count_y, from_y, taps_y)) in
        axis_phases(g.height, g.kernel_h, g.stride, g.padding)
            .iter()
            .enumerate()
    {
        for (px, &(first_x, count_x, from_x, taps_x)) in
            axis_phases(g.width, g.kernel_w, g.stride, g.padding)
                .iter()
                .enumerate()
        {
            let taps: Vec<usize> = (0..taps_y)
                .flat_map(|y| (0..taps_x).map(move |x| (taps_y - 1 - y, taps_x - 1 - x)))
                .map(|(y, x)| (py + y * g.stride) * g.kernel_w + px + x * g.stride)
                .collect();
            let weights = pack_weights(word, &taps, g.outputs, g.inputs, |tap, from, to| {
                w[(tap * g.inputs + to) * g.outputs + from]
            });
            // The border is common to both axes; an axis with a smaller kernel starts further in.
            let from_y = from_y + border.before + 1 - g.kernel_h.div_ceil(g.stride);
            let from_x = from_x + border.before + 1 - g.kernel_w.div_ceil(g.stride);
            phases.push(Phase {
                first_y,
                first_x,
                count_y,
                count_x,
                from_y,
                from_x,
                taps_y,
                taps_x,
                weights,
            });
        }
    }
    phases
}

/// Fills all of `x_grad` with the gradient of one image.
fn input_grad_image(
    g: &Geometry,
    word: Word,
    out_grad: &[f32],
    phases: &[Phase],
    x_grad: &mut [MaybeUninit<f32>],
) {
    let image = Padded::new(
        word,
        out_grad,
        [g.out_h, g.out_w, g.outputs],
        grad_border(g),
    );
    for phase in phases {
        if phase.count_y == 0 || phase.count_x == 0 {
            continue;
        }
        let start = (phase.first_y * g.width + phase.first_x) * g.inputs;
        if phase.taps_y == 0 || phase.taps_x == 0 {
            for y in 0..phase.count_y {
                for x in 0..phase.count_x {
                    x_grad[start + (y * g.width + x) * g.stride * g.inputs..][..g.inputs]
                        .fill(MaybeUninit::new(0.));
                }
            }
            continue;
        }
        let gemm = Gemm {
            word,
            outer: phase.count_y,
            rows: phase.count_x,
            columns: g.inputs,
            segments: phase.taps_y,
            segment_len: phase.taps_x * image.pixel_words,
            a_outer: image.row_words,
            a_row: image.pixel_words,
            a_segment: image.row_words,
            a_k: 1,
            c_outer: g.stride * g.width * g.inputs,
            c_row: g.stride * g.inputs,
            segment_block: phase.taps_y,
            accumulate: false,
        };
        let from = phase.from_y * image.row_words + phase.from_x * image.pixel_words;
        gemm.run(&image.words[from..], &phase.weights, &mut x_grad[start..]);
    }
}

struct Conv2d {
    stride: usize,
    padding: usize,
    precision: Precision,
}

impl CustomOp2 for Conv2d {
    fn name(&self) -> &'static str {
        "roadhound-conv2d"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        w: &CpuStorage,
        w_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let g = Geometry::new(x_layout.dims(), w_layout.dims(), self.stride, self.padding)?;
        let (x, w) = (contiguous_f32(x, x_layout)?, contiguous_f32(w, w_layout)?);
        let (y, _) = forward(&g, self.precision, x, w, |_| ());
        Ok((CpuStorage::F32(y), g.out_shape()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        x: &candle_core::CudaStorage,
        x_layout: &Layout,
        w: &candle_core::CudaStorage,
        w_layout: &Layout,
    ) -> Result<(candle_core::CudaStorage, Shape)> {
        let g = Geometry::new(x_layout.dims(), w_layout.dims(), self.stride, self.padding)?;
        super::cuda::device::conv2d(&g, self.precision, (x, x_layout), (w, w_layout))
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        _y: &Tensor,
        y_grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let g = Geometry::new(x.dims(), w.dims(), self.stride, self.padding)?;
        let y_grad = y_grad.contiguous()?;
        #[cfg(feature = "cuda")]
        if x.device().is_cuda() {
            return super::cuda::device::conv2d_backward(&g, self.precision, x, w, &y_grad);
        }
        let (x_grad, w_grad) = with_f32([x, w, &y_grad], |[x_data, w_data, y_grad]| {
            Ok(backward(
                &g,
                self.precision,
                x_data,
                w_data,
                &OutGrad::Given(y_grad),
                x.track_op(),
                w.track_op(),
            ))
        })?;
        let tensor = |values: Option<Vec<f32>>, like: &Tensor| {
            values
                .map(|values| Tensor::from_vec(values, like.shape(), like.device()))
                .transpose()
        };
        Ok((tensor(x_grad, x)?, tensor(w_grad, w)?))
    }
}

/// Convolves images with weights, without bias.
///
/// # Shapes
/// - `x`: `[N, H, W, Ci]`, `f32`
/// - `w`: `[kh, kw, Ci, Co]`, `f32`
/// - returns `[N, (H + 2 * padding - kh) / stride + 1, (W + 2 * padding - kw) / stride + 1, Co]`
///
/// Gradients flow to both operands; that of `x` is only computed where something behind it wants it.
///
/// # Errors
/// If the shapes do not fit, a tensor is not `f32`, or the device is neither the CPU nor, with the feature `cuda`, a
/// GPU of NVIDIA's.
pub fn conv2d(
    x: &Tensor,
    w: &Tensor,
    stride: usize,
    padding: usize,
    precision: Precision,
) -> Result<Tensor> {
    x.contiguous()?.apply_op2(
        &w.contiguous()?,
        Conv2d {
            stride,
            padding,
            precision,
        },
    )
}
