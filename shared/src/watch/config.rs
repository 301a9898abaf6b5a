//! Every constant of watch mode, as a `[watch]` table.
//!
//! In: TOML. Out: numbers within stated ranges. The defaults were chosen one by one on rendered drives of both regions (seeds 1
//! to 5 of `shared/tests/watch`, a simulated detector); figures are reported on others. There is no default at any place of use. Times are seconds of capture
//! time, never frames; lengths are in sides of the object's box (the square root of its area) unless they say `px`.
//!
//! ```
//! use roadhound_shared::watch::WatchConfig;
//!
//! let config = WatchConfig::default();
//! assert!(config.validate().is_ok());
//! assert!(config.life.forget_after_seconds > config.life.lost_after_seconds);
//! ```

use core::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use super::cadence::CadenceConfig;
use crate::limits::{LimitError, check_order, check_ranges};
use crate::propose::views::ViewsConfig;

/// Squared Mahalanobis distance of four measurements that 95 % of all stay below where the model holds: chi-square with
/// four degrees of freedom, the gate of DeepSORT. For 99 % it is 13.277, for 99.9 % 18.467.
pub const CHI_SQUARE_4_95: f32 = 9.487_7;

/// What errors call these constants by.
pub(super) const TABLE: &str = "watch";

/// Every constant of watch mode.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WatchConfig {
    /// Where the detector looks closer than at the whole frame.
    pub views: ViewsConfig,
    /// How much there is room for.
    pub room: RoomConfig,
    /// Which detections are looked at for what.
    pub score: ScoreConfig,
    /// Motion model.
    pub motion: MotionConfig,
    /// What it costs to take a detection for a road user.
    pub cost: CostConfig,
    /// Birth, confirmation, occlusion, death.
    pub life: LifeConfig,
    /// Taking up again whoever was lost.
    pub reclaim: ReclaimConfig,
    /// Motion of the camera, where nobody tells it.
    pub camera: CameraConfig,
    /// Which frames the detector looks at.
    pub cadence: CadenceConfig,
}

/// How much there is room for. Memory for it is taken once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RoomConfig {
    /// Road users at a time, those included that are lost and not yet forgotten.
    pub tracks: u32,
    /// Detections of one frame; of more, those with the best scores are taken.
    pub detections: u32,
    /// Numbers of an instance embedding; 0 where the detector gives none.
    pub embedding: u32,
}

impl Default for RoomConfig {
    fn default() -> Self {
        Self {
            tracks: 256,
            detections: 256,
            embedding: 0,
        }
    }
}

/// Which detections are looked at for what (ByteTrack: weak ones are kept for those whom nothing else explains). What a score
/// means is the model's affair, so a bundle says it (the table `[propose.score]`, chosen on validation drives).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Scores {
    /// From here on a detection is strong: anybody may take it.
    pub strong_from: f32,
    /// From here on it is weak: whoever was just seen may take it. Below, it is nothing.
    pub weak_from: f32,
    /// From here on, one that nobody takes is somebody new.
    pub birth_from: f32,
    /// From here on, somebody new is believed at once.
    pub believed_from: f32,
}

impl Default for Scores {
    /// For a model of which nobody says.
    fn default() -> Self {
        Self {
            strong_from: 0.3,
            weak_from: 0.15,
            birth_from: 0.35,
            believed_from: 0.95,
        }
    }
}

impl Scores {
    /// Checks ranges and order; errors name the keys in `table`.
    ///
    /// # Errors
    /// The first value that cannot be.
    pub fn validate(&self, table: &'static str) -> Result<(), LimitError> {
        ScoreConfig::from(*self).validate(table)
    }
}

/// [`Scores`] that somebody wants others than the model's of: those that are `None` are the model's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ScoreConfig {
    /// See [`Scores::strong_from`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strong_from: Option<f32>,
    /// See [`Scores::weak_from`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weak_from: Option<f32>,
    /// See [`Scores::birth_from`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub birth_from: Option<f32>,
    /// See [`Scores::believed_from`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub believed_from: Option<f32>,
}

impl From<Scores> for ScoreConfig {
    fn from(scores: Scores) -> Self {
        Self {
            strong_from: Some(scores.strong_from),
            weak_from: Some(scores.weak_from),
            birth_from: Some(scores.birth_from),
            believed_from: Some(scores.believed_from),
        }
    }
}

impl ScoreConfig {
    /// Every score: what is asked for, over the model's.
    #[must_use]
    pub fn over(&self, model: Scores) -> Scores {
        Scores {
            strong_from: self.strong_from.unwrap_or(model.strong_from),
            weak_from: self.weak_from.unwrap_or(model.weak_from),
            birth_from: self.birth_from.unwrap_or(model.birth_from),
            believed_from: self.believed_from.unwrap_or(model.believed_from),
        }
    }

