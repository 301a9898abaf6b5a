//! The whole loop on real pixels, with a network that finds bright squares by arithmetic: frames
//! are painted, cropped, searched, decoded, tracked. A counting allocator watches.
#![allow(clippy::unwrap_used)]

mod counting;

use roadhound_shared::adapt::{AdaptConfig, Adapter, Adjustment, SAMPLE_ZERO};
use roadhound_shared::contract::{FollowContract, FollowSizes};
use roadhound_shared::follow::{FollowError, Follower};
use roadhound_shared::frame::{FrameView, Timestamp};
use roadhound_shared::geometry::BoxXywh;
use roadhound_shared::network::{FollowNetwork, SearchOutputs, TemplateOutputs};
use roadhound_shared::tracker::{Phase, Report, TrackerConfig};

const WIDTH: u32 = 640;
const HEIGHT: u32 = 360;
const FRAME_MICROS: u64 = 33_333;

/// The target is red, the stranger is blue.
const RED: [u8; 3] = [255, 40, 40];
const BLUE: [u8; 3] = [40, 40, 255];
const ROAD: u8 = 60;

/// Finds the red square and the blue square in a crop.
#[derive(Default)]
struct BrightSquares {
    templates: usize,
    /// The first value of the two templates in the last search.
    last_first: f32,
    last_latest: f32,
    fails: bool,
    /// Steps of a sample that its one layer lies above the source's mean.
    off_steps: u8,
    /// What it was put right by, in turn.
    adjusted: Vec<Adjustment>,
}

/// Left, top, right, bottom of the pixels where one channel is far above the other, in crop pixels.
fn find(crop: &[f32], side: usize, channel: usize, other: usize) -> Option<[f32; 4]> {
    let plane = side * side;
    let (mut left, mut top, mut right, mut bottom) = (side, side, 0, 0);
    for y in 0..side {
        for x in 0..side {
            let at = y * side + x;
            // 58 levels are one unit; half of the contrast is the edge.
            if crop[channel * plane + at] - crop[other * plane + at] > 1.85 {
                (left, right) = (left.min(x), right.max(x + 1));
                (top, bottom) = (top.min(y), bottom.max(y + 1));
            }
        }
    }
    let enough = right > left + 4 && bottom > top + 4;
    enough.then(|| [left, top, right, bottom].map(|edge| edge as f32))
}

impl FollowNetwork for BrightSquares {
    type Error = &'static str;

    fn template(&mut self, crop: &[f32], out: &mut TemplateOutputs) -> Result<(), Self::Error> {
        if self.fails {
            return Err("out of order");
        }
        self.templates += 1;
        out.features.fill(self.templates as f32);
        out.embedding.fill(0.0);
        let side = 128;
        out.embedding[usize::from(find(crop, side, 0, 2).is_none())] = 1.0;
        Ok(())
    }

    fn search(
        &mut self,
        crop: &[f32],
        first: &[f32],
        latest: &[f32],
        out: &mut SearchOutputs,
    ) -> Result<(), Self::Error> {
        if self.fails {
            return Err("out of order");
        }
        (self.last_first, self.last_latest) = (first[0], latest[0]);
        let (side, cells, stride) = (256, 16, 16.0);
        let plane = cells * cells;
        out.score.fill(0.02);
        out.box_ltrb_px.fill(stride);
        out.embedding.fill(0.5);
        out.presence = 0.05;
        for (identity, (channel, other)) in [(0, 2), (2, 0)].into_iter().enumerate() {
            let Some([left, top, right, bottom]) = find(crop, side, channel, other) else {
                continue;
            };
            // It is sure of whatever it sees, like many a network: only the embedding differs.
            out.presence = 0.97;
            let (cx, cy) = (0.5 * (left + right), 0.5 * (top + bottom));
            let (column, row) = ((cx / stride) as usize, (cy / stride) as usize);
            let cell = row.min(cells - 1) * cells + column.min(cells - 1);
            let x = stride * (column as f32 + 0.5);
            let y = stride * (row as f32 + 0.5);
            out.score[cell] = 0.9;
            for (edge, distance) in [x - left, y - top, right - x, bottom - y]
                .into_iter()
                .enumerate()
            {
                out.box_ltrb_px[edge * plane + cell] = distance;
            }
            for embedding in 0..4 {
                out.embedding[embedding * plane + cell] = 0.0;
            }
            out.embedding[identity * plane + cell] = 1.0;
        }
        Ok(())
    }

