//! Global maximum pooling with a correct gradient: candle's `max_pool2d` divides its gradient by the window's area.
//!
//! In comes a map `[N, H, W, C]`, out goes its maximum over rows and columns, `[N, C]`.

use candle_core::{Result, Tensor};

/// The maximum over all positions, whose gradient goes to that position alone (the first one where several tie).
///
/// # Shapes
/// - `x`: `[N, H, W, C]`; returns `[N, C]`
///
/// # Errors
/// If `x` has another rank or no positions.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use roadhound_trainer::ops::global_max_pool;
/// let map = Tensor::new(&[[[[1f32, 5.0], [3.0, 2.0]]]], &Device::Cpu)?; // 1 x 1 x 2 positions, 2 channels
/// assert_eq!(global_max_pool(&map)?.to_vec2::<f32>()?, [[3.0, 5.0]]);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn global_max_pool(x: &Tensor) -> Result<Tensor> {
    let (n, h, w, c) = x.dims4()?;
    #[cfg(feature = "cuda")]
    if super::cuda::device::is_f32_on_gpu(x) {
        return super::cuda::device::global_max_pool(x);
    }
    let positions = x.reshape((n, h * w, c))?;
    let best = positions.detach().argmax_keepdim(1)?;
    positions.gather(&best.contiguous()?, 1)?.squeeze(1)
}
