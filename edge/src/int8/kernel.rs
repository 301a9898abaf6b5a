//! The seam between the plan and the kernels: what one path gives, and what it is handed.
//!
//! Every path stores activations as bytes in HWC order with a border of zero points (the halo), so a convolution is a
//! matrix product whose rows overlap in memory and needs neither im2col nor a test for the edge of the map. Where the
//! instructions multiply signed bytes (ARM), a byte is stored with its top bit flipped.
//!
//! A window is a few **runs** of consecutive bytes: one for every row of the window, or one for every tap where the
//! bytes of neighbouring cells are not neighbours. Weights are packed in the order in which a kernel reads them and are
//! zero where a run is rounded up to whole steps, so what lies behind a run is read but does not matter.

use std::ops::Range;

use roadhound_shared::quantised::{QuantisedAdd, Requantise};

#[cfg(target_arch = "aarch64")]
use super::aarch64;
use super::maps::Maps;
use super::path::Path;
use super::scalar;
#[cfg(target_arch = "x86_64")]
use super::x86;

/// Bytes behind every buffer that a kernel may read (never write): the longest step, and a vector.
pub(super) const SLACK_BYTES: usize = 64;

/// How a path wants its operands, and its functions.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kernels {
    /// Which one this is.
    pub(super) path: Path,
    /// Activations are stored as `byte ^ 0x80`, so that they are signed.
    pub(super) signed: bool,
    /// Activations are widened to 16 bits before a convolution, and weights are packed as 16 bits.
    pub(super) wide: bool,
    /// Consecutive bytes of a run that meet in one lane of one instruction.
    pub(super) group: usize,
    /// Runs are rounded up to so many bytes.
    pub(super) step: usize,
    /// Output cells that are computed together; work is shared out in multiples of it.
    pub(super) cells: usize,
    /// Output channels that are packed together, for a convolution with so many of them.
    pub(super) block: fn(channels: usize) -> usize,
    /// Computes a range of output cells.
    ///
    /// # Safety
    /// The processor has the path, and the job holds what its fields say.
    pub(super) convolve: unsafe fn(&Convolve<'_>, Range<usize>),
    /// Everything else.
    pub(super) maps: Maps,
}

impl Kernels {
    /// The kernels of a path, or those of the scalar one where this build has no such path.
    pub(super) fn of(path: Path) -> Self {
        match path {
            #[cfg(target_arch = "x86_64")]
            Path::Avx2 => x86::AVX2,
            #[cfg(target_arch = "x86_64")]
            Path::AvxVnni => x86::AVX_VNNI,
            #[cfg(target_arch = "x86_64")]
            Path::Avx512Vnni256 => x86::AVX512_VNNI_256,
            #[cfg(target_arch = "x86_64")]
            Path::Avx512Vnni => x86::AVX512_VNNI,
            #[cfg(target_arch = "aarch64")]
            Path::Neon => aarch64::NEON,
            #[cfg(target_arch = "aarch64")]
            Path::NeonDot => aarch64::NEON_DOT,
            #[cfg(target_arch = "aarch64")]
            Path::NeonI8mm => aarch64::NEON_I8MM,
            _ => scalar::SCALAR,
        }
    }

    /// What a byte is stored as.
    pub(super) fn stored(&self, byte: u8) -> u8 {
        byte ^ self.flip()
    }

    /// What a byte is combined with on its way into and out of memory.
    pub(super) fn flip(&self) -> u8 {
        if self.signed { 0x80 } else { 0 }
    }

    /// The number that a kernel takes a stored byte for.
    pub(super) fn seen(&self, byte: u8) -> i32 {
        if self.signed {
            i32::from(byte) - 128
        } else {
            i32::from(byte)
        }
    }

    /// Bytes of one activation as `convolve` reads it.
    pub(super) fn input_bytes(&self) -> usize {
        if self.wide { 2 } else { 1 }
    }

    /// Place of a weight in the packed order, in elements: `depth` is the byte of the window, runs rounded up and laid
    /// end to end.
    pub(super) fn packed_at(
        &self,
        block: usize,
        total_depth: usize,
        channel: usize,
        depth: usize,
    ) -> usize {
        let (outer, inner) = (channel / block, channel % block);
        outer * block * total_depth
            + (depth / self.group * block + inner) * self.group
            + depth % self.group
    }
}

