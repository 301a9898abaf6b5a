//! A run of `metric`: every learner scored by cross-validation, and the chosen one learned on all samples.
//!
//! In: samples and a [`MetricRun`]. Out: a [`Study`], which [`Study::panels`] shows. Columns are standardised by the
//! training part of each fold, then mapped by the kernel, then learned on, then scored: nothing of what is held out is
//! seen before.

use nalgebra::{DMatrix, DVector};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use super::kernel::{Kernel, KernelMap};
use super::neighbours::{accuracy, classify, stratified_folds};
use super::pairs::PairSets;
use super::{Learner, MAX_SAMPLES, Metric, MetricError, MetricRun, Teaching, Watch};
use crate::labelled::Samples;
use crate::linalg;
use crate::report::map::map;
use crate::report::median;
use crate::report::panels::{Figure, NamedPoints, Panel};

/// Brings columns to mean 0 and deviation 1; a column of one value becomes 0.
#[derive(Clone, Debug, PartialEq)]
pub struct Standard {
    /// Mean of each column.
    pub mean: DVector<f64>,
    /// One over the deviation of each column.
    pub scale: DVector<f64>,
}

impl Standard {
    /// Of these samples, one a row.
    pub fn fit(x: &DMatrix<f64>) -> Self {
        let mean = linalg::column_means(x);
        let count = x.nrows().max(1) as f64;
        let scale = DVector::from_fn(x.ncols(), |c, _| {
            let variance = x
                .column(c)
                .iter()
                .map(|v| (v - mean[c]).powi(2))
                .sum::<f64>()
                / count;
            match variance > 1e-24 * (1.0 + mean[c] * mean[c]) {
                true => 1.0 / variance.sqrt(),
                false => 1.0,
            }
        });
        Self { mean, scale }
    }

    /// The samples, standardised.
    pub fn apply(&self, x: &DMatrix<f64>) -> DMatrix<f64> {
        DMatrix::from_fn(x.nrows(), x.ncols(), |r, c| {
            (x[(r, c)] - self.mean[c]) * self.scale[c]
        })
    }
}

/// Everything between a sample and the point whose Euclidean distances are the learned ones.
#[derive(Clone, Debug, PartialEq)]
pub struct Fitted {
    /// First: columns of like size.
    pub standard: Standard,
    /// Then, where there is a kernel, its coordinates.
    pub kernel: Option<KernelMap>,
    /// Then the learned map.
    pub metric: Metric,
}

impl Fitted {
    /// Learns on samples, one a row.
    ///
    /// # Errors
    /// Those of the kernel and of the learner.
    pub fn fit(
        run: &MetricRun,
        learner: &Learner,
        x: &DMatrix<f64>,
        labels: &[u32],
        pairs: Option<PairSets>,
        watch: &mut Watch<'_>,
    ) -> Result<Self, MetricError> {
        let standard = Standard::fit(x);
        let mut points = standard.apply(x);
        let kernel = match &run.kernel {
            Kernel::None => None,
            kernel => Some(KernelMap::fit(kernel, &points, run.kernel_components)?),
        };
        if let Some(kernel) = &kernel {
            points = kernel.map(&points);
        }
        let teaching = Teaching {
            x: &points,
            labels,
            pairs,
            seed: run.seed,
        };
        Ok(Self {
            standard,
            kernel,
            metric: learner.learn(&teaching, watch)?,
        })
    }

    /// Points of samples, one a row.
    pub fn embed(&self, x: &DMatrix<f64>) -> DMatrix<f64> {
        let points = self.standard.apply(x);
        let points = self
            .kernel
            .as_ref()
            .map_or(points.clone(), |k| k.map(&points));
        self.metric.embed(&points)
    }
}

/// How a learner did.
#[derive(Clone, Debug, PartialEq)]
pub struct Score {
    /// Its name.
    pub learner: &'static str,
    /// Mean accuracy over the folds, once a repeat.
    pub accuracies: Vec<f64>,
    /// The smallest eigenvalue of all its matrices.
    pub smallest_eigenvalue: f64,
}

impl Score {
    /// The middle of the repeats.
    pub fn median(&self) -> f64 {
        median(&self.accuracies)
    }
}

/// Samples as a matrix, one a row.
pub fn matrix(samples: &Samples) -> DMatrix<f64> {
    let rows: Vec<f32> = samples.rows(0..samples.len());
    DMatrix::from_row_iterator(
        samples.len(),
        samples.shape().len(),
        rows.into_iter().map(f64::from),
    )
}

