//! From the outputs of the search graph to a few candidate boxes.
//!
//! In: [`SearchOutputs`] (whatever they hold: NaN, infinities, garbage), a [`Prior`] and the
//! constants of [`DecodeConfig`]. Out: the best peaks, best first, as boxes in pixels of the search
//! crop. Nothing is allocated after [`Decoder::new`].
//!
//! Every cell is ranked as in SiamRPN (Li et al., CVPR 2018): score, times a penalty for a change
//! of scale and ratio, mixed with a Hann window around the middle of the crop, and, as in MaST, with
//! a Gaussian around the predicted centre. Peaks are then picked by non-maximum suppression.
//!
//! ```
//! use roadhound_shared::contract::{FollowContract, FollowSizes};
//! use roadhound_shared::decode::{Decoder, Prior};
//! use roadhound_shared::network::SearchOutputs;
//! use roadhound_shared::tracker::TrackerConfig;
//!
//! let contract = FollowContract::new(FollowSizes::default()).expect("the default sizes agree");
//! let mut outputs = SearchOutputs::for_contract(&contract);
//! let cell = 8 * 16 + 7; // row 8, column 7: centre at (120, 136)
//! outputs.score[cell] = 0.9;
//! for side in 0..4 { outputs.box_ltrb_px[side * 256 + cell] = 32.0; }
//!
//! let mut decoder = Decoder::new(&contract);
//! let prior = Prior::sized(64.0, 64.0, 0.35);
//! let candidates = decoder.decode(&outputs, &prior, &TrackerConfig::default().decode);
//! assert_eq!(candidates[0].box_in_search.left_px, 88.0);
//! ```

use alloc::vec;
use alloc::vec::Vec;

use crate::contract::FollowContract;
use crate::geometry::{BoxLtrb, BoxXywh};
use crate::network::SearchOutputs;
use crate::tracker::DecodeConfig;

/// At most this many peaks are looked at in one frame.
pub const MAX_CANDIDATES: usize = 8;

/// A box has at least this side in the search crop: a quarter of a cell carries no information.
const MIN_SIDE_PX: f32 = 2.0;

/// Where the target might be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    /// Row-major cell of the peak.
    pub cell: usize,
    /// Score of the network at the peak, 0..1.
    pub score: f32,
    /// Penalty for a change of shape at the peak, 0..1, where 1 is none.
    pub shape_penalty: f32,
    /// Score after penalty and priors: what candidates are compared by.
    pub rank: f32,
    /// The box, in pixels of the search crop.
    pub box_in_search: BoxLtrb,
}

/// The candidates of one frame, best first.
pub type Candidates = heapless::Vec<Candidate, MAX_CANDIDATES>;

/// What is known before the frame is looked at, in pixels of the search crop.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Prior {
    /// Width of the last box.
    pub width_px: f32,
    /// Height of the last box.
    pub height_px: f32,
    /// Share of the Hann window in the ranking.
    pub window_weight: f32,
    /// Where the motion model expects the centre; `None` where it knows nothing.
    pub motion: Option<MotionPrior>,
}

impl Prior {
    /// A prior without motion.
    pub fn sized(width_px: f32, height_px: f32, window_weight: f32) -> Self {
        Self {
            width_px,
            height_px,
            window_weight,
            motion: None,
        }
    }
}

/// A Gaussian in the search crop.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MotionPrior {
    /// Predicted centre.
    pub cx_px: f32,
    /// Predicted centre.
    pub cy_px: f32,
    /// Standard deviation in x.
    pub sigma_x_px: f32,
    /// Standard deviation in y.
    pub sigma_y_px: f32,
}

/// Ranks cells and picks peaks. Owns the Hann window and one map of scratch.
#[derive(Debug, Clone)]
pub struct Decoder {
    cells: usize,
    stride_px: f32,
    search_px: f32,
    embedding_size: usize,
    /// One axis of the window, 1 in the middle.
    hann: Vec<f32>,
    /// Rank of every cell; negative infinity where the cell is out of the race.
    rank: Vec<f32>,
}

