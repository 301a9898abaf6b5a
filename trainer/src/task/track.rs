//! The tracker's task: pairs of crops in, the sum of score, box, presence and identity losses out.

use anyhow::Context;
use candle_core::{Device, Result, Tensor};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use roadhound_shared::geometry::{BoxLtrb, BoxXywh};
use serde::{Deserialize, Serialize};

use super::{StepLoss, Task};
use crate::batch::Batch;
use crate::calibrate::Reliability;
use crate::loss::boxes::{box_losses, cell_centres_px};
use crate::loss::embedding::info_nce::info_nce;
use crate::loss::presence::presence_bce;
use crate::loss::score::penalty_reduced_focal;
use crate::loss::targets::CellTargets;
use crate::model::net::SearchMaps;
use crate::model::{Pass, TrackerNet};
use crate::ops::{Precision, images_from_bytes};
use crate::params::{Params, Snapshot};

/// Weights of the losses.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LossConfig {
    /// Score map.
    pub score: f64,
    /// `1 - GIoU`.
    pub giou: f64,
    /// Size-relative L1.
    pub l1: f64,
    /// Presence.
    pub presence: f64,
    /// Identity.
    pub identity: f64,
    /// Temperature of the identity loss.
    pub identity_temperature: f64,
    /// How far presence labels are moved from 0 and 1 towards one half.
    pub presence_smoothing: f64,
    /// Share of the label that the score's peaks give away.
    pub score_smoothing: f64,
    /// Cells away from the object, per image, that serve as backgrounds to the identity loss.
    pub identity_backgrounds: usize,
}

impl Default for LossConfig {
    fn default() -> Self {
        Self {
            score: 1.0,
            giou: 2.0,
            l1: 2.0,
            presence: 0.5,
            identity: 0.15,
            identity_temperature: 0.1,
            presence_smoothing: 0.02,
            score_smoothing: 0.01,
            identity_backgrounds: 4,
        }
    }
}

/// How the network's pixels are normalised: `(rgb - 114) / 58`, as `roadhound_shared` does on the board.
pub const PIXEL_MEAN: f32 = 114.0;
/// See [`PIXEL_MEAN`].
pub const PIXEL_SCALE: f32 = 1.0 / 58.0;

/// What a network makes of a batch of pairs.
pub struct Look {
    /// `[N, t, t, C]`: features of the first templates.
    pub template: Tensor,
    /// `[N, s, s, C]`: features of the search crops.
    pub search: Tensor,
    /// `[N, embedding]`: identities of the first templates.
    pub anchors: Tensor,
    /// What the heads say.
    pub maps: SearchMaps,
}

impl Look {
    /// The pairs of these numbers.
    ///
    /// # Errors
    /// A number that there is no pair of.
    pub fn chosen(&self, pairs: &[u32]) -> Result<Self> {
        let rows = Tensor::new(pairs, self.search.device())?;
        let of = |t: &Tensor| t.contiguous()?.index_select(&rows, 0);
        Ok(Self {
            template: of(&self.template)?,
            search: of(&self.search)?,
            anchors: of(&self.anchors)?,
            maps: SearchMaps {
                score_logits: of(&self.maps.score_logits)?,
                box_ltrb_px: of(&self.maps.box_ltrb_px)?,
                presence_logits: of(&self.maps.presence_logits)?,
                embedding: of(&self.maps.embedding)?,
            },
        })
    }
}

/// Of the templates of a batch.
struct Templates {
    first: Tensor,
    mixed: Tensor,
    anchors: Tensor,
}

/// The task; see the module head.
pub struct TrackTask {
    net: TrackerNet,
    average: TrackerNet,
    loss: LossConfig,
    precision: Precision,
    seed: u64,
    device: Device,
    validation: Vec<Batch>,
    norm_frozen: bool,
    quantised: bool,
    /// Of presence, at the last validation.
    reliability: Option<Reliability>,
}

impl TrackTask {
    /// Joins `net` (being trained), `average` (same shape, receives snapshots) and fixed validation batches.
    pub fn new(
        net: TrackerNet,
        average: TrackerNet,
        loss: LossConfig,
        precision: Precision,
        seed: u64,
        device: &Device,
        validation: Vec<Batch>,
    ) -> Self {
        Self {
            net,
            average,
            loss,
            precision,
            seed,
            device: device.clone(),
            validation,
            norm_frozen: false,
            quantised: false,
            reliability: None,
        }
    }

    /// The network being trained.
    pub fn net(&self) -> &TrackerNet {
        &self.net
    }

    /// Gives the network being trained back.
    pub fn into_net(self) -> TrackerNet {
        self.net
    }