/// Scores one learner: `repeats` times `folds` parts. `each` is told when a part is done.
///
/// # Errors
/// Those of the learner.
pub fn cross_validate(
    run: &MetricRun,
    learner: &Learner,
    x: &DMatrix<f64>,
    labels: &[u32],
    pairs: Option<&PairSets>,
    each: &(dyn Fn() + Sync),
) -> Result<Score, MetricError> {
    let parts: Vec<(usize, Vec<usize>)> = (0..run.evaluate.repeats)
        .flat_map(|repeat| {
            let mut rng = ChaCha8Rng::seed_from_u64(run.seed.wrapping_add(repeat));
            let folds = stratified_folds(labels, run.evaluate.folds, &mut rng);
            folds.into_iter().map(move |fold| (repeat as usize, fold))
        })
        .filter(|(_, held_out)| !held_out.is_empty())
        .collect();
    let of = |indices: &[usize]| -> (DMatrix<f64>, Vec<u32>) {
        (
            x.select_rows(indices),
            indices.iter().map(|i| labels[*i]).collect(),
        )
    };
    let scored: Vec<(usize, f64, f64)> = parts
        .par_iter()
        .map(|(repeat, held_out)| {
            let kept: Vec<usize> = (0..labels.len())
                .filter(|i| held_out.binary_search(i).is_err())
                .collect();
            let ((train, of_train), (test, of_test)) = (of(&kept), of(held_out));
            let pairs = pairs.map(|pairs| pairs.among(&kept));
            let fitted = Fitted::fit(run, learner, &train, &of_train, pairs, &mut |_, _| true)?;
            let found = classify(
                &fitted.embed(&train),
                &of_train,
                &fitted.embed(&test),
                run.evaluate.neighbours,
            );
            each();
            let smallest = fitted.metric.smallest_eigenvalue();
            Ok((*repeat, accuracy(&found, &of_test), smallest))
        })
        .collect::<Result<_, MetricError>>()?;
    let accuracies = (0..run.evaluate.repeats as usize).map(|repeat| {
        let own: Vec<f64> = scored
            .iter()
            .filter(|(of, ..)| *of == repeat)
            .map(|(_, accuracy, _)| *accuracy)
            .collect();
        own.iter().sum::<f64>() / own.len().max(1) as f64
    });
    Ok(Score {
        learner: learner.name(),
        accuracies: accuracies.collect(),
        smallest_eigenvalue: scored.iter().map(|s| s.2).fold(f64::INFINITY, f64::min),
    })
}

/// What a run leaves.
pub struct Study {
    /// Of the chosen learner first, then of the others where they were asked for.
    pub scores: Vec<Score>,
    /// The chosen one on all samples.
    pub fitted: Fitted,
    /// Its objective after every iteration.
    pub curve: Vec<(u64, f64)>,
}

impl Study {
    /// The learners that are scored, the chosen one first.
    pub fn learners(run: &MetricRun) -> Vec<Learner> {
        let mut learners = vec![run.learner.clone()];
        if run.evaluate.compare {
            let others = Learner::all().into_iter();
            learners.extend(others.filter(|other| other.name() != run.learner.name()));
        }
        learners
    }

    /// Scores and learns. `each` is told when a part of the cross-validation is done; `watch` follows the last learning.
    ///
    /// # Errors
    /// Those of the learners.
    pub fn of(
        run: &MetricRun,
        samples: &Samples,
        pairs: Option<&PairSets>,
        each: &(dyn Fn() + Sync),
        watch: &mut Watch<'_>,
    ) -> Result<Self, MetricError> {
        if samples.len() > MAX_SAMPLES {
            // Before a kernel makes a matrix of them.
            return Err(MetricError::Samples(format!(
                "{} samples, expected at most {MAX_SAMPLES}: data.first takes so many from the first",
                samples.len()
            )));
        }
        let (x, labels) = (matrix(samples), samples.labels());
        let scores = Self::learners(run)
            .iter()
            .map(|learner| cross_validate(run, learner, &x, labels, pairs, each))
            .collect::<Result<Vec<_>, _>>()?;
        let mut curve = Vec::new();
        let fitted = Fitted::fit(
            run,
            &run.learner,
            &x,
            labels,
            pairs.cloned(),
            &mut |step, value| {
                curve.push((step, value));
                watch(step, value)
            },
        )?;
        Ok(Self {
            scores,
            fitted,
            curve,
        })
    }

