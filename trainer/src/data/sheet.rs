//! Contact sheets: pairs as a person can check them.
//!
//! In go pairs, out comes one picture: the search crop with the target's box (green where present, red where absent)
//! and both templates at half size in its upper corners.

use image::{Rgb, RgbImage};

use crate::sampler::Pair;

const PRESENT: Rgb<u8> = Rgb([0, 255, 0]);
const ABSENT: Rgb<u8> = Rgb([255, 0, 0]);
const GAP_PX: u32 = 2;

/// Lays pairs out row by row. Crops must be square, as the sampler makes them; an incomplete last row stays black.
pub fn contact_sheet(pairs: &[Pair], columns: u32) -> RgbImage {
    let columns = columns.max(1);
    let side = |pixels: &[u8]| ((pixels.len() / 3) as f64).sqrt() as u32;
    let search_px = pairs
        .iter()
        .map(|pair| side(&pair.search_rgb))
        .max()
        .unwrap_or(0);
    let cell_px = search_px + GAP_PX;
    let rows = (pairs.len() as u32).div_ceil(columns);
    let mut sheet = RgbImage::new((columns * cell_px).max(1), (rows * cell_px).max(1));
    for (i, pair) in pairs.iter().enumerate() {
        let (left, top) = (i as u32 % columns * cell_px, i as u32 / columns * cell_px);
        paint(
            &mut sheet,
            &pair.search_rgb,
            side(&pair.search_rgb),
            1,
            [left, top],
        );
        let colour = if pair.present { PRESENT } else { ABSENT };
        let [l, t, r, b] = pair.box_in_search.to_array();
        outline(
            &mut sheet,
            [left, top],
            search_px,
            [l, t, r - 1.0, b - 1.0],
            colour,
        );
        let template_px = side(&pair.template_rgb);
        paint(&mut sheet, &pair.template_rgb, template_px, 2, [left, top]);
        let right = left + search_px.saturating_sub(template_px / 2);
        paint(
            &mut sheet,
            &pair.template_latest_rgb,
            template_px,
            2,
            [right, top],
        );
    }
    sheet
}

fn paint(sheet: &mut RgbImage, pixels: &[u8], side_px: u32, every: u32, [left, top]: [u32; 2]) {
    for y in 0..side_px / every {
        for x in 0..side_px / every {
            let at = ((y * every * side_px + x * every) * 3) as usize;
            sheet.put_pixel(
                left + x,
                top + y,
                Rgb([pixels[at], pixels[at + 1], pixels[at + 2]]),
            );
        }
    }
}

/// The pixels just inside a box, where they lie in the cell.
fn outline(
    sheet: &mut RgbImage,
    [left, top]: [u32; 2],
    side_px: u32,
    ltrb: [f32; 4],
    colour: Rgb<u8>,
) {
    let [l, t, r, b] = ltrb.map(|edge| edge.round().clamp(-1.0, side_px as f32) as i64);
    let inside = 0..i64::from(side_px);
    let mut dot = |x: i64, y: i64| {
        if inside.contains(&x) && inside.contains(&y) {
            sheet.put_pixel(left + x as u32, top + y as u32, colour);
        }
    };
    (l..=r).for_each(|x| [t, b].into_iter().for_each(|y| dot(x, y)));
    (t..=b).for_each(|y| [l, r].into_iter().for_each(|x| dot(x, y)));
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use roadhound_shared::geometry::BoxLtrb;

    use super::*;

    #[test]
    fn boxes_are_drawn_on_their_own_cell_in_the_colour_of_presence() {
        let pair = |present, grey: u8| Pair {
            template_rgb: vec![1; 8 * 8 * 3],
            template_latest_rgb: vec![2; 8 * 8 * 3],
            search_rgb: vec![grey; 16 * 16 * 3],
            box_in_search: BoxLtrb {
                left_px: 5.0,
                top_px: 6.0,
                right_px: 40.0,
                bottom_px: 12.0,
            },
            present,
            instance: 0,
            has_distinct_latest: true,
        };
        let sheet = contact_sheet(&[pair(true, 50), pair(false, 60), pair(true, 70)], 2);
        assert_eq!(sheet.dimensions(), (36, 36));
        assert_eq!(*sheet.get_pixel(5, 6), PRESENT);
        assert_eq!(*sheet.get_pixel(15, 11), PRESENT);
        assert_eq!(*sheet.get_pixel(18 + 5, 6), ABSENT);
        assert_eq!(
            *sheet.get_pixel(16, 6),
            Rgb([0; 3]),
            "the box stays in its cell"
        );
        assert_eq!(*sheet.get_pixel(7, 8), Rgb([50; 3]));
        assert_eq!(*sheet.get_pixel(0, 0), Rgb([1; 3]));
        assert_eq!(*sheet.get_pixel(15, 0), Rgb([2; 3]));
    }
}
