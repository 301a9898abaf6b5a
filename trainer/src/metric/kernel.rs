//! Non-linear metrics by an empirical kernel map (Schölkopf et al. 1999).
//!
//! A sample becomes the vector of its kernel values with the training samples, `k(x) = [K(x_1, x) .. K(x_n, x)]`, and a
//! linear metric is learned on that. The vectors are turned into coordinates in which their inner products are the
//! kernel's: `phi(x) = S^-1/2 U^T k(x)` with `K = U S U^T`. With a linear kernel the distances of `phi` are those of
//! `x`, so a learner finds there what it finds on `x` itself.
//!
//! ```
//! use nalgebra::DMatrix;
//! use roadhound_trainer::metric::kernel::{Kernel, KernelMap};
//! let x = DMatrix::from_row_slice(3, 2, &[1.0, 0.0, 0.0, 2.0, 1.0, 1.0]);
//! let map = KernelMap::fit(&Kernel::Linear, &x, 0)?;
//! let phi = map.map(&x);
//! let squared = |m: &DMatrix<f64>| (m.row(0) - m.row(1)).norm_squared();
//! assert!((squared(&phi) - squared(&x)).abs() < 1e-9);
//! # Ok::<(), roadhound_trainer::metric::MetricError>(())
//! ```

use nalgebra::DMatrix;
use serde::{Deserialize, Serialize};

use super::MetricError;
use crate::config::{ConfigError, in_range};
use crate::linalg;

/// Eigenvalues of the kernel matrix below this share of the largest are rounding and not a direction.
const SMALLEST_SHARE: f64 = 1e-10;

/// A kernel function, or none.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Kernel {
    /// The metric is linear in the samples.
    #[default]
    None,
    /// `x y`.
    Linear,
    /// `exp(-gamma |x - y|^2)`.
    Rbf {
        /// Inverse of the squared reach; 0 for one over the number of values of a sample.
        #[serde(default)]
        gamma: f64,
    },
    /// `(gamma x y + offset)^degree`.
    Polynomial {
        /// Factor of the product; 0 for one over the number of values of a sample.
        #[serde(default)]
        gamma: f64,
        /// Added to it.
        #[serde(default = "one")]
        offset: f64,
        /// The power.
        #[serde(default = "three")]
        degree: u32,
    },
}

fn one() -> f64 {
    1.0
}

fn three() -> u32 {
    3
}

impl Kernel {
    /// Checks what the types cannot.
    ///
    /// # Errors
    /// The first value that cannot be used.
    pub fn validate(&self) -> Result<(), ConfigError> {
        match self {
            Self::None | Self::Linear => Ok(()),
            Self::Rbf { gamma } => in_range("kernel.gamma", *gamma, 0.0, 1e12),
            Self::Polynomial {
                gamma,
                offset,
                degree,
            } => {
                in_range("kernel.gamma", *gamma, 0.0, 1e12)?;
                in_range("kernel.offset", *offset, 0.0, 1e12)?;
                in_range("kernel.degree", f64::from(*degree), 1.0, 8.0)
            }
        }
    }

    /// With `gamma` filled in for samples of `dimension` values.
    #[must_use]
    fn resolved(&self, dimension: usize) -> Self {
        let filled = |gamma: f64| match gamma > 0.0 {
            true => gamma,
            false => 1.0 / dimension.max(1) as f64,
        };
        match self.clone() {
            Self::Rbf { gamma } => Self::Rbf {
                gamma: filled(gamma),
            },
            Self::Polynomial {
                gamma,
                offset,
                degree,
            } => Self::Polynomial {
                gamma: filled(gamma),
                offset,
                degree,
            },
            plain => plain,
        }
    }

    /// Kernel values of every row of `a` with every row of `b`, `[rows of a, rows of b]`.
    fn values(&self, a: &DMatrix<f64>, b: &DMatrix<f64>) -> DMatrix<f64> {
        let products = a * b.transpose();
        match self {
            Self::None | Self::Linear => products,
            Self::Rbf { gamma } => {
                let squares = |m: &DMatrix<f64>| -> Vec<f64> {
                    m.row_iter().map(|row| row.norm_squared()).collect()
                };
                let (of_a, of_b) = (squares(a), squares(b));
                DMatrix::from_fn(a.nrows(), b.nrows(), |i, j| {
                    let squared = (of_a[i] + of_b[j] - 2.0 * products[(i, j)]).max(0.0);
                    (-gamma * squared).exp()
                })
            }
            Self::Polynomial {
                gamma,
                offset,
                degree,
            } => products.map(|p| (gamma * p + offset).powi(*degree as i32)),
        }
    }
}

/// The map of one training set.
#[derive(Clone, Debug, PartialEq)]
pub struct KernelMap {
    /// The kernel, `gamma` filled in.
    pub kernel: Kernel,
    /// The training samples, one a row.
    pub anchors: DMatrix<f64>,
    /// `[anchors, components]`: from kernel values to coordinates.
    pub projection: DMatrix<f64>,
}

