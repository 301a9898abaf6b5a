//! The task of finding road users: scenes in, the sum of score, box and identity losses out.

use std::collections::HashMap;

use anyhow::Context;
use candle_core::{DType, Device, Result, Tensor};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use roadhound_shared::propose::{
    ProposalConfig, Proposals, ProposeContract, ProposeDecoder, ProposeOutputs, RoadUser,
};
use serde::{Deserialize, Serialize};

use super::track::{PIXEL_MEAN, PIXEL_SCALE};
use super::{BestBy, StepLoss, Task};
use crate::detection::{
    FALSE_ALARMS, FoundFrame, LEAST_IOU, LEAST_SCORE, average_precisions, mean_average_precision,
    recall_at_false_alarms,
};
use crate::export::propose::to_planar;
use crate::loss::boxes::box_losses;
use crate::loss::embedding::info_nce::info_nce;
use crate::loss::proposals::{BoxCell, Grid, Labelled, ProposalTargets};
use crate::loss::score::penalty_reduced_focal;
use crate::model::Pass;
use crate::model::propose::{ProposeMaps, ProposeNet};
use crate::ops::{Precision, images_from_bytes};
use crate::outputs;
use crate::params::{Params, Snapshot};
use crate::report::panels::Panel;
use crate::scenes::batch::SceneBatch;
use crate::scenes::labels::unsaid_within;
use crate::scenes::sheet::scene_sheet;
use crate::scenes::{SceneObject, SceneView, Standing};

/// Weights of the losses.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProposeLossConfig {
    /// Score maps.
    pub score: f64,
    /// `1 - GIoU`.
    pub giou: f64,
    /// Size-relative L1.
    pub l1: f64,
    /// Identity.
    pub identity: f64,
    /// Temperature of the identity loss.
    pub identity_temperature: f64,
    /// Share of the label that the score's peaks give away.
    pub score_smoothing: f64,
    /// Cells away from objects, per view, that serve as backgrounds to the identity loss.
    pub identity_backgrounds: usize,
}

impl Default for ProposeLossConfig {
    fn default() -> Self {
        Self {
            score: 1.0,
            giou: 2.0,
            l1: 1.0,
            identity: 0.3,
            identity_temperature: 0.1,
            score_smoothing: 0.01,
            identity_backgrounds: 4,
        }
    }
}

/// Proposals from this score on are drawn on the sheet of held-out frames.
const SHOWN_SCORE: f32 = 0.3;
/// Held-out frames on the sheet.
const SHOWN: usize = 12;
/// File of that sheet in the run's folder.
const SHEET_FILE: &str = "found.jpg";

/// Held-out data, the same at every validation.
pub struct HeldOut {
    /// Whole frames, in batches of views that have nothing to do with each other.
    pub frames: Vec<SceneBatch>,
    /// Scenes, for identity.
    pub scenes: Vec<SceneBatch>,
}

/// The task; see the module head.
pub struct ProposeTask {
    net: ProposeNet,
    average: ProposeNet,
    decoder: ProposeDecoder,
    contract: ProposeContract,
    loss: ProposeLossConfig,
    precision: Precision,
    seed: u64,
    device: Device,
    held_out: HeldOut,
    norm_frozen: bool,
    quantised: bool,
    /// Of the last validation: frames with what was found on them.
    shown: Vec<(SceneView, Proposals)>,
}

impl ProposeTask {
    /// Joins `net` (being trained), `average` (same shape, receives snapshots) and held-out data.
    ///
    /// # Errors
    /// Sizes that no contract allows.
    pub fn new(
        net: ProposeNet,
        average: ProposeNet,
        loss: ProposeLossConfig,
        precision: Precision,
        seed: u64,
        device: &Device,
        held_out: HeldOut,
    ) -> anyhow::Result<Self> {
        let contract = ProposeContract::new(net.sizes())?;
        Ok(Self {
            net,
            average,
            decoder: ProposeDecoder::new(&contract),
            contract,
            loss,
            precision,
            seed,
            device: device.clone(),
            held_out,
            norm_frozen: false,
            quantised: false,
            shown: Vec::new(),
        })
    }

    /// The network being trained.
    pub fn net(&self) -> &ProposeNet {
        &self.net
    }

    fn maps(&self, net: &ProposeNet, batch: &SceneBatch, pass: Pass) -> Result<ProposeMaps> {
        let (height, width) = (batch.size.height_px as usize, batch.size.width_px as usize);
        let shape = (batch.views(), height, width, 3);
        let frames = images_from_bytes(&batch.rgb, shape, PIXEL_MEAN, PIXEL_SCALE, &self.device)?;
        net.forward(&frames, pass)
    }

