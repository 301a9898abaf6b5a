//! Each line of the table of phases, and what the box does in each phase.

use roadhound_shared::frame::Timestamp;
use roadhound_shared::geometry::BoxXywh;
use roadhound_shared::tracker::{Phase, Tracker, TrackerConfig};

use crate::script::{FRAME_MICROS, IMAGE_PX, Object, STRANGER, Script, TARGET, car, contract};

fn far_away() -> BoxXywh {
    BoxXywh::new(100.0, 100.0, 80.0, 80.0)
}

#[test]
fn a_target_that_is_seen_is_tracked() {
    let mut script = Script::new();
    for step in 1..60 {
        let truth = car().translated(4.0 * step as f32, 1.0 * step as f32);
        let report = script.see(truth);
        assert_eq!(report.phase, Phase::Tracking);
        let iou = report.box_in_image.unwrap().iou(&truth);
        assert!(iou > 0.9, "frame {step}: {iou}");
    }
}

#[test]
fn low_presence_makes_the_target_uncertain_at_once() {
    let mut script = Script::new();
    script.see(car());
    let report = script.look(0.35, &[Object::target(car())]);
    assert_eq!(report.phase, Phase::Uncertain);
    assert_eq!(report.since, script.at);
    assert!(report.box_in_image.is_some());
}

#[test]
fn a_low_score_makes_the_target_uncertain() {
    let mut script = Script::new();
    assert_eq!(script.look(0.9, &[]).phase, Phase::Uncertain);
}

#[test]
fn a_stranger_makes_the_target_uncertain_where_the_bundle_says_so() {
    let mut script = Script::overridden("presence.uncertain_below_similarity = 0.2");
    let report = script.look(0.9, &[Object::stranger(car())]);
    assert_eq!(report.phase, Phase::Uncertain);
}

#[test]
fn an_uncertain_target_keeps_its_size_and_moves_only_part_of_the_way() {
    let mut script = Script::new();
    let before = script.see(car()).box_in_image.unwrap();
    let elsewhere = BoxXywh::new(620.0, 300.0, 160.0, 160.0);
    let after = script
        .look(0.35, &[Object::target(elsewhere)])
        .box_in_image
        .unwrap();
    assert_eq!((after.w_px, after.h_px), (before.w_px, before.h_px));
    let moved = after.center().0 - before.center().0;
    let offered = elsewhere.center().0 - before.center().0;
    assert!(moved > 0.2 * offered && moved < 0.8 * offered, "{moved}");
}

#[test]
fn an_uncertain_target_is_tracked_again_only_above_the_upper_threshold() {
    let mut script = Script::new();
    script.look(0.35, &[Object::target(car())]);
    let between = script.look(0.42, &[Object::target(car())]);
    assert_eq!(between.phase, Phase::Uncertain);
    let above = script.look(0.5, &[Object::target(car())]);
    assert_eq!(above.phase, Phase::Tracking);
}

#[test]
fn absence_is_reported_within_150_ms_at_common_frame_rates() {
    for frames_per_second in [10_u64, 15, 25, 30, 50, 60] {
        let mut script = Script::new();
        script.see(car());
        let last_seen = script.at;
        let micros = 1_000_000 / frames_per_second;
        let lost = (0..20).find_map(|_| {
            let report = script.look_after(micros, 0.1, &[]);
            report.box_in_image.is_none().then_some(script.at)
        });
        let millis = lost.unwrap().micros_since(last_seen) / 1000;
        // One low look proves nothing: a slow camera needs two, and the third may be past the time.
        let limit = 150.max(3 * 1000 / frames_per_second);
        assert!(millis <= limit, "{frames_per_second} fps: {millis} ms");
    }
}

#[test]
fn two_bad_frames_do_not_lose_the_target() {
    let mut script = Script::new();
    script.see(car());
    for _ in 0..2 {
        assert_eq!(script.see_nothing().phase, Phase::Uncertain);
    }
    assert_eq!(script.see(car()).phase, Phase::Tracking);
}

