//! The task of a generative adversarial network: two players, each with a loss of its own, who move one after the other.
//!
//! In: batches of real samples. Out: the discriminator's loss and then the generator's. Figures are those of the averaged
//! weights: what the generator makes of codes that are drawn once for all.

use std::path::Path;
use std::sync::Arc;

use candle_core::{Device, Result, Tensor};
use rand::Rng;

use super::{BestBy, Player, StepLoss, Task, Turn};
use crate::contingency::Contingency;
use crate::epochs::{Shuffled, rng_at};
use crate::gan::clusters::{Clusters, Readers};
use crate::gan::coverage::{Coverage, RingConfig};
use crate::gan::{BatchNorm, CodeConfig, GanRun, MOST_READERS, MutualConfig, PenaltyBy};
use crate::gap::frechet::Moments;
use crate::labelled::neighbours::Neighbours;
use crate::labelled::sheet::sheet;
use crate::labelled::warp::WarpConfig;
use crate::labelled::{Samples, Shape};
use crate::loss::adversarial;
use crate::loss::classes::{cross_entropy, shared_information};
use crate::model::Pass;
use crate::model::layers::BN_MOMENTUM;
use crate::model::net::sigmoid;
use crate::model::stack::{Stack, StackConfig, StackError};
use crate::ops::Precision;
use crate::outputs;
use crate::params::{ParamBuilder, Params, Snapshot, normal};
use crate::probe::{Probe, highest};
use crate::report::panels::{Figure, NamedPoints, Panel};

const EVALUATION_BATCH: usize = 500;
/// Columns of the pictures, and points of a ring that are drawn.
const SHOWN: usize = 12;
const POINTS_SHOWN: usize = 1000;

const CODES: u64 = 41;
const NOISE: u64 = 42;
const DIRECTIONS: u64 = 43;
const WARP: u64 = 44;
const SCORING: u64 = 45;
const VIEWS: u64 = 46;
const HOPS: u64 = 47;
/// Steps after which categories are found anew, as long as they are not settled.
const REGROUP_EVERY: u64 = 50;
/// Steps of a run are below this, what is drawn for scores is above.
const APART: u64 = 1 << 60;

/// Length of the step along a drawn direction, whatever the number of values.
const DIRECTION_STEP: f64 = 0.05;

const TRAIN: Pass = Pass::Train {
    momentum: BN_MOMENTUM,
    precision: Precision::F32,
};

const FROZEN: Pass = Pass::TrainFrozen {
    precision: Precision::F32,
};

/// The first player who reads clusters, after discriminator and generator.
const FIRST_READER: usize = 2;
/// What the categories of a pair share, of each reader of clusters, in the logs.
const TOLD: [&str; MOST_READERS] = [
    "shared_nats",
    "shared_nats_1",
    "shared_nats_2",
    "shared_nats_3",
    "shared_nats_4",
    "shared_nats_5",
    "shared_nats_6",
    "shared_nats_7",
];

/// The player who makes samples, the one who judges them, and the reader of codes, who sees what the judge sees.
pub struct GanNet {
    params: Params,
    generator: Stack,
    discriminator: Stack,
    reader: Option<Stack>,
    clusters: Option<Readers>,
    code: CodeConfig,
    pictures: bool,
    device: Device,
}

/// Codes that were drawn.
pub struct Codes {
    /// As the generator takes them, one after the other.
    pub rows: Vec<f32>,
    /// The category of each; 0 where there are none.
    pub categories: Vec<u32>,
    /// The continuous values, one code after the other.
    pub continuous: Vec<f32>,
}

/// What a discriminator says.
pub struct Seen {
    /// `[N, 1]`.
    pub logits: Tensor,
    /// `[N, F]`.
    pub features: Tensor,
}

impl GanNet {
    /// Born of the run's seed.
    ///
    /// # Errors
    /// Samples that the configured networks cannot take.
    pub fn new(
        run: &GanRun,
        shape: Shape,
        device: &Device,
    ) -> std::result::Result<Self, StackError> {
        let mut builder = ParamBuilder::new(run.seed, device);
        let code = run.code.clone();
        let generator =
            Stack::decoder(&mut builder, "generator", code.len(), &run.generator, shape)?;
        let norm = run.stabilisers.batch_norm != BatchNorm::None;
        let config = &run.discriminator;
        let mut discriminator =
            Stack::encoder(&mut builder, "discriminator", shape, config, 1, norm)?;
        if run.stabilisers.spectral_norm {
            discriminator = discriminator.with_spectral_norm(&mut builder, "discriminator")?;
        }
        let features = Shape {
            height: 1,
            width: 1,
            channels: discriminator.feature_count(),
        };
        let mut reader_of = |outputs: usize| {
            let widths = StackConfig {
                channels: vec![],
                widths: vec![run.mutual.width],
                ..StackConfig::default()
            };
            let reader =
                |outputs| Stack::encoder(&mut builder, "reader", features, &widths, outputs, false);
            Some(outputs)
                .filter(|outputs| *outputs > 0)
                .map(reader)
                .transpose()
        };
        let invariance = &run.mutual.invariance;
        let (reader, clusters) = match invariance.weight > 0.0 {
            true => {
                let reader = reader_of(code.continuous)?;
                let clusters = Readers::new(&mut builder, shape, invariance, code.categories)?;
                (reader, Some(clusters))
            }
            false => (reader_of(code.readable())?, None),
        };
        Ok(Self {
            params: builder.finish(),
            generator,
            discriminator,
            reader,
            clusters,
            code,
            pictures: shape.is_picture(),
            device: device.clone(),
        })
    }

    /// Its variables.
    pub fn params(&self) -> &Params {
        &self.params
    }

    /// Who makes samples.
    pub fn generator(&self) -> &Stack {
        &self.generator
    }

    /// Who judges them.
    pub fn discriminator(&self) -> &Stack {
        &self.discriminator
    }

    /// Who reads codes: all that can be read of one, or the continuous values alone where there are
    /// [`clusters`](Self::clusters).
    pub fn reader(&self) -> Option<&Stack> {
        self.reader.as_ref()
    }

    /// Who reads categories, where they are groups of clusters: the chosen one of its [`Readers`].
    ///
    /// # Errors
    /// If a table of theirs cannot be read.
    pub fn clusters(&self) -> Result<Option<&Clusters>> {
        self.clusters.as_ref().map(Readers::chosen).transpose()
    }

    /// What a sample is made of.
    pub fn code(&self) -> &CodeConfig {
        &self.code
    }

    /// Whether samples are pictures, whose values are between 0 and 1.
    pub fn makes_pictures(&self) -> bool {
        self.pictures
    }

    /// Where it is computed.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Rows as a tensor.
    ///
    /// # Errors
    /// Values that are not so many rows.
    pub fn tensor(&self, values: Vec<f32>, count: usize) -> Result<Tensor> {
        let length = values.len() / count.max(1);
        Tensor::from_vec(values, (count, length), &self.device)
    }

