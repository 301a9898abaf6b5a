//! ARMv8.6 with i8mm: `smmla` multiplies two cells by two channels over eight bytes of depth, 32 products an
//! instruction. A tile is eight cells by eight channels. Instruction by instruction in assembler: the intrinsic is not
//! stable.

use std::arch::aarch64::*;
use std::arch::asm;
use std::ops::Range;

use super::super::kernel::{Convolve, Kernels};
use super::super::maps;
use super::super::path::Path;
use super::{biased, finish};

const CELLS: usize = 8;
const CHANNELS: usize = 8;

pub(in super::super) const NEON_I8MM: Kernels = Kernels {
    path: Path::NeonI8mm,
    signed: true,
    wide: false,
    group: 8,
    step: 16,
    cells: CELLS,
    block: |_| CHANNELS,
    convolve,
    maps: maps::PORTABLE,
};

/// # Safety
/// The processor has i8mm, and the job holds what its fields say.
#[expect(unsafe_code, reason = "kernel")]
unsafe fn convolve(job: &Convolve<'_>, cells: Range<usize>) {
    // SAFETY: weights are packed so for this path, and the cells are of the range.
    unsafe {
        job.tiles(cells, CELLS, CHANNELS, 16, |weights, first, cell, here| {
            tile(job, weights.cast(), first, cell, here);
        });
    }
}

/// `sums + cells * channels`: lanes are cell 0 with channels 0 and 1, cell 1 with channels 0 and 1.
#[expect(unsafe_code, reason = "the intrinsic is not stable")]
#[inline]
#[target_feature(enable = "neon,i8mm")]
pub(in super::super) fn smmla(
    mut sums: int32x4_t,
    cells: int8x16_t,
    channels: int8x16_t,
) -> int32x4_t {
    // SAFETY: an instruction of the feature that this function is compiled for, on registers alone.
    unsafe {
        asm!(
            "smmla {0:v}.4s, {1:v}.16b, {2:v}.16b",
            inout(vreg) sums, in(vreg) cells, in(vreg) channels,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sums
}

#[expect(unsafe_code, reason = "kernel")]
#[inline]
#[target_feature(enable = "neon,i8mm")]
unsafe fn tile(job: &Convolve<'_>, mut weights: *const i8, first: usize, cell: usize, here: usize) {
    // SAFETY: offsets, runs and weights are as long as the job says; no more than `here` cells are stored.
    unsafe {
        let windows = job
            .windows::<CELLS>(cell, here, 1)
            .map(<*const u8>::cast::<i8>);
        let mut sums = [[vdupq_n_s32(0); CHANNELS / 2]; CELLS / 2];
        for &run in job.runs {
            let mut at = windows.map(|window| window.add(run as usize));
            for _ in 0..job.steps {
                let x = at.map(|at| vreinterpretq_s64_s8(vld1q_s8(at)));
                at = at.map(|at| at.add(16));
                for half in 0..2 {
                    let w: [int8x16_t; CHANNELS / 2] =
                        std::array::from_fn(|q| vld1q_s8(weights.add(16 * q)));
                    weights = weights.add(CHANNELS * 8);
                    for p in 0..CELLS / 2 {
                        let (a, b) = (x[2 * p], x[2 * p + 1]);
                        let pair = if half == 0 {
                            vzip1q_s64(a, b)
                        } else {
                            vzip2q_s64(a, b)
                        };
                        for q in 0..CHANNELS / 2 {
                            sums[p][q] = smmla(sums[p][q], vreinterpretq_s8_s64(pair), w[q]);
                        }
                    }
                }
            }
        }
        for (p, sums) in sums.into_iter().enumerate() {
            let wide = sums.map(|s| vreinterpretq_s64_s32(s));
            for odd in 0..2 {
                let i = 2 * p + odd;
                if i >= here {
                    break;
                }
                let of_cell: [int32x4_t; 2] = std::array::from_fn(|v| {
                    let (a, b) = (wide[2 * v], wide[2 * v + 1]);
                    let four = if odd == 0 {
                        vzip1q_s64(a, b)
                    } else {
                        vzip2q_s64(a, b)
                    };
                    let bias = biased(job, cell + i, first + 4 * v);
                    vaddq_s32(vreinterpretq_s32_s64(four), bias)
                });
                finish(job, cell + i, first, of_cell);
            }
        }
    }
}
