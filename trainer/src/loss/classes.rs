//! Cross entropy of classes, and the probabilities that go with it.
//!
//! ```
//! use candle_core::{Device, Tensor};
//! use roadhound_trainer::loss::classes::cross_entropy;
//! let undecided = Tensor::zeros((2, 10), candle_core::DType::F32, &Device::Cpu)?;
//! let loss = cross_entropy(&undecided, &[3, 7], None)?.to_scalar::<f32>()?;
//! assert!((loss - 10f32.ln()).abs() < 1e-6);
//! # Ok::<(), candle_core::Error>(())
//! ```

use candle_core::{D, Result, Tensor, bail};

/// Keeps the logarithm of nothing finite.
const SMALLEST_SHARE: f64 = 1e-8;

/// Mean of `-log p(class)` over the rows, in nats; the mean weighted where weights are given.
///
/// # Shapes
/// `scores` `[N, C]` before any softmax, `labels` N of them below C, `weights` `[N]`; returns a scalar
///
/// # Errors
/// Labels that are not one a row or not below C.
pub fn cross_entropy(scores: &Tensor, labels: &[u32], weights: Option<&Tensor>) -> Result<Tensor> {
    let (n, classes) = scores.dims2()?;
    if labels.len() != n || labels.iter().any(|label| *label as usize >= classes) {
        bail!("{} labels, expected {n} below {classes}", labels.len());
    }
    let mut own = vec![0f32; n * classes];
    for (row, label) in labels.iter().enumerate() {
        own[row * classes + *label as usize] = 1.0;
    }
    let own = Tensor::from_vec(own, (n, classes), scores.device())?.to_dtype(scores.dtype())?;
    let of_class = (log_probabilities(scores)? * own)?.sum(D::Minus1)?.neg()?;
    match weights {
        None => of_class.mean_all(),
        Some(weights) => (of_class * weights)?
            .sum_all()?
            .div(&(weights.sum_all()? + 1e-9)?),
    }
}

/// # Shapes
/// `scores` `[N, C]`; returns the same
///
/// # Errors
/// If an operator fails.
pub fn log_probabilities(scores: &Tensor) -> Result<Tensor> {
    let scores = scores.broadcast_sub(&scores.max_keepdim(D::Minus1)?.detach())?;
    let total = scores.exp()?.sum_keepdim(D::Minus1)?.log()?;
    scores.broadcast_sub(&total)
}

/// What answers tell of the class, in nats: entropy of the mean answer less the mean entropy of the answers (Bridle et al.
/// 1991). Nobody has to know the classes; to be raised, not lowered.
///
/// # Shapes
/// `scores` `[N, C]` before any softmax; returns a scalar
///
/// # Errors
/// If an operator fails.
pub fn information(scores: &Tensor) -> Result<Tensor> {
    let of_rows = log_probabilities(scores)?;
    let answers = of_rows.exp()?;
    let each = (&answers * of_rows)?.sum(D::Minus1)?.mean_all()?;
    let mean = answers.mean(0)?;
    // A class that is never answered tells nothing, and its logarithm is to be a number.
    let of_all = (&mean * (&mean + SMALLEST_SHARE)?.log()?)?.sum_all()?;
    each - of_all
}

/// How often one of a pair was given one answer and the other another: shares of all pairs, whichever of the two is the first.
///
/// # Shapes
/// `first`, `second` `[N, C]` before any softmax, a pair a row; returns `[C, C]`, symmetric
///
/// # Errors
/// If an operator fails.
pub fn table_of_pairs(first: &Tensor, second: &Tensor) -> Result<Tensor> {
    let (n, _) = first.dims2()?;
    let answers = |scores: &Tensor| log_probabilities(scores)?.exp();
    let table = (answers(first)?.t()?.matmul(&answers(second)?)? / n.max(1) as f64)?;
    (&table + table.t()?)? * 0.5
}

