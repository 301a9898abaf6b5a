//! A folder of JPEG or PNG images, in the order of their names.
//!
//! The rate is what the caller says, else `frameRate` of a `seqinfo.ini` in the folder or beside it, else 30.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use roadhound_shared::frame::Timestamp;

use super::jpeg::{self, Decoded};
use super::png;
use super::{FrameSource, Pixels, Reason, SizeGuard, SourceError, SourceFrame};

/// Rate of a folder that says nothing about it.
const DEFAULT_FPS: f64 = 30.0;

/// Reads images one after the other into the same buffers.
pub struct ImageFolder {
    files: Vec<PathBuf>,
    next: usize,
    fps: f64,
    size: SizeGuard,
    bytes: Vec<u8>,
    pixels: Vec<u8>,
}

impl ImageFolder {
    /// Lists the images of a folder.
    ///
    /// # Errors
    /// The folder cannot be read or has no images.
    pub fn open(folder: &Path, fps: Option<f64>) -> Result<Self, SourceError> {
        let at = |e: std::io::Error| Reason::from(e).at(folder);
        let mut files = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(at)? {
            let path = entry.map_err(at)?.path();
            if kind(&path).is_some() {
                files.push(path);
            }
        }
        if files.is_empty() {
            return Err(Reason::NoImages.at(folder));
        }
        files.sort();
        let fps = fps
            .or_else(|| frame_rate(&folder.join("seqinfo.ini")))
            .or_else(|| frame_rate(&folder.join("../seqinfo.ini")))
            .unwrap_or(DEFAULT_FPS);
        Ok(Self {
            files,
            next: 0,
            fps,
            size: SizeGuard::default(),
            bytes: Vec::new(),
            pixels: Vec::new(),
        })
    }

    fn load(&mut self, path: &Path) -> Result<Decoded, Reason> {
        self.bytes.clear();
        File::open(path)?.read_to_end(&mut self.bytes)?;
        match kind(path) {
            Some(Kind::Png) => png::decode(&self.bytes, &mut self.pixels),
            _ => jpeg::decode(&self.bytes, &mut self.pixels),
        }
    }
}

impl FrameSource for ImageFolder {
    fn next_frame(&mut self) -> Result<Option<SourceFrame<'_>>, SourceError> {
        let Some(path) = self.files.get(self.next).cloned() else {
            return Ok(None);
        };
        let index = self.next as u64;
        let decoded = self.load(&path).map_err(|reason| reason.at(&path))?;
        let (width_px, height_px) = (decoded.width_px, decoded.height_px);
        self.size
            .check(index, (width_px, height_px))
            .map_err(|reason| reason.at(&path))?;
        self.next += 1;
        let pixels = Pixels::Packed {
            format: decoded.format,
            width_px,
            height_px,
            data: &self.pixels,
        };
        Ok(Some(SourceFrame {
            pixels,
            captured_at: Timestamp::of_frame(index, self.fps),
        }))
    }

    fn frame_file(&self) -> Option<&Path> {
        let last = self.next.checked_sub(1)?;
        self.files.get(last).map(PathBuf::as_path)
    }

    fn frames_expected(&self) -> Option<u64> {
        Some(self.files.len() as u64)
    }

    fn fps(&self) -> f64 {
        self.fps
    }
}

enum Kind {
    Jpeg,
    Png,
}

/// Endings, in lower case, of the files that are read from a folder.
pub const PICTURE_ENDINGS: &[&str] = &["jpg", "jpeg", "png"];

fn kind(path: &Path) -> Option<Kind> {
    let extension = path.extension()?.to_string_lossy().to_ascii_lowercase();
    match extension.as_str() {
        "jpg" | "jpeg" => Some(Kind::Jpeg),
        "png" => Some(Kind::Png),
        _ => None,
    }
}

/// `frameRate` of a `seqinfo.ini`, where there is one that makes sense.
fn frame_rate(ini: &Path) -> Option<f64> {
    let text = std::fs::read_to_string(ini).ok()?;
    let value = text.lines().find_map(|line| {
        let (key, value) = line.split_once('=')?;
        (key.trim().eq_ignore_ascii_case("frameRate")).then(|| value.trim().parse::<f64>().ok())?
    })?;
    (value.is_finite() && value > 0.0).then_some(value)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use roadhound_shared::frame::PixelFormat;

    use super::*;

    fn write_png(path: &Path, colour: ::png::ColorType, data: &[u8]) {
        let mut encoder = ::png::Encoder::new(File::create(path).unwrap(), 2, 1);
        encoder.set_color(colour);
        encoder
            .write_header()
            .unwrap()
            .write_image_data(data)
            .unwrap();
    }

    fn only_frame(folder: &Path) -> (PixelFormat, Vec<u8>) {
        let mut source = ImageFolder::open(folder, None).unwrap();
        let frame = source.next_frame().unwrap().unwrap();
        let Pixels::Packed { format, data, .. } = frame.pixels else {
            panic!("images are packed")
        };
        (format, data.to_vec())
    }

    #[test]
    fn grey_image_stays_grey_and_alpha_is_dropped() {
        for (colour, data, format, expected) in [
            (
                ::png::ColorType::Grayscale,
                vec![9, 8],
                PixelFormat::Grey8,
                vec![9, 8],
            ),
            (
                ::png::ColorType::GrayscaleAlpha,
                vec![9, 255, 8, 255],
                PixelFormat::Grey8,
                vec![9, 8],
            ),
            (
                ::png::ColorType::Rgb,
                vec![1, 2, 3, 4, 5, 6],
                PixelFormat::Rgb8,
                vec![1, 2, 3, 4, 5, 6],
            ),
            (
                ::png::ColorType::Rgba,
                vec![1, 2, 3, 0, 4, 5, 6, 0],
                PixelFormat::Rgb8,
                vec![1, 2, 3, 4, 5, 6],
            ),
        ] {
            let folder = tempfile::tempdir().unwrap();
            write_png(&folder.path().join("a.png"), colour, &data);
            assert_eq!(only_frame(folder.path()), (format, expected));
        }
    }

    #[test]
    fn rate_comes_from_the_caller_then_the_ini_then_thirty() {
        let folder = tempfile::tempdir().unwrap();
        write_png(
            &folder.path().join("a.png"),
            ::png::ColorType::Grayscale,
            &[1, 2],
        );
        let fps = |given| ImageFolder::open(folder.path(), given).unwrap().fps();
        assert_eq!(fps(None), 30.0);
        std::fs::write(
            folder.path().join("seqinfo.ini"),
            "[Sequence]\nname=x\nframeRate=12.5\n",
        )
        .unwrap();
        assert_eq!(fps(None), 12.5);
        assert_eq!(fps(Some(5.0)), 5.0);
    }

    #[test]
    fn image_of_another_size_ends_the_sequence_with_its_name() {
        let folder = tempfile::tempdir().unwrap();
        write_png(
            &folder.path().join("a.png"),
            ::png::ColorType::Grayscale,
            &[1, 2],
        );
        let mut encoder =
            ::png::Encoder::new(File::create(folder.path().join("b.png")).unwrap(), 1, 1);
        encoder.set_color(::png::ColorType::Grayscale);
        encoder
            .write_header()
            .unwrap()
            .write_image_data(&[1])
            .unwrap();
        let mut source = ImageFolder::open(folder.path(), None).unwrap();
        assert!(source.next_frame().unwrap().is_some());
        let error = source.next_frame().unwrap_err();
        assert!(error.path.ends_with("b.png"));
        assert!(matches!(error.reason, Reason::SizeChanged { frame: 1, .. }));
    }
}
