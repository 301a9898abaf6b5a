//! BDD100K multi-object tracking, and whatever else is written as Scalabel JSON: in goes the folder, out comes one
//! sequence a video, or one run an object.
//!
//! ```text
//! ROOT/labels/VIDEO.json                         an array of frames; or one file with the frames of all videos
//!      images/VIDEO/VIDEO-0000001.jpg
//!
//! [{"name": "VIDEO-0000001.jpg", "videoName": "VIDEO", "frameIndex": 0, "labels": [
//!   {"id": "00091078", "category": "car", "box2d": {"x1": 1.5, "y1": 2.5, "x2": 80.5, "y2": 60.5},
//!    "attributes": {"occluded": false, "truncated": false, "crowd": false}}]}]
//! ```
//! Where the pack's folder has them, `labels/box_track_20/train` and `images/track/train` are taken instead, as
//! downloaded (`val` for evaluation); `read.labels` and `read.images` name others. Pixels are counted from 0 and the
//! corners are inside, as the authors' own conversion has it, so the width is `x2 - x1 + 1`. `crowd` makes an ignore
//! region. `truncated` boxes are cut at the picture's border, which needs no mark. Labels without a `box2d` (lanes,
//! masks) are passed over. Identities are text; they are numbered by first appearance. The older spellings `video_name`,
//! `frame_index` and `index` and the form `{"frames": [...]}` are understood. Videos are annotated at 5 frames a second.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use serde::de::value::SeqAccessDeserializer;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::classes::ClassTable;
use super::clip::read_all;
use super::json::{Each, Flag, Name, inside, read as read_json};
use super::multi::{runs_of, thin};
use super::sequence::{Annotation, FIRST_UNNAMED_INSTANCE, Frame, Run, Sequence};
use super::{DataError, LineProblem, ReadConfig, checked_box};

const FPS: f64 = 5.0;

/// One sequence a video, sorted by name.
///
/// # Errors
/// Missing folders, unreadable or malformed files, by line and column; a video that is in two files.
pub fn read(
    folder: &Path,
    read: &ReadConfig,
    classes: &ClassTable<'_>,
) -> Result<Vec<Sequence>, DataError> {
    read_split(
        &Split::find(folder, read, "train"),
        classes,
        read.keep_every,
    )
}

/// One run an object, see [`runs_of`].
///
/// # Errors
/// See [`read`].
pub fn load_runs(root: &Path, classes: &ClassTable<'_>) -> Result<Vec<Run>, DataError> {
    let sequences = read_split(
        &Split::find(root, &ReadConfig::default(), "val"),
        classes,
        1,
    )?;
    Ok(sequences
        .iter()
        .flat_map(|sequence| runs_of(sequence, FPS))
        .collect())
}

/// Whether the folder is laid out so.
pub(crate) fn recognise(root: &Path) -> bool {
    let split = Split::find(root, &ReadConfig::default(), "val");
    split.images.is_dir() && split.files().is_ok()
}

/// Where labels and images are.
struct Split {
    labels: PathBuf,
    images: PathBuf,
}

impl Split {
    fn find(root: &Path, read: &ReadConfig, name: &str) -> Self {
        let choose = |given: Option<&PathBuf>, downloaded: &str, plain: &str| match given {
            Some(given) => root.join(given),
            None => Some(root.join(downloaded).join(name))
                .filter(|folder| folder.is_dir())
                .unwrap_or_else(|| root.join(plain)),
        };
        Self {
            labels: choose(read.labels.as_ref(), "labels/box_track_20", "labels"),
            images: choose(read.images.as_ref(), "images/track", "images"),
        }
    }

    /// The label files, sorted by name.
    fn files(&self) -> Result<Vec<PathBuf>, DataError> {
        if self.labels.is_file() {
            return Ok(vec![self.labels.clone()]);
        }
        let mut files = Vec::new();
        for entry in std::fs::read_dir(&self.labels).map_err(DataError::io(&self.labels))? {
            let path = entry.map_err(DataError::io(&self.labels))?.path();
            if path
                .extension()
                .is_some_and(|extension| extension == "json")
            {
                files.push(path);
            }
        }
        if files.is_empty() {
            return Err(DataError::Layout {
                path: self.labels.clone(),
                reason: "has no label files (.json)",
            });
        }
        files.sort();
        Ok(files)
    }
}

