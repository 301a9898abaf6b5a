//! Opening a hundred thousand annotated frames takes a fraction of a gigabyte in every layout, and finds all of them.
//!
//! Measured is the most memory that [`Dataset::open`] takes; `--nocapture` shows it. How long it takes is for
//! `cargo bench --bench open_packs` to say, since a test has neighbours. Layouts with a file of its own for every frame
//! are held to the same bound with a fifth of the frames and a fifth of the memory, since writing the files takes far
//! longer than opening the pack: `ROADHOUND_ALL_FRAMES=1` writes all of them.
#![allow(clippy::unwrap_used, missing_docs)]

mod packs;

use std::sync::Mutex;

use packs::{LAYOUTS, Layout, config_of, forget_peak, memory_mib};
use roadhound_trainer::data::{Dataset, PackKind};

const FRAMES: usize = 100_000;
/// For all frames.
const MOST_MIB: f64 = 400.0;

/// One at a time: they measure.
static ALONE: Mutex<()> = Mutex::new(());

fn check(kind: PackKind) {
    let _alone = ALONE
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    let layout: &Layout = LAYOUTS.iter().find(|layout| layout.kind == kind).unwrap();
    let parts = match std::env::var_os("ROADHOUND_ALL_FRAMES") {
        None if layout.a_file_a_frame => 5,
        _ => 1,
    };
    let frames = layout.whole_videos(FRAMES / parts);
    let folder = tempfile::tempdir().unwrap();
    (layout.write)(folder.path(), frames);
    let config = config_of(folder.path(), kind);
    let before = memory_mib("VmRSS");
    forget_peak();
    let dataset = Dataset::open(&config).unwrap_or_else(|error| panic!("{error}"));
    let used = memory_mib("VmHWM") - before;
    let read = dataset.packs()[0]
        .sequences
        .iter()
        .flat_map(|s| &s.sequence.frames);
    let found = read.fold((0, 0), |(n, boxes), f| (n + 1, boxes + f.annotations.len()));
    assert_eq!(
        found,
        (frames, frames * layout.boxes_of_a_frame),
        "{}",
        layout.name
    );
    eprintln!("{}: {frames} frames in {used:.0} MiB at most", layout.name);
    assert!(
        used < MOST_MIB / parts as f64,
        "{}: {used} MiB",
        layout.name
    );
}

#[test]
fn every_layout_of_videos_can_be_thinned() {
    let _alone = ALONE
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    for kind in [
        PackKind::Lasot,
        PackKind::Got10k,
        PackKind::TrackingNet,
        PackKind::Mot,
        PackKind::Kitti,
        PackKind::Bdd100k,
    ] {
        let layout: &Layout = LAYOUTS.iter().find(|layout| layout.kind == kind).unwrap();
        let folder = tempfile::tempdir().unwrap();
        (layout.write)(folder.path(), layout.whole_videos(1000));
        let lengths = |keep_every: u32| -> Vec<usize> {
            let mut config = config_of(folder.path(), kind);
            config.packs[0].read.keep_every = keep_every;
            let dataset = Dataset::open(&config).unwrap_or_else(|error| panic!("{error}"));
            let sequences = &dataset.packs()[0].sequences;
            sequences.iter().map(|s| s.sequence.frames.len()).collect()
        };
        let all = lengths(1);
        assert_eq!(all.iter().sum::<usize>(), layout.whole_videos(1000));
        // The first frame, and every seventh behind it.
        let some: Vec<usize> = all.iter().map(|length| length.div_ceil(7)).collect();
        assert_eq!(lengths(7), some, "{}", layout.name);
    }
}

#[test]
fn lasot_opens_in_little_memory() {
    check(PackKind::Lasot);
}

#[test]
fn got10k_opens_in_little_memory() {
    check(PackKind::Got10k);
}

#[test]
fn trackingnet_opens_in_little_memory() {
    check(PackKind::TrackingNet);
}

#[test]
fn mot_opens_in_little_memory() {
    check(PackKind::Mot);
}

#[test]
fn kitti_opens_in_little_memory() {
    check(PackKind::Kitti);
}

#[test]
fn bdd100k_opens_in_little_memory() {
    check(PackKind::Bdd100k);
}

#[test]
fn voc_opens_in_little_memory() {
    check(PackKind::Voc);
}

#[test]
fn yolo_opens_in_little_memory() {
    check(PackKind::Yolo);
}

#[test]
fn coco_opens_in_little_memory() {
    check(PackKind::Coco);
}
