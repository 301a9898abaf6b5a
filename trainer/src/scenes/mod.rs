//! Whole frames with every road user on them: what proposals are learned from.
//!
//! In goes an opened [`Dataset`] and the number of a scene; out comes a [`ScenePair`]: two views, of two frames of one
//! video or of one photograph twice, each as large as the network reads, with the boxes, kinds and identities of
//! everything annotated in them. A scene depends on its seed and its number alone, like a [`crate::sampler`] pair, and
//! is cut by `shared`, as on the board.
//!
//! - [`labels`]: what the boxes of a pack say, and what their absence says;
//! - [`batch`]: scenes gathered into batches;
//! - [`sheet`]: scenes as a person can check them.
//!
//! ```no_run
//! # use std::sync::Arc;
//! use roadhound_trainer::augment::AugmentConfig;
//! use roadhound_trainer::data::{DataConfig, Dataset};
//! use roadhound_trainer::sampler::{SamplerScratch, Split};
//! use roadhound_trainer::scenes::{SceneConfig, SceneSampler};
//! # let labels = vec![];
//! let dataset = Arc::new(Dataset::open(&DataConfig::default())?);
//! let config = SceneConfig::default();
//! let scenes = SceneSampler::new(dataset, config, &labels, AugmentConfig::default(), Split::Train, 7)?;
//! let pair = scenes.draw(41, &mut SamplerScratch::default())?;
//! assert_eq!(pair.views[0].rgb.len(), 3 * 416 * 256);
//! # Ok::<(), roadhound_trainer::data::DataError>(())
//! ```

use std::collections::HashMap;
use std::sync::Arc;

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use roadhound_shared::geometry::BoxLtrb;
use roadhound_shared::preprocess::{Border, CropSize, CropWindow, crop_rgb8_sized};
use roadhound_shared::propose::{RoadUser, RoadUsers};
use serde::{Deserialize, Serialize};

use crate::augment::{AugmentConfig, Crop, LightPlan, Weather};
use crate::augment::{about_zero, chance, check_range, within};
use crate::data::sequence::Frame;
use crate::data::{DataError, Dataset, LoadedSequence, Pack, stable_hash};
use crate::sampler::{SamplerScratch, Split, sample_rng};

pub mod batch;
pub mod labels;
pub mod sheet;

use self::labels::{PackLabels, kinds_of};

/// How scenes are made. Lengths in pixels are pixels of the view.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SceneConfig {
    /// Columns of a view.
    pub input_width_px: u32,
    /// Rows of a view.
    pub input_height_px: u32,
    /// Furthest two frames of a video, in frames, at the first scene.
    pub gap_at_start: u32,
    /// The same once [`Self::gap_ramp_scenes`] scenes have been drawn.
    pub gap_at_end: u32,
    /// Scenes over which the gap grows.
    pub gap_ramp_scenes: u64,
    /// Share of the scenes that show the whole frame, as on the board.
    pub whole_share: f32,
    /// Of the others: side of the window as a share of the whole frame's, from and to; its logarithm is drawn evenly.
    pub window_scale: [f32; 2],
    /// Of the others: share that look at one of the objects.
    pub focus_share: f32,
    /// Natural logarithm of the change of aspect.
    pub log_aspect: f32,
    /// Between the two views: natural logarithm of the change of scale.
    pub pair_log_scale: f32,
    /// Between the two views: movement, as a share of the window.
    pub pair_shift: f32,
    /// Objects whose shorter side is below it are neither learned nor held against the network.
    pub min_side_px: f32,
    /// Objects of which a smaller share lies in the view neither.
    pub min_inside_share: f32,
    /// How much oftener sequences with rare kinds are drawn: 0 not at all, 1 in proportion to the rarity of the rarest.
    pub balance: f32,
}

impl Default for SceneConfig {
    fn default() -> Self {
        Self {
            input_width_px: 416,
            input_height_px: 256,
            gap_at_start: 4,
            gap_at_end: 24,
            gap_ramp_scenes: 8_000,
            whole_share: 0.3,
            window_scale: [0.4, 1.25],
            focus_share: 0.7,
            log_aspect: 0.1,
            pair_log_scale: 0.12,
            pair_shift: 0.08,
            min_side_px: 5.0,
            min_inside_share: 0.4,
            balance: 0.4,
        }
    }
}

