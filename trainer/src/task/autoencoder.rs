//! The autoencoder's task: samples in, out comes what is lost of them on the way through a code, and what the code costs.
//!
//! Of the VAEs everything is in nats a sample, and the figures are those of the bound itself, whatever beta is.

use std::path::Path;
use std::sync::Arc;

use candle_core::{D, Device, Result, Tensor};
use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::{BestBy, StepLoss, Task};
use crate::autoencoder::likelihood::{PosteriorOf, log_mean};
use crate::autoencoder::posterior::{BoxPart, Gaussian};
use crate::autoencoder::prior::RobustPrior;
use crate::autoencoder::{AutoencoderRun, Binarise, Decoded, Kind, Mixing};
use crate::epochs::{Shuffled, rng_at};
use crate::labelled::sheet::sheet;
use crate::labelled::{Samples, Shape};
use crate::loss::softplus;
use crate::model::Pass;
use crate::model::net::sigmoid;
use crate::model::stack::{Stack, StackError};
use crate::ops::Precision;
use crate::outputs;
use crate::params::{ParamBuilder, Params, Snapshot, normal};
use crate::report::map::map_of_points;
use crate::report::panels::{Figure, Panel};

const EVALUATION_BATCH: usize = 250;
/// Columns of the pictures.
const SHOWN: usize = 12;
/// Samples on the map.
const MAPPED: usize = 2000;
const MAP_SIDE: usize = 15;

const BINARISE: u64 = 11;
const NOISE: u64 = 12;
const SCORING: u64 = 13;
const SAMPLES: u64 = 14;

/// How a code is read off an encoder's row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodeShape {
    /// As it is.
    Linear,
    /// What is above 0.
    Relu,
    /// Brought between 0 and 1.
    Sigmoid,
    /// The means, which come first.
    MeanFirst,
}

/// Encoder and decoder.
pub struct AutoencoderNet {
    params: Params,
    encoder: Stack,
    decoder: Stack,
    kind: Kind,
    decoded: Decoded,
    latent: usize,
    device: Device,
}

impl AutoencoderNet {
    /// Born of the run's seed.
    ///
    /// # Errors
    /// Samples that the configured network cannot take.
    pub fn new(
        run: &AutoencoderRun,
        shape: Shape,
        device: &Device,
    ) -> std::result::Result<Self, StackError> {
        let mut builder = ParamBuilder::new(run.seed, device);
        let latent = run.latent;
        let width = match &run.kind {
            Kind::Vae(vae) => Gaussian::width(vae.covariance, latent),
            // A box beside it: lows and widths.
            Kind::RobustVae(robust) => Gaussian::width(robust.covariance, latent) + 2 * latent,
            _ => latent,
        };
        let network = &run.network;
        let encoder = Stack::encoder(&mut builder, "encoder", shape, network, width, false)?;
        let decoder = Stack::decoder(&mut builder, "decoder", latent, network, shape)?;
        Ok(Self {
            params: builder.finish(),
            encoder,
            decoder,
            kind: run.kind.clone(),
            decoded: run.decoded,
            latent,
            device: device.clone(),
        })
    }

    /// Its variables.
    pub fn params(&self) -> &Params {
        &self.params
    }

    /// Its first half.
    pub fn encoder(&self) -> &Stack {
        &self.encoder
    }

    /// Its second half.
    pub fn decoder(&self) -> &Stack {
        &self.decoder
    }

    /// Values of a code.
    pub fn latent(&self) -> usize {
        self.latent
    }

    /// Where it is computed.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// How a code is read off an encoder's row.
    pub fn code_shape(&self) -> CodeShape {
        match &self.kind {
            Kind::Plain {} | Kind::Denoising(_) => CodeShape::Linear,
            Kind::SparseL1(_) => CodeShape::Relu,
            Kind::SparseKl(_) => CodeShape::Sigmoid,
            Kind::Vae(_) | Kind::RobustVae(_) => CodeShape::MeanFirst,
        }
    }

    /// Whether the decoder's values are logarithms of odds.
    pub fn decodes_odds(&self) -> bool {
        self.code_shape() == CodeShape::MeanFirst && self.decoded == Decoded::Bernoulli {}
    }

