//! Lines, zones and the headway, frame by frame: what a user asked to be told about those who are watched.
//!
//! In: [`SceneConfig`], the reports of one frame after the other. Out: [`Happenings`] of each: who crossed which line, who
//! stands in which zone, who is ahead and how far; and the counts so far.
//!
//! ```
//! use roadhound_edge::watch::scene::{Scene, SceneConfig};
//! use roadhound_shared::frame::Timestamp;
//! use roadhound_shared::geometry::BoxXywh;
//! use roadhound_shared::watch::{Report, RoadUser, Sight};
//!
//! let config: SceneConfig = toml::from_str(
//!     "[[lines]]\nname = \"gate\"\nfrom_px = [0, 200]\nto_px = [640, 200]\n",
//! )?;
//! config.validate()?;
//! let mut scene = Scene::new(&config);
//! for frame in 0..20 {
//!     let bus = Report {
//!         identity: 4,
//!         kind: RoadUser::Bus,
//!         box_in_image: BoxXywh::new(300.0, 100.0 + 5.0 * frame as f32, 60.0, 50.0),
//!         score: 0.9,
//!         sight: Sight::Seen { detection: 0 },
//!     };
//!     scene.see(Timestamp::of_frame(frame, 30.0), &[bus]);
//! }
//! assert_eq!(scene.counts().next().map(|line| (line.to_the_right, line.to_the_left)), Some((1, 0)));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use roadhound_shared::frame::Timestamp;
use roadhound_shared::watch::zones::{
    Ahead, Crossing, Direction, Line, LineCounter, MOST_CORNERS, RoadCamera, Zone, ahead,
};
use roadhound_shared::watch::{Report, RoadUser};
use serde::{Deserialize, Serialize};

use crate::config::ConfigError;

/// Lines or zones in one picture: more is a slip.
const MOST: usize = 64;
/// No coordinate of a picture lies further out.
const FURTHEST_PX: f32 = 1e5;

/// A line with a name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NamedLine {
    /// What results call it.
    pub name: String,
    /// Where it begins, in pixels of the image.
    pub from_px: (f32, f32),
    /// Where it ends.
    pub to_px: (f32, f32),
}

/// A zone with a name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NamedZone {
    /// What results call it.
    pub name: String,
    /// Corners in order, in pixels of the image.
    pub corners_px: Vec<(f32, f32)>,
}

/// The vehicle ahead: in which zone, and how rows become metres.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeadwayConfig {
    /// The zone that is our lane.
    pub zone: String,
    /// Focal length of the camera, in pixels of the image.
    pub focal_px: f32,
    /// Its height above the road.
    pub height_m: f32,
    /// Row of the horizon.
    pub horizon_px: f32,
    /// Our own speed; without it there is a distance and no time.
    #[serde(default)]
    pub own_speed_m_s: f32,
}

/// What to tell about the picture.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SceneConfig {
    /// Lines whose crossings are told and counted.
    pub lines: Vec<NamedLine>,
    /// Areas.
    pub zones: Vec<NamedZone>,
    /// The vehicle ahead.
    pub headway: Option<HeadwayConfig>,
}

impl SceneConfig {
    /// Checks names, corners and numbers.
    ///
    /// # Errors
    /// The first key that cannot be.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let wrong = |key, what: String| Err(ConfigError::Value { key, what });
        let fits = |(x, y): (f32, f32)| x.abs() <= FURTHEST_PX && y.abs() <= FURTHEST_PX;
        let lines = self.lines.iter().map(|line| line.name.as_str());
        check_names("lines.name", lines)?;
        let zones = self.zones.iter().map(|zone| zone.name.as_str());
        check_names("zones.name", zones)?;
        for line in &self.lines {
            if !fits(line.from_px) || !fits(line.to_px) || line.from_px == line.to_px {
                let what = format!("'{}': expected two places in the picture", line.name);
                return wrong("lines.from_px", what);
            }
        }
        for zone in &self.zones {
            let corners = zone.corners_px.len();
            if !(3..=MOST_CORNERS).contains(&corners) || !zone.corners_px.iter().all(|c| fits(*c)) {
                let what = format!(
                    "'{}' has {corners} corners, expected 3 to {MOST_CORNERS} in the picture",
                    zone.name
                );
                return wrong("zones.corners_px", what);
            }
        }
        let Some(headway) = &self.headway else {
            return Ok(());
        };
        if !self.zones.iter().any(|zone| zone.name == headway.zone) {
            let what = format!("no zone is called '{}'", headway.zone);
            return wrong("headway.zone", what);
        }
        for (key, found, least, most) in [
            ("headway.focal_px", headway.focal_px, 1.0, 1e5),
            ("headway.height_m", headway.height_m, 0.1, 20.0),
            ("headway.horizon_px", headway.horizon_px, -1e5, 1e5),
            ("headway.own_speed_m_s", headway.own_speed_m_s, 0.0, 100.0),
        ] {
            if !(least..=most).contains(&found) {
                return wrong(key, format!("{found}, expected {least} to {most}"));
            }
        }
        Ok(())
    }
}