fn read_split(
    split: &Split,
    classes: &ClassTable<'_>,
    keep_every: u32,
) -> Result<Vec<Sequence>, DataError> {
    let files = split.files()?;
    let videos = read_all(files, |path| {
        let mut videos = Videos::new(&split.images, &path, classes);
        read_json(&path, Frames(&mut videos))?;
        Ok((path, videos.into_sequences(keep_every)))
    })?;
    let mut all: BTreeMap<Arc<str>, Sequence> = BTreeMap::new();
    for (path, sequences) in videos {
        for sequence in sequences {
            let name = sequence.name.clone();
            if all.insert(name.clone(), sequence).is_some() {
                let problem =
                    LineProblem::Text(format!("video {name:?} is in another file as well"));
                return Err(DataError::line(&path, 1, problem));
            }
        }
    }
    Ok(all.into_values().collect())
}

/// The videos of one file, as far as they have been read.
struct Videos<'a> {
    images: &'a Path,
    /// Name of the only video of a file whose frames do not name theirs.
    file_stem: String,
    classes: &'a ClassTable<'a>,
    videos: BTreeMap<String, Video>,
}

struct Video {
    folder: PathBuf,
    frames: BTreeMap<u32, Frame>,
    instances: HashMap<String, u32>,
    unnamed: u32,
}

impl<'a> Videos<'a> {
    fn new(images: &'a Path, file: &Path, classes: &'a ClassTable<'a>) -> Self {
        Self {
            images,
            file_stem: file
                .file_stem()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned(),
            classes,
            videos: BTreeMap::new(),
        }
    }

    fn add(&mut self, frame: FrameJson) -> Result<(), LineProblem> {
        let name = frame.video.unwrap_or_else(|| self.file_stem.clone());
        if !self.videos.contains_key(&name) {
            let own = inside(self.images, &name)?;
            let video = Video {
                folder: if own.is_dir() {
                    own
                } else {
                    self.images.to_owned()
                },
                frames: BTreeMap::new(),
                instances: HashMap::new(),
                unnamed: 0,
            };
            self.videos.insert(name.clone(), video);
        }
        let Some(video) = self.videos.get_mut(&name) else {
            return Ok(());
        };
        let number = match frame.index {
            Some(index) => index,
            None => video
                .frames
                .last_key_value()
                .map_or(0, |(last, _)| last.saturating_add(1)),
        };
        let path = inside(&video.folder, &frame.name)?.into();
        let mut annotations: Vec<Annotation> = Vec::new();
        for label in frame.labels.into_iter().flatten() {
            let Some(b) = label.box2d else { continue };
            let box_in_image = checked_box(b.x1, b.y1, b.x2 - b.x1 + 1.0, b.y2 - b.y1 + 1.0)?;
            let class = self
                .classes
                .get(label.category.as_deref().unwrap_or("object"));
            let flags = label.attributes.unwrap_or_default();
            let ignore = class.ignore || flags.crowd.is_some_and(|crowd| crowd.0);
            let instance = match label.id {
                Some(Name(id)) => {
                    let next = video.instances.len() as u32;
                    *video.instances.entry(id).or_insert(next)
                }
                None => {
                    video.unnamed += 1;
                    FIRST_UNNAMED_INSTANCE | (video.unnamed - 1)
                }
            };
            if annotations.iter().any(|other| other.instance == instance) {
                return Err(LineProblem::Repeated {
                    instance,
                    frame: number,
                });
            }
            annotations.push(Annotation {
                box_in_image,
                instance,
                class: class.name,
                occluded: flags.occluded.map(|occluded| occluded.0),
                ignore,
            });
        }
        match video.frames.entry(number) {
            Entry::Occupied(_) => Err(LineProblem::Text(format!(
                "video {name:?} has a second frame {number}"
            ))),
            Entry::Vacant(place) => {
                place.insert(Frame {
                    path,
                    number,
                    size_px: frame
                        .size
                        .map(|s| (s.width, s.height))
                        .filter(|(w, h)| *w > 0 && *h > 0),
                    annotations,
                });
                Ok(())
            }
        }
    }

    fn into_sequences(self, keep_every: u32) -> Vec<Sequence> {
        self.videos
            .into_iter()
            .filter(|(_, video)| !video.frames.is_empty())
            .map(|(name, video)| {
                let mut frames: Vec<Frame> = video.frames.into_values().collect();
                thin(&mut frames, keep_every);
                Sequence {
                    name: name.into(),
                    frames,
                    is_video: true,
                    scene: None,
                }
            })
            .collect()
    }
}