    /// Normalised `[N, px, px, 3]` from interleaved bytes.
    fn images(&self, rgb: &[u8], px: usize) -> Result<Tensor> {
        let n = rgb.len() / (px * px * 3);
        images_from_bytes(rgb, (n, px, px, 3), PIXEL_MEAN, PIXEL_SCALE, &self.device)
    }

    /// Template features, the latest template mixed in where the pair has one of its own.
    fn template(&self, net: &TrackerNet, batch: &Batch, pass: Pass) -> Result<Templates> {
        let px = net.config().template_px;
        let len = px * px * 3;
        let n = batch.present.len();
        let mut crops = batch.template_rgb.clone();
        let mut latest_at: Vec<u32> = (0..n as u32).collect();
        let mut count = n as u32;
        for (i, at) in latest_at.iter_mut().enumerate() {
            if batch.has_distinct_latest[i] {
                crops.extend_from_slice(&batch.template_latest_rgb[i * len..(i + 1) * len]);
                *at = count;
                count += 1;
            }
        }
        let features = net.features(&self.images(&crops, px)?, pass)?;
        let first = features.narrow(0, 0, n)?.contiguous()?;
        let latest = features.index_select(&Tensor::new(latest_at, &self.device)?, 0)?;
        Ok(Templates {
            anchors: net.embed_template(&first, pass)?,
            mixed: net.mix_templates(&first, &latest)?,
            first,
        })
    }

    /// Presence logits of the network being trained, in evaluation mode, and whether the target was there.
    pub fn presence(&self, batches: &[Batch]) -> Result<(Vec<f64>, Vec<bool>)> {
        let (mut logits, mut present) = (Vec::new(), Vec::new());
        for batch in batches {
            let maps = self.look(batch, Pass::Eval)?.maps;
            let said = maps.presence_logits.to_vec1::<f32>()?;
            logits.extend(said.into_iter().map(f64::from));
            present.extend(batch.present.iter().map(|p| *p > 0.5));
        }
        Ok((logits, present))
    }

    /// Measures the statistics of every normalisation over `batches`, layer by layer, without changing what evaluation
    /// mode computes: see [`Pass::Rebase`]. For a network that took over a folded one.
    pub fn settle(&self, batches: &[Batch]) -> Result<()> {
        self.walk(&self.net, batches, |weight| Pass::Rebase { weight })
    }

    /// Moves the statistics of every normalisation of `net` by `share` of the way to those of `batches`, each layer seeing
    /// what the re-estimated ones before it give: what evaluation mode computes becomes another function (AdaBN, Li et al.
    /// 2017). Scale and shift stay: what had the old moments before is taken to have the new ones now.
    ///
    /// # Errors
    /// If an operator fails.
    pub fn re_estimate(&self, net: &TrackerNet, batches: &[Batch], share: f32) -> Result<()> {
        let before = net.params().snapshot()?;
        let precision = self.precision;
        self.walk(net, batches, |momentum| Pass::Train {
            momentum,
            precision,
        })?;
        let mut after = net.params().snapshot()?;
        after.blend_towards(&before, share);
        net.params().restore(&after)
    }

    /// Passes batches through all of `net`; `pass` is given the weight of a call in the mean over all so far.
    fn walk(&self, net: &TrackerNet, batches: &[Batch], pass: impl Fn(f32) -> Pass) -> Result<()> {
        let mean_of = |calls: usize| pass(1.0 / calls as f32);
        for (before, batch) in batches.iter().enumerate() {
            // Templates and search crops pass through the same backbone and the same identity, and count alike in their
            // statistics; what compares them is passed once a batch.
            let (first, second) = (mean_of(2 * before + 1), mean_of(2 * before + 2));
            let template = self.template(net, batch, first)?;
            let crops = self.images(&batch.search_rgb, net.config().search_px)?;
            let search = net.features(&crops, second)?;
            net.heads_and_identity(&template.mixed, &search, mean_of(before + 1), second)?;
        }
        Ok(())
    }

    /// The pass of a training step, as the loop asked for it.
    pub fn pass(&self) -> Pass {
        Pass::training(self.precision, self.quantised, self.norm_frozen)
    }

    /// What the network being trained makes of a batch.
    ///
    /// # Errors
    /// If an operator fails.
    pub fn look(&self, batch: &Batch, pass: Pass) -> Result<Look> {
        self.look_with(&self.net, batch, pass)
    }

