//! Spectral normalisation (Miyato et al. 2018): a weight divided by its largest singular value, so that a layer changes no
//! difference by more than a factor of 1.
//!
//! In: a weight `[.., outputs]`. Out: the same of norm 1. The singular value is found by power iteration, one turn a step,
//! that goes on from a vector which is kept with the weights: a checkpoint holds it. No gradient reaches that vector, so no
//! optimiser moves it.
//!
//! ```
//! use candle_core::{Device, Tensor};
//! use roadhound_trainer::model::Pass;
//! use roadhound_trainer::model::spectral::Spectral;
//! use roadhound_trainer::ops::Precision;
//! use roadhound_trainer::params::ParamBuilder;
//! let mut builder = ParamBuilder::new(1, &Device::Cpu);
//! let spectral = Spectral::new(&mut builder, "a", 2)?;
//! let weight = Tensor::new(&[[3f32, 0.0], [0.0, 0.5]], &Device::Cpu)?;
//! let pass = Pass::Train { momentum: 0.1, precision: Precision::F32 };
//! let mut found = weight.clone();
//! for _ in 0..30 {
//!     found = spectral.normalised(&weight, pass)?;
//! }
//! assert!((found.to_vec2::<f32>()?[0][0] - 1.0).abs() < 1e-5);
//! # Ok::<(), candle_core::Error>(())
//! ```

use candle_core::{Result, Tensor, Var};

use super::Pass;
use crate::params::{Init, ParamBuilder};

/// Added to lengths that are divided by.
const EPSILON: f64 = 1e-12;

/// The vector that the iteration goes on from.
pub struct Spectral {
    left: Var,
}

impl Spectral {
    /// Declares `name`, a vector of as many values as the weight has rows.
    ///
    /// # Errors
    /// A name that is taken.
    pub fn new(builder: &mut ParamBuilder, name: &str, rows: usize) -> Result<Self> {
        let std = 1.0 / (rows.max(1) as f32).sqrt();
        let left = builder.var(name, &[1, rows], Init::Normal { std })?;
        Ok(Self { left })
    }

    /// The weight over its largest singular value, and both with their gradients. A pass that trains keeps the vector that
    /// it has found.
    ///
    /// # Shapes
    /// `weight` `[.., outputs]`, as a matrix of `rows` rows; returns the same shape.
    ///
    /// # Errors
    /// A weight of another size.
    pub fn normalised(&self, weight: &Tensor, pass: Pass) -> Result<Tensor> {
        let rows = self.left.dim(1)?;
        let matrix = weight.reshape((rows, weight.elem_count() / rows.max(1)))?;
        let fixed = matrix.detach();
        let right = unit(&self.left.as_tensor().detach().matmul(&fixed)?)?;
        let left = unit(&right.matmul(&fixed.t()?.contiguous()?)?)?;
        if matches!(pass, Pass::Train { .. } | Pass::TrainFrozen { .. }) {
            self.left.set(&left)?;
        }
        let largest = left.matmul(&matrix)?.mul(&right)?.sum_keepdim(1)?;
        matrix.broadcast_div(&largest)?.reshape(weight.shape())
    }
}

fn unit(row: &Tensor) -> Result<Tensor> {
    let length = (row.sqr()?.sum_keepdim(1)? + EPSILON)?.sqrt()?;
    row.broadcast_div(&length)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::ops::Precision;
    use crate::ops::gradcheck::{Settings, check};
    use candle_core::Device;
    use nalgebra::DMatrix;

    const TRAIN: Pass = Pass::Train {
        momentum: 0.1,
        precision: Precision::F32,
    };

    #[test]
    fn the_largest_singular_value_becomes_one_and_evaluation_changes_nothing() {
        let values: Vec<f32> = (0..3 * 3 * 4 * 5).map(|i| (i as f32 * 0.9).sin()).collect();
        let matrix = DMatrix::from_row_slice(36, 5, &values);
        let largest = matrix.svd(false, false).singular_values.max();
        let weight = Tensor::from_vec(values, (3, 3, 4, 5), &Device::Cpu).unwrap();
        let mut builder = ParamBuilder::new(1, &Device::Cpu);
        let spectral = Spectral::new(&mut builder, "a", 36).unwrap();
        let first = spectral.normalised(&weight, Pass::Eval).unwrap();
        let again = spectral.normalised(&weight, Pass::Eval).unwrap();
        let flat = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(flat(&first), flat(&again));
        for _ in 0..200 {
            spectral.normalised(&weight, TRAIN).unwrap();
        }
        let found = flat(&spectral.normalised(&weight, Pass::Eval).unwrap());
        for (found, value) in found.iter().zip(flat(&weight)) {
            assert!(
                (found - value / largest).abs() < 1e-4,
                "{found} {value} {largest}"
            );
        }
    }

    #[test]
    fn the_gradient_is_that_of_finite_differences_where_the_iteration_stands_still() {
        let values: Vec<f64> = (0..12).map(|i| (f64::from(i) * 1.3).cos()).collect();
        let weight = Tensor::from_vec(values, (4, 3), &Device::Cpu).unwrap();
        let single = weight.to_dtype(candle_core::DType::F32).unwrap();
        let mut builder = ParamBuilder::new(2, &Device::Cpu);
        let spectral = Spectral::new(&mut builder, "a", 4).unwrap();
        for _ in 0..300 {
            spectral.normalised(&single, TRAIN).unwrap();
        }
        let left = spectral.left.to_dtype(candle_core::DType::F64).unwrap();
        let spectral = Spectral {
            left: Var::from_tensor(&left).unwrap(),
        };
        let weights: Vec<f64> = (0..12).map(|i| (f64::from(i) * 0.4).sin()).collect();
        let weights = Tensor::from_vec(weights, (4, 3), &Device::Cpu).unwrap();
        check(&[weight], &Settings::F64, |x| {
            (spectral.normalised(&x[0], Pass::Eval)? * &weights)?.sum_all()
        })
        .unwrap();
    }
}
