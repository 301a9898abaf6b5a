//! Leaves and fronds.

use crate::world::math::{Rgb, fract, mix3, ramp, scale, sqrt};
use crate::world::random::{Noise, unit_at};
use crate::world::texture::Texture;

/// Leaves: clumps with light tops and gaps; `dust` greys them.
pub(in crate::world) fn leaves(
    noise: &Noise,
    seed: u64,
    base: Rgb,
    dust: f32,
    airy: f32,
) -> Texture {
    let (ou, ov) = (unit_at(seed, 1, 1), unit_at(seed, 1, 2));
    let dry = [0.36, 0.33, 0.24];
    Texture::paint_cutout(6, 6, |u, v| {
        let (x, y) = ((u - 0.5) * 2.0, (v - 0.5) * 2.0);
        let r = sqrt(x * x + y * y);
        let clump = noise.fine(u * 0.42 + ou, v * 0.42 + ov);
        let leaf = noise.fine(u * 0.9 + ov, v * 0.9 + ou);
        let speck = unit_at(seed, (u * 64.0) as i64, (v * 64.0) as i64);
        let edge = 1.02 - r + 0.45 * clump + 0.25 * leaf;
        let gaps = airy * (0.6 * speck + 0.5 - clump);
        let coverage = (edge * 2.4 - gaps).clamp(0.0, 1.0) * if r > 0.995 { 0.0 } else { 1.0 };
        let light =
            (0.26 + 0.42 * v + 0.55 * clump + 0.45 * leaf + 0.35 * (speck - 0.5)).clamp(0.12, 1.5);
        let hue = mix3(
            base,
            [base[0] * 1.35, base[1] * 1.12, base[2] * 0.85],
            (0.5 + 0.6 * clump).clamp(0.0, 1.0),
        );
        (
            mix3(scale(hue, light), scale(dry, light), dust * 0.55),
            coverage,
        )
    })
}

/// A palm's frond, from the stem (left) to the tip (right).
pub(in crate::world) fn frond(seed: u64, dust: f32) -> Texture {
    Texture::paint_cutout(6, 5, |u, v| {
        let y = (v - 0.5).abs() * 2.0;
        let width = 0.95 * sqrt((1.0 - u).max(0.0)) * ramp(0.0, 0.15, u + 0.02);
        let comb = fract(u * 18.0 - y * 1.6 + (seed % 5) as f32 * 0.2);
        let rib = y < 0.07;
        let c = mix3([0.20, 0.30, 0.10], [0.36, 0.40, 0.18], comb);
        let coverage = if rib || (y < width && comb < 0.62) {
            1.0
        } else {
            0.0
        };
        (
            mix3(
                scale(c, 0.75 + 0.5 * (1.0 - y)),
                [0.40, 0.37, 0.26],
                dust * 0.5,
            ),
            coverage,
        )
    })
}