    fn grid(&self) -> Grid {
        let (columns, rows) = self.net.grid();
        Grid {
            columns,
            rows,
            stride_px: self.net.sub_stride_px(),
        }
    }

    fn targets(&self, batch: &SceneBatch) -> ProposalTargets {
        let labelled = |object: &SceneObject| Labelled {
            ltrb_px: object.box_in_view.to_array(),
            kinds: object.kinds,
            unsaid: unsaid_within(object.kinds),
            is_target: object.standing == Standing::Target,
        };
        let objects: Vec<Vec<Labelled>> = batch
            .objects
            .iter()
            .map(|view| view.iter().map(labelled).collect())
            .collect();
        ProposalTargets::new(&self.grid(), &objects, &batch.complete)
    }

    /// GIoU, L1 and mean IoU of the cells in the middle of objects.
    fn box_loss(&self, maps: &ProposeMaps, cells: &[BoxCell]) -> Result<(Tensor, Tensor, f32)> {
        if cells.is_empty() {
            let nothing = Tensor::zeros((), DType::F32, &self.device)?;
            return Ok((nothing.clone(), nothing, 0.0));
        }
        let n = cells.len();
        let rows: Vec<u32> = cells.iter().map(|c| c.cell as u32).collect();
        let distances = maps
            .box_ltrb_px
            .flatten(0, 1)?
            .index_select(&Tensor::new(rows, &self.device)?, 0)?
            .unsqueeze(1)?;
        let truth: Vec<f32> = cells.iter().flat_map(|c| c.ltrb_from_centre_px).collect();
        let truth = Tensor::from_vec(truth, (n, 4), &self.device)?;
        let weight: Vec<f32> = cells.iter().map(|c| c.weight).collect();
        let weight = Tensor::from_vec(weight, (n, 1), &self.device)?;
        // Every cell is its own origin.
        let centre = Tensor::zeros((1, 2), DType::F32, &self.device)?;
        let losses = box_losses(&distances, &centre, &truth, &weight)?;
        Ok((losses.giou, losses.l1, losses.iou))
    }

