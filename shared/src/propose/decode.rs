//! From the maps of `propose.onnx` to proposals.
//!
//! In: [`ProposeOutputs`], whatever they hold: NaN, infinities, garbage. Out: at most [`MAX_PROPOSALS`] proposals, best
//! first, their boxes in pixels of the input. Nothing is allocated.
//!
//! A sub-cell is a peak where its score is the highest of its class among its eight neighbours (CenterNet, Zhou et al.
//! 2019). Its box is the mean of its own and of those neighbours' that speak of the same object ([`BoxVote`]). Two peaks may
//! still be one object, seen from two cells or called by two names: of two that overlap, the lower goes.

use serde::{Deserialize, Serialize};

use super::ProposeOutputs;
use super::classes::RoadUser;
use super::contract::{ProposeContract, SUB_CELLS};
use crate::contract::{ContractError, wrong};
use crate::geometry::{BoxLtrb, BoxXywh};

/// At most this many road users on one frame.
pub const MAX_PROPOSALS: usize = 128;
/// Peaks that are looked at; the best ones where there are more.
const MAX_PEAKS: usize = 2 * MAX_PROPOSALS;
/// A box has at least this side in the input: a quarter of a sub-cell carries no information.
const MIN_SIDE_PX: f32 = 2.0;

/// A road user on a frame.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Proposal {
    /// What it is.
    pub class: RoadUser,
    /// How sure the network is, 0..1.
    pub score: f32,
    /// Where it is, in pixels of the input.
    pub box_in_input: BoxLtrb,
    /// Row-major sub-cell of the peak: where its embedding lies.
    pub cell: usize,
}

/// The road users of a frame, best first.
pub type Proposals = heapless::Vec<Proposal, MAX_PROPOSALS>;

/// Which neighbours of a peak have a say in its box: where the score falls off slowly the peak's own cell is not the best
/// witness of every side. Weights are squares of scores. After box voting (Gidaris and Komodakis 2015), on the cells of one
/// grid instead of on what suppression left over.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BoxVote {
    /// Of the peak's score, in the peak's class; above 1 a peak is alone.
    pub from_score_share: f32,
    /// IoU with the peak's own box: a neighbour that speaks of another object does not vote.
    pub from_iou: f32,
}

impl Default for BoxVote {
    fn default() -> Self {
        Self {
            from_score_share: 0.3,
            from_iou: 0.5,
        }
    }
}

impl BoxVote {
    /// No neighbour votes.
    pub const NONE: Self = Self {
        from_score_share: 2.0,
        from_iou: 1.0,
    };
}

/// What counts as a proposal.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProposalConfig {
    /// Peaks below it are nothing. Trackers that match in two stages want the low ones as well.
    pub min_score: f32,
    /// Of two proposals of one class that overlap more, the lower one goes.
    pub suppress_above_iou: f32,
    /// The same for proposals of different classes: a rider overlaps a motorcycle, and both are right.
    pub suppress_other_class_above_iou: f32,
    /// Who has a say in a box.
    pub vote: BoxVote,
}

impl Default for ProposalConfig {
    fn default() -> Self {
        Self {
            min_score: 0.1,
            suppress_above_iou: 0.6,
            suppress_other_class_above_iou: 0.75,
            vote: BoxVote::default(),
        }
    }
}

impl ProposalConfig {
    /// Checks what the types cannot.
    ///
    /// # Errors
    /// The first value out of range.
    pub fn validate(&self) -> Result<(), ContractError> {
        for (key, value) in [
            ("propose.decode.min_score", self.min_score),
            ("propose.decode.suppress_above_iou", self.suppress_above_iou),
            (
                "propose.decode.suppress_other_class_above_iou",
                self.suppress_other_class_above_iou,
            ),
            ("propose.decode.vote.from_iou", self.vote.from_iou),
        ] {
            if !(0.0..=1.0).contains(&value) {
                return Err(wrong(key, value, "expected 0 to 1"));
            }
        }
        let share = self.vote.from_score_share;
        match (0.0..=2.0).contains(&share) {
            true => Ok(()),
            false => Err(wrong(
                "propose.decode.vote.from_score_share",
                share,
                "expected 0 to 2",
            )),
        }
    }
}

