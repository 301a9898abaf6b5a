//! The proxy-A distance (Ben-David et al. 2007): how well a linear classifier tells two sets apart on samples that it
//! was not trained on, as `2 (1 - 2 error)`.
//!
//! The classifier is a logistic regression with a ridge of one on scaled features, fitted by Newton's method. Half of
//! the groups of each set train it and the other half test it, then the other way round. Sets of one distribution
//! give a value about zero, on either side of it.

use nalgebra::{DMatrix, DVector};
use rand_chacha::ChaCha8Rng;

use super::Samples;

/// Weight of the squared coefficients, in samples.
const RIDGE: f64 = 1.0;
const STEPS: usize = 40;

/// The distance, between -2 and 2.
pub fn proxy_a_distance(a: &Samples, b: &Samples, rng: &mut ChaCha8Rng) -> f64 {
    let (a, b) = (a.halves(rng), b.halves(rng));
    let error = |train: [&Samples; 2], test: [&Samples; 2]| {
        let classifier = Logistic::fit(train[0].rows(), train[1].rows());
        let wrong = |set: &Samples, of_b: bool| {
            let wrong = set.rows().iter().filter(|x| classifier.says_b(x) != of_b);
            wrong.count() as f64 / set.len().max(1) as f64
        };
        // Both sets count the same, however many samples are left of each.
        (wrong(test[0], false) + wrong(test[1], true)) / 2.0
    };
    let there = error([&a.0, &b.0], [&a.1, &b.1]);
    let back = error([&a.1, &b.1], [&a.0, &b.0]);
    2.0 * (1.0 - (there + back))
}

/// `P(b | x) = 1 / (1 + exp(-(w x + w0)))`.
#[derive(Clone, Debug, PartialEq)]
pub struct Logistic {
    /// One coefficient a feature, and the constant.
    weights: Vec<f64>,
}

impl Logistic {
    /// Fits the classifier to samples of two sets. With an empty set, or values that are not finite, it keeps
    /// coefficients of zero.
    pub fn fit(a: &[Vec<f64>], b: &[Vec<f64>]) -> Self {
        let dimension = a.first().or(b.first()).map_or(0, Vec::len) + 1;
        let with_constant = |row: &Vec<f64>| [row.as_slice(), &[1.0]].concat();
        // Every set weighs the same.
        let total = (a.len() + b.len()) as f64;
        let samples: Vec<(Vec<f64>, f64, f64)> = [(a, 0.0), (b, 1.0)]
            .into_iter()
            .flat_map(|(set, label)| {
                let weight = total / (2 * set.len().max(1)) as f64;
                set.iter()
                    .map(move |row| (with_constant(row), label, weight))
            })
            .collect();
        let mut fitted = Self {
            weights: vec![0.0; dimension],
        };
        let mut loss = fitted.loss(&samples);
        for _ in 0..STEPS {
            let Some(step) = fitted.newton_step(&samples) else {
                break;
            };
            // Newton's step can overshoot far from the optimum; half of it, or a quarter, does not.
            let shorter = (0..20).map(|halved| 0.5f64.powi(halved));
            let tried = shorter.map(|by| {
                let weights = fitted.weights.iter().zip(&step).map(|(w, s)| w - by * s);
                let candidate = Self {
                    weights: weights.collect(),
                };
                (candidate.loss(&samples), candidate)
            });
            let Some((better, candidate)) = tried.into_iter().find(|(l, _)| *l < loss) else {
                break;
            };
            let gained = loss - better;
            (loss, fitted) = (better, candidate);
            if gained < 1e-10 * loss.max(1.0) {
                break;
            }
        }
        fitted
    }

    /// Whether a sample is taken to be of the second set.
    pub fn says_b(&self, row: &[f64]) -> bool {
        let constant = self.weights.last().copied().unwrap_or_default();
        let sum: f64 = self.weights.iter().zip(row).map(|(w, x)| w * x).sum();
        sum + constant > 0.0
    }

    fn logit(&self, row: &[f64]) -> f64 {
        self.weights.iter().zip(row).map(|(w, x)| w * x).sum()
    }

