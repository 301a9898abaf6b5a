//! COCO JSON and its video extension (CocoVID): in goes the folder, out comes one sequence a photograph or video, or one
//! run an object of the videos.
//!
//! ```text
//! ROOT/annotations.json     {"images": [{"id": 7, "file_name": "000007.jpg", "width": 640, "height": 480}],
//!                            "annotations": [{"id": 1, "image_id": 7, "category_id": 3, "bbox": [x, y, w, h]}],
//!                            "categories": [{"id": 3, "name": "car"}]}
//!      images/000007.jpg
//! ```
//! `read.labels` and `read.images` name other places (`annotations/instances_train2017.json`, `train2017`). Pixels are
//! counted from 0 and `bbox` is a corner and a size. `iscrowd` and `ignore` make ignore regions. Published files have a
//! few boxes without area; they are left out and counted in the log. Masks are passed over.
//!
//! With `videos`, images carry `video_id` and `frame_id` (or `frame_index`), annotations `instance_id` (or `track_id`)
//! and perhaps `occluded`. A box without an identity is an object of its own. Photographs without annotations and images
//! of unlisted videos are no sequences. Image sizes are those of the file: no image is opened.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use roadhound_shared::geometry::BoxXywh;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};

use super::classes::{Class, ClassTable};
use super::json::{Each, Flag, inside, read as read_json, without_extension};
use super::multi::{runs_of, thin};
use super::sequence::{Annotation, FIRST_UNNAMED_INSTANCE, Frame, Run, Sequence};
use super::{DataError, LineProblem, ReadConfig, checked_box};

const LABELS: &str = "annotations.json";
const IMAGES: &str = "images";
const FPS: f64 = 30.0;

/// One sequence a photograph or video: videos by name, then photographs in the order of the file.
///
/// # Errors
/// Unreadable or malformed files, by line and column; an annotation of an image or category that the file does not list.
pub fn read(
    folder: &Path,
    read: &ReadConfig,
    classes: &ClassTable<'_>,
) -> Result<Vec<Sequence>, DataError> {
    let sequences = read_file(folder, read, classes)?;
    Ok(sequences
        .into_iter()
        .map(|(sequence, _)| sequence)
        .collect())
}

/// One run an object of the videos, see [`runs_of`].
///
/// # Errors
/// See [`read`].
pub fn load_runs(root: &Path, classes: &ClassTable<'_>) -> Result<Vec<Run>, DataError> {
    let sequences = read_file(root, &ReadConfig::default(), classes)?;
    Ok(sequences
        .iter()
        .flat_map(|(sequence, fps)| runs_of(sequence, *fps))
        .collect())
}

/// Whether the folder is laid out so.
pub(crate) fn recognise(root: &Path) -> bool {
    root.join(LABELS).is_file()
}

/// Sequences with their frame rates.
fn read_file(
    folder: &Path,
    read: &ReadConfig,
    classes: &ClassTable<'_>,
) -> Result<Vec<(Sequence, f64)>, DataError> {
    let path = folder.join(read.labels.as_deref().unwrap_or(Path::new(LABELS)));
    let images = folder.join(read.images.as_deref().unwrap_or(Path::new(IMAGES)));
    let mut tables = Tables {
        images: Vec::new(),
        image_by_id: HashMap::new(),
        annotations: Vec::new(),
        categories: HashMap::new(),
        videos: HashMap::new(),
        without_area: 0,
        folder: &images,
        classes,
    };
    read_json(&path, Sections(&mut tables))?;
    if tables.without_area > 0 {
        log::warn!(
            "{}: {} boxes without area left out",
            path.display(),
            tables.without_area
        );
    }
    // No image is opened, so a wrong folder would only be noticed much later.
    if let Some(first) = tables.images.first() {
        std::fs::metadata(&first.path).map_err(DataError::io(&first.path))?;
    }
    tables.join(&path, read.keep_every)
}

/// What the sections of the file say. They come in any order, so they are joined at the end.
struct Tables<'a> {
    images: Vec<Image>,
    image_by_id: HashMap<u64, usize>,
    annotations: Vec<Box2d>,
    categories: HashMap<i64, Class>,
    videos: HashMap<i64, VideoJson>,
    without_area: u64,
    folder: &'a Path,
    classes: &'a ClassTable<'a>,
}

struct Image {
    id: u64,
    path: Arc<Path>,
    name: String,
    size_px: Option<(u32, u32)>,
    video: Option<i64>,
    number: u32,
}

/// Kept small: there may be millions.
struct Box2d {
    id: u64,
    image: u64,
    category: i64,
    box_in_image: BoxXywh,
    instance: Option<u32>,
    occluded: Option<bool>,
    ignore: bool,
}