fn check_names<'a>(
    key: &'static str,
    names: impl Iterator<Item = &'a str>,
) -> Result<(), ConfigError> {
    let wrong = |what: String| Err(ConfigError::Value { key, what });
    let mut known: Vec<&str> = Vec::new();
    for name in names {
        if name.is_empty() || name.len() > 64 || name.chars().any(char::is_control) {
            return wrong(format!("{name:?}, expected 1 to 64 bytes on one line"));
        }
        if known.contains(&name) {
            return wrong(format!("'{name}' is there twice"));
        }
        known.push(name);
    }
    if known.len() > MOST {
        return wrong(format!("{} of them, at most {MOST} are told", known.len()));
    }
    Ok(())
}

/// What happened on a frame. Lines and zones by their place in the configuration.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Happenings {
    /// Who crossed which line.
    pub crossings: Vec<(usize, Crossing)>,
    /// Who stands in which zone: zone and identity.
    pub inside: Vec<(usize, u32)>,
    /// The nearest vehicle of our lane.
    pub ahead: Option<Ahead>,
}

/// How many crossed a line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LineCount<'a> {
    /// What it is called.
    pub name: &'a str,
    /// Where it is.
    pub line: Line,
    /// From the left to the right, seen along the line.
    pub to_the_right: u64,
    /// From the right to the left.
    pub to_the_left: u64,
}

/// Lines, zones and what happened at them.
pub struct Scene {
    lines: Vec<(String, Line, LineCounter)>,
    zones: Vec<(String, Zone)>,
    headway: Option<(usize, RoadCamera, f32)>,
    happenings: Happenings,
}

impl Scene {
    /// Nobody was anywhere yet. The configuration has been validated.
    pub fn new(config: &SceneConfig) -> Self {
        let line = |l: &NamedLine| {
            let (from_px, to_px) = (l.from_px, l.to_px);
            let line = Line { from_px, to_px };
            (l.name.clone(), line, LineCounter::new(line))
        };
        let zone = |z: &NamedZone| {
            let corners = z.corners_px.iter().copied().take(MOST_CORNERS);
            let corners_px = corners.collect();
            (z.name.clone(), Zone { corners_px })
        };
        let headway = config.headway.as_ref().and_then(|h| {
            let zone = config.zones.iter().position(|z| z.name == h.zone)?;
            let camera = RoadCamera {
                focal_px: h.focal_px,
                height_m: h.height_m,
                horizon_px: h.horizon_px,
            };
            Some((zone, camera, h.own_speed_m_s))
        });
        Self {
            lines: config.lines.iter().map(line).collect(),
            zones: config.zones.iter().map(zone).collect(),
            headway,
            happenings: Happenings::default(),
        }
    }

    /// Takes a frame.
    pub fn see(&mut self, now: Timestamp, reports: &[Report]) -> &Happenings {
        let Happenings {
            crossings,
            inside,
            ahead: nearest,
        } = &mut self.happenings;
        crossings.clear();
        inside.clear();
        for (at, (_, _, counter)) in self.lines.iter_mut().enumerate() {
            counter.see(now, reports, |crossing| crossings.push((at, crossing)));
        }
        for (at, (_, zone)) in self.zones.iter().enumerate() {
            inside.extend(zone.inside(reports).map(|report| (at, report.identity)));
        }
        *nearest = self
            .headway
            .as_ref()
            .and_then(|(zone, camera, speed)| ahead(reports, &self.zones[*zone].1, camera, *speed));
        &self.happenings
    }

    /// What a line is called.
    pub fn line_name(&self, line: usize) -> &str {
        self.lines.get(line).map_or("", |(name, ..)| name)
    }

    /// What a zone is called.
    pub fn zone_name(&self, zone: usize) -> &str {
        self.zones.get(zone).map_or("", |(name, _)| name)
    }

