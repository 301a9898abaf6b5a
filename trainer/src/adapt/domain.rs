//! The head that tells the source's features from the target's, and the loss that sets it against them.
//!
//! In: rows of features of both domains, as many as there are of each, with a weight a row where they do not count the same
//! (confidence, class balance). Out: [`DomainLoss`]. With features of parameters `f`, classes of `y` and domains of `d`,
//! `E(f, y, d) = L_y(f, y) - strength L_d(f, d)`; `f` and `y` descend `E` and `d` climbs it, that is, descends `L_d`. What is
//! added to `L_y` here has these gradients.
//!
//! The head is a player of its own ([`players`]) with an optimiser of its own, and may go faster. AdamW divides by the size of
//! gradients: once the classes are learned, nearly all of a feature's step is its flight from the head, at full length however
//! small the strength, and a head that is no faster never learns where they have gone.
//!
//! The head sees rows brought to a root mean square of one. Features that climb the head's loss could otherwise do so without
//! end by growing, and the game runs away: without it the domains' cross entropy swung between .1 and 10 nats on digits.

use candle_core::{D, Result, Tensor};
use serde::{Deserialize, Serialize};

use super::reversal::{reverse, strength_at};
use crate::config::{ConfigError, in_range};
use crate::labelled::Shape;
use crate::loss::softplus;
use crate::model::Pass;
use crate::model::stack::{Stack, StackConfig, StackError};
use crate::params::{ParamBuilder, Params};
use crate::task::Player;

/// Keeps rows of nothing finite.
const SMALLEST_SQUARE: f64 = 1e-6;

/// How far the domain head goes in a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DomainStep {
    /// Along its own gradient: only what comes out of the reversal is scaled. What most programs do.
    #[default]
    Separate,
    /// By the strength, as the features do: the equations as published. AdamW divides by the size of gradients, which would take
    /// the factor out again, so that it is one of the head's learning rate as well ([`DomainStep::share_at`]).
    Shared,
}

impl DomainStep {
    /// The share of its rate that the head goes at this strength of the reversal.
    pub fn share_at(self, strength: f64) -> f64 {
        match self {
            Self::Separate => 1.0,
            Self::Shared => strength,
        }
    }
}

/// The head and how hard features are driven against it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DomainConfig {
    /// Values after each layer of the head but the last.
    pub widths: Vec<usize>,
    /// Strength that is reached at the end of the run.
    pub highest: f64,
    /// How fast it rises; 10 as published.
    pub rise: f64,
    /// How far the head goes in a step.
    pub step: DomainStep,
    /// Its learning rate, as a multiple of the features'.
    pub rate: f64,
}

impl Default for DomainConfig {
    fn default() -> Self {
        Self {
            widths: vec![128],
            highest: 0.3,
            rise: 10.0,
            step: DomainStep::default(),
            rate: 5.0,
        }
    }
}

impl DomainConfig {
    /// Checks the ranges; `name` is the table's.
    ///
    /// # Errors
    /// The first value that is out of its range.
    pub fn validate(&self, name: &str) -> std::result::Result<(), ConfigError> {
        self.stack().validate(name)?;
        in_range(&format!("{name}.highest"), self.highest, 0.0, 1e3)?;
        in_range(&format!("{name}.rise"), self.rise, 0.0, 1e3)?;
        in_range(&format!("{name}.rate"), self.rate, 1e-3, 1e3)
    }

    /// The reversal's strength at this share of the run.
    pub fn strength_at(&self, progress: f64) -> f64 {
        strength_at(self.highest, self.rise, progress)
    }

    fn stack(&self) -> StackConfig {
        StackConfig {
            channels: Vec::new(),
            widths: self.widths.clone(),
            ..StackConfig::default()
        }
    }
}

/// Who moves: first everything but the head, by [`DomainLoss::total`] and what it is added to; then the head, whose variables'
/// names begin with `head`, by [`DomainHead::own_loss`].
pub fn players(params: &Params, head: &str, rate: f64) -> Vec<Player> {
    vec![
        Player {
            params: params.without(&[head]),
            rate: 1.0,
        },
        Player {
            params: params.of(&[head]),
            rate,
        },
    ]
}

/// What a step of the adversarial game adds.
pub struct DomainLoss {
    /// To be added to the loss of the classes.
    pub total: Tensor,
    /// Cross entropy of the domains, each counting half, in nats: ln 2 where they cannot be told apart.
    pub entropy: Tensor,
}

/// The head.
pub struct DomainHead {
    stack: Stack,
}

impl DomainHead {
    /// Over rows of `features` values.
    ///
    /// # Errors
    /// A name that is taken.
    pub fn new(
        builder: &mut ParamBuilder,
        name: &str,
        features: usize,
        config: &DomainConfig,
    ) -> std::result::Result<Self, StackError> {
        let shape = Shape {
            height: 1,
            width: 1,
            channels: features,
        };
        let stack = Stack::encoder(builder, name, shape, &config.stack(), 1, false)?;
        Ok(Self { stack })
    }

