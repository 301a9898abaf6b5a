//! The reference: one number at a time, by the functions of [`roadhound_shared::quantised`].

use std::ops::Range;

use super::kernel::{Convolve, Kernels};
use super::path::Path;

pub(super) const SCALAR: Kernels = Kernels {
    path: Path::Scalar,
    signed: false,
    wide: false,
    group: 1,
    step: 1,
    cells: 1,
    block: |_| 1,
    convolve,
    maps: super::maps::PORTABLE,
};

/// # Safety
/// The job holds what its fields say.
#[expect(unsafe_code, reason = "reads the arena as planned")]
unsafe fn convolve(job: &Convolve<'_>, cells: Range<usize>) {
    let depth = job.runs.len() * job.steps;
    for cell in cells {
        let window = job.input_offsets[cell] as usize;
        for channel in 0..job.channels {
            // SAFETY: a window, the packed weights and the tables are as long as the job says; no two cells write the
            // same bytes.
            unsafe {
                let mut sum: i32 = *job.bias.add(channel);
                if !job.cell_bias.is_null() {
                    sum = sum.wrapping_add(*job.cell_bias.add(cell));
                }
                let mut weight = job.weights.add(channel * depth).cast::<i8>();
                for &run in job.runs {
                    let from = job.input.add(window + run as usize);
                    for at in 0..job.steps {
                        let product = i32::from(*from.add(at)) * i32::from(*weight);
                        sum = sum.wrapping_add(product);
                        weight = weight.add(1);
                    }
                }
                let requantise = job.requantise[channel.min(job.requantise.len() - 1)];
                let mut byte = requantise.apply(sum);
                if let Some(residual) = &job.residual {
                    let other = *residual
                        .input
                        .add(residual.offsets[cell] as usize + channel);
                    byte = if residual.sum_is_first {
                        residual.add.apply(byte, other)
                    } else {
                        residual.add.apply(other, byte)
                    };
                }
                *job.output.add(job.output_offsets[cell] as usize + channel) = byte;
            }
        }
    }
}
