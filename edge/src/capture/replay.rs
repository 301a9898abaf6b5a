//! A recording as a camera: every kind of source that `track` reads, at the times it was recorded.
//!
//! A raw dump with a `.times` file beside it (see [`super::dump`]) is replayed at the true times, drops included.
//!
//! Enters: a file or folder. Leaves: its frames when they are due, or as fast as they are taken (`lockstep`), once or
//! over and over.

use std::path::PathBuf;
use std::time::Duration;

use roadhound_shared::frame::{PixelFormat, Timestamp};
use serde::{Deserialize, Serialize};

use super::dump::Times;
use super::rendered::wait_until;
use super::{CaptureError, Frame, LiveSource, Opener, Poll, StreamFormat};
use crate::clock;
use crate::source::{self, FrameSource, Options, Pixels, RawLayout};

/// What to replay, and how.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplayConfig {
    /// A folder of images, an MP4, an AVI or a raw dump.
    pub path: PathBuf,
    /// Layout of a raw dump, `WxH[:FORMAT][@FPS]`.
    #[serde(default)]
    pub raw: Option<String>,
    /// Frames per second of a folder of images or a raw dump.
    #[serde(default)]
    pub fps: Option<f64>,
    /// Deliver a frame whenever the last one was taken, instead of when it is due.
    #[serde(default)]
    pub lockstep: bool,
    /// Start again at the end.
    #[serde(default)]
    pub repeat: bool,
}

impl ReplayConfig {
    /// What the source needs to know.
    ///
    /// # Errors
    /// A layout or rate that cannot be.
    pub fn options(&self) -> Result<Options, CaptureError> {
        if let Some(fps) = self.fps
            && !(fps.is_finite() && fps > 0.0)
        {
            return Err(CaptureError::Setting(format!(
                "camera.replay.fps is {fps}, expected a positive number"
            )));
        }
        let raw = self
            .raw
            .as_deref()
            .map(str::parse::<RawLayout>)
            .transpose()
            .map_err(|e| CaptureError::Setting(format!("camera.replay.raw: {e}")))?;
        Ok(Options { fps: self.fps, raw })
    }
}

/// Opens a recording.
pub struct Replay {
    config: ReplayConfig,
}

impl Replay {
    /// A recording that is not open yet.
    pub fn new(config: ReplayConfig) -> Self {
        Self { config }
    }
}

impl Opener for Replay {
    fn open(&mut self) -> Result<Box<dyn LiveSource>, CaptureError> {
        let options = self.config.options()?;
        let times = Times::beside(&self.config.path)?;
        let file = source::open(&self.config.path, &options)?;
        let mut stream = Stream {
            options,
            times,
            fps: file.fps(),
            file: Reader(file),
            config: self.config.clone(),
            held: Frame::default(),
            holds: false,
            base: clock::monotonic(),
            lap: Timestamp(0),
            last: Timestamp(0),
            index: 0,
            sequence_of_lap: 0,
        };
        // The first frame tells size and format, and whether there is one.
        stream.holds = stream.read()?;
        stream.base = clock::monotonic();
        Ok(Box::new(stream))
    }

    fn name(&self) -> String {
        self.config.path.display().to_string()
    }
}

/// A file's frames on another thread than the one that opened it.
struct Reader(Box<dyn FrameSource + Send>);

struct Stream {
    config: ReplayConfig,
    options: Options,
    times: Option<Times>,
    fps: f64,
    file: Reader,
    /// The next frame, read ahead; its time is relative to the file's first frame.
    held: Frame,
    holds: bool,
    /// What time zero of the file is on the monotonic clock.
    base: Timestamp,
    /// Time at which this lap began, relative to `base`.
    lap: Timestamp,
    /// Time of the last frame, relative to `base`.
    last: Timestamp,
    index: u64,
    sequence_of_lap: u64,
}

impl Stream {
    /// Reads the next frame ahead; `false` behind the last.
    fn read(&mut self) -> Result<bool, CaptureError> {
        let Some(frame) = self.file.0.next_frame()? else {
            return Ok(false);
        };
        let (sequence, at) = match &self.times {
            Some(times) => times.of(self.index),
            None => (self.index, frame.captured_at),
        };
        match frame.pixels {
            Pixels::Packed {
                format,
                width_px,
                height_px,
                data,
            } => self.held.set_tight(format, width_px, height_px, &[data]),
            Pixels::Nv12 {
                width_px,
                height_px,
                luma,
                chroma,
            } => self
                .held
                .set_tight(PixelFormat::Nv12, width_px, height_px, &[luma, chroma]),
        }
        self.held.sequence = self.sequence_of_lap + sequence;
        self.held.captured_at = Timestamp(self.lap.0 + at.0);
        self.last = self.held.captured_at;
        self.index += 1;
        Ok(true)
    }

