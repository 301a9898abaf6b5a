//! How far two sets of images lie apart, as a trained network sees them.
//!
//! In: feature vectors of two sets ([`Samples`]), made by [`features`] from the backbone of a bundle or checkpoint.
//! Out: a [`Table`] of three figures for A against B, and of the same figures for halves of A and halves of B, which
//! say how large a figure is when there is no gap:
//!
//! - the proxy-A distance ([`linear`]): 2 for sets that a linear classifier tells apart, 0 for sets that it cannot;
//! - the squared maximum mean discrepancy with a Gaussian kernel ([`mmd`]);
//! - the Frechet distance between the normal distributions with the sets' moments ([`frechet`]).
//!
//! All three want the same number of samples on both sides and depend on it, the Frechet distance most, so a figure
//! means something beside the row of its null and nothing without. Pixels would saturate the first figure on any
//! two cameras; features of objects say whether what the tracker looks at differs.
//!
//! ```
//! use roadhound_trainer::gap::{GapConfig, Samples, Table};
//! let spread = |shift: f64| -> Samples {
//!     let row = |i: u32| vec![shift + f64::from(i * 37 % 101) / 101.0, f64::from(i * 53 % 97) / 97.0];
//!     Samples::new((0..400).map(|i| (row(i), i)))
//! };
//! let table = Table::of("regions", &spread(0.0), &spread(5.0), &GapConfig::default())?;
//! let [across, within_a, _] = &table.rows[..] else { panic!("three rows") };
//! assert!(across.proxy_a.mean > 1.9 && within_a.proxy_a.mean < 0.5);
//! # Ok::<(), roadhound_trainer::gap::GapError>(())
//! ```

use std::fmt;
use std::fmt::Write as _;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

pub mod features;
pub mod frechet;
pub mod linear;
pub mod mmd;
pub mod pictures;

/// Why a gap cannot be measured.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum GapError {
    /// Too few samples for halves of halves.
    #[error(
        "{set}: {found} {what} in {groups} groups, at least {needed} in {NEEDED_GROUPS} are needed"
    )]
    TooFew {
        /// Which set.
        set: char,
        /// Regions or tiles.
        what: String,
        /// Samples that are there.
        found: usize,
        /// Independent groups of them.
        groups: usize,
        /// Samples needed.
        needed: usize,
    },
    /// The sets were measured with different networks.
    #[error("features of {a} values against features of {b}")]
    Dimensions {
        /// Values of a sample of A.
        a: usize,
        /// Values of a sample of B.
        b: usize,
    },
    /// A key that cannot be used.
    #[error("gap configuration: {key} is {value}, expected {expected}")]
    Config {
        /// The key.
        key: &'static str,
        /// Its value.
        value: String,
        /// What is allowed.
        expected: &'static str,
    },
}

/// Groups that a set needs, so that two halves can be split again for training and testing.
pub const NEEDED_GROUPS: usize = 4;
/// Samples that a set needs.
pub const NEEDED_SAMPLES: usize = 16;

/// What is measured and how often. Every key has a default.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GapConfig {
    /// Regions, and tiles, drawn from each set at most.
    pub samples: usize,
    /// Regions, and tiles, taken from one image at most.
    pub per_image: usize,
    /// Side of a square tile, as a share of the image's shorter side.
    pub tile_share: f32,
    /// Times that the sets are halved anew.
    pub repeats: usize,
    /// Decides which images, regions, tiles and halves are drawn.
    pub seed: u64,
}

impl Default for GapConfig {
    fn default() -> Self {
        Self {
            samples: 600,
            per_image: 4,
            tile_share: 0.5,
            repeats: 6,
            seed: 1,
        }
    }
}

impl GapConfig {
    /// Checks what the types cannot.
    ///
    /// # Errors
    /// The first key that cannot be used.
    pub fn validate(&self) -> Result<(), GapError> {
        let refuse = |key, value: String, expected| {
            Err(GapError::Config {
                key,
                value,
                expected,
            })
        };
        if self.samples < NEEDED_SAMPLES {
            return refuse("samples", self.samples.to_string(), "at least 16");
        }
        if self.per_image == 0 {
            return refuse("per_image", self.per_image.to_string(), "at least 1");
        }
        if !(self.tile_share > 0.0 && self.tile_share <= 1.0) {
            return refuse(
                "tile_share",
                self.tile_share.to_string(),
                "above 0, at most 1",
            );
        }
        if !(1..=1000).contains(&self.repeats) {
            return refuse("repeats", self.repeats.to_string(), "1 to 1000");
        }
        Ok(())
    }
}

/// Feature vectors of a set, in groups of which no two share what they show.
///
/// Halves and splits never cut through a group: neighbouring frames of one video on both sides would let a classifier
/// recognise the scene instead of the set.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Samples {
    rows: Vec<Vec<f64>>,
    groups: Vec<u32>,
}

