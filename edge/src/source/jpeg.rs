//! JPEG pictures into a buffer that is used again.

use roadhound_shared::frame::PixelFormat;
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use super::huffman::with_tables;
use super::{MAX_PIXELS, Reason};
use roadhound_host::guard::quietly;
use roadhound_host::line::joined;

/// A decoded picture: `pixels` holds `width * height` times one (grey) or three (RGB) bytes.
pub(crate) struct Decoded {
    pub(crate) format: PixelFormat,
    pub(crate) width_px: u32,
    pub(crate) height_px: u32,
}

/// Decodes one JPEG. Grey pictures stay grey, all others become RGB.
///
/// A picture whose data end before its last row is an error here; most decoders pad it with grey and say nothing.
pub(crate) fn decode(bytes: &[u8], pixels: &mut Vec<u8>) -> Result<Decoded, Reason> {
    let completed = with_tables(bytes);
    let bytes = completed.as_deref().unwrap_or(bytes);
    let options = DecoderOptions::default()
        .set_strict_mode(false)
        .set_max_width(1 << 15)
        .set_max_height(1 << 15);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    let broken = |e: &dyn std::fmt::Debug| Reason::Jpeg(joined(&format!("{e:?}")));
    quietly(|| decoder.decode_headers())
        .map_err(Reason::Jpeg)?
        .map_err(|e| broken(&e))?;
    let Some((width, height)) = decoder.dimensions() else {
        return Err(Reason::Jpeg("no size".into()));
    };
    if width as u64 * height as u64 > MAX_PIXELS {
        return Err(Reason::Jpeg(format!(
            "{width}x{height} px is more than this program decodes"
        )));
    }
    let grey = decoder.input_colorspace() == Some(ColorSpace::Luma);
    let (space, format, channels) = if grey {
        (ColorSpace::Luma, PixelFormat::Grey8, 1)
    } else {
        (ColorSpace::RGB, PixelFormat::Rgb8, 3)
    };
    if !reaches_its_end(bytes) {
        return Err(Reason::Jpeg("the file ends before the picture does".into()));
    }
    decoder.set_options(options.jpeg_set_out_colorspace(space));
    pixels.resize(width * height * channels, 0);
    quietly(|| decoder.decode_into(pixels))
        .map_err(Reason::Jpeg)?
        .map_err(|e| broken(&e))?;
    Ok(Decoded {
        format,
        width_px: width as u32,
        height_px: height as u32,
    })
}

/// Whether an end-of-image marker follows the last start-of-scan marker.
fn reaches_its_end(bytes: &[u8]) -> bool {
    let last = |marker: u8| bytes.windows(2).rposition(|pair| pair == [0xff, marker]);
    match (last(0xda), last(0xd9)) {
        (Some(scan), Some(end)) => end > scan,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// A real JPEG whose header claims another size.
    fn claiming(width_px: u16, height_px: u16) -> Vec<u8> {
        let mut bytes = include_bytes!("../../tests/data/one.jpg").to_vec();
        let frame = bytes
            .windows(2)
            .position(|pair| matches!(pair, [0xff, 0xc0 | 0xc2]))
            .unwrap();
        bytes[frame + 5..frame + 7].copy_from_slice(&height_px.to_be_bytes());
        bytes[frame + 7..frame + 9].copy_from_slice(&width_px.to_be_bytes());
        bytes
    }

    #[test]
    fn a_picture_larger_than_8k_is_refused_before_memory_is_asked_for() {
        for (width_px, height_px) in [(7680, 4321), (4321, 7680), (32_000, 32_000)] {
            let mut pixels = Vec::new();
            let Err(reason) = decode(&claiming(width_px, height_px), &mut pixels) else {
                panic!("{width_px}x{height_px} decoded");
            };
            let line = reason.to_string();
            assert!(
                line.contains(&format!("{width_px}x{height_px} px is more")),
                "{line}"
            );
            assert_eq!(pixels.capacity(), 0, "memory before the size was checked");
        }
    }

    #[test]
    fn the_largest_picture_is_not_refused_for_its_size() {
        let mut pixels = Vec::new();
        let said = decode(&claiming(7680, 4320), &mut pixels)
            .err()
            .map(|reason| reason.to_string())
            .unwrap_or_default();
        assert!(!said.contains("is more than"), "{said}");
        assert_eq!(pixels.len() % (7680 * 4320), 0);
        assert!(!pixels.is_empty());
    }
}