#[derive(Clone, Copy)]
struct Peak {
    score: f32,
    class: RoadUser,
    cell: usize,
}

/// Reads the maps of one contract. Holds sizes only.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ProposeDecoder {
    /// Of the grid of sub-cells.
    columns: usize,
    rows: usize,
    sub_stride_px: f32,
    longest_px: f32,
    embedding_size: usize,
}

impl ProposeDecoder {
    /// A decoder for the sizes of this contract, which has been validated.
    pub fn new(contract: &ProposeContract) -> Self {
        Self {
            columns: contract.grid_columns(),
            rows: contract.grid_rows(),
            sub_stride_px: contract.stride_px as f32 / SUB_CELLS as f32,
            longest_px: contract.input_width_px.max(contract.input_height_px) as f32,
            embedding_size: contract.embedding_size,
        }
    }

    /// Columns of the grid of sub-cells.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Rows of the grid of sub-cells.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Sub-cells.
    pub fn cells(&self) -> usize {
        self.columns * self.rows
    }

    /// Where value `k` of a sub-cell (row-major) lies in a map.
    pub fn index(&self, k: usize, cell: usize) -> usize {
        let (row, column) = (cell / self.columns, cell % self.columns);
        let sub = row % SUB_CELLS * SUB_CELLS + column % SUB_CELLS;
        let channel = k * SUB_CELLS * SUB_CELLS + sub;
        let (height, width) = (self.rows / SUB_CELLS, self.columns / SUB_CELLS);
        (channel * height + row / SUB_CELLS) * width + column / SUB_CELLS
    }

    /// Centre of a sub-cell, in pixels of the input.
    pub fn centre_px(&self, cell: usize) -> (f32, f32) {
        let at = |k: usize| (k as f32 + 0.5) * self.sub_stride_px;
        (at(cell % self.columns), at(cell / self.columns))
    }

    /// Fills `found` with the proposals of a frame, best first. Empty where a buffer is too short.
    pub fn decode(&self, outputs: &ProposeOutputs, config: &ProposalConfig, found: &mut Proposals) {
        found.clear();
        let cells = self.cells();
        if outputs.score.len() < RoadUser::COUNT * cells || outputs.box_ltrb_px.len() < 4 * cells {
            return;
        }
        for peak in &self.peaks(outputs, config.min_score) {
            let Some(box_in_input) = self.voted_box(outputs, peak, config.vote) else {
                continue;
            };
            let here = BoxXywh::from(box_in_input);
            let is_known = found.iter().any(|better| {
                let most = match better.class == peak.class {
                    true => config.suppress_above_iou,
                    false => config.suppress_other_class_above_iou,
                };
                BoxXywh::from(better.box_in_input).iou(&here) > most
            });
            let proposal = Proposal {
                class: peak.class,
                score: peak.score,
                box_in_input,
                cell: peak.cell,
            };
            if !is_known && found.push(proposal).is_err() {
                return;
            }
        }
    }

    /// Copies the embedding at `cell` into `out`; `false` where there is none.
    pub fn embedding_at(&self, outputs: &ProposeOutputs, cell: usize, out: &mut [f32]) -> bool {
        let values = self.embedding_size * self.cells();
        if cell >= self.cells()
            || out.len() != self.embedding_size
            || outputs.embedding.len() < values
        {
            return false;
        }
        for (k, value) in out.iter_mut().enumerate() {
            *value = outputs.embedding[self.index(k, cell)];
        }
        true
    }

    /// The best peaks, best first; of equal ones the earlier class and cell.
    fn peaks(&self, outputs: &ProposeOutputs, min_score: f32) -> heapless::Vec<Peak, MAX_PEAKS> {
        let mut peaks: heapless::Vec<Peak, MAX_PEAKS> = heapless::Vec::new();
        for class in RoadUser::ALL {
            for cell in 0..self.cells() {
                let score = outputs.score[self.index(class as usize, cell)];
                // False where the score is not a number.
                let is_wanted = score >= min_score && score.is_finite() && score > 0.0;
                if !is_wanted || !self.is_peak(outputs, class, cell, score) {
                    continue;
                }
                let score = score.min(1.0);
                let place = peaks.partition_point(|peak| peak.score >= score);
                if peaks.is_full() {
                    if place == peaks.len() {
                        continue;
                    }
                    peaks.pop();
                }
                let _ = peaks.insert(place, Peak { score, class, cell });
            }
        }
        peaks
    }

