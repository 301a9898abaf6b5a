//! ARMv8.2 with dotprod: `sdot` adds four products to each of four lanes, sixteen an instruction.
//!
//! A tile is six cells by sixteen channels: 24 sums, six registers of activations and two of weights are all that there
//! are. The loop is written in assembler, so that all of them stay where they are, and because the intrinsic is not
//! stable. Sixteen bytes of depth are 96 `sdot` and 16 other instructions.

use std::arch::aarch64::*;
use std::arch::asm;
use std::ops::Range;

use super::super::kernel::{Convolve, Kernels};
use super::super::maps;
use super::super::path::Path;
use super::{biased, finish};

const CELLS: usize = 6;
const CHANNELS: usize = 16;

pub(in super::super) const NEON_DOT: Kernels = Kernels {
    path: Path::NeonDot,
    signed: true,
    wide: false,
    group: 4,
    step: 4,
    cells: CELLS,
    block: |_| CHANNELS,
    convolve,
    maps: maps::PORTABLE,
};

/// # Safety
/// The processor has dotprod, and the job holds what its fields say.
#[expect(unsafe_code, reason = "kernel")]
unsafe fn convolve(job: &Convolve<'_>, cells: Range<usize>) {
    // SAFETY: weights are packed so for this path, and the cells are of the range.
    unsafe {
        job.tiles(cells, CELLS, CHANNELS, 4, |weights, first, cell, here| {
            tile(job, weights, first, cell, here);
        });
    }
}

/// Adds four products to each lane of the sums `$sum`: of the weights in `$weights` and a lane of a cell's bytes.
macro_rules! sdot {
    ($sum:literal, $number:literal, $weights:literal, $cell:literal, $lane:literal) => {
        concat!(
            "sdot {",
            $sum,
            $number,
            ":v}.4s, {",
            $weights,
            ":v}.16b, {",
            $cell,
            ":v}.4b[",
            $lane,
            "]\n",
        )
    };
}

/// Two registers of weights by one lane of six cells, whose sums are `a` to `f`, each followed by the number of the
/// weights among the four registers of a block.
macro_rules! twelve {
    ($lane:literal, $first:literal, $second:literal) => {
        concat!(
            "ldp {wa:q}, {wb:q}, [{w}], #32\n",
            sdot!("a", $first, "wa", "x0", $lane),
            sdot!("b", $first, "wa", "x1", $lane),
            sdot!("c", $first, "wa", "x2", $lane),
            sdot!("d", $first, "wa", "x3", $lane),
            sdot!("e", $first, "wa", "x4", $lane),
            sdot!("f", $first, "wa", "x5", $lane),
            sdot!("a", $second, "wb", "x0", $lane),
            sdot!("b", $second, "wb", "x1", $lane),
            sdot!("c", $second, "wb", "x2", $lane),
            sdot!("d", $second, "wb", "x3", $lane),
            sdot!("e", $second, "wb", "x4", $lane),
            sdot!("f", $second, "wb", "x5", $lane),
        )
    };
}

