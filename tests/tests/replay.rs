//! `roadhound-train evaluate` and `roadhound track` give the same boxes, to the bit: one loop, two runtimes.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::path::{Path, PathBuf};

use image::{DynamicImage, ExtendedColorType};
use roadhound_edge::bundle::{ModelSource, Precision};
use roadhound_edge::drive::{Drive, DriveConfig};
use roadhound_edge::select::Target;
use roadhound_edge::source::{self, Pixels};
use roadhound_edge::track::{TrackOptions, track};
use roadhound_shared::geometry::BoxXywh;
use roadhound_shared::tracker::Report;
use roadhound_trainer::data::otb::load_runs;
use roadhound_trainer::data::sequence::Run;
use roadhound_trainer::evaluate::{self, follow_runs};
use roadhound_trainer::export::interpret::OnnxNetwork;
use system_tests::{bundle_folder, read_bundle, say, shared_data};

/// All that a program says about a frame.
#[derive(Debug, PartialEq)]
struct Said {
    micros: u64,
    box_xywh: Option<[f32; 4]>,
    score: f32,
    presence: f32,
    similarity: f32,
    phase: String,
}

impl From<&Report> for Said {
    fn from(report: &Report) -> Self {
        Self {
            micros: report.captured_at.0,
            box_xywh: report
                .box_in_image
                .map(|b| [b.x_px, b.y_px, b.w_px, b.h_px]),
            score: report.score,
            presence: report.presence,
            similarity: report.similarity,
            phase: report.phase.name().to_owned(),
        }
    }
}

/// A line of `--jsonl`: its numbers have the digits that tell one `f32` from all others.
fn parse(line: &str) -> Said {
    let value: serde_json::Value = serde_json::from_str(line).unwrap();
    let number = |v: &serde_json::Value| v.as_f64().unwrap() as f32;
    let four =
        |v: &Vec<serde_json::Value>| [number(&v[0]), number(&v[1]), number(&v[2]), number(&v[3])];
    Said {
        micros: value["t_micros"].as_u64().unwrap(),
        box_xywh: value["box"].as_array().map(four),
        score: number(&value["score"]),
        presence: number(&value["presence"]),
        similarity: number(&value["similarity"]),
        phase: value["phase"].as_str().unwrap().to_owned(),
    }
}

/// What `roadhound track` says about a run.
fn tracked(run: &Run) -> Vec<Said> {
    let folder = tempfile::tempdir().unwrap();
    let frames = folder.path().join("frames");
    std::fs::create_dir(&frames).unwrap();
    for (index, path) in run.frames.iter().enumerate() {
        let ending = path.extension().unwrap().to_str().unwrap();
        std::fs::copy(path, frames.join(format!("{index:06}.{ending}"))).unwrap();
    }
    let jsonl = folder.path().join("out.jsonl");
    track(&TrackOptions {
        source: frames,
        source_options: source::Options {
            fps: Some(run.fps),
            ..source::Options::default()
        },
        target: Target::Box(run.truth[0].unwrap()),
        refind: false,
        familiarity: false,
        adapt: None,
        out: None,
        times: None,
        jsonl: Some(jsonl.clone()),
        video: None,
        model: ModelSource::Folder(bundle_folder()),
        precision: Some(Precision::F32),
        threads: 1,
        quiet: true,
    })
    .unwrap();
    let text = std::fs::read_to_string(jsonl).unwrap();
    text.lines().map(parse).collect()
}

/// What `roadhound-train evaluate` says about a run.
fn evaluated(run: Run) -> Vec<Said> {
    let bundle = read_bundle(&bundle_folder()).unwrap();
    let contract = &bundle.manifest.follow;
    let network = OnnxNetwork::new(&bundle.template, &bundle.search, contract).unwrap();
    let tracker = &bundle.manifest.tracker;
    let followed = follow_runs(network, contract, tracker, vec![run], None, |_| {}).unwrap();
    followed[0].reports.iter().map(Said::from).collect()
}

fn check_same(run: Run) {
    let name = run.name.clone();
    let (edge, trainer) = (tracked(&run), evaluated(run));
    assert_eq!(edge.len(), trainer.len());
    for (frame, (edge, trainer)) in edge.iter().zip(&trainer).enumerate() {
        assert_eq!(edge, trainer, "{name}, frame {frame}");
    }
    let found = edge.iter().filter(|said| said.box_xywh.is_some()).count();
    say(&format!(
        "{name}: {} frames, {found} boxes, all the same",
        edge.len()
    ));
}

