//! The Siamese network's task: balanced batches in, the loss of their embeddings out.
//!
//! Siamese means tied weights: every sample of a batch goes through the same network in one pass, and pairs are made of
//! what comes out. Figures are those of classes that training never shows, on samples that it never shows.

use std::path::Path;
use std::sync::Arc;

use candle_core::{Device, Result, Tensor};

use super::{BestBy, StepLoss, Task};
use crate::labelled::sheet::sheet;
use crate::labelled::{Samples, Shape};
use crate::loss::embedding::EmbeddingLoss;
use crate::model::Pass;
use crate::model::net::unit_norm;
use crate::model::stack::{Stack, StackError};
use crate::ops::Precision;
use crate::outputs;
use crate::params::{ParamBuilder, Params, Snapshot};
use crate::report::map::map_of_points;
use crate::report::panels::{Figure, NamedPoints, Panel};
use crate::siamese::SiameseRun;
use crate::siamese::sampler::SiameseBatch;
use crate::siamese::scores::{Retrieval, Verification, pair_distances};

/// Samples that pass through the network at once when it is scored.
const EVALUATION_BATCH: usize = 256;
/// Ranks of recall.
const RANKS: [usize; 4] = [1, 2, 4, 8];
/// Pairs on the picture of mistakes, of each kind.
const MISTAKES: usize = 10;
const BINS: usize = 50;

/// A network from samples to points.
pub struct SiameseNet {
    params: Params,
    stack: Stack,
    unit_norm: bool,
    device: Device,
}

impl SiameseNet {
    /// Born of the run's seed.
    ///
    /// # Errors
    /// Samples that the configured network cannot take.
    pub fn new(
        run: &SiameseRun,
        shape: Shape,
        device: &Device,
    ) -> std::result::Result<Self, StackError> {
        let mut builder = ParamBuilder::new(run.seed, device);
        let length = run.embedding.length;
        let stack = Stack::encoder(&mut builder, "embedding", shape, &run.network, length, true)?;
        Ok(Self {
            params: builder.finish(),
            stack,
            unit_norm: run.embedding.unit_norm,
            device: device.clone(),
        })
    }

    /// Its variables.
    pub fn params(&self) -> &Params {
        &self.params
    }

    /// Its layers.
    pub fn stack(&self) -> &Stack {
        &self.stack
    }

    /// Whether points are brought to unit norm.
    pub fn has_unit_norm(&self) -> bool {
        self.unit_norm
    }

    /// # Shapes
    /// `rows` `[N, length of a sample]`; returns `[N, E]`
    ///
    /// # Errors
    /// Rows of another length.
    pub fn forward(&self, rows: &Tensor, pass: Pass) -> Result<Tensor> {
        let points = self.stack.forward(rows, pass)?;
        match self.unit_norm {
            true => unit_norm(&points),
            false => Ok(points),
        }
    }

    /// Points of samples, as the exported graph gives them.
    ///
    /// # Errors
    /// If an operator fails.
    pub fn embed(&self, samples: &Samples) -> Result<Vec<Vec<f32>>> {
        let mut points = Vec::with_capacity(samples.len());
        for start in (0..samples.len()).step_by(EVALUATION_BATCH) {
            let end = samples.len().min(start + EVALUATION_BATCH);
            let rows = samples.rows(start..end);
            let shape = (end - start, samples.shape().len());
            let rows = Tensor::from_vec(rows, shape, &self.device)?;
            points.extend(self.forward(&rows, Pass::Eval)?.to_vec2::<f32>()?);
        }
        Ok(points)
    }
}

/// Samples that the network is scored on.
pub struct HeldOut {
    /// Of classes that training never shows.
    pub unseen: Samples,
    /// Of classes that it does; not the samples that it shows.
    pub seen: Samples,
}

impl HeldOut {
    /// At most `per_class` of each class, the first ones; none of the classes that are set aside.
    ///
    /// # Errors
    /// Held-out classes that cannot be scored, or that leave nothing to learn from; the reason for a line.
    pub fn new(
        test: &Samples,
        held_out: &[u32],
        set_aside: &[u32],
        per_class: usize,
    ) -> std::result::Result<Self, String> {
        let classes = test.by_class();
        let first = |unseen: bool| -> Vec<usize> {
            let of = classes.iter().enumerate();
            of.filter(|(class, _)| held_out.contains(&(*class as u32)) == unseen)
                .filter(|(class, _)| !set_aside.contains(&(*class as u32)))
                .flat_map(|(_, members)| members.iter().copied().take(per_class))
                .collect()
        };
        for class in held_out {
            let count = classes.get(*class as usize).map_or(0, Vec::len);
            if count < 2 {
                return Err(format!(
                    "held_out has class {class}, of which there are {count} samples to score on"
                ));
            }
        }
        if held_out.len() < 2 {
            return Err("held_out has one class, expected two or more: pairs of one class have no strangers".into());
        }
        let seen = first(false);
        if seen.is_empty() {
            return Err("held_out has every class: nothing is left to learn from".into());
        }
        Ok(Self {
            unseen: test.chosen(&first(true)),
            seen: test.chosen(&seen),
        })
    }
}

