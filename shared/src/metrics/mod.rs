//! Scores of single-target runs, under the definitions of the benchmarks they come from. Those of many objects with
//! identities are in [`multi`].
//!
//! What enters: for each frame of a run the true box, where there is one, and the box reported, where there was one.
//! What leaves: a [`RunScore`], means over runs, presence figures ([`presence`]).
//!
//! Published definitions differ, and on the same boxes they differ by whole points. A [`Convention`] says which holds;
//! the default is that of `tools/score.py`, to which results agree to 1e-6:
//!
//! | | default | [`OTB`](Convention::OTB) | [`LASOT`](Convention::LASOT) | [`got10k`](Convention::got10k) |
//! |---|---|---|---|---|
//! | first frame, which is given | not scored | counts as perfect | counts as perfect | not scored |
//! | frame without truth | left out | left out | counts as failed | left out |
//! | frame without a box | fails | takes the last box | takes the last box | fails |
//! | boxes | as they are | as they are | as they are | held to the image |
//!
//! Read from pytracking's `extract_results.py` (OTB, LaSOT; it reports these in percent) and from got10k's
//! `rect_iou` and `ExperimentGOT10k`. Two things they do that make no difference here: pytracking puts centres at
//! `x + (w - 1) / 2` where we say `x + w / 2`, which cancels in the distance of two centres; and GOT-10k averages
//! over frames where the others average over runs, for which there is [`RunScore::pooled`] beside
//! [`RunScore::mean`].
//!
//! ```
//! use roadhound_shared::metrics::{Convention, RunScore, ScoreBox};
//!
//! let truth = [Some(ScoreBox::new(0.0, 0.0, 10.0, 10.0)); 3];
//! let found = [truth[0], truth[0], None];
//! let score = RunScore::of(&truth, &found, &Convention::default())?;
//! assert_eq!((score.frames, score.average_overlap), (2, 0.5));
//! # Ok::<(), roadhound_shared::metrics::MetricsError>(())
//! ```

mod got10k;
pub mod multi;
mod precision;
pub mod presence;
mod success;

use serde::{Deserialize, Serialize};

use crate::geometry::BoxXywh;

pub use precision::{NORMALISED_PRECISION_AT, PRECISION_AT_PX};
pub use success::{SUCCESS_THRESHOLDS, success_area, success_threshold};

/// A box to be scored: as [`BoxXywh`], in the double precision that result files are read in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScoreBox {
    /// Left edge.
    pub x_px: f64,
    /// Top edge.
    pub y_px: f64,
    /// Width.
    pub w_px: f64,
    /// Height.
    pub h_px: f64,
}

impl ScoreBox {
    /// A box from its left and top edge and its size.
    #[must_use]
    pub const fn new(x_px: f64, y_px: f64, w_px: f64, h_px: f64) -> Self {
        Self {
            x_px,
            y_px,
            w_px,
            h_px,
        }
    }

    /// Intersection over union, 0 to 1; zero without common area, and where areas are too small or too large to be numbers.
    /// A box with itself may come to a last digit more than 1: other scorers compute it so, and count it above a threshold of 1.
    #[must_use]
    pub fn iou(&self, other: &Self) -> f64 {
        let w = (self.x_px + self.w_px).min(other.x_px + other.w_px) - self.x_px.max(other.x_px);
        let h = (self.y_px + self.h_px).min(other.y_px + other.h_px) - self.y_px.max(other.y_px);
        if !(w > 0.0 && h > 0.0) {
            return 0.0;
        }
        let union = self.w_px * self.h_px + other.w_px * other.h_px - w * h;
        // A NaN is no union either.
        if union > 0.0 { w * h / union } else { 0.0 }
    }

    /// Whether it has area; a NaN has none.
    fn has_area(&self) -> bool {
        self.w_px > 0.0 && self.h_px > 0.0 && !self.x_px.is_nan() && !self.y_px.is_nan()
    }
}

impl From<BoxXywh> for ScoreBox {
    fn from(b: BoxXywh) -> Self {
        Self::new(
            f64::from(b.x_px),
            f64::from(b.y_px),
            f64::from(b.w_px),
            f64::from(b.h_px),
        )
    }
}

/// What becomes of the first frame, whose box the tracker was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FirstFrame {
    /// It is not scored.
    NotScored,
    /// It counts as a frame without error.
    Perfect,
}

/// What becomes of a frame without truth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MissingTruth {
    /// It is left out.
    LeftOut,
    /// It counts as failed: the run is divided by its full length.
    Fails,
}

/// What becomes of a frame with truth on which no box was reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MissingBox {
    /// Overlap zero, distance infinite.
    Fails,
    /// The last box reported stands in; on the first frame, the truth.
    RepeatsLast,
}

