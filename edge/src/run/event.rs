//! What became of one frame, or of the time without one: what every sink is told.

use roadhound_shared::adapt::Adapted;
use roadhound_shared::tracker::{Phase, Report};
use serde::Serialize;

use crate::clock;
use crate::familiarity::Looked;

/// One result. Small and without pointers: it is copied into every queue.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TrackEvent {
    /// Number of the frame since the program began; `None` where the phase changed because no frame came.
    pub frame: Option<u64>,
    /// Frames between the last one looked at and this one that nobody looked at.
    pub skipped: u64,
    /// What the tracker says.
    pub report: Report,
    /// Width and height of the image that the box is in.
    pub image_px: (u32, u32),
    /// From the start of exposure to this result, in microseconds.
    pub latency_micros: u64,
    /// From taking the frame to this result, in microseconds.
    pub track_micros: u64,
    /// A user asked for this moment to be kept.
    pub mark: bool,
    /// A hard manoeuvre began.
    pub manoeuvre: bool,
    /// Whether the camera shows what was learned, where it was time to look: at the frame before.
    pub familiarity: Option<Looked>,
    /// What became of the network's normalisation, where it follows the camera.
    pub adapted: Option<Adapted>,
}

impl TrackEvent {
    /// Whether something is followed.
    pub fn follows(&self) -> bool {
        self.report.phase != Phase::Idle
    }

    /// When the frame was taken, as microseconds since 1970 on the wall clock of now.
    pub fn unix_micros(&self) -> u64 {
        let age = clock::monotonic().micros_since(self.report.captured_at);
        clock::unix_micros().saturating_sub(age)
    }

    /// The event as it is sent and stored.
    pub fn line(&self) -> Line {
        Line {
            frame: self.frame,
            t_micros: self.report.captured_at.0,
            unix_micros: self.unix_micros(),
            image: [self.image_px.0, self.image_px.1],
            r#box: self
                .report
                .box_in_image
                .map(|b| [b.x_px, b.y_px, b.w_px, b.h_px]),
            score: self.report.score,
            presence: self.report.presence,
            similarity: self.report.similarity,
            phase: self.report.phase.name(),
            since_micros: self.report.since.0,
            latency_ms: self.latency_micros as f32 / 1e3,
            track_ms: self.track_micros as f32 / 1e3,
            skipped: self.skipped,
            mark: self.mark,
            manoeuvre: self.manoeuvre,
            familiarity: self.familiarity.map(FamiliarityLine::from),
            adapt: self.adapted.map(AdaptLine::from),
        }
    }
}

/// One JSON object. Times of frames are on the machine's monotonic clock.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Line {
    /// Number of the frame, `null` where none came.
    pub frame: Option<u64>,
    /// When it was taken, microseconds on the monotonic clock.
    pub t_micros: u64,
    /// The same as microseconds since 1970.
    pub unix_micros: u64,
    /// `[width, height]` of the image.
    pub image: [u32; 2],
    /// `[x, y, w, h]` in pixels of the image, `null` where there is no target.
    pub r#box: Option<[f32; 4]>,
    /// Score of the chosen candidate, 0..1.
    pub score: f32,
    /// Presence, 0..1.
    pub presence: f32,
    /// Similarity with the target's gallery, -1..1.
    pub similarity: f32,
    /// Name of the phase.
    pub phase: &'static str,
    /// When the phase began, microseconds on the monotonic clock.
    pub since_micros: u64,
    /// From the start of exposure to the result.
    pub latency_ms: f32,
    /// From taking the frame to the result.
    pub track_ms: f32,
    /// Frames before this one that nobody looked at.
    pub skipped: u64,
    /// A user asked for this moment to be kept.
    pub mark: bool,
    /// A hard manoeuvre began.
    pub manoeuvre: bool,
    /// Whether the camera shows what was learned; not there where nobody looked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub familiarity: Option<FamiliarityLine>,
    /// What became of normalisation; not there where it does not follow the camera.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adapt: Option<AdaptLine>,
}

/// Whether the camera shows what was learned, as it is sent and stored.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct FamiliarityLine {
    /// `familiar` or `unfamiliar`: a lens that is covered, smeared or blinded. A camera that is turned, or in a room, is seldom told.
    pub health: &'static str,
    /// How far the frame lies from what was learned.
    pub distance: f32,
    /// Mean squared error of what comes back from its code.
    pub error: f32,
    /// An alarm began.
    pub began: bool,
}

impl From<Looked> for FamiliarityLine {
    fn from(looked: Looked) -> Self {
        Self {
            health: looked.health.name(),
            distance: looked.look.distance,
            error: looked.look.error,
            began: looked.is_new,
        }
    }
}

/// What became of the network's normalisation, as it is sent and stored.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct AdaptLine {
    /// `learning`, `frozen` or `resting`.
    pub state: &'static str,
    /// Root mean square of the shifts in force, in deviations of the source.
    pub shift: f32,
    /// Root mean square of the logarithms of the scales in force.
    pub log_scale: f32,
    /// How often the constants were changed.
    pub changes: u64,
    /// How often they went back to the source's.
    pub recoveries: u64,
}

impl From<Adapted> for AdaptLine {
    fn from(adapted: Adapted) -> Self {
        let Adapted {
            state,
            shift,
            log_scale,
            changes,
            recoveries,
        } = adapted;
        Self {
            state: state.name(),
            shift,
            log_scale,
            changes,
            recoveries,
        }
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use roadhound_shared::frame::Timestamp;
    use roadhound_shared::geometry::BoxXywh;

    use super::*;

    /// An event of a target that is tracked.
    pub(crate) fn event(number: u64) -> TrackEvent {
        TrackEvent {
            frame: Some(number),
            skipped: 0,
            report: Report {
                box_in_image: Some(BoxXywh::new(1.0, 2.0, 30.0, 40.0)),
                phase: Phase::Tracking,
                score: 0.9,
                presence: 0.8,
                similarity: 0.7,
                ..Report::idle(Timestamp(number * 33_333))
            },
            image_px: (640, 360),
            latency_micros: 21_000,
            track_micros: 17_000,
            mark: false,
            manoeuvre: false,
            familiarity: None,
            adapted: None,
        }
    }
}
