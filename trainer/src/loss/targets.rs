//! What the maps should say: one box per search crop in, per-cell targets out. Plain numbers, no gradients.
//!
//! ```
//! use roadhound_trainer::loss::targets::CellTargets;
//! // One object of 64 x 64 px in the middle of a 256 px crop, stride 16.
//! let t = CellTargets::new(&[[96.0, 96.0, 160.0, 160.0]], &[1.0], 16, 16.0);
//! assert_eq!(t.peak.iter().filter(|v| **v == 1.0).count(), 1);
//! ```

/// Targets of a batch; all maps are `[N, cells * cells]`, row-major.
pub struct CellTargets {
    /// Cells along one side.
    pub cells: usize,
    /// Gaussian around the object's centre, 1 at the peak; 0 everywhere when the target is absent.
    pub gauss: Vec<f32>,
    /// 1 at the cell nearest to the centre.
    pub peak: Vec<f32>,
    /// Weight of the box losses: spread evenly over the cells inside the ellipse with half-axes w/4, h/4
    /// (SiamBAN, Chen et al. 2020) and over the present objects; the whole batch sums to 1, or to 0 without objects.
    pub box_weight: Vec<f32>,
    /// Index of the peak cell within its own map, for every element of the batch.
    pub peak_cell: Vec<usize>,
}

/// Standard deviation of the Gaussian as a share of the object's side, at least half a cell.
const SIGMA_OF_SIDE: f32 = 0.15;

impl CellTargets {
    /// `boxes_ltrb_px` in search pixels; `present` is 1 or 0; the centre of cell `i` is `stride * (i + 1/2)`.
    pub fn new(boxes_ltrb_px: &[[f32; 4]], present: &[f32], cells: usize, stride_px: f32) -> Self {
        let n = boxes_ltrb_px.len();
        let area = cells * cells;
        let mut targets = Self {
            cells,
            gauss: vec![0.0; n * area],
            peak: vec![0.0; n * area],
            box_weight: vec![0.0; n * area],
            peak_cell: vec![0; n],
        };
        let present_count = present.iter().filter(|p| **p > 0.5).count();
        for (i, [l, t, r, b]) in boxes_ltrb_px.iter().copied().enumerate() {
            if present[i] <= 0.5 {
                continue;
            }
            let (cx, cy) = ((l + r) / 2.0, (t + b) / 2.0);
            let (w, h) = ((r - l).max(1.0), (b - t).max(1.0));
            let nearest = |c: f32| ((c / stride_px).floor().max(0.0) as usize).min(cells - 1);
            let peak_cell = nearest(cy) * cells + nearest(cx);
            let sigma = |side: f32| (SIGMA_OF_SIDE * side).max(stride_px / 2.0);
            let (sx, sy) = (sigma(w), sigma(h));
            let mut inside = Vec::new();
            for cell in 0..area {
                let x = (cell % cells) as f32 * stride_px + stride_px / 2.0 - cx;
                let y = (cell / cells) as f32 * stride_px + stride_px / 2.0 - cy;
                targets.gauss[i * area + cell] =
                    (-0.5 * ((x / sx).powi(2) + (y / sy).powi(2))).exp();
                if cell == peak_cell || (4.0 * x / w).powi(2) + (4.0 * y / h).powi(2) < 1.0 {
                    inside.push(cell);
                }
            }
            targets.gauss[i * area + peak_cell] = 1.0;
            targets.peak[i * area + peak_cell] = 1.0;
            targets.peak_cell[i] = peak_cell;
            let weight = 1.0 / (inside.len() * present_count) as f32;
            for cell in inside {
                targets.box_weight[i * area + cell] = weight;
            }
        }
        targets
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_absent_target_leaves_every_map_empty() {
        let t = CellTargets::new(&[[0.0, 0.0, 64.0, 64.0]], &[0.0], 16, 16.0);
        assert!(
            t.gauss
                .iter()
                .chain(&t.peak)
                .chain(&t.box_weight)
                .all(|v| *v == 0.0)
        );
    }

    #[test]
    fn box_weights_sum_to_one_over_the_present_objects() {
        let boxes = [
            [96.0, 96.0, 160.0, 160.0],
            [10.0, 20.0, 40.0, 200.0],
            [0.0; 4],
        ];
        let t = CellTargets::new(&boxes, &[1.0, 1.0, 0.0], 16, 16.0);
        assert!((t.box_weight.iter().sum::<f32>() - 1.0).abs() < 1e-5);
        assert!((t.box_weight[..256].iter().sum::<f32>() - 0.5).abs() < 1e-5);
    }

    #[test]
    fn the_peak_is_the_cell_under_the_centre_even_when_the_object_is_smaller_than_a_cell() {
        let t = CellTargets::new(&[[50.0, 34.0, 54.0, 38.0]], &[1.0], 16, 16.0);
        assert_eq!(t.peak_cell, [2 * 16 + 3]);
        assert_eq!(t.box_weight.iter().filter(|v| **v > 0.0).count(), 1);
    }
}