    /// What any network of this geometry makes of a batch.
    ///
    /// # Errors
    /// If an operator fails.
    pub fn look_with(&self, net: &TrackerNet, batch: &Batch, pass: Pass) -> Result<Look> {
        let Templates {
            first,
            mixed,
            anchors,
        } = self.template(net, batch, pass)?;
        let crops = self.images(&batch.search_rgb, net.config().search_px)?;
        let search = net.features(&crops, pass)?;
        let maps = net.heads(&mixed, &search, pass)?;
        Ok(Look {
            template: first,
            search,
            anchors,
            maps,
        })
    }

    /// The sum of all losses of a batch that was looked at.
    ///
    /// # Errors
    /// If an operator fails.
    pub fn losses(&self, batch: &Batch, seen: &Look, step: u64) -> Result<StepLoss> {
        let config = self.net.config();
        let n = batch.present.len();
        let Look { anchors, maps, .. } = seen;
        let targets = self.targets(batch);
        let area = targets.cells * targets.cells;
        let map = |values: &[f32]| Tensor::from_slice(values, (n, area), &self.device);
        let score = penalty_reduced_focal(
            &maps.score_logits,
            &map(&targets.gauss)?,
            &map(&targets.peak)?,
            self.loss.score_smoothing,
        )?;
        let centres = Tensor::from_vec(
            cell_centres_px(targets.cells, config.stride() as f32),
            (area, 2),
            &self.device,
        )?;
        let truth = Tensor::from_vec(batch.box_in_search.concat(), (n, 4), &self.device)?;
        let boxes = box_losses(
            &maps.box_ltrb_px,
            &centres,
            &truth,
            &map(&targets.box_weight)?,
        )?;
        let presence = presence_bce(
            &maps.presence_logits,
            &Tensor::new(batch.present.as_slice(), &self.device)?,
            self.loss.presence_smoothing,
        )?;
        let identity = self.identity_loss(anchors, &maps.embedding, batch, &targets, step)?;

        let weights = &self.loss;
        let localisation = (((&score * weights.score)? + (&boxes.giou * weights.giou)?)?
            + (&boxes.l1 * weights.l1)?)?;
        let total =
            ((localisation + (&presence * weights.presence)?)? + (&identity * weights.identity)?)?;
        let parts = vec![
            ("score", score.to_scalar()?),
            ("giou", boxes.giou.to_scalar()?),
            ("l1", boxes.l1.to_scalar()?),
            ("presence", presence.to_scalar()?),
            ("identity", identity.to_scalar()?),
            ("iou", boxes.iou),
        ];
        Ok(StepLoss { total, parts })
    }

    fn targets(&self, batch: &Batch) -> CellTargets {
        let config = self.net.config();
        CellTargets::new(
            &batch.box_in_search,
            &batch.present,
            config.search_cells(),
            config.stride() as f32,
        )
    }

