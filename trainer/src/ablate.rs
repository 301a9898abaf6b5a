//! What each trick of the recipe is worth: runs without one of them against runs with all.
//!
//! In: a baseline configuration and the tricks to leave out. Out: the [`Variant`]s to train, and from their figures a
//! table. All variants see the same number of pairs from the same seed and are scored on the same held-out pairs, those
//! of the baseline; the baseline is trained from several seeds, whose spread says what a difference is worth.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::config::TrackerRun;
use crate::tricks::Trick;

/// One run to be trained.
#[derive(Clone, Debug)]
pub struct Variant {
    /// Name of its folder: `baseline-SEED`, or `without-TRICK`.
    pub folder: String,
    /// What is left out; `None` for a baseline.
    pub trick: Option<Trick>,
    /// Its configuration.
    pub run: TrackerRun,
}

/// The runs of an ablation: `seeds` baselines, then one for each of `tricks` that the baseline uses.
pub fn variants(baseline: &TrackerRun, tricks: &[Trick], seeds: u64) -> Vec<Variant> {
    let of_seed = |k: u64| {
        let mut run = baseline.clone();
        run.seed = baseline.seed.wrapping_add(k);
        Variant {
            folder: format!("baseline-{}", run.seed),
            trick: None,
            run,
        }
    };
    let without = tricks.iter().filter_map(|trick| {
        let run = trick.off(baseline);
        (run != *baseline).then(|| Variant {
            folder: format!("without-{}", trick.name),
            trick: Some(*trick),
            run,
        })
    });
    (0..seeds.max(1)).map(of_seed).chain(without).collect()
}

/// The figures of one finished run, as kept in its folder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// Hash of the configuration that was trained, and of what it started from: another one is not this run.
    pub key: String,
    /// Figures by name; `auc` is the one that differences are taken of.
    pub figures: BTreeMap<String, f64>,
}

/// A line of the table.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Folder of the run.
    pub run: String,
    /// The trick that was left out.
    pub trick: Option<Trick>,
    /// Its figures.
    pub figures: BTreeMap<String, f64>,
}

/// Figures of finished runs.
#[derive(Clone, Debug, Default)]
pub struct Table {
    /// In the order of the variants.
    pub rows: Vec<Row>,
}

/// The baseline's mean and how far single runs stray from it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// Mean over the seeds.
    pub mean: f64,
    /// Standard deviation of one run; `None` with a single seed.
    pub deviation: Option<f64>,
    /// How many seeds.
    pub seeds: usize,
}

impl Spread {
    /// Standard deviation of the difference between one run and the baseline's mean, had the run been a baseline.
    pub fn noise(&self) -> Option<f64> {
        let n = self.seeds as f64;
        self.deviation.map(|d| d * (1.0 + 1.0 / n).sqrt())
    }
}

impl Table {
    /// The baseline's spread in one figure; `None` before a baseline is done.
    pub fn spread(&self, figure: &str) -> Option<Spread> {
        let values: Vec<f64> = self
            .rows
            .iter()
            .filter(|row| row.trick.is_none())
            .filter_map(|row| row.figures.get(figure).copied())
            .collect();
        let n = values.len();
        if n == 0 {
            return None;
        }
        let mean = values.iter().sum::<f64>() / n as f64;
        let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
        Some(Spread {
            mean,
            deviation: (n > 1).then(|| (squares / (n - 1) as f64).sqrt()),
            seeds: n,
        })
    }

    /// All figures, a line a run.
    pub fn csv(&self) -> String {
        let names = self.names();
        let mut text = format!("run,without,{}\n", names.join(","));
        for row in &self.rows {
            let figures: Vec<String> = names
                .iter()
                .map(|n| {
                    row.figures
                        .get(*n)
                        .map_or_else(String::new, |v| format!("{v:.5}"))
                })
                .collect();
            let without = row.trick.map_or("", |trick| trick.name);
            text += &format!("{},{without},{}\n", row.run, figures.join(","));
        }
        text
    }