    /// Ranges of what is given, and the order of what is given together.
    fn validate(&self, table: &'static str) -> Result<(), LimitError> {
        let given = [
            ("score.weak_from", self.weak_from),
            ("score.strong_from", self.strong_from),
            ("score.birth_from", self.birth_from),
        ];
        let given = given.map(|(key, value)| value.map(|value| (key, value)));
        for (key, value) in given.into_iter().flatten() {
            check_ranges(table, [(key, value, 0.0..=1.0)])?;
        }
        if let Some(believed_from) = self.believed_from {
            check_ranges(table, [("score.believed_from", believed_from, 0.0..=2.0)])?;
        }
        for (low, high) in [(0, 1), (1, 2), (0, 2)] {
            if let (Some((low, at)), Some((high, limit))) = (given[low], given[high]) {
                check_order(table, [(low, at, high, limit)])?;
            }
        }
        Ok(())
    }
}

/// Constant velocity of centre and logarithm of size, and less of it the longer nothing is seen.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MotionConfig {
    /// Standard deviation of what a second does to the speed of the centre, in sides per second.
    pub speed_change_sides: f32,
    /// Standard deviation of a detected centre, in sides.
    pub centre_noise_sides: f32,
    /// How much less a weak detection is believed: its deviations are this much larger.
    pub weak_noise_factor: f32,
    /// Speed limit, in sides per second.
    pub max_speed_sides_per_second: f32,
    /// Standard deviation of what a second does to the rate of the logarithm of the size, per second.
    pub growth_change: f32,
    /// Standard deviation of the logarithm of a detected size.
    pub log_size_noise: f32,
    /// Limit on the rate of the logarithm of the size, per second.
    pub max_log_size_rate: f32,
    /// A velocity that is not seen fades by e in this time.
    pub decay_seconds: f32,
    /// A longer step than this says nothing about where anybody went.
    pub max_step_seconds: f32,
}

impl Default for MotionConfig {
    fn default() -> Self {
        Self {
            speed_change_sides: 1.2,
            centre_noise_sides: 0.08,
            weak_noise_factor: 2.0,
            max_speed_sides_per_second: 12.0,
            growth_change: 0.4,
            log_size_noise: 0.06,
            max_log_size_rate: 3.0,
            decay_seconds: 2.0,
            max_step_seconds: 1.0,
        }
    }
}

/// What it costs to take a detection for a road user: a weighted mean of how little the boxes overlap (0 to 1), how far
/// the detection lies from the prediction (0 to 1 at the gate) and how little they look alike (0 to 1), and what is added
/// to it. The weight of looks is left out where there is no embedding.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CostConfig {
    /// Weight of the overlap.
    pub overlap_weight: f32,
    /// Weight of the distance.
    pub distance_weight: f32,
    /// Weight of looks.
    pub looks_weight: f32,
    /// Largest squared Mahalanobis distance; see [`CHI_SQUARE_4_95`]. Wider than theory has it: cars brake, boxes jump and
    /// cameras shake more than the filter's normal distributions know, and the overlap still has its say.
    pub gate: f32,
    /// Added where the classes differ.
    pub other_kind: f32,
    /// Added for every second that the road user was not seen: who is seen goes first.
    pub unseen_per_second: f32,
    /// Strong detections that cost more are not taken.
    pub strong_below: f32,
    /// Weak detections that cost more are not taken.
    pub weak_below: f32,
    /// Those who are not believed yet take no detections that cost more.
    pub tentative_below: f32,
    /// A detection that overlaps somebody who is seen by more is no one new (IoU).
    pub duplicate_from_iou: f32,
    /// Looks are learned with this time constant.
    pub looks_seconds: f32,
}

impl Default for CostConfig {
    fn default() -> Self {
        Self {
            overlap_weight: 1.0,
            distance_weight: 0.5,
            looks_weight: 1.0,
            gate: 60.0,
            other_kind: 0.15,
            unseen_per_second: 0.3,
            strong_below: 0.8,
            weak_below: 0.75,
            tentative_below: 0.75,
            duplicate_from_iou: 0.6,
            looks_seconds: 1.0,
        }
    }
}