#[test]
fn low_presence_that_recovers_in_between_starts_the_clock_anew() {
    let mut script = Script::new();
    script.see(car());
    for _ in 0..10 {
        script.look(0.2, &[]);
        script.look(0.2, &[]);
        let report = script.look(0.35, &[]);
        assert_eq!(report.phase, Phase::Uncertain);
    }
}

#[test]
fn presence_of_nearly_zero_loses_the_target_at_once() {
    let mut script = Script::new();
    script.see(car());
    let report = script.look(0.01, &[Object::target(car())]);
    assert_eq!(report.phase, Phase::Lost);
    assert_eq!(report.box_in_image, None);
    assert_eq!(report.since, script.at);
}

#[test]
fn a_target_may_be_uncertain_only_as_long_as_the_bundle_says() {
    let mut script = Script::overridden("presence.uncertain_at_most_millis = 500");
    let phases: Vec<_> = (0..30)
        .map(|_| script.look(0.35, &[Object::target(car())]).phase)
        .collect();
    assert_eq!(phases[14], Phase::Uncertain);
    assert_eq!(phases[16], Phase::Lost);
}

#[test]
fn a_camera_that_stops_loses_the_target() {
    let mut script = Script::new();
    script.see(car());
    assert_eq!(script.skip(1_400_000).phase, Phase::Tracking);
    let report = script.skip(200_000);
    assert_eq!(report.phase, Phase::Lost);
    assert_eq!(report.box_in_image, None);
}

#[test]
fn a_long_gap_without_a_word_loses_the_target_too() {
    let mut script = Script::new();
    script.see(car());
    let report = script.look_after(2_000_000, 0.95, &[Object::stranger(car())]);
    assert_eq!(report.phase, Phase::Lost);
}

#[test]
fn a_target_seen_again_after_a_minute_without_a_word_was_lost_for_most_of_it() {
    let mut script = Script::new();
    script.see(car());
    let last_seen = script.at;
    let report = script.look_after(60_000_000, 0.95, &[Object::target(car())]);
    assert_eq!(report.phase, Phase::Lost);
    assert_eq!(report.since, last_seen.plus_millis(1500));
    // As whoever was lost for long: looks in a row.
    assert_eq!(script.see(car()).phase, Phase::Tracking);
}

#[test]
fn a_frame_that_is_skipped_after_a_minute_says_since_when_the_target_is_lost() {
    let mut script = Script::new();
    script.see(car());
    let last_seen = script.at;
    let report = script.skip(60_000_000);
    assert_eq!(report.phase, Phase::Lost);
    assert_eq!(report.since, last_seen.plus_millis(1500));
    assert_eq!(script.see(car()).phase, Phase::Lost);
}

#[test]
fn a_target_that_silence_lost_a_moment_ago_comes_back_in_one_look() {
    let mut script = Script::new();
    script.see(car());
    let report = script.look_after(1_600_000, 0.95, &[Object::target(car())]);
    assert_eq!(report.phase, Phase::Tracking);
}

#[test]
fn a_skipped_frame_reports_where_the_target_should_be() {
    let mut script = Script::overridden("motion.prediction_weight = 1.0");
    for step in 1..20 {
        script.see(car().translated(6.0 * step as f32, 0.0));
    }
    let report = script.skip(33_333);
    let expected = car().translated(6.0 * 20.0, 0.0);
    let iou = report.box_in_image.unwrap().iou(&expected);
    assert!(iou > 0.95, "{iou}");
}

#[test]
fn a_lost_target_is_claimed_after_looks_in_a_row() {
    let mut script = Script::new();
    script.lose();
    for _ in 0..12 {
        script.see_nothing(); // longer than `soon_millis`
    }
    assert_eq!(script.see(car()).phase, Phase::Lost);
    let report = script.see(car());
    assert_eq!(report.phase, Phase::Tracking);
    assert!(report.box_in_image.unwrap().iou(&car()) > 0.99);
}

