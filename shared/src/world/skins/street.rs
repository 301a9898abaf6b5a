//! What stands beside the road: facades, shop fronts, walls, signs, signals.

use super::livery::LOUD;
use super::{inside, lettering};
use crate::world::math::{Rgb, floor, fract, mix, mix3, ramp, scale, sqrt};
use crate::world::random::{Dice, Noise, unit_at};
use crate::world::texture::{Kind, Texture};

/// Two floors and two bays of a house front, of many kinds.
pub(in crate::world) fn facade(dice: &mut Dice, noise: &Noise, indian: bool) -> Texture {
    let wall: Rgb = if indian {
        dice.pick(&[
            [0.80, 0.72, 0.55],
            [0.66, 0.62, 0.56],
            [0.75, 0.56, 0.46],
            [0.62, 0.70, 0.66],
            [0.84, 0.82, 0.76],
            [0.55, 0.58, 0.66],
            [0.72, 0.66, 0.40],
            [0.58, 0.52, 0.47],
            [0.70, 0.50, 0.52],
        ])
    } else {
        dice.pick(&[
            [0.48, 0.29, 0.23],
            [0.60, 0.52, 0.44],
            [0.66, 0.65, 0.62],
            [0.42, 0.40, 0.38],
            [0.76, 0.74, 0.68],
            [0.52, 0.38, 0.30],
            [0.35, 0.40, 0.44],
            [0.70, 0.63, 0.50],
        ])
    };
    let glassy = dice.chance(if indian { 0.12 } else { 0.25 });
    let brick = !indian && wall[0] > 1.4 * wall[2] && dice.chance(0.8);
    let balcony = indian && dice.chance(0.5);
    let (w, low, high) = (
        dice.range(0.38, 0.66),
        dice.range(0.22, 0.4),
        dice.range(0.68, 0.86),
    );
    let stains = if indian { 0.5 } else { 0.15 };
    let (trim, seed) = (
        if dice.chance(0.5) {
            scale(wall, 1.25)
        } else {
            scale(wall, 0.6)
        },
        dice.next(),
    );
    let grille = indian && dice.chance(0.5);
    Texture::paint(7, 7, |u, v| {
        let (bay, floor_) = ((u * 2.0) as i64, (v * 2.0) as i64);
        let (x, y) = (fract(u * 2.0), fract(v * 2.0));
        let grain = noise.fine(u * 0.5, v * 0.5);
        let streak = noise.fine(u * 1.0 + 0.3, v * 0.06);
        let dark = ramp(0.0, 0.5, streak) * stains;
        let base = scale(wall, (1.0 + 0.12 * grain) * (1.0 - 0.55 * dark));
        if glassy {
            let mullion = x < 0.05 || y < 0.06 || (x - 0.5).abs() < 0.02;
            if mullion {
                return (scale(wall, 0.55), Kind::Matte);
            }
            let tone = 0.10 + 0.10 * unit_at(seed, bay * 2 + i64::from(x > 0.5), floor_);
            return ([tone * 0.8, tone, tone * 1.15], Kind::Window);
        }
        if balcony && y < 0.30 {
            let bar = fract(u * 26.0) < 0.3 || y > 0.26;
            return (
                if bar {
                    scale(trim, 0.9)
                } else {
                    scale(wall, 0.35)
                },
                Kind::Matte,
            );
        }
        let half = w / 2.0;
        if (x - 0.5).abs() < half && y > low && y < high {
            let frame = (x - 0.5).abs() > half - 0.04
                || y < low + 0.04
                || y > high - 0.04
                || (x - 0.5).abs() < 0.015;
            if frame {
                return (trim, Kind::Matte);
            }
            if grille && fract(u * 34.0) < 0.25 {
                return ([0.18, 0.17, 0.16], Kind::Matte);
            }
            let blind = unit_at(seed, bay, floor_);
            if y > mix(high, low, blind * 0.8) {
                return ([0.55, 0.52, 0.46], Kind::Matte);
            }
            return ([0.07, 0.08, 0.09], Kind::Window);
        }
        if (x - 0.5).abs() < half + 0.06
            && (y > high && y < high + 0.05 || y < low && y > low - 0.05)
        {
            return (trim, Kind::Matte);
        }
        if y < 0.035 {
            return (scale(base, 0.75), Kind::Matte);
        }
        if brick {
            let row = floor(v * 32.0) as i64;
            let joint = fract(v * 32.0) < 0.2 || fract(u * 16.0 + 0.5 * (row & 1) as f32) < 0.1;
            let tone = 0.85 + 0.3 * unit_at(seed, row, (u * 16.0 + 0.5 * (row & 1) as f32) as i64);
            return (
                if joint {
                    mix3(base, [0.6, 0.58, 0.55], 0.5)
                } else {
                    scale(base, tone)
                },
                Kind::Matte,
            );
        }
        (base, Kind::Matte)
    })
}

