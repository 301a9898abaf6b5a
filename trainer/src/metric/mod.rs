//! Distances learned from examples: `d(x, y)^2 = (x - y)^T M (x - y)` with `M = L L^T`.
//!
//! In: samples with classes, or sets S of similar and D of dissimilar pairs. Out: a [`Metric`], which is a linear map `L`:
//! the distance is that of the points `L^T x`. `M` is positive semidefinite by construction, and [`Metric::of_m`] refuses
//! matrices that are not.
//!
//! | learner | what it descends | |
//! |---|---|---|
//! | [`nca`] | expected leave-one-out errors of soft neighbours | Goldberger et al. 2005 |
//! | [`lmnn`] | pulls k chosen neighbours in, pushes impostors out by a margin | Weinberger and Saul 2009 |
//! | [`itml`] | LogDet divergence from the identity under bounds on pairs of S and D | Davis et al. 2007 |
//! | [`kissme`] | nothing: the covariance of S against that of D | Koestinger et al. 2012 |
//! | covariance | nothing: `M` is the inverse covariance, Mahalanobis' own | 1936 |
//!
//! [`kernel`] makes any of them non-linear; [`neighbours`] scores them; [`study`] is the run of the command `metric`.
//!
//! ```
//! use nalgebra::DMatrix;
//! use roadhound_trainer::metric::{Learner, Metric, Teaching, nca::NcaConfig};
//! // The first column tells the classes apart, the second is noise.
//! let x = DMatrix::from_row_slice(4, 2, &[0.0, 1.0, 0.1, -1.0, 1.0, 0.9, 1.1, -1.1]);
//! let learner = Learner::Nca(NcaConfig::default());
//! let metric = learner.learn(&Teaching::of_labels(&x, &[0, 0, 1, 1]), &mut |_, _| true)?;
//! let m = metric.m();
//! assert!(m[(0, 0)] > 10.0 * m[(1, 1)] && metric.smallest_eigenvalue() >= -1e-10);
//! # Ok::<(), roadhound_trainer::metric::MetricError>(())
//! ```

use std::borrow::Cow;

use nalgebra::DMatrix;
use serde::{Deserialize, Serialize};

use crate::linalg;

mod config;
pub mod export;
pub mod itml;
pub mod kernel;
pub mod kissme;
pub mod lbfgs;
pub mod lmnn;
pub mod nca;
pub mod neighbours;
pub mod pairs;
pub mod study;

pub use config::{EvaluateConfig, MetricRun};

use self::itml::ItmlConfig;
use self::kissme::KissmeConfig;
use self::lmnn::LmnnConfig;
use self::nca::NcaConfig;
use self::pairs::{PairSets, PairsError};

/// A negative eigenvalue of `M` up to this size is rounding.
pub const EIGENVALUE_TOLERANCE: f64 = 1e-10;

/// Samples of a study at most: every learner compares all pairs, and a matrix of them takes 200 MB.
pub const MAX_SAMPLES: usize = 5_000;

/// Why a metric cannot be learned.
#[derive(Debug, thiserror::Error)]
pub enum MetricError {
    /// A matrix that is no metric.
    #[error("the smallest eigenvalue is {0:e}: not positive semidefinite")]
    NotSemidefinite(f64),
    /// Samples that nothing can be learned from.
    #[error("{0}")]
    Samples(String),
    /// Pairs that cannot be used.
    #[error(transparent)]
    Pairs(#[from] PairsError),
}

/// A linear map under which Euclid's distance is the learned one; see the module head.
#[derive(Clone, Debug, PartialEq)]
pub struct Metric {
    l: DMatrix<f64>,
}

impl Metric {
    /// Euclid's own, of `dimension` values.
    pub fn euclidean(dimension: usize) -> Self {
        Self {
            l: DMatrix::identity(dimension, dimension),
        }
    }

    /// The metric of a map.
    ///
    /// # Shapes
    /// - `l`: `[dimension, components]`
    pub fn of_l(l: DMatrix<f64>) -> Self {
        Self { l }
    }

    /// The metric of a symmetric matrix; eigenvalues that rounding made negative become zero.
    ///
    /// # Errors
    /// A matrix with an eigenvalue below [`EIGENVALUE_TOLERANCE`], or with values that are not numbers.
    pub fn of_m(m: &DMatrix<f64>) -> Result<Self, MetricError> {
        let (values, vectors) = linalg::symmetric_eigen(m);
        let smallest = values.iter().copied().fold(f64::INFINITY, f64::min);
        if smallest < -EIGENVALUE_TOLERANCE || values.iter().any(|v| v.is_nan()) {
            return Err(MetricError::NotSemidefinite(smallest));
        }
        let roots = values.map(|value| value.max(0.0).sqrt());
        Ok(Self {
            l: vectors * DMatrix::from_diagonal(&roots),
        })
    }

    /// The map, `[dimension, components]`.
    pub fn l(&self) -> &DMatrix<f64> {
        &self.l
    }

    /// `L L^T`, exactly symmetric.
    pub fn m(&self) -> DMatrix<f64> {
        let m = &self.l * self.l.transpose();
        (&m + m.transpose()) * 0.5
    }

