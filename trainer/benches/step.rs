//! One training step of a tracker of the recipe's size, for comparison with PyTorch by `compare.py`.
//!
//! Each line on standard input runs one step (forward, mean of squares as loss, backward; no optimiser) and prints
//! the loss. Arguments: `--precision f32|bf16|tf32` (default `f32`), `--pairs N` (default 24), `--device cpu|cuda:0`
//! (default `cpu`). Without any input (as under `cargo bench`) three steps run and print their wall time.
#![allow(missing_docs, clippy::print_stdout)]

use std::io::{BufRead, Write};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use candle_core::{DType, Device, Tensor, Var};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use roadhound_trainer::ops::{
    BnStats, ConvBn, DeviceChoice, Precision, RunningStats, conv2d, global_max_pool,
    keep_freed_memory, open_device,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

struct Layer {
    weight: Var,
    gamma: Var,
    beta: Var,
    stats: BnStats,
    stride: usize,
    relu: bool,
}

struct Net {
    stem: Vec<Layer>,
    neck: Layer,
    correlation_gamma: Var,
    correlation_beta: Var,
    correlation_stats: BnStats,
    head: Vec<Layer>,
    score: (Var, Var),
    ltrb: (Var, Var),
    presence: (Var, Var),
    precision: Precision,
}

struct Builder<'a>(ChaCha8Rng, &'a Device);

impl Builder<'_> {
    fn weight(&mut self, shape: &[usize]) -> Result<Var> {
        let fan_in: usize = shape[..shape.len() - 1].iter().product();
        let bound = (3. / fan_in as f32).sqrt();
        let values: Vec<f32> = (0..shape.iter().product())
            .map(|_| self.0.random_range(-bound..bound))
            .collect();
        Ok(Var::from_vec(values, shape, self.1)?)
    }

    fn zeros(&mut self, n: usize) -> Result<Var> {
        Ok(Var::zeros(n, DType::F32, self.1)?)
    }

    fn ones(&mut self, n: usize) -> Result<Var> {
        Ok(Var::ones(n, DType::F32, self.1)?)
    }

    fn layer(&mut self, k: usize, stride: usize, ci: usize, co: usize) -> Result<Layer> {
        Ok(Layer {
            weight: self.weight(&[k, k, ci, co])?,
            gamma: self.ones(co)?,
            beta: self.zeros(co)?,
            stats: stats(co),
            stride,
            relu: true,
        })
    }
}

fn stats(channels: usize) -> BnStats {
    BnStats::Training {
        running: RunningStats::new(channels).into_shared(),
        momentum: 0.1,
    }
}

impl Layer {
    fn forward(
        &self,
        x: &Tensor,
        residual: Option<&Tensor>,
        precision: Precision,
    ) -> Result<Tensor> {
        let layer = ConvBn {
            weight: &self.weight,
            gamma: &self.gamma,
            beta: &self.beta,
            stats: &self.stats,
            stride: self.stride,
            padding: self.weight.dim(0)? / 2,
            relu: self.relu,
            precision,
        };
        Ok(layer.forward(x, residual)?)
    }
}

impl Net {
    fn new(precision: Precision, device: &Device) -> Result<Self> {
        let b = &mut Builder(ChaCha8Rng::seed_from_u64(1), device);
        Ok(Self {
            stem: vec![
                b.layer(3, 2, 3, 16)?,
                b.layer(3, 2, 16, 32)?,
                b.layer(3, 1, 32, 32)?,
                b.layer(3, 2, 32, 64)?,
                b.layer(3, 1, 64, 64)?,
                b.layer(3, 1, 64, 64)?,
                b.layer(3, 2, 64, 128)?,
                b.layer(3, 1, 128, 128)?,
                b.layer(3, 1, 128, 128)?,
            ],
            neck: b.layer(1, 1, 128, 96)?,
            correlation_gamma: b.ones(64)?,
            correlation_beta: b.zeros(64)?,
            correlation_stats: stats(64),
            head: vec![
                b.layer(1, 1, 160, 96)?,
                b.layer(3, 1, 96, 96)?,
                b.layer(3, 1, 96, 96)?,
            ],
            score: (b.weight(&[1, 1, 96, 1])?, b.zeros(1)?),
            ltrb: (b.weight(&[1, 1, 96, 4])?, b.zeros(4)?),
            presence: (b.weight(&[192, 1])?, b.zeros(1)?),
            precision,
        })
    }

