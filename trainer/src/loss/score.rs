//! Penalty-reduced focal loss of the score map, as in CenterNet (Zhou et al. 2019, equation 1) with alpha 2, beta 4.

use candle_core::{Result, Tensor};

use super::softplus;

/// Mean over the peaks of the batch. `smoothing` takes that share of each peak's label away: the peak's cell is one of
/// several that could have been called the centre.
///
/// # Shapes
/// All `[N, cells]`: `logits` of the network, `gauss` and `peak` of [`super::targets::CellTargets`].
pub fn penalty_reduced_focal(
    logits: &Tensor,
    gauss: &Tensor,
    peak: &Tensor,
    smoothing: f64,
) -> Result<Tensor> {
    let (_n, _cells) = logits.dims2()?;
    let p = crate::model::net::sigmoid(logits)?;
    let at_peak = (softplus(&logits.neg()?)? * (1.0 - &p)?.sqr()?)?;
    let away = (softplus(logits)? * p.sqr()?)?;
    let away_weight = (1.0 - gauss)?.sqr()?.sqr()?;
    let at_peak = ((at_peak * (1.0 - smoothing))? + (&away * smoothing)?)?;
    let peaks = f64::from(peak.sum_all()?.to_scalar::<f32>()?).max(1.0);
    let sum = ((at_peak * peak)? + ((away * away_weight)? * (1.0 - peak)?)?)?.sum_all()?;
    sum / peaks
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::ops::gradcheck::{Settings, check};
    use candle_core::Device;

    #[test]
    fn one_cell_of_each_kind_agrees_with_the_formula_by_hand() {
        let logits = Tensor::new(&[[0.0f32, 0.0]], &Device::Cpu).unwrap();
        let gauss = Tensor::new(&[[1.0f32, 0.5]], &Device::Cpu).unwrap();
        let peak = Tensor::new(&[[1.0f32, 0.0]], &Device::Cpu).unwrap();
        let loss = penalty_reduced_focal(&logits, &gauss, &peak, 0.0)
            .unwrap()
            .to_scalar::<f32>()
            .unwrap();
        let by_hand = 0.25 * 2f32.ln() + 0.5f32.powi(4) * 0.25 * 2f32.ln();
        assert!((loss - by_hand).abs() < 1e-6, "{loss} {by_hand}");
    }

    #[test]
    fn smoothing_moves_its_share_of_the_peaks_label_to_the_other_side() {
        let logit = 2.0_f64;
        let loss = |smoothing: f64| {
            let logits = Tensor::new(&[[logit as f32]], &Device::Cpu).unwrap();
            let one = Tensor::new(&[[1.0f32]], &Device::Cpu).unwrap();
            penalty_reduced_focal(&logits, &one, &one, smoothing)
                .unwrap()
                .to_scalar::<f32>()
                .unwrap()
        };
        let p = 1.0 / (1.0 + (-logit).exp());
        let (is_peak, is_none) = (-p.ln() * (1.0 - p).powi(2), -(1.0 - p).ln() * p.powi(2));
        for smoothing in [0.0, 0.1, 0.4, 1.0] {
            let by_hand = (1.0 - smoothing) * is_peak + smoothing * is_none;
            let found = f64::from(loss(smoothing));
            assert!(
                (found - by_hand).abs() < 1e-5,
                "smoothing {smoothing}: {found}, by hand {by_hand}"
            );
        }
        assert!(loss(0.1) > 10.0 * loss(0.0), "a sure peak costs more");
    }

    #[test]
    fn gradients_agree_with_finite_differences() {
        let logits = Tensor::new(
            &[[0.3f32, -1.2, 2.0, -0.1], [0.0, 4.0, -3.0, 0.7]],
            &Device::Cpu,
        )
        .unwrap();
        let gauss = Tensor::new(
            &[[1.0f32, 0.6, 0.1, 0.0], [0.2, 1.0, 0.3, 0.0]],
            &Device::Cpu,
        )
        .unwrap();
        let peak = Tensor::new(
            &[[1.0f32, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]],
            &Device::Cpu,
        )
        .unwrap();
        check(&[logits], &Settings::F32, |x| {
            penalty_reduced_focal(&x[0], &gauss, &peak, 0.05)
        })
        .unwrap();
    }

    #[test]
    fn an_extreme_logit_gives_a_finite_loss() {
        let logits = Tensor::new(&[[1e4f32, -1e4]], &Device::Cpu).unwrap();
        let gauss = Tensor::new(&[[0.0f32, 1.0]], &Device::Cpu).unwrap();
        let peak = Tensor::new(&[[0.0f32, 1.0]], &Device::Cpu).unwrap();
        let loss = penalty_reduced_focal(&logits, &gauss, &peak, 0.0)
            .unwrap()
            .to_scalar::<f32>()
            .unwrap();
        assert!(loss.is_finite());
    }
}
