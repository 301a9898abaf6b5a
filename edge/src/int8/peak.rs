//! How fast a core multiplies at most: the instructions of a path, on operands that are at hand, over and over.
//!
//! Enters: a path and a number of rounds. Leaves: how many products were added up. Whoever asks holds the watch; nothing
//! in this folder reads a clock. `bench --compare` sets what the kernels reach against it.
//!
//! ```
//! use roadhound_edge::int8::{Path, peak};
//!
//! // Nothing to compare with where numbers are multiplied one at a time.
//! assert_eq!(peak::products(Path::Scalar, 10), None);
//! ```

use super::path::Path;

/// Sums that do not wait for each other: more than an instruction takes cycles, times how many start in a cycle.
const CHAINS: usize = 12;

/// Multiplies for so many rounds and says how many products that were; `None` where the processor does not have the path,
/// or the path no instruction for more than one product.
pub fn products(path: Path, rounds: u32) -> Option<u64> {
    if !path.is_available() {
        return None;
    }
    let run: unsafe fn(u32) -> u64 = match path {
        #[cfg(target_arch = "x86_64")]
        Path::Avx2 => x86::avx2,
        #[cfg(target_arch = "x86_64")]
        Path::AvxVnni => x86::avx_vnni,
        #[cfg(target_arch = "x86_64")]
        Path::Avx512Vnni256 => x86::avx512_vnni_256,
        #[cfg(target_arch = "x86_64")]
        Path::Avx512Vnni => x86::avx512_vnni,
        #[cfg(target_arch = "aarch64")]
        Path::Neon => aarch64::neon,
        #[cfg(target_arch = "aarch64")]
        Path::NeonDot => aarch64::neon_dot,
        #[cfg(target_arch = "aarch64")]
        Path::NeonI8mm => aarch64::neon_i8mm,
        _ => return None,
    };
    // SAFETY: the processor has what the path needs.
    #[expect(unsafe_code, reason = "instructions that not every processor has")]
    Some(unsafe { run(rounds) })
}

/// `$dot` adds `$products` products of two `$vector`s to sums; `$none` are sums of 0, `$all` fills a vector with a number.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
macro_rules! chains {
    ($name:ident, $feature:literal, $vector:ty, $products:literal, $none:expr, $all:expr, $dot:expr) => {
        #[target_feature(enable = $feature)]
        pub(super) fn $name(rounds: u32) -> u64 {
            let weights: [$vector; CHAINS] = std::array::from_fn(|i| $all(i as i32));
            // The compiler must not know that sums are alike, nor that weights are the same in every round. What it hides
            // lives in memory: the sums are a copy, so that they live in registers.
            let mut sums = *black_box(&[$none(); CHAINS]);
            let x = *black_box(&$all(0x0102_0304));
            for _ in 0..rounds {
                let weights = black_box(&weights);
                for (sum, w) in sums.iter_mut().zip(weights) {
                    *sum = $dot(*sum, x, *w);
                }
            }
            *black_box(&mut [$none(); CHAINS]) = sums;
            u64::from(rounds) * CHAINS as u64 * $products
        }
    };
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;
    use std::hint::black_box;

    use super::CHAINS;

    #[target_feature(enable = "avx2")]
    fn pairs(sums: __m256i, x: __m256i, w: __m256i) -> __m256i {
        _mm256_add_epi32(sums, _mm256_madd_epi16(x, w))
    }

    chains!(
        avx2,
        "avx2",
        __m256i,
        16,
        _mm256_setzero_si256,
        _mm256_set1_epi32,
        pairs
    );
    chains!(
        avx_vnni,
        "avx2,avxvnni",
        __m256i,
        32,
        _mm256_setzero_si256,
        _mm256_set1_epi32,
        _mm256_dpbusd_avx_epi32
    );
    chains!(
        avx512_vnni_256,
        "avx512vnni,avx512vl",
        __m256i,
        32,
        _mm256_setzero_si256,
        _mm256_set1_epi32,
        _mm256_dpbusd_epi32
    );
    chains!(
        avx512_vnni,
        "avx512vnni",
        __m512i,
        64,
        _mm512_setzero_si512,
        _mm512_set1_epi32,
        _mm512_dpbusd_epi32
    );
}

#[cfg(target_arch = "aarch64")]
mod aarch64 {
    use std::arch::aarch64::*;
    use std::hint::black_box;

    use super::super::aarch64::{sdot, smmla};
    use super::CHAINS;

    #[target_feature(enable = "neon")]
    fn none() -> int32x4_t {
        vdupq_n_s32(0)
    }

    #[target_feature(enable = "neon")]
    fn all(number: i32) -> int8x16_t {
        vreinterpretq_s8_s32(vdupq_n_s32(number))
    }

    /// As the kernel has it.
    #[target_feature(enable = "neon")]
    fn pairs(sums: int32x4_t, x: int8x16_t, w: int8x16_t) -> int32x4_t {
        let low = vmull_s8(vget_low_s8(x), vget_low_s8(w));
        vpadalq_s16(sums, vmlal_high_s8(low, x, w))
    }

    chains!(neon, "neon", int8x16_t, 16, none, all, pairs);
    chains!(neon_dot, "neon,dotprod", int8x16_t, 16, none, all, sdot);
    chains!(neon_i8mm, "neon,i8mm", int8x16_t, 32, none, all, smmla);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_round_multiplies_as_much_as_the_other_on_every_path_with_vectors() {
        for path in Path::available().filter(|path| *path != Path::Scalar) {
            let one = products(path, 1);
            assert!(one.is_some_and(|n| n > 0), "{path}");
            assert_eq!(products(path, 7), one.map(|n| 7 * n), "{path}");
        }
    }
}
