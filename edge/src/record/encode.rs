//! A frame as a JPEG: the camera's own where it delivers JPEGs, else encoded from its own layout, row by row.
//!
//! Enters: a [`Frame`]. Leaves: bytes. Cameras deliver luma of 16 to 235, JPEG has 0 to 255: two tables of 256 convert.

use jpeg_encoder::{Encoder, ImageBuffer, JpegColorType, SamplingFactor};
use roadhound_shared::frame::{FrameView, PixelFormat};

use crate::capture::{Encoding, Frame};

/// Encodes into a buffer that is used again.
pub struct Jpegs {
    quality: u8,
    bytes: Vec<u8>,
}

impl Jpegs {
    /// JPEGs of this quality, 1 to 100.
    pub fn new(quality: u8) -> Self {
        Self {
            quality,
            bytes: Vec::new(),
        }
    }

    /// The frame as a JPEG.
    ///
    /// # Errors
    /// Why it is none.
    pub fn of<'a>(&'a mut self, frame: &'a Frame) -> Result<&'a [u8], String> {
        let Encoding::Raw(format) = frame.encoding else {
            return if frame.bytes.starts_with(&[0xff, 0xd8]) {
                Ok(&frame.bytes)
            } else {
                Err("a frame is no JPEG".into())
            };
        };
        // Checks that every row is there.
        let _: Option<FrameView<'_>> = frame.view().map_err(|e| e.to_string())?;
        let size = [frame.width_px, frame.height_px].map(u16::try_from);
        let [Ok(width_px), Ok(height_px)] = size else {
            return Err(format!(
                "{}x{} is too large for a JPEG",
                frame.width_px, frame.height_px
            ));
        };
        self.bytes.clear();
        let mut encoder = Encoder::new(&mut self.bytes, self.quality);
        encoder.set_sampling_factor(SamplingFactor::F_2_2);
        let rows = Rows {
            frame,
            format,
            width_px,
            height_px,
        };
        encoder.encode_image(rows).map_err(|e| e.to_string())?;
        Ok(&self.bytes)
    }
}

/// From 16..235 and 16..240 to 0..255.
const fn widened(from: i32, span: i32, middle: i32) -> [u8; 256] {
    let mut table = [0; 256];
    let mut n = 0;
    while n < 256 {
        let scaled = ((n as i32 - from) * 255 * 2 + span) / (span * 2) + middle;
        table[n] = if scaled < 0 {
            0
        } else if scaled > 255 {
            255
        } else {
            scaled as u8
        };
        n += 1;
    }
    table
}

static LUMA: [u8; 256] = widened(16, 219, 0);
static CHROMA: [u8; 256] = widened(128, 224, 128);

struct Rows<'a> {
    frame: &'a Frame,
    format: PixelFormat,
    width_px: u16,
    height_px: u16,
}

