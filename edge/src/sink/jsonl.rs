//! One JSON object a line and frame.

use std::path::Path;

use roadhound_shared::adapt::Adapted;
use roadhound_shared::tracker::Report;
use serde::Serialize;

use super::{Lines, SinkError};
use crate::familiarity::Looked;
use crate::run::event::{AdaptLine, FamiliarityLine};

/// Writes JSON lines.
pub struct JsonlSink(Lines);

#[derive(Serialize)]
struct Line {
    /// Index of the frame, from 0.
    frame: u64,
    /// Seconds since the first frame.
    t: f64,
    /// The same in whole microseconds.
    t_micros: u64,
    /// `[x, y, w, h]` in pixels of the image, `null` where there is no target.
    r#box: Option<[f32; 4]>,
    score: f32,
    presence: f32,
    similarity: f32,
    phase: &'static str,
    /// Whether the camera shows what was learned; not there where nobody looked.
    #[serde(skip_serializing_if = "Option::is_none")]
    familiarity: Option<FamiliarityLine>,
    /// What became of normalisation; not there where it does not follow the camera.
    #[serde(skip_serializing_if = "Option::is_none")]
    adapt: Option<AdaptLine>,
}

impl JsonlSink {
    /// Creates or replaces the file.
    ///
    /// # Errors
    /// The file cannot be created.
    pub fn create(path: &Path) -> Result<Self, SinkError> {
        Lines::create(path).map(Self)
    }

    /// Writes the line of one frame.
    ///
    /// # Errors
    /// The line cannot be written.
    pub fn write(
        &mut self,
        frame: u64,
        report: &Report,
        looked: Option<Looked>,
        adapted: Option<Adapted>,
    ) -> Result<(), SinkError> {
        let line = Line {
            frame,
            t: report.captured_at.0 as f64 / 1e6,
            t_micros: report.captured_at.0,
            r#box: report
                .box_in_image
                .map(|b| [b.x_px, b.y_px, b.w_px, b.h_px]),
            score: report.score,
            presence: report.presence,
            similarity: report.similarity,
            phase: report.phase.name(),
            familiarity: looked.map(FamiliarityLine::from),
            adapt: adapted.map(AdaptLine::from),
        };
        self.0
            .write(|out| serde_json::to_writer(out, &line).map_err(std::io::Error::from))
    }
}
