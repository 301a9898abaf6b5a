//! Scores against figures worked out by hand.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use roadhound_shared::frame::Timestamp;
use roadhound_shared::geometry::BoxXywh;
use roadhound_shared::metrics::presence::{Return, TimedFrame, returns, roc_auc};
use roadhound_shared::metrics::{Convention, MetricsError, RunScore, ScoreBox};

const TRUTH: ScoreBox = ScoreBox::new(100.0, 100.0, 40.0, 20.0);
/// IoU 1/3, centre off by 20 px, half a width.
const HALF_OFF: ScoreBox = ScoreBox::new(120.0, 100.0, 40.0, 20.0);
/// IoU 0.6, centre off by 10 px, a quarter of a width.
const QUARTER_OFF: ScoreBox = ScoreBox::new(110.0, 100.0, 40.0, 20.0);

fn score(
    truth: &[Option<ScoreBox>],
    found: &[Option<ScoreBox>],
    convention: &Convention,
) -> RunScore {
    RunScore::of(truth, found, convention).unwrap()
}

#[track_caller]
fn close(found: f64, expected: f64) {
    assert!(
        (found - expected).abs() < 1e-12,
        "{found}, expected {expected}"
    );
}

#[test]
fn boxes_whose_areas_are_no_numbers_overlap_by_nothing() {
    // Of 1e-400 and 4e400 there is nothing and infinity.
    let speck = ScoreBox::new(0.0, 0.0, 1e-200, 1e-200);
    assert_eq!(speck.iou(&speck), 0.0);
    let world = ScoreBox::new(-1e200, -1e200, 2e200, 2e200);
    assert_eq!(world.iou(&world), 0.0);
}

#[test]
fn figures_of_a_short_run_are_as_worked_out_by_hand() {
    let truth = [
        Some(TRUTH),
        Some(TRUTH),
        Some(TRUTH),
        None,
        Some(TRUTH),
        None,
    ];
    let found = [
        Some(TRUTH),
        Some(HALF_OFF),
        Some(QUARTER_OFF),
        Some(TRUTH),
        None,
        None,
    ];
    let run = score(&truth, &found, &Convention::default());
    assert_eq!((run.frames, run.absent, run.false_alarms), (3, 2, 1));
    // 7 thresholds, 0 to 0.3, lie below 1/3; 12, 0 to 0.55, strictly below 0.6.
    close(run.success_auc, (7.0 + 12.0) / 21.0 / 3.0);
    close(run.average_overlap, (1.0 / 3.0 + 0.6) / 3.0);
    close(run.success_50, 1.0 / 3.0);
    close(run.success_75, 0.0);
    close(run.precision_20px, 2.0 / 3.0);
    close(run.normalised_precision_20, 0.0);
    // Thresholds 0.25 to 0.5 are 26, and 0.5 is one.
    close(run.normalised_precision_auc, 27.0 / 51.0 / 3.0);
    assert_eq!(run.false_alarm_rate(), Some(0.5));
}

#[test]
fn first_frame_counts_as_perfect_under_otb_only() {
    let (truth, found) = ([Some(TRUTH); 2], [Some(HALF_OFF), None]);
    let (ours, otb) = (
        score(&truth, &found, &Convention::default()),
        score(&truth, &found, &Convention::OTB),
    );
    assert_eq!((ours.frames, otb.frames), (1, 2));
    close(ours.success_auc, 0.0);
    // The box given stands in on the second frame. IoU 1 is above 20 of the 21 thresholds: nothing exceeds 1.
    close(otb.success_auc, 20.0 / 21.0);
    close(otb.precision_20px, 1.0);
}

#[test]
fn frame_without_truth_fails_under_lasot_only() {
    let (truth, found) = ([Some(TRUTH), Some(TRUTH), None, None], [Some(TRUTH); 4]);
    for (convention, frames, overlap) in [
        (Convention::SCORE, 1, 1.0),
        (Convention::OTB, 2, 1.0),
        (Convention::LASOT, 4, 0.5),
    ] {
        let run = score(&truth, &found, &convention);
        assert_eq!((run.frames, run.absent, run.false_alarms), (frames, 2, 2));
        close(run.average_overlap, overlap);
    }
}