    fn identity_loss(
        &self,
        anchors: &Tensor,
        cells: &Tensor,
        batch: &Batch,
        targets: &CellTargets,
        step: u64,
    ) -> Result<Tensor> {
        let (n, area, e) = cells.dims3()?;
        let mut rng =
            ChaCha8Rng::seed_from_u64(self.seed ^ step.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let mut rows: Vec<u32> = (0..n)
            .map(|i| (i * area + targets.peak_cell[i]) as u32)
            .collect();
        let mut owner: Vec<Option<usize>> = (0..n).map(Some).collect();
        let stride = self.net.config().stride() as f32;
        for i in 0..n {
            for _ in 0..self.loss.identity_backgrounds {
                let cell = rng.random_range(0..area);
                let x = ((cell % targets.cells) as f32 + 0.5) * stride;
                let y = ((cell / targets.cells) as f32 + 0.5) * stride;
                let [l, t, r, b] = batch.box_in_search[i];
                let near = x > l - stride && x < r + stride && y > t - stride && y < b + stride;
                if !(near && batch.present[i] > 0.5) {
                    rows.push((i * area + cell) as u32);
                    owner.push(None);
                }
            }
        }
        let m = rows.len();
        let mut mask = vec![0f32; n * m];
        for i in 0..n {
            for (j, other) in owner.iter().enumerate() {
                let takes_part = match other {
                    None => true,
                    Some(o) if *o == i => true,
                    Some(o) => batch.present[*o] > 0.5 && batch.instance[*o] != batch.instance[i],
                };
                mask[i * m + j] = f32::from(takes_part);
            }
        }
        let candidates = cells
            .reshape((n * area, e))?
            .index_select(&Tensor::new(rows, &self.device)?, 0)?;
        let mask = Tensor::from_vec(mask, (n, m), &self.device)?;
        let weight = Tensor::new(batch.present.as_slice(), &self.device)?;
        info_nce(
            anchors,
            &candidates,
            &mask,
            &weight,
            self.loss.identity_temperature,
        )
    }

    /// Success of some weights on the held-out pairs.
    ///
    /// # Errors
    /// Weights of another network.
    pub fn held_out_auc(&self, snapshot: &Snapshot) -> anyhow::Result<f64> {
        self.auc_on(snapshot, &self.validation)
    }

    /// The same on other pairs.
    ///
    /// # Errors
    /// As [`TrackTask::held_out_auc`].
    pub fn auc_on(&self, snapshot: &Snapshot, pairs: &[Batch]) -> anyhow::Result<f64> {
        let (figures, _) = self.figures(snapshot, pairs)?;
        let auc = figures.iter().find(|(name, _)| *name == "auc");
        Ok(auc.context("figures without a success")?.1)
    }

    /// Figures of some weights on some pairs, and what presence says against what was the case.
    fn figures(
        &self,
        snapshot: &Snapshot,
        pairs: &[Batch],
    ) -> anyhow::Result<(Vec<(&'static str, f64)>, Reliability)> {
        self.average.params().restore(snapshot)?;
        let net = &self.average;
        let config = net.config();
        let (mut ious, mut present_scores, mut absent_scores) =
            (Vec::new(), Vec::new(), Vec::new());
        let (mut right, mut anchors_seen) = (0usize, 0usize);
        for batch in pairs {
            let Look { anchors, maps, .. } = self.look_with(net, batch, Pass::Eval)?;
            let scores = maps.score_logits.to_vec2::<f32>()?;
            let distances = maps.box_ltrb_px.to_vec3::<f32>()?;
            let presence = maps.presence_logits.to_vec1::<f32>()?;
            let targets = self.targets(batch);
            let n = batch.present.len();
            let at: Vec<u32> = (0..n)
                .map(|i| (i * targets.cells.pow(2) + targets.peak_cell[i]) as u32)
                .collect();
            let objects = maps
                .embedding
                .flatten(0, 1)?
                .index_select(&Tensor::new(at, &self.device)?, 0)?;
            let similarity = anchors.matmul(&objects.t()?)?.to_vec2::<f32>()?;
            for i in 0..n {
                if batch.present[i] <= 0.5 {
                    absent_scores.push(f64::from(presence[i]));
                    continue;
                }
                present_scores.push(f64::from(presence[i]));
                let best = (0..scores[i].len())
                    .max_by(|a, b| scores[i][*a].total_cmp(&scores[i][*b]))
                    .unwrap_or(0);
                let centre = |k: usize| (k as f32 + 0.5) * config.stride() as f32;
                let (x, y) = (centre(best % targets.cells), centre(best / targets.cells));
                let [l, t, r, b] = [
                    distances[i][best][0],
                    distances[i][best][1],
                    distances[i][best][2],
                    distances[i][best][3],
                ];
                let [tl, tt, tr, tb] = batch.box_in_search[i];
                ious.push(f64::from(iou_ltrb(
                    [x - l, y - t, x + r, y + b],
                    [tl, tt, tr, tb],
                )));
                let rivals = (0..n).filter(|j| {
                    batch.present[*j] > 0.5 && (*j == i || batch.instance[*j] != batch.instance[i])
                });
                let winner = rivals.max_by(|a, b| similarity[i][*a].total_cmp(&similarity[i][*b]));
                right += usize::from(winner == Some(i));
                anchors_seen += 1;
            }
        }
        let share = |over: f64| {
            ious.iter().filter(|v| **v > over).count() as f64 / ious.len().max(1) as f64
        };
        let auc = (0..=20).map(|k| share(f64::from(k) / 20.0)).sum::<f64>() / 21.0;
        let sigmoid = |logit: &f64| 1.0 / (1.0 + (-logit).exp());
        let said: Vec<f64> = present_scores
            .iter()
            .chain(&absent_scores)
            .map(sigmoid)
            .collect();
        let was: Vec<bool> = (0..said.len()).map(|i| i < present_scores.len()).collect();
        let reliability = Reliability::of(&said, &was);
        let weights = sigmoid_mean(&net.params().vars["template_mix"])?;
        let figures = vec![
            ("auc", auc),
            ("iou", ious.iter().sum::<f64>() / ious.len().max(1) as f64),
            ("sr50", share(0.5)),
            ("presence_auc", rank_auc(&present_scores, &absent_scores)),
            ("identity_top1", right as f64 / anchors_seen.max(1) as f64),
            ("presence_ece", reliability.expected_calibration_error),
            ("latest_weight", weights),
        ];
        Ok((figures, reliability))
    }
}

impl Task for TrackTask {
    type Batch = Batch;

    fn params(&self) -> &Params {
        self.net.params()
    }

    fn freeze_norm(&mut self, frozen: bool) {
        self.norm_frozen = frozen;
    }

    fn quantise(&mut self, quantised: bool) {
        self.quantised = quantised;
    }

    fn loss(&self, batch: &Batch, step: u64) -> Result<StepLoss> {
        let seen = self.look(batch, self.pass())?;
        self.losses(batch, &seen, step)
    }

    fn validate(&mut self, snapshot: &Snapshot) -> anyhow::Result<Vec<(&'static str, f64)>> {
        let (figures, reliability) = self.figures(snapshot, &self.validation)?;
        self.reliability = Some(reliability);
        Ok(figures)
    }

    fn calibration_csv(&self) -> Option<String> {
        self.reliability.as_ref().map(Reliability::csv)
    }

    fn save_batch(&self, batch: &Batch, path: &std::path::Path) -> anyhow::Result<()> {
        let pairs: Vec<_> = (0..batch.len).map(|i| batch.pair(i)).collect();
        crate::outputs::picture(path, &crate::data::sheet::contact_sheet(&pairs, 6))
    }
}

/// Mean weight of the latest template over the feature channels.
fn sigmoid_mean(logits: &Tensor) -> Result<f64> {
    Ok(f64::from(
        crate::model::net::sigmoid(logits)?
            .mean_all()?
            .to_scalar::<f32>()?,
    ))
}

pub(super) fn iou_ltrb(a: [f32; 4], b: [f32; 4]) -> f32 {
    let xywh = |[left_px, top_px, right_px, bottom_px]: [f32; 4]| {
        BoxXywh::from(BoxLtrb {
            left_px,
            top_px,
            right_px,
            bottom_px,
        })
    };
    xywh(a).iou(&xywh(b))
}

/// Probability that a present score beats an absent one; ties count half.
pub(crate) fn rank_auc(present: &[f64], absent: &[f64]) -> f64 {
    let wins: f64 = present
        .iter()
        .flat_map(|p| {
            absent.iter().map(move |a| {
                if p > a {
                    1.0
                } else if p == a {
                    0.5
                } else {
                    0.0
                }
            })
        })
        .sum();
    wins / (present.len() * absent.len()).max(1) as f64
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::model::ModelConfig;

    /// Running moments of the identity's first layer.
    fn moments(net: &TrackerNet) -> Vec<f32> {
        let values = net.params().snapshot().unwrap().values;
        ["running_mean", "running_var"]
            .iter()
            .flat_map(|of| values[&format!("embed.hidden.bn.{of}")].clone())
            .collect()
    }

    #[test]
    fn templates_and_search_crops_count_alike_in_the_statistics_of_identity() {
        let config = ModelConfig::tiny();
        let task = || {
            let born = || TrackerNet::new(&config, 4, &Device::Cpu).unwrap();
            let (loss, precision) = (LossConfig::default(), Precision::F32);
            TrackTask::new(born(), born(), loss, precision, 1, &Device::Cpu, vec![])
        };
        let mut batches = [5, 6].map(|seed| {
            let (template_px, search_px) = (config.template_px, config.search_px);
            Batch::noise(seed, 4, template_px, search_px)
        });
        // So that the four maps have moments of their own.
        batches[0].template_rgb.iter_mut().for_each(|v| *v /= 4);
        batches[1].search_rgb.iter_mut().for_each(|v| *v /= 2);
        let mut each: Vec<Vec<f32>> = Vec::new();
        for batch in &batches {
            let once = Pass::Rebase { weight: 1.0 };
            let seen = task();
            let look = seen.look(batch, Pass::Eval).unwrap();
            let net = seen.net();
            net.embed_template(&look.template, once).unwrap();
            each.push(moments(net));
            let (template, search) = (&look.template, &look.search);
            net.heads_and_identity(template, search, Pass::Eval, once)
                .unwrap();
            each.push(moments(net));
        }
        let settled = task();
        settled.settle(&batches).unwrap();
        for (k, found) in moments(settled.net()).into_iter().enumerate() {
            let mean = each.iter().map(|moments| moments[k]).sum::<f32>() / 4.0;
            let spread = each.iter().map(|m| (m[k] - mean).abs()).fold(0.0, f32::max);
            // Sums in another order; the weights of before were off by a twelfth of a map.
            assert!(
                (found - mean).abs() <= 1e-3 * spread + 1e-5,
                "{k}: {found}, expected {mean} of {each:?}"
            );
        }
    }
}