#[derive(Deserialize)]
struct FrameJson {
    name: String,
    #[serde(default, rename = "videoName", alias = "video_name")]
    video: Option<String>,
    #[serde(default, rename = "frameIndex", alias = "frame_index", alias = "index")]
    index: Option<u32>,
    #[serde(default)]
    size: Option<SizeJson>,
    #[serde(default)]
    labels: Option<Vec<LabelJson>>,
}

#[derive(Deserialize)]
struct SizeJson {
    width: u32,
    height: u32,
}

#[derive(Deserialize)]
struct LabelJson {
    #[serde(default)]
    id: Option<Name>,
    #[serde(default)]
    category: Option<String>,
    #[serde(default)]
    attributes: Option<AttributesJson>,
    #[serde(default)]
    box2d: Option<BoxJson>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct AttributesJson {
    #[serde(alias = "Occluded")]
    occluded: Option<Flag>,
    #[serde(alias = "Crowd")]
    crowd: Option<Flag>,
}

#[derive(Deserialize)]
struct BoxJson {
    x1: f32,
    y1: f32,
    x2: f32,
    y2: f32,
}

/// The whole file: frames, or an object with frames.
struct Frames<'v, 'a>(&'v mut Videos<'a>);

impl<'de> DeserializeSeed<'de> for Frames<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<(), D::Error> {
        input.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Frames<'_, '_> {
    type Value = ();

    fn expecting(&self, out: &mut fmt::Formatter) -> fmt::Result {
        out.write_str("an array of frames, or an object that holds one")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, frames: A) -> Result<(), A::Error> {
        Each::new(|frame| self.0.add(frame)).deserialize(SeqAccessDeserializer::new(frames))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut keys: A) -> Result<(), A::Error> {
        while let Some(key) = keys.next_key::<String>()? {
            match key.as_str() {
                "frames" => keys.next_value_seed(Each::new(|frame| self.0.add(frame)))?,
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
    use roadhound_shared::geometry::BoxXywh;

    use super::*;
    use crate::data::testing::write_files;
    use crate::data::{PackKind, read_pack};

    fn label(id: &str, category: &str, corners: [f32; 4], attributes: &str) -> String {
        let [x1, y1, x2, y2] = corners;
        format!(
            r#"{{"id":"{id}","category":"{category}","attributes":{{{attributes}}},"box2d":{{"x1":{x1},"y1":{y1},"x2":{x2},"y2":{y2}}}}}"#
        )
    }

    fn frame(video: &str, index: u32, labels: &[String]) -> String {
        format!(
            r#"{{"name":"{video}-{:07}.jpg","videoName":"{video}","frameIndex":{index},"labels":[{}]}}"#,
            index + 1,
            labels.join(",\n")
        )
    }

    fn read_files(files: &[(&str, &str)], read: &ReadConfig) -> Result<Vec<Sequence>, String> {
        let folder = write_files(files);
        read_pack(folder.path(), PackKind::Bdd100k, read, &|_| false)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn corners_are_inside_and_attributes_become_flags() {
        let labels = [
            label("00091078", "car", [10.0, 20.0, 49.0, 59.0], r#""occluded":true,"truncated":false,"crowd":false"#),
            label("00091079", "pedestrian", [1.5, 2.0, 9.0, 30.0], r#""occluded":false,"truncated":true,"crowd":true"#),
            r#"{"id":"7","category":"lane","poly2d":[{"vertices":[[1,2]],"types":"L","closed":false}]}"#.into(),
        ];
        let later = [label("00091078", "car", [12.0, 20.0, 49.0, 59.0], "")];
        let json = format!(
            "[{},{}]",
            frame("b1c6", 0, &labels),
            frame("b1c6", 1, &later)
        );
        let files = [
            ("labels/b1c6.json", json.as_str()),
            ("images/b1c6/b1c6-0000001.jpg", ""),
        ];
        let sequences = read_files(&files, &ReadConfig::default()).unwrap();
        let s = &sequences[0];
        assert_eq!((&*s.name, s.frames.len(), s.is_video), ("b1c6", 2, true));
        let [car, person] = &s.frames[0].annotations[..] else {
            panic!("two boxes")
        };
        assert_eq!(car.box_in_image, BoxXywh::new(10.0, 20.0, 40.0, 40.0));
        assert_eq!(
            (&*car.class, car.occluded, car.ignore),
            ("car", Some(true), false)
        );
        assert_eq!(
            (&*person.class, person.occluded, person.ignore),
            ("person", Some(false), true)
        );
        let again = &s.frames[1].annotations[0];
        assert_eq!((again.instance, again.occluded), (car.instance, None));
        assert!(s.frames[1].path.ends_with("images/b1c6/b1c6-0000002.jpg"));
    }

    #[test]
    fn one_file_may_hold_all_videos_in_any_order_and_in_older_spelling() {
        let json = format!(
            r#"{{"config":{{"categories":[{{"name":"car"}}]}},"frames":[{},
            {{"name":"y-1.jpg","video_name":"y","index":4,"labels":null}},{},
            {{"name":"y-2.jpg","video_name":"y"}}]}}"#,
            frame("x", 1, &[label("a", "car", [0.0, 0.0, 9.0, 9.0], "")]),
            frame("x", 0, &[]),
        );
        let files = [("all.json", json.as_str()), ("pictures/x-0000001.jpg", "")];
        let read = ReadConfig {
            labels: Some("all.json".into()),
            images: Some("pictures".into()),
            ..ReadConfig::default()
        };
        let sequences = read_files(&files, &read).unwrap();
        let told: Vec<(&str, Vec<u32>)> = sequences
            .iter()
            .map(|s| (&*s.name, s.frames.iter().map(|f| f.number).collect()))
            .collect();
        assert_eq!(told, [("x", vec![0, 1]), ("y", vec![4, 5])]);
        assert!(
            sequences[0].frames[0]
                .path
                .ends_with("pictures/x-0000001.jpg"),
            "no folder of its own"
        );
    }

    #[test]
    fn the_downloaded_layout_is_found_and_scored_on_its_validation_split() {
        let json: Vec<String> = (0..12)
            .map(|i| {
                frame(
                    "v",
                    i,
                    &[label("1", "bus", [i as f32, 5.0, 60.0, 70.0], "")],
                )
            })
            .collect();
        let json = format!("[{}]", json.join(","));
        let files = [
            ("labels/box_track_20/val/v.json", json.as_str()),
            ("images/track/val/v/v-0000001.jpg", ""),
        ];
        let folder = write_files(&files);
        assert!(recognise(folder.path()));
        let renames = Default::default();
        let runs = load_runs(folder.path(), &ClassTable::new(&renames, &|_| false)).unwrap();
        assert_eq!((runs.len(), runs[0].fps, runs[0].truth.len()), (1, 5.0, 12));
        assert!(runs[0].frames[0].ends_with("images/track/val/v/v-0000001.jpg"));
    }

    #[test]
    fn malformed_files_are_named_by_line_and_column() {
        let good = frame("v", 0, &[]);
        let with = |labels: &str| format!("[{good},\n{}]", frame("v", 1, &[labels.to_owned()]));
        for (json, words) in [
            (format!("[{good}"), "v.json:1: column "),
            (
                "{\"frames\": 3}".into(),
                "invalid type: integer `3`, expected an array",
            ),
            ("7".into(), "expected an array of frames"),
            (
                format!("[{good},\n{{\"videoName\":\"v\"}}]"),
                "v.json:2: column 17: missing field `name`",
            ),
            (
                with("{\"id\":\"1\",\"box2d\":{\"x1\":1,\"y1\":2,\"x2\":\"wide\",\"y2\":4}}"),
                "v.json:2: column ",
            ),
            (
                with(&label("1", "car", [9.0, 9.0, 1.0, 1.0], "")),
                "box 9,9,-7,-7 has no finite positive area",
            ),
            (
                with(&vec![label("1", "car", [1.0, 1.0, 9.0, 9.0], ""); 2].join(",\n")),
                "instance 0 has a second box on frame 1",
            ),
            (format!("[{good},\n{good}]"), "v.json:2: column "),
            (
                format!("[{}]", good.replace("v-0000001", "../../secret")),
                "leaves the folder of images",
            ),
            (
                format!(
                    "[{}]",
                    good.replace("\"videoName\":\"v\"", "\"videoName\":\"/v\"")
                ),
                "leaves the folder of images",
            ),
        ] {
            let files = [
                ("labels/v.json", json.as_str()),
                ("images/v/v-0000001.jpg", ""),
            ];
            let error = read_files(&files, &ReadConfig::default()).unwrap_err();
            assert!(
                error.contains("labels/v.json:") && error.contains(words),
                "{words}: {error}"
            );
        }
        let json = format!("[{good}]");
        let twice = [
            ("labels/a.json", json.as_str()),
            ("labels/b.json", json.as_str()),
            ("images/v/v-0000001.jpg", ""),
        ];
        let error = read_files(&twice, &ReadConfig::default()).unwrap_err();
        assert!(
            error.contains("b.json:1: ") && error.contains("in another file as well"),
            "{error}"
        );
    }
}