    /// The smallest eigenvalue of `M`: zero, or rounding about it, where a direction does not count.
    pub fn smallest_eigenvalue(&self) -> f64 {
        linalg::smallest_eigenvalue(&self.m())
    }

    /// The points whose Euclidean distances are the learned ones.
    ///
    /// # Shapes
    /// - `rows`: `[n, dimension]`; returns `[n, components]`
    pub fn embed(&self, rows: &DMatrix<f64>) -> DMatrix<f64> {
        rows * &self.l
    }

    /// The squared distance of two samples.
    pub fn squared_distance(&self, a: &[f64], b: &[f64]) -> f64 {
        let difference = DMatrix::from_fn(1, a.len(), |_, c| a[c] - b[c]);
        self.embed(&difference).norm_squared()
    }
}

/// What a learner is taught from.
pub struct Teaching<'a> {
    /// One sample a row.
    pub x: &'a DMatrix<f64>,
    /// Its class.
    pub labels: &'a [u32],
    /// Pairs said to be similar or dissimilar; drawn from the classes where there are none.
    pub pairs: Option<PairSets>,
    /// Decides which pairs are drawn.
    pub seed: u64,
}

impl<'a> Teaching<'a> {
    /// Samples with classes and nothing else.
    pub fn of_labels(x: &'a DMatrix<f64>, labels: &'a [u32]) -> Self {
        Self {
            x,
            labels,
            pairs: None,
            seed: 0,
        }
    }
}

impl Teaching<'_> {
    /// The pairs that were given; without any, so many of each kind drawn from the classes.
    fn pairs_or(&self, count: usize) -> Result<Cow<'_, PairSets>, PairsError> {
        Ok(match &self.pairs {
            Some(pairs) => Cow::Borrowed(pairs),
            None => Cow::Owned(PairSets::of_labels(self.labels, count, self.seed)?),
        })
    }
}

/// Told the iteration and the objective after each; `false` ends the learning there.
pub type Watch<'a> = dyn FnMut(u64, f64) -> bool + 'a;

/// What learns, with its settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Learner {
    /// Learns nothing.
    Euclidean,
    /// The inverse covariance.
    Covariance(CovarianceConfig),
    /// Neighbourhood components analysis.
    Nca(NcaConfig),
    /// Large-margin nearest neighbours.
    Lmnn(LmnnConfig),
    /// Information-theoretic metric learning.
    Itml(ItmlConfig),
    /// Two covariances.
    Kissme(KissmeConfig),
}

/// Settings of the inverse covariance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CovarianceConfig {
    /// Added to the covariance's diagonal, as a share of its mean.
    pub ridge: f64,
}

impl Default for CovarianceConfig {
    fn default() -> Self {
        Self { ridge: 1e-6 }
    }
}

impl Learner {
    /// Every learner with its default settings.
    pub fn all() -> Vec<Self> {
        vec![
            Self::Euclidean,
            Self::Covariance(CovarianceConfig::default()),
            Self::Nca(NcaConfig::default()),
            Self::Lmnn(LmnnConfig::default()),
            Self::Itml(ItmlConfig::default()),
            Self::Kissme(KissmeConfig::default()),
        ]
    }

    /// Its name in the configuration.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Euclidean => "euclidean",
            Self::Covariance(_) => "covariance",
            Self::Nca(_) => "nca",
            Self::Lmnn(_) => "lmnn",
            Self::Itml(_) => "itml",
            Self::Kissme(_) => "kissme",
        }
    }

    /// Whether it learns from pairs, so that some can be given.
    pub fn takes_pairs(&self) -> bool {
        matches!(self, Self::Itml(_) | Self::Kissme(_))
    }

    /// Learns.
    ///
    /// # Errors
    /// Samples that nothing can be learned from, and a result that is no metric: both say why.
    pub fn learn(
        &self,
        teaching: &Teaching<'_>,
        watch: &mut Watch<'_>,
    ) -> Result<Metric, MetricError> {
        let x = teaching.x;
        if x.nrows() < 2 || x.ncols() == 0 || x.nrows() != teaching.labels.len() {
            return Err(MetricError::Samples(format!(
                "{} samples of {} values with {} classes given, expected two samples or more",
                x.nrows(),
                x.ncols(),
                teaching.labels.len()
            )));
        }
        let metric = match self {
            Self::Euclidean => Metric::euclidean(x.ncols()),
            Self::Covariance(config) => {
                let mut covariance = linalg::covariance(x);
                let ridge = config.ridge * covariance.trace() / x.ncols() as f64;
                for i in 0..x.ncols() {
                    covariance[(i, i)] += ridge.max(f64::MIN_POSITIVE);
                }
                Metric::of_m(&linalg::of_eigenvalues(&covariance, f64::recip))?
            }
            Self::Nca(config) => nca::learn(x, teaching.labels, config, watch),
            Self::Lmnn(config) => lmnn::learn(x, teaching.labels, config, watch)?,
            Self::Itml(config) => {
                let pairs = teaching.pairs_or(config.pairs(teaching.labels))?;
                itml::learn(x, &pairs, config, watch)?
            }
            Self::Kissme(config) => kissme::learn(x, &*teaching.pairs_or(config.pairs)?, config)?,
        };
        let smallest = metric.smallest_eigenvalue();
        match smallest >= -EIGENVALUE_TOLERANCE {
            true => Ok(metric),
            false => Err(MetricError::NotSemidefinite(smallest)),
        }
    }
}

