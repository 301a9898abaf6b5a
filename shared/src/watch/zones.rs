//! Lines, zones, counts and headway: what users ask of those who are watched.
//!
//! In: the [`Report`]s of one frame after the other. Out: [`Crossing`]s of lines, who is in a zone, counts by kind and
//! direction, how far ahead somebody is. A road user stands where the bottom of the box is. Places are pixels of the
//! image; room is fixed, and nothing is allocated.
//!
//! ```
//! use roadhound_shared::frame::Timestamp;
//! use roadhound_shared::geometry::BoxXywh;
//! use roadhound_shared::watch::zones::{Direction, Line, LineCounter};
//! use roadhound_shared::watch::{Report, RoadUser, Sight};
//!
//! // From left to right across the picture: who comes towards the camera crosses it downwards, to the right of the line.
//! let mut counter = LineCounter::new(Line { from_px: (0.0, 200.0), to_px: (640.0, 200.0) });
//! let mut crossings = Vec::new();
//! for frame in 0..20 {
//!     let car = Report {
//!         identity: 1,
//!         kind: RoadUser::Car,
//!         box_in_image: BoxXywh::new(300.0, 100.0 + 5.0 * frame as f32, 60.0, 50.0),
//!         score: 0.9,
//!         sight: Sight::Seen { detection: 0 },
//!     };
//!     counter.see(Timestamp::of_frame(frame, 30.0), &[car], |crossing| crossings.push(crossing));
//! }
//! assert_eq!((crossings.len(), crossings[0].direction), (1, Direction::ToTheRight));
//! assert_eq!(counter.count(RoadUser::Car, Direction::ToTheRight), 1);
//! ```

use serde::{Deserialize, Serialize};

use super::{KINDS, Report, RoadUser};
use crate::frame::Timestamp;
use crate::geometry::BoxXywh;

/// Road users that a line remembers at a time; of more, those seen last.
const REMEMBERED: usize = 128;
/// Corners of a zone.
pub const MOST_CORNERS: usize = 16;
/// Somebody has crossed who is this far beyond the line, in widths of the box: boxes tremble.
const BEYOND_WIDTHS: f32 = 0.1;

/// A straight line in the picture.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Line {
    /// Where it begins.
    pub from_px: (f32, f32),
    /// Where it ends.
    pub to_px: (f32, f32),
}

/// Which way somebody crossed a line, for somebody who looks along it from its begin to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// From the left to the right.
    ToTheRight,
    /// From the right to the left.
    ToTheLeft,
}

/// Somebody crossed a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crossing {
    /// Who.
    pub identity: u32,
    /// What it is.
    pub kind: RoadUser,
    /// Which way.
    pub direction: Direction,
    /// When it was first seen beyond.
    pub at: Timestamp,
}

/// Where somebody stands: the middle of the box's bottom.
#[must_use]
pub fn foot_px(b: &BoxXywh) -> (f32, f32) {
    (b.x_px + b.w_px / 2.0, b.bottom_px())
}

impl Line {
    /// How far to the right of the line a point is, in pixels; negative on the left. `None` for a line without length.
    #[must_use]
    pub fn right_of_px(&self, point: (f32, f32)) -> Option<f32> {
        let (dx, dy) = (self.to_px.0 - self.from_px.0, self.to_px.1 - self.from_px.1);
        let length = libm::hypotf(dx, dy);
        // The image's vertical axis points down.
        let cross = dx * (point.1 - self.from_px.1) - dy * (point.0 - self.from_px.0);
        let right = cross / length;
        right.is_finite().then_some(right)
    }

