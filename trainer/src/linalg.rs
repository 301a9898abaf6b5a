//! The little that is needed on top of `nalgebra`: symmetric matrices in double precision whose values come from data.
//!
//! In: symmetric matrices. Out: eigenvalues, roots, factors, always in finite time: `nalgebra`'s iteration has no end on
//! values that are not numbers unless it is given one.
//!
//! ```
//! use nalgebra::DMatrix;
//! use roadhound_trainer::linalg::{smallest_eigenvalue, symmetric_root};
//! let m = DMatrix::from_row_slice(2, 2, &[2.0, 1.0, 1.0, 2.0]);
//! assert!((smallest_eigenvalue(&m) - 1.0).abs() < 1e-12);
//! let root = symmetric_root(&m);
//! assert!((&root * &root - m).abs().max() < 1e-12);
//! ```

use nalgebra::linalg::SymmetricEigen;
use nalgebra::{DMatrix, DVector};

/// Steps of the iteration that finds eigenvalues, for each of them; it needs two or three.
const STEPS_PER_VALUE: usize = 60;

/// Eigenvalues of a symmetric matrix, and eigenvectors as columns; NaN where it has values that are not numbers.
pub fn symmetric_eigen(m: &DMatrix<f64>) -> (DVector<f64>, DMatrix<f64>) {
    let side = m.nrows();
    let found = m
        .iter()
        .all(|v| v.is_finite())
        .then(|| SymmetricEigen::try_new(m.clone(), f64::EPSILON, STEPS_PER_VALUE * (side + 1)));
    match found.flatten() {
        Some(eigen) => (eigen.eigenvalues, eigen.eigenvectors),
        None => (
            DVector::repeat(side, f64::NAN),
            DMatrix::repeat(side, side, f64::NAN),
        ),
    }
}

/// The smallest eigenvalue of a symmetric matrix; NaN where it has values that are not numbers.
pub fn smallest_eigenvalue(m: &DMatrix<f64>) -> f64 {
    let (values, _) = symmetric_eigen(m);
    match values.iter().any(|v| v.is_nan()) {
        true => f64::NAN,
        false => values.min(),
    }
}

/// `V f(D) V^T` of a symmetric matrix `V D V^T`.
pub fn of_eigenvalues(m: &DMatrix<f64>, f: impl Fn(f64) -> f64) -> DMatrix<f64> {
    let (values, vectors) = symmetric_eigen(m);
    let scaled = &vectors * DMatrix::from_diagonal(&values.map(f));
    scaled * vectors.transpose()
}

/// The positive root of a symmetric matrix without negative eigenvalues; what rounding made negative counts as zero.
pub fn symmetric_root(m: &DMatrix<f64>) -> DMatrix<f64> {
    of_eigenvalues(m, |value| value.max(0.0).sqrt())
}

/// A matrix of samples, one a row.
pub fn from_rows(rows: &[Vec<f64>]) -> DMatrix<f64> {
    let columns = rows.first().map_or(0, Vec::len);
    DMatrix::from_fn(rows.len(), columns, |r, c| rows[r][c])
}

/// Mean of each column.
pub fn column_means(rows: &DMatrix<f64>) -> DVector<f64> {
    let count = rows.nrows().max(1) as f64;
    DVector::from_fn(rows.ncols(), |c, _| rows.column(c).sum() / count)
}

/// Covariance of the columns, divided by one less than the number of rows.
pub fn covariance(rows: &DMatrix<f64>) -> DMatrix<f64> {
    let mean = column_means(rows);
    let mut centred = rows.clone();
    for mut row in centred.row_iter_mut() {
        row -= mean.transpose();
    }
    centred.tr_mul(&centred) / (rows.nrows() as f64 - 1.0).max(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Symmetric and positive definite, and not diagonal.
    fn example(side: usize) -> DMatrix<f64> {
        DMatrix::from_fn(side, side, |i, j| {
            1.0 / (1.0 + i.abs_diff(j) as f64) + if i == j { i as f64 } else { 0.0 }
        })
    }

    #[test]
    fn eigenvectors_rebuild_the_matrix_and_are_orthogonal() {
        let m = example(24);
        let (values, vectors) = symmetric_eigen(&m);
        let again = &vectors * DMatrix::from_diagonal(&values) * vectors.transpose();
        assert!((again - &m).abs().max() < 1e-12);
        let identity = &vectors * vectors.transpose() - DMatrix::identity(24, 24);
        assert!(identity.abs().max() < 1e-12);
    }

    #[test]
    fn values_that_are_not_numbers_end_in_values_that_are_not_numbers() {
        let mut m = example(5);
        m[(1, 2)] = f64::NAN;
        assert!(smallest_eigenvalue(&m).is_nan());
        m[(1, 2)] = f64::INFINITY;
        assert!(symmetric_root(&m).iter().all(|v| v.is_nan()));
    }

    #[test]
    fn the_covariance_of_a_line_is_of_rank_one() {
        let rows = from_rows(&[vec![1.0, 2.0], vec![2.0, 4.0], vec![3.0, 6.0]]);
        let expected = DMatrix::from_row_slice(2, 2, &[1.0, 2.0, 2.0, 4.0]);
        assert!((covariance(&rows) - expected).abs().max() < 1e-12);
        assert!(smallest_eigenvalue(&covariance(&rows)).abs() < 1e-12);
    }
}
