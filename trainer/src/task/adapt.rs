//! The tracker's adaptation: labelled pairs of the source and pairs of pseudo-tracks of the target in, the tracker's losses
//! and what draws the domains together out.
//!
//! Two players: the network, and the domain heads with an optimiser and a rate of their own, so that neither the clipping of
//! gradients nor the rate of one is a matter of the other. The network climbs the heads' loss through a reversed gradient;
//! the heads descend it on the same features, held fast. The teacher is part of the checkpoint and is moved by no loss.

use std::cell::RefCell;
use std::path::Path;

use candle_core::{D, Device, Result, Tensor};

use super::track::{Look, TrackTask};
use super::{BestBy, Player, StepLoss, Task, Turn};
use crate::adapt::batches::AdaptBatch;
use crate::adapt::config::{AdaptConfig, Part, SelectConfig};
use crate::adapt::domain::{DomainHead, DomainStep};
use crate::adapt::measure::{Bench, Measures};
use crate::batch::Batch;
use crate::export::bundle::graphs_of;
use crate::loss::targets::CellTargets;
use crate::model::net::{central_half, sigmoid};
use crate::model::{Pass, TrackerNet};
use crate::params::{ParamBuilder, Params, Snapshot};

/// What the teacher's variables are called by before their own names.
const TEACHER: &str = "teacher.";
/// The same for the domain heads.
const DOMAIN: &str = "domain.";
/// Keeps the spread of a feature that never changes from dividing by nothing.
const SMALLEST_SPREAD: f64 = 1e-3;

/// Rows that the domain heads see.
#[derive(Clone)]
struct Rows {
    /// Of objects: templates, then search crops; source and target.
    region: [Tensor; 2],
    /// How much each counts.
    weight: [Tensor; 2],
    /// Of whole search maps.
    image: [Tensor; 2],
    /// Of objects on search crops alone, and their weights.
    in_search: [Tensor; 2],
    in_search_weight: [Tensor; 2],
}

impl Rows {
    fn detached(&self) -> Self {
        let held = |pair: &[Tensor; 2]| [pair[0].detach(), pair[1].detach()];
        Self {
            region: held(&self.region),
            weight: held(&self.weight),
            image: held(&self.image),
            in_search: held(&self.in_search),
            in_search_weight: held(&self.in_search_weight),
        }
    }
}

/// The task; see the module head.
pub struct AdaptTask {
    track: TrackTask,
    teacher: TrackerNet,
    candidate: TrackerNet,
    region: Option<DomainHead>,
    image: Option<DomainHead>,
    heads: Params,
    all: Params,
    config: AdaptConfig,
    steps: u64,
    bench: Bench,
    before: Measures,
    select: SelectConfig,
    /// Of the target, for normalisation.
    target: Vec<Batch>,
    /// What the network's turn left for the heads'.
    rows: RefCell<Option<Rows>>,
    device: Device,
}

/// What an adaptation is made of.
pub struct Parts {
    /// The tracker's task, its network settled.
    pub track: TrackTask,
    /// Two more networks of the same geometry: teacher and candidate.
    pub others: [TrackerNet; 2],
    /// The parts.
    pub config: AdaptConfig,
    /// How weights are chosen.
    pub select: SelectConfig,
    /// Steps of the run.
    pub steps: u64,
    /// What networks are measured on.
    pub bench: Bench,
    /// The source's figures on it.
    pub before: Measures,
    /// Batches of the target, for normalisation.
    pub target: Vec<Batch>,
    /// Decides how the heads are born.
    pub seed: u64,
}

impl AdaptTask {
    /// Joins the parts; the teacher starts as the network is.
    ///
    /// # Errors
    /// Networks of different geometries.
    pub fn new(parts: Parts, device: &Device) -> anyhow::Result<Self> {
        let [teacher, candidate] = parts.others;
        let net = parts.track.net();
        teacher.params().restore(&net.params().snapshot()?)?;
        let features = net.config().feature_channels;
        let mut builder = ParamBuilder::new(parts.seed, device);
        let domain = parts.config.domain();
        let mut head = |part: Part| -> anyhow::Result<Option<DomainHead>> {
            let name = format!("{DOMAIN}{}", part.name());
            let born = parts
                .config
                .has(part)
                .then(|| DomainHead::new(&mut builder, &name, features, &domain));
            Ok(born.transpose()?)
        };
        let (region, image) = (head(Part::Region)?, head(Part::Image)?);
        let heads = builder.finish();
        let mut all = net.params().clone();
        all.vars.extend(heads.vars.clone());
        let named = |name: &String| format!("{TEACHER}{name}");
        let of_teacher = teacher.params();
        all.vars
            .extend(of_teacher.vars.iter().map(|(n, v)| (named(n), v.clone())));
        all.stats
            .extend(of_teacher.stats.iter().map(|(n, s)| (named(n), s.clone())));
        Ok(Self {
            track: parts.track,
            teacher,
            candidate,
            region,
            image,
            heads,
            all,
            config: parts.config,
            steps: parts.steps,
            bench: parts.bench,
            before: parts.before,
            select: parts.select,
            target: parts.target,
            rows: RefCell::new(None),
            device: device.clone(),
        })
    }

