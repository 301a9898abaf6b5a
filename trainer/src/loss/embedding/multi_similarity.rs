//! Every pair of a batch, weighted by how much it tells (Wang et al. 2019).
//!
//! In: unit-norm points with classes. Out: the mean over anchors of
//! `log(1 + sum_mates exp(-alpha (s - base))) / alpha + log(1 + sum_strangers exp(beta (s - base))) / beta`, where `s` are
//! cosine similarities, over the mates and strangers that the paper's own miner keeps.

use candle_core::{DType, Result, Tensor};
use serde::{Deserialize, Serialize};

/// Constants of [`multi_similarity`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MultiSimilarityConfig {
    /// Sharpness for mates.
    pub alpha: f64,
    /// Sharpness for strangers.
    pub beta: f64,
    /// Similarity that divides the two.
    pub base: f64,
    /// How much easier than the hardest counterpart a pair may be and still count; the miner's epsilon.
    pub epsilon: f64,
}

impl Default for MultiSimilarityConfig {
    fn default() -> Self {
        Self {
            alpha: 2.0,
            beta: 50.0,
            base: 0.5,
            epsilon: 0.1,
        }
    }
}

/// Which pairs count: a mate that is no more similar than the most similar stranger (plus epsilon), a stranger that is no
/// less similar than the least similar mate (minus epsilon). Row-major `[N, N]`, mates first.
pub fn mined(similarity: &[Vec<f32>], labels: &[u32], epsilon: f32) -> (Vec<f32>, Vec<f32>) {
    let n = labels.len();
    let (mut mates, mut strangers) = (vec![0.0; n * n], vec![0.0; n * n]);
    for i in 0..n {
        let is_mate = |j: usize| j != i && labels[j] == labels[i];
        let is_stranger = |j: usize| labels[j] != labels[i];
        let least = (0..n).filter(|j| is_mate(*j)).map(|j| similarity[i][j]);
        let least = least.fold(f32::INFINITY, f32::min);
        let most = (0..n).filter(|j| is_stranger(*j)).map(|j| similarity[i][j]);
        let most = most.fold(f32::NEG_INFINITY, f32::max);
        for j in 0..n {
            let s = similarity[i][j];
            mates[i * n + j] = f32::from(is_mate(j) && s - epsilon < most);
            strangers[i * n + j] = f32::from(is_stranger(j) && s + epsilon > least);
        }
    }
    (mates, strangers)
}

/// The loss of the module head.
///
/// # Shapes
/// `points` `[N, E]` unit norm; `labels` N; returns a scalar
///
/// # Errors
/// If an operator fails.
pub fn multi_similarity(
    points: &Tensor,
    labels: &[u32],
    config: &MultiSimilarityConfig,
) -> Result<Tensor> {
    let n = labels.len();
    let similarity = points.matmul(&points.t()?)?;
    let (mates, strangers) = mined(
        &similarity.to_dtype(DType::F32)?.to_vec2::<f32>()?,
        labels,
        config.epsilon as f32,
    );
    let dtype = points.dtype();
    let mask = |values| Tensor::from_vec(values, (n, n), points.device())?.to_dtype(dtype);
    let centred = (similarity - config.base)?;
    let part = |sharpness: f64, mask: Tensor| {
        let sum = ((&centred * sharpness)?.exp()? * mask)?.sum(1)?;
        (sum + 1.0)?.log()? / sharpness.abs()
    };
    (part(-config.alpha, mask(mates)?)? + part(config.beta, mask(strangers)?)?)?.mean_all()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use candle_core::Device;

    #[test]
    fn three_points_cost_what_the_formula_says_by_hand() {
        // Anchor 0 and its mate 1 have s = .6, the stranger 2 has s = .8 and 0 with them.
        let points = Tensor::new(&[[1f32, 0.0], [0.6, 0.8], [0.8, -0.6]], &Device::Cpu).unwrap();
        let config = MultiSimilarityConfig::default();
        let loss = multi_similarity(&points, &[0, 0, 1], &config).unwrap();
        let (near, far) = ((-2.0f64 * 0.1).exp(), (50.0f64 * 0.3).exp());
        // Anchor 1: its mate is more similar than any stranger by more than epsilon, so nothing counts. Anchor 2 has no
        // mate, so every stranger lies below "the least similar mate" and nothing counts either.
        let expected = ((1.0 + near).ln() / 2.0 + (1.0 + far).ln() / 50.0) / 3.0;
        let found = f64::from(loss.to_scalar::<f32>().unwrap());
        assert!((found - expected).abs() < 1e-5, "{found} {expected}");
    }

    #[test]
    fn pairs_that_tell_nothing_are_left_out() {
        let similarity = vec![
            vec![1.0, 0.9, 0.2, 0.85],
            vec![0.9, 1.0, 0.1, 0.3],
            vec![0.2, 0.1, 1.0, 0.0],
            vec![0.85, 0.3, 0.0, 1.0],
        ];
        let (mates, strangers) = mined(&similarity, &[0, 0, 1, 1], 0.1);
        assert_eq!(
            mates[..4],
            [0.0, 1.0, 0.0, 0.0],
            "0.9 is within 0.1 of 0.85"
        );
        assert_eq!(strangers[..4], [0.0, 0.0, 0.0, 1.0], "0.2 is far below 0.9");
        assert_eq!(mates[4..8], [0.0; 4], "0.9 is far above 0.3");
    }
}
