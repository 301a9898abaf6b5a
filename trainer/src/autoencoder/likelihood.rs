//! The likelihood of a sample, estimated by importance sampling (Burda et al. 2016): the logarithm of the mean of
//! `p(x | z) p(z) / q(z | x)` over draws from q. With one draw it is the bound that was trained; with many it comes from below
//! ever closer.
//!
//! In: what an encoder says of one sample, as plain numbers. Out: draws with the logarithm of `p(z) / q(z | x)`, and the
//! estimate once the decoder has said what `p(x | z)` is.

use nalgebra::{DMatrix, DVector};
use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::prior::{RobustPrior, log_add};
use crate::params::normal;

/// A posterior of one sample: a Gaussian, and a box beside it where the prior has one.
pub struct PosteriorOf {
    /// Mean.
    pub mean: Vec<f64>,
    /// `L`, row by row.
    pub factor: Vec<f64>,
    /// Lows and widths, with the prior that gives the weights.
    pub boxed: Option<(Vec<f64>, Vec<f64>, RobustPrior)>,
}

fn log_normals(noise: impl Iterator<Item = f64>) -> f64 {
    noise
        .map(|e| -0.5 * e * e - 0.5 * std::f64::consts::TAU.ln())
        .sum()
}

impl PosteriorOf {
    fn log_gaussian(&self, z: &[f64]) -> f64 {
        let d = self.mean.len();
        let factor = DMatrix::from_row_slice(d, d, &self.factor);
        let off = DVector::from_fn(d, |i, _| z[i] - self.mean[i]);
        let log_scale: f64 = (0..d).map(|i| factor[(i, i)].ln()).sum();
        match factor.solve_lower_triangular(&off) {
            Some(noise) => log_normals(noise.iter().copied()) - log_scale,
            None => f64::NEG_INFINITY,
        }
    }

    /// `log q(z)`.
    pub fn log_density(&self, z: &[f64]) -> f64 {
        let gaussian = self.log_gaussian(z);
        let Some((low, width, prior)) = &self.boxed else {
            return gaussian;
        };
        let (of_gaussian, of_box) = prior.log_weights();
        let inside = z
            .iter()
            .zip(low.iter().zip(width))
            .all(|(z, (low, width))| (0.0..=*width).contains(&(z - low)));
        let boxed = match inside {
            true => -width.iter().map(|w| w.ln()).sum::<f64>(),
            false => return of_gaussian + gaussian,
        };
        log_add(of_gaussian + gaussian, of_box + boxed)
    }

    /// `log p(z)` of the prior that the posterior is held against.
    pub fn log_prior(&self, z: &[f64]) -> f64 {
        match &self.boxed {
            Some((_, _, prior)) => prior.log_density_of(z),
            None => log_normals(z.iter().copied()),
        }
    }

    /// A code, the component drawn first, and `log p(z) - log q(z)`.
    pub fn draw(&self, rng: &mut ChaCha8Rng) -> (Vec<f64>, f64) {
        let d = self.mean.len();
        let in_box = self
            .boxed
            .as_ref()
            .filter(|(_, _, prior)| rng.random_bool(prior.config().box_weight));
        let z: Vec<f64> = match in_box {
            Some((low, width, _)) => (0..d)
                .map(|i| low[i] + width[i] * rng.random_range(0.0..1.0))
                .collect(),
            None => {
                let noise: Vec<f64> = (0..d).map(|_| f64::from(normal(rng))).collect();
                let row = |i: usize| &self.factor[i * d..(i + 1) * d];
                let moved = |i: usize| row(i).iter().zip(&noise).map(|(l, e)| l * e).sum::<f64>();
                (0..d).map(|i| self.mean[i] + moved(i)).collect()
            }
        };
        let log_ratio = self.log_prior(&z) - self.log_density(&z);
        (z, log_ratio)
    }
}

/// The logarithm of the mean of `exp(log_weights)`.
pub fn log_mean(log_weights: &[f64]) -> f64 {
    let highest = log_weights
        .iter()
        .copied()
        .fold(f64::NEG_INFINITY, f64::max);
    if !highest.is_finite() {
        return highest;
    }
    let sum: f64 = log_weights.iter().map(|w| (w - highest).exp()).sum();
    highest + (sum / log_weights.len() as f64).ln()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autoencoder::prior::PriorConfig;
    use rand::SeedableRng;

    #[test]
    fn a_linear_model_has_the_likelihood_that_can_be_written_down() {
        // z ~ N(0, 1), x | z ~ N(z, 1): x ~ N(0, 2). The posterior that is drawn from is not the true one, N(x / 2, 1 / 2).
        let x = 1.3;
        let q = PosteriorOf {
            mean: vec![0.2],
            factor: vec![0.9],
            boxed: None,
        };
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let weights: Vec<f64> = (0..200_000)
            .map(|_| {
                let (z, log_ratio) = q.draw(&mut rng);
                log_ratio + log_normals(std::iter::once(x - z[0]))
            })
            .collect();
        let exact = -x * x / 4.0 - 0.5 * (2.0 * std::f64::consts::TAU).ln();
        let estimate = log_mean(&weights);
        assert!((estimate - exact).abs() < 0.01, "{estimate} {exact}");
        let bound = weights.iter().sum::<f64>() / weights.len() as f64;
        assert!(bound < exact - 0.05, "{bound} is below {exact}");
    }

    #[test]
    fn a_mixture_that_is_the_prior_itself_has_ratios_of_one() {
        for joint in [true, false] {
            let config = PriorConfig {
                joint,
                ..PriorConfig::default()
            };
            let q = PosteriorOf {
                mean: vec![0.0],
                factor: vec![1.0],
                boxed: Some((vec![-6.0], vec![12.0], RobustPrior::new(config, 1))),
            };
            let mut rng = ChaCha8Rng::seed_from_u64(4);
            for _ in 0..1000 {
                let (_, log_ratio) = q.draw(&mut rng);
                assert!(log_ratio.abs() < 1e-9, "{log_ratio}");
            }
        }
    }

    #[test]
    fn the_density_of_a_full_covariance_is_that_of_its_noise() {
        let q = PosteriorOf {
            mean: vec![1.0, -1.0],
            factor: vec![0.5, 0.0, 0.3, 2.0],
            boxed: None,
        };
        // Noise (1, -1): z = (1.5, -1 + 0.3 - 2).
        let expected = log_normals([1.0, -1.0].into_iter()) - (0.5f64 * 2.0).ln();
        assert!((q.log_density(&[1.5, -2.7]) - expected).abs() < 1e-12);
        assert_eq!(log_mean(&[f64::NEG_INFINITY]), f64::NEG_INFINITY);
        assert!((log_mean(&[-1000.0, -1000.0]) + 1000.0).abs() < 1e-9);
    }
}
