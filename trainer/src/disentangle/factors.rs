//! Pictures with known factors: a shape, its size, its turn and its place, every combination once (after dSprites, Matthey et
//! al. 2017).
//!
//! In: how many levels each factor has. Out: grey pictures with the shape as their class, and the factors of each. Nothing is
//! random: a picture is a function of its factors.
//!
//! ```
//! use roadhound_trainer::disentangle::factors::FactorConfig;
//! let config = FactorConfig { sizes: 2, turns: 2, places: 2, ..FactorConfig::default() };
//! let set = config.rendered()?;
//! assert_eq!((set.samples.len(), set.factors.len()), (3 * 2 * 2 * 2 * 2, 5));
//! # Ok::<(), String>(())
//! ```

use serde::{Deserialize, Serialize};

use super::scores::Factor;
use crate::config::{ConfigError, in_range};
use crate::labelled::{Samples, Shape, Values};

/// Points along a side that a pixel is the mean of.
const SUBPIXELS: usize = 4;
/// Pictures at most.
const MOST: f64 = 1e6;

const SHAPES: [&str; 3] = ["square", "ellipse", "heart"];

/// Levels of each factor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FactorConfig {
    /// Side of a picture.
    pub side_px: usize,
    /// Sizes, from half of the largest on.
    pub sizes: usize,
    /// Turns within a quarter of a full one: a square turned further looks as before.
    pub turns: usize,
    /// Places in each direction.
    pub places: usize,
    /// One picture in so many is held out.
    pub held_out_every: usize,
}

impl Default for FactorConfig {
    fn default() -> Self {
        Self {
            side_px: 32,
            sizes: 4,
            turns: 6,
            places: 8,
            held_out_every: 5,
        }
    }
}

/// Pictures, and what they were made with.
#[derive(Clone, Debug, PartialEq)]
pub struct FactorSet {
    /// The shape is the class.
    pub samples: Samples,
    /// Of every picture.
    pub factors: Vec<Factor>,
}

impl FactorSet {
    /// The pictures of these numbers.
    #[must_use]
    pub fn chosen(&self, indices: &[usize]) -> Self {
        let of = |factor: &Factor| Factor {
            values: indices.iter().map(|i| factor.values[*i]).collect(),
            ..factor.clone()
        };
        Self {
            samples: self.samples.chosen(indices),
            factors: self.factors.iter().map(of).collect(),
        }
    }
}

impl FactorConfig {
    /// Checks the ranges.
    ///
    /// # Errors
    /// The first value that is out of its range.
    pub fn validate(&self) -> Result<(), ConfigError> {
        in_range("factors.side_px", self.side_px as f64, 8.0, 256.0)?;
        in_range("factors.sizes", self.sizes as f64, 1.0, 100.0)?;
        in_range("factors.turns", self.turns as f64, 1.0, 100.0)?;
        in_range("factors.places", self.places as f64, 1.0, 100.0)?;
        in_range(
            "factors.held_out_every",
            self.held_out_every as f64,
            2.0,
            1000.0,
        )?;
        in_range("factors, all pictures", self.count() as f64, 20.0, MOST)
    }

    fn count(&self) -> usize {
        SHAPES.len() * self.sizes * self.turns * self.places * self.places
    }

    /// Every combination once.
    ///
    /// # Errors
    /// None in practice.
    pub fn rendered(&self) -> Result<FactorSet, String> {
        let levels = [
            SHAPES.len(),
            self.sizes,
            self.turns,
            self.places,
            self.places,
        ];
        let names = ["shape", "size", "turn", "column", "row"];
        let mut factors: Vec<Factor> = names
            .into_iter()
            .zip(levels)
            .map(|(name, levels)| Factor {
                name,
                levels,
                ordered: name != "shape",
                values: Vec::with_capacity(self.count()),
            })
            .collect();
        let mut bytes = Vec::with_capacity(self.count() * self.side_px * self.side_px);
        for number in 0..self.count() {
            let mut rest = number;
            let mut of = [0; 5];
            for (factor, (level, levels)) in factors.iter_mut().zip(of.iter_mut().zip(levels)) {
                *level = rest % levels;
                rest /= levels;
                factor.values.push(*level as u32);
            }
            self.render(of, &mut bytes);
        }
        let shape = Shape {
            height: self.side_px,
            width: self.side_px,
            channels: 1,
        };
        let labels = factors[0].values.clone();
        let names = SHAPES.map(str::to_owned).to_vec();
        let samples = Samples::new(shape, Values::Bytes(bytes), labels, names)?;
        Ok(FactorSet { samples, factors })
    }

    /// Numbers of the pictures to learn from, and of those that are held out: spread over all factors.
    pub fn split(&self) -> (Vec<usize>, Vec<usize>) {
        // A number is scrambled first: every k-th would have the same levels of some factor.
        let held_out = |number: &usize| {
            let scrambled = (*number as u64 ^ 0x5bd1).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 33;
            scrambled.is_multiple_of(self.held_out_every as u64)
        };
        (0..self.count()).partition(|number| !held_out(number))
    }

