//! Losses: tensors in, a scalar out. Nothing here knows of networks or data.
//!
//! - [`score`]: penalty-reduced focal loss of the score map (CenterNet, Zhou et al. 2019).
//! - [`boxes`]: `1 - GIoU` and size-relative L1 on the cells inside the object.
//! - [`classes`]: cross entropy of classes.
//! - [`presence`]: binary cross entropy of "the target is here".
//! - [`embedding`]: who lies beside whom: identity in the tracker (InfoNCE), and every loss of a Siamese network.
//! - [`adversarial`]: who made a sample, and what the maker is told; codes that are read off it again.
//!
//! [`targets`] turns boxes into the maps that the first two compare with; [`proposals`] does it for frames with many
//! objects, of which not all kinds are labelled.

pub mod adversarial;
pub mod boxes;
pub mod classes;
pub mod embedding;
pub mod presence;
pub mod proposals;
pub mod score;
pub mod targets;

use candle_core::{Result, Tensor};

/// `log(1 + exp(x))` without overflow; its gradient is the sigmoid everywhere.
pub fn softplus(x: &Tensor) -> Result<Tensor> {
    x.relu()? + (x.abs()?.neg()?.exp()? + 1.0)?.log()?
}
