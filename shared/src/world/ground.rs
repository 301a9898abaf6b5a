//! The surface of the road and what lies beside it, as a function of the place on it.

#![expect(
    clippy::needless_range_loop,
    reason = "one index goes through many arrays; so the compiler makes vectors of them"
)]

use super::lanes::{LANES, Lanes, RgbLanes, ZERO};
use super::math::{Rgb, floor, floor_i32, fract, larger, mix, ramp, share, smaller, smooth, sqrt};
use super::random::{Dice, Noise, unit_at};
use super::road::{Border, JUNCTION_REACH_M, Road, STREET_HALF_M, past_junction};

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

/// Spots on the ground, each seen by one pixel.
pub(super) struct Spots {
    /// Along and across the road.
    pub(super) s: Lanes,
    pub(super) d: Lanes,
    /// What a pixel covers there, across the line of sight and along it.
    pub(super) across_m: Lanes,
    pub(super) along_m: Lanes,
    /// Noise that changes over several metres.
    pub(super) broad: Lanes,
}

/// What several parts of the ground need to know about spots.
struct Seen {
    grain: Lanes,
    /// Distance from the middle of the road.
    out: Lanes,
    /// Length that a pixel's footprint is blurred over.
    blur: Lanes,
    /// Distance past the junction whose marks reach here; infinite where there is none.
    street: Lanes,
    any_street: bool,
    /// Share of the carriageway.
    carriage: Lanes,
    /// Where the outermost lane and the carriageway end.
    edge: f32,
    border: f32,
}

/// Reflectance, and how much of a mirror it is when wet.
pub(super) struct Surfaces {
    pub(super) albedo: RgbLanes,
    pub(super) puddle: Lanes,
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

    /// What is seen at spots. `junctions` are those that may be near.
    #[inline(never)]
    pub(super) fn at(
        &self,
        road: &Road,
        noise: &Noise,
        junctions: &[f32],
        spots: &Spots,
    ) -> Surfaces {
        let (edge, border) = (road.edge_m(), road.border_m());
        let mut seen = Seen {
            grain: ZERO,
            out: spots.d.map(f32::abs),
            blur: ZERO,
            street: [f32::INFINITY; LANES],
            any_street: false,
            carriage: ZERO,
            edge,
            border,
        };
        for i in 0..LANES {
            let (across_m, along_m) = (spots.across_m[i], spots.along_m[i]);
            let blur = larger(sqrt(across_m * along_m), across_m);
            seen.blur[i] = blur;
            // Far away the grain is below the eye's and the noise's resolution.
            if blur < GRAIN_UP_TO_M {
                seen.grain[i] = noise.near(
                    spots.d[i] * PER_GRAIN,
                    spots.s[i] * PER_GRAIN,
                    blur * PER_GRAIN,
                );
            }
        }
        let first = spots.s.iter().copied().fold(f32::INFINITY, smaller);
        let last = spots.s.iter().copied().fold(f32::NEG_INFINITY, larger);
        if junctions
            .iter()
            .any(|j| *j > first - JUNCTION_REACH_M && *j < last + JUNCTION_REACH_M)
        {
            for (street, &s) in seen.street.iter_mut().zip(&spots.s) {
                if let Some(off) = past_junction(junctions, s) {
                    *street = off;
                    seen.any_street = true;
                }
            }
        }
        for i in 0..LANES {
            let out = seen.out[i];
            let inside =
                0.5 - (out - border - 0.15 * spots.broad[i]) / larger(spots.across_m[i], 0.01);
            let crossing = STREET_HALF_M + 1.5 * ramp(edge + 6.0, edge, out);
            seen.carriage[i] = if seen.street[i].abs() < crossing {
                1.0
            } else {
                share(inside)
            };
        }
        let mut surfaces = Surfaces {
            albedo: [ZERO; 3],
            puddle: ZERO,
        };
        let carriage = &seen.carriage;
        if carriage.iter().any(|share| *share > 0.0) {
            surfaces.albedo = self.carriageway(road, noise, spots, &seen);
            if self.lines {
                self.marks(road, spots, &seen, &mut surfaces.albedo);
            }
            for i in 0..LANES {
                let wet = ramp(0.05, 0.5, spots.broad[i] + 0.3 * seen.grain[i] + 0.1);
                surfaces.puddle[i] = wet * carriage[i];
                for albedo in &mut surfaces.albedo {
                    albedo[i] *= carriage[i];
                }
            }
        }
        if carriage.iter().any(|share| *share < 1.0) {
            let beside = self.beside(road, spots, &seen);
            for (albedo, beside) in surfaces.albedo.iter_mut().zip(&beside) {
                for i in 0..LANES {
                    albedo[i] += beside[i] * (1.0 - carriage[i]);
                }
            }
        }
        surfaces
    }

