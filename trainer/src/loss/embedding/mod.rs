//! Losses of embeddings: points of one object, or class, should lie together, and others apart.
//!
//! In: embeddings of a batch with their classes. Out: a scalar. Who is compared with whom is decided by [`mining`] on plain
//! numbers; the losses themselves are functions of tensors. The tracker's identity loss is [`info_nce`].
//!
//! | loss | of | |
//! |---|---|---|
//! | [`pairs::contrastive`] | pairs | Hadsell, Chopra and LeCun 2006 |
//! | [`pairs::energy`] | pairs | Chopra, Hadsell and LeCun 2005 |
//! | [`triplet`](triplet::triplet) | anchor, mate, stranger | Schroff et al. 2015 |
//! | [`multi_similarity`](multi_similarity::multi_similarity) | every pair, weighted | Wang et al. 2019 |
//! | [`info_nce`](info_nce::info_nce) | an anchor among candidates | van den Oord et al. 2018 |
//!
//! Labels of pairs say `1` for similar. No gradient is infinite where two points coincide: a length is
//! `sqrt(d^2 + `[`LENGTH_EPSILON`]`)` ([`pairs::distance`]).
//!
//! ```
//! use candle_core::{Device, Tensor};
//! use roadhound_trainer::loss::embedding::{EmbeddingLoss, info_nce::InfoNceConfig};
//! let points = Tensor::new(&[[1f32, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]], &Device::Cpu)?;
//! let loss = EmbeddingLoss::InfoNce(InfoNceConfig::default());
//! assert!(loss.of_batch(&points, &[4, 4, 9, 9])?.to_scalar::<f32>()? < 0.01);
//! # Ok::<(), candle_core::Error>(())
//! ```

use candle_core::{DType, Result, Tensor};
use serde::{Deserialize, Serialize};

pub mod info_nce;
pub mod mining;
pub mod multi_similarity;
pub mod pairs;
pub mod triplet;

use self::info_nce::InfoNceConfig;
use self::mining::PairMining;
use self::multi_similarity::MultiSimilarityConfig;
use self::pairs::{ContrastiveConfig, EnergyConfig, Measure};
use self::triplet::TripletConfig;
use crate::config::{ConfigError, in_range};

/// Added under the root of a squared distance. Its effect is below 1e-6 where distances are above 1e-6, and the gradient at
/// distance 0 is 0.
pub const LENGTH_EPSILON: f64 = 1e-12;

/// A loss of a batch with its constants.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum EmbeddingLoss {
    /// See [`pairs::contrastive`].
    Contrastive(ContrastiveConfig),
    /// See [`pairs::energy`].
    Energy(EnergyConfig),
    /// See [`triplet::triplet`].
    Triplet(TripletConfig),
    /// See [`multi_similarity::multi_similarity`].
    MultiSimilarity(MultiSimilarityConfig),
    /// See [`info_nce::info_nce`].
    InfoNce(InfoNceConfig),
}

