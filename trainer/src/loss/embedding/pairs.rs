//! Losses of pairs: similar ones should be close, dissimilar ones further than a margin.
//!
//! In: a distance a pair, and 1 where the pair is similar. Out: their mean cost. Hadsell's labels are the other way round
//! (`Y = 1` dissimilar), Chopra's as well; the formulas are theirs, the labels are ours.
//!
//! ```
//! use candle_core::{Device, Tensor};
//! use roadhound_trainer::loss::embedding::pairs::{EnergyConfig, energy};
//! let (energies, similar) = (Tensor::new(&[0.5f32], &Device::Cpu)?, Tensor::new(&[1f32], &Device::Cpu)?);
//! assert_eq!(energy(&energies, &similar, &EnergyConfig::of_bound(2.0))?.to_scalar::<f32>()?, 0.25);
//! # Ok::<(), candle_core::Error>(())
//! ```

use candle_core::{D, Result, Tensor};
use serde::{Deserialize, Serialize};

use super::LENGTH_EPSILON;
use super::mining::PairMining;

/// Constants of [`contrastive`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ContrastiveConfig {
    /// Dissimilar pairs further apart than this cost nothing.
    pub margin: f64,
    /// Which pairs of a batch count.
    pub mining: PairMining,
}

impl Default for ContrastiveConfig {
    fn default() -> Self {
        Self {
            margin: 1.0,
            mining: PairMining::Hard,
        }
    }
}

/// Constants of [`energy`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EnergyConfig {
    /// Lambda 1: what the squared energy of a similar pair counts.
    pub similar: f64,
    /// Lambda 2: what a dissimilar pair of energy 0 costs.
    pub dissimilar: f64,
    /// Lambda 3: how fast that falls with the energy.
    pub decay: f64,
    /// Which pairs of a batch count.
    pub mining: PairMining,
}

impl EnergyConfig {
    /// Chopra's constants for energies up to `bound` (his Q): 2 / Q, 2 Q and 2.77 / Q.
    pub fn of_bound(bound: f64) -> Self {
        Self {
            similar: 2.0 / bound,
            dissimilar: 2.0 * bound,
            decay: 2.77 / bound,
            mining: PairMining::Hard,
        }
    }
}

impl Default for EnergyConfig {
    fn default() -> Self {
        Self::of_bound(2.0)
    }
}

/// What lies between two points.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// Euclid's distance.
    Euclid,
    /// Sum of the absolute differences.
    CityBlock,
}

impl Measure {
    /// Of each row of `a` to the same row of `b`.
    ///
    /// # Shapes
    /// `a`, `b` `[N, E]`; returns `[N]`
    ///
    /// # Errors
    /// If an operator fails.
    pub fn of_rows(self, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        match self {
            Self::Euclid => distance(a, b),
            Self::CityBlock => city_block(a, b),
        }
    }

    /// Of two points, as plain numbers.
    pub fn between(self, a: &[f32], b: &[f32]) -> f32 {
        let differences = a.iter().zip(b).map(|(x, y)| x - y);
        match self {
            Self::Euclid => differences.map(|d| d * d).sum::<f32>().sqrt(),
            Self::CityBlock => differences.map(f32::abs).sum(),
        }
    }
}

/// Euclid's distance of each row of `a` to the same row of `b`.
///
/// # Shapes
/// `a`, `b` `[N, E]`; returns `[N]`
///
/// # Errors
/// If an operator fails.
pub fn distance(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    ((a - b)?.sqr()?.sum(D::Minus1)? + LENGTH_EPSILON)?.sqrt()
}

/// Sum of the absolute differences (L1), Chopra's energy. `|d|` is `relu(d) + relu(-d)`, whose gradient at 0 is 0.
///
/// # Shapes
/// `a`, `b` `[N, E]`; returns `[N]`
///
/// # Errors
/// If an operator fails.
pub fn city_block(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let difference = (a - b)?;
    (difference.relu()? + difference.neg()?.relu()?)?.sum(D::Minus1)
}

