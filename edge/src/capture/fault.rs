//! Makes any camera fail, on a plan: what unplugged cables, noisy buses and worn drivers do, without them.
//!
//! Enters: a camera and a [`FaultConfig`]. Leaves: the camera's frames, and after every `every_frames` of them the next
//! kind of fault in the list.

use std::time::Duration;

use roadhound_shared::frame::Timestamp;
use serde::{Deserialize, Serialize};

use super::{CaptureError, Frame, LiveSource, Opener, Poll, StreamFormat};
use crate::clock;

/// One kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FaultKind {
    /// `ENODEV`; the device cannot be opened for `unplugged_millis`.
    Unplug,
    /// `EIO` while reading.
    Io,
    /// `corrupt_frames` damaged buffers.
    Corrupt,
    /// Nothing for `stall_millis`.
    Stall,
    /// The camera delivers another format.
    Format,
}

/// When what goes wrong.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FaultConfig {
    /// A fault after this many frames, counted over all openings; 0 is never.
    pub every_frames: u64,
    /// Kinds of fault, in turn.
    pub kinds: Vec<FaultKind>,
    /// How long an unplugged device stays away.
    pub unplugged_millis: u64,
    /// How long a stalled one is silent.
    pub stall_millis: u64,
    /// How many buffers in a row are damaged.
    pub corrupt_frames: u64,
}

impl Default for FaultConfig {
    fn default() -> Self {
        Self {
            every_frames: 0,
            kinds: vec![FaultKind::Unplug],
            unplugged_millis: 300,
            stall_millis: 3_000,
            corrupt_frames: 3,
        }
    }
}

/// A camera that fails on a plan.
pub struct Faulty<O> {
    inner: O,
    config: FaultConfig,
    progress: std::sync::Arc<std::sync::Mutex<Progress>>,
}

/// What outlives a closed stream.
#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    frames: u64,
    faults: u64,
    away_until: Timestamp,
    corrupt_left: u64,
    silent_until: Timestamp,
}

impl<O: Opener> Faulty<O> {
    /// Wraps a camera.
    pub fn new(inner: O, config: FaultConfig) -> Self {
        Self {
            inner,
            config,
            progress: std::sync::Arc::default(),
        }
    }
}

fn system(code: i32) -> std::io::Error {
    std::io::Error::from_raw_os_error(code)
}

impl<O: Opener> Opener for Faulty<O> {
    fn open(&mut self) -> Result<Box<dyn LiveSource>, CaptureError> {
        let away_until = lock(&self.progress).away_until;
        if clock::monotonic() < away_until {
            return Err(CaptureError::Gone {
                device: self.name(),
                reason: system(libc::ENOENT),
            });
        }
        Ok(Box::new(Stream {
            inner: self.inner.open()?,
            name: self.name(),
            config: self.config.clone(),
            progress: self.progress.clone(),
        }))
    }

    fn name(&self) -> String {
        self.inner.name()
    }
}

fn lock(progress: &std::sync::Mutex<Progress>) -> std::sync::MutexGuard<'_, Progress> {
    progress
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

struct Stream {
    inner: Box<dyn LiveSource>,
    name: String,
    config: FaultConfig,
    progress: std::sync::Arc<std::sync::Mutex<Progress>>,
}

impl Stream {
    /// Starts the next fault of the plan, where one is due.
    fn fail(&self, progress: &mut Progress) -> Result<(), CaptureError> {
        let c = &self.config;
        let due = c
            .every_frames
            .checked_mul(progress.faults + 1)
            .is_some_and(|at| c.every_frames > 0 && progress.frames >= at);
        let kinds = c.kinds.len() as u64;
        if !due || kinds == 0 {
            return Ok(());
        }
        let kind = c.kinds[(progress.faults % kinds) as usize];
        progress.faults += 1;
        let now = clock::monotonic();
        let device = self.name.clone();
        match kind {
            FaultKind::Unplug => {
                progress.away_until = now.plus_millis(c.unplugged_millis);
                let reason = system(libc::ENODEV);
                Err(CaptureError::Gone { device, reason })
            }
            FaultKind::Io => {
                let reason = system(libc::EIO);
                Err(CaptureError::Io { device, reason })
            }
            FaultKind::Format => Err(CaptureError::FormatChanged {
                device,
                agreed: self.inner.format().to_string(),
                found: "something else".into(),
            }),
            FaultKind::Corrupt => {
                progress.corrupt_left = c.corrupt_frames;
                Ok(())
            }
            FaultKind::Stall => {
                progress.silent_until = now.plus_millis(c.stall_millis);
                Ok(())
            }
        }
    }
}

impl LiveSource for Stream {
    fn poll(&mut self, frame: &mut Frame, wait: Duration) -> Result<Poll, CaptureError> {
        let mut progress = lock(&self.progress);
        self.fail(&mut progress)?;
        let now = clock::monotonic();
        if now < progress.silent_until {
            let left = Duration::from_micros(progress.silent_until.micros_since(now));
            drop(progress);
            std::thread::sleep(left.min(wait));
            return Ok(Poll::Nothing);
        }
        let polled = self.inner.poll(frame, wait)?;
        if polled == Poll::Frame {
            if progress.corrupt_left > 0 {
                progress.corrupt_left -= 1;
                return Ok(Poll::Corrupt);
            }
            progress.frames += 1;
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