#[test]
fn box_is_held_to_the_image_under_got10k_as_its_toolkit_does() {
    let truth = [Some(ScoreBox::new(0.0, 0.0, 40.0, 20.0)); 3];
    // Beyond the right edge the box is cut; beyond the left one it is moved, and matches although it should not.
    let found = [
        truth[0],
        Some(ScoreBox::new(-10.0, 0.0, 40.0, 20.0)),
        Some(ScoreBox::new(20.0, 0.0, 400.0, 20.0)),
    ];
    let run = score(&truth, &found, &Convention::got10k(60, 50));
    close(run.average_overlap, (1.0 + 20.0 / 60.0) / 2.0);
    close(
        score(&truth, &found, &Convention::SCORE).average_overlap,
        (30.0 / 50.0 + 20.0 / 420.0) / 2.0,
    );
}

#[test]
fn pooling_weighs_frames_and_the_mean_weighs_runs() {
    let short = score(&[Some(TRUTH); 2], &[Some(TRUTH); 2], &Convention::default());
    let long = score(&[Some(TRUTH); 4], &[None; 4], &Convention::default());
    close(RunScore::mean(&[short, long]).average_overlap, 0.5);
    close(RunScore::pooled(&[short, long]).average_overlap, 0.25);
    assert_eq!(RunScore::pooled(&[short, long]).frames, 4);
    assert_eq!(RunScore::mean(&[]), RunScore::default());
    assert_eq!(RunScore::default().false_alarm_rate(), None);
}

#[test]
fn centres_of_pixels_and_of_edges_give_the_same_distance() {
    // pytracking's centres are at x + (w - 1) / 2, which takes the same half pixel off both. Boxes whose centres are, by
    // that, just within 20 px and just beyond are so here.
    let half = |length: f64| (length - 1.0) / 2.0;
    let truth = (TRUTH.x_px + half(TRUTH.w_px), TRUTH.y_px + half(TRUTH.h_px));
    for (w, h) in [(40.0, 20.0), (55.0, 13.5), (1.0, 90.0)] {
        for (sx, sy) in [(0.6, 0.8), (-0.6, 0.8), (0.8, -0.6), (-0.8, -0.6)] {
            for (off, precise) in [(19.875, 1.0), (20.125, 0.0)] {
                let (x, y) = (truth.0 + sx * off, truth.1 + sy * off);
                let found = ScoreBox::new(x - half(w), y - half(h), w, h);
                let run = score(
                    &[Some(TRUTH); 2],
                    &[Some(TRUTH), Some(found)],
                    &Convention::default(),
                );
                assert_eq!(run.precision_20px, precise, "{found:?}");
            }
        }
    }
}

#[test]
fn runs_of_unequal_length_and_scores_without_order_are_refused() {
    let error = RunScore::of(&[None; 3], &[None; 2], &Convention::default()).unwrap_err();
    assert_eq!(error, MetricsError::Length { truth: 3, found: 2 });
    assert_eq!(
        roc_auc(&[0.1], &[0.2, f64::NAN]),
        Err(MetricsError::NotANumber { index: 2 })
    );
    assert_eq!(roc_auc(&[0.1], &[]), Ok(None));
}

#[test]
fn area_under_roc_is_one_half_for_ties_and_one_for_separation() {
    assert_eq!(roc_auc(&[0.5; 4], &[0.5; 3]), Ok(Some(0.5)));
    assert_eq!(roc_auc(&[0.0], &[-0.0]), Ok(Some(0.5)));
    assert_eq!(roc_auc(&[0.6, 0.7], &[0.1, 0.59]), Ok(Some(1.0)));
    assert_eq!(roc_auc(&[0.1], &[0.6, 0.7]), Ok(Some(0.0)));
}