    fn start_again(&mut self) -> Result<(), CaptureError> {
        self.file = Reader(source::open(&self.config.path, &self.options)?);
        let step = (1e6 / self.fps.max(1e-3)) as u64;
        self.lap = Timestamp(self.last.0 + step);
        self.sequence_of_lap = self.held.sequence + 1;
        self.index = 0;
        Ok(())
    }
}

impl LiveSource for Stream {
    fn poll(&mut self, frame: &mut Frame, wait: Duration) -> Result<Poll, CaptureError> {
        if !self.holds {
            if !self.config.repeat || self.index == 0 {
                return Ok(Poll::End);
            }
            self.start_again()?;
            self.holds = self.read()?;
            if !self.holds {
                return Ok(Poll::End);
            }
        }
        let due = Timestamp(self.base.0 + self.held.captured_at.0);
        if !self.config.lockstep && !wait_until(due, wait) {
            return Ok(Poll::Nothing);
        }
        std::mem::swap(frame, &mut self.held);
        frame.captured_at = due;
        self.held.sequence = frame.sequence;
        self.holds = self.read()?;
        Ok(Poll::Frame)
    }

    fn format(&self) -> StreamFormat {
        StreamFormat {
            encoding: self.held.encoding,
            width_px: self.held.width_px,
            height_px: self.held.height_px,
            fps: self.fps,
        }
    }

    fn waits(&self) -> bool {
        self.config.lockstep
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn dump(frames: u8) -> (tempfile::TempDir, ReplayConfig) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.grey");
        let bytes: Vec<u8> = (0..frames).flat_map(|n| [n; 12]).collect();
        std::fs::write(&path, bytes).unwrap();
        let config = ReplayConfig {
            path,
            raw: Some("4x3@50".into()),
            fps: None,
            lockstep: true,
            repeat: false,
        };
        (folder, config)
    }

    fn all(config: ReplayConfig, most: usize) -> Vec<(u64, u64, u8)> {
        let mut source = Replay::new(config).open().unwrap();
        let mut frame = Frame::default();
        let mut seen = Vec::new();
        while seen.len() < most {
            match source.poll(&mut frame, Duration::from_secs(1)).unwrap() {
                Poll::Frame => {
                    seen.push((frame.sequence, frame.captured_at.0, frame.bytes[0]));
                }
                Poll::End => break,
                other => panic!("{other:?}"),
            }
        }
        let first = seen[0].1;
        seen.into_iter()
            .map(|(n, at, value)| (n, at - first, value))
            .collect()
    }

    #[test]
    fn every_frame_comes_in_order_with_its_own_time_and_then_the_end() {
        let (_folder, config) = dump(3);
        assert_eq!(all(config, 99), [(0, 0, 0), (1, 20_000, 1), (2, 40_000, 2)]);
    }

    #[test]
    fn a_repeated_recording_goes_on_counting_and_its_clock_never_jumps_back() {
        let (_folder, config) = dump(2);
        let config = ReplayConfig {
            repeat: true,
            ..config
        };
        assert_eq!(
            all(config, 5),
            [
                (0, 0, 0),
                (1, 20_000, 1),
                (2, 40_000, 0),
                (3, 60_000, 1),
                (4, 80_000, 0)
            ]
        );
    }

    #[test]
    fn by_the_clock_frames_come_when_they_are_due() {
        let (_folder, config) = dump(6);
        let config = ReplayConfig {
            lockstep: false,
            ..config
        };
        let mut source = Replay::new(config).open().unwrap();
        let mut frame = Frame::default();
        let started = clock::monotonic();
        let mut frames = 0;
        loop {
            match source.poll(&mut frame, Duration::from_millis(5)).unwrap() {
                Poll::Frame => {
                    frames += 1;
                    assert!(clock::monotonic() >= frame.captured_at);
                }
                Poll::Nothing => {}
                Poll::End => break,
                Poll::Corrupt => panic!("a file has no damaged buffers"),
            }
        }
        assert_eq!(frames, 6);
        assert!(clock::monotonic().micros_since(started) >= 99_000);
    }
}
