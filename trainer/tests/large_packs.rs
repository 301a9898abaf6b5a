//! A hundred thousand annotated frames in each format open within a second and a fraction of a gigabyte.
//!
//! The folders are written by the test, in the data sets' own layouts; images are empty files except where a reader has
//! to look at a header. Measured is the whole of [`Dataset::open`] with warm file caches, the best of three, and the most
//! memory that the first one takes. The bounds leave room for slow and shared machines; `--nocapture` shows the figures. Formats with a file of its own for every frame are checked
//! with a fifth of the frames, since writing the files takes far longer than opening the pack: `ROADHOUND_ALL_FRAMES=1`
//! writes all of them.
#![allow(clippy::unwrap_used, missing_docs)]

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rayon::prelude::*;
use roadhound_trainer::data::{DataConfig, Dataset, PackConfig, PackKind, ReadConfig};

const FRAMES: usize = 100_000;
/// A second on an idle machine; a continuous-integration runner has neighbours.
const MOST_TIME: Duration = Duration::from_secs(6);
const MOST_MIB: f64 = 400.0;

/// One at a time: they measure.
static ALONE: Mutex<()> = Mutex::new(());

/// How many frames a pack with files of its own for every frame gets.
fn frames_of_files() -> usize {
    match std::env::var_os("ROADHOUND_ALL_FRAMES") {
        Some(_) => FRAMES,
        None => FRAMES / 5,
    }
}

fn png() -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    image::RgbImage::new(64, 48)
        .write_to(&mut bytes, image::ImageFormat::Png)
        .unwrap();
    bytes.into_inner()
}

