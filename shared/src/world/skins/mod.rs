//! Painted surfaces: vehicle views, liveries, lettering, facades, leaves. All are functions of a place on the surface.

mod coachwork;
mod livery;
mod plants;
mod street;

use alloc::vec::Vec;

use super::math::{Rgb, TAU, fract, scale, sqrt};
use super::random::{Dice, Noise, hash, unit_at};
use super::texture::{Kind, Texture};

pub(super) use coachwork::Coachwork;
pub(super) use livery::{LOUD, Livery, decor};
pub(super) use plants::{frond, leaves};
pub(super) use street::{billboard, concrete, facade, fence, shops, sign, signal, wall};

fn inside(u: f32, v: f32, left: f32, right: f32, bottom: f32, top: f32) -> bool {
    u > left && u < right && v > bottom && v < top
}

/// Letters that nobody can read: `columns` glyphs of 3x5 cells in the unit square.
pub(super) fn lettering(u: f32, v: f32, columns: u32, seed: u64) -> bool {
    if !inside(u, v, 0.0, 1.0, 0.0, 1.0) {
        return false;
    }
    let x = u * columns as f32 * 4.0;
    let (column, row) = (x as i64, (v * 5.0) as i64);
    let (glyph, cell) = (column / 4, column % 4);
    if cell == 3 || unit_at(seed, glyph, 91) < 0.12 {
        return false;
    }
    // Strokes rather than specks: verticals mostly stand, horizontals mostly lie at top, middle and bottom.
    let share = match (cell, row) {
        (0 | 2, _) => 0.72,
        (_, 0 | 2 | 4) => 0.6,
        _ => 0.12,
    };
    unit_at(seed ^ 0x17, glyph, row * 4 + cell) < share
}

/// A white cloth with a little weave: tinted, it serves for everything of one colour.
pub(super) fn plain(noise: &Noise) -> Texture {
    Texture::paint(5, 5, |u, v| {
        let tone = 0.93 + 0.10 * noise.fine(u * 0.25, v * 0.25);
        ([tone; 3], Kind::Matte)
    })
}

/// A wheel's disc.
pub(super) fn hub(style: u64) -> Texture {
    Texture::paint(6, 6, |u, v| {
        let (x, y) = ((u - 0.5) * 2.0, (v - 0.5) * 2.0);
        let r = sqrt(x * x + y * y);
        let angle = libm::atan2f(y, x) / TAU;
        let spokes = [5.0, 6.0, 8.0, 10.0][(style % 4) as usize];
        if r > 0.68 {
            let tread = if r > 0.93 { 0.06 } else { 0.085 };
            ([tread, tread, tread + 0.004], Kind::Matte)
        } else if r < 0.14 {
            ([0.35, 0.36, 0.38], Kind::Chrome)
        } else if (4..8).contains(&style) {
            // A pressed steel disc with holes.
            let hole = r > 0.38 && r < 0.54 && fract(angle * 8.0) < 0.45;
            (
                if hole { [0.05; 3] } else { [0.45, 0.46, 0.47] },
                Kind::Matte,
            )
        } else if fract(angle * spokes) < 0.42 || r > 0.58 {
            ([0.60, 0.61, 0.63], Kind::Chrome)
        } else {
            ([0.05, 0.05, 0.055], Kind::Matte)
        }
    })
}

/// Wire spokes.
pub(super) fn spokes() -> Texture {
    Texture::paint_cutout(6, 6, |u, v| {
        let (x, y) = ((u - 0.5) * 2.0, (v - 0.5) * 2.0);
        let r = sqrt(x * x + y * y);
        let angle = libm::atan2f(y, x) / TAU;
        if r > 0.80 {
            ([0.07, 0.07, 0.075], 1.0)
        } else if !(0.16..=0.72).contains(&r) {
            ([0.5, 0.5, 0.52], 1.0)
        } else {
            (
                [0.5, 0.5, 0.52],
                if fract(angle * 14.0) < 0.3 {
                    0.75
                } else {
                    0.10
                },
            )
        }
    })
}

/// Cloth with stripes, checks, prints or nothing on it; sRGB.
pub(super) fn cloth(dice: &mut Dice, noise: &Noise) -> Texture {
    let muted: [Rgb; 10] = [
        [0.82, 0.82, 0.80],
        [0.15, 0.17, 0.22],
        [0.30, 0.38, 0.52],
        [0.45, 0.42, 0.38],
        [0.60, 0.63, 0.68],
        [0.35, 0.22, 0.18],
        [0.70, 0.62, 0.48],
        [0.22, 0.30, 0.25],
        [0.10, 0.10, 0.11],
        [0.62, 0.70, 0.80],
    ];
    let ground = if dice.chance(0.45) {
        dice.pick(&LOUD)
    } else {
        dice.pick(&muted)
    };
    let figure = if dice.chance(0.5) {
        dice.pick(&LOUD)
    } else {
        dice.pick(&muted)
    };
    let (style, count, seed) = (dice.below(7), 2.0 + dice.below(5) as f32, dice.next());
    Texture::paint(5, 5, |u, v| {
        let fold = 0.88 + 0.16 * noise.fine(u * 0.5 + (seed % 13) as f32 * 0.1, v * 0.2);
        let on = match style {
            0 => fract(v * count) < 0.4,
            1 => fract(u * count) < 0.35,
            2 => (fract(u * count) < 0.3) != (fract(v * count) < 0.3),
            3 => unit_at(seed, (u * 10.0) as i64, (v * 10.0) as i64) < 0.25,
            4 => v > 0.62,
            _ => false,
        };
        // A bag's strap or an open shirt.
        let strap = style == 5 && (u - 0.25 - 0.3 * v).abs() < 0.05;
        (
            scale(if on || strap { figure } else { ground }, fold),
            Kind::Matte,
        )
    })
}

/// Different textures of one kind, for things to choose from.
pub(super) fn several(
    n: u64,
    seed: u64,
    textures: &mut Vec<Texture>,
    mut paint: impl FnMut(&mut Dice) -> Texture,
) -> Vec<u32> {
    (0..n)
        .map(|k| {
            let mut dice = Dice::new(hash(seed), k);
            textures.push(paint(&mut dice));
            textures.len() as u32 - 1
        })
        .collect()
}
