//! Every constant of the tracker, as the `[tracker]` table of a bundle.
//!
//! In: TOML, through [`crate::contract`]. Out: numbers within stated ranges. There is no default at
//! any place of use; [`TrackerConfig::default`] is where training starts from, and the bundle
//! carries what validation settled on. All rates are per second of capture time, never per frame. One thing depends on the
//! frame rate all the same: how unsure `motion.acceleration_sides` and `motion.log_size_acceleration` make the motion
//! model in a second, which is less the more frames there are ([`AxisFilter::predict`](super::AxisFilter::predict)).
//!
//! ```
//! use roadhound_shared::tracker::TrackerConfig;
//!
//! let config = TrackerConfig::default()
//!     .overridden("decode.window_weight = 0.4\nreclaim.frames = 3")
//!     .expect("both are in range");
//! assert_eq!(config.reclaim.frames, 3);
//! ```

use alloc::borrow::ToOwned;
use alloc::string::ToString;
use core::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use crate::contract::{ContractError, parse_toml};
use crate::decode::MAX_CANDIDATES;
use crate::limits::{LimitError, check_order, check_ranges};

/// What errors call these constants by.
const TABLE: &str = "tracker";

/// Every constant of the tracker.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrackerConfig {
    /// From score map to candidates.
    pub decode: DecodeConfig,
    /// Motion model.
    pub motion: MotionConfig,
    /// Size and place of the box.
    pub shape: ShapeConfig,
    /// When the target is tracked, uncertain or lost.
    pub presence: PresenceConfig,
    /// When the latest template is taken anew.
    pub template: TemplateConfig,
    /// Where to look.
    pub search: SearchConfig,
    /// When a lost target is claimed again.
    pub reclaim: ReclaimConfig,
}

/// From score map to candidates.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DecodeConfig {
    /// Share of the Hann window in the ranking while the target is followed, 0..1 (SiamRPN).
    pub window_weight: f32,
    /// The same while it is lost and may be anywhere.
    pub window_weight_lost: f32,
    /// Share of the Gaussian around the predicted centre, 0..1 (MaST).
    pub motion_weight: f32,
    /// Its standard deviation per axis, in box sides.
    pub motion_sigma_sides: f32,
    /// Strength of the penalty on changes of scale and ratio (SiamRPN).
    pub shape_penalty: f32,
    /// Boxes of cells this far around the peak are averaged, weighted by rank; 0 is off.
    pub refine_radius_cells: u32,
    /// Cells below this share of the peak's rank stay out of that average.
    pub refine_above: f32,
    /// How many peaks are looked at.
    pub candidates: u32,
    /// A peak that overlaps a better one by more is the same object (IoU).
    pub suppress_above_iou: f32,
    /// Peaks with less score are not candidates, the best one excepted.
    pub min_score: f32,
    /// What a cosine similarity of 1 with the gallery adds to a candidate's rank.
    pub identity_weight: f32,
}

impl Default for DecodeConfig {
    fn default() -> Self {
        Self {
            window_weight: 0.35,
            window_weight_lost: 0.0,
            motion_weight: 0.0,
            motion_sigma_sides: 0.5,
            shape_penalty: 0.1,
            refine_radius_cells: 0,
            refine_above: 0.7,
            candidates: 4,
            suppress_above_iou: 0.4,
            min_score: 0.1,
            identity_weight: 0.1,
        }
    }
}

/// Motion model: constant velocity, and less of it the longer nothing is measured.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MotionConfig {
    /// How much of the predicted movement of the centre is believed, 0 = the last box.
    pub prediction_weight: f32,
    /// The same for the predicted change of size.
    pub size_prediction_weight: f32,
    /// A velocity that is not measured fades by e in this time.
    pub velocity_decay_seconds: f32,
    /// Speed limit, in box sides (geometric mean) per second.
    pub max_speed_sides_per_second: f32,
    /// Standard deviation of the acceleration, in box sides per second squared.
    pub acceleration_sides: f32,
    /// Standard deviation of a measured centre, in box sides.
    pub centre_noise_sides: f32,
    /// Limit on the rate of the logarithm of the size, per second.
    pub max_log_size_rate: f32,
    /// Standard deviation of the acceleration of the logarithm of the size, per second squared.
    pub log_size_acceleration: f32,
    /// Standard deviation of the logarithm of a measured size.
    pub log_size_noise: f32,
    /// A longer step between two frames counts as this long.
    pub max_step_seconds: f32,
}

