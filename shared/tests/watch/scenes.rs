//! Scenes laid out by hand: who is where is known, and the test's name says what has to come of it.

use roadhound_shared::frame::Timestamp;
use roadhound_shared::geometry::{Affine2, BoxXywh};
use roadhound_shared::watch::{
    CameraConfig, Detection, LooksMetric, Report, RoadUser, Sight, Watch, WatchConfig, WatchError,
};

/// A scene in a picture of 1280 x 720: times in seconds, every detection as good as said.
struct Scene {
    watch: Watch,
    /// Identities shown on the last frame, with their boxes.
    shown: Vec<(u32, BoxXywh)>,
}

impl Scene {
    fn new() -> Self {
        Self::with(WatchConfig::default())
    }

    fn with(config: WatchConfig) -> Self {
        Self::by_looks(config, None)
    }

    fn by_looks(config: WatchConfig, metric: Option<LooksMetric>) -> Self {
        Self {
            watch: Watch::by_looks(config, metric, 1280, 720).unwrap(),
            shown: Vec::new(),
        }
    }

    fn look(&mut self, seconds: f32, detections: &[Detection<'_>]) -> &[Report] {
        self.look_moved(seconds, None, detections)
    }

    fn look_moved(
        &mut self,
        seconds: f32,
        map: Option<&Affine2>,
        detections: &[Detection<'_>],
    ) -> &[Report] {
        let now = Timestamp((seconds * 1e6) as u64);
        let reports = self.watch.look(now, map, detections).unwrap();
        self.shown = reports
            .iter()
            .filter(|r| r.sight.is_shown())
            .map(|r| (r.identity, r.box_in_image))
            .collect();
        self.watch.reports()
    }

    /// Who is shown where a box is.
    fn who(&self, b: BoxXywh) -> Option<u32> {
        let at = self.shown.iter().find(|(_, shown)| shown.iou(&b) > 0.5);
        at.map(|(identity, _)| *identity)
    }
}

fn car(b: BoxXywh) -> Detection<'static> {
    Detection {
        box_in_image: b,
        score: 0.9,
        kind: RoadUser::Car,
        embedding: &[],
    }
}

fn weak(b: BoxXywh) -> Detection<'static> {
    Detection {
        score: 0.2,
        ..car(b)
    }
}

/// A car of 80 x 60 that drives along the road.
fn along(x_px: f32) -> BoxXywh {
    BoxXywh::from_center(x_px, 400.0, 80.0, 60.0)
}

#[test]
fn two_who_cross_keep_their_names() {
    let mut scene = Scene::new();
    // Towards one another at 200 px a second, lanes 20 px apart: for half a second they overlap.
    let at = |t: f32| {
        (
            BoxXywh::from_center(400.0 + 200.0 * t, 400.0, 80.0, 60.0),
            BoxXywh::from_center(880.0 - 200.0 * t, 420.0, 80.0, 60.0),
        )
    };
    for frame in 0..72 {
        let t = frame as f32 / 30.0;
        let (a, b) = at(t);
        // The nearer hides the farther where they overlap by a third.
        let both = [car(b), car(a)];
        let seen = if a.iou(&b) > 0.33 {
            &both[..1]
        } else {
            &both[..]
        };
        scene.look(t, seen);
        if frame == 10 {
            assert_eq!((scene.who(b), scene.who(a)), (Some(1), Some(2)));
        }
    }
    let (a, b) = at(71.0 / 30.0);
    assert_eq!((scene.who(b), scene.who(a)), (Some(1), Some(2)));
}

#[test]
fn a_second_behind_a_lorry_is_survived() {
    let mut scene = Scene::new();
    for frame in 0..90 {
        let t = frame as f32 / 30.0;
        let place = along(300.0 + 150.0 * t);
        let hidden = (1.0..2.0).contains(&t);
        let seen = [car(place)];
        let reports = scene.look(t, if hidden { &[] } else { &seen });
        if frame > 10 {
            assert_eq!(reports.len(), 1, "at {t} s");
            assert_eq!(reports[0].identity, 1);
        }
        match reports.first().map(|r| r.sight) {
            Some(Sight::Seen { .. }) => assert!(!hidden),
            Some(Sight::Hidden { since } | Sight::Lost { since }) => {
                assert!(hidden && t - since.0 as f32 * 1e-6 < 1.1);
            }
            _ => {}
        }
    }
    assert_eq!(scene.who(along(300.0 + 150.0 * 89.0 / 30.0)), Some(1));
}

