//! A rendered drive as a camera: for trying the program out, and for tests, on a machine without a camera.
//!
//! Enters: a size, a rate and a seed. Leaves: frames at that rate, by the clock, or as fast as they are taken.

use std::time::Duration;

use roadhound_shared::frame::{PixelFormat, Timestamp};
use roadhound_shared::geometry::BoxXywh;
use roadhound_shared::world::{Region, Scenario, Scratch, Sequence, WorldConfig};
use serde::{Deserialize, Serialize};

use super::{CaptureError, Encoding, Frame, LiveSource, Opener, Poll, StreamFormat};
use crate::clock;

/// Frames of one drive, after which it starts again.
const DRIVE_FRAMES: u32 = 300;

/// What to render.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RenderedConfig {
    /// Width in pixels.
    pub width_px: u32,
    /// Height in pixels.
    pub height_px: u32,
    /// Frames per second.
    pub fps: f32,
    /// Decides everything else.
    pub seed: u64,
    /// Deliver a frame whenever the last one was taken, instead of by the clock.
    pub lockstep: bool,
    /// End after this many frames; 0 goes on for ever.
    pub frames: u64,
}

impl Default for RenderedConfig {
    fn default() -> Self {
        Self {
            width_px: 640,
            height_px: 360,
            fps: 30.0,
            seed: 7,
            lockstep: false,
            frames: 0,
        }
    }
}

/// Waits until a moment on the monotonic clock, at most `wait`; whether it has come.
pub(super) fn wait_until(due: Timestamp, wait: Duration) -> bool {
    let left = Duration::from_micros(due.micros_since(clock::monotonic()));
    std::thread::sleep(left.min(wait));
    left <= wait
}

/// Opens a rendered drive.
pub struct Rendered {
    config: RenderedConfig,
}

impl Rendered {
    /// A drive that is not rendered yet.
    pub fn new(config: RenderedConfig) -> Self {
        Self { config }
    }

    /// Where the largest vehicle ahead is in the first frame, to have something to follow.
    ///
    /// # Errors
    /// A size or rate that cannot be rendered.
    pub fn first_target(config: &RenderedConfig) -> Result<Option<BoxXywh>, CaptureError> {
        let sequence = sequence(config)?;
        let mut rgb = Vec::new();
        let mut scratch = Scratch::new(config.width_px, config.height_px);
        let objects = sequence.render(0, &mut scratch, &mut rgb);
        let whole = |o: &&roadhound_shared::world::ObjectTruth| {
            o.visible_share > 0.8 && !o.cut && !o.ignore && o.full_box.is_proper()
        };
        let area = |b: &BoxXywh| b.w_px * b.h_px;
        Ok(objects
            .iter()
            .filter(whole)
            .map(|o| o.full_box)
            .max_by(|a, b| area(a).total_cmp(&area(b))))
    }
}

fn sequence(config: &RenderedConfig) -> Result<Sequence, CaptureError> {
    let world = WorldConfig {
        width_px: config.width_px,
        height_px: config.height_px,
        fps: config.fps,
        frames: DRIVE_FRAMES,
        scenario: Scenario::Drive,
        ..WorldConfig::of(Region::Us)
    };
    Sequence::new(&world, config.seed, 0)
        .map_err(|e| CaptureError::Setting(format!("camera.rendered: {e}")))
}

impl Opener for Rendered {
    fn open(&mut self) -> Result<Box<dyn LiveSource>, CaptureError> {
        Ok(Box::new(Stream {
            sequence: sequence(&self.config)?,
            scratch: Scratch::new(self.config.width_px, self.config.height_px),
            rgb: Vec::new(),
            config: self.config,
            started_at: clock::monotonic(),
            next: 0,
        }))
    }

    fn name(&self) -> String {
        format!("rendered drive {}", self.config.seed)
    }
}

struct Stream {
    sequence: Sequence,
    scratch: Scratch,
    rgb: Vec<u8>,
    config: RenderedConfig,
    started_at: Timestamp,
    next: u64,
}

impl LiveSource for Stream {
    fn poll(&mut self, frame: &mut Frame, wait: Duration) -> Result<Poll, CaptureError> {
        let c = &self.config;
        if c.frames > 0 && self.next >= c.frames {
            return Ok(Poll::End);
        }
        let mut number = self.next;
        if !c.lockstep {
            // A renderer that is slower than its rate loses frames, as a camera in the dark does.
            let micros = clock::monotonic().micros_since(self.started_at);
            number = number.max((micros as f64 * 1e-6 * f64::from(c.fps)) as u64);
        }
        let at = Timestamp(self.started_at.0 + Timestamp::of_frame(number, f64::from(c.fps)).0);
        if !c.lockstep && !wait_until(at, wait) {
            return Ok(Poll::Nothing);
        }
        // There and back again, so that the picture never jumps.
        let turn = number % u64::from(2 * DRIVE_FRAMES - 2);
        let shown = turn.min(u64::from(2 * DRIVE_FRAMES - 2) - turn) as u32;
        self.sequence
            .render(shown, &mut self.scratch, &mut self.rgb);
        frame.set_tight(PixelFormat::Rgb8, c.width_px, c.height_px, &[&self.rgb]);
        frame.sequence = number;
        frame.captured_at = at;
        self.next = number + 1;
        Ok(Poll::Frame)
    }

    fn format(&self) -> StreamFormat {
        StreamFormat {
            encoding: Encoding::Raw(PixelFormat::Rgb8),
            width_px: self.config.width_px,
            height_px: self.config.height_px,
            fps: f64::from(self.config.fps),
        }
    }

    fn waits(&self) -> bool {
        self.config.lockstep
    }
}
