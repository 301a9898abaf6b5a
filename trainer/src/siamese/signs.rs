//! Invented signs: more classes to learn a distance from than a data set has.
//!
//! In: a seed, the number of a class, and the shape of the samples beside which signs are shown. Out: pictures of the sign,
//! each as another hand might have written it. A network that was shown a few classes knows *those* apart; one that was shown
//! thousands has to look at what makes any two drawings differ (Lake et al. 2015 collected such an alphabet, this one is
//! made up). No picture of a data set plays a part: a sign is a few strokes of a pen that wanders at random.
//!
//! ```
//! use rand::SeedableRng;
//! use roadhound_trainer::labelled::Shape;
//! use roadhound_trainer::siamese::signs::{Sign, SignsConfig};
//! let config = SignsConfig::default();
//! let sign = Sign::invented(7, 12, &config);
//! let shape = Shape { height: 28, width: 28, channels: 1 };
//! let mut hand = rand_chacha::ChaCha8Rng::seed_from_u64(1);
//! let picture = sign.written(&config, shape, &mut hand);
//! assert!(picture.len() == 784 && picture.contains(&1.0));
//! ```

use std::f32::consts::{PI, TAU};

use rand::Rng;
use rand::seq::index::sample;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::config::{ConfigError, in_range};
use crate::epochs::rng_at;
use crate::labelled::Shape;
use crate::labelled::warp::Bend;

const INVENT: u64 = 31;
const RELATE: u64 = 32;
/// Points that a stroke is followed at.
const POINTS: usize = 24;
/// Share of the picture's side that the longer side of a sign takes, as of MNIST's digits.
const FILLED: f32 = 20.0 / 28.0;
/// Strokes that begin on another one.
const JOINED: f64 = 0.75;
/// Strokes whose pen makes a sharp turn somewhere.
const CORNERED: f64 = 0.35;
/// Strokes of a relative that end where the other's does.
const SAME_ENDS: f64 = 0.5;

/// Signs beside the samples of the data set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SignsConfig {
    /// How many there are; 0 for none.
    pub classes: usize,
    /// Share of a batch's classes that are signs.
    pub share: f64,
    /// So many of them are relatives, alike but for one stroke, and come in a batch together: what a class is to be told
    /// apart from should be like it. 1 for signs that have nothing to do with each other.
    pub relatives: usize,
    /// Strokes of a sign, at most.
    pub strokes: usize,
    /// How far a hand bends a sign, as a share of its size.
    pub bend: f32,
    /// How far a hand moves, turns (in radians) and stretches each stroke for itself, as a share of its size.
    pub loose: f32,
    /// How far a hand turns, slants (columns a row) and stretches a sign.
    pub slant: f32,
    /// Width of the pen, thinnest and thickest, as a share of the picture's side.
    pub pen: [f32; 2],
}

impl Default for SignsConfig {
    fn default() -> Self {
        Self {
            classes: 0,
            share: 0.75,
            relatives: 1,
            strokes: 3,
            bend: 0.08,
            loose: 0.08,
            slant: 0.3,
            pen: [0.05, 0.13],
        }
    }
}

impl SignsConfig {
    /// Checks the ranges.
    ///
    /// # Errors
    /// The first value that is out of its range.
    pub fn validate(&self) -> Result<(), ConfigError> {
        in_range("signs.classes", self.classes as f64, 0.0, 1e6)?;
        in_range("signs.share", self.share, 0.0, 1.0)?;
        in_range("signs.relatives", self.relatives as f64, 1.0, 64.0)?;
        in_range("signs.strokes", self.strokes as f64, 1.0, 16.0)?;
        in_range("signs.bend", self.bend.into(), 0.0, 1.0)?;
        in_range("signs.loose", self.loose.into(), 0.0, 1.0)?;
        in_range("signs.slant", self.slant.into(), 0.0, 1.0)?;
        let [thin, thick] = self.pen;
        in_range("signs.pen, thinnest", thin.into(), 0.001, 0.5)?;
        in_range("signs.pen, thickest", thick.into(), thin.into(), 0.5)
    }

    /// Of so many classes in a batch, those that are signs.
    pub fn groups_of(&self, groups: usize) -> usize {
        let wanted = (groups as f64 * self.share).round() as usize;
        wanted.min(self.classes).min(groups)
    }