#[test]
fn dropped_frames_and_uneven_times_change_no_name() {
    let mut scene = Scene::new();
    let mut t = 0.0;
    for step in 0..40 {
        // 30 frames a second with a hole of a third of a second now and then.
        t += if step % 9 == 8 { 0.33 } else { 0.033 };
        let place = along(200.0 + 180.0 * t);
        scene.look(t, &[car(place)]);
        if step > 4 {
            assert_eq!(scene.who(place), Some(1), "at {t} s");
        }
    }
}

#[test]
fn what_is_believed_depends_on_time_and_not_on_the_frame_rate() {
    let config = WatchConfig::default();
    for fps in [10.0, 30.0, 120.0] {
        let mut scene = Scene::with(config);
        let mut first = None;
        for frame in 0..(fps as usize) {
            let t = frame as f32 / fps;
            scene.look(t, &[car(along(300.0))]);
            if first.is_none() && !scene.shown.is_empty() {
                first = Some(t);
            }
        }
        let wait = first.unwrap() - config.life.confirm_after_seconds;
        assert!(
            (-1e-4..=1.01 / fps).contains(&wait),
            "{fps} a second: {wait} s late"
        );
    }
}

#[test]
fn a_false_alarm_of_one_frame_is_never_shown() {
    let mut scene = Scene::new();
    for frame in 0..30 {
        let ghost = [car(along(300.0))];
        scene.look(frame as f32 / 30.0, if frame == 7 { &ghost } else { &[] });
        assert!(scene.shown.is_empty());
    }
}

#[test]
fn a_detector_that_blinks_leaves_no_hole() {
    let mut scene = Scene::new();
    for frame in 0..60 {
        let t = frame as f32 / 30.0;
        let place = along(300.0 + 120.0 * t);
        let seen = [car(place)];
        scene.look(t, if frame % 10 == 9 { &[] } else { &seen });
        if frame > 5 {
            assert_eq!(scene.who(place), Some(1), "frame {frame}");
        }
    }
}

#[test]
fn weak_detections_carry_whoever_is_known_and_begin_nobody() {
    let mut scene = Scene::new();
    for frame in 0..60 {
        let t = frame as f32 / 30.0;
        let (known, nobody) = (along(300.0 + 60.0 * t), along(900.0));
        let fades = if frame < 15 { car(known) } else { weak(known) };
        scene.look(t, &[fades, weak(nobody)]);
        if frame > 5 {
            assert_eq!((scene.who(known), scene.who(nobody)), (Some(1), None));
        }
    }
}

#[test]
fn whoever_leaves_the_picture_is_forgotten_and_another_gets_another_name() {
    let mut scene = Scene::new();
    let mut last = 0.0;
    for frame in 0..60 {
        last = frame as f32 / 30.0;
        // Over the right edge after a second.
        let place = along(1000.0 + 260.0 * last);
        let seen = [car(place)];
        let inside = place.clip(1280, 720).is_some_and(|part| part.w_px > 20.0);
        scene.look(last, if inside { &seen } else { &[] });
    }
    assert!(scene.watch.reports().is_empty());
    for frame in 0..10 {
        scene.look(last + 0.1 + frame as f32 / 30.0, &[car(along(1200.0))]);
    }
    assert_eq!(scene.who(along(1200.0)), Some(2));
}

#[test]
fn whoever_is_found_again_keeps_the_place_that_somebody_new_would_have() {
    let mut config = WatchConfig::default();
    config.room.tracks = 1;
    let mut scene = Scene::with(config);
    let (known, new) = (along(300.0), along(900.0));
    for frame in 0..80 {
        let both = [car(known), car(new)];
        let seen = match frame {
            0..20 => &both[..1],
            // Two thirds of a second: lost, and not yet forgotten.
            20..40 => &[],
            _ => &both[..],
        };
        scene.look(frame as f32 / 30.0, seen);
    }
    assert_eq!((scene.who(known), scene.who(new)), (Some(1), None));
}

