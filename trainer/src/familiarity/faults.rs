//! A lens that is covered, smeared or blinded, and a camera that looks elsewhere, on frames that are not.
//!
//! In: a frame, and random streams for what is wrong and for the grain. Out: the frame as the camera would show it: the same
//! first stream is the same hand on the lens, the same lamps, the same turn. For scoring alone.

use image::{Rgb, RgbImage};
use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::elsewhere::{any_turn, room, turned};
use crate::params::normal;

/// What is wrong with the picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A hand, a cloth, a leaf or mud on the lens: at most a strip at one side is left.
    Covered,
    /// Out of focus, or grease on the lens.
    Blurred,
    /// At night, with lamps that shine into the lens.
    NightGlare,
    /// Off its mount, and turned by at least [`TURN_DEGREES`].
    Turned,
    /// Into a room: no road at all.
    Elsewhere,
}

/// A camera that still hangs straight is turned by less: kerbs slope and roads bank.
pub const TURN_DEGREES: f32 = 60.0;

impl Fault {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Covered,
        Self::Blurred,
        Self::NightGlare,
        Self::Turned,
        Self::Elsewhere,
    ];

    /// Its name in a report.
    pub fn name(self) -> &'static str {
        match self {
            Self::Covered => "covered",
            Self::Blurred => "blurred",
            Self::NightGlare => "night_glare",
            Self::Turned => "turned",
            Self::Elsewhere => "elsewhere",
        }
    }

    /// The frame with the fault; `aspect`, width by height, is that of the crop that will be taken of it.
    pub fn apply(
        self,
        frame: &RgbImage,
        aspect: f32,
        rng: &mut ChaCha8Rng,
        grain: &mut ChaCha8Rng,
    ) -> RgbImage {
        match self {
            Self::Covered => covered(frame, rng, grain),
            Self::Blurred => blurred(frame, rng, grain),
            Self::NightGlare => night_glare(frame, rng, grain),
            Self::Turned => turned(frame, any_turn(TURN_DEGREES, rng), aspect),
            Self::Elsewhere => room(frame.dimensions(), rng, grain),
        }
    }
}

fn byte(value: f32) -> u8 {
    value.round().clamp(0.0, 255.0) as u8
}

fn covered(frame: &RgbImage, rng: &mut ChaCha8Rng, grain: &mut ChaCha8Rng) -> RgbImage {
    let (width, height) = frame.dimensions();
    let light = rng.random_range(4.0..70.0f32);
    // Skin lets red through; cloth and mud are of any dull colour.
    let tint = [
        1.0,
        rng.random_range(0.45..1.0f32),
        rng.random_range(0.35..1.0f32),
    ];
    let slope = [
        rng.random_range(-0.6..0.6f32),
        rng.random_range(-0.6..0.6f32),
    ];
    let noise = rng.random_range(1.0..6.0f32);
    // How much of the picture is left at one side, and at which.
    let open = match rng.random_bool(0.3) {
        true => rng.random_range(0.02..0.1f32),
        false => 0.0,
    };
    let side = rng.random_range(0..4u8);
    RgbImage::from_fn(width, height, |x, y| {
        let (u, v) = (x as f32 / width as f32, y as f32 / height as f32);
        let from_side = [u, 1.0 - u, v, 1.0 - v][usize::from(side)];
        // The edge of something near is out of focus.
        let seen = ((open - from_side) / 0.03 + 0.5).clamp(0.0, 1.0) * f32::from(open > 0.0);
        let shade = light * (1.0 + slope[0] * (u - 0.5) + slope[1] * (v - 0.5));
        let grain = noise * normal(grain);
        let under = frame.get_pixel(x, y).0;
        Rgb([0, 1, 2].map(|c| {
            let cover = shade * tint[c] + grain;
            byte(cover + seen * (f32::from(under[c]) - cover))
        }))
    })
}

fn blurred(frame: &RgbImage, rng: &mut ChaCha8Rng, grain: &mut ChaCha8Rng) -> RgbImage {
    let sigma_px = rng.random_range(0.014..0.035f32) * frame.width() as f32;
    let veil = rng.random_range(0.0..0.25f32);
    let grey = rng.random_range(90.0..200.0f32);
    let noise = rng.random_range(0.5..2.5f32);
    let mut picture = image::imageops::fast_blur(frame, sigma_px);
    for pixel in picture.pixels_mut() {
        let grain = noise * normal(grain);
        pixel.0 = pixel
            .0
            .map(|v| byte(f32::from(v) + veil * (grey - f32::from(v)) + grain));
    }
    picture
}

