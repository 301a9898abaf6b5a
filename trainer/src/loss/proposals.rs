//! What the proposal maps should say: every object of a batch of frames in, per-cell targets out. Plain numbers, no
//! gradients.
//!
//! The score targets go to [`super::score::penalty_reduced_focal`], for which a Gaussian of 1 away from a peak has no
//! weight: that is how a place is left out of account. A place is left out for a kind
//! - everywhere, where frames of its pack do not box that kind wherever it is, but for the middle of other objects;
//! - within ignored objects, and within objects that may be of that kind or of another;
//! - within objects that may hold such a one unboxed, as a motorcycle a rider.
//!
//! ```
//! use roadhound_shared::propose::{RoadUser, RoadUsers};
//! use roadhound_trainer::loss::proposals::{Grid, Labelled, ProposalTargets};
//! let grid = Grid { columns: 52, rows: 32, stride_px: 8.0 };
//! let bus = Labelled {
//!     ltrb_px: [100.0, 60.0, 180.0, 120.0],
//!     kinds: RoadUsers::of(&[RoadUser::Bus]),
//!     unsaid: RoadUsers::NONE,
//!     is_target: true,
//! };
//! let targets = ProposalTargets::new(&grid, &[vec![bus]], &[RoadUsers::ALL]);
//! assert_eq!(targets.peak.iter().sum::<f32>(), 1.0);
//! ```

use roadhound_shared::propose::{RoadUser, RoadUsers};

/// Standard deviation of the Gaussian as a share of the object's side, at least half a cell.
const SIGMA_OF_SIDE: f32 = 0.12;

/// The cells of a frame.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Grid {
    /// Across.
    pub columns: usize,
    /// Down.
    pub rows: usize,
    /// Side of a cell; the centre of cell `i` is `stride * (i + 1/2)`.
    pub stride_px: f32,
}

impl Grid {
    /// Cells of a frame.
    pub fn cells(&self) -> usize {
        self.columns * self.rows
    }

    /// Centre of a cell, row-major.
    pub fn centre_px(&self, cell: usize) -> [f32; 2] {
        let at = |k: usize| (k as f32 + 0.5) * self.stride_px;
        [at(cell % self.columns), at(cell / self.columns)]
    }

    /// Rows or columns whose centres lie within a span; none where it lies between two.
    fn span(&self, from_px: f32, to_px: f32, count: usize) -> std::ops::Range<usize> {
        let cell = |px: f32| ((px / self.stride_px + 0.5).floor().max(0.0) as usize).min(count);
        cell(from_px)..cell(to_px).max(cell(from_px))
    }

    /// The cell under a point, or the nearest one.
    fn under(&self, [x, y]: [f32; 2]) -> usize {
        let at = |px: f32, count: usize| ((px / self.stride_px).max(0.0) as usize).min(count - 1);
        at(y, self.rows) * self.columns + at(x, self.columns)
    }
}

/// An annotated object of a frame.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Labelled {
    /// Left, top, right, bottom.
    pub ltrb_px: [f32; 4],
    /// What it may be.
    pub kinds: RoadUsers,
    /// What may stand within it without being boxed.
    pub unsaid: RoadUsers,
    /// To be found, rather than to be left out of account.
    pub is_target: bool,
}

/// A cell that should give an object's box.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BoxCell {
    /// Cell among those of all frames.
    pub cell: usize,
    /// Which frame.
    pub frame: usize,
    /// Which of its objects.
    pub object: usize,
    /// The box, from the cell's centre.
    pub ltrb_from_centre_px: [f32; 4],
    /// Its share of the loss: objects weigh alike, and all together 1.
    pub weight: f32,
}

/// Targets of a batch of frames.
#[derive(Clone, Debug, PartialEq)]
pub struct ProposalTargets {
    /// `[frames, cells, kinds]`: Gaussians around the centres, 1 also where nothing is to be learned.
    pub gauss: Vec<f32>,
    /// `[frames, cells, kinds]`: 1 at the cell under an object's centre.
    pub peak: Vec<f32>,
    /// Cells in the middle of objects, frame by frame; a cell belongs to the smallest object that claims it.
    pub boxes: Vec<BoxCell>,
    /// The cell under the centre of every object of every frame, among the frame's own cells.
    pub centre_cell: Vec<Vec<usize>>,
}