/// `X^T (D - W) X L` for symmetric pair weights `W` and their row sums `D`: the gradient of
/// `1/4 sum_ij W_ij |L^T (x_i - x_j)|^2`, which is what the objectives here are made of.
///
/// # Shapes
/// - `x`: `[n, d]`, `embedded`: `[n, r]`, `weights`: `[n, n]` symmetric; returns `[d, r]`
pub(crate) fn pair_gradient(
    x: &DMatrix<f64>,
    embedded: &DMatrix<f64>,
    weights: &DMatrix<f64>,
) -> DMatrix<f64> {
    let mut pulled = weights * embedded * -1.0;
    for (i, mut row) in pulled.row_iter_mut().enumerate() {
        let degree: f64 = weights.column(i).sum();
        row += embedded.row(i) * degree;
    }
    x.tr_mul(&pulled)
}

/// Squared distances between all rows, `[n, n]`.
pub(crate) fn squared_distances(rows: &DMatrix<f64>) -> DMatrix<f64> {
    let products = rows * rows.transpose();
    DMatrix::from_fn(rows.nrows(), rows.nrows(), |i, j| match i == j {
        true => 0.0,
        false => (products[(i, i)] + products[(j, j)] - 2.0 * products[(i, j)]).max(0.0),
    })
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    /// Three classes apart in two of `dimension` columns, the others noise; deterministic.
    pub(crate) fn three_classes(count: usize, dimension: usize) -> (DMatrix<f64>, Vec<u32>) {
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let labels: Vec<u32> = (0..count).map(|i| (i % 3) as u32).collect();
        let x = DMatrix::from_fn(count, dimension, |i, c| {
            let noise: f64 = (0..4).map(|_| rng.random_range(-1.0..1.0)).sum();
            let centre = [[0.0, 0.0], [4.0, 0.0], [0.0, 4.0]][i % 3];
            noise + centre.get(c).copied().unwrap_or(0.0)
        });
        (x, labels)
    }

    /// The same with the noise three times as large: Euclid's distance is mostly of that.
    pub(crate) fn loud_noise(count: usize, dimension: usize) -> (DMatrix<f64>, Vec<u32>) {
        let (mut x, labels) = three_classes(count, dimension);
        x.columns_mut(2, dimension - 2).scale_mut(3.0);
        (x, labels)
    }

    #[test]
    fn every_learner_gives_a_metric_whose_eigenvalues_are_not_negative() {
        let (x, labels) = three_classes(60, 6);
        for learner in Learner::all() {
            let metric = learner
                .learn(&Teaching::of_labels(&x, &labels), &mut |_, _| true)
                .unwrap();
            let name = learner.name();
            assert!(
                metric.smallest_eigenvalue() >= -EIGENVALUE_TOLERANCE,
                "{name}"
            );
            let d = |i: usize, j: usize| {
                let row = |k: usize| x.row(k).iter().copied().collect::<Vec<_>>();
                metric.squared_distance(&row(i), &row(j))
            };
            assert_eq!(d(3, 3), 0.0, "{name}");
            assert_eq!(d(3, 7), d(7, 3), "{name}");
            // The distance of the points is that of the matrix.
            let difference = x.row(3) - x.row(7);
            let by_m = (&difference * metric.m() * difference.transpose())[(0, 0)];
            assert!((by_m - d(3, 7)).abs() < 1e-9 * (1.0 + by_m), "{name}");
        }
    }

    #[test]
    fn a_matrix_with_a_negative_eigenvalue_is_no_metric() {
        let bad = DMatrix::from_row_slice(2, 2, &[1.0, 2.0, 2.0, 1.0]);
        let said = Metric::of_m(&bad).unwrap_err().to_string();
        assert!(said.contains("not positive semidefinite"), "{said}");
        let nan = DMatrix::from_row_slice(1, 1, &[f64::NAN]);
        assert!(Metric::of_m(&nan).is_err());
        let rounded = DMatrix::from_row_slice(2, 2, &[1.0, 1.0, 1.0, 1.0 - 1e-13]);
        assert!(Metric::of_m(&rounded).unwrap().smallest_eigenvalue() >= -EIGENVALUE_TOLERANCE);
    }

    #[test]
    fn whitening_makes_the_covariance_the_identity() {
        let (x, labels) = three_classes(90, 4);
        let learner = Learner::Covariance(CovarianceConfig { ridge: 0.0 });
        let metric = learner
            .learn(&Teaching::of_labels(&x, &labels), &mut |_, _| true)
            .unwrap();
        let white = linalg::covariance(&metric.embed(&x));
        assert!((white - DMatrix::identity(4, 4)).abs().max() < 1e-9);
    }
}