#[derive(Deserialize)]
struct ImageJson {
    id: u64,
    file_name: String,
    #[serde(default)]
    width: Option<u32>,
    #[serde(default)]
    height: Option<u32>,
    #[serde(default)]
    video_id: Option<i64>,
    #[serde(default)]
    frame_id: Option<u32>,
    #[serde(default)]
    frame_index: Option<u32>,
}

#[derive(Deserialize)]
struct AnnotationJson {
    #[serde(default)]
    id: Option<u64>,
    image_id: u64,
    category_id: i64,
    bbox: [f32; 4],
    #[serde(default)]
    iscrowd: Flag,
    #[serde(default)]
    ignore: Flag,
    #[serde(default)]
    instance_id: Option<i64>,
    #[serde(default)]
    track_id: Option<i64>,
    #[serde(default)]
    occluded: Option<Flag>,
}

#[derive(Deserialize)]
struct CategoryJson {
    id: i64,
    name: String,
}

#[derive(Deserialize)]
struct VideoJson {
    id: i64,
    name: String,
    #[serde(default)]
    fps: Option<f64>,
}

impl Tables<'_> {
    fn image(&mut self, json: ImageJson) -> Result<(), LineProblem> {
        if self
            .image_by_id
            .insert(json.id, self.images.len())
            .is_some()
        {
            return Err(LineProblem::Text(format!(
                "a second image with id {}",
                json.id
            )));
        }
        self.images.push(Image {
            id: json.id,
            path: inside(self.folder, &json.file_name)?.into(),
            name: without_extension(&json.file_name),
            size_px: json
                .width
                .zip(json.height)
                .filter(|(w, h)| *w > 0 && *h > 0),
            video: json.video_id.filter(|id| *id >= 0),
            number: json.frame_id.or(json.frame_index).unwrap_or_default(),
        });
        Ok(())
    }

    fn annotation(&mut self, json: AnnotationJson) -> Result<(), LineProblem> {
        let [x, y, w, h] = json.bbox;
        if w == 0.0 || h == 0.0 {
            self.without_area += 1;
            return Ok(());
        }
        let box_in_image = checked_box(x, y, w, h)?;
        let instance = match json.instance_id.or(json.track_id).filter(|id| *id >= 0) {
            None => None,
            Some(id) => match u32::try_from(id) {
                Ok(id) if id < FIRST_UNNAMED_INSTANCE => Some(id),
                _ => {
                    return Err(LineProblem::Text(format!(
                        "instance {id} is above {}",
                        FIRST_UNNAMED_INSTANCE - 1
                    )));
                }
            },
        };
        self.annotations.push(Box2d {
            id: json.id.unwrap_or(self.annotations.len() as u64),
            image: json.image_id,
            category: json.category_id,
            box_in_image,
            instance: instance.filter(|_| !json.iscrowd.0),
            occluded: json.occluded.map(|flag| flag.0),
            ignore: json.iscrowd.0 || json.ignore.0,
        });
        Ok(())
    }

    fn category(&mut self, json: CategoryJson) -> Result<(), LineProblem> {
        self.categories
            .insert(json.id, self.classes.get(&json.name));
        Ok(())
    }

    fn video(&mut self, json: VideoJson) -> Result<(), LineProblem> {
        self.videos.insert(json.id, json);
        Ok(())
    }

    fn join(self, path: &Path, keep_every: u32) -> Result<Vec<(Sequence, f64)>, DataError> {
        let refuse = |entry: &'static str, id: u64, problem: String| DataError::Entry {
            path: path.to_owned(),
            entry,
            id,
            problem,
        };
        let mut of_image: Vec<Vec<Annotation>> = Vec::new();
        of_image.resize_with(self.images.len(), Vec::new);
        let mut unnamed = 0;
        for a in self.annotations {
            let Some(&at) = self.image_by_id.get(&a.image) else {
                return Err(refuse(
                    "annotation",
                    a.id,
                    format!("no image with id {}", a.image),
                ));
            };
            let Some(class) = self.categories.get(&a.category) else {
                return Err(refuse(
                    "annotation",
                    a.id,
                    format!("no category with id {}", a.category),
                ));
            };
            let instance = a.instance.unwrap_or_else(|| {
                unnamed += 1;
                FIRST_UNNAMED_INSTANCE | (unnamed - 1)
            });
            if let Some(instance) = a.instance
                && of_image[at].iter().any(|other| other.instance == instance)
            {
                let frame = self.images[at].number;
                return Err(refuse(
                    "annotation",
                    a.id,
                    LineProblem::Repeated { instance, frame }.to_string(),
                ));
            }
            of_image[at].push(Annotation {
                box_in_image: a.box_in_image,
                instance,
                class: class.name.clone(),
                occluded: a.occluded,
                ignore: a.ignore || class.ignore,
            });
        }
        let mut videos: BTreeMap<i64, BTreeMap<u32, Frame>> = BTreeMap::new();
        let mut stills = Vec::new();
        for (image, annotations) in self.images.into_iter().zip(of_image) {
            let frame = Frame {
                path: image.path,
                number: image.number,
                size_px: image.size_px,
                annotations,
            };
            match image.video {
                Some(video) => {
                    if videos
                        .entry(video)
                        .or_default()
                        .insert(image.number, frame)
                        .is_some()
                    {
                        let problem = format!("video {video} has a second frame {}", image.number);
                        return Err(refuse("image", image.id, problem));
                    }
                }
                None if frame.annotations.is_empty() => {}
                None => stills.push((
                    Sequence {
                        name: image.name.into(),
                        frames: vec![frame],
                        is_video: false,
                        scene: None,
                    },
                    FPS,
                )),
            }
        }
        let mut sequences = Vec::new();
        for (id, frames) in videos {
            let Some(video) = self.videos.get(&id) else {
                continue;
            };
            let mut frames: Vec<Frame> = frames.into_values().collect();
            thin(&mut frames, keep_every);
            let sequence = Sequence {
                name: video.name.as_str().into(),
                frames,
                is_video: true,
                scene: None,
            };
            let fps = video
                .fps
                .filter(|fps| fps.is_finite() && *fps > 0.0)
                .unwrap_or(FPS);
            sequences.push((sequence, fps));
        }
        sequences.sort_by(|(a, _), (b, _)| a.name.cmp(&b.name));
        sequences.extend(stills);
        Ok(sequences)
    }
}

