//! Precision: the share of frames whose centre is near the true one, in pixels (Wu et al., CVPR 2013) or in sizes of
//! the target (Müller et al., ECCV 2018).

use super::ScoreBox;

/// Distance of centres up to which a frame is precise, in pixels.
pub const PRECISION_AT_PX: f64 = 20.0;
/// Distance of centres up to which a frame is precise, in widths and heights of the truth.
pub const NORMALISED_PRECISION_AT: f64 = 0.2;
/// Thresholds of the normalised precision plot: 0, 0.01 .. 0.5.
const NORMALISED_THRESHOLDS: usize = 51;

/// Horizontal and vertical distance of centres.
fn offset(found: &ScoreBox, truth: &ScoreBox) -> (f64, f64) {
    let dx = (found.x_px + found.w_px / 2.0) - (truth.x_px + truth.w_px / 2.0);
    let dy = (found.y_px + found.h_px / 2.0) - (truth.y_px + truth.h_px / 2.0);
    (dx, dy)
}

pub(super) fn distance_px(found: &ScoreBox, truth: &ScoreBox) -> f64 {
    let (dx, dy) = offset(found, truth);
    libm::sqrt(dx * dx + dy * dy)
}

/// `truth` has positive sides.
pub(super) fn normalised(found: &ScoreBox, truth: &ScoreBox) -> f64 {
    let (dx, dy) = offset(found, truth);
    let (dx, dy) = (dx / truth.w_px, dy / truth.h_px);
    libm::sqrt(dx * dx + dy * dy)
}

pub(super) struct Tally {
    pub(super) near: usize,
    normalised_near: usize,
    normalised: [usize; NORMALISED_THRESHOLDS],
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            near: 0,
            normalised_near: 0,
            normalised: [0; NORMALISED_THRESHOLDS],
        }
    }
}

impl Tally {
    pub(super) fn add(&mut self, distance_px: f64, normalised_distance: f64) {
        self.near += usize::from(distance_px <= PRECISION_AT_PX);
        self.normalised_near += usize::from(normalised_distance <= NORMALISED_PRECISION_AT);
        for (i, near) in self.normalised.iter_mut().enumerate() {
            *near += usize::from(normalised_distance <= i as f64 / 100.0);
        }
    }

    pub(super) fn normalised_near(&self) -> f64 {
        self.normalised_near as f64
    }

    pub(super) fn normalised_area(&self, frames: f64) -> f64 {
        self.normalised
            .iter()
            .map(|near| *near as f64 / frames)
            .sum::<f64>()
            / NORMALISED_THRESHOLDS as f64
    }
}