impl Samples {
    /// Vectors of one length, each with the number of its group.
    ///
    /// # Panics
    /// If the vectors differ in length.
    pub fn new(samples: impl IntoIterator<Item = (Vec<f64>, u32)>) -> Self {
        let (rows, groups): (Vec<Vec<f64>>, Vec<u32>) = samples.into_iter().unzip();
        assert!(rows.iter().all(|row| row.len() == rows[0].len()));
        Self { rows, groups }
    }

    /// Number of samples.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Values of one sample.
    pub fn dimension(&self) -> usize {
        self.rows.first().map_or(0, Vec::len)
    }

    /// The vectors.
    pub fn rows(&self) -> &[Vec<f64>] {
        &self.rows
    }

    /// The groups, each once, in ascending order.
    fn distinct_groups(&self) -> Vec<u32> {
        let mut groups = self.groups.clone();
        groups.sort_unstable();
        groups.dedup();
        groups
    }

    /// Two parts of about the same size with no group in both.
    pub fn halves(&self, rng: &mut ChaCha8Rng) -> (Self, Self) {
        let mut order = self.distinct_groups();
        shuffle(&mut order, rng);
        let size = |group: &u32| self.groups.iter().filter(|g| *g == group).count();
        let (mut first, mut taken) = (Vec::new(), 0);
        for group in &order {
            let size = size(group);
            // A group joins where it brings the parts closer to one half each.
            if first.is_empty() || taken + size / 2 < self.len() / 2 {
                first.push(*group);
                taken += size;
            }
        }
        if first.len() == order.len() {
            first.pop();
        }
        first.sort_unstable();
        let in_first = |group: u32| first.binary_search(&group).is_ok();
        (self.filtered(in_first), self.filtered(|g| !in_first(g)))
    }

    fn filtered(&self, keep: impl Fn(u32) -> bool) -> Self {
        let kept = self
            .rows
            .iter()
            .zip(&self.groups)
            .filter(|(_, g)| keep(**g));
        Self::new(kept.map(|(row, group)| (row.clone(), *group)))
    }

    /// `count` of them, drawn without repeats.
    fn drawn(&self, count: usize, rng: &mut ChaCha8Rng) -> Self {
        let mut order: Vec<usize> = (0..self.len()).collect();
        shuffle(&mut order, rng);
        order.truncate(count);
        let picked = order
            .iter()
            .map(|i| (self.rows[*i].clone(), self.groups[*i]));
        Self::new(picked)
    }

    /// Shifted and scaled.
    fn scaled(&self, scale: &Scale) -> Self {
        Self {
            rows: self.rows.iter().map(|row| scale.apply(row)).collect(),
            groups: self.groups.clone(),
        }
    }
}

/// Brings every feature to mean zero and variance one over both sets together, so that figures of different networks
/// can be compared and no feature counts more for its unit.
struct Scale {
    mean: Vec<f64>,
    deviation: Vec<f64>,
}

impl Scale {
    fn of(sets: [&Samples; 2]) -> Self {
        let rows: Vec<&Vec<f64>> = sets.iter().flat_map(|set| set.rows()).collect();
        let count = rows.len().max(1) as f64;
        let column = |i: usize| rows.iter().map(move |row| row[i]);
        let mean: Vec<f64> = (0..sets[0].dimension())
            .map(|i| column(i).sum::<f64>() / count)
            .collect();
        let deviation = mean.iter().enumerate().map(|(i, mean)| {
            let variance = column(i).map(|v| (v - mean).powi(2)).sum::<f64>() / count;
            // A feature that never changes says nothing; divided by one it stays zero.
            if variance > 0.0 { variance.sqrt() } else { 1.0 }
        });
        Self {
            deviation: deviation.collect(),
            mean,
        }
    }

    fn apply(&self, row: &[f64]) -> Vec<f64> {
        let moments = self.mean.iter().zip(&self.deviation);
        let shifted = row.iter().zip(moments);
        shifted.map(|(v, (mean, by))| (v - mean) / by).collect()
    }
}

/// Fisher and Yates.
pub(crate) fn shuffle<T>(items: &mut [T], rng: &mut ChaCha8Rng) {
    for i in (1..items.len()).rev() {
        items.swap(i, rng.random_range(0..=i));
    }
}

/// A figure over all halvings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Figure {
    /// Mean.
    pub mean: f64,
    /// Standard deviation, zero for a single halving.
    pub deviation: f64,
}

