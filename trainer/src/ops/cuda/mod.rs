//! The operators on NVIDIA GPUs.
//!
//! ```text
//! engine.rs    what the steps are written against: memory, kernels, matrix products
//! conv.rs      patches + cuBLAS            norm.rs     batch normalisation, two passes
//! layer.rs     both as one layer           pool.rs     global maximum
//! descent.rs   AdamW and average           pixels.rs   bytes to values
//! *.cu         the kernels                 device.rs   the engine on candle's stream (feature `cuda`)
//! host.rs, host.cpp   the engine of the tests: the same kernels as C++, on this processor
//! gpu_tests.rs        on a GPU, or by scripts/test-cuda.sh on a stand-in for driver and cuBLAS (stand_in/)
//! ```
//!
//! Nothing sums with atomic operations, and every order of summation is a function of the shapes: the same run on the
//! same GPU gives the same bytes.

// The steps are used by the GPU's engine and by the tests' one; a build with neither leaves this module out.
pub(crate) mod conv;
pub(crate) mod descent;
#[cfg(feature = "cuda")]
pub(crate) mod device;
pub(crate) mod engine;
pub(crate) mod gemm;
#[cfg(all(test, feature = "cuda"))]
mod gpu_tests;
#[cfg(test)]
mod host;
pub(crate) mod layer;
pub(crate) mod norm;
pub(crate) mod pixels;
pub(crate) mod pool;
#[cfg(test)]
mod tests;
