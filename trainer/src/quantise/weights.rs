//! Weights as signed bytes: symmetric, one scale an output channel.
//!
//! In: f32 weights and the scale of what they are multiplied with. Out: bytes in -127..=127, scales, and biases in the
//! steps of the products.

use anyhow::{Context, Result, ensure};
use roadhound_shared::quantised::{SCALE_RANGE, check_sum, checked_scale};
use serde::{Deserialize, Serialize};

use super::source::Weights;

/// Largest magnitude of a weight: symmetric, so that -128 is not used.
pub const MOST: f32 = 127.0;

/// How a channel's scale is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rounding {
    /// The largest weight is the last step.
    #[default]
    Largest,
    /// The scale under which the squared errors of all weights of the channel are least; large ones are cut off.
    LeastSquares,
}

/// Scale of one channel's weights: positive, also where all are 0.
pub fn filter_scale(filter: &[f32], rounding: Rounding) -> f32 {
    let largest = filter.iter().fold(0.0, |most: f32, w| most.max(w.abs()));
    let full = (largest / MOST).max(SCALE_RANGE.0);
    match rounding {
        Rounding::Largest => full,
        Rounding::LeastSquares => {
            let error = |scale: f32| -> f64 {
                let off = |w: &f32| f64::from(rounded(*w, scale) * scale - w).powi(2);
                filter.iter().map(off).sum()
            };
            let shares = (0..=40).map(|k| 1.0 - 0.0125 * k as f32);
            let scales = shares.map(|share| full * share);
            scales
                .min_by(|a, b| error(*a).total_cmp(&error(*b)))
                .unwrap_or(full)
        }
    }
}

/// The step of a weight, half to even.
pub fn rounded(weight: f32, scale: f32) -> f32 {
    (weight / scale).round_ties_even().clamp(-MOST, MOST)
}

/// A convolution's weights and biases as whole numbers.
pub struct QuantisedWeights {
    /// In the order of the f32 ones.
    pub kernel: Vec<i8>,
    /// One an output channel.
    pub scale: Vec<f32>,
    /// One an output channel, in steps of input scale times `scale`.
    pub bias: Vec<i32>,
}

impl QuantisedWeights {
    /// Rounds weights that are multiplied with bytes in steps of `input_scale`.
    ///
    /// # Errors
    /// Weights or biases that are no numbers or beyond all bounds.
    pub fn of(weights: &Weights, input_scale: f32, rounding: Rounding) -> Result<Self> {
        /// A bias may take half the range of a sum.
        const MOST_BIAS: f32 = (1 << 30) as f32;
        let [outputs, channels, ..] = weights.shape;
        let mut found = Self {
            kernel: Vec::with_capacity(weights.kernel.len()),
            scale: Vec::with_capacity(outputs),
            bias: Vec::with_capacity(outputs),
        };
        for o in 0..outputs {
            let (filter, bias) = (weights.filter(o), weights.bias[o]);
            let finite = bias.is_finite() && filter.iter().all(|w| w.is_finite());
            ensure!(finite, "output channel {o} has weights that are no numbers");
            // Next to its bias, a channel of tiny weights is a constant: its steps need not be finer than the sum holds.
            let least = bias.abs() / (input_scale * MOST_BIAS);
            let scale = filter_scale(filter, rounding).max(least);
            let named = || format!("output channel {o}");
            let scale = checked_scale(scale).with_context(named)?;
            found
                .kernel
                .extend(filter.iter().map(|w| rounded(*w, scale) as i8));
            let steps =
                (f64::from(bias) / (f64::from(input_scale) * f64::from(scale))).round() as i32;
            check_sum(channels * weights.taps(), 128, steps).with_context(named)?;
            found.scale.push(scale);
            found.bias.push(steps);
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn one_filter(kernel: Vec<f32>, bias: f32) -> Weights {
        Weights {
            shape: [1, kernel.len(), 1, 1],
            kernel,
            bias: vec![bias],
        }
    }

    #[test]
    fn the_largest_weight_is_the_last_step_and_the_sign_is_kept() {
        let weights = one_filter(vec![0.5, -1.27, 0.004], 1.0);
        let found = QuantisedWeights::of(&weights, 0.1, Rounding::Largest).unwrap();
        assert_eq!(found.kernel, [50, -127, 0]);
        assert!((found.scale[0] - 0.01).abs() < 1e-8);
        assert_eq!(found.bias, [1000]);
    }

    #[test]
    fn least_squares_cuts_one_large_weight_off_for_the_sake_of_many() {
        // Halfway between two steps of the largest one.
        let mut kernel = vec![0.005; 4000];
        kernel.push(1.27);
        let error = |scale: f32| -> f32 {
            kernel
                .iter()
                .map(|w| (rounded(*w, scale) * scale - w).powi(2))
                .sum()
        };
        let full = filter_scale(&kernel, Rounding::Largest);
        let best = filter_scale(&kernel, Rounding::LeastSquares);
        assert!(best < full, "{best} {full}");
        let (cut, whole) = (error(best), error(full));
        assert!(cut < 0.9 * whole, "{cut} {whole}");
    }

    #[test]
    fn a_channel_of_zeros_keeps_its_bias() {
        let found =
            QuantisedWeights::of(&one_filter(vec![0.0; 3], 0.7), 0.05, Rounding::Largest).unwrap();
        assert_eq!(found.kernel, [0, 0, 0]);
        let bias = f64::from(found.bias[0]) * f64::from(found.scale[0]) * 0.05;
        assert!((bias - 0.7).abs() < 1e-6, "{bias}");
    }

    #[test]
    fn weights_that_are_no_numbers_are_refused() {
        for (weight, bias) in [(f32::INFINITY, 0.0), (f32::NAN, 0.0), (1.0, f32::NAN)] {
            let weights = one_filter(vec![weight], bias);
            assert!(
                QuantisedWeights::of(&weights, 0.05, Rounding::Largest).is_err(),
                "{weight} {bias}"
            );
        }
    }
}
