#![allow(clippy::unwrap_used)]
use alloc::vec;
use alloc::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::metrics::ScoreBox;

/// A box of 10 x 10 at a column; neighbours do not touch.
fn place(column: i32) -> ScoreBox {
    ScoreBox::new(20.0 * f64::from(column), 0.0, 10.0, 10.0)
}

fn truth(identity: i64, box_in_image: ScoreBox) -> Truth {
    let role = Role::Counted;
    Truth {
        identity,
        box_in_image,
        role,
    }
}

fn found(identity: i64, box_in_image: ScoreBox) -> Found {
    Found {
        identity,
        box_in_image,
    }
}

/// True and found objects of a frame, as (identity, column).
type Frame<'a> = (&'a [(i64, i32)], &'a [(i64, i32)]);

fn judge(frames: &[Frame<'_>]) -> Judged {
    let mut judged = Judged::new(JudgingRule::default());
    for (t, f) in frames {
        let t: Vec<_> = t.iter().map(|&(i, c)| truth(i, place(c))).collect();
        let f: Vec<_> = f.iter().map(|&(i, c)| found(i, place(c))).collect();
        judged.add_frame(&t, &f).unwrap();
    }
    judged
}

fn score(frames: &[Frame<'_>]) -> MultiScore {
    MultiScore::of(&judge(frames))
}

#[track_caller]
fn near(found: f64, expected: f64) {
    assert!((found - expected).abs() < 1e-12, "{found}, not {expected}");
}

#[test]
fn two_objects_that_swap_their_names_half_way_are_associated_by_a_third() {
    // Each true identity spends 2 of 4 frames with each found one: 2 common frames of 4 + 4 - 2.
    let before: Frame<'_> = (&[(1, 0), (2, 5)], &[(7, 0), (8, 5)]);
    let after: Frame<'_> = (&[(1, 0), (2, 5)], &[(8, 0), (7, 5)]);
    let s = score(&[before, before, after, after]);
    near(s.hota.detection(), 1.0);
    near(s.hota.association(), 1.0 / 3.0);
    near(s.hota.association_recall(), 0.5);
    near(s.hota.hota(), libm::sqrt(1.0 / 3.0));
    assert_eq!((s.clear.switches, s.clear.fragmentations), (2, 0));
    near(s.clear.accuracy(), 1.0 - 2.0 / 8.0);
    near(s.identity.f1(), 0.5);
}

#[test]
fn one_found_of_two_with_a_false_alarm_beside_it() {
    let frame: Frame<'_> = (&[(1, 0), (2, 5)], &[(7, 0), (9, 30)]);
    let s = score(&[frame; 3]);
    near(s.hota.detection(), 1.0 / 3.0);
    near(s.hota.detection_recall(), 0.5);
    near(s.hota.detection_precision(), 0.5);
    near(s.hota.association(), 1.0);
    near(s.hota.open_world(), libm::sqrt(0.5));
    near(s.clear.accuracy(), 0.0);
    near(s.clear.false_alarms_a_frame(), 1.0);
    assert_eq!((s.clear.mostly_tracked, s.clear.mostly_lost), (1, 1));
    near(s.identity.f1(), 0.5);
}

#[test]
fn an_object_taken_up_again_is_fragmented_and_with_another_name_switched() {
    let seen: Frame<'_> = (&[(1, 0), (2, 5)], &[(7, 0), (8, 5)]);
    let hidden: Frame<'_> = (&[(1, 0), (2, 5)], &[(8, 5)]);
    let renamed: Frame<'_> = (&[(1, 0), (2, 5)], &[(9, 0), (8, 5)]);
    let s = score(&[seen, hidden, seen, hidden, renamed]);
    assert_eq!((s.clear.fragmentations, s.clear.switches), (2, 1));
    assert_eq!((s.clear.mostly_tracked, s.clear.partly_tracked), (1, 1));
}

#[test]
fn overlap_counts_up_to_the_demand_that_it_meets() {
    // 10 x 10 moved by 2.5: 75 of 125.
    let mut judged = Judged::new(JudgingRule::default());
    let moved = ScoreBox::new(2.5, 0.0, 10.0, 10.0);
    judged
        .add_frame(&[truth(1, place(0))], &[found(1, moved)])
        .unwrap();
    let s = MultiScore::of(&judged);
    near(s.hota.localisation[0], 0.6);
    // 0.05 to 0.60.
    assert_eq!(s.hota.matches.iter().sum::<u64>(), 12);
    near(s.hota.hota(), 12.0 / 19.0);
    // Where there is no match, nothing was placed badly.
    near(s.hota.localisation(), (12.0 * 0.6 + 7.0) / 19.0);
    near(s.clear.precision(), 0.6);
}

#[test]
fn nothing_to_find_and_nothing_found_scores_nothing_and_breaks_nothing() {
    let s = score(&[(&[], &[]), (&[], &[])]);
    assert_eq!((s.frames, s.truth_boxes, s.found_boxes), (2, 0, 0));
    near(s.hota.hota(), 0.0);
    assert_eq!(MultiScore::combined(&[]), MultiScore::default());
    let missed = score(&[(&[(1, 0)], &[])]);
    assert_eq!((missed.clear.misses, missed.clear.mostly_lost), (1, 1));
    assert_eq!(missed.hota.misses[0], 1);
    let alarms = score(&[(&[], &[(1, 0)])]);
    assert_eq!(
        (alarms.clear.false_alarms, alarms.identity.false_alarms),
        (1, 1)
    );
}

#[test]
fn sequences_without_true_or_without_found_boxes_are_judged_when_they_are_taken_together() {
    // TrackEval computes the figures of sequences taken together from their sums, whatever each of them was.
    let miss: Frame<'_> = (&[(1, 0)], &[]);
    let missed = score(&[miss; 5]);
    let alarms = score(&[(&[], &[(1, 0), (2, 5), (3, 10)])]);
    let all = MultiScore::combined(&[missed.clone(), alarms.clone()]).clear;
    assert_eq!((all.frames, all.misses, all.false_alarms), (0, 5, 3));
    near(all.accuracy(), -0.6);
    near(all.detection_accuracy(), -0.6);
    near(all.false_alarms_a_frame(), 3.0);
    near(all.mostly_lost_share(), 1.0);
    // Nobody was there to be lost.
    let only_alarms = MultiScore::combined(core::slice::from_ref(&alarms)).clear;
    near(only_alarms.mostly_lost_share(), 0.0);
    // By themselves they are as TrackEval leaves them.
    for alone in [missed.clear, alarms.clear] {
        near(alone.accuracy(), 0.0);
        near(alone.false_alarms_a_frame(), 0.0);
        near(alone.mostly_lost_share(), 1.0);
    }
}

#[test]
fn what_finds_a_spared_object_is_neither_right_nor_wrong() {
    let role = |role, column| Truth {
        role,
        ..truth(column, place(column as i32))
    };
    let mut judged = Judged::new(JudgingRule::default());
    let true_boxes = [
        role(Role::Counted, 0),
        role(Role::Spared, 1),
        role(Role::Bystander, 2),
        Truth {
            identity: -1,
            box_in_image: ScoreBox::new(60.0, -50.0, 100.0, 100.0),
            role: Role::Region,
        },
    ];
    let found_boxes = [0, 1, 2, 3, 9].map(|c| found(i64::from(c), place(c)));
    judged.add_frame(&true_boxes, &found_boxes).unwrap();
    // Left: the match, the bystander's and the one in the open.
    let s = MultiScore::of(&judged);
    assert_eq!((s.truth_boxes, s.found_boxes), (1, 3));
    assert_eq!((s.clear.matches, s.clear.false_alarms), (1, 2));
}

#[test]
fn boxes_too_small_to_be_annotated_are_no_false_alarms_but_good_matches() {
    let rule = JudgingRule {
        unmatched_higher_than_px: Some(10.0),
        ..JudgingRule::default()
    };
    let mut judged = Judged::new(rule);
    let found_boxes = [found(1, place(0)), found(2, place(5))];
    judged
        .add_frame(&[truth(1, place(0))], &found_boxes)
        .unwrap();
    assert_eq!(judged.found_boxes(), 1);
}

#[test]
fn an_identity_in_two_places_is_refused() {
    let mut judged = Judged::new(JudgingRule::default());
    let twice = [found(4, place(0)), found(4, place(1))];
    let refused = judged.add_frame(&[], &twice).unwrap_err();
    assert_eq!(
        alloc::string::ToString::to_string(&refused),
        "frame 0 has found identity 4 twice"
    );
    let bad = [found(4, ScoreBox::new(f64::NAN, 0.0, 1.0, 1.0))];
    assert!(matches!(
        judged.add_frame(&[], &bad),
        Err(MultiError::NotFinite { .. })
    ));
}

type Drawn = Vec<(Vec<(i64, i32)>, Vec<(i64, i32, f64)>)>;

/// Sequences of a few objects; found boxes are off by some pixels.
fn drawn() -> impl Strategy<Value = Drawn> {
    let truth = prop::collection::btree_map(0..5_i64, 0..6_i32, 0..5);
    let found = prop::collection::btree_map(0..5_i64, (0..6_i32, -4.0..4.0_f64), 0..5);
    let frame = (truth, found).prop_map(|(t, f)| {
        (
            t.into_iter().collect(),
            f.into_iter().map(|(i, (c, d))| (i, c, d)).collect(),
        )
    });
    prop::collection::vec(frame, 1..9)
}

fn judge_drawn(frames: &Drawn, rename: impl Fn(i64) -> i64) -> Judged {
    let mut judged = Judged::new(JudgingRule::default());
    for (t, f) in frames {
        let t: Vec<_> = t.iter().map(|&(i, c)| truth(i, place(c))).collect();
        let f: Vec<_> = f
            .iter()
            .map(|&(i, c, off)| {
                let b = place(c);
                let moved = ScoreBox::new(b.x_px + off, b.y_px, b.w_px, b.h_px);
                found(rename(i), moved)
            })
            .collect();
        judged.add_frame(&t, &f).unwrap();
    }
    judged
}

proptest! {
    #[test]
    fn a_perfect_tracker_scores_one_in_everything(frames in drawn()) {
        let mut judged = Judged::new(JudgingRule::default());
        for (t, _) in &frames {
            // One object a place, so that who is who is beyond doubt.
            let t: Vec<_> = t.iter().map(|&(i, _)| truth(i, place(i as i32))).collect();
            let f: Vec<_> = t.iter().map(|t| found(100 - t.identity, t.box_in_image)).collect();
            judged.add_frame(&t, &f).unwrap();
        }
        let s = MultiScore::of(&judged);
        if s.truth_boxes > 0 {
            for figure in [
                s.hota.hota(), s.hota.detection(), s.hota.association(), s.hota.localisation(),
                s.clear.accuracy(), s.clear.precision(), s.identity.f1(),
            ] {
                prop_assert!((figure - 1.0).abs() < 1e-12, "{}", figure);
            }
            prop_assert_eq!(s.clear.mostly_tracked, s.truth_identities);
            prop_assert_eq!((s.clear.switches, s.clear.misses), (0, 0));
        }
    }

    #[test]
    fn other_names_for_the_same_identities_change_nothing(frames in drawn()) {
        let plain = MultiScore::of(&judge_drawn(&frames, |i| i));
        let renamed = MultiScore::of(&judge_drawn(&frames, |i| 1000 - 7 * i));
        prop_assert_eq!(plain, renamed);
    }

    #[test]
    fn shares_are_shares_and_counts_add_up(frames in drawn()) {
        let judged = judge_drawn(&frames, |i| i);
        let s = MultiScore::of(&judged);
        for a in 0..ALPHAS {
            prop_assert_eq!(s.hota.matches[a] + s.hota.misses[a], s.truth_boxes);
            prop_assert_eq!(s.hota.matches[a] + s.hota.false_alarms[a], s.found_boxes);
            for figure in [
                s.hota.hota_at(a), s.hota.association[a], s.hota.association_recall[a],
                s.hota.association_precision[a], s.hota.localisation[a],
            ] {
                prop_assert!((0.0..=1.0 + 1e-12).contains(&figure), "{}", figure);
            }
            // A stricter demand is met less often.
            prop_assert!(a == 0 || s.hota.matches[a] <= s.hota.matches[a - 1]);
        }
        for rule in [ClearRule::TrackEval, ClearRule::Motmetrics] {
            let c = Clear::of(&judged, rule);
            prop_assert_eq!(c.matches + c.misses, s.truth_boxes);
            prop_assert_eq!(c.matches + c.false_alarms, s.found_boxes);
            prop_assert_eq!(c.mostly_tracked + c.partly_tracked + c.mostly_lost, s.truth_identities);
        }
        prop_assert_eq!(s.identity.matches + s.identity.misses, s.truth_boxes);
        // Identities are told apart at best on every match.
        prop_assert!(s.identity.matches <= s.hota.matches[9].max(s.clear.matches));
    }

    #[test]
    fn one_sequence_combined_is_that_sequence(frames in drawn()) {
        let s = MultiScore::of(&judge_drawn(&frames, |i| i));
        let combined = MultiScore::combined(core::slice::from_ref(&s));
        prop_assert!((combined.hota.hota() - s.hota.hota()).abs() < 1e-12);
        // All but the figures of a sequence in which there is nothing to be scored.
        let clear = Clear { one_sided: false, ..s.clear };
        prop_assert_eq!(combined.clear, clear);
        let twice = MultiScore::combined(&vec![s.clone(); 2]);
        prop_assert!((twice.hota.association() - s.hota.association()).abs() < 1e-12);
        prop_assert_eq!(twice.identity.matches, 2 * s.identity.matches);
    }
}
