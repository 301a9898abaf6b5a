//! TrackingNet: in goes the folder of one chunk or of several, out comes one sequence or run a clip.
//!
//! ```text
//! ROOT/TRAIN_0/anno/0-6LB4FqxoE_0.txt        x,y,w,h of every frame
//!              frames/0-6LB4FqxoE_0/0.jpg    frame 0; names have no leading zeros
//! ```
//! `ROOT` may also be a chunk itself. Pixels are counted from 0: the boxes were scaled up from shares of the picture.
//! Neither occlusion nor class is published; the class is `object`. Clips run at 30 frames a second. `list` names clips.
//! A clip is named after its recording and an object in it: clips of one recording are one scene, and share a split.
//! The test chunk publishes first boxes only: it trains nothing and cannot be scored here.
//!
//! The whole data set has 14 million frames; `keep_every = 5` brings its index below a gigabyte of memory.

use std::path::Path;

use super::classes::ClassTable;
use super::clip::{Clip, Place, Target, clip_images, folders, read_all, read_list, read_text};
use super::otb::{Origin, parse_rectangles};
use super::sequence::{Run, Sequence};
use super::{DataError, LineProblem, ReadConfig};

const FPS: f64 = 30.0;
const TRUTH: &str = "anno";
const IMAGES: &str = "frames";

/// One sequence a clip, sorted by chunk and name.
///
/// # Errors
/// A folder without chunks, unreadable or malformed files, truth without an image.
pub fn read(
    folder: &Path,
    read: &ReadConfig,
    classes: &ClassTable<'_>,
) -> Result<Vec<Sequence>, DataError> {
    let sequences = read_all(clips(folder, read.list.as_deref())?, |place| {
        Ok(read_clip(place)?.into_sequence(classes, read.keep_every))
    })?;
    Ok(sequences.into_iter().flatten().collect())
}

/// One run a clip, sorted by chunk and name.
///
/// # Errors
/// See [`read`]; a clip whose truth does not cover its images.
pub fn load_runs(root: &Path) -> Result<Vec<Run>, DataError> {
    read_all(clips(root, None)?, |place| read_clip(place)?.into_run())
}

/// Whether the folder is laid out so.
pub(crate) fn recognise(root: &Path) -> bool {
    chunks(root).is_ok()
}

fn is_chunk(folder: &Path) -> bool {
    folder.join(TRUTH).is_dir() && folder.join(IMAGES).is_dir()
}

fn chunks(root: &Path) -> Result<Vec<Place>, DataError> {
    if is_chunk(root) {
        return Ok(vec![Place {
            name: String::new(),
            folder: root.to_owned(),
        }]);
    }
    let chunks: Vec<Place> = folders(root)?
        .into_iter()
        .filter(|place| is_chunk(&place.folder))
        .collect();
    if chunks.is_empty() {
        return Err(DataError::Layout {
            path: root.to_owned(),
            reason: "has no TrackingNet chunk (anno/ beside frames/)",
        });
    }
    Ok(chunks)
}

/// Clips by name, with the folder of their chunk.
fn clips(root: &Path, list: Option<&Path>) -> Result<Vec<Place>, DataError> {
    let mut clips = Vec::new();
    for chunk in chunks(root)? {
        let annotations = chunk.folder.join(TRUTH);
        let first = clips.len();
        for entry in std::fs::read_dir(&annotations).map_err(DataError::io(&annotations))? {
            let path = entry.map_err(DataError::io(&annotations))?.path();
            if path.extension().is_some_and(|extension| extension == "txt")
                && let Some(name) = path.file_stem().and_then(|stem| stem.to_str())
            {
                clips.push(Place {
                    name: name.to_owned(),
                    folder: chunk.folder.clone(),
                });
            }
        }
        clips[first..].sort();
    }
    let Some(list) = list else { return Ok(clips) };
    let list = root.join(list);
    let by_name: std::collections::HashMap<&str, &Place> = clips
        .iter()
        .map(|clip| (clip.name.as_str(), clip))
        .collect();
    read_list(&list)?
        .into_iter()
        .map(|(line, name)| match by_name.get(name.as_str()) {
            Some(clip) => Ok((*clip).clone()),
            None => Err(DataError::line(
                &list,
                line,
                LineProblem::Missing("clip of this name"),
            )),
        })
        .collect()
}

