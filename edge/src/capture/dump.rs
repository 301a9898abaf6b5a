//! Writes down what a camera delivers, so that it can be replayed to the byte and to the microsecond.
//!
//! Leaves: `NAME`, frame after frame as the camera laid them out (rows without their padding), and `NAME.times`, one
//! line a frame: its number and its microseconds since the first. [`super::replay`] reads both. MJPEG has no fixed frame
//! size and is refused: record it with `[recording]` instead.
//!
//! A writer that cannot keep up slows the capture thread down: dumps are for the bench and for bug reports.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use roadhound_shared::frame::{PixelFormat, Timestamp};

use super::{CaptureError, Encoding, Frame, LiveSource, Opener, Poll, StreamFormat};
use crate::sink::SinkError;
use crate::source::Reason;

fn times_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".times");
    name.into()
}

/// Numbers and microseconds stay below this: 285 years, and room to add.
const MOST: u64 = 1 << 53;

/// Numbers and times of the frames of a dump.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Times(Vec<(u64, u64)>);

impl Times {
    /// Reads the file beside a dump, where there is one.
    ///
    /// # Errors
    /// A file that cannot be read or whose lines are not two numbers that do not fall.
    pub fn beside(path: &Path) -> Result<Option<Self>, CaptureError> {
        let path = times_path(path);
        match std::fs::read_to_string(&path) {
            Ok(text) => Self::parse(&text).map(Some).map_err(|(line, what)| {
                CaptureError::Setting(format!("{}:{line}: {what}", path.display()))
            }),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(CaptureError::Source(crate::source::SourceError {
                path,
                reason: Reason::Io(e),
            })),
        }
    }

    /// Reads lines of a number and a time.
    ///
    /// # Errors
    /// The line that is none, and why.
    pub fn parse(text: &str) -> Result<Self, (usize, &'static str)> {
        let mut times: Vec<(u64, u64)> = Vec::new();
        for (at, line) in text.lines().enumerate() {
            let pair = line
                .split_once(' ')
                .and_then(|(n, t)| Some((n.parse().ok()?, t.trim().parse().ok()?)))
                .ok_or((at + 1, "expected a frame number and microseconds"))?;
            if times
                .last()
                .is_some_and(|last| pair.0 <= last.0 || pair.1 < last.1)
            {
                return Err((at + 1, "numbers have to grow and times must not fall"));
            }
            if pair.0 >= MOST || pair.1 >= MOST {
                return Err((at + 1, "a number or time that no camera reaches"));
            }
            times.push(pair);
        }
        Ok(Self(times))
    }

    /// Number and time of a frame; behind the last line they go on by one number and no time.
    pub fn of(&self, index: u64) -> (u64, Timestamp) {
        let at = (index as usize).min(self.0.len().saturating_sub(1));
        match self.0.get(at) {
            Some(&(number, micros)) => {
                (number.saturating_add(index - at as u64), Timestamp(micros))
            }
            None => (index, Timestamp(0)),
        }
    }
}

/// The files of a dump, made when the first camera is open. Whoever has a copy goes on in the same ones.
#[derive(Clone)]
pub struct Dump {
    path: PathBuf,
    files: Arc<Mutex<Option<Files>>>,
}

impl Dump {
    /// One that nothing was written to yet; files that are there will be written over.
    pub fn new(path: PathBuf) -> Self {
        Self {
            path,
            files: Arc::default(),
        }
    }

    /// Where the frames go.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Wraps the opener of any camera; every frame is written down before it is handed on.
pub struct Dumping<O> {
    inner: O,
    dump: Dump,
}

struct Files {
    frames: BufWriter<File>,
    times: BufWriter<File>,
    path: PathBuf,
    /// Of every frame: a dump has no other way to tell where one ends.
    layout: Layout,
    first: Option<Timestamp>,
    next: u64,
    last_micros: u64,
    row: Vec<u8>,
}

impl<O: Opener> Dumping<O> {
    /// Writes to `dump` what `inner` delivers. A camera that is opened again goes on in the same file, for as long as it
    /// delivers frames of the same layout.
    pub fn new(inner: O, dump: Dump) -> Self {
        Self { inner, dump }
    }
}

/// How a frame is laid out, and its size in pixels.
#[derive(Clone, Copy, PartialEq)]
struct Layout(Encoding, u32, u32);

impl std::fmt::Display for Layout {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}x{} {}", self.1, self.2, self.0.name())
    }
}