impl Default for MotionConfig {
    fn default() -> Self {
        Self {
            prediction_weight: 0.5,
            size_prediction_weight: 0.0,
            velocity_decay_seconds: 0.25,
            max_speed_sides_per_second: 6.0,
            acceleration_sides: 10.0,
            centre_noise_sides: 0.05,
            max_log_size_rate: 2.0,
            log_size_acceleration: 4.0,
            log_size_noise: 0.1,
            max_step_seconds: 1.0,
        }
    }
}

/// Size and place of the box.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShapeConfig {
    /// How much of the measured size is taken over in one reference step, before it is multiplied
    /// by penalty and score.
    pub size_rate: f32,
    /// The time step that `size_rate` and `centre_rate_uncertain` are stated for.
    pub reference_step_seconds: f32,
    /// How much of the measured centre is taken over while tracking.
    pub centre_rate: f32,
    /// The same while uncertain, in one reference step, before it is multiplied by the score.
    pub centre_rate_uncertain: f32,
    /// Limit on how fast the logarithm of a side may change, per second.
    pub max_log_growth_per_second: f32,
    /// No side of the box is ever smaller.
    pub min_side_px: f32,
    /// No side of the box is ever larger than this multiple of the image's.
    pub max_side_of_image: f32,
    /// Whether the part of the box that is outside the image is cut off in reports.
    pub clip_to_image: bool,
}

impl Default for ShapeConfig {
    fn default() -> Self {
        Self {
            size_rate: 0.45,
            reference_step_seconds: 1.0 / 30.0,
            centre_rate: 1.0,
            centre_rate_uncertain: 0.6,
            max_log_growth_per_second: 4.0,
            min_side_px: 4.0,
            max_side_of_image: 1.0,
            clip_to_image: true,
        }
    }
}

/// When the target is tracked, uncertain or lost.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PresenceConfig {
    /// Uncertain ends in Tracking at this presence.
    pub tracking_above: f32,
    /// Tracking ends in Uncertain below this presence.
    pub uncertain_below: f32,
    /// Tracking also ends below this score, and resumes only from it.
    pub uncertain_below_score: f32,
    /// And below this similarity of the chosen candidate with the gallery; -1 is off.
    pub uncertain_below_similarity: f32,
    /// Below this presence the clock to Lost runs.
    pub lost_below: f32,
    /// How long it runs.
    pub lost_after_millis: u32,
    /// At or below this presence the target is lost at once; 0 needs a presence of exactly 0.
    pub lost_at_once_below: f32,
    /// Uncertain for longer is Lost, whatever the presence; 0 is off.
    pub uncertain_at_most_millis: u32,
    /// No search result for longer is Lost.
    pub lost_without_result_millis: u32,
}

impl Default for PresenceConfig {
    fn default() -> Self {
        Self {
            tracking_above: 0.45,
            uncertain_below: 0.4,
            uncertain_below_score: 0.1,
            uncertain_below_similarity: -1.0,
            lost_below: 0.3,
            lost_after_millis: 75,
            lost_at_once_below: 0.02,
            uncertain_at_most_millis: 0,
            lost_without_result_millis: 1500,
        }
    }
}

/// When the latest template is taken anew. The first template never changes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TemplateConfig {
    /// Time between two templates; 0 is off.
    pub refresh_millis: u32,
    /// Trusted frames must have lasted this long without a gap.
    pub trusted_for_millis: u32,
    /// A frame is trusted from this presence,
    pub min_presence: f32,
    /// this score,
    pub min_score: f32,
    /// and this similarity with the gallery; so is the new template's own embedding.
    pub min_similarity: f32,
    /// Share of the box that must be inside the image.
    pub min_inside: f32,
    /// The running mean of trusted embeddings forgets by e in this time.
    pub gallery_seconds: f32,
    /// Share of the first embedding in the similarity; the rest is the running mean.
    pub first_weight: f32,
}

