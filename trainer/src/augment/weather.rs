//! Weather, night and glare: what a dashcam sees besides a clear day.
//!
//! In goes a crop and a [`Weather`] drawn once a pair, or a [`Glare`] drawn once a crop; out comes the same crop, changed
//! in place. All crops of a pair share their weather, for a video does; where the streaks fall and which lamps are near
//! differs from crop to crop. Lengths are pixels of a crop in which the object is about 64 px, template and search alike.
//!
//! ```
//! use rand::SeedableRng;
//! use roadhound_trainer::augment::{AugmentConfig, Crop, Weather};
//! let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(3);
//! let mut config = AugmentConfig::none();
//! config.haze.share = 1.0;
//! let mut crop = Crop::filled(64, [20, 30, 40]);
//! Weather::draw(&config, &mut rng).unwrap().apply(&mut crop, 7);
//! assert!(crop.at(32, 32)[0] > 60, "haze lifts the dark");
//! ```

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::{AugmentConfig, Crop, chance, whole_within, within};

/// Street lamps, headlights and little else.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NightConfig {
    /// Share of the pairs.
    pub share: f32,
    /// What is left of the light, from and to.
    pub gain: [f32; 2],
    /// Lamps in a crop of 256 px, from and to; smaller crops hold fewer.
    pub lamps: [u32; 2],
}

impl Default for NightConfig {
    fn default() -> Self {
        Self {
            share: 0.06,
            gain: [0.28, 0.6],
            lamps: [0, 5],
        }
    }
}

/// Fog, smog or dust between camera and object.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HazeConfig {
    /// Share of the pairs.
    pub share: f32,
    /// Share of the object's own light that arrives, from and to.
    pub transmission: [f32; 2],
}

impl Default for HazeConfig {
    fn default() -> Self {
        Self {
            share: 0.06,
            transmission: [0.35, 0.8],
        }
    }
}

/// Streaks in the air and drops on the glass.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RainConfig {
    /// Share of the pairs.
    pub share: f32,
    /// Streaks in a crop of 256 px, from and to.
    pub streaks: [u32; 2],
    /// Drops in a crop of 256 px, from and to.
    pub drops: [u32; 2],
}

impl Default for RainConfig {
    fn default() -> Self {
        Self {
            share: 0.05,
            streaks: [30, 140],
            drops: [0, 5],
        }
    }
}

/// A low sun, or a headlight into the lens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GlareConfig {
    /// Share of the crops.
    pub share: f32,
    /// Light added where it is brightest, in 8-bit steps, from and to.
    pub strength: [f32; 2],
}

impl Default for GlareConfig {
    fn default() -> Self {
        Self {
            share: 0.06,
            strength: [50.0, 180.0],
        }
    }
}

/// What all crops of a pair have in common.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Weather {
    /// After dark.
    Night {
        /// What is left of the light, by channel.
        gain: [f32; 3],
        /// Exponent of the value in `[0, 1]`: above one, darks fall further than lights.
        gamma: f32,
        /// Lamps in a crop of 256 px.
        lamps: u32,
    },
    /// Fog, smog or dust.
    Haze {
        /// Share of the light that arrives from the lower edge of the crop.
        transmission: f32,
        /// Colour of the haze.
        airlight: [f32; 3],
    },
    /// Rain.
    Rain {
        /// Streaks in a crop of 256 px.
        streaks: u32,
        /// Drops in a crop of 256 px.
        drops: u32,
        /// Columns a streak moves to the right for every row that it falls.
        slant: f32,
    },
}

impl Weather {
    /// Draws the weather of a pair; `None` on most days.
    pub fn draw(config: &AugmentConfig, rng: &mut ChaCha8Rng) -> Option<Self> {
        let (night, haze, rain) = (&config.night, &config.haze, &config.rain);
        let which = rng.random::<f32>();
        if which < night.share {
            let gain = within(night.gain, rng);
            let warmth = within([-0.12, 0.22], rng); // sodium lamps are warm, LEDs are cold
            Some(Self::Night {
                gain: [1.0 + warmth, 1.0, 1.0 - warmth].map(|tint| gain * tint),
                gamma: within([1.0, 1.35], rng),
                lamps: whole_within(night.lamps, rng),
            })
        } else if which < night.share + haze.share {
            let level = within([165.0, 225.0], rng);
            let dust = within([0.0, 0.22], rng);
            Some(Self::Haze {
                transmission: within(haze.transmission, rng),
                airlight: [level, level * (1.0 - 0.3 * dust), level * (1.0 - dust)],
            })
        } else if which < night.share + haze.share + rain.share {
            Some(Self::Rain {
                streaks: whole_within(rain.streaks, rng),
                drops: whole_within(rain.drops, rng),
                slant: within([-0.35, 0.35], rng),
            })
        } else {
            None
        }
    }

