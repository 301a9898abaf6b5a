//! The arithmetic of the board's runtime, to the bit: convolution, matrix product and the few functions that an
//! exported graph is made of.
//!
//! In: planar maps `[C, H, W]` as slices, weights as the ONNX file holds them. Out: the very values that `roadhound`
//! computes from the same inputs, so that `evaluate` follows a clip box for box as `roadhound track` does. A loop
//! that feeds its boxes back cannot be compared any other way: a last bit decides between two nearly equal peaks.
//!
//! What tract 0.23 computes, and what is therefore computed here:
//!
//! - A product of matrices, and a convolution after unfolding, is one chain of fused multiply-adds for each result,
//!   from zero, over input channel, kernel row and kernel column in this order; padding takes part as zeros. The bias
//!   is added to the finished chain. All of tract's f32 kernels for processors with fused multiply-add (AVX2,
//!   AVX-512, NEON, SVE, SME, Apple's AMX) keep this order and differ in how many chains run side by side.
//! - The exception is a product with a single row and column, which some kernels split: `roadhound` turns it into
//!   rounded products and their sum, [`dot`] (see `edge/src/infer.rs`, which steers around two more differences
//!   between processors).
//! - A 1x1 convolution of maps that were joined is the sum of the convolutions of the parts, see [`Filters::columns`].
//! - `a / b` is `a * (1 / b)`, with both roundings.
//! - [`exp`] has one reduction and one polynomial on all processors, and a sigmoid is `1 / (1 + exp(-x))`.
//! - A sum over rows and columns keeps eight partial sums, one over channels goes from the first to the last.
//!
//! Processors without fused multiply-add (x86 before 2013) get the same values here, slowly, but not from tract.
//!
//! ```
//! use roadhound_trainer::ops::exact::{Filters, Window, conv2d};
//! let image = [1.0, 2.0, 3.0, 4.0]; // one channel, 2x2
//! let blur = Filters::new(&[0.25; 9], 1, 9);
//! let window = Window { channels: 1, height: 2, width: 2, kernel: 3, stride: 1, padding: 1 };
//! assert_eq!(conv2d(&image, &window, &blur), [2.5; 4]);
//! ```

use std::mem::MaybeUninit;

use rayon::prelude::*;

use super::kernels::{Gemm, LANES, PANEL, Scratch, Word, filled};

/// Rows that are worth handing to another thread.
const MIN_ROWS: usize = 8;

/// The left operand of a product: rows of weights, one for each output channel.
#[derive(Clone, Debug)]
pub struct Filters {
    words: Vec<u32>,
    rows: usize,
    depth: usize,
}

impl Filters {
    /// # Shapes
    /// `values`: `[rows, depth]`; for a convolution `depth` runs over input channel, kernel row and kernel column.
    ///
    /// # Panics
    /// If the length is another one, or zero.
    pub fn new(values: &[f32], rows: usize, depth: usize) -> Self {
        assert!(values.len() == rows * depth && !values.is_empty());
        Self {
            words: values.iter().map(|v| v.to_bits()).collect(),
            rows,
            depth,
        }
    }

    /// The columns from `from` on, which belong to one of several joined maps; `None` where there are fewer.
    pub fn columns(&self, from: usize, count: usize) -> Option<Self> {
        let to = from.checked_add(count)?;
        if count == 0 || to > self.depth {
            return None;
        }
        let rows = self.words.chunks_exact(self.depth);
        Some(Self {
            words: rows.flat_map(|row| &row[from..to]).copied().collect(),
            rows: self.rows,
            depth: count,
        })
    }

    /// The weights, row after row.
    pub fn values(&self) -> impl Iterator<Item = f32> {
        self.words.iter().map(|word| f32::from_bits(*word))
    }

    /// Output channels.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Values of each row.
    pub fn depth(&self) -> usize {
        self.depth
    }
}

/// How a square kernel walks over a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Input channels.
    pub channels: usize,
    /// Rows of the map.
    pub height: usize,
    /// Columns of the map.
    pub width: usize,
    /// Rows and columns of the kernel.
    pub kernel: usize,
    /// Step.
    pub stride: usize,
    /// Zeros on all four sides.
    pub padding: usize,
}

impl Window {
    /// Rows and columns of the result; `None` where the kernel does not fit into the padded map, sees padding only,
    /// or a size is zero.
    pub fn output(&self) -> Option<(usize, usize)> {
        let along = |size: usize| {
            let room = (size + 2 * self.padding).checked_sub(self.kernel)?;
            Some(room.checked_div(self.stride)? + 1)
        };
        let empty = self.channels == 0 || self.height == 0 || self.width == 0;
        if empty || self.padding >= self.kernel {
            return None;
        }
        Some((along(self.height)?, along(self.width)?))
    }
}