/// The ground floor of a street of shops: openings, shutters, boards with names.
pub(in crate::world) fn shops(dice: &mut Dice, noise: &Noise, indian: bool) -> Texture {
    let seed = dice.next();
    let count = if indian { 3 } else { 2 };
    Texture::paint(8, 6, |u, v| {
        let s = u * count as f32;
        let (shop, x) = (s as i64, fract(s));
        let pick = |k: i64| LOUD[(unit_at(seed, shop, k) * 11.99) as usize];
        let grain = noise.fine(u, v * 0.3);
        let board = unit_at(seed, shop, 1) < if indian { 0.9 } else { 0.6 };
        if board && v > 0.68 && v < 0.93 && x > 0.03 && x < 0.97 {
            let c = if lettering((x - 0.1) / 0.55, (v - 0.73) / 0.14, 7, seed ^ shop as u64) {
                pick(4)
            } else if (x - 0.82).abs() < 0.08 {
                pick(5)
            } else {
                scale(pick(3), 0.9 + 0.1 * grain)
            };
            return (c, Kind::Lamp);
        }
        if v < 0.66 && x > 0.06 && x < 0.94 && v > 0.03 {
            let what = unit_at(seed, shop, 2);
            if what < if indian { 0.35 } else { 0.1 } {
                // A rolled-down shutter.
                let c = mix3([0.42, 0.44, 0.45], pick(6), 0.35);
                return (
                    scale(c, if fract(v * 14.0) < 0.4 { 0.75 } else { 1.0 }),
                    Kind::Matte,
                );
            }
            if indian {
                let goods = unit_at(seed ^ 9, (u * 60.0) as i64, (v * 18.0) as i64);
                let c = scale(
                    LOUD[(goods * 11.99) as usize],
                    0.28 + 0.25 * unit_at(seed, shop, (v * 6.0) as i64 + 20),
                );
                return (
                    if v < 0.35 && goods < 0.5 {
                        c
                    } else {
                        scale(c, 0.35)
                    },
                    Kind::Window,
                );
            }
            if (x - 0.5).abs() < 0.012 || v > 0.62 {
                return ([0.2, 0.2, 0.21], Kind::Matte);
            }
            return ([0.09, 0.10, 0.11], Kind::Window);
        }
        let wall = mix3([0.55, 0.50, 0.44], pick(7), 0.2);
        (scale(wall, 0.9 + 0.15 * grain), Kind::Matte)
    })
}

