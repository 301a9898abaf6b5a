//! Whatever the network, the clock and the user say: no panic, no NaN, no box outside sane bounds.

use proptest::prelude::*;
use roadhound_shared::contract::{FollowContract, FollowSizes};
use roadhound_shared::frame::Timestamp;
use roadhound_shared::geometry::BoxXywh;
use roadhound_shared::network::SearchOutputs;
use roadhound_shared::tracker::{Phase, Report, Tracker, TrackerConfig};

const CELLS: usize = 16;
const EMBEDDING: usize = 3;

/// A small network: arbitrary maps of 4x4 cells are quick to draw.
fn contract() -> FollowContract {
    FollowContract::new(FollowSizes {
        template_px: 32,
        search_px: 64,
        stride_px: 16,
        object_px: 16,
        feature_channels: 2,
        embedding_size: EMBEDDING,
    })
    .unwrap()
}

/// Half of the values are what a network says, half are anything at all.
fn value(usual: std::ops::Range<f32>) -> impl Strategy<Value = f32> {
    prop_oneof![
        4 => usual,
        2 => any::<f32>(),
        1 => prop_oneof![
            Just(f32::NAN), Just(f32::INFINITY), Just(f32::NEG_INFINITY),
            Just(f32::MAX), Just(f32::MIN), Just(f32::MIN_POSITIVE), Just(-0.0),
        ],
    ]
}

prop_compose! {
    fn outputs()(
        score in prop::collection::vec(value(0.0..1.0), CELLS),
        box_ltrb_px in prop::collection::vec(value(0.0..64.0), 4 * CELLS),
        presence in value(0.0..1.0),
        embedding in prop::collection::vec(value(-1.0..1.0), EMBEDDING * CELLS),
    ) -> SearchOutputs {
        SearchOutputs { score, box_ltrb_px, presence, embedding }
    }
}

#[derive(Debug, Clone)]
enum Step {
    /// A frame, and whether a template that is wanted is given.
    Look(SearchOutputs, Option<Vec<f32>>),
    /// A frame for which no window was asked.
    Unasked(SearchOutputs),
    /// A window that is asked for and never answered.
    Unanswered,
    Skip,
}

fn step() -> impl Strategy<Value = (u64, Step)> {
    let time = prop_oneof![
        4 => 0_u64..200_000,
        1 => any::<u64>(),
        1 => Just(u64::MAX),
    ];
    let embedding = prop::option::of(prop::collection::vec(value(-1.0..1.0), 0..6));
    let what = prop_oneof![
        6 => (outputs(), embedding).prop_map(|(outputs, embedding)| Step::Look(outputs, embedding)),
        1 => outputs().prop_map(Step::Unasked),
        1 => Just(Step::Unanswered),
        1 => Just(Step::Skip),
    ];
    (time, what)
}

fn initial() -> impl Strategy<Value = BoxXywh> {
    let usual = (
        0.0_f32..300.0,
        0.0_f32..200.0,
        1.0_f32..200.0,
        1.0_f32..200.0,
    );
    let anything = (
        value(-50.0..400.0),
        value(-50.0..300.0),
        value(0.0..600.0),
        value(0.0..600.0),
    );
    prop_oneof![usual.boxed(), anything.boxed()].prop_map(|(x, y, w, h)| BoxXywh::new(x, y, w, h))
}

/// What a bundle may ask for: the default, and the most excitable tracker that validates.
fn config() -> impl Strategy<Value = TrackerConfig> {
    let wild = TrackerConfig::default()
        .overridden(
            "decode.refine_radius_cells = 2\n decode.motion_weight = 0.3\n decode.candidates = 8\n\
             motion.prediction_weight = 1.0\n motion.size_prediction_weight = 1.0\n\
             motion.max_speed_sides_per_second = 1000.0\n motion.velocity_decay_seconds = 1000.0\n\
             motion.max_log_size_rate = 100.0\n shape.size_rate = 1.0\n\
             shape.max_log_growth_per_second = 100.0\n shape.max_side_of_image = 4.0\n\
             shape.clip_to_image = false\n shape.centre_rate_uncertain = 1.0\n\
             presence.lost_at_once_below = 0.0\n search.max_widening = 10.0\n\
             search.sweep_every = 1\n search.sweep_after_millis = 0\n search.sweep_overlap = 0.9\n\
             search.ahead_every = 1\n search.course_seconds = 0.01\n search.ahead_at_most_seconds = 100.0\n\
             search.looks_beside = 16\n\
             reclaim.frames = 1\n reclaim.millis = 0\n reclaim.min_similarity = -1.0\n\
             reclaim.min_presence = 0.0\n reclaim.min_score = 0.0\n template.min_presence = 0.0\n\
             template.min_score = 0.0\n template.min_similarity = -1.0\n\
             template.trusted_for_millis = 0\n template.refresh_millis = 1",
        )
        .unwrap();
    prop_oneof![Just(TrackerConfig::default()), Just(wild)]
}