    fn samples(&mut self, layer: usize, take: &mut dyn FnMut(&[u8])) {
        assert_eq!(layer, 0);
        take(&[SAMPLE_ZERO + self.off_steps; 16]);
    }

    fn adjust(&mut self, layer: usize, adjustments: &[Adjustment]) -> Result<(), Self::Error> {
        assert_eq!((layer, adjustments.len()), (0, 1));
        self.adjusted.push(adjustments[0]);
        Ok(())
    }
}

/// A road on which squares are painted.
struct Scene {
    pixels: Vec<u8>,
}

impl Scene {
    fn new() -> Self {
        Self {
            pixels: vec![ROAD; (3 * WIDTH * HEIGHT) as usize],
        }
    }

    fn paint(&mut self, squares: &[(BoxXywh, [u8; 3])]) {
        self.pixels.fill(ROAD);
        for (square, colour) in squares {
            let visible = square.clip(WIDTH, HEIGHT).unwrap();
            for y in visible.y_px as u32..visible.bottom_px() as u32 {
                for x in visible.x_px as u32..visible.right_px() as u32 {
                    let at = (3 * (y * WIDTH + x)) as usize;
                    self.pixels[at..at + 3].copy_from_slice(colour);
                }
            }
        }
    }

    fn frame(&self) -> FrameView<'_> {
        FrameView::rgb8(WIDTH, HEIGHT, &self.pixels).unwrap()
    }
}

struct Drive {
    scene: Scene,
    follower: Follower<BrightSquares>,
    at: Timestamp,
}

fn contract() -> FollowContract {
    FollowContract::new(FollowSizes {
        feature_channels: 2,
        embedding_size: 4,
        ..FollowSizes::default()
    })
    .unwrap()
}

fn start() -> BoxXywh {
    BoxXywh::new(200.0, 120.0, 48.0, 40.0)
}

impl Drive {
    /// A drive that begins with the red square at [`start`].
    fn new() -> Self {
        Self::with(TrackerConfig::default())
    }

    fn with(config: TrackerConfig) -> Self {
        let mut follower = Follower::new(BrightSquares::default(), contract(), config).unwrap();
        let mut scene = Scene::new();
        scene.paint(&[(start(), RED)]);
        let at = Timestamp(0);
        let report = follower.start(&scene.frame(), start(), at).unwrap();
        assert_eq!(report.box_in_image, Some(start()));
        Self {
            scene,
            follower,
            at,
        }
    }

    fn step(&mut self, squares: &[(BoxXywh, [u8; 3])]) -> Report {
        self.scene.paint(squares);
        self.at.0 += FRAME_MICROS;
        self.follower.step(&self.scene.frame(), self.at).unwrap()
    }
}

fn moved(step: u32) -> BoxXywh {
    start().translated(3.0 * step as f32, step as f32)
}

#[test]
fn a_square_that_moves_and_grows_is_followed_closely() {
    let mut drive = Drive::new();
    for step in 1..90 {
        let growth = (0.3 * step as f32).floor();
        let b = moved(step);
        let truth = BoxXywh::new(b.x_px, b.y_px, b.w_px + growth, b.h_px + growth);
        let report = drive.step(&[(truth, RED)]);
        assert_eq!(report.phase, Phase::Tracking);
        let iou = report.box_in_image.unwrap().iou(&truth);
        assert!(iou > 0.85, "frame {step}: {iou}");
    }
}

#[test]
fn a_hidden_square_is_lost_in_time_and_found_again_elsewhere() {
    let mut drive = Drive::new();
    for step in 1..30 {
        drive.step(&[(moved(step), RED)]);
    }
    let hidden_at = drive.at;
    while drive.step(&[]).phase != Phase::Lost {}
    assert!(drive.at.micros_since(hidden_at) <= 150_000);
    for _ in 0..40 {
        assert_eq!(drive.step(&[]).box_in_image, None);
    }
    let back = BoxXywh::new(520.0, 40.0, 48.0, 40.0);
    let back_at = drive.at;
    while drive.step(&[(back, RED)]).phase != Phase::Tracking {}
    assert!(drive.at.micros_since(back_at) <= 1_000_000);
    let report = drive.step(&[(back, RED)]);
    assert!(report.box_in_image.unwrap().iou(&back) > 0.9);
}