/// A compound wall: plaster, bricks or painted advertising.
pub(in crate::world) fn wall(dice: &mut Dice, noise: &Noise) -> Texture {
    let base = dice.pick(&[
        [0.62, 0.58, 0.52],
        [0.56, 0.34, 0.26],
        [0.72, 0.68, 0.58],
        [0.45, 0.44, 0.42],
        [0.30, 0.42, 0.55],
    ]);
    let (style, seed) = (dice.below(4), dice.next());
    let ad = dice.pick(&LOUD);
    Texture::paint(7, 5, |u, v| {
        let grain = noise.fine(u, v * 0.3);
        let stain = ramp(0.05, 0.5, noise.fine(u * 1.7, v * 0.1 + 0.4));
        let mut c = scale(base, (1.0 + 0.2 * grain) * (1.0 - 0.4 * stain));
        if v > 0.92 || fract(u * 4.0) < 0.05 {
            c = scale(c, 0.75);
        }
        match style {
            1 if fract(v * 8.0) < 0.15 => c = scale(c, 0.7),
            2 if inside(u, v, 0.1, 0.8, 0.25, 0.8) => {
                c = if lettering((u - 0.15) / 0.6, (v - 0.35) / 0.3, 9, seed) {
                    ad
                } else {
                    [0.8, 0.78, 0.7]
                };
            }
            3 => {
                // Torn posters.
                let cell = unit_at(seed, (u * 12.0) as i64, (v * 2.0) as i64);
                if cell < 0.4 && v > 0.15 && v < 0.85 && fract(u * 12.0) > 0.08 {
                    c = mix3(LOUD[(cell * 29.0) as usize % 12], c, 0.35);
                }
            }
            _ => {}
        }
        if v < 0.12 {
            c = mix3(c, [0.40, 0.34, 0.26], 0.6);
        }
        (c, Kind::Matte)
    })
}

/// An advertisement.
pub(in crate::world) fn billboard(dice: &mut Dice) -> Texture {
    let (a, b, c3) = (dice.pick(&LOUD), dice.pick(&LOUD), dice.pick(&LOUD));
    let (seed, cx) = (dice.next(), dice.range(0.2, 0.8));
    Texture::paint(7, 6, |u, v| {
        let (dx, dy) = ((u - cx) * 2.0, v - 0.4);
        let figure = sqrt(dx * dx + dy * dy) < 0.32;
        let mut c = mix3(a, scale(a, 0.7), v);
        if figure {
            c = if dy > 0.12 { [0.62, 0.45, 0.36] } else { b };
        }
        if lettering((u - 0.08) / 0.6, (v - 0.7) / 0.18, 8, seed)
            || lettering((u - 0.08) / 0.5, (v - 0.12) / 0.09, 13, seed ^ 3)
        {
            c = c3;
        }
        if !inside(u, v, 0.015, 0.985, 0.03, 0.97) {
            c = [0.3; 3];
        }
        (c, Kind::Lamp)
    })
}

/// Traffic signs: a plate by style; corners are cut out by coverage.
pub(in crate::world) fn sign(dice: &mut Dice, style: usize) -> Texture {
    let seed = dice.next();
    Texture::paint_cutout(6, 6, |u, v| {
        let (x, y) = ((u - 0.5) * 2.0, (v - 0.5) * 2.0);
        let r = sqrt(x * x + y * y);
        let glyph = |s: f32| lettering(0.5 + x / s, 0.5 + y / s, 2, seed);
        match style % 7 {
            // Round with a red rim.
            0 => {
                let c = if r > 0.74 {
                    [0.72, 0.06, 0.08]
                } else if glyph(1.1) {
                    [0.08; 3]
                } else {
                    [0.92; 3]
                };
                (c, if r < 0.98 { 1.0 } else { 0.0 })
            }
            // An octagon.
            1 => {
                let out = x.abs().max(y.abs()).max((x.abs() + y.abs()) * 0.72);
                let c = if out > 0.86 || lettering(0.5 + x / 1.4, 0.5 + y / 0.55, 4, seed) {
                    [0.9; 3]
                } else {
                    [0.70, 0.05, 0.07]
                };
                (c, if out < 0.97 { 1.0 } else { 0.0 })
            }
            // A yellow diamond.
            2 => {
                let d = x.abs() + y.abs();
                let c = if (d > 0.84 && d < 0.92) || (r < 0.4 && glyph(0.8)) {
                    [0.06; 3]
                } else {
                    [0.92, 0.72, 0.08]
                };
                (c, if d < 0.99 { 1.0 } else { 0.0 })
            }
            // A triangle with a red rim.
            3 => {
                let edge = (y + 1.0) * 0.5;
                let inside_ = 1.0 - edge - x.abs();
                let c = if inside_ < 0.16 || edge < 0.12 {
                    [0.74, 0.06, 0.08]
                } else if glyph(1.6) && edge < 0.5 {
                    [0.05; 3]
                } else {
                    [0.92; 3]
                };
                (c, if inside_ > 0.0 { 1.0 } else { 0.0 })
            }
            // A speed plate.
            4 => {
                let rim = x.abs() > 0.62 || y.abs() > 0.9;
                let c = if lettering(0.5 + x / 1.0, 0.45 + y / 0.9, 2, seed)
                    || (rim && x.abs() < 0.68)
                {
                    [0.08; 3]
                } else {
                    [0.92; 3]
                };
                (c, if x.abs() < 0.74 { 1.0 } else { 0.0 })
            }
            // A blue disc.
            5 => {
                let c = if glyph(1.2) {
                    [0.92; 3]
                } else {
                    [0.05, 0.22, 0.60]
                };
                (c, if r < 0.98 { 1.0 } else { 0.0 })
            }
            // Green directions.
            _ => {
                let text = lettering(0.1 + u * 0.95 - 0.05, (v - 0.55) / 0.22, 7, seed)
                    || lettering(u * 0.95, (v - 0.18) / 0.2, 6, seed ^ 1);
                let rim = x.abs() > 0.94 || y.abs() > 0.92;
                (
                    if text || rim {
                        [0.92; 3]
                    } else {
                        [0.02, 0.34, 0.20]
                    },
                    1.0,
                )
            }
        }
    })
}

