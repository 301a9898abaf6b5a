//! Which crops make a training pair.
//!
//! In goes an opened [`Dataset`] and the number of a pair; out comes a [`Pair`]: a template, a later template and a
//! search crop, with the target's box and whether it is there at all. A pair depends on its seed, epoch and index
//! alone, never on the pairs before it or on who draws it. Every crop is cut by `shared`, as on the board.
//!
//! ```no_run
//! # use std::sync::Arc;
//! use roadhound_trainer::augment::AugmentConfig;
//! use roadhound_trainer::data::{DataConfig, Dataset};
//! use roadhound_trainer::sampler::{Sampler, SamplerConfig, SamplerScratch, Split};
//! let dataset = Arc::new(Dataset::open(&DataConfig::default())?);
//! let sampler = Sampler::new(dataset, SamplerConfig::default(), AugmentConfig::default(), Split::Train, 7)?;
//! let pair = sampler.draw(0, 41, &mut SamplerScratch::default())?;
//! # Ok::<(), roadhound_trainer::data::DataError>(())
//! ```

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use roadhound_shared::geometry::{BoxLtrb, BoxXywh};
use roadhound_shared::preprocess::{Border, CropScratch, CropWindow, crop_rgb8};
use serde::{Deserialize, Serialize};

use crate::augment::{AugmentConfig, AugmentScratch, Crop, CutOutConfig, Fill, LightPlan, Weather};
use crate::augment::{blend_cut_out, blend_superellipse, cover};
use crate::augment::{chance, whole_within, within};
use crate::data::masks::MaskStore;
use crate::data::store::ImageId;
use crate::data::truth::{self, Hidden};
use crate::data::{DataError, Dataset, stable_hash};

mod config;
mod plan;

pub use self::config::{BalanceConfig, RivalConfig, SamplerConfig};
pub use self::plan::{Content, Latest, PairPlan, View};

/// Which sequences are drawn from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// Everything that is not held out.
    Train,
    /// The held-out sequences.
    Validation,
}

/// Added to the seed for the validation pairs, so that they share no random stream with training.
const VALIDATION_SEED: u64 = 0x7661_6c69;

impl Split {
    /// The seed of this split's pairs in a run of this seed.
    pub fn seed_of(self, seed: u64) -> u64 {
        match self {
            Self::Train => seed,
            Self::Validation => seed.wrapping_add(VALIDATION_SEED),
        }
    }
}

/// One training example. Crops are interleaved RGB, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct Pair {
    /// The target as first seen, `template_crop_px` square.
    pub template_rgb: Vec<u8>,
    /// The target as seen later, well or badly, `template_crop_px` square.
    pub template_latest_rgb: Vec<u8>,
    /// Where it is looked for, `search_crop_px` square.
    pub search_rgb: Vec<u8>,
    /// Pixels of the search crop. Where the target is absent: where it would be, or another object; not for training.
    pub box_in_search: BoxLtrb,
    /// The target's centre lies in the crop and enough of it can be seen.
    pub present: bool,
    /// Stable identity of the object on the template.
    pub instance: u64,
    /// The latest template differs from the first.
    pub has_distinct_latest: bool,
}

/// Buffers a worker reuses from pair to pair.
#[derive(Debug, Default)]
pub struct SamplerScratch {
    crop: CropScratch,
    augment: AugmentScratch,
    background: Crop,
    patch: Crop,
}

impl SamplerScratch {
    /// What cutting and what augmenting takes.
    pub(crate) fn parts(&mut self) -> (&mut CropScratch, &mut AugmentScratch) {
        (&mut self.crop, &mut self.augment)
    }
}

/// A target on one frame.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Appearance {
    /// The image.
    pub image: ImageId,
    /// Pixels of the loaded image.
    pub box_in_image: BoxXywh,
}

#[derive(Debug)]
pub(crate) struct Track {
    pub(crate) instance: u64,
    pub(crate) scene: u64,
    /// Number of the class's name, the same in all packs.
    pub(crate) class: u32,
    /// In order of the frames; at least one.
    pub(crate) appearances: Vec<Appearance>,
    /// Which of the appearances something hides in part.
    pub(crate) occluded: Vec<u32>,
    /// Where the target is known to be, but cannot be seen.
    pub(crate) hidden: Vec<Appearance>,
}

