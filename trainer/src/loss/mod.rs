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

use candle_core::{D, Result, Tensor};

/// `log(1 + exp(x))` without overflow; its gradient is the sigmoid everywhere.
pub fn softplus(x: &Tensor) -> Result<Tensor> {
    x.relu()? + (x.abs()?.neg()?.exp()? + 1.0)?.log()?
}

/// The mean over the rows of `-log softmax(logits)[target]`, shifted by each row's highest so that nothing overflows.
///
/// # Shapes
/// `logits` `[N, C]`; `targets` `[N, C]`, each row adding up to 1.
pub fn cross_entropy(logits: &Tensor, targets: &Tensor) -> Result<Tensor> {
    let highest = logits.max_keepdim(D::Minus1)?.detach();
    let shifted = logits.broadcast_sub(&highest)?;
    let log_sum = shifted.exp()?.sum(D::Minus1)?.log()?;
    let named = (shifted * targets)?.sum(D::Minus1)?;
    (log_sum - named)?.mean_all()
}

/// `[N, classes]` with a 1 in each row, at the place of its label.
pub fn one_hot(labels: &[u32], classes: usize, device: &candle_core::Device) -> Result<Tensor> {
    let mut values = vec![0f32; labels.len() * classes];
    for (row, label) in labels.iter().enumerate() {
        if (*label as usize) < classes {
            values[row * classes + *label as usize] = 1.0;
        }
    }
    Tensor::from_vec(values, (labels.len(), classes), device)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::ops::gradcheck::{Settings, check};
    use candle_core::Device;

    #[test]
    fn cross_entropy_is_the_logarithm_of_the_named_share_and_does_not_overflow() {
        let logits = Tensor::new(&[[0f32, 3f32.ln()], [800.0, 0.0]], &Device::Cpu).unwrap();
        let targets = one_hot(&[1, 0], 2, &Device::Cpu).unwrap();
        let found = cross_entropy(&logits, &targets)
            .unwrap()
            .to_scalar::<f32>()
            .unwrap();
        assert!((found - 0.5 * (4f32 / 3.0).ln()).abs() < 1e-6);
        let logits = Tensor::new(&[[0.3f64, -1.0, 2.0], [0.5, 0.1, 0.2]], &Device::Cpu).unwrap();
        let targets = Tensor::new(&[[0.0f64, 1.0, 0.0], [0.2, 0.3, 0.5]], &Device::Cpu).unwrap();
        check(&[logits], &Settings::F64, |x| {
            cross_entropy(&x[0], &targets)
        })
        .unwrap();
    }
}