    /// The network of a snapshot as it would be shipped: without heads and teacher, normalisation re-estimated where that is
    /// asked for.
    ///
    /// # Errors
    /// A snapshot of another network.
    pub fn candidate(&self, snapshot: &Snapshot) -> anyhow::Result<&TrackerNet> {
        let own = |name: &String| !name.starts_with(TEACHER) && !name.starts_with(DOMAIN);
        let values = snapshot.values.iter().filter(|(name, _)| own(name));
        let own = Snapshot {
            values: values.map(|(n, v)| (n.clone(), v.clone())).collect(),
        };
        self.candidate.params().restore(&own)?;
        if self.config.has(Part::Adabn) {
            self.track
                .re_estimate(&self.candidate, &self.target, self.config.adabn_share)?;
        }
        Ok(&self.candidate)
    }

    /// All figures of a snapshot.
    ///
    /// # Errors
    /// As [`AdaptTask::candidate`], and those of the bench.
    pub fn measure(&mut self, snapshot: &Snapshot) -> anyhow::Result<Measures> {
        let net = self.candidate(snapshot)?;
        let (network, contract) = graphs_of(net)?;
        let shipped = net.params().snapshot()?;
        let mut found = self.bench.measure(network, &contract)?;
        found.source_auc = self.track.held_out_auc(&shipped)?;
        Ok(found)
    }

    /// Success of a network of this geometry on other pairs.
    ///
    /// # Errors
    /// Weights of another network.
    pub fn auc_on(&mut self, shipped: &Snapshot, pairs: &[Batch]) -> anyhow::Result<f64> {
        self.track.auc_on(shipped, pairs)
    }

    /// The bench, for those who measure other networks.
    pub fn bench(&self) -> &Bench {
        &self.bench
    }

    /// Weights as they are.
    ///
    /// # Errors
    /// If a device does not give them back.
    pub fn snapshot(&self) -> Result<Snapshot> {
        self.all.snapshot()
    }

    /// Moves the teacher towards the network.
    fn teach(&self, step: u64) -> Result<()> {
        let keep = self.config.teacher_keep;
        let keep = keep.min((step + 1) as f64 / (step + 10) as f64);
        let mut teacher = self.teacher.params().snapshot()?;
        teacher.blend_towards(&self.track.net().params().snapshot()?, keep as f32);
        self.teacher.params().restore(&teacher)
    }

    /// Numbers of the target's pairs that the teacher agrees with, and what it has to say of their boxes.
    fn taught(&self, batch: &AdaptBatch) -> Result<(Vec<u32>, Batch)> {
        let net = &self.teacher;
        let maps = self.track.look_with(net, &batch.weak, Pass::Eval)?.maps;
        let scores = maps.score_logits.to_vec2::<f32>()?;
        let sides = maps.box_ltrb_px.to_vec3::<f32>()?;
        let presence = sigmoid(&maps.presence_logits)?.to_vec1::<f32>()?;
        let (cells, stride) = (net.config().search_cells(), net.config().stride() as f32);
        let mut labelled = batch.strong.clone();
        let mut rows = Vec::new();
        for i in 0..labelled.len {
            if labelled.present[i] <= 0.5 {
                // Another object, or one that was hidden on purpose: that is known without a teacher.
                rows.push(i as u32);
                continue;
            }
            let best = (0..scores[i].len()).max_by(|a, b| scores[i][*a].total_cmp(&scores[i][*b]));
            let best = best.unwrap_or(0);
            let centre = |k: usize| (k as f32 + 0.5) * stride;
            let (x, y) = (centre(best % cells), centre(best / cells));
            let side = &sides[i][best];
            let said = [x - side[0], y - side[1], x + side[2], y + side[3]];
            let pseudo = labelled.box_in_search[i];
            let agrees = super::track::iou_ltrb(said, pseudo) >= self.config.teacher_iou;
            if agrees && presence[i] >= self.config.teacher_presence {
                let mean = |k: usize| (said[k] + pseudo[k]) / 2.0;
                labelled.box_in_search[i] = [mean(0), mean(1), mean(2), mean(3)];
                rows.push(i as u32);
            }
        }
        Ok((rows, labelled))
    }