#[test]
fn a_target_lost_by_mistake_comes_back_in_one_look() {
    let mut script = Script::new();
    script.lose();
    assert_eq!(script.see(car()).phase, Phase::Tracking);
}

#[test]
fn soon_after_the_loss_another_place_still_needs_looks_in_a_row() {
    let mut script = Script::new();
    script.lose();
    let next_door = car().translated(70.0, 0.0);
    assert_eq!(script.see(next_door).phase, Phase::Lost);
    assert_eq!(script.see(next_door).phase, Phase::Tracking);
}

#[test]
fn a_stranger_is_never_claimed() {
    let mut script = Script::new();
    script.lose();
    for _ in 0..200 {
        let report = script.look(0.99, &[Object::stranger(car())]);
        assert_eq!(report.phase, Phase::Lost);
        assert_eq!(report.box_in_image, None);
    }
}

#[test]
fn the_target_is_claimed_beside_a_stranger_that_scores_higher() {
    let mut script = Script::new();
    script.lose();
    let stranger = Object {
        score: 0.99,
        ..Object::stranger(car())
    };
    let beside = car().translated(90.0, 0.0);
    let target = Object {
        score: 0.6,
        ..Object::target(beside)
    };
    script.look(0.95, &[stranger, target]);
    let report = script.look(0.95, &[stranger, target]);
    assert!(report.box_in_image.unwrap().iou(&beside) > 0.95);
}

#[test]
fn looks_at_two_places_do_not_add_up() {
    let mut script = Script::overridden("search.sweep_every = 0\nreclaim.soon_millis = 0");
    script.lose();
    let places = [car().translated(-90.0, 0.0), car().translated(90.0, 0.0)];
    for step in 0..40 {
        let report = script.see(places[step % 2]);
        assert_eq!(report.phase, Phase::Lost, "look {step}");
    }
}

#[test]
fn a_look_without_support_in_between_ends_the_claim() {
    let mut script = Script::overridden("reclaim.frames = 3\nreclaim.soon_millis = 0");
    script.lose();
    for _ in 0..10 {
        script.see(car());
        script.see(car());
        assert_eq!(script.see_nothing().phase, Phase::Lost);
    }
}

#[test]
fn a_box_of_quite_another_size_is_not_claimed() {
    let mut script = Script::new();
    script.lose();
    let giant = BoxXywh::from_center(640.0, 340.0, 300.0, 300.0);
    for _ in 0..60 {
        assert_eq!(script.see(giant).phase, Phase::Lost);
    }
}

#[test]
fn the_window_widens_while_the_target_is_lost_but_not_without_end() {
    let mut script = Script::overridden("search.sweep_every = 0");
    script.see(car());
    let normal = script.window.w_px;
    let mut last = 0.0;
    script.lose();
    for _ in 0..300 {
        script.see_nothing();
        assert!(script.window.w_px >= last);
        last = script.window.w_px;
    }
    assert!((last / normal - 1.8).abs() < 0.01, "{}", last / normal);
}

#[test]
fn the_window_is_back_to_normal_once_the_target_is_tracked() {
    let mut script = Script::new();
    script.see(car());
    let normal = script.window.w_px;
    script.lose();
    for _ in 0..20 {
        script.see_nothing();
    }
    while script.see(car()).phase == Phase::Lost {}
    script.see(car());
    assert!((script.window.w_px / normal - 1.0).abs() < 0.02);
}

#[test]
fn a_target_that_comes_back_at_the_other_end_of_the_image_is_found() {
    let mut script = Script::new();
    script.lose();
    let found = (0..300).any(|_| script.see(far_away()).phase == Phase::Tracking);
    assert!(found);
    let report = script.see(far_away());
    assert!(report.box_in_image.unwrap().iou(&far_away()) > 0.9);
}

