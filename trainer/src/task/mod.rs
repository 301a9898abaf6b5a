//! A task joins a model, its losses and its batches; the train loop knows nothing else.
//!
//! In: batches. Out: a scalar to descend, with its parts for the log, and a validation of given weights.

pub mod adapt;
pub mod autoencoder;
pub mod dann;
pub mod disentangle;
pub mod gan;
pub mod propose;
pub mod siamese;
pub mod track;

use candle_core::{Result, Tensor};

use crate::params::{Params, Snapshot};
use crate::report::panels::Panel;

/// The loss of one step.
pub struct StepLoss {
    /// Scalar whose gradient is followed.
    pub total: Tensor,
    /// Parts by name, for the log; in a fixed order.
    pub parts: Vec<(&'static str, f32)>,
}

/// The figure of a validation that decides which checkpoint is the best.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BestBy {
    /// The highest of this name.
    Highest(&'static str),
    /// The lowest of this name.
    Lowest(&'static str),
}

impl BestBy {
    /// Its name, and 1 where higher is better, -1 where lower is.
    pub fn column_and_sign(self) -> (&'static str, f64) {
        match self {
            Self::Highest(name) => (name, 1.0),
            Self::Lowest(name) => (name, -1.0),
        }
    }
}

/// Variables that one optimiser moves, by a loss of their own.
pub struct Player {
    /// Those variables.
    pub params: Params,
    /// Its learning rate, as a multiple of the run's.
    pub rate: f64,
}

/// What a player does in a step.
pub struct Turn {
    /// The loss that it descends.
    pub loss: StepLoss,
    /// The share of its rate that it goes; at 0 it stays where it is, moments and all.
    pub share: f64,
}

impl Turn {
    /// A whole step.
    pub fn whole(loss: StepLoss) -> Self {
        Self { loss, share: 1.0 }
    }

    /// A whole step, or none.
    pub fn unless(sits_out: bool, loss: StepLoss) -> Self {
        let share = if sits_out { 0.0 } else { 1.0 };
        Self { loss, share }
    }

    /// Whether the player stays where it is this time.
    pub fn sits_out(&self) -> bool {
        self.share == 0.0
    }
}

/// What can be trained.
pub trait Task {
    /// What one step sees.
    type Batch;

    /// Variables that the optimiser moves.
    fn params(&self) -> &Params;

    /// Holds normalisation constant from now on, or lets it learn again. Tasks without any have nothing to do.
    fn freeze_norm(&mut self, _frozen: bool) {}

    /// Computes as the int8 graphs will from now on, or in full precision again. Tasks without such graphs have nothing
    /// to do.
    fn quantise(&mut self, _quantised: bool) {}

    /// The loss of `batch`, of the first player where there are several; `step` seeds whatever is random about it.
    fn loss(&self, batch: &Self::Batch, step: u64) -> Result<StepLoss>;

    /// Who moves in a step, one after the other: one player with all variables, where a task does not say otherwise. A
    /// variable may be of several; the first ones' memory is the checkpoint's own.
    fn players(&self) -> Vec<Player> {
        vec![Player {
            params: self.params().clone(),
            rate: 1.0,
        }]
    }

    /// What player number `player` does in a step, after those before it have moved. The parts of all players' losses have
    /// different names.
    fn turn(&self, _player: usize, batch: &Self::Batch, step: u64) -> Result<Turn> {
        Ok(Turn::whole(self.loss(batch, step)?))
    }

    /// What a batch is counted in: a column of the logs, and the progress bar's word.
    fn unit(&self) -> &'static str {
        "pairs"
    }

    /// Which figure of [`Task::validate`] decides what the best checkpoint is.
    fn best_by(&self) -> BestBy {
        BestBy::Highest("auc")
    }

    /// Figures of the weights in `snapshot` on the task's own held-out data, by name.
    fn validate(&mut self, snapshot: &Snapshot) -> anyhow::Result<Vec<(&'static str, f64)>>;

    /// How far the last validation's probabilities can be taken at their word, as CSV; `None` where nothing predicts any.
    fn calibration_csv(&self) -> Option<String> {
        None
    }

    /// What the report shows beside curves, as of the last validation; pictures are written to `folder` here.
    fn panels(&mut self, _folder: &std::path::Path) -> anyhow::Result<Vec<Panel>> {
        Ok(Vec::new())
    }

    /// Saves a batch for post-mortem, e.g. after a loss that is not a number.
    fn save_batch(&self, batch: &Self::Batch, path: &std::path::Path) -> anyhow::Result<()>;
}
