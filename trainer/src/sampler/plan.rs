//! What a pair shows: which images, which windows. No pixels.

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use roadhound_shared::geometry::{BoxLtrb, BoxXywh};
use roadhound_shared::preprocess::CropWindow;

use super::{Appearance, ObjectIndex, PackTracks, SamplerConfig, Track};
use crate::augment::{about_zero, chance, within};
use crate::data::store::{ImageId, ImageStore};

/// A window on an image, and a box it was made for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct View {
    /// The image.
    pub image: ImageId,
    /// The object, in pixels of the loaded image.
    pub box_in_image: BoxXywh,
    /// What is cut.
    pub window: CropWindow,
}

impl View {
    /// The object in pixels of a crop of this side, mirrored where the crop is.
    pub fn box_in_crop(&self, side_px: u32, flip: bool) -> BoxLtrb {
        let b = BoxLtrb::from(
            self.window
                .crop_from_image(side_px)
                .apply_box(&self.box_in_image),
        );
        if !flip {
            return b;
        }
        let side = side_px as f32;
        BoxLtrb {
            left_px: side - b.right_px,
            right_px: side - b.left_px,
            ..b
        }
    }
}

/// What the search crop is cut for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// The target.
    Target,
    /// Another object, on another image.
    OtherInstance,
    /// The target's image, where the target is not.
    Elsewhere,
    /// Another object of the target's class on the target's own image; the target is outside.
    Rival,
    /// The place where the target would be, hidden by something.
    Hidden,
}

/// The second template.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Latest {
    /// The first template again.
    Identical,
    /// As if the tracker had been somewhat off.
    Misaligned(View),
    /// Well aligned, on another frame; for stills, another jitter of the only one.
    OtherFrame(View),
}

/// Everything about a pair but its pixels.
#[derive(Clone, Debug, PartialEq)]
pub struct PairPlan {
    /// Stable identity of the target.
    pub instance: u64,
    /// Where the target lives: objects of this scene are never pasted or used as negatives.
    pub scene: u64,
    /// All crops are mirrored.
    pub flip: bool,
    /// All crops lose their colour.
    pub grey: bool,
    /// First template.
    pub template: View,
    /// Second template.
    pub latest: Latest,
    /// Search crop.
    pub search: View,
    /// What it was cut for.
    pub content: Content,
    /// An object that looks like the target, for whoever pastes a distractor: of the same class, from the searched
    /// frame where there is another.
    pub rival: Option<Appearance>,
}

pub(super) struct Planner<'a> {
    pub(super) config: &'a SamplerConfig,
    pub(super) grey_share: f32,
    pub(super) packs: &'a [PackTracks],
    pub(super) index: &'a ObjectIndex,
    pub(super) ignore: &'a [Vec<BoxXywh>],
    pub(super) store: &'a ImageStore,
    pub(super) progress: f32,
}

