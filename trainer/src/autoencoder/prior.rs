//! The robust prior: `p(z) = 0.9 N(0, I) + 0.1 U(-6, 6)`.
//!
//! In: codes. Out: their log density, draws, and what plain differentiation misses of the density's gradient.
//!
//! Under N(0, I) a code at distance r is pulled back by r. Under this prior, beyond the point where the box outweighs the
//! Gaussian, the pull is next to nothing: outliers can sit far away without bending the rest.
//!
//! **Dimension.** The box outweighs a *joint* mixture only beyond radius 2.74 in one dimension, 5.43 in eight: almost
//! nowhere. `joint` is for four dimensions at most; otherwise every value of the code has the mixture for itself.
//!
//! **Edge.** `log p` jumps at -6 and 6. A draw `z = mu + L eps` that moves over an edge changes its cost by the jump, and
//! no derivative at the draw knows of it: at mu = 5, sigma = 0.5 the derivative is 0.148 on average, that of the mean cost
//! 1.685. [`RobustPrior::edges`] gives the missing part: for every value and edge the rate at which draws cross it times
//! the jump there, with the other values as drawn (the surface integral of the transport theorem, by one draw).
//!
//! ```
//! use candle_core::{Device, Tensor};
//! use roadhound_trainer::autoencoder::prior::{PriorConfig, RobustPrior};
//! let prior = RobustPrior::new(PriorConfig::default(), 1);
//! let z = Tensor::new(&[[0.0f64], [5.9], [6.1]], &Device::Cpu)?;
//! let log_p = prior.log_density(&z)?.to_vec1::<f64>()?;
//! assert!((log_p[0] + 1.0013).abs() < 1e-3 && log_p[1] > -4.8 && log_p[2] < -19.0);
//! # Ok::<(), candle_core::Error>(())
//! ```

use candle_core::{D, Result, Tensor};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::config::{ConfigError, in_range};
use crate::params::normal;

/// Dimensions up to which a joint mixture is more than a Gaussian.
const MAX_JOINT: usize = 4;

/// What a value outside the box has for the logarithm of the box's density.
const NOWHERE: f64 = -1e30;

/// Constants of the prior.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PriorConfig {
    /// Weight of the box.
    pub box_weight: f64,
    /// The box reaches from minus this to this.
    pub half_width: f64,
    /// One mixture over the whole code instead of one for each of its values.
    pub joint: bool,
    /// Whether gradients know of the edges of the box; off, the textbook's mistake is repeated.
    pub edge_gradient: bool,
}

impl Default for PriorConfig {
    fn default() -> Self {
        Self {
            box_weight: 0.1,
            half_width: 6.0,
            joint: false,
            edge_gradient: true,
        }
    }
}

impl PriorConfig {
    /// Checks the ranges, for codes of `latent` values.
    ///
    /// # Errors
    /// The first value that is out of its range.
    pub fn validate(&self, latent: usize) -> std::result::Result<(), ConfigError> {
        in_range("kind.prior.box_weight", self.box_weight, 1e-6, 1.0 - 1e-6)?;
        in_range("kind.prior.half_width", self.half_width, 0.1, 1e3)?;
        if self.joint && latent > MAX_JOINT {
            return Err(ConfigError::Value(format!(
                "latent is {latent}, expected at most {MAX_JOINT} where kind.prior.joint is set"
            )));
        }
        Ok(())
    }
}

/// An edge of the box, of every value of every code: where draws would cross it, and what that costs.
pub struct Edge {
    /// The noise `eps` (or `u`) with which the value lies on the edge, `[N * d]`.
    pub noise: Vec<f64>,
    /// Rate of crossing times jump of `-log p`, per unit that the value moves up, `[N * d]`; 0 where nothing crosses.
    pub cost_per_unit: Vec<f64>,
}

/// The prior of codes of a given length.
#[derive(Clone, Debug, PartialEq)]
pub struct RobustPrior {
    config: PriorConfig,
    latent: usize,
}

fn log_normal(z: f64) -> f64 {
    -0.5 * z * z - 0.5 * std::f64::consts::TAU.ln()
}

impl RobustPrior {
    /// Of codes of `latent` values.
    pub fn new(config: PriorConfig, latent: usize) -> Self {
        Self { config, latent }
    }

