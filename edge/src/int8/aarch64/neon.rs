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
    let block_bytes = job.runs.len() * job.steps * CHANNELS * 16;
    for (index, first) in (0..job.channels).step_by(CHANNELS).enumerate() {
        let mut cell = cells.start;
        while cell < cells.end {
            let here = CELLS.min(cells.end - cell);
            // SAFETY: the block is one of the packed ones, the cells are of the range; every ARMv8 has NEON.
            unsafe {
                let weights = job.weights.add(index * block_bytes);
                if job.pairs_fit {
                    tile::<true>(job, weights.cast(), first, cell, here);
                } else {
                    tile::<false>(job, weights.cast(), first, cell, here);
                }
            }
            cell += CELLS;
        }
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
    // SAFETY: offsets, runs and weights are as long as the job says. Where a tile has fewer cells the last one is
    // computed again and not stored.
    unsafe {
        let windows: [*const i8; CELLS] = std::array::from_fn(|i| {
            let at = *job.input_offsets.get_unchecked(cell + i.min(here - 1));
            job.input.add(at as usize).cast()
        });
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