/// Birth, confirmation, occlusion, death.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LifeConfig {
    /// Somebody new is believed who is seen at least twice over this time.
    pub confirm_after_seconds: f32,
    /// Somebody new who is not seen for longer was nobody.
    pub tentative_gap_seconds: f32,
    /// Whoever is not seen for no longer is reported where they should be, as if seen: detectors blink.
    pub bridge_seconds: f32,
    /// Whoever is not seen for longer is lost: found again by the rules of `reclaim` only.
    pub lost_after_seconds: f32,
    /// Whoever is not seen for longer is forgotten.
    pub forget_after_seconds: f32,
    /// Whoever left the picture is forgotten after this time.
    pub left_after_seconds: f32,
    /// Left is who has less than this share of the box in the picture.
    pub left_below_share: f32,
}

impl Default for LifeConfig {
    fn default() -> Self {
        Self {
            confirm_after_seconds: 0.06,
            tentative_gap_seconds: 0.08,
            bridge_seconds: 0.06,
            lost_after_seconds: 0.5,
            forget_after_seconds: 3.0,
            left_after_seconds: 0.3,
            left_below_share: 0.3,
        }
    }
}

/// Taking up again whoever was lost: by place, size and, where there are embeddings, looks.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ReclaimConfig {
    /// Largest squared Mahalanobis distance. It grows more slowly with time than it should: an occluder hides who
    /// changes course.
    pub gate: f32,
    /// Sides may differ by this factor at most.
    pub max_side_ratio: f32,
    /// Looks must be alike at least this much (cosine), where there are any.
    pub min_similarity: f32,
    /// Weight of the distance.
    pub distance_weight: f32,
    /// Weight of looks.
    pub looks_weight: f32,
    /// Detections that cost more are not taken.
    pub below: f32,
}

impl Default for ReclaimConfig {
    fn default() -> Self {
        Self {
            gate: 30.0,
            max_side_ratio: 1.8,
            min_similarity: 0.5,
            distance_weight: 1.0,
            looks_weight: 2.0,
            below: 0.8,
        }
    }
}

/// Motion of the camera, estimated from where detections lie against where they were expected: a shift that most of them
/// share. It is for cameras that shake and turn; whoever knows more tells it with the frame.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CameraConfig {
    /// Whether it is estimated at all.
    pub estimate: bool,
    /// Largest shift, as a share of the picture's width.
    pub max_shift_share: f32,
    /// Shifts this near to one another are the same, as a share of the picture's width.
    pub same_shift_share: f32,
    /// At least so many road users have to share it.
    pub min_votes: u32,
    /// And this share of those who could.
    pub min_share: f32,
}

impl Default for CameraConfig {
    fn default() -> Self {
        Self {
            estimate: true,
            max_shift_share: 0.15,
            same_shift_share: 0.005,
            min_votes: 3,
            min_share: 0.5,
        }
    }
}

