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

use std::sync::Arc;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use roadhound_shared::geometry::{BoxLtrb, BoxXywh};
use roadhound_shared::preprocess::{Border, CropScratch, CropWindow, crop_rgb8};
use serde::{Deserialize, Serialize};

use crate::augment::{AugmentConfig, AugmentScratch, Crop, Fill, LightPlan};
use crate::augment::{blend_superellipse, chance, check_range, cover, within};
use crate::data::store::ImageId;
use crate::data::{DataError, Dataset, stable_hash};

mod plan;

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

/// How pairs are made. Defaults are the rehearsed recipe. Lengths in pixels are pixels of the crop they speak of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SamplerConfig {
    /// Side of the template crops.
    pub template_crop_px: u32,
    /// Side of the search crop.
    pub search_crop_px: u32,
    /// Context factor of the template window, see [`CropWindow::around`].
    pub template_context: f32,
    /// Context factor of the search window.
    pub search_context: f32,
    /// Pairs in an epoch: the unit in which a run counts its passes.
    pub pairs_per_epoch: u64,
    /// Furthest two frames of a track, as a share of its length, at the first pair.
    pub gap_at_start: f32,
    /// The same once [`Self::gap_ramp_pairs`] pairs have been drawn.
    pub gap_at_end: f32,
    /// Pairs over which the gap grows.
    pub gap_ramp_pairs: u64,
    /// Share of the video pairs made from one frame.
    pub same_frame_share: f32,
    /// Template: centre moves by up to this share of the window's side.
    pub template_shift: f32,
    /// Template: natural logarithm of the scale.
    pub template_log_scale: f32,
    /// Misaligned latest template: the same two, wider.
    pub misaligned_shift: f32,
    /// See [`Self::misaligned_shift`].
    pub misaligned_log_scale: f32,
    /// Share of the latest templates that repeat the first one.
    pub identical_latest_share: f32,
    /// Of the others, how many are misaligned; the rest come from another frame where there is one.
    pub misaligned_latest_share: f32,
    /// Search: the target's centre moves by up to this.
    pub search_shift_px: f32,
    /// Share of the search crops whose shift is wide instead.
    pub wide_shift_share: f32,
    /// The wide shift.
    pub wide_shift_px: f32,
    /// Search: natural logarithm of the scale.
    pub search_log_scale: f32,
    /// Share of the search crops whose scale is wide instead.
    pub wide_scale_share: f32,
    /// Natural logarithm of the wide scale.
    pub wide_log_scale: f32,
    /// Natural logarithm of the change of aspect where both crops come from one image.
    pub still_log_aspect: f32,
    /// The same where true motion changes the aspect already.
    pub video_log_aspect: f32,
    /// Share of the pairs whose search crop shows another object.
    pub negative_share: f32,
    /// Of those, how many take the object from the same pack.
    pub negative_same_pack_share: f32,
    /// Share of the pairs whose search crop shows another part of the target's own image.
    pub elsewhere_share: f32,
    /// Largest part of a crop that may be ignore region where the crop is to say that the target is absent.
    pub absent_max_ignore: f32,
}

impl Default for SamplerConfig {
    fn default() -> Self {
        Self {
            template_crop_px: 128,
            search_crop_px: 256,
            template_context: 1.0,
            search_context: 2.0,
            pairs_per_epoch: 20_000,
            gap_at_start: 0.3,
            gap_at_end: 1.0,
            gap_ramp_pairs: 60_000,
            same_frame_share: 0.15,
            template_shift: 0.03,
            template_log_scale: 0.07,
            misaligned_shift: 0.08,
            misaligned_log_scale: 0.18,
            identical_latest_share: 0.15,
            misaligned_latest_share: 0.5,
            search_shift_px: 64.0,
            wide_shift_share: 0.3,
            wide_shift_px: 96.0,
            search_log_scale: 0.4,
            wide_scale_share: 0.2,
            wide_log_scale: 0.7,
            still_log_aspect: 0.12,
            video_log_aspect: 0.05,
            negative_share: 0.15,
            negative_same_pack_share: 0.7,
            elsewhere_share: 0.03,
            absent_max_ignore: 0.1,
        }
    }
}