/// One convolution, ready to run: everything a kernel needs, checked when it was planned.
pub(super) struct Convolve<'a> {
    /// Where the offsets of the input start. Readable from every offset, plus every run's offset, for the length of a
    /// run and [`SLACK_BYTES`].
    pub(super) input: *const u8,
    /// For every output cell, where its window starts, in bytes.
    pub(super) input_offsets: &'a [u32],
    /// Where each run of a window starts, in bytes from the start of the window.
    pub(super) runs: &'a [u32],
    /// Steps in a run.
    pub(super) steps: usize,
    /// Packed weights: `blocks * block * runs * steps * step` of them, aligned to 64 bytes.
    pub(super) weights: *const u8,
    /// No weight is -128: the sum of two products fits into 16 bits.
    #[cfg_attr(
        not(target_arch = "aarch64"),
        expect(dead_code, reason = "asked on ARM only")
    )]
    pub(super) pairs_fit: bool,
    /// Output channels that are packed together.
    #[cfg_attr(
        target_arch = "aarch64",
        expect(dead_code, reason = "always the same there")
    )]
    pub(super) block: usize,
    /// Output channels.
    pub(super) channels: usize,
    /// What every sum starts from, one for each channel, padded to whole blocks.
    pub(super) bias: *const i32,
    /// What is added to the sums of each output cell, or null.
    pub(super) cell_bias: *const i32,
    /// What each channel's sum is multiplied with, padded to whole blocks.
    pub(super) multipliers: *const f32,
    /// The same as the reference wants it, one for each channel, or one for all.
    pub(super) requantise: &'a [Requantise],
    /// Zero point of the sum's byte.
    pub(super) zero_point: u8,
    /// An addition after it.
    pub(super) residual: Option<Residual<'a>>,
    /// Where the offsets of the output start. No two cells share bytes.
    pub(super) output: *mut u8,
    /// For every output cell, where its first channel goes.
    pub(super) output_offsets: &'a [u32],
}

/// The other side of a residual addition.
#[derive(Clone, Copy)]
pub(super) struct Residual<'a> {
    /// Where the offsets of the other map start.
    pub(super) input: *const u8,
    /// For every output cell, where its first channel is.
    pub(super) offsets: &'a [u32],
    /// The addition.
    pub(super) add: QuantisedAdd,
    /// The sum is its first operand, `a`, whose product is added last.
    pub(super) sum_is_first: bool,
}

impl Residual<'_> {
    /// `(of the sum, of the other)`
    pub(super) fn ratios(&self) -> (f32, f32) {
        let (a, b) = (self.add.ratio_a(), self.add.ratio_b());
        if self.sum_is_first { (a, b) } else { (b, a) }
    }
}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
#[expect(unsafe_code, reason = "what all kernels of registers do alike")]
impl Convolve<'_> {
    /// Calls `tile` with the packed weights of a block, the block's first channel, the first of at most `cells_together`
    /// cells, and how many they are: for all cells of one block of `block` channels, then for those of the next.
    /// `step_bytes` is what a step of one channel takes of the weights.
    ///
    /// # Safety
    /// The weights are packed in blocks of `block` channels and steps of `step_bytes`.
    #[inline(always)]
    pub(super) unsafe fn tiles(
        &self,
        cells: Range<usize>,
        cells_together: usize,
        block: usize,
        step_bytes: usize,
        mut tile: impl FnMut(*const u8, usize, usize, usize),
    ) {
        let block_bytes = self.runs.len() * self.steps * block * step_bytes;
        for (index, first) in (0..self.channels).step_by(block).enumerate() {
            // SAFETY: there are packed weights for every block of the channels.
            let weights = unsafe { self.weights.add(index * block_bytes) };
            for cell in cells.clone().step_by(cells_together) {
                tile(weights, first, cell, cells_together.min(cells.end - cell));
            }
        }
    }

    /// Where the windows of a tile of `here` cells start, whose activations have `input_bytes` each. Where these are
    /// fewer than `CELLS` the last one comes again: it is computed again, and not stored.
    ///
    /// # Safety
    /// `cell` and the `here - 1` after it, of which there is at least the first, are cells of the job.
    #[inline(always)]
    pub(super) unsafe fn windows<const CELLS: usize>(
        &self,
        cell: usize,
        here: usize,
        input_bytes: usize,
    ) -> [*const u8; CELLS] {
        std::array::from_fn(|i| {
            // SAFETY: as promised to this function; every offset of the job lies in its input.
            unsafe {
                let at = *self.input_offsets.get_unchecked(cell + i.min(here - 1));
                self.input.add(at as usize * input_bytes)
            }
        })
    }
}