fn check_report(
    report: &Report,
    config: &TrackerConfig,
    (width, height): (u32, u32),
) -> Result<(), TestCaseError> {
    for share in [report.score, report.presence] {
        prop_assert!((0.0..=1.0).contains(&share), "{report:?}");
    }
    prop_assert!((-1.0..=1.0).contains(&report.similarity), "{report:?}");
    let shows_box = matches!(report.phase, Phase::Tracking | Phase::Uncertain);
    prop_assert_eq!(report.box_in_image.is_some(), shows_box);
    let Some(found) = report.box_in_image else {
        return Ok(());
    };
    let (width, height) = (width as f32, height as f32);
    let (cx, cy) = found.center();
    // One part in ten thousand is what rounding of centre and corner costs.
    let slack = 1e-4 * width.max(height);
    prop_assert!(found.is_proper(), "{found:?}");
    prop_assert!((-slack..=width + slack).contains(&cx), "{found:?}");
    prop_assert!((-slack..=height + slack).contains(&cy), "{found:?}");
    let min = config.shape.min_side_px;
    let largest = |image: f32| (config.shape.max_side_of_image * image).max(min) + slack;
    prop_assert!(
        found.w_px <= largest(width) && found.h_px <= largest(height),
        "{found:?}"
    );
    if config.shape.clip_to_image {
        prop_assert!(
            found.x_px >= 0.0 && found.right_px() <= width + slack,
            "{found:?}"
        );
        prop_assert!(
            found.y_px >= 0.0 && found.bottom_px() <= height + slack,
            "{found:?}"
        );
    } else {
        prop_assert!(
            found.w_px >= 0.999 * min && found.h_px >= 0.999 * min,
            "{found:?}"
        );
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn nothing_makes_the_tracker_report_an_insane_box(
        config in config(),
        image_px in prop_oneof![4 => (16_u32..400, 16_u32..300), 1 => (1_u32..40_000, 1_u32..40_000)],
        initial in initial(),
        started_at in prop_oneof![Just(0), any::<u64>()],
        embedding in prop::collection::vec(value(-1.0..1.0), EMBEDDING),
        steps in prop::collection::vec(step(), 1..40),
        backwards in any::<bool>(),
    ) {
        let mut tracker = Tracker::new(config, &contract()).unwrap();
        let mut at = Timestamp(started_at);
        let Ok(window) = tracker.start(initial, image_px.0, image_px.1, at) else {
            prop_assert_eq!(tracker.phase(), Phase::Idle);
            return Ok(());
        };
        prop_assert!(window.to_box().is_proper());
        tracker.accept_template(&embedding);
        for (micros, step) in steps {
            at = Timestamp(if backwards && micros % 3 == 0 {
                at.0.saturating_sub(micros)
            } else {
                at.0.saturating_add(micros)
            });
            let report = match step {
                Step::Look(outputs, embedding) => {
                    let window = tracker.next_crop(at);
                    prop_assert!(window.is_some_and(|w| w.to_box().is_proper()), "{window:?}");
                    let mut report = tracker.accept(&outputs, at);
                    let mut looks = 1;
                    while let Some(window) = tracker.next_look(at) {
                        prop_assert!(window.to_box().is_proper());
                        report = tracker.accept(&outputs, at);
                        looks += 1;
                    }
                    prop_assert!(looks <= 1 + config.search.looks_beside, "{looks} looks");
                    if let (Some(window), Some(embedding)) = (tracker.template_wanted(), embedding) {
                        prop_assert!(window.to_box().is_proper());
                        tracker.accept_template(&embedding);
                    }
                    report
                }
                Step::Unasked(outputs) => tracker.accept(&outputs, at),
                Step::Unanswered => {
                    tracker.next_crop(at);
                    continue;
                }
                Step::Skip => tracker.skip(at),
            };
            prop_assert_eq!(report.captured_at, at);
            check_report(&report, &config, image_px)?;
        }
    }

    #[test]
    fn buffers_of_any_length_are_survived(
        lengths in (0_usize..40, 0_usize..100, 0_usize..80),
        presence in value(0.0..1.0),
    ) {
        let mut tracker = Tracker::new(TrackerConfig::default(), &contract()).unwrap();
        let initial = BoxXywh::new(40.0, 40.0, 30.0, 20.0);
        tracker.start(initial, 200, 100, Timestamp(0)).unwrap();
        let outputs = SearchOutputs {
            score: vec![0.9; lengths.0],
            box_ltrb_px: vec![8.0; lengths.1],
            presence,
            embedding: vec![0.5; lengths.2],
        };
        tracker.next_crop(Timestamp(33_000));
        let report = tracker.accept(&outputs, Timestamp(33_000));
        check_report(&report, &TrackerConfig::default(), (200, 100))?;
    }

    #[test]
    fn the_same_outputs_give_the_same_reports(
        steps in prop::collection::vec((0_u64..100_000, outputs()), 1..20),
    ) {
        let run = || {
            let mut tracker = Tracker::new(TrackerConfig::default(), &contract()).unwrap();
            tracker.start(BoxXywh::new(40.0, 40.0, 30.0, 20.0), 200, 100, Timestamp(0)).unwrap();
            tracker.accept_template(&[1.0, 0.0, 0.0]);
            let mut at = Timestamp(0);
            let mut text = String::new();
            for (micros, outputs) in &steps {
                at.0 += micros;
                tracker.next_crop(at);
                text += &format!("{:?}\n", tracker.accept(outputs, at));
            }
            text
        };
        prop_assert_eq!(run(), run());
    }
}
