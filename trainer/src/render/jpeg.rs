//! A baseline JPEG writer whose bytes depend on the pixels and the quality alone.
//!
//! Enters: tight RGB bytes. Leaves: a JFIF file with colour at half the resolution, as cameras write it. Encoders at hand
//! either store colour at full resolution, or pick a transform by what the processor can do, and differ in the last bits
//! from machine to machine; a rendering must not. Eight frames of the world at 640x360, mean of each and median of five
//! rounds on one core of a busy machine: 2.0 ms and 36 kB here, 6.0 ms and 42 kB by the encoder of `image` 0.25.
//!
//! The transform is that of Arai, Agui and Nakajima (1988) in `f32`, whose sums have one order everywhere; tables are
//! those of ITU-T T.81 Annex K, scaled by quality as libjpeg does.

use crate::augment::{CHROMA_STEPS, LUMA_STEPS, step_at_quality};

/// Why an image cannot be written.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{bytes} bytes for {width_px} x {height_px} pixels, expected 1 to 65535 a side and 3 bytes a pixel"
)]
pub(super) struct SizeError {
    width_px: u32,
    height_px: u32,
    bytes: usize,
}

/// Pixels of a unit that holds four blocks of luma and one of each chroma.
const UNIT: usize = 16;
/// Coefficients in the order in which they are written: index by row and column.
#[rustfmt::skip]
const ZIGZAG: [u8; 64] = [
     0,  1,  8, 16,  9,  2,  3, 10,  17, 24, 32, 25, 18, 11,  4,  5,
    12, 19, 26, 33, 40, 48, 41, 34,  27, 20, 13,  6,  7, 14, 21, 28,
    35, 42, 49, 56, 57, 50, 43, 36,  29, 22, 15, 23, 30, 37, 44, 51,
    58, 59, 52, 45, 38, 31, 39, 46,  53, 60, 61, 54, 47, 55, 62, 63,
];

type Block = [[f32; 8]; 8];

/// Appends the file to `out`.
pub(super) fn write(
    rgb: &[u8],
    width_px: u32,
    height_px: u32,
    quality: u8,
    out: &mut Vec<u8>,
) -> Result<(), SizeError> {
    let error = SizeError {
        width_px,
        height_px,
        bytes: rgb.len(),
    };
    let (Ok(w @ 1..), Ok(h @ 1..)) = (u16::try_from(width_px), u16::try_from(height_px)) else {
        return Err(error);
    };
    let (width, height) = (usize::from(w), usize::from(h));
    if rgb.len() != width * height * 3 {
        return Err(error);
    }
    let (luma, chroma) = (
        Plane::new(&LUMA_STEPS, quality),
        Plane::new(&CHROMA_STEPS, quality),
    );
    head(out, w, h, &luma, &chroma);
    let mut bits = Bits {
        out,
        pending: 0,
        count: 0,
    };
    let mut before = [0_i32; 3];
    let mut unit = Unit::default();
    for top in (0..height).step_by(UNIT) {
        for left in (0..width).step_by(UNIT) {
            unit.load(rgb, width, height, left, top);
            for block in &mut unit.luma {
                luma.write(block, &LUMA_CODES, &mut before[0], &mut bits);
            }
            chroma.write(&mut unit.blue, &CHROMA_CODES, &mut before[1], &mut bits);
            chroma.write(&mut unit.red, &CHROMA_CODES, &mut before[2], &mut bits);
        }
    }
    bits.finish();
    out.extend_from_slice(&[0xff, 0xd9]);
    Ok(())
}