/// What the last validation saw.
struct Scored {
    points: Vec<Vec<f32>>,
    unseen: Verification,
    seen: Option<Verification>,
    retrieval: Retrieval,
}

/// The task; see the module head.
pub struct SiameseTask {
    net: SiameseNet,
    average: SiameseNet,
    loss: EmbeddingLoss,
    held_out: Arc<HeldOut>,
    device: Device,
    frozen: bool,
    scored: Option<Scored>,
}

impl SiameseTask {
    /// A new network, and a second one that is given averaged weights to be scored.
    ///
    /// # Errors
    /// Samples that the configured network cannot take.
    pub fn new(
        run: &SiameseRun,
        held_out: Arc<HeldOut>,
        device: &Device,
    ) -> std::result::Result<Self, StackError> {
        let shape = held_out.unseen.shape();
        Ok(Self {
            net: SiameseNet::new(run, shape, device)?,
            average: SiameseNet::new(run, shape, device)?,
            loss: run.loss.clone(),
            held_out,
            device: device.clone(),
            frozen: false,
            scored: None,
        })
    }

    /// The network with the weights of the last validation.
    pub fn averaged(&self) -> &SiameseNet {
        &self.average
    }

    /// Distance below which two samples pass for the same, as of the last validation.
    pub fn threshold(&self) -> Option<f64> {
        self.scored.as_ref().map(|s| s.unseen.threshold)
    }

    fn mistakes(&self, scored: &Scored) -> Vec<Vec<Vec<f32>>> {
        let samples = &self.held_out.unseen;
        let labels = samples.labels();
        let measure = self.loss.measure();
        let (mut closest, mut furthest) = (Vec::new(), Vec::new());
        for a in 0..samples.len() {
            for b in a + 1..samples.len() {
                let distance = measure.between(&scored.points[a], &scored.points[b]);
                match labels[a] == labels[b] {
                    true => keep(&mut furthest, (-distance, a, b)),
                    false => keep(&mut closest, (distance, a, b)),
                }
            }
        }
        let row = |pairs: &[(f32, usize, usize)], which: fn(&(f32, usize, usize)) -> usize| {
            pairs.iter().map(|pair| samples.row(which(pair))).collect()
        };
        vec![
            row(&closest, |p| p.1),
            row(&closest, |p| p.2),
            row(&furthest, |p| p.1),
            row(&furthest, |p| p.2),
        ]
    }
}

/// Keeps the smallest, without one sample filling the list.
fn keep(best: &mut Vec<(f32, usize, usize)>, pair: (f32, usize, usize)) {
    let full = best.len() >= MISTAKES;
    if full && best.last().is_some_and(|last| pair.0 >= last.0) {
        return;
    }
    if let Some(same) = best.iter().position(|p| p.1 == pair.1 || p.2 == pair.2) {
        if best[same].0 <= pair.0 {
            return;
        }
        best.remove(same);
    }
    best.push(pair);
    best.sort_by(|a, b| a.0.total_cmp(&b.0));
    best.truncate(MISTAKES);
}

/// Share of the distances in each of equal steps up to `most`.
fn histogram(name: &str, distances: &[f32], most: f32) -> NamedPoints {
    let mut counts = vec![0.0; BINS];
    for distance in distances {
        let bin = (distance / most.max(f32::MIN_POSITIVE) * BINS as f32) as usize;
        counts[bin.min(BINS - 1)] += 100.0 / distances.len().max(1) as f64;
    }
    let middle = |bin: usize| (bin as f64 + 0.5) * f64::from(most) / BINS as f64;
    NamedPoints {
        name: name.into(),
        points: counts
            .into_iter()
            .enumerate()
            .map(|(bin, share)| (middle(bin), share))
            .collect(),
    }
}

impl Task for SiameseTask {
    type Batch = SiameseBatch;

    fn params(&self) -> &Params {
        self.net.params()
    }

    fn freeze_norm(&mut self, frozen: bool) {
        self.frozen = frozen;
    }

    fn loss(&self, batch: &SiameseBatch, _step: u64) -> Result<StepLoss> {
        let pass = Pass::training(Precision::F32, false, self.frozen);
        let n = batch.labels.len();
        let shape = (n, batch.rows.len() / n.max(1));
        let rows = Tensor::from_slice(&batch.rows, shape, &self.device)?;
        let points = self.net.forward(&rows, pass)?;
        let total = self.loss.of_batch(&points, &batch.labels)?;
        let value = total.to_scalar()?;
        Ok(StepLoss {
            total,
            parts: vec![(self.loss.name(), value)],
        })
    }

