//! Presence: is the target in this crop at all?

use candle_core::{Result, Tensor};

use super::softplus;

/// Mean binary cross entropy with logits.
///
/// # Shapes
/// `logits` and `present` (0 or 1) are `[N]`.
pub fn presence_bce(logits: &Tensor, present: &Tensor) -> Result<Tensor> {
    let _n = logits.dims1()?;
    (softplus(logits)? - (logits * present)?)?.mean_all()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::ops::gradcheck::{Settings, check};
    use candle_core::Device;

    #[test]
    fn an_undecided_logit_costs_the_logarithm_of_two() {
        let zero = Tensor::new(&[0.0f32, 0.0], &Device::Cpu).unwrap();
        let present = Tensor::new(&[1.0f32, 0.0], &Device::Cpu).unwrap();
        let loss = presence_bce(&zero, &present)
            .unwrap()
            .to_scalar::<f32>()
            .unwrap();
        assert!((loss - 2f32.ln()).abs() < 1e-6);
    }

    #[test]
    fn gradients_agree_with_finite_differences() {
        let logits = Tensor::new(&[0.4f32, -2.0, 3.0], &Device::Cpu).unwrap();
        let present = Tensor::new(&[1.0f32, 1.0, 0.0], &Device::Cpu).unwrap();
        check(&[logits], &Settings::F32, |x| presence_bce(&x[0], &present)).unwrap();
    }
}