impl SamplerConfig {
    /// Checks what the types cannot.
    ///
    /// # Errors
    /// [`DataError::Config`] with the first field that cannot be used.
    pub fn validate(&self) -> Result<(), DataError> {
        for (field, share) in [
            ("sampler.gap_at_start", self.gap_at_start),
            ("sampler.gap_at_end", self.gap_at_end),
            ("sampler.same_frame_share", self.same_frame_share),
            (
                "sampler.identical_latest_share",
                self.identical_latest_share,
            ),
            (
                "sampler.misaligned_latest_share",
                self.misaligned_latest_share,
            ),
            ("sampler.wide_shift_share", self.wide_shift_share),
            ("sampler.wide_scale_share", self.wide_scale_share),
            ("sampler.negative_share", self.negative_share),
            (
                "sampler.negative_same_pack_share",
                self.negative_same_pack_share,
            ),
            ("sampler.elsewhere_share", self.elsewhere_share),
            ("sampler.absent_max_ignore", self.absent_max_ignore),
            (
                "sampler.negative_share + elsewhere_share",
                self.negative_share + self.elsewhere_share,
            ),
        ] {
            check_range(field, [share, share], [0.0, 1.0])?;
        }
        for (field, bound) in [
            ("sampler.template_shift", self.template_shift),
            ("sampler.template_log_scale", self.template_log_scale),
            ("sampler.misaligned_shift", self.misaligned_shift),
            ("sampler.misaligned_log_scale", self.misaligned_log_scale),
            ("sampler.search_log_scale", self.search_log_scale),
            ("sampler.wide_log_scale", self.wide_log_scale),
            ("sampler.still_log_aspect", self.still_log_aspect),
            ("sampler.video_log_aspect", self.video_log_aspect),
        ] {
            check_range(field, [0.0, bound], [0.0, 2.0])?;
        }
        for (field, bound) in [
            ("sampler.search_shift_px", self.search_shift_px),
            ("sampler.wide_shift_px", self.wide_shift_px),
        ] {
            check_range(field, [0.0, bound], [0.0, self.search_crop_px as f32])?;
        }
        check_range(
            "sampler.template_context",
            [self.template_context; 2],
            [0.1, 10.0],
        )?;
        check_range(
            "sampler.search_context",
            [self.search_context; 2],
            [0.1, 10.0],
        )?;
        check_range(
            "sampler.template_crop_px",
            [self.template_crop_px as f32; 2],
            [16.0, 1024.0],
        )?;
        check_range(
            "sampler.search_crop_px",
            [self.search_crop_px as f32; 2],
            [16.0, 1024.0],
        )?;
        if self.pairs_per_epoch == 0 || self.gap_ramp_pairs == 0 {
            let value = format!("{} and {}", self.pairs_per_epoch, self.gap_ramp_pairs);
            let field = "sampler.pairs_per_epoch and gap_ramp_pairs";
            return Err(DataError::Config {
                field,
                value,
                reason: "must be at least 1",
            });
        }
        Ok(())
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

/// A target on one frame.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Appearance {
    pub(crate) image: ImageId,
    pub(crate) box_in_image: BoxXywh,
}

#[derive(Debug)]
pub(crate) struct Track {
    pub(crate) instance: u64,
    pub(crate) scene: u64,
    /// In order of the frames; at least one.
    pub(crate) appearances: Vec<Appearance>,
}

#[derive(Debug)]
pub(crate) struct PackTracks {
    /// Sum of the weights up to and including this pack.
    pub(crate) cumulative_weight: f32,
    /// At least one.
    pub(crate) tracks: Vec<Track>,
}

/// Draws pairs from one split of a dataset. Shared by all workers.
#[derive(Debug)]
pub struct Sampler {
    dataset: Arc<Dataset>,
    config: SamplerConfig,
    augment: AugmentConfig,
    seed: u64,
    packs: Vec<PackTracks>,
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
        let mut cumulative_weight = 0.0;
        for pack in dataset.packs() {
            let mut tracks = Vec::new();
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
                    tracks.extend(tracks_of(&dataset, &pack.name, loaded));
                }
            }
            if !tracks.is_empty() {
                cumulative_weight += pack.weight;
                packs.push(PackTracks {
                    cumulative_weight,
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
            dataset,
            config,
            augment,
            seed,
            packs,
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

    /// Epoch and index of a pair counted from the start of the run.
    pub fn position(&self, pair_number: u64) -> (u64, u64) {
        (
            pair_number / self.config.pairs_per_epoch,
            pair_number % self.config.pairs_per_epoch,
        )
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
            ignore: &self.ignore,
            store: self.dataset.store(),
            progress,
        }
        .draw(rng)
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
            present = self.compose(&mut search, &box_in_search, plan.scene, rng, scratch)?;
        }

        let strength = self.augment.template_strength;
        let template_light = LightPlan::draw(&self.augment, strength, plan.grey, rng);
        let search_light = LightPlan::draw(&self.augment, 1.0, plan.grey, rng);
        let latest_light = match chance(self.augment.latest_like_search_share, rng) {
            true => search_light.clone(),
            false => LightPlan::draw(&self.augment, strength, plan.grey, rng),
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
        scene: u64,
        rng: &mut ChaCha8Rng,
        scratch: &mut SamplerScratch,
    ) -> Result<bool, DataError> {
        let augment = &self.augment;
        if chance(augment.paste.share, rng) {
            if let Some(other) = plan::other_scene(&self.packs, scene, rng) {
                self.paste_on_other_background(search, target, other, scene, rng, scratch)?;
            }
        } else if chance(augment.distractor.share, rng) {
            // Beside the target: its centre stays visible.
            let (w, h) = (
                target.right_px - target.left_px,
                target.bottom_px - target.top_px,
            );
            let (cx, cy) = (target.left_px + w / 2.0, target.top_px + h / 2.0);
            for _ in 0..5 {
                let at = self.place_in_search(10.0, rng);
                if (at[0] - cx).abs() > 0.8 * w || (at[1] - cy).abs() > 0.8 * h {
                    self.paste_distractor(search, at, scene, rng, scratch)?;
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
            self.occlude(
                search,
                target,
                within(occluder.cover, rng),
                scene,
                rng,
                scratch,
            )?;
        }
        Ok(true)
    }

    fn place_in_search(&self, margin_px: f32, rng: &mut ChaCha8Rng) -> [f32; 2] {
        let range = [margin_px, self.config.search_crop_px as f32 - margin_px];
        [within(range, rng), within(range, rng)]
    }

    fn paste_on_other_background(
        &self,
        search: &mut Crop,
        target: &BoxLtrb,
        other: Appearance,
        scene: u64,
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
            let at = self.place_in_search(20.0, rng);
            self.paste_distractor(&mut background, at, scene, rng, scratch)?;
        }
        let power = [2.5, 4.0, 6.0][rng.random_range(0..3)];
        blend_superellipse(&mut background, search, [0, 0], target, power);
        std::mem::swap(search, &mut background);
        scratch.background = background;
        Ok(())
    }

    /// Pastes an object of another scene, centred.
    fn paste_distractor(
        &self,
        canvas: &mut Crop,
        at: [f32; 2],
        scene: u64,
        rng: &mut ChaCha8Rng,
        scratch: &mut SamplerScratch,
    ) -> Result<(), DataError> {
        let Some(other) = plan::other_scene(&self.packs, scene, rng) else {
            return Ok(());
        };
        let b = other.box_in_image;
        let patch_from_image =
            within(self.augment.distractor.size_px, rng) / b.area().max(1.0).sqrt();
        let window_px = 1.1 * b.w_px.max(b.h_px);
        let patch_px = ((window_px * patch_from_image).round() as u32).clamp(8, canvas.side_px());
        let patch_from_image = patch_px as f32 / window_px;
        let (cx, cy) = b.center();
        let mut patch = std::mem::take(&mut scratch.patch);
        patch.resize(patch_px);
        let window = CropWindow::square(cx, cy, window_px);
        self.cut_into(other.image, &window, chance(0.5, rng), scratch, &mut patch)?;
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
        blend_superellipse(canvas, &patch, origin, &area, power);
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

fn tracks_of(dataset: &Dataset, pack: &str, loaded: &crate::data::LoadedSequence) -> Vec<Track> {
    let name = loaded.sequence.name.as_bytes();
    let mut tracks: std::collections::BTreeMap<u32, Track> = std::collections::BTreeMap::new();
    for (frame, &image) in loaded.sequence.frames.iter().zip(&loaded.images) {
        let (width_px, height_px) = dataset.store().loaded_size_px(image);
        for annotation in &frame.annotations {
            if annotation.ignore
                || !dataset
                    .target_filter()
                    .accepts(&annotation.box_in_image, width_px, height_px)
            {
                continue;
            }
            let track = tracks.entry(annotation.instance).or_insert_with(|| Track {
                instance: stable_hash(&[pack.as_bytes(), name, &annotation.instance.to_le_bytes()]),
                scene: loaded.scene,
                appearances: Vec::new(),
            });
            track.appearances.push(Appearance {
                image,
                box_in_image: annotation.box_in_image,
            });
        }
    }
    tracks.into_values().collect()
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
