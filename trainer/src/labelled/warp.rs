//! Pictures moved a little: what a writer's hand, or a camera, does between two looks at the same thing.
//!
//! In: a sample and a random stream. Out: the sample turned, scaled, sheared and shifted by a little, sampled bilinearly;
//! what comes in from outside is 0.

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::Shape;
use crate::config::{ConfigError, in_range};

/// How far pictures are moved at most; everything 0 leaves them as they are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WarpConfig {
    /// Shift in both directions.
    pub shift_px: f32,
    /// Turn.
    pub turn_degrees: f32,
    /// Change of size, as a share.
    pub scale: f32,
    /// Slant: columns a row.
    pub shear: f32,
    /// How far a picture is bent on the way, smoothly (Simard et al. 2003).
    pub bend_px: f32,
}

impl Default for WarpConfig {
    fn default() -> Self {
        Self {
            shift_px: 2.0,
            turn_degrees: 12.0,
            scale: 0.12,
            shear: 0.15,
            bend_px: 0.0,
        }
    }
}

impl WarpConfig {
    /// Nothing is moved.
    pub fn none() -> Self {
        Self {
            shift_px: 0.0,
            turn_degrees: 0.0,
            scale: 0.0,
            shear: 0.0,
            bend_px: 0.0,
        }
    }

    /// Checks the ranges.
    ///
    /// # Errors
    /// The first value that is out of its range.
    pub fn validate(&self) -> Result<(), ConfigError> {
        in_range("warp.shift_px", self.shift_px.into(), 0.0, 1000.0)?;
        in_range("warp.turn_degrees", self.turn_degrees.into(), 0.0, 180.0)?;
        in_range("warp.scale", self.scale.into(), 0.0, 0.9)?;
        in_range("warp.shear", self.shear.into(), 0.0, 2.0)?;
        in_range("warp.bend_px", self.bend_px.into(), 0.0, 1000.0)
    }

    /// A moved copy of `sample`; of one that is no picture, the sample itself.
    pub fn apply(&self, sample: &[f32], shape: Shape, rng: &mut ChaCha8Rng) -> Vec<f32> {
        let mut draw = |most: f32| match most > 0.0 {
            true => rng.random_range(-most..=most),
            false => 0.0,
        };
        let turn = draw(self.turn_degrees).to_radians();
        let (size, shear) = (1.0 + draw(self.scale), draw(self.shear));
        let (shift_x, shift_y) = (draw(self.shift_px), draw(self.shift_px));
        if !shape.is_picture() || *self == Self::none() {
            return sample.to_vec();
        }
        let bend = (self.bend_px > 0.0).then(|| Bend::drawn(self.bend_px, rng));
        // Where in the old picture a pixel of the new one comes from.
        let (sin, cos) = turn.sin_cos();
        let (centre_x, centre_y) = (
            (shape.width as f32 - 1.0) / 2.0,
            (shape.height as f32 - 1.0) / 2.0,
        );
        let mut moved = Vec::with_capacity(sample.len());
        let (wide, high) = (shape.width as f32, shape.height as f32);
        for y in 0..shape.height {
            for x in 0..shape.width {
                let by = |bend: &Bend| bend.at((x as f32 + 0.5) / wide, (y as f32 + 0.5) / high);
                let [by_x, by_y] = bend.as_ref().map_or([0.0; 2], by);
                let (dx, dy) = (
                    (x as f32 - centre_x - shift_x) / size,
                    (y as f32 - centre_y - shift_y) / size,
                );
                let from_x = cos * dx + sin * dy + shear * dy + centre_x + by_x;
                let from_y = -sin * dx + cos * dy + centre_y + by_y;
                for channel in 0..shape.channels {
                    moved.push(bilinear(sample, shape, channel, from_x, from_y));
                }
            }
        }
        moved
    }
}

/// Knots of a bend, on each side.
const KNOTS: usize = 4;

/// A smooth field of shifts over a square: random at a few knots, interpolated between them.
#[derive(Clone, Debug)]
pub struct Bend {
    knots: [[f32; 2]; KNOTS * KNOTS],
}

impl Bend {
    /// Shifts of `-most` to `most` in both directions at every knot.
    pub fn drawn(most: f32, rng: &mut ChaCha8Rng) -> Self {
        let mut draw = || match most > 0.0 {
            true => rng.random_range(-most..=most),
            false => 0.0,
        };
        Self {
            knots: std::array::from_fn(|_| [draw(), draw()]),
        }
    }

    /// The shift at a place of the unit square; outside of it that of the nearest edge.
    pub fn at(&self, x: f32, y: f32) -> [f32; 2] {
        let place = |v: f32| {
            let v = v.clamp(0.0, 1.0) * (KNOTS - 1) as f32;
            let knot = (v as usize).min(KNOTS - 2);
            let share = v - knot as f32;
            // No kink at a knot.
            (knot, share * share * (3.0 - 2.0 * share))
        };
        let ((column, right), (row, down)) = (place(x), place(y));
        let knot = |down: usize, right: usize| self.knots[(row + down) * KNOTS + column + right];
        let between = |axis: usize| {
            let upper = knot(0, 0)[axis] * (1.0 - right) + knot(0, 1)[axis] * right;
            let lower = knot(1, 0)[axis] * (1.0 - right) + knot(1, 1)[axis] * right;
            upper * (1.0 - down) + lower * down
        };
        [between(0), between(1)]
    }
}