    /// Its constants.
    pub fn config(&self) -> &PriorConfig {
        &self.config
    }

    /// Logarithms of the weights: of the Gaussian, of the box.
    pub fn log_weights(&self) -> (f64, f64) {
        let weight = self.config.box_weight;
        ((-weight).ln_1p(), weight.ln())
    }

    fn log_box(&self, dimensions: usize) -> f64 {
        -(dimensions as f64) * (2.0 * self.config.half_width).ln()
    }

    /// `log p(z)` of each row; differentiated, it knows nothing of the edges.
    ///
    /// # Shapes
    /// `z` `[N, d]`; returns `[N]`
    ///
    /// # Errors
    /// If an operator fails.
    pub fn log_density(&self, z: &Tensor) -> Result<Tensor> {
        let (log_gaussian, log_boxed) = self.log_weights();
        let normal = ((z.sqr()? * -0.5)? - 0.5 * std::f64::consts::TAU.ln())?;
        let inside = z.abs()?.le(self.config.half_width)?.to_dtype(z.dtype())?;
        let (normal, inside, dimensions) = match self.config.joint {
            true => (
                normal.sum_keepdim(D::Minus1)?,
                inside.min_keepdim(D::Minus1)?,
                self.latent,
            ),
            false => (normal, inside, 1),
        };
        let gaussian = (normal + log_gaussian)?;
        let inside = inside.detach();
        let height = log_boxed + self.log_box(dimensions);
        let boxed = ((&inside * height)? + ((1.0 - &inside)? * NOWHERE)?)?;
        let highest = gaussian.maximum(&boxed)?.detach();
        let sum = ((gaussian - &highest)?.exp()? + (boxed - &highest)?.exp()?)?;
        (sum.log()? + highest)?.sum(D::Minus1)
    }

    /// `log p(z)` of one code, as plain numbers.
    pub fn log_density_of(&self, z: &[f64]) -> f64 {
        let inside = |z: &[f64]| z.iter().all(|v| v.abs() <= self.config.half_width);
        let of = |z: &[f64]| {
            let gaussian: f64 = z.iter().map(|v| log_normal(*v)).sum();
            let (log_gaussian, log_boxed) = self.log_weights();
            let gaussian = gaussian + log_gaussian;
            match inside(z) {
                true => log_add(gaussian, log_boxed + self.log_box(z.len())),
                false => gaussian,
            }
        };
        match self.config.joint {
            true => of(z),
            false => z.iter().map(|v| of(&[*v])).sum(),
        }
    }

    /// A draw: the component first, then from it.
    pub fn draw(&self, rng: &mut ChaCha8Rng) -> Vec<f32> {
        let half = self.config.half_width as f32;
        let in_box = |rng: &mut ChaCha8Rng| rng.random_bool(self.config.box_weight);
        let value = |boxed: bool, rng: &mut ChaCha8Rng| match boxed {
            true => rng.random_range(-half..=half),
            false => normal(rng),
        };
        let joint = in_box(rng);
        (0..self.latent)
            .map(|_| {
                let boxed = match self.config.joint {
                    true => joint,
                    false => in_box(rng),
                };
                value(boxed, rng)
            })
            .collect()
    }

    /// By how much `-log p` rises where a value leaves the box, the others being as in `z`; 0 where another one is outside.
    fn jump(&self, z: &[f64], value: usize) -> f64 {
        let half = self.config.half_width;
        let (log_gaussian, log_boxed) = self.log_weights();
        let (gaussian, boxed) = match self.config.joint {
            true => {
                let others_inside = z
                    .iter()
                    .enumerate()
                    .all(|(k, v)| k == value || v.abs() <= half);
                if !others_inside {
                    return 0.0;
                }
                let others = z.iter().enumerate().filter(|(k, _)| *k != value);
                let normal: f64 = others.map(|(_, v)| log_normal(*v)).sum();
                (
                    log_gaussian + normal + log_normal(half),
                    log_boxed + self.log_box(z.len()),
                )
            }
            false => (log_gaussian + log_normal(half), log_boxed + self.log_box(1)),
        };
        log_add(gaussian, boxed) - gaussian
    }