    /// Codes of their distribution: a function of the seed and of `step`.
    pub fn draw(&self, count: usize, seed: u64, step: u64) -> Codes {
        let mut rng = rng_at(seed, CODES, step);
        let mut codes = Codes {
            rows: Vec::with_capacity(count * self.code.len()),
            categories: Vec::with_capacity(count),
            continuous: Vec::with_capacity(count * self.code.continuous),
        };
        for _ in 0..count {
            let category = match self.code.categories {
                0 => 0,
                categories => rng.random_range(0..categories),
            };
            codes.categories.push(category as u32);
            codes
                .rows
                .extend((0..self.code.categories).map(|k| f32::from(k == category)));
            for _ in 0..self.code.continuous {
                let value = rng.random_range(-1f32..1.0);
                codes.continuous.push(value);
                codes.rows.push(value);
            }
            codes
                .rows
                .extend((0..self.code.noise).map(|_| normal(&mut rng)));
        }
        codes
    }

    /// Samples of codes.
    ///
    /// # Shapes
    /// `codes` `[N, length of a code]`; returns `[N, length of a sample]`.
    ///
    /// # Errors
    /// Codes of another length.
    pub fn made(&self, codes: &Tensor, pass: Pass) -> Result<Tensor> {
        let values = self.generator.forward(codes, pass)?;
        match self.pictures {
            true => sigmoid(&values),
            false => Ok(values),
        }
    }

    /// What the discriminator says of samples.
    ///
    /// # Errors
    /// Samples of another length.
    pub fn judged(&self, rows: &Tensor, pass: Pass) -> Result<Seen> {
        let (logits, features) = self.discriminator.forward_with_features(rows, pass)?;
        Ok(Seen { logits, features })
    }

    /// What the discriminator says of two sets, normalised together or apart.
    fn judged_both(&self, real: &Tensor, made: &Tensor, norm: BatchNorm) -> Result<[Seen; 2]> {
        if norm != BatchNorm::Joint {
            return Ok([self.judged(real, TRAIN)?, self.judged(made, TRAIN)?]);
        }
        let seen = self.judged(&Tensor::cat(&[real, made], 0)?, TRAIN)?;
        let part = |from: usize, of: &Tensor| -> Result<Seen> {
            let cut = |t: &Tensor| t.narrow(0, from, of.dim(0)?)?.contiguous();
            Ok(Seen {
                logits: cut(&seen.logits)?,
                features: cut(&seen.features)?,
            })
        };
        Ok([part(0, real)?, part(real.dim(0)?, made)?])
    }

    /// What is read off samples and the discriminator's features of them: a logarithm a category, up to a constant, then the
    /// continuous values.
    ///
    /// # Errors
    /// Samples or features of another length.
    pub fn read(&self, rows: &Tensor, features: &Tensor, pass: Pass) -> Result<Option<Tensor>> {
        let parts = [
            self.clusters()?
                .map(|clusters| clusters.categories(&clusters.scores(rows, pass)?)),
            self.reader
                .as_ref()
                .map(|reader| reader.forward(features, pass)),
        ];
        let parts = parts.into_iter().flatten().collect::<Result<Vec<_>>>()?;
        match parts.len() {
            0 => Ok(None),
            _ => Tensor::cat(&parts, 1).map(Some),
        }
    }

    /// How badly the code is read, in nats, each part by its weight; `None` where there is nothing to read, or no part has a
    /// weight.
    fn misread(
        &self,
        rows: &Tensor,
        features: &Tensor,
        codes: &Codes,
        weights: &MutualConfig,
    ) -> Result<Option<Tensor>> {
        let of_features = match &self.reader {
            Some(reader) => Some(reader.forward(features, TRAIN)?),
            None => None,
        };
        let mut loss = None;
        let (categories, continuous) = (self.code.categories, self.code.continuous);
        if categories > 0 && weights.categorical > 0.0 {
            let logits = match (self.clusters()?, &of_features) {
                // Normalised as real samples are, of which alone it learns how to.
                (Some(clusters), _) => Some(clusters.categories(&clusters.scores(rows, FROZEN)?)?),
                (None, Some(read)) => Some(read.narrow(1, 0, categories)?.contiguous()?),
                (None, None) => None,
            };
            if let Some(logits) = logits {
                let unread = cross_entropy(&logits, &codes.categories, None)?;
                loss = Some((unread * weights.categorical)?);
            }
        }
        if let Some(read) = of_features.filter(|_| continuous > 0 && weights.continuous > 0.0) {
            let first = read.dim(1)? - continuous;
            let values = read.narrow(1, first, continuous)?.contiguous()?;
            let wanted = self.tensor(codes.continuous.clone(), codes.categories.len())?;
            let part = (adversarial::continuous_code(&values, &wanted)? * weights.continuous)?;
            loss = Some(match loss {
                Some(loss) => (loss + part)?,
                None => part,
            });
        }
        Ok(loss)
    }
}

/// What one step sees.
pub struct GanBatch {
    /// Real samples, one after the other.
    pub rows: Vec<f32>,
    /// How many.
    pub count: usize,
    /// Other real samples and then a neighbour of each, all of them moved, of which the reader is to say the same.
    pub views: Vec<f32>,
    /// How many pairs those are.
    pub pairs: usize,
}

/// Endless batches of real samples, moved a little, from that of `step` on. Without `neighbours`, a pair is one sample twice.
pub fn batches(
    samples: Arc<Samples>,
    neighbours: Option<Neighbours>,
    run: &GanRun,
    step: u64,
) -> impl Iterator<Item = anyhow::Result<GanBatch>> + use<> {
    let (seed, warp) = (run.seed, run.warp.clone());
    let order = Shuffled::new(samples.len(), run.train.batch, seed).from_step(step);
    let invariance = run.mutual.invariance.clone();
    let paired = invariance.weight > 0.0;
    let mut others = Shuffled::new(samples.len(), invariance.pairs, seed ^ VIEWS).from_step(step);
    order.zip(step..).map(move |(chosen, step)| {
        let moved = |chosen: &[usize], warp: &WarpConfig, purpose: u64| -> Vec<f32> {
            if *warp == WarpConfig::none() {
                return samples.rows(chosen.iter().copied());
            }
            let mut rng = rng_at(seed, purpose, step);
            let moved = |index: &usize| warp.apply(&samples.row(*index), samples.shape(), &mut rng);
            chosen.iter().flat_map(moved).collect()
        };
        let (mut views, mut pairs) = (Vec::new(), 0);
        if let Some(others) = others.next().filter(|_| paired) {
            pairs = others.len();
            let mut rng = rng_at(seed, HOPS, step);
            let near = others.iter().map(|index| match &neighbours {
                Some(near) => near.walk(*index, rng.random_range(1..=invariance.hops), &mut rng),
                None => *index,
            });
            let both: Vec<usize> = others.iter().copied().chain(near).collect();
            views = moved(&both, &invariance.warp, VIEWS);
        }
        Ok(GanBatch {
            rows: moved(&chosen, &warp, WARP),
            count: chosen.len(),
            views,
            pairs,
        })
    })
}

/// By what made samples are scored.
pub enum Judge {
    /// The modes are known.
    Ring {
        /// Where they are.
        ring: RingConfig,
        /// Moments of real points.
        real: Moments,
    },
    /// A classifier says what samples show.
    Classifier {
        /// It.
        probe: Box<Probe>,
        /// Classes that it finds in real held-out samples.
        real_classes: Vec<u32>,
        /// Moments of its features of them.
        real: Moments,
        /// Its accuracy on them.
        accuracy: f64,
        /// The Frechet distance of as many other real samples.
        null: f64,
    },
}