/// Everything before the coded pixels.
fn head(out: &mut Vec<u8>, width: u16, height: u16, luma: &Plane, chroma: &Plane) {
    out.extend_from_slice(&[0xff, 0xd8]);
    let mut segment = |marker: u8, parts: &[&[u8]]| {
        let len = 2 + parts.iter().map(|p| p.len()).sum::<usize>();
        out.extend_from_slice(&[0xff, marker]);
        out.extend_from_slice(&(len as u16).to_be_bytes());
        parts.iter().for_each(|part| out.extend_from_slice(part));
    };
    segment(0xe0, &[b"JFIF\0\x01\x01\0\0\x01\0\x01\0\0"]);
    segment(0xdb, &[&[0], &luma.steps, &[1], &chroma.steps]);
    // Three components: number, sampling, table. Luma has two samples each way for one of chroma.
    segment(
        0xc0,
        &[
            &[8],
            &height.to_be_bytes(),
            &width.to_be_bytes(),
            &[3, 1, 0x22, 0, 2, 0x11, 1, 3, 0x11, 1],
        ],
    );
    for (class_and_number, lengths, values) in [
        (0x00, &LUMA_DC_LENGTHS, &DC_VALUES[..]),
        (0x10, &LUMA_AC_LENGTHS, &LUMA_AC_VALUES[..]),
        (0x01, &CHROMA_DC_LENGTHS, &DC_VALUES[..]),
        (0x11, &CHROMA_AC_LENGTHS, &CHROMA_AC_VALUES[..]),
    ] {
        segment(0xc4, &[&[class_and_number], lengths, values]);
    }
    segment(0xda, &[&[3, 1, 0x00, 2, 0x11, 3, 0x11, 0, 63, 0]]);
}

/// The pixels of a unit as blocks, about zero.
#[derive(Default)]
struct Unit {
    /// Row by row.
    luma: [Block; 4],
    blue: Block,
    red: Block,
}

impl Unit {
    /// Borders beyond the image repeat its last pixel.
    fn load(&mut self, rgb: &[u8], width: usize, height: usize, left: usize, top: usize) {
        self.blue = Block::default();
        self.red = Block::default();
        let whole = left + UNIT <= width;
        for row in 0..UNIT {
            let from = (top + row).min(height - 1) * width;
            let mut line = [0_u8; UNIT * 3];
            if whole {
                line.copy_from_slice(&rgb[(from + left) * 3..(from + left + UNIT) * 3]);
            } else {
                for (column, pixel) in line.chunks_exact_mut(3).enumerate() {
                    let at = (from + (left + column).min(width - 1)) * 3;
                    pixel.copy_from_slice(&rgb[at..at + 3]);
                }
            }
            let (mut y, mut cb, mut cr) = ([0.0_f32; UNIT], [0.0_f32; UNIT], [0.0_f32; UNIT]);
            for (column, pixel) in line.chunks_exact(3).enumerate() {
                let [r, g, b] = [0, 1, 2].map(|k: usize| f32::from(pixel[k]));
                y[column] = 0.299 * r + 0.587 * g + 0.114 * b - 128.0;
                // A quarter: four pixels make one sample.
                cb[column] = -0.042_184 * r - 0.082_816 * g + 0.125 * b;
                cr[column] = 0.125 * r - 0.104_672 * g - 0.020_328 * b;
            }
            for half in 0..2 {
                let block = &mut self.luma[row / 8 * 2 + half];
                block[row % 8].copy_from_slice(&y[half * 8..half * 8 + 8]);
            }
            for column in 0..8 {
                self.blue[row / 2][column] += cb[2 * column] + cb[2 * column + 1];
                self.red[row / 2][column] += cr[2 * column] + cr[2 * column + 1];
            }
        }
    }
}

/// How one kind of plane is quantised.
struct Plane {
    /// As they stand in the file.
    steps: [u8; 64],
    /// What a coefficient is multiplied by; the transform leaves its own scale in them. Column by row, as it comes out.
    per_step: Block,
}

impl Plane {
    fn new(steps: &[u16; 64], quality: u8) -> Self {
        // cos(k pi / 16) * sqrt(2), and 1 for the mean.
        const SCALE: [f32; 8] = [
            1.0,
            1.387_039_8,
            1.306_563,
            1.175_875_6,
            1.0,
            0.785_694_96,
            0.541_196_1,
            0.275_899_38,
        ];
        let step = |at: usize| step_at_quality(steps[at], u32::from(quality));
        let mut per_step = Block::default();
        for row in 0..8 {
            for column in 0..8 {
                per_step[column][row] =
                    1.0 / (step(row * 8 + column) as f32 * SCALE[row] * SCALE[column] * 8.0);
            }
        }
        Self {
            steps: ZIGZAG.map(|at| step(usize::from(at)) as u8),
            per_step,
        }
    }