#[derive(Debug)]
pub(crate) struct PackTracks {
    /// Sum of the weights up to and including this pack.
    pub(crate) cumulative_weight: f32,
    /// At least one.
    pub(crate) tracks: Vec<Track>,
    /// For each track, the sum of the weights up to and including it.
    pub(crate) cumulative_track_weight: Vec<f64>,
}

impl PackTracks {
    fn pick_track(&self, rng: &mut ChaCha8Rng) -> &Track {
        let last = self.tracks.len() - 1;
        let at = rng.random::<f64>() * self.cumulative_track_weight[last];
        let index = self.cumulative_track_weight.partition_point(|w| *w <= at);
        &self.tracks[index.min(last)]
    }
}

/// Shortest side of a patch that is pasted.
const LEAST_PASTED_PX: f32 = 8.0;

/// How far from a point that is to stay visible a pasted thing has to end.
const PASTED_MARGIN_PX: f32 = 2.0;

/// Draws pairs from one split of a dataset. Shared by all workers.
#[derive(Debug)]
pub struct Sampler {
    dataset: Arc<Dataset>,
    config: SamplerConfig,
    augment: AugmentConfig,
    seed: u64,
    packs: Vec<PackTracks>,
    index: ObjectIndex,
    masks: MaskStore,
    /// By image: regions that hold objects not boxed one by one.
    ignore: Vec<Vec<BoxXywh>>,
}

impl Sampler {
    /// Collects the usable targets of a split. Packs without any are left out; the others keep their relative weights.
    ///
    /// # Errors
    /// Settings that cannot be used, or a split without a single usable target.
    pub fn new(
        dataset: Arc<Dataset>,
        config: SamplerConfig,
        augment: AugmentConfig,
        split: Split,
        seed: u64,
    ) -> Result<Self, DataError> {
        config.validate()?;
        augment.validate()?;
        let mut packs = Vec::new();
        let mut ignore = vec![Vec::new(); dataset.store().len()];
        let mut masks = MaskStore::default();
        let mut classes = HashMap::new();
        let mut cumulative_weight = 0.0;
        for pack in dataset.packs() {
            let mut tracks = Vec::new();
            let mut sequence_sizes = Vec::new();
            let hidden = hidden_in(&dataset, pack, config.absent_below_visible)?;
            for loaded in &pack.sequences {
                for (frame, image) in loaded.sequence.frames.iter().zip(&loaded.images) {
                    let regions = frame
                        .annotations
                        .iter()
                        .filter(|a| a.ignore)
                        .map(|a| a.box_in_image);
                    ignore[image.index()].extend(regions);
                }
                if loaded.held_out == (split == Split::Validation) && pack.weight > 0.0 {
                    let found = tracks_of(&dataset, &pack.name, loaded, &hidden, &mut classes);
                    sequence_sizes.extend(std::iter::repeat_n(found.len(), found.len()));
                    tracks.extend(found);
                }
            }
            if augment.use_masks {
                register_masks(&dataset, &tracks, &mut masks);
            }
            if !tracks.is_empty() {
                cumulative_weight += pack.weight;
                packs.push(PackTracks {
                    cumulative_weight,
                    cumulative_track_weight: track_weights(
                        &tracks,
                        &sequence_sizes,
                        &config.balance,
                    ),
                    tracks,
                });
            }
        }
        if packs.is_empty() {
            let split = match split {
                Split::Train => "training",
                Split::Validation => "validation",
            };
            let weighted = dataset.packs().iter().filter(|pack| pack.weight > 0.0);
            return Err(DataError::NoTargets {
                split,
                packs: weighted.map(|pack| pack.name.clone()).collect(),
            });
        }
        Ok(Self {
            index: ObjectIndex::new(&packs, classes.len(), dataset.store().len()),
            dataset,
            config,
            augment,
            seed,
            packs,
            masks,
            ignore,
        })
    }

    /// How pairs are made.
    pub fn config(&self) -> &SamplerConfig {
        &self.config
    }

    /// How many tracks there are to draw from.
    pub fn track_count(&self) -> usize {
        self.packs.iter().map(|pack| pack.tracks.len()).sum()
    }

