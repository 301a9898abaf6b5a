//! The surface of the road and what lies beside it, as a function of the place on it.

use super::math::{Rgb, add, floor, floor_i32, fract, mix, mix3, ramp, scale, smooth, sqrt};
use super::random::{Dice, Noise, unit_at};
use super::road::{Border, Road, STREET_HALF_M, past_junction};

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

/// The grain of asphalt and grass: its tile's side is this long, and it is seen where a pixel covers less than that.
const PER_GRAIN: f32 = 1.0 / 3.1;
const GRAIN_UP_TO_M: f32 = 1.5;
/// Half the width of a painted line.
const LINE_HALF_M: f32 = 0.07;
/// Width of a kerbstone and of a pavement's slabs.
const KERB_M: f32 = 0.22;
const SLAB_M: f32 = 0.9;

/// A spot on the ground, seen by one pixel.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spot {
    /// Along and across the road.
    pub(super) s: f32,
    pub(super) d: f32,
    /// What a pixel covers there, across the line of sight and along it.
    pub(super) across_m: f32,
    pub(super) along_m: f32,
    /// Noise that changes over several metres.
    pub(super) broad: f32,
}

/// A spot, and what several parts of the ground need to know about it.
struct Seen {
    spot: Spot,
    grain: f32,
    /// Distance from the middle of the road, and where on it the outermost lane and the carriageway end.
    out: f32,
    edge: f32,
    border: f32,
    /// Length that a pixel's footprint is blurred over.
    blur: f32,
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

    /// What is seen at a spot. `junctions` are those that may be near.
    pub(super) fn at(&self, road: &Road, noise: &Noise, junctions: &[f32], spot: Spot) -> Surface {
        let Spot {
            s,
            d,
            across_m,
            along_m,
            broad,
        } = spot;
        let blur = sqrt(across_m * along_m).max(across_m);
        // Far away the grain is below the eye's and the noise's resolution.
        let grain = if blur < GRAIN_UP_TO_M {
            noise.near(d * PER_GRAIN, s * PER_GRAIN, blur * PER_GRAIN)
        } else {
            0.0
        };
        let out = d.abs();
        let edge = road.edge_m();
        let border = road.border_m();
        let street = past_junction(junctions, s);
        let on_crossing =
            street.is_some_and(|off| off.abs() < STREET_HALF_M + 1.5 * ramp(edge + 6.0, edge, out));
        let carriage = if on_crossing {
            1.0
        } else {
            (0.5 - (out - border - 0.15 * broad) / across_m.max(0.01)).clamp(0.0, 1.0)
        };
        let seen = Seen {
            spot,
            grain,
            out,
            edge,
            border,
            blur,
        };
        let mut albedo = [0.0; 3];
        let mut puddle = 0.0;
        if carriage > 0.0 {
            let mut c = self.carriageway(road, noise, &seen);
            if self.lines && street.is_none_or(|off| off.abs() > STREET_HALF_M) {
                c = self.marks(road, c, &seen, street);
            }
            puddle = ramp(0.05, 0.5, broad + 0.3 * grain + 0.1) * carriage;
            albedo = scale(c, carriage);
        }
        if carriage < 1.0 {
            albedo = add(albedo, scale(self.beside(road, &seen), 1.0 - carriage));
        }
        Surface { albedo, puddle }
    }

    /// Asphalt or concrete: wheel tracks, patches, cracks, dust at the edge.
    fn carriageway(&self, road: &Road, noise: &Noise, seen: &Seen) -> Rgb {
        let Spot {
            s,
            d,
            along_m,
            broad,
            ..
        } = seen.spot;
        let mut tone = self.asphalt * (1.0 + 0.42 * seen.grain + 0.34 * broad);
        // Wheel tracks are polished, the middle of a lane is oiled.
        let lane = (fract((seen.out - road.median_m / 2.0) / road.lane_m) - 0.5).abs();
        let track = (lane - 0.26).abs();
        if track < 0.12 {
            tone *= 1.0 + 0.10 * ramp(0.12, 0.0, track);
        }
        if lane < 0.16 {
            tone *= 1.0 - 0.10 * ramp(0.16, 0.0, lane);
        }
        if self.patches > 0.35 {
            let cell = unit_at(
                self.seed,
                i64::from(floor_i32(s * (1.0 / 7.3))),
                i64::from(floor_i32(d * (1.0 / 2.1))),
            );
            if cell < 0.10 * self.patches {
                tone *= 0.68;
            } else if cell > 1.0 - 0.05 * self.patches {
                tone *= 1.25;
            }
        }
        if self.cracks > 0.2 && along_m < 0.3 {
            let tile = 1.0 / 9.0;
            let line = noise.at(d * tile + 0.7, s * tile, seen.blur * tile).abs();
            if line < 0.035 {
                let near = 1.0 - along_m * (1.0 / 0.3);
                tone *= 1.0 - 0.5 * self.cracks * ramp(0.035, 0.0, line) * near;
            }
        }
        if self.concrete && along_m < 3.0 {
            let joint = fract(s * (1.0 / 5.0)) * 5.0;
            tone *= 1.0 - 0.35 * ramp(0.10 + along_m, 0.0, joint) * (1.0 - along_m * (1.0 / 3.0));
        }
        let asphalt = [tone, tone * 0.99, tone * 0.985];
        let place = seen.out + 0.9 * broad;
        if place <= seen.edge - 1.6 {
            return asphalt;
        }
        let dusty = self.dust * ramp(seen.edge - 1.6, seen.border + 0.3, place) * 0.8;
        mix3(asphalt, self.earth, dusty)
    }

