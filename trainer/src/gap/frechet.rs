//! The Frechet distance between normal distributions: what lies between the means and the covariances of two sets
//! (Dowson and Landau 1982; as FID, Heusel et al. 2017).
//!
//! With samples the estimate is too large by an amount that grows with the number of features and shrinks with the
//! number of samples, also for sets of one distribution: read it beside its null.

use nalgebra::{DMatrix, DVector};

use crate::linalg;

/// Mean and covariance of a set.
#[derive(Clone, Debug, PartialEq)]
pub struct Moments {
    /// Mean of each feature.
    pub mean: DVector<f64>,
    /// Covariance, divided by one less than the number of samples.
    pub covariance: DMatrix<f64>,
}

impl Moments {
    /// The moments of at least two samples.
    ///
    /// # Shapes
    /// `rows`: samples of one length.
    pub fn of(rows: &[Vec<f64>]) -> Self {
        let rows = linalg::from_rows(rows);
        Self {
            mean: linalg::column_means(&rows),
            covariance: linalg::covariance(&rows),
        }
    }

    /// `|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2))`. The last trace is that of `(R C2 R)^(1/2)` with `R` the root of
    /// `C1`, which is symmetric.
    pub fn distance(&self, other: &Self) -> f64 {
        let between = (&self.mean - &other.mean).norm_squared();
        let root = linalg::symmetric_root(&self.covariance);
        let (values, _) = linalg::symmetric_eigen(&(&root * &other.covariance * &root));
        let shared: f64 = values.iter().map(|v| v.max(0.0).sqrt()).sum();
        between + self.covariance.trace() + other.covariance.trace() - 2.0 * shared
    }
}

/// The distance between two sets of samples.
pub fn distance(a: &[Vec<f64>], b: &[Vec<f64>]) -> f64 {
    Moments::of(a).distance(&Moments::of(b))
}

#[cfg(test)]
mod tests {
    use super::super::tests::gaussian;
    use super::*;

    #[test]
    fn independent_features_add_the_squares_of_their_differences() {
        // For one feature: (m1 - m2)^2 + (s1 - s2)^2.
        let moments = |mean: &[f64], deviation: &[f64]| Moments {
            mean: DVector::from_column_slice(mean),
            covariance: DMatrix::from_diagonal(
                &DVector::from_column_slice(deviation).map(|s| s * s),
            ),
        };
        let a = moments(&[0.0, 1.0, -2.0], &[1.0, 2.0, 0.5]);
        let b = moments(&[3.0, 1.0, -1.0], &[1.0, 0.5, 0.25]);
        let expected = 9.0 + 1.5f64.powi(2) + 1.0 + 0.25f64.powi(2);
        assert!((a.distance(&b) - expected).abs() < 1e-12);
        assert!((b.distance(&a) - expected).abs() < 1e-12);
        assert!(a.distance(&a).abs() < 1e-12);
    }

    #[test]
    fn covariances_that_do_not_commute_agree_with_the_closed_form_in_two_dimensions() {
        // tr (C1 C2)^(1/2) = sqrt(tr(C1 C2) + 2 sqrt(det C1 det C2)) for 2x2.
        let matrix = |a: f64, b: f64, c: f64| DMatrix::from_row_slice(2, 2, &[a, b, b, c]);
        let (c1, c2) = (matrix(2.0, 0.6, 1.0), matrix(0.5, -0.3, 3.0));
        let (det1, det2) = (2.0 - 0.36, 1.5 - 0.09);
        let shared = ((&c1 * &c2).trace() + 2.0 * f64::sqrt(det1 * det2)).sqrt();
        let expected = 3.0 + 3.5 - 2.0 * shared;
        let moments = |covariance| Moments {
            mean: DVector::zeros(2),
            covariance,
        };
        assert!((moments(c1).distance(&moments(c2)) - expected).abs() < 1e-12);
    }

    #[test]
    fn samples_approach_the_distance_of_their_distributions() {
        let a = gaussian(20_000, &[(0.0, 1.0), (2.0, 0.5)], 1);
        let b = gaussian(20_000, &[(1.0, 1.0), (2.0, 1.5)], 2);
        let found = distance(a.rows(), b.rows());
        assert!((found - 2.0).abs() < 0.06, "{found}");
    }
}