#[test]
fn a_sweep_beside_the_usual_window_finds_what_comes_back_elsewhere_in_fewer_frames() {
    // Where the sweep stands when it comes back is luck: hidden for several times, back in several places.
    let frames_until_found = |beside: u32, hidden: u32, x_px: f32| {
        let config = format!("search.looks_beside = {beside}\nsearch.max_widening = 1.0");
        let mut drive = Drive::with(TrackerConfig::default().overridden(&config).unwrap());
        for _ in 0..hidden {
            drive.step(&[]);
        }
        let back = BoxXywh::new(x_px, 280.0, 48.0, 40.0);
        (1..100)
            .find(|_| drive.step(&[(back, RED)]).phase == Phase::Tracking)
            .unwrap()
    };
    let sum = |beside: u32| -> u32 {
        [40, 47, 54, 61]
            .into_iter()
            .flat_map(|hidden| [40.0, 320.0, 560.0].map(|x| (hidden, x)))
            .map(|(hidden, x)| frames_until_found(beside, hidden, x))
            .sum()
    };
    let (in_place, beside) = (sum(0), sum(1));
    assert!(
        3 * beside <= 2 * in_place,
        "{beside} frames, {in_place} in its place"
    );
}

#[test]
fn a_square_of_another_colour_is_not_taken_for_the_target() {
    let mut drive = Drive::new();
    for step in 1..30 {
        drive.step(&[(moved(step), RED)]);
    }
    while drive.step(&[]).phase != Phase::Lost {}
    let mut fooled = 0;
    for _ in 0..60 {
        let report = drive.step(&[(moved(30), BLUE)]);
        assert_eq!(report.phase, Phase::Lost);
        fooled += u32::from(report.presence > 0.9 && report.score > 0.8);
    }
    // Every second look goes elsewhere.
    assert!(fooled >= 30, "the network must be fooled: {fooled}");
    // Side by side, the right one is claimed.
    let beside = moved(30).translated(60.0, 0.0);
    for _ in 0..30 {
        drive.step(&[(moved(30), BLUE), (beside, RED)]);
    }
    let report = drive.step(&[(moved(30), BLUE), (beside, RED)]);
    assert!(report.box_in_image.unwrap().iou(&beside) > 0.9);
}

#[test]
fn an_offered_place_is_looked_at_in_the_same_frame_and_the_target_is_claimed_from_it() {
    let without_sweep = TrackerConfig::default()
        .overridden("search.sweep_every = 0\nsearch.ahead_every = 0\nsearch.looks_beside = 0\nsearch.max_widening = 1.0")
        .unwrap();
    let mut drive = Drive::with(without_sweep);
    // Nobody is asked while the target is there.
    drive.step(&[(start(), RED)]);
    let frame = drive.scene.frame();
    let report = drive.follower.look_at(&frame, start(), drive.at).unwrap();
    assert_eq!(report, None);
    while drive.step(&[]).phase != Phase::Lost {}
    let (back, stranger) = (
        BoxXywh::new(560.0, 300.0, 48.0, 40.0),
        BoxXywh::new(20.0, 300.0, 48.0, 40.0),
    );
    let there = [(back, RED), (stranger, BLUE)];
    // By itself it looks where the target was lost, and nowhere else.
    for _ in 0..60 {
        assert_eq!(drive.step(&there).phase, Phase::Lost);
    }
    let look_at = |drive: &mut Drive, offered: BoxXywh| {
        let frame = drive.scene.frame();
        drive.follower.look_at(&frame, offered, drive.at).unwrap()
    };
    // An offer has to look like the target, and to be a box.
    for _ in 0..30 {
        assert_eq!(drive.step(&there).phase, Phase::Lost);
        let report = look_at(&mut drive, stranger).unwrap();
        assert_eq!(report.phase, Phase::Lost);
        let nowhere = BoxXywh::new(f32::NAN, 0.0, 10.0, 10.0);
        assert_eq!(look_at(&mut drive, nowhere), None);
    }
    let offered_at = drive.at;
    while drive.step(&there).phase != Phase::Tracking {
        // Once a claim is supported, nobody is asked for more.
        if look_at(&mut drive, back).is_some() {
            assert_eq!(look_at(&mut drive, stranger), None);
        }
        assert!(drive.at.micros_since(offered_at) < 1_000_000);
    }
    let report = drive.step(&there);
    assert!(report.box_in_image.unwrap().iou(&back) > 0.9);
}

/// A drive of one layer that lies a deviation above the source's mean.
fn adaptive_drive() -> Drive {
    let adapter = Adapter::new(AdaptConfig::default(), &[1]).unwrap();
    let mut drive = Drive::new();
    let network = BrightSquares {
        off_steps: 24,
        ..BrightSquares::default()
    };
    let follower = Follower::new(network, contract(), TrackerConfig::default()).unwrap();
    drive.follower = follower.with_adapter(Some(adapter));
    drive.scene.paint(&[(start(), RED)]);
    let frame = drive.scene.frame();
    drive.follower.start(&frame, start(), drive.at).unwrap();
    drive
}