    /// Each object of a scene's first view should be told by its embedding from everything else in the batch; any cell
    /// in its middle speaks for it (quasi-dense, Pang et al. 2021).
    fn identity_loss(
        &self,
        maps: &ProposeMaps,
        batch: &SceneBatch,
        targets: &ProposalTargets,
        step: u64,
    ) -> Result<Tensor> {
        let mut rng =
            ChaCha8Rng::seed_from_u64(self.seed ^ step.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let mut cells_of: HashMap<(usize, usize), Vec<u32>> = HashMap::new();
        for cell in &targets.boxes {
            let cells = cells_of.entry((cell.frame, cell.object)).or_default();
            cells.push(cell.cell as u32);
        }
        let picked = IdentityCells::pick(batch, &cells_of, &mut rng);
        let n = picked.anchors.len();
        if n == 0 {
            return Tensor::zeros((), DType::F32, &self.device);
        }
        let (mut rows, mut owners) = (picked.candidates, picked.owners);
        let cells = self.grid().cells();
        for view in 0..batch.views() {
            for _ in 0..self.loss.identity_backgrounds {
                let cell = (view * cells + rng.random_range(0..cells)) as u32;
                if !targets.boxes.iter().any(|b| b.cell as u32 == cell) {
                    rows.push(cell);
                    owners.push(None);
                }
            }
        }
        let m = rows.len();
        let mut mask = vec![1f32; n * m];
        for i in 0..n {
            for (j, owner) in owners.iter().enumerate() {
                if i != j && *owner == owners[i] {
                    mask[i * m + j] = 0.0;
                }
            }
        }
        let all = maps.embedding.flatten(0, 1)?;
        let select = |rows: Vec<u32>| all.index_select(&Tensor::new(rows, &self.device)?, 0);
        info_nce(
            &select(picked.anchors)?,
            &select(rows)?,
            &Tensor::from_vec(mask, (n, m), &self.device)?,
            &Tensor::ones(n, DType::F32, &self.device)?,
            self.loss.identity_temperature,
        )
    }

    /// What the maps say of one view, as the board reads it.
    fn proposals(&self, maps: &ProposeMaps, view: usize) -> Result<(Proposals, ProposeOutputs)> {
        let mut planar = ProposeOutputs::for_contract(&self.contract);
        to_planar(maps, view, &self.decoder, &mut planar)?;
        let config = ProposalConfig {
            min_score: LEAST_SCORE,
            ..ProposalConfig::default()
        };
        let mut found = Proposals::new();
        self.decoder.decode(&planar, &config, &mut found);
        Ok((found, planar))
    }

    /// Objects of held-out scenes' first views whose embedding is nearest to their own in the second views of the batch,
    /// and all of them.
    fn identified(&self, batch: &SceneBatch) -> Result<(usize, usize)> {
        let maps = self.maps(&self.average, batch, Pass::Eval)?;
        let targets = self.targets(batch);
        let cells = self.grid().cells();
        let objects = |parity: usize| -> (Vec<u32>, Vec<u64>) {
            let views = (0..batch.views()).filter(|view| view % 2 == parity);
            views
                .flat_map(|view| {
                    let centres = &targets.centre_cell[view];
                    let objects = batch.objects[view].iter().zip(centres);
                    let seen = objects.filter(|(object, _)| object.standing == Standing::Target);
                    seen.map(move |(object, cell)| ((view * cells + cell) as u32, object.instance))
                })
                .unzip()
        };
        let ((first, names), (second, others)) = (objects(0), objects(1));
        if first.is_empty() || second.is_empty() {
            return Ok((0, 0));
        }
        let all = maps.embedding.flatten(0, 1)?;
        let select = |rows: Vec<u32>| all.index_select(&Tensor::new(rows, &self.device)?, 0);
        let similarity = select(first)?.matmul(&select(second)?.t()?)?;
        let (mut right, mut asked) = (0, 0);
        for (row, name) in similarity.to_vec2::<f32>()?.iter().zip(&names) {
            if others.contains(name) {
                let nearest = (0..row.len()).max_by(|a, b| row[*a].total_cmp(&row[*b]));
                right += usize::from(nearest.is_some_and(|at| others[at] == *name));
                asked += 1;
            }
        }
        Ok((right, asked))
    }
}

/// Rows of the embedding maps that the identity loss compares.
struct IdentityCells {
    /// One per object that both views of a scene show.
    anchors: Vec<u32>,
    /// Their own objects first, in order; then every other object of the batch.
    candidates: Vec<u32>,
    /// Whose each candidate is.
    owners: Vec<Option<u64>>,
}

impl IdentityCells {
    fn pick(
        batch: &SceneBatch,
        cells_of: &HashMap<(usize, usize), Vec<u32>>,
        rng: &mut ChaCha8Rng,
    ) -> Self {
        let mut one_of = |view: usize, object: usize| {
            let cells = cells_of.get(&(view, object))?;
            Some(cells[rng.random_range(0..cells.len())])
        };
        let mut picked = Self {
            anchors: Vec::new(),
            candidates: Vec::new(),
            owners: Vec::new(),
        };
        let mut others = Vec::new();
        for view in 0..batch.views() {
            let objects = &batch.objects[view];
            for (at, object) in objects.iter().enumerate() {
                let Some(here) = one_of(view, at) else {
                    continue;
                };
                let twin = batch.objects[view ^ 1]
                    .iter()
                    .position(|other| other.instance == object.instance)
                    .filter(|_| view % 2 == 0)
                    .and_then(|twin| one_of(view ^ 1, twin));
                if let Some(twin) = twin {
                    picked.anchors.push(here);
                    picked.candidates.push(twin);
                    picked.owners.push(Some(object.instance));
                }
                others.push((here, object.instance));
            }
        }
        for (cell, owner) in others {
            picked.candidates.push(cell);
            picked.owners.push(Some(owner));
        }
        picked
    }
}

impl Task for ProposeTask {
    type Batch = SceneBatch;

    fn params(&self) -> &Params {
        self.net.params()
    }

    fn freeze_norm(&mut self, frozen: bool) {
        self.norm_frozen = frozen;
    }

    fn quantise(&mut self, quantised: bool) {
        self.quantised = quantised;
    }

    fn best_by(&self) -> BestBy {
        BestBy::Highest("ap50")
    }