impl WatchConfig {
    /// Checks every range.
    ///
    /// # Errors
    /// The first value that cannot be.
    pub fn validate(&self) -> Result<(), LimitError> {
        const SHARE: RangeInclusive<f32> = 0.0..=1.0;
        const SECONDS: RangeInclusive<f32> = 0.0..=60.0;
        const POSITIVE: RangeInclusive<f32> = 1e-3..=1e3;
        const WEIGHT: RangeInclusive<f32> = 0.0..=100.0;
        let Self {
            views,
            room,
            score,
            motion,
            cost,
            life,
            reclaim,
            camera,
            cadence,
        } = self;
        views.validate(TABLE)?;
        cadence.validate()?;
        score.validate(TABLE)?;
        check_ranges(
            TABLE,
            [
                ("room.tracks", room.tracks, 1..=4096),
                ("room.detections", room.detections, 1..=4096),
                ("room.embedding", room.embedding, 0..=1024),
                ("camera.min_votes", camera.min_votes, 1..=1000),
            ],
        )?;
        check_ranges(
            TABLE,
            [
                (
                    "motion.speed_change_sides",
                    motion.speed_change_sides,
                    POSITIVE,
                ),
                (
                    "motion.centre_noise_sides",
                    motion.centre_noise_sides,
                    POSITIVE,
                ),
                (
                    "motion.weak_noise_factor",
                    motion.weak_noise_factor,
                    1.0..=100.0,
                ),
                (
                    "motion.max_speed_sides_per_second",
                    motion.max_speed_sides_per_second,
                    POSITIVE,
                ),
                ("motion.growth_change", motion.growth_change, POSITIVE),
                ("motion.log_size_noise", motion.log_size_noise, POSITIVE),
                (
                    "motion.max_log_size_rate",
                    motion.max_log_size_rate,
                    POSITIVE,
                ),
                ("motion.decay_seconds", motion.decay_seconds, POSITIVE),
                (
                    "motion.max_step_seconds",
                    motion.max_step_seconds,
                    1e-3..=60.0,
                ),
                ("cost.overlap_weight", cost.overlap_weight, WEIGHT),
                ("cost.distance_weight", cost.distance_weight, WEIGHT),
                ("cost.looks_weight", cost.looks_weight, WEIGHT),
                ("cost.gate", cost.gate, POSITIVE),
                ("cost.other_kind", cost.other_kind, WEIGHT),
                ("cost.unseen_per_second", cost.unseen_per_second, WEIGHT),
                ("cost.strong_below", cost.strong_below, WEIGHT),
                ("cost.weak_below", cost.weak_below, WEIGHT),
                ("cost.tentative_below", cost.tentative_below, WEIGHT),
                ("cost.duplicate_from_iou", cost.duplicate_from_iou, SHARE),
                ("cost.looks_seconds", cost.looks_seconds, POSITIVE),
                (
                    "life.confirm_after_seconds",
                    life.confirm_after_seconds,
                    SECONDS,
                ),
                (
                    "life.tentative_gap_seconds",
                    life.tentative_gap_seconds,
                    SECONDS,
                ),
                ("life.bridge_seconds", life.bridge_seconds, SECONDS),
                ("life.lost_after_seconds", life.lost_after_seconds, SECONDS),
                (
                    "life.forget_after_seconds",
                    life.forget_after_seconds,
                    SECONDS,
                ),
                ("life.left_after_seconds", life.left_after_seconds, SECONDS),
                ("life.left_below_share", life.left_below_share, SHARE),
                ("reclaim.gate", reclaim.gate, POSITIVE),
                (
                    "reclaim.max_side_ratio",
                    reclaim.max_side_ratio,
                    1.0..=100.0,
                ),
                ("reclaim.min_similarity", reclaim.min_similarity, -1.0..=1.0),
                ("reclaim.distance_weight", reclaim.distance_weight, WEIGHT),
                ("reclaim.looks_weight", reclaim.looks_weight, WEIGHT),
                ("reclaim.below", reclaim.below, WEIGHT),
                (
                    "camera.max_shift_share",
                    camera.max_shift_share,
                    0.001..=1.0,
                ),
                (
                    "camera.same_shift_share",
                    camera.same_shift_share,
                    0.001..=1.0,
                ),
                ("camera.min_share", camera.min_share, SHARE),
            ],
        )?;
        check_order(
            TABLE,
            [
                (
                    "life.bridge_seconds",
                    life.bridge_seconds,
                    "life.lost_after_seconds",
                    life.lost_after_seconds,
                ),
                (
                    "life.lost_after_seconds",
                    life.lost_after_seconds,
                    "life.forget_after_seconds",
                    life.forget_after_seconds,
                ),
                (
                    "camera.same_shift_share",
                    camera.same_shift_share,
                    "camera.max_shift_share",
                    camera.max_shift_share,
                ),
            ],
        )
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use alloc::string::ToString;

    use super::*;

    #[test]
    fn the_defaults_survive_toml_and_unknown_keys_do_not() {
        let text = toml::to_string(&WatchConfig::default()).unwrap();
        assert_eq!(toml::from_str(&text), Ok(WatchConfig::default()));
        let part: WatchConfig = toml::from_str("life.bridge_seconds = 0.2").unwrap();
        assert_eq!(part.life.bridge_seconds, 0.2);
        assert!(toml::from_str::<WatchConfig>("life.bridge = 0.2").is_err());
    }

    #[test]
    fn values_that_cannot_be_are_named() {
        let said = |text: &str| {
            let config: WatchConfig = toml::from_str(text).unwrap();
            config.validate().unwrap_err().to_string()
        };
        assert_eq!(
            said("cost.gate = nan"),
            "watch.cost.gate: found NaN, expected 0.0010000000474974513 to 1000"
        );
        assert_eq!(
            said("room.tracks = 0"),
            "watch.room.tracks: found 0, expected 1 to 4096"
        );
        assert_eq!(
            said("score.weak_from = 0.9\nscore.strong_from = 0.3"),
            "watch.score.weak_from is 0.9, above watch.score.strong_from, which is 0.3"
        );
        assert_eq!(
            said("score.birth_from = 1.5"),
            "watch.score.birth_from: found 1.5, expected 0 to 1"
        );
    }

    #[test]
    fn scores_that_nobody_asks_for_are_the_models() {
        let model = Scores {
            strong_from: 0.5,
            weak_from: 0.2,
            birth_from: 0.6,
            believed_from: 0.9,
        };
        let asked: ScoreConfig = toml::from_str("weak_from = 0.3").unwrap();
        assert_eq!(
            asked.over(model),
            Scores {
                weak_from: 0.3,
                ..model
            }
        );
        assert_eq!(ScoreConfig::default().over(model), model);
        assert_eq!(ScoreConfig::from(model).over(Scores::default()), model);
    }
}
