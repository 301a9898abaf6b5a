//! Which modes of a distribution are made, and which are forgotten.
//!
//! In: made samples, as points about a ring of known modes or as the classes that a judge finds. Out: [`Coverage`]. A ring of
//! narrow Gaussians is the published test (Metz et al. 2017, Srivastava et al. 2017): a sample is of high quality within three
//! deviations of a mode.
//!
//! ```
//! use roadhound_trainer::gan::coverage::RingConfig;
//! let ring = RingConfig { modes: 4, radius: 1.0, deviation: 0.1, ..RingConfig::default() };
//! // Three modes of four, and one point between all of them.
//! let found = ring.coverage(&[vec![1.0, 0.1], vec![0.0, 1.0], vec![-1.1, 0.0], vec![0.0, 0.0]]);
//! assert_eq!((found.hit(), found.high_quality()), (3, 0.75));
//! ```

use serde::{Deserialize, Serialize};

use crate::config::{ConfigError, in_range};
use crate::contingency::divergence;
use crate::epochs::rng_at;
use crate::labelled::{Samples, Shape, Values};
use crate::params::normal;

/// Deviations from a mode within which a sample counts as one of it.
const NEAR_DEVIATIONS: f64 = 3.0;
/// A mode counts as made from this share of what would be its fair share on.
const FAIR_PART: f64 = 0.1;

const POINTS: u64 = 31;

/// Gaussians of one size, evenly on a circle, all as likely.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RingConfig {
    /// How many.
    pub modes: usize,
    /// Of the circle.
    pub radius: f64,
    /// Of each, in both directions.
    pub deviation: f64,
    /// Points to learn from.
    pub samples: usize,
}

impl Default for RingConfig {
    fn default() -> Self {
        Self {
            modes: 8,
            radius: 2.0,
            deviation: 0.02,
            samples: 50_000,
        }
    }
}

impl RingConfig {
    /// Checks the ranges.
    ///
    /// # Errors
    /// The first value that is out of its range.
    pub fn validate(&self) -> Result<(), ConfigError> {
        in_range("ring.modes", self.modes as f64, 1.0, 1000.0)?;
        in_range("ring.radius", self.radius, 1e-6, 1e6)?;
        in_range("ring.deviation", self.deviation, 1e-9, 1e6)?;
        in_range("ring.samples", self.samples as f64, 10.0, 1e7)
    }

    /// The middle of a mode.
    pub fn centre(&self, mode: usize) -> [f64; 2] {
        let turn = std::f64::consts::TAU * mode as f64 / self.modes.max(1) as f64;
        [self.radius * turn.cos(), self.radius * turn.sin()]
    }

    /// Points with their modes as classes: a function of the seed and of `purpose`.
    ///
    /// # Errors
    /// None in practice.
    pub fn points(&self, count: usize, seed: u64, purpose: u64) -> Result<Samples, String> {
        let mut rng = rng_at(seed, POINTS, purpose);
        let labels: Vec<u32> = (0..count).map(|i| (i % self.modes) as u32).collect();
        let mut values = Vec::with_capacity(2 * count);
        for label in &labels {
            for middle in self.centre(*label as usize) {
                values.push(middle as f32 + self.deviation as f32 * normal(&mut rng));
            }
        }
        let shape = Shape {
            height: 1,
            width: 1,
            channels: 2,
        };
        let names = (0..self.modes).map(|mode| format!("mode {mode}")).collect();
        Samples::new(shape, Values::Numbers(values), labels, names)
    }

    /// Which modes these points are of.
    ///
    /// # Shapes
    /// `points`: of two values each.
    pub fn coverage(&self, points: &[Vec<f64>]) -> Coverage {
        let mut counts = vec![0.0; self.modes];
        let most = NEAR_DEVIATIONS * self.deviation;
        for point in points {
            let squared = |mode: usize| {
                let centre = self.centre(mode);
                let parts = point.iter().zip(centre);
                parts.map(|(a, b)| (a - b).powi(2)).sum::<f64>()
            };
            let nearest = (0..self.modes).min_by(|a, b| squared(*a).total_cmp(&squared(*b)));
            if let Some(mode) = nearest.filter(|mode| squared(*mode) <= most * most) {
                counts[mode] += 1.0;
            }
        }
        Coverage {
            counts,
            fair: vec![1.0; self.modes],
            samples: points.len(),
        }
    }
}