    /// Rows of one domain: templates' and search crops' objects with their weights, and whole maps. `trust` is how sure the
    /// network itself is that the target is there; of the source that is known.
    fn rows_of(&self, batch: &Batch, seen: &Look, trust: Option<&Tensor>) -> Result<OfDomain> {
        let (n, t, _, c) = seen.template.dims4()?;
        let (from, count) = central_half(t);
        let template = seen
            .template
            .narrow(1, from, count)?
            .narrow(2, from, count)?
            .mean((1, 2))?;
        let cells = self.track.net().config().search_cells();
        let stride = self.track.net().config().stride() as f32;
        // The cells that the box losses look at.
        let targets = CellTargets::new(&batch.box_in_search, &batch.present, cells, stride);
        let mut shares = targets.box_weight;
        for of_pair in shares.chunks_exact_mut(cells * cells) {
            let sum: f32 = of_pair.iter().sum();
            if sum > 0.0 {
                of_pair.iter_mut().for_each(|v| *v /= sum);
            }
        }
        let shares = Tensor::from_vec(shares, (n, 1, cells * cells), &self.device)?;
        let map = seen.search.reshape((n, cells * cells, c))?;
        let in_search = shares.matmul(&map)?.squeeze(1)?;
        let present = Tensor::new(batch.present.as_slice(), &self.device)?;
        let weight = match trust {
            None => present.clone(),
            Some(trust) => (&present * trust.detach())?,
        };
        let template_weight = match trust {
            None => present.ones_like()?,
            // A template without its search crop's object counts as much as one that nobody is sure of.
            Some(_) => ((&weight * 0.5)? + 0.5)?,
        };
        Ok(OfDomain {
            region: Tensor::cat(&[&template, &in_search], 0)?,
            weight: Tensor::cat(&[&template_weight, &weight], 0)?,
            image: map.mean(1)?,
            in_search,
            in_search_weight: weight,
        })
    }

    fn rows(
        &self,
        batch: &AdaptBatch,
        source: &Look,
        target: &Look,
        labelled: Option<(&Batch, &Look)>,
    ) -> Result<Rows> {
        let trust = sigmoid(&target.maps.presence_logits)?;
        let a = self.rows_of(&batch.source, source, None)?;
        let mut b = self.rows_of(&batch.strong, target, Some(&trust))?;
        if let Some((batch, seen)) = labelled {
            // They are the target's too, and of them it is known.
            b = b.joined(&self.rows_of(batch, seen, None)?)?;
        }
        Ok(Rows {
            region: [a.region, b.region],
            weight: [a.weight, b.weight],
            image: [a.image, b.image],
            in_search: [a.in_search, b.in_search],
            in_search_weight: [a.in_search_weight, b.in_search_weight],
        })
    }

    /// The heads' losses on rows, with the reversal's strength for whoever made the rows; the parts by name.
    fn domains(&self, rows: &Rows, strength: f64) -> Result<Vec<(&'static str, Tensor)>> {
        let step = DomainStep::Separate;
        let mut losses = Vec::new();
        if let Some(head) = &self.region {
            let weights = Some([&rows.weight[0], &rows.weight[1]]);
            let [a, b] = &rows.region;
            losses.push(("region", head.loss(a, b, weights, strength, step)?.total));
        }
        if let Some(head) = &self.image {
            let [a, b] = &rows.image;
            losses.push(("image", head.loss(a, b, None, strength, step)?.total));
        }
        if let (Some(region), Some(image), true) =
            (&self.region, &self.image, self.config.consistency > 0.0)
        {
            let mut sum: Option<Tensor> = None;
            for domain in 0..2 {
                let of_map = sigmoid(&image.log_odds(&rows.image[domain])?)?;
                let of_object = sigmoid(&region.log_odds(&rows.in_search[domain])?)?;
                let weight = &rows.in_search_weight[domain];
                let apart = (((of_map - of_object)?.sqr()? * weight)?.sum_all()?
                    / (f64::from(weight.sum_all()?.to_scalar::<f32>()?) + 1e-6))?;
                sum = Some(match sum {
                    Some(sum) => (sum + apart)?,
                    None => apart,
                });
            }
            if let Some(sum) = sum {
                losses.push(("consistency", (sum * self.config.consistency)?));
            }
        }
        Ok(losses)
    }

