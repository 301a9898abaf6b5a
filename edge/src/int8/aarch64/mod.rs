//! The kernels for ARM. Activations are signed here: stored as `byte ^ 0x80`.

mod dot;
mod i8mm;
mod neon;

use std::arch::aarch64::*;

pub(super) use dot::{NEON_DOT, sdot};
pub(super) use i8mm::{NEON_I8MM, smmla};
pub(super) use neon::NEON;

use super::kernel::Convolve;

/// Sums of a cell, four channels each, to their bytes. `first` is the channel of the first; what is beyond the
/// convolution's channels is not stored.
///
/// # Safety
/// `cell` is one of the job's, and multipliers and bias reach to `first + 4 * VECTORS`.
#[expect(unsafe_code, reason = "kernel")]
#[inline]
#[target_feature(enable = "neon")]
unsafe fn finish<const VECTORS: usize>(
    job: &Convolve<'_>,
    cell: usize,
    first: usize,
    sums: [int32x4_t; VECTORS],
) {
    // SAFETY: as promised to this function; no more than the cell's channels are written.
    unsafe {
        let zero = vdup_n_s16(i16::from(job.zero_point) - 128);
        let mut words = [vdup_n_s16(0); VECTORS];
        for v in 0..VECTORS {
            let multiplier = vld1q_f32(job.multipliers.add(first + 4 * v));
            let steps = vmulq_f32(vcvtq_f32_s32(sums[v]), multiplier);
            // Rounds half to even; every narrowing saturates, and saturating twice is saturating once.
            words[v] = vqadd_s16(vqmovn_s32(vcvtnq_s32_f32(steps)), zero);
        }
        if job.residual.is_some() || job.channels - first < 4 * VECTORS {
            return finish_slowly(job, cell, first, words);
        }
        let to = job
            .output
            .add(*job.output_offsets.get_unchecked(cell) as usize + first);
        if VECTORS == 1 {
            let bytes = vqmovn_s16(vcombine_s16(words[0], words[0]));
            // A cell starts at any byte, and a store of a lane wants four of them aligned.
            let four = vget_lane_u32::<0>(vreinterpret_u32_s8(bytes));
            to.cast::<u32>().write_unaligned(four);
        }
        for v in (0..VECTORS / 2 * 2).step_by(2) {
            let bytes = vqmovn_s16(vcombine_s16(words[v], words[v + 1]));
            vst1_s8(to.add(4 * v).cast(), bytes);
        }
    }
}

/// The rest of [`finish`] where there is an addition, or where channels end: four at a time.
///
/// # Safety
/// As [`finish`].
#[expect(unsafe_code, reason = "kernel")]
#[inline(never)]
#[target_feature(enable = "neon")]
unsafe fn finish_slowly<const VECTORS: usize>(
    job: &Convolve<'_>,
    cell: usize,
    first: usize,
    words: [int16x4_t; VECTORS],
) {
    // SAFETY: as promised to this function; no more than the cell's channels are read or written.
    unsafe {
        for (v, words) in words.into_iter().enumerate() {
            let channel = first + 4 * v;
            if channel >= job.channels {
                break;
            }
            let here = (job.channels - channel).min(4);
            let flip = vdup_n_u8(0x80);
            let mut bytes = vqmovn_s16(vcombine_s16(words, words));
            if let Some(residual) = &job.residual {
                let at = *residual.offsets.get_unchecked(cell) as usize + channel;
                let from = residual.input.add(at);
                let other = if here == 4 {
                    from.cast::<u32>().read_unaligned()
                } else {
                    let mut part = [0_u8; 4];
                    std::ptr::copy_nonoverlapping(from, part.as_mut_ptr(), here);
                    u32::from_ne_bytes(part)
                };
                let number = |bytes: uint8x8_t| {
                    let bytes = vmovl_u8(veor_u8(bytes, flip));
                    vcvtq_f32_u32(vmovl_u16(vget_low_u16(bytes)))
                };
                let other = number(vreinterpret_u8_u32(vdup_n_u32(other)));
                let sum = number(vreinterpret_u8_s8(bytes));
                let (sum_ratio, other_ratio) = residual.ratios();
                let fixed = vdupq_n_f32(residual.add.fixed());
                let total = if residual.sum_is_first {
                    vfmaq_n_f32(vfmaq_n_f32(fixed, other, other_ratio), sum, sum_ratio)
                } else {
                    vfmaq_n_f32(vfmaq_n_f32(fixed, sum, sum_ratio), other, other_ratio)
                };
                let total = vqmovn_s32(vcvtnq_s32_f32(total));
                let total = vqmovun_s16(vcombine_s16(total, total));
                bytes = vreinterpret_s8_u8(veor_u8(total, flip));
            }
            let to = job
                .output
                .add(*job.output_offsets.get_unchecked(cell) as usize + channel);
            let four = vget_lane_u32::<0>(vreinterpret_u32_s8(bytes));
            if here == 4 {
                to.cast::<u32>().write_unaligned(four);
            } else {
                std::ptr::copy_nonoverlapping(four.to_ne_bytes().as_ptr(), to, here);
            }
        }
    }
}

/// The bias of four channels, and of the cell.
///
/// # Safety
/// As [`finish`].
#[expect(unsafe_code, reason = "kernel")]
#[inline]
#[target_feature(enable = "neon")]
unsafe fn biased(job: &Convolve<'_>, cell: usize, channel: usize) -> int32x4_t {
    // SAFETY: as promised to this function.
    unsafe {
        let bias = vld1q_s32(job.bias.add(channel));
        if job.cell_bias.is_null() {
            bias
        } else {
            vaddq_s32(bias, vdupq_n_s32(*job.cell_bias.add(cell)))
        }
    }
}
