//! What an encoder says of a sample: a Gaussian over codes, and for the robust prior a box beside it.
//!
//! In: the encoder's rows. Out: draws that gradients pass through (Kingma and Welling 2014), densities, divergences. A full
//! covariance is `L L^T`: `z = mean + L eps`, with `L` lower triangular and `exp` on its diagonal.
//!
//! ```
//! use candle_core::{Device, Tensor};
//! use roadhound_trainer::autoencoder::Covariance;
//! use roadhound_trainer::autoencoder::posterior::Gaussian;
//! let rows = Tensor::new(&[[1.0f64, 2.0, 0.0, 0.0, 0.5]], &Device::Cpu)?;
//! let q = Gaussian::of_rows(&rows, Covariance::Full, 2)?;
//! let z = q.draw(&Tensor::new(&[[1.0f64, 1.0]], &Device::Cpu)?)?;
//! assert_eq!(z.to_vec2::<f64>()?, [[2.0, 3.5]]);
//! # Ok::<(), candle_core::Error>(())
//! ```

use candle_core::{D, DType, Result, Tensor};

use super::Covariance;
use super::prior::{Edge, RobustPrior};
use crate::loss::softplus;

/// `ln(2 pi)`.
fn log_tau() -> f64 {
    std::f64::consts::TAU.ln()
}

/// `N(mean, L L^T)` for each row.
pub struct Gaussian {
    /// `[N, d]`.
    pub mean: Tensor,
    /// Logarithm of the diagonal of `L`, `[N, d]`.
    pub log_diagonal: Tensor,
    /// `L` `[N, d, d]`; not there where it is diagonal.
    factor: Option<Tensor>,
}

impl Gaussian {
    /// The distributions of `count` samples from number `from` on.
    ///
    /// # Errors
    /// Fewer samples than that.
    pub fn narrow(&self, from: usize, count: usize) -> Result<Self> {
        let cut = |t: &Tensor| t.narrow(0, from, count);
        Ok(Self {
            mean: cut(&self.mean)?,
            log_diagonal: cut(&self.log_diagonal)?,
            factor: self.factor.as_ref().map(cut).transpose()?,
        })
    }

    /// Values that an encoder gives for codes of `latent` values.
    pub fn width(covariance: Covariance, latent: usize) -> usize {
        match covariance {
            Covariance::Diagonal => 2 * latent,
            Covariance::Full => 2 * latent + latent * (latent - 1) / 2,
        }
    }

    /// From an encoder's rows: means, log diagonals, then row by row what is below the diagonal.
    ///
    /// # Shapes
    /// `rows` `[N, width]`, further values are left alone
    ///
    /// # Errors
    /// Rows that are too short.
    pub fn of_rows(rows: &Tensor, covariance: Covariance, latent: usize) -> Result<Self> {
        let mean = rows.narrow(1, 0, latent)?;
        let log_diagonal = rows.narrow(1, latent, latent)?;
        let factor = match covariance {
            Covariance::Diagonal => None,
            Covariance::Full => Some(factor(rows, &log_diagonal, latent)?),
        };
        Ok(Self {
            mean,
            log_diagonal,
            factor,
        })
    }

    /// `mean + L noise`.
    ///
    /// # Shapes
    /// `noise` `[N, d]`; returns `[N, d]`
    ///
    /// # Errors
    /// If an operator fails.
    pub fn draw(&self, noise: &Tensor) -> Result<Tensor> {
        let moved = match &self.factor {
            None => (self.log_diagonal.exp()? * noise)?,
            Some(factor) => factor.matmul(&noise.unsqueeze(2)?)?.squeeze(2)?,
        };
        &self.mean + moved
    }