    /// Kerb and pavement, or verge.
    fn beside(&self, road: &Road, seen: &Seen) -> Rgb {
        let &Seen { spot, grain, .. } = seen;
        let Spot { s, broad, .. } = spot;
        let off = seen.out - seen.border;
        if let Border::Kerb { painted } = road.border {
            if off < KERB_M {
                let block = fract(s / 1.6) < 0.5;
                let blur = smooth(spot.along_m / 0.8);
                let c = if painted {
                    mix(if block { 0.55 } else { 0.03 }, 0.29, blur)
                } else {
                    0.30
                };
                return scale([c, c, c * 0.94], 1.0 + 0.3 * grain);
            }
            if off < road.pavement_m {
                // Joints between slabs, from near.
                let joint = spot.across_m < 0.03
                    && (fract(s / SLAB_M) * SLAB_M < 0.03 || fract(off / SLAB_M) * SLAB_M < 0.03);
                let c = scale(
                    self.pavement,
                    (1.0 + 0.3 * grain + 0.2 * broad) * if joint { 0.7 } else { 1.0 },
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

    /// Paint over the carriageway's colour: lane and edge lines, the middle, stop lines and crossings.
    fn marks(&self, road: &Road, c: Rgb, seen: &Seen, street: Option<f32>) -> Rgb {
        let &Seen {
            spot, out, grain, ..
        } = seen;
        let Spot {
            s,
            d,
            across_m,
            along_m,
            ..
        } = spot;
        let per_across = 1.0 / across_m.max(0.02);
        let stripe = |at: f32, half: f32, x: f32| {
            let inside_m = half - (x - at).abs();
            if inside_m < -0.5 * across_m {
                return 0.0;
            }
            let cover = (inside_m * per_across + 0.5).clamp(0.0, 1.0);
            cover * (2.0 * half / across_m.max(2.0 * half))
        };
        let median = road.median_m / 2.0;
        let mut dashed = 0.0_f32;
        for lane in 1..road.lanes {
            dashed += stripe(median + lane as f32 * road.lane_m, LINE_HALF_M, out);
        }
        let mut paint = stripe(seen.edge - 0.08, LINE_HALF_M, out);
        let mut yellow = 0.0_f32;
        if median == 0.0 {
            if road.yellow_middle {
                yellow = stripe(0.13, 0.06, out);
            } else if road.lanes > 1 {
                paint += stripe(0.0, LINE_HALF_M, d);
            } else {
                dashed += stripe(0.0, LINE_HALF_M, d);
            }
        } else if road.yellow_middle {
            yellow = stripe(median + 0.15, LINE_HALF_M, out);
        } else {
            paint += stripe(median + 0.15, LINE_HALF_M, out);
        }
        if dashed > 0.0 {
            let period = self.dash_m + self.gap_m;
            let phase = fract(s / period) * period;
            let on = ((phase.min(self.dash_m - phase)) / along_m.max(0.05) + 0.5).clamp(0.0, 1.0);
            paint += dashed * mix(on, self.dash_m / period, smooth(along_m / period - 0.3));
        }
        // Before a junction: a stop line for those who come to it, then the crossing for those on foot.
        if let Some(off) = street {
            let from = off.abs() - STREET_HALF_M;
            let coming = (off < 0.0) == (d * road.side > 0.0);
            if coming && out < seen.edge - 0.1 {
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
        if paint == 0.0 && yellow == 0.0 {
            return c;
        }
        let worn = (1.15 - self.wear * (0.9 + 0.9 * grain) - 0.12 * grain).clamp(0.0, 1.0);
        let c = mix3(c, self.yellow, (yellow * worn).min(1.0));
        mix3(c, self.white, (paint.min(1.0) * worn).min(1.0))
    }
}
