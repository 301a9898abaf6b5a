//! Presence: is the target in this crop at all?

use candle_core::{Result, Tensor};

use super::softplus;

/// Mean binary cross entropy with logits. `smoothing` moves the labels that far from 0 and 1 towards one half (Szegedy
/// et al. 2016): no logit is worth driving to infinity.
///
/// # Shapes
/// `logits` and `present` (0 or 1) are `[N]`.
pub fn presence_bce(logits: &Tensor, present: &Tensor, smoothing: f64) -> Result<Tensor> {
    let _n = logits.dims1()?;
    let label = ((present * (1.0 - smoothing))? + 0.5 * smoothing)?;
    (softplus(logits)? - (logits * label)?)?.mean_all()
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
        let loss = presence_bce(&zero, &present, 0.0)
            .unwrap()
            .to_scalar::<f32>()
            .unwrap();
        assert!((loss - 2f32.ln()).abs() < 1e-6);
    }

    #[test]
    fn gradients_agree_with_finite_differences() {
        let logits = Tensor::new(&[0.4f32, -2.0, 3.0], &Device::Cpu).unwrap();
        let present = Tensor::new(&[1.0f32, 1.0, 0.0], &Device::Cpu).unwrap();
        check(&[logits], &Settings::F32, |x| {
            presence_bce(&x[0], &present, 0.1)
        })
        .unwrap();
    }

    #[test]
    fn a_smoothed_label_is_best_met_by_its_own_logit() {
        let present = Tensor::new(&[1.0f32], &Device::Cpu).unwrap();
        let loss = |logit: f32| {
            let logit = Tensor::new(&[logit], &Device::Cpu).unwrap();
            let loss = presence_bce(&logit, &present, 0.1).unwrap();
            loss.to_scalar::<f32>().unwrap()
        };
        let best = (0.95f32 / 0.05).ln();
        assert!(loss(best) < loss(best - 0.2) && loss(best) < loss(best + 0.2));
    }
}