    /// The upper and the lower edge for draws `z = mean + L noise` of a Gaussian.
    ///
    /// With the other noises as they are, value `i` reaches the edge at one noise `e`, which has density `phi(e)`, and moves
    /// by `L_ii` per unit of it: draws cross at the rate `phi(e) / L_ii` per unit that the value moves.
    ///
    /// `mean`, `noise` `[N * d]`, `factor` `[N * d * d]`.
    pub fn edges(&self, mean: &[f64], factor: &[f64], noise: &[f64]) -> [Edge; 2] {
        let d = self.latent;
        [1.0, -1.0].map(|side| {
            let at = side * self.config.half_width;
            let mut edge = Edge {
                noise: Vec::with_capacity(mean.len()),
                cost_per_unit: Vec::with_capacity(mean.len()),
            };
            for ((mean, factor), noise) in mean
                .chunks_exact(d)
                .zip(factor.chunks_exact(d * d))
                .zip(noise.chunks_exact(d))
            {
                let row = |i: usize| &factor[i * d..(i + 1) * d];
                let value = |i: usize| {
                    let moved: f64 = row(i).iter().zip(noise).map(|(l, e)| l * e).sum();
                    mean[i] + moved
                };
                let z: Vec<f64> = (0..d).map(value).collect();
                for i in 0..d {
                    let scale = row(i)[i];
                    let needed = noise[i] + (at - z[i]) / scale;
                    let moved: Vec<f64> = (0..d)
                        .map(|k| z[k] + factor[k * d + i] * (needed - noise[i]))
                        .collect();
                    let rate = log_normal(needed).exp() / scale;
                    // An edge too far away to be reached may be too far away for a number.
                    let reached = rate > 0.0;
                    edge.noise.push(if reached { needed } else { noise[i] });
                    edge.cost_per_unit.push(match reached {
                        true => side * rate * self.jump(&moved, i),
                        false => 0.0,
                    });
                }
            }
            edge
        })
    }

    /// The same for draws `z = low + width noise` of a box, `noise` from 0 to 1.
    pub fn edges_of_box(&self, low: &[f64], width: &[f64], noise: &[f64]) -> [Edge; 2] {
        let d = self.latent;
        [1.0, -1.0].map(|side| {
            let at = side * self.config.half_width;
            let mut edge = Edge {
                noise: Vec::with_capacity(low.len()),
                cost_per_unit: Vec::with_capacity(low.len()),
            };
            for ((low, width), noise) in low
                .chunks_exact(d)
                .zip(width.chunks_exact(d))
                .zip(noise.chunks_exact(d))
            {
                let z: Vec<f64> = (0..d).map(|i| low[i] + width[i] * noise[i]).collect();
                for i in 0..d {
                    let needed = (at - low[i]) / width[i];
                    let crosses = (0.0..=1.0).contains(&needed);
                    edge.noise.push(if crosses { needed } else { 0.0 });
                    edge.cost_per_unit.push(match crosses {
                        true => side / width[i] * self.jump(&z, i),
                        false => 0.0,
                    });
                }
            }
            edge
        })
    }
}