    /// Decides what a pair shows, without touching a pixel.
    pub fn plan(&self, epoch: u64, index: u64) -> PairPlan {
        self.plan_with(epoch, index, &mut sample_rng(self.seed, epoch, index))
    }

    fn plan_with(&self, epoch: u64, index: u64, rng: &mut ChaCha8Rng) -> PairPlan {
        let drawn = epoch
            .saturating_mul(self.config.pairs_per_epoch)
            .saturating_add(index);
        let progress = (drawn as f32 / self.config.gap_ramp_pairs as f32).min(1.0);
        plan::Planner {
            config: &self.config,
            grey_share: self.augment.grey_share,
            packs: &self.packs,
            index: &self.index,
            ignore: &self.ignore,
            store: self.dataset.store(),
            progress,
        }
        .draw(rng)
    }

    /// Makes the pair that has this number, counted from the start of the run: see [`Sampler::draw`].
    ///
    /// # Errors
    /// An image that cannot be read.
    pub fn draw_number(
        &self,
        number: u64,
        scratch: &mut SamplerScratch,
    ) -> Result<Pair, DataError> {
        let pairs = self.config.pairs_per_epoch;
        self.draw(number / pairs, number % pairs, scratch)
    }

    /// Makes a pair: the same for the same seed, epoch and index, on any thread and in any order.
    ///
    /// # Errors
    /// An image that cannot be read.
    pub fn draw(
        &self,
        epoch: u64,
        index: u64,
        scratch: &mut SamplerScratch,
    ) -> Result<Pair, DataError> {
        let mut rng = sample_rng(self.seed, epoch, index);
        let plan = self.plan_with(epoch, index, &mut rng);
        let rng = &mut rng;
        let (template_px, search_px) = (self.config.template_crop_px, self.config.search_crop_px);

        let mut template = self.cut(&plan.template, template_px, plan.flip, scratch)?;
        let mut latest = match &plan.latest {
            Latest::Identical => None,
            Latest::Misaligned(view) | Latest::OtherFrame(view) => {
                Some(self.cut(view, template_px, plan.flip, scratch)?)
            }
        };
        let mut search = self.cut(&plan.search, search_px, plan.flip, scratch)?;
        let box_in_search = plan.search.box_in_crop(search_px, plan.flip);

        let mut present =
            plan.content == Content::Target && holds_centre(&box_in_search, search_px);
        if present {
            present = self.compose(&mut search, &box_in_search, &plan, rng, scratch)?;
        }
        // Each piece that is wiped out leaves the object's greater part: a template without its object would teach nothing.
        for (crop, b) in [
            (&mut search, box_in_search),
            (
                &mut template,
                plan.template.box_in_crop(template_px, plan.flip),
            ),
        ] {
            if chance(self.augment.cut_out.share, rng) {
                cut_out(crop, &b, &self.augment.cut_out, rng);
            }
        }

        let weather = Weather::draw(&self.augment, rng);

        let strength = self.augment.template_strength;
        let template_light =
            LightPlan::draw(&self.augment, strength, plan.grey, rng).on(weather, rng);
        let search_light = LightPlan::draw(&self.augment, 1.0, plan.grey, rng).on(weather, rng);
        let latest_light = match chance(self.augment.latest_like_search_share, rng) {
            true => search_light.clone(),
            false => LightPlan::draw(&self.augment, strength, plan.grey, rng).on(weather, rng),
        };
        template_light.apply(&mut template, &mut scratch.augment);
        search_light.apply(&mut search, &mut scratch.augment);
        if let Some(latest) = &mut latest {
            latest_light.apply(latest, &mut scratch.augment);
        }
        let has_distinct_latest = latest.is_some();
        Ok(Pair {
            template_latest_rgb: latest.unwrap_or_else(|| template.clone()).into_pixels(),
            template_rgb: template.into_pixels(),
            search_rgb: search.into_pixels(),
            box_in_search,
            present,
            instance: plan.instance,
            has_distinct_latest,
        })
    }