impl SceneConfig {
    /// Columns and rows of a view.
    pub fn input(&self) -> CropSize {
        CropSize {
            width_px: self.input_width_px,
            height_px: self.input_height_px,
        }
    }

    /// Checks what the types cannot.
    ///
    /// # Errors
    /// [`DataError::Config`] with the first field that cannot be used.
    pub fn validate(&self) -> Result<(), DataError> {
        for (field, side) in [
            ("scenes.input_width_px", self.input_width_px),
            ("scenes.input_height_px", self.input_height_px),
        ] {
            check_range(field, [side as f32; 2], [32.0, 2048.0])?;
        }
        for (field, share) in [
            ("scenes.whole_share", self.whole_share),
            ("scenes.focus_share", self.focus_share),
            ("scenes.log_aspect", self.log_aspect),
            ("scenes.pair_log_scale", self.pair_log_scale),
            ("scenes.pair_shift", self.pair_shift),
            ("scenes.min_inside_share", self.min_inside_share),
            ("scenes.balance", self.balance),
        ] {
            check_range(field, [share; 2], [0.0, 1.0])?;
        }
        check_range("scenes.window_scale", self.window_scale, [0.1, 4.0])?;
        check_range("scenes.min_side_px", [self.min_side_px; 2], [0.0, 100.0])?;
        if self.gap_ramp_scenes == 0 {
            return Err(DataError::Config {
                field: "scenes.gap_ramp_scenes",
                value: "0".into(),
                reason: "must be at least 1",
            });
        }
        Ok(())
    }
}

/// What an annotation is to the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// To be found.
    Target,
    /// Neither learned nor held against the network: too small, hardly in the view, or not boxed one by one.
    Ignored,
}

/// An annotated object in a view.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SceneObject {
    /// Pixels of the view, clipped to it.
    pub box_in_view: BoxLtrb,
    /// What it may be; of an ignore region, everything.
    pub kinds: RoadUsers,
    /// Whether it is to be found.
    pub standing: Standing,
    /// Stable identity, the same in both views and in all packs.
    pub instance: u64,
}

/// One frame, or a part of it, as the network reads it.
#[derive(Clone, Debug, PartialEq)]
pub struct SceneView {
    /// Interleaved RGB, row-major.
    pub rgb: Vec<u8>,
    /// Everything annotated in it.
    pub objects: Vec<SceneObject>,
    /// Kinds that are boxed wherever they are.
    pub complete: RoadUsers,
}

/// Two views of one scene.
#[derive(Clone, Debug, PartialEq)]
pub struct ScenePair {
    /// Of two frames, or of one twice.
    pub views: [SceneView; 2],
}

/// A sequence of one pack.
#[derive(Clone, Copy, Debug)]
struct Place {
    pack: usize,
    sequence: usize,
}

/// What one view shows.
#[derive(Clone, Copy, Debug, PartialEq)]
struct ViewPlan {
    frame: usize,
    window: CropWindow,
}

/// Draws scenes from one split of a dataset. Shared by all workers.
#[derive(Debug)]
pub struct SceneSampler {
    dataset: Arc<Dataset>,
    config: SceneConfig,
    augment: AugmentConfig,
    seed: u64,
    /// By pack.
    complete: Vec<RoadUsers>,
    places: Vec<Place>,
    /// Sum of the weights up to and including each place.
    cumulative_weight: Vec<f64>,
}