    fn network_loss(&self, batch: &AdaptBatch, step: u64) -> Result<StepLoss> {
        let pass = self.track.pass();
        let strong = self.config.sees_target().then_some(&batch.strong);
        let labelled = batch.labelled.as_ref();
        let labelled = labelled.filter(|_| self.config.has(Part::Labelled));
        if strong.is_none() && labelled.is_none() {
            let seen = self.track.look(&batch.source, pass)?;
            return self.track.losses(&batch.source, &seen, step);
        }
        if self.config.has(Part::Teacher) && step > 0 {
            self.teach(step)?;
        }
        // One batch: both domains are normalised alike, as they will be when the network is used.
        let others = strong.into_iter().chain(labelled);
        let joint = others.fold(batch.source.clone(), |joint, batch| joint.joined(batch));
        let seen = self.track.look(&joint, pass)?;
        let mut next = 0;
        let mut of = |batch: &Batch| {
            let rows: Vec<u32> = (next..next + batch.len as u32).collect();
            next += batch.len as u32;
            seen.chosen(&rows)
        };
        let of_source = of(&batch.source)?;
        let of_target = strong.map(&mut of).transpose()?;
        let of_labelled = labelled.map(&mut of).transpose()?;
        let StepLoss {
            mut total,
            mut parts,
        } = self.track.losses(&batch.source, &of_source, step)?;
        let labelled = labelled.zip(of_labelled.as_ref());
        if let Some((batch, seen)) = labelled {
            let loss = self.track.losses(batch, seen, step)?;
            let loss = (loss.total * self.config.labelled_weight)?;
            parts.push(("labelled", loss.to_scalar()?));
            total = (total + loss)?;
        }
        let Some(of_target) = of_target else {
            return Ok(StepLoss { total, parts });
        };
        if self.config.has(Part::Teacher) {
            let (rows, labelled) = self.taught(batch)?;
            let mut value = 0.0;
            if !rows.is_empty() && self.config.teacher_weight > 0.0 {
                let loss =
                    self.track
                        .losses(&labelled.chosen(&rows), &of_target.chosen(&rows)?, step)?;
                let loss = (loss.total * self.config.teacher_weight)?;
                value = loss.to_scalar()?;
                total = (total + loss)?;
            }
            parts.push(("teacher", value));
            parts.push(("taught", rows.len() as f32 / batch.strong.len.max(1) as f32));
        }
        let rows = self.rows(batch, &of_source, &of_target, labelled)?;
        if self.config.has(Part::Prototypes) {
            let apart = prototypes_apart(&rows.region, &rows.weight)?;
            let loss = (apart * self.config.prototypes_weight)?;
            parts.push(("prototypes", loss.to_scalar()?));
            total = (total + loss)?;
        }
        let progress = step as f64 / self.steps.max(1) as f64;
        let strength = self.config.strength_at(progress);
        for (name, loss) in self.domains(&rows, strength)? {
            parts.push((name, loss.to_scalar()?));
            total = (total + loss)?;
        }
        *self.rows.borrow_mut() = Some(rows.detached());
        Ok(StepLoss { total, parts })
    }

    fn heads_loss(&self) -> Result<StepLoss> {
        let rows = self.rows.borrow_mut().take();
        let rows =
            rows.ok_or_else(|| candle_core::Error::msg("the heads move after the network"))?;
        let mut total: Option<Tensor> = None;
        for (_, loss) in self.domains(&rows, 0.0)? {
            total = Some(match total {
                Some(sum) => (sum + loss)?,
                None => loss,
            });
        }
        let total = total.ok_or_else(|| candle_core::Error::msg("there are no heads"))?;
        let parts = vec![("heads", total.to_scalar()?)];
        Ok(StepLoss { total, parts })
    }
}

/// Rows of one domain.
struct OfDomain {
    region: Tensor,
    weight: Tensor,
    image: Tensor,
    in_search: Tensor,
    in_search_weight: Tensor,
}

impl OfDomain {
    /// These rows and others behind them.
    fn joined(&self, others: &Self) -> Result<Self> {
        let both = |a: &Tensor, b: &Tensor| Tensor::cat(&[a, b], 0);
        Ok(Self {
            region: both(&self.region, &others.region)?,
            weight: both(&self.weight, &others.weight)?,
            image: both(&self.image, &others.image)?,
            in_search: both(&self.in_search, &others.in_search)?,
            in_search_weight: both(&self.in_search_weight, &others.in_search_weight)?,
        })
    }
}

/// Mean square distance of the weighted means of both domains, in spreads of the source, which are held fast.
///
/// # Shapes
/// `rows` `[N, F]` and `[M, F]`, `weights` `[N]` and `[M]`; a scalar comes back
fn prototypes_apart(rows: &[Tensor; 2], weights: &[Tensor; 2]) -> Result<Tensor> {
    let mean = |rows: &Tensor, weights: &Tensor| {
        let weights = weights.unsqueeze(1)?;
        let sum = (weights.sum_all()? + 1e-6)?;
        rows.broadcast_mul(&weights)?.sum(0)?.broadcast_div(&sum)
    };
    let source = mean(&rows[0], &weights[0])?;
    let target = mean(&rows[1], &weights[1])?;
    let held = rows[0].detach();
    let off = held.broadcast_sub(&held.mean_keepdim(0)?)?;
    let spread = (off.sqr()?.mean(0)? + SMALLEST_SPREAD)?;
    (source - target)?
        .sqr()?
        .broadcast_div(&spread)?
        .mean(D::Minus1)
}

impl Task for AdaptTask {
    type Batch = AdaptBatch;

    fn params(&self) -> &Params {
        &self.all
    }