/// What the answer to one view of a sample tells of the answer to another view of it, in nats: the mutual information of the
/// table that the answers to all pairs come to (invariant information clustering, Ji et al. 2019). It is high where both are
/// the same, sure, and of all classes alike; to be raised. Which view is the first one makes no difference.
///
/// # Shapes
/// `first`, `second` `[N, C]` before any softmax, a pair a row; returns a scalar
///
/// # Errors
/// If an operator fails.
pub fn shared_information(first: &Tensor, second: &Tensor) -> Result<Tensor> {
    let table = table_of_pairs(first, second)?;
    let mean = table.sum(0)?;
    let of = |shares: &Tensor| (shares * (shares + SMALLEST_SHARE)?.log()?)?.sum_all();
    of(&table)? - (of(&mean)? * 2.0)?
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::ops::gradcheck::{Settings, check};
    use candle_core::Device;

    #[test]
    fn shared_information_is_that_of_the_table_of_answers_and_has_its_gradient() {
        let sure = |classes: &[usize]| {
            let row = |class: &usize| {
                let class = *class;
                (0..4).map(move |k| if k == class { 60.0 } else { 0.0 })
            };
            let values: Vec<f64> = classes.iter().flat_map(row).collect();
            Tensor::from_vec(values, (classes.len(), 4), &Device::Cpu).unwrap()
        };
        let told = |a: &Tensor, b: &Tensor| {
            let told = shared_information(a, b).unwrap();
            told.to_scalar::<f64>().unwrap()
        };
        // Both views alike, and all classes alike: all there is to tell. Always one class, or views that have nothing to do
        // with each other: nothing.
        let all = sure(&[0, 1, 2, 3]);
        assert!((told(&all, &all) - 4f64.ln()).abs() < 1e-6);
        let one = sure(&[2, 2, 2, 2]);
        assert!(told(&one, &one).abs() < 1e-6);
        let (a, b) = (sure(&[0, 0, 1, 1]), sure(&[0, 1, 0, 1]));
        assert!(told(&a, &b).abs() < 1e-6);
        // Of a channel that is wrong once in ten: log 2 - H(1/10).
        let sent: Vec<usize> = (0..20).map(|i| i % 2).collect();
        let got: Vec<usize> = (0..20).map(|i| if i < 2 { 1 - i } else { i % 2 }).collect();
        let lost = -(0.1f64 * 0.1f64.ln() + 0.9 * 0.9f64.ln());
        let found = told(&sure(&sent), &sure(&got));
        assert!((found - (2f64.ln() - lost)).abs() < 1e-6, "{found}");
        let points = [0.7, 1.3].map(|by| {
            let values: Vec<f64> = (0..15).map(|i| (f64::from(i) * by).sin() * 2.0).collect();
            Tensor::from_vec(values, (5, 3), &Device::Cpu).unwrap()
        });
        assert!((told(&points[0], &points[1]) - told(&points[1], &points[0])).abs() < 1e-12);
        check(&points, &Settings::F64, |x| {
            shared_information(&x[0], &x[1])
        })
        .unwrap();
    }

    #[test]
    fn the_loss_is_that_of_the_closed_form_however_large_scores_are() {
        let scores = [[1000.0f64, 1001.0, 998.0], [-3.0, 0.5, 0.5]];
        let expected = |row: [f64; 3], label: usize| {
            let sum: f64 = row.iter().map(|s| (s - row[1]).exp()).sum();
            sum.ln() - (row[label] - row[1])
        };
        let tensor = Tensor::new(&scores, &Device::Cpu).unwrap();
        let found = |weights: Option<&Tensor>| {
            let loss = cross_entropy(&tensor, &[0, 2], weights).unwrap();
            loss.to_scalar::<f64>().unwrap()
        };
        let (a, b) = (expected(scores[0], 0), expected(scores[1], 2));
        assert!((found(None) - (a + b) / 2.0).abs() < 1e-12);
        let weights = Tensor::new(&[3.0f64, 1.0], &Device::Cpu).unwrap();
        assert!((found(Some(&weights)) - (3.0 * a + b) / 4.0).abs() < 1e-8);
    }

    #[test]
    fn the_gradient_is_that_of_finite_differences() {
        let values: Vec<f64> = (0..12).map(|i| (f64::from(i) * 0.7).sin() * 3.0).collect();
        let x = Tensor::from_vec(values, (4, 3), &Device::Cpu).unwrap();
        let weights = Tensor::new(&[1.0f64, 0.2, 2.0, 0.0], &Device::Cpu).unwrap();
        check(&[x], &Settings::F64, |x| {
            cross_entropy(&x[0], &[2, 0, 1, 1], Some(&weights))
        })
        .unwrap();
    }

    #[test]
    fn information_is_what_selection_calls_it_and_its_gradient_is_that_of_finite_differences() {
        let values: Vec<f64> = (0..15).map(|i| (f64::from(i) * 1.3).sin() * 2.0).collect();
        let x = Tensor::from_vec(values, (5, 3), &Device::Cpu).unwrap();
        let rows = log_probabilities(&x).unwrap().exp().unwrap();
        let rows = rows.to_dtype(candle_core::DType::F32).unwrap();
        let expected = crate::adapt::select::information(&rows.to_vec2().unwrap());
        let found = information(&x).unwrap().to_scalar::<f64>().unwrap();
        assert!(
            (found - expected).abs() < 1e-6 && found > 0.1,
            "{found} {expected}"
        );
        check(&[x], &Settings::F64, |x| information(&x[0])).unwrap();
        // Rows that are sure of one class: nothing, and nothing that is no number.
        let one = Tensor::new(&[[900f32, 0.0], [900.0, 0.0]], &Device::Cpu).unwrap();
        let nothing = information(&one).unwrap().to_scalar::<f32>().unwrap();
        assert!(nothing.abs() < 1e-6, "{nothing}");
    }

    #[test]
    fn labels_that_are_no_classes_are_refused() {
        let x = Tensor::zeros((2, 3), candle_core::DType::F32, &Device::Cpu).unwrap();
        for labels in [&[0u32][..], &[0, 3]] {
            let said = cross_entropy(&x, labels, None).unwrap_err().to_string();
            assert!(said.contains("expected 2 below 3"), "{said}");
        }
    }
}
