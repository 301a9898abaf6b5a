//! Whole maps, number by number: quantise, dequantise, add, widen, sum.
//!
//! These are plain loops without `unsafe` that compilers vectorise. Each path compiles the same bodies for its own
//! instructions: IEEE arithmetic gives the same bits however many numbers are computed at once.

use roadhound_shared::quantised::{QuantParams, QuantisedAdd};

/// Eight rows to write to.
type Rows<'a> = [&'a mut [f32]; 8];

/// The loops, compiled for one set of instructions. All of them work on rows of the same length, or on the shorter.
///
/// # Safety
/// The processor has the instructions they were compiled for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Maps {
    /// Three planes of numbers to four bytes a cell; the fourth is the fill.
    pub(super) quantise_rgb: unsafe fn([&[f32]; 3], QuantParams, u8, &mut [u8]),
    /// Numbers to bytes.
    pub(super) quantise: unsafe fn(&[f32], QuantParams, u8, &mut [u8]),
    /// Stored bytes to numbers.
    pub(super) dequantise: unsafe fn(&[u8], QuantParams, u8, &mut [f32]),
    /// Eight cells of eight channels each, cell by cell `pitch` bytes apart, to eight rows of numbers.
    pub(super) dequantise_8x8: unsafe fn(&[u8], usize, QuantParams, u8, Rows<'_>),
    /// Two rows of stored bytes to one.
    pub(super) add: unsafe fn(&[u8], &[u8], QuantisedAdd, u8, &mut [u8]),
    /// Bytes to 16-bit numbers, as bytes.
    pub(super) widen: unsafe fn(&[u8], &mut [u8]),
    /// Sum of stored bytes; the flag says that they are signed.
    pub(super) sum: unsafe fn(&[u8], bool) -> i32,
}

/// Adding it rounds a number of magnitude below 2^22 half to even, and leaves the integer in the lowest bits.
const ROUND: f32 = 12_582_912.0;

/// `steps` clamped to a byte about `zero_point` and rounded, as `shared::quantised` defines it, without a cast that
/// checks for what the clamp has excluded.
#[inline(always)]
fn saturate(steps: f32, zero_point: f32) -> u32 {
    let clamped = steps.max(-zero_point).min(255.0 - zero_point);
    ((clamped + ROUND) + zero_point)
        .to_bits()
        .wrapping_sub(ROUND.to_bits())
}

#[inline(always)]
fn quantise_rgb(planes: [&[f32]; 3], params: QuantParams, flip: u8, to: &mut [u8]) {
    let (scale, zero) = (params.scale(), f32::from(params.zero_point()));
    let cells = to.len() / 4;
    let [r, g, b] = planes.map(|plane| &plane[..cells]);
    // The fourth byte meets weights of zero only; it is the zero point so that it is always the same.
    let fixed = u32::from_le_bytes([flip, flip, flip, params.zero_point() ^ flip]);
    for (i, to) in to.chunks_exact_mut(4).enumerate() {
        let rgb = saturate(r[i] / scale, zero)
            | saturate(g[i] / scale, zero) << 8
            | saturate(b[i] / scale, zero) << 16;
        to.copy_from_slice(&(rgb ^ fixed).to_le_bytes());
    }
}

#[inline(always)]
fn quantise(from: &[f32], params: QuantParams, flip: u8, to: &mut [u8]) {
    let (scale, zero) = (params.scale(), f32::from(params.zero_point()));
    for (to, from) in to.iter_mut().zip(from) {
        *to = saturate(from / scale, zero) as u8 ^ flip;
    }
}

#[inline(always)]
fn dequantise(from: &[u8], params: QuantParams, flip: u8, to: &mut [f32]) {
    let (scale, zero) = (params.scale(), i32::from(params.zero_point()));
    for (to, from) in to.iter_mut().zip(from) {
        *to = (i32::from(from ^ flip) - zero) as f32 * scale;
    }
}