    fn freeze_norm(&mut self, frozen: bool) {
        self.track.freeze_norm(frozen);
    }

    fn quantise(&mut self, quantised: bool) {
        self.track.quantise(quantised);
    }

    fn loss(&self, batch: &AdaptBatch, step: u64) -> Result<StepLoss> {
        self.network_loss(batch, step)
    }

    fn players(&self) -> Vec<Player> {
        let mut players = vec![Player {
            params: self.track.net().params().clone(),
            rate: 1.0,
        }];
        if !self.heads.vars.is_empty() {
            players.push(Player {
                params: self.heads.clone(),
                rate: self.config.head_rate,
            });
        }
        players
    }

    fn turn(&self, player: usize, batch: &AdaptBatch, step: u64) -> Result<Turn> {
        let loss = match player {
            0 => self.network_loss(batch, step)?,
            _ => self.heads_loss()?,
        };
        Ok(Turn::whole(loss))
    }

    fn best_by(&self) -> BestBy {
        BestBy::Highest("choice")
    }

    fn validate(&mut self, snapshot: &Snapshot) -> anyhow::Result<Vec<(&'static str, f64)>> {
        let found = self.measure(snapshot)?;
        let keeps = found.source_auc >= self.before.source_auc - self.select.most_source_loss;
        let told = |figure: Option<f64>| figure.unwrap_or(f64::NAN);
        Ok(vec![
            ("agreement", told(found.agreement)),
            ("presence", told(found.presence)),
            ("entropy", told(found.entropy)),
            ("proxy_a", told(found.proxy_a)),
            ("mmd", told(found.mmd)),
            ("source_auc", found.source_auc),
            // What loses the source stands behind everything that does not, and what nothing is known of behind that.
            (
                "choice",
                found.agreement.unwrap_or(-1.0) - f64::from(u8::from(!keeps)),
            ),
        ])
    }

    fn save_batch(&self, batch: &AdaptBatch, path: &Path) -> anyhow::Result<()> {
        self.track
            .save_batch(&batch.source.joined(&batch.strong), path)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::atomic::{AtomicBool, Ordering};

    use candle_core::Var;

    use super::*;
    use crate::checkpoint::Checkpoint;
    use crate::gap::pictures::PictureSet;
    use crate::model::ModelConfig;
    use crate::ops::Precision;
    use crate::optim::{AdamW, OptimConfig};
    use crate::task::track::LossConfig;
    use crate::train_loop::{LoopConfig, Outcome, Run};

    const STEPS: u64 = 10;

    fn task(parts: &[Part]) -> AdaptTask {
        let config = ModelConfig::tiny();
        let born = |seed| TrackerNet::new(&config, seed, &Device::Cpu).unwrap();
        let noise = |seed| Batch::noise(seed, 4, config.template_px, config.search_px);
        let track = TrackTask::new(
            born(1),
            born(1),
            LossConfig::default(),
            Precision::F32,
            1,
            &Device::Cpu,
            vec![noise(7)],
        );
        let parts = Parts {
            track,
            others: [born(2), born(3)],
            config: AdaptConfig {
                parts: parts.iter().copied().collect(),
                strength: 1.0,
                ..AdaptConfig::default()
            },
            select: SelectConfig::default(),
            steps: STEPS,
            bench: Bench {
                clips: Vec::new(),
                seeds: Vec::new(),
                source: PictureSet::default(),
                target: PictureSet::default(),
                tracker: roadhound_shared::tracker::TrackerConfig::default(),
                regions: 16,
                seed: 1,
            },
            before: Measures::default(),
            target: vec![noise(8), noise(9)],
            seed: 5,
        };
        AdaptTask::new(parts, &Device::Cpu).unwrap()
    }

    fn batch() -> AdaptBatch {
        let config = ModelConfig::tiny();
        let noise = |seed| Batch::noise(seed, 4, config.template_px, config.search_px);
        let mut strong = noise(12);
        // Another domain: darker.
        for crops in [&mut strong.template_rgb, &mut strong.search_rgb] {
            crops.iter_mut().for_each(|v| *v /= 3);
        }
        AdaptBatch {
            source: noise(11),
            weak: strong.clone(),
            strong,
            labelled: Some(noise(13)),
        }
    }

    fn gradient(task: &AdaptTask, player: usize, step: u64, name: &str) -> Vec<f32> {
        let turn = task.turn(player, &batch(), step).unwrap();
        let gradients = turn.loss.total.backward().unwrap();
        let found = gradients.get(&task.params().vars[name]);
        found.map_or_else(Vec::new, |g| g.flatten_all().unwrap().to_vec1().unwrap())
    }

    fn apart(a: &[f32], b: &[f32]) -> f32 {
        assert_eq!(a.len(), b.len());
        a.iter()
            .zip(b)
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f32::max)
    }