    fn unit(&self) -> &'static str {
        "samples"
    }

    fn best_by(&self) -> BestBy {
        BestBy::Lowest("eer")
    }

    fn validate(&mut self, snapshot: &Snapshot) -> anyhow::Result<Vec<(&'static str, f64)>> {
        self.average.params().restore(snapshot)?;
        let measure = self.loss.measure();
        let points = self.average.embed(&self.held_out.unseen)?;
        let labels = self.held_out.unseen.labels();
        let unseen = Verification::of_points(&points, labels, measure)
            .ok_or_else(|| anyhow::anyhow!("distances on held-out classes are not numbers"))?;
        let of_seen = self.average.embed(&self.held_out.seen)?;
        let seen = Verification::of_points(&of_seen, self.held_out.seen.labels(), measure);
        let retrieval = Retrieval::of(&points, labels, measure, &RANKS);
        let figures = vec![
            ("eer", unseen.eer),
            ("auc", unseen.auc),
            ("accepted_at_1_percent", unseen.accepted_at_one_percent),
            ("recall_at_1", retrieval.recall_at[0].1),
            ("map_at_r", retrieval.map_at_r),
            (
                "eer_of_seen_classes",
                seen.as_ref().map_or(f64::NAN, |s| s.eer),
            ),
        ];
        self.scored = Some(Scored {
            points,
            unseen,
            seen,
            retrieval,
        });
        Ok(figures)
    }

    fn panels(&mut self, folder: &Path) -> anyhow::Result<Vec<Panel>> {
        let Some(scored) = &self.scored else {
            return Ok(Vec::new());
        };
        let samples = &self.held_out.unseen;
        let percent = |name: &str, share: f64| Figure::new(name, 100.0 * share);
        let mut figures = vec![
            percent("equal error rate, %", scored.unseen.eer),
            percent(
                "accepted at 1 % false accepts, %",
                scored.unseen.accepted_at_one_percent,
            ),
            Figure::new("area under the ROC", scored.unseen.auc),
            percent("MAP@R, %", scored.retrieval.map_at_r),
        ];
        figures.extend(
            scored
                .retrieval
                .recall_at
                .iter()
                .map(|(k, share)| percent(&format!("recall@{k}, %"), *share)),
        );
        let curve = |name: &str, v: &Verification| NamedPoints {
            name: name.into(),
            points: v.curve.clone(),
        };
        let mut curves = vec![curve("classes never shown", &scored.unseen)];
        curves.extend(
            scored
                .seen
                .iter()
                .map(|seen| curve("classes shown, other samples", seen)),
        );
        let measure = self.loss.measure();
        let (similar, dissimilar) = pair_distances(&scored.points, samples.labels(), measure);
        let most = dissimilar
            .iter()
            .chain(&similar)
            .copied()
            .fold(0.0, f32::max);
        let mut panels = vec![
            Panel::figures("Classes that training never showed", figures),
            Panel::Lines {
                title: "ROC".into(),
                x_label: "share of dissimilar pairs accepted".into(),
                lines: curves,
                note: "Share of similar pairs accepted; up and left is good.".into(),
            },
            Panel::Lines {
                title: "Distances of pairs of classes never shown".into(),
                x_label: "distance".into(),
                lines: vec![
                    histogram("similar", &similar, most),
                    histogram("dissimilar", &dissimilar, most),
                ],
                note: format!(
                    "Percent of the pairs a step; equal errors at {:.3}.",
                    scored.unseen.threshold
                ),
            },
            map_of_points("Map of the classes never shown", &scored.points, samples),
        ];
        if samples.shape().is_picture() {
            let file = "mistakes.png";
            outputs::picture(
                &folder.join(file),
                &sheet(&self.mistakes(scored), samples.shape()),
            )?;
            panels.push(Panel::Picture {
                title: "Hardest pairs".into(),
                file: file.into(),
                note: "Columns are pairs. Upper two rows: different classes that lie closest. Lower two: the same class, furthest apart.".into(),
            });
        }
        Ok(panels)
    }

    fn save_batch(&self, batch: &SiameseBatch, path: &Path) -> anyhow::Result<()> {
        let shape = self.held_out.unseen.shape();
        let rows: Vec<Vec<f32>> = batch
            .rows
            .chunks(shape.len())
            .map(<[f32]>::to_vec)
            .collect();
        let rows: Vec<Vec<Vec<f32>>> = rows.chunks(16).map(<[Vec<f32>]>::to_vec).collect();
        outputs::picture(path, &sheet(&rows, shape))
    }
}