#[test]
fn where_there_is_not_room_for_all_detections_the_surest_are_taken() {
    let mut config = WatchConfig::default();
    config.room.detections = 2;
    let mut scene = Scene::with(config);
    let at = [300.0, 500.0, 700.0, 900.0].map(along);
    let scores = [f32::NAN, 0.4, 0.9, 0.8];
    for frame in 0..10 {
        let seen: Vec<Detection<'_>> = at
            .iter()
            .zip(scores)
            .map(|(b, score)| Detection { score, ..car(*b) })
            .collect();
        let reports = scene.look(frame as f32 / 30.0, &seen);
        if frame > 5 {
            let sights: Vec<Sight> = reports.iter().map(|r| r.sight).collect();
            // By their places among all.
            let seen = |detection| Sight::Seen { detection };
            assert_eq!(sights, [seen(2), seen(3)]);
        }
    }
    let who = at.map(|b| scene.who(b));
    assert_eq!(who, [None, None, Some(1), Some(2)]);
}

/// Four cars that stand in the world, seen by a camera that turned by so many pixels.
fn parked(turned_px: f32) -> Vec<Detection<'static>> {
    [(200.0, 40.0), (420.0, 70.0), (700.0, 55.0), (880.0, 90.0)]
        .map(|(x, side)| {
            let (w, h) = (1.4 * side, side);
            car(BoxXywh::from_center(x - turned_px, 380.0 + side, w, h))
        })
        .into()
}

/// Turns suddenly by 90 px, more than any box is wide; says whether everybody kept their name.
fn survives_a_jerk(config: WatchConfig, told: bool) -> bool {
    let mut scene = Scene::with(config);
    let (mut before, mut after) = (Vec::new(), Vec::new());
    for frame in 0..20 {
        let turned = if frame < 12 { 0.0 } else { 90.0 };
        let map = Affine2::translation(if frame == 12 { -90.0 } else { 0.0 }, 0.0);
        let seen = parked(turned);
        scene.look_moved(frame as f32 / 30.0, told.then_some(&map), &seen);
        let who = seen.iter().map(|d| scene.who(d.box_in_image)).collect();
        if frame == 11 {
            before = who;
        } else if frame == 19 {
            after = who;
        }
    }
    assert_eq!(before, [Some(1), Some(2), Some(3), Some(4)]);
    before == after
}

#[test]
fn a_jerk_of_the_camera_that_is_told_changes_no_name() {
    assert!(survives_a_jerk(WatchConfig::default(), true));
}

#[test]
fn a_jerk_that_is_not_told_is_estimated_from_what_all_do() {
    assert!(survives_a_jerk(WatchConfig::default(), false));
    // Without that, it would not be survived: the test above tests something.
    let blind = WatchConfig {
        camera: CameraConfig {
            estimate: false,
            ..CameraConfig::default()
        },
        ..WatchConfig::default()
    };
    assert!(!survives_a_jerk(blind, false));
}

#[test]
fn a_camera_that_zooms_and_rolls_as_told_changes_no_name() {
    let mut scene = Scene::new();
    let mut places: Vec<(f32, f32)> = vec![(500.0, 300.0), (800.0, 420.0), (600.0, 520.0)];
    let mut side = 40.0;
    for frame in 0..20 {
        let map = if frame == 10 {
            // 1.2 times as large and 10 degrees about (640, 360).
            let (sin, cos) = 10_f32.to_radians().sin_cos();
            let (a, b) = (1.2 * cos, 1.2 * sin);
            Affine2 {
                x_from_x: a,
                x_from_y: -b,
                x_px: 640.0 - 640.0 * a + 360.0 * b,
                y_from_x: b,
                y_from_y: a,
                y_px: 360.0 - 640.0 * b - 360.0 * a,
            }
        } else {
            Affine2::IDENTITY
        };
        for place in &mut places {
            *place = map.apply(*place);
        }
        side *= map.scale().unwrap();
        let boxes: Vec<BoxXywh> = places
            .iter()
            .map(|(x, y)| BoxXywh::from_center(*x, *y, side, side))
            .collect();
        let seen: Vec<Detection<'_>> = boxes.iter().map(|b| car(*b)).collect();
        scene.look_moved(frame as f32 / 30.0, Some(&map), &seen);
        if frame > 5 {
            let who: Vec<_> = boxes.iter().map(|b| scene.who(*b)).collect();
            assert_eq!(who, [Some(1), Some(2), Some(3)], "frame {frame}");
        }
    }
}