#[test]
fn delay_runs_from_the_first_visible_frame_to_the_first_good_box() {
    // One frame every 125 ms: v visible, . away; + good box, - none, x box elsewhere.
    let run = |view: &str, found: &str| -> Vec<Return> {
        let elsewhere = ScoreBox::new(0.0, 0.0, 40.0, 20.0);
        let frames: Vec<_> = view
            .chars()
            .zip(found.chars())
            .enumerate()
            .map(|(i, (view, found))| TimedFrame {
                captured_at: Timestamp(125_000 * i as u64),
                truth: (view == 'v').then_some(TRUTH),
                found: match found {
                    '+' => Some(TRUTH),
                    'x' => Some(elsewhere),
                    _ => None,
                },
            })
            .collect();
        returns(&frames)
    };
    assert_eq!(
        run("vv..vvvv", "++--x-++"),
        [Return {
            frame: 4,
            delay_s: Some(0.25)
        }]
    );
    assert_eq!(
        run("v.v", "+-+"),
        [Return {
            frame: 2,
            delay_s: Some(0.0)
        }]
    );
    assert_eq!(
        run("v.vv.vv", "+------"),
        [
            Return {
                frame: 2,
                delay_s: None
            },
            Return {
                frame: 5,
                delay_s: None
            }
        ]
    );
    assert_eq!(run("..vv", "----"), [], "the target was never gone");
    assert_eq!(run("v..", "+xx"), [], "the target never returned");
}

fn boxes() -> impl Strategy<Value = Option<ScoreBox>> {
    prop_oneof![
        1 => Just(None),
        4 => (0_f32..50.0, 0_f32..50.0, 1_f32..50.0, 1_f32..50.0).prop_map(|(x, y, w, h)| Some(BoxXywh::new(x, y, w, h).into())),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_share_is_a_share_and_stricter_shares_are_smaller(
        run in prop::collection::vec((boxes(), boxes()), 0..30), which in 0_usize..4,
    ) {
        let convention =
            [Convention::SCORE, Convention::OTB, Convention::LASOT, Convention::got10k(60, 60)][which];
        let (truth, found): (Vec<_>, Vec<_>) = run.into_iter().unzip();
        let run = score(&truth, &found, &convention);
        for share in [run.success_auc, run.average_overlap, run.success_50, run.precision_20px,
            run.normalised_precision_20, run.normalised_precision_auc] {
            prop_assert!((0.0..=1.0).contains(&share), "{:?}", run);
        }
        prop_assert!(run.success_75 <= run.success_50 && run.false_alarms <= run.absent);
        // The success plot is a staircase of steps 1/20 above the overlaps; its area differs by at most a step.
        prop_assert!((run.success_auc - run.average_overlap).abs() <= 1.0 / 20.0, "{:?}", run);
    }

    #[test]
    fn area_under_roc_is_the_share_of_pairs_in_order(
        present in prop::collection::vec(0_u8..9, 1..20), absent in prop::collection::vec(0_u8..9, 1..20),
    ) {
        let pairs = present.iter().flat_map(|p| absent.iter().map(move |a| match p.cmp(a) {
            std::cmp::Ordering::Greater => 1.0,
            std::cmp::Ordering::Equal => 0.5,
            std::cmp::Ordering::Less => 0.0,
        }));
        let expected = pairs.sum::<f64>() / (present.len() * absent.len()) as f64;
        let (present, absent): (Vec<_>, Vec<_>) =
            (present.iter().map(|v| f64::from(*v)).collect(), absent.iter().map(|v| f64::from(*v)).collect());
        let area = roc_auc(&present, &absent).unwrap().unwrap();
        prop_assert!((area - expected).abs() < 1e-12);
        prop_assert!((roc_auc(&absent, &present).unwrap().unwrap() + area - 1.0).abs() < 1e-12);
    }

    #[test]
    fn box_in_double_precision_overlaps_as_the_canonical_box(a in boxes(), b in boxes()) {
        if let (Some(a), Some(b)) = (a, b) {
            let single = |b: ScoreBox| BoxXywh::new(b.x_px as f32, b.y_px as f32, b.w_px as f32, b.h_px as f32);
            prop_assert!((a.iou(&b) - f64::from(single(a).iou(&single(b)))).abs() < 1e-6);
        }
    }
}
