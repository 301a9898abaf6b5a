//! Samples on a sheet, to look at.
//!
//! In: rows of samples with values from 0 to 1. Out: a picture; numbers that are no picture become a strip of grey cells.
//!
//! ```
//! use roadhound_trainer::labelled::{Shape, sheet::sheet};
//! let shape = Shape { height: 2, width: 3, channels: 1 };
//! let picture = sheet(&[vec![vec![0.0; 6], vec![1.0; 6]]], shape);
//! assert!(picture.width() > 6 && picture.height() > 2);
//! ```

use image::{Rgb, RgbImage};

use super::Shape;

const GAP_PX: u32 = 2;
const GAP: Rgb<u8> = Rgb([200, 206, 214]);
/// A sample is enlarged, by a whole number, to about this side.
const SIDE_PX: u32 = 56;

/// One row of the sheet for each of `rows`.
pub fn sheet(rows: &[Vec<Vec<f32>>], shape: Shape) -> RgbImage {
    let (height, width) = match shape.is_picture() {
        true => (shape.height as u32, shape.width as u32),
        false => (1, shape.len() as u32),
    };
    let channels = if shape.is_picture() {
        shape.channels
    } else {
        1
    };
    let scale = (SIDE_PX / height.max(width)).max(1);
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0) as u32;
    let (step_x, step_y) = (width * scale + GAP_PX, height * scale + GAP_PX);
    let mut picture = RgbImage::from_pixel(
        columns * step_x + GAP_PX,
        rows.len() as u32 * step_y + GAP_PX,
        GAP,
    );
    for (y, row) in rows.iter().enumerate() {
        for (x, sample) in row.iter().enumerate() {
            let (left, top) = (x as u32 * step_x + GAP_PX, y as u32 * step_y + GAP_PX);
            for at in 0..height * width * scale * scale {
                let (px, py) = (at % (width * scale), at / (width * scale));
                let pixel = (py / scale * width + px / scale) as usize * channels;
                let value = |c: usize| {
                    let value = sample.get(pixel + c % channels).copied().unwrap_or(0.0);
                    (value.clamp(0.0, 1.0) * 255.0).round() as u8
                };
                picture.put_pixel(left + px, top + py, Rgb([value(0), value(1), value(2)]));
            }
        }
    }
    picture
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_enlarged_in_its_place_and_rows_of_numbers_become_strips() {
        let shape = Shape {
            height: 28,
            width: 28,
            channels: 1,
        };
        let mut dot = vec![0.0; 784];
        dot[28] = 1.0;
        let picture = sheet(&[vec![vec![0.0; 784]], vec![dot]], shape);
        assert_eq!(picture.dimensions(), (60, 118));
        let white = |x, y| picture.get_pixel(x, y).0 == [255; 3];
        assert!(white(2, 62) && white(3, 63) && !white(4, 62) && !white(2, 4));
        let row = Shape {
            height: 1,
            width: 1,
            channels: 4,
        };
        assert_eq!(sheet(&[vec![vec![0.5; 4]]], row).dimensions(), (60, 18));
    }
}
