//! Everybody who was shown, kept until the end: what files need that are not written frame by frame.
//!
//! In: the reports of one frame after the other. Out: boxes in the order of frames, or by identity. Thirty-two bytes a box:
//! an hour of ten road users at thirty frames a second is 35 MB.

use std::collections::BTreeMap;

use roadhound_shared::geometry::BoxXywh;
use roadhound_shared::watch::{Report, RoadUser};

/// A road user on a frame.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shown {
    /// Counted from 0.
    pub frame: u32,
    /// Who.
    pub identity: u32,
    /// What it is.
    pub kind: RoadUser,
    /// How sure the network was when it last saw it.
    pub score: f32,
    /// Where, in pixels of the image.
    pub box_in_image: BoxXywh,
}

/// A whole source.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recorded {
    /// What the source is called.
    pub name: String,
    /// Width of its pictures.
    pub width_px: u32,
    /// Height of its pictures.
    pub height_px: u32,
    /// Frames a second.
    pub fps: f64,
    /// Microsecond of each frame, and its file, where it is one by itself.
    pub frames: Vec<(u64, Option<String>)>,
    /// Everybody, in the order of frames and then of identities.
    pub shown: Vec<Shown>,
}

impl Recorded {
    /// Takes the next frame.
    pub fn push(&mut self, captured_micros: u64, file: Option<String>, shown: &[Report]) {
        let frame = u32::try_from(self.frames.len()).unwrap_or(u32::MAX);
        self.frames.push((captured_micros, file));
        self.shown.extend(shown.iter().map(|report| Shown {
            frame,
            identity: report.identity,
            kind: report.kind,
            score: report.score,
            box_in_image: report.box_in_image,
        }));
    }

    /// By identity, each in the order of frames.
    pub fn tracks(&self) -> BTreeMap<u32, Vec<Shown>> {
        let mut tracks: BTreeMap<u32, Vec<Shown>> = BTreeMap::new();
        for shown in &self.shown {
            tracks.entry(shown.identity).or_default().push(*shown);
        }
        tracks
    }
}

/// What somebody was called on most frames; of equals the first of the list.
pub fn kind_of(track: &[Shown]) -> RoadUser {
    let votes = |kind: RoadUser| track.iter().filter(|s| s.kind == kind).count();
    RoadUser::ALL
        .into_iter()
        .rev()
        .max_by_key(|kind| votes(*kind))
        .unwrap_or(RoadUser::Other)
}

#[cfg(test)]
pub(crate) fn testing() -> Recorded {
    use roadhound_shared::watch::Sight;
    let report = |identity, kind, x: f32| Report {
        identity,
        kind,
        box_in_image: BoxXywh::new(x, 20.0, 40.0, 30.0),
        score: 0.9,
        sight: Sight::Seen { detection: 0 },
    };
    let mut recorded = Recorded {
        name: "a & b.mp4".into(),
        width_px: 640,
        height_px: 360,
        fps: 30.0,
        ..Recorded::default()
    };
    // The car drives on evenly but for a stop of three frames; the person is there from frame 3 on, hidden on 6 and 7.
    for frame in 0..10_u32 {
        let x = if frame < 5 { 4.0 * frame as f32 } else { 16.0 };
        let mut shown = vec![report(2, RoadUser::Car, x)];
        if frame >= 3 && !(6..8).contains(&frame) {
            shown.push(report(5, RoadUser::Person, 200.0));
        }
        recorded.push(u64::from(frame) * 33_333, None, &shown);
    }
    recorded
}
