//! The task of a generative adversarial network: two players, each with a loss of its own, who move one after the other.
//!
//! In: batches of real samples. Out: the discriminator's loss and then the generator's. Figures are those of the averaged
//! weights: what the generator makes of codes that are drawn once for all.

use std::path::Path;
use std::sync::Arc;

use candle_core::{Device, Result, Tensor};

use super::{BestBy, Player, StepLoss, Task, Turn};
use crate::contingency::Contingency;
use crate::epochs::rng_at;
use crate::gan::clusters::Clusters;
use crate::gan::coverage::Coverage;
use crate::gan::{BatchNorm, GanRun, MOST_READERS, MutualConfig, PenaltyBy};
use crate::gap::frechet::Moments;
use crate::labelled::Samples;
use crate::labelled::sheet::sheet;
use crate::labelled::warp::WarpConfig;
use crate::loss::adversarial;
use crate::loss::classes::shared_information;
use crate::model::Pass;
use crate::model::layers::BN_MOMENTUM;
use crate::model::stack::StackError;
use crate::ops::Precision;
use crate::outputs;
use crate::params::{Params, Snapshot, normal};
use crate::probe::highest;
use crate::report::panels::{Figure, Panel};

mod batches;
mod judge;
mod net;
mod shown;
#[cfg(test)]
mod tests;

pub use batches::{GanBatch, batches};
pub use judge::Judge;
pub use net::{Codes, GanNet, Seen};

use judge::rows_of;
use shown::name_of;

const EVALUATION_BATCH: usize = 500;

// What is drawn for: each has a stream of its own.
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
            return adversarial::r1(&net.discriminator().input_gradient(real, TRAIN)?);
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
            let reads = weights.continuous > 0.0 && net.code().continuous > 0;
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
        for part in codes.rows.chunks(EVALUATION_BATCH * net.code().len()) {
            let part = net.tensor(part.to_vec(), part.len() / net.code().len())?;
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
        let categories = net.code().categories;
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
        Ok(Turn::unless(sits_out, loss))
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