/// Two who leave together and come back, each where the other one was: who is at the left and who at the right then. `looks`
/// are of the one and of the other, before and after.
fn who_came_back(metric: Option<LooksMetric>, looks: [[[f32; 4]; 2]; 2]) -> [Option<u32>; 2] {
    let mut config = WatchConfig::default();
    config.room.embedding = 4;
    let mut scene = Scene::by_looks(config, metric);
    let place = |x: f32| BoxXywh::from_center(x, 400.0, 60.0, 60.0);
    let show = |scene: &mut Scene, t: f32, at: [f32; 2], looks: &[[f32; 4]; 2]| {
        let seen = [0, 1].map(|k| Detection {
            embedding: &looks[k],
            ..car(place(at[k]))
        });
        scene.look(t, &seen);
    };
    let [before, after] = looks;
    for frame in 0..20 {
        show(&mut scene, frame as f32 / 30.0, [600.0, 680.0], &before);
    }
    let both = [600.0, 680.0].map(place);
    assert_eq!(both.map(|b| scene.who(b)), [Some(1), Some(2)]);
    for frame in 20..55 {
        scene.look(frame as f32 / 30.0, &[]);
    }
    for frame in 55..65 {
        show(&mut scene, frame as f32 / 30.0, [680.0, 600.0], &after);
    }
    both.map(|b| scene.who(b))
}

#[test]
fn looks_tell_who_came_back_of_two_who_left_together() {
    let looks = [[1.0, 0.0, 0.2, 0.0], [0.0, 1.0, 0.0, 0.2]];
    assert_eq!(who_came_back(None, [looks; 2]), [Some(2), Some(1)]);
}

#[test]
fn a_learned_distance_tells_who_came_back_where_the_light_deceives_the_cosine() {
    // The last number is the light, which each came back into from the other one's.
    let before = [[0.3, 0.0, 0.0, 1.0], [0.0, 0.3, 0.0, -1.0]];
    let after = [[0.3, 0.0, 0.0, -1.0], [0.0, 0.3, 0.0, 1.0]];
    let metric = LooksMetric {
        rows: vec![vec![4.0, 0.0, 0.0, 0.0], vec![0.0, 4.0, 0.0, 0.0]],
    };
    let learned = who_came_back(Some(metric), [before, after]);
    assert_eq!(learned, [Some(2), Some(1)]);
    assert_ne!(who_came_back(None, [before, after]), learned);
}

#[test]
fn frames_that_nobody_looks_at_show_everybody_where_they_should_be() {
    let mut scene = Scene::new();
    for frame in 0..60 {
        let t = frame as f32 / 30.0;
        let place = along(300.0 + 150.0 * t);
        if frame % 3 == 0 {
            scene.look(t, &[car(place)]);
        } else {
            let reports = scene.watch.coast(Timestamp((t * 1e6) as u64), None);
            if frame > 15 {
                assert!(matches!(reports[0].sight, Sight::Expected { .. }));
                assert!(reports[0].box_in_image.iou(&place) > 0.8, "frame {frame}");
            }
        }
    }
}

#[test]
fn the_class_is_what_was_said_most() {
    let mut scene = Scene::new();
    for frame in 0..30 {
        let kind = if frame % 4 == 3 {
            RoadUser::Bus
        } else {
            RoadUser::Truck
        };
        let seen = [Detection {
            kind,
            ..car(along(400.0))
        }];
        scene.look(frame as f32 / 30.0, &seen);
    }
    let report = scene.watch.reports()[0];
    assert_eq!((report.identity, report.kind), (1, RoadUser::Truck));
}

#[test]
fn an_embedding_of_another_length_is_refused_and_changes_nothing() {
    let mut config = WatchConfig::default();
    config.room.embedding = 4;
    let mut watch = Watch::new(config, 640, 360).unwrap();
    let seen = [Detection {
        embedding: &[1.0, 2.0],
        ..car(along(300.0))
    }];
    let refused = watch.look(Timestamp(0), None, &seen).unwrap_err();
    let expected = WatchError::Embedding {
        detection: 0,
        found: 2,
        expected: 4,
    };
    assert_eq!(refused, expected);
    assert_eq!(
        refused.to_string(),
        "detection 0 has an embedding of 2 numbers, expected 4 or none"
    );
    assert!(watch.reports().is_empty());
}