impl SceneSampler {
    /// Collects the sequences of a split that have a road user on them, or that say that there is none: in packs that
    /// box a kind wherever it is.
    ///
    /// # Errors
    /// Settings that cannot be used, a pack of which nobody says what it labels, or a split without a single sequence.
    pub fn new(
        dataset: Arc<Dataset>,
        config: SceneConfig,
        labels: &[PackLabels],
        augment: AugmentConfig,
        split: Split,
        seed: u64,
    ) -> Result<Self, DataError> {
        config.validate()?;
        augment.validate()?;
        let complete = complete_kinds(&dataset, labels)?;
        let (mut places, mut cumulative_weight) = (Vec::new(), Vec::new());
        let mut sum = 0.0;
        for (at, pack) in dataset.packs().iter().enumerate() {
            let chosen = |loaded: &LoadedSequence| {
                loaded.held_out == (split == Split::Validation) && pack.weight > 0.0
            };
            let weights = sequence_weights(pack, complete[at], &chosen, config.balance);
            let total: f64 = weights.iter().map(|(_, weight)| weight).sum();
            for (sequence, weight) in weights {
                sum += f64::from(pack.weight) * weight / total;
                places.push(Place { pack: at, sequence });
                cumulative_weight.push(sum);
            }
        }
        if places.is_empty() {
            let split = match split {
                Split::Train => "training",
                Split::Validation => "validation",
            };
            let packs = dataset.packs().iter().map(|pack| pack.name.clone());
            return Err(DataError::NoTargets {
                split,
                packs: packs.collect(),
            });
        }
        Ok(Self {
            dataset,
            config,
            augment,
            seed,
            complete,
            places,
            cumulative_weight,
        })
    }

    /// How scenes are made.
    pub fn config(&self) -> &SceneConfig {
        &self.config
    }

    /// How many sequences there are to draw from.
    pub fn sequence_count(&self) -> usize {
        self.places.len()
    }

    /// Makes the scene that has this number, counted from the start of the run: the same for the same seed and number,
    /// on any thread and in any order.
    ///
    /// # Errors
    /// An image that cannot be read.
    pub fn draw(&self, number: u64, scratch: &mut SamplerScratch) -> Result<ScenePair, DataError> {
        // A stream of its own: scenes and follow pairs of one seed have nothing in common.
        let rng = &mut sample_rng(self.seed, u64::from_le_bytes(*b"scenes\0\0"), number);
        let at = rng.random::<f64>() * self.cumulative_weight[self.places.len() - 1];
        let index = self.cumulative_weight.partition_point(|sum| *sum <= at);
        let place = self.places[index.min(self.places.len() - 1)];
        let plans = self.plan(place, number, rng);
        let flip = chance(0.5, rng);
        let grey = chance(self.augment.grey_share, rng);
        let weather = Weather::draw(&self.augment, rng);
        let mut view = |plan: &ViewPlan, rng: &mut ChaCha8Rng| {
            let light = LightPlan::draw(&self.augment, 1.0, grey, rng).on(weather, rng);
            self.view(place, plan, flip, Some(&light), scratch)
        };
        let first = view(&plans[0], rng)?;
        let second = view(&plans[1], rng)?;
        Ok(ScenePair {
            views: [first, second],
        })
    }

    /// The frames of the split as the board sees them: whole, letterboxed, untouched. At most `count`, evenly spread over
    /// the sequences and their frames.
    ///
    /// # Errors
    /// An image that cannot be read.
    pub fn whole_frames(
        &self,
        count: usize,
        scratch: &mut SamplerScratch,
    ) -> Result<Vec<SceneView>, DataError> {
        let frames: Vec<(Place, usize)> = self
            .places
            .iter()
            .flat_map(|place| {
                let frames = 0..self.sequence(*place).images.len();
                frames.map(move |frame| (*place, frame))
            })
            .collect();
        let count = count.min(frames.len());
        (0..count)
            .map(|k| {
                let (place, frame) = frames[(2 * k + 1) * frames.len() / (2 * count)];
                let window = self.letterbox(place, frame);
                let plan = ViewPlan { frame, window };
                self.view(place, &plan, false, None, scratch)
            })
            .collect()
    }

    fn sequence(&self, place: Place) -> &LoadedSequence {
        &self.dataset.packs()[place.pack].sequences[place.sequence]
    }

    fn letterbox(&self, place: Place, frame: usize) -> CropWindow {
        let image = self.sequence(place).images[frame];
        let (width_px, height_px) = self.dataset.store().loaded_size_px(image);
        CropWindow::letterbox(width_px, height_px, self.config.input())
    }