    /// The table for people: differences from the baseline's mean. `|d| > 2 noise` is marked, seldom chance; the noise of
    /// fewer than three seeds is too uncertain for that.
    pub fn markdown(&self, pairs: u64, shown: &[(&str, &str)]) -> String {
        let spreads: Vec<Option<Spread>> =
            shown.iter().map(|(name, _)| self.spread(name)).collect();
        let mut text = format!("{pairs} pairs a run, scored on the same held-out data. ");
        text += "Differences are from the mean of the baselines; `noise` is what one standard deviation of such a \
                 difference would be by chance, and `*` marks more than two of them, given three seeds.\n\n| left out |";
        for (_, title) in shown {
            text += &format!(" {title} |");
        }
        text += " what it is |\n|---|";
        text += &"---|".repeat(shown.len() + 1);
        text += "\n| nothing (mean) |";
        for spread in &spreads {
            text += &spread.map_or(" - |".to_owned(), |s| format!(" {:.4} |", s.mean));
        }
        let seeds = spreads.iter().flatten().map(|s| s.seeds).max().unwrap_or(0);
        text += &format!(" {seeds} seeds |\n| noise |");
        for noise in spreads.iter().map(|s| s.and_then(|s| s.noise())) {
            text += &noise.map_or(" unknown |".to_owned(), |n| format!(" {n:.4} |"));
        }
        text += " |\n";
        for row in &self.rows {
            let Some(trick) = row.trick else { continue };
            text += &format!("| {} |", trick.name);
            for ((name, _), spread) in shown.iter().zip(&spreads) {
                text += &match (row.figures.get(*name), spread) {
                    (Some(value), Some(spread)) => {
                        let difference = value - spread.mean;
                        let beyond = spread.seeds >= 3
                            && spread.noise().is_some_and(|n| difference.abs() > 2.0 * n);
                        format!(" {difference:+.4}{} |", if beyond { " *" } else { "" })
                    }
                    _ => " - |".to_owned(),
                };
            }
            text += &format!(" {} |\n", trick.what);
        }
        text
    }

    fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self
            .rows
            .iter()
            .flat_map(|row| row.figures.keys().map(String::as_str))
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::tricks::TRICKS;

    fn row(run: &str, trick: Option<&str>, auc: f64) -> Row {
        Row {
            run: run.into(),
            trick: trick.map(|name| Trick::named(name).unwrap()),
            figures: [("auc".to_owned(), auc)].into(),
        }
    }

    #[test]
    fn each_trick_in_use_gets_one_run_that_differs_from_the_baseline_in_it_alone() {
        let mut baseline = TrackerRun::default();
        baseline.augment.rain.share = 0.0;
        let variants = variants(&baseline, TRICKS, 3);
        assert_eq!(variants.len(), 3 + TRICKS.len() - 1);
        assert!(
            variants.iter().all(|v| v.folder != "without-rain"),
            "rain is off already"
        );
        for variant in &variants[3..] {
            assert_eq!(variant.run, variant.trick.unwrap().off(&baseline));
            assert_eq!(variant.run.seed, baseline.seed);
        }
        assert_eq!(variants[2].run.seed, baseline.seed + 2);
    }

    #[test]
    fn noise_comes_from_the_seeds_and_marks_only_what_exceeds_it_twice() {
        let table = Table {
            rows: vec![
                row("baseline-0", None, 0.70),
                row("baseline-1", None, 0.72),
                row("baseline-2", None, 0.71),
                row("without-glare", Some("glare"), 0.66),
                row("without-haze", Some("haze"), 0.69),
            ],
        };
        let spread = table.spread("auc").unwrap();
        assert!((spread.mean - 0.71).abs() < 1e-12);
        assert!((spread.noise().unwrap() - 0.01 * (4.0f64 / 3.0).sqrt()).abs() < 1e-12);
        let markdown = table.markdown(1000, &[("auc", "AUC")]);
        assert!(markdown.contains("| glare | -0.0500 * |"), "{markdown}");
        assert!(markdown.contains("| haze | -0.0200 |"), "{markdown}");
        assert_eq!(
            table.csv().lines().nth(4).unwrap(),
            "without-glare,glare,0.66000"
        );
    }

    #[test]
    fn one_seed_gives_differences_without_a_claim() {
        let table = Table {
            rows: vec![row("baseline-0", None, 0.70), row("w", Some("glare"), 0.2)],
        };
        let markdown = table.markdown(10, &[("auc", "AUC"), ("ao", "AO")]);
        assert!(
            markdown.contains("unknown") && !markdown.contains("-0.5000 *"),
            "{markdown}"
        );
        assert!(markdown.contains("| glare | -0.5000 | - |"), "{markdown}");
    }
}