    /// A sub-cell and its neighbours, row by row.
    fn around(&self, cell: usize) -> impl Iterator<Item = usize> + use<> {
        let (row, column) = (cell / self.columns, cell % self.columns);
        let columns = column.saturating_sub(1)..=(column + 1).min(self.columns - 1);
        let across = self.columns;
        (row.saturating_sub(1)..=(row + 1).min(self.rows - 1))
            .flat_map(move |y| columns.clone().map(move |x| y * across + x))
    }

    /// Whether no neighbour is higher; of equal neighbours the first is the peak.
    fn is_peak(&self, outputs: &ProposeOutputs, class: RoadUser, cell: usize, score: f32) -> bool {
        self.around(cell).all(|other| {
            let beside = outputs.score[self.index(class as usize, other)];
            !(beside > score || (beside == score && other < cell))
        })
    }

    /// The box of a peak, by it and its neighbours; `None` where the peak's own is not a number.
    fn voted_box(&self, outputs: &ProposeOutputs, peak: &Peak, vote: BoxVote) -> Option<BoxLtrb> {
        let own = self.box_at(outputs, peak.cell)?;
        let (mut sum, mut weights) = ([0.0_f32; 4], 0.0);
        for cell in self.around(peak.cell) {
            let score = outputs.score[self.index(peak.class as usize, cell)];
            let is_itself = cell == peak.cell;
            // False where the score is not a number.
            let is_sure = score > 0.0 && score >= vote.from_score_share * peak.score;
            if !(is_itself || is_sure) {
                continue;
            }
            let Some(its) = self.box_at(outputs, cell) else {
                continue;
            };
            let overlap = BoxXywh::from(own).iou(&BoxXywh::from(its));
            if !(is_itself || overlap >= vote.from_iou) {
                continue;
            }
            // As a share of the peak's: the square of a tiny score would vanish. Scores above 1 are the peak's 1.
            let share = (score / peak.score).min(1.0);
            let weight = share * share;
            let sides = [its.left_px, its.top_px, its.right_px, its.bottom_px];
            for (sum, side) in sum.iter_mut().zip(sides) {
                *sum += weight * side;
            }
            weights += weight;
        }
        let [left, top, right, bottom] = sum.map(|side| side / weights);
        Some(BoxLtrb::new(left, top, right, bottom))
    }

