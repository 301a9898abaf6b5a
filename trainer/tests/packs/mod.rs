//! Packs of any number of frames in every layout, written as the data sets themselves are: for the bench that times
//! their opening (`benches/open_packs.rs`) and for the test that bounds its memory (`tests/large_packs.rs`).
//!
//! Images are empty files except where a reader has to look at a header: the first of a video, and every one of YOLO,
//! whose boxes are shares of it. COCO and BDD100K tell all sizes or name their files, so one image a video is enough.

use std::fmt::Write as _;
use std::path::Path;

use rayon::prelude::*;
use roadhound_trainer::data::{DataConfig, PackConfig, PackKind, ReadConfig};

/// A layout, how long its videos are here, how many boxes a frame has, and who writes a pack of so many frames.
pub(crate) struct Layout {
    pub(crate) name: &'static str,
    pub(crate) kind: PackKind,
    /// Frames come in multiples of this.
    frames_of_a_video: usize,
    pub(crate) boxes_of_a_frame: usize,
    /// Whether every frame is a file, or two: these packs take far longer to write than to open.
    #[allow(dead_code, reason = "the bench writes all of them")]
    pub(crate) a_file_a_frame: bool,
    pub(crate) write: fn(&Path, usize),
}

impl Layout {
    /// As many whole videos as that many frames hold.
    pub(crate) fn whole_videos(&self, frames: usize) -> usize {
        frames / self.frames_of_a_video * self.frames_of_a_video
    }
}

/// All that a configuration can name, but our own.
pub(crate) const LAYOUTS: [Layout; 9] = [
    Layout {
        name: "LaSOT",
        kind: PackKind::Lasot,
        frames_of_a_video: 1000,
        boxes_of_a_frame: 1,
        a_file_a_frame: true,
        write: lasot,
    },
    Layout {
        name: "GOT-10k",
        kind: PackKind::Got10k,
        frames_of_a_video: 100,
        boxes_of_a_frame: 1,
        a_file_a_frame: true,
        write: got10k,
    },
    Layout {
        name: "TrackingNet",
        kind: PackKind::TrackingNet,
        frames_of_a_video: 400,
        boxes_of_a_frame: 1,
        a_file_a_frame: true,
        write: trackingnet,
    },
    Layout {
        name: "MOTChallenge",
        kind: PackKind::Mot,
        frames_of_a_video: 1000,
        boxes_of_a_frame: 10,
        a_file_a_frame: true,
        write: mot,
    },
    Layout {
        name: "KITTI",
        kind: PackKind::Kitti,
        frames_of_a_video: 500,
        boxes_of_a_frame: 5,
        a_file_a_frame: true,
        write: kitti,
    },
    Layout {
        name: "BDD100K",
        kind: PackKind::Bdd100k,
        frames_of_a_video: 200,
        boxes_of_a_frame: 5,
        a_file_a_frame: false,
        write: bdd100k,
    },
    Layout {
        name: "Pascal VOC",
        kind: PackKind::Voc,
        frames_of_a_video: 500,
        boxes_of_a_frame: 5,
        a_file_a_frame: true,
        write: voc,
    },
    Layout {
        name: "YOLO",
        kind: PackKind::Yolo,
        frames_of_a_video: 1,
        boxes_of_a_frame: 3,
        a_file_a_frame: true,
        write: yolo,
    },
    Layout {
        name: "COCO",
        kind: PackKind::Coco,
        frames_of_a_video: 1,
        boxes_of_a_frame: 4,
        a_file_a_frame: false,
        write: coco,
    },
];

/// A configuration that opens the folder as one pack.
pub(crate) fn config_of(folder: &Path, kind: PackKind) -> DataConfig {
    DataConfig {
        root: folder.to_owned(),
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
    }
}

/// A line of `/proc/self/status` in MiB: `VmRSS`, in use, or `VmHWM`, the most since [`forget_peak`].
pub(crate) fn memory_mib(which: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(which)?.strip_prefix(':'))
        .unwrap_or("0 kB");
    let kib = line.trim().trim_end_matches("kB").trim();
    kib.parse::<f64>().unwrap_or(0.0) / 1024.0
}