#[inline(always)]
fn dequantise_8x8(from: &[u8], pitch: usize, params: QuantParams, flip: u8, to: Rows<'_>) {
    let mut rows: [u64; 8] = std::array::from_fn(|cell| {
        let at = cell * pitch;
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&from[at..at + 8]);
        u64::from_le_bytes(bytes)
    });
    // A transposition by halves: blocks of 4 x 4 bytes, of 2 x 2, of 1 x 1.
    for (distance, mask) in [
        (4, 0x0000_0000_ffff_ffff_u64),
        (2, 0x0000_ffff_0000_ffff),
        (1, 0x00ff_00ff_00ff_00ff),
    ] {
        let shift = 8 * distance;
        for i in 0..8 {
            if i & distance == 0 {
                let (a, b) = (rows[i], rows[i + distance]);
                rows[i] = (a & mask) | (b & mask) << shift;
                rows[i + distance] = (a >> shift & mask) | (b & !mask);
            }
        }
    }
    for (row, to) in rows.into_iter().zip(to) {
        dequantise(&row.to_le_bytes(), params, flip, &mut to[..8]);
    }
}

#[inline(always)]
fn add(a: &[u8], b: &[u8], add: QuantisedAdd, flip: u8, to: &mut [u8]) {
    let (ratio_a, ratio_b, fixed) = (add.ratio_a(), add.ratio_b(), add.fixed());
    for ((to, a), b) in to.iter_mut().zip(a).zip(b) {
        let with_b = f32::from(b ^ flip).mul_add(ratio_b, fixed);
        let sum = f32::from(a ^ flip).mul_add(ratio_a, with_b);
        *to = saturate(sum, 0.0) as u8 ^ flip;
    }
}

#[inline(always)]
fn widen(from: &[u8], to: &mut [u8]) {
    for (to, from) in to.chunks_exact_mut(2).zip(from) {
        to.copy_from_slice(&u16::from(*from).to_le_bytes());
    }
}

#[inline(always)]
fn sum(from: &[u8], signed: bool) -> i32 {
    let sum: u32 = from
        .iter()
        .map(|b| u32::from(b ^ if signed { 0x80 } else { 0 }))
        .sum();
    sum as i32 - if signed { 128 * from.len() as i32 } else { 0 }
}