    /// Codes of an encoder's rows: without noise.
    ///
    /// # Shapes
    /// `rows` `[N, width]`; returns `[N, latent]`
    ///
    /// # Errors
    /// If an operator fails.
    pub fn code_of(&self, rows: &Tensor) -> Result<Tensor> {
        match self.code_shape() {
            CodeShape::Linear => Ok(rows.clone()),
            CodeShape::Relu => rows.relu(),
            CodeShape::Sigmoid => sigmoid(rows),
            CodeShape::MeanFirst => rows.narrow(1, 0, self.latent)?.contiguous(),
        }
    }

    /// Samples of codes.
    ///
    /// # Errors
    /// If an operator fails.
    pub fn decode(&self, codes: &Tensor) -> Result<Tensor> {
        let values = self.decoder.forward(codes, Pass::Eval)?;
        match self.decodes_odds() {
            true => sigmoid(&values),
            false => Ok(values),
        }
    }

    /// Nats that a decoded sample lacks of the true one, a sample.
    ///
    /// # Shapes
    /// `decoded` (before the sigmoid), `x` `[N, length]`; returns `[N]`
    fn missing(&self, decoded: &Tensor, x: &Tensor) -> Result<Tensor> {
        match self.decoded {
            // -x log s(y) - (1 - x) log(1 - s(y))
            Decoded::Bernoulli {} => (softplus(decoded)? - (decoded * x)?)?.sum(D::Minus1),
            Decoded::Gaussian { deviation } => {
                let length = x.dim(1)? as f64;
                let constant = length * (deviation * std::f64::consts::TAU.sqrt()).ln();
                let squares = (decoded - x)?.sqr()?.sum(D::Minus1)?;
                (squares / (2.0 * deviation * deviation))? + constant
            }
        }
    }

    fn robust(&self) -> Option<(RobustPrior, Mixing)> {
        match &self.kind {
            Kind::RobustVae(robust) => Some((
                RobustPrior::new(robust.prior.clone(), self.latent),
                robust.mixing,
            )),
            _ => None,
        }
    }

    /// Nats a sample that are missing after decoding, and that the code costs.
    fn bound(&self, x: &Tensor, rng: &mut ChaCha8Rng, pass: Pass) -> Result<(Tensor, Tensor)> {
        let n = x.dim(0)?;
        let rows = self.encoder.forward(x, pass)?;
        let Some(vae) = self.kind.variational() else {
            candle_core::bail!("{} has no bound", self.kind.name());
        };
        let q = Gaussian::of_rows(&rows, vae.covariance, self.latent)?;
        let values = (0..n * self.latent).map(|_| normal(rng));
        let noise = Tensor::from_vec(values.collect::<Vec<f32>>(), (n, self.latent), &self.device)?;
        let z = q.draw(&noise)?;
        let Some((prior, mixing)) = self.robust() else {
            let missing = self.missing(&self.decoder.forward(&z, pass)?, x)?;
            return Ok((missing, q.divergence_from_standard()?));
        };
        let part = BoxPart::of_rows(
            &rows,
            Gaussian::width(vae.covariance, self.latent),
            self.latent,
        )?;
        let values = (0..n * self.latent).map(|_| rng.random_range(0.0..1.0));
        let in_box =
            Tensor::from_vec(values.collect::<Vec<f32>>(), (n, self.latent), &self.device)?;
        let second = part.draw(&in_box)?;
        let share = prior.config().box_weight;
        let cost = ((q.divergence_from(&prior, &z, &noise)? * (1.0 - share))?
            + (part.divergence_from(&prior, &second, &in_box)? * share)?)?;
        let missing = match mixing {
            Mixing::Stratified => {
                let of = |z: &Tensor| self.missing(&self.decoder.forward(z, pass)?, x);
                ((of(&z)? * (1.0 - share))? + (of(&second)? * share)?)?
            }
            Mixing::Convex => {
                let sum = ((z * (1.0 - share))? + (second * share)?)?;
                self.missing(&self.decoder.forward(&sum, pass)?, x)?
            }
        };
        Ok((missing, cost))
    }