/// The image that boxes are held to before they overlap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bound {
    /// Boxes stay as they are.
    None,
    /// As GOT-10k's toolkit does it: a corner beyond the left or top edge is moved to it, and only then is the size
    /// cut, so that such a box is moved rather than clipped.
    Image {
        /// Width of the image.
        width_px: u32,
        /// Height of the image.
        height_px: u32,
    },
}

impl Bound {
    fn hold(self, b: ScoreBox) -> ScoreBox {
        let Self::Image {
            width_px,
            height_px,
        } = self
        else {
            return b;
        };
        let (width, height) = (f64::from(width_px), f64::from(height_px));
        let (x_px, y_px) = (b.x_px.clamp(0.0, width), b.y_px.clamp(0.0, height));
        ScoreBox::new(
            x_px,
            y_px,
            b.w_px.clamp(0.0, width - x_px),
            b.h_px.clamp(0.0, height - y_px),
        )
    }
}

/// Where published definitions differ. See the [module's table](self).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Convention {
    /// What becomes of the first frame.
    pub first_frame: FirstFrame,
    /// What becomes of frames without truth.
    pub missing_truth: MissingTruth,
    /// What becomes of frames without a box.
    pub missing_box: MissingBox,
    /// What boxes are held to before they overlap.
    pub bound: Bound,
}

impl Convention {
    /// That of `tools/score.py`: the default.
    pub const SCORE: Self = Self {
        first_frame: FirstFrame::NotScored,
        missing_truth: MissingTruth::LeftOut,
        missing_box: MissingBox::Fails,
        bound: Bound::None,
    };
    /// OTB as pytracking computes it (Wu et al., TPAMI 2015).
    pub const OTB: Self = Self {
        first_frame: FirstFrame::Perfect,
        missing_truth: MissingTruth::LeftOut,
        missing_box: MissingBox::RepeatsLast,
        bound: Bound::None,
    };
    /// LaSOT as pytracking computes it (Fan et al., CVPR 2019). UAV123 divides likewise.
    pub const LASOT: Self = Self {
        missing_truth: MissingTruth::Fails,
        ..Self::OTB
    };

    /// GOT-10k (Huang et al., TPAMI 2021) on images of this size. Frames with a cover of zero are to be passed as
    /// frames without truth.
    #[must_use]
    pub const fn got10k(width_px: u32, height_px: u32) -> Self {
        Self {
            bound: Bound::Image {
                width_px,
                height_px,
            },
            ..Self::SCORE
        }
    }
}

impl Default for Convention {
    fn default() -> Self {
        Self::SCORE
    }
}

/// Why a run could not be scored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MetricsError {
    /// Truth and results are of different lengths.
    #[error("run has {truth} frames of truth but {found} results")]
    Length {
        /// Frames of truth.
        truth: usize,
        /// Results.
        found: usize,
    },
    /// A score is NaN and cannot be ranked.
    #[error("score {index} is not a number")]
    NotANumber {
        /// Which score.
        index: usize,
    },
}

/// The figures of one run, or of several taken together. Shares are 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunScore {
    /// Frames scored.
    pub frames: usize,
    /// Mean over thresholds 0, 0.05 .. 1 of the share of frames with IoU strictly above (OTB, LaSOT).
    pub success_auc: f64,
    /// Mean IoU (GOT-10k's AO).
    pub average_overlap: f64,
    /// Share of frames with IoU above 0.5 (GOT-10k's SR50).
    pub success_50: f64,
    /// Share of frames with IoU above 0.75 (GOT-10k's SR75).
    pub success_75: f64,
    /// Share of frames with the centre off by at most 20 px (OTB).
    pub precision_20px: f64,
    /// Share of frames with the centre off by at most 0.2, horizontally in widths and vertically in heights of the
    /// truth (pytracking).
    pub normalised_precision_20: f64,
    /// Mean over thresholds 0, 0.01 .. 0.5 of the same share (TrackingNet, LaSOT).
    pub normalised_precision_auc: f64,
    /// Frames without truth, the first frame apart.
    pub absent: usize,
    /// Frames without truth on which a box was reported all the same.
    pub false_alarms: usize,
}