/// `log(exp(a) + exp(b))`.
pub fn log_add(a: f64, b: f64) -> f64 {
    let (high, low) = if a > b { (a, b) } else { (b, a) };
    high + (low - high).exp().ln_1p()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use candle_core::Device;
    use rand::SeedableRng;

    fn one_dimension() -> RobustPrior {
        RobustPrior::new(PriorConfig::default(), 1)
    }

    /// Midpoints of fine steps over `from..to`, broken at the edges of the box.
    pub(crate) fn grid(from: f64, to: f64) -> Vec<(f64, f64)> {
        let mut ends = vec![from];
        ends.extend(
            [-6.0, 6.0]
                .into_iter()
                .filter(|edge| (from..to).contains(edge)),
        );
        ends.push(to);
        let steps = 20_000;
        ends.windows(2)
            .flat_map(|w| {
                let width = (w[1] - w[0]) / f64::from(steps);
                let start = w[0];
                (0..steps).map(move |k| (start + (f64::from(k) + 0.5) * width, width))
            })
            .collect()
    }

    fn log_densities(prior: &RobustPrior, at: &[(f64, f64)]) -> Vec<f64> {
        let z: Vec<f64> = at.iter().map(|(z, _)| *z).collect();
        let z = Tensor::from_vec(z, (at.len(), 1), &Device::Cpu).unwrap();
        prior.log_density(&z).unwrap().to_vec1().unwrap()
    }

    /// KL(N(mu, sigma^2) || p) by quadrature over what the tensors say.
    fn divergence(mu: f64, sigma: f64) -> f64 {
        let at = grid(mu - 12.0 * sigma, mu + 12.0 * sigma);
        let log_p = log_densities(&one_dimension(), &at);
        let parts = at.iter().zip(&log_p).map(|((z, width), log_p)| {
            let log_q = log_normal((z - mu) / sigma) - sigma.ln();
            log_q.exp() * (log_q - log_p) * width
        });
        parts.sum()
    }

    #[test]
    fn the_divergence_from_the_prior_is_that_of_the_reference_table() {
        // By scipy's quadrature.
        for (mu, sigma, expected) in [
            (0.0, 1.0, 0.049811),
            (0.0, 0.5, 0.397081),
            (1.0, 1.0, 0.463002),
            (2.0, 0.5, 2.166540),
            (3.0, 0.5, 3.509835),
            (4.0, 0.25, 4.732946),
            (5.0, 0.25, 4.754985),
            (5.9, 0.5, 11.017268),
            (8.0, 0.5, 32.423078),
        ] {
            let found = divergence(mu, sigma);
            assert!(
                (found - expected).abs() < 1e-4,
                "{mu} {sigma}: {found} {expected}"
            );
        }
        let at = grid(-6.0, 6.0);
        let log_p = log_densities(&one_dimension(), &at);
        let of_box: f64 = at
            .iter()
            .zip(&log_p)
            .map(|((_, w), p)| (-(12f64.ln()) - p) * w / 12.0)
            .sum();
        assert!((of_box - 1.048715).abs() < 1e-4, "{of_box}");
    }

    #[test]
    fn tensors_and_plain_numbers_agree_in_any_dimension_inside_and_outside() {
        for joint in [false, true] {
            let config = PriorConfig {
                joint,
                ..PriorConfig::default()
            };
            let prior = RobustPrior::new(config, 3);
            let rows = [[0.1, -2.0, 5.9], [6.1, 0.0, 0.0], [-40.0, 3.0, 6.0]];
            let z = Tensor::new(&rows, &Device::Cpu).unwrap();
            let found = prior.log_density(&z).unwrap().to_vec1::<f64>().unwrap();
            for (row, found) in rows.iter().zip(found) {
                assert!((found - prior.log_density_of(row)).abs() < 1e-9, "{row:?}");
            }
        }
    }

    #[test]
    fn the_pull_on_a_far_code_is_bounded() {
        let slope = (divergence(4.0 + 1e-4, 0.25) - divergence(4.0 - 1e-4, 0.25)) / 2e-4;
        assert!((slope - 0.0807).abs() < 1e-3, "{slope}; of N(0, 1) it is 4");
    }

    fn moments(draws: &[f64]) -> (f64, f64, f64) {
        let n = draws.len() as f64;
        let second = draws.iter().map(|z| z * z).sum::<f64>() / n;
        let fourth = draws.iter().map(|z| z.powi(4)).sum::<f64>() / n;
        let far = draws.iter().filter(|z| z.abs() > 3.0).count() as f64 / n;
        (second, fourth / (second * second) - 3.0, far)
    }

    #[test]
    fn draws_have_the_moments_of_the_mixture_and_not_those_of_a_weighted_sum() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let prior = one_dimension();
        let draws: Vec<f64> = (0..400_000)
            .map(|_| f64::from(prior.draw(&mut rng)[0]))
            .collect();
        // Three standard errors of the sample.
        let (variance, kurtosis, far) = moments(&draws);
        assert!((variance - 2.10).abs() < 0.03, "{variance}");
        assert!((kurtosis - 3.49).abs() < 0.08, "{kurtosis}");
        assert!((far - 0.0524).abs() < 0.0012, "{far}");
        let sums: Vec<f64> = (0..400_000)
            .map(|_| 0.9 * f64::from(normal(&mut rng)) + 0.1 * rng.random_range(-6.0..6.0))
            .collect();
        let (variance, kurtosis, far) = moments(&sums);
        assert!((variance - 0.93).abs() < 0.01 && kurtosis.abs() < 0.05 && far < 0.003);
    }
}
