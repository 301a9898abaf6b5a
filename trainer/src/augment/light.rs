//! Effects of light, lens and sensor on a whole crop.

use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;
use roadhound_shared::frame::FrameView;
use roadhound_shared::preprocess::{Border, CropSize, CropWindow, crop_rgb8_sized};

use super::{AugmentScratch, Crop, ShadowConfig, ToneConfig, about_zero, chance, within};

/// Global tone of a crop: gamma, then contrast about its mean with tint, then brightness, at most half way from the
/// mean to black or white. Night scenes stay dark without being crushed, whatever was drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tone {
    /// Exponent of the value in `[0, 1]`.
    pub gamma: f32,
    /// Gain about the mean, by channel.
    pub contrast: [f32; 3],
    /// Added, in 8-bit steps, as far as the mean leaves room.
    pub brightness: f32,
}

impl Tone {
    /// Changes nothing.
    pub const NEUTRAL: Self = Self {
        gamma: 1.0,
        contrast: [1.0; 3],
        brightness: 0.0,
    };

    /// Draws a tone, all of it scaled by `strength`: none is [`Self::NEUTRAL`]. Grey crops get no tint.
    pub fn draw(config: &ToneConfig, strength: f32, grey: bool, rng: &mut ChaCha8Rng) -> Self {
        let gamma = about_zero(config.log_gamma * strength, rng).exp();
        let contrast = about_zero(config.log_contrast * strength, rng).exp();
        let brightness = about_zero(config.brightness * strength, rng);
        let tint = [(); 3].map(|()| about_zero(config.tint * strength, rng));
        let tint = if grey { [0.0; 3] } else { tint };
        Self {
            gamma,
            contrast: tint.map(|tint| contrast * (1.0 + tint)),
            brightness,
        }
    }

    /// Applies it through one table a channel.
    pub fn apply(&self, crop: &mut Crop) {
        if *self == Self::NEUTRAL {
            return;
        }
        let bend = |value: f32| (value / 255.0).powf(self.gamma) * 255.0;
        let mean = bend(mean_level(crop));
        let room = 0.5 * mean.min(255.0 - mean);
        let brightness = self.brightness.clamp(-room, room);
        let mut tables = [[0_u8; 256]; 3];
        for value in 0..256 {
            let from_mean = bend(value as f32) - mean;
            for (table, contrast) in tables.iter_mut().zip(self.contrast) {
                let toned = mean + from_mean * contrast + brightness;
                table[value] = (toned + 0.5).clamp(0.0, 255.0) as u8;
            }
        }
        for pixel in crop.pixels.chunks_exact_mut(3) {
            for (sample, table) in pixel.iter_mut().zip(&tables) {
                *sample = table[usize::from(*sample)];
            }
        }
    }
}

/// Mean over all channels of one pixel in seven: a prime, so that no row or column pattern is favoured.
fn mean_level(crop: &Crop) -> f32 {
    let (mut sum, mut count) = (0_u64, 0_u64);
    for pixel in crop.pixels.chunks_exact(3).step_by(7) {
        sum += pixel.iter().map(|&sample| u64::from(sample)).sum::<u64>();
        count += 3;
    }
    sum as f32 / count.max(1) as f32
}

/// Luma on all three channels.
pub fn grey(crop: &mut Crop) {
    for pixel in crop.pixels.chunks_exact_mut(3) {
        let luma = 77 * u32::from(pixel[0]) + 150 * u32::from(pixel[1]) + 29 * u32::from(pixel[2]);
        pixel.fill(((luma + 128) >> 8) as u8);
    }
}

/// Which part of the crop a shadow covers. `angle` turns the edge's normal from the horizontal.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ShadowShape {
    /// All of it.
    Whole,
    /// Everything beyond a straight edge.
    HalfPlane {
        /// Of the edge's normal.
        angle: f32,
        /// Distance of the edge from the centre, in sides of the crop.
        offset: f32,
    },
    /// A stripe.
    Band {
        /// Of the edges' normal.
        angle: f32,
        /// Distance of the middle from the centre, in sides of the crop.
        offset: f32,
        /// Width, in sides of the crop.
        width: f32,
    },
}