    fn render(&self, [shape, size, turn, column, row]: [usize; 5], bytes: &mut Vec<u8>) {
        let share = |level: usize, levels: usize| level as f64 / (levels.max(2) - 1) as f64;
        let side = self.side_px as f64;
        let radius = 0.25 * side * (0.5 + 0.5 * share(size, self.sizes));
        let angle = std::f64::consts::FRAC_PI_2 * turn as f64 / self.turns.max(1) as f64;
        let place = |level| side * (0.3 + 0.4 * share(level, self.places));
        let (centre_x, centre_y) = (place(column), place(row));
        let (sin, cos) = angle.sin_cos();
        let inside = |x: f64, y: f64| {
            let (dx, dy) = ((x - centre_x) / radius, (y - centre_y) / radius);
            let (u, v) = (cos * dx + sin * dy, -sin * dx + cos * dy);
            match shape {
                0 => u.abs().max(v.abs()) <= 0.8,
                1 => u * u + 4.0 * v * v <= 1.0,
                // The curve (u^2 + v^2 - 1)^3 = u^2 v^3, point downwards.
                _ => {
                    let (u, v) = (1.2 * u, -1.2 * v);
                    (u * u + v * v - 1.0).powi(3) <= u * u * v.powi(3)
                }
            }
        };
        let steps = (SUBPIXELS * SUBPIXELS) as f64;
        for y in 0..self.side_px {
            for x in 0..self.side_px {
                let sub = |k: usize| (k as f64 + 0.5) / SUBPIXELS as f64;
                let hits = (0..SUBPIXELS * SUBPIXELS)
                    .filter(|k| {
                        inside(x as f64 + sub(k % SUBPIXELS), y as f64 + sub(k / SUBPIXELS))
                    })
                    .count();
                bytes.push((255.0 * hits as f64 / steps).round() as u8);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Mass, and the mean place in both directions, of one picture.
    fn moments(set: &FactorSet, index: usize) -> (f64, f64, f64) {
        let side = set.samples.shape().width;
        let row = set.samples.row(index);
        let (mut mass, mut x, mut y) = (0.0, 0.0, 0.0);
        for (at, value) in row.iter().enumerate() {
            let value = f64::from(*value);
            mass += value;
            x += value * ((at % side) as f64 + 0.5);
            y += value * ((at / side) as f64 + 0.5);
        }
        (mass, x / mass, y / mass)
    }

    #[test]
    fn each_factor_changes_what_it_is_called_and_nothing_else() {
        let config = FactorConfig::default();
        let set = config.rendered().unwrap();
        assert_eq!(set, config.rendered().unwrap());
        let level = |name: &str, index: usize| {
            let factor = set.factors.iter().find(|f| f.name == name).unwrap();
            f64::from(factor.values[index]) / (factor.levels - 1) as f64
        };
        for index in (0..set.samples.len()).step_by(7) {
            let (mass, x, y) = moments(&set, index);
            let radius = 8.0 * (0.5 + 0.5 * level("size", index));
            // An edge is placed to a quarter of a pixel: a side of 6.4 px, the smallest, is right to 4 %, an area to 8 %.
            match set.samples.labels()[index] {
                // A square of 1.6 radii, an ellipse of axes 1 and 1/2.
                0 => assert!((mass / (1.6 * radius).powi(2) - 1.0).abs() < 0.08),
                1 => assert!(
                    (mass / (std::f64::consts::PI * radius * radius / 2.0) - 1.0).abs() < 0.08
                ),
                _ => continue,
            }
            // Squares and ellipses are where they are said to be. Two edges, each right to an eighth of a pixel either way.
            for (found, name) in [(x, "column"), (y, "row")] {
                let said = 32.0 * (0.3 + 0.4 * level(name, index));
                assert!(
                    (found - said).abs() <= 0.125 + 1e-3,
                    "{index}: {name} {found}, said {said}"
                );
            }
        }
        // No two pictures are the same.
        let mut rows: Vec<Vec<u32>> = (0..set.samples.len())
            .map(|i| set.samples.row(i).iter().map(|v| v.to_bits()).collect())
            .collect();
        rows.sort_unstable();
        rows.dedup();
        assert_eq!(rows.len(), set.samples.len());
    }

    #[test]
    fn what_is_held_out_has_every_level_of_every_factor() {
        let config = FactorConfig::default();
        let (train, test) = config.split();
        let set = config.rendered().unwrap();
        assert_eq!(train.len() + test.len(), set.samples.len());
        let share = test.len() as f64 / set.samples.len() as f64;
        assert!((share - 0.2).abs() < 0.02, "{share}");
        let held_out = set.chosen(&test);
        for factor in &held_out.factors {
            for level in 0..factor.levels as u32 {
                let of = factor.values.iter().filter(|v| **v == level).count();
                let fair = test.len() / factor.levels;
                assert!(
                    of * 2 > fair && of < 2 * fair,
                    "{} {level}: {of} of {fair}",
                    factor.name
                );
            }
        }
    }
}