#[test]
fn a_lost_target_is_found_where_it_was_heading() {
    // Without the sweep, which would come by in the end.
    let mut script = Script::overridden("search.sweep_every = 0");
    // A box side in a third of a second, to the left.
    let car_at = |step: usize| car().translated(-8.0 * step as f32, 0.0);
    for step in 1..31 {
        assert_eq!(script.see(car_at(step)).phase, Phase::Tracking);
    }
    for step in 31..76 {
        let phase = script.see_nothing().phase;
        assert!(step < 40 || phase == Phase::Lost, "step {step}");
    }
    let back = (76..90).find(|step| script.see(car_at(*step)).phase == Phase::Tracking);
    assert!(back.is_some_and(|step| step < 80), "{back:?}");
    assert!(script.see(car_at(back.unwrap() + 1)).box_in_image.is_some());
}

#[test]
fn a_lost_target_is_also_looked_for_ahead_and_then_everywhere_in_the_same_frames() {
    let mut script = Script::overridden("search.sweep_after_millis = 400");
    for step in 1..31 {
        let there = Object::target(car().translated(-4.0 * step as f32, 0.0));
        script.look_once(0.95, &[there]);
        assert_eq!(script.look_again(0.95, &[]), None, "while tracked");
    }
    script.lose();
    assert_eq!(script.look_again(0.1, &[]), None, "just lost");
    let (last, _) = car().translated(-120.0, 0.0).center();
    let mut places = Vec::new();
    for step in 1..60 {
        script.look_once(0.1, &[]);
        assert!(
            (script.window.cx_px - last).abs() < 2.0,
            "the usual one stays"
        );
        assert!(script.look_again(0.1, &[]).is_some(), "frame {step}");
        let beside = script.beside.unwrap();
        if step < 12 {
            assert!(beside.cx_px < last, "ahead: {beside:?}");
        }
        places.push((beside.cx_px as i32, beside.cy_px as i32));
        assert_eq!(script.look_again(0.1, &[]), None, "one is enough");
    }
    places.sort_unstable();
    places.dedup();
    assert!(
        places.iter().any(|(x, _)| *x > car().center().0 as i32),
        "{places:?}"
    );
    script.skip(FRAME_MICROS);
    assert_eq!(script.look_again(0.1, &[]), None, "not looked at");
}

#[test]
fn the_sweep_beside_leaves_no_place_out_whether_the_target_had_a_course_or_not() {
    for speed in [0.0, -4.0] {
        let mut script =
            Script::overridden("search.sweep_after_millis = 0\nsearch.widen_per_second = 0");
        for step in 1..31 {
            script.see(car().translated(speed * step as f32, 0.0));
        }
        script.lose();
        let mut columns = Vec::new();
        for _ in 0..80 {
            script.see_nothing();
            let beside = script.beside.unwrap();
            columns.push((beside.cx_px as i32, beside.cy_px as i32));
        }
        let seen = |x: f32, y: f32| {
            let side = 0.5 * script.window.w_px;
            columns
                .iter()
                .any(|(cx, cy)| (*cx as f32 - x).abs() <= side && (*cy as f32 - y).abs() <= side)
        };
        for x in (2..IMAGE_PX.0).step_by(60) {
            for y in (2..IMAGE_PX.1).step_by(60) {
                assert!(seen(x as f32, y as f32), "{x}, {y} at speed {speed}");
            }
        }
    }
}