    /// `L` of each row.
    ///
    /// # Errors
    /// If an operator fails.
    pub fn factor(&self) -> Result<Tensor> {
        match &self.factor {
            Some(factor) => Ok(factor.clone()),
            None => {
                let d = self.mean.dim(1)?;
                let eye = Tensor::eye(d, self.mean.dtype(), self.mean.device())?;
                self.log_diagonal.exp()?.unsqueeze(2)?.broadcast_mul(&eye)
            }
        }
    }

    /// `KL(q || N(0, I))` of each row: `(|L|^2 + |mean|^2 - d) / 2 - sum log L_ii`.
    ///
    /// # Errors
    /// If an operator fails.
    pub fn divergence_from_standard(&self) -> Result<Tensor> {
        let d = self.mean.dim(1)? as f64;
        let spread = match &self.factor {
            None => (&self.log_diagonal * 2.0)?.exp()?.sum(1)?,
            Some(factor) => factor.sqr()?.sum((1, 2))?,
        };
        let size = (spread + self.mean.sqr()?.sum(1)?)?;
        ((size - d)? * 0.5)? - self.log_diagonal.sum(1)?
    }

    /// Entropy of each row.
    ///
    /// # Errors
    /// If an operator fails.
    pub fn entropy(&self) -> Result<Tensor> {
        let d = self.mean.dim(1)? as f64;
        self.log_diagonal.sum(1)? + 0.5 * d * (1.0 + log_tau())
    }

    /// A one-draw estimate of `KL(q || prior)` of each row whose gradient is right on average, at the edges of the box too.
    ///
    /// # Shapes
    /// `noise` `[N, d]`, `z` the draw that it makes
    ///
    /// # Errors
    /// If an operator fails.
    pub fn divergence_from(
        &self,
        prior: &RobustPrior,
        z: &Tensor,
        noise: &Tensor,
    ) -> Result<Tensor> {
        let plain = (prior.log_density(z)?.neg()? - self.entropy()?)?;
        if !prior.config().edge_gradient {
            return Ok(plain);
        }
        let (mean, factor, drawn) = (
            plain_numbers(&self.mean)?,
            plain_numbers(&self.factor()?)?,
            plain_numbers(noise)?,
        );
        let scale = self.log_diagonal.exp()?;
        let mut sum = plain;
        for edge in prior.edges(&mean, &factor, &drawn) {
            // Value i with its own noise changed so that it lies on the edge.
            let shift = (tensor_like(noise, edge.noise.clone())? - noise)?;
            let on_edge = (z + (&scale * shift)?)?;
            sum = (sum + crossing(&edge, &on_edge)?)?;
        }
        Ok(sum)
    }
}

/// `L` from the encoder's rows.
fn factor(rows: &Tensor, log_diagonal: &Tensor, latent: usize) -> Result<Tensor> {
    let n = rows.dim(0)?;
    let below = latent * (latent - 1) / 2;
    let nothing = Tensor::zeros((n, 1), rows.dtype(), rows.device())?;
    // Diagonal, what is below it, and a zero; then each place of L takes one of these.
    let mut parts = vec![log_diagonal.exp()?];
    if below > 0 {
        parts.push(rows.narrow(1, 2 * latent, below)?);
    }
    parts.push(nothing);
    let values = Tensor::cat(&parts, 1)?;
    let place = |i: usize, j: usize| match i.cmp(&j) {
        std::cmp::Ordering::Equal => i,
        std::cmp::Ordering::Greater => latent + i * (i - 1) / 2 + j,
        std::cmp::Ordering::Less => latent + below,
    };
    let places: Vec<u32> = (0..latent * latent)
        .map(|at| place(at / latent, at % latent) as u32)
        .collect();
    let places = Tensor::new(places, rows.device())?;
    values
        .index_select(&places, 1)?
        .reshape((n, latent, latent))
}

/// `U(low, low + width)` for each row, the second component beside the robust prior's.
pub struct BoxPart {
    /// `a`, `[N, d]`.
    pub low: Tensor,
    /// `b - a`, `[N, d]`, positive.
    pub width: Tensor,
}