/// The whole file: sections that are read, and others that are not.
struct Sections<'t, 'a>(&'t mut Tables<'a>);

impl<'de> DeserializeSeed<'de> for Sections<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<(), D::Error> {
        input.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Sections<'_, '_> {
    type Value = ();

    fn expecting(&self, out: &mut fmt::Formatter) -> fmt::Result {
        out.write_str("an object with images, annotations and categories")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut keys: A) -> Result<(), A::Error> {
        let tables = self.0;
        while let Some(key) = keys.next_key::<String>()? {
            match key.as_str() {
                "images" => keys.next_value_seed(Each::new(|json| tables.image(json)))?,
                "annotations" => keys.next_value_seed(Each::new(|json| tables.annotation(json)))?,
                "categories" => keys.next_value_seed(Each::new(|json| tables.category(json)))?,
                "videos" => keys.next_value_seed(Each::new(|json| tables.video(json)))?,
                _ => {
                    keys.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::data::testing::{config_of, open, write_files};
    use crate::data::{PackKind, read_pack};

    const STILLS: &str = r#"{
"info": {"year": 2017, "nested": [[1, {"a": null}]]},
"annotations": [
{"id": 1, "image_id": 9, "category_id": 3, "bbox": [473.07, 395.93, 38.65, 28.67], "iscrowd": 0, "area": 700.1, "segmentation": [[1.0, 2.0, 3.0, 4.0]]},
{"id": 2, "image_id": 9, "category_id": 1, "bbox": [1, 2, 300, 40], "iscrowd": 1, "segmentation": {"counts": [272, 2, 4], "size": [427, 640]}},
{"id": 3, "image_id": 9, "category_id": 4, "bbox": [1, 2, 0, 40], "iscrowd": 0}
],
"images": [
{"license": 4, "file_name": "000000000009.jpg", "height": 480, "width": 640, "id": 9, "coco_url": "http://a.b/c"},
{"file_name": "000000000010.jpg", "height": 480, "width": 640, "id": 10}
],
"categories": [{"supercategory": "person", "id": 1, "name": "person"}, {"id": 3, "name": "car"}, {"id": 4, "name": "motorcycle"}]
}"#;

    fn read_json_text(json: &str) -> Result<Vec<Sequence>, String> {
        let folder = write_files(&[
            ("annotations.json", json),
            ("images/000000000009.jpg", ""),
            ("images/a/11.jpg", ""),
        ]);
        read_pack(
            folder.path(),
            PackKind::Coco,
            &ReadConfig::default(),
            &|_| false,
        )
        .map_err(|error| error.to_string())
    }

    #[test]
    fn sections_in_any_order_are_joined() {
        let sequences = read_json_text(STILLS).unwrap();
        assert_eq!(
            sequences.len(),
            1,
            "the image without annotations is left out"
        );
        let s = &sequences[0];
        assert_eq!(
            (&*s.name, s.is_video, s.frames[0].size_px),
            ("000000000009", false, Some((640, 480)))
        );
        let [car, crowd] = &s.frames[0].annotations[..] else {
            panic!("the box without area is left out")
        };
        assert_eq!(car.box_in_image, BoxXywh::new(473.07, 395.93, 38.65, 28.67));
        assert_eq!((&*car.class, car.ignore), ("car", false));
        assert_eq!((&*crowd.class, crowd.ignore), ("person", true));
        assert_ne!(car.instance, crowd.instance);
    }

    fn video_json() -> String {
        let mut images = Vec::new();
        let mut annotations = Vec::new();
        for frame in 0..12 {
            images.push(format!(
                r#"{{"id": {0}, "video_id": 5, "frame_id": {0}, "file_name": "a/{0}.jpg", "width": 320, "height": 240}}"#,
                11 - frame
            ));
            annotations.push(format!(
                r#"{{"id": {0}, "video_id": 5, "image_id": {0}, "category_id": 2, "instance_id": 41, "bbox": [{0}, 5, 30, 40], "occluded": {1}}}"#,
                frame,
                frame == 0
            ));
        }
        annotations.push(
            r#"{"image_id": 3, "category_id": 2, "bbox": [100, 5, 30, 40], "ignore": 1}"#.into(),
        );
        format!(
            r#"{{"videos": [{{"id": 5, "name": "a", "fps": 10}}], "images": [{}], "annotations": [{}], "categories": [{{"id": 2, "name": "Bus"}}]}}"#,
            images.join(",\n"),
            annotations.join(",\n")
        )
    }

    #[test]
    fn the_video_extension_gives_tracks_and_runs() {
        let folder = write_files(&[("annotations.json", &video_json()), ("images/a/11.jpg", "")]);
        assert!(recognise(folder.path()));
        let renames = Default::default();
        let runs = load_runs(folder.path(), &ClassTable::new(&renames, &|_| false)).unwrap();
        assert_eq!(
            (runs.len(), runs[0].name.as_str(), runs[0].fps),
            (1, "a_41", 10.0)
        );
        assert_eq!(runs[0].truth.len(), 11, "hidden on the first frame");
        assert!(runs[0].frames[0].ends_with("images/a/1.jpg"));
        let dataset = open(&config_of(
            folder.path(),
            PackKind::Coco,
            ReadConfig::default(),
        ));
        let loaded = &dataset.packs()[0].sequences[0];
        assert_eq!(loaded.sequence.frames.len(), 12);
        assert_eq!(loaded.sequence.frames[3].annotations.len(), 2);
        assert!(loaded.sequence.frames[3].annotations[1].ignore);
        assert_eq!(
            dataset.store().loaded_size_px(loaded.images[0]),
            (320, 240),
            "though no image can be opened"
        );
        let every_fifth = ReadConfig {
            keep_every: 5,
            ..ReadConfig::default()
        };
        let thinned = open(&config_of(folder.path(), PackKind::Coco, every_fifth));
        assert_eq!(thinned.packs()[0].sequences[0].sequence.frames.len(), 3);
    }

    #[test]
    fn malformed_files_are_named_by_line_and_column() {
        for (from, to, words) in [
            ("38.65, 28.67]", "38.65]", "annotations.json:4: column "),
            (
                "\"image_id\": 9, \"category_id\": 3",
                "\"category_id\": 3",
                "annotations.json:4: column ",
            ),
            (
                "\"bbox\": [473.07",
                "\"bbox\": [nan",
                "annotations.json:4: column ",
            ),
            (
                "38.65, 28.67]",
                "-38.65, 28.67]",
                "has no finite positive area",
            ),
            ("\"id\": 10}", "\"id\": 9}", "a second image with id 9"),
            (
                "000000000010.jpg",
                "../../10.jpg",
                "leaves the folder of images",
            ),
            (
                "\"image_id\": 9, \"category_id\": 3",
                "\"image_id\": 8, \"category_id\": 3",
                "annotation 1: no image with id 8",
            ),
            (
                "\"image_id\": 9, \"category_id\": 3",
                "\"image_id\": 9, \"category_id\": 7",
                "annotation 1: no category with id 7",
            ),
            (
                "\"iscrowd\": 0, \"area\"",
                "\"instance_id\": 4294967296, \"area\"",
                "instance 4294967296 is above",
            ),
            (
                "\"name\": \"motorcycle\"}]\n}",
                "\"name\": \"motorcycle\"}]",
                "annotations.json:12: column ",
            ),
            (
                "000000000009.jpg",
                "000000000008.jpg",
                "images/000000000008.jpg: ",
            ),
        ] {
            let json = STILLS.replacen(from, to, 1);
            assert_ne!(json, STILLS, "{from}");
            let error = read_json_text(&json).unwrap_err();
            assert!(error.contains(words), "{words}: {error}");
        }
        let json = video_json().replacen("\"frame_id\": 4", "\"frame_id\": 5", 1);
        let error = read_json_text(&json).unwrap_err();
        assert!(
            error.contains("image 4: video 5 has a second frame 5")
                || error.contains("image 5: video 5 has a second frame 5"),
            "{error}"
        );
    }
}
