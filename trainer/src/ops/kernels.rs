//! The register-blocked inner loops behind the convolutions: the only place in the trainer with `unsafe` code.
//!
//! In comes a left operand addressed by strides (an image in its natural layout, never an expanded im2col matrix),
//! and a right operand packed into panels of 32 columns; out goes a block of `f32` results. Operands are 32-bit
//! *words*: one `f32`, or two bf16 values that are neighbours along the summed dimension. One [`Gemm`] describes
//! the walk for both the forward convolution and its weight gradient:
//!
//! ```text
//! c[o][m][n] (+)= sum over s, k of  a[o * a_outer + m * a_row + s * a_segment + k * a_k]
//!                                 * b[panel of n][(s * segment_len + k)][n within the panel]
//! ```
//!
//! Each result is summed in one fixed order, so values do not depend on the number of threads.
#![allow(unsafe_code)]

use std::cell::RefCell;
use std::mem::MaybeUninit;
use std::ops::{Deref, DerefMut};

/// Columns of one vector register.
pub(super) const LANES: usize = 16;
/// Columns of a full panel of the right operand: two registers.
pub(super) const PANEL: usize = 2 * LANES;
/// Most rows of the left operand that one register block holds.
const MAX_ROWS: usize = 12;

/// What a word holds, which decides the multiply-add instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// One `f32`, as its bits.
    F32,
    /// Two bf16 values, the first in the low half.
    Bf16Pair,
}

/// The instruction set the kernels run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    /// Whatever the compiler targets.
    Portable,
    /// AVX2 with FMA.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// AVX-512 (F, BW, DQ, VL).
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

/// The best level of this processor.
pub(super) fn level() -> Level {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
        {
            return Level::Avx512;
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            return Level::Avx2;
        }
    }
    Level::Portable
}

/// Whether this processor multiplies bf16 pairs; without it bf16 precision falls back to `f32`.
pub(super) fn has_bf16() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        level() == Level::Avx512 && is_x86_feature_detected!("avx512bf16")
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        false
    }
}

/// Rounds neighbouring values to bf16 and packs them into words, the first in the low half. `out` takes half as
/// many words as there are values, an even number. Denormals become zero.
///
/// # Panics
/// Without [`has_bf16`], or if the lengths do not fit.
pub(super) fn round_pairs(values: &[f32], out: &mut [u32]) {
    assert!(has_bf16() && values.len() == 2 * out.len());
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the processor has the features, and the lengths fit.
    unsafe {
        round_pairs_avx512(values, out);
    }
}

/// # Safety
/// The processor has the features, and `values` is twice as long as `out`.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
unsafe fn round_pairs_avx512(values: &[f32], out: &mut [u32]) {
    use std::arch::x86_64::*;
    const STEP: usize = LANES / 2;
    let whole = out.len() - out.len() % STEP;
    // SAFETY: a vector of 16 values fills 8 words, all inside the slices; the mask bounds the last vector.
    unsafe {
        for i in (0..whole).step_by(STEP) {
            let rounded = _mm512_cvtneps_pbh(_mm512_loadu_ps(values.as_ptr().add(2 * i)));
            let rounded = std::mem::transmute::<__m256bh, __m256i>(rounded);
            _mm256_storeu_si256(out.as_mut_ptr().add(i).cast(), rounded);
        }
        let rest = out.len() - whole;
        if rest > 0 {
            let mask = 0xffff >> (LANES - 2 * rest);
            let rounded =
                _mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(mask, values.as_ptr().add(2 * whole)));
            let rounded = std::mem::transmute::<__m256bh, __m256i>(rounded);
            _mm256_mask_storeu_epi16(out.as_mut_ptr().add(whole).cast(), mask, rounded);
        }
    }
}