/// Light or shade with a soft edge.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shadow {
    /// Where.
    pub shape: ShadowShape,
    /// Factor inside: below one is shade.
    pub gain: f32,
    /// Width of the penumbra.
    pub soft_px: f32,
}

impl Shadow {
    /// Draws one; `strength` scales the logarithm of the gain.
    pub fn draw(config: &ShadowConfig, strength: f32, rng: &mut ChaCha8Rng) -> Self {
        let gain = (within(config.log_gain, rng) * strength).exp();
        let soft_px = within(config.soft_px, rng);
        let angle = within([0.0, core::f32::consts::TAU], rng);
        let offset = about_zero(0.3, rng);
        let width = within([0.08, 0.5], rng);
        let shape = if chance(config.whole_share, rng) {
            ShadowShape::Whole
        } else if chance(config.band_share, rng) {
            ShadowShape::Band {
                angle,
                offset,
                width,
            }
        } else {
            ShadowShape::HalfPlane { angle, offset }
        };
        Self {
            shape,
            gain,
            soft_px,
        }
    }
}

/// Multiplies the covered part by the shadow's gain.
pub fn shadow(crop: &mut Crop, plan: &Shadow) {
    let side = crop.side_px() as f32;
    let (width_px, height_px) = (crop.width_px as f32, crop.height_px as f32);
    // Signed depth into the shadow in units of the penumbra, 0.5 at the edge.
    let (angle, offset, half_width) = match plan.shape {
        ShadowShape::Whole => (0.0, 0.0, f32::INFINITY),
        ShadowShape::HalfPlane { angle, offset } => (angle, offset, f32::NAN),
        ShadowShape::Band {
            angle,
            offset,
            width,
        } => (angle, offset, width * side / 2.0),
    };
    let (ny, nx) = angle.sin_cos();
    let per_px = 1.0 / plan.soft_px.max(1e-3);
    let step_q8 = (plan.gain - 1.0) * 256.0;
    let row_len = crop.width_px as usize * 3;
    if row_len == 0 {
        return;
    }
    let half_plane = half_width.is_nan();
    for (y, row) in crop.pixels.chunks_exact_mut(row_len).enumerate() {
        let at_row = ny * (y as f32 + 0.5 - height_px / 2.0) - nx * width_px / 2.0 - offset * side;
        for (x, pixel) in row.chunks_exact_mut(3).enumerate() {
            let distance = at_row + nx * (x as f32 + 0.5);
            let depth = if half_plane {
                distance
            } else {
                half_width - distance.abs()
            };
            let inside = (depth * per_px + 0.5).clamp(0.0, 1.0);
            let gain_q8 = (256.5 + step_q8 * inside) as i32;
            for sample in pixel {
                *sample = ((i32::from(*sample) * gain_q8) >> 8).min(255) as u8;
            }
        }
    }
}

