//! LaSOT: in goes the folder of classes, out comes one sequence or run a clip.
//!
//! ```text
//! ROOT/airplane/airplane-1/groundtruth.txt      x,y,w,h of every frame
//!                          full_occlusion.txt   0,0,1,...   1: nothing of the object can be seen
//!                          out_of_view.txt      0,0,1,...   1: the object has left the picture
//!                          img/00000001.jpg     frame 1
//! ```
//! Clips may also lie in the root without folders of classes. Boxes are counted as MATLAB does: the first pixel is
//! (1, 1), so 1 is taken off; width and height stay. A frame on which either flag is set, or whose box has no area, is
//! one without the target. Partial occlusion is not annotated. The class is the clip's name up to its last `-`. `list`
//! may name a split (`training_set.txt`). Clips run at 30 frames a second.

use std::path::{Path, PathBuf};

use super::classes::ClassTable;
use super::clip::{
    Clip, Place, Target, clip_images, folders, read_all, read_flags, read_list, read_text,
};
use super::otb::{Origin, parse_rectangles};
use super::sequence::{Run, Sequence};
use super::{DataError, LineProblem, ReadConfig};

const FPS: f64 = 30.0;
const TRUTH: &str = "groundtruth.txt";

/// One sequence a clip, sorted by name.
///
/// # Errors
/// A folder without clips, unreadable or malformed files, truth without an image.
pub fn read(
    folder: &Path,
    read: &ReadConfig,
    classes: &ClassTable<'_>,
) -> Result<Vec<Sequence>, DataError> {
    let places = places(folder, read.list.as_deref())?;
    let sequences = read_all(places, |place| {
        let clip = read_clip(place)?;
        clip.check_images(1)?;
        Ok(clip.into_sequence(classes, read.keep_every))
    })?;
    Ok(sequences.into_iter().flatten().collect())
}

/// One run a clip, sorted by name.
///
/// # Errors
/// See [`read`]; a clip whose truth does not cover its images.
pub fn load_runs(root: &Path) -> Result<Vec<Run>, DataError> {
    read_all(places(root, None)?, |place| {
        let clip = read_clip(place)?;
        clip.check_images(1)?;
        clip.into_run()
    })
}

/// Whether the folder is laid out so.
pub(crate) fn recognise(root: &Path) -> bool {
    places(root, None).is_ok()
}

fn is_clip(folder: &Path) -> bool {
    folder.join(TRUTH).is_file() && folder.join("img").is_dir()
}

fn places(root: &Path, list: Option<&Path>) -> Result<Vec<Place>, DataError> {
    if let Some(list) = list {
        let list = root.join(list);
        return read_list(&list)?
            .into_iter()
            .map(|(line, name)| {
                let candidates = [root.join(&name), root.join(class_of(&name)).join(&name)];
                match candidates.into_iter().find(|folder| is_clip(folder)) {
                    Some(folder) => Ok(Place { name, folder }),
                    None => Err(DataError::line(
                        &list,
                        line,
                        LineProblem::Missing("clip of this name"),
                    )),
                }
            })
            .collect();
    }
    let mut places = Vec::new();
    for outer in folders(root)? {
        if is_clip(&outer.folder) {
            places.push(outer);
            continue;
        }
        places.extend(
            folders(&outer.folder)?
                .into_iter()
                .filter(|inner| is_clip(&inner.folder)),
        );
    }
    if places.is_empty() {
        return Err(DataError::Layout {
            path: root.to_owned(),
            reason: "has no LaSOT clips (groundtruth.txt beside img/)",
        });
    }
    places.sort();
    Ok(places)
}

fn class_of(name: &str) -> &str {
    name.rsplit_once('-').map_or(name, |(class, _)| class)
}