    #[test]
    fn the_network_climbs_what_the_heads_descend_and_only_as_the_reversal_grows() {
        for part in [Part::Region, Part::Image] {
            let task = task(&[part]);
            let head = format!("{DOMAIN}{}.last.weight", part.name());
            let plain = {
                let seen_both = self::task(&[Part::Prototypes]);
                let mut task = seen_both;
                task.config.prototypes_weight = 0.0;
                gradient(&task, 0, 0, "neck.weight")
            };
            // Without strength the domains do not reach the network at all.
            assert!(apart(&gradient(&task, 0, 0, "neck.weight"), &plain) < 1e-7);
            let late = gradient(&task, 0, STEPS, "neck.weight");
            assert!(apart(&late, &plain) > 1e-6, "{part:?}");
            // What reaches it is the heads' own gradient on the features, turned round.
            task.turn(0, &batch(), STEPS).unwrap();
            assert!(gradient(&task, 1, STEPS, &head).iter().any(|g| *g != 0.0));
            // The features of the heads' turn are held fast.
            task.turn(0, &batch(), STEPS).unwrap();
            assert!(gradient(&task, 1, STEPS, "neck.weight").is_empty());
        }
    }

    #[test]
    fn the_players_share_no_variable_and_nobody_moves_the_teacher() {
        let task = task(&Part::ALL);
        let players = task.players();
        let names = |player: &Player| player.params.vars.keys().cloned().collect::<Vec<_>>();
        let (network, heads) = (names(&players[0]), names(&players[1]));
        assert!(
            heads
                .iter()
                .all(|n| n.starts_with(DOMAIN) && !network.contains(n))
        );
        assert!(
            network
                .iter()
                .all(|n| !n.starts_with(TEACHER) && !n.starts_with(DOMAIN))
        );
        assert_eq!((players.len(), players[1].rate), (2, task.config.head_rate));
        let all = task.params().vars.len();
        assert_eq!(all, 2 * network.len() + heads.len());
        assert_eq!(self::task(&[Part::Teacher]).players().len(), 1);
    }

    #[test]
    fn the_teacher_follows_the_network_slowly() {
        let task = task(&[Part::Teacher]);
        let (own, taught) = ("neck.weight", "teacher.neck.weight");
        let values = |name: &str| task.snapshot().unwrap().values[name].clone();
        assert_eq!(values(own), values(taught));
        let before = values(taught);
        let moved: Vec<f32> = before.iter().map(|v| v + 1.0).collect();
        let var = &task.params().vars[own];
        var.set(&Tensor::from_vec(moved, var.shape(), &Device::Cpu).unwrap())
            .unwrap();
        task.teach(1_000_000).unwrap();
        let keep = task.config.teacher_keep as f32;
        for (now, then) in values(taught).iter().zip(&before) {
            assert!((now - then - (1.0 - keep)).abs() < 1e-4, "{now} {then}");
        }
    }

    #[test]
    fn a_pair_that_the_teacher_does_not_agree_with_is_not_learned() {
        let mut task = task(&[Part::Teacher]);
        task.config.teacher_iou = 0.0;
        task.config.teacher_presence = 0.0;
        let mut batch = batch();
        batch.strong.present[1] = 0.0;
        let (all, labelled) = task.taught(&batch).unwrap();
        assert_eq!(all, [0, 1, 2, 3]);
        // A label lies between the pseudo-track's box and the teacher's; where there is no target there is nothing to say.
        assert_ne!(labelled.box_in_search[0], batch.strong.box_in_search[0]);
        assert_eq!(labelled.box_in_search[1], batch.strong.box_in_search[1]);
        task.config.teacher_iou = 1.0;
        assert_eq!(task.taught(&batch).unwrap().0, [1]);
        task.config.teacher_iou = 0.0;
        task.config.teacher_presence = 1.0;
        assert_eq!(task.taught(&batch).unwrap().0, [1]);
    }

    #[test]
    fn a_region_is_the_mean_of_the_features_under_its_box() {
        let task = task(&[Part::Region]);
        let batch = batch().source;
        let seen = task.track.look(&batch, Pass::Eval).unwrap();
        let rows = task.rows_of(&batch, &seen, None).unwrap();
        let config = ModelConfig::tiny();
        let (cells, stride) = (config.search_cells(), config.stride() as f32);
        let targets = CellTargets::new(&batch.box_in_search, &batch.present, cells, stride);
        let map = seen.search.flatten(1, 2).unwrap().to_vec3::<f32>().unwrap();
        let found = rows.in_search.to_vec2::<f32>().unwrap();
        for (i, map) in map.iter().enumerate() {
            let inside: Vec<&Vec<f32>> = (0..cells * cells)
                .filter(|k| targets.box_weight[i * cells * cells + k] > 0.0)
                .map(|k| &map[k])
                .collect();
            for (c, value) in found[i].iter().enumerate() {
                let mean: f32 = inside.iter().map(|f| f[c]).sum::<f32>() / inside.len() as f32;
                assert!((value - mean).abs() < 1e-5, "{value} {mean}");
            }
        }
        assert_eq!(rows.region.dims(), [8, config.feature_channels]);
        assert_eq!(rows.weight.to_vec1::<f32>().unwrap(), [1.0; 8]);
    }