    /// Puts the weather on a crop; `seed` decides where lamps, streaks and drops are.
    pub fn apply(&self, crop: &mut Crop, seed: u64) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let of_256 = |px: u32| px as f32 / 256.0;
        let share_of_256 = of_256(crop.width_px) * of_256(crop.height_px);
        let count = |of_256: u32| (of_256 as f32 * share_of_256).round() as u32;
        match *self {
            Self::Night { gain, gamma, lamps } => {
                darken(crop, gain, gamma);
                for _ in 0..count(lamps) {
                    lamp(crop, &mut rng);
                }
            }
            Self::Haze {
                transmission,
                airlight,
            } => veil(crop, [0.75 * transmission, transmission], airlight),
            Self::Rain {
                streaks,
                drops,
                slant,
            } => {
                veil(crop, [0.82, 0.9], [150.0, 155.0, 160.0]);
                for _ in 0..count(streaks) {
                    streak(crop, slant, &mut rng);
                }
                for _ in 0..count(drops) {
                    drop_on_glass(crop, &mut rng);
                }
            }
        }
    }
}

/// One bright source and the light that the lens scatters from it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Glare {
    /// Where the source is, in widths and heights of the crop; it may lie outside.
    pub at: [f32; 2],
    /// Distance at which half of the light is left, in sides of the crop.
    pub radius: f32,
    /// Light added at the source, by channel, in 8-bit steps.
    pub light: [f32; 3],
}

impl Glare {
    /// Draws one.
    pub fn draw(config: &GlareConfig, rng: &mut ChaCha8Rng) -> Self {
        let strength = within(config.strength, rng);
        let warmth = within([0.0, 0.25], rng);
        Self {
            at: [within([-0.2, 1.2], rng), within([-0.4, 0.6], rng)],
            radius: within([0.06, 0.3], rng),
            light: [
                strength,
                strength * (1.0 - 0.4 * warmth),
                strength * (1.0 - warmth),
            ],
        }
    }

    /// Adds the light to a crop: a core that falls off with the square, and a veil over everything.
    pub fn apply(&self, crop: &mut Crop) {
        const VEIL: f32 = 0.1;
        let side = crop.side_px() as f32;
        let row_len = crop.width_px as usize * 3;
        let cx = self.at[0] * crop.width_px as f32;
        let cy = self.at[1] * crop.height_px as f32;
        let per_square = 1.0 / (self.radius * side).max(1.0).powi(2);
        for (y, row) in crop
            .pixels_mut()
            .chunks_exact_mut(row_len.max(3))
            .enumerate()
        {
            let dy = y as f32 + 0.5 - cy;
            for (x, pixel) in row.chunks_exact_mut(3).enumerate() {
                let dx = x as f32 + 0.5 - cx;
                let near = VEIL + (1.0 - VEIL) / (1.0 + (dx * dx + dy * dy) * per_square);
                for (sample, light) in pixel.iter_mut().zip(self.light) {
                    // A lens adds light to light: what is bright saturates, what is dark turns milky.
                    *sample = (f32::from(*sample) + light * near + 0.5) as u8;
                }
            }
        }
    }
}

fn darken(crop: &mut Crop, gain: [f32; 3], gamma: f32) {
    let tables = gain.map(|gain| {
        let mut table = [0_u8; 256];
        for (value, out) in table.iter_mut().enumerate() {
            let bent = (value as f32 / 255.0).powf(gamma) * 255.0;
            *out = (bent * gain + 0.5).min(255.0) as u8;
        }
        table
    });
    for pixel in crop.pixels_mut().chunks_exact_mut(3) {
        for (sample, table) in pixel.iter_mut().zip(&tables) {
            *sample = table[usize::from(*sample)];
        }
    }
}

/// Blends towards the airlight; what is higher in the crop is farther away and fainter.
fn veil(crop: &mut Crop, [top, bottom]: [f32; 2], airlight: [f32; 3]) {
    let height = crop.height_px.max(1);
    let row_len = crop.width_px.max(1) as usize * 3;
    for (y, row) in crop.pixels_mut().chunks_exact_mut(row_len).enumerate() {
        let own = top + (bottom - top) * (y as f32 + 0.5) / height as f32;
        let own_q8 = (own * 256.0) as u32;
        let added = airlight.map(|light| (light * (256 - own_q8) as f32) as u32 + 128);
        for pixel in row.chunks_exact_mut(3) {
            for (sample, added) in pixel.iter_mut().zip(added) {
                *sample = ((u32::from(*sample) * own_q8 + added) >> 8).min(255) as u8;
            }
        }
    }
}

