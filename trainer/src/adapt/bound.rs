//! Every term of the bound on the target's error, as far as it can be estimated:
//! `error_T(h) <= error_S(h) + d / 2 + lambda` (Ben-David et al. 2010).
//!
//! In: features of both domains, split in a part to train heads on and a part to score them on. Out: [`Terms`].
//!
//! - `error_S`: what the classifier gets wrong on held-out samples of the source.
//! - `d`: the divergence of the domains for pairs of classifiers. What can be had is the proxy-A distance
//!   `2 (1 - 2 error)` of a classifier that tells the domains apart, of a linear one and of a head like the one that the
//!   features were trained against. Both lie below `d`: the printed bound is an estimate, which can fail.
//! - `lambda`: the least that one classifier gets wrong on both domains together, here of a head that is given the labels of
//!   both: the joint oracle. It needs the target's labels and is never used but to be printed.
//!
//! Beside them the squared MMD and the Frechet distance, and the proxy-A distance of each domain to itself, which says how
//! large it is where there is no gap.

use std::fmt::Write as _;

use candle_core::Device;
use serde::{Deserialize, Serialize};

use super::probe::{ProbeConfig, Rows};
use crate::config::{ConfigError, in_range};
use crate::gap::{GapConfig, Samples, Table};

/// How the terms are estimated.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BoundConfig {
    /// Samples of each domain and part at most, the first ones.
    pub samples: usize,
    /// Times that the domains are halved anew for the linear distance.
    pub repeats: usize,
    /// The head that tells domains apart, and the one that is given the labels of both.
    pub probe: ProbeConfig,
}

impl Default for BoundConfig {
    fn default() -> Self {
        Self {
            samples: 2000,
            repeats: 3,
            probe: ProbeConfig::default(),
        }
    }
}

impl BoundConfig {
    /// Checks the ranges; `name` is the table's.
    ///
    /// # Errors
    /// The first value that is out of its range.
    pub fn validate(&self, name: &str) -> Result<(), ConfigError> {
        in_range(&format!("{name}.samples"), self.samples as f64, 32.0, 1e5)?;
        in_range(&format!("{name}.repeats"), self.repeats as f64, 1.0, 1000.0)?;
        self.probe.validate(&format!("{name}.probe"))
    }
}

/// Features of one domain.
pub struct Domain<'a> {
    /// Heads learn from these.
    pub train: &'a Rows,
    /// And are scored on these.
    pub test: &'a Rows,
    /// Share of the samples that the classifier in question gets wrong.
    pub error: f64,
}

/// The terms; see the module head.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Terms {
    /// Of the classifier, on the source.
    pub source_error: f64,
    /// Of a linear classifier of the domains.
    pub proxy_a: f64,
    /// Of a head with layers between.
    pub proxy_a_of_head: f64,
    /// The larger of the two linear distances of a domain to itself.
    pub proxy_a_of_same: f64,
    /// Squared, unbiased.
    pub mmd: f64,
    /// Of features scaled to variance one.
    pub frechet: f64,
    /// Of the joint oracle, on the source.
    pub oracle_source_error: f64,
    /// Of the joint oracle, on the target.
    pub oracle_target_error: f64,
    /// Of the classifier, on the target: what is bounded. For the score alone.
    pub target_error: f64,
}

impl Terms {
    /// Estimates them; `classes` are those of the labels.
    ///
    /// # Errors
    /// Too few samples; if an operator fails.
    pub fn of(
        source: &Domain<'_>,
        target: &Domain<'_>,
        classes: usize,
        config: &BoundConfig,
        seed: u64,
        device: &Device,
    ) -> anyhow::Result<Self> {
        // Every sample is a group of its own.
        let as_samples = |rows: &Rows| {
            let values = |row: &Vec<f32>| row.iter().map(|v| f64::from(*v)).collect();
            Samples::new(rows.features.iter().map(values).zip(0u32..))
        };
        let gap = GapConfig {
            samples: config.samples,
            repeats: config.repeats,
            seed,
            ..GapConfig::default()
        };
        let (a, b) = (as_samples(source.test), as_samples(target.test));
        let table = Table::of("features", &a, &b, &gap)?;
        let [across, of_source, of_target] = &table.rows[..] else {
            anyhow::bail!("a table of {} rows", table.rows.len());
        };
        // Domains weigh the same, however many samples there are of each.
        let weights = |source: &Rows, target: &Rows| {
            let of = |rows: &Rows| {
                let count = rows.features.len();
                vec![1.0 / count.max(1) as f32; count]
            };
            [of(source), of(target)].concat()
        };
        let weights = weights(source.train, target.train);
        let probe = &config.probe;
        let both = source.train.labelled(0).joined(&target.train.labelled(1));
        let teller = both.teach(&weights, 2, probe, seed, device)?;
        let error = (source.test.labelled(0).error_of(&teller)?
            + target.test.labelled(1).error_of(&teller)?)
            / 2.0;
        let both = source.train.joined(target.train);
        let oracle = both.teach(&weights, classes, probe, seed, device)?;
        Ok(Self {
            source_error: source.error,
            proxy_a: across.proxy_a.mean,
            proxy_a_of_head: 2.0 * (1.0 - 2.0 * error),
            proxy_a_of_same: of_source.proxy_a.mean.max(of_target.proxy_a.mean),
            mmd: across.mmd.mean,
            frechet: across.frechet.mean,
            oracle_source_error: source.test.error_of(&oracle)?,
            oracle_target_error: target.test.error_of(&oracle)?,
            target_error: target.error,
        })
    }

