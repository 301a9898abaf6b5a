//! A contact sheet of rendered frames with what is true about them.

use image::{Rgb, RgbImage};
use roadhound_shared::geometry::BoxXywh;
use roadhound_shared::world::ObjectTruth;

/// Full boxes of what is seen well.
const CLEAR: Rgb<u8> = Rgb([40, 255, 60]);
/// Full boxes of what is partly hidden; the visible part is drawn in the same colour.
const OCCLUDED: Rgb<u8> = Rgb([255, 200, 0]);
/// What is to be ignored.
const IGNORED: Rgb<u8> = Rgb([150, 150, 150]);
/// What is there but not seen.
const ABSENT: Rgb<u8> = Rgb([255, 40, 40]);

/// Frames row by row, boxes drawn in unless `boxes` is false.
pub fn sheet(cells: &[(RgbImage, Vec<ObjectTruth>)], columns: u32, boxes: bool) -> RgbImage {
    let columns = columns.max(1);
    let (w, h) = cells
        .first()
        .map_or((1, 1), |(image, _)| image.dimensions());
    let rows = (cells.len() as u32).div_ceil(columns).max(1);
    let mut sheet = RgbImage::new(w * columns, h * rows);
    for (i, (image, objects)) in cells.iter().enumerate() {
        let (left, top) = (i as u32 % columns * w, i as u32 / columns * h);
        image::imageops::replace(&mut sheet, image, i64::from(left), i64::from(top));
        if !boxes {
            continue;
        }
        for o in objects {
            let colour = match (o.absent, o.ignore, o.occluded) {
                (true, ..) => ABSENT,
                (_, true, _) => IGNORED,
                (_, _, true) => OCCLUDED,
                _ => CLEAR,
            };
            outline(&mut sheet, [left, top], [w, h], &o.full_box, colour);
            if let (true, Some(visible)) = (o.occluded && !o.absent, &o.visible_box) {
                outline(&mut sheet, [left, top], [w, h], visible, colour);
            }
        }
    }
    sheet
}

fn outline(sheet: &mut RgbImage, at: [u32; 2], cell: [u32; 2], b: &BoxXywh, colour: Rgb<u8>) {
    let clamp = |v: f32, most: u32| (v.round().max(0.0) as u32).min(most - 1);
    let (x0, x1) = (clamp(b.x_px, cell[0]), clamp(b.x_px + b.w_px, cell[0]));
    let (y0, y1) = (clamp(b.y_px, cell[1]), clamp(b.y_px + b.h_px, cell[1]));
    for x in x0..=x1 {
        for y in [y0, y1] {
            sheet.put_pixel(at[0] + x, at[1] + y, colour);
        }
    }
    for y in y0..=y1 {
        for x in [x0, x1] {
            sheet.put_pixel(at[0] + x, at[1] + y, colour);
        }
    }
}