    /// Asphalt or concrete: wheel tracks, patches, cracks, dust at the edge.
    #[inline(never)]
    fn carriageway(&self, road: &Road, noise: &Noise, spots: &Spots, seen: &Seen) -> RgbLanes {
        let mut tone = ZERO;
        for i in 0..LANES {
            let plain = self.asphalt * (1.0 + 0.42 * seen.grain[i] + 0.34 * spots.broad[i]);
            // Wheel tracks are polished, the middle of a lane is oiled.
            let lane = (fract((seen.out[i] - road.median_m / 2.0) / road.lane_m) - 0.5).abs();
            let track = (lane - 0.26).abs();
            tone[i] = plain
                * (1.0 + 0.10 * ramp(0.12, 0.0, track))
                * (1.0 - 0.10 * ramp(0.16, 0.0, lane));
        }
        if self.patches > 0.35 {
            let mut last = ((i32::MIN, 0), 1.0);
            for i in 0..LANES {
                let place = (
                    floor_i32(spots.s[i] * (1.0 / 7.3)),
                    floor_i32(spots.d[i] * (1.0 / 2.1)),
                );
                if place != last.0 {
                    let cell = unit_at(self.seed, i64::from(place.0), i64::from(place.1));
                    let patch = if cell < 0.10 * self.patches {
                        0.68
                    } else if cell > 1.0 - 0.05 * self.patches {
                        1.25
                    } else {
                        1.0
                    };
                    last = (place, patch);
                }
                tone[i] *= last.1;
            }
        }
        if self.cracks > 0.2 {
            let tile = 1.0 / 9.0;
            for i in 0..LANES {
                let along_m = spots.along_m[i];
                if along_m >= 0.3 || seen.carriage[i] == 0.0 {
                    continue;
                }
                let (s, d) = (spots.s[i], spots.d[i]);
                let line = noise
                    .at(d * tile + 0.7, s * tile, seen.blur[i] * tile)
                    .abs();
                if line < 0.035 {
                    let near = 1.0 - along_m * (1.0 / 0.3);
                    tone[i] *= 1.0 - 0.5 * self.cracks * ramp(0.035, 0.0, line) * near;
                }
            }
        }
        if self.concrete {
            for i in 0..LANES {
                let along_m = spots.along_m[i];
                let joint = fract(spots.s[i] * (1.0 / 5.0)) * 5.0;
                let near = larger(1.0 - along_m * (1.0 / 3.0), 0.0);
                tone[i] *= 1.0 - 0.35 * ramp(0.10 + along_m, 0.0, joint) * near;
            }
        }
        let mut colour = [ZERO; 3];
        for i in 0..LANES {
            let place = seen.out[i] + 0.9 * spots.broad[i];
            let dusty = self.dust * ramp(seen.edge - 1.6, seen.border + 0.3, place) * 0.8;
            for (k, per_tone) in [1.0, 0.99, 0.985].into_iter().enumerate() {
                colour[k][i] = mix(tone[i] * per_tone, self.earth[k], dusty);
            }
        }
        colour
    }

    /// Kerb and pavement, or verge.
    #[inline(never)]
    fn beside(&self, road: &Road, spots: &Spots, seen: &Seen) -> RgbLanes {
        let mut colour = [ZERO; 3];
        let bare: Rgb = core::array::from_fn(|k| mix(self.verge_dry[k], self.earth[k], self.dust));
        for i in 0..LANES {
            let grain = seen.grain[i];
            let off = seen.out[i] - seen.border;
            let dry = ramp(
                self.green_share - 0.25,
                self.green_share + 0.35,
                spots.broad[i] + 0.4 * grain + 0.8 * self.dust
                    - 0.3
                    - 0.04 * smaller(larger(off - 2.0, 0.0), 8.0),
            );
            let strip = ramp(1.8, 0.4, off) * (0.4 + 0.6 * self.dust);
            for k in 0..3 {
                colour[k][i] = mix(
                    self.verge_green[k] * (1.0 + 0.7 * grain),
                    bare[k] * (1.0 + 0.35 * grain),
                    larger(dry, strip),
                );
            }
        }
        if let Border::Kerb { painted } = road.border {
            for i in 0..LANES {
                let off = seen.out[i] - seen.border;
                let (s, grain, broad) = (spots.s[i], seen.grain[i], spots.broad[i]);
                // Joints between slabs, from near.
                let (along, across) = (fract(s / SLAB_M) * SLAB_M, fract(off / SLAB_M) * SLAB_M);
                let joint = (spots.across_m[i] < 0.03) & ((along < 0.03) | (across < 0.03));
                let slab = (1.0 + 0.3 * grain + 0.2 * broad) * if joint { 0.7 } else { 1.0 };
                let dusty = self.dust * 0.4 * share(0.5 + broad);
                let stone = if painted {
                    let block = if fract(s / 1.6) < 0.5 { 0.55 } else { 0.03 };
                    mix(block, 0.29, smooth(spots.along_m[i] / 0.8))
                } else {
                    0.30
                };
                let kerb = 1.0 + 0.3 * grain;
                for (k, tint) in [1.0, 1.0, 0.94].into_iter().enumerate() {
                    let pavement = mix(self.pavement[k] * slab, self.earth[k], dusty);
                    let beside = if off < road.pavement_m {
                        pavement
                    } else {
                        colour[k][i]
                    };
                    colour[k][i] = if off < KERB_M {
                        stone * tint * kerb
                    } else {
                        beside
                    };
                }
            }
        }
        colour
    }

