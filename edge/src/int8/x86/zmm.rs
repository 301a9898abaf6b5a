//! AVX512-VNNI: sixteen channels a register, four products a lane.
//!
//! `vpdpbusd` multiplies unsigned by signed bytes and adds four products to 32 bits without saturating. A tile is
//! `CELLS` output cells by `VECTORS` registers of channels; its sums stay in registers over the whole depth. Of
//! four bytes of a cell every lane gets the same, by a load that broadcasts.

use std::arch::x86_64::*;
use std::ops::Range;

use super::super::kernel::{Convolve, Kernels};
use super::super::maps;
use super::super::path::Path;

const LANES: usize = 16;
/// Eight cells by three registers are 24 sums; weights and an activation leave four of the 32 registers.
const CELLS: usize = 8;

pub(in super::super) const AVX512_VNNI: Kernels = Kernels {
    path: Path::Avx512Vnni,
    signed: false,
    wide: false,
    group: 4,
    step: 4,
    cells: CELLS,
    block,
    convolve,
    maps: maps::AVX512,
};

/// Registers of channels in a tile, by what a tile of each width takes and how many of them cover the channels.
fn block(channels: usize) -> usize {
    let vectors = channels.div_ceil(LANES);
    // In quarters of a register's worth; one or two registers leave the multipliers waiting for loads.
    let cost = |(width, cost): &(usize, usize)| vectors.div_ceil(*width) * cost;
    let (width, _) = [(3, 12), (2, 9), (1, 6)]
        .into_iter()
        .min_by_key(cost)
        .unwrap_or((1, 6));
    width * LANES
}

/// # Safety
/// The processor has AVX512-VNNI, and the job holds what its fields say.
#[expect(unsafe_code, reason = "kernel")]
unsafe fn convolve(job: &Convolve<'_>, cells: Range<usize>) {
    // SAFETY: as promised to this function. `block` gives these widths only.
    unsafe {
        match job.block / LANES {
            1 => blocks::<1>(job, cells),
            2 => blocks::<2>(job, cells),
            _ => blocks::<3>(job, cells),
        }
    }
}

#[expect(unsafe_code, reason = "kernel")]
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn blocks<const VECTORS: usize>(job: &Convolve<'_>, cells: Range<usize>) {
    // SAFETY: weights are packed so for this path, and the cells are of the range.
    unsafe {
        job.tiles(
            cells,
            CELLS,
            VECTORS * LANES,
            4,
            |weights, first, cell, here| {
                tile::<VECTORS>(job, weights, first, cell, here);
            },
        );
    }
}

/// Adds the products of the whole depth to `sums`. A function of its own with a copy of the sums: those that the rounding
/// afterwards picks by number would live in memory and be stored after every product.
#[expect(unsafe_code, reason = "kernel")]
#[expect(clippy::needless_range_loop, reason = "cells and registers by number")]
#[inline(never)]
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn accumulate<const VECTORS: usize>(
    job: &Convolve<'_>,
    windows: &[*const u8; CELLS],
    mut weights: *const u8,
    sums: &mut [[__m512i; VECTORS]; CELLS],
) {
    let mut own = *sums;
    // SAFETY: runs and weights are as long as the job says.
    unsafe {
        for &run in job.runs {
            let mut at = run as usize;
            for _ in 0..job.steps {
                let mut w = [_mm512_setzero_si512(); VECTORS];
                for v in 0..VECTORS {
                    w[v] = _mm512_load_si512(weights.add(v * 64).cast());
                }
                for i in 0..CELLS {
                    let x = windows[i].add(at).cast::<i32>().read_unaligned();
                    let x = _mm512_set1_epi32(x);
                    for v in 0..VECTORS {
                        own[i][v] = _mm512_dpbusd_epi32(own[i][v], x, w[v]);
                    }
                }
                weights = weights.add(VECTORS * 64);
                at += 4;
            }
        }
    }
    *sums = own;
}

/// `here` cells from `cell` on, `VECTORS` registers of channels from `first` on.
#[expect(unsafe_code, reason = "kernel")]
#[expect(clippy::needless_range_loop, reason = "cells and registers by number")]
#[inline]
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn tile<const VECTORS: usize>(
    job: &Convolve<'_>,
    weights: *const u8,
    first: usize,
    cell: usize,
    here: usize,
) {
    // SAFETY: offsets, runs, weights, bias and multipliers are as long as the job says. No more than `here` cells are
    // stored, and of each the channels that there are.
    unsafe {
        let windows = job.windows::<CELLS>(cell, here, 1);
        let bias: [__m512i; VECTORS] =
            std::array::from_fn(|v| _mm512_loadu_si512(job.bias.add(first + v * LANES).cast()));
        let mut sums = [bias; CELLS];
        if !job.cell_bias.is_null() {
            for (i, sums) in sums.iter_mut().enumerate() {
                let more = _mm512_set1_epi32(*job.cell_bias.add(cell + i.min(here - 1)));
                for sum in sums {
                    *sum = _mm512_add_epi32(*sum, more);
                }
            }
        }
        accumulate(job, &windows, weights, &mut sums);
        let zero = i32::from(job.zero_point);
        let least = _mm512_set1_ps(-zero as f32);
        let most = _mm512_set1_ps((255 - zero) as f32);
        let zero = _mm512_set1_epi32(zero);
        for v in 0..VECTORS {
            let channel = first + v * LANES;
            if channel >= job.channels {
                break;
            }
            let left = job.channels - channel;
            let mask = if left >= LANES {
                !0
            } else {
                (1_u16 << left) - 1
            };
            let multiplier = _mm512_loadu_ps(job.multipliers.add(channel));
            for i in 0..CELLS {
                if i == here {
                    break;
                }
                let steps = _mm512_mul_ps(_mm512_cvtepi32_ps(sums[i][v]), multiplier);
                let steps = _mm512_min_ps(_mm512_max_ps(steps, least), most);
                let mut bytes = _mm512_add_epi32(_mm512_cvtps_epi32(steps), zero);
                if let Some(residual) = &job.residual {
                    let offset = *residual.offsets.get_unchecked(cell + i) as usize + channel;
                    let other = _mm_maskz_loadu_epi8(mask, residual.input.add(offset).cast());
                    let other = _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(other));
                    let sum = _mm512_cvtepi32_ps(bytes);
                    let (sum_ratio, other_ratio) = residual.ratios();
                    let (sum_ratio, other_ratio) =
                        (_mm512_set1_ps(sum_ratio), _mm512_set1_ps(other_ratio));
                    let fixed = _mm512_set1_ps(residual.add.fixed());
                    let total = if residual.sum_is_first {
                        _mm512_fmadd_ps(sum, sum_ratio, _mm512_fmadd_ps(other, other_ratio, fixed))
                    } else {
                        _mm512_fmadd_ps(other, other_ratio, _mm512_fmadd_ps(sum, sum_ratio, fixed))
                    };
                    let total = _mm512_max_ps(total, _mm512_setzero_ps());
                    bytes = _mm512_cvtps_epi32(_mm512_min_ps(total, _mm512_set1_ps(255.0)));
                }
                let offset = *job.output_offsets.get_unchecked(cell + i) as usize + channel;
                let to = job.output.add(offset);
                let bytes = _mm512_cvtepi32_epi8(bytes);
                if mask == !0 {
                    _mm_storeu_si128(to.cast(), bytes);
                } else {
                    _mm_mask_storeu_epi8(to.cast(), mask, bytes);
                }
            }
        }
    }
}