/// Compiles a safe function once per instruction set and picks the version at run time.
macro_rules! multiversion {
    ($(#[$doc:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $body:block) => {
        $(#[$doc])*
        $vis fn $name($($arg: $ty),*) {
            #[inline(always)]
            fn body($($arg: $ty),*) $body
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
            fn avx512($($arg: $ty),*) { body($($arg),*) }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            fn avx2($($arg: $ty),*) { body($($arg),*) }
            #[allow(unsafe_code, reason = "calls into versions whose features were detected")]
            match $crate::ops::kernels::level() {
                $crate::ops::kernels::Level::Portable => body($($arg),*),
                // SAFETY: `level` has just detected these features.
                #[cfg(target_arch = "x86_64")]
                $crate::ops::kernels::Level::Avx2 => unsafe { avx2($($arg),*) },
                // SAFETY: `level` has just detected these features.
                #[cfg(target_arch = "x86_64")]
                $crate::ops::kernels::Level::Avx512 => unsafe { avx512($($arg),*) },
            }
        }
    };
}
pub(super) use multiversion;

#[repr(C, align(64))]
#[derive(Clone, Copy)]
struct Line([u32; LANES]);

thread_local! {
    static POOL: RefCell<Vec<Vec<Line>>> = const { RefCell::new(Vec::new()) };
}

/// Scratch words aligned to cache lines, lent by a pool of the current thread: after the first step of training
/// no call allocates.
pub(super) struct Scratch {
    lines: Vec<Line>,
    words: usize,
}

impl Scratch {
    /// At least `words` words whose content is whatever an earlier user left.
    pub(super) fn take(words: usize) -> Self {
        let needed = words.div_ceil(LANES);
        let mut lines = POOL
            .with(|pool| {
                let mut pool = pool.borrow_mut();
                let fit = (0..pool.len())
                    .filter(|&i| pool[i].len() >= needed)
                    .min_by_key(|&i| pool[i].len());
                fit.map(|i| pool.swap_remove(i)).or_else(|| pool.pop())
            })
            .unwrap_or_default();
        if lines.len() < needed {
            lines.resize(needed, Line([0; LANES]));
        }
        Self { lines, words }
    }

    /// The same memory as `f32`.
    pub(super) fn as_f32_mut(&mut self) -> &mut [f32] {
        let words: &mut [u32] = self;
        // SAFETY: u32 and f32 have the same size and alignment, and every bit pattern is valid for both.
        unsafe { std::slice::from_raw_parts_mut(words.as_mut_ptr().cast(), words.len()) }
    }

    /// The same memory as `f32`.
    pub(super) fn as_f32(&self) -> &[f32] {
        let words: &[u32] = self;
        // SAFETY: as in `as_f32_mut`.
        unsafe { std::slice::from_raw_parts(words.as_ptr().cast(), words.len()) }
    }
}

impl Deref for Scratch {
    type Target = [u32];
    fn deref(&self) -> &[u32] {
        // SAFETY: `Line` is a C array of initialised u32 and `words` never exceeds what the lines hold.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.words) }
    }
}

impl DerefMut for Scratch {
    fn deref_mut(&mut self) -> &mut [u32] {
        // SAFETY: as in `deref`; the borrow of `self` is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.words) }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let lines = std::mem::take(&mut self.lines);
        // A scratch dropped while its thread ends has no pool to return to; the memory is then just freed.
        let _ = POOL.try_with(|pool| pool.borrow_mut().push(lines));
    }
}

/// A vector of `len` values that `fill` writes, without zeroing them first.
///
/// # Safety
/// `fill` must initialise every element.
pub(super) unsafe fn filled(len: usize, fill: impl FnOnce(&mut [MaybeUninit<f32>])) -> Vec<f32> {
    let mut values = Vec::with_capacity(len);
    fill(&mut values.spare_capacity_mut()[..len]);
    // SAFETY: the capacity is at least `len`, and the caller promises that `fill` initialised all of it.
    unsafe { values.set_len(len) };
    values
}

/// Views values as possibly uninitialised ones, for functions that only write them.
pub(super) fn as_uninit(values: &mut [f32]) -> &mut [MaybeUninit<f32>] {
    // SAFETY: MaybeUninit<f32> has the layout of f32, and the functions it is passed to write whole f32 values.
    unsafe { std::slice::from_raw_parts_mut(values.as_mut_ptr().cast(), values.len()) }
}

/// One walk over the operands; see the head of this module for the formula.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gemm {
    pub word: Word,
    pub outer: usize,
    pub rows: usize,
    pub columns: usize,
    pub segments: usize,
    pub segment_len: usize,
    pub a_outer: usize,
    pub a_row: usize,
    pub a_segment: usize,
    pub a_k: usize,
    pub c_outer: usize,
    pub c_row: usize,
    /// Segments summed before moving on to the next block of results: bounds the working set. The results of
    /// all blocks but the first are added to what is there.
    pub segment_block: usize,
    /// Add to `c` instead of overwriting it.
    pub accumulate: bool,
}

impl Gemm {
    /// Length of the summed dimension in words.
    pub(super) fn depth(&self) -> usize {
        self.segments * self.segment_len
    }

    /// Words of a packed right operand.
    pub(super) fn panel_words(depth: usize, columns: usize) -> usize {
        depth * columns.div_ceil(LANES) * LANES
    }

    /// Runs the walk.
    ///
    /// # Panics
    /// If an operand is too short for the walk: the shapes come from validated tensors, so this is a bug here.
    pub(super) fn run(&self, a: &[u32], b: &[u32], c: &mut [MaybeUninit<f32>]) {
        self.run_with(blocks(self.word, self.a_k == 1), a, b, c);
    }

    /// Runs the walk on `f32` words with one rounding for each multiply-add on every processor: where it has no such
    /// instruction, slowly. With one block of segments each result is a single chain from zero.
    ///
    /// # Panics
    /// As [`Gemm::run`].
    pub(super) fn run_fused(&self, a: &[u32], b: &[u32], c: &mut [MaybeUninit<f32>]) {
        assert!(self.word == Word::F32);
        self.run_with(fused_blocks(self.a_k == 1), a, b, c);
    }

    fn run_with(&self, blocks: &BlockTable, a: &[u32], b: &[u32], c: &mut [MaybeUninit<f32>]) {
        if self.outer == 0 || self.rows == 0 || self.columns == 0 {
            return;
        }
        assert!(self.segments > 0 && self.segment_len > 0 && self.segment_block > 0);
        assert!(
            self.a_k == 1 || self.a_row == 1,
            "one of the strides of `a` is 1"
        );
        let a_last = (self.outer - 1) * self.a_outer
            + (self.rows - 1) * self.a_row
            + (self.segments - 1) * self.a_segment
            + (self.segment_len - 1) * self.a_k;
        let c_last =
            (self.outer - 1) * self.c_outer + (self.rows - 1) * self.c_row + self.columns - 1;
        assert!(
            a_last < a.len(),
            "left operand: last word {a_last} of {}",
            a.len()
        );
        assert!(
            c_last < c.len(),
            "result: last value {c_last} of {}",
            c.len()
        );
        assert!(Self::panel_words(self.depth(), self.columns) <= b.len());

        let tiles = self.rows.div_ceil(MAX_ROWS);
        for first in (0..self.segments).step_by(self.segment_block) {
            let segments = self.segment_block.min(self.segments - first);
            for outer in 0..self.outer {
                for column in (0..self.columns).step_by(PANEL) {
                    let columns = (self.columns - column).min(PANEL);
                    let vectors = columns.div_ceil(LANES);
                    let last_lanes = columns - (vectors - 1) * LANES;
                    let panel = column * self.depth() + first * self.segment_len * vectors * LANES;
                    for tile in 0..tiles {
                        // Balanced tiles: 16 rows are 8 + 8, not 12 + 4.
                        let row = tile * self.rows / tiles;
                        let rows = (tile + 1) * self.rows / tiles - row;
                        let block = Block {
                            a: a[outer * self.a_outer
                                + row * self.a_row
                                + first * self.a_segment..]
                                .as_ptr(),
                            b: b[panel..].as_ptr(),
                            c: c[outer * self.c_outer + row * self.c_row + column..]
                                .as_mut_ptr()
                                .cast(),
                            segments,
                            segment_len: self.segment_len,
                            a_segment: self.a_segment,
                            stride: if self.a_k == 1 { self.a_row } else { self.a_k },
                            c_row: self.c_row,
                            last_lanes,
                            accumulate: self.accumulate || first > 0,
                        };
                        // SAFETY: the largest index of each operand was checked above, blocks stay inside the
                        // walk, and `accumulate` is only set by callers whose `c` is initialised.
                        unsafe { blocks[vectors - 1][rows - 1](&block) }
                    }
                }
            }
        }
    }
}

/// One register block: up to 12 rows by one or two vectors of columns.
struct Block {
    a: *const u32,
    b: *const u32,
    c: *mut f32,
    segments: usize,
    segment_len: usize,
    a_segment: usize,
    /// Stride of the rows where `a` is contiguous along the sum, of the sum where it is contiguous along rows.
    stride: usize,
    c_row: usize,
    /// Columns to store from the last vector, 1 to 16.
    last_lanes: usize,
    accumulate: bool,
}

type BlockFn = unsafe fn(&Block);

/// Functions for 1 to 12 rows, by one and by two vectors.
macro_rules! block_table {
    ($function:ident, $along:literal) => {{
        const TABLE: BlockTable = [
        block_table!(@row $function, 1, $along),
        block_table!(@row $function, 2, $along),
        ];
        &TABLE
    }};
    (@row $function:ident, $vectors:literal, $along:literal) => {
        [
            $function::<1, $vectors, $along>,
            $function::<2, $vectors, $along>,
            $function::<3, $vectors, $along>,
            $function::<4, $vectors, $along>,
            $function::<5, $vectors, $along>,
            $function::<6, $vectors, $along>,
            $function::<7, $vectors, $along>,
            $function::<8, $vectors, $along>,
            $function::<9, $vectors, $along>,
            $function::<10, $vectors, $along>,
            $function::<11, $vectors, $along>,
            $function::<12, $vectors, $along>,
        ]
    };
}

type BlockTable = [[BlockFn; MAX_ROWS]; 2];

/// The blocks for this processor, by vectors and rows. Each may only be called with blocks whose words all lie
/// inside their operands, and whose `c` is initialised where `accumulate` is set.
fn blocks(word: Word, along_k: bool) -> &'static BlockTable {
    match (level(), word, along_k) {
        #[cfg(target_arch = "x86_64")]
        (Level::Avx512, Word::F32, true) => block_table!(block_f32_avx512, true),
        #[cfg(target_arch = "x86_64")]
        (Level::Avx512, Word::F32, false) => block_table!(block_f32_avx512, false),
        #[cfg(target_arch = "x86_64")]
        (Level::Avx512, Word::Bf16Pair, true) if has_bf16() => {
            block_table!(block_bf16_avx512, true)
        }
        #[cfg(target_arch = "x86_64")]
        (Level::Avx512, Word::Bf16Pair, false) if has_bf16() => {
            block_table!(block_bf16_avx512, false)
        }
        #[cfg(target_arch = "x86_64")]
        (Level::Avx2, Word::F32, true) => block_table!(block_f32_avx2, true),
        #[cfg(target_arch = "x86_64")]
        (Level::Avx2, Word::F32, false) => block_table!(block_f32_avx2, false),
        (_, Word::F32, true) => block_table!(block_f32_portable, true),
        (_, Word::F32, false) => block_table!(block_f32_portable, false),
        (_, Word::Bf16Pair, _) => unreachable!("bf16 words are only packed where `has_bf16`"),
    }
}