/// Concrete: bridges, pillars, barriers.
pub(in crate::world) fn concrete(noise: &Noise) -> Texture {
    Texture::paint(6, 6, |u, v| {
        let tone = 0.58 + 0.10 * noise.fine(u * 0.5, v * 0.5)
            - 0.16 * ramp(0.0, 0.5, noise.fine(u, v * 0.08 + 0.2));
        let joint = if fract(u * 2.0) < 0.03 || fract(v * 2.0) < 0.03 {
            0.8
        } else {
            1.0
        };
        (
            [tone * joint, tone * joint * 0.985, tone * joint * 0.95],
            Kind::Matte,
        )
    })
}

/// Chain-link, bars or hedges as a see-through sheet.
pub(in crate::world) fn fence(dice: &mut Dice) -> Texture {
    let (style, tone) = (dice.below(3), dice.range(0.2, 0.6));
    Texture::paint_cutout(6, 5, |u, v| {
        let on = match style {
            0 => fract(u * 10.0) < 0.16 || v > 0.92 || (v - 0.12).abs() < 0.05,
            1 => fract(u * 12.0 + v * 5.0) < 0.14 || fract(u * 12.0 - v * 5.0) < 0.14 || v > 0.95,
            _ => fract(u * 4.0) < 0.1 || (v - 0.35).abs() < 0.07 || (v - 0.75).abs() < 0.07,
        };
        ([tone, tone, tone * 1.02], if on { 0.9 } else { 0.0 })
    })
}

/// Faces of a traffic light, by what it shows: 0 red, 1 green.
pub(in crate::world) fn signal(shows: u64) -> Texture {
    Texture::paint(4, 5, |u, v| {
        let x = (u - 0.5) * 2.0;
        let (lamp, y) = ((v * 3.0) as i64, (fract(v * 3.0) - 0.5) * 2.0);
        if sqrt(x * x + y * y) < 0.62 {
            match (lamp, shows) {
                (2, 0) => ([1.0, 0.12, 0.08], Kind::Lamp),
                (0, 1) => ([0.10, 0.95, 0.55], Kind::Lamp),
                (2, _) => ([0.16, 0.02, 0.02], Kind::Matte),
                (1, _) => ([0.16, 0.11, 0.02], Kind::Matte),
                _ => ([0.02, 0.12, 0.07], Kind::Matte),
            }
        } else {
            ([0.04, 0.04, 0.042], Kind::Matte)
        }
    })
}
