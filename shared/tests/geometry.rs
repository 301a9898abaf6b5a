//! Laws of boxes and affine maps.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use roadhound_shared::frame::Timestamp;
use roadhound_shared::geometry::{Affine1, AxisAffine, BoxCxcywh, BoxLtrb, BoxXywh};

fn boxes() -> impl Strategy<Value = BoxXywh> {
    (
        -100_f32..500.0,
        -100_f32..500.0,
        0.1_f32..300.0,
        0.1_f32..300.0,
    )
        .prop_map(|(x, y, w, h)| BoxXywh::new(x, y, w, h))
}

/// Anything a broken network may say.
fn wild_boxes() -> impl Strategy<Value = BoxXywh> {
    any::<[f32; 4]>().prop_map(|[x, y, w, h]| BoxXywh::new(x, y, w, h))
}

fn affines() -> impl Strategy<Value = Affine1> {
    (0.05_f32..20.0, -500_f32..500.0).prop_map(|(scale, offset)| Affine1 { scale, offset })
}

fn close(a: &BoxXywh, b: &BoxXywh, tolerance_px: f32) -> bool {
    let differences = [
        a.x_px - b.x_px,
        a.y_px - b.y_px,
        a.w_px - b.w_px,
        a.h_px - b.h_px,
    ];
    differences
        .iter()
        .all(|difference| difference.abs() < tolerance_px)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_map_after_its_inverse_changes_nothing(map in affines(), point in -1000_f32..1000.0) {
        let inverse = map.inverse().unwrap();
        // Coordinates up to 20500 carry 1e-3; the inverse magnifies by at most 20.
        prop_assert!((inverse.apply(map.apply(point)) - point).abs() < 0.03);
        prop_assert!((map.apply(inverse.apply(point)) - point).abs() < 0.03);
    }

    #[test]
    fn a_composed_map_is_one_map_after_the_other(
        x in affines(), y in affines(), point in (-1000_f32..1000.0, -1000_f32..1000.0),
    ) {
        let (a_from_b, b_from_c) = (AxisAffine { x, y }, AxisAffine { x: y, y: x });
        let (once, twice) = (a_from_b.compose(b_from_c).apply(point), a_from_b.apply(b_from_c.apply(point)));
        // Values up to 4e5, in single precision.
        prop_assert!((once.0 - twice.0).abs() < 0.2 && (once.1 - twice.1).abs() < 0.2, "{:?} {:?}", once, twice);
        prop_assert_eq!(a_from_b.compose(AxisAffine::IDENTITY), a_from_b);
        prop_assert_eq!(AxisAffine::IDENTITY.compose(a_from_b), a_from_b);
    }

    #[test]
    fn a_map_carries_a_box_by_its_corners(x in affines(), y in affines(), b in boxes()) {
        let map = AxisAffine { x, y };
        let (carried, edges) = (map.apply_box(&b), BoxLtrb::from(b));
        let corners = [map.apply((edges.left_px, edges.top_px)), map.apply((edges.right_px, edges.bottom_px))];
        let expected = BoxLtrb::new(corners[0].0, corners[0].1, corners[1].0, corners[1].1);
        prop_assert!(close(&carried, &expected.into(), 0.02), "{:?} {:?}", carried, expected);
        prop_assert!(close(&map.inverse().unwrap().apply_box(&carried), &b, 0.05));
    }

    #[test]
    fn box_formats_convert_there_and_back(b in boxes()) {
        prop_assert!(close(&BoxXywh::from(BoxLtrb::from(b)), &b, 1e-3));
        prop_assert!(close(&BoxXywh::from(BoxCxcywh::from(b)), &b, 1e-3));
        prop_assert!(close(&b.scaled_about_center(2.0, 3.0).scaled_about_center(0.5, 1.0 / 3.0), &b, 1e-3));
    }

    #[test]
    fn overlap_is_bounded_symmetric_and_never_above_iou(a in boxes(), b in boxes()) {
        let (iou, giou) = (a.iou(&b), a.giou(&b));
        prop_assert!((0.0..=1.0).contains(&iou) && (-1.0..=1.0).contains(&giou) && giou <= iou);
        prop_assert_eq!((iou, giou), (b.iou(&a), b.giou(&a)));
        prop_assert!((a.iou(&a) - 1.0).abs() < 1e-6 && (a.giou(&a) - 1.0).abs() < 1e-6);
        prop_assert_eq!(iou > 0.0, a.intersection(&b).is_some());
    }

    #[test]
    fn overlap_of_nonsense_is_still_a_bounded_number(a in wild_boxes(), b in wild_boxes()) {
        prop_assert!((0.0..=1.0).contains(&a.iou(&b)), "{}", a.iou(&b));
        prop_assert!((-1.0..=1.0).contains(&a.giou(&b)), "{}", a.giou(&b));
        if let Some(clipped) = a.clip(640, 480) {
            prop_assert!(clipped.x_px >= 0.0 && clipped.y_px >= 0.0);
            prop_assert!(clipped.right_px() <= 640.0 && clipped.bottom_px() <= 480.0);
        }
        prop_assert!(!a.is_sane(640, 480) || a.is_proper());
    }

    #[test]
    fn overlap_does_not_change_when_both_boxes_move_and_grow(a in boxes(), b in boxes(), map in affines()) {
        let map = AxisAffine { x: map, y: map };
        prop_assert!((a.iou(&b) - map.apply_box(&a).iou(&map.apply_box(&b))).abs() < 2e-3);
    }

    #[test]
    fn time_differences_saturate(a: u64, b: u64) {
        let (a, b) = (Timestamp(a), Timestamp(b));
        prop_assert!(a.seconds_since(b) >= 0.0 && b.seconds_since(a) >= 0.0);
        prop_assert!(a.micros_since(b) == 0 || b.micros_since(a) == 0);
        prop_assert!(a.plus_millis(b.0) >= a);
    }
}

