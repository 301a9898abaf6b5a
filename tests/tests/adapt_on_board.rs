//! `track --adapt`, from a bundle with statistics of the trainer's to boxes: what it may change and what not.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::path::{Path, PathBuf};

use image::ExtendedColorType;
use roadhound_edge::bundle::{ModelSource, Precision};
use roadhound_edge::drive::{Drive, DriveConfig};
use roadhound_edge::select::Target;
use roadhound_edge::source;
use roadhound_edge::track::{TrackOptions, track};
use roadhound_shared::adapt::AdaptConfig;
use roadhound_shared::geometry::{BoxLtrb, BoxXywh};
use roadhound_trainer::export::bundle;
use roadhound_trainer::quantise::statistics::source_statistics;
use roadhound_trainer::sampler::Pair;
use system_tests::bundle_folder;

/// The shipped bundle with statistics of a source unlike any road.
fn bundle_that_adapts(folder: &Path) -> PathBuf {
    let mut files = bundle::read(&bundle_folder()).unwrap();
    let contract = files.manifest.follow.clone();
    let stripes = |side: u32| -> Vec<u8> {
        let bytes = 0..3 * side * side;
        bytes.map(|i| ((i / 5 * 31) % 256) as u8).collect()
    };
    let pair = Pair {
        template_rgb: stripes(contract.template_px),
        template_latest_rgb: stripes(contract.template_px),
        search_rgb: stripes(contract.search_px),
        box_in_search: BoxLtrb::new(96.0, 96.0, 160.0, 160.0),
        present: true,
        instance: 0,
        has_distinct_latest: false,
    };
    let graphs = files.int8.as_ref().unwrap();
    let statistics = source_statistics(graphs, &contract, &[pair], 4).unwrap();
    bundle::set_statistics(&mut files, &statistics).unwrap();
    let out = folder.join("bundle");
    bundle::write_quantised(files, &[], &out).unwrap();
    out
}

/// A drive as pictures, and the box of the car ahead in the first.
fn drive(folder: &Path) -> (PathBuf, BoxXywh) {
    let config = DriveConfig {
        width_px: 320,
        height_px: 180,
        frames: 60,
        ..DriveConfig::default()
    };
    let mut drive = Drive::new(config).unwrap();
    let frames = folder.join("frames");
    std::fs::create_dir(&frames).unwrap();
    let (mut rgb, mut first) = (Vec::new(), None);
    for index in 0..60 {
        let truth = drive.render(index, &mut rgb);
        first = first.or(truth.box_in_image);
        let path = frames.join(format!("{index:06}.png"));
        image::save_buffer(&path, &rgb, 320, 180, ExtendedColorType::Rgb8).unwrap();
    }
    (frames, first.unwrap())
}

#[test]
fn boxes_change_only_where_it_is_asked_for_and_are_the_same_again_and_on_more_threads() {
    let folder = tempfile::tempdir().unwrap();
    let adapts = bundle_that_adapts(folder.path());
    let (frames, first) = drive(folder.path());
    let config = AdaptConfig {
        memory_seconds: 0.5,
        change_every_seconds: 0.2,
        ..AdaptConfig::default()
    };
    let tracked = |model: &Path, adapt: Option<AdaptConfig>, threads, precision| {
        let (boxes, jsonl) = (folder.path().join("o.txt"), folder.path().join("o.jsonl"));
        track(&TrackOptions {
            source: frames.clone(),
            source_options: source::Options::default(),
            target: Target::Box(first),
            refind: false,
            familiarity: false,
            adapt,
            out: Some(boxes.clone()),
            times: None,
            jsonl: Some(jsonl.clone()),
            video: None,
            model: ModelSource::Folder(model.to_owned()),
            precision: Some(precision),
            threads,
            quiet: true,
        })
        .map_err(|failure| failure.line())?;
        let read = |path: &Path| std::fs::read_to_string(path).unwrap();
        Ok::<_, String>((read(&boxes), read(&jsonl)))
    };
    let int8 = Precision::Int8;
    let shipped = tracked(&bundle_folder(), None, 1, int8).unwrap();
    assert_eq!(tracked(&adapts, None, 1, int8).unwrap(), shipped);
    assert!(!shipped.1.contains("adapt"));

    let adapted = tracked(&adapts, Some(config), 1, int8).unwrap();
    assert_ne!(adapted.0, shipped.0);
    assert_eq!(tracked(&adapts, Some(config), 1, int8).unwrap(), adapted);
    assert_eq!(tracked(&adapts, Some(config), 3, int8).unwrap(), adapted);
    let changes = |line: &str| {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        line["adapt"]["changes"].as_u64().unwrap()
    };
    assert!(adapted.1.lines().map(changes).max().unwrap() >= 1);

    // Strength 0 is the source, looked into.
    let none = AdaptConfig {
        strength: 0.0,
        ..config
    };
    assert_eq!(tracked(&adapts, Some(none), 1, int8).unwrap().0, shipped.0);

    for (model, precision, said) in [
        (&adapts, Precision::F32, "--adapt works in int8"),
        (&bundle_folder(), int8, "this model has no table [adapt]"),
    ] {
        let refused = tracked(model, Some(config), 1, precision).unwrap_err();
        assert!(refused.contains(said), "{refused}");
    }
}
