//! The surface of the road and what lies beside it, as a function of the place on it.

use super::math::{Rgb, floor, fract, mix, mix3, ramp, scale, smooth};
use super::random::{Dice, Noise, unit_at};
use super::road::{Border, Road, STREET_HALF_M};

/// Colours (linear) and habits of one sequence's ground.
pub(super) struct Ground {
    asphalt: f32,
    verge_dry: Rgb,
    verge_green: Rgb,
    green_share: f32,
    pavement: Rgb,
    earth: Rgb,
    white: Rgb,
    yellow: Rgb,
    wear: f32,
    cracks: f32,
    patches: f32,
    dust: f32,
    dash_m: f32,
    gap_m: f32,
    seed: u64,
    lines: bool,
    concrete: bool,
}

/// Reflectance, and how much of a mirror it is when wet.
pub(super) struct Surface {
    pub(super) albedo: Rgb,
    pub(super) puddle: f32,
}

impl Ground {
    pub(super) fn new(road: &Road, indian: bool, dust: f32, seed: u64) -> Self {
        let mut d = Dice::new(seed, 0x6772_6f75);
        let tone = if road.concrete {
            d.range(0.24, 0.36)
        } else {
            d.range(0.075, 0.20)
        };
        Self {
            asphalt: mix(tone, tone * 1.3, dust),
            verge_dry: if indian {
                [0.34, 0.27, 0.18]
            } else {
                [0.30, 0.26, 0.16]
            },
            verge_green: if indian {
                [0.11, 0.14, 0.045]
            } else {
                [0.09, 0.15, 0.035]
            },
            green_share: if indian {
                d.range(-0.35, 0.25)
            } else {
                d.range(-0.15, 0.6)
            },
            pavement: if indian {
                [0.30, 0.27, 0.23]
            } else {
                [0.36, 0.35, 0.33]
            },
            earth: if indian {
                d.pick(&[[0.34, 0.26, 0.17], [0.36, 0.30, 0.22], [0.38, 0.22, 0.13]])
            } else {
                [0.28, 0.24, 0.18]
            },
            white: [0.70, 0.69, 0.66],
            yellow: [0.62, 0.42, 0.08],
            wear: road.wear,
            cracks: d.unit() * (0.4 + 0.6 * road.wear),
            patches: d.unit() * (0.3 + 0.7 * road.wear),
            dust,
            dash_m: d.range(2.5, 4.5),
            gap_m: d.range(4.0, 9.5),
            seed: d.next(),
            lines: !indian || d.chance(0.75),
            concrete: road.concrete,
        }
    }

    /// Metres along and across the road, metres that a pixel covers across and along, and noise that changes over
    /// several metres.
    pub(super) fn at(
        &self,
        road: &Road,
        noise: &Noise,
        [s, d]: [f32; 2],
        [across_m, along_m]: [f32; 2],
        broad: f32,
    ) -> Surface {
        let blur = super::math::sqrt(across_m * along_m).max(across_m);
        // Far away the grain is below the eye's and the noise's resolution.
        let grain = if blur < 1.5 {
            noise.near(d * (1.0 / 3.1), s * (1.0 / 3.1), blur * (1.0 / 3.1))
        } else {
            0.0
        };
        let out = d.abs();
        let edge = road.edge_m();
        let border = road.border_m();
        let street = road.nearest_junction(s);
        let soft = |at: f32, x: f32| ((x - at) / across_m.max(0.01) + 0.5).clamp(0.0, 1.0);
        let on_crossing =
            street.is_some_and(|off| off.abs() < STREET_HALF_M + 1.5 * ramp(edge + 6.0, edge, out));
        let carriage = if on_crossing {
            1.0
        } else {
            1.0 - soft(border + 0.15 * broad, out)
        };
        let mut albedo = [0.0; 3];
        let mut puddle = 0.0;
        if carriage > 0.0 {
            let mut tone = self.asphalt * (1.0 + 0.34 * grain + 0.22 * broad);
            // Wheel tracks are polished, the middle of a lane is oiled.
            let lane = fract((out - road.median_m / 2.0) / road.lane_m) - 0.5;
            let track = lane.abs() - 0.26;
            tone *= 1.0 + 0.10 * ramp(0.12, 0.0, track.abs()) - 0.10 * ramp(0.16, 0.0, lane.abs());
            if self.patches > 0.35 {
                let cell = unit_at(self.seed, floor(s / 7.3) as i64, floor(d / 2.1) as i64);
                if cell < 0.10 * self.patches {
                    tone *= 0.68;
                } else if cell > 1.0 - 0.05 * self.patches {
                    tone *= 1.25;
                }
            }
            if self.cracks > 0.2 && along_m < 0.3 {
                let line = noise.at(d / 9.0 + 0.7, s / 9.0, blur / 9.0).abs();
                tone *= 1.0 - 0.5 * self.cracks * ramp(0.035, 0.0, line) * (1.0 - along_m / 0.3);
            }
            if self.concrete {
                let joint = fract(s / 5.0) * 5.0;
                tone *= 1.0
                    - 0.35 * ramp(0.10 + along_m, 0.0, joint) * (1.0 - (along_m / 3.0).min(1.0));
            }
            let dusty = self.dust * ramp(edge - 1.6, border + 0.3, out + 0.9 * broad) * 0.8;
            let asphalt = [tone, tone * 0.99, tone * 0.985];
            let mut c = mix3(asphalt, self.earth, dusty);
            puddle = ramp(0.05, 0.5, broad + 0.3 * grain + 0.1);
            if self.lines && street.is_none_or(|off| off.abs() > STREET_HALF_M) {
                c = self.marks(road, c, s, d, across_m, along_m, grain, street);
            }
            albedo = scale(c, carriage);
        }
        if carriage < 1.0 {
            let beside = self.beside(road, s, d, out, border, across_m, along_m, grain, broad);
            albedo = [
                albedo[0] + beside[0] * (1.0 - carriage),
                albedo[1] + beside[1] * (1.0 - carriage),
                albedo[2] + beside[2] * (1.0 - carriage),
            ];
            puddle *= carriage;
        }
        Surface { albedo, puddle }
    }