    fn write(&self, block: &mut Block, codes: &Codes, before: &mut i32, bits: &mut Bits<'_>) {
        transform(block);
        transpose(block);
        transform(block);
        let mut quantised = [0_i32; 64];
        for column in 0..8 {
            for row in 0..8 {
                let value = block[column][row] * self.per_step[column][row];
                // The nearest whole number: all values are above -16384.
                quantised[column * 8 + row] = (value + 16_384.5) as i32 - 16_384;
            }
        }
        // In the order of the file.
        let mut ordered = [0_i32; 64];
        let mut present = 0_u64;
        for (i, &at) in ZIGZAG.iter().enumerate() {
            let (row, column) = (usize::from(at) / 8, usize::from(at) % 8);
            let value = quantised[column * 8 + row];
            ordered[i] = value;
            present |= u64::from(value != 0) << i;
        }
        bits.put_value(&codes.dc, 0, ordered[0] - *before);
        *before = ordered[0];
        let mut last = 0;
        present &= !1;
        while present != 0 {
            let i = present.trailing_zeros();
            present &= present - 1;
            let mut zeros = i - last - 1;
            while zeros > 15 {
                bits.put(codes.ac[SIXTEEN_ZEROS]);
                zeros -= 16;
            }
            bits.put_value(&codes.ac, zeros, ordered[i as usize]);
            last = i;
        }
        if last != 63 {
            bits.put(codes.ac[END_OF_BLOCK]);
        }
    }
}

/// Values of codes that stand for no coefficient.
const END_OF_BLOCK: usize = 0x00;
const SIXTEEN_ZEROS: usize = 0xf0;

/// One dimension of the cosine transform, down every column: eight columns at a time go through the same sums.
fn transform(block: &mut Block) {
    let [a, b, c, d, e, f, g, h] = *block;
    let add = |x: [f32; 8], y: [f32; 8]| -> [f32; 8] { core::array::from_fn(|i| x[i] + y[i]) };
    let sub = |x: [f32; 8], y: [f32; 8]| -> [f32; 8] { core::array::from_fn(|i| x[i] - y[i]) };
    let times = |x: [f32; 8], k: f32| -> [f32; 8] { core::array::from_fn(|i| x[i] * k) };
    let (s0, s1, s2, s3) = (add(a, h), add(b, g), add(c, f), add(d, e));
    let (d0, d1, d2, d3) = (sub(a, h), sub(b, g), sub(c, f), sub(d, e));
    // Even rows.
    let (p0, p1, m0, m1) = (add(s0, s3), add(s1, s2), sub(s0, s3), sub(s1, s2));
    let z1 = times(add(m1, m0), core::f32::consts::FRAC_1_SQRT_2);
    // Odd rows.
    let (q0, q1, q2) = (add(d3, d2), add(d2, d1), add(d1, d0));
    let z5 = times(sub(q0, q2), 0.382_683_43);
    let z2 = add(times(q0, 0.541_196_1), z5);
    let z4 = add(times(q2, 1.306_563), z5);
    let z3 = times(q1, core::f32::consts::FRAC_1_SQRT_2);
    let (z11, z13) = (add(d0, z3), sub(d0, z3));
    *block = [
        add(p0, p1),
        add(z11, z4),
        add(m0, z1),
        sub(z13, z2),
        sub(p0, p1),
        add(z13, z2),
        sub(m0, z1),
        sub(z11, z4),
    ];
}

fn transpose(block: &mut Block) {
    let from = *block;
    for (row, line) in block.iter_mut().enumerate() {
        for (column, value) in line.iter_mut().enumerate() {
            *value = from[column][row];
        }
    }
}

/// Bits on their way into the file, the first one uppermost.
struct Bits<'a> {
    out: &'a mut Vec<u8>,
    pending: u64,
    count: u32,
}

