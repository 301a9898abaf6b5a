//! Decoded pixels in the layout the decoder left them in.

use roadhound_shared::frame::{FrameError, FrameView, PixelFormat};

/// Borrowed pixels of one frame; rows follow each other without padding.
#[derive(Clone, Copy, Debug)]
pub enum Pixels<'a> {
    /// One plane: RGB, BGR, grey or YUYV.
    Packed {
        /// Anything but NV12.
        format: PixelFormat,
        /// Width in pixels.
        width_px: u32,
        /// Height in pixels.
        height_px: u32,
        /// The rows.
        data: &'a [u8],
    },
    /// A plane of Y and one of interleaved U and V at half the size.
    Nv12 {
        /// Width in pixels, even.
        width_px: u32,
        /// Height in pixels, even.
        height_px: u32,
        /// `width * height` bytes.
        luma: &'a [u8],
        /// `width * height / 2` bytes.
        chroma: &'a [u8],
    },
}

impl<'a> Pixels<'a> {
    /// The frame as the tracker reads it.
    ///
    /// # Errors
    /// Sizes that do not fit the bytes.
    pub fn view(&self) -> Result<FrameView<'a>, FrameError> {
        match *self {
            Self::Packed {
                format,
                width_px,
                height_px,
                data,
            } => {
                let bytes = match format {
                    PixelFormat::Rgb8 | PixelFormat::Bgr8 => 3,
                    PixelFormat::Yuyv | PixelFormat::Nv12 => 2,
                    PixelFormat::Grey8 => 1,
                };
                FrameView::packed(format, width_px, height_px, width_px as usize * bytes, data)
            }
            Self::Nv12 {
                width_px,
                height_px,
                luma,
                chroma,
            } => {
                let stride = width_px as usize;
                FrameView::nv12(width_px, height_px, luma, stride, chroma, stride)
            }
        }
    }

    /// Width in pixels.
    pub fn width_px(&self) -> u32 {
        match *self {
            Self::Packed { width_px, .. } | Self::Nv12 { width_px, .. } => width_px,
        }
    }

    /// Height in pixels.
    pub fn height_px(&self) -> u32 {
        match *self {
            Self::Packed { height_px, .. } | Self::Nv12 { height_px, .. } => height_px,
        }
    }
}
