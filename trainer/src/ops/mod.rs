//! The operators that training is made of, for candle's autograd: feature maps are NHWC `[N, H, W, C]`, `f32`.
//!
//! In come tensors, out go tensors that candle differentiates through hand-written backward passes.
//! candle's own convolution and normalisation are correct but several times slower, and some of its other
//! operators have wrong gradients (see `clippy.toml`); what the trainer needs of those is here, checked against
//! finite differences with [`gradcheck`].
//!
//! ```
//! use candle_core::{DType, Device, Tensor, Var};
//! use roadhound_trainer::ops::{BnStats, Precision, RunningStats, batch_norm, conv2d};
//! let images = Tensor::ones((2, 8, 8, 3), DType::F32, &Device::Cpu)?;
//! let weights = Var::ones((3, 3, 3, 16), DType::F32, &Device::Cpu)?;
//! let (gamma, beta) = (Var::ones(16, DType::F32, &Device::Cpu)?, Var::zeros(16, DType::F32, &Device::Cpu)?);
//! let stats = BnStats::Training { running: RunningStats::new(16).into_shared(), momentum: 0.1 };
//! let features = conv2d(&images, &weights, 2, 1, Precision::F32)?;
//! let features = batch_norm(&features, &gamma, &beta, None, true, &stats)?;
//! let gradients = features.sqr()?.mean_all()?.backward()?;
//! assert_eq!(gradients.get(&weights).map(|g| g.dims().to_vec()), Some(vec![3, 3, 3, 16]));
//! # Ok::<(), candle_core::Error>(())
//! ```
//!
//! With the feature `cuda` the same operators run on NVIDIA GPUs (`ops/cuda`); elsewhere, and on other devices, they
//! answer with an error.

mod conv;
mod conv_bn;
#[cfg(any(test, feature = "cuda"))]
mod cuda;
mod device;
pub mod exact;
mod fake_quant;
pub mod gradcheck;
mod kernels;
mod memory;
mod norm;
mod pool;
#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;

use candle_core::{CpuStorage, Layout, Result, Storage, Tensor, bail};

pub use conv::conv2d;
pub use conv_bn::ConvBn;
#[cfg(feature = "cuda")]
pub(crate) use cuda::device::GpuDescent;
pub use device::{DeviceChoice, DeviceError, images_from_bytes, open_device};
pub use fake_quant::{
    BATCH_RANGE, batch_params, fake_quantise, fake_quantise_batch, fake_quantise_weights,
    params_to_the_last,
};
pub use memory::{keep_freed_memory, set_candle_threads};
pub use norm::{BN_EPSILON, BnStats, RunningStats, SharedRunningStats, batch_norm};
pub use pool::global_max_pool;

/// How products inside convolutions are computed. Tensors are `f32` either way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// `f32` throughout.
    #[default]
    F32,
    /// Operands rounded to bf16, sums in `f32`: about twice the speed on processors with AVX512-BF16 and on GPUs. Other
    /// processors compute in `f32` as if [`Precision::F32`] had been asked for.
    Bf16,
    /// Operands rounded to 10 bits of mantissa by a GPU's tensor cores, sums in `f32`. Processors compute in `f32`.
    Tf32,
}

/// The values of a contiguous `f32` tensor on the CPU.
fn contiguous_f32<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match (storage, layout.contiguous_offsets()) {
        (CpuStorage::F32(values), Some((start, end))) => Ok(&values[start..end]),
        (CpuStorage::F32(_), None) => bail!(
            "expected a contiguous tensor, found strides {:?}",
            layout.stride()
        ),
        _ => bail!(
            "expected an f32 tensor of shape {:?}, found another type",
            layout.dims()
        ),
    }
}

/// Lends the values of contiguous `f32` tensors on the CPU.
fn with_f32<const N: usize, T>(
    tensors: [&Tensor; N],
    f: impl FnOnce([&[f32]; N]) -> Result<T>,
) -> Result<T> {
    let storages = tensors.map(|tensor| tensor.storage_and_layout());
    let mut values: [&[f32]; N] = [&[]; N];
    for (value, (storage, layout)) in values.iter_mut().zip(&storages) {
        match &**storage {
            Storage::Cpu(storage) => *value = contiguous_f32(storage, layout)?,
            _ => bail!(
                "this operator has no implementation for {:?} in this build",
                tensors[0].device().location()
            ),
        }
    }
    f(values)
}
