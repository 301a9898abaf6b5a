//! Identity: the template's embedding should name its own object among all objects and backgrounds of the batch.
//!
//! InfoNCE (van den Oord et al. 2018) with cosine similarities over a temperature. Candidates that show the same
//! object elsewhere in the batch are masked out: they are neither right nor wrong.

use candle_core::{D, Result, Tensor};

/// Logit of a candidate that does not take part.
const MASKED: f64 = -1e4;

/// Weighted mean over the anchors of `-log softmax(similarity / temperature)[own object]`.
///
/// # Shapes
/// `anchors` `[N, E]` unit norm; `candidates` `[M, E]` unit norm, the first N of them the anchors' own objects in
/// order; `mask` `[N, M]` is 1 where a candidate takes part (always at `[i, i]`); `weight` `[N]`.
pub fn info_nce(
    anchors: &Tensor,
    candidates: &Tensor,
    mask: &Tensor,
    weight: &Tensor,
    temperature: f64,
) -> Result<Tensor> {
    let (n, _e) = anchors.dims2()?;
    let logits = (anchors.matmul(&candidates.t()?)? / temperature)?;
    let masked = ((1.0 - mask)? * MASKED)?;
    let logits = ((logits * mask)? + masked)?;
    let highest = logits.max_keepdim(D::Minus1)?.detach();
    let log_sum = (logits
        .broadcast_sub(&highest)?
        .exp()?
        .sum_keepdim(D::Minus1)?
        .log()?
        + &highest)?;
    let own = Tensor::eye(n, logits.dtype(), logits.device())?;
    let own_logit = (logits.narrow(1, 0, n)? * own)?.sum(1)?;
    let total = f64::from(weight.sum_all()?.to_scalar::<f32>()?).max(1.0);
    ((log_sum.squeeze(1)? - own_logit)? * weight)?.sum_all()? / total
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::model::net::unit_norm;
    use crate::ops::gradcheck::{Settings, check};
    use candle_core::Device;

    #[test]
    fn candidates_that_all_look_alike_cost_the_logarithm_of_their_number() {
        let dev = &Device::Cpu;
        let anchors = Tensor::new(&[[1.0f32, 0.0], [1.0, 0.0]], dev).unwrap();
        let candidates = Tensor::new(&[[1.0f32, 0.0], [1.0, 0.0], [1.0, 0.0]], dev).unwrap();
        let mask = Tensor::ones((2, 3), candle_core::DType::F32, dev).unwrap();
        let weight = Tensor::new(&[1.0f32, 1.0], dev).unwrap();
        let loss = info_nce(&anchors, &candidates, &mask, &weight, 0.1)
            .unwrap()
            .to_scalar::<f32>()
            .unwrap();
        assert!((loss - 3f32.ln()).abs() < 1e-5, "{loss}");
    }

    #[test]
    fn a_masked_twin_costs_nothing() {
        let dev = &Device::Cpu;
        let anchors = Tensor::new(&[[1.0f32, 0.0]], dev).unwrap();
        let candidates = Tensor::new(&[[1.0f32, 0.0], [1.0, 0.0]], dev).unwrap();
        let mask = Tensor::new(&[[1.0f32, 0.0]], dev).unwrap();
        let weight = Tensor::new(&[1.0f32], dev).unwrap();
        let loss = info_nce(&anchors, &candidates, &mask, &weight, 0.1)
            .unwrap()
            .to_scalar::<f32>()
            .unwrap();
        assert!(loss.abs() < 1e-5, "{loss}");
    }

    #[test]
    fn gradients_agree_with_finite_differences() {
        let dev = &Device::Cpu;
        let a = Tensor::new(&[[0.9f32, -0.2, 0.4], [0.1, 0.8, -0.5]], dev).unwrap();
        let c = Tensor::new(
            &[[0.7f32, 0.1, 0.2], [-0.3, 0.9, 0.1], [0.2, 0.3, -0.8]],
            dev,
        )
        .unwrap();
        let mask = Tensor::new(&[[1.0f32, 1.0, 1.0], [0.0, 1.0, 1.0]], dev).unwrap();
        let weight = Tensor::new(&[1.0f32, 1.0], dev).unwrap();
        check(&[a, c], &Settings::F32, |x| {
            info_nce(&unit_norm(&x[0])?, &unit_norm(&x[1])?, &mask, &weight, 0.3)
        })
        .unwrap();
    }
}