/// A street lamp, a tail light, or a pair of headlights, with its bloom.
fn lamp(crop: &mut Crop, rng: &mut ChaCha8Rng) {
    let (width, height) = (crop.width_px as f32, crop.height_px as f32);
    let at = [within([0.0, width], rng), within([0.0, 0.75 * height], rng)];
    let radius = within([1.0, 3.5], rng);
    let power = within([0.5, 1.3], rng);
    let light = match rng.random_range(0..3) {
        0 => [255.0, 190.0, 110.0],
        1 => [230.0, 40.0, 30.0],
        _ => [250.0, 250.0, 240.0],
    }
    .map(|channel: f32| channel * power);
    glow(crop, at, radius, light);
    if chance(0.4, rng) {
        glow(
            crop,
            [at[0] + within([5.0, 14.0], rng) * radius, at[1]],
            radius,
            light,
        );
    }
}

/// A core of `radius` px and a halo that fades out at eight times that.
fn glow(crop: &mut Crop, [cx, cy]: [f32; 2], radius: f32, light: [f32; 3]) {
    let reach = 8.0 * radius;
    let (width, height) = (crop.width_px, crop.height_px);
    let span = |centre: f32, side: u32| {
        let edge = |v: f32| v.clamp(0.0, side as f32) as u32;
        edge(centre - reach)..edge(centre + reach + 1.0)
    };
    for y in span(cy, height) {
        for x in span(cx, width) {
            let (dx, dy) = (x as f32 + 0.5 - cx, y as f32 + 0.5 - cy);
            let square = (dx * dx + dy * dy) / (radius * radius);
            let fade = (1.0 - square / 64.0).max(0.0);
            let near = fade * fade / (1.0 + square);
            let at = (y as usize * width as usize + x as usize) * 3;
            for (sample, light) in crop.pixels_mut()[at..at + 3].iter_mut().zip(light) {
                *sample = (f32::from(*sample) + light * near + 0.5) as u8;
            }
        }
    }
}

/// A falling drop, smeared by the exposure: a bright line one pixel wide with soft sides.
fn streak(crop: &mut Crop, slant: f32, rng: &mut ChaCha8Rng) {
    let (width, height) = (crop.width_px as i32, crop.height_px as i32);
    let length = rng.random_range(8..=26);
    let top = rng.random_range(-length..height.max(1));
    let left = within([-0.1 * width as f32, 1.1 * width as f32], rng);
    let slant = slant + within([-0.04, 0.04], rng);
    let opacity = within([0.08, 0.3], rng);
    for k in 0..length {
        let (x, y) = (left + slant * k as f32, top + k);
        // Faint at both ends.
        let along = 1.0 - (2.0 * k as f32 / length as f32 - 1.0).abs();
        let column = x.floor();
        for (column, share) in [(column, 1.0 - (x - column)), (column + 1.0, x - column)] {
            let column = column as i32;
            if !(0..width).contains(&column) || !(0..height).contains(&y) {
                continue;
            }
            let over = opacity * share * along.sqrt();
            let at = (y as usize * width as usize + column as usize) * 3;
            for sample in &mut crop.pixels_mut()[at..at + 3] {
                *sample = (f32::from(*sample) * (1.0 - over) + 215.0 * over + 0.5) as u8;
            }
        }
    }
}