    /// Logarithms of the odds that a row is the target's.
    ///
    /// # Shapes
    /// `rows` `[N, F]`; returns `[N]`
    ///
    /// # Errors
    /// Rows of another length.
    pub fn log_odds(&self, rows: &Tensor) -> Result<Tensor> {
        let square = (rows.sqr()?.mean_keepdim(D::Minus1)? + SMALLEST_SQUARE)?;
        let rows = rows.broadcast_div(&square.sqrt()?)?;
        self.stack.forward(&rows, Pass::Eval)?.squeeze(1)
    }

    /// What the head itself descends: its cross entropy, of rows that do not move for it.
    ///
    /// # Errors
    /// Rows of another length.
    pub fn own_loss(
        &self,
        source: &Tensor,
        target: &Tensor,
        weights: Option<[&Tensor; 2]>,
        strength: f64,
        step: DomainStep,
    ) -> Result<Tensor> {
        let (source, target) = (source.detach(), target.detach());
        Ok(self.loss(&source, &target, weights, strength, step)?.total)
    }

    /// See [`adversarial`].
    ///
    /// # Errors
    /// Rows of another length.
    pub fn loss(
        &self,
        source: &Tensor,
        target: &Tensor,
        weights: Option<[&Tensor; 2]>,
        strength: f64,
        step: DomainStep,
    ) -> Result<DomainLoss> {
        adversarial(
            |rows| self.log_odds(rows),
            [source, target],
            weights,
            strength,
            step,
        )
    }
}