    /// Codes of samples: without noise.
    ///
    /// # Errors
    /// If an operator fails.
    pub fn codes(&self, samples: &Samples) -> Result<Vec<Vec<f32>>> {
        let mut codes = Vec::with_capacity(samples.len());
        for start in (0..samples.len()).step_by(EVALUATION_BATCH) {
            let end = samples.len().min(start + EVALUATION_BATCH);
            let x = self.tensor(samples.rows(start..end), end - start)?;
            codes.extend(
                self.code_of(&self.encoder.forward(&x, Pass::Eval)?)?
                    .to_vec2::<f32>()?,
            );
        }
        Ok(codes)
    }

    fn tensor(&self, values: Vec<f32>, count: usize) -> Result<Tensor> {
        let length = values.len() / count.max(1);
        Tensor::from_vec(values, (count, length), &self.device)
    }

    /// `-log p(x)` of one sample by importance sampling, in nats; of the VAEs.
    fn log_loss(&self, x: &[f32], draws: usize, rng: &mut ChaCha8Rng) -> Result<f64> {
        let Some(vae) = self.kind.variational() else {
            candle_core::bail!("{} has no likelihood", self.kind.name());
        };
        let rows = self
            .encoder
            .forward(&self.tensor(x.to_vec(), 1)?, Pass::Eval)?;
        let q = Gaussian::of_rows(&rows, vae.covariance, self.latent)?;
        let numbers = |t: &Tensor| -> Result<Vec<f64>> {
            let values = t.flatten_all()?.to_vec1::<f32>()?;
            Ok(values.into_iter().map(f64::from).collect())
        };
        let boxed = match self.robust() {
            Some((prior, _)) => {
                let from = Gaussian::width(vae.covariance, self.latent);
                let part = BoxPart::of_rows(&rows, from, self.latent)?;
                Some((numbers(&part.low)?, numbers(&part.width)?, prior))
            }
            None => None,
        };
        let posterior = PosteriorOf {
            mean: numbers(&q.mean)?,
            factor: numbers(&q.factor()?)?,
            boxed,
        };
        let (mut codes, mut ratios) = (Vec::with_capacity(draws * self.latent), Vec::new());
        for _ in 0..draws {
            let (z, ratio) = posterior.draw(rng);
            codes.extend(z.into_iter().map(|v| v as f32));
            ratios.push(ratio);
        }
        let decoded = self
            .decoder
            .forward(&self.tensor(codes, draws)?, Pass::Eval)?;
        let x = self.tensor(x.to_vec(), 1)?.broadcast_as(decoded.shape())?;
        let missing = numbers(&self.missing(&decoded, &x)?)?;
        let weights: Vec<f64> = ratios.iter().zip(missing).map(|(r, m)| r - m).collect();
        Ok(-log_mean(&weights))
    }

    /// Codes drawn from the prior; of the robust one, the component first.
    pub fn prior_codes(&self, count: usize, rng: &mut ChaCha8Rng) -> Vec<Vec<f32>> {
        let robust = self.robust();
        (0..count)
            .map(|_| match &robust {
                Some((prior, _)) => prior.draw(rng),
                None => (0..self.latent).map(|_| normal(rng)).collect(),
            })
            .collect()
    }
}

/// What one step sees.
pub struct AutoencoderBatch {
    /// Samples, one after the other.
    pub rows: Vec<f32>,
    /// How many.
    pub count: usize,
}

/// Makes values 0 or 1, where that is asked for.
pub fn binarise(rows: &mut [f32], how: Binarise, rng: &mut ChaCha8Rng) {
    for value in rows {
        *value = match how {
            Binarise::Never => *value,
            Binarise::Threshold => f32::from(*value >= 0.5),
            Binarise::Stochastic => f32::from(rng.random_range(0f32..1.0) < *value),
        };
    }
}

/// Endless batches, from that of `step` on.
pub fn batches(
    samples: Arc<Samples>,
    batch: usize,
    how: Binarise,
    seed: u64,
    step: u64,
) -> impl Iterator<Item = anyhow::Result<AutoencoderBatch>> {
    let order = Shuffled::new(samples.len(), batch, seed).from_step(step);
    order.zip(step..).map(move |(chosen, step)| {
        let count = chosen.len();
        let mut rows = samples.rows(chosen);
        binarise(&mut rows, how, &mut rng_at(seed, BINARISE, step));
        Ok(AutoencoderBatch { rows, count })
    })
}