    #[test]
    fn the_gradient_of_the_prototypes_agrees_with_finite_differences_where_the_spread_is_held() {
        let numbers = |count: usize, by: f64| (0..count).map(|i| (i as f64 * by).sin()).collect();
        let a: Vec<f64> = numbers(12, 0.7);
        let b: Vec<f64> = numbers(9, 1.9);
        let weights = [vec![0.2f64, 1.0, 0.5, 0.8], vec![1.0f64, 0.1, 0.6]];
        let weight = |k: usize| Tensor::new(weights[k].as_slice(), &Device::Cpu).unwrap();
        let spread: Vec<f64> = (0..3)
            .map(|c| {
                let column: Vec<f64> = (0..4).map(|r| a[r * 3 + c]).collect();
                let mean = column.iter().sum::<f64>() / 4.0;
                column.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / 4.0 + SMALLEST_SPREAD
            })
            .collect();
        let by_hand = |a: &[f64], b: &[f64]| -> f64 {
            let mean = |rows: &[f64], w: &[f64], c: usize| {
                let sum: f64 = w.iter().enumerate().map(|(r, w)| w * rows[r * 3 + c]).sum();
                sum / (w.iter().sum::<f64>() + 1e-6)
            };
            let off = |c: usize| mean(a, &weights[0], c) - mean(b, &weights[1], c);
            (0..3).map(|c| off(c).powi(2) / spread[c]).sum::<f64>() / 3.0
        };
        let rows = |values: &[f64], n: usize| {
            Var::from_tensor(&Tensor::from_slice(values, (n, 3), &Device::Cpu).unwrap()).unwrap()
        };
        let (va, vb) = (rows(&a, 4), rows(&b, 3));
        let both = [va.as_tensor().clone(), vb.as_tensor().clone()];
        let loss = prototypes_apart(&both, &[weight(0), weight(1)]).unwrap();
        assert!((loss.to_scalar::<f64>().unwrap() - by_hand(&a, &b)).abs() < 1e-9);
        let gradients = loss.backward().unwrap();
        for (k, var) in [&va, &vb].into_iter().enumerate() {
            let found = gradients.get(var).unwrap().flatten_all().unwrap();
            for (i, found) in found.to_vec1::<f64>().unwrap().into_iter().enumerate() {
                let moved = |by: f64| {
                    let (mut a, mut b) = (a.clone(), b.clone());
                    if k == 0 {
                        a[i] += by
                    } else {
                        b[i] += by
                    }
                    by_hand(&a, &b)
                };
                let expected = (moved(1e-5) - moved(-1e-5)) / 2e-5;
                assert!(
                    (found - expected).abs() < 1e-7,
                    "{k} {i}: {found} {expected}"
                );
            }
        }
    }

    #[test]
    fn normalisation_moves_to_the_targets_moments_by_its_share_and_weights_stay() {
        let mut task = task(&[Part::Adabn]);
        let before = task.snapshot().unwrap();
        let moments = |values: &Snapshot| values.values["neck.bn.running_mean"].clone();
        let shipped = |task: &AdaptTask| {
            let net = task.candidate(&before).unwrap();
            net.params().snapshot().unwrap()
        };
        task.config.adabn_share = 0.0;
        assert!(apart(&moments(&shipped(&task)), &moments(&before)) < 1e-6);
        task.config.adabn_share = 1.0;
        let whole = shipped(&task);
        task.config.adabn_share = 0.5;
        let half = shipped(&task);
        let middle: Vec<f32> = moments(&whole)
            .iter()
            .zip(moments(&before))
            .map(|(a, b)| (a + b) / 2.0)
            .collect();
        assert!(apart(&moments(&whole), &moments(&before)) > 1e-3);
        assert!(apart(&moments(&half), &middle) < 1e-5);
        assert_eq!(half.values["neck.weight"], before.values["neck.weight"]);
    }

    #[test]
    fn labelled_pairs_weigh_what_they_are_told_and_their_objects_are_the_targets() {
        let mut task = task(&[Part::Labelled, Part::Region]);
        let slope = |task: &AdaptTask| gradient(task, 0, 0, "neck.weight");
        let whole = slope(&task);
        task.config.labelled_weight = 0.0;
        let none = slope(&task);
        task.config.labelled_weight = 0.5;
        let half = slope(&task);
        assert!(apart(&whole, &none) > 1e-4);
        let middle: Vec<f32> = whole
            .iter()
            .zip(&none)
            .map(|(a, b)| (a + b) / 2.0)
            .collect();
        assert!(apart(&half, &middle) < 1e-4 * whole.iter().fold(1.0, |m, v| v.abs().max(m)));
        task.turn(0, &batch(), 0).unwrap();
        let rows = task.rows.borrow_mut().take().unwrap();
        // Four pairs of the source; four of pseudo-tracks and four labelled ones; a template and a search crop each.
        let counts = rows.region.each_ref().map(|t| t.dims()[0]);
        assert_eq!(counts, [8, 16]);
        let weights = rows.weight[1].to_vec1::<f32>().unwrap();
        assert!(weights[8..].iter().all(|w| *w == 1.0), "{weights:?}");
    }

