//! The road: a curve with hills, its cross-section, junctions and bridges. Places on it are `s` (along, metres) and `d`
//! (to the right of the middle, metres).

use alloc::vec::Vec;

use super::config::WorldConfig;
use super::math::{V3, cos, floor, mix, sin};
use super::random::{Dice, wander};

/// Spacing of the table that stores the curve.
const KNOT_M: f32 = 2.0;
/// The road is known this far behind the start of the drive.
pub(super) const BEHIND_M: f32 = 140.0;
/// Half the width of a crossing street.
pub(super) const STREET_HALF_M: f32 = 5.5;

/// Stop lines and crossings reach this far beyond the crossing street.
const JUNCTION_MARKS_M: f32 = 9.0;
/// So far from a junction, its marks are over.
pub(super) const JUNCTION_REACH_M: f32 = STREET_HALF_M + JUNCTION_MARKS_M;

/// Signed distance past the junction, of these, whose marks reach this place.
#[inline]
pub(super) fn past_junction(junctions: &[f32], s: f32) -> Option<f32> {
    junctions
        .iter()
        .map(|j| s - j)
        .find(|off| off.abs() < JUNCTION_REACH_M)
}

#[derive(Clone, Copy, Debug)]
struct Knot {
    x: f32,
    y: f32,
    z: f32,
    heading: f32,
}

/// A place over the road, and its direction.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) at: V3,
    pub(super) heading: f32,
}

/// What stands over the road.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bridge {
    pub(super) from_m: f32,
    pub(super) to_m: f32,
    pub(super) clearance_m: f32,
    /// Closed at the sides.
    pub(super) tunnel: bool,
}

/// What runs along the edge of the carriageway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Border {
    /// Kerb and pavement.
    Kerb { painted: bool },
    /// Gravel and dust.
    Earth,
    /// A paved shoulder, then grass.
    Shoulder,
}

pub(super) struct Road {
    knots: Vec<Knot>,
    /// +1 where traffic keeps right, -1 where it keeps left.
    pub(super) side: f32,
    pub(super) lane_m: f32,
    pub(super) lanes: u32,
    pub(super) median_m: f32,
    pub(super) shoulder_m: f32,
    pub(super) pavement_m: f32,
    pub(super) border: Border,
    pub(super) junctions: Vec<f32>,
    pub(super) bridges: Vec<Bridge>,
    /// 0 fresh, 1 gone.
    pub(super) wear: f32,
    pub(super) concrete: bool,
    pub(super) yellow_middle: bool,
    /// How built-up it is, 0 to 1.
    pub(super) town: f32,
    pub(super) speed_m_s: f32,
}

