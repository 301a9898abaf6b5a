//! 256-bit registers: eight channels each.
//!
//! One body, three ways to multiply: `vpdpbusd` in either of its two encodings, or `vpmaddwd` on activations and
//! weights of 16 bits for AVX2 alone. (`vpmaddubsw` would be shorter, but it saturates the sum of two products.)

use std::arch::x86_64::*;
use std::ops::Range;

use super::super::kernel::{Convolve, Kernels};
use super::super::maps;
use super::super::path::Path;

const LANES: usize = 8;
/// Six cells by two registers are twelve sums; weights, an activation and a product fill the sixteen registers.
const CELLS: usize = 6;

pub(in super::super) const AVX2: Kernels = Kernels {
    path: Path::Avx2,
    signed: false,
    wide: true,
    group: 2,
    step: 2,
    cells: CELLS,
    block,
    convolve: avx2::convolve,
    maps: maps::AVX2,
};

pub(in super::super) const AVX_VNNI: Kernels = Kernels {
    path: Path::AvxVnni,
    wide: false,
    group: 4,
    step: 4,
    convolve: avx_vnni::convolve,
    ..AVX2
};

pub(in super::super) const AVX512_VNNI_256: Kernels = Kernels {
    path: Path::Avx512Vnni256,
    convolve: avx512_vnni::convolve,
    ..AVX_VNNI
};

fn block(channels: usize) -> usize {
    if channels <= LANES { LANES } else { 2 * LANES }
}

/// The kernel for a set of instructions: `$dot` adds products to eight sums, `$input_bytes` is the size of an
/// activation.
macro_rules! kernel {
    ($name:ident, $feature:literal, $input_bytes:literal, $dot:expr) => {
        mod $name {
            use super::*;

            /// # Safety
            /// The processor has the instructions, and the job holds what its fields say.
            #[expect(unsafe_code, reason = "kernel")]
            pub(super) unsafe fn convolve(job: &Convolve<'_>, cells: Range<usize>) {
                // SAFETY: as promised to this function. `block` gives these widths only.
                unsafe {
                    match job.block / LANES {
                        1 => blocks::<1>(job, cells),
                        _ => blocks::<2>(job, cells),
                    }
                }
            }

            #[expect(unsafe_code, reason = "kernel")]
            #[target_feature(enable = $feature)]
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

            /// As [`super::super::zmm`] does it, and why.
            #[expect(unsafe_code, reason = "kernel")]
            #[inline(never)]
            #[target_feature(enable = $feature)]
            unsafe fn accumulate<const VECTORS: usize>(
                job: &Convolve<'_>,
                windows: &[*const u8; CELLS],
                mut weights: *const u8,
                sums: &mut [[__m256i; VECTORS]; CELLS],
            ) {
                let mut own = *sums;
                // SAFETY: runs and weights are as long as the job says.
                unsafe {
                    for &run in job.runs {
                        let mut at = run as usize * $input_bytes;
                        for _ in 0..job.steps {
                            let mut w = [_mm256_setzero_si256(); VECTORS];
                            for v in 0..VECTORS {
                                w[v] = _mm256_load_si256(weights.add(v * 32).cast());
                            }
                            for i in 0..CELLS {
                                let x = windows[i].add(at).cast::<i32>().read_unaligned();
                                let x = _mm256_set1_epi32(x);
                                for v in 0..VECTORS {
                                    own[i][v] = ($dot)(own[i][v], x, w[v]);
                                }
                            }
                            weights = weights.add(VECTORS * 32);
                            at += 4;
                        }
                    }
                }
                *sums = own;
            }

            #[expect(unsafe_code, reason = "kernel")]
            #[inline]
            #[target_feature(enable = $feature)]
            unsafe fn tile<const VECTORS: usize>(
                job: &Convolve<'_>,
                weights: *const u8,
                first: usize,
                cell: usize,
                here: usize,
            ) {
                // SAFETY: offsets, runs, weights, bias and multipliers are as long as the job says. No more than `here`
                // cells are stored, and of each the channels that there are.
                unsafe {
                    let windows = job.windows::<CELLS>(cell, here, $input_bytes);
                    let bias: [__m256i; VECTORS] = std::array::from_fn(|v| {
                        _mm256_loadu_si256(job.bias.add(first + v * LANES).cast())
                    });
                    let mut sums = [bias; CELLS];
                    if !job.cell_bias.is_null() {
                        for (i, sums) in sums.iter_mut().enumerate() {
                            let at = cell + i.min(here - 1);
                            let more = _mm256_set1_epi32(*job.cell_bias.add(at));
                            for sum in sums {
                                *sum = _mm256_add_epi32(*sum, more);
                            }
                        }
                    }
                    accumulate(job, &windows, weights, &mut sums);
                    for v in 0..VECTORS {
                        let channel = first + v * LANES;
                        if channel >= job.channels {
                            break;
                        }
                        let multiplier = _mm256_loadu_ps(job.multipliers.add(channel));
                        for i in 0..here {
                            finish(job, cell + i, channel, multiplier, sums[i][v]);
                        }
                    }
                }
            }
        }
    };
}