impl ProposalTargets {
    /// `frames[i]` are the objects of frame `i`, of which `complete[i]` are boxed wherever they are.
    pub fn new(grid: &Grid, frames: &[Vec<Labelled>], complete: &[RoadUsers]) -> Self {
        let kinds = RoadUser::COUNT;
        let cells = grid.cells();
        let mut targets = Self {
            gauss: vec![0.0; frames.len() * cells * kinds],
            peak: vec![0.0; frames.len() * cells * kinds],
            boxes: Vec::new(),
            centre_cell: Vec::new(),
        };
        for (i, (objects, complete)) in frames.iter().zip(complete).enumerate() {
            let maps = i * cells * kinds..(i + 1) * cells * kinds;
            let gauss = &mut targets.gauss[maps.clone()];
            let middles: Vec<Vec<usize>> = objects.iter().map(|o| middle(grid, o)).collect();
            leave_out(grid, objects, &middles, *complete, gauss);
            raise(grid, objects, gauss, &mut targets.peak[maps]);
            claim(grid, objects, &middles, i, &mut targets.boxes);
            let centres = objects.iter().map(|o| grid.under(centre(o)));
            targets.centre_cell.push(centres.collect());
        }
        share_out(&mut targets.boxes);
        targets
    }
}

fn centre(object: &Labelled) -> [f32; 2] {
    let [l, t, r, b] = object.ltrb_px;
    [(l + r) / 2.0, (t + b) / 2.0]
}

/// Cells whose centres lie in the ellipse with half-axes w/4, h/4 (SiamBAN, Chen et al. 2020), and the one under the
/// object's centre.
fn middle(grid: &Grid, object: &Labelled) -> Vec<usize> {
    let [l, t, r, b] = object.ltrb_px;
    let (w, h) = ((r - l).max(1.0), (b - t).max(1.0));
    let [cx, cy] = centre(object);
    let under = grid.under([cx, cy]);
    let mut cells = vec![under];
    for row in grid.span(cy - h / 4.0, cy + h / 4.0, grid.rows) {
        for column in grid.span(cx - w / 4.0, cx + w / 4.0, grid.columns) {
            let cell = row * grid.columns + column;
            let [x, y] = grid.centre_px(cell);
            let is_in = (4.0 * (x - cx) / w).powi(2) + (4.0 * (y - cy) / h).powi(2) < 1.0;
            if is_in && cell != under {
                cells.push(cell);
            }
        }
    }
    cells
}

/// Sets the Gaussian to 1 wherever nothing is known.
fn leave_out(
    grid: &Grid,
    objects: &[Labelled],
    middles: &[Vec<usize>],
    complete: RoadUsers,
    gauss: &mut [f32],
) {
    let kinds = RoadUser::COUNT;
    for kind in RoadUser::ALL
        .into_iter()
        .filter(|kind| !complete.has(*kind))
    {
        let map = gauss.iter_mut().skip(kind as usize).step_by(kinds);
        map.for_each(|value| *value = 1.0);
    }
    // The middle of a bus is no bicycle, whether bicycles are boxed or not.
    for (object, middle) in objects.iter().zip(middles) {
        let may_be = |kind| object.kinds.has(kind) || object.unsaid.has(kind);
        for kind in RoadUser::ALL.into_iter().filter(|kind| !may_be(*kind)) {
            for cell in middle {
                gauss[cell * kinds + kind as usize] = 0.0;
            }
        }
    }
    for object in objects {
        let is_unsure = !object.is_target || object.kinds.only().is_none();
        let unknown = |kind| object.unsaid.has(kind) || (is_unsure && object.kinds.has(kind));
        let [l, t, r, b] = object.ltrb_px;
        // A cell beyond the border as well: the network sees the object from there.
        let margin = grid.stride_px;
        for row in grid.span(t - margin, b + margin, grid.rows) {
            for column in grid.span(l - margin, r + margin, grid.columns) {
                let cell = row * grid.columns + column;
                for kind in RoadUser::ALL.into_iter().filter(|kind| unknown(*kind)) {
                    gauss[cell * kinds + kind as usize] = 1.0;
                }
            }
        }
    }
}

/// Puts a Gaussian and a peak at every object whose kind is known.
fn raise(grid: &Grid, objects: &[Labelled], gauss: &mut [f32], peak: &mut [f32]) {
    let kinds = RoadUser::COUNT;
    for object in objects.iter().filter(|object| object.is_target) {
        let Some(kind) = object.kinds.only() else {
            continue;
        };
        let [l, t, r, b] = object.ltrb_px;
        let [cx, cy] = centre(object);
        let sigma = |side: f32| (SIGMA_OF_SIDE * side).max(grid.stride_px / 2.0);
        let (sx, sy) = (sigma(r - l), sigma(b - t));
        for row in grid.span(cy - 4.0 * sy, cy + 4.0 * sy, grid.rows) {
            for column in grid.span(cx - 4.0 * sx, cx + 4.0 * sx, grid.columns) {
                let cell = row * grid.columns + column;
                let [x, y] = grid.centre_px(cell);
                let height = (-0.5 * (((x - cx) / sx).powi(2) + ((y - cy) / sy).powi(2))).exp();
                let value = &mut gauss[cell * kinds + kind as usize];
                *value = value.max(height);
            }
        }
        let at = grid.under([cx, cy]) * kinds + kind as usize;
        (gauss[at], peak[at]) = (1.0, 1.0);
    }
}