    /// Whether the way between two points passes between the line's ends.
    fn is_passed(&self, a: (f32, f32), b: (f32, f32)) -> bool {
        let way = Line {
            from_px: a,
            to_px: b,
        };
        match (way.right_of_px(self.from_px), way.right_of_px(self.to_px)) {
            (Some(from), Some(to)) => (from > 0.0) != (to > 0.0),
            _ => false,
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Side {
    identity: u32,
    right: bool,
    foot_px: (f32, f32),
    last_seen: Timestamp,
}

/// A line and who crossed it.
#[derive(Clone, Debug)]
pub struct LineCounter {
    line: Line,
    sides: heapless::Vec<Side, REMEMBERED>,
    counts: [[u64; 2]; KINDS],
}

impl LineCounter {
    /// Nobody crossed yet.
    #[must_use]
    pub fn new(line: Line) -> Self {
        Self {
            line,
            sides: heapless::Vec::new(),
            counts: [[0; 2]; KINDS],
        }
    }

    /// How many of a kind crossed one way.
    #[must_use]
    pub fn count(&self, kind: RoadUser, direction: Direction) -> u64 {
        self.counts[kind as usize][direction as usize]
    }

    /// Takes a frame; tells every crossing.
    pub fn see(&mut self, now: Timestamp, reports: &[Report], mut tell: impl FnMut(Crossing)) {
        for report in reports.iter().filter(|r| r.sight.is_shown()) {
            let foot = foot_px(&report.box_in_image);
            let Some(right_px) = self.line.right_of_px(foot) else {
                continue;
            };
            let right = right_px > 0.0;
            let known = self
                .sides
                .iter_mut()
                .find(|s| s.identity == report.identity);
            let Some(side) = known else {
                self.remember(Side {
                    identity: report.identity,
                    right,
                    foot_px: foot,
                    last_seen: now,
                });
                continue;
            };
            side.last_seen = now;
            if right == side.right {
                side.foot_px = foot;
                continue;
            }
            // As long as it may tremble back, its last place on the other side is kept.
            if right_px.abs() < BEYOND_WIDTHS * report.box_in_image.w_px {
                continue;
            }
            let between_ends = self.line.is_passed(side.foot_px, foot);
            (side.right, side.foot_px) = (right, foot);
            if between_ends {
                let direction = if right {
                    Direction::ToTheRight
                } else {
                    Direction::ToTheLeft
                };
                self.counts[report.kind as usize][direction as usize] += 1;
                tell(Crossing {
                    identity: report.identity,
                    kind: report.kind,
                    direction,
                    at: now,
                });
            }
        }
    }

    fn remember(&mut self, side: Side) {
        if self.sides.is_full() {
            let oldest = self
                .sides
                .iter()
                .enumerate()
                .min_by_key(|(_, s)| s.last_seen);
            if let Some((at, _)) = oldest {
                self.sides.swap_remove(at);
            }
        }
        // There is room now.
        let _ = self.sides.push(side);
    }
}

/// An area of the picture.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Zone {
    /// Corners in order, either way round; the last is joined to the first.
    pub corners_px: heapless::Vec<(f32, f32), MOST_CORNERS>,
}

impl Zone {
    /// Whether a point is inside (even-odd rule). A zone of fewer than three corners holds nothing.
    #[must_use]
    pub fn holds(&self, (x, y): (f32, f32)) -> bool {
        let corners = &self.corners_px;
        if corners.len() < 3 {
            return false;
        }
        let mut inside = false;
        let mut before = corners[corners.len() - 1];
        for &corner in corners {
            if (corner.1 > y) != (before.1 > y) {
                let share = (y - corner.1) / (before.1 - corner.1);
                if x < corner.0 + share * (before.0 - corner.0) {
                    inside = !inside;
                }
            }
            before = corner;
        }
        inside
    }

    /// Those who are shown and stand inside.
    pub fn inside<'a>(&'a self, reports: &'a [Report]) -> impl Iterator<Item = &'a Report> {
        let stands = |r: &&Report| r.sight.is_shown() && self.holds(foot_px(&r.box_in_image));
        reports.iter().filter(stands)
    }
}

/// How the camera looks at a flat road: what turns rows of the picture into metres.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoadCamera {
    /// Focal length, in pixels of the image.
    pub focal_px: f32,
    /// Height above the road.
    pub height_m: f32,
    /// Row of the horizon.
    pub horizon_px: f32,
}

impl RoadCamera {
    /// How far ahead a row of the road is; `None` at and above the horizon, and where it is no distance.
    #[must_use]
    pub fn distance_m(&self, row_px: f32) -> Option<f32> {
        let below_px = row_px - self.horizon_px;
        let distance = self.focal_px * self.height_m / below_px;
        (below_px > 0.0 && distance.is_finite() && distance > 0.0).then_some(distance)
    }
}

/// Somebody ahead.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ahead {
    /// Who.
    pub identity: u32,
    /// How far, along the road.
    pub distance_m: f32,
    /// How long until we are there at our speed; `None` where we stand.
    pub headway_seconds: Option<f32>,
}