/// Convolution without bias.
///
/// # Shapes
/// `map`: `[channels, height, width]`; returns `[filters.rows(), oh, ow]`.
///
/// # Panics
/// If the map, the filters and the window do not fit together.
pub fn conv2d(map: &[f32], window: &Window, filters: &Filters) -> Vec<f32> {
    let &Window {
        channels,
        height,
        width,
        kernel,
        stride,
        padding,
    } = window;
    assert_eq!(map.len(), channels * height * width);
    assert_eq!(filters.depth, channels * kernel * kernel);
    let Some((rows, columns)) = window.output() else {
        panic!("{window:?} has no output")
    };
    let (padded_height, padded_width) = (height + 2 * padding, width + 2 * padding);
    let padded: Vec<f32>;
    let source = if padding == 0 {
        map
    } else {
        let mut to = vec![0.0; channels * padded_height * padded_width];
        for (row, from) in map.chunks_exact(width).enumerate() {
            let (channel, y) = (row / height, row % height);
            let at = (channel * padded_height + y + padding) * padded_width + padding;
            to[at..at + width].copy_from_slice(from);
        }
        padded = to;
        &padded
    };
    let offsets: Vec<usize> = (0..filters.depth)
        .map(|k| {
            let (channel, y, x) = (k / (kernel * kernel), k / kernel % kernel, k % kernel);
            (channel * padded_height + y) * padded_width + x
        })
        .collect();
    let right = Panels::filled(filters.depth, rows * columns, |first, count, panel| {
        // Results of one panel lie in one row of the map or in a few: runs of neighbours, taken one after the other.
        let mut done = 0;
        while done < count {
            let (y, x) = ((first + done) / columns, (first + done) % columns);
            let run = (columns - x).min(count - done);
            let corner = (y * padded_width + x) * stride;
            let width = panel.len() / offsets.len();
            for (line, offset) in panel.chunks_exact_mut(width).zip(&offsets) {
                let to = &mut line[done..done + run];
                let from = &source[corner + offset..];
                if stride == 1 {
                    for (to, from) in to.iter_mut().zip(from) {
                        *to = from.to_bits();
                    }
                } else {
                    for (to, from) in to.iter_mut().zip(from.iter().step_by(stride)) {
                        *to = from.to_bits();
                    }
                }
            }
            done += run;
        }
    });
    product(filters, &right)
}

/// Product of matrices.
///
/// # Shapes
/// `right`: `[left.depth(), columns]`; returns `[left.rows(), columns]`.
///
/// # Panics
/// If the lengths do not fit.
pub fn matmul(left: &Filters, right: &[f32], columns: usize) -> Vec<f32> {
    assert_eq!(right.len(), left.depth * columns);
    let panels = Panels::filled(left.depth, columns, |first, count, panel| {
        let width = panel.len() / left.depth;
        for (line, row) in panel
            .chunks_exact_mut(width)
            .zip(right.chunks_exact(columns))
        {
            for (to, from) in line.iter_mut().zip(&row[first..first + count]) {
                *to = from.to_bits();
            }
        }
    });
    product(left, &panels)
}

/// The right operand of a product, in the panels that the kernels read.
struct Panels {
    words: Scratch,
    depth: usize,
    columns: usize,
}

impl Panels {
    /// `fill(first, count, panel)` writes the columns from `first` on: `panel` is `[depth, width]`, of whose width
    /// `count` columns are wanted and the others are never looked at.
    fn filled(
        depth: usize,
        columns: usize,
        fill: impl Fn(usize, usize, &mut [u32]) + Sync,
    ) -> Self {
        let mut words = Scratch::take(Gemm::panel_words(depth, columns));
        words
            .par_chunks_mut(depth * PANEL)
            .enumerate()
            .for_each(|(index, panel)| {
                let first = index * PANEL;
                let count = (columns - first).min(PANEL);
                if !count.is_multiple_of(LANES) {
                    // What an earlier user left could be a signalling value, which is slow to multiply.
                    panel.fill(0);
                }
                fill(first, count, panel);
            });
        Self {
            words,
            depth,
            columns,
        }
    }
}

/// One chain of fused multiply-adds for each result, from zero, in the order of the depth.
fn product(left: &Filters, right: &Panels) -> Vec<f32> {
    let (rows, columns, depth) = (left.rows, right.columns, left.depth);
    debug_assert_eq!(depth, right.depth);
    let share = rows
        .div_ceil(rayon::current_num_threads())
        .max(MIN_ROWS.min(rows));
    let words: &[u32] = &right.words;
    let compute = |to: &mut [MaybeUninit<f32>]| {
        to.par_chunks_mut(share * columns)
            .zip(left.words.par_chunks(share * depth))
            .for_each(|(to, left)| {
                let gemm = Gemm {
                    word: Word::F32,
                    outer: 1,
                    rows: left.len() / depth,
                    columns,
                    segments: 1,
                    segment_len: depth,
                    a_outer: 0,
                    a_row: depth,
                    a_segment: 0,
                    a_k: 1,
                    c_outer: 0,
                    c_row: columns,
                    segment_block: 1,
                    accumulate: false,
                };
                gemm.run_fused(left, words, to);
            });
    };
    if columns == 0 {
        return Vec::new();
    }
    filled_by(rows * columns, compute)
}