impl KernelMap {
    /// The map of training samples; of its directions the `components` with the largest eigenvalues, all where 0.
    ///
    /// # Errors
    /// Samples that are all the same point of the kernel's space.
    pub fn fit(kernel: &Kernel, x: &DMatrix<f64>, components: usize) -> Result<Self, MetricError> {
        let kernel = kernel.resolved(x.ncols());
        let (values, vectors) = linalg::symmetric_eigen(&kernel.values(x, x));
        let largest = values.iter().copied().fold(0.0, f64::max);
        let mut kept: Vec<usize> = (0..values.len())
            .filter(|k| values[*k] > SMALLEST_SHARE * largest)
            .collect();
        kept.sort_by(|a, b| values[*b].total_cmp(&values[*a]));
        if components > 0 {
            kept.truncate(components);
        }
        if kept.is_empty() {
            let reason = "the kernel matrix has no positive eigenvalue";
            return Err(MetricError::Samples(reason.into()));
        }
        let projection = DMatrix::from_fn(x.nrows(), kept.len(), |row, k| {
            vectors[(row, kept[k])] / values[kept[k]].sqrt()
        });
        Ok(Self {
            kernel,
            anchors: x.clone(),
            projection,
        })
    }

    /// Coordinates of samples.
    ///
    /// # Shapes
    /// - `rows`: `[n, dimension]`; returns `[n, components]`
    pub fn map(&self, rows: &DMatrix<f64>) -> DMatrix<f64> {
        self.kernel.values(rows, &self.anchors) * &self.projection
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::tests::three_classes;
    use super::super::{Learner, Teaching, squared_distances};
    use super::*;

    #[test]
    fn a_linear_kernel_gives_the_distances_of_the_linear_metric_with_every_learner() {
        let (x, labels) = three_classes(45, 5);
        let map = KernelMap::fit(&Kernel::Linear, &x, 0).unwrap();
        let phi = map.map(&x);
        assert_eq!(phi.ncols(), 5);
        for learner in Learner::all() {
            let learn = |x: &DMatrix<f64>| {
                let metric = learner.learn(&Teaching::of_labels(x, &labels), &mut |_, _| true);
                squared_distances(&metric.unwrap().embed(x))
            };
            let (linear, kernelised) = (learn(&x), learn(&phi));
            let scale = linear.max();
            let off = (linear - kernelised).abs().max() / scale;
            assert!(off < 1e-6, "{}: {off:e}", learner.name());
        }
    }

    #[test]
    fn inner_products_of_the_coordinates_are_the_kernels_values() {
        let (x, _) = three_classes(30, 3);
        for kernel in [
            Kernel::Rbf { gamma: 0.0 },
            Kernel::Polynomial {
                gamma: 0.5,
                offset: 1.0,
                degree: 2,
            },
        ] {
            let map = KernelMap::fit(&kernel, &x, 0).unwrap();
            let phi = map.map(&x);
            let products = &phi * phi.transpose();
            let wanted = map.kernel.values(&x, &x);
            assert!(
                (products - &wanted).abs().max() < 1e-6 * wanted.max(),
                "{kernel:?}"
            );
        }
    }

    #[test]
    fn a_ring_around_a_disc_is_told_apart_by_a_kernel_and_not_without() {
        let x = DMatrix::from_fn(80, 2, |i, c| {
            let angle = i as f64 * 2.399;
            let radius = if i % 2 == 0 { 0.3 } else { 2.0 };
            radius * if c == 0 { angle.cos() } else { angle.sin() }
        });
        let map = KernelMap::fit(&Kernel::Rbf { gamma: 0.5 }, &x, 0).unwrap();
        let separation = |points: &DMatrix<f64>| {
            let mean = |odd: usize| {
                let of: Vec<usize> = (0..80).filter(|i| i % 2 == odd).collect();
                let sum = of
                    .iter()
                    .fold(points.row(0) * 0.0, |sum, i| sum + points.row(*i));
                sum / of.len() as f64
            };
            (mean(0) - mean(1)).norm()
        };
        assert!(separation(&x) < 0.1, "{}", separation(&x));
        assert!(
            separation(&map.map(&x)) > 0.5,
            "{}",
            separation(&map.map(&x))
        );
    }

    #[test]
    fn few_components_keep_the_largest() {
        let (x, _) = three_classes(40, 6);
        let map = KernelMap::fit(&Kernel::Linear, &x, 2).unwrap();
        let (two, all) = (map.map(&x).norm_squared(), x.norm_squared());
        assert!(
            map.map(&x).ncols() == 2 && two < all && two > 0.4 * all,
            "{two} {all}"
        );
    }
}