    /// What the report shows.
    pub fn panels(&self, run: &MetricRun, samples: &Samples) -> Vec<Panel> {
        let percent = |share: f64| format!("{:.2}", 100.0 * share);
        let chosen = &self.scores[0];
        let best = self
            .scores
            .iter()
            .max_by(|a, b| a.median().total_cmp(&b.median()))
            .unwrap_or(chosen);
        let (values, _) = linalg::symmetric_eigen(&self.fitted.metric.m());
        let mut spectrum: Vec<f64> = values.iter().copied().collect();
        spectrum.sort_by(|a, b| b.total_cmp(a));
        let x = matrix(samples);
        let rows = self.scores.iter().map(|score| {
            let ends =
                |f: fn(f64, f64) -> f64, from| score.accuracies.iter().copied().fold(from, f);
            vec![
                score.learner.to_owned(),
                percent(score.median()),
                percent(ends(f64::min, f64::INFINITY)),
                percent(ends(f64::max, f64::NEG_INFINITY)),
                format!("{:.1e}", score.smallest_eigenvalue),
            ]
        });
        vec![
            Panel::figures(
                "Nearest neighbours, cross-validated",
                vec![
                    Figure::new(
                        format!("{}, % right", chosen.learner),
                        100.0 * chosen.median(),
                    ),
                    Figure::new(
                        format!("best: {}, % right", best.learner),
                        100.0 * best.median(),
                    ),
                    Figure::new(
                        "smallest eigenvalue of M",
                        self.fitted.metric.smallest_eigenvalue(),
                    ),
                    Figure::new("samples", samples.len() as f64),
                ],
            ),
            Panel::Table {
                title: "Learners".into(),
                columns: [
                    "learner",
                    "median %",
                    "lowest %",
                    "highest %",
                    "smallest eigenvalue",
                ]
                .map(str::to_owned)
                .to_vec(),
                rows: rows.collect(),
                note: format!(
                    "Accuracy of {} nearest neighbours; {} folds; times that they were dealt out: {}; kernel: {}.",
                    run.evaluate.neighbours,
                    run.evaluate.folds,
                    run.evaluate.repeats,
                    match run.kernel {
                        Kernel::None => "none",
                        Kernel::Linear => "linear",
                        Kernel::Rbf { .. } => "RBF",
                        Kernel::Polynomial { .. } => "polynomial",
                    }
                ),
            },
            map(
                "Before: standardised samples",
                &Standard::fit(&x).apply(&x),
                samples,
            ),
            map(
                "After: the learned distance",
                &self.fitted.embed(&x),
                samples,
            ),
            Panel::Lines {
                title: "Eigenvalues of M".into(),
                x_label: "rank".into(),
                lines: vec![NamedPoints {
                    name: "eigenvalue".into(),
                    points: (1..).map(f64::from).zip(spectrum).collect(),
                }],
                note: "How many directions the distance looks at.".into(),
            },
        ]
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::labelled::{Shape, Values};

    fn samples() -> Samples {
        let (x, labels) = super::super::tests::three_classes(60, 4);
        let values = x.transpose().iter().map(|v| *v as f32).collect();
        let shape = Shape {
            height: 1,
            width: 1,
            channels: 4,
        };
        Samples::new(shape, Values::Numbers(values), labels, vec![]).unwrap()
    }

    #[test]
    fn a_study_scores_every_learner_and_its_report_names_them() {
        let run = MetricRun {
            evaluate: super::super::EvaluateConfig {
                folds: 3,
                repeats: 2,
                ..Default::default()
            },
            ..MetricRun::default()
        };
        let done = std::sync::atomic::AtomicUsize::new(0);
        let each = || {
            done.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        };
        let study = Study::of(&run, &samples(), None, &each, &mut |_, _| true).unwrap();
        assert_eq!(done.into_inner(), 3 * 2 * Learner::all().len());
        assert_eq!(study.scores[0].learner, "lmnn");
        assert!(
            study.scores.iter().all(|s| s.median() > 0.6),
            "{:?}",
            study.scores
        );
        assert!(!study.curve.is_empty());
        let text = serde_json::to_string(&study.panels(&run, &samples())).unwrap();
        for learner in Learner::all() {
            assert!(text.contains(learner.name()));
        }
    }

    #[test]
    fn held_out_samples_do_not_move_the_standard() {
        let x = DMatrix::from_row_slice(4, 1, &[1.0, 3.0, 1.0, 3.0]);
        let standard = Standard::fit(&x);
        let far = standard.apply(&DMatrix::from_element(1, 1, 12.0));
        assert_eq!(far[(0, 0)], 10.0);
        let constant = Standard::fit(&DMatrix::from_element(3, 1, 5.0));
        assert_eq!(
            constant.apply(&DMatrix::from_element(1, 1, 5.0))[(0, 0)],
            0.0
        );
    }
}