    /// The box of a sub-cell; `None` where a distance is not a number.
    fn box_at(&self, outputs: &ProposeOutputs, cell: usize) -> Option<BoxLtrb> {
        let mut distance = [0.0_f32; 4];
        for (side, value) in distance.iter_mut().enumerate() {
            let found = outputs.box_ltrb_px[self.index(side, cell)];
            if !found.is_finite() {
                return None;
            }
            *value = found.clamp(0.0, 2.0 * self.longest_px);
        }
        let [mut left, mut top, mut right, mut bottom] = distance;
        let widen = |a: &mut f32, b: &mut f32| {
            let missing = (MIN_SIDE_PX - (*a + *b)).max(0.0) / 2.0;
            (*a, *b) = (*a + missing, *b + missing);
        };
        widen(&mut left, &mut right);
        widen(&mut top, &mut bottom);
        let (x, y) = self.centre_px(cell);
        Some(BoxLtrb::new(x - left, y - top, x + right, y + bottom))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::preprocess::CropSize;
    use crate::propose::ProposeSizes;
    use proptest::prelude::*;

    fn small() -> ProposeContract {
        ProposeContract::new(ProposeSizes {
            input: CropSize {
                width_px: 96,
                height_px: 64,
            },
            stride_px: 16,
            embedding_size: 3,
        })
        .unwrap()
    }

    /// Maps with these objects: class, score, cell, distance to every side.
    fn maps(contract: &ProposeContract, objects: &[(RoadUser, f32, usize, f32)]) -> ProposeOutputs {
        let decoder = ProposeDecoder::new(contract);
        let mut outputs = ProposeOutputs::for_contract(contract);
        for &(class, score, cell, reach_px) in objects {
            outputs.score[decoder.index(class as usize, cell)] = score;
            for side in 0..4 {
                outputs.box_ltrb_px[decoder.index(side, cell)] = reach_px;
            }
        }
        outputs
    }

    fn decoded(contract: &ProposeContract, outputs: &ProposeOutputs) -> Proposals {
        let mut found = Proposals::new();
        ProposeDecoder::new(contract).decode(outputs, &ProposalConfig::default(), &mut found);
        found
    }

    #[test]
    fn every_value_of_every_sub_cell_has_a_place_of_its_own() {
        let contract = small();
        let decoder = ProposeDecoder::new(&contract);
        let mut places: std::vec::Vec<usize> = (0..RoadUser::COUNT)
            .flat_map(|k| (0..decoder.cells()).map(move |cell| decoder.index(k, cell)))
            .collect();
        places.sort_unstable();
        assert!(places.iter().copied().eq(0..contract.tensors.score.len()));
    }

    #[test]
    fn a_sub_cell_lies_where_its_channel_says() {
        let contract = small();
        let decoder = ProposeDecoder::new(&contract);
        // Row 3, column 5: cell (1, 2), sub-cell (1, 1), channel 4 k + 3; maps of 4 x 6 cells.
        let cell = 3 * 12 + 5;
        assert_eq!(decoder.index(2, cell), ((4 * 2 + 3) * 4 + 1) * 6 + 2);
        assert_eq!(decoder.centre_px(cell), (44.0, 28.0));
    }

    #[test]
    fn of_neighbours_the_highest_is_the_object() {
        let contract = small();
        let outputs = maps(
            &contract,
            &[(RoadUser::Car, 0.6, 40, 4.0), (RoadUser::Car, 0.8, 41, 4.0)],
        );
        let found = decoded(&contract, &outputs);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].cell, found[0].score), (41, 0.8));
        assert_eq!(found[0].box_in_input, BoxLtrb::new(40.0, 24.0, 48.0, 32.0));
    }

    #[test]
    fn a_box_is_the_mean_of_the_neighbours_that_mean_the_same_object() {
        let contract = small();
        let (car, bus) = (RoadUser::Car, RoadUser::Bus);
        // The peak is 40; to its right the same object, wider; to its left another one; above it too low a score; below it
        // another class.
        let outputs = maps(
            &contract,
            &[
                (car, 0.8, 40, 16.0),
                (car, 0.4, 41, 20.0),
                (car, 0.6, 39, 60.0),
                (car, 0.2, 28, 16.0),
                (bus, 0.7, 52, 16.0),
            ],
        );
        let decoder = ProposeDecoder::new(&contract);
        let found_with = |vote| {
            let mut found = Proposals::new();
            let config = ProposalConfig {
                vote,
                ..ProposalConfig::default()
            };
            decoder.decode(&outputs, &config, &mut found);
            let car = found.iter().find(|proposal| proposal.class == car);
            car.unwrap().box_in_input
        };
        // The centre of 40 is (36, 28), of 41 (44, 28): sides 20 12 52 44 and 24 8 64 48, one to a quarter.
        assert_eq!(
            found_with(BoxVote::default()),
            BoxLtrb::new(20.8, 11.2, 54.4, 44.8)
        );
        let own = BoxLtrb::new(20.0, 12.0, 52.0, 44.0);
        assert_eq!(found_with(BoxVote::NONE), own);
    }

    #[test]
    fn a_plateau_is_one_object() {
        let contract = small();
        let plateau: std::vec::Vec<_> = (38..44).map(|c| (RoadUser::Bus, 0.5, c, 4.0)).collect();
        let found = decoded(&contract, &maps(&contract, &plateau));
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].cell, 38);
    }

    #[test]
    fn one_object_with_two_names_keeps_the_surer_one_and_a_rider_stays_beside_his_machine() {
        let contract = small();
        let both = |other| {
            let truck = (RoadUser::Truck, 0.5, 40, other);
            decoded(
                &contract,
                &maps(&contract, &[(RoadUser::Car, 0.7, 52, 20.0), truck]),
            )
        };
        // One row apart: boxes of 40 px that overlap by two thirds.
        assert_eq!(both(20.0).len(), 2, "IoU 0.67 of different classes");
        let same = maps(
            &contract,
            &[
                (RoadUser::Car, 0.7, 52, 20.0),
                (RoadUser::Car, 0.5, 28, 22.0),
            ],
        );
        assert_eq!(decoded(&contract, &same).len(), 2, "two rows apart");
        let near = maps(
            &contract,
            &[
                (RoadUser::Car, 0.7, 40, 30.0),
                (RoadUser::Truck, 0.5, 41, 30.0),
            ],
        );
        let found = decoded(&contract, &near);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].class, RoadUser::Car);
    }

    #[test]
    fn embeddings_are_read_from_the_proposals_own_sub_cell() {
        let contract = small();
        let decoder = ProposeDecoder::new(&contract);
        let mut outputs = ProposeOutputs::for_contract(&contract);
        for (k, value) in [0.6, 0.0, 0.8].into_iter().enumerate() {
            outputs.embedding[decoder.index(k, 17)] = value;
        }
        let mut out = [0.0; 3];
        assert!(decoder.embedding_at(&outputs, 17, &mut out));
        assert_eq!(out, [0.6, 0.0, 0.8]);
        assert!(!decoder.embedding_at(&outputs, decoder.cells(), &mut out));
        assert!(!decoder.embedding_at(&outputs, 17, &mut [0.0; 2]));
    }

    #[test]
    fn more_peaks_than_there_is_room_for_leave_the_best() {
        let contract = ProposeContract::new(ProposeSizes::default()).unwrap();
        let decoder = ProposeDecoder::new(&contract);
        let mut objects = std::vec::Vec::new();
        for row in (0..decoder.rows()).step_by(2) {
            for column in (0..decoder.columns()).step_by(2) {
                let cell = row * decoder.columns() + column;
                objects.push((
                    RoadUser::Person,
                    0.2 + 1e-4 * objects.len() as f32,
                    cell,
                    2.0,
                ));
            }
        }
        assert_eq!(objects.len(), 416);
        let found = decoded(&contract, &maps(&contract, &objects));
        assert_eq!(found.len(), MAX_PROPOSALS);
        let expected = objects.iter().rev().map(|object| object.2);
        assert!(
            found
                .iter()
                .map(|p| p.cell)
                .eq(expected.take(MAX_PROPOSALS))
        );
    }

    fn any_value() -> impl Strategy<Value = f32> {
        prop_oneof![
            6 => -0.5_f32..1.5,
            2 => Just(0.0),
            1 => proptest::num::f32::ANY,
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn whatever_the_maps_hold_proposals_are_finite_sorted_and_apart(
            score in proptest::collection::vec(any_value(), 9 * 96),
            sides in proptest::collection::vec(any_value(), 4 * 96),
            scale in prop_oneof![Just(1.0_f32), Just(40.0), Just(f32::MAX)],
        ) {
            let contract = small();
            let mut outputs = ProposeOutputs::for_contract(&contract);
            outputs.score = score;
            outputs.box_ltrb_px = sides.into_iter().map(|v| v * scale).collect();
            let config = ProposalConfig::default();
            let found = decoded(&contract, &outputs);
            for (i, a) in found.iter().enumerate() {
                prop_assert!(a.score >= config.min_score && a.score <= 1.0);
                let b = BoxXywh::from(a.box_in_input);
                prop_assert!(b.is_proper() && b.w_px >= 1.9 && b.h_px >= 1.9);
                for later in &found[i + 1..] {
                    prop_assert!(later.score <= a.score);
                    let iou = b.iou(&later.box_in_input.into());
                    let most = if later.class == a.class { 0.6 } else { 0.75 };
                    prop_assert!(iou <= most, "{iou}");
                }
            }
        }

        #[test]
        fn short_buffers_give_nothing(score in 0_usize..9 * 96, sides in 0_usize..4 * 96) {
            let contract = small();
            let mut outputs = ProposeOutputs::for_contract(&contract);
            outputs.score = std::vec![1.0; score];
            prop_assert!(decoded(&contract, &outputs).is_empty());
            outputs.score = std::vec![1.0; 9 * 96];
            outputs.box_ltrb_px.truncate(sides);
            prop_assert!(decoded(&contract, &outputs).is_empty());
        }
    }
}