/// The task; see the module head.
pub struct AutoencoderTask {
    run: AutoencoderRun,
    net: AutoencoderNet,
    average: AutoencoderNet,
    held_out: Arc<Samples>,
    steps: u64,
    figures: Vec<(&'static str, f64)>,
}

impl AutoencoderTask {
    /// A new network, and a second one that is given averaged weights to be scored; `steps` of the whole run.
    ///
    /// # Errors
    /// Samples that the configured network cannot take.
    pub fn new(
        run: &AutoencoderRun,
        held_out: Arc<Samples>,
        steps: u64,
        device: &Device,
    ) -> std::result::Result<Self, StackError> {
        let shape = held_out.shape();
        Ok(Self {
            run: run.clone(),
            net: AutoencoderNet::new(run, shape, device)?,
            average: AutoencoderNet::new(run, shape, device)?,
            held_out,
            steps,
            figures: Vec::new(),
        })
    }

    /// The network with the weights of the last validation.
    pub fn averaged(&self) -> &AutoencoderNet {
        &self.average
    }

    /// Held-out samples as they are scored: binarised once for all.
    fn scored_rows(&self, start: usize, end: usize) -> Vec<f32> {
        let mut rows = Vec::new();
        for index in start..end {
            let mut row = self.held_out.row(index);
            let mut rng = rng_at(self.run.seed, SCORING, index as u64);
            binarise(&mut row, self.run.binarise, &mut rng);
            rows.append(&mut row);
        }
        rows
    }

    /// `-log p(x)` of the first held-out samples by importance sampling, in nats; `None` where nothing is asked for, or
    /// there is no likelihood.
    ///
    /// # Errors
    /// If an operator fails.
    pub fn estimated_log_loss(&self) -> Result<Option<f64>> {
        let config = &self.run.likelihood;
        if config.draws == 0 || self.run.kind.variational().is_none() {
            return Ok(None);
        }
        let count = config.samples.min(self.held_out.len());
        let mut sum = 0.0;
        for number in 0..count {
            // From all of them: published sets are in some order, and MNIST's second half is the harder one.
            let index = number * self.held_out.len() / count;
            let mut rng = rng_at(self.run.seed, NOISE, index as u64);
            let row = self.scored_rows(index, index + 1);
            sum += self.average.log_loss(&row, config.draws, &mut rng)?;
        }
        Ok(Some(sum / count as f64))
    }

    fn beta_at(&self, step: u64, beta: f64, warm_up: f64) -> f64 {
        let rising = warm_up * self.steps as f64;
        match rising > 0.0 {
            true => beta * ((step + 1) as f64 / rising).min(1.0),
            false => beta,
        }
    }