impl Default for TemplateConfig {
    fn default() -> Self {
        Self {
            refresh_millis: 330,
            trusted_for_millis: 200,
            min_presence: 0.7,
            min_score: 0.5,
            min_similarity: 0.5,
            min_inside: 0.9,
            gallery_seconds: 2.0,
            first_weight: 0.5,
        }
    }
}

/// Where to look.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SearchConfig {
    /// Side of the search window, as a multiple of what the contract asks for.
    pub scale: f32,
    /// The target must have been out of sight (not Tracking, or no frame) for this time before the
    /// window grows.
    pub widen_after_millis: u32,
    /// Then it grows by this share of its side per second.
    pub widen_per_second: f32,
    /// Largest growth.
    pub max_widening: f32,
    /// It never grows beyond this multiple of the image's longer side.
    pub max_side_of_image: f32,
    /// While lost, every n-th look goes to another place of the image: the sweep; 1 is always, 0 is no sweep. With
    /// `looks_beside` it only counts whether it is 0.
    pub sweep_every: u32,
    /// The first of them after this time.
    pub sweep_after_millis: u32,
    /// How much neighbouring windows of the sweep overlap, as a share of their side.
    pub sweep_overlap: f32,
    /// Of the looks of a lost target that do not sweep, every n-th goes to where it would be had it kept its course; 0 is
    /// off, 1 is always. With `looks_beside`: of those looks, and before the sweep begins one in each frame; never more.
    pub ahead_every: u32,
    /// The course is the mean velocity of trusted boxes over about this time.
    pub course_seconds: f32,
    /// A course is believed for this long.
    pub ahead_at_most_seconds: f32,
    /// While lost, up to so many more windows of each frame are looked at, ahead or of the sweep, each for one more run of the
    /// search graph, and the usual window stays where the target was last seen; 0 lets them take turns with the usual window.
    pub looks_beside: u32,
}

impl Default for SearchConfig {
    fn default() -> Self {
        Self {
            scale: 1.0,
            widen_after_millis: 100,
            widen_per_second: 0.8,
            max_widening: 1.8,
            max_side_of_image: 1.0,
            sweep_every: 2,
            sweep_after_millis: 700,
            sweep_overlap: 0.4,
            ahead_every: 2,
            course_seconds: 1.0,
            ahead_at_most_seconds: 4.0,
            looks_beside: 1,
        }
    }
}

/// When a lost target is claimed again.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReclaimConfig {
    /// A look supports the claim from this presence,
    pub min_presence: f32,
    /// this score,
    pub min_score: f32,
    /// and this similarity with the gallery.
    pub min_similarity: f32,
    /// Supporting looks in a row.
    pub frames: u32,
    /// Time from the first of them to the last.
    pub millis: u32,
    /// Largest change of either side since the last trusted box, as a factor.
    pub max_side_ratio: f32,
    /// Largest movement between two supporting looks, in box sides.
    pub max_move_sides: f32,
    /// Lost for less than this time, one look is enough at the old place; 0 is off.
    pub soon_millis: u32,
    /// What is still the old place (IoU with the last trusted box).
    pub soon_iou: f32,
}

impl Default for ReclaimConfig {
    fn default() -> Self {
        Self {
            min_presence: 0.6,
            min_score: 0.4,
            min_similarity: 0.5,
            frames: 2,
            millis: 30,
            max_side_ratio: 2.5,
            max_move_sides: 1.0,
            soon_millis: 300,
            soon_iou: 0.3,
        }
    }
}