#[test]
fn constants_that_change_bring_both_templates_anew() {
    let mut drive = adaptive_drive();
    for step in 1..150 {
        let before = drive.follower.network_mut().adjusted.len();
        let templates = drive.follower.network_mut().templates;
        drive.step(&[(moved(step / 2), RED)]);
        let network = drive.follower.network_mut();
        if network.adjusted.len() == before {
            continue;
        }
        // Perhaps the latest template was renewed in that frame as well.
        assert!(network.templates >= templates + 2);
        let newest = network.templates as f32;
        drive.step(&[(moved(step / 2), RED)]);
        let network = drive.follower.network_mut();
        assert_eq!(network.last_latest, newest);
        assert_eq!(network.last_first, newest - 1.0);
    }
    let adjusted = drive.follower.network_mut().adjusted.clone();
    assert!(adjusted.len() >= 2, "{adjusted:?}");
    assert!(adjusted.iter().all(|a| a.shift > 0.0), "{adjusted:?}");
    let told = drive.follower.adapted().unwrap();
    assert_eq!((told.changes, told.recoveries), (adjusted.len() as u64, 0));
}

#[test]
fn a_lost_target_brings_the_constants_of_the_source_back() {
    let mut drive = adaptive_drive();
    for step in 1..150 {
        drive.step(&[(moved(step / 2), RED)]);
    }
    while drive.step(&[]).phase != Phase::Lost {}
    drive.step(&[]);
    let network = drive.follower.network_mut();
    assert_eq!(network.adjusted.last(), Some(&Adjustment::NONE));
    assert_eq!(drive.follower.adapted().unwrap().recoveries, 1);
}

#[test]
fn without_an_adapter_nothing_is_sampled_and_nothing_adjusted() {
    let mut drive = Drive::new();
    drive.follower.network_mut().off_steps = 24;
    for step in 1..90 {
        drive.step(&[(moved(step), RED)]);
    }
    assert_eq!(drive.follower.adapted(), None);
    assert!(drive.follower.network_mut().adjusted.is_empty());
}

#[test]
fn the_first_template_stays_and_the_latest_is_renewed() {
    let mut drive = Drive::new();
    for step in 1..40 {
        drive.step(&[(moved(step), RED)]);
        assert_eq!(drive.follower.network_mut().last_first, 1.0);
    }
    let network = drive.follower.network_mut();
    assert_eq!(network.templates, 4);
    assert_eq!(network.last_latest, 4.0);

    // While it is not seen, nothing is learned.
    for _ in 0..60 {
        drive.step(&[]);
    }
    assert_eq!(drive.follower.network_mut().templates, 4);
}

#[test]
fn following_allocates_nothing_once_warm() {
    let mut drive = Drive::new();
    let drive_on = |drive: &mut Drive, first: u32| {
        for step in first..first + 40 {
            drive.step(&[(moved(step), RED)]);
        }
        for _ in 0..80 {
            drive.step(&[]); // lost, and the window at its widest
        }
        for _ in 0..60 {
            drive.step(&[(moved(first + 40), RED), (start(), BLUE)]);
        }
        assert_eq!(drive.follower.tracker().phase(), Phase::Tracking);
    };
    drive_on(&mut drive, 1);
    assert_eq!(counting::on_this_thread(|| drive_on(&mut drive, 41)), 0);
    // The counter counts.
    let boxed = || drop(std::hint::black_box(Box::new(1)));
    assert_eq!(counting::on_this_thread(boxed), 1);
}

#[test]
fn a_frame_of_another_size_is_refused_and_the_next_good_one_is_not() {
    let mut drive = Drive::new();
    let pixels = vec![0; 3 * 320 * 180];
    let small = FrameView::rgb8(320, 180, &pixels).unwrap();
    let error = drive
        .follower
        .step(&small, Timestamp(FRAME_MICROS))
        .unwrap_err();
    assert_eq!(error.to_string(), "frame is 320x180, expected 640x360");
    assert_eq!(drive.step(&[(start(), RED)]).phase, Phase::Tracking);
}

/// The scene's picture, every pixel twice as wide and high.
fn doubled(scene: &Scene) -> Vec<u8> {
    let frame = scene.frame();
    let (width, height) = (2 * frame.width_px(), 2 * frame.height_px());
    (0..width * height)
        .flat_map(|at| frame.native_at(at % width / 2, at / width / 2).unwrap())
        .collect()
}

