//! The kernels for x86, by their registers: [`zmm`] has 512 bits, [`ymm`] 256.

mod ymm;
mod zmm;

pub(super) use ymm::{AVX_VNNI, AVX2, AVX512_VNNI_256};
pub(super) use zmm::AVX512_VNNI;