/// Five taps across, five taps down, borders repeated. Sigma zero changes nothing.
pub fn gaussian_blur(crop: &mut Crop, sigma_px: f32, scratch: &mut AugmentScratch) {
    let taps = gaussian_taps(sigma_px);
    let row_len = crop.width_px as usize * 3;
    if row_len == 0 || taps[2] == 256 {
        return;
    }
    let blend = |window: [u8; 5]| {
        let sum: u16 = window
            .iter()
            .zip(&taps)
            .map(|(&sample, &tap)| u16::from(sample) * tap)
            .sum();
        ((sum + 128) >> 8) as u8
    };
    let AugmentScratch {
        bytes: across,
        small: padded,
        ..
    } = scratch;
    across.resize(crop.pixels.len(), 0);
    for (row, out) in crop
        .pixels
        .chunks_exact(row_len)
        .zip(across.chunks_exact_mut(row_len))
    {
        pad_row(row, 2, padded);
        let p = padded.as_slice();
        for (i, out) in out.iter_mut().enumerate() {
            *out = blend([p[i], p[i + 3], p[i + 6], p[i + 9], p[i + 12]]);
        }
    }
    let last = crop.height_px as isize - 1;
    for (y, out) in crop.pixels.chunks_exact_mut(row_len).enumerate() {
        let rows = [-2, -1, 0, 1, 2].map(|dy: isize| {
            let from = (y as isize + dy).clamp(0, last) as usize * row_len;
            &across[from..from + row_len]
        });
        for (i, out) in out.iter_mut().enumerate() {
            *out = blend(rows.map(|row| row[i]));
        }
    }
}

/// Weights in 1/256 that sum to 256.
fn gaussian_taps(sigma_px: f32) -> [u16; 5] {
    let sigma = sigma_px.max(1e-3);
    let weight = |d: f32| (-0.5 * d * d / (sigma * sigma)).exp();
    let sum = 1.0 + 2.0 * (weight(1.0) + weight(2.0));
    let [near, far] = [1.0, 2.0].map(|d| (256.0 * weight(d) / sum + 0.5) as u16);
    [far, near, 256 - 2 * (near + far), near, far]
}

/// Copies a row into `padded` with `by_px` pixels of its ends repeated on either side.
fn pad_row(row: &[u8], by_px: usize, padded: &mut Vec<u8>) {
    padded.clear();
    for _ in 0..by_px {
        padded.extend_from_slice(&row[..3]);
    }
    padded.extend_from_slice(row);
    for _ in 0..by_px {
        padded.extend_from_slice(&row[row.len() - 3..]);
    }
}

/// The mean of `length_px` along a line through each pixel, which stays in its middle: where the length is even, the
/// sample at either end counts half. Length one changes nothing.
pub fn motion_blur(crop: &mut Crop, length_px: u32, angle: f32, scratch: &mut AugmentScratch) {
    const REACH_PX: usize = 8;
    let length = length_px.clamp(1, 2 * REACH_PX as u32 - 1);
    let row_len = crop.width_px as usize * 3;
    if row_len == 0 || length == 1 {
        return;
    }
    let AugmentScratch {
        bytes: source,
        small: padded,
        ..
    } = scratch;
    source.clear();
    for row in crop.pixels.chunks_exact(row_len) {
        pad_row(row, REACH_PX, padded);
        source.extend_from_slice(padded);
    }
    let source_len = row_len + 6 * REACH_PX;
    let (sin, cos) = angle.sin_cos();
    let reach = (length / 2) as i32;
    let taps: Vec<(isize, isize, u16)> = (-reach..=reach)
        .map(|d| {
            let at = |share: f32| (d as f32 * share).round() as isize;
            let half = length.is_multiple_of(2) && d.abs() == reach;
            (at(cos), at(sin), if half { 1 } else { 2 })
        })
        .collect();
    // Rounded division by twice the length, exact for sums of at most 30 bytes.
    let total = 2 * length;
    let reciprocal = (1 << 20) / total + 1;
    let mut sums = vec![0_u16; row_len];
    let last = crop.height_px as isize - 1;
    for (y, out) in crop.pixels.chunks_exact_mut(row_len).enumerate() {
        sums.fill(length as u16);
        for &(dx, dy, weight) in &taps {
            let row = (y as isize + dy).clamp(0, last) as usize * source_len;
            let start = row + ((REACH_PX as isize + dx) * 3) as usize;
            for (sum, &sample) in sums.iter_mut().zip(&source[start..start + row_len]) {
                *sum += weight * u16::from(sample);
            }
        }
        for (out, &sum) in out.iter_mut().zip(&sums) {
            *out = ((u32::from(sum) * reciprocal) >> 20) as u8;
        }
    }
}