#[test]
fn no_window_of_a_frame_is_looked_at_twice_and_no_place_of_the_sweep_is_left_out() {
    for (looks_beside, ahead_every) in [(2, 2), (3, 2), (4, 1), (4, 2), (3, 5)] {
        let mut script = Script::overridden(&format!(
            "search.looks_beside = {looks_beside}\nsearch.ahead_every = {ahead_every}\n\
             search.widen_per_second = 0"
        ));
        for step in 1..31 {
            script.see(car().translated(-4.0 * step as f32, 0.0));
        }
        script.lose();
        let (mut places, mut most, mut least) = (Vec::new(), 0, usize::MAX);
        for frame in 0..60 {
            script.look_once(0.1, &[]);
            let mut windows = vec![script.window];
            while script.look_again(0.1, &[]).is_some() {
                windows.push(script.beside.unwrap());
            }
            for (n, window) in windows.iter().enumerate() {
                assert!(
                    !windows[..n].contains(window),
                    "{looks_beside}, {ahead_every}, frame {frame}: {windows:?}"
                );
            }
            most = most.max(windows.len());
            least = least.min(windows.len());
            places.extend(windows);
        }
        // Ahead alone before the sweep begins, and all that there may be after.
        assert_eq!((least, most), (2, 1 + looks_beside));
        for x in (2..IMAGE_PX.0).step_by(60) {
            for y in (2..IMAGE_PX.1).step_by(60) {
                let seen = places.iter().any(|w| {
                    let side = 0.5 * w.w_px;
                    (w.cx_px - x as f32).abs() <= side && (w.cy_px - y as f32).abs() <= side
                });
                assert!(seen, "{looks_beside}, {ahead_every}: {x}, {y}");
            }
        }
    }
}

#[test]
fn a_frame_whose_usual_window_supports_a_claim_is_not_swept() {
    let mut script = Script::overridden("reclaim.soon_millis = 0\nreclaim.frames = 5");
    script.lose();
    for _ in 0..60 {
        script.see_nothing();
    }
    assert!(script.beside.is_some());
    script.see(car());
    assert_eq!(script.beside, None);
}

#[test]
fn the_usual_window_is_what_is_reported_unless_another_supports_a_claim() {
    let mut script = Script::overridden("search.sweep_after_millis = 0\nreclaim.soon_millis = 0");
    for _ in 0..30 {
        script.see(car());
    }
    script.lose();
    for (usual, beside) in [(0.2, 0.1), (0.1, 0.2)] {
        script.look_once(usual, &[]);
        let report = script.look_again(beside, &[]).unwrap();
        assert!((report.presence - usual).abs() < 1e-6, "{report:?}");
    }
    let claims = (0..60).filter(|_| {
        script.look_once(0.1, &[]);
        let report = script.look_again(0.9, &[Object::target(far_away())]);
        report.is_some_and(|report| report.presence > 0.8)
    });
    assert!(claims.count() >= 2, "the sweep comes by");
}

#[test]
fn a_sweep_can_take_the_usual_windows_place_instead() {
    let mut script = Script::overridden("search.looks_beside = 0\nsearch.sweep_after_millis = 0");
    script.lose();
    let mut elsewhere = 0;
    for _ in 0..20 {
        script.see_nothing();
        elsewhere += u32::from((script.window.cx_px - car().center().0).abs() > 20.0);
        assert_eq!(script.beside, None);
    }
    assert!((6..=10).contains(&elsewhere), "{elsewhere}");
}

#[test]
fn looks_ahead_in_the_usual_ones_place_are_every_second_one_and_a_parked_target_has_nothing_ahead()
{
    let in_turns = "search.sweep_every = 0\nsearch.looks_beside = 0";
    let mut moving = Script::overridden(in_turns);
    let mut parked = Script::overridden(in_turns);
    for step in 1..31 {
        moving.see(car().translated(-8.0 * step as f32, 0.0));
        parked.see(car());
    }
    let mut ahead = 0;
    for _ in 0..60 {
        moving.see_nothing();
        parked.see_nothing();
        let (last, _) = car().translated(-240.0, 0.0).center();
        let x = moving.window.cx_px;
        ahead += u32::from(x < last - 20.0);
        let x = parked.window.cx_px;
        assert!((x - car().center().0).abs() < 2.0, "{x}");
    }
    assert!((20..=30).contains(&ahead), "{ahead} of 60");
}

