//! Draws everybody who is watched onto a frame: boxes coloured by identity, trails, lines with their counts, zones.
//!
//! In: the reports of one frame after the other. Out: strokes on an [`I420`]. Whoever is expected rather than seen has a
//! thinner box; whoever is hidden has none.

use std::collections::{BTreeMap, VecDeque};

use roadhound_shared::frame::Timestamp;
use roadhound_shared::geometry::BoxXywh;
use roadhound_shared::watch::zones::foot_px;
use roadhound_shared::watch::{Report, Sight};

use super::picture::{I420, WHITE, Yuv};
use crate::watch::scene::Scene;

const GREY: Yuv = [160, 128, 128];
/// Points of a trail that are kept: one a frame.
const LONGEST_TRAIL: usize = 512;

/// Where somebody stood, and when.
type Trail = VecDeque<(Timestamp, (f32, f32))>;

/// Remembers where everybody went.
#[derive(Clone, Debug, Default)]
pub struct Crowd {
    trails: BTreeMap<u32, Trail>,
    trail_seconds: f32,
}

impl Crowd {
    /// Trails of this length.
    pub fn new(trail_seconds: f32) -> Self {
        Self {
            trails: BTreeMap::new(),
            trail_seconds,
        }
    }

    /// Draws a frame's reports, those that are to be shown, and what the scene has.
    pub fn draw(&mut self, picture: &mut I420, now: Timestamp, shown: &[Report], scene: &Scene) {
        self.remember(now, shown);
        draw_scene(picture, scene);
        for (identity, trail) in &self.trails {
            let colour = colour_of(*identity);
            for (a, b) in trail.iter().zip(trail.iter().skip(1)) {
                picture.segment(a.1, b.1, colour);
            }
        }
        let scale = picture.text_scale();
        for report in shown {
            let colour = colour_of(report.identity);
            let thick = match report.sight {
                Sight::Seen { .. } => 2 * ((scale + 1) / 2) + 2 * (scale / 2),
                _ => 2,
            };
            picture.outline(&report.box_in_image, thick, colour);
        }
        self.draw_labels(picture, shown);
    }

    /// Last, for boxes cross them otherwise; the nearest first, and none where another one is.
    fn draw_labels(&self, picture: &mut I420, shown: &[Report]) {
        let letter_px = 6 * picture.text_scale();
        let mut nearest: Vec<&Report> = shown.iter().collect();
        nearest.sort_by(|a, b| {
            let (a, b) = (&a.box_in_image, &b.box_in_image);
            b.bottom_px().total_cmp(&a.bottom_px())
        });
        let mut taken: Vec<BoxXywh> = Vec::new();
        for report in nearest {
            let b = &report.box_in_image;
            let kind = report.kind.name().replace('_', "-");
            let mut label = format!("{kind} {}", report.identity);
            // Far away there is room for the number alone.
            if (label.len() as i32 * letter_px) as f32 > 2.0 * b.w_px {
                label = report.identity.to_string();
            }
            let place = picture.label_place(b);
            let wide = label.len() as i32 * letter_px;
            let here = BoxXywh::new(
                place.0 as f32,
                place.1 as f32,
                wide as f32,
                (2 * letter_px) as f32,
            );
            if taken
                .iter()
                .all(|other| other.intersection(&here).is_none())
            {
                picture.label(place, &label, colour_of(report.identity));
                taken.push(here);
            }
        }
    }

    fn remember(&mut self, now: Timestamp, shown: &[Report]) {
        for report in shown {
            let trail = self.trails.entry(report.identity).or_default();
            trail.push_back((now, foot_px(&report.box_in_image)));
            if trail.len() > LONGEST_TRAIL {
                trail.pop_front();
            }
        }
        let seconds = self.trail_seconds;
        self.trails.retain(|_, trail| {
            while trail
                .front()
                .is_some_and(|(at, _)| now.seconds_since(*at) > seconds)
            {
                trail.pop_front();
            }
            !trail.is_empty()
        });
    }
}

fn draw_scene(picture: &mut I420, scene: &Scene) {
    for zone in scene.zones() {
        let corners = &zone.corners_px;
        let following = corners.iter().skip(1).chain(corners.first());
        for (from, to) in corners.iter().zip(following) {
            picture.segment(*from, *to, GREY);
        }
    }
    for count in scene.counts() {
        let (from, to) = (count.line.from_px, count.line.to_px);
        picture.segment(from, to, WHITE);
        let middle = (f32::midpoint(from.0, to.0), f32::midpoint(from.1, to.1));
        let label = format!("{} right {} left", count.to_the_right, count.to_the_left);
        picture.label((middle.0 as i32, middle.1 as i32), &label, WHITE);
    }
}

/// Colours that are far apart for identities that follow each other: the golden angle on the circle of hues.
fn colour_of(identity: u32) -> Yuv {
    let turns = f64::from(identity) * 0.618_033_988_75;
    let (sin, cos) = (turns.fract() * std::f64::consts::TAU).sin_cos();
    let chroma = |v: f64| (128.0 + 92.0 * v).round() as u8;
    // Lighter and darker in turn, for those who are far apart in the count and near on the circle.
    let light = [165, 125, 200][identity as usize % 3];
    [light, chroma(cos), chroma(sin)]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use roadhound_shared::frame::PixelFormat;
    use roadhound_shared::watch::RoadUser;

    use super::super::font::FONT;
    use super::*;
    use crate::source::Pixels;
    use crate::watch::scene::SceneConfig;

    fn picture() -> I420 {
        let data = [128u8; 320 * 180];
        let mut picture = I420::default();
        picture.fill(&Pixels::Packed {
            format: PixelFormat::Grey8,
            width_px: 320,
            height_px: 180,
            data: &data,
        });
        picture
    }

    fn car(x: f32) -> Report {
        Report {
            identity: 4,
            kind: RoadUser::Car,
            box_in_image: BoxXywh::new(x, 60.0, 40.0, 30.0),
            score: 0.9,
            sight: Sight::Seen { detection: 0 },
        }
    }

    #[test]
    fn a_trail_shows_where_somebody_was_until_it_is_too_old() {
        let scene = Scene::new(&SceneConfig::default());
        let mut crowd = Crowd::new(1.0);
        crowd.draw(&mut picture(), Timestamp(0), &[car(100.0)], &scene);
        let mut later = picture();
        crowd.draw(&mut later, Timestamp(500_000), &[car(200.0)], &scene);
        let chroma = |p: &I420, x: usize, y: usize| p.u[y / 2 * (p.width_px / 2) + x / 2];
        // Between the feet of both frames, away from either box.
        assert_ne!(chroma(&later, 170, 90), 128);
        let mut too_late = picture();
        crowd.draw(&mut too_late, Timestamp(2_000_000), &[], &scene);
        assert_eq!(too_late.y, picture().y);
        assert!(crowd.trails.is_empty());
    }

    #[test]
    fn neighbours_in_the_count_have_colours_far_apart() {
        for identity in 0..500 {
            let (a, b) = (colour_of(identity), colour_of(identity + 1));
            let apart = |k: usize| (f64::from(a[k]) - f64::from(b[k])).powi(2);
            assert!((apart(1) + apart(2)).sqrt() > 60.0, "{identity}");
        }
    }

    #[test]
    fn every_letter_of_a_label_is_in_the_font() {
        let names = RoadUser::ALL
            .into_iter()
            .map(|kind| kind.name().replace('_', "-"));
        let all: String = names.chain(["right left 0123456789".to_owned()]).collect();
        for letter in all.chars() {
            assert!(FONT.iter().any(|(c, _)| *c == letter), "{letter}");
        }
    }
}