    /// Mean squared error, and beside it what the code costs, by name.
    fn deterministic(
        &self,
        net: &AutoencoderNet,
        x: &Tensor,
        damaged: &Tensor,
        pass: Pass,
    ) -> Result<(Tensor, Option<(&'static str, Tensor)>)> {
        let code = net.code_of(&net.encoder.forward(damaged, pass)?)?;
        let error = (net.decoder.forward(&code, pass)? - x)?.sqr()?.mean_all()?;
        let cost = match &net.kind {
            Kind::SparseL1(c) => Some(("sparsity", (code.abs()?.mean_all()? * c.weight)?)),
            Kind::SparseKl(c) => {
                // KL of a coin of the wanted activity from one of the mean activity, for each value of the code.
                let mean = (code.mean(0)?.clamp(1e-6, 1.0 - 1e-6))?;
                let rho = c.activity;
                let on = (mean.log()? * -rho)?;
                let off = ((1.0 - mean)?.log()? * -(1.0 - rho))?;
                let entropy = rho * rho.ln() + (1.0 - rho) * (1.0 - rho).ln();
                let divergence = ((on + off)? + entropy)?.sum_all()?;
                Some(("sparsity", (divergence * c.weight)?))
            }
            _ => None,
        };
        Ok((error, cost))
    }

    fn damaged(&self, rows: &[f32], rng: &mut ChaCha8Rng) -> Option<Vec<f32>> {
        let Kind::Denoising(config) = &self.run.kind else {
            return None;
        };
        let damage = |value: &f32| {
            let noisy = value + config.deviation as f32 * normal(rng);
            match rng.random_bool(config.masked) {
                true => 0.0,
                false => noisy,
            }
        };
        Some(rows.iter().map(damage).collect())
    }

    fn pictures(&self, folder: &Path) -> anyhow::Result<Vec<Panel>> {
        let (net, shape) = (&self.average, self.held_out.shape());
        let rows = |values: Vec<Vec<f32>>| -> anyhow::Result<Vec<Vec<f32>>> {
            let count = values.len();
            Ok(net
                .decode(&net.tensor(values.concat(), count)?)?
                .to_vec2::<f32>()?)
        };
        let shown = SHOWN.min(self.held_out.len());
        let clean = self.scored_rows(0, shown);
        let mut rng = rng_at(self.run.seed, SAMPLES, 0);
        let damaged = self.damaged(&clean, &mut rng);
        let split = |values: &[f32]| -> Vec<Vec<f32>> {
            values.chunks(shape.len()).map(<[f32]>::to_vec).collect()
        };
        let input = net.tensor(damaged.clone().unwrap_or_else(|| clean.clone()), shown)?;
        let codes = net.code_of(&net.encoder.forward(&input, Pass::Eval)?)?;
        let again = net.decode(&codes)?.to_vec2::<f32>()?;
        let mut lines = vec![split(&clean)];
        lines.extend(damaged.map(|damaged| split(&damaged)));
        lines.push(again);
        let picture = |title: &str, file: &str, lines: &[Vec<Vec<f32>>], note: &str| {
            outputs::picture(&folder.join(file), &sheet(lines, shape))?;
            anyhow::Ok(Panel::Picture {
                title: title.into(),
                file: file.into(),
                note: note.into(),
            })
        };
        let mut panels = vec![picture(
            "Held-out samples and what comes back",
            "reconstructions.png",
            &lines,
            "First row: samples; last row: decoded from their codes, without noise. Between them, where there is one: as they came in.",
        )?];
        if net.code_shape() == CodeShape::MeanFirst {
            let samples = rows(net.prior_codes(4 * SHOWN, &mut rng))?;
            let lines: Vec<Vec<Vec<f32>>> = samples.chunks(SHOWN).map(<[_]>::to_vec).collect();
            panels.push(picture(
                "Samples of codes drawn from the prior",
                "samples.png",
                &lines,
                "Of a prior with a box the component is drawn first.",
            )?);
            if self.run.latent == 2 {
                let at = |k: usize| 6.0 * (k as f32 / (MAP_SIDE - 1) as f32 - 0.5);
                let codes = (0..MAP_SIDE * MAP_SIDE)
                    .map(|k| vec![at(k % MAP_SIDE), -at(k / MAP_SIDE)])
                    .collect();
                let lines: Vec<Vec<Vec<f32>>> =
                    rows(codes)?.chunks(MAP_SIDE).map(<[_]>::to_vec).collect();
                panels.push(picture(
                    "Decoded codes from -3 to 3 in both directions",
                    "latent.png",
                    &lines,
                    "",
                )?);
            }
        }
        Ok(panels)
    }
}

impl Task for AutoencoderTask {
    type Batch = AutoencoderBatch;

    fn params(&self) -> &Params {
        self.net.params()
    }

    fn loss(&self, batch: &AutoencoderBatch, step: u64) -> Result<StepLoss> {
        let pass = Pass::TrainFrozen {
            precision: Precision::F32,
        };
        let x = self.net.tensor(batch.rows.clone(), batch.count)?;
        let mut rng = rng_at(self.run.seed, NOISE, step | 1 << 63);
        if let Some(vae) = self.run.kind.variational() {
            let (missing, cost) = self.net.bound(&x, &mut rng, pass)?;
            let (missing, cost) = (missing.mean_all()?, cost.mean_all()?);
            let beta = self.beta_at(step, vae.beta, vae.warm_up);
            let parts = vec![
                ("reconstruction", missing.to_scalar()?),
                ("divergence", cost.to_scalar()?),
            ];
            return Ok(StepLoss {
                total: (missing + (cost * beta)?)?,
                parts,
            });
        }
        let damaged = match self.damaged(&batch.rows, &mut rng) {
            Some(rows) => self.net.tensor(rows, batch.count)?,
            None => x.clone(),
        };
        let (error, cost) = self.deterministic(&self.net, &x, &damaged, pass)?;
        let mut parts = vec![("squared_error", error.to_scalar()?)];
        let total = match cost {
            Some((name, cost)) => {
                parts.push((name, cost.to_scalar()?));
                (error + cost)?
            }
            None => error,
        };
        Ok(StepLoss { total, parts })
    }

