//! The loss of a JPEG round trip without its entropy coding: transform, quantise, transform back.
//!
//! A real encoder and decoder take several times as long for the same pixels: Huffman coding is lossless and can be
//! left out. Tables are those of ITU-T T.81 Annex K, scaled by quality as libjpeg does; chroma is halved both ways.

use super::Crop;

/// Steps of luma at quality 50, row by row.
#[rustfmt::skip]
pub(crate) const LUMA_STEPS: [u16; 64] = [
    16, 11, 10, 16,  24,  40,  51,  61,   12, 12, 14, 19,  26,  58,  60,  55,
    14, 13, 16, 24,  40,  57,  69,  56,   14, 17, 22, 29,  51,  87,  80,  62,
    18, 22, 37, 56,  68, 109, 103,  77,   24, 35, 55, 64,  81, 104, 113,  92,
    49, 64, 78, 87, 103, 121, 120, 101,   72, 92, 95, 98, 112, 100, 103,  99,
];
/// The same of chroma.
#[rustfmt::skip]
pub(crate) const CHROMA_STEPS: [u16; 64] = [
    17, 18, 24, 47, 99, 99, 99, 99,   18, 21, 26, 66, 99, 99, 99, 99,
    24, 26, 56, 99, 99, 99, 99, 99,   47, 66, 99, 99, 99, 99, 99, 99,
    99, 99, 99, 99, 99, 99, 99, 99,   99, 99, 99, 99, 99, 99, 99, 99,
    99, 99, 99, 99, 99, 99, 99, 99,   99, 99, 99, 99, 99, 99, 99, 99,
];

type Block = [[f32; 8]; 8];

/// Replaces a crop by what would be left of it after JPEG at this quality (1 to 100). Borders beyond whole blocks
/// repeat the last pixel.
pub fn jpeg_round_trip(crop: &mut Crop, quality: u32) {
    let (width, height) = (crop.width_px as usize, crop.height_px as usize);
    let basis = cosine_basis();
    let (luma, chroma) = (
        Quantiser::new(&LUMA_STEPS, quality),
        Quantiser::new(&CHROMA_STEPS, quality),
    );
    for top in (0..height).step_by(16) {
        for left in (0..width).step_by(16) {
            let mut y = [[[0.0; 8]; 8]; 4];
            let (mut cb, mut cr) = ([[0.0; 8]; 8], [[0.0; 8]; 8]);
            for row in 0..16 {
                let from = (top + row).min(height - 1) * width;
                for column in 0..16 {
                    let at = (from + (left + column).min(width - 1)) * 3;
                    let [r, g, b] = [0, 1, 2].map(|channel| f32::from(crop.pixels[at + channel]));
                    y[row / 8 * 2 + column / 8][row % 8][column % 8] =
                        0.299 * r + 0.587 * g + 0.114 * b - 128.0;
                    cb[row / 2][column / 2] += 0.25 * (-0.168_736 * r - 0.331_264 * g + 0.5 * b);
                    cr[row / 2][column / 2] += 0.25 * (0.5 * r - 0.418_688 * g - 0.081_312 * b);
                }
            }
            y.iter_mut().for_each(|block| luma.lose(block, &basis));
            chroma.lose(&mut cb, &basis);
            chroma.lose(&mut cr, &basis);
            for row in 0..16.min(height - top) {
                for column in 0..16.min(width - left) {
                    let at = ((top + row) * width + left + column) * 3;
                    let luma = y[row / 8 * 2 + column / 8][row % 8][column % 8] + 128.5;
                    let (cb, cr) = (cb[row / 2][column / 2], cr[row / 2][column / 2]);
                    let rgb = [
                        luma + 1.402 * cr,
                        luma - 0.344_136 * cb - 0.714_136 * cr,
                        luma + 1.772 * cb,
                    ];
                    for (sample, value) in crop.pixels[at..at + 3].iter_mut().zip(rgb) {
                        *sample = value as u8; // saturates
                    }
                }
            }
        }
    }
}

/// A step of the tables at a quality from 1 to 100, scaled as libjpeg does.
pub(crate) fn step_at_quality(step_at_50: u16, quality: u32) -> u32 {
    let quality = quality.clamp(1, 100);
    let scale = if quality < 50 {
        5000 / quality
    } else {
        200 - 2 * quality
    };
    ((u32::from(step_at_50) * scale + 50) / 100).clamp(1, 255)
}

struct Quantiser {
    step: Block,
    per_step: Block,
}