/// The nearest vehicle in a zone: our lane, as the camera sees it. People and animals are not followed at a distance.
#[must_use]
pub fn ahead(
    reports: &[Report],
    lane: &Zone,
    camera: &RoadCamera,
    own_speed_m_s: f32,
) -> Option<Ahead> {
    let vehicles = lane
        .inside(reports)
        .filter(|r| !matches!(r.kind, RoadUser::Person | RoadUser::Animal));
    let (distance_m, identity) = vehicles
        .filter_map(|r| Some((camera.distance_m(r.box_in_image.bottom_px())?, r.identity)))
        .min_by(|a, b| a.0.total_cmp(&b.0))?;
    Some(Ahead {
        identity,
        distance_m,
        headway_seconds: (own_speed_m_s > 0.1).then(|| distance_m / own_speed_m_s),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use alloc::vec::Vec;

    use super::*;
    use crate::watch::Sight;

    const ACROSS: Line = Line {
        from_px: (100.0, 200.0),
        to_px: (500.0, 200.0),
    };

    fn report(identity: u32, foot: (f32, f32)) -> Report {
        Report {
            identity,
            kind: RoadUser::Car,
            box_in_image: BoxXywh::new(foot.0 - 20.0, foot.1 - 30.0, 40.0, 30.0),
            score: 0.9,
            sight: Sight::Seen { detection: 0 },
        }
    }

    fn crossings(feet: &[(f32, f32)]) -> Vec<Direction> {
        let mut counter = LineCounter::new(ACROSS);
        let mut told = Vec::new();
        for (frame, foot) in feet.iter().enumerate() {
            let now = Timestamp::of_frame(frame as u64, 30.0);
            counter.see(now, &[report(3, *foot)], |c| told.push(c.direction));
        }
        told
    }

    #[test]
    fn who_passes_between_the_ends_crosses_and_who_passes_beside_does_not() {
        use Direction::{ToTheLeft, ToTheRight};
        assert_eq!(crossings(&[(300.0, 180.0), (300.0, 230.0)]), [ToTheRight]);
        assert_eq!(crossings(&[(300.0, 230.0), (300.0, 180.0)]), [ToTheLeft]);
        assert_eq!(crossings(&[(50.0, 180.0), (50.0, 230.0)]), []);
        assert_eq!(
            crossings(&[(300.0, 180.0), (310.0, 230.0), (320.0, 150.0)]),
            [ToTheRight, ToTheLeft]
        );
    }

    #[test]
    fn who_trembles_on_the_line_crosses_once() {
        let feet = [180.0, 199.0, 201.0, 198.0, 202.0, 203.0, 199.0, 220.0];
        let feet: Vec<_> = feet.iter().map(|y| (300.0, *y)).collect();
        assert_eq!(crossings(&feet), [Direction::ToTheRight]);
    }

    #[test]
    fn a_line_without_length_and_a_crowd_break_nothing() {
        let point = Line {
            from_px: (5.0, 5.0),
            to_px: (5.0, 5.0),
        };
        let mut counter = LineCounter::new(point);
        counter.see(Timestamp(0), &[report(1, (5.0, 5.0))], |_| unreachable!());
        let mut counter = LineCounter::new(ACROSS);
        for identity in 0..1000 {
            counter.see(
                Timestamp(u64::from(identity)),
                &[report(identity, (300.0, 150.0))],
                |_| {},
            );
        }
        let mut told = 0;
        counter.see(Timestamp(2000), &[report(999, (300.0, 250.0))], |_| {
            told += 1
        });
        assert_eq!(
            (told, counter.count(RoadUser::Car, Direction::ToTheRight)),
            (1, 1)
        );
    }

    #[test]
    fn a_zone_may_have_a_bay() {
        let corners = [
            (0.0, 0.0),
            (100.0, 0.0),
            (100.0, 100.0),
            (50.0, 50.0),
            (0.0, 100.0),
        ];
        let zone = Zone {
            corners_px: corners.into_iter().collect(),
        };
        assert!(zone.holds((50.0, 20.0)) && zone.holds((10.0, 80.0)));
        assert!(!zone.holds((50.0, 80.0)) && !zone.holds((120.0, 20.0)));
        let line = Zone {
            corners_px: corners[..2].iter().copied().collect(),
        };
        assert!(!line.holds((50.0, 0.0)));
    }

    #[test]
    fn the_nearest_vehicle_in_the_lane_is_ahead() {
        let lane = Zone {
            corners_px: [
                (200.0, 400.0),
                (440.0, 400.0),
                (330.0, 200.0),
                (310.0, 200.0),
            ]
            .into_iter()
            .collect(),
        };
        let camera = RoadCamera {
            focal_px: 600.0,
            height_m: 1.2,
            horizon_px: 190.0,
        };
        let mut person = report(1, (320.0, 380.0));
        person.kind = RoadUser::Person;
        // 20 m and 12 m ahead, and one nearer beside the lane.
        let reports = [
            report(2, (320.0, 226.0)),
            report(3, (320.0, 250.0)),
            report(4, (600.0, 300.0)),
            person,
        ];
        let found = ahead(&reports, &lane, &camera, 15.0).unwrap();
        assert_eq!((found.identity, found.distance_m), (3, 12.0));
        assert_eq!(found.headway_seconds, Some(0.8));
        assert_eq!(
            ahead(&reports, &lane, &camera, 0.0)
                .unwrap()
                .headway_seconds,
            None
        );
        assert_eq!(camera.distance_m(190.0), None);
    }
}
