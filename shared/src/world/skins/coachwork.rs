//! A vehicle's four views, painted to fit its body: windows, lamps, plates, seams, dirt.

use alloc::vec::Vec;

use super::livery::{Livery, decor};
use super::{inside, lettering};
use crate::world::math::{Rgb, fract, mix, mix3, ramp, scale, sqrt};
use crate::world::mesh::Station;
use crate::world::random::{Noise, unit_at};
use crate::world::texture::{Kind, Texture};

/// What the painter of a vehicle knows.
#[derive(Clone)]
pub(in crate::world) struct Coachwork {
    pub(in crate::world) paint: Rgb,
    /// Lower part, where it differs.
    pub(in crate::world) lower: Rgb,
    pub(in crate::world) livery: Option<Livery>,
    pub(in crate::world) decorated: Option<u64>,
    pub(in crate::world) stations: Vec<Station>,
    /// `z` of the ends of the row of windows, and of the pillars in between.
    pub(in crate::world) windows: [f32; 2],
    pub(in crate::world) pillars: Vec<f32>,
    /// Windows begin this far above the belt and end this far below the roof.
    pub(in crate::world) window_inset_m: [f32; 2],
    pub(in crate::world) wheels: Vec<(f32, f32)>,
    pub(in crate::world) dirt: f32,
    pub(in crate::world) glass: Rgb,
    pub(in crate::world) lamp_style: usize,
    pub(in crate::world) plate: Rgb,
    pub(in crate::world) seed: u64,
    /// The tail is steep enough for a window seen from behind.
    pub(in crate::world) rear_window: bool,
    pub(in crate::world) front_window: bool,
    /// Ranges of `z` that are glass as seen from above.
    pub(in crate::world) top_glass: [[f32; 2]; 2],
    pub(in crate::world) rails: bool,
    /// Nothing but a hole between belt and roof, as in an auto-rickshaw.
    pub(in crate::world) open: bool,
    pub(in crate::world) badge: bool,
}

impl Coachwork {
    pub(super) fn at(&self, z: f32) -> Station {
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

    pub(super) fn span(&self) -> (f32, f32, f32) {
        let z0 = self.stations[0].z;
        let len = self.stations[self.stations.len() - 1].z - z0;
        let tall = self.stations.iter().fold(0.1_f32, |m, s| m.max(s.y_top));
        (z0, len, tall)
    }

    pub(super) fn dirty(&self, c: Rgb, y: f32, tall: f32, grain: f32) -> Rgb {
        let share = self.dirt * ramp(0.55 * tall, 0.1 * tall, y + 0.25 * grain) * 0.75;
        mix3(c, [0.42, 0.36, 0.29], share)
    }

    pub(in crate::world) fn side(&self, noise: &Noise) -> Texture {
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

    pub(in crate::world) fn rear(&self, noise: &Noise) -> Texture {
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

    pub(in crate::world) fn front(&self, noise: &Noise) -> Texture {
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

    pub(in crate::world) fn top(&self, noise: &Noise) -> Texture {
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
