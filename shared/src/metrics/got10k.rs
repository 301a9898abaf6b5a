//! Average overlap and success rates (Huang et al., TPAMI 2021).

#[derive(Default)]
pub(super) struct Tally {
    pub(super) overlap: f64,
    pub(super) above_50: usize,
    pub(super) above_75: usize,
}

impl Tally {
    pub(super) fn add(&mut self, iou: f64) {
        self.overlap += iou;
        self.above_50 += usize::from(iou > 0.5);
        self.above_75 += usize::from(iou > 0.75);
    }
}