impl BoxPart {
    /// From an encoder's rows: `low` and `softplus^-1` of `width` from value `from` on.
    ///
    /// # Errors
    /// Rows that are too short.
    pub fn of_rows(rows: &Tensor, from: usize, latent: usize) -> Result<Self> {
        let raw = rows.narrow(1, from + latent, latent)?;
        Ok(Self {
            low: rows.narrow(1, from, latent)?,
            // Never so narrow that its logarithm is lost.
            width: (softplus(&raw)? + 1e-4)?,
        })
    }

    /// `low + width noise`, noise from 0 to 1.
    ///
    /// # Errors
    /// If an operator fails.
    pub fn draw(&self, noise: &Tensor) -> Result<Tensor> {
        &self.low + (&self.width * noise)?
    }

    /// As [`Gaussian::divergence_from`].
    ///
    /// # Errors
    /// If an operator fails.
    pub fn divergence_from(
        &self,
        prior: &RobustPrior,
        z: &Tensor,
        noise: &Tensor,
    ) -> Result<Tensor> {
        let entropy = self.width.log()?.sum(1)?;
        let plain = (prior.log_density(z)?.neg()? - entropy)?;
        if !prior.config().edge_gradient {
            return Ok(plain);
        }
        let (low, width, drawn) = (
            plain_numbers(&self.low)?,
            plain_numbers(&self.width)?,
            plain_numbers(noise)?,
        );
        let mut sum = plain;
        for edge in prior.edges_of_box(&low, &width, &drawn) {
            let on_edge = self.draw(&tensor_like(noise, edge.noise.clone())?)?;
            sum = (sum + crossing(&edge, &on_edge)?)?;
        }
        Ok(sum)
    }
}

/// Nothing, whose gradient is what crossing the edge costs.
fn crossing(edge: &Edge, on_edge: &Tensor) -> Result<Tensor> {
    let cost = tensor_like(on_edge, edge.cost_per_unit.clone())?;
    (cost * (on_edge - on_edge.detach())?)?.sum(D::Minus1)
}

fn plain_numbers(x: &Tensor) -> Result<Vec<f64>> {
    x.to_dtype(DType::F64)?.flatten_all()?.to_vec1()
}

