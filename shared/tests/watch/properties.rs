//! What holds whatever comes, and what memory it takes.

use std::collections::BTreeSet;

use proptest::prelude::*;
use roadhound_shared::frame::Timestamp;
use roadhound_shared::geometry::{Affine2, BoxXywh};
use roadhound_shared::watch::{
    Detection, LooksMetric, Report, RoadUser, Sight, Watch, WatchConfig,
};

use crate::counting;
use crate::detector::Dice;

/// One look: time step, camera, boxes.
type Step = (u32, Option<[f32; 6]>, Vec<([f32; 4], f32, u8)>);

fn any_box() -> impl Strategy<Value = [f32; 4]> {
    prop_oneof![
        4 => [0.0..640.0_f32, 0.0..360.0_f32, 1.0..200.0_f32, 1.0..200.0_f32],
        1 => any::<[f32; 4]>(),
    ]
}

fn any_step() -> impl Strategy<Value = Step> {
    let time = prop_oneof![5 => 0..100_000_u32, 1 => any::<u32>()];
    let camera = prop_oneof![
        3 => Just(None),
        1 => (-30.0..30.0_f32, -30.0..30.0_f32)
            .prop_map(|(x, y)| Some([1.0, 0.0, x, 0.0, 1.0, y])),
        1 => any::<[f32; 6]>().prop_map(Some),
    ];
    let score = prop_oneof![0.0..1.0_f32, any::<f32>()];
    (
        time,
        camera,
        prop::collection::vec((any_box(), score, 0..9_u8), 0..20),
    )
}

fn play(config: WatchConfig, steps: &[Step]) -> Vec<Vec<Report>> {
    let mut watch = Watch::new(config, 640, 360).unwrap();
    let mut now = 0_u64;
    steps
        .iter()
        .map(|(micros, camera, boxes)| {
            now += u64::from(*micros);
            let map = camera.map(|[a, b, x, c, d, y]| Affine2 {
                x_from_x: a,
                x_from_y: b,
                x_px: x,
                y_from_x: c,
                y_from_y: d,
                y_px: y,
            });
            let detections: Vec<Detection<'_>> = boxes
                .iter()
                .map(|([x, y, w, h], score, kind)| Detection {
                    box_in_image: BoxXywh::new(*x, *y, *w, *h),
                    score: *score,
                    kind: RoadUser::ALL[*kind as usize],
                    embedding: &[],
                })
                .collect();
            let reports = if boxes.is_empty() && micros % 2 == 0 {
                watch.coast(Timestamp(now), map.as_ref())
            } else {
                watch
                    .look(Timestamp(now), map.as_ref(), &detections)
                    .unwrap()
            };
            reports.to_vec()
        })
        .collect()
}

proptest! {
    #[test]
    fn whatever_comes_reports_are_sound(steps in prop::collection::vec(any_step(), 1..40)) {
        let mut config = WatchConfig::default();
        // So little room that it runs out.
        (config.room.tracks, config.room.detections) = (12, 16);
        let mut newest = 0;
        for ((_, _, boxes), reports) in steps.iter().zip(play(config, &steps)) {
            prop_assert!(reports.len() <= 12);
            let identities: Vec<u32> = reports.iter().map(|r| r.identity).collect();
            // Sorted, each once, none of them zero.
            prop_assert!(identities.windows(2).all(|pair| pair[0] < pair[1]));
            prop_assert!(identities.first() != Some(&0));
            newest = newest.max(identities.last().copied().unwrap_or(0));
            let mut taken = BTreeSet::new();
            for report in &reports {
                prop_assert!(report.box_in_image.is_proper(), "{:?}", report);
                if let Sight::Seen { detection } = report.sight {
                    prop_assert!(detection < boxes.len() && taken.insert(detection));
                }
            }
        }
        prop_assert!(newest as usize <= steps.iter().map(|s| s.2.len()).sum::<usize>());
    }

    #[test]
    fn the_same_input_gives_the_same_output(steps in prop::collection::vec(any_step(), 1..20)) {
        let config = WatchConfig::default();
        prop_assert_eq!(
            format!("{:?}", play(config, &steps)),
            format!("{:?}", play(config, &steps))
        );
    }
}

/// Boxes with their scores, and an embedding for each.
type Crowd = (Vec<(BoxXywh, f32)>, Vec<f32>);

/// A hundred cars on a grid that drift and jitter.
fn crowd(dice: &mut Dice, frame: u64, embeddings: &mut [f32]) -> Vec<(BoxXywh, f32)> {
    for value in embeddings.iter_mut() {
        *value = dice.normal();
    }
    (0..100)
        .map(|i| {
            let (column, row) = ((i % 10) as f32, (i / 10) as f32);
            let drift = 2.0 * frame as f32 * if i % 2 == 0 { 1.0 } else { -1.0 };
            let b = BoxXywh::from_center(
                120.0 + 170.0 * column + drift % 60.0 + dice.normal(),
                60.0 + 100.0 * row + dice.normal(),
                90.0 + dice.normal(),
                70.0 + dice.normal(),
            );
            (b, dice.range(0.3, 1.0))
        })
        .collect()
}

#[test]
fn once_it_is_made_watching_a_hundred_allocates_nothing() {
    let mut config = WatchConfig::default();
    config.room.embedding = 64;
    let mut dice = Dice::new(7);
    let frames: Vec<Crowd> = (0..60)
        .map(|frame| {
            let mut embeddings = vec![0.0; 100 * 64];
            let boxes = crowd(&mut dice, frame, &mut embeddings);
            (boxes, embeddings)
        })
        .collect();
    let looks: Vec<Vec<Detection<'_>>> = frames
        .iter()
        .map(|(boxes, embeddings)| {
            let rows = embeddings.chunks_exact(64);
            boxes
                .iter()
                .zip(rows)
                .map(|((b, score), row)| Detection {
                    box_in_image: *b,
                    score: *score,
                    kind: RoadUser::Car,
                    embedding: row,
                })
                .collect()
        })
        .collect();
    let learned = LooksMetric {
        rows: vec![vec![0.2; 64]; 32],
    };
    // With room for everybody, and where the surest have to be chosen.
    for (room, metric) in [(256, None), (256, Some(learned)), (90, None)] {
        config.room.detections = room;
        let mut watch = Watch::by_looks(config, metric, 1920, 1080).unwrap();
        let mut most = 0;
        // From the first look on: there is no warming up.
        let allocations = counting::on_this_thread(|| {
            for (frame, detections) in looks.iter().enumerate() {
                let now = Timestamp::of_frame(frame as u64, 30.0);
                let detections = if frame % 13 == 12 {
                    &[][..]
                } else {
                    detections
                };
                most = most.max(watch.look(now, None, detections).unwrap().len());
                watch.coast(now.plus_millis(16), Some(&Affine2::translation(0.1, 0.0)));
            }
        });
        assert!(most > 80, "{most} watched");
        assert_eq!(allocations, 0);
    }
}