impl Judge {
    /// One who knows the ring.
    pub fn of_ring(ring: &RingConfig, held_out: &Samples) -> Self {
        Self::Ring {
            ring: ring.clone(),
            real: Moments::of(&rows_of(&held_out.rows(0..held_out.len()), 2)),
        }
    }

    /// One who is taught on labelled samples.
    ///
    /// # Errors
    /// Samples that the judge's network cannot take.
    pub fn taught(
        run: &GanRun,
        train: &Samples,
        held_out: &Samples,
        device: &Device,
    ) -> std::result::Result<Self, StackError> {
        let probe = Probe::taught(
            &run.evaluate.judge,
            train.shape(),
            &train.rows(0..train.len()),
            train.labels(),
            train.class_count(),
            run.seed,
            device,
        )?;
        let rows = held_out.rows(0..held_out.len());
        let real = Moments::of(&probe.features_of(&rows)?);
        let others = train.rows(0..train.len().min(held_out.len()));
        let null = Moments::of(&probe.features_of(&others)?).distance(&real);
        Ok(Self::Classifier {
            real_classes: probe.classes_of(&rows)?,
            accuracy: probe.accuracy(&rows, held_out.labels())?,
            real,
            null,
            probe: Box::new(probe),
        })
    }
}

fn rows_of(values: &[f32], length: usize) -> Vec<Vec<f64>> {
    let row = |row: &[f32]| row.iter().map(|v| f64::from(*v)).collect();
    values.chunks(length).map(row).collect()
}

/// The task; see the module head.
pub struct GanTask {
    run: GanRun,
    net: GanNet,
    average: GanNet,
    held_out: Arc<Samples>,
    judge: Judge,
    steps: u64,
    figures: Vec<(&'static str, f64)>,
    coverage: Option<Coverage>,
}

impl GanTask {
    /// New networks, and second ones that are given averaged weights to be scored; `steps` of the whole run.
    ///
    /// # Errors
    /// Samples that the configured networks cannot take.
    pub fn new(
        run: &GanRun,
        held_out: Arc<Samples>,
        judge: Judge,
        steps: u64,
        device: &Device,
    ) -> std::result::Result<Self, StackError> {
        let shape = held_out.shape();
        Ok(Self {
            run: run.clone(),
            net: GanNet::new(run, shape, device)?,
            average: GanNet::new(run, shape, device)?,
            held_out,
            judge,
            steps,
            figures: Vec::new(),
            coverage: None,
        })
    }

    /// The networks with the weights of the last validation.
    pub fn averaged(&self) -> &GanNet {
        &self.average
    }

    /// Adds the instance noise of a step to samples; `part` tells its uses in one step apart.
    fn noisy(&self, rows: &Tensor, step: u64, part: u64) -> Result<Tensor> {
        let deviation = self.noise_at(step);
        if deviation == 0.0 {
            return Ok(rows.clone());
        }
        let mut rng = rng_at(self.run.seed, NOISE, 4 * step + part);
        let drawn = (0..rows.elem_count()).map(|_| deviation as f32 * normal(&mut rng));
        rows + Tensor::from_vec(drawn.collect::<Vec<_>>(), rows.shape(), rows.device())?
    }

    fn noise_at(&self, step: u64) -> f64 {
        let s = &self.run.stabilisers;
        let until = s.instance_noise_until * self.steps as f64;
        match until > 0.0 {
            true => s.instance_noise * (1.0 - step as f64 / until).max(0.0),
            false => 0.0,
        }
    }

    /// Half the mean square of the discriminator's slope at `real`.
    fn penalty(&self, real: &Tensor, step: u64) -> Result<Tensor> {
        let net = &self.net;
        if self.run.stabilisers.r1_by == PenaltyBy::Gradient {
            return adversarial::r1(&net.discriminator.input_gradient(real, TRAIN)?);
        }
        let (_, length) = real.dims2()?;
        let h = DIRECTION_STEP / (length as f64).sqrt();
        let mut rng = rng_at(self.run.seed, DIRECTIONS, step);
        let drawn = (0..real.elem_count()).map(|_| h as f32 * normal(&mut rng));
        let along = Tensor::from_vec(drawn.collect::<Vec<_>>(), real.shape(), real.device())?;
        let ahead = net.judged(&(real + &along)?, TRAIN)?.logits;
        let behind = net.judged(&(real - &along)?, TRAIN)?.logits;
        adversarial::r1_of_directions(&ahead, &behind, h)
    }

    /// What the reader learns by: the weights of the run, or 1 where the run has it as a probe that moves nobody.
    fn reading(&self) -> (MutualConfig, bool) {
        let mutual = self.run.mutual.clone();
        let alone = mutual.categorical == 0.0 && mutual.continuous == 0.0;
        match alone {
            true => (
                MutualConfig {
                    categorical: 1.0,
                    continuous: 1.0,
                    ..mutual
                },
                true,
            ),
            false => (mutual, false),
        }
    }

    /// Whether the reader still learns from real samples alone.
    fn alone_at(&self, step: u64) -> bool {
        let invariance = &self.run.mutual.invariance;
        invariance.weight > 0.0 && (step as f64) < invariance.alone * self.steps as f64
    }

    /// The turn of who reads clusters: what is read off one of a pair of real samples is to tell what is read off the other.
    /// Categories are found on the way, until they are settled.
    fn readers_turn(
        &self,
        number: usize,
        clusters: &Clusters,
        batch: &GanBatch,
        step: u64,
    ) -> Result<StepLoss> {
        let (net, pairs) = (&self.net, batch.pairs);
        let scores = clusters.scores(&net.tensor(batch.views.clone(), 2 * pairs)?, TRAIN)?;
        let first = scores.narrow(0, 0, pairs)?.contiguous()?;
        let second = scores.narrow(0, pairs, pairs)?.contiguous()?;
        if self.alone_at(step) {
            clusters.observe(&first, &second)?;
            if !self.alone_at(step + 1) || step % REGROUP_EVERY == REGROUP_EVERY - 1 {
                clusters.regroup()?;
            }
        }
        let of_categories = shared_information(
            &clusters.categories(&first.detach())?,
            &clusters.categories(&second.detach())?,
        )?;
        let told = shared_information(&first, &second)?;
        Ok(StepLoss {
            total: (told * -self.run.mutual.invariance.weight)?,
            parts: vec![(TOLD[number], of_categories.to_scalar()?)],
        })
    }