impl Figure {
    fn of(values: &[f64]) -> Self {
        let count = values.len().max(1) as f64;
        let mean = values.iter().sum::<f64>() / count;
        let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
        Self {
            mean,
            deviation: (squares / (count - 1.0).max(1.0)).sqrt(),
        }
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self.mean.abs() {
            mean if mean >= 100.0 => format!("{:.1} +- {:.1}", self.mean, self.deviation),
            _ => format!("{:.3} +- {:.3}", self.mean, self.deviation),
        };
        f.pad(&text)
    }
}

/// One line of the table.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// `A to B`, or a set against itself.
    pub sets: &'static str,
    /// Samples on each side.
    pub samples: usize,
    /// Proxy-A distance.
    pub proxy_a: Figure,
    /// Squared maximum mean discrepancy, unbiased: around zero where there is no gap.
    pub mmd: Figure,
    /// Frechet distance.
    pub frechet: Figure,
}

/// The figures of one kind of features.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Table {
    /// Regions or tiles.
    pub of: String,
    /// A to B, then the nulls of A and of B.
    pub rows: Vec<Row>,
}

impl Table {
    /// Measures `a` against `b`. Both are halved again and again: the first half of A is compared with the first half
    /// of B, and the halves of each with each other, all with the same number of samples.
    ///
    /// # Errors
    /// Sets that are too small or do not have the same features.
    pub fn of(of: &str, a: &Samples, b: &Samples, config: &GapConfig) -> Result<Self, GapError> {
        config.validate()?;
        for (set, samples) in [('A', a), ('B', b)] {
            let groups = samples.distinct_groups().len();
            if samples.len() < NEEDED_SAMPLES || groups < NEEDED_GROUPS {
                return Err(GapError::TooFew {
                    set,
                    what: of.to_owned(),
                    found: samples.len(),
                    groups,
                    needed: NEEDED_SAMPLES,
                });
            }
        }
        if a.dimension() != b.dimension() {
            return Err(GapError::Dimensions {
                a: a.dimension(),
                b: b.dimension(),
            });
        }
        let scale = Scale::of([a, b]);
        let (a, b) = (a.scaled(&scale), b.scaled(&scale));
        let mut rng = ChaCha8Rng::seed_from_u64(config.seed);
        let mut found: [[Vec<f64>; 3]; 3] = Default::default();
        let mut samples = [usize::MAX; 3];
        for _ in 0..config.repeats {
            let (a, b) = (a.halves(&mut rng), b.halves(&mut rng));
            let count = [&a.0, &a.1, &b.0, &b.1].map(Samples::len);
            let count = count.into_iter().min().unwrap_or_default();
            let pairs = [(&a.0, &b.0), (&a.0, &a.1), (&b.0, &b.1)];
            for ((pair, found), samples) in pairs.iter().zip(&mut found).zip(&mut samples) {
                let (x, y) = (pair.0.drawn(count, &mut rng), pair.1.drawn(count, &mut rng));
                found[0].push(linear::proxy_a_distance(&x, &y, &mut rng));
                found[1].push(mmd::mmd_squared(x.rows(), y.rows()));
                found[2].push(frechet::distance(x.rows(), y.rows()));
                *samples = (*samples).min(count);
            }
        }
        let names = ["A to B", "A to A", "B to B"];
        let rows = names.iter().zip(found.iter().zip(samples));
        let rows = rows.map(|(sets, (figures, samples))| Row {
            sets,
            samples,
            proxy_a: Figure::of(&figures[0]),
            mmd: Figure::of(&figures[1]),
            frechet: Figure::of(&figures[2]),
        });
        Ok(Self {
            of: of.to_owned(),
            rows: rows.collect(),
        })
    }

    /// Names of the columns of [`Table::csv`].
    pub const CSV_HEAD: &'static str = "features,sets,samples,proxy_a,proxy_a_deviation,mmd_squared,mmd_squared_deviation,frechet,frechet_deviation\n";

    /// The rows as CSV, without the head.
    pub fn csv(&self) -> String {
        let line = |row: &Row| {
            let figures = [row.proxy_a, row.mmd, row.frechet];
            let figures = figures.map(|f| format!("{},{}", f.mean, f.deviation));
            format!(
                "{},{},{},{}\n",
                self.of,
                row.sets,
                row.samples,
                figures.join(",")
            )
        };
        self.rows.iter().map(line).collect()
    }