impl Bits<'_> {
    #[inline]
    fn put(&mut self, code: Code) {
        self.put_bits(u32::from(code.bits), u32::from(code.len));
    }

    /// The code of a run of zeros and a value's length, then the value.
    #[inline]
    fn put_value(&mut self, codes: &[Code; 256], zeros: u32, value: i32) {
        let len = 32 - value.unsigned_abs().leading_zeros();
        let code = codes[(zeros << 4 | len) as usize & 0xff];
        // Negative values are written less one, without their upper bits.
        let below = (value - i32::from(value < 0)) as u32 & ((1 << len) - 1);
        self.put_bits(
            u32::from(code.bits) << len | below,
            u32::from(code.len) + len,
        );
    }

    /// At most 27 bits: a code has 16, a value 11.
    #[inline]
    fn put_bits(&mut self, bits: u32, len: u32) {
        self.pending = self.pending << len | u64::from(bits);
        self.count += len;
        if self.count >= 32 {
            self.count -= 32;
            let bytes = ((self.pending >> self.count) as u32).to_be_bytes();
            if bytes.contains(&0xff) {
                bytes.into_iter().for_each(|byte| self.byte(byte));
            } else {
                self.out.extend_from_slice(&bytes);
            }
        }
    }

    /// A byte of ones is followed by one of zeros, lest it be taken for a marker.
    fn byte(&mut self, byte: u8) {
        self.out.push(byte);
        if byte == 0xff {
            self.out.push(0);
        }
    }

    /// Fills the last byte with ones.
    fn finish(mut self) {
        while !self.count.is_multiple_of(8) {
            self.pending = self.pending << 1 | 1;
            self.count += 1;
        }
        while self.count > 0 {
            self.count -= 8;
            self.byte((self.pending >> self.count) as u8);
        }
    }
}

#[derive(Clone, Copy)]
struct Code {
    bits: u16,
    len: u8,
}

/// Codes by run (upper half of the index) and length of values.
struct Codes {
    dc: [Code; 256],
    ac: [Code; 256],
}

static LUMA_CODES: Codes = Codes {
    dc: codes(&LUMA_DC_LENGTHS, &DC_VALUES),
    ac: codes(&LUMA_AC_LENGTHS, &LUMA_AC_VALUES),
};
static CHROMA_CODES: Codes = Codes {
    dc: codes(&CHROMA_DC_LENGTHS, &DC_VALUES),
    ac: codes(&CHROMA_AC_LENGTHS, &CHROMA_AC_VALUES),
};

/// Codes of one length follow each other; those of the next go on from there, one bit longer.
const fn codes(lengths: &[u8; 16], values: &[u8]) -> [Code; 256] {
    let mut table = [Code { bits: 0, len: 0 }; 256];
    let (mut bits, mut next, mut len) = (0_u16, 0, 0);
    while len < 16 {
        let mut n = 0;
        while n < lengths[len] {
            table[values[next] as usize] = Code {
                bits,
                len: len as u8 + 1,
            };
            bits += 1;
            next += 1;
            n += 1;
        }
        bits <<= 1;
        len += 1;
    }
    table
}

// How many codes there are of 1 to 16 bits.
const LUMA_DC_LENGTHS: [u8; 16] = [0, 1, 5, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0];
const CHROMA_DC_LENGTHS: [u8; 16] = [0, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0];
const LUMA_AC_LENGTHS: [u8; 16] = [0, 2, 1, 3, 3, 2, 4, 3, 5, 5, 4, 4, 0, 0, 1, 125];
const CHROMA_AC_LENGTHS: [u8; 16] = [0, 2, 1, 2, 4, 4, 3, 4, 7, 5, 4, 4, 0, 1, 2, 119];

// What the codes stand for, shortest first.
const DC_VALUES: [u8; 12] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11];
#[rustfmt::skip]
const LUMA_AC_VALUES: [u8; 162] = and_all_others([
    0x01, 0x02, 0x03, 0x00, 0x04, 0x11, 0x05, 0x12, 0x21, 0x31, 0x41, 0x06, 0x13, 0x51, 0x61, 0x07,
    0x22, 0x71, 0x14, 0x32, 0x81, 0x91, 0xa1, 0x08, 0x23, 0x42, 0xb1, 0xc1, 0x15, 0x52, 0xd1, 0xf0,
    0x24, 0x33, 0x62, 0x72, 0x82,
]);
#[rustfmt::skip]
const CHROMA_AC_VALUES: [u8; 162] = and_all_others([
    0x00, 0x01, 0x02, 0x03, 0x11, 0x04, 0x05, 0x21, 0x31, 0x06, 0x12, 0x41, 0x51, 0x07, 0x61, 0x71,
    0x13, 0x22, 0x32, 0x81, 0x08, 0x14, 0x42, 0x91, 0xa1, 0xb1, 0xc1, 0x09, 0x23, 0x33, 0x52, 0xf0,
    0x15, 0x62, 0x72, 0xd1, 0x0a, 0x16, 0x24, 0x34, 0xe1, 0x25, 0xf1,
]);

