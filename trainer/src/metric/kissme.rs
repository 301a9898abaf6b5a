//! Keep it simple and straightforward: a metric from two covariances (Koestinger, Hirzer, Wohlhart, Roth and Bischof 2012).
//!
//! In: samples, pairs that are similar and pairs that are not. Out: `M`, the inverse covariance of similar differences less
//! that of dissimilar ones: the logarithm of how much likelier a difference is between strangers, if both are normal. What
//! is negative in it is cut off, so that it is a metric. Nothing is descended and no class is asked for.
//!
//! ```
//! use nalgebra::DMatrix;
//! use roadhound_trainer::metric::kissme::{KissmeConfig, learn};
//! use roadhound_trainer::metric::pairs::PairSets;
//! // The first column tells apart, the second is noise.
//! let x = DMatrix::from_row_slice(4, 2, &[0.0, 1.0, 0.1, -1.0, 1.0, 0.9, 1.1, -1.1]);
//! let pairs = PairSets { similar: vec![(0, 1), (2, 3)], dissimilar: vec![(0, 2), (1, 3), (0, 3)] };
//! let m = learn(&x, &pairs, &KissmeConfig::default())?.m();
//! assert!(m[(0, 0)] > 10.0 * m[(1, 1)].abs());
//! # Ok::<(), roadhound_trainer::metric::MetricError>(())
//! ```

use nalgebra::DMatrix;
use serde::{Deserialize, Serialize};

use super::pairs::PairSets;
use super::{Metric, MetricError};
use crate::linalg;

/// Settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KissmeConfig {
    /// Pairs of each kind that are drawn from the classes where none are given.
    pub pairs: usize,
    /// Added to both covariances' diagonals, as a share of their means.
    pub ridge: f64,
}

impl Default for KissmeConfig {
    fn default() -> Self {
        Self {
            pairs: 10_000,
            ridge: 1e-3,
        }
    }
}

/// Learns.
///
/// # Errors
/// No pairs of a kind, or similar ones that differ as much as dissimilar ones in every direction.
pub fn learn(
    x: &DMatrix<f64>,
    pairs: &PairSets,
    config: &KissmeConfig,
) -> Result<Metric, MetricError> {
    let inverse = |pairs: &[(usize, usize)], kind: &str| {
        if pairs.is_empty() {
            return Err(MetricError::Samples(format!("no {kind} pairs")));
        }
        let mut covariance = DMatrix::zeros(x.ncols(), x.ncols());
        for (a, b) in pairs {
            let difference = x.row(*a) - x.row(*b);
            covariance += difference.tr_mul(&difference);
        }
        covariance /= pairs.len() as f64;
        let ridge = config.ridge * covariance.trace() / x.ncols() as f64;
        for i in 0..x.ncols() {
            covariance[(i, i)] += ridge.max(f64::MIN_POSITIVE);
        }
        Ok(linalg::of_eigenvalues(&covariance, f64::recip))
    };
    let m = inverse(&pairs.similar, "similar")? - inverse(&pairs.dissimilar, "dissimilar")?;
    let m = linalg::of_eigenvalues(&m, |value| value.max(0.0));
    if m.trace() <= 0.0 || m.trace().is_nan() {
        return Err(MetricError::Samples(
            "similar pairs differ as much as dissimilar ones in every direction".into(),
        ));
    }
    Metric::of_m(&m)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::metric::tests::loud_noise;

    #[test]
    fn directions_of_noise_count_for_less_and_strangers_are_farther_apart_than_mates() {
        let (x, labels) = loud_noise(120, 6);
        let pairs = PairSets::of_labels(&labels, 2_000, 1).unwrap();
        let metric = learn(&x, &pairs, &KissmeConfig::default()).unwrap();
        let m = metric.m();
        for noise in 2..6 {
            assert!(m[(0, 0)] > 5.0 * m[(noise, noise)], "{m}");
        }
        let mean = |pairs: &[(usize, usize)]| {
            let points = metric.embed(&x);
            let of = |(a, b): &(usize, usize)| (points.row(*a) - points.row(*b)).norm_squared();
            pairs.iter().map(of).sum::<f64>() / pairs.len() as f64
        };
        let held_out = PairSets::of_labels(&labels, 500, 2).unwrap();
        assert!(mean(&held_out.dissimilar) > 2.0 * mean(&held_out.similar));
    }

    #[test]
    fn pairs_that_say_nothing_are_refused() {
        let (x, labels) = loud_noise(30, 4);
        let mut pairs = PairSets::of_labels(&labels, 50, 1).unwrap();
        std::mem::swap(&mut pairs.similar, &mut pairs.dissimilar);
        pairs.similar.clear();
        let said = learn(&x, &pairs, &KissmeConfig::default()).unwrap_err();
        assert!(said.to_string().contains("no similar pairs"), "{said}");
        let same = vec![(0, 1), (2, 3), (4, 5), (6, 7), (8, 9)];
        let pairs = PairSets {
            similar: same.clone(),
            dissimilar: same,
        };
        let said = learn(&x, &pairs, &KissmeConfig::default()).unwrap_err();
        assert!(said.to_string().contains("as much as dissimilar"), "{said}");
    }
}