#[test]
fn the_sweep_sees_every_corner_and_keeps_an_eye_on_the_last_place() {
    let mut script = Script::new();
    script.lose();
    let (mut windows, mut near) = (Vec::new(), 0);
    for _ in 0..200 {
        script.see_nothing();
        windows.push(script.window);
        windows.extend(script.beside);
        let (cx, cy) = car().center();
        near += u32::from(script.window.cx_px == cx && script.window.cy_px == cy);
    }
    let (width, height) = (IMAGE_PX.0 as f32, IMAGE_PX.1 as f32);
    for corner in [
        (2.0, 2.0),
        (width - 2.0, 2.0),
        (2.0, height - 2.0),
        (width - 2.0, height - 2.0),
    ] {
        let seen = windows.iter().any(|w| {
            (w.cx_px - corner.0).abs() < 0.5 * w.w_px && (w.cy_px - corner.1).abs() < 0.5 * w.h_px
        });
        assert!(seen, "{corner:?}");
    }
    assert!(near >= 100, "{near}");
}

#[test]
fn a_new_template_is_wanted_from_trusted_frames_only_and_not_too_often() {
    let mut script = Script::new();
    let mut wanted = Vec::new();
    for frame in 0..60 {
        script.see(car());
        if script.tracker.template_wanted().is_some() {
            wanted.push(frame);
            assert!(script.tracker.accept_template(&TARGET));
        }
    }
    assert_eq!(wanted, [9, 19, 29, 39, 49, 59]);

    for _ in 0..60 {
        script.look(0.6, &[Object::target(car())]); // tracked, not trusted
        assert_eq!(script.tracker.phase(), Phase::Tracking);
        assert_eq!(script.tracker.template_wanted(), None);
    }
}

#[test]
fn a_stranger_gives_no_template() {
    let mut script = Script::new();
    for _ in 0..60 {
        let report = script.look(0.95, &[Object::stranger(car())]);
        assert_eq!(report.phase, Phase::Tracking);
        assert_eq!(script.tracker.template_wanted(), None);
    }
}

#[test]
fn a_template_that_does_not_look_like_the_target_is_refused() {
    let mut script = Script::new();
    while script.tracker.template_wanted().is_none() {
        script.see(car());
    }
    assert!(!script.tracker.accept_template(&STRANGER));
    script.see(car());
    // It is not asked for again with the very next frame.
    assert_eq!(script.tracker.template_wanted(), None);
}

#[test]
fn a_box_half_outside_the_image_gives_no_template_and_is_cut_off() {
    let mut script = Script::new();
    for step in 1..80 {
        script.see(car().translated(8.0 * step as f32, 0.0));
    }
    let edge = BoxXywh::new(1240.0, 300.0, 80.0, 80.0);
    for _ in 0..30 {
        let report = script.see(edge);
        assert_eq!(script.tracker.template_wanted(), None);
        let found = report.box_in_image.unwrap();
        assert!(found.right_px() <= 1280.0);
        assert!((found.w_px - 40.0).abs() < 2.0, "{found:?}");
    }
}

#[test]
fn the_box_grows_no_faster_than_the_bundle_allows() {
    let mut script = Script::overridden("shape.size_rate = 1.0\ndecode.shape_penalty = 0.0");
    let mut before = car();
    for _ in 0..10 {
        let found = script
            .see(BoxXywh::from_center(640.0, 340.0, 600.0, 600.0))
            .box_in_image
            .unwrap();
        let growth = found.w_px / before.w_px;
        assert!(growth < 1.15, "{growth}"); // e^(4 / 30)
        before = found;
    }
    assert!(before.w_px > 200.0);
}

#[test]
fn the_size_is_smoothed_by_time_not_by_frames() {
    let larger = BoxXywh::from_center(640.0, 340.0, 90.0, 90.0);
    let width_after = |frames: u64, micros: u64| {
        let mut script = Script::new();
        let mut last = car();
        for _ in 0..frames {
            let report = script.look_after(micros, 0.95, &[Object::target(larger)]);
            last = report.box_in_image.unwrap();
        }
        last.w_px
    };
    let (fast, slow) = (width_after(4, 16_667), width_after(1, 66_667));
    assert!((fast - slow).abs() < 0.3, "{fast} {slow}");
}