/// Eight sums of a cell to their bytes.
#[expect(unsafe_code, reason = "kernel")]
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn finish(
    job: &Convolve<'_>,
    cell: usize,
    channel: usize,
    multiplier: __m256,
    sums: __m256i,
) {
    let left = LANES.min(job.channels - channel);
    let zero = i32::from(job.zero_point);
    let least = _mm256_set1_ps(-zero as f32);
    let most = _mm256_set1_ps((255 - zero) as f32);
    let steps = _mm256_mul_ps(_mm256_cvtepi32_ps(sums), multiplier);
    let steps = _mm256_min_ps(_mm256_max_ps(steps, least), most);
    let mut bytes = _mm256_add_epi32(_mm256_cvtps_epi32(steps), _mm256_set1_epi32(zero));
    // SAFETY: no more than `left` bytes are read and written, at places that the job gives.
    unsafe {
        if let Some(residual) = &job.residual {
            let from = residual
                .input
                .add(*residual.offsets.get_unchecked(cell) as usize + channel);
            let other = if left == LANES {
                from.cast::<u64>().read_unaligned()
            } else {
                let mut part = [0_u8; LANES];
                std::ptr::copy_nonoverlapping(from, part.as_mut_ptr(), left);
                u64::from_le_bytes(part)
            };
            let other = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(other.cast_signed()));
            let other = _mm256_cvtepi32_ps(other);
            let sum = _mm256_cvtepi32_ps(bytes);
            let (sum_ratio, other_ratio) = residual.ratios();
            let (sum_ratio, other_ratio) = (_mm256_set1_ps(sum_ratio), _mm256_set1_ps(other_ratio));
            let fixed = _mm256_set1_ps(residual.add.fixed());
            let total = if residual.sum_is_first {
                _mm256_fmadd_ps(sum, sum_ratio, _mm256_fmadd_ps(other, other_ratio, fixed))
            } else {
                _mm256_fmadd_ps(other, other_ratio, _mm256_fmadd_ps(sum, sum_ratio, fixed))
            };
            let total = _mm256_max_ps(total, _mm256_setzero_ps());
            bytes = _mm256_cvtps_epi32(_mm256_min_ps(total, _mm256_set1_ps(255.0)));
        }
        let words = _mm_packs_epi32(
            _mm256_castsi256_si128(bytes),
            _mm256_extracti128_si256(bytes, 1),
        );
        let bytes = _mm_cvtsi128_si64(_mm_packus_epi16(words, words)).to_le_bytes();
        let to = job
            .output
            .add(*job.output_offsets.get_unchecked(cell) as usize + channel);
        if left == LANES {
            to.cast::<[u8; LANES]>().write_unaligned(bytes);
        } else {
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, left);
        }
    }
}

kernel!(avx2, "avx2,fma", 2, |sums, x, w| {
    _mm256_add_epi32(sums, _mm256_madd_epi16(x, w))
});
kernel!(avx_vnni, "avx2,fma,avxvnni", 1, |sums, x, w| {
    _mm256_dpbusd_avx_epi32(sums, x, w)
});
kernel!(
    avx512_vnni,
    "avx2,fma,avx512f,avx512bw,avx512vl,avx512vnni",
    1,
    |sums, x, w| _mm256_dpbusd_epi32(sums, x, w)
);