    /// Pastes the target elsewhere, other objects beside it, and things before it. Returns whether it is still there.
    fn compose(
        &self,
        search: &mut Crop,
        target: &BoxLtrb,
        plan: &PairPlan,
        rng: &mut ChaCha8Rng,
        scratch: &mut SamplerScratch,
    ) -> Result<bool, DataError> {
        let augment = &self.augment;
        let scene = plan.scene;
        if chance(augment.paste.share, rng) {
            if let Some(other) = plan::other_scene(&self.packs, scene, rng) {
                self.paste_on_other_background(search, target, other, plan, rng, scratch)?;
            }
        } else if chance(augment.distractor.share, rng) {
            // Beside the target, and no larger than that leaves its centre visible.
            let (w, h) = (
                target.right_px - target.left_px,
                target.bottom_px - target.top_px,
            );
            let (cx, cy) = (target.left_px + w / 2.0, target.top_px + h / 2.0);
            for _ in 0..5 {
                let at = match plan.rival {
                    Some(_) => self.place_beside(target, rng),
                    None => self.place_in_search(10.0, rng),
                };
                if (at[0] - cx).abs() > 0.8 * w || (at[1] - cy).abs() > 0.8 * h {
                    let away = [(at[0] - cx).abs(), (at[1] - cy).abs()];
                    self.paste_distractor(search, at, Some(away), plan, rng, scratch)?;
                    break;
                }
            }
        }
        let occluder = &augment.occluder;
        if chance(occluder.absent_share, rng) {
            self.occlude(
                search,
                target,
                within(occluder.absent_cover, rng),
                scene,
                rng,
                scratch,
            )?;
            return Ok(false);
        }
        if chance(occluder.share, rng) {
            let share = within(occluder.cover, rng);
            let other = match chance(occluder.object_share, rng) {
                true => plan::other_scene(&self.packs, scene, rng),
                false => None,
            };
            match other {
                Some(other) => {
                    self.occlude_with_object(search, target, share, other, rng, scratch)?;
                }
                None => self.occlude(search, target, share, scene, rng, scratch)?,
            }
        }
        Ok(true)
    }

    fn place_in_search(&self, margin_px: f32, rng: &mut ChaCha8Rng) -> [f32; 2] {
        let range = [margin_px, self.config.search_crop_px as f32 - margin_px];
        [within(range, rng), within(range, rng)]
    }

    /// A place next to the target, most often at its side, as in a lane.
    fn place_beside(&self, target: &BoxLtrb, rng: &mut ChaCha8Rng) -> [f32; 2] {
        let (w, h) = (
            target.right_px - target.left_px,
            target.bottom_px - target.top_px,
        );
        let (sin, cos) = within([0.0, core::f32::consts::TAU], rng).sin_cos();
        let reach = within(self.config.rival.reach_sides, rng);
        [
            target.left_px + w / 2.0 + reach * w * cos,
            target.top_px + h / 2.0 + 0.7 * reach * h * sin,
        ]
    }

    fn paste_on_other_background(
        &self,
        search: &mut Crop,
        target: &BoxLtrb,
        other: Appearance,
        plan: &PairPlan,
        rng: &mut ChaCha8Rng,
        scratch: &mut SamplerScratch,
    ) -> Result<(), DataError> {
        let b = other.box_in_image;
        let scale = self.config.search_context * within([-0.5, 0.5], rng).exp();
        let mut window = CropWindow::around(b, scale);
        window.cx_px = b.x_px + b.w_px * within([-0.5, 1.5], rng);
        window.cy_px = b.y_px + b.h_px * within([-0.5, 1.5], rng);
        let mut background = std::mem::take(&mut scratch.background);
        background.resize(search.side_px());
        self.cut_into(
            other.image,
            &window,
            chance(0.5, rng),
            scratch,
            &mut background,
        )?;
        if chance(self.augment.paste.with_distractor_share, rng) {
            let at = match plan.rival {
                Some(_) => self.place_beside(target, rng),
                None => self.place_in_search(20.0, rng),
            };
            // The target is put on top of it.
            self.paste_distractor(&mut background, at, None, plan, rng, scratch)?;
        }
        let View {
            image,
            box_in_image,
            window,
        } = plan.search;
        let power = [2.5, 4.0, 6.0][rng.random_range(0..3)];
        let side_px = search.side_px();
        match self.silhouette(image, &box_in_image, &window, side_px, plan.flip)? {
            Some(opacity) => blend_cut_out(&mut background, search, [0, 0], &opacity),
            None => blend_superellipse(&mut background, search, [0, 0], target, power),
        }
        std::mem::swap(search, &mut background);
        scratch.background = background;
        Ok(())
    }

