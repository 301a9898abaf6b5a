//! Any ARMv8: products of 16 bits, two added, then widened and added to 32.
//!
//! Sixteen bytes of a cell and of a channel meet in three instructions: `smull`, `smlal2`, `sadalp`. The sum of two
//! products fits into 16 bits unless both are `-128 * -128`; where a weight is -128 (templates are weights, too) every
//! product is widened by itself. Four partial sums a channel are added up at the end.

use std::arch::aarch64::*;
use std::ops::Range;

use super::super::kernel::{Convolve, Kernels};
use super::super::maps;
use super::super::path::Path;
use super::{biased, finish};

const CELLS: usize = 4;
const CHANNELS: usize = 4;

pub(in super::super) const NEON: Kernels = Kernels {
    path: Path::Neon,
    signed: true,
    wide: false,
    group: 16,
    step: 16,
    cells: CELLS,
    block: |_| CHANNELS,
    convolve,
    maps: maps::PORTABLE,
};

/// # Safety
/// The job holds what its fields say.
#[expect(unsafe_code, reason = "kernel")]
unsafe fn convolve(job: &Convolve<'_>, cells: Range<usize>) {
    // SAFETY: as promised to this function.
    unsafe {
        if job.pairs_fit {
            blocks::<true>(job, cells);
        } else {
            blocks::<false>(job, cells);
        }
    }
}

#[expect(unsafe_code, reason = "kernel")]
unsafe fn blocks<const PAIRS: bool>(job: &Convolve<'_>, cells: Range<usize>) {
    // SAFETY: weights are packed so for this path, the cells are of the range; every ARMv8 has NEON.
    unsafe {
        job.tiles(cells, CELLS, CHANNELS, 16, |weights, first, cell, here| {
            tile::<PAIRS>(job, weights.cast(), first, cell, here);
        });
    }
}

#[expect(unsafe_code, reason = "kernel")]
#[expect(
    clippy::needless_range_loop,
    reason = "unrolled: sums stay in registers"
)]
#[inline]
#[target_feature(enable = "neon")]
unsafe fn tile<const PAIRS: bool>(
    job: &Convolve<'_>,
    mut weights: *const i8,
    first: usize,
    cell: usize,
    here: usize,
) {
    // SAFETY: offsets, runs and weights are as long as the job says; no more than `here` cells are stored.
    unsafe {
        let windows = job
            .windows::<CELLS>(cell, here, 1)
            .map(<*const u8>::cast::<i8>);
        let mut sums = [[vdupq_n_s32(0); CHANNELS]; CELLS];
        for &run in job.runs {
            let mut at = windows.map(|window| window.add(run as usize));
            for _ in 0..job.steps {
                let x = at.map(|at| vld1q_s8(at));
                at = at.map(|at| at.add(16));
                for c in 0..CHANNELS {
                    let w = vld1q_s8(weights.add(c * 16));
                    for i in 0..CELLS {
                        let low = vmull_s8(vget_low_s8(x[i]), vget_low_s8(w));
                        if PAIRS {
                            let both = vmlal_high_s8(low, x[i], w);
                            sums[i][c] = vpadalq_s16(sums[i][c], both);
                        } else {
                            sums[i][c] = vpadalq_s16(sums[i][c], low);
                            sums[i][c] = vpadalq_s16(sums[i][c], vmull_high_s8(x[i], w));
                        }
                    }
                }
                weights = weights.add(CHANNELS * 16);
            }
        }
        for i in 0..CELLS {
            if i == here {
                break;
            }
            let [a, b, c, d] = sums[i];
            let sum = vpaddq_s32(vpaddq_s32(a, b), vpaddq_s32(c, d));
            let sum = vaddq_s32(sum, biased(job, cell + i, first));
            finish(job, cell + i, first, [sum]);
        }
    }
}