impl Files {
    fn create(path: &Path, layout: Layout) -> Result<Self, SinkError> {
        let create = |path: PathBuf| {
            File::create(&path)
                .map(BufWriter::new)
                .map_err(|reason| SinkError { path, reason })
        };
        Ok(Self {
            frames: create(path.to_path_buf())?,
            times: create(times_path(path))?,
            path: path.to_path_buf(),
            layout,
            first: None,
            next: 0,
            last_micros: 0,
            row: Vec::new(),
        })
    }

    fn write(&mut self, frame: &Frame) -> std::io::Result<()> {
        let first = *self.first.get_or_insert(frame.captured_at);
        // A camera that was opened again starts counting anew, and a recording its clock.
        let number = frame.sequence.max(self.next);
        self.next = number + 1;
        let (width, height) = (frame.width_px as usize, frame.height_px as usize);
        let (row_bytes, rows) = match frame.encoding {
            Encoding::Raw(PixelFormat::Rgb8 | PixelFormat::Bgr8) => (3 * width, height),
            Encoding::Raw(PixelFormat::Yuyv) => (2 * width, height),
            Encoding::Raw(PixelFormat::Grey8) => (width, height),
            Encoding::Raw(PixelFormat::Nv12) => (width, height + height / 2),
            Encoding::Mjpeg => (0, 0),
        };
        self.row.clear();
        for row in frame.bytes.chunks(frame.stride_bytes.max(1)).take(rows) {
            self.row.extend_from_slice(&row[..row_bytes.min(row.len())]);
        }
        self.row.resize(row_bytes * rows, 0);
        self.frames.write_all(&self.row)?;
        let micros = frame.captured_at.micros_since(first).max(self.last_micros);
        self.last_micros = micros;
        writeln!(self.times, "{number} {micros}")?;
        self.frames.flush()?;
        self.times.flush()?;
        Ok(())
    }
}

impl<O: Opener> Opener for Dumping<O> {
    fn open(&mut self) -> Result<Box<dyn LiveSource>, CaptureError> {
        let inner = self.inner.open()?;
        let format = inner.format();
        let layout = Layout(format.encoding, format.width_px, format.height_px);
        let Dump { path, files } = &self.dump;
        let refused = |why: String| {
            let (path, camera) = (path.display(), self.inner.name());
            CaptureError::Setting(format!("camera.dump {path}: {camera} delivers {why}"))
        };
        if format.encoding == Encoding::Mjpeg {
            let why = "MJPEG, which a dump cannot hold; use [recording]";
            return Err(refused(why.into()));
        }
        let mut opened = files.lock().unwrap_or_else(PoisonError::into_inner);
        match &*opened {
            None => *opened = Some(Files::create(path, layout)?),
            Some(there) if there.layout != layout => {
                let held = there.layout;
                return Err(refused(format!(
                    "{layout}, and it holds {held}; name another file"
                )));
            }
            Some(_) => {}
        }
        drop(opened);
        let files = Arc::clone(files);
        Ok(Box::new(Stream { inner, files }))
    }

    fn name(&self) -> String {
        self.inner.name()
    }
}

struct Stream {
    inner: Box<dyn LiveSource>,
    files: Arc<Mutex<Option<Files>>>,
}

impl LiveSource for Stream {
    fn poll(&mut self, frame: &mut Frame, wait: Duration) -> Result<Poll, CaptureError> {
        let polled = self.inner.poll(frame, wait)?;
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        if polled == Poll::Frame
            && let Some(files) = files.as_mut()
        {
            files.write(frame).map_err(|reason| SinkError {
                path: files.path.clone(),
                reason,
            })?;
        }
        Ok(polled)
    }

    fn format(&self) -> StreamFormat {
        self.inner.format()
    }

