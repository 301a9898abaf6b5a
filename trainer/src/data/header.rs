//! Width and height from the first bytes of a JPEG or PNG.
//!
//! In goes a reader at the start of the file, out comes the size; `None` means that the bytes are not understood here,
//! and a full decoder should have its say.

use std::io::{self, BufRead, Read, Seek};

const PNG_SIGNATURE: [u8; 8] = *b"\x89PNG\r\n\x1a\n";
/// A JPEG has a few dozen segments before its frame header; a file with more is left to the decoder.
const MAX_SEGMENTS: usize = 1024;

/// Reads as far as the size: 24 bytes of a PNG, the segments before the frame header of a JPEG.
pub(crate) fn size(input: &mut (impl BufRead + Seek)) -> io::Result<Option<(u32, u32)>> {
    let mut start = [0_u8; 2];
    input.read_exact(&mut start)?;
    let size = match start {
        [0x89, b'P'] => png_size(input)?,
        [0xff, 0xd8] => jpeg_size(input)?,
        _ => None,
    };
    Ok(size.filter(|&(width_px, height_px)| width_px > 0 && height_px > 0))
}

fn png_size(input: &mut impl Read) -> io::Result<Option<(u32, u32)>> {
    // The rest of the signature, the length and name of the first chunk, and the first two of its numbers.
    let mut head = [0_u8; 22];
    input.read_exact(&mut head)?;
    if head[..6] != PNG_SIGNATURE[2..] || head[10..14] != *b"IHDR" {
        return Ok(None);
    }
    let number =
        |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    Ok(Some((number(14), number(18))))
}

fn jpeg_size(input: &mut (impl BufRead + Seek)) -> io::Result<Option<(u32, u32)>> {
    for _ in 0..MAX_SEGMENTS {
        let mut head = [0_u8; 2];
        input.read_exact(&mut head)?;
        if head[0] != 0xff {
            return Ok(None);
        }
        match head[1] {
            // A fill byte: the marker follows.
            0xff => {
                input.seek_relative(-1)?;
                continue;
            }
            // Markers without a segment.
            0x01 | 0xd0..=0xd8 => continue,
            // Pixels or the end, and no size so far.
            0xd9 | 0xda => return Ok(None),
            _ => {}
        }
        let mut length = [0_u8; 2];
        input.read_exact(&mut length)?;
        let Some(inside) = u16::from_be_bytes(length).checked_sub(2) else {
            return Ok(None);
        };
        // Every start of frame; 0xc4, 0xc8 and 0xcc in that range are tables.
        if matches!(head[1], 0xc0..=0xcf) && !matches!(head[1], 0xc4 | 0xc8 | 0xcc) {
            let mut frame = [0_u8; 5];
            input.read_exact(&mut frame)?;
            let side = |at: usize| u32::from(u16::from_be_bytes([frame[at], frame[at + 1]]));
            return Ok(Some((side(3), side(1))));
        }
        input.seek_relative(i64::from(inside))?;
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::Cursor;

    use image::ImageFormat;
    use proptest::prelude::*;

    use super::*;

    fn encoded(width_px: u32, height_px: u32, format: ImageFormat) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        image::RgbImage::new(width_px, height_px)
            .write_to(&mut bytes, format)
            .unwrap();
        bytes.into_inner()
    }

    #[test]
    fn sizes_agree_with_the_encoder() {
        for format in [ImageFormat::Jpeg, ImageFormat::Png] {
            for (w, h) in [(1, 1), (640, 361), (17, 3000)] {
                let found = size(&mut Cursor::new(encoded(w, h, format))).unwrap();
                assert_eq!(found, Some((w, h)), "{format:?}");
            }
        }
    }

    #[test]
    fn segments_and_fill_bytes_before_the_frame_header_are_passed_over() {
        let jpeg = encoded(30, 20, ImageFormat::Jpeg);
        let mut padded = jpeg[..2].to_vec();
        padded.extend([0xff, 0xff, 0xe1, 0x20, 0x00]);
        padded.resize(padded.len() + 0x1ffe, 0xff);
        padded.extend_from_slice(&jpeg[2..]);
        assert_eq!(size(&mut Cursor::new(padded)).unwrap(), Some((30, 20)));
    }

    #[test]
    fn other_bytes_are_left_to_the_decoder() {
        assert_eq!(size(&mut Cursor::new(b"BM is a bitmap")).unwrap(), None);
        assert_eq!(
            size(&mut Cursor::new([0xff, 0xd8, 0xff, 0xda, 0, 8])).unwrap(),
            None
        );
        assert!(size(&mut Cursor::new([0xff, 0xd8, 0xff])).is_err());
    }

    proptest! {
        #[test]
        fn damaged_headers_give_a_size_or_none_never_a_panic(at in 0usize..200, value: u8, cut in 0usize..400) {
            let mut bytes = encoded(40, 30, ImageFormat::Jpeg);
            bytes[at] = value;
            bytes.truncate(cut.max(2));
            let _ = size(&mut Cursor::new(bytes));
        }
    }
}