fn rendered_run(folder: &Path) -> Run {
    let mut drive = Drive::new(DriveConfig {
        width_px: 320,
        height_px: 180,
        frames: 60,
        ..DriveConfig::default()
    })
    .unwrap();
    let mut rgb = Vec::new();
    let mut run = Run {
        name: "rendered".into(),
        frames: vec![],
        truth: vec![],
        fps: 29.97,
        assisted: false,
        class: None,
    };
    for index in 0..drive.config().frames {
        let truth = drive.render(index, &mut rgb);
        let path = folder.join(format!("{index:06}.png"));
        image::save_buffer(&path, &rgb, 320, 180, ExtendedColorType::Rgb8).unwrap();
        run.frames.push(path);
        run.truth.push(truth.box_in_image);
    }
    run
}

#[test]
fn a_rendered_drive_is_followed_alike() {
    let folder = tempfile::tempdir().unwrap();
    let run = rendered_run(folder.path());
    assert!(BoxXywh::is_proper(&run.truth[0].unwrap()));
    check_same(run);
}

#[test]
fn real_clips_are_followed_alike_from_their_first_frame_to_their_last() {
    let Some(root) = shared_data("data/sequences") else {
        return;
    };
    for run in load_runs(&root).unwrap() {
        check_same(run);
    }
}

/// The bytes of a picture, in the program on the board.
fn decoded_by_edge(path: &Path) -> Vec<u8> {
    let mut source = source::open(path.parent().unwrap(), &source::Options::default()).unwrap();
    let frame = source.next_frame().unwrap().unwrap();
    let Pixels::Packed { data, .. } = frame.pixels else {
        panic!("images are packed")
    };
    data.to_vec()
}

#[test]
fn pictures_of_every_kind_are_decoded_alike() {
    let noise = |len: u32| -> Vec<u8> { (0..len).map(|i| (i * i * 37 % 251) as u8).collect() };
    let (width, height) = (24, 17);
    let wide = |channels: u32| -> Vec<u16> {
        let values = 0..width * height * channels;
        values.map(|i| (i * i * 7919 % 65_521) as u16).collect()
    };
    let narrow = |channels: u32| noise(width * height * channels);
    let kinds: Vec<(&str, DynamicImage)> = vec![
        (
            "png",
            image::GrayImage::from_raw(width, height, narrow(1))
                .unwrap()
                .into(),
        ),
        (
            "png",
            image::GrayAlphaImage::from_raw(width, height, narrow(2))
                .unwrap()
                .into(),
        ),
        (
            "png",
            image::RgbImage::from_raw(width, height, narrow(3))
                .unwrap()
                .into(),
        ),
        (
            "png",
            image::RgbaImage::from_raw(width, height, narrow(4))
                .unwrap()
                .into(),
        ),
        (
            "png",
            DynamicImage::ImageLuma16(
                image::ImageBuffer::from_raw(width, height, wide(1)).unwrap(),
            ),
        ),
        (
            "png",
            DynamicImage::ImageLumaA16(
                image::ImageBuffer::from_raw(width, height, wide(2)).unwrap(),
            ),
        ),
        (
            "png",
            DynamicImage::ImageRgb16(image::ImageBuffer::from_raw(width, height, wide(3)).unwrap()),
        ),
        (
            "png",
            DynamicImage::ImageRgba16(
                image::ImageBuffer::from_raw(width, height, wide(4)).unwrap(),
            ),
        ),
        (
            "jpg",
            image::GrayImage::from_raw(width, height, narrow(1))
                .unwrap()
                .into(),
        ),
        (
            "jpg",
            image::RgbImage::from_raw(width, height, narrow(3))
                .unwrap()
                .into(),
        ),
    ];
    for (ending, picture) in kinds {
        let folder = tempfile::tempdir().unwrap();
        let path: PathBuf = folder.path().join(format!("a.{ending}"));
        picture.save(&path).unwrap();
        let trainer = evaluate::open(&path).unwrap();
        assert_eq!(
            decoded_by_edge(&path),
            trainer.as_bytes(),
            "{ending}, {:?}",
            picture.color()
        );
    }
}
