//! Putting one crop's pixels into another.

use roadhound_shared::geometry::BoxLtrb;

use super::Crop;

/// What an occluder is made of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fill<'a> {
    /// One colour.
    Colour([u8; 3]),
    /// The pixels of another crop, repeated beyond its borders.
    Texture(&'a Crop),
}

/// Blends `source` into `canvas` within a soft superellipse inscribed in `box_in_canvas`; `origin_in_canvas` is where
/// the source's first pixel lies. Larger powers are closer to the full rectangle. Pixels that the source does not have
/// stay.
pub fn blend_superellipse(
    canvas: &mut Crop,
    source: &Crop,
    origin_in_canvas: [i32; 2],
    box_in_canvas: &BoxLtrb,
    power: f32,
) {
    let b = box_in_canvas;
    let (half_w, half_h) = (
        (b.right_px - b.left_px) / 2.0,
        (b.bottom_px - b.top_px) / 2.0,
    );
    if !(half_w > 0.0 && half_h > 0.0) {
        return;
    }
    let (cx, cy) = (b.left_px + half_w, b.top_px + half_h);
    // The soft edge ends where the sum below reaches 1.06; at a power of two that is 3 % beyond the box.
    let columns = shared_span(
        cx,
        1.03 * half_w,
        canvas.width_px,
        origin_in_canvas[0],
        source.width_px,
    );
    let rows = shared_span(
        cy,
        1.03 * half_h,
        canvas.height_px,
        origin_in_canvas[1],
        source.height_px,
    );
    if columns.is_empty() {
        return;
    }
    let term =
        |at: usize, centre: f32, half: f32| ((at as f32 + 0.5 - centre).abs() / half).powf(power);
    let across: Vec<f32> = columns.clone().map(|x| term(x, cx, half_w)).collect();
    for y in rows {
        let down = term(y, cy, half_h);
        let canvas_row = y * canvas.width_px as usize;
        let source_row = (y as i32 - origin_in_canvas[1]) as usize * source.width_px as usize;
        let source_start =
            (source_row as i32 + columns.start as i32 - origin_in_canvas[0]) as usize * 3;
        let canvas_start = (canvas_row + columns.start) * 3;
        let len = across.len() * 3;
        let pixels = canvas.pixels[canvas_start..canvas_start + len].chunks_exact_mut(3);
        let sources = source.pixels[source_start..source_start + len].chunks_exact(3);
        for ((pixel, source), across) in pixels.zip(sources).zip(&across) {
            let opacity = ((1.06 - (across + down)) * 4.0 * 256.0).clamp(0.0, 256.0) as u32;
            for (sample, &over) in pixel.iter_mut().zip(source) {
                *sample = ((u32::from(*sample) * (256 - opacity) + u32::from(over) * opacity + 128)
                    >> 8) as u8;
            }
        }
    }
}

/// Blends `source` into `canvas` as far as `opacity` (0 to 255, one value a pixel of the source) says.
pub fn blend_cut_out(canvas: &mut Crop, source: &Crop, origin_in_canvas: [i32; 2], opacity: &[u8]) {
    let (canvas_px, source_px) = (canvas.width_px as usize, source.width_px as usize);
    for (y, row) in opacity.chunks_exact(source_px.max(1)).enumerate() {
        let to_y = origin_in_canvas[1] + y as i32;
        if !(0..canvas.height_px as i32).contains(&to_y) {
            continue;
        }
        for (x, &over) in row.iter().enumerate() {
            let to_x = origin_in_canvas[0] + x as i32;
            if over == 0 || !(0..canvas_px as i32).contains(&to_x) {
                continue;
            }
            let over = u32::from(over);
            let from = (y * source_px + x) * 3;
            let to = (to_y as usize * canvas_px + to_x as usize) * 3;
            let sources = &source.pixels[from..from + 3];
            for (sample, &new) in canvas.pixels[to..to + 3].iter_mut().zip(sources) {
                *sample =
                    ((u32::from(*sample) * (255 - over) + u32::from(new) * over + 127) / 255) as u8;
            }
        }
    }
}

/// Pixels within `half` of the centre that both the canvas and the source have.
fn shared_span(
    centre: f32,
    half: f32,
    canvas_px: u32,
    origin: i32,
    source_px: u32,
) -> core::ops::Range<usize> {
    let from = ((centre - half).floor() as i32).max(origin).max(0);
    let to = ((centre + half).ceil() as i32)
        .min(origin.saturating_add(source_px as i32))
        .min(canvas_px as i32);
    from as usize..to.max(from) as usize
}

