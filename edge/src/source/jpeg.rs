//! JPEG pictures into a buffer that is used again.

use roadhound_shared::frame::PixelFormat;
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use super::{MAX_PIXELS, Reason};
use crate::guard::quietly;

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
    let options = DecoderOptions::default()
        .set_strict_mode(false)
        .set_max_width(1 << 15)
        .set_max_height(1 << 15);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    let broken = |e: &dyn std::fmt::Debug| Reason::Jpeg(one_line(&format!("{e:?}")));
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

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