impl Decoder {
    /// A decoder for the sizes of this contract. The only place that allocates.
    pub fn new(contract: &FollowContract) -> Self {
        let cells = contract.score_cells();
        // The window of cells + 2 points without its zero ends, scaled to 1 at its peak.
        let hann: Vec<f32> = (0..cells)
            .map(|i| {
                let phase = core::f32::consts::TAU * (i + 1) as f32 / (cells + 1) as f32;
                0.5 - 0.5 * libm::cosf(phase)
            })
            .collect();
        let peak = hann.iter().copied().fold(f32::MIN_POSITIVE, f32::max);
        Self {
            cells,
            stride_px: contract.stride_px as f32,
            search_px: contract.search_px as f32,
            embedding_size: contract.embedding_size,
            hann: hann.into_iter().map(|v| v / peak).collect(),
            rank: vec![f32::NEG_INFINITY; cells * cells],
        }
    }

    /// The best peaks, best first. Empty when no cell holds a usable score and box, or when a
    /// buffer is too short.
    pub fn decode(
        &mut self,
        outputs: &SearchOutputs,
        prior: &Prior,
        config: &DecodeConfig,
    ) -> Candidates {
        let mut picked = Candidates::new();
        let total = self.cells * self.cells;
        if outputs.score.len() < total || outputs.box_ltrb_px.len() < 4 * total {
            return picked;
        }
        self.rank_cells(outputs, prior, config);
        let wanted = (config.candidates as usize).clamp(1, MAX_CANDIDATES);
        while picked.len() < wanted {
            let Some((cell, rank)) = self.best_cell() else {
                break;
            };
            let score = unit(outputs.score[cell]);
            if !picked.is_empty() && score < config.min_score {
                // Cells are ranked, not scored: a later one may still be good enough.
                self.rank[cell] = f32::NEG_INFINITY;
                continue;
            }
            let Some(peak) = self.box_at(outputs, cell) else {
                self.rank[cell] = f32::NEG_INFINITY;
                continue;
            };
            let candidate = Candidate {
                cell,
                score,
                shape_penalty: shape_penalty(&peak, prior, config.shape_penalty),
                rank,
                box_in_search: self.refine(outputs, cell, rank, peak, config),
            };
            self.suppress(outputs, cell, &peak, config.suppress_above_iou);
            if picked.push(candidate).is_err() {
                break;
            }
        }
        picked
    }

    /// Cosine similarity of the embedding at `cell` with a unit-norm `reference`; 0 where either is
    /// not usable.
    pub fn similarity(&self, outputs: &SearchOutputs, cell: usize, reference: &[f32]) -> f32 {
        let total = self.cells * self.cells;
        if cell >= total
            || reference.len() != self.embedding_size
            || outputs.embedding.len() < self.embedding_size * total
        {
            return 0.0;
        }
        let (mut dot, mut square) = (0.0_f32, 0.0_f32);
        for (channel, &expected) in reference.iter().enumerate() {
            let found = outputs.embedding[channel * total + cell];
            dot += found * expected;
            square += found * found;
        }
        let cosine = dot / libm::sqrtf(square);
        if cosine.is_finite() {
            cosine.clamp(-1.0, 1.0)
        } else {
            0.0
        }
    }

    /// Copies the embedding at `cell` into `out`; `false` where there is none.
    pub fn embedding_at(&self, outputs: &SearchOutputs, cell: usize, out: &mut [f32]) -> bool {
        let total = self.cells * self.cells;
        if cell >= total
            || out.len() != self.embedding_size
            || outputs.embedding.len() < self.embedding_size * total
        {
            return false;
        }
        for (channel, value) in out.iter_mut().enumerate() {
            *value = outputs.embedding[channel * total + cell];
        }
        true
    }

    fn rank_cells(&mut self, outputs: &SearchOutputs, prior: &Prior, config: &DecodeConfig) {
        let motion = prior.motion.filter(|m| {
            let sigmas = m.sigma_x_px > 0.0 && m.sigma_y_px > 0.0;
            sigmas && m.cx_px.is_finite() && m.cy_px.is_finite()
        });
        let window_weight = unit(prior.window_weight);
        let motion_weight = match motion {
            Some(_) => unit(config.motion_weight).min(1.0 - window_weight),
            None => 0.0,
        };
        let score_weight = 1.0 - window_weight - motion_weight;
        for row in 0..self.cells {
            for column in 0..self.cells {
                let cell = row * self.cells + column;
                let score = outputs.score[cell];
                // A cell without a number for its score or its box says nothing at all.
                let (true, Some(found)) = (score.is_finite(), self.box_at(outputs, cell)) else {
                    self.rank[cell] = f32::NEG_INFINITY;
                    continue;
                };
                let penalty = shape_penalty(&found, prior, config.shape_penalty);
                let mut rank = score_weight * penalty * unit(score)
                    + window_weight * self.hann[row] * self.hann[column];
                if let Some(m) = motion.filter(|_| motion_weight > 0.0) {
                    let (cx, cy) = centre(&found);
                    let (zx, zy) = ((cx - m.cx_px) / m.sigma_x_px, (cy - m.cy_px) / m.sigma_y_px);
                    rank += motion_weight * libm::expf(-0.5 * (zx * zx + zy * zy));
                }
                self.rank[cell] = if rank.is_finite() {
                    rank
                } else {
                    f32::NEG_INFINITY
                };
            }
        }
    }

