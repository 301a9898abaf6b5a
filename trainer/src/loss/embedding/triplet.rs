//! Triplets: a stranger should be further from an anchor than its mate, by a margin (Schroff et al. 2015).
//!
//! In: rows of anchors, mates and strangers. Out: the mean of `max(0, d(anchor, mate) - d(anchor, stranger) + margin)`.

use candle_core::{Result, Tensor};
use serde::{Deserialize, Serialize};

use super::mining::TripletMining;
use super::pairs::distance;

/// Constants of [`triplet`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TripletConfig {
    /// How much further a stranger should be.
    pub margin: f64,
    /// Which triplets of a batch count.
    pub mining: TripletMining,
}

impl Default for TripletConfig {
    fn default() -> Self {
        Self {
            margin: 0.3,
            mining: TripletMining::SemiHard,
        }
    }
}

/// The loss of the module head.
///
/// # Shapes
/// all `[N, E]`; returns a scalar
///
/// # Errors
/// If an operator fails.
pub fn triplet(
    anchor: &Tensor,
    mate: &Tensor,
    stranger: &Tensor,
    config: &TripletConfig,
) -> Result<Tensor> {
    let gap = (distance(anchor, mate)? - distance(anchor, stranger)?)?;
    (gap + config.margin)?.relu()?.mean_all()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use candle_core::Device;

    #[test]
    fn a_triplet_costs_what_is_missing_from_the_margin() {
        let row = |x: f64| Tensor::new(&[[x, 0.0]], &Device::Cpu).unwrap();
        let config = TripletConfig {
            margin: 0.5,
            ..TripletConfig::default()
        };
        for (stranger, expected) in [(1.2, 0.3), (1.5, 0.0), (3.0, 0.0), (0.0, 1.5)] {
            let cost = triplet(&row(0.0), &row(1.0), &row(stranger), &config).unwrap();
            let cost: f64 = cost.to_scalar().unwrap();
            assert!((cost - expected).abs() < 1e-6, "{stranger}: {cost}");
        }
    }
}
