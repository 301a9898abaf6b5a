//! A task joins a model, its losses and its batches; the train loop knows nothing else.
//!
//! In: batches. Out: a scalar to descend, with its parts for the log, and a validation of given weights.

pub mod track;

use candle_core::{Result, Tensor};

use crate::params::{Params, Snapshot};

/// The loss of one step.
pub struct StepLoss {
    /// Scalar whose gradient is followed.
    pub total: Tensor,
    /// Parts by name, for the log; in a fixed order.
    pub parts: Vec<(&'static str, f32)>,
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

    /// The loss of `batch`; `step` seeds whatever is random about it.
    fn loss(&self, batch: &Self::Batch, step: u64) -> Result<StepLoss>;

    /// Figures of the weights in `snapshot` on the task's own held-out data, by name.
    /// A figure called `auc` decides which checkpoint is the best.
    fn validate(&mut self, snapshot: &Snapshot) -> anyhow::Result<Vec<(&'static str, f64)>>;

    /// How far the last validation's probabilities can be taken at their word, as CSV; `None` where nothing predicts any.
    fn calibration_csv(&self) -> Option<String> {
        None
    }

    /// Saves a batch for post-mortem, e.g. after a loss that is not a number.
    fn save_batch(&self, batch: &Self::Batch, path: &std::path::Path) -> anyhow::Result<()>;
}