/// Hides a rectangle, clipped to the canvas, behind a fill. A texture's first pixel lands on the rectangle's corner.
pub fn cover(canvas: &mut Crop, area: &BoxLtrb, fill: Fill<'_>) {
    let edge = |value: f32, side: u32| value.round().clamp(0.0, side as f32) as u32;
    let across = |value| edge(value, canvas.width_px);
    let down = |value| edge(value, canvas.height_px);
    let (left, right) = (across(area.left_px), across(area.right_px));
    let (top, bottom) = (down(area.top_px), down(area.bottom_px));
    for y in top..bottom {
        for x in left..right {
            let rgb = match fill {
                Fill::Colour(rgb) => rgb,
                Fill::Texture(texture) if texture.pixels.is_empty() => return,
                Fill::Texture(texture) => {
                    texture.at((x - left) % texture.width_px, (y - top) % texture.height_px)
                }
            };
            let at = (y as usize * canvas.width_px as usize + x as usize) * 3;
            canvas.pixels[at..at + 3].copy_from_slice(&rgb);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn ltrb(left_px: f32, top_px: f32, right_px: f32, bottom_px: f32) -> BoxLtrb {
        BoxLtrb {
            left_px,
            top_px,
            right_px,
            bottom_px,
        }
    }

    #[test]
    fn the_cut_out_is_opaque_inside_and_leaves_the_outside_alone() {
        let mut canvas = Crop::filled(64, [10; 3]);
        blend_superellipse(
            &mut canvas,
            &Crop::filled(64, [200; 3]),
            [0, 0],
            &ltrb(16.0, 24.0, 48.0, 40.0),
            4.0,
        );
        assert_eq!(canvas.at(32, 32), [200; 3]);
        assert_eq!(canvas.at(20, 32), [200; 3]);
        for (x, y) in [(14, 32), (50, 32), (32, 22), (32, 42), (16, 24)] {
            assert_eq!(canvas.at(x, y), [10; 3], "at {x},{y}");
        }
        let edge = canvas.at(16, 32)[0];
        assert!(edge > 10 && edge < 200, "soft edge is {edge}");
    }

    #[test]
    fn a_small_source_lands_at_its_origin() {
        let mut canvas = Crop::filled(64, [0; 3]);
        let mut source = Crop::filled(16, [50; 3]);
        source.pixels_mut()[(8 * 16 + 8) * 3] = 250;
        blend_superellipse(
            &mut canvas,
            &source,
            [30, 40],
            &ltrb(30.0, 40.0, 46.0, 56.0),
            6.0,
        );
        assert_eq!(canvas.at(38, 48), [250, 50, 50]);
        assert_eq!(canvas.at(29, 48), [0; 3]);
    }

    #[test]
    fn a_cut_out_replaces_what_its_opacity_covers_and_is_clipped_at_the_border() {
        let mut canvas = Crop::filled(8, [10; 3]);
        let source = Crop::filled(4, [210; 3]);
        let mut opacity = vec![255; 16];
        opacity[5] = 0;
        opacity[6] = 128;
        blend_cut_out(&mut canvas, &source, [2, 2], &opacity);
        assert_eq!(canvas.at(2, 2), [210; 3]);
        assert_eq!((canvas.at(3, 3), canvas.at(4, 3)), ([10; 3], [110; 3]));
        assert_eq!(canvas.at(1, 2), [10; 3]);
        blend_cut_out(&mut canvas, &source, [-2, 6], &opacity);
        assert_eq!((canvas.at(0, 6), canvas.at(2, 6)), ([210; 3], [10; 3]));
        blend_cut_out(&mut canvas, &source, [i32::MAX - 9, i32::MIN + 9], &opacity);
    }

    #[test]
    fn a_cover_hides_exactly_its_rectangle() {
        let mut canvas = Crop::filled(32, [1; 3]);
        cover(
            &mut canvas,
            &ltrb(4.0, -9.0, 10.0, 5.0),
            Fill::Colour([9, 8, 7]),
        );
        let hidden = canvas
            .pixels()
            .chunks(3)
            .filter(|p| *p == [9, 8, 7])
            .count();
        assert_eq!(hidden, 6 * 5);
        let texture = Crop::filled(3, [5; 3]);
        cover(
            &mut canvas,
            &ltrb(20.0, 20.0, 99.0, 31.0),
            Fill::Texture(&texture),
        );
        assert_eq!(
            canvas.pixels().chunks(3).filter(|p| *p == [5; 3]).count(),
            12 * 11
        );
    }

    proptest! {
        #[test]
        fn any_box_and_origin_blend_without_a_panic(
            left in -500.0_f32..500.0, top in -500.0_f32..500.0, w in -10.0_f32..600.0, h in -10.0_f32..600.0,
            x in -600..600, y in -600..600, power in 2.0_f32..8.0,
        ) {
            let mut canvas = Crop::filled(32, [7; 3]);
            let area = ltrb(left, top, left + w, top + h);
            blend_superellipse(&mut canvas, &Crop::filled(20, [7; 3]), [x, y], &area, power);
            cover(&mut canvas, &area, Fill::Colour([7; 3]));
            prop_assert_eq!(canvas, Crop::filled(32, [7; 3]));
        }
    }
}