    fn unit(&self) -> &'static str {
        "samples"
    }

    fn best_by(&self) -> BestBy {
        match self.run.kind.variational() {
            Some(_) => BestBy::Lowest(self.run.kind.bound_name()),
            None => BestBy::Lowest("squared_error"),
        }
    }

    fn validate(&mut self, snapshot: &Snapshot) -> anyhow::Result<Vec<(&'static str, f64)>> {
        self.average.params().restore(snapshot)?;
        let net = &self.average;
        let count = self.held_out.len();
        let (mut first, mut second) = (0.0, 0.0);
        for start in (0..count).step_by(EVALUATION_BATCH) {
            let end = count.min(start + EVALUATION_BATCH);
            let rows = self.scored_rows(start, end);
            let mut rng = rng_at(self.run.seed, SCORING, (start as u64) | 1 << 62);
            let damaged = self.damaged(&rows, &mut rng);
            let x = net.tensor(rows, end - start)?;
            if self.run.kind.variational().is_some() {
                let (missing, cost) = net.bound(&x, &mut rng, Pass::Eval)?;
                first += f64::from(missing.sum_all()?.to_scalar::<f32>()?);
                second += f64::from(cost.sum_all()?.to_scalar::<f32>()?);
                continue;
            }
            let damaged = match damaged {
                Some(rows) => net.tensor(rows, end - start)?,
                None => x.clone(),
            };
            let code = net.code_of(&net.encoder.forward(&damaged, Pass::Eval)?)?;
            let error = (net.decode(&code)? - &x)?.sqr()?.mean(D::Minus1)?;
            first += f64::from(error.sum_all()?.to_scalar::<f32>()?);
            let active = code
                .abs()?
                .ge(0.05)?
                .to_dtype(code.dtype())?
                .mean(D::Minus1)?;
            second += f64::from(active.sum_all()?.to_scalar::<f32>()?);
        }
        let (first, second) = (first / count as f64, second / count as f64);
        self.figures = match self.run.kind.variational() {
            Some(_) => vec![
                (self.run.kind.bound_name(), first + second),
                ("reconstruction", first),
                ("divergence", second),
            ],
            None => vec![("squared_error", first), ("active_share", second)],
        };
        Ok(self.figures.clone())
    }

    fn panels(&mut self, folder: &Path) -> anyhow::Result<Vec<Panel>> {
        let figures = self.figures.iter().map(|(name, value)| {
            let name = match *name {
                "negative_elbo" => "negative ELBO, nats a sample",
                "weighted_sum_cost" => "cost of the weighted sum, nats a sample (no bound)",
                "reconstruction" => "missing after decoding, nats",
                "divergence" => "divergence from the prior, nats",
                "squared_error" => "mean squared error",
                "active_share" => "share of the code above 0.05",
                other => other,
            };
            Figure::new(name, *value)
        });
        let mut panels = vec![Panel::figures("Held-out samples", figures.collect())];
        let mapped: Vec<usize> = (0..self.held_out.len().min(MAPPED)).collect();
        let mapped = self.held_out.chosen(&mapped);
        panels.push(map_of_points(
            "Map of the codes",
            &self.average.codes(&mapped)?,
            &mapped,
        ));
        panels.extend(self.pictures(folder)?);
        Ok(panels)
    }