/// The loss of both players; `log_odds` is the head.
///
/// # Shapes
/// `rows` (source, target) `[N, F]` and `[M, F]`, `weights` `[N]` and `[M]`; scalars come back
///
/// # Errors
/// If an operator fails.
pub fn adversarial(
    log_odds: impl Fn(&Tensor) -> Result<Tensor>,
    rows: [&Tensor; 2],
    weights: Option<[&Tensor; 2]>,
    strength: f64,
    step: DomainStep,
) -> Result<DomainLoss> {
    let (through, factor) = match step {
        DomainStep::Separate => (strength, 1.0),
        DomainStep::Shared => (1.0, strength),
    };
    let mut halves = Vec::with_capacity(2);
    for (domain, rows) in rows.into_iter().enumerate() {
        let odds = log_odds(&reverse(rows, through)?)?;
        // -log(1 - s(z)) of the source, -log s(z) of the target.
        let costs = softplus(&if domain == 0 { odds } else { odds.neg()? })?;
        halves.push(match weights {
            None => costs.mean_all()?,
            Some(weights) => {
                let weight = weights[domain];
                let sum = (weight.sum_all()? + 1e-9)?;
                (costs * weight)?.sum_all()?.div(&sum)?
            }
        });
    }
    let entropy = ((&halves[0] + &halves[1])? * 0.5)?;
    Ok(DomainLoss {
        total: (&entropy * factor)?,
        entropy,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use candle_core::{Device, Var};

    fn numbers(count: usize, shape: (usize, usize), by: f64) -> Tensor {
        let values = (0..count).map(|i| (i as f64 * by).sin());
        Tensor::from_vec(values.collect::<Vec<_>>(), shape, &Device::Cpu).unwrap()
    }

    /// `f`: tanh of a product; `y`: a regression on the source; `d`: a head of one layer.
    struct Toy {
        blocks: [Tensor; 3],
    }

    impl Toy {
        fn new() -> Self {
            Self {
                blocks: [
                    numbers(12, (3, 4), 0.7),
                    numbers(4, (4, 1), 1.3),
                    numbers(4, (4, 1), 2.1),
                ],
            }
        }

        fn features(w: &Tensor, domain: usize) -> Tensor {
            let x = match domain {
                0 => numbers(15, (5, 3), 0.37),
                _ => (numbers(21, (7, 3), 0.53) + 0.4).unwrap(),
            };
            x.matmul(w).unwrap().tanh().unwrap()
        }

        fn class_loss(blocks: &[Tensor]) -> Tensor {
            let found = Self::features(&blocks[0], 0).matmul(&blocks[1]).unwrap();
            let wanted = numbers(5, (5, 1), 3.0);
            (found - wanted).unwrap().sqr().unwrap().mean_all().unwrap()
        }

        fn domain_loss(blocks: &[Tensor], strength: f64, step: DomainStep) -> DomainLoss {
            let [source, target] = [0, 1].map(|domain| Self::features(&blocks[0], domain));
            let head = |rows: &Tensor| rows.matmul(&blocks[2])?.squeeze(1);
            let weights = [numbers(5, (5, 1), 0.9), numbers(7, (7, 1), 0.4)]
                .map(|w| w.squeeze(1).unwrap().sqr().unwrap());
            let weights = Some([&weights[0], &weights[1]]);
            adversarial(head, [&source, &target], weights, strength, step).unwrap()
        }
    }

    fn number(t: &Tensor) -> f64 {
        t.to_scalar::<f64>().unwrap()
    }

    /// Slope of `of` along one value of one block, by central differences.
    fn slope(blocks: &[Tensor], block: usize, index: usize, of: impl Fn(&[Tensor]) -> f64) -> f64 {
        let moved = |by: f64| {
            let mut blocks = blocks.to_vec();
            let mut values = blocks[block]
                .flatten_all()
                .unwrap()
                .to_vec1::<f64>()
                .unwrap();
            values[index] += by;
            blocks[block] = Tensor::from_vec(values, blocks[block].shape(), &Device::Cpu).unwrap();
            of(&blocks)
        };
        (moved(1e-5) - moved(-1e-5)) / 2e-5
    }

    #[test]
    fn features_and_classes_descend_the_saddle_and_the_domain_head_climbs_it_in_both_variants() {
        let strength = 0.35;
        for (step, head_factor) in [(DomainStep::Separate, 1.0), (DomainStep::Shared, strength)] {
            let toy = Toy::new();
            let vars = toy.blocks.each_ref().map(|b| Var::from_tensor(b).unwrap());
            let tensors: Vec<Tensor> = vars.iter().map(|v| v.as_tensor().clone()).collect();
            let loss = Toy::domain_loss(&tensors, strength, step);
            let total = (Toy::class_loss(&tensors) + loss.total).unwrap();
            let gradients = total.backward().unwrap();
            let entropy = |blocks: &[Tensor]| number(&Toy::domain_loss(blocks, 0.0, step).entropy);
            let saddle =
                |blocks: &[Tensor]| number(&Toy::class_loss(blocks)) - strength * entropy(blocks);
            for (block, var) in vars.iter().enumerate() {
                let found = gradients.get(var).unwrap().flatten_all().unwrap();
                for (index, found) in found.to_vec1::<f64>().unwrap().into_iter().enumerate() {
                    let expected = match block {
                        2 => head_factor * slope(&toy.blocks, block, index, entropy),
                        _ => slope(&toy.blocks, block, index, saddle),
                    };
                    assert!(
                        (found - expected).abs() < 1e-8,
                        "{step:?}, block {block}, value {index}: {found} {expected}"
                    );
                }
            }
        }
    }

    #[test]
    fn features_gain_nothing_by_growing_and_rows_of_nothing_have_finite_gradients() {
        let mut builder = ParamBuilder::new(4, &Device::Cpu);
        let head = DomainHead::new(&mut builder, "d", 6, &DomainConfig::default()).unwrap();
        let rows = numbers(24, (4, 6), 0.7)
            .to_dtype(candle_core::DType::F32)
            .unwrap();
        let odds = |by: f64| {
            let odds = head.log_odds(&(&rows * by).unwrap()).unwrap();
            odds.to_vec1::<f32>().unwrap()
        };
        for (a, b) in odds(1.0).iter().zip(odds(50.0)) {
            assert!((a - b).abs() < 1e-4, "{a} {b}");
        }
        let nothing = Var::from_tensor(&(rows * 0.0).unwrap()).unwrap();
        let step = DomainStep::Separate;
        let loss = head.loss(&nothing, &nothing, None, 1.0, step).unwrap();
        let gradients = loss.total.backward().unwrap();
        let found = gradients.get(&nothing).unwrap().flatten_all().unwrap();
        assert!(
            found
                .to_vec1::<f32>()
                .unwrap()
                .iter()
                .all(|g| g.is_finite())
        );
    }

    #[test]
    fn a_head_that_knows_nothing_pays_ln_2_and_rows_without_weight_do_not_count() {
        let rows = numbers(8, (4, 2), 0.3);
        let nothing = |rows: &Tensor| rows.sum(1)? * 0.0;
        let of = |weights: Option<[&Tensor; 2]>, head: &dyn Fn(&Tensor) -> Result<Tensor>| {
            let loss = adversarial(head, [&rows, &rows], weights, 1.0, DomainStep::Separate);
            number(&loss.unwrap().entropy)
        };
        assert!((of(None, &nothing) - 2f64.ln()).abs() < 1e-12);
        let first = |rows: &Tensor| rows.narrow(1, 0, 1)?.squeeze(1);
        let only = |at: usize| {
            let values: Vec<f64> = (0..4).map(|i| f64::from(u8::from(i == at))).collect();
            Tensor::from_vec(values, 4, &Device::Cpu).unwrap()
        };
        let z = rows.to_vec2::<f64>().unwrap();
        let expected = 0.5 * ((1.0 + z[1][0].exp()).ln() + (1.0 + (-z[3][0]).exp()).ln());
        let found = of(Some([&only(1), &only(3)]), &first);
        assert!((found - expected).abs() < 1e-6, "{found} {expected}");
    }
}
