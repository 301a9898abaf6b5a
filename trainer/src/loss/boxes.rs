//! Box losses: `1 - GIoU` (Rezatofighi et al. 2019) and L1 relative to the object's size.

use candle_core::{D, Result, Tensor};

/// Both losses and the mean IoU, each a scalar.
pub struct BoxLosses {
    /// Weighted mean of `1 - GIoU`.
    pub giou: Tensor,
    /// Weighted mean of `|side - target| / size` over the four sides.
    pub l1: Tensor,
    /// Weighted mean of the IoU, without gradient: for the log.
    pub iou: f32,
}

/// Losses of the boxes that the cells predict, against one box per image.
///
/// # Shapes
/// `distances_px` `[N, cells, 4]` (left, top, right, bottom from the cell's centre), `centres_px` `[cells, 2]`,
/// `target_ltrb_px` `[N, 4]`, `weight` `[N, cells]` summing to 1 (or 0 when there is nothing to learn).
pub fn box_losses(
    distances_px: &Tensor,
    centres_px: &Tensor,
    target_ltrb_px: &Tensor,
    weight: &Tensor,
) -> Result<BoxLosses> {
    let (n, cells, _four) = distances_px.dims3()?;
    let side = |k: usize| distances_px.narrow(D::Minus1, k, 1)?.squeeze(D::Minus1);
    let centre = |k: usize| centres_px.narrow(1, k, 1)?.reshape((1, cells));
    let target = |k: usize| {
        target_ltrb_px
            .narrow(1, k, 1)?
            .broadcast_as((n, cells))?
            .contiguous()
    };
    let (cx, cy) = (centre(0)?, centre(1)?);
    let l = side(0)?.neg()?.broadcast_add(&cx)?;
    let t = side(1)?.neg()?.broadcast_add(&cy)?;
    let r = side(2)?.broadcast_add(&cx)?;
    let b = side(3)?.broadcast_add(&cy)?;
    let (tl, tt, tr, tb) = (target(0)?, target(1)?, target(2)?, target(3)?);

    let overlap_w = (r.minimum(&tr)? - l.maximum(&tl)?)?.relu()?;
    let overlap_h = (b.minimum(&tb)? - t.maximum(&tt)?)?.relu()?;
    let overlap = (overlap_w * overlap_h)?;
    let target_w = (&tr - &tl)?.clamp(1f64, f64::MAX)?;
    let target_h = (&tb - &tt)?.clamp(1f64, f64::MAX)?;
    let area = ((&r - &l)? * (&b - &t)?)?;
    let union = ((area + (&target_w * &target_h)?)? - &overlap)?.clamp(1e-3, f64::MAX)?;
    let hull = ((r.maximum(&tr)? - l.minimum(&tl)?)? * (b.maximum(&tb)? - t.minimum(&tt)?)?)?
        .clamp(1e-3, f64::MAX)?;
    let iou = (overlap / &union)?;
    let giou = (&iou - ((&hull - &union)? / &hull)?)?;

    let off = |a: &Tensor, b: &Tensor, size: &Tensor| (a - b)?.abs()? / size;
    let l1 = (((off(&l, &tl, &target_w)? + off(&r, &tr, &target_w)?)?
        + off(&t, &tt, &target_h)?)?
        + off(&b, &tb, &target_h)?)?;
    Ok(BoxLosses {
        giou: ((1.0 - giou)? * weight)?.sum_all()?,
        l1: ((l1 * 0.25)? * weight)?.sum_all()?,
        iou: (iou.detach() * weight)?.sum_all()?.to_scalar::<f32>()?,
    })
}

/// Centres of a map's cells in search pixels, `[cells * cells, 2]` as x, y.
pub fn cell_centres_px(cells: usize, stride_px: f32) -> Vec<f32> {
    let centre = |k: usize| (k as f32 + 0.5) * stride_px;
    (0..cells * cells)
        .flat_map(|cell| [centre(cell % cells), centre(cell / cells)])
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::ops::gradcheck::{Settings, check};
    use candle_core::Device;

    fn one_cell(distances: [f32; 4], target: [f32; 4]) -> (f32, f32, f32) {
        let dev = &Device::Cpu;
        let d = Tensor::new(&[[distances]], dev).unwrap();
        let c = Tensor::new(&[[8.0f32, 8.0]], dev).unwrap();
        let losses = box_losses(
            &d,
            &c,
            &Tensor::new(&[target], dev).unwrap(),
            &Tensor::new(&[[1.0f32]], dev).unwrap(),
        )
        .unwrap();
        (
            losses.giou.to_scalar().unwrap(),
            losses.l1.to_scalar().unwrap(),
            losses.iou,
        )
    }

    #[test]
    fn the_right_box_costs_nothing() {
        let (giou, l1, iou) = one_cell([4.0, 4.0, 12.0, 4.0], [4.0, 4.0, 20.0, 12.0]);
        assert!(giou.abs() < 1e-6 && l1.abs() < 1e-6 && (iou - 1.0).abs() < 1e-6);
    }

    #[test]
    fn boxes_side_by_side_cost_more_than_one() {
        // Predicted 4..12 x 4..12, target 12..20 x 4..12: IoU 0, hull equals the union, GIoU 0.
        let (giou, l1, iou) = one_cell([4.0; 4], [12.0, 4.0, 20.0, 12.0]);
        assert!((giou - 1.0).abs() < 1e-6 && iou == 0.0 && (l1 - 0.5).abs() < 1e-6);
        assert!(one_cell([4.0; 4], [20.0, 4.0, 28.0, 12.0]).0 > 1.0);
    }

    #[test]
    fn gradients_agree_with_finite_differences() {
        let dev = &Device::Cpu;
        let d = Tensor::new(
            &[
                [[20.0f32, 30.0, 25.0, 22.0], [14.0, 9.0, 31.0, 27.0]],
                [[8.0, 12.0, 9.0, 30.0], [40.0, 33.0, 3.0, 5.0]],
            ],
            dev,
        )
        .unwrap();
        let c = Tensor::new(&[[100.0f32, 100.0], [116.0, 100.0]], dev).unwrap();
        let target = Tensor::new(
            &[[78.0f32, 75.0, 131.0, 128.0], [90.0, 90.0, 140.0, 120.0]],
            dev,
        )
        .unwrap();
        let w = Tensor::new(&[[0.3f32, 0.2], [0.1, 0.4]], dev).unwrap();
        // Distances are tens of pixels, so a gradient is hundredths: a wider step and a lower floor.
        let settings = Settings {
            step: 0.05,
            floor: 0.05,
            ..Settings::F32
        };
        let point = [d];
        check(&point, &settings, |x| {
            Ok(box_losses(&x[0], &c, &target, &w)?.giou)
        })
        .unwrap();
        check(&point, &settings, |x| {
            Ok(box_losses(&x[0], &c, &target, &w)?.l1)
        })
        .unwrap();
    }
}
