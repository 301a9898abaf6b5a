//! How the camera moved, from where detections lie against where they were expected.
//!
//! In: pairs of boxes that could belong together. Out: a shift that most road users share, or nothing. It votes: each road
//! user for the shifts to all boxes of like size, once in any neighbourhood of shifts however many boxes it has there; a
//! camera that turns moves all of them alike, whoever moves by themselves does not. The map of votes has a fixed size, so
//! nothing is allocated and no outlier counts.

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
    /// What was seen.
    seen: Vec<Place>,
    /// Who voted.
    voters: Vec<Place>,
    /// Side of a cell, in pixels, and one over it.
    cell_px: f32,
    cells_per_px: f32,
    max_px: f32,
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

    fn shift_to(&self, to: &Self) -> (f32, f32) {
        (to.cx_px - self.cx_px, to.cy_px - self.cy_px)
    }

    fn is_like(&self, other: &Self) -> bool {
        let alike = |a: f32, b: f32| a <= MAX_SIDE_RATIO * b && b <= MAX_SIDE_RATIO * a;
        alike(self.w_px, other.w_px) && alike(self.h_px, other.h_px)
    }
}

/// Votes for shifts that are the same: of this cell, and of it and those beside it.
#[derive(Clone, Copy, Debug, Default)]
struct Cell {
    here: Votes,
    around: Votes,
}

/// How many voted. Sixteen bits: there is room for 4096 road users.
#[derive(Clone, Copy, Debug, Default)]
struct Votes {
    count: u16,
    /// Who voted last, counted from 1: whoever votes again is known by it, since all votes of one come together.
    last: u16,
}

impl Votes {
    fn add(&mut self, voter: u16) {
        self.count += u16::from(self.last != voter);
        self.last = voter;
    }
}