/// The `f32` blocks of this processor that round once for each multiply-add.
fn fused_blocks(along_k: bool) -> &'static BlockTable {
    match level() {
        Level::Portable if along_k => block_table!(block_f32_fused, true),
        Level::Portable => block_table!(block_f32_fused, false),
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 | Level::Avx512 => blocks(Word::F32, along_k),
    }
}

/// The AVX-512 block, written once for both instructions.
#[cfg(target_arch = "x86_64")]
macro_rules! avx512_block {
    ($name:ident, $features:literal, |$acc:ident, $av:ident, $bv:ident| $multiply_add:expr) => {
        /// # Safety
        /// As for [`blocks`], and the processor has the features.
        #[target_feature(enable = $features)]
        unsafe fn $name<const ROWS: usize, const VECTORS: usize, const ALONG_K: bool>(t: &Block) {
            use std::arch::x86_64::*;
            // SAFETY: the contract of `blocks` covers every pointer computed here.
            unsafe {
                let mut acc = [[_mm512_setzero_ps(); VECTORS]; ROWS];
                let mut b = t.b;
                let stride = t.stride;
                for segment in 0..t.segments {
                    let mut a = t.a.add(segment * t.a_segment);
                    for _ in 0..t.segment_len {
                        let mut bv = [_mm512_setzero_ps(); VECTORS];
                        for v in 0..VECTORS {
                            bv[v] = _mm512_loadu_ps(b.add(v * LANES).cast());
                        }
                        for m in 0..ROWS {
                            let word = if ALONG_K {
                                *a.add(m * stride)
                            } else {
                                *a.add(m)
                            };
                            let $av = _mm512_castsi512_ps(_mm512_set1_epi32(word as i32));
                            for v in 0..VECTORS {
                                let ($acc, $bv) = (acc[m][v], bv[v]);
                                acc[m][v] = $multiply_add;
                            }
                        }
                        a = a.add(if ALONG_K { 1 } else { stride });
                        b = b.add(VECTORS * LANES);
                    }
                }
                let last: __mmask16 = 0xffff >> (LANES - t.last_lanes);
                for m in 0..ROWS {
                    for v in 0..VECTORS {
                        let c = t.c.add(m * t.c_row + v * LANES);
                        let mask = if v + 1 == VECTORS { last } else { 0xffff };
                        let mut value = acc[m][v];
                        if t.accumulate {
                            value = _mm512_add_ps(value, _mm512_maskz_loadu_ps(mask, c));
                        }
                        _mm512_mask_storeu_ps(c, mask, value);
                    }
                }
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
avx512_block!(block_f32_avx512, "avx512f", |acc, av, bv| _mm512_fmadd_ps(
    av, bv, acc
));

#[cfg(target_arch = "x86_64")]
avx512_block!(block_bf16_avx512, "avx512f,avx512bf16", |acc, av, bv| {
    _mm512_dpbf16_ps(
        acc,
        std::mem::transmute::<__m512, __m512bh>(av),
        std::mem::transmute::<__m512, __m512bh>(bv),
    )
});

/// # Safety
/// As for [`blocks`], and the processor has the features.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn block_f32_avx2<const ROWS: usize, const VECTORS: usize, const ALONG_K: bool>(t: &Block) {
    // SAFETY: passed on to the caller.
    unsafe { block_f32::<ROWS, VECTORS, ALONG_K, true>(t) }
}

/// # Safety
/// As for [`blocks`].
unsafe fn block_f32_portable<const ROWS: usize, const VECTORS: usize, const ALONG_K: bool>(
    t: &Block,
) {
    // SAFETY: passed on to the caller.
    unsafe { block_f32::<ROWS, VECTORS, ALONG_K, false>(t) }
}

/// # Safety
/// As for [`blocks`].
unsafe fn block_f32_fused<const ROWS: usize, const VECTORS: usize, const ALONG_K: bool>(t: &Block) {
    // SAFETY: passed on to the caller.
    unsafe { block_f32::<ROWS, VECTORS, ALONG_K, true>(t) }
}

/// The block in plain Rust, left to the compiler to vectorise. Rows are taken in pairs so that the sums stay in
/// the registers of a processor that has sixteen.
///
/// # Safety
/// As for [`blocks`].
#[inline(always)]
unsafe fn block_f32<
    const ROWS: usize,
    const VECTORS: usize,
    const ALONG_K: bool,
    const FMA: bool,
>(
    t: &Block,
) {
    for row in 0..ROWS {
        for v in 0..VECTORS {
            let lanes = if v + 1 == VECTORS {
                t.last_lanes
            } else {
                LANES
            };
            // SAFETY: the contract of `blocks` covers every pointer computed here.
            unsafe {
                let mut acc = [0f32; LANES];
                let mut b = t.b.add(v * LANES);
                for segment in 0..t.segments {
                    let (row_step, k_step) = if ALONG_K {
                        (t.stride, 1)
                    } else {
                        (1, t.stride)
                    };
                    let mut a = t.a.add(segment * t.a_segment + row * row_step);
                    for _ in 0..t.segment_len {
                        let av = f32::from_bits(*a);
                        let bv = &*b.cast::<[f32; LANES]>();
                        for l in 0..LANES {
                            acc[l] = if FMA {
                                av.mul_add(bv[l], acc[l])
                            } else {
                                acc[l] + av * bv[l]
                            };
                        }
                        a = a.add(k_step);
                        b = b.add(VECTORS * LANES);
                    }
                }
                let c = t.c.add(row * t.c_row + v * LANES);
                for (l, value) in acc.iter().enumerate().take(lanes) {
                    let before = if t.accumulate { *c.add(l) } else { 0. };
                    *c.add(l) = before + value;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::print_stdout)]
    use super::*;

    /// Every `f32` table that this processor can run, for the given orientation.
    fn tables(along_k: bool) -> Vec<(&'static str, &'static BlockTable)> {
        let mut tables: Vec<(&str, &BlockTable)> = Vec::new();
        tables.push((
            "portable",
            if along_k {
                block_table!(block_f32_portable, true)
            } else {
                block_table!(block_f32_portable, false)
            },
        ));
        tables.push((
            "fused",
            if along_k {
                block_table!(block_f32_fused, true)
            } else {
                block_table!(block_f32_fused, false)
            },
        ));
        #[cfg(target_arch = "x86_64")]
        if level() != Level::Portable {
            tables.push((
                "avx2",
                if along_k {
                    block_table!(block_f32_avx2, true)
                } else {
                    block_table!(block_f32_avx2, false)
                },
            ));
        }
        #[cfg(target_arch = "x86_64")]
        if level() == Level::Avx512 {
            tables.push((
                "avx512",
                if along_k {
                    block_table!(block_f32_avx512, true)
                } else {
                    block_table!(block_f32_avx512, false)
                },
            ));
        }
        tables
    }

    /// Small integers: every sum is exact, so all versions must agree to the bit.
    fn words(len: usize, modulus: u32) -> Vec<u32> {
        (0..len as u32)
            .map(|i| {
                ((i * 7919 % modulus) as f32 - modulus as f32 / 2.)
                    .floor()
                    .to_bits()
            })
            .collect()
    }

    #[test]
    fn every_instruction_set_computes_the_formula_in_the_head_of_the_module() {
        for (rows, columns, along_k) in [
            (1, 1, true),
            (12, 32, true),
            (29, 47, true),
            (13, 40, false),
            (7, 16, false),
        ] {
            let (segments, segment_len) = (5, 3);
            let (a_row, a_k, a_segment, a_outer) = if along_k {
                (4, 1, 4 * rows, 3)
            } else {
                (1, rows + 1, 3 * (rows + 1), 2)
            };
            let gemm = Gemm {
                word: Word::F32,
                outer: 2,
                rows,
                columns,
                segments,
                segment_len,
                a_outer,
                a_row,
                a_segment,
                a_k,
                c_outer: rows * columns,
                c_row: columns,
                segment_block: 2,
                accumulate: true,
            };
            let a = words(
                a_outer + rows * a_row + segments * a_segment + segment_len * a_k,
                11,
            );
            let depth = gemm.depth();
            let b = words(Gemm::panel_words(depth, columns), 13);
            let at = |words: &[u32], i: usize| f32::from_bits(words[i]);
            let mut expected = vec![3.; 2 * rows * columns];
            for (i, expected) in expected.iter_mut().enumerate() {
                let (outer, row, column) = (i / columns / rows, i / columns % rows, i % columns);
                let panel = column / PANEL * PANEL;
                let width = (columns - panel).min(PANEL).div_ceil(LANES) * LANES;
                for k in 0..depth {
                    let (segment, inner) = (k / segment_len, k % segment_len);
                    let a = at(
                        &a,
                        outer * a_outer + row * a_row + segment * a_segment + inner * a_k,
                    );
                    *expected += a * at(&b, panel * depth + k * width + column - panel);
                }
            }
            for (name, table) in tables(along_k) {
                let mut c = vec![3.; 2 * rows * columns];
                gemm.run_with(table, &a, &b, as_uninit(&mut c));
                assert_eq!(c, expected, "{name}, {rows} rows, {columns} columns");
            }
        }
    }

    /// Values whose products round: only the same chain of operations gives the same bits.
    #[test]
    fn fused_blocks_agree_to_the_bit_on_every_instruction_set() {
        let words = |len: usize, seed: u32| -> Vec<u32> {
            let value = |i: u32| (i.wrapping_mul(2_654_435_761) ^ seed) as f32 / 4e9 - 0.5;
            (0..len as u32).map(|i| value(i).to_bits()).collect()
        };
        let (rows, columns, depth) = (29, 47, 71);
        let gemm = Gemm {
            word: Word::F32,
            outer: 1,
            rows,
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
        let a = words(rows * depth, 17);
        let b = words(Gemm::panel_words(depth, columns), 29);
        let run = |table| {
            let mut c = vec![0.; rows * columns];
            gemm.run_with(table, &a, &b, as_uninit(&mut c));
            c.into_iter().map(f32::to_bits).collect::<Vec<_>>()
        };
        let plain = run(block_table!(block_f32_fused, true));
        for (name, table) in tables(true) {
            assert_eq!(run(table) == plain, name != "portable", "{name}");
        }
    }

    #[test]
    #[should_panic(expected = "left operand")]
    fn an_operand_that_is_too_short_is_refused() {
        let gemm = Gemm {
            word: Word::F32,
            outer: 1,
            rows: 2,
            columns: 1,
            segments: 1,
            segment_len: 4,
            a_outer: 0,
            a_row: 4,
            a_segment: 0,
            a_k: 1,
            c_outer: 0,
            c_row: 1,
            segment_block: 1,
            accumulate: false,
        };
        gemm.run(&[0; 7], &[0; 64], &mut [MaybeUninit::new(0.); 2]);
    }

    #[test]
    fn hardware_rounding_to_bf16_is_to_nearest_even() {
        if !has_bf16() {
            println!("skipped: this processor has no AVX512-BF16");
            return;
        }
        for len in [2, 16, 18, 30, 64] {
            let values: Vec<f32> = (0..len).map(|i| (i as f32 - 7.5) * 1.003_906_3).collect();
            let mut found = vec![0; len / 2];
            round_pairs(&values, &mut found);
            let expected: Vec<u32> = values
                .chunks_exact(2)
                .map(|pair| {
                    let round = |v: f32| {
                        let bits = v.to_bits();
                        (bits + 0x7fff + ((bits >> 16) & 1)) >> 16
                    };
                    round(pair[0]) | (round(pair[1]) << 16)
                })
                .collect();
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn scratch_is_aligned_and_comes_back_from_the_pool() {
        let first = {
            let mut scratch = Scratch::take(1000);
            scratch.fill(7);
            scratch.as_ptr()
        };
        let again = Scratch::take(900);
        assert_eq!(again.as_ptr(), first);
        assert_eq!(again.len(), 900);
        assert_eq!(first as usize % 64, 0);
    }
}