/// Gives the cells in the middle of targets to the smallest of them.
fn claim(
    grid: &Grid,
    objects: &[Labelled],
    middles: &[Vec<usize>],
    frame: usize,
    boxes: &mut Vec<BoxCell>,
) {
    let area = |object: &Labelled| {
        let [l, t, r, b] = object.ltrb_px;
        (r - l) * (b - t)
    };
    let mut owner: Vec<Option<usize>> = vec![None; grid.cells()];
    for (at, (object, middle)) in objects.iter().zip(middles).enumerate() {
        for cell in middle.iter().filter(|_| object.is_target) {
            let is_smaller = |other: usize| area(object) < area(&objects[other]);
            if owner[*cell].is_none_or(is_smaller) {
                owner[*cell] = Some(at);
            }
        }
    }
    for (cell, owner) in owner.into_iter().enumerate() {
        let Some(object) = owner else { continue };
        let [x, y] = grid.centre_px(cell);
        let [l, t, r, b] = objects[object].ltrb_px;
        boxes.push(BoxCell {
            cell: frame * grid.cells() + cell,
            frame,
            object,
            ltrb_from_centre_px: [l - x, t - y, r - x, b - y],
            weight: 1.0,
        });
    }
}

/// Divides the weight of an object among its cells, and makes all weights sum to 1.
fn share_out(boxes: &mut [BoxCell]) {
    let mut cells_of = std::collections::HashMap::new();
    for cell in boxes.iter() {
        *cells_of.entry((cell.frame, cell.object)).or_insert(0_u32) += 1;
    }
    let objects = cells_of.len() as f32;
    for cell in boxes.iter_mut() {
        cell.weight = 1.0 / (objects * cells_of[&(cell.frame, cell.object)] as f32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use RoadUser::{Bus, Car, Motorcycle, Person};

    const GRID: Grid = Grid {
        columns: 20,
        rows: 12,
        stride_px: 8.0,
    };

    fn object(kinds: &[RoadUser], ltrb_px: [f32; 4]) -> Labelled {
        Labelled {
            ltrb_px,
            kinds: RoadUsers::of(kinds),
            unsaid: RoadUsers::NONE,
            is_target: true,
        }
    }

    fn of(objects: &[Labelled], complete: RoadUsers) -> ProposalTargets {
        ProposalTargets::new(&GRID, &[objects.to_vec()], &[complete])
    }

    fn at(map: &[f32], kind: RoadUser, column: usize, row: usize) -> f32 {
        map[(row * 20 + column) * RoadUser::COUNT + kind as usize]
    }

    #[test]
    fn an_object_has_one_peak_on_the_map_of_its_kind_under_its_centre() {
        let car = object(&[Car], [40.0, 30.0, 100.0, 70.0]);
        let targets = of(&[car], RoadUsers::ALL);
        assert_eq!(targets.peak.iter().sum::<f32>(), 1.0);
        assert_eq!(at(&targets.peak, Car, 8, 6), 1.0);
        assert_eq!(at(&targets.gauss, Car, 8, 6), 1.0);
        let beside = at(&targets.gauss, Car, 9, 6);
        assert!(beside > 0.3 && beside < 1.0, "{beside}");
        assert_eq!(at(&targets.gauss, Bus, 8, 6), 0.0);
        assert_eq!(targets.centre_cell, [vec![6 * 20 + 8]]);
    }

    #[test]
    fn boxes_are_told_from_the_cells_own_centre_and_weigh_one_together() {
        let near = object(&[Car], [40.0, 30.0, 100.0, 70.0]);
        let small = object(&[Person], [10.0, 20.0, 14.0, 30.0]);
        let targets = of(&[near, small], RoadUsers::ALL);
        let sum: f32 = targets.boxes.iter().map(|b| b.weight).sum();
        assert!((sum - 1.0).abs() < 1e-5);
        for b in &targets.boxes {
            let [x, y] = GRID.centre_px(b.cell);
            let [l, t, r, d] = b.ltrb_from_centre_px;
            let back = [l + x, t + y, r + x, d + y];
            assert_eq!(back, [near, small][b.object].ltrb_px);
        }
        let of_small: Vec<_> = targets.boxes.iter().filter(|b| b.object == 1).collect();
        assert_eq!(of_small.len(), 1);
        assert!(
            (of_small[0].weight - 0.5).abs() < 1e-6,
            "objects weigh alike"
        );
    }

    #[test]
    fn where_a_kind_is_not_labelled_its_absence_is_not_learned() {
        let car = object(&[Car], [40.0, 30.0, 100.0, 70.0]);
        let targets = of(&[car], RoadUsers::of(&[Car, Bus]));
        assert_eq!(at(&targets.gauss, Person, 2, 2), 1.0, "left out");
        assert_eq!(
            at(&targets.gauss, Person, 8, 6),
            0.0,
            "but no car is a person"
        );
        assert_eq!(at(&targets.gauss, Bus, 2, 2), 0.0);
        assert_eq!(at(&targets.peak, Person, 2, 2), 0.0);
    }

    #[test]
    fn an_ignored_region_is_left_out_for_what_it_may_hold_and_gives_no_box() {
        let crowd = Labelled {
            is_target: false,
            ..object(&[Person], [40.0, 30.0, 100.0, 70.0])
        };
        let targets = of(&[crowd], RoadUsers::ALL);
        assert!(targets.boxes.is_empty());
        assert_eq!(targets.peak.iter().sum::<f32>(), 0.0);
        assert_eq!(at(&targets.gauss, Person, 8, 6), 1.0);
        assert_eq!(at(&targets.gauss, Person, 5, 4), 1.0, "to its corner");
        assert_eq!(at(&targets.gauss, Person, 15, 6), 0.0);
        assert_eq!(at(&targets.gauss, Car, 8, 6), 0.0, "a crowd is no car");
    }

    #[test]
    fn an_object_of_one_of_two_kinds_teaches_its_box_and_neither_kind() {
        let either = object(&[Car, Bus], [40.0, 30.0, 100.0, 70.0]);
        let targets = of(&[either], RoadUsers::ALL);
        assert!(!targets.boxes.is_empty());
        assert_eq!(targets.peak.iter().sum::<f32>(), 0.0);
        assert_eq!(at(&targets.gauss, Car, 8, 6), 1.0);
        assert_eq!(at(&targets.gauss, Bus, 8, 6), 1.0);
        assert_eq!(at(&targets.gauss, Person, 8, 6), 0.0);
    }

    #[test]
    fn a_rider_is_neither_learned_nor_denied_within_his_motorcycle() {
        let machine = Labelled {
            unsaid: RoadUsers::of(&[Person]),
            ..object(&[Motorcycle], [40.0, 30.0, 60.0, 70.0])
        };
        let targets = of(&[machine], RoadUsers::ALL);
        assert_eq!(at(&targets.gauss, Person, 6, 6), 1.0);
        assert_eq!(at(&targets.peak, Motorcycle, 6, 6), 1.0);
        // A person who is boxed there is learned all the same.
        let rider = object(&[Person], [44.0, 30.0, 56.0, 60.0]);
        let targets = of(&[machine, rider], RoadUsers::ALL);
        assert_eq!(at(&targets.peak, Person, 6, 5), 1.0);
    }

    #[test]
    fn a_cell_that_two_claim_belongs_to_the_smaller() {
        let bus = object(&[Bus], [0.0, 0.0, 150.0, 90.0]);
        let car = object(&[Car], [60.0, 30.0, 90.0, 60.0]);
        let targets = of(&[bus, car], RoadUsers::ALL);
        let centre = 5 * 20 + 9;
        let claimed = targets.boxes.iter().find(|b| b.cell == centre);
        assert_eq!(claimed.map(|b| b.object), Some(1));
        assert!(targets.boxes.iter().any(|b| b.object == 0));
    }

    #[test]
    fn objects_at_and_beyond_the_border_break_nothing() {
        for ltrb in [
            [-50.0, -50.0, 20.0, 20.0],
            [150.0, 80.0, 160.0, 96.0],
            [300.0, 300.0, 320.0, 310.0],
            [5.0, 5.0, 5.0, 5.0],
        ] {
            let targets = of(&[object(&[Car], ltrb)], RoadUsers::ALL);
            assert_eq!(targets.peak.iter().sum::<f32>(), 1.0, "{ltrb:?}");
            assert!(targets.gauss.iter().all(|v| v.is_finite()));
            assert!(!targets.boxes.is_empty());
        }
    }
}