impl Quantiser {
    fn new(table: &[u16; 64], quality: u32) -> Self {
        let mut step = [[0.0; 8]; 8];
        for (i, &entry) in table.iter().enumerate() {
            step[i / 8][i % 8] = step_at_quality(entry, quality) as f32;
        }
        Self {
            step,
            per_step: step.map(|row| row.map(|step| 1.0 / step)),
        }
    }

    fn lose(&self, block: &mut Block, basis: &Block) {
        // Coefficients are B X B', pixels B' C B; the second product of each is by rows of the transpose.
        let transposed = transpose(basis);
        let mut coefficients = multiply(&multiply(basis, block), &transposed);
        for (row, (step, per_step)) in coefficients
            .iter_mut()
            .zip(self.step.iter().zip(&self.per_step))
        {
            for i in 0..8 {
                row[i] = round(row[i] * per_step[i]) * step[i];
            }
        }
        *block = multiply(&multiply(&transposed, &coefficients), basis);
    }
}

/// Nearest whole number of a value below 2^22 in magnitude, without a call into the maths library.
fn round(value: f32) -> f32 {
    const MAGIC: f32 = 12_582_912.0; // 1.5 * 2^23: the sum has no bits left for a fraction
    (value + MAGIC) - MAGIC
}

fn multiply(a: &Block, b: &Block) -> Block {
    let mut out = [[0.0; 8]; 8];
    for (out, a) in out.iter_mut().zip(a) {
        for (a, b) in a.iter().zip(b) {
            for i in 0..8 {
                out[i] += a * b[i];
            }
        }
    }
    out
}

fn transpose(a: &Block) -> Block {
    let mut out = [[0.0; 8]; 8];
    for (i, row) in a.iter().enumerate() {
        for (j, &value) in row.iter().enumerate() {
            out[j][i] = value;
        }
    }
    out
}

/// The orthonormal DCT-II basis, one frequency a row.
fn cosine_basis() -> Block {
    let mut basis = [[0.0; 8]; 8];
    for (k, row) in basis.iter_mut().enumerate() {
        let norm = if k == 0 { (1.0_f64 / 8.0).sqrt() } else { 0.5 };
        for (x, value) in row.iter_mut().enumerate() {
            let phase = (2 * x + 1) as f64 * k as f64 * core::f64::consts::PI / 16.0;
            *value = (norm * phase.cos()) as f32;
        }
    }
    basis
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::augment::textured;

    fn rmse(a: &[u8], b: &[u8]) -> f64 {
        let sum: f64 = a
            .iter()
            .zip(b)
            .map(|(&a, &b)| f64::from(a.abs_diff(b)).powi(2))
            .sum();
        (sum / a.len() as f64).sqrt()
    }

    #[test]
    fn loses_as_much_as_a_real_encoder() {
        let original = textured(128);
        for quality in [25, 50, 85] {
            let mut ours = original.clone();
            jpeg_round_trip(&mut ours, quality);
            let mut file = Vec::new();
            image::codecs::jpeg::JpegEncoder::new_with_quality(&mut file, quality as u8)
                .encode(original.pixels(), 128, 128, image::ExtendedColorType::Rgb8)
                .unwrap();
            let real = image::load_from_memory(&file).unwrap().into_rgb8();
            let (our_loss, real_loss) = (
                rmse(ours.pixels(), original.pixels()),
                rmse(real.as_raw(), original.pixels()),
            );
            // The other encoder keeps chroma at full size, so ours may lose somewhat more; never several times as much.
            assert!(
                our_loss > 0.5 * real_loss && our_loss < 2.5 * real_loss,
                "{quality}: {our_loss} to {real_loss}"
            );
        }
    }

    #[test]
    fn lower_quality_loses_more() {
        let loss = |quality| {
            let mut crop = textured(64);
            jpeg_round_trip(&mut crop, quality);
            rmse(crop.pixels(), textured(64).pixels())
        };
        assert!(loss(10) > loss(40) && loss(40) > loss(90) && loss(10) < 30.0);
    }

    #[test]
    fn grey_crops_of_one_value_survive_the_best_quality() {
        for value in [0, 1, 100, 255] {
            let mut crop = Crop::filled(48, [value; 3]);
            jpeg_round_trip(&mut crop, 100);
            assert_eq!(crop, Crop::filled(48, [value; 3]));
        }
    }

    #[test]
    fn sides_that_are_no_whole_blocks_are_covered_to_the_border() {
        let mut crop = textured(37);
        jpeg_round_trip(&mut crop, 95);
        assert!(rmse(crop.pixels(), textured(37).pixels()) < 8.0);
    }
}