/// The bodies above as functions for a set of instructions.
macro_rules! compiled {
    ($name:ident, $visibility:vis $constant:ident $(, $feature:literal)?) => {
        $visibility const $constant: Maps = Maps {
            quantise_rgb: $name::quantise_rgb,
            quantise: $name::quantise,
            dequantise: $name::dequantise,
            dequantise_8x8: $name::dequantise_8x8,
            add: $name::add,
            widen: $name::widen,
            sum: $name::sum,
        };

        mod $name {
            use super::{QuantParams, QuantisedAdd, Rows};

            $(#[target_feature(enable = $feature)])?
            pub(super) fn quantise_rgb(from: [&[f32]; 3], params: QuantParams, flip: u8, to: &mut [u8]) {
                super::quantise_rgb(from, params, flip, to);
            }
            $(#[target_feature(enable = $feature)])?
            pub(super) fn quantise(from: &[f32], params: QuantParams, flip: u8, to: &mut [u8]) {
                super::quantise(from, params, flip, to);
            }
            $(#[target_feature(enable = $feature)])?
            pub(super) fn dequantise(from: &[u8], params: QuantParams, flip: u8, to: &mut [f32]) {
                super::dequantise(from, params, flip, to);
            }
            $(#[target_feature(enable = $feature)])?
            pub(super) fn dequantise_8x8(
                from: &[u8], pitch: usize, params: QuantParams, flip: u8, to: Rows<'_>,
            ) {
                super::dequantise_8x8(from, pitch, params, flip, to);
            }
            $(#[target_feature(enable = $feature)])?
            pub(super) fn add(a: &[u8], b: &[u8], add: QuantisedAdd, flip: u8, to: &mut [u8]) {
                super::add(a, b, add, flip, to);
            }
            $(#[target_feature(enable = $feature)])?
            pub(super) fn widen(from: &[u8], to: &mut [u8]) {
                super::widen(from, to);
            }
            $(#[target_feature(enable = $feature)])?
            pub(super) fn sum(from: &[u8], signed: bool) -> i32 {
                super::sum(from, signed)
            }
        }
    };
}

compiled!(portable, pub(super) PORTABLE);
#[cfg(target_arch = "x86_64")]
compiled!(avx2, pub(super) AVX2, "avx2,fma");
#[cfg(target_arch = "x86_64")]
compiled!(avx512, pub(super) AVX512, "avx2,fma,avx512f,avx512bw,avx512vl");

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    /// Every compiled form that this processor can run.
    fn forms() -> Vec<Maps> {
        #[cfg_attr(
            not(target_arch = "x86_64"),
            expect(unused_mut, reason = "there are no others")
        )]
        let mut forms = vec![PORTABLE];
        #[cfg(target_arch = "x86_64")]
        {
            use super::super::path::Path;
            forms.extend(Path::Avx2.is_available().then_some(AVX2));
            forms.extend(Path::Avx512Vnni.is_available().then_some(AVX512));
        }
        forms
    }

    fn number() -> impl Strategy<Value = f32> {
        prop_oneof![
            8 => -40.0_f32..40.0,
            1 => any::<f32>(),
            1 => Just(f32::NAN),
            2 => (-600_i32..600).prop_map(|half| half as f32 * 0.05),
        ]
    }

    proptest! {
        #[test]
        #[expect(unsafe_code, reason = "calls what was compiled for this processor")]
        fn maps_are_quantised_by_the_definition(
            values in proptest::collection::vec(number(), 3..200),
            scale in prop_oneof![Just(0.1_f32), 1e-3_f32..1.0], zero: u8, signed: bool,
        ) {
            let params = QuantParams::new(scale, zero).unwrap();
            let flip = if signed { 0x80 } else { 0 };
            let expected: Vec<u8> = values.iter().map(|v| params.quantise(*v) ^ flip).collect();
            for maps in forms() {
                let mut found = vec![0; values.len()];
                // SAFETY: `forms` gives what this processor has.
                unsafe { (maps.quantise)(&values, params, flip, &mut found) };
                prop_assert_eq!(&found, &expected);
                let cells = values.len() / 3;
                let planes: [&[f32]; 3] = std::array::from_fn(|c| &values[c * cells..(c + 1) * cells]);
                let mut found = vec![0; cells * 4];
                // SAFETY: as above.
                unsafe { (maps.quantise_rgb)(planes, params, flip, &mut found) };
                for (i, cell) in found.chunks_exact(4).enumerate() {
                    let bytes: Vec<u8> = (0..3).map(|c| expected[c * cells + i]).collect();
                    prop_assert_eq!(&cell[..3], &bytes[..]);
                    prop_assert_eq!(cell[3], zero ^ flip);
                }
            }
        }

        #[test]
        #[expect(unsafe_code, reason = "calls what was compiled for this processor")]
        fn maps_are_dequantised_added_widened_and_summed_by_the_definition(
            a in proptest::collection::vec(any::<u8>(), 80..120), scale in 1e-3_f32..10.0,
            zeros: [u8; 3], ratio in 0.1_f32..3.0, signed: bool,
        ) {
            let params = QuantParams::new(scale, zeros[0]).unwrap();
            let flip = if signed { 0x80 } else { 0 };
            let b: Vec<u8> = a.iter().rev().copied().collect();
            let other = QuantParams::new(scale * ratio, zeros[1]).unwrap();
            let sum = QuantisedAdd::new(params, other, QuantParams::new(scale * 1.3, zeros[2]).unwrap());
            for maps in forms() {
                let mut numbers = vec![0.0; a.len()];
                let mut added = vec![0; a.len()];
                let mut wide = vec![0; 2 * a.len()];
                let mut turned = vec![[0.0_f32; 8]; 8];
                let rows: Rows<'_> = turned.iter_mut().map(|r| &mut r[..]).collect::<Vec<_>>().try_into().unwrap();
                // SAFETY: `forms` gives what this processor has.
                let total = unsafe {
                    (maps.dequantise)(&a, params, flip, &mut numbers);
                    (maps.add)(&a, &b, sum, flip, &mut added);
                    (maps.widen)(&a, &mut wide);
                    (maps.dequantise_8x8)(&a, 10, params, flip, rows);
                    (maps.sum)(&a, signed)
                };
                for i in 0..a.len() {
                    prop_assert_eq!(numbers[i], params.dequantise(a[i] ^ flip));
                    prop_assert_eq!(added[i] ^ flip, sum.apply(a[i] ^ flip, b[i] ^ flip));
                    prop_assert_eq!(u16::from_le_bytes([wide[2 * i], wide[2 * i + 1]]), u16::from(a[i]));
                }
                for (c, row) in turned.iter().enumerate() {
                    for (cell, found) in row.iter().enumerate() {
                        prop_assert_eq!(*found, params.dequantise(a[cell * 10 + c] ^ flip));
                    }
                }
                let expected: i32 = a.iter().map(|b| if signed { i32::from(*b as i8) } else { i32::from(*b) }).sum();
                prop_assert_eq!(total, expected);
            }
        }
    }
}