fn tensor_like(like: &Tensor, values: Vec<f64>) -> Result<Tensor> {
    Tensor::from_vec(values, like.shape(), like.device())?.to_dtype(like.dtype())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::autoencoder::prior::PriorConfig;
    use crate::ops::gradcheck::{Settings, check};
    use crate::params::normal;
    use candle_core::{Device, Var};
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    fn noise(rows: usize, columns: usize, seed: u64) -> Tensor {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let values: Vec<f64> = (0..rows * columns)
            .map(|_| f64::from(normal(&mut rng)))
            .collect();
        Tensor::from_vec(values, (rows, columns), &Device::Cpu).unwrap()
    }

    fn uniform(rows: usize, columns: usize, seed: u64) -> Tensor {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let values: Vec<f64> = (0..rows * columns)
            .map(|_| rng.random_range(0.0..1.0))
            .collect();
        Tensor::from_vec(values, (rows, columns), &Device::Cpu).unwrap()
    }

    /// Four values: means, log diagonal, six below it.
    fn example() -> [f64; 14] {
        [
            1.0, -0.5, 0.2, 2.0, -0.3, 0.1, -0.6, 0.4, 0.5, -0.7, 0.3, 0.2, 0.9, -0.4,
        ]
    }

    #[test]
    fn draws_have_the_covariance_l_l_transposed_to_two_percent() {
        let count = 200_000;
        let rows = Tensor::new(&[example()], &Device::Cpu).unwrap();
        let q = Gaussian::of_rows(&rows, Covariance::Full, 4).unwrap();
        let l = q.factor().unwrap().squeeze(0).unwrap();
        let expected = l.matmul(&l.t().unwrap()).unwrap().to_vec2::<f64>().unwrap();
        let many = rows
            .broadcast_as((count, 14))
            .unwrap()
            .contiguous()
            .unwrap();
        let q = Gaussian::of_rows(&many, Covariance::Full, 4).unwrap();
        let z = q.draw(&noise(count, 4, 1)).unwrap();
        let centred = z.broadcast_sub(&z.mean_keepdim(0).unwrap()).unwrap();
        let found = centred
            .t()
            .unwrap()
            .contiguous()
            .unwrap()
            .matmul(&centred)
            .unwrap();
        let found = (found / count as f64).unwrap().to_vec2::<f64>().unwrap();
        let (mut off, mut size) = (0.0, 0.0);
        for (a, b) in found.concat().iter().zip(expected.concat()) {
            off += (a - b).powi(2);
            size += b * b;
        }
        assert!((off / size).sqrt() < 0.02, "{found:?} {expected:?}");
        let mean = z.mean(0).unwrap().to_vec1::<f64>().unwrap();
        assert!(
            mean.iter()
                .zip(example())
                .all(|(a, b)| (a - b).abs() < 0.02),
            "{mean:?}"
        );
    }

    #[test]
    fn the_analytic_divergence_is_that_of_many_draws_diagonal_and_full() {
        for covariance in [Covariance::Diagonal, Covariance::Full] {
            let count = 200_000;
            let rows = Tensor::new(&[example()], &Device::Cpu).unwrap();
            let many = rows
                .broadcast_as((count, 14))
                .unwrap()
                .contiguous()
                .unwrap();
            let q = Gaussian::of_rows(&many, covariance, 4).unwrap();
            let eps = noise(count, 4, 2);
            let z = q.draw(&eps).unwrap();
            // log q - log p, where the normalisers cancel.
            let log_q = ((eps.sqr().unwrap().sum(1).unwrap() * -0.5).unwrap()
                - q.log_diagonal.sum(1).unwrap())
            .unwrap();
            let log_p = (z.sqr().unwrap().sum(1).unwrap() * -0.5).unwrap();
            let sampled = (log_q - log_p)
                .unwrap()
                .mean_all()
                .unwrap()
                .to_scalar::<f64>()
                .unwrap();
            let exact = q
                .divergence_from_standard()
                .unwrap()
                .to_vec1::<f64>()
                .unwrap()[0];
            assert!((sampled / exact - 1.0).abs() < 0.02, "{sampled} {exact}");
            let entropy = q.entropy().unwrap().to_vec1::<f64>().unwrap()[0];
            let by_hand = 2.0 * (1.0 + log_tau()) + (-0.3 + 0.1 - 0.6 + 0.4);
            assert!((entropy - by_hand).abs() < 1e-9);
        }
    }

    #[test]
    fn gradients_agree_with_finite_differences_where_no_edge_is_near() {
        let rows = Tensor::new(&[example(), example()], &Device::Cpu).unwrap();
        let eps = noise(2, 4, 3);
        for covariance in [Covariance::Diagonal, Covariance::Full] {
            check(std::slice::from_ref(&rows), &Settings::F64, |x| {
                let q = Gaussian::of_rows(&x[0], covariance, 4)?;
                q.draw(&eps)?.sqr()?.sum_all()? + q.divergence_from_standard()?.sum_all()?
            })
            .unwrap();
            for joint in [false, true] {
                let config = PriorConfig {
                    joint,
                    edge_gradient: false,
                    ..PriorConfig::default()
                };
                let prior = RobustPrior::new(config, 4);
                check(std::slice::from_ref(&rows), &Settings::F64, |x| {
                    let q = Gaussian::of_rows(&x[0], covariance, 4)?;
                    let z = q.draw(&eps)?;
                    q.divergence_from(&prior, &z, &eps)?.sum_all()
                })
                .unwrap();
            }
        }
    }

    /// The mean slope of the estimate along the mean of a one-dimensional Gaussian.
    fn slope(mu: f64, sigma: f64, edge_gradient: bool) -> f64 {
        let count = 100_000;
        let config = PriorConfig {
            edge_gradient,
            ..PriorConfig::default()
        };
        let prior = RobustPrior::new(config, 1);
        let noise = noise(count, 1, 4);
        drawn_gradient(&prior, &[mu, sigma.ln()], Covariance::Diagonal, &noise)[0]
    }

    /// The gradient, with respect to this row, of what drawing says its Gaussian's divergence from the prior is.
    fn drawn_gradient(
        prior: &RobustPrior,
        row: &[f64],
        covariance: Covariance,
        noise: &Tensor,
    ) -> Vec<f64> {
        let (count, latent) = noise.dims2().unwrap();
        let at = Var::from_vec(row.to_vec(), (1, row.len()), &Device::Cpu).unwrap();
        let rows = at
            .as_tensor()
            .broadcast_as((count, row.len()))
            .unwrap()
            .contiguous()
            .unwrap();
        let q = Gaussian::of_rows(&rows, covariance, latent).unwrap();
        let z = q.draw(noise).unwrap();
        let cost = q
            .divergence_from(prior, &z, noise)
            .unwrap()
            .mean_all()
            .unwrap();
        let gradients = cost.backward().unwrap();
        gradients.get(&at).unwrap().to_vec2().unwrap().concat()
    }

    #[test]
    fn the_gradient_at_the_edge_of_the_box_is_right_and_without_its_term_it_is_not() {
        // By differences of scipy's quadrature: the true slope, and what differentiation of draws gives.
        for (mu, right, pathwise) in [(5.0, 1.6848, 0.1475), (5.9, 13.8125, 2.6780)] {
            let found = slope(mu, 0.5, true);
            assert!((found / right - 1.0).abs() < 0.02, "{mu}: {found} {right}");
            let found = slope(mu, 0.5, false);
            assert!(
                (found / pathwise - 1.0).abs() < 0.1,
                "{mu}: {found} {pathwise}"
            );
        }
    }

    #[test]
    fn the_edge_gradient_is_right_for_a_full_covariance_in_a_joint_box() {
        let config = PriorConfig {
            joint: true,
            ..PriorConfig::default()
        };
        let prior = RobustPrior::new(config, 2);
        // Means, log diagonal, what is below it: near a corner.
        let point = [5.2, -5.5, -0.5, -0.3, 0.4];
        // The cost by quadrature over the noise, broken where an edge is.
        let pieces = |breaks: [f64; 2]| {
            let mut ends = vec![-7.0];
            ends.extend(breaks.into_iter().filter(|b| b.abs() < 7.0));
            ends.push(7.0);
            ends.sort_by(f64::total_cmp);
            let steps = 300;
            let midpoints = ends.windows(2).flat_map(move |w| {
                let (start, width) = (w[0], (w[1] - w[0]) / f64::from(steps));
                (0..steps).map(move |k| (start + (f64::from(k) + 0.5) * width, width))
            });
            midpoints.collect::<Vec<_>>()
        };
        let cost = |p: &[f64]| {
            let (scale0, scale1) = (p[2].exp(), p[3].exp());
            let mut sum = 0.0;
            for (e0, width0) in pieces([-6.0, 6.0].map(|edge| (edge - p[0]) / scale0)) {
                let middle = p[1] + p[4] * e0;
                for (e1, width1) in pieces([-6.0, 6.0].map(|edge| (edge - middle) / scale1)) {
                    let z = [p[0] + scale0 * e0, middle + scale1 * e1];
                    let density = (-0.5 * (e0 * e0 + e1 * e1)).exp() / std::f64::consts::TAU;
                    sum -= density * prior.log_density_of(&z) * width0 * width1;
                }
            }
            sum - p[2] - p[3]
        };
        let count = 400_000;
        let found = drawn_gradient(&prior, &point, Covariance::Full, &noise(count, 2, 5));
        for k in 0..5 {
            let (mut up, mut down) = (point, point);
            up[k] += 1e-3;
            down[k] -= 1e-3;
            let numeric = (cost(&up) - cost(&down)) / 2e-3;
            let error = (found[k] - numeric).abs() / (1.0 + numeric.abs());
            assert!(error < 0.03, "{k}: {} {numeric}", found[k]);
        }
    }

    #[test]
    fn the_box_component_is_moved_off_the_edge_as_its_mean_cost_says() {
        let prior = RobustPrior::new(PriorConfig::default(), 1);
        // U(4, 7): from 6 on it is outside.
        let raw = 3f64.exp_m1().ln();
        let cost = |low: f64, width: f64| {
            let steps = 300_000;
            let sum: f64 = (0..steps)
                .map(|k| {
                    prior.log_density_of(&[low + width * (f64::from(k) + 0.5) / f64::from(steps)])
                })
                .sum();
            -sum / f64::from(steps) - width.ln()
        };
        let at = Var::from_vec(vec![4.0, raw], (1, 2), &Device::Cpu).unwrap();
        let rows = at
            .as_tensor()
            .broadcast_as((100_000, 2))
            .unwrap()
            .contiguous()
            .unwrap();
        let part = BoxPart::of_rows(&rows, 0, 1).unwrap();
        let u = uniform(100_000, 1, 6);
        let z = part.draw(&u).unwrap();
        let estimate = part
            .divergence_from(&prior, &z, &u)
            .unwrap()
            .mean_all()
            .unwrap();
        let value = estimate.to_scalar::<f64>().unwrap();
        let width = 3.0 + 1e-4;
        assert!((value - cost(4.0, width)).abs() < 0.1, "{value}");
        let gradients = estimate.backward().unwrap();
        let found = gradients.get(&at).unwrap().to_vec2::<f64>().unwrap();
        let of_low = (cost(4.01, width) - cost(3.99, width)) / 0.02;
        let of_width = (cost(4.0, width + 0.01) - cost(4.0, width - 0.01)) / 0.02;
        // The slope of softplus.
        let of_raw = of_width / (1.0 + (-raw).exp());
        assert!(
            (found[0][0] / of_low - 1.0).abs() < 0.02,
            "{found:?} {of_low}"
        );
        assert!(
            (found[0][1] / of_raw - 1.0).abs() < 0.02,
            "{found:?} {of_raw}"
        );
    }

    #[test]
    fn the_stratified_divergence_is_no_less_than_that_of_the_mixture() {
        // KL of 0.9 N(1, .5^2) + 0.1 U(-2, 4) from the prior is 0.705802, the stratified sum 0.855503 (scipy).
        let prior = RobustPrior::new(PriorConfig::default(), 1);
        let count = 400_000;
        let rows = Tensor::new(
            &[[1.0, 0.5f64.ln(), -2.0, 6f64.exp_m1().ln()]],
            &Device::Cpu,
        )
        .unwrap();
        let rows = rows.broadcast_as((count, 4)).unwrap().contiguous().unwrap();
        let q = Gaussian::of_rows(&rows, Covariance::Diagonal, 1).unwrap();
        let part = BoxPart::of_rows(&rows, 2, 1).unwrap();
        let (eps, u) = (noise(count, 1, 7), uniform(count, 1, 8));
        let mean = |t: Tensor| t.mean_all().unwrap().to_scalar::<f64>().unwrap();
        let of_q = mean(
            q.divergence_from(&prior, &q.draw(&eps).unwrap(), &eps)
                .unwrap(),
        );
        let of_box = mean(
            part.divergence_from(&prior, &part.draw(&u).unwrap(), &u)
                .unwrap(),
        );
        let stratified = 0.9 * of_q + 0.1 * of_box;
        assert!((stratified - 0.855503).abs() < 0.01, "{stratified}");
    }
}