    /// What a pack's mask says of an object, for a crop of it.
    fn silhouette(
        &self,
        image: ImageId,
        box_in_image: &BoxXywh,
        window: &CropWindow,
        side_px: u32,
        flip: bool,
    ) -> Result<Option<Vec<u8>>, DataError> {
        let image_px = self.dataset.store().loaded_size_px(image);
        self.masks
            .silhouette(image, image_px, box_in_image, window, side_px, flip)
    }

    /// Pastes the rival, or an object of another scene, centred. Where a point that is `away` from there has to stay
    /// visible, it is made smaller than it was drawn, or left out where next to nothing would remain of it.
    fn paste_distractor(
        &self,
        canvas: &mut Crop,
        at: [f32; 2],
        away: Option<[f32; 2]>,
        plan: &PairPlan,
        rng: &mut ChaCha8Rng,
        scratch: &mut SamplerScratch,
    ) -> Result<(), DataError> {
        let other = plan.rival;
        let other = other.or_else(|| plan::other_scene(&self.packs, plan.scene, rng));
        let Some(other) = other else {
            return Ok(());
        };
        let mut size_px = within(self.augment.distractor.size_px, rng);
        if let Some(away) = away {
            size_px = size_px.min(largest_beside(&other.box_in_image, away));
            if size_px < LEAST_PASTED_PX {
                return Ok(());
            }
        }
        self.paste_object(canvas, other, at, size_px, rng, scratch)
    }

    /// Puts another object before a share of the target's width, its wheels near the target's: passing traffic.
    fn occlude_with_object(
        &self,
        canvas: &mut Crop,
        target: &BoxLtrb,
        share: f32,
        other: Appearance,
        rng: &mut ChaCha8Rng,
        scratch: &mut SamplerScratch,
    ) -> Result<(), DataError> {
        let (w, h) = (
            target.right_px - target.left_px,
            target.bottom_px - target.top_px,
        );
        let b = other.box_in_image;
        let aspect = (b.w_px / b.h_px.max(1.0)).sqrt();
        let size_px = within([0.8, 1.4], rng) * (w * h).max(1.0).sqrt();
        let (half_w, half_h) = (size_px * aspect / 2.0, size_px / aspect / 2.0);
        let cx = match chance(0.5, rng) {
            true => target.left_px + share * w - half_w,
            false => target.right_px - share * w + half_w,
        };
        let cy = target.bottom_px - half_h + within([-0.05, 0.2], rng) * h;
        self.paste_object(canvas, other, [cx, cy], size_px, rng, scratch)
    }

    /// Pastes an object centred at `at`, the root of its area `size_px`, along its mask or within a soft outline.
    fn paste_object(
        &self,
        canvas: &mut Crop,
        other: Appearance,
        at: [f32; 2],
        size_px: f32,
        rng: &mut ChaCha8Rng,
        scratch: &mut SamplerScratch,
    ) -> Result<(), DataError> {
        let b = other.box_in_image;
        let patch_from_image = size_px / b.area().max(1.0).sqrt();
        let window_px = 1.1 * b.w_px.max(b.h_px);
        let patch_px = (window_px * patch_from_image).round() as u32;
        let patch_px = patch_px.clamp(LEAST_PASTED_PX as u32, canvas.side_px());
        let patch_from_image = patch_px as f32 / window_px;
        let (cx, cy) = b.center();
        let mut patch = std::mem::take(&mut scratch.patch);
        patch.resize(patch_px);
        let window = CropWindow::square(cx, cy, window_px);
        let flip = chance(0.5, rng);
        self.cut_into(other.image, &window, flip, scratch, &mut patch)?;
        let opacity = self.silhouette(other.image, &b, &window, patch_px, flip)?;
        let origin = at.map(|centre| (centre - patch_px as f32 / 2.0).round() as i32);
        let middle = origin.map(|start| start as f32 + patch_px as f32 / 2.0);
        let half = [
            b.w_px * patch_from_image / 2.0,
            b.h_px * patch_from_image / 2.0,
        ];
        let area = BoxLtrb {
            left_px: middle[0] - half[0],
            top_px: middle[1] - half[1],
            right_px: middle[0] + half[0],
            bottom_px: middle[1] + half[1],
        };
        let power = [2.5, 4.0, 6.0][rng.random_range(0..3)];
        match opacity {
            Some(opacity) => blend_cut_out(canvas, &patch, origin, &opacity),
            None => blend_superellipse(canvas, &patch, origin, &area, power),
        }
        scratch.patch = patch;
        Ok(())
    }

