//! A convolution followed by batch normalisation, optional residual addition and ReLU, as one operator.
//!
//! In comes `x` `[N, H, W, Ci]`, out goes `relu?(bn(conv2d(x, weight)) + residual?)`, as from
//! [`conv2d`] followed by [`batch_norm`].
//!
//! ```
//! use candle_core::{DType, Device, Tensor};
//! use roadhound_trainer::ops::{BnStats, ConvBn, Precision, RunningStats};
//! let (one, zero) = (Tensor::ones(16, DType::F32, &Device::Cpu)?, Tensor::zeros(16, DType::F32, &Device::Cpu)?);
//! let layer = ConvBn {
//!     weight: &Tensor::ones((3, 3, 3, 16), DType::F32, &Device::Cpu)?,
//!     gamma: &one,
//!     beta: &zero,
//!     stats: &BnStats::Frozen { running: RunningStats::new(16).into_shared() },
//!     stride: 2,
//!     padding: 1,
//!     relu: true,
//!     precision: Precision::F32,
//! };
//! let images = Tensor::ones((2, 8, 8, 3), DType::F32, &Device::Cpu)?;
//! assert_eq!(layer.forward(&images, None)?.dims(), [2, 4, 4, 16]);
//! # Ok::<(), candle_core::Error>(())
//! ```

use candle_core::{Result, Tensor};

use super::{BnStats, Precision, batch_norm, conv2d};

/// The parameters of one layer, borrowed for a forward pass.
#[derive(Clone, Copy, Debug)]
pub struct ConvBn<'a> {
    /// `[kh, kw, Ci, Co]`.
    pub weight: &'a Tensor,
    /// Scale of the normalised values, `[Co]`.
    pub gamma: &'a Tensor,
    /// Shift of the normalised values, `[Co]`.
    pub beta: &'a Tensor,
    /// Statistics of the convolution's result, `[Co]`.
    pub stats: &'a BnStats,
    /// Step between output pixels, in input pixels.
    pub stride: usize,
    /// Zero border on each side, in input pixels.
    pub padding: usize,
    /// Whether negative results become zero.
    pub relu: bool,
    /// Of the convolution; normalisation is always `f32`.
    pub precision: Precision,
}

impl ConvBn<'_> {
    /// Runs the layer.
    ///
    /// # Shapes
    /// - `x`: `[N, H, W, Ci]`; `residual` and the result: `[N, Ho, Wo, Co]` as for [`conv2d`]
    ///
    /// # Errors
    /// As [`conv2d`] and [`batch_norm`].
    pub fn forward(&self, x: &Tensor, residual: Option<&Tensor>) -> Result<Tensor> {
        let y = conv2d(x, self.weight, self.stride, self.padding, self.precision)?;
        batch_norm(&y, self.gamma, self.beta, residual, self.relu, self.stats)
    }
}