    /// Which frames, and which part of them.
    fn plan(&self, place: Place, number: u64, rng: &mut ChaCha8Rng) -> [ViewPlan; 2] {
        let config = &self.config;
        let frames = self.sequence(place).images.len();
        let first = rng.random_range(0..frames);
        let progress = (number as f32 / config.gap_ramp_scenes as f32).min(1.0);
        let (from, to) = (config.gap_at_start as f32, config.gap_at_end as f32);
        let gap = ((from + (to - from) * progress).round() as usize).max(1);
        let (low, high) = (first.saturating_sub(gap), (first + gap).min(frames - 1));
        // Any but the first itself, where there is another.
        let second = match low == high {
            true => first,
            false => match rng.random_range(low..high) {
                other if other >= first => other + 1,
                other => other,
            },
        };
        let window = match chance(config.whole_share, rng) {
            true => self.letterbox(place, first),
            false => self.window(place, first, rng),
        };
        let scale = about_zero(config.pair_log_scale, rng).exp();
        // Frames of a video are of one size, so that the second window is the first one, moved a little.
        let again = CropWindow {
            cx_px: window.cx_px + about_zero(config.pair_shift, rng) * window.w_px,
            cy_px: window.cy_px + about_zero(config.pair_shift, rng) * window.h_px,
            w_px: window.w_px * scale,
            h_px: window.h_px * scale,
        };
        let plan = |frame, window| ViewPlan { frame, window };
        [plan(first, window), plan(second, again)]
    }

    /// A part of the frame, or a little more than all of it.
    fn window(&self, place: Place, frame: usize, rng: &mut ChaCha8Rng) -> CropWindow {
        let config = &self.config;
        let whole = self.letterbox(place, frame);
        let loaded = self.sequence(place);
        let (width_px, height_px) = self.dataset.store().loaded_size_px(loaded.images[frame]);
        let scale = within(config.window_scale.map(f32::ln), rng).exp();
        let aspect = about_zero(config.log_aspect, rng).exp();
        let (w_px, h_px) = (whole.w_px * scale * aspect, whole.h_px * scale / aspect);
        // Where the window is the smaller one it stays on the image; where it is the larger one the image stays in it.
        let range = |side: f32, image: f32| {
            let (a, b) = (side / 2.0, image - side / 2.0);
            [a.min(b), a.max(b)]
        };
        let (across, down) = (range(w_px, width_px as f32), range(h_px, height_px as f32));
        let mut centre = [within(across, rng), within(down, rng)];
        let objects = &loaded.sequence.frames[frame].annotations;
        if !objects.is_empty() && chance(config.focus_share, rng) {
            let (x, y) = objects[rng.random_range(0..objects.len())]
                .box_in_image
                .center();
            centre = [
                (x + about_zero(0.35, rng) * w_px).clamp(across[0], across[1]),
                (y + about_zero(0.35, rng) * h_px).clamp(down[0], down[1]),
            ];
        }
        CropWindow {
            cx_px: centre[0],
            cy_px: centre[1],
            w_px,
            h_px,
        }
    }

    fn view(
        &self,
        place: Place,
        plan: &ViewPlan,
        flip: bool,
        light: Option<&LightPlan>,
        scratch: &mut SamplerScratch,
    ) -> Result<SceneView, DataError> {
        let loaded = self.sequence(place);
        let size = self.config.input();
        let mut crop = Crop::default();
        crop.resize_to(size);
        let image = self.dataset.store().get(loaded.images[plan.frame])?;
        let border = Border::Constant(image.mean_rgb);
        let (view, scratch) = (image.view(), scratch.parts());
        crop_rgb8_sized(
            &view,
            &plan.window,
            size,
            border,
            scratch.0,
            crop.pixels_mut(),
        )?;
        if flip {
            crop.mirror();
        }
        if let Some(light) = light {
            light.apply(&mut crop, scratch.1);
        }
        let pack = &self.dataset.packs()[place.pack].name;
        let frame = &loaded.sequence.frames[plan.frame];
        Ok(SceneView {
            rgb: crop.into_pixels(),
            objects: self.objects(pack, &loaded.sequence.name, frame, &plan.window, flip),
            complete: self.complete[place.pack],
        })
    }

