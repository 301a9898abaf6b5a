//! A generator against a discriminator (Goodfellow et al. 2014), and what InfoGAN adds (Chen et al. 2016).
//!
//! In: the discriminator's logits, positive where it takes a sample for a real one. Out: scalars to descend, in nats.
//!
//! | loss | of the logit `l` | slope at `l` |
//! |---|---|---|
//! | discriminator, real sample | `-t log s(l) - (1 - t) log(1 - s(l))`, `t` 1 or a little less | `s(l) - t` |
//! | discriminator, made sample | `-log(1 - s(l))` | `s(l)` |
//! | generator, minimax | `log(1 - s(l))` | `-s(l)`: nothing to go by where the discriminator is sure |
//! | generator, non-saturating | `-log s(l)` | `s(l) - 1` |
//!
//! ```
//! use candle_core::{Device, Tensor};
//! use roadhound_trainer::loss::adversarial::{GeneratorLoss, discriminator, generator};
//! // Who cannot tell says 0: the game's value is 2 log 2 for the one and -log 2 for the other.
//! let unsure = Tensor::zeros((4, 1), candle_core::DType::F32, &Device::Cpu)?;
//! let d = discriminator(&unsure, &unsure, 1.0)?.to_scalar::<f32>()?;
//! let g = generator(&unsure, GeneratorLoss::Minimax)?.to_scalar::<f32>()?;
//! assert!((d - 2.0 * 2f32.ln()).abs() < 1e-6 && (g + 2f32.ln()).abs() < 1e-6);
//! # Ok::<(), candle_core::Error>(())
//! ```

use candle_core::{D, Result, Tensor};
use serde::{Deserialize, Serialize};

use super::softplus;

/// What the generator descends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GeneratorLoss {
    /// What the discriminator ascends.
    Minimax,
    /// The logarithm of being taken for real, which has a slope where the other has none.
    #[default]
    NonSaturating,
}

/// The discriminator's loss; `real_target` is 1, or a little less: one-sided label smoothing (Salimans et al. 2016).
///
/// # Shapes
/// `real`, `made`: any.
///
/// # Errors
/// If an operator fails.
pub fn discriminator(real: &Tensor, made: &Tensor, real_target: f64) -> Result<Tensor> {
    // -t log s(l) - (1 - t) log(1 - s(l)) = log(1 + e^l) - t l
    let of_real = (softplus(real)? - (real * real_target)?)?.mean_all()?;
    of_real + softplus(made)?.mean_all()?
}

/// The generator's loss.
///
/// # Shapes
/// `made`: any.
///
/// # Errors
/// If an operator fails.
pub fn generator(made: &Tensor, loss: GeneratorLoss) -> Result<Tensor> {
    match loss {
        GeneratorLoss::Minimax => softplus(made)?.mean_all()?.neg(),
        GeneratorLoss::NonSaturating => softplus(&made.neg()?)?.mean_all(),
    }
}

/// The squared distance between the mean features of real and made samples (Salimans et al. 2016).
///
/// # Shapes
/// `real`, `made`: `[N, F]`.
///
/// # Errors
/// If an operator fails.
pub fn feature_matching(real: &Tensor, made: &Tensor) -> Result<Tensor> {
    (real.mean(0)? - made.mean(0)?)?.sqr()?.sum_all()
}

/// Half the mean of `|gradient|^2`: R1 without its weight (Mescheder et al. 2018).
///
/// # Shapes
/// `gradients`: `[N, length of a sample]`.
///
/// # Errors
/// If an operator fails.
pub fn r1(gradients: &Tensor) -> Result<Tensor> {
    gradients.sqr()?.sum(D::Minus1)?.mean_all()? * 0.5
}

/// The same of what is known of the gradients: how far the logit moves along a direction that was drawn for each sample
/// with unit covariance, `(l(x + h v) - l(x - h v)) / (2 h)`, whose square has `|gradient|^2` as its mean.
///
/// # Shapes
/// `ahead`, `behind`: logits at `x + h v` and `x - h v`.
///
/// # Errors
/// If an operator fails.
pub fn r1_of_directions(ahead: &Tensor, behind: &Tensor, h: f64) -> Result<Tensor> {
    (((ahead - behind)? * (0.5 / h))?).sqr()?.mean_all()? * 0.5
}