fn night_glare(frame: &RgbImage, rng: &mut ChaCha8Rng, grain: &mut ChaCha8Rng) -> RgbImage {
    let (width, height) = (frame.width() as f32, frame.height() as f32);
    let dark = rng.random_range(0.03..0.15f32);
    let noise = rng.random_range(2.0..7.0f32);
    struct Lamp {
        at: [f32; 2],
        core_px: f32,
        halo_px: f32,
        strength: f32,
        colour: [f32; 3],
    }
    let lamps: Vec<Lamp> = (0..rng.random_range(1..=3))
        .map(|_| Lamp {
            at: [
                rng.random_range(0.15..0.85) * width,
                rng.random_range(0.3..0.7) * height,
            ],
            core_px: rng.random_range(0.03..0.09) * width,
            halo_px: rng.random_range(0.2..0.45) * width,
            strength: rng.random_range(90.0..220.0),
            colour: [
                1.0,
                rng.random_range(0.85..1.0),
                rng.random_range(0.65..1.0),
            ],
        })
        .collect();
    RgbImage::from_fn(frame.width(), frame.height(), |x, y| {
        let under = frame.get_pixel(x, y).0;
        let grain = noise * normal(grain);
        let mut light = under.map(|v| dark * f32::from(v));
        for lamp in &lamps {
            let (dx, dy) = (x as f32 - lamp.at[0], y as f32 - lamp.at[1]);
            let square = dx * dx + dy * dy;
            let core = 900.0 * (-square / (2.0 * lamp.core_px * lamp.core_px)).exp();
            let halo = lamp.strength / (1.0 + square / (lamp.halo_px * lamp.halo_px / 4.0));
            // What smears along the wipers' way.
            let streak = 120.0 * (-(dx * dx) / (2.0 * (0.01 * width).powi(2))).exp()
                / (1.0 + dy.abs() / (0.1 * height));
            for (light, colour) in light.iter_mut().zip(lamp.colour) {
                *light += colour * (core + halo + streak);
            }
        }
        Rgb(light.map(|v| byte(v + grain)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    fn checks() -> RgbImage {
        RgbImage::from_fn(160, 90, |x, y| {
            Rgb([if (x / 4 + y / 4) % 2 == 0 { 30 } else { 220 }; 3])
        })
    }

    /// Mean, and mean squared difference of neighbours.
    fn mean_and_detail(picture: &RgbImage) -> (f32, f32) {
        let at = |x, y| f32::from(picture.get_pixel(x, y).0[1]);
        let (width, height) = picture.dimensions();
        let (mut mean, mut detail) = (0.0, 0.0);
        for y in 0..height {
            for x in 1..width {
                mean += at(x, y);
                detail += (at(x, y) - at(x - 1, y)).powi(2);
            }
        }
        let n = (height * (width - 1)) as f32;
        (mean / n, detail / n)
    }

    #[test]
    fn every_fault_takes_detail_away_and_is_what_it_is_called() {
        let (_, sharp) = mean_and_detail(&checks());
        for seed in 0..8 {
            let of = |fault: Fault| {
                let with = |grain: u64| {
                    let [mut rng, mut grain] = [seed, grain].map(ChaCha8Rng::seed_from_u64);
                    fault.apply(&checks(), 160.0 / 90.0, &mut rng, &mut grain)
                };
                let picture = with(99);
                assert_eq!(picture, with(99));
                let (other, _) = mean_and_detail(&with(98));
                let (mean, _) = mean_and_detail(&picture);
                assert!(picture != with(98) && (other - mean).abs() < 1.0);
                let brightest = picture.pixels().map(|p| p.0[0]).max();
                (mean_and_detail(&picture), brightest)
            };
            let ((mean, detail), _) = of(Fault::Covered);
            assert!(
                mean < 110.0 && detail < 0.3 * sharp,
                "{mean} {detail} {sharp}"
            );
            let ((_, detail), _) = of(Fault::Blurred);
            assert!(detail < 0.2 * sharp, "{detail} {sharp}");
            let ((_, detail), brightest) = of(Fault::NightGlare);
            assert!(
                detail < 0.5 * sharp && brightest == Some(255),
                "{detail} {brightest:?}"
            );
        }
    }
}