    /// Paint over the carriageway's colour: lane and edge lines, the middle, stop lines and crossings.
    #[inline(never)]
    fn marks(&self, road: &Road, spots: &Spots, seen: &Seen, colour: &mut RgbLanes) {
        let median = road.median_m / 2.0;
        let (mut dashed, mut paint, mut yellow) = (ZERO, ZERO, ZERO);
        let per_across = spots.across_m.map(|across_m| 1.0 / larger(across_m, 0.02));
        // Adds a line of half a width about a place. From far it is thinner than a pixel.
        let stripe = |to: &mut Lanes, at: f32, half: f32, x: &Lanes| {
            for i in 0..LANES {
                let inside_m = half - (x[i] - at).abs();
                let cover = share(inside_m * per_across[i] + 0.5);
                let cover = if inside_m < -0.5 * spots.across_m[i] {
                    0.0
                } else {
                    cover
                };
                to[i] += cover * smaller(2.0 * half * per_across[i], 1.0);
            }
        };
        for lane in 1..road.lanes {
            let at = median + lane as f32 * road.lane_m;
            stripe(&mut dashed, at, LINE_HALF_M, &seen.out);
        }
        stripe(&mut paint, seen.edge - 0.08, LINE_HALF_M, &seen.out);
        if median == 0.0 {
            if road.yellow_middle {
                stripe(&mut yellow, 0.13, 0.06, &seen.out);
            } else if road.lanes > 1 {
                stripe(&mut paint, 0.0, LINE_HALF_M, &spots.d);
            } else {
                stripe(&mut dashed, 0.0, LINE_HALF_M, &spots.d);
            }
        } else if road.yellow_middle {
            stripe(&mut yellow, median + 0.15, LINE_HALF_M, &seen.out);
        } else {
            stripe(&mut paint, median + 0.15, LINE_HALF_M, &seen.out);
        }
        if dashed.iter().any(|dashed| *dashed > 0.0) {
            let period = self.dash_m + self.gap_m;
            for i in 0..LANES {
                let along_m = spots.along_m[i];
                let phase = fract(spots.s[i] / period) * period;
                let on = share(smaller(phase, self.dash_m - phase) / larger(along_m, 0.05) + 0.5);
                let far = smooth(along_m / period - 0.3);
                paint[i] += dashed[i] * mix(on, self.dash_m / period, far);
            }
        }
        if seen.any_street {
            self.junction_marks(road, spots, seen, &mut paint, &mut yellow);
        }
        if paint
            .iter()
            .zip(&yellow)
            .all(|(a, b)| *a == 0.0 && *b == 0.0)
        {
            return;
        }
        for i in 0..LANES {
            let grain = seen.grain[i];
            let worn = share(1.15 - self.wear * (0.9 + 0.9 * grain) - 0.12 * grain);
            let yellow = smaller(yellow[i] * worn, 1.0);
            let white = smaller(smaller(paint[i], 1.0) * worn, 1.0);
            for k in 0..3 {
                let c = mix(colour[k][i], self.yellow[k], yellow);
                colour[k][i] = mix(c, self.white[k], white);
            }
        }
    }

    /// Before a junction: a stop line for those who come to it, then the crossing for those on foot. On it, nothing.
    fn junction_marks(
        &self,
        road: &Road,
        spots: &Spots,
        seen: &Seen,
        paint: &mut Lanes,
        yellow: &mut Lanes,
    ) {
        for i in 0..LANES {
            let (off, out) = (seen.street[i], seen.out[i]);
            if off == f32::INFINITY {
                continue;
            }
            let from = off.abs() - STREET_HALF_M;
            if from <= 0.0 {
                (paint[i], yellow[i]) = (0.0, 0.0);
                continue;
            }
            let coming = (off < 0.0) == (spots.d[i] * road.side > 0.0);
            if coming && out < seen.edge - 0.1 {
                paint[i] +=
                    share((0.2 - (from - 5.2).abs()) / larger(spots.along_m[i], 0.05) + 0.5);
            }
            if from > 0.8
                && from < 4.0
                && unit_at(self.seed, floor((spots.s[i] - off) / 3.0) as i64, 4) < 0.75
            {
                let bar = if fract(out / 0.9) < 0.5 { 0.9 } else { 0.0 };
                let blur = smooth(spots.across_m[i] / 0.5);
                paint[i] = larger(paint[i], mix(bar, 0.45, blur));
                yellow[i] = 0.0;
            }
        }
    }
}