#[test]
fn a_target_is_followed_on_in_a_picture_of_another_size() {
    let mut drive = Drive::new();
    for step in 1..20 {
        drive.step(&[(moved(step), RED)]);
    }
    drive.follower.resize_image(1280, 720);
    for step in 20..40 {
        drive.scene.paint(&[(moved(step), RED)]);
        drive.at.0 += FRAME_MICROS;
        let pixels = doubled(&drive.scene);
        let frame = FrameView::rgb8(1280, 720, &pixels).unwrap();
        let report = drive.follower.step(&frame, drive.at).unwrap();
        assert_eq!(report.phase, Phase::Tracking, "frame {step}");
        let b = moved(step);
        let truth = BoxXywh::new(2.0 * b.x_px, 2.0 * b.y_px, 2.0 * b.w_px, 2.0 * b.h_px);
        let iou = report.box_in_image.unwrap().iou(&truth);
        assert!(iou > 0.8, "frame {step}: {iou}");
    }
}

#[test]
fn a_target_that_is_lost_in_one_size_is_found_again_in_another() {
    let mut drive = Drive::new();
    drive.step(&[(start(), RED)]);
    let lost = drive.follower.skip(Timestamp(drive.at.0 + 3_000_000));
    assert_eq!(lost.phase, Phase::Lost);
    drive.at = Timestamp(drive.at.0 + 3_000_000);
    drive.follower.resize_image(1280, 720);
    drive.scene.paint(&[(start(), RED)]);
    let pixels = doubled(&drive.scene);
    let frame = FrameView::rgb8(1280, 720, &pixels).unwrap();
    let found = (0..30).find_map(|_| {
        drive.at.0 += FRAME_MICROS;
        drive.follower.step(&frame, drive.at).unwrap().box_in_image
    });
    let b = start();
    let truth = BoxXywh::new(2.0 * b.x_px, 2.0 * b.y_px, 2.0 * b.w_px, 2.0 * b.h_px);
    assert!(found.unwrap().iou(&truth) > 0.8, "{found:?}");
}

#[test]
fn a_network_that_fails_once_costs_one_frame() {
    let mut drive = Drive::new();
    drive.step(&[(start(), RED)]);
    drive.follower.network_mut().fails = true;
    let frame = drive.scene.frame();
    let error = drive.follower.step(&frame, Timestamp(50_000)).unwrap_err();
    assert_eq!(error, FollowError::Network("out of order"));
    assert_eq!(error.to_string(), "network: out of order");
    drive.follower.network_mut().fails = false;
    assert_eq!(drive.step(&[(start(), RED)]).phase, Phase::Tracking);
}

#[test]
fn a_start_that_fails_follows_nothing() {
    let mut drive = Drive::new();
    let outside = BoxXywh::new(900.0, 100.0, 40.0, 40.0);
    let frame = drive.scene.frame();
    assert!(drive.follower.start(&frame, outside, Timestamp(1)).is_err());
    assert_eq!(drive.step(&[(start(), RED)]).phase, Phase::Idle);
}

#[test]
fn a_point_on_a_thing_is_its_box_whatever_its_size_and_what_is_followed_is_left_alone() {
    let mut drive = Drive::new();
    let followed = drive.step(&[(start(), RED)]);
    for side in [14.0, 40.0, 110.0, 200.0] {
        let thing = BoxXywh::new(300.0, 100.0, side, side);
        drive.scene.paint(&[(thing, BLUE)]);
        let frame = drive.scene.frame();
        let point = (300.0 + 0.3 * side, 100.0 + 0.6 * side);
        let found = drive.follower.select(&frame, point).unwrap();
        assert!(found.iou(&thing) > 0.8, "{found:?} of {thing:?}");
    }
    // Nothing is there: a square about the point, of a size that can be followed.
    drive.scene.paint(&[]);
    let frame = drive.scene.frame();
    let found = drive.follower.select(&frame, (100.0, 100.0)).unwrap();
    assert_eq!(found.center(), (100.0, 100.0));
    assert!((found.w_px - 48.0).abs() < 1.0, "{found:?}");
    for outside in [(-1.0, 5.0), (5.0, 361.0), (f32::NAN, 5.0)] {
        assert!(drive.follower.select(&frame, outside).is_err());
    }
    let again = drive.step(&[(start(), RED)]);
    assert_eq!(again.phase, followed.phase);
    assert!(
        again
            .box_in_image
            .unwrap()
            .iou(&followed.box_in_image.unwrap())
            > 0.9
    );
}