/// A square picture turned by quarters of a full turn, to the right; others come back as they are.
pub fn quarter_turned(sample: &[f32], shape: Shape, quarters: u32) -> Vec<f32> {
    let side = shape.height;
    if shape.width != side || quarters.is_multiple_of(4) {
        return sample.to_vec();
    }
    let from = |x: usize, y: usize| match quarters % 4 {
        1 => (y, side - 1 - x),
        2 => (side - 1 - x, side - 1 - y),
        _ => (side - 1 - y, x),
    };
    let mut turned = Vec::with_capacity(sample.len());
    for at in 0..side * side {
        let (x, y) = from(at % side, at / side);
        let pixel = (y * side + x) * shape.channels;
        turned.extend_from_slice(&sample[pixel..pixel + shape.channels]);
    }
    turned
}

pub(super) fn bilinear(sample: &[f32], shape: Shape, channel: usize, x: f32, y: f32) -> f32 {
    let (left, top) = (x.floor(), y.floor());
    let (share_x, share_y) = (x - left, y - top);
    let at = |x: f32, y: f32| {
        let inside = x >= 0.0 && y >= 0.0 && x < shape.width as f32 && y < shape.height as f32;
        match inside {
            true => sample[(y as usize * shape.width + x as usize) * shape.channels + channel],
            false => 0.0,
        }
    };
    let upper = at(left, top) * (1.0 - share_x) + at(left + 1.0, top) * share_x;
    let lower = at(left, top + 1.0) * (1.0 - share_x) + at(left + 1.0, top + 1.0) * share_x;
    upper * (1.0 - share_y) + lower * share_y
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    const SHAPE: Shape = Shape {
        height: 9,
        width: 9,
        channels: 1,
    };

    #[test]
    fn four_quarter_turns_are_none_and_one_goes_to_the_right() {
        let shape = Shape {
            height: 2,
            width: 2,
            channels: 1,
        };
        let picture = [1.0, 2.0, 3.0, 4.0];
        assert_eq!(quarter_turned(&picture, shape, 1), [3.0, 1.0, 4.0, 2.0]);
        for quarters in 0..8 {
            let once = quarter_turned(&picture, shape, quarters);
            let back = quarter_turned(&once, shape, 8 - quarters);
            assert_eq!(back, picture, "{quarters}");
        }
    }

    #[test]
    fn a_bend_is_smooth_stays_within_its_bounds_and_moves_places_differently() {
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        let bend = Bend::drawn(3.0, &mut rng);
        let at = |k: u16, y: f32| bend.at(f32::from(k) / 400.0, y);
        let mut furthest: f32 = 0.0;
        for y in [0.0, 0.3, 1.0] {
            for k in 0..400 {
                let ([ax, ay], [bx, by]) = (at(k, y), at(k + 1, y));
                // At most 1.5 times the whole difference of two knots, a third of the square apart.
                assert!((ax - bx).abs().max((ay - by).abs()) < 1.5 * 6.0 * 3.0 / 400.0 + 1e-5);
                assert!(ax.abs().max(ay.abs()) <= 3.0);
                furthest = furthest.max((ax - at(0, y)[0]).abs());
            }
        }
        assert!(furthest > 0.5, "{furthest}");
        assert_eq!(bend.at(-1.0, 2.0), bend.at(0.0, 1.0));
        let still = Bend::drawn(0.0, &mut rng);
        assert_eq!(still.at(0.4, 0.7), [0.0; 2]);
        let bent = WarpConfig {
            bend_px: 1.5,
            ..WarpConfig::none()
        };
        let sample: Vec<f32> = (0..81u8).map(|v| f32::from(v % 7) / 7.0).collect();
        assert_ne!(bent.apply(&sample, SHAPE, &mut rng), sample);
    }

    #[test]
    fn a_warped_dot_keeps_its_light_and_stays_near_and_none_changes_nothing() {
        let mut dot = vec![0.0; 81];
        dot[4 * 9 + 4] = 1.0;
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        assert_eq!(WarpConfig::none().apply(&dot, SHAPE, &mut rng), dot);
        let config = WarpConfig {
            scale: 0.0,
            ..WarpConfig::default()
        };
        let mut places = std::collections::BTreeSet::new();
        for _ in 0..20 {
            let moved = config.apply(&dot, SHAPE, &mut rng);
            let light: f32 = moved.iter().sum();
            assert!((0.7..1.3).contains(&light), "{light}");
            let brightest = (0..81).max_by(|a, b| moved[*a].total_cmp(&moved[*b]));
            let (x, y) = brightest.map_or((9, 9), |at| (at % 9, at / 9));
            assert!(x.abs_diff(4) <= 3 && y.abs_diff(4) <= 3, "{x} {y}");
            places.insert((x, y));
        }
        assert!(places.len() > 5);
    }
}