/// A loop over `$n` steps of `$bytes` bytes of depth, loaded as `$form` registers, multiplied lane by lane.
macro_rules! steps {
    ($n:expr, $w:ident, $at:ident, $sums:ident, $form:literal, $bytes:literal, [$($lane:literal),*]) => {
        asm!(
            "2:",
            concat!("ldr {x0:", $form, "}, [{p0}], #", $bytes),
            concat!("ldr {x1:", $form, "}, [{p1}], #", $bytes),
            concat!("ldr {x2:", $form, "}, [{p2}], #", $bytes),
            concat!("ldr {x3:", $form, "}, [{p3}], #", $bytes),
            concat!("ldr {x4:", $form, "}, [{p4}], #", $bytes),
            concat!("ldr {x5:", $form, "}, [{p5}], #", $bytes),
            $(twelve!($lane, "0", "1"), twelve!($lane, "2", "3"),)*
            "subs {n}, {n}, #1",
            "b.ne 2b",
            n = inout(reg) $n => _,
            w = inout(reg) $w,
            p0 = inout(reg) $at[0], p1 = inout(reg) $at[1], p2 = inout(reg) $at[2],
            p3 = inout(reg) $at[3], p4 = inout(reg) $at[4], p5 = inout(reg) $at[5],
            x0 = out(vreg) _, x1 = out(vreg) _, x2 = out(vreg) _,
            x3 = out(vreg) _, x4 = out(vreg) _, x5 = out(vreg) _,
            wa = out(vreg) _, wb = out(vreg) _,
            a0 = inout(vreg) $sums[0][0], a1 = inout(vreg) $sums[0][1],
            a2 = inout(vreg) $sums[0][2], a3 = inout(vreg) $sums[0][3],
            b0 = inout(vreg) $sums[1][0], b1 = inout(vreg) $sums[1][1],
            b2 = inout(vreg) $sums[1][2], b3 = inout(vreg) $sums[1][3],
            c0 = inout(vreg) $sums[2][0], c1 = inout(vreg) $sums[2][1],
            c2 = inout(vreg) $sums[2][2], c3 = inout(vreg) $sums[2][3],
            d0 = inout(vreg) $sums[3][0], d1 = inout(vreg) $sums[3][1],
            d2 = inout(vreg) $sums[3][2], d3 = inout(vreg) $sums[3][3],
            e0 = inout(vreg) $sums[4][0], e1 = inout(vreg) $sums[4][1],
            e2 = inout(vreg) $sums[4][2], e3 = inout(vreg) $sums[4][3],
            f0 = inout(vreg) $sums[5][0], f1 = inout(vreg) $sums[5][1],
            f2 = inout(vreg) $sums[5][2], f3 = inout(vreg) $sums[5][3],
            options(nostack, readonly),
        )
    };
}

/// Four products for each of four channels; what [`super::super::peak`] measures.
#[expect(unsafe_code, reason = "the intrinsic is not stable")]
#[inline]
#[target_feature(enable = "neon,dotprod")]
pub(in super::super) fn sdot(
    mut sums: int32x4_t,
    cells: int8x16_t,
    channels: int8x16_t,
) -> int32x4_t {
    // SAFETY: an instruction of the feature that this function is compiled for, on registers alone.
    unsafe {
        asm!(
            "sdot {0:v}.4s, {1:v}.16b, {2:v}.16b",
            inout(vreg) sums, in(vreg) cells, in(vreg) channels,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sums
}

#[expect(unsafe_code, reason = "kernel")]
#[expect(
    clippy::needless_range_loop,
    reason = "unrolled: sums stay in registers"
)]
#[target_feature(enable = "neon,dotprod")]
unsafe fn tile(job: &Convolve<'_>, mut w: *const u8, first: usize, cell: usize, here: usize) {
    // SAFETY: offsets, runs and weights are as long as the job says; the assembler reads `steps * 4` bytes of every run
    // and the weights that belong to them, and changes no memory. No more than `here` cells are stored.
    unsafe {
        let windows = job.windows::<CELLS>(cell, here, 1);
        let mut sums: [[int32x4_t; 4]; CELLS] = std::array::from_fn(|i| {
            let cell = cell + i.min(here - 1);
            std::array::from_fn(|v| biased(job, cell, first + 4 * v))
        });
        let (sixteens, fours) = (job.steps / 4, job.steps % 4);
        for &run in job.runs {
            let mut at = windows.map(|window| window.add(run as usize));
            if sixteens > 0 {
                steps!(sixteens, w, at, sums, "q", "16", ["0", "1", "2", "3"]);
            }
            if fours > 0 {
                steps!(fours, w, at, sums, "s", "4", ["0"]);
            }
            let _ = at;
        }
        for i in 0..CELLS {
            if i == here {
                break;
            }
            finish(job, cell + i, first, sums[i]);
        }
    }
}