/// A drop shows what is behind it upside down and small.
fn drop_on_glass(crop: &mut Crop, rng: &mut ChaCha8Rng) {
    let (width, height) = (crop.width_px, crop.height_px);
    let radius = within([3.0, 9.0], rng);
    let (cx, cy) = (
        within([0.0, width as f32], rng),
        within([0.0, height as f32], rng),
    );
    let span = |centre: f32, side: u32| {
        let edge = |v: f32| v.clamp(0.0, side as f32) as u32;
        edge(centre - radius)..edge(centre + radius + 1.0)
    };
    let before = crop.clone();
    for y in span(cy, height) {
        for x in span(cx, width) {
            let (dx, dy) = (x as f32 + 0.5 - cx, y as f32 + 0.5 - cy);
            let depth = 1.0 - (dx * dx + dy * dy) / (radius * radius);
            if depth <= 0.0 {
                continue;
            }
            let mirrored = |centre: f32, d: f32| (centre - 1.6 * d).max(0.0) as u32;
            let seen = before.at(mirrored(cx, dx), mirrored(cy, dy));
            let over = 0.75 * depth.sqrt().min(1.0);
            let at = (y as usize * width as usize + x as usize) * 3;
            for (sample, seen) in crop.pixels_mut()[at..at + 3].iter_mut().zip(seen) {
                let lit = f32::from(seen) * 1.08 + 6.0;
                *sample = (f32::from(*sample) * (1.0 - over) + lit * over + 0.5) as u8;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::textured;
    use super::*;

    fn only(pick: impl Fn(&mut AugmentConfig)) -> AugmentConfig {
        let mut config = AugmentConfig::none();
        pick(&mut config);
        config.validate().unwrap();
        config
    }

    fn mean(crop: &Crop) -> f32 {
        let sum: u64 = crop.pixels().iter().map(|v| u64::from(*v)).sum();
        sum as f32 / crop.pixels().len() as f32
    }

    fn contrast(crop: &Crop) -> f32 {
        let mean = mean(crop);
        let squares: f32 = crop
            .pixels()
            .iter()
            .map(|v| (f32::from(*v) - mean).powi(2))
            .sum();
        (squares / crop.pixels().len() as f32).sqrt()
    }

    #[test]
    fn night_darkens_haze_flattens_and_both_leave_something_to_see() {
        let clear = textured(128);
        for seed in 0..40 {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let mut dark = clear.clone();
            let night = Weather::draw(&only(|c| c.night.share = 1.0), &mut rng).unwrap();
            night.apply(&mut dark, seed);
            assert!(mean(&dark) < 0.85 * mean(&clear), "seed {seed}");
            let mut hazy = clear.clone();
            let haze = Weather::draw(&only(|c| c.haze.share = 1.0), &mut rng).unwrap();
            haze.apply(&mut hazy, seed);
            assert!(contrast(&hazy) < 0.85 * contrast(&clear), "seed {seed}");
            for crop in [dark, hazy] {
                assert!(contrast(&crop) > 8.0, "seed {seed}: {}", contrast(&crop));
            }
        }
    }

    #[test]
    fn rain_changes_single_pixels_and_glare_only_adds_light() {
        let clear = textured(256);
        for seed in 0..20 {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let mut wet = clear.clone();
            Weather::Rain {
                streaks: 100,
                drops: 3,
                slant: 0.1,
            }
            .apply(&mut wet, seed);
            assert_ne!(wet, clear);
            let mut lit = clear.clone();
            Glare::draw(&GlareConfig::default(), &mut rng).apply(&mut lit);
            let pairs = lit.pixels().iter().zip(clear.pixels());
            assert!(
                pairs.clone().all(|(lit, clear)| lit >= clear),
                "seed {seed}"
            );
            assert!(pairs.filter(|(lit, clear)| lit > clear).count() > 10_000);
        }
    }

    #[test]
    fn the_weather_of_a_pair_is_drawn_by_share_and_excludes_the_others() {
        let config = AugmentConfig::default();
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let drawn: Vec<_> = (0..8000)
            .map(|_| Weather::draw(&config, &mut rng))
            .collect();
        let share = |pick: &dyn Fn(&Weather) -> bool| {
            drawn.iter().flatten().filter(|w| pick(w)).count() as f32 / 8000.0
        };
        for (found, wanted) in [
            (
                share(&|w| matches!(w, Weather::Night { .. })),
                config.night.share,
            ),
            (
                share(&|w| matches!(w, Weather::Haze { .. })),
                config.haze.share,
            ),
            (
                share(&|w| matches!(w, Weather::Rain { .. })),
                config.rain.share,
            ),
        ] {
            // Four standard deviations of a share of 0.06 over 8000 draws.
            assert!(
                (found - wanted).abs() < 0.011,
                "{found} instead of {wanted}"
            );
        }
        let none = only(|_| ());
        assert!((0..500).all(|_| Weather::draw(&none, &mut rng).is_none()));
    }

    #[test]
    fn tiny_crops_and_sources_far_outside_are_no_trouble() {
        for side in [1, 2, 5] {
            let mut crop = Crop::filled(side, [9; 3]);
            for weather in [
                Weather::Night {
                    gain: [0.3; 3],
                    gamma: 1.2,
                    lamps: 90_000,
                },
                Weather::Haze {
                    transmission: 0.4,
                    airlight: [200.0; 3],
                },
                Weather::Rain {
                    streaks: 90_000,
                    drops: 90_000,
                    slant: 0.3,
                },
            ] {
                weather.apply(&mut crop, 1);
            }
            Glare {
                at: [50.0, -50.0],
                radius: 0.1,
                light: [200.0; 3],
            }
            .apply(&mut crop);
        }
    }
}