impl EmbeddingLoss {
    /// Its name in a configuration.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Contrastive(_) => "contrastive",
            Self::Energy(_) => "energy",
            Self::Triplet(_) => "triplet",
            Self::MultiSimilarity(_) => "multi_similarity",
            Self::InfoNce(_) => "info_nce",
        }
    }

    /// What it compares points by.
    pub fn measure(&self) -> Measure {
        match self {
            Self::Energy(_) => Measure::CityBlock,
            _ => Measure::Euclid,
        }
    }

    /// Whether it is one of similarities, which need points of unit norm.
    pub fn needs_unit_norm(&self) -> bool {
        matches!(self, Self::MultiSimilarity(_) | Self::InfoNce(_))
    }

    /// Every loss with its default constants.
    pub fn all() -> [Self; 5] {
        [
            Self::Contrastive(ContrastiveConfig::default()),
            Self::Energy(EnergyConfig::default()),
            Self::Triplet(TripletConfig::default()),
            Self::MultiSimilarity(MultiSimilarityConfig::default()),
            Self::InfoNce(InfoNceConfig::default()),
        ]
    }

    /// Checks the constants.
    ///
    /// # Errors
    /// The first that is out of its range.
    pub fn validate(&self) -> std::result::Result<(), ConfigError> {
        match self {
            Self::Contrastive(c) => in_range("loss.margin", c.margin, 1e-6, 1e6),
            Self::Energy(c) => {
                in_range("loss.similar", c.similar, 0.0, 1e6)?;
                in_range("loss.dissimilar", c.dissimilar, 0.0, 1e6)?;
                in_range("loss.decay", c.decay, 1e-6, 1e6)
            }
            Self::Triplet(c) => in_range("loss.margin", c.margin, 0.0, 1e6),
            Self::MultiSimilarity(c) => {
                in_range("loss.alpha", c.alpha, 1e-3, 80.0)?;
                // exp(beta (1 - base)) has to fit in f32.
                in_range("loss.beta", c.beta, 1e-3, 80.0)?;
                in_range("loss.base", c.base, 0.0, 1.0)?;
                in_range("loss.epsilon", c.epsilon, 0.0, 2.0)
            }
            Self::InfoNce(c) => in_range("loss.temperature", c.temperature, 1e-3, 1e3),
        }
    }

    /// The loss of a batch of points with their classes. A batch in which nothing can be compared costs nothing.
    ///
    /// # Shapes
    /// `points` `[N, E]`, unit norm where the loss is one of similarities; `labels` N; returns a scalar.
    ///
    /// # Errors
    /// If an operator fails.
    pub fn of_batch(&self, points: &Tensor, labels: &[u32]) -> Result<Tensor> {
        let (n, _) = points.dims2()?;
        if n != labels.len() {
            candle_core::bail!("{n} points and {} labels", labels.len());
        }
        let nothing = || points.sum_all()? * 0.0;
        match self {
            Self::Contrastive(c) => match pairs_of(points, labels, c.mining, self.measure())? {
                Some((distance, similar)) => pairs::contrastive(&distance, &similar, c),
                None => nothing(),
            },
            Self::Energy(c) => match pairs_of(points, labels, c.mining, self.measure())? {
                Some((energy, similar)) => pairs::energy(&energy, &similar, c),
                None => nothing(),
            },
            Self::Triplet(c) => {
                let between = distances(points, self.measure())?;
                let triplets = c.mining.triplets(&between, labels, c.margin as f32);
                if triplets.is_empty() {
                    return nothing();
                }
                let part = |of: fn(&[usize; 3]) -> usize| chosen(points, triplets.iter().map(of));
                let (anchor, mate, stranger) = (part(|t| t[0])?, part(|t| t[1])?, part(|t| t[2])?);
                triplet::triplet(&anchor, &mate, &stranger, c)
            }
            Self::MultiSimilarity(c) => multi_similarity::multi_similarity(points, labels, c),
            Self::InfoNce(c) => {
                let Some(mates) = info_nce::mates(labels) else {
                    return nothing();
                };
                let mask = info_nce::mask(labels, &mates);
                let own: Vec<u32> = mates.iter().map(|mate| *mate as u32).collect();
                let device = points.device();
                let candidates = points.index_select(&Tensor::new(own, device)?, 0)?;
                let mask = Tensor::from_vec(mask, (n, n), device)?.to_dtype(points.dtype())?;
                let weight = mates
                    .iter()
                    .enumerate()
                    .map(|(own, mate)| f32::from(own != *mate));
                let weight = Tensor::from_vec(weight.collect::<Vec<_>>(), n, device)?;
                let weight = weight.to_dtype(points.dtype())?;
                info_nce::info_nce(points, &candidates, &mask, &weight, c.temperature)
            }
        }
    }
}

/// What lies between every two points, as plain numbers.
///
/// # Errors
/// If they cannot be read.
pub fn distances(points: &Tensor, measure: Measure) -> Result<Vec<Vec<f32>>> {
    let rows = points.to_dtype(DType::F32)?.to_vec2::<f32>()?;
    let from = |a: &Vec<f32>| rows.iter().map(|b| measure.between(a, b)).collect();
    Ok(rows.iter().map(from).collect())
}