    /// The table as text, with its head.
    pub fn text(&self) -> String {
        let mut text = format!(
            "{:<10} {:<8} {:>7}  {:<18} {:<18} {:<18}\n",
            "features", "sets", "samples", "proxy-A", "MMD squared", "Frechet"
        );
        for row in &self.rows {
            // Writing to a string cannot fail.
            let _ = writeln!(
                text,
                "{:<10} {:<8} {:>7}  {:<18} {:<18} {:<18}",
                self.of, row.sets, row.samples, row.proxy_a, row.mmd, row.frechet
            );
        }
        text
    }
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Two uniform numbers to one normal one (Box and Muller).
    pub(crate) fn normal(rng: &mut ChaCha8Rng) -> f64 {
        let (u, v): (f64, f64) = (1.0 - rng.random::<f64>(), rng.random());
        (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
    }

    /// Independent normal features: means and deviations by feature, each sample a group of its own.
    pub(crate) fn gaussian(count: u32, moments: &[(f64, f64)], seed: u64) -> Samples {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut row = || {
            let values = moments
                .iter()
                .map(|(mean, by)| mean + by * normal(&mut rng));
            values.collect::<Vec<f64>>()
        };
        Samples::new((0..count).map(|i| (row(), i)).collect::<Vec<_>>())
    }

    #[test]
    fn halves_share_no_group_and_lose_no_sample() {
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        // Groups of 1 to 9 samples.
        let set = Samples::new((0..45u32).map(|i| (vec![f64::from(i)], (i as f64).sqrt() as u32)));
        for _ in 0..20 {
            let (a, b) = set.halves(&mut rng);
            assert_eq!(a.len() + b.len(), set.len());
            assert!(a.groups.iter().all(|group| !b.groups.contains(group)));
            assert!(
                a.len().abs_diff(b.len()) <= 26,
                "{} and {}",
                a.len(),
                b.len()
            );
            assert!(!a.is_empty() && !b.is_empty());
        }
    }

    #[test]
    fn sets_of_one_distribution_have_the_figures_of_their_nulls() {
        let moments = [(0.0, 1.0), (3.0, 0.5), (-1.0, 2.0)];
        let (a, b) = (gaussian(400, &moments, 1), gaussian(400, &moments, 2));
        let table = Table::of("regions", &a, &b, &GapConfig::default()).unwrap();
        for row in &table.rows {
            assert!(row.proxy_a.mean.abs() < 0.25, "{row:?}");
            assert!(row.mmd.mean.abs() < 0.02, "{row:?}");
            assert!(row.frechet.mean < 0.15, "{row:?}");
            assert_eq!(row.samples, 200);
        }
    }

    #[test]
    fn sets_that_lie_apart_are_told_apart_and_their_halves_are_not() {
        let a = gaussian(400, &[(0.0, 1.0), (0.0, 1.0)], 1);
        let b = gaussian(400, &[(8.0, 1.0), (0.0, 1.0)], 2);
        let table = Table::of("regions", &a, &b, &GapConfig::default()).unwrap();
        let [across, within_a, within_b] = &table.rows[..] else {
            panic!("three rows")
        };
        assert!(across.proxy_a.mean > 1.95 && across.mmd.mean > 0.5);
        assert!(within_a.proxy_a.mean.abs() < 0.25 && within_b.proxy_a.mean.abs() < 0.25);
        assert!(across.frechet.mean > 10.0 * within_a.frechet.mean.max(within_b.frechet.mean));
    }

    #[test]
    fn the_same_seed_gives_the_same_table_and_another_seed_another() {
        let (a, b) = (
            gaussian(60, &[(0.0, 1.0); 3], 1),
            gaussian(50, &[(0.3, 1.0); 3], 2),
        );
        let with = |seed| {
            let config = GapConfig {
                seed,
                ..GapConfig::default()
            };
            Table::of("tiles", &a, &b, &config).unwrap()
        };
        assert_eq!(with(1), with(1));
        assert_ne!(with(1), with(2));
    }

    #[test]
    fn a_feature_that_never_changes_does_no_harm() {
        let a = gaussian(60, &[(0.0, 1.0), (5.0, 0.0)], 1);
        let b = gaussian(60, &[(0.0, 1.0), (5.0, 0.0)], 2);
        let table = Table::of("tiles", &a, &b, &GapConfig::default()).unwrap();
        assert!(table.rows.iter().all(|row| row.frechet.mean.is_finite()));
    }

    #[test]
    fn sets_that_are_too_small_or_unlike_are_refused_in_one_line() {
        let config = GapConfig::default();
        let (few, many) = (
            gaussian(5, &[(0.0, 1.0)], 1),
            gaussian(50, &[(0.0, 1.0)], 2),
        );
        assert_eq!(
            Table::of("regions", &many, &few, &config)
                .unwrap_err()
                .to_string(),
            "B: 5 regions in 5 groups, at least 16 in 4 are needed"
        );
        let wide = gaussian(50, &[(0.0, 1.0); 2], 2);
        assert_eq!(
            Table::of("regions", &many, &wide, &config)
                .unwrap_err()
                .to_string(),
            "features of 1 values against features of 2"
        );
        let none = GapConfig {
            per_image: 0,
            ..config
        };
        assert_eq!(
            none.validate().unwrap_err().to_string(),
            "gap configuration: per_image is 0, expected at least 1"
        );
    }
}