    /// That many classes, each once: whole families, but for the last one.
    pub fn chosen(&self, count: usize, rng: &mut ChaCha8Rng) -> Vec<u32> {
        let families = self.classes.div_ceil(self.relatives);
        let mut all = sample(rng, families, families.min(count)).into_iter();
        let mut chosen = Vec::with_capacity(count + self.relatives);
        while let Some(family) = all.next().filter(|_| chosen.len() < count) {
            let first = family * self.relatives;
            chosen.extend((first..self.classes.min(first + self.relatives)).map(|c| c as u32));
        }
        chosen.truncate(count);
        chosen
    }
}

/// A sign: strokes, each a line through points in a square of about side 1.
#[derive(Clone, Debug, PartialEq)]
pub struct Sign {
    strokes: Vec<Vec<[f32; 2]>>,
}

/// A random value from `-most` to `most`.
fn within(rng: &mut ChaCha8Rng, most: f32) -> f32 {
    match most > 0.0 {
        true => rng.random_range(-most..=most),
        false => 0.0,
    }
}

/// A pen that goes from `start` along bends that change slowly: lines, hooks, loops, waves and angles.
fn wander(start: [f32; 2], rng: &mut ChaCha8Rng) -> Vec<[f32; 2]> {
    let length = rng.random_range(0.35..1.8f32);
    let mut heading = rng.random_range(0.0..TAU);
    // Turns of the whole stroke: none, a hook, up to more than a loop; and how much the bend itself changes on the way.
    let turns = match rng.random_range(0..4) {
        0 => 0.0,
        1 => within(rng, PI),
        _ => within(rng, 1.25 * TAU),
    };
    let change = within(rng, PI);
    let corner = rng.random_bool(CORNERED).then(|| {
        let sharp = rng.random_range(0.4 * PI..0.85 * PI);
        let side = if rng.random_bool(0.5) { sharp } else { -sharp };
        (rng.random_range(POINTS / 5..POINTS - POINTS / 5), side)
    });
    let step = length / (POINTS - 1) as f32;
    let mut at = start;
    let mut line = vec![at];
    for k in 1..POINTS {
        let along = k as f32 / POINTS as f32 - 0.5;
        heading += (turns + 2.0 * change * along) / POINTS as f32;
        if let Some((_, turn)) = corner.filter(|(place, _)| *place == k) {
            heading += turn;
        }
        at = [at[0] + step * heading.cos(), at[1] + step * heading.sin()];
        line.push(at);
    }
    line
}

/// Turns and scales a stroke about its beginning so that it ends at `end`; not one that would be blown up or shrunk by it to
/// something else.
fn lead_to(stroke: &mut [[f32; 2]], end: [f32; 2]) {
    let (Some(first), Some(last)) = (stroke.first().copied(), stroke.last().copied()) else {
        return;
    };
    let (ax, ay) = (last[0] - first[0], last[1] - first[1]);
    let (bx, by) = (end[0] - first[0], end[1] - first[1]);
    let square = (ax * ax + ay * ay).max(1e-9);
    // The quotient of both as complex numbers.
    let (re, im) = ((ax * bx + ay * by) / square, (ax * by - ay * bx) / square);
    if !(0.4..=2.5).contains(&re.hypot(im)) {
        return;
    }
    for point in stroke {
        let (x, y) = (point[0] - first[0], point[1] - first[1]);
        *point = [first[0] + re * x - im * y, first[1] + im * x + re * y];
    }
}

impl Sign {
    /// The sign of a class: a function of seed and class. The first of a family is one of its own; each of the others has one
    /// stroke in another form, from where the pen began and often to where it ended: a loop for a line, a hook for a wave.
    pub fn invented(seed: u64, class: u32, config: &SignsConfig) -> Self {
        let relatives = config.relatives.max(1) as u32;
        let mut sign = Self::first_of(seed, class / relatives, config.strokes);
        if !class.is_multiple_of(relatives) {
            let mut rng = rng_at(seed, RELATE, class.into());
            let changed = rng.random_range(0..sign.strokes.len());
            let stroke = &mut sign.strokes[changed];
            let mut other = wander(stroke[0], &mut rng);
            if rng.random_bool(SAME_ENDS) {
                lead_to(&mut other, stroke[stroke.len() - 1]);
            }
            *stroke = other;
        }
        sign
    }

