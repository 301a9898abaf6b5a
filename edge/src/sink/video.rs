//! The annotated video: H.264 in MP4. What is drawn on it is `overlay`'s and `crowd`'s.

use std::fs::File;
use std::io::{BufWriter, Error};
use std::path::{Path, PathBuf};

use roadhound_shared::frame::Timestamp;
use roadhound_shared::tracker::Report;
use rusty_h264::{Encoder, EncoderConfig, Preset, YuvPlanes};

use super::SinkError;
use super::mp4::Mp4Writer;
use super::overlay;
use super::picture::I420;
use crate::source::Pixels;

/// Encodes frames with what is known drawn on them.
pub struct VideoSink {
    path: PathBuf,
    frame_micros: u64,
    fps: f64,
    picture: I420,
    stream: Option<Stream>,
}

struct Stream {
    encoder: Encoder,
    writer: Mp4Writer<BufWriter<File>>,
}

impl VideoSink {
    /// Creates or replaces the file. `fps` is the rate at which frames will come; time stamps decide in the end.
    ///
    /// # Errors
    /// The file cannot be created.
    pub fn create(path: &Path, fps: f64) -> Result<Self, SinkError> {
        // Made now, so that a folder that cannot be written to is reported before an hour of tracking.
        File::create(path).map_err(|reason| SinkError {
            path: path.to_path_buf(),
            reason,
        })?;
        let fps = if fps.is_finite() && fps > 0.0 {
            fps
        } else {
            30.0
        };
        Ok(Self {
            path: path.to_path_buf(),
            frame_micros: (1e6 / fps).round() as u64,
            fps,
            picture: I420::default(),
            stream: None,
        })
    }

    /// Encodes and appends one frame with the tracker's report on it.
    ///
    /// # Errors
    /// As [`VideoSink::write_drawn`].
    pub fn write(&mut self, pixels: &Pixels<'_>, report: &Report) -> Result<(), SinkError> {
        self.write_drawn(pixels, report.captured_at, |picture| {
            overlay::annotate(picture, report);
        })
    }

    /// Encodes and appends one frame with whatever `draw` puts on it.
    ///
    /// # Errors
    /// The encoder refuses the size, or the file cannot be written.
    pub fn write_drawn(
        &mut self,
        pixels: &Pixels<'_>,
        captured_at: Timestamp,
        draw: impl FnOnce(&mut I420),
    ) -> Result<(), SinkError> {
        self.picture.fill(pixels);
        draw(&mut self.picture);
        self.append(captured_at.0).map_err(|reason| SinkError {
            path: self.path.clone(),
            reason,
        })
    }

    fn append(&mut self, shown_at_micros: u64) -> Result<(), Error> {
        let picture = &self.picture;
        let (width, height) = (picture.width_px, picture.height_px);
        if self.stream.is_none() {
            let side =
                |v: usize| u16::try_from(v).map_err(|_| Error::other("picture too large for MP4"));
            let file = File::options()
                .write(true)
                .truncate(true)
                .open(&self.path)?;
            self.stream = Some(Stream {
                encoder: Encoder::new(encoder_config(width, height, self.fps))
                    .map_err(Error::other)?,
                writer: Mp4Writer::new(BufWriter::new(file), side(width)?, side(height)?)?,
            });
        }
        let Some(Stream { encoder, writer }) = &mut self.stream else {
            return Ok(());
        };
        let planes = YuvPlanes::new(
            width,
            height,
            &picture.y,
            &picture.u,
            &picture.v,
            width,
            width / 2,
        )
        .ok_or_else(|| Error::other("picture too small to encode"))?;
        let unit = encoder.encode_planes(&planes).map_err(Error::other)?;
        writer.write(&unit, shown_at_micros)
    }

    /// Completes the file; without this no player opens it.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn finish(self) -> Result<(), SinkError> {
        match self.stream {
            Some(stream) => stream
                .writer
                .finish(self.frame_micros)
                .map_err(|reason| SinkError {
                    path: self.path,
                    reason,
                }),
            None => Ok(()),
        }
    }
}

/// One picture in, one out: no lookahead, no B-frames, an intra picture every two seconds for seeking.
fn encoder_config(width: usize, height: usize, fps: f64) -> EncoderConfig {
    let mut config = EncoderConfig::new(width, height);
    config.preset = Preset::Fast;
    config.qp = 24;
    config.gop_size = (2.0 * fps).round().clamp(1.0, 240.0) as u32;
    config.framerate = fps as f32;
    config.num_ref_frames = 1;
    config.lookahead = 0;
    config.scenecut = 0;
    config.mbtree = false;
    config.level_idc = level(config.mb_width() * config.mb_height(), fps);
    config
}

/// The lowest level of table A-1 of H.264 that takes this many macroblocks a picture and a second.
fn level(macroblocks: usize, fps: f64) -> u8 {
    const LEVELS: [(u8, usize, f64); 8] = [
        (30, 1_620, 40_500.0),
        (31, 3_600, 108_000.0),
        (32, 5_120, 216_000.0),
        (40, 8_192, 245_760.0),
        (42, 8_704, 522_240.0),
        (50, 22_080, 589_824.0),
        (51, 36_864, 983_040.0),
        (52, 36_864, 2_073_600.0),
    ];
    LEVELS
        .iter()
        .find(|(_, most, rate)| macroblocks <= *most && macroblocks as f64 * fps <= *rate)
        .map_or(52, |(level, ..)| *level)
}
