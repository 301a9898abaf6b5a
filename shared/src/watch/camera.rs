//! How the camera moved, from where detections lie against where they were expected.
//!
//! In: pairs of boxes that could belong together. Out: a shift that most road users share, or nothing. It votes: every
//! pair of like size is a vote for its shift; a camera that turns moves all of them alike, whoever moves by themselves
//! does not. The map of votes has a fixed size, so nothing is allocated and no outlier counts.

use super::config::CameraConfig;
use crate::geometry::BoxXywh;

/// Cells of the map on either side of no shift.
const REACH: usize = 20;
const CELLS: usize = 2 * REACH + 1;
/// Boxes of whose sides the ratio is larger are not the same road user in two frames.
const MAX_SIDE_RATIO: f32 = 1.3;

/// The votes of one look.
#[derive(Clone, Debug)]
pub(super) struct Ballot {
    cells: [[u16; CELLS]; CELLS],
    /// Side of a cell, in pixels.
    cell_px: f32,
    max_px: f32,
    voters: u32,
}

/// Mean of the votes near a shift.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Mean {
    dx_px: f32,
    dy_px: f32,
    votes: f32,
}

impl Ballot {
    pub(super) fn new() -> Self {
        Self {
            cells: [[0; CELLS]; CELLS],
            cell_px: 1.0,
            max_px: 0.0,
            voters: 0,
        }
    }

    pub(super) fn open(&mut self, frame_width_px: f32, c: &CameraConfig) {
        self.cells = [[0; CELLS]; CELLS];
        self.max_px = c.max_shift_share * frame_width_px;
        // The map reaches as far as shifts go, however fine they are to be told apart.
        self.cell_px =
            (c.same_shift_share * frame_width_px).max(self.max_px / (REACH as f32 - 1.0));
        self.voters = 0;
    }

    /// One road user, and all boxes that it could be.
    pub(super) fn vote(&mut self, expected: &BoxXywh, seen: impl Iterator<Item = BoxXywh>) {
        let mut voted = false;
        for b in seen {
            if let Some((dx, dy)) = self.shift(expected, &b) {
                let cell = |d: f32| (libm::roundf(d / self.cell_px) + REACH as f32) as usize;
                let count = &mut self.cells[cell(dy).min(CELLS - 1)][cell(dx).min(CELLS - 1)];
                *count = count.saturating_add(1);
                voted = true;
            }
        }
        self.voters += u32::from(voted);
    }

    /// From one box to the other, if they could be the same and the camera could have turned so far.
    fn shift(&self, expected: &BoxXywh, seen: &BoxXywh) -> Option<(f32, f32)> {
        let ratio = |a: f32, b: f32| a.max(b) <= MAX_SIDE_RATIO * a.min(b);
        if !ratio(expected.w_px, seen.w_px) || !ratio(expected.h_px, seen.h_px) {
            return None;
        }
        let (from, to) = (expected.center(), seen.center());
        let (dx, dy) = (to.0 - from.0, to.1 - from.1);
        (dx.abs() <= self.max_px && dy.abs() <= self.max_px).then_some((dx, dy))
    }

    /// The middle of the neighbourhood with most votes; `None` where too few agree, or where as many agree that nothing
    /// moved.
    pub(super) fn winner(&self, c: &CameraConfig) -> Option<(f32, f32)> {
        let around = |row: usize, column: usize| -> u32 {
            let rows = row.saturating_sub(1)..(row + 2).min(CELLS);
            rows.map(|r| {
                let columns = column.saturating_sub(1)..(column + 2).min(CELLS);
                columns.map(|c| u32::from(self.cells[r][c])).sum::<u32>()
            })
            .sum()
        };
        let mut best = (around(REACH, REACH), 0, REACH, REACH);
        for row in 0..CELLS {
            for column in 0..CELLS {
                // Of equals, the one nearest to no shift, and there with most votes of its own.
                let votes = around(row, column);
                let middle = u32::from(self.cells[row][column]);
                if votes > best.0 || (votes == best.0 && middle > best.1 && best.2 != REACH) {
                    best = (votes, middle, row, column);
                }
            }
        }
        let (votes, _, row, column) = best;
        let enough = votes >= c.min_votes && votes as f32 >= c.min_share * self.voters as f32;
        let shift = |cell: usize| (cell as f32 - REACH as f32) * self.cell_px;
        enough.then(|| (shift(column), shift(row)))
    }

    /// Adds the shifts near a winner up.
    pub(super) fn refine(
        &self,
        mean: &mut Mean,
        (near_x, near_y): (f32, f32),
        expected: &BoxXywh,
        seen: impl Iterator<Item = BoxXywh>,
    ) {
        let reach = 1.5 * self.cell_px;
        for b in seen {
            if let Some((dx, dy)) = self.shift(expected, &b)
                && (dx - near_x).abs() <= reach
                && (dy - near_y).abs() <= reach
            {
                mean.dx_px += dx;
                mean.dy_px += dy;
                mean.votes += 1.0;
            }
        }
    }
}

impl Mean {
    pub(super) fn shift(&self) -> Option<(f32, f32)> {
        (self.votes > 0.0).then(|| (self.dx_px / self.votes, self.dy_px / self.votes))
    }
}
