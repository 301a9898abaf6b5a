//! How the camera moved, from where detections lie against where they were expected.
//!
//! In: pairs of boxes that could belong together. Out: a shift that most road users share, or nothing. It votes: every
//! pair of like size is a vote for its shift; a camera that turns moves all of them alike, whoever moves by themselves
//! does not. The map of votes has a fixed size, so nothing is allocated and no outlier counts.

use alloc::vec::Vec;

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
    cells: [[Cell; CELLS]; CELLS],
    /// What was seen: centres and sides.
    seen: Vec<Place>,
    /// Side of a cell, in pixels, and one over it.
    cell_px: f32,
    cells_per_px: f32,
    max_px: f32,
    voters: u32,
}

/// A box as votes are cast: centre and sides.
#[derive(Clone, Copy, Debug)]
struct Place {
    cx_px: f32,
    cy_px: f32,
    w_px: f32,
    h_px: f32,
}

impl Place {
    fn of(b: &BoxXywh) -> Self {
        let (cx_px, cy_px) = b.center();
        Self {
            cx_px,
            cy_px,
            w_px: b.w_px,
            h_px: b.h_px,
        }
    }
}

/// Votes for shifts that are the same, and their sum.
#[derive(Clone, Copy, Debug, Default)]
struct Cell {
    votes: u32,
    dx_px: f32,
    dy_px: f32,
}

impl Ballot {
    /// Room for so many boxes at a time.
    pub(super) fn new(room: usize) -> Self {
        Self {
            cells: [[Cell::default(); CELLS]; CELLS],
            seen: Vec::with_capacity(room),
            cell_px: 1.0,
            cells_per_px: 1.0,
            max_px: 0.0,
            voters: 0,
        }
    }

    /// Nobody has voted yet; these are the boxes that there are.
    pub(super) fn open(
        &mut self,
        frame_width_px: f32,
        c: &CameraConfig,
        seen: impl Iterator<Item = BoxXywh>,
    ) {
        self.seen.clear();
        self.seen.extend(seen.map(|b| Place::of(&b)));
        self.cells = [[Cell::default(); CELLS]; CELLS];
        self.max_px = c.max_shift_share * frame_width_px;
        // The map reaches as far as shifts go, however fine they are to be told apart.
        self.cell_px =
            (c.same_shift_share * frame_width_px).max(self.max_px / (REACH as f32 - 1.0));
        self.cells_per_px = 1.0 / self.cell_px;
        self.voters = 0;
    }

    /// One road user votes for the shifts to all boxes that it could be.
    pub(super) fn vote(&mut self, expected: &BoxXywh) {
        let from = Place::of(expected);
        let mut voted = false;
        for to in &self.seen {
            let (dx, dy) = (to.cx_px - from.cx_px, to.cy_px - from.cy_px);
            // The camera could not have turned so far: most pairs end here.
            if dx.abs() > self.max_px || dy.abs() > self.max_px {
                continue;
            }
            let alike = |a: f32, b: f32| a <= MAX_SIDE_RATIO * b && b <= MAX_SIDE_RATIO * a;
            if alike(from.w_px, to.w_px) && alike(from.h_px, to.h_px) {
                // Rounds: what is below zero stays above it here.
                let at = |d: f32| (d * self.cells_per_px + REACH as f32 + 0.5) as usize;
                let (row, column) = (at(dy).min(CELLS - 1), at(dx).min(CELLS - 1));
                let cell = &mut self.cells[row][column];
                cell.votes += 1;
                cell.dx_px += dx;
                cell.dy_px += dy;
                voted = true;
            }
        }
        self.voters += u32::from(voted);
    }

    /// The mean of the neighbourhood with most votes; `None` where too few agree. Of equals, no shift comes first, then
    /// the one with most votes in its middle.
    pub(super) fn winner(&self, c: &CameraConfig) -> Option<(f32, f32)> {
        let around = |row: usize, column: usize| {
            let rows = row.saturating_sub(1)..(row + 2).min(CELLS);
            let columns = column.saturating_sub(1)..(column + 2).min(CELLS);
            let near = self.cells[rows]
                .iter()
                .flat_map(|row| &row[columns.clone()]);
            near.fold(Cell::default(), |sum, cell| Cell {
                votes: sum.votes + cell.votes,
                dx_px: sum.dx_px + cell.dx_px,
                dy_px: sum.dy_px + cell.dy_px,
            })
        };
        let mut best = around(REACH, REACH);
        // Nothing has more in its middle than no shift.
        let mut middle = u32::MAX;
        for (row, cells) in self.cells.iter().enumerate() {
            for (column, cell) in cells.iter().enumerate() {
                if cell.votes == 0 {
                    continue;
                }
                let sum = around(row, column);
                if (sum.votes, cell.votes) > (best.votes, middle) {
                    (best, middle) = (sum, cell.votes);
                }
            }
        }
        let votes = best.votes as f32;
        let enough = best.votes >= c.min_votes && votes >= c.min_share * self.voters as f32;
        enough.then(|| (best.dx_px / votes, best.dy_px / votes))
    }
}