fn write(path: &Path, bytes: impl AsRef<[u8]>) {
    std::fs::write(path, bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

/// Empty images, the first one real: its header tells the size of a video.
fn write_images(folder: &Path, names: impl Iterator<Item = String>) {
    std::fs::create_dir_all(folder).unwrap();
    let first = png();
    for (index, name) in names.enumerate() {
        write(
            &folder.join(name),
            if index == 0 { &first[..] } else { &[] },
        );
    }
}

/// Memory of this process in MiB: `VmRSS`, in use, or `VmHWM`, the most since [`forget_peak`].
fn memory_mib(which: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(which)?.strip_prefix(':'))
        .unwrap_or("0 kB");
    line.trim()
        .trim_end_matches("kB")
        .trim()
        .parse::<f64>()
        .unwrap_or(0.0)
        / 1024.0
}

/// Starts the peak over, where the system can.
fn forget_peak() {
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

fn check(
    kind: PackKind,
    name: &str,
    generate: impl FnOnce(&Path),
    (frames, boxes): (usize, usize),
) {
    let _alone = ALONE
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    let folder = tempfile::tempdir().unwrap();
    generate(folder.path());
    let config = DataConfig {
        root: folder.path().to_owned(),
        packs: vec![PackConfig {
            name: "large".into(),
            kind,
            weight: 1.0,
            path: Some(".".into()),
            held_out: None,
            fixed_camera_prefixes: vec![],
            read: ReadConfig::default(),
        }],
        ..DataConfig::default()
    };
    let before = memory_mib("VmRSS");
    forget_peak();
    let (mut first, mut best) = (Duration::ZERO, Duration::MAX);
    let mut used = 0.0;
    for round in 0..3 {
        let started = Instant::now();
        let dataset = Dataset::open(&config).unwrap_or_else(|error| panic!("{error}"));
        best = best.min(started.elapsed());
        if round == 0 {
            first = started.elapsed();
            used = memory_mib("VmHWM") - before;
        }
        let read = dataset.packs()[0]
            .sequences
            .iter()
            .flat_map(|s| &s.sequence.frames);
        let (count, found) =
            read.fold((0, 0), |(n, boxes), f| (n + 1, boxes + f.annotations.len()));
        assert_eq!((count, found), (frames, boxes), "{name}");
    }
    eprintln!(
        "{name}: {frames} frames, {boxes} boxes opened in {:.2} s at first, {:.2} s at best, {used:.0} MiB at most",
        first.as_secs_f64(),
        best.as_secs_f64()
    );
    assert!(best < MOST_TIME, "{name}: {best:?}");
    assert!(used < MOST_MIB, "{name}: {used} MiB");
}

#[test]
fn coco_opens_in_time() {
    let generate = |folder: &Path| {
        write_images(
            &folder.join("images"),
            std::iter::once("000000.jpg".to_owned()),
        );
        let mut json = String::from("{\"info\": {}, \"images\": [");
        for i in 0..FRAMES {
            let comma = if i == 0 { "" } else { ", " };
            write!(
                json,
                r#"{comma}{{"license": 3, "file_name": "{i:06}.jpg", "coco_url": "http://images.example.org/{i:012}.jpg", "height": 427, "width": 640, "date_captured": "2013-11-14 11:18:45", "id": {i}}}"#
            )
            .unwrap();
        }
        json += "], \"annotations\": [";
        for i in 0..4 * FRAMES {
            let comma = if i == 0 { "" } else { ", " };
            write!(
                json,
                r#"{comma}{{"segmentation": [[510.66, 423.01, 511.72, 420.03, 510.45, 416.0, 510.34, 413.02, 510.77, 410.26]], "area": 702.1, "iscrowd": 0, "image_id": {}, "bbox": [473.07, 195.93, 38.65, 28.67], "category_id": 3, "id": {i}}}"#,
                i / 4
            )
            .unwrap();
        }
        json +=
            "], \"categories\": [{\"supercategory\": \"vehicle\", \"id\": 3, \"name\": \"car\"}]}";
        write(&folder.join("annotations.json"), json);
    };
    check(PackKind::Coco, "coco", generate, (FRAMES, 4 * FRAMES));
}

#[test]
fn bdd100k_opens_in_time() {
    let generate = |folder: &Path| {
        std::fs::create_dir(folder.join("labels")).unwrap();
        (0..FRAMES / 200).into_par_iter().for_each(|video| {
            let name = format!("b1c66a42-{video:08x}");
            write_images(&folder.join("images").join(&name), std::iter::once(format!("{name}-0000001.jpg")));
            let mut json = String::from("[");
            for frame in 0..200 {
                let comma = if frame == 0 { "" } else { ",\n" };
                write!(json, r#"{comma}{{"name":"{name}-{:07}.jpg","labels":["#, frame + 1).unwrap();
                for label in 0..5 {
                    let comma = if label == 0 { "" } else { "," };
                    write!(
                        json,
                        r#"{comma}{{"id":"{label:08}","category":"car","attributes":{{"occluded":true,"truncated":false,"crowd":false}},"box2d":{{"x1":1095.38999{frame},"x2":1206.22718{label},"y1":313.90802,"y2":378.11906}}}}"#
                    )
                    .unwrap();
                }
                write!(json, r#"],"videoName":"{name}","frameIndex":{frame}}}"#).unwrap();
            }
            json += "]";
            write(&folder.join("labels").join(format!("{name}.json")), json);
        });
    };
    check(PackKind::Bdd100k, "bdd100k", generate, (FRAMES, 5 * FRAMES));
}

#[test]
fn voc_opens_in_time() {
    let frames = frames_of_files();
    let generate = |folder: &Path| {
        (0..frames / 500).into_par_iter().for_each(|drive| {
            let drive = format!("frontFar/BLR-2018-03-22_17-39-26_{drive}");
            let labels = folder.join("Annotations").join(&drive);
            let images = folder.join("JPEGImages").join(&drive);
            std::fs::create_dir_all(&labels).unwrap();
            std::fs::create_dir_all(&images).unwrap();
            for frame in 0..500 {
                let mut xml = format!(
                    "<annotation>\n\t<filename>{frame:06}_r.jpg</filename>\n\t<folder>{drive}</folder>\n\t<size>\n\t\t<width>1920</width>\n\t\t<height>1080</height>\n\t\t<depth>3</depth>\n\t</size>\n"
                );
                for object in 0..5 {
                    write!(
                        xml,
                        "\t<object>\n\t\t<name>autorickshaw</name>\n\t\t<bndbox>\n\t\t\t<xmin>{}</xmin>\n\t\t\t<ymin>549</ymin>\n\t\t\t<xmax>1153</xmax>\n\t\t\t<ymax>623</ymax>\n\t\t</bndbox>\n\t</object>\n",
                        1000 + object
                    )
                    .unwrap();
                }
                xml += "</annotation>\n";
                write(&labels.join(format!("{frame:06}_r.xml")), xml);
                write(&images.join(format!("{frame:06}_r.jpg")), []);
            }
        });
    };
    check(PackKind::Voc, "voc (idd)", generate, (frames, 5 * frames));
}

#[test]
fn yolo_opens_in_time() {
    let frames = frames_of_files();
    let generate = |folder: &Path| {
        std::fs::create_dir(folder.join("labels")).unwrap();
        std::fs::create_dir(folder.join("img")).unwrap();
        let image = png();
        (0..frames).into_par_iter().for_each(|i| {
            write(&folder.join(format!("img/{i:06}.png")), &image);
            let label = "0 0.716797 0.395833 0.216406 0.147222\n1 0.687109 0.379167 0.255469 0.158333\n2 0.420312 0.395833 0.140625 0.166667\n";
            write(&folder.join(format!("labels/{i:06}.txt")), label);
        });
    };
    check(PackKind::Yolo, "yolo", generate, (frames, 3 * frames));
}

#[test]
fn trackingnet_opens_in_time() {
    let frames = frames_of_files();
    let generate = |folder: &Path| {
        std::fs::create_dir_all(folder.join("TRAIN_0/anno")).unwrap();
        (0..frames / 400).into_par_iter().for_each(|clip| {
            let name = format!("0-6LB4FqxoE_{clip}");
            write_images(
                &folder.join("TRAIN_0/frames").join(&name),
                (0..400).map(|i| format!("{i}.jpg")),
            );
            let mut truth = String::new();
            for i in 0..400 {
                writeln!(truth, "{}.24,123.44,229.39,276.98", 100 + i).unwrap();
            }
            write(&folder.join(format!("TRAIN_0/anno/{name}.txt")), truth);
        });
    };
    check(
        PackKind::TrackingNet,
        "trackingnet",
        generate,
        (frames, frames),
    );
}

#[test]
fn got10k_opens_in_time() {
    let frames = frames_of_files();
    let generate = |folder: &Path| {
        (0..frames / 100).into_par_iter().for_each(|clip| {
            let clip = folder.join(format!("GOT-10k_Train_{clip:06}"));
            write_images(&clip, (1..=100).map(|i| format!("{i:08}.jpg")));
            write(
                &clip.join("groundtruth.txt"),
                "347.0000,443.0000,429.0000,272.0000\n".repeat(100),
            );
            write(&clip.join("absence.label"), "0\n".repeat(100));
            write(&clip.join("cover.label"), "8\n".repeat(100));
            write(&clip.join("cut_by_image.label"), "0\n".repeat(100));
            write(
                &clip.join("meta_info.ini"),
                "[METAINFO]\nanno_fps: 10Hz\nobject_class: car\nresolution: (1920, 1080)\n",
            );
        });
    };
    check(PackKind::Got10k, "got10k", generate, (frames, frames));
}

#[test]
fn mot_opens_in_time() {
    let generate = |folder: &Path| {
        (0..FRAMES / 1000).into_par_iter().for_each(|recording| {
            let recording = folder.join(format!("MOT17-{recording:03}"));
            write_images(
                &recording.join("img1"),
                (1..=1000).map(|i| format!("{i:06}.jpg")),
            );
            std::fs::create_dir(recording.join("gt")).unwrap();
            let mut gt = String::new();
            for id in 1..=10 {
                for frame in 1..=1000 {
                    writeln!(gt, "{frame},{id},{},484,97,109,1,1,0.86014", 100 + id).unwrap();
                }
            }
            write(&recording.join("gt/gt.txt"), gt);
        });
    };
    check(PackKind::Mot, "mot", generate, (FRAMES, 10 * FRAMES));
}

#[test]
fn lasot_opens_in_time() {
    let frames = frames_of_files();
    let generate = |folder: &Path| {
        (0..frames / 1000).into_par_iter().for_each(|clip| {
            let clip = folder.join(format!("car/car-{clip}"));
            write_images(&clip.join("img"), (1..=1000).map(|i| format!("{i:08}.jpg")));
            write(
                &clip.join("groundtruth.txt"),
                "367,101,41,16\n".repeat(1000),
            );
            let flags = vec!["0"; 1000].join(",");
            write(&clip.join("full_occlusion.txt"), &flags);
            write(&clip.join("out_of_view.txt"), &flags);
        });
    };
    check(PackKind::Lasot, "lasot", generate, (frames, frames));
}

#[test]
fn kitti_opens_in_time() {
    let frames = frames_of_files();
    let generate = |folder: &Path| {
        std::fs::create_dir(folder.join("label_02")).unwrap();
        (0..frames / 500).into_par_iter().for_each(|drive| {
            let name = format!("{drive:04}");
            write_images(
                &folder.join("image_02").join(&name),
                (0..500).map(|i| format!("{i:06}.png")),
            );
            let mut labels = String::new();
            for frame in 0..500 {
                for object in 0..5 {
                    writeln!(
                        labels,
                        "{frame} {object} Car 0 1 -1.793451 {}.822501 161.702 455.226 292.372 2.0 1.823255 4.433886 -4.552284 1.858523 13.410495 -2.115488",
                        290 + object
                    )
                    .unwrap();
                }
            }
            write(&folder.join("label_02").join(format!("{name}.txt")), labels);
        });
    };
    check(PackKind::Kitti, "kitti", generate, (frames, 5 * frames));
}