/// Mean of `y d^2 / 2 + (1 - y) max(0, margin - d)^2 / 2`.
///
/// # Shapes
/// `distance`, `similar` `[N]`; returns a scalar
///
/// # Errors
/// If an operator fails.
pub fn contrastive(
    distance: &Tensor,
    similar: &Tensor,
    config: &ContrastiveConfig,
) -> Result<Tensor> {
    let close = (similar * distance.sqr()?)?;
    let lacking = (config.margin - distance)?.relu()?;
    let far = ((1.0 - similar)? * lacking.sqr()?)?;
    ((close + far)? * 0.5)?.mean_all()
}

/// Mean of `y l1 E^2 + (1 - y) l2 exp(-l3 E)`.
///
/// # Shapes
/// `energy`, `similar` `[N]`; returns a scalar
///
/// # Errors
/// If an operator fails.
pub fn energy(energy: &Tensor, similar: &Tensor, config: &EnergyConfig) -> Result<Tensor> {
    let close = ((similar * energy.sqr()?)? * config.similar)?;
    let falling = ((energy * -config.decay)?.exp()? * config.dissimilar)?;
    (close + ((1.0 - similar)? * falling)?)?.mean_all()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use candle_core::{DType, Device};

    const ENERGIES: [f64; 5] = [0.0, 0.25, 0.5, 1.0, 2.0];

    /// The cost of each energy on its own, in double precision.
    fn costs(similar: f64, loss: impl Fn(&Tensor, &Tensor) -> Result<Tensor>) -> Vec<f64> {
        let one = |value: f64| Tensor::new(&[value], &Device::Cpu).unwrap();
        let cost = |e: &f64| loss(&one(*e), &one(similar)).unwrap().to_scalar().unwrap();
        ENERGIES.iter().map(cost).collect()
    }

    fn assert_close(found: &[f64], expected: &[f64]) {
        for (a, b) in found.iter().zip(expected) {
            assert!((a - b).abs() < 1e-6, "{found:?} {expected:?}");
        }
    }

    #[test]
    fn chopras_table_at_a_bound_of_two() {
        // 2 Q exp(-2.77 E / Q), from Python's math.exp.
        let dissimilar = [
            4.0,
            2.829_342_524,
            2.001_294_780,
            1.001_295_199,
            0.250_648_019,
        ];
        let loss = |e: &Tensor, y: &Tensor| energy(e, y, &EnergyConfig::of_bound(2.0));
        assert_close(&costs(1.0, loss), &[0.0, 0.0625, 0.25, 1.0, 4.0]);
        assert_close(&costs(0.0, loss), &dissimilar);
    }

    #[test]
    fn hadsells_table_at_a_margin_of_one() {
        let loss = |d: &Tensor, y: &Tensor| contrastive(d, y, &ContrastiveConfig::default());
        assert_close(&costs(1.0, loss), &[0.0, 0.03125, 0.125, 0.5, 2.0]);
        assert_close(&costs(0.0, loss), &[0.5, 0.28125, 0.125, 0.0, 0.0]);
    }

    #[test]
    fn a_pair_costs_the_same_whichever_of_the_two_comes_first_to_the_bit() {
        let rows = |seed: f32| {
            let values: Vec<f32> = (0..40).map(|i| (i as f32 * seed).sin()).collect();
            Tensor::from_vec(values, (8, 5), &Device::Cpu).unwrap()
        };
        let (a, b) = (rows(0.7), rows(1.9));
        for measure in [distance, city_block] {
            let forwards = measure(&a, &b).unwrap().to_vec1::<f32>().unwrap();
            let backwards = measure(&b, &a).unwrap().to_vec1::<f32>().unwrap();
            assert_eq!(forwards, backwards);
        }
    }

    #[test]
    fn points_that_coincide_are_at_distance_zero_and_are_not_pushed_anywhere() {
        for measure in [distance, city_block] {
            let a = candle_core::Var::ones((1, 4), DType::F32, &Device::Cpu).unwrap();
            let b = a.as_tensor().detach();
            let d = measure(a.as_tensor(), &b).unwrap();
            let gradients = d.sum_all().unwrap().backward().unwrap();
            let gradient = gradients.get(&a).unwrap().to_vec2::<f32>().unwrap();
            assert_eq!(gradient, [[0.0; 4]]);
            assert!(d.to_vec1::<f32>().unwrap()[0] <= 1e-6);
        }
    }
}