    /// The zones.
    pub fn zones(&self) -> impl Iterator<Item = &Zone> {
        self.zones.iter().map(|(_, zone)| zone)
    }

    /// How many crossed each line so far.
    pub fn counts(&self) -> impl Iterator<Item = LineCount<'_>> {
        self.lines.iter().map(|(name, line, counter)| {
            let sum = |direction| {
                let kinds = RoadUser::ALL.into_iter();
                kinds.map(|kind| counter.count(kind, direction)).sum()
            };
            LineCount {
                name,
                line: *line,
                to_the_right: sum(Direction::ToTheRight),
                to_the_left: sum(Direction::ToTheLeft),
            }
        })
    }

    /// How many of a kind crossed a line one way.
    pub fn count(&self, line: usize, kind: RoadUser, direction: Direction) -> u64 {
        let counter = self.lines.get(line).map(|(_, _, counter)| counter);
        counter.map_or(0, |counter| counter.count(kind, direction))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use roadhound_shared::geometry::BoxXywh;
    use roadhound_shared::watch::Sight;

    use super::*;

    const SCENE: &str = r#"
        [[lines]]
        name = "gate"
        from_px = [0, 200]
        to_px = [640, 200]
        [[zones]]
        name = "lane"
        corners_px = [[200, 400], [440, 400], [330, 200], [310, 200]]
        [headway]
        zone = "lane"
        focal_px = 600
        height_m = 1.2
        horizon_px = 190
        own_speed_m_s = 15
    "#;

    fn car(identity: u32, foot: (f32, f32)) -> Report {
        Report {
            identity,
            kind: RoadUser::Car,
            box_in_image: BoxXywh::new(foot.0 - 20.0, foot.1 - 30.0, 40.0, 30.0),
            score: 0.9,
            sight: Sight::Seen { detection: 0 },
        }
    }

    #[test]
    fn crossings_zones_and_the_vehicle_ahead_are_told_on_their_frame() {
        let config: SceneConfig = toml::from_str(SCENE).unwrap();
        config.validate().unwrap();
        let mut scene = Scene::new(&config);
        let before = scene.see(Timestamp(0), &[car(7, (320.0, 180.0))]);
        assert_eq!(*before, Happenings::default());
        let happened = scene
            .see(Timestamp(33_000), &[car(7, (320.0, 250.0))])
            .clone();
        let (line, crossing) = happened.crossings[0];
        assert_eq!(
            (line, crossing.identity, crossing.direction),
            (0, 7, Direction::ToTheRight)
        );
        assert_eq!(happened.inside, [(0, 7)]);
        let ahead = happened.ahead.unwrap();
        assert_eq!((ahead.distance_m, ahead.headway_seconds), (12.0, Some(0.8)));
        assert_eq!((scene.line_name(0), scene.zone_name(0)), ("gate", "lane"));
        assert_eq!(scene.count(0, RoadUser::Car, Direction::ToTheRight), 1);
        let counts: Vec<_> = scene.counts().collect();
        assert_eq!((counts[0].to_the_right, counts[0].to_the_left), (1, 0));
        assert!(scene.see(Timestamp(66_000), &[]).crossings.is_empty());
    }

    #[test]
    fn a_scene_that_cannot_be_is_refused_by_key() {
        for (change, said) in [
            (("\"gate\"", "\"\""), "lines.name: \"\", expected"),
            (
                ("to_px = [640, 200]", "to_px = [0, 200]"),
                "lines.from_px: 'gate'",
            ),
            (
                ("to_px = [640, 200]", "to_px = [nan, 200]"),
                "lines.from_px: 'gate'",
            ),
            (
                ("[[200, 400], [440, 400], ", "["),
                "zones.corners_px: 'lane' has 2 corners, expected 3 to 16",
            ),
            (
                ("zone = \"lane\"", "zone = \"line\""),
                "headway.zone: no zone is called 'line'",
            ),
            (
                ("height_m = 1.2", "height_m = 0"),
                "headway.height_m: 0, expected 0.1 to 20",
            ),
            (
                (
                    "[[zones]]",
                    "[[lines]]\nname = \"gate\"\nfrom_px = [0, 0]\nto_px = [1, 1]\n[[zones]]",
                ),
                "lines.name: 'gate' is there twice",
            ),
        ] {
            let config: SceneConfig = toml::from_str(&SCENE.replace(change.0, change.1)).unwrap();
            let found = config.validate().unwrap_err().to_string();
            assert!(found.contains(said), "{found}, expected {said}");
        }
    }
}