    fn objects(
        &self,
        pack: &str,
        sequence: &str,
        frame: &Frame,
        window: &CropWindow,
        flip: bool,
    ) -> Vec<SceneObject> {
        let size = self.config.input();
        let view_from_image = window.sized_crop_from_image(size);
        let mut objects = Vec::new();
        for annotation in &frame.annotations {
            let mut whole = view_from_image.apply_box(&annotation.box_in_image);
            if flip {
                whole.x_px = size.width_px as f32 - whole.right_px();
            }
            let Some(seen) = whole.clip(size.width_px, size.height_px) else {
                continue;
            };
            let kinds = kinds_of(&annotation.class);
            let is_target = !annotation.ignore
                && !kinds.is_empty()
                && seen.w_px.min(seen.h_px) >= self.config.min_side_px
                && seen.area() >= self.config.min_inside_share * whole.area();
            let instance = annotation.instance.to_le_bytes();
            objects.push(SceneObject {
                box_in_view: seen.into(),
                kinds: match annotation.ignore || kinds.is_empty() {
                    true => RoadUsers::ALL,
                    false => kinds,
                },
                standing: match is_target {
                    true => Standing::Target,
                    false => Standing::Ignored,
                },
                instance: stable_hash(&[pack.as_bytes(), sequence.as_bytes(), &instance]),
            });
        }
        objects
    }
}

/// By pack, the kinds that are boxed wherever they are.
fn complete_kinds(dataset: &Dataset, labels: &[PackLabels]) -> Result<Vec<RoadUsers>, DataError> {
    let refuse = |value: &str, reason| DataError::Config {
        field: "labels.pack",
        value: value.into(),
        reason,
    };
    for (at, entry) in labels.iter().enumerate() {
        if labels[..at]
            .iter()
            .any(|earlier| earlier.pack == entry.pack)
        {
            return Err(refuse(&entry.pack, "appears twice"));
        }
        if !dataset.packs().iter().any(|pack| pack.name == entry.pack) {
            return Err(refuse(&entry.pack, "is not one of the packs"));
        }
    }
    let of_pack = |pack: &Pack| {
        let entry = labels.iter().find(|entry| entry.pack == pack.name);
        entry
            .map(|entry| RoadUsers::of(&entry.complete))
            .ok_or_else(|| refuse(&pack.name, "is missing: nobody says which kinds it boxes"))
    };
    dataset.packs().iter().map(of_pack).collect()
}

/// The chosen sequences that have a road user on them, or that prove that one of the kinds in `complete` is not there,
/// and how often each is drawn. Sequences without anybody count as those of one more kind.
fn sequence_weights(
    pack: &Pack,
    complete: RoadUsers,
    chosen: &dyn Fn(&LoadedSequence) -> bool,
    balance: f32,
) -> Vec<(usize, f64)> {
    let kinds_on = |loaded: &LoadedSequence| -> Vec<Option<RoadUser>> {
        let annotations = loaded.sequence.frames.iter().flat_map(|f| &f.annotations);
        let targets = annotations.filter(|a| !a.ignore);
        let mut kinds: Vec<RoadUser> = targets.flat_map(|a| kinds_of(&a.class).iter()).collect();
        kinds.sort_unstable();
        kinds.dedup();
        match kinds.is_empty() {
            true if complete.is_empty() => vec![],
            true => vec![None],
            false => kinds.into_iter().map(Some).collect(),
        }
    };
    let with_kinds: Vec<(usize, Vec<Option<RoadUser>>)> = pack
        .sequences
        .iter()
        .enumerate()
        .filter(|(_, loaded)| chosen(loaded))
        .map(|(at, loaded)| (at, kinds_on(loaded)))
        .filter(|(_, kinds)| !kinds.is_empty())
        .collect();
    let mut sequences_with: HashMap<Option<RoadUser>, f64> = HashMap::new();
    for kind in with_kinds.iter().flat_map(|(_, kinds)| kinds) {
        *sequences_with.entry(*kind).or_default() += 1.0;
    }
    with_kinds
        .into_iter()
        .map(|(at, kinds)| {
            let rarest = kinds.iter().map(|kind| sequences_with[kind]);
            let rarest = rarest.fold(f64::INFINITY, f64::min);
            (at, rarest.powf(-f64::from(balance)))
        })
        .collect()
}

#[cfg(test)]
mod tests;
