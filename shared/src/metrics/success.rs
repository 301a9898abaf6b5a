//! Success plot: the share of frames whose overlap is above a threshold, over thresholds (Wu et al., CVPR 2013).

/// Thresholds of the success plot: 0, 0.05 .. 1.
pub const SUCCESS_THRESHOLDS: usize = 21;

/// Threshold `i` of the success plot.
#[must_use]
pub fn success_threshold(i: usize) -> f64 {
    i as f64 / (SUCCESS_THRESHOLDS - 1) as f64
}

/// Area under the success plot of overlaps; 0 for none.
///
/// ```
/// use roadhound_shared::metrics::success_area;
/// // Above all thresholds but the last, and above none.
/// assert_eq!(success_area(&[1.0, 0.0]), 10.0 / 21.0);
/// ```
#[must_use]
pub fn success_area(overlaps: &[f64]) -> f64 {
    let mut tally = Tally::default();
    overlaps.iter().for_each(|overlap| tally.add(*overlap));
    tally.area(overlaps.len().max(1) as f64)
}

#[derive(Default)]
pub(super) struct Tally {
    above: [usize; SUCCESS_THRESHOLDS],
}

impl Tally {
    pub(super) fn add(&mut self, iou: f64) {
        for (i, above) in self.above.iter_mut().enumerate() {
            *above += usize::from(iou > success_threshold(i));
        }
    }

    /// Area under the plot: the mean over its thresholds.
    pub(super) fn area(&self, frames: f64) -> f64 {
        self.above
            .iter()
            .map(|above| *above as f64 / frames)
            .sum::<f64>()
            / SUCCESS_THRESHOLDS as f64
    }
}
