//! What it costs to take a detection within the gate for a road user; infinite where it cannot be.
//!
//! `share` is how much of the gate lies between them: squared Mahalanobis distance over the gate, 0 to 1.

use super::Detection;
use super::config::{CostConfig, ReclaimConfig};
use super::looks::Looks;
use super::track::Track;

/// For somebody of whom it is known where they should be.
pub(super) fn seen(
    track: &Track,
    d: &Detection<'_>,
    looks: Option<&Looks<'_>>,
    share: f32,
    c: &CostConfig,
) -> f32 {
    let mut sum = c.overlap_weight * (1.0 - track.expected.iou(&d.box_in_image));
    sum += c.distance_weight * share;
    let mut weights = c.overlap_weight + c.distance_weight;
    if let Some(likeness) = looks.and_then(|looks| track.likeness(looks)) {
        sum += c.looks_weight * (1.0 - likeness).clamp(0.0, 1.0);
        weights += c.looks_weight;
    }
    let other = if track.kind() == d.kind {
        0.0
    } else {
        c.other_kind
    };
    sum / weights.max(1e-6) + other
}

/// For somebody who may be anywhere near.
pub(super) fn lost(
    track: &Track,
    d: &Detection<'_>,
    looks: Option<&Looks<'_>>,
    share: f32,
    c: &ReclaimConfig,
) -> f32 {
    let (before, now) = (&track.expected, &d.box_in_image);
    let ratio = |a: f32, b: f32| a.max(b) / a.min(b);
    if ratio(before.w_px, now.w_px).max(ratio(before.h_px, now.h_px)) > c.max_side_ratio {
        return f32::INFINITY;
    }
    let mut sum = c.distance_weight * share;
    let mut weights = c.distance_weight;
    if let Some((looks, likeness)) = looks.and_then(|l| Some((l, track.likeness(l)?))) {
        if likeness < looks.least(c.min_similarity) {
            return f32::INFINITY;
        }
        sum += c.looks_weight * (1.0 - likeness).clamp(0.0, 1.0);
        weights += c.looks_weight;
    }
    sum / weights.max(1e-6)
}
