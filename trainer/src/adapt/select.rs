//! Which model to keep when no label of the target may be looked at.
//!
//! In: what a model says of unlabelled samples of the target, a row of probabilities each. Out: a figure by each
//! [`Criterion`], higher or lower being better as it says. How well a criterion ranks models is told by
//! [`rank_correlation`] with their accuracies, where labels are there for the score.
//!
//! ```
//! use roadhound_trainer::adapt::select::information;
//! let sure_and_varied = [vec![1.0, 0.0], vec![0.0, 1.0]];
//! let sure_of_one = [vec![1.0, 0.0], vec![1.0, 0.0]];
//! assert!((information(&sure_and_varied) - 2f64.ln()).abs() < 1e-9);
//! assert!(information(&sure_of_one).abs() < 1e-9);
//! ```

use serde::{Deserialize, Serialize};

use crate::task::BestBy;

/// Temperature of the neighbourhoods, as published.
const TEMPERATURE: f64 = 0.05;

/// A figure that is known without labels of the target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Criterion {
    /// What a sample tells of its class: high where every answer is sure and answers differ (Bridle et al. 1991).
    #[default]
    Information,
    /// How many neighbours answers have on average, softly counted: clusters are dense (Saito et al. 2021).
    SoftDensity,
    /// How unsure answers are.
    Entropy,
    /// Errors on held-out samples of the source.
    SourceError,
}

impl Criterion {
    /// The figure's name in a validation.
    pub fn figure(self) -> &'static str {
        match self {
            Self::Information => "information",
            Self::SoftDensity => "soft_density",
            Self::Entropy => "entropy",
            Self::SourceError => "source_error",
        }
    }

    /// Which end of it is the better one.
    pub fn best_by(self) -> BestBy {
        match self {
            Self::Information | Self::SoftDensity => BestBy::Highest(self.figure()),
            Self::Entropy | Self::SourceError => BestBy::Lowest(self.figure()),
        }
    }

    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::Information,
        Self::SoftDensity,
        Self::Entropy,
        Self::SourceError,
    ];
}

fn entropy_of(p: impl IntoIterator<Item = f64>) -> f64 {
    p.into_iter()
        .filter(|p| *p > 0.0)
        .map(|p| -p * p.ln())
        .sum()
}

/// Mean entropy of the answers, in nats.
pub fn entropy(answers: &[Vec<f32>]) -> f64 {
    let sum: f64 = answers
        .iter()
        .map(|row| entropy_of(row.iter().map(|p| f64::from(*p))))
        .sum();
    sum / answers.len().max(1) as f64
}

/// Entropy of the mean answer less the mean entropy of the answers: the mutual information of sample and class, in nats.
pub fn information(answers: &[Vec<f32>]) -> f64 {
    let classes = answers.first().map_or(0, Vec::len);
    let mean = (0..classes).map(|class| {
        let sum: f64 = answers.iter().map(|row| f64::from(row[class])).sum();
        sum / answers.len() as f64
    });
    entropy_of(mean) - entropy(answers)
}

/// Mean entropy, in nats, of the neighbourhoods: of every answer a softmax over its cosines with the others. At most the
/// logarithm of their number.
pub fn soft_density(answers: &[Vec<f32>]) -> f64 {
    let unit: Vec<Vec<f64>> = answers
        .iter()
        .map(|row| {
            let length = row
                .iter()
                .map(|p| f64::from(*p).powi(2))
                .sum::<f64>()
                .sqrt();
            let by = 1.0 / length.max(f64::MIN_POSITIVE);
            row.iter().map(|p| f64::from(*p) * by).collect()
        })
        .collect();
    let mut sum = 0.0;
    for (i, row) in unit.iter().enumerate() {
        // Cosines are at most 1: nothing overflows.
        let (mut total, mut weighted) = (0.0, 0.0);
        for (_, other) in unit.iter().enumerate().filter(|(k, _)| *k != i) {
            let cosine: f64 = row.iter().zip(other).map(|(a, b)| a * b).sum();
            let score = (cosine - 1.0) / TEMPERATURE;
            let weight = score.exp();
            total += weight;
            weighted += weight * score;
        }
        if total > 0.0 {
            sum += total.ln() - weighted / total;
        }
    }
    sum / answers.len().max(1) as f64
}

/// Spearman's: 1 where both order alike, -1 where they order the other way round; NaN where one of them is constant.
pub fn rank_correlation(a: &[f64], b: &[f64]) -> f64 {
    let (a, b) = (ranks(a), ranks(b));
    let n = a.len() as f64;
    let mean = (n - 1.0) / 2.0;
    let product = |x: &[f64], y: &[f64]| -> f64 {
        x.iter().zip(y).map(|(x, y)| (x - mean) * (y - mean)).sum()
    };
    product(&a, &b) / (product(&a, &a) * product(&b, &b)).sqrt()
}

/// Ranks from 0, ties sharing theirs.
fn ranks(values: &[f64]) -> Vec<f64> {
    let below = |v: f64| values.iter().filter(|w| **w < v).count() as f64;
    let alike = |v: f64| values.iter().filter(|w| **w == v).count() as f64;
    values
        .iter()
        .map(|v| below(*v) + (alike(*v) - 1.0) / 2.0)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_answers_are_those_of_the_closed_forms() {
        let uniform = vec![vec![0.25f32; 4]; 6];
        assert!((entropy(&uniform) - 4f64.ln()).abs() < 1e-6);
        assert!(information(&uniform).abs() < 1e-6);
        // Every answer has all others as its neighbours, alike.
        assert!((soft_density(&uniform) - 5f64.ln()).abs() < 1e-6);
        // Two clusters of three: each answer has two neighbours; the rest, at right angles, weigh e^-20 each.
        let clusters: Vec<Vec<f32>> = (0..6u8)
            .map(|i| vec![f32::from(i % 2), f32::from(1 - i % 2)])
            .collect();
        assert!((soft_density(&clusters) - 2f64.ln()).abs() < 1e-6);
        assert!((information(&clusters) - 2f64.ln()).abs() < 1e-6);
        let half_sure = [vec![0.9f32, 0.1], vec![0.1, 0.9]];
        let each = -(0.9f64 * 0.9f64.ln() + 0.1 * 0.1f64.ln());
        assert!((information(&half_sure) - (2f64.ln() - each)).abs() < 1e-6);
    }

    #[test]
    fn ranks_correlate_whatever_the_scale_and_ties_share_a_rank() {
        assert!(
            (rank_correlation(&[1.0, 2.0, 3.0, 9.0], &[0.1, 0.2, 0.3, 0.35]) - 1.0).abs() < 1e-12
        );
        assert!((rank_correlation(&[1.0, 2.0, 3.0], &[3.0, 2.0, 1.0]) + 1.0).abs() < 1e-12);
        assert_eq!(ranks(&[5.0, 1.0, 5.0]), [1.5, 0.0, 1.5]);
        // By scipy.stats.spearmanr([1, 2, 2, 3], [1, 3, 2, 2]).
        let found = rank_correlation(&[1.0, 2.0, 2.0, 3.0], &[1.0, 3.0, 2.0, 2.0]);
        assert!((found - 0.5).abs() < 1e-9, "{found}");
        assert!(rank_correlation(&[1.0, 1.0], &[1.0, 2.0]).is_nan());
    }
}
