//! How pairs are made: frame gaps, shifts and scales, negatives, rivals, hidden targets, and which tracks are drawn more often.

use serde::{Deserialize, Serialize};

use crate::augment::check_range;
use crate::data::DataError;

/// Objects that look like the target: of its class, from its own frame where there is another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RivalConfig {
    /// Of the pairs that show another object, how many show one of the target's class on the target's own frame.
    pub negative_share: f32,
    /// Of the pasted distractors, how many look like the target.
    pub paste_share: f32,
    /// How far from the target those are pasted, in its own sides, from and to.
    pub reach_sides: [f32; 2],
}

impl Default for RivalConfig {
    fn default() -> Self {
        Self {
            negative_share: 0.35,
            paste_share: 0.6,
            reach_sides: [0.9, 1.8],
        }
    }
}

/// Which tracks of a pack are drawn more often. An exponent of 0 leaves a property out of account; 1 makes all its
/// values equally frequent; between them rare ones become less rare.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BalanceConfig {
    /// Exponent of the class.
    pub class: f32,
    /// Exponent of the box's size, in octaves of the root of its area in the image.
    pub size: f32,
    /// Exponent of the sequence: a crowded scene is one scene.
    pub sequence: f32,
}

impl Default for BalanceConfig {
    fn default() -> Self {
        Self {
            class: 0.5,
            size: 0.3,
            sequence: 0.3,
        }
    }
}

/// How pairs are made. Defaults are the rehearsed recipe. Lengths in pixels are pixels of the crop they speak of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SamplerConfig {
    /// Side of the template crops.
    pub template_crop_px: u32,
    /// Side of the search crop.
    pub search_crop_px: u32,
    /// Context factor of the template window, see [`CropWindow::around`](roadhound_shared::preprocess::CropWindow::around).
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
    /// Of the pairs that show neither another object nor another part of the image, in tracks with frames on which the
    /// target is annotated as hidden in part, how many search one of those.
    pub occluded_share: f32,
    /// Of the pairs that show neither another object nor another part of the image, in tracks with frames on which the
    /// target is annotated as hidden wholly, how many search one of those: the target is absent.
    pub hidden_share: f32,
    /// A target of which a smaller share can be seen counts as hidden wholly, where the pack says how much can be seen.
    pub absent_below_visible: f32,
    /// Objects that look like the target.
    pub rival: RivalConfig,
    /// Which tracks are drawn more often.
    pub balance: BalanceConfig,
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
            occluded_share: 0.15,
            hidden_share: 0.08,
            absent_below_visible: 0.1,
            rival: RivalConfig::default(),
            balance: BalanceConfig::default(),
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
            ("sampler.occluded_share", self.occluded_share),
            ("sampler.hidden_share", self.hidden_share),
            ("sampler.absent_below_visible", self.absent_below_visible),
            ("sampler.rival.negative_share", self.rival.negative_share),
            ("sampler.rival.paste_share", self.rival.paste_share),
            ("sampler.balance.class", self.balance.class),
            ("sampler.balance.size", self.balance.size),
            ("sampler.balance.sequence", self.balance.sequence),
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
            "sampler.rival.reach_sides",
            self.rival.reach_sides,
            [0.5, 10.0],
        )?;
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