    /// One to `most` strokes.
    fn first_of(seed: u64, family: u32, most: usize) -> Self {
        let mut rng = rng_at(seed, INVENT, family.into());
        // One and the most are rarer than what lies between.
        let count =
            (rng.random_range(1..=most.max(1)) + rng.random_range(1..=most.max(1))).div_ceil(2);
        let mut strokes: Vec<Vec<[f32; 2]>> = Vec::new();
        for _ in 0..count {
            let joined = rng.random_bool(JOINED) && !strokes.is_empty();
            let start = match joined {
                true => {
                    let stroke = &strokes[rng.random_range(0..strokes.len())];
                    // At an end twice as often as in between.
                    let place = match rng.random_range(0..3) {
                        0 => 0,
                        1 => stroke.len() - 1,
                        _ => rng.random_range(0..stroke.len()),
                    };
                    stroke[place]
                }
                false => [within(&mut rng, 0.5), within(&mut rng, 0.5)],
            };
            let mut line = wander(start, &mut rng);
            if !joined && !strokes.is_empty() {
                // A stroke of its own lies somewhere near, wherever its pen began.
                let (middle, wanted) = (centre(std::slice::from_ref(&line)), start);
                for point in &mut line {
                    *point = [
                        point[0] - middle[0] + wanted[0],
                        point[1] - middle[1] + wanted[1],
                    ];
                }
            }
            strokes.push(line);
        }
        Self { strokes }
    }

    /// A picture of it by a hand of its own, values from 0 to 1, alike in every channel; a shape that is no picture stays
    /// empty.
    pub fn written(&self, config: &SignsConfig, shape: Shape, rng: &mut ChaCha8Rng) -> Vec<f32> {
        let size = extent(&self.strokes);
        let bend = Bend::drawn(config.bend * size, rng);
        let (turn, slant) = (within(rng, 0.7 * config.slant), within(rng, config.slant));
        let (wide, high) = (
            within(rng, config.slant).exp(),
            within(rng, config.slant).exp(),
        );
        let middle = centre(&self.strokes);
        let mut strokes = Vec::with_capacity(self.strokes.len());
        for stroke in &self.strokes {
            let own = centre(std::slice::from_ref(stroke));
            let (sin, cos) = within(rng, 2.0 * config.loose).sin_cos();
            let stretch = within(rng, 2.0 * config.loose).exp();
            let shift = [(); 2].map(|()| within(rng, 0.5 * config.loose * size));
            let moved = stroke.iter().map(|point| {
                let (x, y) = (point[0] - own[0], point[1] - own[1]);
                let (x, y) = (
                    stretch * (cos * x - sin * y) + own[0] + shift[0] - middle[0],
                    stretch * (sin * x + cos * y) + own[1] + shift[1] - middle[1],
                );
                let by = bend.at(x / size + 0.5, y / size + 0.5);
                let (x, y) = (wide * (x + by[0]), high * (y + by[1]));
                let (sin, cos) = turn.sin_cos();
                let x = x + slant * y;
                [cos * x - sin * y, sin * x + cos * y]
            });
            strokes.push(moved.collect::<Vec<_>>());
        }
        let [thin, thick] = config.pen;
        let side = shape.height.min(shape.width) as f32;
        let pen = side * (thin + (thick - thin) * rng.random_range(0.0..=1.0f32));
        fit(&mut strokes, shape, (FILLED * side - pen).max(1.0));
        drawn(&strokes, shape, pen / 2.0)
    }
}

/// Middle of the points.
fn centre(strokes: &[Vec<[f32; 2]>]) -> [f32; 2] {
    let count = strokes.iter().map(Vec::len).sum::<usize>().max(1) as f32;
    let sum = strokes.iter().flatten();
    let sum = sum.fold([0.0; 2], |sum, p| [sum[0] + p[0], sum[1] + p[1]]);
    [sum[0] / count, sum[1] / count]
}

/// The longer side of the box about the points.
fn extent(strokes: &[Vec<[f32; 2]>]) -> f32 {
    let side = |axis: usize| {
        let values = strokes.iter().flatten().map(|p| p[axis]);
        let (low, high) = values.fold((f32::MAX, f32::MIN), |(l, h), v| (l.min(v), h.max(v)));
        high - low
    };
    side(0).max(side(1)).max(1e-3)
}