/// `-log q(c | x)` of a continuous code under a normal distribution of deviation 1 about what was read off the sample, without
/// its constant: the lower bound of the mutual information of InfoGAN, the other way round. Mean over all values.
///
/// # Shapes
/// `read`, `code`: `[N, K]`.
///
/// # Errors
/// If an operator fails.
pub fn continuous_code(read: &Tensor, code: &Tensor) -> Result<Tensor> {
    (read - code)?.sqr()?.mean_all()? * 0.5
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::ops::gradcheck::{Settings, check};
    use candle_core::{Device, Var};

    fn number(t: Result<Tensor>) -> f64 {
        t.unwrap().to_scalar::<f64>().unwrap()
    }

    fn logits(values: &[f64]) -> Tensor {
        Tensor::new(values, &Device::Cpu).unwrap()
    }

    fn s(l: f64) -> f64 {
        1.0 / (1.0 + (-l).exp())
    }

    #[test]
    fn values_are_those_of_the_closed_forms() {
        let (real, made) = (logits(&[0.3, -1.2]), logits(&[2.0, -0.5]));
        let expected = -(s(0.3).ln() + s(-1.2).ln()) / 2.0
            - ((1.0 - s(2.0)).ln() + (1.0 - s(-0.5)).ln()) / 2.0;
        assert!((number(discriminator(&real, &made, 1.0)) - expected).abs() < 1e-12);
        let smooth = |l: f64| -0.9 * s(l).ln() - 0.1 * (1.0 - s(l)).ln();
        let expected =
            (smooth(0.3) + smooth(-1.2)) / 2.0 - ((1.0 - s(2.0)).ln() + (1.0 - s(-0.5)).ln()) / 2.0;
        assert!((number(discriminator(&real, &made, 0.9)) - expected).abs() < 1e-12);
        let expected = ((1.0 - s(2.0)).ln() + (1.0 - s(-0.5)).ln()) / 2.0;
        assert!((number(generator(&made, GeneratorLoss::Minimax)) - expected).abs() < 1e-12);
        let expected = -(s(2.0).ln() + s(-0.5).ln()) / 2.0;
        assert!((number(generator(&made, GeneratorLoss::NonSaturating)) - expected).abs() < 1e-12);
    }

    #[test]
    fn only_the_non_saturating_loss_has_a_slope_where_the_discriminator_is_sure() {
        for (loss, expected) in [
            (GeneratorLoss::Minimax, -s(-12.0)),
            (GeneratorLoss::NonSaturating, s(-12.0) - 1.0),
        ] {
            let made = Var::new(&[-12.0f64], &Device::Cpu).unwrap();
            let slopes = generator(&made, loss).unwrap().backward().unwrap();
            let slope = slopes.get(&made).unwrap().to_vec1::<f64>().unwrap()[0];
            assert!((slope - expected).abs() < 1e-12, "{loss:?} {slope}");
        }
    }

    #[test]
    fn a_smoothed_discriminator_stands_still_at_the_smoothed_odds() {
        // s(l) = 0.9: the slope of a real sample's loss is s(l) - t.
        let real = Var::new(&[9f64.ln()], &Device::Cpu).unwrap();
        let made = logits(&[0.0]);
        let slopes = discriminator(&real, &made, 0.9)
            .unwrap()
            .backward()
            .unwrap();
        assert!(slopes.get(&real).unwrap().to_vec1::<f64>().unwrap()[0].abs() < 1e-12);
    }

    #[test]
    fn penalties_of_a_plane_are_those_of_its_slope() {
        // l(x) = 3 x1 - 4 x2: |gradient|^2 is 25 everywhere.
        let gradients = Tensor::new(&[[3.0f64, -4.0], [3.0, -4.0]], &Device::Cpu).unwrap();
        assert!((number(r1(&gradients)) - 12.5).abs() < 1e-12);
        // Along the axes, of which each is drawn half the time, scaled to unit covariance.
        let root = 2f64.sqrt();
        let (ahead, behind) = (
            logits(&[0.03 * root, -0.04 * root]),
            logits(&[-0.03 * root, 0.04 * root]),
        );
        assert!((number(r1_of_directions(&ahead, &behind, 0.01)) - 12.5).abs() < 1e-9);
    }

    #[test]
    fn every_loss_has_the_gradient_of_finite_differences() {
        let points = [
            Tensor::new(&[[0.3f64, -1.0], [2.0, 0.4]], &Device::Cpu).unwrap(),
            Tensor::new(&[[-0.7f64, 0.2], [0.9, -1.4]], &Device::Cpu).unwrap(),
        ];
        type Loss = fn(&Tensor, &Tensor) -> Result<Tensor>;
        let losses: [Loss; 7] = [
            |a, b| discriminator(a, b, 0.9),
            |a, _| generator(a, GeneratorLoss::Minimax),
            |a, _| generator(a, GeneratorLoss::NonSaturating),
            feature_matching,
            |a, _| r1(a),
            |a, b| r1_of_directions(a, b, 0.5),
            continuous_code,
        ];
        for loss in losses {
            check(&points, &Settings::F64, |x| {
                // Every loss is shown both, so that each has a gradient with respect to both.
                loss(&x[0], &x[1])? + (x[0].sum_all()? + x[1].sum_all()?)?
            })
            .unwrap();
        }
    }
}