/// Samples of the training set by class, without those of the held-out classes.
pub fn shown_classes(train: &Samples, held_out: &[u32]) -> Vec<Vec<usize>> {
    let mut classes = train.by_class();
    for class in held_out {
        if let Some(members) = classes.get_mut(*class as usize) {
            members.clear();
        }
    }
    classes
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::SystemConfig;
    use crate::labelled::Values;
    use crate::siamese::sampler::{Batches, Changes};
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    /// Eight classes of pictures: a bar at one of eight angles, somewhere near the middle, in noise.
    pub(crate) fn bars(count: usize, seed: u64) -> Samples {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let shape = Shape {
            height: 12,
            width: 12,
            channels: 1,
        };
        let labels: Vec<u32> = (0..count as u32).map(|i| i % 8).collect();
        let mut bytes = Vec::new();
        for label in &labels {
            let angle = *label as f32 * std::f32::consts::PI / 8.0;
            let (cx, cy) = (
                5.5 + rng.random_range(-1.0..1.0f32),
                5.5 + rng.random_range(-1.0..1.0f32),
            );
            for at in 0..144 {
                let (x, y) = ((at % 12) as f32 - cx, (at / 12) as f32 - cy);
                let off = (x * angle.sin() - y * angle.cos()).abs();
                let light = (255.0 * (1.2 - off).clamp(0.0, 1.0)) as u8;
                bytes.push(light.saturating_add(rng.random_range(0..40)));
            }
        }
        Samples::new(shape, Values::Bytes(bytes), labels, vec![]).unwrap()
    }

    fn small_run(loss: EmbeddingLoss) -> SiameseRun {
        let mut run = SiameseRun::parse(
            "held_out = [2, 6]\nsamples_per_class = 4\n[network]\nchannels = [8, 16]\nwidths = []\n[embedding]\nlength = 16\n[train]\nbatch = 24\n",
        )
        .unwrap();
        run.loss = loss;
        run
    }

    #[test]
    fn every_loss_teaches_to_tell_classes_apart_that_were_never_shown() {
        for loss in EmbeddingLoss::all() {
            let run = small_run(loss);
            let held_out = HeldOut::new(&bars(240, 2), &run.held_out, &[], 30).unwrap();
            let mut task = SiameseTask::new(&run, Arc::new(held_out), &Device::Cpu).unwrap();
            let before = task.params().snapshot().unwrap();
            let before = task.validate(&before).unwrap();
            let train = Arc::new(bars(400, 1));
            let classes = shown_classes(&train, &run.held_out);
            let batches = Batches::new(
                train,
                classes,
                (24, 4),
                Changes {
                    warp: crate::labelled::warp::WarpConfig::none(),
                    turns: Vec::new(),
                    signs: Default::default(),
                },
                0,
                0,
            );
            let mut adam = crate::optim::AdamW::default();
            for (step, batch) in batches.take(60).enumerate() {
                let loss = task.loss(&batch.unwrap(), step as u64).unwrap();
                let gradients = loss.total.backward().unwrap();
                adam.step(task.net.params(), &gradients, 3e-3, &run.optim)
                    .unwrap();
            }
            let after = task.params().snapshot().unwrap();
            let after = task.validate(&after).unwrap();
            let name = run.loss.name();
            assert!(
                after[0].1 < before[0].1 && after[0].1 < 0.1,
                "{name}: {before:?} {after:?}"
            );
        }
    }

    #[test]
    fn the_two_halves_of_a_pair_are_treated_alike_to_the_bit() {
        let run = small_run(EmbeddingLoss::all()[0].clone());
        let samples = bars(8, 5);
        let net = SiameseNet::new(&run, samples.shape(), &Device::Cpu).unwrap();
        let forwards = net.embed(&samples).unwrap();
        let backwards = net
            .embed(&samples.chosen(&[7, 6, 5, 4, 3, 2, 1, 0]))
            .unwrap();
        let turned: Vec<_> = backwards.into_iter().rev().collect();
        assert_eq!(forwards, turned);
    }

    #[test]
    fn classes_that_cannot_be_scored_are_refused() {
        let test = bars(32, 1);
        for (held_out, part) in [
            (&[2u32, 11][..], "class 11, of which there are 0 samples"),
            (&[1], "one class"),
            (&[0, 1, 2, 3, 4, 5, 6, 7], "nothing is left"),
        ] {
            let said = HeldOut::new(&test, held_out, &[], 10).err().unwrap();
            assert!(said.contains(part), "{said}");
        }
        let shown = shown_classes(&test, &[2, 6]);
        assert!(shown[2].is_empty() && shown[6].is_empty() && shown[1].len() == 4);
    }
}
