//! Contact sheets of scenes: every box in the colour of its kind.
//!
//! In go views and, for validation, what was found in them; out comes one picture. An object that may be of several kinds
//! is white; what is ignored is dark grey; a proposal is drawn with a broken line.

use image::{Rgb, RgbImage};
use roadhound_shared::geometry::BoxLtrb;
use roadhound_shared::preprocess::CropSize;
use roadhound_shared::propose::{Proposal, RoadUser};

use super::{SceneView, Standing};

const GAP_PX: u32 = 2;
const SEVERAL: Rgb<u8> = Rgb([255; 3]);
const IGNORED: Rgb<u8> = Rgb([90; 3]);

/// The colour of a kind.
pub fn colour(kind: RoadUser) -> Rgb<u8> {
    Rgb(match kind {
        RoadUser::Car => [0, 255, 0],
        RoadUser::Truck => [255, 160, 0],
        RoadUser::Bus => [255, 255, 0],
        RoadUser::Motorcycle => [0, 200, 255],
        RoadUser::Bicycle => [60, 90, 255],
        RoadUser::Person => [255, 0, 0],
        RoadUser::AutoRickshaw => [255, 0, 255],
        RoadUser::Animal => [160, 90, 40],
        RoadUser::Other => [150, 255, 190],
    })
}

/// Lays views out row by row, `found[i]` over view `i` where there is such an entry.
pub fn scene_sheet(
    size: CropSize,
    views: &[SceneView],
    found: &[Vec<Proposal>],
    columns: u32,
) -> RgbImage {
    let columns = columns.max(1);
    let (width, height) = (size.width_px, size.height_px);
    let rows = (views.len() as u32).div_ceil(columns).max(1);
    let mut sheet = RgbImage::new(columns * (width + GAP_PX), rows * (height + GAP_PX));
    for (i, view) in views.iter().enumerate() {
        let corner = [
            i as u32 % columns * (width + GAP_PX),
            i as u32 / columns * (height + GAP_PX),
        ];
        for (at, pixel) in view.rgb.chunks_exact(3).enumerate() {
            let (x, y) = (at as u32 % width, at as u32 / width);
            if y < height {
                let pixel = Rgb([pixel[0], pixel[1], pixel[2]]);
                sheet.put_pixel(corner[0] + x, corner[1] + y, pixel);
            }
        }
        for object in &view.objects {
            let colour = match (object.standing, object.kinds.only()) {
                (Standing::Ignored, _) => IGNORED,
                (Standing::Target, Some(kind)) => colour(kind),
                (Standing::Target, None) => SEVERAL,
            };
            outline(&mut sheet, corner, size, &object.box_in_view, colour, 1);
        }
        for proposal in found.get(i).into_iter().flatten() {
            let colour = colour(proposal.class);
            outline(&mut sheet, corner, size, &proposal.box_in_input, colour, 3);
        }
    }
    sheet
}

/// The pixels just inside a box; with `every` above 1, `every` of each two times as many are left out.
fn outline(
    sheet: &mut RgbImage,
    [left, top]: [u32; 2],
    size: CropSize,
    b: &BoxLtrb,
    colour: Rgb<u8>,
    every: i64,
) {
    let edge =
        |value: f32, most: u32| value.round().clamp(0.0, most.saturating_sub(1) as f32) as i64;
    let (l, r) = (
        edge(b.left_px, size.width_px),
        edge(b.right_px - 1.0, size.width_px),
    );
    let (t, d) = (
        edge(b.top_px, size.height_px),
        edge(b.bottom_px - 1.0, size.height_px),
    );
    let is_drawn = |along: i64| every == 1 || along / every % 2 == 0;
    let mut dot = |x: i64, y: i64| sheet.put_pixel(left + x as u32, top + y as u32, colour);
    for x in (l..=r).filter(|x| is_drawn(*x)) {
        dot(x, t);
        dot(x, d);
    }
    for y in (t..=d).filter(|y| is_drawn(*y)) {
        dot(l, y);
        dot(r, y);
    }
}

#[cfg(test)]
mod tests {
    use roadhound_shared::propose::RoadUsers;

    use super::*;
    use crate::scenes::SceneObject;

    #[test]
    fn boxes_are_drawn_on_their_own_view_in_the_colour_of_their_kind() {
        let size = CropSize {
            width_px: 20,
            height_px: 10,
        };
        let object = |kinds: &[RoadUser], standing| SceneObject {
            box_in_view: BoxLtrb::new(2.0, 3.0, 30.0, 8.0),
            kinds: RoadUsers::of(kinds),
            standing,
            instance: 1,
        };
        let view = |object| SceneView {
            rgb: vec![7; 20 * 10 * 3],
            objects: vec![object],
            complete: RoadUsers::ALL,
        };
        let views = [
            view(object(&[RoadUser::Bus], Standing::Target)),
            view(object(&[RoadUser::Bus, RoadUser::Car], Standing::Target)),
            view(object(&[RoadUser::Bus], Standing::Ignored)),
        ];
        let sheet = scene_sheet(size, &views, &[], 2);
        assert_eq!(sheet.dimensions(), (44, 24));
        assert_eq!(*sheet.get_pixel(2, 3), colour(RoadUser::Bus));
        assert_eq!(*sheet.get_pixel(19, 7), colour(RoadUser::Bus), "clipped");
        assert_eq!(*sheet.get_pixel(20, 7), Rgb([0; 3]), "the gap stays empty");
        assert_eq!(*sheet.get_pixel(22 + 2, 3), SEVERAL);
        assert_eq!(*sheet.get_pixel(2, 12 + 3), IGNORED);
        assert_eq!(*sheet.get_pixel(5, 5), Rgb([7; 3]));
    }
}
