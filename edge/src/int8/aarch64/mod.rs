//! The kernels for ARM. Activations are signed here: stored as `byte ^ 0x80`.

mod dot;
mod i8mm;
mod neon;

use std::arch::aarch64::*;

pub(super) use dot::NEON_DOT;
pub(super) use i8mm::NEON_I8MM;
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
    // SAFETY: as promised to this function; no more than the cell's channels are read or written.
    unsafe {
        let zero = vdupq_n_s16(i16::from(job.zero_point) - 128);
        let mut words = [vdup_n_s16(0); VECTORS];
        for v in 0..VECTORS {
            let multiplier = vld1q_f32(job.multipliers.add(first + 4 * v));
            let steps = vmulq_f32(vcvtq_f32_s32(sums[v]), multiplier);
            // Rounds half to even; every narrowing saturates, and saturating twice is saturating once.
            words[v] = vqadd_s16(vqmovn_s32(vcvtnq_s32_f32(steps)), vget_low_s16(zero));
        }
        let mut left = (job.channels - first).min(4 * VECTORS);
        let mut to = job
            .output
            .add(*job.output_offsets.get_unchecked(cell) as usize + first);
        let mut other = job.residual.as_ref().map(|residual| {
            let at = *residual.offsets.get_unchecked(cell) as usize + first;
            residual.input.add(at)
        });
        let mut v = 0;
        while v < VECTORS {
            let both = vcombine_s16(words[v], words[(v + 1).min(VECTORS - 1)]);
            let mut bytes = vqmovn_s16(both);
            let here = left.min(if v + 1 < VECTORS { 8 } else { 4 });
            if let (Some(from), Some(residual)) = (&mut other, &job.residual) {
                let mut part = [0_u8; 8];
                let from_part = if here == 8 {
                    vld1_u8(*from)
                } else {
                    std::ptr::copy_nonoverlapping(*from, part.as_mut_ptr(), here);
                    vld1_u8(part.as_ptr())
                };
                *from = from.add(here);
                let flip = vdup_n_u8(0x80);
                let sum = vmovl_u8(veor_u8(vreinterpret_u8_s8(bytes), flip));
                let from_part = vmovl_u8(veor_u8(from_part, flip));
                let (sum_ratio, other_ratio) = residual.ratios();
                let add = |sum: uint16x4_t, other: uint16x4_t| {
                    let sum = vcvtq_f32_u32(vmovl_u16(sum));
                    let other = vcvtq_f32_u32(vmovl_u16(other));
                    let fixed = vdupq_n_f32(residual.add.fixed());
                    let total = if residual.sum_is_first {
                        let inner = vfmaq_n_f32(fixed, other, other_ratio);
                        vfmaq_n_f32(inner, sum, sum_ratio)
                    } else {
                        let inner = vfmaq_n_f32(fixed, sum, sum_ratio);
                        vfmaq_n_f32(inner, other, other_ratio)
                    };
                    vqmovn_s32(vcvtnq_s32_f32(total))
                };
                let low = add(vget_low_u16(sum), vget_low_u16(from_part));
                let high = add(vget_high_u16(sum), vget_high_u16(from_part));
                let total = vqmovun_s16(vcombine_s16(low, high));
                bytes = vreinterpret_s8_u8(veor_u8(total, flip));
            }
            if here == 8 {
                vst1_s8(to.cast(), bytes);
            } else if here == 4 {
                to.cast::<u32>()
                    .write_unaligned(vget_lane_u32::<0>(vreinterpret_u32_s8(bytes)));
            } else {
                let mut part = [0_u8; 8];
                vst1_s8(part.as_mut_ptr().cast(), bytes);
                std::ptr::copy_nonoverlapping(part.as_ptr(), to, here);
            }
            to = to.add(here);
            left -= here;
            if left == 0 {
                break;
            }
            v += 2;
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