impl Ballot {
    /// Room for so many voters, and so many boxes at a time.
    pub(super) fn new(voters: usize, boxes: usize) -> Self {
        Self {
            cells: [[Cell::default(); CELLS]; CELLS],
            seen: Vec::with_capacity(boxes),
            voters: Vec::with_capacity(voters),
            cell_px: 1.0,
            cells_per_px: 1.0,
            max_px: 0.0,
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
        self.voters.clear();
        self.cells = [[Cell::default(); CELLS]; CELLS];
        self.max_px = c.max_shift_share * frame_width_px;
        // The map reaches as far as shifts go, however fine they are to be told apart.
        self.cell_px =
            (c.same_shift_share * frame_width_px).max(self.max_px / (REACH as f32 - 1.0));
        self.cells_per_px = 1.0 / self.cell_px;
    }

    /// One road user votes for the shifts to all boxes that it could be.
    pub(super) fn vote(&mut self, expected: &BoxXywh) {
        let from = Place::of(expected);
        let voter = self.voters.len() as u16 + 1;
        let mut voted = false;
        for to in &self.seen {
            let shift = from.shift_to(to);
            // The camera could not have turned so far: most pairs end here.
            if !is_within(shift, self.max_px) || !from.is_like(to) {
                continue;
            }
            let (row, column) = cell_of(shift, self.cells_per_px);
            self.cells[row][column].here.add(voter);
            for cells in &mut self.cells[row - 1..=row + 1] {
                for cell in &mut cells[column - 1..=column + 1] {
                    cell.around.add(voter);
                }
            }
            voted = true;
        }
        if voted {
            self.voters.push(from);
        }
    }

    /// The mean of the neighbourhood with most votes; `None` where too few agree. Of equals, no shift comes first, then
    /// the one with most votes in its middle.
    pub(super) fn winner(&self, c: &CameraConfig) -> Option<(f32, f32)> {
        let mut place = (REACH, REACH);
        // Nothing has more in its middle than no shift.
        let mut best = (self.cells[REACH][REACH].around.count, u16::MAX);
        for (row, cells) in self.cells.iter().enumerate() {
            for (column, cell) in cells.iter().enumerate() {
                let votes = (cell.around.count, cell.here.count);
                if votes.1 > 0 && votes > best {
                    (place, best) = ((row, column), votes);
                }
            }
        }
        let votes = f32::from(best.0);
        if u32::from(best.0) < c.min_votes || votes < c.min_share * self.voters.len() as f32 {
            return None;
        }
        let (mut dx_px, mut dy_px) = (0.0, 0.0);
        for (dx, dy) in self.voters.iter().filter_map(|v| self.vote_for(v, place)) {
            dx_px += dx;
            dy_px += dy;
        }
        Some((dx_px / votes, dy_px / votes))
    }

    /// The shift by which somebody voted for a neighbourhood: of several, the one nearest to its middle.
    fn vote_for(&self, voter: &Place, (row, column): (usize, usize)) -> Option<(f32, f32)> {
        let middle = |at: usize| (at as f32 - REACH as f32) * self.cell_px;
        let (middle_x, middle_y) = (middle(column), middle(row));
        let mut nearest: Option<(f32, (f32, f32))> = None;
        for to in &self.seen {
            let shift = voter.shift_to(to);
            let off = (shift.0 - middle_x, shift.1 - middle_y);
            // Nearly all pairs end here; a neighbourhood reaches a cell and a half.
            if !is_within(off, 2.0 * self.cell_px)
                || !is_within(shift, self.max_px)
                || !voter.is_like(to)
            {
                continue;
            }
            let there = cell_of(shift, self.cells_per_px);
            let square = off.0 * off.0 + off.1 * off.1;
            if there.0.abs_diff(row) <= 1
                && there.1.abs_diff(column) <= 1
                && nearest.is_none_or(|(least, _)| square < least)
            {
                nearest = Some((square, shift));
            }
        }
        nearest.map(|(_, shift)| shift)
    }
}

/// Whether neither way is farther.
fn is_within((dx, dy): (f32, f32), max_px: f32) -> bool {
    dx.abs() <= max_px && dy.abs() <= max_px
}

/// Row and column of a shift. Those that a camera can turn by have cells on all sides.
fn cell_of((dx, dy): (f32, f32), cells_per_px: f32) -> (usize, usize) {
    // Rounds: what is below zero stays above it here.
    let at = |d: f32| ((d * cells_per_px + REACH as f32 + 0.5) as usize).clamp(1, CELLS - 2);
    (at(dy), at(dx))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIDTH_PX: f32 = 640.0;

    fn person(x_px: f32) -> BoxXywh {
        BoxXywh::new(x_px, 100.0, 10.0, 25.0)
    }

    fn car(x_px: f32) -> BoxXywh {
        BoxXywh::new(x_px, 200.0, 60.0, 40.0)
    }

    /// What those who were expected here make of what is seen there.
    fn elected(expected: &[BoxXywh], seen: &[BoxXywh]) -> Option<(f32, f32)> {
        let c = CameraConfig::default();
        let mut ballot = Ballot::new(8, 8);
        ballot.open(WIDTH_PX, &c, seen.iter().copied());
        for who in expected {
            ballot.vote(who);
        }
        ballot.winner(&c)
    }

    #[test]
    fn one_road_user_with_boxes_like_it_all_around_has_one_vote() {
        let around = [person(100.0), person(106.0), person(112.0)];
        assert_eq!(elected(&[person(100.0)], &around), None);
        // Beside two cars that stand it is no majority, and where all three agree, nothing moved.
        let expected = [person(100.0), car(300.0), car(450.0)];
        let seen = [around[0], around[1], around[2], car(300.0), car(450.0)];
        assert_eq!(elected(&expected, &seen), Some((0.0, 0.0)));
    }

    #[test]
    fn two_road_users_are_two_whatever_boxes_there_are() {
        let expected = [person(100.0), person(300.0)];
        let seen = [100.0, 103.0, 106.0, 300.0, 303.0, 306.0].map(person);
        assert_eq!(elected(&expected, &seen), None);
    }

    #[test]
    fn who_has_several_boxes_near_the_shift_that_all_share_counts_with_the_nearest_alone() {
        let expected = [person(100.0), car(300.0), car(450.0)];
        // Everybody 60 px to the left, and a box that is nobody's beside one of them.
        let moved = [person(40.0), car(240.0), car(390.0)];
        let (dx_px, dy_px) = elected(&expected, &moved).unwrap_or_default();
        assert!((dx_px + 60.0).abs() < 1e-3 && dy_px == 0.0, "{dx_px}");
        let crowded = [person(35.0), moved[0], moved[1], moved[2]];
        let turned = [person(35.0), moved[2], moved[1], moved[0]];
        assert_eq!(elected(&expected, &crowded), elected(&expected, &turned));
        let (dx_px, _) = elected(&expected, &crowded).unwrap_or_default();
        assert!((dx_px + 60.0).abs() < 1e-3, "{dx_px}");
    }
}