#[allow(unsafe_code, reason = "every result is written once")]
fn filled_by(len: usize, compute: impl FnOnce(&mut [MaybeUninit<f32>])) -> Vec<f32> {
    // SAFETY: the chunks of `product` cover all rows, and the walk writes every column of every row.
    unsafe { filled(len, compute) }
}

/// `e^x` as tract computes it, within two units in the last place.
///
/// The argument is reduced to `r + k ln 2`, a polynomial of degree six gives `e^r`, and `2^k` is put together from
/// two factors so that results near both ends of the range come out right.
pub fn exp(x: f32) -> f32 {
    /// Beyond these every result is infinite, or zero.
    const RANGE: (f32, f32) = (-104.0, 89.0);
    /// Adding and taking away 1.5 * 2^23 rounds to an integer.
    const ROUND: f32 = 12_582_912.0;
    /// ln 2 in two parts, of which the first times `k` is exact.
    const LN_2: (f32, f32) = (0.693_145_75, 1.428_606_8e-6);
    /// tract's fit, highest power first.
    #[allow(clippy::excessive_precision, reason = "as tract writes them")]
    const POLYNOMIAL: [f32; 7] = [
        1.383684405e-03,
        8.374815793e-03,
        4.166822560e-02,
        1.666642017e-01,
        4.999999208e-01,
        1.000000036e+00,
        1.000000001e+00,
    ];
    let x = x.clamp(RANGE.0, RANGE.1);
    let k = (x * std::f32::consts::LOG2_E + ROUND) - ROUND;
    let r = k.mul_add(-LN_2.1, k.mul_add(-LN_2.0, x));
    let power = POLYNOMIAL[1..]
        .iter()
        .fold(POLYNOMIAL[0], |sum, c| sum.mul_add(r, *c));
    let k = k as i32;
    let low = k >> 1;
    let two_to = |n: i32| f32::from_bits(((n + 127) as u32) << 23);
    power * two_to(low) * two_to(k - low)
}

/// `1 / (1 + e^-x)`.
pub fn sigmoid(x: f32) -> f32 {
    (exp(-x) + 1.0).recip()
}

/// Sum of products, each rounded, from the first to the last.
pub fn dot(left: impl Iterator<Item = f32>, right: &[f32]) -> f32 {
    left.zip(right).fold(0.0, |sum, (a, b)| sum + a * b)
}