/// Scales strokes to a box of side `filled` pixels and puts their middle in the picture's: as MNIST's digits are.
fn fit(strokes: &mut [Vec<[f32; 2]>], shape: Shape, filled: f32) {
    let scale = filled / extent(strokes);
    let middle = centre(strokes);
    let (x, y) = (
        (shape.width as f32 - 1.0) / 2.0,
        (shape.height as f32 - 1.0) / 2.0,
    );
    for point in strokes.iter_mut().flatten() {
        *point = [
            (point[0] - middle[0]) * scale + x,
            (point[1] - middle[1]) * scale + y,
        ];
    }
}

/// Lines of a round pen, whose edge falls off over a pixel.
fn drawn(strokes: &[Vec<[f32; 2]>], shape: Shape, radius_px: f32) -> Vec<f32> {
    let mut ink = vec![0f32; shape.height * shape.width];
    let reach = radius_px + 0.5;
    let range = |a: f32, b: f32, size: usize| {
        let low = (a.min(b) - reach).ceil().max(0.0) as usize;
        let high = (a.max(b) + reach).floor() + 1.0;
        low..(high.max(0.0) as usize).min(size)
    };
    for line in strokes {
        for pair in line.windows(2) {
            let [[ax, ay], [bx, by]] = [pair[0], pair[1]];
            let (dx, dy) = (bx - ax, by - ay);
            let square = (dx * dx + dy * dy).max(1e-9);
            for y in range(ay, by, shape.height) {
                for x in range(ax, bx, shape.width) {
                    let (px, py) = (x as f32 - ax, y as f32 - ay);
                    let along = ((px * dx + py * dy) / square).clamp(0.0, 1.0);
                    let off = (px - along * dx).hypot(py - along * dy);
                    let at = &mut ink[y * shape.width + x];
                    *at = at.max((reach - off).clamp(0.0, 1.0));
                }
            }
        }
    }
    let channels = shape.channels;
    ink.into_iter()
        .flat_map(|v| std::iter::repeat_n(v, channels))
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use rand::SeedableRng;

    const SHAPE: Shape = Shape {
        height: 28,
        width: 28,
        channels: 1,
    };

    fn distance(a: &[f32], b: &[f32]) -> f32 {
        a.iter()
            .zip(b)
            .map(|(a, b)| (a - b).powi(2))
            .sum::<f32>()
            .sqrt()
    }

    #[test]
    fn a_sign_is_a_function_of_seed_and_class_and_its_strokes_are_at_most_as_many_as_asked() {
        let config = SignsConfig {
            strokes: 3,
            relatives: 1,
            ..SignsConfig::default()
        };
        let mut counts = [0; 4];
        for class in 0..400 {
            let sign = Sign::invented(3, class, &config);
            assert_eq!(sign, Sign::invented(3, class, &config));
            assert_ne!(sign, Sign::invented(4, class, &config));
            assert_ne!(sign, Sign::invented(3, class + 1, &config));
            counts[sign.strokes.len()] += 1;
        }
        assert!(
            counts[1] > 30 && counts[2] > counts[1] && counts[3] > 30,
            "{counts:?}"
        );
    }

    #[test]
    fn a_stroke_that_is_led_somewhere_begins_where_it_began_and_keeps_its_form() {
        let mut rng = ChaCha8Rng::seed_from_u64(8);
        let mut led = 0;
        for _ in 0..50 {
            let stroke = wander([0.3, -0.2], &mut rng);
            let mut moved = stroke.clone();
            lead_to(&mut moved, [1.0, 0.4]);
            let last = moved[POINTS - 1];
            assert_eq!(moved[0], stroke[0]);
            if moved == stroke {
                continue;
            }
            led += 1;
            assert!(
                (last[0] - 1.0).abs().max((last[1] - 0.4).abs()) < 1e-4,
                "{last:?}"
            );
            // All distances grow alike.
            let length = |s: &[[f32; 2]], k: usize| (s[k][0] - s[0][0]).hypot(s[k][1] - s[0][1]);
            let grown = length(&moved, 5) / length(&stroke, 5);
            let at_the_end = length(&moved, POINTS - 1) / length(&stroke, POINTS - 1);
            assert!(
                (grown / at_the_end - 1.0).abs() < 1e-3,
                "{grown} {at_the_end}"
            );
        }
        assert!(led > 15, "{led}");
    }

    #[test]
    fn relatives_differ_in_one_stroke_and_are_chosen_together() {
        let config = SignsConfig {
            classes: 90,
            relatives: 3,
            ..SignsConfig::default()
        };
        for family in 0..30 {
            let first = Sign::invented(3, 3 * family, &config);
            let mut others = Vec::new();
            for member in 1..3 {
                let other = Sign::invented(3, 3 * family + member, &config);
                let pairs = first.strokes.iter().zip(&other.strokes);
                let differ: Vec<_> = pairs.filter(|(a, b)| a != b).collect();
                assert_eq!(
                    (other.strokes.len(), differ.len()),
                    (first.strokes.len(), 1)
                );
                assert_eq!(differ[0].0[0], differ[0].1[0]);
                others.push(other);
            }
            assert_ne!(others[0], others[1]);
        }
        let mut rng = ChaCha8Rng::seed_from_u64(4);
        for (count, families) in [(12, 4), (13, 5), (90, 30)] {
            let chosen = config.chosen(count, &mut rng);
            let distinct: std::collections::BTreeSet<u32> = chosen.iter().copied().collect();
            let of: std::collections::BTreeSet<u32> = chosen.iter().map(|c| c / 3).collect();
            assert_eq!(
                (chosen.len(), distinct.len(), of.len()),
                (count, count, families)
            );
        }
        let none = SignsConfig::default();
        assert!(none.chosen(none.groups_of(16), &mut rng).is_empty());
    }

    #[test]
    fn writings_of_a_sign_are_nearer_to_each_other_than_to_other_signs_and_never_the_same() {
        let config = SignsConfig {
            relatives: 1,
            ..SignsConfig::default()
        };
        let mut hand = ChaCha8Rng::seed_from_u64(5);
        let (mut same, mut other) = (Vec::new(), Vec::new());
        let mut before: Option<Vec<f32>> = None;
        for class in 0..300 {
            let sign = Sign::invented(1, class, &config);
            let [a, b] = [(); 2].map(|()| sign.written(&config, SHAPE, &mut hand));
            same.push(distance(&a, &b));
            other.extend(before.replace(a.clone()).map(|c| distance(&a, &c)));
        }
        let mean = |v: &[f32]| v.iter().sum::<f32>() / v.len() as f32;
        assert!(same.iter().all(|d| *d > 0.0));
        assert!(
            mean(&same) < 0.8 * mean(&other),
            "{} {}",
            mean(&same),
            mean(&other)
        );
    }

    #[test]
    fn a_sign_lies_in_the_picture_has_light_strokes_on_black_and_is_grey_in_every_channel() {
        let config = SignsConfig::default();
        let mut hand = ChaCha8Rng::seed_from_u64(9);
        let colours = Shape {
            channels: 3,
            ..SHAPE
        };
        for class in 0..100 {
            let sign = Sign::invented(2, class, &config);
            let picture = sign.written(&config, colours, &mut hand);
            assert_eq!(picture.len(), 28 * 28 * 3);
            assert!(picture.chunks(3).all(|p| p[0] == p[1] && p[1] == p[2]));
            assert!(picture.iter().all(|v| (0.0..=1.0).contains(v)));
            let light = picture.iter().sum::<f32>() / picture.len() as f32;
            assert!((0.02..0.5).contains(&light), "class {class}: {light}");
        }
    }

    #[test]
    fn without_a_hand_of_its_own_every_writing_is_the_sign_itself() {
        let config = SignsConfig {
            bend: 0.0,
            loose: 0.0,
            slant: 0.0,
            pen: [0.1, 0.1],
            ..SignsConfig::default()
        };
        let mut hand = ChaCha8Rng::seed_from_u64(1);
        let sign = Sign::invented(1, 2, &config);
        let [a, b] = [(); 2].map(|()| sign.written(&config, SHAPE, &mut hand));
        assert_eq!(a, b);
        // A pen of 2.8 pixels on a straight line of ten.
        let line = vec![vec![[9.0, 14.0], [19.0, 14.0]]];
        let ink: f32 = drawn(&line, SHAPE, 1.4).iter().sum();
        let expected = 2.8 * 10.0 + PI * 1.4 * 1.4;
        assert!((ink / expected - 1.0).abs() < 0.1, "{ink} {expected}");
    }
}
