//! Neighbourhood components analysis (Goldberger, Roweis, Hinton and Salakhutdinov 2005).
//!
//! Sample i picks neighbour j with probability `p_ij = softmax_j(-|L^T (x_i - x_j)|^2)`, itself excluded; what is lowered
//! is the expected share of wrong picks, `1 - 1/n sum_i sum_{j of i's class} p_ij`.

use nalgebra::DMatrix;
use serde::{Deserialize, Serialize};

use super::lbfgs::{Limits, minimise};
use super::{Metric, Watch, pair_gradient, squared_distances};

/// Settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NcaConfig {
    /// Steps of the descent at most.
    pub iterations: u64,
    /// Weight of `|L|^2 / n`, against classes that move apart for ever.
    pub ridge: f64,
}

impl Default for NcaConfig {
    fn default() -> Self {
        Self {
            iterations: 100,
            ridge: 0.0,
        }
    }
}

/// Learns from the identity.
pub fn learn(
    x: &DMatrix<f64>,
    labels: &[u32],
    config: &NcaConfig,
    watch: &mut Watch<'_>,
) -> Metric {
    let side = x.ncols();
    let limits = Limits {
        iterations: config.iterations,
        ..Limits::default()
    };
    let start = DMatrix::<f64>::identity(side, side).as_slice().to_vec();
    let found = minimise(
        |l| {
            let l = DMatrix::from_column_slice(side, side, l);
            let (value, gradient) = objective(x, labels, &l, config.ridge);
            (value, gradient.as_slice().to_vec())
        },
        start,
        &limits,
        watch,
    );
    Metric::of_l(DMatrix::from_column_slice(side, side, &found))
}

/// Value and gradient.
///
/// # Shapes
/// - `x`: `[n, d]`, `l`: `[d, r]`; the gradient is `[d, r]`
pub fn objective(
    x: &DMatrix<f64>,
    labels: &[u32],
    l: &DMatrix<f64>,
    ridge: f64,
) -> (f64, DMatrix<f64>) {
    let n = x.nrows();
    let embedded = x * l;
    let distances = squared_distances(&embedded);
    let mut weights = DMatrix::zeros(n, n);
    let mut right = 0.0;
    for i in 0..n {
        let others = || (0..n).filter(|j| *j != i);
        let nearest = others()
            .map(|j| distances[(i, j)])
            .fold(f64::INFINITY, f64::min);
        let total: f64 = others().map(|j| (nearest - distances[(i, j)]).exp()).sum();
        let p = |j: usize| (nearest - distances[(i, j)]).exp() / total;
        let p_right: f64 = others().filter(|j| labels[*j] == labels[i]).map(p).sum();
        right += p_right;
        for j in others() {
            let same = f64::from(u8::from(labels[j] == labels[i]));
            // The derivative of 1 - p_right by the squared distance.
            weights[(i, j)] = p(j) * (same - p_right);
        }
    }
    let count = n as f64;
    let symmetric = &weights + weights.transpose();
    let gradient = pair_gradient(x, &embedded, &symmetric) * (2.0 / count);
    (
        1.0 - right / count + ridge * l.norm_squared() / count,
        gradient + l * (2.0 * ridge / count),
    )
}

#[cfg(test)]
mod tests {
    use super::super::tests::{loud_noise, three_classes};
    use super::*;

    #[test]
    fn the_gradient_agrees_with_finite_differences() {
        let (x, labels) = three_classes(24, 4);
        let l = DMatrix::from_fn(4, 3, |r, c| 0.3 + 0.1 * (r as f64) - 0.2 * (c as f64));
        let (_, gradient) = objective(&x, &labels, &l, 0.3);
        for at in 0..l.len() {
            let moved = |step: f64| {
                let mut l = l.clone();
                l[at] += step;
                objective(&x, &labels, &l, 0.3).0
            };
            let numeric = (moved(1e-5) - moved(-1e-5)) / 2e-5;
            assert!(
                (numeric - gradient[at]).abs() < 1e-7,
                "{numeric} {}",
                gradient[at]
            );
        }
    }

    #[test]
    fn noise_columns_lose_their_weight() {
        let (x, labels) = loud_noise(90, 6);
        let metric = learn(&x, &labels, &NcaConfig::default(), &mut |_, _| true);
        let m = metric.m();
        let (useful, noise) = (m[(0, 0)] + m[(1, 1)], m[(4, 4)] + m[(5, 5)]);
        assert!(useful > 3.0 * noise, "{useful} {noise}");
    }
}