fn read_clip(place: Place) -> Result<Clip, DataError> {
    let truth_path = place.folder.join(TRUTH).join(format!("{}.txt", place.name));
    let boxes = parse_rectangles(&read_text(&truth_path)?, Origin::Zero)
        .map_err(|(line, problem)| DataError::line(&truth_path, line, problem))?;
    let clip = Clip {
        class: "object".into(),
        images: clip_images(&place.folder.join(IMAGES).join(&place.name))?,
        // Objects of one recording may be seen in each other's clips.
        scene: place
            .name
            .rsplit_once('_')
            .map(|(recording, _)| recording.to_owned()),
        name: place.name,
        targets: boxes
            .into_iter()
            .map(|box_in_image| Target {
                box_in_image,
                occluded: None,
            })
            .collect(),
        fps: FPS,
        size_px: None,
        truth_path,
    };
    clip.check_images(0)?;
    Ok(clip)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use roadhound_shared::geometry::BoxXywh;

    use super::*;
    use crate::data::testing::write_files;
    use crate::data::{PackKind, read_pack};

    fn chunk(name: &str, clip: &str, truth: &str) -> Vec<(String, String)> {
        let mut files = vec![(format!("{name}anno/{clip}.txt"), truth.to_owned())];
        // Twelve, so that 10.jpg comes before 2.jpg by name.
        files.extend(
            (0..12).map(|frame| (format!("{name}frames/{clip}/{frame}.jpg"), String::new())),
        );
        files
    }

    fn write(files: &[(String, String)]) -> tempfile::TempDir {
        let files: Vec<_> = files
            .iter()
            .map(|(name, text)| (name.as_str(), text.as_str()))
            .collect();
        write_files(&files)
    }

    fn truth() -> String {
        (0..12)
            .map(|i| format!("{}.5,20,30,40\n", 10 * i))
            .collect()
    }

    fn read_folder(folder: &tempfile::TempDir, read: &ReadConfig) -> Result<Vec<Sequence>, String> {
        read_pack(folder.path(), PackKind::TrackingNet, read, &|_| false)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn frames_are_matched_by_number_and_pixels_counted_from_zero() {
        let folder = write(&chunk("TRAIN_0/", "0-6LB4FqxoE_0", &truth()));
        let sequences = read_folder(&folder, &ReadConfig::default()).unwrap();
        let s = &sequences[0];
        assert_eq!((&*s.name, s.frames.len()), ("0-6LB4FqxoE_0", 12));
        assert!(s.frames[2].path.ends_with("0-6LB4FqxoE_0/2.jpg"));
        assert_eq!(
            s.frames[2].annotations[0].box_in_image,
            BoxXywh::new(20.5, 20.0, 30.0, 40.0)
        );
        assert_eq!(&*s.frames[2].annotations[0].class, "object");
    }

    #[test]
    fn chunks_are_read_together_and_a_list_chooses() {
        let mut files = chunk("TRAIN_0/", "b", &truth());
        files.extend(chunk("TRAIN_1/", "a", &truth()));
        files.push(("few.txt".into(), "a\n".into()));
        let folder = write(&files);
        let names = |read: &ReadConfig| -> Vec<String> {
            read_folder(&folder, read)
                .unwrap()
                .iter()
                .map(|s| s.name.to_string())
                .collect()
        };
        assert_eq!(names(&ReadConfig::default()), ["b", "a"]);
        let few = ReadConfig {
            list: Some("few.txt".into()),
            ..ReadConfig::default()
        };
        assert_eq!(names(&few), ["a"]);
    }

    #[test]
    fn objects_of_one_recording_are_one_scene() {
        let mut files = chunk("TRAIN_0/", "0-6LB_FqxoE_0", &truth());
        files.extend(chunk("TRAIN_0/", "0-6LB_FqxoE_1", &truth()));
        let sequences = read_folder(&write(&files), &ReadConfig::default()).unwrap();
        let scenes: Vec<_> = sequences.iter().map(|s| s.scene.as_deref()).collect();
        assert_eq!(scenes, [Some("0-6LB_FqxoE"); 2]);
    }

    #[test]
    fn clips_of_which_only_the_first_box_is_published_train_nothing() {
        let mut files = chunk("TEST/", "a_0", "1,2,3,4\n");
        files.extend(chunk("TEST/", "b_0", &truth()));
        let sequences = read_folder(&write(&files), &ReadConfig::default()).unwrap();
        let names: Vec<&str> = sequences.iter().map(|s| &*s.name).collect();
        assert_eq!(names, ["b_0"]);
    }

    #[test]
    fn a_chunk_alone_is_recognised_and_scored() {
        let folder = write(&chunk("", "a", &truth()));
        assert!(recognise(folder.path()));
        let runs = load_runs(folder.path()).unwrap();
        assert_eq!(
            (runs.len(), runs[0].truth.len(), runs[0].fps),
            (1, 12, 30.0)
        );
        let folder = write(&chunk("TEST/", "a", "1,2,3,4\n"));
        let error = load_runs(folder.path()).unwrap_err().to_string();
        assert!(
            error.contains("a.txt:1: 1 entries, the folder of images has 12"),
            "{error}"
        );
    }

    #[test]
    fn malformed_files_are_named_by_line() {
        for (truth, words) in [
            (
                "1,2,3,4\n1,2,3\n".to_owned(),
                "anno/a.txt:2: 3 fields, expected 4",
            ),
            (
                "1,2,3,4\n1,2,3,wide\n".to_owned(),
                "anno/a.txt:2: h is \"wide\"",
            ),
            (
                truth() + "1,2,3,4\n",
                "anno/a.txt:13: no image for sequence \"a\" frame 12",
            ),
        ] {
            let error = read_folder(
                &write(&chunk("TRAIN_0/", "a", &truth)),
                &ReadConfig::default(),
            )
            .unwrap_err();
            assert!(error.contains(words), "{words}: {error}");
        }
        let error = read_folder(&write_files_of_nothing(), &ReadConfig::default()).unwrap_err();
        assert!(error.contains("has no TrackingNet chunk"), "{error}");
    }

    fn write_files_of_nothing() -> tempfile::TempDir {
        write_files(&[("TRAIN_0/anno/a.txt", "")])
    }
}
