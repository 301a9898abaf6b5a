//! InfoNCE (van den Oord et al. 2018): an anchor's embedding should name its own object among all candidates.
//!
//! In: anchors and candidates of unit norm. Out: the mean cross entropy of cosine similarities over a temperature.
//! Candidates that show the same object elsewhere in the batch are masked out: they are neither right nor wrong. The tracker
//! compares templates with objects and backgrounds of its batch, a Siamese network every sample with a mate of its class.

use candle_core::{D, DType, Result, Tensor};
use serde::{Deserialize, Serialize};

/// Constants of [`info_nce`] where it is chosen by name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct InfoNceConfig {
    /// Similarities are divided by it.
    pub temperature: f64,
}

impl Default for InfoNceConfig {
    fn default() -> Self {
        Self { temperature: 0.1 }
    }
}

/// For each sample of a batch the next one of its class, in a circle; itself where it has no mate. `None` where nobody
/// has.
pub fn mates(labels: &[u32]) -> Option<Vec<usize>> {
    let n = labels.len();
    let mate = |i: usize| {
        let after = (1..n).map(|step| (i + step) % n);
        after
            .into_iter()
            .find(|j| labels[*j] == labels[i])
            .unwrap_or(i)
    };
    let mates: Vec<usize> = (0..n).map(mate).collect();
    mates
        .iter()
        .enumerate()
        .any(|(i, j)| i != *j)
        .then_some(mates)
}

/// Who takes part, row-major `[N, N]`, where candidate `j` is the mate of sample `j`: an anchor's own mate, and whoever is
/// of another class.
pub fn mask(labels: &[u32], mates: &[usize]) -> Vec<f32> {
    let n = labels.len();
    let takes_part = |i: usize, j: usize| i == j || labels[mates[j]] != labels[i];
    (0..n * n)
        .map(|at| f32::from(takes_part(at / n, at % n)))
        .collect()
}

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
    let total = f64::from(weight.sum_all()?.to_dtype(DType::F32)?.to_scalar::<f32>()?).max(1.0);
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
    fn mates_go_round_their_class_and_other_members_of_it_take_no_part() {
        let labels = [3, 3, 5, 3, 5];
        let mates = mates(&labels).unwrap();
        assert_eq!(mates, [1, 3, 4, 0, 2]);
        // Candidates are samples 1, 3, 4, 0, 2: of the first anchor only its own mate and the two of class 5.
        assert_eq!(mask(&labels, &mates)[..5], [1.0, 0.0, 1.0, 0.0, 1.0]);
        assert_eq!(super::mates(&[1, 2, 3]), None);
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