    /// The joint oracle's error on both domains together.
    pub fn lambda(&self) -> f64 {
        self.oracle_source_error + self.oracle_target_error
    }

    /// The larger of the two distances, and not below 0.
    pub fn distance(&self) -> f64 {
        self.proxy_a.max(self.proxy_a_of_head).max(0.0)
    }

    /// What the terms add up to.
    pub fn bound(&self) -> f64 {
        self.source_error + self.distance() / 2.0 + self.lambda()
    }

    /// Every term by what it is called in a report, errors in percent.
    pub fn named(&self) -> [(&'static str, f64); 11] {
        [
            ("error on the source, %", 100.0 * self.source_error),
            ("proxy-A distance, linear", self.proxy_a),
            ("proxy-A distance, head", self.proxy_a_of_head),
            ("proxy-A distance, same domain", self.proxy_a_of_same),
            ("MMD squared", self.mmd),
            ("Frechet distance", self.frechet),
            (
                "joint oracle on the source, %",
                100.0 * self.oracle_source_error,
            ),
            (
                "joint oracle on the target, %",
                100.0 * self.oracle_target_error,
            ),
            ("lambda, %", 100.0 * self.lambda()),
            (
                "the bound: error + distance / 2 + lambda, %",
                100.0 * self.bound(),
            ),
            (
                "error on the target (score only), %",
                100.0 * self.target_error,
            ),
        ]
    }
}

/// Columns of terms side by side, as text.
pub fn text(columns: &[(&str, &Terms)]) -> String {
    let mut text = format!("{:<46}", "term");
    for (name, _) in columns {
        let _ = write!(text, " {name:>12}");
    }
    text.push('\n');
    let Some((_, first)) = columns.first() else {
        return text;
    };
    for (row, (name, _)) in first.named().iter().enumerate() {
        let _ = write!(text, "{name:<46}");
        for (_, terms) in columns {
            let _ = write!(text, " {:>12.3}", terms.named()[row].1);
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::probe::tests::around;
    use super::*;

    const CENTRES: [[f32; 2]; 2] = [[-2.0, 0.0], [2.0, 0.0]];

    fn config() -> BoundConfig {
        BoundConfig {
            samples: 600,
            repeats: 2,
            probe: ProbeConfig {
                widths: vec![16],
                steps: 120,
                learning_rate: 1e-2,
                ..ProbeConfig::default()
            },
        }
    }

    fn terms(source: [Rows; 2], target: [Rows; 2]) -> Terms {
        let domain = |rows: &'static [Rows; 2], error| Domain {
            train: &rows[0],
            test: &rows[1],
            error,
        };
        let [source, target] = [source, target].map(|rows| &*Box::leak(Box::new(rows)));
        let (source, target) = (domain(source, 0.01), domain(target, 0.2));
        Terms::of(&source, &target, 2, &config(), 1, &Device::Cpu).unwrap()
    }

    fn halves(centres: &[[f32; 2]], seed: u64) -> [Rows; 2] {
        [around(centres, 600, seed), around(centres, 600, seed + 1)]
    }

    #[test]
    fn one_domain_twice_has_no_distance_and_one_that_lies_apart_has_all_of_it() {
        let same = terms(halves(&CENTRES, 1), halves(&CENTRES, 3));
        assert!(
            same.proxy_a.abs() < 0.15 && same.proxy_a_of_head.abs() < 0.15,
            "{same:?}"
        );
        assert!(
            same.proxy_a_of_same < 0.15 && same.lambda() < 0.02,
            "{same:?}"
        );
        let moved = CENTRES.map(|[x, y]| [x, y + 6.0]);
        let apart = terms(halves(&CENTRES, 1), halves(&moved, 3));
        assert!(
            apart.proxy_a > 1.95 && apart.proxy_a_of_head > 1.95,
            "{apart:?}"
        );
        assert!(
            apart.proxy_a_of_same < 0.15 && apart.lambda() < 0.02,
            "{apart:?}"
        );
        assert!(apart.mmd > same.mmd && apart.frechet > same.frechet);
        let sum = apart.source_error + apart.distance() / 2.0 + apart.lambda();
        assert!((apart.bound() - sum).abs() < 1e-12 && apart.bound() > 0.9);
    }

    #[test]
    fn domains_that_no_line_parts_are_parted_by_the_head() {
        let crossed = [[-2.0, 2.0], [2.0, -2.0]];
        let straight = [[-2.0, -2.0], [2.0, 2.0]];
        let found = terms(halves(&straight, 1), halves(&crossed, 3));
        assert!(
            found.proxy_a.abs() < 0.2 && found.proxy_a_of_head > 1.9,
            "{found:?}"
        );
        assert_eq!(found.distance(), found.proxy_a_of_head);
    }

    #[test]
    fn classes_that_have_changed_places_leave_no_classifier_for_both() {
        let turned = halves(&CENTRES, 3).map(|mut rows| {
            rows.labels.iter_mut().for_each(|l| *l = 1 - *l);
            rows
        });
        let found = terms(halves(&CENTRES, 1), turned);
        // Whatever it says is right of one domain and wrong of the other.
        assert!((found.lambda() - 1.0).abs() < 0.1, "{found:?}");
        assert!(text(&[("before", &found)]).contains("lambda, %"));
    }
}
