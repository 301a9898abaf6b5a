//! Information-theoretic metric learning (Davis, Kulis, Jain, Sra and Dhillon 2007).
//!
//! Of all matrices under which similar pairs are closer than `u` and dissimilar ones farther than `l` (squared distances,
//! with slack weighed by `gamma`), the one nearest to the identity in the LogDet divergence. Pairs are met one after the
//! other by Bregman projections, each of rank one, which keep the matrix positive definite.

use std::collections::BTreeSet;

use nalgebra::DMatrix;
use serde::{Deserialize, Serialize};

use super::pairs::PairSets;
use super::{Metric, MetricError, Watch};

/// Settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ItmlConfig {
    /// Pairs of each kind that are drawn from the classes; 0 for twenty times the square of their number.
    pub pairs: usize,
    /// Share of all distances that lie below the bound of similar pairs; as many lie above that of dissimilar ones.
    pub tail: f64,
    /// Weight of the slack: larger holds the bounds more strictly.
    pub gamma: f64,
    /// Rounds over all pairs at most.
    pub iterations: u64,
    /// Ends where a round changes the multipliers by less than this share.
    pub change: f64,
}

impl Default for ItmlConfig {
    fn default() -> Self {
        Self {
            pairs: 0,
            tail: 0.05,
            gamma: 1.0,
            iterations: 1000,
            change: 1e-3,
        }
    }
}

impl ItmlConfig {
    /// Pairs of each kind to draw.
    pub(super) fn pairs(&self, labels: &[u32]) -> usize {
        let classes: BTreeSet<&u32> = labels.iter().collect();
        match self.pairs {
            0 => 20 * classes.len().pow(2),
            pairs => pairs,
        }
    }
}

/// Learns from the identity.
///
/// # Errors
/// A result that is no metric.
pub fn learn(
    x: &DMatrix<f64>,
    pairs: &PairSets,
    config: &ItmlConfig,
    watch: &mut Watch<'_>,
) -> Result<Metric, MetricError> {
    let differences = |of: &[(usize, usize)]| -> Vec<DMatrix<f64>> {
        // A pair of equal samples says nothing about a distance.
        let rows = of.iter().map(|(a, b)| (x.row(*a) - x.row(*b)).transpose());
        rows.map(|v| DMatrix::from_column_slice(v.len(), 1, v.as_slice()))
            .filter(|v| v.norm_squared() > 1e-18)
            .collect()
    };
    let (upper, lower) = bounds(x, config.tail);
    // 1 for a similar pair, whose distance has an upper bound, and -1 for a dissimilar one.
    let mut met: Vec<(DMatrix<f64>, f64, f64)> = Vec::new();
    met.extend(
        differences(&pairs.similar)
            .into_iter()
            .map(|v| (v, 1.0, upper)),
    );
    met.extend(
        differences(&pairs.dissimilar)
            .into_iter()
            .map(|v| (v, -1.0, lower)),
    );
    let mut m = DMatrix::identity(x.ncols(), x.ncols());
    let mut multipliers = vec![0.0f64; met.len()];
    let mut before = multipliers.clone();
    let slack_share = config.gamma / (config.gamma + 1.0);
    for round in 1..=config.iterations {
        for ((v, sign, bound), multiplier) in met.iter_mut().zip(&mut multipliers) {
            let moved = &m * &*v;
            let distance = v.tr_mul(&moved)[(0, 0)];
            let towards = match *sign > 0.0 {
                true => slack_share * (1.0 / distance - 1.0 / *bound),
                false => slack_share * (1.0 / *bound - 1.0 / distance),
            };
            let alpha = multiplier.min(towards);
            *multiplier -= alpha;
            let beta = *sign * alpha / (1.0 - *sign * alpha * distance);
            *bound = match *sign > 0.0 {
                true => 1.0 / (1.0 / *bound + alpha / config.gamma),
                false => 1.0 / (1.0 / *bound - alpha / config.gamma),
            };
            m += (&moved * moved.transpose()) * beta;
        }
        let size = |v: &[f64]| v.iter().map(|x| x * x).sum::<f64>().sqrt();
        let scale = size(&multipliers) + size(&before);
        let moved: f64 = multipliers
            .iter()
            .zip(&before)
            .map(|(a, b)| (a - b).abs())
            .sum();
        let change = moved / scale.max(f64::MIN_POSITIVE);
        before.copy_from_slice(&multipliers);
        if !watch(round, change) || scale == 0.0 || change < config.change {
            break;
        }
    }
    Metric::of_m(&((&m + m.transpose()) * 0.5))
}

/// The squared distances that `tail` of all pairs lie below, and above.
fn bounds(x: &DMatrix<f64>, tail: f64) -> (f64, f64) {
    let distances = super::squared_distances(x);
    let n = x.nrows();
    let mut all: Vec<f64> = (0..n)
        .flat_map(|i| (0..i).map(move |j| (i, j)))
        .map(|at| distances[at])
        .collect();
    all.sort_by(f64::total_cmp);
    let at = |share: f64| all[((all.len() - 1) as f64 * share).round() as usize].max(1e-9);
    (at(tail), at(1.0 - tail))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::tests::three_classes;
    use super::*;

    #[test]
    fn similar_pairs_come_closer_and_dissimilar_ones_go_farther() {
        let (x, labels) = three_classes(60, 5);
        let pairs = PairSets::of_labels(&labels, 100, 1).unwrap();
        let metric = learn(&x, &pairs, &ItmlConfig::default(), &mut |_, _| true).unwrap();
        let ratio = |metric: &Metric| {
            let points = metric.embed(&x);
            let mean = |of: &[(usize, usize)]| {
                let squared = of
                    .iter()
                    .map(|(a, b)| (points.row(*a) - points.row(*b)).norm_squared());
                squared.sum::<f64>() / of.len() as f64
            };
            mean(&pairs.dissimilar) / mean(&pairs.similar)
        };
        let (before, after) = (ratio(&Metric::euclidean(5)), ratio(&metric));
        assert!(after > 1.3 * before, "{before} {after}");
        assert!(metric.smallest_eigenvalue() > 0.0);
    }

    #[test]
    fn one_pair_too_far_apart_is_brought_towards_its_bound_along_its_own_direction_only() {
        let x = DMatrix::from_row_slice(3, 2, &[0.0, 0.0, 3.0, 0.0, 0.0, 1.0]);
        let pairs = PairSets {
            similar: vec![(0, 1)],
            dissimilar: vec![],
        };
        let m = learn(&x, &pairs, &ItmlConfig::default(), &mut |_, _| true)
            .unwrap()
            .m();
        assert!(m[(0, 0)] < 0.7 && (m[(1, 1)] - 1.0).abs() < 1e-12, "{m}");
        assert!(m[(0, 1)].abs() < 1e-12);
    }
}