/// Starts the peak over, where the system can.
pub(crate) fn forget_peak() {
    let _ = std::fs::write("/proc/self/clear_refs", "5");
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
        let bytes = if index == 0 { &first[..] } else { &[] };
        write(&folder.join(name), bytes);
    }
}

/// What stands before an entry of a list.
fn comma(index: usize) -> &'static str {
    if index == 0 { "" } else { ", " }
}

fn coco(folder: &Path, frames: usize) {
    write_images(
        &folder.join("images"),
        std::iter::once("000000.jpg".to_owned()),
    );
    let mut json = String::from("{\"info\": {}, \"images\": [");
    for i in 0..frames {
        write!(
            json,
            r#"{}{{"license": 3, "file_name": "{i:06}.jpg", "coco_url": "http://images.example.org/{i:012}.jpg", "height": 427, "width": 640, "date_captured": "2013-11-14 11:18:45", "id": {i}}}"#,
            comma(i)
        )
        .unwrap();
    }
    json += "], \"annotations\": [";
    for i in 0..4 * frames {
        write!(
            json,
            r#"{}{{"segmentation": [[510.66, 423.01, 511.72, 420.03, 510.45, 416.0, 510.34, 413.02, 510.77, 410.26]], "area": 702.1, "iscrowd": 0, "image_id": {}, "bbox": [473.07, 195.93, 38.65, 28.67], "category_id": 3, "id": {i}}}"#,
            comma(i),
            i / 4
        )
        .unwrap();
    }
    json += "], \"categories\": [{\"supercategory\": \"vehicle\", \"id\": 3, \"name\": \"car\"}]}";
    write(&folder.join("annotations.json"), json);
}

fn bdd100k(folder: &Path, frames: usize) {
    std::fs::create_dir(folder.join("labels")).unwrap();
    (0..frames / 200).into_par_iter().for_each(|video| {
        let name = format!("b1c66a42-{video:08x}");
        let first = std::iter::once(format!("{name}-0000001.jpg"));
        write_images(&folder.join("images").join(&name), first);
        let mut json = String::from("[");
        for frame in 0..200 {
            let number = frame + 1;
            write!(json, r#"{}{{"name":"{name}-{number:07}.jpg","labels":["#, comma(frame)).unwrap();
            for label in 0..5 {
                write!(
                    json,
                    r#"{}{{"id":"{label:08}","category":"car","attributes":{{"occluded":true,"truncated":false,"crowd":false}},"box2d":{{"x1":1095.38999{frame},"x2":1206.22718{label},"y1":313.90802,"y2":378.11906}}}}"#,
                    comma(label)
                )
                .unwrap();
            }
            write!(json, r#"],"videoName":"{name}","frameIndex":{frame}}}"#).unwrap();
        }
        json += "]";
        write(&folder.join("labels").join(format!("{name}.json")), json);
    });
}

/// As the India Driving Dataset lies.
fn voc(folder: &Path, frames: usize) {
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
}

fn yolo(folder: &Path, frames: usize) {
    std::fs::create_dir(folder.join("labels")).unwrap();
    std::fs::create_dir(folder.join("img")).unwrap();
    let image = png();
    (0..frames).into_par_iter().for_each(|i| {
        write(&folder.join(format!("img/{i:06}.png")), &image);
        let label = "0 0.716797 0.395833 0.216406 0.147222\n1 0.687109 0.379167 0.255469 0.158333\n2 0.420312 0.395833 0.140625 0.166667\n";
        write(&folder.join(format!("labels/{i:06}.txt")), label);
    });
}

fn trackingnet(folder: &Path, frames: usize) {
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
}

fn got10k(folder: &Path, frames: usize) {
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
}

fn mot(folder: &Path, frames: usize) {
    (0..frames / 1000).into_par_iter().for_each(|recording| {
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
}

fn lasot(folder: &Path, frames: usize) {
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
}

fn kitti(folder: &Path, frames: usize) {
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
}