    fn best_cell(&self) -> Option<(usize, f32)> {
        let mut best = None;
        let mut best_rank = f32::NEG_INFINITY;
        for (cell, &rank) in self.rank.iter().enumerate() {
            if rank > best_rank {
                best_rank = rank;
                best = Some((cell, rank));
            }
        }
        best
    }

    /// Takes a peak and every cell whose box overlaps it out of the race.
    fn suppress(&mut self, outputs: &SearchOutputs, peak: usize, at: &BoxLtrb, above_iou: f32) {
        let at = BoxXywh::from(*at);
        for cell in 0..self.rank.len() {
            if self.rank[cell] == f32::NEG_INFINITY {
                continue;
            }
            let overlaps = self
                .box_at(outputs, cell)
                .is_none_or(|b| BoxXywh::from(b).iou(&at) > above_iou);
            if cell == peak || overlaps {
                self.rank[cell] = f32::NEG_INFINITY;
            }
        }
    }

    /// Mean of the boxes around a peak, weighted by rank.
    fn refine(
        &self,
        outputs: &SearchOutputs,
        peak: usize,
        peak_rank: f32,
        at: BoxLtrb,
        config: &DecodeConfig,
    ) -> BoxLtrb {
        let radius = config.refine_radius_cells as usize;
        if radius == 0 || peak_rank <= 0.0 {
            return at;
        }
        let (row, column) = (peak / self.cells, peak % self.cells);
        let mut sum = [0.0_f32; 4];
        let mut weights = 0.0_f32;
        for y in row.saturating_sub(radius)..=(row + radius).min(self.cells - 1) {
            for x in column.saturating_sub(radius)..=(column + radius).min(self.cells - 1) {
                let cell = y * self.cells + x;
                let rank = self.rank[cell];
                if rank < config.refine_above * peak_rank || rank <= 0.0 {
                    continue;
                }
                if let Some(found) = self.box_at(outputs, cell) {
                    for (total, edge) in sum.iter_mut().zip(found.to_array()) {
                        *total += rank * edge;
                    }
                    weights += rank;
                }
            }
        }
        if weights <= 0.0 {
            return at;
        }
        let [left, top, right, bottom] = sum.map(|edge| edge / weights);
        BoxLtrb::new(left, top, right, bottom)
    }

    /// The box of a cell, in pixels of the search crop; `None` where a distance is not a number.
    /// Distances are kept within twice the crop, and sides at [`MIN_SIDE_PX`] or more.
    fn box_at(&self, outputs: &SearchOutputs, cell: usize) -> Option<BoxLtrb> {
        let total = self.cells * self.cells;
        let mut distance = [0.0_f32; 4];
        for (side, value) in distance.iter_mut().enumerate() {
            let found = outputs.box_ltrb_px[side * total + cell];
            if !found.is_finite() {
                return None;
            }
            *value = found.clamp(0.0, 2.0 * self.search_px);
        }
        let cx = self.stride_px * ((cell % self.cells) as f32 + 0.5);
        let cy = self.stride_px * ((cell / self.cells) as f32 + 0.5);
        let [mut left, mut top, mut right, mut bottom] = [
            cx - distance[0],
            cy - distance[1],
            cx + distance[2],
            cy + distance[3],
        ];
        for (low, high) in [(&mut left, &mut right), (&mut top, &mut bottom)] {
            let lacking = MIN_SIDE_PX - (*high - *low);
            if lacking > 0.0 {
                *low -= 0.5 * lacking;
                *high += 0.5 * lacking;
            }
        }
        Some(BoxLtrb::new(left, top, right, bottom))
    }
}

fn centre(b: &BoxLtrb) -> (f32, f32) {
    (
        0.5 * (b.left_px + b.right_px),
        0.5 * (b.top_px + b.bottom_px),
    )
}

