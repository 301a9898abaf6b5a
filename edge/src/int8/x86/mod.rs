//! The kernels for x86: [`wide`] with 512-bit registers, [`narrow`] with 256.

mod narrow;
mod wide;

pub(super) use narrow::{AVX_VNNI, AVX2, AVX512_VNNI_256};
pub(super) use wide::AVX512_VNNI;
