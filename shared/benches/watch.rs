//! What one look at a hundred road users costs. `cargo bench -p roadhound-shared --bench watch`; the budget is 0.3 ms.

use std::hint::black_box;

use criterion::Criterion;
use roadhound_shared::frame::Timestamp;
use roadhound_shared::geometry::BoxXywh;
use roadhound_shared::mix::SplitMix64;
use roadhound_shared::watch::{Detection, LooksMetric, RoadUser, Watch, WatchConfig};

const OBJECTS: usize = 100;
const FRAMES: usize = 64;

/// Boxes with their scores, and an embedding for each.
type Frame = (Vec<(BoxXywh, f32)>, Vec<f32>);

/// Boxes on a grid in 1920x1080, some apart, some in rows that overlap; they drift, jitter and are missed now and then.
fn frames(dense: bool, embedding: usize) -> Vec<Frame> {
    let mut numbers = SplitMix64(11);
    let mut unit = move || (numbers.next() >> 40) as f32 / (1 << 24) as f32;
    let own: Vec<f32> = (0..OBJECTS * embedding).map(|_| unit() - 0.5).collect();
    (0..FRAMES)
        .map(|frame| {
            let boxes = (0..OBJECTS)
                .map(|i| {
                    let (column, row) = ((i % 20) as f32, (i / 20) as f32);
                    let drift = 1.5 * frame as f32 * if i % 2 == 0 { 1.0 } else { -1.0 };
                    let apart = if dense { 40.0 } else { 90.0 };
                    let side = 70.0 + 20.0 * row;
                    let b = BoxXywh::from_center(
                        100.0 + apart * column + drift % 50.0 + 2.0 * unit(),
                        100.0 + 200.0 * row + 2.0 * unit(),
                        side + 2.0 * unit(),
                        0.8 * side + 2.0 * unit(),
                    );
                    (b, if unit() < 0.1 { 0.3 } else { 0.9 })
                })
                .collect();
            let noisy = own.iter().map(|v| v + 0.2 * (unit() - 0.5)).collect();
            (boxes, noisy)
        })
        .collect()
}

fn looks(criterion: &mut Criterion) {
    let learned = LooksMetric {
        rows: vec![vec![0.1; 64]; 64],
    };
    for (name, dense, embedding, metric) in [
        ("apart", false, 0, None),
        ("dense", true, 0, None),
        ("dense, 64 numbers of looks", true, 64, None),
        (
            "dense, 64 numbers by a learned distance",
            true,
            64,
            Some(learned),
        ),
    ] {
        let frames = frames(dense, embedding);
        let mut config = WatchConfig::default();
        config.room.embedding = embedding as u32;
        let looks: Vec<Vec<Detection<'_>>> = frames
            .iter()
            .map(|(boxes, noisy)| {
                let looks = |i: usize| &noisy[i * embedding..(i + 1) * embedding];
                let detection = |(i, (b, score)): (usize, &(BoxXywh, f32))| Detection {
                    box_in_image: *b,
                    score: *score,
                    kind: RoadUser::Car,
                    embedding: looks(i),
                };
                boxes.iter().enumerate().map(detection).collect()
            })
            .collect();
        let mut watch =
            Watch::by_looks(config, metric, 1920, 1080).expect("the defaults are in range");
        let mut frame = 0;
        criterion.bench_function(&format!("a look at 100, {name}"), |bencher| {
            bencher.iter(|| {
                let now = Timestamp::of_frame(frame as u64, 30.0);
                let reports = watch
                    .look(now, None, black_box(&looks[frame % FRAMES]))
                    .expect("embeddings are of the right length");
                frame += 1;
                black_box(reports.len())
            });
        });
        // A filter on the command line may have left it out.
        assert!(
            frame == 0 || watch.reports().len() >= OBJECTS * 9 / 10,
            "{name}: {} watched",
            watch.reports().len()
        );
    }
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    looks(&mut criterion);
    criterion.final_summary();
}