    #[test]
    fn a_stopped_adaptation_goes_on_to_the_weights_of_one_that_was_not() {
        const NEVER: &str = "never";
        fn flag() -> &'static AtomicBool {
            Box::leak(Box::new(AtomicBool::new(false)))
        }
        let steps = 4u64;
        let run = |folder: &Path, stop| Run {
            folder: folder.to_owned(),
            config: LoopConfig {
                pairs: 4 * steps,
                batch: 4,
                log_every: 1,
                validate_every: 2,
                checkpoint_every: 1,
                average_keep: 0.5,
                ..LoopConfig::default()
            },
            optim: OptimConfig::default(),
            config_toml: NEVER.to_owned(),
            stop,
            quiet: true,
        };
        let at = |step: u64| {
            let config = ModelConfig::tiny();
            let noise = |seed| Batch::noise(seed, 4, config.template_px, config.search_px);
            Ok(AdaptBatch {
                source: noise(100 + step),
                weak: noise(200 + step),
                strong: noise(200 + step),
                labelled: Some(noise(300 + step)),
            })
        };
        let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let through = run(folders[0].path(), flag());
        let all = |from: u64| Ok((from..steps).map(at));
        let outcome = through.train(&mut task(&Part::ALL), all).unwrap();
        assert_eq!(outcome, Outcome::Finished);

        let stop = flag();
        let stopped = run(folders[1].path(), stop);
        let mut seen = 0;
        let two = |from: u64| {
            Ok((from..steps).map(at).inspect(move |_| {
                seen += 1;
                stop.store(seen == 2, Ordering::Relaxed);
            }))
        };
        let outcome = stopped.train(&mut task(&Part::ALL), two).unwrap();
        assert_eq!(outcome, Outcome::Stopped);
        let half_way = Checkpoint::load(&stopped.last()).unwrap();
        assert!(half_way.step < steps);
        stop.store(false, Ordering::Relaxed);
        let outcome = stopped.train(&mut task(&Part::ALL), all).unwrap();
        assert_eq!(outcome, Outcome::Finished);
        let [a, b] = [&through, &stopped].map(|run| Checkpoint::load(&run.last()).unwrap());
        assert_eq!((a.step, &a.weights), (b.step, &b.weights));
        assert_eq!(a.average, b.average);
        assert_ne!(a.weights, half_way.weights);
        // Teacher and heads are among them.
        for prefix in [TEACHER, DOMAIN] {
            assert!(a.weights.values.keys().any(|name| name.starts_with(prefix)));
        }
    }

    #[test]
    fn every_part_has_its_own_losses_and_a_step_of_all_of_them_leaves_finite_weights() {
        let parts_of = |parts: &[Part]| -> Vec<&'static str> {
            let turn = task(parts).turn(0, &batch(), 3).unwrap();
            turn.loss
                .parts
                .iter()
                .map(|(name, _)| *name)
                .skip(6)
                .collect()
        };
        assert!(parts_of(&[Part::Fourier]).is_empty());
        assert_eq!(parts_of(&[Part::Region]), ["region"]);
        assert_eq!(parts_of(&[Part::Image]), ["image"]);
        assert_eq!(parts_of(&[Part::Prototypes]), ["prototypes"]);
        assert_eq!(parts_of(&[Part::Teacher]), ["teacher", "taught"]);
        assert_eq!(parts_of(&[Part::Labelled]), ["labelled"]);
        assert_eq!(
            parts_of(&[Part::Labelled, Part::Image]),
            ["labelled", "image"]
        );
        assert_eq!(
            parts_of(&[Part::Region, Part::Image]),
            ["region", "image", "consistency"]
        );
        let task = task(&Part::ALL);
        let optim = OptimConfig::default();
        let mut adams = [AdamW::default(), AdamW::default()];
        for step in 0..2 {
            for (number, player) in task.players().iter().enumerate() {
                let loss = task.turn(number, &batch(), step).unwrap().loss;
                let gradients = loss.total.backward().unwrap();
                adams[number]
                    .step(&player.params, &gradients, 1e-3, &optim)
                    .unwrap();
            }
        }
        let after = task.snapshot().unwrap();
        assert!(after.values.values().flatten().all(|v| v.is_finite()));
    }
}