    /// Hides a share of the box from one side, or behind a pole.
    fn occlude(
        &self,
        canvas: &mut Crop,
        target: &BoxLtrb,
        share: f32,
        scene: u64,
        rng: &mut ChaCha8Rng,
        scratch: &mut SamplerScratch,
    ) -> Result<(), DataError> {
        let (w, h) = (
            target.right_px - target.left_px,
            target.bottom_px - target.top_px,
        );
        // Reaching beyond the box, so that the occluder's edges do not give the box away.
        let mut area = BoxLtrb {
            left_px: target.left_px - within([0.0, 0.4], rng) * w,
            top_px: target.top_px - within([0.0, 0.4], rng) * h,
            right_px: target.right_px + within([0.0, 0.4], rng) * w,
            bottom_px: target.bottom_px + within([0.0, 0.4], rng) * h,
        };
        match rng.random_range(0..5) {
            0 => area.right_px = target.left_px + share * w,
            1 => area.left_px = target.right_px - share * w,
            2 => area.bottom_px = target.top_px + share * h,
            3 => area.top_px = target.bottom_px - share * h,
            _ => {
                area.left_px = target.left_px + within([0.0, 1.0 - share], rng) * w;
                area.right_px = area.left_px + share * w;
            }
        }
        let side = canvas.side_px();
        let other = if chance(0.6, rng) {
            plan::other_scene(&self.packs, scene, rng)
        } else {
            None
        };
        let Some(other) = other else {
            let colour = canvas.at(rng.random_range(0..side), rng.random_range(0..side));
            cover(canvas, &area, Fill::Colour(colour));
            return Ok(());
        };
        let longer = (area.right_px - area.left_px).max(area.bottom_px - area.top_px);
        let mut patch = std::mem::take(&mut scratch.patch);
        patch.resize((longer.ceil() as u32).clamp(8, side));
        let window = CropWindow::around(other.box_in_image, within([0.3, 0.8], rng));
        self.cut_into(other.image, &window, chance(0.5, rng), scratch, &mut patch)?;
        cover(canvas, &area, Fill::Texture(&patch));
        scratch.patch = patch;
        Ok(())
    }

    fn cut(
        &self,
        view: &View,
        side_px: u32,
        flip: bool,
        scratch: &mut SamplerScratch,
    ) -> Result<Crop, DataError> {
        let mut crop = Crop::default();
        crop.resize(side_px);
        self.cut_into(view.image, &view.window, flip, scratch, &mut crop)?;
        Ok(crop)
    }

    fn cut_into(
        &self,
        image: ImageId,
        window: &CropWindow,
        flip: bool,
        scratch: &mut SamplerScratch,
        out: &mut Crop,
    ) -> Result<(), DataError> {
        let image = self.dataset.store().get(image)?;
        // The mean was taken once, on load; the tracker takes it from every frame.
        let border = Border::Constant(image.mean_rgb);
        crop_rgb8(
            &image.view(),
            window,
            out.side_px(),
            border,
            &mut scratch.crop,
            out.pixels_mut(),
        )?;
        if flip {
            out.mirror();
        }
        Ok(())
    }
}