    fn loss(&self, batch: &SceneBatch, step: u64) -> Result<StepLoss> {
        let pass = Pass::training(self.precision, self.quantised, self.norm_frozen);
        let maps = self.maps(&self.net, batch, pass)?;
        let targets = self.targets(batch);
        let values = self.grid().cells() * RoadUser::COUNT;
        let map = |values_of: &[f32]| {
            Tensor::from_slice(values_of, (batch.views(), values), &self.device)
        };
        let score = penalty_reduced_focal(
            &maps.score_logits.flatten(1, 2)?,
            &map(&targets.gauss)?,
            &map(&targets.peak)?,
            self.loss.score_smoothing,
        )?;
        let (giou, l1, iou) = self.box_loss(&maps, &targets.boxes)?;
        let identity = self.identity_loss(&maps, batch, &targets, step)?;
        let weights = &self.loss;
        let localisation =
            (((&score * weights.score)? + (&giou * weights.giou)?)? + (&l1 * weights.l1)?)?;
        let total = (localisation + (&identity * weights.identity)?)?;
        let parts = vec![
            ("score", score.to_scalar()?),
            ("giou", giou.to_scalar()?),
            ("l1", l1.to_scalar()?),
            ("identity", identity.to_scalar()?),
            ("iou", iou),
        ];
        Ok(StepLoss { total, parts })
    }

    fn validate(&mut self, snapshot: &Snapshot) -> anyhow::Result<Vec<(&'static str, f64)>> {
        self.average.params().restore(snapshot)?;
        let mut frames = Vec::new();
        let mut shown = Vec::new();
        let held_out: usize = self.held_out.frames.iter().map(SceneBatch::views).sum();
        for batch in &self.held_out.frames {
            let maps = self.maps(&self.average, batch, Pass::Eval)?;
            for view in 0..batch.views() {
                let (found, _) = self.proposals(&maps, view)?;
                if frames.len() * SHOWN / held_out.max(1) >= shown.len() && shown.len() < SHOWN {
                    shown.push((batch.view(view), found.clone()));
                }
                frames.push(FoundFrame::of(&batch.view(view), &found));
            }
        }
        self.shown = shown;
        let (mut right, mut asked) = (0, 0);
        for batch in &self.held_out.scenes {
            let (r, a) = self.identified(batch)?;
            (right, asked) = (right + r, asked + a);
        }
        let mut figures = vec![
            ("ap50", mean_average_precision(&frames, LEAST_IOU)),
            (
                "recall_1fa",
                recall_at_false_alarms(&frames, FALSE_ALARMS, LEAST_IOU),
            ),
            ("identity_top1", right as f64 / asked.max(1) as f64),
        ];
        let by_kind = average_precisions(&frames, LEAST_IOU).into_iter();
        figures.extend(by_kind.map(|(kind, ap)| (ap_column(kind), ap)));
        Ok(figures)
    }

    fn panels(&mut self, folder: &std::path::Path) -> anyhow::Result<Vec<Panel>> {
        if self.shown.is_empty() {
            return Ok(Vec::new());
        }
        let (views, mut found): (Vec<SceneView>, Vec<Vec<_>>) = self
            .shown
            .iter()
            .map(|(view, found)| (view.clone(), found.to_vec()))
            .unzip();
        for proposals in &mut found {
            proposals.retain(|p| p.score >= SHOWN_SCORE);
        }
        let sheet = scene_sheet(self.net.input(), &views, &found, 3);
        outputs::picture(&folder.join(SHEET_FILE), &sheet)?;
        Ok(vec![Panel::Picture {
            title: "Held-out frames".into(),
            file: SHEET_FILE.into(),
            note: format!(
                "What is there (unbroken lines) and what is found with a score of {SHOWN_SCORE} or more (broken ones), in the colours of the kinds"
            ),
        }])
    }

    fn save_batch(&self, batch: &SceneBatch, path: &std::path::Path) -> anyhow::Result<()> {
        let views: Vec<SceneView> = (0..batch.views()).map(|i| batch.view(i)).collect();
        outputs::picture(path, &scene_sheet(batch.size, &views, &[], 4))
            .context("the batch cannot be saved")
    }
}

/// Column of a kind's average precision.
fn ap_column(kind: RoadUser) -> &'static str {
    match kind {
        RoadUser::Car => "ap50_car",
        RoadUser::Truck => "ap50_truck",
        RoadUser::Bus => "ap50_bus",
        RoadUser::Motorcycle => "ap50_motorcycle",
        RoadUser::Bicycle => "ap50_bicycle",
        RoadUser::Person => "ap50_person",
        RoadUser::AutoRickshaw => "ap50_auto_rickshaw",
        RoadUser::Animal => "ap50_animal",
        RoadUser::Other => "ap50_other",
    }
}

#[cfg(test)]
mod tests;
