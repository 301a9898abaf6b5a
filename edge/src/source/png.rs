//! PNG pictures into a buffer that is used again.

use std::io::Cursor;

use png::{ColorType, Decoder, Limits, Transformations};
use roadhound_host::guard::quietly;
use roadhound_host::line::joined;
use roadhound_shared::frame::PixelFormat;

use super::jpeg::Decoded;
use super::{MAX_PIXELS, Reason};

/// Bytes that the decoder may take for itself: rows and the window of its inflater, not the picture.
const MAX_WORKING_BYTES: usize = 64 << 20;

/// Decodes one PNG: grey stays grey, palettes are spread out, sixteen bits are cut to eight, alpha is dropped. Of an
/// animation the first picture.
pub(crate) fn decode(bytes: &[u8], pixels: &mut Vec<u8>) -> Result<Decoded, Reason> {
    quietly(|| read(bytes, pixels)).map_err(Reason::Png)?
}

fn read(bytes: &[u8], pixels: &mut Vec<u8>) -> Result<Decoded, Reason> {
    let broken = |e: png::DecodingError| Reason::Png(joined(&e.to_string()));
    let limits = Limits {
        bytes: MAX_WORKING_BYTES,
    };
    let mut decoder = Decoder::new_with_limits(Cursor::new(bytes), limits);
    // What is written beside the pixels is neither shown nor trusted.
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    decoder.set_transformations(Transformations::normalize_to_color8());
    let size_px = {
        let header = decoder.read_header_info().map_err(broken)?;
        (header.width, header.height)
    };
    let (width_px, height_px) = size_px;
    if u64::from(width_px) * u64::from(height_px) > MAX_PIXELS {
        return Err(Reason::Png(format!(
            "{width_px}x{height_px} px is more than this program decodes"
        )));
    }
    let mut reader = decoder.read_info().map_err(broken)?;
    let needed = reader
        .output_buffer_size()
        .ok_or_else(|| Reason::Png("too large".into()))?;
    pixels.resize(needed, 0);
    let picture = reader.next_frame(pixels).map_err(broken)?;
    if (picture.width, picture.height) != size_px {
        return Err(Reason::Png(format!(
            "its first picture is {}x{} px, its header says {width_px}x{height_px}",
            picture.width, picture.height
        )));
    }
    pixels.truncate(picture.buffer_size());
    let format = match picture.color_type {
        ColorType::Grayscale => PixelFormat::Grey8,
        ColorType::GrayscaleAlpha => {
            keep(pixels, 2, 1);
            PixelFormat::Grey8
        }
        ColorType::Rgba => {
            keep(pixels, 4, 3);
            PixelFormat::Rgb8
        }
        ColorType::Rgb | ColorType::Indexed => PixelFormat::Rgb8,
    };
    Ok(Decoded {
        format,
        width_px,
        height_px,
    })
}

/// Of every `from` bytes the first `to`.
fn keep(pixels: &mut Vec<u8>, from: usize, to: usize) {
    let count = pixels.len() / from;
    for i in 0..count {
        pixels.copy_within(i * from..i * from + to, i * to);
    }
    pixels.truncate(count * to);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// A grey PNG of this size whose rows are all there.
    fn grey(width_px: u32, height_px: u32) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, width_px, height_px);
        encoder.set_color(ColorType::Grayscale);
        encoder.set_compression(png::Compression::Fast);
        let mut writer = encoder.write_header().unwrap();
        let mut rows = writer.stream_writer().unwrap();
        let row = vec![7; width_px as usize];
        for _ in 0..height_px {
            std::io::Write::write_all(&mut rows, &row).unwrap();
        }
        rows.finish().unwrap();
        drop(writer);
        bytes
    }

    fn refusal(bytes: &[u8]) -> (String, usize) {
        let mut pixels = Vec::new();
        let Err(reason) = decode(bytes, &mut pixels) else {
            panic!("decoded");
        };
        (reason.to_string(), pixels.capacity())
    }

    #[test]
    fn the_largest_picture_decodes_and_one_row_more_is_refused_before_memory_is_asked_for() {
        let mut pixels = Vec::new();
        let decoded = decode(&grey(7680, 4320), &mut pixels).unwrap();
        assert_eq!((decoded.width_px, decoded.height_px), (7680, 4320));
        assert_eq!(pixels.len() as u64, MAX_PIXELS);
        let (line, taken) = refusal(&grey(7680, 4321));
        assert!(line.contains("7680x4321 px is more"), "{line}");
        assert_eq!(taken, 0, "memory before the size was checked");
    }

    #[test]
    fn a_picture_that_is_cut_off_or_damaged_is_a_reason_in_one_line() {
        let whole = grey(40, 30);
        for keep in 0..whole.len() - 12 {
            let (line, _) = refusal(&whole[..keep]);
            assert!(
                line.starts_with("broken PNG: ") && !line.contains('\n'),
                "{keep} bytes: {line}"
            );
        }
    }
}
