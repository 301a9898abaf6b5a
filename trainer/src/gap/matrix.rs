//! The little linear algebra that the figures need: symmetric matrices in double precision.

/// A square matrix, row after row.
#[derive(Clone, Debug, PartialEq)]
pub struct Matrix {
    side: usize,
    values: Vec<f64>,
}

impl Matrix {
    /// All zeros.
    pub fn zeros(side: usize) -> Self {
        Self {
            side,
            values: vec![0.0; side * side],
        }
    }

    /// Zeros with `values` on the diagonal.
    pub fn diagonal(values: &[f64]) -> Self {
        let mut matrix = Self::zeros(values.len());
        for (i, value) in values.iter().enumerate() {
            *matrix.at(i, i) = *value;
        }
        matrix
    }

    /// Rows, and columns.
    pub fn side(&self) -> usize {
        self.side
    }

    /// One value.
    pub fn get(&self, row: usize, column: usize) -> f64 {
        self.values[row * self.side + column]
    }

    /// One value, to change.
    pub fn at(&mut self, row: usize, column: usize) -> &mut f64 {
        &mut self.values[row * self.side + column]
    }

    /// One row.
    pub fn row(&self, row: usize) -> &[f64] {
        &self.values[row * self.side..][..self.side]
    }

    /// Sum of the diagonal.
    pub fn trace(&self) -> f64 {
        (0..self.side).map(|i| self.get(i, i)).sum()
    }

    /// Product with another of the same side.
    pub fn times(&self, other: &Self) -> Self {
        let mut product = Self::zeros(self.side);
        for row in 0..self.side {
            for (k, left) in self.row(row).iter().enumerate() {
                let to = &mut product.values[row * self.side..][..self.side];
                for (to, right) in to.iter_mut().zip(other.row(k)) {
                    *to += left * right;
                }
            }
        }
        product
    }

    /// Eigenvalues of a symmetric matrix, and its eigenvectors as columns: Jacobi's rotations, which are slow and exact
    /// to the last digits.
    pub fn symmetric_eigen(&self) -> (Vec<f64>, Self) {
        const SWEEPS: usize = 60;
        let side = self.side;
        let mut a = self.clone();
        let mut vectors = Self::diagonal(&vec![1.0; side]);
        let size: f64 = a.values.iter().map(|v| v * v).sum();
        for _ in 0..SWEEPS {
            let above = (0..side).flat_map(|p| (p + 1..side).map(move |q| (p, q)));
            let off: f64 = above.map(|(p, q)| a.get(p, q).powi(2)).sum();
            if off <= 1e-26 * size {
                break;
            }
            for p in 0..side {
                for q in p + 1..side {
                    let apq = a.get(p, q);
                    if apq == 0.0 {
                        continue;
                    }
                    let theta = (a.get(q, q) - a.get(p, p)) / (2.0 * apq);
                    let tangent = theta.signum() / (theta.abs() + theta.hypot(1.0));
                    let cosine = 1.0 / tangent.hypot(1.0);
                    let sine = tangent * cosine;
                    for k in 0..side {
                        let (kp, kq) = (a.get(k, p), a.get(k, q));
                        *a.at(k, p) = cosine * kp - sine * kq;
                        *a.at(k, q) = sine * kp + cosine * kq;
                    }
                    for k in 0..side {
                        let (pk, qk) = (a.get(p, k), a.get(q, k));
                        *a.at(p, k) = cosine * pk - sine * qk;
                        *a.at(q, k) = sine * pk + cosine * qk;
                        let (kp, kq) = (vectors.get(k, p), vectors.get(k, q));
                        *vectors.at(k, p) = cosine * kp - sine * kq;
                        *vectors.at(k, q) = sine * kp + cosine * kq;
                    }
                }
            }
        }
        ((0..side).map(|i| a.get(i, i)).collect(), vectors)
    }

    /// The positive root of a symmetric matrix without negative eigenvalues; what rounding made negative counts as zero.
    pub fn symmetric_root(&self) -> Self {
        let (values, vectors) = self.symmetric_eigen();
        let roots: Vec<f64> = values.iter().map(|v| v.max(0.0).sqrt()).collect();
        let mut root = Self::zeros(self.side);
        for row in 0..self.side {
            for column in 0..=row {
                let sum: f64 = (0..self.side)
                    .map(|k| vectors.get(row, k) * roots[k] * vectors.get(column, k))
                    .sum();
                *root.at(row, column) = sum;
                *root.at(column, row) = sum;
            }
        }
        root
    }

    /// Solves `self * x = b` for a symmetric positive definite matrix (Cholesky); `None` where it is not.
    pub fn solve(&self, b: &[f64]) -> Option<Vec<f64>> {
        let side = self.side;
        let mut l = Self::zeros(side);
        for i in 0..side {
            for j in 0..=i {
                let dot: f64 = (0..j).map(|k| l.get(i, k) * l.get(j, k)).sum();
                let rest = self.get(i, j) - dot;
                if i != j {
                    *l.at(i, j) = rest / l.get(j, j);
                } else if rest > 0.0 {
                    *l.at(i, i) = rest.sqrt();
                } else {
                    return None;
                }
            }
        }
        let mut x = b.to_vec();
        for i in 0..side {
            let dot: f64 = (0..i).map(|k| l.get(i, k) * x[k]).sum();
            x[i] = (x[i] - dot) / l.get(i, i);
        }
        for i in (0..side).rev() {
            let dot: f64 = (i + 1..side).map(|k| l.get(k, i) * x[k]).sum();
            x[i] = (x[i] - dot) / l.get(i, i);
        }
        Some(x)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Symmetric and positive definite, and not diagonal.
    fn example(side: usize) -> Matrix {
        let mut m = Matrix::zeros(side);
        for i in 0..side {
            for j in 0..side {
                *m.at(i, j) =
                    1.0 / (1.0 + i.abs_diff(j) as f64) + if i == j { i as f64 } else { 0.0 };
            }
        }
        m
    }

    fn furthest(a: &Matrix, b: &Matrix) -> f64 {
        let pairs = a.values.iter().zip(&b.values);
        pairs.fold(0.0, |most, (a, b)| most.max((a - b).abs()))
    }

    #[test]
    fn eigenvectors_rebuild_the_matrix() {
        let m = example(24);
        let (values, vectors) = m.symmetric_eigen();
        let mut transposed = Matrix::zeros(24);
        for i in 0..24 {
            for j in 0..24 {
                *transposed.at(i, j) = vectors.get(j, i);
            }
        }
        let again = vectors.times(&Matrix::diagonal(&values)).times(&transposed);
        assert!(furthest(&m, &again) < 1e-12);
        assert!(furthest(&vectors.times(&transposed), &Matrix::diagonal(&[1.0; 24])) < 1e-13);
    }

    #[test]
    fn a_root_times_itself_is_the_matrix() {
        let m = example(16);
        let root = m.symmetric_root();
        assert!(furthest(&root.times(&root), &m) < 1e-12);
    }

    #[test]
    fn solving_undoes_multiplying_and_refuses_what_is_not_definite() {
        let m = example(12);
        let x: Vec<f64> = (0..12).map(|i| f64::from(i) - 4.5).collect();
        let b: Vec<f64> = (0..12)
            .map(|i| m.row(i).iter().zip(&x).map(|(m, x)| m * x).sum())
            .collect();
        let found = m.solve(&b).unwrap();
        assert!(found.iter().zip(&x).all(|(a, b)| (a - b).abs() < 1e-12));
        assert_eq!(Matrix::diagonal(&[1.0, -1.0]).solve(&[1.0, 1.0]), None);
    }
}