/// Sum of neighbours, as over the cells of a map: eight partial sums, added in pairs four apart, then what is left.
pub fn sum_of_neighbours(values: &[f32]) -> f32 {
    let mut partial = [0.0f32; 8];
    let groups = values.chunks_exact(8);
    let rest = groups.remainder();
    for group in groups {
        for (sum, value) in partial.iter_mut().zip(group) {
            *sum += value;
        }
    }
    let pairs = (0..4).fold(0.0, |sum, i| sum + (partial[i] + partial[i + 4]));
    rest.iter().fold(pairs, |sum, value| sum + value)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn random(rng: &mut ChaCha8Rng, len: usize) -> Vec<f32> {
        (0..len).map(|_| rng.random_range(-1.0..1.0)).collect()
    }

    /// The definition: one chain for each result.
    fn reference(map: &[f32], w: &Window, filters: &[f32]) -> Vec<f32> {
        let (rows, columns) = w.output().unwrap();
        let depth = w.channels * w.kernel * w.kernel;
        let mut out = Vec::new();
        for filter in filters.chunks_exact(depth) {
            for (y, x) in (0..rows).flat_map(|y| (0..columns).map(move |x| (y, x))) {
                let mut sum = 0f32;
                for (k, weight) in filter.iter().enumerate() {
                    let (c, ky, kx) = (
                        k / (w.kernel * w.kernel),
                        k / w.kernel % w.kernel,
                        k % w.kernel,
                    );
                    let (sy, sx) = (y * w.stride + ky, x * w.stride + kx);
                    let inside = (w.padding..w.padding + w.height).contains(&sy)
                        && (w.padding..w.padding + w.width).contains(&sx);
                    let value = if inside {
                        map[(c * w.height + sy - w.padding) * w.width + sx - w.padding]
                    } else {
                        0.0
                    };
                    sum = weight.mul_add(value, sum);
                }
                out.push(sum);
            }
        }
        out
    }

    #[test]
    fn a_convolution_is_one_fused_chain_for_each_result() {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        for (channels, height, width, kernel, stride, padding, outputs) in [
            (3, 12, 12, 3, 2, 1, 16),
            (5, 9, 7, 3, 1, 1, 13),
            (8, 16, 16, 3, 1, 1, 32),
            (24, 8, 8, 1, 1, 0, 4),
            (192, 1, 1, 1, 1, 0, 1),
            (2, 11, 40, 5, 3, 2, 3),
        ] {
            let window = Window {
                channels,
                height,
                width,
                kernel,
                stride,
                padding,
            };
            let depth = channels * kernel * kernel;
            let map = random(&mut rng, channels * height * width);
            let weights = random(&mut rng, outputs * depth);
            let found = conv2d(&map, &window, &Filters::new(&weights, outputs, depth));
            assert_eq!(found, reference(&map, &window, &weights), "{window:?}");
        }
    }

    #[test]
    fn a_product_is_one_fused_chain_for_each_result() {
        let mut rng = ChaCha8Rng::seed_from_u64(4);
        for (rows, depth, columns) in [(64, 96, 256), (7, 5, 33), (1, 300, 1), (13, 1, 17)] {
            let (left, right) = (
                random(&mut rng, rows * depth),
                random(&mut rng, depth * columns),
            );
            let found = matmul(&Filters::new(&left, rows, depth), &right, columns);
            let expected: Vec<f32> = (0..rows * columns)
                .map(|i| {
                    let (row, column) = (i / columns, i % columns);
                    (0..depth).fold(0.0, |sum, k| {
                        left[row * depth + k].mul_add(right[k * columns + column], sum)
                    })
                })
                .collect();
            assert_eq!(found, expected, "{rows}x{depth}x{columns}");
        }
    }

    #[test]
    fn columns_of_filters_are_filters_of_a_part() {
        let filters = Filters::new(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 2, 3);
        let part = filters.columns(1, 2).unwrap();
        assert_eq!((part.rows(), part.depth()), (2, 2));
        assert_eq!(part.values().collect::<Vec<_>>(), [2.0, 3.0, 5.0, 6.0]);
        assert!(filters.columns(2, 2).is_none() && filters.columns(1, 0).is_none());
    }

    #[test]
    fn a_dot_product_rounds_every_product_and_every_sum() {
        let (a, b) = (1.0 + f32::EPSILON, 1.0 - f32::EPSILON);
        assert_eq!(dot([a, 1.0].into_iter(), &[b, -1.0]), 0.0);
        assert_ne!(a.mul_add(b, -1.0), 0.0);
    }

    #[test]
    fn results_do_not_depend_on_the_number_of_threads() {
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let (left, right) = (random(&mut rng, 50 * 70), random(&mut rng, 70 * 90));
        let on = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
            pool.unwrap()
                .install(|| matmul(&Filters::new(&left, 50, 70), &right, 90))
        };
        assert_eq!(on(1), on(3));
    }

    #[test]
    fn exponential_is_within_two_units_and_saturates() {
        for i in -1030..=880 {
            let x = i as f32 / 10.0;
            let expected = f64::from(x).exp();
            let unit = f64::from(f32::from_bits((expected as f32).to_bits() + 1))
                - f64::from(expected as f32);
            assert!(
                (f64::from(exp(x)) - expected).abs() <= 2.0 * unit,
                "{x}: {} instead of {expected}",
                exp(x)
            );
        }
        assert_eq!(exp(100.0), f32::INFINITY);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert!(exp(f32::NAN).is_nan());
    }

    #[test]
    fn sigmoid_is_a_half_at_zero_and_saturates_at_both_ends() {
        assert_eq!(sigmoid(0.0), 0.5);
        assert_eq!(sigmoid(f32::NEG_INFINITY), 0.0);
        assert_eq!(sigmoid(200.0), 1.0);
        for i in -80..=80 {
            let x = i as f32 / 8.0;
            let expected = 1.0 / (1.0 + f64::from(-x).exp());
            assert!((f64::from(sigmoid(x)) - expected).abs() < 2e-7, "{x}");
        }
    }

    #[test]
    fn sums_of_neighbours_are_kept_in_eight_parts() {
        // 2^24 + 1 is not an f32: the order decides what is left of the ones.
        let mut values = vec![1.0f32; 19];
        values[0] = 16_777_216.0;
        assert_eq!(sum_of_neighbours(&values), 16_777_216.0 + 16.0);
        assert_eq!(values.iter().sum::<f32>(), 16_777_216.0);
        assert_eq!(sum_of_neighbours(&[1.0, 2.0, 4.0]), 7.0);
        assert_eq!(sum_of_neighbours(&[]), 0.0);
    }
}