/// Shrinks by area and enlarges again, with the crop of `shared`. Factor one changes nothing.
pub fn low_resolution(crop: &mut Crop, factor: f32, scratch: &mut AugmentScratch) {
    let size = crop.size();
    let shrink = |px: u32| ((px as f32 * factor).round() as u32).max(4).min(px);
    let small_size = CropSize {
        width_px: shrink(size.width_px),
        height_px: shrink(size.height_px),
    };
    if small_size == size {
        return;
    }
    let AugmentScratch {
        small,
        crop: crop_scratch,
        ..
    } = scratch;
    let samples = small_size.width_px as usize * small_size.height_px as usize * 3;
    small.resize(samples, 0);
    let whole = |size: CropSize| CropWindow::letterbox(size.width_px, size.height_px, size);
    let shrunk = FrameView::rgb8(size.width_px, size.height_px, &crop.pixels).is_ok_and(|view| {
        crop_rgb8_sized(
            &view,
            &whole(size),
            small_size,
            Border::Replicate,
            crop_scratch,
            small,
        )
        .is_ok()
    });
    let small = FrameView::rgb8(small_size.width_px, small_size.height_px, small);
    if let (true, Ok(view)) = (shrunk, small) {
        let grown = crop_rgb8_sized(
            &view,
            &whole(small_size),
            size,
            Border::Replicate,
            crop_scratch,
            &mut crop.pixels,
        );
        debug_assert!(grown.is_ok(), "sizes agree by construction");
    }
}