    #[expect(clippy::too_many_arguments, reason = "one place, seen at one scale")]
    fn beside(
        &self,
        road: &Road,
        s: f32,
        _d: f32,
        out: f32,
        border: f32,
        across_m: f32,
        along_m: f32,
        grain: f32,
        broad: f32,
    ) -> Rgb {
        let off = out - border;
        if let Border::Kerb { painted } = road.border {
            if off < 0.22 {
                let block = fract(s / 1.6) < 0.5;
                let blur = smooth(along_m / 0.8);
                let c = if painted {
                    mix(if block { 0.55 } else { 0.03 }, 0.29, blur)
                } else {
                    0.30
                };
                return scale([c, c, c * 0.94], 1.0 + 0.3 * grain);
            }
            if off < road.pavement_m {
                let joint = fract(s / 0.9) * 0.9 < 0.03 || fract(off / 0.9) * 0.9 < 0.03;
                let c = scale(
                    self.pavement,
                    (1.0 + 0.3 * grain + 0.2 * broad)
                        * if joint && across_m < 0.03 { 0.7 } else { 1.0 },
                );
                return mix3(
                    c,
                    self.earth,
                    self.dust * 0.4 * (0.5 + broad).clamp(0.0, 1.0),
                );
            }
        }
        let dry = ramp(
            self.green_share - 0.25,
            self.green_share + 0.35,
            broad + 0.4 * grain + 0.8 * self.dust - 0.3 - 0.04 * (off - 2.0).clamp(0.0, 8.0),
        );
        let green = scale(self.verge_green, 1.0 + 0.7 * grain);
        let bare = scale(
            mix3(self.verge_dry, self.earth, self.dust),
            1.0 + 0.35 * grain,
        );
        let strip = ramp(1.8, 0.4, off) * (0.4 + 0.6 * self.dust);
        mix3(green, bare, dry.max(strip))
    }

    #[expect(clippy::too_many_arguments, reason = "one place, seen at one scale")]
    fn marks(
        &self,
        road: &Road,
        c: Rgb,
        s: f32,
        d: f32,
        across_m: f32,
        along_m: f32,
        grain: f32,
        street: Option<f32>,
    ) -> Rgb {
        let out = d.abs();
        let with_us = d * road.side > 0.0;
        let stripe = |at: f32, half: f32, x: f32| {
            let inside_m = half - (x - at).abs();
            if inside_m < -0.5 * across_m {
                return 0.0;
            }
            let cover = (inside_m / across_m.max(0.02) + 0.5).clamp(0.0, 1.0);
            cover * (2.0 * half / across_m.max(2.0 * half))
        };
        let worn = (1.15 - self.wear * (0.9 + 0.9 * grain) - 0.12 * grain).clamp(0.0, 1.0);
        let period = self.dash_m + self.gap_m;
        let phase = fract(s / period) * period;
        let on = ((phase.min(self.dash_m - phase)) / along_m.max(0.05) + 0.5).clamp(0.0, 1.0);
        let dash = mix(on, self.dash_m / period, smooth(along_m / period - 0.3));
        let mut paint = 0.0_f32;
        let mut yellow = 0.0_f32;
        for lane in 1..road.lanes {
            paint += stripe(road.median_m / 2.0 + lane as f32 * road.lane_m, 0.07, out) * dash;
        }
        paint += stripe(road.edge_m() - 0.08, 0.07, out);
        if road.median_m == 0.0 {
            if road.yellow_middle {
                yellow = stripe(0.13, 0.06, out);
            } else {
                paint += stripe(0.0, 0.07, d) * if road.lanes > 1 { 1.0 } else { dash };
            }
        } else if road.yellow_middle {
            yellow = stripe(road.median_m / 2.0 + 0.15, 0.07, out);
        } else {
            paint += stripe(road.median_m / 2.0 + 0.15, 0.07, out);
        }
        // Before a junction: a stop line for those who come to it, then the crossing for those on foot.
        if let Some(off) = street {
            let from = off.abs() - STREET_HALF_M;
            let coming = (off < 0.0) == with_us;
            if coming && out < road.edge_m() - 0.1 {
                paint += ((0.2 - (from - 5.2).abs()) / along_m.max(0.05) + 0.5).clamp(0.0, 1.0);
            }
            if from > 0.8
                && from < 4.0
                && unit_at(self.seed, floor((s - off) / 3.0) as i64, 4) < 0.75
            {
                let bar = fract(out / 0.9) < 0.5;
                let blur = smooth(across_m / 0.5);
                paint = paint.max(mix(if bar { 0.9 } else { 0.0 }, 0.45, blur));
                yellow = 0.0;
            }
        }
        let c = mix3(c, self.yellow, (yellow * worn).min(1.0));
        mix3(c, self.white, (paint.min(1.0) * worn).min(1.0))
    }
}
