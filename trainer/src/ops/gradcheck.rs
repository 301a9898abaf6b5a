//! Checks gradients against central finite differences.
//!
//! In goes a function from tensors to a scalar and the point at which to check it; out comes the largest
//! disagreement, or an error that names the worst value. Functions made of candle's own operators can be checked
//! in `f64`, to about 1e-6; those with operators of this crate are `f32`, where steps are larger and tolerances
//! about 1e-2: compare them with an `f64` reference where more is wanted.
//!
//! ```
//! use candle_core::{Device, Tensor};
//! use roadhound_trainer::ops::gradcheck::{Settings, check};
//! let x = Tensor::new(&[0.5f64, -1.0, 2.0], &Device::Cpu)?;
//! let worst = check(&[x], &Settings::F64, |x| x[0].sqr()?.sum_all()).expect("the gradient of a square is right");
//! assert!(worst < 1e-6);
//! # Ok::<(), candle_core::Error>(())
//! ```

use candle_core::{DType, Tensor, Var};

/// Step and tolerance of a check.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// Half the distance between the two evaluations, in units of the variable.
    pub step: f64,
    /// Largest allowed `|analytic - numeric| / (floor + |numeric|)`.
    pub tolerance: f64,
    /// Gradients much smaller than this are compared absolutely.
    pub floor: f64,
    /// Values checked per tensor, evenly spread; 0 checks all.
    pub values_per_tensor: usize,
}

impl Settings {
    /// For functions computed in `f64`.
    pub const F64: Self = Self {
        step: 1e-5,
        tolerance: 1e-6,
        floor: 1.0,
        values_per_tensor: 32,
    };
    /// For functions computed in `f32`, with values and results of order one.
    pub const F32: Self = Self {
        step: 1e-2,
        tolerance: 1e-2,
        floor: 1.0,
        values_per_tensor: 32,
    };
}

/// Why a check failed.
#[derive(Debug, thiserror::Error)]
pub enum GradcheckError {
    /// An operator failed.
    #[error("the function under test failed")]
    Candle(#[from] candle_core::Error),
    /// A gradient disagrees.
    #[error(
        "tensor {tensor}, value {index}: gradient is {analytic}, finite differences say {numeric} (error {error}, allowed {tolerance})"
    )]
    Wrong {
        /// Which argument.
        tensor: usize,
        /// Flat index into it.
        index: usize,
        /// From the backward pass.
        analytic: f64,
        /// From finite differences.
        numeric: f64,
        /// Relative to the gradient's size.
        error: f64,
        /// What the settings allow.
        tolerance: f64,
    },
}

/// Compares the gradients of `scalar` at `point` with finite differences and returns the largest error.
///
/// `scalar` is called once with variables and then twice per checked value; it must be deterministic.
///
/// # Errors
/// If the function fails or a gradient is off by more than the tolerance; the worst value is reported. A missing
/// gradient counts as zero.
pub fn check(
    point: &[Tensor],
    settings: &Settings,
    scalar: impl Fn(&[Tensor]) -> candle_core::Result<Tensor>,
) -> Result<f64, GradcheckError> {
    let vars = point
        .iter()
        .map(Var::from_tensor)
        .collect::<Result<Vec<_>, _>>()?;
    let tensors: Vec<Tensor> = vars.iter().map(|var| var.as_tensor().clone()).collect();
    let gradients = scalar(&tensors)?.backward()?;
    let mut worst: Option<GradcheckError> = None;
    let mut worst_error = 0.;
    for (tensor, at) in point.iter().enumerate() {
        let analytic = match gradients.get(&tensors[tensor]) {
            Some(gradient) => gradient
                .to_dtype(DType::F64)?
                .flatten_all()?
                .to_vec1::<f64>()?,
            None => vec![0.; at.elem_count()],
        };
        let values = at.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()?;
        let stride = match settings.values_per_tensor {
            0 => 1,
            count => values.len().div_ceil(count).max(1),
        };
        for index in (0..values.len()).step_by(stride) {
            let evaluate = |step: f64| -> candle_core::Result<f64> {
                let mut moved = values.clone();
                moved[index] += step;
                let mut arguments: Vec<Tensor> = point.iter().map(Tensor::detach).collect();
                arguments[tensor] =
                    Tensor::from_vec(moved, at.shape(), at.device())?.to_dtype(at.dtype())?;
                scalar(&arguments)?.to_dtype(DType::F64)?.to_scalar::<f64>()
            };
            let numeric =
                (evaluate(settings.step)? - evaluate(-settings.step)?) / (2. * settings.step);
            let error = (analytic[index] - numeric).abs() / (settings.floor + numeric.abs());
            // A NaN is worse than anything.
            if error > worst_error || error.is_nan() {
                worst_error = error;
                worst = Some(GradcheckError::Wrong {
                    tensor,
                    index,
                    analytic: analytic[index],
                    numeric,
                    error,
                    tolerance: settings.tolerance,
                });
            }
        }
    }
    match worst {
        Some(wrong) if worst_error > settings.tolerance || worst_error.is_nan() => Err(wrong),
        _ => Ok(worst_error),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use candle_core::Device;

    fn point() -> Tensor {
        Tensor::new(&[[0.3f64, -1.2, 0.7], [1.5, 0.1, -0.4]], &Device::Cpu).unwrap()
    }

    #[test]
    fn a_right_gradient_passes() {
        let error = check(&[point()], &Settings::F64, |x| {
            x[0].tanh()?.sqr()?.sum_all()
        })
        .unwrap();
        assert!(error < 1e-8, "{error}");
    }

    #[test]
    fn a_wrong_gradient_is_reported() {
        // The detached factor is a constant to autograd, but not to finite differences.
        let wrong = check(&[point()], &Settings::F64, |x| {
            (&x[0] * x[0].detach())?.sum_all()
        });
        assert!(
            matches!(wrong, Err(GradcheckError::Wrong { .. })),
            "{wrong:?}"
        );
    }

    #[test]
    fn a_missing_gradient_is_reported() {
        let wrong = check(&[point()], &Settings::F64, |x| x[0].detach().sum_all());
        assert!(wrong.is_err());
    }
}