impl ImageBuffer for Rows<'_> {
    fn get_jpeg_color_type(&self) -> JpegColorType {
        match self.format {
            PixelFormat::Grey8 => JpegColorType::Luma,
            _ => JpegColorType::Ycbcr,
        }
    }

    fn width(&self) -> u16 {
        self.width_px
    }

    fn height(&self) -> u16 {
        self.height_px
    }

    fn fill_buffers(&self, y: u16, buffers: &mut [Vec<u8>; 4]) {
        let (stride, width) = (self.frame.stride_bytes, usize::from(self.width_px));
        let plane = |row: usize, bytes: usize| &self.frame.bytes[row * stride..][..bytes];
        let y = usize::from(y);
        let [luma, cb, cr, _] = buffers;
        match self.format {
            PixelFormat::Grey8 => luma.extend_from_slice(plane(y, width)),
            PixelFormat::Yuyv => {
                for [y0, u, y1, v] in plane(y, 2 * width).as_chunks::<4>().0 {
                    luma.extend([LUMA[usize::from(*y0)], LUMA[usize::from(*y1)]]);
                    cb.extend([CHROMA[usize::from(*u)]; 2]);
                    cr.extend([CHROMA[usize::from(*v)]; 2]);
                }
            }
            PixelFormat::Nv12 => {
                luma.extend(plane(y, width).iter().map(|&l| LUMA[usize::from(l)]));
                let chroma = plane(usize::from(self.height_px) + y / 2, width);
                for [u, v] in chroma.as_chunks::<2>().0 {
                    cb.extend([CHROMA[usize::from(*u)]; 2]);
                    cr.extend([CHROMA[usize::from(*v)]; 2]);
                }
            }
            PixelFormat::Rgb8 | PixelFormat::Bgr8 => {
                for pixel in plane(y, 3 * width).as_chunks::<3>().0 {
                    let [r, g, b] = match self.format {
                        PixelFormat::Bgr8 => [pixel[2], pixel[1], pixel[0]],
                        _ => *pixel,
                    };
                    let [r, g, b] = [r, g, b].map(i32::from);
                    // JFIF's matrix in 16 bits; the constants of a row of chroma add up to 0.
                    luma.push(((19_595 * r + 38_470 * g + 7_471 * b + 32_768) >> 16) as u8);
                    let c = |value: i32| (((value + 32_767) >> 16) + 128) as u8;
                    cb.push(c(-11_059 * r - 21_709 * g + 32_768 * b));
                    cr.push(c(32_768 * r - 27_439 * g - 5_329 * b));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::source::{Pixels, decode_jpeg};

    const SIZE: (u32, u32) = (64, 48);

    /// Mean colour of a picture that has one.
    fn colour(format: PixelFormat, planes: &[&[u8]]) -> [f32; 3] {
        let mut frame = Frame::default();
        frame.set_tight(format, SIZE.0, SIZE.1, planes);
        // Rows of a driver may have padding behind them.
        let (row, padded) = (frame.stride_bytes, frame.stride_bytes + 16);
        frame.bytes = frame
            .bytes
            .chunks(row)
            .flat_map(|row| [row, &[99; 16]].concat())
            .collect();
        frame.stride_bytes = padded;
        let mut jpegs = Jpegs::new(90);
        let mut pixels = Vec::new();
        let decoded = decode_jpeg(jpegs.of(&frame).unwrap(), &mut pixels).unwrap();
        let Pixels::Packed {
            format,
            width_px,
            height_px,
            data,
        } = decoded
        else {
            panic!("packed")
        };
        assert_eq!((width_px, height_px), SIZE);
        let channels = if format == PixelFormat::Grey8 { 1 } else { 3 };
        let mean = |c: usize| {
            data.iter()
                .skip(c)
                .step_by(channels)
                .map(|&v| f32::from(v))
                .sum::<f32>()
                / (SIZE.0 * SIZE.1) as f32
        };
        [0, 1, 2].map(|c| mean(c % channels))
    }

    fn is(found: [f32; 3], expected: [f32; 3]) {
        // A picture of one colour loses at most the rounding of three conversions.
        let near = found
            .iter()
            .zip(expected)
            .all(|(a, b)| (a - b).abs() <= 3.0);
        assert!(near, "{found:?}, expected {expected:?}");
    }

    #[test]
    fn every_layout_keeps_its_colour() {
        let pixels = (SIZE.0 * SIZE.1) as usize;
        is(
            colour(PixelFormat::Rgb8, &[&[200, 40, 90].repeat(pixels)]),
            [200.0, 40.0, 90.0],
        );
        is(
            colour(PixelFormat::Bgr8, &[&[90, 40, 200].repeat(pixels)]),
            [200.0, 40.0, 90.0],
        );
        is(
            colour(PixelFormat::Rgb8, &[&[0, 0, 255].repeat(pixels)]),
            [0.0, 0.0, 255.0],
        );
        is(
            colour(PixelFormat::Grey8, &[&[77].repeat(pixels)]),
            [77.0; 3],
        );
        // 100 % red of a camera.
        is(
            colour(PixelFormat::Yuyv, &[&[81, 90, 81, 240].repeat(pixels / 2)]),
            [254.0, 0.0, 0.0],
        );
        is(
            colour(
                PixelFormat::Nv12,
                &[&[81].repeat(pixels), &[90, 240].repeat(pixels / 4)],
            ),
            [254.0, 0.0, 0.0],
        );
        is(
            colour(
                PixelFormat::Yuyv,
                &[&[235, 128, 235, 128].repeat(pixels / 2)],
            ),
            [255.0; 3],
        );
    }

    #[test]
    fn a_jpeg_of_the_camera_passes_and_what_is_none_does_not() {
        let jpeg = include_bytes!("../../tests/data/one.jpg");
        let mut frame = Frame {
            encoding: Encoding::Mjpeg,
            bytes: jpeg.to_vec(),
            ..Frame::default()
        };
        assert_eq!(Jpegs::new(90).of(&frame).unwrap(), jpeg);
        frame.bytes = b"no picture".to_vec();
        assert!(Jpegs::new(90).of(&frame).is_err());
    }

    #[test]
    fn rows_that_are_missing_are_an_error() {
        let mut frame = Frame::default();
        frame.set_tight(PixelFormat::Yuyv, 64, 48, &[&[0; 100]]);
        assert!(Jpegs::new(90).of(&frame).is_err());
    }
}