impl TrackerConfig {
    /// Checks every constant.
    ///
    /// # Errors
    /// The first one that is out of range, with its value.
    pub fn validate(&self) -> Result<(), LimitError> {
        const SHARE: RangeInclusive<f32> = 0.0..=1.0;
        const COSINE: RangeInclusive<f32> = -1.0..=1.0;
        const POSITIVE: RangeInclusive<f32> = 1e-3..=1e3;
        let Self {
            decode: d,
            motion: m,
            shape: s,
            presence: p,
            template: t,
            search: w,
            reclaim: r,
        } = self;
        check_ranges(
            TABLE,
            [
                ("decode.window_weight", d.window_weight, SHARE),
                ("decode.window_weight_lost", d.window_weight_lost, SHARE),
                ("decode.motion_weight", d.motion_weight, SHARE),
                (
                    "decode.motion_sigma_sides",
                    d.motion_sigma_sides,
                    0.01..=100.0,
                ),
                ("decode.shape_penalty", d.shape_penalty, 0.0..=10.0),
                ("decode.refine_above", d.refine_above, SHARE),
                ("decode.suppress_above_iou", d.suppress_above_iou, SHARE),
                ("decode.min_score", d.min_score, SHARE),
                ("decode.identity_weight", d.identity_weight, SHARE),
                ("motion.prediction_weight", m.prediction_weight, SHARE),
                (
                    "motion.size_prediction_weight",
                    m.size_prediction_weight,
                    SHARE,
                ),
                (
                    "motion.velocity_decay_seconds",
                    m.velocity_decay_seconds,
                    POSITIVE,
                ),
                (
                    "motion.max_speed_sides_per_second",
                    m.max_speed_sides_per_second,
                    0.0..=1e3,
                ),
                ("motion.acceleration_sides", m.acceleration_sides, POSITIVE),
                ("motion.centre_noise_sides", m.centre_noise_sides, POSITIVE),
                ("motion.max_log_size_rate", m.max_log_size_rate, 0.0..=100.0),
                (
                    "motion.log_size_acceleration",
                    m.log_size_acceleration,
                    POSITIVE,
                ),
                ("motion.log_size_noise", m.log_size_noise, POSITIVE),
                ("motion.max_step_seconds", m.max_step_seconds, 0.001..=60.0),
                ("shape.size_rate", s.size_rate, SHARE),
                (
                    "shape.reference_step_seconds",
                    s.reference_step_seconds,
                    0.001..=10.0,
                ),
                ("shape.centre_rate", s.centre_rate, SHARE),
                (
                    "shape.centre_rate_uncertain",
                    s.centre_rate_uncertain,
                    SHARE,
                ),
                (
                    "shape.max_log_growth_per_second",
                    s.max_log_growth_per_second,
                    0.0..=100.0,
                ),
                ("shape.min_side_px", s.min_side_px, 1.0..=1000.0),
                ("shape.max_side_of_image", s.max_side_of_image, 0.1..=4.0),
                ("presence.tracking_above", p.tracking_above, SHARE),
                ("presence.uncertain_below", p.uncertain_below, SHARE),
                (
                    "presence.uncertain_below_score",
                    p.uncertain_below_score,
                    SHARE,
                ),
                (
                    "presence.uncertain_below_similarity",
                    p.uncertain_below_similarity,
                    COSINE,
                ),
                ("presence.lost_below", p.lost_below, SHARE),
                ("presence.lost_at_once_below", p.lost_at_once_below, SHARE),
                ("template.min_presence", t.min_presence, SHARE),
                ("template.min_score", t.min_score, SHARE),
                ("template.min_similarity", t.min_similarity, COSINE),
                ("template.min_inside", t.min_inside, SHARE),
                ("template.gallery_seconds", t.gallery_seconds, POSITIVE),
                ("template.first_weight", t.first_weight, SHARE),
                ("search.scale", w.scale, 0.5..=4.0),
                ("search.widen_per_second", w.widen_per_second, 0.0..=100.0),
                ("search.max_widening", w.max_widening, 1.0..=10.0),
                ("search.max_side_of_image", w.max_side_of_image, 0.1..=4.0),
                ("search.sweep_overlap", w.sweep_overlap, 0.0..=0.9),
                ("search.course_seconds", w.course_seconds, 0.01..=100.0),
                (
                    "search.ahead_at_most_seconds",
                    w.ahead_at_most_seconds,
                    0.0..=100.0,
                ),
                ("reclaim.min_presence", r.min_presence, SHARE),
                ("reclaim.min_score", r.min_score, SHARE),
                ("reclaim.min_similarity", r.min_similarity, COSINE),
                ("reclaim.max_side_ratio", r.max_side_ratio, 1.0..=100.0),
                ("reclaim.max_move_sides", r.max_move_sides, 0.0..=100.0),
                ("reclaim.soon_iou", r.soon_iou, SHARE),
            ],
        )?;
        const HOUR_MILLIS: u32 = 3_600_000;
        check_ranges(
            TABLE,
            [
                ("decode.refine_radius_cells", d.refine_radius_cells, 0..=4),
                ("decode.candidates", d.candidates, 1..=MAX_CANDIDATES as u32),
                (
                    "presence.lost_after_millis",
                    p.lost_after_millis,
                    0..=HOUR_MILLIS,
                ),
                (
                    "presence.uncertain_at_most_millis",
                    p.uncertain_at_most_millis,
                    0..=HOUR_MILLIS,
                ),
                (
                    "presence.lost_without_result_millis",
                    p.lost_without_result_millis,
                    1..=HOUR_MILLIS,
                ),
                ("template.refresh_millis", t.refresh_millis, 0..=HOUR_MILLIS),
                (
                    "template.trusted_for_millis",
                    t.trusted_for_millis,
                    0..=HOUR_MILLIS,
                ),
                (
                    "search.widen_after_millis",
                    w.widen_after_millis,
                    0..=HOUR_MILLIS,
                ),
                ("search.sweep_every", w.sweep_every, 0..=1000),
                ("search.ahead_every", w.ahead_every, 0..=1000),
                ("search.looks_beside", w.looks_beside, 0..=16),
                (
                    "search.sweep_after_millis",
                    w.sweep_after_millis,
                    0..=HOUR_MILLIS,
                ),
                ("reclaim.frames", r.frames, 1..=1000),
                ("reclaim.millis", r.millis, 0..=HOUR_MILLIS),
                ("reclaim.soon_millis", r.soon_millis, 0..=HOUR_MILLIS),
            ],
        )?;
        check_order(
            TABLE,
            [
                (
                    "presence.lost_at_once_below",
                    p.lost_at_once_below,
                    "presence.lost_below",
                    p.lost_below,
                ),
                (
                    "presence.lost_below",
                    p.lost_below,
                    "presence.uncertain_below",
                    p.uncertain_below,
                ),
                (
                    "presence.uncertain_below",
                    p.uncertain_below,
                    "presence.tracking_above",
                    p.tracking_above,
                ),
            ],
        )
    }