/// The standard gives the shortest codes by how often they are needed. The longest go by value: runs of up to 15 zeros
/// before a value of 1 to 10 bits, as far as they are not among `first`.
const fn and_all_others<const N: usize>(first: [u8; N]) -> [u8; 162] {
    let mut values = [0; 162];
    let mut is_listed = [false; 256];
    let mut count = 0;
    while count < N {
        values[count] = first[count];
        is_listed[first[count] as usize] = true;
        count += 1;
    }
    let mut value = 0;
    while value < 256 {
        if matches!(value & 15, 1..=10) && !is_listed[value] {
            values[count] = value as u8;
            count += 1;
        }
        value += 1;
    }
    values
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use roadhound_shared::contract::sha256_hex;

    use super::*;

    /// Soft waves with an edge and some grain.
    fn picture(width: u32, height: u32) -> Vec<u8> {
        let mut grain = 1_u32;
        (0..width * height)
            .flat_map(|i| {
                let (x, y) = (i % width, i / width);
                grain = grain.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let edge = if x + y > width { 60 } else { 0 };
                [x * 120 / width + edge, y * 150 / height, 60 + edge]
                    .map(|v| (v + (grain >> 28)) as u8)
            })
            .collect()
    }

    fn encoded(width: u32, height: u32, quality: u8) -> Vec<u8> {
        let mut out = Vec::new();
        write(&picture(width, height), width, height, quality, &mut out).unwrap();
        out
    }

    #[test]
    fn another_decoder_reads_what_was_written_whatever_the_size() {
        for (width, height) in [(640, 360), (1, 1), (17, 9), (16, 16), (33, 50)] {
            for (quality, worst) in [(60, 11.0), (95, 6.0)] {
                let file = encoded(width, height, quality);
                let read = image::load_from_memory(&file).unwrap().to_rgb8();
                assert_eq!(read.dimensions(), (width, height));
                let truth = picture(width, height);
                let squares = read.as_raw().iter().zip(&truth);
                let sum: f64 = squares
                    .map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2))
                    .sum();
                let off = (sum / truth.len() as f64).sqrt();
                // Colour at half the resolution blurs the edge; quantisation adds to that.
                assert!(
                    off < worst,
                    "{width}x{height} at {quality}: off by {off:.1} levels"
                );
            }
        }
    }

    #[test]
    fn extremes_of_light_come_back_as_they_were() {
        for level in [0_u8, 255] {
            let mut file = Vec::new();
            write(&[level; 32 * 32 * 3], 32, 32, 100, &mut file).unwrap();
            let read = image::load_from_memory(&file).unwrap().to_rgb8();
            assert!(read.as_raw().iter().all(|v| v.abs_diff(level) <= 1));
        }
        // The sharpest checks there are: coefficients at their largest.
        let checks: Vec<u8> = (0..64 * 64)
            .flat_map(|i| [if (i + i / 64) % 2 == 0 { 0 } else { 255 }; 3])
            .collect();
        let mut file = Vec::new();
        write(&checks, 64, 64, 100, &mut file).unwrap();
        let read = image::load_from_memory(&file).unwrap().to_rgb8();
        let worst = read
            .as_raw()
            .iter()
            .zip(&checks)
            .map(|(a, b)| a.abs_diff(*b));
        assert!(worst.max() <= Some(3));
    }

    #[test]
    fn the_bytes_are_the_same_on_every_machine() {
        assert_eq!(
            sha256_hex(&encoded(100, 75, 82)),
            "481034620ba7f573c69f549f1154da19aefcb4ee15fec67ffc0e6dc181dffdb4"
        );
    }

    #[test]
    fn a_size_that_does_not_fit_is_refused_with_its_numbers() {
        let error = write(&[0; 12], 3, 1, 80, &mut Vec::new()).unwrap_err();
        assert!(
            error.to_string().starts_with("12 bytes for 3 x 1 pixels"),
            "{error}"
        );
        assert!(write(&[], 0, 1, 80, &mut Vec::new()).is_err());
        assert!(write(&[], 65_536, 1, 80, &mut Vec::new()).is_err());
    }
}
