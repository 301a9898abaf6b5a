//! Large-margin nearest neighbours (Weinberger and Saul 2009).
//!
//! Every sample has k target neighbours, its nearest of its own class before anything is learned. What is lowered is
//! `(1 - push) sum_ij d_ij + push sum_ij sum_l h(1 + d_ij - d_il)`, over targets j of i and samples l of other classes,
//! divided by the number of targets; d are squared distances under `L`. The original solves for `M`; descending `L`
//! keeps `M` positive semidefinite by itself.
//!
//! The original's hinge `h(z) = [z]_+` has a kink at which a descent gets stuck, or goes one way or the other by the last
//! bit; here it is rounded (Rennie and Srebro 2005): `z^2 / 2` up to 1, `z - 1/2` beyond.

use nalgebra::DMatrix;
use serde::{Deserialize, Serialize};

use super::lbfgs::{Limits, minimise};
use super::{Metric, MetricError, Watch, pair_gradient, squared_distances};

/// Settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LmnnConfig {
    /// Target neighbours of a sample.
    pub neighbours: usize,
    /// Weight of pushing impostors out; pulling targets in has the rest.
    pub push: f64,
    /// Steps of the descent at most.
    pub iterations: u64,
}

impl Default for LmnnConfig {
    fn default() -> Self {
        Self {
            neighbours: 3,
            push: 0.5,
            iterations: 500,
        }
    }
}

/// Learns from the identity.
///
/// # Errors
/// A class of one sample has no target.
pub fn learn(
    x: &DMatrix<f64>,
    labels: &[u32],
    config: &LmnnConfig,
    watch: &mut Watch<'_>,
) -> Result<Metric, MetricError> {
    let side = x.ncols();
    let targets = targets(x, labels, config.neighbours);
    if targets.is_empty() {
        let reason = "no two samples are of one class: LMNN has no neighbours to keep";
        return Err(MetricError::Samples(reason.into()));
    }
    // Convex in M, so that the lowest point is worth finding: whoever comes from another start ends at the same distances.
    let limits = Limits {
        iterations: config.iterations,
        change: 1e-13,
        ..Limits::default()
    };
    let start = DMatrix::<f64>::identity(side, side).as_slice().to_vec();
    let found = minimise(
        |l| {
            let l = DMatrix::from_column_slice(side, side, l);
            let (value, gradient) = objective(x, labels, &targets, &l, config.push);
            (value, gradient.as_slice().to_vec())
        },
        start,
        &limits,
        watch,
    );
    Ok(Metric::of_l(DMatrix::from_column_slice(side, side, &found)))
}

/// Every sample with its nearest `neighbours` of its own class, as pairs.
pub fn targets(x: &DMatrix<f64>, labels: &[u32], neighbours: usize) -> Vec<(usize, usize)> {
    let distances = squared_distances(x);
    let mut pairs = Vec::new();
    for i in 0..x.nrows() {
        let mut own: Vec<usize> = (0..x.nrows())
            .filter(|j| *j != i && labels[*j] == labels[i])
            .collect();
        own.sort_by(|a, b| {
            distances[(i, *a)]
                .total_cmp(&distances[(i, *b)])
                .then(a.cmp(b))
        });
        pairs.extend(own.into_iter().take(neighbours).map(|j| (i, j)));
    }
    pairs
}

/// Value and gradient.
///
/// # Shapes
/// - `x`: `[n, d]`, `l`: `[d, r]`; the gradient is `[d, r]`
pub fn objective(
    x: &DMatrix<f64>,
    labels: &[u32],
    targets: &[(usize, usize)],
    l: &DMatrix<f64>,
    push: f64,
) -> (f64, DMatrix<f64>) {
    let n = x.nrows();
    let embedded = x * l;
    let distances = squared_distances(&embedded);
    let mut weights = DMatrix::zeros(n, n);
    let mut value = 0.0;
    for &(i, j) in targets {
        value += (1.0 - push) * distances[(i, j)];
        weights[(i, j)] += 1.0 - push;
        let reach = 1.0 + distances[(i, j)];
        for k in (0..n).filter(|k| labels[*k] != labels[i]) {
            let inside = reach - distances[(i, k)];
            let (cost, slope) = rounded_hinge(inside);
            if slope > 0.0 {
                value += push * cost;
                weights[(i, j)] += push * slope;
                weights[(i, k)] -= push * slope;
            }
        }
    }
    let count = targets.len().max(1) as f64;
    let symmetric = &weights + weights.transpose();
    let gradient = pair_gradient(x, &embedded, &symmetric) * (2.0 / count);
    (value / count, gradient)
}

/// Value and slope of the hinge; see the module head.
fn rounded_hinge(z: f64) -> (f64, f64) {
    match z {
        z if z <= 0.0 => (0.0, 0.0),
        z if z < 1.0 => (0.5 * z * z, z),
        z => (z - 0.5, 1.0),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::tests::{loud_noise, three_classes};
    use super::*;

    #[test]
    fn the_gradient_agrees_with_finite_differences() {
        let (x, labels) = three_classes(24, 4);
        let targets = targets(&x, &labels, 3);
        let l = DMatrix::from_fn(4, 4, |r, c| {
            if r == c {
                0.8
            } else {
                0.05 * (r + 2 * c) as f64
            }
        });
        let (_, gradient) = objective(&x, &labels, &targets, &l, 0.4);
        for at in 0..l.len() {
            let moved = |step: f64| {
                let mut l = l.clone();
                l[at] += step;
                objective(&x, &labels, &targets, &l, 0.4).0
            };
            let numeric = (moved(1e-6) - moved(-1e-6)) / 2e-6;
            assert!(
                (numeric - gradient[at]).abs() < 1e-5,
                "{numeric} {}",
                gradient[at]
            );
        }
    }

    #[test]
    fn targets_are_the_nearest_of_the_own_class() {
        let x = DMatrix::from_row_slice(5, 1, &[0.0, 1.0, 1.1, 3.0, 0.2]);
        assert_eq!(
            targets(&x, &[0, 0, 1, 0, 1], 1),
            [(0, 1), (1, 0), (2, 4), (3, 1), (4, 2)]
        );
        assert!(
            learn(&x, &[0, 1, 2, 3, 4], &LmnnConfig::default(), &mut |_, _| {
                true
            })
            .is_err()
        );
    }

    #[test]
    fn impostors_inside_the_margin_become_fewer() {
        let (x, labels) = loud_noise(90, 6);
        let targets = targets(&x, &labels, 3);
        let value = |metric: &Metric| objective(&x, &labels, &targets, metric.l(), 1.0).0;
        let learned = learn(&x, &labels, &LmnnConfig::default(), &mut |_, _| true).unwrap();
        let (before, after) = (value(&Metric::euclidean(6)), value(&learned));
        assert!(after < 0.5 * before, "{before} {after}");
    }
}