    fn features(&self, x: &Tensor) -> Result<Tensor> {
        let mut x = x.clone();
        let mut skip = None;
        for (i, layer) in self.stem.iter().enumerate() {
            match i {
                4 | 7 => {
                    skip = Some(x.clone());
                    x = layer.forward(&x, None, self.precision)?;
                }
                5 | 8 => x = layer.forward(&x, skip.as_ref(), self.precision)?,
                _ => x = layer.forward(&x, None, self.precision)?,
            }
        }
        self.neck.forward(&x, None, self.precision)
    }

    fn loss(&self, template: &Tensor, search: &Tensor) -> Result<Tensor> {
        let template = self.features(template)?;
        let search = self.features(search)?;
        let (n, h, w, c) = search.dims4()?;
        let cells = template.flatten(1, 2)?;
        let scale = (c as f64).powf(-0.5);
        let correlation = (search.flatten(1, 2)?.matmul(&cells.t()?)? * scale)?;
        let correlation = correlation.reshape((n, h, w, cells.dim(1)?))?;
        let correlation = roadhound_trainer::ops::batch_norm(
            &correlation,
            &self.correlation_gamma,
            &self.correlation_beta,
            None,
            false,
            &self.correlation_stats,
        )?;
        let mut x = Tensor::cat(&[&correlation, &search], 3)?;
        for layer in &self.head {
            x = layer.forward(&x, None, self.precision)?;
        }
        let score =
            conv2d(&x, &self.score.0, 1, 0, self.precision)?.broadcast_add(&self.score.1)?;
        let ltrb = conv2d(&x, &self.ltrb.0, 1, 0, self.precision)?.broadcast_add(&self.ltrb.1)?;
        let pooled = Tensor::cat(&[&global_max_pool(&x)?, &x.mean((1, 2))?], 1)?;
        let presence = pooled
            .matmul(&self.presence.0)?
            .broadcast_add(&self.presence.1)?;
        let loss = (score.sqr()?.mean_all()? + ltrb.sqr()?.mean_all()?)?;
        Ok((loss + presence.sqr()?.mean_all()?)?)
    }
}

fn images(rng: &mut ChaCha8Rng, n: usize, side: usize, device: &Device) -> Result<Tensor> {
    let values: Vec<f32> = (0..n * side * side * 3)
        .map(|_| rng.random_range(-1.7..1.7))
        .collect();
    Ok(Tensor::from_vec(values, (n, side, side, 3), device)?)
}

fn main() -> Result<()> {
    keep_freed_memory();
    let (mut precision, mut pairs, mut choice) = (Precision::F32, 24, DeviceChoice::Cpu);
    let mut arguments = std::env::args().skip(1).filter(|a| a != "--bench");
    while let Some(name) = arguments.next() {
        let value = arguments
            .next()
            .with_context(|| format!("{name} needs a value"))?;
        match (name.as_str(), value.as_str()) {
            ("--precision", "f32") => precision = Precision::F32,
            ("--precision", "bf16") => precision = Precision::Bf16,
            ("--precision", "tf32") => precision = Precision::Tf32,
            ("--device", name) => choice = name.parse()?,
            ("--pairs", n) => pairs = n.parse()?,
            _ => bail!("unknown argument {name} {value}"),
        }
    }
    let device = &open_device(choice)?;
    let net = Net::new(precision, device)?;
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    let template = images(&mut rng, pairs, 128, device)?;
    let search = images(&mut rng, pairs, 256, device)?;
    let step = || -> Result<f32> {
        let loss = net.loss(&template, &search)?;
        let gradients = loss.backward()?;
        gradients
            .get(&net.stem[0].weight)
            .context("the first layer has no gradient")?;
        // On a GPU, the loss is done before the gradients are.
        device.synchronize()?;
        Ok(loss.to_scalar()?)
    };
    let mut steps = 0;
    for line in std::io::stdin().lock().lines() {
        line?;
        println!("{}", step()?);
        std::io::stdout().flush()?;
        steps += 1;
    }
    if steps == 0 {
        for _ in 0..3 {
            let start = Instant::now();
            let loss = step()?;
            println!(
                "loss {loss}, {:.1} ms per pair",
                start.elapsed().as_secs_f64() * 1e3 / pairs as f64
            );
        }
    }
    Ok(())
}