/// Adds even noise in plus or minus `amplitude`; one value a pixel where `grey`, one a sample otherwise.
pub fn noise(crop: &mut Crop, amplitude: u32, grey: bool, seed: u64, scratch: &mut AugmentScratch) {
    let amplitude = amplitude.min(255) as i32;
    let samples_per_value = if grey { 3 } else { 1 };
    scratch
        .bytes
        .resize(crop.pixels.len() / samples_per_value, 0);
    ChaCha8Rng::seed_from_u64(seed).fill_bytes(&mut scratch.bytes);
    for (samples, &byte) in crop
        .pixels
        .chunks_exact_mut(samples_per_value)
        .zip(&scratch.bytes)
    {
        let change = ((i32::from(byte) * (2 * amplitude + 1)) >> 8) - amplitude;
        for sample in samples {
            *sample = (i32::from(*sample) + change).clamp(0, 255) as u8;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;
    use crate::augment::textured;

    fn changed(change: impl FnOnce(&mut Crop, &mut AugmentScratch)) -> Crop {
        let mut crop = textured(64);
        change(&mut crop, &mut AugmentScratch::default());
        crop
    }

    fn mean(crop: &Crop) -> f32 {
        crop.pixels().iter().map(|&v| f32::from(v)).sum::<f32>() / crop.pixels().len() as f32
    }

    fn roughness(crop: &Crop) -> f32 {
        crop.pixels()
            .windows(4)
            .map(|w| f32::from(w[0].abs_diff(w[3])))
            .sum::<f32>()
    }

    #[test]
    fn effects_of_no_strength_are_the_identity() {
        assert_eq!(changed(|crop, _| Tone::NEUTRAL.apply(crop)), textured(64));
        let almost = Tone {
            brightness: 1e-4,
            ..Tone::NEUTRAL
        };
        assert_eq!(
            changed(|crop, _| almost.apply(crop)),
            textured(64),
            "tables round to the same values"
        );
        assert_eq!(
            changed(|crop, scratch| gaussian_blur(crop, 0.0, scratch)),
            textured(64)
        );
        assert_eq!(
            changed(|crop, scratch| motion_blur(crop, 1, 0.3, scratch)),
            textured(64)
        );
        assert_eq!(
            changed(|crop, scratch| low_resolution(crop, 1.0, scratch)),
            textured(64)
        );
        assert_eq!(
            changed(|crop, scratch| noise(crop, 0, false, 1, scratch)),
            textured(64)
        );
        for shape in [
            ShadowShape::Whole,
            ShadowShape::HalfPlane {
                angle: 1.0,
                offset: 0.1,
            },
        ] {
            assert_eq!(
                changed(|crop, _| shadow(
                    crop,
                    &Shadow {
                        shape,
                        gain: 1.0,
                        soft_px: 9.0
                    }
                )),
                textured(64)
            );
        }
    }

    #[test]
    fn a_night_scene_keeps_its_detail_under_the_harshest_tone() {
        let mut crop = textured(64);
        crop.pixels_mut().iter_mut().for_each(|sample| *sample /= 6);
        let levels = |crop: &Crop| crop.pixels().iter().filter(|&&sample| sample > 0).count();
        let before = levels(&crop);
        Tone {
            gamma: 1.0,
            contrast: [1.4; 3],
            brightness: -25.0,
        }
        .apply(&mut crop);
        // About mid-grey the same tone would leave nothing; the blue channel, darkest, may go.
        assert!(
            levels(&crop) * 2 > before,
            "{} of {before} samples above black",
            levels(&crop)
        );
    }

    #[test]
    fn blurs_keep_the_mean_and_lose_detail() {
        let sharp = textured(64);
        for (name, soft) in [
            (
                "gaussian",
                changed(|crop, scratch| gaussian_blur(crop, 1.2, scratch)),
            ),
            (
                "motion",
                changed(|crop, scratch| motion_blur(crop, 9, 0.4, scratch)),
            ),
            (
                "motion up",
                changed(|crop, scratch| motion_blur(crop, 8, 1.57, scratch)),
            ),
            (
                "low resolution",
                changed(|crop, scratch| low_resolution(crop, 0.3, scratch)),
            ),
        ] {
            assert!(
                (mean(&soft) - mean(&sharp)).abs() < 1.5,
                "{name}: {} from {}",
                mean(&soft),
                mean(&sharp)
            );
            assert!(roughness(&soft) < roughness(&sharp), "{name}");
        }
    }

    #[test]
    fn uniform_crops_stay_uniform_under_blurs() {
        for value in [0, 1, 127, 254, 255] {
            let flat = Crop::filled(32, [value; 3]);
            let mut crop = flat.clone();
            let mut scratch = AugmentScratch::default();
            gaussian_blur(&mut crop, 0.9, &mut scratch);
            for length_px in 2..=15 {
                motion_blur(&mut crop, length_px, 0.7, &mut scratch);
            }
            low_resolution(&mut crop, 0.4, &mut scratch);
            assert_eq!(crop, flat);
        }
    }

    #[test]
    fn motion_blur_smears_along_its_direction_only() {
        let mut crop = Crop::filled(32, [0; 3]);
        let at = (16 * 32 + 16) * 3;
        crop.pixels_mut()[at..at + 3].fill(255);
        motion_blur(&mut crop, 5, 0.0, &mut AugmentScratch::default());
        for x in 0..32 {
            let expected = if (14..=18).contains(&x) { 51 } else { 0 };
            assert_eq!(crop.at(x, 16)[0], expected, "x {x}");
            assert_eq!(crop.at(x, 15)[0], 0);
        }
    }

    #[test]
    fn a_smear_of_any_length_is_whole_and_lies_about_its_point() {
        for length in 2..=15 {
            for (angle, along) in [(0.0, 3), (core::f32::consts::FRAC_PI_2, 3 * 33)] {
                let mut crop = Crop::filled(33, [0; 3]);
                let middle = (16 * 33 + 16) * 3;
                crop.pixels_mut()[middle] = 240;
                motion_blur(&mut crop, length, angle, &mut AugmentScratch::default());
                let at = |d: i32| i32::from(crop.pixels()[(middle as i32 + d * along) as usize]);
                let whole = (240.0 / length as f32).round() as i32;
                let reach = length as i32 / 2;
                for d in 0..=reach + 1 {
                    let half = length.is_multiple_of(2) && d == reach;
                    let expected = match (d <= reach, half) {
                        (true, false) => whole,
                        (true, true) => (120.0 / length as f32).round() as i32,
                        (false, _) => 0,
                    };
                    assert_eq!([at(d), at(-d)], [expected; 2], "{length}, {angle}: {d}");
                }
            }
        }
    }

    #[test]
    fn a_tone_of_no_strength_is_none() {
        for seed in 0..20 {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let tone = Tone::draw(&ToneConfig::default(), 0.0, false, &mut rng);
            assert_eq!(tone, Tone::NEUTRAL);
        }
    }

    #[test]
    fn a_half_plane_darkens_one_side_and_leaves_the_other() {
        let mut crop = Crop::filled(64, [200; 3]);
        let shape = ShadowShape::HalfPlane {
            angle: 0.0,
            offset: 0.0,
        };
        shadow(
            &mut crop,
            &Shadow {
                shape,
                gain: 0.5,
                soft_px: 8.0,
            },
        );
        assert_eq!(crop.at(10, 30), [200; 3]);
        assert_eq!(crop.at(54, 30), [100; 3]);
        // The pixel reaches half a pixel past the edge: 0.5625 of the way, a gain of 0.71875.
        assert_eq!(crop.at(32, 30), [143; 3]);
        let row: Vec<u8> = (0..64).map(|x| crop.at(x, 5)[0]).collect();
        assert!(row.windows(2).all(|pair| pair[0] >= pair[1]));
    }

    #[test]
    fn a_band_brightens_its_middle_without_wrapping() {
        let mut crop = Crop::filled(64, [200, 20, 3]);
        let shape = ShadowShape::Band {
            angle: core::f32::consts::FRAC_PI_2,
            offset: 0.0,
            width: 0.25,
        };
        shadow(
            &mut crop,
            &Shadow {
                shape,
                gain: 2.0,
                soft_px: 2.0,
            },
        );
        assert_eq!(crop.at(5, 32), [255, 40, 6]);
        assert_eq!(crop.at(5, 10), [200, 20, 3]);
        assert_eq!(crop.at(5, 54), [200, 20, 3]);
    }

    #[test]
    fn grey_removes_colour_and_keeps_grey_values() {
        let mut crop = textured(32);
        grey(&mut crop);
        assert!(
            crop.pixels()
                .chunks(3)
                .all(|p| p[0] == p[1] && p[1] == p[2])
        );
        let once = crop.clone();
        grey(&mut crop);
        assert_eq!(crop, once);
    }

    #[test]
    fn noise_stays_within_its_amplitude_and_keeps_the_mean() {
        let flat = Crop::filled(64, [128; 3]);
        for is_grey in [false, true] {
            let mut crop = flat.clone();
            noise(&mut crop, 12, is_grey, 5, &mut AugmentScratch::default());
            assert!(crop.pixels().iter().all(|v| v.abs_diff(128) <= 12));
            assert!((mean(&crop) - 128.0).abs() < 0.6);
            assert_eq!(
                crop.pixels()
                    .chunks(3)
                    .all(|p| p[0] == p[1] && p[1] == p[2]),
                is_grey
            );
        }
    }

    proptest! {
        #[test]
        fn taps_sum_to_one_for_any_sigma(sigma in 0.0_f32..3.0) {
            prop_assert_eq!(gaussian_taps(sigma).iter().sum::<u16>(), 256);
        }

        #[test]
        fn brighter_tone_never_darkens(brightness in 0.0_f32..200.0) {
            let crop = changed(|crop, _| Tone { brightness, ..Tone::NEUTRAL }.apply(crop));
            prop_assert!(crop.pixels().iter().zip(textured(64).pixels()).all(|(after, before)| after >= before));
        }
    }
}