impl Road {
    /// `reach_m`: how far the camera will look ahead of the start.
    pub(super) fn new(config: &WorldConfig, seed: u64, reach_m: f32) -> Self {
        let mut dice = Dice::new(seed, 0x726f_6164);
        let place = &config.place;
        let lanes =
            place.lanes[0] + dice.below((place.lanes[1] - place.lanes[0] + 1) as usize) as u32;
        let divided = lanes > 1 && dice.chance(place.divided_share);
        let town = if divided && dice.chance(0.45) {
            dice.range(0.0, 0.35)
        } else {
            dice.range(0.25, 1.0)
        };
        let bendiness = dice.unit() * dice.unit() * 0.016 * (0.4 + 0.6 * (1.0 - town));
        let hilliness = dice.unit() * dice.unit() * 0.045;
        let (bend_seed, hill_seed) = (dice.next(), dice.next());
        let count = ((reach_m + BEHIND_M) / KNOT_M) as usize + 8;
        let mut knots = Vec::with_capacity(count);
        let mut k = Knot {
            x: 0.0,
            y: 0.0,
            z: 0.0,
            heading: 0.0,
        };
        for i in 0..count {
            knots.push(k);
            let s = i as f32 * KNOT_M;
            k.heading += KNOT_M * bendiness * wander(bend_seed, s / 70.0);
            k.x += KNOT_M * sin(k.heading);
            k.z += KNOT_M * cos(k.heading);
            k.y += KNOT_M * hilliness * wander(hill_seed, s / 90.0);
        }
        let kerb = dice.chance(place.kerb_share * (0.35 + 0.65 * town));
        let border = if kerb {
            Border::Kerb {
                painted: dice.chance(place.painted_kerb_share),
            }
        } else if place.keeps_left || dice.chance(0.3) {
            Border::Earth
        } else {
            Border::Shoulder
        };
        let mut junctions = Vec::new();
        if town > 0.3 || dice.chance(0.3) {
            let mut s = dice.range(-60.0, 60.0);
            while s < reach_m {
                junctions.push(s);
                s += dice.range(70.0, 190.0);
            }
        }
        let mut bridges = Vec::new();
        if dice.chance(config.conditions.bridge) {
            let from_m = dice.range(18.0, 30.0 + 0.45 * (reach_m - 200.0).max(40.0));
            let tunnel = dice.chance(0.25);
            let len = if tunnel {
                dice.range(35.0, 90.0)
            } else {
                dice.range(8.0, 24.0)
            };
            bridges.push(Bridge {
                from_m,
                to_m: from_m + len,
                clearance_m: dice.range(4.8, 7.0),
                tunnel,
            });
            junctions.retain(|s| (s - from_m - len / 2.0).abs() > len / 2.0 + 20.0);
        }
        let speed_m_s = mix(place.speed_m_s[1], place.speed_m_s[0], town) * dice.range(0.75, 1.1);
        Self {
            knots,
            side: if place.keeps_left { -1.0 } else { 1.0 },
            lane_m: dice.within(place.lane_width_m),
            lanes,
            median_m: if divided {
                dice.range(0.8, if town > 0.4 { 3.0 } else { 7.0 })
            } else {
                0.0
            },
            shoulder_m: match border {
                Border::Kerb { .. } => dice.range(0.2, 2.4),
                Border::Earth => dice.range(0.2, 1.0),
                Border::Shoulder => dice.range(1.0, 3.0),
            },
            pavement_m: dice.range(1.4, 3.6),
            border,
            junctions,
            bridges,
            wear: dice.within(place.wear),
            concrete: dice.chance(if place.keeps_left { 0.12 } else { 0.25 }),
            yellow_middle: !place.keeps_left || dice.chance(0.2),
            town,
            speed_m_s,
        }
    }

    fn knot(&self, s: f32) -> Knot {
        let t = ((s + BEHIND_M) / KNOT_M).clamp(0.0, (self.knots.len() - 2) as f32 + 0.999);
        let i = floor(t) as usize;
        let (a, b, t) = (self.knots[i], self.knots[i + 1], t - i as f32);
        Knot {
            x: mix(a.x, b.x, t),
            y: mix(a.y, b.y, t),
            z: mix(a.z, b.z, t),
            heading: mix(a.heading, b.heading, t),
        }
    }

    /// The point at `s`, `d`, on the ground.
    pub(super) fn place(&self, s: f32, d: f32) -> Place {
        let k = self.knot(s);
        Place {
            at: [k.x + d * cos(k.heading), k.y, k.z - d * sin(k.heading)],
            heading: k.heading,
        }
    }

    /// Slope of the ground along the road, rise over run.
    pub(super) fn slope(&self, s: f32) -> f32 {
        (self.knot(s + 1.5).y - self.knot(s - 1.5).y) / 3.0
    }

    /// Distance from the middle to the outer edge of the outermost lane.
    pub(super) fn edge_m(&self) -> f32 {
        self.median_m / 2.0 + self.lanes as f32 * self.lane_m
    }

    /// Where walking and parking begins: the edge and the shoulder.
    pub(super) fn border_m(&self) -> f32 {
        self.edge_m() + self.shoulder_m
    }

    /// Middle of a lane; lane 0 is next to the middle of the road. `with_us` is our direction.
    pub(super) fn lane_d(&self, lane: u32, with_us: bool) -> f32 {
        let out = self.median_m / 2.0 + (lane as f32 + 0.5) * self.lane_m;
        self.side * if with_us { out } else { -out }
    }

    pub(super) fn near_junction(&self, s: f32, margin_m: f32) -> bool {
        self.junctions
            .iter()
            .any(|j| (s - j).abs() < STREET_HALF_M + margin_m)
    }

    /// Junctions whose marks reach into a stretch of the road.
    pub(super) fn junctions_between(&self, from: f32, to: f32) -> Vec<f32> {
        let reach = JUNCTION_REACH_M;
        self.junctions
            .iter()
            .copied()
            .filter(|j| *j > from - reach && *j < to + reach)
            .collect()
    }

    /// The bridge over a place, if any.
    pub(super) fn bridge_over(&self, s: f32) -> Option<&Bridge> {
        self.bridges.iter().find(|b| s > b.from_m && s < b.to_m)
    }
}