    fn waits(&self) -> bool {
        self.inner.waits()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::capture::fault::{FaultConfig, FaultKind, Faulty};
    use crate::capture::replay::{Replay, ReplayConfig};

    fn frames(opener: &mut dyn Opener) -> Vec<(u64, u64, Vec<u8>)> {
        let mut seen: Vec<(u64, u64, Vec<u8>)> = Vec::new();
        let mut frame = Frame::default();
        let mut source = opener.open().unwrap();
        loop {
            match source.poll(&mut frame, Duration::from_millis(100)) {
                Ok(Poll::Frame) => {
                    let at = frame.captured_at.0;
                    seen.push((frame.sequence, at, frame.bytes.clone()));
                }
                Ok(Poll::End) => break,
                Ok(_) => {}
                Err(e) => panic!("{e}"),
            }
        }
        let first = seen[0].1;
        seen.iter_mut().for_each(|(_, at, _)| *at -= first);
        seen
    }

    #[test]
    fn what_is_dumped_is_replayed_to_the_byte_and_the_microsecond() {
        let folder = tempfile::tempdir().unwrap();
        let original = folder.path().join("a.yuyv");
        std::fs::write(&original, (0..16 * 9).collect::<Vec<u8>>()).unwrap();
        // Numbers with gaps and uneven times: frames 1, 4 and 5 were dropped.
        std::fs::write(
            times_path(&original),
            "0 0\n2 66000\n3 99001\n6 200000\n7 200000\n8 270000\n9 300000\n10 333333\n11 366666\n",
        )
        .unwrap();
        let config = |path: &Path| ReplayConfig {
            path: path.to_path_buf(),
            raw: Some("4x2".into()),
            fps: None,
            lockstep: true,
            repeat: false,
        };
        let copy = folder.path().join("b.yuyv");
        let seen = frames(&mut Dumping::new(
            Replay::new(config(&original)),
            Dump::new(copy.clone()),
        ));
        assert_eq!(seen.len(), 9);
        assert_eq!((seen[1].0, seen[1].1), (2, 66_000));
        assert_eq!(
            std::fs::read(&original).unwrap(),
            std::fs::read(&copy).unwrap()
        );
        assert_eq!(frames(&mut Replay::new(config(&copy))), seen);
    }

    #[test]
    fn a_camera_that_is_opened_again_goes_on_in_the_same_dump() {
        let folder = tempfile::tempdir().unwrap();
        let original = folder.path().join("a.grey");
        std::fs::write(&original, (0..12 * 5).collect::<Vec<u8>>()).unwrap();
        let copy = folder.path().join("b.grey");
        let replay = Replay::new(ReplayConfig {
            path: original.clone(),
            raw: Some("4x3".into()),
            fps: None,
            lockstep: true,
            repeat: false,
        });
        let faults = FaultConfig {
            every_frames: 3,
            kinds: vec![FaultKind::Io],
            ..FaultConfig::default()
        };
        let dump = Dump::new(copy.clone());
        let mut opener = Dumping::new(Faulty::new(replay, faults), dump.clone());
        let mut frame = Frame::default();
        for _ in 0..2 {
            let mut source = opener.open().unwrap();
            while source.poll(&mut frame, Duration::from_millis(100)).is_ok() {}
        }
        let (original, copy) = (
            std::fs::read(&original).unwrap(),
            std::fs::read(&copy).unwrap(),
        );
        assert_eq!(copy, [&original[..36], &original[..36]].concat());
        let times = Times::beside(&folder.path().join("b.grey"))
            .unwrap()
            .unwrap();
        assert_eq!(times.of(5).0, 5);

        // So does another camera, but for one of another layout.
        let mut other = |raw: &str| {
            let replay = Replay::new(ReplayConfig {
                path: folder.path().join("a.grey"),
                raw: Some(raw.into()),
                fps: None,
                lockstep: true,
                repeat: false,
            });
            let mut source = Dumping::new(replay, dump.clone()).open()?;
            while source.poll(&mut frame, Duration::from_millis(100))? != Poll::End {}
            Ok::<_, CaptureError>(())
        };
        other("4x3").unwrap();
        let said = other("3x4").unwrap_err().to_string();
        assert!(
            said.contains("a.grey delivers 3x4 grey, and it holds 4x3 grey; name another"),
            "{said}"
        );
        let copy = std::fs::read(folder.path().join("b.grey")).unwrap();
        assert_eq!(copy.len(), 2 * 36 + 60);
    }

    #[test]
    fn times_that_fall_are_refused_with_their_line() {
        assert_eq!(Times::parse("0 0\n1 5\n2 4\n").unwrap_err().0, 3);
        assert_eq!(Times::parse("0 0\n0 5\n").unwrap_err().0, 2);
        assert_eq!(Times::parse("x\n").unwrap_err().0, 1);
    }
}
