//! Liveries of buses and vans, and the patterns of decorated trucks.

use super::lettering;
use crate::world::math::{Rgb, cos, floor, fract, mix3, sin, smooth, sqrt};
use crate::world::random::{Dice, unit_at};

/// Strong colours of signs, tarpaulins and painted trucks.
pub(in crate::world) const LOUD: [Rgb; 12] = [
    [0.78, 0.10, 0.10],
    [0.93, 0.75, 0.10],
    [0.10, 0.32, 0.62],
    [0.08, 0.45, 0.25],
    [0.90, 0.42, 0.08],
    [0.92, 0.91, 0.86],
    [0.55, 0.12, 0.35],
    [0.10, 0.55, 0.58],
    [0.12, 0.13, 0.16],
    [0.70, 0.72, 0.74],
    [0.45, 0.20, 0.12],
    [0.85, 0.30, 0.45],
];

/// A company's or an owner's paintwork.
#[derive(Clone, Copy)]
pub(in crate::world) struct Livery {
    pub(super) base: Rgb,
    pub(super) second: Rgb,
    pub(super) third: Rgb,
    pub(super) seed: u64,
    pub(super) style: usize,
    pub(super) letters: u32,
}

impl Livery {
    pub(in crate::world) fn new(dice: &mut Dice, base: Rgb) -> Self {
        Self {
            base,
            second: dice.pick(&LOUD),
            third: dice.pick(&LOUD),
            seed: dice.next(),
            style: dice.below(7),
            letters: 5 + dice.below(9) as u32,
        }
    }

    /// Plain, striped, waved, lettered or with an emblem.
    pub(in crate::world) fn at(&self, u: f32, v: f32) -> Rgb {
        let mut c = self.base;
        match self.style {
            0 => {}
            1 => {
                if v > 0.30 && v < 0.42 {
                    c = self.second;
                } else if v > 0.44 && v < 0.48 {
                    c = self.third;
                }
            }
            2 => {
                let wave = 0.35 + 0.16 * sin(u * 5.0 + (self.seed & 7) as f32);
                if v < wave {
                    c = self.second;
                } else if v < wave + 0.07 {
                    c = self.third;
                }
            }
            3 => {
                if fract(u * 1.5 + v * 0.6) < 0.3 {
                    c = self.second;
                }
            }
            4 => {
                let (dx, dy) = ((u - 0.72) * 2.4, v - 0.55);
                let r = sqrt(dx * dx + dy * dy);
                if r < 0.26 {
                    c = if r < 0.15 { self.third } else { self.second };
                }
            }
            5 => {
                if !(0.18..=0.8).contains(&v) {
                    c = self.second;
                }
            }
            _ => c = mix3(self.base, self.second, smooth(u * 1.4 - 0.2)),
        }
        if self.style != 3
            && lettering((u - 0.12) / 0.5, (v - 0.54) / 0.24, self.letters, self.seed)
        {
            c = if self.style == 6 {
                self.third
            } else {
                self.second
            };
        }
        if lettering(
            (u - 0.12) / 0.42,
            (v - 0.44) / 0.06,
            self.letters * 2,
            self.seed ^ 5,
        ) {
            c = self.third;
        }
        c
    }
}

/// The painted bands of an Indian truck: flowers, diamonds, checks and mottoes.
pub(in crate::world) fn decor(u: f32, v: f32, seed: u64) -> Rgb {
    let bands = 5.0 + (seed % 4) as f32;
    let band = floor(v * bands) as i64;
    let (s, t) = (u * (3.0 + unit_at(seed, band, 1) * 8.0), fract(v * bands));
    let pick = |k: i64| LOUD[(unit_at(seed, band, k) * 11.99) as usize];
    let (ground, figure, accent) = (pick(2), pick(3), pick(4));
    let cell = floor(s) as i64;
    let (x, y) = (fract(s) - 0.5, t - 0.5);
    let r = sqrt(x * x + y * y);
    let on = match (unit_at(seed, band, 5) * 5.0) as u32 {
        0 => r < 0.30 + 0.12 * cos(8.0 * libm::atan2f(y, x)),
        1 => x.abs() + y.abs() < 0.42,
        2 => (cell + i64::from(t > 0.5)) & 1 == 0,
        3 => y > x.abs() * 2.0 - 0.5,
        _ => lettering(u, (t - 0.2) / 0.6, 12, seed ^ band as u64),
    };
    if t < 0.06 {
        return accent;
    }
    if on && r < 0.16 && unit_at(seed, band, 6) < 0.6 {
        accent
    } else if on {
        figure
    } else {
        ground
    }
}
