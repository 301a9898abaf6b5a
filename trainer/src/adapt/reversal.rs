//! Gradient reversal: values pass as they are, gradients come back turned round.
//!
//! In: features and a strength. Out: the same features. What a head behind it descends, the layers before it climb, which is
//! how one backward pass makes a step of both players of a saddle point.
//!
//! ```
//! use candle_core::{Device, Tensor, Var};
//! use roadhound_trainer::adapt::reversal::reverse;
//! let x = Var::from_tensor(&Tensor::new(&[3f32, -1.0], &Device::Cpu)?)?;
//! let y = reverse(&x, 0.25)?;
//! assert_eq!(y.to_vec1::<f32>()?, [3.0, -1.0]);
//! let gradients = y.sum_all()?.backward()?;
//! assert_eq!(gradients.get(&x).map(|g| g.to_vec1::<f32>()).transpose()?, Some(vec![-0.25, -0.25]));
//! # Ok::<(), candle_core::Error>(())
//! ```

use candle_core::{Result, Tensor};

/// `x`, to the bit; of its gradient, `-strength` times as much.
///
/// # Errors
/// If an operator fails.
pub fn reverse(x: &Tensor, strength: f64) -> Result<Tensor> {
    let held = x.detach();
    // What is added is exactly nothing; only its gradient is something.
    &held + ((&held - x)? * strength)?
}

/// `highest (2 / (1 + exp(-rise p)) - 1)` at the share `progress` of the run: from 0, while the domain head says nothing worth
/// hearing yet, to nearly `highest`.
pub fn strength_at(highest: f64, rise: f64, progress: f64) -> f64 {
    highest * (2.0 / (1.0 + (-rise * progress).exp()) - 1.0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use candle_core::{Device, Var};

    #[test]
    fn the_gradient_is_minus_strength_times_that_of_the_loss_behind_it() {
        // d/dx of sum(sin(3 x)) is 3 cos(3 x).
        let values = [0.3f64, -1.2, 2.0, 0.0];
        for strength in [0.0, 0.4, 1.0, 2.5] {
            let x = Var::from_tensor(&Tensor::new(&values, &Device::Cpu).unwrap()).unwrap();
            let y = reverse(&x, strength).unwrap();
            assert_eq!(y.to_vec1::<f64>().unwrap(), values);
            let loss = (y * 3.0).unwrap().sin().unwrap().sum_all().unwrap();
            let gradients = loss.backward().unwrap();
            // Where the strength is 0, no gradient at all comes back.
            let found = gradients.get(&x).map(|g| g.to_vec1::<f64>().unwrap());
            let found = found.unwrap_or_else(|| vec![0.0; values.len()]);
            for (v, g) in values.iter().zip(found) {
                let expected = -strength * 3.0 * (3.0 * v).cos();
                assert!(
                    (g - expected).abs() < 1e-12,
                    "{strength} {v}: {g} {expected}"
                );
            }
        }
    }

    #[test]
    fn a_path_beside_the_layer_keeps_its_own_gradient() {
        let x = Var::from_tensor(&Tensor::new(&[2f64], &Device::Cpu).unwrap()).unwrap();
        let sum = (x.sqr().unwrap() + reverse(&x, 0.5).unwrap() * 3.0).unwrap();
        let gradients = sum.sum_all().unwrap().backward().unwrap();
        let found = gradients.get(&x).unwrap().to_vec1::<f64>().unwrap();
        assert_eq!(found, [4.0 - 1.5]);
    }

    #[test]
    fn the_strength_is_that_of_the_published_schedule() {
        // 2 / (1 + e^-10p) - 1 is tanh(5 p).
        for p in [0.0, 0.1, 0.5, 1.0] {
            assert!((strength_at(1.0, 10.0, p) - f64::tanh(5.0 * p)).abs() < 1e-12);
            assert!((strength_at(0.3, 10.0, p) - 0.3 * f64::tanh(5.0 * p)).abs() < 1e-12);
        }
    }
}