/// How many samples are of each mode.
#[derive(Clone, Debug, PartialEq)]
pub struct Coverage {
    /// Samples of a mode that are good enough.
    pub counts: Vec<f64>,
    /// What the counts should be, but for a factor.
    pub fair: Vec<f64>,
    /// All samples.
    pub samples: usize,
}

impl Coverage {
    /// By the classes that a judge finds in made and in real samples.
    pub fn of_classes(made: &[u32], real: &[u32], classes: usize) -> Self {
        let counted = |labels: &[u32]| {
            let mut counts = vec![0.0; classes];
            for label in labels {
                counts[*label as usize % classes.max(1)] += 1.0;
            }
            counts
        };
        Self {
            counts: counted(made),
            fair: counted(real),
            samples: made.len(),
        }
    }

    /// Modes that have a tenth of their fair share or more.
    pub fn hit(&self) -> usize {
        let total: f64 = self.fair.iter().sum();
        let enough = |(count, fair): &(&f64, &f64)| {
            let wanted = FAIR_PART * **fair / total * self.samples as f64;
            **count > 0.0 && **count >= wanted
        };
        self.counts.iter().zip(&self.fair).filter(enough).count()
    }

    /// The share of samples that are of a mode.
    pub fn high_quality(&self) -> f64 {
        self.counts.iter().sum::<f64>() / self.samples.max(1) as f64
    }

    /// Divergence of the modes' shares from the fair ones, nats.
    pub fn divergence(&self) -> f64 {
        match self.high_quality() > 0.0 {
            true => divergence(&self.counts, &self.fair),
            false => f64::NAN,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn rows(samples: &Samples) -> Vec<Vec<f64>> {
        let row = |i| samples.row(i).into_iter().map(f64::from).collect();
        (0..samples.len()).map(row).collect()
    }

    #[test]
    fn the_ring_itself_covers_itself_and_nearly_all_of_it_is_near() {
        let ring = RingConfig::default();
        let points = ring.points(8000, 1, 0).unwrap();
        let found = ring.coverage(&rows(&points));
        assert_eq!(found.hit(), 8);
        // P(chi^2 of two degrees <= 9) = 1 - exp(-4.5) = 0.98889.
        assert!(
            (found.high_quality() - 0.98889).abs() < 0.005,
            "{}",
            found.high_quality()
        );
        assert!(found.divergence() < 1e-3);
        assert_eq!(points, ring.points(8000, 1, 0).unwrap());
        assert_ne!(points, ring.points(8000, 1, 1).unwrap());
    }

    #[test]
    fn a_collapsed_generator_hits_one_mode_and_a_stray_sample_is_no_mode() {
        let ring = RingConfig::default();
        let mut points = vec![vec![2.0, 0.01]; 999];
        points.push(ring.centre(3).to_vec());
        let found = ring.coverage(&points);
        assert_eq!((found.hit(), found.high_quality()), (1, 1.0));
        assert!((found.divergence() - 8f64.ln()).abs() < 0.01);
        let lost = ring.coverage(&[vec![0.0, 0.0], vec![f64::NAN, 0.0]]);
        assert_eq!((lost.hit(), lost.high_quality()), (0, 0.0));
        assert!(lost.divergence().is_nan());
    }

    #[test]
    fn classes_are_hit_by_their_share_of_the_real_ones() {
        let real = [0, 0, 0, 0, 1, 1, 1, 1, 2, 2];
        let found = Coverage::of_classes(&[0; 20], &real, 3);
        assert_eq!(found.hit(), 1);
        let found = Coverage::of_classes(&[0, 0, 1, 1, 2], &real, 3);
        assert_eq!(found.hit(), 3);
        assert!(found.divergence().abs() < 1e-12);
    }
}