fn tracks_of(
    dataset: &Dataset,
    pack: &str,
    loaded: &crate::data::LoadedSequence,
    hidden: &HashMap<String, Vec<Hidden>>,
    classes: &mut HashMap<Arc<str>, u32>,
) -> Vec<Track> {
    let name = loaded.sequence.name.as_bytes();
    let mut tracks: std::collections::BTreeMap<u32, Track> = std::collections::BTreeMap::new();
    let hidden = hidden.get(&*loaded.sequence.name).map_or(&[][..], |v| v);
    let is_hidden: HashSet<(u32, u32)> = hidden.iter().map(|h| (h.frame, h.instance)).collect();
    for (frame, &image) in loaded.sequence.frames.iter().zip(&loaded.images) {
        let (width_px, height_px) = dataset.store().loaded_size_px(image);
        for annotation in &frame.annotations {
            if annotation.ignore
                || is_hidden.contains(&(frame.number, annotation.instance))
                || !dataset
                    .target_filter()
                    .accepts(&annotation.box_in_image, width_px, height_px)
            {
                continue;
            }
            let next_class = classes.len() as u32;
            let class = match classes.get(&annotation.class) {
                Some(class) => *class,
                None => *classes
                    .entry(annotation.class.clone())
                    .or_insert(next_class),
            };
            let track = tracks.entry(annotation.instance).or_insert_with(|| Track {
                instance: stable_hash(&[pack.as_bytes(), name, &annotation.instance.to_le_bytes()]),
                scene: loaded.scene,
                class,
                appearances: Vec::new(),
                occluded: Vec::new(),
                hidden: Vec::new(),
            });
            if annotation.occluded == Some(true) {
                track.occluded.push(track.appearances.len() as u32);
            }
            track.appearances.push(Appearance {
                image,
                box_in_image: annotation.box_in_image,
            });
        }
    }
    for hidden in hidden {
        let frames = &loaded.sequence.frames;
        let Ok(at) = frames.binary_search_by_key(&hidden.frame, |frame| frame.number) else {
            continue;
        };
        let image = loaded.images[at];
        let (width_px, height_px) = dataset.store().loaded_size_px(image);
        let [across, down] = dataset.store().loaded_from_stored(image);
        let b = hidden.box_in_image;
        let box_in_image = BoxXywh::new(
            b.x_px * across,
            b.y_px * down,
            b.w_px * across,
            b.h_px * down,
        );
        // Only on the image: what has left it needs no search crop to be absent from.
        let filter = dataset.target_filter();
        if let Some(track) = tracks.get_mut(&hidden.instance)
            && filter.accepts(&box_in_image, width_px, height_px)
        {
            track.hidden.push(Appearance {
                image,
                box_in_image,
            });
        }
    }
    tracks.into_values().collect()
}

/// The objects of a pack that its table of truths says are hidden, where it has such a table.
fn hidden_in(
    dataset: &Dataset,
    pack: &crate::data::Pack,
    below: f32,
) -> Result<HashMap<String, Vec<Hidden>>, DataError> {
    let first = pack.sequences.iter().find_map(|s| s.images.first());
    let table = first.and_then(|image| truth::table_path(dataset.store().path(*image)));
    match table.filter(|table| table.is_file()) {
        Some(table) => truth::read(&table, below),
        None => Ok(HashMap::new()),
    }
}

/// Sums of the tracks' weights: rare classes, sizes and sequences come oftener, as far as the exponents say.
fn track_weights(tracks: &[Track], sequence_sizes: &[usize], balance: &BalanceConfig) -> Vec<f64> {
    let octave = |track: &Track| {
        let middle = track.appearances[track.appearances.len() / 2].box_in_image;
        middle.area().max(1.0).sqrt().log2().floor() as i32
    };
    let (mut of_class, mut of_size) = (HashMap::new(), HashMap::new());
    for track in tracks {
        *of_class.entry(track.class).or_insert(0_u32) += 1;
        *of_size.entry(octave(track)).or_insert(0_u32) += 1;
    }
    let mut sum = 0.0;
    tracks
        .iter()
        .zip(sequence_sizes)
        .map(|(track, &in_sequence)| {
            let rarity = |count: f64, exponent: f32| count.powf(-f64::from(exponent));
            sum += rarity(f64::from(of_class[&track.class]), balance.class)
                * rarity(f64::from(of_size[&octave(track)]), balance.size)
                * rarity(in_sequence as f64, balance.sequence);
            sum
        })
        .collect()
}

fn register_masks(dataset: &Dataset, tracks: &[Track], masks: &mut MaskStore) {
    // One look decides for the pack: a hundred thousand look-ups for files that are not there take seconds.
    let path_of = |track: &Track| dataset.store().path(track.appearances[0].image).to_owned();
    let has_masks = |track: &Track| {
        let mask = crate::data::masks::mask_path(&path_of(track));
        mask.is_some_and(|mask| mask.parent().is_some_and(std::path::Path::is_dir))
    };
    if !tracks.first().is_some_and(has_masks) {
        return;
    }
    for appearance in tracks.iter().flat_map(|track| &track.appearances) {
        masks.register(appearance.image, dataset.store().path(appearance.image));
    }
}

