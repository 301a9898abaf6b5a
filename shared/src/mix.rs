//! Numbers that look random and are the same everywhere: SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom
//! number generators", OOPSLA 2014).
//!
//! Enters: an integer. Leaves: one in which every bit depends on all of its bits. Splits of data, the rendered world, the
//! probe of a bundle and the fuzzers' mutations rest on these values: they never change.
//!
//! ```
//! use roadhound_shared::mix::{SplitMix64, hash};
//! let mut stream = SplitMix64(0);
//! assert_eq!(stream.next(), 0xe220_a839_7b1d_cdaf);
//! assert_eq!(hash(0), 0xe220_a839_7b1d_cdaf);
//! ```

/// 2^64 over the golden ratio, odd: steps of this size visit every integer.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// Spreads every bit over all others. Zero stays zero: see [`hash`].
pub fn finish(bits: u64) -> u64 {
    let bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// The first number of the stream that starts at `seed`.
pub fn hash(seed: u64) -> u64 {
    finish(seed.wrapping_add(STEP))
}

/// A stream of numbers: each is the [`hash`] of the state before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SplitMix64(pub u64);

impl SplitMix64 {
    /// The next number.
    #[expect(
        clippy::should_implement_trait,
        reason = "it never ends, and no caller wants an `Option`"
    )]
    pub fn next(&mut self) -> u64 {
        let number = hash(self.0);
        self.0 = self.0.wrapping_add(STEP);
        number
    }
}