    fn save_batch(&self, batch: &AutoencoderBatch, path: &Path) -> anyhow::Result<()> {
        let shape = self.held_out.shape();
        let rows: Vec<Vec<f32>> = batch
            .rows
            .chunks(shape.len())
            .map(<[f32]>::to_vec)
            .collect();
        let rows: Vec<Vec<Vec<f32>>> = rows.chunks(16).map(<[Vec<f32>]>::to_vec).collect();
        outputs::picture(path, &sheet(&rows, shape))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::autoencoder::{DenoisingConfig, SparseKlConfig, VaeConfig};
    use crate::config::SystemConfig;
    use crate::labelled::Values;
    use crate::linalg;
    use crate::optim::AdamW;
    use crate::task::siamese::tests::bars;
    use nalgebra::DMatrix;
    use rand::SeedableRng;

    fn small_run(kind: Kind) -> AutoencoderRun {
        let mut run = AutoencoderRun::parse(
            "latent = 3\nbinarise = \"stochastic\"\n[network]\nchannels = [8]\nwidths = [32]\n",
        )
        .unwrap();
        if kind.variational().is_none() {
            run.binarise = Binarise::Never;
        }
        run.kind = kind;
        run
    }

    fn trained(
        run: &AutoencoderRun,
        train: Samples,
        test: Samples,
        steps: u64,
        rate: f64,
    ) -> AutoencoderTask {
        let mut task = AutoencoderTask::new(run, Arc::new(test), steps, &Device::Cpu).unwrap();
        let mut adam = AdamW::default();
        let all = batches(Arc::new(train), 32, run.binarise, run.seed, 0);
        for (step, batch) in all.take(steps as usize).enumerate() {
            let loss = task.loss(&batch.unwrap(), step as u64).unwrap();
            let gradients = loss.total.backward().unwrap();
            // Down to a hundredth, in a straight line: the end should stand still.
            let rate = rate * (1.0 - 0.99 * step as f64 / steps as f64);
            adam.step(task.net.params(), &gradients, rate, &run.optim)
                .unwrap();
        }
        let weights = task.params().snapshot().unwrap();
        task.validate(&weights).unwrap();
        task
    }

    #[test]
    fn every_kind_learns_to_give_samples_back() {
        for kind in Kind::all() {
            let run = small_run(kind);
            let name = run.kind.name();
            let mut fresh =
                AutoencoderTask::new(&run, Arc::new(bars(64, 2)), 1, &Device::Cpu).unwrap();
            let weights = fresh.params().snapshot().unwrap();
            let before = fresh.validate(&weights).unwrap()[0].1;
            let task = trained(&run, bars(400, 1), bars(64, 2), 150, 3e-3);
            let after = task.figures[0].1;
            assert!(after < 0.8 * before, "{name}: {before} {after}");
        }
    }

    #[test]
    fn the_two_penalties_make_codes_sparse() {
        let wide = |kind| AutoencoderRun {
            latent: 24,
            ..small_run(kind)
        };
        let active = |kind| trained(&wide(kind), bars(400, 1), bars(64, 2), 150, 3e-3).figures[1].1;
        let l1 = |weight| {
            active(Kind::SparseL1(crate::autoencoder::SparseL1Config {
                weight,
            }))
        };
        assert!(l1(0.5) < 0.7 * l1(0.0));
        let kl = |weight| {
            active(Kind::SparseKl(SparseKlConfig {
                weight,
                activity: 0.02,
            }))
        };
        assert!(kl(0.1) < 0.7 * kl(0.0));
    }

    #[test]
    fn a_denoiser_gives_back_less_noise_than_it_was_given() {
        let config = DenoisingConfig {
            deviation: 0.0,
            masked: 0.5,
        };
        let run = AutoencoderRun {
            latent: 8,
            ..small_run(Kind::Denoising(config))
        };
        let task = trained(&run, bars(400, 1), bars(64, 2), 300, 3e-3);
        let clean = task.scored_rows(0, 64);
        let damaged = task.damaged(&clean, &mut rng_at(1, 1, 1)).unwrap();
        let given: f32 = clean
            .iter()
            .zip(&damaged)
            .map(|(a, b)| (a - b).powi(2))
            .sum();
        let given = f64::from(given) / clean.len() as f64;
        assert!(
            task.figures[0].1 < 0.8 * given,
            "{} {given}",
            task.figures[0].1
        );
    }

    /// Samples of twelve values around a plane of three dimensions, none of them zero.
    fn near_a_plane(count: usize) -> Samples {
        let mut rng = ChaCha8Rng::seed_from_u64(9);
        let directions: Vec<Vec<f32>> = (0..3)
            .map(|_| (0..12).map(|_| normal(&mut rng)).collect())
            .collect();
        let mut values = Vec::new();
        for _ in 0..count {
            let code: Vec<f32> = [0.6, 0.4, 0.3]
                .iter()
                .map(|s| s * normal(&mut rng))
                .collect();
            values.extend((0..12).map(|column| {
                let parts = code.iter().zip(&directions);
                let on_plane: f32 = parts.map(|(c, direction)| c * direction[column]).sum();
                on_plane + 0.3 + 0.05 * normal(&mut rng)
            }));
        }
        let shape = Shape {
            height: 1,
            width: 1,
            channels: 12,
        };
        Samples::new(shape, Values::Numbers(values), vec![0; count], vec![]).unwrap()
    }

    /// The largest angle between two subspaces, each spanned by the rows of a matrix, in degrees.
    fn angle(a: &DMatrix<f64>, b: &DMatrix<f64>) -> f64 {
        let basis = |m: &DMatrix<f64>| m.transpose().qr().q();
        let product = basis(a).tr_mul(&basis(b));
        let smallest = linalg::smallest_eigenvalue(&product.tr_mul(&product));
        smallest.clamp(0.0, 1.0).sqrt().acos().to_degrees()
    }

    #[test]
    fn a_linear_autoencoder_spans_the_plane_of_the_principal_components() {
        let mut run = small_run(Kind::Plain {});
        run.network.channels = vec![];
        run.network.widths = vec![];
        let samples = near_a_plane(600);
        let rows: Vec<f64> = samples.rows(0..600).into_iter().map(f64::from).collect();
        let x = DMatrix::from_row_slice(600, 12, &rows);
        let (values, vectors) = linalg::symmetric_eigen(&linalg::covariance(&x));
        let mut order: Vec<usize> = (0..12).collect();
        order.sort_by(|a, b| values[*b].total_cmp(&values[*a]));
        let principal = vectors.select_columns(&order[..3]).transpose();
        let of = |task: &AutoencoderTask| {
            let weight = &task.net.params().vars["decoder.last.weight"];
            let weight = weight.to_vec2::<f32>().unwrap().concat();
            let weight: Vec<f64> = weight.into_iter().map(f64::from).collect();
            angle(&DMatrix::from_row_slice(3, 12, &weight), &principal)
        };
        let fresh = AutoencoderTask::new(&run, Arc::new(samples.clone()), 1, &Device::Cpu).unwrap();
        assert!(of(&fresh) > 20.0);
        let task = trained(&run, samples.clone(), samples, 2500, 1e-2);
        assert!(of(&task) < 1.0, "{} degrees", of(&task));
    }

    #[test]
    fn many_draws_say_that_a_sample_is_likelier_than_the_bound_does() {
        for kind in [
            Kind::Vae(VaeConfig::default()),
            Kind::Vae(VaeConfig {
                covariance: crate::autoencoder::Covariance::Full,
                ..VaeConfig::default()
            }),
            Kind::RobustVae(Default::default()),
        ] {
            let mut run = small_run(kind);
            run.likelihood.samples = 64;
            run.likelihood.draws = 1;
            let mut task = trained(&run, bars(400, 1), bars(64, 2), 150, 3e-3);
            let one = task.estimated_log_loss().unwrap().unwrap();
            task.run.likelihood.draws = 200;
            let many = task.estimated_log_loss().unwrap().unwrap();
            let bound = task.figures[0].1;
            assert!(many < bound && many < one, "{many} {one} {bound}");
        }
    }

    #[test]
    fn beta_rises_over_the_warm_up_and_figures_are_those_of_one() {
        let run = small_run(Kind::Vae(VaeConfig {
            beta: 4.0,
            warm_up: 0.5,
            ..VaeConfig::default()
        }));
        let task = AutoencoderTask::new(&run, Arc::new(bars(16, 2)), 100, &Device::Cpu).unwrap();
        assert_eq!(task.beta_at(24, 4.0, 0.5), 2.0);
        assert_eq!(
            (task.beta_at(49, 4.0, 0.5), task.beta_at(99, 4.0, 0.5)),
            (4.0, 4.0)
        );
        assert_eq!(task.beta_at(0, 4.0, 0.0), 4.0);
        let batch = batches(Arc::new(bars(16, 2)), 16, run.binarise, 0, 0)
            .next()
            .unwrap()
            .unwrap();
        let loss = task.loss(&batch, 24).unwrap();
        let total = loss.total.to_scalar::<f32>().unwrap();
        assert!((total - (loss.parts[0].1 + 2.0 * loss.parts[1].1)).abs() < 1e-3 * total);
    }
}