    /// What a player is said to lose who does not move yet.
    fn waiting(&self, parts: &[(&'static str, bool)]) -> Result<StepLoss> {
        let named = parts.iter().filter(|(_, there)| *there);
        Ok(StepLoss {
            total: Tensor::zeros((), candle_core::DType::F32, self.net.device())?,
            parts: named.map(|(name, _)| (*name, 0.0)).collect(),
        })
    }

    fn discriminators_turn(&self, batch: &GanBatch, step: u64) -> Result<StepLoss> {
        let (net, s) = (&self.net, &self.run.stabilisers);
        let (mut weights, alone) = self.reading();
        if net.clusters.is_some() {
            weights.categorical = 0.0;
        }
        if self.alone_at(step) {
            let reads = weights.continuous > 0.0 && net.code.continuous > 0;
            return self.waiting(&[
                ("discriminator", true),
                ("penalty", s.r1 > 0.0),
                ("reader", reads),
            ]);
        }
        let real = net.tensor(batch.rows.clone(), batch.count)?;
        let codes = net.draw(batch.count, self.run.seed, 2 * step);
        let made = net
            .made(&net.tensor(codes.rows.clone(), batch.count)?, TRAIN)?
            .detach();
        let (real, made) = (self.noisy(&real, step, 0)?, self.noisy(&made, step, 1)?);
        let [of_real, of_made] = net.judged_both(&real, &made, s.batch_norm)?;
        let target = 1.0 - s.label_smoothing;
        let mut total = adversarial::discriminator(&of_real.logits, &of_made.logits, target)?;
        let mut parts = vec![("discriminator", total.to_scalar()?)];
        if s.r1 > 0.0 {
            let penalty = (self.penalty(&real, step)? * s.r1)?;
            parts.push(("penalty", penalty.to_scalar()?));
            total = (total + penalty)?;
        }
        let features = match alone {
            true => of_made.features.detach(),
            false => of_made.features,
        };
        if let Some(misread) = net.misread(&made, &features, &codes, &weights)? {
            parts.push(("reader", misread.to_scalar()?));
            total = (total + misread)?;
        }
        Ok(StepLoss { total, parts })
    }

    fn generators_turn(&self, batch: &GanBatch, step: u64) -> Result<StepLoss> {
        let (net, s) = (&self.net, &self.run.stabilisers);
        if self.alone_at(step) {
            let (matched, reads) = (s.feature_matching > 0.0, !self.reading().1);
            return self.waiting(&[
                ("generator", true),
                ("features", matched),
                ("misread", reads),
            ]);
        }
        let codes = net.draw(batch.count, self.run.seed, 2 * step + 1);
        let made = net.made(&net.tensor(codes.rows.clone(), batch.count)?, TRAIN)?;
        let made = self.noisy(&made, step, 2)?;
        let needs_real = s.batch_norm == BatchNorm::Joint || s.feature_matching > 0.0;
        let (of_real, of_made) = match needs_real {
            true => {
                let real = net.tensor(batch.rows.clone(), batch.count)?;
                let real = self.noisy(&real, step, 3)?;
                let [of_real, of_made] = net.judged_both(&real, &made, s.batch_norm)?;
                (Some(of_real), of_made)
            }
            false => (None, net.judged(&made, TRAIN)?),
        };
        let mut total = adversarial::generator(&of_made.logits, self.run.loss)?;
        let mut parts = vec![("generator", total.to_scalar()?)];
        if let Some(real) = of_real.filter(|_| s.feature_matching > 0.0) {
            let apart = adversarial::feature_matching(&real.features.detach(), &of_made.features)?;
            let apart = (apart * s.feature_matching)?;
            parts.push(("features", apart.to_scalar()?));
            total = (total + apart)?;
        }
        let (weights, alone) = self.reading();
        if !alone && let Some(misread) = net.misread(&made, &of_made.features, &codes, &weights)? {
            parts.push(("misread", misread.to_scalar()?));
            total = (total + misread)?;
        }
        Ok(StepLoss { total, parts })
    }

    /// Samples of the averaged generator, always of the same codes.
    fn scored(&self, count: usize) -> Result<(Vec<f32>, Codes)> {
        let net = &self.average;
        let codes = net.draw(count, self.run.seed ^ SCORING, APART);
        let mut rows = Vec::new();
        for part in codes.rows.chunks(EVALUATION_BATCH * net.code.len()) {
            let part = net.tensor(part.to_vec(), part.len() / net.code.len())?;
            rows.extend(
                net.made(&part, Pass::Eval)?
                    .flatten_all()?
                    .to_vec1::<f32>()?,
            );
        }
        Ok((rows, codes))
    }

    /// What is read of the category off each held-out sample, moved by `warp`: a logarithm a category, up to a constant.
    fn read_categories(&self, warp: &WarpConfig) -> Result<Option<Tensor>> {
        let net = &self.average;
        let categories = net.code.categories;
        if categories == 0 {
            return Ok(None);
        }
        let mut rng = rng_at(self.run.seed, VIEWS, APART);
        let mut found = Vec::new();
        for start in (0..self.held_out.len()).step_by(EVALUATION_BATCH) {
            let end = self.held_out.len().min(start + EVALUATION_BATCH);
            let row = |i| warp.apply(&self.held_out.row(i), self.held_out.shape(), &mut rng);
            let rows = net.tensor((start..end).flat_map(row).collect(), end - start)?;
            let features = net.judged(&rows, Pass::Eval)?.features;
            if let Some(read) = net.read(&rows, &features, Pass::Eval)? {
                // Detached: else what every layer made of every sample is kept until the last one is read.
                found.push(read.narrow(1, 0, categories)?.contiguous()?.detach());
            }
        }
        match found.is_empty() {
            true => Ok(None),
            false => Tensor::cat(&found, 0).map(Some),
        }
    }

    fn ring_panels(&self, ring: &RingConfig) -> Result<Vec<Panel>> {
        let (rows, _) = self.scored(self.run.evaluate.samples.min(POINTS_SHOWN))?;
        let points = |values: &[f32]| {
            let pair = |p: &[f32]| (f64::from(p[0]), f64::from(p[1]));
            values.chunks_exact(2).map(pair).collect()
        };
        let real = self.held_out.rows(0..self.held_out.len().min(POINTS_SHOWN));
        let named = |name: &str, values: &[f32]| NamedPoints {
            name: name.into(),
            points: points(values),
        };
        let mut panels = vec![Panel::Scatter {
            title: "Points".into(),
            clouds: vec![named("real", &real), named("made", &rows)],
            note: "One scale on both axes.".into(),
        }];
        if let Some(coverage) = &self.coverage {
            let share = |mode: usize| {
                let share = coverage.counts[mode] / coverage.samples.max(1) as f64;
                vec![format!("mode {mode}"), format!("{:.2}", 100.0 * share)]
            };
            panels.push(Panel::Table {
                title: "Share of the made points by mode".into(),
                columns: vec!["mode".into(), "% within three deviations".into()],
                rows: (0..ring.modes).map(share).collect(),
                note: format!(
                    "The fair share is {:.2} %.",
                    100.0 / ring.modes.max(1) as f64
                ),
            });
        }
        Ok(panels)
    }

    fn pictures(&self, folder: &Path) -> anyhow::Result<Vec<Panel>> {
        let (net, shape) = (&self.average, self.held_out.shape());
        let made = |codes: Vec<f32>| -> anyhow::Result<Vec<Vec<f32>>> {
            let count = codes.len() / net.code.len();
            Ok(net
                .made(&net.tensor(codes, count)?, Pass::Eval)?
                .to_vec2::<f32>()?)
        };
        let picture = |title: &str, file: &str, lines: Vec<Vec<Vec<f32>>>, note: &str| {
            outputs::picture(&folder.join(file), &sheet(&lines, shape))?;
            anyhow::Ok(Panel::Picture {
                title: title.into(),
                file: file.into(),
                note: note.into(),
            })
        };
        let lines = |rows: Vec<Vec<f32>>| -> Vec<Vec<Vec<f32>>> {
            rows.chunks(SHOWN).map(<[Vec<f32>]>::to_vec).collect()
        };
        let drawn = net.draw(6 * SHOWN, self.run.seed ^ SCORING, APART + 1);
        let mut panels = vec![picture(
            "Made samples",
            "samples.png",
            lines(made(drawn.rows.clone())?),
            "Codes are drawn once for all.",
        )?];
        let CodeConfig {
            categories,
            continuous,
            ..
        } = net.code;
        let length = net.code.len();
        let base = |column: usize| drawn.rows[column * length..(column + 1) * length].to_vec();
        if categories > 0 {
            let mut rows = Vec::new();
            for category in 0..categories.min(2 * SHOWN) {
                for column in 0..SHOWN {
                    let mut code = base(column);
                    for (k, value) in code[..categories].iter_mut().enumerate() {
                        *value = f32::from(k == category);
                    }
                    rows.append(&mut code);
                }
            }
            panels.push(picture(
                "One category a row",
                "categories.png",
                lines(made(rows)?),
                "Samples of one column have the rest of their code in common. A code that means something shows one class a row.",
            )?);
        }
        if continuous > 0 {
            let mut rows = Vec::new();
            for value in 0..continuous.min(4) {
                for start in 0..2 {
                    for column in 0..SHOWN {
                        let mut code = base(start);
                        let along = column as f32 / (SHOWN - 1) as f32;
                        code[categories + value] = 2.0 * along - 1.0;
                        rows.append(&mut code);
                    }
                }
            }
            panels.push(picture(
                "A continuous value from -1 to 1 along each row",
                "continuous.png",
                lines(made(rows)?),
                "Two rows a value.",
            )?);
        }
        Ok(panels)
    }
}

impl Task for GanTask {
    type Batch = GanBatch;

    fn params(&self) -> &Params {
        self.net.params()
    }

    fn loss(&self, batch: &GanBatch, step: u64) -> Result<StepLoss> {
        self.discriminators_turn(batch, step)
    }

    fn players(&self) -> Vec<Player> {
        let s = &self.run.stabilisers;
        let params = self.net.params();
        let mut players = vec![
            Player {
                params: params.of(&["discriminator.", "reader."]),
                rate: s.discriminator_rate,
            },
            Player {
                params: params.of(&["generator."]),
                rate: s.generator_rate,
            },
        ];
        let readers = self.net.clusters.as_ref().map_or(0, |r| r.each().len());
        players.extend((0..readers).map(|number| Player {
            params: params.of(&[&format!("{}.", Clusters::name(number))]),
            rate: self.run.mutual.invariance.rate,
        }));
        players
    }

    fn turn(&self, player: usize, batch: &GanBatch, step: u64) -> Result<Turn> {
        let alone = self.alone_at(step);
        let (loss, sits_out) = match (player, &self.net.clusters) {
            (0, _) => (self.discriminators_turn(batch, step)?, alone),
            (1, _) | (_, None) => (self.generators_turn(batch, step)?, alone),
            (_, Some(readers)) => {
                let number = player - FIRST_READER;
                let sits_out = !alone && number != readers.best()?;
                let loss = match sits_out {
                    true => self.waiting(&[(TOLD[number], true)])?,
                    false => self.readers_turn(number, &readers.each()[number], batch, step)?,
                };
                (loss, sits_out)
            }
        };
        Ok(Turn { loss, sits_out })
    }

    fn unit(&self) -> &'static str {
        "samples"
    }

    fn best_by(&self) -> BestBy {
        BestBy::Lowest("frechet")
    }

    fn validate(&mut self, snapshot: &Snapshot) -> anyhow::Result<Vec<(&'static str, f64)>> {
        self.average.params().restore(snapshot)?;
        let (rows, codes) = self.scored(self.run.evaluate.samples)?;
        let mut figures;
        let coverage;
        match &self.judge {
            Judge::Ring { ring, real } => {
                let points = rows_of(&rows, 2);
                coverage = ring.coverage(&points);
                figures = vec![
                    ("frechet", Moments::of(&points).distance(real)),
                    ("modes", coverage.hit() as f64),
                    ("high_quality", coverage.high_quality()),
                    ("divergence", coverage.divergence()),
                ];
            }
            Judge::Classifier {
                probe,
                real_classes,
                real,
                ..
            } => {
                let classes = self.held_out.class_count();
                let shown = probe.classes_of(&rows)?;
                coverage = Coverage::of_classes(&shown, real_classes, classes);
                let moments = Moments::of(&probe.features_of(&rows)?);
                figures = vec![
                    ("frechet", moments.distance(real)),
                    ("modes", coverage.hit() as f64),
                    ("divergence", coverage.divergence()),
                ];
                let categories = self.run.code.categories;
                if let Some(scores) = self.read_categories(&WarpConfig::none())? {
                    let read = highest(&scores.to_vec2::<f32>()?);
                    let made = Contingency::of(&codes.categories, &shown, categories, classes);
                    let labels = self.held_out.labels();
                    let found = Contingency::of(&read, labels, categories, classes);
                    figures.push(("code_error", found.assigned_error()));
                    figures.push(("made_error", made.assigned_error()));
                    figures.push(("code_nats", made.mutual_information()));
                    let warp = &self.run.mutual.invariance.warp;
                    if let Some(moved) = self.read_categories(warp)? {
                        let shared = shared_information(&scores, &moved)?;
                        figures.push(("shared_nats", shared.to_scalar::<f32>()?.into()));
                    }
                }
            }
        }
        self.coverage = Some(coverage);
        self.figures = figures;
        Ok(self.figures.clone())
    }

    fn panels(&mut self, folder: &Path) -> anyhow::Result<Vec<Panel>> {
        let mut shown: Vec<Figure> = self
            .figures
            .iter()
            .map(|(name, value)| Figure::new(name_of(name), *value))
            .collect();
        if let Judge::Classifier { accuracy, null, .. } = &self.judge {
            shown.push(Figure::new("Frechet distance of other real samples", *null));
            shown.push(Figure::new("accuracy of the judge", *accuracy));
        }
        let mut panels = vec![Panel::figures("Made samples", shown)];
        match &self.judge {
            Judge::Ring { ring, .. } => panels.extend(self.ring_panels(ring)?),
            Judge::Classifier { .. } => panels.extend(self.pictures(folder)?),
        }
        Ok(panels)
    }

    fn save_batch(&self, batch: &GanBatch, path: &Path) -> anyhow::Result<()> {
        let shape = self.held_out.shape();
        let rows = batch.rows.chunks(shape.len()).map(<[f32]>::to_vec);
        let rows: Vec<Vec<f32>> = rows.collect();
        let rows: Vec<Vec<Vec<f32>>> = rows.chunks(16).map(<[_]>::to_vec).collect();
        outputs::picture(path, &sheet(&rows, shape))
    }
}

/// What a figure is called on the page.
fn name_of(figure: &str) -> &str {
    match figure {
        "frechet" => "Frechet distance to held-out samples",
        "modes" => "modes made",
        "high_quality" => "share within three deviations of a mode",
        "divergence" => "divergence of the modes' shares, nats",
        "code_error" => "error of the category as the class of held-out samples",
        "made_error" => "the same of made samples, by the judge",
        "code_nats" => "what the category says of the class, nats",
        "shared_nats" => "what the category of a sample says of that of the same one moved, nats",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::SystemConfig;
    use crate::optim::AdamW;
    use crate::task::siamese::tests::bars;

    fn run(text: &str) -> GanRun {
        let base = "[generator]\nchannels = []\nwidths = [32, 32]\n[discriminator]\nchannels = []\nwidths = [32, 32]\n";
        GanRun::parse(&format!("{text}{base}")).unwrap()
    }

    /// A ring of one wide mode: a plain Gaussian in two dimensions.
    const ONE_MODE: &str = "[ring]\nmodes = 1\nradius = 1.0\ndeviation = 0.5\nsamples = 4000\n[code]\ncategories = 0\ncontinuous = 0\nnoise = 2\n";

    fn ring_task(run: &GanRun, steps: u64) -> GanTask {
        let ring = run.ring.clone().unwrap();
        let held_out = ring.points(2000, run.seed, 1).unwrap();
        let judge = Judge::of_ring(&ring, &held_out);
        GanTask::new(run, Arc::new(held_out), judge, steps, &Device::Cpu).unwrap()
    }

    fn trained(run: &GanRun, steps: u64) -> GanTask {
        let mut task = ring_task(run, steps);
        let train = run
            .ring
            .as_ref()
            .unwrap()
            .points(4000, run.seed, 0)
            .unwrap();
        let players = task.players();
        let mut adams = vec![AdamW::default(); players.len()];
        let all = batches(Arc::new(train), None, run, 0);
        for (step, batch) in (0..steps).zip(all) {
            let batch = batch.unwrap();
            for (k, player) in players.iter().enumerate() {
                let turn = task.turn(k, &batch, step).unwrap();
                let gradients = turn.loss.total.backward().unwrap();
                let rate = run.optim.rate_at(step, steps) * player.rate;
                adams[k]
                    .step(&player.params, &gradients, rate, &run.optim)
                    .unwrap();
            }
        }
        let weights = task.params().snapshot().unwrap();
        task.validate(&weights).unwrap();
        task
    }

    #[test]
    fn on_a_solved_toy_the_discriminator_cannot_tell() {
        let text = format!(
            "{ONE_MODE}[optim]\nlearning_rate = 2e-3\nbeta1 = 0.5\nfinal_share = 0.02\nweight_decay = 0.0\n[stabilisers]\nbatch_norm = \"none\"\nr1 = 1.0\nr1_by = \"gradient\"\n"
        );
        let run = run(&text);
        let fresh = trained(&run, 0);
        let task = trained(&run, 600);
        let frechet = |task: &GanTask| task.figures[0].1;
        // A shift by a fifth of a deviation costs 0.01 in each direction.
        let (before, after) = (frechet(&fresh), frechet(&task));
        assert!(after < 0.05 && after < 0.1 * before, "{before} {after}");
        let (made, _) = task.scored(1000).unwrap();
        for rows in [task.held_out.rows(0..1000), made] {
            let rows = task.average.tensor(rows, 1000).unwrap();
            let logits = task.average.judged(&rows, Pass::Eval).unwrap().logits;
            let real = sigmoid(&logits)
                .unwrap()
                .flatten_all()
                .unwrap()
                .to_vec1::<f32>()
                .unwrap();
            let mean = real.iter().sum::<f32>() / 1000.0;
            assert!((mean - 0.5).abs() < 0.05, "{mean}");
        }
    }

    #[test]
    fn each_player_moves_its_own_variables_and_nobody_is_in_two_minds() {
        let task = ring_task(
            &run(&format!("{ONE_MODE}[stabilisers]\nbatch_norm = \"none\"\n")),
            1,
        );
        let players = task.players();
        let names = |k: usize| players[k].params.vars.keys().cloned().collect::<Vec<_>>();
        assert!(
            names(0)
                .iter()
                .all(|name| name.starts_with("discriminator."))
        );
        assert!(names(1).iter().all(|name| name.starts_with("generator.")));
        assert_eq!(names(0).len() + names(1).len(), task.params().vars.len());
        // The discriminator's loss does not reach the generator: made samples are taken as they are.
        let batch = GanBatch {
            rows: task.held_out.rows(0..8),
            count: 8,
            views: Vec::new(),
            pairs: 0,
        };
        let gradients = task
            .turn(0, &batch, 0)
            .unwrap()
            .loss
            .total
            .backward()
            .unwrap();
        assert!(
            players[1]
                .params
                .vars
                .values()
                .all(|var| gradients.get(var).is_none())
        );
    }

    /// R1 at some points by both ways.
    #[test]
    fn the_slope_by_directions_has_the_exact_one_as_its_mean() {
        let with = |by: &str| {
            let text = format!(
                "{ONE_MODE}[stabilisers]\nbatch_norm = \"none\"\nr1 = 1.0\nr1_by = \"{by}\"\n"
            );
            ring_task(&run(&text), 1)
        };
        let task = with("directions");
        let real = task.net.tensor(task.held_out.rows(0..500), 500).unwrap();
        let exact = with("gradient")
            .penalty(&real, 0)
            .unwrap()
            .to_scalar::<f32>()
            .unwrap();
        let drawn: f32 = (0..40)
            .map(|step| {
                task.penalty(&real, step)
                    .unwrap()
                    .to_scalar::<f32>()
                    .unwrap()
                    / 40.0
            })
            .sum();
        assert!((drawn / exact - 1.0).abs() < 0.05, "{drawn} {exact}");
        // And the exact one is what differences along the axes say.
        let seen = |shift: [f32; 2]| -> Vec<f32> {
            let shift = Tensor::new(&[shift], &Device::Cpu).unwrap();
            let rows = real.broadcast_add(&shift).unwrap();
            let logits = task.net.judged(&rows, Pass::Eval).unwrap().logits;
            logits.flatten_all().unwrap().to_vec1().unwrap()
        };
        let h = 1e-3;
        let mut sum = 0.0;
        for (ahead, behind) in [([h, 0.0], [-h, 0.0]), ([0.0, h], [0.0, -h])] {
            let pairs = seen(ahead).into_iter().zip(seen(behind));
            sum += pairs
                .map(|(a, b)| ((a - b) / (2.0 * h)).powi(2))
                .sum::<f32>();
        }
        assert!(
            (sum / 500.0 / 2.0 / exact - 1.0).abs() < 0.02,
            "{sum} {exact}"
        );
    }

    #[test]
    fn the_exact_penalty_has_a_gradient_that_lowers_it() {
        let text = format!(
            "{ONE_MODE}[stabilisers]\nbatch_norm = \"none\"\nr1 = 1.0\nr1_by = \"gradient\"\n"
        );
        let task = ring_task(&run(&text), 1);
        let real = task.net.tensor(task.held_out.rows(0..200), 200).unwrap();
        let penalty = || task.penalty(&real, 0).unwrap();
        let before = penalty();
        let gradients = before.backward().unwrap();
        let (rate, mut squares) = (1e-3, 0f64);
        for var in task.players()[0].params.vars.values() {
            let Some(gradient) = gradients.get(var) else {
                continue;
            };
            squares += f64::from(
                gradient
                    .sqr()
                    .unwrap()
                    .sum_all()
                    .unwrap()
                    .to_scalar::<f32>()
                    .unwrap(),
            );
            let moved = (var.as_tensor() - (gradient * rate).unwrap()).unwrap();
            var.set(&moved.detach()).unwrap();
        }
        let number = |t: Tensor| f64::from(t.to_scalar::<f32>().unwrap());
        let fallen = number(before) - number(penalty());
        assert!(
            (fallen / (rate * squares) - 1.0).abs() < 0.1,
            "{fallen} {squares}"
        );
    }

    #[test]
    fn instance_noise_falls_to_nothing_and_is_the_same_again() {
        let text = format!(
            "{ONE_MODE}[stabilisers]\nbatch_norm = \"none\"\ninstance_noise = 0.4\ninstance_noise_until = 0.5\n"
        );
        let task = ring_task(&run(&text), 100);
        assert_eq!((task.noise_at(0), task.noise_at(25)), (0.4, 0.2));
        assert_eq!((task.noise_at(50), task.noise_at(99)), (0.0, 0.0));
        let zeros = Tensor::zeros((500, 2), candle_core::DType::F32, &Device::Cpu).unwrap();
        let drawn = |step, part| {
            let noisy = task.noisy(&zeros, step, part).unwrap();
            noisy.flatten_all().unwrap().to_vec1::<f32>().unwrap()
        };
        let variance = drawn(25, 0).iter().map(|v| v * v).sum::<f32>() / 1000.0;
        assert!((variance.sqrt() - 0.2).abs() < 0.02);
        assert_eq!(drawn(25, 0), drawn(25, 0));
        assert_ne!(drawn(25, 0), drawn(25, 1));
        assert!(drawn(60, 0).iter().all(|v| *v == 0.0));
    }

    /// Pictures, of both kinds of players that convolve.
    fn picture_task(text: &str) -> GanTask {
        let text = format!(
            "{text}[code]\ncategories = 4\ncontinuous = 1\nnoise = 4\n[generator]\nchannels = [8]\nwidths = [16]\n[discriminator]\nchannels = [8]\nwidths = [16]\n[evaluate]\nsamples = 100\n[evaluate.judge]\nepochs = 8.0\nbatch = 16\n[evaluate.judge.network]\nchannels = [8]\nwidths = [8]\n"
        );
        let run = GanRun::parse(&text).unwrap();
        let (train, test) = (bars(300, 1), bars(64, 2));
        let judge = Judge::taught(&run, &train, &test, &Device::Cpu).unwrap();
        GanTask::new(&run, Arc::new(test), judge, 10, &Device::Cpu).unwrap()
    }

    #[test]
    fn every_option_gives_both_players_a_loss_with_gradients() {
        let options = [
            "loss = \"minimax\"\n[stabilisers]\nbatch_norm = \"none\"\n",
            "[stabilisers]\nbatch_norm = \"joint\"\nlabel_smoothing = 0.1\n",
            "[stabilisers]\nbatch_norm = \"separate\"\nfeature_matching = 1.0\n",
            "[stabilisers]\nbatch_norm = \"none\"\nspectral_norm = true\ninstance_noise = 0.1\n",
            "[stabilisers]\nbatch_norm = \"none\"\nr1 = 1.0\n[mutual]\ncategorical = 1.0\ncontinuous = 0.1\n",
        ];
        for option in options {
            let task = picture_task(option);
            let batch = GanBatch {
                rows: task.held_out.rows(0..8),
                count: 8,
                views: Vec::new(),
                pairs: 0,
            };
            for (k, player) in task.players().iter().enumerate() {
                let loss = task.turn(k, &batch, 3).unwrap().loss;
                assert!(loss.parts.iter().all(|(_, v)| v.is_finite()), "{option}");
                let gradients = loss.total.backward().unwrap();
                for (name, var) in &player.params.vars {
                    // No loss reaches the vectors of the spectral norm.
                    let moves = gradients.get(var).is_some();
                    assert_eq!(moves, !name.contains("spectral"), "{option} {name}");
                }
            }
        }
    }

    /// What a part of the loss does to every variable: the norms of its gradient.
    fn reached(task: &GanTask, loss: &Tensor) -> std::collections::BTreeMap<String, f64> {
        let gradients = loss.backward().unwrap();
        let norm = |gradient: &Tensor| -> f64 {
            let squares = gradient.sqr().unwrap().sum_all().unwrap();
            squares.to_scalar::<f32>().unwrap().sqrt().into()
        };
        let vars = task.params().vars.iter();
        vars.filter_map(|(name, var)| Some((name.clone(), norm(gradients.get(var)?))))
            .collect()
    }

    const INFO: &str =
        "[stabilisers]\nbatch_norm = \"none\"\n[mutual]\ncategorical = 1.0\ncontinuous = 0.1\n";
    const INVARIANT: &str = "[stabilisers]\nbatch_norm = \"none\"\n[mutual]\ncategorical = 1.0\ncontinuous = 0.1\n[mutual.invariance]\nweight = 1.0\npairs = 64\nclusters = 16\nalone = 0.5\n[mutual.invariance.network]\nchannels = [8, 16]\nwidths = []\n[mutual.invariance.warp]\nshift_px = 1.0\nturn_degrees = 5.0\nscale = 0.0\nshear = 0.0\nbend_px = 0.0\n";

    #[test]
    fn what_is_misread_moves_the_generator_and_the_trunk_that_reader_and_discriminator_share() {
        let task = picture_task(INFO);
        let net = &task.net;
        let codes = net.draw(8, 0, 0);
        let made = net
            .made(&net.tensor(codes.rows.clone(), 8).unwrap(), TRAIN)
            .unwrap();
        let features = net.judged(&made, TRAIN).unwrap().features;
        let misread = net
            .misread(&made, &features, &codes, &task.run.mutual)
            .unwrap();
        let norms = reached(&task, &misread.unwrap());
        for name in task.params().vars.keys() {
            // The discriminator's verdict is a layer of its own.
            let read = !name.starts_with("discriminator.last");
            let norm = norms.get(name).copied();
            assert_eq!(
                norm.is_some_and(|norm| norm > 1e-9),
                read,
                "{name} {norm:?}"
            );
        }
        // Codes are drawn anew in every step and for either player.
        let of_step = |step| net.draw(8, 0, step).rows;
        assert!(of_step(0) != of_step(1) && of_step(1) != of_step(2));
    }

    fn batch_of(task: &GanTask, step: u64) -> GanBatch {
        let all = batches(task.held_out.clone(), None, &task.run, step);
        all.into_iter().next().unwrap().unwrap()
    }

    #[test]
    fn without_invariance_there_is_nothing_of_it_and_with_it_real_samples_stay_the_same_ones() {
        let (plain, invariant) = (picture_task(INFO), picture_task(INVARIANT));
        let (without, with) = (batch_of(&plain, 3), batch_of(&invariant, 3));
        assert_eq!(without.rows, with.rows);
        assert_eq!((without.pairs, without.views.len()), (0, 0));
        assert_eq!((with.pairs, with.views.len()), (64, 2 * 64 * 144));
        assert_eq!((plain.players().len(), invariant.players().len()), (2, 3));
        let turn = |task: &GanTask, player, step| {
            let batch = if task.players().len() > 2 {
                &with
            } else {
                &without
            };
            task.turn(player, batch, step).unwrap()
        };
        let named = |turn: &Turn| turn.loss.parts.iter().map(|p| p.0).collect::<Vec<_>>();
        // Once its head start is over, nothing is another for the two players but who reads categories.
        for player in [0, 1] {
            let (a, b) = (turn(&plain, player, 7), turn(&invariant, player, 7));
            assert_eq!(named(&a), named(&b));
            assert_eq!(a.loss.parts[0], b.loss.parts[0]);
            assert!(!a.sits_out && !b.sits_out);
            // During it they wait, and the log has its columns.
            let waiting = turn(&invariant, player, 4);
            assert!(waiting.sits_out && !turn(&plain, player, 4).sits_out);
            assert_eq!(named(&waiting), named(&b));
        }
        // The third moves always, and nobody but itself.
        for step in [4, 7] {
            let own = turn(&invariant, 2, step);
            assert!(!own.sits_out);
            let norms = reached(&invariant, &own.loss.total);
            assert!(!norms.is_empty() && norms.keys().all(|name| name.starts_with("clusters.")));
        }
        // What it reads of made samples moves who makes them.
        let norms = reached(&invariant, &turn(&invariant, 1, 7).loss.total);
        let moved = |start: &str| norms.iter().any(|(k, v)| k.starts_with(start) && *v > 0.0);
        assert!(moved("generator.") && moved("clusters."));
        assert!(
            !invariant.players()[1]
                .params
                .vars
                .keys()
                .any(|k| k.starts_with("clusters."))
        );
    }

    #[test]
    fn categories_are_settled_when_the_head_start_is_over_and_are_the_same_again_from_a_checkpoint()
    {
        let task = picture_task(INVARIANT);
        let clusters = task.net.clusters().unwrap().unwrap();
        let grouping = || clusters.membership().unwrap().to_vec2::<f32>().unwrap();
        let first = grouping();
        for step in 0..5 {
            task.turn(2, &batch_of(&task, step), step).unwrap();
        }
        let settled = grouping();
        assert_ne!(first, settled);
        assert!((0..4).all(|k| settled.iter().any(|row| row[k] == 1.0)));
        for step in 5..10 {
            task.turn(2, &batch_of(&task, step), step).unwrap();
        }
        assert_eq!(grouping(), settled);
        let again = picture_task(INVARIANT);
        again
            .params()
            .restore(&task.params().snapshot().unwrap())
            .unwrap();
        let clusters = again.net.clusters().unwrap().unwrap();
        assert_eq!(
            clusters.membership().unwrap().to_vec2::<f32>().unwrap(),
            settled
        );
    }

    #[test]
    fn of_several_readers_all_learn_at_first_and_then_the_chosen_one_alone() {
        let task = picture_task(&INVARIANT.replace("clusters = 16", "clusters = 16\nreaders = 3"));
        assert_eq!(task.players().len(), 5);
        let readers = task.net.clusters.as_ref().unwrap();
        let turns = |step: u64| -> Vec<Turn> {
            let batch = batch_of(&task, step);
            let turn = |player| task.turn(player, &batch, step).unwrap();
            (2..5).map(turn).collect()
        };
        for step in 0..5 {
            for (number, turn) in turns(step).iter().enumerate() {
                assert!(!turn.sits_out);
                let own = format!("{}.", Clusters::name(number));
                let norms = reached(&task, &turn.loss.total);
                assert!(!norms.is_empty() && norms.keys().all(|name| name.starts_with(&own)));
            }
        }
        let best = readers.best().unwrap();
        let told: Vec<f64> = readers.each().iter().map(|r| r.told().unwrap()).collect();
        assert!(told.iter().all(|nats| *nats <= told[best]) && told[best] > 0.0);
        for step in 5..8 {
            for (number, turn) in turns(step).iter().enumerate() {
                assert_eq!(turn.sits_out, number != best);
                assert_eq!(turn.loss.parts[0].0, TOLD[number]);
            }
            assert_eq!(readers.best().unwrap(), best);
        }
        // What is read of made samples is the chosen one's.
        let batch = batch_of(&task, 7);
        let norms = reached(&task, &task.turn(1, &batch, 7).unwrap().loss.total);
        let moved = |number: usize| {
            let own = format!("{}.", Clusters::name(number));
            norms.iter().any(|(k, v)| k.starts_with(&own) && *v > 0.0)
        };
        assert!((0..3).all(|number| moved(number) == (number == best)));
    }

    /// Bars at eight angles, of which nobody says which is which.
    #[test]
    fn a_reader_that_is_held_to_say_the_same_of_moved_samples_finds_classes_without_labels() {
        let mut task = picture_task(&INVARIANT.replace("alone = 0.5", "alone = 1.0"));
        let players = task.players();
        let mut adam = AdamW::default();
        let figures = |task: &mut GanTask| {
            let weights = task.params().snapshot().unwrap();
            let figures = task.validate(&weights).unwrap();
            move |name: &str| figures.iter().find(|(n, _)| *n == name).unwrap().1
        };
        let before = figures(&mut task);
        for step in 0..150 {
            let batch = batch_of(&task, step);
            let turn = task.turn(2, &batch, step % 10).unwrap();
            let gradients = turn.loss.total.backward().unwrap();
            adam.step(&players[2].params, &gradients, 2e-3, &task.run.optim)
                .unwrap();
        }
        let after = figures(&mut task);
        let shared = (before("shared_nats"), after("shared_nats"));
        // Four categories tell at most log 4 = 1.39 nats.
        assert!(shared.0 < 0.1 && shared.1 > 1.0, "{shared:?}");
    }

    #[test]
    fn a_plain_gans_reader_is_a_probe_that_moves_nobody_else() {
        let task = picture_task("[stabilisers]\nbatch_norm = \"none\"\n");
        let batch = GanBatch {
            rows: task.held_out.rows(0..8),
            count: 8,
            views: Vec::new(),
            pairs: 0,
        };
        let codes = task.net.draw(8, 0, 0);
        let rows = task.net.tensor(batch.rows.clone(), 8).unwrap();
        let features = task.net.judged(&rows, TRAIN).unwrap().features.detach();
        let (weights, alone) = task.reading();
        assert!(alone);
        let misread = task
            .net
            .misread(&rows, &features, &codes, &weights)
            .unwrap()
            .unwrap();
        let gradients = misread.backward().unwrap();
        let moved =
            |(name, var): (&String, &candle_core::Var)| gradients.get(var).map(|_| name.clone());
        let moved: Vec<String> = task.params().vars.iter().filter_map(moved).collect();
        assert!(!moved.is_empty() && moved.iter().all(|name| name.starts_with("reader.")));
        let parts = task.turn(1, &batch, 0).unwrap().loss.parts;
        assert!(parts.iter().all(|(name, _)| *name != "misread"));
    }
}