    /// This configuration with the keys of a partial TOML table put over it: for tuning.
    ///
    /// # Errors
    /// Not TOML, an unknown key, or a value out of range.
    pub fn overridden(&self, partial_toml: &str) -> Result<Self, ContractError> {
        let write = |error: toml::ser::Error| ContractError::Write {
            message: error.to_string(),
        };
        let mut table = toml::Table::try_from(self).map_err(write)?;
        let over: toml::Table = parse_toml(partial_toml)?;
        for (group, values) in over {
            match (table.get_mut(&group), values) {
                (Some(toml::Value::Table(old)), toml::Value::Table(new)) => old.extend(new),
                (_, values) => {
                    table.insert(group.to_owned(), values);
                }
            }
        }
        let config: Self = parse_toml(&toml::to_string(&table).map_err(write)?)?;
        config.validate()?;
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_default_is_valid_and_survives_toml() {
        let config = TrackerConfig::default();
        config.validate().unwrap();
        let text = toml::to_string(&config).unwrap();
        assert_eq!(parse_toml::<TrackerConfig>(&text).unwrap(), config);
    }

    #[test]
    fn a_value_out_of_range_is_named_with_its_range() {
        let error = TrackerConfig::default()
            .overridden("decode.window_weight = 1.5")
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "tracker.decode.window_weight: found 1.5, expected 0 to 1"
        );
    }

    #[test]
    fn not_a_number_is_out_of_range() {
        let mut config = TrackerConfig::default();
        config.motion.acceleration_sides = f32::NAN;
        let error = config.validate().unwrap_err();
        assert!(error.to_string().contains("motion.acceleration_sides"));
    }

    #[test]
    fn thresholds_in_the_wrong_order_are_refused() {
        let error = TrackerConfig::default()
            .overridden("presence.lost_below = 0.42")
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "tracker.presence.lost_below is 0.42, above tracker.presence.uncertain_below, which is 0.4"
        );
    }

    #[test]
    fn an_unknown_key_is_refused() {
        let error = TrackerConfig::default()
            .overridden("reclaim.frame = 2")
            .unwrap_err();
        assert!(
            error.to_string().contains("unknown field `frame`"),
            "{error}"
        );
    }
}