#[test]
fn the_window_leads_a_moving_target_and_a_shaken_one_stays_in_it() {
    let mut script = Script::new();
    for step in 1..20 {
        script.see(car().translated(8.0 * step as f32, 0.0));
    }
    let last = car().translated(8.0 * 19.0, 0.0).center().0;
    script.see(car().translated(8.0 * 20.0, 0.0));
    let lead = script.window.cx_px - last;
    assert!(lead > 2.0 && lead < 8.0, "{lead}");

    for step in 0..60 {
        let shake = if step % 2 == 0 { 30.0 } else { -30.0 };
        let truth = car().translated(160.0 + shake, shake);
        script.see(truth);
        let (cx, cy) = truth.center();
        let off = (script.window.cx_px - cx)
            .abs()
            .max((script.window.cy_px - cy).abs());
        assert!(off < 0.5 * script.window.w_px - 40.0, "frame {step}: {off}");
    }
}

#[test]
fn a_clock_that_jumps_back_stops_nothing() {
    let mut script = Script::new();
    script.see(car());
    assert_eq!(script.see_nothing().phase, Phase::Uncertain);
    script.at = Timestamp(0);
    assert_eq!(script.see_nothing().phase, Phase::Uncertain);
    let lost = script.lose();
    assert!(lost.since <= script.at);
    // The time that it was Uncertain before the jump counts.
    assert!(script.at.0 <= 4 * FRAME_MICROS, "{:?}", script.at);
}

#[test]
fn frames_without_time_are_followed_all_the_same() {
    let mut script = Script::new();
    for step in 1..30 {
        let truth = car().translated(5.0 * step as f32, 0.0);
        let report = script.look_after(0, 0.95, &[Object::target(truth)]);
        assert!(report.box_in_image.unwrap().iou(&truth) > 0.8);
    }
}

#[test]
fn a_box_that_no_one_could_follow_is_refused() {
    let mut tracker = Tracker::new(TrackerConfig::default(), &contract()).unwrap();
    let at = Timestamp(0);
    for bad in [
        BoxXywh::new(10.0, 10.0, 0.0, 20.0),
        BoxXywh::new(10.0, 10.0, -5.0, 20.0),
        BoxXywh::new(2000.0, 10.0, 20.0, 20.0),
        BoxXywh::new(f32::NAN, 10.0, 20.0, 20.0),
        BoxXywh::new(10.0, 10.0, f32::INFINITY, 20.0),
    ] {
        let error = tracker.start(bad, 640, 480, at).unwrap_err().to_string();
        assert!(error.contains("outside the 640x480 image"), "{error}");
        assert_eq!(tracker.phase(), Phase::Idle);
    }
    let error = tracker.start(car(), 0, 480, at).unwrap_err().to_string();
    assert!(error.starts_with("image is 0x480"), "{error}");
}

#[test]
fn an_idle_tracker_wants_nothing_and_says_so() {
    let mut script = Script::new();
    script.tracker.stop();
    assert_eq!(script.tracker.next_crop(script.at), None);
    let report = script.tracker.skip(script.at);
    assert_eq!((report.phase, report.box_in_image), (Phase::Idle, None));
    assert!(!script.tracker.accept_template(&TARGET));
}

#[test]
fn a_second_start_forgets_the_first_target() {
    let mut script = Script::new();
    script.lose();
    script
        .tracker
        .start(far_away(), IMAGE_PX.0, IMAGE_PX.1, script.at)
        .unwrap();
    assert!(script.tracker.accept_template(&STRANGER));
    let report = script.look(0.95, &[Object::stranger(far_away())]);
    assert_eq!(report.phase, Phase::Tracking);
    assert!(report.similarity > 0.99);
}
