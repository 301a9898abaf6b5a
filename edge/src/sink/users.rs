//! One JSON object a line and frame, with everybody on it and what they did.
//!
//! `users` are those who are seen or surely there; whoever is hidden or lost is named in `unseen` and has no box: it would
//! be a guess.

use std::path::Path;

use roadhound_shared::frame::Timestamp;
use roadhound_shared::watch::zones::Direction;
use roadhound_shared::watch::{Report, RoadUser, Sight};
use serde::Serialize;

use super::{Lines, SinkError};
use crate::watch::scene::{Happenings, Scene};

/// Writes JSON lines.
pub struct UsersSink(Lines);

#[derive(Serialize)]
struct Line<'a> {
    /// Index of the frame, from 0.
    frame: u64,
    /// Seconds since the first frame.
    t: f64,
    /// The same in whole microseconds.
    t_micros: u64,
    /// Whether the network looked at this frame, rather than motion.
    looked: bool,
    users: Vec<User<'a>>,
    /// Identities of those who are hidden or lost.
    unseen: Vec<u32>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    crossings: Vec<Crossed<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ahead: Option<AheadOf>,
}

#[derive(Serialize)]
struct User<'a> {
    id: u32,
    kind: RoadUser,
    /// `[x, y, w, h]` in pixels of the image.
    r#box: [f32; 4],
    score: f32,
    /// `seen`, or `expected` where motion says it.
    sight: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    zones: Vec<&'a str>,
}

#[derive(Serialize)]
struct Crossed<'a> {
    line: &'a str,
    id: u32,
    kind: RoadUser,
    direction: Direction,
}

#[derive(Serialize)]
struct AheadOf {
    id: u32,
    distance_m: f32,
    headway_seconds: Option<f32>,
}

impl UsersSink {
    /// Creates or replaces the file.
    ///
    /// # Errors
    /// The file cannot be created.
    pub fn create(path: &Path) -> Result<Self, SinkError> {
        Lines::create(path).map(Self)
    }

    /// Writes the line of a frame. `reports` are everybody's, `shown` those that are worth a box.
    ///
    /// # Errors
    /// The line cannot be written.
    pub fn write(
        &mut self,
        (frame, captured_at, looked): (u64, Timestamp, bool),
        reports: &[Report],
        shown: &[Report],
        scene: &Scene,
        happenings: &Happenings,
    ) -> Result<(), SinkError> {
        let user = |report: &Report| {
            let b = &report.box_in_image;
            let inside = happenings.inside.iter();
            let inside = inside.filter(|(_, identity)| *identity == report.identity);
            User {
                id: report.identity,
                kind: report.kind,
                r#box: [b.x_px, b.y_px, b.w_px, b.h_px],
                score: report.score,
                sight: match report.sight {
                    Sight::Seen { .. } => "seen",
                    _ => "expected",
                },
                zones: inside.map(|(zone, _)| scene.zone_name(*zone)).collect(),
            }
        };
        let crossed = happenings.crossings.iter().map(|(line, c)| Crossed {
            line: scene.line_name(*line),
            id: c.identity,
            kind: c.kind,
            direction: c.direction,
        });
        let unseen = reports.iter().filter(|r| !r.sight.is_shown());
        let line = Line {
            frame,
            t: captured_at.0 as f64 / 1e6,
            t_micros: captured_at.0,
            looked,
            users: shown.iter().map(user).collect(),
            unseen: unseen.map(|r| r.identity).collect(),
            crossings: crossed.collect(),
            ahead: happenings.ahead.map(|a| AheadOf {
                id: a.identity,
                distance_m: a.distance_m,
                headway_seconds: a.headway_seconds,
            }),
        };
        self.0
            .write(|out| serde_json::to_writer(out, &line).map_err(std::io::Error::from))
    }
}
