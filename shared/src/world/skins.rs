//! Painted surfaces: vehicle views, liveries, lettering, facades, leaves. All are functions of a place on the surface.

use alloc::vec::Vec;

use super::math::{Rgb, TAU, cos, floor, fract, mix, mix3, ramp, scale, sin, smooth, sqrt};
use super::mesh::Station;
use super::random::{Dice, Noise, hash, unit_at};
use super::texture::{Kind, Texture};

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

/// Strong colours of signs, tarpaulins and painted trucks.
pub(super) const LOUD: [Rgb; 12] = [
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
pub(super) struct Livery {
    base: Rgb,
    second: Rgb,
    third: Rgb,
    seed: u64,
    style: usize,
    letters: u32,
}

impl Livery {
    pub(super) fn new(dice: &mut Dice, base: Rgb) -> Self {
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
    pub(super) fn at(&self, u: f32, v: f32) -> Rgb {
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
pub(super) fn decor(u: f32, v: f32, seed: u64) -> Rgb {
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

/// What the painter of a vehicle knows.
#[derive(Clone)]
pub(super) struct Coachwork {
    pub(super) paint: Rgb,
    /// Lower part, where it differs.
    pub(super) lower: Rgb,
    pub(super) livery: Option<Livery>,
    pub(super) decorated: Option<u64>,
    pub(super) stations: Vec<Station>,
    /// `z` of the ends of the row of windows, and of the pillars in between.
    pub(super) windows: [f32; 2],
    pub(super) pillars: Vec<f32>,
    /// Windows begin this far above the belt and end this far below the roof.
    pub(super) window_inset_m: [f32; 2],
    pub(super) wheels: Vec<(f32, f32)>,
    pub(super) dirt: f32,
    pub(super) glass: Rgb,
    pub(super) lamp_style: usize,
    pub(super) plate: Rgb,
    pub(super) seed: u64,
    /// The tail is steep enough for a window seen from behind.
    pub(super) rear_window: bool,
    pub(super) front_window: bool,
    /// Ranges of `z` that are glass as seen from above.
    pub(super) top_glass: [[f32; 2]; 2],
    pub(super) rails: bool,
    /// Nothing but a hole between belt and roof, as in an auto-rickshaw.
    pub(super) open: bool,
    pub(super) badge: bool,
}

impl Coachwork {
    fn at(&self, z: f32) -> Station {
        let mut last = self.stations[0];
        for s in &self.stations {
            if s.z >= z {
                let t = ((z - last.z) / (s.z - last.z).max(1e-3)).clamp(0.0, 1.0);
                return Station {
                    z,
                    y_low: mix(last.y_low, s.y_low, t),
                    y_belt: mix(last.y_belt, s.y_belt, t),
                    y_top: mix(last.y_top, s.y_top, t),
                    half_low: mix(last.half_low, s.half_low, t),
                    half_belt: mix(last.half_belt, s.half_belt, t),
                    half_top: mix(last.half_top, s.half_top, t),
                };
            }
            last = *s;
        }
        last
    }

    fn span(&self) -> (f32, f32, f32) {
        let z0 = self.stations[0].z;
        let len = self.stations[self.stations.len() - 1].z - z0;
        let tall = self.stations.iter().fold(0.1_f32, |m, s| m.max(s.y_top));
        (z0, len, tall)
    }

    fn dirty(&self, c: Rgb, y: f32, tall: f32, grain: f32) -> Rgb {
        let share = self.dirt * ramp(0.55 * tall, 0.1 * tall, y + 0.25 * grain) * 0.75;
        mix3(c, [0.42, 0.36, 0.29], share)
    }

    pub(super) fn side(&self, noise: &Noise) -> Texture {
        let (z0, len, tall) = self.span();
        let offset = (self.seed % 97) as f32 * 0.137;
        Texture::paint(8, 6, |u, v| {
            let (z, y) = (z0 + u * len, v * tall);
            let s = self.at(z);
            let grain = noise.fine(u * 0.5 + offset, v * 0.25 + offset);
            for &(wheel, radius) in &self.wheels {
                let r = sqrt((z - wheel) * (z - wheel) + (y - radius) * (y - radius));
                if r < radius * 1.17 {
                    return ([0.025, 0.025, 0.027], Kind::Matte);
                }
                if r < radius * 1.24 {
                    return (scale(self.paint, 0.62), Kind::Paint);
                }
            }
            let window_low = s.y_belt + self.window_inset_m[0];
            let window_high = s.y_top - self.window_inset_m[1];
            if z > self.windows[0]
                && z < self.windows[1]
                && y > window_low - 0.03
                && y < window_high + 0.03
            {
                let pillar = self.pillars.iter().any(|p| (z - p).abs() < 0.05);
                let rim = y < window_low || y > window_high;
                if pillar || rim {
                    let dark = self.seed & 1 == 0;
                    return (
                        if dark {
                            [0.05, 0.05, 0.055]
                        } else {
                            scale(self.paint, 0.8)
                        },
                        Kind::Paint,
                    );
                }
                if self.open {
                    // Seat and shadow; a passenger now and then.
                    let seat = y < window_low + 0.25;
                    let c = if seat {
                        [0.16, 0.07, 0.06]
                    } else {
                        [0.05, 0.05, 0.05]
                    };
                    return (c, Kind::Matte);
                }
                // Heads and seats behind the glass.
                let seat =
                    fract((z - z0) * 0.9 + 0.3) < 0.3 && y < mix(window_low, window_high, 0.55);
                let c = if seat {
                    scale(self.glass, 0.5)
                } else {
                    self.glass
                };
                return (scale(c, 0.9 + 0.2 * grain), Kind::Glass);
            }
            let mut c = if y < mix(s.y_low, s.y_belt, 0.45) {
                self.lower
            } else {
                self.paint
            };
            if let Some(livery) = &self.livery {
                c = livery.at(
                    u,
                    ((y - s.y_low) / (s.y_top - s.y_low).max(0.1)).clamp(0.0, 1.0),
                );
            }
            if let Some(seed) = self.decorated
                && y > 0.5
            {
                c = decor(u * 0.6, (y - 0.5) / tall, seed ^ 7);
            }
            // Sill, door joints, handles, a crease.
            if y < s.y_low + 0.08 {
                return ([0.06, 0.06, 0.065], Kind::Matte);
            }
            let door = self
                .pillars
                .iter()
                .chain(&self.windows)
                .any(|p| (z - p).abs() < 0.012);
            if door && y < s.y_belt + 0.05 {
                c = scale(c, 0.45);
            }
            let handle = self.pillars.iter().any(|p| z > p + 0.08 && z < p + 0.24);
            if handle && (y - s.y_belt + 0.13).abs() < 0.02 {
                return (scale(c, 0.5), Kind::Chrome);
            }
            if (y - mix(s.y_low, s.y_belt, 0.72)).abs() < 0.02 {
                c = scale(c, 1.12);
            }
            // Lamps wrap round the corners.
            if y > s.y_belt - 0.26 && y < s.y_belt - 0.08 && !self.open {
                if u > 0.965 {
                    return ([0.85, 0.86, 0.84], Kind::Head);
                }
                if u < 0.03 {
                    return ([0.55, 0.04, 0.04], Kind::Tail);
                }
            }
            (
                self.dirty(scale(c, 1.0 + 0.06 * grain), y, tall, grain),
                Kind::Paint,
            )
        })
    }

    pub(super) fn rear(&self, noise: &Noise) -> Texture {
        let (_, _, tall) = self.span();
        let s = self.stations[1.min(self.stations.len() - 1)];
        let offset = (self.seed % 89) as f32 * 0.113;
        let shift = unit_at(self.seed, 3, 1) * 0.12;
        let plate_y = if unit_at(self.seed, 3, 2) < 0.6 {
            s.y_belt - 0.32
        } else {
            s.y_low + 0.12
        };
        Texture::paint(7, 7, |u, v| {
            let y = v * tall;
            let x = (u - 0.5).abs() * 2.0;
            let grain = noise.fine(u * 0.4 + offset, v * 0.4 + offset);
            let top = self.stations.iter().fold(0.0_f32, |m, s| m.max(s.y_top));
            if self.rear_window && y > s.y_belt + 0.06 && y < top - 0.10 && x < 0.78 {
                if y > top - 0.14 && x < 0.2 {
                    return ([0.5, 0.03, 0.03], Kind::Tail);
                }
                let rest = y < s.y_belt + 0.28 && (x - 0.42).abs() < 0.16;
                let wiper = (y - s.y_belt - 0.09 - 0.12 * u).abs() < 0.012 && u > 0.3 && u < 0.62;
                let c = if rest || wiper {
                    scale(self.glass, 0.5)
                } else {
                    self.glass
                };
                return (c, Kind::Glass);
            }
            let mut c = self.paint;
            if let Some(livery) = &self.livery {
                c = livery.at(u, (y / tall).clamp(0.0, 1.0));
            }
            if let Some(seed) = self.decorated {
                c = decor(u, v, seed);
            }
            if self.open {
                // The hood of an auto-rickshaw: a small window, a name, a picture.
                if inside(u, v, 0.34, 0.66, 0.66, 0.82) {
                    return (self.glass, Kind::Glass);
                }
                if lettering((u - 0.2) / 0.6, (v - 0.53) / 0.09, 9, self.seed) {
                    return ([0.9, 0.88, 0.7], Kind::Paint);
                }
                if y < s.y_belt {
                    c = self.lower;
                }
            }
            // Lamps in one of several shapes.
            let lamp_top = if self.rear_window {
                s.y_belt + 0.02
            } else {
                s.y_belt - 0.06
            };
            let lamp = match self.lamp_style % 5 {
                0 => x > 0.70 && y > lamp_top - 0.26 && y < lamp_top,
                1 => x > 0.80 && y > lamp_top - 0.42 && y < lamp_top + 0.20,
                2 => x > 0.52 && y > lamp_top - 0.17 && y < lamp_top,
                3 => {
                    (x > 0.66 && y > lamp_top - 0.22 && y < lamp_top)
                        || (y > lamp_top - 0.08 && y < lamp_top - 0.03)
                }
                _ => x > 0.84 && y > s.y_low + 0.12 && y < s.y_low + 0.34,
            };
            if lamp && x < 0.985 {
                let core = x > 0.88 && y < lamp_top - 0.16;
                if core && self.lamp_style & 8 == 0 {
                    return ([0.85, 0.45, 0.10], Kind::Amber);
                }
                return (
                    if (x * 30.0) as i32 & 1 == 0 {
                        [0.62, 0.03, 0.04]
                    } else {
                        [0.5, 0.02, 0.03]
                    },
                    Kind::Tail,
                );
            }
            if (u - 0.5).abs() < 0.135 && (y - plate_y).abs() < 0.062 {
                let mark = lettering(
                    (u - 0.385) / 0.23,
                    (y - plate_y + 0.036) / 0.072,
                    7,
                    self.seed ^ 21,
                );
                return (
                    if mark { [0.1, 0.1, 0.16] } else { self.plate },
                    Kind::Retro,
                );
            }
            if y < s.y_low + 0.10 {
                return ([0.045, 0.045, 0.05], Kind::Matte);
            }
            let bumper = s.y_low + 0.26;
            if y < bumper {
                if self.lamp_style & 4 == 0 {
                    c = mix3(scale(c, 0.35), [0.08, 0.08, 0.085], 0.8);
                }
                if inside(x, y, 0.66, 0.86, s.y_low + 0.13, s.y_low + 0.17) {
                    return ([0.5, 0.05, 0.04], Kind::Retro);
                }
            }
            if (y - bumper).abs() < 0.012
                || (x - 0.72 - shift).abs() < 0.008 && y > bumper && y < s.y_belt
            {
                c = scale(c, 0.5);
            }
            if self.badge
                && (y - s.y_belt + 0.10).abs() < 0.03
                && (x < 0.07 || inside(u, 0.5, 0.16, 0.30, 0.0, 1.0))
            {
                return ([0.72, 0.73, 0.75], Kind::Chrome);
            }
            (
                self.dirty(scale(c, 1.0 + 0.06 * grain), y, tall, grain),
                Kind::Paint,
            )
        })
    }

    pub(super) fn front(&self, noise: &Noise) -> Texture {
        let (_, _, tall) = self.span();
        let n = self.stations.len();
        let s = self.stations[n - 1];
        let back = self.stations[n.saturating_sub(2)];
        let offset = (self.seed % 83) as f32 * 0.171;
        let belt = back.y_belt.max(s.y_belt);
        let grille = 0.35 + 0.35 * unit_at(self.seed, 4, 1);
        let bars = 16.0 + 30.0 * unit_at(self.seed, 4, 2);
        let upright = unit_at(self.seed, 4, 3) < 0.3;
        Texture::paint(7, 7, |u, v| {
            let y = v * tall;
            let x = (u - 0.5).abs() * 2.0;
            let grain = noise.fine(u * 0.4 + offset, v * 0.4 + offset);
            let top = self.stations.iter().fold(0.0_f32, |m, s| m.max(s.y_top));
            if self.front_window && y > belt + 0.05 && y < top - 0.12 && x < 0.9 {
                let driver = y < belt + 0.40
                    && (u - if self.seed & 2 == 0 { 0.3 } else { 0.7 }).abs() < 0.09;
                let c = if driver {
                    mix3(self.glass, [0.3, 0.22, 0.18], 0.3)
                } else {
                    self.glass
                };
                return (c, Kind::Glass);
            }
            let mut c = self.paint;
            if let Some(livery) = &self.livery {
                c = livery.at(u, v);
            }
            if let Some(seed) = self.decorated {
                c = decor(u, v, seed ^ 3);
            }
            if self.open && y < belt {
                c = self.lower;
            }
            let lamp_y = belt - 0.14 - 0.12 * unit_at(self.seed, 4, 4);
            let lamp = match self.lamp_style % 3 {
                0 => x > 0.66 && x < 0.97 && (y - lamp_y).abs() < 0.075,
                1 => (x - 0.80) * (x - 0.80) * 0.6 + (y - lamp_y) * (y - lamp_y) < 0.009,
                _ => x > 0.56 && x < 0.98 && (y - lamp_y - 0.06 * (x - 0.6)).abs() < 0.045,
            };
            if lamp {
                return ([0.86, 0.87, 0.84], Kind::Head);
            }
            if x < grille && y > lamp_y - 0.12 && y < lamp_y + 0.08 && !self.open {
                let bar = if upright {
                    fract(u * bars * 1.5)
                } else {
                    fract(y * bars)
                };
                return if x < 0.09 && (y - lamp_y).abs() < 0.05 {
                    ([0.75, 0.76, 0.78], Kind::Chrome)
                } else if bar < 0.4 {
                    ([0.35, 0.36, 0.38], Kind::Chrome)
                } else {
                    ([0.03, 0.03, 0.035], Kind::Matte)
                };
            }
            if (u - 0.5).abs() < 0.13 && (y - s.y_low - 0.16).abs() < 0.055 {
                let mark = lettering(
                    (u - 0.39) / 0.22,
                    (y - s.y_low - 0.128) / 0.065,
                    7,
                    self.seed ^ 21,
                );
                return (
                    if mark { [0.1, 0.1, 0.16] } else { self.plate },
                    Kind::Retro,
                );
            }
            if y < s.y_low + 0.09 || (y < s.y_low + 0.20 && x < 0.62) {
                return ([0.05, 0.05, 0.055], Kind::Matte);
            }
            (
                self.dirty(scale(c, 1.0 + 0.05 * grain), y, tall, grain),
                Kind::Paint,
            )
        })
    }

    pub(super) fn top(&self, noise: &Noise) -> Texture {
        let (z0, len, _) = self.span();
        let offset = (self.seed % 79) as f32 * 0.191;
        let sunroof = unit_at(self.seed, 5, 1) < 0.2;
        Texture::paint(6, 7, |u, v| {
            let z = z0 + v * len;
            let x = (u - 0.5).abs() * 2.0;
            let grain = noise.fine(u * 0.4 + offset, v * 0.8 + offset);
            for (k, glass) in self.top_glass.iter().enumerate() {
                if z > glass[0] && z < glass[1] && x < 0.84 {
                    let wheel = k == 0 && (u - 0.3).abs() < 0.1 && z > glass[1] - 0.2;
                    return (
                        if wheel {
                            scale(self.glass, 0.5)
                        } else {
                            self.glass
                        },
                        Kind::Glass,
                    );
                }
            }
            let roof = z < self.top_glass[0][0] && z > self.top_glass[1][1];
            if roof
                && sunroof
                && x < 0.5
                && z > self.top_glass[0][0] - 0.9
                && z < self.top_glass[0][0] - 0.3
            {
                return ([0.04, 0.045, 0.05], Kind::Glass);
            }
            if roof && self.rails && (x - 0.82).abs() < 0.05 {
                return ([0.3, 0.3, 0.31], Kind::Chrome);
            }
            let mut c = self.paint;
            if self.decorated.is_some() {
                c = mix3(c, [0.5, 0.3, 0.2], 0.5);
            }
            if !roof && (x - 0.86).abs() < 0.015 {
                c = scale(c, 0.5);
            }
            (
                mix3(
                    scale(c, 1.0 + 0.05 * grain),
                    [0.45, 0.40, 0.33],
                    self.dirt * 0.25,
                ),
                Kind::Paint,
            )
        })
    }
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

/// Leaves: clumps with light tops and gaps; `dust` greys them.
pub(super) fn leaves(noise: &Noise, seed: u64, base: Rgb, dust: f32, airy: f32) -> Texture {
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
pub(super) fn frond(seed: u64, dust: f32) -> Texture {
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

/// Two floors and two bays of a house front, of many kinds.
pub(super) fn facade(dice: &mut Dice, noise: &Noise, indian: bool) -> Texture {
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
pub(super) fn shops(dice: &mut Dice, noise: &Noise, indian: bool) -> Texture {
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
pub(super) fn wall(dice: &mut Dice, noise: &Noise) -> Texture {
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
pub(super) fn billboard(dice: &mut Dice) -> Texture {
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
pub(super) fn sign(dice: &mut Dice, style: usize) -> Texture {
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
pub(super) fn concrete(noise: &Noise) -> Texture {
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
pub(super) fn fence(dice: &mut Dice) -> Texture {
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
pub(super) fn signal(shows: u64) -> Texture {
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