    /// Cross entropy and ridge; the constant is free.
    fn loss(&self, samples: &[(Vec<f64>, f64, f64)]) -> f64 {
        let entropy = samples.iter().map(|(row, label, weight)| {
            let z = self.logit(row);
            // ln(1 + e^z) - label z, without overflow.
            weight * (z.max(0.0) + (-z.abs()).exp().ln_1p() - label * z)
        });
        let ridge: f64 = self.penalised().map(|w| w * w).sum();
        entropy.sum::<f64>() + RIDGE * ridge / 2.0
    }

    fn penalised(&self) -> impl Iterator<Item = f64> {
        let last = self.weights.len() - 1;
        self.weights[..last].iter().copied()
    }

    fn newton_step(&self, samples: &[(Vec<f64>, f64, f64)]) -> Option<Vec<f64>> {
        let side = self.weights.len();
        let mut gradient: Vec<f64> = self.penalised().map(|w| RIDGE * w).collect();
        gradient.push(0.0);
        // A trace of ridge on the constant keeps the matrix definite where every probability has saturated.
        let mut hessian = DMatrix::from_diagonal_element(side, side, RIDGE);
        hessian[(side - 1, side - 1)] = 1e-9;
        for (row, label, weight) in samples {
            let p = 1.0 / (1.0 + (-self.logit(row)).exp());
            let (slope, curve) = (weight * (p - label), weight * p * (1.0 - p));
            for (i, x) in row.iter().enumerate() {
                gradient[i] += slope * x;
                for (j, y) in row[..=i].iter().enumerate() {
                    hessian[(i, j)] += curve * x * y;
                }
            }
        }
        // Only the lower triangle was summed, and only that is read.
        let factor = hessian.cholesky()?;
        Some(
            factor
                .solve(&DVector::from_vec(gradient))
                .as_slice()
                .to_vec(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::gaussian;
    use super::*;
    use rand::SeedableRng;

    #[test]
    fn sets_of_one_distribution_are_not_told_apart() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mean: f64 = (0..10)
            .map(|i| {
                let a = gaussian(200, &[(0.0, 1.0); 8], 2 * i);
                let b = gaussian(200, &[(0.0, 1.0); 8], 2 * i + 1);
                proxy_a_distance(&a, &b, &mut rng) / 10.0
            })
            .sum();
        assert!(mean.abs() < 0.1, "{mean}");
    }

    #[test]
    fn gaussians_two_deviations_apart_give_the_error_of_the_best_line() {
        // The best line lies between the means: its error is P(N(0, 1) > 1) = 0.15866.
        let a = gaussian(4000, &[(0.0, 1.0)], 1);
        let b = gaussian(4000, &[(2.0, 1.0)], 2);
        let found = proxy_a_distance(&a, &b, &mut ChaCha8Rng::seed_from_u64(1));
        let expected = 2.0 * (1.0 - 2.0 * 0.15866);
        assert!((found - expected).abs() < 0.05, "{found}");
    }

    #[test]
    fn separated_sets_reach_two() {
        let a = gaussian(100, &[(0.0, 1.0), (0.0, 1.0)], 1);
        let b = gaussian(100, &[(0.0, 1.0), (20.0, 1.0)], 2);
        let found = proxy_a_distance(&a, &b, &mut ChaCha8Rng::seed_from_u64(1));
        assert!(found > 1.99, "{found}");
    }

    #[test]
    fn sets_of_unequal_size_weigh_the_same() {
        let a = gaussian(2000, &[(0.0, 1.0)], 1);
        let b = gaussian(200, &[(2.0, 1.0)], 2);
        let classifier = Logistic::fit(a.rows(), b.rows());
        // Half-way between the means, not shifted towards the smaller set.
        assert!(!classifier.says_b(&[0.8]) && classifier.says_b(&[1.2]));
    }

    #[test]
    fn nothing_to_learn_from_gives_no_opinion() {
        assert!(!Logistic::fit(&[], &[]).says_b(&[]));
        assert!(!Logistic::fit(&[vec![f64::NAN]], &[vec![1.0]]).says_b(&[1.0]));
    }
}