/// Largest root of its area that an object may be pasted with, for a point `away` from its centre, across and down, not
/// to be covered.
fn largest_beside(object: &BoxXywh, away: [f32; 2]) -> f32 {
    let aspect = (object.w_px / object.h_px.max(1.0)).sqrt();
    // Edges are soft, and patches lie on whole pixels.
    let [across, down] = away.map(|side| 2.0 * (side - PASTED_MARGIN_PX));
    (across / aspect).max(down * aspect)
}

/// Wipes pieces out of a crop: rectangles of one of its own colours, centred on the object's box or at most half of its
/// side beyond, none of which covers more than half of it. Several may cover more.
fn cut_out(crop: &mut Crop, object: &BoxLtrb, config: &CutOutConfig, rng: &mut ChaCha8Rng) {
    let side_px = crop.side_px();
    let (w, h) = (
        object.right_px - object.left_px,
        object.bottom_px - object.top_px,
    );
    for _ in 0..whole_within(config.pieces, rng) {
        let (piece_w, piece_h) = (within(config.side, rng) * w, within(config.side, rng) * h);
        let cx = object.left_px + within([-0.5, 1.5], rng) * w;
        let cy = object.top_px + within([-0.5, 1.5], rng) * h;
        let colour = crop.at(
            rng.random_range(0..side_px.max(1)),
            rng.random_range(0..side_px.max(1)),
        );
        if piece_w * piece_h > 0.5 * w * h {
            continue;
        }
        let area = BoxLtrb {
            left_px: cx - piece_w / 2.0,
            top_px: cy - piece_h / 2.0,
            right_px: cx + piece_w / 2.0,
            bottom_px: cy + piece_h / 2.0,
        };
        cover(crop, &area, Fill::Colour(colour));
    }
}

/// Where the objects of a class are: by image, and over all packs.
#[derive(Debug, Default)]
pub(crate) struct ObjectIndex {
    by_image: Vec<Vec<Neighbour>>,
    /// Pack and track.
    by_class: Vec<Vec<(u32, u32)>>,
}

/// An object on an image.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Neighbour {
    pub(crate) instance: u64,
    pub(crate) class: u32,
    pub(crate) box_in_image: BoxXywh,
}

impl ObjectIndex {
    fn new(packs: &[PackTracks], classes: usize, images: usize) -> Self {
        let mut index = Self {
            by_image: vec![Vec::new(); images],
            by_class: vec![Vec::new(); classes],
        };
        for (pack, tracks) in packs.iter().enumerate() {
            for (at, track) in tracks.tracks.iter().enumerate() {
                index.by_class[track.class as usize].push((pack as u32, at as u32));
                for appearance in &track.appearances {
                    index.by_image[appearance.image.index()].push(Neighbour {
                        instance: track.instance,
                        class: track.class,
                        box_in_image: appearance.box_in_image,
                    });
                }
            }
        }
        index
    }

    pub(crate) fn on(&self, image: ImageId) -> &[Neighbour] {
        &self.by_image[image.index()]
    }

    pub(crate) fn of_class(&self, class: u32) -> &[(u32, u32)] {
        &self.by_class[class as usize]
    }
}

fn holds_centre(b: &BoxLtrb, side_px: u32) -> bool {
    let inside = |from: f32, to: f32| (0.0..side_px as f32).contains(&((from + to) / 2.0));
    inside(b.left_px, b.right_px) && inside(b.top_px, b.bottom_px)
}

/// The generator of one pair. The three numbers are the key of the cipher, so no two pairs share a stream.
pub fn sample_rng(seed: u64, epoch: u64, index: u64) -> ChaCha8Rng {
    let mut key = [0_u8; 32];
    for (bytes, number) in
        key.chunks_exact_mut(8)
            .zip([seed, epoch, index, u64::from_le_bytes(*b"roadpair")])
    {
        bytes.copy_from_slice(&number.to_le_bytes());
    }
    ChaCha8Rng::from_seed(key)
}

#[cfg(test)]
mod tests;