fn read_clip(place: Place) -> Result<Clip, DataError> {
    let truth_path = place.folder.join(TRUTH);
    let text = read_text(&truth_path)?;
    let boxes = parse_rectangles(&text, Origin::One)
        .map_err(|(line, problem)| DataError::line(&truth_path, line, problem))?;
    let hidden = absence(
        place.folder.join("full_occlusion.txt"),
        "full_occlusion",
        boxes.len(),
    )?;
    let outside = absence(
        place.folder.join("out_of_view.txt"),
        "out_of_view",
        boxes.len(),
    )?;
    let targets = boxes
        .into_iter()
        .zip(hidden.into_iter().zip(outside))
        .map(|(box_in_image, (hidden, outside))| Target {
            box_in_image: box_in_image.filter(|_| hidden == 0 && outside == 0),
            occluded: None,
        })
        .collect();
    Ok(Clip {
        scene: None,
        class: class_of(&place.name).to_owned(),
        images: clip_images(&place.folder.join("img"))?,
        name: place.name,
        targets,
        fps: FPS,
        size_px: None,
        truth_path,
    })
}

/// Test copies often come without the two files; then every box counts.
fn absence(path: PathBuf, field: &'static str, frames: usize) -> Result<Vec<u8>, DataError> {
    match path.exists() {
        true => read_flags(&path, field, "0 or 1", 1, frames),
        false => Ok(vec![0; frames]),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use roadhound_shared::geometry::BoxXywh;

    use super::*;
    use crate::data::testing::{config_of, open, write_files};
    use crate::data::{PackKind, read_pack};

    const CLIP: &[(&str, &str)] = &[
        (
            "car/car-1/groundtruth.txt",
            "101,51,40,30\n103,52,40,30\n0,0,0,0\n110,60,42,31\n",
        ),
        ("car/car-1/full_occlusion.txt", "0,1,0,0"),
        ("car/car-1/out_of_view.txt", "0,0,1,0\n"),
        ("car/car-1/nlp.txt", "a car"),
        ("car/car-1/img/00000001.jpg", ""),
        ("car/car-1/img/00000002.jpg", ""),
        ("car/car-1/img/00000003.jpg", ""),
        ("car/car-1/img/00000004.jpg", ""),
    ];

    fn read_files(files: &[(&str, &str)], read: &ReadConfig) -> Result<Vec<Sequence>, String> {
        let folder = write_files(files);
        read_pack(folder.path(), PackKind::Lasot, read, &|_| false)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn pixels_are_counted_from_one_and_hidden_frames_have_no_box() {
        let sequences = read_files(CLIP, &ReadConfig::default()).unwrap();
        assert_eq!(sequences.len(), 1);
        let s = &sequences[0];
        assert_eq!((&*s.name, s.is_video, s.frames.len()), ("car-1", true, 4));
        let boxes: Vec<Vec<BoxXywh>> = s
            .frames
            .iter()
            .map(|f| f.annotations.iter().map(|a| a.box_in_image).collect())
            .collect();
        assert_eq!(
            boxes,
            [
                vec![BoxXywh::new(100.0, 50.0, 40.0, 30.0)],
                vec![],
                vec![],
                vec![BoxXywh::new(109.0, 59.0, 42.0, 31.0)]
            ]
        );
        assert_eq!(&*s.frames[0].annotations[0].class, "car");
        assert!(s.frames[3].path.ends_with("car-1/img/00000004.jpg") && s.frames[3].number == 4);
    }

    #[test]
    fn a_run_keeps_absent_frames() {
        let folder = write_files(CLIP);
        let runs = load_runs(folder.path()).unwrap();
        assert_eq!(
            (runs[0].name.as_str(), runs[0].fps, runs[0].assisted),
            ("car-1", 30.0, false)
        );
        assert_eq!(
            runs[0]
                .truth
                .iter()
                .map(Option::is_some)
                .collect::<Vec<_>>(),
            [true, false, false, true]
        );
        assert!(recognise(folder.path()) && !recognise(&folder.path().join("car/car-1")));
    }

    #[test]
    fn a_split_lists_the_clips_and_frames_can_be_thinned() {
        let list = ("testing_set.txt", "car-1\n");
        let mut files = CLIP.to_vec();
        files.extend([
            list,
            ("dog-2/groundtruth.txt", "1,1,9,9\n"),
            ("dog-2/img/00000001.jpg", ""),
        ]);
        let all = read_files(&files, &ReadConfig::default()).unwrap();
        assert_eq!(
            all.iter().map(|s| &*s.name).collect::<Vec<_>>(),
            ["car-1", "dog-2"]
        );
        assert_eq!(&*all[1].frames[0].annotations[0].class, "animal");
        let some = ReadConfig {
            list: Some("testing_set.txt".into()),
            keep_every: 3,
            ..ReadConfig::default()
        };
        let listed = read_files(&files, &some).unwrap();
        assert_eq!(listed.len(), 1);
        assert_eq!(
            listed[0]
                .frames
                .iter()
                .map(|f| f.number)
                .collect::<Vec<_>>(),
            [1, 4]
        );
    }

    #[test]
    fn malformed_files_are_named_by_line() {
        let with = |path: &str, text: &str| {
            let mut files = CLIP.to_vec();
            let name = files.iter_mut().find(|(name, _)| *name == path).unwrap();
            let text: &'static str = Box::leak(text.to_owned().into_boxed_str());
            name.1 = text;
            read_files(&files, &ReadConfig::default()).unwrap_err()
        };
        for (path, text, words) in [
            (
                "car/car-1/groundtruth.txt",
                "1,2,3,4\n1,2,x,4\n",
                "groundtruth.txt:2: w is \"x\"",
            ),
            (
                "car/car-1/groundtruth.txt",
                "1,2,3,4\n1,2,3,4\n1,2\n",
                "groundtruth.txt:3: 2 fields",
            ),
            (
                "car/car-1/full_occlusion.txt",
                "0,1,0",
                "full_occlusion.txt:1: 3 entries, groundtruth.txt has 4",
            ),
            (
                "car/car-1/out_of_view.txt",
                "0,0\n0,2\n",
                "out_of_view.txt:2: out_of_view is \"2\"",
            ),
            (
                "car/car-1/groundtruth.txt",
                "1,2,3,4\n1,2,3,4\n1,2,3,4\n1,2,3,4\n1,2,3,4\n",
                "entries, groundtruth.txt has 5",
            ),
        ] {
            let error = with(path, text);
            assert!(error.contains(words), "{words}: {error}");
        }
    }

    #[test]
    fn truth_without_its_image_and_images_without_truth_are_told() {
        let mut files = CLIP.to_vec();
        files.retain(|(name, _)| !name.ends_with("00000002.jpg"));
        let error = read_files(&files, &ReadConfig::default()).unwrap_err();
        assert!(
            error.contains("groundtruth.txt:2: no image for sequence \"car-1\" frame 2"),
            "{error}"
        );
        let mut files = CLIP.to_vec();
        files.push(("car/car-1/img/00000005.jpg", ""));
        assert_eq!(
            read_files(&files, &ReadConfig::default()).unwrap()[0]
                .frames
                .len(),
            4
        );
        let error = load_runs(write_files(&files).path())
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("groundtruth.txt:4: 4 entries, the folder of images has 5"),
            "{error}"
        );
    }

    #[test]
    fn a_listed_clip_that_is_missing_and_an_empty_folder_are_told() {
        let mut files = CLIP.to_vec();
        files.push(("split.txt", "car-1\ncar-9\n"));
        let read = ReadConfig {
            list: Some("split.txt".into()),
            ..ReadConfig::default()
        };
        let error = read_files(&files, &read).unwrap_err();
        assert!(
            error.contains("split.txt:2: no clip of this name"),
            "{error}"
        );
        let error = read_files(&[("a/b.txt", "")], &ReadConfig::default()).unwrap_err();
        assert!(error.contains("has no LaSOT clips"), "{error}");
    }

    #[test]
    fn a_pack_of_this_kind_opens_and_takes_its_size_from_the_first_image() {
        let folder = write_files(CLIP);
        for number in 1..=4 {
            let path = folder.path().join(format!("car/car-1/img/{number:08}.jpg"));
            image::RgbImage::new(320, 240).save(path).unwrap();
        }
        std::fs::write(
            folder.path().join("car/car-1/img/00000002.jpg"),
            "never opened",
        )
        .unwrap();
        let dataset = open(&config_of(
            folder.path(),
            PackKind::Lasot,
            ReadConfig::default(),
        ));
        let loaded = &dataset.packs()[0].sequences[0];
        assert_eq!(dataset.store().loaded_size_px(loaded.images[3]), (320, 240));
        assert!(
            dataset.store().get(loaded.images[3]).is_ok()
                && dataset.store().get(loaded.images[1]).is_err()
        );
    }
}
