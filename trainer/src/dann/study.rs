//! What the runs of all seeds and methods came to.
//!
//! In: an [`Outcome`] a run, kept as `outcome.json` in its folder. Out: medians, a table a run and a table of the bound before
//! and after, as panels, CSV and text; and which run's weights are shipped, chosen without a label of the target.

use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::config::{DannRun, Method};
use crate::adapt::bound::{self, Terms};
use crate::adapt::select::{Criterion, rank_correlation};
use crate::outputs;
use crate::report::median;
use crate::report::panels::{Figure, NamedPoints, Panel};

/// The file in a run's folder.
pub const OUTCOME_FILE: &str = "outcome.json";

/// What one run came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Its seed.
    pub seed: u64,
    /// Its method.
    pub method: Method,
    /// Hash of its configuration: an outcome of another one is not taken for it.
    pub config_sha256: String,
    /// Share right on the target, of the weights after the last step. For the score alone.
    pub last_accuracy: f64,
    /// The same of the weights that were chosen.
    pub accuracy: f64,
    /// The figure that they were chosen by.
    pub criterion: f64,
    /// Steps after which they were taken.
    pub chosen_step: u64,
    /// Every term of the bound, for the chosen weights.
    pub terms: Terms,
    /// Of every validation: accuracy on the target, and each criterion's figure.
    pub validations: Vec<(f64, [f64; 4])>,
}

impl Outcome {
    /// That of a folder, where there is one of this configuration.
    pub fn read(folder: &Path, config_sha256: &str) -> Option<Self> {
        let text = std::fs::read(folder.join(OUTCOME_FILE)).ok()?;
        let outcome: Self = serde_json::from_slice(&text).ok()?;
        (outcome.config_sha256 == config_sha256).then_some(outcome)
    }

    /// Writes it.
    ///
    /// # Errors
    /// The file system's.
    pub fn write(&self, folder: &Path) -> Result<()> {
        outputs::file(&folder.join(OUTCOME_FILE), serde_json::to_vec_pretty(self)?)
    }
}

/// Accuracy and criteria of every validation in a run's log.
///
/// # Errors
/// A log that cannot be read or lacks a column.
pub fn validations(log: &Path) -> Result<Vec<(f64, [f64; 4])>> {
    let named = || format!("{}", log.display());
    let text = std::fs::read_to_string(log).with_context(named)?;
    let mut lines = text.lines();
    let head: Vec<&str> = lines.next().unwrap_or_default().split(',').collect();
    let column = |name: &str| {
        let at = head.iter().position(|h| *h == name);
        at.with_context(|| format!("{}: no column {name}", log.display()))
    };
    let accuracy = column("target_accuracy")?;
    let mut criteria = [0; 4];
    for (at, criterion) in criteria.iter_mut().zip(Criterion::ALL) {
        *at = column(criterion.figure())?;
    }
    let mut rows = Vec::new();
    for line in lines {
        let fields: Vec<&str> = line.split(',').collect();
        let field = |at: usize| -> Result<f64> {
            let text = fields.get(at).copied().unwrap_or_default();
            text.parse()
                .with_context(|| format!("{}: {text:?} is no number", log.display()))
        };
        let mut found = [0.0; 4];
        for (value, at) in found.iter_mut().zip(criteria) {
            *value = field(at)?;
        }
        rows.push((field(accuracy)?, found));
    }
    Ok(rows)
}

/// All outcomes of a run.
pub struct Study<'a> {
    /// What was asked for.
    pub run: &'a DannRun,
    /// An outcome a seed and method.
    pub outcomes: &'a [Outcome],
}