#[test]
fn overlap_of_known_boxes_is_as_computed_by_hand() {
    let a = BoxXywh::new(0.0, 0.0, 10.0, 10.0);
    let half = BoxXywh::new(5.0, 0.0, 10.0, 10.0);
    assert!((a.iou(&half) - 1.0 / 3.0).abs() < 1e-6);
    assert!(
        (a.giou(&half) - 1.0 / 3.0).abs() < 1e-6,
        "the hull holds nothing else"
    );
    let apart = BoxXywh::new(20.0, 0.0, 10.0, 10.0);
    assert_eq!(a.iou(&apart), 0.0);
    assert!(
        (a.giou(&apart) + 1.0 / 3.0).abs() < 1e-6,
        "a third of the hull is waste"
    );
    assert_eq!(
        a.iou(&BoxXywh::new(10.0, 0.0, 10.0, 10.0)),
        0.0,
        "edges are half-open"
    );
}

#[test]
fn boxes_outside_empty_or_not_finite_are_not_sane() {
    assert!(BoxXywh::new(-5.0, -5.0, 10.0, 10.0).is_sane(100, 100));
    for bad in [
        BoxXywh::new(100.0, 0.0, 10.0, 10.0),
        BoxXywh::new(-10.0, 0.0, 10.0, 10.0),
        BoxXywh::new(0.0, 0.0, 0.0, 10.0),
        BoxXywh::new(0.0, 0.0, -3.0, 10.0),
        BoxXywh::new(f32::NAN, 0.0, 3.0, 10.0),
        BoxXywh::new(0.0, 0.0, f32::INFINITY, 10.0),
    ] {
        assert!(!bad.is_sane(100, 100), "{bad:?}");
    }
    let clipped = BoxXywh::new(-5.0, 90.0, 20.0, 20.0).clip(100, 100).unwrap();
    assert_eq!(clipped, BoxXywh::new(0.0, 90.0, 15.0, 10.0));
}

#[test]
fn maps_that_squash_a_line_to_a_point_have_no_inverse() {
    for scale in [0.0, f32::NAN, f32::INFINITY, 1e-40] {
        assert_eq!(Affine1 { scale, offset: 1.0 }.inverse(), None, "{scale}");
    }
}

#[test]
fn frame_times_of_a_recording_are_evenly_spaced() {
    assert_eq!(Timestamp::of_frame(30, 30.0), Timestamp(1_000_000));
    assert_eq!(Timestamp::of_frame(1, 29.97), Timestamp(33_367));
    assert_eq!(Timestamp::of_frame(2, f64::NAN), Timestamp(2_000_000));
    assert_eq!(Timestamp::of_frame(u64::MAX, 0.001), Timestamp(u64::MAX));
    assert!((Timestamp(1_500_000).seconds_since(Timestamp(250_000)) - 1.25).abs() < 1e-6);
}
