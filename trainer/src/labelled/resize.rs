//! Pictures of two data sets, brought to one size and one number of channels.
//!
//! In: samples of bytes. Out: the same samples, resampled with a triangle filter (area-correct when they shrink), grey
//! repeated in every channel or colours turned to grey ([`resized`]); or framed as they are ([`framed`]).
//!
//! ```
//! use roadhound_trainer::labelled::resize::resized;
//! use roadhound_trainer::labelled::{Samples, Shape, Values};
//! let grey = Shape { height: 2, width: 2, channels: 1 };
//! let samples = Samples::new(grey, Values::Bytes(vec![9; 4]), vec![0], vec![])?;
//! let colours = Shape { height: 5, width: 3, channels: 3 };
//! assert_eq!(resized(samples, colours)?.row(0).len(), 45);
//! # Ok::<(), String>(())
//! ```

use image::imageops::{FilterType, grayscale, resize};
use image::{DynamicImage, GrayImage, RgbImage};

use super::{Samples, Shape, Values};

/// The samples in the wanted shape.
///
/// # Errors
/// Samples that are no pictures, or a shape that is none; the reason.
pub fn resized(samples: Samples, wanted: Shape) -> Result<Samples, String> {
    let shape = samples.shape;
    if shape == wanted {
        return Ok(samples);
    }
    let no_picture = |shape: Shape| {
        format!(
            "{} x {} x {} is no picture",
            shape.height, shape.width, shape.channels
        )
    };
    if !wanted.is_picture() {
        return Err(no_picture(wanted));
    }
    let (width, height) = (shape.width as u32, shape.height as u32);
    let (to_width, to_height) = (wanted.width as u32, wanted.height as u32);
    let bytes = match &samples.values {
        Values::Bytes(bytes) if shape.is_picture() => bytes,
        _ => return Err(no_picture(shape)),
    };
    let mut moved = Vec::with_capacity(samples.len() * wanted.len());
    for sample in bytes.chunks_exact(shape.len()) {
        let picture = match shape.channels {
            1 => GrayImage::from_raw(width, height, sample.to_vec()).map(DynamicImage::from),
            _ => RgbImage::from_raw(width, height, sample.to_vec()).map(DynamicImage::from),
        };
        let picture = picture.ok_or_else(|| no_picture(shape))?;
        // Grey first where it is wanted: a third of the work.
        match wanted.channels {
            1 => {
                let grey = grayscale(&picture);
                moved.extend_from_slice(
                    resize(&grey, to_width, to_height, FilterType::Triangle).as_raw(),
                );
            }
            _ => {
                let picture = picture.resize_exact(to_width, to_height, FilterType::Triangle);
                moved.extend_from_slice(picture.into_rgb8().as_raw());
            }
        }
    }
    Ok(Samples {
        shape: wanted,
        values: Values::Bytes(moved),
        ..samples
    })
}

/// The samples in the middle of pictures of another size, as they are: a border of zeros is laid around them, or what stands
/// out is cut off.
///
/// # Errors
/// Samples that are no pictures, or a shape that has other channels; the reason.
pub fn framed(samples: Samples, wanted: Shape) -> Result<Samples, String> {
    let shape = samples.shape;
    if shape == wanted {
        return Ok(samples);
    }
    let bytes = match &samples.values {
        Values::Bytes(bytes) if shape.is_picture() && shape.channels == wanted.channels => bytes,
        _ => {
            return Err(format!(
                "{} x {} x {} is no picture of {} channels",
                shape.height, shape.width, shape.channels, wanted.channels
            ));
        }
    };
    // Where the first row or column of the smaller one lies in the larger one, and how many both have.
    let middle = |from: usize, to: usize| {
        let (cut, border) = (from.saturating_sub(to) / 2, to.saturating_sub(from) / 2);
        (cut, border, from.min(to))
    };
    let (cut_y, border_y, rows) = middle(shape.height, wanted.height);
    let (cut_x, border_x, columns) = middle(shape.width, wanted.width);
    let channels = shape.channels;
    let mut moved = vec![0; samples.len() * wanted.len()];
    let pairs = bytes
        .chunks_exact(shape.len())
        .zip(moved.chunks_exact_mut(wanted.len()));
    for (from, to) in pairs {
        for row in 0..rows {
            let start = ((row + cut_y) * shape.width + cut_x) * channels;
            let end = ((row + border_y) * wanted.width + border_x) * channels;
            let length = columns * channels;
            to[end..end + length].copy_from_slice(&from[start..start + length]);
        }
    }
    Ok(Samples {
        shape: wanted,
        values: Values::Bytes(moved),
        ..samples
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn shape(side: usize, channels: usize) -> Shape {
        Shape {
            height: side,
            width: side,
            channels,
        }
    }

    #[test]
    fn even_pictures_stay_even_whatever_their_size_and_grey_is_alike_in_all_channels() {
        let samples = Samples::new(
            shape(16, 1),
            Values::Bytes([vec![40; 256], vec![200; 256]].concat()),
            vec![3, 1],
            vec![],
        )
        .unwrap();
        let large = resized(samples.clone(), shape(32, 3)).unwrap();
        assert_eq!((large.len(), large.labels()), (2, &[3, 1][..]));
        assert!(large.row(1).iter().all(|v| *v == 200.0 / 255.0));
        let back = resized(large, shape(16, 1)).unwrap();
        assert_eq!(back.row(0), samples.row(0));
    }

    #[test]
    fn a_frame_leaves_pixels_as_they_are_and_what_it_adds_it_cuts_off_again() {
        let bytes: Vec<u8> = (0..2 * 4 * 3).collect();
        let small = Shape {
            height: 4,
            width: 2,
            channels: 3,
        };
        let samples = Samples::new(small, Values::Bytes(bytes), vec![1], vec![]).unwrap();
        let large = framed(samples.clone(), shape(7, 3)).unwrap();
        let row = large.row(0);
        assert_eq!(row.len(), 7 * 7 * 3);
        // One row above, two columns to the left.
        let first = (7 + 2) * 3;
        assert_eq!(row[first..first + 6], samples.row(0)[..6]);
        let light = |row: &[f32]| row.iter().filter(|v| **v > 0.0).count();
        assert_eq!(light(&row), light(&samples.row(0)));
        assert_eq!(framed(large, small).unwrap().row(0), samples.row(0));
        let said = framed(samples, shape(4, 1)).unwrap_err();
        assert_eq!(said, "4 x 2 x 3 is no picture of 1 channels");
    }

    #[test]
    fn halving_a_side_gives_means_and_tables_are_refused() {
        // Columns of 0 and 100, two wide: a smaller pixel in the middle of one is of that one.
        let bytes = (0..64).map(|i| if i % 8 < 4 { 0 } else { 100 }).collect();
        let samples = Samples::new(shape(8, 1), Values::Bytes(bytes), vec![0], vec![]).unwrap();
        let small = resized(samples, shape(4, 1)).unwrap();
        let row = small.row(0);
        assert!(row[0] == 0.0 && row[3] == 100.0 / 255.0);
        assert!(
            (row[1] + row[2] - 100.0 / 255.0).abs() < 2.0 / 255.0,
            "{row:?}"
        );
        let table = Samples::new(shape(1, 7), Values::Numbers(vec![1.0; 7]), vec![0], vec![]);
        let said = resized(table.unwrap(), shape(4, 1)).unwrap_err();
        assert_eq!(said, "1 x 1 x 7 is no picture");
    }
}