impl RunScore {
    /// Scores one run, frame by frame from the one whose box was given.
    ///
    /// A truth whose sides are not positive counts as no truth, and a box with a NaN as no box.
    ///
    /// # Errors
    /// Truth and results of different lengths.
    pub fn of(
        truth: &[Option<ScoreBox>],
        found: &[Option<ScoreBox>],
        convention: &Convention,
    ) -> Result<Self, MetricsError> {
        if truth.len() != found.len() {
            return Err(MetricsError::Length {
                truth: truth.len(),
                found: found.len(),
            });
        }
        let mut tally = Tally::default();
        let mut last = None;
        for (i, (truth, found)) in truth.iter().zip(found).enumerate() {
            let truth = truth.filter(ScoreBox::has_area);
            let found =
                found.filter(|b| ![b.x_px, b.y_px, b.w_px, b.h_px].iter().any(|v| v.is_nan()));
            if i == 0 {
                last = truth;
                match (convention.first_frame, truth) {
                    (FirstFrame::NotScored, _) => {}
                    (FirstFrame::Perfect, Some(_)) => tally.add(1.0, 0.0, 0.0),
                    (FirstFrame::Perfect, None) => tally.add_missing_truth(convention),
                }
                continue;
            }
            let Some(truth) = truth else {
                tally.absent += 1;
                tally.false_alarms += usize::from(found.is_some());
                tally.add_missing_truth(convention);
                last = found.or(last);
                continue;
            };
            let stand_in = match convention.missing_box {
                MissingBox::Fails => None,
                MissingBox::RepeatsLast => last,
            };
            match found.or(stand_in) {
                Some(found) => {
                    let iou = convention
                        .bound
                        .hold(found)
                        .iou(&convention.bound.hold(truth));
                    tally.add(
                        iou,
                        precision::distance_px(&found, &truth),
                        precision::normalised(&found, &truth),
                    );
                }
                None => tally.add_failure(),
            }
            last = found.or(last);
        }
        Ok(tally.score())
    }

    /// Every run counts the same, as in OTB and LaSOT. Counts are summed.
    #[must_use]
    pub fn mean(runs: &[Self]) -> Self {
        Self::weighted(runs, |_| 1.0)
    }

    /// Every frame counts the same, as in GOT-10k. Counts are summed.
    #[must_use]
    pub fn pooled(runs: &[Self]) -> Self {
        Self::weighted(runs, |run| run.frames as f64)
    }

    fn weighted(runs: &[Self], weight: impl Fn(&Self) -> f64) -> Self {
        let total: f64 = runs.iter().map(&weight).sum();
        let mean = |figure: fn(&Self) -> f64| {
            let sum: f64 = runs.iter().map(|run| weight(run) * figure(run)).sum();
            if total > 0.0 { sum / total } else { 0.0 }
        };
        Self {
            frames: runs.iter().map(|run| run.frames).sum(),
            success_auc: mean(|run| run.success_auc),
            average_overlap: mean(|run| run.average_overlap),
            success_50: mean(|run| run.success_50),
            success_75: mean(|run| run.success_75),
            precision_20px: mean(|run| run.precision_20px),
            normalised_precision_20: mean(|run| run.normalised_precision_20),
            normalised_precision_auc: mean(|run| run.normalised_precision_auc),
            absent: runs.iter().map(|run| run.absent).sum(),
            false_alarms: runs.iter().map(|run| run.false_alarms).sum(),
        }
    }

    /// Share of the frames without truth on which a box was reported; `None` where there is no such frame.
    #[must_use]
    pub fn false_alarm_rate(&self) -> Option<f64> {
        (self.absent > 0).then(|| self.false_alarms as f64 / self.absent as f64)
    }
}

/// Sums over the frames of a run: no list of frames, so no allocation.
#[derive(Default)]
struct Tally {
    frames: usize,
    absent: usize,
    false_alarms: usize,
    success: success::Tally,
    got10k: got10k::Tally,
    precision: precision::Tally,
}

impl Tally {
    fn add(&mut self, iou: f64, distance_px: f64, normalised_distance: f64) {
        self.frames += 1;
        self.success.add(iou);
        self.got10k.add(iou);
        self.precision.add(distance_px, normalised_distance);
    }

    /// A frame that is scored, without a box.
    fn add_failure(&mut self) {
        self.add(0.0, f64::INFINITY, f64::INFINITY);
    }

    fn add_missing_truth(&mut self, convention: &Convention) {
        match convention.missing_truth {
            MissingTruth::LeftOut => {}
            MissingTruth::Fails => self.add_failure(),
        }
    }

    fn score(&self) -> RunScore {
        // A run without a scored frame scores zero.
        let frames = self.frames.max(1) as f64;
        RunScore {
            frames: self.frames,
            success_auc: self.success.area(frames),
            average_overlap: self.got10k.overlap / frames,
            success_50: self.got10k.above_50 as f64 / frames,
            success_75: self.got10k.above_75 as f64 / frames,
            precision_20px: self.precision.near as f64 / frames,
            normalised_precision_20: self.precision.normalised_near() / frames,
            normalised_precision_auc: self.precision.normalised_area(frames),
            absent: self.absent,
            false_alarms: self.false_alarms,
        }
    }
}