impl Planner<'_> {
    pub(super) fn draw(&self, rng: &mut ChaCha8Rng) -> PairPlan {
        let config = self.config;
        let pack = pick_pack(self.packs, rng);
        let track = pack.pick_track(rng);
        let first = rng.random_range(0..track.appearances.len());
        let second = self.occluded(track, rng);
        let second = second.unwrap_or_else(|| self.later(track, first, rng));
        let flip = chance(0.5, rng);
        let grey = chance(self.grey_share, rng);

        let template = track.appearances[first];
        let template = self.template_view(
            template,
            config.template_shift,
            config.template_log_scale,
            rng,
        );
        let latest = self.latest(track, second, rng);

        let searched = track.appearances[second];
        let which = rng.random::<f32>();
        let negative = |rng: &mut ChaCha8Rng| {
            self.negative(pack, track, rng)
                .map(|view| (Content::OtherInstance, view))
        };
        let (content, search) = if which < config.negative_share {
            let hard = chance(config.rival.negative_share, rng);
            let rival = if hard {
                self.rival_negative(track, searched, rng)
                    .map(|view| (Content::Rival, view))
            } else {
                None
            };
            rival.or_else(|| negative(rng))
        } else if which < config.negative_share + config.elsewhere_share {
            let elsewhere = self
                .elsewhere(searched, rng)
                .map(|view| (Content::Elsewhere, view));
            elsewhere.or_else(|| negative(rng))
        } else if !track.hidden.is_empty() && chance(config.hidden_share, rng) {
            let hidden = track.hidden[rng.random_range(0..track.hidden.len())];
            let view = self.search_view(hidden, config.video_log_aspect, rng);
            Some((Content::Hidden, view))
        } else {
            None
        }
        .unwrap_or_else(|| {
            let log_aspect = if first == second {
                config.still_log_aspect
            } else {
                config.video_log_aspect
            };
            (Content::Target, self.search_view(searched, log_aspect, rng))
        });
        let rival = if chance(config.rival.paste_share, rng) {
            self.rival(track, searched, rng)
        } else {
            None
        };
        PairPlan {
            instance: track.instance,
            scene: track.scene,
            flip,
            grey,
            template,
            latest,
            search,
            content,
            rival,
        }
    }

    /// An appearance that something hides in part, for a share of the pairs of the tracks that have any.
    fn occluded(&self, track: &Track, rng: &mut ChaCha8Rng) -> Option<usize> {
        if track.occluded.is_empty() || !chance(self.config.occluded_share, rng) {
            return None;
        }
        let at = track.occluded[rng.random_range(0..track.occluded.len())];
        Some(at as usize)
    }

    /// Another object of the target's class on the same frame, not in front of it or behind it; or, where there is
    /// none, one of another scene.
    fn rival(&self, track: &Track, of: Appearance, rng: &mut ChaCha8Rng) -> Option<Appearance> {
        let beside = self.index.on(of.image).iter().filter(|other| {
            other.class == track.class
                && other.instance != track.instance
                && other.box_in_image.intersection(&of.box_in_image).is_none()
        });
        let count = beside.clone().count();
        if count > 0 {
            let other = beside.clone().nth(rng.random_range(0..count))?;
            return Some(Appearance {
                image: of.image,
                box_in_image: other.box_in_image,
            });
        }
        let same_class = self.index.of_class(track.class);
        (0..6).find_map(|_| {
            let (pack, at) = *same_class.get(rng.random_range(0..same_class.len().max(1)))?;
            let other = &self.packs[pack as usize].tracks[at as usize];
            let appearance = other.appearances[rng.random_range(0..other.appearances.len())];
            (other.scene != track.scene).then_some(appearance)
        })
    }

    /// A window about another object of the target's class on the same frame that shows no part of the target.
    fn rival_negative(&self, track: &Track, of: Appearance, rng: &mut ChaCha8Rng) -> Option<View> {
        for _ in 0..6 {
            let other = self.rival(track, of, rng)?;
            if other.image != of.image {
                return None;
            }
            let view = self.search_view(other, self.config.still_log_aspect, rng);
            let shows_target = view.window.to_box().intersection(&of.box_in_image);
            if shows_target.is_none() && self.proves_absence(&view) {
                return Some(view);
            }
        }
        None
    }

    /// Another appearance of the track, before or after, within the gap that grows as training goes on.
    fn later(&self, track: &Track, first: usize, rng: &mut ChaCha8Rng) -> usize {
        let config = self.config;
        let len = track.appearances.len();
        if len == 1 || chance(config.same_frame_share, rng) {
            return first;
        }
        let share = config.gap_at_start + (config.gap_at_end - config.gap_at_start) * self.progress;
        let gap = ((len as f32 * share) as usize).max(2);
        rng.random_range(first.saturating_sub(gap)..=(first + gap).min(len - 1))
    }

    fn latest(&self, track: &Track, second: usize, rng: &mut ChaCha8Rng) -> Latest {
        let config = self.config;
        if chance(config.identical_latest_share, rng) {
            return Latest::Identical;
        }
        // The tracker refreshes this template often: it is seldom far from the frame searched.
        let len = track.appearances.len();
        let reach = if chance(0.6, rng) { 4 } else { len };
        let at = rng.random_range(second.saturating_sub(reach)..=(second + reach).min(len - 1));
        let appearance = track.appearances[at];
        match chance(config.misaligned_latest_share, rng) {
            true => Latest::Misaligned(self.template_view(
                appearance,
                config.misaligned_shift,
                config.misaligned_log_scale,
                rng,
            )),
            false => Latest::OtherFrame(self.template_view(
                appearance,
                config.template_shift,
                config.template_log_scale,
                rng,
            )),
        }
    }

    fn template_view(
        &self,
        of: Appearance,
        shift: f32,
        log_scale: f32,
        rng: &mut ChaCha8Rng,
    ) -> View {
        let mut window = CropWindow::around(of.box_in_image, self.config.template_context);
        window.cx_px += about_zero(shift, rng) * window.w_px;
        window.cy_px += about_zero(shift, rng) * window.h_px;
        let scale = about_zero(log_scale, rng).exp();
        window.w_px *= scale;
        window.h_px *= scale;
        View {
            image: of.image,
            box_in_image: of.box_in_image,
            window,
        }
    }

    fn search_view(&self, of: Appearance, log_aspect: f32, rng: &mut ChaCha8Rng) -> View {
        let config = self.config;
        let wide_scale = chance(config.wide_scale_share, rng);
        let log_scale = if wide_scale {
            config.wide_log_scale
        } else {
            config.search_log_scale
        };
        let scale = about_zero(log_scale, rng).exp();
        let aspect = about_zero(log_aspect, rng).exp();
        let wide_shift = chance(config.wide_shift_share, rng);
        let shift_px = if wide_shift {
            config.wide_shift_px
        } else {
            config.search_shift_px
        };
        let (dx_px, dy_px) = (about_zero(shift_px, rng), about_zero(shift_px, rng));
        let mut window = CropWindow::around(of.box_in_image, config.search_context * scale);
        window.w_px /= aspect;
        window.h_px *= aspect;
        window.cx_px -= dx_px * window.w_px / config.search_crop_px as f32;
        window.cy_px -= dy_px * window.h_px / config.search_crop_px as f32;
        View {
            image: of.image,
            box_in_image: of.box_in_image,
            window,
        }
    }

    /// Another object of another scene, cut as a target would be.
    fn negative(&self, pack: &PackTracks, track: &Track, rng: &mut ChaCha8Rng) -> Option<View> {
        for _ in 0..10 {
            let from = match chance(self.config.negative_same_pack_share, rng) {
                true => pack,
                false => pick_pack(self.packs, rng),
            };
            let other = from.pick_track(rng);
            let appearance = other.appearances[rng.random_range(0..other.appearances.len())];
            let view = self.search_view(appearance, self.config.still_log_aspect, rng);
            if other.scene != track.scene && self.proves_absence(&view) {
                return Some(view);
            }
        }
        None
    }

    /// A window on the same image that the target does not reach into. There may be none.
    fn elsewhere(&self, of: Appearance, rng: &mut ChaCha8Rng) -> Option<View> {
        let (width_px, height_px) = self.store.loaded_size_px(of.image);
        for _ in 0..10 {
            let mut view = self.search_view(of, self.config.still_log_aspect, rng);
            view.window.cx_px = within([0.0, width_px as f32], rng);
            view.window.cy_px = within([0.0, height_px as f32], rng);
            if view
                .window
                .to_box()
                .intersection(&of.box_in_image)
                .is_none()
                && self.proves_absence(&view)
            {
                return Some(view);
            }
        }
        None
    }

    /// An ignore region may hold anything, the target included.
    fn proves_absence(&self, view: &View) -> bool {
        let window = view.window.to_box();
        let regions = self.ignore[view.image.index()].iter();
        let ignored: f32 = regions
            .filter_map(|region| region.intersection(&window))
            .map(|overlap| overlap.area())
            .sum();
        ignored <= self.config.absent_max_ignore * window.area()
    }
}

fn pick_pack<'a>(packs: &'a [PackTracks], rng: &mut ChaCha8Rng) -> &'a PackTracks {
    let total = packs[packs.len() - 1].cumulative_weight;
    let at = within([0.0, total], rng);
    let index = packs.partition_point(|pack| pack.cumulative_weight <= at);
    &packs[index.min(packs.len() - 1)]
}

/// Any appearance of an object that cannot be the target; `None` where ten draws found none.
pub(super) fn other_scene(
    packs: &[PackTracks],
    scene: u64,
    rng: &mut ChaCha8Rng,
) -> Option<Appearance> {
    (0..10).find_map(|_| {
        let track = pick_pack(packs, rng).pick_track(rng);
        let appearance = track.appearances[rng.random_range(0..track.appearances.len())];
        (track.scene != scene).then_some(appearance)
    })
}