impl Study<'_> {
    fn of(&self, method: Method) -> impl Iterator<Item = &Outcome> {
        self.outcomes.iter().filter(move |o| o.method == method)
    }

    /// Medians over the seeds, by name: what a model's card has.
    pub fn scores(&self) -> Vec<(String, f64)> {
        let mut scores = Vec::new();
        for method in &self.run.methods {
            let of = |value: fn(&Outcome) -> f64| {
                median(&self.of(*method).map(value).collect::<Vec<_>>())
            };
            for (name, value) in [
                ("target_accuracy", of(|o| o.accuracy)),
                ("target_accuracy_of_last_step", of(|o| o.last_accuracy)),
                ("source_error", of(|o| o.terms.source_error)),
                ("proxy_a", of(|o| o.terms.proxy_a)),
                ("proxy_a_of_head", of(|o| o.terms.proxy_a_of_head)),
                ("proxy_a_of_same", of(|o| o.terms.proxy_a_of_same)),
                ("mmd_squared", of(|o| o.terms.mmd)),
                ("frechet", of(|o| o.terms.frechet)),
                ("lambda", of(|o| o.terms.lambda())),
                ("bound", of(|o| o.terms.bound())),
            ] {
                if value.is_finite() {
                    scores.push((format!("{}_{name}", method.name()), value));
                }
            }
        }
        scores
    }

    /// The terms of the middle seed of a method, by accuracy of the chosen weights.
    fn middle(&self, method: Method) -> Option<&Outcome> {
        let mut of: Vec<&Outcome> = self.of(method).collect();
        of.sort_by(|a, b| a.accuracy.total_cmp(&b.accuracy));
        of.get((of.len().max(1) - 1) / 2).copied()
    }

    /// The outcome whose weights are shipped: of the last method, the best by the criterion.
    pub fn shipped(&self) -> Option<&Outcome> {
        let (_, sign) = self.run.select.by.best_by().column_and_sign();
        self.of(self.run.method())
            .max_by(|a, b| (sign * a.criterion).total_cmp(&(sign * b.criterion)))
    }

    /// Rank correlation of every criterion with the accuracy over all validations of a method.
    pub fn correlations(&self, method: Method) -> [f64; 4] {
        let all: Vec<&(f64, [f64; 4])> = self.of(method).flat_map(|o| &o.validations).collect();
        let accuracy: Vec<f64> = all.iter().map(|v| v.0).collect();
        let mut found = [0.0; 4];
        for (k, (value, criterion)) in found.iter_mut().zip(Criterion::ALL).enumerate() {
            let (_, sign) = criterion.best_by().column_and_sign();
            let figures: Vec<f64> = all.iter().map(|v| sign * v.1[k]).collect();
            *value = rank_correlation(&figures, &accuracy);
        }
        found
    }

    /// The bound's terms side by side, a column a method, as text.
    pub fn text(&self) -> String {
        let columns: Vec<(&str, &Terms)> = self
            .run
            .methods
            .iter()
            .filter_map(|method| Some((method.name(), &self.middle(*method)?.terms)))
            .collect();
        bound::text(&columns)
    }

    /// A line a run.
    pub fn csv(&self) -> String {
        let mut text = String::from(
            "seed,method,target_accuracy,target_accuracy_of_last_step,criterion,chosen_step,source_error,proxy_a,proxy_a_of_head,proxy_a_of_same,mmd_squared,frechet,oracle_source_error,oracle_target_error,lambda,bound\n",
        );
        for o in self.outcomes {
            let t = &o.terms;
            let figures = [
                t.source_error,
                t.proxy_a,
                t.proxy_a_of_head,
                t.proxy_a_of_same,
                t.mmd,
                t.frechet,
                t.oracle_source_error,
                t.oracle_target_error,
                t.lambda(),
                t.bound(),
            ];
            let figures: Vec<String> = figures.iter().map(|v| format!("{v:.5}")).collect();
            text += &format!(
                "{},{},{:.5},{:.5},{:.5},{},{}\n",
                o.seed,
                o.method.name(),
                o.accuracy,
                o.last_accuracy,
                o.criterion,
                o.chosen_step,
                figures.join(",")
            );
        }
        text
    }

    /// What the page shows.
    pub fn panels(&self) -> Vec<Panel> {
        let percent = |v: f64| format!("{:.1}", 100.0 * v);
        let mut figures = Vec::new();
        for method in &self.run.methods {
            let of = |value: fn(&Outcome) -> f64| {
                median(&self.of(*method).map(value).collect::<Vec<_>>())
            };
            figures.push(Figure::new(
                format!("{}: right on the target, %, median", method.name()),
                100.0 * of(|o| o.accuracy),
            ));
            figures.push(Figure::new(
                format!("{}: proxy-A distance, head, median", method.name()),
                of(|o| o.terms.proxy_a_of_head),
            ));
        }
        let rows = self.outcomes.iter().map(|o| {
            vec![
                o.seed.to_string(),
                o.method.name().to_owned(),
                percent(o.accuracy),
                percent(o.last_accuracy),
                format!("{:.4}", o.criterion),
                o.chosen_step.to_string(),
                format!("{:.2}", 100.0 * o.terms.source_error),
                format!("{:.3}", o.terms.proxy_a),
                format!("{:.3}", o.terms.proxy_a_of_head),
                percent(o.terms.lambda()),
                percent(o.terms.bound()),
                percent(o.terms.target_error),
            ]
        });
        let columns = [
            "seed",
            "method",
            "target right, %",
            "the same, last step",
            self.run.select.by.figure(),
            "chosen after step",
            "source wrong, %",
            "proxy-A, linear",
            "proxy-A, head",
            "lambda, %",
            "bound, %",
            "target wrong, %",
        ];
        let chosen = format!(
            "Weights are those with the best {} among the validations of a run; labels of the target are in the columns on it alone.",
            self.run.select.by.figure()
        );
        let middles: Vec<&Outcome> = self
            .run
            .methods
            .iter()
            .filter_map(|method| self.middle(*method))
            .collect();
        let names = middles.first().map(|o| o.terms.named());
        let terms = names
            .into_iter()
            .flatten()
            .enumerate()
            .map(|(row, (name, _))| {
                let values = middles
                    .iter()
                    .map(|o| format!("{:.3}", o.terms.named()[row].1));
                std::iter::once(name.to_owned()).chain(values).collect()
            });
        let heads = middles
            .iter()
            .map(|o| format!("{}, seed {}", o.method.name(), o.seed));
        let correlations = Criterion::ALL.iter().enumerate().map(|(k, criterion)| {
            let of = |method: &Method| format!("{:.2}", self.correlations(*method)[k]);
            let values = self.run.methods.iter().map(of);
            std::iter::once(criterion.figure().to_owned())
                .chain(values)
                .collect()
        });
        let methods = self.run.methods.iter().map(|m| m.name().to_owned());
        let lines = self.outcomes.iter().map(|o| NamedPoints {
            name: format!("{}, seed {}", o.method.name(), o.seed),
            points: (1..)
                .zip(&o.validations)
                .map(|(k, v)| (f64::from(k), 100.0 * v.0))
                .collect(),
        });
        vec![
            Panel::figures("All seeds", figures),
            Panel::Table {
                title: "Runs".into(),
                columns: columns.map(str::to_owned).to_vec(),
                rows: rows.collect(),
                note: chosen,
            },
            Panel::Table {
                title: "The bound before and after".into(),
                columns: std::iter::once("term".to_owned()).chain(heads).collect(),
                rows: terms.collect(),
                note: "Of the seed in the middle by accuracy. A proxy-A distance lies below the divergence that the bound wants: the sum is an estimate, and can fail.".into(),
            },
            Panel::Table {
                title: "Does the label-free criterion know?".into(),
                columns: std::iter::once("criterion".to_owned()).chain(methods).collect(),
                rows: correlations.collect(),
                note: "Rank correlation with the accuracy on the target over all validations; 1 is right, 0 is chance.".into(),
            },
            Panel::Lines {
                title: "Right on the target, % (score only)".into(),
                x_label: "validation".into(),
                lines: lines.collect(),
                note: String::new(),
            },
        ]
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn outcome(seed: u64, method: Method, accuracy: f64, criterion: f64) -> Outcome {
        Outcome {
            seed,
            method,
            config_sha256: "a".into(),
            last_accuracy: accuracy - 0.01,
            accuracy,
            criterion,
            chosen_step: 7,
            terms: Terms {
                source_error: 0.01,
                proxy_a: 1.0,
                proxy_a_of_head: 1.5,
                proxy_a_of_same: 0.02,
                mmd: 0.1,
                frechet: 3.0,
                oracle_source_error: 0.02,
                oracle_target_error: 0.05,
                target_error: 1.0 - accuracy,
            },
            validations: vec![
                (0.2, [1.0, 5.0, 0.5, 0.1]),
                (accuracy, [2.0, 4.0, 0.4, 0.2]),
            ],
        }
    }

    #[test]
    fn medians_are_over_seeds_and_what_is_shipped_is_chosen_without_labels() {
        let run = DannRun::default();
        let outcomes = [
            outcome(0, Method::SourceOnly, 0.5, 9.0),
            outcome(0, Method::Adversarial, 0.9, 1.0),
            outcome(1, Method::Adversarial, 0.7, 2.0),
            outcome(2, Method::Adversarial, 0.8, 1.5),
        ];
        let study = Study {
            run: &run,
            outcomes: &outcomes,
        };
        let scores = study.scores();
        let of = |name: &str| scores.iter().find(|(n, _)| n == name).unwrap().1;
        assert_eq!(of("adversarial_target_accuracy"), 0.8);
        assert_eq!(of("source_only_target_accuracy"), 0.5);
        assert!((of("adversarial_bound") - (0.01 + 0.75 + 0.07)).abs() < 1e-12);
        // Not the most accurate one: nobody may know that.
        assert_eq!(study.shipped().unwrap().seed, 1);
        let found = study.correlations(Method::SourceOnly);
        assert_eq!(found, [1.0, -1.0, 1.0, -1.0]);
        assert!(study.text().contains("lambda, %") && study.csv().lines().count() == 5);
        assert_eq!(study.panels().len(), 5);
        assert_eq!(median(&[3.0, 1.0]), 2.0);
    }

    #[test]
    fn an_outcome_of_another_configuration_is_not_taken() {
        let folder = tempfile::tempdir().unwrap();
        let written = outcome(3, Method::Adversarial, 0.75, 1.25);
        assert!(Outcome::read(folder.path(), "a").is_none());
        written.write(folder.path()).unwrap();
        assert_eq!(Outcome::read(folder.path(), "a").unwrap(), written);
        assert!(Outcome::read(folder.path(), "b").is_none());
    }

    #[test]
    fn validations_are_read_by_the_names_of_their_columns() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("validation.csv");
        let head = "step,samples,target_accuracy,source_error,information,soft_density,entropy\n";
        std::fs::write(&log, format!("{head}5,50,0.5,0.1,1.5,6.0,0.3\n")).unwrap();
        assert_eq!(validations(&log).unwrap(), [(0.5, [1.5, 6.0, 0.3, 0.1])]);
        std::fs::write(&log, "step,target_accuracy\n5,0.5\n").unwrap();
        let said = format!("{:#}", validations(&log).unwrap_err());
        assert!(said.contains("no column information"), "{said}");
    }
}