/// A number in 0..1; 0 for what is not a number.
fn unit(value: f32) -> f32 {
    if value.is_nan() {
        0.0
    } else {
        value.clamp(0.0, 1.0)
    }
}

/// `exp(-strength * (change of scale * change of ratio - 1))`, as in SiamRPN; 1 is no change.
fn shape_penalty(found: &BoxLtrb, prior: &Prior, strength: f32) -> f32 {
    let padded = |w: f32, h: f32| {
        let padding = 0.5 * (w + h);
        libm::sqrtf((w + padding) * (h + padding))
    };
    let change = |ratio: f32| ratio.max(1.0 / ratio);
    let (w, h) = (
        found.right_px - found.left_px,
        found.bottom_px - found.top_px,
    );
    let (before_w, before_h) = (
        prior.width_px.max(MIN_SIDE_PX),
        prior.height_px.max(MIN_SIDE_PX),
    );
    let scale = change(padded(w, h) / padded(before_w, before_h));
    let ratio = change((w / h) / (before_w / before_h));
    let penalty = libm::expf(-strength * (scale * ratio - 1.0));
    if penalty.is_finite() { penalty } else { 0.0 }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::contract::FollowSizes;
    use crate::tracker::TrackerConfig;
    use proptest::prelude::*;

    const CELLS: usize = 256;

    fn contract() -> FollowContract {
        FollowContract::new(FollowSizes {
            embedding_size: 4,
            ..FollowSizes::default()
        })
        .unwrap()
    }

    fn config() -> DecodeConfig {
        TrackerConfig::default().decode
    }

    /// Puts a peak with a box of this half-size at a cell.
    fn put(outputs: &mut SearchOutputs, row: usize, column: usize, score: f32, half_px: f32) {
        let cell = row * 16 + column;
        outputs.score[cell] = score;
        for side in 0..4 {
            outputs.box_ltrb_px[side * CELLS + cell] = half_px;
        }
    }

    fn decode(outputs: &SearchOutputs, prior: &Prior, config: &DecodeConfig) -> Candidates {
        Decoder::new(&contract()).decode(outputs, prior, config)
    }

    #[test]
    fn the_window_decides_between_equal_scores() {
        let mut outputs = SearchOutputs::for_contract(&contract());
        put(&mut outputs, 2, 2, 0.9, 32.0);
        put(&mut outputs, 8, 8, 0.9, 32.0);
        let found = decode(&outputs, &Prior::sized(64.0, 64.0, 0.35), &config());
        assert_eq!(found[0].cell, 8 * 16 + 8);
        assert_eq!(found[1].cell, 2 * 16 + 2);
    }

    #[test]
    fn without_a_window_the_higher_score_wins_wherever_it_is() {
        let mut outputs = SearchOutputs::for_contract(&contract());
        put(&mut outputs, 1, 14, 0.9, 32.0);
        put(&mut outputs, 8, 8, 0.8, 32.0);
        let found = decode(&outputs, &Prior::sized(64.0, 64.0, 0.0), &config());
        assert_eq!(found[0].cell, 16 + 14);
    }

    #[test]
    fn a_box_of_the_old_shape_wins_over_one_four_times_as_large() {
        let mut outputs = SearchOutputs::for_contract(&contract());
        put(&mut outputs, 8, 4, 0.8, 32.0);
        put(&mut outputs, 8, 11, 0.85, 128.0);
        let found = decode(&outputs, &Prior::sized(64.0, 64.0, 0.0), &config());
        assert_eq!(found[0].cell, 8 * 16 + 4);
        assert_eq!(found[0].shape_penalty, 1.0);
    }

    #[test]
    fn the_gaussian_prefers_the_predicted_place() {
        let mut outputs = SearchOutputs::for_contract(&contract());
        put(&mut outputs, 8, 3, 0.8, 32.0);
        put(&mut outputs, 8, 12, 0.8, 32.0);
        let config = DecodeConfig {
            motion_weight: 0.3,
            ..config()
        };
        for (column, cx_px) in [(3, 56.0), (12, 200.0)] {
            let prior = Prior {
                motion: Some(MotionPrior {
                    cx_px,
                    cy_px: 136.0,
                    sigma_x_px: 32.0,
                    sigma_y_px: 32.0,
                }),
                ..Prior::sized(64.0, 64.0, 0.0)
            };
            assert_eq!(decode(&outputs, &prior, &config)[0].cell, 8 * 16 + column);
        }
    }

    #[test]
    fn neighbours_of_a_peak_are_the_same_object() {
        let mut outputs = SearchOutputs::for_contract(&contract());
        put(&mut outputs, 8, 8, 0.9, 32.0);
        put(&mut outputs, 8, 9, 0.8, 32.0);
        put(&mut outputs, 3, 3, 0.6, 32.0);
        let found = decode(&outputs, &Prior::sized(64.0, 64.0, 0.0), &config());
        let cells: std::vec::Vec<_> = found.iter().map(|c| c.cell).collect();
        assert_eq!(cells, [8 * 16 + 8, 3 * 16 + 3]);
    }

    #[test]
    fn refinement_averages_the_boxes_around_the_peak() {
        let mut outputs = SearchOutputs::for_contract(&contract());
        put(&mut outputs, 8, 8, 0.9, 32.0);
        put(&mut outputs, 8, 9, 0.9, 32.0);
        let config = DecodeConfig {
            refine_radius_cells: 1,
            ..config()
        };
        let found = decode(&outputs, &Prior::sized(64.0, 64.0, 0.0), &config);
        let (cx, _) = centre(&found[0].box_in_search);
        assert!((cx - 144.0).abs() < 1e-3, "{cx}");
    }

    #[test]
    fn a_map_without_a_number_gives_no_candidate() {
        let mut outputs = SearchOutputs::for_contract(&contract());
        outputs.score.fill(f32::NAN);
        assert!(decode(&outputs, &Prior::sized(64.0, 64.0, 0.35), &config()).is_empty());
    }

    #[test]
    fn cells_whose_box_is_not_a_number_are_passed_over() {
        let mut outputs = SearchOutputs::for_contract(&contract());
        put(&mut outputs, 8, 8, 0.99, f32::NAN);
        put(&mut outputs, 6, 6, 0.5, 32.0);
        let found = decode(&outputs, &Prior::sized(64.0, 64.0, 0.0), &config());
        assert_eq!(found[0].cell, 6 * 16 + 6);
    }

    #[test]
    fn buffers_that_are_too_short_give_no_candidate() {
        let mut outputs = SearchOutputs::for_contract(&contract());
        outputs.box_ltrb_px.truncate(100);
        assert!(decode(&outputs, &Prior::sized(64.0, 64.0, 0.0), &config()).is_empty());
    }

    #[test]
    fn similarity_reads_one_location_and_tolerates_garbage() {
        let decoder = Decoder::new(&contract());
        let mut outputs = SearchOutputs::for_contract(&contract());
        outputs.embedding[2 * CELLS + 5] = 3.0;
        let reference = [0.0, 0.0, 1.0, 0.0];
        assert_eq!(decoder.similarity(&outputs, 5, &reference), 1.0);
        assert_eq!(decoder.similarity(&outputs, 6, &reference), 0.0);
        outputs.embedding[5] = f32::INFINITY;
        assert_eq!(decoder.similarity(&outputs, 5, &reference), 0.0);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn whatever_the_network_says_candidates_are_ordinary_boxes(
            score in prop::collection::vec(any::<f32>(), CELLS),
            ltrb in prop::collection::vec(any::<f32>(), 4 * CELLS),
            (width_px, height_px, window_weight) in any::<(f32, f32, f32)>(),
            motion in prop::option::of(any::<(f32, f32, f32, f32)>()),
            refine_radius_cells in 0_u32..3,
        ) {
            let mut outputs = SearchOutputs::for_contract(&contract());
            outputs.score = score;
            outputs.box_ltrb_px = ltrb;
            let motion = motion.map(|(cx_px, cy_px, sigma_x_px, sigma_y_px)| {
                MotionPrior { cx_px, cy_px, sigma_x_px, sigma_y_px }
            });
            let prior = Prior { width_px, height_px, window_weight, motion };
            let config = DecodeConfig { refine_radius_cells, motion_weight: 0.2, ..config() };
            for candidate in decode(&outputs, &prior, &config) {
                let b = candidate.box_in_search;
                prop_assert!((0.0..=1.0).contains(&candidate.score));
                prop_assert!((0.0..=1.0).contains(&candidate.shape_penalty));
                prop_assert!(candidate.rank.is_finite());
                prop_assert!(b.right_px - b.left_px >= 0.99 * MIN_SIDE_PX);
                prop_assert!(b.bottom_px - b.top_px >= 0.99 * MIN_SIDE_PX);
                prop_assert!(b.to_array().iter().all(|v| v.abs() <= 3.0 * 256.0));
            }
        }
    }
}