fn chosen(points: &Tensor, indices: impl Iterator<Item = usize>) -> Result<Tensor> {
    let indices: Vec<u32> = indices.map(|i| i as u32).collect();
    points.index_select(&Tensor::new(indices, points.device())?, 0)
}

/// The mined pairs' `measure`, and 1 where they are similar; `None` where there are none.
fn pairs_of(
    points: &Tensor,
    labels: &[u32],
    mining: PairMining,
    measure: Measure,
) -> Result<Option<(Tensor, Tensor)>> {
    let mined = mining.pairs(&distances(points, measure)?, labels);
    if mined.is_empty() {
        return Ok(None);
    }
    let first = chosen(points, mined.iter().map(|p| p.0))?;
    let second = chosen(points, mined.iter().map(|p| p.1))?;
    let similar = mined
        .iter()
        .map(|(a, b)| f32::from(labels[*a] == labels[*b]));
    let similar = Tensor::from_vec(similar.collect::<Vec<_>>(), mined.len(), points.device())?;
    let similar = similar.to_dtype(points.dtype())?;
    Ok(Some((measure.of_rows(&first, &second)?, similar)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::model::net::unit_norm;
    use crate::ops::gradcheck::{Settings, check};
    use candle_core::{Device, Var};

    const LABELS: [u32; 6] = [0, 0, 1, 1, 2, 2];

    fn points() -> Tensor {
        let values: Vec<f64> = (0..18).map(|i| (f64::from(i) * 1.3).sin()).collect();
        Tensor::from_vec(values, (6, 3), &Device::Cpu).unwrap()
    }

    #[test]
    fn gradients_of_every_loss_agree_with_finite_differences() {
        for loss in EmbeddingLoss::all() {
            check(&[points()], &Settings::F64, |x| {
                loss.of_batch(&unit_norm(&x[0])?, &LABELS)
            })
            .unwrap_or_else(|e| panic!("{}: {e}", loss.name()));
        }
    }

    #[test]
    fn a_batch_whose_points_all_coincide_has_finite_losses_and_gradients() {
        for loss in EmbeddingLoss::all() {
            let ones = Tensor::ones((6, 3), DType::F32, &Device::Cpu).unwrap();
            let same = Var::from_tensor(&(ones / 3f64.sqrt()).unwrap()).unwrap();
            let value = loss.of_batch(same.as_tensor(), &LABELS).unwrap();
            let gradients = value.backward().unwrap();
            let gradient = gradients.get(&same).unwrap();
            let gradient = gradient.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let value = value.to_scalar::<f32>().unwrap();
            let finite = value.is_finite() && gradient.iter().all(|g| g.is_finite());
            assert!(finite, "{}: {value} {gradient:?}", loss.name());
        }
    }

    #[test]
    fn classes_that_are_set_apart_cost_less_than_classes_that_are_mixed() {
        let apart = [[1f32, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];
        let tensor =
            |rows: Vec<[f32; 3]>| Tensor::from_vec(rows.concat(), (6, 3), &Device::Cpu).unwrap();
        let good = tensor(LABELS.iter().map(|l| apart[*l as usize]).collect());
        let bad = tensor((0..6).map(|i| apart[i % 3]).collect());
        for loss in EmbeddingLoss::all() {
            let cost = |x| {
                loss.of_batch(x, &LABELS)
                    .unwrap()
                    .to_scalar::<f32>()
                    .unwrap()
            };
            assert!(cost(&good) < cost(&bad), "{}", loss.name());
        }
    }

    #[test]
    fn a_batch_in_which_nothing_can_be_compared_costs_nothing() {
        let one = points().narrow(0, 0, 1).unwrap();
        for loss in EmbeddingLoss::all() {
            let value = loss
                .of_batch(&one, &[5])
                .unwrap()
                .to_scalar::<f64>()
                .unwrap();
            assert!(value.abs() < 1e-6, "{}: {value}", loss.name());
        }
    }
}
